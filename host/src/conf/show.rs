//! Values as a report shows them: in the words of the file, and without secrets.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::access::{Addresses, Secret};
use super::api::ApiRole;
use super::cluster::{ClusterMode, DirectoryKind};
use super::config::{AccessFormat, ForwardedHeader, Isolation, MemoryLimit, PublishConflict, ReloadMode};
use super::endpoint::Endpoint;
use super::hooks::OnFailure;
use super::redirect::Players;
use super::upstream::Upstream;
use super::values::Shown;

/// Shown in place of what is secret.
const MASK: &str = "***";

/// A type of a value in the config.
pub(super) trait Show {
    /// Returns the value as a report shows it.
    fn show(&self) -> Shown;
}

fn plain(text: impl fmt::Display) -> Shown {
    Shown { text: text.to_string(), hidden: Vec::new() }
}

fn masked(bytes: &[u8]) -> Shown {
    let text = if bytes.is_empty() { "" } else { MASK };
    Shown { text: text.to_owned(), hidden: bytes.to_vec() }
}

/// Implements [`Show`] by `Display`, or by `Debug`.
macro_rules! shown {
    ($format:literal: $($kind:ty),*) => {
        $(impl Show for $kind {
            fn show(&self) -> Shown {
                plain(format_args!($format, self))
            }
        })*
    };
}

shown!("{}": bool, u16, u32, u64, usize, String, &str, SocketAddr, IpNet, Addresses);

/// Implements [`Show`] for enums whose variants are named as the words in the file.
macro_rules! shown_by_name {
    ($($kind:ty),*) => {
        $(impl Show for $kind {
            fn show(&self) -> Shown {
                plain(word(&format!("{self:?}")))
            }
        })*
    };
}

shown_by_name!(
    AccessFormat,
    ApiRole,
    ClusterMode,
    DirectoryKind,
    ForwardedHeader,
    Isolation,
    OnFailure,
    Players,
    PublishConflict,
    ReloadMode
);

/// Returns the word of a variant: `x-real-ip` of `XRealIp`.
fn word(name: &str) -> String {
    let mut word = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

impl Show for Duration {
    fn show(&self) -> Shown {
        // Its `Debug` has no unit that a config has for it.
        if self.is_zero() { plain("0s") } else { plain(format_args!("{self:?}")) }
    }
}

impl Show for MemoryLimit {
    fn show(&self) -> Shown {
        match self {
            MemoryLimit::Bytes(bytes) => plain(bytes),
            MemoryLimit::Percent(percent) => plain(format_args!("{percent}%")),
        }
    }
}

impl Show for Secret {
    fn show(&self) -> Shown {
        masked(self.bytes())
    }
}

/// The public key of a token's issuer, which nobody can read.
impl Show for Vec<u8> {
    fn show(&self) -> Shown {
        masked(self)
    }
}

/// The hash of a secret name.
impl Show for [u8; 32] {
    fn show(&self) -> Shown {
        masked(self)
    }
}

impl Show for Endpoint {
    fn show(&self) -> Shown {
        Shown { text: self.to_string(), hidden: self.url().as_str().into() }
    }
}

impl Show for Upstream {
    fn show(&self) -> Shown {
        Shown { text: self.to_string(), hidden: self.url("", "", "", str::to_owned).into() }
    }
}

impl<T: Show> Show for Option<T> {
    fn show(&self) -> Shown {
        self.as_ref().map_or_else(|| plain(""), Show::show)
    }
}

impl<T: Show> Show for Vec<T> {
    fn show(&self) -> Shown {
        let shown: Vec<Shown> = self.iter().map(Show::show).collect();
        let texts: Vec<_> = shown.iter().map(ToString::to_string).collect();
        let hidden: Vec<_> = shown.into_iter().map(|one| one.hidden).collect();
        Shown { text: format!("[{}]", texts.join(", ")), hidden: hidden.join(&0) }
    }
}

//! The version of the host, as SRS shows its own.

use schemars::JsonSchema;
use serde::Serialize;

/// The version of the host.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct Version {
    major: u32,
    minor: u32,
    revision: u32,
    version: &'static str,
}

impl Version {
    /// Returns the version of this host.
    pub fn of_host() -> Version {
        // Cargo checks that they are numbers.
        let number = |text: &str| text.parse().unwrap_or(0);
        Version {
            major: number(env!("CARGO_PKG_VERSION_MAJOR")),
            minor: number(env!("CARGO_PKG_VERSION_MINOR")),
            revision: number(env!("CARGO_PKG_VERSION_PATCH")),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

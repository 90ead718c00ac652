//! The configuration: read from TOML, checked as a whole, then immutable.
//!
//! [`Config`] is what the rest of the host sees: validated, with every default filled in, and without a trace of the
//! file. [`Diagnostics`] collects the errors of a file, all of them before anything listens; [`Source`] has the
//! location of each key. `schema` lists the keys of a file, `table`, `value` and `secrets` read them, `resolve` checks the
//! result as a whole, and `values` tells two configs apart. A vhost inherits from no other vhost: keys that it does not set are at
//! their defaults.
//!
//! Used by all; uses nothing.

mod access;
mod api;
mod certificate;
mod cluster;
mod config;
mod current;
mod diagnostics;
mod endpoint;
mod error;
mod file;
mod foreign;
mod hooks;
mod listener;
mod metrics;
mod pattern;
mod redirect;
mod resolve;
mod schema;
mod secrets;
mod show;
mod source;
mod table;
mod target;
mod upstream;
mod value;
mod values;

pub use access::*;
pub use api::{ApiRole, ApiUser, HttpApi};
pub use certificate::CertificateFiles;
pub use cluster::{Directory, DirectoryKind, Region, StaticNode, is_node_name};
pub use config::*;
pub use current::Current;
pub use diagnostics::{ConfigErrors, Diagnostics, Warnings};
pub use endpoint::Endpoint;
pub use file::read_file;
pub use hooks::*;
pub use listener::{ListenerConfig, ListenerKind};
pub use pattern::{DEFAULT_VHOST, Match, MountPattern};
pub use redirect::{NodeOrder, Players, Redirect, RedirectTo};
pub use source::{KeyPath, Location, Source};
pub use target::PASSED_ON;
pub use upstream::{Scheme, Upstream, is_rtmp_base};
pub use values::{Difference, DifferenceKind, Shown};

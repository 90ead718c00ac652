//! Routing: from a URL to a redirect, the mounts and the file that it names, and from a name to a vhost and stream.
//!
//! Purpose: [`Router::resolve`] is the one reader of request URLs. It runs once per request; what answers the request
//! works from its [`Resolved`] and never parses the URL again.
//!
//! Invariants: a router never changes. A reload replaces it as a whole, so that one request sees one set of vhosts.
//! Live streams keep the vhost that they were published on; new ones use the new router.
//!
//! Used by `http`, by `net` for RTMP, and by `admin`, which replaces it; uses `conf`, `policy` and the
//! names of `stream`.

mod answer;
mod balance;
mod path;
mod query;
mod resolve;

pub use answer::{Named, Redirection, Resolved, Route};
pub use balance::Newcomer;
pub use path::{INDEX, InvalidPath};
pub use query::{host_without_port, query_pairs, query_value};
pub use resolve::Router;

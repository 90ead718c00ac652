//! HTTP: live mounts as unending responses and as WebSockets on the same URLs, redirects, static files and pages.
//!
//! Purpose: answer a request from its resolved URL. The status line is sent when the outcome is known, and 200 only if
//! a byte will follow; then hyper or a WebSocket pulls from the viewer's position in the ring.
//!
//! Invariants: a URL is resolved once per request, by [`Router`](crate::router::Router). A response body shares its
//! bytes with all viewers of the mount ([`Body`]); nothing beyond one span is queued for a viewer. Formats are known by
//! extension and transport alone.
//!
//! HEAD takes the same path as GET and leaves when the first bytes are there, because only the module knows what its
//! format makes of a stream. So HEAD may start a mount, which then lives for `idle_timeout`.
//!
//! A live mount is served only to a viewer that [`policy`](crate::policy) has admitted; HEAD asks as GET does. Files, redirects
//! and pages are public.
//!
//! Used by `net` and `admin`; uses `router`, `policy`, `stream`, `module`, `budget`, `lifecycle` and `conf`.

mod access;
mod body;
mod conditional;
mod connection;
mod cors;
mod files;
mod forwarded;
mod linger;
mod live;
mod media_type;
mod page;
mod probe;
mod redirect;
mod refusal;
mod refused;
mod request;
mod responses;
mod service;
mod version;
pub mod websocket;

pub use body::{Body, Watching};
pub use conditional::{ByteRange, Condition, Validators};
pub use connection::{ConnectionContext, Stall};
pub use forwarded::Client;
#[cfg(test)]
pub(crate) use forwarded::PublicOrigin;
pub use linger::linger;
pub use page::{Page, Pages};
pub use probe::probe;
pub use refusal::Refusal;
pub use responses::Responses;
pub use service::Service;
pub use version::Version;

//! Other servers: origins that streams are pulled from, and servers that streams are sent to.
//!
//! A [`Location`] is a stream on another server, the [`Connector`] opens a connection to it, and an [`RtmpClient`] plays it or
//! publishes it there. [`Forwards`] send the streams of vhosts to their destinations, and a [`Relay`] passes publishers of an edge on
//! to its origins; the [`Outbox`] is what both send by, and [`Pushes`] has their records.
//!
//! Invariants: a connection leads only where the config allows, also after a redirect; nothing that a viewer sends becomes a scheme,
//! a host or a port; credentials for one host never reach another; no log line and no error has a query.
//!
//! Used by `net`, `admin` and `host`; uses `policy`, `stream`, `rtmp`, `media`, `budget` and `conf`.

mod backoff;
mod connector;
mod error;
mod forward;
mod location;
mod push;
mod pushes;
mod relay;
mod rtmp;
mod socket;
#[cfg_attr(not(test), expect(dead_code, reason = "the pull task is about to use it"))]
mod splice;

pub use forward::Forwards;
pub use push::Outbox;
pub use pushes::{PushFacts, PushTotals, Pushes};
pub use relay::{Relay, RelayError, RelayRequest, Relayed};

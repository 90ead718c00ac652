//! Other servers: origins that streams are pulled from, and servers that streams are sent to.
//!
//! A `Location` is a stream on another server, the `Connector` opens a connection to it, and an `RtmpClient` or `FlvClient`
//! plays it or publishes it there. An [`Edge`] pulls the streams that clients want: one task for each stream takes it from one origin
//! after the other, and publishes it into the hub, as if an encoder had sent it. [`Forwards`] send the streams of vhosts to their
//! destinations, and a [`Relay`] passes publishers of an edge on to its origins; the [`Outbox`] is what both send by.
//! [`Transfers`] has the records of pulls and pushes. The [`Directory`] knows the nodes of the cluster, and at which of them each stream is
//! published: pulls and relays ask it first, and publishers of this host are entered there.
//!
//! Invariants: a connection leads only where the config allows, also after a redirect; nothing that a viewer sends becomes a scheme,
//! a host or a port; credentials for one host never reach another; no log line and no error has a query.
//!
//! Used by `net`, `admin` and `host`; uses `policy`, `stream`, `rtmp`, `media`, `budget`, `lifecycle`, `log`, `clock` and `conf`.

mod backoff;
mod check;
mod connector;
mod directory;
mod edge;
mod error;
mod flv;
mod forward;
mod health;
mod inquiry;
mod location;
mod means;
mod origin;
mod published;
mod pull;
mod pulls;
mod push;
mod relay;
mod rtmp;
mod socket;
mod splice;
mod stall;
mod transfers;

pub use backoff::Backoff;
pub use directory::{
    Balancer, BusyElsewhere, Claim, Directory, DirectoryFacts, Listing, Lost, NodeEntry, Roster, State,
    StreamEntry,
};
#[cfg(fuzzing)]
pub use directory::{RespError, RespReader, Value};
pub use edge::Edge;
#[cfg(fuzzing)]
pub use flv::{FlvError, FlvReader};
pub use forward::Forwards;
pub use health::{Health, OriginFacts};
pub use push::Outbox;
pub use relay::{Relay, RelayError, RelayRequest, Relayed};
pub use transfers::{TransferFacts, TransferTotals, Transfers};

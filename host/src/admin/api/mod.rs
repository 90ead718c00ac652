//! The API: one table of routes ([`table`]), from which requests are dispatched, wrong methods refused, and the description at
//! `/api/v2/openapi.json` made.
//!
//! `/api/v1` has the shapes of SRS's API (`srs`) beside some pages of our own, `/api/v2` is ours alone. Peers of the control
//! socket are users who operate; over TCP the [guard](super::guard) knows who asks.
//!
//! Invariants: a GET changes nothing; whatever a page lists has a bound; pages run on blocking threads, since they take time for
//! each session and read files of the kernel.

mod dispatch;
mod events;
mod jsonp;
mod login;
mod needs;
mod openapi;
mod pages;
mod paging;
mod peer;
mod reply;
mod route;
mod srs;
mod state;
mod table;

pub(super) use dispatch::respond;
pub(super) use events::Stay;
pub(super) use paging::Page;
pub(super) use peer::Peer;
pub(super) use reply::Reply;
pub use state::Api;

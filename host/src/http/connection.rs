//! The connection of a request.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::budget::Account;
use crate::lifecycle::Lifecycle;
use crate::policy::{ConnectionId, Outcome};

/// A connection, as its requests see it.
#[derive(Clone, Debug)]
pub struct ConnectionContext {
    /// The connection's id.
    pub id: ConnectionId,
    /// The client's address. Behind a proxy that sends PROXY headers, the address from the header.
    pub peer: SocketAddr,
    /// The memory that the host keeps for the connection.
    pub account: Account,
    /// Holds the connection's slot of `limits.max_connections` and makes a stopping server wait for it.
    pub guard: Arc<dyn Any + Send + Sync>,
    /// The phase of the host. When it stops, requests no longer wait for a publisher.
    pub lifecycle: Lifecycle,
    /// Why the responses may end before their streams.
    pub stall: Arc<Stall>,
}

/// Whether a client has accepted no byte for `limits.send_timeout`: over a connection, or over one stream of an HTTP/2
/// connection. Noted before the bodies of the responses are dropped.
#[derive(Debug)]
pub struct Stall {
    limit: Duration,
    has_stalled: AtomicBool,
    /// The stall of the connection, if this one is of a stream.
    connection: Option<Arc<Stall>>,
}

impl Stall {
    /// Returns it for a connection, or for a stream of `connection`.
    pub fn new(limit: Duration, connection: Option<Arc<Stall>>) -> Arc<Stall> {
        Arc::new(Stall { limit, has_stalled: AtomicBool::new(false), connection })
    }

    /// Notes that no byte was accepted.
    pub fn note(&self) {
        self.has_stalled.store(true, Ordering::Relaxed);
    }

    /// Returns the outcome of the sessions; `None` if the client has not stalled.
    pub fn outcome(&self) -> Option<Outcome> {
        let own = self.has_stalled.load(Ordering::Relaxed).then_some(Outcome::Stalled { limit: self.limit });
        own.or_else(|| self.connection.as_ref()?.outcome())
    }
}

//! The connection of a request.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::budget::Account;
use crate::lifecycle::Lifecycle;

/// A connection, as its requests see it.
#[derive(Clone, Debug)]
pub struct ConnectionContext {
    /// The client's address. Behind a proxy that sends PROXY headers, the address from the header.
    pub peer: SocketAddr,
    /// The memory that the host keeps for the connection.
    pub account: Account,
    /// Holds the connection's slot of `limits.max_connections` and makes a stopping server wait for it. A WebSocket
    /// keeps a clone, since it outlives hyper's connection.
    pub guard: Arc<dyn Any + Send + Sync>,
    /// The phase of the host. When it stops, requests no longer wait for a publisher.
    pub lifecycle: Lifecycle,
}

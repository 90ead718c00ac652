//! The peer of a connection.

use std::net::SocketAddr;

use crate::policy::ConnectionId;

/// The peer of a connection, as every line of the log about it has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// The client's address. Behind a trusted proxy, the address from its header.
    pub address: SocketAddr,
    /// The connection's id.
    pub id: ConnectionId,
}

//! TCP connections with settings that tests need.

use std::net::{IpAddr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::wait::SOON;

/// Connects with a receive buffer of 8 KiB in the kernel, so that a client that does not read soon blocks the host. Reads
/// time out after [`SOON`].
///
/// # Panics
/// When the host does not accept.
#[must_use]
pub fn connect_narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(8192).expect("a small buffer is allowed");
    socket.set_read_timeout(Some(SOON)).expect("a valid timeout");
    socket.connect(&address.into()).expect("the host accepts");
    socket.into()
}

/// Connects from another address of this machine, such as 127.0.0.2, so that the host sees another peer.
///
/// # Panics
/// When the host does not accept.
#[must_use]
pub fn connect_from(source: impl Into<IpAddr>, address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::new(source.into(), 0).into()).expect("an address of this machine");
    socket.connect(&address.into()).expect("the host accepts");
    socket.into()
}

//! The socket of a viewer: TCP, or TLS over TCP. Never blocks.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::{SendFlags, send};
use rustls::ServerConnection;

/// A socket that does not block.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP, after the handshake.
    Tls(TcpStream, Box<ServerConnection>),
}

impl Socket {
    /// Sends the start of `bytes`, and returns how many of them were taken: fewer than all if the peer takes no more now. With
    /// `more`, other bytes follow at once.
    pub(super) fn send(&mut self, bytes: &[u8], more: bool) -> io::Result<usize> {
        match self {
            Socket::Plain(tcp) => {
                let more = if more { SendFlags::MORE } else { SendFlags::empty() };
                match send(&*tcp, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT | more) {
                    Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(0),
                    sent => Ok(sent?),
                }
            }
            Socket::Tls(tcp, tls) => {
                let mut sent = 0;
                while sent < bytes.len() && write_records(tcp, tls)? {
                    sent += tls.writer().write(&bytes[sent..])?;
                }
                if !more {
                    write_records(tcp, tls)?;
                }
                Ok(sent)
            }
        }
    }

    /// Writes what TLS has encrypted. Returns whether nothing is left.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        match self {
            Socket::Plain(_) => Ok(true),
            Socket::Tls(tcp, tls) => write_records(tcp, tls),
        }
    }

    /// Reads into `buffer`: 0 bytes if the peer has closed, an error of [`ErrorKind::WouldBlock`] if there is nothing.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(tcp) => tcp.read(buffer),
            Socket::Tls(tcp, tls) => loop {
                match tls.reader().read(buffer) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    // Without close_notify, which says no more than the end of the connection does.
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                    read => return read,
                }
                if tls.read_tls(tcp)? == 0 {
                    return Ok(0);
                }
                tls.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            },
        }
    }

    /// Tells the peer that nothing more will be sent.
    pub(super) fn finish(&mut self) {
        if let Socket::Tls(tcp, tls) = self {
            tls.send_close_notify();
            let _ = write_records(tcp, tls);
        }
        let _ = self.tcp().shutdown(Shutdown::Write);
    }

    /// The error of the connection, if it has one.
    pub(super) fn error(&self) -> Option<io::Error> {
        self.tcp().take_error().ok().flatten()
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Socket::Plain(tcp) | Socket::Tls(tcp, _) => tcp,
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp().as_fd()
    }
}

/// Writes encrypted records until none is left (true) or the peer takes no more (false).
fn write_records(tcp: &mut TcpStream, tls: &mut ServerConnection) -> io::Result<bool> {
    while tls.wants_write() {
        match tls.write_tls(tcp) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

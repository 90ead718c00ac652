//! Link: frames over a socket, from either end.

use std::io::{self, IoSlice, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use bytes::Bytes;
use thiserror::Error;

use super::wire::{Frame, LENGTH, WireError};

/// Most frames fit: they take one read.
const BUFFER: usize = 4 << 10;
/// What is allocated for a frame before its bytes are there.
const PREALLOCATED: usize = 1 << 20;

/// Why no frame came.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The other end is closed.
    #[error("closed")]
    Closed,
    /// Not in time.
    #[error("timed out")]
    TimedOut,
    /// The socket failed.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// What came is no frame.
    #[error("a {0}")]
    Wire(#[from] WireError),
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> LinkError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => LinkError::TimedOut,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
                LinkError::Closed
            }
            _ => LinkError::Io(error),
        }
    }
}

/// The receiving half of a connection.
#[derive(Debug)]
pub struct Receiver {
    socket: UnixStream,
    buffer: Box<[u8]>,
    /// Where in the buffer what was read and not taken lies.
    start: usize,
    end: usize,
}

impl Receiver {
    pub fn new(socket: UnixStream) -> Receiver {
        Receiver { socket, buffer: vec![0; BUFFER].into(), start: 0, end: 0 }
    }

    /// The next frame, `limit` bytes at most. The socket's own timeout bounds the wait for each read, `deadline` the
    /// whole, to within one such wait.
    pub fn frame(&mut self, limit: usize, deadline: Option<Instant>) -> Result<Frame, LinkError> {
        while self.end - self.start < LENGTH {
            self.fill(deadline)?;
        }
        let (length, _) =
            self.buffer[self.start..].split_first_chunk::<LENGTH>().expect("LENGTH bytes are there");
        let len = u32::from_be_bytes(*length) as usize;
        self.start += LENGTH;
        if len > limit {
            return Err(WireError::TooLong { len, limit }.into());
        }
        let there = (self.end - self.start).min(len);
        let mut frame = Vec::with_capacity(len.min(PREALLOCATED));
        frame.extend_from_slice(&self.buffer[self.start..self.start + there]);
        self.start += there;
        if there < len {
            let mut rest = Timed { socket: &self.socket, deadline }.take((len - there) as u64);
            rest.read_to_end(&mut frame)?;
            if frame.len() < len {
                return Err(LinkError::Closed);
            }
        }
        Ok(Frame::read(Bytes::from(frame))?)
    }

    fn fill(&mut self, deadline: Option<Instant>) -> Result<(), LinkError> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        match (Timed { socket: &self.socket, deadline }).read(&mut self.buffer[self.end..])? {
            0 => Err(LinkError::Closed),
            read => {
                self.end += read;
                Ok(())
            }
        }
    }
}

/// Reads up to a deadline, to within one timeout of the socket.
struct Timed<'a> {
    socket: &'a UnixStream,
    deadline: Option<Instant>,
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match (&mut &*self.socket).read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

/// Sends the bytes of both, one after the other. Time is bounded as in [`Receiver::frame`].
pub fn send(
    mut socket: &UnixStream,
    head: &[u8],
    tail: &[u8],
    deadline: Option<Instant>,
) -> Result<(), LinkError> {
    let mut parts = [IoSlice::new(head), IoSlice::new(tail)];
    let mut parts = &mut parts[..];
    while !parts.is_empty() {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(LinkError::TimedOut);
        }
        match socket.write_vectored(parts) {
            Ok(0) if parts.iter().any(|part| !part.is_empty()) => return Err(LinkError::Closed),
            Ok(sent) => IoSlice::advance_slices(&mut parts, sent),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

//! Link: frames over a socket, for both ends.

use std::io::{self, IoSlice, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use bytes::Bytes;
use thiserror::Error;

use super::error::WireError;
use super::frame::{Frame, LENGTH};

/// Size of the read buffer in bytes: most frames fit and take one read.
const BUFFER: usize = 4 << 10;
/// Bytes that are allocated for a frame before they arrive.
const STRIDE: usize = 1 << 20;

/// Why no frame was sent or received.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The other end is closed.
    #[error("closed")]
    Closed,
    /// The deadline has passed.
    #[error("timed out")]
    TimedOut,
    /// The socket failed.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// The received bytes are not a frame.
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

/// A bound of the time in which a frame is sent or received.
pub trait Patience {
    /// Whether the time is over. Asked before each read and write, and after each timeout of the socket.
    fn is_over(&mut self) -> bool;
}

/// A deadline, or no bound.
impl Patience for Option<Instant> {
    fn is_over(&mut self) -> bool {
        self.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// The receiving half of a connection.
#[derive(Debug)]
pub struct Receiver {
    socket: UnixStream,
    buffer: Box<[u8]>,
    /// The range of the buffer that was read and not consumed.
    start: usize,
    end: usize,
}

impl Receiver {
    pub fn new(socket: UnixStream) -> Receiver {
        Receiver { socket, buffer: vec![0; BUFFER].into(), start: 0, end: 0 }
    }

    /// Whether no byte of the next frame was read together with the last frame.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Receives the next frame, `limit` bytes at most, while `patience` lasts, to within one timeout of the socket.
    pub fn frame(&mut self, limit: usize, patience: &mut impl Patience) -> Result<Frame, LinkError> {
        while self.end - self.start < LENGTH {
            self.fill(patience)?;
        }
        let (length, _) =
            self.buffer[self.start..].split_first_chunk::<LENGTH>().expect("LENGTH bytes are there");
        let len = u32::from_be_bytes(*length) as usize;
        self.start += LENGTH;
        if len > limit {
            return Err(WireError::TooLong { len, limit }.into());
        }
        let there = (self.end - self.start).min(len);
        let mut frame = Vec::with_capacity(len.min(STRIDE));
        frame.extend_from_slice(&self.buffer[self.start..self.start + there]);
        self.start += there;
        let mut rest = Timed { socket: &self.socket, patience };
        while frame.len() < len {
            let start = frame.len();
            frame.resize(len.min(start + STRIDE), 0);
            rest.read_exact(&mut frame[start..])?;
        }
        Ok(Frame::read(Bytes::from(frame))?)
    }

    fn fill(&mut self, patience: &mut impl Patience) -> Result<(), LinkError> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        match (Timed { socket: &self.socket, patience }).read(&mut self.buffer[self.end..])? {
            0 => Err(LinkError::Closed),
            read => {
                self.end += read;
                Ok(())
            }
        }
    }
}

/// Reads while a patience lasts.
struct Timed<'a, P> {
    socket: &'a UnixStream,
    patience: &'a mut P,
}

impl<P: Patience> Read for Timed<'_, P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.patience.is_over() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match (&mut &*self.socket).read(buffer) {
                Err(error) if is_pause(&error) => {}
                result => return result,
            }
        }
    }
}

/// Whether a read or write may be repeated: a signal came, or the socket's timeout has passed.
fn is_pause(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

/// Sends `head`, then `tail`. Time is bounded as in [`Receiver::frame`].
pub fn send(
    mut socket: &UnixStream,
    head: &[u8],
    tail: &[u8],
    patience: &mut impl Patience,
) -> Result<(), LinkError> {
    let mut parts = [IoSlice::new(head), IoSlice::new(tail)];
    let mut parts = &mut parts[..];
    while !parts.is_empty() {
        if patience.is_over() {
            return Err(LinkError::TimedOut);
        }
        match socket.write_vectored(parts) {
            Ok(0) if parts.iter().any(|part| !part.is_empty()) => return Err(LinkError::Closed),
            Ok(sent) => IoSlice::advance_slices(&mut parts, sent),
            Err(error) if is_pause(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn pair() -> (UnixStream, Receiver) {
        let (near, far) = UnixStream::pair().unwrap();
        far.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        (near, Receiver::new(far))
    }

    fn frame(kind: u8, len: usize) -> Vec<u8> {
        let mut frame = (len as u32 + 1).to_be_bytes().to_vec();
        frame.push(kind);
        frame.resize(LENGTH + 1 + len, kind);
        frame
    }

    #[test]
    fn receives_whole_frames_however_they_are_cut() {
        let lengths = [0, 1, 7, BUFFER - 5, BUFFER - 4, BUFFER, 100_000, 2, 3 << 20];
        let bytes: Vec<u8> = lengths.iter().zip(1..).flat_map(|(&len, kind)| frame(kind, len)).collect();
        for piece in [1009, 65_536, usize::MAX] {
            let (near, mut receiver) = pair();
            receiver.socket.set_read_timeout(None).unwrap();
            thread::scope(|scope| {
                scope.spawn(|| {
                    bytes.chunks(piece).for_each(|piece| send(&near, piece, &[], &mut None).unwrap());
                });
                for (&len, kind) in lengths.iter().zip(1..) {
                    let frame = receiver.frame(4 << 20, &mut None).unwrap();
                    assert_eq!((frame.kind, frame.body.len()), (kind, len));
                    assert!(frame.body.iter().all(|&byte| byte == kind));
                }
            });
        }
    }

    #[test]
    fn receives_frames_byte_by_byte() {
        let (near, mut receiver) = pair();
        let bytes = [frame(1, 3), frame(2, 0), frame(3, 1)].concat();
        bytes.iter().for_each(|&byte| send(&near, &[byte], &[], &mut None).unwrap());
        for (kind, len) in [(1, 3), (2, 0), (3, 1)] {
            let frame = receiver.frame(100, &mut None).unwrap();
            assert_eq!((frame.kind, frame.body.len()), (kind, len));
        }
    }

    #[test]
    fn reports_why_no_frame_came() {
        let (near, mut receiver) = pair();
        let mut now = Some(Instant::now());
        assert!(matches!(receiver.frame(9, &mut now), Err(LinkError::TimedOut)));
        send(&near, &[0, 0, 0, 10], &[], &mut None).unwrap();
        let error = receiver.frame(9, &mut None);
        assert!(matches!(error, Err(LinkError::Wire(WireError::TooLong { len: 10, limit: 9 }))), "{error:?}");
        let (near, mut receiver) = pair();
        send(&near, &frame(1, 30)[..20], &[], &mut None).unwrap();
        drop(near);
        assert!(matches!(receiver.frame(100, &mut None), Err(LinkError::Closed)));
        assert!(matches!(receiver.frame(100, &mut None), Err(LinkError::Closed)));
    }

    #[test]
    fn a_deadline_ends_a_trickle_both_ways() {
        let (near, mut receiver) = pair();
        receiver.socket.set_read_timeout(Some(Duration::from_secs(9))).unwrap();
        let mut deadline = Some(Instant::now() + Duration::from_millis(50));
        let trickle = thread::spawn(move || {
            let frame = frame(1, 1 << 20);
            while send(&near, &frame[..6], &[], &mut None).is_ok() {
                thread::sleep(Duration::from_millis(5));
            }
        });
        assert!(matches!(receiver.frame(usize::MAX, &mut deadline), Err(LinkError::TimedOut)));
        drop(receiver);
        trickle.join().unwrap();

        let (near, mut receiver) = pair();
        near.set_write_timeout(Some(Duration::from_millis(5))).unwrap();
        let deadline = Instant::now() + Duration::from_millis(50);
        let sender = thread::spawn(move || send(&near, &vec![0; 64 << 20], &[], &mut Some(deadline)));
        // Reads some of it, too slowly.
        while !sender.is_finished() {
            let _ = (&mut &receiver.socket).read(&mut receiver.buffer);
            thread::sleep(Duration::from_millis(4));
        }
        assert!(matches!(sender.join().unwrap(), Err(LinkError::TimedOut)));
    }
}

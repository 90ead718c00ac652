//! Sockets that are read at beats instead of at each packet: those of publishers, unless their viewers want each tag at once.
//!
//! An encoder sends some seventy packets a second, and each would cost a wake-up of a thread. So the socket of such a publisher leaves
//! the runtime's set of sockets, and is read at each [`Beat`] until it is empty. The beats of many sockets are the same instants, so that a
//! thread wakes up once for all of them. A socket that stays empty is left to the runtime, so that a silent client costs nothing.

use std::io::{self, IoSlice, Write};
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::opening::{OpenError, Plain, Transport};
use crate::clock::Beat;

/// Number of beats after which an empty socket is left to the runtime, until it is on the beat again.
const MAX_EMPTY: u32 = 5;

/// A socket that may be read at beats.
#[derive(Debug)]
pub(super) struct BeatSocket(State);

#[derive(Debug)]
enum State {
    /// The runtime reports each packet.
    Prompt(TcpStream),
    /// The runtime does not know the socket.
    OnBeat {
        socket: std::net::TcpStream,
        beat: Beat,
        read: Pause,
        write: Pause,
        /// Number of reads in a row that found nothing.
        empty: u32,
    },
    /// The runtime did not take the socket back.
    Lost,
}

impl BeatSocket {
    /// Reads the socket now and then at these beats, or at each packet again.
    ///
    /// # Errors
    /// The runtime cannot release or take the socket, which is closed then.
    pub(super) fn set_beat(&mut self, beat: Option<Beat>) -> io::Result<()> {
        let before = if let State::OnBeat { beat, .. } = self.0 { Some(beat) } else { None };
        if beat == before {
            return Ok(());
        }
        let socket = match std::mem::replace(&mut self.0, State::Lost) {
            State::Prompt(socket) => socket.into_std()?,
            State::OnBeat { socket, .. } => socket,
            State::Lost => return Err(lost()),
        };
        self.0 = match beat {
            Some(beat) => State::OnBeat { socket, beat, read: Pause::new(), write: Pause::new(), empty: 0 },
            None => State::Prompt(TcpStream::from_std(socket)?),
        };
        Ok(())
    }

    /// Reads into the room of `buffer`, at most `most` bytes at each packet. Returns their number: 0 at the end.
    pub(super) fn poll_receive(
        &mut self,
        buffer: &mut Vec<u8>,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let State::OnBeat { socket, beat, read, empty, .. } = &mut self.0 {
            while *empty < MAX_EMPTY {
                ready!(read.0.as_mut().poll(cx));
                let room = buffer.capacity() - buffer.len();
                match recv(&*socket, spare_capacity(buffer), RecvFlags::empty()) {
                    Ok((_, count)) => {
                        *empty = 0;
                        if count < room {
                            read.begin(*beat);
                        }
                        return Poll::Ready(Ok(count));
                    }
                    Err(Errno::AGAIN) => {
                        *empty += 1;
                        read.begin(*beat);
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return Poll::Ready(Err(error.into())),
                }
            }
            self.set_beat(None)?;
        }
        match &mut self.0 {
            State::Prompt(socket) => pin!(socket.read_buf(&mut buffer.limit(most))).poll(cx),
            State::OnBeat { .. } | State::Lost => Poll::Ready(Err(lost())),
        }
    }

    /// Leaves the runtime.
    pub(super) fn into_std(self) -> io::Result<std::net::TcpStream> {
        match self.0 {
            State::Prompt(socket) => socket.into_std(),
            State::OnBeat { socket, .. } => Ok(socket),
            State::Lost => Err(lost()),
        }
    }

    /// Comes back to the runtime, which reports each packet.
    pub(super) fn from_std(socket: std::net::TcpStream) -> io::Result<BeatSocket> {
        Ok(BeatSocket(State::Prompt(TcpStream::from_std(socket)?)))
    }
}

fn lost() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

/// A wait for a beat. As each poll of it counts in the runtime's budget of the task, a publisher who sends without end leaves time to
/// others.
#[derive(Debug)]
struct Pause(Pin<Box<Sleep>>);

impl Pause {
    /// A wait that is over.
    fn new() -> Pause {
        Pause(Box::pin(sleep_until(Instant::now())))
    }

    /// Begins to wait for the next beat.
    fn begin(&mut self, beat: Beat) {
        self.0.as_mut().reset(beat.next(Instant::now()));
    }

    /// Writes at a beat; again at the next one while the socket takes nothing.
    fn poll_write(
        &mut self,
        beat: Beat,
        cx: &mut Context<'_>,
        mut write: impl FnMut() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.as_mut().poll(cx));
            match write() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.begin(beat),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

/// Plain TCP for connections that may publish.
#[derive(Clone, Debug)]
pub(super) struct PlainOnBeat;

impl Transport for PlainOnBeat {
    type Socket = BeatSocket;

    const MEMORY: usize = Plain::MEMORY;

    async fn open(&self, socket: TcpStream) -> Result<BeatSocket, OpenError> {
        Ok(BeatSocket(State::Prompt(socket)))
    }
}

impl AsyncWrite for BeatSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            State::Prompt(socket) => Pin::new(socket).poll_write(cx, bytes),
            State::OnBeat { socket, beat, write, .. } => write.poll_write(*beat, cx, || socket.write(bytes)),
            State::Lost => Poll::Ready(Err(lost())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            State::Prompt(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            State::OnBeat { socket, beat, write, .. } => {
                write.poll_write(*beat, cx, || socket.write_vectored(slices))
            }
            State::Lost => Poll::Ready(Err(lost())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            State::Prompt(socket) => Pin::new(socket).poll_shutdown(cx),
            State::OnBeat { socket, .. } => Poll::Ready(socket.shutdown(Shutdown::Write)),
            State::Lost => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::stream::Phase;

    const READ: usize = 16 * 1024;

    fn beat() -> Beat {
        Beat::unread(Phase::new(3))
    }

    /// Reads into `buffer`, which has room. Returns the number of bytes.
    async fn receive(socket: &mut BeatSocket, buffer: &mut Vec<u8>) -> usize {
        poll_fn(|cx| socket.poll_receive(buffer, READ, cx)).await.unwrap()
    }

    /// Runs a test with a socket on the beat and its peer.
    fn with_sockets<F: Future<Output = ()>>(test: impl FnOnce(BeatSocket, TcpStream) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (socket, _) = listener.accept().await.unwrap();
            let mut socket = BeatSocket(State::Prompt(socket));
            socket.set_beat(Some(beat())).unwrap();
            test(socket, peer).await;
        });
    }

    #[test]
    fn a_socket_that_was_emptied_is_read_at_the_next_beat() {
        with_sockets(|mut socket, mut peer| async move {
            let mut earliest = Instant::now();
            for byte in 0..20 {
                peer.write_all(&[byte]).await.unwrap();
                let before = Instant::now();
                // Room for more than there is, so that the socket is known to be empty.
                let mut received = Vec::with_capacity(2);
                assert_eq!((receive(&mut socket, &mut received).await, received[0]), (1, byte));
                assert!(Instant::now() >= earliest);
                earliest = beat().next(before);
            }
        });
    }

    #[test]
    fn all_bytes_come_in_order_while_the_beat_begins_and_ends() {
        const COUNT: usize = 40 * READ;
        with_sockets(|mut socket, mut peer| async move {
            let sent: Vec<u8> = (0..COUNT).map(|index| (index / 7) as u8).collect();
            let expected = sent.clone();
            let sending = tokio::spawn(async move {
                peer.write_all(&sent).await.unwrap();
                peer.shutdown().await.unwrap();
            });
            let mut received = Vec::with_capacity(COUNT + 1);
            let mut on = true;
            while receive(&mut socket, &mut received).await > 0 {
                on = !on;
                socket.set_beat(on.then(beat)).unwrap();
            }
            sending.await.unwrap();
            assert!(received == expected);
        });
    }

    #[test]
    fn a_peer_that_reads_late_gets_all_that_is_written() {
        const COUNT: usize = 16 << 20;
        with_sockets(|mut socket, mut peer| async move {
            let writing = tokio::spawn(async move {
                socket.write_all(&vec![7; COUNT]).await.unwrap();
                socket.shutdown().await.unwrap();
                socket
            });
            // More than the kernel takes.
            tokio::time::sleep_until(beat().next(Instant::now())).await;
            let mut received = Vec::new();
            peer.read_to_end(&mut received).await.unwrap();
            assert_eq!(received.len(), COUNT);
            drop(writing.await.unwrap());
        });
    }

    #[test]
    fn a_silent_socket_is_left_to_the_runtime_until_it_is_on_the_beat_again() {
        with_sockets(|mut socket, mut peer| async move {
            let left = |socket: &mut BeatSocket, cx: &mut Context<'_>| {
                assert!(socket.poll_receive(&mut Vec::with_capacity(1), READ, cx).is_pending());
                if matches!(socket.0, State::Prompt(_)) { Poll::Ready(()) } else { Poll::Pending }
            };
            poll_fn(|cx| left(&mut socket, cx)).await;
            peer.write_all(&[7]).await.unwrap();
            let mut received = Vec::with_capacity(2);
            assert_eq!((receive(&mut socket, &mut received).await, received[0]), (1, 7));
            socket.set_beat(Some(beat())).unwrap();
            peer.write_all(&[8]).await.unwrap();
            assert_eq!((receive(&mut socket, &mut received).await, received[1]), (1, 8));
            assert!(matches!(socket.0, State::OnBeat { .. }));
        });
    }
}

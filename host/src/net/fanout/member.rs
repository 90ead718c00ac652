//! A viewer as its fan-out thread has it.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::batch::{Batch, Framing};
use super::inbox::CountedHere;
use super::position::{Part, Position};
use super::session::{Arrival, Farewell, HandedBack, Left, Reason};
use super::socket::Socket;
use crate::budget::{Account, OverBudget};
use crate::http::websocket::frames::ClientFrames;
use crate::net::receive_rate::ReceiveRate;
use crate::policy::Session;
use crate::stream::CountedViewer;

/// A viewer, from the head of its response until its connection is closed or handed back.
pub(super) struct Member {
    pub(super) id: u64,
    pub(super) socket: Socket,
    pub(super) group: usize,
    pub(super) place: Place,
    unsent: Option<Unsent>,
    pub(super) session: Arc<Session>,
    /// Number of times that it moved to a newer keyframe.
    skips: u64,
    pub(super) web_socket: Option<Box<WebSocket>>,
    pub(super) rate: Option<Arc<ReceiveRate>>,
    /// Bytes sent since the last read.
    sent: usize,
    /// Bytes have come that were not read yet.
    pub(super) is_readable: bool,
    pub(super) keep_alive: bool,
    /// Whether it is a player of RTMP, which its owner continues to serve as soon as it sends something.
    pub(super) is_player: bool,
    /// How the response ends once nothing is unsent.
    pub(super) end: Option<(Reason, Farewell)>,
    /// The owner, who waits for the end of the response, and the counts of the viewer until then.
    live: Option<(oneshot::Sender<Left>, CountedHere, Option<CountedViewer>)>,
    closed: Option<oneshot::Sender<HandedBack>>,
}

/// Where a viewer is in its stream.
pub(super) enum Place {
    /// With its group; its index in the group's list.
    Level(usize),
    /// At a position of its own; its index in the group's list.
    Behind { index: usize, position: Box<Position>, first: Option<Part> },
    /// The response has ended, and its end is being sent.
    Ending,
    /// The close frame of a WebSocket is awaited.
    Closing { deadline: Instant },
    /// The connection is shut down for writing, and what still comes is dropped.
    Lingering { deadline: Instant },
}

/// The state of a WebSocket.
#[derive(Debug, Default)]
pub(super) struct WebSocket {
    pub(super) frames: ClientFrames,
    /// Number of pings since anything came.
    pub(super) unanswered: u32,
    /// A control frame to send between two messages.
    control: Option<Vec<u8>>,
    /// Whether the close frame of the client is still awaited.
    pub(super) awaits_close: bool,
}

/// The rest of a batch.
struct Unsent {
    batch: Arc<Batch>,
    at: usize,
}

/// The result of sending.
pub(super) enum Sent {
    All,
    /// The client takes no more now.
    Part,
    Failed(Reason),
}

impl Member {
    /// Creates the viewer of `arrival`, with the head of its response unsent.
    pub(super) fn new(
        id: u64,
        arrival: Arrival,
        (leaves, counted_here): (oneshot::Sender<Left>, CountedHere),
        group: usize,
        index: usize,
    ) -> Member {
        let Arrival { socket, head, first, position, counted, framing, session, rate, keep_alive } = arrival;
        let skips = position.skipped();
        Member {
            id,
            socket,
            group,
            place: Place::Behind { index, position: Box::new(position), first },
            unsent: (!head.is_empty()).then(|| Unsent { batch: Arc::new(Batch::of_bytes(head)), at: 0 }),
            session,
            skips,
            web_socket: (framing == Framing::WebSocket).then(Box::default),
            rate,
            sent: 0,
            is_readable: false,
            keep_alive,
            is_player: matches!(framing, Framing::Rtmp(_)),
            end: None,
            live: Some((leaves, counted_here, counted)),
            closed: None,
        }
    }

    /// Whether the response has not ended.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.place, Place::Level(_) | Place::Behind { .. })
    }

    /// Whether the thread must know of what the client sends. Over plain HTTP it stays in the kernel: it belongs to the next request.
    pub(super) fn is_heard(&self) -> bool {
        self.is_player || self.web_socket.is_some() || matches!(self.socket, Socket::Tls(..))
    }

    /// Whether something waits to be sent.
    pub(super) fn has_unsent(&self) -> bool {
        self.unsent.is_some()
    }

    /// Counts a span that it is sent, and the skips before it.
    pub(super) fn count(&mut self, bytes: usize, skips: u64, lag: i64) {
        self.skips += skips;
        self.session.add_bytes(bytes);
        self.session.set_progress(self.skips, lag);
    }

    /// Sends a batch. Nothing may be unsent. Keeps what the client does not take now, in the memory of `account`.
    pub(super) fn send(&mut self, batch: &Arc<Batch>, account: &Account) -> Sent {
        debug_assert!(self.unsent.is_none());
        match self.try_send(batch.bytes(), false) {
            Ok((count, true)) if count == batch.bytes().len() => Sent::All,
            Ok((at, _)) => {
                self.unsent = Some(Unsent { batch: batch.clone(), at });
                self.keep(account)
            }
            Err(error) => Sent::Failed(error.into()),
        }
    }

    /// Makes `batch` what is sent next. Nothing may be unsent.
    pub(super) fn queue(&mut self, batch: Arc<Batch>) {
        debug_assert!(self.unsent.is_none());
        self.unsent = Some(Unsent { batch, at: 0 });
    }

    /// Sends what is unsent, then a control frame.
    pub(super) fn flush(&mut self, account: &Account) -> Sent {
        let more = matches!(&self.place, Place::Behind { first: Some(_), .. });
        loop {
            let Some(Unsent { batch, at }) = self.unsent.take() else {
                match self.web_socket.as_mut().and_then(|web_socket| web_socket.control.take()) {
                    Some(control) => self.queue(Arc::new(Batch::of_bytes(control))),
                    None => return Sent::All,
                }
                continue;
            };
            match self.try_send(&batch.bytes()[at..], more) {
                Ok((count, true)) if at + count == batch.bytes().len() => {}
                Ok((count, _)) => {
                    self.unsent = Some(Unsent { batch, at: at + count });
                    return self.keep(account);
                }
                Err(error) => return Sent::Failed(error.into()),
            }
        }
    }

    /// Sends a control frame as soon as no message is unsent.
    pub(super) fn queue_control(&mut self, frame: Vec<u8>) {
        if let Some(web_socket) = &mut self.web_socket {
            web_socket.control = Some(frame);
        }
    }

    /// Ends the response for its owner. Does nothing if it has ended.
    pub(super) fn leave(&mut self, reason: Reason) {
        if let Some((leaves, counted_here, counted)) = self.live.take() {
            let (closed, receiver) = oneshot::channel();
            self.closed = Some(closed);
            drop((counted_here, counted));
            // The owner may be gone when the host stops.
            let _ = leaves.send(Left { reason, closed: receiver });
        }
    }

    /// Returns the socket to its owner, who continues at `position`.
    pub(super) fn hand_back(self, position: Option<Position>) {
        if let (Socket::Plain(socket), Some(closed)) = (self.socket, self.closed) {
            let _ = closed.send(HandedBack { socket, position, skips: self.skips });
        }
    }

    /// Takes the number of bytes sent since the last call.
    pub(super) fn take_sent(&mut self) -> usize {
        std::mem::take(&mut self.sent)
    }

    /// Sends bytes. Returns how many were taken, and whether none of them wait inside TLS.
    fn try_send(&mut self, bytes: &[u8], more: bool) -> io::Result<(usize, bool)> {
        let count = self.socket.send(bytes, more)?;
        self.sent = self.sent.saturating_add(count);
        Ok((count, more || self.socket.flush()?))
    }

    /// Charges what is unsent.
    fn keep(&self, account: &Account) -> Sent {
        let kept: Result<(), OverBudget> =
            self.unsent.as_ref().map_or(Ok(()), |unsent| unsent.batch.keep(account));
        match kept {
            Ok(()) => Sent::Part,
            Err(over) => Sent::Failed(over.into()),
        }
    }
}

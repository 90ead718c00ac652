//! The beginning and the end of a viewer's time on a fan-out thread.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::batch::Framing;
use super::position::{Part, Position};
use super::socket::Socket;
use crate::budget::OverBudget;
use crate::http::websocket::frames::{CloseCode, Violation};
use crate::net::receive_rate::ReceiveRate;
use crate::policy::Session;
use crate::stream::CountedViewer;

/// A viewer whose response begins.
#[derive(Debug)]
pub(in crate::net) struct Arrival {
    pub(in crate::net) socket: Socket,
    /// The head of the response.
    pub(in crate::net) head: Vec<u8>,
    /// The part of the viewer's media that is read already.
    pub(in crate::net) first: Option<Part>,
    pub(in crate::net) position: Position,
    /// Counts the viewer in its mount; `None` for a player.
    pub(in crate::net) counted: Option<CountedViewer>,
    pub(in crate::net) framing: Framing,
    pub(in crate::net) session: Arc<Session>,
    /// The limit of what the client may send.
    pub(in crate::net) rate: Option<Arc<ReceiveRate>>,
    /// Whether the connection may serve another request.
    pub(in crate::net) keep_alive: bool,
}

/// The content of the close frame of a WebSocket.
#[derive(Clone, Copy, Debug)]
pub(in crate::net) struct Farewell {
    pub(in crate::net) code: Option<CloseCode>,
    pub(in crate::net) text: &'static str,
}

/// The end of a response.
#[derive(Debug)]
pub(in crate::net) struct Left {
    pub(in crate::net) reason: Reason,
    /// Resolves when the connection is closed, or with what continues.
    pub(in crate::net) closed: oneshot::Receiver<HandedBack>,
}

/// A connection that continues elsewhere.
#[derive(Debug)]
pub(in crate::net) struct HandedBack {
    pub(in crate::net) socket: TcpStream,
    /// Where a player is in its stream; `None` after a response.
    pub(in crate::net) position: Option<Position>,
    /// Number of times that it moved to a newer keyframe so far.
    pub(in crate::net) skips: u64,
}

/// The reason why a response has ended.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    #[error("the stream ended")]
    StreamEnded,
    #[error("it was ended")]
    Ordered,
    #[error("the client left")]
    ClientLeft,
    #[error("the player has sent something")]
    Input,
    #[error("no answer to pings")]
    NoAnswer,
    #[error("{0}")]
    Violation(#[from] Violation),
    #[error("{0}")]
    OverBudget(#[from] OverBudget),
    #[error("{0}")]
    Io(#[from] io::Error),
}

//! The beginning and the end of a viewer's time on a fan-out thread.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::batch::Framing;
use super::socket::Socket;
use crate::budget::OverBudget;
use crate::http::websocket::frames::{CloseCode, Violation};
use crate::net::receive_rate::ReceiveRate;
use crate::policy::Session;
use crate::stream::{Span, Viewer};

/// A viewer whose response begins.
#[derive(Debug)]
pub(in crate::net) struct Arrival {
    pub(in crate::net) socket: Socket,
    /// The head of the response.
    pub(in crate::net) head: Vec<u8>,
    /// The first span of the viewer.
    pub(in crate::net) first: Arc<Span>,
    pub(in crate::net) viewer: Viewer,
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
    /// Resolves when the connection is closed, or with the socket if it may serve another request.
    pub(in crate::net) closed: oneshot::Receiver<TcpStream>,
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
    #[error("no answer to pings")]
    NoAnswer,
    #[error("{0}")]
    Violation(#[from] Violation),
    #[error("{0}")]
    OverBudget(#[from] OverBudget),
    #[error("{0}")]
    Io(#[from] io::Error),
}

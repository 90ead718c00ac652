//! RTMP connections: one task drives one session, its publishers and its players.
//!
//! The socket is read into the session's buffer, and tags that arrive in one chunk share it without a copy. A player
//! reads from its stream's ring only while little waits to be written, so its backlog stays in the ring.

mod play;
mod publish;

use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::info;

use crate::rtmp::chunk::ChunkLimits;
use crate::rtmp::handshake::Random;
use crate::rtmp::server::{Event, PlayEnd, ServerSession, ServerSettings};
use crate::rtmp::{Buffers, MAX_UNREAD_REPLIES, SessionError};

use super::opening::Opened;
use super::server::Server;
use play::{Ended, Players};
use publish::Publishers;

/// How long a closing connection may take to read its last bytes.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes read at once: from a client that publishes, and from any other.
const READ_PUBLISHER: usize = 64 * 1024;
const READ_OTHER: usize = 4 * 1024;

/// Tags are read for players only while less than this waits to be written, in bytes.
const MAX_UNSENT: usize = 64 * 1024;

/// Time that a client may stay connected after it stopped publishing or playing (SRS).
const IDLE: Duration = Duration::from_secs(180);

/// Limit of chunk streams of one client.
const MAX_CHUNK_STREAMS: usize = 256;

/// The reason why a connection closes.
#[derive(Debug, thiserror::Error)]
enum Close {
    #[error("the peer closed it")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Session(#[from] SessionError),
    #[error("neither published nor played in time")]
    Idle,
    #[error("no media in time")]
    NoMedia,
    #[error("it takes no answers: {unsent} bytes wait")]
    NoReader { unsent: usize },
    #[error("the session is over")]
    Over,
    #[error("the server stops")]
    Stopping,
}

/// Serves one connection until it closes. The client must publish or play before the deadline.
pub(super) async fn serve(server: Arc<Server>, opened: Opened<impl AsyncRead + AsyncWrite + Unpin>) {
    let Opened { mut socket, peer, deadline, slot: _slot } = opened;
    let limits = &server.config.limits;
    let seed = RandomState::new().hash_one(peer);
    let (epoch, random) = (server.now().0 as u32, Random::from_seed(seed));
    let settings = ServerSettings {
        chunk_size: server.config.rtmp.chunk_size,
        window_ack_size: server.config.rtmp.window_ack_size,
        limits: ChunkLimits {
            max_message: limits.max_message,
            max_buffered: limits.max_buffered,
            max_chunk_streams: MAX_CHUNK_STREAMS,
        },
    };
    let mut connection = Connection {
        peer,
        session: ServerSession::new(settings, epoch, random),
        publishers: Publishers::new(server.clone()),
        players: Players::new(server.clone()),
        deadline,
        unflushed: false,
        server,
    };
    let close = connection.run(&mut socket).await;
    let output = &mut connection.session.buffers().output;
    if !matches!(close, Close::Closed | Close::Io(_) | Close::NoReader { .. }) {
        let last = async {
            socket.write_all_buf(output).await?;
            socket.shutdown().await
        };
        let _ = timeout(LINGER, last).await;
    }
    info!(%peer, reason = %close, "rtmp connection closed");
}

struct Connection {
    server: Arc<Server>,
    peer: SocketAddr,
    session: ServerSession,
    publishers: Publishers,
    players: Players,
    /// Deadline of a client that neither publishes nor plays.
    deadline: Instant,
    /// Whether written bytes may still be in the TLS layer.
    unflushed: bool,
}

impl Connection {
    async fn run(&mut self, socket: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Close {
        loop {
            match self.step(socket).await {
                Ok(()) => {}
                Err(close) => return close,
            }
        }
    }

    /// Handles the messages that were read, then waits for one event.
    async fn step(&mut self, socket: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<(), Close> {
        while let Some(event) = self.session.poll_event()? {
            self.on_event(event);
        }
        if self.session.is_over() {
            return Err(Close::Over);
        }
        let unsent = self.session.buffers().output.len();
        if self.players.is_empty() && unsent > MAX_UNREAD_REPLIES {
            return Err(Close::NoReader { unsent });
        }
        let deadline = self.next_deadline();
        let read_size = if self.publishers.is_empty() { READ_OTHER } else { READ_PUBLISHER };
        let Buffers { input, output } = self.session.buffers();
        if input.capacity() - input.len() < read_size / 4 {
            input.reserve(read_size);
        }
        let (publishers, players, unflushed) = (&self.publishers, &mut self.players, &mut self.unflushed);
        tokio::select! {
            moved = poll_fn(|cx| poll_socket(socket, input, output, unflushed, cx)) => {
                if moved? == 0 {
                    return Err(Close::Closed);
                }
            }
            (stream_id, event) = poll_fn(|cx| players.poll_event(cx)), if unsent < MAX_UNSENT => {
                let ended = self.players.handle(stream_id, event, self.peer, &mut self.session);
                if let Some(ended) = ended {
                    self.deadline = Instant::now() + self.idle_after(&ended);
                }
            }
            stream_id = poll_fn(|cx| publishers.poll_replaced(cx)) => {
                self.publishers.end_replaced(stream_id, self.peer, &mut self.session);
            }
            () = sleep_until(deadline) => self.check_deadlines()?,
            () = self.server.stopping.cancelled() => {
                self.players.end_all(PlayEnd::Stopped, &mut self.session);
                return Err(Close::Stopping);
            }
        }
        Ok(())
    }

    fn next_deadline(&self) -> Instant {
        match self.publishers.next_deadline() {
            Some(media) => media,
            None if self.is_busy() => Instant::now() + IDLE,
            None => self.deadline,
        }
    }

    fn check_deadlines(&mut self) -> Result<(), Close> {
        let now = Instant::now();
        if self.publishers.next_deadline().is_some_and(|deadline| deadline <= now) {
            return Err(Close::NoMedia);
        }
        if !self.is_busy() && self.deadline <= now { Err(Close::Idle) } else { Ok(()) }
    }

    fn idle_after(&self, ended: &Ended) -> Duration {
        match ended {
            Ended::Unpublished => IDLE,
            Ended::NotLive => self.server.config.limits.handshake_timeout,
        }
    }

    fn is_busy(&self) -> bool {
        !self.publishers.is_empty() || !self.players.is_empty()
    }

    fn on_event(&mut self, event: Event) {
        let (peer, session) = (self.peer, &mut self.session);
        match event {
            Event::Connect { .. } => {
                // From SRS's own proxy header, which precedes C0.
                let trusted = self.server.config.proxy.trusts(peer.ip());
                if let Some(client) = session.proxied_client().filter(|_| trusted) {
                    self.peer.set_ip(client.into());
                }
                session.accept_connect();
            }
            Event::Publish { stream_id, name, kind } => {
                self.publishers.start(stream_id, &name, kind, peer, session);
            }
            Event::Play { stream_id, name } => self.players.start(stream_id, &name, peer, session),
            Event::Media { stream_id, tag } => self.publishers.push(stream_id, tag, peer, session),
            Event::Unpublish { stream_id } => {
                self.publishers.stop(stream_id);
                self.deadline = Instant::now() + IDLE;
            }
            Event::StopPlay { stream_id } => {
                self.players.stop(stream_id);
                self.deadline = Instant::now() + IDLE;
            }
            Event::Pause { stream_id, paused } => self.players.pause(stream_id, paused, session),
            Event::ReceiveAudio { stream_id, wanted } => self.players.receive_audio(stream_id, wanted),
            Event::ReceiveVideo { stream_id, wanted } => self.players.receive_video(stream_id, wanted),
        }
    }
}

/// Writes or reads, and returns the number of bytes: 0 at the end of the input. Written bytes are flushed.
fn poll_socket(
    socket: &mut (impl AsyncRead + AsyncWrite + Unpin),
    input: &mut BytesMut,
    output: &mut impl Buf,
    unflushed: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    if output.has_remaining() {
        if let Poll::Ready(written) = pin!(socket.write_buf(output)).poll(cx) {
            *unflushed = true;
            return Poll::Ready(written);
        }
    } else if *unflushed && let Poll::Ready(flushed) = Pin::new(&mut *socket).poll_flush(cx) {
        flushed?;
        *unflushed = false;
    }
    pin!(socket.read_buf(input)).poll(cx)
}

//! RTMP connections: one task drives one session, its publishers and its players.
//!
//! The socket is read into the session's buffer, and tags that arrive in one chunk share it without a copy. A player
//! reads from its stream's ring only while little waits to be written, so its backlog stays in the ring.

use std::collections::HashMap;
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
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tracing::{debug, info};

use crate::clock::TokioClock;
use crate::media::{Tag, TagKind};
use crate::rtmp::chunk::ChunkLimits;
use crate::rtmp::handshake::Random;
use crate::rtmp::server::{Event, PlayEnd, PublishKind, Rejection, ServerSession, ServerSettings};
use crate::rtmp::tc_url::StreamName;
use crate::rtmp::{Buffers, MAX_UNREAD_REPLIES, SessionError};
use crate::stream::{PublishError, Publisher, Reader, StreamKey, StreamWait};

use super::opening::Opened;
use super::server::Server;

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
    let Opened { mut socket, peer, deadline, permit: _permit } = opened;
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
        publishing: HashMap::new(),
        playing: HashMap::new(),
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
    publishing: HashMap<u32, Publishing>,
    playing: HashMap<u32, Playing>,
    /// Deadline of a client that neither publishes nor plays.
    deadline: Instant,
    /// Whether written bytes may still be in the TLS layer.
    unflushed: bool,
}

/// A publisher. After it is dropped, its stream expires after the vhost's `republish_wait`.
struct Publishing {
    server: Arc<Server>,
    publisher: Publisher,
    /// Deadline of the next tag.
    deadline: Instant,
}

impl Drop for Publishing {
    fn drop(&mut self) {
        let left = self.publisher.leave();
        let stream = self.publisher.stream().clone();
        let server = self.server.clone();
        let wait = stream.vhost().publish.republish_wait;
        self.server.tasks.spawn(async move {
            tokio::select! {
                () = sleep(wait) => {}
                () = server.stopping.cancelled() => {}
            }
            server.hub.expire(&stream, left);
        });
    }
}

struct Playing {
    source: Source,
    audio: bool,
    video: bool,
}

enum Source {
    /// Waiting for the stream to be published, until the deadline.
    Waiting { stream: StreamWait, deadline: Pin<Box<Sleep>> },
    /// Reading the stream.
    Reading { key: StreamKey, tags: Reader<Tag> },
    /// Paused by the player.
    Paused { key: StreamKey },
}

/// An event of a player's source.
enum SourceEvent {
    Stream(Arc<crate::stream::Stream>),
    Tags(Arc<Vec<Tag>>),
    End,
    Timeout,
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
        if self.playing.is_empty() && unsent > MAX_UNREAD_REPLIES {
            return Err(Close::NoReader { unsent });
        }
        let deadline = self.next_deadline();
        let read_size = if self.publishing.is_empty() { READ_OTHER } else { READ_PUBLISHER };
        let Buffers { input, output } = self.session.buffers();
        if input.capacity() - input.len() < read_size / 4 {
            input.reserve(read_size);
        }
        let (publishing, playing, unflushed) = (&self.publishing, &mut self.playing, &mut self.unflushed);
        tokio::select! {
            moved = poll_fn(|cx| poll_socket(socket, input, output, unflushed, cx)) => {
                if moved? == 0 {
                    return Err(Close::Closed);
                }
            }
            (stream_id, event) = poll_fn(|cx| poll_playing(playing, cx)), if unsent < MAX_UNSENT => {
                self.on_source(stream_id, event);
            }
            stream_id = poll_fn(|cx| poll_replaced(publishing, cx)) => self.on_replaced(stream_id),
            () = sleep_until(deadline) => self.check_deadlines()?,
            () = self.server.stopping.cancelled() => {
                for stream_id in self.playing.keys() {
                    self.session.end_play(*stream_id, PlayEnd::Stopped);
                }
                return Err(Close::Stopping);
            }
        }
        Ok(())
    }

    fn next_deadline(&self) -> Instant {
        let busy = !self.publishing.is_empty() || !self.playing.is_empty();
        let media = self.publishing.values().map(|publishing| publishing.deadline).min();
        match media {
            Some(media) => media,
            None if busy => Instant::now() + IDLE,
            None => self.deadline,
        }
    }

    fn check_deadlines(&mut self) -> Result<(), Close> {
        let now = Instant::now();
        if self.publishing.values().any(|publishing| publishing.deadline <= now) {
            return Err(Close::NoMedia);
        }
        let busy = !self.publishing.is_empty() || !self.playing.is_empty();
        if !busy && self.deadline <= now { Err(Close::Idle) } else { Ok(()) }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connect { .. } => {
                // From SRS's own proxy header, which precedes C0.
                let trusted = self.server.config.proxy.trusts(self.peer.ip());
                if let Some(client) = self.session.proxied_client().filter(|_| trusted) {
                    self.peer.set_ip(client.into());
                }
                self.session.accept_connect();
            }
            Event::Publish { stream_id, name, kind } => self.on_publish(stream_id, &name, kind),
            Event::Play { stream_id, name } => self.on_play(stream_id, &name),
            Event::Media { stream_id, tag } => self.on_media(stream_id, tag),
            Event::Unpublish { stream_id } => {
                self.publishing.remove(&stream_id);
                self.deadline = Instant::now() + IDLE;
            }
            Event::StopPlay { stream_id } => {
                self.playing.remove(&stream_id);
                self.deadline = Instant::now() + IDLE;
            }
            Event::Pause { stream_id, paused } => self.on_pause(stream_id, paused),
            Event::ReceiveAudio { stream_id, wanted } => {
                if let Some(playing) = self.playing.get_mut(&stream_id) {
                    playing.audio = wanted;
                }
            }
            Event::ReceiveVideo { stream_id, wanted } => {
                if let Some(playing) = self.playing.get_mut(&stream_id) {
                    playing.video = wanted;
                }
            }
        }
    }

    fn on_publish(&mut self, stream_id: u32, name: &StreamName, kind: PublishKind) {
        let Some(vhost) = self.server.router.load().vhost(&name.vhost).cloned() else {
            self.session.reject_publish(stream_id, &Rejection::NotFound);
            return;
        };
        let key = StreamKey::new(&vhost.name, &name.app, &name.stream);
        let (publisher, pacer) = match self.server.hub.publish(key.clone(), &vhost) {
            Ok(published) => published,
            Err(PublishError::Busy) => {
                info!(peer = %self.peer, stream = %key, "publisher refused: the stream is live");
                self.session.reject_publish(stream_id, &Rejection::Busy);
                return;
            }
        };
        info!(peer = %self.peer, stream = %key, ?kind, "publishing");
        if let Some(pacer) = pacer {
            self.server.tasks.spawn(pacer.run::<TokioClock>());
        }
        let deadline = Instant::now() + vhost.publish.firstpkt_timeout;
        let publishing = Publishing { server: self.server.clone(), publisher, deadline };
        self.publishing.insert(stream_id, publishing);
        self.session.accept_publish(stream_id);
    }

    fn on_media(&mut self, stream_id: u32, tag: Tag) {
        let now = self.server.now();
        let Some(publishing) = self.publishing.get_mut(&stream_id) else { return };
        publishing.deadline = Instant::now() + publishing.publisher.stream().vhost().publish.normal_timeout;
        if !publishing.publisher.push(tag, now) {
            self.on_replaced(stream_id);
        }
    }

    fn on_replaced(&mut self, stream_id: u32) {
        info!(peer = %self.peer, "publisher replaced");
        self.publishing.remove(&stream_id);
        self.session.end_publish(stream_id, &Rejection::Busy);
    }

    fn on_play(&mut self, stream_id: u32, name: &StreamName) {
        let Some(vhost) = self.server.router.load().vhost(&name.vhost).cloned() else {
            self.session.reject_play(stream_id, &Rejection::NotFound);
            return;
        };
        let key = StreamKey::new(&vhost.name, &name.app, &name.stream);
        info!(peer = %self.peer, stream = %key, "playing");
        let source = Source::Waiting {
            stream: self.server.hub.wait_for(key),
            deadline: Box::pin(sleep(vhost.play.wait)),
        };
        self.playing.insert(stream_id, Playing { source, audio: true, video: true });
    }

    fn on_pause(&mut self, stream_id: u32, paused: bool) {
        let Some(playing) = self.playing.get_mut(&stream_id) else { return };
        match &playing.source {
            Source::Reading { key, .. } if paused => playing.source = Source::Paused { key: key.clone() },
            Source::Paused { key } if !paused => {
                // A live stream continues at the newest keyframe.
                match self.server.hub.find(key) {
                    Some(stream) => {
                        playing.source = Source::Reading { key: key.clone(), tags: stream.play() };
                    }
                    None => {
                        self.playing.remove(&stream_id);
                        self.session.end_play(stream_id, PlayEnd::Unpublished);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_source(&mut self, stream_id: u32, event: SourceEvent) {
        let Some(playing) = self.playing.get_mut(&stream_id) else { return };
        match event {
            SourceEvent::Stream(stream) => {
                info!(peer = %self.peer, stream = %stream.key(), "play started");
                playing.source = Source::Reading { key: stream.key().clone(), tags: stream.play() };
                self.session.accept_play(stream_id);
            }
            SourceEvent::Tags(tags) => {
                for tag in tags.iter() {
                    let wanted = match tag.kind {
                        TagKind::AUDIO => playing.audio,
                        TagKind::VIDEO => playing.video,
                        _ => true,
                    };
                    if wanted {
                        self.session.send_tag(stream_id, tag);
                    }
                }
            }
            SourceEvent::End => {
                self.playing.remove(&stream_id);
                self.deadline = Instant::now() + IDLE;
                self.session.end_play(stream_id, PlayEnd::Unpublished);
            }
            SourceEvent::Timeout => {
                debug!(peer = %self.peer, "nothing to play");
                self.playing.remove(&stream_id);
                self.deadline = Instant::now() + self.server.config.limits.handshake_timeout;
                self.session.reject_play(stream_id, &Rejection::NotFound);
            }
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

/// Polls for a publisher that another one has replaced.
fn poll_replaced(publishing: &HashMap<u32, Publishing>, cx: &mut Context<'_>) -> Poll<u32> {
    let mut replaced = |one: &Publishing| one.publisher.poll_replaced(cx).is_ready();
    let mut publishers = publishing.iter();
    match publishers.find_map(|(stream_id, one)| replaced(one).then_some(*stream_id)) {
        Some(stream_id) => Poll::Ready(stream_id),
        None => Poll::Pending,
    }
}

/// Polls for an event of a player's source.
fn poll_playing(playing: &mut HashMap<u32, Playing>, cx: &mut Context<'_>) -> Poll<(u32, SourceEvent)> {
    for (stream_id, playing) in playing {
        let event = match &mut playing.source {
            Source::Paused { .. } => continue,
            Source::Waiting { stream, deadline } => match Pin::new(stream).poll(cx) {
                Poll::Ready(stream) => SourceEvent::Stream(stream),
                Poll::Pending if deadline.as_mut().poll(cx).is_ready() => SourceEvent::Timeout,
                Poll::Pending => continue,
            },
            Source::Reading { tags, .. } => match tags.poll_read(cx) {
                Poll::Ready(Some(tags)) => SourceEvent::Tags(tags),
                Poll::Ready(None) => SourceEvent::End,
                Poll::Pending => continue,
            },
        };
        return Poll::Ready((*stream_id, event));
    }
    Poll::Pending
}

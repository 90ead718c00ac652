//! RTMP connections: one task drives one session, its publishers and its players.
//!
//! The socket is read into a buffer of the thread, and each message is copied out of it. A player
//! reads from its stream's ring only while little waits to be written, so its backlog stays in the ring.

mod deadline;
mod play;
mod publish;
mod read_buffer;
mod requests;
mod socket;

use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Buf;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tracing::info;

use crate::budget::{Account, OverBudget};
use crate::policy::{Outcome, Refusal};
use crate::rtmp::chunk::ChunkLimits;
use crate::rtmp::handshake::Random;
use crate::rtmp::server::{Event, PlayEnd, Rejection, ServerSession, ServerSettings};
use crate::rtmp::tc_url::StreamName;
use crate::rtmp::{Buffers, ConnectRequest, Input, MAX_UNREAD_REPLIES, SessionError};

use super::fanout::{self, Arrival, Farewell, Framing, HandedBack, Left, Position, Reason};
use super::opening::Opened;
use super::peer::Peer;
use super::server::Server;
use super::stall::is_stall;
use deadline::{MediaDeadline, MessageDeadline};
use play::{LentPlayer, Players};
use publish::Publishers;
use requests::{Admitted, Client, Decided, Requests, Use};
use socket::Socket;

/// Players get no close frame.
const NO_FAREWELL: Farewell = Farewell { code: None, text: "" };

/// How long a closing connection may take to read its last bytes.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes read at once: from a client that publishes, at each packet, and from any other.
const READ_PUBLISHER: usize = 16 * 1024;
const READ_OTHER: usize = 4 * 1024;

/// Tags are read for players only while less than this waits to be written, in bytes.
const MAX_UNSENT: usize = 64 * 1024;

/// Interval of checks of a client's share of the memory, since others may need it while this one holds memory and sends nothing; and of
/// whether a publisher can be read at beats.
const CHECK: Duration = Duration::from_secs(1);

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
    #[error("no media in time")]
    NoMedia,
    #[error("a message was not completed in time")]
    Unfinished,
    #[error("{0}")]
    OverBudget(#[from] OverBudget),
    #[error("it takes no answers: {unsent} bytes wait")]
    NoReader { unsent: usize },
    #[error("the session is over")]
    Over,
    #[error("the server stops")]
    Stopping,
}

impl Close {
    fn is_over_budget(&self) -> bool {
        match self {
            Close::OverBudget(_) => true,
            Close::Session(error) => error.is_over_budget(),
            _ => false,
        }
    }

    /// The name of the refusal; `None` if the peer has left, or ended what it did.
    fn refusal(&self) -> Option<&'static str> {
        match self {
            Close::OverBudget(_) => Some("memory"),
            Close::Session(error) if error.is_over_budget() => Some("memory"),
            Close::Session(_) => Some("rtmp_protocol"),
            Close::NoMedia => Some("no_media"),
            Close::Unfinished => Some("unfinished_message"),
            Close::NoReader { .. } => Some("no_reader"),
            Close::Closed | Close::Io(_) | Close::Over | Close::Stopping => None,
        }
    }

    /// Returns why the sessions of the connection end, whose sockets have this `send_timeout`.
    fn outcome(&self, send_timeout: Duration) -> Outcome {
        match self {
            Close::Io(error) if is_stall(error) => Outcome::Stalled { limit: send_timeout },
            Close::Closed => Outcome::ClientLeft,
            Close::Stopping => Outcome::StreamEnded,
            other => Outcome::Broken { reason: other.to_string() },
        }
    }
}

/// Serves one connection until it closes, at the latest at one of its deadlines.
pub(super) async fn serve(server: Arc<Server>, opened: Opened<impl Socket>) {
    let Opened { socket, peer, deadline, account, receive_rate: _, left: _, slot: _slot } = opened;
    let config = server.config();
    let limits = &config.limits;
    let seed = RandomState::new().hash_one(peer.address);
    let (epoch, random) = (server.now().0 as u32, Random::from_seed(seed));
    let settings = ServerSettings {
        chunk_size: config.rtmp.chunk_size,
        window_ack_size: config.rtmp.window_ack_size,
        limits: ChunkLimits {
            max_message: limits.max_message,
            max_buffered: limits.max_buffered,
            max_chunk_streams: MAX_CHUNK_STREAMS,
        },
    };
    let mut connection = Connection {
        peer,
        account: account.clone(),
        session: ServerSession::new(settings, epoch, random),
        connect: Arc::default(),
        requests: Requests::new(server.clone()),
        publishers: Publishers::new(server.clone()),
        players: Players::new(server.clone()),
        media: MediaDeadline::new(deadline, limits.media_timeout),
        messages: MessageDeadline::new(limits.send_timeout),
        next_check: Instant::now() + CHECK,
        on_beat: false,
        unflushed: false,
        server,
    };
    let send_timeout = limits.send_timeout;
    drop(config);
    connection.session.charge_to(account);
    let (close, socket) = connection.run(socket).await;
    let outcome = close.outcome(send_timeout);
    connection.publishers.end_because(&outcome);
    connection.players.end_because(&outcome);
    if close.is_over_budget() {
        connection.publishers.end_all(&Rejection::NoMemory, &mut connection.session);
        connection.players.end_all(PlayEnd::Stopped, &mut connection.session);
    }
    let output = &mut connection.session.buffers().output;
    if let Some(mut socket) = socket
        && !matches!(close, Close::Closed | Close::Io(_) | Close::NoReader { .. })
    {
        let last = async {
            socket.write_all_buf(output).await?;
            socket.shutdown().await
        };
        let _ = timeout(LINGER, last).await;
    }
    report(&connection.server, connection.peer, &close);
}

/// Reports that a connection closes. Peers that do nothing but leave cannot fill the log either.
fn report(server: &Server, Peer { address: peer, id: connection }: Peer, close: &Close) {
    let line = match close.refusal() {
        Some(reason) => server.access.refusals().count(reason),
        None => server.closings.lock().line(std::time::Instant::now()),
    };
    if let Some(before) = line {
        info!(%peer, %connection, reason = %close, before, "rtmp connection closed");
    }
}

struct Connection {
    server: Arc<Server>,
    peer: Peer,
    /// The memory that the host keeps for the client.
    account: Account,
    session: ServerSession,
    /// The client's `connect`.
    connect: Arc<ConnectRequest>,
    requests: Requests,
    publishers: Publishers,
    players: Players,
    media: MediaDeadline,
    messages: MessageDeadline,
    /// When the share of the memory is checked next, if the client holds any.
    next_check: Instant,
    /// Whether the socket is read at beats, if it can be.
    on_beat: bool,
    /// Whether written bytes may still be in the TLS layer.
    unflushed: bool,
}

impl Connection {
    /// Serves until the connection closes. Also returns the socket, unless it is lost.
    async fn run<S: Socket>(&mut self, mut socket: S) -> (Close, Option<S>) {
        // Kept from step to step: to begin these waits for each packet would cost more than to read it.
        let lifecycle = self.server.lifecycle.clone();
        let mut stopping = pin!(lifecycle.stopping());
        let mut sleep = pin!(sleep_until(self.next_check));
        loop {
            if let Err(close) = self.step(&mut socket, sleep.as_mut(), stopping.as_mut()).await {
                return (close, Some(socket));
            }
            if S::FANOUT
                && self.publishers.is_empty()
                && self.requests.is_empty()
                && let Some(player) = self.players.lend(&mut self.session)
            {
                match self.fan_out(player, socket).await {
                    Ok(returned) => socket = returned,
                    Err(close) => return (close, None),
                }
            }
        }
    }

    /// Lets a fan-out thread send to the only player, until the client sends something or the player's stream or session ends.
    async fn fan_out<S: Socket>(&mut self, player: LentPlayer, socket: S) -> Result<S, Close> {
        let LentPlayer { stream_id, form, position, session } = player;
        let arrival = Arrival {
            socket: fanout::Socket::Plain(socket.into_std()?),
            head: Vec::new(),
            first: None,
            position: Position::Stream(position),
            counted: None,
            framing: Framing::Rtmp(form),
            session,
            rate: None,
            keep_alive: true,
        };
        let mut served = self.server.fanout.serve(arrival);
        let mut ended = None;
        let left = tokio::select! {
            left = served.left() => left,
            event = poll_fn(|cx| self.players.poll_event(cx)) => {
                ended = Some(event);
                served.end(NO_FAREWELL);
                served.left().await
            }
            () = self.server.lifecycle.stopping() => {
                served.end(NO_FAREWELL);
                served.left().await
            }
        };
        let Left { reason, closed } = left.ok_or(Close::Stopping)?;
        let Ok(HandedBack { socket, position, skips }) = closed.await else {
            return Err(match reason {
                Reason::Io(error) => error.into(),
                Reason::OverBudget(over) => over.into(),
                _ => Close::Closed,
            });
        };
        if let Some(Position::Stream(mut tags)) = position {
            tags.set_skipped(skips);
            self.players.resume(stream_id, tags);
        }
        self.media.renew();
        if let Some((stream_id, event)) = ended {
            self.players.handle(stream_id, event, self.peer, &mut self.session, &mut self.media);
        }
        Ok(S::from_std(socket)?)
    }

    /// Handles the messages that were read, then waits for one event.
    async fn step(
        &mut self,
        socket: &mut impl Socket,
        mut sleep: Pin<&mut Sleep>,
        stopping: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), Close> {
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
        self.messages.update(self.session.oldest_unfinished(), self.session.bytes_received());
        let holds = !self.publishers.is_empty() || self.messages.at().is_some();
        if holds && Instant::now() >= self.next_check {
            self.account.check_share()?;
            self.next_check = Instant::now() + CHECK;
            self.on_beat = true;
        }
        let beat = if self.on_beat && self.players.is_empty() { self.publishers.beat() } else { None };
        self.on_beat = beat.is_some();
        socket.set_beat(beat.map(|(beat, _)| beat))?;
        let (deadline, late) = self.deadline();
        let wake = if holds { deadline.min(self.next_check) } else { deadline };
        if sleep.deadline() != wake {
            sleep.as_mut().reset(wake);
        }
        let read_size = if self.publishers.is_empty() { READ_OTHER } else { READ_PUBLISHER };
        let reads = !self.session.is_full();
        let Buffers { input, output } = self.session.buffers();
        read_buffer::give_back(input);
        let (publishers, players, unflushed) = (&mut self.publishers, &mut self.players, &mut self.unflushed);
        let requests = &mut self.requests;
        tokio::select! {
            moved = poll_fn(|cx| poll_socket(socket, reads.then_some((&mut *input, read_size)), output, unflushed, cx)) => {
                if moved? == 0 {
                    return Err(Close::Closed);
                }
            }
            (stream_id, event) = poll_fn(|cx| players.poll_event(cx)), if unsent < MAX_UNSENT => {
                self.players.handle(stream_id, event, self.peer, &mut self.session, &mut self.media);
            }
            decided = poll_fn(|cx| requests.poll(cx)) => match decided {
                Decided::Connection(decision) => self.on_connected(decision),
                Decided::Request(stream_id, wanted, decision) => self.on_decision(stream_id, wanted, decision),
            },
            ended = poll_fn(|cx| {
                // Another demand means other beats.
                let has_changed = beat.is_some_and(|(_, demand)| publishers.poll_demand(demand, cx).is_ready());
                if has_changed { Poll::Ready(None) } else { publishers.poll_end(cx).map(Some) }
            }) => if let Some((stream_id, rejection)) = ended {
                self.publishers.end(stream_id, &rejection, &mut self.session);
            },
            () = sleep => {
                if Instant::now() >= deadline {
                    return Err(late);
                }
            }
            () = stopping => {
                self.players.end_all(PlayEnd::Stopped, &mut self.session);
                return Err(Close::Stopping);
            }
        }
        Ok(())
    }

    /// Returns the earliest deadline, and the reason to close the connection then.
    fn deadline(&self) -> (Instant, Close) {
        let media = self.publishers.next_deadline().map_or(self.media.at(), |next| next.min(self.media.at()));
        match self.messages.at() {
            Some(messages) if messages < media => (messages, Close::Unfinished),
            _ => (media, Close::NoMedia),
        }
    }

    /// Starts the decision on a request to publish or play. What is decided at once has its effect at once.
    fn request(&mut self, stream_id: u32, wanted: Use, name: StreamName) {
        let client = Client { peer: self.peer, account: &self.account, connect: &self.connect };
        let longest = self.requests.start(stream_id, wanted, &name, &client, &mut self.session);
        self.media.allow(longest);
        let decided = self.requests.poll_decided(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready((stream_id, wanted, decision)) = decided {
            self.on_decision(stream_id, wanted, decision);
        }
    }

    fn on_connected(&mut self, decision: Result<(), Refusal>) {
        match decision {
            Ok(()) => self.session.accept_connect(),
            Err(refusal) => self.session.reject_connect(&(&refusal).into()),
        }
    }

    fn on_decision(&mut self, stream_id: u32, wanted: Use, decision: Result<Admitted, Rejection>) {
        let (peer, session, media) = (self.peer, &mut self.session, &mut self.media);
        match (decision, wanted) {
            (Err(rejection), _) => wanted.reject(stream_id, &rejection, session),
            (Ok(admitted), Use::Publish(kind)) => {
                let client = Client { peer, account: &self.account, connect: &self.connect };
                self.publishers.start(stream_id, admitted, kind, &client, session, media);
            }
            (Ok(admitted), Use::Play) => self.players.start(stream_id, admitted, peer, session, media),
        }
    }

    fn on_event(&mut self, event: Event) {
        let (peer, session, media) = (self.peer, &mut self.session, &mut self.media);
        match event {
            Event::Connect { request } => {
                self.connect = request;
                // From SRS's own proxy header, which precedes C0.
                let trusted = self.server.config().proxy.trusts(peer.address.ip());
                if let Some(client) = session.proxied_client().filter(|_| trusted) {
                    self.peer.address.set_ip(client.into());
                    self.account = self.server.addresses.account_of(client.into());
                    session.charge_to(self.account.clone());
                }
                let client = Client { peer: self.peer, account: &self.account, connect: &self.connect };
                self.requests.connect(&client);
                let decided = self.requests.poll_connected(&mut Context::from_waker(Waker::noop()));
                if let Poll::Ready(decision) = decided {
                    self.on_connected(decision);
                }
            }
            Event::Publish { stream_id, name, kind } => self.request(stream_id, Use::Publish(kind), name),
            Event::Play { stream_id, name } => self.request(stream_id, Use::Play, name),
            Event::Media { stream_id, tag } => {
                self.publishers.push(stream_id, tag, session, media);
            }
            Event::Unpublish { stream_id } => {
                self.requests.stop(stream_id);
                self.publishers.stop(stream_id);
            }
            Event::StopPlay { stream_id } => {
                self.requests.stop(stream_id);
                self.players.stop(stream_id);
            }
            Event::Pause { stream_id, paused } => self.players.pause(stream_id, paused, session),
            Event::ReceiveAudio { stream_id, wanted } => self.players.receive_audio(stream_id, wanted),
            Event::ReceiveVideo { stream_id, wanted } => self.players.receive_video(stream_id, wanted),
        }
    }
}

/// Writes or reads, and returns the number of bytes: 0 at the end of the input. Written bytes are flushed. Without an input
/// nothing is read. Also takes how much is read at once.
fn poll_socket(
    socket: &mut impl Socket,
    input: Option<(&mut Input, usize)>,
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
    let Some((input, most)) = input else { return Poll::Pending };
    read_buffer::lend(input, |buffer| socket.poll_receive(buffer, most, cx))
}

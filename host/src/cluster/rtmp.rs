//! Sessions with other servers over RTMP.

use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

use super::connector::Connection;
use super::error::UpstreamError;
use super::location::Location;
use super::socket::{Moved, Socket, poll_move};
use crate::budget::Account;
use crate::media::Tag;
use crate::rtmp::chunk::ChunkLimits;
use crate::rtmp::client::{ClientEvent, ClientSettings};
use crate::rtmp::handshake::{Random, Scheme};
use crate::rtmp::server::LOOP;
use crate::rtmp::{Buffers, ClientSession};

/// Bytes read at once from a server that is played, at least.
const READ: usize = 32 << 10;

/// Limit of chunk streams of a server.
const MAX_CHUNK_STREAMS: usize = 64;

/// Settings of a session.
#[derive(Clone, Debug)]
pub struct RtmpSettings {
    /// Payload bytes of the chunks that are sent.
    pub chunk_size: u32,
    /// Bytes after which the server must acknowledge.
    pub window_ack_size: u32,
    /// The largest message, in bytes.
    pub max_message: u32,
    /// Limit of unfinished messages, in bytes.
    pub max_buffered: usize,
    /// The hops before this one, and this one.
    pub hops: String,
}

/// A session that plays or publishes one stream.
pub struct RtmpClient {
    socket: Box<dyn Socket>,
    session: ClientSession,
    unflushed: bool,
}

impl RtmpClient {
    /// Plays a stream. Returns once the server accepts it; some servers do so before there is such a stream. Messages
    /// of the server are charged to `account`. The server has until `deadline`, after `limit`.
    ///
    /// # Errors
    /// The server refuses it or fails.
    pub async fn play(
        connection: Connection,
        location: &Location,
        settings: RtmpSettings,
        account: Account,
        (deadline, limit): (Instant, Duration),
    ) -> Result<(RtmpClient, Option<Tag>), UpstreamError> {
        let name = location.stream_name()?;
        let (settings, random) = client(settings, &connection);
        let mut client = RtmpClient::new(connection, ClientSession::play(name, settings, 0, random), account);
        loop {
            let event = timeout_at(deadline, client.next_answer()).await;
            let late = || client.late(limit);
            match event.unwrap_or_else(|_| Err(late()))? {
                ClientEvent::Playing => return Ok((client, None)),
                // Some servers send media without the status.
                ClientEvent::Media { tag } => return Ok((client, Some(tag))),
                ClientEvent::Ended => return Err(UpstreamError::NotFound),
                _ => {}
            }
        }
    }

    /// Publishes a stream. Returns once the server accepts it. The time limit is the caller's.
    ///
    /// # Errors
    /// The server refuses it or fails.
    pub async fn publish(
        connection: Connection,
        location: &Location,
        settings: RtmpSettings,
        account: Account,
    ) -> Result<RtmpClient, UpstreamError> {
        let name = location.stream_name()?;
        let (settings, random) = client(settings, &connection);
        let mut client =
            RtmpClient::new(connection, ClientSession::publish(name, settings, 0, random), account);
        loop {
            match client.next_answer().await? {
                ClientEvent::Published => return Ok(client),
                ClientEvent::Ended => return Err(UpstreamError::Closed),
                _ => {}
            }
        }
    }

    /// Waits for the next event while the request has no answer.
    async fn next_answer(&mut self) -> Result<ClientEvent, UpstreamError> {
        match self.next_event().await {
            Err(UpstreamError::Closed | UpstreamError::Io(_)) if self.session.is_past_handshake() => {
                Err(UpstreamError::Dropped)
            }
            event => event,
        }
    }

    /// Returns the error of a request that has no answer in time.
    fn late(&self, timeout: Duration) -> UpstreamError {
        if self.session.is_past_handshake() {
            UpstreamError::Silent { timeout }
        } else {
            UpstreamError::NoAnswer { timeout }
        }
    }

    fn new(connection: Connection, mut session: ClientSession, account: Account) -> RtmpClient {
        session.charge_to(account);
        RtmpClient { socket: connection.socket, session, unflushed: false }
    }

    /// Reads the next tag of a stream that is played; `None` at its end. Cancelling it loses nothing.
    ///
    /// # Errors
    /// The server fails, or ends the session.
    pub async fn next_tag(&mut self) -> Result<Option<Tag>, UpstreamError> {
        loop {
            match self.next_event().await? {
                ClientEvent::Media { tag } => return Ok(Some(tag)),
                ClientEvent::Ended => return Ok(None),
                // The stream goes on where it is; the server closes the connection when it must.
                _ => {}
            }
        }
    }

    /// Queues a tag of a stream that is published. The payload is shared.
    pub fn send_tag(&mut self, tag: &Tag) {
        self.session.send_tag(tag);
    }

    /// Returns the number of bytes that wait to be written.
    pub fn unsent(&mut self) -> usize {
        self.session.buffers().output.len()
    }

    /// Writes what is queued, and reads what the server says. Returns each time some bytes have been written; while nothing is
    /// queued, only with an error. Cancelling it loses nothing.
    ///
    /// # Errors
    /// The server fails, or ends the session.
    pub async fn drive(&mut self) -> Result<(), UpstreamError> {
        loop {
            while let Some(event) = self.session.poll_event()? {
                if let Some(error) = failure(event) {
                    return Err(error);
                }
            }
            match self.step().await? {
                Moved::Wrote | Moved::Drained => return Ok(()),
                Moved::Read => {}
                Moved::End => return Err(UpstreamError::Closed),
            }
        }
    }

    /// Ends a stream that is published, and writes what is queued. The time limit is the caller's.
    ///
    /// # Errors
    /// The server fails.
    pub async fn finish(&mut self) -> Result<(), UpstreamError> {
        self.session.finish();
        loop {
            if self.unsent() == 0 && !self.unflushed {
                return Ok(());
            }
            if self.step().await? == Moved::End {
                return Err(UpstreamError::Closed);
            }
        }
    }

    /// Tells the server that nothing follows, and waits until it closes the connection: to close it with unread bytes would discard
    /// what the server has not received. The time limit is the caller's.
    pub async fn drain(&mut self) {
        if self.socket.shutdown().await.is_err() {
            return;
        }
        while let Ok(moved) = self.step().await {
            // A session that is over discards its input.
            if moved == Moved::End || self.session.poll_event().is_err() {
                return;
            }
        }
    }

    /// Waits for the next event that is no failure.
    async fn next_event(&mut self) -> Result<ClientEvent, UpstreamError> {
        loop {
            match self.session.poll_event()? {
                Some(ClientEvent::Ended) => return Ok(ClientEvent::Ended),
                Some(event) => match failure(event.clone()) {
                    Some(error) => return Err(error),
                    None => return Ok(event),
                },
                None if self.step().await? == Moved::End => return Err(UpstreamError::Closed),
                None => {}
            }
        }
    }

    async fn step(&mut self) -> Result<Moved, UpstreamError> {
        let RtmpClient { socket, session, unflushed } = self;
        let Buffers { input, output } = session.buffers();
        let input = input.room(READ);
        Ok(poll_fn(|cx| poll_move(socket, input, output, unflushed, cx)).await?)
    }
}

/// Returns the error that an event stands for.
fn failure(event: ClientEvent) -> Option<UpstreamError> {
    match event {
        ClientEvent::Rejected { code, .. } if code == "NetStream.Play.StreamNotFound" => {
            Some(UpstreamError::NotFound)
        }
        ClientEvent::Rejected { description, .. } if description == LOOP => Some(UpstreamError::Loop),
        ClientEvent::Rejected { code, description } => Some(UpstreamError::Refused { code, description }),
        ClientEvent::Redirect { url } => Some(UpstreamError::Redirect { url }),
        ClientEvent::Ended => Some(UpstreamError::Closed),
        _ => None,
    }
}

fn client(settings: RtmpSettings, connection: &Connection) -> (ClientSettings, Random) {
    let RtmpSettings { chunk_size, window_ack_size, max_message, max_buffered, hops } = settings;
    let limits = ChunkLimits { max_message, max_buffered, max_chunk_streams: MAX_CHUNK_STREAMS };
    let random = Random::from_seed(RandomState::new().hash_one(connection.address));
    let scheme = Scheme::KeyThenDigest;
    (ClientSettings { scheme, chunk_size, window_ack_size, limits, enhanced: true, hops }, random)
}

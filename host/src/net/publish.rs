//! RTMP publishing: tags to a server, at the pace of their timestamps.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use crate::media::Tag;
use crate::rtmp::chunk::ChunkLimits;
use crate::rtmp::client::{ClientEvent, ClientSettings};
use crate::rtmp::handshake::{Random, Scheme};
use crate::rtmp::tc_url::StreamName;
use crate::rtmp::{Buffers, ClientSession, SessionError};

/// Limits of received messages: a server sends a publisher only replies.
const LIMITS: ChunkLimits =
    ChunkLimits { max_message: 1 << 20, max_buffered: 1 << 20, max_chunk_streams: 16 };

/// Bytes read at once.
const READ: usize = 4 * 1024;

/// The reason why publishing ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishLoopError {
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server broke the protocol.
    #[error("{0}")]
    Session(#[from] SessionError),
    /// The server refused the stream.
    #[error("the server refused: {code}")]
    Refused {
        /// The status code.
        code: String,
    },
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
}

/// Publishes `tags` as `name` to the server at `address`, each at its timestamp. Returns when all are sent.
///
/// # Errors
/// [`PublishLoopError`] if the connection, the server or the protocol ends it early.
pub async fn publish_loop(
    address: SocketAddr,
    name: StreamName,
    tags: impl Iterator<Item = Tag>,
) -> Result<(), PublishLoopError> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let random = Random::from_seed(RandomState::new().hash_one(address));
    let settings = ClientSettings {
        scheme: Scheme::KeyThenDigest,
        chunk_size: 60_000,
        window_ack_size: 2_500_000,
        limits: LIMITS,
        enhanced: true,
        hops: String::new(),
    };
    let mut session = ClientSession::publish(name, settings, 0, random);
    let mut tags = tags.peekable();
    let mut started: Option<Instant> = None;
    loop {
        while let Some(event) = session.poll_event()? {
            match event {
                ClientEvent::Published => started = Some(Instant::now()),
                ClientEvent::Rejected { code, .. } => return Err(PublishLoopError::Refused { code }),
                ClientEvent::Ended | ClientEvent::Redirect { .. } => return Err(PublishLoopError::Closed),
                _ => {}
            }
        }
        let due = match (started, tags.peek()) {
            (Some(started), Some(tag)) => Some(started + Duration::from_millis(tag.dts.0.max(0) as u64)),
            (Some(_), None) => {
                session.finish();
                socket.write_all_buf(&mut session.buffers().output).await?;
                return Ok(());
            }
            (None, _) => None,
        };
        let Buffers { input, output } = session.buffers();
        let unsent = !output.is_empty();
        let input = input.room(READ);
        let (mut reader, mut writer) = socket.split();
        tokio::select! {
            read = reader.read_buf(input) => {
                if read? == 0 {
                    return Err(PublishLoopError::Closed);
                }
            }
            written = writer.write_buf(output), if unsent => {
                written?;
            }
            // A tag is sent only when the previous one is written, so that a slow server slows the publisher.
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() && !unsent => {
                if let Some(tag) = tags.next() {
                    session.send_tag(&tag);
                }
            }
        }
    }
}

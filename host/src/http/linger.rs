//! Closing a connection so that its last bytes arrive.

use std::time::Duration;

use tokio::io::{AsyncRead, copy, sink};
use tokio::time::timeout;

/// How long a peer who was told that the connection closes may take to close it too.
const LIMIT: Duration = Duration::from_secs(1);

/// Drops what the peer still sends, until it closes or its time is over. What stays unread when a socket closes resets
/// it, and what was written last may be lost.
pub async fn linger(socket: &mut (impl AsyncRead + Unpin + ?Sized)) {
    let _ = timeout(LIMIT, copy(socket, &mut sink())).await;
}

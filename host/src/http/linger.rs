//! Closing a connection so that its last bytes arrive.

use std::time::Duration;

use tokio::io::{AsyncRead, copy, sink};
use tokio::time::timeout;

/// Time for the peer to close the connection after this side has.
const LIMIT: Duration = Duration::from_secs(1);

/// Reads and drops what the peer still sends, until it closes or [`LIMIT`] is over. Closing a socket with unread bytes
/// resets the connection, and the peer may lose the last bytes written to it.
pub async fn linger(socket: &mut (impl AsyncRead + Unpin + ?Sized)) {
    let _ = timeout(LIMIT, copy(socket, &mut sink())).await;
}

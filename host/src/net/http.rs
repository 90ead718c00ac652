//! HTTP connections: hyper over a socket, or over TLS over a socket.
//!
//! Without TLS the first bytes decide between HTTP/1.1 and HTTP/2, under a deadline: hyper-util's own detection waits for
//! ever (hyper#3756).

mod close;
mod drive;
mod http1;
mod http2;
mod socket;

use std::sync::Arc;

use tokio::time::timeout_at;
use tracing::{debug, info};

use crate::http::{ConnectionContext, Stall};

use self::close::Close;
use self::drive::FirstRequest;
pub(super) use self::socket::Socket;
#[cfg(fuzzing)]
pub(super) use self::socket::{HTTP2_PREFACE, is_http2};
use super::opening::Opened;
use super::peer::Peer;
use super::receive_rate::Limited;
use super::server::Server;

/// Serves one connection until it closes, or its listener is closed or the host drains and its responses are complete.
pub(super) async fn serve(server: Arc<Server>, opened: Opened<impl Socket>) {
    let Opened { socket, peer, deadline, account, receive_rate, left, slot } = opened;
    let guard = Arc::new((slot, server.tasks.token()));
    let lifecycle = server.lifecycle.clone();
    let stall = Stall::new(server.config().limits.send_timeout, None);
    let Peer { address, id } = peer;
    let connection = ConnectionContext { id, peer: address, account, guard, lifecycle, stall: stall.clone() };
    let http2 = tokio::select! {
        detected = timeout_at(deadline, socket.speaks_http2()) => detected,
        () = left.cancelled() => return,
    };
    let first = FirstRequest::new(deadline);
    let result = match http2 {
        Ok(Ok(false)) => http1::serve(&server, &left, socket, &connection, receive_rate, &first).await,
        // Boxed, so that an HTTP/1.1 viewer's task is not as large as this.
        Ok(Ok(true)) => {
            let socket = Limited::new(socket, receive_rate, stall);
            Box::pin(http2::serve(&server, &left, socket, connection, &first)).await
        }
        Ok(Err(error)) => Err(Close::Io(error)),
        Err(_) => Err(Close::NoRequest),
    };
    if let Err(close) = result {
        report(&server, peer, &close);
    }
}

/// Reports that a connection closes early.
fn report(server: &Server, Peer { address: peer, id: connection }: Peer, close: &Close) {
    match close.refusal().map(|reason| server.access.refusals().count(reason)) {
        Some(Some(before)) => info!(%peer, %connection, reason = %close, before, "http connection closed"),
        Some(None) => {}
        None => debug!(%peer, %connection, reason = %close, "http connection closed"),
    }
}

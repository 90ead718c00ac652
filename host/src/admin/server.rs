//! Serves the API on the control socket and over TCP.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, error};

use crate::log::LineLimit;

use super::api::Api;
use super::control::Control;

/// Maximum number of open connections on each of the two.
const MAX_CONNECTIONS: usize = 64;

/// Timeout for a request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Lifetime of a connection over TCP: one request, and a response that fits into memory. Slow peers must not keep others out.
const TCP_LIFETIME: Duration = Duration::from_secs(15);

/// Buffer size of a connection in bytes, and so the limit of a request head.
const MAX_BUFFER: usize = 16 << 10;

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Those who can connect to a listener.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peers {
    /// The host's user and root. They may change the host, and take their time.
    Trusted,
    /// Anybody. A connection carries one request that changes nothing, for [`TCP_LIFETIME`] at most.
    Any,
}

/// Serves the control socket until the task is dropped.
pub async fn serve_control(api: Arc<Api>, control: Control) {
    serve_all(api, Peers::Trusted, |cx| control.poll_accept(cx)).await;
}

/// Serves requests that change nothing over TCP, until the task is dropped.
pub async fn serve_tcp(api: Arc<Api>, listener: TcpListener) {
    serve_all(api, Peers::Any, |cx| listener.poll_accept(cx).map_ok(|(socket, _)| socket)).await;
}

async fn serve_all<S>(
    api: Arc<Api>,
    peers: Peers,
    mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<S>>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut failures = LineLimit::default();
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        match poll_fn(&mut accept).await {
            Ok(socket) => {
                let api = api.clone();
                tokio::spawn(async move {
                    let served = serve(&api, peers, socket);
                    match peers {
                        Peers::Trusted => served.await,
                        Peers::Any => drop(timeout(TCP_LIFETIME, served).await),
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                if let Some(before) = failures.line(Instant::now()) {
                    error!(%error, before, "accept failed");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve<S>(api: &Arc<Api>, peers: Peers, socket: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let respond = service_fn(|request| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(api.respond(&request, peers == Peers::Trusted).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(peers == Peers::Trusted)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(socket), respond)
        .await;
    if let Err(error) = served {
        debug!(%error, "API connection failed");
    }
}

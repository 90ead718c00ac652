//! Serves the API on the control socket and over TCP.

use std::convert::Infallible;
use std::future::{Ready, pending, poll_fn, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::log::LineLimit;

use super::api::{self, Api, Peer, Stay};
use super::control::Control;
use super::guard::Guard;
use crate::net::ApiListener;

/// Maximum number of open connections on each of the two.
const MAX_CONNECTIONS: usize = 64;

/// Timeout for a request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Lifetime of a connection over TCP: one request, and a response that fits into memory. Slow peers must not keep others out. A
/// subscription of events lasts longer.
const TCP_LIFETIME: Duration = Duration::from_secs(15);

/// Buffer size of a connection in bytes, and so the limit of a request head.
const MAX_BUFFER: usize = 16 << 10;

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves the control socket until the task is dropped.
pub async fn serve_control(api: Arc<Api>, control: Control) {
    serve_all(api, |cx| control.poll_accept(cx).map_ok(|socket| (socket, Peer::Local)), ready_now).await;
}

/// Serves requests over TCP until the task is dropped, by the listeners and the rules that the config in force has.
pub async fn serve_tcp(api: Arc<Api>, mut in_force: watch::Receiver<Vec<ApiListener>>) {
    loop {
        let listeners = in_force.borrow_and_update().clone();
        // Whom the old rules admitted must not stay.
        let replaced = CancellationToken::new();
        let _replaces = replaced.clone().drop_guard();
        let serving = async {
            match listeners.first() {
                Some(ApiListener { config, .. }) => {
                    // Guesses and logins count for both.
                    let guard = Arc::new(Guard::new(config));
                    join_all(listeners.iter().map(|one| serve_listener(&api, one, &guard, &replaced))).await;
                }
                None => pending().await,
            }
        };
        tokio::select! {
            () = serving => return,
            changed = in_force.changed() => if changed.is_err() { return },
        }
    }
}

async fn serve_listener(
    api: &Arc<Api>,
    listener: &ApiListener,
    guard: &Arc<Guard>,
    replaced: &CancellationToken,
) {
    let ApiListener { socket, tls, .. } = listener;
    let remote = |peer: SocketAddr| Peer::Remote {
        address: peer.ip().to_canonical(),
        guard: guard.clone(),
        is_secure: tls.is_some(),
        replaced: replaced.clone(),
    };
    let accept =
        |cx: &mut Context<'_>| socket.poll_accept(cx).map_ok(|(socket, peer)| (socket, remote(peer)));
    match tls.clone().map(TlsAcceptor::from) {
        Some(tls) => serve_all(api.clone(), accept, move |socket| tls.accept(socket)).await,
        None => serve_all(api.clone(), accept, ready_now).await,
    }
}

/// Opens a connection without a handshake.
fn ready_now<S>(socket: S) -> Ready<io::Result<S>> {
    ready(Ok(socket))
}

/// Accepts connections; a task each performs the handshake, if there is one, and serves it.
async fn serve_all<A, S, F>(
    api: Arc<Api>,
    mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<(A, Peer)>>,
    open: impl Fn(A) -> F,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
{
    let mut failures = LineLimit::default();
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        match poll_fn(&mut accept).await {
            Ok((socket, peer)) => {
                let (api, opening) = (api.clone(), open(socket));
                tokio::spawn(async move {
                    let stay = OnceLock::new();
                    let mut served = pin!(serve(&api, &peer, opening, &stay));
                    match peer {
                        Peer::Local => served.await,
                        Peer::Remote { .. } if timeout(TCP_LIFETIME, &mut served).await.is_ok() => {}
                        // Subscribers have a limit of their own.
                        Peer::Remote { ref replaced, .. } => {
                            drop(permit);
                            stay_on(served, &stay, replaced).await;
                        }
                    }
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

/// Goes on with a connection if its response is one that stays, until the rules that admitted it are replaced.
async fn stay_on(served: impl Future<Output = ()>, stay: &OnceLock<Stay>, replaced: &CancellationToken) {
    if let Some(Stay(close)) = stay.get() {
        tokio::select! {
            () = served => {}
            () = close.cancelled() => {}
            () = replaced.cancelled() => {}
        }
    }
}

/// Serves a connection; notes in `stay` that its response is one that stays.
async fn serve<S>(
    api: &Arc<Api>,
    peer: &Peer,
    opening: impl Future<Output = io::Result<S>>,
    stay: &OnceLock<Stay>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let socket = match opening.await {
        Ok(socket) => socket,
        Err(error) => return debug!(%error, "API connection closed before it began"),
    };
    let respond = service_fn(|request| {
        let (api, peer) = (api.clone(), peer.clone());
        async move {
            let response = api::respond(&api, &peer, request).await;
            if let Some(token) = response.extensions().get::<Stay>() {
                let _ = stay.set(token.clone());
            }
            Ok::<_, Infallible>(response)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(matches!(peer, Peer::Local))
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(socket), respond)
        .await;
    if let Err(error) = served {
        debug!(%error, "API connection failed");
    }
}

//! Serves the API on the control socket and over TCP.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tracing::{debug, error, info};

use crate::log::LineLimit;

use super::api::{self, Api};
use super::control::Control;
use super::guard::{Caller, Guard};
use crate::net::ApiListener;

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

/// The peer of a connection.
#[derive(Clone)]
enum Peer {
    /// The host's user or root. They may operate, and take their time.
    Local,
    /// A client over TCP, whom the guard judges. The connection carries one request, for [`TCP_LIFETIME`] at most.
    Remote(IpAddr, Arc<Guard>),
}

/// Serves the control socket until the task is dropped.
pub async fn serve_control(api: Arc<Api>, control: Control) {
    serve_all(api, |cx| control.poll_accept(cx).map_ok(|socket| (socket, Peer::Local))).await;
}

/// Serves requests over TCP until the task is dropped, by the listener and the rules that the config in force has.
pub async fn serve_tcp(api: Arc<Api>, mut in_force: watch::Receiver<Option<ApiListener>>) {
    loop {
        let listener = in_force.borrow_and_update().clone();
        let serving = async {
            match listener {
                Some(listener) => serve_listener(api.clone(), listener).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = serving => return,
            changed = in_force.changed() => if changed.is_err() { return },
        }
    }
}

async fn serve_listener(api: Arc<Api>, ApiListener { socket, config }: ApiListener) {
    let guard = Arc::new(Guard::new(&config));
    let remote = |peer: SocketAddr| Peer::Remote(peer.ip().to_canonical(), guard.clone());
    serve_all(api, |cx| socket.poll_accept(cx).map_ok(|(socket, peer)| (socket, remote(peer)))).await;
}

async fn serve_all<S>(api: Arc<Api>, mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<(S, Peer)>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut failures = LineLimit::default();
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        match poll_fn(&mut accept).await {
            Ok((socket, peer)) => {
                let api = api.clone();
                tokio::spawn(async move {
                    let served = serve(&api, &peer, socket);
                    match peer {
                        Peer::Local => served.await,
                        Peer::Remote(..) => drop(timeout(TCP_LIFETIME, served).await),
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

async fn serve<S>(api: &Arc<Api>, peer: &Peer, socket: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let respond = service_fn(|request| {
        let (api, peer) = (api.clone(), peer.clone());
        async move { Ok::<_, Infallible>(respond(&api, &peer, &request).await) }
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

async fn respond<B>(api: &Arc<Api>, peer: &Peer, request: &Request<B>) -> Response<Full<Bytes>> {
    let Peer::Remote(address, guard) = peer else {
        return api::respond(api, request, Caller::Operator, false).await;
    };
    // Those who ask whether the host runs have no credentials.
    if let Some(response) = api::probe(api, request) {
        return response;
    }
    match guard.admit(request, *address, Instant::now()) {
        Ok(caller) => api::respond(api, request, caller, guard.jsonp()).await,
        Err(denial) => {
            info!(client = %address, %denial, path = request.uri().path(), "API request refused");
            api::denied(denial)
        }
    }
}

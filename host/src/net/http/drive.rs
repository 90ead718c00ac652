//! How a connection of hyper is driven, whatever its version.

use std::future::pending;
use std::ops::DerefMut;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::close::Close;

/// Limit of hyper's buffer for one HTTP/1.1 connection, in bytes; also limits the request head, and over HTTP/2 the list of headers.
pub(super) const MAX_BUFFER: usize = 16 * 1024;

/// Drives a connection until it closes or its first request is late. When it should close (`left`) or is `idle`,
/// calls `finish` to shut it down gracefully; if its peer leaves it open and it becomes idle again, it is closed.
pub(super) async fn drive<C: Future<Output = hyper::Result<()>>, I: Future<Output = ()>>(
    left: &CancellationToken,
    mut connection: Pin<impl DerefMut<Target = C>>,
    finish: fn(Pin<&mut C>),
    first: &FirstRequest,
    idle: impl Fn() -> I,
) -> Result<(), Close> {
    tokio::select! {
        result = connection.as_mut() => return Ok(result?),
        () = first.late() => return Err(Close::NoRequest),
        () = idle() => {}
        () = left.cancelled() => {}
    }
    finish(connection.as_mut());
    tokio::select! {
        result = connection.as_mut() => Ok(result?),
        () = first.late() => Err(Close::NoRequest),
        () = idle() => Err(Close::Idle),
    }
}

/// The first request of a connection and its deadline, which counts from accept: hyper's timeouts do not.
#[derive(Clone)]
pub(super) struct FirstRequest {
    deadline: Instant,
    has_arrived: Arc<AtomicBool>,
}

impl FirstRequest {
    pub(super) fn new(deadline: Instant) -> FirstRequest {
        FirstRequest { deadline, has_arrived: Arc::default() }
    }

    pub(super) fn arrived(&self) {
        self.has_arrived.store(true, Ordering::Relaxed);
    }

    /// Resolves at the deadline unless the request has arrived; else never.
    async fn late(&self) {
        // Boxed, because it is dropped long before the connection.
        Box::pin(sleep_until(self.deadline)).await;
        if self.has_arrived.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
    }
}

//! Hub: all streams by name, and the tasks that wait for one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use tracing::info;

use crate::budget::Account;
use crate::conf::{PublishConflict, Vhost};
use crate::sync::Mutex;

use super::error::PublishError;
use super::key::StreamKey;
use super::observer::StreamObserver;
use super::pacing::StreamPacer;
use super::stream::{Publisher, Stream};
use super::supply::{self, Supply, SupplyError};
use super::wakers::{Wakers, wake};

/// All streams.
#[derive(Debug, Default)]
pub struct Hub {
    state: Mutex<State>,
    /// Learns of streams that begin. Unset if nobody wants to know.
    observer: OnceLock<Arc<dyn StreamObserver>>,
    /// Fetches the streams that are not published here; unset if there is no such source.
    supply: OnceLock<Arc<dyn Supply>>,
}

#[derive(Debug, Default)]
struct State {
    streams: HashMap<StreamKey, Arc<Stream>>,
    /// Tasks that wait for a stream to be published, by its name. There is no entry without a task.
    waiting: HashMap<StreamKey, Waiting>,
    /// The vhosts of the config in force; none before the first reload.
    vhosts: Vec<Arc<Vhost>>,
}

/// The tasks that wait for one stream.
#[derive(Debug, Default)]
struct Waiting {
    wakers: Wakers,
    /// Number of calls of [`Hub::fail`], and the error of the last one. A task that came before it fails.
    failures: u64,
    error: Option<SupplyError>,
}

impl Hub {
    /// A hub without streams.
    pub fn new() -> Arc<Hub> {
        Arc::default()
    }

    /// Sets the observer of streams, once.
    pub fn observe(&self, observer: Arc<dyn StreamObserver>) {
        let _ = self.observer.set(observer);
    }

    /// Starts a publisher, on a new stream or on one whose publisher left and whose viewers wait. The memory of the stream's
    /// mounts is charged to `account`, that of its tags by whoever made them. The caller spawns the pacer of a new stream.
    ///
    /// # Errors
    /// [`PublishError::Busy`] when the stream is live and its vhost keeps the first publisher.
    pub fn publish(
        self: &Arc<Self>,
        key: StreamKey,
        vhost: &Arc<Vhost>,
        account: Account,
    ) -> Result<(Publisher, Option<StreamPacer>), PublishError> {
        self.publish_from(key, vhost, account, "")
    }

    /// As [`Hub::publish`], of a publisher whose stream has passed the nodes `hops`.
    ///
    /// # Errors
    /// As [`Hub::publish`].
    pub fn publish_from(
        self: &Arc<Self>,
        key: StreamKey,
        vhost: &Arc<Vhost>,
        account: Account,
        hops: &str,
    ) -> Result<(Publisher, Option<StreamPacer>), PublishError> {
        let (publisher, waiting) = {
            let mut state = self.state.lock();
            // A reload may have come since the publisher was admitted.
            let current = state.vhosts.iter().find(|one| one.name == vhost.name).cloned();
            let vhost = current.as_ref().unwrap_or(vhost);
            let stream = state
                .streams
                .entry(key.clone())
                .or_insert_with(|| Arc::new(Stream::new(key.clone(), vhost.clone(), account.clone())))
                .clone();
            let replace = vhost.publish.conflict == PublishConflict::Replace;
            let publisher = Stream::publish(&stream, replace, account)?;
            stream.set_hops(hops);
            (publisher, state.take_waiting(&key))
        };
        if publisher.id() == 1
            && let Some(observer) = self.observer.get()
        {
            observer.began(publisher.stream());
        }
        wake(waiting);
        let pacer = publisher.pacer();
        Ok((publisher, pacer))
    }

    /// Returns the stream if it is live, or if its viewers wait for its publisher to return.
    pub fn find(&self, key: &StreamKey) -> Option<Arc<Stream>> {
        self.state.lock().streams.get(key).cloned()
    }

    /// Sets what fetches the streams that are not published here, once.
    pub fn set_supply(&self, supply: Arc<dyn Supply>) {
        let _ = self.supply.set(supply);
    }

    /// Waits until the stream has a publisher, for a client. If it has none, the [`Supply`] learns of the client.
    ///
    /// # Errors
    /// The supply knows that the stream cannot be had; or another node asks for a stream that nobody has published here, and may ask
    /// others instead of waiting.
    pub fn want(
        self: &Arc<Self>,
        key: StreamKey,
        client: supply::Waiting<'_>,
    ) -> Result<StreamWait, SupplyError> {
        // Before the supply is asked: it may fail at once.
        let wait = self.wait_for(key);
        let stream = self.find(&wait.key);
        if stream.as_ref().is_some_and(|stream| stream.is_live()) {
            return Ok(wait);
        }
        let is_coming = self.supply.get().map_or(Ok(false), |supply| supply.want(&wait.key, client))?;
        if is_coming || stream.is_some() || client.hops.is_empty() {
            Ok(wait)
        } else {
            Err(SupplyError::NotFound)
        }
    }

    /// Waits until the stream has a publisher.
    pub(super) fn wait_for(self: &Arc<Self>, key: StreamKey) -> StreamWait {
        let mut state = self.state.lock();
        let waiting = state.waiting.entry(key.clone()).or_default();
        let (waiter, failures) = (waiting.wakers.register(), waiting.failures);
        drop(state);
        StreamWait { hub: self.clone(), key, waiter, failures }
    }

    /// Tells all who wait for the stream now that it cannot be had.
    pub fn fail(&self, key: &StreamKey, error: SupplyError) {
        let waiting = {
            let mut state = self.state.lock();
            if let Some(waiting) = state.waiting.get_mut(key) {
                waiting.failures += 1;
                waiting.error = Some(error);
            }
            state.take_waiting(key)
        };
        wake(waiting);
    }

    /// Returns whether the stream has a publisher; waits while its viewers wait for the publisher to return.
    pub fn settle(self: &Arc<Self>, key: StreamKey) -> impl Future<Output = bool> + Send + use<> {
        let wait = self.wait_for(key);
        poll_fn(move |cx| match wait.look(cx).0 {
            Some(stream) if stream.is_live() => Poll::Ready(true),
            Some(_) => Poll::Pending,
            None => Poll::Ready(false),
        })
    }

    /// Ends a stream whose publisher left and did not return. The caller waits `republish_wait` after [`Publisher::leave`] and
    /// passes the number that it returned. Does nothing if another publisher has come.
    pub fn expire(&self, stream: &Arc<Stream>, left: u64) {
        let waiting = {
            let mut state = self.state.lock();
            if !stream.end_if_left(left) {
                return;
            }
            state.streams.remove(stream.key());
            state.take_waiting(stream.key())
        };
        wake(waiting);
        info!(stream = %stream.key(), "ended");
    }

    /// Ends all streams, when the host stops.
    pub fn end_all(&self) {
        let (streams, waiting) = {
            let mut state = self.state.lock();
            let waiting: Vec<_> = state.waiting.values_mut().flat_map(|one| one.wakers.take()).collect();
            (std::mem::take(&mut state.streams), waiting)
        };
        for stream in streams.values() {
            stream.end();
            info!(stream = %stream.key(), "ended");
        }
        wake(waiting);
    }

    /// Number of viewers and players that wait for a stream to be published.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting.values().map(|waiting| waiting.wakers.len()).sum()
    }

    /// Publishes from now on on these vhosts. Returns the streams that were there before.
    pub(super) fn adopt(&self, vhosts: &[Arc<Vhost>]) -> Vec<Arc<Stream>> {
        let mut state = self.state.lock();
        state.vhosts = vhosts.to_vec();
        state.streams.values().cloned().collect()
    }

    /// All streams, in no order.
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        self.state.lock().streams.values().cloned().collect()
    }
}

impl State {
    /// Takes the wakers of the tasks that wait for a stream.
    fn take_waiting(&mut self, key: &StreamKey) -> Vec<Waker> {
        self.waiting.get_mut(key).map(|waiting| waiting.wakers.take()).unwrap_or_default()
    }
}

/// Resolves when a stream has a publisher, or cannot be had.
#[derive(Debug)]
pub struct StreamWait {
    hub: Arc<Hub>,
    key: StreamKey,
    waiter: usize,
    /// [`Waiting::failures`] when the task came.
    failures: u64,
}

impl StreamWait {
    /// Returns the stream, live or not, and why it cannot be had. The task is woken when that changes.
    fn look(&self, cx: &Context<'_>) -> (Option<Arc<Stream>>, Option<SupplyError>) {
        let mut state = self.hub.state.lock();
        let waiting = state.waiting.get_mut(&self.key);
        let error = waiting.and_then(|waiting| {
            waiting.wakers.wait(self.waiter, cx.waker());
            waiting.error.filter(|_| waiting.failures != self.failures)
        });
        (state.streams.get(&self.key).cloned(), error)
    }
}

impl Future for StreamWait {
    type Output = Result<Arc<Stream>, SupplyError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Arc<Stream>, SupplyError>> {
        match self.look(cx) {
            (Some(stream), _) if stream.is_live() => Poll::Ready(Ok(stream)),
            (_, Some(error)) => Poll::Ready(Err(error)),
            _ => Poll::Pending,
        }
    }
}

impl Drop for StreamWait {
    fn drop(&mut self) {
        let mut state = self.hub.state.lock();
        if let Entry::Occupied(mut waiting) = state.waiting.entry(self.key.clone()) {
            waiting.get_mut().wakers.leave(self.waiter);
            if waiting.get().wakers.len() == 0 {
                waiting.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;
    use crate::conf::Config;

    /// Counts how often a task is woken.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_publish_wakes_those_who_wait_for_its_stream() {
        let config = Config::parse("[vhost.a]\n", "remuxd.toml").unwrap();
        let hub = Hub::new();
        let key = |stream| StreamKey::new("a", "live", stream);
        let wait = |stream| {
            let (count, mut wait) = (Arc::<Count>::default(), Box::pin(hub.wait_for(key(stream))));
            assert!(wait.as_mut().poll(&mut Context::from_waker(&Waker::from(count.clone()))).is_pending());
            (count, wait)
        };
        let waits = ["x", "y", "x"].map(wait);
        let woken = || waits.each_ref().map(|(count, _)| count.0.load(Ordering::Relaxed));
        let (publisher, _) = hub.publish(key("x"), &config.vhosts[0], Account::unlimited()).unwrap();
        assert_eq!(woken(), [1, 0, 1]);
        let (_other, _) = hub.publish(key("z"), &config.vhosts[0], Account::unlimited()).unwrap();
        hub.expire(publisher.stream(), publisher.leave().unwrap());
        assert_eq!((woken(), hub.waiting()), ([1, 0, 1], 3));
        drop(waits);
        assert_eq!(hub.waiting(), 0);
        assert!(hub.state.lock().waiting.is_empty(), "nothing is kept of streams that nobody waits for");
    }

    /// A source that knows no stream named `none`, and notes whom it hears of.
    #[derive(Debug, Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Supply for Notes {
        fn want(&self, key: &StreamKey, client: supply::Waiting<'_>) -> Result<bool, SupplyError> {
            self.0.lock().push(format!("{key} {}", client.address));
            match &*key.stream {
                "none" => Err(SupplyError::NotFound),
                stream => Ok(stream != "local"),
            }
        }
    }

    #[test]
    fn the_supply_learns_of_each_client_and_its_error_reaches_those_who_wait() {
        let config = Config::parse("[vhost.a]\n", "remuxd.toml").unwrap();
        let (hub, notes) = (Hub::new(), Arc::<Notes>::default());
        hub.set_supply(notes.clone());
        let key = |stream| StreamKey::new("a", "live", stream);
        let address = [10, 0, 0, 1].into();
        let want = |stream| hub.want(key(stream), supply::Waiting { address, hops: "" });
        let node = |stream| hub.want(key(stream), supply::Waiting { address, hops: "n/a" });
        let poll = |wait: &mut StreamWait| Pin::new(wait).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(want("none").unwrap_err(), SupplyError::NotFound);
        assert_eq!(node("local").unwrap_err(), SupplyError::NotFound, "a node does not wait");
        assert!(want("local").is_ok() && node("x").is_ok());
        assert_eq!(hub.waiting(), 0);
        notes.0.lock().clear();
        let (mut first, mut other) = (want("x").unwrap(), want("y").unwrap());
        hub.fail(&key("x"), SupplyError::Unreachable);
        let mut second = want("x").unwrap();
        assert!(matches!(poll(&mut first), Poll::Ready(Err(SupplyError::Unreachable))));
        assert!(poll(&mut second).is_pending() && poll(&mut other).is_pending());
        let (_publisher, _) = hub.publish(key("x"), &config.vhosts[0], Account::unlimited()).unwrap();
        assert!(matches!(poll(&mut second), Poll::Ready(Ok(_))));
        let mut third = want("x").unwrap();
        assert!(matches!(poll(&mut third), Poll::Ready(Ok(_))));
        let expected = ["a/live/x", "a/live/y", "a/live/x"].map(|key| format!("{key} 10.0.0.1"));
        assert_eq!(*notes.0.lock(), expected, "a live stream needs no supply");
    }

    /// Notes for each line of the log whether the hub was locked.
    struct Lines(Arc<Hub>, Mutex<Vec<bool>>);

    impl Subscriber for Lines {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, _: &Event<'_>) {
            self.1.lock().push(self.0.state.is_locked());
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn no_line_is_written_under_the_lock() {
        let config = Config::parse("[vhost.a]\n", "remuxd.toml").unwrap();
        let hub = Hub::new();
        let lines = Arc::new(Lines(hub.clone(), Mutex::default()));
        tracing::subscriber::with_default(lines.clone(), || {
            let key = StreamKey::new("a", "live", "x");
            let (publisher, _) = hub.publish(key, &config.vhosts[0], Account::unlimited()).unwrap();
            hub.expire(publisher.stream(), publisher.leave().unwrap());
        });
        assert_eq!(*lines.1.lock(), [false], "ended");
    }
}

//! A viewer of any format that keeps the bytes of its response, on a thread of its own.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::host::Host;
use crate::http::Request;

/// A response that is being read.
#[derive(Debug)]
pub struct Fetch {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    status: Option<u16>,
    content_type: Option<String>,
    bytes: Vec<u8>,
    /// Whether the end of the body was marked; `None` while the response continues.
    whole: Option<bool>,
}

/// A complete response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The status code; 0 when there was no response.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// The body.
    pub bytes: Vec<u8>,
    /// Whether the end of the body was marked.
    pub whole: bool,
}

impl Fetch {
    /// Requests a path. The host may make it wait for a publisher.
    #[must_use]
    pub fn start(host: &Host, path: &str) -> Fetch {
        let address = host.http;
        let shared = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let (request, sink) = (Request::get(path), Arc::clone(&shared));
        std::thread::spawn(move || {
            let (state, changed) = &*sink;
            let set = |change: &mut dyn FnMut(&mut State)| {
                change(&mut state.lock().expect("no holder panics"));
                changed.notify_all();
            };
            let Ok(mut response) = request.send(address) else {
                return set(&mut |state| state.whole = Some(false));
            };
            set(&mut |state| {
                state.status = Some(response.status);
                state.content_type = response.header("content-type").map(str::to_owned);
            });
            let mut buffer = vec![0; 65536];
            while let Ok(length @ 1..) = response.body.read(&mut buffer) {
                set(&mut |state| state.bytes.extend_from_slice(&buffer[..length]));
            }
            set(&mut |state| state.whole = Some(response.body.is_whole()));
        });
        Fetch { shared }
    }

    /// Waits until `fact` returns a value for the body so far of a 200 response, and returns that value.
    ///
    /// # Panics
    /// When the response ends before, or `within` passes.
    pub fn wait_for<T>(&self, within: Duration, what: &str, mut fact: impl FnMut(&[u8]) -> Option<T>) -> T {
        let deadline = Instant::now() + within;
        let (state, changed) = &*self.shared;
        let mut state = state.lock().expect("no holder panics");
        loop {
            let (status, length) = (state.status, state.bytes.len());
            if status == Some(200)
                && let Some(result) = fact(&state.bytes)
            {
                return result;
            }
            assert!(state.whole.is_none(), "{what}: ended before ({status:?}, {length} bytes)");
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "not within {within:?}: {what} ({status:?}, {length} bytes)");
            state = changed.wait_timeout(state, left).expect("no holder panics").0;
        }
    }

    /// Waits for `count` bytes of the body of a 200 response.
    ///
    /// # Panics
    /// As [`Fetch::wait_for`].
    pub fn wait_bytes(&self, count: usize, within: Duration) {
        self.wait_for(within, &format!("{count} bytes"), |bytes| (bytes.len() >= count).then_some(()));
    }

    /// Waits for the end of the response, and returns its body.
    ///
    /// # Panics
    /// When the status is not 200, or the response does not end cleanly within this time.
    #[must_use]
    pub fn finish(self, within: Duration) -> Vec<u8> {
        let fetched = self.outcome(within);
        assert!(fetched.status == 200 && fetched.whole, "{} {}", fetched.status, fetched.bytes.len());
        fetched.bytes
    }

    /// Waits for the end of any response.
    ///
    /// # Panics
    /// When `within` passes before.
    #[must_use]
    pub fn outcome(self, within: Duration) -> Fetched {
        let (state, changed) = &*self.shared;
        let state = state.lock().expect("no holder panics");
        let (state, timeout) = changed
            .wait_timeout_while(state, within, |state| state.whole.is_none())
            .expect("no holder panics");
        assert!(!timeout.timed_out(), "the response does not end within {within:?}");
        Fetched {
            status: state.status.unwrap_or(0),
            content_type: state.content_type.clone(),
            bytes: state.bytes.clone(),
            whole: state.whole == Some(true),
        }
    }
}

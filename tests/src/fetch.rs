//! A viewer that keeps the bytes of a response, on a thread of its own.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::host::Host;
use crate::http::Request;

/// A response that is being read.
#[derive(Debug)]
pub struct Fetch {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// How it ended: well, or in words.
    end: Option<Result<(), String>>,
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().expect("no holder panics"));
        self.changed.notify_all();
    }
}

impl Fetch {
    /// Asks for a path. The host may let it wait for a publisher.
    #[must_use]
    pub fn start(host: &Host, path: &str) -> Fetch {
        let (shared, address, request) = (Arc::new(Shared::default()), host.http, Request::get(path));
        let reader = Arc::clone(&shared);
        std::thread::spawn(move || {
            let end = read(&request, address, &reader);
            reader.change(|state| state.end = Some(end));
        });
        Fetch { shared }
    }

    /// Waits until there are `count` bytes.
    ///
    /// # Panics
    /// When the response ends before, or `within` passes.
    pub fn wait_bytes(&self, count: usize, within: Duration) {
        let state = self.shared.state.lock().expect("no holder panics");
        let waits = |state: &mut State| state.bytes.len() < count && state.end.is_none();
        let (state, _) =
            self.shared.changed.wait_timeout_while(state, within, waits).expect("no holder panics");
        assert!(state.bytes.len() >= count, "{} bytes, {:?}", state.bytes.len(), state.end);
    }

    /// Waits for the end of the response, and returns its body.
    ///
    /// # Panics
    /// When it does not end well within this time.
    #[must_use]
    pub fn finish(self, within: Duration) -> Vec<u8> {
        let state = self.shared.state.lock().expect("no holder panics");
        let (mut state, _) = self
            .shared
            .changed
            .wait_timeout_while(state, within, |state| state.end.is_none())
            .expect("no holder panics");
        assert_eq!(state.end, Some(Ok(())), "after {} bytes", state.bytes.len());
        std::mem::take(&mut state.bytes)
    }
}

fn read(request: &Request, address: std::net::SocketAddr, shared: &Shared) -> Result<(), String> {
    let mut response = request.send(address).map_err(|error| error.to_string())?;
    if response.status != 200 {
        return Err(format!("status {}", response.status));
    }
    let mut buffer = vec![0; 65536];
    loop {
        match response.body.read(&mut buffer) {
            Ok(0) if response.body.is_whole() => return Ok(()),
            Ok(0) => return Err("cut".into()),
            Ok(length) => shared.change(|state| state.bytes.extend_from_slice(&buffer[..length])),
            Err(error) => return Err(error.to_string()),
        }
    }
}

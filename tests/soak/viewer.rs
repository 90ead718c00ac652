//! Viewers that check what they get.

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use remuxd_tests::flv::Tag;
use remuxd_tests::host::Host;
use remuxd_tests::http::Request;
use remuxd_tests::rtmp::{Connection, USER_CONTROL, split_key};
use remuxd_tests::socket::connect_narrow;
use remuxd_tests::websocket;

use crate::checker::{Checker, Loss};
use crate::feed::Feed;

/// How a viewer watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Http(&'static str),
    WebSocket,
    Rtmp,
    /// FLV over HTTP, with small buffers and pauses.
    Slow,
}

impl Kind {
    /// The kinds that must get everything.
    pub const HEALTHY: [Kind; 5] =
        [Kind::Http("flv"), Kind::WebSocket, Kind::Rtmp, Kind::Http("ts"), Kind::Http("aac")];

    fn extension(self) -> &'static str {
        match self {
            Kind::Http(extension) => extension,
            _ => "flv",
        }
    }
}

/// A viewer on a thread of its own.
pub struct Viewer {
    pub kind: Kind,
    pub feed: Arc<Feed>,
    shared: Arc<Shared>,
    socket: TcpStream,
    thread: JoinHandle<Seen>,
}

/// The result of a viewer.
#[derive(Debug)]
pub struct Seen {
    pub checker: Checker,
    pub longest_wait: Duration,
    /// The first fault; `None` if it left, or the stream ended cleanly.
    pub fault: Option<String>,
}

#[derive(Default)]
struct Shared {
    leaves: AtomicBool,
    last: Arc<AtomicU32>,
    ended: AtomicBool,
}

impl Viewer {
    /// Connects and watches until the end of the stream, or until [`leave`](Self::leave).
    pub fn start(host: &Host, feed: &Arc<Feed>, kind: Kind) -> io::Result<Viewer> {
        let address = if kind == Kind::Rtmp { host.rtmp } else { host.http };
        let socket = match kind {
            Kind::Slow => connect_narrow(address),
            _ => TcpStream::connect(address)?,
        };
        socket.set_nodelay(true)?;
        let (own, shared) = (socket.try_clone()?, Arc::new(Shared::default()));
        let (theirs, feed_of) = (shared.clone(), feed.clone());
        let thread = thread::spawn(move || watch(own, address, &feed_of, kind, &theirs));
        Ok(Viewer { kind, feed: feed.clone(), shared, socket, thread })
    }

    /// Number of the last video frame; of AAC, the one of its last audio frame.
    pub fn last(&self) -> u32 {
        self.shared.last.load(Ordering::SeqCst)
    }

    pub fn has_ended(&self) -> bool {
        self.shared.ended.load(Ordering::SeqCst)
    }

    /// Closes the connection.
    pub fn leave(self) -> Seen {
        self.shared.leaves.store(true, Ordering::SeqCst);
        // The host may have closed it.
        let _ = self.socket.shutdown(Shutdown::Both);
        self.finish()
    }

    /// Waits for the end of the stream.
    pub fn finish(self) -> Seen {
        self.thread.join().expect("a viewer does not panic")
    }
}

fn watch(socket: TcpStream, address: SocketAddr, feed: &Feed, kind: Kind, shared: &Shared) -> Seen {
    let loss = if kind == Kind::Slow { Loss::BeforeKeyframes } else { Loss::Nothing };
    let loss = if kind == Kind::Http("hostile") { Loss::BeforeKeyframes } else { loss };
    let mut watching = Watching {
        checker: Checker::new(kind.extension(), feed.step, loss),
        feed,
        shared,
        waits: loss == Loss::Nothing,
        last_read: None,
        longest_wait: Duration::ZERO,
    };
    let result = match kind {
        Kind::Rtmp => watching.rtmp(socket),
        Kind::WebSocket => watching.websocket(socket, address),
        Kind::Http(_) | Kind::Slow => watching.http(socket, kind),
    };
    let left = shared.leaves.load(Ordering::SeqCst);
    let result = result.and_then(|()| watching.checker.finish());
    // A viewer that leaves ends its connection itself.
    let error = result.err().filter(|error| !left || error.starts_with(VIOLATION));
    let error = watching.violation().or(error);
    let fault = error.map(|error| format!("{kind:?} viewer of {}: {error}", feed.key));
    shared.ended.store(true, Ordering::SeqCst);
    Seen { checker: watching.checker, longest_wait: watching.longest_wait, fault }
}

struct Watching<'a> {
    checker: Checker,
    feed: &'a Feed,
    shared: &'a Shared,
    /// Whether the publisher has to wait for it from its next frame on.
    waits: bool,
    last_read: Option<Instant>,
    longest_wait: Duration,
}

/// A violation, in contrast to an error of a connection, counts for a viewer that leaves too.
const VIOLATION: &str = "violation: ";

impl Watching<'_> {
    fn violation(&self) -> Option<String> {
        let returns = self.feed.returns.load(Ordering::SeqCst);
        let seams = self.checker.video.seams.max(self.checker.audio.seams);
        (seams > returns && self.checker.video.gaps == 0)
            .then(|| format!("{seams} seams after {returns} returns of the publisher"))
    }

    fn progress(&mut self, result: Result<(), String>) -> Result<(), String> {
        result.map_err(|error| format!("{VIOLATION}{error}"))?;
        let last = self.checker.video.last.or(self.checker.audio.last.map(|number| number / 2));
        if let Some(last) = last {
            self.shared.last.store(last, Ordering::SeqCst);
            if std::mem::take(&mut self.waits) {
                self.feed.wait_for_viewer(&self.shared.last);
            }
        }
        let waited = self.last_read.replace(Instant::now()).map(|last| last.elapsed());
        self.longest_wait = self.longest_wait.max(waited.unwrap_or_default());
        Ok(())
    }

    fn http(&mut self, socket: TcpStream, kind: Kind) -> Result<(), String> {
        let path = format!("/{}.{}", self.feed.key, kind.extension());
        let path = if kind == Kind::Slow { format!("/{}.flv", self.feed.key) } else { path };
        let mut response = Request::get(&path).send_over(socket).map_err(|error| error.to_string())?;
        if response.status != 200 {
            return Err(format!("status {}", response.status));
        }
        let mut buffer = vec![0; if kind == Kind::Slow { 1024 } else { 65536 }];
        loop {
            let length = response.body.read(&mut buffer).map_err(|error| error.to_string())?;
            if length == 0 {
                return if response.body.is_whole() { Ok(()) } else { Err("cut off".into()) };
            }
            let result = self.checker.push(&buffer[..length]);
            self.progress(result)?;
            if kind == Kind::Slow {
                thread::sleep(Duration::from_millis(50));
            }
        }
    }

    fn websocket(&mut self, socket: TcpStream, address: SocketAddr) -> Result<(), String> {
        socket.set_read_timeout(Some(Duration::from_secs(60))).map_err(|error| error.to_string())?;
        let url = format!("ws://{address}/{}.flv", self.feed.key);
        let (mut socket, _) = websocket::open_over(socket, &url, &[]).map_err(|error| error.to_string())?;
        loop {
            match socket.read().map_err(|error| error.to_string())? {
                tungstenite::Message::Binary(bytes) => {
                    let result = self.checker.push(&bytes);
                    self.progress(result)?;
                }
                tungstenite::Message::Close(frame) => {
                    // Sends the answer; the host may be gone by then.
                    let _ = socket.flush();
                    let code = frame.map(|frame| u16::from(frame.code));
                    return if code == Some(1000) { Ok(()) } else { Err(format!("close code {code:?}")) };
                }
                _ => {}
            }
        }
    }

    fn rtmp(&mut self, socket: TcpStream) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        let (app, name) = split_key(&self.feed.key);
        let mut connection = Connection::over(socket).map_err(text)?;
        connection.socket().set_read_timeout(Some(Duration::from_secs(60))).map_err(text)?;
        connection.connect(app).map_err(text)?;
        let stream = connection.create_stream().map_err(text)?;
        let status = connection.play(stream, name).map_err(text)?;
        if status != "NetStream.Play.Start" {
            return Err(status);
        }
        loop {
            let message = connection.read().map_err(text)?;
            if message.kind == USER_CONTROL && message.payload.get(..2) == Some(&[0, 1]) {
                return Ok(());
            }
            let tag = Tag { kind: message.kind, timestamp: message.timestamp, payload: message.payload };
            let result = self.checker.tag(&tag);
            self.progress(result)?;
        }
    }
}

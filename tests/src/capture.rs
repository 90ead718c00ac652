//! A viewer that records its stream, on a thread of its own.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tungstenite::WebSocket;
use tungstenite::handshake::client::Response;

use crate::flv::{AUDIO, Header, Reader, SCRIPT, Tag, VIDEO};
use crate::host::Host;
use crate::http::Request;
use crate::rtmp::{Connection, Message, USER_CONTROL, split_key, with_token};
use crate::{tls, websocket};

/// The end of a stream as its viewer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The protocol's own end: last chunk, close frame 1000, stream EOF or unpublish notice.
    Clean,
    /// Any other end: a reset, a close without notice, another close code, bytes that are not FLV.
    Broken(String),
}

/// A finished capture.
#[derive(Clone, Debug)]
pub struct Recording {
    /// An FLV file: the bytes as served, or written from the messages of RTMP play.
    pub bytes: Vec<u8>,
    /// The FLV header.
    pub header: Option<Header>,
    /// The tags.
    pub tags: Vec<Tag>,
    /// Bytes after the last whole tag.
    pub unfinished: usize,
    /// The end.
    pub end: End,
    /// The longest time between two reads with bytes.
    pub longest_wait: Duration,
}

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    recorder: Arc<Recorder>,
}

/// The recording so far, which the capture's thread writes and the test reads.
#[derive(Debug, Default)]
struct Recorder {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    reader: Reader,
    end: Option<End>,
    last_read: Option<Instant>,
    longest_wait: Duration,
}

impl Recorder {
    fn push(&self, bytes: &[u8]) -> Result<(), String> {
        let mut state = self.state.lock().expect("no holder panics");
        state.bytes.extend_from_slice(bytes);
        let waited = state.last_read.replace(Instant::now()).map(|last| last.elapsed());
        state.longest_wait = state.longest_wait.max(waited.unwrap_or_default());
        let read = state.reader.push(bytes);
        self.changed.notify_all();
        read
    }
}

impl Capture {
    /// Captures over HTTP/1.1 from the default mount. Waits for a publisher as long as the host allows. A response other than
    /// 200 ends the capture as [`End::Broken`].
    #[must_use]
    pub fn http(host: &Host, key: &str) -> Capture {
        Capture::request(host, Request::get(&with_token(&host.path(key))))
    }

    /// Captures the response to a request.
    #[must_use]
    pub fn request(host: &Host, request: Request) -> Capture {
        let address = host.http;
        Capture::start(move |recorder| {
            let mut response = match request.send(address) {
                Ok(response) if response.status == 200 => response,
                other => return End::Broken(format!("{other:?}")),
            };
            let end = pump(&mut response.body, recorder);
            if end == End::Clean && !response.body.is_whole() { End::Broken("cut".into()) } else { end }
        })
    }

    /// Captures over WebSocket from the default mount.
    #[must_use]
    pub fn websocket(host: &Host, key: &str) -> Capture {
        let (address, path) = (host.http, host.path(key));
        Capture::start(move |recorder| record_messages(websocket::open(address, &path, &[]), recorder))
    }

    /// As [`Capture::websocket`], over TLS.
    ///
    /// # Panics
    /// When HTTPS does not listen.
    #[must_use]
    pub fn wss(host: &Host, key: &str) -> Capture {
        let address = host.https.expect("the configuration enables HTTPS");
        Capture::websocket_over(move || tls::connect(address, None), host.wss_url(key))
    }

    /// Captures over WebSocket from any URL, on a connection that `connect` opens.
    #[must_use]
    pub fn websocket_over<S: Read + Write>(
        connect: impl FnOnce() -> io::Result<S> + Send + 'static,
        url: String,
    ) -> Capture {
        Capture::start(move |recorder| match connect() {
            Ok(socket) => record_messages(websocket::open_over(socket, &url, &[]), recorder),
            Err(error) => End::Broken(error.to_string()),
        })
    }

    /// Captures over RTMP, with the kit's own client.
    #[must_use]
    pub fn rtmp(host: &Host, key: &str) -> Capture {
        let (address, key) = (host.rtmp, key.to_owned());
        Capture::start(move |recorder| match play(address, &key, recorder) {
            Ok(()) => End::Clean,
            Err(error) => End::Broken(error.to_string()),
        })
    }

    /// Captures the FLV that a player writes to its standard output. Its exit code is ignored: players differ in
    /// which end of a live stream they report as a failure.
    ///
    /// # Panics
    /// When the player is not installed.
    #[must_use]
    pub fn command(mut command: Command) -> Capture {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Capture::start(move |recorder| {
            let mut stdout = child.stdout.take().expect("stdout is a pipe");
            let end = pump(&mut stdout, recorder);
            // A player that wrote no FLV may still run.
            let _ = child.kill();
            let _ = child.wait();
            end
        })
    }

    fn start(record: impl FnOnce(&Recorder) -> End + Send + 'static) -> Capture {
        let recorder = Arc::new(Recorder::default());
        let writer = Arc::clone(&recorder);
        std::thread::spawn(move || {
            let end = record(&writer);
            writer.state.lock().expect("no holder panics").end = Some(end);
            writer.changed.notify_all();
        });
        Capture { recorder }
    }

    /// Waits for the start of the stream: `NetStream.Play.Start` over RTMP, the FLV header over HTTP and WebSocket.
    ///
    /// # Panics
    /// As [`Capture::wait_until`].
    pub fn wait_started(&self, within: Duration) {
        let state = self.recorder.state.lock().expect("no holder panics");
        let pending = |state: &mut State| state.reader.header().is_none() && state.end.is_none();
        let waited = self.recorder.changed.wait_timeout_while(state, within, pending);
        let (state, _) = waited.expect("no holder panics");
        assert!(state.reader.header().is_some(), "no start within {within:?}: {:?}", state.end);
    }

    /// Waits until the tags so far satisfy `fact`.
    ///
    /// # Panics
    /// When the stream ends before, or `within` passes.
    pub fn wait_until(&self, within: Duration, what: &str, mut fact: impl FnMut(&[Tag]) -> bool) {
        let deadline = Instant::now() + within;
        let mut state = self.recorder.state.lock().expect("no holder panics");
        while !fact(state.reader.tags()) {
            let tags = state.reader.tags().len();
            assert!(state.end.is_none(), "{what}: the stream ended before, {:?}, {tags} tags", state.end);
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "not within {within:?}: {what} ({tags} tags)");
            state = self.recorder.changed.wait_timeout(state, left).expect("no holder panics").0;
        }
    }

    /// Waits for `count` access units.
    ///
    /// # Panics
    /// As [`Capture::wait_until`].
    pub fn wait_access_units(&self, count: usize, within: Duration) {
        self.wait_until(within, &format!("{count} access units"), |tags| {
            tags.iter().filter(|tag| tag.access_unit().is_some()).count() >= count
        });
    }

    /// Returns the tags so far.
    ///
    /// # Panics
    /// Never in practice.
    #[must_use]
    pub fn tags(&self) -> Vec<Tag> {
        self.recorder.state.lock().expect("no holder panics").reader.tags().to_vec()
    }

    /// Returns the number of bytes so far.
    ///
    /// # Panics
    /// Never in practice.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.recorder.state.lock().expect("no holder panics").bytes.len()
    }

    /// Returns the FLV header, if it has arrived.
    ///
    /// # Panics
    /// Never in practice.
    #[must_use]
    pub fn header(&self) -> Option<Header> {
        self.recorder.state.lock().expect("no holder panics").reader.header()
    }

    /// Returns the end of the stream, if it has ended.
    ///
    /// # Panics
    /// Never in practice.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.recorder.state.lock().expect("no holder panics").end.clone()
    }

    /// Waits for the end of the stream.
    ///
    /// # Panics
    /// When `within` passes before.
    #[must_use]
    pub fn finish(self, within: Duration) -> Recording {
        let state = self.recorder.state.lock().expect("no holder panics");
        let (state, timeout) = self
            .recorder
            .changed
            .wait_timeout_while(state, within, |state| state.end.is_none())
            .expect("no holder panics");
        let tags = state.reader.tags();
        assert!(!timeout.timed_out(), "the stream does not end within {within:?} ({} tags)", tags.len());
        Recording {
            bytes: state.bytes.clone(),
            header: state.reader.header(),
            tags: tags.to_vec(),
            unfinished: state.reader.unfinished(),
            end: state.end.clone().expect("waited for"),
            longest_wait: state.longest_wait,
        }
    }
}

fn pump(from: &mut impl Read, recorder: &Recorder) -> End {
    let mut buffer = vec![0; 65536];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return End::Clean,
            Ok(length) => {
                if let Err(error) = recorder.push(&buffer[..length]) {
                    return End::Broken(error);
                }
            }
            Err(error) => return End::Broken(error.to_string()),
        }
    }
}

/// Records the messages of a WebSocket until it is closed and the connection has ended.
fn record_messages<S: Read + Write>(
    opened: Result<(WebSocket<S>, Response), tungstenite::Error>,
    recorder: &Recorder,
) -> End {
    let mut socket = match opened {
        Ok((socket, _)) => socket,
        Err(error) => return End::Broken(format!("{error:?}")),
    };
    loop {
        match socket.read() {
            Ok(tungstenite::Message::Binary(bytes)) => {
                if let Err(error) = recorder.push(&bytes) {
                    return End::Broken(error);
                }
            }
            Ok(tungstenite::Message::Close(Some(frame))) if u16::from(frame.code) == 1000 => {
                // Sends the answer; the host may be gone by then.
                let _ = socket.flush();
                return match socket.get_mut().read(&mut [0]) {
                    Ok(0) => End::Clean,
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => End::Clean,
                    other => End::Broken(format!("after the close frame: {other:?}")),
                };
            }
            Ok(tungstenite::Message::Ping(_) | tungstenite::Message::Pong(_)) => {}
            other => return End::Broken(format!("{other:?}")),
        }
    }
}

/// Plays until the host ends the stream.
fn play(address: std::net::SocketAddr, key: &str, recorder: &Recorder) -> io::Result<()> {
    let (app, name) = split_key(key);
    let mut connection = Connection::open(address)?;
    connection.connect(app)?;
    let stream = connection.create_stream()?;
    let status = connection.play(stream, &with_token(name))?;
    if status != "NetStream.Play.Start" {
        return Err(io::Error::other(status));
    }
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    recorder.push(&crate::flv::write(Header { audio: true, video: true }, &[])).map_err(invalid)?;
    loop {
        let message = connection.read()?;
        if is_end(&message) {
            return Ok(());
        }
        let sample_access = message.payload.starts_with(b"\x02\x00\x11|RtmpSampleAccess");
        if matches!(message.kind, AUDIO | VIDEO | SCRIPT) && !sample_access {
            let tag = Tag { kind: message.kind, timestamp: message.timestamp, payload: message.payload };
            let file = crate::flv::write(Header { audio: true, video: true }, &[tag]);
            recorder.push(&file[13..]).map_err(invalid)?;
        }
    }
}

/// Returns whether a message ends the stream: stream EOF (user control 1), or the status that SRS and nginx-rtmp send.
fn is_end(message: &Message) -> bool {
    let eof = message.kind == USER_CONTROL && message.payload.get(..2) == Some(&[0, 1]);
    let ended = ["NetStream.Play.UnpublishNotify", "NetStream.Play.Stop", "NetStream.Play.Complete"];
    eof || message.status().is_some_and(|code| ended.contains(&code.as_str()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::clip::Clip;
    use crate::compare::{Coverage, compare};
    use crate::flv::read_file;
    use crate::tool::Ffmpeg;
    use crate::wait::{SOON, wait_until};

    #[test]
    fn the_kits_own_player_speaks_rtmp() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Ffmpeg::Five.command();
        server.arg("-i").arg(Clip::H264Aac.path()).args(["-c", "copy", "-f", "flv", "-listen", "1"]);
        let mut server = server.arg(format!("rtmp://127.0.0.1:{port}/live/x")).spawn().unwrap();
        let listening = format!(":{port:04X} 00000000:0000 0A");
        wait_until(SOON, "ffmpeg listens", || {
            std::fs::read_to_string("/proc/net/tcp").is_ok_and(|table| table.contains(&listening))
        });
        let recorder = Recorder::default();
        let end = play(([127, 0, 0, 1], port).into(), "live/x", &recorder);
        server.wait().unwrap();
        // This server closes without a notice.
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let state = recorder.state.lock().unwrap();
        compare(&read_file(&Clip::H264Aac.path()), state.reader.tags(), Coverage::Whole).unwrap();
    }
}

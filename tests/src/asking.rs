//! Asking for a stream over any protocol: whether the host admits the client, and what it says otherwise.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::Command;

use crate::host::Host;
use crate::http::Request;
use crate::rtmp::{Connection, split_key};
use crate::tool::Ffmpeg;
use crate::{tls, websocket};

/// What a client asks for, and over which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "protocols")]
pub enum Ask {
    RtmpPublish,
    RtmpsPublish,
    RtmpPlay,
    RtmpsPlay,
    Http,
    Https,
    Head,
    WebSocket,
    SecureWebSocket,
}

/// All ways to ask for a stream.
pub const ALL: [Ask; 9] = [
    Ask::RtmpPublish,
    Ask::RtmpsPublish,
    Ask::RtmpPlay,
    Ask::RtmpsPlay,
    Ask::Http,
    Ask::Https,
    Ask::Head,
    Ask::WebSocket,
    Ask::SecureWebSocket,
];

impl Ask {
    /// Whether it asks to publish.
    #[must_use]
    pub fn publishes(self) -> bool {
        matches!(self, Ask::RtmpPublish | Ask::RtmpsPublish)
    }

    /// Asks for `key` with `query`, which may be empty, as a player in the page `page` unless that is empty. Returns the
    /// status of the answer: a code of RTMP or a status of HTTP.
    ///
    /// # Panics
    /// When the host does not answer.
    #[must_use]
    pub fn status(self, host: &Host, key: &str, query: &str, page: &str) -> String {
        let query = if query.is_empty() { String::new() } else { format!("?{query}") };
        let path = format!("{}{query}", host.path(key));
        let tls = |address: Option<_>| tls::connect(address.expect("TLS is enabled"), Some("127.0.0.1"));
        let rtmp = || TcpStream::connect(host.rtmp).expect("the host listens");
        match self {
            Ask::RtmpPublish | Ask::RtmpPlay => self.over_rtmp(rtmp(), "rtmp", key, &query, page),
            Ask::RtmpsPublish | Ask::RtmpsPlay => {
                self.over_rtmp(tls(host.rtmps).expect("a handshake"), "rtmps", key, &query, page)
            }
            Ask::Http | Ask::Head => {
                let request = Request::new(if self == Ask::Head { "HEAD" } else { "GET" }, &path);
                let request = if page.is_empty() { request } else { request.header("Referer", page) };
                request.send(host.http).expect("the host answers").status.to_string()
            }
            Ask::Https => {
                let mut socket = tls(host.https).expect("a handshake");
                let referer = if page.is_empty() { String::new() } else { format!("Referer: {page}\r\n") };
                let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{referer}\r\n");
                socket.write_all(head.as_bytes()).expect("the host reads");
                let mut answer = [0; 12];
                socket.read_exact(&mut answer).expect("the host answers");
                String::from_utf8_lossy(&answer[9..]).into_owned()
            }
            Ask::WebSocket => {
                let socket = TcpStream::connect(host.http).expect("the host listens");
                over_websocket(socket, &format!("ws://{}{path}", host.http), page)
            }
            Ask::SecureWebSocket => {
                over_websocket(tls(host.https).expect("a handshake"), &format!("wss://localhost{path}"), page)
            }
        }
    }

    fn over_rtmp(
        self,
        socket: impl Read + Write,
        scheme: &str,
        key: &str,
        query: &str,
        page: &str,
    ) -> String {
        let (app, name) = split_key(key);
        let ask = || -> io::Result<String> {
            let mut connection = Connection::handshake(socket, format!("{scheme}://127.0.0.1"))?;
            connection.connect_from(app, page)?;
            let stream = connection.create_stream()?;
            let name = format!("{name}{query}");
            if self.publishes() { connection.publish(stream, &name) } else { connection.play(stream, &name) }
        };
        ask().expect("the host answers")
    }
}

/// Asserts that ffmpeg and rtmpdump fail and show their users why: ffmpeg that publishes to the first URL the text beside it, ffmpeg
/// that plays the second one that beside it, and rtmpdump the status.
///
/// # Panics
/// When they do not.
pub fn show_refusals((publish, refused): (&str, &str), (play, denied): (&str, &str)) {
    let mut encoder = Ffmpeg::Five.command();
    encoder
        .args(["-v", "warning", "-f", "lavfi", "-i", "sine", "-t", "1", "-c:a", "aac", "-f", "flv", publish]);
    let mut player = Ffmpeg::Five.command();
    player.args(["-v", "warning", "-i", play, "-f", "null", "-"]);
    let mut rtmpdump = Command::new("rtmpdump");
    rtmpdump.args(["--live", "--rtmp", play, "--flv", "/dev/null"]);
    for (mut command, shown) in [(encoder, refused), (player, denied), (rtmpdump, "NetStream.Play.Failed")] {
        let output = command.output().expect("it is installed");
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{command:?}: {printed}");
        assert!(printed.contains(shown), "{command:?}: {printed}");
    }
}

fn over_websocket(socket: impl Read + Write, url: &str, page: &str) -> String {
    let headers: &[_] = if page.is_empty() { &[] } else { &[("referer", page)] };
    match websocket::open_over(socket, url, headers) {
        Ok((_, response)) => response.status().as_u16().to_string(),
        Err(tungstenite::Error::Http(response)) => response.status().as_u16().to_string(),
        Err(error) => panic!("the host answers: {error}"),
    }
}

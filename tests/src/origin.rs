//! Origins of the tests' own, which misbehave as a test wants.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::flv::{self, Header, Tag};
use crate::rtmp::chunk::{ChunkReader, chunks};
use crate::rtmp::{Amf, COMMAND, Message, amf};

/// A server that serves each connection as its test says, on a thread of its own.
#[derive(Debug)]
pub struct Origin {
    /// Its address.
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Origin {
    /// Starts a server. A connection ends when `serve` returns.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (connections, serve) = (Arc::<AtomicUsize>::default(), Arc::new(serve));
        let count = Arc::clone(&connections);
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::Relaxed);
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(socket));
            }
        });
        Origin { address, connections }
    }

    /// Starts a server of HTTP that answers each request with a response of these bytes, and closes.
    #[must_use]
    pub fn answering(response: &str) -> Origin {
        let response = response.to_owned();
        Origin::start(move |mut socket| {
            if read_head(&mut socket).is_ok() {
                let _ = socket.write_all(response.as_bytes());
            }
        })
    }

    /// Starts a server of RTMP that leaves each connection to `serve` after the handshake.
    #[must_use]
    pub fn after_handshake(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Origin {
        Origin::start(move |mut socket| {
            if shake_hands(&mut socket).is_ok() {
                serve(socket);
            }
        })
    }

    /// Starts a server of RTMP that redirects each client to `url`, as SRS does.
    #[must_use]
    pub fn redirecting(url: impl Fn() -> String + Send + Sync + 'static) -> Origin {
        Origin::after_handshake(move |socket| {
            let _ = redirect(socket, &url());
        })
    }

    /// Starts a server of RTMP that accepts each publisher, and closes the connection.
    #[must_use]
    pub fn leaving_publishers() -> Origin {
        Origin::after_handshake(|socket| {
            let _ = accept_and_leave(socket);
        })
    }

    /// Returns the number of connections so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Reads the head of a request, and returns it.
///
/// # Errors
/// The socket's.
pub fn read_head(socket: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// A response that sends FLV in chunks.
#[derive(Debug)]
pub struct FlvResponse {
    socket: TcpStream,
    header: Vec<u8>,
}

impl FlvResponse {
    /// Reads a request and sends the head of a response.
    ///
    /// # Errors
    /// The socket's.
    pub fn accept(mut socket: TcpStream) -> io::Result<FlvResponse> {
        read_head(&mut socket)?;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\nTransfer-Encoding: chunked\r\n\r\n";
        socket.write_all(head.as_bytes())?;
        let header = flv::write(Header { audio: true, video: true }, &[]);
        Ok(FlvResponse { socket, header })
    }

    /// Sends tags, each in chunks that end in the middle of it.
    ///
    /// # Errors
    /// The socket's.
    pub fn send(&mut self, tags: &[Tag]) -> io::Result<()> {
        let whole = flv::write(Header { audio: true, video: true }, tags);
        let header = std::mem::take(&mut self.header);
        self.send_raw(&header)?;
        let body = &whole[flv::write(Header { audio: true, video: true }, &[]).len()..];
        let (first, second) = body.split_at(body.len() / 2);
        self.send_raw(first)?;
        self.send_raw(second)
    }

    /// Sends any bytes, in one chunk.
    ///
    /// # Errors
    /// The socket's.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        self.socket.write_all(&chunk)
    }

    /// Waits until the client has left.
    pub fn wait_left(mut self) {
        let _ = self.socket.read(&mut [0]);
    }
}

/// Does the server's part of the handshake.
fn shake_hands(socket: &mut TcpStream) -> io::Result<()> {
    let mut c0_c1 = vec![0; 1 + 1536];
    socket.read_exact(&mut c0_c1)?;
    let s1 = vec![0; 1536];
    socket.write_all(&[&[3][..], &s1, &c0_c1[1..]].concat())?;
    socket.read_exact(&mut vec![0; 1536])
}

/// Answers the commands of a client, each by name and transaction, until it leaves or `answer` returns an error.
fn answer_commands(
    mut socket: TcpStream,
    answer: impl Fn(&str, f64, &mut TcpStream) -> io::Result<()>,
) -> io::Result<()> {
    let mut reader = ChunkReader::default();
    let mut buffer = [0; 4096];
    loop {
        let length = socket.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        reader.push(&buffer[..length]);
        while let Some(message) = reader.next()? {
            if let (1, Some(size)) = (message.kind, message.payload.first_chunk::<4>()) {
                reader.set_chunk_size(u32::from_be_bytes(*size) as usize);
            }
            let values = message.command().unwrap_or_default();
            if let Some(name) = values.first().and_then(Amf::text) {
                let transaction = values.get(1).and_then(Amf::number).unwrap_or_default();
                answer(name, transaction, &mut socket)?;
            }
        }
    }
}

/// Rejects the `connect` of a client with a redirect.
fn redirect(socket: TcpStream, url: &str) -> io::Result<()> {
    answer_commands(socket, |name, _, socket| match name {
        "connect" => socket.write_all(&chunks(3, &rejection(url), 128)),
        _ => Ok(()),
    })
}

/// Accepts a publisher, and closes the connection.
fn accept_and_leave(socket: TcpStream) -> io::Result<()> {
    answer_commands(socket, |name, transaction, socket| {
        let values = match name {
            "connect" => vec!["_result".into(), transaction.into(), Amf::Null],
            "createStream" => vec!["_result".into(), transaction.into(), Amf::Null, 1.0.into()],
            "publish" => {
                let info = vec![
                    ("level".into(), "status".into()),
                    ("code".into(), "NetStream.Publish.Start".into()),
                ];
                vec!["onStatus".into(), 0.0.into(), Amf::Null, Amf::Object(info)]
            }
            _ => return Ok(()),
        };
        let message = Message { kind: COMMAND, stream: 0, timestamp: 0, payload: amf::write(&values) };
        socket.write_all(&chunks(3, &message, 128))?;
        if name == "publish" { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    })
}

fn rejection(url: &str) -> Message {
    let ex = Amf::Object(vec![("code".into(), 302.0.into()), ("redirect".into(), url.into())]);
    let info = Amf::Object(vec![
        ("level".into(), "error".into()),
        ("code".into(), "NetConnection.Connect.Rejected".into()),
        ("description".into(), "RTMP 302 Redirect".into()),
        ("ex".into(), ex),
    ]);
    let payload = amf::write(&["_error".into(), 1.0.into(), Amf::Null, info]);
    Message { kind: COMMAND, stream: 0, timestamp: 0, payload }
}

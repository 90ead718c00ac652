//! A connection to Redis: commands of many callers, in one pipeline.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::resp::{RespError, RespReader, Value, shown, write_command};
use crate::cluster::connector::over_tls;
use crate::cluster::error::ConnectError;
use crate::cluster::socket::{Moved, Socket, poll_move};

/// Timeout of a connection, and of each reply.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// The most requests that wait for their turn.
const MAX_QUEUE: usize = 1024;

/// The most requests that wait for their replies.
const MAX_WAITING: usize = 4096;

/// The most notifications that wait to be taken. With more, the connection is closed, and its successor asks for what was missed.
const MAX_PUSHES: usize = 16_384;

/// Room for each read, in bytes.
const READ: usize = 16 << 10;

/// Codes of errors after which the server is of no use, or not any more: it has become a replica, starts, or lost its scripts.
const FATAL: [&str; 6] = ["READONLY", "LOADING", "MASTERDOWN", "NOAUTH", "WRONGPASS", "NOSCRIPT"];

/// A server of Redis, or a Sentinel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether it is reached over TLS.
    pub is_tls: bool,
}

/// A connection to a server. It is closed when all clones are dropped.
#[derive(Clone)]
pub struct Link {
    requests: mpsc::Sender<Request>,
}

/// The parts of a connection that its owner has.
pub struct LinkOwner {
    /// The connection, for requests.
    pub link: Link,
    /// Notifications: the elements of each.
    pub pushes: mpsc::Receiver<Vec<Value>>,
    /// Ends with the connection, and has the reason.
    pub task: JoinHandle<LinkError>,
}

/// The reason why a request has no reply. Culprit: operator, or the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// There is no connection.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It did not reply in time.
    #[error("no reply within {TIMEOUT:?}")]
    Timeout,
    /// It closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// It violates the protocol.
    #[error("{0}")]
    Resp(#[from] RespError),
    /// It replies with an error.
    #[error("{0}")]
    Refused(String),
    /// It replies with something else than it was asked for.
    #[error("the reply to {0} is not understood")]
    Reply(&'static str),
    /// It is older than version 6.2.
    #[error("Redis {0} is too old: 6.2 or later is needed")]
    Version(String),
    /// More notifications than can be taken.
    #[error("more than {MAX_PUSHES} notifications wait")]
    Flood,
}

/// Commands, and where their replies go.
struct Request {
    bytes: BytesMut,
    replies: usize,
    answer: oneshot::Sender<Vec<Value>>,
}

struct Waiting {
    replies: Vec<Value>,
    left: usize,
    answer: oneshot::Sender<Vec<Value>>,
    deadline: Instant,
}

impl Link {
    /// Connects to a server.
    ///
    /// # Errors
    /// It cannot be reached in time, or its certificate is not trusted.
    pub async fn open(server: &Server) -> Result<LinkOwner, LinkError> {
        let socket = timeout(TIMEOUT, connect(server)).await.map_err(|_| LinkError::Timeout)??;
        let (requests, queue) = mpsc::channel(MAX_QUEUE);
        let (notify, pushes) = mpsc::channel(MAX_PUSHES);
        let task = tokio::spawn(async move {
            let mut run = Run::new(socket, queue, notify);
            run.run().await.err().unwrap_or(LinkError::Closed)
        });
        Ok(LinkOwner { link: Link { requests }, pushes, task })
    }

    /// Sends a command, and returns its reply.
    ///
    /// # Errors
    /// There is no reply, or it is an error.
    pub async fn ask(&self, command: &[&[u8]]) -> Result<Value, LinkError> {
        first(self.ask_all(&[command]).await?)
    }

    /// Sends commands at once, and returns their replies, of which some may be errors.
    ///
    /// # Errors
    /// There are no replies.
    pub async fn ask_all<T: AsRef<[u8]>>(
        &self,
        commands: &[impl AsRef<[T]>],
    ) -> Result<Vec<Value>, LinkError> {
        self.ask_expecting(commands, commands.len()).await
    }

    /// Sends commands at once, and returns this many replies.
    ///
    /// # Errors
    /// There are fewer.
    pub async fn ask_expecting<T: AsRef<[u8]>>(
        &self,
        commands: &[impl AsRef<[T]>],
        replies: usize,
    ) -> Result<Vec<Value>, LinkError> {
        let mut bytes = BytesMut::new();
        for command in commands {
            write_command(command.as_ref(), &mut bytes);
        }
        self.send(bytes, replies).await
    }

    /// Sends a command to subscribe to channels, or to end that. Its replies are notifications.
    ///
    /// # Errors
    /// There is no connection.
    pub async fn subscribe(&self, command: &[Vec<u8>]) -> Result<(), LinkError> {
        let mut bytes = BytesMut::new();
        write_command(command, &mut bytes);
        self.send(bytes, 0).await.map(drop)
    }

    async fn send(&self, bytes: BytesMut, replies: usize) -> Result<Vec<Value>, LinkError> {
        let (answer, answered) = oneshot::channel();
        let request = Request { bytes, replies, answer };
        let asked = async {
            self.requests.send(request).await.map_err(|_| LinkError::Closed)?;
            answered.await.map_err(|_| LinkError::Closed)
        };
        timeout(TIMEOUT, asked).await.unwrap_or(Err(LinkError::Timeout))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// Returns the first reply.
///
/// # Errors
/// There is none, or it is an error.
pub fn first(replies: Vec<Value>) -> Result<Value, LinkError> {
    match replies.into_iter().next() {
        Some(Value::Error(error)) => Err(LinkError::Refused(shown(&error).to_string())),
        Some(value) => Ok(value),
        None => Err(LinkError::Closed),
    }
}

async fn connect(server: &Server) -> Result<Box<dyn Socket>, LinkError> {
    let Server { host, port, is_tls } = server;
    let socket = TcpStream::connect((&**host, *port)).await.map_err(ConnectError::Io)?;
    socket.set_nodelay(true)?;
    Ok(if *is_tls { over_tls(socket, host).await? } else { Box::new(socket) })
}

/// The task of a connection.
struct Run {
    socket: Box<dyn Socket>,
    queue: mpsc::Receiver<Request>,
    pushes: mpsc::Sender<Vec<Value>>,
    reader: RespReader,
    input: BytesMut,
    output: BytesMut,
    unflushed: bool,
    waiting: VecDeque<Waiting>,
}

impl Run {
    fn new(socket: Box<dyn Socket>, queue: mpsc::Receiver<Request>, pushes: mpsc::Sender<Vec<Value>>) -> Run {
        Run {
            socket,
            queue,
            pushes,
            reader: RespReader::default(),
            input: BytesMut::new(),
            output: BytesMut::new(),
            unflushed: false,
            waiting: VecDeque::new(),
        }
    }

    /// Moves requests and replies until the connection ends; `Ok` if nobody needs it any more.
    async fn run(&mut self) -> Result<(), LinkError> {
        loop {
            self.input.reserve(READ);
            let deadline = self.waiting.front().map(|first| first.deadline);
            let Run { socket, queue, input, output, unflushed, waiting, .. } = self;
            tokio::select! {
                request = queue.recv(), if waiting.len() < MAX_WAITING => {
                    let Some(Request { bytes, replies, answer }) = request else { return Ok(()) };
                    output.extend_from_slice(&bytes);
                    if replies == 0 {
                        let _ = answer.send(Vec::new());
                        continue;
                    }
                    let deadline = Instant::now() + TIMEOUT;
                    waiting.push_back(Waiting { replies: Vec::new(), left: replies, answer, deadline });
                }
                moved = poll_fn(|cx| poll_move(socket, input, output, unflushed, cx)) => match moved? {
                    Moved::End => return Err(LinkError::Closed),
                    Moved::Read => self.read()?,
                    Moved::Wrote | Moved::Drained => {}
                },
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    return Err(LinkError::Timeout);
                }
            }
        }
    }

    fn read(&mut self) -> Result<(), LinkError> {
        while let Some(value) = self.reader.read(&mut self.input)? {
            match value {
                Value::Push(elements) => {
                    self.pushes.try_send(elements).map_err(|_| LinkError::Flood)?;
                }
                value => self.reply(value)?,
            }
        }
        Ok(())
    }

    fn reply(&mut self, value: Value) -> Result<(), LinkError> {
        if let Value::Error(error) = &value
            && FATAL.iter().any(|code| error.starts_with(code))
        {
            return Err(LinkError::Refused(shown(error).to_string()));
        }
        let first = self.waiting.front_mut().ok_or(LinkError::Reply("nothing"))?;
        first.replies.push(value);
        first.left = first.left.saturating_sub(1);
        if first.left == 0
            && let Some(Waiting { replies, answer, .. }) = self.waiting.pop_front()
        {
            // Who asked may have given up.
            let _ = answer.send(replies);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Returns a connection to a server that sends `answer` once it has read this many bytes, and then is silent.
    async fn link(bytes: usize, answer: &'static str) -> LinkOwner {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut read = vec![0; bytes];
            socket.read_exact(&mut read).await.unwrap();
            socket.write_all(answer.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        });
        let server = Server { host: "127.0.0.1".to_owned(), port, is_tls: false };
        Link::open(&server).await.unwrap()
    }

    fn words(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[tokio::test]
    async fn replies_go_to_their_commands_and_notifications_to_the_owner() {
        // Two commands of 14 bytes each.
        let mut owner = link(28, "+one\r\n>2\r\n+message\r\n+c\r\n:2\r\n").await;
        let (one, two) = tokio::join!(owner.link.ask(&[b"PING"]), owner.link.ask(&[b"PONG"]));
        assert_eq!((one.unwrap().text(), two.unwrap().integer()), (Some(&b"one"[..]), Some(2)));
        let push = owner.pushes.recv().await.unwrap();
        assert_eq!(push.iter().filter_map(Value::text).collect::<Vec<_>>(), [b"message".as_slice(), b"c"]);
        drop(owner.link);
        assert!(matches!(owner.task.await.unwrap(), LinkError::Closed), "nobody needs it");
    }

    #[tokio::test]
    async fn an_error_that_concerns_the_server_ends_the_connection_and_others_do_not() {
        let owner = link(14, "-WRONGTYPE of a key\r\n-READONLY it is a replica\r\n").await;
        let error = owner.link.ask(&[b"PING"]).await.unwrap_err();
        assert_eq!(error.to_string(), "WRONGTYPE of a key");
        assert_eq!(owner.task.await.unwrap().to_string(), "READONLY it is a replica");
        let error = owner.link.ask_all(&[words(&["PING"])]).await.unwrap_err();
        assert!(matches!(error, LinkError::Closed), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_is_silent_or_lies_is_left() {
        let owner = link(14, "").await;
        let error = owner.link.ask(&[b"PING"]).await.unwrap_err();
        assert!(matches!(error, LinkError::Timeout | LinkError::Closed), "{error}");
        assert!(matches!(owner.task.await.unwrap(), LinkError::Timeout));
        let owner = link(14, "*99999999\r\n").await;
        assert!(owner.link.ask(&[b"PING"]).await.is_err());
        assert!(matches!(owner.task.await.unwrap(), LinkError::Resp(RespError::TooLarge { .. })));
        let owner = link(14, "+one\r\n+two\r\n").await;
        assert_eq!(owner.link.ask(&[b"PING"]).await.unwrap().text(), Some(&b"one"[..]));
        assert!(matches!(owner.task.await.unwrap(), LinkError::Reply("nothing")));
    }
}

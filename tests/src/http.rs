//! An HTTP/1 client on a plain socket that distinguishes a complete body from a truncated one (RFC 9112).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::wait::SILENCE;

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    path: String,
    version: &'static str,
    headers: Vec<(String, String)>,
    body: String,
}

/// A response whose head has been read.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// The headers as sent, in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Body,
}

/// A body, read with [`Read`]; at its end [`Body::is_whole`] is known.
#[derive(Debug)]
pub struct Body {
    input: BufReader<TcpStream>,
    framing: Framing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// Remaining bytes of the body.
    Length(u64),
    /// Remaining bytes of the current chunk.
    Chunked(u64),
    /// The body ends with the connection.
    Close,
    /// The end of the body has been read.
    Whole,
}

impl Request {
    /// Returns a request with any method.
    #[must_use]
    pub fn new(method: &str, path: &str) -> Request {
        Request {
            method: method.into(),
            path: path.into(),
            version: "HTTP/1.1",
            headers: Vec::new(),
            body: String::new(),
        }
    }

    /// Returns a GET request.
    #[must_use]
    pub fn get(path: &str) -> Request {
        Request::new("GET", path)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds a body, and its length.
    #[must_use]
    pub fn body(self, body: &str) -> Request {
        Request { body: body.into(), ..self.header("Content-Length", &body.len().to_string()) }
    }

    /// Makes it an HTTP/1.0 request.
    #[must_use]
    pub fn http10(mut self) -> Request {
        self.version = "HTTP/1.0";
        self
    }

    /// Sends the request on a new connection and reads the head of the response.
    ///
    /// # Errors
    /// The socket's, or [`io::ErrorKind::InvalidData`].
    pub fn send(&self, address: SocketAddr) -> io::Result<Response> {
        self.send_over(TcpStream::connect(address)?)
    }

    /// As [`Request::send`], on an open socket.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub fn send_over(&self, mut socket: TcpStream) -> io::Result<Response> {
        socket.set_read_timeout(Some(SILENCE))?;
        let mut head = format!("{} {} {}\r\n", self.method, self.path, self.version);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("Host: {}\r\n", socket.peer_addr()?));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.push_str(&self.body);
        socket.write_all(head.as_bytes())?;
        let mut input = BufReader::new(socket);
        let status_line = read_line(&mut input)?;
        let (version, status) = status_line.split_once(' ').ok_or_else(|| invalid(&status_line))?;
        let status =
            status.get(..3).and_then(|code| code.parse().ok()).ok_or_else(|| invalid(&status_line))?;
        let mut headers = Vec::new();
        loop {
            let line = read_line(&mut input)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid(&line))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let framing = self.framing(status, &headers)?;
        let version = version.to_owned();
        Ok(Response { status, version, headers, body: Body { input, framing } })
    }

    fn framing(&self, status: u16, headers: &[(String, String)]) -> io::Result<Framing> {
        if self.method == "HEAD" || status == 204 || status == 304 || status < 200 {
            return Ok(Framing::Whole);
        }
        let value = |wanted: &str| find(headers, wanted);
        if value("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return Ok(Framing::Chunked(0));
        }
        match value("content-length") {
            Some(length) => Ok(Framing::Length(length.parse().map_err(|_| invalid(length))?)),
            None => Ok(Framing::Close),
        }
    }
}

fn find<'a>(headers: &'a [(String, String)], wanted: &str) -> Option<&'a str> {
    headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.as_str())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {what:?}"))
}

fn read_line(input: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
        None => Err(invalid(&line)),
    }
}

impl Response {
    /// Returns the value of a header; its name is not case-sensitive.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// Reads the body to its end.
    ///
    /// # Errors
    /// The socket's.
    pub fn text(mut self) -> io::Result<String> {
        let mut text = String::new();
        self.body.read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Body {
    /// Returns whether the end was marked: by the last chunk, by `Content-Length`, or, close-delimited, by an orderly close.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.framing == Framing::Whole
    }

    /// Returns the socket.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        self.input.get_ref()
    }

    fn next_chunk(&mut self) -> io::Result<u64> {
        let line = read_line(&mut self.input)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        u64::from_str_radix(size, 16).map_err(|_| invalid(&line))
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.framing == Framing::Chunked(0) {
            match self.next_chunk()? {
                0 => {
                    read_line(&mut self.input)?;
                    self.framing = Framing::Whole;
                }
                size => self.framing = Framing::Chunked(size),
            }
        }
        let left = match self.framing {
            Framing::Whole | Framing::Length(0) => {
                self.framing = Framing::Whole;
                return Ok(0);
            }
            Framing::Length(left) | Framing::Chunked(left) => left,
            Framing::Close => u64::MAX,
        };
        let limit = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let length = self.input.read(&mut buffer[..limit])?;
        match &mut self.framing {
            Framing::Close if length == 0 => self.framing = Framing::Whole,
            _ if length == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Framing::Length(left) => *left -= length as u64,
            Framing::Chunked(left) => {
                *left -= length as u64;
                if *left == 0 && !read_line(&mut self.input)?.is_empty() {
                    return Err(invalid("a chunk longer than its size"));
                }
            }
            Framing::Close | Framing::Whole => {}
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers one request with these bytes and closes.
    fn serve(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            socket.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn distinguishes_a_complete_body_from_a_truncated_one() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n";
        let cases = [
            (format!("{chunked}0\r\n\r\n"), Some("abcde")),
            (chunked.to_owned(), None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde".to_owned(), Some("abcde")),
            ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcde".to_owned(), None),
            ("HTTP/1.0 200 OK\r\n\r\nabcde".to_owned(), Some("abcde")),
        ];
        for (answer, body) in cases {
            let mut response = Request::get("/").send(serve(answer.leak())).unwrap();
            let mut text = String::new();
            let end = response.body.read_to_string(&mut text);
            assert_eq!(end.ok().map(|_| text.as_str()), body);
            assert_eq!(response.body.is_whole(), body.is_some());
        }
    }
}

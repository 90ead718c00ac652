//! A server of key sets, whose answers a test chooses.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A server on loopback that gives every request the same answer, on threads of its own that end with the process.
#[derive(Debug)]
pub struct KeyServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// A whole response, or nothing to leave requests without one.
    answer: Mutex<Option<Vec<u8>>>,
    requests: AtomicUsize,
}

impl KeyServer {
    /// Starts a server that answers nothing.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn start() -> KeyServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let shared = Arc::<Shared>::default();
        let server = KeyServer { address, shared: Arc::clone(&shared) };
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.serve(socket));
            }
        });
        server
    }

    /// Answers with a set of these keys from now on.
    pub fn set_keys(&self, keys: &[String]) {
        self.set_answer("200 OK", "", &format!("{{\"keys\":[{}]}}", keys.join(",")));
    }

    /// Answers so from now on; `headers` are whole lines.
    ///
    /// # Panics
    /// Never in practice.
    pub fn set_answer(&self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        *self.shared.answer.lock().expect("no holder panics") = Some(answer.into_bytes());
    }

    /// Returns the URL of the set.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    /// Returns the number of requests so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn serve(&self, mut socket: TcpStream) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match socket.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let answer = self.answer.lock().expect("no holder panics").clone();
        match answer {
            Some(answer) => drop(socket.write_all(&answer)),
            // Until the client gives up.
            None => drop(socket.read(&mut byte)),
        }
    }
}

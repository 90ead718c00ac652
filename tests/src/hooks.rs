//! A server of HTTP hooks: records what it is asked and told, and answers as a test wants.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::tls::Certificate;
use crate::wait::{SOON, wait_for};

/// The answer of SRS's sample server to what it accepts.
pub const SRS_OK: &str = r#"{"code":0,"data":null}"#;

/// A request that the server got.
#[derive(Clone, Debug)]
pub struct Call {
    /// The path and query of the URL.
    pub path: String,
    /// The headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
    /// The body as JSON.
    pub json: Value,
}

/// What the server does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Answers with this status and body.
    Answer(u16, String),
    /// Answers with this status and body once the test calls [`HookServer::release`].
    Held(u16, String),
    /// Sends these bytes and closes.
    Raw(Vec<u8>),
    /// Closes without an answer.
    Close,
}

/// Decides how to answer a request.
type Answers = Box<dyn FnMut(&Call) -> Reply + Send>;

/// A running server.
pub struct HookServer {
    /// Its address.
    pub address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
}

struct Shared {
    calls: Mutex<Vec<Call>>,
    answers: Mutex<Answers>,
    released: Mutex<bool>,
    release: Condvar,
}

impl HookServer {
    /// Starts a server that answers everything as SRS's sample server does.
    #[must_use]
    pub fn start() -> HookServer {
        HookServer::answering(|_| Reply::ok())
    }

    /// Starts a server that answers as `answers` says.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn answering(answers: impl FnMut(&Call) -> Reply + Send + 'static) -> HookServer {
        HookServer::listen(Box::new(answers), None)
    }

    /// As [`HookServer::start`], over TLS with this certificate.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn over_tls(certificate: &Certificate) -> HookServer {
        let chain = CertificateDer::from_pem_slice(certificate.cert.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("aws-lc has them")
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .expect("the key is of the certificate");
        HookServer::listen(Box::new(|_| Reply::ok()), Some(Arc::new(config)))
    }

    fn listen(answers: Answers, tls: Option<Arc<ServerConfig>>) -> HookServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            calls: Mutex::default(),
            answers: Mutex::new(answers),
            released: Mutex::new(false),
            release: Condvar::new(),
        });
        let (accepting, scheme) = (Arc::clone(&shared), if tls.is_some() { "https" } else { "http" });
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (shared, tls) = (Arc::clone(&accepting), tls.clone());
                std::thread::spawn(move || match tls {
                    None => shared.serve(socket),
                    Some(config) => {
                        let connection = ServerConnection::new(config).expect("the config is whole");
                        shared.serve(StreamOwned::new(connection, socket))
                    }
                });
            }
        });
        HookServer { address, scheme, shared }
    }

    /// Returns the URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Returns the config keys of these hooks, each with the URL whose path is its name.
    #[must_use]
    pub fn keys(&self, hooks: &[&str]) -> String {
        hooks.iter().map(|hook| format!("{hook} = \"{}\"\n", self.url(&format!("/{hook}")))).collect()
    }

    /// Replaces the answers.
    ///
    /// # Panics
    /// Never in practice.
    pub fn answer(&self, answers: impl FnMut(&Call) -> Reply + Send + 'static) {
        *self.shared.answers.lock().expect("no holder panics") = Box::new(answers);
    }

    /// Answers what is held, and no longer holds anything.
    ///
    /// # Panics
    /// Never in practice.
    pub fn release(&self) {
        *self.shared.released.lock().expect("no holder panics") = true;
        self.shared.release.notify_all();
    }

    /// Returns all calls so far, in order of arrival.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.locked().clone()
    }

    /// Returns the calls of one action so far.
    #[must_use]
    pub fn of(&self, action: &str) -> Vec<Call> {
        self.locked().iter().filter(|call| call.json["action"] == action).cloned().collect()
    }

    /// Waits for `count` calls of an action, and returns them.
    ///
    /// # Panics
    /// When they do not come.
    #[must_use]
    pub fn wait(&self, action: &str, count: usize) -> Vec<Call> {
        wait_for(SOON, &format!("{count} calls of {action}"), || {
            let calls = self.of(action);
            (calls.len() >= count).then_some(calls)
        })
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Call>> {
        self.shared.calls.lock().expect("no holder panics")
    }
}

impl std::fmt::Debug for HookServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HookServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for HookServer {
    fn drop(&mut self) {
        self.release();
    }
}

impl Reply {
    /// The answer of SRS's sample server.
    #[must_use]
    pub fn ok() -> Reply {
        Reply::Answer(200, SRS_OK.to_owned())
    }
}

impl Call {
    /// Returns the text of a field; empty if there is none.
    #[must_use]
    pub fn text(&self, field: &str) -> &str {
        self.json[field].as_str().unwrap_or_default()
    }

    /// Returns the value of a header; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let header = self.headers.iter().find(|(own, _)| own == name);
        header.map_or("", |(_, value)| value)
    }
}

impl Shared {
    fn serve(&self, socket: impl Read + Write) {
        let mut reader = BufReader::new(socket);
        while let Ok(Some(call)) = read(&mut reader) {
            self.calls.lock().expect("no holder panics").push(call.clone());
            let reply = (self.answers.lock().expect("no holder panics"))(&call);
            let (status, body) = match reply {
                Reply::Answer(status, body) => (status, body),
                Reply::Held(status, body) => {
                    let released = self.released.lock().expect("no holder panics");
                    let wait = self.release.wait_while(released, |released| !*released);
                    drop(wait.expect("no holder panics"));
                    (status, body)
                }
                Reply::Raw(bytes) => {
                    let _ = reader.get_mut().write_all(&bytes);
                    return;
                }
                Reply::Close => return,
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {status} Status\r\nContent-Length: {length}\r\n\r\n");
            if reader.get_mut().write_all((head + &body).as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// Reads one request; `None` at the end of the connection.
fn read(reader: &mut impl BufRead) -> io::Result<Option<Call>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let path = lines[0].split(' ').nth(1).unwrap_or_default().to_owned();
    let headers: Vec<(String, String)> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let json = serde_json::from_str(&body).unwrap_or_default();
    Ok(Some(Call { path, headers, body, json }))
}

/// Returns an address where nobody listens.
///
/// # Panics
/// When no port is free.
#[must_use]
pub fn dead_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    // A port that was connected to is not given to others for a while.
    let address = listener.local_addr().expect("it is bound");
    let _ = TcpStream::connect(address);
    address
}

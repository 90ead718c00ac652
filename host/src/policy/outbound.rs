//! Requests that the host makes itself, over HTTP and HTTPS: to hooks, for key sets, and for lists of nodes.
//!
//! Certificates are verified by the system's roots. Redirects are not followed, proxies of the environment are not used, and
//! an answer is read up to a limit. Nothing is tried again here: whether a request may be repeated is known to the
//! caller alone, who asks [`OutboundError::was_sent`].

use std::error::Error as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, redirect, retry};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

use crate::conf::Endpoint;

/// Limit of the body of an answer, in bytes, unless the caller sets another.
pub const MAX_ANSWER: usize = 64 << 10;

/// How long an unused connection stays open. Most servers close theirs later, so that a request seldom meets the close.
const IDLE: Duration = Duration::from_secs(1);

/// TLS of all clients: the roots are read once for each process.
static TLS: LazyLock<Tls> = LazyLock::new(Tls::of_system);

/// A client for requests of the host. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Outbound {
    client: Client,
}

/// An answer, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The status code.
    pub status: u16,
    /// The body, up to the limit.
    pub body: Bytes,
}

/// The reason why a request has no answer. It does not name the URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutboundError {
    /// The server could not be reached, or its certificate is not trusted: nothing was sent. Culprit: operator.
    #[error("cannot connect: {reason}")]
    Connect {
        /// The reason.
        reason: String,
    },
    /// The server did not answer in time. Culprit: operator.
    #[error("no answer within {timeout:?}")]
    Timeout {
        /// The time that it had.
        timeout: Duration,
    },
    /// The connection broke, or the answer is not HTTP. Culprit: operator.
    #[error("no valid answer: {reason}")]
    Broken {
        /// The reason.
        reason: String,
    },
    /// The answer is too long. Culprit: operator.
    #[error("the answer has more than {limit} bytes")]
    TooLong {
        /// The limit, in bytes.
        limit: usize,
    },
}

impl Outbound {
    /// Creates a client that waits at most `connect_timeout` for each connection, TLS included. Blocks while the first one of
    /// a process reads the system's certificates.
    pub fn new(connect_timeout: Duration) -> Outbound {
        let client = Client::builder()
            .tls_backend_preconfigured(ClientConfig::clone(&TLS.config))
            .user_agent(concat!("remuxd/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(connect_timeout)
            .pool_idle_timeout(IDLE)
            .tcp_nodelay(true)
            .http1_only()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .no_proxy()
            .build()
            .expect("the settings are constant and of one version of rustls");
        Outbound { client }
    }

    /// Sends GET and reads the answer, both within `timeout`.
    ///
    /// # Errors
    /// [`OutboundError`] if there is no whole answer.
    pub async fn get(&self, endpoint: &Endpoint, timeout: Duration) -> Result<Answered, OutboundError> {
        self.get_up_to(endpoint, MAX_ANSWER, timeout).await
    }

    /// Sends GET and reads an answer of up to `limit` bytes, both within `timeout`.
    ///
    /// # Errors
    /// [`OutboundError`] if there is no whole answer.
    pub async fn get_up_to(
        &self,
        endpoint: &Endpoint,
        limit: usize,
        timeout: Duration,
    ) -> Result<Answered, OutboundError> {
        exchange(self.client.get(endpoint.url().clone()), limit, timeout).await
    }

    /// Sends POST with a body in JSON and further headers, and reads the answer, all within `timeout`.
    ///
    /// # Errors
    /// [`OutboundError`] if there is no whole answer.
    pub async fn post_json(
        &self,
        endpoint: &Endpoint,
        headers: HeaderMap,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Answered, OutboundError> {
        const CONTENT_TYPE: HeaderName = reqwest::header::CONTENT_TYPE;
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        let request = self.client.post(endpoint.url().clone());
        exchange(request.headers(headers).header(CONTENT_TYPE, JSON).body(body), MAX_ANSWER, timeout).await
    }
}

async fn exchange(
    request: RequestBuilder,
    limit: usize,
    timeout: Duration,
) -> Result<Answered, OutboundError> {
    let whole = async {
        let mut response = request.send().await.map_err(OutboundError::of)?;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(OutboundError::of)? {
            if body.len() + chunk.len() > limit {
                return Err(OutboundError::TooLong { limit });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answered { status: response.status().as_u16(), body: body.freeze() })
    };
    tokio::time::timeout(timeout, whole).await.unwrap_or(Err(OutboundError::Timeout { timeout }))
}

impl OutboundError {
    fn of(error: reqwest::Error) -> OutboundError {
        let is_connect = error.is_connect();
        // The innermost source states the fact; the outer ones would repeat it, and name the URL.
        let mut reason = if error.is_timeout() { "timeout".to_owned() } else { "unknown".to_owned() };
        let mut source = error.source();
        while let Some(inner) = source {
            reason = inner.to_string();
            source = inner.source();
        }
        match is_connect {
            true if error.is_timeout() => OutboundError::Connect { reason: "timeout".to_owned() },
            true if TLS.roots == 0 && reason.contains("UnknownIssuer") => {
                OutboundError::Connect { reason: "the system has no root certificates".to_owned() }
            }
            true => OutboundError::Connect { reason },
            false => OutboundError::Broken { reason },
        }
    }

    /// Returns whether the server may have received the request.
    pub fn was_sent(&self) -> bool {
        !matches!(self, OutboundError::Connect { .. })
    }
}

/// Returns the TLS of the host as a client: certificates are verified by the system's roots. Blocks while the first call of a
/// process reads them.
pub fn client_tls() -> Arc<ClientConfig> {
    TLS.config.clone()
}

struct Tls {
    config: Arc<ClientConfig>,
    /// Number of roots.
    roots: usize,
}

impl Tls {
    /// Reads the roots of the system, or of the file that `SSL_CERT_FILE` names. Certificates that cannot be read are left out.
    fn of_system() -> Tls {
        let mut store = RootCertStore::empty();
        let (roots, _) = store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("aws-lc has cipher suites of TLS 1.2 and 1.3");
        Tls { config: Arc::new(builder.with_root_certificates(store).with_no_client_auth()), roots }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::thread;

    use super::*;

    /// Answers the first request with these bytes, then closes the connection.
    fn answer(bytes: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut read = [0; 4096];
            let _ = socket.read(&mut read);
            let _ = socket.write_all(bytes);
        });
        address
    }

    async fn ask(address: SocketAddr) -> Result<(u16, usize), String> {
        let endpoint = Endpoint::parse(&format!("http://u:5ecret@{address}/x?k=5ecret")).unwrap();
        let outbound = Outbound::new(Duration::from_secs(5));
        match outbound.get(&endpoint, Duration::from_secs(5)).await {
            Ok(answered) => Ok((answered.status, answered.body.len())),
            Err(error) => Err(format!("{error} {}", error.was_sent())),
        }
    }

    #[tokio::test]
    async fn answers_are_read_to_their_limit_and_redirects_are_not_followed() {
        let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n{}", "x".repeat(65_537));
        let rows: [(&[u8], _); 6] = [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0", Ok((200, 1))),
            (b"HTTP/1.0 500 No\r\n\r\n0123", Ok((500, 4))),
            (
                b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
                Ok((302, 0)),
            ),
            (long.leak().as_bytes(), Err("the answer has more than 65536 bytes true")),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n0", Err("no valid answer: ")),
            (b"5ecret rubbish\r\n\r\n", Err("no valid answer: ")),
        ];
        for (bytes, expected) in rows {
            let found = ask(answer(bytes)).await;
            match expected {
                Ok(expected) => assert_eq!(found, Ok(expected)),
                Err(start) => {
                    let error = found.unwrap_err();
                    assert!(error.starts_with(start) && error.ends_with(" true"), "{error}");
                    assert!(!error.contains("5ecret"), "{error}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_was_sent_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = ask(address).await.unwrap_err();
        assert!(error.starts_with("cannot connect: ") && error.ends_with(" false"), "{error}");
        assert!(!error.contains("5ecret") && !error.contains("/x"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_is_silent_has_the_time_of_the_caller() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let timeout = Duration::from_millis(50);
        let error = Outbound::new(Duration::from_secs(5)).get(&endpoint, timeout).await.unwrap_err();
        assert_eq!(error, OutboundError::Timeout { timeout });
    }
}

//! From the tag's payload to the pieces of a span: no copy. hyper sends a span from its pieces, so the addresses show it; the fan-out
//! copies it into a batch. With TLS below, no copy up to the slices that are encrypted.
//!
//! Everything runs in this process: an RTMP session, the loaded `flv` modules, the HTTP service on hyper. A probe in
//! front of the socket, or of TLS, records the addresses of the bytes that are written.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use remuxd::testing::budget::Account;
use remuxd::testing::conf::{Config, Current};
use remuxd::testing::http::{ConnectionContext, ConnectionId, Lifecycle, Service, Stall};
use remuxd::testing::media::{Millis, Packet, Tag, TagKind};
use remuxd::testing::module::{Pool, Registry};
use remuxd::testing::router::Router;
use remuxd::testing::rtmp::chunk::ChunkLimits;
use remuxd::testing::rtmp::client::{ClientEvent, ClientSettings};
use remuxd::testing::rtmp::handshake::{Random, Scheme};
use remuxd::testing::rtmp::server::{Event, ServerSettings};
use remuxd::testing::rtmp::tc_url::StreamName;
use remuxd::testing::rtmp::{ClientSession, ServerSession};
use remuxd::testing::stream::{Hub, StreamKey};
use remuxd_tests::host::executable;
use remuxd_tests::tls::{self, Certificate};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::UnixStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const FRAME: usize = 20_000;
const DEADLINE: Duration = Duration::from_secs(10);

/// Addresses of the bytes that were written.
type Written = Arc<Mutex<Vec<Range<usize>>>>;

/// A socket that records them.
struct Probe<S>(S, Written);

impl<S> Probe<S> {
    fn note(&self, slices: &[IoSlice<'_>], mut count: usize) {
        for slice in slices {
            let len = count.min(slice.len());
            let start = slice.as_ptr() as usize;
            self.1.lock().unwrap().push(start..start + len);
            count -= len;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Probe<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Probe<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.0).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = &result {
            self.note(&[IoSlice::new(buf)], *count);
        }
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.0).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(count)) = &result {
            self.note(slices, *count);
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Returns a sequence header and a keyframe from a server session.
fn tags_over_rtmp() -> Vec<Tag> {
    let limits = ChunkLimits::default();
    let client_settings = ClientSettings {
        scheme: Scheme::Simple,
        chunk_size: 60_000,
        window_ack_size: 2_500_000,
        limits,
        enhanced: true,
        hops: String::new(),
    };
    let server_settings = ServerSettings { chunk_size: 60_000, window_ack_size: 2_500_000, limits };
    let name = StreamName::parse_url("rtmp://host/live/shared").unwrap();
    let mut client = ClientSession::publish(name, client_settings, 0, Random::from_seed(1));
    let mut server = ServerSession::new(server_settings, 0, Random::from_seed(2));
    let mut tags = Vec::new();
    while tags.len() < 2 {
        let output = &mut client.buffers().output;
        let bytes = output.copy_to_bytes(output.len());
        server.buffers().input.extend_from_slice(&bytes);
        while let Some(event) = server.poll_event().unwrap() {
            match event {
                Event::Connect { .. } => server.accept_connect(),
                Event::Publish { stream_id, .. } => server.accept_publish(stream_id),
                Event::Media { tag, .. } => tags.push(tag),
                _ => {}
            }
        }
        let output = &mut server.buffers().output;
        let bytes = output.copy_to_bytes(output.len());
        client.buffers().input.extend_from_slice(&bytes);
        while let Some(event) = client.poll_event().unwrap() {
            if matches!(event, ClientEvent::Published) {
                let keyframe = [&b"\x17\x01\0\0\0"[..], &[7; FRAME]].concat();
                for body in [Bytes::from_static(b"\x17\0\0\0\0config"), keyframe.into()] {
                    client.send_tag(&Tag::new(TagKind::VIDEO, Millis(0), body));
                }
            }
        }
    }
    tags
}

/// Returns the number of bytes of `payload` that were written from its own memory, after `request`.
async fn shared_bytes<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    (near, mut far): (S, impl AsyncRead + AsyncWrite + Unpin),
    service: &Arc<Service>,
    request: &str,
    payload: &Bytes,
) -> usize {
    let written = Written::default();
    let probe = Probe(near, written.clone());
    let (service, context) = (
        service.clone(),
        ConnectionContext {
            id: ConnectionId::NONE,
            peer: ([127, 0, 0, 1], 1).into(),
            account: Account::unlimited(),
            guard: Arc::new(()),
            lifecycle: Lifecycle::default(),
            stall: Stall::new(Duration::from_secs(30), None),
        },
    );
    let respond = service_fn(move |request| {
        let (service, context) = (service.clone(), context.clone());
        async move { Ok::<_, std::convert::Infallible>(service.respond(request, &context).await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(probe), respond);
    let serving = tokio::spawn(connection);
    far.write_all(request.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    while !received.windows(FRAME).any(|window| window == &payload[5..]) {
        assert_ne!(far.read_buf(&mut received).await.unwrap(), 0, "{}", String::from_utf8_lossy(&received));
    }
    serving.abort();
    let start = payload.as_ptr() as usize;
    let payload = start..start + payload.len();
    let written = written.lock().unwrap();
    written
        .iter()
        .map(|range| range.end.min(payload.end).saturating_sub(range.start.max(payload.start)))
        .sum()
}

/// Returns the two ends of a TLS connection.
async fn tls_pair() -> (impl AsyncRead + AsyncWrite + Send + Unpin, impl AsyncRead + AsyncWrite + Unpin) {
    let made = Certificate::of(&["host"]);
    let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.der.into()], key)
        .unwrap();
    let connector = TlsConnector::from(Arc::new(tls::client_config(true, tls::Version::Tls13, &[])));
    let (near, far) = UnixStream::pair().unwrap();
    let accept = TlsAcceptor::from(Arc::new(config)).accept(near);
    let (near, far) = tokio::join!(accept, connector.connect("host".try_into().unwrap(), far));
    (near.unwrap(), far.unwrap())
}

#[test]
fn payloads_are_shared_from_the_tag_to_the_span() {
    let tags = tags_over_rtmp();
    let keyframe = tags.iter().find(|tag| tag.header.packet == Packet::CODED_FRAME).unwrap().payload.clone();
    let config = Config::parse(
        "[http_server]\nenabled = true\n[[vhost.\"__defaultVhost__\".http_remux]]\nenabled = true\n",
        "sharing.toml",
    )
    .unwrap();
    let executable = executable();
    let beside = executable.parent().unwrap_or(Path::new("."));
    let (registry, failures) = Registry::load(&config.modules, beside, &executable);
    assert!(failures.is_empty(), "{failures:?}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let shared = runtime.block_on(async {
        let hub = Hub::new();
        let vhost = config.vhosts[0].clone();
        let (publisher, _) =
            hub.publish(StreamKey::new(&vhost.name, "live", "shared"), &vhost, Account::unlimited()).unwrap();
        for tag in tags {
            assert!(publisher.push(tag, Millis(0)));
        }
        // Half a second later: the file header no longer waits for audio.
        let later = Tag::new(TagKind::VIDEO, Millis(600), Bytes::from_static(b"\x27\x01\0\0\0later"));
        assert!(publisher.push(later, Millis(600)));
        let pool = Pool::new(1, DEADLINE, None);
        let router = Router::new(config.vhosts.clone(), &config.limits.sessions);
        let service = Service::new(Current::new(config), router, hub, Arc::new(registry), pool, None);
        let request = "GET /live/shared.flv HTTP/1.1\r\nHost: host\r\n\r\n";
        let plain = shared_bytes(UnixStream::pair().unwrap(), &service, request, &keyframe);
        let plain = tokio::time::timeout(DEADLINE, plain).await.unwrap();
        let tls = shared_bytes(tls_pair().await, &service, request, &keyframe);
        [plain, tokio::time::timeout(DEADLINE, tls).await.unwrap()]
    });
    assert_eq!(shared, [keyframe.len(); 2], "bytes sent without a copy: HTTP, HTTPS");
}

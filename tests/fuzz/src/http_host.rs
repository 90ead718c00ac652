//! A host in this process with a live stream, whose HTTP connections are in memory.
//!
//! Its clock is paused: where nothing is left to do, time passes at once, so that deadlines cost no time. A thread makes the output
//! of the stream's mount before that; what an input asks for beside it may time out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use remuxd::testing::budget::{Account, Budget};
use remuxd::testing::cluster::{Directory, Outbox, Relay};
use remuxd::testing::conf::{Config, Current};
use remuxd::testing::http::{Lifecycle, Service};
use remuxd::testing::media::{Millis, Tag, TagKind};
use remuxd::testing::module::{Pool, Registry, Terms, linked};
use remuxd::testing::net::{Fanout, Server};
use remuxd::testing::net::in_memory::{Peer, serve};
use remuxd::testing::router::Router;
use remuxd::testing::stream::{Hub, StreamKey};
use remuxd_bitstream::flv::{AUDIO_CODECS, FlvRemuxer, OPTIONS, VIDEO_CODECS};
use remuxd_plugin_api::{Format, FormatInfo, RemuxError, Setup, Transport};
use tokio::runtime::Runtime;

/// The path of the live stream.
pub const PATH: &str = "/live/film.flv";

/// Bytes of the first frame of the stream.
pub const FRAME: &[u8] = b"first frame of the stream";

/// Memory for peers, in bytes: the least that `limits.max_memory` may be.
const MEMORY: usize = 64 << 20;

const CONFIG: &str = r#"
[http_server]
enabled = true
[limits]
accept_rate = 0
[vhost."__defaultVhost__".play]
wait = 1
min_latency = true
[[vhost."__defaultVhost__".http_remux]]
enabled = true
"#;

/// FLV over HTTP and WebSocket, so that a viewer of either keeps the mount.
struct Flv;

impl Format for Flv {
    type Remuxer = FlvRemuxer;

    fn info() -> FormatInfo {
        FormatInfo {
            name: "flv",
            version: "1",
            extensions: &["flv"],
            transport: Transport::HTTP,
            content_type: "video/x-flv",
            video_codecs: VIDEO_CODECS,
            audio_codecs: AUDIO_CODECS,
            options: OPTIONS,
        }
    }

    fn further_transports() -> &'static [Transport] {
        &[Transport::WEBSOCKET]
    }

    fn remuxer(setup: &Setup) -> Result<FlvRemuxer, RemuxError> {
        Ok(FlvRemuxer::new(setup))
    }
}

/// The host.
pub struct HttpHost {
    runtime: Runtime,
    server: Arc<Server>,
    budget: Budget,
    idle: [usize; 3],
}

impl HttpHost {
    /// Starts the host, its stream, and a viewer that stays.
    ///
    /// # Panics
    /// When the viewer gets nothing.
    pub fn start() -> HttpHost {
        let current = Current::new(Config::parse(CONFIG, "fuzz.toml").expect("a config without errors"));
        let config = current.config();
        let terms = Terms { generation: 1, max_output: 1 << 20, max_faults: 5, unload: false };
        let module = linked::<Flv>(&terms).expect("the module is loaded");
        let (hub, vhost) = (Hub::new(), config.vhosts[0].clone());
        let key = StreamKey::new(&vhost.name, "live", "film");
        let (publisher, _) =
            hub.publish(key, &vhost, Account::unlimited()).expect("the first publisher of the stream");
        let frame = [b"\x17\x01\0\0\0\0\0\0\x1a\x65", FRAME].concat();
        let tags: [(i64, &[u8]); 3] = [
            (0, b"\x17\0\0\0\0\x01\x42\0\x1f\xff\xe1\0\x02\x67a\x01\0\x02\x68b"),
            (0, &frame),
            // The file header no longer waits for audio.
            (900, b"\x27\x01\0\0\0\0\0\0\x02\x41x"),
        ];
        for (time, body) in tags {
            let tag = Tag::new(TagKind::VIDEO, Millis(time), Bytes::copy_from_slice(body));
            assert!(publisher.push(tag, Millis(time)), "it publishes");
        }
        // It lives as long as the process.
        std::mem::forget(publisher);
        let budget = Budget::new(MEMORY);
        let registry = Arc::new(Registry::of(vec![module]));
        let pool = Pool::new(1, Duration::from_secs(10), None);
        let router = Router::new(config.vhosts.clone(), &config.limits.sessions);
        let service = Service::new(current.clone(), router, hub.clone(), registry, pool, None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let relay = Relay::new(
            Outbox::new(current.clone(), service.access().clone()),
            Arc::default(),
            Directory::new(current.clone(), Arc::default()),
        );
        // Peers in memory need no threads.
        let fanout = Fanout::start(1, service.access().load(), || budget.address().account()).expect("a thread");
        let server = Server::new(current, hub, service, relay, fanout, budget.clone(), Lifecycle::default());
        let request = format!("GET {PATH} HTTP/1.1\r\nHost: a.example\r\n\r\n");
        let viewer =
            Peer { sends: request.into(), step: usize::MAX, reads: usize::MAX, stays: Duration::MAX / 4 };
        runtime.block_on(async {
            // Two viewers: the first makes the mount, and the second shows that its output is there.
            tokio::spawn({
                let (server, viewer) = (server.clone(), viewer.clone());
                async move { serve(&server, viewer).await }
            });
            tokio::time::sleep(Duration::from_millis(500)).await;
            let second = Peer { stays: Duration::from_millis(500), ..viewer };
            let (read, _) = serve(&server, second).await.expect("the host accepts connections");
            assert!(contains(&read, FRAME), "{}", String::from_utf8_lossy(&read));
            tokio::time::pause();
        });
        let idle = used(&budget);
        HttpHost { runtime, server, budget, idle }
    }

    /// Serves a connection to its end. Returns what the peer has read, and whether the host left first.
    ///
    /// # Panics
    /// When memory stays charged.
    pub fn serve(&self, peer: Peer) -> (Vec<u8>, bool) {
        let served = self.runtime.block_on(async {
            let served = serve(&self.server, peer).await;
            // Tasks of HTTP/2 streams end after their connection.
            for _ in 0..100 {
                if used(&self.budget) == self.idle {
                    break;
                }
                tokio::task::yield_now().await;
            }
            served
        });
        assert_eq!(used(&self.budget), self.idle, "memory is charged after the connection");
        served.expect("the host accepts connections")
    }
}

fn used(budget: &Budget) -> [usize; 3] {
    budget.usage().used.map(|(_, bytes)| bytes)
}

/// Whether `bytes` contain `part`.
pub fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

//! The config as the host uses it: validated and complete.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::access::{Jwt, PublishKeys, Refer, SecureLink, Security, SessionLimits, SignedUrl};
use super::api::HttpApi;
use super::certificate::CertificateFiles;
use super::cluster::{Cluster, Forward, Node};
use super::hooks::{HostHooks, HttpHooks};
use super::metrics::Metrics;
use super::pattern::MountPattern;
use super::redirect::Redirect;
use super::source::KeyPath;
use super::values::{Difference, Values};

/// The whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[rtmp]`.
    pub rtmp: Rtmp,
    /// `[rtmps]`: RTMP over TLS.
    pub rtmps: TlsListener,
    /// `[http_server]`.
    pub http_server: HttpServer,
    /// `[http_api]`.
    pub http_api: HttpApi,
    /// `[admin]`.
    pub admin: Admin,
    /// `[shutdown]`.
    pub shutdown: Shutdown,
    /// `[proxy]`.
    pub proxy: Proxy,
    /// `[modules]`.
    pub modules: Modules,
    /// `[log]`.
    pub log: Log,
    /// `[metrics]`.
    pub metrics: Metrics,
    /// `[limits]`.
    pub limits: Limits,
    /// `[http_hooks]`.
    pub http_hooks: HostHooks,
    /// `[cluster]`.
    pub cluster: Node,
    /// `[vhost."NAME"]`, in the order of the file.
    pub vhosts: Vec<Arc<Vhost>>,
    /// Every key with its value.
    pub(super) values: Values,
}

impl Config {
    /// Returns what is different in `new`, key by key.
    pub fn differences(&self, new: &Config) -> Vec<Difference> {
        self.values.differences(&new.values)
    }
}

/// `[rtmp]`: ingest and play over RTMP.
#[derive(Clone, Debug, PartialEq)]
pub struct Rtmp {
    /// `listen`: `[ip:]port`, default `["1935"]`; the ip defaults to 0.0.0.0.
    pub listen: Vec<SocketAddr>,
    /// `chunk_size`: size of sent chunks, 128 to 65536 bytes. Default 60000 (SRS).
    pub chunk_size: u32,
    /// `window_ack_size`: bytes after which peers must acknowledge. Default 2500000 (SRS).
    pub window_ack_size: u32,
    /// Settings of its listeners.
    pub accept: Accept,
}

/// The keys that every table with a listener has.
#[derive(Clone, Debug, PartialEq)]
pub struct Accept {
    /// `proxy_protocol`: every connection starts with a PROXY protocol header, version 1 or 2. Default false.
    pub proxy_protocol: bool,
    /// `reuse_port`: other processes may listen on the same addresses (SO_REUSEPORT). Default false.
    pub reuse_port: bool,
}

/// `[http_server]`: live mounts over HTTP and WebSocket.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpServer {
    /// `enabled`: listen for HTTP without TLS. Default false.
    pub enabled: bool,
    /// `listen`: `[ip:]port`, default `8080`.
    pub listen: SocketAddr,
    /// `crossdomain`: answer CORS requests. Default true.
    pub crossdomain: bool,
    /// `origins`: the origins whose pages may read, also with credentials. Default, and if empty: all, without credentials.
    pub origins: Vec<String>,
    /// Settings of the listener.
    pub accept: Accept,
    /// `[http_server.https]`: the same over TLS, whether `enabled` is set or not (SRS).
    pub https: TlsListener,
    /// `dir`: the directory of static files. Default, and for an empty string: none (SRS: `./objs/nginx/html`).
    pub dir: Option<PathBuf>,
}

/// `[http_server.https]` or `[rtmps]`: a listener that speaks TLS.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsListener {
    /// `enabled`, default false.
    pub enabled: bool,
    /// `listen`: `[ip:]port`, default `8088` of HTTPS and `1443` of RTMPS (SRS).
    pub listen: SocketAddr,
    /// `key` and `cert`: for clients that send no server name, or one that no vhost has a certificate for.
    pub certificate: CertificateFiles,
    /// Settings of the listener; the PROXY protocol comes before TLS.
    pub accept: Accept,
}

/// `[admin]`: the control socket of a running host.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// `socket`: the path of a Unix socket. Default, and for an empty string: derived from the config file's path.
    pub socket: Option<PathBuf>,
}

/// `[shutdown]`: the end of a host by SIGTERM or SIGQUIT.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shutdown {
    /// `grace_start_wait`: how long new clients are served while `/readyz` answers 503. Default 2.3 s (SRS).
    pub grace_start_wait: Duration,
    /// `shutdown_grace`: how long sessions go on after that, without new clients. Default 10 s.
    pub shutdown_grace: Duration,
}

/// `[proxy]`: the proxies in front of the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// `trusted`: networks of proxies whose forwarding headers are believed: CIDR blocks or single addresses. Default
    /// none.
    pub trusted: Vec<IpNet>,
    /// `headers`: headers with the client's address, in order of precedence. Default X-Forwarded-For, Forwarded.
    pub headers: Vec<ForwardedHeader>,
}

impl Proxy {
    /// Returns whether `address` is a trusted proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        // A socket that listens on [::] sees IPv4 peers as ::ffff:a.b.c.d.
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

/// A header with the address of a proxy's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `Forwarded` (RFC 7239), which has scheme and host too.
    Forwarded,
    /// `X-Forwarded-For`; scheme and host are in `X-Forwarded-Proto` and `X-Forwarded-Host`.
    XForwardedFor,
    /// `X-Real-IP`, one address; the rest as with `X-Forwarded-For`.
    XRealIp,
}

/// `[modules]`: where format modules come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Modules {
    /// `dir`: the directory of `lib*.so`. Default, and for an empty string: that of the executable.
    pub dir: Option<PathBuf>,
    /// `load`: names of the modules to load. Default `["flv", "ts", "mp3", "aac", "websocket-flv"]`.
    pub load: Vec<String>,
    /// `optional`: those of them whose files may be missing. Default none.
    pub optional: Vec<String>,
    /// `max_output`: limit of a module's output in one call in bytes, above 16 times the tags and configurations that it is
    /// made of. Default 1 MiB.
    pub max_output: usize,
    /// `max_faults`: faults in a minute that are tolerated on a stream before its mount closes. Default 5.
    pub max_faults: u32,
    /// `call_timeout`: a module call that takes longer counts as hung. The time that it waits for a CPU does not count. Default 1 s.
    pub call_timeout: Duration,
    /// `workers`: threads that run remuxers, without those of slow modules. 0, the default: one a core.
    pub workers: usize,
    /// `reload`: effect of a new generation on viewers of the previous one. Default `handover`.
    pub reload: ReloadMode,
    /// `drain_timeout`: how long viewers may stay on an old generation. `None`, 0 in the file, is without limit. Default
    /// 1 h.
    pub drain_timeout: Option<Duration>,
    /// `watch`: reload when a file in the module directory changes. Default false.
    pub watch: bool,
    /// `unload`: unmap an old generation after its last use. Default false.
    pub unload: bool,
    /// `[module."NAME"]`, in the order of the file.
    pub own: Vec<OwnModule>,
}

/// The effect of a new generation of a module on viewers of the previous one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadMode {
    /// They move to it at the next keyframe.
    Handover,
    /// They stay until they leave, or `drain_timeout` ends them.
    Drain,
}

/// `[module."NAME"]`: settings of one module.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnModule {
    /// The name, as in `modules.load`.
    pub name: String,
    /// `isolation`: the process that runs the module's code. Default `none`.
    pub isolation: Isolation,
    /// `max_memory`: memory limit of the module's process in bytes, above what it starts with. Default 256 MiB.
    pub max_memory: usize,
}

impl OwnModule {
    /// The default of `max_memory`.
    pub const MAX_MEMORY: usize = 256 << 20;
}

/// The process that runs a module's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// The host.
    None,
    /// A process of its own, without files or network.
    Process,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// `level`: a level (`info`) or tracing directives (`info,remuxd::rtmp=debug`). Default `info`.
    pub level: String,
    /// `format`: `text` or `json`. Default `text`.
    pub json: bool,
    /// `[log.access]`: a file of its own for access lines; `None` without `file`.
    pub access: Option<AccessLogFile>,
}

/// `[log.access]`: the access lines in a file, beside those in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogFile {
    /// `file`: lines are appended; opened again at SIGUSR1.
    pub file: PathBuf,
    /// `format`: `combined` or `json`. Default `combined`.
    pub format: AccessFormat,
}

/// The format of an access line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// The format of nginx and Apache, with more fields after it.
    Combined,
    /// A JSON object.
    Json,
}

/// `[limits]`: resource limits for peers.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// `max_connections`: open connections, all listeners together. Default 100000.
    pub max_connections: usize,
    /// `max_connections_per_address`: open connections of one address; 0 is without limit. Default 4096.
    pub max_connections_per_address: usize,
    /// `accept_rate`: connections of one address within a second; 0 is without limit. Default 1000.
    pub accept_rate: u32,
    /// `receive_rate`: bytes in a second that HTTP and WebSocket clients of one address may send, beside a 64th of what they are
    /// sent; 0 is without limit. Default 128 KiB.
    pub receive_rate: u32,
    /// `handshake_timeout`: from accept to a complete HTTP request head, or to RTMP publish or play. Default 10 s.
    pub handshake_timeout: Duration,
    /// `media_timeout`: from the last media sent or received on an RTMP connection until it is closed, in addition to the
    /// longest time for which its requests may wait for media. Default 3 min (SRS).
    pub media_timeout: Duration,
    /// `send_timeout`: a peer that accepts no byte for this long is closed, and one that leaves an RTMP message unfinished
    /// for this long to twice as long. Default 30 s.
    pub send_timeout: Duration,
    /// `max_message`: the largest RTMP message, in bytes. Default 16 MiB.
    pub max_message: u32,
    /// `max_buffered`: bytes of unfinished messages on one RTMP connection; at least `max_message`. Default 32 MiB.
    pub max_buffered: usize,
    /// `max_memory`: memory that all peers together may make the host keep. Default 50 %.
    pub max_memory: MemoryLimit,
    /// `max_lag`: new viewers are refused while others are sent their media later than this; zero for never.
    pub max_lag: Duration,
    /// Limits of publishers and viewers. A reload changes them.
    pub sessions: SessionLimits,
}

/// A limit of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimit {
    /// A number of bytes.
    Bytes(usize),
    /// A share of the memory of the machine, or of the host's cgroup, in percent.
    Percent(u8),
}

impl MemoryLimit {
    /// Returns the limit in bytes, where there are `memory` bytes.
    pub fn of(self, memory: u64) -> usize {
        match self {
            MemoryLimit::Bytes(bytes) => bytes,
            MemoryLimit::Percent(percent) => (u128::from(memory) * u128::from(percent) / 100) as usize,
        }
    }
}

/// `[vhost."NAME"]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Vhost {
    /// The name: a host name, or [`DEFAULT_VHOST`](super::DEFAULT_VHOST).
    pub name: String,
    /// `enabled`, default true. A disabled vhost refuses publishers and viewers.
    pub enabled: bool,
    /// `[vhost."NAME".security]`.
    pub security: Security,
    /// `[vhost."NAME".refer]`.
    pub refer: Refer,
    /// `[vhost."NAME".signed_url]`.
    pub signed_url: SignedUrl,
    /// `[vhost."NAME".jwt]`.
    pub jwt: Jwt,
    /// `[vhost."NAME".secure_link]`.
    pub secure_link: SecureLink,
    /// `[vhost."NAME".publish_key]`.
    pub publish_key: PublishKeys,
    /// `[vhost."NAME".limits]`.
    pub limits: SessionLimits,
    /// `[vhost."NAME".http_hooks]`.
    pub http_hooks: HttpHooks,
    /// `[vhost."NAME".cluster]`.
    pub cluster: Cluster,
    /// `[vhost."NAME".forward]`.
    pub forward: Forward,
    /// `[vhost."NAME".publish]`.
    pub publish: Publish,
    /// `[vhost."NAME".play]`.
    pub play: Play,
    /// `[vhost."NAME".https]`: the vhost's own certificate, for clients that ask for the vhost's name or for a name in the
    /// certificate. Default none.
    pub https: Option<CertificateFiles>,
    /// `[[vhost."NAME".http_remux]]`, enabled ones only, in the order of the file.
    pub mounts: Vec<Arc<Mount>>,
    /// `[[vhost."NAME".redirect]]`, enabled ones only, in the order of the file.
    pub redirects: Vec<Arc<Redirect>>,
}

impl Vhost {
    /// Returns the path of the table.
    pub fn path(&self) -> KeyPath {
        KeyPath::of("vhost").name(&self.name)
    }

    /// Returns the path of one of `mounts`.
    pub fn mount_path(&self, index: usize) -> KeyPath {
        self.path().key("http_remux").index(index)
    }

    /// Returns the path of one of `redirects`.
    pub fn redirect_path(&self, index: usize) -> KeyPath {
        self.path().key("redirect").index(index)
    }
}

/// `[vhost."NAME".publish]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Publish {
    /// `publish_conflict`: treatment of a second publisher of a live stream. Default `reject`.
    pub conflict: PublishConflict,
    /// `firstpkt_timeout`: from publish to the first media. Default 20 s (SRS).
    pub firstpkt_timeout: Duration,
    /// `normal_timeout`: between media. Default 5 s (SRS).
    pub normal_timeout: Duration,
    /// `republish_wait`: how long viewers wait for a publisher that left to return. Default 3 s.
    pub republish_wait: Duration,
}

/// The treatment of a second publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishConflict {
    /// The newcomer is refused.
    Reject,
    /// The newcomer takes over; the first is closed.
    Replace,
}

/// `[vhost."NAME".play]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Play {
    /// `gop_cache`: a new viewer starts at the last keyframe, else waits for the next. Default true (SRS).
    pub gop_cache: bool,
    /// `gop_cache_max_frames`: a GOP with more tags is not kept. Default 2500 (SRS).
    pub gop_cache_max_frames: usize,
    /// `gop_cache_max_bytes`: a GOP with more bytes is not kept. Default 64 MiB.
    pub gop_cache_max_bytes: usize,
    /// `queue_length`: how far a slow viewer may fall behind before it is moved to the newest keyframe.
    /// Default 30 s (SRS).
    pub queue_length: Duration,
    /// `queue_max_bytes`: bytes that a ring holds for slow viewers; none falls further behind. Default 64 MiB.
    pub queue_max_bytes: usize,
    /// `merge_write`: viewers are sent what there is this often. Default 40 ms.
    pub merge_write: Duration,
    /// `merge_write_audio`: the same for mounts whose format carries audio alone. Default 250 ms.
    pub merge_write_audio: Duration,
    /// `min_latency`: wake viewers on every tag. Default false (SRS).
    pub min_latency: bool,
    /// `wait`: how long a viewer waits for a stream before 404. Default 10 s.
    pub wait: Duration,
    /// `idle_timeout`: how long a mount continues to remux after its last viewer left. Default 10 s.
    pub idle_timeout: Duration,
    /// `reduce_sequence_header`: drop sequence headers equal to the last one. Default true.
    pub reduce_sequence_header: bool,
}

/// `[[vhost."NAME".http_remux]]`: a URL pattern bound to a format.
#[derive(Clone, Debug, PartialEq)]
pub struct Mount {
    /// `mount`: default `[vhost]/[app]/[stream].flv`.
    pub pattern: MountPattern,
    /// `options`: options of the format as written; checked against the schema of each module that answers the extension.
    pub options: Vec<(String, String)>,
    /// `fast_cache`: length of audio that a new viewer gets at once. Formats with video ignore it. Default 5 s: browsers
    /// start at once and do not rebuffer, from 64 kbit/s on. With 0 (SRS) a viewer starts at the newest frame.
    pub fast_cache: Duration,
}

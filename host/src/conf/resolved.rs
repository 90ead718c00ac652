//! The configuration as the host uses it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::diagnostics::{Place, Report, Source};

/// The name of the vhost that answers when no other matches.
pub const DEFAULT_VHOST: &str = "__defaultVhost__";

/// The whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[rtmp]`.
    pub rtmp: Rtmp,
    /// `[rtmps]`: RTMP over TLS.
    pub rtmps: TlsListener,
    /// `[http_server]`.
    pub http_server: HttpServer,
    /// `[proxy]`.
    pub proxy: Proxy,
    /// `[modules]`.
    pub modules: Modules,
    /// `[log]`.
    pub log: Log,
    /// `[limits]`.
    pub limits: Limits,
    /// `[vhost."NAME"]`, in the order of the file.
    pub vhosts: Vec<Arc<Vhost>>,
    /// The file. [`Config::diagnostics`] shows its lines.
    pub source: Arc<Source>,
    /// What is doubtful in the file, and does no harm.
    pub warnings: Report,
}

/// `[rtmp]`: ingest and play over RTMP.
#[derive(Clone, Debug, PartialEq)]
pub struct Rtmp {
    /// `listen`: `[ip:]port`, default `["1935"]`; the ip defaults to 0.0.0.0.
    pub listen: Vec<SocketAddr>,
    /// Where each address of `listen` stands.
    pub listen_places: Vec<Place>,
    /// `chunk_size`: of the chunks that the host sends, 128 to 65536 bytes. Default 60000 (SRS).
    pub chunk_size: u32,
    /// `window_ack_size`: what the host asks its peers for, in bytes. Default 2500000 (SRS).
    pub window_ack_size: u32,
    /// How its listeners take connections.
    pub accept: Accept,
}

/// The keys that every table with a listener has.
#[derive(Clone, Debug, PartialEq)]
pub struct Accept {
    /// `proxy_protocol`: every connection opens with a PROXY protocol header, version 1 or 2. Default false.
    pub proxy_protocol: bool,
    /// Where `proxy_protocol` stands.
    pub proxy_protocol_place: Place,
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
    /// Where `listen` stands.
    pub listen_place: Place,
    /// `crossdomain`: answer CORS requests. Default true.
    pub crossdomain: bool,
    /// How the listener takes connections.
    pub accept: Accept,
    /// `[http_server.https]`: the same over TLS, whether `enabled` is set or not (SRS).
    pub https: TlsListener,
    /// `dir`: the directory of static files. Default, and for an empty string: none (SRS: `./objs/nginx/html`).
    pub dir: Option<PathBuf>,
    /// Where `dir` stands.
    pub dir_place: Place,
}

/// `[http_server.https]` or `[rtmps]`: a listener that speaks TLS.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsListener {
    /// `enabled`, default false.
    pub enabled: bool,
    /// `listen`: `[ip:]port`, default `8088` of HTTPS and `1443` of RTMPS (SRS).
    pub listen: SocketAddr,
    /// Where `listen` stands.
    pub listen_place: Place,
    /// `key` and `cert`: for clients that ask for no name, or for one that no vhost has a certificate for.
    pub certificate: CertificateFiles,
    /// How the listener takes connections; the PROXY protocol comes before TLS.
    pub accept: Accept,
}

/// A certificate chain and its private key, as PEM files. Relative paths start at the working directory.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateFiles {
    /// `key`: default `./conf/server.key` of a listener (SRS).
    pub key: PathBuf,
    /// Where `key` stands; of the default, where the table's header stands.
    pub key_place: Place,
    /// `cert`: the server's certificate first, then those that lead to its root. Default `./conf/server.crt` of a
    /// listener (SRS).
    pub cert: PathBuf,
    /// Where `cert` stands; of the default, where the table's header stands.
    pub cert_place: Place,
}

/// `[proxy]`: the proxies in front of the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// `trusted`: the networks whose word about addresses counts: CIDR blocks or single addresses. Default none.
    pub trusted: Vec<IpNet>,
    /// `headers`: where they say it; the first that a request has counts. Default X-Forwarded-For, Forwarded.
    pub headers: Vec<ForwardedHeader>,
}

impl Proxy {
    /// Whether the word of `address` counts.
    pub fn trusts(&self, address: IpAddr) -> bool {
        // A socket that listens on [::] sees IPv4 peers as ::ffff:a.b.c.d.
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

/// A header in which a proxy says whom it serves.
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
    /// `dir`: where `lib*.so` are looked for. Default, and for an empty string: beside the executable.
    pub dir: Option<PathBuf>,
    /// `load`: names of the modules to load. Default `["flv", "ts", "mp3", "aac", "websocket-flv"]`.
    pub load: Vec<String>,
    /// Where each name of `load` stands; of the default, nowhere.
    pub load_places: Vec<Place>,
    /// `max_output`: bytes that a module may make in one call, above 16 times the tag. Default 1 MiB.
    pub max_output: usize,
    /// `max_faults`: errors and panics in a minute before a generation is quarantined. Default 5.
    pub max_faults: u32,
    /// `call_timeout`: a module call that takes longer is named in the log. Default 1 s.
    pub call_timeout: Duration,
    /// `workers`: threads that run remuxers. 0, the default: one a core.
    pub workers: usize,
    /// `[module."NAME"]`, in the order of the file.
    pub own: Vec<OwnModule>,
}

/// `[module."NAME"]`: what holds for one module.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnModule {
    /// The name, as in `modules.load`.
    pub name: String,
    /// Where the name stands.
    pub place: Place,
    /// `isolation`: where the module's code runs. Default `none`.
    pub isolation: Isolation,
    /// `max_memory`: of the module's process, above what the program itself takes, in bytes. Default 256 MiB.
    pub max_memory: usize,
}

/// Where a module's code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// In the host.
    None,
    /// In a process of its own, without files or network.
    Process,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// `level`: a level (`info`) or tracing directives (`info,remuxd::rtmp=debug`). Default `info`.
    pub level: String,
    /// `format`: `text` or `json`. Default `text`.
    pub json: bool,
}

/// `[limits]`: what peers may cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// `max_connections`: open connections, all listeners together. Default 100000.
    pub max_connections: usize,
    /// `handshake_timeout`: from accept to a complete HTTP request head, or to RTMP publish or play. Default 10 s.
    pub handshake_timeout: Duration,
    /// `send_timeout`: a peer that takes no byte for this long is closed. Default 30 s.
    pub send_timeout: Duration,
    /// `max_message`: the largest RTMP message, in bytes. Default 16 MiB.
    pub max_message: u32,
    /// Where `max_message` stands.
    pub max_message_place: Place,
    /// `max_buffered`: bytes of unfinished messages on one RTMP connection; at least `max_message`. Default 32 MiB.
    pub max_buffered: usize,
    /// Where `max_buffered` stands.
    pub max_buffered_place: Place,
}

/// `[vhost."NAME"]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Vhost {
    /// The name: a host name, or [`DEFAULT_VHOST`].
    pub name: String,
    /// Where the name stands, for the first time.
    pub place: Place,
    /// `enabled`, default true. A disabled vhost refuses publishers and viewers.
    pub enabled: bool,
    /// `[vhost."NAME".publish]`.
    pub publish: Publish,
    /// `[vhost."NAME".play]`.
    pub play: Play,
    /// `[vhost."NAME".https]`: a certificate of the vhost's own. Listeners show it to clients that ask for the vhost's
    /// name, or for a name in the certificate. Default none.
    pub https: Option<CertificateFiles>,
    /// `[[vhost."NAME".http_remux]]`, enabled ones only, in the order of the file.
    pub mounts: Vec<Arc<Mount>>,
    /// `[[vhost."NAME".redirect]]`, enabled ones only, in the order of the file.
    pub redirects: Vec<Arc<Redirect>>,
}

/// `[vhost."NAME".publish]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Publish {
    /// `publish_conflict`: what a second publisher of a live stream gets. Default `reject`.
    pub conflict: PublishConflict,
    /// `firstpkt_timeout`: from publish to the first media. Default 20 s (SRS).
    pub firstpkt_timeout: Duration,
    /// `normal_timeout`: between media. Default 5 s (SRS).
    pub normal_timeout: Duration,
    /// `republish_wait`: how long viewers stay after their publisher left, for it to come back. Default 3 s.
    pub republish_wait: Duration,
}

/// What happens to a second publisher.
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
    /// `merge_write`: viewers are woken together this often. Default 40 ms.
    pub merge_write: Duration,
    /// `min_latency`: wake viewers on every tag. Default false (SRS).
    pub min_latency: bool,
    /// `wait`: how long a viewer waits for a stream before 404. Default 10 s.
    pub wait: Duration,
    /// `idle_timeout`: how long a mount goes on remuxing after its last viewer left. Default 10 s.
    pub idle_timeout: Duration,
    /// `reduce_sequence_header`: drop sequence headers equal to the last one. Default true.
    pub reduce_sequence_header: bool,
}

/// `[[vhost."NAME".http_remux]]`: a URL pattern bound to a format.
#[derive(Clone, Debug, PartialEq)]
pub struct Mount {
    /// `mount`: default `[vhost]/[app]/[stream].flv`.
    pub pattern: MountPattern,
    /// `options`: for the format, as written; checked against the schema of each module that answers the extension.
    pub options: Vec<(String, String)>,
    /// `fast_cache`: how much audio a new viewer gets at once. For formats that carry audio alone; with others it is
    /// ignored. Default 0 (SRS): a viewer starts at the newest frame.
    pub fast_cache: Duration,
    /// Where `fast_cache` stands.
    pub fast_cache_place: Place,
    /// Where `mount` stands; of the default, where the table's header stands.
    pub place: Place,
    /// Where the key and the value of each of `options` stand, in the same order.
    pub option_places: Vec<OptionPlace>,
}

/// Where one option of a mount stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OptionPlace {
    /// The key.
    pub key: Place,
    /// The value.
    pub value: Place,
}

/// `[[vhost."NAME".redirect]]`: a URL pattern whose requests are sent elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// `path`: a pattern as of a mount, default `[vhost]/[app]/[stream].flv`.
    pub pattern: MountPattern,
    /// `to`: where to.
    pub target: RedirectTarget,
    /// `status`: 301, 302, 307 or 308, default 302.
    pub status: u16,
    /// Where `path` stands; of the default, where the table's header stands.
    pub place: Place,
}

/// A URL with variables, taken apart: `http://edge.example/[app]/[stream].flv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectTarget {
    /// As written.
    pub text: String,
    /// Its parts, from the left.
    pub parts: Vec<TargetPart>,
}

/// One part of a redirect target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPart {
    /// These characters.
    Literal(String),
    /// `[vhost]`: the name of the vhost as configured.
    Vhost,
    /// `[app]`.
    App,
    /// `[stream]`.
    Stream,
    /// `[query]`: the query of the request, without `?`.
    Query,
}

/// A mount pattern, taken apart: `[vhost]/tv/[app]/[stream].flv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPattern {
    /// As written.
    pub text: String,
    /// Whether only requests for the vhost's own name match (the pattern starts with `[vhost]` or a host name).
    pub vhost_only: bool,
    /// The path's segments up to the last, without the leading slash.
    pub dirs: Vec<Segment>,
    /// The last segment, without the extension.
    pub file: Segment,
    /// The extension, without the dot; empty when there is none.
    pub extension: String,
}

/// One segment of a mount pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// These characters.
    Literal(String),
    /// `[app]`.
    App,
    /// `[stream]`.
    Stream,
}

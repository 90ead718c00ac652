//! The schema of a config file: one function for each table, one line for each key, with its default and its kind.
//!
//! A new key needs a field of [`Config`], documented there, a line here, and a line in conf/remuxd.toml, which a test
//! checks. Names and defaults are those of SRS where SRS has the key.

mod access;
mod api;
mod certificate;
mod cluster;
mod hooks;
mod pattern;
mod redirect;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::certificate::{DEFAULT_CERTIFICATE, certificate};
use self::pattern::pattern;
use self::redirect::redirect;
use super::certificate::CertificateFiles;
use super::config::*;
use super::metrics::Metrics;
use super::table::Table;
use super::value::{
    any_ip, choice, directives, duration, flag, integer, list, listen, memory_limit, network, origin, size,
    some, text,
};
use super::values::Values;

/// The modules that are part of the host's release.
const DEFAULT_MODULES: [&str; 5] = ["flv", "ts", "mp3", "aac", "websocket-flv"];

const RELOAD_MODES: &[(&str, ReloadMode)] =
    &[("handover", ReloadMode::Handover), ("drain", ReloadMode::Drain)];

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
/// The resolution of timers.
const TICK: Duration = Duration::from_millis(1);
const ZERO: Duration = Duration::ZERO;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

pub(super) fn config(file: &mut Table) -> Config {
    Config {
        rtmp: file.table("rtmp", rtmp),
        rtmps: file.table("rtmps", |table| tls_listener(table, 1443)),
        http_server: file.table("http_server", http_server),
        http_api: file.table("http_api", api::http_api),
        admin: file.table("admin", admin),
        shutdown: file.table("shutdown", shutdown),
        proxy: file.table("proxy", proxy),
        modules: {
            let modules = file.table("modules", modules);
            Modules { own: file.named("module", own_module), ..modules }
        },
        log: file.table("log", log),
        metrics: file.table("metrics", metrics),
        limits: file.table("limits", limits),
        http_hooks: file.table("http_hooks", hooks::host_hooks),
        cluster: file.table("cluster", cluster::node),
        vhosts: file.named("vhost", |table, name| Arc::new(vhost(table, name))),
        // Known once all keys are read.
        values: Values::default(),
    }
}

fn rtmp(table: &mut Table) -> Rtmp {
    Rtmp {
        listen: table.key("listen", vec![any_ip(1935)], some(list(listen))),
        chunk_size: table.key("chunk_size", 60_000, integer(128..=65_536)),
        window_ack_size: table.key("window_ack_size", 2_500_000, size(1..=u32::MAX)),
        accept: accept(table),
    }
}

fn accept(table: &mut Table) -> Accept {
    Accept {
        proxy_protocol: table.key("proxy_protocol", false, flag),
        reuse_port: table.key("reuse_port", false, flag),
    }
}

fn http_server(table: &mut Table) -> HttpServer {
    HttpServer {
        enabled: table.key("enabled", false, flag),
        listen: table.key("listen", any_ip(8080), listen),
        crossdomain: table.key("crossdomain", true, flag),
        origins: table.key("origins", Vec::new(), list(origin)),
        accept: accept(table),
        https: table.table("https", |table| tls_listener(table, 8088)),
        dir: path(table, "dir"),
    }
}

fn proxy(table: &mut Table) -> Proxy {
    let headers = &[
        ("x-forwarded-for", ForwardedHeader::XForwardedFor),
        ("forwarded", ForwardedHeader::Forwarded),
        ("x-real-ip", ForwardedHeader::XRealIp),
    ];
    // Proxies that know only X-Forwarded-For pass on a viewer's own Forwarded header, so X-Forwarded-For comes first.
    let default = vec![ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded];
    Proxy {
        trusted: table.key("trusted", Vec::new(), list(network)),
        headers: table.key("headers", default, list(choice(headers))),
    }
}

fn tls_listener(table: &mut Table, port: u16) -> TlsListener {
    TlsListener {
        enabled: table.key("enabled", false, flag),
        listen: table.key("listen", any_ip(port), listen),
        certificate: certificate(table, DEFAULT_CERTIFICATE),
        accept: accept(table),
    }
}

/// Reads a vhost's own certificate; `None` if both paths are empty.
fn own_certificate(table: &mut Table) -> Option<CertificateFiles> {
    let files = certificate(table, ["", ""]);
    (!files.key.as_os_str().is_empty() || !files.cert.as_os_str().is_empty()).then_some(files)
}

fn admin(table: &mut Table) -> Admin {
    Admin { socket: path(table, "socket") }
}

fn shutdown(table: &mut Table) -> Shutdown {
    Shutdown {
        grace_start_wait: table.key("grace_start_wait", Duration::from_millis(2300), duration(ZERO..=HOUR)),
        shutdown_grace: table.key("shutdown_grace", 10 * SECOND, duration(ZERO..=DAY)),
    }
}

/// Reads a path; an empty string is none.
fn path(table: &mut Table, key: &'static str) -> Option<PathBuf> {
    let path = table.key(key, String::new(), text);
    (!path.is_empty()).then(|| PathBuf::from(path))
}

fn modules(table: &mut Table) -> Modules {
    Modules {
        dir: path(table, "dir"),
        load: table.key("load", DEFAULT_MODULES.map(str::to_owned).to_vec(), list(text)),
        optional: table.key("optional", Vec::new(), list(text)),
        max_output: table.key("max_output", MIB, size(MIB..=GIB)),
        max_faults: table.key("max_faults", 5, integer(1..=1000)),
        call_timeout: table.key("call_timeout", SECOND, duration(TICK..=MINUTE)),
        workers: table.key("workers", 0, integer(0..=1024)),
        reload: table.key("reload", ReloadMode::Handover, choice(RELOAD_MODES)),
        drain_timeout: Some(table.key("drain_timeout", HOUR, duration(ZERO..=DAY)))
            .filter(|time| !time.is_zero()),
        watch: table.key("watch", false, flag),
        unload: table.key("unload", false, flag),
        own: Vec::new(),
    }
}

fn own_module(table: &mut Table, name: &str) -> OwnModule {
    let isolations = &[("none", Isolation::None), ("process", Isolation::Process)];
    OwnModule {
        name: name.to_owned(),
        isolation: table.key("isolation", Isolation::None, choice(isolations)),
        max_memory: table.key("max_memory", OwnModule::MAX_MEMORY, size(16 * MIB..=64 * GIB)),
    }
}

fn log(table: &mut Table) -> Log {
    Log {
        level: table.key("level", "info".to_owned(), directives),
        json: table.key("format", "text", choice(&[("text", "text"), ("json", "json")])) == "json",
        access: table.table("access", access_log),
    }
}

/// Reads the table of the access log; `None` without a file.
fn access_log(table: &mut Table) -> Option<AccessLogFile> {
    let file = path(table, "file");
    let formats = &[("combined", AccessFormat::Combined), ("json", AccessFormat::Json)];
    let format = table.key("format", AccessFormat::Combined, choice(formats));
    Some(AccessLogFile { file: file?, format })
}

fn metrics(table: &mut Table) -> Metrics {
    Metrics {
        per_stream: table.key("per_stream", false, flag),
        max_series: table.key("max_series", 20_000, integer(100..=1_000_000)),
    }
}

fn limits(table: &mut Table) -> Limits {
    Limits {
        max_connections: table.key("max_connections", 100_000, integer(1..=10_000_000)),
        max_connections_per_address: table.key("max_connections_per_address", 4096, integer(0..=10_000_000)),
        accept_rate: table.key("accept_rate", 1000, integer(0..=1_000_000)),
        receive_rate: table.key("receive_rate", 128 << 10, size(0..=1 << 30)),
        handshake_timeout: table.key("handshake_timeout", 10 * SECOND, duration(SECOND..=HOUR)),
        media_timeout: table.key("media_timeout", 3 * MINUTE, duration(SECOND..=HOUR)),
        send_timeout: table.key("send_timeout", 30 * SECOND, duration(SECOND..=HOUR)),
        max_message: table.key("max_message", 16 << 20, size(64 << 10..=16 << 20)),
        max_buffered: table.key("max_buffered", 32 * MIB, size(64 * KIB..=GIB)),
        max_memory: table.key("max_memory", MemoryLimit::Percent(50), memory_limit(64 * MIB..=1024 * GIB)),
        max_lag: table.key("max_lag", Duration::from_millis(500), duration(Duration::ZERO..=MINUTE)),
        sessions: access::session_limits(table),
    }
}

fn vhost(table: &mut Table, name: &str) -> Vhost {
    Vhost {
        name: name.to_owned(),
        enabled: table.key("enabled", true, flag),
        security: table.table("security", access::security),
        refer: table.table("refer", access::refer),
        signed_url: table.table("signed_url", access::signed_url),
        jwt: table.table("jwt", access::jwt),
        secure_link: table.table("secure_link", access::secure_link),
        publish_key: table.table("publish_key", access::publish_keys),
        limits: table.table("limits", access::session_limits),
        http_hooks: table.table("http_hooks", hooks::http_hooks),
        cluster: table.table("cluster", |table| cluster::cluster(table, name)),
        forward: cluster::forward(table, name),
        publish: table.table("publish", publish),
        play: table.table("play", play),
        https: table.table("https", own_certificate),
        mounts: table.tables("http_remux", "mount", |table| mount(table, name).map(Arc::new)),
        redirects: table.tables("redirect", "path", |table| redirect(table, name).map(Arc::new)),
    }
}

fn publish(table: &mut Table) -> Publish {
    let conflicts = &[("reject", PublishConflict::Reject), ("replace", PublishConflict::Replace)];
    Publish {
        conflict: table.key("publish_conflict", PublishConflict::Reject, choice(conflicts)),
        firstpkt_timeout: table.key("firstpkt_timeout", 20 * SECOND, duration(SECOND..=HOUR)),
        normal_timeout: table.key("normal_timeout", 5 * SECOND, duration(SECOND..=HOUR)),
        republish_wait: table.key("republish_wait", 3 * SECOND, duration(ZERO..=HOUR)),
    }
}

fn play(table: &mut Table) -> Play {
    Play {
        gop_cache: table.key("gop_cache", true, flag),
        gop_cache_max_frames: table.key("gop_cache_max_frames", 2500, integer(1..=1_000_000)),
        gop_cache_max_bytes: table.key("gop_cache_max_bytes", 64 * MIB, size(64 * KIB..=4 * GIB)),
        queue_length: table.key("queue_length", 30 * SECOND, duration(SECOND..=HOUR)),
        queue_max_bytes: table.key("queue_max_bytes", 64 * MIB, size(64 * KIB..=4 * GIB)),
        merge_write: table.key("merge_write", Duration::from_millis(40), duration(TICK..=10 * SECOND)),
        merge_write_audio: table.key(
            "merge_write_audio",
            Duration::from_millis(250),
            duration(TICK..=10 * SECOND),
        ),
        min_latency: table.key("min_latency", false, flag),
        wait: table.key("wait", 10 * SECOND, duration(ZERO..=HOUR)),
        idle_timeout: table.key("idle_timeout", 10 * SECOND, duration(ZERO..=HOUR)),
        reduce_sequence_header: table.key("reduce_sequence_header", true, flag),
    }
}

/// Reads a mount; `None` if it is not enabled or its pattern is bad.
fn mount(table: &mut Table, vhost: &str) -> Option<Mount> {
    let enabled = table.key("enabled", false, flag);
    if !table.has("enabled") {
        table
            .warn("this mount is not enabled", "`enabled` is false by default, as in SRS")
            .help("add `enabled = true`");
    }
    let pattern = pattern(table, "mount", vhost);
    let fast_cache = table.key("fast_cache", 5 * SECOND, duration(ZERO..=HOUR));
    let options = table.settings("options");
    let pattern = pattern?;
    enabled.then_some(Mount { pattern, options, fast_cache })
}

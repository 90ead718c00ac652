//! What can stand in the file: a function a table, a line a key, with its default and its kind.
//!
//! A new key is a field of [`Config`], documented there, and a line here; tests then ask for its line in
//! conf/remuxd.toml. The names and defaults are those of SRS where SRS has the key.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::diagnostics::{Place, Report};
use super::resolved::*;
use super::table::{Setting, Table};
use super::value::{
    any_ip, choice, directives, duration, flag, integer, list, listen, network, placed, redirect_status,
    size, some, text,
};

/// The modules that load unless the file says otherwise: those that come with the host.
const DEFAULT_MODULES: [&str; 5] = ["flv", "ts", "mp3", "aac", "websocket-flv"];
/// The private key and the certificate of SRS.
const DEFAULT_CERTIFICATE: [&str; 2] = ["./conf/server.key", "./conf/server.crt"];
/// The mount of SRS.
const DEFAULT_MOUNT: &str = "[vhost]/[app]/[stream].flv";

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
/// The least that a timer can do.
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
        proxy: file.table("proxy", proxy),
        modules: {
            let modules = file.table("modules", modules);
            Modules { own: file.named("module", own_module), ..modules }
        },
        log: file.table("log", log),
        limits: file.table("limits", limits),
        vhosts: file.named("vhost", |table, name| Arc::new(vhost(table, name))),
        source: file.source(),
        warnings: Report::default(),
    }
}

fn rtmp(table: &mut Table) -> Rtmp {
    let default = vec![(any_ip(1935), Place::NONE)];
    let (listen, listen_places) =
        table.key("listen", default, some(list(placed(listen)))).into_iter().unzip();
    Rtmp {
        listen,
        listen_places,
        chunk_size: table.key("chunk_size", 60_000, integer(128..=65_536)),
        window_ack_size: table.key("window_ack_size", 2_500_000, size(1..=u32::MAX)),
        accept: accept(table),
    }
}

fn accept(table: &mut Table) -> Accept {
    let off = (false, Place::NONE);
    let (proxy_protocol, proxy_protocol_place) = table.key("proxy_protocol", off, placed(flag));
    let reuse_port = table.key("reuse_port", false, flag);
    Accept { proxy_protocol, proxy_protocol_place, reuse_port }
}

fn http_server(table: &mut Table) -> HttpServer {
    let (listen, listen_place) = table.key("listen", (any_ip(8080), Place::NONE), placed(listen));
    let (dir, dir_place) = table.key("dir", (String::new(), Place::NONE), placed(text));
    HttpServer {
        enabled: table.key("enabled", false, flag),
        listen,
        listen_place,
        crossdomain: table.key("crossdomain", true, flag),
        accept: accept(table),
        https: table.table("https", |table| tls_listener(table, 8088)),
        dir: (!dir.is_empty()).then(|| PathBuf::from(dir)),
        dir_place,
    }
}

fn proxy(table: &mut Table) -> Proxy {
    let headers = &[
        ("x-forwarded-for", ForwardedHeader::XForwardedFor),
        ("forwarded", ForwardedHeader::Forwarded),
        ("x-real-ip", ForwardedHeader::XRealIp),
    ];
    // Proxies that know X-Forwarded-For alone pass on what a viewer writes into Forwarded, so that one is second.
    let default = vec![ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded];
    Proxy {
        trusted: table.key("trusted", Vec::new(), list(network)),
        headers: table.key("headers", default, list(choice(headers))),
    }
}

fn tls_listener(table: &mut Table, port: u16) -> TlsListener {
    let (listen, listen_place) = table.key("listen", (any_ip(port), Place::NONE), placed(listen));
    TlsListener {
        enabled: table.key("enabled", false, flag),
        listen,
        listen_place,
        certificate: certificate(table, DEFAULT_CERTIFICATE),
        accept: accept(table),
    }
}

fn certificate(table: &mut Table, [key, cert]: [&str; 2]) -> CertificateFiles {
    let (key, key_place) = table.key("key", (key.to_owned(), table.place()), placed(text));
    let (cert, cert_place) = table.key("cert", (cert.to_owned(), table.place()), placed(text));
    CertificateFiles { key: key.into(), key_place, cert: cert.into(), cert_place }
}

/// A vhost's own certificate: none when both names are empty.
fn own_certificate(table: &mut Table) -> Option<CertificateFiles> {
    let files = certificate(table, ["", ""]);
    (!files.key.as_os_str().is_empty() || !files.cert.as_os_str().is_empty()).then_some(files)
}

fn modules(table: &mut Table) -> Modules {
    let dir = table.key("dir", String::new(), text);
    let default = DEFAULT_MODULES.map(|name| (name.to_owned(), Place::NONE)).to_vec();
    let (load, load_places) = table.key("load", default, list(placed(text))).into_iter().unzip();
    Modules {
        dir: (!dir.is_empty()).then(|| PathBuf::from(dir)),
        load,
        load_places,
        max_output: table.key("max_output", MIB, size(64 * KIB..=GIB)),
        max_faults: table.key("max_faults", 5, integer(1..=1000)),
        call_timeout: table.key("call_timeout", SECOND, duration(TICK..=MINUTE)),
        workers: table.key("workers", 0, integer(0..=1024)),
        own: Vec::new(),
    }
}

fn own_module(table: &mut Table, name: &str) -> OwnModule {
    let isolations = &[("none", Isolation::None), ("process", Isolation::Process)];
    OwnModule {
        name: name.to_owned(),
        place: table.place(),
        isolation: table.key("isolation", Isolation::None, choice(isolations)),
        max_memory: table.key("max_memory", 256 * MIB, size(16 * MIB..=64 * GIB)),
    }
}

fn log(table: &mut Table) -> Log {
    Log {
        level: table.key("level", "info".to_owned(), directives),
        json: table.key("format", false, choice(&[("text", false), ("json", true)])),
    }
}

fn limits(table: &mut Table) -> Limits {
    let message = (16 << 20, Place::NONE);
    let (max_message, max_message_place) =
        table.key("max_message", message, placed(size(64 << 10..=16 << 20)));
    let buffered = (32 * MIB, Place::NONE);
    let (max_buffered, max_buffered_place) =
        table.key("max_buffered", buffered, placed(size(64 * KIB..=GIB)));
    Limits {
        max_connections: table.key("max_connections", 100_000, integer(1..=10_000_000)),
        handshake_timeout: table.key("handshake_timeout", 10 * SECOND, duration(SECOND..=HOUR)),
        send_timeout: table.key("send_timeout", 30 * SECOND, duration(SECOND..=HOUR)),
        max_message,
        max_message_place,
        max_buffered,
        max_buffered_place,
    }
}

fn vhost(table: &mut Table, name: &str) -> Vhost {
    Vhost {
        name: name.to_owned(),
        place: table.place(),
        enabled: table.key("enabled", true, flag),
        publish: table.table("publish", publish),
        play: table.table("play", play),
        https: table.table("https", own_certificate),
        mounts: table
            .tables("http_remux", |table| mount(table, name))
            .into_iter()
            .flatten()
            .map(Arc::new)
            .collect(),
        redirects: table
            .tables("redirect", |table| redirect(table, name))
            .into_iter()
            .flatten()
            .map(Arc::new)
            .collect(),
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
        min_latency: table.key("min_latency", false, flag),
        wait: table.key("wait", 10 * SECOND, duration(ZERO..=HOUR)),
        idle_timeout: table.key("idle_timeout", 10 * SECOND, duration(ZERO..=HOUR)),
        reduce_sequence_header: table.key("reduce_sequence_header", true, flag),
    }
}

/// A mount, if it is enabled and its pattern good.
fn mount(table: &mut Table, vhost: &str) -> Option<Mount> {
    let enabled = table.key("enabled", false, flag);
    let (pattern, place) = pattern(table, "mount", vhost);
    let no_cache = (ZERO, Place::NONE);
    let (fast_cache, fast_cache_place) = table.key("fast_cache", no_cache, placed(duration(ZERO..=HOUR)));
    let (options, option_places) = table
        .settings("options")
        .into_iter()
        .map(|Setting { key, value }| ((key.0, value.0), OptionPlace { key: key.1, value: value.1 }))
        .unzip();
    enabled.then_some(Mount {
        pattern: pattern?,
        options,
        fast_cache,
        fast_cache_place,
        place,
        option_places,
    })
}

/// A redirect rule, if it is enabled, and its pattern and target good.
fn redirect(table: &mut Table, vhost: &str) -> Option<Redirect> {
    let enabled = table.key("enabled", false, flag);
    let (pattern, place) = pattern(table, "path", vhost);
    let (to, to_place) = table.key("to", (String::new(), table.place()), placed(text));
    let status = table.key("status", 302, redirect_status);
    let given = enabled || !to.is_empty();
    let span = to_place.span().unwrap_or_default();
    let target = RedirectTarget::parse(&to, vhost).map_err(|error| vec![(error.into(), span)]);
    let target = given.then(|| table.checked("to", target)).flatten();
    enabled.then_some(Redirect { pattern: pattern?, target: target?, status, place })
}

/// A mount pattern, if it is good, and where it stands.
fn pattern(table: &mut Table, key: &'static str, vhost: &str) -> (Option<MountPattern>, Place) {
    let default = (DEFAULT_MOUNT.to_owned(), table.place());
    let (pattern, place) = table.key(key, default, placed(text));
    let span = place.span().unwrap_or_default();
    let pattern = MountPattern::parse(&pattern, vhost).map_err(|error| vec![(error.into(), span)]);
    (table.checked(key, pattern), place)
}

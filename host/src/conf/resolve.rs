//! From a file to a [`Config`]: reads it, then checks it as a whole.

mod access;
mod cluster;
mod hooks;
mod redirect;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

use super::config::{Accept, Config, Limits, Modules, Vhost};
use super::diagnostics::{ConfigErrors, Diagnostics};
use super::error::closest;
use super::listener::ListenerConfig;
use super::pattern::{DEFAULT_VHOST, MountPattern};
use super::schema;
use super::source::{KeyPath, Location, Source};
use super::table::Reading;
use super::value::is_host_name;

impl Default for Config {
    /// The config of an empty file: every default, and no vhost.
    fn default() -> Config {
        read("", "").0
    }
}

impl Config {
    /// Reads and checks a file. The caller adds what only it can judge, such as modules and their options, to the
    /// diagnostics before it shows them. In the config, faulty values are at their defaults and faulty mounts are left
    /// out, so that the caller's checks are possible and all errors are shown at once.
    ///
    /// # Errors
    /// The file cannot be read. Errors in it are in the diagnostics.
    pub fn read(path: &Path) -> Result<(Config, Diagnostics), ConfigErrors> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Config::read_text(&text, path)),
            Err(error) => {
                let name = path.display().to_string();
                let mut diagnostics = Diagnostics::of(Arc::new(Source::new(&*name, "")));
                diagnostics.error(format!("cannot read {name}: {error}"), None, "");
                Err(diagnostics.into_errors())
            }
        }
    }

    /// Reads and checks text, as [`read`](Config::read) does; `name` replaces the path in messages.
    pub fn read_text(text: &str, name: impl AsRef<Path>) -> (Config, Diagnostics) {
        let (config, diagnostics, _) = read(text, &name.as_ref().display().to_string());
        (config, diagnostics)
    }

    /// Reads and checks text that names nothing outside of it.
    ///
    /// # Errors
    /// Every error in it. Culprit: operator.
    pub fn parse(text: &str, name: impl AsRef<Path>) -> Result<Config, ConfigErrors> {
        let (config, diagnostics) = Config::read_text(text, name);
        diagnostics.finish().map(|_| config)
    }
}

/// Also returns every key, with the shape of its table: `("vhost.*.play", "gop_cache")`.
fn read(text: &str, name: &str) -> (Config, Diagnostics, Vec<(String, &'static str)>) {
    let (root, errors) = DeTable::parse_recoverable(text);
    let is_toml = errors.is_empty();
    let mut reading = Reading::new(Diagnostics::of(Arc::new(Source::new(name, text))));
    let config = reading.read(root.get_ref(), schema::config);
    let Reading { mut diagnostics, known, values, .. } = reading;
    let config = Config { values, ..config };
    for error in errors {
        let location = error.span().map(Location);
        if !diagnostics.covers(&location) {
            diagnostics.error("not TOML", location, error.message());
        }
    }
    if is_toml {
        check_vhosts(&config, &mut diagnostics);
        check_mounts(&config, &mut diagnostics);
    }
    check_listeners(&config, &mut diagnostics);
    check_proxies(&config, &mut diagnostics);
    check_shared_ports(&config, &mut diagnostics);
    check_limits(&config.limits, &mut diagnostics);
    check_names(&config, &mut diagnostics);
    check_own_modules(&config, &mut diagnostics);
    check_certificates(&config, &mut diagnostics);
    check_paths(&config, &mut diagnostics);
    access::check(&config, &mut diagnostics);
    hooks::check(&config, &mut diagnostics);
    cluster::check(&config, &mut diagnostics);
    redirect::check(&config, &mut diagnostics);
    (config, diagnostics, known)
}

impl Config {
    /// Returns how each listener of streams accepts, with the path of its table.
    fn accepts(&self) -> [(KeyPath, &Accept); 4] {
        let http = &self.http_server;
        [
            (KeyPath::of("rtmp"), &self.rtmp.accept),
            (KeyPath::of("rtmps"), &self.rtmps.accept),
            (KeyPath::of("http_server"), &http.accept),
            (KeyPath::of("http_server").key("https"), &http.https.accept),
        ]
    }
}

/// Without a vhost, every publisher and viewer is refused.
fn check_vhosts(config: &Config, diagnostics: &mut Diagnostics) {
    if !config.vhosts.iter().any(|vhost| vhost.enabled) {
        diagnostics.warning("no vhost is enabled: nobody can publish or play", None, "").help(format!(
            "add `[[vhost.\"{DEFAULT_VHOST}\".http_remux]]` with `enabled = true`, as conf/remuxd.toml has it"
        ));
    }
}

/// A mount needs a listener.
fn check_mounts(config: &Config, diagnostics: &mut Diagnostics) {
    let http = &config.http_server;
    if http.enabled || http.https.enabled {
        return;
    }
    let mounted = config.vhosts.iter().filter(|vhost| vhost.enabled);
    if let Some(vhost) = mounted.into_iter().find(|vhost| !vhost.mounts.is_empty()) {
        let location = diagnostics.source().value_or_table(&vhost.mount_path(0).key("mount"));
        diagnostics
            .warning("nobody can request this mount", location, "neither HTTP nor HTTPS listens")
            .help("add `enabled = true` to [http_server]");
    }
}

/// With `reuse_port`, a publisher may reach another process than the viewers of its stream.
fn check_shared_ports(config: &Config, diagnostics: &mut Diagnostics) {
    if let Some((table, _)) = config.accepts().into_iter().find(|(_, accept)| accept.reuse_port) {
        let location = diagnostics.source().value(&table.key("reuse_port"));
        diagnostics
            .warning("each process that shares the port has streams of its own", location, "")
            .help("publishers and viewers of a stream must reach one process: give each process an RTMP port of its own");
    }
}

/// Two listeners must not have the same address.
fn check_listeners(config: &Config, diagnostics: &mut Diagnostics) {
    let listeners = config.listeners();
    for (index, ListenerConfig { address, path, .. }) in listeners.iter().enumerate() {
        let overlapping = listeners[..index].iter().find(|other| overlap(address, &other.address));
        let Some(ListenerConfig { address: taken, path: before, .. }) = overlapping else { continue };
        let title =
            format!("{taken} of {} and {address} of {} are one address", before.table(), path.table());
        let (here, there) = (diagnostics.source().value(path), diagnostics.source().value(before));
        // The later in the file is the one to change, unless only the other was written.
        let (here, there) = if here.is_some() { (here, there) } else { (there, here) };
        diagnostics.error(title, here, "cannot be listened on twice").and(there, "already listened on here");
    }
}

fn overlap(one: &SocketAddr, two: &SocketAddr) -> bool {
    let (ips, any) = ((one.ip(), two.ip()), |address: &SocketAddr| address.ip().is_unspecified());
    let ip = ips.0 == ips.1 || (one.is_ipv4() == two.is_ipv4() && (any(one) || any(two)));
    ip && one.port() == two.port() && one.port() != 0
}

/// A table `[module.NAME]` must be of a module that is loaded, and `modules.optional` names some of those.
fn check_own_modules(config: &Config, diagnostics: &mut Diagnostics) {
    let Modules { load, optional, own, .. } = &config.modules;
    for (index, name) in optional.iter().enumerate().filter(|(_, name)| !load.contains(name)) {
        let location = diagnostics.source().value(&KeyPath::of("modules").key("optional").index(index));
        diagnostics.error(format!("module `{name}` is not loaded"), location, "not in modules.load");
    }
    for module in own.iter().filter(|module| !load.contains(&module.name)) {
        let title = format!("module `{}` is not loaded", module.name);
        let location = diagnostics.source().key(&KeyPath::of("module").name(&module.name));
        let diagnostic = diagnostics.error(title, location, "set for a module that is not in modules.load");
        if let Some(name) = closest(&module.name, load.iter().map(String::as_str)) {
            diagnostic.help(format!("did you mean `{name}`?"));
        }
    }
}

/// A listener that requires a PROXY protocol header needs trusted proxies.
fn check_proxies(config: &Config, diagnostics: &mut Diagnostics) {
    let closed = |accept: &Accept| accept.proxy_protocol && config.proxy.trusted.is_empty();
    for (table, _) in config.accepts().into_iter().filter(|(_, accept)| closed(accept)) {
        let title = format!("nobody could connect to [{}]", table.header());
        let location = diagnostics.source().value(&table.key("proxy_protocol"));
        diagnostics
            .error(title, location, "accepted from trusted proxies only")
            .help("name their networks: [proxy] trusted = [\"10.0.0.0/8\"]");
    }
}

/// The largest message must fit into the buffer.
fn check_limits(limits: &Limits, diagnostics: &mut Diagnostics) {
    if limits.max_buffered >= limits.max_message as usize {
        return;
    }
    let location = |key| diagnostics.source().value(&KeyPath::of("limits").key(key));
    let (buffered, message) = (location("max_buffered"), location("max_message"));
    let label = format!("less than `max_message`, {} bytes", limits.max_message);
    diagnostics
        .error("no message of `max_message` would fit", buffered, label)
        .and(message, "as large as this")
        .help("make `max_buffered` at least as large, or `max_message` smaller");
}

/// Each vhost must have a name of its own that a request can ask for. Host names ignore case.
fn check_names(config: &Config, diagnostics: &mut Diagnostics) {
    for (index, vhost) in config.vhosts.iter().enumerate() {
        let name = &vhost.name;
        let location = diagnostics.source().key(&vhost.path());
        if !is_host_name(name) {
            diagnostics
                .error(format!("no request can name vhost `{name}`"), location.clone(), "not a host name")
                .help("write the host name without scheme, port and path: [vhost.\"live.example.com\"]");
        }
        if name != DEFAULT_VHOST && closest(name, [DEFAULT_VHOST]).is_some() {
            diagnostics
                .warning(
                    format!("`{name}` is not the default vhost"),
                    location.clone(),
                    "answers under this name alone",
                )
                .help(format!("the default vhost is `{DEFAULT_VHOST}`"));
        }
        if let Some(first) = config.vhosts[..index].iter().find(|other| other.name.eq_ignore_ascii_case(name))
        {
            let first = diagnostics.source().key(&first.path());
            diagnostics
                .error(format!("two vhosts have the name `{name}`"), location, "the second")
                .and(first, "the first");
        }
    }
}

/// A certificate needs two files.
fn check_certificates(config: &Config, diagnostics: &mut Diagnostics) {
    let (https, rtmps, api) = (&config.http_server.https, &config.rtmps, &config.http_api.https);
    let listeners = [
        (https.enabled, KeyPath::of("http_server").key("https"), &https.certificate),
        (rtmps.enabled, KeyPath::of("rtmps"), &rtmps.certificate),
        (api.enabled, KeyPath::of("http_api").key("https"), &api.certificate),
    ];
    let listeners = listeners.into_iter().filter(|(enabled, ..)| *enabled);
    let listeners = listeners.map(|(_, table, certificate)| (table, certificate));
    let vhosts = config.vhosts.iter();
    let vhosts = vhosts.filter_map(|vhost| Some((vhost.path().key("https"), vhost.https.as_ref()?)));
    for (table, files) in listeners.chain(vhosts) {
        let missing = [("key", &files.key), ("cert", &files.cert)];
        for (key, _) in missing.into_iter().filter(|(_, path)| path.as_os_str().is_empty()) {
            let location = diagnostics.source().value_or_table(&table.clone().key(key));
            diagnostics
                .error(format!("a certificate without `{key}`"), location, format!("`{key}` names no file"))
                .help("`key` and `cert` name a file each, in PEM format");
        }
    }
}

/// A mount or a redirect rule, which answers the paths of its pattern.
struct Claim<'a> {
    vhost: &'a Vhost,
    kind: &'static str,
    pattern: &'a MountPattern,
    /// Whether it answers every request for such a path. A redirect to a node leaves some to the mounts of its vhost.
    answers_all: bool,
    path: KeyPath,
}

impl Claim<'_> {
    /// Whether it answers under host names that no vhost has. `[vhost]` of the default vhost means all of them.
    fn answers_any_name(&self) -> bool {
        !self.pattern.vhost_only || self.vhost.name == DEFAULT_VHOST
    }

    /// Whether a request can match both. Under its own name a vhost's mounts take precedence over those of others that
    /// answer any name, so patterns that answer only their vhost's name collide with none of another vhost.
    fn collides(&self, other: &Claim) -> bool {
        let shares_names = std::ptr::eq(self.vhost, other.vhost)
            || (self.vhost.enabled
                && other.vhost.enabled
                && self.answers_any_name()
                && other.answers_any_name());
        let shares_requests = self.kind == other.kind || (self.answers_all && other.answers_all);
        shares_names && shares_requests && self.pattern.collides(other.pattern)
    }
}

/// Two mounts or redirect rules must not answer the same path.
fn check_paths(config: &Config, diagnostics: &mut Diagnostics) {
    let claims: Vec<_> = config.vhosts.iter().flat_map(|vhost| claims(vhost)).collect();
    for (index, claim) in claims.iter().enumerate() {
        let Some(first) = claims[..index].iter().find(|other| claim.collides(other)) else { continue };
        let (vhost, kind, other) = (&claim.vhost.name, claim.kind, first.kind);
        let (title, help) = if std::ptr::eq(claim.vhost, first.vhost) {
            let both = if kind == other { format!("two {kind}s") } else { format!("a {other} and a {kind}") };
            (
                format!("{both} of vhost `{vhost}` answer the same path"),
                "give one of them a path of its own, `/tv/[app]/[stream].EXTENSION`, or remove it",
            )
        } else {
            let before = &first.vhost.name;
            (
                format!(
                    "a {other} of vhost `{before}` and a {kind} of vhost `{vhost}` answer the same path under any name"
                ),
                "start one of them with `[vhost]/`, to answer under its vhost's name only, or give it a path of its own",
            )
        };
        let location = |claim: &Claim| diagnostics.source().value_or_table(&claim.path);
        let (here, there) = (location(claim), location(first));
        diagnostics
            .error(title, here, format!("`{}` here", claim.pattern.text))
            .and(there, format!("`{}` here", first.pattern.text))
            .help(help);
    }
}

fn claims(vhost: &Vhost) -> impl Iterator<Item = Claim<'_>> {
    let claim = move |kind, pattern, path| Claim { vhost, kind, pattern, answers_all: true, path };
    let mounts = vhost.mounts.iter().enumerate();
    let mounts = mounts
        .map(move |(index, mount)| claim("mount", &mount.pattern, vhost.mount_path(index).key("mount")));
    let redirects = vhost.redirects.iter().enumerate();
    let redirects = redirects.map(move |(index, rule)| {
        let answers_all = !rule.to.is_node();
        Claim { answers_all, ..claim("redirect", &rule.pattern, vhost.redirect_path(index).key("path")) }
    });
    mounts.chain(redirects)
}

#[cfg(test)]
mod tests;

//! From a file to a [`Config`]: read, then checked as a whole.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;

use toml::de::DeTable;

use super::diagnostics::{Diagnostics, Place, Report};
use super::mistake::closest;
use super::resolved::{Accept, Config, DEFAULT_VHOST, Limits, Modules, MountPattern, Vhost};
use super::schema;
use super::table::Reading;

impl Default for Config {
    /// What an empty file says: every default, and no vhost.
    fn default() -> Config {
        read("", "").0
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Every mistake in it. Culprit: operator.
    pub fn load(path: &Path) -> Result<Config, Report> {
        Config::load_and(path, |_, _| ()).map(|(config, ())| config)
    }

    /// Reads and checks a file; `check` adds what only others can judge, such as modules and their options, and
    /// what it returns comes beside. It also runs when there are mistakes already, on a configuration whose
    /// faulty values are at their defaults and whose faulty mounts are left out, so that all mistakes are shown
    /// at once.
    ///
    /// # Errors
    /// Every mistake in the file. Culprit: operator.
    pub fn load_and<T>(
        path: &Path,
        check: impl FnOnce(&Config, &mut Diagnostics) -> T,
    ) -> Result<(Config, T), Report> {
        match std::fs::read_to_string(path) {
            Ok(text) => Config::parse_and(&text, path, check),
            Err(error) => {
                let name = path.display().to_string();
                let mut diagnostics = Diagnostics::new(&*name, "");
                diagnostics.error(format!("cannot read {name}: {error}"), &Place::NONE, "");
                Err(diagnostics.report())
            }
        }
    }

    /// As [`load`](Config::load), from text; `name` stands in messages for the path.
    ///
    /// # Errors
    /// Every mistake in it. Culprit: operator.
    pub fn parse(text: &str, name: impl AsRef<Path>) -> Result<Config, Report> {
        Config::parse_and(text, name, |_, _| ()).map(|(config, ())| config)
    }

    /// As [`load_and`](Config::load_and), from text; `name` stands in messages for the path.
    ///
    /// # Errors
    /// Every mistake in it. Culprit: operator.
    pub fn parse_and<T>(
        text: &str,
        name: impl AsRef<Path>,
        check: impl FnOnce(&Config, &mut Diagnostics) -> T,
    ) -> Result<(Config, T), Report> {
        let (mut config, mut diagnostics, _) = read(text, &name.as_ref().display().to_string());
        let checked = check(&config, &mut diagnostics);
        config.warnings = diagnostics.finish()?;
        Ok((config, checked))
    }

    /// For mistakes that show only later, when the configuration is used: an address that is taken, for one.
    pub fn diagnostics(&self) -> Diagnostics {
        Diagnostics::of(&self.source)
    }
}

/// Every key, with the shape of its table: `("vhost.*.play", "gop_cache")`.
type Known = Vec<(String, &'static str)>;

fn read(text: &str, name: &str) -> (Config, Diagnostics, Known) {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut reading = Reading::new(Diagnostics::new(name, text));
    let config = reading.read(root.get_ref(), schema::config);
    let Reading { mut diagnostics, known, .. } = reading;
    for error in errors {
        let place = error.span().map_or(Place::NONE, Place::new);
        if !diagnostics.blames(&place) {
            diagnostics.error("not TOML", &place, error.message());
        }
    }
    listeners(&config, &mut diagnostics);
    proxies(&config, &mut diagnostics);
    limits(&config.limits, &mut diagnostics);
    names(&config, &mut diagnostics);
    own_modules(&config, &mut diagnostics);
    certificates(&config, &mut diagnostics);
    mounts(&config, &mut diagnostics);
    (config, diagnostics, known)
}

/// No two listeners want the same address.
fn listeners(config: &Config, diagnostics: &mut Diagnostics) {
    let http = config.http_server.enabled.then_some(&config.http_server);
    let rtmp = config.rtmp.listen.iter().zip(&config.rtmp.listen_places);
    let api = config.http_api.enabled.then_some(&config.http_api);
    let tls = [("http_server.https", &config.http_server.https), ("rtmps", &config.rtmps)];
    let all: Vec<_> = rtmp
        .map(|(address, place)| ("rtmp", address, place))
        .chain(http.map(|http| ("http_server", &http.listen, &http.listen_place)))
        .chain(api.map(|api| ("http_api", &api.listen, &api.listen_place)))
        .chain(
            tls.iter()
                .filter(|(_, tls)| tls.enabled)
                .map(|(table, tls)| (*table, &tls.listen, &tls.listen_place)),
        )
        .collect();
    for (index, (table, address, place)) in all.iter().enumerate() {
        if let Some((first, taken, before)) =
            all[..index].iter().find(|(_, other, _)| overlap(address, other))
        {
            // The later in the file is the one to change, unless only the other was written.
            let (here, there) = if place.span().is_some() { (place, before) } else { (before, place) };
            diagnostics
                .error(
                    format!("{taken} of [{first}] and {address} of [{table}] are one address"),
                    here,
                    "cannot be listened on twice",
                )
                .and(there, "already listened on here");
        }
    }
}

/// What is set for one module is set for one that is loaded.
fn own_modules(config: &Config, diagnostics: &mut Diagnostics) {
    let Modules { load, own, .. } = &config.modules;
    for module in own.iter().filter(|module| !load.contains(&module.name)) {
        let title = format!("module `{}` is not loaded", module.name);
        let diagnostic =
            diagnostics.error(title, &module.place, "set for a module that is not in modules.load");
        if let Some(name) = closest(&module.name, load.iter().map(String::as_str)) {
            diagnostic.help(format!("did you mean `{name}`?"));
        }
    }
}

fn overlap(one: &SocketAddr, two: &SocketAddr) -> bool {
    let (ips, any) = ((one.ip(), two.ip()), |address: &SocketAddr| address.ip().is_unspecified());
    let ip = ips.0 == ips.1 || (one.is_ipv4() == two.is_ipv4() && (any(one) || any(two)));
    ip && one.port() == two.port() && one.port() != 0
}

/// A listener that wants a PROXY protocol header has someone to take it from.
fn proxies(config: &Config, diagnostics: &mut Diagnostics) {
    let http = &config.http_server;
    let listeners = [
        ("rtmp", &config.rtmp.accept),
        ("rtmps", &config.rtmps.accept),
        ("http_server", &http.accept),
        ("http_server.https", &http.https.accept),
    ];
    let closed = |accept: &Accept| accept.proxy_protocol && config.proxy.trusted.is_empty();
    for (table, accept) in listeners.iter().filter(|(_, accept)| closed(accept)) {
        let title = format!("nobody could connect to [{table}]");
        diagnostics
            .error(title, &accept.proxy_protocol_place, "taken from trusted proxies only")
            .help("name their networks: [proxy] trusted = [\"10.0.0.0/8\"]");
    }
}

/// The largest message can be buffered.
fn limits(limits: &Limits, diagnostics: &mut Diagnostics) {
    if limits.max_buffered >= limits.max_message as usize {
        return;
    }
    // One of the two was written, since the defaults fit.
    let (buffered, message) = (&limits.max_buffered_place, &limits.max_message_place);
    let label = format!("less than `max_message`, {} bytes", limits.max_message);
    let diagnostic = diagnostics.error("no message of `max_message` would fit", buffered, label);
    if message.span().is_some() {
        diagnostic.and(message, "as large as this");
    }
    diagnostic.help("make `max_buffered` at least as large, or `max_message` smaller");
}

/// Each vhost has a name that a request can ask for, its own. Letter case makes no difference in host names.
fn names(config: &Config, diagnostics: &mut Diagnostics) {
    for (index, vhost) in config.vhosts.iter().enumerate() {
        let name = &vhost.name;
        if !is_host_name(name) {
            diagnostics
                .error(format!("no request can name vhost `{name}`"), &vhost.place, "not a host name")
                .help("a host name stands without scheme, port and path: [vhost.\"live.example.com\"]");
        }
        if let Some(first) = config.vhosts[..index].iter().find(|other| other.name.eq_ignore_ascii_case(name))
        {
            diagnostics
                .error(format!("two vhosts have the name `{name}`"), &vhost.place, "the second")
                .and(&first.place, "the first");
        }
    }
}

/// Whether a Host header without its port and final dot can be `name`: a name, an IPv4 address, or an IPv6 address in brackets.
fn is_host_name(name: &str) -> bool {
    let ipv6 = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match ipv6 {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            let taken = |c: char| c.is_whitespace() || "/:?#[]@*".contains(c);
            !name.is_empty() && !name.contains(taken) && !name.ends_with('.')
        }
    }
}

/// A certificate has two files.
fn certificates(config: &Config, diagnostics: &mut Diagnostics) {
    let listeners = [&config.http_server.https, &config.rtmps];
    let listeners = listeners.into_iter().filter(|tls| tls.enabled).map(|tls| &tls.certificate);
    let vhosts = config.vhosts.iter().filter_map(|vhost| vhost.https.as_ref());
    for files in listeners.chain(vhosts) {
        let rows = [("key", &files.key, &files.key_place), ("cert", &files.cert, &files.cert_place)];
        for (name, _, place) in rows.into_iter().filter(|(_, path, _)| path.as_os_str().is_empty()) {
            diagnostics
                .error(format!("a certificate without `{name}`"), place, format!("`{name}` names no file"))
                .help("`key` and `cert` name a file each, in PEM format");
        }
    }
}

/// What a vhost answers: a mount or a redirect rule.
struct Claim<'a> {
    vhost: &'a Vhost,
    what: &'static str,
    pattern: &'a MountPattern,
    place: &'a Place,
}

impl Claim<'_> {
    /// Whether it answers under host names that are no vhost's. `[vhost]` of the default vhost is all of them.
    fn answers_any_name(&self) -> bool {
        !self.pattern.vhost_only || self.vhost.name == DEFAULT_VHOST
    }

    /// Whether some request is of both. Under its own name a vhost's mounts come before those of others that answer
    /// any name, so that one which keeps to its name is in nobody's way.
    fn collides(&self, other: &Claim) -> bool {
        let shares_names = std::ptr::eq(self.vhost, other.vhost)
            || (self.vhost.enabled
                && other.vhost.enabled
                && self.answers_any_name()
                && other.answers_any_name());
        shares_names && self.pattern.collides(other.pattern)
    }
}

/// No two mounts or redirect rules want the same path.
fn mounts(config: &Config, diagnostics: &mut Diagnostics) {
    let claims: Vec<_> = config.vhosts.iter().flat_map(|vhost| claims(vhost)).collect();
    for (index, claim) in claims.iter().enumerate() {
        let Some(first) = claims[..index].iter().find(|other| claim.collides(other)) else { continue };
        let (vhost, what, other) = (&claim.vhost.name, claim.what, first.what);
        let title = if std::ptr::eq(claim.vhost, first.vhost) {
            match what == other {
                true => format!("two {what}s of vhost `{vhost}` answer the same path"),
                false => format!("a {other} and a {what} of vhost `{vhost}` answer the same path"),
            }
        } else {
            let before = &first.vhost.name;
            format!(
                "a {other} of vhost `{before}` and a {what} of vhost `{vhost}` answer the same path under any name"
            )
        };
        let help = match std::ptr::eq(claim.vhost, first.vhost) {
            true => "give one of them a path of its own, `/tv/[app]/[stream].EXTENSION`, or take it out",
            false => {
                "start one of them with `[vhost]/`, to answer under its vhost's name only, or give it a path of its own"
            }
        };
        diagnostics
            .error(title, claim.place, format!("`{}` here", claim.pattern.text))
            .and(first.place, format!("`{}` here", first.pattern.text))
            .help(help);
    }
}

fn claims(vhost: &Vhost) -> impl Iterator<Item = Claim<'_>> {
    let claim = move |what, pattern, place| Claim { vhost, what, pattern, place };
    let mounts = vhost.mounts.iter().map(move |mount| claim("mount", &mount.pattern, &mount.place));
    let redirects = vhost.redirects.iter().map(move |rule| claim("redirect", &rule.pattern, &rule.place));
    mounts.chain(redirects)
}

#[cfg(test)]
mod tests;

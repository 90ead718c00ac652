//! From a file to a [`Config`]: read, then checked as a whole.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;

use toml::de::DeTable;

use super::diagnostics::{Diagnostics, Place, Report};
use super::resolved::{Config, Vhost};
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
    names(&config, &mut diagnostics);
    config.vhosts.iter().for_each(|vhost| mounts(vhost, &mut diagnostics));
    (config, diagnostics, known)
}

/// No two listeners want the same address.
fn listeners(config: &Config, diagnostics: &mut Diagnostics) {
    let http = config.http_server.enabled.then_some(&config.http_server);
    let rtmp = config.rtmp.listen.iter().zip(&config.rtmp.listen_places);
    let all: Vec<_> = rtmp
        .map(|(address, place)| ("rtmp", address, place))
        .chain(http.map(|http| ("http_server", &http.listen, &http.listen_place)))
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

fn overlap(one: &SocketAddr, two: &SocketAddr) -> bool {
    let (ips, any) = ((one.ip(), two.ip()), |address: &SocketAddr| address.ip().is_unspecified());
    let ip = ips.0 == ips.1 || (one.is_ipv4() == two.is_ipv4() && (any(one) || any(two)));
    ip && one.port() == two.port() && one.port() != 0
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

/// Whether a Host header without its port can be `name`: a name, an IPv4 address, or an IPv6 address in brackets.
fn is_host_name(name: &str) -> bool {
    let ipv6 = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match ipv6 {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || "/:?#[]@*".contains(c)),
    }
}

/// No two mounts of a vhost want the same path.
fn mounts(vhost: &Vhost, diagnostics: &mut Diagnostics) {
    for (index, mount) in vhost.mounts.iter().enumerate() {
        if let Some(first) = vhost.mounts[..index].iter().find(|other| mount.pattern.collides(&other.pattern))
        {
            diagnostics
                .error(
                    format!("two mounts of vhost `{}` answer the same path", vhost.name),
                    &mount.place,
                    format!("`{}` here", mount.pattern.text),
                )
                .and(&first.place, format!("`{}` here", first.pattern.text))
                .help("give one of them a path of its own, `/tv/[app]/[stream].EXTENSION`, or take it out");
        }
    }
}

#[cfg(test)]
mod tests;

//! `remuxd sign`: signed URLs, secrets and publish keys.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use rustls::crypto::aws_lc_rs;
use sha2::{Digest, Sha256};

use crate::conf::{Config, SigningKey, Vhost};
use crate::policy::{Action, sign};
use crate::router::{Named, Route, Router};
use crate::rtmp::tc_url::StreamName;
use crate::stream::StreamKey;

/// A request to sign a URL.
#[derive(Debug)]
pub struct UrlRequest<'a> {
    /// The action that the URL allows.
    pub action: Action,
    /// The URL: `rtmp`, `rtmps`, `http`, `https`, `ws` or `wss`.
    pub url: &'a str,
    /// How long it is valid.
    pub lifetime: Duration,
    /// The only address that may use it.
    pub address: Option<IpAddr>,
    /// The id of the key; the first of the vhost without.
    pub key: Option<&'a str>,
}

/// Returns the URL with a signature by a key of its vhost in the config `file`.
///
/// # Errors
/// The config has errors, the URL names no stream of it, or its vhost has no such key.
pub fn signed_url(file: &Path, request: &UrlRequest<'_>) -> anyhow::Result<String> {
    let (config, diagnostics) = Config::read(file)?;
    diagnostics.finish()?;
    let (vhost, stream) = resolve(&Router::new(config.vhosts, &config.limits.sessions), request)?;
    let keys = &vhost.signed_url.keys;
    let key: Option<&SigningKey> = match request.key {
        Some(id) => keys.iter().find(|key| key.id == id),
        None => keys.first(),
    };
    let Some(key) = key else {
        bail!("vhost `{}` has no such key: [[vhost.\"{0}\".signed_url.key]]", vhost.name);
    };
    let expires = SystemTime::now() + request.lifetime;
    let expires = expires.duration_since(SystemTime::UNIX_EPOCH).context("the clock is before 1970")?;
    let parameter = sign(key, request.action, &stream, expires.as_secs(), request.address);
    let separator = if request.url.contains('?') { '&' } else { '?' };
    Ok(format!("{}{separator}{parameter}", request.url))
}

/// Returns the vhost and the stream of a URL, found as the host finds them.
fn resolve(router: &Router, request: &UrlRequest<'_>) -> anyhow::Result<(std::sync::Arc<Vhost>, StreamKey)> {
    let (scheme, rest) = request.url.split_once("://").context("the URL has no scheme")?;
    let is_rtmp = scheme.eq_ignore_ascii_case("rtmp") || scheme.eq_ignore_ascii_case("rtmps");
    if is_rtmp {
        let name = StreamName::parse_url(request.url)?;
        let named = router.stream(&name.vhost, &name.app, &name.stream, |_| false);
        let Named { vhost, key, .. } = named.context("no vhost answers this URL")?;
        return Ok((vhost, key));
    }
    if request.action == Action::Publish {
        bail!("streams are published over RTMP: the URL must start with rtmp:// or rtmps://");
    }
    let (target, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = target.split_at(target.find('/').unwrap_or(target.len()));
    let resolved = router.resolve(host, path, query, None).ok().context("this path cannot be served")?;
    let Route { vhost, key, .. } = resolved.routes.into_iter().next().context("no mount answers this URL")?;
    Ok((vhost, key))
}

/// Returns a secret of 256 random bits.
///
/// # Errors
/// The system gives no random bytes.
pub fn new_secret() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    let random = aws_lc_rs::default_provider().secure_random;
    random.fill(&mut bytes).ok().context("the system gives no random bytes")?;
    Ok(hex(&bytes))
}

/// Returns a secret name to publish `stream` under, and the lines for the config.
///
/// # Errors
/// As [`new_secret`].
pub fn new_publish_key(stream: &str) -> anyhow::Result<String> {
    let name = new_secret()?;
    let hash = hex(&Sha256::digest(&name));
    let stream = toml::Value::from(stream);
    Ok(format!(
        "# publish as {name}\n[[vhost.\"__defaultVhost__\".publish_key.key]]\nstream = {stream}\nsha256 = \"{hash}\""
    ))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::SessionLimits;

    #[test]
    fn finds_streams_as_the_host_does() {
        let text = "[[vhost.\"__defaultVhost__\".http_remux]]\nenabled = true\n[[vhost.\"a.example\".http_remux]]\n\
                    enabled = true\nmount = \"/tv/[app]/[stream].ts\"";
        let router = Router::new(Config::parse(text, "text").unwrap().vhosts, &SessionLimits::default());
        for (action, url, expected) in [
            (Action::Publish, "rtmp://h/live/film", Some("live/film")),
            (Action::Publish, "rtmps://a.example/live/film.ts?k=v", Some("a.example/live/film")),
            (Action::Play, "rtmp://h/live/film?vhost=a.example", Some("a.example/live/film")),
            (Action::Play, "http://h:8080/live/film.flv", Some("live/film")),
            (Action::Play, "wss://h/live/film.flv?k=v", Some("live/film")),
            (Action::Play, "https://a.example/tv/live/film.ts", Some("a.example/live/film")),
            (Action::Play, "https://h/live/film.mp3", None),
            (Action::Publish, "http://h/live/film.flv", None),
            (Action::Play, "h/live/film.flv", None),
        ] {
            let request = UrlRequest { action, url, lifetime: Duration::ZERO, address: None, key: None };
            let found = resolve(&router, &request).ok().map(|(_, stream)| stream.to_string());
            assert_eq!(found.as_deref(), expected, "{action} {url}");
        }
    }

    #[test]
    fn secrets_are_long_and_random() {
        let secrets = [new_secret().unwrap(), new_secret().unwrap()];
        assert!(secrets[0] != secrets[1] && secrets.iter().all(|secret| secret.len() == 64));
    }
}

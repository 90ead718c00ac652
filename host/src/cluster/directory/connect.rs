//! The way to Redis: the servers of the config, Sentinels, and the begin of a connection.

use super::link::{Link, LinkError, LinkOwner, Server};
use super::resp::{Value, shown};
use super::scripts::{Names, load};
use crate::conf::{Config, Endpoint};

/// The least version, major and minor.
const VERSION: (u32, u32) = (6, 2);

/// Connects to the Redis of a config, and prepares it. Also returns its address.
///
/// # Errors
/// No server can be reached, or it is no master of a version that is new enough, or refuses.
pub async fn connect(config: &Config) -> Result<(LinkOwner, String), LinkError> {
    let directory = &config.cluster.directory;
    let mut failed = LinkError::Closed;
    for url in &directory.urls {
        let server = match &directory.sentinel {
            None => Ok(server(url)),
            Some(master) => ask_sentinel(&server(url), master).await,
        };
        let opened = match server {
            Ok(server) => prepare(&server, config, url).await.map(|link| (link, address(&server))),
            Err(error) => Err(error),
        };
        match opened {
            Ok(opened) => return Ok(opened),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn server(url: &Endpoint) -> Server {
    let url = url.url();
    let host = url.host_str().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Server { host: host.to_owned(), port: url.port().unwrap_or(6379), is_tls: url.scheme() == "rediss" }
}

fn address(server: &Server) -> String {
    format!("{}:{}", server.host, server.port)
}

/// Returns the master that a Sentinel knows by this name.
async fn ask_sentinel(sentinel: &Server, master: &str) -> Result<Server, LinkError> {
    const UNKNOWN: LinkError = LinkError::Reply("SENTINEL GET-MASTER-ADDR-BY-NAME");
    let LinkOwner { link, .. } = Link::open(sentinel).await?;
    let reply = link.ask(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", master.as_bytes()]).await?;
    let Some([host, port]) = reply.list() else { return Err(UNKNOWN) };
    let host = host.text().and_then(|host| std::str::from_utf8(host).ok()).ok_or(UNKNOWN)?;
    let port = port.integer().and_then(|port| u16::try_from(port).ok()).ok_or(UNKNOWN)?;
    Ok(Server { host: host.to_owned(), port, is_tls: sentinel.is_tls })
}

/// Opens a connection, and brings it into the state in which it is used.
async fn prepare(server: &Server, config: &Config, url: &Endpoint) -> Result<LinkOwner, LinkError> {
    let directory = &config.cluster.directory;
    let owner = Link::open(server).await?;
    let link = &owner.link;
    let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
    if let Some(password) = &directory.password {
        let user = directory.user.as_deref().unwrap_or("default");
        hello.extend([b"AUTH", user.as_bytes(), password.bytes()]);
    }
    check_version(&link.ask(&hello).await?)?;
    let database = if directory.sentinel.is_some() { "" } else { url.url().path().trim_start_matches('/') };
    if !database.is_empty() {
        link.ask(&[b"SELECT", database.as_bytes()]).await?;
    }
    // A replica that a Sentinel still takes for the master.
    let role = link.ask(&[b"ROLE"]).await?;
    if role.list().and_then(|parts| parts.first()?.text()) != Some(b"master") {
        return Err(LinkError::Refused("the server is no master".to_owned()));
    }
    let names = Names::of(directory);
    let mut commands = load();
    let [subscribe, ping] = names.probe();
    commands.extend([subscribe, ping]);
    // A subscription is answered by a notification: the last command has no reply of its own.
    let replies = link.ask_expecting(&commands, commands.len() - 1).await?;
    for reply in replies {
        if let Value::Error(error) = reply {
            return Err(LinkError::Refused(shown(&error).to_string()));
        }
    }
    Ok(owner)
}

/// Checks the version in the reply to HELLO.
fn check_version(hello: &Value) -> Result<(), LinkError> {
    let fields = hello.list().unwrap_or_default();
    let version = fields.chunks_exact(2).find(|pair| pair[0].text() == Some(b"version"));
    let version = version.and_then(|pair| std::str::from_utf8(pair[1].text()?).ok());
    let version = version.ok_or(LinkError::Reply("HELLO"))?;
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found >= VERSION { Ok(()) } else { Err(LinkError::Version(shown(version).to_string())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server() {
        for (url, host, port, is_tls) in [
            ("redis://10.0.0.5", "10.0.0.5", 6379, false),
            ("rediss://r.example:6380/2", "r.example", 6380, true),
            ("redis://[::1]:7000", "::1", 7000, false),
        ] {
            let expected = Server { host: host.to_owned(), port, is_tls };
            assert_eq!(server(&Endpoint::parse_directory(url).unwrap()), expected);
        }
    }

    #[test]
    fn versions_before_6_2_are_refused() {
        let text = |text: &str| Value::Text(bytes::Bytes::copy_from_slice(text.as_bytes()));
        let hello =
            |version: &str| Value::List(vec![text("server"), text("redis"), text("version"), text(version)]);
        for (version, is_right) in
            [("6.2.0", true), ("7.0.15", true), ("10.0.0", true), ("6.0.16", false), ("5", false)]
        {
            assert_eq!(check_version(&hello(version)).is_ok(), is_right, "{version}");
        }
        assert!(check_version(&Value::Null).is_err());
    }
}

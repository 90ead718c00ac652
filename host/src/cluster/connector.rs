//! The connector: connections to other servers, and where they may lead.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use super::error::ConnectError;
use super::location::Location;
use super::socket::Socket;
use crate::conf::{Config, Current};
use crate::policy::client_tls;

/// Opens connections to other servers.
#[derive(Clone)]
pub struct Connector {
    current: Arc<Current>,
}

/// The party that names a location.
#[expect(clippy::enum_variant_names, reason = "`Led::ByConfig` reads as what it means")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Led {
    /// The operator, by the config or by a hook.
    ByConfig,
    /// A server, by a redirect.
    ByRedirect,
    /// A node of the cluster, by its entry in the directory.
    ByDirectory,
}

/// An open connection.
pub struct Connection {
    /// The socket.
    pub socket: Box<dyn Socket>,
    /// The address of the server.
    pub address: SocketAddr,
}

impl Connector {
    /// Creates a connector that follows the config in force.
    pub fn new(current: Arc<Current>) -> Connector {
        Connector { current }
    }

    /// Connects to the server of `location`. The time limit is the caller's.
    ///
    /// # Errors
    /// It cannot be reached, or may not be.
    pub async fn connect(&self, location: &Location, led: Led) -> Result<Connection, ConnectError> {
        let config = self.current.config();
        let host = &location.host;
        let may_lead_anywhere = match led {
            Led::ByConfig => true,
            Led::ByRedirect => names(&config, host),
            Led::ByDirectory => false,
        };
        if config.cluster.allow.is_empty() && !may_lead_anywhere {
            return Err(ConnectError::Foreign { host: host.clone() });
        }
        let found = lookup_host((&**host, location.port)).await;
        let found =
            found.map_err(|error| ConnectError::Resolve { host: host.clone(), reason: error.to_string() })?;
        let mut failed = ConnectError::Resolve { host: host.clone(), reason: "it has no address".to_owned() };
        for address in found {
            if !allows(&config, address.ip()) {
                failed = ConnectError::NotAllowed { address: address.ip() };
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    let socket: Box<dyn Socket> = if location.scheme.is_tls() {
                        over_tls(socket, host).await?
                    } else {
                        Box::new(socket)
                    };
                    return Ok(Connection { socket, address });
                }
                Err(error) => failed = error.into(),
            }
        }
        Err(failed)
    }
}

/// Returns whether a server of the config has this host.
fn names(config: &Config, host: &str) -> bool {
    let upstreams = config.vhosts.iter().flat_map(|vhost| {
        let origins = vhost.cluster.origins.iter().chain(&vhost.forward.destinations);
        origins.map(|upstream| upstream.url(&vhost.name, "_", "_", str::to_owned))
    });
    upstreams.into_iter().any(|url| Location::parse(&url).is_ok_and(|location| location.host == host))
}

/// Returns whether `address` may be connected to.
fn allows(config: &Config, address: IpAddr) -> bool {
    let address = address.to_canonical();
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    let allow = &config.cluster.allow;
    !address.is_unspecified()
        && !address.is_multicast()
        && !is_broadcast
        && (allow.is_empty() || allow.iter().any(|network| network.contains(&address)))
}

/// Performs the TLS handshake of a client with a server whose certificate is for `host`.
pub(super) async fn over_tls(socket: TcpStream, host: &str) -> Result<Box<dyn Socket>, ConnectError> {
    let tls = |reason: String| ConnectError::Tls { reason };
    // The first call reads the certificates of the system.
    let config = tokio::task::spawn_blocking(client_tls).await.map_err(|error| tls(error.to_string()))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| tls(error.to_string()))?;
    let socket = TlsConnector::from(config).connect(name, socket).await;
    Ok(Box::new(socket.map_err(|error| tls(error.to_string()))?))
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
        [vhost."a".cluster]
        mode = "edge"
        origin = ["127.0.0.1:PORT", "http://named.example/[stream]"]
    "#;

    async fn connect(config: &str, url: &str, led: Led) -> Result<SocketAddr, String> {
        let config = Config::parse(config, "remuxd.toml").unwrap();
        let connector = Connector::new(Current::new(config));
        let connected = connector.connect(&Location::parse(url).unwrap(), led).await;
        connected.map(|connection| connection.address).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn connects_only_where_the_config_allows() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = CONFIG.replace("PORT", &address.port().to_string());
        let allow = |networks: &str| format!("[cluster]\nallow = {networks}\n{config}");
        let here = format!("rtmp://{address}/a/s");
        let named = format!("rtmp://localhost:{}/a/s", address.port());
        let not_allowed = Err("127.0.0.1 is not in cluster.allow");
        let foreign = Err("led to localhost, which the config does not name");
        let not_led = Err("led to 127.0.0.1, which the config does not name");
        let rows = [
            (config.clone(), &here, Led::ByConfig, Ok(())),
            (config.clone(), &here, Led::ByRedirect, Ok(())),
            (config.clone(), &named, Led::ByRedirect, foreign),
            (allow("[\"127.0.0.0/8\", \"::1\"]"), &here, Led::ByRedirect, Ok(())),
            (allow("[\"10.0.0.0/8\"]"), &here, Led::ByConfig, not_allowed),
            (allow("[\"10.0.0.0/8\"]"), &here, Led::ByRedirect, not_allowed),
            (config.clone(), &here, Led::ByDirectory, not_led),
            (allow("[\"127.0.0.0/8\", \"::1\"]"), &named, Led::ByDirectory, Ok(())),
            (allow("[\"10.0.0.0/8\"]"), &here, Led::ByDirectory, not_allowed),
        ];
        for (config, url, led, expected) in rows {
            let found = connect(&config, url, led).await;
            assert_eq!(found.as_ref().map(|_| ()).map_err(|error| &**error), expected, "{config} {url}");
        }
        let unspecified = connect(&config, "rtmp://0.0.0.0:1/a/s", Led::ByConfig).await;
        assert_eq!(unspecified.unwrap_err(), "0.0.0.0 is not in cluster.allow");
    }
}

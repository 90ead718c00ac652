//! Listening: from a config to one accept loop per address.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use super::certificates::{Certificates, Owner};
use super::listener::{self, ListenError};
use super::opening::{Opened, Plain, Transport};
use super::server::Server;
use super::tls::{Inside, Tls};
use super::{http, rtmp};
use crate::conf::{Accept, Config, TlsListener};

/// The addresses that a server listens on.
#[derive(Clone, Debug, Default)]
pub struct Listening {
    /// RTMP.
    pub rtmp: Vec<SocketAddr>,
    /// RTMP over TLS.
    pub rtmps: Option<SocketAddr>,
    /// HTTP.
    pub http: Option<SocketAddr>,
    /// HTTP over TLS.
    pub https: Option<SocketAddr>,
}

impl Server {
    /// Opens all listeners of the config, and returns their addresses.
    ///
    /// # Errors
    /// [`ListenError`] for the first address that cannot be bound; nothing listens then.
    pub fn listen(self: &Arc<Self>, certificates: &Arc<Certificates>) -> Result<Listening, ListenError> {
        let Config { rtmp, rtmps, http_server: http, .. } = &*self.config;
        let https = &http.https;
        let bind = |address: &SocketAddr, accept: &Accept| listener::bind(*address, accept.reuse_port);
        let bind_tls = |owner: &Owner, tls: &TlsListener| {
            let resolver = certificates.resolver(owner);
            resolver.map(|resolver| Ok((bind(&tls.listen, &tls.accept)?, resolver))).transpose()
        };
        let on_rtmp: Vec<_> =
            rtmp.listen.iter().map(|at| bind(at, &rtmp.accept)).collect::<Result<_, _>>()?;
        let on_http = http.enabled.then(|| bind(&http.listen, &http.accept)).transpose()?;
        let (on_https, on_rtmps) = (bind_tls(&Owner::Https, https)?, bind_tls(&Owner::Rtmps, rtmps)?);

        let address = |listener: &TcpListener| listener.local_addr().ok();
        let listening = Listening {
            rtmp: on_rtmp.iter().filter_map(address).collect(),
            rtmps: on_rtmps.as_ref().and_then(|(listener, _)| address(listener)),
            http: on_http.as_ref().and_then(address),
            https: on_https.as_ref().and_then(|(listener, _)| address(listener)),
        };
        for listener in on_rtmp {
            self.serve(listener, &rtmp.accept, Plain, rtmp::serve);
        }
        if let Some((listener, resolver)) = on_rtmps {
            self.serve(listener, &rtmps.accept, Tls::new(resolver, Inside::Rtmp), rtmp::serve);
        }
        if let Some(listener) = on_http {
            self.serve(listener, &http.accept, Plain, http::serve);
        }
        if let Some((listener, resolver)) = on_https {
            self.serve(listener, &https.accept, Tls::new(resolver, Inside::Http), http::serve);
        }
        self.tasks.spawn(certificates.clone().watch(self.lifecycle.clone()));
        Ok(listening)
    }

    fn serve<T: Transport, F: Future<Output = ()> + Send + 'static>(
        self: &Arc<Self>,
        listener: TcpListener,
        accept: &Accept,
        transport: T,
        serve: fn(Arc<Server>, Opened<T::Socket>) -> F,
    ) {
        let proxy_protocol = accept.proxy_protocol;
        self.tasks.spawn(listener::accept(self.clone(), listener, transport, proxy_protocol, serve));
    }
}

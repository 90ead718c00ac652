//! Listening: the listeners of a server, and how a reload changes them.
//!
//! A reload binds the addresses that are new before it changes anything, so that an address that is taken refuses it as a whole.
//! A listener whose address stays keeps its socket, whatever it is used for from then on. One whose address is gone accepts what
//! waits in the kernel's queue and closes; its connections stay.

use std::net::SocketAddr;
use std::sync::Arc;

use socket2::{SockRef, Socket};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::error;

use super::certificates::{Certificates, Owner};
use super::listener::{self, ListenError};
use super::listeners::{ApiListener, Listener, Serving};
use super::server::Server;
use super::tls::{Inside, server_config};
use crate::conf::{Config, ListenerConfig, ListenerKind};

/// The listeners of the next config. Those that are new are bound, and dropped unless they are adopted.
#[derive(Debug)]
pub struct NewListeners {
    wanted: Vec<(ListenerConfig, Source)>,
    /// Those that are open and not wanted any more.
    closing: Vec<Arc<Listener>>,
}

/// Where the socket of a listener comes from.
#[derive(Debug)]
enum Source {
    Open(Arc<Listener>),
    Bound(Socket),
    Listening(TcpListener),
}

/// A listener that a reload opens or closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerChange {
    /// Its protocol.
    pub kind: ListenerKind,
    /// Its address; before it listens, that of the config.
    pub address: SocketAddr,
    /// Whether it is opened, else closed.
    pub opens: bool,
    /// The number of its connections, which stay.
    pub connections: usize,
}

impl Server {
    /// Binds the addresses of `config` that are not open. Nothing listens on them yet.
    ///
    /// # Errors
    /// [`ListenError`] for the first address that cannot be bound.
    pub fn bind(&self, config: &Config) -> Result<NewListeners, ListenError> {
        let mut open = self.listeners.open.lock().clone();
        let wanted = config.listeners();
        // The same kind first: several may have port 0.
        let mut kept: Vec<_> = wanted
            .iter()
            .map(|want| take(&mut open, |one| one.kind() == want.kind && one.address == want.address))
            .collect();
        for (want, kept) in wanted.iter().zip(&mut kept).filter(|(want, _)| want.address.port() != 0) {
            if kept.is_none() {
                *kept = take(&mut open, |one| {
                    one.address == want.address && one.kind().is_api() == want.kind.is_api()
                });
            }
        }
        let shared = Shared::new(&open);
        let sources = wanted.into_iter().zip(kept).map(|(want, kept)| {
            let source = match kept {
                Some(listener) => Source::Open(listener),
                None => Source::Bound(listener::bind(
                    want.address,
                    is_taken(want.address, &open) || want.accept.reuse_port,
                )?),
            };
            Ok((want, source))
        });
        let wanted = sources.collect::<Result<_, _>>()?;
        drop(shared);
        Ok(NewListeners { wanted, closing: open })
    }

    /// Puts listeners in use, and closes those that are not among them.
    pub fn adopt(self: &Arc<Self>, new: NewListeners, config: &Config, certificates: &Certificates) {
        let NewListeners { wanted, closing } = new;
        let mut open = Vec::new();
        for (want, source) in wanted {
            let (listener, is_new) = match source {
                Source::Open(listener) => (listener, false),
                // Not listening: nobody called `listen`.
                Source::Bound(_) => continue,
                Source::Listening(socket) => {
                    let serving = serving(&want, certificates);
                    match Listener::new(&want, socket, serving, &self.lifecycle) {
                        Ok(listener) => (Arc::new(listener), true),
                        Err(error) => {
                            error!(address = %want.address, %error, "a listener has closed at once");
                            continue;
                        }
                    }
                }
            };
            // After an address that overlaps with it was bound.
            let _ = SockRef::from(&*listener.socket).set_reuse_port(want.accept.reuse_port);
            let before = listener.serving();
            // Otherwise sessions of TLS can be resumed.
            if before.kind != want.kind || before.accept != want.accept {
                listener.serve(serving(&want, certificates));
            }
            if is_new && !want.kind.is_api() {
                self.tasks.spawn(listener::accept(self.clone(), listener.clone()));
            }
            open.push(listener);
        }
        let api = open.iter().filter(|listener| listener.kind().is_api()).map(|listener| ApiListener {
            socket: listener.socket.clone(),
            tls: listener.serving().tls.clone(),
            config: config.http_api.clone(),
        });
        let api: Vec<_> = api.collect();
        self.listeners.api.send_if_modified(|before| {
            let changes = *before != api;
            *before = api;
            changes
        });
        *self.listeners.open.lock() = open;
        closing.iter().for_each(|listener| listener.closed.cancel());
    }

    /// Returns the open listeners and the addresses that they listen on, in the order of the config.
    pub fn listening(&self) -> Vec<(ListenerKind, SocketAddr)> {
        let open = self.listeners.open.lock();
        open.iter().map(|listener| (listener.kind(), listener.local)).collect()
    }

    /// Returns the listeners of the API that are in use, which change.
    pub fn api_listeners(&self) -> watch::Receiver<Vec<ApiListener>> {
        self.listeners.api.subscribe()
    }

    /// Closes all listeners, when the host stops.
    pub(super) fn close_listeners(&self) {
        let open = std::mem::take(&mut *self.listeners.open.lock());
        open.iter().for_each(|listener| listener.closed.cancel());
        self.listeners.api.send_replace(Vec::new());
    }

    /// Forgets a listener that accepts no more.
    pub(super) fn forget(&self, listener: &Arc<Listener>) {
        self.listeners.open.lock().retain(|one| !Arc::ptr_eq(one, listener));
    }
}

impl NewListeners {
    /// Makes the new ones listen.
    ///
    /// # Errors
    /// [`ListenError`] for the first one that cannot.
    pub fn listen(&mut self) -> Result<(), ListenError> {
        let _shared = Shared::new(&self.closing);
        for (want, source) in &mut self.wanted {
            if let Source::Bound(socket) = source {
                let listening = listener::listen(want.address, socket)?;
                *source = Source::Listening(listening);
            }
        }
        Ok(())
    }

    /// Returns what is opened and what is closed.
    pub fn changes(&self) -> Vec<ListenerChange> {
        let opened = self.wanted.iter().filter_map(|(want, source)| {
            let address = match source {
                Source::Open(_) => return None,
                Source::Bound(_) => want.address,
                Source::Listening(socket) => socket.local_addr().unwrap_or(want.address),
            };
            Some(ListenerChange { kind: want.kind, address, opens: true, connections: 0 })
        });
        let closed = self.closing.iter().map(|listener| ListenerChange {
            kind: listener.kind(),
            address: listener.local,
            opens: false,
            connections: listener.connections.open(),
        });
        opened.chain(closed).collect()
    }
}

/// Returns how a listener serves its connections.
fn serving(want: &ListenerConfig, certificates: &Certificates) -> Serving {
    let tls = |owner, inside| Some(Arc::new(server_config(certificates.resolver(owner)?, inside)));
    let tls = match want.kind {
        ListenerKind::Https => tls(&Owner::Https, Inside::Http),
        ListenerKind::Rtmps => tls(&Owner::Rtmps, Inside::Rtmp),
        ListenerKind::HttpsApi => tls(&Owner::Api, Inside::Api),
        ListenerKind::Rtmp | ListenerKind::Http | ListenerKind::HttpApi => None,
    };
    Serving { kind: want.kind, accept: want.accept.clone(), tls }
}

/// Listeners that let this process bind addresses that overlap with theirs, until this is dropped.
struct Shared<'a>(&'a [Arc<Listener>]);

impl Shared<'_> {
    fn new(listeners: &[Arc<Listener>]) -> Shared<'_> {
        set_shared(listeners, true);
        Shared(listeners)
    }
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        set_shared(self.0, false);
    }
}

fn set_shared(listeners: &[Arc<Listener>], shared: bool) {
    for listener in listeners {
        let shared = shared || listener.serving().accept.reuse_port;
        // Where it fails, the address that overlaps cannot be bound.
        let _ = SockRef::from(&*listener.socket).set_reuse_port(shared);
    }
}

/// Whether one of `listeners` has the port.
fn is_taken(address: SocketAddr, listeners: &[Arc<Listener>]) -> bool {
    listeners.iter().any(|listener| listener.local.port() == address.port())
}

/// Removes and returns the first listener that fits.
fn take(listeners: &mut Vec<Arc<Listener>>, fits: impl Fn(&Listener) -> bool) -> Option<Arc<Listener>> {
    let at = listeners.iter().position(|listener| fits(listener))?;
    Some(listeners.remove(at))
}

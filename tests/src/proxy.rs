//! nginx, Caddy and HAProxy, started from the sample configurations in conf/proxy on free ports.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::host::Host;
use crate::scratch::Scratch;
use crate::tls::{Certificate, Stream, Version, handshake};
use crate::tool::root;
use crate::wait::{SOON, wait_until};

/// A proxy and its sample configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// nginx for HTTP: nginx.conf.
    Nginx,
    /// nginx for RTMP: nginx-stream.conf.
    NginxStream,
    /// Caddy: Caddyfile.
    Caddy,
    /// HAProxy, for HTTP and RTMP: haproxy.cfg.
    Haproxy,
}

/// A running proxy in front of a host; killed on drop.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    /// Address of plain HTTP.
    pub http: SocketAddr,
    /// Address of HTTPS.
    pub https: SocketAddr,
    /// Address of RTMP.
    pub rtmp: SocketAddr,
    log: PathBuf,
    _scratch: Scratch,
}

impl Kind {
    /// Starts the proxy with its sample configuration, in front of `host`.
    ///
    /// # Panics
    /// When the proxy is not installed, does not start, or its sample lacks a line that the test has to change.
    #[must_use]
    pub fn start(self, host: &Host) -> Proxy {
        self.start_changed(host, &[])
    }

    /// As [`Kind::start`], with further replacements in the configuration.
    ///
    /// # Panics
    /// As [`Kind::start`].
    #[must_use]
    pub fn start_changed(self, host: &Host, changes: &[(&str, &str)]) -> Proxy {
        let scratch = Scratch::new();
        let sample = root().join("conf/proxy").join(self.sample());
        let mut text = std::fs::read_to_string(&sample).expect("the sample is there");
        let (http, https, rtmp) = (free_address(), free_address(), free_address());
        let certificate = Certificate::of(&["127.0.0.1"]);
        for (name, pem) in [
            ("certificate.pem", &certificate.cert),
            ("key.pem", &certificate.key),
            ("both.pem", &format!("{}{}", certificate.cert, certificate.key)),
        ] {
            std::fs::write(scratch.join(name), pem).expect("the scratch directory is writable");
        }
        let path = |name: &str| scratch.join(name).display().to_string();
        let mut change = |from: &str, to: &str| {
            assert!(text.contains(from), "{} has no {from:?}", sample.display());
            text = text.replace(from, to);
        };
        match self {
            Kind::Nginx => {
                // Debian's build would write into directories that belong to root.
                let own: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|kind| format!("{kind}_temp_path {};", path(kind)))
                    .concat();
                change("\nhttp {", &format!("\nhttp {{ access_log {}; {own}", path("access.log")));
                change("listen 80;", &format!("listen {http};"));
                change("listen 443 ", &format!("listen {https} "));
                change("/etc/nginx/live.example.com.pem", &path("certificate.pem"));
                change("/etc/nginx/live.example.com.key", &path("key.pem"));
                change("127.0.0.1:8080;", &format!("{};", host.http));
            }
            Kind::NginxStream => {
                change("load_module modules/", "load_module /usr/lib/nginx/modules/");
                change("listen 1935;", &format!("listen {rtmp};"));
                change("proxy_pass 127.0.0.1:1936", &format!("proxy_pass {}", host.rtmp));
            }
            Kind::Caddy => {
                change("\n{\n", "\n{\n\tadmin off\n\tauto_https off\n");
                change("http://live.example.com {", &format!("http://{http} {{"));
                let tls = format!("tls {} {}", path("certificate.pem"), path("key.pem"));
                change("https://live.example.com {", &format!("https://{https} {{\n\t{tls}"));
                change("reverse_proxy 127.0.0.1:8080", &format!("reverse_proxy {}", host.http));
            }
            Kind::Haproxy => {
                change("bind :80\n", &format!("bind {http}\n"));
                change("bind :443 ", &format!("bind {https} "));
                change("bind :1935\n", &format!("bind {rtmp}\n"));
                change("/etc/haproxy/live.example.com.pem", &path("both.pem"));
                change("server remuxd 127.0.0.1:8080", &format!("server remuxd {}", host.http));
                change("server remuxd 127.0.0.1:1936", &format!("server remuxd {}", host.rtmp));
            }
        }
        changes.iter().for_each(|(from, to)| change(from, to));
        let config = scratch.join(self.sample());
        std::fs::write(&config, text).expect("the scratch directory is writable");
        let log = scratch.join("proxy.log");
        let mut command = self.command(&config, &scratch);
        let stderr = File::create(&log).expect("the scratch directory is writable");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut proxy = Proxy { child, http, https, rtmp, log, _scratch: scratch };
        // They are bound one after another.
        let all = match self {
            Kind::NginxStream => vec![rtmp],
            Kind::Haproxy => vec![http, https, rtmp],
            Kind::Nginx | Kind::Caddy => vec![http, https],
        };
        wait_until(SOON, "the proxy listens", || {
            let ended = proxy.child.try_wait().expect("the proxy is a child of ours");
            assert!(ended.is_none(), "the proxy ended at once:\n{}", proxy.log());
            all.iter().all(|listener| TcpStream::connect(listener).is_ok())
        });
        proxy
    }

    fn sample(self) -> &'static str {
        match self {
            Kind::Nginx => "nginx.conf",
            Kind::NginxStream => "nginx-stream.conf",
            Kind::Caddy => "Caddyfile",
            Kind::Haproxy => "haproxy.cfg",
        }
    }

    fn command(self, config: &Path, scratch: &Scratch) -> Command {
        match self {
            Kind::Nginx | Kind::NginxStream => {
                let mut command = Command::new("nginx");
                let pid = scratch.join("nginx.pid");
                // One process, so that killing it ends all of nginx.
                let own =
                    format!("daemon off; master_process off; pid {}; error_log stderr warn;", pid.display());
                command.arg("-p").arg(scratch.path()).arg("-c").arg(config).args(["-g", &own]);
                command
            }
            Kind::Caddy => {
                let mut command = Command::new("caddy");
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(config);
                for variable in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
                    command.env(variable, scratch.path());
                }
                command
            }
            Kind::Haproxy => {
                let mut command = Command::new("haproxy");
                command.args(["-db", "-f"]).arg(config);
                command
            }
        }
    }
}

impl Proxy {
    /// Returns the proxy's log so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Makes a TLS connection to the HTTPS side from the local address `from`.
    pub fn connect_tls(&self, from: Ipv4Addr) -> impl FnOnce() -> io::Result<Stream> + use<> {
        let address = self.https;
        move || handshake(connect_from(from, address)?, None, Version::Tls13, &[])
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- the proxy's log ----\n{}----", self.log());
        }
    }
}

/// Connects from a local address; all of 127.0.0.0/8 belongs to this machine.
///
/// # Errors
/// The socket's.
pub fn connect_from(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&to.into())?;
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(socket)
}

/// Returns an address that nobody listens on, below the ephemeral ports (32768 and up), so that no connection takes it.
#[must_use]
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 500) as u16 * 20;
    loop {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

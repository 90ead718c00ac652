//! Nodes in network namespaces of their own, joined by a bridge.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use remuxd_tests::host::{Config, Host};

/// The ports of every node.
pub const RTMP: u16 = 1935;
pub const HTTP: u16 = 8080;

/// The bridge, and the driver's address on it.
const BRIDGE: &str = "nodes";

/// The namespaces of a run. They are removed when this is dropped.
pub struct Network {
    prefix: String,
    names: Vec<String>,
}

/// A network namespace with one address.
#[derive(Clone)]
pub struct Place {
    name: String,
    address: Ipv4Addr,
}

/// A link with delay and loss. It ends when this is dropped.
pub struct SlowLink(Child);

impl Network {
    /// Creates the bridge in the current namespace, which must be one of the run's own.
    pub fn new() -> Result<Network, String> {
        ip(&["link", "add", BRIDGE, "type", "bridge"])?;
        ip(&["addr", "add", "10.77.0.1/24", "dev", BRIDGE])?;
        ip(&["link", "set", BRIDGE, "up"])?;
        Ok(Network { prefix: format!("remuxd-{}", std::process::id()), names: Vec::new() })
    }

    fn add(&mut self, name: &str) -> Result<String, String> {
        let name = format!("{}-{name}", self.prefix);
        ip(&["netns", "add", &name])?;
        self.names.push(name.clone());
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        Ok(name)
    }

    /// Creates a namespace on the bridge, whose address ends with `number`.
    pub fn place(&mut self, name: &str, number: u8) -> Result<Place, String> {
        let namespace = self.add(name)?;
        let (near, address) = (format!("to-{name}"), Ipv4Addr::new(10, 77, 0, number));
        ip(&["link", "add", &near, "type", "veth", "peer", "name", "eth0", "netns", &namespace])?;
        ip(&["link", "set", &near, "master", BRIDGE, "up"])?;
        ip(&["-n", &namespace, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
        ip(&["-n", &namespace, "route", "add", "default", "via", "10.77.0.1"])?;
        Ok(Place { name: namespace, address })
    }

    /// Creates a namespace behind a link that delays each packet by `delay_ms`, in each direction, and loses `loss` percent.
    pub fn distant_place(
        &mut self,
        name: &str,
        delay_ms: u32,
        loss: u32,
    ) -> Result<(Place, SlowLink), String> {
        let namespace = self.add(name)?;
        let script = remuxd_tests::tool::root().join("tests/proof/cluster/link.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(&namespace).arg(delay_ms.to_string()).arg(loss.to_string());
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
        let mut line = String::new();
        let stdout = child.stdout.as_mut().ok_or("no output")?;
        let read = std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line);
        let link = SlowLink(child);
        if read.is_err() || line.trim() != "ready" {
            return Err("the slow link does not start".into());
        }
        Ok((Place { name: namespace, address: Ipv4Addr::new(10, 78, 0, 2) }, link))
    }

    /// Cuts the link between a namespace and the bridge, or restores it.
    pub fn cut(&self, place: &Place, cut: bool) -> Result<(), String> {
        let name = place.name.trim_start_matches(&self.prefix).trim_start_matches('-');
        ip(&["link", "set", &format!("to-{name}"), if cut { "down" } else { "up" }])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&["netns", "del", name]);
        }
    }
}

impl Drop for SlowLink {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Place {
    /// Starts a host there.
    pub fn start(&self, config: &Config) -> Host {
        self.start_by(&[], config)
    }

    /// Starts a host there, by a command that executes its arguments.
    pub fn start_by(&self, wrapper: &[&str], config: &Config) -> Host {
        Host::start_by(&[&["ip", "netns", "exec", &self.name], wrapper].concat(), config)
    }

    /// Returns a command that is executed there.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    pub fn rtmp(&self) -> SocketAddr {
        (IpAddr::from(self.address), RTMP).into()
    }

    pub fn http(&self) -> SocketAddr {
        (IpAddr::from(self.address), HTTP).into()
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

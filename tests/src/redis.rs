//! Redis, as the directory of a cluster. Entries are signed here from their description in docs/cluster.md, not by the host's code.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::proxy::free_address;
use crate::scratch::Scratch;
use crate::token::hmac_sha256_base64url;
use crate::wait::{SOON, wait_until};

/// A running Redis without persistence; killed on drop.
#[derive(Debug)]
pub struct Redis {
    child: Child,
    /// Its address.
    pub address: SocketAddr,
    scratch: Scratch,
}

impl Redis {
    /// Starts it on a free port.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start() -> Redis {
        let (scratch, address) = (Scratch::new(), free_address());
        let redis = Redis { child: spawn(&scratch, address), address, scratch };
        redis.wait_ready();
        redis
    }

    /// Kills it. Everything in it is lost.
    ///
    /// # Panics
    /// Never in practice.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours");
    }

    /// Starts it again, empty, at the same address.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.child = spawn(&self.scratch, self.address);
        self.wait_ready();
    }

    /// Lets it hang (SIGSTOP), or go on.
    ///
    /// # Panics
    /// When `kill` cannot be run.
    pub fn hang(&self, hangs: bool) {
        let signal = if hangs { "-STOP" } else { "-CONT" };
        let killed = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(killed.is_ok_and(|status| status.success()), "kill {signal}");
    }

    /// Runs a command by redis-cli, and returns its output without the last line end.
    ///
    /// # Panics
    /// When redis-cli cannot be run.
    #[must_use]
    pub fn cli(&self, command: &[&str]) -> String {
        let port = self.address.port().to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(command).output();
        let output = output.unwrap_or_else(|error| panic!("redis-cli: {error}"));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Writes a text where the entry of a stream of the default vhost is.
    ///
    /// # Panics
    /// As [`Redis::cli`].
    pub fn write_stream(&self, key: &str, text: &str) {
        let _ = self.cli(&["HSET", &stream_key(key), "entry", text, "until", "99999999999999"]);
    }

    /// Returns the entry of a stream of the default vhost; empty if there is none.
    ///
    /// # Panics
    /// As [`Redis::cli`].
    #[must_use]
    pub fn stream(&self, key: &str) -> String {
        self.cli(&["HGET", &stream_key(key), "entry"])
    }

    fn wait_ready(&self) {
        wait_until(SOON, "Redis answers", || self.cli(&["PING"]) == "PONG");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the key of a stream of the default vhost.
#[must_use]
pub fn stream_key(key: &str) -> String {
    format!("remuxd:stream:__defaultVhost__/{key}")
}

/// Signs the body of an entry: `stream` or `node` is its kind.
#[must_use]
pub fn sign(secret: &str, kind: &str, body: &str) -> String {
    let mut message = Vec::new();
    for field in ["1", kind, body] {
        message.extend((field.len() as u32).to_be_bytes());
        message.extend(field.as_bytes());
    }
    format!("1.{}.{body}", hmac_sha256_base64url(secret, &message))
}

fn spawn(scratch: &Scratch, address: SocketAddr) -> Child {
    let (port, dir) = (address.port().to_string(), scratch.path().display().to_string());
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &port, "--bind", "127.0.0.1", "--dir", &dir])
        .args(["--save", "", "--appendonly", "no", "--loglevel", "warning"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

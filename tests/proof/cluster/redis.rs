//! Debian's Redis in a namespace: a master, a replica and Sentinels, and a client that asks them.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use remuxd_tests::scratch::Scratch;
use remuxd_tests::wait::wait_until;
use rustix::process::{Pid, Signal, kill_process};

use crate::network::Place;

pub const PORT: u16 = 6379;
pub const SENTINEL_PORT: u16 = 26379;
/// The name under which Sentinels watch the master.
pub const MASTER: &str = "remuxd";

const START: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(2);

/// A server, which ends when this is dropped.
pub struct Redis {
    child: Child,
    address: SocketAddr,
    place: Place,
    settings: Vec<String>,
    is_sentinel: bool,
    // The server's directory.
    scratch: Scratch,
}

impl Redis {
    /// Starts a master, which keeps nothing on disk.
    pub fn master(place: &Place) -> Result<Redis, String> {
        Redis::start(place, PORT, false, Vec::new())
    }

    pub fn replica(place: &Place, of: &Redis) -> Result<Redis, String> {
        let replica =
            Redis::start(place, PORT, false, vec![format!("replicaof {} {PORT}", of.address.ip())])?;
        wait_until(START, "the replica is in sync", || {
            replica.ask(&["INFO", "replication"]).is_ok_and(|info| info.contains("master_link_status:up"))
        });
        Ok(replica)
    }

    /// Starts a Sentinel that watches a master, whose failure two of them must see.
    pub fn sentinel(place: &Place, of: &Redis) -> Result<Redis, String> {
        let settings = vec![
            format!("sentinel monitor {MASTER} {} {PORT} 2", of.address.ip()),
            format!("sentinel down-after-milliseconds {MASTER} 1000"),
            format!("sentinel failover-timeout {MASTER} 5000"),
        ];
        Redis::start(place, SENTINEL_PORT, true, settings)
    }

    fn start(place: &Place, port: u16, is_sentinel: bool, settings: Vec<String>) -> Result<Redis, String> {
        let address = SocketAddr::new(place.rtmp().ip(), port);
        let scratch = Scratch::new();
        let child = spawn(place, &scratch, address, is_sentinel, &settings)?;
        let redis = Redis { child, address, place: place.clone(), settings, is_sentinel, scratch };
        redis.wait();
        Ok(redis)
    }

    fn wait(&self) {
        wait_until(START, "redis-server answers", || {
            self.ask(&["PING"]).is_ok_and(|answer| answer == "PONG")
        });
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the server is a child of ours");
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts a server that was killed again, with nothing in it.
    pub fn restart(&mut self) -> Result<(), String> {
        self.child = spawn(&self.place, &self.scratch, self.address, self.is_sentinel, &self.settings)?;
        self.wait();
        Ok(())
    }

    /// Sends a command, and returns the answer as text, a line for each element of a list.
    pub fn ask(&self, command: &[&str]) -> std::io::Result<String> {
        let mut socket = TcpStream::connect_timeout(&self.address, ANSWER)?;
        socket.set_read_timeout(Some(ANSWER))?;
        let mut request = format!("*{}\r\n", command.len());
        for word in command {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        socket.write_all(request.as_bytes())?;
        answer(&mut BufReader::new(socket))
    }

    /// Returns the keys that match.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        self.ask(&["KEYS", pattern]).map(|keys| keys.lines().map(str::to_owned).collect()).unwrap_or_default()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(
    place: &Place,
    scratch: &Scratch,
    address: SocketAddr,
    is_sentinel: bool,
    settings: &[String],
) -> Result<Child, String> {
    let (ip, port, dir) = (address.ip(), address.port(), scratch.path().display());
    let kept = if is_sentinel { "" } else { "save \"\"\nappendonly no\n" };
    let text =
        format!("port {port}\nbind {ip}\nprotected-mode no\ndir {dir}\n{kept}{}\n", settings.join("\n"));
    let file = scratch.join("redis.conf");
    std::fs::write(&file, text).map_err(|error| error.to_string())?;
    let mut command = place.command("redis-server");
    command.arg(&file).args(is_sentinel.then_some("--sentinel")).stdout(Stdio::null());
    command.spawn().map_err(|error| format!("redis-server: {error}"))
}

/// Reads one answer of RESP 2.
fn answer(input: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    let (kind, rest) = line.trim_end().split_at_checked(1).ok_or(std::io::ErrorKind::UnexpectedEof)?;
    match kind {
        "+" | ":" => Ok(rest.to_owned()),
        "$" => {
            let Ok(len) = rest.parse::<usize>() else { return Ok(String::new()) };
            let mut bytes = vec![0; len + 2];
            input.read_exact(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes[..len]).into_owned())
        }
        "*" => {
            let count = rest.parse::<usize>().unwrap_or(0);
            let elements: std::io::Result<Vec<_>> = (0..count).map(|_| answer(input)).collect();
            Ok(elements?.join("\n"))
        }
        _ => Err(std::io::Error::other(rest.to_owned())),
    }
}

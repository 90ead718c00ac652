//! `remuxd reload`, `status`, `sessions`, `kick`, `ban`, `unban` and `bans`: the client of the control socket.

use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bans::{BanList, Ended};
use super::cluster::ClusterStatus;
use super::control::{connect, socket_path};
use super::host_status::HostStatus;
use super::pulls::PullList;
use super::pushes::PushList;
use super::report::{ReloadOutcome, ReloadReport};
use super::sessions::{SessionList, SessionStatus};
use super::status::{MemoryStatus, ModuleStatus};
use super::streams::{StreamList, StreamStatus, write_streams};
use crate::conf::Config;
use crate::module::text::push_visible;
use crate::output::print;

/// Maximum size of a response, in bytes.
const MAX_RESPONSE: u64 = 16 << 20;

/// Lists as long as they get.
const ALL_STREAMS: &str = "/api/v2/streams?count=10000";
const ALL_SESSIONS: &str = "/api/v2/sessions?count=10000";
const ALL_PULLS: &str = "/api/v2/pulls?count=10000";
const ALL_PUSHES: &str = "/api/v2/pushes?count=10000";
const CLUSTER: &str = "/api/v2/cluster?count=10000";

/// Interval of `remuxd status --watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Moves the cursor to the top and clears the terminal (ECMA-48: CUP, ED).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Makes the host that runs with `file` reload, and prints the report. Returns false if the reload was refused.
///
/// # Errors
/// No host runs with `file`, or it does not respond.
pub fn reload_command(file: &Path, dry_run: bool) -> anyhow::Result<bool> {
    let path = if dry_run { "/api/v1/reload?dry_run=1" } else { "/api/v1/reload" };
    let report: ReloadReport = request(file, "POST", path)?;
    print(visible(&format!("{report}\n")))?;
    Ok(report.outcome != ReloadOutcome::Refused)
}

/// The content and the form of the output of `remuxd status`.
#[derive(Clone, Debug, Default)]
pub struct StatusView {
    /// The name of the only stream to show, with its sessions.
    pub stream: Option<String>,
    /// Whether to show the cluster instead.
    pub cluster: bool,
    /// Whether to print JSON instead of tables.
    pub json: bool,
    /// Whether to print again every second, until the command is ended.
    pub watch: bool,
}

/// Prints listeners, streams, pulls, pushes, modules and memory of the host that runs with `file`, or one stream and its sessions, or
/// the cluster.
///
/// # Errors
/// No host runs with `file`, it does not respond, or it has no such stream.
pub fn status_command(file: &Path, view: &StatusView) -> anyhow::Result<()> {
    loop {
        let text = match (&view.stream, view.json) {
            _ if view.cluster => cluster_status(file, view.json)?,
            (Some(stream), json) => stream_status(file, stream, json)?,
            (None, true) => json_of(&Status::of(file)?)?,
            (None, false) => Status::of(file)?.to_string(),
        };
        if !view.watch {
            return Ok(print(visible(&text))?);
        }
        let clear = if view.json { "" } else { CLEAR };
        print(format_args!("{clear}{}", visible(&text)))?;
        std::thread::sleep(WATCH_INTERVAL);
    }
}

/// Everything that `remuxd status` shows.
#[derive(Serialize)]
struct Status {
    /// `None` from a host of an earlier version.
    host: Option<HostStatus>,
    streams: Vec<StreamStatus>,
    /// `None` from a host of an earlier version, as the pushes.
    pulls: Option<PullList>,
    pushes: Option<PushList>,
    modules: Vec<ModuleStatus>,
    /// `None` from a host of an earlier version.
    memory: Option<MemoryStatus>,
}

impl Status {
    fn of(file: &Path) -> anyhow::Result<Status> {
        Ok(Status {
            host: request(file, "GET", "/api/v2/host").ok(),
            streams: request::<StreamList>(file, "GET", ALL_STREAMS)
                .map_or_else(|_| Vec::new(), |list| list.streams),
            pulls: request(file, "GET", ALL_PULLS).ok(),
            pushes: request(file, "GET", ALL_PUSHES).ok(),
            modules: request(file, "GET", "/api/v1/modules")?,
            memory: request(file, "GET", "/api/v1/memory").ok(),
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status { host, streams, pulls, pushes, modules, memory } = self;
        if let Some(host) = host {
            writeln!(f, "{host}\n")?;
        }
        write_streams(streams, f)?;
        pulls.iter().try_for_each(|pulls| write!(f, "{pulls}"))?;
        pushes.iter().try_for_each(|pushes| write!(f, "{pushes}"))?;
        writeln!(
            f,
            "\n{:<16} {:<10} {:>10} {:<11} {:>6} {:>7} {:>6} {:>6} {:>9} {:>9} {:>9}",
            "module",
            "version",
            "generation",
            "state",
            "mounts",
            "viewers",
            "skips",
            "faults",
            "lag",
            "lag-skips",
            "memory"
        )?;
        for module in modules {
            let ModuleStatus { name, version, generation, state, mounts, viewers, skips, faults, .. } =
                module;
            let ModuleStatus { lag_ms, lag_skips, retained_bytes, .. } = module;
            let (lag, memory) = (format!("{lag_ms} ms"), format!("{} KiB", retained_bytes >> 10));
            writeln!(
                f,
                "{name:<16} {version:<10} {generation:>10} {state:<11} {mounts:>6} {viewers:>7} {skips:>6} {faults:>6} \
                 {lag:>9} {lag_skips:>9} {memory:>9}"
            )?;
        }
        for ModuleStatus { name, generation, reason, .. } in modules {
            if let Some(reason) = reason {
                writeln!(f, "{name} generation {generation}: {reason}")?;
            }
        }
        memory.as_ref().map_or(Ok(()), |memory| writeln!(f, "\n{memory}"))
    }
}

/// One stream and its sessions.
#[derive(Serialize)]
struct StreamDetails {
    stream: StreamStatus,
    sessions: Vec<SessionStatus>,
}

fn stream_status(file: &Path, name: &str, json: bool) -> anyhow::Result<String> {
    let StreamList { streams, .. } = request(file, "GET", ALL_STREAMS)?;
    let sessions: SessionList = request(file, "GET", ALL_SESSIONS)?;
    let stream = streams.into_iter().find(|stream| stream.name == name);
    let stream = stream.with_context(|| format!("there is no stream {name}"))?;
    let sessions: Vec<_> = sessions.sessions.into_iter().filter(|session| session.stream == name).collect();
    if json {
        return json_of(&StreamDetails { stream, sessions });
    }
    let sessions = SessionList { total: sessions.len(), start: 0, sessions };
    Ok(format!("{}\n{sessions}", StreamList { total: 1, start: 0, streams: vec![stream] }))
}

fn cluster_status(file: &Path, json: bool) -> anyhow::Result<String> {
    let cluster: ClusterStatus = request(file, "GET", CLUSTER)?;
    if json { json_of(&cluster) } else { Ok(cluster.to_string()) }
}

fn json_of(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Prints the sessions of the host that runs with `file`.
///
/// # Errors
/// No host runs with `file`, or it does not respond.
pub fn sessions_command(file: &Path) -> anyhow::Result<()> {
    let sessions: SessionList = request(file, "GET", ALL_SESSIONS)?;
    Ok(print(visible(&sessions.to_string()))?)
}

/// Ends a session of the host that runs with `file`.
///
/// # Errors
/// There is no such session, no host runs with `file`, or it does not respond.
pub fn kick_command(file: &Path, id: &str) -> anyhow::Result<()> {
    let Ended { .. } = request(file, "DELETE", &format!("/api/v2/sessions/{}", encoded(id)))?;
    Ok(print("session ended\n")?)
}

/// Bans an address, a subject or a stream.
///
/// # Errors
/// It cannot be banned, no host runs with `file`, or it does not respond.
pub fn ban_command(file: &Path, kind: &str, value: &str, time: Duration) -> anyhow::Result<()> {
    let (value, seconds) = (encoded(value), time.as_secs());
    let path = format!("/api/v2/bans?kind={kind}&value={value}&seconds={seconds}");
    let Ended { ended } = request(file, "POST", &path)?;
    Ok(print(format_args!("banned for {seconds} s; sessions ended: {ended}\n"))?)
}

/// Lifts a ban.
///
/// # Errors
/// There is no such ban, no host runs with `file`, or it does not respond.
pub fn unban_command(file: &Path, kind: &str, value: &str) -> anyhow::Result<()> {
    let path = format!("/api/v2/bans?kind={kind}&value={}", encoded(value));
    let Ended { .. } = request(file, "DELETE", &path)?;
    Ok(print("ban lifted\n")?)
}

/// Prints the bans of the host that runs with `file`.
///
/// # Errors
/// No host runs with `file`, or it does not respond.
pub fn bans_command(file: &Path) -> anyhow::Result<()> {
    let bans: BanList = request(file, "GET", "/api/v2/bans?count=10000")?;
    Ok(print(visible(&bans.to_string()))?)
}

fn encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

/// Escapes what could control the terminal in text that came over the socket.
fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => visible.push('\n'),
            // Writing to a string cannot fail.
            _ => drop(push_visible(&mut visible, character)),
        }
    }
    visible
}

fn request<T: DeserializeOwned>(file: &Path, method: &str, path: &str) -> anyhow::Result<T> {
    let socket = socket_of(file);
    let mut stream = connect(&socket)
        .with_context(|| format!("no host runs with {}: {}", file.display(), socket.display()))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: remuxd\r\nConnection: close\r\n\r\n")?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut response).context("the host does not respond")?;
    let head = response.windows(4).position(|window| window == b"\r\n\r\n");
    let head = head.context("the host sent no HTTP response")?;
    let body = &response[head + 4..];
    match serde_json::from_slice(body) {
        Ok(value) => Ok(value),
        Err(_) => bail!("{}", visible(String::from_utf8_lossy(body).trim_end())),
    }
}

/// Returns the path of the host's control socket. Errors in the config do not matter here: a host whose config was broken
/// after it started must remain reachable.
fn socket_of(file: &Path) -> PathBuf {
    let config = Config::read(file).map(|(config, _)| config).unwrap_or_default();
    socket_path(file, &config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_the_socket_cannot_control_the_terminal() {
        assert_eq!(visible("a\tb\x1b[2J\n\u{9b}c\u{202e}"), "a\\tb\\u{1b}[2J\n\\u{9b}c\\u{202e}");
    }
}

//! `remuxd reload` and `remuxd status`: the other end of the control socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;

use super::api::ModuleStatus;
use super::control::socket_path;
use super::report::{Report, Verdict};
use crate::conf::Config;
use crate::output::print;

/// The largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 16 << 20;

/// Asks the host that runs with `file` to reload. Prints how it went. False: it was refused.
///
/// # Errors
/// There is no host to ask, or no answer.
pub fn reload_command(file: &Path, dry_run: bool) -> anyhow::Result<bool> {
    let path = if dry_run { "/api/v1/reload?dry_run=1" } else { "/api/v1/reload" };
    let report: Report = ask(file, "POST", path)?;
    print(format_args!("{report}\n"))?;
    Ok(report.verdict != Verdict::Refused)
}

/// Prints the modules of the host that runs with `file`.
///
/// # Errors
/// There is no host to ask, or no answer.
pub fn status_command(file: &Path) -> anyhow::Result<()> {
    let modules: Vec<ModuleStatus> = ask(file, "GET", "/api/v1/modules")?;
    let mut table = format!(
        "{:<16} {:<10} {:>10} {:<11} {:>6} {:>7} {:>6} {:>9}\n",
        "module", "version", "generation", "state", "mounts", "viewers", "faults", "memory"
    );
    for module in modules {
        let ModuleStatus { name, version, generation, state, mounts, viewers, faults, .. } = module;
        let memory = format!("{} KiB", module.retained_bytes >> 10);
        table += &format!(
            "{name:<16} {version:<10} {generation:>10} {state:<11} {mounts:>6} {viewers:>7} {faults:>6} {memory:>9}\n"
        );
    }
    Ok(print(table)?)
}

fn ask<T: DeserializeOwned>(file: &Path, method: &str, path: &str) -> anyhow::Result<T> {
    let socket = socket_of(file);
    let mut stream = UnixStream::connect(&socket)
        .with_context(|| format!("no host runs with {}: {}", file.display(), socket.display()))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: remuxd\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).context("the host does not answer")?;
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let head = head.context("the host gave no HTTP answer")?;
    let body = &answer[head + 4..];
    match serde_json::from_slice(body) {
        Ok(value) => Ok(value),
        Err(_) => bail!("{}", String::from_utf8_lossy(body).trim_end()),
    }
}

/// A config that is wrong must not keep its host from being asked: that is when one asks. What is right of it counts.
fn socket_of(file: &Path) -> PathBuf {
    let mut socket = None;
    let _mistakes = Config::load_and(file, |config, _| socket = Some(socket_path(file, config)));
    socket.unwrap_or_else(|| socket_path(file, &Config::default()))
}

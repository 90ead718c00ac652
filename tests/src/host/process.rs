//! The host as a child process.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::config::Config;
use crate::scratch::Scratch;
use crate::secrets;
use crate::tool::{root, run, target_dir};
use crate::wait::{SOON, wait_for, wait_until};

/// Name of the configuration in the host's scratch directory.
const CONFIG_FILE: &str = "remuxd.toml";

/// Returns the built `remuxd`, with its modules beside it: `REMUXD_BIN`, or the workspace's, which is built now so that
/// no test runs a stale one.
///
/// # Panics
/// When it does not build.
#[must_use]
pub fn executable() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Some(path) = std::env::var_os("REMUXD_BIN") {
            return path.into();
        }
        let test = std::env::current_exe().expect("the running test has a path");
        let release = test.ancestors().any(|part| part.ends_with("release"));
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        // With the features of the whole workspace, as everything else here is built.
        build.current_dir(root()).args(["build", "--quiet", "--workspace", "--target-dir"]).arg(target_dir());
        if release {
            build.arg("--release");
        }
        run(&mut build).unwrap_or_else(|error| panic!("{error}"));
        target_dir().join(if release { "release" } else { "debug" }).join("remuxd")
    })
    .clone()
}

/// Runs `remuxd` with these arguments to its end.
///
/// # Panics
/// When it cannot start, or prints a secret.
#[must_use]
pub fn remuxd(arguments: &[&str]) -> Output {
    let mut command = Command::new(executable());
    let output = command.args(arguments).stdin(Stdio::null()).output().expect("the host starts");
    assert_printed_no_secret(arguments, &output);
    output
}

#[track_caller]
fn assert_printed_no_secret(arguments: &[&str], output: &Output) {
    secrets::assert_hidden("the errors of a command", &String::from_utf8_lossy(&output.stderr));
    // Signatures are what this command is for.
    if arguments.first() != Some(&"sign") {
        secrets::assert_hidden("the output of a command", &String::from_utf8_lossy(&output.stdout));
    }
}

/// Returns a command that runs the host with this configuration, and the directory with its file.
fn with_config(toml: &str) -> (Command, Scratch) {
    let scratch = Scratch::new();
    std::fs::write(scratch.join(CONFIG_FILE), toml).expect("the scratch directory is writable");
    (command_in(&scratch), scratch)
}

/// Returns a command that runs the host with the configuration in this directory.
fn command_in(scratch: &Scratch) -> Command {
    let mut command = Command::new(executable());
    command.arg("--config").arg(scratch.join(CONFIG_FILE));
    command
}

/// A running host; killed on drop.
///
/// A test that panics prints the host's log. A test that does not panic still fails if the host has died, has panicked,
/// or has printed a secret.
pub struct Host {
    child: Child,
    /// Address of RTMP.
    pub rtmp: SocketAddr,
    /// Address of HTTP; port 0 without HTTP.
    pub http: SocketAddr,
    /// Address of RTMPS.
    pub rtmps: Option<SocketAddr>,
    /// Address of HTTPS.
    pub https: Option<SocketAddr>,
    /// Address of the API over TLS.
    pub https_api: Option<SocketAddr>,
    /// Address of the API.
    pub api: Option<SocketAddr>,
    stdout: Text,
    log: Text,
    expected_end: bool,
    scratch: Scratch,
}

impl fmt::Debug for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Host").field("rtmp", &self.rtmp).field("http", &self.http).finish_non_exhaustive()
    }
}

/// Text that a thread collects from a pipe.
#[derive(Clone, Debug, Default)]
struct Text(Arc<Mutex<String>>);

impl Text {
    fn collect(pipe: impl Read + Send + 'static) -> Text {
        let text = Text::default();
        let sink = text.clone();
        std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                sink.0.lock().expect("no holder panics").push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        text
    }

    fn read(&self) -> String {
        self.0.lock().expect("no holder panics").clone()
    }
}

impl Host {
    /// Starts the host and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready in time.
    #[must_use]
    pub fn start(config: &Config) -> Host {
        Host::start_toml(&config.toml())
    }

    /// As [`Host::start`], with a configuration of the test's own, which should listen on port 0.
    ///
    /// # Panics
    /// As [`Host::start`].
    #[must_use]
    pub fn start_toml(toml: &str) -> Host {
        let (command, scratch) = with_config(toml);
        Host::start_command(command, scratch)
    }

    /// As [`Host::start`], by a command that executes its arguments, such as `["prlimit", "--nofile=64"]`, in the same process.
    ///
    /// # Panics
    /// As [`Host::start`].
    #[must_use]
    pub fn start_by(wrapper: &[&str], config: &Config) -> Host {
        let (command, scratch) = with_config(&config.toml());
        let mut wrapped = Command::new(wrapper[0]);
        wrapped.args(&wrapper[1..]).arg(command.get_program()).args(command.get_args());
        Host::start_command(wrapped, scratch)
    }

    /// Sends the host a signal.
    ///
    /// # Panics
    /// Never in practice.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the host is a child of ours");
    }

    /// Waits until the host has ended by itself, and starts it again with the same configuration file.
    ///
    /// # Panics
    /// When it does not end in time, and as [`Host::start`].
    pub fn restart_after_crash(&mut self) {
        wait_until(SOON, "the host ends", || !self.is_alive());
        self.expected_end = true;
        let scratch = std::mem::take(&mut self.scratch);
        *self = Host::start_command(command_in(&scratch), scratch);
    }

    /// Starts `remuxd demo`.
    ///
    /// # Panics
    /// As [`Host::start`].
    #[must_use]
    pub fn start_demo(arguments: &[&str]) -> Host {
        let mut command = Command::new(executable());
        command.arg("demo").args(arguments);
        Host::start_command(command, Scratch::new())
    }

    fn start_command(mut command: Command, scratch: Scratch) -> Host {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the host starts");
        let stdout = Text::collect(child.stdout.take().expect("stdout is a pipe"));
        let log = Text::collect(child.stderr.take().expect("stderr is a pipe"));
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        // From here on a panic prints the log.
        let mut host = Host {
            child,
            rtmp: unknown,
            http: unknown,
            rtmps: None,
            https: None,
            api: None,
            https_api: None,
            stdout,
            log,
            expected_end: false,
            scratch,
        };
        wait_for(SOON, "the host prints `ready`", || {
            assert!(host.is_alive(), "the host ended at once");
            host.stdout.read().lines().any(|line| line == "ready").then_some(())
        });
        host.rtmp = host.address("rtmp").unwrap_or_else(|| panic!("no RTMP in:\n{}", host.stdout()));
        host.http = host.address("http").unwrap_or(unknown);
        (host.rtmps, host.https) = (host.address("rtmps"), host.address("https"));
        (host.api, host.https_api) = (host.address("http_api"), host.address("https_api"));
        host
    }

    /// Returns the address in the line `listening PROTOCOL ADDRESS`; loopback for the unspecified address.
    fn address(&self, protocol: &str) -> Option<SocketAddr> {
        let start = format!("listening {protocol} ");
        let stdout = self.stdout.read();
        let line = stdout.lines().find_map(|line| line.strip_prefix(&start));
        let mut address: SocketAddr = line.and_then(|text| text.trim().parse().ok())?;
        if address.ip().is_unspecified() {
            address.set_ip([127, 0, 0, 1].into());
        }
        Some(address)
    }

    /// Replaces the host's configuration file. The next reload reads it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_config(&self, toml: &str) {
        std::fs::write(self.scratch.join(CONFIG_FILE), toml).expect("the scratch directory is writable");
    }

    /// Returns the text of the host's configuration file.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn config(&self) -> String {
        std::fs::read_to_string(self.scratch.join(CONFIG_FILE)).expect("the scratch directory is readable")
    }

    /// Returns the path of the host's configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.scratch.join(CONFIG_FILE)
    }

    /// Runs `remuxd` with these arguments and the host's configuration to its end.
    ///
    /// # Panics
    /// When it cannot start, or prints a secret.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(executable());
        command.arg("--config").arg(self.config_file()).args(arguments).stdin(Stdio::null());
        let output = command.output().expect("the host's program starts");
        assert_printed_no_secret(arguments, &output);
        output
    }

    /// Runs `remuxd reload`, which must succeed, and returns its output.
    ///
    /// # Panics
    /// When it does not.
    pub fn reload(&self) -> String {
        let output = self.command(&["reload"]);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
        printed
    }

    /// Returns the host's standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.read()
    }

    /// Returns the host's log so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.read()
    }

    /// Waits for a line of the log that holds all of `parts`, and returns it.
    ///
    /// # Panics
    /// When there is none in time.
    pub fn wait_log(&self, parts: &[&str]) -> String {
        wait_for(SOON, &format!("a log line with {parts:?}"), || {
            let log = self.log();
            log.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        })
    }

    /// Stops reading the host's log, so that its pipe fills up, until the result is dropped. Methods that return the log
    /// block meanwhile.
    ///
    /// # Panics
    /// Never in practice.
    #[must_use]
    pub fn stop_reading_log(&self) -> impl Drop + '_ {
        self.log.0.lock().expect("no holder panics")
    }

    /// Returns the path of the host's control socket, which is in the default directory.
    ///
    /// # Panics
    /// When no socket there is the host's.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        let user = geteuid();
        let dir =
            if user.is_root() { "/run/remuxd".to_owned() } else { format!("/tmp/remuxd-{}", user.as_raw()) };
        let is_own = |path: &Path| {
            let peer = UnixStream::connect(path).and_then(|socket| Ok(socket_peercred(socket)?));
            peer.is_ok_and(|peer| peer.pid.as_raw_nonzero().get() as u32 == self.pid())
        };
        let mut entries =
            std::fs::read_dir(dir).expect("the host made it").flatten().map(|entry| entry.path());
        entries.find(|path| is_own(path)).expect("the host has a control socket")
    }

    /// Waits until `count` lines of the log hold `part`, and returns the last of them.
    ///
    /// # Panics
    /// When there are fewer in time, or more.
    pub fn wait_nth_log(&self, part: &str, count: usize) -> String {
        wait_for(SOON, &format!("{count} log lines with {part:?}"), || {
            let log = self.log();
            let lines: Vec<&str> = log.lines().filter(|line| line.contains(part)).collect();
            assert!(lines.len() <= count, "more than {count} lines with {part:?}:\n{log}");
            lines.get(count - 1).map(|line| line.to_string())
        })
    }

    /// Returns whether the process runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("the host is a child of ours").is_none()
    }

    /// Returns the host's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the host's child processes with the kernel's letter for the state of each: `Z` is one that was not reaped.
    ///
    /// # Panics
    /// When `/proc` cannot be read.
    #[must_use]
    pub fn children(&self) -> Vec<(Pid, char)> {
        let own = self.child.id().to_string();
        let entries = std::fs::read_dir("/proc").expect("Linux").flatten();
        let stats = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
        stats
            .filter_map(|stat| {
                let (start, rest) = stat.rsplit_once(") ")?;
                let mut fields = rest.split(' ');
                let state = fields.next()?.chars().next()?;
                let number = start.split_once(' ')?.0.parse().ok()?;
                (fields.next()? == own).then_some((Pid::from_raw(number)?, state))
            })
            .collect()
    }

    /// Kills the host (SIGKILL).
    ///
    /// # Panics
    /// Never in practice.
    pub fn kill(&mut self) {
        self.expected_end = true;
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours");
    }

    /// Returns the host's resident memory in bytes.
    ///
    /// # Panics
    /// When the process is gone.
    #[must_use]
    pub fn resident(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the host runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the host has memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("the kernel writes a number") * 1024
    }

    /// Returns the number of the host's open file descriptors, sockets included.
    ///
    /// # Panics
    /// When the process is gone.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("the host runs").count()
    }

    /// Returns the CPU time that the host has used, user and system.
    ///
    /// # Panics
    /// When the process is gone.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("the host runs");
        let after_name = stat.rsplit_once(") ").expect("the kernel writes the name in parentheses").1;
        // utime and stime are fields 14 and 15 of the whole line, in ticks of 1/100 s on Linux.
        let ticks: u64 =
            after_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Stops the host (SIGTERM) and waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_end()
    }

    /// Waits until the host has ended.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait_end(&mut self) -> ExitStatus {
        self.expected_end = true;
        wait_for(SOON, "the host ends", || self.child.try_wait().expect("a child of ours"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let died = !self.expected_end && !self.is_alive();
        // It may have ended already.
        let _ = self.child.kill();
        let status = self.child.wait();
        let log = self.log();
        if std::thread::panicking() {
            eprintln!("---- the host's output ----\n{}---- the host's log ----\n{log}----", self.stdout());
            return;
        }
        assert!(!died, "the host died: {status:?}\n{log}");
        // A module's panic is logged with the module's name.
        let panicked = |line: &str| line.contains("panicked at") && !line.contains(" module=");
        assert!(!log.lines().any(panicked), "the host panicked\n{log}");
        secrets::assert_hidden("the host's output", &self.stdout());
        secrets::assert_hidden("the host's log", &log);
    }
}

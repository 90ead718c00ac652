//! Connection: a running process of a module and the host's end of its socket.

use std::io::{self, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use remuxd_plugin_api::log::Level;

use super::error::WireError;
use super::frame::{self, Frame, MAX_DESCRIPTION, MAX_TEXT, about, kind, logged, seal};
use super::launch::Launch;
use super::link::{LinkError, Patience, Receiver, send};
use super::reaped::Reaped;
use super::response::{Described, described};
use super::spawn::{pipe, spawn};
use crate::module::call_time::{CallTime, Thread};
use crate::module::error::LoadError;
use crate::module::fault::ModuleFault;
use crate::module::log::ModuleLog;
use crate::module::step::{PROBE_LIMIT, Step, Trial};
use crate::module::text::one_line;

/// The hidden command of the host's program.
const COMMAND: &str = "__module";
/// The process's name in lists of processes.
const PROGRAM: &str = "remuxd";
/// Amount of a process's last output that is kept, in bytes.
const MAX_PRINTED: usize = 8 << 10;
/// Number of reads of the output at a time, so that a process that prints endlessly does not block the caller.
const MAX_READS: usize = 64;

/// A running process. Killed on drop.
#[derive(Debug)]
pub struct Connection {
    child: Reaped,
    socket: UnixStream,
    receiver: Receiver,
    name: String,
    log: Arc<ModuleLog>,
    call_limit: Duration,
    /// The process's standard error, non-blocking. It is read after each call, since most Rust modules panic when it is
    /// full.
    stderr: PipeReader,
    /// The end of its output so far.
    printed: Vec<u8>,
    /// Drops log lines, during the self-test.
    quiet: bool,
}

impl Connection {
    /// Starts the process and waits until it has loaded the module.
    ///
    /// # Errors
    /// [`LoadError`]: the process is gone.
    pub fn open(launch: &Launch) -> Result<(Connection, Described), LoadError> {
        // Everything that can fail comes before the spawn: a child without a holder would not be reaped.
        let (socket, theirs) = UnixStream::pair().map_err(LoadError::Probe)?;
        let receiver = Receiver::new(socket.try_clone().map_err(LoadError::Probe)?);
        let (stderr, printed) = pipe().map_err(LoadError::Probe)?;
        let mut command = Command::new(&launch.program);
        command
            .arg0(PROGRAM)
            .arg(COMMAND)
            .arg(launch.file.path())
            .arg(launch.allowance.max_output.to_string())
            .arg(launch.allowance.max_memory.to_string())
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(printed);
        let mut connection = Connection {
            child: Reaped::new(spawn(command).map_err(LoadError::Probe)?),
            receiver,
            socket,
            name: launch.name.clone(),
            log: launch.log.clone(),
            call_limit: launch.call_limit,
            stderr,
            printed: Vec::new(),
            quiet: false,
        };
        let body = connection.trial(Trial::Loading, &[], kind::DESCRIBED)?;
        let described = described(&body).map_err(ModuleFault::from)??;
        Ok((connection, described))
    }

    /// Runs the self-test in the process.
    ///
    /// # Errors
    /// [`LoadError`]: the connection cannot be used again.
    pub fn self_test(&mut self) -> Result<(), LoadError> {
        let mut request = about(kind::TEST, 0);
        seal(&mut request, 0);
        self.quiet = true;
        let passed = self.trial(Trial::SelfTest, &request, kind::DONE);
        self.quiet = false;
        passed.map(drop)
    }

    /// Sends a request of the loading phase, if it is not empty, and returns the body of the response of kind `expected`.
    fn trial(&mut self, during: Trial, request: &[u8], expected: u8) -> Result<Bytes, LoadError> {
        self.set_timeout(PROBE_LIMIT).map_err(LoadError::Probe)?;
        let mut deadline = Some(Instant::now() + PROBE_LIMIT);
        let sent = send(&self.socket, request, &[], &mut deadline);
        let response = sent.and_then(|()| self.receive(MAX_DESCRIPTION, &mut deadline));
        self.set_timeout(CallTime::interval(self.call_limit)).map_err(LoadError::Probe)?;
        let body = response.and_then(|frame| match frame.kind {
            kind::REFUSED => Ok(Err(refusal(&frame.body)?)),
            _ => Ok(Ok(frame.body(expected)?)),
        });
        body.unwrap_or_else(|error| {
            Err(match error {
                LinkError::Closed => match self.end() {
                    ModuleFault::Crashed { signal, .. } => LoadError::ProbeCrashed { during, signal },
                    ModuleFault::Exited { status, said } => LoadError::ProbeExited { during, status, said },
                    other => LoadError::Fault(other),
                },
                LinkError::TimedOut => LoadError::ProbeTimedOut { during, limit: PROBE_LIMIT },
                LinkError::Io(error) => LoadError::Probe(error),
                LinkError::Wire(error) => {
                    let fault = ModuleFault::from(error);
                    match during {
                        Trial::Loading => LoadError::Fault(fault),
                        Trial::SelfTest => {
                            LoadError::ProbeRefused { step: Step::SelfTest, line: fault.to_string() }
                        }
                    }
                }
            })
        })
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// The fault with which the process ended, if it has.
    pub fn ended(&mut self) -> Option<ModuleFault> {
        // A child that cannot be waited for does not exist.
        let status = self.child.ended().unwrap_or_else(|_| Some(ExitStatus::from_raw(0)))?;
        Some(self.fault_of(status))
    }

    /// Sends a request and returns the body of its response, of the kind `expected` and `limit` bytes at most. After a fault
    /// the connection cannot be used again.
    pub fn call(
        &mut self,
        request: &[u8],
        payload: &[u8],
        expected: u8,
        limit: usize,
    ) -> Result<Bytes, ModuleFault> {
        let mut time = CallTime::new(Thread::OfProcess(self.pid()), self.call_limit, Instant::now());
        let sent = send(&self.socket, request, payload, &mut time);
        let response = sent.and_then(|()| self.receive(limit, &mut time)).and_then(|frame| {
            let body = frame.body(expected)?;
            if self.receiver.is_empty() { Ok(body) } else { Err(WireError::Unasked.into()) }
        });
        self.read_output();
        response.map_err(|error| match error {
            LinkError::Closed | LinkError::Io(_) => self.end(),
            LinkError::TimedOut => ModuleFault::TimedOut { limit: self.call_limit },
            LinkError::Wire(error) => error.into(),
        })
    }

    /// Receives the next frame that is not a log line.
    fn receive(&mut self, limit: usize, patience: &mut impl Patience) -> Result<Frame, LinkError> {
        loop {
            let frame = self.receiver.frame(limit.max(MAX_TEXT + 2), patience)?;
            if frame.kind != kind::LOG {
                return Ok(frame);
            }
            let (level, line) = logged(frame.body)?;
            if !self.quiet {
                self.log.write(&self.name, Level(level), &line);
            }
        }
    }

    fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(timeout))?;
        self.socket.set_write_timeout(Some(timeout))
    }

    /// Kills the process, unless it has ended, and returns the fault with which it ended.
    fn end(&mut self) -> ModuleFault {
        let status = self.child.end().unwrap_or_default();
        self.fault_of(status)
    }

    fn fault_of(&mut self, status: ExitStatus) -> ModuleFault {
        let said = self.last_line();
        match status.signal() {
            Some(signal) => ModuleFault::Crashed { signal, said },
            None => ModuleFault::Exited { status: status.code().unwrap_or(-1), said },
        }
    }

    /// Reads the output of the process so far.
    fn read_output(&mut self) {
        let mut part = [0; 1 << 10];
        for _ in 0..MAX_READS {
            // No more output for now, or its end.
            let Ok(len @ 1..) = self.stderr.read(&mut part) else { return };
            self.printed.extend_from_slice(&part[..len]);
            let old = self.printed.len().saturating_sub(MAX_PRINTED);
            self.printed.drain(..old);
        }
    }

    /// Returns the last line that the process printed, except for the notes below a Rust panic.
    fn last_line(&mut self) -> String {
        self.read_output();
        let lines = String::from_utf8_lossy(&self.printed);
        let is_message = |line: &String| !line.is_empty() && !line.starts_with("note: ");
        lines.lines().rev().map(one_line).find(is_message).unwrap_or_default()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.end();
    }
}

impl Patience for CallTime {
    fn is_over(&mut self) -> bool {
        self.poll()
    }
}

/// Reads the process's refusal of the module.
fn refusal(body: &[u8]) -> Result<LoadError, WireError> {
    let text = frame::message(body)?;
    Ok(LoadError::from_wire(&text).unwrap_or(LoadError::ProbeRefused { step: Step::Probe, line: text }))
}

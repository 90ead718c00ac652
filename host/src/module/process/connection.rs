//! Connection: a module's process as the host sees it.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use remuxd_plugin_api::log::Level;

use super::Launch;
use super::link::{LinkError, Receiver, send};
use super::reaped::Reaped;
use super::wire::{self, Described, Frame, MAX_DESCRIPTION, MAX_TEXT, WireError, kind};
use crate::module::log::ModuleLog;
use crate::module::text::one_line;
use crate::module::{LoadError, ModuleFault, PROBE_LIMIT, Step, Trial};

/// The hidden command of the host's program.
const COMMAND: &str = "__module";
/// What the process is called in lists of processes.
const PROGRAM: &str = "remuxd";
/// How much is kept of what a process printed last, in bytes.
const MAX_PRINTED: usize = 8 << 10;
/// How often it is read at a time, so that a process that prints without end is not listened to without end.
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
    /// What the process prints as errors. It is read after each call: a module that finds no room panics, if it is like
    /// most in Rust. The last of it is kept.
    stderr: PipeReader,
    printed: Vec<u8>,
    /// What the module logs is about nothing real.
    quiet: bool,
}

impl Connection {
    /// Starts the process and waits until it has loaded the module.
    ///
    /// # Errors
    /// [`LoadError`]: the process is gone.
    pub fn open(launch: &Launch) -> Result<(Connection, Described), LoadError> {
        // All that can fail comes first: a child that nobody holds is not reaped.
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
        let described = connection.trial(Trial::Loading, &[], kind::DESCRIBED)?;
        let described = wire::described(described).map_err(ModuleFault::from)?;
        Ok((connection, described))
    }

    /// Has the self-test played to the module.
    ///
    /// # Errors
    /// [`LoadError`]: the connection is of no more use.
    pub fn self_test(&mut self) -> Result<(), LoadError> {
        let mut request = wire::about(kind::TEST, 0);
        wire::seal(&mut request, 0);
        self.quiet = true;
        let passed = self.trial(Trial::SelfTest, &request, kind::DONE);
        self.quiet = false;
        passed.map(drop)
    }

    /// A part of loading: the body of the answer, which is of the kind `expected` unless the module is refused.
    fn trial(&mut self, during: Trial, request: &[u8], expected: u8) -> Result<Bytes, LoadError> {
        self.set_timeout(PROBE_LIMIT).map_err(LoadError::Probe)?;
        let deadline = Instant::now() + PROBE_LIMIT;
        let sent = send(&self.socket, request, &[], Some(deadline));
        let answer = sent.and_then(|()| self.receive(MAX_DESCRIPTION, deadline));
        self.set_timeout(self.call_limit).map_err(LoadError::Probe)?;
        let body = answer.and_then(|frame| match frame.kind {
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

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// How the process ended, if it has.
    pub fn ended(&mut self) -> Option<ModuleFault> {
        // A child that cannot be asked after is none.
        let status = self.child.ended().unwrap_or_else(|_| Some(ExitStatus::from_raw(0)))?;
        Some(self.fault_of(status))
    }

    /// One request and the body of its answer, of the kind `expected`, `limit` bytes at most. With a fault the
    /// connection is of no more use.
    pub fn call(
        &mut self,
        request: &[u8],
        payload: &[u8],
        expected: u8,
        limit: usize,
    ) -> Result<Bytes, ModuleFault> {
        let deadline = Instant::now() + self.call_limit;
        let sent = send(&self.socket, request, payload, Some(deadline));
        let answer = sent.and_then(|()| self.receive(limit, deadline)).and_then(|frame| {
            let body = frame.body(expected)?;
            if self.receiver.is_empty() { Ok(body) } else { Err(WireError::Unasked.into()) }
        });
        self.listen();
        answer.map_err(|error| match error {
            LinkError::Closed | LinkError::Io(_) => self.end(),
            LinkError::TimedOut => ModuleFault::TimedOut { limit: self.call_limit },
            LinkError::Wire(error) => error.into(),
        })
    }

    /// The next frame that is no line for the log.
    fn receive(&mut self, limit: usize, deadline: Instant) -> Result<Frame, LinkError> {
        loop {
            let frame = self.receiver.frame(limit.max(MAX_TEXT + 2), Some(deadline))?;
            if frame.kind != kind::LOG {
                return Ok(frame);
            }
            let (level, line) = wire::logged(frame.body)?;
            if !self.quiet {
                self.log.write(&self.name, Level(level), &line);
            }
        }
    }

    fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(timeout))?;
        self.socket.set_write_timeout(Some(timeout))
    }

    /// Ends the process and tells how it ended: a status that it has already stays.
    fn end(&mut self) -> ModuleFault {
        let status = self.child.end().unwrap_or_default();
        self.fault_of(status)
    }

    fn fault_of(&mut self, status: ExitStatus) -> ModuleFault {
        let said = self.last_words();
        match status.signal() {
            Some(signal) => ModuleFault::Crashed { signal, said },
            None => ModuleFault::Exited { status: status.code().unwrap_or(-1), said },
        }
    }

    /// Reads what the process has printed.
    fn listen(&mut self) {
        let mut part = [0; 1 << 10];
        for _ in 0..MAX_READS {
            // There is no more, or not yet.
            let Ok(len @ 1..) = self.stderr.read(&mut part) else { return };
            self.printed.extend_from_slice(&part[..len]);
            let old = self.printed.len().saturating_sub(MAX_PRINTED);
            self.printed.drain(..old);
        }
    }

    /// The last line that the process printed, without the advice of a Rust program below it.
    fn last_words(&mut self) -> String {
        self.listen();
        let lines = String::from_utf8_lossy(&self.printed);
        let told = |line: &String| !line.is_empty() && !line.starts_with("note: ");
        lines.lines().rev().map(one_line).find(told).unwrap_or_default()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.end();
    }
}

/// Why the process has refused the module.
fn refusal(told: &[u8]) -> Result<LoadError, WireError> {
    let words = wire::words(told)?;
    Ok(LoadError::heard(&words).unwrap_or(LoadError::ProbeRefused { step: Step::Probe, line: words }))
}

/// A pipe that neither end waits for.
fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    rustix::io::ioctl_fionbio(&writer, true)?;
    Ok((reader, writer))
}

/// What the spawner is asked for, and where the answer goes.
type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts a process from a thread that lives as long as this one: the kernel sends the parent-death signal when the
/// thread that started a process ends, not when its process does.
fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, taken) = mpsc::channel::<Order>();
        // Without the thread there is nobody to take orders, which is told below.
        let _ = thread::Builder::new().name("remuxd-spawner".into()).spawn(move || {
            for (mut command, reply) in taken {
                // Who asked may have given up.
                let _ = reply.send(command.spawn());
            }
        });
        orders
    });
    let (reply, child) = mpsc::channel();
    let gone = |_| io::Error::other("the thread that starts processes is gone");
    spawner.send((command, reply)).map_err(|_| gone(mpsc::RecvError))?;
    child.recv().map_err(gone)?
}

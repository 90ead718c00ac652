//! Child: the side of a module's process.
//!
//! The process is the host's own program. It loads the module as the host would, and calls it as the host would, one
//! request after the other: what the host does in-process is done here, with the same code.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

use super::link::{LinkError, Receiver, send};
use super::sandbox::Sandbox;
use super::wire::{self, Frame, kind};
use crate::module::load::loader::{self, Terms};
use crate::module::load::self_test::self_test;
use crate::module::{Instance, LoadError, Module, Staged};

/// What a module's process is told when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// As [`Terms::max_output`].
    pub max_output: usize,
    /// Bytes of memory, above what the program itself takes.
    pub max_memory: usize,
}

/// The module's process: loads the staged module in `file` and serves the host, whose socket is standard input. Returns
/// when the host closes it.
pub fn module_main(file: &Path, allowance: Allowance) -> ExitCode {
    match serve(file, allowance) {
        // The host is gone, or is done with this process. There is nobody to tell.
        Ok(()) | Err(LinkError::Closed) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(file: &Path, allowance: Allowance) -> Result<(), LinkError> {
    close_other_files();
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut receiver = Receiver::new(socket.try_clone()?);
    let host = Arc::new(ToHost(Mutex::new(socket)));
    // It can have been set by nobody else.
    let _ = tracing::subscriber::set_global_default(LogToHost(host.clone()));

    let mut sandbox = Sandbox::enter(file, allowance.max_memory);
    // Faults and generations are counted by the host.
    let terms =
        Terms { generation: 0, max_output: allowance.max_output, max_faults: u32::MAX, unload: false };
    let module = match loader::load(Staged::lent(file), &terms) {
        Ok(module) => module,
        Err(error) => return host.send(&refusal(&error)),
    };
    sandbox.close();
    host.send(&wire::describe(&module, sandbox.missing()))?;
    let mut remuxers = Remuxers { module, alive: HashMap::new() };
    loop {
        let answer = remuxers.answer(receiver.frame(usize::MAX, None)?)?;
        host.send(&answer)?;
    }
}

/// The host's files are closed on exec; this is for what somebody else left open in the host.
fn close_other_files() {
    // SAFETY: no file beyond the standard ones was opened in this process yet.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

fn refusal(error: &LoadError) -> Vec<u8> {
    wire::line(kind::REFUSED, None, &error.told())
}

/// The remuxers of this process, by the host's numbers.
struct Remuxers {
    module: Arc<Module>,
    alive: HashMap<u32, Instance>,
}

impl Remuxers {
    fn answer(&mut self, Frame { kind, mut body }: Frame) -> Result<Vec<u8>, LinkError> {
        let number = wire::number(&mut body)?;
        let mut blocks = Vec::new();
        let mut payload = Bytes::new();
        let known = || wire::WireError::Malformed { what: "number of a remuxer" };
        let result = match kind {
            kind::MAKE => self.module.remuxer(&wire::setup(&mut body)?).map(|remuxer| {
                self.alive.insert(number, remuxer);
            }),
            kind::TAG => {
                let tag = wire::tag(body)?;
                payload = tag.payload.clone();
                self.alive.get_mut(&number).ok_or_else(known)?.tag(&tag, &mut blocks)
            }
            kind::FINISH => self.alive.get_mut(&number).ok_or_else(known)?.finish(&mut blocks),
            kind::STATE => {
                return Ok(wire::put_state(&self.alive.get_mut(&number).ok_or_else(known)?.state()));
            }
            kind::FREE => self.alive.remove(&number).map_or(Ok(()), Instance::free),
            kind::TEST => match self_test(&self.module) {
                Ok(()) => Ok(()),
                Err(breach) => return Ok(refusal(&breach.into())),
            },
            kind => return Err(wire::WireError::Kind { kind }.into()),
        };
        Ok(wire::done(&result, &blocks, &payload))
    }
}

/// The sending half of the connection. Any thread of the module may log.
struct ToHost(Mutex<UnixStream>);

impl ToHost {
    fn send(&self, frame: &[u8]) -> Result<(), LinkError> {
        send(&self.0.lock(), frame, &[], None)
    }
}

/// Sends what is logged to the host, which knows who wants to read it.
struct LogToHost(Arc<ToHost>);

impl Subscriber for LogToHost {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG && metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let level = match *event.metadata().level() {
            Level::ERROR => remuxd_plugin_api::log::Level::ERROR,
            Level::WARN => remuxd_plugin_api::log::Level::WARN,
            Level::INFO => remuxd_plugin_api::log::Level::INFO,
            _ => remuxd_plugin_api::log::Level::DEBUG,
        };
        let mut line = Line::default();
        event.record(&mut line);
        // If the host is gone, the next request is missing too.
        let _ = self.0.send(&wire::line(kind::LOG, Some(level.0), &(line.message + &line.fields)));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// An event as one line.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            // The host names the module.
            "module" => Ok(()),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

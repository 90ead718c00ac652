//! Child: the code that runs in a module's process.
//!
//! The process is the host's own program. It loads and calls the module with the same code as the host does in-process,
//! one request after the other.

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

use super::error::WireError;
use super::frame::{Frame, kind, line, number};
use super::launch::Allowance;
use super::link::{LinkError, Receiver, send};
use super::request::{setup, tag};
use super::response::{describe, done, put_state};
use super::sandbox::Sandbox;
use crate::module::error::LoadError;
use crate::module::load::loader;
use crate::module::load::self_test::self_test;
use crate::module::load::stage::Staged;
use crate::module::loaded::Module;
use crate::module::remuxer::Remuxer;
use crate::module::terms::Terms;

/// Loads the staged module in `file` and serves the host, whose socket is standard input. Returns when the host closes
/// it.
pub fn module_main(file: &Path, allowance: Allowance) -> ExitCode {
    match serve(file, allowance) {
        // The host has exited or closed the connection.
        Ok(()) | Err(LinkError::Closed) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(file: &Path, allowance: Allowance) -> Result<(), LinkError> {
    close_other_files();
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut receiver = Receiver::new(socket.try_clone()?);
    let host = Arc::new(ToHost(Mutex::new(socket)));
    // No other subscriber was set in this process.
    let _ = tracing::subscriber::set_global_default(LogToHost(host.clone()));

    let mut sandbox = Sandbox::enter(file, allowance.max_memory);
    // The host counts faults and generations.
    let terms =
        Terms { generation: 0, max_output: allowance.max_output, max_faults: u32::MAX, unload: false };
    let module = match loader::load_module(Staged::lent(file), &terms) {
        Ok(module) => module,
        Err(error) => return host.send(&refusal(&error)),
    };
    sandbox.close();
    host.send(&describe(module.description(), module.build(), sandbox.missing()))?;
    let mut remuxers = Remuxers { module, alive: HashMap::new() };
    loop {
        let response = remuxers.respond(receiver.frame(usize::MAX, &mut None)?)?;
        host.send(&response)?;
    }
}

/// Closes inherited files. The host's own are closed on exec; libraries may have opened others without that flag.
fn close_other_files() {
    // SAFETY: this process has opened no file beyond the standard ones yet.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

fn refusal(error: &LoadError) -> Vec<u8> {
    line(kind::REFUSED, None, &error.to_wire())
}

/// The remuxers of this process, by the numbers that the host gave them.
struct Remuxers {
    module: Arc<Module>,
    alive: HashMap<u32, Remuxer>,
}

impl Remuxers {
    fn respond(&mut self, Frame { kind, mut body }: Frame) -> Result<Vec<u8>, LinkError> {
        let number = number(&mut body)?;
        let mut blocks = Vec::new();
        let mut payload = Bytes::new();
        let unknown = || WireError::Malformed { what: "number of a remuxer" };
        let result = match kind {
            kind::MAKE => self.module.remuxer(&setup(&mut body)?).map(|remuxer| {
                self.alive.insert(number, remuxer);
            }),
            kind::TAG => {
                let tag = tag(body)?;
                payload = tag.payload.clone();
                self.alive.get_mut(&number).ok_or_else(unknown)?.tag(&tag, &mut blocks)
            }
            kind::FINISH => self.alive.get_mut(&number).ok_or_else(unknown)?.finish(&mut blocks),
            kind::STATE => {
                return Ok(put_state(&self.alive.get_mut(&number).ok_or_else(unknown)?.state()));
            }
            kind::FREE => self.alive.remove(&number).map_or(Ok(()), Remuxer::free),
            kind::TEST => match self_test(&self.module) {
                Ok(()) => Ok(()),
                Err(breach) => return Ok(refusal(&breach.into())),
            },
            kind => return Err(WireError::Kind { kind }.into()),
        };
        Ok(done(&result, &blocks, &payload))
    }
}

/// The sending half of the connection. It is locked, since any thread of the module may log.
struct ToHost(Mutex<UnixStream>);

impl ToHost {
    fn send(&self, frame: &[u8]) -> Result<(), LinkError> {
        send(&self.0.lock(), frame, &[], &mut None)
    }
}

/// Sends log lines to the host, which knows the log's filter.
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
        let mut text = Line::default();
        event.record(&mut text);
        // If the host is gone, the next request fails too.
        let _ = self.0.send(&line(kind::LOG, Some(level.0), &(text.message + &text.fields)));
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

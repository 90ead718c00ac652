//! Process: modules in processes of their own.
//!
//! With `isolation = "process"` no code of the module runs in the host. Its generation has one child process, the
//! host's own program with the arguments `__module FILE ..`, which all its remuxers share; they take turns, so what one
//! remuxer costs the others is a wait, `modules.call_timeout` at most. A remuxer runs once for a stream, not once for a
//! viewer, and the payload of a tag travels only one way, so that is affordable.
//!
//! A process that ends is reaped at once. One that breaks the protocol, or whose call takes too long, is killed. Either is
//! a fault of the remuxer whose call it was; the others lose their state with it, and begin anew at their streams' next join
//! points, as after any fault. The next remuxer to be made starts the process again. The process ends with its
//! generation, and with the host.
//!
//! Invariants: nothing that the process sends can hurt the host, see [`wire`]; calls wait on threads of the worker
//! pool, never on the network's. Used by the rest of `module` only.

mod child;
mod connection;
mod link;
#[cfg(any(test, fuzzing))]
mod properties;
mod reaped;
mod sandbox;
mod wire;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use remuxd_plugin_api::Setup;
use remuxd_plugin_api::abi::RawInfo;
use tracing::{info, warn};

pub use child::{Allowance, module_main};
use connection::Connection;
#[cfg(fuzzing)]
pub use properties::check_wire;
pub use wire::WireError;
pub(super) use wire::{MAX_DESCRIPTION, describe};

use self::wire::{ANSWER_SLACK, Described, Frame, LENGTH, kind};
use super::intake::Intake;
use super::load::loader::{Build, Terms};
use super::loaded::{Description, Home};
use super::log::ModuleLog;
use super::{LoadError, Module, ModuleFault, Staged, worker};
use crate::media::Tag;

/// How many protections a process may say it misses.
const MAX_MISSING: usize = 16;

/// How a module's process is started, and what it is held to.
#[derive(Debug)]
pub struct Launch {
    /// The module's name, for the log.
    pub name: String,
    /// The host's program, which must call [`module_main`] when it is told to.
    pub program: PathBuf,
    /// The module.
    pub file: Staged,
    /// What the process may use.
    pub allowance: Allowance,
    /// How long a call may take.
    pub call_limit: Duration,
    /// Where the module's lines go.
    pub log: Arc<ModuleLog>,
}

/// Loads the module in a process of its own.
///
/// # Errors
/// [`LoadError`]: the process is gone.
pub fn load(launch: Launch, terms: &Terms) -> Result<Arc<Module>, LoadError> {
    let (mut connection, described) = Connection::open(&launch)?;
    connection.self_test()?;
    let Described { info, abi, rustc, missing } = described;
    let description = Description::read(&info)?;
    // All that a process of ours can miss is less.
    for protection in missing.iter().take(MAX_MISSING) {
        warn!(module = launch.name, missing = protection, "the module's process is not fully shut in");
    }
    let shared = Shared { connection: Some(connection), epoch: 0, numbers: 0 };
    let process = Arc::new(Process { launch, shared: Mutex::new(shared) });
    Ok(Arc::new(Module::new(Home::Isolated(process), description, Build { abi, rustc }, terms)))
}

/// What a module declares, as [`describe`] has written it.
pub(super) fn read_description(mut frame: Bytes) -> Result<RawInfo, WireError> {
    frame.advance(LENGTH.min(frame.len()));
    Ok(wire::described(Frame::read(frame)?.body(kind::DESCRIBED)?)?.info)
}

/// The process of a module's generation, started again when it has ended.
pub struct Process {
    launch: Launch,
    shared: Mutex<Shared>,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Process").field(&self.launch.name).finish()
    }
}

struct Shared {
    connection: Option<Connection>,
    /// How many processes have ended. Remuxers of another epoch are gone.
    epoch: u64,
    /// How many remuxers were made.
    numbers: u32,
}

impl Process {
    /// How it is started, and what it is held to.
    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    /// Makes a remuxer, in a new process if the last one has ended.
    ///
    /// # Errors
    /// The module's own, or that of its process.
    pub fn remuxer(self: &Arc<Self>, setup: &Setup) -> Result<Isolated, ModuleFault> {
        worker::unwatch();
        let mut shared = self.shared.lock();
        if let Some(connection) = &mut shared.connection
            && let Some(fault) = connection.ended()
        {
            warn!(module = self.launch.name, %fault, "the module's process has ended");
            shared.bury();
        }
        if shared.connection.is_none() {
            let opened = Connection::open(&self.launch);
            let (connection, _) =
                opened.map_err(|error| ModuleFault::NoProcess { reason: error.to_string() })?;
            info!(
                module = self.launch.name,
                pid = connection.pid(),
                "the module's process was started again"
            );
            shared.connection = Some(connection);
        }
        shared.numbers = shared.numbers.wrapping_add(1);
        let (number, epoch) = (shared.numbers, shared.epoch);
        let remuxer = Isolated { process: self.clone(), epoch, number };
        let mut make = wire::about(kind::MAKE, number);
        wire::put_setup(&mut make, setup);
        let mut nothing = Vec::new();
        let mut intake = Intake::new(&mut nothing, 0);
        let answer = self.call(&mut shared, epoch, make, &Bytes::new(), intake.limit())?;
        self.judge(&mut shared, wire::answer(answer, &Bytes::new(), &mut intake))?;
        Ok(remuxer)
    }

    /// One request and its answer, whose body may have `limit` bytes and some.
    fn call(
        &self,
        shared: &mut Shared,
        epoch: u64,
        mut request: Vec<u8>,
        payload: &Bytes,
        limit: usize,
    ) -> Result<Bytes, ModuleFault> {
        let connection = match &mut shared.connection {
            Some(connection) if shared.epoch == epoch => connection,
            _ => return Err(ModuleFault::Bystander),
        };
        wire::seal(&mut request, payload.len());
        let expected = if request[wire::LENGTH] == kind::STATE { kind::STATE } else { kind::DONE };
        let answer = connection.call(&request, payload, expected, limit.saturating_add(ANSWER_SLACK));
        answer.inspect_err(|_| shared.bury())
    }

    /// An answer that cannot be read is the end of its process.
    fn judge<T>(
        &self,
        shared: &mut Shared,
        answer: Result<Result<T, ModuleFault>, WireError>,
    ) -> Result<T, ModuleFault> {
        answer.unwrap_or_else(|error| {
            shared.bury();
            Err(error.into())
        })
    }
}

impl Shared {
    /// The process has ended, or ends now.
    fn bury(&mut self) {
        self.connection = None;
        self.epoch += 1;
    }
}

/// A remuxer in the process of its module.
pub struct Isolated {
    process: Arc<Process>,
    epoch: u64,
    number: u32,
}

impl Isolated {
    pub fn tag(&mut self, tag: &Tag, intake: &mut Intake<'_>) -> Result<(), ModuleFault> {
        let mut request = wire::about(kind::TAG, self.number);
        wire::put_tag(&mut request, tag);
        self.feed(request, &tag.payload, intake)
    }

    pub fn finish(&mut self, intake: &mut Intake<'_>) -> Result<(), ModuleFault> {
        self.feed(wire::about(kind::FINISH, self.number), &Bytes::new(), intake)
    }

    pub fn state(&mut self) -> Result<Vec<u8>, ModuleFault> {
        worker::unwatch();
        let mut shared = self.process.shared.lock();
        let request = wire::about(kind::STATE, self.number);
        let answer = self.process.call(&mut shared, self.epoch, request, &Bytes::new(), 0)?;
        self.process.judge(&mut shared, wire::state(answer))
    }

    /// Frees the remuxer, unless it went with its process.
    pub fn free(&mut self) -> Result<(), ModuleFault> {
        let mut nothing = Vec::new();
        let request = wire::about(kind::FREE, self.number);
        match self.feed(request, &Bytes::new(), &mut Intake::new(&mut nothing, 0)) {
            Err(ModuleFault::Bystander) => Ok(()),
            freed => freed,
        }
    }

    fn feed(
        &mut self,
        request: Vec<u8>,
        payload: &Bytes,
        intake: &mut Intake<'_>,
    ) -> Result<(), ModuleFault> {
        worker::unwatch();
        let mut shared = self.process.shared.lock();
        let answer = self.process.call(&mut shared, self.epoch, request, payload, intake.limit())?;
        self.process.judge(&mut shared, wire::answer(answer, payload, intake))
    }
}

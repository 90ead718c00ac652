//! Isolated code: a module's process and its remuxers, as the rest of the host sees them.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use remuxd_plugin_api::Setup;
use tracing::{info, warn};

use super::connection::Connection;
use super::error::WireError;
use super::frame::{LENGTH, RESPONSE_SLACK, about, kind, seal};
use super::launch::Launch;
use super::request::{put_setup, put_tag};
use super::response::{read_done, read_state};
use crate::media::Tag;
use crate::module::fault::ModuleFault;
use crate::module::output::CallOutput;
use crate::module::worker;

/// The process of a module's generation. The next remuxer to be made starts it again if it has ended.
pub struct Process {
    launch: Launch,
    state: Mutex<State>,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Process").field(&self.launch.name).finish()
    }
}

struct State {
    /// `None` after the process has ended.
    connection: Option<Connection>,
    /// Number of processes that have ended. Remuxers of another epoch are gone.
    epoch: u64,
    /// Number of remuxers made so far.
    numbers: u32,
}

impl Process {
    /// A process that runs.
    pub fn running(launch: Launch, connection: Connection) -> Process {
        Process::new(launch, Some(connection))
    }

    /// A process that its first remuxer starts.
    pub fn of_one_stream(launch: Launch) -> Process {
        Process::new(launch, None)
    }

    fn new(launch: Launch, connection: Option<Connection>) -> Process {
        Process { launch, state: Mutex::new(State { connection, epoch: 0, numbers: 0 }) }
    }

    /// Its command and limits.
    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    /// Makes a remuxer, in a new process if the last one has ended.
    ///
    /// # Errors
    /// The module's own error, or the fault of its process.
    pub fn remuxer(self: &Arc<Self>, setup: &Setup) -> Result<IsolatedRemuxer, ModuleFault> {
        worker::unwatch();
        let mut state = self.state.lock();
        if let Some(connection) = &mut state.connection
            && let Some(fault) = connection.ended()
        {
            warn!(module = self.launch.name, %fault, "the module's process has ended");
            state.end_process();
        }
        if state.connection.is_none() {
            let opened = Connection::open(&self.launch);
            let (connection, _) =
                opened.map_err(|error| ModuleFault::NoProcess { reason: error.to_string() })?;
            info!(module = self.launch.name, pid = connection.pid(), "a process of the module was started");
            state.connection = Some(connection);
        }
        state.numbers = state.numbers.wrapping_add(1);
        let (number, epoch) = (state.numbers, state.epoch);
        let remuxer = IsolatedRemuxer { process: self.clone(), epoch, number };
        let mut make = about(kind::MAKE, number);
        put_setup(&mut make, setup);
        let mut no_blocks = Vec::new();
        let mut output = CallOutput::new(&mut no_blocks, 0);
        let body = self.call(&mut state, epoch, make, &Bytes::new(), output.limit())?;
        state.end_if_invalid(read_done(body, &Bytes::new(), &mut output))?;
        Ok(remuxer)
    }

    /// Sends a request and returns the body of the response, of about `limit` bytes at most.
    fn call(
        &self,
        state: &mut State,
        epoch: u64,
        mut request: Vec<u8>,
        payload: &Bytes,
        limit: usize,
    ) -> Result<Bytes, ModuleFault> {
        let connection = match &mut state.connection {
            Some(connection) if state.epoch == epoch => connection,
            _ => return Err(ModuleFault::Bystander),
        };
        seal(&mut request, payload.len());
        let expected = if request[LENGTH] == kind::STATE { kind::STATE } else { kind::DONE };
        let body = connection.call(&request, payload, expected, limit.saturating_add(RESPONSE_SLACK));
        body.inspect_err(|_| state.end_process())
    }
}

impl State {
    /// Kills the process unless it has ended, and with it all remuxers of the epoch.
    fn end_process(&mut self) {
        self.connection = None;
        self.epoch += 1;
    }

    /// Kills the process if its response is invalid.
    fn end_if_invalid<T>(
        &mut self,
        response: Result<Result<T, ModuleFault>, WireError>,
    ) -> Result<T, ModuleFault> {
        response.unwrap_or_else(|error| {
            self.end_process();
            Err(error.into())
        })
    }
}

/// A remuxer in the process of its module.
pub struct IsolatedRemuxer {
    process: Arc<Process>,
    epoch: u64,
    number: u32,
}

impl IsolatedRemuxer {
    pub fn tag(&mut self, tag: &Tag, output: &mut CallOutput<'_>) -> Result<(), ModuleFault> {
        let mut request = about(kind::TAG, self.number);
        put_tag(&mut request, tag);
        self.feed(request, &tag.payload, output)
    }

    pub fn finish(&mut self, output: &mut CallOutput<'_>) -> Result<(), ModuleFault> {
        self.feed(about(kind::FINISH, self.number), &Bytes::new(), output)
    }

    pub fn state(&mut self) -> Result<Vec<u8>, ModuleFault> {
        worker::unwatch();
        let mut state = self.process.state.lock();
        let request = about(kind::STATE, self.number);
        let body = self.process.call(&mut state, self.epoch, request, &Bytes::new(), 0)?;
        state.end_if_invalid(read_state(body))
    }

    /// Frees the remuxer, unless it ended with its process.
    pub fn free(&mut self) -> Result<(), ModuleFault> {
        let mut no_blocks = Vec::new();
        let request = about(kind::FREE, self.number);
        match self.feed(request, &Bytes::new(), &mut CallOutput::new(&mut no_blocks, 0)) {
            Err(ModuleFault::Bystander) => Ok(()),
            freed => freed,
        }
    }

    fn feed(
        &mut self,
        request: Vec<u8>,
        payload: &Bytes,
        output: &mut CallOutput<'_>,
    ) -> Result<(), ModuleFault> {
        worker::unwatch();
        let mut state = self.process.state.lock();
        let body = self.process.call(&mut state, self.epoch, request, payload, output.limit())?;
        state.end_if_invalid(read_done(body, payload, output))
    }
}

//! Judgement: whether a generation stays in use, and the evidence against it.
//!
//! A fault comes from the module, or from the publisher's data through it, so no number of faults proves anything alone.
//! A generation is switched off when it fails on several streams that the generation before it serves, or when it fails
//! its self-test, which is repeated in a child process when several streams had faults.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use tracing::{error, info, warn};

use super::error::LoadError;
use super::evidence::OffReason;
use super::fault::ModuleFault;
use super::load::probe::probe;
use super::loaded::{Code, Module};
use super::process::{self, CrashNote};

impl Module {
    /// Counts a fault of a remuxer of `stream`. Faults on several streams repeat the self-test, on a thread of its own.
    pub fn on_fault(self: &Arc<Self>, stream: &str, fault: &ModuleFault) {
        // The remuxer that ended their common process reports its own fault.
        if *fault == ModuleFault::Bystander {
            return;
        }
        self.counters.faults.fetch_add(1, Ordering::Relaxed);
        if fault.is_hung_call() {
            self.counters.hung_calls.fetch_add(1, Ordering::Relaxed);
        }
        if self.evidence.lock().add_fault(stream, Instant::now()) {
            judge(self);
        }
        if matches!(fault, ModuleFault::Hung { .. }) {
            self.on_hang();
        }
    }

    /// Takes note that the generation before it works on `stream`, on which this one had a fault.
    pub fn on_worse(&self, stream: &str) {
        let reason = self.evidence.lock().add_worse(stream);
        if let Some(reason) = reason {
            self.switch_off(reason);
        }
    }

    /// Takes it out of use for new remuxers. The first reason counts.
    pub(super) fn switch_off(&self, reason: OffReason) {
        let (module, generation) = (self.name(), self.generation());
        let fallback = self.fallback().map(|module| module.generation());
        let text = reason.to_string();
        if self.off.set(reason).is_err() {
            return;
        }
        match fallback {
            Some(to) => error!(module, generation, to, reason = text, "reload rolled back"),
            None => error!(module, generation, reason = text, "module switched off"),
        }
    }

    /// Why it is switched off, if it is.
    pub fn off_reason(&self) -> Option<&OffReason> {
        self.off.get()
    }

    /// Whether it gets no new remuxers.
    pub fn is_off(&self) -> bool {
        self.off.get().is_some()
    }

    /// The reason why it is switched off, or runs in another way than the config says, for an operator.
    pub fn note(&self) -> Option<String> {
        let moved = || "its calls hung, so that new remuxers run in a process of its own".to_owned();
        let crashed = |note: &CrashNote| {
            let stream = &note.stream;
            format!("the host ended in a call of it for {stream}; it has a process of its own until a reload")
        };
        let off = self.off_reason().map(ToString::to_string);
        off.or_else(|| self.crashed.get().map(crashed)).or_else(|| self.has_moved_out().then(moved))
    }

    /// Returns this generation, or if it is switched off the newest good one before it; this one if there is none.
    pub fn standing(self: &Arc<Self>) -> Arc<Module> {
        let mut module = self.clone();
        while module.is_off() {
            let Some(before) = module.fallback() else { return self.clone() };
            module = before;
        }
        module
    }

    /// The generation that takes over on a stream on which this one fails, and everywhere if it is switched off.
    pub fn fallback(&self) -> Option<Arc<Module>> {
        self.fallback.lock().clone()
    }

    pub(crate) fn set_fallback(&self, module: Option<Arc<Module>>) {
        // Dropped outside the lock: it may be the last holder of a library.
        let _before = std::mem::replace(&mut *self.fallback.lock(), module);
    }
}

/// Repeats the self-test of a generation in a child process, on a thread of its own, and switches the generation off if it
/// fails.
fn judge(module: &Arc<Module>) {
    let Some(launch) = module.launch().cloned() else { return };
    let module = module.clone();
    let work = move || {
        let result = match &module.code {
            Code::InProcess(_) => probe(&launch.program, &launch.file).map(drop),
            Code::Isolated(_) => process::test(&launch),
        };
        let (name, generation) = (module.name(), module.generation());
        match result {
            Ok(()) => info!(module = name, generation, "self-test passed after faults on several streams"),
            // The machine's fault.
            Err(error @ (LoadError::Probe(_) | LoadError::Stage(_))) => {
                warn!(module = name, generation, %error, "the self-test after several faults was not possible");
            }
            Err(error) => module.switch_off(OffReason::SelfTest { reason: error.to_string() }),
        }
    };
    if let Err(error) = thread::Builder::new().name("remuxd-judge".into()).spawn(work) {
        warn!(%error, "cannot start a thread for a self-test");
    }
}

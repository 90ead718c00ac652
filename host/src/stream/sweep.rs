//! Sweep: hands the live mounts of all streams over to the modules of a new configuration.
//!
//! The caller swaps the registry's table first. Until the sweep reaches a stream, its mounts are those of the old modules,
//! and viewers attach to them whichever generation they find; the sweep then moves the mount with all its viewers, or marks
//! it as draining. Both happen under the lock on the stream's mounts, so a stream never gets a second mount of a format.

use std::sync::Arc;

use tracing::warn;

use super::error::HandoverError;
use super::hub::Hub;
use super::mount::LiveMount;
use crate::conf::ReloadMode;
use crate::module::Module;

/// Result of a sweep.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Number of mounts that continue with another generation.
    pub handed_over: usize,
    /// Mounts that stay with a generation that is no longer in use.
    pub draining: Vec<Arc<LiveMount>>,
}

impl Hub {
    /// Moves every live mount to the module that `successor` returns for the name of its module. A mount drains when there
    /// is no successor, when the successor cannot continue it, and in [`ReloadMode::Drain`].
    pub fn sweep(&self, mode: ReloadMode, successor: impl Fn(&str) -> Option<Arc<Module>>) -> Sweep {
        let mut sweep = Sweep::default();
        for stream in self.streams() {
            let refused = {
                let mounts = stream.mounts.lock();
                let moved = mounts.iter().filter_map(|mount| sweep.visit(mount, mode, &successor).err());
                moved.collect::<Vec<_>>()
            };
            for (module, error) in refused {
                warn!(stream = %stream.key(), module = %module.name(), %error, "mount cannot be handed over; it drains");
            }
        }
        sweep
    }

    /// Counts the live mounts that a sweep would hand over, and those that would drain. `mode` returns what a reload does to a
    /// module's mounts: nothing, or what [`sweep`](Self::sweep) does in this mode.
    pub fn foresee(&self, mode: impl Fn(&str) -> Option<ReloadMode>) -> (usize, usize) {
        let mounts = self.streams().into_iter().flat_map(|stream| stream.live_mounts());
        mounts.filter_map(|mount| mode(mount.module().name())).fold(
            (0, 0),
            |(handed_over, draining), mode| match mode {
                ReloadMode::Handover => (handed_over + 1, draining),
                ReloadMode::Drain => (handed_over, draining + 1),
            },
        )
    }
}

impl Sweep {
    /// Moves one mount. Returns an error, with the module that the mount stays with, when the successor cannot continue it.
    fn visit(
        &mut self,
        mount: &Arc<LiveMount>,
        mode: ReloadMode,
        successor: &impl Fn(&str) -> Option<Arc<Module>>,
    ) -> Result<(), (Arc<Module>, HandoverError)> {
        let old = mount.module();
        let new = successor(old.name());
        if new.as_ref().is_some_and(|new| Arc::ptr_eq(new, &old)) {
            return Ok(());
        }
        if let (Some(new), ReloadMode::Handover) = (new, mode) {
            match mount.hand_over(&new) {
                Ok(()) => {
                    self.handed_over += 1;
                    return Ok(());
                }
                Err(error) => {
                    self.drain(mount);
                    return Err((old, error));
                }
            }
        }
        self.drain(mount);
        Ok(())
    }

    fn drain(&mut self, mount: &Arc<LiveMount>) {
        mount.drain();
        self.draining.push(mount.clone());
    }
}

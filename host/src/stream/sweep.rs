//! Sweep: lets all live streams follow a new configuration.
//!
//! A stream takes the settings of its vhost, and its mounts the modules and options of theirs. The caller swaps the registry's table
//! first. Until the sweep reaches a stream, its mounts are those of the old modules, and viewers attach to them whichever
//! generation they find; the sweep then moves the mount with all its viewers, or marks it as draining. Both happen under the lock
//! on the stream's mounts, so a stream never gets a second mount of a format.
//!
//! A mount is known by its pattern. Where that is gone, another mount of the vhost with the same extension and options serves
//! it; without one it drains, and so do all mounts of a vhost that is gone. The stream itself keeps the last settings then.

use std::sync::Arc;

use tracing::warn;

use super::error::HandoverError;
use super::hub::Hub;
use super::key::StreamKey;
use super::mount::LiveMount;
use crate::conf::{Mount, ReloadMode, Vhost};
use crate::media::Millis;
use crate::module::Module;

/// Result of a sweep.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Number of mounts that continue with another generation or other options.
    pub handed_over: usize,
    /// Mounts that stay with what is no longer in use.
    pub draining: Vec<Arc<LiveMount>>,
}

impl Hub {
    /// Lets every live stream follow its vhost of `vhosts`, and moves every live mount to the module that `successor` returns for
    /// the name of its module. A mount drains when there is no successor, when the successor cannot continue it, when the
    /// vhost no longer has it, and in [`ReloadMode::Drain`].
    pub fn sweep(
        &self,
        vhosts: &[Arc<Vhost>],
        mode: ReloadMode,
        successor: impl Fn(&str) -> Option<Arc<Module>>,
    ) -> Sweep {
        let mut sweep = Sweep::default();
        for stream in self.adopt(vhosts) {
            let vhost = vhost_of(stream.key(), vhosts);
            let refused = {
                let mounts = stream.mounts.lock();
                if let Some(vhost) = vhost
                    && *stream.vhost() != **vhost
                {
                    stream.set_vhost(vhost);
                }
                let moved =
                    mounts.iter().filter_map(|mount| sweep.visit(mount, vhost, mode, &successor).err());
                moved.collect::<Vec<_>>()
            };
            for (module, error) in refused {
                warn!(stream = %stream.key(), module = %module.name(), %error, "mount cannot be handed over; it drains");
            }
        }
        sweep
    }

    /// Counts the live mounts that a sweep would hand over, and those that would drain. `is_new` returns whether the module of a
    /// name gets a new generation; `None` if it goes.
    pub fn foresee(
        &self,
        vhosts: &[Arc<Vhost>],
        mode: ReloadMode,
        is_new: impl Fn(&str) -> Option<bool>,
    ) -> (usize, usize) {
        let (mut handed_over, mut draining) = (0, 0);
        for stream in self.streams() {
            let vhost = vhost_of(stream.key(), vhosts);
            for mount in stream.live_mounts() {
                let found = vhost.and_then(|vhost| mount_of(&mount, vhost));
                let changes = found.zip(is_new(mount.module().name()));
                match changes.map(|(found, is_new)| is_new || found.options != mount.options()) {
                    Some(true) if mode == ReloadMode::Handover => handed_over += 1,
                    Some(false) => {}
                    _ => draining += 1,
                }
            }
        }
        (handed_over, draining)
    }
}

/// Returns the vhost of a stream, if it is enabled.
fn vhost_of<'a>(key: &StreamKey, vhosts: &'a [Arc<Vhost>]) -> Option<&'a Arc<Vhost>> {
    vhosts.iter().find(|vhost| *vhost.name == *key.vhost && vhost.enabled)
}

/// Returns the mount of a vhost that a live mount serves.
fn mount_of<'a>(live: &LiveMount, vhost: &'a Vhost) -> Option<&'a Arc<Mount>> {
    let (pattern, options) = (live.pattern(), live.options());
    let extension = pattern.rsplit_once('.').map_or("", |(_, extension)| extension);
    let is_same = |one: &&Arc<Mount>| one.pattern.text == pattern;
    let is_equal = |one: &&Arc<Mount>| one.pattern.extension == extension && one.options == options;
    vhost.mounts.iter().find(is_same).or_else(|| vhost.mounts.iter().find(is_equal))
}

impl Sweep {
    /// Moves one mount. Returns an error, with the module that the mount stays with, when the successor cannot continue it.
    fn visit(
        &mut self,
        mount: &Arc<LiveMount>,
        vhost: Option<&Arc<Vhost>>,
        mode: ReloadMode,
        successor: &impl Fn(&str) -> Option<Arc<Module>>,
    ) -> Result<(), (Arc<Module>, HandoverError)> {
        let old = mount.module();
        let wanted = vhost.and_then(|vhost| Some((vhost, mount_of(mount, vhost)?)));
        let Some(((vhost, wanted), new)) = wanted.zip(successor(old.name())) else {
            self.drain(mount);
            return Ok(());
        };
        let is_same = Arc::ptr_eq(&new, &old) && wanted.options == mount.options();
        if !is_same && mode == ReloadMode::Drain {
            self.drain(mount);
            return Ok(());
        }
        match mount.hand_over(&new, &wanted.options) {
            Ok(changes) => {
                self.handed_over += usize::from(changes);
                mount.follow(vhost, Millis(wanted.fast_cache.as_millis() as i64));
                Ok(())
            }
            Err(error) => {
                self.drain(mount);
                Err((old, error))
            }
        }
    }

    fn drain(&mut self, mount: &Arc<LiveMount>) {
        mount.drain();
        self.draining.push(mount.clone());
    }
}

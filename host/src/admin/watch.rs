//! File watch: reloads when a module's file changes.
//!
//! A reload waits until files have not changed for [`QUIET`]. If a file is written more slowly, the reload's checks refuse
//! it, and its next write causes another reload.
//!
//! The kernel watches a directory, not its name. So the watch checks every [`CHECK_INTERVAL`] whether the name now belongs
//! to another directory, as after a package update or a changed link, or whether a reload has set another name.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use super::reload::{Cause, Reloader};

/// Time without changes before a reload.
const QUIET: Duration = Duration::from_millis(300);

/// Interval of checks for another directory, and of retries if the directory cannot be watched.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Reloads when a library in the module directory changes, while `modules.watch` is set, until the task is dropped.
pub async fn watch(reloader: Arc<Reloader>) {
    // Changes may have happened before the watch started.
    let mut missed = false;
    let mut reported = false;
    loop {
        if !reloader.config().modules.watch {
            reloader.wait_for(|config| config.modules.watch).await;
            missed = true;
        }
        let dir = reloader.module_dir();
        let watched = identity(&dir).await;
        let (sender, changes) = mpsc::channel(1);
        match start(&dir, sender) {
            Ok(_watcher) => {
                info!(dir = %dir.display(), "watching modules");
                if missed {
                    reloader.reload(false, Cause::FileChange).await;
                }
                reported = false;
                follow(&reloader, &dir, watched, changes).await;
            }
            Err(error) => {
                if !reported {
                    error!(dir = %dir.display(), %error, "cannot watch modules");
                }
                reported = true;
                sleep(CHECK_INTERVAL).await;
            }
        }
        missed = true;
    }
}

/// Reloads at changes until another directory has to be watched.
async fn follow(
    reloader: &Arc<Reloader>,
    dir: &Path,
    watched: Option<Identity>,
    mut changes: mpsc::Receiver<()>,
) {
    let is_wanted = || reloader.config().modules.watch && reloader.module_dir() == dir;
    while is_wanted() && identity(dir).await == watched {
        let changed = tokio::select! {
            changed = timeout(CHECK_INTERVAL, changes.recv()) => changed,
            () = reloader.wait_for(|config| !config.modules.watch) => return,
        };
        match changed {
            Ok(Some(())) => {
                while let Ok(Some(())) = timeout(QUIET, changes.recv()).await {}
                reloader.reload(false, Cause::FileChange).await;
            }
            Ok(None) => return,
            Err(_) => {}
        }
    }
}

/// The identity of a directory, whatever its name.
#[derive(PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    /// Inodes are reused.
    created: Option<SystemTime>,
}

/// Returns `None` if there is no such directory. The file system may block.
async fn identity(dir: &Path) -> Option<Identity> {
    let dir = dir.to_owned();
    let metadata = spawn_blocking(|| std::fs::metadata(dir)).await.ok()?.ok()?;
    Some(Identity { device: metadata.dev(), inode: metadata.ino(), created: metadata.created().ok() })
}

fn start(dir: &Path, changes: mpsc::Sender<()>) -> notify::Result<impl Watcher + use<>> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
        // A full channel holds a change already.
        Ok(event) if is_change(&event) => drop(changes.try_send(())),
        Ok(_) => {}
        Err(error) => warn!(%error, "a change of modules may be missed"),
    })?;
    watcher.watch(dir, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Returns whether the event can change a library. Reads, as a reload does them, cannot.
fn is_change(event: &Event) -> bool {
    let library = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "so");
    let changes = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    };
    changes && (event.need_rescan() || event.paths.iter().any(library))
}

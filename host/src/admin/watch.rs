//! File watch: a reload when a module's file has changed.
//!
//! A file that is being written is left alone until it has been quiet for [`QUIET`]. Whoever writes more slowly is found out
//! by the checks of a reload; the next write asks again.
//!
//! The kernel watches a directory, not its name. So every [`LOOK`] it is seen whether another has the name, because a
//! package or a link was put in its place, or whether a reload has named another.

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

/// How long nothing must change before a reload.
const QUIET: Duration = Duration::from_millis(300);

/// How often it is looked which directory has the name; one that cannot be watched may come back.
const LOOK: Duration = Duration::from_secs(1);

/// Reloads when a library in the module directory changes, until the task is dropped.
pub async fn watch(reloader: Arc<Reloader>) {
    // What changes while nobody watches.
    let mut missed = false;
    let mut told = false;
    loop {
        let dir = reloader.module_dir();
        let watched = identity(&dir).await;
        let (sender, changes) = mpsc::channel(1);
        match start(&dir, sender) {
            Ok(_watcher) => {
                info!(dir = %dir.display(), "watching modules");
                if missed {
                    reloader.reload(false, Cause::FileChange).await;
                }
                told = false;
                follow(&reloader, &dir, watched, changes).await;
            }
            Err(error) => {
                if !told {
                    error!(dir = %dir.display(), %error, "modules cannot be watched");
                }
                told = true;
                sleep(LOOK).await;
            }
        }
        missed = true;
    }
}

/// Reloads at changes, until the directory to watch is another one.
async fn follow(
    reloader: &Arc<Reloader>,
    dir: &Path,
    watched: Option<Identity>,
    mut changes: mpsc::Receiver<()>,
) {
    while reloader.module_dir() == dir && identity(dir).await == watched {
        match timeout(LOOK, changes.recv()).await {
            Ok(Some(())) => {
                while let Ok(Some(())) = timeout(QUIET, changes.recv()).await {}
                reloader.reload(false, Cause::FileChange).await;
            }
            Ok(None) => return,
            Err(_) => {}
        }
    }
}

/// What tells one directory from another of the same name: device, inode, and when it was made, since inodes are used
/// again.
type Identity = (u64, u64, Option<SystemTime>);

/// `None`: there is none. A file system may take its time to say so.
async fn identity(dir: &Path) -> Option<Identity> {
    let dir = dir.to_owned();
    let metadata = spawn_blocking(|| std::fs::metadata(dir)).await.ok()?.ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.created().ok()))
}

fn start(dir: &Path, changes: mpsc::Sender<()>) -> notify::Result<impl Watcher + use<>> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
        // One that waits to be seen says all there is to say.
        Ok(event) if is_change(&event) => drop(changes.try_send(())),
        Ok(_) => {}
        Err(error) => warn!(%error, "a change of modules may have been missed"),
    })?;
    watcher.watch(dir, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Whether a library may be another one now. Reading it, as a reload does, is no change.
fn is_change(event: &Event) -> bool {
    let library = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "so");
    let changes = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    };
    changes && (event.need_rescan() || event.paths.iter().any(library))
}

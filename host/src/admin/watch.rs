//! File watch: a reload when a module's file has changed.
//!
//! A file that is being written is left alone until it has been quiet for [`QUIET`]. Whoever writes more slowly is found out
//! by the checks of a reload; the next write asks again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::reload::{Cause, Reloader};

/// How long nothing must change before a reload.
const QUIET: Duration = Duration::from_millis(300);

/// How long a directory that cannot be watched is left alone; it may come back.
const RETRY: Duration = Duration::from_secs(2);

/// Reloads when a library in the module directory changes, until the task is dropped. Follows the directory when a
/// reload names another.
pub async fn watch(reloader: Arc<Reloader>) {
    loop {
        let dir = reloader.module_dir();
        let (sender, mut changes) = mpsc::channel(1);
        let watching = start(&dir, sender);
        match watching {
            Ok(_watcher) => {
                info!(dir = %dir.display(), "watching modules");
                while changes.recv().await.is_some() {
                    while let Ok(Some(())) = timeout(QUIET, changes.recv()).await {}
                    reloader.reload(false, Cause::FileChange).await;
                    if reloader.module_dir() != dir || !dir.is_dir() {
                        break;
                    }
                }
            }
            Err(error) => {
                error!(dir = %dir.display(), %error, "modules cannot be watched");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
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

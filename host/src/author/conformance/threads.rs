//! Threads: those of this process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::module::text::one_line;

/// Time that a thread which was told to end has to do so.
const ENDING: Duration = Duration::from_secs(1);
/// Number of names in an error.
const MAX_NAMED: usize = 4;
/// Interval of looking for it.
const POLL: Duration = Duration::from_millis(5);

/// The threads of this process: names by id.
pub struct Threads(BTreeMap<u32, String>);

impl Threads {
    /// Reads the threads that exist now.
    pub fn now() -> Threads {
        let dirs = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let threads = dirs.filter_map(|dir| {
            let id = dir.file_name().to_str()?.parse().ok()?;
            let name = fs::read_to_string(dir.path().join("comm")).ok()?;
            Some((id, one_line(&name)))
        });
        Threads(threads.collect())
    }

    /// Counts and names the threads that were started since, if any are left: `2 threads ("a", "b")`. A thread that ends
    /// may need some time for it.
    pub fn started_since(&self) -> Option<String> {
        let deadline = Instant::now() + ENDING;
        loop {
            let mut now = Threads::now().0;
            now.retain(|id, _| !self.0.contains_key(id));
            if now.is_empty() || Instant::now() >= deadline {
                let count = now.len();
                let names: BTreeSet<_> = now.into_values().map(|name| format!("{name:?}")).collect();
                let names: Vec<_> = names.into_iter().take(MAX_NAMED).collect();
                let plural = if count == 1 { "" } else { "s" };
                return (count > 0).then(|| format!("{count} thread{plural} ({})", names.join(", ")));
            }
            thread::sleep(POLL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_is_named_until_it_has_ended() {
        let before = Threads::now();
        let (stop, stopped) = mpsc::channel::<()>();
        let other = thread::Builder::new().name("busy".into()).spawn(move || stopped.recv()).unwrap();
        assert_eq!(before.started_since().as_deref(), Some("1 thread (\"busy\")"));
        drop(stop);
        assert!(other.join().unwrap().is_err());
        assert_eq!(before.started_since(), None);
    }
}

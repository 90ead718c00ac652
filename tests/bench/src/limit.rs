//! Bounds on the process: how long it lives, how many files it opens.

use rustix::process::{Resource, getrlimit, setrlimit};
use std::time::Duration;

/// Ends the process with status 3 after `seconds`, whatever else goes wrong.
pub fn lifetime(seconds: u64) {
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(seconds));
        eprintln!("bench: {seconds} s are over");
        std::process::exit(3);
    });
}

/// Raises the soft limit of open files to the hard one.
pub fn open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        eprintln!("bench: open files: {error}");
    }
}

//! Surroundings: process-wide state that libraries share and may change.
//!
//! An initialiser or the first call may change a signal handler, the working directory or the rounding of numbers for the
//! whole process. The child that tries a module compares the state before and after, and refuses a module that changed it.
//! This is the promise of README and CHANGELOG "a module that changes the process is refused", `-ffast-math` included:
//! the C library's `fegetround` does not show flush-to-zero, hence the assembler. The list has what libraries are known
//! to change and what is cheap to read; it has no threads, and no panic hook, of which each Rust library has its own.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::ptr;

use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, getpriority_process, waitid};

use crate::module::text::{one_line, signal_name};

/// Number of changes that an error names.
const MAX_NAMED: usize = 4;
/// Lines of `/proc/thread-self/status` and their names in an error.
const STATUS: [(&str, &str); 10] = [
    ("Umask", "umask"),
    ("Uid", "user"),
    ("Gid", "group"),
    ("Groups", "groups"),
    ("CapInh", "inheritable capabilities"),
    ("CapPrm", "permitted capabilities"),
    ("CapEff", "capabilities"),
    ("NoNewPrivs", "no_new_privs"),
    ("Seccomp", "seccomp"),
    ("SigBlk", "signal mask"),
];
/// Links of `/proc/self` and their names in an error.
const LINKS: [(&str, &str); 5] = [
    ("cwd", "working directory"),
    ("root", "root directory"),
    ("fd/0", "standard input"),
    ("fd/1", "standard output"),
    ("fd/2", "standard error"),
];
/// Width of the names in `/proc/self/limits`.
const LIMIT_NAME: usize = 26;

/// The surroundings of this thread, as names and values. Unreadable state is left out.
#[derive(Debug, PartialEq, Eq)]
pub struct Surroundings(BTreeMap<String, String>);

impl Surroundings {
    /// Reads the current state.
    pub fn read() -> Surroundings {
        let mut all = BTreeMap::new();
        let mut add = |name: String, value: String| all.insert(name, value);
        for signal in 1..=libc::SIGRTMAX() {
            add(format!("handler of {}", signal_name(signal)), handler(signal));
        }
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        for (key, value) in status.lines().filter_map(|line| line.split_once(':')) {
            if let Some((_, name)) = STATUS.iter().find(|(line, _)| *line == key) {
                add((*name).to_owned(), value.to_owned());
            }
        }
        for (link, name) in LINKS {
            if let Ok(path) = fs::read_link(format!("/proc/self/{link}")) {
                add(name.to_owned(), path.display().to_string());
            }
        }
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        for (name, value) in limits.lines().filter_map(|line| line.split_at_checked(LIMIT_NAME)) {
            add(name.trim().replacen("Max", "limit of", 1), value.to_owned());
        }
        for (name, value) in env::vars_os() {
            add(format!("variable {}", name.display()), value.display().to_string());
        }
        let niceness =
            getpriority_process(None).map_or_else(|error| error.to_string(), |nice| nice.to_string());
        add("niceness".into(), niceness);
        add("locale".into(), locale());
        add("timer of alarm()".into(), has_alarm().to_string());
        add("mode of floating-point numbers".into(), format!("{:x?}", float_mode()));
        add("child processes".into(), has_children().to_string());
        Surroundings(all)
    }

    /// Names the differences from `before`, if there are any.
    pub fn changed_from(&self, before: &Surroundings) -> Option<String> {
        let names = self.0.keys().chain(before.0.keys().filter(|name| !self.0.contains_key(*name)));
        let changed: Vec<_> = names.filter(|&name| self.0.get(name) != before.0.get(name)).collect();
        let named: Vec<_> = changed.iter().take(MAX_NAMED).map(|name| one_line(name)).collect();
        let more = changed.len() - named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!changed.is_empty()).then(|| named.join(", ") + &more)
    }
}

/// Returns the handler and flags of a signal.
fn handler(signal: i32) -> String {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: reads only, into an action of our own, for which all bits may be 0.
    let action = unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    format!("{:x} {:x}", action.sa_sigaction, action.sa_flags)
}

/// Returns the locale of the C library.
fn locale() -> String {
    // SAFETY: reads only; the result is null or a C string that lives until the next call, and no other thread calls it.
    unsafe {
        let name = libc::setlocale(libc::LC_ALL, ptr::null());
        if name.is_null() {
            String::new()
        } else {
            std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    }
}

/// Whether a SIGALRM is pending from `alarm` or `setitimer`.
fn has_alarm() -> bool {
    let mut timer = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval { tv_sec: 0, tv_usec: 0 },
    };
    // SAFETY: reads only, into a timer of our own.
    unsafe { libc::getitimer(libc::ITIMER_REAL, &raw mut timer) };
    timer.it_value.tv_sec != 0 || timer.it_value.tv_usec != 0
}

/// Whether this process has children, including unreaped ones.
fn has_children() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::All, options), Err(Errno::CHILD))
}

/// Returns this thread's floating-point control words: rounding, and treatment of subnormal numbers, which some compilers'
/// `-ffast-math` changes when a library is mapped.
#[cfg(target_arch = "x86_64")]
fn float_mode() -> [u32; 2] {
    /// Exception flags of earlier operations in MXCSR (Intel SDM, volume 1, 10.2.3).
    const EXCEPTIONS: u32 = 0x3f;
    let (mut vector, mut x87) = (0_u32, 0_u16);
    // SAFETY: both store a control word at the given address and change nothing else.
    unsafe {
        std::arch::asm!(
            "stmxcsr [{vector}]", "fnstcw [{x87}]",
            vector = in(reg) &raw mut vector, x87 = in(reg) &raw mut x87, options(nostack, preserves_flags)
        );
    }
    [vector & !EXCEPTIONS, x87.into()]
}

#[cfg(target_arch = "aarch64")]
fn float_mode() -> u64 {
    let mode;
    // SAFETY: reads a register.
    unsafe {
        std::arch::asm!("mrs {mode}, fpcr", mode = out(reg) mode, options(nomem, nostack, preserves_flags))
    };
    mode
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn float_mode() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_changes_nothing() {
        let before = Surroundings::read();
        assert_eq!(Surroundings::read().changed_from(&before), None);
        for name in
            ["handler of SIGSEGV", "umask", "working directory", "limit of open files", "variable PATH"]
        {
            assert!(before.0.contains_key(name), "{name}: {before:?}");
        }
    }

    #[test]
    fn names_changed_removed_and_added_state() {
        let with = |names: &[(&str, &str)]| {
            Surroundings(names.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
        };
        let before = with(&[("same", "1"), ("a", "1"), ("gone\n", "1")]);
        let after = with(&[("same", "1"), ("a", "2"), ("new", "1")]);
        assert_eq!(after.changed_from(&before).as_deref(), Some("a, new, gone"));
        let many: Vec<_> = ["u", "v", "w", "x", "y", "z"].map(|name| (name, "")).into();
        assert_eq!(with(&many).changed_from(&with(&[])).as_deref(), Some("u, v, w, x and 2 more"));
    }
}

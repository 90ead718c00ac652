//! Surroundings: what a process shares with the libraries that are mapped into it.
//!
//! An initialiser, or the first call, may change it for all: a signal handler, the working directory, the rounding of
//! numbers. The child that tries a module looks before and after, and refuses one that leaves its mark. What is looked at is
//! what a library is known to change, and what is cheap to see. Threads are not among it. Nor is the panic hook: each
//! Rust library has its own.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::ptr;

use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, getpriority_process, waitid};

use crate::module::text::{one_line, signal_name};

/// How many changes are told.
const MAX_TOLD: usize = 4;
/// Lines of `/proc/thread-self/status`, and what they are about.
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
/// Where links of `/proc` lead.
const LINKS: [(&str, &str); 5] = [
    ("cwd", "working directory"),
    ("root", "root directory"),
    ("fd/0", "standard input"),
    ("fd/1", "standard output"),
    ("fd/2", "standard error"),
];
/// Where the names in `/proc/self/limits` end.
const LIMIT_NAME: usize = 26;

/// The surroundings of this thread, as names and values. What cannot be seen has no name.
#[derive(Debug, PartialEq, Eq)]
pub struct Surroundings(BTreeMap<String, String>);

impl Surroundings {
    /// Looks at what is there now.
    pub fn look() -> Surroundings {
        let mut all = BTreeMap::new();
        let mut see = |name: String, value: String| all.insert(name, value);
        for signal in 1..=libc::SIGRTMAX() {
            see(format!("handler of {}", signal_name(signal)), handler(signal));
        }
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        for (key, value) in status.lines().filter_map(|line| line.split_once(':')) {
            if let Some((_, name)) = STATUS.iter().find(|(line, _)| *line == key) {
                see((*name).to_owned(), value.to_owned());
            }
        }
        for (link, name) in LINKS {
            if let Ok(path) = fs::read_link(format!("/proc/self/{link}")) {
                see(name.to_owned(), path.display().to_string());
            }
        }
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        for (name, value) in limits.lines().filter_map(|line| line.split_at_checked(LIMIT_NAME)) {
            see(name.trim().replacen("Max", "limit of", 1), value.to_owned());
        }
        for (name, value) in env::vars_os() {
            see(format!("variable {}", name.display()), value.display().to_string());
        }
        let niceness =
            getpriority_process(None).map_or_else(|error| error.to_string(), |nice| nice.to_string());
        see("niceness".into(), niceness);
        see("locale".into(), locale());
        see("timer of alarm()".into(), has_alarm().to_string());
        see("mode of floating-point numbers".into(), format!("{:x?}", float_mode()));
        see("child processes".into(), has_children().to_string());
        Surroundings(all)
    }

    /// Names what is not as it was `before`, if anything is.
    pub fn changed_from(&self, before: &Surroundings) -> Option<String> {
        let names = self.0.keys().chain(before.0.keys().filter(|name| !self.0.contains_key(*name)));
        let changed: Vec<_> = names.filter(|&name| self.0.get(name) != before.0.get(name)).collect();
        let told: Vec<_> = changed.iter().take(MAX_TOLD).map(|name| one_line(name)).collect();
        let more = changed.len() - told.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!changed.is_empty()).then(|| told.join(", ") + &more)
    }
}

/// What a signal does.
fn handler(signal: i32) -> String {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks only, into an action of our own, of which all bits may be 0.
    let action = unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    format!("{:x} {:x}", action.sa_sigaction, action.sa_flags)
}

/// The locale of the C library.
fn locale() -> String {
    // SAFETY: asks only; the answer is null or a C string that lives until the next call, which nobody makes meanwhile.
    unsafe {
        let name = libc::setlocale(libc::LC_ALL, ptr::null());
        if name.is_null() {
            String::new()
        } else {
            std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    }
}

/// Whether the process will get a SIGALRM.
fn has_alarm() -> bool {
    let mut timer = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval { tv_sec: 0, tv_usec: 0 },
    };
    // SAFETY: asks only, into a timer of our own.
    unsafe { libc::getitimer(libc::ITIMER_REAL, &raw mut timer) };
    timer.it_value.tv_sec != 0 || timer.it_value.tv_usec != 0
}

/// Whether this process has children, dead ones among them.
fn has_children() -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::All, look), Err(Errno::CHILD))
}

/// How this thread rounds, and what it does with numbers that are nearly 0: some compilers' `-ffast-math` sets it when
/// a library is mapped.
#[cfg(target_arch = "x86_64")]
fn float_mode() -> [u32; 2] {
    /// What earlier numbers left, in MXCSR (Intel SDM, volume 1, 10.2.3).
    const EXCEPTIONS: u32 = 0x3f;
    let (mut vector, mut x87) = (0_u32, 0_u16);
    // SAFETY: both store the control word at the place that they are given, and change nothing else.
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
    fn nothing_changes_by_looking() {
        let before = Surroundings::look();
        assert_eq!(Surroundings::look().changed_from(&before), None);
        for name in
            ["handler of SIGSEGV", "umask", "working directory", "limit of open files", "variable PATH"]
        {
            assert!(before.0.contains_key(name), "{name}: {before:?}");
        }
    }

    #[test]
    fn tells_what_was_changed_removed_and_added() {
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

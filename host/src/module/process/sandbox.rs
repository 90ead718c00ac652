//! Sandbox: what a module's process may not do.
//!
//! It is entered before the module's library is mapped, whose initialisers run then, and closed once it is. Nothing that
//! was given up comes back.
//!
//! - Files: until the library is mapped, it and the system's libraries can be read; then nothing can. No file can be
//!   written at any time. (Landlock, filter)
//! - Network: none, and no sockets but the one to the host. (Filter, Landlock)
//! - Processes and threads: none can be started, traced or signalled. A remuxer computes, in the call. (Filter)
//! - Privileges: none of the host's, should it run as root.
//! - Memory: `max_memory` above what the program itself takes, in address space, so that mappings that nobody has
//!   touched count too. (Limit)
//! - Core dumps: none. (Limit)
//!
//! The filter is a list of the system calls that computing and talking to the host take. Any other fails with `ENOSYS`,
//! as on a kernel that does not have it, which libraries are prepared for.
//!
//! An initialiser that does not return, or that makes the second half fail, stays with what the first half leaves: to
//! read the system's libraries, and to ask what files there are.
//!
//! A kernel without Landlock or seccomp takes away what rests on it; [`Sandbox::missing`] says so.

use std::collections::BTreeMap;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, Signal, getpid, set_parent_process_death_signal, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::module::process_size::process_size;

/// Directories in which the dynamic linker looks for dependencies.
const LIBRARIES: [&str; 6] =
    ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"];
/// Limit of open files, including those of the linker.
const MAX_FILES: u64 = 32;
/// The newest Landlock ABI that is requested. Older kernels enforce a part of it.
const LANDLOCK: ABI = ABI::V6;

/// The restrictions of this process.
#[derive(Debug, Default)]
pub struct Sandbox {
    missing: Vec<String>,
}

impl Sandbox {
    /// Restricts this process to what loading the library `file` needs. The process must have one thread.
    pub fn enter(file: &Path, max_memory: usize) -> Sandbox {
        let mut sandbox = Sandbox::default();
        // The process ends when the host is killed, even if the module is in an endless loop.
        sandbox.note("parent-death signal", set_parent_process_death_signal(Some(Signal::KILL)));
        // If the size cannot be read, the limit is stricter.
        let memory = process_size("VmSize").saturating_add(max_memory as u64);
        for (limit, value) in
            [(Resource::As, memory), (Resource::Core, 0), (Resource::Fsize, 0), (Resource::Nofile, MAX_FILES)]
        {
            let value = Rlimit { current: Some(value), maximum: Some(value) };
            sandbox.note("limits", setrlimit(limit, value));
        }
        let none = CapabilitySet::empty();
        let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
        sandbox.note("capabilities", set_capabilities(None, none));
        sandbox.landlock(Some(file));
        sandbox.filter(true);
        sandbox
    }

    /// Restricts this process, after the library is mapped, to computing and to the socket of the host.
    pub fn close(&mut self) {
        self.landlock(None);
        self.filter(false);
    }

    /// Protections that are missing, each with the reason.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    fn note<E: std::fmt::Display>(&mut self, what: &str, result: Result<(), E>) {
        if let Err(error) = result {
            let line = format!("{what}: {error}");
            if !self.missing.contains(&line) {
                self.missing.push(line);
            }
        }
    }

    fn landlock(&mut self, library: Option<&Path>) {
        let status = match restrict(library) {
            Ok(RulesetStatus::FullyEnforced) => Ok(()),
            Ok(RulesetStatus::PartiallyEnforced) => Err("only in part on this kernel".to_owned()),
            Ok(RulesetStatus::NotEnforced) => Err("not on this kernel".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        self.note("Landlock", status);
    }

    /// Makes system calls that are not allowed fail.
    fn filter(&mut self, loading: bool) {
        let result = program(loading).and_then(|program| seccompiler::apply_filter(&program));
        self.note("seccomp", result);
    }
}

fn restrict(library: Option<&Path>) -> Result<RulesetStatus, RulesetError> {
    let files = library.into_iter().chain(LIBRARIES.map(Path::new).into_iter().filter(|_| library.is_some()));
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let restricted = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?
        .add_rules(path_beneath_rules(files, read))?
        .restrict_self()?;
    Ok(restricted.ruleset)
}

/// System calls for a module's code, its memory and the connection.
const RUNNING: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_uname,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Further system calls for the dynamic linker and the second half of the sandbox.
const LOADING: &[i64] = &[
    libc::SYS_faccessat,
    libc::SYS_fstat,
    libc::SYS_getcwd,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_restrict_self,
    libc::SYS_newfstatat,
    libc::SYS_pread64,
    libc::SYS_readlinkat,
    libc::SYS_seccomp,
];

fn program(loading: bool) -> Result<BpfProgram, seccompiler::Error> {
    use SeccompCmpOp::{Eq, MaskedEq};
    let writing = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) as u64;
    let to_read = |position| when(&[(position, MaskedEq(writing), 0)]);
    let more = if loading { LOADING } else { &[] };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        RUNNING.iter().chain(more).map(|&call| (call, Vec::new())).collect();
    // Signals to itself, for `abort`.
    let own = getpid().as_raw_pid() as u64;
    rules.insert(libc::SYS_tgkill, vec![when(&[(0, Eq, own)])?]);
    rules.insert(libc::SYS_kill, vec![when(&[(0, Eq, own)])?]);
    // Reading its own limits.
    rules.insert(libc::SYS_prlimit64, vec![when(&[(0, Eq, 0), (2, Eq, 0)])?]);
    if loading {
        let privileges = [libc::PR_SET_NO_NEW_PRIVS, libc::PR_GET_NO_NEW_PRIVS];
        let privileges = privileges.map(|option| when(&[(0, Eq, option as u64)]));
        rules.insert(libc::SYS_prctl, privileges.into_iter().collect::<Result<_, _>>()?);
        rules.insert(libc::SYS_openat, vec![to_read(2)?]);
    }
    // Calls that newer architectures do not have.
    #[cfg(target_arch = "x86_64")]
    {
        let (running, loading_only) =
            ([libc::SYS_poll, libc::SYS_time], [libc::SYS_access, libc::SYS_readlink]);
        rules.extend(running.map(|call| (call, Vec::new())));
        rules.extend(loading_only.into_iter().filter(|_| loading).map(|call| (call, Vec::new())));
        if loading {
            rules.insert(libc::SYS_open, vec![to_read(1)?]);
        }
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::ENOSYS as u32),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}

/// Makes a rule for a call whose arguments, by position, compare to these values.
fn when(arguments: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, seccompiler::Error> {
    let condition = |(position, op, value): &(u8, SeccompCmpOp, u64)| {
        SeccompCondition::new(*position, SeccompCmpArgLen::Qword, op.clone(), *value)
    };
    Ok(SeccompRule::new(arguments.iter().map(condition).collect::<Result<_, _>>()?)?)
}

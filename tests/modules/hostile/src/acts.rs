//! The hostile acts.

use std::fs::{self, File};
use std::hint::black_box;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::raw::{c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::os::unix::net::UnixStream;
use std::panic::panic_any;
use std::path::Path;
use std::process::{abort, exit, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use remuxd_plugin_api::{log, Block, BlockFlags, Millis, RemuxError, Sink};

/// The number of this build. Tests replace it in the library's file.
static BUILD: [u8; 18] = *b"build 0 of hostile";
/// A file that makes each remuxer fail while it exists. Tests replace it in the library's file.
static SPOIL: [u8; 128] = padded(b"nothing spoils this build");

const fn padded(text: &[u8]) -> [u8; 128] {
    let mut padded = [b' '; 128];
    let mut at = 0;
    while at < text.len() {
        padded[at] = text[at];
        at += 1;
    }
    padded
}

/// Whether this build is spoiled now.
pub fn is_spoiled() -> bool {
    let path = String::from_utf8_lossy(black_box(&SPOIL)).trim_end().to_owned();
    Path::new(&path).exists()
}

/// The names of the acts.
pub const WORDS: &[&str] = &[
    "nothing",
    "panic",
    "worse",
    "bomb",
    "error",
    "flood",
    "flood_on",
    "flags",
    "track",
    "dts",
    "log",
    "sleep",
    "nap",
    "hang",
    "segfault",
    "abort",
    "exit",
    "kill",
    "overflow",
    "memory",
    "thread",
    "close",
    "garbage",
    "giant",
    "babble",
    "print",
    "files",
    "network",
    "processes",
    "kernel",
];

extern "C" {
    fn fork() -> c_int;
    fn getpid() -> c_int;
    fn getppid() -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn close(fd: c_int) -> c_int;
    fn write(fd: c_int, bytes: *const c_void, len: usize) -> isize;
    fn ptrace(request: c_int, pid: c_int, address: *mut c_void, data: *mut c_void) -> c_long;
    fn setrlimit(resource: c_int, limit: *const [u64; 2]) -> c_int;
    fn prctl(option: c_int, argument: usize) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn memfd_create(name: *const c_char, flags: c_uint) -> c_int;
    fn eventfd(initial: c_uint, flags: c_int) -> c_int;
    fn dup(fd: c_int) -> c_int;
    fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn shutdown(fd: c_int, how: c_int) -> c_int;
    fn sendmsg(fd: c_int, message: *const c_void, flags: c_int) -> isize;
    fn recvmsg(fd: c_int, message: *mut c_void, flags: c_int) -> isize;
    fn unshare(flags: c_int) -> c_int;
    fn getpriority(which: c_int, who: c_uint) -> c_int;
    fn sched_setaffinity(pid: c_int, size: usize, mask: *const c_void) -> c_int;
    fn prlimit(pid: c_int, resource: c_int, new: *const [u64; 2], old: *mut [u64; 2]) -> c_int;
    fn process_vm_readv(
        pid: c_int,
        local: *const c_void,
        local_count: c_ulong,
        remote: *const c_void,
        remote_count: c_ulong,
        flags: c_ulong,
    ) -> isize;
}

const JOIN: u8 = BlockFlags::JOIN.0;

/// Performs the act `word`. Most acts do not return.
pub fn act(word: &str, sink: &mut dyn Sink) -> Result<(), RemuxError> {
    let block = |flags, track, dts| Block {
        flags: BlockFlags(flags),
        track,
        dts: Millis(dts),
        parts: vec![filler().into()],
    };
    match word {
        "panic" => panic!("told to"),
        "worse" if black_box(&BUILD)[6] == b'1' => panic!("told to"),
        "worse" => {}
        "bomb" => panic_any(Bomb),
        "error" => return Err(RemuxError::Other("told to".into())),
        "flood" => loop {
            sink.block(block(0, 0, 0))?;
        },
        "flood_on" => loop {
            let _ = sink.block(block(0, 0, 0));
        },
        "flags" => sink.block(block(0x80, 0, 0))?,
        "track" => sink.block(block(BlockFlags::CONFIG.0, 200, 0))?,
        "dts" => {
            for (flags, dts) in [(0, i64::MIN), (0, i64::MAX), (JOIN, i64::MIN), (JOIN, i64::MAX), (0, -1)] {
                sink.block(block(flags, 0, dts))?;
            }
        }
        "log" => (0..200).for_each(|n| log::error(&format!("line {n} {}", "x".repeat(5000)))),
        "sleep" => thread::sleep(Duration::from_millis(100)),
        "nap" => thread::sleep(Duration::from_millis(50)),
        "hang" => loop {
            black_box(());
        },
        // SAFETY: none; the crash is intended.
        "segfault" => unsafe { black_box(16 as *mut u8).write_volatile(1) },
        "abort" => abort(),
        "exit" => exit(3),
        // SAFETY: a signal to this process.
        "kill" => unsafe {
            kill(getpid(), 9);
        },
        "overflow" => {
            black_box(descend(&[0; 512]));
        }
        "memory" => loop {
            // Not touched: the limit is on address space, and pages take time on a busy machine.
            black_box(Vec::<u8>::with_capacity(1 << 20)).leak();
        },
        "thread" => {
            let thread = thread::Builder::new().spawn(|| {
                // SAFETY: none, as above.
                unsafe { black_box(16 as *mut u8).write_volatile(1) }
            });
            log::info(&format!("thread started: {}", thread.is_ok()));
            let _ = thread.map(thread::JoinHandle::join);
        }
        // SAFETY: the descriptors are not this library's; the process continues without them or fails, as intended.
        "close" => unsafe {
            for fd in 0..64 {
                close(fd);
            }
            thread::sleep(Duration::from_secs(3600));
        },
        "garbage" => {
            send(&[0, 0, 0, 9, 19, 7, 7, 7, 7, 7, 7, 7, 7]);
            thread::sleep(Duration::from_secs(3600));
        }
        "giant" => send(&[0xff; 64]),
        // Unsolicited responses: no fault, no block.
        "babble" => loop {
            send(&[0, 0, 0, 2, 19, 0]);
        },
        // Less than a pipe holds; twice that is more.
        "print" => (0..50).for_each(|_| eprintln!("{}", "p".repeat(1000))),
        "files" => report("files", &files()),
        "network" => report("network", &network()),
        "processes" => report("processes", &processes()),
        "kernel" => report("kernel", &kernel()),
        _ => {}
    }
    Ok(())
}

/// Returns a large FLV tag of meaningless script data: a viewer's file stays valid.
fn filler() -> Vec<u8> {
    const LEN: u32 = 100_000;
    let mut tag = vec![18];
    tag.extend_from_slice(&LEN.to_be_bytes()[1..]);
    tag.resize(11 + LEN as usize, 0);
    tag.extend_from_slice(&(LEN + 11).to_be_bytes());
    tag
}

/// Panics again when the panic that carries it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_any(Bomb);
    }
}

#[allow(unconditional_recursion)]
fn descend(frame: &[u8; 512]) -> u64 {
    let deeper = [frame[0].wrapping_add(1); 512];
    black_box(descend(black_box(&deeper))) + u64::from(deeper[7])
}

/// Writes to standard input, which is the socket to the host.
fn send(bytes: &[u8]) {
    // SAFETY: the bytes are alive.
    unsafe { write(0, bytes.as_ptr().cast(), bytes.len()) };
}

/// Logs one line: the attempts that worked.
fn report(what: &str, attempts: &[(&str, bool)]) {
    let worked: Vec<_> = attempts.iter().filter(|(_, worked)| *worked).map(|(name, _)| *name).collect();
    log::warn(&format!(
        "{what} tried {} worked {worked:?} early {}",
        attempts.len(),
        EARLY.load(Ordering::Relaxed)
    ));
}

fn files() -> Vec<(&'static str, bool)> {
    vec![
        ("read passwd", fs::read("/etc/passwd").is_ok()),
        ("read libc", File::open("/etc/ld.so.cache").is_ok()),
        ("read itself", File::open("/proc/self/exe").is_ok()),
        ("read maps", File::open("/proc/self/maps").is_ok()),
        ("list root", fs::read_dir("/").is_ok()),
        ("write tmp", fs::write("/tmp/remuxd-hostile", "x").is_ok()),
        ("stat passwd", fs::metadata("/etc/passwd").is_ok()),
        ("make dir", fs::create_dir("/tmp/remuxd-hostile-dir").is_ok()),
        ("remove file", fs::remove_file("/tmp/remuxd-hostile-victim").is_ok()),
    ]
}

fn network() -> Vec<(&'static str, bool)> {
    let port = "127.0.0.1:1".parse().unwrap();
    // A refusal by the other end counts as allowed.
    let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
    vec![
        ("connect", TcpStream::connect_timeout(&port, Duration::from_secs(1)).map_or_else(refused, |_| true)),
        ("listen", TcpListener::bind("127.0.0.1:0").is_ok()),
        ("udp", UdpSocket::bind("127.0.0.1:0").is_ok()),
        ("pair", UnixStream::pair().is_ok()),
    ]
}

fn processes() -> Vec<(&'static str, bool)> {
    // SAFETY: the forked process ends at once.
    unsafe {
        let child = fork();
        if child == 0 {
            exit(0);
        }
        vec![
            ("fork", child > 0),
            ("exec", Command::new("/bin/true").status().is_ok()),
            ("signal parent", kill(getppid(), 0) == 0),
            ("trace parent", ptrace(16, getppid(), std::ptr::null_mut(), std::ptr::null_mut()) == 0),
            ("raise limits", setrlimit(9, &[u64::MAX, u64::MAX]) == 0),
            ("outlive parent", prctl(1, 0) == 0),
        ]
    }
}

/// Returns the system calls that the kernel did not reject. None has an effect where it is allowed.
fn kernel() -> Vec<(&'static str, bool)> {
    const ENOSYS: i32 = 38;
    let known = |result: c_long| {
        result >= 0 || std::io::Error::last_os_error().raw_os_error() != Some(ENOSYS)
    };
    let (none, none_mut) = (std::ptr::null::<c_void>(), std::ptr::null_mut::<c_void>());
    let mut limits = [0; 2];
    // SAFETY: the arguments point to no memory but the limits, and name no existing file, process or signal.
    unsafe {
        let parent = getppid();
        let mut attempts = vec![
            ("anonymous file", known(memfd_create(c"x".as_ptr(), 0).into())),
            ("event file", known(eventfd(0, 0).into())),
            ("copy of a file", known(dup(-1).into())),
            ("flags of a file", known(fcntl(-1, 3).into())),
            ("control of a file", known(ioctl(-1, 0x541b).into())),
            ("half a socket", known(shutdown(-1, 0).into())),
            ("send files", known(sendmsg(-1, none, 0) as c_long)),
            ("receive files", known(recvmsg(-1, none_mut, 0) as c_long)),
            ("namespace", known(unshare(0).into())),
            ("priority", known(getpriority(0, 0).into())),
            ("processor", known(sched_setaffinity(parent, 0, none).into())),
            ("dumps", known(prctl(3, 0).into())),
            ("memory of parent", known(process_vm_readv(parent, none, 0, none, 0, 0) as c_long)),
            ("limits of parent", known(prlimit(parent, 0, std::ptr::null(), &mut limits).into())),
            ("signal group", known(kill(0, 0).into())),
            ("signal all", known(kill(-1, 0).into())),
        ];
        // Calls that have the same number on every machine, most of them without a function in the C library.
        for (name, number) in [
            ("signal a process file", 424),
            ("ring", 425),
            ("open tree", 428),
            ("open file system", 430),
            ("process file", 434),
            ("new process", 435),
            ("open file", 437),
            ("take a file", 438),
            ("advise a process", 440),
            ("landlock", 445),
            ("secret memory", 447),
            ("futex of a kind", 449),
        ] {
            attempts.push((name, known(syscall(number, -1_i64, 0_i64, 0_i64, 0_i64, 0_i64, 0_i64))));
        }
        attempts
    }
}

/// Acts that the library's initialiser could perform, in bits: read a file of the operator, open a socket, start a
/// thread that keeps what the process gives up later, write to a file.
static EARLY: AtomicU32 = AtomicU32::new(0);

#[used]
#[link_section = ".init_array"]
static INITIALISE: extern "C" fn() = {
    extern "C" fn initialise() {
        let mut worked = 0;
        worked |= u32::from(fs::read("/etc/passwd").is_ok());
        worked |= u32::from(UdpSocket::bind("127.0.0.1:0").is_ok()) << 1;
        worked |= u32::from(thread::Builder::new().spawn(|| {}).is_ok()) << 2;
        worked |= u32::from(File::options().write(true).open("/dev/null").is_ok()) << 3;
        EARLY.store(worked, Ordering::Relaxed);
    }
    initialise
};

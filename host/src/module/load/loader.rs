//! Loader: from a staged file to a [`Module`].
//!
//! The order matters, each step is safe only after the one before: map the file, read the plain-C preflight data,
//! upgrade abi_stable's header, compare the layouts of all types of the interface, take the table of functions, hand
//! over the logger, copy the description. abi_stable's own loading is not used: it knows one module per
//! type, keeps references into libraries that may be unmapped, and refuses modules of older minor versions.
//!
//! The file must be the host's own copy: it stays mapped, and a mapped file must not change.

use std::error::Error as _;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use abi_stable::StableAbi;
use abi_stable::library::{AbiHeaderRef, ROOT_MODULE_LOADER_NAME};
use abi_stable::std_types::RStr;
use libloading::os::unix::{RTLD_LOCAL, RTLD_NOW};
use remuxd_plugin_api::abi::c::{self, FORMAT_SYMBOL};
use remuxd_plugin_api::abi::{
    ABI_MAJOR, ABI_MINOR, MAGIC, ModuleRef, PREFLIGHT_SYMBOL, Preflight, RawInfo, RawLogger,
};
use remuxd_plugin_api::log::Level;

use super::c_abi::{self, CModule};
use super::layout::check_layout;
use super::linked::Code;
use super::stage::Staged;
use crate::module::error::LoadError;
use crate::module::fault::ModuleFault;
use crate::module::loaded::{Description, Home, Module};
use crate::module::log::ModuleLog;
use crate::module::text::one_line;

/// What a module is loaded under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The number of this generation; unique in the life of the host.
    pub generation: u64,
    /// Bytes that a remuxer may make in one call, above 16 times the tag.
    pub max_output: usize,
    /// Faults in a minute before the generation is quarantined.
    pub max_faults: u32,
    /// Unmap the library after its last use. Else it stays mapped for ever.
    pub unload: bool,
}

/// A mapped library, unmapped with its last holder: the module, its remuxers, and all bytes that they made.
pub struct Library {
    // Before the logger, which the library's code may use as long as it is mapped.
    _image: Option<libloading::os::unix::Library>,
    logger: Box<Logger>,
    // The linker and backtraces may read the file as long as it is mapped.
    file: Option<Staged>,
}

impl Terms {
    /// Whether these are the same rules, for whichever generation.
    pub fn same_rules(&self, other: &Terms) -> bool {
        *self == Terms { generation: self.generation, ..other.clone() }
    }
}

/// What log lines of a module are told apart by.
struct Logger {
    file: PathBuf,
    name: OnceLock<String>,
    log: ModuleLog,
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Library").field(&self.logger.file).finish()
    }
}

impl Library {
    /// The copy that is mapped.
    pub fn file(&self) -> Option<&Staged> {
        self.file.as_ref()
    }

    fn new(image: Option<libloading::os::unix::Library>, file: Option<Staged>) -> Arc<Library> {
        let path = file.as_ref().map_or(Path::new("linked"), Staged::path);
        let logger =
            Box::new(Logger { file: path.to_owned(), name: OnceLock::new(), log: ModuleLog::default() });
        Arc::new(Library { _image: image, logger, file })
    }
}

/// What the preflight data of a module say.
#[derive(Clone, Debug)]
pub struct Build {
    pub abi: (u16, u16),
    pub rustc: String,
}

/// Loads the module in `file`.
///
/// # Errors
/// [`LoadError`]: nothing of the module is left in use.
pub fn load(file: Staged, terms: &Terms) -> Result<Arc<Module>, LoadError> {
    // SAFETY: runs the library's initialisers. That they do not end the process was seen in a child process.
    let image = unsafe { libloading::os::unix::Library::open(Some(file.path()), RTLD_NOW | RTLD_LOCAL) }
        .map_err(|error| LoadError::Open { reason: linker_words(&error, file.path()) })?;
    let build = preflight(&image)?;
    // SAFETY: a symbol's address is a pointer.
    let c_format = unsafe { image.get::<*const c::Format>(FORMAT_SYMBOL) }.map(|format| *format);
    // SAFETY: abi_stable's header has this type; `upgrade` checks its magic and version before it is used.
    let header = unsafe { image.get::<AbiHeaderRef>(ROOT_MODULE_LOADER_NAME) }.map(|header| *header);
    let library = Library::new(Some(image), Some(file));
    let keep = || {
        if !terms.unload {
            // From here on the module's code runs, and it may leave a thread behind.
            mem::forget(library.clone());
        }
    };
    let context = &raw const *library.logger;
    if let Ok(format) = c_format {
        keep();
        // SAFETY: what this symbol of a module names is such a table, as its preflight data say.
        let module = unsafe { CModule::read(format) }?;
        let struct_size = size_of::<c::Logger>() as u32;
        module.set_logger(&c::Logger { struct_size, reserved: 0, context: context.cast(), log: on_c_log });
        let info = module.info()?;
        return describe(Code { table: c_abi::table(), c: Some(module), library }, &info, build, terms);
    }
    let header = header.map_err(|_| LoadError::NoFormat)?;
    keep();
    let header_error = |error: &dyn fmt::Display| LoadError::Header { reason: one_line(&error.to_string()) };
    let header = header.upgrade().map_err(|error| header_error(&error))?;
    let layout = header.layout().ok_or(LoadError::Header { reason: "no layout".into() })?;
    let host = (<ModuleRef as StableAbi>::LAYOUT, ABI_MINOR);
    check_layout(host, (layout, build.abi.1)).map_err(|difference| LoadError::Layout { difference })?;
    // SAFETY: the layout was compared with that of `ModuleRef`.
    let table = unsafe { header.unchecked_layout::<ModuleRef>() }.map_err(|error| header_error(&error))?;
    table.set_logger()(RawLogger { context: context.cast(), log: on_log, reserved: [0; 2] });
    describe_rust(table, library, build, terms)
}

/// Makes a module of a format that is linked into this program, as if it came from a library. It cannot log.
#[cfg(test)]
pub(crate) fn linked<F: remuxd_plugin_api::Format>(terms: &Terms) -> Result<Arc<Module>, LoadError> {
    let build = Build { abi: (ABI_MAJOR, ABI_MINOR), rustc: remuxd_plugin_api::abi::RUSTC.to_owned() };
    let library = Library::new(None, None);
    describe_rust(remuxd_plugin_api::abi::table::<F>(), library, build, terms)
}

fn describe_rust(
    table: ModuleRef,
    library: Arc<Library>,
    build: Build,
    terms: &Terms,
) -> Result<Arc<Module>, LoadError> {
    // What the module allocates for it is freed while its library is held.
    let info = table.info()().into_result().map_err(ModuleFault::from)?;
    describe(Code { table, c: None, library: library.clone() }, &info, build, terms)
}

fn describe(code: Code, info: &RawInfo, build: Build, terms: &Terms) -> Result<Arc<Module>, LoadError> {
    let description = Description::read(info)?;
    let _ = code.library.logger.name.set(description.name.clone());
    Ok(Arc::new(Module::new(Home::Linked(code), description, build, terms)))
}

fn preflight(image: &libloading::os::unix::Library) -> Result<Build, LoadError> {
    // SAFETY: a symbol's address is a pointer.
    let symbol =
        unsafe { image.get::<*const Preflight>(PREFLIGHT_SYMBOL) }.map_err(|_| LoadError::NotAModule)?;
    if symbol.is_null() {
        return Err(LoadError::NotAModule);
    }
    // SAFETY: what a module's preflight symbol names lives as long as the library.
    unsafe { read_preflight(*symbol) }
}

/// # Safety
/// `preflight` points to as many bytes as its own `struct_size` says, and to 12 at least.
unsafe fn read_preflight(preflight: *const Preflight) -> Result<Build, LoadError> {
    // SAFETY: these two are the first 12 bytes.
    let (magic, size) = unsafe { ((*preflight).magic, (*preflight).struct_size) };
    if magic != MAGIC || (size as usize) < mem::size_of::<Preflight>() {
        return Err(LoadError::NotAModule);
    }
    // SAFETY: the struct has the magic of a module and at least the fields that we know.
    let preflight = unsafe { &*preflight };
    if preflight.abi_major != ABI_MAJOR {
        return Err(LoadError::AbiMajor { module: preflight.abi_major, host: ABI_MAJOR });
    }
    if preflight.panic_abort != 0 {
        return Err(LoadError::PanicAbort);
    }
    if preflight.rustc.is_null() {
        return Err(LoadError::NotAModule);
    }
    // SAFETY: a C string that lives as long as the library.
    let rustc = unsafe { CStr::from_ptr(preflight.rustc) };
    let rustc = one_line(&rustc.to_string_lossy());
    Ok(Build { abi: (preflight.abi_major, preflight.abi_minor), rustc })
}

/// What the dynamic linker says, without the name of our copy; libloading's own text is only which function failed.
fn linker_words(error: &libloading::Error, file: &Path) -> String {
    let words = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let name = format!("{}: ", file.display());
    one_line(words.strip_prefix(&name).unwrap_or(&words))
}

/// Takes a module's log line. Does not unwind.
///
/// # Safety
/// `context` is the [`Logger`] that was handed over with this function.
unsafe extern "C" fn on_log(context: *const (), level: u8, line: RStr<'_>) {
    // SAFETY: the library's logger lives longer than the library's code.
    unsafe { log_line(context, level, &line) }
}

/// As [`on_log`], for modules in C.
///
/// # Safety
/// As for [`on_log`]; `line` is a C string.
unsafe extern "C" fn on_c_log(context: *const c_void, level: c_int, line: *const c_char) {
    if !line.is_null() {
        // SAFETY: as this function's.
        let line = unsafe { CStr::from_ptr(line) };
        // SAFETY: as this function's.
        unsafe { log_line(context.cast(), u8::try_from(level).unwrap_or(u8::MAX), &line.to_string_lossy()) }
    }
}

/// # Safety
/// `context` is the [`Logger`] of a library that is mapped.
unsafe fn log_line(context: *const (), level: u8, line: &str) {
    // SAFETY: the library's logger lives longer than the library's code.
    let logger = unsafe { &*context.cast::<Logger>() };
    // A subscriber that panics must not unwind into the module. There is nobody left to tell.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let module = match logger.name.get() {
            Some(name) => name.into(),
            None => logger.file.to_string_lossy(),
        };
        logger.log.write(&module, Level(level), &one_line(line));
    }));
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs;
    use std::io;
    use std::process::Command;

    use parking_lot::Mutex;
    use remuxd_plugin_api::{Options, Setup, StreamFacts};
    use tracing::Level as TracingLevel;

    use super::*;
    use crate::media::{Codec, Millis, Packet, Tag, TagKind};

    const TERMS: Terms = Terms { generation: 7, max_output: 1 << 20, max_faults: 5, unload: true };

    /// The worked example of `plugin-api`, built, in a file of its own.
    fn build_example(copy: &str) -> PathBuf {
        let test = env::current_exe().unwrap();
        let target = test.parent().and_then(Path::parent).unwrap();
        let profile = match target.file_name().and_then(|name| name.to_str()).unwrap() {
            "debug" => "dev",
            name => name,
        };
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "remuxd-plugin-api", "--example", "annexb"])
            .args(["--profile", profile, "--target-dir"])
            .arg(target.parent().unwrap())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(status.unwrap().success());
        let file = target.join("examples").join(copy);
        fs::copy(target.join("examples/libannexb.so"), &file).unwrap();
        file
    }

    fn mappings(file: &Path) -> usize {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.ends_with(file.to_str().unwrap())).count()
    }

    #[test]
    fn loads_a_module_and_unmaps_it_with_its_last_block() {
        let file = build_example("loads.so");
        let module = load(Staged::lent(&file), &TERMS).unwrap();
        assert_eq!((module.name(), module.generation(), module.abi()), ("annexb", 7, (ABI_MAJOR, ABI_MINOR)));
        assert_eq!(module.extensions(), ["h264"]);
        assert_eq!(module.video_codecs(), [Codec::H264]);
        assert!(module.rustc().starts_with("rustc 1."), "{}", module.rustc());

        let options = Options::new(vec![("delimiters".into(), "true".into())]);
        let mut remuxer = module.remuxer(&Setup::new(options, StreamFacts::default())).unwrap();
        let record = b"\x17\0\0\0\0\x01\x64\0\x1f\xff\xe1\0\x02\x67\x01\x01\0\x01\x68";
        let picture = b"\x17\x01\0\0\0\0\0\0\x02\x65\x09";
        let tags =
            [&record[..], picture].map(|body| Tag::new(TagKind::VIDEO, Millis(0), body.to_vec().into()));
        assert_eq!(tags[1].header.packet, Packet::CODED_FRAME);
        let mut blocks = Vec::new();
        for tag in &tags {
            remuxer.tag(tag, &mut blocks).unwrap();
        }
        let parts = &blocks[1].parts;
        assert_eq!(parts.concat(), b"\0\0\0\x01\x09\xf0\0\0\0\x01\x65\x09");
        assert_eq!(parts[2].as_ptr(), tags[1].payload[9..].as_ptr(), "the payload was copied");

        drop((module, remuxer));
        assert_ne!(mappings(&file), 0, "unmapped with blocks alive");
        let delimiter = parts[0].clone();
        drop(blocks);
        assert_eq!(delimiter, &b"\0\0\0\x01\x09\xf0"[..]);
        drop(delimiter);
        assert_eq!(mappings(&file), 0, "still mapped");
    }

    #[test]
    fn keeps_a_module_mapped_unless_told_to_unload() {
        let file = build_example("keeps.so");
        drop(load(Staged::lent(&file), &Terms { unload: false, ..TERMS }).unwrap());
        assert_ne!(mappings(&file), 0);
    }

    /// Collects what is logged.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn logs_what_a_module_says_under_its_name() {
        let module = load(Staged::lent(&build_example("logs.so")), &TERMS).unwrap();
        let mut remuxer = module.remuxer(&Setup::default()).unwrap();
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(TracingLevel::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let picture = b"\x17\x01\0\0\0\0\0\0\x02\x65\x09";
            let tag = Tag::new(TagKind::VIDEO, Millis(0), picture.to_vec().into());
            remuxer.tag(&tag, &mut Vec::new()).unwrap();
        });
        let log = String::from_utf8(lines.0.lock().clone()).unwrap();
        assert!(log.contains("DEBUG"), "{log}");
        assert!(log.contains("a picture before its sequence header was dropped module=annexb"), "{log}");
    }

    #[test]
    fn refuses_what_is_not_a_module() {
        let text = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        let text = load(Staged::lent(text), &TERMS);
        assert!(matches!(text, Err(LoadError::Open { .. })), "{text:?}");
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let libc =
            maps.lines().find_map(|line| line.split_whitespace().nth(5).filter(|file| file.contains("libc")));
        let library = load(Staged::lent(Path::new(libc.unwrap())), &TERMS);
        assert!(matches!(library, Err(LoadError::NotAModule)), "{library:?}");
    }

    #[test]
    fn judges_preflight_data() {
        let preflight = |change: fn(&mut Preflight)| {
            let mut preflight = Preflight::new(false);
            change(&mut preflight);
            // SAFETY: a whole struct, that is alive.
            unsafe { read_preflight(&raw const preflight) }.map(|build| build.abi)
        };
        assert!(matches!(preflight(|_| {}), Ok((ABI_MAJOR, ABI_MINOR))));
        assert!(matches!(preflight(|data| data.abi_minor = 9), Ok((ABI_MAJOR, 9))));
        assert!(preflight(|data| data.struct_size += 8).is_ok());
        assert!(matches!(preflight(|data| data.magic[7] = 0), Err(LoadError::NotAModule)));
        assert!(matches!(preflight(|data| data.struct_size = 12), Err(LoadError::NotAModule)));
        assert!(matches!(
            preflight(|data| data.abi_major = 2),
            Err(LoadError::AbiMajor { module: 2, host: 1 })
        ));
        assert!(matches!(preflight(|data| data.panic_abort = 1), Err(LoadError::PanicAbort)));
    }
}

//! Library: a mapped shared library and the logger that its module calls.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use abi_stable::std_types::RStr;
use remuxd_plugin_api::abi::{RawLogger, c};
use remuxd_plugin_api::log::Level;

use super::stage::Staged;
use crate::module::log::ModuleLog;
use crate::module::text::one_line;

/// A mapped library, held by its module, the module's remuxers, and all bytes that they made. Unmapped on drop.
pub struct Library {
    // Dropped before the logger, which the library's code may use while it is mapped.
    _image: Option<libloading::os::unix::Library>,
    logger: Box<Logger>,
    // The linker and backtraces may read the file while it is mapped.
    file: Option<Arc<Staged>>,
}

/// The context of a module's log lines.
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
    /// The private copy that is mapped; `None` for code that is linked into this program.
    pub fn file(&self) -> Option<&Arc<Staged>> {
        self.file.as_ref()
    }

    pub fn new(image: Option<libloading::os::unix::Library>, file: Option<Arc<Staged>>) -> Arc<Library> {
        let path = file.as_ref().map_or(Path::new("linked"), |file| file.path());
        let logger =
            Box::new(Logger { file: path.to_owned(), name: OnceLock::new(), log: ModuleLog::default() });
        Arc::new(Library { _image: image, logger, file })
    }

    /// Sets the module's name for its log lines, until then they have the file's.
    pub fn set_name(&self, name: &str) {
        // A library holds one module, which is described once.
        let _ = self.logger.name.set(name.to_owned());
    }

    /// The logger for a module in C.
    pub fn c_logger(&self) -> c::Logger {
        let struct_size = size_of::<c::Logger>() as u32;
        c::Logger { struct_size, reserved: 0, context: self.context().cast(), log: on_c_log }
    }

    /// The logger for a module in Rust.
    pub fn logger(&self) -> RawLogger {
        RawLogger { context: self.context(), log: on_log, reserved: [0; 2] }
    }

    fn context(&self) -> *const () {
        (&raw const *self.logger).cast()
    }
}

/// Logs a line of a module. Does not unwind.
///
/// # Safety
/// `context` is the [`Logger`] that was handed over with this function.
unsafe extern "C" fn on_log(context: *const (), level: u8, line: RStr<'_>) {
    // SAFETY: the library's logger lives longer than the library's code.
    unsafe { log_line(context, level, &line) }
}

/// Logs a line of a module in C.
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
    // A subscriber that panics must not unwind into the module, and logging is what failed.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let module = match logger.name.get() {
            Some(name) => name.into(),
            None => logger.file.to_string_lossy(),
        };
        logger.log.write(&module, Level(level), &one_line(line));
    }));
}

//! Loader: from a staged file to a [`Module`].
//!
//! The order matters, each step is safe only after the one before: map the file, read the plain-C preflight data,
//! upgrade abi_stable's header, compare the layouts of all types of the interface, take the table of functions, hand
//! over the logger, copy the description. abi_stable's own loading is not used: it knows one module per
//! type, keeps references into libraries that may be unmapped, and refuses modules of older minor versions.
//!
//! The file must be the host's own copy: it stays mapped, and a mapped file must not change.

use std::error::Error as _;
use std::ffi::CStr;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use abi_stable::StableAbi;
use abi_stable::abi_stability::abi_checking::{
    AbiInstability, AbiInstabilityErrors, CheckingGlobals, ExpectedFound,
    check_layout_compatibility_with_globals,
};
use abi_stable::library::{AbiHeaderRef, ROOT_MODULE_LOADER_NAME};
use abi_stable::std_types::RStr;
use abi_stable::type_layout::{TLFieldOrFunction, TypeLayout};
use libloading::os::unix::{RTLD_LOCAL, RTLD_NOW};
use remuxd_plugin_api::abi::{
    ABI_MAJOR, ABI_MINOR, MAGIC, ModuleRef, PREFLIGHT_SYMBOL, Preflight, RawLogger,
};
use remuxd_plugin_api::log::Level;
use thiserror::Error;
use tracing::{debug, error, info, warn};

use super::module::{Description, InfoError, Module};
use super::{ModuleFault, one_line};

/// What a module is loaded under.
#[derive(Clone, Debug)]
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

/// Why a file was not loaded. The culprit is the module, or the operator who named it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The dynamic linker refused the file.
    #[error("cannot be mapped: {reason}")]
    Open {
        /// The linker's own words.
        reason: String,
    },
    /// The library does not export what a module exports.
    #[error("not a remuxd module (no valid {PREFLIGHT_SYMBOL})")]
    NotAModule,
    /// The module was made for another major version of the interface.
    #[error("made for ABI {module}, this host has {host}")]
    AbiMajor {
        /// The module's major version.
        module: u16,
        /// The host's.
        host: u16,
    },
    /// A panic in the module would end the host.
    #[error("built with panic = \"abort\"; build it with panic = \"unwind\"")]
    PanicAbort,
    /// abi_stable's header is missing or of another version.
    #[error("abi_stable does not accept its header: {reason}")]
    Header {
        /// abi_stable's words, first line.
        reason: String,
    },
    /// A type of the interface has another layout than in the host.
    #[error("its interface differs from the host's: {difference}")]
    Layout {
        /// The first difference.
        difference: String,
    },
    /// The module failed when it was asked to describe its format.
    #[error("it cannot describe its format: {0}")]
    Fault(#[from] ModuleFault),
    /// The description breaks the rules.
    #[error("its description is wrong: {0}")]
    Info(#[from] InfoError),
}

/// A mapped library, unmapped with its last holder: the module, its remuxers, and all bytes that they made.
pub(super) struct Library {
    // Before the logger, which the library's code may use as long as it is mapped.
    _image: Option<libloading::os::unix::Library>,
    logger: Box<Logger>,
}

/// What log lines of a module are told apart by.
struct Logger {
    file: PathBuf,
    name: OnceLock<String>,
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Library").field(&self.logger.file).finish()
    }
}

impl Library {
    fn new(image: Option<libloading::os::unix::Library>, file: &Path) -> Arc<Library> {
        let logger = Box::new(Logger { file: file.to_owned(), name: OnceLock::new() });
        Arc::new(Library { _image: image, logger })
    }
}

/// What the preflight data of a module say.
#[derive(Clone, Debug)]
pub(super) struct Build {
    pub abi: (u16, u16),
    pub rustc: String,
}

/// Loads the module in `file`, a staged copy that nobody writes to.
///
/// # Errors
/// [`LoadError`]: nothing of the module is left in use.
pub fn load(file: &Path, terms: &Terms) -> Result<Arc<Module>, LoadError> {
    // SAFETY: runs the library's initialisers. That they do not end the process was seen in a child process.
    let image = unsafe { libloading::os::unix::Library::open(Some(file), RTLD_NOW | RTLD_LOCAL) }
        .map_err(|error| LoadError::Open { reason: linker_words(&error) })?;
    let build = preflight(&image)?;
    // SAFETY: abi_stable's header has this type; `upgrade` checks its magic and version before it is used.
    let header = unsafe { image.get::<AbiHeaderRef>(ROOT_MODULE_LOADER_NAME) }
        .map(|header| *header)
        .map_err(|error| LoadError::Header { reason: linker_words(&error) })?;
    let library = Library::new(Some(image), file);
    if !terms.unload {
        // From here on the module's code runs, and it may leave a thread behind.
        mem::forget(library.clone());
    }
    let header_error = |error: &dyn fmt::Display| LoadError::Header { reason: one_line(&error.to_string()) };
    let header = header.upgrade().map_err(|error| header_error(&error))?;
    let layout = header.layout().ok_or(LoadError::Header { reason: "no layout".into() })?;
    check_layout(layout, build.abi.1).map_err(|difference| LoadError::Layout { difference })?;
    // SAFETY: the layout was compared with that of `ModuleRef`.
    let table = unsafe { header.unchecked_layout::<ModuleRef>() }.map_err(|error| header_error(&error))?;
    start(table, library, build, terms)
}

/// Makes a module of a format that is linked into this program, as if it came from a library. For tests.
///
/// # Errors
/// As for [`load`].
pub fn linked<F: remuxd_plugin_api::Format>(terms: &Terms) -> Result<Arc<Module>, LoadError> {
    let build = Build { abi: (ABI_MAJOR, ABI_MINOR), rustc: remuxd_plugin_api::abi::RUSTC.to_owned() };
    let library = Library::new(None, Path::new("linked"));
    start(remuxd_plugin_api::abi::table::<F>(), library, build, terms)
}

fn start(
    table: ModuleRef,
    library: Arc<Library>,
    build: Build,
    terms: &Terms,
) -> Result<Arc<Module>, LoadError> {
    let context = (&raw const *library.logger).cast();
    table.set_logger()(RawLogger { context, log: on_log, reserved: [0; 2] });
    let info = table.info()().into_result().map_err(ModuleFault::from)?;
    let description = Description::read(&info)?;
    // A copy was made; what the module allocated is freed while its library is held.
    drop(info);
    let _ = library.logger.name.set(description.name.clone());
    Ok(Arc::new(Module::new(table, library, description, build, terms)))
}

fn preflight(image: &libloading::os::unix::Library) -> Result<Build, LoadError> {
    // SAFETY: a symbol's address is a pointer; what it points to is checked before it is believed.
    let symbol =
        unsafe { image.get::<*const Preflight>(PREFLIGHT_SYMBOL) }.map_err(|_| LoadError::NotAModule)?;
    let preflight: *const Preflight = *symbol;
    // SAFETY: the symbol is there, so that its first bytes can be read; `magic` and `struct_size` come first.
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
    // SAFETY: a C string that lives as long as the library.
    let rustc = unsafe { CStr::from_ptr(preflight.rustc) };
    let rustc = one_line(&rustc.to_string_lossy());
    Ok(Build { abi: (preflight.abi_major, preflight.abi_minor), rustc })
}

/// What the dynamic linker says; libloading's own text is only which function failed.
fn linker_words(error: &libloading::Error) -> String {
    let source = error.source().map(ToString::to_string);
    one_line(&source.unwrap_or_else(|| error.to_string()))
}

/// Compares the module's types with the host's. The error is the first difference, in one line.
fn check_layout(module: &'static TypeLayout, module_minor: u16) -> Result<(), String> {
    let host = <ModuleRef as StableAbi>::LAYOUT;
    // The side with fewer fields is the interface, the other one the implementation.
    let (interface, implementation) = if module_minor < ABI_MINOR { (module, host) } else { (host, module) };
    // Throw-away globals: those of abi_stable would go on pointing into the library after it is unmapped.
    check_layout_compatibility_with_globals(interface, implementation, &CheckingGlobals::new()).map_err(
        |errors| {
            debug!("layouts differ:\n{errors}");
            let swapped = module_minor < ABI_MINOR;
            one_line(&first_difference(&errors, swapped))
        },
    )
}

/// The innermost difference, with the type and the field where it is: `RawTag.dts: host has i64, module has u64`.
fn first_difference(errors: &AbiInstabilityErrors, swapped: bool) -> String {
    let errors = errors.errors.iter().filter(|error| !error.errs.is_empty());
    let Some(error) = errors.max_by_key(|error| error.stack_trace.len()) else { return "unknown".into() };
    let Some(difference) = error.errs.iter().min_by_key(|difference| rank(difference)) else {
        return "unknown".into();
    };
    let mut outward = error.stack_trace.iter().rev().map(|level| &level.expected);
    let inner = outward.next();
    let type_name = inner.map(type_name).unwrap_or_default();
    let place = match outward.next().zip(inner) {
        Some((outer, field)) => format!("{}.{}", self::type_name(outer), field_name(field)),
        None => type_name.clone(),
    };
    let sides = |place: &str, expected: &dyn fmt::Display, found: &dyn fmt::Display| {
        let (host, module) = if swapped { (found, expected) } else { (expected, found) };
        format!("{place}: host has {host}, module has {module}")
    };
    match difference {
        AbiInstability::UnexpectedField(ExpectedFound { expected, found }) => sides(
            &type_name,
            &format_args!("field {} ({})", expected.name(), expected.full_type()),
            &format_args!("field {} ({})", found.name(), found.full_type()),
        ),
        AbiInstability::Name(types) => sides(&place, &types.expected, &types.found),
        AbiInstability::FieldCountMismatch(ExpectedFound { expected, found }) => {
            sides(&type_name, &format_args!("{expected} fields"), &format_args!("{found} fields"))
        }
        AbiInstability::Size(ExpectedFound { expected, found }) => {
            sides(&place, &format_args!("{expected} bytes"), &format_args!("{found} bytes"))
        }
        other => {
            // The name of the variant; its data can fill pages.
            let text = format!("{other:?}");
            let kind = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            format!("{place}: {kind}")
        }
    }
}

/// How much a difference tells; the least tells most.
fn rank(difference: &AbiInstability) -> u8 {
    match difference {
        AbiInstability::UnexpectedField(_) => 0,
        AbiInstability::Name(_) => 1,
        AbiInstability::FieldCountMismatch(_) => 2,
        AbiInstability::Size(_) => 3,
        _ => 4,
    }
}

fn field_name(level: &TLFieldOrFunction) -> &str {
    match level {
        TLFieldOrFunction::Field(field) => field.name(),
        TLFieldOrFunction::Function(function) => function.name.as_str(),
    }
}

fn type_name(level: &TLFieldOrFunction) -> String {
    match level {
        TLFieldOrFunction::Field(field) => field.layout().name().to_owned(),
        TLFieldOrFunction::Function(function) => function.name.to_string(),
    }
}

/// Takes a module's log line. Does not unwind.
///
/// # Safety
/// `context` is the [`Logger`] that was handed over with this function.
unsafe extern "C" fn on_log(context: *const (), level: u8, line: RStr<'_>) {
    // SAFETY: the library's logger lives longer than the library's code.
    let logger = unsafe { &*context.cast::<Logger>() };
    // A subscriber that panics must not unwind into the module. There is nobody left to tell.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let module = match logger.name.get() {
            Some(name) => name.into(),
            None => logger.file.to_string_lossy(),
        };
        let line = one_line(&line);
        match Level(level) {
            Level::ERROR => error!(%module, "{line}"),
            Level::WARN => warn!(%module, "{line}"),
            Level::INFO => info!(%module, "{line}"),
            _ => debug!(%module, "{line}"),
        }
    }));
}

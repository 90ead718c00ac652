//! Loader: from a staged file to a [`Module`].
//!
//! The order matters, each step is safe only after the one before: map the file, read the plain-C preflight data,
//! upgrade abi_stable's header, compare the layouts of all types of the interface, take the table of functions, pass
//! the logger, copy the description. abi_stable's own loading is not used: it has one module per type, keeps references
//! into libraries that may be unmapped, and refuses modules of older minor versions.
//!
//! The file must be the host's own copy: it stays mapped, and a mapped file must not change.

use std::error::Error as _;
use std::fmt;
use std::mem;
use std::path::Path;
use std::sync::Arc;

use abi_stable::StableAbi;
use abi_stable::library::{AbiHeaderRef, ROOT_MODULE_LOADER_NAME};
use libloading::os::unix::{RTLD_LOCAL, RTLD_NOW};
use remuxd_plugin_api::abi::c::{self, FORMAT_SYMBOL};
use remuxd_plugin_api::abi::{ABI_MINOR, ModuleRef, RawInfo};

use super::c_abi::{self, CModule};
use super::in_process::InProcessCode;
use super::layout::check_layout;
use super::library::Library;
use super::preflight::{Build, preflight};
use super::stage::Staged;
use crate::module::description::Description;
use crate::module::error::LoadError;
use crate::module::fault::ModuleFault;
use crate::module::loaded::{Code, Module};
use crate::module::terms::Terms;
use crate::module::text::one_line;

/// Loads the module in `file`.
///
/// # Errors
/// [`LoadError`]: no part of the module remains in use.
pub fn load_module(file: impl Into<Arc<Staged>>, terms: &Terms) -> Result<Arc<Module>, LoadError> {
    let file = file.into();
    // SAFETY: runs the library's initialisers, which have run in a child process before.
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
            // The module's code runs from here on, and may leave a thread behind.
            mem::forget(library.clone());
        }
    };
    if let Ok(format) = c_format {
        keep();
        // SAFETY: this symbol of a module names such a table, as its preflight data say.
        let module = unsafe { CModule::read(format) }?;
        module.set_logger(&library.c_logger());
        let info = module.info()?;
        return describe(
            InProcessCode { table: c_abi::table(), c: Some(module), library },
            &info,
            build,
            terms,
        );
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
    table.set_logger()(library.logger());
    describe_rust(table, library, build, terms)
}

/// Makes a module of a format that is linked into this program, as if it came from a library. It has no logger.
#[cfg(any(test, fuzzing))]
pub fn linked<F: remuxd_plugin_api::Format>(terms: &Terms) -> Result<Arc<Module>, LoadError> {
    let build = Build { abi: crate::module::HOST_ABI, rustc: remuxd_plugin_api::abi::RUSTC.to_owned() };
    let library = Library::new(None, None);
    describe_rust(remuxd_plugin_api::abi::table::<F>(), library, build, terms)
}

fn describe_rust(
    table: ModuleRef,
    library: Arc<Library>,
    build: Build,
    terms: &Terms,
) -> Result<Arc<Module>, LoadError> {
    // The module's allocations in it are freed while the library is held.
    let info = table.info()().into_result().map_err(ModuleFault::from)?;
    describe(InProcessCode { table, c: None, library: library.clone() }, &info, build, terms)
}

fn describe(
    code: InProcessCode,
    info: &RawInfo,
    build: Build,
    terms: &Terms,
) -> Result<Arc<Module>, LoadError> {
    let description = Description::read(info)?;
    code.library.set_name(&description.name);
    Ok(Arc::new(Module::new(Code::InProcess(code), description, build, terms)))
}

/// Returns the dynamic linker's message without the name of the copy; libloading's own text only names the function.
fn linker_words(error: &libloading::Error, file: &Path) -> String {
    let words = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let name = format!("{}: ", file.display());
    one_line(words.strip_prefix(&name).unwrap_or(&words))
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs;
    use std::io;
    use std::path::PathBuf;
    use std::process::Command;

    use parking_lot::Mutex;
    use remuxd_plugin_api::abi::ABI_MAJOR;
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
        let module = load_module(Staged::lent(&file), &TERMS).unwrap();
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
    fn keeps_a_module_mapped_unless_unload_is_set() {
        let file = build_example("keeps.so");
        drop(load_module(Staged::lent(&file), &Terms { unload: false, ..TERMS }).unwrap());
        assert_ne!(mappings(&file), 0);
    }

    /// Collects log lines.
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
    fn logs_a_modules_lines_under_its_name() {
        let module = load_module(Staged::lent(&build_example("logs.so")), &TERMS).unwrap();
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
        let text = load_module(Staged::lent(text), &TERMS);
        assert!(matches!(text, Err(LoadError::Open { .. })), "{text:?}");
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let libc =
            maps.lines().find_map(|line| line.split_whitespace().nth(5).filter(|file| file.contains("libc")));
        let library = load_module(Staged::lent(Path::new(libc.unwrap())), &TERMS);
        assert!(matches!(library, Err(LoadError::NotAModule)), "{library:?}");
    }
}

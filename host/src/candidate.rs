//! Candidate: everything that a config would run, checked and not yet in use.
//!
//! Start, `remuxd check`, `remuxd reload` and its dry run all build one here and differ only in what a refusal means: a
//! host starts without a module that is refused, but not if its file is missing; a reload changes nothing, and `check` reports
//! an error.
//!
//! Invariant: nothing of a candidate's modules is mapped into this process, and building it changes nothing.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::conf::{Config, ConfigErrors, Diagnostics, KeyPath, Location, Mount, Source, Vhost, Warnings};
use crate::module::{
    Description, OffFile, OptionError, Outcome, Prepared, Registry, Transport, check_options,
};
use crate::net::{Certificates, ListenError, NewCertificates};
use crate::router::Router;

/// A config and what it names.
#[derive(Debug)]
pub struct Candidate {
    /// The config as read.
    pub config: Config,
    /// Its modules after all checks; some may have been refused.
    pub modules: Prepared,
    /// Its certificates that are not in use yet.
    pub certificates: NewCertificates,
    /// Its vhosts with the settings that take effect: formats with video ignore `fast_cache`.
    pub router: Router,
    /// The errors and warnings in the config. A module that is refused is not one of them.
    pub diagnostics: Diagnostics,
}

/// The modules and certificates in use when a candidate is built; those that did not change are not read again.
#[derive(Debug)]
pub struct InUse<'a> {
    /// The loaded modules; an empty registry before the host has started.
    pub registry: &'a Registry,
    /// Treatment of a module that is switched off and whose file has not changed.
    pub off_file: OffFile,
    /// `None` before the host has started.
    pub certificates: Option<&'a Certificates>,
}

impl Candidate {
    /// Builds the candidate of a config file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of_file(file: &Path, in_use: &InUse<'_>) -> Result<Candidate, ConfigErrors> {
        let (config, diagnostics) = Config::read(file)?;
        Ok(Candidate::new(config, diagnostics, in_use))
    }

    /// Builds the candidate of a config that is text; `name` replaces the path in messages.
    pub fn of_text(text: &str, name: &str, in_use: &InUse<'_>) -> Candidate {
        let (config, diagnostics) = Config::read_text(text, name);
        Candidate::new(config, diagnostics, in_use)
    }

    fn new(config: Config, mut diagnostics: Diagnostics, in_use: &InUse<'_>) -> Candidate {
        let modules = in_use.registry.prepare(&config.modules, &module_dir(), &program(), in_use.off_file);
        check_directory(&config, &mut diagnostics);
        for outcome in modules.missing() {
            let location = location_of(&outcome.name, &config, &diagnostics);
            diagnostics.warning(outcome, location, "optional, and not there");
        }
        for vhost in &config.vhosts {
            for (index, mount) in vhost.mounts.iter().enumerate() {
                check_mount(mount, &vhost.mount_path(index), &modules, &mut diagnostics);
            }
        }
        let certificates = NewCertificates::read(&config, in_use.certificates, &mut diagnostics);
        let vhosts = config.vhosts.iter().map(|vhost| effective(vhost, &modules)).collect();
        let router = Router::new(vhosts, &config.limits.sessions);
        Candidate { config, modules, certificates, router, diagnostics }
    }
}

impl Candidate {
    /// Reports as errors the modules that were refused and for which `is_error` holds.
    pub fn report_failures(&mut self, is_error: fn(&Outcome) -> bool) {
        let Candidate { config, modules, diagnostics, .. } = self;
        for failure in modules.failures().filter(|failure| is_error(failure)) {
            let location = location_of(&failure.name, config, diagnostics);
            let diagnostic = diagnostics.error(failure, location, "cannot be loaded");
            if failure.is_unreadable() {
                diagnostic.help("if it may be missing, name it in modules.optional too");
            }
        }
    }
}

/// Checks a config file for `remuxd check`, to which a refused module is an error too.
///
/// # Errors
/// Every error in the file.
pub fn check(file: &Path) -> Result<Warnings, ConfigErrors> {
    let registry = Registry::empty();
    let in_use = InUse { registry: &registry, off_file: OffFile::LoadAgain, certificates: None };
    let mut candidate = Candidate::of_file(file, &in_use)?;
    candidate.report_failures(|_| true);
    candidate.diagnostics.finish()
}

/// Returns the error of an address that cannot be listened on, with its line of the file.
pub fn cannot_listen(config: &Config, source: &Arc<Source>, error: &ListenError) -> ConfigErrors {
    let mut diagnostics = Diagnostics::of(source.clone());
    let listeners = config.listeners();
    let listener = listeners.iter().find(|listener| listener.address == error.address);
    let location = listener.and_then(|listener| source.value(&listener.path));
    let diagnostic =
        diagnostics.error(format!("cannot listen on {}", error.address), location, &error.source);
    if error.source.kind() == ErrorKind::AddrInUse {
        diagnostic.help("another process uses it; they can share it if both have `reuse_port = true`");
    }
    if error.source.kind() == ErrorKind::PermissionDenied && error.address.port() < 1024 {
        diagnostic.help("ports below 1024 need the capability CAP_NET_BIND_SERVICE: AmbientCapabilities= of systemd, or setcap");
    }
    diagnostics.into_errors()
}

/// Returns the location of a module's name in `modules.load`.
fn location_of(module: &str, config: &Config, diagnostics: &Diagnostics) -> Option<Location> {
    let index = config.modules.load.iter().position(|name| name == module)?;
    diagnostics.source().value(&KeyPath::of("modules").key("load").index(index))
}

/// The host's own program, which child processes run: the running image, even after an update has replaced the file.
fn program() -> PathBuf {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() { running } else { executable() }
}

/// The directory of the modules unless the config names one: that of the executable.
pub(crate) fn module_dir() -> PathBuf {
    executable().parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

fn executable() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("remuxd"))
}

/// `http_server.dir` must be a directory.
fn check_directory(config: &Config, diagnostics: &mut Diagnostics) {
    let Some(dir) = &config.http_server.dir else { return };
    let problem = match std::fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => return,
        Ok(_) => "not a directory".to_owned(),
        Err(error) => error.to_string(),
    };
    let location = diagnostics.source().value(&KeyPath::of("http_server").key("dir"));
    diagnostics.error("no files can be served from `http_server.dir`", location, problem);
}

/// A mount needs a module that answers its extension and knows its options.
fn check_mount(mount: &Mount, path: &KeyPath, modules: &Prepared, diagnostics: &mut Diagnostics) {
    let formats = formats_of(mount, modules);
    if formats.is_empty() && !modules.has_failures() && modules.missing().is_empty() {
        let location = diagnostics.source().value_or_table(&path.clone().key("mount"));
        let title = format!("no loaded module answers `.{}`", mount.pattern.extension);
        diagnostics
            .error(title, location, "this mount would be empty")
            .help("name a module that does in modules.load");
    }
    // The default is for formats of audio alone, too, but needs no warning.
    if let Some(location) = diagnostics.source().value(&path.clone().key("fast_cache"))
        && !mount.fast_cache.is_zero()
    {
        for format in formats.iter().filter(|format| !format.is_audio_only()) {
            let title = format!("fast_cache is ignored: {} carries video", format.name);
            diagnostics.warning(title, Some(location.clone()), "for formats of audio alone");
        }
    }
    // An option is known if one of the modules that share the mount knows it.
    let errors: Vec<Vec<OptionError>> =
        formats.iter().map(|format| check_options(&format.options, &mount.options)).collect();
    let Some((first, others)) = errors.split_first() else { return };
    for error in first.iter().filter(|error| others.iter().all(|other| other.contains(error))) {
        let option = path.clone().key("options").name(error.key());
        let location = match error {
            OptionError::Unknown { .. } => diagnostics.source().key(&option),
            _ => diagnostics.source().value(&option),
        };
        diagnostics.error(error, location, "");
    }
}

/// Returns the vhost with `fast_cache` only where a format uses it, so that no stream keeps audio for nothing.
fn effective(vhost: &Arc<Vhost>, modules: &Prepared) -> Arc<Vhost> {
    let mut vhost = vhost.clone();
    let ignores = |mount: &Mount| {
        let formats = formats_of(mount, modules);
        !formats.is_empty() && !formats.iter().any(|format| format.is_audio_only())
    };
    if vhost.mounts.iter().any(|mount| !mount.fast_cache.is_zero() && ignores(mount)) {
        for mount in Arc::make_mut(&mut vhost).mounts.iter_mut().filter(|mount| ignores(mount)) {
            Arc::make_mut(mount).fast_cache = Duration::ZERO;
        }
    }
    vhost
}

/// Returns the formats that share a mount: at most one for each transport.
pub(crate) fn formats_of<'a>(mount: &Mount, modules: &'a Prepared) -> Vec<&'a Arc<Description>> {
    let transports = [Transport::HTTP, Transport::WEBSOCKET];
    transports.iter().filter_map(|one| modules.find(&mount.pattern.extension, *one)).collect()
}

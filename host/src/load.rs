//! Loading: a config, the modules and certificates that it names, and each checked against the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::conf::{Config, Diagnostics, HttpServer, Mount, Report};
use crate::module::{Description, LoadFailure, OptionError, Registry, Transport, check_options};
use crate::net::Certificates;

/// Finds what the module declares that answers an extension over a transport. It need not be loaded.
pub(crate) type Find<'a> = &'a dyn Fn(&str, Transport) -> Option<Arc<Description>>;

/// A config and what it names.
#[derive(Debug)]
pub struct Loaded {
    /// The file; `None` when the config came as text.
    pub(crate) file: Option<PathBuf>,
    pub(crate) config: Config,
    pub(crate) registry: Registry,
    /// Modules that were refused. The host runs without them.
    pub(crate) failures: Vec<LoadFailure>,
    pub(crate) certificates: Certificates,
}

/// What a config names: modules, those that were refused, and certificates.
type Named = (Registry, Vec<LoadFailure>, Certificates);

/// Reads a config file, loads its modules and certificates, and checks each against the other.
///
/// # Errors
/// Every mistake in the file. A module that is refused is none: the host goes on without it.
pub fn load(file: &Path) -> Result<Loaded, Report> {
    Config::load_and(file, load_named).map(|loaded| Loaded::new(Some(file), loaded))
}

/// As [`load`], from text; `name` stands in messages for the file.
///
/// # Errors
/// As [`load`].
pub fn load_text(text: &str, name: &str) -> Result<Loaded, Report> {
    Config::parse_and(text, name, load_named).map(|loaded| Loaded::new(None, loaded))
}

/// As [`load`], for `remuxd check`: a module that is refused is a mistake too. Returns the warnings.
///
/// # Errors
/// Every mistake in the file.
pub fn check(file: &Path) -> Result<Report, Report> {
    let checked = Config::load_and(file, |config, diagnostics| {
        let (_, failures, _) = load_named(config, diagnostics);
        for failure in &failures {
            let place = config.modules.load.iter().position(|name| *name == failure.name);
            let place = place.and_then(|at| config.modules.load_places.get(at)).cloned().unwrap_or_default();
            diagnostics.error(failure.to_string(), &place, "cannot be loaded");
        }
    });
    checked.map(|(config, ())| config.warnings)
}

impl Loaded {
    fn new(file: Option<&Path>, (mut config, (registry, failures, certificates)): (Config, Named)) -> Loaded {
        drop_ignored(&mut config, &declared(&registry));
        Loaded { file: file.map(Path::to_owned), config, registry, failures, certificates }
    }

    /// The config.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

fn load_named(config: &Config, diagnostics: &mut Diagnostics) -> Named {
    let (registry, failures) = load_modules(config, diagnostics);
    (registry, failures, Certificates::load(config, diagnostics))
}

fn load_modules(config: &Config, diagnostics: &mut Diagnostics) -> (Registry, Vec<LoadFailure>) {
    let (registry, failures) = Registry::load(&config.modules, &beside(), &program());
    check_named(config, &declared(&registry), !failures.is_empty(), diagnostics);
    (registry, failures)
}

/// Finds what the modules of `registry` declare.
pub(crate) fn declared(registry: &Registry) -> impl Fn(&str, Transport) -> Option<Arc<Description>> {
    |extension, transport| Some(registry.find(extension, transport)?.description().clone())
}

/// The host's own program, which child processes run: what runs here, also when an update has replaced the file.
pub(crate) fn program() -> PathBuf {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() { running } else { executable() }
}

/// Where modules are looked for unless the config says otherwise.
pub(crate) fn beside() -> PathBuf {
    executable().parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

fn executable() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("remuxd"))
}

/// Checks a config against the modules that `find` finds, and against the file system.
pub(crate) fn check_named(
    config: &Config,
    find: Find<'_>,
    some_refused: bool,
    diagnostics: &mut Diagnostics,
) {
    check_directory(config, diagnostics);
    for mount in config.vhosts.iter().flat_map(|vhost| &vhost.mounts) {
        check_mount(mount, find, some_refused, diagnostics);
    }
}

/// What is ignored shall cost no stream a window of its audio.
pub(crate) fn drop_ignored(config: &mut Config, find: Find<'_>) {
    for vhost in &mut config.vhosts {
        for mount in &mut Arc::make_mut(vhost).mounts {
            let modules = modules_of(mount, find);
            if !modules.is_empty() && !modules.iter().any(|module| module.is_audio_only()) {
                Arc::make_mut(mount).fast_cache = Duration::ZERO;
            }
        }
    }
}

/// Static files need a directory.
fn check_directory(config: &Config, diagnostics: &mut Diagnostics) {
    let HttpServer { dir: Some(dir), dir_place, .. } = &config.http_server else { return };
    let problem = match std::fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => return,
        Ok(_) => "not a directory".to_owned(),
        Err(error) => error.to_string(),
    };
    diagnostics.error("no files can be served from `http_server.dir`", dir_place, problem);
}

/// A mount needs a module that answers its extension, and that knows its options.
fn check_mount(mount: &Mount, find: Find<'_>, some_refused: bool, diagnostics: &mut Diagnostics) {
    let modules = modules_of(mount, find);
    if modules.is_empty() && !some_refused {
        let title = format!("no loaded module answers `.{}`", mount.pattern.extension);
        let help = "name a module that does in modules.load";
        diagnostics.error(title, &mount.place, "this mount would be empty").help(help);
    }
    for module in modules.iter().filter(|module| mount.fast_cache > Duration::ZERO && !module.is_audio_only())
    {
        let title = format!("fast_cache is ignored: {} carries video", module.name);
        diagnostics.warning(title, &mount.fast_cache_place, "for formats of audio alone");
    }
    // An option is known when one of the modules that share the mount knows it.
    let mistakes: Vec<Vec<OptionError>> =
        modules.iter().map(|module| check_options(&module.options, &mount.options)).collect();
    let Some((first, others)) = mistakes.split_first() else { return };
    for mistake in first.iter().filter(|mistake| others.iter().all(|other| other.contains(mistake))) {
        let at = mount.options.iter().position(|(key, _)| key == mistake.key());
        let places = at.and_then(|at| mount.option_places.get(at)).cloned().unwrap_or_default();
        let place = if matches!(mistake, OptionError::Unknown { .. }) { places.key } else { places.value };
        diagnostics.error(mistake, &place, "");
    }
}

/// The modules that share a mount.
pub(crate) fn modules_of(mount: &Mount, find: Find<'_>) -> Vec<Arc<Description>> {
    let transports = [Transport::HTTP, Transport::WEBSOCKET];
    transports.iter().filter_map(|one| find(&mount.pattern.extension, *one)).collect()
}

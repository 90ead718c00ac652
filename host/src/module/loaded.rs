//! Module: one loaded generation of a format module.
//!
//! Its description was copied when it was loaded. Remuxers, and the bytes that they made, refer to its code and hold its
//! library.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use remuxd_plugin_api::{Codec, Setup, Transport};
use tracing::error;

use super::description::Description;
use super::fault::ModuleFault;
use super::load::in_process::InProcessCode;
use super::load::library::Library;
use super::load::preflight::Build;
use super::load::stage::{Origin, Staged};
use super::options::OptionSpec;
use super::process::{Allowance, Process};
use super::remuxer::{Backend, Remuxer};
use super::terms::Terms;

/// Period over which faults are counted.
const FAULT_WINDOW: Duration = Duration::from_secs(60);

/// One loaded generation of a format module.
pub struct Module {
    code: Code,
    description: Arc<Description>,
    build: Build,
    terms: Terms,
    since: SystemTime,
    /// Times of the faults within the last minute.
    faults: Mutex<VecDeque<Instant>>,
    /// Kept by the registry beyond the module's life.
    counters: Arc<Counters>,
    quarantined: AtomicBool,
    /// The generation that takes over if this one is quarantined.
    fallback: Mutex<Option<Arc<Module>>>,
}

/// A module's code, in this process or in one of its own, which ends with its last holder.
pub(super) enum Code {
    InProcess(InProcessCode),
    Isolated(Arc<Process>),
}

/// A weak reference to a module's code.
#[derive(Debug)]
pub(super) enum WeakCode {
    Library(Weak<Library>),
    Process(Weak<Process>),
}

impl WeakCode {
    /// Whether the code is still loaded.
    pub fn is_alive(&self) -> bool {
        match self {
            WeakCode::Library(library) => library.strong_count() > 0,
            WeakCode::Process(process) => process.strong_count() > 0,
        }
    }
}

/// Counters of one generation.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Faults of its remuxers.
    pub faults: AtomicU64,
    /// Times that a viewer of its mounts fell behind and moved to a newer keyframe.
    pub skips: AtomicU64,
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "module {} {} #{}", self.name(), self.version(), self.generation())
    }
}

impl Module {
    pub(super) fn new(code: Code, description: Description, build: Build, terms: &Terms) -> Module {
        Module {
            code,
            description: Arc::new(description),
            build,
            terms: terms.clone(),
            since: SystemTime::now(),
            faults: Mutex::default(),
            counters: Arc::default(),
            quarantined: AtomicBool::new(false),
            fallback: Mutex::default(),
        }
    }

    /// Its description.
    pub fn description(&self) -> &Arc<Description> {
        &self.description
    }

    /// Its name in `modules.load`.
    pub fn name(&self) -> &str {
        &self.description.name
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.description.version
    }

    /// The number of this generation.
    pub fn generation(&self) -> u64 {
        self.terms.generation
    }

    /// The transports over which it answers, the primary one first.
    pub fn transports(&self) -> &[Transport] {
        &self.description.transports
    }

    /// The mount extensions that it answers, without the dot.
    pub fn extensions(&self) -> &[String] {
        &self.description.extensions
    }

    /// The `Content-Type` of a response.
    pub fn content_type(&self) -> &str {
        &self.description.content_type
    }

    /// The video codecs that it can carry.
    pub fn video_codecs(&self) -> &[Codec] {
        &self.description.video_codecs
    }

    /// The audio codecs that it can carry.
    pub fn audio_codecs(&self) -> &[Codec] {
        &self.description.audio_codecs
    }

    /// Whether it carries audio and never video.
    pub fn is_audio_only(&self) -> bool {
        self.description.is_audio_only()
    }

    /// Whether it can carry at least one track of a stream with these codecs.
    pub fn carries(&self, video: Codec, audio: Codec) -> bool {
        self.video_codecs().contains(&video) || self.audio_codecs().contains(&audio)
    }

    /// The options that a mount may set.
    pub fn options(&self) -> &[OptionSpec] {
        &self.description.options
    }

    pub(super) fn build(&self) -> &Build {
        &self.build
    }

    /// The compiler that built it, as `rustc --version` names it.
    pub fn rustc(&self) -> &str {
        &self.build.rustc
    }

    /// The version of the interface that it was built for: major, minor.
    pub fn abi(&self) -> (u16, u16) {
        self.build.abi
    }

    /// Whether a second preamble of a remuxer ends the responses that began with the first. Before interface 1.5 viewers that
    /// joined later got it, and others were not affected.
    pub fn ends_by_preamble(&self) -> bool {
        self.abi() >= (1, 5)
    }

    /// When it was loaded.
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// The file that it was loaded from; `None` for a format that is linked into this program.
    pub fn origin(&self) -> Option<&Origin> {
        self.staged().and_then(Staged::origin)
    }

    /// The private copy of that file from which it runs.
    pub(super) fn staged(&self) -> Option<&Staged> {
        match &self.code {
            Code::InProcess(code) => code.library.file(),
            Code::Isolated(process) => Some(&process.launch().file),
        }
    }

    /// The resource limits of its process; `None` if it runs in this process.
    pub fn allowance(&self) -> Option<&Allowance> {
        match &self.code {
            Code::InProcess(_) => None,
            Code::Isolated(process) => Some(&process.launch().allowance),
        }
    }

    /// The rules that it was loaded with.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Number of faults of its remuxers since it was loaded.
    pub fn fault_count(&self) -> u64 {
        self.counters.faults.load(Ordering::Relaxed)
    }

    /// Counts a viewer that fell behind and continues at a newer keyframe.
    pub fn on_skip(&self) {
        self.counters.skips.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    pub(super) fn downgrade(&self) -> WeakCode {
        match &self.code {
            Code::InProcess(code) => WeakCode::Library(Arc::downgrade(&code.library)),
            Code::Isolated(process) => WeakCode::Process(Arc::downgrade(process)),
        }
    }

    /// Makes a remuxer for one (stream, mount, variant), which continues from `setup.state` if there is one and the
    /// module supports that. Calls into the module.
    ///
    /// # Errors
    /// The module's own error, or its panic.
    pub fn remuxer(&self, setup: &Setup) -> Result<Remuxer, ModuleFault> {
        let backend = match &self.code {
            Code::InProcess(code) => Backend::InProcess(code.remuxer(setup)?),
            Code::Isolated(process) => Backend::Isolated(process.remuxer(setup)?),
        };
        Ok(Remuxer::new(backend, self.terms.max_output, self.name()))
    }

    /// Counts a fault of one of its remuxers and quarantines the generation if there were more than `max_faults` within a
    /// minute. Returns whether it is quarantined.
    pub fn on_fault(&self, fault: &ModuleFault) -> bool {
        // The remuxer that ended their common process reports its own fault.
        if *fault == ModuleFault::Bystander {
            return self.is_quarantined();
        }
        let now = Instant::now();
        self.counters.faults.fetch_add(1, Ordering::Relaxed);
        let mut faults = self.faults.lock();
        faults.push_back(now);
        while faults.front().is_some_and(|&first| now.duration_since(first) > FAULT_WINDOW) {
            faults.pop_front();
        }
        // One more than the limit is enough to know.
        let over = faults.len() > self.terms.max_faults as usize;
        if over {
            faults.pop_front();
            drop(faults);
            if !self.quarantined.swap(true, Ordering::AcqRel) {
                error!(module = self.name(), last = %fault, limit = self.terms.max_faults, "module quarantined");
            }
        }
        self.is_quarantined()
    }

    /// Whether it had too many faults to get new viewers.
    pub fn is_quarantined(&self) -> bool {
        self.quarantined.load(Ordering::Acquire)
    }

    /// Returns this generation, or if it is quarantined the newest good one before it; this one if there is none.
    pub fn standing(self: &Arc<Self>) -> Arc<Module> {
        let mut module = self.clone();
        while module.is_quarantined() {
            let Some(before) = module.fallback() else { return self.clone() };
            module = before;
        }
        module
    }

    /// The generation that takes over if this one is quarantined.
    pub fn fallback(&self) -> Option<Arc<Module>> {
        self.fallback.lock().clone()
    }

    pub(crate) fn set_fallback(&self, module: Option<Arc<Module>>) {
        // Dropped outside the lock: it may be the last holder of a library.
        let _before = std::mem::replace(&mut *self.fallback.lock(), module);
    }
}

#[cfg(test)]
mod tests {
    use remuxd_plugin_api::{Format, FormatInfo, RemuxError, Sink, Tag};

    use super::*;
    use crate::module::linked;

    const TERMS: Terms = Terms { generation: 1, max_output: 0, max_faults: 2, unload: false };

    struct Null;

    impl Format for Null {
        type Remuxer = NullRemuxer;

        fn info() -> FormatInfo {
            FormatInfo {
                name: "null-2",
                version: "1.0.0",
                extensions: &["null"],
                transport: Transport::HTTP,
                content_type: "application/octet-stream",
                video_codecs: &[Codec::H264],
                audio_codecs: &[],
                options: &[],
            }
        }

        fn remuxer(setup: &Setup) -> Result<NullRemuxer, RemuxError> {
            match setup.options.text("fail") {
                "" => Ok(NullRemuxer),
                text => Err(RemuxError::Other(text.to_owned())),
            }
        }
    }

    struct NullRemuxer;

    impl remuxd_plugin_api::Remuxer for NullRemuxer {
        fn tag(&mut self, _: &Tag, _: &mut dyn Sink) -> Result<(), RemuxError> {
            Ok(())
        }
    }

    #[test]
    fn gives_the_setup_to_the_remuxer() {
        let module = linked::<Null>(&TERMS).unwrap();
        let setup = |text: &str| {
            let options = remuxd_plugin_api::Options::new(vec![("fail".into(), text.into())]);
            Setup::new(options, remuxd_plugin_api::StreamFacts::default())
        };
        assert!(module.remuxer(&setup("")).is_ok());
        let fault = module.remuxer(&setup("a\nlong\u{7} story")).err();
        assert_eq!(fault, Some(ModuleFault::Remux { message: "a long story".into() }));
    }

    #[test]
    fn is_quarantined_with_one_fault_too_many() {
        let module = linked::<Null>(&TERMS).unwrap();
        assert!(!module.on_fault(&ModuleFault::Poisoned));
        assert!(!module.on_fault(&ModuleFault::Poisoned));
        assert!(!module.is_quarantined());
        assert!(module.on_fault(&ModuleFault::Poisoned));
        assert!(module.is_quarantined());
        assert!(module.on_fault(&ModuleFault::Poisoned));
    }

    #[test]
    fn forgets_faults_after_a_minute() {
        let module = linked::<Null>(&TERMS).unwrap();
        let long_ago = Instant::now().checked_sub(FAULT_WINDOW + Duration::from_secs(1)).unwrap();
        module.faults.lock().extend([long_ago; 2]);
        assert!(!module.on_fault(&ModuleFault::Poisoned));
        assert_eq!(module.faults.lock().len(), 1);
    }
}

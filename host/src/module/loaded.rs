//! Module: one loaded generation of a format module.
//!
//! Its description was copied when it was loaded. Remuxers, and the bytes that they made, refer to its code and hold its
//! library.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::SystemTime;

use parking_lot::Mutex;
use remuxd_plugin_api::{Codec, Setup, Transport};
use tracing::warn;

use super::description::Description;
use super::evidence::{Evidence, OffReason};
use super::fault::ModuleFault;
use super::load::in_process::InProcessCode;
use super::load::library::Library;
use super::load::preflight::Build;
use super::load::stage::{Origin, Staged};
use super::options::OptionSpec;
use super::process::{Allowance, CrashNote, Launch, Process};
use super::remuxer::{Backend, Remuxer};
use super::terms::Terms;

/// Largest number of streams of a generation that have a process of their own.
const MAX_OWN_PROCESSES: usize = 16;
/// Number of hung calls after which a generation gets a process of its own.
const MAX_HUNG: usize = 2;

/// One loaded generation of a format module.
pub struct Module {
    pub(super) code: Code,
    description: Arc<Description>,
    build: Build,
    terms: Terms,
    since: SystemTime,
    /// Kept by the registry beyond the module's life.
    pub(super) counters: Arc<Counters>,
    pub(super) evidence: Mutex<Evidence>,
    pub(super) off: OnceLock<OffReason>,
    /// The generation before it, for streams on which this one fails.
    pub(super) fallback: Mutex<Option<Arc<Module>>>,
    /// How a process of it would be started, if its code runs in this process.
    launch: OnceLock<Launch>,
    own_processes: Mutex<Vec<Weak<Process>>>,
    /// Number of its calls that hung in this process.
    hung: AtomicUsize,
    moved_out: OnceLock<OwnProcess>,
    /// The crash of the host after which it has a process of its own.
    pub(super) crashed: OnceLock<CrashNote>,
}

/// A process for the remuxers of one stream, which ends with its last holder.
#[derive(Clone, Debug)]
pub struct OwnProcess(Arc<Process>);

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
    /// Those of them that are calls over `modules.call_timeout`.
    pub hung_calls: AtomicU64,
    /// Times that a viewer of its mounts fell behind and moved to a newer keyframe.
    pub skips: AtomicU64,
    /// Times that a mount was too slow for its stream and moved to a newer keyframe.
    pub lag_skips: AtomicU64,
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
            counters: Arc::default(),
            evidence: Mutex::default(),
            off: OnceLock::new(),
            fallback: Mutex::default(),
            launch: OnceLock::new(),
            own_processes: Mutex::default(),
            hung: AtomicUsize::new(0),
            moved_out: OnceLock::new(),
            crashed: OnceLock::new(),
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
        self.staged().and_then(|staged| staged.origin())
    }

    /// The private copy of that file from which it runs.
    pub(super) fn staged(&self) -> Option<&Arc<Staged>> {
        match &self.code {
            Code::InProcess(code) => code.library.file(),
            Code::Isolated(process) => Some(&process.launch().file),
        }
    }

    /// The text of the crash note of its calls for `stream`.
    pub fn crash_note(&self, stream: &impl fmt::Display) -> String {
        let build = self.staged().map_or(0, |staged| staged.build());
        let (module, stream) = (self.name().to_owned(), stream.to_string());
        CrashNote { module, build, generation: self.generation(), stream }.text()
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

    /// Counts viewers that fell behind and continue at a newer keyframe.
    pub fn on_skips(&self, count: u64) {
        self.counters.skips.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts a mount that was too slow for its stream and continues at a newer keyframe.
    pub fn on_lag(&self) {
        self.counters.lag_skips.fetch_add(1, Ordering::Relaxed);
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
        self.remuxer_in(None, setup)
    }

    /// As [`remuxer`](Self::remuxer), in the process of one stream if there is one.
    ///
    /// # Errors
    /// As for [`remuxer`](Self::remuxer), and the fault of the process.
    pub fn remuxer_in(&self, own: Option<&OwnProcess>, setup: &Setup) -> Result<Remuxer, ModuleFault> {
        let backend = match (own.or(self.moved_out.get()), &self.code) {
            (Some(OwnProcess(process)), _) | (None, Code::Isolated(process)) => {
                Backend::Isolated(process.remuxer(setup)?)
            }
            (None, Code::InProcess(code)) => Backend::InProcess(code.remuxer(setup)?),
        };
        Ok(Remuxer::new(backend, self.terms.max_output, self.name()))
    }

    /// Returns a process for the remuxers of one stream; `None` if it has no file, or too many streams have one already.
    pub fn own_process(&self) -> Option<OwnProcess> {
        let launch = self.launch()?;
        let mut own = self.own_processes.lock();
        own.retain(|process| process.strong_count() > 0);
        if own.len() >= MAX_OWN_PROCESSES {
            return None;
        }
        let process = Arc::new(Process::of_one_stream(launch.clone()));
        own.push(Arc::downgrade(&process));
        Some(OwnProcess(process))
    }

    /// Whether its remuxers share a process that is not this one.
    pub fn has_process(&self) -> bool {
        matches!(self.code, Code::Isolated(_)) || self.has_moved_out()
    }

    pub(super) fn launch(&self) -> Option<&Launch> {
        match &self.code {
            Code::InProcess(_) => self.launch.get(),
            Code::Isolated(process) => Some(process.launch()),
        }
    }

    /// Sets how a process of it would be started, if its code runs in this process.
    pub(super) fn set_launch(&self, launch: Launch) {
        // Set once, when it is loaded.
        let _ = self.launch.set(launch);
    }

    /// Counts a call that hung. After several, new remuxers run in a process of its own: a call that hangs in this one cannot
    /// be ended.
    pub(super) fn on_hang(&self) {
        if self.hung.fetch_add(1, Ordering::Relaxed) + 1 < MAX_HUNG {
            return;
        }
        let Some(launch) = self.launch.get() else { return };
        let own = OwnProcess(Arc::new(Process::of_one_stream(launch.clone())));
        if self.moved_out.set(own).is_ok() {
            let (module, generation) = (self.name(), self.generation());
            warn!(module, generation, "calls of the module hang; new remuxers run in a process of its own");
        }
    }

    /// Whether its new remuxers run in another process, since calls of it hung in this one.
    pub fn has_moved_out(&self) -> bool {
        self.moved_out.get().is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use remuxd_plugin_api::{Format, FormatInfo, RemuxError, Sink, Tag};

    use super::*;
    use crate::module::ModuleCounts;
    use crate::module::generation::Known;
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
    fn hung_calls_are_faults_with_a_counter_of_their_own() {
        let module = linked::<Null>(&TERMS).unwrap();
        let rows = [
            (ModuleFault::Hung { elapsed: Duration::from_secs(2) }, (1, 1)),
            (ModuleFault::TimedOut { limit: Duration::from_secs(1) }, (2, 2)),
            (ModuleFault::Poisoned, (3, 2)),
            (ModuleFault::Bystander, (3, 2)),
        ];
        for (fault, expected) in rows {
            module.on_fault("live/film", &fault);
            let ModuleCounts { faults, hung_calls, .. } = Known::new(&module).counts();
            assert_eq!((faults, hung_calls), expected, "{fault:?}");
        }
    }
}

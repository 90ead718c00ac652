//! Module: one generation of a format module.
//!
//! Everything that the module declares was copied when it was loaded. What refers to its code (remuxers, and bytes
//! that they made) holds its library.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use abi_stable::std_types::{RString, RVec};
use parking_lot::Mutex;
use remuxd_plugin_api::abi::{self, OPTION_CHOICE, OPTION_FLAG, OPTION_INTEGER, OPTION_TEXT, RawInfo};
use remuxd_plugin_api::{Codec, Setup, Transport};
use thiserror::Error;
use tracing::error;

use super::instance::Remuxer;
use super::load::linked::Code;
use super::load::loader::{Build, Library, Terms};
use super::load::stage::{Origin, Staged};
use super::process::{Allowance, Process};
use super::text::{is_hidden, one_line};
use super::{Instance, ModuleFault};

/// Over how long faults are counted.
const FAULT_WINDOW: Duration = Duration::from_secs(60);
/// The longest name, extension, version, or word of a choice that a module declares, in bytes.
const MAX_WORD: usize = 64;
/// The longest content type or default.
const MAX_VALUE: usize = 1024;
/// How many of a kind it may declare.
const MAX_LIST: usize = 64;

/// One loaded generation of a format module.
pub struct Module {
    home: Home,
    description: Arc<Description>,
    build: Build,
    terms: Terms,
    since: SystemTime,
    /// Within the last minute.
    faults: Mutex<VecDeque<Instant>>,
    /// In its life; outlives the module in the registry.
    fault_count: Arc<AtomicU64>,
    quarantined: AtomicBool,
    /// The generation that takes over when this one is quarantined.
    fallback: Mutex<Option<Arc<Module>>>,
}

/// Where the module's code runs.
pub(super) enum Home {
    /// In this process.
    Linked(Code),
    /// In a process of its own, which ends with the last holder.
    Isolated(Arc<Process>),
}

/// Tells whether a module's code is still there, and keeps nothing of it.
#[derive(Debug)]
pub(super) enum Hold {
    Library(Weak<Library>),
    Process(Weak<Process>),
}

impl Hold {
    pub fn is_alive(&self) -> bool {
        match self {
            Hold::Library(library) => library.strong_count() > 0,
            Hold::Process(process) => process.strong_count() > 0,
        }
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "module {} {} #{}", self.name(), self.version(), self.generation())
    }
}

impl Module {
    pub(super) fn new(home: Home, description: Description, build: Build, terms: &Terms) -> Module {
        Module {
            home,
            description: Arc::new(description),
            build,
            terms: terms.clone(),
            since: SystemTime::now(),
            faults: Mutex::default(),
            fault_count: Arc::default(),
            quarantined: AtomicBool::new(false),
            fallback: Mutex::default(),
        }
    }

    /// All that it declares.
    pub fn description(&self) -> &Arc<Description> {
        &self.description
    }

    /// The module's name, as `modules.load` has it.
    pub fn name(&self) -> &str {
        &self.description.name
    }

    /// The module's version.
    pub fn version(&self) -> &str {
        &self.description.version
    }

    /// The number of this generation.
    pub fn generation(&self) -> u64 {
        self.terms.generation
    }

    /// How its blocks travel.
    pub fn transport(&self) -> Transport {
        self.description.transport
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
    pub fn options(&self) -> &[OwnedOptionSpec] {
        &self.description.options
    }

    /// The compiler that built it, as `rustc --version` has it.
    pub fn rustc(&self) -> &str {
        &self.build.rustc
    }

    /// The version of the interface that it was built for: major, minor.
    pub fn abi(&self) -> (u16, u16) {
        self.build.abi
    }

    /// When it was loaded.
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// The file that it was loaded from; `None` of one that is linked in.
    pub fn origin(&self) -> Option<&Origin> {
        self.staged().and_then(Staged::origin)
    }

    /// The copy of that file that it runs from.
    pub(super) fn staged(&self) -> Option<&Staged> {
        match &self.home {
            Home::Linked(code) => code.library.file(),
            Home::Isolated(process) => Some(&process.launch().file),
        }
    }

    /// What its process may use; `None` of one that runs in this process.
    pub fn allowance(&self) -> Option<&Allowance> {
        match &self.home {
            Home::Linked(_) => None,
            Home::Isolated(process) => Some(&process.launch().allowance),
        }
    }

    /// What it was loaded under.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Faults of its remuxers since it was loaded.
    pub fn fault_count(&self) -> u64 {
        self.fault_count.load(Ordering::Relaxed)
    }

    pub(super) fn fault_counter(&self) -> &Arc<AtomicU64> {
        &self.fault_count
    }

    pub(super) fn hold(&self) -> Hold {
        match &self.home {
            Home::Linked(code) => Hold::Library(Arc::downgrade(&code.library)),
            Home::Isolated(process) => Hold::Process(Arc::downgrade(process)),
        }
    }

    /// Makes a remuxer for one (stream, mount, variant), which goes on from `setup.state` if there is one and the
    /// module knows how. A call into the module.
    ///
    /// # Errors
    /// The module's own error, or its panic.
    pub fn remuxer(&self, setup: &Setup) -> Result<Instance, ModuleFault> {
        let remuxer = match &self.home {
            Home::Linked(code) => Remuxer::Linked(code.remuxer(setup)?),
            Home::Isolated(process) => Remuxer::Isolated(process.remuxer(setup)?),
        };
        Ok(Instance::new(remuxer, self.terms.max_output, self.name()))
    }

    /// Counts a fault of one of its remuxers. True: there were more than `max_faults` within a minute, and the
    /// generation is in quarantine from now on.
    pub fn on_fault(&self, fault: &ModuleFault) -> bool {
        // The fault of the remuxer that ended their process was counted, or will be.
        if *fault == ModuleFault::Bystander {
            return self.is_quarantined();
        }
        let now = Instant::now();
        self.fault_count.fetch_add(1, Ordering::Relaxed);
        let mut faults = self.faults.lock();
        faults.push_back(now);
        while faults.front().is_some_and(|&first| now.duration_since(first) > FAULT_WINDOW) {
            faults.pop_front();
        }
        // What is over the limit tells nothing more.
        let over = faults.len() > self.terms.max_faults as usize;
        if over {
            faults.pop_front();
            if !self.quarantined.swap(true, Ordering::AcqRel) {
                error!(module = self.name(), last = %fault, limit = self.terms.max_faults, "module quarantined");
            }
        }
        self.is_quarantined()
    }

    /// Whether it had too many faults to be used again.
    pub fn is_quarantined(&self) -> bool {
        self.quarantined.load(Ordering::Acquire)
    }

    /// This generation, or when it is quarantined the newest good one before it; if there is none, this one again.
    pub fn standing(self: &Arc<Self>) -> Arc<Module> {
        let mut module = self.clone();
        while module.is_quarantined() {
            let Some(before) = module.fallback() else { return self.clone() };
            module = before;
        }
        module
    }

    /// The generation that takes over when this one is quarantined.
    pub fn fallback(&self) -> Option<Arc<Module>> {
        self.fallback.lock().clone()
    }

    pub(crate) fn set_fallback(&self, module: Option<Arc<Module>>) {
        // Dropped outside of the lock: it may be the last that holds a library.
        let _before = std::mem::replace(&mut *self.fallback.lock(), module);
    }
}

/// One option that a module declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedOptionSpec {
    /// The key.
    pub name: String,
    /// What values it takes.
    pub kind: OwnedOptionKind,
    /// The default, written as in the config without quotes.
    pub default: String,
    /// One sentence for operators.
    pub doc: String,
    /// A viewer may set it in the query of the URL.
    pub variant: bool,
}

/// What values an option takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedOptionKind {
    /// `true` or `false`.
    Flag,
    /// A whole number between the two bounds, both allowed.
    Integer {
        /// Least value.
        min: i64,
        /// Greatest value.
        max: i64,
    },
    /// One of these words.
    Choice(Vec<String>),
    /// Any text.
    Text,
}

impl OwnedOptionKind {
    /// Whether `value`, written as in the config without quotes, is one of these values.
    pub fn accepts(&self, value: &str) -> bool {
        match self {
            OwnedOptionKind::Flag => matches!(value, "true" | "false"),
            OwnedOptionKind::Integer { min, max } => {
                value.parse().is_ok_and(|number| (*min..=*max).contains(&number))
            }
            OwnedOptionKind::Choice(words) => words.iter().any(|word| word == value),
            OwnedOptionKind::Text => true,
        }
    }
}

impl OwnedOptionKind {
    /// The one way to write `value`, which [`accepts`](Self::accepts) has accepted: equal values are equal texts.
    pub(super) fn canonical(&self, value: String) -> String {
        match self {
            OwnedOptionKind::Integer { .. } => {
                value.parse::<i64>().map_or(value, |number| number.to_string())
            }
            _ => value,
        }
    }
}

/// What the values are: `a whole number from 0 to 9`.
impl fmt::Display for OwnedOptionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OwnedOptionKind::Flag => f.write_str("true or false"),
            OwnedOptionKind::Integer { min, max } => write!(f, "a whole number from {min} to {max}"),
            OwnedOptionKind::Choice(words) => f.write_str(&words.join(" or ")),
            OwnedOptionKind::Text => f.write_str("text"),
        }
    }
}

/// Which field of a module's description breaks the rules.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field} is {value:?}")]
pub struct InfoError {
    /// The field of `FormatInfo` or, behind the option's name, of `OptionSpec`.
    pub field: String,
    /// Its value.
    pub value: String,
}

/// A module's description of its format, in the host's own memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The module's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The mount extensions that it answers, without the dot.
    pub extensions: Vec<String>,
    /// How its blocks travel.
    pub transport: Transport,
    /// The `Content-Type` of a response.
    pub content_type: String,
    /// The video codecs that it can carry.
    pub video_codecs: Vec<Codec>,
    /// The audio codecs that it can carry.
    pub audio_codecs: Vec<Codec>,
    /// The options that a mount may set.
    pub options: Vec<OwnedOptionSpec>,
}

impl Description {
    /// Whether the format carries audio and never video.
    pub fn is_audio_only(&self) -> bool {
        self.video_codecs.is_empty() && !self.audio_codecs.is_empty()
    }

    /// Whether it answers `extension`, without the dot, over `transport`.
    pub fn answers(&self, extension: &str, transport: Transport) -> bool {
        self.transport == transport && self.extensions.iter().any(|own| own == extension)
    }

    /// Copies and checks what the module said. All of it is fit for a terminal and a log, and bounded.
    pub(super) fn read(raw: &RawInfo) -> Result<Description, InfoError> {
        let codecs = |codecs: &RVec<u32>| codecs.iter().map(|&code| Codec(code)).collect();
        let counts = [
            ("extensions", raw.extensions.len()),
            ("video_codecs", raw.video_codecs.len()),
            ("audio_codecs", raw.audio_codecs.len()),
            ("options", raw.options.len()),
        ];
        counts.iter().try_for_each(|(field, count)| check_count(field, *count))?;
        let description = Description {
            name: raw.name.to_string(),
            version: raw.version.to_string(),
            extensions: strings(&raw.extensions),
            transport: Transport(raw.transport),
            content_type: raw.content_type.to_string(),
            video_codecs: codecs(&raw.video_codecs),
            audio_codecs: codecs(&raw.audio_codecs),
            options: raw.options.iter().map(read_option).collect::<Result<_, _>>()?,
        };
        let is_name = |text: &str| {
            is_plain(text, MAX_WORD)
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        check("name", &description.name, is_name(&description.name))?;
        check("version", &description.version, is_plain(&description.version, MAX_WORD))?;
        for extension in &description.extensions {
            check("extensions", extension, is_name(extension))?;
        }
        check("extensions", "empty", !description.extensions.is_empty())?;
        let known = matches!(description.transport, Transport::HTTP | Transport::WEBSOCKET);
        check("transport", &raw.transport.to_string(), known)?;
        let content_type = &description.content_type;
        let visible = is_plain(content_type, MAX_VALUE) && content_type.is_ascii();
        check("content_type", content_type, visible && content_type.contains('/'))?;
        Ok(description)
    }
}

fn read_option(raw: &abi::RawOption) -> Result<OwnedOptionSpec, InfoError> {
    let name = raw.name.to_string();
    let is_key = |text: &str| {
        is_plain(text, MAX_WORD)
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    check("option name", &name, is_key(&name))?;
    let kind = match raw.kind {
        OPTION_FLAG => OwnedOptionKind::Flag,
        OPTION_INTEGER => OwnedOptionKind::Integer { min: raw.min, max: raw.max },
        OPTION_CHOICE => {
            check_count(&format!("{name}: choices"), raw.choices.len())?;
            let words = strings(&raw.choices);
            words
                .iter()
                .try_for_each(|word| check(&format!("{name}: choices"), word, is_plain(word, MAX_WORD)))?;
            OwnedOptionKind::Choice(words)
        }
        OPTION_TEXT => OwnedOptionKind::Text,
        other => {
            return Err(InfoError { field: format!("{name}: kind"), value: other.to_string() });
        }
    };
    let default = raw.default.to_string();
    let fit = default.is_empty() || is_plain(&default, MAX_VALUE);
    check(&format!("{name}: default"), &default, fit && kind.accepts(&default))?;
    Ok(OwnedOptionSpec { name, kind, default, doc: one_line(&raw.doc), variant: raw.variant != 0 })
}

fn strings(words: &RVec<RString>) -> Vec<String> {
    words.iter().map(RString::to_string).collect()
}

/// Whether there is something, `max` bytes at most, and nothing of it is hidden.
fn is_plain(text: &str, max: usize) -> bool {
    !text.is_empty() && text.len() <= max && !text.chars().any(is_hidden)
}

fn check(field: &str, value: &str, holds: bool) -> Result<(), InfoError> {
    // `Display` escapes what is hidden; the rest tells no more.
    let shown = || value.chars().take(MAX_WORD).collect();
    if holds { Ok(()) } else { Err(InfoError { field: field.into(), value: shown() }) }
}

fn check_count(field: &str, count: usize) -> Result<(), InfoError> {
    check(field, &format!("a list of {count}, {MAX_LIST} at most"), count <= MAX_LIST)
}

#[cfg(test)]
mod tests {
    use remuxd_plugin_api::{Format, FormatInfo, OptionKind, OptionSpec, RemuxError, Remuxer, Sink, Tag};

    use super::*;
    use crate::module::linked;

    const TERMS: Terms = Terms { generation: 1, max_output: 0, max_faults: 2, unload: false };

    const INFO: FormatInfo = FormatInfo {
        name: "null-2",
        version: "1.0.0",
        extensions: &["null"],
        transport: Transport::HTTP,
        content_type: "application/octet-stream",
        video_codecs: &[Codec::H264],
        audio_codecs: &[],
        options: &[],
    };

    struct Null;

    impl Format for Null {
        type Remuxer = NullRemuxer;

        fn info() -> FormatInfo {
            INFO
        }

        fn remuxer(setup: &Setup) -> Result<NullRemuxer, RemuxError> {
            match setup.options.text("fail") {
                "" => Ok(NullRemuxer),
                text => Err(RemuxError::Other(text.to_owned())),
            }
        }
    }

    struct NullRemuxer;

    impl Remuxer for NullRemuxer {
        fn tag(&mut self, _: &Tag, _: &mut dyn Sink) -> Result<(), RemuxError> {
            Ok(())
        }
    }

    fn read(info: FormatInfo) -> Result<Description, String> {
        Description::read(&info.into()).map_err(|error| error.to_string())
    }

    #[test]
    fn refuses_a_description_that_breaks_the_rules() {
        assert!(read(INFO).is_ok());
        let option =
            OptionSpec { name: "o", kind: OptionKind::Flag, default: "true", doc: "", variant: false };
        let number = OptionKind::Integer { min: 1, max: 5 };
        let options = |option: OptionSpec| FormatInfo { options: Box::leak(Box::new([option])), ..INFO };
        let long = |field: &str| format!("{field} is {:?}", "a".repeat(64));
        let cases = [
            (FormatInfo { name: "", ..INFO }, r#"name is """#),
            (FormatInfo { name: "Flv", ..INFO }, r#"name is "Flv""#),
            (FormatInfo { name: "a/b", ..INFO }, r#"name is "a/b""#),
            (FormatInfo { version: "", ..INFO }, r#"version is """#),
            (FormatInfo { version: "1\u{1b}[31m", ..INFO }, r#"version is "1\u{1b}[31m""#),
            (FormatInfo { version: "1\u{202e}2", ..INFO }, r#"version is "1\u{202e}2""#),
            (FormatInfo { name: leaked("a", 65), ..INFO }, &long("name")),
            (FormatInfo { version: leaked("a", 1 << 20), ..INFO }, &long("version")),
            (
                FormatInfo { extensions: vec!["a"; 65].leak(), ..INFO },
                r#"extensions is "a list of 65, 64 at most""#,
            ),
            (
                FormatInfo { video_codecs: vec![Codec::H264; 65].leak(), ..INFO },
                r#"video_codecs is "a list of 65, 64 at most""#,
            ),
            (FormatInfo { extensions: &[], ..INFO }, r#"extensions is "empty""#),
            (FormatInfo { extensions: &["a", ".b"], ..INFO }, r#"extensions is ".b""#),
            (FormatInfo { transport: Transport(9), ..INFO }, r#"transport is "9""#),
            (FormatInfo { content_type: "a/b\r\nx: y", ..INFO }, r#"content_type is "a/b\r\nx: y""#),
            (FormatInfo { content_type: "", ..INFO }, r#"content_type is """#),
            (options(OptionSpec { name: "a b", ..option }), r#"option name is "a b""#),
            (options(OptionSpec { default: "yes", ..option }), r#"o: default is "yes""#),
            (
                options(OptionSpec { kind: OptionKind::Text, default: "a\u{7}", ..option }),
                r#"o: default is "a\u{7}""#,
            ),
            (
                options(OptionSpec { kind: OptionKind::Choice(&["true", "x\n"]), ..option }),
                r#"o: choices is "x\n""#,
            ),
            (options(OptionSpec { kind: number, default: "6", ..option }), r#"o: default is "6""#),
            (options(OptionSpec { kind: OptionKind::Choice(&["x"]), ..option }), r#"o: default is "true""#),
        ];
        for (info, line) in cases {
            assert_eq!(read(info).err().as_deref(), Some(line));
        }
        let doc = options(OptionSpec { doc: leaked("a\u{1b}[2J\n\u{202e}b ", 10_000), ..option });
        let doc = &read(doc).unwrap().options[0].doc;
        assert!(doc.starts_with("a [2J b a [2J b") && doc.len() < 3000, "{doc}");
    }

    fn leaked(text: &str, times: usize) -> &'static str {
        text.repeat(times).leak()
    }

    #[test]
    fn knows_which_values_an_option_takes() {
        let choice = || OwnedOptionKind::Choice(vec!["x".into(), "y".into()]);
        let integer = || OwnedOptionKind::Integer { min: -2, max: 9 };
        let cases = [
            (OwnedOptionKind::Flag, "true", true),
            (OwnedOptionKind::Flag, "1", false),
            (integer(), "-2", true),
            (integer(), "10", false),
            (integer(), "99999999999999999999", false),
            (integer(), "", false),
            (choice(), "y", true),
            (choice(), "z", false),
            (OwnedOptionKind::Text, "", true),
        ];
        for (kind, value, accepted) in cases {
            assert_eq!(kind.accepts(value), accepted, "{kind:?} {value}");
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

//! What a module's author writes.

use crate::{Codec, RemuxError, Sink, Tag, Transport};

/// A format: what it answers to, and how a remuxer is made.
///
/// `Format` is a type, not a value: the host asks for its description when it loads the module, and for a
/// remuxer each time a mount starts for a stream.
pub trait Format: 'static {
    /// The remuxer that this format makes.
    type Remuxer: Remuxer;

    /// Describes the format. Called when the module is loaded, and whenever the host inspects it; always the
    /// same answer.
    fn info() -> FormatInfo;

    /// Transports beside [`FormatInfo::transport`] over which the same remuxers are served: one remuxer then feeds the
    /// viewers of all of them. A host before 1.4 serves `FormatInfo::transport` alone. Called as [`info`](Self::info).
    /// Since 1.4.
    fn further_transports() -> &'static [Transport] {
        &[]
    }

    /// Makes a remuxer for one (stream, mount, variant).
    ///
    /// # Errors
    /// Any error ends the mount's start for this stream; viewers are told that the server failed.
    fn remuxer(setup: &Setup) -> Result<Self::Remuxer, RemuxError>;
}

/// Turns the tags of one stream into blocks.
///
/// The host calls from any thread of its worker pool, never two at once for one instance. A call must not block, do IO
/// or read a clock; time is in the tags.
pub trait Remuxer: Send + 'static {
    /// Consumes one tag and hands the blocks that it makes to `sink`.
    ///
    /// The first tags replay the stream's history: metadata, sequence headers, then the current GOP from its
    /// keyframe (with an audio-only stream, from now). A format that declares no video codec gets audio alone: the
    /// sequence header, then the frames of the mount's `fast_cache`. After that, tags arrive as they are published.
    ///
    /// # Errors
    /// Any error ends this remuxer only. The host counts it against the module and starts a new remuxer at
    /// the next keyframe; viewers stay connected. [`RemuxError::Unsupported`] is no fault, and ends the mount.
    fn tag(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError>;

    /// The stream ended, or goes over to a successor: hand out what is still held.
    ///
    /// # Errors
    /// As for [`tag`](Self::tag).
    fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let _ = sink;
        Ok(())
    }

    /// What a successor must know so that viewers notice nothing: counters, versions, clocks. Asked after
    /// [`finish`](Self::finish) when another build of the module takes over; the successor gets it as
    /// [`Setup::state`]. At most 64 KiB. Since 1.1.
    fn state(&mut self) -> Vec<u8> {
        Vec::new()
    }
}

/// What a module declares of its format.
#[derive(Clone, Debug, PartialEq)]
pub struct FormatInfo {
    /// The module's name, as `modules.load` has it: lower case, digits and `-`.
    pub name: &'static str,
    /// The module's version.
    pub version: &'static str,
    /// The mount extensions that it answers, without the dot.
    pub extensions: &'static [&'static str],
    /// How its blocks travel.
    pub transport: Transport,
    /// The `Content-Type` of a response.
    pub content_type: &'static str,
    /// The video codecs that it can carry; empty when it drops video.
    pub video_codecs: &'static [Codec],
    /// The audio codecs that it can carry; empty when it drops audio.
    pub audio_codecs: &'static [Codec],
    /// The options that a mount may set.
    pub options: &'static [OptionSpec],
}

/// One option of a format. The host checks a mount's `options` table against these.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptionSpec {
    /// The key: snake_case.
    pub name: &'static str,
    /// What values it takes.
    pub kind: OptionKind,
    /// The default, written as in the config without quotes.
    pub default: &'static str,
    /// One sentence for operators.
    pub doc: &'static str,
    /// A viewer may set it in the query of the URL. Viewers with equal variants share one remuxer.
    pub variant: bool,
}

/// What values an option takes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum OptionKind {
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
    Choice(&'static [&'static str]),
    /// Any text.
    Text,
}

/// What a remuxer is made for.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Setup {
    /// The value of every option that the format declares: the viewer's, else the mount's, else the default.
    /// The host has checked them against their kinds.
    pub options: Options,
    /// What is known of the stream at this moment.
    pub stream: StreamFacts,
    /// What the predecessor's [`Remuxer::state`] said; empty for a fresh start. It may come from an older or a newer
    /// build of the module, which a leading version number tells. A state that cannot be read counts as a fresh start.
    /// Since 1.1.
    pub state: Vec<u8>,
}

impl Setup {
    /// A setup with these options and facts, for a fresh start.
    pub fn new(options: Options, stream: StreamFacts) -> Setup {
        Setup { options, stream, state: Vec::new() }
    }
}

/// What the host knows of a stream when a remuxer starts.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct StreamFacts {
    /// The codec of the video track; [`Codec::NONE`] when none was seen.
    pub video: Codec,
    /// The codec of the audio track; [`Codec::NONE`] when none was seen.
    pub audio: Codec,
    /// How long the stream has been live, in milliseconds of its own timeline. A track that was not seen for
    /// longer than the module cares to wait can be taken as absent.
    pub age_ms: u32,
}

impl StreamFacts {
    /// Facts with these values.
    pub fn new(video: Codec, audio: Codec, age_ms: u32) -> StreamFacts {
        StreamFacts { video, audio, age_ms }
    }
}

/// Option values by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(Vec<(String, String)>);

impl Options {
    /// Options with these values, written as in the config without quotes.
    pub fn new(values: Vec<(String, String)>) -> Options {
        Options(values)
    }

    /// The value as text; empty when the format declares no such option.
    pub fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The value of a [`OptionKind::Flag`].
    pub fn flag(&self, name: &str) -> bool {
        self.text(name) == "true"
    }

    /// The value of an [`OptionKind::Integer`]; 0 when the format declares no such option.
    pub fn integer(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(0)
    }

    /// All pairs, in the order in which the format declares them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

//! The traits that a module's author implements, and their data.

use crate::{Codec, RemuxError, Sink, Tag, Transport};

/// An output format.
///
/// A type, not a value: the host calls [`info`](Self::info) when it loads the module and [`remuxer`](Self::remuxer) each time a
/// mount starts for a stream.
pub trait Format: 'static {
    /// The remuxer of this format.
    type Remuxer: Remuxer;

    /// Describes the format. Called when the module is loaded and when it is inspected; must always return the same value.
    fn info() -> FormatInfo;

    /// Transports beside [`FormatInfo::transport`] over which the same remuxers are served: one remuxer then feeds the
    /// viewers of all of them. A host before 1.4 serves `FormatInfo::transport` alone. Called as [`info`](Self::info).
    /// Since 1.4.
    fn further_transports() -> &'static [Transport] {
        &[]
    }

    /// Creates a remuxer for one (stream, mount, variant).
    ///
    /// # Errors
    /// On any error the mount does not start for this stream, and its viewers get a server error.
    fn remuxer(setup: &Setup) -> Result<Self::Remuxer, RemuxError>;
}

/// Turns the tags of one stream into blocks.
///
/// The host calls from any thread of its worker pool, one call at a time for each remuxer. A call must not block, perform IO
/// or read a clock; time comes with the tags.
pub trait Remuxer: Send + 'static {
    /// Consumes one tag and pushes blocks to `sink`.
    ///
    /// The first tags replay the stream's history: metadata, sequence headers, then the current GOP from its keyframe if
    /// the stream has video. A format that declares no video codec gets audio only: the sequence header, then the frames of
    /// the mount's `fast_cache`. After that, tags arrive as they are published.
    ///
    /// # Errors
    /// Any error ends this remuxer only. The host counts it as a fault of the module and starts a new remuxer at the next
    /// keyframe; viewers stay connected. [`RemuxError::Unsupported`] is not a fault; it ends the mount for this stream.
    fn tag(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError>;

    /// Writes what is still buffered: the stream ends, or a successor takes over.
    ///
    /// # Errors
    /// As for [`tag`](Self::tag).
    fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let _ = sink;
        Ok(())
    }

    /// Returns the state that a successor needs to continue without a visible break: counters, versions, clocks. Called after
    /// [`finish`](Self::finish) when another build of the module takes over; the successor gets it as [`Setup::state`]. At
    /// most 64 KiB. Since 1.1.
    fn state(&mut self) -> Vec<u8> {
        Vec::new()
    }
}

/// The description of a format.
#[derive(Clone, Debug, PartialEq)]
pub struct FormatInfo {
    /// The module's name in `modules.load`: lower case letters, digits and `-`.
    pub name: &'static str,
    /// The module's version.
    pub version: &'static str,
    /// The mount extensions that it serves, without the dot.
    pub extensions: &'static [&'static str],
    /// The transport of its blocks; [`Format::further_transports`] adds others.
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
    /// The values that it takes.
    pub kind: OptionKind,
    /// The default, written as in the config without quotes.
    pub default: &'static str,
    /// One sentence for operators.
    pub doc: &'static str,
    /// Whether a viewer may set it in the query of the URL. Viewers with equal values share one remuxer.
    pub variant: bool,
}

impl OptionSpec {
    /// The option `track`, by which a viewer selects a track of a stream with several (enhanced RTMP multitrack). Since 1.5.
    pub const TRACK: OptionSpec = OptionSpec {
        name: "track",
        kind: OptionKind::Track,
        default: "0",
        doc: "The track of a stream with several: its video and audio, or that of track 0 where it has only one.",
        variant: true,
    };
}

/// The values that an option takes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum OptionKind {
    /// `true` or `false`.
    Flag,
    /// An integer between two bounds.
    Integer {
        /// Lower bound, inclusive.
        min: i64,
        /// Upper bound, inclusive.
        max: i64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any text.
    Text,
    /// The number of a track, 0 to 255, of which the remuxer gets the tags: their fields describe that track. See
    /// [`OptionSpec::TRACK`]. To a host before 1.5 it is an integer, and the remuxer gets track 0. Since 1.5.
    Track,
}

/// The options and stream of a new remuxer.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Setup {
    /// The value of each option that the format declares: the viewer's, else the mount's, else the default. The host has
    /// validated them against their kinds.
    pub options: Options,
    /// Facts about the stream at this moment.
    pub stream: StreamFacts,
    /// The state that the predecessor's [`Remuxer::state`] returned; empty for a fresh start. It may come from an older or a
    /// newer build of the module, so begin it with a version number. Treat a state that cannot be read as a fresh start.
    /// Since 1.1.
    pub state: Vec<u8>,
}

impl Setup {
    /// Creates a setup for a fresh start.
    pub fn new(options: Options, stream: StreamFacts) -> Setup {
        Setup { options, stream, state: Vec::new() }
    }
}

/// Facts about a stream when a remuxer starts.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct StreamFacts {
    /// The codec of the video track; [`Codec::NONE`] if the stream has none so far, or no longer. Since 1.5 the publisher has
    /// sent a frame of it that can be decoded; before, a sequence header was enough.
    pub video: Codec,
    /// The codec of the audio track, as `video`.
    pub audio: Codec,
    /// Time that the publisher has sent media, in milliseconds of the stream's timeline. A track that was not seen for longer
    /// than the module waits for one is absent.
    pub age_ms: u32,
}

impl StreamFacts {
    /// Creates facts with these values.
    pub fn new(video: Codec, audio: Codec, age_ms: u32) -> StreamFacts {
        StreamFacts { video, audio, age_ms }
    }
}

/// Option values by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(Vec<(String, String)>);

impl Options {
    /// Creates options from pairs of name and value, written as in the config without quotes.
    pub fn new(values: Vec<(String, String)>) -> Options {
        Options(values)
    }

    /// Returns the value as text; empty if the format declares no such option.
    pub fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Returns the value of an [`OptionKind::Flag`].
    pub fn flag(&self, name: &str) -> bool {
        self.text(name) == "true"
    }

    /// Returns the value of an [`OptionKind::Integer`] or [`OptionKind::Track`]; 0 if the format declares no such option.
    pub fn integer(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(0)
    }

    /// Returns all pairs of name and value, in the order in which the format declares them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

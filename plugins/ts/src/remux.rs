//! The TS remuxer: tags of a stream in, blocks of an endless transport stream out.
//!
//! Invariants:
//! - the program map is correct from the start, since players wait for a stream that it names and may never look for one that
//!   it does not. So all output waits until both tracks are configured (by a sequence header, or for MP3 by a frame), at
//!   most for [`HEADER_WAIT`];
//! - a track that starts later, ends, or changes its codec causes a new version of the program map, and a changed stream type
//!   has another PID. A new sequence header of the same codec (another resolution) does not: its parameter sets are written
//!   before the next picture;
//! - video starts at a keyframe, and again after a change of its codec;
//! - DTS and PTS are the tags' plus one constant.
//!
//! Dropped, with one line in the log: codecs without a mapping here (AV1, VP9, VVC, FLAC), AAC that ADTS cannot carry (xHE-AAC, low
//! delay), malformed access units, and audio frames too long for a PES packet. If all that the stream has is such AAC, it
//! is [`Unsupported`](RemuxError::Unsupported). A republish (`discontinuity` of a tag) needs no action: the host's timeline
//! and so the program clock continue, and the next picture is a keyframe.
//!
//! Deviations: a PTS before the DTS (negative composition offsets of some encoders) is raised to the DTS. Of several
//! tracks of a kind (enhanced RTMP multitrack) track 0 is carried: the program has one stream of each.

use remuxd_bitstream::aac::AudioSpecificConfig;
use remuxd_bitstream::opus::OpusHead;
use remuxd_plugin_api::{
    Codec, OptionKind, OptionSpec, Packet, RemuxError, Remuxer, Setup, Sink, Tag, TagKind, log,
};

use crate::audio::{AudioConfig, OPUS_STEREO};
use crate::metered::Metered;
use crate::mux::{Mux, Unit};
use crate::pes::MAX_PAYLOAD;
use crate::psi::Program;
use crate::video::VideoConfig;

/// The supported video codecs.
pub const VIDEO_CODECS: &[Codec] = &[Codec::H264, Codec::HEVC];

/// The supported audio codecs.
pub const AUDIO_CODECS: &[Codec] = &[Codec::AAC, Codec::MP3, Codec::OPUS];

/// Option: time that the program map waits for a second track, in milliseconds on the stream's timeline.
pub const HEADER_WAIT: &str = "header_wait";

/// The options of the module.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: HEADER_WAIT,
        kind: OptionKind::Integer { min: 0, max: 10_000 },
        default: "500",
        doc: "How long the program map waits for a second track, in milliseconds.",
        variant: false,
    },
    OptionSpec::TRACK,
];

/// The reason for dropping a codec.
const NO_MAPPING: &str = "no mapping to transport streams is implemented";

/// Limits on the tags that wait for the program map, whatever their timestamps.
const MAX_HELD_TAGS: usize = 1_000;
const MAX_HELD_BYTES: usize = 16 << 20;

/// Cost of the output that the held tags may cause beside their own bytes. Tags beyond it are dropped. Those of an encoder stay far
/// below; tiny keyframes, each with long parameter sets, or gaps between times, each full of clock references, do not. Leaves room
/// for one more tag in the 1 MiB that a host allows at least for a call.
const MAX_START_OUTPUT: usize = 640 << 10;

/// Bound of times, to which others are clamped, so that sums of two do not overflow.
const FARTHEST: i64 = 1 << 52;

/// The state of a track.
#[derive(Debug)]
struct Track<C> {
    /// Whether the host or a tag has named the track, so that the program map waits for it longer.
    expected: bool,
    /// The decoder configuration, once known.
    config: Option<C>,
    /// Whether the program map names the track.
    listed: bool,
    /// The codec that was dropped, with a line in the log.
    dropped: Codec,
    /// Whether the log line about malformed access units was written.
    warned: bool,
}

impl<C> Track<C> {
    fn new(codec: Codec) -> Track<C> {
        Track {
            expected: codec != Codec::NONE,
            config: None,
            listed: false,
            dropped: Codec::NONE,
            warned: false,
        }
    }

    /// Returns whether the program map need not wait for this track. `waited` is the time waited so far, `full` the limit for an
    /// expected track and `rest` for others, all in milliseconds.
    fn is_settled(&self, waited: i64, full: i64, rest: i64) -> bool {
        self.config.is_some()
            || self.dropped != Codec::NONE
            || waited >= if self.expected { full } else { rest }
    }

    fn drop_codec(&mut self, codec: Codec, why: &dyn std::fmt::Display) {
        self.config = None;
        self.listed = false;
        if codec != self.dropped {
            self.dropped = codec;
            log::warn(&format!("codec {codec} is dropped: {why}"));
        }
    }

    /// Returns whether the track is neither carried nor expected.
    fn is_absent(&self) -> bool {
        self.dropped != Codec::NONE || !self.expected
    }

    /// Writes a log line, once for the track.
    fn warn_once(&mut self, what: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.warned, true) {
            log::warn(&format!("dropped: {what}"));
        }
    }
}

/// The remuxer of one stream to a transport stream.
#[derive(Debug)]
pub struct TsRemuxer {
    video: Track<VideoConfig>,
    audio: Track<AudioConfig>,
    /// Whether a keyframe of the current video codec was seen.
    keyframe_seen: bool,
    /// The newest parameter sets as a byte stream: those of the sequence header, or of a picture after it.
    parameter_sets: Vec<u8>,
    /// Whether parameter sets have changed since they were last written.
    sets_due: bool,
    header_wait: i64,
    /// Time to wait for a track that is not expected, in milliseconds.
    rest_of_wait: i64,
    /// Whether tables were written.
    started: bool,
    /// Tags that wait for the tables.
    held: Vec<Tag>,
    held_bytes: usize,
    mux: Mux,
}

impl TsRemuxer {
    /// Creates a remuxer for the stream of `setup`.
    pub fn new(setup: &Setup) -> TsRemuxer {
        let wait = setup.options.integer(HEADER_WAIT);
        let resumed = Mux::resume(&setup.state);
        let started = resumed.is_some();
        let mut mux = resumed.unwrap_or_default();
        if !started && !setup.state.is_empty() {
            mux.restart();
        }
        let mut remuxer = TsRemuxer {
            video: Track::new(setup.stream.video),
            audio: Track::new(setup.stream.audio),
            keyframe_seen: false,
            parameter_sets: Vec::new(),
            sets_due: true,
            header_wait: wait,
            // The stream's age counts towards the wait for a track that it has not sent.
            rest_of_wait: wait - i64::from(setup.stream.age_ms).min(wait),
            started,
            held: Vec::new(),
            held_bytes: 0,
            mux,
        };
        remuxer.video.listed = remuxer.mux.program().video.is_some();
        remuxer.audio.listed = remuxer.mux.program().audio.is_some();
        remuxer
    }

    /// Updates the configuration of the tag's track.
    fn describe(&mut self, tag: &Tag) {
        if tag.kind == TagKind::VIDEO { self.describe_video(tag) } else { self.describe_audio(tag) }
    }

    fn describe_video(&mut self, tag: &Tag) {
        self.video.expected = true;
        if !VIDEO_CODECS.contains(&tag.codec) {
            return self.video.drop_codec(tag.codec, &NO_MAPPING);
        }
        self.video.dropped = Codec::NONE;
        let same_codec = self.video.config.as_ref().is_some_and(|config| config.codec == tag.codec);
        if tag.packet != Packet::SEQUENCE_HEADER {
            return;
        }
        match VideoConfig::parse(tag.codec, &tag.data()) {
            Ok(config) if self.video.config == config => {}
            Ok(config) => {
                self.parameter_sets =
                    config.as_ref().map_or_else(Vec::new, |config| config.parameter_sets.clone());
                self.video.config = config;
                self.sets_due = true;
                self.keyframe_seen &= same_codec;
            }
            Err(truncated) => self.video.warn_once(&truncated),
        }
    }

    fn describe_audio(&mut self, tag: &Tag) {
        self.audio.expected = true;
        if !AUDIO_CODECS.contains(&tag.codec) {
            return self.audio.drop_codec(tag.codec, &NO_MAPPING);
        }
        if tag.codec != self.audio.dropped {
            self.audio.dropped = Codec::NONE;
        }
        let data = tag.data();
        let header = tag.packet == Packet::SEQUENCE_HEADER;
        let config = match tag.codec {
            Codec::AAC if header => match AudioSpecificConfig::parse(&data) {
                Ok(config) => match config.adts_header(0) {
                    Ok(_) => Some(AudioConfig::Aac(config)),
                    Err(error) => return self.audio.drop_codec(tag.codec, &error),
                },
                Err(error) => return self.audio.warn_once(&error),
            },
            Codec::AAC => match self.audio.config {
                Some(AudioConfig::Aac(_)) => return,
                // The configuration is of another codec, and that of AAC has not arrived.
                _ => None,
            },
            Codec::OPUS if header => match OpusHead::parse(&data) {
                Ok(head) => Some(AudioConfig::of_opus(&head)),
                Err(error) => return self.audio.warn_once(&error),
            },
            Codec::OPUS => match self.audio.config {
                Some(AudioConfig::Opus(_)) => return,
                _ => Some(OPUS_STEREO),
            },
            _ => match (AudioConfig::of_mpeg_frame(&data), &self.audio.config) {
                (Some(config), _) => Some(config),
                // The rest of a frame keeps the current stream type.
                (None, Some(AudioConfig::Mpeg { .. })) => return,
                (None, _) => None,
            },
        };
        if config.is_some() {
            self.audio.dropped = Codec::NONE;
        }
        self.audio.config = config;
    }

    /// # Errors
    /// All that the stream has is AAC that ADTS cannot carry. The host decides all cases that depend on the codec alone.
    fn check_carries(&self) -> Result<(), RemuxError> {
        let codec = self.audio.dropped;
        let unsupported = AUDIO_CODECS.contains(&codec) && self.video.is_absent();
        if unsupported { Err(RemuxError::Unsupported(codec)) } else { Ok(()) }
    }

    /// Holds `tag` until the tracks are known.
    fn hold(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        self.describe(tag);
        self.held_bytes += tag.payload.len();
        self.held.push(tag.clone());
        let waited = self.held.first().map_or(0, |first| time(tag) - time(first));
        let known = self.video.config.is_some() || self.audio.config.is_some();
        let settled = self.video.is_settled(waited, self.header_wait, self.rest_of_wait)
            && self.audio.is_settled(waited, self.header_wait, self.rest_of_wait);
        if settled {
            self.check_carries()?;
        }
        let full = self.held.len() >= MAX_HELD_TAGS || self.held_bytes >= MAX_HELD_BYTES;
        if known && settled || full { self.start(sink) } else { Ok(()) }
    }

    fn start(&mut self, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        self.started = true;
        self.held_bytes = 0;
        let held = std::mem::take(&mut self.held);
        self.video.listed = self.video.config.is_some();
        self.audio.listed = self.audio.config.is_some();
        self.mux.expect_lag(lag(&held));
        let (mut sink, mut limit) = (Metered::new(sink), MAX_START_OUTPUT);
        for tag in &held {
            limit += tag.payload.len();
            if sink.cost() <= limit {
                self.write(tag, &mut sink)?;
            } else {
                self.describe(tag);
                self.keyframe_seen &= tag.kind != TagKind::VIDEO;
            }
        }
        Ok(())
    }

    /// Writes a tag, after the tables.
    fn write(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        self.describe(tag);
        if tag.packet != Packet::CODED_FRAME {
            return Ok(());
        }
        if tag.kind == TagKind::VIDEO { self.write_picture(tag, sink) } else { self.write_frame(tag, sink) }
    }

    fn write_picture(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let (data, dts) = (tag.data(), time(tag));
        let Some(config) = self.video.config.as_ref().filter(|config| config.codec == tag.codec) else {
            return self.mux.pass(dts, sink);
        };
        let picture = match config.read(&data, tag.keyframe) {
            Ok(Some(picture)) => picture,
            Ok(None) => return self.mux.pass(dts, sink),
            Err(error) => {
                self.video.warn_once(&error);
                return self.mux.pass(dts, sink);
            }
        };
        if let Some(sets) = picture.parameter_sets() {
            self.parameter_sets = sets;
        }
        let random_access = picture.random_access;
        if !random_access && !self.keyframe_seen {
            return self.mux.pass(dts, sink);
        }
        self.keyframe_seen = true;
        self.video.listed = true;
        self.mux.set_program(program(&self.video, &self.audio, self.mux.program()));
        let pts = dts + tag.composition_offset.0.clamp(0, FARTHEST);
        let pieces = picture.pieces(&self.parameter_sets, std::mem::take(&mut self.sets_due));
        self.mux.write(Unit { video: true, random_access, dts, pts, pieces }, sink)
    }

    fn write_frame(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let (data, dts) = (tag.data(), time(tag));
        let prefix = match &self.audio.config {
            // An empty message means silence.
            Some(config) if !data.is_empty() => config.prefix(&data),
            _ => return self.mux.pass(dts, sink),
        };
        // Some publishers send the rest of a frame by itself, at which no decoder may start.
        let random_access = tag.codec != Codec::MP3 || AudioConfig::of_mpeg_frame(&data).is_some();
        let prefix = match prefix {
            Ok(prefix) => prefix,
            Err(error) => {
                self.audio.warn_once(&error);
                return self.mux.pass(dts, sink);
            }
        };
        let len = prefix.len() + data.len();
        if len > MAX_PAYLOAD {
            self.audio.warn_once(&format_args!("an audio frame of {len} bytes is too long for a PES packet"));
            return self.mux.pass(dts, sink);
        }
        self.audio.listed = true;
        self.mux.set_program(program(&self.video, &self.audio, self.mux.program()));
        let pieces = [&prefix[..], &data].into_iter();
        self.mux.write(Unit { video: false, random_access, dts, pts: dts, pieces }, sink)
    }
}

/// Returns the program for the tables. A track that they name and whose configuration has not arrived stays as it is: a successor
/// knows it from its predecessor.
fn program(video: &Track<VideoConfig>, audio: &Track<AudioConfig>, named: Program) -> Program {
    let video_stream = video.config.as_ref().map(|config| config.stream);
    let audio_stream = audio.config.as_ref().map(AudioConfig::stream);
    Program {
        video: if video.listed { video_stream.or(named.video) } else { None },
        audio: if audio.listed { audio_stream.or(named.audio) } else { None },
    }
}

/// Returns the maximum distance of an access unit behind the newest DTS, in milliseconds.
fn lag(tags: &[Tag]) -> i64 {
    let times = tags.iter().filter(|tag| tag.packet == Packet::CODED_FRAME).map(time);
    let lags = times.scan(i64::MIN, |newest, time| {
        *newest = time.max(*newest);
        Some(*newest - time)
    });
    lags.max().unwrap_or(0)
}

fn time(tag: &Tag) -> i64 {
    tag.dts.0.clamp(-FARTHEST, FARTHEST)
}

impl Remuxer for TsRemuxer {
    fn tag(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let media = matches!(tag.kind, TagKind::AUDIO | TagKind::VIDEO);
        if !media || !matches!(tag.packet, Packet::SEQUENCE_HEADER | Packet::CODED_FRAME) {
            return Ok(());
        }
        if tag.discontinuity {
            self.mux.restart();
        }
        self.mux.video_absent = tag.tracks.video() == Some(false);
        if !self.started {
            return self.hold(tag, sink);
        }
        self.write(tag, sink)?;
        self.check_carries()
    }

    fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        if self.started { Ok(()) } else { self.start(sink) }
    }

    fn state(&mut self) -> Vec<u8> {
        self.mux.state()
    }
}

#[cfg(test)]
mod tests;

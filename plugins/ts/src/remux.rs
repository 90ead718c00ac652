//! The TS remuxer: tags of a stream in, blocks of a transport stream without an end out.
//!
//! Invariants:
//! - the program map tells the truth from the start, since players wait for a stream that it names, or never look again
//!   for one that it does not. So all waits until both tracks are known and described (by a sequence header, or for
//!   MP3 a frame), or for [`HEADER_WAIT`];
//! - a track that comes later, goes, or changes its codec, gives the program map a new version. A new sequence header of
//!   the same codec (another resolution) does not: its parameter sets go before the next picture;
//! - video begins at a keyframe, and again after a change of its codec;
//! - DTS and PTS are the tags', plus one constant.
//!
//! Left out, with one line in the log: codecs that have no mapping here (AV1, VP9, VVC, FLAC..), AAC that ADTS cannot carry
//! (xHE-AAC, low delay), access units that cannot be read, audio frames that no PES packet has room for. When such AAC is
//! all there is, the stream is [`Unsupported`](RemuxError::Unsupported). A repeated start of the publisher (`discontinuity`
//! of a tag) needs nothing: the host's timeline goes on, the next picture is a keyframe, and so is the program clock's.
//!
//! Deviations: where a picture's PTS would be before its DTS (negative composition offsets of some encoders) it is the
//! DTS. Of several tracks of a kind (enhanced RTMP multitrack) track 0 is carried: the program has one stream of each.

use remuxd_bitstream::aac::AudioSpecificConfig;
use remuxd_bitstream::opus::OpusHead;
use remuxd_plugin_api::{
    Codec, OptionKind, OptionSpec, Packet, RemuxError, Remuxer, Setup, Sink, Tag, TagKind, log,
};

use crate::audio::{AudioConfig, OPUS_STEREO};
use crate::mux::{Mux, Unit};
use crate::pes::MAX_PAYLOAD;
use crate::psi::Program;
use crate::video::VideoConfig;

/// The video codecs that are carried.
pub const VIDEO_CODECS: &[Codec] = &[Codec::H264, Codec::HEVC];

/// The audio codecs that are carried.
pub const AUDIO_CODECS: &[Codec] = &[Codec::AAC, Codec::MP3, Codec::OPUS];

/// How long the program map waits for a second track, in milliseconds of the stream's time.
pub const HEADER_WAIT: &str = "header_wait";

/// The options of the module.
pub const OPTIONS: &[OptionSpec] = &[OptionSpec {
    name: HEADER_WAIT,
    kind: OptionKind::Integer { min: 0, max: 10_000 },
    default: "500",
    doc: "How long the program map waits for a second track, in milliseconds.",
    variant: false,
}];

/// Why a codec is left out.
const NO_PLACE: &str = "it has no place in a transport stream here";

/// Tags held for the program map are bounded, whatever their timestamps say.
const MAX_HELD_TAGS: usize = 1_000;
const MAX_HELD_BYTES: usize = 16 << 20;

/// Times further off the timeline's start than this are taken as this: no sum of two leaves 64 bits.
const FARTHEST: i64 = 1 << 52;

/// What is known of a track.
#[derive(Debug)]
struct Track<C> {
    /// The host or a tag has named it, so that it is worth waiting for.
    expected: bool,
    /// How a decoder is set up.
    config: Option<C>,
    /// The program map names it.
    listed: bool,
    /// The codec that the log says is left out.
    left_out: Codec,
    /// The log says that this track has access units that cannot be read.
    complained: bool,
}

impl<C> Track<C> {
    fn new(codec: Codec) -> Track<C> {
        Track {
            expected: codec != Codec::NONE,
            config: None,
            listed: false,
            left_out: Codec::NONE,
            complained: false,
        }
    }

    /// Whether its description, if one comes, can be waited for no longer. `waited` is how long everything has waited,
    /// `full` and `rest` how long for a track that is expected, and for one that is not.
    fn is_settled(&self, waited: i64, full: i64, rest: i64) -> bool {
        self.config.is_some()
            || self.left_out != Codec::NONE
            || waited >= if self.expected { full } else { rest }
    }

    fn leave_out(&mut self, codec: Codec, why: &dyn std::fmt::Display) {
        self.config = None;
        self.listed = false;
        if codec != self.left_out {
            self.left_out = codec;
            log::warn(&format!("codec {codec} is left out: {why}"));
        }
    }

    /// There is nothing to carry, nor to wait for.
    fn is_nothing(&self) -> bool {
        self.left_out != Codec::NONE || !self.expected
    }

    /// One line for the operator; the next ones would say the same.
    fn complain(&mut self, what: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.complained, true) {
            log::warn(&format!("left out: {what}"));
        }
    }
}

/// Makes a transport stream of one stream.
#[derive(Debug)]
pub struct TsRemuxer {
    video: Track<VideoConfig>,
    audio: Track<AudioConfig>,
    /// A keyframe of the current video codec was seen.
    keyframe_seen: bool,
    /// Parameter sets have changed since they were last written.
    sets_due: bool,
    header_wait: i64,
    /// How long to wait for a track that nobody has named.
    rest_of_wait: i64,
    /// The tables are out.
    started: bool,
    /// What waits for them.
    held: Vec<Tag>,
    held_bytes: usize,
    mux: Mux,
}

impl TsRemuxer {
    /// A remuxer for the stream of `setup`.
    pub fn new(setup: &Setup) -> TsRemuxer {
        let wait = setup.options.integer(HEADER_WAIT);
        let resumed = Mux::resume(&setup.state);
        let started = resumed.is_some();
        let mux = resumed.unwrap_or_default();
        let mut remuxer = TsRemuxer {
            video: Track::new(setup.stream.video),
            audio: Track::new(setup.stream.audio),
            keyframe_seen: false,
            sets_due: true,
            header_wait: wait,
            // A track that an older stream has not shown is not there.
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

    /// Takes in what `tag` says of its track.
    fn describe(&mut self, tag: &Tag) {
        if tag.kind == TagKind::VIDEO { self.describe_video(tag) } else { self.describe_audio(tag) }
    }

    fn describe_video(&mut self, tag: &Tag) {
        self.video.expected = true;
        if !VIDEO_CODECS.contains(&tag.codec) {
            return self.video.leave_out(tag.codec, &NO_PLACE);
        }
        self.video.left_out = Codec::NONE;
        let same_codec = self.video.config.as_ref().is_some_and(|config| config.codec() == tag.codec);
        if tag.packet != Packet::SEQUENCE_HEADER {
            return;
        }
        match VideoConfig::parse(tag.codec, &tag.data()) {
            Ok(Some(config))
                if self.video.config.as_ref().is_some_and(|known| known.says_the_same(&config)) => {}
            Ok(config) => {
                self.video.config = config;
                self.sets_due = true;
                self.keyframe_seen &= same_codec;
            }
            Err(truncated) => self.video.complain(&truncated),
        }
    }

    fn describe_audio(&mut self, tag: &Tag) {
        self.audio.expected = true;
        if !AUDIO_CODECS.contains(&tag.codec) {
            return self.audio.leave_out(tag.codec, &NO_PLACE);
        }
        if tag.codec != self.audio.left_out {
            self.audio.left_out = Codec::NONE;
        }
        let data = tag.data();
        let header = tag.packet == Packet::SEQUENCE_HEADER;
        let config = match tag.codec {
            Codec::AAC if header => match AudioSpecificConfig::parse(&data) {
                Ok(config) => match config.adts_header(0) {
                    Ok(_) => Some(AudioConfig::Aac(config)),
                    Err(error) => return self.audio.leave_out(tag.codec, &error),
                },
                Err(error) => return self.audio.complain(&error),
            },
            Codec::AAC => match self.audio.config {
                Some(AudioConfig::Aac(_)) => return,
                // Another codec's is of no use, and its own has not come.
                _ => None,
            },
            Codec::OPUS if header => match OpusHead::parse(&data) {
                Ok(head) => Some(AudioConfig::of_opus(&head)),
                Err(error) => return self.audio.complain(&error),
            },
            Codec::OPUS => match self.audio.config {
                Some(AudioConfig::Opus(_)) => return,
                _ => Some(OPUS_STEREO),
            },
            _ => match (AudioConfig::of_mpeg_frame(&data), &self.audio.config) {
                (Some(config), _) => Some(config),
                // The rest of a frame: goes on under the stream type that it has.
                (None, Some(AudioConfig::Mpeg { .. })) => return,
                (None, _) => None,
            },
        };
        if config.is_some() {
            self.audio.left_out = Codec::NONE;
        }
        self.audio.config = config;
    }

    /// # Errors
    /// Nothing is left but AAC that ADTS cannot carry. What the codecs tell by themselves is for the host to judge.
    fn check_carries(&self) -> Result<(), RemuxError> {
        let codec = self.audio.left_out;
        let nothing = AUDIO_CODECS.contains(&codec) && self.video.is_nothing();
        if nothing { Err(RemuxError::Unsupported(codec)) } else { Ok(()) }
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
        held.iter().try_for_each(|tag| self.write(tag, sink))
    }

    /// A tag, once the tables may be written.
    fn write(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        self.describe(tag);
        if tag.packet != Packet::CODED_FRAME {
            return Ok(());
        }
        if tag.kind == TagKind::VIDEO { self.write_picture(tag, sink) } else { self.write_frame(tag, sink) }
    }

    fn write_picture(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let (data, dts) = (tag.data(), time(tag));
        let of_codec = |config: &VideoConfig| config.codec() == tag.codec;
        if let Some(config) = self.video.config.as_mut().filter(|config| of_codec(config)) {
            config.keep_sets(&data);
        }
        let Some(config) = self.video.config.as_ref().filter(|config| of_codec(config)) else {
            return self.mux.pass(dts, sink);
        };
        let picture = match config.picture(&data, tag.keyframe, self.sets_due) {
            Ok(Some(picture)) if picture.random_access || self.keyframe_seen => picture,
            Ok(_) => return self.mux.pass(dts, sink),
            Err(overrun) => {
                self.video.complain(&overrun);
                return self.mux.pass(dts, sink);
            }
        };
        self.keyframe_seen = true;
        self.sets_due = false;
        self.video.listed = true;
        self.mux.set_program(program(&self.video, &self.audio, self.mux.program()));
        let pts = dts + tag.composition_offset.0.clamp(0, FARTHEST);
        let random_access = picture.random_access;
        self.mux.write(&Unit { video: true, random_access, dts, pts, pieces: picture.pieces }, sink)
    }

    fn write_frame(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let (data, dts) = (tag.data(), time(tag));
        let prefix = match &self.audio.config {
            // A message of no length is silence.
            Some(config) if !data.is_empty() => config.prefix(&data),
            _ => return self.mux.pass(dts, sink),
        };
        // Not the rest of a frame, as some publishers send it.
        let random_access = tag.codec != Codec::MP3 || AudioConfig::of_mpeg_frame(&data).is_some();
        let prefix = match prefix {
            Ok(prefix) => prefix,
            Err(error) => {
                self.audio.complain(&error);
                return self.mux.pass(dts, sink);
            }
        };
        let len = prefix.len() + data.len();
        if len > MAX_PAYLOAD {
            self.audio.complain(&format_args!("no PES packet has room for an audio frame of {len} bytes"));
            return self.mux.pass(dts, sink);
        }
        self.audio.listed = true;
        self.mux.set_program(program(&self.video, &self.audio, self.mux.program()));
        let pieces = vec![&prefix[..], &data];
        self.mux.write(&Unit { video: false, random_access, dts, pts: dts, pieces }, sink)
    }
}

/// What the tables should say. A track that they name, and that is not described yet, stays as they have it: a
/// successor knows it from its predecessor.
fn program(video: &Track<VideoConfig>, audio: &Track<AudioConfig>, named: Program) -> Program {
    let video_stream = video.config.as_ref().map(|config| config.stream);
    let audio_stream = audio.config.as_ref().map(AudioConfig::stream);
    Program {
        video: if video.listed { video_stream.or(named.video) } else { None },
        audio: if audio.listed { audio_stream.or(named.audio) } else { None },
    }
}

/// How far behind the newest DTS an access unit comes, at most.
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

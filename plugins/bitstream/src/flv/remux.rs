//! The FLV remuxer: tags of a stream in, blocks of an endless FLV file out.
//!
//! A viewer that joins gets the file header, `onMetaData`, the audio and the video sequence header, then the stream from a
//! keyframe (FLV 10.1, E.2 to E.4; the order is SRS's). Payloads are passed on shared.
//!
//! Invariants:
//! - the file header's flags, and `hasAudio` and `hasVideo` of the metadata, name the tracks that the host reports or that
//!   have sent a decodable frame: players wait for a track that is announced (mpegts.js, flv.js) and ignore one that is not.
//!   So the header of a stream that has just begun is delayed until both tracks have one, at most for [`HEADER_WAIT`]. Video
//!   that the publisher's metadata announce is trusted for [`VIDEO_WAIT`], so that audio before it is not delayed;
//! - a track that starts later, ends or changes its codec causes another header, which ends the responses that began with the
//!   old one: players would ignore, await or misread the track. So does another sequence header of video when one of the last
//!   two pictures is a keyframe: mpegts.js 1.8 and flv.js 1.6 would decode it with the new header, and stop with an error;
//! - a frame is written if it decodes: after its sequence header, and pictures from a keyframe on, also after a change of
//!   the sequence header. Empty frames, which mean silence, are dropped. So are bodies that exceed a tag's 24-bit length
//!   because their header was rewritten (an RTMP message never does), with a line in the log;
//! - while the host reports no video ([`Tracks`](remuxd_plugin_api::Tracks)), every audio frame is a join point.
//!
//! A successor continues in the middle of the file: the header has been sent, its tracks are announced, and the configurations
//! that it writes equal the predecessor's byte for byte, so that the host need not send them to current viewers again.
//!
//! Metadata have the timestamp 0, also in mid-stream, since players take others for subtitles.
//!
//! Deviations: HEVC is passed on as published, or rewritten to the form that the viewer's player reads ([`HEVC_FORM`]):
//! FFmpeg before 6.1 reads neither, later versions only the enhanced form, many players only the legacy one. Colour
//! metadata, which FFmpeg 9 sends, are passed on only on request: mpegts.js 1.8.2 stops at them. It stops at the
//! MultichannelConfig of audio too, but decoders may need that, so it is left out only on request, and for one or two channels,
//! where it says nothing new. Enhanced H.264, AAC and
//! MP3 are written in the legacy form, which every player reads and mpegts.js requires; it has no MultichannelConfig. AV1 is passed on unchanged, though
//! mpegts.js 1.8.2 drops one or two frames before each of its keyframes, which it buffers while it starts a new MSE segment
//! (and Chromium may stop at a gap of two); no form of the tag prevents that. Of several tracks (enhanced RTMP multitrack)
//! the one that the viewer selects is passed on as the only one, since few FLV players read several; ModEx is dropped.

mod forms;
mod track;

use remuxd_plugin_api::{
    Block, BlockFlags, Codec, Millis, OptionKind, OptionSpec, Packet, RemuxError, Remuxer, Setup,
    SharedBytes, Sink, Tag, TagKind, log,
};

use super::{Announcement, Metadata, codec_id, file_header, tag_header};
use forms::{Forms, Rewrite};
use track::Track;

/// The video codecs that FLV has a name for, legacy or enhanced.
pub const VIDEO_CODECS: &[Codec] =
    &[Codec::H264, Codec::HEVC, Codec::VVC, Codec::AV1, Codec::VP9, Codec::VP8, Codec::H263, Codec::VP6];

/// The audio codecs that FLV has a name for, legacy or enhanced.
pub const AUDIO_CODECS: &[Codec] = &[
    Codec::AAC,
    Codec::MP3,
    Codec::OPUS,
    Codec::FLAC,
    Codec::AC3,
    Codec::EAC3,
    Codec::SPEEX,
    Codec::ALAW,
    Codec::ULAW,
    Codec::NELLYMOSER,
    Codec::PCM,
];

/// Option: the form in which HEVC is written.
pub const HEVC_FORM: &str = "hevc";

/// Option: whether colour metadata of enhanced RTMP are passed on.
pub const COLOR_INFO: &str = "color_info";

/// Option: whether the MultichannelConfig of audio is passed on.
pub const MULTICHANNEL: &str = "multichannel_config";

/// Option: time that the file header waits for a second track, in milliseconds on the stream's timeline.
pub const HEADER_WAIT: &str = "header_wait";

/// The options of both FLV modules.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: HEVC_FORM,
        kind: OptionKind::Choice(&["as_published", "legacy", "enhanced"]),
        default: "as_published",
        doc: "How HEVC is written: codec id 12 (legacy), FourCC hvc1 (enhanced), or as the publisher sent it.",
        variant: true,
    },
    OptionSpec {
        name: COLOR_INFO,
        kind: OptionKind::Flag,
        default: "false",
        doc: "Whether colour metadata (HDR) are passed on; mpegts.js 1.8 stops at them.",
        variant: true,
    },
    OptionSpec {
        name: MULTICHANNEL,
        kind: OptionKind::Flag,
        default: "true",
        doc: "Whether MultichannelConfig, the layout of more than two channels, is passed on; mpegts.js 1.8 stops at it.",
        variant: true,
    },
    OptionSpec {
        name: HEADER_WAIT,
        kind: OptionKind::Integer { min: 0, max: 10_000 },
        default: "500",
        doc: "How long the file header waits for a second track, in milliseconds.",
        variant: false,
    },
    OptionSpec::TRACK,
];

/// Age of a stream up to which video that its metadata announce may still begin, in milliseconds.
const VIDEO_WAIT: i64 = 10_000;

/// Limits on the tags that wait for the header, whatever their timestamps.
const MAX_HELD_TAGS: usize = 1_000;
const MAX_HELD_BYTES: usize = 16 << 20;

/// The largest body that a tag's 24-bit length can state.
const MAX_BODY: usize = (1 << 24) - 1;

/// Timestamp of metadata, wherever they are: FFmpeg, and with it VLC and mpv, takes metadata of another time for the first
/// subtitle of a new track.
const METADATA_TIMESTAMP: u32 = 0;

/// The first byte of a state.
const STATE_VERSION: u8 = 2;

/// Tracks of `CONFIG` blocks; viewers that join get them in this order.
const METADATA: u8 = 0;
const AUDIO_CONFIG: u8 = 1;
const VIDEO_CONFIG: u8 = 2;
const VIDEO_METADATA: u8 = 3;
const AUDIO_METADATA: u8 = 4;

/// The remuxer of one stream to FLV.
#[derive(Debug)]
pub struct FlvRemuxer {
    forms: Forms,
    /// The number of the track of the stream.
    selected: i64,
    audio: Track,
    video: Track,
    /// Whether the file header was written.
    started: bool,
    /// Tags that wait for the file header.
    held: Vec<Tag>,
    held_bytes: usize,
    /// DTS of the first frame.
    first_frame: Option<Millis>,
    /// Age of the stream at the first frame, in milliseconds.
    age: i64,
    metadata: Metadata,
    /// Whether a predecessor wrote the file so far, and this remuxer has yet to write header and metadata for viewers that join.
    resumed: bool,
    /// Whether the host reports that the stream has no video at present. Then every audio frame is a join point.
    video_absent: bool,
    /// Whether the log line about an oversized body was written.
    warned: bool,
}

impl FlvRemuxer {
    /// Creates a remuxer for the stream of `setup`.
    pub fn new(setup: &Setup) -> FlvRemuxer {
        let (wait, age) = (setup.options.integer(HEADER_WAIT), i64::from(setup.stream.age_ms));
        FlvRemuxer {
            forms: Forms::new(&setup.options),
            selected: setup.options.integer(OptionSpec::TRACK.name),
            audio: Track::new(setup.stream.audio, age, wait),
            video: Track::new(setup.stream.video, age, wait),
            started: false,
            held: Vec::new(),
            held_bytes: 0,
            first_frame: None,
            age,
            metadata: Metadata::default(),
            resumed: false,
            video_absent: false,
            warned: false,
        }
        .resume(&setup.state)
    }

    /// Continues from a predecessor's `state`, if it can be read.
    fn resume(mut self, state: &[u8]) -> FlvRemuxer {
        let Some((&[STATE_VERSION, flags], rest)) = state.split_first_chunk() else { return self };
        let Some((&audio, rest)) = rest.split_first_chunk() else { return self };
        let Some((&video, rest)) = rest.split_first_chunk() else { return self };
        if !rest.is_empty() {
            return self;
        }
        for (track, codec, shift) in [(&mut self.audio, audio, 0), (&mut self.video, video, 2)] {
            track.codec = Codec(u32::from_be_bytes(codec));
            (track.named, track.written) = (track.codec, track.codec);
            track.seen = flags >> shift & 1 != 0;
            (track.announced, track.expected) = (track.seen, false);
            track.enhanced = flags >> shift & 2 != 0;
        }
        (self.started, self.resumed) = (true, true);
        self
    }

    fn track(&mut self, kind: TagKind) -> Option<&mut Track> {
        match kind {
            TagKind::AUDIO => Some(&mut self.audio),
            TagKind::VIDEO => Some(&mut self.video),
            _ => None,
        }
    }

    /// Drops the announced tracks that the stream has no longer. Returns whether there were any.
    fn drops_tracks(&mut self, tag: &Tag) -> bool {
        let age = self.waited(tag.dts).map_or(0, |waited| waited.saturating_add(self.age));
        let audio = self.audio.ends(tag.tracks.audio(), false);
        let video = self.video.ends(tag.tracks.video(), age >= VIDEO_WAIT);
        audio || video
    }

    /// Returns the milliseconds since the first frame.
    fn waited(&self, dts: Millis) -> Option<i64> {
        self.first_frame.map(|first| dts.0.saturating_sub(first.0))
    }

    /// Holds a tag until the file header is written.
    fn hold(&mut self, tag: &Tag) {
        if tag.packet == Packet::CODED_FRAME && self.first_frame.is_none() {
            self.first_frame = Some(tag.dts);
            self.video.expected |= self.age < VIDEO_WAIT && self.metadata.announces_video();
        }
        self.held_bytes += tag.payload.len();
        self.held.push(tag.clone());
    }

    /// Forgets what is held of a track whose codec or sequence header changes, so that the file begins with the newest.
    fn forget_held(&mut self, kind: TagKind) {
        self.held.retain(|held| held.kind != kind);
        self.held_bytes = self.held.iter().map(|held| held.payload.len()).sum();
        if let Some(track) = self.track(kind) {
            track.seen = false;
        }
    }

    /// Returns whether the header need not wait longer. `dts` is the newest tag's.
    fn may_start(&self, dts: Millis) -> bool {
        let waited = self.waited(dts);
        let enough =
            |track: &Track| waited.is_some_and(|waited| track.seen || track.expected || waited >= track.wait);
        enough(&self.audio) && enough(&self.video)
            || self.held.len() >= MAX_HELD_TAGS
            || self.held_bytes >= MAX_HELD_BYTES
    }

    fn start(&mut self, dts: Millis, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        self.started = true;
        self.held_bytes = 0;
        self.write_start(dts, sink)?;
        for tag in std::mem::take(&mut self.held) {
            self.write(&tag, sink)?;
        }
        Ok(())
    }

    /// Writes the file header and the metadata, for the tracks seen or expected so far.
    fn write_start(&mut self, dts: Millis, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let [audio, video] = [&mut self.audio, &mut self.video].map(|track| {
            track.announced = track.seen || track.expected;
            track.announced
        });
        self.resumed = false;
        sink.block(Block {
            flags: BlockFlags::PREAMBLE,
            track: 0,
            dts,
            parts: vec![file_header(audio, video).to_vec().into()],
        })?;
        self.write_metadata(dts, sink)
    }

    fn write_metadata(&mut self, dts: Millis, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        (self.audio.named, self.video.named) = (self.audio.codec, self.video.codec);
        let (audio, video) = (self.announcement(&self.audio), self.announcement(&self.video));
        let body = self.metadata.body(audio, video, self.selected);
        let times = Times { dts, timestamp: METADATA_TIMESTAMP };
        write_tag(TagKind::SCRIPT, times, Vec::new(), body.into(), (BlockFlags::CONFIG, METADATA), sink)
    }

    /// Writes a tag, preceded by the announcement of its track if the file header does not name it yet.
    fn write(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let Some(track) = self.track(tag.kind) else {
            return self.write_body(tag, Vec::new(), tag.payload.clone(), MEDIA, sink);
        };
        if track.changes_codec(tag) || track.strands_keyframe(tag) {
            self.write_start(tag.dts, sink)?;
        } else if track.is_unnamed() {
            self.write_metadata(tag.dts, sink)?;
        } else if !track.announced {
            match tag.packet {
                Packet::CODED_FRAME => {}
                Packet::SEQUENCE_END => return Ok(()),
                _ => {
                    track.unannounced.retain(|older| older.packet != tag.packet);
                    track.unannounced.push(tag.clone());
                    return Ok(());
                }
            }
            // Also a frame that was held when the host reported the end of its track.
            track.seen = true;
            let unannounced = std::mem::take(&mut track.unannounced);
            self.write_start(tag.dts, sink)?;
            for tag in &unannounced {
                self.write_media(tag, sink)?;
            }
        }
        self.write_media(tag, sink)
    }

    /// Writes a tag of a track that is announced.
    fn write_media(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let video = tag.kind == TagKind::VIDEO;
        let role = match tag.packet {
            Packet::SEQUENCE_HEADER => (BlockFlags::CONFIG, if video { VIDEO_CONFIG } else { AUDIO_CONFIG }),
            Packet::METADATA => (BlockFlags::CONFIG, if video { VIDEO_METADATA } else { AUDIO_METADATA }),
            Packet::CODED_FRAME if video && tag.keyframe => JOIN,
            Packet::CODED_FRAME if !video && (self.video_absent || !self.video.seen) => JOIN,
            _ => MEDIA,
        };
        if let Some(track) = self.track(tag.kind) {
            track.on_written(tag);
        }
        let (header, body) = match self.forms.rewrite(tag) {
            Rewrite::Keep => (Vec::new(), tag.payload.clone()),
            Rewrite::Header(header) => (header, tag.data()),
            Rewrite::Drop => return Ok(()),
        };
        self.write_body(tag, header, body, role, sink)
    }

    /// Writes a tag's codec header and body. If they are too long for an FLV tag, drops them and the pictures that depend on them.
    fn write_body(
        &mut self,
        tag: &Tag,
        header: Vec<u8>,
        body: SharedBytes,
        role: (BlockFlags, u8),
        sink: &mut dyn Sink,
    ) -> Result<(), RemuxError> {
        let len = header.len() + body.len();
        if len <= MAX_BODY {
            return write_tag(tag.kind, tag.dts.into(), header, body, role, sink);
        }
        if let Some(track) = self.track(tag.kind) {
            track.decodes = false;
        }
        if !std::mem::replace(&mut self.warned, true) {
            log::warn(&format!("dropped: a body of {len} bytes exceeds the maximum of an FLV tag"));
        }
        Ok(())
    }

    /// Returns the description of a track for the metadata.
    fn announcement(&self, track: &Track) -> Announcement {
        let enhanced = self.forms.is_enhanced(track.codec, track.enhanced);
        Announcement { present: track.announced, codec_id: codec_id(track.codec, enhanced) }
    }
}

const MEDIA: (BlockFlags, u8) = (BlockFlags::NONE, 0);
const JOIN: (BlockFlags, u8) = (BlockFlags::JOIN, 0);

/// The time of a block, and the timestamp of the tag in it.
struct Times {
    dts: Millis,
    timestamp: u32,
}

impl From<Millis> for Times {
    fn from(dts: Millis) -> Times {
        // Timestamps have 32 bits: after 49.7 days of one remuxer they wrap.
        Times { dts, timestamp: dts.0 as u32 }
    }
}

/// Writes one FLV tag as one block: the tag header, the codec's `header`, `body`, and the size. Both together are at most
/// [`MAX_BODY`] bytes.
fn write_tag(
    kind: TagKind,
    Times { dts, timestamp }: Times,
    header: Vec<u8>,
    body: SharedBytes,
    (flags, track): (BlockFlags, u8),
    sink: &mut dyn Sink,
) -> Result<(), RemuxError> {
    let len = header.len() + body.len();
    let mut start = tag_header(kind, len as u32, timestamp).to_vec();
    let size = (start.len() + len) as u32;
    start.extend(header);
    let parts = vec![start.into(), body, size.to_be_bytes().to_vec().into()];
    sink.block(Block { flags, track, dts, parts })?;
    Ok(())
}

impl Remuxer for FlvRemuxer {
    fn tag(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        self.video_absent = tag.tracks.video() == Some(false);
        let is_metadata = (tag.kind, tag.packet) == (TagKind::SCRIPT, Packet::METADATA);
        if is_metadata {
            self.metadata = Metadata::parse(&tag.payload);
        }
        if self.resumed {
            self.write_start(tag.dts, sink)?;
        } else if self.started && is_metadata {
            self.write_metadata(tag.dts, sink)?;
        }
        if is_metadata {
            return Ok(());
        }
        if self.drops_tracks(tag) && self.started {
            self.write_start(tag.dts, sink)?;
        }
        if !self.started && self.track(tag.kind).is_some_and(|track| track.begins_anew(tag)) {
            self.forget_held(tag.kind);
        }
        if self.track(tag.kind).is_some_and(|track| !track.takes(tag)) {
            return Ok(());
        }
        if self.started {
            return self.write(tag, sink);
        }
        self.hold(tag);
        if self.may_start(tag.dts) {
            let first = self.held.first().map_or(tag.dts, |first| first.dts);
            self.start(first, sink)?;
        }
        Ok(())
    }

    fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        match self.held.first().map(|first| first.dts) {
            Some(dts) if !self.started && self.first_frame.is_some() => self.start(dts, sink),
            _ => Ok(()),
        }
    }

    fn state(&mut self) -> Vec<u8> {
        if !self.started {
            return Vec::new();
        }
        let flags = |track: &Track| u8::from(track.announced) | u8::from(track.enhanced) << 1;
        let mut state = vec![STATE_VERSION, flags(&self.audio) | flags(&self.video) << 2];
        state.extend(self.audio.codec.0.to_be_bytes());
        state.extend(self.video.codec.0.to_be_bytes());
        state
    }
}

#[cfg(test)]
mod tests;

//! The FLV remuxer: tags of a stream in, blocks of an FLV file without an end out.
//!
//! A joiner gets the file header, `onMetaData`, the audio and the video sequence header, then the stream from a
//! keyframe (FLV 10.1, E.2 to E.4; the order is SRS's). Payloads are passed on shared.
//!
//! Invariants:
//! - the file header's flags, and `hasAudio` and `hasVideo` of the metadata, name the tracks that have a frame which
//!   decodes: players wait for a track that is announced (mpegts.js, flv.js) or ignore one that is not. So the header
//!   is held until both tracks have one, or for [`HEADER_WAIT`];
//! - a track that comes later still is passed on, after new metadata; new viewers get a header with its flag;
//! - a frame goes out if it decodes: after its sequence header, and pictures from a keyframe on, also when the sequence
//!   header changes. Frames of nothing, which stand for silence, are left out; so is what is too long for a tag's 24 bits
//!   once it has another header (a message of RTMP never is), with a line in the log;
//! - without video, or in a gap of it, every audio frame is a place to join; after a gap video begins at a keyframe.
//!
//! A successor goes on in the middle of the file: the header is out, its tracks are announced, and the configurations that it
//! writes are those of before, to the byte, so that viewers need not have them again.
//!
//! Deviations: HEVC is passed on as published, or rewritten to the form that the viewer's player reads ([`HEVC_FORM`]):
//! FFmpeg before 6.1 knows neither, later ones the enhanced form only, many players the legacy one only. Colour
//! metadata, which FFmpeg 9 sends, are passed on when asked for only: mpegts.js 1.8.2 ends at them. Enhanced H.264,
//! AAC and MP3 are written in the legacy form, which every player reads, mpegts.js none else. AV1 goes out as it is, though
//! mpegts.js 1.8.2 loses the one or two frames before each of its keyframes, which it holds back while it begins a new MSE
//! segment (and Chromium may stop at a gap of two): no tag keeps it from that. Of several tracks (enhanced RTMP multitrack)
//! track 0 is passed on, since no FLV player reads the others; ModEx is left out.

use remuxd_plugin_api::{
    Block, BlockFlags, Codec, Millis, OptionKind, OptionSpec, Packet, RemuxError, Remuxer, Setup,
    SharedBytes, Sink, Tag, TagKind, log,
};

use super::{
    Announcement, TagHeader, clean_metadata, codec_id, enhanced_audio_header, enhanced_video_header,
    file_header, legacy_audio_header, legacy_video_header, tag_header,
};

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

/// How HEVC is written.
pub const HEVC_FORM: &str = "hevc";

/// Whether colour metadata of enhanced RTMP are passed on.
pub const COLOR_INFO: &str = "color_info";

/// How long the file header waits for a second track, in milliseconds of the stream's time.
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
        name: HEADER_WAIT,
        kind: OptionKind::Integer { min: 0, max: 10_000 },
        default: "500",
        doc: "How long the file header waits for a second track, in milliseconds.",
        variant: false,
    },
];

/// Tags held for the header are bounded, whatever their timestamps say.
const MAX_HELD_TAGS: usize = 1_000;
const MAX_HELD_BYTES: usize = 16 << 20;

/// Without a video frame for this long, every audio frame is a place to join.
const VIDEO_GONE: i64 = 10_000;

/// The largest body that a tag's 24-bit size can tell.
const MAX_BODY: usize = (1 << 24) - 1;

/// The first byte of a state.
const STATE_VERSION: u8 = 1;

/// Configurations by track; joiners get them in this order.
const METADATA: u8 = 0;
const AUDIO_CONFIG: u8 = 1;
const VIDEO_CONFIG: u8 = 2;
const VIDEO_METADATA: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    AsPublished,
    Legacy,
    Enhanced,
}

/// Makes FLV of one stream.
#[derive(Debug)]
pub struct FlvRemuxer {
    hevc: Form,
    color_info: bool,
    audio: Track,
    video: Track,
    /// The file header is out.
    started: bool,
    /// What waits for it.
    held: Vec<Tag>,
    held_bytes: usize,
    /// When the first frame came.
    first_frame: Option<Millis>,
    metadata: Option<SharedBytes>,
    /// The time of the last metadata that went out.
    metadata_time: Millis,
    /// A predecessor wrote the file so far; this one has not written its header and metadata for joiners yet.
    resumed: bool,
    last_video: Millis,
    /// The log says that something was left out.
    complained: bool,
}

/// The audio or the video of the stream.
#[derive(Debug, Default)]
struct Track {
    /// How long the file header waits for its first frame, in milliseconds of the stream's time.
    wait: i64,
    codec: Codec,
    /// Its newest tag was an enhanced one.
    enhanced: bool,
    /// The data of the newest sequence header of this codec.
    configuration: Option<SharedBytes>,
    /// A decoder that has the configuration can go on with the next frame.
    decodes: bool,
    /// A frame that decodes has come.
    seen: bool,
    /// The newest file header names it.
    announced: bool,
    /// The sequence header and metadata of a track that no file header names yet, the newest of each.
    unannounced: Vec<Tag>,
}

impl Track {
    /// A track of which the host knows the codec, or [`Codec::NONE`], in a stream of this age.
    fn new(codec: Codec, age: i64, wait: i64) -> Track {
        // A track that an older stream has not shown is not there.
        let wait = if codec == Codec::NONE { (wait - age).max(0) } else { wait };
        Track { wait, ..Track::default() }
    }

    /// Whether the tag goes out: whether a decoder has a use for it.
    fn takes(&mut self, tag: &Tag) -> bool {
        let changes_codec = tag.codec != self.codec;
        self.enhanced = TagHeader::parse(tag.kind, &tag.payload).enhanced;
        match tag.packet {
            Packet::SEQUENCE_HEADER => {
                let data = tag.data();
                if changes_codec || self.configuration.as_deref() != Some(&*data) {
                    self.decodes = false;
                }
                (self.codec, self.configuration) = (tag.codec, Some(data));
                true
            }
            Packet::CODED_FRAME => {
                if tag.data_len == 0 {
                    return false;
                }
                if changes_codec {
                    (self.codec, self.configuration, self.decodes) = (tag.codec, None, false);
                }
                let configured = self.configuration.is_some() || !needs_configuration(tag.codec);
                self.decodes |= configured && (tag.keyframe || tag.kind == TagKind::AUDIO);
                self.seen |= self.decodes;
                self.decodes
            }
            Packet::METADATA | Packet::SEQUENCE_END => true,
            // Tracks beside the first, and what this format has no meaning for.
            _ => false,
        }
    }
}

/// Whether frames of the codec mean nothing without a sequence header.
fn needs_configuration(codec: Codec) -> bool {
    matches!(codec, Codec::H264 | Codec::HEVC | Codec::VVC | Codec::AAC)
}

impl FlvRemuxer {
    /// A remuxer for the stream of `setup`.
    pub fn new(setup: &Setup) -> FlvRemuxer {
        let hevc = match setup.options.text(HEVC_FORM) {
            "legacy" => Form::Legacy,
            "enhanced" => Form::Enhanced,
            _ => Form::AsPublished,
        };
        let (wait, age) = (setup.options.integer(HEADER_WAIT), i64::from(setup.stream.age_ms));
        FlvRemuxer {
            hevc,
            color_info: setup.options.flag(COLOR_INFO),
            audio: Track::new(setup.stream.audio, age, wait),
            video: Track::new(setup.stream.video, age, wait),
            started: false,
            held: Vec::new(),
            held_bytes: 0,
            first_frame: None,
            metadata: None,
            metadata_time: Millis(0),
            resumed: false,
            last_video: Millis(0),
            complained: false,
        }
        .resume(&setup.state)
    }

    /// Goes on where a predecessor's `state` was taken, if it says anything that can be read.
    fn resume(mut self, state: &[u8]) -> FlvRemuxer {
        let Some((&[STATE_VERSION, flags], rest)) = state.split_first_chunk() else { return self };
        let Some((&audio, rest)) = rest.split_first_chunk() else { return self };
        let Some((&video, rest)) = rest.split_first_chunk() else { return self };
        let Ok(time) = rest.try_into() else { return self };
        for (track, codec, shift) in [(&mut self.audio, audio, 0), (&mut self.video, video, 2)] {
            track.codec = Codec(u32::from_be_bytes(codec));
            track.seen = flags >> shift & 1 != 0;
            track.announced = track.seen;
            track.enhanced = flags >> shift & 2 != 0;
        }
        self.metadata_time = Millis(i64::from_be_bytes(time));
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

    /// Whether the header has waited long enough. `dts` is of the newest tag.
    fn may_start(&self, dts: Millis) -> bool {
        let waited = self.first_frame.map(|first| dts.0 - first.0);
        let enough = |track: &Track| track.seen || waited.is_some_and(|waited| waited >= track.wait);
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

    /// The file header and the metadata, for the tracks seen by now.
    fn write_start(&mut self, dts: Millis, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        (self.audio.announced, self.video.announced) = (self.audio.seen, self.video.seen);
        (self.metadata_time, self.resumed) = (dts, false);
        let (audio, video) = (self.audio.seen, self.video.seen);
        sink.block(Block {
            flags: BlockFlags::PREAMBLE,
            track: 0,
            dts,
            parts: vec![file_header(audio, video).to_vec().into()],
        })?;
        let body = clean_metadata(
            self.metadata.as_deref(),
            self.announcement(&self.audio),
            self.announcement(&self.video),
        );
        write_tag(TagKind::SCRIPT, dts, Vec::new(), body.into(), (BlockFlags::CONFIG, METADATA), sink)
    }

    /// A tag that is taken, after the file header; before it what announces its track.
    fn write(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let Some(track) = self.track(tag.kind) else {
            return write_tag(tag.kind, tag.dts, Vec::new(), tag.payload.clone(), MEDIA, sink);
        };
        if !track.announced {
            if tag.packet != Packet::CODED_FRAME {
                track.unannounced.retain(|older| older.packet != tag.packet);
                track.unannounced.push(tag.clone());
                return Ok(());
            }
            let unannounced = std::mem::take(&mut track.unannounced);
            self.write_start(tag.dts, sink)?;
            for tag in unannounced.iter().filter(|tag| tag.packet != Packet::SEQUENCE_END) {
                self.write_media(tag, sink)?;
            }
        }
        self.write_media(tag, sink)
    }

    /// A tag of a track that is announced.
    fn write_media(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let video = tag.kind == TagKind::VIDEO;
        let role = match tag.packet {
            Packet::SEQUENCE_HEADER => (BlockFlags::CONFIG, if video { VIDEO_CONFIG } else { AUDIO_CONFIG }),
            Packet::METADATA => (BlockFlags::CONFIG, VIDEO_METADATA),
            Packet::CODED_FRAME if video => {
                self.last_video = tag.dts;
                if tag.keyframe { JOIN } else { MEDIA }
            }
            Packet::CODED_FRAME if !self.video.announced || tag.dts.0 - self.last_video.0 > VIDEO_GONE => {
                // Who joins here can decode no video before its next keyframe.
                self.video.decodes = false;
                JOIN
            }
            _ => MEDIA,
        };
        let (header, body) = match self.rewritten_header(tag) {
            Rewrite::Keep => (Vec::new(), tag.payload.clone()),
            Rewrite::Header(header) => (header, tag.data()),
            Rewrite::Drop => return Ok(()),
        };
        let len = header.len() + body.len();
        if len > MAX_BODY {
            self.leave_out(tag.kind, len);
            return Ok(());
        }
        write_tag(tag.kind, tag.dts, header, body, role, sink)
    }

    /// No FLV tag has room for a body of `len` bytes. Pictures that need it are of no use.
    fn leave_out(&mut self, kind: TagKind, len: usize) {
        if let Some(track) = self.track(kind) {
            track.decodes = false;
        }
        if !std::mem::replace(&mut self.complained, true) {
            log::warn(&format!("left out: no FLV tag has room for a body of {len} bytes"));
        }
    }

    /// What the tag's own header becomes.
    fn rewritten_header(&self, tag: &Tag) -> Rewrite {
        let header = TagHeader::parse(tag.kind, &tag.payload);
        let video = tag.kind == TagKind::VIDEO;
        let form = self.form(header.codec);
        match form {
            _ if header.packet == Packet::METADATA && !self.color_info => Rewrite::Drop,
            Form::Legacy if header.enhanced => {
                let legacy = if video { legacy_video_header(&header) } else { legacy_audio_header(&header) };
                legacy.map_or(Rewrite::Drop, Rewrite::Header)
            }
            Form::Enhanced if !header.enhanced => Rewrite::Header(enhanced_video_header(&header)),
            _ if header.wrapped && video => Rewrite::Header(enhanced_video_header(&header)),
            _ if header.wrapped => Rewrite::Header(enhanced_audio_header(&header)),
            _ => Rewrite::Keep,
        }
    }

    /// The form that tags of a codec are written in.
    fn form(&self, codec: Codec) -> Form {
        match codec {
            Codec::HEVC => self.hevc,
            Codec::H264 | Codec::AAC | Codec::MP3 => Form::Legacy,
            _ => Form::AsPublished,
        }
    }

    /// What metadata say of a track.
    fn announcement(&self, track: &Track) -> Announcement {
        let enhanced = match self.form(track.codec) {
            Form::AsPublished => track.enhanced,
            form => form == Form::Enhanced,
        };
        Announcement { present: track.announced, codec_id: codec_id(track.codec, enhanced) }
    }
}

enum Rewrite {
    Keep,
    Header(Vec<u8>),
    Drop,
}

const MEDIA: (BlockFlags, u8) = (BlockFlags::NONE, 0);
const JOIN: (BlockFlags, u8) = (BlockFlags::JOIN, 0);

/// One FLV tag as one block: its header with `header` of the codec, `body`, its size.
fn write_tag(
    kind: TagKind,
    dts: Millis,
    header: Vec<u8>,
    body: SharedBytes,
    (flags, track): (BlockFlags, u8),
    sink: &mut dyn Sink,
) -> Result<(), RemuxError> {
    let len = header.len() + body.len();
    if len > MAX_BODY {
        return Err(RemuxError::Malformed { what: "FLV tag of 16 MiB or more", offset: 0 });
    }
    // Players read 32 bits: after 49.7 days of one remuxer they wrap.
    let mut start = tag_header(kind, len as u32, dts.0 as u32).to_vec();
    let size = (start.len() + len) as u32;
    start.extend(header);
    let parts = vec![start.into(), body, size.to_be_bytes().to_vec().into()];
    sink.block(Block { flags, track, dts, parts })?;
    Ok(())
}

impl Remuxer for FlvRemuxer {
    fn tag(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        if (tag.kind, tag.packet) == (TagKind::SCRIPT, Packet::METADATA) {
            self.metadata = Some(tag.payload.clone());
            let time = if self.resumed { tag.dts.max(self.metadata_time) } else { tag.dts };
            return if self.started { self.write_start(time, sink) } else { Ok(()) };
        }
        if self.resumed {
            self.write_start(tag.dts.max(self.metadata_time), sink)?;
        }
        if self.track(tag.kind).is_some_and(|track| !track.takes(tag)) {
            return Ok(());
        }
        if self.started {
            return self.write(tag, sink);
        }
        if tag.packet == Packet::CODED_FRAME {
            self.first_frame.get_or_insert(tag.dts);
        }
        self.held_bytes += tag.payload.len();
        self.held.push(tag.clone());
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
        state.extend(self.metadata_time.0.to_be_bytes());
        state
    }
}

#[cfg(test)]
mod tests;

//! The FLV remuxer: tags of a stream in, blocks of an FLV file without an end out.
//!
//! A joiner gets the file header, `onMetaData`, the audio and the video sequence header, then the stream from a
//! keyframe (FLV 10.1, E.2 to E.4; the order is SRS's). Payloads are passed on shared.
//!
//! Invariants:
//! - the file header's flags, and `hasAudio` and `hasVideo` of the metadata, tell the truth: players wait for a track
//!   that is announced (mpegts.js, flv.js) or ignore one that is not. So the header is held until both tracks are
//!   known, or for [`HEADER_WAIT`];
//! - a track that comes later still is passed on, after new metadata; new viewers get a header with its flag;
//! - video begins at a keyframe, and so does video that comes back after a gap; without video, or in such a gap, every
//!   audio frame is a place to join.
//!
//! Deviations: HEVC is passed on as published, or rewritten to the form that the viewer's player reads ([`HEVC_FORM`]):
//! FFmpeg before 6.1 knows neither, later ones the enhanced form only, many players the legacy one only. Colour
//! metadata, which FFmpeg 9 sends, are passed on when asked for only: mpegts.js 1.8.2 ends at them. Of several
//! tracks (enhanced RTMP multitrack) track 0 is passed on, since no FLV player reads the others.

use remuxd_plugin_api::{
    Block, BlockFlags, Codec, Millis, OptionKind, OptionSpec, Packet, RemuxError, Remuxer, Setup,
    SharedBytes, Sink, Tag, TagKind,
};

use super::{
    TagHeader, clean_metadata, enhanced_audio_header, enhanced_video_header, file_header, legacy_hevc_header,
    tag_header,
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

/// Configurations by track; joiners get them in this order.
const METADATA: u8 = 0;
const AUDIO_CONFIG: u8 = 1;
const VIDEO_CONFIG: u8 = 2;
const VIDEO_METADATA: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HevcForm {
    AsPublished,
    Legacy,
    Enhanced,
}

/// Makes FLV of one stream.
#[derive(Debug)]
pub struct FlvRemuxer {
    hevc: HevcForm,
    color_info: bool,
    header_wait: i64,
    has_audio: bool,
    has_video: bool,
    /// The file header is out.
    started: bool,
    /// What waits for it.
    held: Vec<Tag>,
    held_bytes: usize,
    metadata: Option<SharedBytes>,
    keyframe_seen: bool,
    last_video: Millis,
}

impl FlvRemuxer {
    /// A remuxer for the stream of `setup`.
    pub fn new(setup: &Setup) -> FlvRemuxer {
        let hevc = match setup.options.text(HEVC_FORM) {
            "legacy" => HevcForm::Legacy,
            "enhanced" => HevcForm::Enhanced,
            _ => HevcForm::AsPublished,
        };
        let wait = setup.options.integer(HEADER_WAIT);
        FlvRemuxer {
            hevc,
            color_info: setup.options.flag(COLOR_INFO),
            // A track that an older stream has not shown is not there.
            header_wait: wait - i64::from(setup.stream.age_ms).min(wait),
            has_audio: setup.stream.audio != Codec::NONE,
            has_video: setup.stream.video != Codec::NONE,
            started: false,
            held: Vec::new(),
            held_bytes: 0,
            metadata: None,
            keyframe_seen: false,
            last_video: Millis(0),
        }
    }

    /// Whether the header has waited long enough. `dts` is of the newest tag.
    fn may_start(&self, dts: Millis) -> bool {
        let waited = self.held.first().map_or(0, |first| dts.0 - first.dts.0);
        self.has_audio && self.has_video
            || waited >= self.header_wait && (self.has_audio || self.has_video)
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

    /// The file header and the metadata, for the tracks known now.
    fn write_start(&self, dts: Millis, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        sink.block(Block {
            flags: BlockFlags::PREAMBLE,
            track: 0,
            dts,
            parts: vec![file_header(self.has_audio, self.has_video).to_vec().into()],
        })?;
        let body = clean_metadata(self.metadata.as_deref(), self.has_audio, self.has_video);
        write_tag(TagKind::SCRIPT, dts, Vec::new(), body.into(), (BlockFlags::CONFIG, METADATA), sink)
    }

    /// A media tag, after the header.
    fn write(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let known = match tag.kind {
            TagKind::AUDIO => &mut self.has_audio,
            TagKind::VIDEO => &mut self.has_video,
            _ => return write_tag(tag.kind, tag.dts, Vec::new(), tag.payload.clone(), MEDIA, sink),
        };
        if !*known {
            *known = true;
            self.write_start(tag.dts, sink)?;
        }
        let video = tag.kind == TagKind::VIDEO;
        let role = match tag.packet {
            Packet::SEQUENCE_HEADER => (BlockFlags::CONFIG, if video { VIDEO_CONFIG } else { AUDIO_CONFIG }),
            Packet::METADATA => (BlockFlags::CONFIG, VIDEO_METADATA),
            Packet::CODED_FRAME if video => {
                self.keyframe_seen |= tag.keyframe;
                if !self.keyframe_seen {
                    return Ok(());
                }
                self.last_video = tag.dts;
                if tag.keyframe { JOIN } else { MEDIA }
            }
            Packet::CODED_FRAME if !self.has_video || tag.dts.0 - self.last_video.0 > VIDEO_GONE => {
                // Who joins here can decode no video before its next keyframe.
                self.keyframe_seen = false;
                JOIN
            }
            _ => MEDIA,
        };
        match self.rewritten_header(tag) {
            Rewrite::Keep => write_tag(tag.kind, tag.dts, Vec::new(), tag.payload.clone(), role, sink),
            Rewrite::Header(header) => write_tag(tag.kind, tag.dts, header, tag.data(), role, sink),
            Rewrite::Drop => Ok(()),
        }
    }

    /// What the tag's own header becomes.
    fn rewritten_header(&self, tag: &Tag) -> Rewrite {
        let header = TagHeader::parse(tag.kind, &tag.payload);
        let video = tag.kind == TagKind::VIDEO;
        let form = if header.codec == Codec::HEVC { self.hevc } else { HevcForm::AsPublished };
        match form {
            _ if header.packet == Packet::METADATA && !self.color_info => Rewrite::Drop,
            HevcForm::Legacy if header.packet == Packet::METADATA => Rewrite::Drop,
            HevcForm::Legacy if header.enhanced => Rewrite::Header(legacy_hevc_header(&header)),
            HevcForm::Enhanced if !header.enhanced => Rewrite::Header(enhanced_video_header(&header)),
            _ if header.multitrack && video => Rewrite::Header(enhanced_video_header(&header)),
            _ if header.multitrack => Rewrite::Header(enhanced_audio_header(&header)),
            _ => Rewrite::Keep,
        }
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
        match (tag.kind, tag.packet) {
            (TagKind::SCRIPT, Packet::METADATA) => {
                self.metadata = Some(tag.payload.clone());
                return if self.started { self.write_start(tag.dts, sink) } else { Ok(()) };
            }
            // Tracks beside the first, and what this format has no meaning for.
            (TagKind::AUDIO | TagKind::VIDEO, Packet::OTHER) => return Ok(()),
            _ => {}
        }
        if self.started {
            return self.write(tag, sink);
        }
        match tag.kind {
            TagKind::AUDIO => self.has_audio = true,
            TagKind::VIDEO => self.has_video = true,
            _ => {}
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
            Some(dts) if !self.started => self.start(dts, sink),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use remuxd_plugin_api::{Options, StreamFacts};

    use super::super::read_file;
    use super::*;
    use crate::amf0::{self, Budget, Value};

    /// Kind, time and body of a tag.
    type Input = (TagKind, i64, &'static [u8]);

    const A: TagKind = TagKind::AUDIO;
    const V: TagKind = TagKind::VIDEO;
    const AAC_CONFIG: &[u8] = b"\xaf\x00\x12\x10";
    const AAC: &[u8] = b"\xaf\x01audio";
    const AVC_CONFIG: &[u8] = b"\x17\x00\0\0\0avcC";
    const AVC_KEY: &[u8] = b"\x17\x01\0\0\x28key";
    const AVC_INTER: &[u8] = b"\x27\x01\0\0\0inter";
    const META: &[u8] = b"\x02\x00\x0aonMetaData\x08\0\0\0\x01\x00\x05width\x00\x40\x84\0\0\0\0\0\0\0\0\x09";

    fn tag(kind: TagKind, dts: i64, body: &[u8]) -> Tag {
        let header = TagHeader::parse(kind, body);
        let mut tag = Tag::new(kind, Millis(dts), body.to_vec().into());
        tag.codec = header.codec;
        tag.packet = header.packet;
        tag.keyframe = header.keyframe;
        tag.composition_offset = header.composition_offset;
        tag.data_offset = header.data_offset;
        tag.data_len = header.data_len;
        tag
    }

    fn remuxer(hevc: &str, facts: StreamFacts) -> FlvRemuxer {
        let options = vec![(HEVC_FORM.into(), hevc.into()), (HEADER_WAIT.into(), "500".into())];
        FlvRemuxer::new(&Setup::new(Options::new(options), facts))
    }

    fn remux(tags: &[(TagKind, i64, &[u8])]) -> Vec<Block> {
        let mut remuxer = remuxer("as_published", StreamFacts::default());
        let mut blocks = Vec::new();
        for (kind, dts, body) in tags {
            remuxer.tag(&tag(*kind, *dts, body), &mut blocks).unwrap();
        }
        remuxer.finish(&mut blocks).unwrap();
        blocks
    }

    /// What a viewer from the start has.
    fn file(blocks: &[Block]) -> Vec<u8> {
        let first = blocks.iter().position(|block| block.flags == BlockFlags::PREAMBLE).unwrap();
        let rest = blocks.iter().filter(|block| block.flags != BlockFlags::PREAMBLE);
        std::iter::once(&blocks[first])
            .chain(rest)
            .flat_map(|block| &block.parts)
            .flat_map(|part| part.to_vec())
            .collect()
    }

    /// The media of a file: kind, timestamp, body.
    fn media(blocks: &[Block]) -> Vec<(TagKind, u32, Vec<u8>)> {
        let file = file(blocks);
        read_file(&file)
            .map(|tag| tag.unwrap())
            .filter(|tag| tag.kind != TagKind::SCRIPT)
            .map(|tag| (tag.kind, tag.timestamp, tag.body.to_vec()))
            .collect()
    }

    /// `hasAudio` and `hasVideo` of the newest metadata, which must agree with the newest file header.
    fn tracks(blocks: &[Block]) -> (bool, bool) {
        let preamble = blocks.iter().rfind(|block| block.flags == BlockFlags::PREAMBLE).unwrap();
        let flags = preamble.parts[0][4];
        let metadata =
            blocks.iter().rfind(|block| block.flags == BlockFlags::CONFIG && block.track == METADATA);
        let values = amf0::read_all(&metadata.unwrap().parts[1], &mut Budget::default()).unwrap();
        let [_, Value::EcmaArray(properties)] = &values[..] else { panic!("{values:?}") };
        let has = |name| properties.contains(&(String::from(name), Value::Boolean(true)));
        let tracks = (has("hasAudio"), has("hasVideo"));
        assert_eq!(flags, u8::from(tracks.0) << 2 | u8::from(tracks.1));
        tracks
    }

    #[test]
    fn announces_the_tracks_that_there_are() {
        for (name, tags, expected) in [
            (
                "both",
                vec![(A, 0, AAC_CONFIG), (V, 0, AVC_CONFIG), (V, 0, AVC_KEY), (A, 23, AAC)],
                (true, true),
            ),
            (
                "audio only",
                vec![(A, 0, AAC_CONFIG), (A, 0, AAC), (A, 400, AAC), (A, 600, AAC)],
                (true, false),
            ),
            ("video only", vec![(V, 0, AVC_CONFIG), (V, 0, AVC_KEY), (V, 1_000, AVC_INTER)], (false, true)),
            ("a stream that ends at once", vec![(A, 0, AAC_CONFIG), (A, 0, AAC)], (true, false)),
        ] {
            let blocks = remux(&tags);
            assert_eq!(tracks(&blocks), expected, "{name}");
            let bodies: Vec<_> =
                tags.iter().map(|(kind, dts, body)| (*kind, *dts as u32, body.to_vec())).collect();
            assert_eq!(media(&blocks), bodies, "{name}");
            assert_eq!(blocks[1].track, METADATA, "{name}: metadata comes first");
        }
    }

    #[test]
    fn holds_the_header_no_longer_than_it_must() {
        let mut blocks = Vec::new();
        let mut fresh = remuxer("as_published", StreamFacts::default());
        fresh.tag(&tag(A, 0, AAC), &mut blocks).unwrap();
        fresh.tag(&tag(A, 499, AAC), &mut blocks).unwrap();
        assert!(blocks.is_empty());
        fresh.tag(&tag(A, 500, AAC), &mut blocks).unwrap();
        assert_eq!(blocks.len(), 5);
        for facts in
            [StreamFacts::new(Codec::NONE, Codec::AAC, 500), StreamFacts::new(Codec::H264, Codec::AAC, 0)]
        {
            let mut blocks = Vec::new();
            remuxer("as_published", facts).tag(&tag(A, 0, AAC), &mut blocks).unwrap();
            assert_eq!(blocks.len(), 3, "{facts:?}");
        }
    }

    #[test]
    fn passes_a_late_track_on_after_telling_so() {
        for (late, early) in [
            (
                [(A, 600, AAC_CONFIG), (A, 600, AAC)],
                [(V, 0, AVC_CONFIG), (V, 0, AVC_KEY), (V, 550, AVC_INTER)],
            ),
            ([(V, 600, AVC_CONFIG), (V, 600, AVC_KEY)], [(A, 0, AAC_CONFIG), (A, 0, AAC), (A, 550, AAC)]),
        ] {
            let mut tags = early.to_vec();
            assert_ne!(tracks(&remux(&tags)), (true, true));
            tags.extend(late);
            let blocks = remux(&tags);
            assert_eq!(tracks(&blocks), (true, true));
            assert_eq!(media(&blocks).len(), 5);
        }
    }

    #[test]
    fn marks_where_a_viewer_may_join() {
        let flags = |tags: &[(TagKind, i64, &[u8])]| -> Vec<_> {
            remux(tags)[2..].iter().map(|block| (block.flags, block.track)).collect()
        };
        const CONFIG: BlockFlags = BlockFlags::CONFIG;
        assert_eq!(
            flags(&[(A, 0, AAC_CONFIG), (V, 0, AVC_CONFIG), (A, 0, AAC), (V, 1, AVC_KEY), (V, 2, AVC_INTER)]),
            [(CONFIG, 1), (CONFIG, 2), MEDIA, JOIN, MEDIA]
        );
        assert_eq!(flags(&[(A, 0, AAC_CONFIG), (A, 0, AAC), (A, 600, AAC)]), [(CONFIG, 1), JOIN, JOIN]);
        let mut gone = vec![(A, 0, AAC), (V, 0, AVC_KEY), (A, 23, AAC), (A, 10_001, AAC)];
        assert_eq!(flags(&gone), [MEDIA, JOIN, MEDIA, JOIN], "audio goes on alone");
        gone.extend([(V, 10_010, AVC_INTER), (A, 10_024, AAC), (V, 10_050, AVC_KEY), (A, 10_060, AAC)]);
        assert_eq!(flags(&gone)[4..], [JOIN, JOIN, MEDIA], "video comes back at a keyframe");
    }

    #[test]
    fn drops_video_before_its_first_keyframe() {
        let blocks = remux(&[(V, 0, AVC_CONFIG), (V, 0, AVC_INTER), (A, 0, AAC), (V, 40, AVC_KEY)]);
        assert_eq!(
            media(&blocks).iter().map(|(_, _, body)| &body[..]).collect::<Vec<_>>(),
            [AVC_CONFIG, AAC, AVC_KEY]
        );
    }

    #[test]
    fn cleans_metadata_and_repeats_it_when_it_changes() {
        let script = TagKind::SCRIPT;
        let blocks = remux(&[(script, 0, META), (A, 0, AAC), (V, 0, AVC_KEY), (script, 40, META)]);
        let metadata: Vec<_> = blocks.iter().filter(|block| block.flags == BlockFlags::CONFIG).collect();
        assert_eq!(metadata.len(), 2);
        assert_eq!(metadata[1].dts, Millis(40));
        assert!(metadata.iter().all(|block| block.parts[1].windows(5).any(|name| name == b"width")));
    }

    #[test]
    fn writes_hevc_in_the_form_asked_for() {
        let (legacy, enhanced): (&[Input], &[Input]) = (
            &[(V, 0, b"\x1c\x00\0\0\0hvcC"), (V, 0, b"\x1c\x01\0\0\x28key"), (V, 40, b"\x2c\x01\0\0\0inter")],
            &[(V, 0, b"\x90hvc1hvcC"), (V, 0, b"\x91hvc1\0\0\x28key"), (V, 40, b"\xa3hvc1inter")],
        );
        for (form, input, expected) in [
            ("as_published", legacy, legacy),
            ("as_published", enhanced, enhanced),
            ("legacy", legacy, legacy),
            ("legacy", enhanced, legacy),
            ("enhanced", legacy, enhanced),
            ("enhanced", enhanced, enhanced),
        ] {
            let mut remuxer = remuxer(form, StreamFacts::default());
            let mut blocks = Vec::new();
            for (kind, dts, body) in input {
                remuxer.tag(&tag(*kind, *dts, body), &mut blocks).unwrap();
            }
            remuxer.finish(&mut blocks).unwrap();
            let expected: Vec<_> =
                expected.iter().map(|(kind, dts, body)| (*kind, *dts as u32, body.to_vec())).collect();
            assert_eq!(media(&blocks), expected, "{form}");
        }
    }

    #[test]
    fn passes_colour_metadata_on_when_asked_only() {
        for (asked, passed) in [("false", 1), ("true", 2)] {
            let options = vec![(COLOR_INFO.into(), asked.into())];
            let mut remuxer = FlvRemuxer::new(&Setup::new(Options::new(options), StreamFacts::default()));
            let mut blocks = Vec::new();
            remuxer.tag(&tag(V, 0, b"\x94av01amf"), &mut blocks).unwrap();
            remuxer.tag(&tag(V, 0, b"\x91av01obu"), &mut blocks).unwrap();
            remuxer.finish(&mut blocks).unwrap();
            assert_eq!(media(&blocks).len(), passed, "{asked}");
        }
    }

    #[test]
    fn passes_track_0_of_several_on_and_no_other() {
        let blocks = remux(&[
            (V, 0, b"\x96\x13avc1\x01\0\0\x01y\x00\0\0\x03key"),
            (A, 0, b"\x95\x01Opus\x00aud"),
            (A, 0, b"\x95\x01Opus\x01other"),
        ]);
        assert_eq!(media(&blocks), [(V, 0, b"\x93avc1key".to_vec()), (A, 0, b"\x91Opusaud".to_vec())]);
    }

    #[test]
    fn passes_silence_on_and_drops_what_is_no_media() {
        let blocks = remux(&[(A, 0, b"\xaf\x01"), (A, 0, b""), (V, 0, b"\x57\x00"), (V, 0, AVC_KEY)]);
        assert_eq!(media(&blocks), [(A, 0, b"\xaf\x01".to_vec()), (V, 0, AVC_KEY.to_vec())]);
    }

    #[test]
    fn shares_payloads() {
        let mut remuxer = remuxer("enhanced", StreamFacts::new(Codec::HEVC, Codec::AAC, 0));
        let (audio, video) = (tag(A, 0, AAC), tag(V, 0, b"\x1c\x01\0\0\x28key"));
        let mut blocks = Vec::new();
        remuxer.tag(&audio, &mut blocks).unwrap();
        remuxer.tag(&video, &mut blocks).unwrap();
        assert_eq!(blocks[2].parts[1].as_ptr(), audio.payload.as_ptr());
        assert_eq!(blocks[3].parts[1].as_ptr(), video.data().as_ptr());
    }
}

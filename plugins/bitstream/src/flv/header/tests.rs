use super::*;

const A: TagKind = TagKind::AUDIO;
const V: TagKind = TagKind::VIDEO;
const HEADER: Packet = Packet::SEQUENCE_HEADER;
const FRAME: Packet = Packet::CODED_FRAME;
const END: Packet = Packet::SEQUENCE_END;

/// Name, kind, body, codec, packet, keyframe, composition offset, data.
type Row = (&'static str, TagKind, &'static [u8], Codec, Packet, bool, i64, &'static [u8]);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("aac sequence header", A, b"\xaf\x00\x12\x10", Codec::AAC, HEADER, false, 0, b"\x12\x10"),
    ("aac sequence header without data", A, b"\xaf\x00", Codec::AAC, Packet::OTHER, false, 0, b""),
    ("enhanced aac sequence header without data", A, b"\x90mp4a", Codec::AAC, Packet::OTHER, false, 0, b""),
    ("opus sequence start without data", A, b"\x90Opus", Codec::OPUS, HEADER, false, 0, b""),
    ("avc sequence header without data", V, b"\x17\x00\0\0\0", Codec::H264, Packet::OTHER, false, 0, b""),
    ("av1 sequence start without data", V, b"\x90av01", Codec::AV1, Packet::OTHER, false, 0, b""),
    ("aac frame", A, b"\xaf\x01raw", Codec::AAC, FRAME, false, 0, b"raw"),
    ("aac silence", A, b"\xaf\x01", Codec::AAC, FRAME, false, 0, b""),
    ("aac silence without a packet type", A, b"\xaf", Codec::AAC, FRAME, false, 0, b""),
    ("mp3", A, b"\x2fmp3", Codec::MP3, FRAME, false, 0, b"mp3"),
    ("mp3 at 8 kHz", A, b"\xe2mp3", Codec::MP3, FRAME, false, 0, b"mp3"),
    ("speex", A, b"\xb2s", Codec::SPEEX, FRAME, false, 0, b"s"),
    ("alaw", A, b"\x72s", Codec::ALAW, FRAME, false, 0, b"s"),
    ("opus sequence start", A, b"\x90OpusOpusHead", Codec::OPUS, HEADER, false, 0, b"OpusHead"),
    ("opus frame", A, b"\x91Opusx", Codec::OPUS, FRAME, false, 0, b"x"),
    ("opus sequence end", A, b"\x92Opus", Codec::OPUS, END, false, 0, b""),
    ("multichannel config", A, b"\x94Opusx", Codec::OPUS, Packet::METADATA, false, 0, b"x"),
    ("audio mod ex", A, b"\x97\x02abc\x01mp4ax", Codec::AAC, FRAME, false, 0, b"x"),
    ("audio of one track", A, b"\x95\x01Opus\x00x", Codec::OPUS, FRAME, false, 0, b"x"),
    ("audio of another track", A, b"\x95\x01Opus\x01x", Codec::NONE, Packet::OTHER, false, 0, b"\x95\x01Opus\x01x"),
    ("avc sequence header", V, b"\x17\x00\0\0\0cfg", Codec::H264, HEADER, false, 0, b"cfg"),
    ("avc keyframe", V, b"\x17\x01\0\0\x28nal", Codec::H264, FRAME, true, 40, b"nal"),
    ("avc inter frame", V, b"\x27\x01\xff\xff\xd8nal", Codec::H264, FRAME, false, -40, b"nal"),
    ("avc end", V, b"\x17\x02\0\0\0", Codec::H264, END, false, 0, b""),
    ("avc end without an offset", V, b"\x17\x02", Codec::H264, END, false, 0, b""),
    ("generated keyframe", V, b"\x47\x01\0\0\0n", Codec::H264, FRAME, true, 0, b"n"),
    ("command frame", V, b"\x57\x00", Codec::NONE, Packet::OTHER, false, 0, b"\x57\x00"),
    ("legacy hevc keyframe", V, b"\x1c\x01\0\0\x01nal", Codec::HEVC, FRAME, true, 1, b"nal"),
    ("sorenson", V, b"\x12x", Codec::H263, FRAME, true, 0, b"x"),
    ("unknown codec id", V, b"\x1fx", Codec::NONE, Packet::OTHER, false, 0, b"\x1fx"),
    ("hevc sequence start", V, b"\x90hvc1cfg", Codec::HEVC, HEADER, false, 0, b"cfg"),
    ("hevc coded frames", V, b"\x91hvc1\0\0\x28nal", Codec::HEVC, FRAME, true, 40, b"nal"),
    ("hevc coded frames x", V, b"\xa3hvc1nal", Codec::HEVC, FRAME, false, 0, b"nal"),
    ("hevc sequence end", V, b"\x92hvc1", Codec::HEVC, END, false, 0, b""),
    ("av1 has no offset", V, b"\x91av01obu", Codec::AV1, FRAME, true, 0, b"obu"),
    ("colour metadata", V, b"\x94hvc1amf", Codec::HEVC, Packet::METADATA, false, 0, b"amf"),
    ("mpeg2-ts sequence start", V, b"\x95av01x", Codec::AV1, Packet::OTHER, false, 0, b"x"),
    ("enhanced command frame", V, b"\xd0\x01", Codec::NONE, Packet::OTHER, false, 0, b"\xd0\x01"),
    ("video mod ex", V, b"\x97\x02abc\x03hvc1x", Codec::HEVC, FRAME, true, 0, b"x"),
    ("many tracks", V, b"\x96\x13avc1\x01\0\0\x01y\x00\0\0\x02xx", Codec::H264, FRAME, true, 0, b"xx"),
    ("many codecs", V, b"\x96\x21hvc1\x01\0\0\x01yavc1\x00\0\0\x05\0\0\x28xx", Codec::H264, FRAME, true, 40, b"xx"),
    ("a track longer than the tag", V, b"\x96\x13avc1\x00\0\0\x09x", Codec::NONE, Packet::OTHER, false, 0, b"\x96\x13avc1\x00\0\0\x09x"),
    ("metadata", TagKind::SCRIPT, b"\x02\x00\x0aonMetaData\x05", Codec::NONE, Packet::METADATA, false, 0, b"\x02\x00\x0aonMetaData\x05"),
    ("metadata as sent", TagKind::SCRIPT, b"\x02\x00\x0d@setDataFrame\x02\x00\x0aonMetaData\x05", Codec::NONE, Packet::METADATA, false, 0, b"\x02\x00\x0d@setDataFrame\x02\x00\x0aonMetaData\x05"),
    ("other script", TagKind::SCRIPT, b"\x02\x00\x01x", Codec::NONE, Packet::OTHER, false, 0, b"\x02\x00\x01x"),
    ("an empty body", A, b"", Codec::NONE, Packet::OTHER, false, 0, b""),
];

#[test]
fn reads_each_header() {
    for (name, kind, body, codec, packet, keyframe, offset, data) in ROWS {
        let header = TagHeader::parse(*kind, body);
        let found = &body[header.data_offset as usize..][..header.data_len as usize];
        assert_eq!(
            (header.codec, header.packet, header.keyframe, header.composition_offset.0, found),
            (*codec, *packet, *keyframe, *offset, *data),
            "{name}"
        );
    }
}

#[test]
fn reads_back_each_header_written() {
    for (name, kind, body, codec, packet, ..) in ROWS {
        let header = TagHeader::parse(*kind, body);
        if *packet == Packet::OTHER || *kind == TagKind::SCRIPT {
            continue;
        }
        let data = &body[header.data_offset as usize..][..header.data_len as usize];
        let forms = match *kind {
            A => [Some(enhanced_audio_header(&header)), legacy_audio_header(&header)],
            _ => [Some(enhanced_video_header(&header)), legacy_video_header(&header)],
        };
        let legacy = matches!(*codec, Codec::H264 | Codec::HEVC | Codec::AAC | Codec::MP3);
        assert!(forms[1].is_none() || legacy, "{name}");
        for form in forms.into_iter().flatten() {
            let written = [&form[..], data].concat();
            let read = TagHeader::parse(*kind, &written);
            let expected = TagHeader {
                enhanced: read.enhanced,
                wrapped: false,
                data_offset: form.len() as u32,
                ..header
            };
            assert_eq!(read, expected, "{name}");
        }
    }
}

#[test]
fn reads_each_track_of_a_multitrack_body() {
    type Found = (u8, Codec, Packet, bool, i64, &'static [u8]);
    let rows: &[(TagKind, &[u8], &[Found])] = &[
        (V, b"\x96\x01avc1\x02\0\0\x28nal", &[(2, Codec::H264, FRAME, true, 40, b"nal")]),
        (V, b"\xa6\x03hvc1\x01nal", &[(1, Codec::HEVC, FRAME, false, 0, b"nal")]),
        (V, b"\x96\x00avc1\x01cfg", &[(1, Codec::H264, HEADER, false, 0, b"cfg")]),
        (V, b"\x96\x00avc1\x01", &[(1, Codec::H264, Packet::OTHER, false, 0, b"")]),
        (A, b"\x95\x04Opus\x03x", &[(3, Codec::OPUS, Packet::METADATA, false, 0, b"x")]),
        (
            A,
            b"\x97\x02abc\x05\x21mp4a\x01\0\0\x02noOpus\0\0\0\x03yes",
            &[(1, Codec::AAC, FRAME, false, 0, b"no"), (0, Codec::OPUS, FRAME, false, 0, b"yes")],
        ),
        // Up to the one that is cut.
        (V, b"\x96\x13av01\x01\0\0\x01y\x02\0\0\x09x", &[(1, Codec::AV1, FRAME, true, 0, b"y")]),
        (V, b"\x96\x33av01\x01x", &[]),
        (V, b"\x93hvc1nal", &[]),
        (A, b"\xaf\x01raw", &[]),
    ];
    for (kind, body, expected) in rows {
        let found: Vec<Found> = TagHeader::tracks(*kind, body)
            .map(|(track, header)| {
                let data = &body[header.data_offset as usize..][..header.data_len as usize];
                (track, header.codec, header.packet, header.keyframe, header.composition_offset.0, data)
            })
            .collect();
        assert_eq!(found, *expected, "{body:x?}");
    }
}

#[test]
fn reads_no_more_tracks_than_there_are_numbers() {
    let empty = b"\x01\0\0\0".repeat(255);
    for (more, found) in [(0, true), (1, false)] {
        let body = [&b"\x96\x11av01"[..], &empty, &b"\x01\0\0\0".repeat(more), b"\x00\0\0\x01x"].concat();
        assert_eq!(TagHeader::tracks(V, &body).count(), 256);
        assert_eq!(TagHeader::parse(V, &body).packet == FRAME, found);
    }
}

#[test]
fn data_is_inside_the_body_for_every_prefix_and_every_changed_byte() {
    for (_, kind, body, ..) in ROWS {
        for end in 0..body.len() {
            check_bounds(*kind, &body[..end]);
        }
        for at in 0..body.len() {
            for value in 0..=255 {
                let mut body = body.to_vec();
                body[at] = value;
                check_bounds(*kind, &body);
            }
        }
    }
}

fn check_bounds(kind: TagKind, body: &[u8]) {
    let tracks = TagHeader::tracks(kind, body).map(|(_, header)| header);
    for header in tracks.chain([TagHeader::parse(kind, body)]) {
        assert!((header.data_offset + header.data_len) as usize <= body.len(), "{kind:?} {body:x?}");
    }
}

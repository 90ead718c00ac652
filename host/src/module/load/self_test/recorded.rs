//! Recordings: half a second of each codec, which sequences repeat as often as needed.
//!
//! `recorded/make-recorded` made the files. Each starts with a picture or frame that decodes alone, and video has two
//! groups of six pictures, so that it can be cut at every sixth.

use bytes::Bytes;
use remuxd_bitstream::flv::{TagHeader, legacy_video_header, read_file};

use crate::media::{Codec, Packet, TagKind};

/// Pictures from one keyframe to the next.
pub const GOP: usize = 6;

/// The repeatable content of one file.
#[derive(Clone, Debug)]
pub struct Recording {
    pub codec: Codec,
    pub kind: TagKind,
    /// `onMetaData` as the encoder wrote it.
    pub metadata: Bytes,
    /// The sequence header, of codecs that have one.
    pub header: Option<Bytes>,
    /// Bodies of tags with one access unit each.
    pub frames: Vec<Bytes>,
    /// Time from one access unit to the next, in microseconds.
    pub interval: i64,
}

macro_rules! recordings {
    ($($(#[$doc:meta])* $name:ident = $file:literal, $interval:expr;)*) => {
        $(
            $(#[$doc])*
            pub fn $name() -> Recording {
                Recording::read(include_bytes!(concat!("recorded/", $file)), $interval)
            }
        )*
    };
}

recordings! {
    /// H.264 with B-frames, 64x48.
    h264 = "h264.flv", PICTURE;
    /// H.264 without B-frames, 96x64.
    h264_large = "h264-large.flv", PICTURE;
    /// HEVC without B-frames, under the FourCC `hvc1`.
    hevc = "hevc.flv", PICTURE;
    /// AV1.
    av1 = "av1.flv", PICTURE;
    /// AAC-LC, mono, 48 kHz.
    aac = "aac.flv", 1_024_000_000 / 48_000;
    /// Opus, mono, frames of 20 ms.
    opus = "opus.flv", 20_000;
    /// MP3, mono, 44.1 kHz, each frame with all its own bits.
    mp3 = "mp3.flv", 1_152_000_000 / 44_100;
}

/// 25 pictures a second.
const PICTURE: i64 = 40_000;

impl Recording {
    fn read(file: &'static [u8], interval: i64) -> Recording {
        let whole = Bytes::from_static(file);
        let mut recording = Recording {
            codec: Codec::NONE,
            kind: TagKind::SCRIPT,
            metadata: Bytes::new(),
            header: None,
            frames: Vec::new(),
            interval,
        };
        for tag in read_file(file).filter_map(Result::ok) {
            let (header, body) = (TagHeader::parse(tag.kind, tag.body), whole.slice_ref(tag.body));
            match header.packet {
                Packet::METADATA if tag.kind == TagKind::SCRIPT => recording.metadata = body,
                // An encoder that does not know its configuration yet sends an empty header.
                Packet::SEQUENCE_HEADER if header.data_len > 0 => recording.header = Some(body),
                Packet::CODED_FRAME => {
                    (recording.codec, recording.kind) = (header.codec, tag.kind);
                    recording.frames.push(body);
                }
                _ => {}
            }
        }
        recording
    }

    /// Returns the recording with another interval.
    pub fn every(self, interval: i64) -> Recording {
        Recording { interval, ..self }
    }

    /// Returns HEVC under the legacy codec id 12.
    pub fn legacy(self) -> Recording {
        let rewrite = |body: Bytes| {
            let header = TagHeader::parse(TagKind::VIDEO, &body);
            let Some(head) = legacy_video_header(&header) else { return body };
            Bytes::from([&head[..], &body[header.data_offset as usize..]].concat())
        };
        let frames = self.frames.into_iter().map(rewrite).collect();
        Recording { header: self.header.map(rewrite), frames, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recording_is_whole() {
        let rows = [
            (h264(), Codec::H264, 12),
            (h264_large(), Codec::H264, 12),
            (hevc(), Codec::HEVC, 12),
            (hevc().legacy(), Codec::HEVC, 12),
            (av1(), Codec::AV1, 12),
            (aac(), Codec::AAC, 24),
            (opus(), Codec::OPUS, 25),
            (mp3(), Codec::MP3, 20),
        ];
        for (recording, codec, frames) in rows {
            assert_eq!((recording.codec, recording.frames.len()), (codec, frames), "{codec}");
            assert_eq!(recording.header.is_some(), codec != Codec::MP3, "{codec}");
            assert!(!recording.metadata.is_empty(), "{codec}");
            for (index, body) in recording.frames.iter().enumerate() {
                let header = TagHeader::parse(recording.kind, body);
                let keyframe = recording.kind == TagKind::VIDEO && index % GOP == 0;
                assert_eq!((header.codec, header.keyframe), (codec, keyframe), "{codec} {index}");
            }
        }
        assert_eq!(hevc().legacy().frames[0][0], 0x1c);
    }
}

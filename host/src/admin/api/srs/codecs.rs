//! Codecs as SRS names them, with what sequence headers say about them.

use remuxd_bitstream::aac::AudioSpecificConfig;
use remuxd_bitstream::flv::TagHeader;
use schemars::JsonSchema;
use serde::Serialize;

use crate::media::{Codec, TagKind};
use crate::stream::Stream;

/// The video of a stream.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct Video {
    codec: &'static str,
    profile: String,
    level: String,
    /// In pixels, as the publisher's metadata have it; 0 without.
    width: u32,
    height: u32,
}

/// The audio of a stream.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct Audio {
    codec: &'static str,
    /// In Hz; 0 if no sequence header says so.
    sample_rate: u32,
    /// Number of channels; 0 if no sequence header says so.
    channel: u32,
    profile: String,
}

const OTHER: &str = "Other";

impl Video {
    /// Returns the video of a stream, whose size is known or not.
    pub fn of(stream: &Stream, size: Option<(u32, u32)>) -> Option<Video> {
        let codec = stream.codecs().video;
        let (width, height) = size.unwrap_or_default();
        let header = stream.sequence_headers().video;
        (codec != Codec::NONE).then(|| Video { width, height, ..Video::parse(codec, &header) })
    }

    fn parse(codec: Codec, tag: &[u8]) -> Video {
        let record = data(TagKind::VIDEO, codec, tag);
        let (name, profile, level) = match codec {
            // AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1): profile and level are its second and fourth byte.
            Codec::H264 => {
                ("H264", record.get(1).map(avc_profile), record.get(3).map(|level| decimal(level, 10)))
            }
            // HEVCDecoderConfigurationRecord (8.3.3.1): the profile is in its second byte, the level its thirteenth.
            Codec::HEVC => {
                ("HEVC", record.get(1).map(hevc_profile), record.get(12).map(|level| decimal(level, 30)))
            }
            Codec::AV1 => ("AV1", None, None),
            Codec::VP6 => ("VP6", None, None),
            _ => (OTHER, None, None),
        };
        Video {
            codec: name,
            profile: profile.unwrap_or(OTHER).to_owned(),
            level: level.unwrap_or_else(|| OTHER.to_owned()),
            width: 0,
            height: 0,
        }
    }
}

impl Audio {
    /// Returns the audio of a stream.
    pub fn of(stream: &Stream) -> Option<Audio> {
        let codec = stream.codecs().audio;
        let header = stream.sequence_headers().audio;
        (codec != Codec::NONE).then(|| Audio::parse(codec, &header))
    }

    fn parse(codec: Codec, tag: &[u8]) -> Audio {
        let name = match codec {
            Codec::AAC => "AAC",
            Codec::MP3 => "MP3",
            Codec::OPUS => "Opus",
            _ => OTHER,
        };
        let aac = data(TagKind::AUDIO, codec, tag);
        let aac = (codec == Codec::AAC).then(|| AudioSpecificConfig::parse(aac).ok()).flatten();
        Audio {
            codec: name,
            sample_rate: aac.as_ref().map_or(0, |config| config.sbr.unwrap_or(config.sample_rate)),
            // 7 is 7.1; 0 is described elsewhere.
            channel: aac.as_ref().map_or(0, |config| match config.channel_configuration {
                7 => 8,
                number => number,
            }),
            profile: aac.as_ref().map_or(OTHER, aac_profile).to_owned(),
        }
    }
}

/// Returns the data of a sequence header; empty if it is of another codec.
fn data(kind: TagKind, codec: Codec, tag: &[u8]) -> &[u8] {
    let header = TagHeader::parse(kind, tag);
    let end = header.data_offset.saturating_add(header.data_len) as usize;
    if header.codec == codec { tag.get(header.data_offset as usize..end).unwrap_or_default() } else { &[] }
}

/// `31` is 3.1 of AVC.
fn decimal(level: &u8, unit: u8) -> String {
    match (level / unit, level % unit * 10 / unit) {
        (whole, 0) => whole.to_string(),
        (whole, tenth) => format!("{whole}.{tenth}"),
    }
}

fn avc_profile(profile: &u8) -> &'static str {
    match profile {
        66 => "Baseline",
        77 => "Main",
        88 => "Extended",
        100 => "High",
        110 => "High(10)",
        122 => "High(422)",
        144 => "High(444)",
        244 => "High(444+Predictive)",
        _ => OTHER,
    }
}

fn hevc_profile(byte: &u8) -> &'static str {
    match byte & 0x1f {
        1 => "Main",
        2 => "Main10",
        3 => "Main Still Picture",
        4 => "Rext",
        _ => OTHER,
    }
}

fn aac_profile(config: &AudioSpecificConfig) -> &'static str {
    match (config.ps, config.sbr, config.object_type) {
        (true, ..) => "HEv2",
        (_, Some(_), _) => "HE",
        (.., 1) => "Main",
        (.., 2) => "LC",
        (.., 3) => "SSR",
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_headers_are_read() {
        let avc = b"\x17\0\0\0\0\x01\x64\0\x1f\xff";
        let mut hevc = b"\x90hvc1\x01\x02".to_vec();
        hevc.resize(5 + 12, 0);
        hevc.push(93);
        let rows: [(Codec, &[u8], _); 6] = [
            (Codec::H264, avc, ("H264", "High", "3.1")),
            (Codec::H264, b"\x17\0\0\0\0\x01\x4d\0\x28\xff", ("H264", "Main", "4")),
            (Codec::H264, b"\x17\0\0\0\0\x01", ("H264", OTHER, OTHER)),
            (Codec::HEVC, &hevc, ("HEVC", "Main10", "3.1")),
            // Of the publisher before.
            (Codec::HEVC, avc, ("HEVC", OTHER, OTHER)),
            (Codec::H264, b"", ("H264", OTHER, OTHER)),
        ];
        for (codec, tag, expected) in rows {
            let Video { codec, profile, level, .. } = Video::parse(codec, tag);
            assert_eq!((codec, &*profile, &*level), expected, "{tag:?}");
        }
        let rows: [(Codec, &[u8], _); 5] = [
            (Codec::AAC, b"\xaf\0\x12\x10", ("AAC", 44_100, 2, "LC")),
            (Codec::AAC, b"\xaf\0\x2b\x11\x88\0", ("AAC", 48_000, 2, "HE")),
            (Codec::AAC, b"", ("AAC", 0, 0, OTHER)),
            (Codec::MP3, b"", ("MP3", 0, 0, OTHER)),
            (Codec::FLAC, b"", (OTHER, 0, 0, OTHER)),
        ];
        for (codec, tag, expected) in rows {
            let Audio { codec, sample_rate, channel, profile } = Audio::parse(codec, tag);
            assert_eq!((codec, sample_rate, channel, &*profile), expected, "{tag:?}");
        }
    }
}

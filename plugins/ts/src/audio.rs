//! Audio frames: ADTS headers, MPEG audio versions, Opus control headers.
//!
//! AAC is written as ADTS (ISO/IEC 13818-1 table 2-34, stream type 0x0f), MPEG-4 ADTS (`FF F1`), which covers the
//! rates and object types of MPEG-4 and which all players read; SRS writes the MPEG-2 form. Opus follows "Opus in MPEG-TS", the
//! mapping that FFmpeg and GStreamer use: a control header with the packet's size before each packet.
//!
//! Deviation: the pre-skip of an Opus stream is not written as `start_trim`. It belongs to the stream's first packet, which is not the one
//! that follows a replayed sequence header, and a viewer joins anywhere. FFmpeg writes the field and ignores it.

use remuxd_bitstream::aac::{self, AudioSpecificConfig};
use remuxd_bitstream::mpa::{FrameHeader, Version};
use remuxd_bitstream::opus::OpusHead;

use crate::pes;
use crate::psi::AudioStream;

/// The configuration of an audio track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AudioConfig {
    /// AAC with the configuration of its sequence header.
    Aac(AudioSpecificConfig),
    /// MPEG audio (see [`AudioStream::Mpeg`]).
    Mpeg {
        /// Whether it is MPEG-2 or 2.5.
        low_rates: bool,
    },
    /// Opus, with its `channel_config_code`.
    Opus(u8),
}

impl AudioConfig {
    /// Returns the configuration in the header of an MPEG audio `frame`, if it begins with one.
    pub(crate) fn of_mpeg_frame(frame: &[u8]) -> Option<AudioConfig> {
        let header = FrameHeader::parse(frame).ok()?;
        Some(AudioConfig::Mpeg { low_rates: header.version != Version::V1 })
    }

    /// Returns the configuration of Opus with this identification header.
    pub(crate) fn of_opus(head: &OpusHead) -> AudioConfig {
        AudioConfig::Opus(channel_config_code(head))
    }

    /// Returns the stream's entry in the program map.
    pub(crate) fn stream(&self) -> AudioStream {
        match *self {
            AudioConfig::Aac(_) => AudioStream::Adts,
            AudioConfig::Mpeg { low_rates } => AudioStream::Mpeg { low_rates },
            AudioConfig::Opus(channels) => AudioStream::Opus(channels),
        }
    }

    /// Returns the bytes to write before `frame`.
    ///
    /// # Errors
    /// ADTS cannot carry the frame.
    pub(crate) fn prefix(&self, frame: &[u8]) -> Result<Vec<u8>, aac::Error> {
        match self {
            AudioConfig::Aac(config) => config.adts_prefix(frame),
            AudioConfig::Mpeg { .. } => Ok(Vec::new()),
            AudioConfig::Opus(_) => Ok(opus_control_header(frame.len())),
        }
    }
}

/// Returns the `stream_id` of an audio stream.
pub(crate) fn stream_id(stream: AudioStream) -> u8 {
    match stream {
        AudioStream::Adts | AudioStream::Mpeg { .. } => pes::AUDIO,
        AudioStream::Opus(_) => pes::PRIVATE_1,
    }
}

/// Opus without an identification header: decoders output stereo for mono too.
pub(crate) const OPUS_STEREO: AudioConfig = AudioConfig::Opus(2);

/// The code of all other mappings, which a decoder must get by other means.
const OTHER_MAPPING: u8 = 0xff;

/// Number of coupled streams by number of channels, in the mappings that have a code.
const COUPLED: [u8; 8] = [0, 1, 1, 2, 2, 2, 3, 3];

/// The mappings of 1 to 8 channels in the orders of Vorbis.
const VORBIS: [&[u8]; 8] = [
    &[0],
    &[0, 1],
    &[0, 2, 1],
    &[0, 1, 2, 3],
    &[0, 4, 1, 2, 3],
    &[0, 4, 1, 2, 3, 5],
    &[0, 4, 1, 2, 3, 5, 6],
    &[0, 6, 1, 2, 3, 4, 5, 7],
];

/// Returns `channel_config_code`: the number of channels in the usual mapping, with the highest bit set if channels keep their
/// coded order.
fn channel_config_code(head: &OpusHead) -> u8 {
    let channels = head.channels;
    let mapping = &head.mapping;
    match head.mapping_family {
        0 if channels <= 2 => channels,
        1 if (1..=8).contains(&channels) => {
            let index = usize::from(channels) - 1;
            let coupled = COUPLED[index];
            if (mapping.streams, mapping.coupled) != (channels - coupled, coupled) {
                OTHER_MAPPING
            } else if mapping.channels == VORBIS[index] {
                channels
            } else if mapping.channels.iter().copied().eq(0..channels) {
                channels | 0x80
            } else {
                OTHER_MAPPING
            }
        }
        _ => OTHER_MAPPING,
    }
}

/// Returns `opus_control_header`: the prefix 0x3ff in 11 bits, no trims, no extension, and the size as a sum of bytes.
fn opus_control_header(size: usize) -> Vec<u8> {
    let mut header = vec![0x7f, 0xe0];
    header.resize(2 + size / 255, 0xff);
    header.push((size % 255) as u8);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opus_packets_get_their_size() {
        for (size, header) in [
            (0, &b"\x7f\xe0\0"[..]),
            (254, b"\x7f\xe0\xfe"),
            (255, b"\x7f\xe0\xff\0"),
            (600, b"\x7f\xe0\xff\xff\x5a"),
        ] {
            assert_eq!(OPUS_STEREO.prefix(&vec![0; size]).unwrap(), header, "{size}");
        }
    }

    #[test]
    fn opus_mappings_have_codes() {
        let code = |tail: &[u8], channels: u8| {
            let header = [&b"OpusHead\x01"[..], &[channels], &[0; 8], tail].concat();
            AudioConfig::of_opus(&OpusHead::parse(&header).unwrap())
        };
        for (tail, channels, expected) in [
            (&b"\0"[..], 1, 1),
            (b"\0", 2, 2),
            (b"\0", 3, 0xff),
            (b"\x01\x04\x02\x00\x04\x01\x02\x03\x05", 6, 6),
            (b"\x01\x04\x02\x00\x01\x02\x03\x04\x05", 6, 0x86),
            (b"\x01\x05\x01\x00\x04\x01\x02\x03\x05", 6, 0xff),
            (b"\xff\x02\x00\x00\x01", 2, 0xff),
        ] {
            assert_eq!(code(tail, channels), AudioConfig::Opus(expected), "{tail:02x?}");
        }
    }

    #[test]
    fn mpeg_versions_have_stream_types() {
        for (frame, expected) in [
            (&b"\xff\xfb\x90\x00"[..], Some(false)),
            (b"\xff\xf3\x90\x00", Some(true)),
            (b"\xff\xe3\x90\x00", Some(true)),
            (b"\x00\xfb\x90\x00", None),
            (b"", None),
        ] {
            let expected = expected.map(|low_rates| AudioConfig::Mpeg { low_rates });
            assert_eq!(AudioConfig::of_mpeg_frame(frame), expected, "{frame:02x?}");
        }
    }

    #[test]
    fn aac_gets_an_adts_header() {
        let config = AudioConfig::Aac(AudioSpecificConfig::parse(b"\x12\x10").unwrap());
        assert_eq!(config.prefix(&[0x21; 9]).unwrap(), b"\xff\xf1\x50\x80\x02\x1f\xfc");
        assert!(config.prefix(&[0x21; 8_190]).is_err());
    }
}

//! Pictures as a byte stream: start codes, access unit delimiters, parameter sets.
//!
//! ITU-T H.264 and H.265 annex B; ISO/IEC 13818-1 2.14.1 and 2.17.1 ask for a delimiter at the start of each access unit.

use remuxd_bitstream::Truncated;
use remuxd_bitstream::avc::{self, AvcDecoderConfiguration};
use remuxd_bitstream::flv::MAX_CONFIGURATION;
use remuxd_bitstream::hevc::{self, HevcDecoderConfiguration};
use remuxd_bitstream::nal::{self, NalUnits};
use remuxd_plugin_api::Codec;

use crate::psi::VideoStream;

/// The start code with a leading zero byte, required before the first NAL unit of an access unit and before each parameter set
/// (B.1.2).
const LONG_START_CODE: &[u8] = &[0, 0, 0, 1];
const START_CODE: &[u8] = &[0, 0, 1];

/// Access unit delimiters that allow pictures of any type.
const AVC_DELIMITER: &[u8] = &[0x09, 0xf0];
const HEVC_DELIMITER: &[u8] = &[0x46, 0x01, 0x50];

/// The configuration in a sequence header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VideoConfig {
    pub codec: Codec,
    pub stream: VideoStream,
    length_size: usize,
    /// Its parameter sets as a byte stream.
    pub parameter_sets: Vec<u8>,
}

/// An access unit of a byte stream.
#[derive(Debug)]
pub(crate) struct Picture<'a> {
    units: NalUnits<'a>,
    stream: VideoStream,
    delimiter: &'a [u8],
    /// Whether a decoder may start here.
    pub random_access: bool,
    /// The kinds of parameter sets in it, as bits.
    sets: u8,
}

/// The role of a NAL unit in an access unit.
#[derive(PartialEq)]
enum Role {
    Delimiter,
    /// One of the kinds of parameter sets, as a bit.
    ParameterSet(u8),
    /// A slice of a picture at which a decoder may start.
    RandomAccess,
    Other,
}

impl VideoConfig {
    /// Reads the sequence header of a supported codec; returns `None` for another codec.
    ///
    /// # Errors
    /// [`Truncated`].
    pub(crate) fn parse(codec: Codec, record: &[u8]) -> Result<Option<VideoConfig>, Truncated> {
        let (stream, length_size, parameter_sets) = match codec {
            Codec::H264 => {
                let record = AvcDecoderConfiguration::parse(record)?;
                (VideoStream::H264, record.length_size, record.parameter_sets)
            }
            Codec::HEVC => {
                let record = HevcDecoderConfiguration::parse(record)?;
                (VideoStream::Hevc, record.length_size, record.parameter_sets)
            }
            _ => return Ok(None),
        };
        let parameter_sets = byte_stream(parameter_sets);
        Ok(Some(VideoConfig { codec, stream, length_size, parameter_sets }))
    }

    /// Reads the access unit in `data`; `None` if it has no NAL units. `keyframe` is whether the publisher marks it as one.
    ///
    /// # Errors
    /// [`nal::Error`].
    pub(crate) fn read<'a>(&self, data: &'a [u8], keyframe: bool) -> Result<Option<Picture<'a>>, nal::Error> {
        let units = NalUnits::new(data, self.length_size);
        let mut delimiter = None;
        let (mut random_access, mut sets, mut is_empty) = (keyframe, 0, true);
        for unit in units.clone() {
            let unit = unit?;
            let role = role(self.stream, unit);
            is_empty &= role == Role::Delimiter;
            match role {
                Role::Delimiter => _ = delimiter.get_or_insert(unit),
                Role::ParameterSet(kind) => sets |= kind,
                Role::RandomAccess => random_access = true,
                Role::Other => {}
            }
        }
        let delimiter = delimiter.unwrap_or(match self.stream {
            VideoStream::H264 => AVC_DELIMITER,
            VideoStream::Hevc => HEVC_DELIMITER,
        });
        let picture = Picture { units, stream: self.stream, delimiter, random_access, sets };
        Ok((!is_empty).then_some(picture))
    }
}

impl<'a> Picture<'a> {
    fn has_all_sets(&self) -> bool {
        self.sets
            == match self.stream {
                VideoStream::H264 => 0b011,
                VideoStream::Hevc => 0b111,
            }
    }

    /// Returns its parameter sets as a byte stream, if it has all kinds of them. Encoders that change them in band need not repeat
    /// them, and those of the sequence header no longer apply. Like sequence headers, they are not kept if they are too long.
    pub(crate) fn parameter_sets(&self) -> Option<Vec<u8>> {
        if !self.has_all_sets() {
            return None;
        }
        let is_set = |unit: &&[u8]| matches!(role(self.stream, unit), Role::ParameterSet(_));
        let sets = self.units.clone().flatten().filter(is_set);
        let len: usize = sets.clone().map(|set| LONG_START_CODE.len() + set.len()).sum();
        (len <= MAX_CONFIGURATION as usize).then(|| byte_stream(sets))
    }

    /// Returns its bytes, in order. Adds the byte stream `sets` if it is a keyframe or they are due, unless it has its own.
    pub(crate) fn pieces(
        &self,
        sets: &'a [u8],
        sets_due: bool,
    ) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let stream = self.stream;
        let adds_sets = (self.random_access || sets_due) && !self.has_all_sets();
        let start = [LONG_START_CODE, self.delimiter, if adds_sets { sets } else { &[] }];
        let units = self.units.clone().flatten().flat_map(move |unit| match role(stream, unit) {
            // Exactly one, at the start: another one would start a new access unit.
            Role::Delimiter => [&[][..], &[]],
            Role::ParameterSet(_) => [LONG_START_CODE, unit],
            Role::RandomAccess | Role::Other => [START_CODE, unit],
        });
        start.into_iter().chain(units)
    }
}

fn byte_stream<'a>(sets: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut stream = Vec::new();
    for set in sets {
        stream.extend_from_slice(LONG_START_CODE);
        stream.extend_from_slice(set);
    }
    stream
}

fn role(stream: VideoStream, unit: &[u8]) -> Role {
    match stream {
        VideoStream::H264 => match avc::nal_type::of(unit) {
            avc::nal_type::AUD => Role::Delimiter,
            avc::nal_type::SPS => Role::ParameterSet(1),
            avc::nal_type::PPS => Role::ParameterSet(2),
            avc::nal_type::IDR => Role::RandomAccess,
            _ => Role::Other,
        },
        VideoStream::Hevc => match hevc::nal_type::of(unit) {
            hevc::nal_type::AUD => Role::Delimiter,
            hevc::nal_type::SPS => Role::ParameterSet(1),
            hevc::nal_type::PPS => Role::ParameterSet(2),
            hevc::nal_type::VPS => Role::ParameterSet(4),
            kind if hevc::nal_type::IRAP.contains(&kind) => Role::RandomAccess,
            _ => Role::Other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn avc(length: u8) -> VideoConfig {
        let record =
            [&b"\x01\x42\0\x1f"[..], &[length], b"\xe2\0\x02\x67a\0\x02\x67b\x01\0\x02\x68c"].concat();
        VideoConfig::parse(Codec::H264, &record).unwrap().unwrap()
    }

    fn hevc() -> VideoConfig {
        let mut record = vec![1; 21];
        record.extend(b"\x0f\x04\x20\0\x01\0\x03\x40\x01v\x21\0\x01\0\x03\x42\x01s\x22\0\x02");
        record.extend(b"\0\x03\x44\x01p\0\x03\x44\x01q\x27\0\x01\0\x03\x4e\x01h");
        VideoConfig::parse(Codec::HEVC, &record).unwrap().unwrap()
    }

    fn written(config: &VideoConfig, units: &[&[u8]], keyframe: bool, sets_due: bool) -> (Vec<u8>, bool) {
        let mut data = Vec::new();
        for unit in units {
            data.extend_from_slice(&(unit.len() as u32).to_be_bytes()[4 - config.length_size..]);
            data.extend_from_slice(unit);
        }
        let picture = config.read(&data, keyframe).unwrap().unwrap();
        let pieces: Vec<_> = picture.pieces(&config.parameter_sets, sets_due).collect();
        (pieces.concat(), picture.random_access)
    }

    const AVC_SETS: &[u8] = b"\0\0\0\x01\x67a\0\0\0\x01\x67b\0\0\0\x01\x68c";
    const HEVC_SETS: &[u8] = b"\0\0\0\x01\x40\x01v\0\0\0\x01\x42\x01s\0\0\0\x01\x44\x01p\0\0\0\x01\x44\x01q\
        \0\0\0\x01\x4e\x01h";

    #[test]
    fn adds_the_delimiter_and_the_parameter_sets() {
        let avc = avc(0xff);
        let row = |units: &[&[u8]], keyframe, sets_due| written(&avc, units, keyframe, sets_due);
        let aud = b"\0\0\0\x01\x09\xf0";
        assert_eq!(row(&[b"\x41x"], false, false), ([&aud[..], b"\0\0\x01\x41x"].concat(), false));
        assert_eq!(row(&[b"\x65x"], false, false), ([&aud[..], AVC_SETS, b"\0\0\x01\x65x"].concat(), true));
        assert_eq!(row(&[b"\x41x"], true, false), ([&aud[..], AVC_SETS, b"\0\0\x01\x41x"].concat(), true));
        assert_eq!(row(&[b"\x41x"], false, true), ([&aud[..], AVC_SETS, b"\0\0\x01\x41x"].concat(), false));
        assert_eq!(
            row(&[b"\x06s", b"\x09\x10", b"", b"\x65x"], true, false),
            ([b"\0\0\0\x01\x09\x10", AVC_SETS, b"\0\0\x01\x06s\0\0\x01\x65x"].concat(), true),
            "its own delimiter, in front"
        );
        assert_eq!(
            row(&[b"\x67d", b"\x68e", b"\x65x"], true, true).0,
            [&aud[..], b"\0\0\0\x01\x67d\0\0\0\x01\x68e\0\0\x01\x65x"].concat(),
            "its own parameter sets"
        );
        let partial = row(&[b"\x67d", b"\x65x"], true, false).0;
        assert_eq!(partial, [&aud[..], AVC_SETS, b"\0\0\0\x01\x67d\0\0\x01\x65x"].concat());
    }

    #[test]
    fn writes_hevc_with_all_sets() {
        let aud = b"\0\0\0\x01\x46\x01\x50";
        for kind in 0..32u8 {
            let unit = [kind << 1, 1, 9];
            let irap = (16..24).contains(&kind);
            let sets = if irap { HEVC_SETS } else { b"" };
            let expected = [&aud[..], sets, b"\0\0\x01", &unit].concat();
            assert_eq!(written(&hevc(), &[&unit], false, false), (expected, irap), "{kind}");
        }
        let own: &[&[u8]] = &[b"\x40\x01x", b"\x42\x01x", b"\x44\x01x", b"\x26\x01x"];
        assert!(!written(&hevc(), own, true, true).0.windows(3).any(|bytes| bytes == b"\x40\x01v"));
    }

    #[test]
    fn reads_lengths_of_each_size() {
        for (length, length_size) in [(0xfc, 1), (0xfd, 2), (0xff, 4)] {
            let config = avc(length);
            assert_eq!(config.length_size, length_size);
            assert!(
                written(&config, &[b"\x41x", b"\x41y"], false, false)
                    .0
                    .ends_with(b"\0\0\x01\x41x\0\0\x01\x41y")
            );
        }
    }

    #[test]
    fn an_access_unit_without_nal_units_is_no_picture() {
        for data in [&b""[..], b"\0\0\0\0", b"\0\0\0\x02\x09\xf0"] {
            assert!(avc(0xff).read(data, true).unwrap().is_none());
        }
        assert!(avc(0xff).read(b"\0\0\0\x09\x65", true).is_err());
        assert_eq!(VideoConfig::parse(Codec::AV1, b""), Ok(None));
    }
}

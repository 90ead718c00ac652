//! H.264: AVCDecoderConfigurationRecord, the data of a sequence header, and NAL unit types.
//!
//! ISO/IEC 14496-15 5.3.3.1; ITU-T H.264 table 7-1.

use crate::record::{Record, Truncated};

/// NAL unit types.
pub mod nal_type {
    /// A slice of an instantaneous decoding refresh picture.
    pub const IDR: u8 = 5;
    /// A sequence parameter set.
    pub const SPS: u8 = 7;
    /// A picture parameter set.
    pub const PPS: u8 = 8;
    /// An access unit delimiter.
    pub const AUD: u8 = 9;
    /// A sequence parameter set extension.
    pub const SPS_EXTENSION: u8 = 13;

    /// Returns the type of a NAL unit; 0, which is unspecified, for an empty one.
    pub fn of(unit: &[u8]) -> u8 {
        unit.first().map_or(0, |header| header & 0x1f)
    }
}

/// Baseline, Main and Extended: the profiles whose records have no tail. The specification names only the four high profiles of
/// its time as having one; records of later profiles (4:4:4, intra, scalable, stereo) have it too.
const LOW_PROFILES: [u8; 3] = [66, 77, 88];

/// A decoder configuration record, which a decoder needs before the first picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvcDecoderConfiguration<'a> {
    /// Length of the length field before each NAL unit, in bytes: 1 to 4.
    pub length_size: usize,
    /// All parameter sets as NAL units: sequence, their extensions, picture.
    pub parameter_sets: Vec<&'a [u8]>,
}

impl<'a> AvcDecoderConfiguration<'a> {
    /// Reads a record. Ignores trailing bytes, and a version other than 1, which some encoders write.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn parse(record: &'a [u8]) -> Result<AvcDecoderConfiguration<'a>, Truncated> {
        let mut record = Record::new("AVCDecoderConfigurationRecord", record);
        let [_, profile, _, _, length_size, sequence_sets] = record.array()?;
        let mut parameter_sets = record.units(usize::from(sequence_sets & 0x1f))?;
        let [picture_sets] = record.array()?;
        let pictures = record.units(usize::from(picture_sets))?;
        if !LOW_PROFILES.contains(&profile) {
            let mut extensions = read_extensions(&mut record).unwrap_or_default();
            extensions.retain(|unit| nal_type::of(unit) == nal_type::SPS_EXTENSION);
            parameter_sets.extend(extensions);
        }
        parameter_sets.extend(pictures);
        parameter_sets.retain(|set| !set.is_empty());
        Ok(AvcDecoderConfiguration { length_size: usize::from(length_size & 3) + 1, parameter_sets })
    }
}

/// Reads the tail of the record. Many encoders omit it or write padding instead.
fn read_extensions<'a>(record: &mut Record<'a>) -> Result<Vec<&'a [u8]>, Truncated> {
    let [_chroma_format, _luma_depth, _chroma_depth, extensions] = record.array()?;
    record.units(usize::from(extensions))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIGH: &[u8] =
        b"\x01\x64\0\x1f\xff\xe2\0\x03\x67ab\0\x02\x67c\x01\0\x02\x68d\xfd\xf8\xf8\x01\0\x02\x6de";

    #[test]
    fn reads_all_parameter_sets() {
        for (length, length_size) in [(0xfc, 1), (0xfd, 2), (0xff, 4)] {
            let record = [&b"\x01\x42\0\x1f"[..], &[length], b"\xe1\0\x03\x67ab\x01\0\x02\x68d"].concat();
            let parameter_sets = vec![&b"\x67ab"[..], b"\x68d"];
            assert_eq!(
                AvcDecoderConfiguration::parse(&record),
                Ok(AvcDecoderConfiguration { length_size, parameter_sets })
            );
        }
        let high = AvcDecoderConfiguration::parse(HIGH).unwrap();
        assert_eq!(high.parameter_sets, [&b"\x67ab"[..], b"\x67c", b"\x6de", b"\x68d"]);
    }

    #[test]
    fn reads_the_tail_if_there_is_one() {
        // The profiles that have a chroma format in ITU-T H.264 7.3.2.1.1.
        for profile in [100, 110, 122, 144, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135] {
            let record = [&[1, profile], &HIGH[2..]].concat();
            let sets = AvcDecoderConfiguration::parse(&record).unwrap().parameter_sets;
            assert_eq!(sets[2], b"\x6de", "{profile}");
        }
        let record = [HIGH, b"padding"].concat();
        assert_eq!(AvcDecoderConfiguration::parse(&record).unwrap().parameter_sets.len(), 4);
        // Padding instead of a tail: zeros, and bytes that can be parsed as a tail.
        for padding in [&[0; 9][..], b"\xff\xff\xff\x01\0\x02\x41x"] {
            let record = [&HIGH[..20], padding].concat();
            let sets = AvcDecoderConfiguration::parse(&record).unwrap().parameter_sets;
            assert_eq!(sets.len(), 3, "{padding:02x?}");
        }
    }

    #[test]
    fn refuses_records_truncated_before_the_tail() {
        for end in 0..HIGH.len() {
            let read = AvcDecoderConfiguration::parse(&HIGH[..end]);
            assert_eq!(read.is_ok(), end >= 20, "{end}: {read:?}");
        }
    }
}

//! H.265: HEVCDecoderConfigurationRecord, the data of a sequence header, and NAL unit types.
//!
//! ISO/IEC 14496-15 8.3.3.1; ITU-T H.265 table 7-1.

use std::ops::RangeInclusive;

use crate::record::{Record, Truncated};

/// NAL unit types.
pub mod nal_type {
    use super::RangeInclusive;

    /// Slices of intra random access point pictures: BLA, IDR and CRA, and the two reserved ones.
    pub const IRAP: RangeInclusive<u8> = 16..=23;
    /// A video parameter set.
    pub const VPS: u8 = 32;
    /// A sequence parameter set.
    pub const SPS: u8 = 33;
    /// A picture parameter set.
    pub const PPS: u8 = 34;
    /// An access unit delimiter.
    pub const AUD: u8 = 35;
    /// Supplemental enhancement information before the slices of a picture.
    pub const PREFIX_SEI: u8 = 39;

    /// Returns the type of a NAL unit; 63, which is unspecified, for an empty one.
    pub fn of(unit: &[u8]) -> u8 {
        unit.first().map_or(63, |header| header >> 1 & 0x3f)
    }
}

/// A decoder configuration record, which a decoder needs before the first picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HevcDecoderConfiguration<'a> {
    /// Length of the length field before each NAL unit, in bytes: 1 to 4.
    pub length_size: usize,
    /// The NAL units of all arrays that go before a picture: video, sequence and picture parameter sets, then SEI messages that
    /// apply to the whole stream, such as HDR metadata. Without unregistered user data: x265 describes itself there in 2 kB,
    /// which decoders ignore.
    pub parameter_sets: Vec<&'a [u8]>,
}

impl<'a> HevcDecoderConfiguration<'a> {
    /// Reads a record. Ignores trailing bytes, and a version other than 1.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn parse(record: &'a [u8]) -> Result<HevcDecoderConfiguration<'a>, Truncated> {
        let mut record = Record::new("HEVCDecoderConfigurationRecord", record);
        // Profile, tier, level, segmentation, parallelism, chroma format, depths and frame rate.
        let [.., length_size, arrays] = record.array::<23>()?;
        let mut parameter_sets = Vec::new();
        for _ in 0..arrays {
            let [_, high, low] = record.array()?;
            parameter_sets.extend(record.units(usize::from(u16::from_be_bytes([high, low])))?);
        }
        let before_picture = [nal_type::VPS, nal_type::SPS, nal_type::PPS, nal_type::PREFIX_SEI];
        parameter_sets.retain(|set| before_picture.contains(&nal_type::of(set)) && !is_user_data(set));
        // Arrays may come in any order.
        parameter_sets.sort_by_key(|set| nal_type::of(set));
        Ok(HevcDecoderConfiguration { length_size: usize::from(length_size & 3) + 1, parameter_sets })
    }
}

/// Returns whether the NAL unit is SEI that begins with user_data_unregistered (ITU-T H.265 D.2.1), payload type 5.
fn is_user_data(unit: &[u8]) -> bool {
    nal_type::of(unit) == nal_type::PREFIX_SEI && unit.get(2) == Some(&5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(length: u8) -> Vec<u8> {
        let mut record = vec![1; 21];
        record.push(length);
        record.extend(b"\x04\x22\0\x02\0\x03\x44\x01a\0\x03\x44\x01b\x20\0\x01\0\x03\x40\x01c");
        record.extend(b"\x27\0\x02\0\x03\x4e\x01d\0\x04\x4e\x01\x05u\xa1\0\x01\0\x03\x42\x01e");
        record
    }

    #[test]
    fn reads_the_parameter_sets_of_all_arrays_in_order() {
        for (length, length_size) in [(0x0c, 1), (0x0d, 2), (0x0f, 4)] {
            let record = record(length);
            let read = HevcDecoderConfiguration::parse(&record).unwrap();
            assert_eq!(read.length_size, length_size);
            let sets = [b"\x40\x01c", b"\x42\x01e", b"\x44\x01a", b"\x44\x01b", b"\x4e\x01d"];
            assert_eq!(read.parameter_sets, sets);
        }
    }

    #[test]
    fn refuses_truncated_records() {
        let record = record(0x0f);
        for end in 0..record.len() {
            assert!(HevcDecoderConfiguration::parse(&record[..end]).is_err(), "{end}");
        }
    }
}

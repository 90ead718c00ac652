//! Opus: the identification header, which enhanced RTMP sends as sequence header.
//!
//! RFC 7845 5.1 and 5.1.1. Numbers are little-endian.

use crate::record::{Record, Truncated};

const MAGIC: &[u8; 8] = b"OpusHead";

/// The reason that an identification header cannot be read. The culprit is the publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It ends inside a field.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// It does not begin with `OpusHead`.
    #[error("OpusHead begins with other bytes")]
    Magic,
    /// A version that is not compatible, or no channels.
    #[error("OpusHead of version {version:#04x} with {channels} channels")]
    Unusable {
        /// The version; the upper four bits are 0 in all compatible ones.
        version: u8,
        /// The number of channels.
        channels: u8,
    },
}

/// An identification header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpusHead {
    /// Number of output channels, at least 1.
    pub channels: u8,
    /// Number of samples at 48 kHz that a decoder drops at the very start.
    pub pre_skip: u16,
    /// The rate of the encoder's input in Hz, for display.
    pub input_rate: u32,
    /// The mapping family: 0 for mono and stereo, 1 for the orders of Vorbis, 255 for no defined order.
    pub mapping_family: u8,
    /// The mapping of channels to streams; one stream for family 0.
    pub mapping: Mapping,
}

/// A mapping of channels to the streams of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Number of streams in a packet.
    pub streams: u8,
    /// Number of streams that are stereo.
    pub coupled: u8,
    /// The decoded channel of each output channel.
    pub channels: Vec<u8>,
}

impl OpusHead {
    /// Reads an identification header. Ignores trailing bytes.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn parse(header: &[u8]) -> Result<OpusHead, Error> {
        let mut record = Record::new("OpusHead", header);
        if record.array()? != *MAGIC {
            return Err(Error::Magic);
        }
        let [version, channels] = record.array()?;
        if version & 0xf0 != 0 || channels == 0 {
            return Err(Error::Unusable { version, channels });
        }
        let pre_skip = u16::from_le_bytes(record.array()?);
        let input_rate = u32::from_le_bytes(record.array()?);
        let [_, _, mapping_family] = record.array()?;
        let mapping = if mapping_family == 0 {
            Mapping { streams: 1, coupled: channels - 1, channels: (0..channels).collect() }
        } else {
            let [streams, coupled] = record.array()?;
            Mapping { streams, coupled, channels: record.take(usize::from(channels))?.to_vec() }
        };
        Ok(OpusHead { channels, pre_skip, input_rate, mapping_family, mapping })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_kinds_of_mapping() {
        let stereo = OpusHead::parse(b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0").unwrap();
        assert_eq!((stereo.channels, stereo.pre_skip, stereo.input_rate), (2, 312, 48_000));
        assert_eq!(stereo.mapping, Mapping { streams: 1, coupled: 1, channels: vec![0, 1] });
        let surround = b"OpusHead\x01\x06\x38\x01\x80\xbb\0\0\0\0\x01\x04\x02\x00\x04\x01\x02\x03\x05";
        let mapping = Mapping { streams: 4, coupled: 2, channels: vec![0, 4, 1, 2, 3, 5] };
        assert_eq!(OpusHead::parse(surround).unwrap().mapping, mapping);
        for end in 0..surround.len() {
            assert!(OpusHead::parse(&surround[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn refuses_other_magic_or_versions_and_no_channels() {
        assert_eq!(OpusHead::parse(b"OpusTags\x01\x02\x38\x01\x80\xbb\0\0\0\0\0"), Err(Error::Magic));
        for (version, channels) in [(0x10, 2), (1, 0)] {
            let header = [&MAGIC[..], &[version, channels], &[0; 9]].concat();
            assert_eq!(OpusHead::parse(&header), Err(Error::Unusable { version, channels }));
        }
    }
}

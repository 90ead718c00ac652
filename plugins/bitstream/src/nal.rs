//! NAL units in an access unit of RTMP, FLV and MP4, each preceded by its length.
//!
//! ISO/IEC 14496-15 5.3.2 (AVC) and 8.3.2 (HEVC): the length has 1 to 4 bytes, as many as the decoder configuration
//! record states (`lengthSizeMinusOne`).

/// Maximum number of NAL units in an access unit, empty ones included, so that the work for an access unit does not grow with
/// its length in bytes. Encoders write one for each slice: H.265 A.4.1 allows 600, and slices of 1,400 bytes for the network make
/// 12,000 of the longest RTMP message.
pub const MAX_UNITS: usize = 16_384;

/// The reason that an access unit cannot be read. The culprit is the publisher. Offsets count from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A NAL unit is longer than the rest of the access unit, or its length is truncated.
    #[error("NAL unit of {length} bytes at byte {offset} where {left} are left")]
    Overrun {
        /// Offset of its length.
        offset: usize,
        /// The length that it states; that of the length field if this is truncated.
        length: usize,
        /// Number of bytes after `offset`.
        left: usize,
    },
    /// More than [`MAX_UNITS`].
    #[error("more than {MAX_UNITS} NAL units, at byte {offset}")]
    TooMany {
        /// Offset of the first one over the limit.
        offset: usize,
    },
}

/// An iterator over the NAL units of an access unit, without empty ones. Ends after the first error.
#[derive(Clone, Debug)]
pub struct NalUnits<'a> {
    data: &'a [u8],
    offset: usize,
    length_size: usize,
    /// Number of further units that may be read.
    left: usize,
}

impl<'a> NalUnits<'a> {
    /// Reads `data`, where lengths have `length_size` bytes, 1 to 4.
    pub fn new(data: &'a [u8], length_size: usize) -> NalUnits<'a> {
        NalUnits { data, offset: 0, length_size: length_size.clamp(1, 4), left: MAX_UNITS }
    }

    fn read(&mut self) -> Result<&'a [u8], Error> {
        let offset = self.offset;
        self.left = self.left.checked_sub(1).ok_or(Error::TooMany { offset })?;
        let rest = &self.data[offset..];
        let overrun = |length| Error::Overrun { offset, length, left: rest.len() };
        let Some((length, units)) = rest.split_at_checked(self.length_size) else {
            return Err(overrun(self.length_size));
        };
        let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
        let unit = units.get(..length).ok_or(overrun(length))?;
        self.offset += self.length_size + length;
        Ok(unit)
    }
}

impl<'a> Iterator for NalUnits<'a> {
    type Item = Result<&'a [u8], Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.offset < self.data.len() {
            match self.read() {
                Ok([]) => {}
                Ok(unit) => return Some(Ok(unit)),
                Err(error) => {
                    self.offset = self.data.len();
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(data: &[u8], length_size: usize) -> Result<Vec<&[u8]>, Error> {
        NalUnits::new(data, length_size).collect()
    }

    #[test]
    fn reads_lengths_of_each_size() {
        for (length_size, data) in [
            (1, &b"\x02ab\x00\x01c"[..]),
            (2, b"\0\x02ab\0\0\0\x01c"),
            (3, b"\0\0\x02ab\0\0\0\0\0\x01c"),
            (4, b"\0\0\0\x02ab\0\0\0\0\0\0\0\x01c"),
        ] {
            assert_eq!(units(data, length_size), Ok(vec![&b"ab"[..], b"c"]), "{length_size}");
        }
        assert_eq!(units(b"", 4), Ok(vec![]));
    }

    #[test]
    fn ends_at_the_first_truncated_unit() {
        let data = b"\0\0\0\x02ab\0\0\0\x03cd";
        let mut read = NalUnits::new(data, 4);
        assert_eq!(read.next(), Some(Ok(&b"ab"[..])));
        assert_eq!(read.next(), Some(Err(Error::Overrun { offset: 6, length: 3, left: 6 })));
        assert_eq!(read.next(), None);
        assert_eq!(units(b"\0\0", 4), Err(Error::Overrun { offset: 0, length: 4, left: 2 }));
        assert!(units(b"\xff\xff\xff\xff", 4).is_err());
    }

    #[test]
    fn reads_a_bounded_number_of_units() {
        // 16 MiB of units of one byte each, and of empty ones.
        for (unit, length) in [(&b"\x01\x65"[..], 2), (b"\x00", 1)] {
            let data = unit.repeat((16 << 20) / length);
            let error = Error::TooMany { offset: MAX_UNITS * length };
            assert_eq!(NalUnits::new(&data, 1).last(), Some(Err(error)));
            assert!(units(&data[..MAX_UNITS * length], 1).is_ok());
        }
    }
}

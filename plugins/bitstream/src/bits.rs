//! Bit fields, most significant bit first, as the ISO syntax tables have them.

/// The input ends inside a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Truncated;

/// Reads bit fields of a complete input.
#[derive(Clone, Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Offset from the start, in bits.
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader { bytes, at: 0 }
    }

    /// Returns the number of bits left.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() * 8 - self.at
    }

    /// Reads a field of `width` bits, at most 32.
    pub(crate) fn read(&mut self, width: usize) -> Result<u32, Truncated> {
        if width > self.left() {
            return Err(Truncated);
        }
        let mut value = 0u64;
        for _ in 0..width {
            let bit = self.bytes[self.at / 8] >> (7 - self.at % 8) & 1;
            value = value << 1 | u64::from(bit);
            self.at += 1;
        }
        Ok(value as u32)
    }

    /// Reads a field of one bit.
    pub(crate) fn flag(&mut self) -> Result<bool, Truncated> {
        Ok(self.read(1)? == 1)
    }

    /// Moves on to the next byte, counted from the start of the input.
    pub(crate) fn align(&mut self) {
        self.at = self.at.next_multiple_of(8);
    }
}

/// Writes bit fields.
#[derive(Debug, Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    /// Offset from the start, in bits.
    at: usize,
}

impl BitWriter {
    /// Appends the low `width` bits of `value`.
    pub(crate) fn write(&mut self, width: usize, value: u32) {
        for shift in (0..width).rev() {
            if self.at.is_multiple_of(8) {
                self.bytes.push(0);
            }
            self.bytes[self.at / 8] |= ((value >> shift & 1) as u8) << (7 - self.at % 8);
            self.at += 1;
        }
    }

    /// Returns all bytes, the last one padded with zeros.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_was_written() {
        let fields: [(usize, u32); 6] =
            [(3, 5), (1, 0), (24, 0xabcdef), (32, 0xffff_fffe), (11, 0x2b7), (4, 9)];
        let mut writer = BitWriter::default();
        for (width, value) in fields {
            writer.write(width, value);
        }
        let bytes = writer.into_bytes();
        assert_eq!(bytes.len(), 10);
        let mut reader = BitReader::new(&bytes);
        for (width, value) in fields {
            assert_eq!(reader.read(width), Ok(value));
        }
        assert_eq!((reader.left(), reader.read(6)), (5, Err(Truncated)));
        reader.align();
        assert_eq!((reader.left(), reader.read(0), reader.flag()), (0, Ok(0), Err(Truncated)));
    }
}

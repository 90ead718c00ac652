//! Bit strings, most significant bit first, with the Exp-Golomb codes of H.264 clause 9.1.

/// A bit string under construction.
#[derive(Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    used: u32,
}

impl BitWriter {
    /// An empty string.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the low `count` bits of `value`: u(n).
    pub fn u(&mut self, count: u32, value: u32) -> &mut Self {
        for bit in (0..count).rev() {
            if self.used == 0 {
                self.bytes.push(0);
            }
            let last = self.bytes.len() - 1;
            self.bytes[last] |= ((value >> bit & 1) as u8) << (7 - self.used);
            self.used = (self.used + 1) % 8;
        }
        self
    }

    /// Appends `value` as ue(v).
    pub fn ue(&mut self, value: u32) -> &mut Self {
        let length = (value + 1).ilog2();
        self.u(length, 0).u(length + 1, value + 1)
    }

    /// Appends rbsp_trailing_bits and returns the bytes.
    pub fn rbsp(&mut self) -> Vec<u8> {
        self.u(1, 1);
        self.bytes()
    }

    /// Returns the bytes, the last one filled with zeros.
    pub fn bytes(&mut self) -> Vec<u8> {
        self.used = 0;
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_exp_golomb() {
        // H.264 table 9-2: 0 -> 1, 1 -> 010, 2 -> 011, 3 -> 00100.
        assert_eq!(BitWriter::new().ue(0).ue(1).ue(2).ue(3).bytes(), [0b1010_0110, 0b0100_0000]);
        assert_eq!(BitWriter::new().u(3, 0b101).rbsp(), [0b1011_0000]);
    }
}

//! MPEG audio: the header of a frame.
//!
//! ISO/IEC 11172-3 2.4.2.3 and ISO/IEC 13818-3 2.4.2.3. MPEG-2.5, Fraunhofer's extension for rates down to 8 kHz, is read as
//! well: FLV has a sound format for it (14, MP3 at 8 kHz).

/// Length of a header in bytes.
pub const HEADER_LEN: usize = 4;

/// The version of MPEG audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MPEG-1: 32, 44.1 and 48 kHz.
    V1,
    /// MPEG-2, low sampling frequencies: half of those.
    V2,
    /// MPEG-2.5: a quarter.
    V2_5,
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The version.
    pub version: Version,
    /// 1, 2 or 3.
    pub layer: u8,
    /// Whether a checksum follows the header.
    pub checksum: bool,
    /// Bit rate in bits per second; 0 for the free format.
    pub bitrate: u32,
    /// In Hz.
    pub sample_rate: u32,
    /// Whether the frame is one slot longer.
    pub padding: bool,
    /// 1 or 2.
    pub channels: u8,
}

/// The reason that a header cannot be read. The culprit is the publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input is shorter than a header.
    #[error("MPEG audio frame of {len} bytes is shorter than its header")]
    Truncated {
        /// Its length in bytes.
        len: usize,
    },
    /// The 11 bits of the syncword are not all set.
    #[error("MPEG audio frame starts with {found:#06x}, not with a syncword")]
    Sync {
        /// The first 16 bits.
        found: u16,
    },
    /// A field has a value that is reserved or forbidden.
    #[error("MPEG audio header {header:#010x} has a reserved value")]
    Reserved {
        /// The header.
        header: u32,
    },
}

/// Bit rates in kbit/s by index; 0 is the free format, 15 is forbidden. MPEG-1 layer I, II, III; MPEG-2 layer I, and
/// II or III.
#[rustfmt::skip]
const BITRATES: [[u16; 15]; 5] = [
    [0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
    [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
    [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    [0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
    [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

impl FrameHeader {
    /// Reads the header at the start of `frame`.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn parse(frame: &[u8]) -> Result<FrameHeader, Error> {
        let Some(&header) = frame.first_chunk::<HEADER_LEN>() else {
            return Err(Error::Truncated { len: frame.len() });
        };
        let header = u32::from_be_bytes(header);
        let field = |shift: u32, width: u32| header >> shift & ((1 << width) - 1);
        if field(21, 11) != 0x7ff {
            return Err(Error::Sync { found: (header >> 16) as u16 });
        }
        let reserved = Error::Reserved { header };
        let version = match field(19, 2) {
            0 => Version::V2_5,
            2 => Version::V2,
            3 => Version::V1,
            _ => return Err(reserved),
        };
        let layer = match field(17, 2) {
            0 => return Err(reserved),
            bits => 4 - bits as u8,
        };
        let bitrates = match (version, layer) {
            (Version::V1, layer) => &BITRATES[usize::from(layer) - 1],
            (_, 1) => &BITRATES[3],
            _ => &BITRATES[4],
        };
        let bitrate = *bitrates.get(field(12, 4) as usize).ok_or(reserved)?;
        let sample_rate = *[44_100, 48_000, 32_000].get(field(10, 2) as usize).ok_or(reserved)?;
        Ok(FrameHeader {
            version,
            layer,
            checksum: field(16, 1) == 0,
            bitrate: u32::from(bitrate) * 1000,
            sample_rate: match version {
                Version::V1 => sample_rate,
                Version::V2 => sample_rate / 2,
                Version::V2_5 => sample_rate / 4,
            },
            padding: field(9, 1) == 1,
            channels: if field(6, 2) == 3 { 1 } else { 2 },
        })
    }

    /// Returns the number of samples in the frame, per channel.
    pub fn samples(&self) -> u32 {
        match (self.version, self.layer) {
            (_, 1) => 384,
            (Version::V1, _) | (_, 2) => 1152,
            _ => 576,
        }
    }

    /// Returns the frame's length in bytes, including the header; `None` for the free format.
    pub fn frame_size(&self) -> Option<usize> {
        let slot = if self.layer == 1 { 4 } else { 1 };
        let slots = self.samples() / 8 / slot * self.bitrate / self.sample_rate + u32::from(self.padding);
        (self.bitrate > 0).then_some((slots * slot) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_kind_of_header() {
        use Version::{V1, V2, V2_5};
        // Version, layer, bit rate, rate, channels, samples, size.
        for (name, header, expected) in [
            ("mp3 128k 44.1 kHz", [0xff, 0xfb, 0x90, 0x64], (V1, 3, 128_000, 44_100, 2, 1152, Some(417))),
            ("padded", [0xff, 0xfb, 0x92, 0x64], (V1, 3, 128_000, 44_100, 2, 1152, Some(418))),
            ("mp3 320k 48 kHz", [0xff, 0xfb, 0xe4, 0x04], (V1, 3, 320_000, 48_000, 2, 1152, Some(960))),
            ("mp3 mono", [0xff, 0xfb, 0x90, 0xc4], (V1, 3, 128_000, 44_100, 1, 1152, Some(417))),
            ("mp3 64k 22.05 kHz", [0xff, 0xf3, 0x80, 0xc4], (V2, 3, 64_000, 22_050, 1, 576, Some(208))),
            ("mp3 8k 8 kHz", [0xff, 0xe3, 0x18, 0xc4], (V2_5, 3, 8_000, 8_000, 1, 576, Some(72))),
            ("mp2 192k 48 kHz", [0xff, 0xfd, 0xa4, 0x04], (V1, 2, 192_000, 48_000, 2, 1152, Some(576))),
            ("mp2 of MPEG-2", [0xff, 0xf5, 0x84, 0x04], (V2, 2, 64_000, 24_000, 2, 1152, Some(384))),
            ("mp1 384k 48 kHz", [0xff, 0xff, 0xc4, 0x04], (V1, 1, 384_000, 48_000, 2, 384, Some(384))),
            ("mp1 padded", [0xff, 0xff, 0xc2, 0x04], (V1, 1, 384_000, 44_100, 2, 384, Some(420))),
            ("free format", [0xff, 0xfb, 0x04, 0x04], (V1, 3, 0, 48_000, 2, 1152, None)),
        ] {
            let read = FrameHeader::parse(&header).unwrap();
            let FrameHeader { version, layer, bitrate, sample_rate, channels, .. } = read;
            let found = (version, layer, bitrate, sample_rate, channels, read.samples(), read.frame_size());
            assert_eq!(found, expected, "{name}");
            assert_eq!((read.checksum, read.padding), (false, header[2] & 2 != 0), "{name}");
        }
    }

    #[test]
    fn refuses_malformed_headers() {
        for (frame, error) in [
            (&b""[..], Error::Truncated { len: 0 }),
            (b"\xff\xfb\x90", Error::Truncated { len: 3 }),
            (b"ID3\x03", Error::Sync { found: 0x4944 }),
            (b"\xff\xc0\0\0", Error::Sync { found: 0xffc0 }),
            (b"\xff\xeb\x90\x64", Error::Reserved { header: 0xffeb_9064 }),
            (b"\xff\xf9\x90\x64", Error::Reserved { header: 0xfff9_9064 }),
            (b"\xff\xfb\xf0\x64", Error::Reserved { header: 0xfffb_f064 }),
            (b"\xff\xfb\x9c\x64", Error::Reserved { header: 0xfffb_9c64 }),
        ] {
            assert_eq!(FrameHeader::parse(frame), Err(error));
        }
    }

    #[test]
    fn no_header_causes_a_panic() {
        for low in 0..=u16::MAX {
            for high in [0xffe0_u16, 0xffe3, 0xfff3, 0xfffb, 0xfffd, 0xffff] {
                let bytes = (u32::from(high) << 16 | u32::from(low)).to_be_bytes();
                let _ = FrameHeader::parse(&bytes).map(|header| header.frame_size());
            }
        }
    }
}

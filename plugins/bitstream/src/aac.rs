//! AAC: the decoder configuration of an RTMP sequence header, and the ADTS header made of it.
//!
//! ISO/IEC 14496-3: AudioSpecificConfig 1.6.2.1, GASpecificConfig 4.4.1, program_config_element 4.5.1.2, ADTS 1.A.2.
//!
//! Properties that ADTS cannot represent, and how they are handled:
//! - SBR and PS (HE-AAC, HE-AACv2): the header has the core's object type and rate, and decoders find the rest in the
//!   frames (implicit signalling, 1.6.5), which doubles the rate for them;
//! - channel configuration 0: the program_config_element goes into each frame, before everything else (see
//!   [`AudioSpecificConfig::adts_prefix`]), so that a decoder may start at any of them;
//! - a rate that is not in the table: the index of the nearest one by table 4.82, whose scale factor bands the encoder
//!   has used. A difference up to [`RATE_TOLERANCE`] is an inaudible change of speed; a greater one is refused;
//! - object types over 4 (error resilient, low delay, USAC), frames of 960 samples and channel configurations over 7
//!   are refused.

use crate::bits::{BitReader, BitWriter, Truncated};

/// Length of an ADTS header without a checksum, in bytes.
pub const ADTS_HEADER_LEN: usize = 7;

/// The largest frame whose length, header included, fits the 13 bits of an ADTS header.
pub const ADTS_MAX_FRAME: usize = (1 << 13) - 1 - ADTS_HEADER_LEN;

/// Tolerance of an explicit rate to a rate of the table: one part in this many.
pub const RATE_TOLERANCE: u32 = 100;

/// Rates by index in Hz, and from which rate on an explicit one has that index (table 4.82). 13 and 14 are reserved.
const RATES: [(u32, u32); 13] = [
    (96_000, 92_017),
    (88_200, 75_132),
    (64_000, 55_426),
    (48_000, 46_009),
    (44_100, 37_566),
    (32_000, 27_713),
    (24_000, 23_004),
    (22_050, 18_783),
    (16_000, 13_856),
    (12_000, 11_502),
    (11_025, 9_391),
    (8_000, 7_676),
    (7_350, 0),
];

/// The index that announces an explicit rate of 24 bits.
const EXPLICIT_RATE: u32 = 15;

/// Audio object types (table 1.17).
mod object_type {
    pub(super) const SBR: u32 = 5;
    pub(super) const ER_BSAC: u32 = 22;
    pub(super) const PS: u32 = 29;
    pub(super) const ESCAPE: u32 = 31;
}

/// The syncExtensionTypes of backward compatible signalling.
const SBR_EXTENSION: u32 = 0x2b7;
const PS_EXTENSION: u32 = 0x548;

/// The syntactic element that carries a program_config_element in a frame (table 4.85).
const ID_PCE: u8 = 5;

/// The reason that a configuration, or a frame with it, is refused. The culprit is the publisher, which sends malformed data
/// or data that ADTS cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration ends inside a field.
    #[error("AudioSpecificConfig of {len} bytes ends early")]
    Truncated {
        /// Its length in bytes.
        len: usize,
    },
    /// A reserved sampling frequency index.
    #[error("AAC sampling frequency index {index} is reserved")]
    FrequencyIndex {
        /// The index.
        index: u32,
    },
    /// An object type that ADTS has no profile for.
    #[error("ADTS cannot carry AAC object type {object_type}")]
    ObjectType {
        /// The core's object type.
        object_type: u32,
    },
    /// A rate too far from those that ADTS has an index for.
    #[error("ADTS cannot carry AAC of {rate} Hz")]
    Rate {
        /// The core's rate in Hz.
        rate: u32,
    },
    /// Frames of 960 samples.
    #[error("ADTS cannot carry AAC frames of 960 samples")]
    ShortFrames,
    /// A channel configuration that takes more than 3 bits.
    #[error("ADTS cannot carry AAC channel configuration {configuration}")]
    ChannelConfiguration {
        /// The configuration.
        configuration: u32,
    },
    /// A frame whose length does not fit.
    #[error("ADTS cannot carry an AAC frame of {len} bytes")]
    FrameTooLong {
        /// The frame's length in bytes, without the header.
        len: usize,
    },
}

/// The configuration of an AAC decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioSpecificConfig {
    /// The core's object type: 2 for AAC LC, and for HE-AAC on top of it.
    pub object_type: u32,
    /// The core's rate in Hz.
    pub sample_rate: u32,
    /// The channel configuration (table 1.19); 0 if a program_config_element defines it. With PS, that of the core.
    pub channel_configuration: u32,
    /// The decoder's output rate in Hz, if the configuration signals SBR.
    pub sbr: Option<u32>,
    /// Whether the configuration signals PS.
    pub ps: bool,
    /// Whether frames have 960 samples instead of 1024.
    short_frames: bool,
    /// The program_config_element as the first syntactic element of a frame, whole bytes.
    pce: Option<Vec<u8>>,
}

impl AudioSpecificConfig {
    /// Reads a configuration, the data of an AAC sequence header. Ignores trailing bytes.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::FrequencyIndex`].
    pub fn parse(config: &[u8]) -> Result<AudioSpecificConfig, Error> {
        let truncated = |Truncated| Error::Truncated { len: config.len() };
        let mut bits = BitReader::new(config);
        let mut object_type = read_object_type(&mut bits).map_err(truncated)?;
        let sample_rate = read_rate(&mut bits).map_err(truncated)??;
        let channel_configuration = bits.read(4).map_err(truncated)?;
        let mut sbr = None;
        let ps = object_type == object_type::PS;
        if matches!(object_type, object_type::SBR | object_type::PS) {
            sbr = Some(read_rate(&mut bits).map_err(truncated)??);
            object_type = read_object_type(&mut bits).map_err(truncated)?;
            if object_type == object_type::ER_BSAC {
                bits.read(4).map_err(truncated)?;
            }
        }
        let mut config = AudioSpecificConfig {
            object_type,
            sample_rate,
            channel_configuration,
            sbr,
            ps,
            short_frames: false,
            pce: None,
        };
        if matches!(object_type, 1..=4) {
            config.read_general(&mut bits).map_err(truncated)?;
            if config.sbr.is_none() {
                // What follows may be padding, so that nothing in it is an error.
                let _ = config.read_extension(&mut bits);
            }
        }
        Ok(config)
    }

    /// GASpecificConfig, for the object types that ADTS knows.
    fn read_general(&mut self, bits: &mut BitReader<'_>) -> Result<(), Truncated> {
        self.short_frames = bits.flag()?;
        if bits.flag()? {
            // coreCoderDelay
            bits.read(14)?;
        }
        let extension = bits.flag()?;
        if self.channel_configuration == 0 {
            self.pce = Some(read_pce(bits)?);
        }
        if extension {
            // extensionFlag3
            bits.flag()?;
        }
        Ok(())
    }

    /// Reads the backward compatible signalling of SBR and PS.
    fn read_extension(&mut self, bits: &mut BitReader<'_>) -> Result<(), Truncated> {
        if bits.read(11)? != SBR_EXTENSION || read_object_type(bits)? != object_type::SBR || !bits.flag()? {
            return Ok(());
        }
        self.sbr = read_rate(bits)?.ok();
        self.ps = bits.read(11)? == PS_EXTENSION && bits.flag()?;
        Ok(())
    }

    /// Returns the ADTS header of one raw data block of `len` bytes, for the core, without a checksum.
    ///
    /// With channel configuration 0 the block must begin with a program_config_element, which
    /// [`adts_prefix`](Self::adts_prefix) adds.
    ///
    /// # Errors
    /// All but [`Error::Truncated`] and [`Error::FrequencyIndex`].
    pub fn adts_header(&self, len: usize) -> Result<[u8; ADTS_HEADER_LEN], Error> {
        let object_type = self.object_type;
        if !matches!(object_type, 1..=4) {
            return Err(Error::ObjectType { object_type });
        }
        if self.short_frames {
            return Err(Error::ShortFrames);
        }
        let configuration = self.channel_configuration;
        if configuration > 7 {
            return Err(Error::ChannelConfiguration { configuration });
        }
        if len > ADTS_MAX_FRAME {
            return Err(Error::FrameTooLong { len });
        }
        let index = frequency_index(self.sample_rate)?;
        let length = (len + ADTS_HEADER_LEN) as u32;
        let mut bits = BitWriter::default();
        for (width, value) in [
            (12, 0xfff),
            // MPEG-4, layer 0, no checksum.
            (4, 0b0001),
            (2, object_type - 1),
            (4, index),
            (1, 0),
            (3, configuration),
            // Original, home, copyright.
            (4, 0),
            (13, length),
            // A buffer fullness of all ones: variable rate.
            (11, 0x7ff),
            // One raw data block.
            (2, 0),
        ] {
            bits.write(width, value);
        }
        Ok(bits.into_bytes().try_into().expect("the fields are 56 bits"))
    }

    /// Returns the bytes to send before `frame`, the raw data block of an RTMP message: its ADTS header and, if the channel
    /// configuration is 0 and the frame does not begin with one, the program_config_element.
    ///
    /// An element has whole bytes, so the frame follows unchanged.
    ///
    /// # Errors
    /// As for [`adts_header`](Self::adts_header).
    pub fn adts_prefix(&self, frame: &[u8]) -> Result<Vec<u8>, Error> {
        let has_pce = frame.first().is_some_and(|first| first >> 5 == ID_PCE);
        let pce = self.pce.as_deref().filter(|_| !has_pce).unwrap_or_default();
        let header = self.adts_header(pce.len() + frame.len())?;
        Ok([&header[..], pce].concat())
    }
}

/// GetAudioObjectType (table 1.16).
fn read_object_type(bits: &mut BitReader<'_>) -> Result<u32, Truncated> {
    Ok(match bits.read(5)? {
        object_type::ESCAPE => 32 + bits.read(6)?,
        object_type => object_type,
    })
}

/// A rate in Hz, by its index or explicit.
fn read_rate(bits: &mut BitReader<'_>) -> Result<Result<u32, Error>, Truncated> {
    Ok(match bits.read(4)? {
        EXPLICIT_RATE => Ok(bits.read(24)?),
        index => RATES.get(index as usize).map(|(rate, _)| *rate).ok_or(Error::FrequencyIndex { index }),
    })
}

/// Returns the index for a rate in Hz.
fn frequency_index(rate: u32) -> Result<u32, Error> {
    let index = RATES.iter().position(|(_, from)| rate >= *from).expect("the last one is from 0");
    let nominal = RATES[index].0;
    if rate.abs_diff(nominal) > nominal / RATE_TOLERANCE {
        return Err(Error::Rate { rate });
    }
    Ok(index as u32)
}

/// Reads a program_config_element and writes it as the first syntactic element of a frame.
fn read_pce(bits: &mut BitReader<'_>) -> Result<Vec<u8>, Truncated> {
    let mut out = BitWriter::default();
    out.write(3, u32::from(ID_PCE));
    let mut copy = |bits: &mut BitReader<'_>, width| {
        let value = bits.read(width)?;
        out.write(width, value);
        Ok(value)
    };
    // element_instance_tag, object_type, sampling_frequency_index.
    copy(bits, 4 + 2 + 4)?;
    let [front, side, back] = [copy(bits, 4)?, copy(bits, 4)?, copy(bits, 4)?];
    let [lfe, data, coupling] = [copy(bits, 2)?, copy(bits, 3)?, copy(bits, 4)?];
    // Mono, stereo and matrix mixdown.
    for width in [4, 4, 3] {
        if copy(bits, 1)? == 1 {
            copy(bits, width)?;
        }
    }
    for (count, width) in [(front + side + back, 5), (lfe + data, 4), (coupling, 5)] {
        for _ in 0..count {
            copy(bits, width)?;
        }
    }
    // byte_alignment() counts from the start of the configuration here, and from the start of the frame there.
    bits.align();
    let mut element = out.into_bytes();
    let comment = bits.read(8)?;
    element.push(comment as u8);
    for _ in 0..comment {
        element.push(bits.read(8)? as u8);
    }
    Ok(element)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields by width and value as bytes.
    fn bits(fields: &[(usize, u32)]) -> Vec<u8> {
        let mut writer = BitWriter::default();
        for (width, value) in fields {
            writer.write(*width, *value);
        }
        writer.into_bytes()
    }

    fn parse(config: &[u8]) -> AudioSpecificConfig {
        AudioSpecificConfig::parse(config).unwrap()
    }

    /// Profile, rate index, channel configuration and frame length of a header.
    fn fields(header: &[u8]) -> (u8, u8, u8, usize) {
        assert_eq!((header[0], header[1]), (0xff, 0xf1));
        assert_eq!((header[5] & 0x1f, header[6]), (0x1f, 0xfc), "variable rate, one block");
        let length =
            usize::from(header[3] & 3) << 11 | usize::from(header[4]) << 3 | usize::from(header[5] >> 5);
        (header[2] >> 6, header[2] >> 2 & 0xf, (header[2] & 1) << 2 | header[3] >> 6, length)
    }

    /// A configuration of two front channels by a program_config_element, with this comment.
    fn pce_config(comment: &[u8]) -> Vec<u8> {
        let mut fields = vec![(5, 2), (4, 4), (4, 0), (3, 0)];
        fields.extend(PCE);
        let mut config = bits(&fields);
        config.push(comment.len() as u8);
        config.extend(comment);
        config
    }

    /// Instance 0, AAC LC, 44.1 kHz, one channel pair in front.
    const PCE: [(usize, u32); 14] = [
        (4, 0),
        (2, 1),
        (4, 4),
        (4, 1),
        (4, 0),
        (4, 0),
        (2, 0),
        (3, 0),
        (4, 0),
        (1, 0),
        (1, 0),
        (1, 0),
        (1, 1),
        (4, 0),
    ];

    #[test]
    fn reads_each_form_of_configuration() {
        // Object type, rate, channels, SBR's rate, PS.
        for (name, config, expected) in [
            ("LC 44.1 kHz stereo", vec![0x12, 0x10], (2, 44_100, 2, None, false)),
            ("Main 96 kHz mono", vec![0x08, 0x08], (1, 96_000, 1, None, false)),
            ("LC 7350 Hz", vec![0x16, 0x10], (2, 7_350, 2, None, false)),
            ("LC 7.1", vec![0x11, 0xb8], (2, 48_000, 7, None, false)),
            (
                "LC of an explicit rate",
                bits(&[(5, 2), (4, 15), (24, 44_056), (4, 2), (3, 0)]),
                (2, 44_056, 2, None, false),
            ),
            (
                "HE-AAC explicit",
                bits(&[(5, 5), (4, 7), (4, 2), (4, 4), (5, 2), (3, 0)]),
                (2, 22_050, 2, Some(44_100), false),
            ),
            (
                "HE-AAC of an explicit rate",
                bits(&[(5, 5), (4, 6), (4, 2), (4, 15), (24, 48_000), (5, 2), (3, 0)]),
                (2, 24_000, 2, Some(48_000), false),
            ),
            (
                "HE-AACv2 explicit",
                bits(&[(5, 29), (4, 7), (4, 1), (4, 4), (5, 2), (3, 0)]),
                (2, 22_050, 1, Some(44_100), true),
            ),
            ("HE-AAC compatible", vec![0x13, 0x90, 0x56, 0xe5, 0xa0], (2, 22_050, 2, Some(44_100), false)),
            (
                "HE-AACv2 compatible",
                vec![0x13, 0x88, 0x56, 0xe5, 0xa5, 0x48, 0x80],
                (2, 22_050, 1, Some(44_100), true),
            ),
            (
                "SBR known to be absent",
                bits(&[(5, 2), (4, 7), (4, 2), (3, 0), (11, 0x2b7), (5, 5), (1, 0)]),
                (2, 22_050, 2, None, false),
            ),
            ("padding", vec![0x12, 0x10, 0, 0, 0, 0], (2, 44_100, 2, None, false)),
            ("a cut extension", vec![0x13, 0x90, 0x56, 0xe5], (2, 22_050, 2, None, false)),
            (
                "LC with a core coder",
                bits(&[(5, 2), (4, 4), (4, 2), (2, 1), (14, 9), (1, 0)]),
                (2, 44_100, 2, None, false),
            ),
            (
                "an escaped object type",
                bits(&[(5, 31), (6, 10), (4, 3), (4, 2)]),
                (42, 48_000, 2, None, false),
            ),
        ] {
            let config = parse(&config);
            let AudioSpecificConfig { object_type, sample_rate, channel_configuration, sbr, ps, .. } = config;
            assert_eq!((object_type, sample_rate, channel_configuration, sbr, ps), expected, "{name}");
        }
    }

    #[test]
    fn makes_adts_of_the_core() {
        for (name, config, expected) in [
            ("LC", vec![0x12, 0x10], (1, 4, 2, 107)),
            ("Main", vec![0x08, 0x08], (0, 0, 1, 107)),
            ("HE-AAC", bits(&[(5, 5), (4, 7), (4, 2), (4, 4), (5, 2), (3, 0)]), (1, 7, 2, 107)),
            ("HE-AACv2", vec![0x13, 0x88, 0x56, 0xe5, 0xa5, 0x48, 0x80], (1, 7, 1, 107)),
            ("48 kHz, explicit", bits(&[(5, 2), (4, 15), (24, 48_000), (4, 2), (3, 0)]), (1, 3, 2, 107)),
            ("44.1 kHz for NTSC", bits(&[(5, 2), (4, 15), (24, 44_056), (4, 2), (3, 0)]), (1, 4, 2, 107)),
            ("7.1", vec![0x11, 0xb8], (1, 3, 7, 107)),
        ] {
            assert_eq!(fields(&parse(&config).adts_header(100).unwrap()), expected, "{name}");
        }
    }

    #[test]
    fn refuses_what_adts_cannot_say() {
        let lc = |rest: &[(usize, u32)]| parse(&bits(&[&[(5, 2)], rest].concat()));
        for (config, len, error) in [
            (parse(&[0x12, 0x10]), 8_185, Error::FrameTooLong { len: 8_185 }),
            (lc(&[(4, 3), (4, 2), (1, 1), (2, 0)]), 1, Error::ShortFrames),
            (lc(&[(4, 3), (4, 12), (3, 0)]), 1, Error::ChannelConfiguration { configuration: 12 }),
            (lc(&[(4, 15), (24, 40_000), (4, 2), (3, 0)]), 1, Error::Rate { rate: 40_000 }),
            (lc(&[(4, 15), (24, 0), (4, 2), (3, 0)]), 1, Error::Rate { rate: 0 }),
            (
                parse(&bits(&[(5, 31), (6, 7), (4, 3), (4, 2), (3, 0)])),
                1,
                Error::ObjectType { object_type: 39 },
            ),
        ] {
            assert_eq!(config.adts_header(len), Err(error));
        }
        assert_eq!(fields(&parse(&[0x12, 0x10]).adts_header(8_184).unwrap()).3, 8_191);
    }

    #[test]
    fn carries_the_program_config_in_the_frame() {
        for comment in [&b""[..], b"two in front"] {
            let config = parse(&pce_config(comment));
            let prefix = config.adts_prefix(b"\x20frame").unwrap();
            let mut element = bits(&[&[(3, u32::from(ID_PCE))], &PCE[..]].concat());
            element.push(comment.len() as u8);
            element.extend(comment);
            assert_eq!(prefix[ADTS_HEADER_LEN..], element);
            assert_eq!(fields(&prefix[..ADTS_HEADER_LEN]), (1, 4, 0, ADTS_HEADER_LEN + element.len() + 6));
            let has_one = config.adts_prefix(b"\xa0frame").unwrap();
            assert_eq!(fields(&has_one), (1, 4, 0, ADTS_HEADER_LEN + 6));
        }
        assert_eq!(parse(&[0x12, 0x10]).adts_prefix(b"\x20frame").unwrap().len(), ADTS_HEADER_LEN);
    }

    #[test]
    fn refuses_what_is_cut_off_or_reserved_and_never_panics() {
        let pce = pce_config(b"comment");
        for config in [
            &pce[..],
            &[0x12, 0x10],
            &bits(&[(5, 29), (4, 7), (4, 1), (4, 15), (24, 44_100), (5, 2), (3, 0)]),
        ] {
            for end in 0..config.len() {
                assert_eq!(AudioSpecificConfig::parse(&config[..end]), Err(Error::Truncated { len: end }));
            }
            for at in 0..config.len() {
                for value in 0..=255 {
                    let mut config = config.to_vec();
                    config[at] = value;
                    let _ = AudioSpecificConfig::parse(&config).map(|config| config.adts_prefix(b"frame"));
                }
            }
        }
        for index in [13, 14] {
            let config = bits(&[(5, 2), (4, index), (4, 2), (3, 0)]);
            assert_eq!(AudioSpecificConfig::parse(&config), Err(Error::FrequencyIndex { index }));
        }
    }
}

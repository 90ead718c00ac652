//! AAC: the decoder configuration of an RTMP sequence header, and the ADTS header derived from it.
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

/// By index: the rate in Hz, and the lowest explicit rate that has this index (table 4.82). 13 and 14 are reserved.
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
    /// The program_config_element as the first syntactic element of a frame, padded to whole bytes.
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
                // The remaining bytes may be padding, so errors in them are ignored.
                let _ = config.read_extension(&mut bits);
            }
        }
        Ok(config)
    }

    /// Reads GASpecificConfig, for the object types that ADTS can carry.
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
    /// The element ends at a byte boundary, so the frame follows unchanged.
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

/// Reads GetAudioObjectType (table 1.16).
fn read_object_type(bits: &mut BitReader<'_>) -> Result<u32, Truncated> {
    Ok(match bits.read(5)? {
        object_type::ESCAPE => 32 + bits.read(6)?,
        object_type => object_type,
    })
}

/// Reads a rate in Hz, given by its index or explicitly.
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
mod tests;

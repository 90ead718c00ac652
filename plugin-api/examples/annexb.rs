//! A worked example of a format module: H.264 as a byte stream (ITU-T H.264, Annex B).
//!
//! `cargo build --example annexb` makes `libannexb.so`. A mount with the extension `h264` then serves a stream for
//! `ffplay -f h264 URL`: parameter sets and pictures, each NAL unit behind a start code. Audio is dropped.

#![forbid(unsafe_code)]

use remuxd_plugin_api::{
    export_format, log, Block, BlockFlags, Codec, Format, FormatInfo, OptionKind, OptionSpec, Packet,
    RemuxError, Remuxer, Setup, SharedBytes, Sink, Tag, Transport,
};

const START_CODE: &[u8] = &[0, 0, 0, 1];
/// An access unit delimiter (7.3.2.4) that allows all slice types.
const DELIMITER: &[u8] = &[0, 0, 0, 1, 9, 0xf0];

/// The format.
struct AnnexB;

export_format!(AnnexB);

impl Format for AnnexB {
    type Remuxer = AnnexBRemuxer;

    fn info() -> FormatInfo {
        FormatInfo {
            name: "annexb",
            version: env!("CARGO_PKG_VERSION"),
            extensions: &["h264"],
            transport: Transport::HTTP,
            content_type: "video/h264",
            video_codecs: &[Codec::H264],
            audio_codecs: &[],
            options: &[OptionSpec {
                name: "delimiters",
                kind: OptionKind::Flag,
                default: "false",
                doc: "Put an access unit delimiter in front of each picture.",
                variant: true,
            }],
        }
    }

    fn remuxer(setup: &Setup) -> Result<AnnexBRemuxer, RemuxError> {
        Ok(AnnexBRemuxer { length_size: None, delimiters: setup.options.flag("delimiters") })
    }
}

/// The state of one stream.
struct AnnexBRemuxer {
    /// Length of a NAL unit's length field, in bytes; `None` before the first sequence header.
    length_size: Option<usize>,
    delimiters: bool,
}

impl Remuxer for AnnexBRemuxer {
    fn tag(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        if tag.codec != Codec::H264 {
            return Ok(());
        }
        match tag.packet {
            Packet::SEQUENCE_HEADER => {
                let (length_size, parts) = parameter_sets(&tag.data())?;
                self.length_size = Some(length_size);
                // Current viewers get it now, later ones before their first picture.
                sink.block(Block { flags: BlockFlags::CONFIG, track: 0, dts: tag.dts, parts })?;
            }
            Packet::CODED_FRAME => {
                let Some(length_size) = self.length_size else {
                    log::debug("a picture before its sequence header was dropped");
                    return Ok(());
                };
                let mut parts = picture(&tag.data(), length_size)?;
                if self.delimiters {
                    parts.insert(0, SharedBytes::from_static(DELIMITER));
                }
                let flags = if tag.keyframe { BlockFlags::JOIN } else { BlockFlags::NONE };
                sink.block(Block { flags, track: 0, dts: tag.dts, parts })?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Reads an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1): the size of NAL unit lengths, and the parameter
/// sets as a byte stream.
fn parameter_sets(record: &SharedBytes) -> Result<(usize, Vec<SharedBytes>), RemuxError> {
    let mut reader = Reader { bytes: record, at: 0, what: "AVCDecoderConfigurationRecord" };
    reader.take(4)?;
    let length_size = usize::from(reader.number(1)? as u8 & 3) + 1;
    let mut parts = Vec::new();
    for count_bits in [0x1f, 0xff] {
        for _ in 0..reader.number(1)? & count_bits {
            let size = reader.number(2)?;
            parts.push(SharedBytes::from_static(START_CODE));
            parts.push(reader.take(size)?);
        }
    }
    Ok((length_size, parts))
}

/// Replaces the length before each NAL unit by a start code. The units are slices of the tag's payload.
fn picture(data: &SharedBytes, length_size: usize) -> Result<Vec<SharedBytes>, RemuxError> {
    let mut reader = Reader { bytes: data, at: 0, what: "NAL unit" };
    let mut parts = Vec::new();
    while reader.at < data.len() {
        let size = reader.number(length_size)?;
        parts.push(SharedBytes::from_static(START_CODE));
        parts.push(reader.take(size)?);
    }
    Ok(parts)
}

/// Reads from the front of the input; reading past the end is an error.
struct Reader<'a> {
    bytes: &'a SharedBytes,
    at: usize,
    what: &'static str,
}

impl Reader<'_> {
    fn take(&mut self, size: usize) -> Result<SharedBytes, RemuxError> {
        let (what, offset) = (self.what, self.at);
        if size > self.bytes.len() - offset {
            return Err(RemuxError::Malformed { what, offset });
        }
        self.at += size;
        Ok(self.bytes.slice(offset..self.at))
    }

    /// Reads a big-endian integer of up to 4 bytes.
    fn number(&mut self, size: usize) -> Result<usize, RemuxError> {
        Ok(self.take(size)?.iter().fold(0, |number, &byte| number << 8 | usize::from(byte)))
    }
}

#[cfg(test)]
mod tests {
    use remuxd_plugin_api::{Millis, Options, StreamFacts, TagKind};

    use super::*;

    const RECORD: &[u8] = &[1, 100, 0, 31, 0xff, 0xe1, 0, 3, 0x67, 1, 2, 1, 0, 2, 0x68, 3];

    fn video(packet: Packet, keyframe: bool, data: &[u8]) -> Tag {
        let mut tag = Tag::new(TagKind::VIDEO, Millis(40), data.to_vec().into());
        tag.codec = Codec::H264;
        tag.packet = packet;
        tag.keyframe = keyframe;
        tag
    }

    fn remux(delimiters: &str, tags: &[Tag]) -> Result<Vec<(BlockFlags, Vec<u8>)>, RemuxError> {
        let options = Options::new(vec![("delimiters".into(), delimiters.into())]);
        let mut remuxer = AnnexB::remuxer(&Setup::new(options, StreamFacts::default()))?;
        // A `Vec<Block>` is a sink.
        let mut blocks: Vec<Block> = Vec::new();
        for tag in tags {
            remuxer.tag(tag, &mut blocks)?;
        }
        remuxer.finish(&mut blocks)?;
        let bytes = |block: Block| block.parts.iter().flat_map(|part| part.to_vec()).collect();
        Ok(blocks.into_iter().map(|block| (block.flags, bytes(block))).collect())
    }

    #[test]
    fn writes_start_codes_for_lengths() {
        let tags = [
            video(Packet::SEQUENCE_HEADER, true, RECORD),
            video(Packet::CODED_FRAME, true, &[0, 0, 0, 1, 6, 0, 0, 0, 2, 0x65, 9]),
            video(Packet::CODED_FRAME, false, &[0, 0, 0, 1, 0x41]),
        ];
        let blocks = remux("false", &tags).unwrap();
        assert_eq!(
            blocks,
            [
                (BlockFlags::CONFIG, vec![0, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x68, 3]),
                (BlockFlags::JOIN, vec![0, 0, 0, 1, 6, 0, 0, 0, 1, 0x65, 9]),
                (BlockFlags::NONE, vec![0, 0, 0, 1, 0x41]),
            ]
        );
        assert_eq!(remux("true", &tags).unwrap()[2].1, [0, 0, 0, 1, 9, 0xf0, 0, 0, 0, 1, 0x41]);
    }

    #[test]
    fn shares_the_payload() {
        let tag = video(Packet::CODED_FRAME, true, &[0, 0, 0, 2, 0x65, 9]);
        let parts = picture(&tag.data(), 4).unwrap();
        assert_eq!(parts[1].as_ptr(), tag.payload[4..].as_ptr());
    }

    #[test]
    fn refuses_truncated_input() {
        for end in 0..RECORD.len() {
            assert!(
                remux("false", &[video(Packet::SEQUENCE_HEADER, true, &RECORD[..end])]).is_err(),
                "{end}"
            );
        }
        let tags = [
            video(Packet::SEQUENCE_HEADER, true, RECORD),
            video(Packet::CODED_FRAME, true, &[0, 0, 0, 9, 0x65]),
        ];
        assert_eq!(remux("false", &tags), Err(RemuxError::Malformed { what: "NAL unit", offset: 4 }));
    }
}

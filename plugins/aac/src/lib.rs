//! The `aac` format module: the audio of a stream as AAC in ADTS over HTTP.
//!
//! A viewer gets ADTS frames (ISO/IEC 14496-3, 1.A.2): for each published frame, a header derived from the newest sequence header,
//! then the frame unchanged and without a copy. Video is dropped.
//!
//! Invariants: each block is one frame and a join point. Frames before a sequence header are dropped; a new one applies from the next
//! frame on. Empty messages, which mean silence, produce no block. With a sequence header that ADTS cannot carry (see
//! [`remuxd_bitstream::aac`]; xHE-AAC, low delay), the stream is [`Unsupported`](RemuxError::Unsupported). Frames that ADTS
//! cannot carry, and all frames after a malformed sequence header, are dropped: the publisher's errors are not faults of
//! this module. The log has one line for each sequence header.
//!
//! When the stream changes to another codec, the host ends the mount's responses.

#![forbid(unsafe_code)]

use remuxd_bitstream::aac::{AudioSpecificConfig, Error};
use remuxd_plugin_api::{
    Block, BlockFlags, Codec, Format, FormatInfo, OptionSpec, Packet, RemuxError, Remuxer, Setup, Sink, Tag,
    TagKind, Transport, export_format, log,
};

/// AAC as an unending HTTP response.
#[derive(Debug)]
pub struct Aac;

impl Format for Aac {
    type Remuxer = AacRemuxer;

    fn info() -> FormatInfo {
        FormatInfo {
            name: "aac",
            version: env!("CARGO_PKG_VERSION"),
            extensions: &["aac"],
            transport: Transport::HTTP,
            content_type: "audio/x-aac",
            video_codecs: &[],
            audio_codecs: &[Codec::AAC],
            options: &[OptionSpec::TRACK],
        }
    }

    fn remuxer(_: &Setup) -> Result<AacRemuxer, RemuxError> {
        Ok(AacRemuxer::default())
    }
}

/// The remuxer of one stream to ADTS.
#[derive(Debug, Default)]
pub struct AacRemuxer {
    /// `None` before the first sequence header, and after a malformed one.
    config: Option<AudioSpecificConfig>,
    /// Whether an error since the last sequence header was logged.
    logged: bool,
}

impl AacRemuxer {
    fn log_once(&mut self, error: &Error) {
        if !std::mem::replace(&mut self.logged, true) {
            log::warn(&format!("audio dropped: {error}"));
        }
    }
}

impl Remuxer for AacRemuxer {
    fn tag(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        if (tag.kind, tag.codec) != (TagKind::AUDIO, Codec::AAC) {
            return Ok(());
        }
        let data = tag.data();
        match tag.packet {
            Packet::SEQUENCE_HEADER => {
                let config = AudioSpecificConfig::parse(&data);
                self.logged = false;
                if let Err(error) = &config {
                    self.log_once(error);
                }
                self.config = config.ok();
                // Independent of the frame: whether ADTS can carry the configuration at all.
                if let Some(Err(error)) = self.config.as_ref().map(|config| config.adts_header(0)) {
                    self.log_once(&error);
                    return Err(RemuxError::Unsupported(tag.codec));
                }
            }
            Packet::CODED_FRAME if !data.is_empty() => {
                match self.config.as_ref().map(|config| config.adts_prefix(&data)) {
                    None => {}
                    Some(Err(error)) => self.log_once(&error),
                    Some(Ok(prefix)) => sink.block(Block {
                        flags: BlockFlags::JOIN,
                        track: 0,
                        dts: tag.dts,
                        parts: vec![prefix.into(), data],
                    })?,
                }
            }
            _ => {}
        }
        Ok(())
    }
}

export_format!(Aac);

#[cfg(test)]
mod tests {
    use remuxd_bitstream::flv::read_tag;
    use remuxd_plugin_api::Millis;

    use super::*;

    fn tag(kind: TagKind, dts: i64, body: &[u8]) -> Tag {
        read_tag(kind, Millis(dts), body.to_vec().into())
    }

    fn remux(tags: &[Tag]) -> Vec<Block> {
        let (mut remuxer, mut blocks) = (AacRemuxer::default(), Vec::new());
        for tag in tags {
            remuxer.tag(tag, &mut blocks).unwrap();
        }
        remuxer.finish(&mut blocks).unwrap();
        blocks
    }

    fn bytes(blocks: &[Block]) -> Vec<Vec<u8>> {
        assert!(blocks.iter().all(|block| block.flags == BlockFlags::JOIN));
        blocks.iter().map(|block| block.parts.iter().flat_map(|part| part.to_vec()).collect()).collect()
    }

    const A: TagKind = TagKind::AUDIO;
    /// LC, 44.1 kHz, stereo.
    const CONFIG: &[u8] = b"\xaf\x00\x12\x10";

    #[test]
    fn writes_adts_with_the_newest_configuration() {
        let tags = [
            tag(A, 0, b"\xaf\x01early"),
            tag(TagKind::VIDEO, 0, b"\x17\x01\0\0\0key"),
            tag(A, 0, CONFIG),
            tag(A, 23, b"\xaf\x01one"),
            tag(A, 46, b"\xaf\x01"),
            tag(A, 46, b"\xaf"),
            tag(A, 69, b"\x90mp4a\x11\x88"),
            tag(A, 69, b"\x91mp4atwo"),
            tag(A, 92, b"\x2f\xff\xfb\x90\x64"),
        ];
        let blocks = remux(&tags);
        assert_eq!(
            bytes(&blocks),
            [
                b"\xff\xf1\x50\x80\x01\x5f\xfcone".to_vec(),
                // 48 kHz, mono.
                b"\xff\xf1\x4c\x40\x01\x5f\xfctwo".to_vec(),
            ]
        );
        assert_eq!(blocks[0].dts, Millis(23));
        assert_eq!(blocks[0].parts[1].as_ptr(), tags[3].data().as_ptr(), "the payload is shared");
    }

    #[test]
    fn drops_frames_that_are_too_long_or_have_no_configuration() {
        let long = [b"\xaf\x01", &[0; 8185][..]].concat();
        let blocks = remux(&[
            tag(A, 0, CONFIG),
            tag(A, 0, &long),
            tag(A, 23, b"\xaf\x01one"),
            // Truncated.
            tag(A, 46, b"\xaf\x00\x12"),
            tag(A, 46, b"\xaf\x01no"),
            tag(A, 92, CONFIG),
            tag(A, 92, b"\xaf\x01two"),
        ]);
        assert_eq!(blocks.iter().map(|block| block.dts.0).collect::<Vec<_>>(), [23, 92]);
    }

    #[test]
    fn a_configuration_that_adts_cannot_carry_is_unsupported() {
        // xHE-AAC, low delay, a rate between those of the table, frames of 960 samples.
        let configs: [&[u8]; 4] = [b"\xf9\x46\x40", b"\xf8\xe6\x20", b"\x17\x80\x4e\x20\x10", b"\x11\x94"];
        for config in configs {
            let (mut remuxer, mut blocks) = (AacRemuxer::default(), Vec::new());
            remuxer.tag(&tag(A, 0, CONFIG), &mut blocks).unwrap();
            remuxer.tag(&tag(A, 0, b"\xaf\x01one"), &mut blocks).unwrap();
            let header = tag(A, 23, &[b"\xaf\x00", config].concat());
            let answer = remuxer.tag(&header, &mut blocks);
            assert_eq!(
                (answer, blocks.len()),
                (Err(RemuxError::Unsupported(Codec::AAC)), 1),
                "{config:02x?}"
            );
        }
    }
}

//! The `mp3` format module: the audio of a stream as MP3 over HTTP.
//!
//! A viewer gets an empty ID3v2 tag (ID3v2.3, section 3.1), as from SRS, then the published frames (ISO/IEC 11172-3), unchanged and
//! without a copy. Video is dropped.
//!
//! Invariants: each block is the data of one RTMP message, and a join point if it begins with a frame header. Empty messages, which
//! mean silence, produce no block, since MP3 has no empty frame.
//!
//! When the stream changes to another codec, the host ends the mount's responses.

#![forbid(unsafe_code)]

use remuxd_bitstream::mpa::FrameHeader;
use remuxd_plugin_api::{
    Block, BlockFlags, Codec, Format, FormatInfo, OptionSpec, Packet, RemuxError, Remuxer, Setup, Sink, Tag,
    TagKind, Transport, export_format,
};

/// An ID3v2.3 tag with ten bytes of padding and no frame, for players that expect a tag first.
const ID3: [u8; 20] = *b"ID3\x03\0\0\0\0\0\x0a\0\0\0\0\0\0\0\0\0\0";

/// MP3 as an unending HTTP response.
#[derive(Debug)]
pub struct Mp3;

impl Format for Mp3 {
    type Remuxer = Mp3Remuxer;

    fn info() -> FormatInfo {
        FormatInfo {
            name: "mp3",
            version: env!("CARGO_PKG_VERSION"),
            extensions: &["mp3"],
            transport: Transport::HTTP,
            content_type: "audio/mpeg",
            video_codecs: &[],
            audio_codecs: &[Codec::MP3],
            options: &[OptionSpec::TRACK],
        }
    }

    fn remuxer(_: &Setup) -> Result<Mp3Remuxer, RemuxError> {
        Ok(Mp3Remuxer::default())
    }
}

/// The remuxer of one stream to MP3.
#[derive(Debug, Default)]
pub struct Mp3Remuxer {
    /// Whether the ID3v2 tag was written.
    started: bool,
}

impl Remuxer for Mp3Remuxer {
    fn tag(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let mp3 = (tag.kind, tag.codec, tag.packet) == (TagKind::AUDIO, Codec::MP3, Packet::CODED_FRAME);
        let frame = tag.data();
        if !mp3 || frame.is_empty() {
            return Ok(());
        }
        let block = |flags, part| Block { flags, track: 0, dts: tag.dts, parts: vec![part] };
        if !std::mem::replace(&mut self.started, true) {
            sink.block(block(BlockFlags::PREAMBLE, ID3.to_vec().into()))?;
        }
        let starts_frame = FrameHeader::parse(&frame).is_ok();
        sink.block(block(if starts_frame { BlockFlags::JOIN } else { BlockFlags::NONE }, frame))?;
        Ok(())
    }
}

export_format!(Mp3);

#[cfg(test)]
mod tests {
    use remuxd_bitstream::flv::read_tag;
    use remuxd_plugin_api::Millis;

    use super::*;

    fn tag(kind: TagKind, dts: i64, body: &[u8]) -> Tag {
        read_tag(kind, Millis(dts), body.to_vec().into())
    }

    #[test]
    fn passes_frames_on_after_one_id3_tag() {
        let tags = [
            tag(TagKind::VIDEO, 0, b"\x17\x01\0\0\0key"),
            tag(TagKind::SCRIPT, 0, b"\x02\x00\x0aonMetaData\x05"),
            tag(TagKind::AUDIO, 0, b"\x2f\xff\xfb\x90\x64one"),
            tag(TagKind::AUDIO, 26, b"\x2f"),
            tag(TagKind::AUDIO, 52, b"\x91.mp3\xff\xfb\x90\x64two"),
            tag(TagKind::AUDIO, 78, b"\xe2the rest of a frame"),
            tag(TagKind::AUDIO, 80, b"\xaf\x01aac"),
        ];
        let (mut remuxer, mut blocks) = (Mp3Remuxer::default(), Vec::new());
        for tag in &tags {
            remuxer.tag(tag, &mut blocks).unwrap();
        }
        remuxer.finish(&mut blocks).unwrap();
        let found: Vec<_> =
            blocks.iter().map(|block| (block.flags, block.dts.0, block.parts[0].to_vec())).collect();
        assert_eq!(
            found,
            [
                (BlockFlags::PREAMBLE, 0, ID3.to_vec()),
                (BlockFlags::JOIN, 0, b"\xff\xfb\x90\x64one".to_vec()),
                (BlockFlags::JOIN, 52, b"\xff\xfb\x90\x64two".to_vec()),
                (BlockFlags::NONE, 78, b"the rest of a frame".to_vec()),
            ]
        );
        assert_eq!(blocks[1].parts[0].as_ptr(), tags[2].data().as_ptr(), "the payload is shared");
    }
}

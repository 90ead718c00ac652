//! Tags as messages to players, in a session or for many players at once.

use bytes::{Buf, Bytes};

use super::chunk::ChunkWriter;
use super::connect::caps_ex::MULTITRACK;
use super::enhanced;
use super::message::MessageKind;
use super::output::Output;
use crate::media::{Packet, Tag, TagKind};

// Any chunk stream above 2 may be used; these are SRS's.
pub(super) const STREAM_CHUNK_STREAM: u32 = 5;
const VIDEO_CHUNK_STREAM: u32 = 6;
const AUDIO_CHUNK_STREAM: u32 = 7;

/// The form in which a player gets tags. Players with equal forms get the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlayerForm {
    /// The message stream.
    pub(super) stream_id: u32,
    /// The player's `capsEx`.
    pub(super) caps_ex: u32,
    /// Payload bytes of a chunk.
    pub(super) chunk_size: u32,
}

impl PlayerForm {
    /// The form of a player that says nothing.
    #[cfg(test)]
    pub const PLAIN: PlayerForm = PlayerForm { stream_id: 1, caps_ex: 0, chunk_size: 60_000 };

    /// Whether the player reads the other tracks of multitrack bodies, each from a keyframe on. Others get track 0 alone.
    pub(super) fn reads_tracks(self) -> bool {
        self.caps_ex & MULTITRACK != 0
    }

    /// Returns the chunks of `tags`, and the number of bytes of their payloads. The headers do not depend on what was sent before,
    /// so the chunks fit after any message.
    pub fn chunks(self, tags: &[Tag]) -> (Vec<u8>, usize) {
        let (mut writer, mut output) = (ChunkWriter::new(), Output::new());
        writer.set_chunk_size(self.chunk_size);
        for tag in tags {
            write_tag(&mut writer, self.stream_id, tag, self.caps_ex, &mut output);
        }
        let mut bytes = vec![0; output.remaining()];
        output.copy_to_slice(&mut bytes);
        (bytes, tags.iter().map(|tag| tag.payload.len()).sum())
    }
}

/// Queues a tag in the form that a peer with these `capsEx` understands. The payload is shared, not copied.
pub(super) fn write_tag(
    writer: &mut ChunkWriter,
    stream_id: u32,
    tag: &Tag,
    caps_ex: u32,
    output: &mut Output,
) {
    let (chunk_stream, kind) = match tag.kind {
        TagKind::AUDIO => (AUDIO_CHUNK_STREAM, MessageKind::AUDIO),
        TagKind::VIDEO => (VIDEO_CHUNK_STREAM, MessageKind::VIDEO),
        TagKind::SCRIPT => (STREAM_CHUNK_STREAM, MessageKind::DATA_AMF0),
        _ => return,
    };
    // FFmpeg takes metadata with another timestamp for the first subtitle of a new track.
    let is_metadata = tag.kind == TagKind::SCRIPT && tag.header.packet == Packet::METADATA;
    // A message's timestamp counts modulo 2^32 (5.1).
    let timestamp = if is_metadata { 0 } else { tag.dts.0 as u32 };
    let payload: Option<Bytes> = enhanced::body_for(tag, caps_ex);
    if let Some(payload) = payload {
        writer.write(chunk_stream, kind, stream_id, timestamp, &payload, output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Millis;
    use crate::rtmp::Input;
    use crate::rtmp::chunk::{ChunkLimits, ChunkReader};

    #[test]
    fn batches_are_read_after_each_other_whatever_one_left_out() {
        let tag = |kind, at, payload: &[u8]| Tag::new(kind, Millis(at), Bytes::copy_from_slice(payload));
        let key = [&b"\x17\x01\0\0\0"[..], &[7; 300]].concat();
        let tags = [
            tag(TagKind::VIDEO, 40, &key),
            tag(TagKind::AUDIO, 45, b"\xaf\x01abc"),
            tag(TagKind::VIDEO, 80, &key),
            tag(TagKind::VIDEO, 120, &key),
            tag(TagKind::AUDIO, 0x0100_0000, b"\xaf\x01def"),
        ];
        let form = PlayerForm { stream_id: 1, caps_ex: 0, chunk_size: 128 };
        let (batches, media): (Vec<_>, Vec<_>) =
            [&tags[..3], &tags[4..], &tags[2..]].map(|tags| form.chunks(tags)).into_iter().unzip();
        assert_eq!(media, [615, 5, 615]);
        let mut reader =
            ChunkReader::new(ChunkLimits { max_message: 1000, max_buffered: 1000, max_chunk_streams: 9 });
        let mut input = Input::from(&batches.concat()[..]);
        for tag in [0, 1, 2, 4, 2, 3, 4].map(|index| &tags[index]) {
            let message = reader.read(&mut input).unwrap().unwrap();
            assert_eq!((message.timestamp, message.stream_id), (tag.dts.0 as u32, 1));
            assert_eq!(message.payload, tag.payload);
        }
        assert!(input.is_empty());
    }
}

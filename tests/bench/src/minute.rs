//! A minute of a stream as modules get it, and what they make of it.

use crate::content::{Audio, Content};
use crate::{clock, essence, flv};
use remuxd_plugin_api::{
    Block, Codec, Format, Full, Millis, Options, Packet, Remuxer, Setup, Sink, StreamFacts, Tag, TagKind,
    Tracks,
};

const KBIT: usize = 2000;
const GOP: usize = 50;
/// Bytes of a tag's header before the codec's data: AVC's with the composition time, AAC's, MP3's.
const HEADERS: [u32; 3] = [5, 2, 1];

/// The formats that can be remuxed, by the name of their module.
pub const FORMATS: [&str; 5] = ["flv", "websocket-flv", "ts", "aac", "mp3"];

/// The tags of a stream of 2 Mbit/s, with the facts that the host reports to modules.
pub struct Minute {
    tags: Vec<Tag>,
    facts: StreamFacts,
    bytes: usize,
}

impl Minute {
    /// Makes `seconds` of a stream whose audio the format can carry.
    pub fn new(format: &str, seconds: u64) -> Self {
        let audio = if format == "mp3" { Audio::Mp3 } else { Audio::Aac };
        let mut content = Content::new(0, KBIT, GOP, audio);
        let mut metadata = Vec::new();
        metadata.extend(flv::metadata(&content.metadata()));
        let mut tags = vec![
            tag(flv::SCRIPT, 0, metadata, Packet::METADATA),
            tag(flv::VIDEO, 0, essence::video_config(), Packet::SEQUENCE_HEADER),
        ];
        if let Some(config) = content.audio_config() {
            tags.push(tag(flv::AUDIO, 0, config, Packet::SEQUENCE_HEADER));
        }
        while content.due() < seconds * clock::SECOND {
            let due = content.due();
            let next = content.tag(due);
            let mut tag = tag(next.kind, next.timestamp, next.body.to_vec(), Packet::CODED_FRAME);
            tag.keyframe = next.keyframe;
            tags.push(tag);
        }
        let bytes = tags.iter().map(|tag| tag.payload.len()).sum();
        let audio = if audio == Audio::Mp3 { Codec::MP3 } else { Codec::AAC };
        Self { tags, facts: StreamFacts::new(Codec::H264, audio, 0), bytes }
    }

    /// Bytes of all payloads.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Feeds all tags to a new remuxer of the format; returns the number of bytes that it wrote.
    ///
    /// # Panics
    /// If there is no such format, or it refuses a tag.
    pub fn remux(&self, format: &str) -> usize {
        match format {
            "flv" => self.feed::<remuxd_flv::Flv>(),
            "websocket-flv" => self.feed::<remuxd_websocket_flv::WebSocketFlv>(),
            "ts" => self.feed::<remuxd_ts::Ts>(),
            "aac" => self.feed::<remuxd_aac::Aac>(),
            "mp3" => self.feed::<remuxd_mp3::Mp3>(),
            _ => panic!("no format {format}"),
        }
    }

    fn feed<F: Format>(&self) -> usize {
        let defaults =
            F::info().options.iter().map(|option| (option.name.to_owned(), option.default.to_owned()));
        let setup = Setup::new(Options::new(defaults.collect()), self.facts);
        let mut remuxer = F::remuxer(&setup).expect("the stream is supported");
        let mut written = Written(0);
        for tag in &self.tags {
            // As the host: a format without video codecs gets no video.
            if tag.kind != TagKind::VIDEO || !F::info().video_codecs.is_empty() {
                remuxer.tag(tag, &mut written).expect("the tags are valid");
            }
        }
        remuxer.finish(&mut written).expect("the stream is whole");
        written.0
    }
}

/// Counts bytes and drops the blocks.
struct Written(usize);

impl Sink for Written {
    fn block(&mut self, block: Block) -> Result<(), Full> {
        self.0 += block.len();
        Ok(())
    }
}

fn tag(kind: u8, timestamp: u32, body: Vec<u8>, packet: Packet) -> Tag {
    let header = match (kind, body[0]) {
        (flv::VIDEO, _) => HEADERS[0],
        (flv::AUDIO, 0xAF) => HEADERS[1],
        (flv::AUDIO, _) => HEADERS[2],
        _ => 0,
    };
    let codec = match (kind, body[0]) {
        (flv::VIDEO, _) => Codec::H264,
        (flv::AUDIO, 0xAF) => Codec::AAC,
        (flv::AUDIO, _) => Codec::MP3,
        _ => Codec::NONE,
    };
    let length = body.len() as u32;
    let mut tag = Tag::new(TagKind(kind), Millis(timestamp.into()), body.into());
    tag.codec = codec;
    tag.packet = packet;
    tag.tracks = Tracks::known(true, true);
    (tag.data_offset, tag.data_len) = (header, length - header);
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_carries_its_part() {
        for format in FORMATS {
            let minute = Minute::new(format, 10);
            let written = minute.remux(format) as f64 / minute.bytes() as f64;
            let expected = match format {
                "flv" | "websocket-flv" => 1.0..1.05,
                "ts" => 1.0..1.15,
                _ => 0.05..0.09,
            };
            assert!(expected.contains(&written), "{format}: {written}");
        }
    }
}

//! Passes a stream on as FLV, and performs hostile acts on order.
//!
//! Orders come from its options, which name the act and the call, or from the publisher: a script tag with `hostile:WORD`
//! orders the act WORD at that tag.

mod acts;

use remuxd_plugin_api::{
    export_format, Block, BlockFlags, Codec, Format, FormatInfo, Millis, OptionKind, OptionSpec, Packet,
    RemuxError, Remuxer, Setup, SharedBytes, Sink, Tag, TagKind, Transport,
};

export_format!(Hostile);

/// Prefix of an order.
const ORDER: &[u8] = b"hostile:";

struct Hostile;

impl Format for Hostile {
    type Remuxer = Obeying;

    fn info() -> FormatInfo {
        FormatInfo {
            name: "hostile",
            version: env!("CARGO_PKG_VERSION"),
            extensions: &["hostile"],
            transport: Transport::HTTP,
            content_type: "video/x-flv",
            video_codecs: &[Codec::H264],
            audio_codecs: &[Codec::AAC],
            options: &[
                OptionSpec {
                    name: "do",
                    kind: OptionKind::Choice(acts::WORDS),
                    default: "nothing",
                    doc: "What to do.",
                    variant: true,
                },
                OptionSpec {
                    name: "in",
                    kind: OptionKind::Choice(&["remuxer", "tag", "tags", "finish", "state", "drop"]),
                    default: "tag",
                    doc: "In which call.",
                    variant: true,
                },
                OptionSpec {
                    name: "at",
                    kind: OptionKind::Integer { min: 1, max: 1_000_000 },
                    default: "1",
                    doc: "At which tag of a remuxer.",
                    variant: true,
                },
                OptionSpec {
                    name: "title",
                    kind: OptionKind::Text,
                    default: "",
                    doc: "A text without effect.",
                    variant: true,
                },
            ],
        }
    }

    fn remuxer(setup: &Setup) -> Result<Obeying, RemuxError> {
        let remuxer = Obeying {
            act: setup.options.text("do").to_owned(),
            place: setup.options.text("in").to_owned(),
            at: setup.options.integer("at"),
            tags: 0,
        };
        remuxer.act_in("remuxer", &mut Vec::new())?;
        if acts::is_spoiled() {
            return Err(RemuxError::Other("spoiled".into()));
        }
        Ok(remuxer)
    }
}

struct Obeying {
    act: String,
    place: String,
    at: i64,
    tags: i64,
}

impl Obeying {
    fn act_in(&self, place: &str, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        if self.place == place {
            acts::act(&self.act, sink)
        } else {
            Ok(())
        }
    }
}

impl Remuxer for Obeying {
    fn tag(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        self.tags += 1;
        if self.tags == 1 {
            sink.block(preamble())?;
        }
        if self.tags == self.at {
            self.act_in("tag", sink)?;
        }
        self.act_in("tags", sink)?;
        if let Some(word) = order(tag) {
            acts::act(&word, sink)?;
        }
        sink.block(flv(tag))?;
        Ok(())
    }

    fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        self.act_in("finish", sink)
    }

    fn state(&mut self) -> Vec<u8> {
        // The host must handle an error.
        let _ = self.act_in("state", &mut Vec::new());
        if self.act == "flood" {
            vec![0; 1 << 20]
        } else {
            Vec::new()
        }
    }
}

impl Drop for Obeying {
    fn drop(&mut self) {
        // As above.
        let _ = self.act_in("drop", &mut Vec::new());
    }
}

fn order(tag: &Tag) -> Option<String> {
    if tag.kind != TagKind::SCRIPT {
        return None;
    }
    let start = tag.payload.windows(ORDER.len()).position(|part| part == ORDER)? + ORDER.len();
    let word = tag.payload[start..].split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_').next()?;
    Some(String::from_utf8_lossy(word).into_owned())
}

fn preamble() -> Block {
    let header = b"FLV\x01\x05\0\0\0\x09\0\0\0\0";
    Block {
        flags: BlockFlags::PREAMBLE,
        dts: Millis(0),
        parts: vec![SharedBytes::from_static(header)],
        ..Block::default()
    }
}

/// Returns the tag in FLV's form (FLV 10.1, E.4.1).
fn flv(tag: &Tag) -> Block {
    let len = tag.payload.len() as u32;
    let time = tag.dts.0 as u32;
    let mut head = vec![tag.kind.0];
    head.extend_from_slice(&len.to_be_bytes()[1..]);
    head.extend_from_slice(&time.to_be_bytes()[1..]);
    head.push((time >> 24) as u8);
    head.extend_from_slice(&[0; 3]);
    let flags = match tag.packet {
        Packet::SEQUENCE_HEADER | Packet::METADATA => BlockFlags::CONFIG,
        _ if tag.keyframe => BlockFlags::JOIN,
        _ => BlockFlags::NONE,
    };
    let tail = (len + 11).to_be_bytes().to_vec();
    Block {
        flags,
        track: tag.kind.0 % 3,
        dts: tag.dts,
        parts: vec![head.into(), tag.payload.clone(), tail.into()],
    }
}

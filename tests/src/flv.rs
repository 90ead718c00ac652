//! FLV as a strict player reads it (Adobe FLV 10.1 annex E, enhanced RTMP v2), and access units independent of whether
//! the tag is legacy or enhanced.

use std::hash::{DefaultHasher, Hasher};
use std::path::Path;

/// An audio tag or RTMP message.
pub const AUDIO: u8 = 8;
/// A video tag or RTMP message.
pub const VIDEO: u8 = 9;
/// A script tag, or an AMF0 data message.
pub const SCRIPT: u8 = 18;

/// A tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// [`AUDIO`], [`VIDEO`] or [`SCRIPT`].
    pub kind: u8,
    /// Timestamp in milliseconds.
    pub timestamp: u32,
    /// The bytes after the tag header.
    pub payload: Vec<u8>,
}

/// The track flags of the file header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether there is an audio track.
    pub audio: bool,
    /// Whether there is a video track.
    pub video: bool,
}

/// One coded picture or audio frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessUnit {
    /// [`AUDIO`] or [`VIDEO`].
    pub kind: u8,
    /// The FourCC of enhanced RTMP, for legacy tags too.
    pub codec: [u8; 4],
    /// Whether it is a video keyframe.
    pub keyframe: bool,
    /// Decoding time in milliseconds.
    pub dts: i64,
    /// Presentation time minus decoding time, in milliseconds.
    pub cts: i32,
    /// Number of bytes without tag and codec headers.
    pub size: usize,
    /// Hash of those bytes.
    pub hash: u64,
}

/// The kind of a tag's payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A script tag.
    Script,
    /// A decoder configuration.
    SequenceHeader,
    /// A coded frame.
    AccessUnit(AccessUnit),
    /// An end of sequence, colour metadata and the like.
    Other,
}

impl Tag {
    /// Returns the kind of the payload. A payload that is cut short is [`Content::Other`].
    #[must_use]
    pub fn content(&self) -> Content {
        match self.kind {
            SCRIPT => Content::Script,
            AUDIO => self.audio(),
            VIDEO => self.video(),
            _ => Content::Other,
        }
    }

    /// Returns the access unit, if the tag carries one.
    #[must_use]
    pub fn access_unit(&self) -> Option<AccessUnit> {
        match self.content() {
            Content::AccessUnit(unit) => Some(unit),
            _ => None,
        }
    }

    /// Returns whether the tag carries a video keyframe.
    #[must_use]
    pub fn is_keyframe(&self) -> bool {
        self.access_unit().is_some_and(|unit| unit.keyframe)
    }

    fn audio(&self) -> Content {
        let tag = self.payload.as_slice();
        match tag {
            [first, packet, ..] if first >> 4 == 10 => match packet {
                0 => Content::SequenceHeader,
                1 => self.unit(*b"mp4a", false, 0, 2),
                _ => Content::Other,
            },
            [first, ..] if first >> 4 == 2 => self.unit(*b".mp3", false, 0, 1),
            [first, a, b, c, d, ..] if first >> 4 == 9 => match first & 15 {
                0 => Content::SequenceHeader,
                1 => self.unit([*a, *b, *c, *d], false, 0, 5),
                _ => Content::Other,
            },
            _ => Content::Other,
        }
    }

    fn video(&self) -> Content {
        let tag = self.payload.as_slice();
        let Some(&first) = tag.first() else { return Content::Other };
        let keyframe = (first >> 4) & 7 == 1;
        if first & 0x80 == 0 {
            let codec = match first & 15 {
                7 => *b"avc1",
                12 => *b"hvc1",
                _ => return Content::Other,
            };
            return match tag {
                [_, 0, ..] => Content::SequenceHeader,
                [_, 1, a, b, c, ..] => self.unit(codec, keyframe, si24([*a, *b, *c]), 5),
                _ => Content::Other,
            };
        }
        match (first & 15, tag) {
            (0, _) => Content::SequenceHeader,
            (1, [_, a, b, c, d, x, y, z, ..]) if has_cts(&[*a, *b, *c, *d]) => {
                self.unit([*a, *b, *c, *d], keyframe, si24([*x, *y, *z]), 8)
            }
            (1 | 3, [_, a, b, c, d, ..]) => self.unit([*a, *b, *c, *d], keyframe, 0, 5),
            _ => Content::Other,
        }
    }

    fn unit(&self, codec: [u8; 4], keyframe: bool, cts: i32, header: usize) -> Content {
        let data = &self.payload[header..];
        let mut hasher = DefaultHasher::new();
        hasher.write(data);
        Content::AccessUnit(AccessUnit {
            kind: self.kind,
            codec,
            keyframe,
            dts: i64::from(self.timestamp),
            cts,
            size: data.len(),
            hash: hasher.finish(),
        })
    }
}

/// Returns whether CodedFrames of this codec carry a composition time.
fn has_cts(codec: &[u8; 4]) -> bool {
    matches!(codec, b"avc1" | b"hvc1" | b"vvc1")
}

fn si24([a, b, c]: [u8; 3]) -> i32 {
    i32::from_be_bytes([a, b, c, 0]) >> 8
}

/// An incremental FLV parser.
#[derive(Debug, Default)]
pub struct Reader {
    pending: Vec<u8>,
    header: Option<Header>,
    tags: Vec<Tag>,
}

impl Reader {
    /// Reads the next bytes, in pieces of any size.
    ///
    /// # Errors
    /// A description of the first violation of the format.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.pending.extend_from_slice(bytes);
        let mut at = 0;
        if self.header.is_none() {
            let Some(header) = self.pending.first_chunk::<13>() else { return Ok(()) };
            let flags = header[4];
            if header[..4] != *b"FLV\x01" || flags & !5 != 0 || header[5..] != [0, 0, 0, 9, 0, 0, 0, 0] {
                return Err(format!("not an FLV header: {header:02x?}"));
            }
            self.header = Some(Header { audio: flags & 4 != 0, video: flags & 1 != 0 });
            at = 13;
        }
        while let Some(length) = self.read_tag(at)? {
            at += length;
        }
        self.pending.drain(..at);
        Ok(())
    }

    /// Reads the tag at `at`, and returns its length with the back pointer, or `None` when bytes are missing.
    fn read_tag(&mut self, at: usize) -> Result<Option<usize>, String> {
        let input = &self.pending[at..];
        let Some(head) = input.first_chunk::<11>() else { return Ok(None) };
        let size = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
        let Some(rest) = input.get(11..11 + size + 4) else { return Ok(None) };
        let (payload, back) = rest.split_at(size);
        let number = self.tags.len();
        if !matches!(head[0], AUDIO | VIDEO | SCRIPT) || head[8..] != [0, 0, 0] {
            return Err(format!("tag {number} has header {head:02x?}"));
        }
        if back != ((11 + size) as u32).to_be_bytes() {
            return Err(format!("tag {number} of {size} bytes has PreviousTagSize {back:02x?}"));
        }
        let timestamp = u32::from_be_bytes([head[7], head[4], head[5], head[6]]);
        self.tags.push(Tag { kind: head[0], timestamp, payload: payload.to_vec() });
        Ok(Some(11 + size + 4))
    }

    /// Returns the file header, once it was read.
    #[must_use]
    pub fn header(&self) -> Option<Header> {
        self.header
    }

    /// Returns the tags so far.
    #[must_use]
    pub fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// Removes and returns the tags so far.
    pub fn take(&mut self) -> Vec<Tag> {
        std::mem::take(&mut self.tags)
    }

    /// Returns the number of bytes of an unfinished tag.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.pending.len()
    }
}

/// Returns the tags of a whole file.
///
/// # Panics
/// When the file does not exist, or is not FLV to its last byte.
#[must_use]
pub fn read_file(path: &Path) -> Vec<Tag> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut reader = Reader::default();
    reader.push(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(reader.unfinished(), 0, "{}: ends inside a tag", path.display());
    reader.tags
}

/// Returns the bytes of an FLV file with these tags.
#[must_use]
pub fn write(header: Header, tags: &[Tag]) -> Vec<u8> {
    let flags = u8::from(header.audio) * 4 + u8::from(header.video);
    let mut out = [b"FLV\x01".as_slice(), &[flags, 0, 0, 0, 9, 0, 0, 0, 0]].concat();
    for tag in tags {
        let size = tag.payload.len() as u32;
        let [high, time @ ..] = tag.timestamp.to_be_bytes();
        out.push(tag.kind);
        out.extend_from_slice(&size.to_be_bytes()[1..]);
        out.extend_from_slice(&time);
        out.extend_from_slice(&[high, 0, 0, 0]);
        out.extend_from_slice(&tag.payload);
        out.extend_from_slice(&(11 + size).to_be_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(kind: u8, payload: &[u8]) -> Tag {
        Tag { kind, timestamp: 0x0102_0304, payload: payload.to_vec() }
    }

    #[test]
    fn reads_what_it_writes_whole_and_byte_by_byte() {
        let header = Header { audio: true, video: false };
        let tags = [tag(SCRIPT, b"\x02\x00\x01x"), tag(AUDIO, b""), tag(VIDEO, &[7; 300])];
        let bytes = write(header, &tags);
        let mut whole = Reader::default();
        whole.push(&bytes).unwrap();
        let mut slowly = Reader::default();
        bytes.iter().for_each(|byte| slowly.push(&[*byte]).unwrap());
        for reader in [whole, slowly] {
            assert_eq!(reader.header(), Some(header));
            assert_eq!(reader.tags(), tags);
            assert_eq!(reader.unfinished(), 0);
        }
    }

    #[test]
    fn refuses_a_wrong_back_pointer() {
        let mut bytes = write(Header { audio: true, video: true }, &[tag(AUDIO, b"abc")]);
        *bytes.last_mut().unwrap() += 1;
        assert!(Reader::default().push(&bytes).unwrap_err().contains("PreviousTagSize"));
    }

    #[test]
    fn reads_the_same_access_unit_from_legacy_and_enhanced_tags() {
        let legacy = tag(VIDEO, b"\x1c\x01\xff\xff\xfedata").access_unit().unwrap();
        let enhanced = tag(VIDEO, b"\x91hvc1\xff\xff\xfedata").access_unit().unwrap();
        assert_eq!(legacy, enhanced);
        assert_eq!((legacy.cts, legacy.keyframe, legacy.size), (-2, true, 4));
        let frames_x = tag(VIDEO, b"\x93hvc1data").access_unit().unwrap();
        assert_eq!((frames_x.cts, frames_x.hash), (0, legacy.hash));
        assert_eq!(tag(VIDEO, b"\x17\x00\0\0\0cfg").content(), Content::SequenceHeader);
        assert_eq!(tag(VIDEO, b"\x17\x02\0\0\0").content(), Content::Other);
        assert_eq!(tag(AUDIO, b"\x91Opusx").access_unit().unwrap().codec, *b"Opus");
    }
}

//! The prologue that a player needs before a part of an FLV file.
//!
//! Pseudo-streaming sends a file from a byte offset (`?start=`) that a player takes from the `keyframes` of the file's metadata.
//! Before it go the file header and the first sequence header of each track, as SRS sends them. The metadata is omitted,
//! since its offsets are those of the whole file.
//!
//! Invariants: only the start of a sequence header is requested twice; at most [`MAX_TAGS`] tags are examined, all before the
//! offset; of a tag's body only [`PEEK`] bytes are read, unless it is a sequence header.

use std::ops::Range;

use remuxd_plugin_api::{Packet, TagKind};

use super::file::{FILE_HEADER_LEN, PREVIOUS_TAG_SIZE_LEN, TAG_HEADER_LEN};
use super::{FileError, MAX_CONFIGURATION, TagHeader, file_header};

/// Maximum number of tags examined: for two tracks, script tags, and a track that starts after the other one.
pub const MAX_TAGS: usize = 512;

/// Number of bytes that identify a body: the longest header of enhanced RTMP with a short extension.
const PEEK: u64 = 64;

/// A sans-IO search for the prologue of a file.
#[derive(Clone, Debug)]
pub struct PrologueReader {
    /// Tags from this offset on are not examined.
    start: u64,
    state: State,
    /// Offset of the current tag, in bytes.
    at: u64,
    tags: usize,
    wants_audio: bool,
    wants_video: bool,
    prologue: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    FileHeader,
    TagHeader,
    /// A complete sequence header.
    Tag {
        kind: TagKind,
        len: u64,
    },
    Done,
}

impl PrologueReader {
    /// Starts a search for the part of a file that begins at byte `start`.
    pub fn new(start: u64) -> PrologueReader {
        PrologueReader {
            start,
            state: State::FileHeader,
            at: 0,
            tags: 0,
            wants_audio: true,
            wants_video: true,
            prologue: Vec::new(),
        }
    }

    /// Returns the range of the file to [`feed`](Self::feed) next; `None` when the prologue is complete.
    pub fn wants(&self) -> Option<Range<u64>> {
        let len = match self.state {
            State::FileHeader => FILE_HEADER_LEN as u64,
            State::TagHeader => TAG_HEADER_LEN as u64 + PEEK,
            State::Tag { len, .. } => len,
            State::Done => return None,
        };
        Some(self.at..self.at + len)
    }

    /// Consumes the requested bytes, or as many as the file has.
    ///
    /// # Errors
    /// [`FileError::NoHeader`] if the file is not FLV. A truncated file has the prologue found so far.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        match self.state {
            State::FileHeader => {
                let [b'F', b'L', b'V', 1, flags, a, b, c, d, ..] = bytes else {
                    return Err(FileError::NoHeader);
                };
                let (audio, video) = (flags & 4 != 0, flags & 1 != 0);
                self.prologue.extend(file_header(audio, video));
                // Without any flag, search for both tracks.
                (self.wants_audio, self.wants_video) = (audio || !video, video || !audio);
                let header_len = u64::from(u32::from_be_bytes([*a, *b, *c, *d]));
                self.tag_at(header_len.max(9) + PREVIOUS_TAG_SIZE_LEN as u64);
            }
            State::TagHeader => self.on_tag_header(bytes),
            State::Tag { kind, len } if bytes.len() as u64 >= len => {
                self.prologue.extend(&bytes[..len as usize]);
                self.found(kind);
                self.tag_at(self.at + len);
            }
            State::Tag { .. } | State::Done => self.state = State::Done,
        }
        Ok(())
    }

    /// Returns the file header and the sequence headers found.
    pub fn into_bytes(self) -> Vec<u8> {
        self.prologue
    }

    fn on_tag_header(&mut self, bytes: &[u8]) {
        let Some((header, body)) = bytes.split_first_chunk::<TAG_HEADER_LEN>() else {
            self.state = State::Done;
            return;
        };
        let [kind, l0, l1, l2, ..] = *header;
        let len = u32::from_be_bytes([0, l0, l1, l2]);
        let whole = TAG_HEADER_LEN as u64 + u64::from(len) + PREVIOUS_TAG_SIZE_LEN as u64;
        let kind = TagKind(kind & 0x1f);
        let wanted = match kind {
            TagKind::AUDIO => self.wants_audio,
            TagKind::VIDEO => self.wants_video,
            _ => false,
        };
        let body = &body[..body.len().min(len as usize)];
        if wanted {
            match TagHeader::parse(kind, body).packet {
                Packet::SEQUENCE_HEADER if len <= MAX_CONFIGURATION => {
                    self.state = State::Tag { kind, len: whole };
                    return;
                }
                // A track that starts with a frame has no sequence header.
                Packet::CODED_FRAME => self.found(kind),
                _ => {}
            }
        }
        self.tag_at(self.at + whole);
    }

    fn found(&mut self, kind: TagKind) {
        match kind {
            TagKind::AUDIO => self.wants_audio = false,
            _ => self.wants_video = false,
        }
    }

    fn tag_at(&mut self, at: u64) {
        self.at = at;
        self.tags += 1;
        let more = at < self.start && self.tags <= MAX_TAGS && (self.wants_audio || self.wants_video);
        self.state = if more { State::TagHeader } else { State::Done };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flv::tag_header;

    const META: (TagKind, &[u8]) = (TagKind::SCRIPT, b"\x02\x00\x0aonMetaData");
    const AVC: (TagKind, &[u8]) = (TagKind::VIDEO, b"\x17\x00\0\0\0config");
    const FRAME: (TagKind, &[u8]) = (TagKind::VIDEO, b"\x17\x01\0\0\0frame");
    const HEVC: (TagKind, &[u8]) = (TagKind::VIDEO, b"\x90hvc1config");
    const AAC: (TagKind, &[u8]) = (TagKind::AUDIO, b"\xaf\x00\x12\x10");
    const MP3: (TagKind, &[u8]) = (TagKind::AUDIO, b"\x2f\xff\xfb");

    fn tag((kind, body): (TagKind, &[u8])) -> Vec<u8> {
        let len = body.len() as u32;
        [&tag_header(kind, len, 7), body, &(len + 11).to_be_bytes()].concat()
    }

    fn file(flags: u8, tags: &[(TagKind, &[u8])]) -> Vec<u8> {
        let mut file = file_header(flags & 4 != 0, flags & 1 != 0).to_vec();
        tags.iter().for_each(|one| file.extend(tag(*one)));
        file
    }

    /// Returns the prologue and the number of bytes read from the file.
    fn prologue(file: &[u8], start: u64) -> Result<(Vec<u8>, usize), FileError> {
        let mut reader = PrologueReader::new(start);
        let mut read = 0;
        while let Some(Range { start, end }) = reader.wants() {
            let (start, end) = (start.min(file.len() as u64) as usize, end.min(file.len() as u64) as usize);
            read += end - start;
            reader.feed(&file[start..end])?;
        }
        Ok((reader.into_bytes(), read))
    }

    #[test]
    fn has_the_first_sequence_header_of_each_track() {
        type Row<'a> = (u8, &'a [(TagKind, &'a [u8])], &'a [(TagKind, &'a [u8])]);
        let rows: &[Row] = &[
            (5, &[META, AVC, AAC, FRAME, FRAME], &[AVC, AAC]),
            (5, &[META, AAC, HEVC, FRAME], &[AAC, HEVC]),
            (5, &[META, MP3, MP3, AVC, FRAME], &[AVC]),
            (5, &[META, MP3, FRAME, AVC, FRAME], &[]),
            (1, &[META, AVC, FRAME, AAC], &[AVC]),
            (4, &[META, AAC], &[AAC]),
            (0, &[META, AAC, AVC], &[AAC, AVC]),
            (5, &[], &[]),
        ];
        for (flags, tags, expected) in rows {
            let whole = file(*flags, tags);
            let (found, _) = prologue(&whole, u64::MAX).unwrap();
            assert_eq!(found, file(*flags, expected), "{tags:?}");
        }
    }

    #[test]
    fn examines_no_tags_after_the_offset() {
        let whole = file(5, &[META, AVC, AAC]);
        let aac = (whole.len() - tag(AAC).len()) as u64;
        assert_eq!(prologue(&whole, aac + 1).unwrap().0, file(5, &[AVC, AAC]));
        assert_eq!(prologue(&whole, aac).unwrap().0, file(5, &[AVC]));
        assert_eq!(prologue(&whole, 1).unwrap().0, file(5, &[]));
    }

    #[test]
    fn reads_little_of_a_file_without_sequence_headers() {
        let frame = (TagKind::AUDIO, &[0; 5000][..]);
        let whole = file(5, &vec![frame; 2 * MAX_TAGS]);
        let (found, read) = prologue(&whole, u64::MAX).unwrap();
        assert_eq!(found, file(5, &[]));
        assert!(read < MAX_TAGS * 100, "{read}");
        let giant = (TagKind::VIDEO, &[&[0x17, 0, 0, 0, 0][..], &[0; 1 << 20][..]].concat()[..]);
        assert_eq!(prologue(&file(5, &[giant, AAC]), u64::MAX).unwrap().0, file(5, &[AAC]));
    }

    #[test]
    fn handles_files_that_are_truncated_or_not_flv() {
        let whole = file(5, &[META, AVC, AAC, FRAME]);
        for end in 0..whole.len() {
            match prologue(&whole[..end], u64::MAX) {
                Ok((found, _)) => assert!(end >= 9 && found.len() <= end + 13, "{end}"),
                Err(error) => assert!(error == FileError::NoHeader && end < 9, "{end}"),
            }
        }
        assert_eq!(prologue(b"GIF89a, a picture", 5), Err(FileError::NoHeader));
        let endless = [b"FLV\x01\x05\xff\xff\xff\xff".as_slice(), &[0; 100]].concat();
        assert_eq!(prologue(&endless, u64::MAX).unwrap().0, file(5, &[]));
    }
}

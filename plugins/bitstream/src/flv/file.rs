//! FLV files: header, tags, and the size after each tag (FLV 10.1, E.2 to E.4.1).

use remuxd_plugin_api::TagKind;

/// Length of the file header and the PreviousTagSize after it, in bytes.
pub const FILE_HEADER_LEN: usize = 13;

pub(super) const TAG_HEADER_LEN: usize = 11;
pub(super) const PREVIOUS_TAG_SIZE_LEN: usize = 4;

/// Returns the file header and PreviousTagSize0.
pub fn file_header(audio: bool, video: bool) -> [u8; FILE_HEADER_LEN] {
    let flags = u8::from(audio) << 2 | u8::from(video);
    [b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0]
}

/// Returns the header of a tag with a body of `len` bytes, below 2^24. Its PreviousTagSize is `len + 11`.
pub fn tag_header(kind: TagKind, len: u32, timestamp: u32) -> [u8; TAG_HEADER_LEN] {
    let [_, l0, l1, l2] = len.to_be_bytes();
    let [extended, t0, t1, t2] = timestamp.to_be_bytes();
    [kind.0, l0, l1, l2, t0, t1, t2, extended, 0, 0, 0]
}

/// A tag in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileTag<'a> {
    /// Audio, video or script.
    pub kind: TagKind,
    /// Timestamp in milliseconds.
    pub timestamp: u32,
    /// The tag's body, a part of the file.
    pub body: &'a [u8],
}

/// The reason that a file cannot be read. Offsets count from the start of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file does not begin with a header of version 1.
    #[error("no FLV header of version 1")]
    NoHeader,
    /// A tag is truncated.
    #[error("FLV tag at byte {offset} is truncated")]
    Truncated {
        /// Offset of the tag.
        offset: usize,
    },
    /// The size after a tag differs from the tag's size.
    #[error("size after the FLV tag at byte {offset} is {found}, not {expected}")]
    PreviousTagSize {
        /// Offset of the tag.
        offset: usize,
        /// The size found.
        found: u32,
        /// The size of the tag.
        expected: u32,
    },
}

/// Returns a file with these tags, whose header announces audio and video: the inverse of [`read_file`].
pub fn write_file<'a>(tags: impl IntoIterator<Item = FileTag<'a>>) -> Vec<u8> {
    let mut file = file_header(true, true).to_vec();
    for FileTag { kind, timestamp, body } in tags {
        let len = body.len() as u32;
        file.extend(tag_header(kind, len, timestamp));
        file.extend(body);
        file.extend((len + TAG_HEADER_LEN as u32).to_be_bytes());
    }
    file
}

/// Reads the tags of a whole file, without a copy.
pub fn read_file(file: &[u8]) -> FileTags<'_> {
    FileTags { file, at: None, broken: false }
}

/// An iterator over the tags of a file. Ends after the first error.
#[derive(Clone, Debug)]
pub struct FileTags<'a> {
    file: &'a [u8],
    /// Offset of the next tag; `None` before the file header was read.
    at: Option<usize>,
    broken: bool,
}

impl<'a> FileTags<'a> {
    fn read_header(&self) -> Result<usize, FileError> {
        match self.file {
            [b'F', b'L', b'V', 1, _, a, b, c, d, ..] => {
                Ok(u32::from_be_bytes([*a, *b, *c, *d]) as usize + PREVIOUS_TAG_SIZE_LEN)
            }
            _ => Err(FileError::NoHeader),
        }
    }

    fn read_tag(&mut self) -> Result<Option<FileTag<'a>>, FileError> {
        let offset = match self.at {
            Some(at) => at,
            None => self.read_header()?,
        };
        self.at = Some(offset);
        if offset >= self.file.len() {
            return Ok(None);
        }
        let truncated = FileError::Truncated { offset };
        let rest = &self.file[offset..];
        let header: &[u8; TAG_HEADER_LEN] = rest.first_chunk().ok_or(truncated)?;
        let [kind, l0, l1, l2, t0, t1, t2, extended, ..] = *header;
        let len = u32::from_be_bytes([0, l0, l1, l2]);
        let body_end = TAG_HEADER_LEN + len as usize;
        let body = rest.get(TAG_HEADER_LEN..body_end).ok_or(truncated)?;
        let size = rest.get(body_end..).and_then(<[u8]>::first_chunk).ok_or(truncated)?;
        let (found, expected) = (u32::from_be_bytes(*size), len + TAG_HEADER_LEN as u32);
        if found != expected {
            return Err(FileError::PreviousTagSize { offset, found, expected });
        }
        self.at = Some(offset + body_end + PREVIOUS_TAG_SIZE_LEN);
        let timestamp = u32::from_be_bytes([extended, t0, t1, t2]);
        Ok(Some(FileTag { kind: TagKind(kind & 0x1f), timestamp, body }))
    }
}

impl<'a> Iterator for FileTags<'a> {
    type Item = Result<FileTag<'a>, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken {
            return None;
        }
        let tag = self.read_tag();
        self.broken = tag.is_err();
        tag.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAGS: [FileTag<'_>; 3] = [
        FileTag { kind: TagKind::SCRIPT, timestamp: 0, body: b"meta" },
        FileTag { kind: TagKind::AUDIO, timestamp: 0x0102_0304, body: b"" },
        FileTag { kind: TagKind::VIDEO, timestamp: u32::MAX, body: b"frame" },
    ];

    #[test]
    fn reads_back_what_was_written() {
        let file = write_file(TAGS);
        let read: Vec<_> = read_file(&file).map(|tag| tag.unwrap()).collect();
        assert_eq!(read, TAGS);
        assert_eq!(file[..9], *b"FLV\x01\x05\0\0\0\x09");
    }

    #[test]
    fn reports_the_truncated_tag() {
        let file = write_file(TAGS);
        for end in 0..file.len() {
            let read: Vec<_> = read_file(&file[..end]).collect();
            match read.last() {
                Some(Err(FileError::NoHeader)) => assert!(end < 9),
                Some(Err(FileError::Truncated { offset })) => assert!(*offset < end),
                Some(Ok(_)) | None => assert!([13, 32, 47].contains(&end) || end < 13, "{end}"),
                other => panic!("{end}: {other:?}"),
            }
        }
    }

    #[test]
    fn refuses_a_wrong_size_after_a_tag() {
        let mut file = write_file([TAGS[0]]);
        *file.last_mut().unwrap() = 99;
        let error = FileError::PreviousTagSize { offset: 13, found: 99, expected: 15 };
        assert_eq!(read_file(&file).last(), Some(Err(error)));
    }
}

//! Pseudo-streaming: `?start=N` sends a recording from byte N on, playable by itself.
//!
//! N is the offset of a keyframe, which players take from the recording's metadata. It is used as given, whether a tag
//! starts there or not (SRS), and a `Range` beside it is ignored. The file header and the sequence headers are sent
//! first. They are found in the file form of RTMP's payload, the one recorded format that the host reads (see
//! `plugins/bitstream`), which is recognised by its first bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use remuxd_bitstream::flv::PrologueReader;

use crate::router::query_pairs;

/// Returns the offset that a query asks for; `None` for 0 and for text (old players send `undefined`).
pub(super) fn start(query: &str) -> Option<u64> {
    let (_, value) = query_pairs(query).find(|(name, _)| name == "start")?;
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let start = value.parse().unwrap_or(if digits && !value.is_empty() { u64::MAX } else { 0 });
    Some(start).filter(|start| *start > 0)
}

/// Returns the bytes to send before the part of `file` from `start` on; `None` if the file is not a recording.
pub(super) fn prologue(file: &File, start: u64) -> io::Result<Option<Bytes>> {
    let mut reader = PrologueReader::new(start);
    let mut buffer = Vec::new();
    while let Some(wanted) = reader.wants() {
        // Bounded by the largest sequence header.
        buffer.resize((wanted.end - wanted.start) as usize, 0);
        let len = read_up_to(file, &mut buffer, wanted.start)?;
        if reader.feed(&buffer[..len]).is_err() {
            return Ok(None);
        }
    }
    Ok(Some(reader.into_bytes().into()))
}

/// Fills the buffer up to the end of the file.
fn read_up_to(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read_at(&mut buffer[len..], at + len as u64) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_offsets_as_old_players_send_them() {
        for (query, expected) in [
            ("", None),
            ("a=1", None),
            ("start=", None),
            ("start=0", None),
            ("start=-5", None),
            ("start=undefined", None),
            ("start=12.5", None),
            ("start=120", Some(120)),
            ("a=1&start=120&start=7", Some(120)),
            ("start=99999999999999999999999", Some(u64::MAX)),
        ] {
            assert_eq!(start(query), expected, "{query}");
        }
    }
}

//! Recorded output of a server: the bytes of each batch, and when it arrived.
//!
//! A file of records: the offset from the first batch in nanoseconds (8 bytes), the length (4 bytes), both big-endian, and the
//! bytes.

use crate::clock::MILLISECOND;
use std::io::{Error, ErrorKind, Result, Write};

/// Reads that are at most this far apart belong to one batch: a batch that exceeds the receive window arrives in pieces.
const GAP: u64 = 3 * MILLISECOND;

/// The bytes that a server sent at one instant.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// Nanoseconds since the first batch.
    pub at: u64,
    /// What was sent.
    pub bytes: Vec<u8>,
}

/// Batches under construction.
#[derive(Default)]
pub struct Capture {
    start: u64,
    last: u64,
    batches: Vec<Batch>,
}

impl Capture {
    /// Adds bytes that were read at `instant`.
    pub fn on_bytes(&mut self, instant: u64, bytes: &[u8]) {
        match self.batches.last_mut() {
            Some(batch) if instant - self.last <= GAP => batch.bytes.extend(bytes),
            _ => {
                if self.batches.is_empty() {
                    self.start = instant;
                }
                self.batches.push(Batch { at: instant - self.start, bytes: bytes.to_vec() });
            }
        }
        self.last = instant;
    }

    /// Writes the batches of the first `length` nanoseconds, without the last one of all, which may be incomplete.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, length: u64, out: &mut impl Write) -> Result<()> {
        let whole = self.batches.iter().take(self.batches.len().saturating_sub(1));
        for batch in whole.take_while(|batch| batch.at < length) {
            out.write_all(&batch.at.to_be_bytes())?;
            out.write_all(&(batch.bytes.len() as u32).to_be_bytes())?;
            out.write_all(&batch.bytes)?;
        }
        Ok(())
    }
}

/// Reads a whole file of records.
///
/// # Errors
/// `InvalidData` if the last record is cut off, or there are fewer than two.
pub fn read(mut bytes: &[u8]) -> Result<Vec<Batch>> {
    let mut batches = Vec::new();
    while !bytes.is_empty() {
        let invalid = || Error::from(ErrorKind::InvalidData);
        let (at, rest) = bytes.split_first_chunk().ok_or_else(invalid)?;
        let (length, rest) = rest.split_first_chunk().ok_or_else(invalid)?;
        let (body, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(invalid)?;
        batches.push(Batch { at: u64::from_be_bytes(*at), bytes: body.to_vec() });
        bytes = rest;
    }
    if batches.len() < 2 {
        return Err(ErrorKind::InvalidData.into());
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_what_arrives_together_and_reads_back() {
        let mut capture = Capture::default();
        for (milliseconds, bytes) in [(7, "a"), (8, "b"), (47, "c"), (87, "de"), (127, "f"), (167, "cut")] {
            capture.on_bytes(milliseconds * MILLISECOND, bytes.as_bytes());
        }
        let mut file = Vec::new();
        capture.write(105 * MILLISECOND, &mut file).expect("a vector takes all");
        let batch = |at, bytes: &str| Batch { at: at * MILLISECOND, bytes: bytes.as_bytes().to_vec() };
        assert_eq!(read(&file).expect("whole"), [batch(0, "ab"), batch(40, "c"), batch(80, "de")]);
        assert!(read(&file[..file.len() - 1]).is_err());
    }
}

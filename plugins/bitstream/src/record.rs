//! Reading decoder configuration records: fixed fields, and NAL units after lengths of 16 bits.

/// A decoder configuration record ends inside a field. The culprit is the publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} ends early, at byte {offset}")]
pub struct Truncated {
    /// The record's name in its specification.
    pub what: &'static str,
    /// Offset of the truncated field.
    pub offset: usize,
}

/// A reader of a record.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    what: &'static str,
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Record<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Record<'a> {
        Record { what, bytes, offset: 0 }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Truncated> {
        let truncated = Truncated { what: self.what, offset: self.offset };
        let field = self.bytes[self.offset..].get(..len).ok_or(truncated)?;
        self.offset += len;
        Ok(field)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        Ok(self.take(N)?.try_into().expect("take returns as many bytes as requested"))
    }

    /// Reads `count` NAL units.
    pub(crate) fn units(&mut self, count: usize) -> Result<Vec<&'a [u8]>, Truncated> {
        (0..count)
            .map(|_| {
                let len = u16::from_be_bytes(self.array()?);
                self.take(usize::from(len))
            })
            .collect()
    }
}

//! A library as the dynamic linker would map it.

use super::error::ElfError;

/// One program header.
pub struct Segment {
    pub kind: u32,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Address relative to the library's base.
    pub address: u64,
    pub in_file: u64,
    pub in_memory: u64,
}

impl Segment {
    pub fn read(header: &[u8]) -> Result<Segment, ElfError> {
        Ok(Segment {
            kind: read_u32(header, 0)?,
            offset: read_u64(header, 8)?,
            address: read_u64(header, 16)?,
            in_file: read_u64(header, 32)?,
            in_memory: read_u64(header, 40)?,
        })
    }

    /// Its end in memory.
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.in_memory)
    }
}

/// A library as it would be mapped. Addresses are relative to its base.
pub struct Image<'a> {
    pub file: &'a [u8],
    /// The `PT_LOAD` segments, in ascending order, each within the file.
    pub loaded: Vec<Segment>,
}

impl<'a> Image<'a> {
    /// Returns the file's bytes at `address`, or `None` if no single segment has them all.
    pub fn bytes(&self, address: u64, len: u64) -> Option<&'a [u8]> {
        let inside = |segment: &&Segment| holds(segment.address, segment.in_file, address, len);
        let segment = self.loaded.iter().find(inside)?;
        let start = (segment.offset + (address - segment.address)) as usize;
        self.file.get(start..start + len as usize)
    }

    /// Whether the range lies in the memory of one segment.
    pub fn holds(&self, address: u64, len: u64) -> bool {
        self.loaded.iter().any(|segment| holds(segment.address, segment.in_memory, address, len))
    }

    /// The end of the last segment.
    pub fn end(&self) -> u64 {
        self.loaded.last().map_or(0, Segment::end)
    }
}

/// Whether the inner range lies in the outer one.
fn holds(outer: u64, outer_len: u64, inner: u64, inner_len: u64) -> bool {
    inner
        .checked_sub(outer)
        .and_then(|start| start.checked_add(inner_len))
        .is_some_and(|end| end <= outer_len)
}

// Integers are in this host's byte order: a file of the other order is refused before one is read.

pub fn read_u16(file: &[u8], offset: usize) -> Result<u16, ElfError> {
    read(file, offset).map(|&bytes| u16::from_ne_bytes(bytes))
}

pub fn read_u32(file: &[u8], offset: usize) -> Result<u32, ElfError> {
    read(file, offset).map(|&bytes| u32::from_ne_bytes(bytes))
}

pub fn read_u64(file: &[u8], offset: usize) -> Result<u64, ElfError> {
    read(file, offset).map(|&bytes| u64::from_ne_bytes(bytes))
}

/// Returns the `N` bytes at `offset`.
pub fn read<const N: usize>(file: &[u8], offset: usize) -> Result<&[u8; N], ElfError> {
    let rest = file.get(offset..).unwrap_or_default();
    rest.first_chunk().ok_or(ElfError::Truncated { needed: (offset + N) as u64, len: file.len() as u64 })
}

pub fn damaged(what: &'static str, value: u64) -> ElfError {
    ElfError::Damaged { what, value }
}

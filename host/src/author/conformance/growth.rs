//! Growth: memory that this process takes while a module is called again and again.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::param::page_size;

/// Growth at which a module is not called again, in bytes. The kit's streams have a rate of about 10 kB/s, so what a format
/// keeps of a GOP, or of minutes of history, is far less.
pub const MAX_GROWTH: usize = 64 << 20;

/// A meter of growth, read after each call. Without `/proc` it reads 0.
pub struct Growth {
    statm: Option<File>,
    start: Size,
    last: usize,
    /// Largest growth between two readings.
    largest: usize,
}

/// Sizes of this process, in bytes.
#[derive(Clone, Copy, Default)]
struct Size {
    resident: usize,
    /// Private memory that is mapped to be written, whether or not it was touched.
    mapped: usize,
}

impl Growth {
    /// Starts at the present size.
    pub fn start() -> Growth {
        let statm = File::open("/proc/self/statm").ok();
        let start = statm.as_ref().and_then(read).unwrap_or_default();
        Growth { statm, start, last: 0, largest: 0 }
    }

    /// Returns the growth if it exceeds [`MAX_GROWTH`] without its largest step: a buffer that is allocated once, at
    /// whatever size, is no leak.
    pub fn excess(&mut self) -> Option<usize> {
        let now = self.statm.as_ref().and_then(read)?;
        let resident = now.resident.saturating_sub(self.start.resident);
        let grown = resident.max(now.mapped.saturating_sub(self.start.mapped));
        self.largest = self.largest.max(grown.saturating_sub(self.last));
        self.last = grown;
        (grown - self.largest.min(grown) > MAX_GROWTH).then_some(grown)
    }
}

/// Returns the resident memory of this process, in bytes.
pub fn resident() -> usize {
    File::open("/proc/self/statm").ok().as_ref().and_then(read).unwrap_or_default().resident
}

/// Reads the fields "resident" and "data" (proc(5), `/proc/pid/statm`).
fn read(statm: &File) -> Option<Size> {
    let mut bytes = [0; 256];
    let len = statm.read_at(&mut bytes, 0).ok()?;
    let mut fields = std::str::from_utf8(&bytes[..len]).ok()?.split_ascii_whitespace();
    let mut bytes_of = |field| Some(fields.nth(field)?.parse::<usize>().ok()? * page_size());
    Some(Size { resident: bytes_of(1)?, mapped: bytes_of(3)? })
}

/// Formats a number of bytes for an author: `940 bytes`, `12 KiB`, `1 MiB`.
pub fn size(bytes: usize) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} bytes"),
        10_000..=999_999 => format!("{} KiB", (bytes + 512) >> 10),
        _ => format!("{} MiB", (bytes + (1 << 19)) >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn sizes_are_rounded() {
        let rows = [
            (0, "0 bytes"),
            (9_999, "9999 bytes"),
            (10_000, "10 KiB"),
            (MIB - 100, "1 MiB"),
            (MIB + 4_096, "1 MiB"),
            (64 * MIB, "64 MiB"),
        ];
        for (bytes, text) in rows {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn memory_that_is_mapped_again_and_again_exceeds_the_limit_and_one_buffer_does_not() {
        let mut growth = Growth::start();
        let buffer = vec![0_u8; 3 * MAX_GROWTH];
        assert_eq!(growth.excess(), None);
        // Not touched, so not resident.
        let mut kept = Vec::new();
        let excess = (0..100).find_map(|_| {
            kept.push(vec![0_u8; 2 * MIB]);
            growth.excess()
        });
        assert!(excess.is_some_and(|grown| grown > 4 * MAX_GROWTH), "{excess:?}");
        drop((buffer, kept));
    }
}

//! Reads files that the config names.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Reads a regular file of at most `max` bytes. Does not block on other kinds, such as a FIFO without a writer or an endless
/// device.
///
/// # Errors
/// The file cannot be read, is of another kind, or is longer.
pub fn read_file(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        len if len <= max => Ok(bytes),
        _ => Err(io::Error::other(format!("longer than {max} bytes"))),
    }
}

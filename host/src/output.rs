//! Output: what the program prints. Who reads it may stop at any time, as `head -1` does.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes to standard output. If nobody reads it any more, nobody is told, and that is no error.
///
/// # Errors
/// It cannot be written for another reason.
pub fn print(text: impl Display) -> io::Result<()> {
    let mut output = io::stdout().lock();
    unless_unread(write!(output, "{text}").and_then(|()| output.flush()))
}

/// The outcome of writing to standard output, for whom it is no error that nobody reads any more.
///
/// # Errors
/// It could not be written for another reason.
pub fn unless_unread(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes a line to standard error, if somebody reads it.
pub fn complain(line: impl Display) {
    // There is nobody else to tell.
    let _ = writeln!(io::stderr(), "{line}");
}

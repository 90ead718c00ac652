//! Output: what the program prints. Who reads it may stop at any time, as `head -1` does.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes to standard output. If nobody reads it any more, nobody is told, and that is no error.
///
/// # Errors
/// It cannot be written for another reason.
pub fn print(text: impl Display) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match write!(output, "{text}").and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes a line to standard error, if somebody reads it.
pub fn complain(line: impl Display) {
    // There is nobody else to tell.
    let _ = writeln!(io::stderr(), "{line}");
}

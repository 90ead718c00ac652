//! Output to the terminal. The reader may close it at any time, as `head -1` does; that is not an error.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes to standard output.
///
/// # Errors
/// Writing fails, other than because the reader closed it.
pub fn print(text: impl Display) -> io::Result<()> {
    let mut output = io::stdout().lock();
    unless_closed(write!(output, "{text}").and_then(|()| output.flush()))
}

/// Returns the result of writing to standard output; an output that its reader closed is not an error.
///
/// # Errors
/// Writing failed for another reason.
pub fn unless_closed(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes a line to standard error.
pub fn print_error(line: impl Display) {
    // There is nowhere to report a failure to.
    let _ = writeln!(io::stderr(), "{line}");
}

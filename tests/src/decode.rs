//! Decoding what was served, with a decoder that gives up at the first error.

use std::path::Path;

use crate::tool::{Ffmpeg, run};

/// Decodes every stream of the file.
///
/// # Errors
/// What the decoder said, if anything.
pub fn decode(ffmpeg: Ffmpeg, file: &Path) -> Result<(), String> {
    let mut command = ffmpeg.command();
    command.args(["-xerror", "-err_detect", "crccheck+bitstream+buffer+explode", "-i"]).arg(file);
    let output = run(command.args(["-map", "0:v?", "-map", "0:a?", "-f", "null", "-"]))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if said.trim().is_empty() { Ok(()) } else { Err(format!("{}: {said}", file.display())) }
}

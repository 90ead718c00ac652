//! Decodes served files with a decoder that stops at the first error.

use std::path::Path;

use crate::tool::{Ffmpeg, run};

/// Decodes every stream of the file.
///
/// # Errors
/// The decoder's messages.
pub fn decode(ffmpeg: Ffmpeg, file: &Path) -> Result<(), String> {
    let mut command = ffmpeg.command();
    command.args(["-xerror", "-err_detect", "crccheck+bitstream+buffer+explode", "-i"]).arg(file);
    let output = run(command.args(["-map", "0:v?", "-map", "0:a?", "-f", "null", "-"]))?;
    let printed = String::from_utf8_lossy(&output.stderr);
    if printed.trim().is_empty() { Ok(()) } else { Err(format!("{}: {printed}", file.display())) }
}

/// Decodes the stream of `input` that `map` selects. Returns a line for each frame: its size and a hash of its content.
///
/// # Errors
/// The decoder's messages.
pub fn frames(input: &Path, map: &str) -> Result<Vec<String>, String> {
    let mut command = Ffmpeg::Five.command();
    command.args(["-xerror", "-i"]).arg(input).args(["-map", map, "-f", "framehash", "-"]);
    let output = run(&mut command)?;
    let printed = String::from_utf8_lossy(&output.stderr);
    if !printed.trim().is_empty() {
        return Err(format!("{}: {printed}", input.display()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let frame = |line: &str| {
        line.split(',').skip(4).map(|field| field.trim().to_owned()).collect::<Vec<_>>().join(",")
    };
    Ok(text.lines().filter(|line| !line.starts_with('#')).map(frame).collect())
}

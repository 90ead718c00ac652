//! Decode: decodes a module's output with `ffprobe`, if it is installed.
//!
//! The host knows no format, so `ffprobe` judges the output. A format that it does not know cannot be judged: the whole stream
//! is tried first, and its parts must decode only if the whole does.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use crate::module::text::one_line;

/// Whether there is an `ffprobe` on the `PATH`.
pub fn is_available() -> bool {
    let mut ask = Command::new("ffprobe");
    ask.arg("-version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    ask.status().is_ok_and(|status| status.success())
}

/// Decodes `bytes` to the end. Returns codec and number of frames of each audio and video stream, sorted by codec.
///
/// # Errors
/// The errors of `ffprobe`, in one line.
pub fn decode(bytes: Vec<u8>) -> Result<Vec<(String, u64)>, String> {
    let fields = "stream=index,codec_name,codec_type,nb_read_frames";
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-count_frames", "-show_entries", fields, "-of", "csv=p=0", "-i", "pipe:0"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let mut input = child.stdin.take();
    let writer = thread::spawn(move || {
        // After an error it may stop reading.
        input.as_mut().map(|input| input.write_all(&bytes))
    });
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let _ = writer.join();
    let errors = one_line(&without_addresses(&String::from_utf8_lossy(&output.stderr)));
    if !output.status.success() || !errors.is_empty() {
        return Err(if errors.is_empty() { output.status.to_string() } else { errors });
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    // Streams of programs are printed twice.
    let streams: BTreeMap<_, _> = lines.lines().filter_map(read_stream).collect();
    let mut streams: Vec<_> = streams.into_values().collect();
    streams.sort();
    if streams.is_empty() {
        return Err("no frames".into());
    }
    Ok(streams)
}

/// Formats numbers of frames: `60 h264 frames and 112 aac frames`.
pub fn counts(streams: &[(String, u64)]) -> String {
    let streams = streams.iter().map(|(codec, frames)| format!("{frames} {codec} frames"));
    streams.collect::<Vec<_>>().join(" and ")
}

/// Removes addresses: `[h264 @ 0x55d0c8] no frame!` becomes `[h264] no frame!`.
fn without_addresses(text: &str) -> String {
    let mut parts = text.split(" @ 0x");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    plain.extend(parts.map(|part| part.trim_start_matches(|c: char| c.is_ascii_hexdigit())));
    plain
}

/// Reads `index,codec,type,frames`; `None` for other data and for streams without frames.
fn read_stream(line: &str) -> Option<(u32, (String, u64))> {
    let mut fields = line.trim().split(',');
    let index = fields.next()?.parse().ok()?;
    let codec = fields.next()?.to_owned();
    fields.next().filter(|kind| matches!(*kind, "audio" | "video"))?;
    let frames = fields.next()?.parse().ok().filter(|frames| *frames > 0)?;
    Some((index, (codec, frames)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_ffprobe_prints() {
        assert_eq!(read_stream("1,h264,video,60\n"), Some((1, ("h264".into(), 60))));
        assert_eq!(read_stream("0,text,data,1"), None);
        assert_eq!(read_stream("2,aac,audio,N/A"), None);
        assert_eq!(read_stream(""), None);
        let text = "[h264 @ 0x55d0c8f] no frame!\n[flv @ 0xa] bad";
        assert_eq!(without_addresses(text), "[h264] no frame!\n[flv] bad");
    }
}

//! Native players without video and audio output.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rustix::process::geteuid;

use crate::scratch::Scratch;
use crate::tool::run;

/// Plays `url` with mpv for some seconds of media.
///
/// # Errors
/// The warnings and errors about the stream.
pub fn mpv(url: &str, seconds: u32) -> Result<(), String> {
    let mut command = Command::new("mpv");
    command.args(["--no-config", "--vo=null", "--ao=null", "--msg-level=all=warn"]);
    let output = run(command.arg(format!("--length={seconds}")).arg(url))?;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    // A busy machine encodes and plays late.
    let late = ["Audio device underrun detected."];
    let is_problem = |line: &str| !line.trim().is_empty() && !late.iter().any(|part| line.contains(part));
    if printed.lines().any(is_problem) { Err(format!("mpv {url}: {printed}")) } else { Ok(()) }
}

/// Plays `url` with VLC for some seconds. `tracks` are the tracks that must be decoded: `av`, `v` or `a`.
///
/// # Errors
/// The warnings and errors about the stream, or the tracks that were not decoded.
pub fn vlc(url: &str, tracks: &str, seconds: u32) -> Result<(), String> {
    let home = Scratch::new();
    let mut command = Command::new("vlc");
    if geteuid().is_root() {
        // VLC does not run as root.
        command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "vlc"]);
        let mode = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(home.path(), mode).map_err(|error| error.to_string())?;
    }
    command.env("HOME", home.path()).args([
        "-vv",
        "--no-color",
        "--intf=dummy",
        "--vout=dummy",
        "--aout=dummy",
    ]);
    command.args(["--play-and-exit", &format!("--run-time={seconds}"), url, "vlc://quit"]);
    let output = run(&mut command)?;
    let printed = String::from_utf8_lossy(&output.stderr);
    // Messages that are not about the stream: a missing desktop, AAC decoders that need a first frame to start, and late
    // decoding on a busy machine.
    let others =
        ["interface", "dbus", "libvlc", "pulse", "lua", "decoded zero sample", "picture is too late"];
    let about_the_stream = |line: &&str| !others.iter().any(|part| line.contains(part));
    let is_problem = |line: &&str| {
        let words = [" error: ", " warning: ", "discontinuity", "called too late", "duplicate"];
        words.iter().any(|word| line.contains(word))
    };
    let problems: Vec<_> = printed.lines().filter(about_the_stream).filter(is_problem).collect();
    let decoded = |track: char, line: &str| !tracks.contains(track) || printed.contains(line);
    if problems.is_empty()
        && decoded('v', "Received first picture")
        && decoded('a', "main audio output debug: output")
    {
        Ok(())
    } else {
        Err(format!("vlc {url}: {}\n{printed}", problems.join("\n")))
    }
}

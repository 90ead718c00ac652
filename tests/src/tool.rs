//! External tools: their locations, and running them.
//!
//! A missing tool fails its tests. `tests/run` installs all tools, or skips the tests of those that it cannot install.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// Returns the root of the repository.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the repository")
}

/// Returns the target directory that this test was built in.
#[must_use]
pub fn target_dir() -> PathBuf {
    // A test is target/PROFILE/deps/NAME-HASH, a program target/PROFILE/NAME.
    let test = std::env::current_exe().expect("the running test has a path");
    let profile = test.ancestors().skip(1).find(|dir| !dir.ends_with("deps"));
    profile.and_then(|profile| profile.parent()).expect("cargo builds tests into target/PROFILE").to_owned()
}

/// A version of FFmpeg: Debian's and the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ffmpeg {
    /// FFmpeg 5.1, as on the `PATH`: writes legacy FLV only.
    Five,
    /// FFmpeg 9, from the Python package imageio-ffmpeg: writes and reads enhanced FLV and RTMP.
    Nine,
}

impl Ffmpeg {
    /// Returns a command that prints errors only and never reads standard input.
    #[must_use]
    pub fn command(self) -> Command {
        let mut command = match self {
            Ffmpeg::Five => Command::new("ffmpeg"),
            Ffmpeg::Nine => Command::new(nine()),
        };
        command.args(["-hide_banner", "-nostdin", "-loglevel", "error", "-y"]).stdin(Stdio::null());
        command
    }
}

/// Returns `REMUXD_FFMPEG9`, or else the binary of imageio-ffmpeg, from the virtual environment of `tests/run` or the
/// system.
fn nine() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Some(path) = std::env::var_os("REMUXD_FFMPEG9") {
            return path.into();
        }
        let script = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())";
        [target_dir().join("venv/bin/python"), "python3".into()]
            .iter()
            .filter_map(|python| Command::new(python).args(["-c", script]).output().ok())
            .find(|output| output.status.success())
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().into())
            .expect("FFmpeg 9 is missing: run tests/run once, or set REMUXD_FFMPEG9")
    })
}

/// Returns schemathesis of the virtual environment of `tests/run`, or of the system.
#[must_use]
pub fn schemathesis() -> PathBuf {
    Some(target_dir().join("venv/bin/schemathesis"))
        .filter(|path| path.exists())
        .unwrap_or_else(|| "schemathesis".into())
}

/// Runs `command` to its end.
///
/// # Errors
/// When it cannot start or exits with anything but 0: the command line and what it printed.
pub fn run(command: &mut Command) -> Result<Output, String> {
    let line = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{line}: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    Err(format!("{line}: {}\n{stdout}\n{stderr}", output.status))
}

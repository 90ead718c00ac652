//! Players in headless Chromium.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::tool::{root, run};

/// A player library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Player {
    /// mpegts.js, alive.
    Mpegts,
    /// flv.js, frozen since 2021 and still everywhere.
    Flv,
}

/// What a player did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Seconds by which `video.currentTime` advanced while watched.
    pub advanced: f64,
    /// Video frames decoded while watched.
    pub frames: u64,
    /// Audio bytes decoded while watched.
    pub audio_bytes: u64,
    /// Events that report an error, of the player and of the element.
    pub errors: Vec<String>,
}

/// Plays a live FLV URL until a good second of it was shown after the first picture.
///
/// # Errors
/// When the browser does not start, or the player shows nothing within `within`.
pub fn play(player: Player, url: &str, tracks: &str, within: Duration) -> Result<Outcome, String> {
    let name = match player {
        Player::Mpegts => "mpegts",
        Player::Flv => "flv",
    };
    let mut command = Command::new("node");
    command.current_dir(root().join("tests/browser")).arg("play.mjs");
    command.args([name, url, tracks, &within.as_millis().to_string()]);
    let output = run(&mut command)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let value: Value = serde_json::from_str(text.trim()).map_err(|error| format!("{error}: {text}"))?;
    let number = |name: &str| value[name].as_f64().unwrap_or_default();
    let errors = value["errors"].as_array().into_iter().flatten().map(ToString::to_string).collect();
    Ok(Outcome {
        advanced: number("advanced"),
        frames: number("frames") as u64,
        audio_bytes: number("audioBytes") as u64,
        errors,
    })
}

//! Players of a stream that changes: ffmpeg 5 and FFmpeg 9, and mpegts.js and flv.js in Chromium, which request again when
//! a response ends.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use remuxd_tests::browser::{self, Page, Player, Watched};
use remuxd_tests::tool::Ffmpeg;

use super::*;

/// The players share two cores.
const PATIENCE: Duration = Duration::from_secs(40);

/// Frames of each track that show that a player plays.
const FRAMES: u64 = 30;

pub(super) fn players(change: Change) {
    let host = start_host();
    let key = host.key("changes");
    let publishing = Publisher::open(host.rtmp, &key).repeat(change.before);
    Capture::rtmp(&host, &key).wait_access_units(1, SOON);
    let is_served = |fate: Fate| matches!(fate, GoesOn | Reconnects | Ends);
    let formats = ["flv", "ts", "aac", "mp3", "rtmp"];
    let native: Vec<Native> = formats
        .into_iter()
        .filter(|format| is_served(change.fate(format)))
        .flat_map(|format| {
            [Ffmpeg::Five, Ffmpeg::Nine].map(|ffmpeg| Native::play(&host, &key, format, ffmpeg))
        })
        .collect();
    let (watched, fates) = browser_players(&host, &key, change);
    let page = Page::play(&watched, PATIENCE).unwrap_or_else(|error| panic!("before the change: {error}"));
    for player in &native {
        player.wait_frames(&[0; 2], player.tracks(change.before)).unwrap();
    }

    publishing.stop_before(match change.cut {
        Cut::InsideGop => 6,
        Cut::AfterKeyframe => 1,
    });
    let seen: Vec<[u64; 2]> = native.iter().map(Native::frames).collect();
    let publishing = Publisher::reopen(host.rtmp, &key).repeat(change.after);
    let mut faults = Vec::new();
    match page.changed() {
        Err(error) => faults.push(format!("after the change: {error}")),
        Ok(outcomes) => {
            for ((watched, fate), outcome) in watched.iter().zip(fates).zip(outcomes) {
                faults.extend(
                    fault(change, fate, watched, &outcome)
                        .map(|fault| format!("{watched:?}: {fault}: {outcome:?}")),
                );
            }
        }
    }
    for (player, seen) in native.into_iter().zip(seen) {
        faults.extend(player.after(&host, &key, change, seen).err());
    }
    publishing.stop();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Returns the fault of a player that plays after the change.
fn fault(change: Change, fate: Fate, watched: &Watched, outcome: &browser::Change) -> Option<&'static str> {
    let has_same_codecs =
        (change.before.video(), change.before.audio()) == (change.after.video(), change.after.audio());
    if watched.after.is_empty() {
        return None;
    }
    if fate == GoesOn && !has_same_codecs {
        // Media Source Extensions cannot add a track: mpegts.js may report an error, and plays the next response.
        return None;
    }
    [
        (!outcome.errors.is_empty(), "it reported errors"),
        (fate == GoesOn && outcome.starts > 0, "it started again"),
        (fate != GoesOn && outcome.starts == 0, "the response did not end"),
    ]
    .into_iter()
    .find_map(|(is_fault, fault)| is_fault.then_some(fault))
}

/// Returns the tracks of a format that carries all of a clip.
fn all_tracks(clip: Clip) -> &'static str {
    match (clip.audio(), clip.video()) {
        (Some(_), Some(_)) => "av",
        (None, _) => "v",
        (_, None) => "a",
    }
}

fn browser_players(host: &Host, key: &str, change: Change) -> (Vec<Watched>, Vec<Fate>) {
    let rows = [
        (Player::Mpegts, "flv", host.http_url(key)),
        (Player::Mpegts, "ws", host.ws_url(key)),
        (Player::Mpegts, "ts", host.http_url(key).replace(".flv", ".ts")),
        (Player::Flv, "flv", host.http_url(key)),
        (Player::Flv, "ws", host.ws_url(key)),
    ];
    // Debian's Chromium does not decode HEVC.
    let after = if change.after.video() == Some(*b"hvc1") { "" } else { all_tracks(change.after) };
    let before = all_tracks(change.before);
    // When the audio of a transport stream ends, the audio buffer of mpegts.js 1.8.2 runs dry and the picture stops, from any
    // server.
    let plays = |format: &str| format != "ts" || !(before == "av" && after == "v");
    let width = if change.after == Clip::LargeH264Aac { 640 } else { 320 };
    rows.into_iter()
        .filter(|(_, format, _)| plays(format))
        .map(|(player, format, url)| (Watched { player, url, before, after, width }, change.fate(format)))
        .unzip()
}

/// A running ffmpeg that decodes a stream.
struct Native {
    format: &'static str,
    ffmpeg: Ffmpeg,
    child: Child,
    progress: Arc<(Mutex<Progress>, Condvar)>,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    /// Numbers of decoded video and audio frames.
    frames: [u64; 2],
    ended: bool,
}

impl Native {
    fn play(host: &Host, key: &str, format: &'static str, ffmpeg: Ffmpeg) -> Native {
        let url = if format == "rtmp" {
            host.rtmp_url(key)
        } else {
            format!("http://{}/{key}.{format}", host.http)
        };
        let mut command = ffmpeg.command();
        command.args([
            "-i",
            &url,
            "-map",
            "0:v?",
            "-map",
            "0:a?",
            "-flush_packets",
            "1",
            "-f",
            "framecrc",
            "-",
        ]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let progress = Arc::new((Mutex::new(Progress::default()), Condvar::new()));
        let (lines, sink) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(&progress));
        std::thread::spawn(move || {
            let mut audio = String::new();
            for line in lines.lines().map_while(Result::ok) {
                match line.strip_prefix("#media_type ").and_then(|rest| rest.strip_suffix(": audio")) {
                    Some(index) => audio = format!("{index},"),
                    None if line.starts_with('#') => {}
                    None => {
                        let is_audio = !audio.is_empty() && line.starts_with(&audio);
                        sink.0.lock().unwrap().frames[usize::from(is_audio)] += 1;
                    }
                }
                sink.1.notify_all();
            }
            sink.0.lock().unwrap().ended = true;
            sink.1.notify_all();
        });
        Native { format, ffmpeg, child, progress }
    }

    /// Returns the tracks of a clip that this ffmpeg decodes in this format.
    fn tracks(&self, clip: Clip) -> &'static str {
        match self.format {
            "aac" | "mp3" => "a",
            // FLV and RTMP carry HEVC in a way that FFmpeg 5 does not know. It analyses such a stream for 90 s.
            "flv" | "rtmp" if self.ffmpeg == Ffmpeg::Five && clip.video() == Some(*b"hvc1") => "",
            _ => all_tracks(clip),
        }
    }

    fn frames(&self) -> [u64; 2] {
        self.progress.0.lock().unwrap().frames
    }

    /// Waits until it has decoded more frames of these tracks than it had.
    fn wait_frames(&self, had: &[u64; 2], tracks: &str) -> Result<(), String> {
        let pending = |progress: &mut Progress| {
            let [video, audio] = [0, 1].map(|track| progress.frames[track] >= had[track] + FRAMES);
            !progress.ended && (!video && tracks.contains('v') || !audio && tracks.contains('a'))
        };
        let waited = self.progress.1.wait_timeout_while(self.progress.0.lock().unwrap(), PATIENCE, pending);
        let (progress, timeout) = waited.unwrap();
        if timeout.timed_out() || progress.ended {
            return Err(format!("{} does not play: {had:?} frames, then {progress:?}", self.name()));
        }
        Ok(())
    }

    fn name(&self) -> String {
        format!("{} in FFmpeg {:?}", self.format, self.ffmpeg)
    }

    /// Checks that the player goes on, or ends and plays again.
    fn after(self, host: &Host, key: &str, change: Change, seen: [u64; 2]) -> Result<(), String> {
        let fate = change.fate(self.format);
        if fate == GoesOn {
            // ffmpeg decodes the tracks that it found at the start, and tracks whose codec has changed are new ones.
            let (before, after) = (change.before, change.after);
            let tracks = if self.format == "aac" { "a" } else { all_tracks(after) };
            let tracks = tracks.chars().filter(|track| match track {
                'v' => before.video() == after.video(),
                _ => before.audio() == after.audio(),
            });
            return self.wait_frames(&seen, &tracks.collect::<String>());
        }
        let (format, ffmpeg) = (self.format, self.ffmpeg);
        let waited =
            self.progress.1.wait_timeout_while(self.progress.0.lock().unwrap(), PATIENCE, |now| !now.ended);
        if waited.unwrap().1.timed_out() {
            return Err(format!("{}: the response does not end", self.name()));
        }
        if fate == Reconnects {
            let again = Native::play(host, key, format, ffmpeg);
            return again.wait_frames(&[0; 2], again.tracks(change.after));
        }
        Ok(())
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! Players in headless Chromium.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::tool::{root, run};

/// A player library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Player {
    /// mpegts.js on a live stream.
    Mpegts,
    /// flv.js on a live stream; unmaintained since 2021, still widely used.
    Flv,
    /// An `<audio>` element, without a library.
    Audio,
    /// mpegts.js on a recording.
    MpegtsFile,
    /// flv.js on a recording.
    FlvFile,
    /// video.js with videojs-flvjs.
    VideoJs,
    /// Media Source Extensions alone, for fragmented MP4.
    Mse,
    /// The player of the page at the URL.
    Page,
}

/// Playback as observed in the browser.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Seconds by which `video.currentTime` advanced while watched.
    pub advanced: f64,
    /// Video frames decoded while watched.
    pub frames: u64,
    /// Audio bytes decoded while watched.
    pub audio_bytes: u64,
    /// Time from setting the source to the first advance.
    pub started_after: Duration,
    /// Number of times that playback stopped for lack of data.
    pub waits: u64,
    /// Events that report an error, of the player and of the element.
    pub errors: Vec<String>,
}

/// Plays a URL until playback has advanced by more than a second after the first picture, [`Player::Audio`] by ten. `tracks` are the tracks that must
/// advance: `av`, `v` or `a`.
///
/// # Errors
/// When the browser does not start, or the player shows nothing within `within`.
pub fn play(player: Player, url: &str, tracks: &str, within: Duration) -> Result<Outcome, String> {
    let name = match player {
        Player::Mpegts => "mpegts",
        Player::Flv => "flv",
        Player::MpegtsFile => "mpegts-file",
        Player::FlvFile => "flv-file",
        Player::VideoJs => "videojs",
        Player::Mse => "mse",
        Player::Audio => "audio",
        Player::Page => "page",
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
        started_after: Duration::from_millis(number("startedAfter") as u64),
        waits: number("waits") as u64,
        errors,
    })
}

/// The console as a browser showed it, while it was operated.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operated {
    /// Errors of its scripts.
    pub errors: Vec<String>,
    /// URLs at other hosts that it asked for.
    pub foreign: Vec<String>,
    /// Number of its subscriptions to events.
    pub subscriptions: u64,
    /// Number of its requests to the API in six seconds in which nothing happened.
    pub requests: u64,
    /// Pages that were wider than a screen.
    pub overflows: Vec<String>,
    /// Codecs of the stream.
    pub chips: Vec<String>,
    /// Rows of the stream's mounts.
    pub mounts: Vec<String>,
    /// Pictures that its player showed.
    pub played: u64,
    /// The row of the viewer before it was kicked.
    pub viewer: String,
    /// The row of the ban that followed.
    pub ban: String,
    /// Names and values of the limits.
    pub meters: Vec<String>,
    /// Rows of the certificates.
    pub certificates: Vec<String>,
    /// Names of the modules.
    pub modules: Vec<String>,
    /// The dry run of the reload.
    pub dry_run: String,
    /// Its report.
    pub reload: String,
}

/// Operates a host by the console at `url`: logs in, plays `stream`, kicks and bans its viewer from `address`, lifts the ban, reloads
/// and logs out. With `CONSOLE_SCREENSHOTS`, a folder, draws the pages there.
///
/// # Errors
/// When the browser does not start, or something does not appear that must.
pub fn operate(
    url: &str,
    (user, password): (&str, &str),
    stream: &str,
    address: &str,
) -> Result<Operated, String> {
    let mut command = Command::new("node");
    command.current_dir(root().join("tests/browser")).arg("console.mjs");
    command.args([url, user, password, stream, address]).args(std::env::var_os("CONSOLE_SCREENSHOTS"));
    let output = run(&mut command)?;
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

/// A player in a page that plays a changing stream.
#[derive(Clone, Debug)]
pub struct Watched {
    /// [`Player::Mpegts`] or [`Player::Flv`].
    pub player: Player,
    /// The stream.
    pub url: String,
    /// The tracks that must advance before the change: `av`, `v` or `a`.
    pub before: &'static str,
    /// The tracks that must advance after the change; empty if the browser cannot decode the stream, which the player
    /// must report.
    pub after: &'static str,
    /// The width of the picture after the change.
    pub width: u64,
}

/// Players in one page of Chromium, which start again when their response ends or they report an error.
#[derive(Debug)]
pub struct Page {
    child: Child,
    lines: BufReader<ChildStdout>,
}

/// What a player of a [`Page`] did after the change.
#[derive(Clone, Debug)]
pub struct Change {
    /// Number of players that were started for the stream since the change.
    pub starts: u64,
    /// Width of the last picture.
    pub width: u64,
    /// The errors that it reported.
    pub errors: Vec<String>,
}

impl Page {
    /// Starts the players, and waits until all of them play.
    ///
    /// # Errors
    /// When the browser does not start, or a player does not play within `within`.
    pub fn play(players: &[Watched], within: Duration) -> Result<Page, String> {
        let players: Vec<Value> = players
            .iter()
            .map(|one| {
                let player = if one.player == Player::Flv { "flv" } else { "mpegts" };
                json!({"player": player, "url": one.url, "before": one.before, "after": one.after, "width": one.width})
            })
            .collect();
        let mut command = Command::new("node");
        command.current_dir(root().join("tests/browser")).arg("watch.mjs");
        command.args([Value::from(players).to_string(), within.as_millis().to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("node: {error}"))?;
        let lines = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let mut page = Page { child, lines };
        let line = page.line();
        if line == "playing" { Ok(page) } else { Err(page.failed(&line)) }
    }

    /// Announces that the stream has changed, and waits until each player plays what was not buffered before. Returns what each
    /// did, in the order of [`Page::play`].
    ///
    /// # Errors
    /// When a player does not play in time.
    pub fn changed(mut self) -> Result<Vec<Change>, String> {
        let stdin = self.child.stdin.as_mut().expect("stdin is a pipe");
        stdin.write_all(b"changed\n").map_err(|error| format!("node: {error}"))?;
        let line = self.line();
        let parsed: Option<Value> = serde_json::from_str(&line).ok();
        let Some(players) = parsed.as_ref().and_then(Value::as_array) else { return Err(self.failed(&line)) };
        if players.iter().any(|one| one["done"] != true) {
            return Err(self.failed(&line));
        }
        let errors =
            |one: &Value| one["errors"].as_array().into_iter().flatten().map(Value::to_string).collect();
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let change = |one: &Value| Change {
            starts: number(&one["starts"]),
            width: number(&one["width"]),
            errors: errors(one),
        };
        Ok(players.iter().map(change).collect())
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        // At the end of the pipe there is no line.
        let _ = self.lines.read_line(&mut line);
        line.trim().to_owned()
    }

    fn failed(&mut self, line: &str) -> String {
        // The program ends after a failure.
        let mut messages = String::new();
        let _ = self.child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut messages));
        format!("{line}\n{messages}")
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // The end of its input ends the program; it closes the browser.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Instant;

    use super::*;
    use crate::clip::Clip;
    use crate::flv::{self, Tag};

    /// Serves `tags` in real time to every client, over HTTP or WebSocket.
    fn serve(header: flv::Header, tags: Vec<Tag>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let tags = tags.clone();
                std::thread::spawn(move || answer(socket, header, &tags));
            }
        });
        address
    }

    fn answer(mut socket: TcpStream, header: flv::Header, tags: &[Tag]) {
        let mut head = [0; 4096];
        let length = socket.peek(&mut head).unwrap();
        let is_websocket =
            String::from_utf8_lossy(&head[..length]).to_lowercase().contains("upgrade: websocket");
        let start = Instant::now();
        let mut pieces = tags.iter().enumerate().map(|(index, tag)| {
            let due = start + Duration::from_millis(tag.timestamp.into());
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            flv::write(header, std::slice::from_ref(tag)).split_off(if index == 0 { 0 } else { 13 })
        });
        if is_websocket {
            let mut socket = tungstenite::accept(socket).unwrap();
            let _ = pieces.try_for_each(|piece| socket.send(tungstenite::Message::binary(piece)));
        } else {
            socket.read_exact(&mut head[..length]).unwrap();
            let head = "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n";
            socket.write_all(head.as_bytes()).unwrap();
            let _ = pieces.try_for_each(|piece| socket.write_all(&piece));
        }
    }

    #[test]
    fn both_players_play_a_plain_server_and_report_a_broken_stream() {
        let tags = flv::read_file(&Clip::H264Aac.path());
        let header = flv::Header { audio: true, video: true };
        let good = serve(header, tags.clone());
        // Without decoder configurations a player can show nothing.
        let bad = tags.into_iter().filter(|tag| tag.content() != flv::Content::SequenceHeader).collect();
        let bad = serve(header, bad);
        for player in [Player::Mpegts, Player::Flv] {
            for scheme in ["http", "ws"] {
                let outcome =
                    play(player, &format!("{scheme}://{good}/"), "av", Duration::from_secs(30)).unwrap();
                assert!(outcome.advanced > 1.0 && outcome.frames > 20, "{outcome:?}");
                assert!(outcome.audio_bytes > 0 && outcome.errors.is_empty(), "{outcome:?}");
            }
            play(player, &format!("http://{bad}/"), "av", Duration::from_secs(3)).unwrap_err();
        }
    }
}

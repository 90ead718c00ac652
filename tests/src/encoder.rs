//! Real encoders that publish a clip in real time, without transcoding.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::clip::{Clip, LENGTH};
use crate::host::Host;
use crate::scratch::Scratch;
use crate::tool::Ffmpeg;
use crate::wait::{SOON, wait_for};

/// An encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoder {
    /// ffmpeg's own RTMP.
    Ffmpeg(Ffmpeg),
    /// GStreamer's rtmp2sink, an RTMP implementation of its own.
    Rtmp2Sink,
    /// GStreamer's rtmpsink, which is librtmp.
    RtmpSink,
}

/// A running encoder; stopped on drop.
#[derive(Debug)]
pub struct Publishing {
    child: Child,
    published: PathBuf,
    log: PathBuf,
    // Owns the published file.
    _scratch: Scratch,
}

impl Encoder {
    /// Starts publishing `clip` as `key`.
    ///
    /// # Panics
    /// When the encoder is not installed.
    #[must_use]
    pub fn publish(self, clip: Clip, host: &Host, key: &str) -> Publishing {
        self.publish_to(clip, &host.rtmp_url(key))
    }

    /// Starts publishing `clip` to an RTMP URL.
    ///
    /// # Panics
    /// When the encoder is not installed.
    #[must_use]
    pub fn publish_to(self, clip: Clip, url: &str) -> Publishing {
        let scratch = Scratch::new();
        let (command, published) = match self {
            Encoder::Ffmpeg(ffmpeg) => return publish_file(ffmpeg, clip.path(), url),
            Encoder::Rtmp2Sink => gstreamer(clip, "rtmp2sink", url, &scratch),
            Encoder::RtmpSink => gstreamer(clip, "rtmpsink", &format!("{url} live=1"), &scratch),
        };
        Publishing::start(command, published, scratch)
    }
}

/// Publishes an FLV file once, with ffmpeg.
///
/// # Panics
/// When ffmpeg is not installed.
#[must_use]
pub fn publish_file(ffmpeg: Ffmpeg, file: PathBuf, url: &str) -> Publishing {
    let mut command = ffmpeg.command();
    command.args(["-re", "-i"]).arg(&file).args(["-map", "0", "-c", "copy", "-f", "flv", url]);
    Publishing::start(command, file, Scratch::new())
}

/// Number of repetitions of a clip: enough for several minutes.
const REPETITIONS: usize = 100;

/// Distance between the starts of two repetitions: the clip's length, and a frame by which the audio of some clips is
/// longer. FFmpeg does not know the duration of a live FLV: it would take the time of its last tag (the end of sequence
/// of H.264, which is earlier), so that repetitions would overlap.
pub(crate) const REPETITION: Duration = LENGTH.saturating_add(Duration::from_millis(50));

/// Publishes `clip` repeatedly with ffmpeg, until the returned value is dropped. Timestamps ascend in each track.
///
/// # Panics
/// When ffmpeg is not installed.
#[must_use]
pub fn publish_looped(clip: Clip, url: &str) -> Publishing {
    let scratch = Scratch::new();
    let mut command = clip.ffmpeg().command();
    // -stream_loop seeks, which FFmpeg 9 cannot do in FLV with AV1; a concat list reads the file again.
    let list = scratch.join("list.txt");
    let entry = format!("file '{}'\nduration {}\n", clip.path().display(), REPETITION.as_secs_f64());
    std::fs::write(&list, entry.repeat(REPETITIONS)).expect("the scratch directory is writable");
    command.args(["-re", "-f", "concat", "-safe", "0", "-i"]).arg(&list);
    command.args(["-map", "0", "-c", "copy", "-f", "flv", url]);
    Publishing::start(command, clip.path(), scratch)
}

/// Encodes and publishes H.264 and AAC with ffmpeg, until the returned value is dropped. Unlike a repeated clip, the stream
/// has no seams.
///
/// # Panics
/// When ffmpeg is not installed.
#[must_use]
pub fn encode_live(url: &str) -> Publishing {
    let mut command = Ffmpeg::Five.command();
    command.args([
        "-re",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=320x180:rate=25",
        "-f",
        "lavfi",
        "-i",
        "sine=sample_rate=44100",
    ]);
    command.args([
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-pix_fmt",
        "yuv420p",
        "-g",
        "25",
        "-c:a",
        "aac",
    ]);
    command.args(["-f", "flv", url]);
    Publishing::start(command, PathBuf::new(), Scratch::new())
}

/// Publishes with GStreamer, whose muxer writes an FLV of its own: a second branch of the pipeline records it.
fn gstreamer(clip: Clip, sink: &str, location: &str, scratch: &Scratch) -> (Command, PathBuf) {
    let record = scratch.join("published.flv");
    let mut command = Command::new("gst-launch-1.0");
    command
        .args(["-q", "filesrc"])
        .arg(format!("location={}", clip.path().display()))
        .args(["!", "flvdemux"]);
    command.args(["name=demux", "flvmux", "name=mux", "streamable=true", "!", "tee", "name=t"]);
    if clip.video().is_some() {
        command.args(["demux.video", "!", "queue", "!", "h264parse", "!", "mux.video"]);
    }
    match clip.audio().as_ref() {
        Some(b"mp4a") => drop(command.args(["demux.audio", "!", "queue", "!", "aacparse", "!", "mux.audio"])),
        Some(_) => drop(command.args(["demux.audio", "!", "queue", "!", "mpegaudioparse", "!", "mux.audio"])),
        None => {}
    }
    command.args(["t.", "!", "queue", "!", sink, &format!("location={location}")]);
    command.args(["t.", "!", "queue", "!", "filesink"]).arg(format!("location={}", record.display()));
    (command, record)
}

impl Publishing {
    fn start(mut command: Command, published: PathBuf, scratch: Scratch) -> Publishing {
        let log = scratch.join("encoder.log");
        let stderr = std::fs::File::create(&log).expect("the scratch directory is writable");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Publishing { child, published, log, _scratch: scratch }
    }

    /// Waits for the encoder to succeed, and returns the file with the published stream. The file lives as long as
    /// `self`.
    ///
    /// # Panics
    /// When it fails, or takes far longer than the clip.
    pub fn finish(&mut self) -> PathBuf {
        let (success, messages) = self.outcome();
        assert!(success, "the encoder failed:\n{messages}");
        self.published.clone()
    }

    /// Waits for the encoder to end, and returns whether it succeeded, and its messages.
    ///
    /// # Panics
    /// When it takes far longer than the clip.
    pub fn outcome(&mut self) -> (bool, String) {
        let status = wait_for(LENGTH + SOON, "the encoder ends", || {
            self.child.try_wait().expect("the encoder is a child of ours")
        });
        (status.success(), std::fs::read_to_string(&self.log).unwrap_or_default())
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::compare::{Coverage, compare};
    use crate::flv::{SCRIPT, read_file};
    use crate::publisher::Publisher;
    use crate::wait::{SOON, wait_until};

    /// Starts ffmpeg as an RTMP server that records one publisher. Returns its port.
    fn record(file: &Path) -> (Child, u16) {
        loop {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut command = Ffmpeg::Five.command();
            command.args(["-listen", "1", "-f", "flv", "-i", &format!("rtmp://127.0.0.1:{port}/live/x")]);
            command.args(["-map", "0", "-c", "copy"]).arg(file).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            // It ends if another process has taken the port, which was free for a moment.
            let listens = wait_for(SOON, "ffmpeg listens, or ends", || {
                let ended = child.try_wait().unwrap().is_some();
                (ended || listens(&child, port)).then_some(!ended)
            });
            if listens {
                return (child, port);
            }
        }
    }

    /// Returns whether a socket of `child` itself listens on `port`.
    fn listens(child: &Child, port: u16) -> bool {
        let address = format!(":{port:04X} 00000000:0000 0A");
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let of_port = table.lines().filter(|line| line.contains(&address));
        let sockets: Vec<_> = of_port
            .filter_map(|line| line.split_whitespace().nth(9))
            .map(|inode| PathBuf::from(format!("socket:[{inode}]")))
            .collect();
        let open = std::fs::read_dir(format!("/proc/{}/fd", child.id())).into_iter().flatten().flatten();
        open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|link| sockets.contains(&link))
    }

    #[test]
    fn each_encoder_publishes_its_file() {
        let encoders = [
            Encoder::Ffmpeg(Ffmpeg::Five),
            Encoder::Ffmpeg(Ffmpeg::Nine),
            Encoder::Rtmp2Sink,
            Encoder::RtmpSink,
        ];
        std::thread::scope(|scope| {
            for encoder in encoders {
                scope.spawn(move || {
                    let scratch = Scratch::new();
                    let file = scratch.join("recorded.flv");
                    let (mut server, port) = record(&file);
                    let mut publishing =
                        encoder.publish_to(Clip::H264Aac, &format!("rtmp://127.0.0.1:{port}/live/x"));
                    let published = read_file(&publishing.finish());
                    server.wait().unwrap();
                    let compared = compare(&published, &read_file(&file), Coverage::Whole);
                    assert!(compared.is_ok_and(|units| units > 200), "{encoder:?}");
                });
            }
        });
    }

    #[test]
    fn the_kits_own_publisher_speaks_rtmp() {
        let scratch = Scratch::new();
        let file = scratch.join("recorded.flv");
        let (mut server, port) = record(&file);
        let published = read_file(&Clip::H264Aac.path());
        let mut publisher = Publisher::open(([127, 0, 0, 1], port).into(), "live/x");
        publisher.send(published.iter().filter(|tag| tag.kind != SCRIPT));
        drop(publisher);
        wait_until(Duration::from_secs(20), "ffmpeg ends", || server.try_wait().unwrap().is_some());
        compare(&published, &read_file(&file), Coverage::Whole).unwrap();
    }
}

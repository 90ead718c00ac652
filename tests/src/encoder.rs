//! Real encoders that publish a clip in real time without coding it again.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::clip::Clip;
use crate::host::Host;
use crate::scratch::Scratch;
use crate::tool::Ffmpeg;
use crate::wait::wait_for;

/// Who publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoder {
    /// ffmpeg's own RTMP.
    Ffmpeg(Ffmpeg),
    /// GStreamer's rtmp2sink, RTMP of its own.
    Rtmp2Sink,
    /// GStreamer's rtmpsink, which is librtmp.
    RtmpSink,
}

/// An encoder at work; ended on drop.
#[derive(Debug)]
pub struct Publishing {
    child: Child,
    published: PathBuf,
    log: PathBuf,
    // Owns the files above.
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
        let (file, log) = (clip.path(), scratch.join("encoder.log"));
        let (mut command, published) = match self {
            Encoder::Ffmpeg(ffmpeg) => {
                let mut command = ffmpeg.command();
                command.args(["-re", "-i"]).arg(&file).args(["-map", "0", "-c", "copy", "-f", "flv", url]);
                (command, file)
            }
            Encoder::Rtmp2Sink => gstreamer(clip, "rtmp2sink", url, &scratch),
            Encoder::RtmpSink => gstreamer(clip, "rtmpsink", &format!("{url} live=1"), &scratch),
        };
        let said = std::fs::File::create(&log).expect("the scratch directory is writable");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Publishing { child, published, log, _scratch: scratch }
    }
}

/// GStreamer's muxer writes its own FLV, so what was published is what a second branch put into a file.
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
    /// Waits for the encoder to end well, and returns the file that holds what it published. The file lives as long as
    /// `self`.
    ///
    /// # Panics
    /// When it fails, or takes far longer than the clip.
    pub fn finish(&mut self) -> PathBuf {
        let status = wait_for(crate::clip::LENGTH * 6, "the encoder ends", || {
            self.child.try_wait().expect("the encoder is a child of ours")
        });
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        assert!(status.success(), "the encoder: {status}\n{said}");
        self.published.clone()
    }

    /// Waits for the encoder to end in any way, and returns whether it was well and what it said.
    ///
    /// # Panics
    /// When it takes far longer than the clip.
    pub fn outcome(&mut self) -> (bool, String) {
        let status = wait_for(crate::clip::LENGTH * 6, "the encoder ends", || {
            self.child.try_wait().expect("the encoder is a child of ours")
        });
        (status.success(), std::fs::read_to_string(&self.log).unwrap_or_default())
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

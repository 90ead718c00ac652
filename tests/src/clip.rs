//! Short files to publish, with a test picture and a tone: encoded once and cached in `target/clips`.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use crate::tool::{Ffmpeg, run, target_dir};

/// Length of each clip.
pub const LENGTH: Duration = Duration::from_secs(4);
/// Video frames a second; a keyframe comes each second.
pub const FRAME_RATE: u32 = 25;
const MINUTE: Duration = Duration::from_secs(60);

/// A clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clip {
    /// H.264 with B-frames, and AAC.
    H264Aac,
    /// H.264 without B-frames, and AAC.
    H264NoBAac,
    /// H.264 with B-frames, of twice the width and height of all others, and AAC.
    LargeH264Aac,
    /// H.264 and MP3.
    H264Mp3,
    /// H.264 alone.
    H264,
    /// AAC alone.
    Aac,
    /// MP3 alone.
    Mp3,
    /// HEVC and AAC, enhanced FLV.
    HevcAac,
    /// AV1 and Opus, enhanced FLV.
    Av1Opus,
    /// VP9 and Opus, enhanced FLV.
    Vp9Opus,
    /// H.264 and Opus, enhanced FLV.
    H264Opus,
}

impl Clip {
    /// Returns the FFmpeg that encodes the clip and can decode it.
    #[must_use]
    pub fn ffmpeg(self) -> Ffmpeg {
        match self {
            Clip::H264Aac | Clip::H264NoBAac | Clip::LargeH264Aac => Ffmpeg::Five,
            Clip::H264Mp3 | Clip::H264 | Clip::Aac | Clip::Mp3 => Ffmpeg::Five,
            Clip::HevcAac | Clip::Av1Opus | Clip::Vp9Opus | Clip::H264Opus => Ffmpeg::Nine,
        }
    }

    /// Returns the FourCC of the video track.
    #[must_use]
    pub fn video(self) -> Option<[u8; 4]> {
        match self {
            Clip::H264Aac | Clip::H264NoBAac | Clip::LargeH264Aac => Some(*b"avc1"),
            Clip::H264Mp3 | Clip::H264 | Clip::H264Opus => Some(*b"avc1"),
            Clip::HevcAac => Some(*b"hvc1"),
            Clip::Av1Opus => Some(*b"av01"),
            Clip::Vp9Opus => Some(*b"vp09"),
            Clip::Aac | Clip::Mp3 => None,
        }
    }

    /// Returns the FourCC of the audio track.
    #[must_use]
    pub fn audio(self) -> Option<[u8; 4]> {
        match self {
            Clip::H264Aac | Clip::H264NoBAac | Clip::LargeH264Aac => Some(*b"mp4a"),
            Clip::HevcAac | Clip::Aac => Some(*b"mp4a"),
            Clip::H264Mp3 | Clip::Mp3 => Some(*b".mp3"),
            Clip::Av1Opus | Clip::Vp9Opus | Clip::H264Opus => Some(*b"Opus"),
            Clip::H264 => None,
        }
    }

    /// Returns the FLV file; encodes it if it does not exist yet.
    ///
    /// # Panics
    /// When the encoder fails.
    #[must_use]
    pub fn path(self) -> PathBuf {
        self.make(&format!("{self:?}"), LENGTH, FRAME_RATE)
    }

    /// Returns an FLV file of a minute; encodes it if it does not exist yet.
    ///
    /// # Panics
    /// When the encoder fails.
    #[must_use]
    pub fn minute(self) -> PathBuf {
        self.make(&format!("{self:?}-minute"), MINUTE, FRAME_RATE)
    }

    /// Returns an FLV file of a minute with one keyframe, at its start; encodes it if it does not exist yet.
    ///
    /// # Panics
    /// When the encoder fails.
    #[must_use]
    pub fn one_gop(self) -> PathBuf {
        self.make(&format!("{self:?}-one-gop"), MINUTE, FRAME_RATE * 60)
    }

    /// Returns the FLV file `name`; encodes it if it does not exist yet. `gop` is the keyframe interval in frames.
    fn make(self, name: &str, length: Duration, gop: u32) -> PathBuf {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock();
        let dir = target_dir().join("clips");
        let path = dir.join(format!("{name}.flv"));
        if path.exists() {
            return path;
        }
        std::fs::create_dir_all(&dir).expect("target is writable");
        // Other test processes may encode it too: each writes its own file, and the rename is atomic.
        let unfinished = dir.join(format!("{name}-{}.part", std::process::id()));
        let mut command = self.ffmpeg().command();
        self.encode(length, gop, &mut command);
        run(command.args(["-flvflags", "no_duration_filesize", "-f", "flv"]).arg(&unfinished))
            .unwrap_or_else(|error| panic!("{error}"));
        std::fs::rename(&unfinished, &path).expect("target is writable");
        path
    }

    fn encode(self, length: Duration, gop: u32, command: &mut Command) {
        let seconds = length.as_secs();
        if self.video().is_some() {
            let size = if self == Clip::LargeH264Aac { "640x360" } else { "320x180" };
            let picture = format!("testsrc2=size={size}:rate={FRAME_RATE}:duration={seconds}");
            command.args(["-f", "lavfi", "-i", &picture]);
        }
        if self.audio().is_some() {
            let rate = if self.audio() == Some(*b"Opus") { 48000 } else { 44100 };
            let tone = format!("sine=frequency=440:sample_rate={rate}:duration={seconds}");
            command.args(["-f", "lavfi", "-i", &tone]);
        }
        let video: &[&str] = match self.video().as_ref() {
            Some(b"avc1") => &["libx264", "-preset", "veryfast", "-sc_threshold", "0"],
            Some(b"hvc1") => &["libx265", "-preset", "ultrafast", "-x265-params", "log-level=error"],
            Some(b"av01") => &["libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-row-mt", "1"],
            Some(_) => &["libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"],
            None => &[],
        };
        if let [encoder, options @ ..] = video {
            command.args(["-c:v", encoder]).args(options);
            if self.video() == Some(*b"avc1") {
                command.args(["-bf", if self == Clip::H264NoBAac { "0" } else { "2" }]);
            }
            let gop = gop.to_string();
            command.args(["-b:v", "400k", "-g", &gop, "-keyint_min", &gop, "-pix_fmt", "yuv420p"]);
        }
        match self.audio().as_ref() {
            Some(b"mp4a") => drop(command.args(["-c:a", "aac", "-b:a", "96k", "-ac", "2"])),
            Some(b".mp3") => drop(command.args(["-c:a", "libmp3lame", "-b:a", "96k", "-ac", "2"])),
            Some(_) => drop(command.args(["-c:a", "libopus", "-b:a", "96k", "-ac", "2"])),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::access_units;
    use crate::flv::{AUDIO, VIDEO, read_file};
    use crate::{compare, decode};

    #[test]
    fn every_clip_carries_its_codecs() {
        for clip in [
            Clip::H264Aac,
            Clip::H264NoBAac,
            Clip::LargeH264Aac,
            Clip::H264Mp3,
            Clip::H264,
            Clip::Aac,
            Clip::Mp3,
            Clip::HevcAac,
            Clip::Av1Opus,
            Clip::Vp9Opus,
            Clip::H264Opus,
        ] {
            let tags = read_file(&clip.path());
            let units = access_units(&tags);
            let codec = |kind| units.iter().find(|unit| unit.kind == kind).map(|unit| unit.codec);
            assert_eq!((codec(VIDEO), codec(AUDIO)), (clip.video(), clip.audio()), "{clip:?}");
            let keyframes = units.iter().filter(|unit| unit.keyframe).count();
            assert_eq!(keyframes, if clip.video().is_some() { 4 } else { 0 }, "{clip:?}");
            compare::check_order(&tags).unwrap_or_else(|error| panic!("{clip:?}: {error}"));
            decode::decode(clip.ffmpeg(), &clip.path()).unwrap();
        }
    }

    #[test]
    fn one_gop_has_one_keyframe() {
        let units = access_units(&read_file(&Clip::Av1Opus.one_gop()));
        assert_eq!(units.iter().filter(|unit| unit.keyframe).count(), 1);
        assert_eq!(units.iter().filter(|unit| unit.kind == VIDEO).count(), 60 * FRAME_RATE as usize);
    }
}

//! The stream that floor and source both send: same tags, same sizes, same pace, from the same start.
//!
//! 25 pictures a second in GOPs of fixed length, AAC or MP3 at 44.1 kHz. Every audio and video body is labelled with the
//! instant it was due or sent and its number in its track, so that a viewer can tell latency and loss.

use crate::clock::{MILLISECOND, SECOND};
use crate::essence::{self, AAC_LABEL, LABEL, MP3_LABEL, VIDEO_LABEL};
use crate::flv;
use std::str::FromStr;

const MAGIC: &[u8; 16] = b"remuxd-bench-tag";
const FRAMES_PER_SECOND: usize = 25;
const AUDIO_RATE: u64 = 44_100;
const AAC_BODY: usize = 371;

/// Size of a keyframe in ordinary pictures, where the bitrate allows it.
const KEYFRAME_WEIGHT: usize = 8;

/// Bytes of the smallest keyframe as an FLV tag: a byte for each macroblock.
const KEYFRAME_MIN: usize = 3700;

/// Nanoseconds from one picture to the next.
pub const FRAME: u64 = 40 * MILLISECOND;

/// The audio codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audio {
    /// AAC-LC, 131 kbit/s as ADTS.
    Aac,
    /// MPEG-1 layer III, 128 kbit/s.
    Mp3,
}

impl FromStr for Audio {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "aac" => Ok(Self::Aac),
            "mp3" => Ok(Self::Mp3),
            _ => Err(()),
        }
    }
}

impl Audio {
    /// Samples of a frame.
    fn samples(self) -> u64 {
        match self {
            Self::Aac => 1024,
            Self::Mp3 => 1152,
        }
    }

    fn body(self) -> Vec<u8> {
        match self {
            Self::Aac => essence::aac(AAC_BODY),
            Self::Mp3 => essence::mp3(),
        }
    }

    fn label(self) -> usize {
        match self {
            Self::Aac => AAC_LABEL,
            Self::Mp3 => MP3_LABEL,
        }
    }
}

/// One tag, lent by [`Content::tag`].
pub struct Tag<'a> {
    /// The FLV TagType.
    pub kind: u8,
    /// Milliseconds since the stream's start.
    pub timestamp: u32,
    /// Whether the tag opens a GOP.
    pub keyframe: bool,
    /// The FLV tag body, which is the RTMP message payload.
    pub body: &'a [u8],
}

/// The endless stream: knows when each tag is due, and reads no clock.
pub struct Content {
    start: u64,
    codec: Audio,
    pictures: Vec<Vec<u8>>,
    sound: Vec<u8>,
    video: u64,
    audio: u64,
}

impl Content {
    /// Returns a stream of `kbit` kilobits a second, counted as FLV, that begins at the instant `start`, with `gop` pictures
    /// in each GOP.
    pub fn new(start: u64, kbit: usize, gop: usize, codec: Audio) -> Self {
        let per_second = kbit * 1000 / 8;
        let body = codec.body();
        let sound = (body.len() + flv::OVERHEAD) * AUDIO_RATE as usize / codec.samples() as usize;
        let pictures = per_second.saturating_sub(sound) * gop / FRAMES_PER_SECOND;
        let keyframe = (pictures * KEYFRAME_WEIGHT / (gop - 1 + KEYFRAME_WEIGHT)).max(KEYFRAME_MIN);
        let other = pictures.saturating_sub(keyframe) / (gop - 1).max(1);
        let size = |index| if index == 0 { keyframe } else { other } - flv::OVERHEAD;
        Self {
            start,
            codec,
            pictures: (0..gop).map(|index| essence::video(index as u32, size(index))).collect(),
            sound: body,
            video: 0,
            audio: 0,
        }
    }

    /// The instant at which the next tag is due.
    pub fn due(&self) -> u64 {
        self.video_due().min(self.audio_due())
    }

    /// The next tag, labelled with `instant`.
    pub fn tag(&mut self, instant: u64) -> Tag<'_> {
        let (video_due, audio_due) = (self.video_due(), self.audio_due());
        if video_due <= audio_due {
            let number = self.video;
            self.video += 1;
            let index = (number % self.pictures.len() as u64) as usize;
            let body = &mut self.pictures[index];
            label(&mut body[VIDEO_LABEL..], instant, number);
            Tag {
                kind: flv::VIDEO,
                timestamp: milliseconds(video_due - self.start),
                keyframe: index == 0,
                body,
            }
        } else {
            let number = self.audio;
            self.audio += 1;
            label(&mut self.sound[self.codec.label()..], instant, number);
            let timestamp = milliseconds(audio_due - self.start);
            Tag { kind: flv::AUDIO, timestamp, keyframe: false, body: &self.sound }
        }
    }

    /// The body of the audio sequence header, if the codec has one.
    pub fn audio_config(&self) -> Option<Vec<u8>> {
        (self.codec == Audio::Aac).then(essence::aac_config)
    }

    /// The properties of onMetaData.
    pub fn metadata(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("width", 1280.0),
            ("height", 720.0),
            ("framerate", FRAMES_PER_SECOND as f64),
            ("videocodecid", 7.0),
            ("audiocodecid", if self.codec == Audio::Aac { 10.0 } else { 2.0 }),
            ("audiosamplerate", AUDIO_RATE as f64),
        ]
    }

    fn video_due(&self) -> u64 {
        self.start + self.video * FRAME
    }

    fn audio_due(&self) -> u64 {
        self.start + self.audio * self.codec.samples() * SECOND / AUDIO_RATE
    }
}

fn milliseconds(duration: u64) -> u32 {
    (duration / MILLISECOND) as u32
}

/// Hexadecimal, because raw bytes would need H.264's emulation prevention.
fn label(place: &mut [u8], instant: u64, number: u64) {
    let text = format!("{instant:016x}{:08x}", number as u32);
    place[..MAGIC.len()].copy_from_slice(MAGIC);
    place[MAGIC.len()..LABEL].copy_from_slice(text.as_bytes());
}

/// The instant and the number with which a tag of type `kind` was labelled; none if the body bears no label.
pub fn read_label(kind: u8, body: &[u8]) -> Option<(u64, u32)> {
    let place = match (kind, body.first()) {
        (flv::VIDEO, _) => VIDEO_LABEL,
        (_, Some(0xAF)) => AAC_LABEL,
        _ => MP3_LABEL,
    };
    let text = body.get(place..place + LABEL)?.strip_prefix(MAGIC)?;
    let text = std::str::from_utf8(text).ok()?;
    Some((u64::from_str_radix(text.get(..16)?, 16).ok()?, u32::from_str_radix(text.get(16..)?, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_rate() {
        for (kbit, codec) in [(2000, Audio::Aac), (2000, Audio::Mp3), (172, Audio::Aac)] {
            let mut content = Content::new(5, kbit, 50, codec);
            let mut bytes = 0;
            while content.due() < 5 + 20 * SECOND {
                bytes += content.tag(0).body.len() + flv::OVERHEAD;
            }
            let expected = kbit * 2500;
            assert!(bytes.abs_diff(expected) < expected / 100, "{bytes}");
        }
    }

    #[test]
    fn labels_read_back() {
        for codec in [Audio::Aac, Audio::Mp3] {
            let mut content = Content::new(0, 2000, 50, codec);
            let mut numbers = [0, 0];
            for instant in 0..1000 {
                let tag = content.tag(instant);
                let number = &mut numbers[usize::from(tag.kind == flv::VIDEO)];
                assert_eq!(read_label(tag.kind, tag.body), Some((instant, *number)));
                *number += 1;
            }
        }
        assert_eq!(read_label(flv::VIDEO, &essence::video_config()), None);
    }
}

//! `onMetaData` for live viewers.
//!
//! Keeps all properties of the publisher's metadata except those of a file (`duration` 0 makes ExoPlayer stop at once) and those
//! that the remuxer determines: `hasAudio` and `hasVideo` override the file header in mpegts.js and flv.js.

use crate::amf0::{self, Budget, Value};

/// The longest metadata whose properties are passed on, in bytes, without those of files.
const MAX_METADATA: usize = 16 << 10;

/// Properties that are not passed on.
const DROPPED: &[&str] = &[
    "duration",
    "filesize",
    "keyframes",
    "lasttimestamp",
    "lastkeyframetimestamp",
    "hasAudio",
    "hasVideo",
    "server",
    // One track is passed on.
    "audioTrackIdInfoMap",
    "videoTrackIdInfoMap",
];

/// Properties that describe track 0, which are not passed on with another track.
const OF_TRACK_0: &[&str] = &[
    "width",
    "height",
    "framerate",
    "videodatarate",
    "audiodatarate",
    "audiosamplerate",
    "audiosamplesize",
    "audiochannels",
    "stereo",
];

/// The audio or video track as metadata describe it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// `hasAudio`, `hasVideo`.
    pub present: bool,
    /// `audiocodecid` or `videocodecid`, which replaces the publisher's; `None` leaves it unchanged.
    pub codec_id: Option<u32>,
}

/// The publisher's metadata, as far as they are passed on. The default is for a publisher without metadata.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    properties: Vec<(String, Value)>,
    announces_video: bool,
}

impl Metadata {
    /// Reads the body of an `onMetaData` script tag. Of metadata that cannot be read nothing is passed on, nor of those longer than
    /// 16 KiB.
    pub fn parse(published: &[u8]) -> Metadata {
        let mut properties = properties(published).unwrap_or_default();
        let announces_video = announces_video(&properties);
        properties.retain(|(name, _)| !DROPPED.contains(&name.as_str()));
        if encode(properties.clone()).len() > MAX_METADATA {
            properties.clear();
        }
        Metadata { properties, announces_video }
    }

    /// Returns whether they state that the stream has video.
    pub fn announces_video(&self) -> bool {
        self.announces_video
    }

    /// Returns the body of an `onMetaData` script tag for viewers. `track` is the number of the only track that is passed on.
    pub fn body(&self, audio: Announcement, video: Announcement, track: i64) -> Vec<u8> {
        let mut properties = self.properties.clone();
        properties.retain(|(name, _)| track == 0 || !OF_TRACK_0.contains(&name.as_str()));
        for (name, value) in &mut properties {
            let id = match name.as_str() {
                "audiocodecid" => audio.codec_id,
                "videocodecid" => video.codec_id,
                _ => None,
            };
            if let Some(id) = id {
                *value = Value::Number(id.into());
            }
        }
        properties.extend([
            ("hasAudio".into(), Value::Boolean(audio.present)),
            ("hasVideo".into(), Value::Boolean(video.present)),
            ("server".into(), Value::String(concat!("remuxd/", env!("CARGO_PKG_VERSION")).into())),
        ]);
        encode(properties)
    }
}

fn encode(properties: Vec<(String, Value)>) -> Vec<u8> {
    let mut body = Vec::new();
    amf0::write_str("onMetaData", &mut body);
    amf0::write(&Value::EcmaArray(properties), &mut body);
    body
}

fn announces_video(properties: &[(String, Value)]) -> bool {
    let value = |wanted| properties.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    match (value("hasVideo"), value("videocodecid")) {
        (Some(Value::Boolean(has)), _) => *has,
        // 0 is no codec.
        (_, Some(Value::Number(id))) => *id > 0.0,
        (_, Some(Value::String(name))) => !name.is_empty(),
        _ => false,
    }
}

fn properties(body: &[u8]) -> Option<Vec<(String, Value)>> {
    let values = amf0::read_all(body, &mut Budget::default()).ok()?;
    values.into_iter().find_map(|value| match value {
        Value::Object(properties) | Value::EcmaArray(properties) => Some(properties),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRESENT: Announcement = Announcement { present: true, codec_id: None };
    const ABSENT: Announcement = Announcement { present: false, codec_id: None };

    fn metadata(values: &[Value]) -> Vec<u8> {
        let mut body = Vec::new();
        values.iter().for_each(|value| amf0::write(value, &mut body));
        body
    }

    fn number(name: &str, value: f64) -> (String, Value) {
        (name.into(), Value::Number(value))
    }

    #[test]
    fn drops_the_properties_of_files_and_keeps_others() {
        let published = vec![number("duration", 0.0), number("width", 640.0), number("hasVideo", 1.0)];
        let name = Value::String("onMetaData".into());
        let set = Value::String("@setDataFrame".into());
        for values in [
            vec![name.clone(), Value::EcmaArray(published.clone())],
            vec![name.clone(), Value::Object(published.clone())],
            vec![set, name.clone(), Value::EcmaArray(published)],
        ] {
            let cleaned = Metadata::parse(&metadata(&values)).body(PRESENT, ABSENT, 0);
            let read = amf0::read_all(&cleaned, &mut Budget::default()).unwrap();
            let [name_read, Value::EcmaArray(properties)] = &read[..] else { panic!("{read:?}") };
            assert_eq!(*name_read, name);
            assert_eq!(
                properties[..3],
                [
                    number("width", 640.0),
                    ("hasAudio".into(), Value::Boolean(true)),
                    ("hasVideo".into(), Value::Boolean(false)),
                ]
            );
        }
    }

    #[test]
    fn writes_minimal_metadata_if_the_published_are_absent_malformed_or_too_long() {
        let minimal = Metadata::default().body(ABSENT, PRESENT, 0);
        assert_eq!(Metadata::parse(b"\x03\x00").body(ABSENT, PRESENT, 0), minimal);
        let of = |properties| metadata(&[Value::String("onMetaData".into()), Value::Object(properties)]);
        let size = Metadata::parse(&of(vec![number("width", 640.0)]));
        assert_eq!(size.body(ABSENT, PRESENT, 1), minimal, "of track 0");
        for (name, passed) in [("keyframes", true), ("comment", false)] {
            let index = Value::StrictArray(vec![Value::Number(0.0); 2_000]);
            let long = Metadata::parse(&of(vec![
                number("width", 640.0),
                number("videocodecid", 7.0),
                (name.into(), index),
            ]));
            assert_eq!(long.body(ABSENT, PRESENT, 0) != minimal, passed, "{name}");
            assert!(long.announces_video());
        }
    }
}

//! Commands: the AMF0 values of command messages (RTMP 1.0 §7.1.1, §7.2), and what `connect`, `publish` and `play`
//! ask for (§7.2.1.1, §7.2.2.1, §7.2.2.6; enhanced RTMP v2, "Enhancing NetConnection connect Command").
//!
//! Invariants:
//! - what one command makes is bounded by [`BUDGET`];
//! - `Debug` of everything here leaves out URLs, names and arguments, which hold stream keys and tokens.
//!
//! Tolerated:
//! - commands that end after the name or the transaction id (old Flash encoders send `closeStream` so);
//! - an AMF3 value among the arguments (Flash with objectEncoding 3): it and what follows it is ignored.

use std::fmt;

use bytes::Bytes;
use remuxd_bitstream::amf0::{self, Budget, Value};
use thiserror::Error;

use super::tc_url::StreamName;

/// What one command may hold. The largest in use, `connect`, has some 30 values and a URL or two.
pub const BUDGET: Budget = Budget { depth: 16, items: 1024, bytes: 64 << 10 };

/// The AMF0 marker that announces an AMF3 value (AMF 0, §3.1).
const AVMPLUS_OBJECT: u8 = 0x11;

/// One command: a call, or the answer to one.
#[derive(Clone, PartialEq)]
pub struct Command {
    /// What is called; `_result`, `_error` and `onStatus` answer.
    pub name: String,
    /// Which call an answer belongs to; 0 wants no answer.
    pub transaction: f64,
    /// The command object, [`Value::Null`] for most commands.
    pub object: Value,
    /// What follows the command object.
    pub arguments: Vec<Value>,
}

/// Why a message is not a command. The peer is the culprit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The values cannot be read.
    #[error(transparent)]
    Amf0(#[from] amf0::Error),
    /// The first value is not a name.
    #[error("the command has no name")]
    NoName,
}

impl Command {
    /// A call without command object.
    pub fn call(name: &str, transaction: f64, arguments: Vec<Value>) -> Command {
        Command { name: name.to_owned(), transaction, object: Value::Null, arguments }
    }

    /// The answer `_result`.
    pub fn result(transaction: f64, object: Value, argument: Value) -> Command {
        Command { name: "_result".to_owned(), transaction, object, arguments: vec![argument] }
    }

    /// The answer `_error`.
    pub fn error(transaction: f64, info: Value) -> Command {
        Command { name: "_error".to_owned(), transaction, object: Value::Null, arguments: vec![info] }
    }

    /// Reads the payload of a command message.
    ///
    /// # Errors
    ///
    /// When it has no name, or a value cannot be read within [`BUDGET`].
    pub fn read(mut payload: &[u8]) -> Result<Command, CommandError> {
        let mut budget = BUDGET;
        let mut values = Vec::new();
        while payload.first().is_some_and(|marker| *marker != AVMPLUS_OBJECT) {
            values.push(amf0::read(&mut payload, &mut budget)?);
        }
        let mut values = values.into_iter();
        let Some(Value::String(name)) = values.next() else { return Err(CommandError::NoName) };
        let transaction = values.next().and_then(|value| value.as_number()).unwrap_or(0.0);
        let object = values.next().unwrap_or(Value::Null);
        Ok(Command { name, transaction, object, arguments: values.collect() })
    }

    /// The payload of a command message.
    pub fn to_payload(&self) -> Bytes {
        let mut payload = Vec::with_capacity(256);
        amf0::write_str(&self.name, &mut payload);
        amf0::write(&Value::Number(self.transaction), &mut payload);
        amf0::write(&self.object, &mut payload);
        for argument in &self.arguments {
            amf0::write(argument, &mut payload);
        }
        payload.into()
    }

    /// An argument's text.
    pub fn text(&self, index: usize) -> Option<&str> {
        self.arguments.get(index)?.as_str()
    }

    /// An argument's number.
    pub fn number(&self, index: usize) -> Option<f64> {
        self.arguments.get(index)?.as_number()
    }

    /// An argument's truth; some clients send a number.
    pub fn flag(&self, index: usize) -> Option<bool> {
        let value = self.arguments.get(index)?;
        value.as_boolean().or_else(|| value.as_number().map(|number| number != 0.0))
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("name", &self.name)
            .field("transaction", &self.transaction)
            .finish_non_exhaustive()
    }
}

/// An object of these properties.
pub(super) fn object<const N: usize>(properties: [(&str, Value); N]) -> Value {
    Value::Object(properties.map(|(name, value)| (name.to_owned(), value)).into())
}

/// An information object (§7.2.2): what `onStatus`, `_error` and the answer to `connect` say.
pub(super) fn info(level: &str, code: &str, description: &str) -> Value {
    object([("level", level.into()), ("code", code.into()), ("description", description.into())])
}

/// How strings of `code` in information objects are spelt.
pub(super) mod code {
    pub const CONNECT_SUCCESS: &str = "NetConnection.Connect.Success";
    pub const CONNECT_REJECTED: &str = "NetConnection.Connect.Rejected";
    pub const RECONNECT_REQUEST: &str = "NetConnection.Connect.ReconnectRequest";
    pub const PUBLISH_START: &str = "NetStream.Publish.Start";
    pub const PUBLISH_BAD_NAME: &str = "NetStream.Publish.BadName";
    pub const PUBLISH_DENIED: &str = "NetStream.Publish.Denied";
    pub const PUBLISH_FAILED: &str = "NetStream.Publish.Failed";
    pub const UNPUBLISH_SUCCESS: &str = "NetStream.Unpublish.Success";
    pub const PLAY_RESET: &str = "NetStream.Play.Reset";
    pub const PLAY_START: &str = "NetStream.Play.Start";
    pub const PLAY_COMPLETE: &str = "NetStream.Play.Complete";
    pub const PLAY_STOP: &str = "NetStream.Play.Stop";
    pub const PLAY_FAILED: &str = "NetStream.Play.Failed";
    pub const PLAY_NOT_FOUND: &str = "NetStream.Play.StreamNotFound";
    pub const PLAY_UNPUBLISH_NOTIFY: &str = "NetStream.Play.UnpublishNotify";
    pub const PAUSE_NOTIFY: &str = "NetStream.Pause.Notify";
    pub const UNPAUSE_NOTIFY: &str = "NetStream.Unpause.Notify";
}

/// Bits of `capsEx` (enhanced RTMP v2, `CapsExMask`).
pub mod caps_ex {
    /// Understands a reconnect request.
    pub const RECONNECT: u32 = 0x01;
    /// Understands multitrack audio and video.
    pub const MULTITRACK: u32 = 0x02;
    /// Understands ModEx packets.
    pub const MOD_EX: u32 = 0x04;
    /// Understands nanosecond timestamp offsets.
    pub const TIMESTAMP_NANO: u32 = 0x08;
}

/// The bit of a FourCC information map that says "can forward" (enhanced RTMP v2, `FourCcInfoMask`).
pub(super) const CAN_FORWARD: u32 = 0x04;
/// The FourCC that stands for all.
pub(super) const ANY_FOURCC: &str = "*";

/// What `connect` says.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConnectRequest {
    /// `app`: the application, as sent.
    pub app: String,
    /// `tcUrl`: the URL of the server, as sent; empty when missing.
    pub tc_url: String,
    /// `pageUrl`: the page that the player stands on.
    pub page_url: String,
    /// `swfUrl`: the player.
    pub swf_url: String,
    /// `flashVer`: the client's name and version.
    pub flash_ver: String,
    /// `objectEncoding`: 3 when the client knows AMF3, else 0.
    pub object_encoding: u8,
    /// `fourCcList`: codecs the client knows, `*` for all.
    pub four_cc_list: Vec<String>,
    /// `videoFourCcInfoMap`: what the client does with each video codec (1 decode, 2 encode, 4 forward).
    pub video_four_cc_info_map: Vec<(String, u32)>,
    /// `audioFourCcInfoMap`: the same for audio.
    pub audio_four_cc_info_map: Vec<(String, u32)>,
    /// `capsEx`: bits of [`caps_ex`].
    pub caps_ex: u32,
}

impl ConnectRequest {
    /// Reads the command object of `connect`. What is missing or of another type is empty.
    pub(super) fn read(object: &Value) -> ConnectRequest {
        let text = |name| object.property(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |name| object.property(name).and_then(Value::as_number).unwrap_or_default();
        let map = |name| object.property(name).map(read_info_map).unwrap_or_default();
        ConnectRequest {
            app: text("app"),
            tc_url: text("tcUrl"),
            page_url: text("pageUrl"),
            swf_url: text("swfUrl"),
            flash_ver: text("flashVer"),
            object_encoding: if number("objectEncoding") == 3.0 { 3 } else { 0 },
            four_cc_list: object.property("fourCcList").map(read_list).unwrap_or_default(),
            video_four_cc_info_map: map("videoFourCcInfoMap"),
            audio_four_cc_info_map: map("audioFourCcInfoMap"),
            caps_ex: number("capsEx") as u32,
        }
    }

    /// The command object of `connect`.
    pub(super) fn to_object(&self) -> Value {
        let mut properties = vec![
            ("app".to_owned(), self.app.as_str().into()),
            ("type".to_owned(), "nonprivate".into()),
            ("flashVer".to_owned(), self.flash_ver.as_str().into()),
            ("tcUrl".to_owned(), self.tc_url.as_str().into()),
        ];
        for (name, value) in [("pageUrl", &self.page_url), ("swfUrl", &self.swf_url)] {
            if !value.is_empty() {
                properties.push((name.to_owned(), value.as_str().into()));
            }
        }
        properties.push(("objectEncoding".to_owned(), f64::from(self.object_encoding).into()));
        properties.extend(self.enhanced_properties());
        Value::Object(properties)
    }

    /// The properties that enhanced RTMP adds, of `connect` and of its answer alike.
    pub(super) fn enhanced_properties(&self) -> Vec<(String, Value)> {
        let mut properties = Vec::new();
        if !self.four_cc_list.is_empty() {
            let list = self.four_cc_list.iter().map(|code| code.as_str().into()).collect();
            properties.push(("fourCcList".to_owned(), Value::StrictArray(list)));
        }
        let maps = [
            ("videoFourCcInfoMap", &self.video_four_cc_info_map),
            ("audioFourCcInfoMap", &self.audio_four_cc_info_map),
        ];
        for (name, map) in maps {
            if !map.is_empty() {
                let map = map.iter().map(|(code, mask)| (code.clone(), f64::from(*mask).into())).collect();
                properties.push((name.to_owned(), Value::Object(map)));
            }
        }
        if self.caps_ex != 0 {
            properties.push(("capsEx".to_owned(), f64::from(self.caps_ex).into()));
        }
        properties
    }
}

/// Leaves out the URLs and the app: a client may put its stream key into either.
impl fmt::Debug for ConnectRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectRequest")
            .field("flash_ver", &self.flash_ver)
            .field("object_encoding", &self.object_encoding)
            .field("four_cc_list", &self.four_cc_list)
            .field("video_four_cc_info_map", &self.video_four_cc_info_map)
            .field("audio_four_cc_info_map", &self.audio_four_cc_info_map)
            .field("caps_ex", &self.caps_ex)
            .finish_non_exhaustive()
    }
}

/// A strict array of strings; librtmp can only send an object or ECMA array of them.
fn read_list(value: &Value) -> Vec<String> {
    let texts: Vec<&Value> = match value {
        Value::StrictArray(values) => values.iter().collect(),
        other => other.properties().unwrap_or_default().iter().map(|(_, value)| value).collect(),
    };
    texts.into_iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn read_info_map(value: &Value) -> Vec<(String, u32)> {
    let properties = value.properties().unwrap_or_default();
    properties.iter().filter_map(|(code, mask)| Some((code.clone(), mask.as_number()? as u32))).collect()
}

/// What `publish` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishRequest {
    /// The stream.
    pub name: StreamName,
    /// Live, or to be kept.
    pub publish_type: PublishType,
    /// Which order of commands led here.
    pub kind: PublishKind,
}

/// The publishing type (§7.2.2.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PublishType {
    /// `live`, and what is not known.
    #[default]
    Live,
    /// `record`.
    Record,
    /// `append`.
    Append,
}

impl PublishType {
    pub(super) fn read(text: Option<&str>) -> PublishType {
        match text {
            Some("record") => PublishType::Record,
            Some("append") => PublishType::Append,
            _ => PublishType::Live,
        }
    }
}

/// How a client introduces a publish. It says nothing on the media, but names the family of encoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishKind {
    /// `FCPublish` before `createStream`: FMLE, ffmpeg, OBS, librtmp, GStreamer.
    Fmle,
    /// No `FCPublish`: Flash.
    Flash,
    /// `FCPublish` after `createStream`: Haivision.
    Haivision,
}

/// What `play` asks for (§7.2.2.1).
#[derive(Clone, Debug, PartialEq)]
pub struct PlayRequest {
    /// The stream.
    pub name: StreamName,
    /// Where to start, in seconds; -1 live only, -2 live or recorded.
    pub start: f64,
    /// How long to play, in seconds; -1 to the end.
    pub duration: f64,
    /// Whether the playlist starts anew.
    pub reset: bool,
}

impl PlayRequest {
    pub(super) fn read(name: StreamName, command: &Command) -> PlayRequest {
        PlayRequest {
            name,
            start: command.number(1).unwrap_or(-2.0),
            duration: command.number(2).unwrap_or(-1.0),
            reset: command.flag(3).unwrap_or(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let commands = [
            Command::call("releaseStream", 2.0, vec!["key".into()]),
            Command::result(3.0, Value::Null, 1.0.into()),
            Command::error(1.0, info("error", code::CONNECT_REJECTED, "no")),
            Command { object: object([("app", "live".into())]), ..Command::call("connect", 1.0, vec![]) },
        ];
        for command in commands {
            assert!(Command::read(&command.to_payload()).unwrap() == command, "{command:?}");
        }
    }

    #[test]
    fn reads_short_commands() {
        let mut payload = Vec::new();
        amf0::write_str("closeStream", &mut payload);
        let command = Command::read(&payload).unwrap();
        assert!(command == Command::call("closeStream", 0.0, vec![]));
    }

    #[test]
    fn ignores_amf3_arguments() {
        let mut payload = Command::call("play", 0.0, vec!["key".into()]).to_payload().to_vec();
        payload.extend([AVMPLUS_OBJECT, 0x0a, 0x0b, 0x01]);
        assert_eq!(Command::read(&payload).unwrap().arguments, [Value::from("key")]);
    }

    #[test]
    fn refuses_what_is_no_command() {
        assert_eq!(Command::read(&[]), Err(CommandError::NoName));
        assert_eq!(Command::read(&[5]), Err(CommandError::NoName));
        // A strict array that announces 2^32 - 1 values.
        let giant = [0x0a, 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(Command::read(&giant), Err(CommandError::Amf0(_))));
    }

    #[test]
    fn refuses_200_000_nested_objects() {
        let mut payload = Vec::new();
        amf0::write_str("connect", &mut payload);
        amf0::write(&Value::Number(1.0), &mut payload);
        for _ in 0..200_000 {
            payload.extend([3, 0, 1, b'a']);
        }
        let refused = Command::read(&payload);
        assert!(matches!(refused, Err(CommandError::Amf0(amf0::Error::Depth { .. }))), "{refused:?}");
    }

    #[test]
    fn reads_back_connect() {
        let request = ConnectRequest {
            app: "live".into(),
            tc_url: "rtmp://ip/live".into(),
            page_url: "http://page".into(),
            swf_url: "http://player".into(),
            flash_ver: "FMLE/3.0".into(),
            object_encoding: 3,
            four_cc_list: vec!["av01".into(), "hvc1".into()],
            video_four_cc_info_map: vec![("*".into(), 4), ("vp09".into(), 7)],
            audio_four_cc_info_map: vec![("Opus".into(), 3)],
            caps_ex: caps_ex::RECONNECT | caps_ex::MULTITRACK,
        };
        assert_eq!(ConnectRequest::read(&request.to_object()), request);
        assert_eq!(ConnectRequest::read(&Value::Null), ConnectRequest::default());
    }

    #[test]
    fn keeps_secrets_out_of_debug() {
        let command = Command::call("publish", 5.0, vec!["hush".into()]);
        let request =
            ConnectRequest { app: "live/hush".into(), tc_url: "rtmp://ip/hush".into(), ..<_>::default() };
        let shown = format!("{command:?} {request:?}");
        assert!(!shown.contains("hush"), "{shown}");
    }
}

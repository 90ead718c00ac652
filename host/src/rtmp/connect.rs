//! The `connect` request (RTMP 1.0, 7.2.1.1; enhanced RTMP v2, "Enhancing NetConnection connect Command").

use std::fmt;

use remuxd_bitstream::amf0::Value;

/// The command object of `connect`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConnectRequest {
    /// `app`: the application, as sent.
    pub app: String,
    /// `tcUrl`: the URL of the server, as sent; empty when missing.
    pub tc_url: String,
    /// `pageUrl`: the web page that embeds the player.
    pub page_url: String,
    /// `swfUrl`: the URL of the Flash player.
    pub swf_url: String,
    /// `flashVer`: the client's name and version.
    pub flash_ver: String,
    /// `objectEncoding`: 3 if the client reads AMF3, else 0.
    pub object_encoding: u8,
    /// `fourCcList`: codecs that the client supports; `*` means all.
    pub four_cc_list: Vec<String>,
    /// `videoFourCcInfoMap`: capabilities for each video codec (1 decode, 2 encode, 4 forward).
    pub video_four_cc_info_map: Vec<(String, u32)>,
    /// `audioFourCcInfoMap`: the same for audio.
    pub audio_four_cc_info_map: Vec<(String, u32)>,
    /// `capsEx`: bits of [`caps_ex`].
    pub caps_ex: u32,
    /// `remuxdHops`: the nodes that the stream has passed; empty from others.
    pub hops: String,
}

impl ConnectRequest {
    /// The capabilities of both our ends: forwards every codec, and passes multitrack and ModEx on.
    pub(super) fn enhanced() -> ConnectRequest {
        let forward_any = || vec![(ANY_FOURCC.to_owned(), CAN_FORWARD)];
        ConnectRequest {
            four_cc_list: vec![ANY_FOURCC.to_owned()],
            video_four_cc_info_map: forward_any(),
            audio_four_cc_info_map: forward_any(),
            caps_ex: caps_ex::RECONNECT | caps_ex::MULTITRACK | caps_ex::MOD_EX,
            ..ConnectRequest::default()
        }
    }

    /// Parses the command object. A property that is missing or of another type is left empty.
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
            hops: text(HOPS),
        }
    }

    /// Returns the command object. A client of ours has neither page nor SWF player, so those are not written.
    pub(super) fn to_object(&self) -> Value {
        let mut properties = vec![
            ("app".to_owned(), self.app.as_str().into()),
            ("type".to_owned(), "nonprivate".into()),
            ("flashVer".to_owned(), self.flash_ver.as_str().into()),
            ("tcUrl".to_owned(), self.tc_url.as_str().into()),
        ];
        properties.push(("objectEncoding".to_owned(), f64::from(self.object_encoding).into()));
        if !self.hops.is_empty() {
            properties.push((HOPS.to_owned(), self.hops.as_str().into()));
        }
        properties.extend(self.enhanced_properties());
        Value::Object(properties)
    }

    /// Returns the properties that enhanced RTMP adds to `connect` and to its response.
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

/// Leaves out the URLs and the app, which may hold a stream key.
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

/// Reads strings from a strict array, or from an object or ECMA array, the only forms that librtmp can send.
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

/// Bits of `capsEx` (enhanced RTMP v2, `CapsExMask`).
pub mod caps_ex {
    /// The peer handles a reconnect request.
    pub const RECONNECT: u32 = 0x01;
    /// The peer reads multitrack audio and video.
    pub const MULTITRACK: u32 = 0x02;
    /// The peer reads ModEx packets.
    pub const MOD_EX: u32 = 0x04;
}

/// The "can forward" bit of a FourCC information map (enhanced RTMP v2, `FourCcInfoMask`).
const CAN_FORWARD: u32 = 0x04;
/// The property with the hop list.
const HOPS: &str = "remuxdHops";
/// The FourCC wildcard.
const ANY_FOURCC: &str = "*";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_connect() {
        let request = ConnectRequest {
            app: "live".into(),
            tc_url: "rtmp://ip/live".into(),
            flash_ver: "FMLE/3.0".into(),
            object_encoding: 3,
            four_cc_list: vec!["av01".into(), "hvc1".into()],
            video_four_cc_info_map: vec![("*".into(), 4), ("vp09".into(), 7)],
            audio_four_cc_info_map: vec![("Opus".into(), 3)],
            caps_ex: caps_ex::RECONNECT | caps_ex::MULTITRACK,
            hops: "a/x,b/y".into(),
            ..ConnectRequest::default()
        };
        assert_eq!(ConnectRequest::read(&request.to_object()), request);
        assert_eq!(ConnectRequest::read(&Value::Null), ConnectRequest::default());
    }

    #[test]
    fn keeps_secrets_out_of_debug() {
        let request =
            ConnectRequest { app: "live/hush".into(), tc_url: "rtmp://ip/hush".into(), ..<_>::default() };
        let shown = format!("{request:?}");
        assert!(!shown.contains("hush"), "{shown}");
    }
}

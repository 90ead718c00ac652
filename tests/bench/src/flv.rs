//! FLV file syntax: Adobe FLV specification 10.1, annex E.2 to E.4.1, and the AMF0 that onMetaData and RTMP commands
//! need.

/// TagType of audio.
pub const AUDIO: u8 = 8;

/// TagType of video.
pub const VIDEO: u8 = 9;

/// TagType of script data.
pub const SCRIPT: u8 = 18;

/// Bytes that the file adds to a tag's body: tag header and PreviousTagSize.
pub const OVERHEAD: usize = 15;

/// The file header for audio and video, with PreviousTagSize0.
pub const HEADER: [u8; 13] = [b'F', b'L', b'V', 1, 5, 0, 0, 0, 9, 0, 0, 0, 0];

/// Appends a tag and its PreviousTagSize.
pub fn write_tag(out: &mut Vec<u8>, kind: u8, timestamp: u32, body: &[u8]) {
    out.push(kind);
    out.extend(&(body.len() as u32).to_be_bytes()[1..]);
    out.extend(&timestamp.to_be_bytes()[1..]);
    out.extend([(timestamp >> 24) as u8, 0, 0, 0]);
    out.extend(body);
    out.extend((body.len() as u32 + 11).to_be_bytes());
}

/// An AMF0 value.
pub enum Amf0<'a> {
    /// Number.
    Number(f64),
    /// String, of at most 65,535 bytes.
    String(&'a str),
    /// Null.
    Null,
    /// Object of numbers and strings.
    Object(&'a [(&'a str, Amf0<'a>)]),
    /// ECMA array of numbers.
    Array(&'a [(&'a str, f64)]),
}

impl Amf0<'_> {
    /// Appends the value with its marker.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(value) => {
                out.push(0);
                out.extend(value.to_be_bytes());
            }
            Self::String(value) => {
                out.push(2);
                write_key(out, value);
            }
            Self::Null => out.push(5),
            Self::Object(properties) => {
                out.push(3);
                for (key, value) in *properties {
                    write_key(out, key);
                    value.write(out);
                }
                out.extend([0, 0, 9]);
            }
            Self::Array(elements) => {
                out.push(8);
                out.extend((elements.len() as u32).to_be_bytes());
                for (key, value) in *elements {
                    write_key(out, key);
                    Self::Number(*value).write(out);
                }
                out.extend([0, 0, 9]);
            }
        }
    }
}

fn write_key(out: &mut Vec<u8>, key: &str) {
    out.extend((key.len() as u16).to_be_bytes());
    out.extend(key.as_bytes());
}

/// The body of an onMetaData script tag.
pub fn metadata(properties: &[(&str, f64)]) -> Vec<u8> {
    let mut body = Vec::new();
    Amf0::String("onMetaData").write(&mut body);
    Amf0::Array(properties).write(&mut body);
    body
}

//! Description: everything that a module declares about its format, checked and in the host's own memory.
//!
//! A description is bounded and contains no control characters, so that it is fit for a terminal and a log. It crosses
//! the pipe from a child process by [`encode`](Description::encode) and [`decode`](Description::decode), which check
//! it again: a new field needs no change in `process`.

use abi_stable::std_types::{RString, RVec};
use remuxd_plugin_api::abi::{
    OPTION_CHOICE, OPTION_FLAG, OPTION_INTEGER, OPTION_SELECTS_TRACK, OPTION_TEXT, RawInfo, RawOption,
};
use remuxd_plugin_api::{Codec, Transport};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::options::{OptionKind, OptionSpec};
use super::text::{is_hidden, one_line};

/// Longest name, extension, version, or word of a choice, in bytes.
const MAX_WORD: usize = 64;
/// Longest content type or default, in bytes.
const MAX_VALUE: usize = 1024;
/// Largest number of entries in a list.
const MAX_LIST: usize = 64;

/// A module's description of its format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The module's name.
    pub name: String,
    /// The module's version.
    pub version: String,
    /// The mount extensions that it answers, without the dot.
    pub extensions: Vec<String>,
    /// The transports over which it answers them, the primary one first.
    #[serde(with = "codes")]
    pub transports: Vec<Transport>,
    /// The `Content-Type` of a response.
    pub content_type: String,
    /// The video codecs that it can carry.
    #[serde(with = "codes")]
    pub video_codecs: Vec<Codec>,
    /// The audio codecs that it can carry.
    #[serde(with = "codes")]
    pub audio_codecs: Vec<Codec>,
    /// The options that a mount may set.
    pub options: Vec<OptionSpec>,
}

/// A field of a module's description that breaks the rules.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field} is {value:?}")]
pub struct DescriptionError {
    /// The field of `FormatInfo` or, after the option's name, of `OptionSpec`.
    pub field: String,
    /// The value, cut to 64 characters.
    pub value: String,
}

impl Description {
    /// Whether the format carries audio and never video.
    pub fn is_audio_only(&self) -> bool {
        self.video_codecs.is_empty() && !self.audio_codecs.is_empty()
    }

    /// Whether the module answers `extension`, without the dot, over `transport`.
    pub fn answers(&self, extension: &str, transport: Transport) -> bool {
        self.transports.contains(&transport) && self.extensions.iter().any(|own| own == extension)
    }

    /// Copies and checks what a module declares.
    ///
    /// # Errors
    /// The first field that breaks the rules.
    pub fn read(raw: &RawInfo) -> Result<Description, DescriptionError> {
        let codecs = |codecs: &RVec<u32>| codecs.iter().map(|&code| Codec(code)).collect();
        // Before the lists are copied.
        check_count("extensions", raw.extensions.len())?;
        check_count("video_codecs", raw.video_codecs.len())?;
        check_count("audio_codecs", raw.audio_codecs.len())?;
        check_count("options", raw.options.len())?;
        let description = Description {
            name: raw.name.to_string(),
            version: raw.version.to_string(),
            extensions: strings(&raw.extensions),
            transports: known_transports(raw),
            content_type: raw.content_type.to_string(),
            video_codecs: codecs(&raw.video_codecs),
            audio_codecs: codecs(&raw.audio_codecs),
            options: raw.options.iter().map(read_option).collect::<Result<_, _>>()?,
        };
        description.checked()
    }

    /// Writes the description for another process of the same program.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("a description in memory can be written")
    }

    /// Reads and checks a description that [`encode`](Self::encode) wrote, as a hostile process would forge it. Allocates
    /// no more than a small multiple of the length of `bytes`, which the caller bounds.
    ///
    /// # Errors
    /// The first field that breaks the rules.
    pub fn decode(bytes: &[u8]) -> Result<Description, DescriptionError> {
        match postcard::take_from_bytes::<Description>(bytes) {
            Ok((description, [])) => description.checked(),
            _ => Err(DescriptionError { field: "description".into(), value: "malformed".into() }),
        }
    }

    /// Checks a description that another process sent.
    ///
    /// # Errors
    /// The first field that breaks the rules.
    pub fn checked(mut self) -> Result<Description, DescriptionError> {
        check("name", &self.name, is_name(&self.name))?;
        check("version", &self.version, is_plain(&self.version, MAX_WORD))?;
        check("extensions", "empty", !self.extensions.is_empty())?;
        check_count("extensions", self.extensions.len())?;
        for extension in &self.extensions {
            check("extensions", extension, is_name(extension))?;
        }
        check("transport", "empty", !self.transports.is_empty())?;
        for (index, transport) in self.transports.iter().enumerate() {
            let new = !self.transports[..index].contains(transport);
            check("transport", &transport.0.to_string(), is_known(*transport) && new)?;
        }
        let visible = is_plain(&self.content_type, MAX_VALUE) && self.content_type.is_ascii();
        check("content_type", &self.content_type, visible && self.content_type.contains('/'))?;
        check_count("video_codecs", self.video_codecs.len())?;
        check_count("audio_codecs", self.audio_codecs.len())?;
        check_count("options", self.options.len())?;
        self.options.iter_mut().try_for_each(check_option)?;
        Ok(self)
    }
}

/// The transports that a module names. Further ones that this host does not know are ignored, as the interface says.
fn known_transports(raw: &RawInfo) -> Vec<Transport> {
    let mut transports: Vec<_> = raw.transports().collect();
    transports.retain(|&transport| transport.0 == raw.transport || is_known(transport));
    transports
}

fn is_known(transport: Transport) -> bool {
    matches!(transport, Transport::HTTP | Transport::WEBSOCKET)
}

fn read_option(raw: &RawOption) -> Result<OptionSpec, DescriptionError> {
    let name = raw.name.to_string();
    let kind = match raw.kind {
        OPTION_FLAG => OptionKind::Flag,
        OPTION_INTEGER if raw.reserved_u8[0] & OPTION_SELECTS_TRACK != 0 => OptionKind::Track,
        OPTION_INTEGER => OptionKind::Integer { min: raw.min, max: raw.max },
        OPTION_CHOICE => {
            check_count(&format!("{name}: choices"), raw.choices.len())?;
            OptionKind::Choice(strings(&raw.choices))
        }
        OPTION_TEXT => OptionKind::Text,
        other => {
            return Err(DescriptionError { field: format!("{name}: kind"), value: other.to_string() });
        }
    };
    let (default, doc) = (raw.default.to_string(), raw.doc.to_string());
    Ok(OptionSpec { name, kind, default, doc, variant: raw.variant != 0 })
}

/// Checks an option and makes its documentation one line.
fn check_option(option: &mut OptionSpec) -> Result<(), DescriptionError> {
    let OptionSpec { name, kind, default, doc, .. } = option;
    let is_key = is_plain(name, MAX_WORD)
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    check("option name", name, is_key)?;
    if let OptionKind::Choice(words) = kind {
        let field = format!("{name}: choices");
        check_count(&field, words.len())?;
        words.iter().try_for_each(|word| check(&field, word, is_plain(word, MAX_WORD)))?;
    }
    let fit = default.is_empty() || is_plain(default, MAX_VALUE);
    check(&format!("{name}: default"), default, fit && kind.accepts(default))?;
    *doc = one_line(doc);
    Ok(())
}

/// The transport's name for people.
pub fn transport_name(transport: Transport) -> &'static str {
    if transport == Transport::WEBSOCKET { "WebSocket" } else { "HTTP" }
}

fn strings(words: &RVec<RString>) -> Vec<String> {
    words.iter().map(RString::to_string).collect()
}

/// The rule for names of modules and extensions; it also keeps a name from leading out of a directory.
pub fn is_name(text: &str) -> bool {
    is_plain(text, MAX_WORD)
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Whether the text has 1 to `max` bytes and no hidden character.
fn is_plain(text: &str, max: usize) -> bool {
    !text.is_empty() && text.len() <= max && !text.chars().any(is_hidden)
}

fn check(field: &str, value: &str, holds: bool) -> Result<(), DescriptionError> {
    // `Display` escapes hidden characters.
    let shown = || value.chars().take(MAX_WORD).collect();
    if holds { Ok(()) } else { Err(DescriptionError { field: one_line(field), value: shown() }) }
}

fn check_count(field: &str, count: usize) -> Result<(), DescriptionError> {
    check(field, &format!("a list of {count}, {MAX_LIST} at most"), count <= MAX_LIST)
}

/// Lists of the plugin API's open sets, as lists of their codes.
mod codes {
    use remuxd_plugin_api::{Codec, Transport};
    use serde::{Deserialize, Deserializer, Serializer};

    /// An open set of the plugin API.
    pub trait Code: Copy {
        fn code(self) -> u32;
        fn of(code: u32) -> Option<Self>;
    }

    impl Code for Codec {
        fn code(self) -> u32 {
            self.0
        }

        fn of(code: u32) -> Option<Codec> {
            Some(Codec(code))
        }
    }

    impl Code for Transport {
        fn code(self) -> u32 {
            self.0.into()
        }

        fn of(code: u32) -> Option<Transport> {
            code.try_into().ok().map(Transport)
        }
    }

    pub fn serialize<T: Code, S: Serializer>(list: &[T], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|value| value.code()))
    }

    pub fn deserialize<'de, T: Code, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
        let codes = Vec::<u32>::deserialize(from)?;
        let list = codes.into_iter().map(T::of).collect::<Option<_>>();
        list.ok_or_else(|| serde::de::Error::custom("a code out of range"))
    }
}

#[cfg(test)]
mod tests {
    use remuxd_plugin_api::{FormatInfo, OptionKind, OptionSpec};

    use super::*;

    const INFO: FormatInfo = FormatInfo {
        name: "null-2",
        version: "1.0.0",
        extensions: &["null"],
        transport: Transport::HTTP,
        content_type: "application/octet-stream",
        video_codecs: &[Codec::H264],
        audio_codecs: &[],
        options: &[],
    };

    fn read(info: FormatInfo) -> Result<Description, String> {
        Description::read(&info.into()).map_err(|error| error.to_string())
    }

    #[test]
    fn refuses_a_description_that_breaks_the_rules() {
        assert!(read(INFO).is_ok());
        let option =
            OptionSpec { name: "o", kind: OptionKind::Flag, default: "true", doc: "", variant: false };
        let number = OptionKind::Integer { min: 1, max: 5 };
        let options = |option: OptionSpec| FormatInfo { options: Box::leak(Box::new([option])), ..INFO };
        let long = |field: &str| format!("{field} is {:?}", "a".repeat(64));
        let cases = [
            (FormatInfo { name: "", ..INFO }, r#"name is """#),
            (FormatInfo { name: "Flv", ..INFO }, r#"name is "Flv""#),
            (FormatInfo { name: "a/b", ..INFO }, r#"name is "a/b""#),
            (FormatInfo { version: "", ..INFO }, r#"version is """#),
            (FormatInfo { version: "1\u{1b}[31m", ..INFO }, r#"version is "1\u{1b}[31m""#),
            (FormatInfo { version: "1\u{202e}2", ..INFO }, r#"version is "1\u{202e}2""#),
            (FormatInfo { name: leaked("a", 65), ..INFO }, &long("name")),
            (FormatInfo { version: leaked("a", 1 << 20), ..INFO }, &long("version")),
            (
                FormatInfo { extensions: vec!["a"; 65].leak(), ..INFO },
                r#"extensions is "a list of 65, 64 at most""#,
            ),
            (
                FormatInfo { video_codecs: vec![Codec::H264; 65].leak(), ..INFO },
                r#"video_codecs is "a list of 65, 64 at most""#,
            ),
            (FormatInfo { extensions: &[], ..INFO }, r#"extensions is "empty""#),
            (FormatInfo { extensions: &["a", ".b"], ..INFO }, r#"extensions is ".b""#),
            (FormatInfo { transport: Transport(9), ..INFO }, r#"transport is "9""#),
            (FormatInfo { content_type: "a/b\r\nx: y", ..INFO }, r#"content_type is "a/b\r\nx: y""#),
            (FormatInfo { content_type: "", ..INFO }, r#"content_type is """#),
            (options(OptionSpec { name: "a b", ..option }), r#"option name is "a b""#),
            (options(OptionSpec { default: "yes", ..option }), r#"o: default is "yes""#),
            (
                options(OptionSpec { kind: OptionKind::Text, default: "a\u{7}", ..option }),
                r#"o: default is "a\u{7}""#,
            ),
            (
                options(OptionSpec { kind: OptionKind::Choice(&["true", "x\n"]), ..option }),
                r#"o: choices is "x\n""#,
            ),
            (options(OptionSpec { kind: number, default: "6", ..option }), r#"o: default is "6""#),
            (options(OptionSpec { kind: OptionKind::Choice(&["x"]), ..option }), r#"o: default is "true""#),
        ];
        for (info, line) in cases {
            assert_eq!(read(info).err().as_deref(), Some(line));
        }
        let doc = options(OptionSpec { doc: leaked("a\u{1b}[2J\n\u{202e}b ", 10_000), ..option });
        let doc = &read(doc).unwrap().options[0].doc;
        assert!(doc.starts_with("a [2J b a [2J b") && doc.len() < 3000, "{doc}");
    }

    fn leaked(text: &str, times: usize) -> &'static str {
        text.repeat(times).leak()
    }

    #[test]
    fn reads_further_transports_that_the_host_knows() {
        let transports = |transport: Transport, further: u8| {
            let mut raw = RawInfo::from(FormatInfo { transport, ..INFO });
            raw.reserved_u8[0] = further;
            Description::read(&raw).unwrap().transports
        };
        assert_eq!(transports(Transport::HTTP, 0), [Transport::HTTP]);
        assert_eq!(transports(Transport::HTTP, 0b0000_0011), [Transport::HTTP, Transport::WEBSOCKET]);
        assert_eq!(transports(Transport::WEBSOCKET, 0b1000_0101), [Transport::WEBSOCKET, Transport::HTTP]);
    }

    /// A description with one of everything.
    fn example() -> Description {
        let choice = OptionKind::Choice(&["x", "y"]);
        let option = OptionSpec { name: "option", kind: choice, default: "x", doc: "doc", variant: true };
        let bounds = OptionKind::Integer { min: -1, max: 1 };
        let number = OptionSpec { name: "number", kind: bounds, default: "0", ..option };
        let options = Box::leak(Box::new([option, number]));
        Description::read(&FormatInfo { options, audio_codecs: &[Codec::AAC, Codec(7)], ..INFO }.into())
            .unwrap()
    }

    #[test]
    fn crosses_a_pipe_or_is_refused_at_every_length() {
        let whole = example().encode();
        assert_eq!(Description::decode(&whole), Ok(example()));
        for len in 0..whole.len() {
            assert!(Description::decode(&whole[..len]).is_err(), "{len} bytes");
        }
        assert!(Description::decode(&[&whole[..], &[0]].concat()).is_err(), "a byte more");
    }

    #[test]
    fn is_checked_again_behind_a_pipe() {
        let forged = |change: fn(&mut Description)| {
            let mut description = example();
            change(&mut description);
            Description::decode(&description.encode()).map_err(|error| error.to_string())
        };
        assert_eq!(forged(|d| d.name = "../x".into()), Err(r#"name is "../x""#.into()));
        assert_eq!(forged(|d| d.transports.clear()), Err(r#"transport is "empty""#.into()));
        assert_eq!(forged(|d| d.transports.push(Transport::HTTP)), Err(r#"transport is "0""#.into()));
        let long = forged(|d| d.extensions = vec!["a".into(); 65]);
        assert_eq!(long, Err(r#"extensions is "a list of 65, 64 at most""#.into()));
        assert_eq!(forged(|d| d.options[0].default = "z".into()), Err(r#"option: default is "z""#.into()));
        assert_eq!(forged(|d| d.options[0].doc = "a\n\u{7}b".into()).unwrap().options[0].doc, "a b");
    }
}

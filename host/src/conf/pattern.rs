//! Mount patterns: `[vhost]/tv/[app]/[stream].EXTENSION`.
//!
//! A pattern that starts with `/` answers every host name; one that starts with `[vhost]` or the vhost's own name
//! answers that name only. (For the default vhost, `[vhost]` means every name that no other vhost has; the router
//! implements this.) Segments follow, each a variable or literal characters; the last has the extension that names the
//! format. `[app]` and `[stream]` occur once each, alone in their segments, so that a path matches in one way only.

use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The name of the vhost that answers when no other matches.
pub const DEFAULT_VHOST: &str = "__defaultVhost__";

/// A parsed mount pattern: `[vhost]/tv/[app]/[stream].flv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPattern {
    /// As written.
    pub text: String,
    /// Whether only requests for the vhost's own name match (the pattern starts with `[vhost]` or a host name).
    pub vhost_only: bool,
    /// The path's segments up to the last, without the leading slash.
    pub dirs: Vec<Segment>,
    /// The last segment, without the extension.
    pub file: Segment,
    /// The extension, without the dot; empty when there is none.
    pub extension: String,
}

/// One segment of a mount pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// These characters.
    Literal(String),
    /// `[app]`.
    App,
    /// `[stream]`.
    Stream,
}

/// Why a mount pattern is refused. Culprit: operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// It starts with a host name that is not the vhost's.
    #[error("`{host}` is not this vhost's name")]
    ForeignHost {
        /// The name in the pattern.
        host: String,
    },
    /// A segment is empty, `.` or `..`.
    #[error("a segment must not be empty, `.` or `..`")]
    BadSegment,
    /// A character that is not allowed in a path.
    #[error("`{character}` is not allowed in a path")]
    BadCharacter {
        /// The character.
        character: char,
    },
    /// Brackets around a name that is not a variable.
    #[error("there is no variable `{name}`")]
    UnknownVariable {
        /// The name, with its brackets.
        name: String,
    },
    /// A variable shares its segment with other characters, or `[vhost]` is not at the start.
    #[error("`{name}` is not allowed here")]
    Misplaced {
        /// The variable, with its brackets.
        name: &'static str,
    },
    /// A variable occurs twice.
    #[error("`{name}` occurs twice")]
    Repeated {
        /// The variable, with its brackets.
        name: &'static str,
    },
    /// The pattern lacks `[app]` or `[stream]`.
    #[error("`{name}` is missing")]
    Missing {
        /// The variable, with its brackets.
        name: &'static str,
    },
    /// The last segment has no extension.
    #[error("the extension is missing")]
    NoExtension,
}

impl PatternError {
    /// Returns advice on what to write instead.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            PatternError::ForeignHost { .. } => {
                Some("start with `[vhost]/` to answer this vhost's name only, or with `/` to answer any")
            }
            PatternError::UnknownVariable { .. } => Some("variables are `[vhost]`, `[app]` and `[stream]`"),
            PatternError::Misplaced { name: VHOST } => {
                Some("`[vhost]` belongs at the start, before the first `/`")
            }
            PatternError::Misplaced { .. } => {
                Some("a variable takes a whole segment: `/tv/[app]/[stream].EXTENSION`")
            }
            PatternError::Missing { .. } => Some("a path must name both the app and the stream"),
            PatternError::NoExtension => Some("the extension names the format: `[stream].EXTENSION`"),
            _ => None,
        }
    }
}

/// The stream that a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match<'a> {
    /// The app.
    pub app: &'a str,
    /// The stream key.
    pub stream: &'a str,
}

const VHOST: &str = "[vhost]";
const APP: &str = "[app]";
const STREAM: &str = "[stream]";

/// Characters that are encoded in a printed path: all but those of RFC 3986 `pchar` that shells and players accept.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'@')
    .remove(b':')
    .remove(b'+');

impl MountPattern {
    /// Parses a pattern of `vhost`.
    ///
    /// # Errors
    /// The leftmost error.
    pub fn parse(text: &str, vhost: &str) -> Result<MountPattern, PatternError> {
        let (host, path) = text.split_once('/').ok_or(PatternError::Missing { name: APP })?;
        if !["", VHOST].contains(&host) && !host.eq_ignore_ascii_case(vhost) {
            return Err(PatternError::ForeignHost { host: host.to_owned() });
        }
        let (dirs, last) = path.rsplit_once('/').map_or((None, path), |(dirs, last)| (Some(dirs), last));
        let dirs = dirs.map_or(Ok(Vec::new()), |dirs| dirs.split('/').map(segment).collect())?;
        let (file, extension) = last.rsplit_once('.').ok_or(PatternError::NoExtension)?;
        let file = segment(file)?;
        if extension.is_empty() || extension.contains(']') {
            return Err(PatternError::NoExtension);
        }
        literal(extension)?;

        for (variable, name) in [(Segment::App, APP), (Segment::Stream, STREAM)] {
            match dirs.iter().chain([&file]).filter(|segment| **segment == variable).count() {
                0 => return Err(PatternError::Missing { name }),
                1 => {}
                _ => return Err(PatternError::Repeated { name }),
            }
        }
        Ok(MountPattern {
            text: text.to_owned(),
            vhost_only: !host.is_empty(),
            dirs,
            file,
            extension: extension.to_owned(),
        })
    }

    /// Returns the stream that a percent-decoded path names, if it matches: the same number of segments, the same
    /// literals, the same extension.
    pub fn matches<'a>(&self, path: &'a str) -> Option<Match<'a>> {
        let path = path.strip_prefix('/')?.strip_suffix(&*self.extension)?.strip_suffix('.')?;
        let mut found = Match { app: "", stream: "" };
        let mut segments = path.split('/');
        for segment in self.segments() {
            let text = segments.next().filter(|text| !matches!(*text, "" | "." | ".."))?;
            match segment {
                Segment::Literal(literal) if literal == text => {}
                Segment::Literal(_) => return None,
                Segment::App => found.app = text,
                Segment::Stream => found.stream = text,
            }
        }
        segments.next().is_none().then_some(found)
    }

    /// Returns the percent-encoded path at which this mount serves a stream, with its leading slash.
    pub fn url_path(&self, app: &str, stream: &str) -> String {
        let mut path = String::new();
        for segment in self.segments() {
            let text = match segment {
                Segment::Literal(literal) => literal,
                Segment::App => app,
                Segment::Stream => stream,
            };
            // Writing to a String cannot fail.
            let _ = write!(path, "/{}", utf8_percent_encode(text, PATH));
        }
        path + "." + &self.extension
    }

    /// Returns whether a path can match both patterns.
    pub fn collides(&self, other: &MountPattern) -> bool {
        self.extension == other.extension
            && self.dirs.len() == other.dirs.len()
            && self.segments().zip(other.segments()).all(|pair| match pair {
                (Segment::Literal(one), Segment::Literal(two)) => one == two,
                _ => true,
            })
    }

    fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.dirs.iter().chain([&self.file])
    }
}

fn segment(text: &str) -> Result<Segment, PatternError> {
    match text {
        "" | "." | ".." => Err(PatternError::BadSegment),
        APP => Ok(Segment::App),
        STREAM => Ok(Segment::Stream),
        _ => literal(text).map(|()| Segment::Literal(text.to_owned())),
    }
}

/// Checks literal characters of a path.
fn literal(text: &str) -> Result<(), PatternError> {
    if let Some(name) = [VHOST, APP, STREAM].into_iter().find(|name| text.contains(name)) {
        return Err(PatternError::Misplaced { name });
    }
    if let Some((start, end)) = text.find('[').zip(text.rfind(']')).filter(|(start, end)| start < end) {
        return Err(PatternError::UnknownVariable { name: text[start..=end].to_owned() });
    }
    let bad = |c: char| c.is_control() || c.is_whitespace() || "?#[]\\%".contains(c);
    match text.chars().find(|c| bad(*c)) {
        Some(character) => Err(PatternError::BadCharacter { character }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Segment::{App, Literal, Stream};

    fn parse(text: &str) -> Result<MountPattern, PatternError> {
        MountPattern::parse(text, "example.com")
    }

    #[test]
    fn takes_patterns_apart() {
        let dir = |text: &str| Literal(text.to_owned());
        let rows: &[(&str, bool, &[Segment], Segment, &str)] = &[
            ("[vhost]/[app]/[stream].flv", true, &[App], Stream, "flv"),
            ("/[app]/[stream].flv", false, &[App], Stream, "flv"),
            ("example.com/[app]/[stream].ts", true, &[App], Stream, "ts"),
            ("Example.COM/[app]/[stream].ts", true, &[App], Stream, "ts"),
            ("/tv/[app]/[stream].flv", false, &[dir("tv"), App], Stream, "flv"),
            ("/[app]/[stream]/index.mp3", false, &[App, Stream], dir("index"), "mp3"),
            ("/[stream]/[app].aac", false, &[Stream], App, "aac"),
            ("/[app]/live.v2/[stream].flv", false, &[App, dir("live.v2")], Stream, "flv"),
        ];
        for (text, vhost_only, dirs, file, extension) in rows {
            let expected = MountPattern {
                text: (*text).to_owned(),
                vhost_only: *vhost_only,
                dirs: dirs.to_vec(),
                file: file.clone(),
                extension: (*extension).to_owned(),
            };
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_patterns_without_one_reading() {
        use PatternError::*;
        let rows = [
            ("", Missing { name: APP }),
            ("flv", Missing { name: APP }),
            ("/[stream].flv", Missing { name: APP }),
            ("[vhost]/[app]/index.flv", Missing { name: STREAM }),
            ("[app]/[stream].flv", ForeignHost { host: "[app]".into() }),
            ("example.org/[app]/[stream].flv", ForeignHost { host: "example.org".into() }),
            ("/[app]/[stream]", NoExtension),
            ("/[app]/[stream].", NoExtension),
            ("/a.b/[app]/[stream]", NoExtension),
            ("/[app]//[stream].flv", BadSegment),
            ("/[app]/../[stream].flv", BadSegment),
            ("/[app]/..flv", BadSegment),
            ("/[app]/[stream].flv?x=1", BadCharacter { character: '?' }),
            ("/[app]/a b/[stream].flv", BadCharacter { character: ' ' }),
            ("/[app]/a%2f/[stream].flv", BadCharacter { character: '%' }),
            ("/[app/[stream].flv", BadCharacter { character: '[' }),
            ("/[app]/[name].flv", UnknownVariable { name: "[name]".into() }),
            ("/[app]/[stream]_hd.flv", Misplaced { name: STREAM }),
            ("/[app]/[stream].live.flv", Misplaced { name: STREAM }),
            ("/[vhost]/[app]/[stream].flv", Misplaced { name: VHOST }),
            ("/[app]/[app]/[stream].flv", Repeated { name: APP }),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn matches_paths_with_as_many_segments_and_the_same_extension() {
        let rows = [
            ("[vhost]/[app]/[stream].flv", "/live/one.flv", Some(("live", "one"))),
            ("/[app]/[stream].flv", "/live/one.two.flv", Some(("live", "one.two"))),
            ("/[app]/[stream].flv", "/live/ü n.flv", Some(("live", "ü n"))),
            ("/tv/[app]/[stream].flv", "/tv/live/one.flv", Some(("live", "one"))),
            ("/[app]/[stream]/index.flv", "/live/one/index.flv", Some(("live", "one"))),
            ("/[stream]/[app].flv", "/one/live.flv", Some(("live", "one"))),
            ("/[app]/[stream].flv", "/live/one.ts", None),
            ("/[app]/[stream].flv", "/live/one.FLV", None),
            ("/[app]/[stream].flv", "/live/oneflv", None),
            ("/[app]/[stream].flv", "/live/.flv", None),
            ("/[app]/[stream].flv", "//one.flv", None),
            ("/[app]/[stream].flv", "/../one.flv", None),
            ("/[app]/[stream].flv", "/one.flv", None),
            ("/[app]/[stream].flv", "/a/live/one.flv", None),
            ("/[app]/[stream].flv", "live/one.flv", None),
            ("/tv/[app]/[stream].flv", "/tw/live/one.flv", None),
            ("/[app]/[stream]/index.flv", "/live/one/other.flv", None),
        ];
        for (pattern, path, expected) in rows {
            let found = parse(pattern).unwrap().matches(path).map(|found| (found.app, found.stream));
            assert_eq!(found, expected, "{pattern} {path}");
        }
    }

    #[test]
    fn prints_paths_that_match_again() {
        for (pattern, app, stream, path) in [
            ("[vhost]/[app]/[stream].flv", "live", "one", "/live/one.flv"),
            ("/tv/[app]/[stream]/index.ts", "live", "one", "/tv/live/one/index.ts"),
            ("/[app]/[stream].flv", "live", "a b?#%ü", "/live/a%20b%3F%23%25%C3%BC.flv"),
        ] {
            let pattern = parse(pattern).unwrap();
            assert_eq!(pattern.url_path(app, stream), path);
            let decoded = percent_encoding::percent_decode_str(path).decode_utf8().unwrap();
            assert_eq!(pattern.matches(&decoded), Some(Match { app, stream }));
        }
    }

    #[test]
    fn collides_when_a_path_can_match_both() {
        for (one, two, expected) in [
            ("[vhost]/[app]/[stream].flv", "/[app]/[stream].flv", true),
            ("/[app]/[stream].flv", "/[stream]/[app].flv", true),
            ("/a/[app]/[stream].flv", "/[app]/b/[stream].flv", true),
            ("/[app]/[stream].flv", "/[app]/[stream].ts", false),
            ("/[app]/[stream].flv", "/tv/[app]/[stream].flv", false),
            ("/a/[app]/[stream].flv", "/b/[app]/[stream].flv", false),
        ] {
            let (one, two) = (parse(one).unwrap(), parse(two).unwrap());
            assert_eq!((one.collides(&two), two.collides(&one)), (expected, expected), "{one:?} {two:?}");
        }
    }
}

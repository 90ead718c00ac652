//! Redirect targets: `http://edge.example/[app]/[stream].EXTENSION`.
//!
//! A target is an absolute URL, or one without its scheme (`//edge.example/…`), which keeps that of the request. A
//! variable stands for what the request has, percent-encoded, so that no request can add a path segment, a parameter
//! or a header line. What comes from a request never gets into the authority: no link to this host leads elsewhere
//! than the operator wrote.
//!
//! The request's query goes along: to where `[query]` stands, else to the end.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use super::pattern::Match;
use super::resolved::{DEFAULT_VHOST, RedirectTarget, TargetPart};

/// Why a redirect target is refused. Culprit: operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It does not start with `http://`, `https://` or `//`, or names no host.
    #[error("not a URL")]
    NotAbsolute,
    /// A character that cannot stand in a URL here.
    #[error("`{character}` cannot stand here")]
    BadCharacter {
        /// The character.
        character: char,
    },
    /// Brackets around something that is no variable.
    #[error("there is no variable `{name}`")]
    UnknownVariable {
        /// The name, with its brackets.
        name: String,
    },
    /// A variable in the host name whose value a request chooses, or that is no host name.
    #[error("`{name}` must not stand in the host name")]
    InHost {
        /// The variable, with its brackets.
        name: &'static str,
    },
    /// `[query]` before the `?`.
    #[error("`[query]` must stand after a `?`")]
    QueryInPath,
}

impl TargetError {
    /// What to write instead.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            TargetError::NotAbsolute => {
                Some("start with `http://`, `https://`, or `//` for the scheme of the request, then a host")
            }
            TargetError::UnknownVariable { .. } => {
                Some("variables are `[vhost]`, `[app]`, `[stream]` and `[query]`")
            }
            TargetError::InHost { name: VHOST } => {
                Some("the name of the default vhost is no host name: write the host name")
            }
            TargetError::InHost { .. } => Some("a request must not choose which host it is sent to"),
            TargetError::QueryInPath => {
                Some("without `[query]` the query of the request goes to the end by itself")
            }
            TargetError::BadCharacter { .. } => Some("other characters are percent-encoded, `%20`"),
        }
    }
}

const VHOST: &str = "[vhost]";
const APP: &str = "[app]";
const STREAM: &str = "[stream]";
const QUERY: &str = "[query]";

/// What stays as it is where a variable stands: the unreserved characters of RFC 3986, which mean the same everywhere.
const VARIABLE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What does not stay as it is in a query that is passed on: what RFC 3986 has no place for in one. Percent signs
/// stay, since it is encoded already.
const PASSED_ON: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The part of a URL that is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Authority,
    Path,
    Query,
}

impl RedirectTarget {
    /// Takes a target of the vhost `vhost` apart.
    ///
    /// # Errors
    /// The first thing that is wrong with it, from the left.
    pub fn parse(text: &str, vhost: &str) -> Result<RedirectTarget, TargetError> {
        let start = ["http://", "https://", "//"].into_iter().find(|start| text.starts_with(start));
        let start = start.ok_or(TargetError::NotAbsolute)?;
        let mut parts = vec![TargetPart::Literal(start.to_owned())];
        let mut section = Section::Authority;
        let mut rest = &text[start.len()..];
        if rest.is_empty() || rest.starts_with(['/', '?', ':']) {
            return Err(TargetError::NotAbsolute);
        }
        while let Some(first) = rest.chars().next() {
            let variable = [
                (VHOST, TargetPart::Vhost),
                (APP, TargetPart::App),
                (STREAM, TargetPart::Stream),
                (QUERY, TargetPart::Query),
            ]
            .into_iter()
            .find(|(name, _)| rest.starts_with(name));
            if let Some((name, part)) = variable {
                match (section, &part) {
                    (Section::Authority, TargetPart::Vhost) if vhost != DEFAULT_VHOST => {}
                    (Section::Authority, _) => return Err(TargetError::InHost { name }),
                    (Section::Path, TargetPart::Query) => return Err(TargetError::QueryInPath),
                    _ => {}
                }
                parts.push(part);
                rest = &rest[name.len()..];
                continue;
            }
            section = match (first, section) {
                ('/', Section::Authority) => Section::Path,
                ('?', Section::Authority | Section::Path) => Section::Query,
                _ => section,
            };
            check_literal(first, rest, section)?;
            match parts.last_mut() {
                Some(TargetPart::Literal(literal)) => literal.push(first),
                _ => parts.push(TargetPart::Literal(first.to_string())),
            }
            rest = &rest[first.len_utf8()..];
        }
        Ok(RedirectTarget { text: text.to_owned(), parts })
    }

    /// The URL for one request: its stream, and its query as it was sent, without `?`.
    pub fn url(&self, vhost: &str, found: Match<'_>, query: &str) -> String {
        let mut url = String::with_capacity(self.text.len() + query.len() + 64);
        for part in &self.parts {
            match part {
                TargetPart::Literal(literal) => url.push_str(literal),
                TargetPart::Vhost => url.extend(utf8_percent_encode(vhost, VARIABLE)),
                TargetPart::App => url.extend(utf8_percent_encode(found.app, VARIABLE)),
                TargetPart::Stream => url.extend(utf8_percent_encode(found.stream, VARIABLE)),
                TargetPart::Query => url.extend(utf8_percent_encode(query, PASSED_ON)),
            }
        }
        if !query.is_empty() && !self.parts.contains(&TargetPart::Query) {
            match url.find('?') {
                None => url.push('?'),
                Some(_) if url.ends_with(['?', '&']) => {}
                Some(_) => url.push('&'),
            }
            url.extend(utf8_percent_encode(query, PASSED_ON));
        }
        url
    }
}

/// Accepts a character that stands for itself.
fn check_literal(first: char, rest: &str, section: Section) -> Result<(), TargetError> {
    let encoded = |rest: &str| rest.len() >= 3 && rest.bytes().skip(1).take(2).all(|b| b.is_ascii_hexdigit());
    let good = match first {
        '[' if section != Section::Authority || rest[1..].starts_with(char::is_alphabetic) => {
            let name = rest.split_inclusive(']').next().unwrap_or(rest);
            if name.ends_with(']') && !name.contains(':') {
                return Err(TargetError::UnknownVariable { name: name.to_owned() });
            }
            section == Section::Authority
        }
        // The brackets of an IPv6 address.
        '[' | ']' => section == Section::Authority,
        // No user, who would make another host of the one before.
        '@' => section != Section::Authority,
        '%' => section != Section::Authority && encoded(rest),
        _ => first.is_ascii_graphic() && !"\"#<>\\^`{|}".contains(first),
    };
    if good { Ok(()) } else { Err(TargetError::BadCharacter { character: first }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(target: &str, stream: &str, query: &str) -> String {
        let target = RedirectTarget::parse(target, "a.example").unwrap();
        target.url("a.example", Match { app: "live", stream }, query)
    }

    #[test]
    fn fills_in_what_the_request_has() {
        let rows = [
            ("http://b.example/[app]/[stream].x", "one", "", "http://b.example/live/one.x"),
            ("https://b.example:444/[vhost]/[stream]", "one", "", "https://b.example:444/a.example/one"),
            ("//[vhost].b.example/[app]", "one", "", "//a.example.b.example/live"),
            ("http://[::1]:80/[stream]", "one", "", "http://[::1]:80/one"),
            ("http://b?s=[stream]&app=[app]", "a&b=c", "", "http://b?s=a%26b%3Dc&app=live"),
            ("http://b/[stream]", "a b/?#\r\nX: 1%ü", "", "http://b/a%20b%2F%3F%23%0D%0AX%3A%201%25%C3%BC"),
        ];
        for (target, stream, query, expected) in rows {
            assert_eq!(url(target, stream, query), expected, "{target}");
        }
    }

    #[test]
    fn passes_the_query_on() {
        let rows = [
            ("http://b/x", "k=v", "http://b/x?k=v"),
            ("http://b/x?", "k=v", "http://b/x?k=v"),
            ("http://b/x?a=1", "k=v&l=%20", "http://b/x?a=1&k=v&l=%20"),
            ("http://b/x?a=1&", "k=v", "http://b/x?a=1&k=v"),
            ("http://b/x?a=1", "", "http://b/x?a=1"),
            ("http://b/x?[query]&a=1", "k=v", "http://b/x?k=v&a=1"),
            ("http://b/x", "k=\r\nX: 1#<ü>", "http://b/x?k=%0D%0AX:%201%23%3C%C3%BC%3E"),
        ];
        for (target, query, expected) in rows {
            assert_eq!(url(target, "one", query), expected, "{target}");
        }
    }

    #[test]
    fn refuses_targets_that_lead_astray() {
        use TargetError::*;
        let rows = [
            ("", NotAbsolute),
            ("/[app]/[stream]", NotAbsolute),
            ("b.example/x", NotAbsolute),
            ("ftp://b/x", NotAbsolute),
            ("javascript:alert(1)", NotAbsolute),
            ("http://", NotAbsolute),
            ("///x", NotAbsolute),
            ("http://[app].b.example/x", InHost { name: APP }),
            ("http://b[stream]/x", InHost { name: STREAM }),
            ("http://b:[query]", InHost { name: QUERY }),
            ("http://b/[query]", QueryInPath),
            ("http://b/[param]", UnknownVariable { name: "[param]".into() }),
            ("http://[host]/x", UnknownVariable { name: "[host]".into() }),
            ("http://b/[app", BadCharacter { character: '[' }),
            ("http://b/app]", BadCharacter { character: ']' }),
            ("http://a@b/x", BadCharacter { character: '@' }),
            ("http://b/a b", BadCharacter { character: ' ' }),
            ("http://b/x#y", BadCharacter { character: '#' }),
            ("http://b/%zz", BadCharacter { character: '%' }),
            ("http://b\\x", BadCharacter { character: '\\' }),
            ("http://b/\r\nX: 1", BadCharacter { character: '\r' }),
            ("http://ü/x", BadCharacter { character: 'ü' }),
        ];
        for (target, expected) in rows {
            assert_eq!(RedirectTarget::parse(target, "a.example"), Err(expected), "{target}");
        }
        let in_host = RedirectTarget::parse("http://[vhost]/x", DEFAULT_VHOST);
        assert_eq!(in_host, Err(InHost { name: VHOST }));
    }
}

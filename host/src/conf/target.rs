//! Redirect targets: `http://edge.example/[app]/[stream].EXTENSION`.
//!
//! A target is an absolute URL, or one without a scheme (`//edge.example/…`), which keeps the scheme of the request. A
//! variable is replaced by the request's value, percent-encoded, so that no request can add a path segment, a parameter
//! or a header line. No request can change the authority, so a link to this host never leads to a host that the operator
//! did not write.
//!
//! The request's query replaces `[query]`, or is appended.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use super::pattern::{DEFAULT_VHOST, Match};

/// A parsed redirect target, a URL with variables: `http://edge.example/[app]/[stream].flv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectTarget {
    /// As written.
    pub text: String,
    /// Its parts, from the left.
    pub parts: Vec<TargetPart>,
}

/// One part of a redirect target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPart {
    /// These characters.
    Literal(String),
    /// `[vhost]`: the name of the vhost as configured.
    Vhost,
    /// `[app]`.
    App,
    /// `[stream]`.
    Stream,
    /// `[query]`: the query of the request, without `?`.
    Query,
}

/// Why a redirect target is refused. Culprit: operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It does not start with `http://`, `https://` or `//`, or names no host.
    #[error("not a URL")]
    NotAbsolute,
    /// A character that is not allowed in this part of a URL.
    #[error("`{character}` is not allowed here")]
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
    /// A variable in the host name whose value a request chooses, or that is not a host name.
    #[error("`{name}` is not allowed in the host name")]
    InHost {
        /// The variable, with its brackets.
        name: &'static str,
    },
    /// `[query]` before the `?`.
    #[error("`[query]` is allowed after a `?` only")]
    QueryInPath,
    /// `[query]` in the URL of a server, which all clients share.
    #[error("`[query]` is not allowed here")]
    SharedQuery,
}

impl TargetError {
    /// Returns advice on what to write instead.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            TargetError::NotAbsolute => {
                Some("start with `http://`, `https://`, or `//` for the scheme of the request, then a host")
            }
            TargetError::SharedQuery => Some("one connection serves all clients, whose queries differ"),
            TargetError::UnknownVariable { .. } => {
                Some("variables are `[vhost]`, `[app]`, `[stream]` and `[query]`")
            }
            TargetError::InHost { name: VHOST } => {
                Some("the name of the default vhost is not a host name: write the host name")
            }
            TargetError::InHost { .. } => Some("a request must not choose the host"),
            TargetError::QueryInPath => Some("without `[query]`, the query of the request is appended"),
            TargetError::BadCharacter { .. } => Some("percent-encode other characters: `%20`"),
        }
    }
}

const VHOST: &str = "[vhost]";
const APP: &str = "[app]";
const STREAM: &str = "[stream]";
const QUERY: &str = "[query]";

/// Characters that are encoded in a variable's value: all but the unreserved ones of RFC 3986, which mean the same
/// everywhere.
const VARIABLE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Characters that are encoded in a query that is passed on: those that RFC 3986 does not allow in one. Percent signs
/// stay, since the query is already encoded.
pub const PASSED_ON: &AsciiSet = &CONTROLS
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

/// The part of a URL that is being parsed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Authority,
    Path,
    Query,
}

impl RedirectTarget {
    /// Parses a target of `vhost`.
    ///
    /// # Errors
    /// The leftmost error.
    pub fn parse(text: &str, vhost: &str) -> Result<RedirectTarget, TargetError> {
        RedirectTarget::parse_url(text, vhost, &["http://", "https://", "//"])
    }

    /// Parses a URL of `vhost` with variables that begins with one of `starts`.
    ///
    /// # Errors
    /// The leftmost error.
    pub(super) fn parse_url(text: &str, vhost: &str, starts: &[&str]) -> Result<RedirectTarget, TargetError> {
        let start = starts.iter().copied().find(|start| text.starts_with(start));
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

    /// Returns the URL for one request: `query` is the query as sent, without `?`.
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

/// Checks a literal character.
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
        // User information would turn the text before it from host into user.
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
    fn replaces_variables() {
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
    fn refuses_invalid_targets() {
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

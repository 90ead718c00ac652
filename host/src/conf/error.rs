//! Errors in one key or value.

use std::time::Duration;

use super::endpoint::EndpointError;
use super::foreign::Foreign;
use super::pattern::PatternError;
use super::target::TargetError;

/// An error in one key or value. Culprit: operator.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The table has no such key.
    #[error("no such key in {table}")]
    UnknownKey {
        /// The table, as its header is written.
        table: String,
        /// The closest key of that table, or else the table that has the key.
        hint: Hint,
    },
    /// The value is of another type.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// The expected type.
        expected: &'static str,
        /// The type of the value.
        found: &'static str,
    },
    /// The number is out of range.
    #[error("must be {min} to {max}")]
    OutOfRange {
        /// The least value allowed.
        min: i128,
        /// The greatest value allowed.
        max: i128,
    },
    /// The duration is out of range.
    #[error("must be {min:?} to {max:?}, is {value:?}")]
    DurationOutOfRange {
        /// The value.
        value: Duration,
        /// The least value allowed.
        min: Duration,
        /// The greatest value allowed.
        max: Duration,
    },
    /// The value is not a duration.
    #[error("not a duration")]
    NotADuration,
    /// The string is not a number of bytes.
    #[error("not a size")]
    NotASize,
    /// The string is not a number of bits per second.
    #[error("not a bitrate")]
    NotABitrate,
    /// The value is not `[ip:]port`.
    #[error("not an address to listen on")]
    NotAnAddress,
    /// The string is neither a CIDR block nor an address.
    #[error("not a network")]
    NotANetwork,
    /// The string is not a host name.
    #[error("not a host name")]
    NotAHostName,
    /// The string is not an origin.
    #[error("not an origin")]
    NotAnOrigin,
    /// A key that the table needs is missing.
    #[error("{key} is missing")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// The id has other characters than letters, digits, `-` and `_`.
    #[error("an id has letters, digits, - and _ only")]
    NotAnId,
    /// The name of a user has a colon, which ends it in Basic credentials.
    #[error("a name must not have a colon")]
    NotAUserName,
    /// A name of the directory has other characters than its keys can have, or is too long.
    #[error("a name here has 1 to 64 letters, digits, ., - and _")]
    NotANodeName,
    /// The text is not the base of URLs of RTMP.
    #[error("must be rtmp://HOST or rtmp://HOST:PORT, or the same with rtmps")]
    NotAnRtmpBase,
    /// The URL has a query, though it is shown to others.
    #[error("a URL that others are told has no query")]
    SharedQuery,
    /// The secret is too short.
    #[error("{len} bytes are too short for a secret, {min} are needed")]
    SecretTooShort {
        /// Its length, in bytes.
        len: usize,
        /// The least length, in bytes.
        min: usize,
    },
    /// The file or variable with a secret or key cannot be read.
    #[error("cannot read {name}: {reason}")]
    Unreadable {
        /// The path, or the name of the variable.
        name: String,
        /// The reason.
        reason: String,
    },
    /// The file has no public key.
    #[error("no public key in {name}")]
    NotAPublicKey {
        /// The path.
        name: String,
    },
    /// The string is not a SHA-256 in hexadecimal digits.
    #[error("not a SHA-256, 64 hexadecimal digits")]
    NotASha256,
    /// The text lacks a part that it needs.
    #[error("it lacks {part}")]
    Lacks {
        /// The part.
        part: &'static str,
    },
    /// The value is not one of the allowed words.
    #[error("must be {}", words(allowed))]
    NotOneOf {
        /// The allowed words.
        allowed: Vec<&'static str>,
        /// The closest of them.
        closest: Option<&'static str>,
    },
    /// A log directive is neither `LEVEL` nor `TARGET=LEVEL`.
    #[error("`{directive}` is not a level")]
    NotALevel {
        /// The directive.
        directive: String,
    },
    /// Log directives whose levels are right, but not the rest.
    #[error("`{directives}` is not a filter of the log")]
    NotAFilter {
        /// The directives.
        directives: String,
    },
    /// The list is empty but must not be.
    #[error("must not be empty")]
    Empty,
    /// The mount pattern is invalid.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The URL of an endpoint is invalid.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The redirect target is invalid.
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// A guess at what an unknown key means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// This key of the same table.
    Closest(&'static str),
    /// The same key in the table with this header.
    Elsewhere(String),
    /// A key of another server.
    Foreign(Foreign),
    /// A vhost's name with dots that was not quoted.
    Unquoted,
    /// One of these.
    Known(Vec<&'static str>),
}

impl ValueError {
    /// Returns advice on what to write instead.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            ValueError::UnknownKey { hint: Hint::Closest(key), .. } => format!("did you mean `{key}`?"),
            ValueError::UnknownKey { hint: Hint::Elsewhere(table), .. } => format!("the key belongs in {table}"),
            ValueError::UnknownKey { hint: Hint::Foreign(foreign), .. } => foreign.help(),
            ValueError::UnknownKey { hint: Hint::Unquoted, .. } => {
                "quote a name with dots: [vhost.\"example.com\"]".to_owned()
            }
            ValueError::UnknownKey { hint: Hint::Known(keys), .. } => format!("its keys are {}", words(keys)),
            ValueError::WrongType { expected: BOOLEAN, found: STRING } => {
                "write `true` or `false`, without quotes".to_owned()
            },
            ValueError::WrongType { expected: TABLES, .. } => "its header has two brackets: [[…]]".to_owned(),
            ValueError::DurationOutOfRange { .. } => {
                "a plain number is seconds; a string has its unit: \"5000ms\", \"10s\", \"2m\"".to_owned()
            }
            ValueError::NotADuration => "write seconds, 10, or a string with units, \"40ms\" or \"1m 30s\"".to_owned(),
            ValueError::NotASize => "write bytes, 65536, or a string with a unit: \"64KiB\", \"16MiB\", \"1GiB\"".to_owned(),
            ValueError::NotABitrate => "write bits per second, 6000000, or a string with a unit: \"800k\", \"6M\", \"1G\"".to_owned(),
            ValueError::NotAnAddress => {
                "write [ip:]port with a numeric ip: \"8080\", \"127.0.0.1:8080\", \"[::]:8080\"".to_owned()
            }
            ValueError::NotANetwork => {
                "write a CIDR block or an address: \"10.0.0.0/8\", \"fd00::/8\", \"127.0.0.1\"".to_owned()
            }
            ValueError::SecretTooShort { .. } => "`remuxd sign new-secret` makes one".to_owned(),
            ValueError::NotAnOrigin => {
                "write scheme, host and port as browsers send them, in lower case: \"https://example.com\"".to_owned()
            }
            ValueError::NotASha256 => "`remuxd sign new-publish-key` makes one".to_owned(),
            ValueError::NotAPublicKey { .. } => "it must be in PEM format, BEGIN PUBLIC KEY".to_owned(),
            ValueError::NotAHostName => {
                "write the host name without scheme, port and path: \"example.com\"".to_owned()
            }
            ValueError::NotOneOf { closest: Some(word), .. } => format!("did you mean \"{word}\"?"),
            ValueError::NotALevel { .. } | ValueError::NotAFilter { .. } => {
                "levels are off, error, warn, info, debug and trace; a list has commas: \"info,remuxd::rtmp=debug\""
                    .to_owned()
            }
            ValueError::Pattern(error) => return error.help().map(str::to_owned),
            ValueError::Endpoint(error) => error.help().to_owned(),
            ValueError::Target(error) => return error.help().map(str::to_owned),
            _ => return None,
        })
    }
}

// Names of types; `ValueError::help` compares some of them.
pub(super) const BOOLEAN: &str = "true or false";
pub(super) const STRING: &str = "a string";
pub(super) const SECRET: &str = "a string, { file = \"PATH\" } or { env = \"NAME\" }";
pub(super) const TABLES: &str = "a list of tables";

/// Returns the candidate closest to `word`, if at most a third of its letters are wrong.
pub(super) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= candidate.len().max(3) / 3)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Formats a list: "`a`, `b` or `c`".
fn words(list: &[&str]) -> String {
    let quoted: Vec<_> = list.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

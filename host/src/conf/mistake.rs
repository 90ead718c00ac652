//! What can be wrong with one key, as facts.

use std::time::Duration;

use super::pattern::PatternError;
use super::target::TargetError;

/// A mistake in one key or value. Culprit: operator.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Mistake {
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
        /// What the key takes.
        expected: &'static str,
        /// What stands there.
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
    /// The string is no duration.
    #[error("not a duration")]
    NotADuration,
    /// The string is no number of bytes.
    #[error("not a size")]
    NotASize,
    /// The value is no `[ip:]port`.
    #[error("not an address to listen on")]
    NotAnAddress,
    /// The string is neither a CIDR block nor an address.
    #[error("not a network")]
    NotANetwork,
    /// The string is none of the allowed words.
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
    /// The list is empty, and must not be.
    #[error("must not be empty")]
    Empty,
    /// The mount pattern cannot be used.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The redirect target cannot be used.
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// What may have been meant by an unknown key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// This key of the same table.
    Closest(&'static str),
    /// The same key, in the table of this header.
    Elsewhere(String),
    /// A vhost whose name has dots and was not quoted.
    Unquoted,
    /// One of these.
    Known(Vec<&'static str>),
}

impl Mistake {
    /// What to write instead.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Mistake::UnknownKey { hint: Hint::Closest(key), .. } => format!("did you mean `{key}`?"),
            Mistake::UnknownKey { hint: Hint::Elsewhere(table), .. } => format!("the key belongs in {table}"),
            Mistake::UnknownKey { hint: Hint::Unquoted, .. } => {
                "a name with dots stands in quotes: [vhost.\"example.com\"]".to_owned()
            }
            Mistake::UnknownKey { hint: Hint::Known(keys), .. } => format!("it has {}", words(keys)),
            Mistake::WrongType { expected: BOOLEAN, found: STRING } => {
                "write `true` or `false`, without quotes".to_owned()
            },
            Mistake::WrongType { expected: TABLES, .. } => "its header has two brackets: [[…]]".to_owned(),
            Mistake::DurationOutOfRange { .. } => {
                "a plain number is seconds; a string has its unit: \"5000ms\", \"10s\", \"2m\"".to_owned()
            }
            Mistake::NotADuration => "write seconds, 10, or a string with units, \"40ms\" or \"1m 30s\"".to_owned(),
            Mistake::NotASize => "write bytes, 65536, or a string with a unit: \"64KiB\", \"16MiB\", \"1GiB\"".to_owned(),
            Mistake::NotAnAddress => {
                "write [ip:]port with a numeric ip: \"8080\", \"127.0.0.1:8080\", \"[::]:8080\"".to_owned()
            }
            Mistake::NotANetwork => {
                "write a CIDR block or an address: \"10.0.0.0/8\", \"fd00::/8\", \"127.0.0.1\"".to_owned()
            }
            Mistake::NotOneOf { closest: Some(word), .. } => format!("did you mean \"{word}\"?"),
            Mistake::NotALevel { .. } => {
                "levels are off, error, warn, info, debug and trace; a list has commas: \"info,remuxd::rtmp=debug\""
                    .to_owned()
            }
            Mistake::Pattern(error) => return error.help().map(str::to_owned),
            Mistake::Target(error) => return error.help().map(str::to_owned),
            _ => return None,
        })
    }
}

/// Words for types, with an article where English wants one. [`Mistake::help`] looks at some.
pub(super) const BOOLEAN: &str = "true or false";
pub(super) const STRING: &str = "a string";
pub(super) const TABLES: &str = "a list of tables";

/// The candidate closest to `word`, if it is close at all: at most a third of its letters are wrong.
pub(super) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= candidate.len().max(3) / 3)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// "`a`, `b` or `c`".
fn words(list: &[&str]) -> String {
    let quoted: Vec<_> = list.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

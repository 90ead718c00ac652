//! Options: declared by a module, set by a mount and its viewers.
//!
//! A mount sets some options, a viewer may set those declared `variant` in the query of the URL, and the rest have their
//! defaults. Two viewers with equal values share a remuxer, so a resolved set is always complete and in the order of
//! the declaration.

use std::borrow::Cow;
use std::fmt;

use remuxd_plugin_api::Options;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest part of a value that an error shows, in characters.
const MAX_SHOWN: usize = 64;
/// Longest text that a viewer may set, in bytes: each value has a remuxer, and a record of its faults.
const MAX_VARIANT_TEXT: usize = 256;

/// An option that a module declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionSpec {
    /// The key.
    pub name: String,
    /// The values that it takes.
    pub kind: OptionKind,
    /// The default, written as in the config without quotes.
    pub default: String,
    /// One sentence for operators.
    pub doc: String,
    /// Whether viewers may set it in the query of the URL.
    pub variant: bool,
}

/// The values that an option takes. `Display`, for example: `a whole number from 0 to 9`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OptionKind {
    /// `true` or `false`.
    Flag,
    /// A whole number between the two bounds, inclusive.
    Integer {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// One of these words.
    Choice(Vec<String>),
    /// Any text.
    Text,
    /// The number of a track, 0 to 255.
    Track,
}

impl OptionKind {
    /// Whether the option takes `value`, written as in the config without quotes.
    pub fn accepts(&self, value: &str) -> bool {
        match self {
            OptionKind::Flag => matches!(value, "true" | "false"),
            OptionKind::Integer { min, max } => {
                value.parse().is_ok_and(|number| (*min..=*max).contains(&number))
            }
            OptionKind::Choice(words) => words.iter().any(|word| word == value),
            OptionKind::Text => true,
            OptionKind::Track => value.parse::<u8>().is_ok(),
        }
    }

    /// As [`accepts`](Self::accepts), for a value in the query of a URL.
    fn accepts_of_viewer(&self, value: &str) -> bool {
        let is_fit = || value.len() <= MAX_VARIANT_TEXT && !value.contains(char::is_control);
        self.accepts(value) && (*self != OptionKind::Text || is_fit())
    }

    /// Normalizes a `value` that [`accepts`](Self::accepts) has accepted, so that equal values are equal texts.
    fn normalize(&self, value: String) -> String {
        match self {
            OptionKind::Integer { .. } | OptionKind::Track => {
                value.parse::<i64>().map_or(value, |number| number.to_string())
            }
            _ => value,
        }
    }
}

impl fmt::Display for OptionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionKind::Flag => f.write_str("true or false"),
            OptionKind::Integer { min, max } => write!(f, "a whole number from {min} to {max}"),
            OptionKind::Choice(words) => f.write_str(&words.join(" or ")),
            OptionKind::Text => f.write_str("text"),
            OptionKind::Track => f.write_str("a track, 0 to 255"),
        }
    }
}

/// Why an option is refused. The culprit is the viewer if it was in the query, otherwise the operator.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionError {
    /// The format has no such option.
    #[error("no option {key:?}{}", closest.as_ref().map(|key| format!("; did you mean {key:?}?")).unwrap_or_default())]
    Unknown {
        /// The key.
        key: String,
        /// The most similar key that is declared.
        closest: Option<String>,
    },
    /// The option does not take this value.
    #[error("option {key:?} is {value:?}, expected {expected}")]
    Value {
        /// The key.
        key: String,
        /// The value, cut to 64 characters.
        value: String,
        /// The values that the option takes.
        expected: String,
    },
}

impl OptionError {
    /// The key that is unknown or has the wrong value.
    pub fn key(&self) -> &str {
        match self {
            OptionError::Unknown { key, .. } | OptionError::Value { key, .. } => key,
        }
    }
}

/// Resolves the value of each of `specs`, in their order: from `query` if viewers may set it, else from `mount`, else
/// the default. Other keys of the query are ignored; of equal keys the first counts.
///
/// # Errors
/// The first error, the operator's before the viewer's.
pub fn resolve_options<'q>(
    specs: &[OptionSpec],
    mount: &[(String, String)],
    query: impl Iterator<Item = (Cow<'q, str>, Cow<'q, str>)>,
) -> Result<Options, OptionError> {
    if let Some(error) = errors(specs, mount).next() {
        return Err(error);
    }
    let mut asked = vec![None; specs.len()];
    for (key, value) in query {
        if let Some(index) = specs.iter().position(|spec| spec.variant && spec.name == key) {
            check_variant(&specs[index], &value)?;
            asked[index].get_or_insert(value);
        }
    }
    let values = specs.iter().zip(asked).map(|(spec, asked)| {
        let set = || mount.iter().find(|(key, _)| *key == spec.name).map(|(_, value)| value);
        let value = match asked {
            Some(value) => value.into_owned(),
            None => set().unwrap_or(&spec.default).clone(),
        };
        (spec.name.clone(), spec.kind.normalize(value))
    });
    Ok(Options::new(values.collect()))
}

/// Returns all errors in the options of a mount, in their order.
pub fn check_options(specs: &[OptionSpec], mount: &[(String, String)]) -> Vec<OptionError> {
    errors(specs, mount).collect()
}

fn errors<'a>(
    specs: &'a [OptionSpec],
    mount: &'a [(String, String)],
) -> impl Iterator<Item = OptionError> + 'a {
    mount.iter().filter_map(move |(key, value)| match specs.iter().find(|spec| spec.name == *key) {
        Some(spec) => check_value(spec, value).err(),
        None => Some(OptionError::Unknown { key: key.clone(), closest: closest(specs, key) }),
    })
}

fn check_value(spec: &OptionSpec, value: &str) -> Result<(), OptionError> {
    if spec.kind.accepts(value) { Ok(()) } else { Err(refused(spec, value, spec.kind.to_string())) }
}

/// Checks a value that a viewer set.
fn check_variant(spec: &OptionSpec, value: &str) -> Result<(), OptionError> {
    if spec.kind.accepts_of_viewer(value) {
        return Ok(());
    }
    let expected = match spec.kind {
        OptionKind::Text => format!("text of at most {MAX_VARIANT_TEXT} bytes without control characters"),
        _ => spec.kind.to_string(),
    };
    Err(refused(spec, value, expected))
}

fn refused(spec: &OptionSpec, value: &str, expected: String) -> OptionError {
    OptionError::Value { key: spec.name.clone(), value: value.chars().take(MAX_SHOWN).collect(), expected }
}

/// Returns the most similar declared key, if it differs in at most a third of its letters.
fn closest(specs: &[OptionSpec], key: &str) -> Option<String> {
    let distances = specs.iter().map(|spec| (strsim::damerau_levenshtein(key, &spec.name), &spec.name));
    let alike = distances.filter(|&(distance, name)| distance <= name.len().max(3) / 3);
    alike.min_by_key(|&(distance, _)| distance).map(|(_, name)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, kind: OptionKind, default: &str, variant: bool) -> OptionSpec {
        OptionSpec { name: name.into(), kind, default: default.into(), doc: String::new(), variant }
    }

    #[test]
    fn one_number_is_one_value_however_it_is_written() {
        let specs = [spec("depth", OptionKind::Integer { min: -9, max: 9 }, "07", true)];
        let resolve = |query: &[(&'static str, &'static str)]| {
            let query = query.iter().map(|&(key, value)| (Cow::from(key), Cow::from(value)));
            resolve_options(&specs, &[], query).unwrap()
        };
        for (written, value) in [("7", "7"), ("007", "7"), ("+7", "7"), ("-0", "0"), ("-05", "-5")] {
            assert_eq!(resolve(&[("depth", written)]).text("depth"), value, "{written}");
        }
        assert_eq!(resolve(&[]), resolve(&[("depth", "7")]));
    }

    fn specs() -> [OptionSpec; 5] {
        [
            spec("hevc", OptionKind::Choice(vec!["legacy".into(), "enhanced".into()]), "legacy", true),
            spec("header_wait", OptionKind::Integer { min: 0, max: 10_000 }, "500", false),
            spec("audio", OptionKind::Flag, "true", true),
            spec("title", OptionKind::Text, "", false),
            spec("note", OptionKind::Text, "", true),
        ]
    }

    fn mount(options: &[(&str, &str)]) -> Vec<(String, String)> {
        options.iter().map(|&(key, value)| (key.into(), value.into())).collect()
    }

    /// `resolve_options` with everything written as in a URL.
    fn resolve(set: &str, query: &str) -> Result<String, String> {
        let pairs = |text: &'_ str| -> Vec<(String, String)> {
            text.split_terminator('&')
                .filter_map(|pair| pair.split_once('='))
                .map(|(k, v)| (k.into(), v.into()))
                .collect()
        };
        let query = pairs(query);
        let query = query.iter().map(|(key, value)| (Cow::from(key), Cow::from(value)));
        let options = resolve_options(&specs(), &pairs(set), query).map_err(|error| error.to_string())?;
        let pairs: Vec<_> = options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Ok(pairs.join("&"))
    }

    #[test]
    fn every_option_has_a_value_in_the_declared_order() {
        let rows = [
            ("", "", "hevc=legacy&header_wait=500&audio=true&title=&note="),
            ("title=a&hevc=enhanced", "", "hevc=enhanced&header_wait=500&audio=true&title=a&note="),
            (
                "hevc=enhanced",
                "audio=false&hevc=legacy",
                "hevc=legacy&header_wait=500&audio=false&title=&note=",
            ),
            // What a viewer may not set is ignored, as are other keys; the first of equal keys counts.
            (
                "",
                "header_wait=1&token=x&audio=false&audio=true",
                "hevc=legacy&header_wait=500&audio=false&title=&note=",
            ),
        ];
        for (set, query, expected) in rows {
            assert_eq!(resolve(set, query), Ok(expected.into()), "{set} ? {query}");
        }
    }

    #[test]
    fn refuses_values_that_an_option_does_not_take() {
        let rows = [
            ("", "hevc=h265", r#"option "hevc" is "h265", expected legacy or enhanced"#),
            ("", "audio=yes", r#"option "audio" is "yes", expected true or false"#),
            ("", "audio=true&audio=a\nb", r#"option "audio" is "a\nb", expected true or false"#),
            (
                "header_wait=10001",
                "hevc=x",
                r#"option "header_wait" is "10001", expected a whole number from 0 to 10000"#,
            ),
            ("header_wait=", "", r#"option "header_wait" is "", expected a whole number from 0 to 10000"#),
        ];
        for (set, query, expected) in rows {
            assert_eq!(resolve(set, query), Err(expected.into()), "{set} ? {query}");
        }
        let long = resolve("", &format!("audio={}", "x".repeat(10_000))).unwrap_err();
        assert!(long.len() < 150, "{long}");
    }

    #[test]
    fn text_of_viewers_is_short_and_has_no_control_characters() {
        let longest = "ä".repeat(MAX_VARIANT_TEXT / 2);
        let too_long = format!("{longest}x");
        for (value, fits) in [("", true), ("a b", true), (&*longest, true), (&*too_long, false)]
            .into_iter()
            .chain(["a\nb", "\0", "\u{7f}", "\u{9b}"].map(|value| (value, false)))
        {
            let resolved = resolve("", &format!("note={value}"));
            assert_eq!(resolved.is_ok(), fits, "{resolved:?}");
            if let Err(error) = resolved {
                let expected = "expected text of at most 256 bytes without control characters";
                assert!(error.starts_with("option \"note\" is \"") && error.ends_with(expected), "{error}");
            }
            // The operator may set any text.
            assert!(resolve(&format!("note={value}"), "").is_ok());
        }
    }

    #[test]
    fn finds_all_errors_and_the_key_that_was_meant() {
        let set = mount(&[("hvec", "legacy"), ("title", "any"), ("audio", "1"), ("zzz", "")]);
        let lines: Vec<_> = check_options(&specs(), &set).iter().map(ToString::to_string).collect();
        let expected = [
            r#"no option "hvec"; did you mean "hevc"?"#,
            r#"option "audio" is "1", expected true or false"#,
            r#"no option "zzz""#,
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn knows_which_values_an_option_takes() {
        let choice = || OptionKind::Choice(vec!["x".into(), "y".into()]);
        let integer = || OptionKind::Integer { min: -2, max: 9 };
        let cases = [
            (OptionKind::Flag, "true", true),
            (OptionKind::Flag, "1", false),
            (integer(), "-2", true),
            (integer(), "10", false),
            (integer(), "99999999999999999999", false),
            (integer(), "", false),
            (choice(), "y", true),
            (choice(), "z", false),
            (OptionKind::Text, "", true),
        ];
        for (kind, value, accepted) in cases {
            assert_eq!(kind.accepts(value), accepted, "{kind:?} {value}");
        }
    }
}

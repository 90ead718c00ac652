//! Options: the values that a remuxer is made with.
//!
//! A format declares its options. A mount sets some of them, a viewer may set those that are declared `variant` in the
//! query of the URL, and the rest have their defaults. Two viewers with equal values share a remuxer, so the result
//! is always complete and in the order of the declaration.

use std::borrow::Cow;

use thiserror::Error;

use super::{Options, OwnedOptionSpec};

/// How much of a value is shown, in characters.
const MAX_SHOWN: usize = 64;

/// Why an option cannot be taken. The culprit is the viewer if it was in the query, else the operator.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionError {
    /// The format has no such option.
    #[error("no option {key:?}{}", closest.as_ref().map(|key| format!("; did you mean {key:?}?")).unwrap_or_default())]
    Unknown {
        /// The key.
        key: String,
        /// The declared key that is most like it.
        closest: Option<String>,
    },
    /// The option does not take this value.
    #[error("option {key:?} is {value:?}, expected {expected}")]
    Value {
        /// The key.
        key: String,
        /// The value, or its beginning.
        value: String,
        /// What the option takes.
        expected: String,
    },
}

impl OptionError {
    /// The key that is wrong, or whose value is.
    pub fn key(&self) -> &str {
        match self {
            OptionError::Unknown { key, .. } | OptionError::Value { key, .. } => key,
        }
    }
}

/// The value of each of `specs`, in their order: what `query` says of those that a viewer may set, else what `mount`
/// says, else the default. Other keys of the query are not ours; of equal ones the first counts.
///
/// # Errors
/// The first mistake, the operator's before the viewer's.
pub fn resolve_options<'q>(
    specs: &[OwnedOptionSpec],
    mount: &[(String, String)],
    query: impl Iterator<Item = (Cow<'q, str>, Cow<'q, str>)>,
) -> Result<Options, OptionError> {
    if let Some(mistake) = mistakes(specs, mount).next() {
        return Err(mistake);
    }
    let mut asked = vec![None; specs.len()];
    for (key, value) in query {
        if let Some(index) = specs.iter().position(|spec| spec.variant && spec.name == key) {
            check_value(&specs[index], &value)?;
            asked[index].get_or_insert(value);
        }
    }
    let values = specs.iter().zip(asked).map(|(spec, asked)| {
        let set = || mount.iter().find(|(key, _)| *key == spec.name).map(|(_, value)| value);
        let value = match asked {
            Some(value) => value.into_owned(),
            None => set().unwrap_or(&spec.default).clone(),
        };
        (spec.name.clone(), spec.kind.canonical(value))
    });
    Ok(Options::new(values.collect()))
}

/// All mistakes in the options of a mount, in their order.
pub fn check_options(specs: &[OwnedOptionSpec], mount: &[(String, String)]) -> Vec<OptionError> {
    mistakes(specs, mount).collect()
}

fn mistakes<'a>(
    specs: &'a [OwnedOptionSpec],
    mount: &'a [(String, String)],
) -> impl Iterator<Item = OptionError> + 'a {
    mount.iter().filter_map(move |(key, value)| match specs.iter().find(|spec| spec.name == *key) {
        Some(spec) => check_value(spec, value).err(),
        None => Some(OptionError::Unknown { key: key.clone(), closest: closest(specs, key) }),
    })
}

fn check_value(spec: &OwnedOptionSpec, value: &str) -> Result<(), OptionError> {
    if spec.kind.accepts(value) {
        return Ok(());
    }
    Err(OptionError::Value {
        key: spec.name.clone(),
        value: value.chars().take(MAX_SHOWN).collect(),
        expected: spec.kind.to_string(),
    })
}

/// The declared key that differs least, if it differs in no more than a third of its letters.
fn closest(specs: &[OwnedOptionSpec], key: &str) -> Option<String> {
    let distances = specs.iter().map(|spec| (strsim::damerau_levenshtein(key, &spec.name), &spec.name));
    let alike = distances.filter(|&(distance, name)| distance <= name.len().max(3) / 3);
    alike.min_by_key(|&(distance, _)| distance).map(|(_, name)| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::OwnedOptionKind;

    fn spec(name: &str, kind: OwnedOptionKind, default: &str, variant: bool) -> OwnedOptionSpec {
        OwnedOptionSpec { name: name.into(), kind, default: default.into(), doc: String::new(), variant }
    }

    #[test]
    fn one_number_is_one_value_however_it_is_written() {
        let specs = [spec("depth", OwnedOptionKind::Integer { min: -9, max: 9 }, "07", true)];
        let resolve = |query: &[(&'static str, &'static str)]| {
            let query = query.iter().map(|&(key, value)| (Cow::from(key), Cow::from(value)));
            resolve_options(&specs, &[], query).unwrap()
        };
        for (written, value) in [("7", "7"), ("007", "7"), ("+7", "7"), ("-0", "0"), ("-05", "-5")] {
            assert_eq!(resolve(&[("depth", written)]).text("depth"), value, "{written}");
        }
        assert_eq!(resolve(&[]), resolve(&[("depth", "7")]));
    }

    fn specs() -> [OwnedOptionSpec; 4] {
        [
            spec("hevc", OwnedOptionKind::Choice(vec!["legacy".into(), "enhanced".into()]), "legacy", true),
            spec("header_wait", OwnedOptionKind::Integer { min: 0, max: 10_000 }, "500", false),
            spec("audio", OwnedOptionKind::Flag, "true", true),
            spec("title", OwnedOptionKind::Text, "", false),
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
            ("", "", "hevc=legacy&header_wait=500&audio=true&title="),
            ("title=a&hevc=enhanced", "", "hevc=enhanced&header_wait=500&audio=true&title=a"),
            ("hevc=enhanced", "audio=false&hevc=legacy", "hevc=legacy&header_wait=500&audio=false&title="),
            // What a viewer may not set is ignored, as are other keys; the first of equal keys counts.
            (
                "",
                "header_wait=1&token=x&audio=false&audio=true",
                "hevc=legacy&header_wait=500&audio=false&title=",
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
    fn finds_all_mistakes_and_the_key_that_was_meant() {
        let set = mount(&[("hvec", "legacy"), ("title", "any"), ("audio", "1"), ("zzz", "")]);
        let lines: Vec<_> = check_options(&specs(), &set).iter().map(ToString::to_string).collect();
        let expected = [
            r#"no option "hvec"; did you mean "hevc"?"#,
            r#"option "audio" is "1", expected true or false"#,
            r#"no option "zzz""#,
        ];
        assert_eq!(lines, expected);
    }
}

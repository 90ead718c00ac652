//! Source map: the text of a config file, and the location of each key in it.
//!
//! A [`Config`](super::Config) holds no locations. To report an error in one of its values, look the location up by
//! the path of the key. Only keys whose values are in force have one: defaults, faulty values, and list tables that
//! were left out (a disabled mount, for one) have none, and an index counts the tables that were kept.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::ops::Range;

/// A config file as read, with asterisks in place of secrets.
#[derive(Clone, Debug, Default)]
pub struct Source {
    pub(super) name: String,
    pub(super) text: String,
    entries: HashMap<KeyPath, Entry>,
}

/// The locations of one key and its value, in bytes. The value of a table is its header.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
}

/// A range of bytes in a config file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location(pub(super) Range<usize>);

/// The path of a key or table: `vhost."example.com".http_remux[0].mount`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// A key of the schema.
    Key(&'static str),
    /// A name that the operator chose.
    Name(String),
    /// An index in a list.
    Index(usize),
}

impl Source {
    pub(super) fn new(name: impl Into<String>, text: impl Into<String>) -> Source {
        let mut text = text.into();
        mask_assignments(&mut text);
        mask_user_info(&mut text);
        Source { name: name.into(), text, entries: HashMap::new() }
    }

    /// Returns the location of the value at `path`; of a table, its header. `None` for a default.
    pub fn value(&self, path: &KeyPath) -> Option<Location> {
        self.entries.get(path).map(|entry| Location(entry.value.clone()))
    }

    /// Returns the location of the value at `path`, or for a default the header of the innermost table around it.
    pub fn value_or_table(&self, path: &KeyPath) -> Option<Location> {
        let mut path = path.clone();
        loop {
            if let Some(location) = self.value(&path) {
                return Some(location);
            }
            path.0.pop()?;
        }
    }

    /// Returns the location of the last key of `path`. `None` if it is not in the file.
    pub fn key(&self, path: &KeyPath) -> Option<Location> {
        self.entries.get(path).map(|entry| Location(entry.key.clone()))
    }

    /// Replaces a part of the text by asterisks, between quotes if it has them.
    pub(super) fn mask(&mut self, part: Range<usize>) {
        mask(&mut self.text, part);
    }

    /// Masks the queries of URLs in a part, each to the end of its string.
    pub(super) fn mask_queries(&mut self, part: Range<usize>) {
        let Some(text) = self.text.get(part.clone()) else { return };
        if text.contains('\\') {
            return self.mask(part);
        }
        let ends = |c: char| matches!(c, '"' | '\'' | '\n');
        let queries = text.match_indices('?').map(|(at, _)| {
            let end = text[at..].find(ends).map_or(text.len(), |len| at + len);
            part.start + at + 1..part.start + end
        });
        queries.collect::<Vec<_>>().into_iter().for_each(|query| self.mask(query));
    }

    pub(super) fn record(&mut self, path: KeyPath, entry: Entry) {
        self.entries.insert(path, entry);
    }

    /// Removes the locations of a table that was left out.
    pub(super) fn forget(&mut self, table: &KeyPath) {
        self.entries.retain(|path, _| !path.0.starts_with(&table.0));
    }
}

impl KeyPath {
    /// Returns the path of a top-level key.
    pub fn of(key: &'static str) -> KeyPath {
        KeyPath::default().key(key)
    }

    /// Appends a key of the schema.
    pub fn key(self, key: &'static str) -> KeyPath {
        self.then(Step::Key(key))
    }

    /// Appends a name that the operator chose: of a vhost, a module or an option.
    pub fn name(self, name: impl Into<String>) -> KeyPath {
        self.then(Step::Name(name.into()))
    }

    /// Appends an index in a list.
    pub fn index(self, index: usize) -> KeyPath {
        self.then(Step::Index(index))
    }

    fn then(mut self, step: Step) -> KeyPath {
        self.0.push(step);
        self
    }

    /// Formats the header of the table that the key is in: `[rtmp]`.
    pub(super) fn table(&self) -> String {
        let keys = self.0.iter().rposition(|step| !matches!(step, Step::Index(_))).unwrap_or_default();
        format!("[{}]", KeyPath(self.0[..keys].to_vec()).header())
    }

    /// Formats the path as a table header, without brackets: `vhost."example.com".play`.
    pub(super) fn header(&self) -> String {
        self.join(|name| toml::Value::from(name).to_string())
    }

    /// Formats the path with `*` for names, the same for all tables with the same keys: `vhost.*.play`.
    pub(super) fn shape(&self) -> String {
        self.join(|_| "*".to_owned())
    }

    /// Returns whether this is a key of `table` or of a table in it.
    pub(super) fn is_within(&self, table: &KeyPath) -> bool {
        self.0.starts_with(&table.0)
    }

    /// Returns the path of the table `name` in place of the last step.
    pub(super) fn renamed(&self, name: &str) -> KeyPath {
        let parent = self.0.split_last().map_or(&[][..], |(_, parent)| parent);
        KeyPath(parent.to_vec()).name(name)
    }

    /// Returns the path of the same key, if it is within `from`, in the table `to`.
    pub(super) fn moved(&self, from: &KeyPath, to: &KeyPath) -> KeyPath {
        let rest = self.0.strip_prefix(&from.0[..]);
        rest.map_or_else(|| self.clone(), |rest| KeyPath([&to.0, rest].concat()))
    }

    /// Returns the tables around the key that have a name or an index, the outermost first.
    pub(super) fn named_tables(&self) -> impl Iterator<Item = KeyPath> + use<'_> {
        let lengths = (1..self.0.len()).filter(|len| !matches!(self.0[len - 1], Step::Key(_)));
        lengths.map(|len| KeyPath(self.0[..len].to_vec()))
    }

    /// Returns the steps with a key of the schema.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> + use<'_> {
        self.0.iter().filter_map(|step| match step {
            Step::Key(key) => Some(*key),
            Step::Name(_) | Step::Index(_) => None,
        })
    }

    /// Returns the names in it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|step| match step {
            Step::Name(name) => Some(&**name),
            Step::Key(_) | Step::Index(_) => None,
        })
    }

    fn join(&self, quote: impl Fn(&str) -> String) -> String {
        let mut text = String::new();
        for step in &self.0 {
            let dot = if text.is_empty() { "" } else { "." };
            // Writing to a string cannot fail.
            let _ = match step {
                Step::Key(key) => write!(text, "{dot}{key}"),
                Step::Name(name) => write!(text, "{dot}{}", quote(name)),
                Step::Index(_) => Ok(()),
            };
        }
        text
    }
}

/// Formats the path as in the file: `vhost."example.com".play.wait`.
impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.header())
    }
}

/// Masks what is assigned to keys named `secret`, to the end of the line or of a text of several lines: a file that is not TOML, or
/// has the key where none is expected, has no spans of secrets.
fn mask_assignments(text: &mut String) {
    let mut parts = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let key = line.find("secret").map(|at| &line[at + "secret".len()..]);
        let value = key.and_then(|rest| {
            let value = rest
                .trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "_-\"' \t".contains(c))
                .strip_prefix('=')?
                .trim_start();
            // Names of files and variables are no secrets.
            let from = start + line.len() - value.len();
            let several = ["\"\"\"", "'''"].into_iter().find(|quotes| value.starts_with(quotes));
            let end = several.map_or(0, |quotes| {
                let begin = from + quotes.len();
                text[begin..].find(quotes).map_or(text.len(), |length| begin + length)
            });
            (!value.starts_with('{')).then_some(from..end.max(start + line.len()))
        });
        parts.extend(value);
        start += line.len();
    }
    parts.into_iter().for_each(|part| mask(text, part));
}

/// Masks the user info of URLs, wherever they are.
fn mask_user_info(text: &mut String) {
    let mut parts = Vec::new();
    for (at, scheme_end) in text.match_indices("://") {
        let start = at + scheme_end.len();
        let authority = text[start..].split(|c: char| c.is_whitespace() || "/?#\"'".contains(c)).next();
        parts.extend(authority.and_then(|authority| authority.rfind('@')).map(|end| start..start + end));
    }
    parts.into_iter().for_each(|part| mask(text, part));
}

/// Replaces the bytes of a part but its quotes and line ends by asterisks.
fn mask(text: &mut String, part: Range<usize>) {
    let Some(shown) = text.get(part.clone()) else { return };
    let masked: String = shown
        .chars()
        .flat_map(|character| {
            let kept = matches!(character, '"' | '\'' | '\n' | '\r');
            let shown = if kept { character } else { '*' };
            std::iter::repeat_n(shown, character.len_utf8())
        })
        .collect();
    text.replace_range(part, &masked);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_info_and_queries_of_urls_are_masked() {
        let text =
            "a = \"http://u:hush@a.example/x?k=v\"\nb = [\"//h/?hush\", 'c?hu?sh']\nd = \"hu\\u0073h?\"";
        let mut source = Source::new("a.toml", text);
        assert_eq!(source.text, text.replace("u:hush@", "******@"));
        source.mask_queries(text.find("[").unwrap()..text.find("d =").unwrap());
        source.mask_queries(text.find("\"hu").unwrap()..text.len());
        let masked =
            "a = \"http://******@a.example/x?k=v\"\nb = [\"//h/?****\", 'c?*****']\nd = \"**********\"";
        assert_eq!(source.text, masked);
    }
}

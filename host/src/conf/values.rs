//! Values: every key of a config with its value, to tell two configs apart.
//!
//! `table` records a key whenever `schema` asks for it, also at its default, so a new key is compared without a further line.
//! Tables of a list have the name that tells them from the others instead of their index: a mount its pattern.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::source::KeyPath;

/// The keys of a config, in the order of the schema.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values(Vec<(KeyPath, Shown)>);

/// A value as a report shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Shown {
    pub(super) text: String,
    /// The value that the text hides, for comparisons only.
    pub(super) hidden: Vec<u8>,
}

/// A difference between two configs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key, or the table that was added or removed as a whole.
    pub path: KeyPath,
    /// The difference.
    pub kind: DifferenceKind,
}

/// The kind of difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DifferenceKind {
    /// The table is new.
    Added,
    /// The table is gone.
    Removed,
    /// The key has another value. `None` is an option of a module that is not set.
    Changed {
        /// The value before.
        old: Option<Shown>,
        /// The value now.
        new: Option<Shown>,
    },
}

impl Values {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn record(&mut self, path: KeyPath, value: Shown) {
        self.0.push((path, value));
    }

    /// Forgets the keys of a table that was left out, which were recorded since there were `len` keys.
    pub(super) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Replaces the index of a table, whose keys were recorded since there were `len` keys, by the value of its key `id`, unless
    /// another table of the list has it.
    pub(super) fn name_table(&mut self, len: usize, table: &KeyPath, id: &'static str) {
        let (before, own) = self.0.split_at_mut(len);
        let id = table.clone().key(id);
        let Some(name) = own.iter().find(|(path, _)| *path == id).map(|(_, value)| value.text.clone()) else {
            return;
        };
        let named = table.renamed(&name);
        if before.iter().all(|(path, _)| !path.is_within(&named)) {
            own.iter_mut().for_each(|(path, _)| *path = path.moved(table, &named));
        }
    }

    /// Returns the differences of `new`: what it changes and adds in its order, then what it lacks.
    pub fn differences(&self, new: &Values) -> Vec<Difference> {
        let [before, after] = [self, new].map(Values::by_path);
        let [old_tables, new_tables] = [self, new].map(Values::tables);
        let mut found = Vec::new();
        for (path, value) in &new.0 {
            match before.get(path) {
                Some(old) if *old == value => {}
                old => found.push(difference(
                    path,
                    &old_tables,
                    DifferenceKind::Added,
                    (old.map(|old| (*old).clone()), Some(value.clone())),
                )),
            }
        }
        let gone = self.0.iter().filter(|(path, _)| !after.contains_key(path));
        found.extend(gone.map(|(path, value)| {
            difference(path, &new_tables, DifferenceKind::Removed, (Some(value.clone()), None))
        }));
        found.dedup();
        found
    }

    fn by_path(&self) -> HashMap<&KeyPath, &Shown> {
        self.0.iter().map(|(path, value)| (path, value)).collect()
    }

    /// The tables that an operator may add: those with a name or an index.
    fn tables(&self) -> HashSet<KeyPath> {
        self.0.iter().flat_map(|(path, _)| path.named_tables()).collect()
    }
}

/// Returns the difference of a key, or of the outermost table around it that the other config does not have.
fn difference(
    path: &KeyPath,
    others: &HashSet<KeyPath>,
    whole: DifferenceKind,
    (old, new): (Option<Shown>, Option<Shown>),
) -> Difference {
    let table = path.named_tables().find(|table| !others.contains(table));
    match table.filter(|_| old.is_none() || new.is_none()) {
        Some(table) => Difference { path: table, kind: whole },
        None => Difference { path: path.clone(), kind: DifferenceKind::Changed { old, new } },
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.text.is_empty() { "\"\"" } else { &self.text })
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use crate::conf::Config;

    /// Returns the differences of two texts: `PATH OLD -> NEW`, `PATH +` or `PATH -`.
    #[track_caller]
    fn differences(old: &str, new: &str) -> Vec<String> {
        let read = |text| Config::read_text(text, "text").0;
        let found = read(old).differences(&read(new));
        let line = |one: &super::Difference| match &one.kind {
            super::DifferenceKind::Added => format!("{} +", one.path),
            super::DifferenceKind::Removed => format!("{} -", one.path),
            super::DifferenceKind::Changed { old, new } => {
                let text = |value: &Option<super::Shown>| {
                    value.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)
                };
                format!("{} {} -> {}", one.path, text(old), text(new))
            }
        };
        found.iter().map(line).collect()
    }

    #[test]
    fn every_difference_is_found_once_with_its_values() {
        let mounts = "[[vhost.a.http_remux]]\nenabled = true\n\
            [[vhost.a.http_remux]]\nenabled = true\nmount = \"/[app]/[stream].ts\"\n";
        let first = "[[vhost.a.http_remux]]\nenabled = true\nmount = \"/[app]/[stream].aac\"\n";
        let rows = [
            ("", "", vec![]),
            ("[limits]\nsend_timeout = 30", "[limits]\nsend_timeout = \"30s\"", vec![]),
            ("", "[limits]\nmax_connections = 7", vec!["limits.max_connections 100000 -> 7"]),
            ("[log]\nformat = \"json\"", "", vec!["log.format json -> text"]),
            (
                "",
                "[rtmp]\nlisten = [\"1935\", \"127.0.0.1:1936\"]",
                vec!["rtmp.listen [0.0.0.0:1935] -> [0.0.0.0:1935, 127.0.0.1:1936]"],
            ),
            (
                "[proxy]\nheaders = [\"x-real-ip\"]",
                "",
                vec!["proxy.headers [x-real-ip] -> [x-forwarded-for, forwarded]"],
            ),
            ("", "[http_server]\ndir = \"/srv\"", vec!["http_server.dir \"\" -> /srv"]),
            ("", "[vhost.a]", vec!["vhost.\"a\" +"]),
            ("[vhost.a]\n[vhost.b]", "[vhost.b]", vec!["vhost.\"a\" -"]),
            // A mount is known by its pattern, wherever it stands, and another one before it changes nothing.
            (mounts, &format!("{first}{mounts}"), vec!["vhost.\"a\".http_remux.\"/[app]/[stream].aac\" +"]),
            (&format!("{first}{mounts}"), mounts, vec!["vhost.\"a\".http_remux.\"/[app]/[stream].aac\" -"]),
            (
                mounts,
                &format!("{mounts}[vhost.a.http_remux.options]\nx = 1\n"),
                vec!["vhost.\"a\".http_remux.\"/[app]/[stream].ts\".options.\"x\" none -> 1"],
            ),
            (
                mounts,
                &mounts.replacen("enabled = true", "enabled = false", 1),
                vec!["vhost.\"a\".http_remux.\"[vhost]/[app]/[stream].flv\" -"],
            ),
            (
                "[module.flv]\nisolation = \"process\"",
                "[module.flv]",
                vec!["module.\"flv\".isolation process -> none"],
            ),
        ];
        for (old, new, expected) in rows {
            assert_eq!(differences(old, new), expected, "{old} -> {new}");
        }
    }

    #[test]
    fn secrets_are_compared_and_not_shown() {
        let key = |secret: &str| {
            format!("[[vhost.a.signed_url.key]]\nid = \"k\"\nsecret = \"{}\"", secret.repeat(32))
        };
        let found = differences(&key("a"), &key("b"));
        assert_eq!(found, ["vhost.\"a\".signed_url.key.\"k\".secret *** -> ***"]);
        let hook = |query: &str| format!("[http_hooks]\non_reload = \"http://u:p@h.example/x?{query}\"");
        let found = differences(&hook("a=1"), &hook("a=2"));
        assert_eq!(found, ["http_hooks.on_reload [http://h.example/x] -> [http://h.example/x]"]);
    }
}

//! Reads the file table by table, key by key.
//!
//! Why not serde: a serde type ends at its first error, and a config shows all of them at once. Here a faulty value is
//! reported, its default is used, and reading goes on. A key is known because `schema.rs` asked for it, so a key is one
//! line there, with its kind and its default.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::access::Secret;
use super::diagnostics::{Diagnostic, Diagnostics};
use super::error::{Hint, TABLES, ValueError, closest};
use super::foreign::foreign;
use super::show::Show;
use super::source::{Entry, KeyPath, Location};
use super::value::{Kind, setting, wrong_type};
use super::values::Values;

/// Keys of secrets. A key of their table that is unknown may be one of them, misspelt.
const SECRET_KEYS: [&str; 3] = ["secret", "password", "token"];

/// The state of reading one file.
pub(super) struct Reading<'a> {
    pub(super) diagnostics: Diagnostics,
    /// Keys that were asked for, with the shape of their table: `("vhost.*.play", "gop_cache")`.
    pub(super) known: Vec<(String, &'static str)>,
    /// Keys that were asked for, with their values.
    pub(super) values: Values,
    /// Tables in which unknown keys are errors.
    strict: Vec<(KeyPath, &'a DeTable<'a>)>,
}

/// A table of the file, or an absent one, whose keys have their defaults.
pub(super) struct Table<'r, 'a> {
    reading: &'r mut Reading<'a>,
    path: KeyPath,
    entries: Option<&'a DeTable<'a>>,
    /// The table's header; empty if the table is absent.
    header: Range<usize>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(diagnostics: Diagnostics) -> Reading<'a> {
        Reading { diagnostics, known: Vec::new(), values: Values::default(), strict: Vec::new() }
    }

    /// Reads the root table, then reports every key that nothing asked for.
    pub(super) fn read<T>(&mut self, root: &'a DeTable<'a>, read: impl FnOnce(&mut Table<'_, 'a>) -> T) -> T {
        let path = KeyPath::default();
        self.strict.push((path.clone(), root));
        let result = read(&mut Table { reading: self, path, entries: Some(root), header: 0..0 });
        for (path, entries) in std::mem::take(&mut self.strict) {
            self.report_unknown(&path, entries);
        }
        result
    }

    fn report_unknown(&mut self, path: &KeyPath, entries: &DeTable) {
        let (shape, header) = (path.shape(), path.header());
        let known: Vec<_> = self.known.iter().filter(|(of, _)| *of == shape).map(|(_, key)| *key).collect();
        let table = if header.is_empty() { "the file".to_owned() } else { format!("[{header}]") };
        for (key, value) in entries.iter().filter(|(key, _)| !known.contains(&&**key.get_ref())) {
            if SECRET_KEYS.iter().any(|key| known.contains(key)) {
                self.diagnostics.source_mut().mask(value.span());
            }
            let hint = self.hint(&shape, &known, key.get_ref(), value);
            let error = ValueError::UnknownKey { table: table.clone(), hint };
            self.report(key.get_ref(), Spanned::new(key.span(), error));
        }
    }

    fn hint(&self, shape: &str, known: &[&'static str], key: &str, value: &Spanned<DeValue>) -> Hint {
        if let Some(foreign) = foreign(key) {
            return Hint::Foreign(foreign);
        }
        if let Some(key) = closest(key, known.iter().copied()) {
            return Hint::Closest(key);
        }
        if let Some((shape, _)) = self.known.iter().find(|(_, elsewhere)| *elsewhere == key) {
            return match &*shape.replace('*', "\"NAME\"") {
                "" => Hint::Elsewhere(format!("[{key}]")),
                table => Hint::Elsewhere(format!("[{table}]")),
            };
        }
        match value.get_ref() {
            DeValue::Table(_) if shape == "vhost.*" => Hint::Unquoted,
            _ => Hint::Known(known.to_vec()),
        }
    }

    fn report(&mut self, key: &str, error: Spanned<ValueError>) {
        let (location, error) = (Location(error.span()), error.into_inner());
        let title = match &error {
            ValueError::UnknownKey { .. } => format!("unknown key `{key}`"),
            ValueError::WrongType { .. } => format!("wrong type for `{key}`"),
            ValueError::Pattern(_) => "bad mount pattern".to_owned(),
            ValueError::Target(_) => "bad URL".to_owned(),
            ValueError::Missing { key } => format!("`{key}` is missing"),
            _ => format!("bad value for `{key}`"),
        };
        let diagnostic = self.diagnostics.error(title, Some(location), &error);
        if let Some(help) = error.help() {
            diagnostic.help(help);
        }
    }
}

impl<'a> Table<'_, 'a> {
    /// Reads the value of `key`; returns `default` if it is absent or faulty.
    pub(super) fn key<T: Show>(&mut self, key: &'static str, default: T, kind: impl Kind<T>) -> T {
        let value = self.read_key(key, kind).unwrap_or(default);
        self.reading.values.record(self.path.clone().key(key), value.show());
        value
    }

    /// Reads the value of `key`; `None` if it is absent or faulty.
    fn read_key<T>(&mut self, key: &'static str, kind: impl Kind<T>) -> Option<T> {
        let (name, value) = self.entry(key)?;
        let read = self.checked(key, kind(value))?;
        let path = self.path.clone().key(key);
        for (index, element) in value.get_ref().as_array().into_iter().flatten().enumerate() {
            self.record(path.clone().index(index), element.span(), element.span());
        }
        self.record(path, name.span(), value.span());
        Some(read)
    }

    /// Reads a secret; returns an empty one if it is absent or faulty. Messages do not show its text.
    pub(super) fn secret(&mut self, key: &'static str, kind: impl Kind<Secret>) -> Secret {
        let literal =
            self.entry(key).filter(|(_, value)| !is_reference(value)).map(|(_, value)| value.span());
        if let Some(span) = literal {
            self.reading.diagnostics.source_mut().mask(span);
        }
        self.key(key, Secret::default(), kind)
    }

    /// Reads a value with URLs that the host asks. Messages do not show their queries.
    pub(super) fn endpoints<T: Show>(&mut self, key: &'static str, default: T, kind: impl Kind<T>) -> T {
        if let Some(span) = self.entry(key).map(|(_, value)| value.span()) {
            self.reading.diagnostics.source_mut().mask_queries(span);
        }
        self.key(key, default, kind)
    }

    /// Returns whether `key` is absent, or an empty string.
    pub(super) fn is_unset(&self, key: &str) -> bool {
        let value = self.entries.and_then(|entries| entries.get(key));
        value.is_none_or(|value| value.get_ref().as_str() == Some(""))
    }

    /// Whether the table has `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.is_some_and(|entries| entries.contains_key(key))
    }

    /// Whether the value of `key` is a list.
    pub(super) fn is_list(&self, key: &str) -> bool {
        let value = self.entries.and_then(|entries| entries.get(key));
        value.is_some_and(|value| value.get_ref().is_array())
    }

    /// Warns about the table as a whole.
    pub(super) fn warn(&mut self, title: &str, label: &str) -> &mut Diagnostic {
        let location = Some(Location(self.header.clone()));
        self.reading.diagnostics.warning(title, location, label)
    }

    /// Returns the value, or reports its errors under `key`.
    pub(super) fn checked<T>(&mut self, key: &str, read: Result<T, Vec<Spanned<ValueError>>>) -> Option<T> {
        let errors = match read {
            Ok(value) => return Some(value),
            Err(errors) => errors,
        };
        errors.into_iter().for_each(|error| self.reading.report(key, error));
        None
    }

    /// Returns the location of the value of `key`, or for a default that of the table's header.
    pub(super) fn span(&self, key: &'static str) -> Range<usize> {
        let value = self.entries.and_then(|entries| entries.get(key));
        value.map_or_else(|| self.header.clone(), Spanned::span)
    }

    /// Reads the table `key`, also if it is absent.
    pub(super) fn table<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Table<'_, 'a>) -> T) -> T {
        let entry = self.entry(key);
        let path = self.path.clone().key(key);
        read(&mut self.strict(path, entry))
    }

    /// Reads the tables in table `key`, each with its name, in the order of the file.
    pub(super) fn named<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Table<'_, 'a>, &str) -> T,
    ) -> Vec<T> {
        let entry = self.entry(key);
        let mut table = self.child(self.path.clone().key(key), entry);
        let path = table.path.clone();
        let mut read = |(name, value): (&'a Spanned<Cow<'a, str>>, _)| {
            let path = path.clone().name(&**name.get_ref());
            read(&mut table.strict(path, Some((name, value))), name.get_ref())
        };
        in_order(entry).into_iter().map(&mut read).collect()
    }

    /// Reads the tables in the list `key`, which their own key `id` tells apart; leaves out those for which `read` returns `None`.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        id: &'static str,
        mut read: impl FnMut(&mut Table<'_, 'a>) -> Option<T>,
    ) -> Vec<T> {
        let Some((name, value)) = self.entry(key) else { return Vec::new() };
        let array =
            value.get_ref().as_array().filter(|array| array.iter().all(|one| one.get_ref().is_table()));
        let Some(array) = array else {
            return self.checked(key, wrong_type(value, TABLES)).unwrap_or_default();
        };
        let mut kept = Vec::new();
        for value in array {
            let path = self.path.clone().key(key).index(kept.len());
            let recorded = self.reading.values.len();
            match read(&mut self.strict(path.clone(), Some((name, value)))) {
                Some(table) => {
                    self.reading.values.name_table(recorded, &path, id);
                    kept.push(table);
                }
                None => {
                    self.reading.values.truncate(recorded);
                    self.reading.diagnostics.source_mut().forget(&path);
                }
            }
        }
        kept
    }

    /// Reads every key of the table `key` with its value as written, in the order of the file. Whether the keys are
    /// known is for the module to say.
    pub(super) fn settings(&mut self, key: &'static str) -> Vec<(String, String)> {
        let entry = self.entry(key);
        let mut table = self.child(self.path.clone().key(key), entry);
        let mut read = |(key, value): (&Spanned<Cow<str>>, &Spanned<DeValue>)| {
            let name = key.get_ref();
            let setting = table.checked(name, setting(value))?;
            let path = table.path.clone().name(&**name);
            table.record(path.clone(), key.span(), value.span());
            table.reading.values.record(path, setting.show());
            Some((name.to_string(), setting))
        };
        in_order(entry).into_iter().filter_map(&mut read).collect()
    }

    fn entry(&mut self, key: &'static str) -> Option<(&'a Spanned<Cow<'a, str>>, &'a Spanned<DeValue<'a>>)> {
        let known = (self.path.shape(), key);
        if !self.reading.known.contains(&known) {
            self.reading.known.push(known);
        }
        self.entries?.get_key_value(key)
    }

    /// Returns a table in which unknown keys are errors.
    fn strict(
        &mut self,
        path: KeyPath,
        entry: Option<(&'a Spanned<Cow<'a, str>>, &'a Spanned<DeValue<'a>>)>,
    ) -> Table<'_, 'a> {
        let child = self.child(path, entry);
        child.reading.strict.extend(child.entries.map(|entries| (child.path.clone(), entries)));
        child
    }

    fn child(
        &mut self,
        path: KeyPath,
        entry: Option<(&'a Spanned<Cow<'a, str>>, &'a Spanned<DeValue<'a>>)>,
    ) -> Table<'_, 'a> {
        let entries = entry.and_then(|(_, value)| value.get_ref().as_table());
        match entry {
            Some((key, value)) if entries.is_some() => self.record(path.clone(), key.span(), value.span()),
            Some((key, value)) => drop(self.checked::<()>(key.get_ref(), wrong_type(value, "a table"))),
            None => {}
        }
        let header = entry.map_or(0..0, |(_, value)| value.span());
        Table { path, entries, header, reading: self.reading }
    }

    fn record(&mut self, path: KeyPath, key: Range<usize>, value: Range<usize>) {
        self.reading.diagnostics.source_mut().record(path, Entry { key, value });
    }
}

/// Whether a value names the file or the variable of a secret, which is no secret itself.
fn is_reference(value: &Spanned<DeValue>) -> bool {
    let table = value.get_ref().as_table().filter(|table| table.len() == 1);
    table.is_some_and(|table| table.iter().all(|(key, _)| ["file", "env"].contains(&&**key.get_ref())))
}

/// Returns the entries of a table in the order of the file.
fn in_order<'a>(
    entry: Option<(&'a Spanned<Cow<'a, str>>, &'a Spanned<DeValue<'a>>)>,
) -> Vec<(&'a Spanned<Cow<'a, str>>, &'a Spanned<DeValue<'a>>)> {
    let table = entry.and_then(|(_, value)| value.get_ref().as_table());
    let mut entries: Vec<_> = table.into_iter().flatten().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

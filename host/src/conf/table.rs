//! Reads the file table by table, key by key.
//!
//! Why not serde: a serde type ends at its first mistake, and a configuration shows all of them at once. Here a
//! faulty value is noted and its default taken, and reading goes on. A key is known because it was asked for,
//! so a key is one line in `schema.rs`, with its kind and its default.

use std::borrow::Cow;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostics::{Diagnostics, Place, Source};
use super::mistake::{Hint, Mistake, TABLES, closest};
use super::value::{Fault, Kind, Value, setting, wrong_type};

type Key<'a> = Spanned<Cow<'a, str>>;

/// What one reading of a file gathers.
pub(super) struct Reading<'a> {
    pub(super) diagnostics: Diagnostics,
    /// Keys that were asked for, with the shape of their table.
    pub(super) known: Vec<(String, &'static str)>,
    /// Tables whose keys have to be known.
    strict: Vec<(Path, &'a DeTable<'a>)>,
}

/// Where a table is.
#[derive(Clone, Default)]
struct Path {
    /// As its header is written, without brackets: `vhost."example.com".play`.
    written: String,
    /// The same for all tables with the same keys: `vhost.*.play`.
    shape: String,
}

impl Path {
    fn child(&self, written: &str, shape: &str) -> Path {
        let join = |parent: &str, name: &str| match parent {
            "" => name.to_owned(),
            _ => format!("{parent}.{name}"),
        };
        Path { written: join(&self.written, written), shape: join(&self.shape, shape) }
    }

    fn header(&self) -> String {
        if self.written.is_empty() { "the file".to_owned() } else { format!("[{}]", self.written) }
    }
}

/// A table of the file, or an absent one, whose keys have their defaults.
pub(super) struct Table<'r, 'a> {
    reading: &'r mut Reading<'a>,
    path: Path,
    entries: Option<&'a DeTable<'a>>,
    place: Place,
}

impl<'a> Reading<'a> {
    pub(super) fn new(diagnostics: Diagnostics) -> Reading<'a> {
        Reading { diagnostics, known: Vec::new(), strict: Vec::new() }
    }

    /// Reads the root table, then reports every key that nothing asked for.
    pub(super) fn read<T>(&mut self, root: &'a DeTable<'a>, read: impl FnOnce(&mut Table<'_, 'a>) -> T) -> T {
        let path = Path::default();
        self.strict.push((path.clone(), root));
        let result = read(&mut Table { reading: self, path, entries: Some(root), place: Place::NONE });
        for (path, entries) in std::mem::take(&mut self.strict) {
            let known: Vec<_> =
                self.known.iter().filter(|(shape, _)| *shape == path.shape).map(|(_, key)| *key).collect();
            for (key, value) in entries.iter().filter(|(key, _)| !known.contains(&&**key.get_ref())) {
                let hint = self.hint(&path, &known, key.get_ref(), value);
                let mistake = Mistake::UnknownKey { table: path.header(), hint };
                self.report(key.get_ref(), (mistake, key.span()));
            }
        }
        result
    }

    fn hint(&self, path: &Path, known: &[&'static str], key: &str, value: &Value) -> Hint {
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
            DeValue::Table(_) if path.shape == "vhost.*" => Hint::Unquoted,
            _ => Hint::Known(known.to_vec()),
        }
    }

    fn report(&mut self, key: &str, (mistake, span): Fault) {
        let title = match &mistake {
            Mistake::UnknownKey { .. } => format!("unknown key `{key}`"),
            Mistake::WrongType { .. } => format!("wrong type for `{key}`"),
            Mistake::Pattern(_) => "bad mount pattern".to_owned(),
            Mistake::Target(_) => "bad redirect target".to_owned(),
            _ => format!("bad value for `{key}`"),
        };
        let diagnostic = self.diagnostics.error(title, &Place::new(span), &mistake);
        if let Some(help) = mistake.help() {
            diagnostic.help(help);
        }
    }
}

impl<'a> Table<'_, 'a> {
    /// The value of `key`, of a kind; `default` when it is absent or faulty.
    pub(super) fn key<T>(&mut self, key: &'static str, default: T, kind: impl Kind<T>) -> T {
        let read = self.entry(key).map(|(_, value)| kind(value));
        read.and_then(|read| self.checked(key, read)).unwrap_or(default)
    }

    /// What was read, unless it has faults: they are reported under `key`.
    pub(super) fn checked<T>(&mut self, key: &str, read: Result<T, Vec<Fault>>) -> Option<T> {
        let faults = match read {
            Ok(value) => return Some(value),
            Err(faults) => faults,
        };
        faults.into_iter().for_each(|fault| self.reading.report(key, fault));
        None
    }

    /// The table `key`, read by `read`, though it be absent.
    pub(super) fn table<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Table<'_, 'a>) -> T) -> T {
        let entry = self.entry(key);
        read(&mut self.strict(key, entry))
    }

    /// The tables in table `key`, each with its name, in the order of the file.
    pub(super) fn named<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Table<'_, 'a>, &str) -> T,
    ) -> Vec<T> {
        let entry = self.entry(key);
        let mut table = self.child(key, key, entry);
        let mut read = |(name, value): (&'a Key<'a>, _)| {
            let quoted = toml::Value::from(&**name.get_ref()).to_string();
            let mut child = table.child(&quoted, "*", Some((name, value)));
            child.place = Place::new(name.span());
            child.reading.strict.extend(child.entries.map(|entries| (child.path.clone(), entries)));
            read(&mut child, name.get_ref())
        };
        in_order(entry).into_iter().map(&mut read).collect()
    }

    /// The tables in the list `key`.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Table<'_, 'a>) -> T,
    ) -> Vec<T> {
        let Some((name, value)) = self.entry(key) else { return Vec::new() };
        match value.get_ref() {
            DeValue::Array(array) if array.iter().all(|value| value.get_ref().is_table()) => {
                array.iter().map(|value| read(&mut self.strict(key, Some((name, value))))).collect()
            }
            _ => self.checked(key, wrong_type(value, TABLES)).unwrap_or_default(),
        }
    }

    /// Every key of the table `key` and its setting, for someone else to judge, in the order of the file.
    pub(super) fn settings(&mut self, key: &'static str) -> Vec<Setting> {
        let entry = self.entry(key);
        let mut table = self.child(key, key, entry);
        let mut read = |(key, value): (&Key, &Value)| {
            let value = table.checked(key.get_ref(), setting(value)).zip(Some(Place::new(value.span())));
            Some(Setting { key: (key.get_ref().to_string(), Place::new(key.span())), value: value? })
        };
        in_order(entry).into_iter().filter_map(&mut read).collect()
    }

    /// The file that the table is in.
    pub(super) fn source(&self) -> Arc<Source> {
        self.reading.diagnostics.source()
    }

    /// Where the table's header stands; of a named one, the name.
    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    fn entry(&mut self, key: &'static str) -> Option<(&'a Key<'a>, &'a Value<'a>)> {
        let known = (self.path.shape.clone(), key);
        if !self.reading.known.contains(&known) {
            self.reading.known.push(known);
        }
        self.entries?.get_key_value(key)
    }

    /// A table whose keys have to be known.
    fn strict(&mut self, key: &'static str, entry: Option<(&'a Key<'a>, &'a Value<'a>)>) -> Table<'_, 'a> {
        let child = self.child(key, key, entry);
        child.reading.strict.extend(child.entries.map(|entries| (child.path.clone(), entries)));
        child
    }

    fn child(
        &mut self,
        written: &str,
        shape: &str,
        entry: Option<(&'a Key<'a>, &'a Value<'a>)>,
    ) -> Table<'_, 'a> {
        if let Some((key, value)) = entry.filter(|(_, value)| !value.get_ref().is_table()) {
            self.checked::<()>(key.get_ref(), wrong_type(value, "a table"));
        }
        Table {
            path: self.path.child(written, shape),
            entries: entry.and_then(|(_, value)| value.get_ref().as_table()),
            place: entry.map_or(Place::NONE, |(_, value)| Place::new(value.span())),
            reading: self.reading,
        }
    }
}

/// A key that the host does not know the meaning of, and its value as written.
pub(super) struct Setting {
    pub(super) key: (String, Place),
    pub(super) value: (String, Place),
}

/// The entries of a table in the order of the file.
fn in_order<'a>(entry: Option<(&'a Key<'a>, &'a Value<'a>)>) -> Vec<(&'a Key<'a>, &'a Value<'a>)> {
    let table = entry.and_then(|(_, value)| value.get_ref().as_table());
    let mut entries: Vec<_> = table.into_iter().flatten().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

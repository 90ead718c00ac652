//! Command lines of the form `--name value`.

use std::collections::BTreeMap;
use std::str::FromStr;

/// The options of a command line, each taken once with its default.
pub struct Args(BTreeMap<String, String>);

impl Args {
    /// Reads `--name value` pairs from the process's command line.
    ///
    /// # Panics
    /// On anything else: these programs are started by a script.
    pub fn from_env() -> Self {
        let mut options = BTreeMap::new();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").unwrap_or_else(|| panic!("expected --option, found {word}"));
            let value = words.next().unwrap_or_else(|| panic!("--{name} needs a value"));
            options.insert(name.to_owned(), value);
        }
        Self(options)
    }

    /// Takes the value of `--name`, or `default`.
    ///
    /// # Panics
    /// If the value does not parse.
    pub fn take<T: FromStr>(&mut self, name: &str, default: T) -> T {
        match self.0.remove(name) {
            None => default,
            Some(value) => value.parse().unwrap_or_else(|_| panic!("--{name}: bad value {value}")),
        }
    }

    /// Ends the parsing.
    ///
    /// # Panics
    /// If an option is left that nobody took.
    pub fn finish(self) {
        if let Some(name) = self.0.keys().next() {
            panic!("unknown option --{name}");
        }
    }
}

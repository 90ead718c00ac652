//! The config: any text gives a config or errors, whose report contains no secret of the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use remuxd::testing::conf::Config;
use toml::de::{DeTable, DeValue};

/// The shortest text that is looked for: a shorter one may be a part of a message.
const MIN_SECRET: usize = 8;

fuzz_target!(|text: &str| {
    // A secret may be in a file, and some files have no end.
    if text.contains("/dev") || text.contains("/proc") {
        return;
    }
    let (_, diagnostics) = Config::read_text(text, "fuzz.toml");
    let report = match diagnostics.finish() {
        Ok(warnings) => format!("{warnings}\n{}", warnings.lines().collect::<String>()),
        Err(errors) => errors.to_string(),
    };
    let (table, _) = DeTable::parse_recoverable(text);
    check(&DeValue::Table(table.into_inner()), text, &report);
});

/// Asserts that the report has no value of a key `secret`, unless the text has the same words elsewhere.
fn check(value: &DeValue, text: &str, report: &str) {
    match value {
        DeValue::Table(table) => {
            for (key, value) in table {
                match value.get_ref() {
                    DeValue::String(secret) if &**key.get_ref() == "secret" => {
                        let is_elsewhere = text.matches(&**secret).count() != 1;
                        let is_shown = report.contains(&**secret);
                        assert!(secret.len() < MIN_SECRET || is_elsewhere || !is_shown, "{report}");
                    }
                    value => check(value, text, report),
                }
            }
        }
        DeValue::Array(values) => values.iter().for_each(|value| check(value.get_ref(), text, report)),
        _ => {}
    }
}

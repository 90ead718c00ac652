//! Secrets that tests use, which no output of a host may show.

use std::sync::Mutex;

/// Part of every secret that tests write by hand.
pub const MARK: &str = "5ecret";

/// The token in the query of the publishers and viewers of tests.
pub const TOKEN: &str = "5ecretKey";

/// Secrets that this process generated.
static GENERATED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Remembers a secret that the test generated or shows to the host: a token, a signature. Returns it.
///
/// # Panics
/// When it is too short to be told from other text.
pub fn remember(secret: String) -> String {
    assert!(secret.len() >= 16, "too short for a secret");
    GENERATED.lock().expect("no holder panics").push(secret.clone());
    secret
}

/// Asserts that `output` has no secret. `whose` names it.
///
/// # Panics
/// When it has one.
#[track_caller]
pub fn assert_hidden(whose: &str, output: &str) {
    let generated = GENERATED.lock().expect("no holder panics").clone();
    let is_secret = |line: &&str| line.contains(MARK) || generated.iter().any(|secret| line.contains(secret));
    let lines: Vec<&str> = output.lines().filter(is_secret).collect();
    assert!(lines.is_empty(), "a secret in {whose}:\n{}", lines.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_secrets_by_hand_and_generated_ones() {
        let generated = remember("eyJ0123456789abcdef".into());
        for (output, hidden) in [
            ("a line\nanother".to_owned(), true),
            (format!("a line\nclient=?token={TOKEN}"), false),
            (format!("reason={generated}"), false),
            (generated[..10].to_owned(), true),
        ] {
            let found = std::panic::catch_unwind(|| assert_hidden("a text", &output));
            assert_eq!(found.is_ok(), hidden, "{output}");
        }
    }
}

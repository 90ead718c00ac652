//! Text of modules and libraries, made fit for a terminal and a log.

use std::fmt;

/// Longest text of a module in the log, in characters.
const MAX_LINE: usize = 1024;

/// Whether a character affects the text around it or a terminal instead of being visible: control characters, and those
/// that change the direction of a line.
pub fn is_hidden(c: char) -> bool {
    let redirects =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    c.is_control() || redirects
}

/// Appends a character, escaped if it is hidden.
pub fn push_visible(text: &mut impl fmt::Write, c: char) -> fmt::Result {
    if is_hidden(c) { write!(text, "{}", c.escape_default()) } else { text.write_char(c) }
}

/// Makes one line for the log: each run of white space and hidden characters becomes a space, and the line is cut.
pub fn one_line(text: &str) -> String {
    let mut line = String::new();
    let words = text.split(|c: char| c.is_whitespace() || is_hidden(c)).filter(|word| !word.is_empty());
    for word in words.take(MAX_LINE) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().take(MAX_LINE));
        if line.len() > MAX_LINE {
            break;
        }
    }
    line
}

/// Formats the last line of a process for the end of an error.
pub fn after(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(", after {said:?}") }
}

/// Names of signals 1 to 31, as Linux numbers them on all machines that the host supports.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Returns the name of a signal, or its number if it has none.
pub fn signal_name(signal: i32) -> String {
    let name = usize::try_from(signal).ok().and_then(|signal| SIGNALS.get(signal.checked_sub(1)?));
    name.map_or_else(|| format!("signal {signal}"), |name| format!("SIG{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names() {
        let rows = [
            (libc::SIGHUP, "SIGHUP"),
            (libc::SIGKILL, "SIGKILL"),
            (libc::SIGSEGV, "SIGSEGV"),
            (libc::SIGPIPE, "SIGPIPE"),
            (libc::SIGTERM, "SIGTERM"),
            (libc::SIGXCPU, "SIGXCPU"),
            (libc::SIGXFSZ, "SIGXFSZ"),
            (libc::SIGIO, "SIGIO"),
            (libc::SIGSYS, "SIGSYS"),
            (0, "signal 0"),
            (-1, "signal -1"),
            (32, "signal 32"),
        ];
        for (signal, name) in rows {
            assert_eq!(signal_name(signal), name);
        }
    }
}

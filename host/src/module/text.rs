//! Text: what modules and libraries say, made fit for a terminal and a log.

/// The longest text of a module that goes on to the log, in characters.
const MAX_LINE: usize = 1024;

/// Whether a character does something to the text around it, or to a terminal, instead of being seen: control characters, and
/// those that turn the direction of a line.
pub fn is_hidden(c: char) -> bool {
    let turns =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    c.is_control() || turns
}

/// A module's or a library's text, made fit for one line of the log: every run of white space and hidden characters a
/// space.
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

/// What a process said, to stand behind another text.
pub fn before(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(", after {said:?}") }
}

/// The names of signals 1 to 31, with the numbers that Linux gives them on all machines the host knows.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The name of a signal; of those without one, the number.
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

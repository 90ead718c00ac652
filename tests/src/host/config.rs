//! Configurations of hosts under test.

/// The table that enables the API, which tests ask for facts.
pub const API: &str = "[http_api]\nenabled = true\nlisten = \"127.0.0.1:0\"\n";

/// The table with which a host ends its streams at the first signal.
const AT_ONCE: &str = "[shutdown]\ngrace_start_wait = 0\nshutdown_grace = 0\n";

/// A configuration: one vhost, listeners on free ports, and the changes of a test. Values are TOML.
#[derive(Clone, Debug, Default)]
pub struct Config {
    top: String,
    rtmp: String,
    http: String,
    limits: String,
    publish: String,
    play: String,
    mounts: String,
}

impl Config {
    /// Returns a configuration with one mount, `/[app]/[stream].flv`. A stream ends for its viewers as soon as its
    /// publisher leaves, so that captures end. Publishers may be silent, and viewers wait, longer than by default: the
    /// machine may be busy.
    #[must_use]
    pub fn live() -> Config {
        Config::default()
            .publish("republish_wait", "\"0s\"")
            .publish("normal_timeout", "\"1m\"")
            .play("wait", "\"1m\"")
    }

    /// Sets a key of `[rtmp]`.
    #[must_use]
    pub fn rtmp(mut self, key: &str, value: &str) -> Config {
        set(&mut self.rtmp, key, value);
        self
    }

    /// Sets a key of `[http_server]`.
    #[must_use]
    pub fn http(mut self, key: &str, value: &str) -> Config {
        set(&mut self.http, key, value);
        self
    }

    /// Sets a key of `[limits]`.
    #[must_use]
    pub fn limits(mut self, key: &str, value: &str) -> Config {
        set(&mut self.limits, key, value);
        self
    }

    /// Sets a key of the vhost's `publish` table.
    #[must_use]
    pub fn publish(mut self, key: &str, value: &str) -> Config {
        set(&mut self.publish, key, value);
        self
    }

    /// Sets a key of the vhost's `play` table.
    #[must_use]
    pub fn play(mut self, key: &str, value: &str) -> Config {
        set(&mut self.play, key, value);
        self
    }

    /// Adds an `http_remux` of the vhost; the first replaces the default one.
    #[must_use]
    pub fn mount(mut self, keys: &str) -> Config {
        self.mounts.push_str(&format!("[[vhost.\"__defaultVhost__\".http_remux]]\nenabled = true\n{keys}\n"));
        self
    }

    /// Adds tables.
    #[must_use]
    pub fn tables(mut self, toml: &str) -> Config {
        self.top.push_str(toml);
        self.top.push('\n');
        self
    }

    /// Returns the file's text.
    #[must_use]
    pub fn toml(&self) -> String {
        let Config { top, rtmp, http, limits, publish, play, mounts } = self;
        let mounts = if mounts.is_empty() {
            "[[vhost.\"__defaultVhost__\".http_remux]]\nenabled = true\n".to_owned()
        } else {
            mounts.clone()
        };
        let rtmp = with_defaults("listen = [\"127.0.0.1:0\"]\n", rtmp);
        let http = with_defaults("enabled = true\nlisten = \"127.0.0.1:0\"\n", http);
        // All clients of a test have one address.
        let limits = with_defaults("accept_rate = 0\n", limits);
        let shutdown = if top.contains("[shutdown]") { "" } else { AT_ONCE };
        let api = if top.contains("[http_api]") { "" } else { API };
        format!(
            "[rtmp]\n{rtmp}[http_server]\n{http}{api}{shutdown}{top}[limits]\n{limits}[vhost.\"__defaultVhost__\".publish]\n{publish}\
             [vhost.\"__defaultVhost__\".play]\n{play}{mounts}"
        )
    }
}

/// Sets a key, and replaces an earlier value.
fn set(table: &mut String, key: &str, value: &str) {
    let start = format!("{key} = ");
    *table = table.lines().filter(|line| !line.starts_with(&start)).map(|line| format!("{line}\n")).collect();
    table.push_str(&format!("{start}{value}\n"));
}

/// Returns the keys of `table`, and those of `defaults` that it lacks.
fn with_defaults(defaults: &str, table: &str) -> String {
    let key = |line: &str| line.split_once(" = ").map(|(key, _)| key.to_owned());
    let own: Vec<_> = table.lines().map(key).collect();
    defaults
        .lines()
        .filter(|line| !own.contains(&key(line)))
        .map(|line| format!("{line}\n"))
        .collect::<String>()
        + table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_key_counts() {
        let toml = Config::live().publish("republish_wait", "\"5s\"").play("wait", "\"1s\"").toml();
        assert_eq!(toml.matches("republish_wait").count(), 1, "{toml}");
        assert!(toml.contains("republish_wait = \"5s\""), "{toml}");
        assert!(toml.contains("http_remux"), "{toml}");
        let toml = Config::live().http("enabled", "false").toml();
        assert!(toml.contains("[http_server]\nlisten = \"127.0.0.1:0\"\nenabled = false\n"), "{toml}");
    }
}

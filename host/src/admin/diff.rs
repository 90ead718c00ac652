//! The difference that a reload makes: each key that changes, when that takes effect, and whom it touches.
//!
//! A dry run and a reload report the result of the same function. A key that it does not know touches all that it could, so a new
//! key needs a line here only if the line is better than that.

use std::collections::HashMap;

use super::change::{ChangeReport, Effect, Touched};
use crate::conf::{Config, Difference, DifferenceKind, KeyPath, ReloadMode};
use crate::policy::{Access, Action};
use crate::stream::Hub;

/// The clients of a host, by vhost and by mount.
#[derive(Debug, Default)]
pub(super) struct Audience {
    all: Touched,
    vhosts: HashMap<String, Touched>,
    /// Viewers by vhost and by the pattern of their mount.
    mounts: HashMap<(String, String), usize>,
    /// Viewers by module.
    modules: HashMap<String, usize>,
}

impl Audience {
    /// Counts the clients that are there now.
    pub fn of(access: &Access, hub: &Hub) -> Audience {
        let mut audience = Audience::default();
        for session in access.sessions() {
            let touched = match session.action() {
                Action::Publish => Touched { publishers: 1, ..Touched::default() },
                Action::Play => Touched { viewers: 1, ..Touched::default() },
            };
            audience.all = audience.all + touched;
            let vhost = audience.vhosts.entry(session.key().vhost.to_string()).or_default();
            *vhost = *vhost + touched;
        }
        for stream in hub.streams() {
            for mount in stream.live_mounts() {
                let viewers = mount.viewers();
                let key = (stream.key().vhost.to_string(), mount.pattern());
                *audience.mounts.entry(key).or_default() += viewers;
                *audience.modules.entry(mount.module().name().to_owned()).or_default() += viewers;
            }
        }
        audience
    }

    /// Number of viewers of the mounts that a module serves.
    pub fn of_module(&self, name: &str) -> usize {
        self.modules.get(name).copied().unwrap_or_default()
    }

    fn of_vhost(&self, name: &str) -> Touched {
        self.vhosts.get(name).copied().unwrap_or_default()
    }

    fn of_mount(&self, vhost: &str, pattern: &str) -> Touched {
        let viewers = self.mounts.get(&(vhost.to_owned(), pattern.to_owned()));
        Touched { viewers: viewers.copied().unwrap_or_default(), publishers: 0 }
    }
}

/// Returns the changes from `old` to `new` that a reload makes, and after them those that need a restart, which are judged from
/// the config that the host was `started` with.
pub(super) fn changes(
    started: &Config,
    old: &Config,
    new: &Config,
    audience: &Audience,
) -> Vec<ChangeReport> {
    let made = old.differences(new).into_iter().filter(|one| restart_reason(&one.path).is_none());
    let made = made.map(|one| {
        let (effect, touched) = effect_of(&one, new.modules.reload, audience);
        ChangeReport::of(&one, effect, touched)
    });
    let later = started.differences(new).into_iter().filter_map(|one| {
        let reason = restart_reason(&one.path)?.to_owned();
        let report = ChangeReport::of(&one, Effect::NextStart, Touched::default());
        Some(ChangeReport { reason: Some(reason), ..report })
    });
    made.chain(later).collect()
}

/// Returns why a key takes effect at the next start only; `None` for all others.
fn restart_reason(path: &KeyPath) -> Option<&'static str> {
    let keys: Vec<_> = path.keys().collect();
    match keys[..] {
        ["admin", "socket"] => Some("the commands find the running host by this path"),
        _ => None,
    }
}

/// Returns when a difference takes effect, and whom it touches.
fn effect_of(difference: &Difference, mode: ReloadMode, audience: &Audience) -> (Effect, Touched) {
    let Difference { path, kind } = difference;
    let keys: Vec<_> = path.keys().collect();
    let mut names = path.names();
    let (vhost, second) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
    let nobody = Touched::default();
    let own = audience.of_vhost(vhost);
    match (&keys[..], kind) {
        (["vhost"], DifferenceKind::Removed) => (Effect::Drained, own),
        (["vhost", "enabled"], DifferenceKind::Changed { new, .. }) => {
            match new.as_ref().is_some_and(|new| new.to_string() == "false") {
                true => (Effect::Drained, own),
                false => (Effect::AtOnce, nobody),
            }
        }
        (["vhost", "http_remux"], DifferenceKind::Removed) => {
            (Effect::Drained, audience.of_mount(vhost, second))
        }
        (["vhost", "http_remux", "options"], DifferenceKind::Changed { .. }) => {
            let effect = match mode {
                ReloadMode::Handover => Effect::HandedOver,
                ReloadMode::Drain => Effect::Drained,
            };
            (effect, audience.of_mount(vhost, second))
        }
        (["vhost", "http_remux", ..], DifferenceKind::Changed { .. }) => (Effect::AtOnce, nobody),
        (_, DifferenceKind::Added) | (["vhost", "redirect", ..], _) => (Effect::AtOnce, nobody),
        (["vhost", "play", "gop_cache" | "wait"], _) | (["vhost", "publish", "publish_conflict"], _) => {
            (Effect::AtOnce, nobody)
        }
        (["vhost", "publish", "normal_timeout" | "republish_wait"] | ["vhost", "play", ..], _) => {
            (Effect::Live, own)
        }
        (["vhost", ..], _) => (Effect::NewClients, own),
        (["module", ..], _)
        | (["modules", "dir" | "load" | "optional" | "max_output" | "max_faults" | "unload"], _) => {
            (Effect::Generations, nobody)
        }
        (["limits", "max_memory"], _) => (Effect::AtOnce, nobody),
        (
            ["limits" | "proxy", ..] | ["rtmp", "chunk_size" | "window_ack_size"] | [.., "proxy_protocol"],
            _,
        ) => (Effect::NewClients, audience.all),
        _ => (Effect::AtOnce, nobody),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audience() -> Audience {
        let (seven, two) = (Touched { viewers: 7, publishers: 2 }, Touched { viewers: 2, publishers: 1 });
        let mount = |pattern: &str, viewers| (("a".to_owned(), pattern.to_owned()), viewers);
        Audience {
            all: seven,
            vhosts: [("a".to_owned(), two)].into(),
            mounts: [mount("/[app]/[stream].flv", 1), mount("/[app]/[stream].ts", 1)].into(),
            modules: [("flv".to_owned(), 1)].into(),
        }
    }

    #[test]
    fn every_change_says_when_it_takes_effect_and_whom_it_touches() {
        let read = |text: &str| Config::read_text(text, "text").0;
        let base = "[[vhost.a.http_remux]]\nenabled = true\nmount = \"/[app]/[stream].flv\"\n\
            [[vhost.a.http_remux]]\nenabled = true\nmount = \"/[app]/[stream].ts\"\n";
        let without_ts = base.split_inclusive('\n').take(3).collect::<String>();
        let rows: [(&str, &str); 15] = [
            (base, ""),
            (
                &without_ts,
                "vhost.\"a\".http_remux.\"/[app]/[stream].ts\": removed; not for 1 viewer, until they leave",
            ),
            ("", "vhost.\"a\": removed; not for 2 viewers and 1 publisher, until they leave"),
            (&format!("{base}[vhost.b]"), "vhost.\"b\": added; at once"),
            (&format!("{base}[vhost.a.play]\nwait = 3"), "vhost.\"a\".play.wait: 10s -> 3s; at once"),
            (
                &format!("{base}[vhost.a.play]\nmerge_write = 1"),
                "vhost.\"a\".play.merge_write: 40ms -> 1s; at once, for 2 viewers and 1 publisher",
            ),
            (
                &format!("{base}[vhost.a.http_remux.options]\nx = 1"),
                "vhost.\"a\".http_remux.\"/[app]/[stream].ts\".options.\"x\": not set -> 1; at the next keyframe, for 1 viewer",
            ),
            (
                &format!("{base}[vhost.a.http_remux.options]\nx = 1\n[modules]\nreload = \"drain\""),
                "modules.reload: handover -> drain; at once\n\
                 vhost.\"a\".http_remux.\"/[app]/[stream].ts\".options.\"x\": not set -> 1; not for 1 viewer, until they leave",
            ),
            (
                &format!("{base}fast_cache = 1"),
                "vhost.\"a\".http_remux.\"/[app]/[stream].ts\".fast_cache: 5s -> 1s; at once",
            ),
            (
                &format!("{base}[vhost.a.security]\nenabled = true"),
                "vhost.\"a\".security.enabled: false -> true; for new clients, not for 2 viewers and 1 publisher",
            ),
            (
                &format!("[vhost.a]\nenabled = false\n{base}"),
                "vhost.\"a\".enabled: true -> false; not for 2 viewers and 1 publisher, until they leave",
            ),
            (
                &format!("{base}[limits]\nmax_viewers = 9"),
                "limits.max_viewers: 0 -> 9; for new clients, not for 7 viewers and 2 publishers",
            ),
            (&format!("{base}[shutdown]\nshutdown_grace = 1"), "shutdown.shutdown_grace: 10s -> 1s; at once"),
            (
                &format!("{base}[modules]\nmax_faults = 9"),
                "modules.max_faults: 5 -> 9; by new generations of the modules",
            ),
            (
                &format!("{base}[admin]\nsocket = \"/x\""),
                "admin.socket: \"\" -> /x; takes effect at the next start: the commands find the running host by this path",
            ),
        ];
        let old = read(base);
        for (text, expected) in rows {
            let found = changes(&old, &old, &read(text), &audience());
            let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
            assert_eq!(lines.join("\n"), expected, "{text}");
        }
        // What needs a restart is reported until then, whatever a reload has applied since.
        let pending = read(&format!("{base}[admin]\nsocket = \"/x\""));
        let found = changes(&old, &pending, &pending, &audience());
        assert_eq!(found.iter().map(|one| one.effect).collect::<Vec<_>>(), [Effect::NextStart]);
    }
}

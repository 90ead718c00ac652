//! A thousand viewers while the config is reloaded in every way, well and badly: nobody is dropped.

#[path = "../proof/light.rs"]
mod light;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Duration;

use remuxd_tests::host::{Config, Host};
use remuxd_tests::module_dir::{ModuleDir, bytes};
use remuxd_tests::proxy::free_address;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tls::{Certificate, Files};
use remuxd_tests::wait::wait_until;
use tokio_util::sync::CancellationToken;

use crate::reload::scene::MODULES;
use light::{Format, Seen, watch};

const VIEWERS: usize = 1000;
const GOOD: usize = 50;
const BROKEN: usize = 20;

/// Time for a thousand viewers on a busy machine.
const LONG: Duration = Duration::from_secs(150);

/// A sequence of numbers that is the same in each run.
struct Random(u64);

impl Random {
    /// Returns a number below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        // Knuth's constants; the high bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// A config that is changed step by step.
struct Draft {
    modules: ModuleDir,
    scratch: Scratch,
    files: Files,
    /// Keys of the tables of a [`Config`].
    limits: BTreeMap<&'static str, String>,
    play: BTreeMap<&'static str, String>,
    publish: BTreeMap<&'static str, String>,
    http: BTreeMap<&'static str, String>,
    rtmp: BTreeMap<&'static str, String>,
    /// Further tables, by name.
    tables: BTreeMap<&'static str, String>,
    /// The mounts beside FLV, and whether each is there.
    mounts: BTreeMap<&'static str, bool>,
    options: String,
    module_keys: String,
    build: u32,
}

/// The ways to change a draft.
const KINDS: [&str; 25] = [
    "connections",
    "rates",
    "timeouts",
    "memory",
    "proxies",
    "level",
    "access log",
    "files",
    "origins",
    "http",
    "rtmp",
    "tls",
    "pace",
    "window",
    "gop",
    "times",
    "options",
    "mount",
    "another mount",
    "vhost",
    "access",
    "session limits",
    "api",
    "workers",
    "build",
];

impl Draft {
    fn new() -> Draft {
        let tables = |pairs: &[(&'static str, &str)]| {
            pairs.iter().map(|(key, value)| (*key, (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        Draft {
            modules: ModuleDir::with(&MODULES),
            scratch: Scratch::new(),
            files: Files::of(&Certificate::of(&["127.0.0.1"])),
            limits: BTreeMap::new(),
            // A thousand viewers cost little at this pace, and none of them falls behind.
            play: tables(&[("merge_write", "\"300ms\""), ("queue_length", "600")]),
            publish: BTreeMap::new(),
            http: BTreeMap::new(),
            rtmp: BTreeMap::new(),
            tables: BTreeMap::new(),
            mounts: [("ts", true), ("aac", true)].into(),
            options: String::new(),
            module_keys: String::new(),
            build: 0,
        }
    }

    fn toml(&self) -> String {
        let set = |config: Config, keys: &BTreeMap<&str, String>, with: fn(Config, &str, &str) -> Config| {
            keys.iter().fold(config, |config, (key, value)| with(config, key, value))
        };
        let mut config = Config::live();
        config = set(config, &self.limits, |config, key, value| config.limits(key, value));
        config = set(config, &self.play, |config, key, value| config.play(key, value));
        config = set(config, &self.publish, |config, key, value| config.publish(key, value));
        config = set(config, &self.http, |config, key, value| config.http(key, value));
        config = set(config, &self.rtmp, |config, key, value| config.rtmp(key, value));
        config = config.mount(&format!(
            "mount = \"/[app]/[stream].flv\"\n[vhost.\"__defaultVhost__\".http_remux.options]\n{}",
            self.options
        ));
        for (extension, _) in self.mounts.iter().filter(|(_, there)| **there) {
            config = config.mount(&format!("mount = \"/[app]/[stream].{extension}\""));
        }
        let tables = self.tables.values().fold(config, |config, table| config.tables(table));
        tables.tables(&self.modules.table(&MODULES, &self.module_keys)).toml()
    }

    /// Changes the draft in one way.
    fn change(&mut self, kind: &'static str, step: usize, random: &mut Random) {
        // Never the value of the last time.
        let number = 1 + 2 * step + random.below(2);
        let mut table = |name: &'static str, keys: String| {
            self.tables.insert(name, format!("[{name}]\n{keys}"));
        };
        match kind {
            "connections" => {
                self.limits.insert("max_connections", (2000 + number).to_string());
                self.limits.insert("max_connections_per_address", (2000 + number).to_string());
            }
            "rates" => {
                self.limits.insert("receive_rate", format!("\"{}KiB\"", 512 + number));
            }
            "timeouts" => {
                self.limits.insert("send_timeout", (120 + number).to_string());
                self.limits.insert("handshake_timeout", (30 + number).to_string());
                self.limits.insert("media_timeout", (300 + number).to_string());
            }
            "memory" => {
                self.limits.insert("max_memory", format!("\"{}MiB\"", 1024 + number));
            }
            "proxies" => table("proxy", format!("trusted = [\"192.0.2.{number}\"]")),
            "level" => {
                let format = ["text", "json"][step % 2];
                table("log", format!("level = \"remuxd::admin=debug,info\"\nformat = \"{format}\""));
            }
            "access log" => {
                let file = self.scratch.join(&format!("access-{step}.log"));
                table("log.access", format!("file = {file:?}"));
            }
            "files" => {
                let dir = self.scratch.join(&format!("files-{step}"));
                std::fs::create_dir(&dir).unwrap();
                self.http.insert("dir", format!("{dir:?}"));
            }
            "origins" => {
                self.http.insert("origins", format!("[\"https://{number}.example\"]"));
            }
            "http" => {
                self.http.insert("listen", format!("\"{}\"", free_address()));
            }
            "rtmp" => {
                self.rtmp.insert("listen", format!("[\"{}\", \"127.0.0.1:0\"]", free_address()));
                self.rtmp.insert("chunk_size", (4096 + number).to_string());
            }
            "tls" => match self.tables.remove("tls") {
                Some(_) => {}
                None => drop(self.tables.insert("tls", self.files.listeners())),
            },
            "pace" => {
                self.play.insert("merge_write", format!("\"{}ms\"", 250 + number));
            }
            "window" => {
                self.play.insert("queue_length", (600 + number).to_string());
                self.play.insert("idle_timeout", (10 + number).to_string());
            }
            "gop" => {
                self.play.insert("gop_cache", ["false", "true"][step % 2].to_owned());
                self.play.insert("gop_cache_max_frames", (2000 + number).to_string());
            }
            "times" => {
                self.publish.insert("normal_timeout", (60 + number).to_string());
                self.publish.insert("republish_wait", number.to_string());
                self.play.insert("wait", (60 + number).to_string());
            }
            "options" => {
                self.options = format!("header_wait = {number}\ncolor_info = {}", step.is_multiple_of(2))
            }
            "mount" => *self.mounts.get_mut("aac").unwrap() ^= true,
            "another mount" => *self.mounts.get_mut("ts").unwrap() ^= true,
            "vhost" => {
                let host = format!("[vhost.\"{number}.example\"]\nenabled = true");
                self.tables.insert("vhost", host);
            }
            "access" => {
                let rules = format!(
                    "enabled = true\n[vhost.\"__defaultVhost__\".security.play]\nallow = [\"127.0.0.1\", \"192.0.2.{number}\"]\n[vhost.\"__defaultVhost__\".security.publish]\nallow = [\"all\"]"
                );
                table("vhost.\"__defaultVhost__\".security", rules);
            }
            "session limits" => {
                self.limits.insert("max_viewers", (1 + number).to_string());
                self.limits.insert("max_publishers", (1 + number).to_string());
            }
            "api" => table(
                "http_api",
                format!("enabled = true\nlisten = \"127.0.0.1:0\"\nhosts = [\"{number}.example\"]"),
            ),
            "workers" => {
                self.module_keys = format!("workers = {}\ncall_timeout = {}", 1 + step % 3, 20 + step % 30);
            }
            "build" => {
                self.build += 1;
                let build = self.build;
                MODULES.iter().for_each(|name| self.modules.put_build(name, build));
            }
            _ => unreachable!("{kind}"),
        }
    }

    /// Returns a config that must be refused, and what the report says of it. Module files are put back by the next good
    /// build or by `repair`.
    fn broken(&mut self, step: usize, taken: &TcpListener) -> (String, String) {
        let toml = self.toml();
        let set = |table: &str, line: &str| {
            toml.replacen(&format!("[{table}]\n"), &format!("[{table}]\n{line}\n"), 1)
        };
        let address = taken.local_addr().unwrap();
        match step % 10 {
            0 => (format!("{toml}]"), "not TOML".to_owned()),
            1 => (set("limits", "max_conections = 1"), "unknown key".to_owned()),
            2 => (set("limits", "max_message = 1"), "bad value".to_owned()),
            3 => (
                format!("{toml}\n[log.access]\nfile = \"{}\"", self.scratch.join("no/such.log").display()),
                "error".to_owned(),
            ),
            4 => (
                format!(
                    "{toml}\n[[vhost.\"taken.example\".http_remux]]\nenabled = true\nmount = \"/[app]/[stream].flv\""
                ),
                "answer the same path".to_owned(),
            ),
            5 => (
                format!(
                    "{toml}\n[[vhost.\"none.example\".http_remux]]\nenabled = true\nmount = \"/x/[app]/[stream].none\""
                ),
                "no loaded module answers".to_owned(),
            ),
            6 => (
                format!(
                    "{toml}\n[vhost.\"cert.example\".https]\nkey = \"/none\"\ncert = \"/none\"\n[rtmps]\nenabled = true\nlisten = \"127.0.0.1:0\"\nkey = \"/none\"\ncert = \"/none\""
                ),
                "error".to_owned(),
            ),
            7 => {
                let rtmp = self.rtmp.insert("listen", format!("[\"127.0.0.1:0\", \"{address}\"]"));
                let broken = self.toml();
                match rtmp {
                    Some(before) => self.rtmp.insert("listen", before),
                    None => self.rtmp.remove("listen"),
                };
                (broken, format!("cannot listen on {address}"))
            }
            8 => {
                self.modules.put("ts", &bytes("ts")[..1000]);
                (set("limits", "max_buffered = \"40MiB\""), "refused    at ".to_owned())
            }
            _ => {
                self.modules.put("flv", b"#!/bin/sh\n");
                (toml.clone(), "not a shared library".to_owned())
            }
        }
    }

    /// Puts the files of the current build back.
    fn repair(&self) {
        MODULES.iter().for_each(|name| match self.build {
            0 => self.modules.put(name, &bytes(name)),
            build => self.modules.put_build(name, build),
        });
    }
}

/// Starts the viewers, of all formats alike, on a thread of their own. They watch until the stream ends.
fn start_viewers(host: &Host, key: &str) -> JoinHandle<Vec<Seen>> {
    let (address, key) = (host.http, key.to_owned());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut viewers = Vec::new();
            for number in 0..VIEWERS {
                viewers.push(tokio::spawn(watch(
                    address,
                    Format::ALL[number % 4],
                    key.clone(),
                    CancellationToken::new(),
                )));
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            let mut seen = Vec::new();
            for viewer in viewers {
                seen.push(viewer.await.unwrap());
            }
            seen
        })
    })
}

fn reload(host: &Host, toml: &str) -> (bool, String) {
    host.write_config(toml);
    let output = host.command(&["reload"]);
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

/// Number of viewers, as the host counts them.
fn viewers(host: &Host) -> usize {
    host.sessions().iter().filter(|row| row[1] == "play").count()
}

#[test]
fn a_thousand_viewers_notice_nothing_of_seventy_reloads_of_every_kind() {
    let mut draft = Draft::new();
    let host = Host::start_toml(&draft.toml());
    let key = host.key("crowd");
    let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(300));
    let crowd = start_viewers(&host, &key);
    wait_until(LONG, "all viewers watch", || viewers(&host) == VIEWERS);

    // Every kind twice, and the broken ones between them, in an order that is the same in each run.
    let mut random = Random(14);
    let mut steps: Vec<Option<&str>> = KINDS.iter().cycle().take(GOOD).map(|kind| Some(*kind)).collect();
    steps.extend([None; BROKEN]);
    (1..steps.len()).rev().for_each(|at| steps.swap(at, random.below(at + 1)));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut good, mut refused) = (0, 0);
    for (step, kind) in steps.into_iter().enumerate() {
        match kind {
            Some(kind) => {
                draft.change(kind, step, &mut random);
                // A build is refused if a busy machine takes too long to try it.
                wait_until(LONG, "the reload is applied", || {
                    let (is_applied, printed) = reload(&host, &draft.toml());
                    assert!(is_applied || printed.contains("takes longer than"), "{step} {kind}: {printed}");
                    assert!(!is_applied || printed.contains("\nreloaded in "), "{step} {kind}: {printed}");
                    is_applied
                });
                good += 1;
            }
            None => {
                let (toml, reason) = draft.broken(refused, &taken);
                let (is_applied, printed) = reload(&host, &toml);
                assert!(!is_applied && printed.contains(&reason), "{step}: {printed}");
                assert!(printed.contains("refused; nothing has changed"), "{step}: {printed}");
                draft.repair();
                refused += 1;
            }
        }
        assert_eq!(viewers(&host), VIEWERS, "after step {step}, {kind:?}");
    }
    assert_eq!((good, refused), (GOOD, BROKEN));

    publisher.stop();
    let seen = crowd.join().unwrap();
    let faults: Vec<_> = seen.iter().filter_map(|seen| Some((seen.format, seen.fault.as_ref()?))).collect();
    assert!(faults.is_empty(), "{} of {VIEWERS}: {:?}", faults.len(), &faults[..faults.len().min(5)]);
    assert!(seen.iter().all(|seen| seen.checked > 100), "{:?}", seen.iter().map(|seen| seen.checked).min());
}

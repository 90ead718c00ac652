//! Tests of reading a file.

mod errors;

use std::collections::BTreeMap;

use super::*;
use crate::conf::{DEFAULT_VHOST, ForwardedHeader, Isolation, PublishConflict};

const SAMPLE: &str = include_str!("../../../../../conf/remuxd.toml");

#[track_caller]
fn facts(text: &str) -> Vec<String> {
    let mut facts = Config::parse(text, "remuxd.toml").unwrap_err().facts();
    // Most texts are too short to be useful, which is a warning of its own.
    let unrelated = ["no vhost is enabled", "this mount is not enabled", "nobody can request this mount"];
    facts.retain(|fact| !unrelated.iter().any(|start| fact.contains(start)));
    facts
}

/// A commented-out default: `#key = value`, as `key = value`.
fn documented(line: &str) -> Option<&str> {
    line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphabetic))
}

/// The sample's lines below its introduction, each with the shape of its table.
fn sample() -> impl Iterator<Item = (String, &'static str)> {
    let mut shape = String::new();
    SAMPLE.lines().skip_while(|line| !line.starts_with('[')).map(move |line| {
        if line.starts_with('[') {
            let header = line.trim_matches(['[', ']']);
            shape = header.replace(&format!("\"{DEFAULT_VHOST}\""), "*").replace("\"flv\"", "*");
        }
        (shape.clone(), line)
    })
}

/// The text with all the sample's headers, the one enabled mount, and these lines.
fn only(keep: impl Fn(&'static str) -> Option<&'static str>) -> Config {
    let mut text = String::new();
    for (shape, line) in sample() {
        let mount = shape == "vhost.*.http_remux" && line.trim_start_matches('#').starts_with("enabled");
        let header = line.starts_with('[');
        let kept = if header || (mount && !line.starts_with('#')) {
            Some(line)
        } else if mount {
            None
        } else {
            keep(line)
        };
        text.extend(kept.map(|line| line.to_owned() + "\n"));
    }
    Config::parse(&text, "text").unwrap()
}

#[test]
fn sample_documents_the_built_in_defaults() {
    let defaults = only(|_| None);
    assert_eq!(only(documented), defaults);

    let empty = Config::default();
    assert!(empty.vhosts.is_empty() && empty.modules.own.is_empty());
    let modules = Modules { own: Vec::new(), ..defaults.modules.clone() };
    let values = empty.values.clone();
    assert_eq!(Config { vhosts: Vec::new(), modules, values, ..defaults }, empty);
}

#[test]
fn sample_documents_every_key() {
    let mut documents: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (shape, line) in sample() {
        if let Some((key, _)) = documented(line).and_then(|line| line.split_once(" = ")) {
            *documents.entry((shape, key.to_owned())).or_default() += 1;
        }
    }
    let (_, _, known) = read(SAMPLE, "remuxd.toml");
    let tables: Vec<_> = sample().map(|(shape, _)| shape).collect();
    for (shape, key) in known {
        let table = if shape.is_empty() { key.to_owned() } else { format!("{shape}.{key}") };
        if !tables.iter().any(|shape| *shape == table || shape.starts_with(&format!("{table}."))) {
            let documents = documents.remove(&(shape.clone(), key.to_owned()));
            assert_eq!(documents, Some(1), "`{key}` of [{shape}]");
        }
    }
    assert_eq!(documents, BTreeMap::new());
}

#[test]
fn sample_is_useful_as_it_is() {
    let config = Config::parse(SAMPLE, "remuxd.toml").unwrap();
    assert!(config.http_server.enabled);
    let [vhost] = &*config.vhosts else { panic!("{:?}", config.vhosts) };
    assert_eq!(vhost.name, DEFAULT_VHOST);
    let [mount] = &*vhost.mounts else { panic!("{:?}", vhost.mounts) };
    assert_eq!(mount.pattern.text, "[vhost]/[app]/[stream].flv");
}

#[test]
fn readme_and_demo_are_free_of_errors() {
    let readme = include_str!("../../../../../README.md");
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (readme, _) = rest.split_once("```").unwrap();
    for (text, name, mounts) in [(readme, "README.md", 2), (crate::demo::CONFIG, "demo.toml", 4)] {
        let config = Config::parse(text, name).unwrap();
        assert_eq!((config.http_server.enabled, config.vhosts[0].mounts.len()), (true, mounts), "{name}");
    }
}

#[test]
fn what_is_set_for_one_module_is_set_for_one_that_is_loaded() {
    let text = "[modules]\nload = [\"flv\", \"ts\"]\n[module.\"ts\"]\nisolation = \"process\"\nmax_memory = \"64MiB\"\n";
    let config = Config::parse(text, "remuxd.toml").unwrap();
    let [own] = &config.modules.own[..] else { panic!("{:?}", config.modules) };
    assert_eq!((&*own.name, own.isolation, own.max_memory), ("ts", Isolation::Process, 64 << 20));
    assert_eq!(
        facts("[module.\"flw\"]\n"),
        [
            "1:9: module `flw` is not loaded; set for a module that is not in modules.load; help: did you mean `flv`?"
        ]
    );
}

#[test]
fn reads_what_is_written() {
    let config = Config::parse(
        r#"
        [rtmp]
        listen = [1935, "[::1]:1936"]
        proxy_protocol = true
        [proxy]
        trusted = ["10.0.0.0/8", "::1"]
        headers = ["forwarded"]
        [log]
        format = "json"
        [modules]
        dir = "lib"
        [vhost."b.example.com"]
        publish.publish_conflict = "replace"
        [vhost."b.example.com".play]
        queue_length = 10
        merge_write = "1ms"
        [[vhost."b.example.com".http_remux]]
        enabled = true
        [vhost."b.example.com".http_remux.options]
        zeta = "legacy"
        alpha = 0x10
        [[vhost."b.example.com".http_remux]]
        mount = "/[app]/[stream].flv"
        [vhost.a]
        enabled = false
        "#,
        "remuxd.toml",
    )
    .unwrap();
    assert_eq!(config.rtmp.listen, ["0.0.0.0:1935".parse().unwrap(), "[::1]:1936".parse().unwrap()]);
    let trusts = |address: &str| config.proxy.trusts(address.parse().unwrap());
    assert!(trusts("10.1.2.3") && trusts("::ffff:10.1.2.3") && trusts("::1") && !trusts("11.0.0.1"));
    assert_eq!(config.proxy.headers, [ForwardedHeader::Forwarded]);
    assert!(config.log.json);
    assert_eq!(config.modules.dir.as_deref(), Some(Path::new("lib")));
    let [b, a] = &*config.vhosts else { panic!("{:?}", config.vhosts) };
    assert_eq!((&*b.name, b.enabled, &*a.name, a.enabled), ("b.example.com", true, "a", false));
    assert_eq!(b.publish.conflict, PublishConflict::Replace);
    assert_eq!(a.publish.conflict, PublishConflict::Reject, "vhosts inherit nothing from each other");
    assert_eq!((b.play.queue_length.as_secs(), b.play.merge_write.as_millis()), (10, 1));
    let [mount] = &*b.mounts else { panic!("a mount that is not enabled is not there") };
    let option = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(mount.options, [option("zeta", "legacy"), option("alpha", "16")], "in the order of the file");
}

#[test]
fn locations_are_no_part_of_a_config() {
    let text = "[[vhost.x.http_remux]]\nenabled = true\n[vhost.x.http_remux.options]\na = 1";
    assert_eq!(Config::parse(text, "a").unwrap(), Config::parse(&format!("\n\n{text}"), "b").unwrap());
}

#[test]
fn listeners_that_can_both_be_had_are_no_error() {
    for text in [
        "rtmp.listen = [0, 0]",
        "rtmp.listen = [\"127.0.0.1:1935\", \"127.0.0.2:1935\", \"[::]:1935\"]",
        "rtmp.listen = [8080]",
    ] {
        assert_eq!(Config::parse(text, "text").map_err(|report| report.to_string()).map(drop), Ok(()));
    }
}

#[test]
fn vhosts_have_names_that_requests_can_have() {
    for name in [DEFAULT_VHOST, "example.com", "127.0.0.1", "[::1]", "bücher.example"] {
        assert!(is_host_name(name), "{name}");
    }
    for name in ["", "http://a", "a/b", "a:80", "::1", "[::1]:80", "[a]", "*.a", "a b"] {
        assert!(!is_host_name(name), "{name}");
    }
}

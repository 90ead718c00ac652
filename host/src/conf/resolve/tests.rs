use std::collections::BTreeMap;

use super::*;
use crate::conf::{DEFAULT_VHOST, ForwardedHeader, Isolation, PublishConflict};

const SAMPLE: &str = include_str!("../../../../conf/remuxd.toml");

#[track_caller]
fn report(text: &str) -> String {
    Config::parse(text, "remuxd.toml").unwrap_err().to_string()
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
    assert_eq!(Config { vhosts: Vec::new(), modules, ..defaults }, empty);
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
fn readme_and_demo_are_free_of_mistakes() {
    let readme = include_str!("../../../../README.md");
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
        report("[module.\"flw\"]\n"),
        r#"error: module `flw` is not loaded
 --> remuxd.toml:1:9
  |
1 | [module."flw"]
  |         ^^^^^ set for a module that is not in modules.load
  |
  = help: did you mean `flv`?

error: 1 mistake in remuxd.toml"#
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
fn places_make_no_difference() {
    let text = "[[vhost.x.http_remux]]\nenabled = true\n[vhost.x.http_remux.options]\na = 1";
    assert_eq!(Config::parse(text, "a").unwrap(), Config::parse(&format!("\n\n{text}"), "b").unwrap());
}

#[test]
fn shows_all_mistakes_at_once_in_the_order_of_the_file() {
    let text = "\
listn = 3

[rtmp]
chunk_size = 1
listen = [\"x\", 99999]

[http_server]
enabled = on

[vhost.example.com]

[vhost.\"y\"]
publish.publish_conflict = \"rejct\"
publish_conflict = \"rejct\"

[[vhost.\"y\".http_remux]]
enabled = true

[[vhost.\"y\".http_remux]]
enabled = true
mount = \"/[app]/[stream].flv\"
";
    let expected = r#"
error: unknown key `listn`
 --> remuxd.toml:1:1
  |
1 | listn = 3
  | ^^^^^ no such key in the file
  |
  = help: it has `rtmp`, `rtmps`, `http_server`, `http_api`, `admin`, `proxy`, `modules`, `module`, `log`, `limits` or `vhost`

error: bad value for `chunk_size`
 --> remuxd.toml:4:14
  |
4 | chunk_size = 1
  |              ^ must be 128 to 65536

error: bad value for `listen`
 --> remuxd.toml:5:11
  |
5 | listen = ["x", 99999]
  |           ^^^ not an address to listen on
  |
  = help: write [ip:]port with a numeric ip: "8080", "127.0.0.1:8080", "[::]:8080"

error: bad value for `listen`
 --> remuxd.toml:5:16
  |
5 | listen = ["x", 99999]
  |                ^^^^^ not an address to listen on
  |
  = help: write [ip:]port with a numeric ip: "8080", "127.0.0.1:8080", "[::]:8080"

error: wrong type for `enabled`
 --> remuxd.toml:8:11
  |
8 | enabled = on
  |           ^^ expected true or false, found a string
  |
  = help: write `true` or `false`, without quotes

error: unknown key `com`
  --> remuxd.toml:10:16
   |
10 | [vhost.example.com]
   |                ^^^ no such key in [vhost."example"]
   |
   = help: a name with dots stands in quotes: [vhost."example.com"]

error: bad value for `publish_conflict`
  --> remuxd.toml:13:28
   |
13 | publish.publish_conflict = "rejct"
   |                            ^^^^^^^ must be `reject` or `replace`
   |
   = help: did you mean "reject"?

error: unknown key `publish_conflict`
  --> remuxd.toml:14:1
   |
14 | publish_conflict = "rejct"
   | ^^^^^^^^^^^^^^^^ no such key in [vhost."y"]
   |
   = help: the key belongs in [vhost."NAME".publish]

error: two mounts of vhost `y` answer the same path
  --> remuxd.toml:21:9
   |
16 | [[vhost."y".http_remux]]
   | ------------------------ `[vhost]/[app]/[stream].flv` here
...
21 | mount = "/[app]/[stream].flv"
   |         ^^^^^^^^^^^^^^^^^^^^^ `/[app]/[stream].flv` here
   |
   = help: give one of them a path of its own, `/tv/[app]/[stream].EXTENSION`, or take it out

error: 9 mistakes in remuxd.toml"#;
    assert_eq!(report(text), expected.trim_start());
    assert_eq!(Config::parse(text, "remuxd.toml").unwrap_err().mistakes(), 9);
}

#[test]
fn shows_each_mistake_with_its_line() {
    // The file, then the report without the count under it.
    let rows = [
        (
            "[rtmp]\nlisen = [1935]",
            r#"
error: unknown key `lisen`
 --> remuxd.toml:2:1
  |
2 | lisen = [1935]
  | ^^^^^ no such key in [rtmp]
  |
  = help: did you mean `listen`?"#,
        ),
        (
            "[vhost.x.https]\ncert = \"x.crt\"",
            r#"
error: a certificate without `key`
 --> remuxd.toml:1:1
  |
1 | [vhost.x.https]
  | ^^^^^^^^^^^^^^^ `key` names no file
  |
  = help: `key` and `cert` name a file each, in PEM format"#,
        ),
        (
            "http_server.https = { enabled = true, listen = 1935 }\nrtmp.listen = [1935]",
            r#"
error: 0.0.0.0:1935 of [rtmp] and 0.0.0.0:1935 of [http_server.https] are one address
 --> remuxd.toml:1:48
  |
1 | http_server.https = { enabled = true, listen = 1935 }
  |                                                ^^^^ cannot be listened on twice
2 | rtmp.listen = [1935]
  |                ---- already listened on here"#,
        ),
        (
            "rtmp = 1935",
            r#"
error: wrong type for `rtmp`
 --> remuxd.toml:1:8
  |
1 | rtmp = 1935
  |        ^^^^ expected a table, found an integer"#,
        ),
        (
            "[rtmp]\nlisten = []",
            r#"
error: bad value for `listen`
 --> remuxd.toml:2:10
  |
2 | listen = []
  |          ^^ must not be empty"#,
        ),
        (
            "[limits]\nmax_message = \"16MB\"",
            r#"
error: bad value for `max_message`
 --> remuxd.toml:2:15
  |
2 | max_message = "16MB"
  |               ^^^^^^ not a size
  |
  = help: write bytes, 65536, or a string with a unit: "64KiB", "16MiB", "1GiB""#,
        ),
        (
            "[limits]\nmax_buffered = \"8MiB\"",
            r#"
error: no message of `max_message` would fit
 --> remuxd.toml:2:16
  |
2 | max_buffered = "8MiB"
  |                ^^^^^^ less than `max_message`, 16777216 bytes
  |
  = help: make `max_buffered` at least as large, or `max_message` smaller"#,
        ),
        (
            "[limits]\nmax_buffered = \"8MiB\"\nmax_message = 9000000",
            r#"
error: no message of `max_message` would fit
 --> remuxd.toml:2:16
  |
2 | max_buffered = "8MiB"
  |                ^^^^^^ less than `max_message`, 9000000 bytes
3 | max_message = 9000000
  |               ------- as large as this
  |
  = help: make `max_buffered` at least as large, or `max_message` smaller"#,
        ),
        (
            "[vhost.x.publish]\nnormal_timeout = 5000",
            r#"
error: bad value for `normal_timeout`
 --> remuxd.toml:2:18
  |
2 | normal_timeout = 5000
  |                  ^^^^ must be 1s to 3600s, is 5000s
  |
  = help: a plain number is seconds; a string has its unit: "5000ms", "10s", "2m""#,
        ),
        (
            "[vhost.x.play]\nwait = 10s",
            r#"
error: not TOML
 --> remuxd.toml:2:8
  |
2 | wait = 10s
  |        ^^^ string values must be quoted, expected literal string"#,
        ),
        (
            "[log]\nlevel = \"inof\"",
            r#"
error: bad value for `level`
 --> remuxd.toml:2:9
  |
2 | level = "inof"
  |         ^^^^^^ `inof` is not a level
  |
  = help: levels are off, error, warn, info, debug and trace; a list has commas: "info,remuxd::rtmp=debug""#,
        ),
        (
            "[proxy]\ntrusted = [\"10.0.0.0/33\"]",
            r#"
error: bad value for `trusted`
 --> remuxd.toml:2:12
  |
2 | trusted = ["10.0.0.0/33"]
  |            ^^^^^^^^^^^^^ not a network
  |
  = help: write a CIDR block or an address: "10.0.0.0/8", "fd00::/8", "127.0.0.1""#,
        ),
        (
            "[rtmp]\nproxy_protocol = true",
            r#"
error: nobody could connect to [rtmp]
 --> remuxd.toml:2:18
  |
2 | proxy_protocol = true
  |                  ^^^^ taken from trusted proxies only
  |
  = help: name their networks: [proxy] trusted = ["10.0.0.0/8"]"#,
        ),
        (
            "[http_server]\nenabled = true\nlisten = 8080\n[rtmp]\nlisten = [\"127.0.0.1:8080\"]",
            r#"
error: 127.0.0.1:8080 of [rtmp] and 0.0.0.0:8080 of [http_server] are one address
 --> remuxd.toml:3:10
  |
3 | listen = 8080
  |          ^^^^ cannot be listened on twice
4 | [rtmp]
5 | listen = ["127.0.0.1:8080"]
  |           ---------------- already listened on here"#,
        ),
        (
            "[rtmp]\nlisten = [8080]\n[http_server]\nenabled = true",
            r#"
error: 0.0.0.0:8080 of [rtmp] and 0.0.0.0:8080 of [http_server] are one address
 --> remuxd.toml:2:11
  |
2 | listen = [8080]
  |           ^^^^ cannot be listened on twice"#,
        ),
        (
            "[vhost.\"live.example.com.\"]",
            r#"
error: no request can name vhost `live.example.com.`
 --> remuxd.toml:1:8
  |
1 | [vhost."live.example.com."]
  |        ^^^^^^^^^^^^^^^^^^^ not a host name
  |
  = help: a host name stands without scheme, port and path: [vhost."live.example.com"]"#,
        ),
        (
            "[vhost.\"live.example.com:8080\"]",
            r#"
error: no request can name vhost `live.example.com:8080`
 --> remuxd.toml:1:8
  |
1 | [vhost."live.example.com:8080"]
  |        ^^^^^^^^^^^^^^^^^^^^^^^ not a host name
  |
  = help: a host name stands without scheme, port and path: [vhost."live.example.com"]"#,
        ),
        (
            "[vhost.\"a.example\"]\n[vhost.\"A.example\".play]",
            r#"
error: two vhosts have the name `A.example`
 --> remuxd.toml:2:8
  |
1 | [vhost."a.example"]
  |        ----------- the first
2 | [vhost."A.example".play]
  |        ^^^^^^^^^^^ the second"#,
        ),
        (
            "[vhost.x.http_remux]\nenabled = true",
            r#"
error: wrong type for `http_remux`
 --> remuxd.toml:1:1
  |
1 | [vhost.x.http_remux]
  | ^^^^^^^^^^^^^^^^^^^^ expected a list of tables, found a table
  |
  = help: its header has two brackets: [[…]]"#,
        ),
        (
            "[[vhost.x.http_remux]]\nmount = \"/[app]/[stream]_hd.flv\"",
            r#"
error: bad mount pattern
 --> remuxd.toml:2:9
  |
2 | mount = "/[app]/[stream]_hd.flv"
  |         ^^^^^^^^^^^^^^^^^^^^^^^^ `[stream]` must not stand here
  |
  = help: a variable has its segment for itself: `/tv/[app]/[stream].EXTENSION`"#,
        ),
        (
            "[[vhost.x.http_remux]]\n[vhost.x.http_remux.options]\na = []",
            r#"
error: wrong type for `a`
 --> remuxd.toml:3:5
  |
3 | a = []
  |     ^^ expected a string, a number, true or false, found a list"#,
        ),
        (
            "[log]\n[log]",
            r#"
error: not TOML
 --> remuxd.toml:2:2
  |
2 | [log]
  |  ^^^ duplicate key"#,
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(report(text), format!("{}\n\nerror: 1 mistake in remuxd.toml", expected.trim_start()));
    }
}

#[test]
fn listeners_that_can_both_be_had_are_no_mistake() {
    for text in [
        "rtmp.listen = [0, 0]",
        "rtmp.listen = [\"127.0.0.1:1935\", \"127.0.0.2:1935\", \"[::]:1935\"]",
        "rtmp.listen = [8080]",
    ] {
        assert_eq!(Config::parse(text, "text").map_err(|report| report.to_string()).map(drop), Ok(()));
    }
}

#[test]
fn others_add_what_only_they_can_judge() {
    let text = "[rtmp]\nchunk_size = 1\n[[vhost.x.http_remux]]\nenabled = true\n[vhost.x.http_remux.options]\nhevk = \"a\"";
    let report = Config::parse_and(text, "remuxd.toml", |config, diagnostics| {
        assert_eq!(config.rtmp.chunk_size, 60_000, "a faulty value is at its default");
        let mount = &config.vhosts[0].mounts[0];
        diagnostics.error("no module answers the mount", &mount.place, "this extension").help("load one");
        diagnostics.error("the format has no such option", &mount.option_places[0].key, "unknown");
        diagnostics.error("no file of the module", &config.modules.load_places[0], "");
    });
    let expected = r#"
error: no file of the module

error: bad value for `chunk_size`
 --> remuxd.toml:2:14
  |
2 | chunk_size = 1
  |              ^ must be 128 to 65536

error: no module answers the mount
 --> remuxd.toml:3:1
  |
3 | [[vhost.x.http_remux]]
  | ^^^^^^^^^^^^^^^^^^^^^^ this extension
  |
  = help: load one

error: the format has no such option
 --> remuxd.toml:6:1
  |
6 | hevk = "a"
  | ^^^^ unknown

error: 4 mistakes in remuxd.toml"#;
    assert_eq!(report.unwrap_err().to_string(), expected.trim_start());
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

#[test]
fn mistakes_of_a_good_file_show_later_with_their_line() {
    let (config, loaded) =
        Config::parse_and("[rtmp]\nlisten = [1935]", "remuxd.toml", |_, _| "loaded").unwrap();
    assert_eq!(loaded, "loaded");
    let mut diagnostics = config.diagnostics();
    assert!(diagnostics.clone().finish().is_ok());
    diagnostics.error("cannot listen", &config.rtmp.listen_places[0], "in use");
    let expected = r#"
error: cannot listen
 --> remuxd.toml:2:11
  |
2 | listen = [1935]
  |           ^^^^ in use

error: 1 mistake in remuxd.toml"#;
    assert_eq!(diagnostics.finish().unwrap_err().to_string(), expected.trim_start());
}

#[test]
fn names_the_file_that_cannot_be_read() {
    let report = Config::load(Path::new("no/such/remuxd.toml")).unwrap_err().to_string();
    assert!(report.starts_with("error: cannot read no/such/remuxd.toml: "), "{report}");
}

//! Tests of how errors in a file are shown.

use super::super::*;
use super::report;

#[test]
fn shows_all_errors_at_once_in_the_order_of_the_file() {
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
  = help: its keys are `rtmp`, `rtmps`, `http_server`, `http_api`, `admin`, `proxy`, `modules`, `module`, `log`, `limits` or `vhost`

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
   = help: quote a name with dots: [vhost."example.com"]

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
   = help: give one of them a path of its own, `/tv/[app]/[stream].EXTENSION`, or remove it

error: 9 errors in remuxd.toml"#;
    assert_eq!(report(text), expected.trim_start());
    assert_eq!(Config::parse(text, "remuxd.toml").unwrap_err().count(), 9);
}

#[test]
fn shows_each_error_with_its_line() {
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
  |                  ^^^^ accepted from trusted proxies only
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
  = help: write the host name without scheme, port and path: [vhost."live.example.com"]"#,
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
  = help: write the host name without scheme, port and path: [vhost."live.example.com"]"#,
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
  |         ^^^^^^^^^^^^^^^^^^^^^^^^ `[stream]` is not allowed here
  |
  = help: a variable takes a whole segment: `/tv/[app]/[stream].EXTENSION`"#,
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
        assert_eq!(report(text), format!("{}\n\nerror: 1 error in remuxd.toml", expected.trim_start()));
    }
}

#[test]
fn others_add_what_only_they_can_judge() {
    let text = "[rtmp]\nchunk_size = 1\n[[vhost.x.http_remux]]\nenabled = true\n[vhost.x.http_remux.options]\nhevk = \"a\"";
    let (config, mut diagnostics) = Config::read_text(text, "remuxd.toml");
    assert_eq!(config.rtmp.chunk_size, 60_000, "a faulty value is at its default");
    let mount = config.vhosts[0].mount_path(0);
    let source = diagnostics.source().clone();
    let pattern = source.value_or_table(&mount.clone().key("mount"));
    diagnostics.error("no module answers the mount", pattern, "this extension").help("load one");
    let option = source.key(&mount.key("options").name("hevk"));
    diagnostics.error("the format has no such option", option, "unknown");
    let module = source.value(&KeyPath::of("modules").key("load").index(0));
    diagnostics.error("no file of the module", module, "");
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

error: 4 errors in remuxd.toml"#;
    assert_eq!(diagnostics.finish().unwrap_err().to_string(), expected.trim_start());
}

#[test]
fn locations_follow_the_mounts_that_were_kept() {
    let text = "\
[[vhost.x.http_remux]]
[vhost.x.http_remux.options]
a = 1

[[vhost.x.http_remux]]
enabled = true
fast_cache = 1
";
    let (config, diagnostics) = Config::read_text(text, "remuxd.toml");
    let mount = config.vhosts[0].mount_path(0);
    let source = diagnostics.source();
    assert!(source.value(&mount.clone().key("fast_cache")).is_some());
    assert_eq!(source.value(&mount.clone().key("options").name("a")), None, "of a mount that is not enabled");
    let header = text.rfind("[[").unwrap();
    let location = source.value_or_table(&mount.key("mount")).unwrap();
    assert_eq!(location, Location(header..header + "[[vhost.x.http_remux]]".len()));
}

#[test]
fn errors_of_a_good_file_show_later_with_their_line() {
    let (config, diagnostics) = Config::read_text("[rtmp]\nlisten = [1935]", "remuxd.toml");
    let source = diagnostics.source().clone();
    assert!(diagnostics.finish().is_ok());
    let mut diagnostics = Diagnostics::of(source.clone());
    let (_, path) = &config.listeners()[0];
    diagnostics.error("cannot listen", source.value(path), "in use");
    let expected = r#"
error: cannot listen
 --> remuxd.toml:2:11
  |
2 | listen = [1935]
  |           ^^^^ in use

error: 1 error in remuxd.toml"#;
    assert_eq!(diagnostics.into_errors().to_string(), expected.trim_start());
}

#[test]
fn names_the_file_that_cannot_be_read() {
    let report = Config::read(Path::new("no/such/remuxd.toml")).unwrap_err().to_string();
    assert!(report.starts_with("error: cannot read no/such/remuxd.toml: "), "{report}");
}

//! Tests of the errors in a file: their location, text and help.

use super::super::*;
use super::facts;

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
    let expected = [
        "1:1: unknown key `listn`; no such key in the file; help: its keys are `rtmp`, `rtmps`, `http_server`, `http_api`, `admin`, `shutdown`, `proxy`, `modules`, `module`, `log`, `metrics`, `limits`, `http_hooks`, `cluster` or `vhost`",
        "4:14: bad value for `chunk_size`; must be 128 to 65536",
        r#"5:11: bad value for `listen`; not an address to listen on; help: write [ip:]port with a numeric ip: "8080", "127.0.0.1:8080", "[::]:8080""#,
        r#"5:16: bad value for `listen`; not an address to listen on; help: write [ip:]port with a numeric ip: "8080", "127.0.0.1:8080", "[::]:8080""#,
        "8:11: wrong type for `enabled`; expected true or false, found a string; help: write `true` or `false`, without quotes",
        r#"10:16: unknown key `com`; no such key in [vhost."example"]; help: quote a name with dots: [vhost."example.com"]"#,
        r#"13:28: bad value for `publish_conflict`; must be `reject` or `replace`; help: did you mean "reject"?"#,
        r#"14:1: unknown key `publish_conflict`; no such key in [vhost."y"]; help: the key belongs in [vhost."NAME".publish]"#,
        "21:9: two mounts of vhost `y` answer the same path; `/[app]/[stream].flv` here; 16:1: `[vhost]/[app]/[stream].flv` here; help: give one of them a path of its own, `/tv/[app]/[stream].EXTENSION`, or remove it",
    ];
    assert_eq!(facts(text), expected);
}

#[test]
fn errors_are_rendered_with_their_lines_and_counted() {
    let text = "rtmp = 1935\n[[vhost.y.http_remux]]\nenabled = true\n[[vhost.y.http_remux]]\nenabled = true";
    let shown = Config::parse(text, "remuxd.toml").unwrap_err().to_string();
    for part in [
        "error: ",
        "remuxd.toml:1:8",
        "rtmp = 1935",
        "[[vhost.y.http_remux]]",
        "help: ",
        "2 errors, 1 warning in remuxd.toml",
    ] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }
}

#[test]
fn shows_each_error_with_its_line() {
    let rows = [
        (
            "[rtmp]\nlisen = [1935]",
            "2:1: unknown key `lisen`; no such key in [rtmp]; help: did you mean `listen`?",
        ),
        (
            "[vhost.x.https]\ncert = \"x.crt\"",
            "1:1: a certificate without `key`; `key` names no file; help: `key` and `cert` name a file each, in PEM format",
        ),
        (
            "http_server.https = { enabled = true, listen = 1935 }\nrtmp.listen = [1935]",
            "1:48: 0.0.0.0:1935 of [rtmp] and 0.0.0.0:1935 of [http_server.https] are one address; cannot be listened on twice; 2:16: already listened on here",
        ),
        ("rtmp = 1935", "1:8: wrong type for `rtmp`; expected a table, found an integer"),
        ("[rtmp]\nlisten = []", "2:10: bad value for `listen`; must not be empty"),
        (
            "[limits]\nmax_message = \"16MB\"",
            r#"2:15: bad value for `max_message`; not a size; help: write bytes, 65536, or a string with a unit: "64KiB", "16MiB", "1GiB""#,
        ),
        (
            "[limits]\nmax_buffered = \"8MiB\"",
            "2:16: no message of `max_message` would fit; less than `max_message`, 16777216 bytes; help: make `max_buffered` at least as large, or `max_message` smaller",
        ),
        (
            "[limits]\nmax_buffered = \"8MiB\"\nmax_message = 9000000",
            "2:16: no message of `max_message` would fit; less than `max_message`, 9000000 bytes; 3:15: as large as this; help: make `max_buffered` at least as large, or `max_message` smaller",
        ),
        (
            "[vhost.x.publish]\nnormal_timeout = 5000",
            r#"2:18: bad value for `normal_timeout`; must be 1s to 3600s, is 5000s; help: a plain number is seconds; a string has its unit: "5000ms", "10s", "2m""#,
        ),
        (
            "[vhost.x.play]\nwait = 10s",
            "2:8: not TOML; string values must be quoted, expected literal string",
        ),
        (
            "[log]\nlevel = \"inof\"",
            r#"2:9: bad value for `level`; `inof` is not a level; help: levels are off, error, warn, info, debug and trace; a list has commas: "info,remuxd::rtmp=debug""#,
        ),
        (
            "[proxy]\ntrusted = [\"10.0.0.0/33\"]",
            r#"2:12: bad value for `trusted`; not a network; help: write a CIDR block or an address: "10.0.0.0/8", "fd00::/8", "127.0.0.1""#,
        ),
        (
            "[rtmp]\nproxy_protocol = true",
            r#"2:18: nobody could connect to [rtmp]; accepted from trusted proxies only; help: name their networks: [proxy] trusted = ["10.0.0.0/8"]"#,
        ),
        (
            "[http_server]\nenabled = true\nlisten = 8080\n[rtmp]\nlisten = [\"127.0.0.1:8080\"]",
            "3:10: 127.0.0.1:8080 of [rtmp] and 0.0.0.0:8080 of [http_server] are one address; cannot be listened on twice; 5:11: already listened on here",
        ),
        (
            "[rtmp]\nlisten = [8080]\n[http_server]\nenabled = true",
            "2:11: 0.0.0.0:8080 of [rtmp] and 0.0.0.0:8080 of [http_server] are one address; cannot be listened on twice",
        ),
        (
            "[vhost.\"live.example.com.\"]",
            r#"1:8: no request can name vhost `live.example.com.`; not a host name; help: write the host name without scheme, port and path: [vhost."live.example.com"]"#,
        ),
        (
            "[vhost.\"live.example.com:8080\"]",
            r#"1:8: no request can name vhost `live.example.com:8080`; not a host name; help: write the host name without scheme, port and path: [vhost."live.example.com"]"#,
        ),
        (
            "[vhost.\"a.example\"]\n[vhost.\"A.example\".play]",
            "2:8: two vhosts have the name `A.example`; the second; 1:8: the first",
        ),
        (
            "[vhost.x.http_remux]\nenabled = true",
            "1:1: wrong type for `http_remux`; expected a list of tables, found a table; help: its header has two brackets: [[…]]",
        ),
        (
            "[[vhost.x.http_remux]]\nmount = \"/[app]/[stream]_hd.flv\"",
            "2:9: bad mount pattern; `[stream]` is not allowed here; help: a variable takes a whole segment: `/tv/[app]/[stream].EXTENSION`",
        ),
        (
            "[[vhost.x.http_remux]]\n[vhost.x.http_remux.options]\na = []",
            "3:5: wrong type for `a`; expected a string, a number, true or false, found a list",
        ),
        ("[log]\n[log]", "2:2: not TOML; duplicate key"),
        (
            "[vhost.x.security]\nenabled = true\nplay.allow = [\"10.1.2.3\", \"all\"]\nplay.deny = [\"10.0.0.0/8\"]",
            "3:15: `10.1.2.3` is allowed and denied; has no effect; 4:14: `10.0.0.0/8` is denied first; help: what is \
             denied stays denied: remove one of them, or deny less",
        ),
        (
            "[vhost.x.security]\nplay.allow = [\"any\"]",
            "2:15: bad value for `allow`; not a network; help: write a CIDR block or an address: \"10.0.0.0/8\", \
             \"fd00::/8\", \"127.0.0.1\"",
        ),
        ("[[vhost.x.redirect]]\nenabled = true", "1:1: `to` is missing; to is missing"),
        ("[modules]\noptional = [\"opus\"]", "2:13: module `opus` is not loaded; not in modules.load"),
        (
            "[vhost.x.http_hooks]\non_play = \"127.0.0.1:8085/api\"",
            "2:11: bad value for `on_play`; not a URL with the scheme http or https; help: write scheme, host and path: \
             \"https://example.com/hooks\"",
        ),
        (
            "[vhost.x.http_hooks]\non_play = [\"http://a/b\", \"http://a/b http://c/d\"]",
            "2:26: bad value for `on_play`; a URL has no spaces; help: several URLs are a list: [\"http://…\", \"http://…\"]",
        ),
        (
            "[vhost.x.http_hooks]\non_publish = 1",
            "2:14: wrong type for `on_publish`; expected a string, found an integer",
        ),
        (
            "[http_hooks]\non_reload = [\"http://a:b\"]",
            "2:14: bad value for `on_reload`; not a URL: invalid port number; help: write scheme, host and path: \
             \"https://example.com/hooks\"",
        ),
        (
            "[vhost.x.http_hooks]\nsecret = \"short\"",
            "2:10: bad value for `secret`; 5 bytes are too short for a secret, 32 are needed; help: `remuxd sign new-secret` \
             makes one",
        ),
        (
            "[vhost.x.http_hooks]\non_failure = \"denny\"",
            "2:14: bad value for `on_failure`; must be `deny` or `allow`; help: did you mean \"deny\"?",
        ),
        (
            "[vhost.x.http_hooks]\ntimeout = \"1m\"",
            "2:11: bad value for `timeout`; must be 100ms to 10s, is 60s; help: a plain number is seconds; a string has its \
             unit: \"5000ms\", \"10s\", \"2m\"",
        ),
        (
            "[vhost.x.http_hooks]\non_stopp = \"http://a/\"",
            "2:1: unknown key `on_stopp`; no such key in [vhost.\"x\".http_hooks]; help: did you mean `on_stop`?",
        ),
        (
            "[vhost.x.refer]\nall = [\"https://a.example\"]",
            "2:8: bad value for `all`; not a host name; help: write the host name without scheme, port and path: \
             \"example.com\"",
        ),
        (
            "[vhost.x.cluster]\nmode = \"edge\"",
            "2:8: an edge without an origin; help: name the servers that it pulls from: origin = [\"origin1.example.com\"]",
        ),
        (
            "[cluster.directory]\nurl = \"redis://u:p@o\"",
            "2:7: bad value for `url`; a URL of Redis has no user and no password; help: they are `user` and `password` of the same table",
        ),
        (
            "[cluster.directory]\nprefix = \"a:b\"",
            "2:10: bad value for `prefix`; a name here has 1 to 64 letters, digits, ., - and _",
        ),
        (
            "[cluster.directory]\npull_url = \"rtmp://o?key=k\"",
            "2:12: bad value for `pull_url`; a URL that others are told has no query",
        ),
        ("[[cluster.directory.regions]]\nname = \"eu\"", "1:1: bad value for `networks`; must not be empty"),
        (
            "[[cluster.directory.node]]\nname = \"a\"\n[[cluster.directory.node]]\nname = \"a\"",
            "4:8: two nodes have the name `a`; the second; 2:8: the first",
        ),
        (
            "[vhost.x]\nforward = [\"http://o\"]",
            "2:12: streams cannot be sent over http; help: write rtmp:// or rtmps://",
        ),
        (
            "[vhost.x]\nforward = [\"[app]/x\"]",
            "2:12: bad URL; `[app]` is not allowed in the host name; help: a request must not choose the host",
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(facts(text), [expected], "{text}");
    }
}

#[test]
fn a_directory_needs_a_name_a_secret_networks_and_what_it_is_read_from() {
    let node = format!(
        "[cluster]\nnode = \"a\"\nallow = [\"::1\"]\nsecret = \"{}\"\n[cluster.directory]\n",
        "s".repeat(32)
    );
    let rows = [
        (
            "[cluster.directory]\nkind = \"static\"\nnode = [{ name = \"a\" }]",
            vec![
                "2:8: a directory without the name of this node; `cluster.node` is not set; help: name it: [cluster] node = \"edge1\"",
                "2:8: a directory without a secret; `cluster.secret` signs its entries; help: give all nodes the same: [cluster] secret = { file = \"/etc/remuxd/cluster.key\" }",
                "2:8: a directory without networks of its nodes; `cluster.allow` is empty; help: name the networks to which it may lead: [cluster] allow = [\"10.0.0.0/8\"]",
            ],
        ),
        (
            "NODEkind = \"static\"",
            vec!["6:8: a static directory without nodes; help: list them: [[cluster.directory.node]]"],
        ),
        (
            "NODEkind = \"redis\"",
            vec!["6:8: a directory without `url`; help: url = \"redis://10.0.0.5:6379\""],
        ),
        (
            "NODEkind = \"http\"\nurl = \"redis://o\"",
            vec![
                "7:7: `url` is of another kind of directory; help: url = \"https://example.com/nodes.json\"",
            ],
        ),
        (
            "NODEkind = \"redis\"\nurl = [\"redis://o\", \"redis://p\"]",
            vec![
                "7:7: a directory with several URLs; only Sentinels are several; help: name the master that they watch: sentinel = \"mymaster\"",
            ],
        ),
        (
            "[vhost.x.cluster]\nmode = \"edge\"\nNODEkind = \"redis\"\nurl = \"redis://o\"\ntier = 1\nsentinel = 1",
            vec!["11:12: wrong type for `sentinel`; expected a string, found an integer"],
        ),
        (
            "[vhost.x.cluster]\nmode = \"edge\"\nNODEkind = \"static\"\nnode = [{ name = \"b\" }]",
            vec![
                "2:8: an edge of tier 0; it would pull from nobody; help: edges have a tier above 0: [cluster.directory] tier = 1",
            ],
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(facts(&text.replace("NODE", &node)), expected, "{text}");
    }
    let listed =
        "[vhost.x.cluster]\nmode = \"edge\"\nNODEkind = \"static\"\nnode = [{ name = \"a\", tier = 1 }]";
    assert!(Config::parse(&listed.replace("NODE", &node), "remuxd.toml").is_ok());
}

#[test]
fn a_redirect_to_a_node_needs_a_directory_and_is_not_permanent() {
    let directory = format!(
        "[cluster]\nnode = \"a\"\nallow = [\"::1\"]\nsecret = \"{}\"\ndirectory = {{ kind = \"static\", node = [{{ name = \"b\" }}] }}\n",
        "s".repeat(32)
    );
    let rule = "[[vhost.x.redirect]]\nenabled = true\n";
    let rows = [
        (
            "RULEto = \"least-loaded\"",
            vec![
                "3:6: a redirect to a node without a directory; help: the directory has the nodes: [cluster.directory] kind = \"static\"",
            ],
        ),
        (
            "DIRECTORYRULEto = \"nearest\"\nstatus = 301",
            vec![
                "8:6: no region has networks of viewers; the least loaded node is taken; help: add [[cluster.directory.regions]] with `name` and `networks`",
                "9:10: a permanent redirect to a node; clients would keep it; help: 302 or 307 is asked again each time",
            ],
        ),
        (
            "RULEto = \"http://o/\"\nrtmp = \"serve\"",
            vec![
                "4:8: `rtmp` in a rule that leads to one URL; help: it is for `to = \"least-loaded\"` and `to = \"nearest\"`",
            ],
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(facts(&text.replace("RULE", rule).replace("DIRECTORY", &directory)), expected, "{text}");
    }
    // What this node serves itself is for its mounts; two redirects still collide.
    let mount = "[[vhost.x.http_remux]]\nenabled = true\n";
    let balanced =
        format!("{directory}{rule}to = \"least-loaded\"\nrtmp = \"redirect\"\nwebsocket = \"redirect\"\n");
    assert!(Config::parse(&format!("{balanced}{mount}"), "remuxd.toml").is_ok());
    let twice = facts(&format!("{balanced}{rule}to = \"least-loaded\"\n"));
    assert!(
        twice.len() == 1 && twice[0].contains("two redirects of vhost `x` answer the same path"),
        "{twice:?}"
    );
}

#[test]
fn keys_of_other_servers_are_answered_with_ours() {
    let rows = [
        ("[vhost.x]\nmw_latency = 350", "here it is `merge_write` in [vhost.\"NAME\".play]"),
        ("[vhost.x.cluster]\ncoworkers = \"\"", "not supported"),
        ("[vhost.x]\npush = \"o\"", "here it is `forward` in [vhost.\"NAME\"]"),
        ("[vhost.x]\ntcp_nodelay = true", "not needed: TCP_NODELAY is set always"),
        ("[cluster]\norigin_cluster = true", "not supported"),
        ("[security]\nenabled = true\n[vhost.x]", "the key belongs in [vhost.\"NAME\"]"),
        ("max_connections = 1000", "the key belongs in [limits]"),
        ("grace_final_wait = 3200", "here it is `shutdown_grace` in [shutdown]"),
    ];
    for (text, help) in rows {
        let facts = facts(text);
        assert!(facts.len() == 1 && facts[0].ends_with(&format!("; help: {help}")), "{text}: {facts:?}");
    }
}

#[test]
fn settings_that_do_nothing_are_warned_about() {
    const HTTP: &str = "[http_server]\nenabled = true\n";
    let rows = [
        ("[[vhost.x.http_remux]]\nenabled = true", "1: nobody can request this mount"),
        ("[[vhost.x.http_remux]]\nmount = \"/[app]/[stream].flv\"", "1: this mount is not enabled"),
        ("[vhost.defaultVhost]", "1: `defaultVhost` is not the default vhost"),
        (
            "[vhost.x]\n[rtmp]\nreuse_port = true",
            "3: each process that shares the port has streams of its own",
        ),
        ("[vhost.x]", ""),
        ("[vhost.__defaultVhost__]", ""),
        ("[[vhost.x.http_remux]]\nenabled = false", ""),
    ];
    for (text, warning) in rows {
        let warnings: Vec<_> = Config::read_text(text, "").1.finish().unwrap().lines().collect();
        assert!(warnings.len() == usize::from(!warning.is_empty()), "{text}: {warnings:?}");
        let (line, title) = warning.split_once(": ").unwrap_or_default();
        let expected = |shown: &String| shown.contains(&format!(":{line}:")) && shown.contains(title);
        assert!(warnings.iter().all(expected), "{text}: {warnings:?}");
    }
    let mount = format!("{HTTP}[[vhost.x.http_remux]]\nenabled = true");
    assert!(Config::read_text(&mount, "").1.finish().unwrap().is_empty());
}

#[test]
fn secrets_are_masked_in_messages() {
    for line in [
        "secret = \"hush\"",
        "secret = ['hush']",
        "secret = { hush = \"hush\" }",
        "secret = { file = \"/none\", env = \"hush\" }",
        "secret = \"\"\"\nhush\"\"\"",
        "secret = \"\"\"\n\\hush hush\"\"\"",
        "\"secret\" = \"hush\"",
        "scret = \"hush\"",
        "the_secret = 'hush'",
        "secret = \"hush",
        "secret = hush",
    ] {
        let text = format!("[[vhost.x.signed_url.key]]\nid = \"a\"\n{line}\n[vhost.y]\nenabled = 1\n");
        let report = Config::parse(&text, "remuxd.toml").unwrap_err().to_string();
        assert!(!report.contains("hush"), "{line}\n{report}");
    }
    for line in [
        "on_play = \"ftp://u:hush@a/b?c\"",
        "on_play = [\"http://u:hush@a/b\", \"http://a:b/c?hush\"]",
        "on_play = [\"http://a/b?hush hush\"]",
        "on_play = \"http://u:hush@a/b",
        "onplay = \"http://u:hush@a/\"",
        "on_play = { url = \"http://u:hush@a/\" }",
    ] {
        let text = format!("[vhost.x.http_hooks]\n{line}\n[vhost.y]\nenabled = 1\n");
        let report = Config::parse(&text, "remuxd.toml").unwrap_err().to_string();
        assert!(!report.contains("hush"), "{line}\n{report}");
    }
    // Where a table's header is broken, none of its keys is expected.
    let text = "[[vho\"st.x\".signed_url.key]]\nsecret = '''\nhush, and say ";
    let report = Config::parse(text, "remuxd.toml").unwrap_err().to_string();
    assert!(!report.contains("hush"), "{report}");
    let text = "[[vhost.x.signed_url.key]]\nid = \"a\"\nsecret = { file = \"/none\" }";
    let report = Config::parse(text, "remuxd.toml").unwrap_err().to_string();
    assert!(report.contains("{ file = \"/none\" }"), "{report}");
}

#[test]
fn others_add_what_only_they_can_judge() {
    let text = "[rtmp]\nchunk_size = 1\n[[vhost.x.http_remux]]\nenabled = true\n[vhost.x.http_remux.options]\nhevk = \"a\"\n\
                [http_server]\nenabled = true";
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
    let expected = [
        "no file of the module",
        "2:14: bad value for `chunk_size`; must be 128 to 65536",
        "3:1: no module answers the mount; this extension; help: load one",
        "6:1: the format has no such option; unknown",
    ];
    assert_eq!(diagnostics.finish().unwrap_err().facts(), expected);
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
    let path = &config.listeners()[0].path;
    diagnostics.error("cannot listen", source.value(path), "in use");
    let expected = "2:11: cannot listen; in use";
    assert_eq!(diagnostics.into_errors().facts(), [expected]);
}

#[test]
fn names_the_file_that_cannot_be_read() {
    let report = Config::read(Path::new("no/such/remuxd.toml")).unwrap_err().to_string();
    assert!(report.starts_with("error: cannot read no/such/remuxd.toml: "), "{report}");
}

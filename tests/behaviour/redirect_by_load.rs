//! Redirects to the nodes of a directory: by load, by region, once; over HTTP, WebSocket and RTMP.

use std::process::Command;

use remuxd_tests::asking::Ask;
use remuxd_tests::capture::Capture;
use remuxd_tests::clip::Clip;
use remuxd_tests::encoder::publish_looped;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::{Request, Response};
use remuxd_tests::key_server::KeyServer;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::rtmp::amf::Amf;
use remuxd_tests::rtmp::{Connection, split_key};
use remuxd_tests::tool::{Ffmpeg, run};
use remuxd_tests::wait::{SOON, wait_for, wait_until};

const REFUSED: &str = "NetConnection.Connect.Rejected";

/// The tables of a node with these keys in `[cluster.directory]`, and more tables.
fn cluster(directory: &str, tables: &str) -> String {
    format!(
        "[cluster]\nnode = \"director\"\nsecret = \"0123456789abcdef0123456789abcdef\"\nallow = [\"127.0.0.0/8\"]\n\
         [cluster.directory]\n{directory}\n{tables}"
    )
}

/// A redirect rule to a node.
fn rule(to: &str, keys: &str) -> String {
    format!("[[vhost.\"__defaultVhost__\".redirect]]\nenabled = true\nto = {to:?}\n{keys}\n")
}

/// A host that redirects by a list of nodes. A stream that is not here is missing at once.
fn director(list: &KeyServer, directory: &str, tables: &str) -> Host {
    let directory = format!("kind = \"http\"\nurl = {:?}\nlease = \"1s\"\n{directory}", list.url());
    Host::start(&Config::live().play("wait", "\"0s\"").tables(&cluster(&directory, tables)))
}

/// A node of a list, with a load in hundredths.
fn node(name: &str, play_url: &str, load: u64, more: &str) -> String {
    format!(
        "{{\"name\":{name:?},\"play_url\":{play_url:?},\"load\":{{\"bitrate\":{load},\"max_bitrate\":100}}{more}}}"
    )
}

fn set_nodes(list: &KeyServer, nodes: &[String]) {
    list.set_answer("200 OK", "", &format!("[{}]", nodes.join(",")));
}

fn get(host: &Host, path: &str) -> Response {
    Request::get(path).send(host.http).unwrap()
}

/// The status and the target of a redirect, or nothing in its place.
fn answer(host: &Host, path: &str) -> (u16, String) {
    let response = get(host, path);
    (response.status, response.header("location").unwrap_or_default().to_owned())
}

/// Waits until a path is answered so.
fn wait_answer(host: &Host, path: &str, expected: (u16, &str)) {
    let expected = (expected.0, expected.1.to_owned());
    wait_until(SOON, &format!("{path} is answered by {expected:?}"), || answer(host, path) == expected);
}

/// An edge that pulls from `origin`.
fn edge(origin: &Host) -> Host {
    let table =
        format!("[vhost.\"__defaultVhost__\".cluster]\nmode = \"edge\"\norigin = \"{}\"\n", origin.rtmp);
    Host::start(&Config::live().tables(&table))
}

#[test]
fn viewers_follow_to_the_least_loaded_node_and_decode() {
    let origin = Host::start(&Config::live());
    let [busy, idle] = [edge(&origin), edge(&origin)];
    let list = KeyServer::start();
    let url = |host: &Host| format!("http://{}", host.http);
    let rtmp = format!(",\"rtmp_url\":\"rtmp://{}\"", idle.rtmp);
    set_nodes(&list, &[node("busy", &url(&busy), 97, ""), node("idle", &url(&idle), 0, &rtmp)]);
    let director = director(&list, "", &rule("least-loaded", "rtmp = \"redirect\""));
    let key = director.key("film");
    let _publishing = publish_looped(Clip::H264Aac, &origin.rtmp_url(&key));
    wait_until(SOON, "the stream is published", || origin.sessions().len() == 1);
    wait_answer(
        &director,
        &director.path(&key),
        (302, &format!("{}?remuxd_redirected=1", idle.http_url(&key))),
    );
    let mut player = Ffmpeg::Five.command();
    let from = director.http_url(&key);
    player.args(["-xerror", "-i", &from, "-map", "0:v", "-map", "0:a", "-t", "2", "-f", "null", "-"]);
    let output = run(&mut player).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--location", "--max-time", "2", "--output", "/dev/null"]);
    let format = "%{num_redirects} %{http_code} %{content_type}";
    let printed = curl.args(["--write-out", format, &from]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&printed.stdout), "1 200 video/x-flv");

    let url = rtmp_redirect(&director, &key).expect("the player is redirected");
    assert_eq!(url, format!("{}?remuxd_redirected=1", idle.rtmp_url(&key)));
    let mut player = Ffmpeg::Five.command();
    player.args(["-xerror", "-rtmp_live", "live", "-i", &url, "-map", "0:v", "-t", "2", "-f", "null", "-"]);
    run(&mut player).unwrap();
    idle.wait_log(&["viewing", &key]);
    assert!(!busy.log().contains(&key), "the busy node served: {}", busy.log());
}

/// Plays over RTMP, and returns the URL that the host redirects to; `None` if it does not.
fn rtmp_redirect(host: &Host, key: &str) -> Option<String> {
    let (app, name) = split_key(key);
    let mut connection = Connection::open(host.rtmp).unwrap();
    connection.connect(app).unwrap();
    let stream = connection.create_stream().unwrap();
    connection.command(stream, "play", &[Amf::Null, name.into(), Amf::Number(-2000.0)]).unwrap();
    let status = connection.read_until(|message| message.status().and_then(|_| message.command())).unwrap();
    let ex = status[3].property("ex")?;
    assert_eq!(ex.property("code").and_then(Amf::number), Some(302.0));
    let text = |name| ex.property(name).and_then(Amf::text).map(str::to_owned);
    let (whole, tc_url) = (text("redirect2")?, text("redirect")?);
    assert_eq!(tc_url, whole.replace(&format!("/{name}?"), "?"), "the tcUrl has the parameters too");
    Some(whole)
}

#[test]
fn a_request_is_redirected_once_over_every_protocol() {
    let nodes = "[[cluster.directory.node]]\nname = \"other\"\nplay_url = \"http://other.example\"\n\
                 rtmp_url = \"rtmp://other.example\"\n";
    for (keys, [websocket, rtmp]) in [
        ("rtmp = \"redirect\"\nwebsocket = \"redirect\"", ["302", REFUSED]),
        ("", ["404", "NetStream.Play.StreamNotFound"]),
    ] {
        let tables = format!("{nodes}{}", rule("least-loaded", keys));
        let host = Host::start(
            &Config::live().play("wait", "\"0s\"").tables(&cluster("kind = \"static\"", &tables)),
        );
        let key = host.key("film");
        wait_answer(
            &host,
            "/live/film.flv?k=v",
            (302, "http://other.example/live/film.flv?k=v&remuxd_redirected=1"),
        );
        for (ask, first) in
            [(Ask::Http, "302"), (Ask::Head, "302"), (Ask::WebSocket, websocket), (Ask::RtmpPlay, rtmp)]
        {
            assert_eq!(ask.status(&host, &key, "", ""), first, "{ask:?} {keys}");
            let again = ask.status(&host, &key, "a=b&remuxd_redirected=1", "");
            let missing = if ask == Ask::RtmpPlay { "NetStream.Play.StreamNotFound" } else { "404" };
            assert_eq!(again, missing, "{ask:?} {keys}");
        }
        assert_eq!(rtmp_redirect(&host, &key).is_some(), rtmp == REFUSED, "{keys}");
        assert_eq!(
            answer(&host, "/live/film.flv?remuxd_hops=n/v").0,
            404,
            "an edge is not sent to a sibling"
        );
    }
}

#[test]
fn two_nodes_that_redirect_to_each_other_serve_whom_they_are_sent() {
    let origin = Host::start(&Config::live());
    let key = origin.key("film");
    let _publishing = publish_looped(Clip::H264Aac, &origin.rtmp_url(&key));
    wait_until(SOON, "the stream is published", || origin.sessions().len() == 1);
    let list = KeyServer::start();
    let edge = |name: &str| {
        let vhost = format!(
            "{}[vhost.\"__defaultVhost__\".cluster]\nmode = \"edge\"\norigin = \"{}\"\n",
            rule("least-loaded", ""),
            origin.rtmp
        );
        let directory = format!("kind = \"http\"\nurl = {:?}\nlease = \"1s\"", list.url());
        let tables = cluster(&directory, &vhost).replace("\"director\"", &format!("{name:?}"));
        Host::start(&Config::live().tables(&tables))
    };
    let [one, two] = ["one", "two"].map(edge);
    let url = |host: &Host| format!("http://{}", host.http);
    // Each believes that the other is idle: no node has its own load in the list.
    set_nodes(&list, &[node("one", &url(&one), 0, ""), node("two", &url(&two), 0, "")]);
    for (name, host) in [("one", &one), ("two", &two)] {
        let nodes = || host.api_json("/api/v2/cluster")["nodes"].as_array().map_or(0, Vec::len);
        wait_until(SOON, &format!("{name} has read the list"), || nodes() == 2);
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--location", "--max-time", "3", "--output", "/dev/null"]);
        let printed = curl.args(["--write-out", "%{num_redirects} %{http_code}", &host.http_url(&key)]);
        let printed = String::from_utf8_lossy(&printed.output().unwrap().stdout).into_owned();
        assert!(["0 200", "1 200"].contains(&&*printed), "{name}: {printed}");
    }
}

#[test]
fn full_nodes_refuse_with_a_time_to_come_again_and_this_node_serves_while_it_has_room() {
    let list = KeyServer::start();
    set_nodes(&list, &[node("a", "http://a.example", 100, ""), node("b", "http://b.example", 250, "")]);
    let full = director(&list, "", &rule("least-loaded", "rtmp = \"redirect\""));
    let own = director(&list, "play_url = \"http://director.example\"", &rule("least-loaded", ""));
    let key = full.key("film");
    let response = wait_for(SOON, "the nodes are full", || {
        let response = get(&full, "/live/film.flv");
        (response.status == 503).then_some(response)
    });
    assert_eq!(response.header("retry-after"), Some("5"));
    assert_eq!(response.text().unwrap(), "all servers are full at the moment; try again later\n");
    assert_eq!(full.metric("remuxd_refusals_total{reason=\"nodes_full\"}"), 1);
    assert!(rtmp_redirect(&full, &key).is_none());
    let publisher = Publisher::open(own.rtmp, &key).pace(Numbered::new(500));
    Capture::http(&own, &key).wait_access_units(10, SOON);
    publisher.stop();
    set_nodes(&list, &[node("a", "http://a.example", 100, ""), node("b", "http://b.example", 99, "")]);
    wait_answer(&full, "/live/film.flv", (302, "http://b.example/live/film.flv?remuxd_redirected=1"));
}

#[test]
fn the_nearest_nodes_are_those_of_the_region_of_the_viewers_address() {
    let list = KeyServer::start();
    let nodes = [
        node("east", "http://east.example", 95, ",\"region\":\"east\""),
        node("west", "http://west.example", 5, ",\"region\":\"west\""),
    ];
    set_nodes(&list, &nodes);
    let tables = "[[cluster.directory.regions]]\nname = \"east\"\nnetworks = [\"203.0.113.0/24\", \"2001:db8:1::/48\"]\n\
                  [[cluster.directory.regions]]\nname = \"west\"\nnetworks = [\"203.0.113.128/25\"]\n\
                  [proxy]\ntrusted = [\"127.0.0.1\"]\n";
    let host = director(&list, "", &format!("{tables}{}", rule("nearest", "")));
    let at = |client: &str| {
        let request = Request::get("/live/film.flv").header("X-Forwarded-For", client);
        request.send(host.http).unwrap().header("location").unwrap_or_default().to_owned()
    };
    let to = |name: &str| format!("http://{name}.example/live/film.flv?remuxd_redirected=1");
    wait_until(SOON, "the list is read", || at("203.0.113.1") == to("east"));
    for (client, name) in [
        ("203.0.113.127", "east"),
        ("2001:db8:1::5", "east"),
        ("203.0.113.128", "west"),
        ("198.51.100.1", "west"),
    ] {
        assert_eq!(at(client), to(name), "{client}");
    }
    set_nodes(&list, &[node("east", "http://east.example", 100, ",\"region\":\"east\""), nodes[1].clone()]);
    wait_until(SOON, "the nearest node is full", || at("203.0.113.1") == to("west"));
}

#[test]
fn a_list_with_errors_leaves_the_last_good_one() {
    let list = KeyServer::start();
    set_nodes(&list, &[node("a", "http://a.example", 0, "")]);
    let host = director(&list, "", &rule("least-loaded", ""));
    let there = (302, "http://a.example/live/film.flv?remuxd_redirected=1");
    wait_answer(&host, "/live/film.flv", there);
    let foreign = "{\"name\":\"b\",\"pull_url\":\"rtmp://192.0.2.1\"}";
    for (status, body, error) in [
        ("500 Internal Server Error", "[]", "the status is 500"),
        ("200 OK", "no list", "it is no list of nodes"),
        ("200 OK", "[]", "it has no usable node (0 are refused)"),
        ("200 OK", &format!("[{foreign}]"), "it has no usable node (1 are refused)"),
    ] {
        list.set_answer(status, "", body);
        let shown = || host.api_json("/api/v2/cluster")["directory"]["last_error"] == error;
        wait_until(SOON, &format!("the API shows {error:?}"), shown);
        assert_eq!(answer(&host, "/live/film.flv"), (there.0, there.1.to_owned()), "{error}");
    }
    assert!(host.api_json("/api/v2/cluster")["directory"]["errors"].as_u64() >= Some(4));
    list.set_answer("200 OK", "", &format!("[{foreign},{}]", node("c", "http://c.example", 0, "")));
    wait_answer(&host, "/live/film.flv", (302, "http://c.example/live/film.flv?remuxd_redirected=1"));
    assert!(host.api_json("/api/v2/cluster")["directory"]["refused"].as_u64() >= Some(1));
}

#[test]
fn the_cluster_is_shown_with_its_nodes_and_the_state_of_its_directory() {
    let list = KeyServer::start();
    let more = ",\"tier\":1,\"region\":\"eu\",\"pull_url\":\"rtmp://127.0.0.1:1\"";
    set_nodes(&list, &[node("a", "http://a.example", 40, more)]);
    let host = director(&list, "region = \"us\"\nmax_bitrate = \"10M\"", "");
    let shown = |host: &Host, arguments: &[&str]| {
        let output = host.command(&[&["status", "--cluster"], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let lines = |host: &Host| {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        shown(host, &[]).lines().map(words).collect::<Vec<_>>()
    };
    let row = "a 1 eu 0.0 0.0 0 0 ms - rtmp://127.0.0.1:1";
    let found = wait_for(SOON, "the list is read", || {
        let found = lines(&host);
        found.iter().any(|line| line == row).then_some(found)
    });
    assert!(found[0].starts_with("directory: http, good, answered "), "{found:?}");
    assert!(found.iter().any(|line| line == "director (here) 0 us 0.0 10.0 0 0 ms - -"), "{found:?}");
    let json: serde_json::Value = serde_json::from_str(&shown(&host, &["--json"])).unwrap();
    assert_eq!(json["nodes"][1]["bitrate"], 40);
    let alone = Host::start(&Config::live());
    assert_eq!(lines(&alone)[0], "directory: none, off, 0 errors, 0 entries refused");
    assert_eq!(alone.api_json("/api/v2/cluster")["nodes"].as_array().map(Vec::len), Some(1));
}

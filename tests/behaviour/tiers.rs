//! Edges of two tiers: siblings share one pull through a nearer tier, with a list and with Redis; and what nodes report of themselves.

use std::net::SocketAddr;

use remuxd_tests::capture::Capture;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::proxy::free_address;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::redis::Redis;
use remuxd_tests::wait::{SOON, wait_until};

const EDGE: &str = "[vhost.\"__defaultVhost__\".cluster]\nmode = \"edge\"\nmedia_timeout = \"30s\"\n";

/// The config of a node with these keys in `[cluster.directory]`, and more tables.
fn node(name: &str, directory: &str, tables: &str) -> Config {
    Config::live().tables(&format!(
        "[cluster]\nnode = {name:?}\nsecret = \"0123456789abcdef0123456789abcdef\"\nallow = [\"127.0.0.0/8\"]\n\
         [cluster.directory]\n{directory}\n{tables}"
    ))
}

/// The number of clients that play at a host.
fn players(host: &Host) -> usize {
    host.sessions().iter().filter(|row| row[1] == "play").count()
}

#[test]
fn leaves_of_a_list_share_one_pull_of_the_origin() {
    let origin = Host::start(&Config::live());
    let key = origin.key("film");
    let listed = |name: &str, host: &Host, tier: u8| {
        let url = host.rtmp;
        format!("[[cluster.directory.node]]\nname = {name:?}\npull_url = \"rtmp://{url}\"\ntier = {tier}\n")
    };
    let edge = |name: &str, tier: u8, nodes: &str| {
        Host::start(&node(name, &format!("kind = \"static\"\ntier = {tier}"), &format!("{nodes}{EDGE}")))
    };
    let nodes = listed("origin", &origin, 0);
    let middle = edge("middle", 1, &nodes);
    let nodes = format!("{nodes}{}", listed("middle", &middle, 1));
    let leaves = [edge("leaf1", 2, &nodes), edge("leaf2", 2, &nodes)];
    let publisher = Publisher::open(origin.rtmp, &key).pace(Numbered::new(500));
    let viewers: Vec<_> =
        leaves.iter().flat_map(|leaf| [Capture::http(leaf, &key), Capture::rtmp(leaf, &key)]).collect();
    viewers.iter().for_each(|viewer| viewer.wait_access_units(50, SOON));
    assert_eq!((players(&origin), players(&middle)), (1, 2));
    assert_eq!(leaves.each_ref().map(players), [2, 2]);
    publisher.stop();
}

/// A node of Redis that others pull from.
fn member(redis: &Redis, name: &str, keys: &str, tables: &str) -> Host {
    member_that_waits(redis, name, keys, tables, "\"1m\"")
}

/// The same, whose viewers wait so long for a stream.
fn member_that_waits(redis: &Redis, name: &str, keys: &str, tables: &str, wait: &str) -> Host {
    let address: SocketAddr = free_address();
    let directory = format!(
        "kind = \"redis\"\nurl = \"redis://{}\"\npull_url = \"rtmp://{address}\"\n{keys}",
        redis.address
    );
    let config = node(name, &directory, tables).play("wait", wait);
    let host = Host::start(&config.rtmp("listen", &format!("[\"{address}\"]")));
    wait_until(SOON, "the directory answers", || host.metric("remuxd_directory_up") == 1);
    host
}

fn wait_nodes(host: &Host, count: u64) {
    wait_until(SOON, &format!("{count} nodes are known"), || host.metric("remuxd_directory_nodes") == count);
}

#[test]
fn leaves_share_one_pull_and_ask_the_node_that_carries_a_stream_first() {
    let redis = Redis::start();
    let origin = member(&redis, "origin", "", "");
    let middle = ["middle1", "middle2"].map(|name| member(&redis, name, "tier = 1\nregion = \"eu\"", EDGE));
    let leaves = ["leaf1", "leaf2"].map(|name| member(&redis, name, "tier = 2\nregion = \"eu\"", EDGE));
    leaves.iter().for_each(|leaf| wait_nodes(leaf, 5));
    let carrier = |name: &str| format!("remuxd:carrier:eu:1:__defaultVhost__/live/{name}");
    // Which of two nodes has a stream is otherwise decided by its name: not the same one for all of these.
    let keys: Vec<_> = (0..6).map(|number| origin.key(&number.to_string())).collect();
    for number in 0..6 {
        assert_eq!(redis.cli(&["SET", &carrier(&number.to_string()), "middle2", "PX", "60000"]), "OK");
    }
    let publishers: Vec<_> =
        keys.iter().map(|key| Publisher::open(origin.rtmp, key).pace(Numbered::new(500))).collect();
    let viewers: Vec<_> =
        leaves.iter().flat_map(|leaf| keys.iter().map(|key| Capture::http(leaf, key))).collect();
    viewers.iter().for_each(|viewer| viewer.wait_access_units(20, SOON));
    assert_eq!((players(&origin), middle.each_ref().map(players)), (6, [0, 12]));

    // A node enters itself where no other is, keeps its lease, and leaves.
    let film = origin.key("film");
    let publisher = Publisher::open(origin.rtmp, &film).pace(Numbered::new(500));
    let first = Capture::http(&middle[0], &film);
    first.wait_access_units(20, SOON);
    wait_until(SOON, "the first node carries it", || redis.cli(&["GET", &carrier("film")]) == "middle1");
    let second = Capture::http(&leaves[0], &film);
    second.wait_access_units(20, SOON);
    assert_eq!(middle.each_ref().map(players), [2, 12]);
    let page = leaves[0].api_json("/api/v2/cluster");
    let row = page["streams"].as_array().unwrap().iter().find(|row| row["stream"] == "live/film").unwrap();
    assert_eq!((row["node"].as_str(), row["state"].as_str()), (Some("origin"), Some("live")));
    assert!((1..=10_000).contains(&row["lease_ms"].as_u64().unwrap()), "{row}");
    let others = page["nodes"].as_array().unwrap().iter().filter(|node| node["is_own"] == false);
    assert!(
        others.clone().count() == 4 && others.clone().all(|node| node["lease_ms"].as_u64() <= Some(10_000)),
        "{page}"
    );
    publisher.stop();
    for publisher in publishers {
        publisher.stop();
    }
    wait_until(SOON, "nobody carries it", || redis.cli(&["EXISTS", &carrier("film")]) == "0");
}

#[test]
fn viewers_go_to_nodes_that_report_room_and_no_more_to_one_that_is_gone() {
    let redis = Redis::start();
    let urls = |host: &str| {
        format!("play_url = \"http://{host}.example\"\ntier = 1\nmax_bitrate = \"1M\"\nlease = \"2s\"")
    };
    let [mut busy, idle] = ["busy", "idle"].map(|name| member(&redis, name, &urls(name), ""));
    let rule = "[[vhost.\"__defaultVhost__\".redirect]]\nenabled = true\nto = \"least-loaded\"\n";
    let director = member_that_waits(&redis, "director", "lease = \"2s\"", rule, "\"0s\"");
    let key = busy.key("film");
    // 25 frames a second of 20 kB are 4 Mbit/s.
    let publisher = Publisher::open(busy.rtmp, &key).pace(Numbered::new(20_000));
    let viewer = Capture::http(&busy, &key);
    viewer.wait_access_units(20, SOON);
    let target = |name: &str| {
        let response = Request::get(&format!("/live/{name}.flv")).send(director.http).unwrap();
        (response.status, response.header("location").unwrap_or_default().to_owned())
    };
    let names: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    let all_at = |host: &str| {
        names.iter().all(|name| {
            target(name) == (302, format!("http://{host}.example/live/{name}.flv?remuxd_redirected=1"))
        })
    };
    wait_until(SOON, "the busy node reports its load", || {
        let page = director.api_json("/api/v2/cluster");
        let row = page["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "busy");
        row.is_some_and(|row| {
            (row["viewers"].as_u64(), row["max_bitrate"].as_u64()) == (Some(1), Some(1_000_000))
                && row["bitrate"].as_u64() > Some(1_000_000)
        })
    });
    wait_until(SOON, "the busy node is left out", || all_at("idle"));
    drop(viewer);
    publisher.stop();
    wait_until(SOON, "both have room", || names.iter().any(|name| target(name).1.contains("busy")));
    busy.kill();
    wait_until(SOON, "the dead node is gone", || all_at("idle"));
    drop(idle);
}

//! The directory in Redis: origins enter their streams, edges find and follow them, and nobody is hurt when it is away or lies.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

use remuxd_tests::capture::{Capture, End};
use remuxd_tests::flv::Tag;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::proxy::free_address;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::redis::{Redis, sign, stream_key};
use remuxd_tests::rtmp::Connection;
use remuxd_tests::wait::{SOON, wait_for, wait_until};

const SECRET: &str = "5ecret-of-the-cluster-0123456789abcdef";
const KEY: &str = "live/film";

/// The config of a node; `keys` are further keys of its directory.
fn node(name: &str, redis: SocketAddr, keys: &str) -> Config {
    Config::live().tables(&format!(
        "[cluster]\nnode = \"{name}\"\nallow = [\"127.0.0.1\"]\nsecret = \"{SECRET}\"\n\
         [cluster.directory]\nkind = \"redis\"\nurl = \"redis://{redis}\"\nlease = \"2s\"\n{keys}"
    ))
}

/// Starts an origin that enters its streams.
fn origin(name: &str, redis: &Redis) -> Host {
    let address = free_address();
    let config = node(name, redis.address, &format!("pull_url = \"rtmp://{address}\""));
    let host = Host::start(&config.rtmp("listen", &format!("[\"{address}\"]")));
    wait_up(&host);
    host
}

/// Starts an edge without an origin in its config.
fn edge(name: &str, redis: &Redis) -> Host {
    let cluster = "[vhost.\"__defaultVhost__\".cluster]\nmode = \"edge\"\nmedia_timeout = \"30s\"";
    let host = Host::start(&node(name, redis.address, "tier = 1").tables(cluster));
    wait_up(&host);
    host
}

fn wait_up(host: &Host) {
    wait_until(SOON, "the directory answers", || host.metric("remuxd_directory_up") == 1);
}

fn status(edge: &Host, key: &str) -> u16 {
    Request::get(&edge.path(key)).send(edge.http).unwrap().status
}

/// Requests to publish with another credential than that of the tests' publishers. Returns the connection with the status.
fn publish_as(address: SocketAddr, credential: &str) -> io::Result<(Connection, String)> {
    let mut connection = Connection::over(TcpStream::connect(address)?)?;
    connection.connect("live")?;
    let stream = connection.create_stream()?;
    let status = connection.publish(stream, &format!("film?token={credential}"))?;
    Ok((connection, status))
}

/// Waits until a publisher is told why it ends.
fn told(publisher: &mut Publisher) -> String {
    wait_for(SOON, "the publisher is told", || publisher.connection().read().ok()?.status())
}

fn ready(host: &Host) -> (u16, String) {
    let response = Request::get("/readyz").send(host.http).unwrap();
    (response.status, response.text().unwrap())
}

#[test]
fn an_edge_finds_a_stream_at_the_node_that_publishes_it_and_learns_its_end() {
    let redis = Redis::start();
    let (origin, edge) = (origin("origin1", &redis), edge("edge1", &redis));
    assert_eq!(status(&edge, "live/none"), 404, "nobody publishes it");
    let publisher = Publisher::open(origin.rtmp, KEY).pace(Numbered::new(500));
    let viewers = [Capture::http(&edge, KEY), Capture::rtmp(&edge, KEY)];
    viewers.iter().for_each(|viewer| viewer.wait_access_units(60, SOON));
    let entry = redis.stream(KEY);
    assert!(entry.starts_with("1.") && entry.contains("\"live\""), "{entry}");
    assert_eq!(origin.metric("remuxd_directory_own_streams"), 1);
    assert_eq!(edge.metric("remuxd_directory_followed_streams"), 1);
    wait_until(SOON, "both nodes are known", || edge.metric("remuxd_directory_nodes") == 2);
    publisher.stop();
    for viewer in viewers {
        assert_eq!(viewer.finish(SOON).end, End::Clean);
    }
    wait_until(SOON, "the stream has ended", || redis.stream(KEY).contains("\"ended\""));
    assert_eq!(status(&edge, KEY), 404);
}

#[test]
fn viewers_stay_when_the_publisher_moves_to_another_origin() {
    let redis = Redis::start();
    let (first, second) = (origin("origin1", &redis), origin("origin2", &redis));
    let edge = edge("edge1", &redis);
    let mut media = Numbered::new(500);
    let start: Vec<Tag> = [media.headers(), media.frames(80)].concat();
    let mut old = Publisher::open(first.rtmp, KEY);
    old.send(&start);
    let viewers = [Capture::http(&edge, KEY), Capture::websocket(&edge, KEY), Capture::rtmp(&edge, KEY)];
    viewers.iter().for_each(|viewer| viewer.wait_access_units(10, SOON));
    // The old connection is still there, as if its encoder had lost the network.
    let new = Publisher::open(second.rtmp, KEY);
    assert_eq!(told(&mut old), "NetStream.Publish.BadName");
    let next = media.number();
    let new = new.pace(media);
    for viewer in &viewers {
        viewer.wait_until(SOON, "media of the new publisher", |tags| {
            Numbered::numbers(tags).last().is_some_and(|last| *last > next + Numbered::GOP)
        });
    }
    assert_eq!(edge.metric("remuxd_directory_moves_total"), 1);
    assert_eq!(first.metric("remuxd_directory_lost_total"), 1);
    first.wait_log(&["the stream is lost to a newer publisher at another node", "origin2"]);
    new.stop();
    for viewer in viewers {
        assert_eq!(viewer.finish(SOON).end, End::Clean);
    }
}

#[test]
fn another_credential_is_refused_until_the_publisher_has_left() {
    let redis = Redis::start();
    let (first, second) = (origin("origin1", &redis), origin("origin2", &redis));
    let (holder, status) = publish_as(first.rtmp, "5ecret-a").unwrap();
    assert_eq!(status, "NetStream.Publish.Start");
    let (_, status) = publish_as(second.rtmp, "5ecret-b").unwrap();
    assert_eq!(status, "NetStream.Publish.BadName");
    second.wait_log(&["publisher refused: the stream is at another node", "origin1"]);
    assert_eq!(second.metric("remuxd_directory_busy_total"), 1);
    assert_eq!(first.metric("remuxd_directory_own_streams"), 1, "the holder stays");
    drop(holder);
    wait_for(SOON, "the stream is free", || {
        let (connection, status) = publish_as(second.rtmp, "5ecret-b").unwrap();
        (status == "NetStream.Publish.Start").then_some(connection)
    });
}

#[test]
fn streams_go_on_without_redis_and_come_back_into_it() {
    let mut redis = Redis::start();
    let (origin, edge) = (origin("origin1", &redis), edge("edge1", &redis));
    let publisher = Publisher::open(origin.rtmp, KEY).pace(Numbered::new(500));
    let viewer = Capture::http(&edge, KEY);
    viewer.wait_access_units(30, SOON);
    redis.kill();
    for host in [&origin, &edge] {
        wait_until(SOON, "the directory is missed", || host.metric("remuxd_directory_up") == 0);
        wait_until(SOON, "the host says so", || {
            ready(host) == (200, "degraded: the directory does not answer\n".to_owned())
        });
    }
    // A publisher is accepted, and what was known is found.
    let other = Publisher::open(origin.rtmp, "live/other").pace(Numbered::new(500));
    assert_eq!(origin.metric("remuxd_directory_local_claims_total"), 1);
    let late = Capture::rtmp(&edge, KEY);
    late.wait_access_units(30, SOON);
    assert_ne!(status(&edge, "live/other"), 200, "an edge cannot know it yet");
    redis.restart();
    for key in [KEY, "live/other"] {
        wait_until(SOON, "the stream is entered again", || redis.stream(key).contains("\"live\""));
    }
    wait_up(&edge);
    wait_until(SOON, "the host is well again", || ready(&edge) == (200, "ready\n".to_owned()));
    wait_until(SOON, "the edge finds it", || status(&edge, "live/other") == 200);
    assert_eq!(redis.cli(&["FLUSHALL"]), "OK");
    wait_until(SOON, "the stream is entered again", || redis.stream(KEY).contains("\"live\""));
    let (before, sent) = (viewer.tags().len(), Numbered::GOP as usize);
    viewer.wait_until(SOON, "the viewer has noticed nothing", |tags| tags.len() > before + sent);
    assert_eq!(edge.metric("remuxd_pull_failovers_total"), 0);
    publisher.stop();
    other.stop();
    assert_eq!(viewer.finish(SOON).end, End::Clean);
}

#[test]
fn a_redis_that_hangs_delays_a_newcomer_for_seconds_and_nobody_else() {
    let redis = Redis::start();
    let (origin, edge) = (origin("origin1", &redis), edge("edge1", &redis));
    let publisher = Publisher::open(origin.rtmp, KEY).pace(Numbered::new(500));
    let viewer = Capture::http(&edge, KEY);
    viewer.wait_access_units(30, SOON);
    redis.hang(true);
    let other = Publisher::open(origin.rtmp, "live/other");
    assert_eq!(origin.metric("remuxd_directory_local_claims_total"), 1);
    let late = Capture::rtmp(&edge, KEY);
    late.wait_access_units(30, SOON);
    for host in [&origin, &edge] {
        wait_until(SOON, "the directory is missed", || host.metric("remuxd_directory_up") == 0);
    }
    redis.hang(false);
    wait_until(SOON, "the newcomer is entered", || redis.stream("live/other").contains("\"live\""));
    assert_eq!(edge.metric("remuxd_pull_failovers_total"), 0);
    drop(other);
    publisher.stop();
    assert_eq!(viewer.finish(SOON).end, End::Clean);
}

#[test]
fn of_two_publishers_that_came_without_redis_the_newer_one_survives() {
    let mut redis = Redis::start();
    let hosts = [origin("origin1", &redis), origin("origin2", &redis)];
    for [first, second] in [[0, 1], [1, 0]] {
        redis.kill();
        for host in &hosts {
            wait_until(SOON, "the directory is missed", || host.metric("remuxd_directory_up") == 0);
        }
        let mut older = Publisher::open(hosts[first].rtmp, KEY);
        let newer = Publisher::open(hosts[second].rtmp, KEY);
        let lost = hosts[second].metric("remuxd_directory_lost_total");
        redis.restart();
        assert_eq!(told(&mut older), "NetStream.Publish.BadName");
        wait_until(SOON, "the newer one is entered", || {
            redis.stream(KEY).contains(&format!("\"origin{}\"", second + 1))
        });
        assert_eq!(hosts[second].metric("remuxd_directory_own_streams"), 1);
        assert_eq!(hosts[second].metric("remuxd_directory_lost_total"), lost);
        drop(newer);
        wait_until(SOON, "it has left", || redis.stream(KEY).contains("\"ended\""));
    }
}

#[test]
fn an_old_copy_of_redis_takes_nobody_back() {
    let redis = Redis::start();
    let (first, second) = (origin("origin1", &redis), origin("origin2", &redis));
    let edge = edge("edge1", &redis);
    let old = Publisher::open(first.rtmp, KEY);
    wait_until(SOON, "it is entered", || redis.stream(KEY).contains("origin1"));
    let copy = redis.stream(KEY);
    drop(old);
    wait_until(SOON, "it has left", || redis.stream(KEY).contains("\"ended\""));
    let publisher = Publisher::open(second.rtmp, KEY).pace(Numbered::new(500));
    let viewer = Capture::http(&edge, KEY);
    viewer.wait_access_units(30, SOON);
    redis.write_stream(KEY, &copy);
    let _ = redis.cli(&["PUBLISH", "remuxd:events:__defaultVhost__/live/film", &format!("e{copy}")]);
    wait_until(SOON, "the newer entry is back", || redis.stream(KEY).contains("origin2"));
    let before = viewer.tags().len();
    viewer.wait_until(SOON, "the viewer has noticed nothing", |tags| tags.len() > before + 30);
    assert_eq!(edge.metric("remuxd_directory_moves_total"), 0);
    assert_eq!(second.metric("remuxd_directory_lost_total"), 0);
    publisher.stop();
    assert_eq!(viewer.finish(SOON).end, End::Clean);
}

#[test]
fn what_a_directory_forges_is_refused_and_nothing_is_pulled() {
    let redis = Redis::start();
    let edge = edge("edge1", &redis);
    let near = TcpListener::bind("127.0.0.1:0").unwrap();
    let foreign = TcpListener::bind("127.0.0.2:0").unwrap();
    let body = |stream: &str, ms: &str, node: &str, url: &str| {
        format!(
            "{{\"vhost\":\"__defaultVhost__\",\"app\":\"live\",\"stream\":\"{stream}\",\"id\":{{\"ms\":{ms},\
             \"node\":\"{node}\"}},\"pull_url\":\"{url}\",\"publisher\":\"\",\"state\":\"live\"}}"
        )
    };
    let (near_url, foreign_url) =
        [&near, &foreign].map(|one| format!("rtmp://{}", one.local_addr().unwrap())).into();
    let signed = |body: &str| sign(SECRET, "stream", body);
    let other_secret = "5ecret-of-another-cluster-0123456789abc";
    let long = "x".repeat(5000);
    let rows = [
        ("a", "signature", sign(other_secret, "stream", &body("a", "1", "n", &near_url))),
        ("b", "signature", sign(SECRET, "node", &body("b", "1", "n", &near_url))),
        ("c", "name", signed(&body("a", "1", "n", &near_url))),
        ("d", "address", signed(&body("d", "1", "n", &foreign_url))),
        ("e", "value", signed(&body("e", "18446744073709551615", "n", &near_url))),
        ("f", "value", signed(&body("f", "1", "n", "file:///etc/passwd"))),
        ("g", "value", signed(&body("g", "1", &long[..100], &near_url))),
        ("h", "size", signed(&body("h", "1", "n", &format!("{near_url}/{long}")))),
        ("i", "form", "{}".to_owned()),
        ("j", "form", signed("[[[[[[[[")),
        ("k", "loop", signed(&body("k", "1", "edge1", &near_url))),
    ];
    for (stream, reason, text) in &rows {
        let (key, metric) = (
            format!("live/{stream}"),
            format!("remuxd_directory_refused_entries_total{{reason=\"{reason}\"}}"),
        );
        let before = edge.metric(&metric);
        redis.write_stream(&key, text);
        assert_eq!(status(&edge, &key), 404, "{stream}: {text:.300}");
        assert!(edge.metric(&metric) > before, "{stream}: {reason}");
    }
    // A key of another type, and a notification that nobody has signed.
    assert_eq!(redis.cli(&["SET", &stream_key("live/l"), "1"]), "OK");
    assert_eq!(status(&edge, "live/l"), 404);
    edge.wait_log(&["an entry of the directory is refused", "its signature is wrong"]);
    for listener in [&near, &foreign] {
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "nothing is pulled");
    }
    // An entry that a node of the cluster has signed leads where it says.
    redis.write_stream("live/m", &signed(&body("m", "1", "n", &near_url)));
    let asked = Request::get(&edge.path("live/m")).send_over(TcpStream::connect(edge.http).unwrap());
    drop(asked);
    wait_until(SOON, "the edge asks there", || near.accept().is_ok());
}

#[test]
fn a_publisher_of_an_edge_goes_to_a_node_of_the_directory() {
    let redis = Redis::start();
    let (origin, edge) = (origin("origin1", &redis), edge("edge1", &redis));
    wait_until(SOON, "the origin is known", || edge.metric("remuxd_directory_nodes") == 2);
    let publisher = Publisher::open(edge.rtmp, KEY).pace(Numbered::new(500));
    let viewers = [Capture::http(&origin, KEY), Capture::http(&edge, KEY)];
    viewers.iter().for_each(|viewer| viewer.wait_access_units(30, SOON));
    assert!(redis.stream(KEY).contains("origin1"), "the origin enters it");
    publisher.stop();
    for viewer in viewers {
        assert_eq!(viewer.finish(SOON).end, End::Clean);
    }
}

//! HTTP hooks: what they are asked and told, and what follows from their answers.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

use remuxd_tests::asking::{ALL, Ask};
use remuxd_tests::capture::Capture;
use remuxd_tests::flv::VIDEO;
use remuxd_tests::hooks::{Call, HookServer, Reply};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::rtmp::{Amf, Connection};
use remuxd_tests::secrets::TOKEN;
use remuxd_tests::tls::{Certificate, Files};
use remuxd_tests::token::hmac_sha256;
use remuxd_tests::tool::Ffmpeg;
use remuxd_tests::wait::{SOON, wait_until};

const VHOST: &str = "vhost.\"__defaultVhost__\"";
/// All hooks of a vhost that SRS has.
const SRS_HOOKS: [&str; 6] = ["on_connect", "on_close", "on_publish", "on_unpublish", "on_play", "on_stop"];

/// Returns a config whose default vhost has hooks with these keys. No viewer waits for a stream.
fn config(keys: &str) -> Config {
    let hooks = format!("[{VHOST}.http_hooks]\nenabled = true\n{keys}");
    Config::live().play("wait", "\"0s\"").tables(&hooks)
}

/// The names of the fields of a call.
fn fields(call: &Call) -> Vec<&str> {
    call.json.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Asserts that a call has these fields of SRS, with these values.
#[track_caller]
fn assert_fields(call: &Call, expected: &[(&str, &str)]) {
    let (names, action) = (fields(call), call.text("action"));
    for (field, value) in expected {
        assert!(names.contains(field), "{action} has no {field}: {}", call.body);
        assert!(*value == "*" || call.text(field) == *value, "{action}: {field} is {}", call.json[*field]);
    }
    let common = ["server_id", "service_id", "client_id", "event_id", "ip", "vhost", "app"];
    assert!(common.iter().all(|field| !call.text(field).is_empty()), "{}", call.body);
    assert_eq!((call.text("ip"), call.text("vhost")), ("127.0.0.1", "__defaultVhost__"));
}

#[test]
fn each_hook_gets_the_fields_of_srs() {
    let server = HookServer::start();
    let host = Host::start(&config(&server.keys(&SRS_HOOKS)));
    let key = host.key("film");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(3));
    let request = Request::get(&format!("{}?k=v", host.path(&key)))
        .header("Referer", "http://a.example/page")
        .header("User-Agent", "test/1");
    let viewer = Capture::request(&host, request);
    viewer.wait_started(SOON);
    drop(publisher);
    let _ = viewer.finish(SOON);
    assert_eq!(
        Ask::RtmpPlay.status(&host, &key, "k=v", "http://a.example/page"),
        "NetStream.Play.StreamNotFound"
    );

    let tc_url = format!("rtmp://{}/live", host.rtmp);
    let token = format!("?token={TOKEN}");
    let connect = &server.wait("on_connect", 2)[0];
    assert_fields(
        connect,
        &[
            ("app", "live"),
            ("stream", ""),
            ("param", ""),
            ("tcUrl", &tc_url),
            ("pageUrl", ""),
            ("protocol", "rtmp"),
        ],
    );
    let named = [
        ("app", "live"),
        ("stream", "film"),
        ("param", &*token),
        ("tcUrl", &tc_url),
        ("stream_url", "/live/film"),
        ("stream_id", "*"),
        ("protocol", "rtmp"),
        ("user_agent", "FMLE/3.0 (compatible; remuxd-tests)"),
    ];
    let publish = &server.wait("on_publish", 1)[0];
    assert_fields(publish, &named);
    let unpublish = &server.wait("on_unpublish", 1)[0];
    assert_fields(unpublish, &named);
    assert!(unpublish.json["bytes"].as_u64().unwrap() > 500, "{}", unpublish.body);
    assert!(unpublish.json["duration"].is_f64(), "{}", unpublish.body);
    for field in ["client_id", "session_id", "stream_id"] {
        assert_eq!(publish.text(field), unpublish.text(field), "{field}");
    }
    assert_eq!(connect.text("client_id"), publish.text("client_id"), "of one connection");

    let played = |protocol, tc_url, page, agent| {
        [
            ("app", "live"),
            ("stream", "film"),
            ("param", "?k=v"),
            ("tcUrl", tc_url),
            ("pageUrl", page),
            ("stream_url", "/live/film"),
            ("protocol", protocol),
            ("user_agent", agent),
        ]
    };
    let plays = server.wait("on_play", 2);
    assert_fields(
        &plays[0],
        &played("http", "rtmp://__defaultVhost__/live", "http://a.example/page", "test/1"),
    );
    assert_eq!(plays[0].text("format"), "flv");
    assert_fields(
        &plays[1],
        &played(
            "rtmp",
            "rtmp://127.0.0.1/live",
            "http://a.example/page",
            "FMLE/3.0 (compatible; remuxd-tests)",
        ),
    );
    let stops = server.wait("on_stop", 2);
    let stop = stops.iter().find(|stop| stop.text("protocol") == "http").unwrap();
    assert!(!fields(stop).contains(&"pageUrl"), "SRS has none: {}", stop.body);
    assert!(stop.json["bytes"].as_u64().unwrap() > 500, "{}", stop.body);
    let close = &server.wait("on_close", 2)[0];
    assert_fields(close, &[("app", "live")]);
    assert!(close.json["recv_bytes"].as_u64().unwrap() > 500, "{}", close.body);
    assert_eq!(close.json["send_bytes"], 0);
    for absent in ["tcUrl", "stream", "param"] {
        assert!(!fields(close).contains(&absent), "SRS has none: {}", close.body);
    }
    let ids: Vec<_> = server.calls().iter().map(|call| call.text("event_id").to_owned()).collect();
    let unique: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "ids of events are unique");
}

#[test]
fn answers_mean_what_they_mean_to_srs_over_every_protocol() {
    let server = HookServer::start();
    let files = Files::of(&Certificate::of(&["127.0.0.1"]));
    let hooks = server.keys(&["on_publish", "on_play"]);
    let host = Host::start(&config(&hooks).tables(&files.listeners()));
    let answers = [
        (200, "0", true),
        (200, "{\"code\":0,\"data\":null}", true),
        (201, "{\"code\": 0}", true),
        // SRS's sample server, asked about an action that it does not know.
        (200, "{\"code\": 200, \"data\": null}", false),
        (200, "1", false),
        (200, "", false),
        (200, "welcome", false),
        (403, "0", false),
        (500, "0", false),
    ];
    for (status, body, admitted) in answers {
        server.answer(move |_| Reply::Answer(status, body.to_owned()));
        for ask in ALL {
            let [yes, no] = match ask {
                Ask::RtmpPublish | Ask::RtmpsPublish => {
                    ["NetStream.Publish.Start", "NetStream.Publish.Denied"]
                }
                Ask::RtmpPlay | Ask::RtmpsPlay => ["NetStream.Play.StreamNotFound", "NetStream.Play.Failed"],
                _ => ["404", "403"],
            };
            let found = ask.status(&host, &host.key(&format!("{ask:?}")), "", "");
            assert_eq!(found, if admitted { yes } else { no }, "{ask:?}: {status} {body}");
        }
    }
    host.wait_log(&["access refused", "hook: on_play", "refuses: code 200"]);
}

#[test]
fn a_refused_connection_gets_a_status_and_each_of_several_hooks_must_allow() {
    let (first, second) = (HookServer::start(), HookServer::start());
    let urls = format!("on_connect = [\"{}\", \"{}\"]\n", first.url("/a"), second.url("/b"));
    let host = Host::start(&config(&urls));
    let connect = || {
        let mut connection = Connection::open(host.rtmp).unwrap();
        let (name, values) = connection.connect("live").unwrap();
        let code = values.iter().find_map(|value| value.property("code")?.text().map(str::to_owned));
        (name, code.unwrap())
    };
    assert_eq!(connect(), ("_result".to_owned(), "NetConnection.Connect.Success".to_owned()));
    second.answer(|_| Reply::Answer(200, "1".to_owned()));
    assert_eq!(connect(), ("_error".to_owned(), "NetConnection.Connect.Rejected".to_owned()));
    assert_eq!((first.calls().len(), second.calls().len()), (2, 2));
    first.answer(|_| Reply::Answer(200, "1".to_owned()));
    assert_eq!(connect().1, "NetConnection.Connect.Rejected");
    assert_eq!((first.calls().len(), second.calls().len()), (3, 2), "the first refusal decides");
    let mut ffmpeg = Ffmpeg::Five.command();
    ffmpeg.args(["-v", "warning", "-f", "lavfi", "-i", "sine", "-t", "1", "-c:a", "aac", "-f", "flv"]);
    let output = ffmpeg.arg(host.rtmp_url(&host.key("film"))).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(printed.contains("This client may not connect."), "{printed}");
}

#[test]
fn other_streams_of_a_connection_go_on_while_a_hook_is_asked() {
    let server = HookServer::answering(|call| match call.text("stream") {
        "held" => Reply::Held(200, "0".to_owned()),
        _ => Reply::ok(),
    });
    let host = Host::start(&config(&(server.keys(&["on_publish", "on_play"]) + "timeout = 10\n")));
    let mut publisher = Publisher::open(host.rtmp, &host.key("film"));
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(2));
    let mut connection = Connection::open(host.rtmp).unwrap();
    connection.connect("live").unwrap();
    let (playing, publishing) = (connection.create_stream().unwrap(), connection.create_stream().unwrap());
    assert_eq!(connection.play(playing, "film").unwrap(), "NetStream.Play.Start");
    connection.command(publishing, "publish", &[Amf::Null, "held".into(), "live".into()]).unwrap();
    let _ = server.wait("on_publish", 2);
    for frame in 2..20 {
        publisher.send(&media.frames(1));
        let number = connection.read_until(|message| {
            (message.kind == VIDEO && message.stream == playing)
                .then(|| Numbered::number_in(&message.payload))
                .flatten()
                .filter(|number| *number == frame)
        });
        assert_eq!(number.unwrap(), frame);
    }
    server.release();
    let released = Instant::now();
    let status = connection.read_until(|message| message.status().filter(|_| message.stream == publishing));
    assert_eq!(status.unwrap(), "NetStream.Publish.Start");
    assert!(released.elapsed() < SOON, "the answer came {:?} after the hook's", released.elapsed());
}

#[test]
fn a_client_that_leaves_is_not_asked_about_further() {
    let (first, second) = (HookServer::answering(|_| Reply::Held(200, "0".to_owned())), HookServer::start());
    let urls = format!("on_play = [\"{}\", \"{}\"]\n", first.url("/a"), second.url("/b"));
    let host = Host::start(&config(&(urls + &second.keys(&["on_stop"]) + "timeout = 10\n")));
    let mut socket = TcpStream::connect(host.http).unwrap();
    socket.write_all(b"GET /live/film.flv HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let _ = first.wait("on_play", 1);
    drop(socket);
    wait_until(SOON, "the client is gone", || host.sessions().is_empty());
    first.release();
    let _ = second.wait("on_stop", 1);
    assert_eq!(second.of("on_play").len(), 0, "its answer would be of no use");
}

#[test]
fn commands_and_media_that_follow_a_held_answer_wait_for_it() {
    let server = HookServer::answering(|_| Reply::Held(200, "0".to_owned()));
    let host = Host::start(&config(&(server.keys(&["on_connect", "on_publish"]) + "timeout = 10\n")));
    let key = host.key("film");
    // Everything at once: no answer is waited for.
    let mut connection = Connection::open(host.rtmp).unwrap();
    let tc_url = Amf::String(format!("rtmp://{}/live", host.rtmp));
    connection
        .command(0, "connect", &[Amf::Object(vec![("app".into(), "live".into()), ("tcUrl".into(), tc_url)])])
        .unwrap();
    connection.command(0, "createStream", &[Amf::Null]).unwrap();
    connection.command(1, "publish", &[Amf::Null, "film".into(), "live".into()]).unwrap();
    let mut publisher = Publisher::of(connection, 1);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(3));
    let _ = server.wait("on_connect", 1);
    assert!(server.of("on_publish").is_empty(), "the connection is not accepted yet");
    server.release();
    let _ = server.wait("on_publish", 1);
    wait_until(SOON, "the publisher is accepted", || host.sessions().len() == 1);
    let viewer = Capture::http(&host, &key);
    viewer.wait_until(SOON, "all frames", |tags| Numbered::numbers(tags) == [0, 1, 2]);
}

#[test]
fn each_accepted_session_has_exactly_one_end() {
    let server = HookServer::start();
    let mut host = Host::start(&config(&server.keys(&SRS_HOOKS)));
    let key = host.key("film");
    let publisher = Publisher::open(host.rtmp, &key);
    // Accepted by the hook, then refused because the stream is live.
    assert_eq!(Ask::RtmpPublish.status(&host, &key, "", ""), "NetStream.Publish.BadName");
    // Accepted by the hook, then refused because there is no stream.
    for ask in [Ask::Http, Ask::Head, Ask::WebSocket, Ask::RtmpPlay] {
        let status = ask.status(&host, &host.key("none"), "", "");
        assert!(["404", "NetStream.Play.StreamNotFound"].contains(&&*status), "{ask:?}: {status}");
    }
    // Refused by the hook.
    server.answer(|call| match call.text("stream") {
        "refused" => Reply::Answer(200, "1".to_owned()),
        _ => Reply::ok(),
    });
    assert_eq!(Ask::Http.status(&host, &host.key("refused"), "", ""), "403");
    // A client that is gone before the hook answers.
    server.answer(|call| match (call.text("action"), call.text("stream")) {
        ("on_play", "gone") => Reply::Held(200, "0".to_owned()),
        _ => Reply::ok(),
    });
    let mut socket = TcpStream::connect(host.http).unwrap();
    socket.write_all(b"GET /live/gone.flv HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    wait_until(SOON, "the hook is asked", || {
        server.of("on_play").iter().any(|call| call.text("stream") == "gone")
    });
    drop(socket);
    server.release();
    wait_until(SOON, "its end", || server.of("on_stop").iter().any(|call| call.text("stream") == "gone"));
    // Sessions that run over a reload, and until the host stops.
    host.write_config(&host.config().replace("[limits]\n", "[limits]\n# changed\n"));
    let viewer = {
        let mut media = Numbered::new(500);
        let mut publisher = publisher;
        publisher.send(&media.headers());
        publisher.send(&media.frames(2));
        let viewer = Capture::http(&host, &key);
        viewer.wait_started(SOON);
        host.reload();
        (viewer, publisher)
    };
    host.terminate();
    drop(viewer);
    let mut ends: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for call in server.calls() {
        let id = call.text("session_id");
        let id = if id.is_empty() { call.text("client_id") } else { id };
        ends.entry(id.to_owned()).or_default().push(call.text("action").to_owned());
    }
    for (id, actions) in &ends {
        let refused = server
            .calls()
            .iter()
            .any(|call| call.text("session_id") == id && call.text("stream") == "refused");
        let expected: &[&[&str]] = if refused {
            &[&["on_play"]]
        } else {
            &[&["on_connect", "on_close"], &["on_publish", "on_unpublish"], &["on_play", "on_stop"]]
        };
        assert!(expected.iter().any(|expected| actions == expected), "{id}: {actions:?}");
    }
    assert_eq!(server.of("on_publish").len(), 2);
    assert_eq!(server.of("on_play").len(), 7);
}

#[test]
fn events_are_sent_again_under_their_id_and_the_end_of_the_connection_comes_last() {
    let mut attempts = 0;
    let server = HookServer::answering(move |call| {
        let fails = call.text("action") == "on_unpublish" && attempts < 2;
        attempts += u32::from(fails);
        if fails { Reply::Answer(503, String::new()) } else { Reply::ok() }
    });
    let host = Host::start(&config(&server.keys(&SRS_HOOKS)));
    drop(Publisher::open(host.rtmp, &host.key("film")));
    let _ = server.wait("on_close", 1);
    let told = server.of("on_unpublish");
    let ids: Vec<_> = told.iter().map(|call| call.text("event_id")).collect();
    assert_eq!(ids, [ids[0]; 3], "one event, sent three times");
    let order: Vec<_> = server.calls().iter().map(|call| call.text("action").to_owned()).collect();
    assert_eq!(
        order,
        ["on_connect", "on_publish", "on_unpublish", "on_unpublish", "on_unpublish", "on_close"],
        "the end of a connection is told after those of its sessions"
    );
}

#[test]
fn allowances_are_kept_for_their_time_only_when_asked_to() {
    let server = HookServer::start();
    let host = Host::start(&config(&(server.keys(&["on_play", "on_stop"]) + "cache_ttl = \"1h\"\n")));
    let play = |query| assert_eq!(Ask::Http.status(&host, &host.key("film"), query, ""), "404");
    play("a=1");
    play("a=1");
    play("a=2");
    let _ = server.wait("on_stop", 2);
    let params: Vec<_> = server.of("on_play").iter().map(|call| call.text("param").to_owned()).collect();
    assert_eq!(params, ["?a=1", "?a=2"]);
    let page = host.api_page("/metrics");
    for line in [
        "remuxd_hook_requests_total{action=\"on_play\",result=\"ok\"} 2",
        "remuxd_hook_requests_total{action=\"on_play\",result=\"cached\"} 1",
        "remuxd_hook_seconds_count{action=\"on_play\"} 2",
        "remuxd_hook_events_lost_total{reason=\"dropped\"} 0",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
}

#[test]
fn requests_are_signed() {
    let server = HookServer::start();
    let secret = "hook-5ecret-5ecret-5ecret-5ecret-";
    let keys = server.keys(&["on_play", "on_stop"]) + &format!("secret = \"{secret}\"\n");
    let host = Host::start(&config(&keys));
    assert_eq!(Ask::Http.status(&host, &host.key("film"), "", ""), "404");
    for call in [&server.wait("on_play", 1)[0], &server.wait("on_stop", 1)[0]] {
        let timestamp = call.header("remuxd-timestamp");
        let expected = format!("v1={}", hmac_sha256(secret, &format!("{timestamp}.{}", call.body)));
        assert_eq!(call.header("remuxd-signature"), expected);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!(now.abs_diff(timestamp.parse().unwrap()) < 60, "{timestamp}");
        assert_eq!(call.header("content-type"), "application/json");
    }
}

#[test]
fn secret_names_and_secrets_of_urls_stay_in_the_host() {
    let server = HookServer::start();
    let (name, password) = ("name-5ecret-0123456789abcdef0123", "pass-5ecret");
    let hash = remuxd_tests::token::sha256(name);
    let address = server.address;
    let urls: String = SRS_HOOKS
        .iter()
        .map(|hook| format!("{hook} = \"http://user:{password}@{address}/{hook}?key={password}\"\n"))
        .collect();
    let keys = format!(
        "[{VHOST}.publish_key]\nenabled = true\n[[{VHOST}.publish_key.key]]\nstream = \"film\"\nsha256 = \"{hash}\""
    );
    let host = Host::start(&config(&urls).tables(&keys));
    // As the stream's name; in the parameters; as a part of tcUrl, as OBS with an empty stream key sends it.
    assert_eq!(Ask::RtmpPublish.status(&host, &host.key(name), "", ""), "NetStream.Publish.Start");
    assert_eq!(
        Ask::RtmpPublish.status(&host, &host.key(name), &format!("key={name}"), ""),
        "NetStream.Publish.Start"
    );
    let mut connection = Connection::open(host.rtmp).unwrap();
    connection.connect(&format!("live/{name}")).unwrap();
    let stream = connection.create_stream().unwrap();
    assert_eq!(connection.publish(stream, "").unwrap(), "NetStream.Publish.Start");
    drop(connection);
    let _ = server.wait("on_close", 3);
    for call in server.calls() {
        assert!(!call.body.contains("name-5ecret"), "{}", call.body);
        assert_eq!(call.header("authorization"), "Basic dXNlcjpwYXNzLTVlY3JldA==");
    }
    assert!(server.of("on_unpublish").iter().all(|call| call.text("stream") == "film"));
    server.answer(|call| if call.text("action") == "on_publish" { Reply::Close } else { Reply::ok() });
    assert_eq!(Ask::RtmpPublish.status(&host, &host.key(name), "", ""), "NetStream.Publish.Denied");
    // At the host's end the kit looks for `5ecret` in all of its output.
    host.wait_log(&["access refused", "stream=live/#", "hook: on_publish"]);
}

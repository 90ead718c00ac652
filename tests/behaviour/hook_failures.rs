//! HTTP hooks whose server is dead, slow or mad: policy holds, and other streams do not notice. And what the host tells by itself.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use remuxd_tests::asking::Ask;
use remuxd_tests::flv::VIDEO;
use remuxd_tests::hooks::{HookServer, Reply, dead_address};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::neighbour::Neighbour;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::rtmp::{Amf, Connection};
use remuxd_tests::tls::{Certificate, Files};
use remuxd_tests::wait::{SOON, wait_until};

use crate::isolation::scene::{Live, Scene};

/// Two vhosts with the same hooks, which are refused and accepted if a hook fails.
fn both(urls: &str) -> String {
    let vhost = |name: &str, failure: &str| {
        format!(
            "[vhost.\"{name}\".play]\nwait = 0\n[[vhost.\"{name}\".http_remux]]\nenabled = true\n\
             [vhost.\"{name}\".http_hooks]\nenabled = true\ntimeout = \"500ms\"\non_failure = \"{failure}\"\n{urls}"
        )
    };
    vhost("deny.example", "deny") + &vhost("allow.example", "allow")
}

/// The statuses over HTTP and RTMP, of a client that is accepted and of one that is not.
const STATUSES: [(Ask, &str, &str); 3] = [
    (Ask::Http, "404", "403"),
    (Ask::RtmpPlay, "NetStream.Play.StreamNotFound", "NetStream.Play.Failed"),
    (Ask::RtmpPublish, "NetStream.Publish.Start", "NetStream.Publish.Denied"),
];

#[test]
fn policy_holds_and_media_flows_while_a_hook_server_fails() {
    let server = HookServer::start();
    let urls = server.keys(&["on_publish", "on_play"]);
    let host = Host::start(&Config::live().tables(&both(&urls)));
    let neighbour = Neighbour::start(&host);
    let redirect =
        format!("HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", server.url("/elsewhere"));
    let huge =
        [b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n".to_vec(), vec![b'0'; 10_000_000]].concat();
    let cases: [(&str, Reply, bool); 7] = [
        ("silent", Reply::Held(200, "0".to_owned()), true),
        ("closing", Reply::Close, true),
        ("no HTTP", Reply::Raw(b"0\r\n\r\n".to_vec()), true),
        ("huge", Reply::Raw(huge), true),
        ("failing", Reply::Answer(502, "0".to_owned()), true),
        ("redirecting", Reply::Raw(redirect.into_bytes()), false),
        ("rubbish", Reply::Answer(200, "<html>".to_owned()), false),
    ];
    for (what, reply, is_failure) in cases {
        server.answer(move |_| reply.clone());
        for (ask, yes, no) in STATUSES {
            let began = Instant::now();
            let key = host.key(&format!("{ask:?}"));
            assert_eq!(ask.status(&host, &key, "vhost=deny.example", ""), no, "{what} {ask:?}");
            let expected = if is_failure { yes } else { no };
            assert_eq!(ask.status(&host, &key, "vhost=allow.example", ""), expected, "{what} {ask:?}");
            assert!(began.elapsed() < SOON, "{what}: a gate has a timeout");
        }
        neighbour.goes_on(what);
    }
    assert!(server.calls().iter().all(|call| call.path != "/elsewhere"), "redirects are not followed");
    host.wait_log(&["access refused", "hook: on_play", "no answer within"]);
    host.wait_log(&["hook failed", "action=on_", "url=http://127.0.0.1"]);
    neighbour.finish();
}

#[test]
fn a_hook_server_that_is_not_there_is_a_failure() {
    let urls: String = ["on_publish", "on_play"]
        .iter()
        .map(|hook| format!("{hook} = \"http://{}/\"\n", dead_address()))
        .collect();
    let host = Host::start(&Config::live().tables(&both(&urls)));
    for (ask, yes, no) in STATUSES {
        let key = host.key(&format!("{ask:?}"));
        assert_eq!(ask.status(&host, &key, "vhost=deny.example", ""), no, "{ask:?}");
        assert_eq!(ask.status(&host, &key, "vhost=allow.example", ""), yes, "{ask:?}");
    }
    host.wait_log(&["access refused", "cannot connect"]);
}

#[test]
fn a_question_is_not_repeated_once_it_was_sent() {
    let server = HookServer::answering(|_| Reply::Close);
    let host = Host::start(&Config::live().tables(&both(&server.keys(&["on_play"]))));
    assert_eq!(Ask::Http.status(&host, &host.key("film"), "vhost=deny.example", ""), "403");
    assert_eq!(Ask::Http.status(&host, &host.key("film"), "vhost=allow.example", ""), "404");
    assert_eq!(server.of("on_play").len(), 2);
}

#[test]
fn a_refusal_is_not_overridden_by_a_failure_of_another_hook() {
    let server = HookServer::answering(|_| Reply::Answer(200, "1".to_owned()));
    let urls = format!("on_play = [\"http://{}/\", \"{}\"]\n", dead_address(), server.url("/on_play"));
    let host = Host::start(&Config::live().tables(&both(&urls)));
    assert_eq!(Ask::Http.status(&host, &host.key("film"), "vhost=allow.example", ""), "403");
    assert_eq!(server.calls().len(), 1, "it is asked although the first failed");
}

#[test]
fn certificates_of_hook_servers_are_verified() {
    let certificate = Certificate::of(&["127.0.0.1"]);
    let files = Files::of(&certificate);
    let server = HookServer::over_tls(&certificate);
    let config = Config::live().tables(&both(&server.keys(&["on_play"])));
    let status = |host: &Host| Ask::Http.status(host, &host.key("film"), "vhost=deny.example", "");
    let distrusting = Host::start(&config);
    assert_eq!(status(&distrusting), "403");
    distrusting.wait_log(&["access refused", "cannot connect", "certificate"]);
    assert!(server.calls().is_empty());
    let roots = format!("SSL_CERT_FILE={}", files.cert().display());
    let trusting = Host::start_by(&["env", &roots], &config);
    assert_eq!(status(&trusting), "404");
    assert_eq!(server.of("on_play").len(), 1);
}

#[test]
fn proxies_of_the_environment_are_not_used() {
    let (server, proxy) = (HookServer::start(), HookServer::start());
    let config = Config::live().tables(&both(&server.keys(&["on_play"])));
    let [upper, lower] = ["HTTP_PROXY", "http_proxy"].map(|name| format!("{name}={}", proxy.url("/")));
    let host = Host::start_by(&["env", &upper, &lower], &config);
    assert_eq!(Ask::Http.status(&host, &host.key("film"), "vhost=deny.example", ""), "404");
    assert_eq!((server.calls().len(), proxy.calls().len()), (1, 0));
}

#[test]
fn streams_that_are_wanted_and_streams_that_nobody_watches_are_told() {
    let server = HookServer::start();
    let hooks = server.keys(&["on_stream_wanted", "on_stream_idle"]);
    let tables = format!("[vhost.\"__defaultVhost__\".http_hooks]\nenabled = true\n{hooks}");
    let host = Host::start(&Config::live().play("idle_timeout", "\"200ms\"").tables(&tables));
    let key = host.key("film");
    let mut viewer = TcpStream::connect(host.http).unwrap();
    write!(viewer, "GET {} HTTP/1.1\r\nHost: a\r\n\r\n", host.path(&key)).unwrap();
    let mut player = Connection::open(host.rtmp).unwrap();
    player.connect("live").unwrap();
    let stream = player.create_stream().unwrap();
    player.command(stream, "play", &[Amf::Null, "film".into()]).unwrap();
    host.wait_waiting(2);
    let wanted = &server.wait("on_stream_wanted", 1)[0];
    assert_eq!((wanted.text("stream_url"), wanted.text("ip")), ("/live/film", "127.0.0.1"));
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(2));
    player.read_until(|message| (message.kind == VIDEO).then_some(())).unwrap();
    viewer.read_exact(&mut [0; 200]).unwrap();
    assert!(server.of("on_stream_idle").is_empty());
    drop((viewer, player));
    let mut frames = std::iter::repeat_with(|| media.frames(1));
    wait_until(SOON, "the stream is idle", || {
        publisher.send(&frames.next().unwrap());
        !server.of("on_stream_idle").is_empty()
    });
    let idle = &server.of("on_stream_idle")[0];
    assert_eq!((idle.text("stream_url"), idle.json["idle"].as_f64()), ("/live/film", Some(0.2)));
    assert_eq!(server.of("on_stream_wanted").len(), 1, "once for all who wait");
}

#[test]
fn reloads_and_faults_of_modules_are_told() {
    let server = HookServer::start();
    let hooks = format!("[http_hooks]\nenabled = true\n{}", server.keys(&["on_fault", "on_reload"]));
    let scene = Scene::new("none", &hooks);
    let live = Live::with_key(&scene, &scene.key);
    let viewer = scene.hostile();
    viewer.wait_number(1);
    let _ = live.order("panic");
    let fault = &server.wait("on_fault", 1)[0];
    assert_eq!(
        ["module", "vhost", "app", "stream", "stream_url"].map(|field| fault.text(field)),
        ["hostile", "__defaultVhost__", "live", "live", "/live/live"]
    );
    assert!(!fault.text("reason").is_empty() && fault.json["generation"].is_u64(), "{}", fault.body);
    scene.host.reload();
    let reload = &server.wait("on_reload", 1)[0];
    assert_eq!(reload.text("outcome"), "unchanged");
    let names: Vec<_> = reload.json["modules"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["flv", "hostile"]);
    // The hooks are replaced by the reload that they are told about.
    let other = HookServer::start();
    scene.host.write_config(&scene.host.config().replace(&server.url(""), &other.url("")));
    scene.host.reload();
    assert_eq!(other.wait("on_reload", 1)[0].text("outcome"), "applied");
}

/// How long the flush at the end may take, with the time to stop.
const STOPPED: Duration = Duration::from_secs(15);

#[test]
fn a_dead_hook_server_does_not_keep_the_host_from_stopping() {
    let urls: String = ["on_unpublish", "on_close", "on_stop"]
        .iter()
        .map(|hook| format!("{hook} = \"http://{}/\"\n", dead_address()))
        .collect();
    let tables = format!("[vhost.\"__defaultVhost__\".http_hooks]\nenabled = true\n{urls}");
    let mut host = Host::start(&Config::live().tables(&tables));
    let _publisher = Publisher::open(host.rtmp, &host.key("film"));
    let began = Instant::now();
    host.terminate();
    assert!(began.elapsed() < STOPPED, "{:?}", began.elapsed());
}

//! Mounts: which requests each answers.

use std::path::PathBuf;
use std::process::{Child, Command};

use remuxd_tests::capture::{Capture, End};
use remuxd_tests::clip::Clip;
use remuxd_tests::decode::decode;
use remuxd_tests::encoder::Encoder;
use remuxd_tests::flv::{Content, VIDEO};
use remuxd_tests::host::{Config, Host, remuxd};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tool::Ffmpeg;
use remuxd_tests::wait::SOON;
use remuxd_tests::websocket;

/// Two vhosts beside the default one, with mounts of every kind, and one that is off.
const VHOSTS: &str = r#"
[vhost."a.example".publish]
republish_wait = "0s"
normal_timeout = "1m"
[vhost."a.example".play]
wait = "0s"
[[vhost."a.example".http_remux]]
enabled = true
[[vhost."a.example".http_remux]]
enabled = true
mount = "/tv/[app]/[stream].flv"
[[vhost."a.example".http_remux]]
enabled = true
mount = "a.example/by/[stream]/of/[app].flv"
[[vhost."a.example".http_remux]]
enabled = false
mount = "/off/[app]/[stream].flv"
[vhost."b.example".publish]
normal_timeout = "1m"
[vhost."b.example".play]
wait = "0s"
[[vhost."b.example".http_remux]]
enabled = true
[vhost."off.example"]
enabled = false
[[vhost."off.example".http_remux]]
enabled = true
mount = "/gone/[app]/[stream].flv"
[[vhost."off.example".http_remux]]
enabled = true
"#;

fn start() -> Host {
    Host::start(&Config::live().play("wait", "\"0s\"").tables(VHOSTS))
}

/// Publishes a stream of some frames to `name`, and waits until an RTMP player has them.
fn publish(host: &Host, app: &str, name: &str) -> Publisher {
    let key = format!("{app}/{name}");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(500);
    let player = Capture::rtmp(host, &key);
    publisher.send(&media.headers());
    publisher.send(&media.frames(30));
    player.wait_until(SOON, "the last frame", |tags| Numbered::numbers(tags).last() == Some(&29));
    publisher
}

/// Returns the status over HTTP, which must equal the one over WebSocket.
fn status(host: &Host, name: &str, path: &str) -> u16 {
    let http = Request::get(path).header("Host", name).send(host.http).unwrap().status;
    let websocket = match websocket::open(host.http, path, &[("host", name)]) {
        Ok((mut socket, _)) => {
            assert!(matches!(socket.read(), Ok(tungstenite::Message::Binary(_))), "{name} {path}");
            200
        }
        Err(tungstenite::Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{name} {path}: {error}"),
    };
    assert_eq!(http, websocket, "{name} {path}");
    http
}

#[test]
fn a_mount_answers_its_own_name_or_any() {
    let host = start();
    let name = "one".to_owned();
    let _of_a = publish(&host, "live", &format!("{name}?vhost=a.example"));
    let own = format!("/live/{name}.flv");
    let rows = [
        // `[vhost]/` answers the vhost's name only, however it is written.
        ("a.example", own.clone(), 200),
        ("A.Example:8080", own.clone(), 200),
        ("a.example.", own.clone(), 200),
        ("b.example", own.clone(), 404),
        ("other.example", own.clone(), 404),
        ("127.0.0.1", own.clone(), 404),
        // The query may name a vhost too, and takes precedence over Host.
        ("127.0.0.1", format!("{own}?vhost=a.example"), 200),
        ("127.0.0.1", format!("{own}?domain=a.example"), 200),
        ("127.0.0.1", format!("{own}?domain=b.example&vhost=a.example"), 200),
        ("a.example", format!("{own}?vhost=b.example"), 404),
        ("a.example", format!("{own}?vhost=__defaultVhost__"), 200),
        ("a.example", format!("{own}?vhost="), 200),
        // `/` answers any name and any address.
        ("a.example", format!("/tv/live/{name}.flv"), 200),
        ("b.example", format!("/tv/live/{name}.flv"), 200),
        ("other.example", format!("/tv/live/{name}.flv"), 200),
        ("127.0.0.1:80", format!("/tv/live/{name}.flv"), 200),
        ("[::1]:80", format!("/tv/live/{name}.flv"), 200),
        ("off.example", format!("/tv/live/{name}.flv"), 200),
        // The vhost's name written out; variables in another order.
        ("a.example", format!("/by/{name}/of/live.flv"), 200),
        ("b.example", format!("/by/{name}/of/live.flv"), 404),
        // Paths of no mount.
        ("a.example", format!("/tv/{name}.flv"), 404),
        ("a.example", format!("/x/live/{name}.flv"), 404),
        ("a.example", format!("/live/{name}.ts"), 404),
        ("a.example", format!("/live/{name}.FLV"), 404),
        ("a.example", format!("/Live/{name}.flv"), 404),
    ];
    for (name, path, expected) in rows {
        assert_eq!(status(&host, name, &path), expected, "{name} {path}");
    }
}

#[test]
fn rtmp_and_http_agree_on_the_vhost() {
    let host = start();
    // The name that a publisher uses, and the query with which a viewer finds the stream.
    let rows = [
        ("?vhost=b.example", "?vhost=b.example", 200),
        ("?vhost=b.example", "", 404),
        ("?domain=b.example", "?domain=b.example", 200),
        ("?domain=a.example&vhost=b.example", "?vhost=b.example", 200),
        ("?vhost=__defaultVhost__", "", 200),
        ("?vhost=", "", 200),
        ("?vhost=B.example.", "?vhost=b.example", 200),
        ("?vhost=b.example", "?vhost=b.example.", 200),
        ("?vhost=unknown.example", "", 200),
        ("?vhost=unknown.example", "?vhost=other.example", 200),
        ("", "?vhost=b.example", 404),
    ];
    for (index, (published, asked, expected)) in rows.into_iter().enumerate() {
        let name = format!("{index}");
        let _publisher = publish(&host, "live", &format!("{name}{published}"));
        let path = format!("/live/{name}.flv{asked}");
        assert_eq!(status(&host, "127.0.0.1", &path), expected, "{published} {asked}");
    }
    // A tcUrl with the vhost before the stream, in both of its forms.
    for (index, app) in ["live?vhost=b.example", "live...vhost...b.example"].into_iter().enumerate() {
        let name = format!("app{index}");
        let _publisher = publish(&host, app, &name);
        assert_eq!(status(&host, "b.example", &format!("/live/{name}.flv")), 200, "{app}");
    }
}

#[test]
fn disabled_vhosts_and_mounts_do_not_exist() {
    let host = start();
    let name = "one".to_owned();
    let _of_a = publish(&host, "live", &format!("{name}?vhost=a.example"));
    let (_, refused) = Publisher::try_open(host.rtmp, &format!("live/{name}?vhost=off.example")).unwrap();
    assert_ne!(refused, "NetStream.Publish.Start", "a vhost that is off takes no publisher");
    let _of_default = publish(&host, "live", &name);
    let rows = [
        ("a.example", format!("/off/live/{name}.flv")),
        ("off.example", format!("/live/{name}.flv")),
        ("off.example", format!("/gone/live/{name}.flv")),
        ("other.example", format!("/gone/live/{name}.flv")),
        ("other.example", format!("/live/{name}.flv?vhost=off.example")),
    ];
    for (name, path) in rows {
        assert_eq!(status(&host, name, &path), 404, "{name} {path}");
    }
    assert_eq!(status(&host, "other.example", &format!("/live/{name}.flv")), 200);

    let silent = Host::start_toml(&Config::live().toml().replacen(
        "[http_server]\nenabled = true",
        "[http_server]",
        1,
    ));
    assert!(!silent.stdout().contains("listening http "), "{}", silent.stdout());
}

#[test]
fn one_stream_goes_out_of_all_mounts_at_once() {
    const OLD: &str = "[vhost.\"__defaultVhost__\".http_remux.options]\nhevc = \"legacy\"";
    let mut config = Config::live().mount("").mount(&format!("mount = \"/old/[app]/[stream].flv\"\n{OLD}"));
    let mut paths = vec![String::new(), "/old".into()];
    for number in 0..20 {
        config = config.mount(&format!("mount = \"/m{number}/[app]/[stream].flv\""));
        paths.push(format!("/m{number}"));
    }
    let host = Host::start(&config);
    let key = host.key("one");
    let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(500));
    let http = paths
        .iter()
        .map(|prefix| Capture::request(&host, Request::get(&format!("{prefix}{}", host.path(&key)))));
    let mut captures: Vec<Capture> = http.collect();
    captures.push(Capture::websocket(&host, &key));
    captures.push(Capture::rtmp(&host, &key));
    for capture in &captures {
        capture.wait_access_units(60, SOON);
    }
    publisher.stop();
    let frames = |capture: Capture| -> Vec<Vec<u8>> {
        let tags = capture.finish(SOON).tags.into_iter();
        let coded = tags.filter(|tag| tag.kind == VIDEO && matches!(tag.content(), Content::AccessUnit(_)));
        coded.map(|tag| tag.payload).collect()
    };
    let all: Vec<_> = captures.into_iter().map(frames).collect();
    assert!(all[0].len() > 10, "{}", all[0].len());
    for other in &all[1..] {
        // Each joined at its own keyframe; from the later one on they are equal.
        let len = other.len().min(all[0].len());
        assert!(len > 10 && other[other.len() - len..] == all[0][all[0].len() - len..]);
    }
}

#[test]
fn one_stream_goes_out_in_every_format_at_once() {
    let mount = |extension| format!("mount = \"/[app]/[stream].{extension}\"");
    let extensions = ["flv", "ts", "aac"];
    let config = extensions.iter().fold(Config::live(), |config, extension| config.mount(&mount(extension)));
    let host = Host::start(&config);
    let key = host.key("one");
    let scratch = Scratch::new();
    let files = extensions.map(|extension| scratch.join(&format!("served.{extension}")));
    let download = |(extension, file): (&str, &PathBuf)| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--max-time", "60", "--output"]).arg(file);
        command.arg(format!("http://{}/{key}.{extension}", host.http)).spawn().unwrap()
    };
    let downloads: Vec<Child> = extensions.into_iter().zip(&files).map(download).collect();
    let websocket = Capture::websocket(&host, &key);
    host.wait_waiting(downloads.len() + 1);
    let mut publishing = Encoder::Ffmpeg(Ffmpeg::Five).publish(Clip::H264Aac, &host, &key);
    host.wait_viewers(downloads.len() + 1);
    assert_eq!(host.count("mounts", None), downloads.len() as u64 + 1);
    let _ = publishing.finish();
    for mut curl in downloads {
        assert!(curl.wait().unwrap().success());
    }
    let recording = websocket.finish(SOON);
    assert_eq!(recording.end, End::Clean);
    std::fs::write(scratch.join("websocket.flv"), recording.bytes).unwrap();
    for file in files.iter().chain([&scratch.join("websocket.flv")]) {
        decode(Ffmpeg::Five, file).unwrap();
    }
}

/// Returns a configuration with these tables, and its two lines that claim the same path.
fn collision(tables: &str) -> (String, [usize; 2]) {
    let lines = tables.lines().enumerate().filter(|(_, line)| line.contains('«'));
    let locations: Vec<usize> = lines.map(|(index, _)| index + 1).collect();
    (tables.replace('«', ""), locations.try_into().expect("two lines are marked"))
}

fn mount(vhost: &str, mount: &str) -> String {
    format!("[[vhost.{vhost:?}.http_remux]]\nenabled = true\nmount = {mount:?}\n")
}

fn redirect(vhost: &str, path: &str) -> String {
    format!("[[vhost.{vhost:?}.redirect]]\nenabled = true\npath = {path:?}\nto = \"http://x.example/\"\n")
}

fn check(toml: &str) -> (bool, String) {
    let scratch = Scratch::new();
    let file = scratch.join("under-test.toml");
    std::fs::write(&file, toml).unwrap();
    let output = remuxd(&["check", "--config", file.to_str().unwrap()]);
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn collisions_are_errors_that_show_both_lines() {
    let default = "__defaultVhost__";
    let rows = [
        ("twice", mount("a", "«[vhost]/[app]/[stream].flv"), mount("a", "«/[app]/[stream].flv")),
        ("by variables", mount("a", "«/x/[app]/[stream].flv"), mount("a", "«/[app]/[stream]/y.flv")),
        ("of two vhosts", mount("a", "«/[app]/[stream].flv"), mount("b", "«/[app]/[stream].flv")),
        (
            "with the default",
            mount(default, "«[vhost]/[app]/[stream].flv"),
            mount("b", "«/[app]/[stream].flv"),
        ),
        ("with a redirect", mount("a", "«[vhost]/[app]/[stream].flv"), redirect("a", "«/[app]/[stream].flv")),
        ("of redirects", redirect("a", "«/[app]/[stream].x"), redirect("a", "«/[stream]/[app].x")),
        ("of redirects of two", redirect("a", "«/[app]/[stream].x"), redirect("b", "«/[app]/[stream].x")),
        ("across all", redirect("a", "«/[app]/[stream].flv"), mount("b", "«/[app]/[stream].flv")),
    ];
    for (name, one, two) in rows {
        let (toml, locations) = collision(&format!("{one}{two}"));
        let (well, printed) = check(&toml);
        assert!(!well && printed.contains("answer the same path"), "{name}:\n{printed}");
        for location in locations {
            let line = toml.lines().nth(location - 1).unwrap();
            assert!(
                printed.contains(&format!("{location} | {line}")),
                "{name}: line {location} in\n{printed}"
            );
        }
        assert!(printed.contains(&format!("under-test.toml:{}:", locations[1])), "{name}:\n{printed}");
    }
}

#[test]
fn mounts_that_share_no_request_are_no_collision() {
    let rows = [
        ("two names", mount("a", "[vhost]/[app]/[stream].flv"), mount("b", "[vhost]/[app]/[stream].flv")),
        ("own before any", mount("a", "[vhost]/[app]/[stream].flv"), mount("b", "/[app]/[stream].flv")),
        ("prefixes", mount("a", "/x/[app]/[stream].flv"), mount("a", "/y/[app]/[stream].flv")),
        ("a redirect elsewhere", mount("a", "/[app]/[stream].flv"), redirect("a", "/go/[app]/[stream].flv")),
        ("another extension", mount("a", "/[app]/[stream].flv"), redirect("a", "/[app]/[stream].m3u8")),
    ];
    for (name, one, two) in rows {
        let (well, printed) = check(&format!("{one}{two}"));
        assert!(well, "{name}:\n{printed}");
    }
}

#[test]
fn wrong_redirects_are_errors_with_their_line() {
    let rule = |lines: &str| format!("[[vhost.\"__defaultVhost__\".redirect]]\nenabled = true\n{lines}\n");
    let rows = [
        ("", 1, "`to` is missing"),
        ("to = \"b.example\"", 3, "not a URL"),
        ("to = \"http://[stream].example/\"", 3, "is not allowed in the host name"),
        ("to = \"http://[vhost]/\"", 3, "is not allowed in the host name"),
        ("to = \"http://b/[param]\"", 3, "there is no variable `[param]`"),
        ("to = \"http://b/\"\nstatus = 303", 4, "must be `301`, `302`, `307` or `308`"),
        ("to = \"http://b/\"\npath = \"/[app].flv\"", 4, "`[stream]` is missing"),
    ];
    for (lines, line, message) in rows {
        let (well, printed) = check(&rule(lines));
        assert!(!well && printed.contains(message), "{lines}:\n{printed}");
        assert!(printed.contains(&format!("under-test.toml:{line}:")), "{lines}:\n{printed}");
    }
}

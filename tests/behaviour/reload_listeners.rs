//! Listeners that a reload opens, moves and closes, while viewers and publishers stay connected.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};

use remuxd_tests::capture::{Capture, End};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::proxy::free_address;
use remuxd_tests::publisher::{Numbered, Pace, Publisher};
use remuxd_tests::tls::{self, Certificate, Files};
use remuxd_tests::wait::{SOON, wait_until};

/// A host with a stream, and a viewer over HTTP who watches since before any reload.
pub struct Watched {
    pub host: Host,
    pub key: String,
    pub publisher: Pace,
    pub viewer: Capture,
}

impl Watched {
    pub fn new(config: &Config) -> Watched {
        let host = Host::start(config);
        let key = host.key("film");
        let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(500));
        let viewer = Capture::http(&host, &key);
        viewer.wait_access_units(10, SOON);
        Watched { host, key, publisher, viewer }
    }

    fn reload(&self, config: &Config) -> String {
        self.host.write_config(&config.toml());
        self.host.reload()
    }

    fn refused(&self, config: &Config, arguments: &[&str]) -> String {
        self.host.write_config(&config.toml());
        let output = self.host.command(arguments);
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{printed}");
        printed
    }

    /// Asserts that the viewer got every frame and a clean end, whatever was reloaded meanwhile.
    pub fn finish(self) {
        let before = self.viewer.tags().len();
        self.viewer.wait_until(SOON, "more frames", |tags| tags.len() > before + 10);
        let published = self.publisher.stop() - 1;
        let recording = self.viewer.finish(SOON);
        assert_eq!(recording.end, End::Clean);
        let numbers = Numbered::numbers(&recording.tags);
        assert_eq!(numbers.last(), Some(&published));
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    }
}

/// Returns the address in the line of a report that says that such a listener is opened.
fn opened(printed: &str, kind: &str) -> SocketAddr {
    let line =
        printed.lines().find_map(|line| line.strip_prefix(&format!("{kind} "))?.strip_suffix(": opened"));
    line.unwrap_or_else(|| panic!("no {kind} is opened in\n{printed}")).parse().unwrap()
}

fn closes(address: SocketAddr) {
    wait_until(SOON, "nobody listens", || TcpStream::connect(address).is_err());
}

#[test]
fn listeners_move_and_their_viewers_and_publishers_stay() {
    let [http, rtmp] = [(); 2].map(|()| free_address());
    let config = Config::live();
    let mut scene = Watched::new(&config);
    let (old_http, old_rtmp) = (scene.host.http, scene.host.rtmp);
    let keep_alive = TcpStream::connect(old_http).unwrap();
    let moved =
        config.clone().http("listen", &format!("\"{http}\"")).rtmp("listen", &format!("[\"{rtmp}\"]"));
    let printed = scene.reload(&moved);
    assert!(printed.contains(&format!("http {http}: opened")), "{printed}");
    assert!(printed.contains(&format!("rtmp {rtmp}: opened")), "{printed}");
    assert!(printed.contains(&format!("http {old_http}: closed; ")), "{printed}");
    assert!(printed.contains(&format!("rtmp {old_rtmp}: closed; 1 connection stays")), "{printed}");
    closes(old_http);
    closes(old_rtmp);
    // A connection that was accepted before may still ask.
    let late = Request::get(&scene.host.path(&scene.key)).send_over(keep_alive).unwrap();
    assert_eq!(late.status, 200);
    drop(late);
    (scene.host.http, scene.host.rtmp) = (http, rtmp);
    let other = scene.host.key("other");
    let publisher = Publisher::open(rtmp, &other).pace(Numbered::new(500));
    Capture::http(&scene.host, &other).wait_access_units(5, SOON);
    publisher.stop();
    // A reload of the same config moves nothing.
    assert!(scene.reload(&moved).contains("nothing has changed"));
    // One more address, and back to one.
    let both = moved.clone().rtmp("listen", &format!("[\"{rtmp}\", \"127.0.0.1:0\"]"));
    let second = opened(&scene.reload(&both), "rtmp");
    assert!(TcpStream::connect(second).is_ok());
    let printed = scene.reload(&moved);
    assert!(printed.contains(&format!("rtmp {second}: closed")), "{printed}");
    closes(second);
    scene.finish();
}

#[test]
fn an_address_that_is_taken_refuses_the_reload_as_a_whole() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = Config::live().play("wait", "0");
    let scene = Watched::new(&config);
    let broken = config
        .clone()
        .http("listen", &format!("\"{address}\""))
        .rtmp("listen", "[\"127.0.0.1:0\", \"127.0.0.1:0\"]")
        .mount("mount = \"/[app]/[stream].flv\"")
        .mount("mount = \"/new/[app]/[stream].flv\"");
    let descriptors = scene.host.descriptors();
    for arguments in [&["reload", "--dry-run"][..], &["reload"]] {
        let printed = scene.refused(&broken, arguments);
        assert!(printed.contains(&format!("error: cannot listen on {address}")), "{printed}");
        assert!(printed.contains("Address already in use"), "{printed}");
        assert!(
            printed.contains("remuxd.toml:") && printed.contains("refused; nothing has changed"),
            "{printed}"
        );
    }
    let status = |path: &str| Request::get(path).send(scene.host.http).unwrap().status;
    assert_eq!((status("/new/live/film.flv"), status("/live/none.flv")), (404, 404));
    wait_until(SOON, "no socket is left", || scene.host.descriptors() <= descriptors);
    // Once it is free, the same config is applied.
    drop(taken);
    let printed = scene.reload(&broken);
    assert!(printed.contains(&format!("http {address}: opened")), "{printed}");
    scene.finish();
}

#[test]
fn tls_is_switched_on_and_off() {
    let files = Files::of(&Certificate::of(&["127.0.0.1"]));
    let config = Config::live();
    let mut scene = Watched::new(&config);
    let printed = scene.reload(&config.clone().tables(&files.listeners()));
    let (https, rtmps) = (opened(&printed, "https"), opened(&printed, "rtmps"));
    scene.host.https = Some(https);
    let secure = Capture::wss(&scene.host, &scene.key);
    secure.wait_access_units(5, SOON);
    assert!(tls::connect(rtmps, None).is_ok());
    let printed = scene.reload(&config);
    assert!(printed.contains(&format!("https {https}: closed; 1 connection stays")), "{printed}");
    closes(https);
    closes(rtmps);
    let before = secure.tags().len();
    secure.wait_until(SOON, "more over TLS", |tags| tags.len() > before + 10);
    // Again, with the same certificate.
    let https = opened(&scene.reload(&config.tables(&files.listeners())), "https");
    assert!(tls::connect(https, None).is_ok());
    scene.finish();
}

#[test]
fn an_address_keeps_its_socket_whatever_it_is_used_for() {
    let (http, files) = (free_address(), Files::of(&Certificate::of(&["127.0.0.1"])));
    let address = format!("\"{http}\"");
    let config = Config::live().http("listen", &address);
    let mut scene = Watched::new(&config);
    // HTTPS in place of HTTP.
    let secure = config.clone().http("enabled", "false").http("listen", "\"127.0.0.1:0\"");
    let secure = secure.tables(&files.listeners().replacen("\"127.0.0.1:0\"", &address, 1));
    let printed = scene.reload(&secure);
    assert!(!printed.contains("closed") && !printed.contains("https 127"), "{printed}");
    scene.host.https = Some(http);
    Capture::wss(&scene.host, &scene.key).wait_access_units(5, SOON);
    // And back, with a PROXY header.
    let proxied = config.clone().http("proxy_protocol", "true").tables("[proxy]\ntrusted = [\"127.0.0.1\"]");
    let printed = scene.reload(&proxied);
    assert!(printed.contains("http_server.proxy_protocol: false -> true; for new clients"), "{printed}");
    let mut socket = TcpStream::connect(http).unwrap();
    std::io::Write::write_all(&mut socket, b"PROXY TCP4 192.0.2.9 127.0.0.1 4000 80\r\n").unwrap();
    let response = Request::get(&scene.host.path(&scene.key)).send_over(socket).unwrap();
    assert_eq!(response.status, 200);
    assert!(scene.host.sessions().iter().any(|row| row[4] == "192.0.2.9"));
    drop(response);
    // All addresses, then one of them again: they overlap.
    let all = config.clone().http("listen", &format!("{}", http.port()));
    for (config, address) in [(&all, format!("0.0.0.0:{}", http.port())), (&config, http.to_string())] {
        let printed = scene.reload(config);
        assert!(printed.contains(&format!("http {address}: opened")), "{printed}");
        wait_until(SOON, "it is served", || {
            Request::get(&scene.host.path(&scene.key)).send(http).is_ok_and(|response| response.status == 200)
        });
    }
    // Another host may share it once that is allowed.
    let sharing = config.clone().http("reuse_port", "true");
    assert!(TcpListener::bind(http).is_err());
    scene.reload(&sharing);
    let second = Host::start(&sharing);
    drop(second);
    scene.finish();
}

#[test]
fn the_api_moves_and_gets_users_and_names() {
    let config = Config::live();
    let mut scene = Watched::new(&config);
    let old = scene.host.api.unwrap();
    let api = |keys: &str| config.clone().tables(&format!("[http_api]\nenabled = true\n{keys}"));
    let ask = |address: SocketAddr, token: &str| {
        let request = Request::get("/api/v1/modules").header("Authorization", token);
        request.send(address).unwrap().status
    };
    let user = "[[http_api.user]]\nname = \"a\"\ntoken = \"a token of sixteen bytes\"\n";
    let same = api(&format!("listen = \"127.0.0.1:0\"\n{user}"));
    let printed = scene.reload(&same);
    assert!(
        printed.contains("http_api.user.\"a\": added; at once") && !printed.contains("opened"),
        "{printed}"
    );
    assert_eq!((ask(old, "x"), ask(old, "Bearer a token of sixteen bytes")), (401, 200));
    let report = Request::get("/api/v1/reload").header("Authorization", "Bearer a token of sixteen bytes");
    let report = report.send(old).unwrap().text().unwrap();
    assert!(
        report.contains("\"key\":\"http_api.user.\\\"a\\\"\"") && !report.contains("sixteen"),
        "{report}"
    );
    // Another token: events for the old one end too.
    let events = Request::get("/api/v2/events").header("Authorization", "Bearer a token of sixteen bytes");
    let mut events = events.send(old).unwrap();
    assert_eq!(events.status, 200);
    let printed =
        scene.reload(&api(&format!("listen = \"127.0.0.1:0\"\n{}", user.replace("sixteen", "17 more"))));
    assert!(printed.contains("http_api.user.\"a\".token: changed; at once"), "{printed}");
    assert_eq!(ask(old, "Bearer a token of sixteen bytes"), 401);
    events.body.socket().set_read_timeout(Some(SOON)).unwrap();
    let ended = std::io::copy(&mut events.body, &mut std::io::sink());
    assert!(!ended.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "events go on");
    let moved = free_address();
    let printed = scene.reload(&api(&format!("listen = \"{moved}\"")));
    assert!(printed.contains(&format!("http_api {moved}: opened")), "{printed}");
    assert!(printed.contains(&format!("http_api {old}: closed")), "{printed}");
    closes(old);
    assert_eq!(ask(moved, ""), 200);
    let printed = scene.reload(&config.clone().tables("[http_api]\nenabled = false"));
    assert!(printed.contains(&format!("http_api {moved}: closed")), "{printed}");
    closes(moved);
    scene.host.api = None;
    scene.finish();
}

//! The console, driven by its own buttons in a browser.

use std::net::Ipv4Addr;

use remuxd_tests::browser::{Operated, operate};
use remuxd_tests::capture::Capture;
use remuxd_tests::clip::Clip;
use remuxd_tests::encoder::publish_looped;
use remuxd_tests::floods::open_from;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::tls::{Certificate, Files};
use remuxd_tests::wait::SOON;

/// The address of the viewer that is kicked.
const VIEWER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const USER: &str = "operator";
const PASSWORD: &str = "a password of the console";

fn config(files: &Files) -> Config {
    let users =
        format!("[[http_api.user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\nrole = \"operate\"\n");
    let api = format!("[http_api]\nenabled = true\nlisten = \"127.0.0.1:0\"\n{users}");
    Config::live().tables(&files.listeners()).tables(&api)
}

#[test]
fn the_page_in_a_browser_shows_and_operates_the_host() {
    let files = Files::of(&Certificate::of(&["stream.example"]));
    let host = Host::start(&config(&files));
    let key = host.key("film");
    let _publishing = publish_looped(Clip::H264Aac, &host.rtmp_url(&key));
    let address = host.http;
    let viewer = Capture::websocket_over(move || open_from(VIEWER, address), host.ws_url(&key));
    viewer.wait_access_units(30, SOON);
    host.write_config(&config(&files).play("wait", "\"7s\"").toml());

    let url = format!("http://{}/", host.api.unwrap());
    let shown = operate(&url, (USER, PASSWORD), "live/film", &VIEWER.to_string()).unwrap();

    let Operated { errors, foreign, overflows, .. } = &shown;
    assert!(errors.is_empty() && foreign.is_empty() && overflows.is_empty(), "{shown:?}");
    // Two lists every two seconds; the curve's samples come with the events.
    assert!(shown.subscriptions == 1 && shown.requests <= 10, "{shown:?}");
    assert_eq!(shown.chips[..2], ["avc1 320×180", "mp4a"], "{shown:?}");
    assert!(shown.mounts.iter().any(|row| row.contains("/live/film.flv")), "{shown:?}");
    assert!(shown.played > 20, "{shown:?}");
    assert!(shown.viewer.contains("live/film") && shown.viewer.contains("websocket"), "{shown:?}");
    let _ = viewer.finish(SOON);
    assert!(shown.ban.contains("address") && shown.ban.contains(&VIEWER.to_string()), "{shown:?}");
    assert!(shown.meters.iter().any(|meter| meter.starts_with("Connections")), "{shown:?}");
    assert!(
        shown.certificates.iter().any(|row| row.contains("https") && row.contains("stream.example")),
        "{shown:?}"
    );
    assert!(shown.modules.iter().any(|name| name == "flv"), "{shown:?}");
    for report in [&shown.dry_run, &shown.reload] {
        assert!(report.contains("play.wait: 60s → 7s"), "{report}");
    }
    assert!(shown.reload.contains("applied"), "{shown:?}");
}

#[test]
fn its_files_need_no_credentials_and_hold_to_a_content_policy() {
    let files = Files::of(&Certificate::of(&["stream.example"]));
    let host = Host::start(&config(&files));
    let api = host.api.unwrap();
    let page = Request::get("/console/").send(api).unwrap();
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    for rule in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert_eq!(Request::get("/").send(api).unwrap().header("location"), Some("/console/"));
    assert_eq!(Request::get("/api/v2/host").send(api).unwrap().status, 401);
}

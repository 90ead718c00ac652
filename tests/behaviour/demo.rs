//! `remuxd demo`: the URLs that it prints play, and so does its page.

use std::time::Duration;

use remuxd_tests::browser::{self, Player};
use remuxd_tests::host::Host;
use remuxd_tests::http::Request;
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tool::{Ffmpeg, root, run};
use remuxd_tests::wait::{SOON, wait_for};

/// Returns the URLs of the output with this scheme.
fn urls(host: &Host, scheme: &str) -> Vec<String> {
    let stdout = host.stdout();
    stdout.split_whitespace().filter(|word| word.starts_with(scheme)).map(str::to_owned).collect()
}

#[test]
fn the_printed_urls_and_the_page_play() {
    let scratch = Scratch::new();
    let file = scratch.join("remuxd.toml");
    // The demo's own, on free ports.
    let own = std::fs::read_to_string(root().join("host/src/demo/demo.toml")).unwrap();
    let own = own.replace("[\"1935\"]", "[\"127.0.0.1:0\"]").replace("\"8080\"", "\"127.0.0.1:0\"");
    std::fs::write(&file, own).unwrap();
    let host = Host::start_demo(&["--config", file.to_str().unwrap()]);
    let page = wait_for(SOON, "the page's URL is printed", || {
        urls(&host, "http://").into_iter().find(|url| url.ends_with('/'))
    });
    let streams: Vec<String> = ["http://", "rtmp://"]
        .iter()
        .flat_map(|scheme| urls(&host, scheme))
        .filter(|url| *url != page)
        .collect();
    for format in [".flv", ".ts", ".aac", ".mp3"] {
        assert!(streams.iter().any(|url| url.ends_with(format)), "{streams:?}");
    }
    for url in streams {
        let mut command = Ffmpeg::Five.command();
        command.args(["-xerror", "-i", &url, "-map", "0:a"]);
        if !["demo.aac", "radio.mp3", "radio"].iter().any(|audio| url.ends_with(audio)) {
            command.args(["-map", "0:v"]);
        }
        command.args(["-t", "2", "-f", "null", "-"]);
        let output = run(&mut command).unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{url}");
    }
    let sockets = urls(&host, "ws://");
    assert!(!sockets.is_empty(), "a WebSocket URL is printed");
    for url in sockets {
        let outcome = browser::play(Player::Mpegts, &url, "av", Duration::from_secs(30)).unwrap();
        assert!(outcome.advanced > 1.0 && outcome.frames > 20 && outcome.errors.is_empty(), "{outcome:?}");
    }
    let path = page.splitn(4, '/').nth(3).unwrap_or_default();
    let response = Request::get(&format!("/{path}")).send(host.http).unwrap();
    assert_eq!(response.status, 200);
    assert!(
        response.header("content-type").is_some_and(|kind| kind.starts_with("text/html")),
        "{response:?}"
    );
    let outcome = browser::play(Player::Page, &page, "av", Duration::from_secs(30)).unwrap();
    assert!(outcome.advanced > 1.0 && outcome.frames > 20 && outcome.errors.is_empty(), "{outcome:?}");
}

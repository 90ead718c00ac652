//! Names of streams over RTMP that end in the extension of a format.

use remuxd_tests::capture::Capture;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::wait::SOON;

fn wait_frame(viewer: &Capture, number: u32) {
    viewer
        .wait_until(SOON, &format!("frame {number}"), |tags| Numbered::numbers(tags).last() == Some(&number));
}

/// Publishes three frames, the first of which has the number `first`.
fn publish(host: &Host, key: &str, first: u32) -> Publisher {
    let mut publisher = Publisher::open(host.rtmp, key);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    media.frames(first);
    publisher.send(&media.frames(3));
    publisher
}

#[test]
fn a_player_may_add_the_extension_of_a_mount() {
    let host = Host::start(&Config::live().mount("").mount("mount = \"/tv/[app]/[stream].ts\""));
    let key = host.key("film");
    // As the edge of an SRS whose first viewer comes over HTTP: before and after the publisher, with a token.
    let early = Capture::rtmp(&host, &format!("{key}.flv"));
    host.wait_waiting(1);
    let _publisher = publish(&host, &key, 0);
    let late = [".flv", ".ts", ".flv?sign=1", ""].map(|end| Capture::rtmp(&host, &format!("{key}{end}")));
    late.iter().chain([&early]).for_each(|player| wait_frame(player, 2));
}

#[test]
fn a_publisher_may_add_the_extension_of_a_mount() {
    let host = Host::start(&Config::live());
    let key = host.key("film");
    let _publisher = publish(&host, &format!("{key}.flv"), 0);
    wait_frame(&Capture::http(&host, &key), 2);
    wait_frame(&Capture::rtmp(&host, &key), 2);
    wait_frame(&Capture::rtmp(&host, &format!("{key}.flv")), 2);
    // It is the same stream.
    for name in [key.clone(), format!("{key}.flv")] {
        let (_, status) = Publisher::try_open(host.rtmp, &name).unwrap();
        assert_eq!(status, "NetStream.Publish.BadName", "{name}");
    }
}

#[test]
fn an_extension_without_a_mount_belongs_to_the_name() {
    let host = Host::start(&Config::live());
    let key = host.key("film");
    let _publishers = [publish(&host, &format!("{key}.ts"), 0), publish(&host, &key, 50)];
    wait_frame(&Capture::http(&host, &format!("{key}.ts")), 2);
    wait_frame(&Capture::rtmp(&host, &format!("{key}.ts")), 2);
    wait_frame(&Capture::rtmp(&host, &key), 52);
}

#[test]
fn a_live_stream_of_the_full_name_comes_first() {
    let config = Config::live().publish("publish_conflict", "\"replace\"");
    let ts = config.clone().mount("mount = \"/[app]/[stream].ts\"");
    let host = Host::start(&ts);
    let key = host.key("film");
    let full = format!("{key}.flv");
    let publishers = [publish(&host, &full, 0), publish(&host, &key, 50)];
    host.write_config(&ts.mount("").toml());
    host.reload();
    wait_frame(&Capture::rtmp(&host, &full), 2);
    wait_frame(&Capture::rtmp(&host, &key), 52);
    // A new publisher takes over the stream of the full name.
    let player = Capture::rtmp(&host, &full);
    wait_frame(&player, 2);
    let _third = publish(&host, &full, 75);
    wait_frame(&player, 77);
    drop(publishers);
}

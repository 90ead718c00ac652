//! Settings of live streams and their mounts that a reload changes, while publishers and viewers stay connected.

use std::time::{Duration, Instant};

use remuxd_tests::capture::{Capture, End};
use remuxd_tests::flv::{AUDIO, Tag};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::wait::{SOON, poll_for, wait_until};

/// Reloads with another config, whose report must have a line that starts so, and so must that of a dry run.
fn reload(host: &Host, config: &Config, start: &str) {
    host.write_config(&config.toml());
    let planned = host.command(&["reload", "--dry-run"]);
    for printed in [String::from_utf8(planned.stdout).unwrap(), host.reload()] {
        assert!(printed.lines().any(|line| line.starts_with(start)), "no {start:?} in\n{printed}");
    }
}

fn status(host: &Host, path: &str) -> u16 {
    Request::get(path).send(host.http).unwrap().status
}

const PLAY: &str = "vhost.\"__defaultVhost__\".play";
const PUBLISH: &str = "vhost.\"__defaultVhost__\".publish";

/// The longest time without a byte in the next two seconds.
fn longest_pause(viewer: &Capture) -> Duration {
    let (end, mut bytes, mut last) =
        (Instant::now() + Duration::from_secs(2), viewer.bytes(), Instant::now());
    let mut longest = Duration::ZERO;
    let _ = poll_for(Duration::from_secs(2), || {
        if viewer.bytes() != bytes {
            (bytes, last) = (viewer.bytes(), Instant::now());
        }
        longest = longest.max(last.elapsed());
        (Instant::now() >= end).then_some(())
    });
    longest
}

#[test]
fn viewers_who_are_there_are_woken_as_the_new_config_says() {
    let config = Config::live();
    let host = Host::start(&config);
    let key = host.key("paced");
    let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(500));
    let viewers = [Capture::http(&host, &key), Capture::rtmp(&host, &key)];
    viewers.iter().for_each(|viewer| viewer.wait_access_units(5, SOON));
    let rare = config.clone().play("merge_write", "3");
    reload(&host, &rare, &format!("{PLAY}.merge_write: 40ms -> 3s; at once, for 2 viewers and 1 publisher"));
    let pauses = |viewer: &Capture| longest_pause(viewer) >= Duration::from_millis(1500);
    viewers.iter().for_each(|viewer| wait_until(SOON, "a long pause", || pauses(viewer)));
    // The interval is as long, but they are woken by each frame.
    reload(
        &host,
        &rare.play("min_latency", "true"),
        &format!("{PLAY}.min_latency: false -> true; at once, for "),
    );
    let flows = |viewer: &Capture| longest_pause(viewer) < Duration::from_millis(1500);
    viewers.iter().for_each(|viewer| wait_until(SOON, "no pause", || flows(viewer)));
    let last = publisher.stop() - 1;
    for viewer in viewers {
        viewer.wait_until(SOON, "the last frame", |tags| Numbered::numbers(tags).last() == Some(&last));
        let numbers = Numbered::numbers(&viewer.tags());
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    }
}

#[test]
fn a_live_stream_follows_the_times_of_its_vhost() {
    let config = Config::live();
    let host = Host::start(&config);
    let key = host.key("times");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(30));
    let viewer = Capture::http(&host, &key);
    viewer.wait_access_units(5, SOON);
    let waits = config.clone().publish("republish_wait", "20");
    reload(
        &host,
        &waits,
        &format!("{PUBLISH}.republish_wait: 0s -> 20s; at once, for 1 viewer and 1 publisher"),
    );
    drop(publisher);
    let mut publisher = Publisher::reopen(host.rtmp, &key);
    let mut again = Numbered::new(500);
    publisher.send(&again.headers());
    publisher.send(&again.frames(30));
    let twice = |tags: &[Tag]| tags.iter().filter(|tag| Numbered::number_of(tag) == Some(29)).count() == 2;
    viewer.wait_until(SOON, "both publishers' frames", twice);
    // A publisher that is silent is ended after a second instead of a minute.
    let silent = waits.publish("normal_timeout", "1").publish("republish_wait", "0");
    reload(&host, &silent, &format!("{PUBLISH}.normal_timeout: 60s -> 1s; at once, for "));
    publisher.send(&again.frames(1));
    assert_eq!(viewer.finish(SOON).end, End::Clean);
    // Without a GOP cache new viewers wait for a keyframe, also on a stream that was there before.
    reload(&host, &config, &format!("{PUBLISH}.normal_timeout: 1s -> 60s; at once"));
    let mut publisher = Publisher::open(host.rtmp, &host.key("cache"));
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(30));
    Capture::http(&host, &host.key("cache")).wait_access_units(5, SOON);
    reload(&host, &config.play("gop_cache", "false"), &format!("{PLAY}.gop_cache: true -> false; at once"));
    let late = Capture::http(&host, &host.key("cache"));
    host.wait_waiting(0);
    wait_until(SOON, "it is attached", || host.count("viewers", Some("flv")) >= 1);
    publisher.send(&media.frames(25));
    late.wait_access_units(3, SOON);
    assert_eq!(Numbered::numbers(&late.tags()).first(), Some(&50));
}

#[test]
fn mounts_come_at_once_and_go_when_their_viewers_leave() {
    let two = |more: &str| {
        let config = Config::live().play("wait", "0").tables(&format!("[modules]\n{more}"));
        config.mount("mount = \"/[app]/[stream].flv\"")
    };
    let with_ts = |more: &str| two(more).mount("mount = \"/[app]/[stream].ts\"");
    let host = Host::start(&two(""));
    let key = host.key("mounts");
    let mut media = Numbered::new(500);
    let publisher = Publisher::open(host.rtmp, &key);
    let publisher = publisher.pace(std::mem::replace(&mut media, Numbered::new(1)));
    let viewer = Capture::http(&host, &key);
    viewer.wait_access_units(5, SOON);
    let ts = format!("/{key}.ts");
    assert_eq!(status(&host, &ts), 404);
    let mount = "vhost.\"__defaultVhost__\".http_remux.\"/[app]/[stream].ts\"";
    reload(&host, &with_ts(""), &format!("{mount}: added; at once"));
    assert_eq!(status(&host, &ts), 200);
    // Removed: who watches stays, and others find nothing.
    let flv = "vhost.\"__defaultVhost__\".http_remux.\"/[app]/[stream].flv\"";
    let only_ts = Config::live().play("wait", "0").mount("mount = \"/[app]/[stream].ts\"");
    reload(&host, &only_ts, &format!("{flv}: removed; not for 1 viewer, until they leave"));
    assert_eq!(status(&host, &host.path(&key)), 404);
    let before = viewer.tags().len();
    viewer.wait_until(SOON, "more frames", |tags| tags.len() > before + 20);
    // Back again: the same viewer, and another one on the same mount.
    reload(&host, &two("drain_timeout = \"2s\""), &format!("{flv}: added; at once"));
    let second = Capture::http(&host, &key);
    second.wait_access_units(5, SOON);
    assert_eq!(host.count("mounts", Some("flv")), 1);
    // Removed with a limit: both end cleanly, with every frame until then.
    let none = Config::live().play("wait", "0").tables("[modules]\ndrain_timeout = \"2s\"");
    reload(
        &host,
        &none.mount("mount = \"/[app]/[stream].ts\""),
        &format!("{flv}: removed; not for 2 viewers, until they leave"),
    );
    for viewer in [viewer, second] {
        let recording = viewer.finish(SOON);
        assert_eq!(recording.end, End::Clean);
        let numbers = Numbered::numbers(&recording.tags);
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    }
    publisher.stop();
}

#[test]
fn other_options_of_a_mount_reach_its_viewers_at_the_next_join_point() {
    const LAYOUT: &[u8] = b"\x94Opus\x01\x06\0\0\0\x3f";
    let audio = |timestamp: u32, payload: &[u8]| Tag { kind: AUDIO, timestamp, payload: payload.to_vec() };
    let with = |value: &str| {
        Config::live().mount(&format!("[vhost.\"__defaultVhost__\".http_remux.options]\n{value}"))
    };
    let host = Host::start(&with("multichannel_config = false"));
    let key = host.key("options");
    let viewer = Capture::http(&host, &key);
    host.wait_waiting(1);
    let mut publisher = Publisher::open(host.rtmp, &key);
    publisher
        .send(&[audio(0, b"\x90OpusOpusHead\x01\x06\0\0\x80\xbb\0\0\0\0\x01\x04\x02\0\x04\x01\x02\x03\x05")]);
    let mut time = 0;
    let mut send = |number: u8| {
        publisher.send(&[audio(time, LAYOUT), audio(time, &[b"\x91Opus", &[number][..]].concat())]);
        for _ in 0..20 {
            time += 20;
            publisher.send(&[audio(time, b"\x91Opusframe")]);
        }
    };
    (0..3).for_each(&mut send);
    let count = |tags: &[Tag], payload: &[u8]| tags.iter().filter(|tag| tag.payload == payload).count();
    let has = |number: u8| move |tags: &[Tag]| count(tags, &[b"\x91Opus", &[number][..]].concat()) == 1;
    viewer.wait_until(SOON, "the third", has(2));
    assert_eq!(count(&viewer.tags(), LAYOUT), 0);
    let option = "vhost.\"__defaultVhost__\".http_remux.\"[vhost]/[app]/[stream].flv\".options.\"multichannel_config\"";
    reload(
        &host,
        &with("multichannel_config = true"),
        &format!("{option}: false -> true; at the next keyframe, for 1 viewer"),
    );
    (3..6).for_each(&mut send);
    viewer.wait_until(SOON, "the layout, on the same connection", |tags| {
        has(5)(tags) && count(tags, LAYOUT) > 0
    });
    reload(
        &host,
        &with("multichannel_config = false"),
        &format!("{option}: true -> false; at the next keyframe, for 1 viewer"),
    );
    send(6);
    viewer.wait_until(SOON, "the next", has(6));
    let layouts = count(&viewer.tags(), LAYOUT);
    (7..10).for_each(&mut send);
    viewer.wait_until(SOON, "the last", has(9));
    assert!(count(&viewer.tags(), LAYOUT) <= layouts + 1, "those of the batch before the join point at most");
    // Another track has another ring: viewers keep theirs.
    reload(&host, &with("track = 2"), "vhost.\"__defaultVhost__\".http_remux.");
    send(10);
    viewer.wait_until(SOON, "one more", has(10));
}

#[test]
fn a_vhost_that_is_removed_or_disabled_keeps_its_publishers_and_viewers() {
    let own = |keys: &str| {
        let table = format!(
            "[vhost.\"a.example\"]\n{keys}\n[[vhost.\"a.example\".http_remux]]\nenabled = true\nmount = \"/a/[app]/[stream].flv\""
        );
        Config::live().play("wait", "0").tables(&table)
    };
    let without = Config::live().play("wait", "0");
    for (config, start) in [
        (without, "vhost.\"a.example\": removed; not for 1 viewer and 1 publisher, until they leave"),
        (
            own("enabled = false"),
            "vhost.\"a.example\".enabled: true -> false; not for 1 viewer and 1 publisher",
        ),
    ] {
        let host = Host::start(&own(""));
        let key = "live/film?vhost=a.example";
        let publisher = Publisher::open(host.rtmp, key).pace(Numbered::new(500));
        let viewer = Capture::request(&host, Request::get("/a/live/film.flv"));
        viewer.wait_access_units(5, SOON);
        reload(&host, &config, start);
        assert_eq!(status(&host, "/a/live/film.flv"), 404);
        let before = viewer.tags().len();
        viewer.wait_until(SOON, "more frames", |tags| tags.len() > before + 10);
        publisher.stop();
        assert_eq!(viewer.finish(SOON).end, End::Clean);
    }
}

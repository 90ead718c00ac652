//! Beats: a publisher is read at intervals unless somebody wants each tag at once.

use std::collections::HashSet;
use std::fs::{read_dir, read_link, read_to_string};

use remuxd_tests::capture::{Capture, End};
use remuxd_tests::compare::check_order;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::publisher::{Numbered, Pace, Publisher};
use remuxd_tests::wait::{SOON, wait_until};
use serde_json::json;

/// Number of the host's TCP connections of whose packets the kernel does not tell it.
fn on_beat(host: &Host) -> usize {
    let process = format!("/proc/{}", host.pid());
    let tables =
        ["tcp", "tcp6"].map(|table| read_to_string(format!("{process}/net/{table}")).unwrap_or_default());
    let established = tables.iter().flat_map(|table| table.lines()).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        (fields.get(3) == Some(&"01")).then(|| format!("socket:[{}]", fields[9]))
    });
    let established: HashSet<_> = established.collect();
    let (mut connections, mut watched) = (HashSet::new(), HashSet::new());
    for file in read_dir(format!("{process}/fd")).unwrap().flatten() {
        let name = file.file_name().into_string().unwrap();
        let Ok(target) = read_link(file.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        if established.contains(&target) {
            connections.insert(name);
        } else if target == "anon_inode:[eventpoll]" {
            let facts = read_to_string(format!("{process}/fdinfo/{name}")).unwrap_or_default();
            let descriptors = facts.lines().filter_map(|line| line.strip_prefix("tfd:"));
            watched.extend(descriptors.filter_map(|rest| Some(rest.split_whitespace().next()?.to_owned())));
        }
    }
    connections.difference(&watched).count()
}

/// Waits until this number of the host's publishers is read on the beat.
fn wait_on_beat(host: &Host, count: usize, when: &str) {
    wait_until(SOON, &format!("{count} on the beat {when}"), || on_beat(host) == count);
}

/// A host whose idle mounts end soon.
fn config() -> Config {
    Config::live().play("idle_timeout", "\"1s\"")
}

fn end_viewers(host: &Host) {
    for row in host.sessions().iter().filter(|row| row[1] == "play") {
        assert!(host.command(&["kick", &row[0]]).status.success());
    }
}

fn publishing(host: &Host) -> Pace {
    Publisher::open(host.rtmp, &host.key("film")).pace(Numbered::new(500))
}

#[test]
fn a_publisher_is_read_on_the_beat_unless_viewers_want_each_tag_at_once() {
    for (min_latency, viewed) in [("false", 1), ("true", 0)] {
        let host = Host::start(&config().play("min_latency", min_latency));
        let _publisher = publishing(&host);
        let viewers = [Capture::http, Capture::websocket, Capture::rtmp];
        for (number, view) in viewers.into_iter().enumerate() {
            let viewers = format!("viewer {number}, min_latency {min_latency}");
            wait_on_beat(&host, 1, &format!("before {viewers}"));
            let viewer = view(&host, "live/film");
            viewer.wait_access_units(100, SOON);
            wait_on_beat(&host, viewed, &format!("with {viewers}"));
            end_viewers(&host);
            check_order(&viewer.finish(SOON).tags).unwrap();
        }
        wait_on_beat(&host, 1, "after all viewers");
    }
}

#[test]
fn what_a_publisher_sent_last_comes_before_the_end() {
    let host = Host::start(&config());
    let publisher = publishing(&host);
    wait_on_beat(&host, 1, "without a viewer");
    let viewer = Capture::http(&host, "live/film");
    viewer.wait_access_units(1, SOON);
    publisher.stop();
    let seen = viewer.finish(SOON);
    assert_eq!(seen.end, End::Clean);
    check_order(&seen.tags).unwrap();
}

#[test]
fn a_publisher_whose_stream_an_edge_pulls_or_a_forward_sends_is_read_at_each_packet() {
    let destination = Host::start(&config());
    let forward =
        format!("[vhost.\"__defaultVhost__\"]\nforward = {}", json!([destination.rtmp.to_string()]));
    let host = Host::start(&config().tables(&forward));
    let publisher = publishing(&host);
    wait_on_beat(&destination, 1, "at the destination of the forward");
    assert_eq!(on_beat(&host), 0, "the forward");
    publisher.stop();
    let (origin, rtmp) = (destination.http, destination.rtmp);
    for origin in [format!("rtmp://{rtmp}"), format!("http://{origin}")] {
        let cluster =
            format!("[vhost.\"__defaultVhost__\".cluster]\nmode = \"edge\"\norigin = [{origin:?}]\n");
        let edge = Host::start(&config().tables(&cluster));
        wait_on_beat(&destination, 0, "without a publisher");
        let publisher = publishing(&destination);
        wait_on_beat(&destination, 1, &format!("before the pull from {origin}"));
        let viewer = Capture::http(&edge, "live/film");
        viewer.wait_access_units(100, SOON);
        assert_eq!(on_beat(&destination), 0, "{origin}");
        end_viewers(&edge);
        wait_on_beat(&destination, 1, &format!("after the pull from {origin}"));
        publisher.stop();
    }
}

#[test]
fn a_publisher_on_the_beat_is_kicked_and_a_silent_one_leaves_the_beat() {
    let host = Host::start(&config());
    let mut publisher = Publisher::open(host.rtmp, &host.key("film"));
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    wait_until(SOON, "it is on the beat", || {
        publisher.send(&media.frame());
        on_beat(&host) == 1
    });
    wait_on_beat(&host, 0, "once it is silent");
    wait_until(SOON, "it is on the beat again", || {
        publisher.send(&media.frame());
        on_beat(&host) == 1
    });
    let id = host.sessions()[0][0].clone();
    assert!(host.command(&["kick", &id]).status.success());
    wait_until(SOON, "it is closed", || publisher.try_send(&media.frame()[0]).is_err());
    wait_until(SOON, "its session is over", || host.sessions().is_empty());
}

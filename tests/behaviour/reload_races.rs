//! Reloads that are concurrent, come during another operation, or when the host ends.

use std::fs;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use remuxd_tests::capture::Capture;
use remuxd_tests::host::Host;
use remuxd_tests::http::Request;
use remuxd_tests::module_dir::{ModuleDir, bytes};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tool::root;
use remuxd_tests::wait::{SOON, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::reload::scene::{MODULES, Scene, config, images};

fn signal(host: &Host, signal: Signal) {
    kill_process(Pid::from_raw(host.pid() as i32).unwrap(), signal).unwrap();
}

/// Replaces `flv` by another build, atomically.
fn swap(modules: &ModuleDir, number: u32) {
    let next = modules.path().join("next");
    fs::write(&next, [&bytes("flv")[..], &number.to_le_bytes()].concat()).unwrap();
    fs::rename(next, modules.file("flv")).unwrap();
}

#[test]
fn commands_signals_and_the_watch_at_once_are_done_in_turn() {
    let mut scene = Scene::new("watch = true");
    scene.host.wait_log(&["watching modules"]);
    let stop = AtomicBool::new(false);
    let asked = AtomicUsize::new(0);
    thread::scope(|scope| {
        let Scene { modules, host, media, publisher, viewer, .. } = &mut scene;
        let host = &*host;
        for arguments in [&["reload"][..], &["reload"], &["reload", "--dry-run"]] {
            let (stop, asked) = (&stop, &asked);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let output = host.command(arguments);
                    let printed = String::from_utf8_lossy(&output.stdout);
                    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for build in 1..=6 {
            swap(modules, build);
            (0..20).for_each(|_| signal(host, Signal::HUP));
            media.send(publisher);
            viewer.wait_access_units(media.access_units(), SOON);
            let asked_before = asked.load(Ordering::Relaxed);
            wait_until(SOON, "more reloads", || asked.load(Ordering::Relaxed) >= asked_before + 3);
        }
        stop.store(true, Ordering::Relaxed);
    });
    // Earlier requests are complete before this one.
    let printed = scene.host.reload();
    assert!(printed.contains("nothing has changed"), "{printed}");
    let generations = scene.generations("flv");
    let current: Vec<_> = generations.iter().filter(|(_, state, _)| state == "current").collect();
    assert_eq!(current.len(), 1, "{generations:?}");
    assert_eq!(current[0].0, generations.iter().map(|(number, ..)| *number).max().unwrap());
    assert!(scene.metric("remuxd_reloads_total{outcome=\"refused\"} 0"));
    assert_eq!(scene.host.count("mounts", Some("flv")), 1);
    scene.advance();
    scene.advance();
    scene.finish();
}

/// Generations without a keyframe in their time are skipped.
#[test]
fn reloads_between_two_keyframes_are_one_handover() {
    let mut scene = Scene::new("unload = true");
    for build in 1..=5 {
        swap(&scene.modules, build);
        assert!(scene.host.reload().contains("live mounts: 1 handed over"));
        // A viewer that comes now joins the existing mount.
        let mut response = Request::get(&scene.host.path(&scene.key)).send(scene.host.http).unwrap();
        response.body.read_exact(&mut [0; 13]).unwrap();
    }
    assert_eq!(scene.host.count("mounts", Some("flv")), 1);
    let newest = scene.generations("flv").iter().map(|(number, ..)| *number).max().unwrap();
    scene.advance();
    let line = scene.host.wait_nth_log("mount handed over", 1);
    assert!(line.contains(&format!("from=1 to={newest} ")), "{line}");
    scene.advance();
    scene.finish();
}

/// A stream has one remuxer in a format, also when a viewer comes during a reload.
#[test]
fn a_viewer_that_comes_during_a_reload_joins_the_existing_mount() {
    let modules = ModuleDir::with(&MODULES);
    let host = Host::start(&config(&modules, ""));
    // Many, so that a reload takes time.
    let keys: Vec<_> = (0..40).map(|number| host.key(&format!("live{number}"))).collect();
    let mut media = Numbered::new(100);
    let headers = media.headers();
    let mut publishers: Vec<_> = keys.iter().map(|key| Publisher::open(host.rtmp, key)).collect();
    let viewers: Vec<_> = keys.iter().map(|key| Capture::http(&host, key)).collect();
    publishers.iter_mut().for_each(|publisher| publisher.send(&headers));
    let mut send = || {
        let frames = media.frames(Numbered::GOP);
        publishers.iter_mut().for_each(|publisher| publisher.send(&frames));
        let number = media.number() - 1;
        for viewer in &viewers {
            viewer.wait_until(SOON, "the newest frame", |tags| {
                tags.iter().rev().find_map(Numbered::number_of) == Some(number)
            });
        }
    };
    send();
    let stop = AtomicBool::new(false);
    let joined = AtomicUsize::new(0);
    thread::scope(|scope| {
        for offset in 0..4 {
            let (host, keys, stop, joined) = (&host, &keys, &stop, &joined);
            scope.spawn(move || {
                for key in keys.iter().cycle().skip(offset * 10) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let mut response = Request::get(&host.path(key)).send(host.http).unwrap();
                    assert_eq!(response.status, 200);
                    response.body.read_exact(&mut [0; 13]).unwrap();
                    joined.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for build in 1..=15 {
            swap(&modules, build);
            let printed = host.reload();
            assert!(printed.contains("reloaded in"), "{printed}");
            send();
            assert_eq!(host.count("mounts", Some("flv")), keys.len() as u64);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(joined.into_inner() > 100);
    drop(publishers);
    for viewer in viewers {
        let numbers = Numbered::numbers(&viewer.finish(SOON).tags);
        assert_eq!(numbers, (0..media.number()).collect::<Vec<_>>());
    }
}

#[test]
fn a_host_that_is_asked_to_end_does_not_wait_for_reloads() {
    let scene = Scene::new("");
    let staged = images(&scene.host).into_iter().next().unwrap();
    // Each takes as long as a child process may.
    MODULES.iter().for_each(|name| scene.modules.put_c(name, &root().join("tests/modules/c/hangs.c")));
    let Scene { mut host, publisher, .. } = scene;
    thread::scope(|scope| {
        let host = &host;
        let asking: Vec<_> = (0..6).map(|_| scope.spawn(|| host.command(&["reload"]))).collect();
        wait_until(SOON, "a child process", || !host.children().is_empty());
        signal(host, Signal::HUP);
        signal(host, Signal::TERM);
        for asking in asking {
            let output = asking.join().unwrap();
            assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
        }
    });
    drop(publisher);
    let status = host.terminate();
    assert!(status.success(), "{status}");
    let dir = std::path::Path::new(&staged).parent().unwrap();
    assert!(!dir.exists(), "{} was left behind", dir.display());
    assert!(!host.log().contains("panicked"), "{}", host.log());
}

/// As packages and deployments do it: another directory is renamed to the path.
#[test]
fn the_watch_follows_a_directory_that_is_replaced() {
    let mut scene = Scene::new("watch = true");
    scene.host.wait_log(&["watching modules"]);
    let (own, old) = (scene.modules.path().to_owned(), scene.modules.path().with_extension("old"));
    fs::rename(&own, &old).unwrap();
    fs::create_dir(&own).unwrap();
    MODULES.iter().for_each(|name| scene.modules.put(name, &bytes(name)));
    swap(&scene.modules, 1);
    fs::remove_dir_all(&old).unwrap();
    let first = scene.wait_current(1);
    scene.advance();
    // Changes in the new one are noticed.
    scene.host.wait_nth_log("watching modules", 2);
    swap(&scene.modules, 2);
    let second = scene.wait_current(first);
    scene.advance();
    fs::remove_dir_all(&own).unwrap();
    fs::create_dir(&own).unwrap();
    MODULES.iter().for_each(|name| scene.modules.put(name, &bytes(name)));
    swap(&scene.modules, 3);
    scene.wait_current(second);
    scene.advance();
    scene.finish();
}

#[test]
fn the_watch_moves_to_the_directory_that_a_reload_names() {
    let mut scene = Scene::new("watch = true");
    scene.host.wait_log(&["watching modules"]);
    let other = ModuleDir::with(&MODULES);
    let toml = scene.host.config();
    let path = |modules: &ModuleDir| modules.path().to_str().unwrap().to_owned();
    scene.host.write_config(&toml.replace(&path(&scene.modules), &path(&other)));
    scene.host.reload();
    scene.host.wait_nth_log("watching modules", 2);
    swap(&other, 1);
    scene.wait_current(1);
    scene.advance();
    scene.finish();
}

#[test]
fn the_watch_reports_refused_files_but_not_unfinished_ones() {
    let scene = Scene::new("watch = true");
    scene.host.wait_log(&["watching modules"]);
    let flv = bytes("flv");
    scene.modules.put("flv", &flv[..flv.len() / 2]);
    // Both files were checked, this one after the other.
    scene.modules.put_c("aac", &root().join("tests/modules/c/plain.c"));
    scene.modules.put("flv", &flv);
    scene.host.wait_log(&["module refused", "module=aac", "not a remuxd module"]);
    wait_until(SOON, "it is counted", || scene.metric("remuxd_reloads_total{outcome=\"refused\"} 1"));
    assert_eq!(scene.host.api_json("/api/v1/reload")["outcome"], "refused");
}

#[test]
fn a_config_with_an_error_does_not_hide_the_socket_that_it_names() {
    let scratch = Scratch::new();
    let mut scene = Scene::new(&format!("[admin]\nsocket = {:?}", scratch.join("own.sock")));
    assert!(scene.host.reload().contains("nothing has changed"));
    scene.host.write_config(&format!("{}[vhost.x]\nnonsense = 1\n", scene.host.config()));
    assert!(scene.refused(&["reload"]).contains("nonsense"));
    scene.advance();
    scene.finish();
}

/// The network and the API answer while a reload takes its time.
#[test]
fn a_slow_reload_blocks_neither_streams_nor_the_api() {
    let mut scene = Scene::new("watch = true");
    scene.host.wait_log(&["watching modules"]);
    let hangs = root().join("tests/modules/c/hangs.c");
    MODULES.iter().for_each(|name| scene.modules.put_c(name, &hangs));
    thread::scope(|scope| {
        let Scene { host, media, publisher, viewer, .. } = &mut scene;
        let host = &*host;
        let asking: Vec<_> = (0..3).map(|_| scope.spawn(|| host.command(&["reload"]))).collect();
        while !asking.iter().all(|asking| asking.is_finished()) {
            let began = Instant::now();
            let _ = host.api_page("/api/v1/modules");
            media.send(publisher);
            viewer.wait_access_units(media.access_units(), SOON);
            assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        }
        for asking in asking {
            assert_eq!(asking.join().unwrap().status.code(), Some(1));
        }
    });
    MODULES.iter().for_each(|name| scene.modules.put(name, &bytes(name)));
    scene.finish();
}

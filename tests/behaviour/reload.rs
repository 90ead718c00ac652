//! Hot reload: new builds, modules and mounts while streams are live, without disturbing viewers.

pub(crate) mod scene;

use std::io::Write;
use std::time::{Duration, Instant};

use remuxd_tests::audio::read_adts;
use remuxd_tests::capture::{Capture, End};
use remuxd_tests::clip::Clip;
use remuxd_tests::compare::{Coverage, compare, compare_units};
use remuxd_tests::decode::decode;
use remuxd_tests::fetch::Fetch;
use remuxd_tests::flv::{AUDIO, Tag};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::module_dir::{ModuleDir, bytes};
use remuxd_tests::modules::{flawed, with_abort, with_another_layout};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tool::{Ffmpeg, root};
use remuxd_tests::ts::{Stream, access_units, check, published_units};
use remuxd_tests::wait::{SOON, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use scene::{Looped, MODULES, Scene, assert_undisturbed, config, generations, images, states};

fn assert_decodes(format: &str, bytes: &[u8]) {
    let scratch = Scratch::new();
    let file = scratch.join(&format!("served.{format}"));
    std::fs::write(&file, bytes).unwrap();
    decode(Ffmpeg::Five, &file).unwrap();
}

#[test]
fn viewers_go_over_to_new_builds_and_notice_nothing() {
    let modules = ModuleDir::with(&MODULES);
    let host = Host::start(&config(&modules, ""));
    let keys = ["one", "two"].map(|name| host.key(name));
    let mut publishers = keys.clone().map(|key| Publisher::open(host.rtmp, &key));
    let mut media = [(); 2].map(|()| Looped::new(Clip::H264Aac));
    let viewers: Vec<_> = keys
        .iter()
        .map(|key| {
            let flv: Vec<_> =
                (0..14)
                    .map(|number| {
                        if number % 2 == 0 {
                            Capture::http(&host, key)
                        } else {
                            Capture::websocket(&host, key)
                        }
                    })
                    .collect();
            let start = |format| (0..4).map(|_| Fetch::start(&host, &format!("/{key}.{format}"))).collect();
            let (ts, aac): (Vec<_>, Vec<_>) = (start("ts"), start("aac"));
            (flv, ts, aac)
        })
        .collect();
    let mut step = |media: &mut [Looped; 2]| {
        for (media, publisher) in media.iter_mut().zip(&mut publishers) {
            media.send(publisher);
        }
        for ((flv, ts, aac), media) in viewers.iter().zip(&*media) {
            flv.iter().for_each(|viewer| viewer.wait_access_units(media.access_units(), SOON));
            // The last access unit may still be buffered.
            let units = media.access_units() - 2;
            let most = |bytes: &[u8]| (Stream::read(bytes).units.len() >= units).then_some(());
            ts.iter().for_each(|viewer| viewer.wait_for(SOON, "all TS but the last", most));
            let frames = media.audio().len();
            let all = |bytes: &[u8]| (read_adts(bytes).len() == frames).then_some(());
            aac.iter().for_each(|viewer| viewer.wait_for(SOON, "all audio", all));
        }
    };
    step(&mut media);
    for build in 1..=10 {
        MODULES.iter().for_each(|name| modules.put_build(name, build));
        let printed = host.reload();
        assert_eq!(printed.matches(" loaded ").count(), MODULES.len(), "{printed}");
        assert!(printed.contains("live mounts: 8 handed over, 0 draining"), "{printed}");
        step(&mut media);
        // Each mount has been handed over.
        wait_until(SOON, "all viewers are on current generations", || {
            let modules = host.api_json("/api/v1/modules");
            let mut watched = modules.as_array().unwrap().iter().filter(|module| module["viewers"] != 0);
            watched.all(|module| module["state"] == "current")
        });
    }
    drop(publishers);
    for ((flv, ts, aac), media) in viewers.into_iter().zip(&media) {
        for (number, viewer) in flv.into_iter().enumerate() {
            let recording = viewer.finish(SOON);
            assert_undisturbed(&format!("viewer {number}"), &recording, media);
            if number < 2 {
                assert_decodes("flv", &recording.bytes);
            }
        }
        for (number, viewer) in ts.into_iter().enumerate() {
            let served = viewer.outcome(SOON);
            assert!(served.whole);
            let stream = Stream::read(&served.bytes);
            check(&stream).unwrap_or_else(|error| panic!("TS viewer {number}: {error:?}"));
            let units = compare_units(
                &published_units(&media.published),
                &access_units(&stream).unwrap(),
                Coverage::Whole,
            );
            assert_eq!(units, Ok(media.access_units()), "TS viewer {number}");
            if number == 0 {
                assert_decodes("ts", &served.bytes);
            }
        }
        for viewer in aac {
            let served = viewer.outcome(SOON);
            assert!(served.whole);
            let frames: Vec<_> = read_adts(&served.bytes).into_iter().map(|frame| frame.data).collect();
            assert!(frames == media.audio(), "{} frames of AAC", frames.len());
        }
    }
}

#[test]
fn a_broken_build_is_refused_at_its_step_and_nothing_changes() {
    let mut scene = Scene::new("");
    let flv = bytes("flv");
    let c = |name: &str| root().join("tests/modules/c").join(name);
    let compile = |source: &str| {
        scene.modules.put_c("flv", &c(source));
        std::fs::read(scene.modules.file("flv")).unwrap()
    };
    let mut damaged = flv.clone();
    let middle = damaged.len() / 2;
    damaged.truncate(middle);
    let broken = [
        ("elf", "not a shared library", b"#!/bin/sh\n".to_vec()),
        ("elf", "not a shared library", Vec::new()),
        ("elf", "truncated", damaged),
        ("preflight", "not a remuxd module", compile("plain.c")),
        ("preflight", "made for ABI 2", compile("major.c")),
        ("preflight", "undefined symbol", compile("unresolved.c")),
        ("layout", "exports no format", compile("bare.c")),
        ("probe", "SIGSEGV", compile("crashes.c")),
        ("probe", "exit status 0", compile("exits.c")),
        ("probe", "takes longer than", compile("hangs.c")),
        ("registry", "the module in it is named \"aac\"", bytes("aac")),
    ];
    let before = images(&scene.host);
    for (step, reason, library) in &broken {
        scene.modules.put("flv", library);
        // A dry run reports the same, and neither maps anything.
        let lines = [&["reload", "--dry-run"][..], &["reload"]].map(|arguments| {
            let printed = scene.refused(arguments);
            let line = printed.lines().find(|line| line.starts_with("flv")).unwrap();
            assert!(line.contains(&format!("refused    at {step}: ")) && line.contains(reason), "{printed}");
            line.to_owned()
        });
        assert_eq!(lines[0], lines[1]);
        assert_eq!(images(&scene.host), before, "{step}: {reason}");
        scene.advance();
    }
    std::fs::remove_file(scene.modules.file("flv")).unwrap();
    assert!(scene.refused(&["reload"]).contains("refused    at stage: "));
    assert_eq!(states(&scene.generations("flv"))[..1], [(1, "current")]);
    assert!(scene.metric(&format!("remuxd_reloads_total{{outcome=\"refused\"}} {}", broken.len() + 1)));
    // A build that is good again is loaded.
    scene.modules.put_build("flv", 1);
    assert!(scene.host.reload().contains("live mounts: 1 handed over"));
    scene.advance();
    scene.finish();
}

/// Each of these builds would do harm. The publisher and the viewers of every format are not interrupted.
#[test]
fn a_build_that_aborts_or_lies_or_misbehaves_is_refused_while_viewers_watch() {
    let broken = [
        ("preflight", "built with panic = ", with_abort("good")),
        ("layout", "RawTag.reserved: host has 32 bytes, module has 40 bytes", with_another_layout()),
        ("self-test", "a block is CONFIG and JOIN at once", flawed("has two roles")),
    ];
    for isolation in ["none", "process"] {
        let modules = ModuleDir::with(&MODULES);
        let own = format!("[module.flv]\nisolation = \"{isolation}\"");
        let host = Host::start(&config(&modules, &own));
        let key = host.key("live");
        let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(400));
        let flv = [Capture::http(&host, &key), Capture::websocket(&host, &key)];
        let [ts, aac] = ["ts", "aac"].map(|format| Fetch::start(&host, &format!("/{key}.{format}")));
        let advance = || {
            let seen = |tags: &[Tag]| Numbered::numbers(tags).last().copied();
            for viewer in &flv {
                let next = seen(&viewer.tags()).map_or(0, |number| number + 5);
                viewer.wait_until(SOON, "five more frames", |tags| seen(tags) >= Some(next));
            }
            for viewer in [&ts, &aac] {
                let before = viewer.wait_for(SOON, "its length", |bytes| Some(bytes.len()));
                viewer.wait_for(SOON, "more", |bytes| (bytes.len() > before).then_some(()));
            }
        };
        advance();
        for (step, reason, library) in &broken {
            modules.put("flv", library);
            let output = host.command(&["reload"]);
            let printed = String::from_utf8(output.stdout).unwrap();
            assert_eq!(output.status.code(), Some(1), "{printed}");
            let line = printed.lines().find(|line| line.starts_with("flv")).unwrap();
            assert!(line.contains(&format!("refused    at {step}: ")) && line.contains(reason), "{printed}");
            host.wait_log(&["module refused", "module=flv", &format!("step=\"{step}\""), reason]);
            let last = host.api_json("/api/v1/reload");
            assert_eq!(last["outcome"], "refused");
            let flv = last["modules"].as_array().unwrap().iter().find(|module| module["name"] == "flv");
            let flv = flv.unwrap();
            assert_eq!((&flv["change"], &flv["step"]), (&"refused".into(), &(*step).into()));
            assert!(flv["reason"].as_str().unwrap().contains(reason), "{flv}");
            advance();
        }
        // The next good build is loaded.
        modules.put_build("flv", 1);
        assert!(host.reload().contains("live mounts: 1 handed over"));
        advance();
        wait_until(SOON, "the viewer is on the new generation", || {
            generations(&host, "flv").iter().any(|(_, state, viewers)| state == "current" && *viewers == 1)
        });
        let published = Numbered::new(400).frames(publisher.stop());
        for viewer in flv {
            let recording = viewer.finish(SOON);
            assert_eq!(recording.end, End::Clean);
            compare(&published, &recording.tags, Coverage::FromKeyframe).unwrap();
        }
        let stream = Stream::read(&ts.finish(SOON));
        check(&stream).unwrap();
        let units = access_units(&stream).unwrap();
        compare_units(&published_units(&published), &units, Coverage::FromKeyframe).unwrap();
        let frames: Vec<_> = read_adts(&aac.finish(SOON)).into_iter().map(|frame| frame.data).collect();
        let audio = published.iter().filter(|tag| tag.kind == AUDIO).map(|tag| &tag.payload[2..]);
        let audio: Vec<_> = audio.collect();
        assert!(!frames.is_empty() && audio.ends_with(&frames.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    }
}

#[test]
fn a_dry_run_changes_nothing() {
    let mut scene = Scene::new("[module.aac]\nisolation = \"process\"");
    let (before, children) = (images(&scene.host), scene.host.children());
    let generations = scene.generations("flv");
    assert_eq!(children.len(), 1, "one module has a process of its own");
    for name in ["flv", "aac"] {
        scene.modules.put_build(name, 1);
    }
    for _ in 0..3 {
        let output = scene.host.command(&["reload", "--dry-run"]);
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && printed.contains("would be reloaded"), "{printed}");
        for (name, change) in [("flv", "checked"), ("websocket-flv", "unchanged"), ("aac", "checked")] {
            assert!(
                printed.lines().any(|line| line.starts_with(&format!("{name:<16} {change:<10} 0."))),
                "{printed}"
            );
        }
    }
    // A dry run refuses all that a reload refuses: here, an option that the new build does not have.
    let toml = scene.host.config();
    scene.host.write_config(&format!(
        "{toml}[vhost.\"__defaultVhost__\".http_remux.options]\nhevcc = \"legacy\"\n"
    ));
    let refused = [&["reload", "--dry-run"][..], &["reload"]].map(|arguments| {
        let printed = scene.refused(arguments);
        printed.lines().take_while(|line| !line.starts_with("flv ")).map(str::to_owned).collect::<Vec<_>>()
    });
    assert!(refused[0].iter().any(|line| line.contains("hevcc")), "{refused:?}");
    assert_eq!(refused[0], refused[1]);
    scene.host.write_config(&toml);
    assert_eq!(images(&scene.host), before);
    assert_eq!(scene.host.children(), children);
    scene.advance();
    assert_eq!(scene.generations("flv"), generations);
    assert!(scene.host.reload().contains("live mounts: 1 handed over"));
    assert!(scene.host.reload().contains("nothing has changed"));
    assert_eq!(images(&scene.host).difference(&before).count(), 1, "the new build of flv");
    scene.advance();
    scene.finish();
}

#[test]
fn sighup_reloads() {
    let mut scene = Scene::new("");
    scene.modules.put_build("flv", 1);
    kill_process(Pid::from_raw(scene.host.pid() as i32).unwrap(), Signal::HUP).unwrap();
    let new = scene.wait_current(1);
    scene.advance();
    scene.wait_handover(new);
    scene.finish();
}

#[test]
fn the_module_file_may_change_in_any_way_while_it_is_used() {
    let mut scene = Scene::new("");
    let file = scene.modules.file("flv");
    scene.modules.put("flv", &vec![0xff; 1 << 20]);
    scene.advance();
    scene.modules.put("flv", b"");
    scene.advance();
    std::fs::rename(&file, scene.modules.path().join("elsewhere")).unwrap();
    scene.advance();
    std::fs::remove_file(scene.modules.path().join("elsewhere")).unwrap();
    scene.advance();
    scene.finish();
}

#[test]
fn with_drain_viewers_stay_on_their_generation_until_they_leave_or_the_timeout() {
    let mut scene = Scene::new("reload = \"drain\"\ndrain_timeout = \"3s\"");
    scene.modules.put_build("flv", 1);
    assert!(scene.host.reload().contains("live mounts: 0 handed over, 1 draining"));
    let began = Instant::now();
    let second = Capture::http(&scene.host, &scene.key);
    second.wait_access_units(1, SOON);
    let generations = scene.generations("flv");
    let [(old, draining, 1), (new, current, 1)] = &generations[..] else { panic!("{generations:?}") };
    assert_eq!((old, draining.as_str(), current.as_str()), (&1, "draining", "current"));
    assert!(new > old);
    scene.advance();
    assert_eq!(scene.generations("flv"), generations, "nothing is handed over");
    // The first viewer's mount ends cleanly; the second goes on.
    let media = scene.media.access_units();
    let first = scene.viewer.finish(SOON);
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert_undisturbed("the drained viewer", &first, &scene.media);
    scene.media.send(&mut scene.publisher);
    second.wait_access_units(media + 1, SOON);
}

#[test]
fn the_watch_ignores_a_file_until_it_is_complete() {
    let mut scene = Scene::new("watch = true");
    scene.host.wait_log(&["watching modules"]);
    let build = [&bytes("flv")[..], b"next"].concat();
    let mut file = std::fs::File::create(scene.modules.file("flv")).unwrap();
    for part in build.chunks(build.len() / 3 + 1) {
        file.write_all(part).unwrap();
        file.sync_all().unwrap();
        // Longer than the host waits for a file to be unchanged: this is the slow writer, not a wait for a fact.
        std::thread::sleep(Duration::from_millis(600));
        scene.advance();
    }
    drop(file);
    let new = scene.wait_current(1);
    scene.advance();
    scene.wait_handover(new);
    assert!(scene.metric("remuxd_reloads_total{outcome=\"refused\"} 0"));
    scene.finish();
}

#[test]
fn mounts_and_modules_come_and_go() {
    let modules = ModuleDir::with(&MODULES);
    let only_flv = Config::live().tables(&modules.table(&["flv"], ""));
    let with_ts = only_flv.clone().mount("").mount("mount = \"/[app]/[stream].ts\"");
    let host = Host::start(&only_flv);
    let mut scene = Scene::on(modules, host);
    let status = |scene: &Scene| Request::get(&scene.path("ts")).send(scene.host.http).unwrap().status;
    assert_eq!(status(&scene), 404);
    // A mount without a module is an error, and nothing changes.
    scene.host.write_config(&with_ts.toml());
    assert!(scene.refused(&["reload"]).contains("no loaded module answers `.ts`"));
    assert_eq!(status(&scene), 404);
    let with_module = with_ts.toml().replace("load = [\"flv\"]", "load = [\"flv\", \"ts\"]");
    scene.host.write_config(&with_module);
    assert!(scene.host.reload().contains("0 handed over, 0 draining"));
    scene.advance();
    let ts = Fetch::start(&scene.host, &scene.path("ts"));
    ts.wait_for(SOON, "TS", |bytes| (!bytes.is_empty()).then_some(()));
    // Removed again: the viewer stays, new ones are refused.
    scene.host.write_config(&only_flv.toml());
    let printed = scene.host.reload();
    assert!(
        printed.contains("ts               removed") && printed.contains("0 handed over, 1 draining"),
        "{printed}"
    );
    assert_eq!(status(&scene), 404);
    let before = ts.wait_for(SOON, "its length", |bytes| Some(bytes.len()));
    scene.advance();
    ts.wait_for(SOON, "more TS", |bytes| (bytes.len() > before).then_some(()));
    // A setting of the host beside those of vhosts and modules.
    scene.host.write_config(&only_flv.clone().limits("max_connections", "7").toml());
    let printed = scene.host.reload();
    assert!(printed.contains("limits.max_connections: 100000 -> 7; for new clients"), "{printed}");
    scene.finish();
}

/// Returns the generations of `flv` whose images are mapped.
fn mapped(host: &Host) -> usize {
    images(host).iter().filter(|file| file.contains("/flv-")).count()
}

#[test]
fn old_generations_are_unmapped_only_with_unload() {
    for (unload, expected) in [(true, 2), (false, 5)] {
        let modules = ModuleDir::with(&MODULES);
        // The ring keeps one second of blocks, each with its library.
        let config = config(&modules, &format!("unload = {unload}")).play("queue_length", "\"1s\"");
        let mut scene = Scene::on(modules, Host::start(&config));
        for build in 1..=4 {
            scene.modules.put_build("flv", build);
            scene.host.reload();
            scene.advance();
        }
        scene.advance();
        scene.advance();
        // With `unload`: the current one and its fallback.
        wait_until(SOON, "old generations are gone", || mapped(&scene.host) <= expected);
        assert_eq!(mapped(&scene.host), expected, "unload = {unload}");
        let generations = scene.generations("flv");
        let (states, last) = (states(&generations), expected - 1);
        assert_eq!(states.len(), expected);
        assert_eq!((states[last].1, states[last - 1].1), ("current", "fallback"));
        assert!(states[..last - 1].iter().all(|(_, state)| *state == "retained"), "{states:?}");
        assert!(scene.metric(&format!("remuxd_module_generations{{module=\"flv\"}} {expected}")));
        scene.finish();
    }
}

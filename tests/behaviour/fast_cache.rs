//! `fast_cache`: seconds of audio that a new viewer gets at once.

use remuxd_tests::audio::read_adts;
use remuxd_tests::capture::{Capture, End};
use remuxd_tests::fetch::Fetch;
use remuxd_tests::flv::{AUDIO, Tag, VIDEO};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::wait::SOON;

use crate::audio::{config, listen, number, status};

/// Milliseconds between audio frames.
const STEP: u32 = Numbered::STEP / 2;

/// Numbered media on a host whose .aac has a `fast_cache` of two seconds.
struct Aged {
    host: Host,
    key: String,
    publisher: Publisher,
    media: Numbered,
    kinds: &'static [u8],
    witness: Capture,
    /// Viewers that stay: their mounts have remuxed what they have received.
    staying: Vec<Fetch>,
}

impl Aged {
    const FAST_CACHE: u32 = 2_000;

    fn start(config: &Config, kinds: &'static [u8]) -> Aged {
        let host = Host::start(config);
        let key = host.key("aged");
        let mut publisher = Publisher::open(host.rtmp, &key);
        let witness = Capture::rtmp(&host, &key);
        witness.wait_started(SOON);
        let media = Numbered::new(100);
        publisher.send(media.headers().iter().filter(|tag| kinds.contains(&tag.kind)));
        Aged { host, key, publisher, media, kinds, witness, staying: Vec::new() }
    }

    /// Starts to watch a mount.
    fn stay(&mut self, prefix: &str) {
        self.staying.push(listen(&self.host, &format!("{prefix}{}", self.key), "aac"));
    }

    /// Publishes `count` pairs of audio frames, with video or without, and waits until the host has them.
    fn publish(&mut self, count: u32) {
        let tags = self.media.frames(count);
        self.publisher.send(tags.iter().filter(|tag| self.kinds.contains(&tag.kind)));
        let newest = self.newest().to_be_bytes();
        let has = |tag: &Tag| tag.kind == AUDIO && tag.payload[2..].starts_with(&newest);
        self.witness.wait_until(SOON, "the newest frame", |tags| tags.iter().rev().take(4).any(has));
        for viewer in &self.staying {
            viewer.wait_for(SOON, "the newest frame", |bytes| {
                (read_adts(bytes).last().map(number) == Some(self.newest())).then_some(())
            });
        }
    }

    /// Returns the number of the newest audio frame.
    fn newest(&self) -> u32 {
        self.media.number() * 2 - 1
    }

    /// Returns the first frame that a new viewer gets, after checking the rest.
    fn first(&self, prefix: &str) -> u32 {
        let frames = listen(&self.host, &format!("{prefix}{}", self.key), "aac").wait_for(
            SOON,
            "the newest frame",
            |bytes| {
                let frames = read_adts(bytes);
                (frames.last().map(number) == Some(self.newest())).then_some(frames)
            },
        );
        let numbers: Vec<u32> = frames.iter().map(number).collect();
        assert!(numbers.iter().copied().eq(numbers[0]..=self.newest()), "{numbers:?}");
        numbers[0]
    }

    /// Returns the first frame that a new viewer should get.
    fn expected(&self) -> u32 {
        self.newest().saturating_sub(Aged::FAST_CACHE / STEP)
    }
}

/// Video is dropped, whether there is any or not.
const TRACKS: [&[u8]; 2] = [&[AUDIO], &[AUDIO, VIDEO]];

#[test]
fn the_first_viewer_gets_fast_cache_seconds_at_any_age() {
    for kinds in TRACKS {
        // Milliseconds: younger than the cache, just before, at and just after its length, older by far.
        for age in [500, 1_960, 2_000, 2_040, 2_080, 9_000] {
            let mut aged = Aged::start(&config("2"), kinds);
            aged.publish(age / Numbered::STEP);
            assert_eq!(aged.first(""), aged.expected(), "of a stream of {age} ms");
        }
    }
}

#[test]
fn later_viewers_get_a_window_that_slides() {
    for kinds in TRACKS {
        let mut aged = Aged::start(&config("2"), kinds);
        aged.publish(120);
        aged.stay("");
        // The steps share no factor with the GOP or the cache.
        for step in (1..=7).cycle().take(60) {
            aged.publish(step);
            assert_eq!(aged.first(""), aged.expected(), "after {step} more");
        }
        let numbers = aged.staying[0].wait_for(SOON, "", |bytes| Some(read_adts(bytes)));
        let numbers: Vec<u32> = numbers.iter().map(number).collect();
        assert!(numbers.is_sorted_by(|one, two| one + 1 == *two), "{numbers:?}");
    }
}

#[test]
fn mounts_of_one_stream_have_a_fast_cache_each() {
    let mount = |path: &str, keys: &str| format!("mount = \"/{path}[app]/[stream].aac\"\n{keys}");
    let config = Config::live()
        .mount(&mount("", "fast_cache = \"2s\""))
        .mount(&mount("short/", "fast_cache = 0.5"))
        .mount(&mount("none/", "fast_cache = 0"));
    let mut aged = Aged::start(&config, &[AUDIO, VIDEO]);
    aged.publish(100);
    let mounts = [("none/", 0), ("", 2_000), ("short/", 500)];
    for round in 0..3 {
        for (prefix, cache) in mounts {
            assert_eq!(aged.first(prefix), aged.newest() - cache / STEP, "/{prefix}, round {round}");
        }
        // The first viewer of each mount was there from the start.
        if round == 0 {
            mounts.iter().for_each(|(prefix, _)| aged.stay(prefix));
        }
        aged.publish(3);
    }
}

#[test]
fn without_a_gop_cache_audio_still_starts_at_once() {
    let mut aged = Aged::start(&config("2").play("gop_cache", "false"), &[AUDIO, VIDEO]);
    aged.publish(110);
    assert_eq!(aged.first(""), aged.expected());
}

#[test]
fn a_fast_cache_ends_with_its_stream() {
    let mut aged = Aged::start(&config("2").play("wait", "\"1s\""), &[AUDIO]);
    aged.publish(110);
    let Aged { host, key, publisher, witness, .. } = aged;
    drop(publisher);
    assert_eq!(witness.finish(SOON).end, End::Clean);
    assert_eq!(status(&host, &key, "aac"), 404);
    // The next stream has nothing of the one before.
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(100);
    publisher.send(media.headers().iter().filter(|tag| tag.kind != VIDEO));
    publisher.send(media.frames(20).iter().filter(|tag| tag.kind == AUDIO));
    let frames = listen(&host, &key, "aac").wait_for(SOON, "40 frames", |bytes| {
        let frames = read_adts(bytes);
        (frames.len() >= 40).then_some(frames)
    });
    assert_eq!(frames.iter().map(number).collect::<Vec<_>>(), (0..40).collect::<Vec<_>>());
}

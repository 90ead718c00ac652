//! Hot reload: new builds, modules and mounts while streams are live, and no viewer notices.

use remuxd_tests::audio::read_adts;
use remuxd_tests::capture::{Capture, End, Recording};
use remuxd_tests::clip::Clip;
use remuxd_tests::compare::{Coverage, check_order, compare, compare_units};
use remuxd_tests::decode::decode;
use remuxd_tests::fetch::Fetch;
use remuxd_tests::flv::{AUDIO, Content, SCRIPT, Tag, read_file};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::module_dir::ModuleDir;
use remuxd_tests::publisher::Publisher;
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tool::Ffmpeg;
use remuxd_tests::ts::{Stream, access_units, check, published_units};
use remuxd_tests::wait::SOON;

const MODULES: [&str; 4] = ["flv", "websocket-flv", "ts", "aac"];

/// FLV over HTTP and WebSocket, TS and AAC, from a module directory of the test's own.
fn config(modules: &ModuleDir, more: &str) -> Config {
    Config::live()
        .mount("mount = \"/[app]/[stream].flv\"")
        .mount("mount = \"/[app]/[stream].ts\"")
        .mount("mount = \"/[app]/[stream].aac\"\nfast_cache = 30")
        .tables(&modules.table(&MODULES, more))
}

/// A clip without end, a GOP at a time.
struct Looped {
    headers: Vec<Tag>,
    gops: Vec<Vec<Tag>>,
    length: u32,
    next: usize,
    published: Vec<Tag>,
}

impl Looped {
    fn new(clip: Clip) -> Looped {
        let tags = read_file(&clip.path());
        let (headers, media): (Vec<_>, Vec<_>) = tags
            .into_iter()
            .filter(|tag| tag.content() != Content::Other)
            .partition(|tag| matches!(tag.content(), Content::Script | Content::SequenceHeader));
        let mut headers = headers;
        for tag in headers.iter_mut().filter(|tag| tag.kind == SCRIPT) {
            tag.payload.splice(..0, *b"\x02\x00\x0d@setDataFrame");
        }
        let length = media.iter().map(|tag| tag.timestamp).max().unwrap() + 40;
        // Audio before the first keyframe is for nobody.
        let mut gops: Vec<Vec<Tag>> = Vec::new();
        for tag in media {
            if tag.is_keyframe() {
                gops.push(Vec::new());
            }
            if let Some(gop) = gops.last_mut() {
                gop.push(tag);
            }
        }
        Looped { headers, gops, length, next: 0, published: Vec::new() }
    }

    /// Sends the next GOP.
    fn send(&mut self, publisher: &mut Publisher) {
        if self.next == 0 {
            publisher.send(&self.headers);
        }
        let round = (self.next / self.gops.len()) as u32;
        let gop = &self.gops[self.next % self.gops.len()];
        let shift = |tag: &Tag| Tag { timestamp: tag.timestamp + round * self.length, ..tag.clone() };
        let gop: Vec<Tag> = gop.iter().map(shift).collect();
        publisher.send(&gop);
        self.published.extend(gop);
        self.next += 1;
    }

    fn access_units(&self) -> usize {
        self.published.iter().filter(|tag| tag.access_unit().is_some()).count()
    }

    /// The AAC frames so far.
    fn audio(&self) -> Vec<Vec<u8>> {
        let audio = self.published.iter().filter(|tag| tag.kind == AUDIO);
        audio.map(|tag| tag.payload[2..].to_vec()).collect()
    }
}

/// What every viewer of FLV owes to see: all that was published, once, in order, with one decoder configuration a track.
fn assert_undisturbed(name: &str, recording: &Recording, media: &Looped) {
    assert_eq!(recording.end, End::Clean, "{name}");
    check_order(&recording.tags).unwrap_or_else(|error| panic!("{name}: {error}"));
    compare(&media.published, &recording.tags, Coverage::Whole)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let configurations = recording.tags.iter().filter(|tag| tag.content() == Content::SequenceHeader).count();
    assert_eq!(configurations, 2, "{name}: decoder configurations");
    let scripts = recording.tags.iter().filter(|tag| tag.kind == SCRIPT).count();
    assert_eq!(scripts, 1, "{name}: metadata");
}

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
            // The last access unit may still be held.
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
        let said = host.reload();
        assert_eq!(said.matches(" loaded ").count(), MODULES.len(), "{said}");
        assert!(said.contains("live mounts: 8 handed over, 0 draining"), "{said}");
        step(&mut media);
    }
    assert_eq!(host.log().matches("mount handed over").count(), 80, "each mount goes over each time");
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

//! A live stream on a host with a module directory of its own.

use std::collections::BTreeSet;

use remuxd_tests::capture::{Capture, End, Recording};
use remuxd_tests::clip::Clip;
use remuxd_tests::compare::{Coverage, check_order, compare};
use remuxd_tests::flv::{AUDIO, Content, SCRIPT, Tag, read_file};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::module_dir::ModuleDir;
use remuxd_tests::publisher::Publisher;
use remuxd_tests::wait::{SOON, wait_for, wait_until};

pub(crate) const MODULES: [&str; 4] = ["flv", "websocket-flv", "ts", "aac"];

/// Returns a configuration with FLV over HTTP and WebSocket, TS and AAC, from a module directory of the test's own.
pub(crate) fn config(modules: &ModuleDir, more: &str) -> Config {
    Config::live()
        .mount("mount = \"/[app]/[stream].flv\"")
        .mount("mount = \"/[app]/[stream].ts\"")
        .mount("mount = \"/[app]/[stream].aac\"\nfast_cache = 30")
        .tables(&modules.table(&MODULES, more))
}

/// An endless repetition of a clip, sent GOP by GOP.
pub(crate) struct Looped {
    headers: Vec<Tag>,
    gops: Vec<Vec<Tag>>,
    length: u32,
    next: usize,
    pub published: Vec<Tag>,
}

impl Looped {
    pub(crate) fn new(clip: Clip) -> Looped {
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
        // No viewer gets audio before the first keyframe.
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
    pub(crate) fn send(&mut self, publisher: &mut Publisher) {
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

    pub(crate) fn access_units(&self) -> usize {
        self.published.iter().filter(|tag| tag.access_unit().is_some()).count()
    }

    /// Returns the AAC frames so far.
    pub(crate) fn audio(&self) -> Vec<Vec<u8>> {
        let audio = self.published.iter().filter(|tag| tag.kind == AUDIO);
        audio.map(|tag| tag.payload[2..].to_vec()).collect()
    }
}

/// Asserts that a viewer of FLV got everything that was published, once, in order, with one decoder configuration a track.
pub(crate) fn assert_undisturbed(name: &str, recording: &Recording, media: &Looped) {
    assert_eq!(recording.end, End::Clean, "{name}");
    check_order(&recording.tags).unwrap_or_else(|error| panic!("{name}: {error}"));
    compare(&media.published, &recording.tags, Coverage::Whole)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let configurations = recording.tags.iter().filter(|tag| tag.content() == Content::SequenceHeader).count();
    assert_eq!(configurations, 2, "{name}: decoder configurations");
    let metadata = |tag: &&Tag| tag.payload.starts_with(b"\x02\x00\x0aonMetaData");
    let metadata = recording.tags.iter().filter(metadata).count();
    assert_eq!(metadata, 1, "{name}: metadata");
}

/// A host with these modules, a stream that has sent its first GOP, and a viewer of FLV who has it.
pub(crate) struct Scene {
    pub modules: ModuleDir,
    pub host: Host,
    pub key: String,
    pub publisher: Publisher,
    pub media: Looped,
    pub viewer: Capture,
}

impl Scene {
    pub(crate) fn new(more: &str) -> Scene {
        let modules = ModuleDir::with(&MODULES);
        let host = Host::start(&config(&modules, more));
        Scene::on(modules, host)
    }

    pub(crate) fn on(modules: ModuleDir, host: Host) -> Scene {
        let key = host.key("live");
        let publisher = Publisher::open(host.rtmp, &key);
        let viewer = Capture::http(&host, &key);
        let mut scene = Scene { modules, host, key, publisher, media: Looped::new(Clip::H264Aac), viewer };
        scene.advance();
        scene
    }

    /// Sends the next GOP, and waits until the viewer has it.
    pub(crate) fn advance(&mut self) {
        self.media.send(&mut self.publisher);
        self.viewer.wait_access_units(self.media.access_units(), SOON);
    }

    /// Ends the stream, and asserts that the viewer was not disturbed.
    pub(crate) fn finish(self) {
        drop(self.publisher);
        assert_undisturbed("the viewer", &self.viewer.finish(SOON), &self.media);
    }

    pub(crate) fn path(&self, format: &str) -> String {
        format!("/{}.{format}", self.key)
    }

    /// Returns the generations of a module: number, state, viewers.
    pub(crate) fn generations(&self, name: &str) -> Vec<(u64, String, u64)> {
        generations(&self.host, name)
    }

    /// Waits until a generation of flv after `before` is current, and returns its number.
    pub(crate) fn wait_current(&self, before: u64) -> u64 {
        wait_for(SOON, "a new generation of flv", || {
            let newer = |(number, state, _): &(u64, String, u64)| *number > before && state == "current";
            self.generations("flv").into_iter().find(newer).map(|(number, ..)| number)
        })
    }

    /// Waits until the viewer is served by this generation of flv.
    pub(crate) fn wait_handover(&self, generation: u64) {
        wait_until(SOON, "the viewer is handed over", || {
            self.generations("flv").contains(&(generation, "current".to_owned(), 1))
        });
    }

    /// Returns whether the metrics have this line.
    pub(crate) fn metric(&self, line: &str) -> bool {
        self.host.api_page("/metrics").lines().any(|one| one == line)
    }

    /// Runs a command that must be refused, and returns its output.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let output = self.host.command(arguments);
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{printed}");
        assert!(printed.contains("refused; nothing has changed"), "{printed}");
        printed
    }
}

/// Returns the generations of a module: number, state, viewers.
pub(crate) fn generations(host: &Host, name: &str) -> Vec<(u64, String, u64)> {
    let modules = host.api_json("/api/v1/modules");
    let of_name = modules.as_array().unwrap().iter().filter(|module| module["name"] == name);
    let facts = of_name.map(|module| {
        let number = |key: &str| module[key].as_u64().unwrap();
        (number("generation"), module["state"].as_str().unwrap().to_owned(), number("viewers"))
    });
    facts.collect()
}

/// Returns the number and the state of each generation.
pub(crate) fn states(generations: &[(u64, String, u64)]) -> Vec<(u64, &str)> {
    generations.iter().map(|(number, state, _)| (*number, state.as_str())).collect()
}

/// Returns the module copies that the host has mapped.
pub(crate) fn images(host: &Host) -> BTreeSet<String> {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", host.pid())).unwrap();
    let files = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    files.filter(|file| file.contains("/remuxd-") && file.ends_with(".so")).map(str::to_owned).collect()
}

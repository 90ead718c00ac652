//! The soak: a day of streams in minutes, with joins, leaves, republishes, reloads, module faults and slow readers.
//!
//! `soak [MINUTES]`; see `run` beside this file. Clocks of publishers run fast. Every healthy viewer must get every access unit
//! from its join on, once and in order. At the end of each cycle everything that came in the cycle is gone, and what the host
//! uses is measured. Exits 1 after a fault, or if a use grows.

mod checker;
mod feed;
mod usage;
mod viewer;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use remuxd_tests::host::{Config, Host};
use remuxd_tests::module_dir::ModuleDir;
use remuxd_tests::modules::test_module;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::random::Random;
use remuxd_tests::wait::poll_for;
use socket2::SockRef;

use feed::Feed;
use usage::{Usage, judge};
use viewer::{Kind, Seen, Viewer};

const MODULES: [&str; 5] = ["flv", "websocket-flv", "ts", "aac", "hostile"];
/// Acts of the module `hostile` that end one remuxer.
const FAULTS: [&str; 6] = ["panic", "error", "flood", "flags", "track", "dts"];
/// The highest speed of the slides: they have a picture in four seconds.
const SLIDES: u64 = 6000;
const HOUR: u64 = 3_600_000;
/// Number of actions in a cycle.
const ACTIONS: usize = 16;

/// Settings of a run.
struct Plan {
    minutes: f64,
    seed: u64,
    speed: u64,
}

impl Plan {
    fn read() -> Result<Plan, String> {
        let number = |name: &str, default: u64| match std::env::var(name) {
            Ok(text) => text.parse().map_err(|_| format!("{name} is {text:?}")),
            Err(_) => Ok(default),
        };
        let minutes = match std::env::args().nth(1) {
            Some(text) => text.parse().map_err(|_| format!("{text:?} is no number of minutes"))?,
            None => 15.0,
        };
        let random = std::time::UNIX_EPOCH.elapsed().map_or(0, |now| u64::from(now.subsec_nanos()));
        Ok(Plan { minutes, seed: number("SEED", random)?, speed: number("SPEED", 100)? })
    }
}

fn main() -> ExitCode {
    match Plan::read().and_then(|plan| soak(&plan)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A stream whose publisher runs.
struct Live {
    feed: Arc<Feed>,
    publisher: JoinHandle<Result<(), String>>,
}

impl Live {
    fn start(host: &Host, feed: Arc<Feed>) -> Live {
        let publisher = feed.publish(host.rtmp);
        Live { feed, publisher }
    }

    fn stop(self) -> Result<Arc<Feed>, String> {
        self.feed.stop();
        self.publisher.join().map_err(|_| "a publisher panicked".to_owned())??;
        Ok(self.feed)
    }
}

/// A run.
struct Soak {
    host: Host,
    modules: ModuleDir,
    random: Random,
    /// Streams that live as long as the run.
    lasting: Vec<Live>,
    /// Viewers that watch as long as the run.
    watching: Vec<Viewer>,
    /// Streams of this cycle, and viewers that come and go.
    passing: Vec<Live>,
    visitors: Vec<Viewer>,
    /// Actions so far, by name.
    done: BTreeMap<&'static str, u64>,
    /// Access units that were checked, by kind of viewer.
    checked: BTreeMap<String, u64>,
    gaps: u64,
    longest_wait: Duration,
    builds: u32,
}

fn soak(plan: &Plan) -> Result<(), String> {
    println!("seed {}, {} minutes, {} times real time", plan.seed, plan.minutes, plan.speed);
    let (mut soak, began) = (Soak::start(plan)?, Instant::now());
    let mut usages = Vec::new();
    while began.elapsed().as_secs_f64() < plan.minutes * 60.0 {
        for _ in 0..ACTIONS {
            soak.act()?;
            thread::sleep(Duration::from_millis(soak.random.below(500) as u64));
        }
        soak.settle()?;
        let usage = Usage::read(&soak.host);
        println!("{:4} s: {usage}", began.elapsed().as_secs());
        usages.push(usage);
    }
    soak.finish()?;
    judge(&usages)
}

impl Soak {
    fn start(plan: &Plan) -> Result<Soak, String> {
        let modules = ModuleDir::with(&MODULES[..4]);
        modules.put("hostile", &std::fs::read(test_module("hostile")).map_err(|error| error.to_string())?);
        let mount =
            |config: Config, extension| config.mount(&format!("mount = \"/[app]/[stream].{extension}\""));
        let config = Config::live()
            .limits("max_connections_per_address", "0")
            .publish("republish_wait", "\"5s\"")
            .play("queue_length", "\"15m\"")
            .play("idle_timeout", "\"1s\"")
            .tables(&modules.table(&MODULES, "unload = true"));
        let host = Host::start(&["flv", "ts", "aac", "hostile"].into_iter().fold(config, mount));
        // Publishers' timestamps of 32 bits wrap, and change their sign, 10 minutes after the start. What viewers get starts near 0:
        // its times of 33 bits wrap after 26.5 hours, those of 32 bits after 49.7 days, which the slides reach before the end, if
        // the run has minutes enough for their highest speed.
        let before = 600_000_u32;
        let slides = (51 * 24 * HOUR / ((plan.minutes * 54_000.0) as u64).max(1)).clamp(plan.speed, SLIDES);
        let lasting = [
            Feed::new("live/wraps32", 40, plan.speed, before.wrapping_neg()),
            Feed::new("live/wraps31", 40, plan.speed, (1 << 31) - before),
            Feed::new("live/slides", 4000, slides, 0),
        ];
        let lasting: Vec<Live> = lasting.into_iter().map(|feed| Live::start(&host, feed)).collect();
        let mut soak = Soak {
            host,
            modules,
            random: Random::new(plan.seed),
            lasting,
            watching: Vec::new(),
            passing: Vec::new(),
            visitors: Vec::new(),
            done: BTreeMap::new(),
            checked: BTreeMap::new(),
            gaps: 0,
            longest_wait: Duration::ZERO,
            builds: 0,
        };
        for live in &soak.lasting {
            for kind in Kind::HEALTHY {
                let viewer =
                    Viewer::start(&soak.host, &live.feed, kind).map_err(|error| error.to_string())?;
                soak.watching.push(viewer);
            }
        }
        Ok(soak)
    }

    /// Performs a random action.
    fn act(&mut self) -> Result<(), String> {
        let feeds: Vec<_> = self.lasting.iter().map(|live| live.feed.clone()).collect();
        let name = match self.random.below(16) {
            0..5 => {
                let (feed, kind) = (self.random.one(&feeds), self.random.one(&Kind::HEALTHY));
                self.visit(&feed, kind)?;
                "joins"
            }
            5..8 => {
                if !self.visitors.is_empty() {
                    let visitor = self.random.below(self.visitors.len());
                    let seen = self.visitors.swap_remove(visitor).leave();
                    self.count(seen)?;
                }
                "leaves"
            }
            8..10 => {
                self.random.one(&feeds).leave_and_return();
                "republishes"
            }
            10..12 => {
                self.builds += 1;
                self.modules.put_build(self.random.one(&MODULES[..4]), self.builds);
                let printed = self.host.reload();
                if !printed.contains(" loaded ") {
                    return Err(format!("a reload: {printed}"));
                }
                "reloads"
            }
            12 => {
                let feed = self.random.one(&feeds[..2]);
                self.visit(&feed, Kind::Slow)?;
                "slow readers"
            }
            13 => {
                self.cut_off()?;
                "resets in mid-message"
            }
            _ => {
                self.short_stream()?;
                "streams with faults"
            }
        };
        *self.done.entry(name).or_default() += 1;
        // Faults are reported early.
        match self.watching.iter().position(Viewer::has_ended) {
            None => Ok(()),
            Some(viewer) => {
                let seen = self.watching.swap_remove(viewer).finish();
                self.count(seen).and(Err("a viewer ended".into()))
            }
        }
    }

    fn visit(&mut self, feed: &Arc<Feed>, kind: Kind) -> Result<(), String> {
        let viewer = Viewer::start(&self.host, feed, kind).map_err(|error| error.to_string())?;
        self.visitors.push(viewer);
        Ok(())
    }

    /// A stream that lives as long as the cycle, whose publisher orders faults of the module `hostile`.
    fn short_stream(&mut self) -> Result<(), String> {
        let number = self.done.values().sum::<u64>();
        let feed = Feed::new(&format!("live/short{number}"), 40, 10, 0);
        for kind in [Kind::Http("flv"), Kind::Rtmp, Kind::Http("hostile")] {
            self.visit(&feed, kind)?;
        }
        poll_for(Duration::from_secs(30), || (self.host.metric("remuxd_waiting") == 3).then_some(()))
            .ok_or("viewers do not wait for their stream")?;
        self.passing.push(Live::start(&self.host, feed.clone()));
        poll_for(Duration::from_secs(30), || (feed.sent() > 50).then_some(()))
            .ok_or("a publisher does not start")?;
        feed.order(self.random.one(&FAULTS));
        Ok(())
    }

    /// A publisher that resets its connection in the middle of a message.
    fn cut_off(&mut self) -> Result<(), String> {
        let key = format!("live/cut{}", self.done.values().sum::<u64>());
        let mut publisher = Publisher::open(self.host.rtmp, &key);
        let mut media = Numbered::new(1000);
        publisher.send(&media.headers());
        publisher.send(&media.frames(30));
        let begun = [remuxd_tests::rtmp::type0(6, 9, 1, 0, 1 << 20), vec![0; 300_000]].concat();
        let connection = publisher.connection();
        connection.write_raw(&begun).map_err(|error| error.to_string())?;
        SockRef::from(connection.socket()).set_linger(Some(Duration::ZERO)).map_err(|error| error.to_string())
    }

    /// Ends everything that came in this cycle, and waits until it is gone.
    fn settle(&mut self) -> Result<(), String> {
        let ended: Vec<Arc<Feed>> = self.passing.drain(..).map(Live::stop).collect::<Result<_, _>>()?;
        for visitor in std::mem::take(&mut self.visitors) {
            let (kind, sent) = (visitor.kind, visitor.feed.sent());
            let stays = ended.iter().any(|feed| Arc::ptr_eq(feed, &visitor.feed));
            let seen = if stays { visitor.finish() } else { visitor.leave() };
            let last = seen.checker.video.last;
            if stays && kind != Kind::Http("hostile") && last != Some(sent - 1) {
                return Err(format!("{kind:?}: {last:?} is the last of {sent} frames: {:?}", seen.fault));
            }
            self.count(seen)?;
        }
        // Each viewer that stays gets what is published now.
        for viewer in &self.watching {
            let sent = viewer.feed.sent();
            poll_for(Duration::from_secs(60), || {
                (viewer.last() + 1 >= sent || viewer.has_ended()).then_some(())
            })
            .ok_or_else(|| {
                format!("{:?} of {} stands still at {}", viewer.kind, viewer.feed.key, viewer.last())
            })?;
        }
        let (viewers, streams) = (self.watching.len() as u64, self.lasting.len() as u64);
        let players = streams;
        poll_for(Duration::from_secs(60), || {
            let is = self.host.count("viewers", None) + players == viewers
                && self.host.metric("remuxd_streams") == streams
                && Usage::read(&self.host).is_settled;
            is.then_some(())
        })
        .ok_or_else(|| format!("the cycle leaves something behind: {}", Usage::read(&self.host)))
    }

    /// Ends the run: each viewer must have the last frame.
    fn finish(mut self) -> Result<(), String> {
        let mut lengths = Vec::new();
        for live in std::mem::take(&mut self.lasting) {
            let feed = live.stop()?;
            lengths.push(format!("{} {:.1} h", feed.key, feed.length() as f64 / HOUR as f64));
        }
        let mut wraps = BTreeMap::<String, u32>::new();
        for viewer in std::mem::take(&mut self.watching) {
            let (kind, feed) = (viewer.kind, viewer.feed.clone());
            let seen = viewer.finish();
            let (video, sent) = (&seen.checker.video, feed.sent());
            let audio = seen.checker.audio.last.map(|number| number + 1);
            let has_all =
                audio == Some(sent * 2) && (kind == Kind::Http("aac") || video.last == Some(sent - 1));
            *wraps.entry(format!("{kind:?} of {}", feed.key)).or_default() += video.wraps;
            self.count(seen)?;
            if !has_all {
                return Err(format!("{kind:?} of {} lacks the end", feed.key));
            }
        }
        wraps.retain(|_, wraps| *wraps > 0);
        println!("length         {}", lengths.join(", "));
        println!("wraps          {wraps:?}");
        println!("actions        {:?}", self.done);
        println!(
            "access units   {:?}, all in order; {} gaps of slow readers and faults",
            self.checked, self.gaps
        );
        println!("longest wait   {:?} of a healthy viewer", self.longest_wait);
        Ok(())
    }

    fn count(&mut self, seen: Seen) -> Result<(), String> {
        let Seen { checker, longest_wait, fault } = seen;
        self.gaps += u64::from(checker.video.gaps);
        self.longest_wait = self.longest_wait.max(longest_wait);
        *self.checked.entry("video".into()).or_default() += checker.video.count;
        *self.checked.entry("audio".into()).or_default() += checker.audio.count;
        fault.map_or(Ok(()), Err)
    }
}

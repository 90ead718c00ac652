//! A live stream, orders to the hostile module, and viewers that record when each tag arrives.

use std::fs;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use remuxd_tests::flv::{Reader, SCRIPT, Tag};
use remuxd_tests::host::{Config, Host, executable};
use remuxd_tests::http::Request;
use remuxd_tests::modules::test_module;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::wait::{SOON, wait_for, wait_until};
use rustix::process::Pid;
use serde_json::Value;

/// File name of the module `hostile`.
const HOSTILE: &str = "libremuxd_hostile.so";
/// Interval of frames.
const STEP: Duration = Duration::from_millis(Numbered::STEP as u64);
/// `modules.call_timeout` of these tests: on a busy machine the end of a process takes time too.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// A host with `flv` and `hostile` on every stream.
pub(crate) struct Scene {
    pub host: Host,
    pub key: String,
    modules: Scratch,
}

impl Scene {
    pub(crate) fn new(isolation: &str, modules: &str) -> Scene {
        Scene::with_hostile(isolation, modules, &fs::read(test_module("hostile")).unwrap())
    }

    /// As [`new`](Self::new), with this build of the module `hostile`.
    pub(crate) fn with_hostile(isolation: &str, modules: &str, hostile: &[u8]) -> Scene {
        let dir = Scratch::new();
        let flv = executable().with_file_name("libremuxd_flv.so");
        std::os::unix::fs::symlink(&flv, dir.join("libremuxd_flv.so")).unwrap();
        fs::write(dir.join(HOSTILE), hostile).unwrap();
        let tables = format!(
            "[modules]\ndir = {:?}\nload = [\"flv\", \"hostile\"]\ncall_timeout = \"{CALL_TIMEOUT:?}\"\n{modules}\n\
             [module.\"hostile\"]\nisolation = \"{isolation}\"\nmax_memory = \"64MiB\"\n",
            dir.path()
        );
        let config = Config::live()
            .play("min_latency", "true")
            .play("idle_timeout", "\"1s\"")
            .mount("mount = \"/[app]/[stream].flv\"")
            .mount("mount = \"/[app]/[stream].hostile\"")
            .tables(&tables);
        let host = Host::start(&config);
        let key = host.key("live");
        Scene { host, key, modules: dir }
    }

    /// Replaces the build of `hostile`, for the next reload.
    pub(crate) fn put_hostile(&self, build: &[u8]) {
        fs::write(self.modules.join(HOSTILE), build).unwrap();
    }

    /// The number of live mounts that run the current generation of `hostile`.
    pub(crate) fn mounts_of_current(&self) -> usize {
        let modules = self.host.api_json("/api/v1/modules");
        let is_current = |module: &&Value| module["name"] == "hostile" && module["state"] == "current";
        let current = modules.as_array().unwrap().iter().find(is_current);
        current.map_or(0, |module| module["mounts"].as_u64().unwrap() as usize)
    }

    pub(crate) fn hostile_path(&self) -> String {
        format!("/{}.hostile", self.key)
    }

    pub(crate) fn hostile(&self) -> Viewer {
        Viewer::new(&self.host, &self.hostile_path())
    }

    pub(crate) fn neighbour(&self) -> Viewer {
        Viewer::new(&self.host, &self.host.path(&self.key))
    }

    /// Returns the module's process.
    pub(crate) fn process(&self) -> Pid {
        wait_for(SOON, "the module has a process", || {
            let alive = self.host.children().into_iter().find(|(_, state)| *state != 'Z');
            alive.map(|(process, _)| process)
        })
    }
}

/// A real-time publisher that sends orders to the module.
pub(crate) struct Live {
    pub orders: mpsc::Sender<(String, mpsc::Sender<u32>)>,
    pub thread: JoinHandle<Vec<(Tag, Instant)>>,
}

impl Live {
    pub(crate) fn new(scene: &Scene) -> Live {
        Live::with_key(scene, &scene.key)
    }

    pub(crate) fn with_key(scene: &Scene, key: &str) -> Live {
        let mut publisher = Publisher::open(scene.host.rtmp, key);
        let (orders, taken) = mpsc::channel::<(String, mpsc::Sender<u32>)>();
        let thread = thread::spawn(move || {
            let (start, mut media, mut sent) = (Instant::now(), Numbered::new(4000), Vec::new());
            publisher.send(&media.headers());
            loop {
                match taken.try_recv() {
                    Ok((word, reply)) => {
                        publisher.send(&[order(&word, media.time())]);
                        let _ = reply.send(media.number());
                    }
                    Err(mpsc::TryRecvError::Empty) => {}
                    Err(mpsc::TryRecvError::Disconnected) => return sent,
                }
                let frame = media.frame();
                sent.extend(frame.iter().map(|tag| (tag.clone(), Instant::now())));
                publisher.send(&frame);
                let due = start + Duration::from_millis(media.time().into());
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        Live { orders, thread }
    }

    /// Orders the hostile module to do `word`, and returns the number of the next frame.
    pub(crate) fn order(&self, word: &str) -> u32 {
        let (reply, number) = mpsc::channel();
        self.orders.send((word.to_owned(), reply)).unwrap();
        number.recv_timeout(SOON).unwrap()
    }

    /// Stops publishing, and returns what was sent and when.
    pub(crate) fn stop(self) -> Vec<(Tag, Instant)> {
        drop(self.orders);
        self.thread.join().unwrap()
    }
}

/// Returns a data message `onCuePoint` with a word in it.
fn order(word: &str, timestamp: u32) -> Tag {
    let text = |text: &str| [&[2, 0, text.len() as u8], text.as_bytes()].concat();
    let payload = [text("onCuePoint"), text(&format!("hostile:{word}"))].concat();
    Tag { kind: SCRIPT, timestamp, payload }
}

/// A viewer that records the arrival of each tag.
pub(crate) struct Viewer {
    shared: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    tags: Vec<(Tag, Instant)>,
    end: Option<String>,
}

impl Viewer {
    pub(crate) fn new(host: &Host, path: &str) -> Viewer {
        let shared = Arc::<Mutex<Seen>>::default();
        let (address, request, sink) = (host.http, Request::get(path), shared.clone());
        thread::spawn(move || {
            let end = watch(address, &request, &sink);
            sink.lock().unwrap().end = Some(end);
        });
        Viewer { shared }
    }

    /// Returns the numbers of the frames that it received.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        let seen = self.shared.lock().unwrap();
        seen.tags.iter().filter_map(|(tag, _)| Numbered::number_of(tag)).collect()
    }

    pub(crate) fn wait_number(&self, number: u32) {
        wait_until(SOON, &format!("frame {number} or a later one"), || {
            let seen = self.shared.lock().unwrap();
            let last = seen.tags.iter().rev().find_map(|(tag, _)| Numbered::number_of(tag));
            assert_eq!(seen.end, None, "at frame {last:?}, waiting for {number}");
            last >= Some(number)
        });
    }

    /// Waits until it has frame `number` or a later one. Returns the first of these.
    pub(crate) fn wait_resumed(&self, number: u32) -> u32 {
        self.wait_number(number);
        self.numbers().into_iter().find(|seen| *seen >= number).unwrap()
    }

    pub(crate) fn wait_end(&self) {
        wait_until(SOON, "the viewer's end", || self.shared.lock().unwrap().end.is_some());
    }

    /// The gaps in its numbers, each from the first number, which is missing, to the second, which is there.
    pub(crate) fn gaps(&self) -> Vec<(u32, u32)> {
        let numbers = self.numbers();
        let gaps = numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1);
        gaps.map(|pair| (pair[0] + 1, pair[1])).collect()
    }

    /// Asserts that its numbers ascend by one except for these gaps.
    pub(crate) fn assert_gaps(&self, gaps: &[(u32, u32)]) {
        assert_eq!(self.gaps(), gaps);
    }

    /// Checks that it received everything since it joined, and nothing late: no gap is longer than the publisher's own by
    /// more than a frame interval, `allowed` and `noise`. Times are not judged on a machine with too much noise.
    ///
    /// # Errors
    /// The frame that came late.
    pub(crate) fn undisturbed(
        &self,
        sent: &[(Tag, Instant)],
        allowed: Duration,
        noise: Duration,
    ) -> Result<(), String> {
        let seen = self.shared.lock().unwrap();
        let units = |tags: &[(Tag, Instant)]| -> Vec<(Tag, Instant)> {
            tags.iter().filter(|(tag, _)| tag.access_unit().is_some()).cloned().collect()
        };
        let (seen, sent) = (units(&seen.tags), units(sent));
        let first = sent.iter().position(|(tag, _)| *tag == seen[0].0).unwrap();
        let sent = &sent[first..];
        assert!(sent.iter().map(|(tag, _)| tag).eq(seen.iter().map(|(tag, _)| tag)), "other bytes");
        // The first ones came at once, from the history.
        let fresh = seen.iter().zip(sent).skip_while(|((_, came), (_, went))| *came > *went + STEP);
        let pairs: Vec<_> = fresh.collect();
        if noise > 4 * STEP {
            println!("not judged by time, noise {noise:?}");
            return Ok(());
        }
        if pairs.len() < sent.len() / 2 {
            return Err(format!("{} of {} came late", sent.len() - pairs.len(), sent.len()));
        }
        let mut worst = Duration::ZERO;
        for pair in pairs.windows(2) {
            let (((_, came), (_, went)), ((tag, next_came), (_, next_went))) = (pair[0], pair[1]);
            let (gap, own) = (*next_came - *came, *next_went - *went);
            if gap > own + STEP + allowed + noise {
                let time = tag.timestamp;
                return Err(format!(
                    "a gap of {gap:?}, {own:?} of it sent, before {time} ms, noise {noise:?}"
                ));
            }
            worst = worst.max(gap.saturating_sub(own));
        }
        println!("{} tags, at most {worst:?} more between two than was sent, noise {noise:?}", pairs.len());
        Ok(())
    }
}

fn watch(address: std::net::SocketAddr, request: &Request, sink: &Mutex<Seen>) -> String {
    let mut response = match request.send(address) {
        Ok(response) if response.status == 200 => response,
        other => return format!("{other:?}"),
    };
    let (mut reader, mut buffer) = (Reader::default(), vec![0; 65536]);
    loop {
        match response.body.read(&mut buffer) {
            Ok(0) => return "clean".into(),
            Ok(len) => {
                let before = reader.tags().len();
                if let Err(error) = reader.push(&buffer[..len]) {
                    return error;
                }
                let now = Instant::now();
                let new = reader.tags()[before..].iter().map(|tag| (tag.clone(), now));
                sink.lock().unwrap().tags.extend(new);
            }
            Err(error) => return error.to_string(),
        }
    }
}

/// A measurement of the machine's scheduler, without the host: the longest delay of a sleeping thread.
pub(crate) struct Noise {
    worst: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Noise {
    pub(crate) fn start() -> Noise {
        let noise = Noise { worst: Arc::default(), stop: Arc::default() };
        let (worst, stop) = (noise.worst.clone(), noise.stop.clone());
        thread::spawn(move || {
            let pause = Duration::from_millis(2);
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                thread::sleep(pause);
                let late = start.elapsed().saturating_sub(pause).as_micros() as u64;
                worst.fetch_max(late, Ordering::Relaxed);
            }
        });
        noise
    }

    /// Returns the noise for a frame, which passes four threads: publisher, network, worker, network.
    pub(crate) fn stop(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        4 * Duration::from_micros(self.worst.load(Ordering::Relaxed))
    }
}

/// Repeats a scenario that fails: a delay that occurs each time is the host's and not the machine's.
pub(crate) fn retry(scenario: impl Fn() -> Result<(), String>) {
    let mut late = (0..3).map_while(|_| scenario().err());
    if let Some(last) = late.nth(2) {
        panic!("{last}");
    }
}

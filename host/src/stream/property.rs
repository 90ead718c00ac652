//! A property test: random sequences of what publishers, viewers and operators do, against a [`model`] of what viewers must get.
//!
//! After each step every viewer must have got what the model says, letter by letter, and end when it says so. A viewer that
//! stalls may continue at the newest join point. A sequence that fails is reduced to a short one and printed.
//!
//! The threads are real. A fault without a trace would be ordered against the next step by chance, so that keyframes follow it until
//! there is output, and two mounts of a stream see no faults. `PROPTEST_CASES` is the number of sequences.
//!
//! On a busy machine a thread may get no CPU for seconds. So a missing text is an error only after many looks, there are fewer
//! sequences, and one that takes longer than the host's pauses is not judged any more: the host acts by the clock then, the model
//! does not.

mod model;
mod steps;

use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::test_runner::{Config as Runs, TestCaseError, TestRunner};

use self::model::{Generation, Model, Mount, Refusal};
use self::steps::{Kind, Letter, Step, load, step};
use super::ring::JoinAt;
use super::{EndReason, Hub, LiveMount, MountError, PublishError, Publisher, Stream, StreamKey, Viewer};
use crate::budget::Account;
use crate::conf::{Config, ReloadMode, Vhost};
use crate::media::{Millis, Tag, TagKind};
use crate::module::{Module, Pool, Recipe};

/// Number of sequences at most, and the largest number of steps of one.
const SEQUENCES: u32 = 400;
const STEPS: usize = 60;
/// Time and number of looks after which a viewer will not get what is missing.
const DEADLINE: Duration = Duration::from_secs(5);
const LOOKS: u32 = 20_000;
/// A test must end within 3 minutes. So after this time no sequence begins, unless `PROPTEST_CASES` is set; one that is not over then
/// is printed, since it may hang; and one that fails is not reduced for longer.
const LONGEST: Duration = Duration::from_secs(60);
/// Time from one keyframe to the next at most, in milliseconds, of the 10 s that rings keep: a new mount that comes to its start only
/// when the next keyframe is there would fall out of the ring, as the model does not.
const LONGEST_GOP: i64 = 7000;
/// Time after which a mount that is closed opens again.
const CLOSED: Duration = Duration::from_secs(5);
/// Time after which faults are forgotten.
const PERIOD: Duration = Duration::from_secs(60);
/// Limit of a module call. No call hangs.
const CALL_TIMEOUT: Duration = Duration::from_secs(3600);

/// The host, and the model beside it.
struct World {
    hub: Arc<Hub>,
    vhost: Arc<Vhost>,
    pool: Arc<Pool>,
    generations: Vec<Arc<Module>>,
    streams: [Source; 2],
    watching: Vec<Watching>,
    model: Model,
    /// When the sequence began, and the step that closed a mount first.
    began: Instant,
    closed: Option<Instant>,
}

/// A stream and its publisher.
#[derive(Default)]
struct Source {
    stream: Option<Arc<Stream>>,
    publisher: Option<Publisher>,
    left: u64,
    clock: i64,
    /// The time of the newest keyframe.
    keyframe: i64,
    mounts: Vec<Arc<LiveMount>>,
}

/// A viewer, what it has got, and where it started.
struct Watching {
    viewer: Viewer,
    at: usize,
    mount: usize,
    from: usize,
    text: String,
    /// It is there as long as its mount, to see all of it, and before the mount's other viewers.
    is_observer: bool,
    stalled: bool,
    /// It has stalled, and has not read since.
    may_skip: bool,
}

impl World {
    fn new(vhost: &Arc<Vhost>) -> World {
        let mut model = Model::default();
        model.generations.push(Generation { kind: Kind::Good, off: false, fallback: None });
        World {
            hub: Hub::new(),
            vhost: vhost.clone(),
            pool: Pool::new(1, CALL_TIMEOUT, None),
            generations: vec![load(Kind::Good, 0)],
            streams: Default::default(),
            watching: Vec::new(),
            model,
            began: Instant::now(),
            closed: None,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Publish(at) => self.publish(at),
            Step::Unpublish(at) => {
                if let Some(publisher) = self.streams[at].publisher.take() {
                    self.streams[at].left = publisher.leave().unwrap();
                    self.model.streams[at].live = false;
                }
            }
            Step::Expire(at) => self.expire(at),
            Step::Send(at, letter) => self.send(at, letter),
            Step::View(at) => self.view(at),
            Step::Leave(index) => {
                if let Some(index) = self.viewer(index) {
                    self.watching.remove(index);
                }
            }
            Step::Stall(index) => {
                if let Some(index) = self.viewer(index) {
                    let watching = &mut self.watching[index];
                    // Who has not started yet may start at any later join point.
                    watching.stalled = !watching.stalled && !watching.text.is_empty();
                    watching.may_skip |= watching.stalled;
                }
            }
            Step::Reload(kind, drain) => self.reload(kind, drain),
            Step::RollBack => {
                let newest = self.generations.len() - 1;
                ["x", "y", "z"].into_iter().for_each(|stream| self.generations[newest].on_worse(stream));
                self.model.roll_back();
                // Each mount notices by itself at its next tag; here at once, since a new one may not have begun to wait.
                self.streams.iter().flat_map(|source| &source.mounts).for_each(|mount| mount.settle());
            }
            Step::Idle(at) => {
                self.streams[at].mounts.iter().for_each(|mount| mount.end(EndReason::Idle));
                self.model.streams[at].mounts.iter_mut().for_each(|mount| mount.ended = true);
            }
        }
    }

    fn publish(&mut self, at: usize) {
        let key = StreamKey::new("a", "live", ["x", "y"][at]);
        let expected = self.model.publish(at);
        match self.hub.publish(key, &self.vhost, Account::unlimited()) {
            Ok((publisher, _)) => {
                assert!(expected, "another publisher is live");
                let source = &mut self.streams[at];
                if !source.stream.as_ref().is_some_and(|stream| Arc::ptr_eq(stream, publisher.stream())) {
                    *source = Source { stream: Some(publisher.stream().clone()), ..Source::default() };
                    self.watching.retain(|watching| watching.at != at);
                }
                source.publisher = Some(publisher);
            }
            Err(PublishError::Busy) => assert!(!expected, "no other publisher is live"),
        }
    }

    fn expire(&mut self, at: usize) {
        let source = &self.streams[at];
        if let (Some(stream), true, false) =
            (&source.stream, self.model.streams[at].exists, source.publisher.is_some())
        {
            self.hub.expire(stream, source.left);
            self.model.expire(at);
            assert!(self.hub.find(stream.key()).is_none());
        }
    }

    fn send(&mut self, at: usize, letter: Letter) {
        let is_long = self.streams[at].clock - self.streams[at].keyframe >= LONGEST_GOP;
        let letter = if is_long { Letter::Key } else { letter };
        let is_harmless = !letter.breaks(Kind::Fragile);
        if self.streams[at].publisher.is_none() || (self.model.is_ambiguous() && !is_harmless) {
            return;
        }
        self.push(at, letter);
        while self.model.needs_keyframe(at) {
            self.push(at, Letter::Key);
        }
    }

    fn push(&mut self, at: usize, letter: Letter) {
        let source = &mut self.streams[at];
        let Some(publisher) = &source.publisher else { return };
        source.clock += 1000;
        if letter.is_key() {
            source.keyframe = source.clock;
        }
        let clock = Millis(source.clock);
        assert!(publisher.push(Tag::new(TagKind::VIDEO, clock, letter.body()), clock));
        self.model.push(at, letter);
    }

    fn view(&mut self, at: usize) {
        let stream = self.streams[at].stream.clone();
        let Some(stream) = stream.filter(|_| self.model.streams[at].exists) else { return };
        let live = self.model.streams[at].live;
        let module = self.generations[self.generations.len() - 1].standing();
        let recipe = Recipe::new(module, &[], std::iter::empty())
            .unwrap()
            .of_mount(&self.vhost.mounts[0].pattern.text);
        let watched = stream.watch(|_| Ok::<_, MountError>((recipe, Duration::ZERO)), &self.pool);
        let expected = self.model.watch(at);
        if self.is_late() {
            return;
        }
        let source = &mut self.streams[at];
        let viewer = match watched {
            Ok((viewer, _)) => viewer,
            Err(error) => {
                let error = match error {
                    MountError::SwitchedOff => Refusal::SwitchedOff,
                    MountError::Faults { .. } => Refusal::Faults,
                    other => panic!("{other}"),
                };
                assert_eq!(Some(error), expected.err());
                return;
            }
        };
        let (mount, is_new) = expected.expect("the model refuses the viewer");
        let mut add = |viewer, from, is_observer| {
            let text = String::new();
            self.watching.push(Watching {
                viewer,
                at,
                mount,
                from,
                text,
                is_observer,
                stalled: false,
                may_skip: false,
            });
        };
        if is_new {
            source.mounts.push(viewer.mount().clone());
            add(Viewer::new(viewer.mount().clone(), JoinAt::Newest), 0, true);
            add(viewer, 0, false);
            while self.model.needs_keyframe(at) {
                self.push(at, Letter::Key);
            }
            return;
        }
        assert!(Arc::ptr_eq(viewer.mount(), &source.mounts[mount]), "it shares the mount");
        let mount = &self.model.streams[at].mounts[mount];
        let from = if live { mount.newest_join() } else { mount.entries.len() };
        add(viewer, from, false);
    }

    fn reload(&mut self, kind: Kind, drain: bool) {
        let drain = drain && self.model.is_untroubled();
        if kind != Kind::Good && (drain || self.model.is_ambiguous()) {
            return;
        }
        let (old, next) =
            (self.generations[self.generations.len() - 1].clone(), load(kind, self.generations.len()));
        // As the registry does.
        next.set_fallback(Some(old.standing()).filter(|old| !old.is_off()));
        let mode = if drain { ReloadMode::Drain } else { ReloadMode::Handover };
        self.hub.sweep(std::slice::from_ref(&self.vhost), mode, |_| Some(next.clone()));
        if !old.is_off() {
            old.set_fallback(None);
        }
        self.generations.push(next);
        self.model.reload(kind, drain);
    }

    /// The position of a viewer that is no observer.
    fn viewer(&self, index: usize) -> Option<usize> {
        let viewers = self.watching.iter().enumerate().filter(|(_, watching)| !watching.is_observer);
        let viewers: Vec<_> = viewers.map(|(at, _)| at).collect();
        viewers.get(index.checked_rem(viewers.len())?).copied()
    }

    /// Whether the host may act by the clock, as the model does not.
    fn is_late(&self) -> bool {
        self.closed.is_some_and(|closed| closed.elapsed() >= CLOSED) || self.began.elapsed() >= PERIOD
    }

    /// Waits until every viewer has got what the model says. Returns an error that says what another one got.
    fn check(&mut self) -> Result<(), String> {
        for watching in self.watching.iter_mut().filter(|watching| !watching.stalled) {
            let mount = &self.model.streams[watching.at].mounts[watching.mount];
            watching.read(mount);
            let (text, expected) = (&watching.text, watching.expected(mount));
            if *text != expected {
                return Err(format!("a viewer got {text:?}, not {expected:?}"));
            }
        }
        Ok(())
    }
}

impl Watching {
    /// The answer of the model.
    fn expected(&self, mount: &Mount) -> String {
        mount.text_from(self.from) + if mount.ended { "!" } else { "" }
    }

    /// Reads until nothing is missing of what the model says, and whatever else there is.
    fn read(&mut self, mount: &Mount) {
        let (began, mut looks) = (Instant::now(), 0);
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let skipped = self.viewer.skipped();
            let next = self.viewer.poll_next(&mut cx);
            if self.may_skip && self.viewer.skipped() > skipped {
                // The mount's observer has read everything, so that the mount has the model's join points.
                self.from = mount.newest_join();
                self.text.clear();
            }
            match next {
                Poll::Ready(Some(span)) => {
                    self.text.extend(span.parts().iter().flatten().map(|&byte| char::from(byte)));
                }
                Poll::Ready(None) => {
                    if !self.text.ends_with('!') {
                        self.text.push('!');
                    }
                    break;
                }
                Poll::Pending if self.text == self.expected(mount) => break,
                Poll::Pending if looks >= LOOKS && began.elapsed() >= DEADLINE => break,
                Poll::Pending => {
                    looks += 1;
                    thread::sleep(Duration::from_micros(100));
                }
            }
        }
        self.may_skip = false;
    }
}

/// Takes the steps and compares after each, and once more when everything has ended.
fn run(vhost: &Arc<Vhost>, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut world = World::new(vhost);
    let end = [Step::Unpublish(0), Step::Unpublish(1), Step::Expire(0), Step::Expire(1)];
    for (at, &step) in steps.iter().chain(&end).enumerate() {
        if at == steps.len() {
            world.watching.iter_mut().for_each(|watching| watching.stalled = false);
        }
        let began = Instant::now();
        world.take(step);
        if world.model.streams.iter().any(model::Stream::is_closed) {
            world.closed.get_or_insert(began);
        }
        if world.is_late() {
            return Ok(());
        }
        let checked = world.check();
        if world.began.elapsed() >= PERIOD {
            return Ok(());
        }
        checked.map_err(|text| TestCaseError::fail(format!("{text} after step {at}, {step:?}")))?;
    }
    Ok(())
}

/// As [`run`]. Prints the steps if they do not come to an end.
fn run_or_print(vhost: &Arc<Vhost>, steps: &[Step]) -> Result<(), TestCaseError> {
    thread::scope(|scope| {
        let (done, ended) = mpsc::channel::<()>();
        scope.spawn(move || {
            if ended.recv_timeout(LONGEST) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("not over after {LONGEST:?}: {steps:?}");
            }
        });
        let result = run(vhost, steps);
        drop(done);
        result
    })
}

fn vhost() -> Arc<Vhost> {
    let config =
        "[vhost.a.play]\nmin_latency = true\nqueue_length = 10\n[[vhost.a.http_remux]]\nenabled = true\n";
    Config::parse(config, "remuxd.toml").unwrap().vhosts[0].clone()
}

#[test]
fn viewers_get_what_the_model_says() {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let runs = Runs {
        failure_persistence: None,
        max_shrink_time: LONGEST.as_millis() as u32,
        ..Runs::with_cases(wanted.unwrap_or(SEQUENCES))
    };
    let (vhost, steps, began) = (vhost(), vec(step(), 1..STEPS), Instant::now());
    let result = TestRunner::new(runs).run(&steps, |steps| {
        let is_over = wanted.is_none() && began.elapsed() >= LONGEST;
        if is_over { Ok(()) } else { run_or_print(&vhost, &steps) }
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

/// The steps of a viewer who does not read until the ring no longer holds what comes next.
fn falls_behind() -> Vec<Step> {
    [vec![Step::Stall(0)], vec![Step::Send(0, Letter::Key); 12]].concat()
}

#[test]
fn a_viewer_falls_behind_twice() {
    let start = vec![Step::Publish(0), Step::Send(0, Letter::Key), Step::View(0)];
    let reads = vec![Step::Stall(0)];
    run(&vhost(), &[start, falls_behind(), reads.clone(), falls_behind(), reads].concat()).unwrap();
}

#[test]
fn a_viewer_who_has_fallen_behind_waits_for_the_next_publisher() {
    let start = vec![Step::Publish(0), Step::Send(0, Letter::Key), Step::View(0)];
    let next = vec![Step::Unpublish(0), Step::Publish(0), Step::Stall(0), Step::Send(0, Letter::Key)];
    run(&vhost(), &[start, falls_behind(), next].concat()).unwrap();
}

//! Scenes of what fills a mount: jobs that are abandoned, replaced and ended while they write.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use remuxd_plugin_api::{Format, FormatInfo, RemuxError, Remuxer, Setup, Sink, Tag, Transport};
use shuttle::future::block_on;
use shuttle::thread;

use super::check;
use crate::budget::Account;
use crate::conf::Config;
use crate::media::{Codec, Millis};
use crate::module::{BlockFlags, Module, ModuleFault, OutBlock, Recipe, Terms, linked};
use crate::stream::fill::{EndReason, Fill};
use crate::stream::ring::{JoinAt, Pace, Reader};
use crate::stream::source::Source;
use crate::stream::{Span, StreamKey};

struct Null;

impl Format for Null {
    type Remuxer = Null;

    fn info() -> FormatInfo {
        FormatInfo {
            name: "null",
            version: "1",
            extensions: &["null"],
            transport: Transport::HTTP,
            content_type: "a/b",
            video_codecs: &[Codec::H264],
            audio_codecs: &[],
            options: &[],
        }
    }

    fn remuxer(_: &Setup) -> Result<Null, RemuxError> {
        Ok(Null)
    }
}

impl Remuxer for Null {
    fn tag(&mut self, _: &Tag, _: &mut dyn Sink) -> Result<(), RemuxError> {
        Ok(())
    }
}

/// Generations 1 to 3, each with the one before as its fallback.
fn generations() -> [Arc<Module>; 3] {
    let terms = |generation| Terms { generation, max_output: 0, max_faults: 1, unload: false };
    let modules = [1, 2, 3].map(|generation| linked::<Null>(&terms(generation)).unwrap());
    modules[1].set_fallback(Some(modules[0].clone()));
    modules[2].set_fallback(Some(modules[1].clone()));
    modules
}

fn fill(module: &Arc<Module>) -> Arc<Fill> {
    let vhost = Config::parse("[vhost.a]\n", "remuxd.toml").unwrap().vhosts[0].clone();
    let source = Source::new(StreamKey::new("a", "live", "x"), vhost, Account::unlimited());
    Fill::new(Arc::new(source), Recipe::new(module.clone(), &[], std::iter::empty()).unwrap(), Millis(0))
}

/// A block of one letter, where a reader may start.
fn block(letter: &'static [u8]) -> Vec<OutBlock> {
    let parts = std::iter::once(Bytes::from_static(letter)).collect();
    vec![OutBlock { flags: BlockFlags::JOIN, track: 0, dts: Millis(0), parts, charge: None }]
}

fn read_to_end(mut reader: Reader<OutBlock>) -> String {
    let mut read = String::new();
    while let Some(span) = block_on(poll_fn(|cx| reader.poll_read(cx))) {
        let span: &Span = &span;
        read.extend(span.parts().iter().flatten().map(|&byte| char::from(byte)));
    }
    read
}

#[test]
fn an_abandoned_job_changes_nothing() {
    check(|| {
        let [old, new, _] = generations();
        let fill = fill(&old);
        let reader = fill.blocks().reader(JoinAt::Newest, Pace::Each);
        let first = fill.begin().unwrap();
        let late = thread::spawn({
            let (fill, old) = (fill.clone(), old.clone());
            move || {
                fill.start(first, &old, Vec::new(), block(b"a"));
                fill.push(first, block(b"a"));
                fill.stop(first);
                fill.end_by(first, EndReason::Outdated);
            }
        });
        let watchdog = thread::spawn({
            let fill = fill.clone();
            move || {
                assert!(fill.abandon(first).is_some_and(|called| called.generation() == 1));
                assert!(fill.abandon(first).is_none(), "once");
                let Some(second) = fill.begin() else { return };
                fill.start(second, &new, Vec::new(), block(b"b"));
                fill.push(second, block(b"b"));
            }
        });
        late.join().unwrap();
        watchdog.join().unwrap();
        let ended = fill.end_reason();
        let running = fill.running().map(|module| module.generation());
        assert_eq!(running, ended.is_none().then_some(2), "{ended:?}");
        fill.end(EndReason::Idle);
        assert_eq!(fill.end_reason(), ended.or(Some(EndReason::Idle)), "the first reason counts");
        let read = read_to_end(reader);
        let own = read.trim_start_matches('a');
        assert_eq!(own, if ended.is_none() { "bb" } else { "" }, "{read:?}");
    });
}

#[test]
fn the_end_reaches_the_job_and_nothing_follows_it() {
    check(|| {
        let [module, ..] = generations();
        let fill = fill(&module);
        let readers = [(); 2].map(|()| fill.blocks().reader(JoinAt::Newest, Pace::Each));
        let epoch = fill.begin().unwrap();
        let job = thread::spawn({
            let (fill, module) = (fill.clone(), module.clone());
            move || {
                fill.start(epoch, &module, Vec::new(), block(b"a"));
                fill.push(epoch, block(b"a"));
                // Waits as a job does that has no tag.
                block_on(poll_fn(|cx| {
                    fill.attach(epoch, cx.waker().clone());
                    if fill.is_current(epoch) { Poll::Pending } else { Poll::Ready(()) }
                }));
                fill.push(epoch, block(b"a"));
            }
        });
        let ends = [EndReason::Idle, EndReason::Drained].map(|reason| {
            let fill = fill.clone();
            thread::spawn(move || fill.end(reason))
        });
        let [first, second] = readers;
        let read = read_to_end(first);
        ends.into_iter().for_each(|end| end.join().unwrap());
        job.join().unwrap();
        assert_eq!(read, read_to_end(second), "what one reader got before the end is all that there is");
        assert_eq!(fill.running().map(|module| module.generation()), None);
        assert!(fill.begin().is_none(), "no job begins on a mount that has ended");
    });
}

#[test]
fn a_fallback_undoes_no_reload() {
    check(|| {
        let [before, suspect, next] = generations();
        let fill = fill(&suspect);
        fill.faults().on_fault(&suspect, &ModuleFault::Poisoned, 9, Instant::now());
        let settles = [(); 2].map(|()| {
            let fill = fill.clone();
            thread::spawn(move || fill.settle().map(|recipe| recipe.module().generation()))
        });
        fill.hand_over(&next, &[]).unwrap();
        for settled in settles {
            let settled = settled.join().unwrap();
            assert!(matches!(settled, Some(1 | 3)), "{settled:?}, but 2 has failed");
        }
        assert_eq!(fill.recipe().module().generation(), 3);
        drop((before, suspect));
    });
}

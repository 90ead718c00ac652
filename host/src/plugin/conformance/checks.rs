//! Checks: one for each thing that an author can get wrong.

use std::fs;
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use remuxd_plugin_api::{BlockFlags, Options, Setup, StreamFacts};

use super::decode::{self, decode};
use super::history::{facts, join_blocks, joins, replay, viewed, viewed_whole};
use super::rules::{Breach, Rule};
use super::run::{Run, carries, play, survive};
use super::sequences::{self, Sequence};
use crate::media::{Millis, Tag};
use crate::plugin::{Module, ModuleFault, OptionError, OutBlock, OwnedOptionKind, resolve_options};

/// What came of a check. The text is one line for the author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The module does it right.
    Pass(String),
    /// It cannot be told.
    Skip(String),
    /// The module does it wrong.
    Fail(String),
}

/// One check: its name, and what it tries.
pub(super) struct Check {
    pub name: &'static str,
    pub run: fn(&Bench<'_>) -> Verdict,
}

/// All checks, in the order in which an author wants to know.
pub(super) const CHECKS: [Check; 13] = [
    Check { name: "sound streams", run: sound_streams },
    Check { name: "options", run: options },
    Check { name: "codecs it lacks", run: other_codecs },
    Check { name: "damaged streams", run: damaged_streams },
    Check { name: "start in the middle", run: starts },
    Check { name: "joins decode alone", run: joins_decode },
    Check { name: "handover to itself", run: handover },
    Check { name: "state of another build", run: foreign_state },
    Check { name: "same output each time", run: determinism },
    Check { name: "one stream, one remuxer", run: independence },
    Check { name: "freed at any time", run: freed },
    Check { name: "memory", run: memory },
    Check { name: "time of a call", run: call_time },
];

/// What checks work with.
pub(super) struct Bench<'a> {
    module: &'a Module,
    options: Options,
    /// Sound sequences that the host would hand to the module.
    carried: Vec<Sequence>,
    /// The sound ones that it would not.
    foreign: Vec<Sequence>,
    unsound: Vec<Sequence>,
}

impl<'a> Bench<'a> {
    /// A bench for remuxers of `module` with these options, else the defaults.
    pub fn new(module: &'a Module, set: &[(String, String)]) -> Result<Bench<'a>, OptionError> {
        let options = resolve_options(module.options(), set, std::iter::empty())?;
        let (sound, unsound): (Vec<_>, Vec<_>) =
            sequences::all().into_iter().partition(|sequence| sequence.sound);
        let (carried, foreign) =
            sound.into_iter().partition(|one| one.tags.is_empty() || carries(module, &one.tags));
        Ok(Bench { module, options, carried, foreign, unsound })
    }

    fn fresh(&self) -> Setup {
        Setup::new(self.options.clone(), StreamFacts::default())
    }

    /// A setup for a remuxer that starts at tag `from`.
    fn later(&self, tags: &[Tag], from: usize) -> Setup {
        Setup::new(self.options.clone(), facts(tags, from))
    }

    /// The carried sequence with most to lose: the first, by the order of the kit.
    fn main(&self) -> Option<&Sequence> {
        self.carried.iter().find(|sequence| !sequence.tags.is_empty())
    }
}

const CARRIES_NONE: &str = "none of the kit's codecs is declared";

/// Fails with a sequence's breach.
fn blame(sequence: &Sequence) -> impl Fn(Breach) -> String {
    let name = sequence.name;
    move |breach| format!("{name}: {breach}")
}

fn verdict(outcome: Result<String, String>) -> Verdict {
    match outcome {
        Ok(note) => Verdict::Pass(note),
        Err(reason) => Verdict::Fail(reason),
    }
}

/// No fault, blocks by the rules, and a place to join in each stream that can be carried.
fn sound_streams(bench: &Bench<'_>) -> Verdict {
    if bench.main().is_none() {
        return Verdict::Skip(CARRIES_NONE.into());
    }
    verdict(bench.carried.iter().try_fold(0, |tags, sequence| {
        let mut run = Run::start(bench.module, &bench.fresh()).map_err(blame(sequence))?;
        sequence.tags.iter().try_for_each(|tag| run.tag(tag)).map_err(blame(sequence))?;
        run.finish().map_err(blame(sequence))?;
        if run.joins() == 0 && !sequence.tags.is_empty() {
            return Err(format!("{}: {}", sequence.name, Rule::NoJoin));
        }
        run.free().map_err(blame(sequence))?;
        Ok(tags + sequence.tags.len())
    }).map(|tags| format!("{} streams, {tags} tags", bench.carried.len())))
}

/// Every word, flag and bound of each option does what a default does: no fault.
fn options(bench: &Bench<'_>) -> Verdict {
    let specs = bench.module.options();
    let mut tried = 0;
    for spec in specs {
        let values = match &spec.kind {
            OwnedOptionKind::Flag => vec!["false".to_owned(), "true".to_owned()],
            OwnedOptionKind::Integer { min, max } => vec![min.to_string(), max.to_string()],
            OwnedOptionKind::Choice(words) => words.clone(),
            OwnedOptionKind::Text => vec![String::new(), "text \u{e9}\u{1f600}".to_owned()],
        };
        for value in values {
            let set = bench.options.iter().map(|(key, old)| {
                (key.to_owned(), if key == spec.name { value.clone() } else { old.to_owned() })
            });
            let setup = Setup::new(Options::new(set.collect()), StreamFacts::default());
            for sequence in &bench.carried {
                if let Err(breach) = play(bench.module, &setup, &sequence.tags) {
                    return Verdict::Fail(format!("{} = {value:?}: {}: {breach}", spec.name, sequence.name));
                }
            }
            tried += 1;
        }
    }
    if tried == 0 { Verdict::Skip("it has none".into()) } else { Verdict::Pass(format!("{tried} values")) }
}

/// Errors are in order, panics and floods are not.
fn other_codecs(bench: &Bench<'_>) -> Verdict {
    if bench.foreign.is_empty() {
        return Verdict::Skip("it declares all that the kit has".into());
    }
    survives(bench, &bench.foreign)
}

fn damaged_streams(bench: &Bench<'_>) -> Verdict {
    survives(bench, &bench.unsound)
}

fn survives(bench: &Bench<'_>, sequences: &[Sequence]) -> Verdict {
    verdict(sequences.iter().try_fold((0, 0), |(tags, errors), sequence| {
        let more = survive(bench.module, &bench.fresh(), &sequence.tags).map_err(blame(sequence))?;
        Ok((tags + sequence.tags.len(), errors + more))
    }).map(|(tags, errors)| format!("{} streams, {tags} tags, {errors} errors", sequences.len())))
}

/// A remuxer that starts where the first viewer of an old stream makes it start.
fn starts(bench: &Bench<'_>) -> Verdict {
    if bench.main().is_none() {
        return Verdict::Skip(CARRIES_NONE.into());
    }
    verdict(bench.carried.iter().try_fold(0, |starts, sequence| {
        let places = joins(&sequence.tags);
        let step = places.len() / 5 + 1;
        for &from in places.iter().step_by(step) {
            let tags = replay(&sequence.tags, from);
            let setup = bench.later(&sequence.tags, from);
            let blocks = play(bench.module, &setup, &tags)
                .map_err(|breach| format!("{}, from tag {from}: {breach}", sequence.name))?;
            if join_blocks(&blocks).is_empty() && carries(bench.module, &tags) {
                return Err(format!("{}, from tag {from}: {}", sequence.name, Rule::NoJoin));
            }
        }
        Ok(starts + places.len().div_ceil(step))
    }).map(|starts| format!("{starts} starts")))
}

/// How many sequences are decoded, and at how many places of each.
const DECODED: usize = 6;
const PLACES: usize = 4;

/// Preamble, configurations and all from a JOIN on decode without anything else.
fn joins_decode(bench: &Bench<'_>) -> Verdict {
    if !decode::is_there() {
        return Verdict::Skip("no ffprobe on the PATH".into());
    }
    let mut decoded = 0;
    let mut complaint = CARRIES_NONE.to_owned();
    for sequence in bench.carried.iter().filter(|one| !one.tags.is_empty()).take(DECODED) {
        let blocks = match play(bench.module, &bench.fresh(), &sequence.tags) {
            Ok(blocks) => blocks,
            Err(breach) => return Verdict::Fail(blame(sequence)(breach)),
        };
        let places = join_blocks(&blocks);
        let Some(whole) = viewed_whole(&blocks) else { continue };
        if let Err(why) = decode(whole) {
            complaint = format!("ffprobe does not read it: {why}");
            continue;
        }
        // The last third may be too short to be recognised.
        let early = &places[..places.len() * 2 / 3];
        for &from in early.iter().step_by(early.len() / PLACES + 1) {
            if let Err(why) = decode(viewed(&blocks, from)) {
                let dts = blocks[from].dts.0;
                return Verdict::Fail(format!("{}, joined at {dts} ms: ffprobe: {why}", sequence.name));
            }
            decoded += 1;
        }
    }
    if decoded == 0 { Verdict::Skip(complaint) } else { Verdict::Pass(format!("{decoded} joins decoded")) }
}

/// What viewers get when a build of the module takes over from another one of the same at tag `at`: the blocks, and
/// how many are of the first.
fn hand_over(bench: &Bench<'_>, tags: &[Tag], at: usize) -> Result<(Vec<OutBlock>, usize), Breach> {
    let mut first = Run::start(bench.module, &bench.fresh())?;
    tags[..at].iter().try_for_each(|tag| first.tag(tag))?;
    first.finish()?;
    let state = first.state()?;
    let mut blocks = first.free()?;
    let from_first = blocks.len();
    let mut setup = bench.later(tags, at);
    setup.state = state;
    blocks.extend(play(bench.module, &setup, &replay(tags, at))?);
    Ok((blocks, from_first))
}

fn media(blocks: &[OutBlock]) -> impl Iterator<Item = &OutBlock> {
    blocks.iter().filter(|block| matches!(block.flags, BlockFlags::NONE | BlockFlags::JOIN))
}

/// Viewers notice nothing when the module takes over from itself: times go on, no frame is lost or repeated.
fn handover(bench: &Bench<'_>) -> Verdict {
    if bench.main().is_none() {
        return Verdict::Skip(CARRIES_NONE.into());
    }
    let ffprobe = decode::is_there();
    let (mut tried, mut decoded) = (0, 0);
    for sequence in &bench.carried {
        let places = joins(&sequence.tags);
        let Some(&at) = places.get(places.len() / 2).filter(|_| places.len() > 1) else { continue };
        let (blocks, from_first) = match hand_over(bench, &sequence.tags, at) {
            Ok(handed) => handed,
            Err(breach) => return Verdict::Fail(blame(sequence)(breach)),
        };
        tried += 1;
        let (first, second) = blocks.split_at(from_first);
        let last = media(first).map(|block| block.dts).max();
        let next = media(second).map(|block| block.dts).min();
        if let Some((last, next)) = last.zip(next).filter(|(last, next)| next < last) {
            let Sequence { name, .. } = sequence;
            return Verdict::Fail(format!("{name}: the successor goes back from {} to {} ms", last.0, next.0));
        }
        if !carries(bench.module, &sequence.tags[at..]) || decoded == DECODED || !ffprobe {
            continue;
        }
        let alone = play(bench.module, &bench.fresh(), &sequence.tags).unwrap_or_default();
        let (Some(alone), Some(handed)) = (viewed_whole(&alone), viewed_whole(&blocks)) else { continue };
        let Ok(expected) = decode(alone) else { continue };
        match decode(handed) {
            Ok(found) if found == expected => decoded += 1,
            Ok(found) => {
                let Sequence { name, .. } = sequence;
                let (found, expected) = (counts(&found), counts(&expected));
                return Verdict::Fail(format!("{name}: {found} decode with a handover, {expected} without"));
            }
            Err(why) => {
                return Verdict::Fail(format!("{}: after a handover ffprobe: {why}", sequence.name));
            }
        }
    }
    Verdict::Pass(format!("{tried} handovers, {decoded} of them decoded"))
}

fn counts(streams: &[(String, u64)]) -> String {
    let streams = streams.iter().map(|(codec, frames)| format!("{frames} {codec} frames"));
    streams.collect::<Vec<_>>().join(" and ")
}

/// A state that cannot be read counts as a fresh start.
fn foreign_state(bench: &Bench<'_>) -> Verdict {
    let Some(sequence) = bench.main() else { return Verdict::Skip(CARRIES_NONE.into()) };
    let own = Run::start(bench.module, &bench.fresh()).and_then(|mut run| {
        sequence.tags.iter().try_for_each(|tag| run.tag(tag))?;
        run.finish()?;
        run.state()
    });
    let own = match own {
        Ok(own) => own,
        Err(breach) => return Verdict::Fail(blame(sequence)(breach)),
    };
    let damaged = |at: usize| {
        let mut state = own.clone();
        state[at] ^= 0xff;
        state
    };
    let mut states = vec![vec![0], vec![0xff; 3], vec![0; 1000], b"{\"version\": 9}".to_vec()];
    states.extend((0..own.len()).step_by(own.len() / 40 + 1).map(damaged));
    states.extend((1..own.len()).step_by(own.len() / 40 + 1).map(|end| own[..end].to_vec()));
    states.push([&own[..], &[0; 9]].concat());
    let tried = states.len();
    for state in states {
        let shown = state.len();
        let mut setup = bench.fresh();
        setup.state = state;
        if let Err(breach) = play(bench.module, &setup, &sequence.tags) {
            return Verdict::Fail(format!("with a state of {shown} bytes that is not its own: {breach}"));
        }
    }
    Verdict::Pass(format!("its own has {} bytes; {tried} others", own.len()))
}

/// What makes a block.
type Essence = (BlockFlags, u8, Millis, Vec<u8>);

fn essence(blocks: &[OutBlock]) -> Vec<Essence> {
    blocks.iter().map(|block| (block.flags, block.track, block.dts, block.parts.concat())).collect()
}

/// Tells where two outputs part.
fn compare(name: &str, what: &str, one: &[OutBlock], other: &[OutBlock]) -> Result<(), String> {
    let (one, other) = (essence(one), essence(other));
    match one.iter().zip(&other).position(|(one, other)| one != other) {
        Some(at) => Err(format!("{name}: {what}, block {at} is another ({} ms)", one[at].2.0)),
        None if one.len() != other.len() => {
            Err(format!("{name}: {what}, {} blocks are {}", one.len(), other.len()))
        }
        None => Ok(()),
    }
}

/// The same tags make the same blocks, on one thread and on many.
fn determinism(bench: &Bench<'_>) -> Verdict {
    let run = |sequence: &Sequence| {
        let played = || play(bench.module, &bench.fresh(), &sequence.tags).map_err(blame(sequence));
        let first = played()?;
        compare(sequence.name, "played again", &first, &played()?)?;
        let mut run = Run::start(bench.module, &bench.fresh()).map_err(blame(sequence))?;
        for tags in sequence.tags.chunks(sequence.tags.len() / 10 + 1) {
            let fed = thread::scope(|scope| {
                let run = &mut run;
                scope.spawn(move || tags.iter().try_for_each(|tag| run.tag(tag))).join()
            });
            fed.map_err(|_| "a thread panicked".to_owned())?.map_err(blame(sequence))?;
        }
        run.finish().map_err(blame(sequence))?;
        compare(sequence.name, "played on several threads", &first, &run.blocks)
    };
    let outcome = bench.carried.iter().try_for_each(run);
    verdict(outcome.map(|()| format!("{} streams, again and on several threads", bench.carried.len())))
}

/// Two remuxers at once are as each alone.
fn independence(bench: &Bench<'_>) -> Verdict {
    let sequences: Vec<_> = bench.carried.iter().filter(|sequence| !sequence.tags.is_empty()).collect();
    let pairs = sequences.iter().zip(sequences.iter().cycle().skip(1));
    let run = |(one, other): (&&Sequence, &&Sequence)| {
        let alone = |sequence: &Sequence| {
            play(bench.module, &bench.fresh(), &sequence.tags).map_err(blame(sequence))
        };
        let (alone_one, alone_other) = (alone(one)?, alone(other)?);
        let start = |sequence| Run::start(bench.module, &bench.fresh()).map_err(blame(sequence));
        let (mut first, mut second) = (start(one)?, start(other)?);
        for index in 0..one.tags.len().max(other.tags.len()) {
            for (run, sequence) in [(&mut first, one), (&mut second, other)] {
                sequence.tags.get(index).map_or(Ok(()), |tag| run.tag(tag)).map_err(blame(sequence))?;
            }
        }
        for (mut run, sequence, alone) in [(first, one, alone_one), (second, other, alone_other)] {
            run.finish().map_err(blame(sequence))?;
            compare(sequence.name, "beside another remuxer", &alone, &run.blocks)?;
        }
        Ok(())
    };
    let count = sequences.len();
    if count == 0 {
        return Verdict::Skip(CARRIES_NONE.into());
    }
    verdict(pairs.take(count).try_for_each(run).map(|()| format!("{count} pairs of remuxers")))
}

/// How many places to stop at.
const STOPS: usize = 80;

/// The last viewer may leave at any time: then there is no `finish`.
fn freed(bench: &Bench<'_>) -> Verdict {
    let outcome = bench.carried.iter().chain(&bench.unsound).try_fold(0, |stops, sequence| {
        let ends = 0..sequence.tags.len().min(STOPS);
        for end in ends.clone() {
            let free = || {
                let mut run = Run::start(bench.module, &bench.fresh())?;
                for tag in &sequence.tags[..end] {
                    // What a tag does is looked at elsewhere.
                    if run.tag(tag).is_err() {
                        break;
                    }
                }
                run.free()
            };
            free().map_err(|breach| format!("{}, after {end} tags: {breach}", sequence.name))?;
        }
        Ok(stops + ends.len())
    });
    verdict(outcome.map(|stops| format!("after {stops} beginnings")))
}

/// How many tags come before memory is measured, and after.
const WARM_UP: usize = 40_000;
const LONG: usize = 200_000;
/// How much more may be held after the long run, in bytes.
const GROWTH: usize = 4 << 20;

/// A sequence without end: its tags again and again, at times that go on.
fn endless(sequence: &Sequence) -> impl Iterator<Item = Tag> {
    let length = sequence.tags.last().map_or(0, |last| last.dts.0 + 40);
    let turns = (0i64..).flat_map(move |turn| sequence.tags.iter().map(move |tag| (turn, tag)));
    turns.map(move |(turn, tag)| Tag { dts: Millis(tag.dts.0 + turn * length), ..tag.clone() })
}

/// The memory of a remuxer does not grow with the age of its stream.
fn memory(bench: &Bench<'_>) -> Verdict {
    let Some(sequence) = bench.main() else { return Verdict::Skip(CARRIES_NONE.into()) };
    let measure = || -> Result<(usize, usize), String> {
        let mut remuxer = bench.module.remuxer(&bench.fresh()).map_err(|fault| fault.to_string())?;
        let mut out = Vec::new();
        let mut tags = endless(sequence);
        let mut feed = |count| {
            tags.by_ref().take(count).try_for_each(|tag| {
                out.clear();
                remuxer.tag(&tag, &mut out)
            })
        };
        let fault = |fault: ModuleFault| fault.to_string();
        feed(WARM_UP).map_err(fault)?;
        let before = resident();
        feed(LONG).map_err(fault)?;
        Ok((before, resident()))
    };
    match measure() {
        Ok((before, after)) if after > before + GROWTH => {
            let grown = after - before;
            Verdict::Fail(format!("{} KiB more after {LONG} tags: {} bytes a tag", grown >> 10, grown / LONG))
        }
        Ok((before, after)) => {
            let grown = after.saturating_sub(before) >> 10;
            Verdict::Pass(format!("{grown} KiB more after {LONG} tags"))
        }
        Err(fault) => Verdict::Fail(format!("{}: {fault}", sequence.name)),
    }
}

/// The memory of this process, in bytes.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<usize>().ok());
    kib.unwrap_or(0) << 10
}

/// What the host warns of by default: `modules.call_timeout`.
const CALL_LIMIT: Duration = Duration::from_secs(1);

/// A call does not keep a thread of the host.
fn call_time(bench: &Bench<'_>) -> Verdict {
    let mut times = Vec::new();
    for sequence in &bench.carried {
        let Ok(mut remuxer) = bench.module.remuxer(&bench.fresh()) else { continue };
        let mut out = Vec::new();
        for (number, tag) in sequence.tags.iter().enumerate() {
            let began = Instant::now();
            let _ = black_box(remuxer.tag(tag, &mut out));
            times.push((began.elapsed(), sequence.name, number));
            out.clear();
        }
    }
    times.sort();
    let (Some(&(median, ..)), Some(&(longest, name, number))) = (times.get(times.len() / 2), times.last()) else {
        return Verdict::Skip(CARRIES_NONE.into());
    };
    if longest > CALL_LIMIT {
        return Verdict::Fail(format!("{longest:.1?} at tag {number} of {name}, {CALL_LIMIT:?} at most"));
    }
    Verdict::Pass(format!("half of them below {median:.1?}, the longest {longest:.1?} ({name})"))
}

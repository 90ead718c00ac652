//! The model: what viewers must get, in the words of the documentation, without threads, rings or locks.

use super::steps::{Kind, Letter};

/// Number of faults that a mount survives.
pub(super) const MAX_FAULTS: usize = 1;

/// The whole host.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) generations: Vec<Generation>,
    pub(super) streams: [Stream; 2],
}

#[derive(Debug)]
pub(super) struct Generation {
    pub(super) kind: Kind,
    pub(super) off: bool,
    pub(super) fallback: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) exists: bool,
    pub(super) live: bool,
    /// The current publisher has sent a keyframe.
    keyframe_seen: bool,
    /// Configuration of the current publisher.
    config: Option<u8>,
    /// The start of a new mount: the configuration at the newest keyframe, and everything since.
    gop: Option<(Option<u8>, Vec<Letter>)>,
    record: Record,
    pub(super) mounts: Vec<Mount>,
}

/// The faults on one stream.
#[derive(Debug, Default)]
struct Record {
    counted: usize,
    closed: bool,
    trial: Option<Trial>,
}

#[derive(Clone, Copy, Debug)]
struct Trial {
    suspect: usize,
    before: usize,
    /// The generation before failed too.
    alike: bool,
}

#[derive(Debug)]
pub(super) struct Mount {
    pub(super) intended: usize,
    /// The generation of the remuxer, and the number of frames in its state.
    running: Option<(usize, u8)>,
    draining: bool,
    pub(super) ended: bool,
    /// It waits for the first join point.
    joining: bool,
    /// Its remuxer failed, and there is no output since.
    faulted: bool,
    /// The configuration at its position, and the one that its viewers have.
    config: Option<u8>,
    sent: Option<u8>,
    pub(super) entries: Vec<Entry>,
    /// New viewers start at this entry or later.
    earliest_join: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) text: String,
    pub(super) joins: bool,
    /// The configuration that viewers who join here get.
    config: Option<u8>,
}

/// Why a viewer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    SwitchedOff,
    Faults,
}

impl Model {
    /// The generation that new viewers get.
    pub(super) fn standing(&self, generation: usize) -> usize {
        let mut standing = generation;
        while self.generations[standing].off {
            let Some(before) = self.generations[standing].fallback else { return generation };
            standing = before;
        }
        standing
    }

    /// Whether several mounts of a stream would see a fault in no particular order.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.streams.iter().any(|stream| stream.live_mounts() > 1)
    }

    /// Whether all is well: no fault so far, and none to come from a module alone.
    pub(super) fn is_untroubled(&self) -> bool {
        let good = |generation: &Generation| generation.kind == Kind::Good && !generation.off;
        self.generations.last().is_some_and(good)
            && self.streams.iter().all(|stream| {
                stream.record.trial.is_none() && stream.record.counted == 0 && !stream.record.closed
            })
    }

    /// Loads a generation. With `drain`, mounts stay with theirs.
    pub(super) fn reload(&mut self, kind: Kind, drain: bool) {
        let (old, new) = (self.generations.len() - 1, self.generations.len());
        let standing = self.standing(old);
        let fallback = Some(standing).filter(|&standing| !self.generations[standing].off);
        self.generations.push(Generation { kind, off: false, fallback });
        for mount in
            self.streams.iter_mut().flat_map(|stream| &mut stream.mounts).filter(|mount| !mount.ended)
        {
            mount.draining = drain;
            if !drain {
                mount.intended = new;
            }
        }
        if !self.generations[old].off {
            self.generations[old].fallback = None;
        }
    }

    /// The newest generation is switched off.
    pub(super) fn roll_back(&mut self) {
        if let Some(newest) = self.generations.last_mut() {
            newest.off = true;
        }
        (0..self.streams.len()).for_each(|at| self.settle_all(at));
    }

    pub(super) fn publish(&mut self, at: usize) -> bool {
        let stream = &mut self.streams[at];
        if stream.live {
            return false;
        }
        if !stream.exists {
            *stream = Stream { exists: true, ..Stream::default() };
        }
        (stream.live, stream.keyframe_seen, stream.config, stream.gop) = (true, false, None, None);
        stream.mounts.iter_mut().for_each(|mount| mount.earliest_join = mount.entries.len());
        true
    }

    /// The stream ends.
    pub(super) fn expire(&mut self, at: usize) {
        for index in 0..self.streams[at].mounts.len() {
            if self.settle(at, index) {
                let mount = &mut self.streams[at].mounts[index];
                if mount.running.take().is_some() {
                    mount.push("$".to_owned(), false);
                }
                mount.ended = true;
            }
        }
        self.streams[at].exists = false;
    }

    /// A viewer comes. Returns its mount, and whether that is new.
    pub(super) fn watch(&mut self, at: usize) -> Result<(usize, bool), Refusal> {
        self.settle_all(at);
        let generation = self.standing(self.generations.len() - 1);
        if self.generations[generation].off {
            return Err(Refusal::SwitchedOff);
        }
        let stream = &mut self.streams[at];
        if stream.record.closed {
            return Err(Refusal::Faults);
        }
        if let Some(index) = stream.mounts.iter().position(|mount| !mount.ended && !mount.draining) {
            return Ok((index, false));
        }
        let index = stream.mounts.len();
        stream.mounts.push(Mount::new(generation));
        if let Some((config, letters)) = stream.gop.clone().filter(|_| stream.live) {
            stream.mounts[index].joining = false;
            stream.mounts[index].config = config;
            letters.into_iter().for_each(|letter| self.feed(at, index, letter));
        }
        Ok((index, true))
    }

    /// The publisher sends something.
    pub(super) fn push(&mut self, at: usize, letter: Letter) {
        let stream = &mut self.streams[at];
        match letter {
            // Nothing new: `reduce_sequence_header`.
            Letter::Config(number) if stream.config == Some(number) => return,
            Letter::Config(number) => stream.config = Some(number),
            _ if letter.is_key() => {
                stream.keyframe_seen = true;
                stream.gop = Some((stream.config, Vec::new()));
            }
            // Nobody could decode it.
            _ if !stream.keyframe_seen => return,
            _ => {}
        }
        if let Some((_, letters)) = &mut stream.gop {
            letters.push(letter);
        }
        let config = stream.config;
        for index in 0..stream.mounts.len() {
            let mount = &mut self.streams[at].mounts[index];
            if mount.joining && letter.is_key() {
                (mount.joining, mount.config) = (false, config);
            }
            if !mount.joining {
                self.feed(at, index, letter);
            } else {
                self.settle(at, index);
            }
        }
    }

    /// Whether a mount has failed without a trace so far, so that nobody can tell when it has.
    pub(super) fn needs_keyframe(&self, at: usize) -> bool {
        let stream = &self.streams[at];
        stream.live && stream.mounts.iter().any(|mount| !mount.ended && mount.faulted)
    }

    fn settle_all(&mut self, at: usize) {
        for index in 0..self.streams[at].mounts.len() {
            self.settle(at, index);
        }
    }

    /// Gives the mount the generation that must fill it. Returns false if it ends, or has.
    fn settle(&mut self, at: usize, index: usize) -> bool {
        let intended = self.standing(self.streams[at].mounts[index].intended);
        let chosen = self.streams[at].record.trial.filter(|trial| trial.concerns(intended));
        let chosen = chosen.map(|trial| if trial.alike { trial.suspect } else { trial.before });
        let chosen = chosen.filter(|&chosen| !self.generations[chosen].off).unwrap_or(intended);
        let is_off = self.generations[chosen].off;
        let mount = &mut self.streams[at].mounts[index];
        if mount.ended {
            return false;
        }
        mount.intended = chosen;
        mount.ended = is_off;
        !is_off
    }

    fn feed(&mut self, at: usize, index: usize, letter: Letter) {
        if !self.settle(at, index) {
            return;
        }
        let mount = &mut self.streams[at].mounts[index];
        if let Letter::Config(number) = letter {
            mount.config = Some(number);
            if mount.running.is_some() {
                mount.send_config();
            }
            return;
        }
        let intended = mount.intended;
        let (generation, count) = match mount.running {
            Some((generation, _)) if generation != intended && letter.is_key() => {
                return self.hand_over(at, index, letter);
            }
            Some(running) => running,
            None if letter.is_key() => (intended, 0),
            None => return,
        };
        if !self.start(at, index, generation, count, letter) {
            self.fault(at, index, generation);
        }
    }

    /// Another generation takes over with the state of the one before, which comes back if the other fails.
    fn hand_over(&mut self, at: usize, index: usize, letter: Letter) {
        let mount = &mut self.streams[at].mounts[index];
        let intended = mount.intended;
        let Some((before, mut count)) = mount.running.take() else { return };
        let off = self.generations[before].off;
        if off {
            count = 0;
        } else {
            mount.push("$".to_owned(), false);
        }
        if self.start(at, index, intended, count, letter) {
            return;
        }
        self.fault(at, index, intended);
        if !off && !self.streams[at].mounts[index].ended && !self.start(at, index, before, count, letter) {
            self.fault(at, index, before);
        }
    }

    /// A remuxer of a generation gets a frame. Returns false if it fails.
    fn start(&mut self, at: usize, index: usize, generation: usize, count: u8, letter: Letter) -> bool {
        let kind = self.generations[generation].kind;
        let mount = &mut self.streams[at].mounts[index];
        if kind == Kind::Broken || letter.breaks(kind) {
            mount.running = None;
            return false;
        }
        if mount.running.is_none() {
            mount.send_config();
        }
        mount.running = Some((generation, count + 1));
        mount.push(format!("{}{count}{} ", kind.letter(), letter.text()), letter.is_key());
        true
    }

    fn fault(&mut self, at: usize, index: usize, generation: usize) {
        let stream = &mut self.streams[at];
        stream.mounts[index].faulted = true;
        let record = &mut stream.record;
        match &mut record.trial {
            Some(trial) if trial.concerns(generation) => {
                if !trial.alike && trial.before == generation {
                    (trial.alike, record.counted) = (true, 0);
                }
            }
            _ => {
                let fallback = self.generations[generation].fallback;
                if let Some(before) = fallback.filter(|&before| !self.generations[before].off) {
                    record.trial = Some(Trial { suspect: generation, before, alike: false });
                    record.counted = 0;
                    return;
                }
            }
        }
        record.counted += 1;
        if record.counted > MAX_FAULTS || record.closed {
            (record.counted, record.closed) = (0, true);
            stream.mounts[index].ended = true;
        }
    }
}

impl Trial {
    fn concerns(&self, generation: usize) -> bool {
        self.suspect == generation || self.before == generation
    }
}

impl Stream {
    pub(super) fn live_mounts(&self) -> usize {
        self.mounts.iter().filter(|mount| !mount.ended).count()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.record.closed
    }
}

impl Mount {
    fn new(intended: usize) -> Mount {
        Mount {
            intended,
            running: None,
            draining: false,
            ended: false,
            joining: true,
            faulted: false,
            config: None,
            sent: None,
            entries: Vec::new(),
            earliest_join: 0,
        }
    }

    fn push(&mut self, text: String, joins: bool) {
        self.faulted = false;
        self.entries.push(Entry { text, joins, config: self.sent });
    }

    /// Viewers get the configuration, unless they have it.
    fn send_config(&mut self) {
        if let Some(number) = self.config {
            let known = self.running.is_none() && self.sent == Some(number);
            self.sent = Some(number);
            if !known {
                self.push(format!("h{number} "), false);
            }
        }
    }

    /// Where a viewer who comes now starts: at the newest join point, or at the next one.
    pub(super) fn newest_join(&self) -> usize {
        let join = self.entries.iter().rposition(|entry| entry.joins);
        join.filter(|&join| join >= self.earliest_join).unwrap_or(self.entries.len())
    }

    /// The entries for a viewer who starts at the first join point from entry `from` on.
    pub(super) fn text_from(&self, from: usize) -> String {
        let entries = &self.entries[from.min(self.entries.len())..];
        let mut text = String::new();
        if let Some(join) = entries.iter().position(|entry| entry.joins) {
            if let Some(number) = entries[join].config {
                text += &format!("h{number} ");
            }
            text.extend(entries[join..].iter().map(|entry| &*entry.text));
        }
        text
    }
}

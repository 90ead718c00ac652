//! The book: the newest publisher that this node has seen of each stream of the cluster, and its own publishers.
//!
//! The book has the rules and does no IO. Whoever drives it passes the times, sends what it returns to the directory, and offers it what
//! the directory has. Ids in it never become smaller: what was seen of a stream is forgotten only if nobody needs the stream and room is
//! needed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::entry::{State, StreamEntry};
use super::fence::FenceId;
use super::follow::{Follow, Hold, follow, hold};
use crate::stream::StreamKey;

/// The most streams that are remembered beside those in use.
const MAX_STREAMS: usize = 50_000;

/// How long an entry must be missing in the directory before it is presented there: its owner, if there is one, brings it back within a
/// third of its lease, and many nodes follow it.
const MISSING: Duration = Duration::from_secs(4);

/// The streams that this node knows.
#[derive(Debug, Default)]
pub struct Book {
    streams: HashMap<StreamKey, Known>,
    /// The publishers at this node.
    own: HashMap<StreamKey, StreamEntry>,
    /// Own publishers that have left, until the directory knows.
    ended: HashMap<StreamKey, StreamEntry>,
}

/// The knowledge of a stream.
#[derive(Debug)]
struct Known {
    /// The entry with the greatest id that was seen.
    seen: Option<StreamEntry>,
    /// When the directory answered last.
    answered: Option<Instant>,
    /// Since when the directory has had no entry, though one was seen.
    missing: Option<Instant>,
    used: Instant,
    /// Number of those who follow it.
    followers: usize,
}

/// The consequences of an answer of the directory, or of a notification.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// A newer publisher is elsewhere: followers leave for it.
    pub has_moved: bool,
    /// The directory has less than was seen: this is presented to it.
    pub present: Option<StreamEntry>,
}

/// The fate of a publisher of this node, for which the directory has another entry.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Stays,
    /// It has lost the stream to a publisher at another node.
    Lost,
    /// It stays with a greater id, which is to be put in place.
    Raised(StreamEntry),
}

impl Book {
    /// Returns the newest publisher that was seen of a stream.
    pub fn seen(&self, key: &StreamKey) -> Option<&StreamEntry> {
        self.streams.get(key)?.seen.as_ref()
    }

    /// Returns whether the directory has answered for a stream within `age`.
    pub fn is_fresh(&self, key: &StreamKey, age: Duration, now: Instant) -> bool {
        let answered = self.streams.get(key).and_then(|known| known.answered);
        answered.is_some_and(|answered| now.duration_since(answered) < age)
    }

    /// Takes an answer of the directory for a stream: its entry, or that there is none.
    pub fn answer(&mut self, key: &StreamKey, entry: Option<StreamEntry>, now: Instant) -> Offered {
        let known = self.known(key, now);
        known.answered = Some(now);
        let Some(entry) = entry else {
            // The directory has lost it, or the entry is too old. Nothing is forgotten here.
            let since = *known.missing.get_or_insert(now);
            let is_lost = now.saturating_duration_since(since) >= MISSING;
            return Offered { has_moved: false, present: known.seen.clone().filter(|_| is_lost) };
        };
        known.missing = None;
        self.offer(entry, now)
    }

    /// Notes that the directory has answered for a stream with an entry that is refused, so that nothing is known.
    pub fn refuse(&mut self, key: &StreamKey, now: Instant) {
        self.known(key, now).answered = Some(now);
    }

    /// Takes an entry of which the directory has notified this node, or which it has answered.
    pub fn offer(&mut self, entry: StreamEntry, now: Instant) -> Offered {
        let known = self.known(&entry.key, now);
        let meaning = follow(known.seen.as_ref(), &entry);
        if meaning == Follow::Present {
            return Offered { has_moved: false, present: known.seen.clone() };
        }
        known.seen = Some(entry);
        Offered { has_moved: meaning == Follow::Move, present: None }
    }

    /// Returns the entry of a new publisher at `node`, with an id greater than all that were seen of the stream. It is not the own one
    /// before [`Book::hold`].
    pub fn draft(
        &self,
        key: &StreamKey,
        node: &str,
        pull_url: &str,
        publisher: &str,
        wall_ms: u64,
    ) -> StreamEntry {
        let id = FenceId::next(wall_ms, self.seen(key).map(|seen| &seen.id), node);
        let (key, pull_url, publisher) = (key.clone(), pull_url.to_owned(), publisher.to_owned());
        StreamEntry { key, id, pull_url, publisher, state: State::Live }
    }

    /// Makes an entry the one of this node's publisher.
    pub fn hold(&mut self, entry: StreamEntry, now: Instant) {
        self.ended.remove(&entry.key);
        self.offer(entry.clone(), now);
        self.own.insert(entry.key.clone(), entry);
    }

    /// Returns the entry of this node's publisher of a stream.
    pub fn own(&self, key: &StreamKey) -> Option<&StreamEntry> {
        self.own.get(key)
    }

    /// Returns the entries of all publishers of this node.
    pub fn all_own(&self) -> Vec<StreamEntry> {
        self.own.values().cloned().collect()
    }

    /// Ends the publisher of a stream, if there is one. The directory is to be told: see [`Book::take_ended`].
    pub fn end(&mut self, key: &StreamKey, now: Instant) {
        let Some(own) = self.own.remove(key) else { return };
        let ended = StreamEntry { state: State::Ended, ..own };
        self.offer(ended.clone(), now);
        if self.ended.len() < MAX_STREAMS {
            self.ended.insert(key.clone(), ended);
        }
    }

    /// Takes the publishers that have left, of which the directory is to be told.
    pub fn take_ended(&mut self) -> Vec<StreamEntry> {
        self.ended.drain().map(|(_, entry)| entry).collect()
    }

    /// Takes back publishers that have left, since the directory could not be told, unless there are new ones.
    pub fn keep_ended(&mut self, entries: Vec<StreamEntry>) {
        for entry in entries {
            if !self.own.contains_key(&entry.key) && self.seen(&entry.key).is_none_or(|seen| *seen == entry) {
                self.ended.entry(entry.key.clone()).or_insert(entry);
            }
        }
    }

    /// Takes the entry that the directory has in place of the one of this node's publisher. A publisher that has lost the stream is no
    /// more the own one. If the lease of the entry `is_over`, its publisher is no more.
    pub fn contest(
        &mut self,
        mut held: StreamEntry,
        is_over: bool,
        node: &str,
        wall_ms: u64,
        now: Instant,
    ) -> Fate {
        let key = held.key.clone();
        let Some(own) = self.own.get(&key) else {
            self.offer(held, now);
            return Fate::Stays;
        };
        if is_over {
            held.state = State::Ended;
        }
        match hold(&own.id, &held) {
            Hold::Keep => Fate::Stays,
            Hold::Lose => {
                self.own.remove(&key);
                self.offer(held, now);
                Fate::Lost
            }
            Hold::Raise => self.raise(&key, &held.id, node, wall_ms, now),
        }
    }

    /// Gives the publisher of a stream an id after `last`, which somebody has seen.
    pub fn raise(&mut self, key: &StreamKey, last: &FenceId, node: &str, wall_ms: u64, now: Instant) -> Fate {
        let Some(own) = self.own.get(key).filter(|own| own.id < *last) else { return Fate::Stays };
        let raised = StreamEntry { id: FenceId::next(wall_ms, Some(last), node), ..own.clone() };
        self.hold(raised.clone(), now);
        Fate::Raised(raised)
    }

    /// Begins to follow a stream, which is not forgotten as long.
    pub fn begin_follow(&mut self, key: &StreamKey, now: Instant) {
        self.known(key, now).followers += 1;
    }

    /// Ends to follow a stream. Returns whether nobody follows it now.
    pub fn end_follow(&mut self, key: &StreamKey) -> bool {
        let Some(known) = self.streams.get_mut(key) else { return true };
        known.followers = known.followers.saturating_sub(1);
        known.followers == 0
    }

    /// Returns whether somebody follows a stream, or it has a publisher at this node.
    pub fn is_used(&self, key: &StreamKey) -> bool {
        self.own.contains_key(key) || self.streams.get(key).is_some_and(|known| known.followers > 0)
    }

    /// Returns the streams of which this node is to be notified.
    pub fn used(&self) -> Vec<StreamKey> {
        let followed =
            self.streams.iter().filter(|(key, known)| known.followers > 0 && !self.own.contains_key(*key));
        followed.map(|(key, _)| key).chain(self.own.keys()).cloned().collect()
    }

    /// Returns the streams that are followed.
    pub fn followed(&self) -> Vec<StreamKey> {
        let followed = self.streams.iter().filter(|(_, known)| known.followers > 0);
        followed.map(|(key, _)| key.clone()).collect()
    }

    /// Number of publishers at this node, and of streams that are followed.
    pub fn counts(&self) -> (usize, usize) {
        (self.own.len(), self.streams.values().filter(|known| known.followers > 0).count())
    }

    fn known(&mut self, key: &StreamKey, now: Instant) -> &mut Known {
        if self.streams.len() >= MAX_STREAMS && !self.streams.contains_key(key) {
            self.forget_some();
        }
        let new = || Known { seen: None, answered: None, missing: None, used: now, followers: 0 };
        let known = self.streams.entry(key.clone()).or_insert_with(new);
        known.used = now;
        known
    }

    /// Forgets that half of the streams which was not used for longest, but none that is in use.
    fn forget_some(&mut self) {
        let idle = |(key, known): &(&StreamKey, &Known)| known.followers == 0 && !self.own.contains_key(*key);
        let mut times: Vec<_> = self.streams.iter().filter(idle).map(|(_, known)| known.used).collect();
        if times.is_empty() {
            return;
        }
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let (median, own) = (*median, &self.own);
        self.streams.retain(|key, known| known.followers > 0 || own.contains_key(key) || known.used > median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> StreamKey {
        StreamKey::new("v", "live", "x")
    }

    fn entry(ms: u64, node: &str, state: State) -> StreamEntry {
        let id = FenceId { ms, node: node.to_owned() };
        StreamEntry { key: key(), id, pull_url: format!("rtmp://{node}"), publisher: String::new(), state }
    }

    #[test]
    fn what_was_seen_outlives_a_directory_that_lost_it() {
        let (mut book, now) = (Book::default(), Instant::now());
        assert_eq!(book.answer(&key(), None, now), Offered::default());
        let b = entry(7, "b", State::Live);
        assert_eq!(book.answer(&key(), Some(b.clone()), now), Offered { has_moved: true, present: None });
        let lost = Offered { has_moved: false, present: Some(b.clone()) };
        assert_eq!(book.answer(&key(), None, now), Offered::default(), "its owner may bring it back");
        assert_eq!(book.answer(&key(), None, now + MISSING), lost);
        assert_eq!(book.answer(&key(), Some(entry(6, "c", State::Live)), now), lost);
        assert_eq!(book.seen(&key()), Some(&b));
        let ended = entry(7, "b", State::Ended);
        assert_eq!(book.offer(ended.clone(), now), Offered::default());
        assert_eq!(book.answer(&key(), Some(entry(6, "c", State::Live)), now).present, Some(ended));
        assert_eq!(book.draft(&key(), "a", "u", "p", 3).id, FenceId { ms: 8, node: "a".to_owned() });
    }

    #[test]
    fn a_publisher_loses_is_raised_or_stays() {
        let (mut book, now) = (Book::default(), Instant::now());
        let own = book.draft(&key(), "b", "rtmp://b", "", 10);
        book.hold(own.clone(), now);
        assert_eq!(book.contest(entry(9, "c", State::Live), false, "b", 11, now), Fate::Stays);
        let Fate::Raised(raised) = book.contest(entry(19, "c", State::Live), true, "b", 11, now) else {
            panic!()
        };
        assert_eq!(raised.id.ms, 20, "the other publisher has not renewed its lease");
        let Fate::Raised(raised) = book.contest(entry(20, "c", State::Ended), false, "b", 11, now) else {
            panic!()
        };
        assert_eq!(raised.id, FenceId { ms: 21, node: "b".to_owned() });
        assert_eq!((book.own(&key()), book.seen(&key())), (Some(&raised), Some(&raised)));
        assert_eq!(book.contest(entry(22, "c", State::Live), false, "b", 11, now), Fate::Lost);
        assert_eq!((book.own(&key()), book.seen(&key()).map(StreamEntry::node)), (None, Some("c")));
        book.end(&key(), now);
        assert!(book.take_ended().is_empty(), "who has lost the stream does not end it");
    }

    #[test]
    fn an_end_is_kept_until_it_is_told_or_there_is_a_new_publisher() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.hold(book.draft(&key(), "b", "rtmp://b", "", 10), now);
        book.end(&key(), now);
        let ended = book.take_ended();
        assert_eq!(ended, [entry(10, "b", State::Ended)]);
        book.keep_ended(ended.clone());
        assert_eq!(book.take_ended(), ended);
        book.hold(book.draft(&key(), "b", "rtmp://b", "", 10), now);
        assert_eq!(book.own(&key()).map(|own| own.id.ms), Some(11));
        book.keep_ended(ended);
        assert!(book.take_ended().is_empty());
    }

    #[test]
    fn streams_in_use_are_not_forgotten() {
        let (mut book, start) = (Book::default(), Instant::now());
        let name = |number: usize| StreamKey::new("v", "live", &number.to_string());
        book.begin_follow(&key(), start);
        book.answer(&key(), Some(entry(1, "a", State::Live)), start);
        for number in 0..MAX_STREAMS + 10 {
            book.answer(&name(number), None, start + Duration::from_millis(number as u64));
        }
        assert!(book.streams.len() <= MAX_STREAMS);
        assert!(book.seen(&key()).is_some());
        assert!(book.is_fresh(
            &name(MAX_STREAMS + 9),
            Duration::from_secs(100),
            start + Duration::from_secs(51)
        ));
        assert!(book.end_follow(&key()) && !book.is_used(&key()));
    }
}

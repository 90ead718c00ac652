//! Totals of each stream, for operators who want metrics of each.
//!
//! A stream is kept from its first publisher on, and [`KEPT`] longer than the last, so that its metrics show the end. The number
//! of time series is limited: streams that come while there are too many are counted together, until they end.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::Action;
use super::groups::Done;
use super::session::Session;

use crate::stream::StreamKey;

/// How long a stream is kept after its last publisher.
const KEPT: Duration = Duration::from_secs(600);

/// Number of series of a stream, and those that each format of it adds.
const STREAM_SERIES: usize = 5;
const FORMAT_SERIES: usize = 3;

/// The totals of a stream, or of those that are counted together.
#[derive(Clone, Debug)]
pub struct StreamTotals {
    /// The stream; `None` for those that are counted together.
    pub key: Option<StreamKey>,
    /// Number of publishers now.
    pub publishers: usize,
    /// When its last publisher left; `None` while there is one.
    pub left: Option<Instant>,
    /// Bytes that the publishers have sent.
    pub received: u64,
    /// Its formats.
    pub formats: BTreeMap<Box<str>, FormatTotals>,
}

/// The totals of one format of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct FormatTotals {
    /// Number of viewers or players now.
    pub viewers: usize,
    /// Totals of what viewers have got.
    pub done: Done,
}

/// The streams.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    /// Limit of the number of series; 0 keeps nothing.
    max_series: usize,
    series: usize,
    own: HashMap<StreamKey, StreamTotals>,
    /// Streams that are counted together, with their numbers of publishers.
    others: HashMap<StreamKey, usize>,
    together: StreamTotals,
}

impl Default for Streams {
    fn default() -> Streams {
        let (own, others) = Default::default();
        Streams { max_series: 0, series: 0, own, others, together: StreamTotals::new(None) }
    }
}

impl StreamTotals {
    fn new(key: Option<StreamKey>) -> StreamTotals {
        StreamTotals { key, publishers: 0, left: None, received: 0, formats: BTreeMap::new() }
    }
}

impl Streams {
    /// Limits the number of series from now on; 0 keeps nothing. Streams that are live are kept once their next publisher comes.
    pub fn limit(&mut self, max_series: usize) {
        if max_series == 0 {
            *self = Streams::default();
        }
        self.max_series = max_series;
    }

    /// Adds a session that begins.
    pub fn begin(&mut self, session: &Session, now: Instant) {
        if self.max_series == 0 || session.action() != Action::Publish {
            return;
        }
        let key = session.key();
        if !self.own.contains_key(key) && !self.others.contains_key(key) {
            if self.series + STREAM_SERIES > self.max_series {
                self.forget(now);
            }
            if self.series + STREAM_SERIES <= self.max_series {
                self.series += STREAM_SERIES;
                self.own.insert(key.clone(), StreamTotals::new(Some(key.clone())));
            }
        }
        match self.own.get_mut(key) {
            Some(stream) => {
                stream.publishers += 1;
                stream.left = None;
            }
            None => *self.others.entry(key.clone()).or_default() += 1,
        }
    }

    /// Adds a session that ends.
    pub fn end(&mut self, session: &Session, now: Instant) {
        let key = session.key();
        if session.action() == Action::Play {
            if let Some(format) = self.format(session) {
                format.done.add(session);
            }
            return;
        }
        if let Some(stream) = self.own.get_mut(key) {
            stream.received += session.bytes();
            stream.publishers = stream.publishers.saturating_sub(1);
            stream.left = (stream.publishers == 0).then_some(now);
        } else if let Some(publishers) = self.others.get_mut(key) {
            self.together.received += session.bytes();
            *publishers -= 1;
            if *publishers == 0 {
                self.others.remove(key);
            }
        }
    }

    /// Returns what is known of all streams, with those of `running`. Those that are counted together come last, if there were
    /// any.
    pub fn with<'a>(
        &mut self,
        running: impl Iterator<Item = &'a Session>,
        now: Instant,
    ) -> Vec<StreamTotals> {
        self.forget(now);
        let mut running: Vec<_> = if self.max_series == 0 { Vec::new() } else { running.collect() };
        // Makes room for formats in one order.
        running.sort_by_key(|session| session.id());
        for session in running.iter().filter(|session| session.action() == Action::Play) {
            self.format(session);
        }
        let mut snapshot = self.clone();
        for session in running {
            match session.action() {
                Action::Play => {
                    if let Some(format) = snapshot.format(session) {
                        format.viewers += 1;
                        format.done.add(session);
                    }
                }
                Action::Publish => match snapshot.own.get_mut(session.key()) {
                    Some(stream) => stream.received += session.bytes(),
                    None if snapshot.others.contains_key(session.key()) => {
                        snapshot.together.received += session.bytes();
                    }
                    None => {}
                },
            }
        }
        snapshot.together.publishers = snapshot.others.values().sum();
        let Streams { own, together, .. } = snapshot;
        let mut streams: Vec<_> = own.into_values().collect();
        streams.sort_by_cached_key(|stream| stream.key.as_ref().map(ToString::to_string));
        let were_others = together.publishers > 0 || together.received > 0 || !together.formats.is_empty();
        streams.extend(were_others.then_some(together));
        streams
    }

    /// Returns the totals in which a viewer counts: those of its stream and format, if there is room for them when it is first
    /// asked about. `None` for a viewer that has got nothing.
    fn format(&mut self, viewer: &Session) -> Option<&mut FormatTotals> {
        if !viewer.is_served() {
            return None;
        }
        let format = &viewer.group().format;
        if let Some(stream) = self.own.get_mut(viewer.key()).filter(|_| !viewer.counts_together()) {
            let is_new = !stream.formats.contains_key(format);
            if !is_new || self.series + FORMAT_SERIES <= self.max_series {
                self.series += if is_new { FORMAT_SERIES } else { 0 };
                return Some(stream.formats.entry(format.clone()).or_default());
            }
        }
        // For good, so that no total becomes smaller.
        viewer.count_together();
        Some(self.together.formats.entry(format.clone()).or_default())
    }

    /// Forgets streams whose publishers left long ago.
    fn forget(&mut self, now: Instant) {
        self.own.retain(|_, stream| {
            let is_kept = stream.left.is_none_or(|left| now.saturating_duration_since(left) < KEPT);
            if !is_kept {
                self.series -= STREAM_SERIES + FORMAT_SERIES * stream.formats.len();
            }
            is_kept
        });
    }
}

#[cfg(test)]
mod tests;

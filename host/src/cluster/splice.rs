//! Splice: the units of a stream over a change of origin, without one twice or one missing where that is possible.
//!
//! An edge pulls a stream from an origin, and from another origin after a fault. [`Splice`] stands between the connections to
//! origins and the publisher of the edge's own stream. It knows no socket and no clock.
//!
//! A *unit* is a coded frame of audio or video, also one of another track of a multitrack stream. Sequence headers, metadata
//! and all other tags are no units: they are sent anew on each connection.
//!
//! # While an origin is followed
//!
//! Every tag is delivered. Of each unit a hash of kind and body and the timestamp are recorded, for the last two GOPs and at most
//! [`MAX_UNITS`](record::MAX_UNITS) units; of audio without video for the last [`MAX_AUDIO_UNITS`](record::MAX_AUDIO_UNITS).
//! The hash has a random key, so that a publisher cannot construct collisions.
//!
//! # After a switch: the match
//!
//! The units of the new connection are compared with the record ([`alignment`]). An alignment maps the first keyframe
//! of the connection to a unit of the record; or, for a connection that begins before the record does, a later unit to the
//! start of the record. From there on, all units must agree up to the end of the record. Units before the first keyframe may
//! differ, since some servers send audio at once and omit the video before a keyframe.
//!
//! Delivery resumes after the last unit of the record if one alignment, and no other, remains there, and if it has at least
//! three consecutive units with a keyframe. Without video, each audio frame counts as a keyframe. While another alignment may
//! still differ, the splice waits for it. Two alignments at the end of the record mean that the content repeats itself (black
//! frames, silence), and so does one of fewer than three units: it is as likely as a longer one that agrees with it. Such a switch
//! ends in a restart.
//!
//! An origin that lags is matched too: its units are dropped until after the last one delivered. Timestamps get the offset
//! between the two bases, modulo 2^32. If a sequence header differs from the one in force, there is no match. Equal sequence
//! headers and equal metadata are not delivered again; metadata that differ are, since they may describe what follows.
//!
//! With equal payloads, the following is guaranteed. The true alignment is never discarded for another one, so if the
//! connection begins within the record, delivery resumes at the right unit or restarts. If it begins after the end of the record,
//! or before its start, and if there the stream has the same sequence of payloads as the tail of the record, no hash can
//! tell the two apart, and timestamps of another base cannot either: delivery then resumes after the equal sequence. In
//! all cases the units that are delivered are consecutive units of the connection, in its order.
//!
//! # After a switch: the restart
//!
//! Without a match, the stream begins anew as at a republish: at the first keyframe that is newer than the switch, after the
//! newest sequence headers and metadata. Most origins start with a GOP cache, so the first keyframe of a connection is usually
//! older; an origin without a cache sends nothing but live content. [`pace`] tells the two apart: units of a cache arrive
//! faster than their timestamps advance. The lead that they gain is the age of the keyframe on arrival, and so tells when it was
//! published: one that a cache holds is new if it was published after the switch, while the edge was connecting. The age is
//! known when units have kept the pace of the clock for [`STEADY`](pace::STEADY). The first keyframe of an origin without a
//! cache is delayed by that much, and no later one. If no video comes for [`VIDEO_WAIT`](search::VIDEO_WAIT), audio begins
//! without it.
//!
//! # Bounds
//!
//! Tags are held from the first keyframe on that may be newer than the switch, and from the end of a match that is not certain
//! yet: at most [`MAX_HELD_BYTES`](held::MAX_HELD_BYTES) and [`MAX_HELD_TAGS`](held::MAX_HELD_TAGS). Beyond that, or
//! [`MAX_SEARCH`](search::MAX_SEARCH) after the first unit, no match is awaited any more.

mod alignment;
mod content;
mod held;
mod pace;
mod record;
mod search;

use self::record::Record;
use self::search::{Decision, Search};
use crate::media::{Millis, Tag};

/// The join between the origins of one stream.
#[derive(Debug)]
pub struct Splice {
    record: Record,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Tags are delivered with this offset to their timestamps.
    Following { offset: u32 },
    /// Another origin is pulled, and it is not decided yet how it continues the stream.
    Searching(Box<Search>),
}

/// Tags for the caller to deliver.
#[derive(Debug)]
pub enum Delivery {
    /// Nothing: a tag is held, or was delivered from another origin before.
    Nothing,
    /// The next tag of the current publisher.
    Next(Tag),
    /// The next tags of the current publisher, after a match; there may be none yet.
    Resumed(Vec<Tag>),
    /// The first tags of another publisher: sequence headers and metadata, then units from a keyframe on.
    Restarted(Vec<Tag>),
}

impl Default for Splice {
    fn default() -> Splice {
        Splice { record: Record::default(), state: State::Following { offset: 0 } }
    }
}

impl Splice {
    /// Turns to another origin: all tags from now on are its tags. `since` is when the last one was delivered, on the clock of
    /// [`push`](Self::push): what was published later is newer than the switch, also if the last origin was silent before.
    ///
    /// May be called again before the last switch has been decided. The tags of the origin in between are then discarded. A
    /// stream without a unit so far begins with the new origin's first tag.
    pub fn switch(&mut self, since: Millis) {
        self.state = if self.record.is_empty() {
            State::Following { offset: 0 }
        } else {
            State::Searching(Box::new(Search::new(since, &self.record)))
        };
    }

    /// Takes the next tag of the origin, with its raw 32-bit timestamp. `now` is its arrival on a monotonic clock.
    pub fn push(&mut self, tag: Tag, now: Millis) -> Delivery {
        match &mut self.state {
            State::Following { offset } => {
                let offset = *offset;
                Delivery::Next(self.deliver(tag, offset))
            }
            State::Searching(search) => {
                let decision = search.push(tag, now, &self.record);
                self.conclude(decision)
            }
        }
    }

    /// Returns the time at which [`elapse`](Self::elapse) is to be called if no tag comes before.
    pub fn deadline(&self) -> Option<Millis> {
        match &self.state {
            State::Following { .. } => None,
            State::Searching(search) => search.deadline(),
        }
    }

    /// Decides what the passing of time alone decides.
    pub fn elapse(&mut self, now: Millis) -> Delivery {
        match &mut self.state {
            State::Following { .. } => Delivery::Nothing,
            State::Searching(search) => {
                let decision = search.elapse(now, &self.record);
                self.conclude(decision)
            }
        }
    }

    fn conclude(&mut self, decision: Decision) -> Delivery {
        match decision {
            Decision::Wait => Delivery::Nothing,
            Decision::Resume { offset, tags } => Delivery::Resumed(self.follow(offset, tags)),
            Decision::Restart { tags } => {
                self.record.clear();
                Delivery::Restarted(self.follow(0, tags))
            }
        }
    }

    fn follow(&mut self, offset: u32, tags: Vec<Tag>) -> Vec<Tag> {
        self.state = State::Following { offset };
        tags.into_iter().map(|tag| self.deliver(tag, offset)).collect()
    }

    fn deliver(&mut self, mut tag: Tag, offset: u32) -> Tag {
        tag.dts = Millis(i64::from((tag.dts.0 as u32).wrapping_add(offset)));
        self.record.add(&tag);
        tag
    }
}

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;

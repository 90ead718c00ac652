//! Positions: where a viewer is in a mount, or a player in a stream.

use std::sync::Arc;
use std::task::{Context, Poll};

use crate::media::Tag;
use crate::stream::{Reader, Span, ViewerPosition};

/// A position in a ring, of one viewer or of all that are level with it.
#[derive(Debug)]
pub(in crate::net) enum Position {
    /// In the blocks of a mount.
    Mount(ViewerPosition),
    /// In the tags of a stream.
    Stream(Reader<Tag>),
}

/// A part of a ring, which all readers at the same position share.
#[derive(Clone, Debug)]
pub(in crate::net) enum Part {
    Blocks(Arc<Span>),
    Tags(Arc<Vec<Tag>>),
}

impl Position {
    /// Returns what to send next; `None` when the ring has ended.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Part>> {
        match self {
            Position::Mount(position) => position.poll_next(cx).map(|span| span.map(Part::Blocks)),
            Position::Stream(reader) => reader.poll_read(cx).map(|tags| tags.map(Part::Tags)),
        }
    }

    /// Creates another position at the same place.
    pub(super) fn fork(&self) -> Position {
        match self {
            Position::Mount(position) => Position::Mount(position.fork()),
            Position::Stream(reader) => Position::Stream(reader.fork()),
        }
    }

    /// Whether both read the same next.
    pub(super) fn is_level(&self, other: &Position) -> bool {
        match (self, other) {
            (Position::Mount(position), Position::Mount(other)) => position.is_level(other),
            (Position::Stream(reader), Position::Stream(other)) => reader.is_level(other),
            _ => false,
        }
    }

    /// The address of its ring, which no other ring has as long as this position lives.
    pub(super) fn ring_address(&self) -> usize {
        match self {
            Position::Mount(position) => Arc::as_ptr(position.mount().blocks()).addr(),
            Position::Stream(reader) => reader.ring_address(),
        }
    }

    /// Number of times that it fell behind and moved to a newer keyframe.
    pub(super) fn skipped(&self) -> u64 {
        match self {
            Position::Mount(position) => position.skipped(),
            Position::Stream(reader) => reader.skipped(),
        }
    }

    /// How far the last media were behind the newest, in milliseconds.
    pub(super) fn lag(&self) -> i64 {
        match self {
            Position::Mount(position) => position.lag().0,
            Position::Stream(reader) => reader.lag().0,
        }
    }

    /// Counts viewers that fell behind here and moved to a newer keyframe.
    pub(super) fn count_skips(&self, count: u64) {
        if let Position::Mount(position) = self {
            position.count_skips(count);
        }
    }
}

impl Part {
    /// Whether both are one part.
    pub(super) fn is_same(&self, other: &Part) -> bool {
        match (self, other) {
            (Part::Blocks(span), Part::Blocks(other)) => Arc::ptr_eq(span, other),
            (Part::Tags(tags), Part::Tags(other)) => Arc::ptr_eq(tags, other),
            _ => false,
        }
    }
}

//! Carriage: whether a format can carry a stream, judged for a viewer that waits.
//!
//! The judgement uses the fold over tags of [`Codecs`], and every tag since the newest join point.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::ring::{JoinAt, Pace, Reader, Ring};
use super::source::Source;
use super::tracks::{Codecs, TRACK_WAIT};
use crate::media::{Packet, Tag};
use crate::module::Module;

/// Judges whether a format can carry a stream, by all tags from the newest join point on. The newest codecs alone would
/// not do: the reader may be polled late, when the stream has changed to other codecs.
#[derive(Debug)]
pub struct CarriageReader {
    source: Arc<Source>,
    /// Readers of all tags, and of the audio alone, from which audio-only formats are made.
    readers: [Reader<Tag>; 2],
}

/// Whether a format can carry a stream, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carriage {
    /// The stream has no join point yet.
    Unknown,
    /// It carries none of these tracks, but a second track may still come.
    Undecided(Codecs),
    /// It carries none of the stream's tracks.
    Refused(Codecs),
    /// It carries a track.
    Carried,
    /// The stream ended without a track that it carries.
    Ended,
}

impl CarriageReader {
    pub(super) fn new(source: Arc<Source>) -> CarriageReader {
        let reader = |ring: &Arc<Ring<Tag>>| ring.reader(JoinAt::Newest, Pace::Each);
        CarriageReader { readers: [source.tags(), source.audio()].map(reader), source }
    }

    /// Judges for `module` by the tags so far. Unless it is decided, the task is woken by the next tag.
    pub fn judge(&mut self, module: &Module, cx: &mut Context<'_>) -> Carriage {
        // Read before the tags, which then include all that led to these codecs.
        let (codecs, age) = (self.source.codecs(), self.source.age());
        let has_join = [self.source.tags(), self.source.audio()].iter().any(|ring| ring.has_join());
        let known = has_join && codecs != Codecs::default();
        if known && codecs.are_carried_by(module) {
            return Carriage::Carried;
        }
        match self.poll_carried(module, cx) {
            Poll::Ready(true) => Carriage::Carried,
            Poll::Ready(false) if known => Carriage::Refused(codecs),
            Poll::Ready(false) => Carriage::Ended,
            Poll::Pending if !known => Carriage::Unknown,
            Poll::Pending if codecs.are_complete() || age >= TRACK_WAIT => Carriage::Refused(codecs),
            Poll::Pending => Carriage::Undecided(codecs),
        }
    }

    /// Reads what has come. Returns true at a frame of a codec that `module` carries, false at the end of the stream.
    fn poll_carried(&mut self, module: &Module, cx: &mut Context<'_>) -> Poll<bool> {
        // A configuration is no proof: one that is in force may be of the previous codec.
        let carried = |tag: &Tag| {
            let header = tag.header;
            header.packet == Packet::CODED_FRAME && module.carries(header.codec, header.codec)
        };
        let mut ended = false;
        let is_read = [!module.is_audio_only(), module.is_audio_only()];
        for (reader, is_read) in self.readers.iter_mut().zip(is_read) {
            while let Poll::Ready(tags) = reader.poll_read(cx) {
                match tags {
                    Some(tags) if is_read && tags.iter().any(carried) => return Poll::Ready(true),
                    Some(_) => {}
                    None => {
                        ended = true;
                        break;
                    }
                }
            }
        }
        if ended { Poll::Ready(false) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests;

//! The steps of a sequence, and the format whose output tells what happened.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use remuxd_plugin_api::{
    Block, Format, FormatInfo, RemuxError, Remuxer as Author, Setup, Sink, Tag as AuthorTag, Transport,
};

use super::model::MAX_FAULTS;
use crate::media::{Codec, Millis, Packet};
use crate::module::{BlockFlags, Module, Terms, linked};

/// The quality of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Good,
    /// Panics at some frames.
    Fragile,
    /// Panics when it makes a remuxer.
    Broken,
}

/// The media of a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Letter {
    Config(u8),
    Key,
    Inter,
    /// A frame at which every generation panics.
    Bad,
    /// A frame at which fragile generations panic, and a keyframe like that.
    Odd,
    OddKey,
}

/// A step of a sequence. Streams, viewers and generations are counted modulo those that there are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Publish(usize),
    /// The publisher leaves.
    Unpublish(usize),
    /// The stream ends, if its publisher has left.
    Expire(usize),
    Send(usize, Letter),
    View(usize),
    Leave(usize),
    /// A viewer stops reading, or continues.
    Stall(usize),
    Reload(Kind, bool),
    /// The newest generation is switched off.
    RollBack,
    /// The mounts of a stream end as if idle.
    Idle(usize),
}

impl Kind {
    pub(super) const fn letter(self) -> char {
        match self {
            Kind::Good => 'G',
            Kind::Fragile => 'F',
            Kind::Broken => 'X',
        }
    }
}

impl Letter {
    pub(super) fn is_key(self) -> bool {
        matches!(self, Letter::Key | Letter::OddKey)
    }

    pub(super) fn breaks(self, kind: Kind) -> bool {
        match self {
            Letter::Bad => true,
            Letter::Odd | Letter::OddKey => kind == Kind::Fragile,
            Letter::Config(_) | Letter::Key | Letter::Inter => false,
        }
    }

    pub(super) fn text(self) -> char {
        match self {
            Letter::Config(number) => char::from(b'0' + number),
            Letter::Key => 'K',
            Letter::Inter => 'i',
            Letter::Bad => 'b',
            Letter::Odd => 'o',
            Letter::OddKey => 'O',
        }
    }

    pub(super) fn body(self) -> Bytes {
        let start: &[u8] = match self {
            Letter::Config(_) => b"\x17\0\0\0\0",
            _ if self.is_key() => b"\x17\x01\0\0\0",
            _ => b"\x27\x01\0\0\0",
        };
        Bytes::from([start, &[self.text() as u8]].concat())
    }
}

/// A format of text: `h` and the configuration; the generation's letter, a count that goes on with the state, and the frame;
/// `$` in the end.
struct Text<const N: char>;

struct TextRemuxer<const N: char> {
    count: u8,
    dts: Millis,
}

impl<const N: char> Format for Text<N> {
    type Remuxer = TextRemuxer<N>;

    fn info() -> FormatInfo {
        FormatInfo {
            name: "text",
            version: "1",
            extensions: &["text"],
            transport: Transport::HTTP,
            content_type: "text/plain",
            video_codecs: &[Codec::H264],
            audio_codecs: &[],
            options: &[],
        }
    }

    fn remuxer(setup: &Setup) -> Result<TextRemuxer<N>, RemuxError> {
        match N {
            'X' => Err(RemuxError::Other("as the model says".to_owned())),
            _ => Ok(TextRemuxer { count: setup.state.first().copied().unwrap_or(0), dts: Millis(0) }),
        }
    }
}

impl<const N: char> Author for TextRemuxer<N> {
    fn tag(&mut self, tag: &AuthorTag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let last = char::from(tag.payload[tag.payload.len() - 1]);
        let (flags, text) = match (tag.packet, last) {
            (Packet::SEQUENCE_HEADER, _) => (BlockFlags::CONFIG, format!("h{last} ")),
            (_, 'b') => return Err(RemuxError::Other("as the model says".to_owned())),
            (_, 'o' | 'O') if N == 'F' => return Err(RemuxError::Other("as the model says".to_owned())),
            _ => {
                let text = format!("{N}{}{last} ", self.count);
                (self.count, self.dts) = (self.count + 1, tag.dts);
                (if tag.keyframe { BlockFlags::JOIN } else { BlockFlags::NONE }, text)
            }
        };
        Ok(sink.block(Block { flags, parts: vec![text.into_bytes().into()], dts: tag.dts, track: 0 })?)
    }

    fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        Ok(sink.block(Block { parts: vec![b"$".to_vec().into()], dts: self.dts, ..Block::default() })?)
    }

    fn state(&mut self) -> Vec<u8> {
        vec![self.count]
    }
}

pub(super) fn load(kind: Kind, number: usize) -> Arc<Module> {
    let generation = number as u64 + 1;
    let terms = Terms { generation, max_output: 1 << 16, max_faults: MAX_FAULTS as u32, unload: false };
    match kind {
        Kind::Good => linked::<Text<'G'>>(&terms).unwrap(),
        Kind::Fragile => linked::<Text<'F'>>(&terms).unwrap(),
        Kind::Broken => linked::<Text<'X'>>(&terms).unwrap(),
    }
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let at = || 0..2_usize;
    let letter = prop_oneof![
        6 => Just(Letter::Key),
        8 => Just(Letter::Inter),
        2 => (0..3_u8).prop_map(Letter::Config),
        1 => Just(Letter::Bad),
        1 => Just(Letter::Odd),
        1 => Just(Letter::OddKey),
    ];
    let kind = prop_oneof![4 => Just(Kind::Good), 3 => Just(Kind::Fragile), 2 => Just(Kind::Broken)];
    prop_oneof![
        4 => at().prop_map(Step::Publish),
        1 => at().prop_map(Step::Unpublish),
        1 => at().prop_map(Step::Expire),
        24 => (at(), letter).prop_map(|(at, letter)| Step::Send(at, letter)),
        5 => at().prop_map(Step::View),
        1 => (0..8_usize).prop_map(Step::Leave),
        2 => (0..8_usize).prop_map(Step::Stall),
        3 => (kind, any::<bool>()).prop_map(|(kind, drain)| Step::Reload(kind, drain)),
        1 => Just(Step::RollBack),
        1 => at().prop_map(Step::Idle),
    ]
}

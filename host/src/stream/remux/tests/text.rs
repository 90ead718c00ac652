//! A format of text, whose remuxers go wrong as a test wants.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use remuxd_plugin_api::{
    Block, Format, FormatInfo, OptionKind, OptionSpec, RemuxError, Remuxer as Author, Setup, Sink,
    Tag as AuthorTag, Transport,
};

use crate::media::{Codec, Millis, Packet};
use crate::module::BlockFlags;

/// Between two looks at a fact. A loop that spins would take the CPU from the calls that it waits for.
pub(super) const POLL: Duration = Duration::from_millis(1);

pub(super) static RELEASED: AtomicBool = AtomicBool::new(false);
pub(super) static START_RELEASED: AtomicBool = AtomicBool::new(false);
/// A remuxer has got the frame w, and waits.
pub(super) static WAITING: AtomicBool = AtomicBool::new(false);
pub(super) static WAIT_RELEASED: AtomicBool = AtomicBool::new(false);

/// Generation `N` of a format of text. It writes `h` and the last byte of a configuration; `N`, a count that goes on with
/// the state, and the last byte of a frame; and `$` in the end. The keyframe P has a preamble, `^`, and a discontinuity is `~`.
/// With the option `head` it begins with that preamble. C has another configuration, X cannot be made, U carries nothing, the frame u cannot be carried, the frames p, z and f go
/// wrong, and s, S and w hang until they are released.
pub(super) struct Text<const N: char>;

pub(super) struct TextRemuxer<const N: char> {
    /// The preamble that it has not written yet.
    head: String,
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
            options: &[OptionSpec {
                name: "head",
                kind: OptionKind::Text,
                default: "",
                doc: "A preamble.",
                variant: false,
            }],
        }
    }

    fn remuxer(setup: &Setup) -> Result<TextRemuxer<N>, RemuxError> {
        if N == 'X' {
            panic!("expected in this test");
        }
        if N == 'U' {
            return Err(RemuxError::Unsupported(Codec::H264));
        }
        let head = setup.options.text("head").to_owned();
        Ok(TextRemuxer { head, count: setup.state.first().copied().unwrap_or(b'0'), dts: Millis(0) })
    }
}

impl<const N: char> Author for TextRemuxer<N> {
    fn tag(&mut self, tag: &AuthorTag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let last = tag.payload.slice(tag.payload.len() - 1..);
        if !self.head.is_empty() {
            let parts = vec![std::mem::take(&mut self.head).into_bytes().into()];
            sink.block(Block { flags: BlockFlags::PREAMBLE, parts, dts: tag.dts, track: 0 })?;
        }
        let (flags, dts) = match (tag.packet, &*last) {
            (Packet::SEQUENCE_HEADER, _) => {
                let title = if N == 'C' { b"H" } else { b"h" };
                let parts = vec![title.to_vec().into(), last];
                return Ok(sink.block(Block { flags: BlockFlags::CONFIG, parts, dts: tag.dts, track: 0 })?);
            }
            (_, b"p") => panic!("expected in this test"),
            (_, b"u") => return Err(RemuxError::Unsupported(tag.codec)),
            (_, b"z") => (BlockFlags::NONE, Millis(tag.dts.0 - 12_000)),
            (_, b"f") => (BlockFlags::NONE, Millis(i64::MAX)),
            (_, b"s") => {
                wait_for(&RELEASED);
                (BlockFlags::NONE, tag.dts)
            }
            (_, b"w") => {
                WAITING.store(true, Ordering::Release);
                wait_for(&WAIT_RELEASED);
                (BlockFlags::NONE, tag.dts)
            }
            (_, b"S") => {
                wait_for(&START_RELEASED);
                (BlockFlags::JOIN, tag.dts)
            }
            _ if tag.keyframe => (BlockFlags::JOIN, tag.dts),
            _ => (BlockFlags::NONE, tag.dts),
        };
        if *last == *b"P" {
            let parts = vec![b"^".to_vec().into()];
            sink.block(Block { flags: BlockFlags::PREAMBLE, parts, dts, track: 0 })?;
        }
        self.dts = tag.dts;
        let mark = if tag.discontinuity { b"~".to_vec() } else { Vec::new() };
        let parts = vec![mark.into(), vec![N as u8, self.count].into(), last];
        self.count += 1;
        Ok(sink.block(Block { flags, parts, dts, track: 0 })?)
    }

    fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let parts = vec![b"$".to_vec().into()];
        Ok(sink.block(Block { parts, dts: self.dts, ..Block::default() })?)
    }

    fn state(&mut self) -> Vec<u8> {
        vec![self.count]
    }
}

fn wait_for(released: &AtomicBool) {
    while !released.load(Ordering::Acquire) {
        thread::sleep(POLL);
    }
}

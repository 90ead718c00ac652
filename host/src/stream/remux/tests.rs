use std::sync::Mutex as StdMutex;
use std::thread;

use bytes::Bytes;
use remuxd_plugin_api::{
    Block, Format, FormatInfo, RemuxError, Remuxer as Author, SharedBytes, Sink, Tag as AuthorTag, Transport,
};

use super::super::{Hub, Publisher, Span, StreamKey, Viewer};
use super::*;
use crate::conf::Config;
use crate::plugin::{Pool, Setup, Terms, linked};

const DEADLINE: Duration = Duration::from_secs(10);
const TERMS: Terms = Terms { generation: 0, max_output: 1 << 16, max_faults: 2, unload: false };

/// Generation `N` of a format of text: `h` and the header of a configuration, then `N`, a count that goes on with the
/// state, and the last byte of each frame. What a frame's last byte says may go wrong.
struct Text<const N: char>;

struct TextRemuxer<const N: char> {
    count: u8,
    header: Option<SharedBytes>,
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
        if N == 'X' {
            panic!("expected in this test");
        }
        Ok(TextRemuxer { count: setup.state.first().copied().unwrap_or(b'0'), header: None })
    }
}

impl<const N: char> Author for TextRemuxer<N> {
    fn tag(&mut self, tag: &AuthorTag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let last = tag.payload.slice(tag.payload.len() - 1..);
        let (flags, dts) = match (tag.packet, &*last) {
            (Packet::SEQUENCE_HEADER, _) => {
                self.header = Some(last.clone());
                let parts = vec![b"h".to_vec().into(), last];
                return Ok(sink.block(Block { flags: BlockFlags::CONFIG, parts, dts: tag.dts, track: 0 })?);
            }
            (_, b"p") => panic!("expected in this test"),
            (_, b"z") => (BlockFlags::NONE, Millis(0)),
            (_, b"f") => (BlockFlags::NONE, Millis(i64::MAX)),
            (_, b"s") => {
                wait_for_release();
                (BlockFlags::NONE, tag.dts)
            }
            _ if tag.keyframe => (BlockFlags::JOIN, tag.dts),
            _ => (BlockFlags::NONE, tag.dts),
        };
        let parts = vec![vec![N as u8, self.count].into(), last];
        self.count += 1;
        Ok(sink.block(Block { flags, parts, dts, track: 0 })?)
    }

    fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        Ok(sink.block(Block { parts: vec![b"$".to_vec().into()], ..Block::default() }).or(Ok(()))?)
    }

    fn state(&mut self) -> Vec<u8> {
        vec![self.count]
    }
}

static RELEASED: StdMutex<bool> = StdMutex::new(false);

fn wait_for_release() {
    while !*RELEASED.lock().unwrap() {
        thread::sleep(Duration::from_millis(1));
    }
}

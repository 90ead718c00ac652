//! H.264 as a byte stream, with a flaw that the conformance kit must find: the one that the option `flaw` names.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::thread::sleep;
use std::time::Duration;

use remuxd_plugin_api::{
    export_format, Block, BlockFlags, Codec, Format, FormatInfo, Millis, OptionKind, OptionSpec, Packet,
    RemuxError, Remuxer, Setup, SharedBytes, Sink, Tag, Transport,
};

export_format!(Flawed);

/// The default flaw. Tests overwrite it in the built library, padded to the same length.
const DEFAULT: &str = "no flaw unless it is told ";

struct Flawed;

impl Format for Flawed {
    type Remuxer = FlawedRemuxer;

    fn info() -> FormatInfo {
        FormatInfo {
            name: "flawed",
            version: env!("CARGO_PKG_VERSION"),
            extensions: &["flawed"],
            transport: Transport::HTTP,
            content_type: "video/h264",
            video_codecs: &[Codec::H264],
            audio_codecs: &[],
            options: &[OptionSpec {
                name: "flaw",
                // Any text, so that the kit cannot guess the flaws when it tries the values.
                kind: OptionKind::Text,
                default: DEFAULT,
                doc: "The flaw to have.",
                variant: false,
            }],
        }
    }

    fn remuxer(setup: &Setup) -> Result<FlawedRemuxer, RemuxError> {
        let flaw = setup.options.text("flaw").trim_end().to_owned();
        match setup.state.as_slice() {
            [] | [1] => {}
            _ if flaw == "reads any state" => panic!("what is that state?"),
            _ => {}
        }
        NEWEST.store(0, SeqCst);
        Ok(FlawedRemuxer { flaw, ready: false, tags: 0, kept: Vec::new(), finished: false })
    }
}

/// State that remuxers of the flaw "shares state" share.
static NEWEST: AtomicI64 = AtomicI64::new(0);
static MADE: AtomicI64 = AtomicI64::new(0);
static SLEPT: AtomicBool = AtomicBool::new(false);

struct FlawedRemuxer {
    flaw: String,
    ready: bool,
    tags: i64,
    kept: Vec<Vec<u8>>,
    finished: bool,
}

impl FlawedRemuxer {
    fn has(&self, flaw: &str) -> bool {
        self.flaw == flaw
    }
}

impl Remuxer for FlawedRemuxer {
    fn tag(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        self.tags += 1;
        if self.has("aborts") && tag.payload.is_empty() {
            std::process::abort();
        }
        if self.has("panics") && self.tags > 4 && tag.payload.is_empty() {
            panic!("an empty payload");
        }
        if self.has("fails at unknown codecs")
            && tag.codec != Codec::H264
            && tag.packet == Packet::CODED_FRAME
        {
            return Err(RemuxError::Unsupported(tag.codec));
        }
        if self.has("takes long") && tag.payload.len() > 1 << 20 && !SLEPT.swap(true, SeqCst) {
            sleep(Duration::from_millis(1100));
        }
        if self.has("leaks") {
            self.kept.push(vec![0; 40]);
        }
        if tag.codec != Codec::H264 {
            return Ok(());
        }
        match tag.packet {
            Packet::SEQUENCE_HEADER => {
                let Some(mut parts) = parameter_sets(&tag.data()) else { return Ok(()) };
                self.ready = true;
                let flags = if self.has("forgets joiners") { BlockFlags::NONE } else { BlockFlags::CONFIG };
                if self.has("is not the same twice") {
                    parts.push(MADE.fetch_add(1, SeqCst).to_be_bytes().to_vec().into());
                }
                sink.block(Block { flags, dts: tag.dts, parts, ..Block::default() })?;
            }
            Packet::CODED_FRAME if self.ready => self.picture(tag, sink)?,
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut dyn Sink) -> Result<(), RemuxError> {
        self.finished = true;
        Ok(())
    }

    fn state(&mut self) -> Vec<u8> {
        if self.has("leaves too much") {
            return vec![0; 100_000];
        }
        vec![1]
    }
}

impl FlawedRemuxer {
    fn picture(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        let Some(mut parts) = units(&tag.data()) else { return Ok(()) };
        let dts = if self.has("counts at 90 kHz") { Millis(tag.dts.0 * 90) } else { tag.dts };
        if self.has("shares state") {
            let before = NEWEST.swap(tag.dts.0, SeqCst);
            parts.push(before.to_be_bytes().to_vec().into());
        }
        let flags = match tag.keyframe {
            _ if self.has("joins nowhere") => BlockFlags::NONE,
            true if self.has("has two roles") => BlockFlags::JOIN.with(BlockFlags::CONFIG),
            true => BlockFlags::JOIN,
            false => BlockFlags::NONE,
        };
        if self.has("floods") && tag.keyframe {
            parts.push(vec![0; 64 << 20].into());
        }
        if self.has("drops at a handover") && tag.keyframe && tag.dts.0 > 0 && self.tags < 5 {
            return Ok(());
        }
        sink.block(Block { flags, dts, parts, ..Block::default() })?;
        if self.has("writes its header last") {
            sink.block(Block { flags: BlockFlags::PREAMBLE, dts, ..Block::default() })?;
        }
        Ok(())
    }
}

impl Drop for FlawedRemuxer {
    fn drop(&mut self) {
        if self.has("needs its finish") && !self.finished {
            panic!("dropped before finish");
        }
    }
}

const START_CODE: &[u8] = &[0, 0, 0, 1];

/// Returns the parameter sets of an AVCDecoderConfigurationRecord with one of each, as a byte stream.
fn parameter_sets(record: &SharedBytes) -> Option<Vec<SharedBytes>> {
    let number = |at: usize| Some(usize::from(*record.get(at)?) << 8 | usize::from(*record.get(at + 1)?));
    let sps = number(6)?;
    let pps = number(9 + sps)?;
    record.get(11 + sps..11 + sps + pps)?;
    let unit = |start, size| [SharedBytes::from_static(START_CODE), record.slice(start..start + size)];
    Some([unit(8, sps), unit(11 + sps, pps)].concat())
}

/// Replaces the lengths of 4 bytes by start codes.
fn units(data: &SharedBytes) -> Option<Vec<SharedBytes>> {
    let mut parts = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let size = u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?) as usize;
        data.get(at + 4..)?.get(..size)?;
        parts.push(SharedBytes::from_static(START_CODE));
        parts.push(data.slice(at + 4..at + 4 + size));
        at += 4 + size;
    }
    Some(parts)
}

//! H.264 as a byte stream, with a flaw that the conformance kit must find: the one that the option `flaw` names.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::thread::{self, sleep};
use std::time::{Duration, UNIX_EPOCH};

use remuxd_plugin_api::{
    export_format, Block, BlockFlags, Codec, Format, FormatInfo, Millis, OptionKind, OptionSpec, Packet,
    RemuxError, Remuxer, Setup, SharedBytes, Sink, Tag, Transport,
};

export_format!(Flawed);

/// The default flaw. Tests overwrite it in the built library, padded to the same length.
const DEFAULT: &str = "no flaw unless it is told ";

/// Bounds of the option `level`.
const LOWEST: i64 = -9;
const HIGHEST: i64 = 9;

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
            options: &[
                OptionSpec {
                    name: "flaw",
                    // Any text, so that the kit cannot guess the flaws when it tries the values.
                    kind: OptionKind::Text,
                    default: DEFAULT,
                    doc: "The flaw to have.",
                    variant: false,
                },
                OptionSpec {
                    name: "level",
                    kind: OptionKind::Integer { min: LOWEST, max: HIGHEST },
                    default: "0",
                    doc: "Where some flaws show.",
                    variant: false,
                },
            ],
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
        match flaw.as_str() {
            "keeps each remuxer" => std::mem::forget(vec![1; 10_000]),
            "leaves a thread" if STARTED.swap(true, SeqCst) => {}
            "leaves a thread" | "leaves threads" => {
                drop(thread::spawn(|| sleep(Duration::from_secs(600))));
            }
            _ => {}
        }
        Ok(FlawedRemuxer {
            flaw,
            level: setup.options.integer("level"),
            late: setup.stream.age_ms > 0 && setup.state.is_empty(),
            ready: false,
            tags: 0,
            pictures: 0,
            kept: Vec::new(),
            finished: false,
        })
    }
}

/// State that remuxers of the flaw "shares state" share.
static NEWEST: AtomicI64 = AtomicI64::new(0);
static MADE: AtomicI64 = AtomicI64::new(0);
static SLEPT: AtomicBool = AtomicBool::new(false);
static STARTED: AtomicBool = AtomicBool::new(false);

struct FlawedRemuxer {
    flaw: String,
    level: i64,
    /// It began in the middle of the stream, without a predecessor.
    late: bool,
    ready: bool,
    tags: i64,
    /// Pictures since the last keyframe, with it.
    pictures: i64,
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
        if self.has("leaks much") {
            self.kept.push(vec![1; 1 << 20]);
        }
        if self.has("takes 1200 MiB") {
            self.kept.push(vec![1; 1200 << 20]);
        }
        if self.has("panics at the minimum") && self.level == LOWEST && tag.payload.len() > 4 << 20 {
            panic!("too much");
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
                if self.has("shows the time of day") {
                    let now = UNIX_EPOCH.elapsed().unwrap_or_default();
                    parts.push(now.as_secs().to_be_bytes().to_vec().into());
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
        self.pictures = if tag.keyframe { 1 } else { self.pictures + 1 };
        let dts = match &*self.flaw {
            "counts at 90 kHz" => Millis(tag.dts.0 * 90),
            "goes back in time" if self.pictures == 3 && tag.dts.0 > 200 => Millis(tag.dts.0 - 41),
            _ => tag.dts,
        };
        if self.has("skips half a GOP") && self.late && self.pictures > HALF {
            self.late = self.pictures < 2 * HALF;
            return Ok(());
        }
        if self.has("shares state") {
            let before = NEWEST.swap(tag.dts.0, SeqCst);
            parts.push(before.to_be_bytes().to_vec().into());
        }
        let flags = match tag.keyframe {
            _ if self.has("joins nowhere") => BlockFlags::NONE,
            _ if self.has("joins nowhere at the maximum") && self.level == HIGHEST => BlockFlags::NONE,
            // A decoder that starts there drops the rest of the GOP and reports nothing.
            _ if self.has("joins after keyframes") && self.pictures == 2 => BlockFlags::JOIN,
            _ if self.has("joins after keyframes") => BlockFlags::NONE,
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

/// Pictures of half a GOP of the kit's streams.
const HALF: i64 = 3;

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

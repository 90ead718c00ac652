//! Streams whose tags lie, described by few bytes, and remuxers that are held to the limits of the host.
//!
//! A stream is two bytes for the remuxer, then tags. A tag is three bytes, then the pieces of its body:
//! - the beginning of its body, one of [`BEGINNINGS`];
//! - low half: the step of its time, one of [`STEPS`]; high half: log2 of the number of times that it is sent;
//! - two bits for the tracks that the host reports, one for a discontinuity, one for a successor that takes over before it, then
//!   the number of pieces.
//!
//! A piece is a length, log2 of the number of times that it is repeated, and bytes of that length. So a few bytes of input make a
//! sequence header of a megabyte, a picture of 500,000 NAL units, or a thousand tags that wait for the file header.

pub mod http_host;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use bytes::Bytes;
use remuxd::testing::media::{Millis, Packet, Tag, TagKind, Tracks};
use remuxd::testing::module::{
    BlockFlags, Module, ModuleFault, Options, OutBlock, Setup, StreamFacts, Terms, linked,
};
use remuxd_bitstream::flv::TagHeader;
use remuxd_plugin_api::{Codec, Format};

/// Beginnings of bodies. The rest of a kind is free.
const BEGINNINGS: &[(TagKind, &[u8])] = &[
    (TagKind::VIDEO, b""),
    (TagKind::AUDIO, b""),
    (TagKind::SCRIPT, b""),
    (TagKind::VIDEO, b"\x17\0\0\0\0\x01\x64\0\x1f"),
    (TagKind::VIDEO, b"\x17\0\0\0\0\x01\x42\0\x1f\xff\xe1\0\x02\x67a\x01\0\x02\x68b"),
    (TagKind::VIDEO, b"\x17\x01\0\0\x28"),
    (TagKind::VIDEO, b"\x27\x01\0\0\0\0\0\0\x02\x41x"),
    (TagKind::VIDEO, b"\x17\x01\0\0\0\0\0\0\x02\x65x"),
    (TagKind::VIDEO, b"\x1c\0\0\0\0\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\xff"),
    (TagKind::VIDEO, b"\x90hvc1"),
    (TagKind::VIDEO, b"\x93hvc1\0\0\0\x03\x26\x01x"),
    (TagKind::VIDEO, b"\x94hvc1"),
    (TagKind::VIDEO, b"\x90av01"),
    (TagKind::VIDEO, b"\x91av01x"),
    (TagKind::VIDEO, b"\x92avc1"),
    (TagKind::VIDEO, b"\x12x"),
    (TagKind::VIDEO, b"\x96\x10avc1\x00"),
    (TagKind::VIDEO, b"\x96\x21"),
    (TagKind::VIDEO, b"\x97"),
    (TagKind::AUDIO, b"\xaf\0\x12\x10"),
    (TagKind::AUDIO, b"\xaf\0"),
    (TagKind::AUDIO, b"\xaf\x01x"),
    (TagKind::AUDIO, b"\x2f\xff\xfb\x90\x64"),
    (TagKind::AUDIO, b"\x90OpusOpusHead\x01"),
    (TagKind::AUDIO, b"\x91Opusx"),
    (TagKind::AUDIO, b"\x94Opus\x01\x06"),
    (TagKind::AUDIO, b"\x95\x11mp4a"),
    (TagKind::SCRIPT, b"\x02\0\x0aonMetaData\x08\0\0\0\x01\0\x01c"),
    (TagKind::SCRIPT, b"\x02\0\x0aonMetaData\x08\0\0\0\x01\0\x08hasVideo\x01\x01\0\0\x09"),
    (TagKind::SCRIPT, b"\x02\0\x0aonCuePoint"),
];

/// Steps of time in milliseconds.
const STEPS: [i64; 16] =
    [0, 1, 10, 23, 40, 250, 1_000, 9_000, 29_000, 31_000, -1, -40, -1_000, -29_000, 1 << 32, -(1 << 50)];

/// The host's timeline does not reach further, in milliseconds.
const FARTHEST: i64 = 1 << 51;

/// Longest body, and most tags and bytes of an input, those that successors get again included: more than any limit of our modules,
/// and few enough for many inputs a second.
const MAX_BODY: usize = 1 << 20;
const MAX_TAGS: usize = 2_500;
const MAX_BYTES: usize = 2 << 20;

/// Output of an input after which the rest is not remuxed.
const MAX_WRITTEN: usize = 8 << 20;

/// Output of a call beside 16 times what it is made of: the default of `modules.max_output`, which is also the least.
const MAX_OUTPUT: usize = 1 << 20;

/// Work for one call: allocations, and bytes allocated beside 8 times those of the tags that the output may be made of.
const MAX_ALLOCATIONS: usize = 1 << 16;
const MAX_ALLOCATED: usize = 8 << 20;

/// The distance of a block from the tags that it can be made of which the host accepts, in milliseconds.
const SLACK: i64 = 10_000;

/// Counts allocations.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
/// Bytes that are allocated now, and the most since [`peak`] began.
static LIVE: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        let size = layout.size() as isize;
        PEAK.fetch_max(LIVE.fetch_add(size, Ordering::Relaxed) + size, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as above; `ptr` came from `alloc`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Returns the module of a format, as the host would load it.
pub fn module<F: Format>() -> Arc<Module> {
    let terms = Terms { generation: 1, max_output: MAX_OUTPUT, max_faults: 1, unload: false };
    linked::<F>(&terms).expect("our own modules are loaded")
}

/// A remuxer of a module, and what the host knows about it.
struct Remuxing<'a> {
    module: &'a Arc<Module>,
    setup: Setup,
    remuxer: Option<remuxd::testing::module::Remuxer>,
    configs: Vec<Tag>,
    /// Bytes of the tags that may not have led to output yet.
    held: usize,
    oldest: i64,
    newest: i64,
    /// Number and bytes of tags so far, and bytes of output.
    tags: usize,
    bytes: usize,
    written: usize,
}

/// Remuxes the stream that `data` describes. Everything that the host would count as a fault is a finding, and so is a call that
/// does more work than is allowed.
pub fn remux(module: &Arc<Module>, data: &[u8]) {
    let [wait, facts, rest @ ..] = data else { return };
    let mut rest = rest;
    let selected = facts >> 6;
    let options = [
        ("header_wait", (u32::from(*wait) * 40).to_string()),
        ("hevc", ["as_published", "legacy", "enhanced"][usize::from(facts >> 4 & 3) % 3].into()),
        ("color_info", "true".into()),
        ("multichannel_config", "true".into()),
        ("track", selected.to_string()),
    ];
    let options = options.map(|(name, value)| (name.into(), value));
    let video = [Codec::NONE, Codec::H264, Codec::HEVC, Codec::AV1][usize::from(facts & 3)];
    let audio = [Codec::NONE, Codec::AAC, Codec::MP3, Codec::OPUS][usize::from(facts >> 2 & 3)];
    let setup = Setup::new(Options::new(options.into()), StreamFacts::new(video, audio, u32::from(*wait)));
    let mut remuxing = Remuxing {
        module,
        setup,
        remuxer: None,
        configs: Vec::new(),
        held: 0,
        oldest: 0,
        newest: 0,
        tags: 0,
        bytes: 0,
        written: 0,
    };
    let mut dts = 0_i64;
    while let [beginning, step, flags, pieces @ ..] = rest {
        let (kind, start) = BEGINNINGS[usize::from(*beginning) % BEGINNINGS.len()];
        let mut body = start.to_vec();
        rest = pieces;
        for _ in 0..flags >> 4 & 3 {
            rest = read_piece(rest, &mut body, MAX_BODY);
        }
        let mut tag = Tag::new(kind, Millis(0), Bytes::from(body));
        // As the host describes the track that an option selects.
        let mut tracks = TagHeader::tracks(kind, &tag.payload);
        if let Some((_, header)) = tracks.find(|(track, _)| selected > 0 && *track == selected) {
            tag.header = header;
        }
        drop(tracks);
        tag.discontinuity = flags & 4 != 0;
        tag.tracks = match flags & 3 {
            0 => Tracks::UNKNOWN,
            tracks => Tracks::known(tracks & 1 != 0, tracks & 2 != 0),
        };
        for _ in 0..1 << (step >> 4).min(10) {
            dts = dts.saturating_add(STEPS[usize::from(step & 15)]).clamp(-FARTHEST, FARTHEST);
            tag.dts = Millis(dts);
            if !remuxing.feed(&tag, flags & 8 != 0) {
                return;
            }
        }
    }
    remuxing.end();
}

/// Appends a piece to `body`, which gets at most `most` bytes, and returns what follows it.
pub fn read_piece<'a>(input: &'a [u8], body: &mut Vec<u8>, most: usize) -> &'a [u8] {
    let [len, repeats, input @ ..] = input else { return &[] };
    let (piece, rest) = input.split_at(usize::from(*len).min(input.len()));
    let room = most.saturating_sub(body.len()) / piece.len().max(1);
    body.extend_from_slice(&piece.repeat((1_usize << (repeats % 24)).min(room)));
    rest
}

impl Remuxing<'_> {
    /// Feeds a tag, to a successor if that `succeeds`. Returns false if the format cannot carry the stream, or has written enough.
    fn feed(&mut self, tag: &Tag, succeeds: bool) -> bool {
        if succeeds && let Some(state) = self.end() {
            self.setup.state = state;
        }
        if self.remuxer.is_none() {
            self.remuxer = Some(self.module.remuxer(&self.setup).expect("each setup makes a remuxer"));
            (self.held, self.oldest, self.newest) = (0, tag.dts.0, tag.dts.0);
            for config in self.configs.clone() {
                if !self.call(&config) {
                    return false;
                }
            }
        }
        let packet = tag.header.packet;
        if matches!(packet, Packet::SEQUENCE_HEADER | Packet::METADATA) {
            self.configs.retain(|config| (config.kind, config.header.packet) != (tag.kind, packet));
            self.configs.push(tag.clone());
        }
        self.call(tag)
    }

    fn call(&mut self, tag: &Tag) -> bool {
        (self.tags, self.bytes) = (self.tags + 1, self.bytes + tag.payload.len());
        self.held += tag.payload.len();
        (self.oldest, self.newest) = (self.oldest.min(tag.dts.0), self.newest.max(tag.dts.0));
        let mut out = Vec::new();
        let remuxer = self.remuxer.as_mut().expect("made before");
        let made_of = self.held + self.configs.iter().map(|config| config.payload.len()).sum::<usize>();
        let result = measured(made_of, || remuxer.tag(tag, &mut out));
        self.check(&out);
        if !out.is_empty() {
            self.held /= 2;
        }
        if out.iter().any(is_media) {
            self.oldest = tag.dts.0;
        }
        match result {
            Ok(()) => {
                self.written += out.iter().flat_map(|block| &block.parts).map(Bytes::len).sum::<usize>();
                self.tags <= MAX_TAGS && self.bytes <= MAX_BYTES && self.written <= MAX_WRITTEN
            }
            Err(ModuleFault::Unsupported { .. }) => false,
            Err(fault) => panic!("{fault}"),
        }
    }

    /// Ends the remuxer, if there is one, and returns its state.
    fn end(&mut self) -> Option<Vec<u8>> {
        let mut remuxer = self.remuxer.take()?;
        let mut out = Vec::new();
        let made_of = self.held + self.configs.iter().map(|config| config.payload.len()).sum::<usize>();
        measured(made_of, || remuxer.finish(&mut out)).expect("no fault");
        self.check(&out);
        Some(remuxer.state().expect("a state"))
    }

    fn check(&self, out: &[OutBlock]) {
        let times = self.oldest - SLACK..=self.newest + SLACK;
        for block in out.iter().filter(|block| is_media(block)) {
            assert!(times.contains(&block.dts.0), "{} is not in {times:?}", block.dts.0);
        }
    }
}

fn is_media(block: &OutBlock) -> bool {
    !block.flags.contains(BlockFlags::PREAMBLE) && !block.flags.contains(BlockFlags::CONFIG)
}

/// Asserts that a call whose output is made of `bytes` bytes does not do too much work.
fn measured<T>(bytes: usize, call: impl FnOnce() -> T) -> T {
    let before = (ALLOCATIONS.load(Ordering::Relaxed), ALLOCATED.load(Ordering::Relaxed));
    let result = call();
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before.0;
    let allocated = ALLOCATED.load(Ordering::Relaxed) - before.1;
    assert!(allocations <= MAX_ALLOCATIONS, "{allocations} allocations");
    assert!(allocated <= MAX_ALLOCATED + 8 * bytes, "{allocated} bytes allocated for {bytes}");
    result
}

/// Returns the result of a call, and the most bytes that were allocated at a time during it, beside those before it.
pub fn peak<T>(call: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = call();
    (result, (PEAK.load(Ordering::Relaxed) - before).max(0) as usize)
}

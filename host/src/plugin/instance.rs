//! Instance: a remuxer of a module, called through the interface.
//!
//! The host lends each call a sink. It takes blocks up to a byte budget, then answers full, and aborts a module
//! that goes on. Bytes that the module made come out as [`Bytes`] that keep its library mapped; bytes that it got
//! with a tag come out as slices of the tag's own.
//!
//! After its first fault an instance is dead; what it made before is still good.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use abi_stable::std_types::RResult;
use bytes::Bytes;
use remuxd_plugin_api::abi::{
    FAULT_PANIC, FAULT_POISONED, ModuleRef, PUSH_ABORT, PUSH_FULL, PUSH_TAKEN, RawBlock, RawFault,
    RawRemuxer, RawSink, RawTag, TAG_DISCONTINUITY, TAG_KEYFRAME,
};
use remuxd_plugin_api::{BlockFlags, SharedBytes};
use smallvec::SmallVec;
use thiserror::Error;
use tracing::warn;

use super::loader::Library;
use super::one_line;
use crate::media::{Millis, Tag};

/// How many bytes of output a byte of a tag may cause, before `max_output` is touched.
const OUTPUT_RATIO: usize = 16;
/// What a format that holds back (a GOP, a fragment) may save up for the call that hands it out, in bytes of tags.
const MAX_HELD: usize = 64 << 20;
/// The largest state that a remuxer may leave to its successor, in bytes.
const MAX_STATE: usize = 64 << 10;
/// What a block and a part count for beside their bytes, so that empty ones are not free.
const BLOCK_COST: usize = 256;
const PART_COST: usize = 64;
/// How often a module is told that the sink is full before its call is ended.
const MAX_REFUSED: u32 = 16;
/// Tracks of configuration blocks.
const MAX_TRACKS: u8 = 8;
const ALL_FLAGS: u8 = BlockFlags::PREAMBLE.with(BlockFlags::CONFIG).with(BlockFlags::JOIN).0;

/// Why a remuxer ended. The culprit is the module, or the publisher's data through it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModuleFault {
    /// Its code panicked.
    #[error("panicked: {message}")]
    Panicked {
        /// The panic's message, in one line.
        message: String,
    },
    /// Its code answered an error.
    #[error("{message}")]
    Remux {
        /// The module's words, in one line.
        message: String,
    },
    /// It made more in one call than it may.
    #[error("more than {limit} bytes of output in one call")]
    Flooded {
        /// The budget of the call, in bytes.
        limit: usize,
    },
    /// It left more to its successor than it may.
    #[error("a state of {size} bytes, {limit} at most")]
    LargeState {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// It sent a block with flags that do not exist.
    #[error("a block with flags {flags:#04x}")]
    BadFlags {
        /// The flags.
        flags: u8,
    },
    /// It sent a block of a track that does not exist.
    #[error("a block of track {track}, the last is 7")]
    BadTrack {
        /// The track.
        track: u8,
    },
    /// It sent a block with a time that none of its tags can have given it.
    #[error("a block at {dts} ms, made of tags from {oldest} to {newest} ms")]
    BadTime {
        /// The block's time, in milliseconds of the stream's timeline.
        dts: i64,
        /// The oldest tag that may be in it.
        oldest: i64,
        /// The newest tag that it got.
        newest: i64,
    },
    /// An earlier call failed.
    #[error("called after a fault")]
    Poisoned,
    /// A call took longer than `modules.call_timeout`, and is still under way.
    #[error("a call has taken {elapsed:?} and has not come back")]
    Hung {
        /// How long it has taken so far.
        elapsed: std::time::Duration,
    },
}

impl From<RawFault> for ModuleFault {
    fn from(raw: RawFault) -> ModuleFault {
        let message = one_line(&raw.message);
        match raw.kind {
            FAULT_PANIC => ModuleFault::Panicked { message },
            FAULT_POISONED => ModuleFault::Poisoned,
            _ => ModuleFault::Remux { message },
        }
    }
}

/// A block as the host keeps it.
#[derive(Clone, Debug)]
pub struct OutBlock {
    /// The block's role for joiners.
    pub flags: BlockFlags,
    /// For a configuration: which one it replaces, 0 to 7.
    pub track: u8,
    /// Decoding time of the first access unit inside.
    pub dts: Millis,
    /// The bytes, in order; none is empty.
    pub parts: SmallVec<[Bytes; 4]>,
}

/// A remuxer for one (stream, mount, variant).
pub struct Instance {
    remuxer: RawRemuxer,
    table: ModuleRef,
    max_output: usize,
    /// Bytes of tags that it has not made output of yet.
    held: usize,
    dead: bool,
    name: Arc<str>,
    library: Arc<Library>,
}

// SAFETY: a remuxer may be called from any thread, one at a time; `&mut self` sees to that.
unsafe impl Send for Instance {}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remuxer of {}", self.name)
    }
}

impl Instance {
    pub(super) fn new(
        remuxer: RawRemuxer,
        table: ModuleRef,
        max_output: usize,
        name: &str,
        library: Arc<Library>,
    ) -> Instance {
        Instance { remuxer, table, max_output, held: 0, dead: false, name: name.into(), library }
    }

    /// Feeds one tag; the blocks that it made are appended to `out`, also with a fault.
    ///
    /// # Errors
    /// [`ModuleFault`]: the instance is dead.
    pub fn tag(&mut self, tag: &Tag, out: &mut Vec<OutBlock>) -> Result<(), ModuleFault> {
        self.held = self.held.saturating_add(tag.payload.len()).min(MAX_HELD);
        let (call, raw) = (self.table.tag(), raw_tag(tag));
        // SAFETY: the remuxer is alive and only ours, the sink lives for the call.
        self.call(out, |remuxer, sink| unsafe { call(remuxer, raw, sink) })
    }

    /// The stream ended, or goes over to a successor: what the remuxer still held is appended to `out`.
    ///
    /// # Errors
    /// As for [`tag`](Self::tag).
    pub fn finish(&mut self, out: &mut Vec<OutBlock>) -> Result<(), ModuleFault> {
        let call = self.table.finish();
        // SAFETY: as in `tag`.
        self.call(out, |remuxer, sink| unsafe { call(remuxer, sink) })
    }

    /// What a successor must know; empty when there is nothing, and from modules older than 1.1.
    ///
    /// # Errors
    /// As for [`tag`](Self::tag).
    pub fn state(&mut self) -> Result<Vec<u8>, ModuleFault> {
        let Some(call) = self.table.state() else { return Ok(Vec::new()) };
        if self.dead {
            return Err(ModuleFault::Poisoned);
        }
        self.dead = true;
        // SAFETY: as in `tag`.
        let state = unsafe { call(self.remuxer) }.into_result()?;
        if state.len() > MAX_STATE {
            return Err(ModuleFault::LargeState { size: state.len(), limit: MAX_STATE });
        }
        self.dead = false;
        // Copied: the module's allocation goes back to it.
        Ok(state.to_vec())
    }

    fn call(
        &mut self,
        out: &mut Vec<OutBlock>,
        call: impl FnOnce(RawRemuxer, RawSink) -> RResult<(), RawFault>,
    ) -> Result<(), ModuleFault> {
        if self.dead {
            return Err(ModuleFault::Poisoned);
        }
        self.dead = true;
        let library = &self.library;
        let limit = self.held.saturating_mul(OUTPUT_RATIO).saturating_add(self.max_output);
        let mut intake = Intake { out, library, limit, left: limit, refused: 0, fault: None, panic: None };
        let sink = RawSink { context: (&raw mut intake).cast(), push: on_push, reserved: [0; 2] };
        let answer = call(self.remuxer, sink).into_result();
        if let Some(payload) = intake.panic {
            resume_unwind(payload);
        }
        if intake.left < limit {
            self.held = 0;
        }
        match (intake.fault, answer) {
            (Some(fault), _) => Err(fault),
            (None, Err(raw)) => Err(raw.into()),
            (None, Ok(())) => {
                self.dead = false;
                Ok(())
            }
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: the remuxer is alive and only ours, and not used again; the library is dropped after this.
        if let Err(raw) = unsafe { self.table.free()(self.remuxer) }.into_result() {
            let fault = ModuleFault::from(raw);
            warn!(module = %self.name, %fault, "a remuxer failed when it was freed");
        }
    }
}

fn raw_tag(tag: &Tag) -> RawTag {
    let keyframe = if tag.header.keyframe { TAG_KEYFRAME } else { 0 };
    let discontinuity = if tag.discontinuity { TAG_DISCONTINUITY } else { 0 };
    RawTag {
        payload: tag.payload.clone().into(),
        dts: tag.dts.0,
        composition_offset: tag.header.composition_offset.0,
        codec: tag.header.codec.0,
        data_offset: tag.header.data_offset,
        data_len: tag.header.data_len,
        kind: tag.kind.0,
        packet: tag.header.packet.0,
        flags: keyframe | discontinuity,
        reserved_u8: 0,
        reserved: [0; 4],
    }
}

/// The sink of one call.
struct Intake<'a> {
    out: &'a mut Vec<OutBlock>,
    library: &'a Arc<Library>,
    limit: usize,
    left: usize,
    refused: u32,
    fault: Option<ModuleFault>,
    /// A panic of the host's own code, on its way around the module.
    panic: Option<Box<dyn Any + Send>>,
}

/// Does not unwind.
///
/// # Safety
/// `context` is the [`Intake`] of the call under way.
unsafe extern "C" fn on_push(context: *mut (), block: RawBlock) -> u8 {
    // SAFETY: the intake outlives the call, and only the module's thread of the call uses it.
    let intake = unsafe { &mut *context.cast::<Intake<'_>>() };
    catch_unwind(AssertUnwindSafe(|| intake.take(block))).unwrap_or_else(|payload| {
        intake.panic.get_or_insert(payload);
        PUSH_ABORT
    })
}

impl Intake<'_> {
    fn take(&mut self, block: RawBlock) -> u8 {
        if self.fault.is_some() {
            self.refused += 1;
            return if self.refused < MAX_REFUSED { PUSH_FULL } else { PUSH_ABORT };
        }
        if block.flags & !ALL_FLAGS != 0 {
            return self.refuse(ModuleFault::BadFlags { flags: block.flags });
        }
        if block.track >= MAX_TRACKS {
            return self.refuse(ModuleFault::BadTrack { track: block.track });
        }
        let cost = block
            .parts
            .iter()
            .fold(BLOCK_COST, |cost, part| cost.saturating_add(part.len()).saturating_add(PART_COST));
        if cost > self.left {
            return self.refuse(ModuleFault::Flooded { limit: self.limit });
        }
        self.left -= cost;
        let parts = block.parts.into_iter().filter(|part| !part.is_empty());
        let parts = parts.map(|part| pinned(part, self.library)).collect();
        let flags = BlockFlags(block.flags);
        self.out.push(OutBlock { flags, track: block.track, dts: Millis(block.dts), parts });
        PUSH_TAKEN
    }

    fn refuse(&mut self, fault: ModuleFault) -> u8 {
        self.fault = Some(fault);
        PUSH_FULL
    }
}

/// The host's own bytes as they were; a module's with its library.
fn pinned(part: SharedBytes, library: &Arc<Library>) -> Bytes {
    match part.local() {
        Some(bytes) => bytes,
        None => Bytes::from_owner(Pinned { part, _library: library.clone() }),
    }
}

/// Bytes whose release is code of the library. Fields drop in this order.
struct Pinned {
    part: SharedBytes,
    _library: Arc<Library>,
}

impl AsRef<[u8]> for Pinned {
    fn as_ref(&self) -> &[u8] {
        &self.part
    }
}

#[cfg(test)]
mod tests {
    use remuxd_plugin_api::{
        Block, Codec, Format, FormatInfo, Options, RemuxError, Remuxer, Setup, Sink, StreamFacts, Transport,
    };

    use super::*;
    use crate::media::TagKind;
    use crate::plugin::{Module, Terms, linked};

    const MAX_OUTPUT: usize = 10_000;

    /// Does what its option `what` says.
    struct Rogue;

    struct RogueRemuxer(String);

    impl Format for Rogue {
        type Remuxer = RogueRemuxer;

        fn info() -> FormatInfo {
            FormatInfo {
                name: "rogue",
                version: "1",
                extensions: &["rogue"],
                transport: Transport::HTTP,
                content_type: "a/b",
                video_codecs: &[Codec::H264],
                audio_codecs: &[],
                options: &[],
            }
        }

        fn remuxer(setup: &Setup) -> Result<RogueRemuxer, RemuxError> {
            Ok(RogueRemuxer(setup.options.text("what").to_owned()))
        }
    }

    impl Remuxer for RogueRemuxer {
        fn tag(&mut self, tag: &remuxd_plugin_api::Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
            let media = |flags, parts| Block { flags, track: 0, dts: tag.dts, parts };
            sink.block(media(BlockFlags::JOIN, vec![tag.payload.slice(2..), SharedBytes::default()]))?;
            match &*self.0 {
                "panic" => panic!("expected in this test\nand {}", 1),
                "error" => return Err(RemuxError::Unsupported(tag.codec)),
                "many" => loop {
                    let _ = sink.block(media(BlockFlags::NONE, vec![vec![0; 100].into()]));
                },
                "empty" => loop {
                    let _ = sink.block(Block::default());
                },
                "parts" => sink.block(media(BlockFlags::NONE, vec![SharedBytes::default(); 1000]))?,
                "ignore" => {
                    let _ = sink.block(media(BlockFlags::NONE, vec![vec![0; 1 << 20].into()]));
                }
                "flags" => sink.block(media(BlockFlags(8), Vec::new()))?,
                "track" => sink.block(Block { track: 8, ..media(BlockFlags::CONFIG, Vec::new()) })?,
                _ => {}
            }
            Ok(())
        }

        fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), RemuxError> {
            Ok(sink.block(Block { parts: vec![vec![7; 3].into()], ..Block::default() })?)
        }
    }

    fn module() -> Arc<Module> {
        let terms = Terms { generation: 1, max_output: MAX_OUTPUT, max_faults: 1, unload: false };
        linked::<Rogue>(&terms).unwrap()
    }

    fn remuxer(what: &str) -> Instance {
        let options = Options::new(vec![("what".into(), what.into())]);
        module().remuxer(&Setup::new(options, StreamFacts::default())).unwrap()
    }

    fn tag() -> Tag {
        Tag::new(TagKind::VIDEO, Millis(-4), vec![0x17, 1, 0, 0, 40, 1, 2, 3].into())
    }

    #[test]
    fn passes_a_payload_on_without_a_copy() {
        let (mut remuxer, tag, mut out) = (remuxer(""), tag(), Vec::new());
        remuxer.tag(&tag, &mut out).unwrap();
        remuxer.finish(&mut out).unwrap();
        drop(remuxer);
        let [media, last] = &out[..] else { panic!("{out:?}") };
        assert_eq!((media.flags, media.track, media.dts), (BlockFlags::JOIN, 0, Millis(-4)));
        assert_eq!(media.parts.len(), 1, "an empty part");
        assert_eq!(media.parts[0].as_ptr_range(), tag.payload[2..].as_ptr_range());
        assert_eq!(last.parts[..], [Bytes::from_static(&[7; 3])]);
    }

    #[test]
    fn holds_the_library_with_what_the_module_made() {
        let (mut remuxer, mut out) = (remuxer(""), Vec::new());
        let library = Arc::downgrade(&remuxer.library);
        remuxer.finish(&mut out).unwrap();
        drop(remuxer);
        let part = out[0].parts[0].slice(1..);
        drop(out);
        assert_eq!(library.strong_count(), 1);
        drop(part);
        assert_eq!(library.strong_count(), 0);
    }

    #[test]
    fn tells_what_went_wrong_and_is_dead() {
        let limit = tag().payload.len() * OUTPUT_RATIO + MAX_OUTPUT;
        let panicked = ModuleFault::Panicked { message: "expected in this test and 1".into() };
        let remux = ModuleFault::Remux { message: "the format cannot carry codec avc1".into() };
        let cases = [
            ("panic", panicked),
            ("error", remux),
            ("many", ModuleFault::Flooded { limit }),
            ("empty", ModuleFault::Flooded { limit }),
            ("parts", ModuleFault::Flooded { limit }),
            ("ignore", ModuleFault::Flooded { limit }),
            ("flags", ModuleFault::BadFlags { flags: 8 }),
            ("track", ModuleFault::BadTrack { track: 8 }),
        ];
        for (what, fault) in cases {
            let (mut remuxer, mut out) = (remuxer(what), Vec::new());
            assert_eq!(remuxer.tag(&tag(), &mut out), Err(fault), "{what}");
            assert!((1..50).contains(&out.len()), "{what}: {}", out.len());
            assert_eq!(remuxer.tag(&tag(), &mut out), Err(ModuleFault::Poisoned));
            assert_eq!(remuxer.finish(&mut out), Err(ModuleFault::Poisoned));
        }
    }

    #[test]
    fn goes_to_other_threads() {
        fn is_send<T: Send>() {}
        fn is_shared<T: Send + Sync>() {}
        is_send::<Instance>();
        is_shared::<OutBlock>();
        is_shared::<Module>();
        is_shared::<ModuleFault>();
    }
}

//! Instance: a remuxer of a module, in this process or in one of its own.
//!
//! A call has a byte budget for its blocks. After its first fault an instance is dead; what it made before is still
//! good.

use std::fmt;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use remuxd_plugin_api::BlockFlags;
use smallvec::SmallVec;
use tracing::warn;

use super::ModuleFault;
use super::intake::Intake;
use super::load::linked::Linked;
use super::process::Isolated;
use crate::media::{Millis, Tag};

/// How many bytes of output a byte of a tag may cause, before `max_output` is touched.
const OUTPUT_RATIO: usize = 16;
/// What a format that holds back (a GOP, a fragment) may save up for the call that hands it out, in bytes of tags.
const MAX_HELD: usize = 64 << 20;
/// The largest state that a remuxer may leave to its successor, in bytes.
pub(super) const MAX_STATE: usize = 64 << 10;

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
    remuxer: Remuxer,
    max_output: usize,
    /// Bytes of tags that it has not made output of yet.
    held: usize,
    dead: bool,
    freed: bool,
    name: Arc<str>,
}

/// Where the remuxer runs.
pub(super) enum Remuxer {
    /// In this process.
    Linked(Linked),
    /// In a process of its module's.
    Isolated(Isolated),
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remuxer of {}", self.name)
    }
}

impl Instance {
    pub(super) fn new(remuxer: Remuxer, max_output: usize, name: &str) -> Instance {
        Instance { remuxer, max_output, held: 0, dead: false, freed: false, name: name.into() }
    }

    /// Feeds one tag; the blocks that it made are appended to `out`, also with a fault.
    ///
    /// # Errors
    /// [`ModuleFault`]: the instance is dead.
    pub fn tag(&mut self, tag: &Tag, out: &mut Vec<OutBlock>) -> Result<(), ModuleFault> {
        self.held = self.held.saturating_add(tag.payload.len()).min(MAX_HELD);
        self.call(out, |remuxer, intake| match remuxer {
            Remuxer::Linked(remuxer) => remuxer.tag(tag, intake),
            Remuxer::Isolated(remuxer) => remuxer.tag(tag, intake),
        })
    }

    /// The stream ended, or goes over to a successor: what the remuxer still held is appended to `out`.
    ///
    /// # Errors
    /// As for [`tag`](Self::tag).
    pub fn finish(&mut self, out: &mut Vec<OutBlock>) -> Result<(), ModuleFault> {
        self.call(out, |remuxer, intake| match remuxer {
            Remuxer::Linked(remuxer) => remuxer.finish(intake),
            Remuxer::Isolated(remuxer) => remuxer.finish(intake),
        })
    }

    /// What a successor must know; empty when there is nothing, and from modules older than 1.1.
    ///
    /// # Errors
    /// As for [`tag`](Self::tag).
    pub fn state(&mut self) -> Result<Vec<u8>, ModuleFault> {
        if self.dead {
            return Err(ModuleFault::Poisoned);
        }
        self.dead = true;
        let state = match &mut self.remuxer {
            Remuxer::Linked(remuxer) => remuxer.state(),
            Remuxer::Isolated(remuxer) => remuxer.state(),
        }?;
        if state.len() > MAX_STATE {
            return Err(ModuleFault::LargeState { size: state.len(), limit: MAX_STATE });
        }
        self.dead = false;
        Ok(state)
    }

    /// Drops it, and tells how that went.
    ///
    /// # Errors
    /// The panic of the remuxer's `Drop`; it is gone all the same.
    pub fn free(mut self) -> Result<(), ModuleFault> {
        self.release()
    }

    fn release(&mut self) -> Result<(), ModuleFault> {
        if mem::replace(&mut self.freed, true) {
            return Ok(());
        }
        match &mut self.remuxer {
            Remuxer::Linked(remuxer) => remuxer.free(),
            Remuxer::Isolated(remuxer) => remuxer.free(),
        }
    }

    fn call(
        &mut self,
        out: &mut Vec<OutBlock>,
        call: impl FnOnce(&mut Remuxer, &mut Intake<'_>) -> Result<(), ModuleFault>,
    ) -> Result<(), ModuleFault> {
        if self.dead {
            return Err(ModuleFault::Poisoned);
        }
        self.dead = true;
        let limit = self.held.saturating_mul(OUTPUT_RATIO).saturating_add(self.max_output);
        let mut intake = Intake::new(out, limit);
        let answer = call(&mut self.remuxer, &mut intake);
        if intake.has_taken() {
            // It may be of one track while another is still held.
            self.held /= 2;
        }
        // What the host saw comes before what the module says of it.
        match intake.fault() {
            Some(fault) => Err(fault.clone()),
            None => {
                self.dead = answer.is_err();
                answer
            }
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Err(fault) = self.release() {
            warn!(module = %self.name, %fault, "a remuxer failed when it was freed");
        }
    }
}

#[cfg(test)]
mod tests {
    use remuxd_plugin_api::{
        Block, Codec, Format, FormatInfo, Options, RemuxError, Setup, SharedBytes, Sink, StreamFacts,
        Transport,
    };

    use super::*;
    use crate::media::{TagKind, Tracks};
    use crate::module::{Module, Terms, linked};

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

    impl remuxd_plugin_api::Remuxer for RogueRemuxer {
        fn tag(&mut self, tag: &remuxd_plugin_api::Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
            let media = |flags, parts| Block { flags, track: 0, dts: tag.dts, parts };
            let tracks = tag.tracks.0;
            sink.block(media(BlockFlags::JOIN, vec![tag.payload.slice(2..), SharedBytes::default()]))?;
            match &*self.0 {
                "panic" => panic!("expected in this test\nand {}", 1),
                "error" => return Err(RemuxError::Malformed { what: "SPS", offset: 7 }),
                "unsupported" => return Err(RemuxError::Unsupported(tag.codec)),
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
                "tracks" => sink.block(media(BlockFlags::NONE, vec![vec![tracks].into()]))?,
                "track" => sink.block(Block { track: 8, ..media(BlockFlags::CONFIG, Vec::new()) })?,
                _ => {}
            }
            Ok(())
        }

        fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), RemuxError> {
            let size = if self.0 == "late" { 200_000 } else { 3 };
            Ok(sink.block(Block { parts: vec![vec![7; size].into()], ..Block::default() })?)
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
    fn reports_the_tracks_of_the_stream() {
        for tracks in [Tracks::UNKNOWN, Tracks::known(true, false)] {
            let (mut remuxer, mut out) = (remuxer("tracks"), Vec::new());
            remuxer.tag(&Tag { tracks, ..tag() }, &mut out).unwrap();
            assert_eq!(out[1].parts[..], [Bytes::from(vec![tracks.0])]);
        }
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
        let Remuxer::Linked(linked) = &remuxer.remuxer else { panic!("in this process") };
        let library = linked.library();
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
        let remux = ModuleFault::Remux { message: "malformed SPS at byte 7".into() };
        let unsupported = ModuleFault::Unsupported { message: "the format cannot carry codec avc1".into() };
        let cases = [
            ("panic", panicked),
            ("error", remux),
            ("unsupported", unsupported),
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
    fn what_is_held_of_one_track_has_room_after_output_of_another() {
        let large = Tag::new(TagKind::VIDEO, Millis(0), vec![0x17; 200_000].into());
        let (mut remuxer, mut out) = (remuxer("late"), Vec::new());
        remuxer.tag(&large, &mut out).unwrap();
        remuxer.tag(&tag(), &mut out).unwrap();
        assert_eq!(remuxer.finish(&mut out), Ok(()));
        // But not for ever.
        for _ in 0..20 {
            remuxer.tag(&tag(), &mut out).unwrap();
        }
        assert!(matches!(remuxer.finish(&mut out), Err(ModuleFault::Flooded { .. })));
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

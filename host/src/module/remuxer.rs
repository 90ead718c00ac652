//! Remuxer: the host's handle of an instance that a module makes for one (stream, mount, variant).
//!
//! A call has a byte budget for its blocks: for the bytes of the tags that the remuxer may still hold, and of the configurations, which it
//! may write again at any time. After its first fault a remuxer is dead; its earlier blocks remain valid.

use std::fmt;
use std::mem;
use std::sync::Arc;

use tracing::warn;

use super::fault::ModuleFault;
use super::load::in_process::InProcessRemuxer;
use super::output::{CallOutput, MAX_STATE, OutBlock};
use super::process::IsolatedRemuxer;
use crate::media::{Packet, Tag, TagKind};

/// Bytes of output allowed for each byte of a tag, in addition to `max_output`.
const OUTPUT_RATIO: usize = 16;
/// Largest amount of tags, in bytes, that counts for a format that buffers them (a GOP, a fragment) and writes them in
/// one call.
const MAX_HELD: usize = 64 << 20;

/// A remuxer for one (stream, mount, variant).
pub struct Remuxer {
    backend: Backend,
    max_output: usize,
    /// Bytes of tags that may not have led to output yet.
    held: usize,
    /// Bytes of the newest sequence header and metadata of each kind of tag.
    configs: Vec<(TagKind, Packet, usize)>,
    dead: bool,
    freed: bool,
    name: Arc<str>,
}

/// The remuxer itself, in this process or in its module's.
pub(super) enum Backend {
    InProcess(InProcessRemuxer),
    Isolated(IsolatedRemuxer),
}

impl fmt::Debug for Remuxer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remuxer of {}", self.name)
    }
}

impl Remuxer {
    pub(super) fn new(backend: Backend, max_output: usize, name: &str) -> Remuxer {
        Remuxer {
            backend,
            max_output,
            held: 0,
            configs: Vec::new(),
            dead: false,
            freed: false,
            name: name.into(),
        }
    }

    /// Feeds one tag and appends the resulting blocks to `out`, even if the call fails.
    ///
    /// # Errors
    /// [`ModuleFault`]: the remuxer is dead.
    pub fn tag(&mut self, tag: &Tag, out: &mut Vec<OutBlock>) -> Result<(), ModuleFault> {
        let (kind, packet, len) = (tag.kind, tag.header.packet, tag.payload.len());
        self.held = self.held.saturating_add(len).min(MAX_HELD);
        if matches!(packet, Packet::SEQUENCE_HEADER | Packet::METADATA) {
            self.configs.retain(|config| (config.0, config.1) != (kind, packet));
            self.configs.push((kind, packet, len));
        }
        self.call(out, |backend, output| match backend {
            Backend::InProcess(remuxer) => remuxer.tag(tag, output),
            Backend::Isolated(remuxer) => remuxer.tag(tag, output),
        })
    }

    /// Ends the stream, or this remuxer's part of it, and appends the blocks that the remuxer still held to `out`.
    ///
    /// # Errors
    /// As for [`tag`](Self::tag).
    pub fn finish(&mut self, out: &mut Vec<OutBlock>) -> Result<(), ModuleFault> {
        self.call(out, |backend, output| match backend {
            Backend::InProcess(remuxer) => remuxer.finish(output),
            Backend::Isolated(remuxer) => remuxer.finish(output),
        })
    }

    /// Returns the state for a successor; empty if there is none, and from modules older than 1.1.
    ///
    /// # Errors
    /// As for [`tag`](Self::tag).
    pub fn state(&mut self) -> Result<Vec<u8>, ModuleFault> {
        if self.dead {
            return Err(ModuleFault::Poisoned);
        }
        self.dead = true;
        let state = match &mut self.backend {
            Backend::InProcess(remuxer) => remuxer.state(),
            Backend::Isolated(remuxer) => remuxer.state(),
        }?;
        if state.len() > MAX_STATE {
            return Err(ModuleFault::LargeState { size: state.len(), limit: MAX_STATE });
        }
        self.dead = false;
        Ok(state)
    }

    /// Frees the remuxer.
    ///
    /// # Errors
    /// A panic in the module's `Drop`; the remuxer is freed anyway.
    pub fn free(mut self) -> Result<(), ModuleFault> {
        self.release()
    }

    fn release(&mut self) -> Result<(), ModuleFault> {
        if mem::replace(&mut self.freed, true) {
            return Ok(());
        }
        match &mut self.backend {
            Backend::InProcess(remuxer) => remuxer.free(),
            Backend::Isolated(remuxer) => remuxer.free(),
        }
    }

    fn call(
        &mut self,
        out: &mut Vec<OutBlock>,
        call: impl FnOnce(&mut Backend, &mut CallOutput<'_>) -> Result<(), ModuleFault>,
    ) -> Result<(), ModuleFault> {
        if self.dead {
            return Err(ModuleFault::Poisoned);
        }
        self.dead = true;
        let configs: usize = self.configs.iter().map(|(_, _, len)| len).sum();
        let held = self.held.saturating_add(configs).min(MAX_HELD);
        let limit = held.saturating_mul(OUTPUT_RATIO).saturating_add(self.max_output);
        let mut output = CallOutput::new(out, limit);
        let result = call(&mut self.backend, &mut output);
        if output.has_taken() {
            // The output may be of one track while another is still buffered.
            self.held /= 2;
        }
        // A rule that the host saw broken takes precedence over the module's own error.
        match output.fault() {
            Some(fault) => Err(fault.clone()),
            None => {
                self.dead = result.is_err();
                result
            }
        }
    }
}

impl Drop for Remuxer {
    fn drop(&mut self) {
        if let Err(fault) = self.release() {
            warn!(module = %self.name, %fault, "a remuxer failed when it was freed");
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use remuxd_plugin_api::{
        Block, BlockFlags, Codec, Format, FormatInfo, Options, RemuxError, Setup, SharedBytes, Sink,
        StreamFacts, Transport,
    };

    use super::*;
    use crate::media::{Millis, Tracks};
    use crate::module::{Module, Terms, linked};

    const MAX_OUTPUT: usize = 10_000;

    /// A format whose option `what` names what its remuxers do.
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

    fn remuxer(what: &str) -> Remuxer {
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
        let Backend::InProcess(backend) = &remuxer.backend else { panic!("not in this process") };
        let library = backend.library();
        remuxer.finish(&mut out).unwrap();
        drop(remuxer);
        let part = out[0].parts[0].slice(1..);
        drop(out);
        assert_eq!(library.strong_count(), 1);
        drop(part);
        assert_eq!(library.strong_count(), 0);
    }

    #[test]
    fn reports_a_fault_and_is_dead() {
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
    fn tags_buffered_for_one_track_have_budget_after_output_of_another() {
        let large = Tag::new(TagKind::VIDEO, Millis(0), vec![0x17; 200_000].into());
        let (mut remuxer, mut out) = (remuxer("late"), Vec::new());
        remuxer.tag(&large, &mut out).unwrap();
        remuxer.tag(&tag(), &mut out).unwrap();
        assert_eq!(remuxer.finish(&mut out), Ok(()));
        // But not forever.
        for _ in 0..20 {
            remuxer.tag(&tag(), &mut out).unwrap();
        }
        assert!(matches!(remuxer.finish(&mut out), Err(ModuleFault::Flooded { .. })));
    }

    #[test]
    fn configurations_have_budget_for_as_long_as_they_are_the_newest() {
        let metadata = |len| {
            let mut body = b"\x02\x00\x0aonMetaData".to_vec();
            body.resize(len, 5);
            Tag::new(TagKind::SCRIPT, Millis(0), body.into())
        };
        for (newer, fits) in [(None, true), (Some(20), false)] {
            let (mut remuxer, mut out) = (remuxer("late"), Vec::new());
            let small = newer.map(metadata);
            for config in [metadata(200_000)].iter().chain(&small) {
                remuxer.tag(config, &mut out).unwrap();
            }
            for _ in 0..50 {
                remuxer.tag(&tag(), &mut out).unwrap();
            }
            assert_eq!(remuxer.finish(&mut out).is_ok(), fits, "{newer:?}");
        }
    }

    #[test]
    fn goes_to_other_threads() {
        fn is_send<T: Send>() {}
        fn is_shared<T: Send + Sync>() {}
        is_send::<Remuxer>();
        is_shared::<OutBlock>();
        is_shared::<Module>();
        is_shared::<ModuleFault>();
    }
}

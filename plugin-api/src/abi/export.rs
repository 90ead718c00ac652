//! The module's side of the ABI, generic over the [`Format`].

use abi_stable::library::{CheckTypeLayout, LibHeader, RootModuleResult};
use abi_stable::marker_type::ErasedPrefix;
use abi_stable::prefix_type::{PrefixRefTrait, WithMetadata};
use abi_stable::staticref;
use abi_stable::std_types::{RErr, ROk, RResult, RSlice, RString, RVec};

use super::catch::{catch, Aborted, Unwound};
use super::*;
use crate::{
    log, Block, Codec, Format, FormatInfo, Full, Millis, OptionKind, OptionSpec, Options, Packet, RemuxError,
    Remuxer, Setup, Sink, StreamFacts, Tag, TagKind, Tracks,
};

/// Returns abi_stable's library header for a module that exports the format `F`.
pub const fn header<F: Format>() -> LibHeader {
    // SAFETY: `constructor` returns a `ModuleRef`.
    unsafe { LibHeader::from_constructor::<ModuleRef>(constructor::<F>, CheckTypeLayout::Yes) }
}

extern "C" fn constructor<F: Format>() -> RootModuleResult {
    // SAFETY: `LibHeader` hands the reference out as the type that it was made for.
    ROk(unsafe { table::<F>().to_prefix_ref().cast::<ErasedPrefix>() })
}

/// Returns the functions of the format `F`.
pub fn table<F: Format>() -> ModuleRef {
    ModuleRef(Exported::<F>::TABLE.as_prefix())
}

struct Exported<F>(F);

impl<F: Format> Exported<F> {
    staticref!(const TABLE: WithMetadata<ModuleTable> = WithMetadata::new(ModuleTable {
        set_logger,
        info: info::<F>,
        remuxer: remuxer::<F>,
        tag: tag::<F>,
        finish: finish::<F>,
        free: free::<F>,
        state: state::<F>,
        resume: resume::<F>,
    }));
}

/// A remuxer behind the pointer that the host holds.
struct Exposed<R> {
    remuxer: R,
    /// Whether a call failed or is running.
    poisoned: bool,
}

extern "C" fn set_logger(logger: RawLogger) {
    log::set(logger);
    // The module has its own copy of the standard library and of its panic hook. The fault carries the message; without
    // this hook, the location would be printed to standard error.
    let _ = catch(|| {
        std::panic::set_hook(Box::new(|info| {
            if let Some(location) = info.location() {
                log::error(&format!("panicked at {location}"));
            }
        }))
    });
}

extern "C" fn info<F: Format>() -> RResult<RawInfo, RawFault> {
    let describe = || {
        let mut info = RawInfo::from(F::info());
        info.reserved_u8[0] = further_transports(F::further_transports());
        info
    };
    catch(describe).map_err(RawFault::from).into()
}

extern "C" fn remuxer<F: Format>(setup: &RawSetup<'_>) -> RResult<RawRemuxer, RawFault> {
    make::<F>(setup, &[])
}

extern "C" fn resume<F: Format>(
    setup: &RawSetup<'_>,
    state: RSlice<'_, u8>,
) -> RResult<RawRemuxer, RawFault> {
    make::<F>(setup, state.as_slice())
}

fn make<F: Format>(setup: &RawSetup<'_>, state: &[u8]) -> RResult<RawRemuxer, RawFault> {
    let made = catch(|| {
        let remuxer = F::remuxer(&Setup { state: state.to_vec(), ..setup.into() })?;
        let exposed = Box::new(Exposed { remuxer, poisoned: false });
        Ok::<_, RemuxError>(RawRemuxer(Box::into_raw(exposed).cast()))
    });
    flatten(made).into()
}

/// # Safety
/// `remuxer` comes from [`remuxer::<F>`], was not freed, and no other call uses it. `sink` can be called.
unsafe extern "C" fn tag<F: Format>(
    remuxer: RawRemuxer,
    tag: RawTag,
    sink: RawSink,
) -> RResult<(), RawFault> {
    // SAFETY: as this function's.
    unsafe { call::<F>(remuxer, |remuxer| remuxer.tag(&tag.into(), &mut LentSink(sink))) }
}

/// # Safety
/// As for [`tag`].
unsafe extern "C" fn finish<F: Format>(remuxer: RawRemuxer, sink: RawSink) -> RResult<(), RawFault> {
    // SAFETY: as this function's.
    unsafe { call::<F>(remuxer, |remuxer| remuxer.finish(&mut LentSink(sink))) }
}

/// # Safety
/// As for [`tag`].
unsafe extern "C" fn state<F: Format>(remuxer: RawRemuxer) -> RResult<RVec<u8>, RawFault> {
    let mut state = Vec::new();
    let keep = |remuxer: &mut F::Remuxer| {
        state = remuxer.state();
        Ok(())
    };
    // SAFETY: as this function's.
    let answer = unsafe { call::<F>(remuxer, keep) };
    answer.map(|()| state.into())
}

/// # Safety
/// As for [`tag`]; `remuxer` is not used again.
unsafe extern "C" fn free<F: Format>(remuxer: RawRemuxer) -> RResult<(), RawFault> {
    // SAFETY: the pointer came from `Box::into_raw` in `remuxer::<F>`.
    let exposed = unsafe { Box::from_raw(remuxer.0.cast::<Exposed<F::Remuxer>>()) };
    catch(|| drop(exposed)).map_err(RawFault::from).into()
}

/// # Safety
/// As for [`tag`].
unsafe fn call<F: Format>(
    remuxer: RawRemuxer,
    call: impl FnOnce(&mut F::Remuxer) -> Result<(), RemuxError>,
) -> RResult<(), RawFault> {
    // SAFETY: the pointer came from `Box::into_raw` in `remuxer::<F>`; no other call uses it.
    let exposed = unsafe { &mut *remuxer.0.cast::<Exposed<F::Remuxer>>() };
    if exposed.poisoned {
        return RErr(RawFault::new(FAULT_POISONED, "an earlier call failed"));
    }
    exposed.poisoned = true;
    let answer = flatten(catch(|| call(&mut exposed.remuxer)));
    exposed.poisoned = answer.is_err();
    answer.into()
}

fn flatten<T>(answer: Result<Result<T, RemuxError>, Unwound>) -> Result<T, RawFault> {
    answer?.map_err(RawFault::from)
}

/// The host's sink, for one call.
struct LentSink(RawSink);

impl Sink for LentSink {
    fn block(&mut self, block: Block) -> Result<(), Full> {
        // SAFETY: the host lent the sink for the current call.
        match unsafe { (self.0.push)(self.0.context, block.into()) } {
            PUSH_TAKEN => Ok(()),
            PUSH_FULL => Err(Full),
            // Does not run the panic hook: the author's code did not panic.
            _ => std::panic::resume_unwind(Box::new(Aborted)),
        }
    }
}

impl RawFault {
    fn new(kind: u8, message: impl Into<RString>) -> RawFault {
        RawFault { message: message.into(), kind, reserved_u8: [0; 7], reserved: [0; 4] }
    }
}

impl From<Unwound> for RawFault {
    fn from(unwound: Unwound) -> RawFault {
        match unwound {
            Unwound::Panicked(message) => RawFault::new(FAULT_PANIC, message),
            Unwound::Aborted => RawFault::new(FAULT_ABORTED, "ended by the host"),
        }
    }
}

impl From<RemuxError> for RawFault {
    fn from(error: RemuxError) -> RawFault {
        let kind = match error {
            RemuxError::Unsupported(_) => FAULT_UNSUPPORTED,
            _ => FAULT_ERROR,
        };
        RawFault::new(kind, error.to_string())
    }
}

impl From<Block> for RawBlock {
    fn from(block: Block) -> RawBlock {
        RawBlock {
            parts: block.parts.into(),
            dts: block.dts.0,
            flags: block.flags.0,
            track: block.track,
            reserved_u8: [0; 6],
            reserved: [0; 4],
        }
    }
}

impl From<RawTag> for Tag {
    fn from(raw: RawTag) -> Tag {
        Tag {
            kind: TagKind(raw.kind),
            codec: Codec(raw.codec),
            packet: Packet(raw.packet),
            keyframe: raw.flags & TAG_KEYFRAME != 0,
            discontinuity: raw.flags & TAG_DISCONTINUITY != 0,
            tracks: Tracks(raw.reserved_u8),
            dts: Millis(raw.dts),
            composition_offset: Millis(raw.composition_offset),
            payload: raw.payload,
            data_offset: raw.data_offset,
            data_len: raw.data_len,
        }
    }
}

impl From<&RawSetup<'_>> for Setup {
    fn from(raw: &RawSetup<'_>) -> Setup {
        let values = raw.options.iter().map(|option| (option.name.to_string(), option.value.to_string()));
        Setup {
            options: Options::new(values.collect()),
            stream: StreamFacts { video: Codec(raw.video), audio: Codec(raw.audio), age_ms: raw.age_ms },
            state: Vec::new(),
        }
    }
}

impl From<FormatInfo> for RawInfo {
    fn from(info: FormatInfo) -> RawInfo {
        RawInfo {
            name: info.name.into(),
            version: info.version.into(),
            content_type: info.content_type.into(),
            extensions: strings(info.extensions),
            video_codecs: info.video_codecs.iter().map(|codec| codec.0).collect(),
            audio_codecs: info.audio_codecs.iter().map(|codec| codec.0).collect(),
            options: info.options.iter().map(RawOption::from).collect(),
            transport: info.transport.0,
            reserved_u8: [0; 7],
            reserved: [0; 8],
        }
    }
}

impl From<&OptionSpec> for RawOption {
    fn from(spec: &OptionSpec) -> RawOption {
        let (kind, min, max, choices) = match spec.kind {
            OptionKind::Flag => (OPTION_FLAG, 0, 0, RVec::new()),
            OptionKind::Integer { min, max } => (OPTION_INTEGER, min, max, RVec::new()),
            OptionKind::Choice(words) => (OPTION_CHOICE, 0, 0, strings(words)),
            OptionKind::Text => (OPTION_TEXT, 0, 0, RVec::new()),
        };
        RawOption {
            name: spec.name.into(),
            default: spec.default.into(),
            doc: spec.doc.into(),
            choices,
            min,
            max,
            kind,
            variant: spec.variant.into(),
            reserved_u8: [0; 6],
            reserved: [0; 4],
        }
    }
}

fn strings(words: &[&str]) -> RVec<RString> {
    words.iter().map(|&word| word.into()).collect()
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{BlockFlags, SharedBytes, Transport};

    /// A format that misbehaves as its options `in_new`, `in_tag`, `in_finish` and `in_drop` say.
    struct Rogue;

    struct RogueRemuxer {
        options: Options,
        state: Vec<u8>,
    }

    /// Number of dropped [`RogueRemuxer`]s with the option `count`.
    static DROPS: AtomicUsize = AtomicUsize::new(0);

    /// A panic payload that panics when dropped, with a payload that does the same.
    struct Bomb(u32);

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic_any(Bomb(self.0 + 1));
        }
    }

    fn act(what: &str, sink: Option<&mut dyn Sink>) -> Result<(), RemuxError> {
        match (what, sink) {
            ("panic", _) => panic!("expected in {}", "this test"),
            ("bomb", _) => panic_any(Bomb(0)),
            ("error", _) => Err(RemuxError::Malformed { what: "SPS", offset: 7 }),
            ("unsupported", _) => Err(RemuxError::Unsupported(Codec::AAC)),
            ("flood", Some(sink)) => loop {
                let _ = sink.block(Block::default());
            },
            _ => Ok(()),
        }
    }

    impl Format for Rogue {
        type Remuxer = RogueRemuxer;

        fn info() -> FormatInfo {
            FormatInfo {
                name: "rogue",
                version: "1.2.3",
                extensions: &["one", "two"],
                transport: Transport::WEBSOCKET,
                content_type: "video/x-rogue",
                video_codecs: &[Codec::H264, Codec::AV1],
                audio_codecs: &[Codec::AAC],
                options: &[
                    OptionSpec {
                        name: "a",
                        kind: OptionKind::Flag,
                        default: "true",
                        doc: "A.",
                        variant: true,
                    },
                    OptionSpec {
                        name: "b",
                        kind: OptionKind::Integer { min: -3, max: 9 },
                        default: "0",
                        doc: "B.",
                        variant: false,
                    },
                    OptionSpec {
                        name: "c",
                        kind: OptionKind::Choice(&["x", "y"]),
                        default: "x",
                        doc: "C.",
                        variant: false,
                    },
                    OptionSpec { name: "d", kind: OptionKind::Text, default: "", doc: "D.", variant: false },
                ],
            }
        }

        fn further_transports() -> &'static [Transport] {
            &[Transport::HTTP, Transport::WEBSOCKET]
        }

        fn remuxer(setup: &Setup) -> Result<RogueRemuxer, RemuxError> {
            act(setup.options.text("in_new"), None)?;
            Ok(RogueRemuxer { options: setup.options.clone(), state: setup.state.clone() })
        }
    }

    impl Remuxer for RogueRemuxer {
        fn tag(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
            act(self.options.text("in_tag"), Some(sink))?;
            let parts = vec![tag.payload.slice(1..), SharedBytes::from(vec![tag.tracks.0])];
            sink.block(Block { flags: BlockFlags::JOIN, track: 3, dts: tag.dts, parts })?;
            Ok(())
        }

        fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), RemuxError> {
            act(self.options.text("in_finish"), Some(sink))
        }

        fn state(&mut self) -> Vec<u8> {
            let _ = act(self.options.text("in_state"), None);
            [&self.state[..], &[7]].concat()
        }
    }

    impl Drop for RogueRemuxer {
        fn drop(&mut self) {
            DROPS.fetch_add(usize::from(self.options.flag("count")), Ordering::SeqCst);
            let _ = act(self.options.text("in_drop"), None);
        }
    }

    /// A host that takes `room` blocks, then refuses some, then aborts.
    #[derive(Default)]
    struct Host {
        room: usize,
        refused: usize,
        blocks: Vec<RawBlock>,
    }

    unsafe extern "C" fn on_push(context: *mut (), block: RawBlock) -> u8 {
        // SAFETY: `Host::sink` made the context from a host that is alive.
        let host = unsafe { &mut *context.cast::<Host>() };
        if host.blocks.len() < host.room {
            host.blocks.push(block);
            return PUSH_TAKEN;
        }
        host.refused += 1;
        if host.refused < 5 {
            PUSH_FULL
        } else {
            PUSH_ABORT
        }
    }

    impl Host {
        fn sink(&mut self) -> RawSink {
            RawSink { context: (self as *mut Host).cast(), push: on_push, reserved: [0; 2] }
        }
    }

    fn make(options: &[(&'static str, &'static str)]) -> Result<RawRemuxer, RawFault> {
        make_from(options, None)
    }

    fn make_from(
        options: &[(&'static str, &'static str)],
        state: Option<&[u8]>,
    ) -> Result<RawRemuxer, RawFault> {
        let values: Vec<_> = options
            .iter()
            .map(|&(name, value)| RawValue { name: name.into(), value: value.into() })
            .collect();
        let setup = RawSetup {
            options: RSlice::from_slice(&values),
            video: 0,
            audio: 0,
            age_ms: 0,
            reserved_u32: 0,
            reserved: [0; 4],
        };
        let table = table::<Rogue>();
        match state {
            None => table.remuxer()(&setup).into_result(),
            Some(state) => table.resume().unwrap()(&setup, state.into()).into_result(),
        }
    }

    fn feed(remuxer: RawRemuxer, host: &mut Host) -> Result<(), RawFault> {
        let tag = RawTag {
            payload: SharedBytes::from(vec![1, 2, 3]),
            dts: -5,
            composition_offset: 40,
            codec: Codec::H264.0,
            data_offset: 1,
            data_len: 2,
            kind: 9,
            packet: 2,
            flags: TAG_KEYFRAME,
            reserved_u8: TRACKS_KNOWN | TRACKS_VIDEO,
            reserved: [0; 4],
        };
        // SAFETY: the remuxer is alive, and so is the sink.
        unsafe { table::<Rogue>().tag()(remuxer, tag, host.sink()) }.into_result()
    }

    fn finish(remuxer: RawRemuxer, host: &mut Host) -> Result<(), RawFault> {
        // SAFETY: the remuxer is alive, and so is the sink.
        unsafe { table::<Rogue>().finish()(remuxer, host.sink()) }.into_result()
    }

    fn state(remuxer: RawRemuxer) -> Result<RVec<u8>, RawFault> {
        // SAFETY: the remuxer is alive.
        unsafe { table::<Rogue>().state().unwrap()(remuxer) }.into_result()
    }

    fn free(remuxer: RawRemuxer) -> Result<(), RawFault> {
        // SAFETY: the remuxer is alive and not used again.
        unsafe { table::<Rogue>().free()(remuxer) }.into_result()
    }

    fn fault<T>(answer: Result<T, RawFault>) -> (u8, String) {
        let fault = answer.err().expect("a fault");
        (fault.kind, fault.message.into())
    }

    #[test]
    fn exports_under_the_name_that_abi_stable_looks_up() {
        assert_eq!(abi_stable::library::ROOT_MODULE_LOADER_NAME, "_1as_0lib_1header_0root_bmodule_bloader");
    }

    #[test]
    fn describes_the_format() {
        let info = table::<Rogue>().info()().into_result().ok().unwrap();
        assert_eq!((&*info.name, &*info.version, &*info.content_type), ("rogue", "1.2.3", "video/x-rogue"));
        assert_eq!(info.extensions, ["one", "two"]);
        assert_eq!((info.transport, info.reserved_u8), (1, [0b11, 0, 0, 0, 0, 0, 0]));
        assert!(info.transports().eq([Transport::WEBSOCKET, Transport::HTTP]));
        assert_eq!(info.video_codecs, [u32::from_be_bytes(*b"avc1"), u32::from_be_bytes(*b"av01")]);
        assert_eq!(info.audio_codecs, [u32::from_be_bytes(*b"mp4a")]);
        let options: Vec<_> =
            info.options.iter().map(|o| (&*o.name, o.kind, o.variant, o.min, o.max)).collect();
        assert_eq!(options, [("a", 0, 1, 0, 0), ("b", 1, 0, -3, 9), ("c", 2, 0, 0, 0), ("d", 3, 0, 0, 0)]);
        assert_eq!(info.options[2].choices, ["x", "y"]);
        assert_eq!((&*info.options[0].default, &*info.options[0].doc), ("true", "A."));
    }

    #[test]
    fn hands_over_blocks_that_share_the_payload() {
        let remuxer = make(&[]).ok().unwrap();
        let mut host = Host { room: 2, ..Host::default() };
        feed(remuxer, &mut host).ok().unwrap();
        finish(remuxer, &mut host).ok().unwrap();
        free(remuxer).ok().unwrap();
        let [block] = &host.blocks[..] else { panic!("one block") };
        assert_eq!((block.flags, block.track, block.dts), (4, 3, -5));
        assert_eq!([&*block.parts[0], &*block.parts[1]], [&[2, 3][..], &[Tracks::known(false, true).0]]);
    }

    #[test]
    fn answers_a_panic_or_an_error_of_the_constructor() {
        assert_eq!(fault(make(&[("in_new", "panic")])), (FAULT_PANIC, "expected in this test".into()));
        assert_eq!(fault(make(&[("in_new", "bomb")])), (FAULT_PANIC, "no message".into()));
        assert_eq!(fault(make(&[("in_new", "error")])), (FAULT_ERROR, "malformed SPS at byte 7".into()));
        let unsupported = (FAULT_UNSUPPORTED, "the format cannot carry codec mp4a".into());
        assert_eq!(fault(make(&[("in_new", "unsupported")])), unsupported);
    }

    #[test]
    fn answers_a_panic_or_an_error_of_a_call_and_is_poisoned() {
        let cases = [
            ("panic", FAULT_PANIC),
            ("bomb", FAULT_PANIC),
            ("error", FAULT_ERROR),
            ("unsupported", FAULT_UNSUPPORTED),
        ];
        for (what, kind) in cases {
            for call in ["in_tag", "in_finish"] {
                let remuxer = make(&[(call, what)]).ok().unwrap();
                let mut host = Host::default();
                let answer =
                    if call == "in_tag" { feed(remuxer, &mut host) } else { finish(remuxer, &mut host) };
                assert_eq!(fault(answer).0, kind, "{what} {call}");
                assert_eq!(fault(feed(remuxer, &mut host)).0, FAULT_POISONED);
                assert_eq!(fault(finish(remuxer, &mut host)).0, FAULT_POISONED);
                free(remuxer).ok().unwrap();
            }
        }
    }

    #[test]
    fn hands_its_state_to_a_successor() {
        let first = make(&[]).ok().unwrap();
        let handed = state(first).ok().unwrap();
        assert_eq!(handed, [7]);
        let second = make_from(&[], Some(&handed)).ok().unwrap();
        assert_eq!(state(second).ok().unwrap(), [7, 7]);
        let third = make_from(&[("in_state", "panic")], Some(&[])).ok().unwrap();
        assert_eq!(fault(state(third)).0, FAULT_PANIC);
        assert_eq!(fault(feed(third, &mut Host::default())).0, FAULT_POISONED);
        for remuxer in [first, second, third] {
            free(remuxer).ok().unwrap();
        }
    }

    #[test]
    fn answers_a_panic_of_drop() {
        for what in ["panic", "bomb"] {
            let remuxer = make(&[("in_drop", what)]).ok().unwrap();
            assert_eq!(fault(free(remuxer)).0, FAULT_PANIC);
        }
    }

    #[test]
    fn frees_a_remuxer_that_failed() {
        let before = DROPS.load(Ordering::SeqCst);
        let remuxer = make(&[("in_tag", "panic"), ("count", "true")]).ok().unwrap();
        assert_eq!(fault(feed(remuxer, &mut Host::default())).0, FAULT_PANIC);
        free(remuxer).ok().unwrap();
        assert_eq!(DROPS.load(Ordering::SeqCst), before + 1);
    }

    #[test]
    fn ends_a_loop_that_ignores_a_full_sink() {
        let remuxer = make(&[("in_tag", "flood")]).ok().unwrap();
        let mut host = Host { room: 10, ..Host::default() };
        assert_eq!(fault(feed(remuxer, &mut host)), (FAULT_ABORTED, "ended by the host".into()));
        assert_eq!((host.blocks.len(), host.refused), (10, 5));
        free(remuxer).ok().unwrap();
    }

    #[test]
    fn answers_a_full_sink_as_an_error() {
        let remuxer = make(&[]).ok().unwrap();
        let (kind, message) = fault(feed(remuxer, &mut Host::default()));
        assert_eq!((kind, &*message), (FAULT_ERROR, "more output in one call than the host allows"));
        free(remuxer).ok().unwrap();
    }
}

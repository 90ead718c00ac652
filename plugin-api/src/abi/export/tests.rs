use std::panic::panic_any;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{BlockFlags, SharedBytes, Transport};

/// A format that misbehaves as requested by its options `in_new`, `in_tag`, `in_finish`, `in_state` and `in_drop`.
struct Rogue;

struct RogueRemuxer {
    options: Options,
    state: Vec<u8>,
}

/// Number of dropped [`RogueRemuxer`]s with the option `count`.
static DROPS: AtomicUsize = AtomicUsize::new(0);

/// A panic payload that panics when dropped, with a payload that does the same. Without a size, so that no memory is lost
/// with the one that cannot be dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_any(Bomb);
    }
}

fn act(what: &str, sink: Option<&mut dyn Sink>) -> Result<(), RemuxError> {
    match (what, sink) {
        ("panic", _) => panic!("expected in {}", "this test"),
        ("bomb", _) => panic_any(Bomb),
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
                OptionSpec { name: "a", kind: OptionKind::Flag, default: "true", doc: "A.", variant: true },
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

fn make_from(options: &[(&'static str, &'static str)], state: Option<&[u8]>) -> Result<RawRemuxer, RawFault> {
    let values: Vec<_> =
        options.iter().map(|&(name, value)| RawValue { name: name.into(), value: value.into() }).collect();
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
    let options: Vec<_> = info.options.iter().map(|o| (&*o.name, o.kind, o.variant, o.min, o.max)).collect();
    assert_eq!(options, [("a", 0, 1, 0, 0), ("b", 1, 0, -3, 9), ("c", 2, 0, 0, 0), ("d", 3, 0, 0, 0)]);
    assert_eq!(info.options[2].choices, ["x", "y"]);
    assert_eq!((&*info.options[0].default, &*info.options[0].doc), ("true", "A."));
}

#[test]
fn passes_blocks_that_share_the_payload() {
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
fn reports_a_panic_or_an_error_of_the_constructor() {
    assert_eq!(fault(make(&[("in_new", "panic")])), (FAULT_PANIC, "expected in this test".into()));
    assert_eq!(fault(make(&[("in_new", "bomb")])), (FAULT_PANIC, "no message".into()));
    assert_eq!(fault(make(&[("in_new", "error")])), (FAULT_ERROR, "malformed SPS at byte 7".into()));
    let unsupported = (FAULT_UNSUPPORTED, "the format cannot carry codec mp4a".into());
    assert_eq!(fault(make(&[("in_new", "unsupported")])), unsupported);
}

#[test]
fn reports_a_panic_or_an_error_of_a_call_and_is_poisoned() {
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
            let answer = if call == "in_tag" { feed(remuxer, &mut host) } else { finish(remuxer, &mut host) };
            assert_eq!(fault(answer).0, kind, "{what} {call}");
            assert_eq!(fault(feed(remuxer, &mut host)).0, FAULT_POISONED);
            assert_eq!(fault(finish(remuxer, &mut host)).0, FAULT_POISONED);
            free(remuxer).ok().unwrap();
        }
    }
}

#[test]
fn passes_its_state_to_a_successor() {
    let first = make(&[]).ok().unwrap();
    let passed = state(first).ok().unwrap();
    assert_eq!(passed, [7]);
    let second = make_from(&[], Some(&passed)).ok().unwrap();
    assert_eq!(state(second).ok().unwrap(), [7, 7]);
    let third = make_from(&[("in_state", "panic")], Some(&[])).ok().unwrap();
    assert_eq!(fault(state(third)).0, FAULT_PANIC);
    assert_eq!(fault(feed(third, &mut Host::default())).0, FAULT_POISONED);
    for remuxer in [first, second, third] {
        free(remuxer).ok().unwrap();
    }
}

#[test]
fn reports_a_panic_of_drop() {
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
fn reports_a_full_sink_as_an_error() {
    let remuxer = make(&[]).ok().unwrap();
    let (kind, message) = fault(feed(remuxer, &mut Host::default()));
    assert_eq!((kind, &*message), (FAULT_ERROR, "more output in one call than the host allows"));
    free(remuxer).ok().unwrap();
}

//! A module in C, whose functions are written in Rust: the whole way from the host's calls to its blocks, without a shared
//! library, so that Miri can follow it.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use remuxd_plugin_api::{BlockFlags, Codec, Options, Setup, StreamFacts};

use super::*;
use crate::media::{Millis, Tag, TagKind};
use crate::module::fault::ModuleFault;
use crate::module::load::in_process::{InProcessCode, InProcessRemuxer};
use crate::module::load::library::Library;
use crate::module::output::{CallOutput, OutBlock};

/// A remuxer of the format `echo`. Its option `what` names what it does.
struct Echo {
    what: String,
    count: u8,
}

/// Number of remuxers that were freed with the option `count`.
static FREED: AtomicUsize = AtomicUsize::new(0);

unsafe fn fail(error: *mut c::Error, text: &CStr) {
    // SAFETY: the host lends the error for the call.
    let message = unsafe { &mut (*error).message };
    for (to, from) in message.iter_mut().zip(text.to_bytes_with_nul()) {
        *to = from.cast_signed();
    }
}

unsafe extern "C" fn make(setup: *const c::Setup, error: *mut c::Error) -> *mut c_void {
    // SAFETY: the host lends the setup, its options and the state for the call.
    unsafe {
        let setup = &*setup;
        let options = slice::from_raw_parts(setup.options, setup.option_count);
        let what = CStr::from_ptr(options[0].value).to_str().unwrap().to_owned();
        if what == "none" {
            fail(error, c"made\nnone");
            return ptr::null_mut();
        }
        let count = slice_of(setup.state.ptr, setup.state.len).first().copied().unwrap_or(0);
        Box::into_raw(Box::new(Echo { what, count })).cast()
    }
}

unsafe fn push(sink: *const c::Sink, dts: i64, parts: &[RawBytes]) -> c_int {
    let (parts, part_count) = (parts.as_ptr(), parts.len());
    let struct_size = size_of::<c::Block>() as u32;
    let block = c::Block {
        struct_size,
        flags: BlockFlags::JOIN.0,
        track: 0,
        reserved: [0; 2],
        dts,
        parts,
        part_count,
    };
    // SAFETY: the host lends the sink for the call, and the module the block.
    unsafe { ((*sink).block)((*sink).context, &raw const block) }
}

unsafe extern "C" fn echo(
    remuxer: *mut c_void,
    tag: *const c::Tag,
    sink: *const c::Sink,
    error: *mut c::Error,
) -> c_int {
    // SAFETY: `make` made the remuxer, and the host lends everything else for the call.
    unsafe {
        let (echo, tag) = (&mut *remuxer.cast::<Echo>(), &*tag);
        match &*echo.what {
            "error" => fail(error, c"told to"),
            "silent" => {}
            "unsupported" => return UNSUPPORTED,
            "flood" => while push(sink, tag.dts, &[lend(&[0; 100])]) == OK {},
            _ => {
                echo.count += 1;
                let own = [echo.count];
                let beyond = RawBytes { ptr: tag.payload.ptr.add(tag.payload.len), len: 0 };
                let nothing = RawBytes { ptr: ptr::null(), len: 7 };
                return push(sink, tag.dts, &[tag.payload, lend(&own), nothing, tag.data, beyond]);
            }
        }
        FAILED
    }
}

unsafe extern "C" fn end(remuxer: *mut c_void, sink: *const c::Sink, _: *mut c::Error) -> c_int {
    // SAFETY: as for `echo`.
    unsafe { push(sink, 7, &[lend(&[(*remuxer.cast::<Echo>()).count; 3])]) }
}

unsafe extern "C" fn leave(remuxer: *mut c_void, buffer: *mut u8, size: usize) -> usize {
    assert_eq!(size, MAX_STATE);
    // SAFETY: the host lends a buffer of `size` bytes for the call; `make` made the remuxer.
    unsafe {
        let echo = &*remuxer.cast::<Echo>();
        buffer.write(echo.count);
        if echo.what == "large" { MAX_STATE + 9 } else { 1 }
    }
}

unsafe extern "C" fn drop_echo(remuxer: *mut c_void) {
    // SAFETY: `make` made the remuxer, and the host does not use it again.
    let echo = unsafe { Box::from_raw(remuxer.cast::<Echo>()) };
    FREED.fetch_add(usize::from(echo.what == "count"), Ordering::SeqCst);
}

/// Lists that the table points to; pointers alone cannot be in a static.
struct Lists {
    extensions: [*const c_char; 3],
    choices: [*const c_char; 3],
    options: [c::OptionSpec; 1],
}

// SAFETY: immutable data.
unsafe impl Sync for Lists {}

static LISTS: Lists = Lists {
    extensions: [c"one".as_ptr(), c"two".as_ptr(), ptr::null()],
    choices: [c"x".as_ptr(), c"y".as_ptr(), ptr::null()],
    options: [c::OptionSpec {
        name: c"what".as_ptr(),
        default_value: c"x".as_ptr(),
        doc: c"What it does.".as_ptr(),
        choices: (&raw const LISTS.choices).cast(),
        min: -3,
        max: 9,
        kind: 2,
        variant: 1,
        reserved: [0; 6],
    }],
};
static CODECS: [u32; 3] = [Codec::H264.0, Codec::AV1.0, 0];

static ECHO: c::Format = c::Format {
    struct_size: size_of::<c::Format>() as u32,
    transport: 1,
    reserved: [1, 0, 0],
    name: c"echo".as_ptr(),
    version: c"1".as_ptr(),
    content_type: c"a/b".as_ptr(),
    extensions: (&raw const LISTS.extensions).cast(),
    video_codecs: (&raw const CODECS).cast(),
    audio_codecs: ptr::null(),
    options: (&raw const LISTS.options).cast(),
    option_count: 1,
    set_logger: None,
    remuxer: Some(make),
    tag: Some(echo),
    finish: Some(end),
    state: Some(leave),
    free: Some(drop_echo),
};

fn module(format: &'static c::Format) -> CModule {
    // SAFETY: a table of this program.
    unsafe { CModule::read(format) }.unwrap()
}

fn remuxer(what: &str, state: &[u8]) -> Result<InProcessRemuxer, ModuleFault> {
    let code = InProcessCode { table: table(), c: Some(module(&ECHO)), library: Library::new(None, None) };
    let options = Options::new(vec![("what".into(), what.into())]);
    let mut setup = Setup::new(options, StreamFacts::default());
    setup.state = state.to_vec();
    code.remuxer(&setup)
}

/// Calls a remuxer with a budget of 1000 bytes.
fn output(
    call: impl FnOnce(&mut CallOutput<'_>) -> Result<(), ModuleFault>,
) -> (Vec<OutBlock>, Option<ModuleFault>) {
    let mut blocks = Vec::new();
    let fault = call(&mut CallOutput::new(&mut blocks, 1000)).err();
    (blocks, fault)
}

fn tag() -> Tag {
    Tag::new(TagKind::VIDEO, Millis(-4), Bytes::from_static(b"\x17\x01\0\0\x28abc"))
}

#[test]
fn describes_a_format() {
    let info = module(&ECHO).info().unwrap();
    assert_eq!((&*info.name, &*info.version, &*info.content_type), ("echo", "1", "a/b"));
    assert_eq!(info.extensions, ["one", "two"]);
    assert_eq!((&info.video_codecs[..], info.audio_codecs.len()), (&[Codec::H264.0, Codec::AV1.0][..], 0));
    assert_eq!((info.transport, info.reserved_u8[0]), (1, 1));
    let [option] = &info.options[..] else { panic!("one option") };
    assert_eq!((&*option.name, &*option.default, &*option.doc), ("what", "x", "What it does."));
    assert_eq!(option.choices, ["x", "y"]);
    assert_eq!((option.min, option.max, option.kind, option.variant), (-3, 9, 2, 1));
}

#[test]
fn refuses_a_table_that_is_absent_or_too_short() {
    let short = c::Format { struct_size: 8, ..ECHO };
    // SAFETY: null, and a table that claims less than it has.
    let refused = unsafe { [CModule::read(ptr::null()), CModule::read(&raw const short)] };
    let values = refused.map(|answer| answer.err().map(|error| error.value));
    assert_eq!(values, [Some("NULL".to_owned()), Some("8".to_owned())]);
}

#[test]
fn slices_of_the_payload_are_shared_and_other_bytes_are_copied() {
    let (tag, mut remuxer) = (tag(), remuxer("echo", &[]).unwrap());
    let (blocks, fault) = output(|output| remuxer.tag(&tag, output));
    let (last, _) = output(|output| remuxer.finish(output));
    remuxer.free().unwrap();
    let [block] = &blocks[..] else { panic!("{fault:?}") };
    assert_eq!((block.flags, block.dts), (BlockFlags::JOIN, Millis(-4)));
    let parts: Vec<_> = block.parts.iter().map(|part| &part[..]).collect();
    assert_eq!(parts, [&tag.payload[..], &[1], b"abc"], "without the empty ones");
    assert_eq!(block.parts[0].as_ptr_range(), tag.payload.as_ptr_range());
    assert_eq!(block.parts[2].as_ptr_range(), tag.payload[5..].as_ptr_range());
    assert_eq!((last[0].dts, &last[0].parts[0][..]), (Millis(7), &[1; 3][..]));
}

#[test]
fn a_state_reaches_the_successor() {
    let mut first = remuxer("echo", &[]).unwrap();
    output(|output| first.tag(&tag(), output));
    let state = first.state().unwrap();
    first.free().unwrap();
    let mut second = remuxer("large", &state).unwrap();
    let large = second.state().unwrap();
    second.free().unwrap();
    assert_eq!((state, large[0], large.len()), (vec![1], 1, MAX_STATE + 1));
}

#[test]
fn failures_are_faults_with_the_message() {
    let remux = |message: &str| Some(ModuleFault::Remux { message: message.into() });
    assert_eq!(remuxer("none", &[]).err(), remux("made none"));
    let unsupported = Some(ModuleFault::Unsupported { message: SILENT.into() });
    let rows = [
        ("error", remux("told to"), 0),
        ("silent", remux(SILENT), 0),
        ("unsupported", unsupported, 0),
        ("flood", remux(SILENT), 2),
    ];
    for (what, fault, count) in rows {
        let mut remuxer = remuxer(what, &[]).unwrap();
        let (blocks, got) = output(|output| remuxer.tag(&tag(), output));
        remuxer.free().unwrap();
        assert_eq!((got, blocks.len()), (fault, count), "{what}");
    }
}

#[test]
fn frees_a_remuxer_once() {
    let before = FREED.load(Ordering::SeqCst);
    remuxer("count", &[]).unwrap().free().unwrap();
    assert_eq!(FREED.load(Ordering::SeqCst), before + 1);
}

//! The interface for modules in C: what `include/remuxd_plugin.h` declares, for the host. Since 1.2.
//!
//! The header is the contract; its comments say who owns what. Structs begin with their size and grow at the end.

use std::os::raw::{c_char, c_int, c_void};

/// The symbol under which a module in C exports its [`Format`].
pub const FORMAT_SYMBOL: &str = "remuxd_module_format";

/// `REMUXD_OK`.
pub const OK: c_int = 0;
/// `REMUXD_FAILED`.
pub const FAILED: c_int = 1;
/// `REMUXD_UNSUPPORTED`, of `tag` and `finish`. Since 1.3; an older host takes it for `REMUXD_FAILED`.
pub const UNSUPPORTED: c_int = 2;

/// `remuxd_bytes`: bytes that somebody else owns.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RawBytes {
    /// May be null when `len` is 0.
    pub ptr: *const u8,
    /// How many.
    pub len: usize,
}

/// `remuxd_value`: the value of an option.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Value {
    /// The option's name.
    pub name: *const c_char,
    /// As written in the config, without quotes.
    pub value: *const c_char,
}

/// `remuxd_setup`: what a remuxer is made for.
#[repr(C)]
#[derive(Debug)]
pub struct Setup {
    /// The size of the struct in the host.
    pub struct_size: u32,
    /// The stream's video codec: FourCC, or 0.
    pub video: u32,
    /// The stream's audio codec: FourCC, or 0.
    pub audio: u32,
    /// How long the stream has been live, in milliseconds.
    pub age_ms: u32,
    /// The options' values.
    pub options: *const Value,
    /// How many.
    pub option_count: usize,
    /// What the predecessor said.
    pub state: RawBytes,
}

/// `remuxd_tag`: one unit of a stream.
#[repr(C)]
#[derive(Debug)]
pub struct Tag {
    /// The size of the struct in the host.
    pub struct_size: u32,
    /// FLV tag type.
    pub kind: u8,
    /// [`Packet`](crate::Packet).
    pub packet: u8,
    /// [`TAG_KEYFRAME`](super::TAG_KEYFRAME), [`TAG_DISCONTINUITY`](super::TAG_DISCONTINUITY).
    pub flags: u8,
    /// Since 1.4: [`TRACKS_KNOWN`](super::TRACKS_KNOWN) and others. 0 from an older host.
    pub reserved_u8: u8,
    /// FourCC, big-endian.
    pub codec: u32,
    /// 0.
    pub reserved: u32,
    /// Milliseconds.
    pub dts: i64,
    /// Milliseconds.
    pub composition_offset: i64,
    /// The body of the FLV tag.
    pub payload: RawBytes,
    /// The codec's own data in it.
    pub data: RawBytes,
}

/// `remuxd_block`: one piece of output.
#[repr(C)]
#[derive(Debug)]
pub struct Block {
    /// The size of the struct in the module.
    pub struct_size: u32,
    /// [`BlockFlags`](crate::BlockFlags).
    pub flags: u8,
    /// Which configuration a `CONFIG` block replaces, 0 to 7.
    pub track: u8,
    /// 0.
    pub reserved: [u8; 2],
    /// Milliseconds.
    pub dts: i64,
    /// The bytes, in order.
    pub parts: *const RawBytes,
    /// How many parts.
    pub part_count: usize,
}

/// `remuxd_sink`: takes blocks, for one call.
#[repr(C)]
#[derive(Debug)]
pub struct Sink {
    /// The size of the struct in the host.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// The first argument of `block`.
    pub context: *mut c_void,
    /// Takes a block: [`OK`], or [`FAILED`] when the budget is used up.
    pub block: unsafe extern "C" fn(*mut c_void, *const Block) -> c_int,
}

/// `remuxd_error`: why a call failed.
#[repr(C)]
#[derive(Debug)]
pub struct Error {
    /// The size of the struct in the host.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// One line, which ends in 0.
    pub message: [c_char; 248],
}

/// `remuxd_logger`: where log lines go.
#[repr(C)]
#[derive(Debug)]
pub struct Logger {
    /// The size of the struct in the host.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// The first argument of `log`.
    pub context: *const c_void,
    /// Takes one line: context, [level](crate::log::Level), text.
    pub log: unsafe extern "C" fn(*const c_void, c_int, *const c_char),
}

/// `remuxd_option`: one option of a format.
#[repr(C)]
#[derive(Debug)]
pub struct OptionSpec {
    /// The key.
    pub name: *const c_char,
    /// The default value.
    pub default_value: *const c_char,
    /// One sentence for operators.
    pub doc: *const c_char,
    /// The words of [`OPTION_CHOICE`](super::OPTION_CHOICE); ends in null.
    pub choices: *const *const c_char,
    /// The least value of [`OPTION_INTEGER`](super::OPTION_INTEGER).
    pub min: i64,
    /// The greatest value of [`OPTION_INTEGER`](super::OPTION_INTEGER).
    pub max: i64,
    /// [`OPTION_FLAG`](super::OPTION_FLAG) and others.
    pub kind: u8,
    /// 1 when a viewer may set it.
    pub variant: u8,
    /// 0.
    pub reserved: [u8; 6],
}

/// `remuxd_format`: a format, and its functions. None of them unwinds.
#[repr(C)]
#[derive(Debug)]
pub struct Format {
    /// The size of the struct in the module.
    pub struct_size: u32,
    /// [`Transport`](crate::Transport).
    pub transport: u8,
    /// The first byte, since 1.4: further transports, as in [`RawInfo::reserved_u8`](super::RawInfo::reserved_u8). The
    /// other bytes are 0.
    pub reserved: [u8; 3],
    /// The module's name.
    pub name: *const c_char,
    /// The module's version.
    pub version: *const c_char,
    /// The `Content-Type` of a response.
    pub content_type: *const c_char,
    /// The extensions that it answers; ends in null.
    pub extensions: *const *const c_char,
    /// FourCCs; ends in 0. May be null.
    pub video_codecs: *const u32,
    /// FourCCs; ends in 0. May be null.
    pub audio_codecs: *const u32,
    /// The options that a mount may set.
    pub options: *const OptionSpec,
    /// How many.
    pub option_count: usize,
    /// Gives the module a way to log. Called first, once.
    pub set_logger: Option<unsafe extern "C" fn(*const Logger)>,
    /// Makes a remuxer; null when it cannot.
    pub remuxer: Option<unsafe extern "C" fn(*const Setup, *mut Error) -> *mut c_void>,
    /// Consumes a tag.
    pub tag: Option<unsafe extern "C" fn(*mut c_void, *const Tag, *const Sink, *mut Error) -> c_int>,
    /// The stream ended, or goes over to a successor.
    pub finish: Option<unsafe extern "C" fn(*mut c_void, *const Sink, *mut Error) -> c_int>,
    /// Writes what a successor must know, and returns how many bytes.
    pub state: Option<unsafe extern "C" fn(*mut c_void, *mut u8, usize) -> usize>,
    /// Frees a remuxer.
    pub free: Option<unsafe extern "C" fn(*mut c_void)>,
}

// SAFETY: immutable data that lives as long as its library.
unsafe impl Sync for Format {}

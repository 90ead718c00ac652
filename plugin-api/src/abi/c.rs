//! The interface for modules in C: the host's view of `include/remuxd_plugin.h`. Since 1.2.
//!
//! The header is the contract and documents ownership. Structs begin with their size and grow at the end.

use std::os::raw::{c_char, c_int, c_void};

/// The symbol under which a module in C exports its [`Format`].
pub const FORMAT_SYMBOL: &str = "remuxd_module_format";

/// `REMUXD_OK`.
pub const OK: c_int = 0;
/// `REMUXD_FAILED`.
pub const FAILED: c_int = 1;
/// `REMUXD_UNSUPPORTED`, of `tag` and `finish`. Since 1.3; an older host treats it as `REMUXD_FAILED`.
pub const UNSUPPORTED: c_int = 2;

/// `remuxd_bytes`: borrowed bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RawBytes {
    /// May be null when `len` is 0.
    pub ptr: *const u8,
    /// Length in bytes.
    pub len: usize,
}

/// `remuxd_value`: the value of an option.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Value {
    /// The option's name.
    pub name: *const c_char,
    /// The value as written in the config, without quotes.
    pub value: *const c_char,
}

/// `remuxd_setup`: the options and stream of a new remuxer.
#[repr(C)]
#[derive(Debug)]
pub struct Setup {
    /// The size of the struct in the host.
    pub struct_size: u32,
    /// The stream's video codec: FourCC, or 0.
    pub video: u32,
    /// The stream's audio codec: FourCC, or 0.
    pub audio: u32,
    /// Time that the stream has been live, in milliseconds.
    pub age_ms: u32,
    /// The options' values.
    pub options: *const Value,
    /// Number of values.
    pub option_count: usize,
    /// The predecessor's state; empty for a fresh start.
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
    /// The configuration that a `CONFIG` block replaces, 0 to 7.
    pub track: u8,
    /// 0.
    pub reserved: [u8; 2],
    /// Milliseconds.
    pub dts: i64,
    /// The bytes, in order.
    pub parts: *const RawBytes,
    /// Number of parts.
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
    /// Takes a block. Returns [`OK`], or [`FAILED`] when the call's budget is used up.
    pub block: unsafe extern "C" fn(*mut c_void, *const Block) -> c_int,
}

/// `remuxd_error`: the reason that a call failed.
#[repr(C)]
#[derive(Debug)]
pub struct Error {
    /// The size of the struct in the host.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// One line, ending in 0.
    pub message: [c_char; 248],
}

/// `remuxd_logger`: the host's log.
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
    /// Lower bound of [`OPTION_INTEGER`](super::OPTION_INTEGER), inclusive.
    pub min: i64,
    /// Upper bound of [`OPTION_INTEGER`](super::OPTION_INTEGER), inclusive.
    pub max: i64,
    /// [`OPTION_FLAG`](super::OPTION_FLAG) and others.
    pub kind: u8,
    /// 1 if a viewer may set it.
    pub variant: u8,
    /// The first byte, since 1.5: [`OPTION_SELECTS_TRACK`](super::OPTION_SELECTS_TRACK). The others are 0.
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
    /// The mount extensions that the module serves; ends in null.
    pub extensions: *const *const c_char,
    /// FourCCs; ends in 0. May be null.
    pub video_codecs: *const u32,
    /// FourCCs; ends in 0. May be null.
    pub audio_codecs: *const u32,
    /// The options that a mount may set.
    pub options: *const OptionSpec,
    /// Number of options.
    pub option_count: usize,
    /// Sets the logger. Called once, before any other function.
    pub set_logger: Option<unsafe extern "C" fn(*const Logger)>,
    /// Creates a remuxer, or returns null with the reason in the error.
    pub remuxer: Option<unsafe extern "C" fn(*const Setup, *mut Error) -> *mut c_void>,
    /// Consumes a tag.
    pub tag: Option<unsafe extern "C" fn(*mut c_void, *const Tag, *const Sink, *mut Error) -> c_int>,
    /// Writes what is still buffered: the stream ends or a successor takes over.
    pub finish: Option<unsafe extern "C" fn(*mut c_void, *const Sink, *mut Error) -> c_int>,
    /// Writes the state for a successor and returns its length in bytes.
    pub state: Option<unsafe extern "C" fn(*mut c_void, *mut u8, usize) -> usize>,
    /// Frees a remuxer.
    pub free: Option<unsafe extern "C" fn(*mut c_void)>,
}

// SAFETY: immutable data that lives as long as its library.
unsafe impl Sync for Format {}

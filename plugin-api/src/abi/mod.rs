//! The binary interface. Module authors do not need it: [`export_format!`](crate::export_format) writes the module's side.
//!
//! A module exports two symbols: [`Preflight`], plain C, and abi_stable's library header, which carries the layout
//! of [`ModuleTable`] for checking and leads to the table itself. All calls go through the table.
//!
//! Rules, since 1.0:
//! - A minor version appends functions to the end of [`ModuleTable`], documents how a host treats their absence, and gives
//!   meaning to `reserved` fields, where 0 keeps the meaning of older versions. Nothing else changes.
//! - Open sets (flags, kinds, levels) are integers. A receiver refuses a value that it does not know, unless the field's
//!   documentation states that such values are ignored.
//! - Neither the functions of the table nor those passed to a module unwind.
//! - The receiver owns what a call returns and frees it by dropping it, while the library is mapped. References are lent for
//!   the call.
//!
//! Minor versions: 1.0 is the first. 1.1 appends `state` and `resume`, which hand a stream over to a successor. 1.2 adds
//! modules in C, which export [`c::Format`], plain data, instead of the library header. 1.3 adds [`FAULT_UNSUPPORTED`], which
//! ends a stream that the format cannot carry. 1.4 gives meaning to
//! [`RawTag::reserved_u8`], which tracks the stream has, and to the first byte of [`RawInfo::reserved_u8`], further transports. 1.5 gives
//! meaning to the first byte of [`RawOption::reserved_u8`], options that select a track, and reports the MultichannelConfig of
//! audio as [`Packet::METADATA`](crate::Packet::METADATA). A second [`PREAMBLE`](crate::BlockFlags::PREAMBLE) ends responses.

pub mod c;
pub(crate) mod catch;
mod export;
#[cfg(test)]
mod layout;
mod preflight;

use abi_stable::library::RootModule;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{RResult, RSlice, RStr, RString, RVec};
use abi_stable::StableAbi;

pub use abi_stable::library::LibHeader;
pub use export::{header, table};
pub use preflight::{Preflight, ABI_MAJOR, ABI_MINOR, MAGIC, PREFLIGHT_SYMBOL, RUSTC};

use crate::{SharedBytes, Transport};

/// The functions of a module. Since 1.0 unless a field says otherwise. The host calls them from any thread.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ModuleRef, prefix_fields = ModulePrefix)))]
pub struct ModuleTable {
    /// Sets the logger. Called at most once, before any other function.
    pub set_logger: extern "C" fn(RawLogger),
    /// Describes the format.
    pub info: extern "C" fn() -> RResult<RawInfo, RawFault>,
    /// Creates a remuxer, which the caller owns and passes to `free`.
    pub remuxer: extern "C" fn(&RawSetup<'_>) -> RResult<RawRemuxer, RawFault>,
    /// Feeds a tag to a remuxer. One call at a time for each remuxer.
    pub tag: unsafe extern "C" fn(RawRemuxer, RawTag, RawSink) -> RResult<(), RawFault>,
    /// Ends a remuxer's stream. Threads as for `tag`.
    pub finish: unsafe extern "C" fn(RawRemuxer, RawSink) -> RResult<(), RawFault>,
    /// Frees a remuxer, including one that failed. An error reports a panic during the drop; the remuxer is freed anyway.
    #[sabi(last_prefix_field)]
    pub free: unsafe extern "C" fn(RawRemuxer) -> RResult<(), RawFault>,
    /// Since 1.1. Returns the remuxer's state for its successor, after `finish`. If absent, the state is empty. Threads as for
    /// `tag`.
    pub state: unsafe extern "C" fn(RawRemuxer) -> RResult<RVec<u8>, RawFault>,
    /// Since 1.1. Creates a remuxer that continues from the `state` of another one. If absent, the host calls `remuxer`.
    pub resume: extern "C" fn(&RawSetup<'_>, RSlice<'_, u8>) -> RResult<RawRemuxer, RawFault>,
}

impl RootModule for ModuleRef {
    abi_stable::declare_root_module_statics! {ModuleRef}
    const BASE_NAME: &'static str = "remuxd_module";
    const NAME: &'static str = "remuxd_module";
    const VERSION_STRINGS: VersionStrings = abi_stable::package_version_strings!();
}

/// A pointer to a remuxer. Its owner must pass it to `free` once.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct RawRemuxer(pub *mut ());

/// A [`Tag`](crate::Tag), moved into the module.
#[repr(C)]
#[derive(StableAbi)]
pub struct RawTag {
    /// The body of the FLV tag.
    pub payload: SharedBytes,
    /// Milliseconds.
    pub dts: i64,
    /// Milliseconds.
    pub composition_offset: i64,
    /// FourCC, big-endian.
    pub codec: u32,
    /// Offset of the codec's data in the payload, in bytes.
    pub data_offset: u32,
    /// Length of the codec's data, in bytes.
    pub data_len: u32,
    /// FLV tag type.
    pub kind: u8,
    /// [`Packet`](crate::Packet).
    pub packet: u8,
    /// [`TAG_KEYFRAME`], [`TAG_DISCONTINUITY`].
    pub flags: u8,
    /// [`Tag::tracks`](crate::Tag::tracks), since 1.4: [`TRACKS_KNOWN`], [`TRACKS_AUDIO`] and [`TRACKS_VIDEO`]. A host
    /// before 1.4 sets 0: not reported. Bits that the module does not know are ignored.
    pub reserved_u8: u8,
    /// 0.
    pub reserved: [u64; 4],
}

/// In [`RawTag::flags`]: [`Tag::keyframe`](crate::Tag::keyframe).
pub const TAG_KEYFRAME: u8 = 1;
/// In [`RawTag::flags`]: [`Tag::discontinuity`](crate::Tag::discontinuity).
pub const TAG_DISCONTINUITY: u8 = 2;

/// In [`RawTag::reserved_u8`], since 1.4: the host knows which tracks are present. Without it the other bits have no meaning.
pub const TRACKS_KNOWN: u8 = 1;
/// In [`RawTag::reserved_u8`], since 1.4: the stream has audio.
pub const TRACKS_AUDIO: u8 = 2;
/// In [`RawTag::reserved_u8`], since 1.4: the stream has video.
pub const TRACKS_VIDEO: u8 = 4;

/// A [`Block`](crate::Block), moved into the host.
#[repr(C)]
#[derive(StableAbi)]
pub struct RawBlock {
    /// The bytes, in order.
    pub parts: RVec<SharedBytes>,
    /// Milliseconds.
    pub dts: i64,
    /// [`BlockFlags`](crate::BlockFlags).
    pub flags: u8,
    /// The configuration that a `CONFIG` block replaces, 0 to 7.
    pub track: u8,
    /// 0.
    pub reserved_u8: [u8; 6],
    /// 0.
    pub reserved: [u64; 4],
}

/// The sink for blocks, lent for one call of `tag` or `finish`.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct RawSink {
    /// The first argument of `push`.
    pub context: *mut (),
    /// Takes a block and returns [`PUSH_TAKEN`], [`PUSH_FULL`] or [`PUSH_ABORT`]. Only on the thread of the call.
    pub push: unsafe extern "C" fn(*mut (), RawBlock) -> u8,
    /// 0.
    pub reserved: [usize; 2],
}

/// The host took the block.
pub const PUSH_TAKEN: u8 = 0;
/// The call's byte budget is used up; the block was dropped.
pub const PUSH_FULL: u8 = 1;
/// The module must return at once: it continued after `PUSH_FULL`, or pushed an invalid block.
pub const PUSH_ABORT: u8 = 2;

/// The host's log.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct RawLogger {
    /// The first argument of `log`. Valid while the library is mapped.
    pub context: *const (),
    /// Takes one line: context, [level](crate::log::Level), text. On any thread.
    pub log: unsafe extern "C" fn(*const (), u8, RStr<'_>),
    /// 0.
    pub reserved: [usize; 2],
}

// SAFETY: the host promises that `log` may be called with `context` on any thread.
unsafe impl Send for RawLogger {}
// SAFETY: as above.
unsafe impl Sync for RawLogger {}

/// A [`Setup`](crate::Setup), lent.
#[repr(C)]
#[derive(StableAbi)]
pub struct RawSetup<'a> {
    /// The options' values.
    pub options: RSlice<'a, RawValue<'a>>,
    /// The stream's video codec: FourCC, or 0.
    pub video: u32,
    /// The stream's audio codec: FourCC, or 0.
    pub audio: u32,
    /// Time that the stream has been live, in milliseconds.
    pub age_ms: u32,
    /// 0.
    pub reserved_u32: u32,
    /// 0.
    pub reserved: [u64; 4],
}

/// The value of one option, lent.
#[repr(C)]
#[derive(Clone, Copy, StableAbi)]
pub struct RawValue<'a> {
    /// The option's name.
    pub name: RStr<'a>,
    /// The value as written in the config, without quotes.
    pub value: RStr<'a>,
}

/// A [`FormatInfo`](crate::FormatInfo).
#[repr(C)]
#[derive(StableAbi)]
pub struct RawInfo {
    /// The module's name.
    pub name: RString,
    /// The module's version.
    pub version: RString,
    /// The `Content-Type` of a response.
    pub content_type: RString,
    /// The mount extensions that the module serves, without the dot.
    pub extensions: RVec<RString>,
    /// FourCCs.
    pub video_codecs: RVec<u32>,
    /// FourCCs.
    pub audio_codecs: RVec<u32>,
    /// The options that a mount may set.
    pub options: RVec<RawOption>,
    /// [`Transport`]: the only one for a host before 1.4.
    pub transport: u8,
    /// The first byte, since 1.4: further transports, bit N for the [`Transport`] of number N. A host ignores
    /// those that it does not know. The other bytes are 0.
    pub reserved_u8: [u8; 7],
    /// 0.
    pub reserved: [u64; 8],
}

impl RawInfo {
    /// Returns all transports: `transport`, then the further ones in the order of their numbers.
    pub fn transports(&self) -> impl Iterator<Item = Transport> {
        let (first, further) = (self.transport, self.reserved_u8[0]);
        let is_further = move |number: &u8| *number != first && further >> *number & 1 != 0;
        std::iter::once(first).chain((0..8).filter(is_further)).map(Transport)
    }
}

/// Returns the bits of [`RawInfo::reserved_u8`] for these transports. Transports from number 8 on have none.
pub fn further_transports(transports: &[Transport]) -> u8 {
    transports
        .iter()
        .filter_map(|transport| 1_u8.checked_shl(transport.0.into()))
        .fold(0, |bits, bit| bits | bit)
}

/// An [`OptionSpec`](crate::OptionSpec).
#[repr(C)]
#[derive(StableAbi)]
pub struct RawOption {
    /// The key.
    pub name: RString,
    /// The default value.
    pub default: RString,
    /// One sentence for operators.
    pub doc: RString,
    /// The words of [`OPTION_CHOICE`].
    pub choices: RVec<RString>,
    /// Lower bound of [`OPTION_INTEGER`], inclusive.
    pub min: i64,
    /// Upper bound of [`OPTION_INTEGER`], inclusive.
    pub max: i64,
    /// [`OPTION_FLAG`], [`OPTION_INTEGER`], [`OPTION_CHOICE`] or [`OPTION_TEXT`].
    pub kind: u8,
    /// 1 if a viewer may set it.
    pub variant: u8,
    /// The first byte, since 1.5: [`OPTION_SELECTS_TRACK`]. A host ignores bits that it does not know. The other bytes are 0.
    pub reserved_u8: [u8; 6],
    /// 0.
    pub reserved: [u64; 4],
}

/// In [`RawOption::kind`]: `true` or `false`.
pub const OPTION_FLAG: u8 = 0;
/// In [`RawOption::kind`]: an integer.
pub const OPTION_INTEGER: u8 = 1;
/// In [`RawOption::kind`]: one of [`RawOption::choices`].
pub const OPTION_CHOICE: u8 = 2;
/// In [`RawOption::kind`]: any text.
pub const OPTION_TEXT: u8 = 3;

/// In the first byte of [`RawOption::reserved_u8`], since 1.5, with [`OPTION_INTEGER`]: the value is the number of the track whose
/// tags the remuxer gets. A host before 1.5 passes the value on and feeds track 0.
pub const OPTION_SELECTS_TRACK: u8 = 1;

/// The reason that a call failed.
#[repr(C)]
#[derive(StableAbi)]
pub struct RawFault {
    /// One line for the operator's log.
    pub message: RString,
    /// [`FAULT_ERROR`], [`FAULT_PANIC`], [`FAULT_ABORTED`], [`FAULT_POISONED`] or [`FAULT_UNSUPPORTED`]. The host
    /// treats a kind that it does not know as `FAULT_ERROR`.
    pub kind: u8,
    /// 0.
    pub reserved_u8: [u8; 7],
    /// 0.
    pub reserved: [u64; 4],
}

/// In [`RawFault::kind`]: the module's code returned an error.
pub const FAULT_ERROR: u8 = 0;
/// In [`RawFault::kind`]: the module's code panicked; `message` is the panic's.
pub const FAULT_PANIC: u8 = 1;
/// In [`RawFault::kind`]: the call was ended by [`PUSH_ABORT`].
pub const FAULT_ABORTED: u8 = 2;
/// In [`RawFault::kind`]: an earlier call on this remuxer failed.
pub const FAULT_POISONED: u8 = 3;
/// In [`RawFault::kind`], since 1.3: the stream has no track that the format can carry. The host does not count it as a fault.
pub const FAULT_UNSUPPORTED: u8 = 4;

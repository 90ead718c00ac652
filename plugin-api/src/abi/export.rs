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
    // SAFETY: `LibHeader` returns the reference as the type that it was created for.
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
    create::<F>(setup, &[])
}

extern "C" fn resume<F: Format>(
    setup: &RawSetup<'_>,
    state: RSlice<'_, u8>,
) -> RResult<RawRemuxer, RawFault> {
    create::<F>(setup, state.as_slice())
}

fn create<F: Format>(setup: &RawSetup<'_>, state: &[u8]) -> RResult<RawRemuxer, RawFault> {
    let created = catch(|| {
        let remuxer = F::remuxer(&Setup { state: state.to_vec(), ..setup.into() })?;
        let exposed = Box::new(Exposed { remuxer, poisoned: false });
        Ok::<_, RemuxError>(RawRemuxer(Box::into_raw(exposed).cast()))
    });
    flatten(created).into()
}

/// # Safety
/// `remuxer` comes from [`remuxer::<F>`], was not freed, and no other call uses it. `sink` can be called.
unsafe extern "C" fn tag<F: Format>(
    remuxer: RawRemuxer,
    tag: RawTag,
    sink: RawSink,
) -> RResult<(), RawFault> {
    // SAFETY: the caller upholds this function's contract, which is the same.
    unsafe { call::<F>(remuxer, |remuxer| remuxer.tag(&tag.into(), &mut LentSink(sink))) }
}

/// # Safety
/// As for [`tag`].
unsafe extern "C" fn finish<F: Format>(remuxer: RawRemuxer, sink: RawSink) -> RResult<(), RawFault> {
    // SAFETY: the caller upholds this function's contract, which is the same.
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
    // SAFETY: the caller upholds this function's contract, which is the same.
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
            OptionKind::Track => (OPTION_INTEGER, 0, u8::MAX.into(), RVec::new()),
        };
        let mut reserved_u8 = [0; 6];
        if spec.kind == OptionKind::Track {
            reserved_u8[0] = OPTION_SELECTS_TRACK;
        }
        RawOption {
            name: spec.name.into(),
            default: spec.default.into(),
            doc: spec.doc.into(),
            choices,
            min,
            max,
            kind,
            variant: spec.variant.into(),
            reserved_u8,
            reserved: [0; 4],
        }
    }
}

fn strings(words: &[&str]) -> RVec<RString> {
    words.iter().map(|&word| word.into()).collect()
}

#[cfg(test)]
mod tests;

//! A module's side of the ABI, for any [`Format`].

use abi_stable::library::{CheckTypeLayout, LibHeader, RootModuleResult};
use abi_stable::marker_type::ErasedPrefix;
use abi_stable::prefix_type::{PrefixRefTrait, WithMetadata};
use abi_stable::staticref;
use abi_stable::std_types::{RErr, ROk, RResult, RString, RVec};

use super::catch::{catch, Aborted, Unwound};
use super::*;
use crate::{
    log, Block, Codec, Format, FormatInfo, Full, Millis, OptionKind, OptionSpec, Options, Packet, RemuxError,
    Remuxer, Setup, Sink, StreamFacts, Tag, TagKind,
};

/// abi_stable's header of a module that exports the format `F`.
pub const fn header<F: Format>() -> LibHeader {
    // SAFETY: `constructor` returns a `ModuleRef`.
    unsafe { LibHeader::from_constructor::<ModuleRef>(constructor::<F>, CheckTypeLayout::Yes) }
}

extern "C" fn constructor<F: Format>() -> RootModuleResult {
    // SAFETY: `LibHeader` hands the reference out as the type that it was made for.
    ROk(unsafe { table::<F>().to_prefix_ref().cast::<ErasedPrefix>() })
}

/// The functions of the format `F`.
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
    }));
}

/// A remuxer as the host holds it.
struct Held<R> {
    remuxer: R,
    /// A call failed, or is under way.
    poisoned: bool,
}

extern "C" fn set_logger(logger: RawLogger) {
    log::set(logger);
}

extern "C" fn info<F: Format>() -> RResult<RawInfo, RawFault> {
    catch(|| F::info().into()).map_err(RawFault::from).into()
}

extern "C" fn remuxer<F: Format>(setup: &RawSetup<'_>) -> RResult<RawRemuxer, RawFault> {
    let made = catch(|| {
        let remuxer = F::remuxer(&setup.into())?;
        let held = Box::new(Held { remuxer, poisoned: false });
        Ok::<_, RemuxError>(RawRemuxer(Box::into_raw(held).cast()))
    });
    flatten(made).into()
}

/// # Safety
/// `remuxer` comes from [`remuxer::<F>`], was not freed, and nobody else uses it now. `sink` can be called.
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
/// As for [`tag`]; `remuxer` is not used again.
unsafe extern "C" fn free<F: Format>(remuxer: RawRemuxer) -> RResult<(), RawFault> {
    // SAFETY: the pointer came from `Box::into_raw` in `remuxer::<F>`.
    let held = unsafe { Box::from_raw(remuxer.0.cast::<Held<F::Remuxer>>()) };
    catch(|| drop(held)).map_err(RawFault::from).into()
}

/// # Safety
/// As for [`tag`].
unsafe fn call<F: Format>(
    remuxer: RawRemuxer,
    call: impl FnOnce(&mut F::Remuxer) -> Result<(), RemuxError>,
) -> RResult<(), RawFault> {
    // SAFETY: the pointer came from `Box::into_raw` in `remuxer::<F>`; nobody else uses it now.
    let held = unsafe { &mut *remuxer.0.cast::<Held<F::Remuxer>>() };
    if held.poisoned {
        return RErr(RawFault::new(FAULT_POISONED, "an earlier call failed"));
    }
    held.poisoned = true;
    let answer = flatten(catch(|| call(&mut held.remuxer)));
    held.poisoned = answer.is_err();
    answer.into()
}

fn flatten<T>(answer: Result<Result<T, RemuxError>, Unwound>) -> Result<T, RawFault> {
    answer?.map_err(RawFault::from)
}

/// The host's sink, for one call.
struct LentSink(RawSink);

impl Sink for LentSink {
    fn block(&mut self, block: Block) -> Result<(), Full> {
        // SAFETY: the host lent the sink for the call that we are in.
        match unsafe { (self.0.push)(self.0.context, block.into()) } {
            PUSH_TAKEN => Ok(()),
            PUSH_FULL => Err(Full),
            // No hook runs, so nothing is printed: this is no panic of the author's code.
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
        RawFault::new(FAULT_ERROR, error.to_string())
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
    use super::*;

    #[test]
    fn exports_under_the_name_that_abi_stable_looks_up() {
        assert_eq!(abi_stable::library::ROOT_MODULE_LOADER_NAME, "_1as_0lib_1header_0root_bmodule_bloader");
    }
}

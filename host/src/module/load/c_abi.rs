//! Modules in C: an adapter from their table of functions to that of Rust modules.
//!
//! Everything is lent for the duration of a call, in both directions: the host copies the parts of a block, except those
//! that lie in the payload of the current tag, which become slices of it. The rest of the host sees a [`ModuleRef`]
//! whose functions call C, and a [`RawInfo`]. Only making a remuxer needs the module itself: [`CModule::remuxer`].

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem;
use std::ptr;
use std::slice;

use abi_stable::prefix_type::WithMetadata;
use abi_stable::staticref;
use abi_stable::std_types::{RErr, ROk, RResult, RSlice, RString, RVec};
use remuxd_plugin_api::SharedBytes;
use remuxd_plugin_api::abi::c::{self, FAILED, FORMAT_SYMBOL, OK, RawBytes, UNSUPPORTED};
use remuxd_plugin_api::abi::{
    FAULT_ERROR, FAULT_UNSUPPORTED, ModuleRef, ModuleTable, PUSH_TAKEN, RawBlock, RawFault, RawInfo,
    RawLogger, RawOption, RawRemuxer, RawSetup, RawSink, RawTag,
};

use crate::module::description::DescriptionError;
use crate::module::output::MAX_STATE;

/// Message of a fault that has none.
const SILENT: &str = "failed without a message";

/// A module in C. Valid while its library is mapped.
#[derive(Clone, Copy)]
pub struct CModule(&'static c::Format);

/// A remuxer of a module in C.
struct CRemuxer {
    format: &'static c::Format,
    remuxer: *mut c_void,
}

impl CModule {
    /// Reads the table that the library exports.
    ///
    /// # Safety
    /// `format` points to as many bytes as its own `struct_size` says, and lives as long as the library, which outlives
    /// the answer.
    ///
    /// # Errors
    /// A required field is missing.
    pub unsafe fn read(format: *const c::Format) -> Result<CModule, DescriptionError> {
        if format.is_null() {
            return Err(DescriptionError { field: FORMAT_SYMBOL.to_owned(), value: "NULL".to_owned() });
        }
        // SAFETY: the size is the first field.
        let size = unsafe { (*format).struct_size };
        if (size as usize) < mem::size_of::<c::Format>() {
            return Err(wrong("struct_size", &size.to_string()));
        }
        // SAFETY: all fields that we know are there.
        let format = unsafe { &*format };
        let functions = [
            ("remuxer", format.remuxer.is_none()),
            ("tag", format.tag.is_none()),
            ("free", format.free.is_none()),
        ];
        match functions.iter().find(|(_, missing)| *missing) {
            Some((name, _)) => Err(wrong(name, "NULL")),
            None => Ok(CModule(format)),
        }
    }

    /// Passes the module a logger that lives as long as the library.
    pub fn set_logger(self, logger: &c::Logger) {
        if let Some(set_logger) = self.0.set_logger {
            // SAFETY: the module's function, with a logger that is lent for the call.
            unsafe { set_logger(logger) }
        }
    }

    /// Reads the module's description.
    ///
    /// # Errors
    /// A required pointer is null.
    pub fn info(self) -> Result<RawInfo, DescriptionError> {
        let format = self.0;
        // SAFETY: all pointers of the table are null, or lead to what the header says, as long as the library lives.
        unsafe {
            let options = slice_of(format.options, format.option_count);
            let mut reserved_u8 = [0; 7];
            reserved_u8[0] = format.reserved[0];
            Ok(RawInfo {
                name: text("name", format.name)?,
                version: text("version", format.version)?,
                content_type: text("content_type", format.content_type)?,
                extensions: texts("extensions", format.extensions)?,
                video_codecs: codecs(format.video_codecs),
                audio_codecs: codecs(format.audio_codecs),
                options: options.iter().map(|one| option(one)).collect::<Result<_, _>>()?,
                transport: format.transport,
                reserved_u8,
                reserved: [0; 8],
            })
        }
    }

    /// Makes a remuxer for the functions of [`table`].
    pub fn remuxer(self, setup: &RawSetup<'_>, state: &[u8]) -> RResult<RawRemuxer, RawFault> {
        let strings: Vec<_> =
            setup.options.iter().map(|option| (c_string(&option.name), c_string(&option.value))).collect();
        let options: Vec<_> = strings
            .iter()
            .map(|(name, value)| c::Value { name: name.as_ptr(), value: value.as_ptr() })
            .collect();
        let setup = c::Setup {
            struct_size: size_of::<c::Setup>() as u32,
            video: setup.video,
            audio: setup.audio,
            age_ms: setup.age_ms,
            options: options.as_ptr(),
            option_count: options.len(),
            state: lend(state),
        };
        let mut error = no_error();
        let Some(make) = self.0.remuxer else { return RErr(fault(&error, SILENT)) };
        // SAFETY: the module's function, with what the header says.
        let remuxer = unsafe { make(&raw const setup, &raw mut error) };
        if remuxer.is_null() {
            return RErr(fault(&error, "remuxer() answered NULL without a message"));
        }
        ROk(RawRemuxer(Box::into_raw(Box::new(CRemuxer { format: self.0, remuxer })).cast()))
    }
}

/// The functions of all modules in C, for remuxers that [`CModule::remuxer`] made.
pub fn table() -> ModuleRef {
    ModuleRef(Functions::TABLE.as_prefix())
}

struct Functions;

impl Functions {
    staticref!(const TABLE: WithMetadata<ModuleTable> = WithMetadata::new(ModuleTable {
        set_logger: unused_set_logger,
        info: unused_info,
        remuxer: unused_remuxer,
        tag,
        finish,
        free,
        state,
        resume: unused_resume,
    }));
}

// Functions of the table that are never called for a module in C.

extern "C" fn unused_set_logger(_: RawLogger) {}

extern "C" fn unused_info() -> RResult<RawInfo, RawFault> {
    RErr(fault(&no_error(), SILENT))
}

extern "C" fn unused_remuxer(_: &RawSetup<'_>) -> RResult<RawRemuxer, RawFault> {
    RErr(fault(&no_error(), SILENT))
}

extern "C" fn unused_resume(_: &RawSetup<'_>, _: RSlice<'_, u8>) -> RResult<RawRemuxer, RawFault> {
    RErr(fault(&no_error(), SILENT))
}

/// # Safety
/// `remuxer` comes from [`CModule::remuxer`], was not freed, and nobody else uses it now. `sink` can be called.
unsafe extern "C" fn tag(remuxer: RawRemuxer, tag: RawTag, sink: RawSink) -> RResult<(), RawFault> {
    let start = (tag.data_offset as usize).min(tag.payload.len());
    let end = start.saturating_add(tag.data_len as usize).min(tag.payload.len());
    let lent = c::Tag {
        struct_size: size_of::<c::Tag>() as u32,
        kind: tag.kind,
        packet: tag.packet,
        flags: tag.flags,
        reserved_u8: tag.reserved_u8,
        codec: tag.codec,
        reserved: 0,
        dts: tag.dts,
        composition_offset: tag.composition_offset,
        payload: lend(&tag.payload),
        data: lend(&tag.payload[start..end]),
    };
    let call = |format: &c::Format, remuxer, sink: &c::Sink, error: &mut c::Error| {
        // SAFETY: the module's function, with what the header says.
        format.tag.map_or(FAILED, |call| unsafe { call(remuxer, &raw const lent, sink, error) })
    };
    // SAFETY: as this function's.
    unsafe { call_with_sink(remuxer, sink, &tag.payload, call) }
}

/// # Safety
/// As for [`tag`].
unsafe extern "C" fn finish(remuxer: RawRemuxer, sink: RawSink) -> RResult<(), RawFault> {
    let call = |format: &c::Format, remuxer, sink: &c::Sink, error: &mut c::Error| {
        // SAFETY: the module's function, with what the header says.
        format.finish.map_or(OK, |call| unsafe { call(remuxer, sink, error) })
    };
    // SAFETY: as this function's.
    unsafe { call_with_sink(remuxer, sink, &SharedBytes::default(), call) }
}

/// # Safety
/// As for [`tag`].
unsafe extern "C" fn state(remuxer: RawRemuxer) -> RResult<RVec<u8>, RawFault> {
    // SAFETY: as this function's.
    let CRemuxer { format, remuxer } = unsafe { &*remuxer.0.cast::<CRemuxer>() };
    let Some(call) = format.state else { return ROk(RVec::new()) };
    let mut state = vec![0; MAX_STATE];
    // SAFETY: the module's function, with a buffer of the length that it is passed.
    let size = unsafe { call(*remuxer, state.as_mut_ptr(), state.len()) };
    // A size above the limit is judged by the caller; the bytes beyond are not there.
    state.resize(size.min(MAX_STATE + 1), 0);
    ROk(state.into())
}

/// # Safety
/// As for [`tag`]; `remuxer` is not used again.
unsafe extern "C" fn free(remuxer: RawRemuxer) -> RResult<(), RawFault> {
    // SAFETY: the pointer came from `Box::into_raw` in `CModule::remuxer`.
    let CRemuxer { format, remuxer } = *unsafe { Box::from_raw(remuxer.0.cast::<CRemuxer>()) };
    if let Some(call) = format.free {
        // SAFETY: the module's function, with what it made.
        unsafe { call(remuxer) }
    }
    ROk(())
}

/// # Safety
/// As for [`tag`].
unsafe fn call_with_sink(
    remuxer: RawRemuxer,
    sink: RawSink,
    payload: &SharedBytes,
    call: impl FnOnce(&c::Format, *mut c_void, &c::Sink, &mut c::Error) -> c_int,
) -> RResult<(), RawFault> {
    // SAFETY: as this function's.
    let CRemuxer { format, remuxer } = unsafe { &*remuxer.0.cast::<CRemuxer>() };
    let lent = SinkContext { sink, payload };
    let sink = c::Sink {
        struct_size: size_of::<c::Sink>() as u32,
        reserved: 0,
        context: ptr::from_ref(&lent).cast_mut().cast(),
        block: on_block,
    };
    let mut error = no_error();
    match call(format, *remuxer, &sink, &mut error) {
        OK => ROk(()),
        UNSUPPORTED => RErr(RawFault { kind: FAULT_UNSUPPORTED, ..fault(&error, SILENT) }),
        _ => RErr(fault(&error, SILENT)),
    }
}

/// The context of one call's sink.
struct SinkContext<'a> {
    sink: RawSink,
    /// Payload of the current tag.
    payload: &'a SharedBytes,
}

/// # Safety
/// `context` is the [`SinkContext`] of the current call; `block` is what the header says.
unsafe extern "C" fn on_block(context: *mut c_void, block: *const c::Block) -> c_int {
    // SAFETY: as this function's.
    let (lent, block) = unsafe { (&*context.cast::<SinkContext<'_>>(), &*block) };
    if (block.struct_size as usize) < size_of::<c::Block>() {
        return FAILED;
    }
    // SAFETY: as this function's.
    let parts = unsafe { slice_of(block.parts, block.part_count) };
    // SAFETY: as this function's.
    let parts = parts.iter().map(|part| unsafe { take(*part, lent.payload) }).collect();
    let block = RawBlock {
        parts,
        dts: block.dts,
        flags: block.flags,
        track: block.track,
        reserved_u8: [0; 6],
        reserved: [0; 4],
    };
    // SAFETY: the host lent the sink for the call that we are in. Its function does not unwind.
    let answer = unsafe { (lent.sink.push)(lent.sink.context, block) };
    if answer == PUSH_TAKEN { OK } else { FAILED }
}

/// Returns a slice of the payload if `part` lies in it, otherwise a copy.
///
/// # Safety
/// `part` is readable.
unsafe fn take(part: RawBytes, payload: &SharedBytes) -> SharedBytes {
    // SAFETY: as this function's.
    let bytes = unsafe { slice_of(part.ptr, part.len) };
    let lent = payload.as_ptr_range();
    let start = (bytes.as_ptr() as usize).wrapping_sub(lent.start as usize);
    if !bytes.is_empty() && start < payload.len() && bytes.len() <= payload.len() - start {
        return payload.slice(start..start + bytes.len());
    }
    bytes.to_vec().into()
}

fn lend(bytes: &[u8]) -> RawBytes {
    RawBytes { ptr: bytes.as_ptr(), len: bytes.len() }
}

/// Cuts the text off at a NUL, which a C string cannot contain.
fn c_string(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

fn no_error() -> c::Error {
    c::Error { struct_size: size_of::<c::Error>() as u32, reserved: 0, message: [0; 248] }
}

/// The module's error message, or `otherwise`.
fn fault(error: &c::Error, otherwise: &str) -> RawFault {
    let text: Vec<u8> =
        error.message.iter().map(|&byte| byte.cast_unsigned()).take_while(|&byte| byte != 0).collect();
    let message = match &*String::from_utf8_lossy(&text) {
        "" => otherwise.into(),
        text => RString::from(text),
    };
    RawFault { message, kind: FAULT_ERROR, reserved_u8: [0; 7], reserved: [0; 4] }
}

/// An error about a field of the table.
fn wrong(field: &str, value: &str) -> DescriptionError {
    DescriptionError { field: format!("{FORMAT_SYMBOL}.{field}"), value: value.to_owned() }
}

/// # Safety
/// `start` is null, or that of `len` values.
unsafe fn slice_of<'a, T>(start: *const T, len: usize) -> &'a [T] {
    if start.is_null() || len == 0 || len > isize::MAX as usize / size_of::<T>().max(1) {
        return &[];
    }
    // SAFETY: as this function's.
    unsafe { slice::from_raw_parts(start, len) }
}

/// # Safety
/// `text` is null or a C string.
unsafe fn text(field: &str, text: *const c_char) -> Result<RString, DescriptionError> {
    if text.is_null() {
        return Err(wrong(field, "NULL"));
    }
    // SAFETY: as this function's.
    Ok(unsafe { CStr::from_ptr(text) }.to_string_lossy().as_ref().into())
}

/// # Safety
/// `list` is null, or a list of C strings that ends in null.
unsafe fn texts(field: &str, list: *const *const c_char) -> Result<RVec<RString>, DescriptionError> {
    let mut texts = RVec::new();
    // SAFETY: as this function's; the end of the list is not passed.
    unsafe {
        let mut next = list;
        while !next.is_null() && !(*next).is_null() {
            texts.push(text(field, *next)?);
            next = next.add(1);
        }
    }
    Ok(texts)
}

/// # Safety
/// `list` is null, or a list of codecs that ends in 0.
unsafe fn codecs(list: *const u32) -> RVec<u32> {
    let mut codecs = RVec::new();
    // SAFETY: as this function's; the end of the list is not passed.
    unsafe {
        let mut next = list;
        while !next.is_null() && *next != 0 {
            codecs.push(*next);
            next = next.add(1);
        }
    }
    codecs
}

/// # Safety
/// The option is as the header documents it.
unsafe fn option(option: &c::OptionSpec) -> Result<RawOption, DescriptionError> {
    // SAFETY: as this function's.
    unsafe {
        Ok(RawOption {
            name: text("options.name", option.name)?,
            default: text("options.default_value", option.default_value)?,
            doc: text("options.doc", option.doc)?,
            choices: texts("options.choices", option.choices)?,
            min: option.min,
            max: option.max,
            kind: option.kind,
            variant: option.variant,
            reserved_u8: option.reserved,
            reserved: [0; 4],
        })
    }
}

#[cfg(test)]
mod tests;

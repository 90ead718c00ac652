//! In-process code: remuxers of a library that is mapped into this process.
//!
//! The host lends each call a sink, which accepts blocks up to a byte budget, then returns full, and aborts a module that
//! goes on. Bytes that the module made become [`Bytes`] that keep its library mapped; bytes of a tag's payload become
//! slices of it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use abi_stable::std_types::RResult;
use bytes::Bytes;
use remuxd_plugin_api::abi::{
    ModuleRef, PUSH_ABORT, PUSH_FULL, PUSH_TAKEN, RawBlock, RawFault, RawRemuxer, RawSetup, RawSink, RawTag,
    RawValue, TAG_DISCONTINUITY, TAG_KEYFRAME,
};
use remuxd_plugin_api::{Setup, SharedBytes};

use super::c_abi::CModule;
use super::library::Library;
use crate::media::Tag;
use crate::module::fault::ModuleFault;
use crate::module::output::{BlockHead, CallOutput};

/// Number of times that the sink returns full before it aborts the call.
const MAX_REFUSED: u32 = 16;

/// The code of a module in this process.
#[derive(Clone)]
pub struct InProcessCode {
    pub table: ModuleRef,
    /// For a module in C, the table that `table`'s functions call.
    pub c: Option<CModule>,
    pub library: Arc<Library>,
}

/// A remuxer in this process. [`free`](Self::free) must be called exactly once, as the last call.
pub struct InProcessRemuxer {
    remuxer: RawRemuxer,
    code: InProcessCode,
}

// SAFETY: a remuxer may be called from any thread, one at a time; `&mut self` ensures that.
unsafe impl Send for InProcessRemuxer {}

impl InProcessCode {
    /// Makes a remuxer.
    ///
    /// # Errors
    /// The module's own error, or its panic.
    pub fn remuxer(&self, setup: &Setup) -> Result<InProcessRemuxer, ModuleFault> {
        let values: Vec<_> = setup
            .options
            .iter()
            .map(|(name, value)| RawValue { name: name.into(), value: value.into() })
            .collect();
        let raw = RawSetup {
            options: values.as_slice().into(),
            video: setup.stream.video.0,
            audio: setup.stream.audio.0,
            age_ms: setup.stream.age_ms,
            reserved_u32: 0,
            reserved: [0; 4],
        };
        let state = setup.state.as_slice();
        let remuxer = match (self.c, self.table.resume()) {
            (Some(module), _) => module.remuxer(&raw, state),
            (None, Some(resume)) if !state.is_empty() => resume(&raw, state.into()),
            _ => self.table.remuxer()(&raw),
        };
        Ok(InProcessRemuxer { remuxer: remuxer.into_result()?, code: self.clone() })
    }
}

impl InProcessRemuxer {
    pub fn tag(&mut self, tag: &Tag, output: &mut CallOutput<'_>) -> Result<(), ModuleFault> {
        let (call, raw) = (self.code.table.tag(), raw_tag(tag));
        // SAFETY: the remuxer is alive and only ours, the sink lives for the call.
        self.call(output, |remuxer, sink| unsafe { call(remuxer, raw, sink) })
    }

    pub fn finish(&mut self, output: &mut CallOutput<'_>) -> Result<(), ModuleFault> {
        let call = self.code.table.finish();
        // SAFETY: as in `tag`.
        self.call(output, |remuxer, sink| unsafe { call(remuxer, sink) })
    }

    pub fn state(&mut self) -> Result<Vec<u8>, ModuleFault> {
        let Some(call) = self.code.table.state() else { return Ok(Vec::new()) };
        // SAFETY: as in `tag`.
        let state = unsafe { call(self.remuxer) }.into_result()?;
        // Copied, so that the module frees its allocation.
        Ok(state.to_vec())
    }

    /// Frees the remuxer, even if its `Drop` panics, which is the fault.
    pub fn free(&mut self) -> Result<(), ModuleFault> {
        // SAFETY: the remuxer is alive and only ours, and not used again; the library is dropped after this.
        unsafe { self.code.table.free()(self.remuxer) }.into_result().map_err(ModuleFault::from)
    }

    /// The library that the remuxer holds.
    #[cfg(test)]
    pub fn library(&self) -> std::sync::Weak<Library> {
        Arc::downgrade(&self.code.library)
    }

    fn call(
        &mut self,
        output: &mut CallOutput<'_>,
        call: impl FnOnce(RawRemuxer, RawSink) -> RResult<(), RawFault>,
    ) -> Result<(), ModuleFault> {
        let mut state = CallSink { output, library: &self.code.library, refused: 0, panic: None };
        let sink = RawSink { context: (&raw mut state).cast(), push: on_push, reserved: [0; 2] };
        let result = call(self.remuxer, sink).into_result();
        if let Some(payload) = state.panic {
            resume_unwind(payload);
        }
        result.map_err(ModuleFault::from)
    }
}

fn raw_tag(tag: &Tag) -> RawTag {
    let keyframe = if tag.header.keyframe { TAG_KEYFRAME } else { 0 };
    let discontinuity = if tag.discontinuity { TAG_DISCONTINUITY } else { 0 };
    RawTag {
        payload: tag.payload.clone().into(),
        dts: tag.dts.0,
        composition_offset: tag.header.composition_offset.0,
        codec: tag.header.codec.0,
        data_offset: tag.header.data_offset,
        data_len: tag.header.data_len,
        kind: tag.kind.0,
        packet: tag.header.packet.0,
        flags: keyframe | discontinuity,
        reserved_u8: tag.tracks.0,
        reserved: [0; 4],
    }
}

/// The sink of one call.
struct CallSink<'a, 'o> {
    output: &'a mut CallOutput<'o>,
    library: &'a Arc<Library>,
    refused: u32,
    /// A panic of the host's own code, to be resumed after the module has returned.
    panic: Option<Box<dyn Any + Send>>,
}

/// Does not unwind.
///
/// # Safety
/// `context` is the [`CallSink`] of the call under way.
unsafe extern "C" fn on_push(context: *mut (), block: RawBlock) -> u8 {
    // SAFETY: the sink outlives the call, and only the module's thread of the call uses it.
    let sink = unsafe { &mut *context.cast::<CallSink<'_, '_>>() };
    catch_unwind(AssertUnwindSafe(|| sink.take(block))).unwrap_or_else(|payload| {
        sink.panic.get_or_insert(payload);
        PUSH_ABORT
    })
}

impl CallSink<'_, '_> {
    fn take(&mut self, block: RawBlock) -> u8 {
        let RawBlock { parts, dts, flags, track, .. } = block;
        let (count, bytes) = (parts.len(), parts.iter().map(|part| part.len()).sum());
        let library = self.library;
        let own = || {
            let parts = parts.into_iter().filter(|part| !part.is_empty());
            parts.map(|part| pinned(part, library)).collect()
        };
        if self.output.take(BlockHead { flags, track, dts }, count, bytes, own) {
            return PUSH_TAKEN;
        }
        self.refused += 1;
        if self.refused <= MAX_REFUSED { PUSH_FULL } else { PUSH_ABORT }
    }
}

/// Converts a part: the host's own bytes as they are, a module's pinned to its library.
fn pinned(part: SharedBytes, library: &Arc<Library>) -> Bytes {
    match part.local() {
        Some(bytes) => bytes,
        None => Bytes::from_owner(Pinned { part, _library: library.clone() }),
    }
}

/// Bytes that code of the library frees. Fields drop in this order.
struct Pinned {
    part: SharedBytes,
    _library: Arc<Library>,
}

impl AsRef<[u8]> for Pinned {
    fn as_ref(&self) -> &[u8] {
        &self.part
    }
}

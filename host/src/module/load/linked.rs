//! Linked: a remuxer of a library that is mapped into this process.
//!
//! The host lends each call a sink. It takes blocks up to a byte budget, then answers full, and aborts a module
//! that goes on. Bytes that the module made come out as [`Bytes`] that keep its library mapped; bytes that it got
//! with a tag come out as slices of the tag's own.

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
use super::loader::Library;
use crate::media::Tag;
use crate::module::fault::ModuleFault;
use crate::module::intake::{BlockHead, Intake};

/// How often a module is told that the sink is full before its call is ended.
const MAX_REFUSED: u32 = 16;

/// The code of a module in this process.
#[derive(Clone)]
pub struct Code {
    pub table: ModuleRef,
    /// What the table's functions call, when it is written in C.
    pub c: Option<CModule>,
    pub library: Arc<Library>,
}

/// A remuxer in this process. [`free`](Self::free) must be called once, and nothing after it.
pub struct Linked {
    remuxer: RawRemuxer,
    code: Code,
}

// SAFETY: a remuxer may be called from any thread, one at a time; `&mut self` sees to that.
unsafe impl Send for Linked {}

impl Code {
    /// Makes a remuxer.
    ///
    /// # Errors
    /// The module's own error, or its panic.
    pub fn remuxer(&self, setup: &Setup) -> Result<Linked, ModuleFault> {
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
        Ok(Linked { remuxer: remuxer.into_result()?, code: self.clone() })
    }
}

impl Linked {
    pub fn tag(&mut self, tag: &Tag, intake: &mut Intake<'_>) -> Result<(), ModuleFault> {
        let (call, raw) = (self.code.table.tag(), raw_tag(tag));
        // SAFETY: the remuxer is alive and only ours, the sink lives for the call.
        self.call(intake, |remuxer, sink| unsafe { call(remuxer, raw, sink) })
    }

    pub fn finish(&mut self, intake: &mut Intake<'_>) -> Result<(), ModuleFault> {
        let call = self.code.table.finish();
        // SAFETY: as in `tag`.
        self.call(intake, |remuxer, sink| unsafe { call(remuxer, sink) })
    }

    pub fn state(&mut self) -> Result<Vec<u8>, ModuleFault> {
        let Some(call) = self.code.table.state() else { return Ok(Vec::new()) };
        // SAFETY: as in `tag`.
        let state = unsafe { call(self.remuxer) }.into_result()?;
        // Copied: the module's allocation goes back to it.
        Ok(state.to_vec())
    }

    /// Frees the remuxer. A fault says that it panicked meanwhile; it is gone all the same.
    pub fn free(&mut self) -> Result<(), ModuleFault> {
        // SAFETY: the remuxer is alive and only ours, and not used again; the library is dropped after this.
        unsafe { self.code.table.free()(self.remuxer) }.into_result().map_err(ModuleFault::from)
    }

    /// What the remuxer holds while it is alive.
    #[cfg(test)]
    pub fn library(&self) -> std::sync::Weak<Library> {
        Arc::downgrade(&self.code.library)
    }

    fn call(
        &mut self,
        intake: &mut Intake<'_>,
        call: impl FnOnce(RawRemuxer, RawSink) -> RResult<(), RawFault>,
    ) -> Result<(), ModuleFault> {
        let mut lent = Lent { intake, library: &self.code.library, refused: 0, panic: None };
        let sink = RawSink { context: (&raw mut lent).cast(), push: on_push, reserved: [0; 2] };
        let answer = call(self.remuxer, sink).into_result();
        if let Some(payload) = lent.panic {
            resume_unwind(payload);
        }
        answer.map_err(ModuleFault::from)
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
struct Lent<'a, 'o> {
    intake: &'a mut Intake<'o>,
    library: &'a Arc<Library>,
    refused: u32,
    /// A panic of the host's own code, on its way around the module.
    panic: Option<Box<dyn Any + Send>>,
}

/// Does not unwind.
///
/// # Safety
/// `context` is the [`Lent`] of the call under way.
unsafe extern "C" fn on_push(context: *mut (), block: RawBlock) -> u8 {
    // SAFETY: the sink outlives the call, and only the module's thread of the call uses it.
    let lent = unsafe { &mut *context.cast::<Lent<'_, '_>>() };
    catch_unwind(AssertUnwindSafe(|| lent.take(block))).unwrap_or_else(|payload| {
        lent.panic.get_or_insert(payload);
        PUSH_ABORT
    })
}

impl Lent<'_, '_> {
    fn take(&mut self, block: RawBlock) -> u8 {
        let RawBlock { parts, dts, flags, track, .. } = block;
        let (count, bytes) = (parts.len(), parts.iter().map(|part| part.len()).sum());
        let library = self.library;
        let own = || {
            let parts = parts.into_iter().filter(|part| !part.is_empty());
            parts.map(|part| pinned(part, library)).collect()
        };
        if self.intake.take(BlockHead { flags, track, dts }, count, bytes, own) {
            return PUSH_TAKEN;
        }
        self.refused += 1;
        if self.refused <= MAX_REFUSED { PUSH_FULL } else { PUSH_ABORT }
    }
}

/// The host's own bytes as they were; a module's with its library.
fn pinned(part: SharedBytes, library: &Arc<Library>) -> Bytes {
    match part.local() {
        Some(bytes) => bytes,
        None => Bytes::from_owner(Pinned { part, _library: library.clone() }),
    }
}

/// Bytes whose release is code of the library. Fields drop in this order.
struct Pinned {
    part: SharedBytes,
    _library: Arc<Library>,
}

impl AsRef<[u8]> for Pinned {
    fn as_ref(&self) -> &[u8] {
        &self.part
    }
}

//! Catching panics, so that none crosses into another library.

use std::any::Any;
use std::mem;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// The reason that a call did not return.
pub(crate) enum Unwound {
    /// It panicked with this message.
    Panicked(String),
    /// The sink ended it; see [`Aborted`].
    Aborted,
}

/// The panic payload with which the sink unwinds a call that the host aborts.
pub(crate) struct Aborted;

/// Runs `call` and catches its panic. The caller handles state that `call` left inconsistent.
pub(crate) fn catch<T>(call: impl FnOnce() -> T) -> Result<T, Unwound> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        let unwound = match payload.downcast_ref::<Aborted>() {
            Some(Aborted) => Unwound::Aborted,
            None => Unwound::Panicked(message(&*payload).to_owned()),
        };
        discard(payload);
        unwound
    })
}

fn message(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "no message"
    }
}

/// Drops the payload of a panic. If that panics again, the new payload leaks, since dropping it could panic as well.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(next) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(next);
    }
}

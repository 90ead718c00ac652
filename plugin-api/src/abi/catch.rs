//! Panics end here: none may cross into another library.

use std::any::Any;
use std::mem;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// Why a call did not return.
pub(crate) enum Unwound {
    /// It panicked with this message.
    Panicked(String),
    /// The sink ended it; see [`Aborted`].
    Aborted,
}

/// What the sink unwinds with when the host wants no more of a call.
pub(crate) struct Aborted;

/// Runs `call` and stops its unwinding. What `call` left behind half done is the caller's concern.
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

/// Drops what a panic carried. That can panic again, with a payload that does the same: then it leaks.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(next) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(next);
    }
}

//! The form of an event.

use bytes::Bytes;
use serde::Serialize;

/// Returns one event. Its data are JSON without a line break.
pub(super) fn frame(event: &str, data: &impl Serialize) -> Bytes {
    // Strings, numbers, and lists and maps of them always serialize.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {event}\ndata: {data}\n\n").into()
}

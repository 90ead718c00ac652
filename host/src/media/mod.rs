//! What flows through the host: tags, their codecs, and the timeline they lie on.
//!
//! Purpose: decide once what a tag is, and carry that with it. Invariants: a [`Tag`] is immutable and cheap to
//! clone; its payload is shared with the socket buffer it came from. Used by every layer above; uses only
//! `remuxd-bitstream` and the vocabulary of `remuxd-plugin-api`.

mod tag;
mod timeline;

pub use remuxd_plugin_api::{Codec, Millis, Packet, TagKind, Tracks};
pub use tag::Tag;
pub use timeline::{SMALL_STEP_BACK, Timeline};

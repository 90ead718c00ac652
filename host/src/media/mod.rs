//! Media in the host: tags, their codecs and the timeline of a stream.
//!
//! The header of a tag is parsed once, on arrival. Invariants: a [`Tag`] is cheap to clone, and its payload is shared.
//!
//! Used by every layer above. Uses `remuxd-bitstream` and the vocabulary of `remuxd-plugin-api`.

mod tag;
mod timeline;

pub use remuxd_plugin_api::{Codec, Millis, Packet, TagKind, Tracks};
pub use tag::Tag;
pub use timeline::Timeline;

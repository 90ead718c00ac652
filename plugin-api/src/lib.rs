//! The contract between the remuxd host and its format modules.
//!
//! A module is a shared library that turns the tags of a stream into the bytes of one output format. Its author writes
//! a [`Format`] and a [`Remuxer`].

mod block;
mod bytes;
mod error;
mod format;
mod tag;
mod vocabulary;

pub use block::{Block, Full, Sink};
pub use bytes::SharedBytes;
pub use error::RemuxError;
pub use format::{Format, FormatInfo, OptionKind, OptionSpec, Options, Remuxer, Setup, StreamFacts};
pub use tag::Tag;
pub use vocabulary::{BlockFlags, Codec, Millis, Packet, TagKind, Transport};

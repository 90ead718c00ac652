//! The contract between the remuxd host and its format modules.
//!
//! A module is a shared library that turns the tags of a stream into the bytes of one output format. Its author writes
//! a [`Format`] and a [`Remuxer`], both safe Rust, and one line:
//!
//! ```
//! # use remuxd_plugin_api::*;
//! # struct MyFormat;
//! # struct MyRemuxer;
//! # impl Remuxer for MyRemuxer {
//! #     fn tag(&mut self, _: &Tag, _: &mut dyn Sink) -> Result<(), RemuxError> { Ok(()) }
//! # }
//! # impl Format for MyFormat {
//! #     type Remuxer = MyRemuxer;
//! #     fn info() -> FormatInfo { unimplemented!() }
//! #     fn remuxer(_: &Setup) -> Result<MyRemuxer, RemuxError> { Ok(MyRemuxer) }
//! # }
//! export_format!(MyFormat);
//! # fn main() {}
//! ```
//!
//! README.md is the author's guide. [`abi`] is the binary interface underneath.

pub mod abi;
mod block;
mod bytes;
mod error;
mod format;
pub mod log;
mod tag;
mod vocabulary;

pub use self::bytes::SharedBytes;
pub use block::{Block, Full, Sink};
pub use error::RemuxError;
pub use format::{Format, FormatInfo, OptionKind, OptionSpec, Options, Remuxer, Setup, StreamFacts};
pub use tag::Tag;
pub use vocabulary::{BlockFlags, Codec, Millis, Packet, TagKind, Tracks, Transport};

/// Exports a [`Format`] as the module of the crate. Use it once in a crate, whose `crate-type` must include `cdylib`.
#[macro_export]
macro_rules! export_format {
    ($format:ty) => {
        const _: () = {
            #[doc(hidden)]
            #[export_name = "remuxd_module_preflight"]
            pub static PREFLIGHT: $crate::abi::Preflight = $crate::abi::Preflight::new(cfg!(panic = "abort"));

            // abi_stable's own name for a library's header.
            #[doc(hidden)]
            #[export_name = "_1as_0lib_1header_0root_bmodule_bloader"]
            pub static HEADER: $crate::abi::LibHeader = $crate::abi::header::<$format>();
        };
    };
}

/// The guide's code is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

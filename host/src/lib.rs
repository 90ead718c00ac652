//! remuxd: a plugin host for live streaming.
//!
//! Layers, upper ones use lower ones: [`cli`] → [`admin`] → [`net`] → [`http`], [`cluster`] → [`router`] → [`policy`] → [`stream`] → [`module`] →
//! [`media`]; [`rtmp`] → [`media`]; [`author`] → [`module`]. [`conf`], [`budget`], [`lifecycle`] and [`sync`] are used by all and use none. [`candidate`] builds
//! everything that a config would run; [`host`] runs it; [`clock`] gives tokio's time to [`stream`]; [`demo`] has the samples
//! and the page of `remuxd demo`; [`player`] plays mounts in pages; [`output`] writes to the terminal, [`log`] to the log.
//!
//! The crate is the program: only [`main`] and what tests from outside use ([`testing`]) are public, so that the compiler
//! finds code that nothing uses.

// Read the docs with `cargo doc --document-private-items`.
#![allow(rustdoc::private_intra_doc_links)]

mod admin;
mod author;
mod budget;
mod candidate;
mod checkout;
mod cli;
mod clock;
mod cluster;
mod conf;
mod demo;
mod host;
mod http;
mod lifecycle;
mod log;
mod media;
mod module;
mod net;
mod output;
mod player;
mod policy;
mod router;
mod rtmp;
mod sign;
mod stream;
mod supervisor;
mod sync;

pub mod testing;

pub use cli::main;

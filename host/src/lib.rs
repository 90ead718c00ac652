//! remuxd: a plugin host for live streaming.
//!
//! Layers, upper ones use lower ones: `main` → [`admin`] → [`net`] → [`http`] → [`router`] → [`stream`] → [`module`] →
//! [`media`]; [`rtmp`] → [`media`]; [`author`] → [`module`]. [`conf`] is used by all and uses none. [`candidate`] builds
//! everything that a config would run; [`host`] runs it; [`demo`] has the samples and the page of `remuxd demo`;
//! [`output`] writes to the terminal.

pub mod admin;
pub mod author;
pub mod candidate;
pub mod conf;
pub mod demo;
pub mod host;
pub mod http;
pub mod media;
pub mod module;
pub mod net;
pub mod output;
pub mod router;
pub mod rtmp;
pub mod stream;

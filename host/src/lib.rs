//! remuxd: a plugin host for live streaming.
//!
//! Layers, upper ones use lower ones: `main` → [`admin`] → [`net`] → [`http`] → [`router`] → [`stream`] → [`module`] → [`media`];
//! [`rtmp`] → [`media`]; [`author`] → [`module`]. [`conf`] is read by all and reads none. [`load`] checks a config and what
//! it names against each other; [`host`] puts the layers together for `main`; [`demo`] is what it shows; [`output`] is what
//! the program prints.

pub mod admin;
pub mod author;
pub mod conf;
pub mod demo;
pub mod host;
pub mod http;
pub mod load;
pub mod media;
pub mod module;
pub mod net;
pub mod output;
pub mod router;
pub mod rtmp;
pub mod stream;

//! Test kit: starts the built host as a process and drives it from outside with real encoders and players, and with
//! byte-level clients of its own where a real one is too well-behaved.
//!
//! The kit shares no code with the host: its RTMP, FLV, HTTP and WebSocket readers are written from the specifications
//! a second time, so that one misreading cannot hide another. It panics where a test would fail anyway.
//!
//! | module | what it is |
//! |---|---|
//! | [`host`] | the host process, its addresses, log, memory and CPU time |
//! | [`clip`], [`encoder`] | short files to publish, and the encoders that publish them |
//! | [`rtmp`], [`http`], [`websocket`] | clients on plain sockets |
//! | [`tls`] | certificates, and a TLS client |
//! | [`publisher`] | a publisher that is fed tag by tag, and numbered synthetic media |
//! | [`capture`] | a viewer that records what it is served, as FLV |
//! | [`fetch`] | the same for any format, as bytes |
//! | [`proxy`] | nginx, Caddy and HAProxy in front of the host |
//! | [`flv`], [`audio`], [`ts`] | reading what was served |
//! | [`compare`], [`decode`] | comparing and decoding it |
//! | [`browser`] | players in headless Chromium |

pub mod audio;
pub mod browser;
pub mod capture;
pub mod clip;
pub mod compare;
pub mod decode;
pub mod encoder;
pub mod fetch;
pub mod flv;
pub mod host;
pub mod http;
pub mod modules;
pub mod player;
pub mod proxy;
pub mod publisher;
pub mod rtmp;
pub mod scratch;
pub mod tls;
pub mod tool;
pub mod ts;
pub mod wait;
pub mod websocket;

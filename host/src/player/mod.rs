//! The script with which the host's own pages play mounts in a browser: mpegts.js (Apache-2.0, see `mpegts.LICENSE`).

/// The script.
pub static SCRIPT: &[u8] = include_bytes!("mpegts.js");

/// Its content type.
pub const CONTENT_TYPE: &str = "text/javascript; charset=utf-8";

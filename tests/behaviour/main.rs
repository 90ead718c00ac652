//! What the host does, seen from outside. One binary, so that the kit is linked once; a file per behaviour.

#![expect(clippy::unwrap_used, reason = "what tests share is test code too")]

mod audio;
mod check;
mod demo;
mod encoders;
mod fmp4;
mod hostile;
mod http;
mod lifecycle;
mod players;
mod rtmp;
mod slow;
mod viewers;

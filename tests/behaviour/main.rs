//! The behaviour of the host, tested from outside: one file for each subject. One binary, so that the kit is linked once.

#![expect(clippy::unwrap_used, reason = "what tests share is test code too")]

mod audio;
mod authors;
mod bad_requests;
mod broken_pipe;
mod certificates;
mod changes;
mod check;
mod demo;
mod encoders;
mod enhanced;
mod fast_cache;
mod faults;
mod files;
mod fmp4;
mod hostile;
mod http;
mod http2;
mod isolation;
mod layouts;
mod lifecycle;
mod memory;
mod metadata;
mod minutes;
mod mounts;
mod names;
mod neighbours;
mod players;
mod processes;
mod proxies;
mod proxy_protocol;
mod recordings;
mod redirect;
mod reload;
mod reload_races;
mod rtmp;
mod shapes;
mod slow;
mod srs_page;
mod tls;
mod ts;
mod useless;
mod variants;
mod viewers;
mod websocket;

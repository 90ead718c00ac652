//! The `websocket-flv` format module: live FLV over WebSocket, on the URLs of `flv`.
//!
//! The remuxer is [`FlvRemuxer`], shared with `flv`.

#![forbid(unsafe_code)]

use remuxd_bitstream::flv::{AUDIO_CODECS, FlvRemuxer, OPTIONS, VIDEO_CODECS};
use remuxd_plugin_api::{Format, FormatInfo, RemuxError, Setup, Transport, export_format};

/// FLV as the binary messages of a WebSocket.
#[derive(Debug)]
pub struct WebSocketFlv;

impl Format for WebSocketFlv {
    type Remuxer = FlvRemuxer;

    fn info() -> FormatInfo {
        FormatInfo {
            name: "websocket-flv",
            version: env!("CARGO_PKG_VERSION"),
            extensions: &["flv"],
            transport: Transport::WEBSOCKET,
            content_type: "video/x-flv",
            video_codecs: VIDEO_CODECS,
            audio_codecs: AUDIO_CODECS,
            options: OPTIONS,
        }
    }

    fn remuxer(setup: &Setup) -> Result<FlvRemuxer, RemuxError> {
        Ok(FlvRemuxer::new(setup))
    }
}

export_format!(WebSocketFlv);

//! FLV over HTTP and WebSocket from one module: one remuxer serves the viewers of both.

#![forbid(unsafe_code)]

use remuxd_bitstream::flv::{FlvRemuxer, AUDIO_CODECS, OPTIONS, VIDEO_CODECS};
use remuxd_plugin_api::{export_format, Format, FormatInfo, RemuxError, Setup, Transport};

export_format!(Both);

struct Both;

impl Format for Both {
    type Remuxer = FlvRemuxer;

    fn info() -> FormatInfo {
        FormatInfo {
            name: "both",
            version: env!("CARGO_PKG_VERSION"),
            extensions: &["flv"],
            transport: Transport::HTTP,
            content_type: "video/x-flv",
            video_codecs: VIDEO_CODECS,
            audio_codecs: AUDIO_CODECS,
            options: OPTIONS,
        }
    }

    fn further_transports() -> &'static [Transport] {
        &[Transport::WEBSOCKET]
    }

    fn remuxer(setup: &Setup) -> Result<FlvRemuxer, RemuxError> {
        Ok(FlvRemuxer::new(setup))
    }
}

//! The `flv` format module: live FLV over HTTP.
//!
//! The remuxer is [`FlvRemuxer`], shared with `websocket-flv`.

#![forbid(unsafe_code)]

use remuxd_bitstream::flv::{AUDIO_CODECS, FlvRemuxer, OPTIONS, VIDEO_CODECS};
use remuxd_plugin_api::{Format, FormatInfo, RemuxError, Setup, Transport, export_format};

/// FLV as an unending HTTP response.
#[derive(Debug)]
pub struct Flv;

impl Format for Flv {
    type Remuxer = FlvRemuxer;

    fn info() -> FormatInfo {
        FormatInfo {
            name: "flv",
            version: env!("CARGO_PKG_VERSION"),
            extensions: &["flv"],
            transport: Transport::HTTP,
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

export_format!(Flv);

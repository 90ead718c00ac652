//! Fragmented MP4 as the binary messages of a WebSocket.

#![forbid(unsafe_code)]

use fmp4_mux::Fmp4Remuxer;
use remuxd_plugin_api::{export_format, Format, FormatInfo, RemuxError, Setup, Transport};

export_format!(WebSocketFmp4);

struct WebSocketFmp4;

impl Format for WebSocketFmp4 {
    type Remuxer = Fmp4Remuxer;

    fn info() -> FormatInfo {
        FormatInfo { name: "websocket-fmp4", transport: Transport::WEBSOCKET, ..fmp4_mux::info() }
    }

    fn remuxer(setup: &Setup) -> Result<Fmp4Remuxer, RemuxError> {
        Ok(Fmp4Remuxer::new(setup))
    }
}

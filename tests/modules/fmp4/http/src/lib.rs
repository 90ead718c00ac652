//! Fragmented MP4 as an unending HTTP response.

#![forbid(unsafe_code)]

use fmp4_mux::Fmp4Remuxer;
use remuxd_plugin_api::{export_format, Format, FormatInfo, RemuxError, Setup, Transport};

export_format!(Fmp4);

struct Fmp4;

impl Format for Fmp4 {
    type Remuxer = Fmp4Remuxer;

    fn info() -> FormatInfo {
        FormatInfo { name: "fmp4", transport: Transport::HTTP, ..fmp4_mux::info() }
    }

    fn remuxer(setup: &Setup) -> Result<Fmp4Remuxer, RemuxError> {
        Ok(Fmp4Remuxer::new(setup))
    }
}

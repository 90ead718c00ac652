//! Declares the same extension as `good`.

#![forbid(unsafe_code)]

use remuxd_plugin_api::{
    export_format, Format, FormatInfo, RemuxError, Remuxer, Setup, Sink, Tag, Transport,
};

export_format!(Twin);

struct Twin;

impl Format for Twin {
    type Remuxer = Self;

    fn info() -> FormatInfo {
        FormatInfo {
            name: "twin",
            version: env!("CARGO_PKG_VERSION"),
            extensions: &["twin", "good"],
            transport: Transport::HTTP,
            content_type: "application/octet-stream",
            video_codecs: &[],
            audio_codecs: &[],
            options: &[],
        }
    }

    fn remuxer(_: &Setup) -> Result<Self, RemuxError> {
        Ok(Twin)
    }
}

impl Remuxer for Twin {
    fn tag(&mut self, _: &Tag, _: &mut dyn Sink) -> Result<(), RemuxError> {
        Ok(())
    }
}

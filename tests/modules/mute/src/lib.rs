//! Fails to describe itself.

#![forbid(unsafe_code)]

use remuxd_plugin_api::{export_format, Format, FormatInfo, RemuxError, Remuxer, Setup, Sink, Tag};

export_format!(Mute);

struct Mute;

impl Format for Mute {
    type Remuxer = Self;

    fn info() -> FormatInfo {
        panic!("told to")
    }

    fn remuxer(_: &Setup) -> Result<Self, RemuxError> {
        Ok(Mute)
    }
}

impl Remuxer for Mute {
    fn tag(&mut self, _: &Tag, _: &mut dyn Sink) -> Result<(), RemuxError> {
        Ok(())
    }
}

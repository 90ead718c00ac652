//! Fragmented MP4 for live viewing: H.264 and AAC in the ISO base media file format (ISO/IEC 14496-12), as Media Source
//! Extensions play it.
//!
//! The initialisation segment is a configuration block, so a change of codec parameters reaches current viewers too. A
//! fragment is cut before each keyframe, which is where viewers join, and at least every `fragment_ms`.
//!
//! A sample's duration is the distance to the next one of its track, so each track buffers its newest sample.

#![forbid(unsafe_code)]

mod boxes;
mod remux;

use remuxd_plugin_api::{Codec, FormatInfo, OptionKind, OptionSpec, Transport};

pub use remux::Fmp4Remuxer;

/// Returns the options of both modules.
pub fn info() -> FormatInfo {
    FormatInfo {
        name: "",
        version: env!("CARGO_PKG_VERSION"),
        extensions: &["mp4"],
        transport: Transport::HTTP,
        content_type: "video/mp4",
        video_codecs: &[Codec::H264],
        audio_codecs: &[Codec::AAC],
        options: &[
            OptionSpec {
                name: "fragment_ms",
                kind: OptionKind::Integer { min: 0, max: 10_000 },
                default: "100",
                doc: "A fragment is at most this long, in milliseconds: shorter plays sooner, longer has less overhead.",
                variant: false,
            },
            OptionSpec {
                name: "header_wait",
                kind: OptionKind::Integer { min: 0, max: 10_000 },
                default: "1000",
                doc: "How long a new stream may take to show its second track, in milliseconds.",
                variant: false,
            },
        ],
    }
}

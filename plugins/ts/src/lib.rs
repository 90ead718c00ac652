//! The `ts` format module: a live MPEG transport stream over HTTP.
//!
//! | file | content |
//! |---|---|
//! | `remux` | tags in: the tracks, and the handling of each tag |
//! | `video`, `audio` | the data that a decoder needs around an access unit |
//! | `mux` | access units in, blocks out: when tables and clock references are due |
//! | `metered` | a sink that counts output |
//! | `clock` | the program clock and its references |
//! | `pes`, `psi`, `packet` | the syntax: PES headers, tables, packets of 188 bytes |
//!
//! Specification: ISO/IEC 13818-1 (ITU-T H.222.0), with the sections named at each file.

#![forbid(unsafe_code)]

mod audio;
mod clock;
mod metered;
mod mux;
mod packet;
mod pes;
mod psi;
mod remux;
mod video;

use remuxd_plugin_api::{Format, FormatInfo, RemuxError, Setup, Transport, export_format};

pub use remux::{AUDIO_CODECS, HEADER_WAIT, OPTIONS, TsRemuxer, VIDEO_CODECS};

/// MPEG-TS as an unending HTTP response.
#[derive(Debug)]
pub struct Ts;

impl Format for Ts {
    type Remuxer = TsRemuxer;

    fn info() -> FormatInfo {
        FormatInfo {
            name: "ts",
            version: env!("CARGO_PKG_VERSION"),
            extensions: &["ts"],
            transport: Transport::HTTP,
            content_type: "video/MP2T",
            video_codecs: VIDEO_CODECS,
            audio_codecs: AUDIO_CODECS,
            options: OPTIONS,
        }
    }

    fn remuxer(setup: &Setup) -> Result<TsRemuxer, RemuxError> {
        Ok(TsRemuxer::new(setup))
    }
}

export_format!(Ts);

//! Passes each payload on as a block, or fails as its option `fail` says.

#![forbid(unsafe_code)]

use std::panic::panic_any;

use remuxd_plugin_api::{
    export_format, Block, BlockFlags, Codec, Format, FormatInfo, OptionKind, OptionSpec, RemuxError, Remuxer,
    Setup, Sink, Tag, Transport,
};

export_format!(Good);

struct Good;

impl Format for Good {
    type Remuxer = Fails;

    fn info() -> FormatInfo {
        FormatInfo {
            name: "good",
            version: env!("CARGO_PKG_VERSION"),
            extensions: &["good"],
            transport: Transport::HTTP,
            content_type: "application/octet-stream",
            video_codecs: &[Codec::H264],
            audio_codecs: &[Codec::AAC],
            options: &[OptionSpec {
                name: "fail",
                kind: OptionKind::Choice(&[
                    "never",
                    "constructor",
                    "tag",
                    "payload",
                    "finish",
                    "drop",
                    "error",
                    "unsupported",
                    "flood",
                    "flood_on",
                ]),
                default: "never",
                doc: "Where to fail.",
                variant: true,
            }],
        }
    }

    fn remuxer(setup: &Setup) -> Result<Fails, RemuxError> {
        let fails = Fails(setup.options.text("fail").to_owned());
        fails.panic_in("constructor");
        Ok(fails)
    }
}

/// Fails in the call that the option names.
struct Fails(String);

impl Fails {
    fn panic_in(&self, place: &str) {
        if self.0 == place {
            panic!("told to, in {place}");
        }
    }
}

impl Remuxer for Fails {
    fn tag(&mut self, tag: &Tag, sink: &mut dyn Sink) -> Result<(), RemuxError> {
        self.panic_in("tag");
        let block = || Block {
            flags: BlockFlags::JOIN,
            dts: tag.dts,
            parts: vec![tag.payload.clone()],
            ..Block::default()
        };
        match self.0.as_str() {
            "payload" => panic_any(Bomb),
            "error" => return Err(RemuxError::Other("told to".into())),
            "unsupported" => return Err(RemuxError::Unsupported(tag.codec)),
            "flood" => loop {
                sink.block(block())?;
            },
            "flood_on" => loop {
                let _ = sink.block(block());
            },
            _ => sink.block(block())?,
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut dyn Sink) -> Result<(), RemuxError> {
        self.panic_in("finish");
        Ok(())
    }
}

impl Drop for Fails {
    fn drop(&mut self) {
        self.panic_in("drop");
    }
}

/// Panics again when the panic that carries it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_any(Bomb);
    }
}

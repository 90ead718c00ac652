//! What `remuxd demo` shows: samples that run for ever, and a page that plays every mount.
//!
//! The samples go the way of any stream: over RTMP into the host. A mount shows the first that its format carries, since
//! none carries them all. The page knows no format: it lists the URLs that the host gives it and plays what mpegts.js
//! (Apache-2.0, see `mpegts.LICENSE`), or the browser itself, can.

use bytes::Bytes;
use remuxd_bitstream::flv::read_file;
use serde::Serialize;

use crate::http::Client;
use crate::media::{Codec, Millis, Packet, Tag};
use crate::module::{Description, Transport};

/// The config of the demo, unless the operator names another.
pub const CONFIG: &str = include_str!("demo.toml");

/// The app that the samples are published to.
pub const APP: &str = "live";

/// A stream that begins anew, without a seam, when it is over. See `make-samples`.
#[derive(Debug)]
pub struct Sample {
    /// The stream that it is published as.
    pub stream: &'static str,
    /// The codecs of its tracks.
    codecs: &'static [Codec],
    file: &'static [u8],
    /// How long one turn of it is.
    turn: Millis,
}

/// The samples.
pub static SAMPLES: [Sample; 2] = [
    Sample {
        stream: "demo",
        codecs: &[Codec::H264, Codec::AAC],
        file: include_bytes!("sample.flv"),
        turn: Millis(8_000),
    },
    Sample { stream: "radio", codecs: &[Codec::MP3], file: include_bytes!("radio.flv"), turn: Millis(9_000) },
];

const PAGE: &str = include_str!("page.html");
static PLAYER: &[u8] = include_bytes!("mpegts.js");

/// Where the page's list of mounts goes.
const MOUNTS_MARK: &str = "/*MOUNTS*/[]";

/// One URL of the demo stream.
#[derive(Clone, Debug, Serialize)]
pub struct DemoMount {
    /// The module that answers.
    pub name: String,
    /// The path, or a whole URL.
    pub url: String,
    /// `http`, `websocket` or `rtmp`.
    pub transport: &'static str,
    /// The content type.
    pub content_type: String,
}

impl Sample {
    /// The one that shows what a module does.
    pub fn of(module: &Description) -> Option<&'static Sample> {
        let carried = |codec| module.video_codecs.contains(codec) || module.audio_codecs.contains(codec);
        SAMPLES.iter().find(|sample| sample.codecs.iter().any(carried))
    }

    /// Its tags, turn after turn, with timestamps that go on.
    pub fn tags(&self) -> impl Iterator<Item = Tag> + use<> {
        let (turn, file) = (self.turn, Bytes::from_static(self.file));
        let tags: Vec<Tag> = read_file(self.file)
            .filter_map(Result::ok)
            .map(|tag| Tag::new(tag.kind, Millis(i64::from(tag.timestamp)), file.slice_ref(tag.body)))
            // The encoder's last audio frame overlaps the next turn.
            .filter(|tag| tag.dts < turn)
            .collect();
        (0..).flat_map(move |number| {
            let shift = number * turn.0;
            let again = tags.clone().into_iter();
            again.filter(move |tag| number == 0 || tag.header.packet == Packet::CODED_FRAME).map(
                move |mut tag| {
                    tag.dts.0 += shift;
                    tag
                },
            )
        })
    }
}

/// The pages of the demo: the player page and its script. Behind a proxy, the URLs are those of its outside.
pub fn page(path: &str, client: &Client, mounts: &[DemoMount]) -> Option<(&'static str, Bytes)> {
    match path {
        "/" => {
            let outside = |mount: &DemoMount| {
                let websocket = mount.transport == "websocket";
                let transport = if websocket { Transport::WEBSOCKET } else { Transport::HTTP };
                DemoMount { url: client.url(transport, &mount.url), ..mount.clone() }
            };
            let mounts: Vec<_> = mounts.iter().map(outside).collect();
            // `<` would end the script element.
            let list = serde_json::to_string(&mounts).unwrap_or_default().replace('<', "\\u003c");
            Some(("text/html; charset=utf-8", PAGE.replacen(MOUNTS_MARK, &list, 1).into()))
        }
        "/mpegts.js" => Some(("text/javascript; charset=utf-8", Bytes::from_static(PLAYER))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Outside;
    use crate::media::{Codec, TagKind};

    #[test]
    fn the_samples_go_on_without_a_seam() {
        let tracks = [(TagKind::VIDEO, Codec::H264, 200), (TagKind::AUDIO, Codec::AAC, 375)];
        let radio = [(TagKind::AUDIO, Codec::MP3, 375)];
        for (sample, tracks) in SAMPLES.iter().zip([&tracks[..], &radio[..]]) {
            assert!(tracks.iter().map(|(_, codec, _)| codec).eq(sample.codecs), "{sample:?}");
            for &(kind, codec, frames) in tracks {
                let times: Vec<i64> = sample
                    .tags()
                    .filter(|tag| tag.kind == kind && tag.header.packet == Packet::CODED_FRAME)
                    .inspect(|tag| assert_eq!(tag.header.codec, codec))
                    .map(|tag| tag.dts.0)
                    .take(3 * frames)
                    .collect();
                let step = sample.turn.0 / frames as i64;
                let steps = times.windows(2).map(|pair| pair[1] - pair[0]);
                assert!(
                    steps.clone().all(|found| (step..=step + 1).contains(&found)),
                    "{:?}",
                    steps.collect::<Vec<_>>()
                );
                assert_eq!(times[2 * frames] - times[0], 2 * sample.turn.0);
            }
        }
    }

    #[test]
    fn the_page_lists_the_mounts() {
        let mounts = [DemoMount {
            name: "a</script>".into(),
            url: "/live/demo.x".into(),
            transport: "http",
            content_type: "video/x".into(),
        }];
        let mut client = Client { address: [192, 0, 2, 1].into(), outside: None };
        let text = |client: &Client| {
            let (_, page) = page("/", client, &mounts).unwrap();
            String::from_utf8(page.to_vec()).unwrap()
        };
        let page = text(&client);
        assert!(page.contains(r#""url":"/live/demo.x""#) && !page.contains("a</script>"));
        assert!(PAGE.contains(MOUNTS_MARK));
        client.outside = Some(Outside { secure: true, host: "a.example".into() });
        assert!(text(&client).contains(r#""url":"https://a.example/live/demo.x""#));
    }
}

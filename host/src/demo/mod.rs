//! The content of `remuxd demo`: sample streams that loop, and a page that plays every mount.
//!
//! The samples are published over RTMP like any stream. A mount shows the first sample that its format can carry. The page
//! knows no format: it lists the URLs that the host gives it and plays those that mpegts.js or the browser
//! itself supports.

use bytes::Bytes;
use remuxd_bitstream::flv::read_file;
use serde::Serialize;

use crate::http::{Client, Page, Pages};
use crate::media::{Codec, Millis, Packet, Tag};
use crate::module::{Description, Transport};
use crate::player;

/// The config of the demo, unless the operator gives another.
pub const CONFIG: &str = include_str!("demo.toml");

/// The app of the sample streams.
pub const APP: &str = "live";

/// A stream that loops without a seam. `make-samples` creates it.
#[derive(Debug)]
pub struct Sample {
    /// The name of the stream.
    pub stream: &'static str,
    /// The codecs of its tracks.
    codecs: &'static [Codec],
    file: &'static [u8],
    /// Duration of one loop.
    duration: Millis,
}

/// All samples, in the order in which mounts choose them.
pub static SAMPLES: [Sample; 2] = [
    Sample {
        stream: "demo",
        codecs: &[Codec::H264, Codec::AAC],
        file: include_bytes!("sample.flv"),
        duration: Millis(8_000),
    },
    Sample {
        stream: "radio",
        codecs: &[Codec::MP3],
        file: include_bytes!("radio.flv"),
        duration: Millis(9_000),
    },
];

const PAGE: &str = include_str!("page.html");

/// Placeholder of the page's list of mounts.
const MOUNTS_MARK: &str = "/*MOUNTS*/[]";

/// A URL that the page lists.
#[derive(Clone, Debug, Serialize)]
pub struct DemoMount {
    /// The module that serves it.
    pub name: String,
    /// A path, or a whole URL.
    pub url: String,
    /// `http`, `websocket` or `rtmp`.
    pub transport: &'static str,
    /// The content type.
    pub content_type: String,
}

impl Sample {
    /// Returns the first sample that a module can carry.
    pub fn of(module: &Description) -> Option<&'static Sample> {
        let carried = |codec| module.video_codecs.contains(codec) || module.audio_codecs.contains(codec);
        SAMPLES.iter().find(|sample| sample.codecs.iter().any(carried))
    }

    /// Returns its tags, looped for ever with increasing timestamps.
    pub fn tags(&self) -> impl Iterator<Item = Tag> + use<> {
        let (duration, file) = (self.duration, Bytes::from_static(self.file));
        let tags: Vec<Tag> = read_file(self.file)
            .filter_map(Result::ok)
            .map(|tag| Tag::new(tag.kind, Millis(i64::from(tag.timestamp)), file.slice_ref(tag.body)))
            // The last audio frame overlaps the next loop.
            .filter(|tag| tag.dts < duration)
            .collect();
        (0..).flat_map(move |number| {
            let shift = number * duration.0;
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

/// The pages of the demo: one that plays these mounts, and its script.
#[derive(Debug)]
pub struct DemoPages(pub Vec<DemoMount>);

impl Pages for DemoPages {
    /// Returns a page; behind a proxy, the URLs are those that the client can reach.
    fn page(&self, path: &str, client: &Client) -> Option<Page> {
        match path {
            "/" => {
                let as_seen = |mount: &DemoMount| {
                    let websocket = mount.transport == "websocket";
                    let transport = if websocket { Transport::WEBSOCKET } else { Transport::HTTP };
                    DemoMount { url: client.url(transport, &mount.url), ..mount.clone() }
                };
                let mounts: Vec<_> = self.0.iter().map(as_seen).collect();
                // `<` would end the script element.
                let list = serde_json::to_string(&mounts).unwrap_or_default().replace('<', "\\u003c");
                let body = PAGE.replacen(MOUNTS_MARK, &list, 1).into();
                Some(Page { content_type: "text/html; charset=utf-8", body })
            }
            "/mpegts.js" => {
                Some(Page { content_type: player::CONTENT_TYPE, body: Bytes::from_static(player::SCRIPT) })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::PublicOrigin;
    use crate::media::{Codec, TagKind};

    #[test]
    fn samples_loop_without_a_seam() {
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
                let step = sample.duration.0 / frames as i64;
                let steps = times.windows(2).map(|pair| pair[1] - pair[0]);
                assert!(
                    steps.clone().all(|found| (step..=step + 1).contains(&found)),
                    "{:?}",
                    steps.collect::<Vec<_>>()
                );
                assert_eq!(times[2 * frames] - times[0], 2 * sample.duration.0);
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
        let mut client = Client { address: [192, 0, 2, 1].into(), public_origin: None };
        let text = |client: &Client| {
            let page = DemoPages(mounts.to_vec()).page("/", client).unwrap();
            String::from_utf8(page.body.to_vec()).unwrap()
        };
        let page = text(&client);
        assert!(page.contains(r#""url":"/live/demo.x""#) && !page.contains("a</script>"));
        assert!(PAGE.contains(MOUNTS_MARK));
        client.public_origin = Some(PublicOrigin { secure: true, host: "a.example".into() });
        assert!(text(&client).contains(r#""url":"https://a.example/live/demo.x""#));
    }
}

use std::future::Future;
use std::pin::pin;
use std::task::Waker;

use bytes::Bytes;
use remuxd_plugin_api::{Format, FormatInfo, RemuxError, Remuxer, Setup, Sink, Transport};

use super::super::{Hub, StreamKey};
use super::*;
use crate::budget::Account;
use crate::conf::Config;
use crate::media::{Codec, Millis, TagKind};
use crate::module::{Terms, linked};

/// A format of AAC that produces nothing.
struct Aac;

impl Format for Aac {
    type Remuxer = Aac;

    fn info() -> FormatInfo {
        FormatInfo {
            name: "aac",
            version: "1",
            extensions: &["aac"],
            transport: Transport::HTTP,
            content_type: "audio/aac",
            video_codecs: &[],
            audio_codecs: &[Codec::AAC],
            options: &[],
        }
    }

    fn remuxer(_: &Setup) -> Result<Aac, RemuxError> {
        Ok(Aac)
    }
}

impl Remuxer for Aac {
    fn tag(&mut self, _: &remuxd_plugin_api::Tag, _: &mut dyn Sink) -> Result<(), RemuxError> {
        Ok(())
    }
}

const KEYFRAME: (TagKind, &[u8]) = (TagKind::VIDEO, b"\x17\x01\0\0\0k");
const AAC_HEADER: (TagKind, &[u8]) = (TagKind::AUDIO, b"\xaf\0\x12\x10");
const AAC: (TagKind, &[u8]) = (TagKind::AUDIO, b"\xaf\x01a");
const MP3: (TagKind, &[u8]) = (TagKind::AUDIO, b"\x2fm");

#[test]
fn a_stream_is_judged_by_all_tags_since_the_request_however_late() {
    let codecs = |video, audio| Codecs { video, audio };
    let cases: [(&str, &[_], &[_], _); 7] = [
        ("nothing yet", &[], &[], Carriage::Unknown),
        ("carried", &[AAC_HEADER, AAC], &[], Carriage::Carried),
        ("changed to a codec that it carries", &[KEYFRAME, MP3], &[AAC], Carriage::Carried),
        ("no longer carried", &[KEYFRAME], &[AAC_HEADER, AAC, MP3], Carriage::Carried),
        ("no longer carried, before the request", &[KEYFRAME, AAC_HEADER, AAC, MP3], &[], {
            Carriage::Refused(codecs(Codec::H264, Codec::MP3))
        }),
        ("not carried", &[KEYFRAME], &[MP3], Carriage::Refused(codecs(Codec::H264, Codec::MP3))),
        ("audio may still come", &[KEYFRAME], &[], Carriage::Undecided(codecs(Codec::H264, Codec::NONE))),
    ];
    let terms = Terms { generation: 1, max_output: 1 << 16, max_faults: 1, unload: false };
    let module = linked::<Aac>(&terms).unwrap();
    let config = Config::parse("[vhost.a]", "remuxd.toml").unwrap();
    for (case, before, after, expected) in cases {
        let (publisher, _) = Hub::new()
            .publish(StreamKey::new("a", "live", "x"), &config.vhosts[0], Account::unlimited())
            .unwrap();
        let push = |tags: &[(TagKind, &'static [u8])]| {
            for &(kind, body) in tags {
                assert!(publisher.push(Tag::new(kind, Millis(0), Bytes::from_static(body)), Millis(0)));
            }
        };
        push(before);
        let mut cx = Context::from_waker(Waker::noop());
        let track_0 = pin!(publisher.stream().rendition(0)).poll(&mut cx);
        let Poll::Ready(Some(track_0)) = track_0 else { panic!("{track_0:?}") };
        let mut reader = track_0.carriage();
        push(after);
        let judged = reader.judge(&module, &mut cx);
        assert_eq!(judged, expected, "{case}");
    }
}

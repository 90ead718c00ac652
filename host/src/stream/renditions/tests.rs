use std::pin::pin;
use std::task::Waker;

use bytes::Bytes;

use super::super::{Hub, Publisher, Stream, StreamKey};
use super::*;
use crate::budget::Account;
use crate::conf::Config;

const KEY: (TagKind, &[u8]) = (TagKind::VIDEO, b"\x17\x01\0\0\0k");
const HEADER: (TagKind, &[u8]) = (TagKind::AUDIO, b"\xaf\0h");
const AUDIO: (TagKind, &[u8]) = (TagKind::AUDIO, b"\xaf\x01a");
const HEADER_2: (TagKind, &[u8]) = (TagKind::VIDEO, b"\x96\0av01\x02H");
const KEY_2: (TagKind, &[u8]) = (TagKind::VIDEO, b"\x96\x01av01\x02K");
const INTER_2: (TagKind, &[u8]) = (TagKind::VIDEO, b"\xa6\x01av01\x02I");
const AUDIO_2: (TagKind, &[u8]) = (TagKind::AUDIO, b"\x95\x01Opus\x02A");

fn published() -> Publisher {
    let config = Config::parse("[vhost.a]", "remuxd.toml").unwrap();
    Hub::new().publish(StreamKey::new("a", "live", "x"), &config.vhosts[0], Account::unlimited()).unwrap().0
}

fn push(publisher: &Publisher, (kind, body): (TagKind, &'static [u8]), dts: i64) {
    let tag = Tag::new(kind, Millis(dts), Bytes::from_static(body));
    assert!(publisher.push(tag, Millis(dts)));
}

fn wait(publisher: &Publisher, track: u8) -> Poll<Option<Rendition>> {
    pin!(publisher.stream().rendition(track)).poll(&mut Context::from_waker(Waker::noop()))
}

/// Returns a reader of a track that the stream has.
fn join(publisher: &Publisher, track: u8) -> Reader<Tag> {
    let Poll::Ready(Some(rendition)) = wait(publisher, track) else { panic!("no track {track}") };
    rendition.source.tags().reader(JoinAt::Newest, Pace::Each)
}

/// Returns the last bytes and the times of all tags that a reader can have now, and whether it has ended.
fn read(reader: &mut Reader<Tag>) -> (String, Vec<i64>, bool) {
    let (mut letters, mut times) = (String::new(), Vec::new());
    loop {
        match reader.poll_read(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(tags)) => {
                letters.extend(tags.iter().map(|tag| char::from(*tag.payload.last().unwrap())));
                times.extend(tags.iter().map(|tag| tag.dts.0));
            }
            ended => return (letters, times, ended.is_ready()),
        }
    }
}

#[test]
fn a_track_joins_at_its_own_keyframe_with_what_it_lacks_from_track_0() {
    let publisher = published();
    let tags = [(HEADER, 0), (KEY, 0), (HEADER_2, 0), (INTER_2, 10), (AUDIO, 20), (KEY_2, 30), (KEY, 40)];
    tags.into_iter().for_each(|(tag, dts)| push(&publisher, tag, dts));
    push(&publisher, AUDIO, 50);
    push(&publisher, INTER_2, 60);
    assert_eq!(read(&mut join(&publisher, 2)).0, "hHKaI");
    assert_eq!(
        read(&mut join(&publisher, 0)).0,
        "hHkaI",
        "players that read several tracks have the header of track 2"
    );
    // From here on audio of its own.
    let mut reader = join(&publisher, 2);
    push(&publisher, AUDIO_2, 70);
    push(&publisher, AUDIO, 80);
    assert_eq!(read(&mut reader).0, "hHKaIA");
}

#[test]
fn an_absent_track_is_known_once_a_late_one_would_be_there() {
    let publisher = published();
    push(&publisher, KEY, 0);
    assert!(wait(&publisher, 2).is_pending());
    push(&publisher, (TagKind::VIDEO, b"\x96\x01av01\x10K"), 500);
    push(&publisher, KEY, 1000);
    assert!(matches!(wait(&publisher, 2), Poll::Ready(None)));
    assert!(matches!(wait(&publisher, 16), Poll::Ready(None)), "beyond the largest number");
    push(&publisher, KEY_2, 1040);
    assert!(matches!(wait(&publisher, 2), Poll::Ready(Some(_))));
}

#[test]
fn a_track_continues_over_a_republish() {
    let first = published();
    [HEADER_2, KEY_2].into_iter().for_each(|tag| push(&first, tag, 0));
    let mut reader = join(&first, 2);
    first.leave();
    let again = Stream::publish(first.stream(), false, Account::unlimited()).unwrap();
    assert!(!first.push(Tag::new(KEY_2.0, Millis(5), Bytes::from_static(KEY_2.1)), Millis(5)));
    // Every publisher's header is passed on, since readers that join now get no earlier one.
    for (tag, dts) in [(HEADER_2, 7000), (INTER_2, 7000), (KEY_2, 7040)] {
        push(&again, tag, dts);
    }
    let (letters, times, ended) = read(&mut reader);
    assert_eq!((letters.as_str(), ended), ("HKHK", false), "at a keyframe");
    assert!(times.is_sorted() && times[3] < 100, "{times:?}");
}

#[test]
fn a_track_that_falls_silent_ends_and_may_begin_again() {
    let publisher = published();
    push(&publisher, KEY, 0);
    push(&publisher, KEY_2, 0);
    push(&publisher, AUDIO_2, 0);
    let mut reader = join(&publisher, 2);
    (0..=10_000).step_by(500).for_each(|dts| {
        push(&publisher, KEY, dts);
        push(&publisher, KEY_2, dts);
    });
    assert!(!read(&mut reader).2);
    push(&publisher, KEY, 10_500);
    push(&publisher, AUDIO, 10_500);
    assert!(read(&mut reader).2, "its audio has gone");
    push(&publisher, KEY_2, 10_540);
    push(&publisher, AUDIO, 10_540);
    assert_eq!(read(&mut join(&publisher, 2)).0, "Ka", "with the audio of track 0");
    publisher.stream().end();
    assert!(read(&mut join(&publisher, 0)).2);
}

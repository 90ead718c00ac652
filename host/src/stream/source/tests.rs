use std::task::{Context, Poll, Waker};

use super::super::ring::{JoinAt, Pace, Reader};
use super::super::{Hub, Publisher, Stream};
use super::*;
use crate::conf::Config;
use crate::media::Codec;

const A: (TagKind, &[u8]) = (TagKind::AUDIO, b"\xaf\x01a");
const KEY: (TagKind, &[u8]) = (TagKind::VIDEO, b"\x17\x01\0\0\0k");
const INTER: (TagKind, &[u8]) = (TagKind::VIDEO, b"\x27\x01\0\0\0i");

/// The publisher of a new stream, on a vhost with these settings.
fn published(vhost: &str) -> Publisher {
    let config = Config::parse(&format!("[vhost.a]\n{vhost}"), "remuxd.toml").unwrap();
    let key = StreamKey::new("a", "live", "x");
    Hub::new().publish(key, &config.vhosts[0], Account::unlimited()).unwrap().0
}

fn push(publisher: &Publisher, (kind, body): (TagKind, &'static [u8]), dts: i64) {
    let tag = Tag::new(kind, Millis(dts), Bytes::from_static(body));
    assert!(publisher.push(tag, Millis(dts)));
}

/// The last bytes and the times of all tags that a reader can have now.
fn read(reader: &mut Reader<Tag>) -> Vec<(char, i64)> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut read = Vec::new();
    while let Poll::Ready(Some(tags)) = reader.poll_read(&mut cx) {
        read.extend(tags.iter().map(|tag| (char::from(*tag.payload.last().unwrap()), tag.dts.0)));
    }
    read
}

#[test]
fn video_that_comes_back_starts_at_a_keyframe() {
    let publisher = published("");
    let push = |tag, dts| push(&publisher, tag, dts);
    let join = || publisher.stream().tags().reader(JoinAt::Newest, Pace::Each);
    push(KEY, 0);
    (0..=10_100).step_by(100).for_each(|dts| push(A, dts));
    let mut joined = join();
    assert_eq!(read(&mut joined), [('a', 10_100)], "audio goes on alone");
    push(INTER, 10_150);
    push(A, 10_300);
    let mut later = join();
    push(KEY, 10_350);
    push(INTER, 10_400);
    let rest = [('k', 10_350), ('i', 10_400)];
    assert_eq!(read(&mut joined), [&[('a', 10_300)], &rest[..]].concat());
    assert_eq!(read(&mut later), [&[('a', 10_300)], &rest[..]].concat());
    assert_eq!(read(&mut join()), rest);
}

#[test]
fn audio_alone_goes_on_at_once_after_a_republish_and_video_at_a_keyframe() {
    let first = published("");
    let reader = |ring: &Arc<Ring<Tag>>| ring.reader(JoinAt::Newest, Pace::Each);
    let [mut all, mut audio] = [first.stream().tags(), first.stream().audio()].map(reader);
    push(&first, KEY, 0);
    push(&first, A, 20);
    first.leave();
    let again = Stream::publish(first.stream(), false, Account::unlimited()).unwrap();
    for (tag, dts) in [(A, 5_000), (INTER, 5_010), (A, 5_020), (KEY, 6_000), (A, 6_020)] {
        push(&again, tag, dts);
    }
    // A frame after the last picture or frame of audio, each by what it holds.
    assert_eq!(read(&mut all), [('k', 0), ('a', 20), ('k', 40), ('a', 60)]);
    assert_eq!(read(&mut audio), [('a', 20), ('a', 60), ('a', 80), ('a', 1_080)]);
}

#[test]
fn keeps_the_longest_fast_cache_of_audio_apart_from_video() {
    let mount = |cache, n| {
        format!("[[vhost.a.http_remux]]\nenabled=true\nfast_cache={cache}\nmount=\"/{n}/[app]/[stream].x\"\n")
    };
    let publisher = published(&(mount(1, 1) + &mount(2, 2)));
    let push = |tag, dts| push(&publisher, tag, dts);
    push((TagKind::VIDEO, b"\x17\0\0\0\0c"), 0);
    let audio = |lead| read(&mut publisher.stream().audio().reader(JoinAt::Before(Millis(lead)), Pace::Each));
    for dts in (0..10_000).step_by(100) {
        push(A, dts);
        push(INTER, dts);
        push((TagKind::AUDIO, b"\xaf\x01"), dts + 1);
        let frames = audio(60_000).into_iter().filter(|(kind, _)| *kind == 'a').map(|(_, dts)| dts);
        let expected: Vec<_> = (0..=dts).step_by(100).filter(|time| dts - time <= 2_000).collect();
        assert_eq!(frames.collect::<Vec<_>>(), expected);
    }
    assert_eq!(audio(0)[0], ('a', 9_900));
    assert_eq!(publisher.stream().tags().held().1, 2, "no keyframe came: the newest frame, and silence");
}

/// Returns the tracks that the newest tag of a ring reports: audio, video.
fn tracks(reader: &mut Reader<Tag>) -> Option<(bool, bool)> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut last = None;
    while let Poll::Ready(Some(tags)) = reader.poll_read(&mut cx) {
        last = tags.last().map(|tag| tag.tracks);
    }
    last.and_then(|tracks| tracks.audio().zip(tracks.video()))
}

#[test]
fn a_track_is_gone_after_ten_seconds_or_when_a_new_publisher_does_not_begin_it() {
    let first = published("");
    let reader = |ring: &Arc<Ring<Tag>>| ring.reader(JoinAt::Newest, Pace::Each);
    let [mut all, mut audio] = [first.stream().tags(), first.stream().audio()].map(reader);
    push(&first, A, 0);
    assert_eq!(tracks(&mut all), Some((true, false)));
    push(&first, KEY, 20);
    for (dts, both) in [(10_000, true), (10_040, false)] {
        push(&first, INTER, dts);
        assert_eq!(tracks(&mut all), Some((both, true)), "{dts}");
    }
    assert_eq!(tracks(&mut audio), Some((false, true)), "readers of audio are told");
    assert_eq!(first.stream().codecs(), Codecs { video: Codec::H264, audio: Codec::NONE });
    push(&first, A, 10_050);
    assert_eq!(tracks(&mut all), Some((true, true)));
    first.leave();
    let second = Stream::publish(first.stream(), false, Account::unlimited()).unwrap();
    for (dts, both) in [(0, true), (1_000, true), (1_040, false)] {
        push(&second, KEY, dts);
        assert_eq!(tracks(&mut all), Some((both, true)), "{dts}");
    }
    second.leave();
    let third = Stream::publish(first.stream(), false, Account::unlimited()).unwrap();
    (0..2_000).step_by(100).for_each(|dts| push(&third, A, dts));
    assert_eq!(tracks(&mut all), Some((true, false)));
    let mut joined = third.stream().play();
    assert_eq!(read(&mut joined).len(), 1, "audio alone: each frame is a join point");
}

#[test]
fn readers_that_join_get_nothing_of_an_earlier_publisher() {
    let first = published("");
    let header = (TagKind::VIDEO, b"\x17\0\0\0\0c".as_slice());
    push(&first, header, 0);
    push(&first, (TagKind::AUDIO, b"\xaf\0x"), 0);
    push(&first, KEY, 0);
    push(&first, A, 20);
    first.leave();
    assert_eq!(read(&mut first.stream().play()), [], "its publisher is away");
    let again = Stream::publish(first.stream(), false, Account::unlimited()).unwrap();
    let mut joined = again.stream().play();
    push(&again, INTER, 0);
    push(&again, header, 40);
    push(&again, KEY, 40);
    assert_eq!(read(&mut joined).iter().map(|(letter, _)| *letter).collect::<String>(), "ck");
}

#[test]
fn a_reader_that_joins_starts_after_a_change_of_codec_and_after_the_last_frame_of_a_track() {
    let publisher = published("");
    let push = |tag, dts| push(&publisher, tag, dts);
    let joined = || read(&mut publisher.stream().play()).first().copied();
    push(KEY, 0);
    push(A, 20);
    assert_eq!(joined(), Some(('k', 0)));
    push((TagKind::AUDIO, b"\x2fm"), 40);
    assert_eq!(joined(), None);
    push(KEY, 80);
    push((TagKind::AUDIO, b"\x2fm"), 100);
    push(INTER, 10_090);
    assert_eq!(joined(), Some(('k', 80)));
    push(INTER, 10_120);
    assert_eq!(joined(), None, "the audio of this GOP has ended");
    push(KEY, 10_160);
    assert_eq!(joined(), Some(('k', 10_160)));
}

#[test]
fn audio_of_another_codec_or_setup_is_no_join_point() {
    let publisher =
        published("[[vhost.a.http_remux]]\nenabled=true\nfast_cache=30\nmount=\"/[app]/[stream].x\"");
    let push = |body, dts| push(&publisher, (TagKind::AUDIO, body), dts);
    let start = |lead| {
        let mut reader = publisher.stream().audio().reader(JoinAt::Before(Millis(lead)), Pace::Each);
        read(&mut reader).iter().map(|(letter, _)| *letter).collect::<String>()
    };
    push(b"\xaf\0x", 0);
    push(b"\xaf\x01a", 0);
    push(b"\xaf\x01b", 20);
    assert_eq!((start(30_000), start(0)), ("xab".into(), "xb".into()));
    push(b"\xaf\0x", 30);
    push(b"\xaf\x01c", 40);
    assert_eq!(start(30_000), "xabc", "the same again");
    push(b"\xaf\0y", 50);
    assert_eq!((start(30_000), start(0)), (String::new(), String::new()), "nothing yet");
    push(b"\xaf\x01d", 60);
    push(b"\xaf\x01e", 80);
    assert_eq!((start(30_000), start(0)), ("yde".into(), "ye".into()));
    push(b"\x2ff", 100);
    push(b"\x2fg", 120);
    assert_eq!((start(30_000), start(0)), ("yfg".into(), "yg".into()));
    push(b"\xaf\x01h", 140);
    assert_eq!((start(30_000), start(0)), ("yh".into(), "yh".into()));
}

#[test]
fn payloads_are_shared_not_copied() {
    let publisher = published("[[vhost.a.http_remux]]\nmount = \"/[app]/[stream].mp3\"\nfast_cache = 30\n");
    let join = |ring: &Arc<Ring<Tag>>| ring.reader(JoinAt::Newest, Pace::Each);
    let readers = [publisher.stream().tags(), publisher.stream().audio()].map(join);
    let header: (TagKind, &[u8]) = (TagKind::AUDIO, b"\xaf\0\x12\x10");
    let metadata: (TagKind, &[u8]) = (TagKind::SCRIPT, b"\x02\0\x0aonMetaData\x05");
    for (dts, tag) in (0..).zip([metadata, header, A]) {
        push(&publisher, tag, dts);
    }
    let sent = [metadata, header, A].map(|(_, body)| body.as_ptr());
    for (mut reader, sent) in readers.into_iter().zip([&sent[..], &sent[1..]]) {
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Some(tags)) = reader.poll_read(&mut cx) else { panic!("nothing to read") };
        assert_eq!(tags.iter().map(|tag| tag.payload.as_ptr()).collect::<Vec<_>>(), sent);
    }
}

/// The publisher may be far ahead of a remuxer that starts.
#[test]
fn the_facts_have_the_age_at_the_position_of_the_reader() {
    let config = Config::parse("[vhost.a]\n", "remuxd.toml").unwrap();
    let source =
        Source::new(StreamKey::new("a", "live", "x"), config.vhosts[0].clone(), Account::unlimited());
    let publisher = source.publish(false, Account::unlimited()).unwrap();
    for dts in [0, 20_000] {
        let tag = Tag::new(TagKind::AUDIO, Millis(dts), Bytes::from_static(b"\x2fm"));
        assert!(source.push(publisher, tag, Millis(dts)));
    }
    assert_eq!([0, 500, 20_000].map(|at| source.facts(Millis(at)).age_ms), [0, 500, 20_000]);
}

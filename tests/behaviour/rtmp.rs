//! Publishing and playing over RTMP.

use remuxd_tests::capture::{Capture, End};
use remuxd_tests::clip::Clip;
use remuxd_tests::encoder::Encoder;
use remuxd_tests::flv::{SCRIPT, Tag};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::rtmp::{Amf, Connection, Message, split_key};
use remuxd_tests::tool::Ffmpeg;
use remuxd_tests::wait::SOON;

fn wait_frame(viewer: &Capture, number: u32) {
    viewer
        .wait_until(SOON, &format!("frame {number}"), |tags| Numbered::numbers(tags).last() == Some(&number));
}

#[test]
fn a_second_publisher_is_refused() {
    let host = Host::start(&Config::live());
    let key = host.key("taken");
    let mut first = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(500);
    let viewer = Capture::http(&host, &key);
    first.send(&media.headers());
    first.send(&media.frames(10));
    let (_, status) = Publisher::try_open(host.rtmp, &key).unwrap();
    assert_eq!(status, "NetStream.Publish.BadName");
    let mut ffmpeg = Encoder::Ffmpeg(Ffmpeg::Five).publish(Clip::H264Aac, &host, &key);
    let (success, _) = ffmpeg.outcome();
    assert!(!success, "ffmpeg sees the refusal");
    first.send(&media.frames(10));
    wait_frame(&viewer, 19);
    drop(first);
    assert_eq!(Numbered::numbers(&viewer.finish(SOON).tags), (0..20).collect::<Vec<_>>());
}

#[test]
fn a_second_publisher_replaces_the_first_if_the_config_allows_it() {
    let host = Host::start(&Config::live().publish("publish_conflict", "\"replace\""));
    let key = host.key("taken");
    let mut first = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(500);
    let viewer = Capture::http(&host, &key);
    first.send(&media.headers());
    first.send(&media.frames(10));
    wait_frame(&viewer, 9);
    let mut second = Publisher::open(host.rtmp, &key);
    // The first publisher is notified, also while it is silent, and no viewer gets what it sends.
    assert_eq!(first.connection().read_until(Message::status).unwrap(), "NetStream.Publish.BadName");
    media.frame().iter().for_each(|tag| drop(first.try_send(tag)));
    let mut media = Numbered::new(500);
    second.send(&media.headers());
    second.send(&media.frames(20));
    wait_frame(&viewer, 19);
    drop(second);
    let recording = viewer.finish(SOON);
    assert_eq!(Numbered::numbers(&recording.tags), (0..10).chain(0..20).collect::<Vec<_>>());
    remuxd_tests::compare::check_order(&recording.tags).unwrap();
}

#[test]
fn one_connection_publishes_several_streams() {
    let host = Host::start(&Config::live());
    let keys = [host.key("one"), host.key("two")];
    let mut connection = Connection::open(host.rtmp).unwrap();
    connection.connect("live").unwrap();
    let streams = keys.each_ref().map(|key| {
        let stream = connection.create_stream().unwrap();
        assert_eq!(connection.publish(stream, split_key(key).1).unwrap(), "NetStream.Publish.Start");
        stream
    });
    assert_ne!(streams[0], streams[1]);
    let viewers = keys.each_ref().map(|key| Capture::http(&host, key));
    let mut media = [Numbered::new(300), Numbered::new(3000)];
    let send = |connection: &mut Connection, index: usize, tags: Vec<Tag>| {
        for tag in tags {
            let message = Message {
                kind: tag.kind,
                stream: streams[index],
                timestamp: tag.timestamp,
                payload: tag.payload,
            };
            connection.write(4 + index as u8, &message).unwrap();
        }
    };
    for (index, media) in media.iter().enumerate() {
        send(&mut connection, index, media.headers());
    }
    for _ in 0..10 {
        for (index, media) in media.iter_mut().enumerate() {
            send(&mut connection, index, media.frame());
        }
    }
    viewers.iter().for_each(|viewer| wait_frame(viewer, 9));
    // One stream ends, the other continues.
    connection.command(streams[0], "closeStream", &[Amf::Null]).unwrap();
    let [one, two] = viewers;
    let one = one.finish(SOON);
    send(&mut connection, 1, media[1].frames(5));
    wait_frame(&two, 14);
    drop(connection);
    let two = two.finish(SOON);
    for (recording, frames, size) in [(one, 10, 300), (two, 15, 3000)] {
        assert_eq!(recording.end, End::Clean);
        assert_eq!(Numbered::numbers(&recording.tags), (0..frames).collect::<Vec<_>>());
        let sizes = recording
            .tags
            .iter()
            .filter(|tag| Numbered::number_of(tag).is_some())
            .map(|tag| tag.payload.len());
        assert!(sizes.into_iter().all(|bytes| bytes == size + 9), "frames of the other stream");
    }
}

#[test]
fn a_player_may_come_before_its_publisher() {
    let host = Host::start(&Config::live());
    let key = host.key("later");
    let mut player = Connection::open(host.rtmp).unwrap();
    let (app, name) = split_key(&key);
    player.connect(app).unwrap();
    let stream = player.create_stream().unwrap();
    // Play.Start comes when there is something to play.
    let (started, mut publisher) = std::thread::scope(|scope| {
        let started = scope.spawn(|| player.play(stream, name).unwrap());
        host.wait_waiting(1);
        let publisher = Publisher::open(host.rtmp, &key);
        (started.join().unwrap(), publisher)
    });
    assert_eq!(started, "NetStream.Play.Start");
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(5));
    let mut numbers = Vec::new();
    while numbers.last() != Some(&4) {
        let message = player.read().unwrap();
        let tag = Tag { kind: message.kind, timestamp: message.timestamp, payload: message.payload };
        numbers.extend(Numbered::number_of(&tag));
    }
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
}

#[test]
fn metadata_loses_its_envelope_and_duration() {
    let host = Host::start(&Config::live());
    let key = host.key("metadata");
    let viewer = Capture::http(&host, &key);
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(500);
    let mut headers = media.headers();
    let metadata = [
        "@setDataFrame".into(),
        "onMetaData".into(),
        Amf::Object(vec![("duration".into(), 12.0.into()), ("encoder".into(), "remuxd-tests".into())]),
    ];
    headers[0].payload = remuxd_tests::rtmp::amf::write(&metadata);
    publisher.send(&headers);
    publisher.send(&media.frames(3));
    wait_frame(&viewer, 2);
    let script = viewer.tags().into_iter().find(|tag| tag.kind == SCRIPT).unwrap();
    let values = remuxd_tests::rtmp::amf::read(&script.payload).unwrap();
    assert_eq!(values[0], "onMetaData".into());
    assert_eq!(values[1].property("encoder"), Some(&"remuxd-tests".into()));
    assert_eq!(values[1].property("duration"), None);
}

#[test]
fn connect_announces_the_capabilities_of_the_host() {
    let host = Host::start(&Config::live());
    let mut connection = Connection::open(host.rtmp).unwrap();
    let object = Amf::Object(vec![
        ("app".into(), "live".into()),
        ("tcUrl".into(), Amf::String(format!("rtmp://{}/live", host.rtmp))),
        ("fourCcList".into(), Amf::Array(vec!["hvc1".into(), "av01".into()])),
        ("capsEx".into(), 15.0.into()),
    ]);
    let (answer, values) = connection.call("connect", &[object]).unwrap();
    assert_eq!(answer, "_result");
    let [properties, information, ..] = values.as_slice() else { panic!("{values:?}") };
    assert!(properties.property("fmsVer").is_some(), "{values:?}");
    assert_eq!(information.property("code"), Some(&"NetConnection.Connect.Success".into()));
    let stated = ["fourCcList", "capsEx"].map(|name| {
        properties
            .property(name)
            .or(information.property(name))
            .unwrap_or_else(|| panic!("no {name}: {values:?}"))
    });
    let [Amf::Array(four_cc), caps] = stated else { panic!("{stated:?}") };
    assert!(
        ["hvc1", "av01", "vp09", "Opus"].iter().all(|code| four_cc.contains(&(*code).into()))
            || four_cc.contains(&"*".into()),
        "{four_cc:?}"
    );
    // Multitrack and ModEx.
    assert!(caps.number().is_some_and(|caps| caps as u32 & 6 == 6), "{caps:?}");
}

#[test]
fn an_empty_stream_name_is_refused() {
    let host = Host::start(&Config::live());
    let refused = Publisher::try_open(host.rtmp, "live/").map(|(_, status)| status);
    assert!(refused.as_ref().map_or(true, |status| status != "NetStream.Publish.Start"), "{refused:?}");
}

#[test]
fn a_token_in_the_query_is_not_part_of_the_name() {
    let host = Host::start(&Config::live());
    let key = host.key("token");
    let viewer = Capture::http(&host, &key);
    // This test asks for a token beside the one that every publisher sends; the log is searched for that one.
    let mut publisher = Publisher::open(host.rtmp, &format!("{key}?sign=0"));
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(3));
    wait_frame(&viewer, 2);
}

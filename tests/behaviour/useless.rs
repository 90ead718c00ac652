//! RTMP peers that keep a connection and neither send nor take media: each is closed in bounded time, with a reason.

use std::io;
use std::time::{Duration, Instant};

use remuxd_tests::capture::Capture;
use remuxd_tests::flv::{Tag, VIDEO};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::rtmp::{Amf, Connection, Message, split_key, type0};
use remuxd_tests::wait::SOON;

/// Time between two requests of a peer that asks again and again: less than each timeout.
const AGAIN: Duration = Duration::from_millis(200);

/// Timeouts of one second, except between media.
fn impatient() -> Config {
    Config::live()
        .limits("handshake_timeout", "\"1s\"")
        .limits("media_timeout", "\"1s\"")
        .publish("firstpkt_timeout", "\"1s\"")
        .publish("normal_timeout", "\"2s\"")
        .play("wait", "\"1s\"")
}

/// Repeats an action until the host closes the connection and has logged `reason`.
fn closed_although(
    host: &Host,
    connection: &mut Connection,
    reason: &str,
    mut act: impl FnMut(&mut Connection, u32),
) {
    let started = Instant::now();
    let address = connection.local_addr().to_string();
    connection.socket().set_read_timeout(Some(AGAIN)).unwrap();
    for round in 0.. {
        act(connection, round);
        let error = loop {
            match connection.read() {
                Ok(_) => {}
                Err(error) => break error.kind(),
            }
        };
        if !matches!(error, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
            break;
        }
        assert!(started.elapsed() < SOON, "the host keeps the connection");
    }
    host.wait_log(&["INFO", &address, reason]);
}

fn player(host: &Host, key: &str) -> (Connection, u32) {
    let (app, name) = split_key(key);
    let mut player = Connection::open(host.rtmp).unwrap();
    player.connect(app).unwrap();
    let stream = player.create_stream().unwrap();
    assert_eq!(player.play(stream, name).unwrap(), "NetStream.Play.Start");
    (player, stream)
}

#[test]
fn a_paused_player_does_not_stay() {
    let host = Host::start(&impatient());
    let keys = [host.key("live"), host.key("ended")];
    let live = Publisher::open(host.rtmp, &keys[0]).pace(Numbered::new(500));
    let mut ended = Publisher::open(host.rtmp, &keys[1]);
    let mut media = Numbered::new(500);
    ended.send(&media.headers());
    ended.send(&media.frames(5));
    let (mut watching, _) = player(&host, &keys[0]);
    let mut paused = keys.each_ref().map(|key| {
        let (mut player, stream) = player(&host, key);
        player.command(stream, "pause", &[Amf::Null, Amf::Boolean(true), 0.0.into()]).unwrap();
        let notified = |message: &Message| message.status().filter(|code| code == "NetStream.Pause.Notify");
        player.read_until(notified).unwrap();
        player
    });
    drop(ended);
    for player in &mut paused {
        closed_although(&host, player, "no media in time", |_, _| ());
    }
    // The player that takes its media outlives all timeouts.
    let number = |message: &Message| {
        let Message { kind, timestamp, ref payload, .. } = *message;
        Numbered::number_of(&Tag { kind, timestamp, payload: payload.clone() })
    };
    watching.read_until(|message| number(message).filter(|number| *number > 150)).unwrap();
    live.stop();
}

#[test]
fn playing_nothing_again_and_again_extends_no_deadline() {
    let host = Host::start(&impatient());
    let mut peer = Connection::open(host.rtmp).unwrap();
    peer.connect("live").unwrap();
    let stream = peer.create_stream().unwrap();
    closed_although(&host, &mut peer, "no media in time", |peer, round| {
        let _ = peer.command(stream, "play", &[Amf::Null, "nothing".into()]);
        if round % 2 == 0 {
            let _ = peer.command(stream, "closeStream", &[Amf::Null]);
        } else {
            let _ = peer.command(0, "deleteStream", &[Amf::Null, f64::from(stream).into()]);
            let _ = peer.command(0, "createStream", &[Amf::Null]);
        }
    });
}

#[test]
fn publishing_new_names_without_media_extends_no_deadline() {
    let host = Host::start(&impatient());
    let mut peer = Connection::open(host.rtmp).unwrap();
    peer.connect("live").unwrap();
    let stream = peer.create_stream().unwrap();
    closed_although(&host, &mut peer, "no media in time", |peer, round| {
        let name = format!("name{round}");
        let _ = peer.command(stream, "publish", &[Amf::Null, name.as_str().into(), "live".into()]);
    });
}

#[test]
fn a_message_that_is_never_completed_ends_its_publisher() {
    let host = Host::start(&Config::live().limits("send_timeout", "\"1s\""));
    let key = host.key("hoard");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let viewer = Capture::http(&host, &key);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(5));
    viewer.wait_access_units(5, SOON);
    // The first of two chunks; the second never comes.
    let begun = [type0(9, VIDEO, 1, 0, 100_000), vec![0; 65536]].concat();
    publisher.connection().write_raw(&begun).unwrap();
    closed_although(&host, publisher.connection(), "message was not completed in time", |peer, _| {
        for Tag { kind, timestamp, payload } in media.frame() {
            let _ = peer.write(4, &Message { kind, stream: 1, timestamp, payload });
        }
    });
}

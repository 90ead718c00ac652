//! What clients send, and what the session makes of it.

mod clients;

use bytes::{Buf, Bytes};

use super::*;
use crate::media::{Millis, TagKind};
use crate::rtmp::chunk::{ChunkReader, ChunkWriter};
use crate::rtmp::command::{PlayRequest, PublishRequest};
use crate::rtmp::handshake::Random;
use crate::rtmp::message::{Message, MessageKind};

const CHUNK_SIZE: u32 = 60_000;
const WINDOW: u32 = 2_500_000;

fn settings() -> ServerSettings {
    ServerSettings { chunk_size: CHUNK_SIZE, window_ack_size: WINDOW, limits: ChunkLimits::default() }
}

fn session() -> ServerSession {
    ServerSession::new(settings(), ServerHandshake::new(0, Random::from_seed(1)))
}

/// One message of a client.
#[derive(Clone)]
enum Send {
    Command(u32, Command),
    /// As `Command`, in an AMF3 envelope.
    Amf3(u32, Command),
    Control(Control),
    Message(MessageKind, u32, u32, &'static [u8]),
}

use self::Send::{Amf3, Control as Ctl, Message as Msg};

fn cmd(stream_id: u32, name: &str, transaction: u32, arguments: Vec<Value>) -> Send {
    Send::Command(stream_id, Command::call(name, transaction.into(), arguments))
}

fn connect(tc_url: &str, more: &[(&str, Value)]) -> Send {
    let mut properties = vec![
        ("app".to_owned(), "live".into()),
        ("flashVer".to_owned(), "FMLE/3.0 (compatible; x)".into()),
        ("tcUrl".to_owned(), tc_url.into()),
    ];
    properties.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    Send::Command(0, Command { object: Value::Object(properties), ..Command::call("connect", 1.0, vec![]) })
}

/// The plain handshake and these messages, as a client puts them on the wire.
fn bytes_of(script: &[Send]) -> Vec<u8> {
    let mut out = Output::new();
    let mut writer = ChunkWriter::new();
    out.extend_from_slice(&[3]);
    out.extend_from_slice(&[0; 2 * 1536]);
    for step in script {
        match step {
            Send::Command(stream_id, command) => {
                writer.write(3, MessageKind::COMMAND_AMF0, *stream_id, 0, &command.to_payload(), &mut out);
            }
            Amf3(stream_id, command) => {
                let payload = [&[0][..], &command.to_payload()].concat().into();
                writer.write(3, MessageKind::COMMAND_AMF3, *stream_id, 0, &payload, &mut out);
            }
            Ctl(control) => {
                let message = control.to_message();
                writer.write(2, message.kind, 0, 0, &message.payload, &mut out);
                if let Control::SetChunkSize(size) = control {
                    writer.set_chunk_size(*size);
                }
            }
            Msg(kind, stream_id, timestamp, payload) => {
                writer.write(4, *kind, *stream_id, *timestamp, &Bytes::from_static(payload), &mut out);
            }
        }
    }
    let len = out.len();
    out.copy_to_bytes(len).to_vec()
}

/// An owner that accepts everything, and notes all events and all messages that go out.
struct Owner {
    session: ServerSession,
    reader: ChunkReader,
    handshake_left: usize,
    read: BytesMut,
    events: Vec<String>,
    sent: Vec<String>,
    media: Vec<Tag>,
    accepts: bool,
}

impl Owner {
    fn new() -> Owner {
        Owner {
            session: session(),
            reader: ChunkReader::new(ChunkLimits::default()),
            handshake_left: 1 + 2 * 1536,
            read: BytesMut::new(),
            events: Vec::new(),
            sent: Vec::new(),
            media: Vec::new(),
            accepts: true,
        }
    }

    fn run(script: &[Send], step: usize) -> Owner {
        let mut owner = Owner::new();
        for bytes in bytes_of(script).chunks(step) {
            owner.feed(bytes).unwrap();
        }
        owner
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        self.session.input().extend_from_slice(bytes);
        while let Some(event) = self.session.poll_event()? {
            self.on_event(event);
        }
        self.drain();
        Ok(())
    }

    fn on_event(&mut self, event: Event) {
        let noted = match event {
            Event::Connect { .. } => {
                if self.accepts {
                    self.session.accept_connect();
                }
                "connect".to_owned()
            }
            Event::Publish { stream_id, request } => {
                if self.accepts {
                    self.session.accept_publish(stream_id);
                }
                let PublishRequest { name, publish_type, kind } = request;
                let name = format!("{}/{}/{}{}", name.vhost, name.app, name.stream, name.params);
                format!("publish {stream_id} {name} {publish_type:?} {kind:?}")
            }
            Event::Play { stream_id, request } => {
                if self.accepts {
                    self.session.accept_play(stream_id);
                }
                let PlayRequest { name, start, duration, reset } = request;
                let name = format!("{}/{}/{}{}", name.vhost, name.app, name.stream, name.params);
                format!("play {stream_id} {name} {start} {duration} {reset}")
            }
            Event::Media { stream_id, tag } => {
                let noted = format!("{:?} {stream_id} {} {:?}", tag.kind, tag.dts.0, tag.payload);
                self.media.push(tag);
                noted
            }
            Event::Unpublish { stream_id } => format!("unpublish {stream_id}"),
            Event::StopPlay { stream_id } => format!("stop {stream_id}"),
            Event::Pause { stream_id, paused } => format!("pause {stream_id} {paused}"),
            Event::ReceiveAudio { stream_id, wanted } => format!("receive audio {stream_id} {wanted}"),
            Event::ReceiveVideo { stream_id, wanted } => format!("receive video {stream_id} {wanted}"),
            Event::BufferLength { stream_id, millis } => format!("buffer {stream_id} {millis}"),
        };
        self.events.push(noted);
    }

    /// Reads what the session sends, as its client would.
    fn drain(&mut self) {
        let output = self.session.output();
        let skip = self.handshake_left.min(output.len());
        output.advance(skip);
        self.handshake_left -= skip;
        self.read.extend_from_slice(&output.copy_to_bytes(output.len()));
        while let Some(message) = self.reader.read(&mut self.read).unwrap() {
            self.sent.push(describe(&message));
        }
    }
}

/// One line for a message: what a client would look at.
fn describe(message: &Message) -> String {
    if let Some(control) = Control::read(message).unwrap() {
        return format!("{control:?}");
    }
    match message.kind {
        MessageKind::COMMAND_AMF0 => {
            let command = Command::read(&message.payload).unwrap();
            let argument = command.arguments.first().unwrap_or(&Value::Null);
            let said = match argument {
                Value::Number(number) => format!(" {number}"),
                other => other
                    .property("code")
                    .and_then(Value::as_str)
                    .map_or(String::new(), |code| format!(" {code}")),
            };
            format!("{} {} {}{said}", message.stream_id, command.name, command.transaction)
        }
        kind => format!("{} {kind:?} {}", message.stream_id, message.timestamp),
    }
}

const ACCEPTED: [&str; 5] = [
    "WindowAckSize(2500000)",
    "SetPeerBandwidth { window: 2500000, limit: Dynamic }",
    "SetChunkSize(60000)",
    "0 _result 1 NetConnection.Connect.Success",
    "0 onBWDone 0",
];
const METADATA: &[u8] = b"\x02\0\x0d@setDataFrame\x02\0\x0aonMetaData\x08\0\0\0\0\0\0\x09";
const VIDEO: &[u8] = b"\x17\x01\0\0\0frame";
const AUDIO: &[u8] = b"\xaf\x01sound";

fn publisher(rest: Vec<Send>) -> Vec<Send> {
    let start = vec![
        connect("rtmp://ip/live", &[]),
        cmd(0, "createStream", 2, vec![]),
        cmd(1, "publish", 3, vec!["key".into(), "live".into()]),
    ];
    [start, rest].concat()
}

#[test]
fn hands_out_payloads_in_the_buffer_they_were_read_into() {
    let mut owner = Owner::run(&publisher(vec![Ctl(Control::SetChunkSize(1 << 16))]), usize::MAX);
    let payload: &'static [u8] = Box::leak(vec![0x27; 50_000].into_boxed_slice());
    let bytes = bytes_of(&publisher(vec![
        Ctl(Control::SetChunkSize(1 << 16)),
        Msg(MessageKind::VIDEO, 1, 0, payload),
        Msg(MessageKind::DATA_AMF0, 1, 0, METADATA),
    ]));
    let before = bytes_of(&publisher(vec![Ctl(Control::SetChunkSize(1 << 16))])).len();

    let input = owner.session.input();
    input.extend_from_slice(&bytes[before..]);
    let buffer = input.as_ptr() as usize..input.as_ptr() as usize + input.len();
    owner.feed(&[]).unwrap();
    assert_eq!(owner.media.len(), 2);
    for tag in &owner.media {
        assert!(buffer.contains(&(tag.payload.as_ptr() as usize)), "{:?}", tag.kind);
    }
    assert!(owner.media[1].payload.starts_with(b"\x02\0\x0aonMetaData"));
}

#[test]
fn sends_slices_of_the_payload_to_players() {
    let script = [
        connect("rtmp://ip/live", &[]),
        cmd(0, "createStream", 2, vec![]),
        cmd(1, "play", 0, vec!["key".into()]),
    ];
    let mut owner = Owner::run(&script, usize::MAX);
    let payload = Bytes::from(vec![0x27; 150_000]);
    owner.session.send_tag(1, &Tag::new(TagKind::VIDEO, Millis(1 << 33), payload.clone()));
    owner.session.send_tag(2, &Tag::new(TagKind::VIDEO, Millis(0), payload.clone()));

    let chunk = CHUNK_SIZE as usize;
    let slices = owner.session.output().take_all();
    let shared: Vec<_> = slices.iter().filter(|slice| slice.len() > 100).collect();
    let expected: Vec<_> = payload.chunks(chunk).map(<[u8]>::as_ptr).collect();
    assert_eq!(shared.iter().map(|slice| slice.as_ptr()).collect::<Vec<_>>(), expected);
}

#[test]
fn sends_audio_video_and_script() {
    let script = [
        connect("rtmp://ip/live", &[]),
        cmd(0, "createStream", 2, vec![]),
        cmd(1, "play", 0, vec!["key".into()]),
    ];
    let mut owner = Owner::run(&script, usize::MAX);
    owner.sent.clear();
    let tag = |kind, dts| Tag::new(kind, Millis(dts), Bytes::from_static(VIDEO));
    owner.session.send_tag(1, &tag(TagKind::SCRIPT, 0));
    owner.session.send_tag(1, &tag(TagKind::AUDIO, 20));
    owner.session.send_tag(1, &tag(TagKind::VIDEO, (1 << 32) + 40));
    owner.session.ping(5);
    owner.session.end_play(1, PlayEnd::Unpublished);
    owner.session.send_tag(1, &tag(TagKind::VIDEO, 80));
    owner.drain();
    let expected = [
        "1 DATA_AMF0 0",
        "1 AUDIO 20",
        "1 VIDEO 40",
        "PingRequest(5)",
        "StreamEof(1)",
        "1 onStatus 0 NetStream.Play.UnpublishNotify",
    ];
    assert_eq!(owner.sent, expected);
}

#[test]
fn carries_several_streams() {
    let script = [
        connect("rtmp://ip/live", &[]),
        cmd(0, "createStream", 2, vec![]),
        cmd(0, "createStream", 3, vec![]),
        cmd(1, "publish", 0, vec!["a".into()]),
        cmd(2, "publish", 0, vec!["b".into()]),
        Msg(MessageKind::VIDEO, 2, 0, VIDEO),
        Msg(MessageKind::VIDEO, 1, 0, VIDEO),
        Msg(MessageKind::VIDEO, 3, 0, VIDEO),
        cmd(0, "FCUnpublish", 4, vec!["b".into()]),
        Msg(MessageKind::VIDEO, 2, 0, VIDEO),
        cmd(0, "deleteStream", 0, vec![1.0.into()]),
        cmd(0, "createStream", 5, vec![]),
        cmd(2, "play", 0, vec!["a".into()]),
    ];
    let owner = Owner::run(&script, usize::MAX);
    let events = [
        "connect",
        "publish 1 ip/live/a Live Flash",
        "publish 2 ip/live/b Live Flash",
        r#"video 2 0 b"\x17\x01\0\0\0frame""#,
        r#"video 1 0 b"\x17\x01\0\0\0frame""#,
        "unpublish 2",
        "unpublish 1",
        "play 2 ip/live/a -2 -1 true",
    ];
    assert_eq!(owner.events, events);
    assert!(owner.sent.contains(&"0 _result 5 1".to_owned()), "a number is free again: {:?}", owner.sent);
}

#[test]
fn takes_aggregates_apart() {
    // Video at 1000 and audio at 1010; the message is at 40.
    const AGGREGATE: &[u8] =
        b"\x09\0\0\x01\0\x03\xe8\0\0\0\0V\0\0\0\x0c\x08\0\0\x01\0\x03\xf2\0\0\0\0A\0\0\0\x0c";
    let owner = Owner::run(&publisher(vec![Msg(MessageKind::AGGREGATE, 1, 40, AGGREGATE)]), usize::MAX);
    assert_eq!(owner.events[2..], [r#"video 1 40 b"V""#, r#"audio 1 50 b"A""#]);
}

#[test]
fn an_aggregate_cannot_carry_commands() {
    let command: Vec<u8> = Command::call("createStream", 9.0, vec![]).to_payload().to_vec();
    let header = [&[20, 0, 0, command.len() as u8][..], &[0; 7]].concat();
    let aggregate = [header, command, vec![0; 4]].concat().leak();
    let owner = Owner::run(&publisher(vec![Msg(MessageKind::AGGREGATE, 1, 0, aggregate)]), usize::MAX);
    assert!(!owner.sent.iter().any(|line| line.contains("_result 9")), "{:?}", owner.sent);
}

#[test]
fn a_lone_stream_takes_what_names_no_stream() {
    let script = [
        connect("rtmp://ip/live", &[]),
        cmd(0, "createStream", 2, vec![]),
        cmd(0, "publish", 0, vec!["key".into()]),
        Msg(MessageKind::VIDEO, 0, 0, VIDEO),
    ];
    let owner = Owner::run(&script, usize::MAX);
    assert_eq!(
        owner.events[1..],
        ["publish 1 ip/live/key Live Flash", r#"video 1 0 b"\x17\x01\0\0\0frame""#]
    );
}

#[test]
fn publishes_again_on_the_same_connection() {
    let again = vec![
        cmd(0, "FCUnpublish", 4, vec!["key".into()]),
        Msg(MessageKind::VIDEO, 1, 0, VIDEO),
        cmd(1, "publish", 5, vec!["key".into()]),
        Msg(MessageKind::AUDIO, 1, 0, AUDIO),
    ];
    let owner = Owner::run(&publisher(again), usize::MAX);
    let events = ["unpublish 1", "publish 1 ip/live/key Live Flash", r#"audio 1 0 b"\xaf\x01sound""#];
    assert_eq!(owner.events[2..], events);
}

#[test]
fn drops_media_before_the_answer() {
    let mut owner = Owner::new();
    owner.accepts = false;
    let start = [connect("rtmp://ip/live", &[])];
    owner.feed(&bytes_of(&start)).unwrap();
    owner.session.accept_connect();
    let whole = bytes_of(&publisher(vec![Msg(MessageKind::VIDEO, 1, 0, VIDEO)]));
    owner.feed(&whole[bytes_of(&start).len()..]).unwrap();
    assert!(owner.media.is_empty());
    assert!(!owner.sent.iter().any(|line| line.contains("Publish.Start")), "{:?}", owner.sent);
    owner.session.accept_publish(1);
    owner.drain();
    assert!(owner.sent.iter().any(|line| line.contains("Publish.Start")), "{:?}", owner.sent);
}

#[test]
fn refuses_with_a_status() {
    let redirect = Rejection::Redirect { url: "rtmp://other/live/key".into() };
    #[rustfmt::skip]
    let rows = [
        (Rejection::Busy, ["NetConnection.Connect.Rejected", "NetStream.Publish.BadName", "NetStream.Play.Failed"]),
        (Rejection::NotFound, ["NetConnection.Connect.Rejected", "NetStream.Publish.BadName", "NetStream.Play.StreamNotFound"]),
        (Rejection::Denied, ["NetConnection.Connect.Rejected", "NetStream.Publish.Denied", "NetStream.Play.Failed"]),
        (Rejection::Unavailable, ["NetConnection.Connect.Rejected", "NetStream.Publish.Failed", "NetStream.Play.Failed"]),
        (redirect, ["NetConnection.Connect.Rejected"; 3]),
    ];
    for (rejection, [on_connect, on_publish, on_play]) in rows {
        let mut owner = Owner::new();
        owner.accepts = false;
        owner.feed(&bytes_of(&[connect("rtmp://ip/live", &[])])).unwrap();
        owner.session.reject_connect(&rejection);
        owner.drain();
        assert_eq!(owner.sent, [format!("0 _error 1 {on_connect}")]);
        assert!(owner.session.is_over());
        owner.feed(b"whatever").unwrap();

        for (command, expected) in [("publish", on_publish), ("play", on_play)] {
            let mut owner = Owner::new();
            owner.accepts = false;
            let start = [connect("rtmp://ip/live", &[])];
            owner.feed(&bytes_of(&start)).unwrap();
            owner.session.accept_connect();
            let more =
                [start[0].clone(), cmd(0, "createStream", 2, vec![]), cmd(1, command, 0, vec!["key".into()])];
            owner.feed(&bytes_of(&more)[bytes_of(&start).len()..]).unwrap();
            owner.sent.clear();
            owner.session.reject_publish(1, &rejection);
            owner.session.reject_play(1, &rejection);
            owner.drain();
            assert_eq!(owner.sent, [format!("1 onStatus 0 {expected}")]);
        }
    }
}

#[test]
fn refuses_names_that_name_nothing() {
    let script = [
        connect("rtmp://ip/live", &[]),
        cmd(0, "createStream", 2, vec![]),
        cmd(1, "publish", 0, vec!["".into()]),
        cmd(1, "play", 0, vec!["..".into()]),
        cmd(1, "publish", 0, vec![]),
    ];
    let owner = Owner::run(&script, usize::MAX);
    assert_eq!(owner.events, ["connect"]);
    let refused = [
        "1 onStatus 0 NetStream.Publish.BadName",
        "1 onStatus 0 NetStream.Play.StreamNotFound",
        "1 onStatus 0 NetStream.Publish.BadName",
    ];
    assert_eq!(owner.sent[ACCEPTED.len() + 1..], refused);
}

#[test]
fn states_what_enhanced_rtmp_can_do() {
    let mut owner = Owner::new();
    owner
        .session
        .input()
        .extend_from_slice(&bytes_of(&[connect("rtmp://ip/live", &[("objectEncoding", 3.0.into())])]));
    assert!(matches!(owner.session.poll_event(), Ok(Some(Event::Connect { .. }))));
    owner.session.accept_connect();
    let output = owner.session.output();
    output.advance(1 + 2 * 1536);
    let mut sent = BytesMut::from(&output.copy_to_bytes(output.len())[..]);
    let mut reader = ChunkReader::new(ChunkLimits::default());
    let mut messages = std::iter::from_fn(|| reader.read(&mut sent).unwrap());
    let result = messages.find(|message| message.kind == MessageKind::COMMAND_AMF0).unwrap();
    let result = Command::read(&result.payload).unwrap();
    let stated = ConnectRequest::read(&result.arguments[0]);
    assert_eq!(stated, ConnectRequest { object_encoding: 3, ..capabilities() });
    assert_eq!(result.object.property("capabilities"), Some(&Value::Number(127.0)));
}

#[test]
fn asks_only_clients_that_understand_to_reconnect() {
    for (caps, understands) in [(caps_ex::RECONNECT, true), (caps_ex::MULTITRACK, false)] {
        let script = [connect("rtmp://ip/live", &[("capsEx", f64::from(caps).into())])];
        let mut owner = Owner::run(&script, usize::MAX);
        owner.sent.clear();
        assert_eq!(owner.session.request_reconnect(Some("rtmp://other/live")), understands);
        owner.drain();
        let expected: &[&str] =
            if understands { &["0 onStatus 0 NetConnection.Connect.ReconnectRequest"] } else { &[] };
        assert_eq!(owner.sent, expected);
    }
}

#[test]
fn acknowledges_half_windows() {
    let mut script = publisher(vec![Ctl(Control::WindowAckSize(2000)), Ctl(Control::SetChunkSize(4096))]);
    let frame: &'static [u8] = vec![0x27; 1200].leak();
    script.extend(vec![Msg(MessageKind::VIDEO, 1, 0, frame); 4]);
    let total = bytes_of(&script).len();
    let owner = Owner::run(&script, 100);
    let acks: Vec<usize> = owner
        .sent
        .iter()
        .filter_map(|line| line.strip_prefix("Acknowledgement(")?.strip_suffix(')')?.parse().ok())
        .collect();
    assert!(acks.len() >= 4, "{acks:?}");
    assert!(acks.is_sorted() && acks.last() <= Some(&total), "{acks:?}");
    assert!(acks.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "{acks:?}");
}

#[test]
fn a_window_of_0_asks_for_no_acknowledgement() {
    let mut script = publisher(vec![Ctl(Control::WindowAckSize(0))]);
    script.extend(vec![Msg(MessageKind::VIDEO, 1, 0, VIDEO); 100]);
    let owner = Owner::run(&script, usize::MAX);
    assert!(!owner.sent.iter().any(|line| line.starts_with("Acknowledgement")), "{:?}", owner.sent);
    assert_eq!(owner.media.len(), 100);
}

#[test]
fn drops_clients_that_break_the_rules() {
    let nested =
        [&b"\x02\0\x07connect\0\x3f\xf0\0\0\0\0\0\0"[..], &b"\x03\0\x01a".repeat(200_000)].concat().leak();
    let giant_array = b"\x02\0\x07connect\0\x3f\xf0\0\0\0\0\0\0\x0a\xff\xff\xff\xff";
    let connected = || connect("rtmp://ip/live", &[]);
    let big: &'static [u8] = vec![0; (MAX_BYTES_UNACCEPTED + 1) as usize].leak();
    let many_streams = vec![cmd(0, "createStream", 2, vec![]); MAX_STREAMS + 1];
    let pings = vec![Ctl(Control::PingRequest(0)); 20_000];
    let rows: Vec<(&str, Vec<Send>)> = vec![
        (
            "Command(Amf0(Depth",
            vec![Ctl(Control::SetChunkSize(1 << 20)), Msg(MessageKind::COMMAND_AMF0, 0, 0, nested)],
        ),
        ("Command(Amf0(Truncated", vec![Msg(MessageKind::COMMAND_AMF0, 0, 0, giant_array)]),
        ("Command(NoName", vec![Msg(MessageKind::COMMAND_AMF0, 0, 0, b"")]),
        ("Command(NoName", vec![Msg(MessageKind::COMMAND_AMF3, 0, 0, b"")]),
        ("Chunk(ChunkSize", vec![Msg(MessageKind::SET_CHUNK_SIZE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])]),
        ("Chunk(ChunkSize", vec![Msg(MessageKind::SET_CHUNK_SIZE, 0, 0, &[0; 4])]),
        ("Control(ControlTooShort", vec![Msg(MessageKind::USER_CONTROL, 0, 0, b"\0")]),
        ("Aggregate(Truncated", publisher(vec![Msg(MessageKind::AGGREGATE, 1, 0, b"\x09\xff\xff\xff")])),
        ("NotConnected", vec![cmd(0, "createStream", 2, vec![])]),
        ("ConnectedTwice", vec![connected(), connected()]),
        ("TooManyStreams", [vec![connected()], many_streams].concat()),
        ("NothingAccepted", [vec![connected()], vec![cmd(0, "x", 0, vec![]); 1000]].concat()),
        ("NothingAccepted", vec![connected(), Msg(MessageKind::VIDEO, 1, 0, big)]),
        ("UnreadReplies", publisher(pings)),
    ];
    for (expected, script) in rows {
        for step in [usize::MAX, 4096] {
            let mut session = session();
            let error = bytes_of(&script).chunks(step).find_map(|bytes| {
                session.input().extend_from_slice(bytes);
                loop {
                    match session.poll_event() {
                        Ok(Some(Event::Connect { .. })) => session.accept_connect(),
                        Ok(Some(Event::Publish { stream_id, .. })) => session.accept_publish(stream_id),
                        Ok(Some(_)) => {}
                        Ok(None) => return None,
                        Err(error) => return Some(error),
                    }
                }
            });
            let shown = format!("{error:?}");
            assert!(shown.starts_with(&format!("Some({expected}")), "{expected}: {shown}");
        }
    }
}

#[test]
fn abort_drops_the_message_alone() {
    let mut bytes = bytes_of(&publisher(vec![]));
    // 128 of 200 bytes of a video message on chunk stream 4, then Abort(4), then a whole one.
    bytes.extend(b"\x04\0\0\0\0\0\xc8\x09\x01\0\0\0".iter().chain(&[0x27; 128]));
    bytes.extend(b"\x02\0\0\0\0\0\x04\x02\0\0\0\0\0\0\0\x04");
    bytes.extend(b"\x04\0\0\x05\0\0\x03\x09\x01\0\0\0abc");
    let mut owner = Owner::new();
    owner.feed(&bytes).unwrap();
    assert_eq!(owner.events[2..], [r#"video 1 5 b"abc""#]);
}

#[test]
fn arbitrary_bytes_never_panic() {
    // xorshift: the same bytes in each run.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let valid = bytes_of(&clients::publishers().remove(0).script);
    for _ in 0..2000 {
        let mut bytes = valid.clone();
        for _ in 0..1 + next() % 8 {
            let at = 1 + 2 * 1536 + next() as usize % (bytes.len() - 1 - 2 * 1536);
            bytes[at] = next() as u8;
        }
        let mut owner = Owner::new();
        owner.session.input().extend_from_slice(&bytes);
        while let Ok(Some(event)) = owner.session.poll_event() {
            owner.on_event(event);
        }
    }
}

mod clients;
mod limits;
mod rejections;

use bytes::{Buf, Bytes};

use remuxd_bitstream::amf0::Value;

use super::*;
use crate::media::{Millis, Tag, TagKind};
use crate::rtmp::Input;
use crate::rtmp::chunk::{ChunkLimits, ChunkReader, ChunkWriter};
use crate::rtmp::command::Command;
use crate::rtmp::connect::{ConnectRequest, caps_ex};
use crate::rtmp::error::SessionError;
use crate::rtmp::handshake::Random;
use crate::rtmp::message::{Control, Message, MessageKind};
use crate::rtmp::output::Output;

const CHUNK_SIZE: u32 = 60_000;
const WINDOW: u32 = 2_500_000;

fn settings() -> ServerSettings {
    ServerSettings { chunk_size: CHUNK_SIZE, window_ack_size: WINDOW, limits: ChunkLimits::default() }
}

fn session() -> ServerSession {
    ServerSession::new(settings(), 0, Random::from_seed(1))
}

/// One message of a client.
#[derive(Clone)]
enum Send {
    Command(u32, Command),
    /// A command in an AMF3 envelope.
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

/// Returns the bytes that a client sends: the simple handshake, then these messages.
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

/// An owner that accepts all requests and records all events and all messages sent.
struct Owner {
    session: ServerSession,
    reader: ChunkReader,
    handshake_left: usize,
    read: Input,
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
            read: Input::default(),
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
        self.session.buffers().input.extend_from_slice(bytes);
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
            Event::Publish { stream_id, name, kind } => {
                if self.accepts {
                    self.session.accept_publish(stream_id);
                }
                let name = format!("{}/{}/{}{}", name.vhost, name.app, name.stream, name.params);
                format!("publish {stream_id} {name} {kind:?}")
            }
            Event::Play { stream_id, name } => {
                if self.accepts {
                    self.session.accept_play(stream_id);
                }
                let name = format!("{}/{}/{}{}", name.vhost, name.app, name.stream, name.params);
                format!("play {stream_id} {name}")
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
        };
        self.events.push(noted);
    }

    /// Reads what the session sent.
    fn drain(&mut self) {
        let output = &mut self.session.buffers().output;
        let skip = self.handshake_left.min(output.len());
        output.advance(skip);
        self.handshake_left -= skip;
        self.read.extend_from_slice(&output.copy_to_bytes(output.len()));
        while let Some(message) = self.reader.read(&mut self.read).unwrap() {
            self.sent.push(describe(&message));
        }
    }
}

/// Describes a message in one line.
fn describe(message: &Message) -> String {
    if let Some(control) = Control::read(message).unwrap() {
        return format!("{control:?}");
    }
    match message.kind {
        MessageKind::COMMAND_AMF0 => {
            let command = Command::read(&message.payload).unwrap();
            let argument = command.arguments.first().unwrap_or(&Value::Null);
            let fact = match argument {
                Value::Number(number) => format!(" {number}"),
                other => other
                    .property("code")
                    .and_then(Value::as_str)
                    .map_or(String::new(), |code| format!(" {code}")),
            };
            format!("{} {} {}{fact}", message.stream_id, command.name, command.transaction)
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
    let slices = owner.session.buffers().output.take_all();
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
    owner.session.end_play(1, PlayEnd::Unpublished);
    owner.session.send_tag(1, &tag(TagKind::VIDEO, 80));
    owner.drain();
    let expected = [
        "1 DATA_AMF0 0",
        "1 AUDIO 20",
        "1 VIDEO 40",
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
        "publish 1 ip/live/a Flash",
        "publish 2 ip/live/b Flash",
        r#"video 2 0 b"\x17\x01\0\0\0frame""#,
        r#"video 1 0 b"\x17\x01\0\0\0frame""#,
        "unpublish 2",
        "unpublish 1",
        "play 2 ip/live/a",
    ];
    assert_eq!(owner.events, events);
    assert!(owner.sent.contains(&"0 _result 5 1".to_owned()), "an id is free again: {:?}", owner.sent);
}

#[test]
fn splits_aggregates() {
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
fn a_single_stream_receives_messages_for_unknown_streams() {
    let script = [
        connect("rtmp://ip/live", &[]),
        cmd(0, "createStream", 2, vec![]),
        cmd(0, "publish", 0, vec!["key".into()]),
        Msg(MessageKind::VIDEO, 0, 0, VIDEO),
    ];
    let owner = Owner::run(&script, usize::MAX);
    assert_eq!(owner.events[1..], ["publish 1 ip/live/key Flash", r#"video 1 0 b"\x17\x01\0\0\0frame""#]);
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
    let events = ["unpublish 1", "publish 1 ip/live/key Flash", r#"audio 1 0 b"\xaf\x01sound""#];
    assert_eq!(owner.events[2..], events);
}

#[test]
fn holds_media_until_the_answer() {
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
    owner.feed(&[]).unwrap();
    assert!(owner.sent.iter().any(|line| line.contains("Publish.Start")), "{:?}", owner.sent);
    assert_eq!(owner.media.len(), 1);
}

#[test]
fn what_follows_connect_waits_for_its_answer() {
    let mut owner = Owner::new();
    owner.accepts = false;
    owner.feed(&bytes_of(&publisher(vec![Msg(MessageKind::VIDEO, 1, 0, VIDEO)]))).unwrap();
    assert_eq!(owner.events.len(), 1, "connect alone: {:?}", owner.events);
    owner.accepts = true;
    owner.session.accept_connect();
    owner.feed(&[]).unwrap();
    assert_eq!(owner.media.len(), 1);
}

#[test]
fn reads_nothing_while_much_follows_connect() {
    let mut owner = Owner::new();
    owner.accepts = false;
    owner.feed(&bytes_of(&[connect("rtmp://ip/live", &[])])).unwrap();
    let mut fed = 0;
    while !owner.session.is_full() {
        owner.feed(&[0; 4096]).unwrap();
        fed += 4096;
    }
    assert_eq!(fed, 64 << 10);
    owner.session.reject_connect(&Rejection::Denied);
    assert!(owner.session.is_over());
}

#[test]
fn reads_nothing_while_it_holds_much_media() {
    const LARGE: &[u8] = &[0x17; 200 << 10];
    let mut owner = Owner::new();
    let start = vec![connect("rtmp://ip/live", &[]), cmd(0, "createStream", 2, vec![])];
    owner.feed(&bytes_of(&start)).unwrap();
    owner.accepts = false;
    let count = 12;
    let media: Vec<_> = (0..count).map(|time| Msg(MessageKind::VIDEO, 1, time, LARGE)).collect();
    let publish = vec![cmd(1, "publish", 3, vec!["key".into()])];
    let all = bytes_of(&[start.clone(), publish, media].concat());
    let mut rest = all[bytes_of(&start).len()..].chunks(4096);
    while !owner.session.is_full() {
        owner.feed(rest.next().unwrap()).unwrap();
    }
    let input = owner.session.buffers().input.len();
    owner.feed(rest.next().unwrap()).unwrap();
    assert_eq!(owner.session.buffers().input.len(), input + 4096);
    assert!(owner.media.is_empty());
    owner.session.accept_publish(1);
    rest.for_each(|bytes| owner.feed(bytes).unwrap());
    assert!(!owner.session.is_full());
    let times: Vec<_> = owner.media.iter().map(|tag| tag.dts.0).collect();
    assert_eq!(times, (0..i64::from(count)).collect::<Vec<_>>());
}

#[test]
fn media_of_a_publisher_goes_on_while_another_awaits_an_answer() {
    let start = vec![
        connect("rtmp://ip/live", &[]),
        cmd(0, "createStream", 2, vec![]),
        cmd(0, "createStream", 3, vec![]),
        cmd(1, "publish", 0, vec!["a".into()]),
    ];
    let mut owner = Owner::new();
    owner.feed(&bytes_of(&start)).unwrap();
    owner.accepts = false;
    let more = vec![
        cmd(2, "publish", 0, vec!["b".into()]),
        Msg(MessageKind::VIDEO, 2, 0, VIDEO),
        Msg(MessageKind::VIDEO, 1, 7, VIDEO),
    ];
    owner.feed(&bytes_of(&[start.clone(), more].concat())[bytes_of(&start).len()..]).unwrap();
    assert_eq!(owner.media.iter().map(|tag| tag.dts.0).collect::<Vec<_>>(), [7]);
    owner.session.reject_publish(2, &Rejection::Denied);
    owner.feed(&[]).unwrap();
    assert_eq!(owner.media.len(), 1, "what a rejected publisher sent is dropped");
}

#[test]
fn announces_enhanced_rtmp() {
    let mut owner = Owner::new();
    owner
        .session
        .buffers()
        .input
        .extend_from_slice(&bytes_of(&[connect("rtmp://ip/live", &[("objectEncoding", 3.0.into())])]));
    assert!(matches!(owner.session.poll_event(), Ok(Some(Event::Connect { .. }))));
    owner.session.accept_connect();
    let output = &mut owner.session.buffers().output;
    output.advance(1 + 2 * 1536);
    let mut sent = Input::from(&output.copy_to_bytes(output.len())[..]);
    let mut reader = ChunkReader::new(ChunkLimits::default());
    let mut messages = std::iter::from_fn(|| reader.read(&mut sent).unwrap());
    let result = messages.find(|message| message.kind == MessageKind::COMMAND_AMF0).unwrap();
    let result = Command::read(&result.payload).unwrap();
    let announced = ConnectRequest::read(&result.arguments[0]);
    assert_eq!(announced, ConnectRequest { object_encoding: 3, ..ConnectRequest::enhanced() });
    assert_eq!(result.object.property("capabilities"), Some(&Value::Number(127.0)));
}

#[test]
fn sends_reconnect_requests_only_to_clients_that_support_them() {
    for (caps, supported) in [(caps_ex::RECONNECT, true), (caps_ex::MULTITRACK, false)] {
        let script = [connect("rtmp://ip/live", &[("capsEx", f64::from(caps).into())])];
        let mut owner = Owner::run(&script, usize::MAX);
        owner.sent.clear();
        assert_eq!(owner.session.request_reconnect(Some("rtmp://other/live")), supported);
        owner.drain();
        let expected: &[&str] =
            if supported { &["0 onStatus 0 NetConnection.Connect.ReconnectRequest"] } else { &[] };
        assert_eq!(owner.sent, expected);
    }
}

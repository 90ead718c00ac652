//! Scripts of real encoders and players, recorded on the wire.

use super::*;

pub(super) struct Client {
    name: &'static str,
    pub script: Vec<Send>,
    events: &'static [&'static str],
    /// Messages sent after the [`ACCEPTED`] ones.
    sent: &'static [&'static str],
}

/// Returns publishers, from `connect` to the end of the stream.
pub(super) fn publishers() -> Vec<Client> {
    let key = || Value::from("key?token=t");
    vec![
        Client {
            name: "ffmpeg",
            script: vec![
                connect("rtmp://ip:1935/live", &[]),
                Ctl(Control::WindowAckSize(2_500_000)),
                cmd(0, "releaseStream", 2, vec![key()]),
                cmd(0, "FCPublish", 3, vec![key()]),
                cmd(0, "createStream", 4, vec![]),
                cmd(0, "_checkbw", 5, vec![]),
                cmd(1, "publish", 6, vec![key(), "live".into()]),
                Msg(MessageKind::DATA_AMF0, 1, 0, METADATA),
                Msg(MessageKind::VIDEO, 1, 40, VIDEO),
                Msg(MessageKind::AUDIO, 1, 42, AUDIO),
                cmd(0, "FCUnpublish", 7, vec![key()]),
                cmd(0, "deleteStream", 8, vec![1.0.into()]),
            ],
            events: &[
                "connect",
                "publish 1 ip/live/key?token=t Fmle",
                r#"script 1 0 b"\x02\0\nonMetaData\x08\0\0\0\0\0\0\t""#,
                r#"video 1 40 b"\x17\x01\0\0\0frame""#,
                r#"audio 1 42 b"\xaf\x01sound""#,
                "unpublish 1",
            ],
            sent: &[
                "0 _result 2",
                "0 _result 3",
                "0 _result 4 1",
                "0 _result 5",
                "1 onFCPublish 0 NetStream.Publish.Start",
                "1 onStatus 0 NetStream.Publish.Start",
                "1 onFCUnpublish 0 NetStream.Unpublish.Success",
                "0 _result 7",
                "1 onStatus 0 NetStream.Unpublish.Success",
            ],
        },
        Client {
            name: "OBS",
            script: vec![
                Ctl(Control::SetChunkSize(4096)),
                connect(
                    "rtmp://ip/live?vhost=v",
                    &[("fourCcList", Value::StrictArray(vec!["av01".into(), "hvc1".into()]))],
                ),
                cmd(0, "releaseStream", 2, vec!["key".into()]),
                cmd(0, "FCPublish", 3, vec!["key".into()]),
                cmd(0, "createStream", 4, vec![]),
                cmd(1, "publish", 5, vec!["key".into(), "live".into()]),
                Msg(MessageKind::VIDEO, 1, 0, VIDEO),
                cmd(0, "FCUnpublish", 6, vec!["key".into()]),
                cmd(0, "deleteStream", 7, vec![1.0.into()]),
            ],
            events: &[
                "connect",
                "publish 1 v/live/key?vhost=v Fmle",
                r#"video 1 0 b"\x17\x01\0\0\0frame""#,
                "unpublish 1",
            ],
            sent: &[
                "0 _result 2",
                "0 _result 3",
                "0 _result 4 1",
                "1 onFCPublish 0 NetStream.Publish.Start",
                "1 onStatus 0 NetStream.Publish.Start",
                "1 onFCUnpublish 0 NetStream.Unpublish.Success",
                "0 _result 6",
                "1 onStatus 0 NetStream.Unpublish.Success",
            ],
        },
        Client {
            // rtmpsink and rtmpdump expect no reply when they leave.
            name: "librtmp",
            script: vec![
                connect("rtmp://ip:1935/live", &[]),
                Ctl(Control::WindowAckSize(5_000_000)),
                cmd(0, "releaseStream", 2, vec!["key".into()]),
                cmd(0, "FCPublish", 3, vec!["key".into()]),
                cmd(0, "createStream", 4, vec![]),
                cmd(0, "_checkbw", 5, vec![]),
                cmd(1, "publish", 6, vec!["key".into(), "record".into()]),
                Msg(MessageKind::AUDIO, 1, 0, AUDIO),
                cmd(0, "FCUnpublish", 0, vec!["key".into()]),
                cmd(0, "deleteStream", 0, vec![1.0.into()]),
            ],
            events: &[
                "connect",
                "publish 1 ip/live/key Fmle",
                r#"audio 1 0 b"\xaf\x01sound""#,
                "unpublish 1",
            ],
            sent: &[
                "0 _result 2",
                "0 _result 3",
                "0 _result 4 1",
                "0 _result 5",
                "1 onFCPublish 0 NetStream.Publish.Start",
                "1 onStatus 0 NetStream.Publish.Start",
                "1 onFCUnpublish 0 NetStream.Unpublish.Success",
                "1 onStatus 0 NetStream.Unpublish.Success",
            ],
        },
        Client {
            name: "Flash",
            script: vec![
                connect("rtmp://ip/live/_definst_", &[("objectEncoding", 3.0.into())]),
                Amf3(0, Command::call("createStream", 2.0, vec![])),
                Amf3(1, Command::call("publish", 0.0, vec!["key".into(), "append".into()])),
                Msg(MessageKind::DATA_AMF3, 1, 0, b"\0\x02\0\x0aonMetaData\x05"),
                Msg(MessageKind::AUDIO, 1, 0, b""),
                Amf3(1, Command::call("publish", 0.0, vec![false.into()])),
                Amf3(1, Command::call("closeStream", 0.0, vec![])),
            ],
            events: &[
                "connect",
                "publish 1 ip/live/key Flash",
                r#"script 1 0 b"\x02\0\nonMetaData\x05""#,
                r#"audio 1 0 b"""#,
                "unpublish 1",
            ],
            sent: &["0 _result 2 1", "1 onStatus 0 NetStream.Publish.Start"],
        },
        Client {
            name: "Haivision",
            script: vec![
                connect("rtmp://ip/live", &[]),
                cmd(0, "_checkbw", 2, vec![]),
                cmd(0, "createStream", 3, vec![]),
                cmd(0, "FCPublish", 4, vec!["key".into()]),
                cmd(1, "publish", 5, vec!["key".into(), "live".into()]),
                Msg(MessageKind::VIDEO, 1, 0, VIDEO),
            ],
            events: &["connect", "publish 1 ip/live/key Haivision", r#"video 1 0 b"\x17\x01\0\0\0frame""#],
            sent: &[
                "0 _result 2",
                "0 _result 3 1",
                "0 _result 4",
                "1 onFCPublish 0 NetStream.Publish.Start",
                "1 onStatus 0 NetStream.Publish.Start",
            ],
        },
        Client {
            name: "GStreamer rtmp2sink",
            script: vec![
                connect("rtmp://ip:1935/live", &[("capabilities", 239.0.into())]),
                Ctl(Control::WindowAckSize(2_500_000)),
                cmd(0, "releaseStream", 2, vec!["key".into()]),
                cmd(0, "FCPublish", 3, vec!["key".into()]),
                cmd(0, "createStream", 4, vec![]),
                cmd(1, "publish", 0, vec!["key".into(), "live".into()]),
                Msg(MessageKind::VIDEO, 1, 0, VIDEO),
                cmd(1, "deleteStream", 0, vec![1.0.into()]),
            ],
            events: &[
                "connect",
                "publish 1 ip/live/key Fmle",
                r#"video 1 0 b"\x17\x01\0\0\0frame""#,
                "unpublish 1",
            ],
            sent: &[
                "0 _result 2",
                "0 _result 3",
                "0 _result 4 1",
                "1 onFCPublish 0 NetStream.Publish.Start",
                "1 onStatus 0 NetStream.Publish.Start",
            ],
        },
    ]
}

fn players() -> Vec<Client> {
    vec![
        Client {
            name: "ffmpeg",
            script: vec![
                connect("rtmp://ip:1935/live", &[]),
                Ctl(Control::WindowAckSize(2_500_000)),
                cmd(0, "createStream", 2, vec![]),
                cmd(0, "_checkbw", 3, vec![]),
                cmd(0, "getStreamLength", 4, vec!["key".into()]),
                cmd(1, "play", 5, vec!["key".into(), (-2000.0).into()]),
                Ctl(Control::SetBufferLength { stream_id: 1, millis: 3000 }),
                cmd(0, "deleteStream", 6, vec![1.0.into()]),
            ],
            events: &["connect", "play 1 ip/live/key", "stop 1"],
            sent: &[
                "0 _result 2 1",
                "0 _result 3",
                "0 _result 4 0",
                "StreamBegin(1)",
                "1 onStatus 0 NetStream.Play.Reset",
                "1 onStatus 0 NetStream.Play.Start",
                "1 DATA_AMF0 0",
            ],
        },
        Client {
            name: "Flash",
            script: vec![
                connect("rtmp://ip/live?vhost=v", &[("objectEncoding", 3.0.into())]),
                Amf3(0, Command::call("createStream", 2.0, vec![])),
                Ctl(Control::SetBufferLength { stream_id: 1, millis: 100 }),
                Amf3(
                    1,
                    Command::call("play", 0.0, vec!["key".into(), (-1.0).into(), 9.0.into(), false.into()]),
                ),
                Amf3(1, Command::call("receiveVideo", 0.0, vec![false.into()])),
                Amf3(1, Command::call("receiveAudio", 0.0, vec![true.into()])),
                Amf3(1, Command::call("pause", 0.0, vec![true.into(), 0.0.into()])),
                Amf3(1, Command::call("pause", 0.0, vec![false.into(), 0.0.into()])),
                Amf3(1, Command::call("seek", 0.0, vec![0.0.into()])),
                Amf3(1, Command::call("play", 0.0, vec!["other".into()])),
                Amf3(1, Command::call("closeStream", 0.0, vec![])),
            ],
            events: &[
                "connect",
                "play 1 v/live/key?vhost=v",
                "receive video 1 false",
                "receive audio 1 true",
                "pause 1 true",
                "pause 1 false",
                "stop 1",
                "play 1 v/live/other?vhost=v",
                "stop 1",
            ],
            sent: &[
                "0 _result 2 1",
                "StreamBegin(1)",
                "1 onStatus 0 NetStream.Play.Start",
                "1 DATA_AMF0 0",
                "1 onStatus 0 NetStream.Pause.Notify",
                "StreamEof(1)",
                "1 onStatus 0 NetStream.Unpause.Notify",
                "StreamBegin(1)",
                "StreamBegin(1)",
                "1 onStatus 0 NetStream.Play.Reset",
                "1 onStatus 0 NetStream.Play.Start",
                "1 DATA_AMF0 0",
            ],
        },
        Client {
            name: "rtmpdump",
            script: vec![
                connect("rtmp://ip:1935/live", &[]),
                Ctl(Control::WindowAckSize(5_000_000)),
                Ctl(Control::SetBufferLength { stream_id: 0, millis: 300 }),
                cmd(0, "createStream", 2, vec![]),
                cmd(0, "_checkbw", 3, vec![]),
                cmd(0, "FCSubscribe", 4, vec!["key".into()]),
                cmd(1, "play", 5, vec!["key".into(), (-1000.0).into()]),
                Ctl(Control::SetBufferLength { stream_id: 1, millis: 36_000_000 }),
                Ctl(Control::PingRequest(77)),
            ],
            events: &["connect", "play 1 ip/live/key"],
            sent: &[
                "0 _result 2 1",
                "0 _result 3",
                "0 _result 4",
                "StreamBegin(1)",
                "1 onStatus 0 NetStream.Play.Reset",
                "1 onStatus 0 NetStream.Play.Start",
                "1 DATA_AMF0 0",
                "PingResponse(77)",
            ],
        },
    ]
}

#[test]
fn serves_publishers_and_players() {
    for Client { name, script, events, sent } in publishers().into_iter().chain(players()) {
        for step in [usize::MAX, 1, 7] {
            let owner = Owner::run(&script, step);
            let expected: Vec<&str> = ACCEPTED.iter().chain(sent).copied().collect();
            let acks = |line: &&String| !line.starts_with("Acknowledgement");
            let sent: Vec<&String> = owner.sent.iter().filter(acks).collect();
            assert_eq!(owner.events, events, "{name}, {step} bytes at a time");
            assert_eq!(sent, expected.iter().collect::<Vec<_>>(), "{name}, {step} bytes at a time");
        }
    }
}

//! Acknowledgements, violations and limits.

use super::*;

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
fn reports_violations_and_exceeded_limits() {
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
                session.buffers().input.extend_from_slice(bytes);
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
fn abort_drops_only_the_unfinished_message() {
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
        owner.session.buffers().input.extend_from_slice(&bytes);
        while let Ok(Some(event)) = owner.session.poll_event() {
            owner.on_event(event);
        }
    }
}

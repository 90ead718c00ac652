mod limits;

use bytes::{Buf, Bytes};

use super::wire::{MAX_CHUNK_SIZE, MAX_CHUNK_STREAM};
use super::*;
use crate::rtmp::Input;
use crate::rtmp::message::{Control, Message, MessageKind};
use crate::rtmp::output::Output;

const AUDIO: MessageKind = MessageKind::AUDIO;
const VIDEO: MessageKind = MessageKind::VIDEO;

const SMALL: ChunkLimits =
    ChunkLimits { max_message: 16 << 20, max_buffered: 64 << 10, max_chunk_streams: 4 };

fn message(kind: MessageKind, timestamp: u32, stream_id: u32, payload: impl Into<Bytes>) -> Message {
    Message { kind, timestamp, stream_id, payload: payload.into() }
}

/// `len` bytes whose values depend on their position.
fn pattern(len: usize) -> Bytes {
    (0..len).map(|i| (i % 251) as u8 + 1).collect()
}

fn drain(reader: &mut ChunkReader, input: &mut Input) -> Result<Vec<Message>, ChunkError> {
    let mut messages = Vec::new();
    while let Some(message) = reader.read(input)? {
        messages.push(message);
    }
    Ok(messages)
}

/// Reads `wire` as a whole and byte by byte, with equal results. Returns the messages before an error, and the error.
fn read_with(limits: ChunkLimits, wire: &[u8]) -> (Vec<Message>, Option<ChunkError>) {
    let run = |step: usize| {
        let mut reader = ChunkReader::new(limits);
        let mut input = Input::default();
        let mut messages = Vec::new();
        for part in wire.chunks(step) {
            input.extend_from_slice(part);
            loop {
                match reader.read(&mut input) {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(error) => return (messages, Some(error)),
                }
            }
        }
        assert_eq!(reader.bytes_received(), wire.len() as u64);
        (messages, None)
    };
    let whole = run(wire.len().max(1));
    assert_eq!(run(1), whole, "byte by byte");
    whole
}

fn read(wire: &[u8]) -> Vec<Message> {
    let (messages, error) = read_with(ChunkLimits::default(), wire);
    assert_eq!(error, None);
    messages
}

fn read_error(limits: ChunkLimits, wire: &[u8]) -> ChunkError {
    read_with(limits, wire).1.expect("an error")
}

fn write(chunk_size: u32, messages: &[(u32, Message)]) -> Vec<u8> {
    let mut writer = ChunkWriter::new();
    writer.set_chunk_size(chunk_size);
    let mut out = Output::new();
    for (chunk_stream, message) in messages {
        let Message { kind, timestamp, stream_id, ref payload } = *message;
        writer.write(*chunk_stream, kind, stream_id, timestamp, payload, &mut out);
    }
    out.copy_to_bytes(out.remaining()).to_vec()
}

fn set_chunk_size(size: u32) -> Vec<u8> {
    write(128, &[(CONTROL_CHUNK_STREAM, Control::SetChunkSize(size).to_message())])
}

/// Checks that `wire` is read as these messages, and that they are written as `wire`.
fn check(row: &str, wire: &[u8], messages: &[(u32, Message)]) {
    let expected: Vec<Message> = messages.iter().map(|(_, message)| message.clone()).collect();
    assert_eq!(read(wire), expected, "{row}");
    assert_eq!(write(128, messages), wire, "{row}");
}

#[test]
fn reads_and_writes_every_header_type() {
    check(
        "type 0",
        b"\x04\x00\x00\x14\x00\x00\x02\x08\x01\x00\x00\x00ab",
        &[(4, message(AUDIO, 20, 1, "ab"))],
    );
    check(
        "type 1: other length",
        b"\x04\x00\x00\x14\x00\x00\x01\x08\x01\x00\x00\x00a\x44\x00\x00\x05\x00\x00\x02\x08bc",
        &[(4, message(AUDIO, 20, 1, "a")), (4, message(AUDIO, 25, 1, "bc"))],
    );
    check(
        "type 1: other kind",
        b"\x04\x00\x00\x14\x00\x00\x01\x08\x01\x00\x00\x00a\x44\x00\x00\x05\x00\x00\x01\x09b",
        &[(4, message(AUDIO, 20, 1, "a")), (4, message(VIDEO, 25, 1, "b"))],
    );
    check(
        "type 2, then type 3 with the same delta",
        b"\x04\x00\x00\x14\x00\x00\x01\x08\x01\x00\x00\x00a\x84\x00\x00\x05b\xC4c",
        &[(4, message(AUDIO, 20, 1, "a")), (4, message(AUDIO, 25, 1, "b")), (4, message(AUDIO, 30, 1, "c"))],
    );
    check(
        "type 0 again: timestamp goes back",
        b"\x04\x00\x00\x14\x00\x00\x01\x08\x01\x00\x00\x00a\x04\x00\x00\x13\x00\x00\x01\x08\x01\x00\x00\x00b",
        &[(4, message(AUDIO, 20, 1, "a")), (4, message(AUDIO, 19, 1, "b"))],
    );
    check(
        "type 0 again: other message stream, 32 bits little-endian",
        b"\x04\x00\x00\x14\x00\x00\x01\x08\x01\x00\x00\x00a\x04\x00\x00\x14\x00\x00\x01\x08\x04\x03\x02\x01b",
        &[(4, message(AUDIO, 20, 1, "a")), (4, message(AUDIO, 20, 0x0102_0304, "b"))],
    );
    check(
        "empty payloads",
        b"\x04\x00\x00\x14\x00\x00\x00\x08\x01\x00\x00\x00\x84\x00\x00\x01\xC4",
        &[(4, message(AUDIO, 20, 1, "")), (4, message(AUDIO, 21, 1, "")), (4, message(AUDIO, 22, 1, ""))],
    );
    check("chunk stream 63", b"\x3F\x00\x00\x00\x00\x00\x00\x08\0\0\0\0", &[(63, message(AUDIO, 0, 0, ""))]);
    check(
        "chunk stream 64",
        b"\x00\x00\x00\x00\x00\x00\x00\x00\x08\0\0\0\0",
        &[(64, message(AUDIO, 0, 0, ""))],
    );
    check(
        "chunk stream 319",
        b"\x00\xFF\x00\x00\x00\x00\x00\x00\x08\0\0\0\0",
        &[(319, message(AUDIO, 0, 0, ""))],
    );
    check(
        "chunk stream 320",
        b"\x01\x00\x01\x00\x00\x00\x00\x00\x00\x08\0\0\0\0",
        &[(320, message(AUDIO, 0, 0, ""))],
    );
    check(
        "chunk stream 65599",
        b"\x01\xFF\xFF\x00\x00\x00\x00\x00\x00\x08\0\0\0\0",
        &[(MAX_CHUNK_STREAM, message(AUDIO, 0, 0, ""))],
    );
    check(
        "extended timestamp",
        b"\x04\xFF\xFF\xFF\x00\x00\x01\x08\x01\x00\x00\x00\x00\xFF\xFF\xFFa",
        &[(4, message(AUDIO, 0xFF_FFFF, 1, "a"))],
    );
    check(
        "the largest timestamp that is not extended",
        b"\x04\xFF\xFF\xFE\x00\x00\x01\x08\x01\x00\x00\x00a",
        &[(4, message(AUDIO, 0xFF_FFFE, 1, "a"))],
    );
    check(
        "extended delta",
        b"\x04\x00\x00\x01\x00\x00\x01\x08\x01\x00\x00\x00a\x84\xFF\xFF\xFF\x01\x00\x00\x00b",
        &[(4, message(AUDIO, 1, 1, "a")), (4, message(AUDIO, 0x100_0001, 1, "b"))],
    );
    check(
        "extended delta, repeated",
        b"\x04\x00\x00\x01\x00\x00\x01\x08\x01\x00\x00\x00a\x84\xFF\xFF\xFF\x01\x00\x00\x00b\
              \xC4\x01\x00\x00\x00c",
        &[
            (4, message(AUDIO, 1, 1, "a")),
            (4, message(AUDIO, 0x100_0001, 1, "b")),
            (4, message(AUDIO, 0x200_0001, 1, "c")),
        ],
    );
    check(
        "a delta across the wrap",
        b"\x04\xFF\xFF\xFF\x00\x00\x01\x08\x01\x00\x00\x00\xFF\xFF\xFF\xFFa\x84\x00\x00\x03b",
        &[(4, message(AUDIO, u32::MAX, 1, "a")), (4, message(AUDIO, 2, 1, "b"))],
    );
}

#[test]
fn every_chunk_of_a_message_repeats_the_extended_timestamp() {
    let wire = b"\x04\xFF\xFF\xFF\x00\x00\x05\x08\x01\x00\x00\x00\x01\x00\x00\x00ab\
                 \xC4\x01\x00\x00\x00cd\xC4\x01\x00\x00\x00e";
    let sent = message(AUDIO, 0x100_0000, 1, "abcde");
    assert_eq!(write(2, &[(4, sent.clone())]), wire);
    assert_eq!(read(&[&set_chunk_size(2)[..], wire].concat())[1..], [sent]);
}

#[test]
fn type_3_after_type_0_repeats_its_timestamp_as_delta() {
    // ffmpeg: equal audio frames at 23 and 46 ms.
    let wire = b"\x04\x00\x00\x17\x00\x00\x01\x08\x01\x00\x00\x00a\xC4b\xC4c";
    let timestamps: Vec<u32> = read(wire).iter().map(|message| message.timestamp).collect();
    assert_eq!(timestamps, [23, 46, 69]);
}

#[test]
fn writer_never_starts_a_message_with_type_3_after_type_0() {
    let messages = [23, 46, 69].map(|timestamp| (4, message(AUDIO, timestamp, 1, "a")));
    let wire = b"\x04\x00\x00\x17\x00\x00\x01\x08\x01\x00\x00\x00a\x84\x00\x00\x17a\xC4a";
    assert_eq!(write(128, &messages), wire);
}

#[test]
fn a_chunk_stream_may_begin_with_type_1() {
    // librtmp's first ping response.
    let wire = b"\x42\x00\x00\x07\x00\x00\x06\x04\x00\x07\x00\x00\x00\x09";
    let ping = read(wire);
    assert_eq!((ping[0].timestamp, ping[0].stream_id), (7, 0));
    assert_eq!(Control::read(&ping[0]), Ok(Some(Control::PingResponse(9))));
}

#[test]
fn accepts_missing_extended_timestamp() {
    // Absent after the first chunk, present again, absent with a payload that begins like it.
    let header = b"\x04\xFF\xFF\xFF\x00\x00\x06\x08\x01\x00\x00\x00\x01\x00\x00\x00";
    let omitted = [header, &b"ab\xC4cd\xC4ef"[..]].concat();
    let alike = [header, &b"ab\xC4\x01\x00\xC4ef"[..]].concat();
    for (wire, payload) in [(omitted, &b"abcdef"[..]), (alike, b"ab\x01\x00ef")] {
        let wire = [&set_chunk_size(2)[..], &wire].concat();
        let messages = read(&wire);
        assert_eq!(messages[1..], [message(AUDIO, 0x100_0000, 1, payload)]);
    }
}

#[test]
fn a_peer_that_omits_the_extended_timestamp_omits_it_on_new_messages_too() {
    let wire = b"\x04\x00\x00\x01\x00\x00\x03\x08\x01\x00\x00\x00ab\xC4c\
                 \x84\xFF\xFF\xFF\x01\x00\x00\x00de\xC4f\
                 \xC4gh\xC4i";
    let messages = read(&[&set_chunk_size(2)[..], wire].concat());
    let expected =
        [(1, "abc"), (0x100_0001, "def"), (0x200_0001, "ghi")].map(|(at, text)| message(AUDIO, at, 1, text));
    assert_eq!(messages[1..], expected);
}

#[test]
fn accepts_the_absolute_timestamp_repeated_after_an_extended_delta() {
    let wire = b"\x04\x00\x00\x01\x00\x00\x03\x08\x01\x00\x00\x00ab\xC4c\
                 \x84\xFF\xFF\xFF\x01\x00\x00\x00de\xC4\x01\x00\x00\x01f";
    let messages = read(&[&set_chunk_size(2)[..], wire].concat());
    assert_eq!(messages[2], message(AUDIO, 0x100_0001, 1, "def"));
}

#[test]
fn type_3_may_start_a_message_with_a_new_extended_delta() {
    let wire = b"\x04\x00\x00\x01\x00\x00\x01\x08\x01\x00\x00\x00a\x84\xFF\xFF\xFF\x01\x00\x00\x00b\
                 \xC4\x02\x00\x00\x00c";
    assert_eq!(read(wire)[2], message(AUDIO, 0x300_0001, 1, "c"));
}

#[test]
fn messages_interleave() {
    let video = pattern(300);
    let wire = [
        b"\x06\x00\x00\x0A\x00\x01\x2C\x09\x01\x00\x00\x00",
        &video[..128],
        b"\x04\x00\x00\x09\x00\x00\x03\x08\x01\x00\x00\x00abc",
        b"\xC6",
        &video[128..256],
        b"\xC4def",
        b"\xC6",
        &video[256..],
    ]
    .concat();
    let expected =
        [message(AUDIO, 9, 1, "abc"), message(AUDIO, 18, 1, "def"), message(VIDEO, 10, 1, video.clone())];
    assert_eq!(read(&wire), expected);
}

#[test]
fn set_chunk_size_takes_effect_within_other_messages() {
    let video = pattern(400);
    let wire = [
        b"\x06\x00\x00\x0A\x00\x01\x90\x09\x01\x00\x00\x00",
        &video[..128],
        &set_chunk_size(200),
        b"\xC6",
        &video[128..328],
        &set_chunk_size(1),
        b"\xC6",
        &video[328..329],
        &write(1, &[(CONTROL_CHUNK_STREAM + 1, Control::SetChunkSize(MAX_CHUNK_SIZE).to_message())]),
        b"\xC6",
        &video[329..],
    ]
    .concat();
    let messages = read(&wire);
    assert_eq!(messages.len(), 4);
    assert_eq!(messages[3], message(VIDEO, 10, 1, video));
}

#[test]
fn abort_drops_the_unfinished_message() {
    let abort = |id| write(128, &[(CONTROL_CHUNK_STREAM, Control::Abort(id).to_message())]);
    let video = pattern(200);
    let wire = [
        b"\x06\x00\x00\x0A\x00\x00\xC8\x09\x01\x00\x00\x00",
        &video[..128],
        &abort(6),
        b"\x46\x00\x00\x05\x00\x00\x02\x09xy",
    ]
    .concat();
    assert_eq!(read(&wire)[1..], [message(VIDEO, 15, 1, "xy")]);

    let mut reader = ChunkReader::new(SMALL);
    drain(&mut reader, &mut Input::from(&wire[..156])).expect("no error");
    assert_eq!(reader.buffered(), 0);

    // An abort of an idle or unknown chunk stream has no effect.
    let idle = [abort(6), abort(99)].concat();
    assert_eq!(read(&idle).len(), 2);
}

#[test]
fn a_message_owns_its_bytes() {
    let mut input = Input::from(&b"\x04\x00\x00\x17\x00\x00\x04\x08\x01\x00\x00\x00abcd\xC4efgh\xC4ij"[..]);
    let memory = input.as_ptr_range();
    let mut reader = ChunkReader::new(SMALL);
    let messages = drain(&mut reader, &mut input).expect("no error");
    assert_eq!(messages.iter().map(|m| &m.payload[..]).collect::<Vec<_>>(), [b"abcd", b"efgh"]);
    assert!(messages.iter().all(|message| !memory.contains(&message.payload.as_ptr())));
    assert!(input.is_empty(), "the unfinished chunk is read as far as it came");
    assert_eq!((reader.bytes_received(), reader.buffered(), reader.memory()), (24, 4, 4));
}

#[test]
fn writer_shares_the_payload() {
    let payload = pattern(300);
    let mut writer = ChunkWriter::new();
    let mut out = Output::new();
    writer.write(6, VIDEO, 1, 0, &payload, &mut out);
    writer.set_chunk_size(60_000);
    writer.write(6, VIDEO, 1, 40, &payload, &mut out);
    let slices = out.take_all();
    let shared: Vec<_> =
        slices.iter().skip(1).step_by(2).map(|slice| (slice.as_ptr(), slice.len())).collect();
    let start = payload.as_ptr();
    let expected = [(0, 128), (128, 128), (256, 44), (0, 300)].map(|(at, len)| (start.wrapping_add(at), len));
    assert_eq!(shared, expected);
    assert_eq!(slices.iter().step_by(2).map(Bytes::len).collect::<Vec<_>>(), [12, 1, 1, 4]);
}

#[test]
fn reads_back_what_it_writes() {
    let timestamps = [
        0,
        0,
        1,
        0xFF_FFFD,
        0xFF_FFFE,
        0xFF_FFFF,
        0x100_0000,
        0x100_0001,
        0x200_0000,
        0x300_0000,
        5,
        0x100_0005,
        u32::MAX - 1,
        u32::MAX,
        0,
        1,
        0x7FFF_FFFF,
        0x8000_0000,
        0xFFFF_FFFF,
        0x7FFF_FFFE,
        0x7FFF_FFFE,
    ];
    let lengths = [0, 1, 2, 126, 127, 128, 129, 256, 257, 1000, 1000, 1000, 60_000, 60_001];
    let kinds = [AUDIO, VIDEO, VIDEO, MessageKind::DATA_AMF0];
    let chunk_streams = [3, 4, 4, 63, 64, 64, 319, 320, 65_599];
    for chunk_size in [1, 2, 127, 128, 129, 60_000, MAX_CHUNK_SIZE] {
        let messages: Vec<(u32, Message)> = (0..252)
            .map(|i| {
                let payload = pattern(lengths[i % lengths.len()].min(chunk_size as usize * 600));
                let timestamp = timestamps[i / 3 % timestamps.len()];
                let chunk_stream = chunk_streams[i / 5 % chunk_streams.len()];
                (chunk_stream, message(kinds[i / 7 % kinds.len()], timestamp, 1 + (i / 25) as u32, payload))
            })
            .collect();
        let wire = [set_chunk_size(chunk_size), write(chunk_size, &messages)].concat();
        for step in [61, wire.len()] {
            let mut reader = ChunkReader::new(ChunkLimits::default());
            let mut input = Input::default();
            let mut read = Vec::new();
            for part in wire.chunks(step) {
                input.extend_from_slice(part);
                read.extend(drain(&mut reader, &mut input).expect("no error"));
            }
            assert_eq!(read.len(), messages.len() + 1);
            for (i, (read, (_, written))) in read[1..].iter().zip(&messages).enumerate() {
                assert!(read == written, "message {i}, chunk size {chunk_size}");
            }
            assert_eq!((reader.buffered(), input.len()), (0, 0));
        }
    }
}

#[test]
fn offsets_count_from_the_start_of_the_connection() {
    let mut reader = ChunkReader::new(SMALL);
    reader.start_at(3073);
    let mut input = Input::from(&b"\x04\x00\x00\x00\x00\x00\x01\x08\x01\x00\x00\x00a\x84"[..]);
    assert_eq!(drain(&mut reader, &mut input).map(|seen| seen.len()), Ok(1));
    assert_eq!(reader.bytes_received(), 3073 + 14);
    input.clear();
    input.extend_from_slice(b"\xC5");
    let error = ChunkError::NoEarlierHeader { offset: 3073 + 13, chunk_stream: 5, header_type: 3 };
    assert_eq!(drain(&mut reader, &mut input), Err(error));
}

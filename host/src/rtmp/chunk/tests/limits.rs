//! Malformed chunks and memory limits.

use super::*;
use crate::budget::Budget;

#[test]
fn rejects_chunk_sizes_outside_the_message_length() {
    for size in [0, MAX_CHUNK_SIZE + 1, 0x7FFF_FFFF, 0x8000_0001, u32::MAX] {
        assert_eq!(read_error(SMALL, &set_chunk_size(size)), ChunkError::ChunkSize { offset: 0, size });
    }
    for size in [1, 127, 128, 65_537, MAX_CHUNK_SIZE] {
        let mut reader = ChunkReader::new(SMALL);
        let seen = drain(&mut reader, &mut Input::from(&set_chunk_size(size)[..])).expect("accepted");
        assert_eq!(Control::read(&seen[0]), Ok(Some(Control::SetChunkSize(size))));
        assert_eq!(reader.chunk_size(), size);
    }
}

#[test]
fn rejects_malformed_chunks() {
    let begin = b"\x06\x00\x00\x0A\x00\x00\xC8\x09\x01\x00\x00\x00";
    let within = [begin, &pattern(128)[..]].concat();
    let inside = |header_type| ChunkError::HeaderWithinMessage {
        offset: 140,
        chunk_stream: 6,
        header_type,
        received: 128,
        length: 200,
    };
    let rows: [(&str, Vec<u8>, ChunkError); 9] = [
        (
            "type 2 first",
            vec![0x86],
            ChunkError::NoEarlierHeader { offset: 0, chunk_stream: 6, header_type: 2 },
        ),
        (
            "type 3 first",
            [&set_chunk_size(9)[..], b"\xC0\x01"].concat(),
            ChunkError::NoEarlierHeader { offset: 16, chunk_stream: 65, header_type: 3 },
        ),
        (
            "shorter length within a message",
            [&within[..], b"\x06\x00\x00\x0A\x00\x00\x02\x09\x01\x00\x00\x00ab"].concat(),
            inside(0),
        ),
        (
            "longer length within a message",
            [&within[..], b"\x46\x00\x00\x00\x00\x01\x00\x09"].concat(),
            inside(1),
        ),
        ("type 2 within a message", [&within[..], b"\x86\x00\x00\x00"].concat(), inside(2)),
        (
            "short set chunk size",
            b"\x02\x00\x00\x00\x00\x00\x03\x01\x00\x00\x00\x00abc".to_vec(),
            ChunkError::ControlTooShort { offset: 0, kind: MessageKind::SET_CHUNK_SIZE, length: 3 },
        ),
        (
            "empty abort",
            b"\x02\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00".to_vec(),
            ChunkError::ControlTooShort { offset: 0, kind: MessageKind::ABORT, length: 0 },
        ),
        (
            "too many chunk streams",
            (3..8).flat_map(|id| [&[id][..], &[0; 11]].concat()).collect(),
            ChunkError::TooManyChunkStreams { offset: 48, chunk_stream: 7, limit: 4 },
        ),
        (
            "an audio chunk between two video chunks, then a type 0",
            [&within[..], b"\x04\x00\x00\x09\x00\x00\x01\x08\x01\x00\x00\x00a", &begin[..]].concat(),
            ChunkError::HeaderWithinMessage {
                offset: 153,
                chunk_stream: 6,
                header_type: 0,
                received: 128,
                length: 200,
            },
        ),
    ];
    for (row, wire, error) in rows {
        assert_eq!(read_error(SMALL, &wire), error, "{row}");
    }
}

#[test]
fn rejects_messages_over_the_limit_before_their_payload() {
    let limits = ChunkLimits { max_message: 1000, ..SMALL };
    let wire = b"\x06\x00\x00\x0A\x00\x03\xE9\x09\x01\x00\x00\x00";
    assert_eq!(read_error(limits, wire), ChunkError::MessageTooLong { offset: 0, length: 1001, limit: 1000 });
}

#[test]
fn claimed_lengths_take_no_memory() {
    let mut reader = ChunkReader::new(ChunkLimits::default());
    let mut wire = Vec::new();
    for id in 0..255_u32 {
        let basic = if id < 64 { vec![0x00, id as u8] } else { vec![0x01, (id - 64) as u8, 1] };
        wire.extend([&basic[..], b"\x00\x00\x00\xFF\xFF\xFF\x09\x01\x00\x00\x00", &[7; 128]].concat());
    }
    let mut input = Input::from(&wire[..]);
    assert_eq!(drain(&mut reader, &mut input), Ok(vec![]));
    assert_eq!(reader.buffered(), 255 * 128);
    assert!(reader.memory() <= 255 * 4096 + wire.len(), "{}", reader.memory());

    // Headers alone take no memory, not even with chunks as long as the message.
    let mut reader = ChunkReader::new(ChunkLimits::default());
    let mut input = Input::from(&set_chunk_size(MAX_CHUNK_SIZE)[..]);
    input.extend_from_slice(b"\x04\x00\x00\x00\xFF\xFF\xFF\x09\x01\x00\x00\x00");
    assert_eq!(drain(&mut reader, &mut input).map(|seen| seen.len()), Ok(1));
    assert_eq!((reader.buffered(), reader.memory(), input.len()), (0xFF_FFFF, 0, 0));
}

#[test]
fn one_budget_covers_all_chunk_streams() {
    let part = pattern(20_000);
    let mut wire = set_chunk_size(20_000);
    for id in 3..6 {
        wire.extend([&[id][..], b"\x00\x00\x00\xFF\xFF\xFF\x09\x01\x00\x00\x00", &part].concat());
    }
    let mut input = Input::from(&wire[..]);
    let mut reader = ChunkReader::new(SMALL);
    assert_eq!(drain(&mut reader, &mut input).map(|seen| seen.len()), Ok(1));
    assert_eq!(reader.buffered(), 60_000);
    assert!(reader.memory() <= 2 * 60_000 + wire.len(), "{}", reader.memory());
    input.extend_from_slice(b"\xC3");
    let offset = wire.len() as u64;
    let error = ChunkError::TooMuchBuffered { offset, needed: 80_000, limit: 65_536 };
    assert_eq!(drain(&mut reader, &mut input), Err(error));
    // The error is the same however the bytes arrive.
    wire.push(0xC3);
    assert_eq!(read_error(SMALL, &wire), error);

    // A message exactly as long as the budget is accepted, and releases the budget.
    let longest = message(VIDEO, 0, 1, pattern(SMALL.max_buffered));
    let wire = write(128, &[(6, longest.clone()), (6, longest.clone())]);
    assert_eq!(read_with(SMALL, &wire), (vec![longest.clone(), longest], None));
}

#[test]
fn memory_is_charged_before_it_is_taken_and_while_a_payload_lives() {
    let budget = Budget::new(300_000);
    let used = || budget.usage().used.iter().map(|(_, used)| used).sum::<usize>();
    let account = budget.address().account();
    let [picture, empty, long] = [30_000, 0, 120_000].map(|length| message(VIDEO, 0, 1, pattern(length)));
    let wire = [set_chunk_size(MAX_CHUNK_SIZE), write(MAX_CHUNK_SIZE, &[(6, picture), (4, empty)])].concat();
    let mut reader = ChunkReader::new(ChunkLimits::default());
    reader.charge_to(account.clone());
    let mut input = Input::default();
    let mut seen = Vec::new();
    for bytes in wire.chunks(1000) {
        input.extend_from_slice(bytes);
        seen.extend(drain(&mut reader, &mut input).unwrap());
        assert!(reader.memory() <= used(), "{} of {}", reader.memory(), used());
    }
    // Set Chunk Size, the picture, an empty message.
    let overhead = Message::OVERHEAD;
    assert_eq!((seen.len(), used()), (3, 4 + 30_000 + 3 * overhead));
    let slice = seen[1].payload.slice(7..9);
    seen.clear();
    assert_eq!(used(), 30_000 + overhead);
    drop(slice);
    assert_eq!(used(), 0);

    // A connection may hold a third: 100,000 bytes.
    let mut reader = ChunkReader::new(ChunkLimits::default());
    reader.charge_to(account);
    let wire = [set_chunk_size(MAX_CHUNK_SIZE), write(MAX_CHUNK_SIZE, &[(6, long)])].concat();
    let mut input = Input::default();
    let error = wire.chunks(1000).find_map(|bytes| {
        input.extend_from_slice(bytes);
        drain(&mut reader, &mut input).err()
    });
    assert!(matches!(error, Some(ChunkError::OverBudget(_))), "{error:?}");
    assert!(reader.memory() <= 100_000 && used() <= 100_000, "{} {}", reader.memory(), used());
    drop(reader);
    assert_eq!(used(), 0);
}

//! The chunk reader and the parsers of its messages: input in parts of any size gives the same result, memory stays
//! within the limits, and every result can be written and read again.
#![no_main]

use bytes::Buf;
use libfuzzer_sys::fuzz_target;
use remuxd::testing::budget::Account;
use remuxd::testing::rtmp::Input;
use remuxd::testing::rtmp::chunk::{ChunkError, ChunkLimits, ChunkReader, ChunkWriter};
use remuxd::testing::rtmp::message::{Aggregate, Control, Message, MessageKind};
use remuxd::testing::rtmp::output::Output;

const LIMITS: ChunkLimits =
    ChunkLimits { max_message: 1 << 20, max_buffered: 16 << 10, max_chunk_streams: 16 };

fn read(wire: &[u8], step: usize) -> (Vec<Message>, Option<ChunkError>) {
    let mut reader = ChunkReader::new(LIMITS);
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
            assert!(reader.buffered() <= LIMITS.max_buffered);
        }
    }
    assert_eq!(reader.bytes_received(), wire.len() as u64);
    (messages, None)
}

fuzz_target!(|data: &[u8]| {
    let [step, chunk_size, wire @ ..] = data else { return };
    let whole = read(wire, wire.len().max(1));
    assert_eq!(read(wire, usize::from(*step) + 1), whole);

    let mut writer = ChunkWriter::new();
    let mut out = Output::new();
    let size = Control::SetChunkSize(u32::from(*chunk_size) + 1).to_message();
    writer.write(2, size.kind, 0, 0, &size.payload, &mut out);
    writer.set_chunk_size(u32::from(*chunk_size) + 1);
    let mut written = vec![size];
    for message in &whole.0 {
        if let Ok(Some(control)) = Control::read(message) {
            assert_eq!(Control::read(&control.to_message()), Ok(Some(control)));
        }
        Aggregate::new(message, &Account::unlimited()).for_each(drop);
        if ![MessageKind::SET_CHUNK_SIZE, MessageKind::ABORT].contains(&message.kind) {
            let chunk_stream = 3 + u32::from(message.kind.0 % 8) * 50;
            writer.write(
                chunk_stream,
                message.kind,
                message.stream_id,
                message.timestamp,
                &message.payload,
                &mut out,
            );
            written.push(message.clone());
        }
    }
    let wire = out.copy_to_bytes(out.remaining());
    assert_eq!(read(&wire, wire.len()), (written, None));
});

//! The server session after the handshake: input in parts of any size gives the same events, answers stay within their
//! limit and can be parsed, and a player gets its tags.
#![no_main]

use bytes::{Buf, Bytes};
use libfuzzer_sys::fuzz_target;
use remuxd::testing::media::{Millis, Tag, TagKind};
use remuxd::testing::rtmp::chunk::{ChunkLimits, ChunkReader};
use remuxd::testing::rtmp::handshake::Random;
use remuxd::testing::rtmp::server::{Event, PlayEnd, ServerSession, ServerSettings};
use remuxd::testing::rtmp::{Input, MAX_UNREAD_REPLIES, SessionError};

const LIMITS: ChunkLimits =
    ChunkLimits { max_message: 1 << 20, max_buffered: 16 << 10, max_chunk_streams: 16 };
/// C0, C1 and C2; S0, S1 and S2.
const HANDSHAKE: usize = 1 + 2 * 1536;
/// More than the answers to any one message.
const ANSWERS: usize = 4096;

fn run(wire: &[u8], step: usize) -> (Vec<String>, Option<SessionError>) {
    let settings = ServerSettings { chunk_size: 4096, window_ack_size: 2_500_000, limits: LIMITS };
    let mut session = ServerSession::new(settings, 0, Random::from_seed(0));
    session.buffers().input.extend_from_slice(&[3; HANDSHAKE]);
    let mut events = Vec::new();
    let mut error = None;
    'parts: for part in wire.chunks(step) {
        session.buffers().input.extend_from_slice(part);
        loop {
            match session.poll_event() {
                Ok(Some(event)) => {
                    events.push(format!("{event:?}"));
                    answer(&mut session, event);
                }
                Ok(None) => break,
                Err(found) => {
                    error = Some(found);
                    break 'parts;
                }
            }
            assert!(session.buffers().output.len() <= HANDSHAKE + MAX_UNREAD_REPLIES + ANSWERS);
        }
    }
    let output = &mut session.buffers().output;
    output.advance(HANDSHAKE.min(output.len()));
    let mut answers = Input::from(&output.copy_to_bytes(output.len())[..]);
    let mut reader = ChunkReader::new(ChunkLimits::default());
    while reader.read(&mut answers).expect("answers can be read").is_some() {}
    assert!(answers.is_empty());
    (events, error)
}

fn answer(session: &mut ServerSession, event: Event) {
    match event {
        Event::Connect { .. } => session.accept_connect(),
        Event::Publish { stream_id, .. } => session.accept_publish(stream_id),
        Event::Play { stream_id, .. } => {
            session.accept_play(stream_id);
            let body = Bytes::from_static(b"\x96\x01avc1\0\0\0\0frame");
            session.send_tag(stream_id, &Tag::new(TagKind::VIDEO, Millis(40), body));
        }
        Event::Pause { stream_id, .. } => session.end_play(stream_id, PlayEnd::Stopped),
        _ => {}
    }
}

fuzz_target!(|data: &[u8]| {
    let [step, wire @ ..] = data else { return };
    let whole = run(wire, wire.len().max(1));
    let parts = run(wire, usize::from(*step) + 1);
    // Acknowledgements depend on the parts of the input, and so do the answers that are not read.
    let unread =
        |run: &(Vec<String>, Option<SessionError>)| matches!(run.1, Some(SessionError::UnreadReplies { .. }));
    if !unread(&whole) && !unread(&parts) {
        assert_eq!(whole.0, parts.0);
    }
});

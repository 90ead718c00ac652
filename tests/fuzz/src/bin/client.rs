//! The client session after the handshake, which plays or publishes: input in parts of any size gives the same events, tags come only
//! to a player, nothing comes after the end, and what the client sends stays within its limit and can be parsed.
#![no_main]

use bytes::{Buf, Bytes};
use libfuzzer_sys::fuzz_target;
use remuxd::testing::media::{Millis, Tag, TagKind};
use remuxd::testing::rtmp::chunk::{ChunkLimits, ChunkReader};
use remuxd::testing::rtmp::client::{ClientEvent, ClientSettings};
use remuxd::testing::rtmp::handshake::{Random, Scheme};
use remuxd::testing::rtmp::tc_url::StreamName;
use remuxd::testing::rtmp::{ClientSession, Input, MAX_UNREAD_REPLIES, SessionError};

const LIMITS: ChunkLimits =
    ChunkLimits { max_message: 1 << 20, max_buffered: 16 << 10, max_chunk_streams: 16 };
/// S0, S1 and S2; C0, C1 and C2.
const HANDSHAKE: usize = 1 + 2 * 1536;
/// More than a client sends because of any one message.
const CALLS: usize = 4096;

fn run(wire: &[u8], publishes: bool, step: usize) -> (Vec<String>, Option<SessionError>) {
    let name = StreamName::parse_url("rtmp://host.example/live/film?token=t").expect("a valid URL");
    let settings = ClientSettings {
        scheme: Scheme::KeyThenDigest,
        chunk_size: 4096,
        window_ack_size: 2_500_000,
        limits: LIMITS,
        enhanced: true,
        hops: "node/vhost".to_owned(),
    };
    let random = Random::from_seed(0);
    let mut session = match publishes {
        true => ClientSession::publish(name, settings, 0, random),
        false => ClientSession::play(name, settings, 0, random),
    };
    session.buffers().input.extend_from_slice(&[3; HANDSHAKE]);
    let mut events = Vec::new();
    let mut error = None;
    'parts: for part in wire.chunks(step) {
        session.buffers().input.extend_from_slice(part);
        loop {
            let was_over = session.is_over();
            match session.poll_event() {
                Ok(Some(event)) => {
                    assert!(!was_over, "{event:?} after the end");
                    assert!(!publishes || !matches!(event, ClientEvent::Media { .. } | ClientEvent::Playing));
                    events.push(format!("{event:?}"));
                    let body = Bytes::from_static(b"\x96\x01avc1\0\0\0\0frame");
                    session.send_tag(&Tag::new(TagKind::VIDEO, Millis(40), body));
                }
                Ok(None) => break,
                Err(found) => {
                    error = Some(found);
                    break 'parts;
                }
            }
            assert!(
                session.buffers().output.len() <= HANDSHAKE + MAX_UNREAD_REPLIES + CALLS + 64 * events.len()
            );
        }
    }
    session.finish();
    let output = &mut session.buffers().output;
    output.advance(HANDSHAKE.min(output.len()));
    let mut calls = Input::from(&output.copy_to_bytes(output.len())[..]);
    let mut reader = ChunkReader::new(ChunkLimits::default());
    while reader.read(&mut calls).expect("calls can be read").is_some() {}
    assert!(calls.is_empty());
    (events, error)
}

fuzz_target!(|data: &[u8]| {
    let [step, role, wire @ ..] = data else { return };
    let publishes = role & 1 == 1;
    let whole = run(wire, publishes, wire.len().max(1));
    let parts = run(wire, publishes, usize::from(*step) + 1);
    // Acknowledgements depend on the parts of the input, and so do the answers that are not read.
    let unread =
        |run: &(Vec<String>, Option<SessionError>)| matches!(run.1, Some(SessionError::UnreadReplies { .. }));
    if !unread(&whole) && !unread(&parts) {
        assert_eq!(whole.0, parts.0);
    }
});

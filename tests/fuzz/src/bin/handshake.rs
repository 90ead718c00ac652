//! Both ends of the handshake: input split into parts of any size causes the same response, of fixed size.
#![no_main]

use bytes::Buf;
use libfuzzer_sys::fuzz_target;
use remuxd::testing::rtmp::Input;
use remuxd::testing::rtmp::handshake::{Handshake, HandshakeError, Random, Scheme};
use remuxd::testing::rtmp::output::Output;

fn feed(
    wire: &[u8],
    step: usize,
    mut read: impl FnMut(&mut Input, &mut Output) -> Result<bool, HandshakeError>,
) -> (Result<bool, HandshakeError>, Vec<u8>) {
    let (mut input, mut out) = (Input::default(), Output::new());
    let mut result = Ok(false);
    for part in wire.chunks(step) {
        input.extend_from_slice(part);
        result = read(&mut input, &mut out);
        if result.is_err() {
            break;
        }
    }
    (result, out.copy_to_bytes(out.remaining()).to_vec())
}

fn server(wire: &[u8], step: usize) -> (Result<bool, HandshakeError>, Vec<u8>) {
    let mut server = Handshake::server(0, Random::from_seed(1));
    feed(wire, step, |input, out| server.read(input, out))
}

fn client(wire: &[u8], step: usize) -> (Result<bool, HandshakeError>, Vec<u8>) {
    let mut client = Handshake::client(Scheme::DigestThenKey, 0, Random::from_seed(2));
    feed(wire, step, |input, out| client.read(input, out))
}

fuzz_target!(|data: &[u8]| {
    let [step, wire @ ..] = data else { return };
    let step = usize::from(*step) * 8 + 1;

    let answer = server(wire, wire.len().max(1));
    assert_eq!(server(wire, step), answer);
    assert!([0, 1 + 2 * 1536].contains(&answer.1.len()));

    let answer = client(wire, wire.len().max(1));
    assert_eq!(client(wire, step), answer);
    assert!([0, 1536].contains(&answer.1.len()));
});

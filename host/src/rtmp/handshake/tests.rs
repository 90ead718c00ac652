use std::net::Ipv4Addr;

use bytes::Buf;

use super::blob::{BLOB, first_blob};
use super::digest::{PLAYER_KEY, SERVER_KEY};
use super::exchange::VERSION;
use super::*;
use crate::rtmp::Input;
use crate::rtmp::output::Output;

const SCHEMES: [Scheme; 3] = [Scheme::Simple, Scheme::KeyThenDigest, Scheme::DigestThenKey];

fn server() -> Handshake {
    Handshake::server(7, Random::from_seed(1))
}

fn bytes(mut out: Output) -> Vec<u8> {
    out.copy_to_bytes(out.remaining()).to_vec()
}

/// C0 and C1 of a client that offers `scheme`.
fn hello(scheme: Scheme) -> Vec<u8> {
    let mut out = Output::new();
    Handshake::client(scheme, 9, Random::from_seed(2)).start(&mut out);
    bytes(out)
}

/// Returns the server's response to `input`, fed in parts of `step` bytes, before C2.
fn answer(input: &[u8], step: usize) -> (Handshake, Vec<u8>) {
    let (mut server, mut buffer, mut out) = (server(), Input::default(), Output::new());
    for part in input.chunks(step) {
        assert!(out.is_empty(), "responds before C1 is complete");
        buffer.extend_from_slice(part);
        assert_eq!(server.read(&mut buffer, &mut out), Ok(false));
    }
    (server, bytes(out))
}

/// S1 and S2 of a response.
fn blobs(answer: &[u8]) -> (&[u8; BLOB], &[u8; BLOB]) {
    assert_eq!((answer.len(), answer[0]), (1 + 2 * BLOB, VERSION));
    (answer[1..].first_chunk().unwrap(), answer.last_chunk().unwrap())
}

/// Runs both ends against each other, `step` bytes at a time, until both are done. Both send `behind` right after
/// their last blob.
fn converse(scheme: Scheme, step: usize, behind: &[u8]) -> (Handshake, Handshake) {
    let mut server = server();
    let mut client = Handshake::client(scheme, 9, Random::from_seed(2));
    let (mut to_server, mut to_client) = (Output::new(), Output::new());
    let (mut at_server, mut at_client) = (Input::default(), Input::default());
    client.start(&mut to_server);
    let (mut server_done, mut client_done) = (false, false);
    for _ in 0..4 * (1 + 2 * BLOB + behind.len()) {
        let count = step.min(to_server.remaining());
        at_server.extend_from_slice(&to_server.copy_to_bytes(count));
        if !server_done {
            server_done = server.read(&mut at_server, &mut to_client).unwrap();
            if server_done {
                to_client.extend_from_slice(behind);
            }
        }
        let count = step.min(to_client.remaining());
        at_client.extend_from_slice(&to_client.copy_to_bytes(count));
        if !client_done {
            client_done = client.read(&mut at_client, &mut to_server).unwrap();
            if client_done {
                to_server.extend_from_slice(behind);
            }
        }
    }
    assert!(server_done && client_done, "{scheme:?}, step {step}");
    assert_eq!((&at_server[..], &at_client[..]), (behind, behind), "{scheme:?}, step {step}");
    assert_eq!(server.bytes_received(), 1 + 2 * BLOB as u64);
    assert_eq!(client.bytes_received(), 1 + 2 * BLOB as u64);
    // A complete handshake consumes nothing.
    assert_eq!(server.read(&mut at_server, &mut Output::new()), Ok(true));
    assert_eq!(&*at_server, behind);
    (server, client)
}

#[test]
fn both_ends_agree_on_every_scheme() {
    for scheme in SCHEMES {
        for step in [1, 1535, 1536, 1537, 10_000] {
            let (server, client) = converse(scheme, step, b"\x02 first chunk");
            assert_eq!(server.scheme(), Some(scheme));
            assert_eq!(client.scheme(), Some(scheme));
        }
    }
}

#[test]
fn random_bytes_decide_the_position_of_the_digest() {
    for seed in 0..200 {
        for scheme in [Scheme::KeyThenDigest, Scheme::DigestThenKey] {
            let mut blob = first_blob(0, [9, 0, 124, 2], &Random::from_seed(seed));
            let digest = PLAYER_KEY.sign(&mut blob, scheme);
            assert_eq!(PLAYER_KEY.verify(&blob), Some((scheme, digest)));
            assert_eq!(SERVER_KEY.verify(&blob), None);
        }
    }
}

#[test]
fn digests_match_the_published_keys() {
    // Computed with Python's hmac. The four offset bytes at their largest add up to 1020, modulo 728.
    let blank = first_blob(0, [0; 4], &Random(Box::new([0xFF; BLOB - 8])));

    let mut c1 = blank;
    let digest = PLAYER_KEY.sign(&mut c1, Scheme::KeyThenDigest);
    assert_eq!(hex(&digest), "18ef035c2540f1d06f039b367e91114cb33ba0d78d225d667fa2c835b4bb09c4");
    assert_eq!(c1[8 + 764 + 4 + 292..][..32], digest);

    let mut s1 = blank;
    let digest = SERVER_KEY.sign(&mut s1, Scheme::DigestThenKey);
    assert_eq!(hex(&digest), "6d93e38f3ca097b4287d66b9ac2efc98e09cd0881c787b2e3e4ae63e475b029d");
    assert_eq!(s1[8 + 4 + 292..][..32], digest);

    let random = Random(Box::new([0xFF; BLOB - 8]));
    let c2 = PLAYER_KEY.answer(&digest, &random);
    assert_eq!(hex(&c2[1504..]), "28385c48d3a707d16f0af9fa20e5fa9a41a920c84005bd94ad9a5c28c5b069eb");
    let s2 = SERVER_KEY.answer(&digest, &random);
    assert_eq!(hex(&s2[1504..]), "dc0e0b917afbe1d15b03f4c5a3ed8055d63f66a4b7d5538fefacb96a13417346");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn simple_response_repeats_c1() {
    let hello = hello(Scheme::Simple);
    for step in [1, 2000] {
        let (server, answer) = answer(&hello, step);
        let (s1, s2) = blobs(&answer);
        assert_eq!(s2[..], hello[1..]);
        assert_eq!(s1[..8], [0, 0, 0, 7, 0, 0, 0, 0]);
        assert_eq!(server.scheme(), Some(Scheme::Simple));
    }
}

#[test]
fn signed_response_verifies() {
    for scheme in [Scheme::KeyThenDigest, Scheme::DigestThenKey] {
        let hello = hello(scheme);
        let (_, answer) = answer(&hello, 1);
        let (s1, s2) = blobs(&answer);
        assert_eq!(SERVER_KEY.verify(s1).map(|(scheme, _)| scheme), Some(scheme));
        let (_, c1_digest) = PLAYER_KEY.verify(hello[1..].first_chunk().unwrap()).unwrap();
        assert!(SERVER_KEY.answers(&c1_digest, s2));
        assert!(!PLAYER_KEY.answers(&c1_digest, s2));
    }
}

#[test]
fn an_invalid_digest_in_c1_gets_the_simple_response() {
    for scheme in [Scheme::KeyThenDigest, Scheme::DigestThenKey] {
        let hello = hello(scheme);
        // A bit flipped anywhere: in the epoch, the blocks, the digest.
        for position in (1..=BLOB).step_by(61) {
            let mut hello = hello.clone();
            hello[position] ^= 0x10;
            let (server, answer) = answer(&hello, hello.len());
            assert_eq!(server.scheme(), Some(Scheme::Simple), "{position}");
            assert_eq!(blobs(&answer).1[..], hello[1..]);
        }
    }
}

#[test]
fn client_accepts_any_response() {
    let s1_plain = first_blob(3, [0; 4], &Random::from_seed(3));
    let mut s1_signed = first_blob(3, [3, 5, 1, 1], &Random::from_seed(3));
    let s1_digest = SERVER_KEY.sign(&mut s1_signed, Scheme::KeyThenDigest);
    let mut s1_wrong = s1_signed;
    s1_wrong[1000] ^= 1;

    let rows = [
        ("signed offer, plain answer", Scheme::DigestThenKey, s1_plain, Scheme::Simple),
        ("signed offer, other layout", Scheme::DigestThenKey, s1_signed, Scheme::KeyThenDigest),
        ("signed offer, wrong digest", Scheme::DigestThenKey, s1_wrong, Scheme::Simple),
        ("plain offer, signed answer", Scheme::Simple, s1_signed, Scheme::Simple),
    ];
    for (row, offered, s1, answered) in rows {
        for step in [1, 5000] {
            let mut client = Handshake::client(offered, 9, Random::from_seed(2));
            let (mut input, mut out) = (Input::default(), Output::new());
            let wire = [&[VERSION][..], &s1, &[0xAA; BLOB], b"behind"].concat();
            let mut done = false;
            for part in wire.chunks(step) {
                input.extend_from_slice(part);
                done = client.read(&mut input, &mut out).unwrap();
            }
            assert!(done, "{row}");
            assert_eq!(&*input, b"behind", "{row}");
            assert_eq!(client.scheme(), Some(answered), "{row}");
            let c2: [u8; BLOB] = bytes(out).try_into().unwrap();
            match answered {
                Scheme::Simple => assert_eq!(c2, s1, "{row}"),
                _ => assert!(PLAYER_KEY.answers(&s1_digest, &c2), "{row}"),
            }
        }
    }
}

#[test]
fn rejects_other_versions() {
    for version in (0..=255_u8).filter(|version| ![VERSION, 0xF3].contains(version)) {
        let error = match version {
            6 | 8 | 9 => HandshakeError::Encrypted { offset: 0, version },
            _ => HandshakeError::Version { offset: 0, version },
        };
        let mut out = Output::new();
        assert_eq!(server().read(&mut Input::from(&[version][..]), &mut out), Err(error));
        assert!(out.is_empty());
    }
    let mut client = Handshake::client(Scheme::Simple, 0, Random::from_seed(0));
    let error = HandshakeError::Encrypted { offset: 0, version: 6 };
    assert_eq!(client.read(&mut Input::from(&[6][..]), &mut Output::new()), Err(error));
}

#[test]
fn a_proxy_header_names_the_client() {
    let rows: [(&[u8], Option<Ipv4Addr>); 4] = [
        (b"\xF3\x00\x04\x0A\x01\x02\x03", Some(Ipv4Addr::new(10, 1, 2, 3))),
        (b"\xF3\x00\x06\x0A\x01\x02\x03xy", Some(Ipv4Addr::new(10, 1, 2, 3))),
        (b"\xF3\x00\x03\x0A\x01\x02", None),
        (b"\xF3\x00\x00", None),
    ];
    for (header, client) in rows {
        for step in [1, 10_000] {
            let (server, answer) = answer(&[header, &hello(Scheme::DigestThenKey)].concat(), step);
            assert_eq!(server.proxied_client(), client);
            assert_eq!(server.scheme(), Some(Scheme::DigestThenKey));
            assert_eq!(server.bytes_received(), (header.len() + 1 + BLOB) as u64);
            assert_eq!(answer.len(), 1 + 2 * BLOB);
        }
    }

    let longest = [&[0xF3, 4, 0][..], &[1; 1024]].concat();
    let (server, _) = answer(&[&longest[..], &hello(Scheme::Simple)].concat(), 10_000);
    assert_eq!(server.proxied_client(), Some(Ipv4Addr::new(1, 1, 1, 1)));
}

#[test]
fn rejects_a_long_or_second_proxy_header() {
    let rows: [(&[u8], HandshakeError); 3] = [
        (b"\xF3\x04\x01", HandshakeError::ProxyHeaderTooLong { offset: 0, length: 1025, limit: 1024 }),
        (b"\xF3\xFF\xFF", HandshakeError::ProxyHeaderTooLong { offset: 0, length: 65_535, limit: 1024 }),
        (b"\xF3\x00\x00\xF3\x00\x00", HandshakeError::Version { offset: 3, version: 0xF3 }),
    ];
    for (wire, error) in rows {
        assert_eq!(server().read(&mut Input::from(wire), &mut Output::new()), Err(error));
    }
}

#[test]
fn seeds_give_different_bytes() {
    let [a, b] = [1, 2].map(|seed| Random::from_seed(seed).0);
    assert_ne!(a, b);
    assert_eq!(a, Random::from_seed(1).0);
    assert_ne!(a[..32], a[32..64]);
}

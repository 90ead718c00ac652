//! MPEG-TS: any tags give whole packets with correct counters, and any state is read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use remuxd_bitstream::flv::read_tag;
use remuxd_plugin_api::{Block, Millis, Options, RemuxError, Remuxer, Setup, StreamFacts, Tag, TagKind};
use remuxd_ts::TsRemuxer;

fn tag(kind: TagKind, dts: i64, body: &[u8]) -> Tag {
    read_tag(kind, Millis(dts), body.to_vec().into())
}

/// Checks packets against the continuity counters so far. A counter may start afresh in a packet that is marked so.
fn check(blocks: &[Block], counters: &mut [Option<u8>; 0x2000]) {
    for packet in blocks.iter().flat_map(|block| &block.parts).flat_map(|part| {
        assert_eq!(part.len() % 188, 0, "whole packets");
        part.chunks(188)
    }) {
        assert_eq!(packet[0], 0x47);
        let pid = usize::from(u16::from_be_bytes([packet[1] & 0x1f, packet[2]]));
        let (counter, payload) = (packet[3] & 15, packet[3] & 0x10 != 0);
        if packet[3] & 0x20 != 0 {
            assert!(packet[4] <= if payload { 182 } else { 183 });
        }
        let marked = packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x80 != 0;
        if let Some(last) = counters[pid].filter(|_| !marked) {
            assert_eq!(counter, (last + u8::from(payload)) & 15, "continuity on {pid:#x}");
        }
        counters[pid] = Some(counter);
    }
}

fuzz_target!(|data: &[u8]| {
    // The length of a state, the state, facts about the stream, then tags.
    let [state_len, wait, input @ ..] = data else { return };
    let (state, mut rest) = input.split_at(usize::from(*state_len).min(input.len()));
    let options = || Options::new(vec![("header_wait".into(), (i64::from(*wait) * 10).to_string())]);
    let mut setup = Setup::new(options(), StreamFacts::default());
    setup.state = state.to_vec();
    let mut remuxer = TsRemuxer::new(&setup);
    let (mut counters, mut dts) = ([None; 0x2000], 0);
    // Each tag: kind and whether a successor takes over, hundredths of a second since the previous one, length, body.
    while let [kind, step, len, body @ ..] = rest {
        let (body, after) = body.split_at(usize::from(*len).min(body.len()));
        let mut blocks: Vec<Block> = Vec::new();
        if kind & 0x80 != 0 {
            remuxer.finish(&mut blocks).expect("small tags are remuxed");
            let mut setup = Setup::new(options(), StreamFacts::default());
            setup.state = remuxer.state();
            if setup.state.is_empty() {
                counters = [None; 0x2000];
            }
            remuxer = TsRemuxer::new(&setup);
        }
        dts += i64::from(*step as i8) * 10;
        let kind = [TagKind::AUDIO, TagKind::VIDEO, TagKind::SCRIPT][usize::from(kind & 0x7f) % 3];
        let answer = remuxer.tag(&tag(kind, dts, body), &mut blocks);
        check(&blocks, &mut counters);
        match answer {
            Ok(()) => rest = after,
            // It can carry no track anymore: the host ends it.
            Err(RemuxError::Unsupported(_)) => return,
            Err(error) => panic!("small tags are remuxed: {error}"),
        }
    }
    let mut blocks: Vec<Block> = Vec::new();
    remuxer.finish(&mut blocks).expect("small tags are remuxed");
    check(&blocks, &mut counters);
});

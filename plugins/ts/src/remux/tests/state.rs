//! Tests of the state for a successor.

use super::*;

#[test]
fn a_successor_continues_its_predecessors_stream() {
    let mp3s = || in_order(pictures(0, 2_000, 1_000).chain((0..77).map(|n| mp3(n * 26))).collect());
    for input in [both(0, 4_000), [vec![avc_config(0)], mp3s()].concat()] {
        let alone = checked(&remux(&input));
        let key = input.iter().rposition(|input| tag(input).keyframe).unwrap();
        let facts = StreamFacts::new(Codec::H264, tag(input.last().unwrap()).codec, 2_000);
        let mut first = TsRemuxer::new(&setup(facts));
        let mut blocks = run(&mut first, &input[..key]);
        let mut successor_setup = setup(facts);
        successor_setup.state = first.state();
        let mut second = TsRemuxer::new(&successor_setup);
        // The host replays the configurations.
        let replay: Vec<Input> = input
            .iter()
            .filter(|(_, _, body)| body[1] == 0)
            .map(|(kind, _, body)| (*kind, input[key].1, body.clone()))
            .collect();
        blocks.extend(run(&mut second, &[&replay, &input[key..]].concat()));
        let stream = checked(&blocks);
        assert_eq!(versions(&stream), versions(&alone));
        assert_eq!(stream.units.len(), alone.units.len());
    }
}

#[test]
fn a_malformed_state_causes_a_fresh_start() {
    let mut remuxer = TsRemuxer::new(&setup(StreamFacts::default()));
    assert!(remuxer.state().is_empty(), "no state before the first access unit");
    run(&mut remuxer, &both(0, 1_000));
    let state = remuxer.state();
    let fresh = bytes(&remux(&both(0, 1_000)));
    let with_state = |state: &[u8]| {
        let mut setup = setup(StreamFacts::default());
        setup.state = state.to_vec();
        bytes(&run(&mut TsRemuxer::new(&setup), &both(0, 1_000)))
    };
    assert_ne!(with_state(&state), fresh);
    for end in 0..state.len() {
        assert_eq!(with_state(&state[..end]), fresh);
    }
    let mut longer = state.clone();
    longer.push(0);
    let mut newer = state.clone();
    newer[0] += 1;
    let mut far = state.clone();
    far[9] = 0x7f;
    for state in [longer, newer, far] {
        assert_eq!(with_state(&state), fresh);
    }
    for at in 0..state.len() {
        for value in [0, 0x7f, 0xff] {
            let mut changed = state.clone();
            changed[at] = value;
            assert!(!with_state(&changed).is_empty());
        }
    }
}

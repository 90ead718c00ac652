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

/// After a fault there is no state, and a viewer has the predecessor's packets.
#[test]
fn a_remuxer_without_a_state_marks_where_counters_and_clock_start_afresh() {
    let hevcs = (0..25).map(|n| hevc(2_000 + n * 40, n == 0));
    let hevcs = in_order(hevcs.chain(frames(2_000, 3_000)).collect());
    let hevcs = [vec![aac_config(2_000), hevc_config(2_000)], hevcs].concat();
    let audio = || [vec![aac_config(2_000)], frames(2_000, 3_000).collect()].concat();
    // The clock moves to the audio's PID, too.
    for (rest, pids) in [(both(2_000, 3_000), 4), (hevcs, 4), (audio(), 3)] {
        let mut blocks = Vec::new();
        let mut first = TsRemuxer::new(&setup(StreamFacts::default()));
        both(0, 1_300).iter().for_each(|input| first.tag(&tag(input), &mut blocks).unwrap());
        let mut second = TsRemuxer::new(&setup(StreamFacts::default()));
        let is_frame = |input: &Input| input.2[1] != 0;
        let join = rest.iter().position(is_frame).unwrap();
        for (at, input) in rest.iter().enumerate() {
            let mut tag = tag(input);
            tag.discontinuity = at == join;
            second.tag(&tag, &mut blocks).unwrap();
        }
        second.finish(&mut blocks).unwrap();
        let stream = checked(&blocks);
        let marked = stream.packets.iter().filter(|packet| packet.discontinuity());
        let mut marked: Vec<u16> = marked.map(|packet| packet.pid).collect();
        assert_eq!(marked.len(), pids, "each PID once: {marked:x?}");
        marked.sort_unstable();
        marked.dedup();
        assert_eq!(marked.len(), pids, "{marked:x?}");
        let mut types: Vec<_> = stream.units.iter().map(|unit| (unit.pid, unit.stream_type)).collect();
        types.sort_unstable();
        types.dedup();
        assert!(types.windows(2).all(|pair| pair[0].0 != pair[1].0), "a PID has one type: {types:x?}");
    }
}

/// A codec that returns has a PID that was used before, whose counter starts afresh with a mark.
#[test]
fn a_successor_at_any_tag_marks_what_its_predecessor_would_have_marked() {
    let input = [
        vec![aac_config(0), avc_config(0), avc(0, true, 9), aac(10), hevc_config(20), hevc(20, true)],
        vec![aac(30), avc_config(40), aac(40), avc(50, true, 9), aac(60)],
    ]
    .concat();
    let alone = checked(&remux(&input));
    for split in 3..input.len() {
        let mut first = TsRemuxer::new(&setup(StreamFacts::default()));
        let mut blocks = run(&mut first, &input[..split]);
        let mut successor_setup = setup(StreamFacts::default());
        successor_setup.state = first.state();
        let mut second = TsRemuxer::new(&successor_setup);
        let is_config = |input: &&Input| input.2[1] == 0;
        let configs = input[..split].iter().filter(is_config).cloned();
        blocks.extend(run(&mut second, &configs.chain(input[split..].iter().cloned()).collect::<Vec<_>>()));
        let stream = checked(&blocks);
        let marked = |stream: &Stream| -> Vec<u16> {
            stream.packets.iter().filter(|packet| packet.discontinuity()).map(|packet| packet.pid).collect()
        };
        assert_eq!(marked(&stream), marked(&alone), "after {split} tags");
    }
}

#[test]
fn a_successor_of_a_remuxer_that_has_not_begun_its_restart_restarts() {
    let mut unknown = setup(StreamFacts::default());
    unknown.state = b"?".to_vec();
    let mut first = TsRemuxer::new(&unknown);
    let mut successor_setup = setup(StreamFacts::default());
    successor_setup.state = first.state();
    let input = both(0, 1_000);
    let output = bytes(&run(&mut TsRemuxer::new(&successor_setup), &input));
    assert!(output == bytes(&run(&mut first, &input)) && output != bytes(&remux(&input)));
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
    let restarted = with_state(b"?");
    assert_eq!(with_state(b""), fresh);
    assert!(restarted != fresh && with_state(&state) != restarted);
    for end in 1..state.len() {
        assert_eq!(with_state(&state[..end]), restarted);
    }
    let mut longer = state.clone();
    longer.push(0);
    let mut newer = state.clone();
    newer[0] += 1;
    let mut far = state.clone();
    far[9] = 0x7f;
    for state in [longer, newer, far] {
        assert_eq!(with_state(&state), restarted);
    }
    for at in 0..state.len() {
        for value in [0, 0x7f, 0xff] {
            let mut changed = state.clone();
            changed[at] = value;
            assert!(!with_state(&changed).is_empty());
        }
    }
}

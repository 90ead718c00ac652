mod rig;
mod text;

use std::sync::atomic::Ordering;

use bytes::Bytes;

use self::rig::{DEADLINE, HANG, Rig, ended_unsupported, module, read, wait_until, watch};
use self::text::{RELEASED, START_RELEASED, WAIT_RELEASED, WAITING};
use super::super::MountError;
use super::*;
use crate::budget::{Budget, Kind};
use crate::media::{Millis, TagKind};

#[test]
fn a_successor_goes_on_at_the_next_keyframe_with_the_state_and_no_configuration_again() {
    let mut rig = Rig::new();
    rig.publish("HBb");
    rig.sees("hHA0BA1b");
    let next = module::<'B'>(2);
    rig.hand_over(&next);
    rig.publish("c");
    rig.sees("A2c");
    assert_eq!(rig.viewer.mount().running().unwrap().generation(), 1);
    rig.publish("Dd");
    rig.sees("$B3DB4d");
    assert_eq!(rig.viewer.mount().running().unwrap().generation(), 2);
    let mut late = watch(&rig.publisher, &next, &rig.pool);
    assert_eq!(read(&mut late, 8), "hHB3DB4d");
    assert!(Arc::ptr_eq(late.mount(), rig.viewer.mount()), "viewers are not split");
}

#[test]
fn other_options_take_over_unless_responses_would_begin_in_another_way() {
    let head = |text: &str| [("head".to_owned(), text.to_owned())];
    let late = |rig: &Rig, text: &str| {
        let recipe = Recipe::new(rig.first.clone(), &head(text), std::iter::empty()).unwrap();
        let recipe = |_: &_| Ok::<_, MountError>((recipe, Duration::ZERO));
        rig.publisher.stream().watch(recipe, &rig.pool).unwrap().0
    };
    let mut rig = Rig::new();
    rig.publish("HBb");
    rig.sees("hHA0BA1b");
    let mount = rig.viewer.mount().clone();
    // No other value: nothing happens. Another one: the viewers keep what they have, and others get a mount of their own.
    assert!(!mount.hand_over(&rig.first, &[]).unwrap());
    assert!(mount.hand_over(&rig.first, &head("^")).unwrap());
    rig.publish("Dd");
    rig.sees("$A2DA3d");
    assert!(mount.is_draining());
    let mut second = late(&rig, "^");
    assert!(!Arc::ptr_eq(second.mount(), &mount));
    assert_eq!(read(&mut second, 7), "^hHA0DA1d");
    // The same preamble, though the options are not those that were set.
    assert!(second.mount().hand_over(&module::<'B'>(2), &head("^")).unwrap());
    rig.publish("E");
    assert_eq!(read(&mut second, 4), "$B2E");
    rig.sees("A4E");
}

#[test]
fn viewers_get_a_configuration_that_is_another() {
    let mut rig = Rig::new();
    rig.publish("HB");
    rig.sees("hHA0B");
    rig.hand_over(&module::<'C'>(2));
    rig.publish("D");
    rig.sees("$HHC1D");
    let config = &rig.viewer.mount().blocks().configs()[0].1;
    assert_eq!(config.dts, Millis(2000), "the time of the keyframe");
}

#[test]
fn a_configuration_that_changed_before_is_not_repeated() {
    let mut rig = Rig::new();
    rig.publish("HBI");
    rig.sees("hHA0BhI");
    rig.hand_over(&module::<'B'>(2));
    rig.publish("D");
    rig.sees("$B1D");
}

#[test]
fn the_predecessor_goes_on_and_stays_when_its_successor_fails() {
    let mut rig = Rig::new();
    rig.publish("HBb");
    rig.sees("hHA0BA1b");
    let bad = rig.reload::<'X'>();
    rig.publish("DEF");
    rig.sees("$A2DA3EA4F");
    assert_eq!((rig.viewer.mount().module().generation(), bad.fault_count()), (1, 1));
    assert!(!bad.is_off(), "one stream proves nothing");
}

#[test]
fn a_fault_costs_a_gop_and_no_viewer_and_is_a_discontinuity() {
    let mut rig = Rig::new();
    rig.publish("HBpbDd");
    rig.sees("hHA0B~A0DA1d");
    assert_eq!(rig.first.fault_count(), 1);
}

#[test]
fn another_preamble_ends_the_mount_and_the_next_begins_with_it() {
    let mut rig = Rig::new();
    rig.publish("HPbD");
    rig.sees("^hHA0PA1bA2D");
    rig.hand_over(&module::<'B'>(2));
    rig.publish("PeF");
    rig.sees("$B3PB4eB5F");
    rig.publish("P");
    rig.sees("!");
    assert_eq!(rig.viewer.mount().end_reason(), Some(EndReason::Outdated));
    let mut next = watch(&rig.publisher, &module::<'B'>(2), &rig.pool);
    rig.publish("g");
    assert_eq!(read(&mut next, 9), "^hHB0PB1g");
    assert_eq!(rig.first.fault_count(), 0);
}

#[test]
fn a_stream_that_cannot_be_carried_ends_the_mount_and_is_no_fault() {
    let mut rig = Rig::new();
    rig.publish("HBbu");
    rig.sees("hHA0BA1b!");
    assert!(ended_unsupported(&rig.viewer));
    assert_eq!(rig.first.fault_count(), 0);
    // At the next keyframe it may be another stream.
    let mut viewer = watch(&rig.publisher, &rig.first, &rig.pool);
    rig.publish("D");
    assert_eq!(read(&mut viewer, 9), "hHA0BA1b!");
    let mut viewer = watch(&rig.publisher, &rig.first, &rig.pool);
    assert_eq!(read(&mut viewer, 5), "hHA0D");
    // Who is there before anything came out gets the end alone.
    viewer.mount().drain();
    let mut refused = watch(&rig.publisher, &module::<'U'>(2), &rig.pool);
    assert_eq!(read(&mut refused, 1), "!");
    assert!(ended_unsupported(&refused) && !ended_unsupported(&viewer));
}

#[test]
fn what_came_before_the_codecs_turned_is_remuxed_and_joined_no_more() {
    let mut rig = Rig::new();
    rig.publish("HBb");
    rig.viewer.mount().drain();
    let mut late = watch(&rig.publisher, &module::<'B'>(2), &rig.pool);
    let push = |kind, body: &'static [u8]| {
        assert!(rig.publisher.push(Tag::new(kind, Millis(3000), Bytes::from_static(body)), Millis(3000)));
    };
    push(TagKind::AUDIO, b"\xaf\x01a");
    push(TagKind::VIDEO, b"\x27\x01\0\0\0c");
    push(TagKind::VIDEO, b"\x1c\0\0\0\0h"); // HEVC
    assert_eq!(read(&mut late, 16), "hHB0BB1bB2aB3c$!");
    assert!(ended_unsupported(&late));
    let mut later = rig.publisher.stream().play();
    assert!(later.poll_read(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[test]
fn the_predecessor_stays_when_its_successor_cannot_carry_the_stream() {
    let mut rig = Rig::new();
    rig.publish("HBb");
    rig.sees("hHA0BA1b");
    let other = module::<'U'>(2);
    rig.hand_over(&other);
    rig.publish("DdE");
    rig.sees("$A2DA3dA4E");
    assert_eq!((rig.viewer.mount().module().generation(), other.fault_count()), (1, 0));
}

#[test]
fn a_block_that_lies_about_its_time_is_a_fault() {
    let mut rig = Rig::new();
    rig.publish("HB");
    rig.sees("hHA0B");
    // More than ten seconds before the last tag, and far in the future.
    rig.publish("zbDfbEe");
    rig.sees("~A0D~A0EA1e");
    assert_eq!(rig.first.fault_count(), 2);
}

#[test]
fn data_that_break_both_generations_roll_nothing_back() {
    let mut rig = Rig::new();
    rig.publish("HB");
    rig.sees("hHA0B");
    let bad = rig.reload::<'B'>();
    rig.publish("CpDpEe");
    rig.sees("$B1C~A0D~B0EB1e");
    assert!(!bad.is_off());
    assert_eq!((rig.viewer.mount().module().generation(), bad.fault_count()), (2, 1));
}

#[test]
fn the_generation_before_takes_over_from_one_that_is_switched_off() {
    let mut rig = Rig::new();
    rig.publish("HB");
    rig.sees("hHA0B");
    let bad = rig.reload::<'B'>();
    rig.publish("C");
    rig.sees("$B1C");
    ["a", "b", "c"].into_iter().for_each(|stream| bad.on_worse(stream));
    rig.publish("Dd");
    rig.sees("~A0DA1d");
    assert_eq!(rig.viewer.mount().module().generation(), 1);
}

#[test]
fn a_mount_closes_after_too_many_faults() {
    let mut rig = Rig::new();
    rig.publish("HBpDpEpF");
    rig.sees("hHA0B~A0D~A0E!");
    assert_eq!(rig.viewer.mount().end_reason(), Some(EndReason::Faults));
    assert!(matches!(rig.refusal(), Some(MountError::Faults { .. })));
    assert!(!rig.first.is_off(), "other streams do not notice");
}

#[test]
fn a_mount_ends_with_its_module_when_that_is_switched_off_and_there_is_no_other() {
    let mut rig = Rig::new();
    rig.publish("HB");
    rig.sees("hHA0B");
    ["a", "b", "c"].into_iter().for_each(|stream| rig.first.on_worse(stream));
    rig.publish("b");
    rig.sees("!");
    assert_eq!(rig.viewer.mount().end_reason(), Some(EndReason::SwitchedOff));
    assert_eq!(rig.refusal(), Some(MountError::SwitchedOff));
}

#[test]
fn a_call_that_hangs_costs_a_gop_and_no_viewer() {
    let mut rig = Rig::with_limit(HANG);
    rig.publish("HBs");
    rig.sees("hHA0B");
    wait_until(|| rig.pool.hung() == 1);
    rig.publish("bDd");
    rig.sees("~A0DA1d");
    RELEASED.store(true, Ordering::Release);
    wait_until(|| rig.pool.hung() == 0);
    rig.publish("Ee");
    // Nothing of what the hung call made in the end.
    rig.sees("A2EA3e");
    assert_eq!(rig.first.fault_count(), 1);
}

#[test]
fn a_start_that_hangs_and_returns_after_its_successor_changes_nothing() {
    let mut rig = Rig::with_limit(HANG);
    rig.publish("HB");
    rig.sees("hHA0B");
    let hangs = module::<'B'>(2);
    rig.hand_over(&hangs);
    rig.publish("S");
    rig.sees("$");
    wait_until(|| rig.pool.hung() == 1);
    rig.hand_over(&module::<'D'>(3));
    rig.publish("Ee");
    rig.sees("~D0ED1e");
    START_RELEASED.store(true, Ordering::Release);
    wait_until(|| rig.pool.hung() == 0);
    assert_eq!(rig.viewer.mount().running().unwrap().generation(), 3);
    let released = Arc::downgrade(&hangs);
    drop(hangs);
    wait_until(|| released.strong_count() == 0);
    rig.publish("g");
    rig.sees("D2g");
}

#[test]
fn a_mount_that_is_too_slow_continues_at_the_newest_keyframe() {
    let mut rig = Rig::new();
    rig.publish("HBb");
    rig.sees("hHA0BA1b");
    rig.publish("w");
    wait_until(|| WAITING.load(Ordering::Acquire));
    // A second each, and the window is half a minute.
    rig.publish(&"c".repeat(20));
    assert_eq!(rig.viewer.mount().lag(), Millis(21_000));
    rig.publish(&("D".to_owned() + &"d".repeat(20) + "Eeg"));
    WAIT_RELEASED.store(true, Ordering::Release);
    // The viewer may have fallen behind too.
    let mut seen = String::new();
    while !seen.ends_with("~A0EA1eA2g") {
        seen += &read(&mut rig.viewer, 1);
    }
    wait_until(|| rig.viewer.mount().lag() == Millis(0));
    assert_eq!(rig.first.fault_count(), 0);
}

#[test]
fn a_remuxer_without_memory_ends_and_the_next_one_begins_at_a_keyframe() {
    let budget = Budget::new(3 << 20);
    let account = budget.address().account();
    let mut rig = Rig::with(DEADLINE, account.clone());
    rig.publish("HBb");
    rig.sees("hHA0BA1b");
    let hoard: Vec<_> = std::iter::from_fn(|| account.charge(Kind::Messages, 100).ok()).collect();
    let before = budget.usage().exceeded;
    // Neither the frame nor the keyframe reaches the viewer.
    rig.publish("cD");
    wait_until(|| budget.usage().exceeded >= before + 2);
    assert_eq!(rig.refusal(), None, "the mount is open");
    drop(hoard);
    rig.publish("eFg");
    rig.sees("~A0FA1g");
    assert_eq!(rig.first.fault_count(), 0, "no fault of the module");
    let Rig { publisher, pool: _pool, viewer, .. } = rig;
    drop((publisher, viewer));
    wait_until(|| budget.usage().used.iter().all(|(_, bytes)| *bytes == 0));
}

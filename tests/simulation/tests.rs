//! Facts that hold in every run.

use crate::agenda::SECOND;
use crate::ledger::Ledger;
use crate::plan::{Limits, Plan, Rules, Scene};
use crate::storm::Storm;
use crate::world::State;

fn small(seed: u64) -> Plan {
    Plan {
        origins: 4,
        edges: 8,
        regions: 2,
        streams: 60,
        viewers: 600,
        end: 150 * SECOND,
        seed,
        ..Plan::default()
    }
}

const HOST: Rules = Rules { jitter: true, caps: true };

/// Runs a scene, and checks after each event that nobody is counted twice or forgotten.
fn run_checked(plan: &Plan, limits: Limits, rules: Rules, scene: Scene) -> Ledger {
    let mut storm = Storm::new(plan, limits, rules, scene);
    let mut steps = 0;
    while storm.step() {
        steps += 1;
        if steps % 64 == 0 {
            check(&mut storm, rules.caps.then_some(limits.max_pending));
        }
    }
    storm.ledger
}

fn check(storm: &mut Storm, cap: Option<usize>) {
    let world = &mut storm.world;
    let mut attached = 0;
    let mut dark = world.viewers.iter().filter(|viewer| !viewer.attached).count();
    for edge in world.edges() {
        let mut pending = 0;
        for stream in 0..world.streams.len() {
            let pull = world.pull(edge, stream);
            attached += pull.viewers.len();
            pending += usize::from(pull.state == State::Pending);
            match pull.state {
                State::Live(_) => {}
                State::Absent => assert!(pull.viewers.is_empty()),
                State::Pending | State::Broken => dark += pull.viewers.len(),
            }
        }
        assert_eq!(world.nodes[edge].pending, pending);
        assert!(cap.is_none_or(|cap| pending <= cap), "{pending}");
    }
    assert_eq!(world.dark, dark as u64);
    assert_eq!(world.streams.iter().map(|stream| stream.dark).sum::<usize>(), dark);
    assert_eq!(attached, world.viewers.iter().filter(|viewer| viewer.attached).count());
}

#[test]
fn every_stream_and_every_viewer_comes_back() {
    for (name, scene) in Scene::ALL {
        for (rules_name, rules) in Rules::ALL {
            for seed in 1..4 {
                let ledger = run_checked(&small(seed), Limits::of_host(), rules, scene);
                let run = format!("{name}, {rules_name}, seed {seed}");
                assert_eq!(ledger.streams_back.len(), ledger.streams_lost, "{run}");
                assert_eq!(ledger.viewers_back.len() + ledger.viewers_left, ledger.viewers_lost, "{run}");
                let is_quiet = matches!(scene, Scene::Redis | Scene::Flushed);
                assert_eq!(ledger.viewers_lost == 0, is_quiet, "{run}");
                assert_eq!(ledger.streams_lost == 0, is_quiet, "{run}");
            }
        }
    }
}

#[test]
fn pending_pulls_never_exceed_the_cap_and_all_viewers_are_served_all_the_same() {
    let limits = Limits { max_pending: 2, ..Limits::of_host() };
    let ledger = run_checked(&small(1), limits, HOST, Scene::Region);
    assert_eq!(ledger.most_pending, 2);
    assert!(ledger.refused > 0);
    assert_eq!(ledger.viewers_back.len() + ledger.viewers_left, ledger.viewers_lost);
    let without = run_checked(&small(1), limits, Rules { caps: false, ..HOST }, Scene::Region);
    assert!(without.most_pending > 2 && without.refused == 0);
}

#[test]
fn commands_by_kind_add_up() {
    for (_, scene) in Scene::ALL {
        let ledger = Storm::new(&small(1), Limits::of_host(), HOST, scene).run();
        let all = ledger.all_commands.seconds();
        let mut sums = vec![0; all.len()];
        for kind in &ledger.commands {
            sums.iter_mut().zip(kind.seconds()).for_each(|(sum, count)| *sum += count);
        }
        assert_eq!(sums, all);
        assert!(ledger.all_commands.total() > 0);
    }
}

#[test]
fn nobody_notices_that_redis_is_away_or_empty() {
    for scene in [Scene::Redis, Scene::Flushed] {
        let plan = Plan { watch_time: u64::MAX / 1_000_000, ..small(2) };
        let ledger = run_checked(&plan, Limits::of_host(), HOST, scene);
        assert_eq!(ledger.dark.iter().sum::<u64>(), 0, "{scene:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| format!("{:?}", Storm::new(&small(seed), Limits::of_host(), HOST, Scene::Region).run());
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

//! Models: small scenes of the ring, the wakers, the hub and a mount, executed under many schedules of their threads.
//!
//! Shuttle runs the threads of a scene one at a time. At each lock it decides which thread continues, so that a scene sees
//! orders that a real machine produces once a year. A scene fails by an assertion, by a panic, or when all threads wait: a wake
//! was lost, or two locks were taken in opposite orders. A failure prints its schedule, which [`shuttle::replay`] repeats.
//!
//! Each scene runs under [`schedules`] random schedules and as many with few preemptions (PCT), other ones each time. It is
//! a search, not a proof. What it cannot find: effects of weak memory orderings, of which there are none behind locks, and of time,
//! which stands still. Locks of `module` and `budget` are real, so that their calls are one step.
//!
//! `cargo nextest run --workspace --lib --features remuxd/model -E 'test(/^stream::model::/)'`

mod fill;
mod hub;
mod ring;

use std::env;
use std::sync::Arc;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};

/// Largest number of preemptions of a schedule with few.
const PREEMPTIONS: usize = 3;

/// Checks that a scene holds under many schedules.
fn check(scene: impl Fn() + Send + Sync + 'static) {
    let (scene, schedules) = (Arc::new(scene), schedules());
    run(RandomScheduler::new(schedules), &scene);
    run(PctScheduler::new(PREEMPTIONS, schedules), &scene);
}

fn run(scheduler: impl Scheduler + 'static, scene: &Arc<impl Fn() + Send + Sync + 'static>) {
    let mut config = Config::new();
    // A scene parses, remuxes and formats text.
    config.stack_size = 256 << 10;
    let scene = scene.clone();
    Runner::new(scheduler, config).run(move || scene());
}

/// Number of schedules of each kind: the variable `SCHEDULES`, for a search that lasts longer.
fn schedules() -> usize {
    env::var("SCHEDULES").ok().and_then(|number| number.parse().ok()).unwrap_or(2_000)
}

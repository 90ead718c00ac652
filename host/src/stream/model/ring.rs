//! Scenes of a ring: one writer, a pacer, and readers that come and go.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use shuttle::future::block_on;
use shuttle::thread;

use super::check;
use crate::media::Millis;
use crate::stream::ring::{Entry, EntryRole, JoinAt, Pace, Reader, Ring, RingLimits};

/// Number of entries that the writer pushes after the configuration.
const ENTRIES: i64 = 7;
/// One entry in three is a join point.
const GOP: i64 = 3;
const CONFIG: i64 = -1;

/// An entry: its number, which is its time too.
#[derive(Clone, Copy, Debug)]
struct Number(i64);

impl Entry for Number {
    type Batch = Vec<i64>;

    fn size(&self) -> usize {
        1
    }

    fn dts(&self) -> Millis {
        Millis(self.0)
    }

    fn batch<'a>(entries: impl Iterator<Item = &'a Self>) -> Vec<i64> {
        entries.map(|number| number.0).collect()
    }
}

fn limits(window: i64) -> RingLimits {
    RingLimits {
        pace: Pace::Merged,
        window: Millis(window),
        history: Millis(0),
        max_bytes: 1_000,
        max_gop_entries: 100,
        max_gop_bytes: 1_000,
    }
}

/// A ring with a configuration, and the thread that flushes it.
fn ring(limits: RingLimits) -> (Arc<Ring<Number>>, thread::JoinHandle<()>) {
    let ring = Ring::new(limits);
    ring.push(Number(CONFIG), EntryRole::Config(0));
    let paced = ring.clone();
    let pacer = thread::spawn(move || {
        while block_on(poll_fn(|cx| paced.poll_dirty(cx))) {
            paced.flush();
        }
    });
    (ring, pacer)
}

fn write(ring: &Ring<Number>) {
    for number in 0..ENTRIES {
        let role = if number % GOP == 0 { EntryRole::Join } else { EntryRole::Media };
        ring.push(Number(number), role);
    }
    ring.end();
}

fn read_to_end(mut reader: Reader<Number>) -> (Vec<i64>, u64) {
    let mut read = Vec::new();
    while let Some(batch) = block_on(poll_fn(|cx| reader.poll_read(cx))) {
        read.extend(&*batch);
    }
    (read, reader.skipped())
}

/// The parts of what a reader got: each begins with the configuration and a join point, and has no gap.
fn runs(read: &[i64]) -> Vec<&[i64]> {
    assert_eq!(read.first(), Some(&CONFIG), "{read:?}");
    let runs: Vec<_> = read.split(|&number| number == CONFIG).skip(1).collect();
    for run in &runs {
        assert_eq!(run[0] % GOP, 0, "begins at a join point: {read:?}");
        assert!(run.windows(2).all(|pair| pair[1] == pair[0] + 1), "has no gap: {read:?}");
    }
    assert_eq!(read.last(), Some(&(ENTRIES - 1)), "ends with the last entry: {read:?}");
    runs
}

#[test]
fn readers_get_everything_from_a_join_point_to_the_end() {
    check(|| {
        let (ring, pacer) = ring(limits(1_000));
        let readers = [Pace::Each, Pace::Merged, Pace::Merged].map(|pace| {
            let ring = ring.clone();
            thread::spawn(move || read_to_end(ring.reader(JoinAt::Newest, pace)))
        });
        write(&ring);
        for reader in readers {
            let (read, skipped) = reader.join().unwrap();
            assert_eq!((runs(&read).len(), skipped), (1, 0), "{read:?}");
        }
        pacer.join().unwrap();
        assert_eq!(ring.reader_count(), 0);
    });
}

#[test]
fn readers_that_fall_out_continue_at_a_join_point() {
    check(|| {
        // With this window the writer overtakes a reader that does not run.
        let (ring, pacer) = ring(limits(2));
        let readers = [Pace::Each, Pace::Merged].map(|pace| {
            let reader = ring.reader(JoinAt::Newest, pace);
            thread::spawn(move || read_to_end(reader))
        });
        write(&ring);
        for reader in readers {
            let (read, skipped) = reader.join().unwrap();
            let gaps =
                runs(&read).windows(2).filter(|pair| pair[1][0] > pair[0][pair[0].len() - 1] + 1).count();
            assert_eq!(gaps > 0, skipped > 0, "{read:?}, {skipped} skipped");
        }
        pacer.join().unwrap();
    });
}

#[test]
fn a_reader_that_leaves_takes_no_wake_of_another() {
    check(|| {
        let (ring, pacer) = ring(limits(1_000));
        let readers = [Pace::Each, Pace::Each, Pace::Merged].map(|pace| {
            let ring = ring.clone();
            thread::spawn(move || {
                // Waits, and leaves its waker's key to the next reader.
                let mut hasty = ring.reader(JoinAt::Next, pace);
                let _: Poll<()> = block_on(poll_fn(|cx| Poll::Ready(hasty.poll_read(cx).map(drop))));
                let reader = ring.reader(JoinAt::Newest, pace);
                drop(hasty);
                read_to_end(reader)
            })
        });
        write(&ring);
        for reader in readers {
            runs(&reader.join().unwrap().0);
        }
        pacer.join().unwrap();
        assert_eq!(ring.reader_count(), 0);
    });
}

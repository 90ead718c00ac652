use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use super::state::MAX_BATCH_ENTRIES;
use super::*;
use crate::media::Millis;

/// An entry of one byte whose batch is text.
#[derive(Clone, Debug)]
struct Letter(char, i64);

impl Entry for Letter {
    type Batch = String;

    fn size(&self) -> usize {
        1
    }

    fn dts(&self) -> Millis {
        Millis(self.1)
    }

    fn batch<'a>(entries: impl Iterator<Item = &'a Self>) -> String {
        entries.map(|letter| letter.0).collect()
    }
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

const LIMITS: RingLimits = RingLimits {
    pace: Pace::Merged,
    window: Millis(100),
    history: Millis(0),
    max_bytes: 1_000,
    max_gop_entries: 8,
    max_gop_bytes: 1_000,
};

/// Pushes letters: upper case joins, digits are configurations in that slot, `^` is a preamble.
fn push(ring: &Ring<Letter>, letters: &str) {
    for letter in letters.chars() {
        let role = match letter {
            '^' => EntryRole::Preamble,
            '0'..='9' => EntryRole::Config(letter as u8 - b'0'),
            'A'..='Z' => EntryRole::Join,
            _ => EntryRole::Media,
        };
        ring.push(Letter(letter, 0), role);
    }
}

/// All that a reader can have now; `$` stands for the end.
fn read(reader: &mut Reader<Letter>) -> String {
    let mut read = String::new();
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match reader.poll_read(&mut cx) {
            Poll::Ready(Some(batch)) => read.push_str(&batch),
            Poll::Ready(None) => return read + "$",
            Poll::Pending => return read,
        }
    }
}

#[test]
fn joins_at_the_newest_join_point_with_what_was_in_force_there() {
    let ring = Ring::new(LIMITS);
    push(&ring, "^21xxAaa1Bbb");
    let mut reader = ring.reader(JoinAt::Newest, Pace::Each);
    assert_eq!(read(&mut reader), "^12Bbb");
    push(&ring, "2c^C");
    assert_eq!(read(&mut reader), "2cC", "a preamble is for joiners only");
    assert_eq!(read(&mut ring.reader(JoinAt::Newest, Pace::Each)), "^12C");
}

#[test]
fn replays_the_configuration_of_the_join_point_not_a_later_one() {
    let ring: Arc<Ring<Letter>> = Ring::new(LIMITS);
    ring.push(Letter('x', 0), EntryRole::Config(1));
    push(&ring, "Aa");
    ring.push(Letter('y', 0), EntryRole::Config(1));
    push(&ring, "b");
    assert_eq!(read(&mut ring.reader(JoinAt::Newest, Pace::Each)), "xAayb");
}

#[test]
fn a_renewed_configuration_is_for_joiners_only() {
    let ring = Ring::new(LIMITS);
    push(&ring, "1A");
    let mut reader = ring.reader(JoinAt::Newest, Pace::Each);
    assert_eq!(read(&mut reader), "1A");
    ring.renew_config(1, Letter('x', 0));
    push(&ring, "B");
    assert_eq!(read(&mut reader), "B");
    assert_eq!(read(&mut ring.reader(JoinAt::Newest, Pace::Each)), "xB");
}

#[test]
fn a_reader_that_waited_misses_nothing_from_the_first_join_point() {
    let ring = Ring::new(LIMITS);
    let mut reader = ring.reader(JoinAt::Newest, Pace::Merged);
    push(&ring, "aBbCcDd");
    assert_eq!(read(&mut reader), "BbCcDd");
}

#[test]
fn waits_for_a_join_point() {
    let ring = Ring::new(LIMITS);
    let mut newest = ring.reader(JoinAt::Newest, Pace::Each);
    push(&ring, "ab");
    assert_eq!(read(&mut newest), "");
    push(&ring, "Cc");
    assert_eq!(read(&mut newest), "Cc");
    let mut next = ring.reader(JoinAt::Next, Pace::Each);
    assert_eq!(read(&mut next), "");
    push(&ring, "dE");
    assert_eq!(read(&mut newest), "dE");
    assert_eq!(read(&mut next), "E");
}

#[test]
fn holds_one_gop_without_readers_and_the_window_with() {
    let ring = Ring::new(LIMITS);
    push(&ring, "AabcBbc");
    assert_eq!(ring.held(), (3, 3));
    let mut reader = ring.reader(JoinAt::Newest, Pace::Each);
    assert_eq!(read(&mut reader), "Bbc");
    push(&ring, "CcDd");
    assert_eq!(ring.held(), (7, 7));
    ring.push(Letter('e', 101), EntryRole::Media);
    assert_eq!(ring.held(), (3, 3), "only the newest GOP is within the window");
    assert_eq!(read(&mut reader), "Dde", "a reader that fell out goes on at a join point");
    assert_eq!(reader.skipped(), 1, "once, past two entries");
    drop(reader);
    push(&ring, "Ff");
    assert_eq!(ring.held(), (2, 2));
}

#[test]
fn falls_out_to_a_join_point_with_configurations_and_no_preamble() {
    let ring = Ring::new(RingLimits { max_bytes: 4, ..LIMITS });
    push(&ring, "^1A");
    let mut reader = ring.reader(JoinAt::Newest, Pace::Each);
    assert_eq!(read(&mut reader), "^1A");
    push(&ring, "abcdefBb");
    assert_eq!(read(&mut reader), "1Bb");
}

#[test]
fn keeps_a_sliding_window_to_join_at() {
    let ring = Ring::new(RingLimits { history: Millis(50), ..LIMITS });
    let burst = |history| read(&mut ring.reader(JoinAt::Before(Millis(history)), Pace::Merged));
    assert_eq!(burst(50), "");
    ring.push(Letter('1', 0), EntryRole::Config(1));
    let letters: Vec<char> = ('A'..='Z').collect();
    for (index, letter) in letters.iter().enumerate() {
        ring.push(Letter(*letter, 10 * index as i64), EntryRole::Join);
        for history in [0, 9, 10, 50, 1_000] {
            let count = (history.min(50) / 10) as usize;
            let expected: String = letters[index.saturating_sub(count)..=index].iter().collect();
            assert_eq!(burst(history), format!("1{expected}"), "{history} ms before {letter}");
        }
        assert!(ring.held().1 <= 7, "{:?}", ring.held());
    }
}

#[test]
fn a_history_is_bounded_by_bytes_and_gives_readers_their_window_besides() {
    let limits = RingLimits { history: Millis(50), ..LIMITS };
    let ring = Ring::new(RingLimits { max_bytes: 3, ..limits });
    push(&ring, "ABCDEF");
    assert_eq!(ring.held(), (3, 3));
    assert_eq!(read(&mut ring.reader(JoinAt::Before(Millis(50)), Pace::Each)), "DEF");

    let ring = Ring::new(limits);
    let join = |dts| ring.push(Letter('A', dts), EntryRole::Join);
    join(0);
    let mut slow = ring.reader(JoinAt::Before(Millis(50)), Pace::Each);
    assert_eq!(read(&mut slow), "A");
    (1..=16).for_each(|index| join(10 * index));
    assert_eq!(ring.held().1, 16, "what came after its history and its window");
    join(170);
    assert_eq!((read(&mut slow).len(), slow.skipped()), (1, 1), "it catches up at the newest join point");
}

#[test]
fn a_gop_over_its_limits_is_not_joined() {
    let ring = Ring::new(LIMITS);
    push(&ring, "Aabcdefgh");
    assert!(!ring.has_join());
    assert_eq!(ring.held(), (0, 0));
    let mut reader = ring.reader(JoinAt::Newest, Pace::Each);
    assert_eq!(read(&mut reader), "");
    push(&ring, "iB");
    assert_eq!(read(&mut reader), "B");
}

#[test]
fn merged_readers_see_what_was_flushed_and_joiners_all() {
    let ring = Ring::new(LIMITS);
    push(&ring, "Aab");
    let (mut merged, mut each) =
        (ring.reader(JoinAt::Newest, Pace::Merged), ring.reader(JoinAt::Newest, Pace::Each));
    assert_eq!((read(&mut merged), read(&mut each)), ("Aab".into(), "Aab".into()));
    push(&ring, "cd");
    assert_eq!((read(&mut merged), read(&mut each)), ("".into(), "cd".into()));
    ring.flush();
    assert_eq!(read(&mut merged), "cd");
}

#[test]
fn wakes_each_reader_by_its_pace_and_the_pacer_once() {
    let ring = Ring::new(LIMITS);
    let counts: [Arc<Count>; 3] = Default::default();
    let wakers = counts.clone().map(Waker::from);
    let [mut each, mut merged] = [Pace::Each, Pace::Merged].map(|pace| ring.reader(JoinAt::Newest, pace));
    let mut wait = || {
        assert!(each.poll_read(&mut Context::from_waker(&wakers[0])).is_pending());
        assert!(merged.poll_read(&mut Context::from_waker(&wakers[1])).is_pending());
    };
    wait();
    assert!(ring.poll_dirty(&mut Context::from_waker(&wakers[2])).is_pending());
    push(&ring, "ab");
    let count = || counts.each_ref().map(|count| count.0.load(Ordering::Relaxed));
    assert_eq!(count(), [1, 0, 1]);
    assert!(ring.poll_dirty(&mut Context::from_waker(&wakers[2])).is_ready());
    ring.flush();
    assert_eq!(count(), [1, 1, 1]);
    wait();
    ring.end();
    assert_eq!(count(), [2, 2, 1]);
}

#[test]
fn a_task_can_wait_for_readers() {
    let ring = Ring::<Letter>::new(LIMITS);
    let count = Arc::<Count>::default();
    let waker = Waker::from(count.clone());
    let woken = || count.0.load(Ordering::Relaxed);
    ring.watch_readers(&waker);
    ring.watch_readers(&waker);
    let readers = [Pace::Each, Pace::Merged].map(|pace| ring.reader(JoinAt::Newest, pace));
    assert_eq!(woken(), 1);
    ring.watch_readers(&waker);
    drop(readers);
    assert_eq!(woken(), 1);
    ring.wake_writer();
    assert_eq!(woken(), 2);
}

#[test]
fn other_limits_hold_for_readers_that_are_there() {
    let ring = Ring::new(RingLimits { max_gop_entries: 100, ..LIMITS });
    let (mut follower, mut each) = (ring.follower(JoinAt::Newest), ring.reader(JoinAt::Newest, Pace::Each));
    ring.push(Letter('A', 0), EntryRole::Join);
    assert_eq!((read(&mut follower), read(&mut each)), ("A".into(), "A".into()));
    // A follower waits for a flush, until the ring says otherwise.
    ring.push(Letter('b', 10), EntryRole::Media);
    assert_eq!((read(&mut follower), read(&mut each)), ("".into(), "b".into()));
    let count = Arc::<Count>::default();
    let waker = Waker::from(count.clone());
    assert!(follower.poll_read(&mut Context::from_waker(&waker)).is_pending());
    ring.set_limits(RingLimits { max_gop_entries: 100, pace: Pace::Each, ..LIMITS });
    assert_eq!((count.0.load(Ordering::Relaxed), read(&mut follower)), (1, "b".into()));
    ring.push(Letter('c', 20), EntryRole::Media);
    assert_eq!(read(&mut follower), "c");
    assert_eq!(ring.reader_count(), 2);
    ring.set_limits(LIMITS);
    ring.push(Letter('d', 30), EntryRole::Media);
    assert_eq!(read(&mut follower), "");
    ring.flush();
    assert_eq!(read(&mut follower), "d");
    // The window becomes shorter than a reader is behind.
    ring.push(Letter('E', 60), EntryRole::Join);
    ring.push(Letter('f', 70), EntryRole::Media);
    assert_eq!(ring.held().1, 6);
    ring.set_limits(RingLimits { window: Millis(5), ..LIMITS });
    assert_eq!(ring.held().1, 2);
    ring.flush();
    assert_eq!((read(&mut follower), follower.skipped()), ("Ef".into(), 0), "it had read up to there");
    // A pacer looks at its interval.
    assert!(ring.poll_dirty(&mut Context::from_waker(Waker::noop())).is_pending());
    ring.set_limits(LIMITS);
    assert!(ring.poll_dirty(&mut Context::from_waker(Waker::noop())).is_ready());
}

#[test]
fn readers_at_the_same_place_share_a_batch() {
    let ring = Ring::new(LIMITS);
    push(&ring, "Aab");
    let mut cx = Context::from_waker(Waker::noop());
    let mut readers = [(); 3].map(|()| ring.reader(JoinAt::Newest, Pace::Merged));
    for _ in 0..2 {
        let batches = readers.each_mut().map(|reader| match reader.poll_read(&mut cx) {
            Poll::Ready(Some(batch)) => batch,
            other => panic!("{other:?}"),
        });
        assert!(batches.iter().all(|batch| Arc::ptr_eq(batch, &batches[0])));
        push(&ring, "cd");
        ring.flush();
    }
}

#[test]
fn ends_after_the_last_entry() {
    let ring = Ring::new(LIMITS);
    let mut late = ring.reader(JoinAt::Newest, Pace::Merged);
    push(&ring, "ab");
    assert_eq!(read(&mut late), "");
    ring.end();
    assert_eq!(read(&mut late), "$", "no join point ever came");
    let ring = Ring::new(LIMITS);
    let mut reader = ring.reader(JoinAt::Newest, Pace::Merged);
    push(&ring, "Ab");
    ring.end();
    assert_eq!(read(&mut reader), "Ab$");
}

#[test]
fn splits_a_long_replay_and_loses_nothing() {
    let ring = Ring::new(RingLimits { max_gop_entries: 10_000, ..LIMITS });
    push(&ring, "A");
    push(&ring, &"b".repeat(MAX_BATCH_ENTRIES * 2));
    let mut reader = ring.reader(JoinAt::Newest, Pace::Merged);
    assert_eq!(read(&mut reader).len(), MAX_BATCH_ENTRIES * 2 + 1);
}

#[test]
fn entries_that_were_returned_are_read_again_in_order() {
    let ring = Ring::new(LIMITS);
    push(&ring, "1Aabc");
    let mut reader = ring.reader(JoinAt::Newest, Pace::Each);
    assert!(reader.is_joining());
    assert_eq!(read(&mut reader), "1Aabc");
    reader.unread(2);
    push(&ring, "d");
    assert_eq!(read(&mut reader), "bcd");
    // Unless they have fallen out of the ring meanwhile.
    reader.unread(1);
    ring.push(Letter('B', 200), EntryRole::Join);
    ring.push(Letter('e', 200), EntryRole::Media);
    assert_eq!((read(&mut reader), reader.skipped()), ("1Be".into(), 1));
    assert_eq!((ring.newest(), reader.is_joining()), (Some(Millis(200)), false));
}

#[test]
fn a_reader_knows_how_far_it_is_behind() {
    let limits = RingLimits { window: Millis(10_000), max_gop_bytes: 1_000, ..LIMITS };
    let ring = Ring::new(RingLimits { max_gop_entries: 1000, ..limits });
    ring.push(Letter('A', 0), EntryRole::Join);
    let mut reader = ring.reader(JoinAt::Newest, Pace::Each);
    assert_eq!((read(&mut reader), reader.lag()), ("A".into(), Millis(0)));
    // More than a batch: after the first one it is behind by what is left.
    (1..=2 * MAX_BATCH_ENTRIES).for_each(|n| ring.push(Letter('b', n as i64), EntryRole::Media));
    let mut cx = Context::from_waker(Waker::noop());
    for left in [MAX_BATCH_ENTRIES as i64, 0] {
        assert!(reader.poll_read(&mut cx).is_ready());
        assert_eq!(reader.lag(), Millis(left));
    }
}

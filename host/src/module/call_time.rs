//! Call time: the part of a module call that counts against `modules.call_timeout`.
//!
//! A call runs, sleeps, or waits for a CPU. On a busy machine it may wait for seconds, which is not the module's fault, and
//! neither a new thread nor a new process would be faster. So the waiting time does not count. A call that sleeps or blocks
//! forever uses no CPU but does not wait for one: all of its time counts.
//!
//! The kernel reports the times, but not a wait that has not ended. So the call is measured again and again: while it is
//! runnable, its running time counts, else the time since the last measurement except what it waited. A measurement that is late
//! shows that the whole machine stood still, so that no more than [`MAX_INTERVALS`] count.

use std::fs;
use std::time::{Duration, Instant};

/// Number of measurements in `modules.call_timeout`.
const MEASUREMENTS: u32 = 8;
/// Shortest interval of measurements.
const MIN_INTERVAL: Duration = Duration::from_millis(5);
/// Number of intervals that count between two measurements, at most.
const MAX_INTERVALS: u32 = 2;

/// A thread that executes a module call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Thread {
    /// A thread of this process, by its id.
    Own(u32),
    /// The only thread of another process, by the id of the process.
    OfProcess(u32),
}

/// Returns for how long a thread has waited for a CPU since it started; `None` if the kernel does not report it.
pub(super) fn waited(thread: Thread) -> Option<Duration> {
    Usage::read(thread).map(|usage| usage.waiting)
}

/// The time of one call.
#[derive(Debug)]
pub(super) struct CallTime {
    thread: Thread,
    limit: Duration,
    counted: Duration,
    measured_at: Instant,
    /// The last measurement, if there was one.
    usage: Option<Usage>,
}

impl CallTime {
    pub(super) fn new(thread: Thread, limit: Duration, began: Instant) -> CallTime {
        CallTime { thread, limit, counted: Duration::ZERO, measured_at: began, usage: None }
    }

    /// Returns the interval at which a call with this limit must be measured.
    pub(super) fn interval(limit: Duration) -> Duration {
        (limit / MEASUREMENTS).max(MIN_INTERVAL)
    }

    /// Measures the call if an interval has passed, and returns whether it has exceeded its limit.
    pub(super) fn poll(&mut self) -> bool {
        let is_due = self.measured_at.elapsed() >= CallTime::interval(self.limit);
        is_due && self.measure()
    }

    /// Measures the call, and returns whether it has exceeded its limit.
    pub(super) fn measure(&mut self) -> bool {
        let (now, usage) = (Instant::now(), Usage::read(self.thread));
        let elapsed = now - self.measured_at;
        let counts = usage.map_or(elapsed, |usage| usage.counts(self.usage, elapsed));
        self.counted += counts.min(CallTime::interval(self.limit) * MAX_INTERVALS);
        (self.measured_at, self.usage) = (now, usage);
        self.counted > self.limit
    }
}

/// CPU time of a thread since its start, and its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Usage {
    running: Duration,
    /// Without a wait that has not ended.
    waiting: Duration,
    /// It runs or waits for a CPU.
    runnable: bool,
}

impl Usage {
    /// Reads the usage of a thread; `None` if the kernel does not report it, or the thread has ended.
    fn read(thread: Thread) -> Option<Usage> {
        let dir = match thread {
            Thread::Own(thread) => format!("/proc/self/task/{thread}"),
            Thread::OfProcess(process) => format!("/proc/{process}"),
        };
        let read = |file| fs::read_to_string(format!("{dir}/{file}")).ok();
        Usage::parse(&read("schedstat")?, &read("stat")?)
    }

    fn parse(schedstat: &str, stat: &str) -> Option<Usage> {
        let mut times = schedstat.split_whitespace().map(|nanos| nanos.parse().map(Duration::from_nanos));
        let (running, waiting) = (times.next()?.ok()?, times.next()?.ok()?);
        // The name before may contain anything.
        let (_, state) = stat.rsplit_once(") ")?;
        // A kernel without these statistics reports 0.
        (!running.is_zero()).then_some(Usage { running, waiting, runnable: state.starts_with('R') })
    }

    /// Returns how much counts of the time `elapsed` since the measurement `before`.
    fn counts(self, before: Option<Usage>, elapsed: Duration) -> Duration {
        let Some(before) = before else { return elapsed };
        let counts = if self.runnable {
            self.running.saturating_sub(before.running)
        } else {
            elapsed.saturating_sub(self.waiting.saturating_sub(before.waiting))
        };
        counts.min(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::thread;

    use rustix::process::Pid;
    use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn usage(running: u64, waiting: u64, runnable: bool) -> Usage {
        Usage { running: ms(running), waiting: ms(waiting), runnable }
    }

    #[test]
    fn waiting_for_a_cpu_does_not_count() {
        let before = usage(50, 10, true);
        for (name, now, elapsed, counted) in [
            ("runs", usage(150, 10, true), 100, 100),
            ("waits all the time", usage(50, 10, true), 100, 0),
            ("runs a fifth of the time", usage(70, 80, true), 100, 20),
            ("sleeps", usage(50, 10, false), 100, 100),
            ("sleeps after a wait", usage(60, 40, false), 100, 70),
            ("ran more than the time of the reader", usage(160, 10, true), 100, 100),
            ("waited before the interval", usage(50, 500, false), 100, 0),
        ] {
            assert_eq!(now.counts(Some(before), ms(elapsed)), ms(counted), "{name}");
        }
        assert_eq!(before.counts(None, ms(100)), ms(100), "the first measurement");
    }

    #[test]
    fn reads_what_the_kernel_reports() {
        let stat = |state| format!("7 (a) R (b)) {state} 1 7 7 0 -1 4194560");
        assert_eq!(Usage::parse("1000000 2000000 3\n", &stat("R")), Some(usage(1, 2, true)));
        assert_eq!(Usage::parse("1000000 2000000 3\n", &stat("S")), Some(usage(1, 2, false)));
        for (schedstat, stat) in [("0 0 0", &*stat("R")), ("", "7 (a) R"), ("1", "7 (a) R"), ("1 2 3", "7")] {
            assert_eq!(Usage::parse(schedstat, stat), None, "{schedstat} {stat}");
        }
    }

    #[test]
    fn a_call_that_sleeps_forever_and_one_that_runs_forever_exceed_the_limit() {
        for runs in [false, true] {
            let (end, ended) = mpsc::channel::<()>();
            let (send_id, id) = mpsc::channel();
            let call = thread::spawn(move || {
                send_id.send(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()).unwrap();
                if runs {
                    while ended.try_recv().is_err() {}
                } else {
                    let _ = ended.recv();
                }
            });
            let (limit, began) = (ms(80), Instant::now());
            let mut time = CallTime::new(Thread::Own(id.recv().unwrap()), limit, began);
            while !time.poll() {
                assert!(began.elapsed() < ms(20_000), "{time:?}");
                thread::sleep(CallTime::interval(limit));
            }
            assert!(began.elapsed() > limit);
            assert!(time.usage.is_some(), "this kernel reports no usage");
            end.send(()).unwrap();
            call.join().unwrap();
        }
    }

    #[test]
    fn a_process_that_gets_no_cpu_is_not_counted() {
        const RIVALS: usize = 15;
        let mut process = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let mut cpu = CpuSet::new();
        cpu.set(sched_getcpu());
        sched_setaffinity(Some(Pid::from_child(&process)), &cpu).unwrap();
        let (going, limit) = (AtomicBool::new(true), ms(800));
        let mut time = CallTime::new(Thread::OfProcess(process.id()), limit, Instant::now());
        // Rivals have the thread's CPU, the only one of the process.
        let (elapsed, counted) = thread::scope(|scope| {
            for _ in 0..RIVALS {
                scope.spawn(|| {
                    sched_setaffinity(None, &cpu).unwrap();
                    while going.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            time.measure();
            let (began, before) = (Instant::now(), time.counted);
            while began.elapsed() < limit {
                thread::sleep(CallTime::interval(limit));
                time.measure();
            }
            going.store(false, Ordering::Relaxed);
            (began.elapsed(), time.counted - before)
        });
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(counted > Duration::ZERO && counted < elapsed / 3, "{counted:?} of {elapsed:?}");
    }

    #[test]
    fn a_late_measurement_counts_two_intervals_at_most() {
        let long_ago = Instant::now() - ms(10_000);
        let mut time = CallTime::new(Thread::OfProcess(0), ms(800), long_ago);
        assert!(!time.measure());
        assert_eq!(time.counted, ms(200));
    }
}

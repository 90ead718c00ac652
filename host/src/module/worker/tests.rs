use std::sync::atomic::AtomicBool;
use std::sync::mpsc;

use super::watchdog::MAX_HUNG;
use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

/// A job of a module that runs a closure.
struct Closure<F>(&'static str, F, mpsc::Sender<Duration>);

impl<F: Fn(&CallWatch) + Send + Sync + 'static> Job for Closure<F> {
    fn name(&self) -> String {
        "closure".into()
    }

    fn module(&self) -> String {
        self.0.into()
    }

    fn run(&self, _waker: &Waker, watch: &CallWatch) {
        (self.1)(watch);
    }

    fn on_panic(&self) {}

    fn on_hang(&self, elapsed: Duration) {
        let _ = self.2.send(elapsed);
    }
}

fn task(
    pool: &Pool,
    run: impl Fn(&CallWatch) + Send + Sync + 'static,
) -> (Arc<Task>, mpsc::Receiver<Duration>) {
    task_of("module", pool, run)
}

fn task_of(
    module: &'static str,
    pool: &Pool,
    run: impl Fn(&CallWatch) + Send + Sync + 'static,
) -> (Arc<Task>, mpsc::Receiver<Duration>) {
    let (sender, receiver) = mpsc::channel();
    (Task::new(Arc::new(Closure(module, run, sender)), pool), receiver)
}

#[test]
fn loses_no_wake_and_runs_on_one_thread_at_a_time() {
    let pool = Pool::new(4, DEADLINE, None);
    let (sent, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (done, finished) = mpsc::channel();
    let running = AtomicBool::new(false);
    let (counted, read) = (sent.clone(), seen.clone());
    let (task, _) = task(&pool, move |_| {
        assert!(!running.swap(true, Ordering::AcqRel), "two runs at once");
        let sent = counted.load(Ordering::Acquire);
        read.store(sent, Ordering::Release);
        running.store(false, Ordering::Release);
        if sent == 4 * 10_000 {
            let _ = done.send(());
        }
    });
    let wakers: Vec<_> = (0..4)
        .map(|_| {
            let (task, sent) = (task.clone(), sent.clone());
            thread::spawn(move || {
                for _ in 0..10_000 {
                    sent.fetch_add(1, Ordering::AcqRel);
                    task.schedule();
                }
            })
        })
        .collect();
    wakers.into_iter().for_each(|waker| waker.join().unwrap());
    finished.recv_timeout(DEADLINE).unwrap();
    assert_eq!(seen.load(Ordering::Acquire), 40_000);
}

#[test]
fn replaces_a_hung_thread_and_reports_the_job_once() {
    let pool = Pool::new(1, Duration::from_millis(20), None);
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let (stuck, hung) = task(&pool, move |watch| watch.call(|| released.lock().recv().unwrap()));
    stuck.schedule();
    assert!(hung.recv_timeout(DEADLINE).unwrap() > Duration::from_millis(20));
    let (done, ran) = mpsc::channel();
    let (other, _) = task(&pool, move |_| done.send(()).unwrap());
    other.schedule();
    ran.recv_timeout(DEADLINE).expect("the only worker was replaced");
    assert_eq!(pool.hung(), 1);
    release.send(()).unwrap();
    stuck.schedule();
    release.send(()).unwrap();
    assert!(hung.try_recv().is_err());
}

#[test]
fn a_thread_whose_call_returns_is_not_hung_any_more() {
    let pool = Pool::new(1, Duration::from_millis(5), None);
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let (stuck, _) = task(&pool, move |watch| {
        watch.call(|| {
            let _ = released.lock().recv();
        });
    });
    let wait = |count| {
        let deadline = Instant::now() + DEADLINE;
        while pool.hung() != count {
            assert!(Instant::now() < deadline, "{} hang", pool.hung());
            thread::sleep(Duration::from_millis(1));
        }
    };
    // More than may hang at a time, one after the other.
    for _ in 0..=MAX_HUNG {
        stuck.schedule();
        wait(1);
        release.send(()).unwrap();
        wait(0);
    }
    let (done, ran) = mpsc::channel();
    let (other, _) = task(&pool, move |_| done.send(()).unwrap());
    other.schedule();
    ran.recv_timeout(DEADLINE).expect("the pool has kept its size");
}

#[test]
fn goes_on_after_a_job_panics() {
    let pool = Pool::new(1, DEADLINE, None);
    let (task_that_panics, _) = task(&pool, |_| panic!("expected in this test"));
    task_that_panics.schedule();
    let (done, ran) = mpsc::channel();
    let (other, _) = task(&pool, move |_| done.send(()).unwrap());
    other.schedule();
    ran.recv_timeout(DEADLINE).unwrap();
}

#[test]
fn a_thread_that_gets_no_cpu_does_not_hang() {
    const LIMIT: Duration = Duration::from_millis(400);
    const RIVALS: u32 = 15;
    let pool = Pool::new(1, LIMIT, None);
    let rivals = Arc::new(AtomicBool::new(true));
    let (done, finished) = mpsc::channel();
    let going = rivals.clone();
    let (starved, hung) = task(&pool, move |watch| {
        // One CPU for this thread and its rivals, which inherit it.
        let mut cpu = rustix::thread::CpuSet::new();
        cpu.set(rustix::thread::sched_getcpu());
        rustix::thread::sched_setaffinity(None, &cpu).unwrap();
        for _ in 0..RIVALS {
            let going = going.clone();
            thread::spawn(move || while going.load(Ordering::Relaxed) {});
        }
        let took = watch.call(|| {
            let (began, ran) = (Instant::now(), own_time());
            while own_time() - ran < LIMIT / 8 {}
            began.elapsed()
        });
        going.store(false, Ordering::Relaxed);
        done.send(took).unwrap();
    });
    starved.schedule();
    let took = finished.recv_timeout(DEADLINE).unwrap();
    assert!(took > LIMIT, "the thread was not kept from running: {took:?}");
    assert_eq!(hung.try_recv().ok(), None);
    rivals.store(false, Ordering::Relaxed);
}

/// Returns the CPU time of this thread.
fn own_time() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(schedstat.split(' ').next().unwrap().parse().unwrap())
}

/// Waits until a task of module "good" has run on `pool`.
#[track_caller]
fn good_runs(pool: &Pool) {
    let (done, ran) = mpsc::channel();
    let (good, _) = task_of("good", pool, move |_| done.send(()).unwrap());
    good.schedule();
    ran.recv_timeout(DEADLINE).expect("it gets a thread");
}

/// A task of module "slow" whose call returns when the sender sends or is dropped. The receiver tells of each call.
fn blocking(pool: &Pool) -> (Arc<Task>, mpsc::Sender<()>, mpsc::Receiver<()>) {
    let (release, released) = mpsc::channel::<()>();
    let (enter, entered) = mpsc::channel();
    let released = Mutex::new(released);
    let (task, _) = task_of("slow", pool, move |watch| {
        watch.call(|| {
            let _ = enter.send(());
            let _ = released.lock().recv();
        });
    });
    task.schedule();
    entered.recv_timeout(DEADLINE).unwrap();
    (task, release, entered)
}

#[test]
fn a_module_whose_calls_block_leaves_a_thread_to_others() {
    for workers in [1, 3] {
        let pool = Pool::new(workers, DEADLINE, None);
        // As many as there are threads, below the limit of calls.
        let blocked: Vec<_> = (0..workers).map(|_| blocking(&pool)).collect();
        good_runs(&pool);
        let deadline = Instant::now() + DEADLINE;
        while pool.inner.threads.lock().len() < 2 * workers {
            assert!(Instant::now() < deadline, "each of the threads is replaced");
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(pool.hung(), 0);
        // It has as many threads of its own as the pool has, and no more.
        let (done, ran) = mpsc::channel();
        let (further, _) = task_of("slow", &pool, move |_| done.send(()).unwrap());
        further.schedule();
        good_runs(&pool);
        assert!(ran.try_recv().is_err(), "all threads of the module are busy");
        drop(blocked);
        ran.recv_timeout(DEADLINE).unwrap();
        good_runs(&pool);
        // None of the threads is lost, and none was added.
        assert_eq!(pool.inner.threads.lock().len(), 2 * workers);
    }
}

#[test]
fn a_module_of_long_turns_gets_threads_of_its_own() {
    let pool = Pool::new(1, DEADLINE, None);
    let (name, named) = mpsc::channel();
    let (slow, _) = task_of("slow", &pool, move |watch| {
        watch.call(|| thread::sleep(Duration::from_millis(60)));
        assert!(watch.is_turn_over());
        name.send(thread::current().id()).unwrap();
    });
    let run = || {
        slow.schedule();
        named.recv_timeout(DEADLINE).unwrap()
    };
    let shared = run();
    // Two within a second, on a machine that may be busy.
    let deadline = Instant::now() + DEADLINE;
    while run() == shared {
        assert!(Instant::now() < deadline);
    }
    good_runs(&pool);
}

#[test]
fn a_hung_thread_of_a_slow_module_is_replaced_by_another_of_its_own() {
    let pool = Pool::new(1, Duration::from_millis(600), None);
    let (_stuck, release, _) = blocking(&pool);
    good_runs(&pool);
    let (done, ran) = mpsc::channel();
    let (other, _) = task_of("slow", &pool, move |_| done.send(()).unwrap());
    other.schedule();
    ran.recv_timeout(DEADLINE).expect("the module's only thread was replaced");
    assert_eq!(pool.hung(), 1);
    drop(release);
}

//! Publishers whose clocks run fast.

use std::io::Read;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use remuxd_tests::flv::{SCRIPT, Tag};
use remuxd_tests::publisher::{Numbered, Publisher};

/// Time between two writes of a publisher.
const WRITE: Duration = Duration::from_millis(10);
/// Length of media that a healthy viewer may be behind, in milliseconds: a third of the host's `queue_length`. The publisher
/// waits for it, so that no verdict depends on the speed of the machine.
const AHEAD: u64 = 5 * 60 * 1000;

/// A stream, shared by its publisher and its viewers.
#[derive(Debug)]
pub struct Feed {
    pub key: String,
    /// Milliseconds between video frames.
    pub step: u64,
    /// The first timestamp of each publisher.
    start: u32,
    /// Factor by which its clock runs fast.
    speed: u64,
    /// Number of video frames sent.
    sent: AtomicU32,
    /// Number of publishers after the first.
    pub returns: AtomicU32,
    returns_now: AtomicBool,
    stops: AtomicBool,
    /// The act that the module `hostile` is ordered to do next.
    order: Mutex<Option<&'static str>>,
    /// The last video frame of each healthy viewer.
    viewers: Mutex<Vec<Weak<AtomicU32>>>,
}

impl Feed {
    pub fn new(key: &str, step: u64, speed: u64, start: u32) -> Arc<Feed> {
        Arc::new(Feed {
            key: key.to_owned(),
            step,
            start,
            speed,
            sent: AtomicU32::new(0),
            returns: AtomicU32::new(0),
            returns_now: AtomicBool::new(false),
            stops: AtomicBool::new(false),
            order: Mutex::default(),
            viewers: Mutex::default(),
        })
    }

    /// Publishes on a thread until [`stop`](Self::stop). The thread returns the error that ended it before.
    pub fn publish(self: &Arc<Self>, address: SocketAddr) -> JoinHandle<Result<(), String>> {
        let feed = self.clone();
        thread::spawn(move || {
            feed.run(address).map_err(|error| format!("publisher of {}: {error}", feed.key))
        })
    }

    pub fn sent(&self) -> u32 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Length of media sent, in milliseconds.
    pub fn length(&self) -> u64 {
        u64::from(self.sent()) * self.step
    }

    pub fn stop(&self) {
        self.stops.store(true, Ordering::SeqCst);
    }

    /// Lets the publisher leave at the end of this GOP and return at once, with another clock.
    pub fn leave_and_return(&self) {
        self.returns_now.store(true, Ordering::SeqCst);
    }

    pub fn order(&self, word: &'static str) {
        *self.order.lock().expect("no holder panics") = Some(word);
    }

    /// Registers a healthy viewer, for which the publisher waits.
    pub fn wait_for_viewer(&self, last: &Arc<AtomicU32>) {
        self.viewers.lock().expect("no holder panics").push(Arc::downgrade(last));
    }

    fn is_ahead(&self) -> bool {
        let mut viewers = self.viewers.lock().expect("no holder panics");
        viewers.retain(|viewer| viewer.strong_count() > 0);
        let slowest = viewers.iter().filter_map(Weak::upgrade).map(|last| last.load(Ordering::SeqCst)).min();
        slowest.is_some_and(|last| u64::from(self.sent().saturating_sub(last)) * self.step > AHEAD)
    }

    fn run(&self, address: SocketAddr) -> std::io::Result<()> {
        let mut media = Numbered::new(100);
        let mut publisher = Publisher::reopen(address, &self.key);
        publisher.send(&media.headers());
        let (mut base, began) = (self.start, Instant::now());
        let mut waited = Duration::ZERO;
        while !self.stops.load(Ordering::SeqCst) {
            let now = Instant::now();
            thread::sleep(WRITE);
            if self.is_ahead() {
                waited += now.elapsed();
                continue;
            }
            let due = (began.elapsed() - waited).as_millis() as u64 * self.speed / self.step;
            while u64::from(media.number()) < due && !self.is_ahead() {
                if media.number().is_multiple_of(Numbered::GOP)
                    && self.returns_now.swap(false, Ordering::SeqCst)
                {
                    close(publisher)?;
                    publisher = Publisher::reopen(address, &self.key);
                    self.returns.fetch_add(1, Ordering::SeqCst);
                    publisher.send(&media.headers());
                    base = self.start.wrapping_sub(media.time().wrapping_mul(self.scale()));
                }
                let mut tags = media.frame();
                if let Some(word) = self.order.lock().expect("no holder panics").take() {
                    let payload =
                        [&b"\x02\0\x07onOrder\x02\0\x20hostile:"[..], word.as_bytes(), b" "].concat();
                    tags.insert(1, Tag { kind: SCRIPT, timestamp: tags[0].timestamp, payload });
                }
                for tag in &mut tags {
                    tag.timestamp = base.wrapping_add(tag.timestamp.wrapping_mul(self.scale()));
                    publisher.try_send(tag)?;
                }
                self.sent.store(media.number(), Ordering::SeqCst);
            }
        }
        close(publisher)
    }

    fn scale(&self) -> u32 {
        self.step as u32 / Numbered::STEP
    }
}

/// Ends a publisher in good order: the host has read everything when it closes.
fn close(mut publisher: Publisher) -> std::io::Result<()> {
    let mut socket = publisher.connection().socket();
    socket.shutdown(Shutdown::Write)?;
    while socket.read(&mut [0; 4096])? > 0 {}
    Ok(())
}

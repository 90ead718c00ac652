//! A stream and its first viewer.

use std::thread;

use bytes::Bytes;

use super::super::super::{Hub, MountError, Publisher, StreamKey, Viewer};
use super::super::*;
use super::text::{POLL, Text};
use crate::budget::Account;
use crate::conf::Config;
use crate::media::{Millis, TagKind};
use crate::module::{Terms, linked};

pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// Long enough that a busy machine does not make a good call hang.
pub(super) const HANG: Duration = Duration::from_millis(500);
pub(super) const TERMS: Terms = Terms { generation: 0, max_output: 1 << 16, max_faults: 2, unload: false };

pub(super) fn module<const N: char>(generation: u64) -> Arc<Module> {
    linked::<Text<N>>(&Terms { generation, ..TERMS }).unwrap()
}

/// A stream and its first viewer, through generation A.
pub(super) struct Rig {
    pub publisher: Publisher,
    pub pool: Arc<Pool>,
    pub first: Arc<Module>,
    pub viewer: Viewer,
    pub dts: i64,
}

impl Rig {
    pub fn new() -> Rig {
        // A panic that is printed with a backtrace takes its time.
        Rig::with_limit(DEADLINE)
    }

    pub fn with_limit(call_limit: Duration) -> Rig {
        Rig::with(call_limit, Account::unlimited())
    }

    pub fn with(call_limit: Duration, account: Account) -> Rig {
        let config = Config::parse("[vhost.a.play]\nmin_latency = true", "remuxd.toml").unwrap();
        let key = StreamKey::new("a", "live", "x");
        let (publisher, _) = Hub::new().publish(key, &config.vhosts[0], account).unwrap();
        let pool = Pool::new(1, call_limit, None);
        let first = module::<'A'>(1);
        let viewer = watch(&publisher, &first, &pool);
        Rig { publisher, pool, first, viewer, dts: 0 }
    }

    /// Publishes: `H` and `I` are configurations, upper case a keyframe, lower case another frame, a second each.
    pub fn publish(&mut self, letters: &str) {
        for letter in letters.chars() {
            let start: &[u8] = match letter {
                'H' | 'I' => b"\x17\0\0\0\0",
                'A'..='Z' => b"\x17\x01\0\0\0",
                _ => b"\x27\x01\0\0\0",
            };
            let body = Bytes::from([start, &[letter as u8]].concat());
            assert!(self.publisher.push(Tag::new(TagKind::VIDEO, Millis(self.dts), body), Millis(self.dts)));
            self.dts += 1000;
        }
    }

    /// Waits for what the viewer gets next; `!` stands for the end.
    #[track_caller]
    pub fn sees(&mut self, text: &str) {
        assert_eq!(read(&mut self.viewer, text.len()), text);
    }

    /// The error of another viewer.
    pub fn refusal(&self) -> Option<MountError> {
        let recipe = Recipe::new(self.first.clone(), &[], std::iter::empty()).unwrap();
        self.publisher.stream().watch(|_| Ok((recipe, Duration::ZERO)), &self.pool).err()
    }

    /// Hands over to generation 2, `N`, before which generation 1 was good.
    pub fn reload<const N: char>(&self) -> Arc<Module> {
        let next = module::<N>(2);
        next.set_fallback(Some(self.first.clone()));
        self.hand_over(&next);
        next
    }

    pub fn hand_over(&self, module: &Arc<Module>) {
        self.viewer.mount().hand_over(module, &[]).unwrap();
    }
}

pub(super) fn watch(publisher: &Publisher, module: &Arc<Module>, pool: &Arc<Pool>) -> Viewer {
    let recipe = Recipe::new(module.clone(), &[], std::iter::empty()).unwrap();
    publisher.stream().watch(|_| Ok::<_, MountError>((recipe, Duration::ZERO)), pool).unwrap().0
}

pub(super) fn ended_unsupported(viewer: &Viewer) -> bool {
    viewer.mount().end_reason() == Some(EndReason::Unsupported)
}

/// At least `len` letters; `!` stands for the end.
#[track_caller]
pub(super) fn read(viewer: &mut Viewer, len: usize) -> String {
    let deadline = Instant::now() + DEADLINE;
    let mut read = String::new();
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match viewer.poll_next(&mut cx) {
            Poll::Ready(Some(span)) => {
                read.extend(span.parts().iter().flatten().map(|&byte| char::from(byte)));
            }
            Poll::Ready(None) => return read + "!",
            Poll::Pending if read.len() >= len => return read,
            Poll::Pending => {
                assert!(Instant::now() < deadline, "{read:?}, {len} expected");
                thread::sleep(POLL);
            }
        }
    }
}

#[track_caller]
pub(super) fn wait_until(fact: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !fact() {
        assert!(Instant::now() < deadline);
        thread::sleep(POLL);
    }
}

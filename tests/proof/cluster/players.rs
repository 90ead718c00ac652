//! RTMP players, each on a thread.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use remuxd_tests::publisher::Numbered;
use remuxd_tests::rtmp::{Connection, split_key};

use crate::light::{Format, Seen};

/// A player that checks the numbers of video frames.
pub struct Player {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Seen, Arrivals)>,
}

/// The arrivals of video frames, by number.
pub type Arrivals = HashMap<u32, Instant>;

impl Player {
    pub fn start(address: SocketAddr, key: &'static str) -> Player {
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut seen = Seen {
                format: Format::Flv,
                checked: 0,
                missing: 0,
                longest_wait: Duration::ZERO,
                fault: None,
            };
            let mut arrivals = Arrivals::new();
            if let Err(error) = play(address, key, &stopped, &mut seen, &mut arrivals) {
                seen.fault = Some(format!("RTMP: {error}"));
            }
            (seen, arrivals)
        });
        Player { stop, thread }
    }

    pub fn stop(self) -> (Seen, Arrivals) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("players do not panic")
    }
}

/// Waits until a server has a stream.
pub fn wait_live(address: SocketAddr, key: &str) -> std::io::Result<()> {
    let (app, stream) = split_key(key);
    let mut connection = Connection::open(address)?;
    connection.connect(app)?;
    let id = connection.create_stream()?;
    connection.play(id, stream).map(drop)
}

fn play(
    address: SocketAddr,
    key: &str,
    stop: &AtomicBool,
    seen: &mut Seen,
    arrivals: &mut Arrivals,
) -> std::io::Result<()> {
    let (app, stream) = split_key(key);
    let mut connection = Connection::open(address)?;
    connection.connect(app)?;
    let id = connection.create_stream()?;
    connection.play(id, stream)?;
    let (began, mut last, mut number) = (Instant::now(), Instant::now(), None::<u32>);
    while !stop.load(Ordering::Relaxed) {
        let message = connection.read()?;
        if message.kind != 9 || message.payload.get(1) != Some(&1) {
            continue;
        }
        let Some(found) = Numbered::number_in(&message.payload) else { continue };
        match number.replace(found) {
            Some(before) if found <= before => {
                return Err(std::io::Error::other(format!("frame {found} after {before}")));
            }
            Some(before) => seen.missing += u64::from(found - before - 1),
            None => {}
        }
        if began.elapsed() > Duration::from_secs(1) {
            seen.longest_wait = seen.longest_wait.max(last.elapsed());
        }
        last = Instant::now();
        arrivals.insert(found, last);
        seen.checked += 1;
    }
    Ok(())
}

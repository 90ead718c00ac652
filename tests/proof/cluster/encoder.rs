//! Encoders that number their frames by the time of the scene, so that frames of the same time have the same number at all of them.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::rtmp::{Amf, Message};

/// Frames before the first one of an encoder, at least. An older publisher of the stream is closed by then, so that no number comes from
/// both, as it would if an encoder began with the keyframe that the older one has just sent.
const LEAD: u32 = 5;

/// An encoder on a thread.
pub struct Encoder {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Option<Closed>>,
}

/// The end of an encoder that the server closed.
#[derive(Debug)]
pub struct Closed {
    pub at: Instant,
    /// The last status that the server sent.
    pub reason: String,
}

impl Encoder {
    /// Publishes at once, with frames of this size. Numbers begin at `epoch`, at the next keyframe that is at least [`LEAD`] away.
    ///
    /// # Errors
    /// The server refuses the publisher, or cannot be reached.
    pub fn start(
        address: SocketAddr,
        key: &str,
        epoch: Instant,
        frame_bytes: usize,
    ) -> Result<Encoder, String> {
        let (publisher, status) = Publisher::try_open(address, key).map_err(|error| error.to_string())?;
        if status != "NetStream.Publish.Start" {
            return Err(status);
        }
        let number = (epoch.elapsed().as_millis() / u128::from(Numbered::STEP)) as u32;
        let media = Numbered::new(frame_bytes).starting_at((number + LEAD).next_multiple_of(Numbered::GOP));
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || encode(publisher, media, epoch, &stopped));
        Ok(Encoder { stop, thread })
    }

    pub fn is_closed(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops. Returns how the server closed the encoder, if it did.
    pub fn stop(self) -> Option<Closed> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("encoders do not panic")
    }
}

fn encode(
    mut publisher: Publisher,
    mut media: Numbered,
    epoch: Instant,
    stop: &AtomicBool,
) -> Option<Closed> {
    let mut reason = String::new();
    let headers = media.headers();
    if headers.iter().any(|tag| publisher.try_send(tag).is_err()) {
        return Some(Closed { at: Instant::now(), reason });
    }
    while !stop.load(Ordering::Relaxed) {
        let due = epoch + Duration::from_millis(u64::from(media.time()));
        sleep(due.saturating_duration_since(Instant::now()));
        let sent = media.frame().iter().try_for_each(|tag| publisher.try_send(tag));
        if !listen(&mut publisher, &mut reason) || sent.is_err() {
            return Some(Closed { at: Instant::now(), reason });
        }
    }
    None
}

/// Reads what the server has sent. Returns false if it has closed the connection.
fn listen(publisher: &mut Publisher, reason: &mut String) -> bool {
    loop {
        let socket = publisher.connection().socket();
        let found = socket.set_nonblocking(true).and_then(|()| socket.peek(&mut [0]));
        let is_blocking = socket.set_nonblocking(false).is_ok();
        match found {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return is_blocking,
            // At the end of the connection, what was read before it is still to be understood.
            _ => match publisher.connection().read() {
                Ok(message) => note(&message, reason),
                Err(_) => return false,
            },
        }
    }
}

fn note(message: &Message, reason: &mut String) {
    let Some(command) = message.command() else { return };
    let Some(info) = command.last() else { return };
    let text = |name: &str| info.property(name).and_then(Amf::text);
    if let Some(code) = text("code") {
        *reason = format!("{code}: {}", text("description").unwrap_or(""));
    }
}

//! Deadlines of an RTMP connection: for media, and for the messages that its client has begun.

use std::time::Duration;

use tokio::time::Instant;

/// The deadline until which a connection must send or receive media.
///
/// Only media renew it. Requests extend it by the longest wait among them, however many there are, so that no sequence of
/// requests without media keeps a connection.
pub(super) struct MediaDeadline {
    media_timeout: Duration,
    /// Deadline without any request.
    base: Instant,
    /// The longest wait that a request was granted.
    wait: Duration,
}

impl MediaDeadline {
    /// Creates the deadline of a new connection: `first` for the first request, then `media_timeout` after each media.
    pub fn new(first: Instant, media_timeout: Duration) -> MediaDeadline {
        MediaDeadline { media_timeout, base: first, wait: Duration::ZERO }
    }

    /// Extends the deadline for a request whose media may take this long to come.
    pub fn allow(&mut self, wait: Duration) {
        self.wait = self.wait.max(wait);
    }

    /// Renews the deadline: media was sent or received.
    pub fn renew(&mut self) {
        self.base = Instant::now() + self.media_timeout;
    }

    pub fn at(&self) -> Instant {
        self.base + self.wait
    }
}

/// The deadline of unfinished messages, which occupy memory: each ends between one and two timeouts after its first byte.
pub(super) struct MessageDeadline {
    timeout: Duration,
    watched: Option<Watched>,
}

/// All unfinished messages that began before an offset in the connection.
#[derive(Clone, Copy)]
struct Watched {
    before: u64,
    until: Instant,
}

impl MessageDeadline {
    pub fn new(timeout: Duration) -> MessageDeadline {
        MessageDeadline { timeout, watched: None }
    }

    /// Keeps the deadline while one of the watched messages is unfinished; then watches those that are now. `oldest` is the
    /// offset at which the oldest unfinished message began, `received` the number of bytes so far.
    pub fn update(&mut self, oldest: Option<u64>, received: u64) {
        self.watched = oldest.map(|oldest| match self.watched {
            Some(watched) if oldest < watched.before => watched,
            _ => Watched { before: received, until: Instant::now() + self.timeout },
        });
    }

    pub fn at(&self) -> Option<Instant> {
        self.watched.map(|watched| watched.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_extend_the_deadline_once() {
        let first = Instant::now();
        let mut deadline = MediaDeadline::new(first, Duration::from_secs(180));
        (0..10).for_each(|_| deadline.allow(Duration::from_secs(20)));
        deadline.allow(Duration::from_secs(5));
        assert_eq!(deadline.at(), first + Duration::from_secs(20));
        deadline.renew();
        assert!(deadline.at() >= first + Duration::from_secs(200));
    }

    #[test]
    fn messages_that_are_completed_move_the_deadline_and_others_keep_it() {
        let mut deadline = MessageDeadline::new(Duration::from_secs(30));
        deadline.update(Some(100), 150);
        let first = deadline.at();
        // Younger messages come and go.
        deadline.update(Some(100), 9000);
        assert_eq!(deadline.at(), first);
        // The oldest is complete, and another one that began before the first update is not.
        deadline.update(Some(149), 9000);
        assert_eq!(deadline.at(), first);
        deadline.update(Some(150), 10_000);
        assert!(deadline.at() > first);
        deadline.update(None, 10_000);
        assert_eq!(deadline.at(), None);
    }
}

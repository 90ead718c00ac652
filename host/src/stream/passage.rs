//! Passages: streams that only pass through this host.

use std::sync::Arc;

use super::key::StreamKey;
use super::ring::{JoinAt, Pace, Reader};
use super::stream::{Publisher, Stream};
use crate::budget::Account;
use crate::conf::Vhost;
use crate::media::{Millis, Tag};

/// A stream that is in no hub: nobody finds it by its name. Its tags go into a ring as those of any stream. It ends when this is
/// dropped.
#[derive(Debug)]
pub struct Passage {
    publisher: Publisher,
}

impl Passage {
    /// Begins a stream, whose publisher owns `account`.
    pub fn new(key: StreamKey, vhost: &Arc<Vhost>, account: Account) -> Passage {
        let stream = Arc::new(Stream::new(key, vhost.clone(), account.clone()));
        Passage { publisher: Stream::begin(&stream, account) }
    }

    /// Appends a tag with the publisher's own timestamp; see [`Publisher::push`].
    pub fn push(&self, tag: Tag, now: Millis) {
        // Nobody else can publish it.
        let _ = self.publisher.push(tag, now);
    }

    /// The stream, for those who send it on.
    pub fn stream(&self) -> &Arc<Stream> {
        self.publisher.stream()
    }
}

impl Stream {
    /// Creates a reader that gets each tag at once, from the newest join point on.
    pub fn relay(&self) -> Reader<Tag> {
        self.tags().reader(JoinAt::Newest, Pace::Each)
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.publisher.leave();
        self.stream().end();
    }
}

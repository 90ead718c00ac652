//! The stream of an edge, as one pull after the other publishes it.

use std::sync::Arc;

use crate::budget::Account;
use crate::clock::TokioClock;
use crate::conf::Vhost;
use crate::media::{Millis, Tag};
use crate::stream::{Hub, Publisher, Stream, StreamKey};

/// The publisher of a pulled stream. The stream ends when this is dropped.
#[derive(Debug)]
pub(super) struct Published {
    hub: Arc<Hub>,
    key: StreamKey,
    account: Account,
    state: State,
}

#[derive(Debug)]
enum State {
    /// No publisher so far.
    None,
    Live(Publisher),
    /// The publisher of this number has left, and viewers wait for the next one.
    Left(Arc<Stream>, u64),
}

/// Another publisher has the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken;

impl Published {
    /// Creates it without a publisher. The memory of the stream's mounts is charged to `account`.
    pub fn new(hub: Arc<Hub>, key: StreamKey, account: Account) -> Published {
        Published { hub, key, account, state: State::None }
    }

    /// Whether anything has been published.
    pub fn has_begun(&self) -> bool {
        !matches!(self.state, State::None)
    }

    /// Pushes a tag, which came at `now`. The first one, also after [`Published::leave`], starts a publisher.
    pub fn push(&mut self, vhost: &Arc<Vhost>, tag: Tag, now: Millis) -> Result<(), Taken> {
        if !matches!(self.state, State::Live(_)) {
            let published = self.hub.publish(self.key.clone(), vhost, self.account.clone());
            let (publisher, pacer) = published.map_err(|_| Taken)?;
            if let Some(pacer) = pacer {
                tokio::spawn(pacer.run::<TokioClock>());
            }
            self.state = State::Live(publisher);
        }
        match &self.state {
            State::Live(publisher) if publisher.push(tag, now) => Ok(()),
            _ => Err(Taken),
        }
    }

    /// Ends the publisher. Viewers stay.
    pub fn leave(&mut self) {
        if let State::Live(publisher) = &self.state {
            let stream = publisher.stream().clone();
            self.state = publisher.leave().map_or(State::None, |left| State::Left(stream, left));
        }
    }

    /// Ends the stream.
    pub fn end(&mut self) {
        self.leave();
        if let State::Left(stream, left) = std::mem::replace(&mut self.state, State::None) {
            self.hub.expire(&stream, left);
        }
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.end();
    }
}

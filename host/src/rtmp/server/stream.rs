//! The message streams of one connection (RTMP 1.0, 7.2.1.3), each idle, publishing or playing.

use crate::media::Tag;
use crate::rtmp::error::SessionError;

/// The maximum number of open message streams of one connection.
pub const MAX_STREAMS: usize = 16;

/// A message stream.
pub(super) struct MessageStream {
    pub id: u32,
    pub state: StreamState,
}

/// The use of a message stream. A `publish` or `play` starts out not accepted, while its event awaits the owner's answer.
pub(super) enum StreamState {
    Idle,
    Publishing {
        /// The stream name as the client sent it, to recognise it in `FCUnpublish`.
        name: String,
        answer: PublishAnswer,
    },
    Playing {
        /// Whether the client requested a playlist reset, which has its own status.
        reset: bool,
        accepted: bool,
    },
}

/// The owner's answer to a `publish`.
pub(super) enum PublishAnswer {
    /// None yet. The media that the client has sent already is held back.
    Awaited {
        held: Vec<Tag>,
    },
    Accepted,
}

/// The open message streams of one connection.
#[derive(Default)]
pub(super) struct MessageStreams(Vec<MessageStream>);

impl MessageStreams {
    /// Opens a message stream under the lowest free id and returns the id.
    pub fn open(&mut self) -> Result<u32, SessionError> {
        if self.0.len() >= MAX_STREAMS {
            return Err(SessionError::TooManyStreams { limit: MAX_STREAMS });
        }
        let is_free = |id: &u32| self.0.iter().all(|stream| stream.id != *id);
        let id = (1..).find(is_free).expect("at most MAX_STREAMS ids are taken");
        self.0.push(MessageStream { id, state: StreamState::Idle });
        Ok(id)
    }

    pub fn close(&mut self, id: u32) {
        self.0.retain(|stream| stream.id != id);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the message stream that a client refers to. If only one is open, any id refers to it.
    pub fn find(&mut self, id: u32) -> Option<&mut MessageStream> {
        let index = match self.0.iter().position(|stream| stream.id == id) {
            Some(index) => index,
            None if self.0.len() == 1 => 0,
            None => return None,
        };
        self.0.get_mut(index)
    }

    /// Returns the state of exactly this message stream.
    pub fn state(&mut self, id: u32) -> Option<&mut StreamState> {
        self.0.iter_mut().find(|stream| stream.id == id).map(|stream| &mut stream.state)
    }

    /// Returns the media that is held back, for each `publish` that awaits an answer.
    pub fn held(&self) -> impl Iterator<Item = &[Tag]> {
        self.0.iter().filter_map(|stream| match &stream.state {
            StreamState::Publishing { answer: PublishAnswer::Awaited { held }, .. } => Some(&**held),
            _ => None,
        })
    }

    /// Whether a `publish` awaits an answer.
    pub fn awaits_answer(&self) -> bool {
        self.held().next().is_some()
    }

    /// Returns the id of the message stream that publishes `name`. Encoders leave out parameters in `FCUnpublish`, so
    /// without a match a single publishing stream is returned.
    pub fn publishing(&self, name: &str) -> Option<u32> {
        let mut streams = self.0.iter().filter_map(|stream| match &stream.state {
            StreamState::Publishing { name, .. } => Some((stream.id, name)),
            _ => None,
        });
        let exact = streams.clone().find(|(_, published)| *published == name);
        exact.or_else(|| streams.next().filter(|_| streams.next().is_none())).map(|(id, _)| id)
    }
}

//! The ends of responses and connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::{SWEEP, Shard};
use crate::http::websocket::frames::{CloseCode, close, ping};
use crate::net::fanout::batch::{Batch, Framing};
use crate::net::fanout::member::{Member, Place};
use crate::net::fanout::session::{Farewell, Reason};

/// Number of sweeps from one ping to the next.
const SWEEPS_PER_PING: usize = 20;

/// Number of unanswered pings after which a viewer is considered gone.
const PINGS_MISSED: u32 = 2;

/// Time for a client's close frame, and for the end of its connection after ours.
const CLOSE_TIME: Duration = Duration::from_secs(20);
const LINGER: Duration = Duration::from_secs(1);

const NO_ANSWER: Farewell = Farewell { code: Some(CloseCode::GOING_AWAY), text: "no answer to pings" };

impl Shard {
    /// Ends a response, and sends its end. Nothing may be unsent.
    pub(super) fn finish(&mut self, key: usize, reason: Reason, Farewell { code, text }: Farewell) {
        if self.members[key].is_player {
            return self.hand_back(key, reason);
        }
        let framing = self.groups[self.members[key].group].key.framing;
        let is_mutual = matches!(reason, Reason::StreamEnded | Reason::Ordered);
        self.leave(key, reason);
        let member = &mut self.members[key];
        if let Some(web_socket) = &mut member.web_socket {
            web_socket.awaits_close = is_mutual;
        }
        let end = if framing == Framing::WebSocket { close(code, text) } else { framing.end().to_vec() };
        member.queue(Arc::new(Batch::of_bytes(end)));
        self.advance(key);
    }

    /// Returns a player to its owner.
    fn hand_back(&mut self, key: usize, reason: Reason) {
        let member = &self.members[key];
        let position = match &member.place {
            Place::Behind { position, .. } => Some(position.fork()),
            _ => self.groups[member.group].fork(),
        };
        self.leave(key, reason);
        let _ = epoll::delete(&self.epoll, &self.members[key].socket);
        self.forget(key).hand_back(position);
    }

    /// Takes a viewer out of its group and tells its owner.
    fn leave(&mut self, key: usize, reason: Reason) {
        if self.members[key].is_live() {
            self.unlist(key);
            let member = &mut self.members[key];
            let index = member.group;
            member.place = Place::Ending;
            member.leave(reason);
            self.drop_group(index);
        }
    }

    /// Continues after the end of a response was sent.
    pub(super) fn on_end_sent(&mut self, key: usize) {
        let member = &mut self.members[key];
        if member.web_socket.as_ref().is_some_and(|web_socket| web_socket.awaits_close) {
            member.place = Place::Closing { deadline: Instant::now() + CLOSE_TIME };
        } else if member.keep_alive {
            let _ = epoll::delete(&self.epoll, &member.socket);
            self.forget(key).hand_back(None);
        } else {
            self.linger(key);
        }
    }

    /// Shuts the connection down for writing, and waits for the client to do so, so that it reads our last bytes.
    pub(super) fn linger(&mut self, key: usize) {
        let member = &mut self.members[key];
        member.socket.finish();
        member.place = Place::Lingering { deadline: Instant::now() + LINGER };
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        if epoll::modify(&self.epoll, &member.socket, epoll::EventData::new_u64(key as u64), flags).is_err() {
            self.forget(key);
        }
    }

    /// Closes a connection.
    pub(super) fn remove(&mut self, key: usize, reason: Reason) {
        self.leave(key, reason);
        self.forget(key);
    }

    pub(super) fn forget(&mut self, key: usize) -> Member {
        let member = self.members.remove(key);
        self.keys.remove(&member.id);
        if self.members.is_empty() {
            // The thread may sleep now, and look at no deadline.
            (0..2).for_each(|_| self.lag.turn());
        }
        member
    }

    /// The client will send nothing more. Without half-open connections, it has left, unless it still reads the end.
    pub(super) fn on_client_done(&mut self, key: usize) {
        match self.members.get(key).map(|member| &member.place) {
            Some(Place::Level(_) | Place::Behind { .. }) => self.remove(key, Reason::ClientLeft),
            Some(Place::Closing { .. }) => self.linger(key),
            Some(Place::Lingering { .. }) => drop(self.forget(key)),
            Some(Place::Ending) => {
                if let Some(web_socket) = &mut self.members[key].web_socket {
                    web_socket.awaits_close = false;
                }
            }
            None => {}
        }
    }

    /// Looks at deadlines, and sends pings, each time to a part of the WebSockets.
    pub(super) fn sweep(&mut self) {
        if self.swept.elapsed() < SWEEP {
            return;
        }
        self.swept = Instant::now();
        self.sweeps += 1;
        self.lag.turn();
        let (now, sweeps) = (self.swept, self.sweeps);
        let is_due = |(key, member): (usize, &Member)| match member.place {
            Place::Level(_) | Place::Behind { .. } => {
                let pings = member.web_socket.is_some() && !member.has_unsent();
                pings && (key + sweeps).is_multiple_of(SWEEPS_PER_PING)
            }
            Place::Ending => false,
            Place::Closing { deadline } | Place::Lingering { deadline } => deadline <= now,
        };
        let due: Vec<usize> =
            self.members.iter().filter_map(|(key, member)| is_due((key, member)).then_some(key)).collect();
        for key in due {
            match self.members[key].place {
                Place::Level(_) | Place::Behind { .. } => self.ping(key),
                Place::Closing { .. } => self.linger(key),
                Place::Lingering { .. } => drop(self.forget(key)),
                Place::Ending => {}
            }
        }
    }

    fn ping(&mut self, key: usize) {
        let member = &mut self.members[key];
        let Some(web_socket) = &mut member.web_socket else { return };
        if web_socket.unanswered == PINGS_MISSED {
            return self.end_soon(key, Reason::NoAnswer, NO_ANSWER);
        }
        web_socket.unanswered += 1;
        member.queue_control(ping());
        self.advance(key);
    }
}

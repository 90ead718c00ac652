//! Input of clients while they are served.

use std::io::ErrorKind;

use super::{NO_FAREWELL, Shard};
use crate::http::websocket::frames::{ClientEvent, pong};
use crate::net::fanout::member::Place;
use crate::net::fanout::session::{Farewell, Reason};

/// Number of reads in a row.
const READS: usize = 16;

impl Shard {
    /// Reads what a client has sent.
    pub(super) fn receive(&mut self, key: usize) {
        if self.members.get(key).is_some_and(|member| member.is_player) {
            return self.end_soon(key, Reason::Input, NO_FAREWELL);
        }
        for _ in 0..READS {
            let Some(member) = self.members.get_mut(key) else { return };
            let now = tokio::time::Instant::now();
            if member.rate.as_ref().is_some_and(|rate| rate.wait(now).is_some()) {
                break;
            }
            let count = match member.socket.receive(&mut self.buffer) {
                Ok(0) => return self.on_client_done(key),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return self.remove(key, error.into()),
            };
            let sent = member.take_sent();
            if let Some(rate) = &member.rate {
                rate.count(count, sent);
            }
            let buffer = std::mem::take(&mut self.buffer);
            self.on_input(key, &buffer[..count]);
            self.buffer = buffer;
        }
        // Others first: what is left is read after a pause.
        if let Some(member) = self.members.get_mut(key)
            && !std::mem::replace(&mut member.is_readable, true)
        {
            self.paused.push(key);
        }
    }

    /// Reads the frames of a WebSocket. What comes over HTTP is dropped.
    fn on_input(&mut self, key: usize, mut input: &[u8]) {
        while let Some(member) = self.members.get_mut(key) {
            let is_live = member.is_live() && member.end.is_none();
            let Some(web_socket) = &mut member.web_socket else { return };
            if !is_live && !web_socket.awaits_close {
                return;
            }
            let (reason, code) = match web_socket.frames.read(&mut input) {
                Ok(None) => return,
                Ok(Some(event)) => {
                    web_socket.unanswered = 0;
                    match event {
                        ClientEvent::Other => continue,
                        ClientEvent::Ping(_) if !is_live => continue,
                        ClientEvent::Ping(payload) => {
                            // Of several pings while a batch is unsent, the last is answered (RFC 6455, 5.5.3).
                            member.queue_control(pong(&payload));
                            if !member.has_unsent() {
                                self.advance(key);
                            }
                            continue;
                        }
                        ClientEvent::Close(code) => (Reason::ClientLeft, code),
                    }
                }
                Err(violation) => (violation.into(), Some(violation.0)),
            };
            web_socket.awaits_close = false;
            if is_live {
                self.end_soon(key, reason, Farewell { code, text: "" });
            } else if matches!(member.place, Place::Closing { .. }) {
                self.linger(key);
            }
            return;
        }
    }

    /// Reads from viewers that could not be read before.
    pub(super) fn read_paused(&mut self) {
        for key in std::mem::take(&mut self.paused) {
            if let Some(member) = self.members.get_mut(key) {
                member.is_readable = false;
                self.receive(key);
            }
        }
    }
}

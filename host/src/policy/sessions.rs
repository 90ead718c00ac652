//! Sessions: one record for each publisher, player and viewer.
//!
//! A record is fixed at the session's start, except for one counter: the owner of the session adds to it whenever it hands
//! bytes to its socket, or has received some. So whoever reads records takes no lock of a session. The lock of the table
//! is held at the start and at the end of sessions, and to list them.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Action, Protocol, Request};
use crate::stream::StreamKey;

/// Length that a text of a client is cut to, in bytes.
const MAX_TEXT: usize = 256;

/// The record of one session. It has no query and no credentials, and its `Debug` none of the client's texts.
pub struct Session {
    id: SessionId,
    action: Action,
    protocol: Protocol,
    address: IpAddr,
    key: StreamKey,
    /// `None` if all of them are empty, to save memory.
    texts: Option<Box<Texts>>,
    started: Instant,
    bytes: AtomicU64,
}

/// What a client and its credentials say about it. Texts may have any characters: escape them where they are shown.
#[derive(Default)]
struct Texts {
    subject: Box<str>,
    user_agent: Box<str>,
    page_url: Box<str>,
}

impl Session {
    /// Creates the record of a session on the stream `key`, which begins now.
    fn new(id: SessionId, request: Request, key: Option<StreamKey>, subject: Option<String>) -> Session {
        let Request { action, protocol, address, key: requested, user_agent, page_url, .. } = request;
        let texts = [subject.unwrap_or_default(), user_agent, page_url];
        let texts = texts.iter().any(|text| !text.is_empty()).then(|| {
            let [subject, user_agent, page_url] = texts.map(cut);
            Box::new(Texts { subject, user_agent, page_url })
        });
        let key = key.unwrap_or(requested);
        let (started, bytes) = (Instant::now(), AtomicU64::new(0));
        Session { id, action, protocol, address, key, texts, started, bytes }
    }

    /// The id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// What the client does.
    pub fn action(&self) -> Action {
        self.action
    }

    /// How the client is connected.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The client's address, as in its request.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The stream, by its public name.
    pub fn key(&self) -> &StreamKey {
        &self.key
    }

    /// The holder of the credentials: the `sub` of a token, or the key of a signed URL; empty if there is none.
    pub fn subject(&self) -> &str {
        self.texts.as_ref().map_or("", |texts| &texts.subject)
    }

    /// The client's name, up to 256 bytes of it; empty if unknown.
    pub fn user_agent(&self) -> &str {
        self.texts.as_ref().map_or("", |texts| &texts.user_agent)
    }

    /// The page that embeds the player, up to 256 bytes of its URL; empty if unknown.
    pub fn page_url(&self) -> &str {
        self.texts.as_ref().map_or("", |texts| &texts.page_url)
    }

    /// The time since the session's start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Bytes of media, without the framing of the transport: those that were handed to the socket of a viewer or player, or
    /// received from a publisher.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Adds to [`Session::bytes`]. For the owner of the session, once for each batch.
    pub fn add_bytes(&self, count: usize) {
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id).field("key", &self.key).finish_non_exhaustive()
    }
}

/// Returns the start of a text, at most [`MAX_TEXT`] bytes in whole characters.
fn cut(text: String) -> Box<str> {
    text[..text.floor_char_boundary(MAX_TEXT)].into()
}

/// The sessions of the host.
#[derive(Debug)]
pub(super) struct Sessions {
    ids: SessionIds,
    table: Mutex<HashMap<SessionId, Arc<Session>>>,
}

impl Sessions {
    pub fn new() -> Arc<Sessions> {
        Arc::new(Sessions { ids: SessionIds::new(), table: Mutex::default() })
    }

    /// Adds a session on the stream `key` if there is one, else on that of the request.
    pub fn enter(
        self: &Arc<Self>,
        request: Request,
        key: Option<StreamKey>,
        subject: Option<String>,
    ) -> Entry {
        let session = Arc::new(Session::new(self.ids.next(), request, key, subject));
        self.table.lock().insert(session.id, session.clone());
        Entry { sessions: self.clone(), session }
    }

    /// Returns all sessions, the oldest first.
    pub fn list(&self) -> Vec<Arc<Session>> {
        let mut sessions: Vec<_> = self.table.lock().values().cloned().collect();
        sessions.sort_by_key(|session| session.id);
        sessions
    }
}

/// A session in the table, which it leaves when this is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    sessions: Arc<Sessions>,
    pub session: Arc<Session>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.sessions.table.lock().remove(&self.session.id);
    }
}

/// The id of a session: unique in this process, and most likely among all processes. Shown as 16 hexadecimal digits. Later
/// sessions have larger ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The source of session ids.
#[derive(Debug)]
struct SessionIds {
    /// Random for each process, so that an id of an earlier process names no session of this one.
    process: u32,
    next: AtomicU32,
}

impl SessionIds {
    fn new() -> SessionIds {
        SessionIds { process: RandomState::new().hash_one(()) as u32, next: AtomicU32::new(1) }
    }

    fn next(&self) -> SessionId {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        SessionId(u64::from(self.process) << 32 | u64::from(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::request::tests::request;

    #[test]
    fn ids_are_unique_and_of_one_length() {
        let ids = SessionIds::new();
        let shown: Vec<_> = (0..3).map(|_| ids.next().to_string()).collect();
        assert!(shown.iter().all(|id| id.len() == 16), "{shown:?}");
        assert!(shown[0] != shown[1] && shown[1] != shown[2], "{shown:?}");
    }

    #[test]
    fn a_session_is_listed_until_its_entry_is_dropped() {
        let sessions = Sessions::new();
        let enter = |stream| sessions.enter(request(Action::Play, "v", "live", stream), None, None);
        let names = || sessions.list().iter().map(|one| one.key().to_string()).collect::<Vec<_>>();
        let (one, two) = (enter("one"), enter("two"));
        assert_eq!(names(), ["v/live/one", "v/live/two"]);
        // A handle outlives the entry.
        let session = one.session.clone();
        session.add_bytes(7);
        drop(one);
        assert_eq!((names(), session.bytes()), (vec!["v/live/two".to_owned()], 7));
        drop(two);
        assert!(names().is_empty());
    }

    #[test]
    fn a_record_has_the_public_name_and_the_subject() {
        let key = StreamKey::new("v", "live", "film");
        let subject = Some("alice".to_owned());
        let request = request(Action::Publish, "v", "live", "secret");
        let entry = Sessions::new().enter(request, Some(key.clone()), subject);
        assert_eq!((entry.session.key(), entry.session.subject()), (&key, "alice"));
        assert!(!format!("{entry:?}").contains("secret"));
    }

    #[test]
    fn texts_are_cut_between_characters() {
        for (text, len) in [
            (String::new(), 0),
            ("a".repeat(256), 256),
            ("a".repeat(257), 256),
            (format!("{}\u{e9}", "a".repeat(255)), 255),
            (format!("{}\u{e9}", "a".repeat(254)), 256),
        ] {
            let mut request = request(Action::Play, "v", "live", "film");
            (request.user_agent, request.page_url) = (text.clone(), text.clone());
            let entry = Sessions::new().enter(request, None, None);
            assert_eq!(entry.session.user_agent(), &text[..len]);
            assert_eq!(entry.session.page_url(), &text[..len]);
        }
    }

    /// With the counters of an `Arc`, and without what it shares with the request.
    #[test]
    fn a_record_is_small() {
        let size = size_of::<Session>() + 2 * size_of::<usize>() + size_of::<Entry>();
        assert!(size <= 176, "{size} bytes");
    }
}

//! Sessions, for the control socket and `remuxd sessions`.

use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::Page;
use crate::policy::{Access, Session};

/// A part of the list of sessions, the oldest first.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct SessionList {
    /// The number of all sessions.
    pub total: usize,
    /// The number of those before this part.
    #[serde(default)]
    pub start: usize,
    pub sessions: Vec<SessionStatus>,
}

/// The record of a session. It may have any characters.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct SessionStatus {
    pub id: String,
    pub action: String,
    pub protocol: String,
    pub stream: String,
    /// The extension of the mount; empty over RTMP.
    #[serde(default)]
    pub format: String,
    /// The options of the format that the viewer picked, of texts the name alone.
    #[serde(default)]
    pub variant: String,
    /// The id of the connection, as in the log.
    #[serde(default)]
    pub connection: String,
    pub address: IpAddr,
    pub subject: String,
    pub user_agent: String,
    pub page_url: String,
    /// Seconds since the session's start.
    pub seconds: u64,
    /// Bytes of media: sent to a viewer or player, or received from a publisher.
    pub bytes: u64,
    /// Milliseconds from the request to the first byte of media; none before.
    #[serde(default)]
    pub first_byte_ms: Option<u64>,
    /// Number of times that a viewer or player fell behind and moved to a newer keyframe.
    #[serde(default)]
    pub skips: u32,
    /// How far what a viewer or player was sent last was behind the newest media, in milliseconds.
    #[serde(default)]
    pub lag_ms: u64,
}

impl SessionList {
    pub(super) fn of(access: &Access, page: Page) -> SessionList {
        let (total, sessions) = access.session_page(page.range());
        let sessions = sessions.iter().map(|session| SessionStatus::of(session)).collect();
        SessionList { total, start: page.start, sessions }
    }
}

impl SessionStatus {
    fn of(session: &Session) -> SessionStatus {
        SessionStatus {
            id: session.id().to_string(),
            action: session.action().to_string(),
            protocol: session.protocol().to_string(),
            stream: session.key().to_string(),
            format: session.format().to_owned(),
            variant: session.variant().to_owned(),
            connection: session.connection().to_string(),
            address: session.address(),
            subject: session.subject().to_owned(),
            user_agent: session.user_agent().to_owned(),
            page_url: session.page_url().to_owned(),
            seconds: session.elapsed().as_secs(),
            bytes: session.bytes(),
            first_byte_ms: session.first_byte().map(|time| time.as_millis() as u64),
            skips: session.skips(),
            lag_ms: session.lag().as_millis() as u64,
        }
    }
}

/// A table. The caller escapes characters that could control a terminal.
impl fmt::Display for SessionList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SessionList { total, sessions, .. } = self;
        writeln!(
            f,
            "{:<16} {:<7} {:<9} {:<24} {:<15} {:>8} {:>12}  subject",
            "session", "action", "protocol", "stream", "address", "seconds", "bytes"
        )?;
        for session in sessions {
            let SessionStatus { id, action, protocol, stream, address, subject, seconds, bytes, .. } =
                session;
            // A session has one line. The name of the stream is escaped already.
            let subject = subject.replace('\n', "\\n");
            let line = format!(
                "{id:<16} {action:<7} {protocol:<9} {stream:<24} {address:<15} {seconds:>8} {bytes:>12}  {subject}"
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        if *total > sessions.len() {
            writeln!(f, "and {} more", total - sessions.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_has_one_line() {
        let session = |subject: &str| SessionStatus {
            id: "00000001".to_owned(),
            action: "play".to_owned(),
            protocol: "websocket".to_owned(),
            stream: "live/film".to_owned(),
            format: "flv".to_owned(),
            variant: String::new(),
            connection: String::new(),
            address: [192, 0, 2, 1].into(),
            subject: subject.to_owned(),
            user_agent: String::new(),
            page_url: String::new(),
            seconds: 7,
            bytes: 8,
            first_byte_ms: Some(1),
            skips: 0,
            lag_ms: 0,
        };
        let list = SessionList { total: 3, start: 0, sessions: vec![session(""), session("a\nb")] };
        let lines: Vec<_> = list.to_string().lines().map(str::to_owned).collect();
        let line = "00000001         play    websocket live/film                192.0.2.1              7            8";
        assert_eq!(lines[1..], [line.to_owned(), format!("{line}  a\\nb"), "and 1 more".to_owned()]);
    }
}

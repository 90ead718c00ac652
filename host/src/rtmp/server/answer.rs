//! The owner's answers and requests.

use remuxd_bitstream::amf0::Value;

use super::event::{Event, PlayEnd, Rejection};
use super::session::{ConnectionState, ServerSession};
use super::stream::{PublishAnswer, StreamState};
use crate::media::Tag;
use crate::rtmp::command::{Command, code, info, object};
use crate::rtmp::connect::{ConnectRequest, caps_ex};
use crate::rtmp::link::sample_access;
use crate::rtmp::message::{Control, PeerBandwidthLimit};
use crate::rtmp::player::PlayerForm;

/// The Flash Media Server that this server claims to be: some clients reject an unknown `fmsVer`.
const FMS_VERSION: &str = "FMS/3,5,3,888";
const FMS_CAPABILITIES: f64 = 127.0;

const STARTED: &str = "The stream may be sent.";

impl ServerSession {
    /// Accepts the pending `connect`.
    pub fn accept_connect(&mut self) {
        let ConnectionState::Connecting { transaction } = self.connection else { return };
        self.connection = ConnectionState::Connected;
        let window = self.settings.window_ack_size;
        self.link.send_control(&Control::WindowAckSize(window));
        self.link.send_control(&Control::SetPeerBandwidth { window, limit: PeerBandwidthLimit::Dynamic });
        // Before any reply above the default chunk size: OBS applies the new size late.
        self.link.send_control(&Control::SetChunkSize(self.settings.chunk_size));

        let server = object([
            ("fmsVer", FMS_VERSION.into()),
            ("capabilities", FMS_CAPABILITIES.into()),
            ("mode", 1.0.into()),
        ]);
        let mut properties = vec![
            ("level".to_owned(), "status".into()),
            ("code".to_owned(), code::CONNECT_SUCCESS.into()),
            ("description".to_owned(), "The connection is accepted.".into()),
            ("objectEncoding".to_owned(), f64::from(self.request.object_encoding).into()),
        ];
        properties.extend(ConnectRequest::enhanced().enhanced_properties());
        let data = ("version".to_owned(), env!("CARGO_PKG_VERSION").into());
        properties.push(("data".to_owned(), Value::EcmaArray(vec![data])));
        self.link
            .send_command(0, &Command::result(f64::from(transaction), server, Value::Object(properties)));
        self.link.send_command(0, &Command::call("onBWDone", 0.0, vec![]));
    }

    /// Rejects the pending `connect` and ends the session.
    pub fn reject_connect(&mut self, rejection: &Rejection) {
        let ConnectionState::Connecting { transaction } = self.connection else { return };
        let info = rejection_info(rejection.connect_status(), rejection);
        self.link.send_command(0, &Command::error(f64::from(transaction), info));
        self.connection = ConnectionState::Over;
    }

    /// Accepts the pending `publish` of a message stream. Its media follows as events, what was held back first.
    pub fn accept_publish(&mut self, stream_id: u32) {
        let Some(StreamState::Publishing { answer, .. }) = self.streams.state(stream_id) else { return };
        let PublishAnswer::Awaited { held } = std::mem::replace(answer, PublishAnswer::Accepted) else {
            return;
        };
        self.events.extend(held.into_iter().map(|tag| Event::Media { stream_id, tag }));
        self.unaccepted = None;
        if self.fc_publish.is_some() {
            let info = object([("code", code::PUBLISH_START.into()), ("description", STARTED.into())]);
            self.link.send_command(stream_id, &Command::call("onFCPublish", 0.0, vec![info]));
        }
        self.send_status(stream_id, "status", code::PUBLISH_START, STARTED);
    }

    /// Rejects the pending `publish` of a message stream.
    pub fn reject_publish(&mut self, stream_id: u32, rejection: &Rejection) {
        let Some(state @ StreamState::Publishing { answer: PublishAnswer::Awaited { .. }, .. }) =
            self.streams.state(stream_id)
        else {
            return;
        };
        *state = StreamState::Idle;
        self.send_rejection(stream_id, rejection.publish_status(), rejection);
    }

    /// Accepts the pending `play` of a message stream. Tags may be sent from now on.
    pub fn accept_play(&mut self, stream_id: u32) {
        let Some(StreamState::Playing { reset, accepted: accepted @ false }) = self.streams.state(stream_id)
        else {
            return;
        };
        *accepted = true;
        let reset = *reset;
        self.unaccepted = None;
        self.link.send_control(&Control::StreamBegin(stream_id));
        if reset {
            self.send_status(stream_id, "status", code::PLAY_RESET, "The playlist is reset.");
        }
        self.send_status(stream_id, "status", code::PLAY_START, "The stream starts.");
        // No NetStream.Data.Start: ffmpeg would create an empty data stream.
        self.link.send_data(stream_id, &sample_access());
    }

    /// Rejects the pending `play` of a message stream.
    pub fn reject_play(&mut self, stream_id: u32, rejection: &Rejection) {
        let Some(state @ StreamState::Playing { accepted: false, .. }) = self.streams.state(stream_id) else {
            return;
        };
        *state = StreamState::Idle;
        self.send_rejection(stream_id, rejection.play_status(), rejection);
    }

    /// Ends an accepted `play`. The client may play or publish again.
    pub fn end_play(&mut self, stream_id: u32, reason: PlayEnd) {
        let Some(state @ StreamState::Playing { accepted: true, .. }) = self.streams.state(stream_id) else {
            return;
        };
        *state = StreamState::Idle;
        self.link.send_control(&Control::StreamEof(stream_id));
        let (code, description) = reason.status();
        self.send_status(stream_id, "status", code, description);
    }

    /// Ends an accepted `publish` with a status, and the session with it.
    pub fn end_publish(&mut self, stream_id: u32, rejection: &Rejection) {
        let Some(StreamState::Publishing { answer: PublishAnswer::Accepted, .. }) =
            self.streams.state(stream_id)
        else {
            return;
        };
        self.send_rejection(stream_id, rejection.publish_status(), rejection);
        self.connection = ConnectionState::Over;
    }

    /// Queues a tag for an accepted player. The payload is shared, not copied.
    ///
    /// The output grows without limit: the owner must not call this faster than the output drains.
    pub fn send_tag(&mut self, stream_id: u32, tag: &Tag) {
        if let Some(StreamState::Playing { accepted: true, .. }) = self.streams.state(stream_id) {
            self.link.send_tag(stream_id, tag, self.request.caps_ex);
        }
    }

    /// Lets others send to an accepted player, in the form that this returns, until the session is used again. `None` if the
    /// session has something to send or to read, or if the player reads several tracks.
    pub fn pause_for(&mut self, stream_id: u32) -> Option<PlayerForm> {
        let Some(StreamState::Playing { accepted: true, .. }) = self.streams.state(stream_id) else {
            return None;
        };
        let (caps_ex, chunk_size) = (self.request.caps_ex, self.settings.chunk_size);
        let form = PlayerForm { stream_id, caps_ex, chunk_size };
        if form.reads_tracks() || !self.events.is_empty() || !self.link.is_idle() {
            return None;
        }
        self.link.pause();
        Some(form)
    }

    /// Requests the client to reconnect, to `tc_url` if given (enhanced RTMP v2, "Reconnect Request"). Returns false and
    /// sends nothing if the client does not support that.
    pub fn request_reconnect(&mut self, tc_url: Option<&str>) -> bool {
        if self.connection != ConnectionState::Connected || self.request.caps_ex & caps_ex::RECONNECT == 0 {
            return false;
        }
        let mut info = info("status", code::RECONNECT_REQUEST, "The server asks to reconnect.");
        if let (Value::Object(properties), Some(tc_url)) = (&mut info, tc_url) {
            properties.push(("tcUrl".to_owned(), tc_url.into()));
        }
        self.link.send_command(0, &Command::call("onStatus", 0.0, vec![info]));
        true
    }

    fn send_rejection(&mut self, stream_id: u32, status: (&str, &str), rejection: &Rejection) {
        let info = rejection_info(status, rejection);
        self.link.send_command(stream_id, &Command::call("onStatus", 0.0, vec![info]));
    }
}

fn rejection_info((code, description): (&str, &str), rejection: &Rejection) -> Value {
    let mut info = info("error", code, description);
    if let (Value::Object(properties), Rejection::Redirect { url }) = (&mut info, rejection) {
        // `redirect` is the tcUrl for clients that keep their stream name, `redirect2` the whole URL. Parameters stand in both.
        let (path, query) = url.split_at(url.find('?').unwrap_or(url.len()));
        let tc_url = path.rsplit_once('/').map_or(path, |(tc_url, _stream)| tc_url);
        let tc_url = format!("{tc_url}{query}");
        let ex = object([
            ("code", 302.0.into()),
            ("redirect", tc_url.as_str().into()),
            ("redirect2", url.as_str().into()),
        ]);
        properties.push(("ex".to_owned(), ex));
    }
    info
}

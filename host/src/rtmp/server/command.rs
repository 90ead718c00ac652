//! What a server session does on each command.

use remuxd_bitstream::amf0::Value;

use super::{Connection, Event, FcPublish, MAX_STREAMS, ServerSession, State, Stream};
use crate::rtmp::SessionError;
use crate::rtmp::command::{
    Command, ConnectRequest, PlayRequest, PublishKind, PublishRequest, PublishType, code, info, object,
};
use crate::rtmp::message::Control;
use crate::rtmp::tc_url::StreamName;

impl ServerSession {
    pub(super) fn on_command(&mut self, stream_id: u32, command: Command) -> Result<(), SessionError> {
        if command.name == "connect" {
            return self.on_connect(&command);
        }
        if self.connection != Connection::Accepted {
            return Err(SessionError::NotConnected);
        }
        match &*command.name {
            "createStream" => self.on_create_stream(&command)?,
            "publish" => self.on_publish(stream_id, &command),
            "play" => self.on_play(stream_id, &command),
            "FCPublish" => {
                let before = self.streams.is_empty();
                let order = if before { FcPublish::BeforeStream } else { FcPublish::AfterStream };
                self.fc_publish.get_or_insert(order);
                self.answer(&command, Value::Undefined);
            }
            "FCUnpublish" => self.on_fc_unpublish(&command),
            "closeStream" => self.end(stream_id),
            "deleteStream" => {
                // Wants no answer (§7.2.2.3). Some clients name the stream by the message stream it is sent on.
                let id = command.number(0).map_or(stream_id, |id| id as u32);
                self.end(id);
                self.streams.retain(|stream| stream.id != id);
            }
            "pause" | "pauseRaw" => self.on_pause(stream_id, &command),
            "receiveAudio" | "receiveVideo" => self.on_receive(stream_id, &command),
            // 0 says that the stream has no length.
            "getStreamLength" => self.answer(&command, 0.0.into()),
            // Answers to our own calls.
            "_result" | "_error" | "onStatus" => {}
            // `releaseStream`, `_checkbw`, `FCSubscribe`, `seek`, and whatever else wants an answer.
            _ => self.answer(&command, Value::Undefined),
        }
        Ok(())
    }

    /// `_result`, if the client waits for one.
    fn answer(&mut self, command: &Command, value: Value) {
        if command.transaction > 0.0 {
            self.link.send_command(0, &Command::result(command.transaction, Value::Null, value));
        }
    }

    fn on_connect(&mut self, command: &Command) -> Result<(), SessionError> {
        if self.connection != Connection::New {
            return Err(SessionError::ConnectedTwice);
        }
        self.connection = Connection::Asked { transaction: command.transaction as u32 };
        self.request = ConnectRequest::read(&command.object);
        self.events.push_back(Event::Connect { request: self.request.clone() });
        Ok(())
    }

    fn on_create_stream(&mut self, command: &Command) -> Result<(), SessionError> {
        if self.streams.len() >= MAX_STREAMS {
            return Err(SessionError::TooManyStreams { limit: MAX_STREAMS });
        }
        let is_free = |id: &u32| self.streams.iter().all(|stream| stream.id != *id);
        let id = (1..).find(is_free).expect("fewer streams are open than there are numbers");
        self.streams.push(Stream { id, state: State::Idle });
        self.answer(command, f64::from(id).into());
        Ok(())
    }

    fn on_publish(&mut self, stream_id: u32, command: &Command) {
        let Some(stream_id) = self.stream(stream_id).map(|stream| stream.id) else {
            return self.refuse(stream_id, code::PUBLISH_FAILED, "There is no such message stream.");
        };
        self.end(stream_id);
        // `publish(false)` ends what was published.
        if command.flag(0) == Some(false) {
            return;
        }
        let text = command.text(0).unwrap_or_default();
        let name = match StreamName::parse(self.tc_url(), text) {
            Ok(name) => name,
            Err(error) => return self.refuse(stream_id, code::PUBLISH_BAD_NAME, &error.to_string()),
        };
        let kind = match self.fc_publish {
            Some(FcPublish::BeforeStream) => PublishKind::Fmle,
            Some(FcPublish::AfterStream) => PublishKind::Haivision,
            None => PublishKind::Flash,
        };
        self.set_state(stream_id, State::Publishing { name: text.to_owned(), accepted: false });
        let request = PublishRequest { name, publish_type: PublishType::read(command.text(1)), kind };
        self.events.push_back(Event::Publish { stream_id, request });
    }

    fn on_play(&mut self, stream_id: u32, command: &Command) {
        let Some(stream_id) = self.stream(stream_id).map(|stream| stream.id) else {
            return self.refuse(stream_id, code::PLAY_FAILED, "There is no such message stream.");
        };
        self.end(stream_id);
        // `play(false)` ends what was played.
        if command.flag(0) == Some(false) {
            return;
        }
        let name = match StreamName::parse(self.tc_url(), command.text(0).unwrap_or_default()) {
            Ok(name) => name,
            Err(error) => return self.refuse(stream_id, code::PLAY_NOT_FOUND, &error.to_string()),
        };
        let request = PlayRequest::read(name, command);
        self.set_state(stream_id, State::Playing { reset: request.reset, accepted: false });
        self.events.push_back(Event::Play { stream_id, request });
    }

    fn on_fc_unpublish(&mut self, command: &Command) {
        let named = command.text(0).unwrap_or_default();
        let is_publishing = |stream: &&Stream| matches!(stream.state, State::Publishing { .. });
        let is_named =
            |stream: &Stream| matches!(&stream.state, State::Publishing { name, .. } if name == named);
        let mut publishing = self.streams.iter().filter(is_publishing);
        let id = match self.streams.iter().find(|stream| is_named(stream)) {
            Some(stream) => Some(stream.id),
            // Encoders leave parameters out here: take the only one.
            None => publishing.next().filter(|_| publishing.next().is_none()).map(|stream| stream.id),
        };
        if let Some(id) = id {
            let info = object([("code", code::UNPUBLISH_SUCCESS.into()), ("description", STOPPED.into())]);
            self.link.send_command(id, &Command::call("onFCUnpublish", 0.0, vec![info]));
        }
        self.answer(command, Value::Undefined);
        if let Some(id) = id {
            self.send_status(id, "status", (code::UNPUBLISH_SUCCESS, STOPPED));
            self.end(id);
        }
    }

    fn on_pause(&mut self, stream_id: u32, command: &Command) {
        let paused = command.flag(0).unwrap_or(true);
        let Some(Stream { id, state: State::Playing { accepted: true, .. } }) = self.stream(stream_id) else {
            return;
        };
        let stream_id = *id;
        if paused {
            self.send_status(stream_id, "status", (code::PAUSE_NOTIFY, "The stream is paused."));
            self.link.send_control(&Control::StreamEof(stream_id));
        } else {
            self.send_status(stream_id, "status", (code::UNPAUSE_NOTIFY, "The stream goes on."));
            self.link.send_control(&Control::StreamBegin(stream_id));
        }
        self.events.push_back(Event::Pause { stream_id, paused });
    }

    fn on_receive(&mut self, stream_id: u32, command: &Command) {
        let wanted = command.flag(0).unwrap_or(true);
        let Some(stream_id) = self.stream(stream_id).map(|stream| stream.id) else { return };
        self.events.push_back(match &*command.name {
            "receiveAudio" => Event::ReceiveAudio { stream_id, wanted },
            _ => Event::ReceiveVideo { stream_id, wanted },
        });
    }

    /// Ends whatever a message stream is used for.
    fn end(&mut self, stream_id: u32) {
        let Some(stream) = self.stream(stream_id) else { return };
        let stream_id = stream.id;
        match std::mem::replace(&mut stream.state, State::Idle) {
            State::Idle => {}
            State::Publishing { .. } => self.events.push_back(Event::Unpublish { stream_id }),
            State::Playing { .. } => self.events.push_back(Event::StopPlay { stream_id }),
        }
    }

    fn set_state(&mut self, stream_id: u32, new: State) {
        if let Some(state) = self.state_mut(stream_id) {
            *state = new;
        }
    }

    /// Refuses a request that needs no decision.
    fn refuse(&mut self, stream_id: u32, code: &str, description: &str) {
        let info = info("error", code, description);
        self.link.send_command(stream_id, &Command::call("onStatus", 0.0, vec![info]));
    }

    /// The tcUrl, or the app of clients that send none.
    fn tc_url(&self) -> &str {
        if self.request.tc_url.is_empty() { &self.request.app } else { &self.request.tc_url }
    }
}

const STOPPED: &str = "The stream is no longer published.";

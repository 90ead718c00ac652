//! Commands: the AMF0 values of command messages (RTMP 1.0, 7.1.1 and 7.2).
//!
//! Invariants:
//! - the memory of one command is bounded by [`BUDGET`];
//! - `Debug` leaves out arguments, which hold stream keys and tokens.
//!
//! Tolerated:
//! - commands that end after the name or the transaction id (`closeStream` of old Flash encoders);
//! - an AMF3 value among the arguments (Flash with objectEncoding 3): it and all later arguments are ignored.

use std::fmt;

use bytes::Bytes;
use remuxd_bitstream::amf0::{self, Budget, Value};
use thiserror::Error;

/// Limits of one command. The largest in use, `connect`, has some 30 values and two or three URLs.
const BUDGET: Budget = Budget { depth: 16, items: 1024, bytes: 64 << 10 };

/// The AMF0 marker that announces an AMF3 value (AMF 0, 3.1).
const AVMPLUS_OBJECT: u8 = 0x11;

/// A command: a call, or the response to one.
#[derive(Clone, PartialEq)]
pub struct Command {
    /// The procedure called, or `_result`, `_error` or `onStatus`.
    pub name: String,
    /// Pairs a response with its call. A call with 0 expects no response.
    pub transaction: f64,
    /// The command object; [`Value::Null`] for most commands.
    pub object: Value,
    /// The values after the command object.
    pub arguments: Vec<Value>,
}

/// A malformed command message. The culprit is the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// A value is malformed or exceeds the limits of a command.
    #[error(transparent)]
    Amf0(#[from] amf0::Error),
    /// The first value is not a name.
    #[error("the command has no name")]
    NoName,
}

impl Command {
    /// Creates a call without command object.
    pub fn call(name: &str, transaction: f64, arguments: Vec<Value>) -> Command {
        Command { name: name.to_owned(), transaction, object: Value::Null, arguments }
    }

    /// Creates a `_result` response.
    pub fn result(transaction: f64, object: Value, argument: Value) -> Command {
        Command { name: "_result".to_owned(), transaction, object, arguments: vec![argument] }
    }

    /// Creates an `_error` response.
    pub fn error(transaction: f64, info: Value) -> Command {
        Command { name: "_error".to_owned(), transaction, object: Value::Null, arguments: vec![info] }
    }

    /// Parses the payload of a command message.
    ///
    /// # Errors
    ///
    /// The name is missing, or a value is malformed or too large.
    pub fn read(mut payload: &[u8]) -> Result<Command, CommandError> {
        let mut budget = BUDGET;
        let mut values = Vec::new();
        while payload.first().is_some_and(|marker| *marker != AVMPLUS_OBJECT) {
            values.push(amf0::read(&mut payload, &mut budget)?);
        }
        let mut values = values.into_iter();
        let Some(Value::String(name)) = values.next() else { return Err(CommandError::NoName) };
        let transaction = values.next().and_then(|value| value.as_number()).unwrap_or(0.0);
        let object = values.next().unwrap_or(Value::Null);
        Ok(Command { name, transaction, object, arguments: values.collect() })
    }

    /// Returns the payload of a command message.
    pub fn to_payload(&self) -> Bytes {
        let mut payload = Vec::with_capacity(256);
        amf0::write_str(&self.name, &mut payload);
        amf0::write(&Value::Number(self.transaction), &mut payload);
        amf0::write(&self.object, &mut payload);
        for argument in &self.arguments {
            amf0::write(argument, &mut payload);
        }
        payload.into()
    }

    /// Returns an argument that is a string.
    pub fn text(&self, index: usize) -> Option<&str> {
        self.arguments.get(index)?.as_str()
    }

    /// Returns an argument that is a number.
    pub fn number(&self, index: usize) -> Option<f64> {
        self.arguments.get(index)?.as_number()
    }

    /// Returns an argument that is a boolean, or a number in its place, as some clients send.
    pub fn flag(&self, index: usize) -> Option<bool> {
        let value = self.arguments.get(index)?;
        value.as_boolean().or_else(|| value.as_number().map(|number| number != 0.0))
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("name", &self.name)
            .field("transaction", &self.transaction)
            .finish_non_exhaustive()
    }
}

/// Builds an object.
pub(super) fn object<const N: usize>(properties: [(&str, Value); N]) -> Value {
    Value::Object(properties.map(|(name, value)| (name.to_owned(), value)).into())
}

/// Builds an information object (7.2.2), the argument of `onStatus`, `_error` and the response to `connect`.
pub(super) fn info(level: &str, code: &str, description: &str) -> Value {
    object([("level", level.into()), ("code", code.into()), ("description", description.into())])
}

/// Values of `code` in information objects.
pub(super) mod code {
    pub const CONNECT_SUCCESS: &str = "NetConnection.Connect.Success";
    pub const CONNECT_REJECTED: &str = "NetConnection.Connect.Rejected";
    pub const RECONNECT_REQUEST: &str = "NetConnection.Connect.ReconnectRequest";
    pub const PUBLISH_START: &str = "NetStream.Publish.Start";
    pub const PUBLISH_BAD_NAME: &str = "NetStream.Publish.BadName";
    pub const PUBLISH_DENIED: &str = "NetStream.Publish.Denied";
    pub const PUBLISH_FAILED: &str = "NetStream.Publish.Failed";
    pub const UNPUBLISH_SUCCESS: &str = "NetStream.Unpublish.Success";
    pub const PLAY_RESET: &str = "NetStream.Play.Reset";
    pub const PLAY_START: &str = "NetStream.Play.Start";
    pub const PLAY_COMPLETE: &str = "NetStream.Play.Complete";
    pub const PLAY_STOP: &str = "NetStream.Play.Stop";
    pub const PLAY_FAILED: &str = "NetStream.Play.Failed";
    pub const PLAY_NOT_FOUND: &str = "NetStream.Play.StreamNotFound";
    pub const PLAY_UNPUBLISH_NOTIFY: &str = "NetStream.Play.UnpublishNotify";
    pub const PAUSE_NOTIFY: &str = "NetStream.Pause.Notify";
    pub const UNPAUSE_NOTIFY: &str = "NetStream.Unpause.Notify";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let commands = [
            Command::call("releaseStream", 2.0, vec!["key".into()]),
            Command::result(3.0, Value::Null, 1.0.into()),
            Command::error(1.0, info("error", code::CONNECT_REJECTED, "no")),
            Command { object: object([("app", "live".into())]), ..Command::call("connect", 1.0, vec![]) },
        ];
        for command in commands {
            assert!(Command::read(&command.to_payload()).unwrap() == command, "{command:?}");
        }
    }

    #[test]
    fn reads_short_commands() {
        let mut payload = Vec::new();
        amf0::write_str("closeStream", &mut payload);
        let command = Command::read(&payload).unwrap();
        assert!(command == Command::call("closeStream", 0.0, vec![]));
    }

    #[test]
    fn ignores_amf3_arguments() {
        let mut payload = Command::call("play", 0.0, vec!["key".into()]).to_payload().to_vec();
        payload.extend([AVMPLUS_OBJECT, 0x0a, 0x0b, 0x01]);
        assert_eq!(Command::read(&payload).unwrap().arguments, [Value::from("key")]);
    }

    #[test]
    fn rejects_malformed_commands() {
        assert_eq!(Command::read(&[]), Err(CommandError::NoName));
        assert_eq!(Command::read(&[5]), Err(CommandError::NoName));
        // A strict array that claims 2^32 - 1 values.
        let giant = [0x0a, 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(Command::read(&giant), Err(CommandError::Amf0(_))));
    }

    #[test]
    fn rejects_200_000_nested_objects() {
        let mut payload = Vec::new();
        amf0::write_str("connect", &mut payload);
        amf0::write(&Value::Number(1.0), &mut payload);
        for _ in 0..200_000 {
            payload.extend([3, 0, 1, b'a']);
        }
        let result = Command::read(&payload);
        assert!(matches!(result, Err(CommandError::Amf0(amf0::Error::Depth { .. }))), "{result:?}");
    }

    #[test]
    fn keeps_secrets_out_of_debug() {
        let shown = format!("{:?}", Command::call("publish", 5.0, vec!["hush".into()]));
        assert!(!shown.contains("hush"), "{shown}");
    }
}

//! RESP3, the protocol of Redis: commands out, values in. Sans-IO.
//!
//! Why an own reader: a server that lies must not make the host keep more than [`MAX_REPLY`]. A text that is too long is skipped
//! as it arrives, so that one bad key of many does not end the connection.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

/// The longest text that is kept, in bytes. Entries are shorter.
pub const MAX_TEXT: usize = 64 << 10;

/// The most bytes of the texts of one value together.
const MAX_REPLY: usize = 4 << 20;

/// The most elements of one value, nested ones included.
const MAX_ELEMENTS: usize = 100_000;

/// The most values in each other.
const MAX_DEPTH: usize = 6;

/// The longest line, in bytes: of an error, or the head of a value.
const MAX_LINE: usize = 4096;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// No value.
    Null,
    /// An integer.
    Integer(i64),
    /// A text, also of a number that is no integer.
    Text(Bytes),
    /// A text longer than [`MAX_TEXT`], which was skipped.
    TooLong(usize),
    /// An error: its code in capitals, then a description.
    Error(String),
    /// A list; a map is a list of its keys and values in turn.
    List(Vec<Value>),
    /// A list that is no reply, but a notification.
    Push(Vec<Value>),
}

/// The reason why bytes are not RESP3. Culprit: the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RespError {
    /// A value of an unknown type.
    #[error("a value has the unknown type {0:#04x}")]
    Type(u8),
    /// A number or the end of a text is malformed.
    #[error("a value is malformed")]
    Malformed,
    /// A limit is exceeded.
    #[error("a reply is too large: more than {limit} {of}")]
    TooLarge {
        /// The kind of thing that is too many.
        of: &'static str,
        /// The limit.
        limit: usize,
    },
}

/// Reads values from a stream of bytes.
#[derive(Debug, Default)]
pub struct RespReader {
    /// The lists that are not complete, the outermost first.
    open: Vec<Open>,
    text: Text,
    /// Bytes of texts and elements of the current value.
    bytes: usize,
    elements: usize,
}

#[derive(Debug)]
struct Open {
    is_push: bool,
    /// Attributes are dropped when they are complete.
    is_attribute: bool,
    left: usize,
    elements: Vec<Value>,
}

/// The text that comes next.
#[derive(Debug, Default)]
enum Text {
    #[default]
    None,
    /// One of this length.
    Kept { len: usize, is_error: bool },
    /// One that is too long, with the bytes that are left of it and of its end.
    Skipped { len: usize, left: usize },
}

impl RespReader {
    /// Reads the next value from the begin of `input`, and removes it there; `None` if it is not complete.
    ///
    /// # Errors
    /// The bytes are no value, or one that is too large. The connection is of no use then.
    pub fn read(&mut self, input: &mut BytesMut) -> Result<Option<Value>, RespError> {
        loop {
            let Some(value) = self.read_part(input)? else { return Ok(None) };
            let Some(value) = value else { continue };
            if let Some(whole) = self.add(value) {
                (self.bytes, self.elements) = (0, 0);
                return Ok(Some(whole));
            }
        }
    }

    /// Reads a text, or a line; `Some(None)` if the line begins a value of several parts.
    fn read_part(&mut self, input: &mut BytesMut) -> Result<Option<Option<Value>>, RespError> {
        match self.text {
            Text::None => self.read_line(input),
            Text::Kept { len, is_error } => {
                if input.len() < len + 2 {
                    return Ok(None);
                }
                let text = input.split_to(len).freeze();
                if !input.starts_with(b"\r\n") {
                    return Err(RespError::Malformed);
                }
                input.advance(2);
                self.text = Text::None;
                let error = || Value::Error(String::from_utf8_lossy(&text).into_owned());
                Ok(Some(Some(if is_error { error() } else { Value::Text(text) })))
            }
            Text::Skipped { len, left } => {
                let now = left.min(input.len());
                input.advance(now);
                if now < left {
                    self.text = Text::Skipped { len, left: left - now };
                    return Ok(None);
                }
                self.text = Text::None;
                Ok(Some(Some(Value::TooLong(len))))
            }
        }
    }

    fn read_line(&mut self, input: &mut BytesMut) -> Result<Option<Option<Value>>, RespError> {
        let Some(end) = input.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
            if input.len() >= MAX_LINE {
                return Err(RespError::TooLarge { of: "bytes in a line", limit: MAX_LINE });
            }
            return Ok(None);
        };
        let line = input.split_to(end + 1).freeze();
        let line = line.strip_suffix(b"\r\n").ok_or(RespError::Malformed)?;
        let (kind, rest) = line.split_first().ok_or(RespError::Malformed)?;
        let number = || std::str::from_utf8(rest).ok().and_then(|text| text.parse::<i64>().ok());
        let text = || Value::Text(Bytes::copy_from_slice(rest));
        Ok(Some(match kind {
            b'+' | b',' | b'(' => Some(text()),
            b'-' => Some(Value::Error(String::from_utf8_lossy(rest).into_owned())),
            b':' => Some(Value::Integer(number().ok_or(RespError::Malformed)?)),
            b'_' => Some(Value::Null),
            b'#' => Some(Value::Integer(i64::from(rest == b"t"))),
            b'$' | b'=' | b'!' => match number().ok_or(RespError::Malformed)? {
                -1 => Some(Value::Null),
                len => {
                    self.begin_text(len, *kind == b'!')?;
                    None
                }
            },
            b'*' | b'~' | b'>' | b'%' | b'|' => match number().ok_or(RespError::Malformed)? {
                -1 => Some(Value::Null),
                len => self.begin_list(*kind, len)?,
            },
            other => return Err(RespError::Type(*other)),
        }))
    }

    fn begin_text(&mut self, len: i64, is_error: bool) -> Result<(), RespError> {
        let len = usize::try_from(len).map_err(|_| RespError::Malformed)?;
        if len > MAX_TEXT {
            self.text = Text::Skipped { len, left: len.saturating_add(2) };
            return Ok(());
        }
        self.bytes += len;
        if self.bytes > MAX_REPLY {
            return Err(RespError::TooLarge { of: "bytes", limit: MAX_REPLY });
        }
        self.text = Text::Kept { len, is_error };
        Ok(())
    }

    fn begin_list(&mut self, kind: u8, len: i64) -> Result<Option<Value>, RespError> {
        let len = usize::try_from(len).map_err(|_| RespError::Malformed)?;
        let left = if matches!(kind, b'%' | b'|') { len.saturating_mul(2) } else { len };
        self.elements = self.elements.saturating_add(left);
        if self.elements > MAX_ELEMENTS {
            return Err(RespError::TooLarge { of: "elements", limit: MAX_ELEMENTS });
        }
        if self.open.len() == MAX_DEPTH {
            return Err(RespError::TooLarge { of: "lists in each other", limit: MAX_DEPTH });
        }
        let is_push = kind == b'>';
        if left == 0 {
            let empty = if is_push { Value::Push(Vec::new()) } else { Value::List(Vec::new()) };
            return Ok((kind != b'|').then_some(empty));
        }
        self.open.push(Open { is_push, is_attribute: kind == b'|', left, elements: Vec::new() });
        Ok(None)
    }

    /// Adds a value to the innermost open list. Returns the whole value if it is complete.
    fn add(&mut self, mut value: Value) -> Option<Value> {
        loop {
            let Some(list) = self.open.last_mut() else { return Some(value) };
            list.elements.push(value);
            list.left -= 1;
            if list.left > 0 {
                return None;
            }
            let list = self.open.pop()?;
            if list.is_attribute {
                return None;
            }
            value = if list.is_push { Value::Push(list.elements) } else { Value::List(list.elements) };
        }
    }
}

impl Value {
    /// The text of a value that is one.
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of a list.
    pub fn list(&self) -> Option<&[Value]> {
        match self {
            Value::List(elements) | Value::Push(elements) => Some(elements),
            _ => None,
        }
    }

    /// The value as an integer, also of a text.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Value::Integer(integer) => Some(*integer),
            Value::Text(text) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        }
    }
}

/// Writes a command with its arguments.
pub fn write_command(arguments: &[impl AsRef<[u8]>], output: &mut BytesMut) {
    output.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments.iter().map(AsRef::as_ref) {
        output.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        output.extend_from_slice(argument);
        output.extend_from_slice(b"\r\n");
    }
}

/// Formats a short text of a server, without control characters.
pub fn shown(text: &str) -> impl fmt::Display {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// Reads all values, with the input as a whole and byte by byte.
    fn read(input: &[u8]) -> Result<Vec<Value>, RespError> {
        let whole = read_chunks(input, input.len().max(1));
        assert_eq!(whole, read_chunks(input, 1));
        whole
    }

    fn read_chunks(input: &[u8], size: usize) -> Result<Vec<Value>, RespError> {
        let (mut reader, mut buffer, mut values) = (RespReader::default(), BytesMut::new(), Vec::new());
        for chunk in input.chunks(size) {
            buffer.extend_from_slice(chunk);
            while let Some(value) = reader.read(&mut buffer)? {
                values.push(value);
            }
        }
        Ok(values)
    }

    #[test]
    fn values_are_read() {
        let push = Value::Push(vec![text("message"), text("c"), text("x")]);
        for (input, expected) in [
            (
                "+OK\r\n:-5\r\n_\r\n#t\r\n,1.5\r\n",
                vec![text("OK"), Value::Integer(-5), Value::Null, Value::Integer(1), text("1.5")],
            ),
            ("$-1\r\n*-1\r\n$0\r\n\r\n", vec![Value::Null, Value::Null, text("")]),
            (
                "-ERR no\r\n!3\r\nBAD\r\n",
                vec![Value::Error("ERR no".to_owned()), Value::Error("BAD".to_owned())],
            ),
            ("*2\r\n*0\r\n$3\r\na\nb\r\n", vec![Value::List(vec![Value::List(vec![]), text("a\nb")])]),
            ("%1\r\n+k\r\n:1\r\n", vec![Value::List(vec![text("k"), Value::Integer(1)])]),
            (">3\r\n+message\r\n+c\r\n+x\r\n+OK\r\n", vec![push, text("OK")]),
            ("|1\r\n+a\r\n+b\r\n:1\r\n|0\r\n:2\r\n", vec![Value::Integer(1), Value::Integer(2)]),
            ("*1\r\n", vec![]),
        ] {
            assert_eq!(read(input.as_bytes()).unwrap(), expected, "{input:?}");
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_skipped_and_what_follows_is_read() {
        let long = "x".repeat(MAX_TEXT + 1);
        let input = format!("*2\r\n${}\r\n{long}\r\n+a\r\n+b\r\n", long.len());
        let expected = [Value::List(vec![Value::TooLong(long.len()), text("a")]), text("b")];
        assert_eq!(read(input.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn what_no_server_sends_is_refused() {
        let wide = format!("*{}\r\n", MAX_ELEMENTS + 1);
        let deep = "*1\r\n".repeat(MAX_DEPTH + 1);
        let line = "+".repeat(MAX_LINE);
        let bulks = format!("*100\r\n{}", format!("${MAX_TEXT}\r\n{}\r\n", "x".repeat(MAX_TEXT)).repeat(66));
        for (input, error) in [
            ("hello\r\n", "a value has the unknown type 0x68"),
            ("\r\n", "a value is malformed"),
            ("+a\n", "a value is malformed"),
            (":x\r\n", "a value is malformed"),
            ("$-2\r\n", "a value is malformed"),
            ("$1\r\nabc", "a value is malformed"),
            ("*99999999999999999999\r\n", "a value is malformed"),
            (&wide, "a reply is too large: more than 100000 elements"),
            ("%9223372036854775807\r\n", "a reply is too large: more than 100000 elements"),
            (&deep, "a reply is too large: more than 6 lists in each other"),
            (&line, "a reply is too large: more than 4096 bytes in a line"),
            (&bulks, "a reply is too large: more than 4194304 bytes"),
        ] {
            assert_eq!(read(input.as_bytes()).unwrap_err().to_string(), error, "{:.20}", input);
        }
    }

    #[test]
    fn commands_carry_any_bytes() {
        let mut output = BytesMut::new();
        write_command(&["SET", "a\r\nb", ""], &mut output);
        assert_eq!(&output[..], b"*3\r\n$3\r\nSET\r\n$4\r\na\r\nb\r\n$0\r\n\r\n");
    }
}

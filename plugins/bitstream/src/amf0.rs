//! AMF0: the values of RTMP commands and FLV script tags (AMF 0 specification, 1 December 2007).
//!
//! Values arrive in complete messages, so missing bytes are an error, not a request for more. Invariants: a [`Budget`] bounds the
//! depth, number and size of the values of one message, and memory is allocated only for bytes that have arrived, never
//! for a count announced by the peer. References (marker 7) are returned as numbers and not followed: no encoder sends
//! them.
//!
//! Tolerated deviations:
//! - the count of an ECMA array is a hint (section 2.10) and the end marker decides, since encoders that add properties later
//!   send 0 or a stale number;
//! - an ECMA array that has all its announced properties may end with the message instead of the end marker;
//! - a string that is not UTF-8 is read as Latin-1: encoders on old Windows systems send local 8-bit names. It is
//!   written back as UTF-8.

/// One AMF0 value.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A number (section 2.2).
    Number(f64),
    /// A boolean (2.3).
    Boolean(bool),
    /// A string (2.4), or a long string (2.14) if it is longer than 65,535 bytes.
    String(String),
    /// An anonymous object (2.5), its properties in order.
    Object(Vec<(String, Value)>),
    /// Null (2.7).
    Null,
    /// Undefined (2.8).
    Undefined,
    /// A reference to an earlier complex value of the same message (2.9), by its index.
    Reference(u16),
    /// An ECMA array (2.10): named properties, in order.
    EcmaArray(Vec<(String, Value)>),
    /// A strict array (2.12): values without names.
    StrictArray(Vec<Value>),
    /// A date (2.13).
    Date {
        /// Milliseconds since 1 January 1970, UTC.
        millis: f64,
        /// Time zone; reserved, 0 by the specification.
        zone: i16,
    },
    /// Unsupported (2.15): the peer could not serialise the value.
    Unsupported,
    /// An XML document (2.17), not parsed.
    XmlDocument(String),
    /// An object of a named class (2.18).
    TypedObject {
        /// The class.
        class: String,
        /// The properties, in order.
        properties: Vec<(String, Value)>,
    },
}

/// The reason that a value cannot be read. The culprit is the peer. Offsets count from the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input ends inside a value.
    #[error("AMF0 value ends early: bytes missing at {offset}")]
    Truncated {
        /// Offset of the first incomplete field.
        offset: usize,
    },
    /// A type marker that is reserved, unknown, or of AMF3.
    #[error("AMF0 marker {marker:#04x} at byte {offset} is not known")]
    Marker {
        /// Offset of the marker.
        offset: usize,
        /// The marker.
        marker: u8,
    },
    /// Objects or arrays are nested deeper than the budget.
    #[error("AMF0 value at byte {offset} is nested too deep")]
    Depth {
        /// Offset of the first value that is too deep.
        offset: usize,
    },
    /// More values than the budget.
    #[error("too many AMF0 values, at byte {offset}")]
    Items {
        /// Offset of the first value over the limit.
        offset: usize,
    },
    /// More bytes of strings and names than the budget.
    #[error("too many bytes in AMF0 strings, at byte {offset}")]
    Bytes {
        /// Offset of the string that exceeds the limit.
        offset: usize,
    },
}

/// Remaining limits, shared by all values of a message and reduced by each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Maximum depth of nested objects and arrays.
    pub depth: usize,
    /// Maximum number of values.
    pub items: usize,
    /// Maximum length of all strings and property names, in bytes.
    pub bytes: usize,
}

impl Default for Budget {
    /// A budget for all commands and metadata in use, including keyframe indexes of an hour.
    fn default() -> Budget {
        Budget { depth: 16, items: 4096, bytes: 256 << 10 }
    }
}

/// Reads one value and moves `input` past it. After an error `input` is unchanged, but `budget` is spent.
///
/// # Errors
/// Any [`Error`]; its offset counts from the start of `input`.
pub fn read(input: &mut &[u8], budget: &mut Budget) -> Result<Value, Error> {
    let mut reader = Reader { input, at: 0, budget };
    let value = reader.value()?;
    let at = reader.at;
    *input = &input[at..];
    Ok(value)
}

/// Reads values until `input` is used up.
///
/// # Errors
/// Any [`Error`] of any value.
pub fn read_all(input: &[u8], budget: &mut Budget) -> Result<Vec<Value>, Error> {
    let mut reader = Reader { input, at: 0, budget };
    let mut values = Vec::new();
    while reader.at < input.len() {
        values.push(reader.value()?);
    }
    Ok(values)
}

/// Appends `value` to `out`. Strings over 65,535 bytes become long strings.
///
/// A property name has no long form, so a property whose name is over 65,535 bytes is omitted, and an object of such
/// a class is written without it.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Number(number) => {
            out.push(marker::NUMBER);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::Boolean(boolean) => out.extend_from_slice(&[marker::BOOLEAN, u8::from(*boolean)]),
        Value::String(text) => write_str(text, out),
        Value::Object(properties) => {
            out.push(marker::OBJECT);
            write_properties(properties, out);
        }
        Value::Null => out.push(marker::NULL),
        Value::Undefined => out.push(marker::UNDEFINED),
        Value::Reference(index) => {
            out.push(marker::REFERENCE);
            out.extend_from_slice(&index.to_be_bytes());
        }
        Value::EcmaArray(properties) => {
            out.push(marker::ECMA_ARRAY);
            let count = properties.iter().filter(|(name, _)| short_len(name).is_some()).count();
            write_count(count, out);
            write_properties(properties, out);
        }
        Value::StrictArray(values) => {
            out.push(marker::STRICT_ARRAY);
            write_count(values.len(), out);
            for value in values {
                write(value, out);
            }
        }
        Value::Date { millis, zone } => {
            out.push(marker::DATE);
            out.extend_from_slice(&millis.to_be_bytes());
            out.extend_from_slice(&zone.to_be_bytes());
        }
        Value::Unsupported => out.push(marker::UNSUPPORTED),
        Value::XmlDocument(text) => {
            out.push(marker::XML_DOCUMENT);
            write_count(text.len(), out);
            out.extend_from_slice(text.as_bytes());
        }
        Value::TypedObject { class, properties } => {
            if let Some(len) = short_len(class) {
                out.push(marker::TYPED_OBJECT);
                out.extend_from_slice(&len.to_be_bytes());
                out.extend_from_slice(class.as_bytes());
            } else {
                out.push(marker::OBJECT);
            }
            write_properties(properties, out);
        }
    }
}

/// Appends a string value without creating a [`Value`].
pub fn write_str(text: &str, out: &mut Vec<u8>) {
    if let Some(len) = short_len(text) {
        out.push(marker::STRING);
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.push(marker::LONG_STRING);
        write_count(text.len(), out);
    }
    out.extend_from_slice(text.as_bytes());
}

impl Value {
    /// Returns the number, if the value is one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns the boolean, if the value is one.
    pub fn as_boolean(&self) -> Option<bool> {
        match self {
            Value::Boolean(boolean) => Some(*boolean),
            _ => None,
        }
    }

    /// Returns the text of a string or long string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the properties of an object, typed object or ECMA array.
    pub fn properties(&self) -> Option<&[(String, Value)]> {
        match self {
            Value::Object(properties)
            | Value::EcmaArray(properties)
            | Value::TypedObject { properties, .. } => Some(properties),
            _ => None,
        }
    }

    /// Returns the first property with this name.
    pub fn property(&self, name: &str) -> Option<&Value> {
        self.properties()?.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::Number(number)
    }
}

impl From<bool> for Value {
    fn from(boolean: bool) -> Value {
        Value::Boolean(boolean)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::String(text)
    }
}

/// Type markers (section 2.1).
mod marker {
    pub const NUMBER: u8 = 0x00;
    pub const BOOLEAN: u8 = 0x01;
    pub const STRING: u8 = 0x02;
    pub const OBJECT: u8 = 0x03;
    pub const NULL: u8 = 0x05;
    pub const UNDEFINED: u8 = 0x06;
    pub const REFERENCE: u8 = 0x07;
    pub const ECMA_ARRAY: u8 = 0x08;
    pub const OBJECT_END: u8 = 0x09;
    pub const STRICT_ARRAY: u8 = 0x0a;
    pub const DATE: u8 = 0x0b;
    pub const LONG_STRING: u8 = 0x0c;
    pub const UNSUPPORTED: u8 = 0x0d;
    pub const XML_DOCUMENT: u8 = 0x0f;
    pub const TYPED_OBJECT: u8 = 0x10;
}

struct Reader<'a, 'b> {
    input: &'a [u8],
    at: usize,
    budget: &'b mut Budget,
}

impl<'a> Reader<'a, '_> {
    fn value(&mut self) -> Result<Value, Error> {
        let offset = self.at;
        self.budget.items = self.budget.items.checked_sub(1).ok_or(Error::Items { offset })?;
        let [marker] = self.array()?;
        Ok(match marker {
            marker::NUMBER => Value::Number(f64::from_be_bytes(self.array()?)),
            marker::BOOLEAN => Value::Boolean(self.array()? != [0]),
            marker::STRING => Value::String(self.short_string()?),
            marker::OBJECT => Value::Object(self.nested(offset, |reader| reader.properties(None))?),
            marker::NULL => Value::Null,
            marker::UNDEFINED => Value::Undefined,
            marker::REFERENCE => Value::Reference(u16::from_be_bytes(self.array()?)),
            marker::ECMA_ARRAY => {
                let count = u32::from_be_bytes(self.array()?);
                Value::EcmaArray(self.nested(offset, |reader| reader.properties(Some(count)))?)
            }
            marker::STRICT_ARRAY => Value::StrictArray(self.nested(offset, Self::elements)?),
            marker::DATE => Value::Date {
                millis: f64::from_be_bytes(self.array()?),
                zone: i16::from_be_bytes(self.array()?),
            },
            marker::LONG_STRING => Value::String(self.long_string()?),
            marker::UNSUPPORTED => Value::Unsupported,
            marker::XML_DOCUMENT => Value::XmlDocument(self.long_string()?),
            marker::TYPED_OBJECT => {
                let class = self.short_string()?;
                let properties = self.nested(offset, |reader| reader.properties(None))?;
                Value::TypedObject { class, properties }
            }
            marker => return Err(Error::Marker { offset, marker }),
        })
    }

    /// Runs `read` one level deeper.
    fn nested<T>(
        &mut self,
        offset: usize,
        read: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.budget.depth = self.budget.depth.checked_sub(1).ok_or(Error::Depth { offset })?;
        let result = read(self);
        self.budget.depth += 1;
        result
    }

    /// Reads properties up to the end marker. `announced` is the count of an ECMA array.
    fn properties(&mut self, announced: Option<u32>) -> Result<Vec<(String, Value)>, Error> {
        let mut properties = Vec::new();
        loop {
            let complete = announced.is_some_and(|count| properties.len() >= count as usize);
            if complete && self.at == self.input.len() {
                return Ok(properties);
            }
            let name = self.short_string()?;
            if name.is_empty() && self.input.get(self.at) == Some(&marker::OBJECT_END) {
                self.at += 1;
                return Ok(properties);
            }
            properties.push((name, self.value()?));
        }
    }

    fn elements(&mut self) -> Result<Vec<Value>, Error> {
        let count = u32::from_be_bytes(self.array()?);
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.value()?);
        }
        Ok(values)
    }

    fn short_string(&mut self) -> Result<String, Error> {
        let len = u16::from_be_bytes(self.array()?);
        self.text(usize::from(len))
    }

    fn long_string(&mut self) -> Result<String, Error> {
        let len = u32::from_be_bytes(self.array()?);
        self.text(len as usize)
    }

    fn text(&mut self, len: usize) -> Result<String, Error> {
        let offset = self.at;
        let bytes = self.take(len)?;
        self.budget.bytes = self.budget.bytes.checked_sub(len).ok_or(Error::Bytes { offset })?;
        Ok(match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
        })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        Ok(self.take(N)?.try_into().expect("take returns as many bytes as requested"))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let bytes = self.input[self.at..].get(..len).ok_or(Error::Truncated { offset: self.at })?;
        self.at += len;
        Ok(bytes)
    }
}

/// Returns the length of a text if it fits 16 bits.
fn short_len(text: &str) -> Option<u16> {
    u16::try_from(text.len()).ok()
}

fn write_count(count: usize, out: &mut Vec<u8>) {
    let count = u32::try_from(count).expect("AMF0 values are below 4 GiB");
    out.extend_from_slice(&count.to_be_bytes());
}

fn write_properties(properties: &[(String, Value)], out: &mut Vec<u8>) {
    for (name, value) in properties {
        let Some(len) = short_len(name) else { continue };
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(name.as_bytes());
        write(value, out);
    }
    out.extend_from_slice(&[0, 0, marker::OBJECT_END]);
}

#[cfg(test)]
mod tests;

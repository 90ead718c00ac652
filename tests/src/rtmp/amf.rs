//! The part of AMF0 that commands need.

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Amf {
    /// A double.
    Number(f64),
    /// A boolean.
    Boolean(bool),
    /// A short string.
    String(String),
    /// An object or ECMA array, in order.
    Object(Vec<(String, Amf)>),
    /// A strict array.
    Array(Vec<Amf>),
    /// Null or undefined.
    Null,
}

impl From<&str> for Amf {
    fn from(text: &str) -> Amf {
        Amf::String(text.to_owned())
    }
}

impl From<f64> for Amf {
    fn from(number: f64) -> Amf {
        Amf::Number(number)
    }
}

impl Amf {
    /// Returns the property `name` of an object.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&Amf> {
        match self {
            Amf::Object(properties) => properties.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Returns the text of a string.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Amf::String(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the value of a number.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        match self {
            Amf::Number(number) => Some(*number),
            _ => None,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Amf::Number(number) => {
                out.push(0);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Amf::Boolean(value) => out.extend_from_slice(&[1, u8::from(*value)]),
            Amf::String(text) => {
                out.push(2);
                write_text(text, out);
            }
            Amf::Object(properties) => {
                out.push(3);
                for (name, value) in properties {
                    write_text(name, out);
                    value.write(out);
                }
                out.extend_from_slice(&[0, 0, 9]);
            }
            Amf::Array(values) => {
                out.push(10);
                out.extend_from_slice(&(values.len() as u32).to_be_bytes());
                values.iter().for_each(|value| value.write(out));
            }
            Amf::Null => out.push(5),
        }
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).expect("tests send short strings");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Writes values.
#[must_use]
pub fn write(values: &[Amf]) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|value| value.write(&mut out));
    out
}

/// Reads values up to the end of `input`; `None` when it is not AMF0.
#[must_use]
pub fn read(mut input: &[u8]) -> Option<Vec<Amf>> {
    let mut values = Vec::new();
    while !input.is_empty() {
        values.push(read_value(&mut input)?);
    }
    Some(values)
}

fn take<'a>(input: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = input.split_at_checked(length)?;
    *input = rest;
    Some(taken)
}

fn take_array<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    take(input, N)?.try_into().ok()
}

fn read_text(input: &mut &[u8]) -> Option<String> {
    let length = u16::from_be_bytes(take_array(input)?);
    String::from_utf8(take(input, length.into())?.to_vec()).ok()
}

fn read_value(input: &mut &[u8]) -> Option<Amf> {
    let [marker] = take_array(input)?;
    Some(match marker {
        0 => Amf::Number(f64::from_be_bytes(take_array(input)?)),
        1 => Amf::Boolean(take_array::<1>(input)? != [0]),
        2 => Amf::String(read_text(input)?),
        3 => Amf::Object(read_properties(input)?),
        8 => {
            take(input, 4)?;
            Amf::Object(read_properties(input)?)
        }
        10 => {
            let count = u32::from_be_bytes(take_array(input)?);
            Amf::Array((0..count).map(|_| read_value(input)).collect::<Option<_>>()?)
        }
        5 | 6 => Amf::Null,
        11 => {
            let date = take_array(input)?;
            take(input, 2)?;
            Amf::Number(f64::from_be_bytes(date))
        }
        _ => return None,
    })
}

fn read_properties(input: &mut &[u8]) -> Option<Vec<(String, Amf)>> {
    let mut properties = Vec::new();
    loop {
        let name = read_text(input)?;
        if name.is_empty() && input.first() == Some(&9) {
            take(input, 1)?;
            return Some(properties);
        }
        properties.push((name, read_value(input)?));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let values = [
            Amf::from("connect"),
            Amf::from(1.0),
            Amf::Object(vec![
                ("app".into(), "live".into()),
                ("list".into(), Amf::Array(vec![Amf::Boolean(true), Amf::Null])),
            ]),
        ];
        assert_eq!(read(&write(&values)).unwrap(), values);
        assert_eq!(read(&write(&values)[..20]), None);
    }
}

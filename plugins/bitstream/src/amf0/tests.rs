use super::*;

fn read_one(mut bytes: &[u8]) -> Result<Value, Error> {
    let value = read(&mut bytes, &mut Budget::default())?;
    assert!(bytes.is_empty(), "{} bytes left after {value:?}", bytes.len());
    Ok(value)
}

fn named(properties: &[(&str, Value)]) -> Vec<(String, Value)> {
    properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// Each kind of value and its encoding in the specification.
fn table() -> Vec<(Value, Vec<u8>)> {
    let long = "x".repeat(65_536);
    let long_bytes = [&[0x0c, 0, 1, 0, 0][..], long.as_bytes()].concat();
    vec![
        (Value::Number(1.0), b"\0\x3f\xf0\0\0\0\0\0\0".to_vec()),
        (Value::Boolean(true), b"\x01\x01".to_vec()),
        (Value::Boolean(false), b"\x01\0".to_vec()),
        (Value::from("live"), b"\x02\0\x04live".to_vec()),
        (Value::from(""), b"\x02\0\0".to_vec()),
        (Value::String(long), long_bytes),
        (Value::Object(named(&[("a", Value::Null)])), b"\x03\0\x01a\x05\0\0\x09".to_vec()),
        (Value::Object(vec![]), b"\x03\0\0\x09".to_vec()),
        (Value::Object(named(&[("", Value::Null)])), b"\x03\0\0\x05\0\0\x09".to_vec()),
        (Value::Undefined, b"\x06".to_vec()),
        (Value::Reference(258), b"\x07\x01\x02".to_vec()),
        (
            Value::EcmaArray(named(&[("w", Value::Boolean(true))])),
            b"\x08\0\0\0\x01\0\x01w\x01\x01\0\0\x09".to_vec(),
        ),
        (Value::StrictArray(vec![Value::Null, Value::Undefined]), b"\x0a\0\0\0\x02\x05\x06".to_vec()),
        (Value::Date { millis: 1.0, zone: -2 }, b"\x0b\x3f\xf0\0\0\0\0\0\0\xff\xfe".to_vec()),
        (Value::Unsupported, b"\x0d".to_vec()),
        (Value::XmlDocument("<a/>".into()), b"\x0f\0\0\0\x04<a/>".to_vec()),
        (
            Value::TypedObject { class: "C".into(), properties: named(&[("a", Value::Null)]) },
            b"\x10\0\x01C\0\x01a\x05\0\0\x09".to_vec(),
        ),
    ]
}

#[test]
fn reads_and_writes_every_kind() {
    for (value, bytes) in table() {
        assert_eq!(read_one(&bytes), Ok(value.clone()));
        let mut written = Vec::new();
        write(&value, &mut written);
        assert_eq!(written, bytes, "{value:?}");
    }
}

#[test]
fn every_prefix_is_truncated() {
    for (value, bytes) in table() {
        // All of a short value, the ends of a long one.
        for len in (0..bytes.len()).filter(|&len| len < 32 || len + 2 > bytes.len()) {
            let mut input = &bytes[..len];
            match read(&mut input, &mut Budget::default()) {
                Err(Error::Truncated { offset }) => assert!(offset <= len),
                // An ECMA array with all its properties may lack the end marker.
                Ok(tolerated) => assert!(matches!(tolerated, Value::EcmaArray(_)), "{value:?} at {len}"),
                Err(error) => panic!("{value:?} at {len}: {error}"),
            }
        }
    }
}

#[test]
fn reads_a_message_of_several_values() {
    let (values, bytes): (Vec<_>, Vec<_>) = table().into_iter().unzip();
    assert_eq!(read_all(&bytes.concat(), &mut Budget::default()), Ok(values));
    assert_eq!(read_all(&[], &mut Budget::default()), Ok(vec![]));
}

#[test]
fn a_failed_read_does_not_move_the_input() {
    let mut input = &b"\x02\0\x04liv"[..];
    assert_eq!(read(&mut input, &mut Budget::default()), Err(Error::Truncated { offset: 3 }));
    assert_eq!(input.len(), 6);
}

#[test]
fn the_end_marker_decides_over_the_count() {
    let expected = Ok(Value::EcmaArray(named(&[("a", Value::Null)])));
    for count in [0, 1, 2, 0xffff_ffff_u32] {
        let bytes = [&b"\x08"[..], &count.to_be_bytes(), b"\0\x01a\x05\0\0\x09"].concat();
        assert_eq!(read_one(&bytes), expected, "count {count}");
    }
    assert_eq!(read_one(b"\x08\0\0\0\x01\0\x01a\x05"), expected, "no end marker");
    assert_eq!(read_one(b"\x08\0\0\0\x02\0\x01a\x05"), Err(Error::Truncated { offset: 9 }));
}

#[test]
fn strings_that_are_not_utf8_are_latin1() {
    assert_eq!(read_one(b"\x02\0\x04caf\xe9"), Ok(Value::from("café")));
    assert_eq!(read_one("\x02\0\x05café".as_bytes()), Ok(Value::from("café")));
}

#[test]
fn rejects_unknown_markers() {
    for marker in [0x04, 0x09, 0x0e, 0x11, 0x12, 0xff] {
        assert_eq!(read_one(&[marker, 0, 0]), Err(Error::Marker { offset: 0, marker }));
    }
}

#[test]
fn hostile_values_exceed_the_budget_early() {
    let nested_objects = b"\x03\0\x01a".repeat(200_000);
    let nested_arrays = b"\x0a\0\0\0\x01".repeat(200_000);
    let giant_array = [&b"\x0a\xff\xff\xff\xff"[..], &[0x05; 100_000]].concat();
    let giant_ecma = [&b"\x08\xff\xff\xff\xff"[..], &b"\0\0\x05".repeat(100_000)].concat();
    let many_values = vec![0x05; 100_000];
    let long_text = [&b"\x0c\0\x10\0\0"[..], &vec![b'a'; 1 << 20]].concat();
    let rows: [(&[u8], Error); 9] = [
        (&nested_objects, Error::Depth { offset: 16 * 4 }),
        (&nested_arrays, Error::Depth { offset: 16 * 5 }),
        (&giant_array, Error::Items { offset: 5 + 4095 }),
        (&giant_ecma, Error::Items { offset: 5 + 4095 * 3 + 2 }),
        (&many_values, Error::Items { offset: 4096 }),
        (&long_text, Error::Bytes { offset: 5 }),
        (b"\x08\x0c\0\0\0", Error::Truncated { offset: 5 }),
        (b"\x0a\xff\xff\xff\xff", Error::Truncated { offset: 5 }),
        (b"\x0c\xff\xff\xff\xff", Error::Truncated { offset: 5 }),
    ];
    for (bytes, error) in rows {
        assert_eq!(read_all(bytes, &mut Budget::default()), Err(error));
    }
}

#[test]
fn depth_counts_open_levels_only() {
    let siblings = b"\x03\0\0\x09".repeat(100);
    assert_eq!(read_all(&siblings, &mut Budget::default()).map(|values| values.len()), Ok(100));
}

#[test]
fn names_over_65535_bytes_are_omitted() {
    let name = "n".repeat(65_536);
    let array = Value::EcmaArray(vec![(name.clone(), Value::Null), ("a".into(), Value::Null)]);
    let mut written = Vec::new();
    write(&array, &mut written);
    assert_eq!(read_one(&written), Ok(Value::EcmaArray(named(&[("a", Value::Null)]))));
    assert_eq!(written[1..5], [0, 0, 0, 1]);
    written.clear();
    write(&Value::TypedObject { class: name, properties: vec![] }, &mut written);
    assert_eq!(read_one(&written), Ok(Value::Object(vec![])));
}

#[test]
fn finds_properties() {
    let value = Value::EcmaArray(named(&[
        ("width", Value::from(1280.0)),
        ("stereo", Value::from(true)),
        ("encoder", Value::from("x")),
    ]));
    assert_eq!(value.property("width").and_then(Value::as_number), Some(1280.0));
    assert_eq!(value.property("stereo").and_then(Value::as_boolean), Some(true));
    assert_eq!(value.property("encoder").and_then(Value::as_str), Some("x"));
    assert_eq!(value.property("height"), None);
    assert_eq!(Value::Null.property("width"), None);
}

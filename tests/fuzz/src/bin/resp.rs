//! RESP3 that a Redis sends: input in parts of any size gives the same values.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use remuxd::testing::cluster::{RespError, RespReader, Value};

/// Returns the values of input that comes in parts, and the error that ends it.
fn read(input: &[u8], step: usize) -> (Vec<Value>, Option<RespError>) {
    let (mut reader, mut buffer, mut values) = (RespReader::default(), BytesMut::new(), Vec::new());
    for part in input.chunks(step) {
        buffer.extend_from_slice(part);
        loop {
            match reader.read(&mut buffer) {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => return (values, Some(error)),
            }
        }
    }
    (values, None)
}

fuzz_target!(|data: &[u8]| {
    let [step, input @ ..] = data else { return };
    let whole = read(input, input.len().max(1));
    assert_eq!(whole, read(input, usize::from(*step) + 1));
});

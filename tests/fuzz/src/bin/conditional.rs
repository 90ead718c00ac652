//! Conditional and range requests: any headers have a response, and a range lies within its file.
//!
//! Input: the file's length in one byte, then a line for each header, whose first byte selects the name.
#![no_main]

use hyper::HeaderMap;
use hyper::header::{
    HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};
use libfuzzer_sys::fuzz_target;
use remuxd::testing::http::{ByteRange, Condition, Validators};

const NAMES: [hyper::header::HeaderName; 6] =
    [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];

fuzz_target!(|data: &[u8]| {
    let [len, lines @ ..] = data else { return };
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n').take(100) {
        let [name, value @ ..] = line else { continue };
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        headers.append(&NAMES[usize::from(*name) % NAMES.len()], value);
    }
    let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(784_111_777);
    let validators = Validators { tag: "\"tag\"".into(), modified: Some(modified) };
    let timeless = Validators { modified: None, ..validators.clone() };
    for validators in [validators, timeless] {
        let condition = validators.check(&headers);
        if !headers.contains_key(IF_MATCH) && !headers.contains_key(IF_UNMODIFIED_SINCE) {
            assert_ne!(condition, Condition::Failed);
        }
        let len = u64::from(*len);
        match validators.range(&headers, len) {
            ByteRange::Part(part) => assert!(part.start < part.end && part.end <= len, "{part:?} of {len}"),
            ByteRange::Unsatisfiable => assert!(headers.contains_key(RANGE)),
            ByteRange::Whole => {}
        }
    }
});

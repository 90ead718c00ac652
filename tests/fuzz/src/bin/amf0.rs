//! AMF0: every value that is read can be written and reads back equal; no input exceeds its budget.
#![no_main]

use libfuzzer_sys::fuzz_target;
use remuxd_bitstream::amf0::{Budget, read_all, write};

fuzz_target!(|data: &[u8]| {
    let Ok(values) = read_all(data, &mut Budget::default()) else { return };
    let mut written = Vec::new();
    values.iter().for_each(|value| write(value, &mut written));
    // Latin-1 names grow when they become UTF-8, so that the second reading has room for twice the bytes.
    let budget = Budget::default();
    let read = read_all(&written, &mut Budget { bytes: 2 * budget.bytes, ..budget });
    let again = read.expect("what was written can be read");
    // Compared as text: NaN is not equal to itself.
    assert_eq!(format!("{values:?}"), format!("{again:?}"));
});

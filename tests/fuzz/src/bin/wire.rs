//! The protocol between the host and a module's process: frames and bodies of any bytes, from either end, are read or
//! refused within the budget, and are equal after they are written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use remuxd::testing::module::check_wire;

fuzz_target!(|data: &[u8]| {
    let [high, low, frames @ ..] = data else { return };
    check_wire(u16::from_be_bytes([*high, *low]).into(), frames);
});

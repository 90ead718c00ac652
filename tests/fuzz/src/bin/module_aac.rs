//! The module `aac`: no stream is a fault, and no call does too much work.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use remuxd::testing::module::Module;

static MODULE: LazyLock<Arc<Module>> = LazyLock::new(remuxd_fuzz::module::<remuxd_aac::Aac>);

fuzz_target!(|data: &[u8]| remuxd_fuzz::remux(&MODULE, data));

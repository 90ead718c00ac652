//! The module `mp3`: no stream is a fault, and no call does too much work.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use remuxd::testing::module::Module;

static MODULE: LazyLock<Arc<Module>> = LazyLock::new(remuxd_fuzz::module::<remuxd_mp3::Mp3>);

fuzz_target!(|data: &[u8]| remuxd_fuzz::remux(&MODULE, data));

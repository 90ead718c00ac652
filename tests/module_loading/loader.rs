//! Loads modules in a process of its own, without the rest of the host.
//!
//! `loader __probe FILE` is the child process that tries a module; the host's program has the same. `loader after DIR
//! WHOLE` is a host that loads a damaged `good` from DIR, says how that went, and goes on with the one in WHOLE.

mod host;

use std::env;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [_, "__probe", file] => remuxd::plugin::probe_main(Path::new(file)),
        [own, "after", damaged, whole] => {
            let (_damaged, lines) = host::load(Path::new(damaged), &["good"], own);
            for line in lines {
                println!("{line}");
            }
            host::assert_good_works(&host::load(Path::new(whole), &["good"], own).0);
            ExitCode::SUCCESS
        }
        _ => ExitCode::FAILURE,
    }
}

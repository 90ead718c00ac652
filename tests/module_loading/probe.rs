//! `probe __probe FILE`: the host's child process that tries a module, without the host.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    match arguments.as_slice() {
        [_, command, file] if command == "__probe" => remuxd::plugin::probe_main(Path::new(file)),
        _ => ExitCode::FAILURE,
    }
}

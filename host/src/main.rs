//! The program: an allocator and the command line.

use std::process::ExitCode;

/// Returns pages to the system after a spike of viewers. Serves the host only: each module has its own allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    remuxd::main()
}

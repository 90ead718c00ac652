//! Remuxes seconds of a stream, for a counter of instructions: `minute --format ts [--seconds 60] [--remux 1]`
//!
//! With `--remux 0` it makes the stream alone, so that the difference is the module's. Prints the bytes that were read and written.

use remuxd_bench::args::Args;
use remuxd_bench::minute::Minute;

fn main() {
    let mut args = Args::from_env();
    let format = args.take("format", "flv".to_owned());
    let seconds = args.take("seconds", 60);
    let remux = args.take("remux", 1) > 0;
    args.finish();
    let minute = Minute::new(&format, seconds);
    let written = if remux { minute.remux(&format) } else { 0 };
    println!("{} {written}", minute.bytes());
}

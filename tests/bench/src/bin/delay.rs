//! A link with a delay, in user space: `delay --microseconds 10000`
//!
//! Standard input and output are two TUN devices. Each packet that one of them gives is written to the other after the delay, in both
//! directions and in order. A device that takes no packet loses it, as a full queue would.

use remuxd_bench::args::Args;
use remuxd_bench::clock;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::stdio::{stdin, stdout};
use std::collections::VecDeque;
use std::io::Result;

const PACKET: usize = 1 << 16;
/// Packets that are read before the other device has its turn.
const TURN: usize = 256;

fn main() -> Result<()> {
    let mut args = Args::from_env();
    let delay = args.take("microseconds", 10_000) * 1000;
    args.finish();

    let mut ways =
        [(stdin(), stdout(), VecDeque::new()), (stdout(), stdin(), VecDeque::<(u64, Vec<u8>)>::new())];
    let mut buffer = vec![0; PACKET];
    loop {
        for (from, to, waiting) in &mut ways {
            for _ in 0..TURN {
                match rustix::io::read(*from, &mut buffer[..]) {
                    Ok(length) => waiting.push_back((clock::now() + delay, buffer[..length].to_vec())),
                    Err(Errno::AGAIN) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            while let Some((due, packet)) = waiting.front()
                && *due <= clock::now()
            {
                match rustix::io::write(*to, packet) {
                    Ok(_) | Err(Errno::AGAIN) => {}
                    Err(error) => return Err(error.into()),
                }
                waiting.pop_front();
            }
        }
        let next = ways.iter().filter_map(|(.., waiting)| Some(waiting.front()?.0)).min();
        let timeout = clock::timespec(next.map_or(clock::SECOND, |due| due.saturating_sub(clock::now())));
        let mut files = ways.each_ref().map(|(from, ..)| PollFd::new(from, PollFlags::IN));
        match poll(&mut files, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

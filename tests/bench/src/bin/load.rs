//! The load: many viewers in one thread.
//!
//! `load --http HOST:PORT [--path /live/bench.flv] [--viewers 1000] [--ramp MS] [--sample 8] [--lifetime 600]`
//!
//! Opens the viewers evenly over `--ramp` and drains them with `MSG_TRUNC`, which copies nothing; every viewer of an
//! even sample is read and checked instead. Answers on stdout, one JSON object a line:
//! - `{"steady":..}` once every viewer has had its first bytes;
//! - to `mark`: the counters since the start, and the latencies since the mark before;
//! - to `joins COUNT GAP`: opens COUNT further viewers, GAP milliseconds after the previous one was done, and reports when
//!   each had its first byte and its first whole picture.
//!
//! Ends with its stdin. Latency is the instant of the read less the label, of tags labelled after the viewer's
//! request; times of a joiner count from before its connect.

use remuxd_bench::args::Args;
use remuxd_bench::viewer::{Arrival, Viewer, request};
use remuxd_bench::{clock, flv, limit};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::io::{Read, Result, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

const STDIN: u64 = u64::MAX;
const READ: usize = 1 << 20;
const JOIN_PATIENCE: Duration = Duration::from_secs(5);

struct Connection {
    socket: Option<TcpStream>,
    requested: u64,
    begun: bool,
    reader: Option<Viewer>,
}

#[derive(Default)]
struct Counters {
    bytes: u64,
    reads: u64,
    begun: usize,
    closed: usize,
    faults: usize,
    labelled: u64,
    /// Microseconds, since the last mark.
    latencies: Vec<u64>,
}

struct Load {
    address: String,
    request: String,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    counters: Counters,
    buffer: Vec<u8>,
}

fn main() -> Result<()> {
    let mut args = Args::from_env();
    let address = args.take("http", "127.0.0.1:8080".to_owned());
    let path = args.take("path", "/live/bench.flv".to_owned());
    let viewers: usize = args.take("viewers", 1000);
    let ramp = args.take("ramp", 2000) * clock::MILLISECOND;
    let sample = args.take("sample", 8).min(viewers);
    limit::lifetime(args.take("lifetime", 600));
    args.finish();
    limit::open_files();

    let mut load = Load {
        request: request(&address, &path),
        address,
        epoll: epoll::create(CreateFlags::CLOEXEC)?,
        connections: Vec::with_capacity(viewers),
        counters: Counters::default(),
        buffer: vec![0; READ],
    };
    epoll::add(&load.epoll, rustix::stdio::stdin(), EventData::new_u64(STDIN), EventFlags::IN)?;

    let start = clock::now();
    let mut steady = false;
    let mut events = Vec::with_capacity(256);
    loop {
        let opened = load.connections.len();
        let mut timeout = clock::SECOND;
        if opened < viewers {
            let due = start + ramp * opened as u64 / viewers as u64;
            timeout = due.saturating_sub(clock::now());
            if timeout == 0 {
                load.open(opened * sample % viewers < sample)?;
            }
        } else if !steady && load.counters.begun == viewers {
            steady = true;
            println!("{{\"steady\":{viewers},\"after_ms\":{}}}", (clock::now() - start) / clock::MILLISECOND);
        }
        events.clear();
        let timeout = clock::timespec(timeout);
        match epoll::wait(&load.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
            Err(Errno::INTR) | Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            match event.data.u64() {
                STDIN if !load.on_stdin()? => return Ok(()),
                STDIN => {}
                index => load.on_readable(index as usize),
            }
        }
    }
}

impl Load {
    fn open(&mut self, read: bool) -> Result<()> {
        let requested = clock::now();
        let mut socket = TcpStream::connect(&self.address)?;
        socket.set_nodelay(true)?;
        socket.write_all(self.request.as_bytes())?;
        socket.set_nonblocking(true)?;
        let index = self.connections.len() as u64;
        epoll::add(&self.epoll, &socket, EventData::new_u64(index), EventFlags::IN)?;
        let reader = read.then(Viewer::default);
        self.connections.push(Connection { socket: Some(socket), requested, begun: false, reader });
        Ok(())
    }

    fn on_readable(&mut self, index: usize) {
        let Connection { socket, requested, begun, reader } = &mut self.connections[index];
        let Some(open) = socket else { return };
        let counters = &mut self.counters;
        let flags = if reader.is_some() { RecvFlags::empty() } else { RecvFlags::TRUNC };
        let length = match rustix::net::recv(&*open, &mut self.buffer[..], flags) {
            Ok((_, length)) => length,
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => 0,
        };
        counters.reads += 1;
        counters.bytes += length as u64;
        if length == 0 {
            *socket = None;
            counters.closed += 1;
            return;
        }
        if !*begun {
            *begun = true;
            counters.begun += 1;
        }
        let Some(viewer) = reader else { return };
        let now = clock::now();
        let fault = viewer.on_bytes(&self.buffer[..length], |Arrival { instant, .. }| {
            counters.labelled += 1;
            if instant > *requested {
                counters.latencies.push(now.saturating_sub(instant) / 1000);
            }
        });
        if let Err(fault) = fault {
            eprintln!("load: viewer {index}: {fault:?}");
            counters.faults += 1;
            *socket = None;
        }
    }

    /// Executes the command on stdin; returns false at its end.
    fn on_stdin(&mut self) -> Result<bool> {
        let mut text = [0; 256];
        let length = rustix::io::read(rustix::stdio::stdin(), &mut text)?;
        // The driver waits for each answer: a command arrives whole.
        for line in String::from_utf8_lossy(&text[..length]).lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["mark"] => self.mark(),
                ["joins", count, gap] => {
                    let (Ok(count), Ok(gap)) = (count.parse(), gap.parse()) else { continue };
                    let (address, request) = (self.address.clone(), self.request.clone());
                    // A blocking thread of its own, so that its times do not depend on the drain.
                    std::thread::spawn(move || println!("{}", joins(&address, &request, count, gap)));
                }
                _ => eprintln!("load: unknown command {line}"),
            }
        }
        Ok(length > 0)
    }

    fn mark(&mut self) {
        let lost: u64 = self.connections.iter().filter_map(|c| c.reader.as_ref()).map(Viewer::lost).sum();
        let counters = &mut self.counters;
        let latencies = &mut counters.latencies;
        latencies.sort_unstable();
        let rank =
            |percent: usize| latencies.get((latencies.len() * percent).div_ceil(100).max(1) - 1).copied();
        let quantile = |percent| rank(percent).unwrap_or_default();
        println!(
            "{{\"instant\":{},\"bytes\":{},\"reads\":{},\"begun\":{},\"closed\":{},\"faults\":{},\"lost\":{lost},\
             \"labelled\":{},\"latencies\":{},\"latency_p50_us\":{},\"latency_p99_us\":{},\"latency_max_us\":{}}}",
            clock::now(),
            counters.bytes,
            counters.reads,
            counters.begun,
            counters.closed,
            counters.faults,
            counters.labelled,
            latencies.len(),
            quantile(50),
            quantile(99),
            quantile(100),
        );
        latencies.clear();
    }
}

/// Runs `count` joiners one after another and returns the JSON line of their times.
fn joins(address: &str, request: &str, count: usize, gap: u64) -> String {
    let (mut byte, mut picture, mut failed) = (Vec::new(), Vec::new(), 0);
    let mut buffer = vec![0; READ];
    for _ in 0..count {
        match join(address, request, &mut buffer) {
            Ok((first_byte, first_picture)) => {
                byte.push(first_byte);
                picture.push(first_picture);
            }
            Err(error) => {
                eprintln!("load: join: {error}");
                failed += 1;
            }
        }
        std::thread::sleep(Duration::from_millis(gap));
    }
    format!("{{\"first_byte_us\":{byte:?},\"first_frame_us\":{picture:?},\"failed\":{failed}}}")
}

/// The microseconds to the first byte and to the first whole picture.
fn join(address: &str, request: &str, buffer: &mut [u8]) -> Result<(u64, u64)> {
    let start = clock::now();
    let elapsed = || (clock::now() - start) / 1000;
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(JOIN_PATIENCE))?;
    socket.write_all(request.as_bytes())?;
    let mut viewer = Viewer::default();
    let mut first_byte = None;
    loop {
        let length = socket.read(buffer)?;
        let now = elapsed();
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let first_byte = *first_byte.get_or_insert(now);
        let mut picture = false;
        viewer
            .on_bytes(&buffer[..length], |arrival| picture |= arrival.kind == flv::VIDEO)
            .map_err(|fault| std::io::Error::other(format!("{fault:?}")))?;
        if picture {
            return Ok((first_byte, now));
        }
    }
}

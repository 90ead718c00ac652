//! The load: many viewers or players in one thread.
//!
//! `load --address HOST:PORT [--protocol http] [--path /live/bench.flv] [--viewers 1000] [--ramp MS] [--sample 8] [--stalled 0]
//! [--leave 0] [--capture FILE] [--lifetime 600]`
//!
//! Protocols are `http`, `ws` (WebSocket), `tls` (HTTPS) and `rtmp`, for which the path is `app/stream`. Opens the viewers evenly
//! over `--ramp` and drains them with `MSG_TRUNC`, which copies nothing; every viewer of an even sample is read and checked instead,
//! which needs FLV or RTMP. Of the viewers, an even share of `--stalled` reads nothing more after its first bytes, behind small
//! buffers. With `--leave 1` each viewer leaves after its first bytes. Answers on stdout, one JSON object a line:
//! - `{"steady":..}` once every viewer has had its first bytes, with their times since the connect;
//! - to `mark`: the counters since the start, and the latencies since the mark before;
//! - to `joins COUNT GAP`: opens COUNT further viewers over HTTP, GAP milliseconds after the previous one was done, and reports
//!   when each had its first byte and its first whole picture;
//! - to `capture SECONDS` (with `--capture`): records what arrives, then answers.
//!
//! Ends with its stdin. Latency is the instant of the read less the label, of tags labelled after the viewer's
//! request; times of a joiner count from before its connect.

mod connection;
mod joins;

use connection::{Connection, Kind, Protocol, Reader, Source};
use remuxd_bench::args::Args;
use remuxd_bench::capture::Capture;
use remuxd_bench::viewer::request;
use remuxd_bench::{clock, limit};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::io::Result;
use std::os::fd::OwnedFd;

const STDIN: u64 = u64::MAX;
const READ: usize = 1 << 20;

#[derive(Default)]
struct Counters {
    bytes: u64,
    reads: u64,
    begun: usize,
    closed: usize,
    faults: usize,
    labelled: u64,
    /// Microseconds from each connect to the first bytes of the stream.
    first: Vec<u64>,
    /// Microseconds, since the last mark.
    latencies: Vec<u64>,
}

struct Load {
    source: Source,
    leave: bool,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    counters: Counters,
    capture: Option<Recording>,
    buffer: Vec<u8>,
}

struct Recording {
    file: String,
    capture: Capture,
    /// Nanoseconds to record.
    length: u64,
    /// The end of the recording, once it has begun.
    until: Option<u64>,
}

fn main() -> Result<()> {
    let mut args = Args::from_env();
    let address = args.take("address", "127.0.0.1:8080".to_owned());
    let protocol = args.take("protocol", Protocol::Http);
    let path = args.take("path", "/live/bench.flv".to_owned());
    let viewers: usize = args.take("viewers", 1000);
    let ramp = args.take("ramp", 2000) * clock::MILLISECOND;
    let sample = args.take("sample", 8).min(viewers);
    let stalled = args.take("stalled", 0).min(viewers);
    let leave = args.take("leave", 0) > 0;
    let capture = args.take("capture", String::new());
    limit::lifetime(args.take("lifetime", 600));
    args.finish();
    limit::open_files();

    let mut load = Load {
        source: Source::new(address, protocol, path)?,
        leave,
        epoll: epoll::create(CreateFlags::CLOEXEC)?,
        connections: Vec::with_capacity(viewers),
        counters: Counters::default(),
        capture: (!capture.is_empty()).then(|| Recording {
            file: capture,
            capture: Capture::default(),
            length: 0,
            until: None,
        }),
        buffer: vec![0; READ],
    };
    epoll::add(&load.epoll, rustix::stdio::stdin(), EventData::new_u64(STDIN), EventFlags::IN)?;

    let start = clock::now();
    let mut steady = false;
    let mut events = Vec::with_capacity(256);
    loop {
        let opened = load.connections.len();
        let mut timeout = clock::SECOND / 10;
        if opened < viewers {
            let due = start + ramp * opened as u64 / viewers as u64;
            timeout = due.saturating_sub(clock::now());
            if timeout == 0 {
                let kind = if opened * stalled % viewers < stalled {
                    Kind::Stalled
                } else if opened * sample % viewers < sample {
                    Kind::Checked
                } else {
                    Kind::Drained
                };
                load.open(kind)?;
            }
        } else if !steady && load.counters.begun + load.counters.faults >= viewers {
            steady = true;
            load.print_steady((clock::now() - start) / clock::MILLISECOND);
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
                index => load.on_readable(index as usize)?,
            }
        }
        load.end_capture()?;
    }
}

impl Load {
    fn open(&mut self, kind: Kind) -> Result<()> {
        let connection = self.source.open(kind)?;
        if let Some(socket) = &connection.socket {
            let index = self.connections.len() as u64;
            epoll::add(&self.epoll, socket, EventData::new_u64(index), EventFlags::IN)?;
        }
        self.connections.push(connection);
        Ok(())
    }

    fn on_readable(&mut self, index: usize) -> Result<()> {
        let connection = &mut self.connections[index];
        let Some(socket) = &connection.socket else { return Ok(()) };
        let counters = &mut self.counters;
        let discard = matches!(connection.reader, Reader::Discard) && self.capture.is_none();
        let flags = if discard { RecvFlags::TRUNC } else { RecvFlags::empty() };
        let length = match rustix::net::recv(socket, &mut self.buffer[..], flags) {
            Ok((_, length)) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(_) => 0,
        };
        counters.reads += 1;
        counters.bytes += length as u64;
        if length == 0 {
            connection.socket = None;
            counters.closed += 1;
            return Ok(());
        }
        let now = clock::now();
        if let Some(Recording { capture, until: Some(_), .. }) = &mut self.capture {
            capture.on_bytes(now, &self.buffer[..length]);
        }
        let requested = connection.requested;
        let arrived = |instant| {
            counters.labelled += 1;
            if instant > requested {
                counters.latencies.push(now.saturating_sub(instant) / 1000);
            }
        };
        let begun = match discard {
            true => true,
            false => match connection.on_bytes(&self.buffer[..length], arrived) {
                Ok(begun) => begun,
                Err(fault) => {
                    eprintln!("load: viewer {index}: {fault:?}");
                    self.counters.faults += 1;
                    connection.socket = None;
                    return Ok(());
                }
            },
        };
        if begun && !connection.begun {
            connection.begun = true;
            self.counters.begun += 1;
            self.counters.first.push((now - requested) / 1000);
            if self.leave {
                connection.socket = None;
            } else if connection.kind == Kind::Stalled
                && let Some(socket) = &connection.socket
            {
                epoll::delete(&self.epoll, socket)?;
            }
        }
        Ok(())
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
                    let (address, path) = (self.source.address.clone(), &self.source.path);
                    let request = request(&address, path);
                    // A blocking thread of its own, so that its times do not depend on the drain.
                    std::thread::spawn(move || println!("{}", joins::run(&address, &request, count, gap)));
                }
                ["capture", seconds] => {
                    if let (Some(recording), Ok(seconds)) = (&mut self.capture, seconds.parse::<u64>()) {
                        recording.length = seconds * clock::SECOND;
                        // The first batch comes up to a merge later.
                        recording.until = Some(clock::now() + recording.length + clock::SECOND);
                    }
                }
                _ => eprintln!("load: unknown command {line}"),
            }
        }
        Ok(length > 0)
    }

    fn end_capture(&mut self) -> Result<()> {
        if self
            .capture
            .as_ref()
            .is_some_and(|recording| recording.until.is_some_and(|until| until <= clock::now()))
            && let Some(Recording { file, capture, length, .. }) = self.capture.take()
        {
            capture.write(length, &mut std::io::BufWriter::new(std::fs::File::create(file)?))?;
            println!("{{\"captured\":true}}");
        }
        Ok(())
    }

    fn print_steady(&mut self, after: u64) {
        let first = &mut self.counters.first;
        first.sort_unstable();
        println!(
            "{{\"steady\":{},\"after_ms\":{after},\"first_p50_us\":{},\"first_p99_us\":{}}}",
            first.len(),
            quantile(first, 50),
            quantile(first, 99),
        );
    }

    fn mark(&mut self) {
        let lost: u64 = self.connections.iter().map(Connection::lost).sum();
        let counters = &mut self.counters;
        let latencies = &mut counters.latencies;
        latencies.sort_unstable();
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
            quantile(latencies, 50),
            quantile(latencies, 99),
            quantile(latencies, 100),
        );
        latencies.clear();
    }
}

/// The nearest-rank quantile of an ascending list; 0 if it is empty.
fn quantile(ordered: &[u64], percent: usize) -> u64 {
    ordered.get((ordered.len() * percent).div_ceil(100).max(1) - 1).copied().unwrap_or_default()
}

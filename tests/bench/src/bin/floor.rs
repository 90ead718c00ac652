//! The floor: the minimal work of a server that sends a live stream to many sockets.
//!
//! `floor [--listen 127.0.0.1:0] [--tick 40] [--kbit 2000] [--gop 50] [--replay FILE] [--lifetime 600]`
//!
//! One thread, one epoll. It makes the stream itself. Every `--tick` milliseconds (0: whenever a tag is due) it forms
//! one HTTP chunk of the tags that came due and writes it to every socket, one `write` each. With `--replay` it sends the
//! batches of a captured stream instead, each at its time, over and over: the same bytes at the same pace, for any format.
//!
//! All viewers read the same log of bytes and a viewer is an offset into it; a joiner gets the response header and the log
//! from the last keyframe at once (of a captured stream, what comes next). A socket that is full keeps its offset until it
//! drains; one that falls out of the log is closed.
//!
//! Prints `listening http ADDR` and `ready`, like the host. Ends at SIGTERM.

use remuxd_bench::args::Args;
use remuxd_bench::content::{Audio, Content};
use remuxd_bench::{capture, clock, essence, flv, limit};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use std::io::{IoSlice, Result};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

/// The log is cut back to its last GOP when it is longer than this.
const LOG_LIMIT: usize = 4 << 20;
const LISTENER: u64 = u64::MAX;

struct Viewer {
    socket: TcpStream,
    /// None until the request is read.
    offset: Option<u64>,
}

/// Where the bytes come from.
enum Feed {
    Content {
        content: Content,
        tick: u64,
    },
    /// The batches, the one that is due, the start of this pass, and the length of one.
    Replay {
        batches: Vec<capture::Batch>,
        next: usize,
        start: u64,
        length: u64,
    },
}

impl Feed {
    fn replay(start: u64, batches: Vec<capture::Batch>) -> Self {
        let [first, second] = [&batches[0], &batches[batches.len() - 1]].map(|batch| batch.at);
        // The mean distance of two batches follows the last one.
        let length = (second - first) * batches.len() as u64 / (batches.len() as u64 - 1);
        Self::Replay { batches, next: 0, start, length }
    }

    /// The instant after `now` at which bytes are due.
    fn due(&mut self, now: u64) -> u64 {
        match self {
            Self::Content { tick: 0, content } => content.due(),
            Self::Content { tick, .. } => now + *tick,
            Self::Replay { batches, next, start, .. } => *start + batches[*next].at,
        }
    }
}

struct Floor {
    epoll: OwnedFd,
    listener: TcpListener,
    /// By file descriptor.
    viewers: Vec<Option<Viewer>>,
    head: Vec<u8>,
    log: Vec<u8>,
    /// The offset of the log's first byte.
    origin: u64,
    /// The offset of the chunk that begins with the last keyframe.
    join: u64,
    full: u64,
    overrun: u64,
}

fn main() -> Result<()> {
    let mut args = Args::from_env();
    let listen = args.take("listen", "127.0.0.1:0".to_owned());
    let tick = args.take("tick", 40) * clock::MILLISECOND;
    let (kbit, gop) = (args.take("kbit", 2000), args.take("gop", 50));
    let replay = args.take("replay", String::new());
    limit::lifetime(args.take("lifetime", 600));
    args.finish();
    limit::open_files();

    let mut floor = Floor::listen(&listen)?;
    println!("listening http {}\nready", floor.listener.local_addr()?);
    let start = clock::now();
    let mut feed = if replay.is_empty() {
        Feed::Content { content: Content::new(start, kbit, gop, Audio::Aac), tick }
    } else {
        floor.head.clear();
        Feed::replay(start, capture::read(&std::fs::read(replay)?)?)
    };
    let mut next = start;
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        let timeout = clock::timespec(next.saturating_sub(clock::now()));
        match epoll::wait(&floor.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
            Err(Errno::INTR) | Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            floor.on_event(*event)?;
        }
        if clock::now() >= next {
            floor.append(&mut feed, next);
            floor.write_all();
            next = feed.due(next);
        }
    }
}

impl Floor {
    fn listen(address: &str) -> Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;

        let metadata = Content::new(0, 2000, 1, Audio::Aac).metadata();
        let mut preamble = flv::HEADER.to_vec();
        flv::write_tag(&mut preamble, flv::SCRIPT, 0, &flv::metadata(&metadata));
        flv::write_tag(&mut preamble, flv::VIDEO, 0, &essence::video_config());
        flv::write_tag(&mut preamble, flv::AUDIO, 0, &essence::aac_config());
        let mut head = b"HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\nCache-Control: no-store\r\n\
            Transfer-Encoding: chunked\r\n\r\n"
            .to_vec();
        write_chunk(&mut head, &preamble);
        let (viewers, log) = (Vec::new(), Vec::new());
        Ok(Self { epoll, listener, viewers, head, log, origin: 0, join: 0, full: 0, overrun: 0 })
    }

    fn on_event(&mut self, event: Event) -> Result<()> {
        if event.data.u64() == LISTENER {
            return self.accept();
        }
        let index = event.data.u64() as usize;
        let flags = event.flags;
        let Some(viewer) = self.viewers.get_mut(index).and_then(Option::as_mut) else { return Ok(()) };
        let alive = match viewer.offset {
            None => {
                let mut request = [0; 2048];
                match rustix::io::read(&viewer.socket, &mut request) {
                    // A bench's request comes in one piece.
                    Ok(length) if request[..length].starts_with(b"GET ") => self.join(index),
                    Err(Errno::AGAIN) => true,
                    _ => false,
                }
            }
            Some(_) if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) => false,
            Some(_) => self.write(index),
        };
        if !alive {
            self.viewers[index] = None;
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        while let Ok((socket, _)) = self.listener.accept() {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let index = socket.as_raw_fd() as usize;
            // Edge triggered: OUT fires only after a write that found the socket full.
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
            epoll::add(&self.epoll, &socket, EventData::new_u64(index as u64), flags)?;
            if self.viewers.len() <= index {
                self.viewers.resize_with(index + 1, || None);
            }
            self.viewers[index] = Some(Viewer { socket, offset: None });
        }
        Ok(())
    }

    /// Sends the header and the GOP so far; false if the viewer is lost.
    fn join(&mut self, index: usize) -> bool {
        let Some(viewer) = &mut self.viewers[index] else { return false };
        let gop = &self.log[(self.join - self.origin) as usize..];
        if self.head.is_empty() {
            viewer.offset = Some(self.join);
            return true;
        }
        match rustix::io::writev(&viewer.socket, &[IoSlice::new(&self.head), IoSlice::new(gop)]) {
            Ok(written) if written >= self.head.len() => {
                viewer.offset = Some(self.join + (written - self.head.len()) as u64);
                // The edge may have come while the burst was in flight.
                written == self.head.len() + gop.len() || self.write(index)
            }
            _ => false,
        }
    }

    /// Appends what is due at `instant`.
    fn append(&mut self, feed: &mut Feed, instant: u64) {
        match feed {
            Feed::Content { content, .. } => self.append_chunk(content, instant),
            Feed::Replay { batches, next, start, length } => {
                if self.log.len() > LOG_LIMIT {
                    self.cut(self.origin + (LOG_LIMIT / 2) as u64);
                }
                self.log.extend(&batches[*next].bytes);
                self.join = self.origin + self.log.len() as u64;
                *next += 1;
                if *next == batches.len() {
                    (*next, *start) = (0, *start + *length);
                }
            }
        }
    }

    /// Removes the log before the offset `start`.
    fn cut(&mut self, start: u64) {
        self.log.drain(..(start - self.origin) as usize);
        self.origin = start;
    }

    /// Forms one chunk of all tags due at `instant`.
    fn append_chunk(&mut self, content: &mut Content, instant: u64) {
        let mut chunk = Vec::new();
        let mut keyframe = false;
        while content.due() <= instant {
            let tag = content.tag(content.due());
            keyframe |= tag.keyframe;
            flv::write_tag(&mut chunk, tag.kind, tag.timestamp, tag.body);
        }
        if chunk.is_empty() {
            return;
        }
        if keyframe {
            if self.log.len() > LOG_LIMIT {
                self.cut(self.join);
            }
            self.join = self.origin + self.log.len() as u64;
        }
        write_chunk(&mut self.log, &chunk);
    }

    fn write_all(&mut self) {
        for index in 0..self.viewers.len() {
            if matches!(&self.viewers[index], Some(Viewer { offset: Some(_), .. })) && !self.write(index) {
                self.viewers[index] = None;
            }
        }
    }

    /// Writes what the log holds beyond the viewer's offset; false if the viewer is lost.
    fn write(&mut self, index: usize) -> bool {
        let Some(Viewer { socket, offset: Some(offset) }) = &mut self.viewers[index] else { return true };
        let Some(start) = offset.checked_sub(self.origin) else {
            self.overrun += 1;
            eprintln!(
                "floor: {} viewers fell out of the log, sockets were full {} times",
                self.overrun, self.full
            );
            return false;
        };
        let rest = &self.log[start as usize..];
        if rest.is_empty() {
            return true;
        }
        match rustix::io::write(socket, rest) {
            Ok(written) => {
                *offset += written as u64;
                self.full += u64::from(written < rest.len());
                true
            }
            Err(Errno::AGAIN) => {
                self.full += 1;
                true
            }
            Err(_) => false,
        }
    }
}

fn write_chunk(out: &mut Vec<u8>, body: &[u8]) {
    out.extend(format!("{:x}\r\n", body.len()).bytes());
    out.extend(body);
    out.extend(b"\r\n");
}

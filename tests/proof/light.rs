//! Thousands of viewers: each reads its stream as it arrives, keeps none of it, and checks every frame.
//!
//! Frames carry their numbers (see `publisher::Numbered`): in FLV and AAC none may be repeated or out of order, and those that are
//! missing are counted. In TS the counters of packets and the times of pictures prove the same.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use remuxd_tests::publisher::Numbered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// An empty pong, masked with zeros (RFC 6455, 5.5.3).
const PONG: &[u8] = &[0x8a, 0x80, 0, 0, 0, 0];

/// The transport and format of a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Flv,
    WebSocketFlv,
    Ts,
    Aac,
}

impl Format {
    pub const ALL: [Format; 4] = [Format::Flv, Format::WebSocketFlv, Format::Ts, Format::Aac];

    pub fn path(self, key: &str) -> String {
        let extension = match self {
            Format::Flv | Format::WebSocketFlv => "flv",
            Format::Ts => "ts",
            Format::Aac => "aac",
        };
        format!("/{key}.{extension}")
    }
}

/// The result of one viewer.
#[derive(Debug)]
pub struct Seen {
    pub format: Format,
    /// Number of frames, pictures or packets that were checked.
    pub checked: u64,
    /// Number of frames that were left out.
    pub missing: u64,
    /// The longest wait between two reads with data, after the first second.
    pub longest_wait: Duration,
    /// The first fault; an end that was not clean is one.
    pub fault: Option<String>,
}

/// Watches until the stream ends, or until `stop` is cancelled.
pub async fn watch(address: SocketAddr, format: Format, key: String, stop: CancellationToken) -> Seen {
    let mut seen = Seen { format, checked: 0, missing: 0, longest_wait: Duration::ZERO, fault: None };
    let read = read(address, format, &key, &mut seen);
    if let Some(Err(fault)) = stop.run_until_cancelled(read).await {
        seen.fault = Some(fault);
    }
    seen
}

async fn read(address: SocketAddr, format: Format, key: &str, seen: &mut Seen) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut socket = TcpStream::connect(address).await.map_err(text)?;
    let upgrade = match format {
        Format::WebSocketFlv => {
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        }
        _ => "",
    };
    let request = format!("GET {} HTTP/1.1\r\nHost: host\r\n{upgrade}\r\n", format.path(key));
    socket.write_all(request.as_bytes()).await.map_err(text)?;
    let mut input = Vec::with_capacity(16 << 10);
    let head = loop {
        if let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if socket.read_buf(&mut input).await.map_err(text)? == 0 {
            return Err("closed before the response".into());
        }
    };
    let status = String::from_utf8_lossy(&input[..head.min(12)]).into_owned();
    input.drain(..head);
    let websocket = format == Format::WebSocketFlv;
    if status != if websocket { "HTTP/1.1 101" } else { "HTTP/1.1 200" } {
        return Err(status);
    }
    let framing = if websocket { Framing::WebSocket } else { Framing::Chunked };
    let (mut body, mut checker) = (Vec::new(), Checker::new(format));
    let (began, mut last) = (Instant::now(), Instant::now());
    loop {
        let mut pings = 0;
        let ended = framing.unwrap(&mut input, &mut body, &mut pings)?;
        for _ in 0..pings {
            socket.write_all(PONG).await.map_err(text)?;
        }
        checker.check(&mut body)?;
        (seen.checked, seen.missing) = (checker.checked, checker.missing);
        if ended {
            return Ok(());
        }
        if socket.read_buf(&mut input).await.map_err(text)? == 0 {
            return Err("cut off".into());
        }
        if began.elapsed() > Duration::from_secs(1) {
            seen.longest_wait = seen.longest_wait.max(last.elapsed());
        }
        last = Instant::now();
    }
}

/// The framing around the bytes of the format.
enum Framing {
    Chunked,
    WebSocket,
}

impl Framing {
    /// Moves complete frames to `body`, and counts pings. Returns true at the clean end.
    fn unwrap(&self, input: &mut Vec<u8>, body: &mut Vec<u8>, pings: &mut u32) -> Result<bool, String> {
        let mut at = 0;
        let ended = loop {
            let rest = &input[at..];
            let (start, len, trailer, last) = match self {
                Framing::Chunked => {
                    let Some(line) = rest.windows(2).position(|window| window == b"\r\n") else {
                        break false;
                    };
                    let size = std::str::from_utf8(&rest[..line]).map_err(|error| error.to_string())?;
                    let len = usize::from_str_radix(size, 16).map_err(|_| format!("chunk size {size:?}"))?;
                    (line + 2, len, 2, len == 0)
                }
                Framing::WebSocket => {
                    let &[first, short, ..] = rest else { break false };
                    let (start, len) = match short {
                        0..=125 => (2, usize::from(short)),
                        126 if rest.len() >= 4 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
                        127 if rest.len() >= 10 => {
                            let len = rest[2..10].iter().fold(0, |len, &byte| len << 8 | u64::from(byte));
                            (10, len as usize)
                        }
                        _ => break false,
                    };
                    match first {
                        0x82 => (start, len, 0, false),
                        0x88 => (start, len, 0, true),
                        // A ping.
                        0x89 => {
                            if rest.len() < start + len {
                                break false;
                            }
                            at += start + len;
                            *pings += 1;
                            continue;
                        }
                        other => return Err(format!("WebSocket frame {other:#x}")),
                    }
                }
            };
            if rest.len() < start + len + trailer {
                break false;
            }
            if !last {
                body.extend_from_slice(&rest[start..start + len]);
            } else if matches!(self, Framing::WebSocket) && rest[start..].get(..2) != Some(&[3, 232]) {
                return Err("a close code other than 1000".into());
            }
            at += start + len + trailer;
            if last {
                break true;
            }
        };
        input.drain(..at);
        Ok(ended)
    }
}

/// Checks a format as it arrives.
struct Checker {
    format: Format,
    started: bool,
    checked: u64,
    missing: u64,
    video: Option<u32>,
    audio: Option<u32>,
    counters: HashMap<u16, u8>,
    /// Decoding times by PID.
    times: HashMap<u16, u64>,
}

impl Checker {
    fn new(format: Format) -> Checker {
        Checker {
            format,
            started: false,
            checked: 0,
            missing: 0,
            video: None,
            audio: None,
            counters: HashMap::new(),
            times: HashMap::new(),
        }
    }

    /// Checks complete frames.
    fn check(&mut self, body: &mut Vec<u8>) -> Result<(), String> {
        let mut at = 0;
        while let Some(len) = self.unit(&body[at..])? {
            at += len;
        }
        body.drain(..at);
        Ok(())
    }

    fn unit(&mut self, rest: &[u8]) -> Result<Option<usize>, String> {
        match self.format {
            Format::Flv | Format::WebSocketFlv => self.tag(rest),
            Format::Ts => self.packet(rest),
            Format::Aac => self.frame(rest),
        }
    }

    fn tag(&mut self, rest: &[u8]) -> Result<Option<usize>, String> {
        if !self.started {
            if rest.len() < 13 {
                return Ok(None);
            }
            self.started = true;
            return if rest.starts_with(b"FLV") { Ok(Some(13)) } else { Err("no FLV header".into()) };
        }
        if rest.len() < 11 {
            return Ok(None);
        }
        let len = usize::from(rest[1]) << 16 | usize::from(rest[2]) << 8 | usize::from(rest[3]);
        let whole = 11 + len + 4;
        if rest.len() < whole {
            return Ok(None);
        }
        let payload = &rest[11..11 + len];
        let number =
            |at: usize| payload.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_be_bytes);
        let (last, number) = match (rest[0], payload.get(1)) {
            (9, Some(1)) => (&mut self.video, Numbered::number_in(payload)),
            (8, Some(1)) => (&mut self.audio, number(2)),
            _ => return Ok(Some(whole)),
        };
        self.missing += follow(last, number.ok_or("a frame without a number")?)?;
        let time = u32::from_be_bytes([rest[7], rest[4], rest[5], rest[6]]);
        self.time(u16::from(rest[0]), u64::from(time))?;
        self.checked += 1;
        Ok(Some(whole))
    }

    fn frame(&mut self, rest: &[u8]) -> Result<Option<usize>, String> {
        if rest.len() < 7 {
            return Ok(None);
        }
        if rest[0] != 0xff || rest[1] & 0xf6 != 0xf0 {
            return Err("no ADTS header".into());
        }
        let header = if rest[1] & 1 == 1 { 7 } else { 9 };
        let len = usize::from(rest[3] & 3) << 11 | usize::from(rest[4]) << 3 | usize::from(rest[5] >> 5);
        if rest.len() < len {
            return Ok(None);
        }
        let number = rest.get(header..header + 4).and_then(|four| four.try_into().ok());
        self.missing += follow(&mut self.audio, number.map(u32::from_be_bytes).ok_or("a short frame")?)?;
        self.checked += 1;
        Ok(Some(len))
    }

    fn packet(&mut self, rest: &[u8]) -> Result<Option<usize>, String> {
        let Some(packet) = rest.get(..188) else { return Ok(None) };
        if packet[0] != 0x47 {
            return Err("no sync byte".into());
        }
        let pid = u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]);
        let (has_field, has_payload) = (packet[3] & 0x20 != 0, packet[3] & 0x10 != 0);
        if has_payload {
            let counter = packet[3] & 0x0f;
            if let Some(before) = self.counters.insert(pid, counter)
                && counter != (before + 1) & 0x0f
            {
                return Err(format!("PID {pid}: counter {counter} after {before}"));
            }
            self.checked += 1;
        }
        let start = if has_field { 5 + usize::from(packet[4]) } else { 4 };
        if packet[1] & 0x40 != 0 && packet.get(start..start + 3) == Some(&[0, 0, 1]) {
            // The DTS, or else the PTS.
            let both = packet.get(start + 7).is_some_and(|flags| flags & 0xc0 == 0xc0);
            let at = start + if both { 14 } else { 9 };
            if let Some(&[a, b, c, d, e]) = packet.get(at..at + 5) {
                let high = u64::from(a >> 1 & 7) << 30;
                let time = high
                    | u64::from(b) << 22
                    | u64::from(c >> 1) << 15
                    | u64::from(d) << 7
                    | u64::from(e >> 1);
                self.time(pid, time)?;
            }
        }
        Ok(Some(188))
    }

    fn time(&mut self, track: u16, time: u64) -> Result<(), String> {
        match self.times.insert(track, time) {
            Some(before) if time <= before => Err(format!("track {track}: {time} after {before}")),
            _ => Ok(()),
        }
    }
}

/// Returns how many frames are missing before this one.
fn follow(last: &mut Option<u32>, number: u32) -> Result<u64, String> {
    match last.replace(number) {
        Some(before) if number <= before => Err(format!("frame {number} after {before}")),
        Some(before) => Ok(u64::from(number - before - 1)),
        None => Ok(0),
    }
}

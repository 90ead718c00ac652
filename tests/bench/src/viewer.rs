//! A viewer that reads an FLV file from an HTTP/1.1 response (RFC 9112), chunked or close-delimited, or from WebSocket messages
//! (RFC 6455).
//!
//! It checks that chunks, frames and tags are contiguous, that timestamps do not decrease, and that the labels of
//! [`content`](crate::content) ascend without a gap.

use crate::content::read_label;
use crate::flv;

/// The request of a viewer over HTTP.
pub fn request(address: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: remuxd-bench\r\n\r\n")
}

/// The request of a viewer over WebSocket, with the key of RFC 6455, section 1.2.
pub fn upgrade(address: &str, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: remuxd-bench\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// An error in a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The status line, which is neither 200 nor 101, or RTMP's refusal.
    Status(String),
    /// The header or a chunk size does not parse.
    Http,
    /// A WebSocket frame that is masked, or of an unknown kind.
    Frame,
    /// What arrived are no RTMP chunks.
    Chunk,
    /// The file header is not that of FLV.
    FileHeader,
    /// TagType, StreamID or PreviousTagSize of the tag that starts at this byte of the file.
    Tag(u64),
    /// A timestamp is lower than the one before of the same track.
    Timestamp(u32, u32),
    /// A label's number is not above the one before of the same track.
    Repeated(u32, u32),
    /// The chunked body ended, or the WebSocket was closed.
    Ended,
}

/// A labelled tag that has arrived whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The FLV TagType.
    pub kind: u8,
    /// The instant on its label.
    pub instant: u64,
}

enum Http {
    Head,
    Size,
    Data(usize),
    DataEnd,
    Close,
    Frame,
    Message(usize),
}

#[derive(Clone, Copy, Default)]
struct Track {
    timestamp: Option<u32>,
    number: Option<u32>,
}

/// The timestamps and labels of a viewer's two tracks.
#[derive(Default)]
pub struct Labels {
    audio: Track,
    video: Track,
    lost: u64,
}

impl Labels {
    /// Number of labelled tags that are missing between those that arrived.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Checks a tag and returns the instant on its label; none if it bears no label.
    ///
    /// # Errors
    /// A timestamp or number that is not above the one before.
    pub fn on_tag(&mut self, kind: u8, timestamp: u32, body: &[u8]) -> Result<Option<u64>, Fault> {
        let Some((instant, number)) = read_label(kind, body) else { return Ok(None) };
        let track = if kind == flv::VIDEO { &mut self.video } else { &mut self.audio };
        if let Some(before) = track.timestamp.replace(timestamp).filter(|&before| timestamp < before) {
            return Err(Fault::Timestamp(before, timestamp));
        }
        match track.number.replace(number) {
            Some(before) if number <= before => return Err(Fault::Repeated(before, number)),
            Some(before) => self.lost += u64::from(number - before - 1),
            None => {}
        }
        Ok(Some(instant))
    }
}

/// The state of one response.
pub struct Viewer {
    http: Http,
    raw: Vec<u8>,
    file: Vec<u8>,
    position: u64,
    labels: Labels,
}

impl Default for Viewer {
    fn default() -> Self {
        Self { http: Http::Head, raw: Vec::new(), file: Vec::new(), position: 0, labels: Labels::default() }
    }
}

impl Viewer {
    /// Number of labelled tags that are missing between those that arrived.
    pub fn lost(&self) -> u64 {
        self.labels.lost()
    }

    /// Reads bytes of the socket, and calls `arrived` for each labelled tag that is now complete.
    ///
    /// # Errors
    /// The first fault of the response; the viewer must not be used afterwards.
    pub fn on_bytes(&mut self, bytes: &[u8], mut arrived: impl FnMut(Arrival)) -> Result<(), Fault> {
        self.raw.extend(bytes);
        let taken = self.read_http()?;
        self.raw.drain(..taken);
        let taken = self.read_file(&mut arrived)?;
        self.file.drain(..taken);
        self.position += taken as u64;
        Ok(())
    }

    /// Moves body bytes from `raw` to `file`; returns the number of bytes of `raw` that were read.
    fn read_http(&mut self) -> Result<usize, Fault> {
        let mut at = 0;
        loop {
            let rest = &self.raw[at..];
            match self.http {
                Http::Head => {
                    let Some(end) = find(rest, b"\r\n\r\n") else { return Ok(at) };
                    let head = String::from_utf8_lossy(&rest[..end]).to_ascii_lowercase();
                    let status = head.split(' ').nth(1).unwrap_or_default();
                    self.http = match status {
                        "101" => Http::Frame,
                        "200" if head.contains("\r\ntransfer-encoding: chunked") => Http::Size,
                        "200" => Http::Close,
                        _ => return Err(Fault::Status(head.lines().next().unwrap_or_default().to_owned())),
                    };
                    at += end + 4;
                }
                Http::Size => {
                    let Some(end) = find(rest, b"\r\n") else { return Ok(at) };
                    let size = std::str::from_utf8(&rest[..end]).map_err(|_| Fault::Http)?;
                    let size = usize::from_str_radix(size, 16).map_err(|_| Fault::Http)?;
                    if size == 0 {
                        return Err(Fault::Ended);
                    }
                    self.http = Http::Data(size);
                    at += end + 2;
                }
                Http::Data(left) => {
                    let piece = left.min(rest.len());
                    self.file.extend(&rest[..piece]);
                    at += piece;
                    if piece < left {
                        self.http = Http::Data(left - piece);
                        return Ok(at);
                    }
                    self.http = Http::DataEnd;
                }
                Http::DataEnd => {
                    let Some(end) = rest.first_chunk() else { return Ok(at) };
                    if end != b"\r\n" {
                        return Err(Fault::Http);
                    }
                    self.http = Http::Size;
                    at += 2;
                }
                Http::Close => {
                    self.file.extend(rest);
                    return Ok(self.raw.len());
                }
                Http::Frame => {
                    let Some((header, length)) = frame(rest)? else { return Ok(at) };
                    self.http = Http::Message(length);
                    at += header;
                }
                Http::Message(left) => {
                    let piece = left.min(rest.len());
                    self.file.extend(&rest[..piece]);
                    at += piece;
                    if piece < left {
                        self.http = Http::Message(left - piece);
                        return Ok(at);
                    }
                    self.http = Http::Frame;
                }
            }
        }
    }

    /// Checks the whole tags of `file`; returns their length.
    fn read_file(&mut self, arrived: &mut impl FnMut(Arrival)) -> Result<usize, Fault> {
        let mut at = 0;
        if self.position == 0 {
            let Some(header) = self.file.first_chunk::<13>() else { return Ok(0) };
            // The flags may claim one track or both.
            if header[..4] != flv::HEADER[..4] || header[5..] != flv::HEADER[5..] {
                return Err(Fault::FileHeader);
            }
            at = header.len();
        }
        while let Some(header) = self.file[at..].first_chunk::<11>() {
            let fault = Fault::Tag(self.position + at as u64);
            let [kind, a, b, c, d, e, f, g, stream @ ..] = *header;
            let size = u32::from_be_bytes([0, a, b, c]);
            let timestamp = u32::from_be_bytes([g, d, e, f]);
            if ![flv::AUDIO, flv::VIDEO, flv::SCRIPT].contains(&kind) || stream != [0; 3] {
                return Err(fault);
            }
            let end = at + 11 + size as usize;
            let Some(previous) = self.file.get(end..).and_then(<[u8]>::first_chunk) else { break };
            if u32::from_be_bytes(*previous) != size + 11 {
                return Err(fault);
            }
            if let Some(instant) = self.labels.on_tag(kind, timestamp, &self.file[at + 11..end])? {
                arrived(Arrival { kind, instant });
            }
            at = end + 4;
        }
        Ok(at)
    }
}

/// The length of the header of a data frame or ping, and of its payload; none if it is incomplete.
fn frame(bytes: &[u8]) -> Result<Option<(usize, usize)>, Fault> {
    let Some(&[first, second]) = bytes.first_chunk() else { return Ok(None) };
    match first & 0xF {
        // A ping: the host's are empty.
        9 if second == 0 => return Ok(Some((2, 0))),
        0..=2 if second < 0x80 => {}
        8 => return Err(Fault::Ended),
        _ => return Err(Fault::Frame),
    }
    let extended = |size: usize| {
        let field = bytes.get(2..2 + size)?;
        Some((2 + size, field.iter().fold(0, |value, &byte| value << 8 | usize::from(byte))))
    };
    Ok(match second {
        126 => extended(2),
        127 => extended(8),
        length => Some((2, usize::from(length))),
    })
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{Audio, Content};
    use std::mem::discriminant;

    fn file(tags: usize, skip: usize) -> Vec<u8> {
        let mut out = flv::HEADER.to_vec();
        let mut content = Content::new(0, 2000, 50, Audio::Aac);
        flv::write_tag(&mut out, flv::SCRIPT, 0, &flv::metadata(&content.metadata()));
        for index in 0..tags {
            let tag = content.tag(index as u64);
            if index != skip {
                flv::write_tag(&mut out, tag.kind, tag.timestamp, tag.body);
            }
        }
        out
    }

    fn response(file: &[u8]) -> Vec<u8> {
        let mut out = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in file.chunks(777) {
            out.extend(format!("{:x}\r\n", chunk.len()).bytes());
            out.extend(chunk);
            out.extend(b"\r\n");
        }
        out
    }

    fn view(bytes: &[u8], piece: usize) -> (Result<(), Fault>, Vec<u64>, u64) {
        let mut viewer = Viewer::default();
        let mut instants = Vec::new();
        let result = bytes
            .chunks(piece)
            .try_for_each(|piece| viewer.on_bytes(piece, |arrival| instants.push(arrival.instant)));
        (result, instants, viewer.lost())
    }

    #[test]
    fn reads_any_partition() {
        let bytes = response(&file(12, 99));
        for piece in [1, 2, 1000, bytes.len()] {
            assert_eq!(view(&bytes, piece), (Ok(()), (0..12).collect(), 0));
        }
    }

    #[test]
    fn reads_web_socket_messages() {
        let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec();
        let file = file(30, 99);
        let (first, rest) = file.split_at(100);
        bytes.extend([0x82, 100]);
        bytes.extend(first);
        for piece in rest.chunks(70_000) {
            bytes.extend([0x89, 0]);
            match piece.len() {
                length @ ..0x1_0000 => {
                    bytes.extend([0x82, 126]);
                    bytes.extend((length as u16).to_be_bytes());
                }
                length => {
                    bytes.extend([0x82, 127]);
                    bytes.extend((length as u64).to_be_bytes());
                }
            }
            bytes.extend(piece);
        }
        for piece in [1, 1000, bytes.len()] {
            assert_eq!(view(&bytes, piece), (Ok(()), (0..30).collect(), 0));
        }
        bytes.extend([0x88, 2, 3, 0xE8]);
        assert_eq!(view(&bytes, 1000).0, Err(Fault::Ended));
    }

    #[test]
    fn counts_a_missing_tag() {
        assert_eq!(view(&response(&file(12, 4)), 1000).2, 1);
    }

    #[test]
    fn refuses_faulty_responses() {
        let good = file(6, 99);
        let mut cut = good.clone();
        cut.remove(good.len() / 2);
        cut.extend([0; 16]);
        let mut twice = good.clone();
        twice.extend(&good[good.len() - 386..]);
        let ended = [response(&good), b"0\r\n\r\n".to_vec()].concat();
        let rows = [
            (response(&cut), Fault::Tag(0)),
            (response(b"GLV\x01\x05\0\0\0\x09\0\0\0\0"), Fault::FileHeader),
            (response(&twice), Fault::Repeated(0, 0)),
            (ended, Fault::Ended),
            (b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec(), Fault::Status(String::new())),
        ];
        for (bytes, expected) in rows {
            let fault = view(&bytes, 1000).0.expect_err("a fault");
            assert_eq!(discriminant(&fault), discriminant(&expected), "{fault:?}");
        }
    }
}

//! Checks numbered media as it arrives, and keeps none of it: every access unit must come once, in order, and in time.
//!
//! Media are those of `publisher::Numbered`: a video frame carries its number, and so does each of its two audio frames.

use std::collections::HashMap;

use remuxd_tests::flv::{AUDIO, Content, Reader, Tag, VIDEO};
use remuxd_tests::publisher::Numbered;

/// What a viewer may miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    Nothing,
    /// Frames before a keyframe: it reads too slowly, or its module fails.
    BeforeKeyframes,
}

/// The checks of one response.
#[derive(Debug)]
pub struct Checker {
    loss: Loss,
    /// Milliseconds between video frames.
    step: u64,
    format: Format,
    pub video: Track,
    pub audio: Track,
}

/// The reader of a format.
#[derive(Debug)]
enum Format {
    Flv(Reader),
    Ts(Ts),
    Aac(Vec<u8>),
}

/// Progress of a track.
#[derive(Clone, Debug, Default)]
pub struct Track {
    /// Number of the first frame.
    pub first: Option<u32>,
    /// Number of the last frame.
    pub last: Option<u32>,
    /// Number of frames.
    pub count: u64,
    /// Number of gaps, each up to a keyframe.
    pub gaps: u32,
    /// Number of times that do not follow from the one before: the publisher returned.
    pub seams: u32,
    /// Number and time of the last frame with a time.
    timed: Option<(u32, u64)>,
    /// Number of times that became smaller: the field wrapped.
    pub wraps: u32,
}

impl Checker {
    /// Creates a checker for a response of the extension `flv`, `ts` or `aac`; RTMP players use `flv` and [`tag`](Self::tag).
    pub fn new(extension: &str, step: u64, loss: Loss) -> Checker {
        let format = match extension {
            "ts" => Format::Ts(Ts::default()),
            "aac" => Format::Aac(Vec::new()),
            _ => Format::Flv(Reader::default()),
        };
        Checker { loss, step, format, video: Track::default(), audio: Track::default() }
    }

    /// Reads the next bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        match &mut self.format {
            Format::Flv(reader) => {
                reader.push(bytes)?;
                let tags = reader.take();
                tags.iter().try_for_each(|tag| self.tag(tag))
            }
            Format::Ts(ts) => {
                let elements = ts.push(bytes)?;
                elements.iter().try_for_each(|element| self.element(element))
            }
            Format::Aac(pending) => {
                pending.extend_from_slice(bytes);
                let (numbers, rest) = adts_numbers(pending)?;
                pending.drain(..rest);
                numbers.into_iter().try_for_each(|number| self.audio_frame(number, None))
            }
        }
    }

    /// Reads what is left at the end of the response.
    pub fn finish(&mut self) -> Result<(), String> {
        let Format::Ts(ts) = &mut self.format else { return Ok(()) };
        let rest = ts.finish();
        rest.iter().try_for_each(|element| self.element(element))
    }

    /// Checks an FLV tag or RTMP message.
    pub fn tag(&mut self, tag: &Tag) -> Result<(), String> {
        if !matches!(tag.content(), Content::AccessUnit(_)) {
            return Ok(());
        }
        let time = Some((u64::from(tag.timestamp), 1 << 32, 1));
        match tag.kind {
            VIDEO => self.video_frame(Numbered::number_of(tag).ok_or("a picture without a number")?, time),
            AUDIO => self.audio_frame(Numbered::audio_number_of(tag).ok_or("audio without a number")?, time),
            _ => Ok(()),
        }
    }

    fn element(&mut self, element: &Element) -> Result<(), String> {
        let time = Some((element.time, 1 << 33, 90));
        if element.video {
            return self.video_frame(element.number()?, time);
        }
        let (numbers, rest) = adts_numbers(&element.data)?;
        if rest != element.data.len() {
            return Err("a PES packet ends within an audio frame".into());
        }
        let times = std::iter::once(time).chain(std::iter::repeat(None));
        numbers.into_iter().zip(times).try_for_each(|(number, time)| self.audio_frame(number, time))
    }

    fn video_frame(&mut self, number: u32, time: Option<Time>) -> Result<(), String> {
        let (loss, step) = (self.loss, self.step);
        let may_start = number.is_multiple_of(Numbered::GOP);
        self.video.follow(number, may_start, loss).map_err(|error| format!("video: {error}"))?;
        self.video.time(number, time, step).map_err(|error| format!("video: {error}"))
    }

    fn audio_frame(&mut self, number: u32, time: Option<Time>) -> Result<(), String> {
        let (loss, step) = (self.loss, self.step / 2);
        self.audio.follow(number, true, loss).map_err(|error| format!("audio: {error}"))?;
        self.audio.time(number, time, step).map_err(|error| format!("audio: {error}"))
    }
}

/// A time, the value at which its field wraps, and the number of its units in a millisecond.
type Time = (u64, u64, u64);

impl Track {
    fn follow(&mut self, number: u32, may_start: bool, loss: Loss) -> Result<(), String> {
        match self.last.replace(number) {
            None if may_start => self.first = Some(number),
            None => return Err(format!("starts at frame {number}")),
            Some(last) if number == last + 1 => {}
            Some(last) if number > last && may_start && loss == Loss::BeforeKeyframes => self.gaps += 1,
            Some(last) => return Err(format!("frame {number} after {last}")),
        }
        self.count += 1;
        Ok(())
    }

    fn time(&mut self, number: u32, time: Option<Time>, step: u64) -> Result<(), String> {
        let Some((time, wrap, unit)) = time else { return Ok(()) };
        let Some((last, before)) = self.timed.replace((number, time)) else { return Ok(()) };
        let passed = (time + wrap - before) % wrap;
        let expected = u64::from(number - last) * step * unit;
        if passed == 0 || passed > expected + 20_000 * unit {
            return Err(format!("frame {number} at {time}, frame {last} at {before}"));
        }
        self.wraps += u32::from(time < before);
        self.seams += u32::from(passed != expected);
        Ok(())
    }
}

/// Returns the numbers in ADTS frames, and the length of the complete ones.
fn adts_numbers(bytes: &[u8]) -> Result<(Vec<u32>, usize), String> {
    let (mut numbers, mut at) = (Vec::new(), 0);
    while let Some(&[a, b, _, d, e, f, _]) = bytes.get(at..at + 7) {
        if a != 0xff || b & 0xf6 != 0xf0 {
            return Err(format!("no ADTS header: {a:#x} {b:#x}"));
        }
        let header = if b & 1 == 1 { 7 } else { 9 };
        let len = usize::from(d & 3) << 11 | usize::from(e) << 3 | usize::from(f >> 5);
        let Some(frame) = bytes.get(at..at + len) else { break };
        let number = frame.get(header..header + 4).and_then(|four| four.try_into().ok());
        numbers.push(number.map(u32::from_be_bytes).ok_or("a short audio frame")?);
        at += len;
    }
    Ok((numbers, at))
}

/// A transport stream, packet by packet (ISO 13818-1, 2.4.3).
#[derive(Debug, Default)]
struct Ts {
    pending: Vec<u8>,
    counters: HashMap<u16, u8>,
    packets: HashMap<u16, Vec<u8>>,
}

/// A PES packet.
#[derive(Debug)]
struct Element {
    video: bool,
    /// The DTS, or else the PTS, in 90 kHz.
    time: u64,
    data: Vec<u8>,
}

impl Element {
    /// Returns the number in the slice of the picture.
    fn number(&self) -> Result<u32, String> {
        let slice = self
            .data
            .windows(8)
            .find(|bytes| bytes.starts_with(&[0, 0, 1]) && matches!(bytes[3], 0x65 | 0x41));
        // As in a tag, whose payload has the number after 10 bytes.
        let slice = slice.ok_or("a picture without a slice")?;
        Numbered::number_in(&[&[0; 10], &slice[4..8]].concat())
            .ok_or_else(|| "a picture without a number".into())
    }
}

impl Ts {
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<Element>, String> {
        self.pending.extend_from_slice(bytes);
        let pending = std::mem::take(&mut self.pending);
        let (packets, rest) = pending.as_chunks::<188>();
        self.pending = rest.to_vec();
        let mut elements = Vec::new();
        for packet in packets {
            elements.extend(self.packet(packet)?);
        }
        Ok(elements)
    }

    fn finish(&mut self) -> Vec<Element> {
        self.packets.drain().filter_map(|(_, packet)| read_pes(&packet)).collect()
    }

    /// Reads a packet, and returns the PES packet before the one that it starts.
    fn packet(&mut self, packet: &[u8; 188]) -> Result<Option<Element>, String> {
        if packet[0] != 0x47 {
            return Err("no sync byte".into());
        }
        let pid = u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]);
        if packet[3] & 0x10 == 0 {
            return Ok(None);
        }
        let counter = packet[3] & 15;
        if let Some(before) = self.counters.insert(pid, counter)
            && counter != (before + 1) & 15
        {
            return Err(format!("PID {pid}: counter {counter} after {before}"));
        }
        let start = if packet[3] & 0x20 == 0 { 4 } else { 5 + usize::from(packet[4]) };
        let payload = packet.get(start..).ok_or("an adaptation field longer than its packet")?;
        if packet[1] & 0x40 == 0 {
            if let Some(element) = self.packets.get_mut(&pid) {
                element.extend_from_slice(payload);
            }
            return Ok(None);
        }
        if !payload.starts_with(&[0, 0, 1]) {
            // Tables.
            return Ok(None);
        }
        let before = self.packets.insert(pid, payload.to_vec());
        Ok(before.and_then(|packet| read_pes(&packet)))
    }
}

/// Reads a PES packet (ISO 13818-1, 2.4.3.6).
fn read_pes(packet: &[u8]) -> Option<Element> {
    let (flags, header) = (packet.get(7)?, usize::from(*packet.get(8)?));
    let at = if flags & 0xc0 == 0xc0 { 14 } else { 9 };
    let &[a, b, c, d, e] = packet.get(at..at + 5)? else { return None };
    let high = u64::from(a >> 1 & 7) << 30 | u64::from(b) << 22 | u64::from(c >> 1) << 15;
    let time = high | u64::from(d) << 7 | u64::from(e >> 1);
    Some(Element { video: packet[3] & 0xf0 == 0xe0, time, data: packet.get(9 + header..)?.to_vec() })
}

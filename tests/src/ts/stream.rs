//! The content of a transport stream: tables (2.4.4), PES packets (2.4.3.6) and clock references, in order.

use super::packet::{PACKET_LEN, Packet};

/// A transport stream.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// Its packets.
    pub packets: Vec<Packet>,
    /// Number of bytes after the last whole packet.
    pub rest: usize,
    /// Its sections.
    pub tables: Vec<Table>,
    /// Its PES packets, ordered by their start.
    pub units: Vec<Unit>,
    /// Its clock references.
    pub clocks: Vec<Clock>,
    /// Packets whose payload belongs to no section or PES packet, with the reason.
    pub strays: Vec<(usize, String)>,
}

/// A section.
#[derive(Clone, Debug)]
pub struct Table {
    /// The number of the packet in which it starts.
    pub at: usize,
    /// The packet's PID.
    pub pid: u16,
    /// `version_number`.
    pub version: u8,
    /// The bytes between the section header and the checksum.
    pub body: Vec<u8>,
    /// The content, if it is a program map.
    pub program: Option<Program>,
    /// The first error in the section.
    pub fault: Option<String>,
}

/// The content of a program map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// `PCR_PID`.
    pub clock_pid: u16,
    /// Its streams.
    pub streams: Vec<Elementary>,
}

/// One stream of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elementary {
    /// `stream_type`.
    pub stream_type: u8,
    /// `elementary_PID`.
    pub pid: u16,
    /// Its descriptors.
    pub descriptors: Vec<u8>,
}

/// A PES packet.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The number of the packet in which it starts.
    pub at: usize,
    /// The number of the packet in which it ends.
    pub end: usize,
    /// Its PID.
    pub pid: u16,
    /// The entry of that PID in the current program map.
    pub stream_type: u8,
    /// `random_access_indicator` of its first packet.
    pub random_access: bool,
    /// `stream_id`.
    pub stream_id: u8,
    /// `PES_packet_length`.
    pub length: usize,
    /// Number of bytes after that field.
    pub actual_length: usize,
    /// `PTS`, unwrapped, in 1/90 000 s.
    pub pts: i64,
    /// `DTS`, unwrapped; the PTS where there is none.
    pub dts: i64,
    /// Whether a PTS is present: an access unit begins in this packet.
    pub has_pts: bool,
    /// Whether a DTS is present.
    pub has_dts: bool,
    /// The bytes after the header.
    pub payload: Vec<u8>,
    /// The error in the header.
    pub fault: Option<String>,
}

/// A clock reference.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The number of its packet.
    pub at: usize,
    /// Its PID.
    pub pid: u16,
    /// Unwrapped, in 1/90 000 s.
    pub value: i64,
    /// `discontinuity_indicator`.
    pub discontinuity: bool,
}

const VIDEO_TYPES: [u8; 2] = [0x1b, 0x24];

impl Unit {
    /// Returns whether it is video.
    #[must_use]
    pub fn is_video(&self) -> bool {
        VIDEO_TYPES.contains(&self.stream_type)
    }
}

impl Table {
    /// Returns whether it is a program association.
    #[must_use]
    pub fn is_association(&self) -> bool {
        self.pid == 0
    }
}

/// A PES packet that is not complete yet.
struct Open {
    at: usize,
    end: usize,
    pid: u16,
    stream_type: u8,
    random_access: bool,
    bytes: Vec<u8>,
}

/// An unwrapper of 33-bit times, which takes the time nearest to the previous one.
#[derive(Default)]
struct Unwrap(Option<i64>);

impl Unwrap {
    fn next(&mut self, raw: u64) -> i64 {
        const WRAP: i64 = 1 << 33;
        let raw = raw as i64;
        let value = self.0.map_or(raw, |last| {
            let step = (raw - last).rem_euclid(WRAP);
            last + if step >= WRAP / 2 { step - WRAP } else { step }
        });
        self.0 = Some(value);
        value
    }
}

impl Stream {
    /// Reads a stream and records its errors.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Stream {
        let (packets, rest) = bytes.as_chunks::<PACKET_LEN>();
        let mut stream = Stream {
            packets: packets.iter().map(Packet::read).collect(),
            rest: rest.len(),
            ..Stream::default()
        };
        let mut map_pid = None;
        let mut program: Option<Program> = None;
        let mut open: Vec<Open> = Vec::new();
        let mut time = Unwrap::default();
        for (at, packet) in stream.packets.iter().enumerate() {
            let pid = packet.pid;
            if let Some((base, _)) = packet.field.and_then(|field| field.pcr) {
                let (value, discontinuity) = (time.next(base), packet.discontinuity());
                stream.clocks.push(Clock { at, pid, value, discontinuity });
            }
            let Some(payload) = &packet.payload else { continue };
            if pid == 0 || Some(pid) == map_pid {
                let table = read_table(at, pid, packet.start, payload);
                if pid == 0
                    && let [_, _, high, low] = table.body[..]
                {
                    map_pid = Some(u16::from_be_bytes([high & 0x1f, low]));
                }
                if table.program.is_some() {
                    program.clone_from(&table.program);
                }
                stream.tables.push(table);
                continue;
            }
            let streams = program.iter().flat_map(|program| &program.streams);
            let Some(elementary) = streams.clone().find(|elementary| elementary.pid == pid) else {
                stream.strays.push((at, format!("PID {pid:#x} is not in the program")));
                continue;
            };
            if packet.start {
                if let Some(index) = open.iter().position(|unit| unit.pid == pid) {
                    stream.units.push(open.remove(index).close(&mut time));
                }
                let stream_type = elementary.stream_type;
                let random_access = packet.random_access();
                open.push(Open { at, end: at, pid, stream_type, random_access, bytes: payload.clone() });
            } else if let Some(unit) = open.iter_mut().find(|unit| unit.pid == pid) {
                unit.end = at;
                unit.bytes.extend_from_slice(payload);
            } else {
                stream.strays.push((at, format!("PID {pid:#x} starts in the middle of a PES packet")));
            }
        }
        stream.units.extend(open.into_iter().map(|unit| unit.close(&mut time)));
        stream.units.sort_by_key(|unit| unit.at);
        stream
    }

    /// Returns the current program map at a packet.
    #[must_use]
    pub fn program_at(&self, packet: usize) -> Option<&Program> {
        self.tables.iter().rev().filter(|table| table.at <= packet).find_map(|table| table.program.as_ref())
    }
}

impl Open {
    fn close(self, time: &mut Unwrap) -> Unit {
        let Open { at, end, pid, stream_type, random_access, bytes } = self;
        let mut unit = Unit {
            at,
            end,
            pid,
            stream_type,
            random_access,
            stream_id: 0,
            length: 0,
            actual_length: bytes.len().saturating_sub(6),
            pts: 0,
            dts: 0,
            has_pts: false,
            has_dts: false,
            payload: Vec::new(),
            fault: None,
        };
        if let Err(fault) = unit.read_header(&bytes, time) {
            unit.fault = Some(fault);
        }
        unit
    }
}

impl Unit {
    fn read_header(&mut self, bytes: &[u8], time: &mut Unwrap) -> Result<(), String> {
        let [0, 0, 1, stream_id, high, low, flags, presence, header_len, rest @ ..] = bytes else {
            return Err(format!("starts with {:02x?}", &bytes[..bytes.len().min(9)]));
        };
        self.stream_id = *stream_id;
        self.length = usize::from(u16::from_be_bytes([*high, *low]));
        if flags & 0xf0 != 0x80 || presence & 0x3f != 0 {
            return Err(format!("flags {flags:#04x} {presence:#04x}"));
        }
        let Some((fields, payload)) = rest.split_at_checked(usize::from(*header_len)) else {
            return Err(format!("PES_header_data_length {header_len}"));
        };
        self.payload = payload.to_vec();
        self.has_pts = presence & 0x80 != 0;
        match (presence >> 6, fields) {
            (0, []) => {}
            (2, pts) if pts.len() == 5 => {
                self.pts = time.next(timestamp(2, pts)?);
                self.dts = self.pts;
            }
            (3, both) if both.len() == 10 => {
                let pts = timestamp(3, &both[..5])?;
                self.dts = time.next(timestamp(1, &both[5..])?);
                self.pts = Unwrap(Some(self.dts)).next(pts);
                self.has_dts = true;
            }
            (presence, fields) => return Err(format!("presence {presence}, fields {fields:02x?}")),
        }
        Ok(())
    }
}

fn timestamp(prefix: u8, field: &[u8]) -> Result<u64, String> {
    let bytes = field.iter().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
    if bytes >> 36 != u64::from(prefix) || bytes & 0x1_0001_0001 != 0x1_0001_0001 {
        return Err(format!("timestamp {field:02x?}"));
    }
    Ok((bytes >> 33 & 7) << 30 | (bytes >> 17 & 0x7fff) << 15 | bytes >> 1 & 0x7fff)
}

fn read_table(at: usize, pid: u16, start: bool, payload: &[u8]) -> Table {
    let mut table = Table { at, pid, version: 0, body: Vec::new(), program: None, fault: None };
    if let Err(fault) = table.fill(start, payload) {
        table.fault = Some(fault);
    }
    table
}

impl Table {
    /// Reads a section that fits in one packet.
    fn fill(&mut self, start: bool, payload: &[u8]) -> Result<(), String> {
        let [0, section @ ..] = payload else { return Err("pointer_field".into()) };
        let [table_id, high, low, rest @ ..] = section else { return Err("cut off".into()) };
        if !start || *table_id != if self.pid == 0 { 0 } else { 2 } || high & 0xf0 != 0xb0 {
            return Err(format!("start {start}, table_id {table_id}, syntax {high:#04x}"));
        }
        let length = usize::from(u16::from_be_bytes([high & 0x0f, *low]));
        let Some((section_body, stuffing)) = rest.split_at_checked(length) else {
            return Err(format!("section_length {length}"));
        };
        if stuffing.iter().any(|&byte| byte != 0xff) {
            return Err("stuffing".into());
        }
        if crc(&section[..3 + length]) != 0 {
            return Err("checksum".into());
        }
        let [_, _, version, 0, 0, body @ .., _, _, _, _] = section_body else {
            return Err("more than one section".into());
        };
        if version & 0xc1 != 0xc1 {
            return Err(format!("not current: {version:#04x}"));
        }
        self.version = version >> 1 & 31;
        self.body = body.to_vec();
        if self.pid == 0 {
            return if body.len() == 4 { Ok(()) } else { Err("not one program".into()) };
        }
        self.program = Some(read_program(body).ok_or("a program map is cut off")?);
        Ok(())
    }
}

fn read_program(body: &[u8]) -> Option<Program> {
    let pid = |high: u8, low: u8| u16::from_be_bytes([high & 0x1f, low]);
    let length = |high: u8, low: u8| usize::from(u16::from_be_bytes([high & 0x0f, low]));
    let [high, low, info_high, info_low, rest @ ..] = body else { return None };
    let mut program = Program { clock_pid: pid(*high, *low), streams: Vec::new() };
    let mut rest = rest.get(length(*info_high, *info_low)..)?;
    while let [stream_type, high, low, info_high, info_low, more @ ..] = rest {
        let (descriptors, after) = more.split_at_checked(length(*info_high, *info_low))?;
        let (stream_type, pid) = (*stream_type, pid(*high, *low));
        program.streams.push(Elementary { stream_type, pid, descriptors: descriptors.to_vec() });
        rest = after;
    }
    rest.is_empty().then_some(program)
}

/// Computes CRC-32/MPEG-2, four bits at a time.
pub(super) fn crc(bytes: &[u8]) -> u32 {
    const fn entry(index: u32) -> u32 {
        let mut value = index << 28;
        let mut bit = 0;
        while bit < 4 {
            value = if value & 1 << 31 != 0 { value << 1 ^ 0x04c1_1db7 } else { value << 1 };
            bit += 1;
        }
        value
    }
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        let high = crc << 4 ^ entry(crc >> 28 ^ u32::from(byte >> 4));
        high << 4 ^ entry(high >> 28 ^ u32::from(byte & 15))
    })
}

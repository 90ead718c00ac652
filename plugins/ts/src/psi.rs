//! Program association and program map tables.
//!
//! ISO/IEC 13818-1 2.4.4.1 to 2.4.4.11, 2.6.8 (registration descriptor), annex A (checksum). Opus is private data with
//! the registration `Opus` and the extension descriptor 0x80, by its mapping to transport streams.
//!
//! A stream's PID depends on its type alone (those of H.264, AAC and MP3 are SRS's), so that no PID ever changes its type, also
//! after a fault, when a remuxer does not know its predecessor: players such as ffmpeg keep the decoder of a PID.

use crate::packet::{Continuity, write_section};

/// The PID of the program association table.
const PAT_PID: u16 = 0;
/// The PID of the program map table.
const PMT_PID: u16 = 0x1001;
/// `PCR_PID` of a program without a clock.
const NO_PID: u16 = 0x1fff;

const TRANSPORT_STREAM_ID: u16 = 1;
const PROGRAM_NUMBER: u16 = 1;

/// The coding of a video stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VideoStream {
    /// ITU-T H.264.
    H264,
    /// ITU-T H.265.
    Hevc,
}

impl VideoStream {
    /// Returns the stream's PID.
    pub(crate) fn pid(self) -> u16 {
        match self {
            VideoStream::H264 => 0x100,
            VideoStream::Hevc => 0x103,
        }
    }
}

/// The coding of an audio stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AudioStream {
    /// AAC in ADTS.
    Adts,
    /// MPEG-1 audio, or MPEG-2 audio if `low_rates`.
    Mpeg {
        /// Whether the rates are half of those of MPEG-1 or less.
        low_rates: bool,
    },
    /// Opus, with this `channel_config_code`.
    Opus(u8),
}

impl AudioStream {
    /// Returns the stream's PID.
    pub(crate) fn pid(self) -> u16 {
        match self {
            AudioStream::Adts => 0x101,
            AudioStream::Mpeg { low_rates: false } => 0x102,
            AudioStream::Mpeg { low_rates: true } => 0x104,
            AudioStream::Opus(channels) => 0x200 | u16::from(channels),
        }
    }
}

/// The streams of the one program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Program {
    pub video: Option<VideoStream>,
    pub audio: Option<AudioStream>,
}

impl Program {
    /// Returns the PID that carries the program clock: video if present.
    pub(crate) fn clock_pid(self) -> Option<u16> {
        self.video.map(VideoStream::pid).or(self.audio.map(AudioStream::pid))
    }

    /// Returns stream types, PIDs and descriptors.
    fn streams(self) -> impl Iterator<Item = (u8, u16, Vec<u8>)> {
        let video = self.video.map(|video| {
            let stream_type = match video {
                VideoStream::H264 => 0x1b,
                VideoStream::Hevc => 0x24,
            };
            (stream_type, video.pid(), vec![])
        });
        let audio = self.audio.map(|audio| {
            let (stream_type, descriptors) = match audio {
                AudioStream::Adts => (0x0f, vec![]),
                AudioStream::Mpeg { low_rates: false } => (0x03, vec![]),
                AudioStream::Mpeg { low_rates: true } => (0x04, vec![]),
                AudioStream::Opus(channels) => {
                    (0x06, [&b"\x05\x04Opus\x7f\x02\x80"[..], &[channels]].concat())
                }
            };
            (stream_type, audio.pid(), descriptors)
        });
        video.into_iter().chain(audio)
    }
}

/// The tables of a program and their counters.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tables {
    pub pat: Continuity,
    pub pmt: Continuity,
    /// `version_number` of the program map table, modulo 32.
    pub version: u8,
}

impl Tables {
    /// Returns one packet for each table.
    pub(crate) fn write(&mut self, program: Program) -> Vec<u8> {
        let mut out = Vec::new();
        let [high, low] = (0xe000 | PMT_PID).to_be_bytes();
        let [number_high, number_low] = PROGRAM_NUMBER.to_be_bytes();
        let pat = section(0x00, TRANSPORT_STREAM_ID, 0, &[number_high, number_low, high, low]);
        write_section(PAT_PID, &mut self.pat, &pat, &mut out);
        let mut body = (0xe000 | program.clock_pid().unwrap_or(NO_PID)).to_be_bytes().to_vec();
        // program_info_length
        body.extend_from_slice(&[0xf0, 0]);
        for (stream_type, pid, descriptors) in program.streams() {
            body.push(stream_type);
            body.extend_from_slice(&(0xe000 | pid).to_be_bytes());
            body.extend_from_slice(&(0xf000 | descriptors.len() as u16).to_be_bytes());
            body.extend_from_slice(&descriptors);
        }
        let pmt = section(0x02, PROGRAM_NUMBER, self.version, &body);
        write_section(PMT_PID, &mut self.pmt, &pmt, &mut out);
        out
    }
}

/// Returns the only section of a table.
fn section(table_id: u8, extension: u16, version: u8, body: &[u8]) -> Vec<u8> {
    // From after the length field to the end of the checksum.
    let length = 5 + body.len() + 4;
    let mut section = vec![table_id];
    section.extend_from_slice(&(0xb000 | length as u16).to_be_bytes());
    section.extend_from_slice(&extension.to_be_bytes());
    // Current; section 0 of 0.
    section.extend_from_slice(&[0xc1 | (version & 31) << 1, 0, 0]);
    section.extend_from_slice(body);
    let checksum = checksum(&section);
    section.extend_from_slice(&checksum.to_be_bytes());
    section
}

/// Returns the CRC with the polynomial 0x04c11db7, most significant bit first, from all ones.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| {
            crc << 1 ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_has_the_check_value_of_crc_32_mpeg_2() {
        assert_eq!(checksum(b"123456789"), 0x0376_e6e7);
    }

    #[test]
    fn tables_are_one_packet_each() {
        let program = Program { video: Some(VideoStream::H264), audio: Some(AudioStream::Opus(2)) };
        let mut tables = Tables { version: 33, ..Tables::default() };
        let out = tables.write(program);
        assert_eq!(out.len(), 2 * 188);
        let pat = b"\x47\x40\x00\x10\0\x00\xb0\x0d\0\x01\xc1\0\0\0\x01\xf0\x01\x2e\x70\x19\x05\xff";
        assert_eq!(out[..22], *pat);
        let pmt = &out[188..];
        let body = b"\x1b\xe1\x00\xf0\x00\x06\xe2\x02\xf0\x0a\x05\x04Opus\x7f\x02\x80\x02";
        assert_eq!(pmt[..17], *b"\x47\x50\x01\x10\0\x02\xb0\x21\0\x01\xc3\0\0\xe1\x00\xf0\0");
        assert_eq!(pmt[17..17 + body.len()], *body);
        assert_eq!(checksum(&pmt[5..5 + 3 + 0x21]), 0, "the checksum of a section with its checksum is 0");
        let again = tables.write(program);
        assert_eq!((again[3], again[188 + 3]), (0x11, 0x11));
    }

    #[test]
    fn the_clock_is_on_video_if_there_is_any() {
        let audio = Some(AudioStream::Adts);
        for (video, pid) in [(Some(VideoStream::Hevc), 0x103), (None, 0x101)] {
            assert_eq!(Program { video, audio }.clock_pid(), Some(pid));
        }
        assert_eq!(Program::default().clock_pid(), None);
    }

    #[test]
    fn each_stream_type_has_a_pid() {
        let video = [VideoStream::H264, VideoStream::Hevc].map(VideoStream::pid);
        let mpeg = [false, true].map(|low_rates| AudioStream::Mpeg { low_rates });
        let audio = [AudioStream::Adts].into_iter().chain(mpeg).chain((0..=255).map(AudioStream::Opus));
        let mut pids: Vec<u16> = audio.map(AudioStream::pid).chain(video).collect();
        let count = pids.len();
        pids.sort_unstable();
        pids.dedup();
        assert_eq!(pids.len(), count);
        // Others are reserved (2.4.3.3) or the program map's.
        assert!(pids.iter().all(|pid| (0x10..0x1000).contains(pid)), "{pids:x?}");
    }
}

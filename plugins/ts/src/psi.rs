//! Program association and program map tables.
//!
//! ISO/IEC 13818-1 2.4.4.1 to 2.4.4.11, 2.6.8 (registration descriptor), annex A (checksum). Opus is private data with
//! the registration `Opus` and the extension descriptor 0x80, by its mapping to transport streams. PIDs are SRS's.

use crate::packet::{Adaptation, Continuity, write_unit};

/// The PID of the program association table.
const PAT_PID: u16 = 0;
/// The PID of the program map table.
const PMT_PID: u16 = 0x1001;
/// The first PID of video; later ones are even, too.
const VIDEO_PID: u16 = 0x100;
/// The first PID of audio; later ones are odd, too.
const AUDIO_PID: u16 = 0x101;
/// PIDs of streams are below this.
const END_OF_PIDS: u16 = 0x1000;

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

/// The streams of the one program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Program {
    pub video: Option<VideoStream>,
    pub audio: Option<AudioStream>,
}

/// The PIDs of the streams. A stream that changes its type gets a new one: players such as ffmpeg keep the decoder of a PID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pids {
    pub video: u16,
    pub audio: u16,
}

impl Default for Pids {
    fn default() -> Pids {
        Pids { video: VIDEO_PID, audio: AUDIO_PID }
    }
}

impl Pids {
    /// Returns PIDs from a predecessor's state; `None` if they are not in the ranges of video and audio.
    pub(crate) fn new(video: u16, audio: u16) -> Option<Pids> {
        let in_range = |pid, first| (first..END_OF_PIDS).contains(&pid) && (pid - first) % 2 == 0;
        (in_range(video, VIDEO_PID) && in_range(audio, AUDIO_PID)).then_some(Pids { video, audio })
    }

    /// Moves the streams of `program` whose type differs from that in `before` to new PIDs.
    pub(crate) fn follow(&mut self, before: Program, program: Program) {
        let next = |pid: u16, first| if pid + 2 < END_OF_PIDS { pid + 2 } else { first };
        if before.video.zip(program.video).is_some_and(|(before, now)| before != now) {
            self.video = next(self.video, VIDEO_PID);
        }
        if before.audio.zip(program.audio).is_some_and(|(before, now)| before != now) {
            self.audio = next(self.audio, AUDIO_PID);
        }
    }

    /// Returns the PID that carries the program clock: video if present.
    pub(crate) fn clock(self, program: Program) -> u16 {
        if program.video.is_some() { self.video } else { self.audio }
    }
}

impl Program {
    /// Returns stream types, PIDs and descriptors.
    fn streams(self, pids: Pids) -> impl Iterator<Item = (u8, u16, Vec<u8>)> {
        let video = self.video.map(|video| match video {
            VideoStream::H264 => (0x1b, pids.video, vec![]),
            VideoStream::Hevc => (0x24, pids.video, vec![]),
        });
        let audio = self.audio.map(|audio| match audio {
            AudioStream::Adts => (0x0f, pids.audio, vec![]),
            AudioStream::Mpeg { low_rates: false } => (0x03, pids.audio, vec![]),
            AudioStream::Mpeg { low_rates: true } => (0x04, pids.audio, vec![]),
            AudioStream::Opus(channels) => {
                (0x06, pids.audio, [&b"\x05\x04Opus\x7f\x02\x80"[..], &[channels]].concat())
            }
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
    pub(crate) fn write(&mut self, program: Program, pids: Pids) -> Vec<u8> {
        let mut out = Vec::new();
        let [high, low] = (0xe000 | PMT_PID).to_be_bytes();
        let [number_high, number_low] = PROGRAM_NUMBER.to_be_bytes();
        let pat = section(0x00, TRANSPORT_STREAM_ID, 0, &[number_high, number_low, high, low]);
        write_table(PAT_PID, &mut self.pat, &pat, &mut out);
        let mut body = (0xe000 | pids.clock(program)).to_be_bytes().to_vec();
        // program_info_length
        body.extend_from_slice(&[0xf0, 0]);
        for (stream_type, pid, descriptors) in program.streams(pids) {
            body.push(stream_type);
            body.extend_from_slice(&(0xe000 | pid).to_be_bytes());
            body.extend_from_slice(&(0xf000 | descriptors.len() as u16).to_be_bytes());
            body.extend_from_slice(&descriptors);
        }
        let pmt = section(0x02, PROGRAM_NUMBER, self.version, &body);
        write_table(PMT_PID, &mut self.pmt, &pmt, &mut out);
        out
    }
}

/// Writes a table. Stuffing bytes end its sections (2.4.4), so its packet needs no adaptation field.
fn write_table(pid: u16, counter: &mut Continuity, section: &[u8], out: &mut Vec<u8>) {
    // pointer_field
    let mut payload = vec![0];
    payload.extend_from_slice(section);
    payload.resize(184, 0xff);
    write_unit(pid, counter, Adaptation::default(), &[&payload], out);
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
        let out = tables.write(program, Pids::default());
        assert_eq!(out.len(), 2 * 188);
        let pat = b"\x47\x40\x00\x10\0\x00\xb0\x0d\0\x01\xc1\0\0\0\x01\xf0\x01\x2e\x70\x19\x05\xff";
        assert_eq!(out[..22], *pat);
        let pmt = &out[188..];
        let body = b"\x1b\xe1\x00\xf0\x00\x06\xe1\x01\xf0\x0a\x05\x04Opus\x7f\x02\x80\x02";
        assert_eq!(pmt[..17], *b"\x47\x50\x01\x10\0\x02\xb0\x21\0\x01\xc3\0\0\xe1\x00\xf0\0");
        assert_eq!(pmt[17..17 + body.len()], *body);
        assert_eq!(checksum(&pmt[5..5 + 3 + 0x21]), 0, "the checksum of a section with its checksum is 0");
        let again = tables.write(program, Pids::default());
        assert_eq!((again[3], again[188 + 3]), (0x11, 0x11));
    }

    #[test]
    fn the_clock_is_on_video_if_there_is_any() {
        let (audio, pids) = (Some(AudioStream::Adts), Pids::default());
        assert_eq!(pids.clock(Program { video: Some(VideoStream::Hevc), audio }), VIDEO_PID);
        assert_eq!(pids.clock(Program { video: None, audio }), AUDIO_PID);
    }

    #[test]
    fn a_changed_stream_type_moves_to_a_new_pid() {
        let h264 = Program { video: Some(VideoStream::H264), audio: Some(AudioStream::Adts) };
        let hevc = Program { video: Some(VideoStream::Hevc), ..h264 };
        let mut pids = Pids::default();
        for (before, now, video) in [
            (Program::default(), h264, 0x100),
            (h264, h264, 0x100),
            (h264, hevc, 0x102),
            (hevc, Program { video: None, ..hevc }, 0x102),
            (hevc, h264, 0x104),
        ] {
            pids.follow(before, now);
            assert_eq!(pids, Pids { video, audio: AUDIO_PID });
        }
        for _ in 0..5_000 {
            pids.follow(h264, hevc);
            assert_eq!(Pids::new(pids.video, pids.audio), Some(pids));
        }
        assert_eq!((Pids::new(0x101, 0x101), Pids::new(0x100, 0x1001)), (None, None));
    }
}

//! PES headers.
//!
//! ISO/IEC 13818-1 2.4.3.6 and 2.4.3.7. A PES packet holds one access unit and is marked as aligned. One that begins with
//! the rest of an audio frame is not aligned and has no timestamp, which would apply to the next frame.

use crate::clock::Ticks;

/// `stream_id` of the first video stream.
pub(crate) const VIDEO: u8 = 0xe0;
/// `stream_id` of the first MPEG audio stream; AAC in ADTS has it as well (table 2-22).
pub(crate) const AUDIO: u8 = 0xc0;
/// `private_stream_1`: for Opus, by its mapping.
pub(crate) const PRIVATE_1: u8 = 0xbd;

/// The longest payload of a packet with one timestamp whose length field can state it, which only video may omit.
pub(crate) const MAX_PAYLOAD: usize = 0xffff - 3 - 5;

const DATA_ALIGNMENT: u8 = 0x84;

/// Returns the header of a PES packet with `payload` bytes. `times` are PTS and DTS of the access unit that begins in it, or `None`
/// if none does. The DTS is written if it differs from the PTS. A length over 16 bits becomes 0, which is allowed for video
/// only; the payload of others is at most [`MAX_PAYLOAD`].
pub(crate) fn header(stream_id: u8, times: Option<(Ticks, Ticks)>, payload: usize) -> Vec<u8> {
    let (flags, presence, fields) = match times {
        None => (0x80, 0, vec![]),
        Some((pts, dts)) if pts == dts => (DATA_ALIGNMENT, 0x80, timestamp(2, pts).to_vec()),
        Some((pts, dts)) => (DATA_ALIGNMENT, 0xc0, [timestamp(3, pts), timestamp(1, dts)].concat()),
    };
    let length = u16::try_from(3 + fields.len() + payload).unwrap_or(0);
    let mut header = Vec::with_capacity(19);
    header.extend_from_slice(&[0, 0, 1, stream_id]);
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(&[flags, presence, fields.len() as u8]);
    header.extend_from_slice(&fields);
    header
}

/// Returns 33 bits in three pieces, with a marker bit after each.
fn timestamp(prefix: u8, ticks: Ticks) -> [u8; 5] {
    let base = ticks.base();
    let piece = |shift: u32| (((base >> shift) as u16) << 1 | 1).to_be_bytes();
    let ([a, b], [c, d]) = (piece(15), piece(0));
    [prefix << 4 | ((base >> 30) as u8 & 7) << 1 | 1, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_a_dts_where_it_differs() {
        let zero = Ticks::from_millis(-Ticks::OFFSET);
        let all = [0, 0, 1, 0xe0, 0, 12, 0x84, 0x80, 5, 0x21, 0, 1, 0, 1];
        assert_eq!(header(VIDEO, Some((zero, zero)), 4), all);
        let pts = Ticks::from_millis(40 - Ticks::OFFSET);
        let both = [0, 0, 1, 0xe0, 0, 17, 0x84, 0xc0, 10, 0x31, 0, 1, 0x1c, 0x21, 0x11, 0, 1, 0, 1];
        assert_eq!(header(VIDEO, Some((pts, zero)), 4), both);
    }

    #[test]
    fn writes_all_33_bits() {
        // 90 times this is 3 less than 2^33.
        let last = Ticks::from_millis(((1i64 << 33) - 2) / 90 - Ticks::OFFSET);
        let field = &header(AUDIO, Some((last, last)), 1)[9..];
        assert_eq!(field[0], 0x2f);
        assert_eq!(field[1..3], [0xff, 0xff]);
        assert_eq!(u16::from_be_bytes([field[3], field[4]]), ((last.base() as u16) << 1) | 1);
    }

    #[test]
    fn states_lengths_that_fit() {
        let ticks = Ticks::from_millis(0);
        for (payload, length) in [(1, 9), (65_527, 65_535), (65_528, 0), (1 << 20, 0)] {
            let header = header(VIDEO, Some((ticks, ticks)), payload);
            assert_eq!(header[4..6], u16::to_be_bytes(length), "{payload}");
        }
    }
}

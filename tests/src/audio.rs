//! Audio elementary streams as a strict player reads them: ADTS (ISO/IEC 14496-3, 1.A.2) and MPEG audio layer III
//! (ISO/IEC 11172-3) after an ID3v2 tag.

/// A frame of ADTS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdtsFrame {
    /// MPEG-4 object type: the profile plus one.
    pub object_type: u8,
    /// Sampling rate in Hz.
    pub sample_rate: u32,
    /// Channel configuration; 0 if the frame begins with a program_config_element.
    pub channel_configuration: u8,
    /// The raw data block.
    pub data: Vec<u8>,
}

/// Reads all complete frames; an incomplete one at the end is ignored.
///
/// # Panics
/// At the first byte that ADTS without checksums does not allow.
#[must_use]
pub fn read_adts(mut bytes: &[u8]) -> Vec<AdtsFrame> {
    const RATES: [u32; 13] =
        [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];
    let mut frames = Vec::new();
    while let Some(head) = bytes.first_chunk::<7>() {
        let at = frames.len();
        let fields = u64::from_be_bytes([0, head[0], head[1], head[2], head[3], head[4], head[5], head[6]]);
        let field = |shift: u32, width: u32| (fields >> shift & ((1 << width) - 1)) as u32;
        assert_eq!(field(44, 12), 0xfff, "frame {at}: syncword in {head:02x?}");
        assert_eq!(field(40, 4), 1, "frame {at}: MPEG-4, layer 0, no checksum");
        assert_eq!(field(0, 2), 0, "frame {at}: one raw data block");
        let length = field(13, 13) as usize;
        assert!(length > 7, "frame {at}: {length} bytes");
        let Some(data) = bytes.get(7..length) else { break };
        frames.push(AdtsFrame {
            object_type: field(38, 2) as u8 + 1,
            sample_rate: RATES[field(34, 4) as usize],
            channel_configuration: field(30, 3) as u8,
            data: data.to_vec(),
        });
        bytes = &bytes[length..];
    }
    frames
}

/// Reads the complete frames after the ID3v2 tag; an incomplete one at the end is ignored.
///
/// # Panics
/// At the first byte that neither an ID3v2 tag nor MPEG-1 layer III allows.
#[must_use]
pub fn read_mp3(bytes: &[u8]) -> Vec<Vec<u8>> {
    const KBITS: [usize; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
    const RATES: [usize; 3] = [44100, 48000, 32000];
    let Some(head) = bytes.first_chunk::<10>() else { return Vec::new() };
    assert!(head.starts_with(b"ID3\x03\0\0"), "{head:02x?}");
    let size = head[6..].iter().fold(0, |size, byte| size << 7 | usize::from(*byte));
    let Some(mut rest) = bytes.get(10 + size..) else { return Vec::new() };
    let mut frames = Vec::new();
    while let Some(head) = rest.first_chunk::<4>() {
        let at = frames.len();
        assert!(head[0] == 0xff && head[1] & 0xfe == 0xfa, "frame {at}: {head:02x?}");
        let kbits = KBITS[usize::from(head[2] >> 4)];
        let rate = RATES[usize::from(head[2] >> 2 & 3)];
        let length = 144_000 * kbits / rate + usize::from(head[2] >> 1 & 1);
        let Some(frame) = rest.get(..length) else { break };
        frames.push(frame.to_vec());
        rest = &rest[length..];
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Clip;
    use crate::scratch::Scratch;
    use crate::tool::{Ffmpeg, run};

    /// Remuxes a clip's audio with ffmpeg, without transcoding.
    fn remux(clip: Clip, format: &str) -> Vec<u8> {
        let scratch = Scratch::new();
        let file = scratch.join("audio");
        let mut command = Ffmpeg::Five.command();
        command.arg("-i").arg(clip.path()).args(["-vn", "-c", "copy"]);
        if format == "mp3" {
            command.args(["-write_xing", "0", "-id3v2_version", "3"]);
        }
        run(command.args(["-f", format]).arg(&file)).unwrap();
        std::fs::read(file).unwrap()
    }

    #[test]
    fn reads_what_ffmpeg_writes() {
        let adts = remux(Clip::Aac, "adts");
        let frames = read_adts(&adts);
        assert!(frames.len() > 150, "{}", frames.len());
        let bytes: usize = frames.iter().map(|frame| frame.data.len() + 7).sum();
        assert_eq!(bytes, adts.len());
        assert!(frames.iter().all(|frame| {
            (frame.object_type, frame.sample_rate, frame.channel_configuration) == (2, 44100, 2)
        }));
        let mp3 = remux(Clip::Mp3, "mp3");
        let frames = read_mp3(&mp3);
        assert!(frames.len() > 150, "{}", frames.len());
    }
}

//! AAC configurations and MPEG audio headers: the header written before a frame has the frame's length, and parsed values
//! are within the range of their fields.
#![no_main]

use libfuzzer_sys::fuzz_target;
use remuxd_bitstream::aac::{ADTS_HEADER_LEN, ADTS_MAX_FRAME, AudioSpecificConfig};
use remuxd_bitstream::mpa::FrameHeader;

fuzz_target!(|data: &[u8]| {
    // A length, a configuration of that length, then a frame.
    let [len, rest @ ..] = data else { return };
    let (config, frame) = rest.split_at(usize::from(*len).min(rest.len()));
    if let Ok(config) = AudioSpecificConfig::parse(config)
        && let Ok(prefix) = config.adts_prefix(frame)
    {
        let length =
            usize::from(prefix[3] & 3) << 11 | usize::from(prefix[4]) << 3 | usize::from(prefix[5] >> 5);
        assert_eq!(length, prefix.len() + frame.len());
        assert!(length <= ADTS_HEADER_LEN + ADTS_MAX_FRAME);
        assert!((7_276..=96_960).contains(&config.sample_rate) && config.channel_configuration <= 7);
        assert!(prefix.len() == ADTS_HEADER_LEN || config.channel_configuration == 0);
    }
    if let Ok(header) = FrameHeader::parse(frame) {
        // The largest has 160 kbit/s at 8 kHz, layer II of MPEG-2.5; padding included.
        assert!(header.frame_size().is_none_or(|size| (24..=2881).contains(&size)), "{header:?}");
        assert!((8_000..=48_000).contains(&header.sample_rate) && matches!(header.channels, 1 | 2));
    }
});

//! The smallest pictures and sounds that a decoder accepts, padded to any size: ITU-T H.264 clause 7.3, ISO/IEC
//! 14496-3 clause 4.4, ISO/IEC 11172-3 clause 2.4.1, in the tag bodies of the FLV specification, annex E.4.
//!
//! A keyframe is grey (every macroblock Intra_16x16, DC prediction, no residual), the others skip every macroblock.
//! Each body carries a label at a fixed offset, in an SEI message, an AAC data stream element or the ancillary data of MP3, and a
//! filler.

use crate::bits::BitWriter;

/// Bytes of the label in each body.
pub const LABEL: usize = 40;

/// Offset of the label in a video tag's body.
pub const VIDEO_LABEL: usize = 12;

/// Offset of the label in the body of an AAC tag.
pub const AAC_LABEL: usize = 5;

/// Offset of the label in the body of an MP3 tag: behind the frame's header and side information.
pub const MP3_LABEL: usize = 1 + 4 + 17;

const MACROBLOCKS_WIDE: u32 = 80;
const MACROBLOCKS_HIGH: u32 = 45;
const PROFILE_BASELINE: u8 = 66;
const LEVEL: u8 = 31;

/// The body of the video sequence header: 1280x720, Baseline.
pub fn video_config() -> Vec<u8> {
    let mut sps = vec![0x67, PROFILE_BASELINE, 0xC0, LEVEL];
    let mut bits = BitWriter::new();
    bits.ue(0).ue(4); // seq_parameter_set_id, log2_max_frame_num_minus4
    bits.ue(2).ue(1).u(1, 0); // pic_order_cnt_type, max_num_ref_frames, gaps_in_frame_num
    bits.ue(MACROBLOCKS_WIDE - 1).ue(MACROBLOCKS_HIGH - 1);
    bits.u(1, 1).u(1, 0).u(1, 0).u(1, 0); // frame_mbs_only, direct_8x8_inference, frame_cropping, vui
    sps.extend(bits.rbsp());

    let mut pps = vec![0x68];
    let mut bits = BitWriter::new();
    bits.ue(0).ue(0).u(1, 0).u(1, 0).ue(0); // ids, entropy_coding_mode, pic_order_present, slice groups
    bits.ue(0).ue(0).u(1, 0).u(2, 0); // num_ref_idx_l0 and l1, weighted_pred, weighted_bipred
    bits.ue(0).ue(0).ue(0).u(3, 0); // qp, qs, chroma offset, deblocking, constrained intra, redundant pictures
    pps.extend(bits.rbsp());

    let mut body = vec![0x17, 0, 0, 0, 0];
    body.extend([1, sps[1], sps[2], sps[3], 0xFF, 0xE1]);
    body.extend((sps.len() as u16).to_be_bytes());
    body.extend(sps);
    body.push(1);
    body.extend((pps.len() as u16).to_be_bytes());
    body.extend(pps);
    body
}

/// The body of picture `index` of its GOP (0 is the keyframe), `size` bytes long.
///
/// # Panics
/// If `size` is too small for the picture, or `index` does not fit frame_num.
pub fn video(index: u32, size: usize) -> Vec<u8> {
    assert!(index < 256, "frame_num has 8 bits");
    let key = index == 0;
    let mut body = vec![if key { 0x17 } else { 0x27 }, 1, 0, 0, 0];
    let mut sei = vec![0x06, 5, LABEL as u8];
    sei.extend([b'-'; LABEL]);
    sei.push(0x80);
    nal_unit(&mut body, &sei);
    nal_unit(&mut body, &if key { key_slice() } else { skipped_slice(index) });

    let filler = size.checked_sub(body.len() + 4 + 2).expect("size holds the picture");
    let mut padding = vec![0x0C];
    padding.resize(1 + filler, 0xFF);
    padding.push(0x80);
    nal_unit(&mut body, &padding);
    body
}

fn nal_unit(body: &mut Vec<u8>, unit: &[u8]) {
    body.extend((unit.len() as u32).to_be_bytes());
    body.extend(unit);
}

fn key_slice() -> Vec<u8> {
    let mut bits = BitWriter::new();
    bits.u(8, 0x65);
    bits.ue(0).ue(7).ue(0).u(8, 0).ue(0); // first_mb, slice_type I, pps, frame_num, idr_pic_id
    bits.u(2, 0).ue(0); // dec_ref_pic_marking, slice_qp_delta
    for _ in 0..MACROBLOCKS_WIDE * MACROBLOCKS_HIGH {
        // mb_type I_16x16_2_0_0, intra_chroma_pred_mode, mb_qp_delta, coeff_token of an empty DC block
        bits.ue(3).ue(0).ue(0).u(1, 1);
    }
    bits.rbsp()
}

fn skipped_slice(frame_num: u32) -> Vec<u8> {
    let mut bits = BitWriter::new();
    bits.u(8, 0x41);
    bits.ue(0).ue(5).ue(0).u(8, frame_num); // first_mb, slice_type P, pps
    bits.u(1, 0).u(1, 0).u(1, 0).ue(0); // override, ref list modification, adaptive marking, slice_qp_delta
    bits.ue(MACROBLOCKS_WIDE * MACROBLOCKS_HIGH); // mb_skip_run
    bits.rbsp()
}

/// The body of the audio sequence header: AAC-LC, 44.1 kHz, mono.
pub fn aac_config() -> Vec<u8> {
    vec![0xAF, 0, 0x12, 0x08]
}

/// The body of an audio frame of silence, `size` bytes long.
///
/// # Panics
/// If `size` is outside what one full data stream element allows.
pub fn aac(size: usize) -> Vec<u8> {
    let mut silence = BitWriter::new();
    silence.u(3, 0).u(4, 0).u(8, 0); // single_channel_element, instance tag, global_gain
    silence.u(1, 0).u(2, 0).u(1, 0).u(6, 0).u(1, 0); // ics_info: max_sfb 0, no prediction
    silence.u(3, 0).u(3, 7); // no pulse, TNS, gain control; END
    let silence = silence.bytes();

    let data = size.checked_sub(2 + 3 + silence.len()).expect("size holds the frame");
    let escape = u8::try_from(data - 255).expect("a data stream element holds 255 to 510 bytes");
    let mut body = vec![0xAF, 1, 0b1000_0001, 255, escape];
    body.resize(5 + data, b'-');
    body.extend(silence);
    body
}

/// The body of an MP3 frame of silence: MPEG-1 layer III, 128 kbit/s, 44.1 kHz, mono.
pub fn mp3() -> Vec<u8> {
    const FRAME: usize = 144 * 128_000 / 44_100;
    let mut body = vec![0x2E, 0xFF, 0xFB, 0x90, 0xC4];
    // Side information of zeros: no main data. All that follows is ancillary.
    body.resize(1 + FRAME, 0);
    body
}

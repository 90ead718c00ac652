//! Each real encoder publishes, and HTTP, WebSocket and RTMP serve the same access units, decodable to the last.

use remuxd_tests::capture::{Capture, End, Recording};
use remuxd_tests::clip::Clip;
use remuxd_tests::compare::{Coverage, access_units, check_start, compare};
use remuxd_tests::decode::decode;
use remuxd_tests::encoder::Encoder;
use remuxd_tests::flv::{Header, Tag, read_file};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::times::check_times;
use remuxd_tests::tool::Ffmpeg;
use remuxd_tests::wait::SOON;

/// Publishes to viewers of each kind, which have waited and therefore get the whole stream.
fn serves(encoder: Encoder, clip: Clip) {
    let host = Host::start(&Config::live());
    let key = host.key("encoder");
    let captures = [
        ("HTTP", Capture::http(&host, &key)),
        ("WebSocket", Capture::websocket(&host, &key)),
        ("RTMP", Capture::rtmp(&host, &key)),
    ];
    host.wait_waiting(captures.len());
    let mut publishing = encoder.publish(clip, &host, &key);
    let published = read_file(&publishing.finish());
    let scratch = Scratch::new();
    for (name, capture) in captures {
        let recording = capture.finish(SOON);
        let faults = faults(clip, &published, &recording, &scratch, name != "RTMP");
        assert!(faults.is_empty(), "{name}: {}", faults.join("\n"));
    }
}

fn faults(clip: Clip, published: &[Tag], served: &Recording, scratch: &Scratch, flv: bool) -> Vec<String> {
    let file = scratch.join("served.flv");
    std::fs::write(&file, &served.bytes).unwrap();
    let mut faults = Vec::new();
    if served.end != End::Clean {
        faults.push(format!("the end: {:?}", served.end));
    }
    if served.unfinished > 0 {
        faults.push(format!("ends inside a tag, after {} bytes of it", served.unfinished));
    }
    // RTMP has no such header.
    let header = Header { audio: clip.audio().is_some(), video: clip.video().is_some() };
    if flv && served.header != Some(header) {
        faults.push(format!("the header says {:?}, not {header:?}", served.header));
    }
    faults.extend(compare(published, &served.tags, Coverage::Whole).err());
    faults.extend(check_start(&served.tags).err());
    // GStreamer's flvmux writes DTS before 0 as 0: some that it publishes are equal.
    if check_times(&access_units(published)).is_ok() {
        faults.extend(check_times(&access_units(&served.tags)).err());
    }
    faults.extend(decode(clip.ffmpeg(), &file).err());
    faults
}

macro_rules! encoders {
    ($($name:ident: $encoder:expr, $clip:expr;)*) => {
        $(#[test] fn $name() { serves($encoder, $clip); })*
    };
}

encoders! {
    ffmpeg_5_publishes_h264_and_aac: Encoder::Ffmpeg(Ffmpeg::Five), Clip::H264Aac;
    ffmpeg_5_publishes_h264_and_mp3: Encoder::Ffmpeg(Ffmpeg::Five), Clip::H264Mp3;
    ffmpeg_5_publishes_h264_alone: Encoder::Ffmpeg(Ffmpeg::Five), Clip::H264;
    ffmpeg_5_publishes_aac_alone: Encoder::Ffmpeg(Ffmpeg::Five), Clip::Aac;
    ffmpeg_5_publishes_mp3_alone: Encoder::Ffmpeg(Ffmpeg::Five), Clip::Mp3;
    ffmpeg_9_publishes_h264_and_aac: Encoder::Ffmpeg(Ffmpeg::Nine), Clip::H264Aac;
    ffmpeg_9_publishes_hevc_and_aac: Encoder::Ffmpeg(Ffmpeg::Nine), Clip::HevcAac;
    ffmpeg_9_publishes_av1_and_opus: Encoder::Ffmpeg(Ffmpeg::Nine), Clip::Av1Opus;
    ffmpeg_9_publishes_vp9_and_opus: Encoder::Ffmpeg(Ffmpeg::Nine), Clip::Vp9Opus;
    ffmpeg_9_publishes_h264_and_opus: Encoder::Ffmpeg(Ffmpeg::Nine), Clip::H264Opus;
    gstreamer_rtmp2sink_publishes_h264_and_aac: Encoder::Rtmp2Sink, Clip::H264Aac;
    gstreamer_rtmp2sink_publishes_h264_alone: Encoder::Rtmp2Sink, Clip::H264;
    gstreamer_rtmp2sink_publishes_aac_alone: Encoder::Rtmp2Sink, Clip::Aac;
    librtmp_publishes_h264_and_aac: Encoder::RtmpSink, Clip::H264Aac;
    librtmp_publishes_h264_and_mp3: Encoder::RtmpSink, Clip::H264Mp3;
}

//! HTTP-TS: the served stream decodes, follows the rules of transport streams, and has the published access units and times.

use std::time::Duration;

use remuxd_tests::browser::{self, Player};
use remuxd_tests::clip::{Clip, LENGTH};
use remuxd_tests::compare::{Coverage, compare_units};
use remuxd_tests::decode::decode;
use remuxd_tests::encoder::{Encoder, encode_live, publish_looped};
use remuxd_tests::fetch::Fetch;
use remuxd_tests::flv::{AUDIO, Content, SCRIPT, Tag, VIDEO, read_file};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::player::{mpv, vlc};
use remuxd_tests::publisher::Publisher;
use remuxd_tests::scratch::Scratch;
use remuxd_tests::times::gap;
use remuxd_tests::tool::{Ffmpeg, run};
use remuxd_tests::ts::{Stream, access_units, check, published_units, second_opinion};
use remuxd_tests::wait::SOON;
use rustix::process::{Signal, kill_process};

/// Returns a configuration with one mount. Viewers may be far behind, since the tests publish faster than real time.
fn config() -> Config {
    Config::live()
        .tables("[modules]\nload = [\"ts\"]")
        .play("queue_length", "\"10m\"")
        .mount("mount = \"[vhost]/[app]/[stream].ts\"")
}

fn path(key: &str) -> String {
    format!("/{key}.ts")
}

/// Compares a served stream with the rules, two readers and the published tags, and returns it.
fn checked(published: &[Tag], served: &[u8], coverage: Coverage) -> Stream {
    let stream = Stream::read(served);
    check(&stream).unwrap();
    let seen = second_opinion(served).unwrap();
    let units = seen.values().map(|seen| seen.units).sum::<usize>();
    assert_eq!(units, stream.units.len(), "{seen:?}");
    let compared = compare_units(&published_units(published), &access_units(&stream).unwrap(), coverage);
    assert_eq!(compared, Ok(stream.units.len()));
    stream
}

fn decodes(ffmpeg: Ffmpeg, served: &[u8]) {
    let scratch = Scratch::new();
    let file = scratch.join("served.ts");
    std::fs::write(&file, served).unwrap();
    decode(ffmpeg, &file).unwrap();
}

/// Returns the versions of the program map, each with its stream types.
fn versions(stream: &Stream) -> Vec<(u8, Vec<u8>)> {
    let maps = stream.tables.iter().filter_map(|table| {
        let program = table.program.as_ref()?;
        let types = program.streams.iter().map(|elementary| elementary.stream_type).collect();
        Some((table.version, types))
    });
    let mut versions: Vec<_> = maps.collect();
    versions.dedup();
    versions
}

/// Publishes `tags` for a viewer that waits for them, and returns its response.
fn serve(tags: &[Tag]) -> Vec<u8> {
    let host = Host::start(&config());
    let key = host.key("ts");
    let (mut publisher, fetch) = watched(&host, &key);
    publisher.send(tags);
    drop(publisher);
    fetch.finish(LENGTH * 10)
}

/// Starts a publisher that has sent nothing, and a viewer that waits for it.
fn watched(host: &Host, key: &str) -> (Publisher, Fetch) {
    let publisher = Publisher::open(host.rtmp, key);
    let fetch = Fetch::start(host, &path(key));
    host.wait_viewers(1);
    (publisher, fetch)
}

/// Checks a minute from a real encoder.
fn minute(clip: Clip) {
    let published: Vec<Tag> = read_file(&clip.minute());
    let served = serve(&published);
    let stream = checked(&published, &served, Coverage::Whole);
    let (first, last) = (stream.units.first().unwrap(), stream.units.last().unwrap());
    assert!(last.dts - first.dts > 59 * 90_000, "{} ms", (last.dts - first.dts) / 90);
    assert_eq!(versions(&stream).len(), 1);
    decodes(clip.ffmpeg(), &served);
}

/// Checks a real encoder in real time, with a viewer from the start.
fn live(clip: Clip) {
    let host = Host::start(&config());
    let key = host.key("encoder");
    let fetch = Fetch::start(&host, &path(&key));
    host.wait_waiting(1);
    let mut publishing = Encoder::Ffmpeg(clip.ffmpeg()).publish(clip, &host, &key);
    let published = read_file(&publishing.finish());
    let served = fetch.finish(SOON);
    checked(&published, &served, Coverage::FromKeyframe);
    decodes(clip.ffmpeg(), &served);
}

macro_rules! clips {
    ($($codecs:ident: $clip:ident;)*) => {
        $(mod $codecs {
            #[test]
            fn for_a_minute() {
                super::minute(super::Clip::$clip);
            }

            #[test]
            fn from_a_live_encoder() {
                super::live(super::Clip::$clip);
            }
        })*
    };
}

clips! {
    h264_and_aac: H264Aac;
    h264_and_mp3: H264Mp3;
    h264_and_opus: H264Opus;
    h264_alone: H264;
    hevc_and_aac: HevcAac;
    aac_alone: Aac;
    mp3_alone: Mp3;
}

fn is_frame(tag: &Tag) -> bool {
    matches!(tag.content(), Content::AccessUnit(_))
}

fn clip(clip: Clip) -> Vec<Tag> {
    read_file(&clip.path()).into_iter().filter(|tag| tag.kind != SCRIPT).collect()
}

/// Returns `tags`, later by a time.
fn after(time: u32, tags: Vec<Tag>) -> Vec<Tag> {
    tags.into_iter().map(|tag| Tag { timestamp: tag.timestamp.wrapping_add(time), ..tag }).collect()
}

#[test]
fn opus_alone_is_served() {
    let tags: Vec<Tag> = clip(Clip::H264Opus).into_iter().filter(|tag| tag.kind == AUDIO).collect();
    let served = serve(&tags);
    assert_eq!(versions(&checked(&tags, &served, Coverage::Whole)), [(0, vec![0x06])]);
    decodes(Ffmpeg::Nine, &served);
}

#[test]
fn hevc_with_the_legacy_codec_id_is_served() {
    let mut tags = clip(Clip::HevcAac);
    // The legacy format cannot carry colour metadata.
    tags.retain(|tag| tag.content() != Content::Other);
    for tag in tags.iter_mut().filter(|tag| tag.kind == VIDEO) {
        let (first, offset) = (tag.payload[0], if tag.payload[0] & 15 == 1 { 8 } else { 5 });
        let packet = if first & 15 == 0 { 0 } else { 1 };
        let composition = if offset == 8 { tag.payload[5..8].to_vec() } else { vec![0; 3] };
        let header = [vec![(first & 0x70) | 12, packet], composition].concat();
        tag.payload.splice(..offset, header);
    }
    let served = serve(&tags);
    assert_eq!(versions(&checked(&tags, &served, Coverage::Whole)), [(0, vec![0x24, 0x0f])]);
    decodes(Ffmpeg::Nine, &served);
}

#[test]
fn one_picture_a_second_has_a_clock() {
    let tags: Vec<Tag> = (0..3)
        .flat_map(|round| after(round * 4_000, clip(Clip::H264)))
        .filter(|tag| tag.is_keyframe() || !is_frame(tag))
        .collect();
    let served = serve(&tags);
    let stream = checked(&tags, &served, Coverage::Whole);
    assert_eq!(stream.units.len(), 12);
    assert!(stream.clocks.len() > 11 * 24, "{}", stream.clocks.len());
    decodes(Ffmpeg::Five, &served);
}

#[test]
fn a_late_track_gets_a_new_version() {
    for (late, expected) in
        [(AUDIO, [(0, vec![0x1b]), (1, vec![0x1b, 0x0f])]), (VIDEO, [(0, vec![0x0f]), (1, vec![0x1b, 0x0f])])]
    {
        let all = clip(Clip::H264Aac);
        let (headers, frames): (Vec<Tag>, Vec<Tag>) = all.into_iter().partition(|tag| !is_frame(tag));
        let on_time = |tag: &Tag| tag.kind != late;
        // Video starts at a keyframe.
        let from = if late == VIDEO { 2_000 } else { 2_100 };
        let early = frames.iter().filter(|tag| tag.timestamp < from && on_time(tag));
        let rest = frames.iter().filter(|tag| tag.timestamp >= from);
        let early: Vec<Tag> = headers.iter().filter(|tag| on_time(tag)).chain(early).cloned().collect();
        let late_header = headers.iter().filter(|tag| !on_time(tag)).cloned();
        let late_header = late_header.map(|tag| Tag { timestamp: from, ..tag });
        let tags: Vec<Tag> = early.into_iter().chain(late_header).chain(rest.cloned()).collect();
        let served = serve(&tags);
        let coverage = if late == VIDEO { Coverage::FromKeyframe } else { Coverage::Whole };
        assert_eq!(versions(&checked(&tags, &served, coverage)), expected);
        decodes(Ffmpeg::Five, &served);
    }
}

#[test]
fn a_change_of_codecs_gets_new_versions() {
    let tags = [
        clip(Clip::H264Aac),
        after(4_100, clip(Clip::HevcAac)),
        after(8_200, clip(Clip::H264Mp3)),
        after(12_300, clip(Clip::H264Opus)),
    ]
    .concat();
    let served = serve(&tags);
    let stream = checked(&tags, &served, Coverage::Whole);
    let types: Vec<Vec<u8>> = versions(&stream).into_iter().map(|(_, types)| types).collect();
    for expected in [[0x1b, 0x0f], [0x24, 0x0f], [0x1b, 0x03], [0x1b, 0x06]] {
        assert!(types.contains(&expected.to_vec()), "{types:02x?}");
    }
    // A viewer of the last part, from its first keyframe on.
    let tables: Vec<_> = stream.tables.iter().filter(|table| table.is_association()).collect();
    let last = tables.iter().rev().take_while(|table| {
        stream.program_at(table.at + 1).is_some_and(|program| program.streams[1].stream_type == 0x06)
    });
    let last = last.last().unwrap().at;
    decodes(Ffmpeg::Nine, &served[last * 188..]);
}

#[test]
fn a_change_of_resolution_keeps_the_version() {
    let scratch = Scratch::new();
    let file = scratch.join("large.flv");
    let mut command = Ffmpeg::Five.command();
    command.args(["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=2"]);
    command.args(["-c:v", "libx264", "-preset", "veryfast", "-g", "25", "-pix_fmt", "yuv420p", "-f", "flv"]);
    run(command.arg(&file)).unwrap();
    let large: Vec<Tag> = read_file(&file).into_iter().filter(|tag| tag.kind != SCRIPT).collect();
    let tags = [clip(Clip::H264), after(4_000, large)].concat();
    let served = serve(&tags);
    let stream = checked(&tags, &served, Coverage::Whole);
    assert_eq!(versions(&stream), [(0, vec![0x1b])]);
    decodes(Ffmpeg::Five, &served);
}

#[test]
fn wraps_of_rtmp_timestamps_are_invisible() {
    // After 24.8 days a signed timestamp wraps, after 49.7 any.
    for edge in [1u32 << 31, 0] {
        let tags = after(edge.wrapping_sub(2_000), clip(Clip::H264Aac));
        let served = serve(&tags);
        checked(&tags, &served, Coverage::Whole);
        decodes(Ffmpeg::Five, &served);
    }
}

#[test]
fn transport_stream_timestamps_wrap_after_26_hours() {
    // An empty audio frame each five seconds is the fastest way there that is no jump of the publisher's clock.
    const STEP: u32 = 5_000;
    let wrap = ((1u64 << 33) / 90) as u32;
    // One second is the constant delay of the stream, two are of the clip.
    let start = wrap - 3_000;
    let silence = |timestamp| Tag { kind: AUDIO, timestamp, payload: vec![0xaf, 1] };
    let days: Vec<Tag> = (0..start / STEP).map(|n| silence(start % STEP + n * STEP)).collect();
    let tags = after(start, clip(Clip::H264Aac));
    let host = Host::start(&config());
    let key = host.key("days");
    let mut publisher = Publisher::open(host.rtmp, &key);
    publisher.send(&days);
    // The host answers after it has read everything before.
    publisher.connection().create_stream().unwrap();
    let fetch = Fetch::start(&host, &path(&key));
    host.wait_viewers(1);
    publisher.send(&tags);
    drop(publisher);
    let served = fetch.finish(LENGTH * 6);
    let stream = checked(&tags, &served, Coverage::Whole);
    let (first, last) = (stream.units[0].dts, stream.units.last().unwrap().dts);
    assert!(first < 1 << 33 && last > 1 << 33, "{first} to {last}");
    decodes(Ffmpeg::Five, &served);
}

#[test]
fn a_viewer_joins_with_tables_and_right_counters() {
    for (source, coverage) in [(Clip::H264Aac, Coverage::FromKeyframe), (Clip::Aac, Coverage::FromKeyframe)] {
        let tags = clip(source);
        let host = Host::start(&config());
        let key = host.key("join");
        let (mut publisher, first) = watched(&host, &key);
        let half = tags.len() / 2;
        publisher.send(&tags[..half]);
        // As many bytes as the frames have, to which the format adds: the first half has arrived.
        first.wait_bytes(tags[..half].iter().map(|tag| tag.payload.len()).sum(), SOON);
        let second = Fetch::start(&host, &path(&key));
        second.wait_bytes(3 * 188, SOON);
        publisher.send(&tags[half..]);
        drop(publisher);
        let [first, second] = [first, second].map(|fetch| fetch.finish(SOON));
        checked(&tags, &first, Coverage::Whole);
        let stream = checked(&tags, &second, coverage);
        assert!(second.len() < first.len());
        assert_eq!(versions(&stream).len(), 1);
        decodes(source.ffmpeg(), &second);
    }
}

#[test]
fn jumps_of_the_publishers_clock_leave_no_trace() {
    let turns: Vec<Vec<Tag>> = [0, 3_600_000, 100].map(|time| after(time, clip(Clip::H264Aac))).into();
    let served = serve(&turns.concat());
    let stream = Stream::read(&served);
    check(&stream).unwrap();
    assert_eq!(stream.units.len(), published_units(&turns.concat()).len());
    let (first, last) = (&stream.units[0], stream.units.last().unwrap());
    assert!((last.dts - first.dts) / 90 < 3 * 4_500, "{} ms", (last.dts - first.dts) / 90);
    decodes(Ffmpeg::Five, &served);
}

#[test]
fn empty_audio_frames_are_skipped() {
    let mut tags = clip(Clip::H264Aac);
    for tag in tags.iter_mut().filter(|tag| tag.kind == AUDIO && is_frame(tag)) {
        if (1_000..3_000).contains(&tag.timestamp) {
            tag.payload.truncate(2);
        }
    }
    let served = serve(&tags);
    checked(&tags, &served, Coverage::Whole);
    decodes(Ffmpeg::Five, &served);
}

#[test]
fn a_publisher_that_comes_back_continues_the_stream() {
    let host = Host::start(&config().publish("republish_wait", "\"5s\""));
    let key = host.key("again");
    let tags = clip(Clip::H264Aac);
    let (mut publisher, fetch) = watched(&host, &key);
    publisher.send(&tags);
    drop(publisher);
    let mut publisher = Publisher::reopen(host.rtmp, &key);
    publisher.send(&tags);
    drop(publisher);
    let served = fetch.finish(SOON);
    let stream = Stream::read(&served);
    check(&stream).unwrap();
    assert_eq!(versions(&stream).len(), 1);
    let video = stream.units.iter().filter(|unit| unit.is_video()).count();
    assert_eq!(video, 2 * tags.iter().filter(|tag| tag.kind == VIDEO && is_frame(tag)).count());
    // The clip's audio begins 57 ms after its video.
    let gap = gap(&access_units(&stream).unwrap(), published_units(&tags).len());
    assert!(gap.is_some_and(|gap| (1..=100).contains(&gap)), "{gap:?}");
    decodes(Ffmpeg::Five, &served);
}

#[test]
fn a_module_that_dies_marks_where_counters_start_afresh() {
    let host = Host::start(&config().tables("[module.\"ts\"]\nisolation = \"process\""));
    let key = host.key("dies");
    let tags = clip(Clip::H264Aac);
    let (mut publisher, fetch) = watched(&host, &key);
    publisher.send(&tags);
    // All of it has gone through the module.
    let frames = published_units(&tags).len();
    fetch.wait_for(SOON, "the first part", |bytes| (Stream::read(bytes).units.len() == frames).then_some(()));
    let (process, _) = host.children()[0];
    kill_process(process, Signal::KILL).unwrap();
    // The fault is noticed at the first keyframe, and the next remuxer starts at the second.
    publisher.send(&after(4_100, tags));
    drop(publisher);
    let served = fetch.finish(SOON);
    host.wait_nth_log("remuxer ended", 1);
    let stream = Stream::read(&served);
    check(&stream).unwrap();
    assert!(stream.units.len() > frames + frames / 2, "{} units", stream.units.len());
    let restarts = stream.clocks.iter().filter(|clock| clock.discontinuity);
    assert_eq!(restarts.count(), 1, "the start of the second remuxer");
    for ffmpeg in [Ffmpeg::Five, Ffmpeg::Nine] {
        decodes(ffmpeg, &served);
    }
}

#[test]
fn what_it_cannot_carry_is_left_out_or_refused() {
    let tags = clip(Clip::Av1Opus);
    let host = Host::start(&config());
    let key = host.key("left-out");
    let (mut publisher, fetch) = watched(&host, &key);
    publisher.send(&tags);
    drop(publisher);
    let served = fetch.finish(SOON);
    let audio: Vec<Tag> = tags.iter().filter(|tag| tag.kind == AUDIO).cloned().collect();
    checked(&audio, &served, Coverage::FromKeyframe);
    decodes(Ffmpeg::Nine, &served);
    host.wait_nth_log("av01", 1);

    let key = host.key("refused");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let video: Vec<&Tag> = tags.iter().filter(|tag| tag.kind == VIDEO).collect();
    publisher.send(video);
    assert_eq!(Request::get(&path(&key)).send(host.http).unwrap().status, 415);
}

#[test]
fn aac_that_adts_cannot_carry_is_left_out() {
    let mut tags = clip(Clip::H264Aac);
    let is_header = |tag: &&mut Tag| tag.kind == AUDIO && tag.content() == Content::SequenceHeader;
    // xHE-AAC, object type 42.
    tags.iter_mut().find(is_header).unwrap().payload.splice(2.., *b"\xf9\x46\x40");
    let host = Host::start(&config());
    let key = host.key("xhe");
    let (mut publisher, fetch) = watched(&host, &key);
    publisher.send(&tags);
    drop(publisher);
    let served = fetch.finish(SOON);
    let video: Vec<Tag> = tags.iter().filter(|tag| tag.kind == VIDEO).cloned().collect();
    assert_eq!(versions(&checked(&video, &served, Coverage::Whole)), [(0, vec![0x1b])]);
    decodes(Ffmpeg::Five, &served);
    host.wait_nth_log("codec mp4a is dropped: ADTS cannot carry AAC object type 42", 1);
}

/// Checks mpegts.js, in Chromium.
fn plays(source: Clip, tracks: &str) {
    let host = Host::start(&config());
    let key = host.key("browser");
    let _publishing = publish_looped(source, &host.rtmp_url(&key));
    let url = format!("http://{}{}", host.http, path(&key));
    let outcome = browser::play(Player::Mpegts, &url, tracks, Duration::from_secs(30)).unwrap();
    assert!(outcome.errors.is_empty(), "{outcome:?}");
    assert!(outcome.advanced > 1.0, "{outcome:?}");
    assert!(outcome.frames > 20 || tracks == "a", "{outcome:?}");
    assert!(outcome.audio_bytes > 0 || tracks == "v", "{outcome:?}");
}

#[test]
fn mpegts_js_plays_video_with_audio() {
    plays(Clip::H264Aac, "av");
}

#[test]
fn mpegts_js_plays_video_alone() {
    plays(Clip::H264, "v");
}

#[test]
fn mpegts_js_plays_audio_alone() {
    plays(Clip::Aac, "a");
}

#[test]
fn mpegts_js_plays_mp3() {
    plays(Clip::H264Mp3, "av");
}

/// Two seconds of a live stream.
#[test]
fn ffmpeg_plays_the_url() {
    let host = Host::start(&config());
    let key = host.key("ffmpeg");
    let _publishing = encode_live(&host.rtmp_url(&key));
    let mut command = Ffmpeg::Five.command();
    let url = format!("http://{}{}", host.http, path(&key));
    command.args(["-xerror", "-i", &url, "-map", "0:v", "-map", "0:a", "-t", "2", "-f", "null", "-"]);
    let output = run(&mut command).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn mpv_and_vlc_play_without_warnings() {
    let host = Host::start(&config());
    let key = host.key("native");
    let _publishing = encode_live(&host.rtmp_url(&key));
    let url = format!("http://{}{}", host.http, path(&key));
    mpv(&url, 3).unwrap_or_else(|error| panic!("{error}"));
    vlc(&url, "av", 3).unwrap_or_else(|error| panic!("{error}"));
}

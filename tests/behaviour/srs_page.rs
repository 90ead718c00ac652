//! The configurations of SRS's page on HTTP-FLV delivery, from conf/: each is valid, and its formats play.

use std::time::Duration;

use remuxd_tests::audio::{read_adts, read_mp3};
use remuxd_tests::capture::Capture;
use remuxd_tests::clip::Clip;
use remuxd_tests::decode::decode;
use remuxd_tests::encoder::Encoder;
use remuxd_tests::fetch::Fetch;
use remuxd_tests::flv::{AUDIO, Tag, read_file};
use remuxd_tests::host::{API, Host, remuxd};
use remuxd_tests::publisher::Publisher;
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tls::{Certificate, Files};
use remuxd_tests::tool::{Ffmpeg, root, run};
use remuxd_tests::wait::SOON;

/// Returns the file with free ports and a certificate that exists.
fn toml(name: &str, certificate: &Files) -> String {
    let file = std::fs::read_to_string(root().join("conf").join(name)).unwrap();
    let (key, cert) = (format!("{:?}", certificate.key()), format!("{:?}", certificate.cert()));
    [
        ("[\"1935\"]", "[\"127.0.0.1:0\"]"),
        ("\"8080\"\n", "\"127.0.0.1:0\"\n"),
        ("\"8088\"\n", "\"127.0.0.1:0\"\n"),
        ("\"./conf/server.key\"\n", &(key + "\n")),
        ("\"./conf/server.crt\"\n", &(cert + "\n")),
    ]
    .iter()
    .fold(file, |file, (from, to)| file.replace(from, to))
}

/// Checks that `remuxd check` prints no warning, and that these formats of a live stream play with these schemes.
fn plays(name: &str, clip: Clip, formats: &[&str], schemes: &[&str]) {
    let files = Files::of(&Certificate::of(&["127.0.0.1"]));
    let toml = toml(name, &files);
    let scratch = Scratch::new();
    std::fs::write(scratch.join(name), &toml).unwrap();
    let checked = remuxd(&["check", "--config", scratch.join(name).to_str().unwrap()]);
    assert!(checked.status.success(), "{checked:?}");
    assert_eq!(String::from_utf8_lossy(&checked.stderr), "", "{name}");

    let host = Host::start_toml(&format!("{toml}\n{API}"));
    let key = host.key("film");
    let play = |scheme: &str, format: &str| {
        let address = if scheme == "https" { host.https.unwrap() } else { host.http };
        let url = format!("{scheme}://{address}/{key}.{format}");
        let mut command = Ffmpeg::Five.command();
        command.args(["-xerror", "-i", &url, "-map", "0:a"]);
        if ["flv", "ts"].contains(&format) {
            command.args(["-map", "0:v"]);
        }
        let output = run(command.args(["-f", "null", "-"])).unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{url}");
    };
    std::thread::scope(|scope| {
        // They wait for the stream, and play it to its end.
        for scheme in schemes {
            formats.iter().for_each(|format| drop(scope.spawn(|| play(scheme, format))));
        }
        host.wait_waiting(schemes.len() * formats.len());
        Encoder::Ffmpeg(Ffmpeg::Five).publish(clip, &host, &key).finish();
    });
}

#[test]
fn http_flv_plays() {
    plays("http-flv.toml", Clip::H264Aac, &["flv"], &["http"]);
}

#[test]
fn https_flv_plays() {
    plays("https-flv.toml", Clip::H264Aac, &["flv"], &["http", "https"]);
}

#[test]
fn http_ts_plays() {
    plays("http-ts.toml", Clip::H264Aac, &["ts"], &["http"]);
}

#[test]
fn http_mp3_plays() {
    plays("http-mp3.toml", Clip::H264Mp3, &["mp3"], &["http"]);
}

#[test]
fn http_aac_plays() {
    plays("http-aac.toml", Clip::H264Aac, &["aac"], &["http"]);
}

#[test]
fn one_stream_plays_in_every_format_at_once() {
    plays("http-live-full.toml", Clip::H264Aac, &["flv", "ts", "aac"], &["http", "https"]);
    plays("http-live-full.toml", Clip::H264Mp3, &["flv", "ts", "mp3"], &["http", "https"]);
}

/// Returns the audio of a clip, repeated to one stream of at least `length`. `samples` is the number of samples of a frame
/// at 44.1 kHz.
fn repeated(clip: Clip, samples: u64, length: Duration) -> Vec<Tag> {
    let audio: Vec<Tag> = read_file(&clip.path()).into_iter().filter(|tag| tag.kind == AUDIO).collect();
    let frames = audio.iter().filter(|tag| tag.access_unit().is_some()).count() as u64;
    let clip_millis = frames * samples * 1000 / 44_100;
    let count = length.as_millis() as u64 / clip_millis + 1;
    let shifted = |number: u64| {
        let shift = (number * frames * samples * 1000 / 44_100) as u32;
        let later = audio.iter().filter(move |tag| number == 0 || tag.access_unit().is_some());
        later.map(move |tag| Tag { timestamp: tag.timestamp + shift, ..tag.clone() })
    };
    (0..count).flat_map(shifted).collect()
}

/// Checks that the first burst of a stream older than `fast_cache` has 30 seconds, within one frame, and decodes.
fn bursts(name: &str, clip: Clip, format: &str, samples: u64, count: fn(&[u8]) -> usize) {
    let files = Files::of(&Certificate::of(&["127.0.0.1"]));
    let host = Host::start_toml(&toml(name, &files));
    let key = host.key("film");
    let mut stream = repeated(clip, samples, Duration::from_secs(47));
    // The last frame comes twice: each repetition ends with it, but only the stream's end has it twice in a row.
    let last = stream.last().unwrap().clone();
    stream.push(Tag { timestamp: last.timestamp + (samples * 1000 / 44_100) as u32, ..last });
    let path = format!("/{key}.{format}");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let witness = Capture::rtmp(&host, &key);
    witness.wait_started(SOON);
    publisher.send(&stream);
    let newest = stream.last().unwrap();
    // A player that falls behind skips frames.
    let arrived = |tags: &[Tag]| tags.last().is_some_and(|tag| tag.timestamp == newest.timestamp);
    witness.wait_until(SOON, "the newest frame", arrived);
    let (frame, header) = if format == "aac" { (&newest.payload[2..], 7) } else { (&newest.payload[1..], 0) };
    let ends = |bytes: &[u8]| {
        let before = bytes.len().saturating_sub(frame.len() + header);
        bytes.ends_with(frame) && bytes[..before].ends_with(frame)
    };
    for viewer in ["the first viewer", "a later one", "and one more"] {
        let viewing = Fetch::start(&host, &path);
        let burst = viewing.wait_for(SOON, "the newest frame", |bytes| ends(bytes).then(|| bytes.to_vec()));
        let frame = samples as f64 / 44_100.0;
        let seconds = count(&burst) as f64 * frame;
        // And the rounding of timestamps to milliseconds.
        assert!((seconds - 30.0).abs() <= frame + 0.001, "{viewer}: {seconds} s");
        let scratch = Scratch::new();
        let file = scratch.join(&format!("burst.{format}"));
        std::fs::write(&file, &burst).unwrap();
        decode(Ffmpeg::Five, &file).unwrap();
    }
}

#[test]
fn http_mp3_starts_with_30_seconds() {
    bursts("http-mp3.toml", Clip::Mp3, "mp3", 1152, |bytes| read_mp3(bytes).len());
}

#[test]
fn http_aac_starts_with_30_seconds() {
    bursts("http-aac.toml", Clip::Aac, "aac", 1024, |bytes| read_adts(bytes).len());
}

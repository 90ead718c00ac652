//! Enhanced RTMP: multichannel audio, and streams of several tracks.

use remuxd_tests::capture::Capture;
use remuxd_tests::flv::{AUDIO, Tag};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::Publisher;
use remuxd_tests::wait::SOON;

fn audio(timestamp: u32, payload: &[u8]) -> Tag {
    Tag { kind: AUDIO, timestamp, payload: payload.to_vec() }
}

#[test]
fn the_multichannel_config_is_replayed_to_viewers_and_players() {
    const CONFIG: &[u8] = b"\x94Opus\x01\x06\0\0\0\x3f";
    let host = Host::start(&Config::live());
    let key = host.key("surround");
    let early = [Capture::http(&host, &key), Capture::websocket(&host, &key), Capture::rtmp(&host, &key)];
    host.wait_waiting(3);
    let mut publisher = Publisher::open(host.rtmp, &key);
    let head = b"\x90OpusOpusHead\x01\x06\0\0\x80\xbb\0\0\0\0\x01\x04\x02\0\x04\x01\x02\x03\x05";
    publisher.send(&[audio(0, head), audio(0, CONFIG)]);
    for number in 0..100 {
        publisher.send(&[audio(number * 20, b"\x91Opusframe")]);
    }
    let count = |tags: &[Tag], payload: &[u8]| tags.iter().filter(|tag| tag.payload == payload).count();
    let has = |times: usize| move |tags: &[Tag]| count(tags, CONFIG) == times;
    early.iter().for_each(|viewer| viewer.wait_until(SOON, "the config", has(1)));
    let late = [Capture::http(&host, &key), Capture::websocket(&host, &key), Capture::rtmp(&host, &key)];
    let request = Request::get(&format!("{}?multichannel_config=false", host.path(&key)));
    let without = Capture::request(&host, request);
    host.wait_viewers(5);
    publisher.send(&[audio(2000, b"\x91Opuslast")]);
    let ended = |tags: &[Tag]| count(tags, b"\x91Opuslast") == 1;
    for viewer in early.iter().chain(&late) {
        viewer.wait_until(SOON, "the last frame", |tags| ended(tags) && has(1)(tags));
    }
    without.wait_until(SOON, "the last frame", |tags| ended(tags) && count(tags, CONFIG) == 0);
}

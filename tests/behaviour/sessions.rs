//! The records of sessions, as `remuxd sessions` shows them.

use remuxd_tests::capture::Capture;
use remuxd_tests::flv::Tag;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::wait::{SOON, poll_for, wait_until};

/// The sessions of a host, in order: action, protocol, stream and bytes.
fn sessions(host: &Host) -> Vec<(String, String, String, usize)> {
    let row = |row: Vec<String>| {
        assert_eq!((row[0].len(), row[4].as_str()), (16, "127.0.0.1"), "{row:?}");
        (row[1].clone(), row[2].clone(), row[3].clone(), row[6].parse().unwrap())
    };
    let mut sessions: Vec<_> = host.sessions().into_iter().map(row).collect();
    sessions.sort();
    sessions
}

fn payloads<'a>(tags: impl IntoIterator<Item = &'a Tag>) -> usize {
    tags.into_iter().map(|tag| tag.payload.len()).sum()
}

#[test]
fn sessions_are_listed_with_their_bytes_until_they_end() {
    let host = Host::start(&Config::live());
    assert!(host.sessions().is_empty());
    let key = host.key("film");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(5));
    let viewers = [Capture::http(&host, &key), Capture::websocket(&host, &key), Capture::rtmp(&host, &key)];
    for viewer in &viewers {
        viewer.wait_until(SOON, "frame 4", |tags| Numbered::numbers(tags).last() == Some(&4));
    }
    let [http, websocket, rtmp] = viewers;
    let expected = || {
        [
            ("play", "http", http.bytes()),
            ("play", "rtmp", payloads(&rtmp.tags())),
            ("play", "websocket", websocket.bytes()),
            // The metadata without the name of their command.
            ("publish", "rtmp", payloads(&rtmp.tags())),
        ]
        .map(|(action, protocol, bytes)| {
            (action.to_owned(), protocol.to_owned(), "live/film".to_owned(), bytes)
        })
    };
    // The last bytes may be on their way.
    let are_equal = poll_for(SOON, || (sessions(&host) == expected()).then_some(()));
    assert!(are_equal.is_some(), "{:?} instead of {:?}", sessions(&host), expected());
    assert!(payloads(&rtmp.tags()) > 2500, "the frames are counted");
    drop(publisher);
    for viewer in [http, websocket, rtmp] {
        let _ = viewer.finish(SOON);
    }
    wait_until(SOON, "no session is left", || host.sessions().is_empty());
    let page = Request::get("/api/v2/sessions").send(host.api.unwrap()).unwrap();
    assert_eq!(page.status, 403, "who reaches the API may not see addresses");
}

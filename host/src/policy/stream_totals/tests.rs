use std::sync::Arc;

use super::*;
use crate::policy::group::Group;
use crate::policy::ids::Ids;
use crate::policy::request::tests::request;

/// Sessions in the order in which they began.
struct Scene {
    ids: Ids,
    streams: Streams,
    running: Vec<Session>,
    now: Instant,
}

impl Scene {
    fn new(max_series: usize) -> Scene {
        let mut streams = Streams::default();
        streams.limit(max_series);
        Scene { ids: Ids::new(), streams, running: Vec::new(), now: Instant::now() }
    }

    fn begin(&mut self, action: Action, stream: &str, bytes: usize) {
        let request = request(action, "v", "live", stream);
        let format = if action == Action::Play { "flv" } else { "" };
        let group = Arc::new(Group::new(action, "v".into(), format.into()));
        let session = Session::new(self.ids.session(), &request, request.key.clone(), None, group);
        session.add_bytes(bytes);
        self.streams.begin(&session, self.now);
        self.running.push(session);
    }

    /// Ends all sessions of a stream.
    fn end(&mut self, stream: &str) {
        for session in self.running.extract_if(.., |session| &*session.key().stream == stream) {
            self.streams.end(&session, self.now);
        }
    }

    /// Returns name, publishers, bytes received, viewers and bytes sent of each stream; the streams that are counted together have
    /// no name.
    fn shown(&mut self) -> Vec<(String, usize, u64, usize, u64)> {
        let streams = self.streams.with(self.running.iter(), self.now);
        let row = |one: StreamTotals| {
            let name = one.key.map(|key| key.stream.to_string()).unwrap_or_default();
            let formats = one.formats.values();
            let (viewers, sent) =
                formats.fold((0, 0), |(viewers, sent), one| (viewers + one.viewers, sent + one.done.bytes));
            (name, one.publishers, one.received, viewers, sent)
        };
        streams.into_iter().map(row).collect()
    }
}

fn row(
    name: &str,
    publishers: usize,
    received: u64,
    viewers: usize,
    sent: u64,
) -> (String, usize, u64, usize, u64) {
    (name.to_owned(), publishers, received, viewers, sent)
}

#[test]
fn a_stream_is_kept_for_ten_minutes_and_its_counters_go_on() {
    let mut scene = Scene::new(1000);
    scene.begin(Action::Play, "nobody publishes", 0);
    scene.begin(Action::Publish, "film", 100);
    scene.begin(Action::Play, "film", 10);
    scene.begin(Action::Play, "film", 20);
    assert_eq!(scene.shown(), [row("film", 1, 100, 2, 30)]);
    scene.end("film");
    assert_eq!(scene.shown(), [row("film", 0, 100, 0, 30)]);
    scene.now += KEPT - Duration::from_secs(1);
    scene.begin(Action::Publish, "film", 1);
    assert_eq!(scene.shown(), [row("film", 1, 101, 0, 30)]);
    scene.now += KEPT * 2;
    assert_eq!(scene.shown().len(), 1, "it is live");
    scene.end("film");
    scene.now += KEPT;
    assert_eq!(scene.shown(), []);
    assert_eq!(scene.streams.series, 0);
}

#[test]
fn streams_without_room_are_counted_together() {
    // One stream with a format, and another one without.
    let mut scene = Scene::new(2 * STREAM_SERIES + FORMAT_SERIES);
    for name in ["a", "b", "c", "d"] {
        scene.begin(Action::Publish, name, 100);
        scene.begin(Action::Play, name, 10);
    }
    let [a, b] = [row("a", 1, 100, 1, 10), row("b", 1, 100, 0, 0)];
    assert_eq!(scene.shown(), [a.clone(), b.clone(), row("", 2, 200, 3, 30)]);
    // What was counted together stays there, and never becomes less.
    scene.end("d");
    assert_eq!(scene.shown(), [a, b.clone(), row("", 1, 200, 2, 30)]);
    scene.end("a");
    scene.now += KEPT;
    scene.begin(Action::Publish, "e", 1);
    assert_eq!(scene.shown(), [b, row("e", 1, 1, 0, 0), row("", 1, 200, 2, 30)]);
    assert!(scene.streams.series <= 2 * STREAM_SERIES + FORMAT_SERIES);
}

#[test]
fn nothing_is_kept_unless_it_is_asked_for() {
    let mut scene = Scene::new(0);
    scene.begin(Action::Publish, "film", 100);
    assert_eq!(scene.shown(), []);
    assert!(scene.streams.own.is_empty() && scene.streams.others.is_empty());
}

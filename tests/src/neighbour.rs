//! A healthy stream beside an attack or a disaster: its viewers must get every frame.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::capture::{Capture, End};
use crate::host::Host;
use crate::publisher::{Numbered, Pace, Publisher};
use crate::wait::SOON;

/// A publisher in real time with numbered frames, and a viewer over each transport.
#[derive(Debug)]
pub struct Neighbour {
    viewers: BTreeMap<&'static str, Capture>,
    publisher: Pace,
}

impl Neighbour {
    /// Starts the stream `live/good` with viewers over HTTP, WebSocket and RTMP, and waits until each gets frames.
    ///
    /// # Panics
    /// When one gets none in time.
    #[must_use]
    pub fn start(host: &Host) -> Neighbour {
        let key = host.key("good");
        let viewers = BTreeMap::from([
            ("http", Capture::http(host, &key)),
            ("websocket", Capture::websocket(host, &key)),
            ("rtmp", Capture::rtmp(host, &key)),
        ]);
        host.wait_waiting(viewers.len());
        let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(2000));
        let neighbour = Neighbour { viewers, publisher };
        neighbour.goes_on("the start");
        neighbour
    }

    /// Waits until each viewer gets further frames; `what` describes what happens meanwhile.
    ///
    /// # Panics
    /// When one gets none in time.
    pub fn goes_on(&self, what: &str) {
        for (transport, viewer) in &self.viewers {
            let frames = Numbered::numbers(&viewer.tags()).len() + 5;
            let more = |tags: &[_]| Numbered::numbers(tags).len() >= frames;
            viewer.wait_until(SOON, &format!("{what}: {transport}"), more);
        }
    }

    /// Ends the stream, and checks that each viewer got every video and audio frame once and in order, and a clean end. Prints
    /// the longest wait of each for further bytes.
    ///
    /// # Panics
    /// When a frame is missing.
    pub fn finish(self) {
        let sent = self.publisher.stop();
        let mut waits: Vec<(&str, Duration)> = Vec::new();
        for (transport, viewer) in self.viewers {
            let seen = viewer.finish(SOON);
            assert_eq!(seen.end, End::Clean, "{transport}");
            let video = Numbered::numbers(&seen.tags);
            assert_eq!(video, (0..sent).collect::<Vec<_>>(), "{transport}: a gap in video");
            let audio: Vec<u32> = seen.tags.iter().filter_map(Numbered::audio_number_of).collect();
            assert_eq!(audio, (0..sent * 2).collect::<Vec<_>>(), "{transport}: a gap in audio");
            waits.push((transport, seen.longest_wait));
        }
        eprintln!("{sent} frames, none missing; longest waits {waits:?}");
    }
}

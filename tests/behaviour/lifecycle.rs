//! Start and end of the process.

use remuxd_tests::capture::{Capture, End};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::wait::SOON;

#[test]
fn sigterm_ends_it_well_with_viewers_and_a_publisher() {
    let mut host = Host::start(&Config::live());
    let key = host.key("term");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(10));
    let viewers = [Capture::http(&host, &key), Capture::websocket(&host, &key)];
    viewers.iter().for_each(|viewer| viewer.wait_access_units(10, SOON));
    assert!(host.terminate().success());
    for viewer in viewers {
        // A deadline may cut a slow one, but nothing is left hanging.
        let recording = viewer.finish(SOON);
        assert_eq!((recording.end, recording.unfinished), (End::Clean, 0));
    }
}

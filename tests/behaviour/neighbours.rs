//! nginx-rtmp beside the host: an edge that pulls when its first player comes, an ingest that pushes, a destination of forwards,
//! and an origin.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use remuxd_tests::asking::Ask;
use remuxd_tests::capture::{Capture, End};
use remuxd_tests::clip::Clip;
use remuxd_tests::compare::{Coverage, access_units, check_start, compare_units};
use remuxd_tests::decode::decode;
use remuxd_tests::encoder::{Encoder, publish_looped};
use remuxd_tests::flv::{Tag, read_file};
use remuxd_tests::host::{Config, Host};
use remuxd_tests::proxy::free_address;
use remuxd_tests::scratch::Scratch;
use remuxd_tests::times::check_times;
use remuxd_tests::tool::Ffmpeg;
use remuxd_tests::wait::{SOON, wait_until};

/// A running nginx with the RTMP module: `/live` serves what it receives, `/edge` pulls from the application `live` of another
/// server, `/ingest` pushes to it.
struct NginxRtmp {
    child: Child,
    address: SocketAddr,
    _scratch: Scratch,
}

impl NginxRtmp {
    fn start(host: &Host) -> NginxRtmp {
        NginxRtmp::start_at(free_address(), host.rtmp)
    }

    fn start_at(address: SocketAddr, other: SocketAddr) -> NginxRtmp {
        let scratch = Scratch::new();
        let file = scratch.join("nginx.conf");
        // One process, so that killing it ends all of nginx.
        let config = format!(
            "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\n\
             daemon off; master_process off; pid {pid}; error_log stderr warn;\n\
             events {{ }}\n\
             rtmp {{ access_log off; server {{ listen {address};\n\
             application live {{ live on; }}\n\
             application edge {{ live on; pull rtmp://{live}; }}\n\
             application ingest {{ live on; push rtmp://{live}; }}\n\
             }} }}\n",
            pid = scratch.join("nginx.pid").display(),
            live = format_args!("{other}/live"),
        );
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(scratch.path()).arg("-c").arg(&file).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut nginx = NginxRtmp { child, address, _scratch: scratch };
        wait_until(SOON, "nginx listens", || {
            assert!(nginx.child.try_wait().unwrap().is_none(), "nginx ended at once");
            TcpStream::connect(address).is_ok()
        });
        nginx
    }

    fn url(&self, key: &str) -> String {
        format!("rtmp://{}/{key}", self.address)
    }
}

impl Drop for NginxRtmp {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn rtmpdump(url: &str) -> Capture {
    let mut command = Command::new("rtmpdump");
    command.args(["--quiet", "--live", "--rtmp", url, "--flv", "-"]);
    Capture::command(command)
}

fn ffmpeg(url: &str) -> Capture {
    let mut command = Ffmpeg::Five.command();
    command.args(["-i", url, "-map", "0", "-c", "copy", "-f", "flv", "-"]);
    Capture::command(command)
}

/// Access units that nginx and players may drop at the end of a stream: half a second.
const LOST: usize = 35;

/// Compares what was served with the published stream, from a keyframe almost to the end. nginx may miss the first keyframe,
/// while it connects; then only audio comes before the next one.
fn assert_served(published: &[Tag], served: &[Tag]) {
    check_start(served).unwrap();
    let (published, mut served) = (access_units(published), access_units(served));
    check_times(&served).unwrap();
    let served = served.split_off(served.iter().position(|unit| unit.keyframe).unwrap());
    let start = published.iter().position(|unit| unit.hash == served[0].hash).unwrap();
    let end = start + served.len();
    assert!(end + LOST >= published.len(), "{end} of {} access units", published.len());
    let compared = compare_units(&published[..end], &served, Coverage::FromKeyframe);
    assert!(compared.as_ref().is_ok_and(|units| *units > 150), "{compared:?}");
}

#[test]
fn nginx_rtmp_pulls_for_players_that_come_before_the_publisher() {
    let host = Host::start(&Config::live());
    let nginx = NginxRtmp::start(&host);
    for (name, play) in [("rtmpdump", rtmpdump as fn(&str) -> Capture), ("ffmpeg", ffmpeg)] {
        let player = play(&nginx.url(&format!("edge/{name}")));
        host.wait_waiting(1);
        let key = format!("live/{name}");
        let mut publishing = Encoder::Ffmpeg(Ffmpeg::Five).publish(Clip::H264Aac, &host, &key);
        let published = read_file(&publishing.finish());
        player.wait_access_units(access_units(&published).len() - LOST, SOON);
        assert_served(&published, &player.tags());
    }
}

#[test]
fn nginx_rtmp_pushes_what_it_receives() {
    let host = Host::start(&Config::live());
    let nginx = NginxRtmp::start(&host);
    let viewers = [Capture::http(&host, "live/film"), Capture::rtmp(&host, "live/film")];
    host.wait_waiting(viewers.len());
    let mut publishing = Encoder::Ffmpeg(Ffmpeg::Five).publish_to(Clip::H264Aac, &nginx.url("ingest/film"));
    let published = read_file(&publishing.finish());
    for viewer in viewers {
        let recording = viewer.finish(SOON);
        assert_eq!(recording.end, End::Clean);
        assert_served(&published, &recording.tags);
    }
}

#[test]
fn nginx_rtmp_takes_a_forward() {
    let behind = Host::start(&Config::live());
    let nginx = NginxRtmp::start(&behind);
    let table = format!("[vhost.\"__defaultVhost__\"]\nforward = [\"{}\"]", nginx.url("ingest/[stream]"));
    let host = Host::start(&Config::live().tables(&table));
    let viewer = Capture::http(&behind, "live/film");
    behind.wait_waiting(1);
    let mut publishing = Encoder::Ffmpeg(Ffmpeg::Five).publish(Clip::H264Aac, &host, "live/film");
    let published = read_file(&publishing.finish());
    let seen = viewer.finish(SOON);
    assert_eq!(seen.end, End::Clean, "the end reaches the last server");
    assert_served(&published, &seen.tags);
}

/// Returns an edge of this server, which may take its time until it sends media.
fn edge_of(nginx: &NginxRtmp) -> Host {
    let table = "[vhost.\"__defaultVhost__\".cluster]\nmode = \"edge\"\nmedia_timeout = \"1m\"";
    Host::start(&Config::live().tables(&format!("{table}\norigin = [\"{}\"]", nginx.address)))
}

#[test]
fn nginx_rtmp_is_an_origin_whose_restart_viewers_survive() {
    let nothing = free_address();
    let nginx = NginxRtmp::start_at(free_address(), nothing);
    let edge = edge_of(&nginx);
    let viewers = [Capture::http(&edge, "live/film"), Capture::rtmp(&edge, "live/film")];
    edge.wait_waiting(viewers.len());
    let publishing = publish_looped(Clip::H264Aac, &nginx.url("live/film"));
    viewers.iter().for_each(|viewer| viewer.wait_access_units(60, SOON));
    let address = nginx.address;
    drop(nginx);
    drop(publishing);
    edge.wait_log(&["the origin failed", "live/film"]);
    let counts = viewers.each_ref().map(|viewer| access_units(&viewer.tags()).len());
    let nginx = NginxRtmp::start_at(address, nothing);
    let publishing = publish_looped(Clip::H264Aac, &nginx.url("live/film"));
    for (viewer, count) in viewers.iter().zip(counts) {
        viewer.wait_access_units(count + 100, SOON);
    }
    drop(publishing);
    let scratch = Scratch::new();
    for (number, viewer) in viewers.into_iter().enumerate() {
        let seen = viewer.finish(SOON);
        assert_eq!(seen.end, End::Clean, "the end of the stream at nginx is one here");
        check_start(&seen.tags).unwrap();
        check_times(&access_units(&seen.tags)).unwrap();
        let file = scratch.join(&format!("{number}.flv"));
        std::fs::write(&file, &seen.bytes).unwrap();
        decode(Ffmpeg::Five, &file).unwrap();
    }
}

#[test]
fn nginx_rtmp_takes_a_publisher_of_our_edge_and_refuses_the_next() {
    let nginx = NginxRtmp::start_at(free_address(), free_address());
    let edge = edge_of(&nginx);
    let publishing = publish_looped(Clip::H264Aac, &edge.rtmp_url("live/film"));
    let viewers = [ffmpeg(&nginx.url("live/film")), Capture::http(&edge, "live/film")];
    viewers.iter().for_each(|viewer| viewer.wait_access_units(100, SOON));
    assert_eq!(Ask::RtmpPublish.status(&edge, "live/film", "", ""), "NetStream.Publish.BadName");
    drop(publishing);
    let [_, viewer] = viewers;
    assert_eq!(viewer.finish(SOON).end, End::Clean, "nginx has been told of the end");
}

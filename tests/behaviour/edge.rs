//! An edge: a stream is pulled from an origin while somebody watches it, and viewers survive the origin.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use remuxd_tests::asking::Ask;
use remuxd_tests::capture::{Capture, End};
use remuxd_tests::clip::Clip;
use remuxd_tests::decode::decode;
use remuxd_tests::encoder::publish_looped;
use remuxd_tests::fetch::Fetch;
use remuxd_tests::flv::Reader;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::origin::{FlvResponse, Origin};
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::secrets;
use remuxd_tests::tool::Ffmpeg;
use remuxd_tests::wait::{SOON, poll_for, wait_until};

/// The config of an edge whose vhost has these keys in its table `cluster`.
fn config(origins: &[String], keys: &str) -> Config {
    let origins = origins.iter().map(|origin| format!("{origin:?}")).collect::<Vec<_>>().join(", ");
    let cluster =
        format!("[vhost.\"__defaultVhost__\".cluster]\nmode = \"edge\"\norigin = [{origins}]\n{keys}\n");
    Config::live()
        .tables(&cluster)
        .play("idle_timeout", "\"1s\"")
        .mount("mount = \"[vhost]/[app]/[stream].flv\"")
        .mount("mount = \"[vhost]/[app]/[stream].ts\"")
}

/// The number of clients that play at a host.
fn players(host: &Host) -> usize {
    host.sessions().iter().filter(|row| row[1] == "play").count()
}

fn status(edge: &Host, key: &str) -> (u16, String) {
    let response = Request::get(&edge.path(key)).send(edge.http).unwrap();
    (response.status, response.text().unwrap())
}

/// Publishes the same numbered media in real time at several hosts, until it is stopped. A host that ends is left.
struct Twins {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Twins {
    fn start(hosts: &[SocketAddr], key: &str) -> Twins {
        let mut publishers: Vec<_> = hosts.iter().map(|host| Publisher::open(*host, key)).collect();
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut media = Numbered::new(500);
            let start = Instant::now();
            let mut send = |tags: &[_]| {
                publishers.retain_mut(|one| tags.iter().all(|tag| one.try_send(tag).is_ok()));
            };
            send(&media.headers());
            while !stopped.load(Ordering::Relaxed) {
                send(&media.frame());
                let due = start + Duration::from_millis(media.time().into());
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        Twins { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

#[test]
fn viewers_of_every_format_share_one_pull_which_ends_after_them() {
    let origin = Host::start(&Config::live());
    let edge = Host::start(&config(&[origin.rtmp.to_string()], ""));
    let key = edge.key("film");
    let publishing = publish_looped(Clip::H264Aac, &origin.rtmp_url(&key));
    wait_until(SOON, "the stream is published", || origin.sessions().len() == 1);
    let viewers = [Capture::http(&edge, &key), Capture::websocket(&edge, &key), Capture::rtmp(&edge, &key)];
    let ts = Fetch::start(&edge, &format!("/{key}.ts"));
    viewers.iter().for_each(|viewer| viewer.wait_access_units(100, SOON));
    ts.wait_bytes(100_000, SOON);
    assert_eq!(players(&origin), 1, "{:?}", origin.sessions());
    assert_eq!(players(&edge), 4);
    drop(publishing);
    let scratch = Scratch::new();
    for (number, viewer) in viewers.into_iter().enumerate() {
        let recording = viewer.finish(SOON);
        assert_eq!(recording.end, End::Clean);
        let file = scratch.join(&format!("{number}.flv"));
        std::fs::write(&file, &recording.bytes).unwrap();
        decode(Ffmpeg::Five, &file).unwrap();
    }
    let file = scratch.join("film.ts");
    std::fs::write(&file, ts.finish(SOON)).unwrap();
    decode(Ffmpeg::Five, &file).unwrap();
    edge.wait_log(&["pull ended", "live/film"]);
}

#[test]
fn a_stream_is_let_go_after_its_last_viewer_and_pulled_again_for_the_next() {
    let origin = Host::start(&Config::live());
    for origin_url in [origin.rtmp.to_string(), format!("http://{}", origin.http)] {
        let edge = Host::start(&config(&[origin_url], ""));
        let key = edge.key("film");
        let publisher = Publisher::reopen(origin.rtmp, &key).pace(Numbered::new(500));
        for _ in 0..2 {
            let response = Request::get(&edge.path(&key)).send(edge.http).unwrap();
            assert_eq!(response.status, 200);
            wait_until(SOON, "one pull", || players(&origin) == 1);
            drop(response);
            wait_until(SOON, "no pull", || players(&origin) == 0);
        }
        wait_until(SOON, "no stream", || edge.metric("remuxd_streams") == 0);
        publisher.stop();
    }
}

#[test]
fn unknown_names_cost_one_request_in_two_seconds() {
    let origin = Origin::answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    let edge = Host::start(&config(&[format!("http://{}", origin.address)], ""));
    let key = edge.key("none");
    let start = Instant::now();
    for _ in 0..30 {
        assert_eq!(status(&edge, &key), (404, "this stream is not live\n".to_owned()));
        assert_eq!(Ask::RtmpPlay.status(&edge, &key, "", ""), "NetStream.Play.StreamNotFound");
    }
    let bound = start.elapsed().as_secs() as usize / 2 + 1;
    assert!((1..=bound).contains(&origin.connections()), "{} of {bound}", origin.connections());
}

#[test]
fn an_origin_of_ours_does_not_let_an_edge_wait_for_a_stream_that_nobody_publishes() {
    let origin = Host::start(&Config::live());
    for url in [origin.rtmp.to_string(), format!("http://{}", origin.http)] {
        let edge = Host::start(&config(&[url], "connect_timeout = \"1m\""));
        assert_eq!(status(&edge, &edge.key("none")).0, 404);
    }
}

#[test]
fn an_origin_that_cannot_be_reached_is_no_missing_stream() {
    let gone = Origin::start(drop);
    let rubbish = Origin::answering("rubbish\r\n\r\n");
    let foreign = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nno stream");
    let forbidden = Origin::answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    let silent = Origin::start(|socket| {
        if let Ok(response) = FlvResponse::accept(socket) {
            response.wait_left();
        }
    });
    let urls = [
        gone.address.to_string(),
        format!("http://{}", rubbish.address),
        format!("http://{}", foreign.address),
        format!("http://{}", forbidden.address),
    ];
    let reason = "no server that may have this stream can be reached; try again later\n";
    for url in urls {
        let edge = Host::start(&config(std::slice::from_ref(&url), ""));
        assert_eq!(status(&edge, &edge.key("film")), (503, reason.to_owned()), "{url}");
        assert_eq!(Ask::RtmpPlay.status(&edge, &edge.key("film"), "", ""), "NetStream.Play.Failed", "{url}");
    }
    let edge = Host::start(&config(&[format!("http://{}", silent.address)], "first_byte_timeout = \"1s\""));
    assert_eq!(status(&edge, &edge.key("film")).0, 404, "some servers accept every name");
}

#[test]
fn an_origin_that_leaves_a_request_unanswered_does_not_have_the_stream() {
    let read_all = |mut socket: TcpStream| drop(io::copy(&mut socket, &mut io::sink()));
    // So SRS and ZLMediaKit wait for a publisher,
    let (over_http, over_rtmp) = (Origin::start(read_all), Origin::after_handshake(read_all));
    // and so MediaMTX refuses.
    let drops = Origin::after_handshake(drop);
    let http = format!("http://{}", over_http.address);
    for url in [http, over_rtmp.address.to_string(), drops.address.to_string()] {
        let edge = Host::start(&config(std::slice::from_ref(&url), "connect_timeout = \"1s\""));
        assert_eq!(status(&edge, &edge.key("film")), (404, "this stream is not live\n".to_owned()), "{url}");
    }
}

#[test]
fn streams_that_wait_for_an_origin_are_limited() {
    let (ask, asked) = mpsc::channel();
    let origin = Origin::start(move |socket| {
        ask.send(socket).unwrap();
    });
    for (keys, reached) in [("max_pending_pulls = 2", 2), ("max_pending_pulls_per_address = 1", 1)] {
        let keys = format!("{keys}\nconnect_timeout = \"1m\"");
        let edge = Host::start(&config(&[format!("http://{}", origin.address)], &keys));
        let waiting: Vec<_> =
            (0..reached).map(|name| Fetch::start(&edge, &edge.path(&edge.key(&name.to_string())))).collect();
        let held: Vec<_> = (0..reached).map(|_| asked.recv_timeout(SOON).unwrap()).collect();
        let reason = "too many streams are being fetched; try again later\n";
        assert_eq!(status(&edge, &edge.key("more")), (503, reason.to_owned()));
        drop(held);
        waiting.into_iter().for_each(|one| assert_eq!(one.outcome(SOON).status, 503));
    }
}

#[test]
fn redirects_are_followed_three_times_and_carry_no_parameter_to_another_host() {
    let origin = Host::start(&Config::live());
    let key = origin.key("film");
    let publisher = Publisher::open(origin.rtmp, &key).pace(Numbered::new(500));
    let over_http = Origin::answering(&format!(
        "HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
        origin.http_url(&key)
    ));
    let tc_url = format!("rtmp://{}/live", origin.rtmp);
    let over_rtmp = Origin::redirecting(move || tc_url.clone());
    for url in [format!("http://{}", over_http.address), over_rtmp.address.to_string()] {
        let edge = Host::start(&config(&[url], ""));
        Capture::http(&edge, &key).wait_access_units(10, SOON);
    }
    let endless = Origin::answering("HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n");
    let edge = Host::start(&config(&[format!("http://{}", endless.address)], ""));
    assert_eq!(status(&edge, &key).0, 503);
    assert_eq!(endless.connections(), 4);
    let foreign = Origin::answering("HTTP/1.1 302 Found\r\nLocation: http://localhost:1/\r\n\r\n");
    let edge = Host::start(&config(&[format!("http://{}", foreign.address)], ""));
    assert_eq!(status(&edge, &key).0, 503);
    edge.wait_log(&["led to localhost, which the config does not name"]);
    publisher.stop();
}

/// Asserts that a viewer has got every frame once, from its first one on.
fn has_every_frame_once(viewer: &Capture, what: &str) {
    let numbers = Numbered::numbers(&viewer.tags());
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{what}: {numbers:?}");
}

fn wait_frames(viewer: &Capture, count: usize) {
    let seen = Numbered::numbers(&viewer.tags()).len();
    viewer.wait_until(SOON, "more frames", |tags| Numbered::numbers(tags).len() >= seen + count);
}

#[test]
fn viewers_get_every_frame_once_when_an_origin_dies() {
    let mut first = Host::start(&Config::live());
    let second = Host::start(&Config::live());
    let edge = Host::start(&config(&[first.rtmp.to_string(), second.rtmp.to_string()], ""));
    let key = edge.key("film");
    let twins = Twins::start(&[first.rtmp, second.rtmp], &key);
    let viewers = [Capture::http(&edge, &key), Capture::websocket(&edge, &key), Capture::rtmp(&edge, &key)];
    viewers.iter().for_each(|viewer| wait_frames(viewer, 60));
    assert_eq!((players(&first), players(&second)), (1, 0), "the first origin is preferred");
    first.kill();
    wait_until(SOON, "the other origin is pulled", || players(&second) == 1);
    let page = edge.api_json("/api/v2/pulls");
    let pull = &page["pulls"][0];
    assert_eq!((pull["stream"].as_str(), pull["state"].as_str()), (Some("live/film"), Some("receiving")));
    assert_eq!(pull["origin"], format!("rtmp://{}/{key}", second.rtmp));
    assert_eq!(page["failing_origins"][0]["server"], format!("rtmp://{}", first.rtmp));
    assert_eq!(
        ["remuxd_pulls", "remuxd_failing_origins", "remuxd_pull_failovers_total"]
            .map(|name| edge.metric(name)),
        [1; 3]
    );
    viewers.iter().for_each(|viewer| wait_frames(viewer, 60));
    twins.stop();
    for viewer in viewers {
        has_every_frame_once(&viewer, "after the first origin died");
        assert_eq!(viewer.finish(SOON).end, End::Clean);
    }
}

/// The fault of an origin, in the middle of a GOP.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Stalls,
    SendsRubbish,
    Closes,
}

#[test]
fn viewers_stay_when_an_origin_stalls_or_sends_rubbish() {
    for fault in [Fault::Stalls, Fault::SendsRubbish, Fault::Closes] {
        let second = Host::start(&Config::live());
        let key = second.key("film");
        let twins = Twins::start(&[second.rtmp], &key);
        let (source, path) = (second.http, second.path(&key));
        let first = Origin::start(move |socket| {
            let _ = pass(source, &path, socket, |mut response| {
                match fault {
                    Fault::Stalls => response.wait_left(),
                    Fault::SendsRubbish => response.send_raw(&[0xff; 64])?,
                    Fault::Closes => {}
                }
                Ok(None)
            });
        });
        let edge = Host::start(&config(
            &[format!("http://{}", first.address), second.rtmp.to_string()],
            // Shorter than what is left of the GOP, so that what the other origin sends begins before the last frame.
            "media_timeout = \"300ms\"",
        ));
        let viewer = Capture::http(&edge, &key);
        edge.wait_log(&["the origin failed"]);
        wait_frames(&viewer, 60);
        twins.stop();
        has_every_frame_once(&viewer, &format!("{fault:?}"));
        assert_eq!(viewer.finish(SOON).end, End::Clean, "{fault:?}");
    }
}

#[test]
fn another_origin_is_asked_once_a_stream_is_late_and_left_if_the_stream_goes_on() {
    let source = Host::start(&Config::live());
    let key = source.key("film");
    let twins = Twins::start(&[source.rtmp], &key);
    let (asked, wait_asked) = mpsc::channel();
    let wait_asked = Mutex::new(wait_asked);
    let (http, path) = (source.http, source.path(&key));
    let first = Origin::start(move |socket| {
        let late = |response| {
            let _ = wait_asked.lock().unwrap().recv();
            Ok(Some(response))
        };
        let _ = pass(http, &path, socket, late);
    });
    let path = source.path(&key);
    let second = Origin::start(move |socket| {
        let _ = asked.send(());
        let _ = pass(http, &path, socket, |response| Ok(Some(response)));
    });
    let origins = [&first, &second].map(|origin| format!("http://{}", origin.address));
    let edge = Host::start(&config(&origins, "media_timeout = \"8s\""));
    let viewer = Capture::http(&edge, &key);
    wait_frames(&viewer, 100);
    let pull = &edge.api_json("/api/v2/pulls")["pulls"][0];
    assert_eq!(second.connections(), 1);
    assert_eq!((pull["state"].as_str(), pull["failovers"].as_u64()), (Some("receiving"), Some(0)));
    assert_eq!(pull["origin"].as_str(), Some(&*format!("{}/{key}.flv", origins[0])));
    twins.stop();
    has_every_frame_once(&viewer, "after the stream was late");
}

/// Answers with the tags of a stream of `source`. At the sixth frame of the second GOP from its first on, `fault` gets the response,
/// which continues if it returns it.
fn pass(
    source: SocketAddr,
    path: &str,
    socket: TcpStream,
    fault: impl FnOnce(FlvResponse) -> io::Result<Option<FlvResponse>>,
) -> io::Result<()> {
    let mut upstream = Request::get(path).send(source)?;
    let mut response = FlvResponse::accept(socket)?;
    let (mut reader, mut buffer, mut first, mut fault) = (Reader::default(), [0; 4096], None, Some(fault));
    loop {
        let length = upstream.body.read(&mut buffer)?;
        reader.push(&buffer[..length]).map_err(io::Error::other)?;
        for tag in reader.take() {
            response.send(std::slice::from_ref(&tag))?;
            let Some(number) = Numbered::number_of(&tag) else { continue };
            if number >= *first.get_or_insert(number) + Numbered::GOP
                && number % Numbered::GOP == 5
                && let Some(fault) = fault.take()
            {
                let Some(next) = fault(response)? else { return Ok(()) };
                response = next;
            }
        }
    }
}

#[test]
fn a_stream_that_ends_at_the_origin_ends_here_unless_it_returns() {
    let origin = Host::start(&Config::live());
    let edge = Host::start(&config(&[origin.rtmp.to_string()], "").publish("republish_wait", "\"20s\""));
    let key = edge.key("film");
    let publisher = Publisher::open(origin.rtmp, &key).pace(Numbered::new(500));
    let viewers = [Capture::http(&edge, &key), Capture::rtmp(&edge, &key)];
    viewers.iter().for_each(|viewer| wait_frames(viewer, 10));
    publisher.stop();
    edge.wait_log(&["the origin ended the stream"]);
    let publisher = Publisher::reopen(origin.rtmp, &key).pace(Numbered::new(500).starting_at(1000));
    for viewer in &viewers {
        viewer.wait_until(SOON, "frames after the return", |tags| {
            Numbered::numbers(tags).iter().filter(|number| **number >= 1000).count() > 10
        });
    }
    edge.write_config(&config(&[origin.rtmp.to_string()], "").toml());
    edge.reload();
    publisher.stop();
    viewers.into_iter().for_each(|viewer| assert_eq!(viewer.finish(SOON).end, End::Clean));
}

#[test]
fn a_reload_changes_origins_and_ends_the_pulls_of_a_vhost_that_is_no_edge() {
    let [first, second] = [Config::live(), Config::live()].map(|config| Host::start(&config));
    let edge = Host::start(&config(&[first.rtmp.to_string()], ""));
    let key = edge.key("film");
    let twins = Twins::start(&[first.rtmp, second.rtmp], &key);
    let viewer = Capture::http(&edge, &key);
    wait_frames(&viewer, 60);
    edge.write_config(&config(&[format!("http://{}", second.http)], "").toml());
    edge.reload();
    wait_until(SOON, "the new origin is pulled", || (players(&first), players(&second)) == (0, 1));
    wait_frames(&viewer, 60);
    has_every_frame_once(&viewer, "after the change of origins");
    edge.write_config(&Config::live().toml());
    edge.reload();
    assert_eq!(viewer.finish(SOON).end, End::Clean);
    wait_until(SOON, "no pull", || players(&second) == 0);
    twins.stop();
}

#[test]
fn a_chain_of_edges_serves_and_a_loop_is_refused() {
    let origin = Host::start(&Config::live());
    let middle = Host::start(&config(&[origin.rtmp.to_string()], ""));
    let edge = Host::start(&config(&[format!("http://{}", middle.http)], ""));
    let key = edge.key("film");
    let publisher = Publisher::open(origin.rtmp, &key).pace(Numbered::new(500));
    Capture::http(&edge, &key).wait_access_units(30, SOON);
    // The origin of the first edge becomes the second.
    middle.write_config(&config(&[edge.rtmp.to_string()], "").toml());
    middle.reload();
    let asked = Instant::now();
    let refused = poll_for(SOON, || (status(&edge, &edge.key("other")).0 != 200).then_some(()));
    assert!(refused.is_some() && asked.elapsed() < Duration::from_secs(20));
    publisher.stop();
}

#[test]
fn a_stopping_edge_ends_its_pulls() {
    let origin = Host::start(&Config::live());
    let mut edge = Host::start(&config(&[origin.rtmp.to_string()], ""));
    let key = edge.key("film");
    let publisher = Publisher::open(origin.rtmp, &key).pace(Numbered::new(500));
    let viewer = Capture::http(&edge, &key);
    wait_frames(&viewer, 10);
    assert!(edge.terminate().success());
    assert_eq!(viewer.finish(SOON).end, End::Clean);
    wait_until(SOON, "no pull", || players(&origin) == 0);
    publisher.stop();
}

#[test]
fn a_pull_has_the_credential_of_its_node_and_viewers_are_asked_about_if_wanted() {
    let secret = secrets::remember("cluster-0123456789abcdef0123456789".to_owned());
    let cluster = format!("[cluster]\nsecret = \"{secret}\"\n");
    let signed = "[vhost.\"__defaultVhost__\".signed_url]\nenabled = true\npublish = false\n\
                  [[vhost.\"__defaultVhost__\".signed_url.key]]\nid = \"k\"\n\
                  secret = \"viewers-0123456789abcdef0123456789\"\n";
    let origin = Host::start(&Config::live().tables(&cluster).tables(signed));
    let key = origin.key("film");
    let publisher = Publisher::open(origin.rtmp, &key).pace(Numbered::new(500));
    for url in [origin.rtmp.to_string(), format!("http://{}", origin.http)] {
        let stranger = Host::start(&config(std::slice::from_ref(&url), ""));
        assert_eq!(status(&stranger, &key).0, 503, "{url}");
        let edge = Host::start(&config(std::slice::from_ref(&url), "").tables(&cluster));
        Capture::http(&edge, &key).wait_access_units(10, SOON);
        let asks = Host::start(&config(std::slice::from_ref(&url), "token_traverse = true").tables(&cluster));
        assert_eq!(status(&asks, &key).0, 403, "{url}");
        assert_eq!(players(&asks), 0);
    }
    publisher.stop();
}

#[test]
fn a_name_that_rtmp_cannot_carry_is_not_found() {
    let origin = Origin::start(drop);
    let edge = Host::start(&config(&[origin.address.to_string()], ""));
    assert_eq!(status(&edge, "live/a%3Fvhost=b").0, 404);
    assert_eq!(origin.connections(), 0);
}

//! Origins and destinations over TLS: their certificates must be of a trusted authority, and for their names.

use remuxd_tests::capture::Capture;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::{Numbered, Pace, Publisher};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tls::{Authority, Certificate, Files};
use remuxd_tests::wait::{SOON, wait_until};
use serde_json::json;

const KEY: &str = "live/film";

/// A host with a certificate, over HTTPS and RTMPS.
struct Secure {
    host: Host,
    _files: Files,
}

impl Secure {
    fn start(certificate: &Certificate) -> Secure {
        let files = Files::of(certificate);
        let config = Config::live().mount("mount = \"/[app]/[stream].flv\"").tables(&files.listeners());
        Secure { host: Host::start(&config), _files: files }
    }

    /// Publishes `live/film` at the host.
    fn publish(&self) -> Pace {
        let publishing = Publisher::open(self.host.rtmp, KEY).pace(Numbered::new(1000));
        wait_until(SOON, "the stream is published", || self.host.sessions().len() == 1);
        publishing
    }

    /// Its URLs as an origin.
    fn urls(&self) -> [String; 2] {
        let host = &self.host;
        [format!("https://{}", host.https.unwrap()), format!("rtmps://{}", host.rtmps.unwrap())]
    }
}

/// Starts a host that trusts an authority, and no other.
fn start_trusting(authority: &Authority, config: &Config) -> (Host, Scratch) {
    let scratch = Scratch::new();
    let roots = scratch.join("roots.crt");
    std::fs::write(&roots, authority.pem()).unwrap();
    (Host::start_by(&["env", &format!("SSL_CERT_FILE={}", roots.display())], config), scratch)
}

fn edge_of(origin: &str) -> Config {
    let cluster = format!("[vhost.\"__defaultVhost__\".cluster]\nmode = \"edge\"\norigin = [{origin:?}]\n");
    Config::live().tables(&cluster).mount("mount = \"/[app]/[stream].flv\"")
}

#[test]
fn streams_are_pulled_over_https_and_rtmps() {
    let authority = Authority::new("ours");
    let origin = Secure::start(&authority.issue(&["127.0.0.1"]));
    let publishing = origin.publish();
    for url in origin.urls() {
        let (edge, _roots) = start_trusting(&authority, &edge_of(&url));
        let viewer = Capture::http(&edge, KEY);
        viewer.wait_until(SOON, "frames", |tags| Numbered::numbers(tags).len() >= 50);
        let numbers = Numbered::numbers(&viewer.tags());
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{url}: {numbers:?}");
        let from = edge.api_json("/api/v2/pulls")["pulls"][0]["origin"].as_str().unwrap().to_owned();
        assert!(from.starts_with(&url), "{from}");
    }
    publishing.stop();
}

#[test]
fn an_origin_with_a_certificate_of_another_name_or_of_an_unknown_authority_is_refused() {
    let authority = Authority::new("ours");
    let rows = [
        (authority.issue(&["origin.example"]), "certificate not valid for name \"127.0.0.1\""),
        (Authority::new("theirs").issue(&["127.0.0.1"]), "UnknownIssuer"),
    ];
    for (certificate, reason) in rows {
        let origin = Secure::start(&certificate);
        let publishing = origin.publish();
        for url in origin.urls() {
            let (edge, _roots) = start_trusting(&authority, &edge_of(&url));
            assert_eq!(Request::get("/live/film.flv").send(edge.http).unwrap().status, 503);
            let failing = &edge.api_json("/api/v2/pulls")["failing_origins"][0];
            assert_eq!(failing["server"].as_str(), Some(&*url));
            let error = failing["last_error"].as_str().unwrap();
            assert!(
                error.starts_with("no TLS: invalid peer certificate: ") && error.contains(reason),
                "{error}"
            );
            edge.wait_log(&["not pulled", "no TLS: invalid peer certificate: ", KEY]);
        }
        publishing.stop();
    }
}

#[test]
fn streams_are_forwarded_and_publishers_of_an_edge_passed_on_over_rtmps() {
    let authority = Authority::new("ours");
    let destination = Secure::start(&authority.issue(&["127.0.0.1"]));
    let [_, url] = destination.urls();
    let forward = format!("[vhost.\"__defaultVhost__\"]\nforward = {}", json!([url]));
    for (config, stream) in
        [(Config::live().tables(&forward), "live/forwarded"), (edge_of(&url), "live/relayed")]
    {
        let (host, _roots) = start_trusting(&authority, &config);
        let viewer = Capture::http(&destination.host, stream);
        destination.host.wait_waiting(1);
        let publisher = Publisher::open(host.rtmp, stream).pace(Numbered::new(2000));
        viewer.wait_until(SOON, "frames", |tags| Numbered::numbers(tags).len() >= 50);
        publisher.stop();
    }
}

#[test]
fn a_destination_with_a_certificate_of_an_unknown_authority_gets_no_stream() {
    let destination = Secure::start(&Authority::new("theirs").issue(&["127.0.0.1"]));
    let [_, url] = destination.urls();
    let forward = format!("[vhost.\"__defaultVhost__\"]\nforward = {}", json!([url]));
    let (host, _roots) = start_trusting(&Authority::new("ours"), &Config::live().tables(&forward));
    let publisher = Publisher::open(host.rtmp, KEY).pace(Numbered::new(100));
    let mut error = String::new();
    wait_until(SOON, "the forward fails", || {
        let page = host.api_json("/api/v2/pushes");
        error = page["pushes"][0]["last_error"].as_str().unwrap_or_default().to_owned();
        !error.is_empty()
    });
    assert_eq!(error, "no TLS: invalid peer certificate: UnknownIssuer");
    assert!(destination.host.sessions().is_empty());
    publisher.stop();
}

//! Metrics: what the page has, and that its counters never fall.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use remuxd_tests::capture::Capture;
use remuxd_tests::clip::Clip;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::metrics::Metrics;
use remuxd_tests::module_dir::ModuleDir;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::rtmp::Connection;
use remuxd_tests::tls::{Certificate, Files};
use remuxd_tests::tool::root;
use remuxd_tests::wait::{SOON, wait_for, wait_until};

use crate::reload::scene::{MODULES, config};

/// The vhost of tests, as a label.
const VHOST: (&str, &str) = ("vhost", "__defaultVhost__");

/// The rows of docs/metrics.md: type, labels and meaning of each metric.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>, String)> {
    let text = std::fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.map(|(name, rest)| {
        let [kind, labels, meaning] = rest.trim_end_matches(" |").splitn(3, " | ").collect::<Vec<_>>()[..]
        else {
            panic!("three more columns: {rest}")
        };
        let labels = labels.split(", ").map(str::trim).filter(|label| !label.is_empty()).map(str::to_owned);
        (name.to_owned(), (kind.to_owned(), labels.collect(), meaning.to_owned()))
    })
    .collect()
}

#[test]
fn the_page_has_what_the_documentation_lists() {
    let files = Files::of(&Certificate::of(&["localhost"]));
    let tables = format!("[metrics]\nper_stream = true\n{}", files.listeners());
    let host = Host::start(&Config::live().play("wait", "\"0s\"").tables(&tables));
    let key = host.key("film");
    let _publisher = Publisher::open(host.rtmp, &key).repeat(Clip::H264Aac);
    let viewers = [Capture::http(&host, &key), Capture::rtmp(&host, &key)];
    viewers.iter().for_each(|viewer| viewer.wait_access_units(1, SOON));
    assert_eq!(Request::get("/nothing").send(host.http).unwrap().status, 404);
    assert_eq!(Request::get("/live/other.flv").send(host.http).unwrap().status, 404);
    let (metrics, documented) = (Metrics::of(&host), documented());
    for (name, (kind, help)) in &metrics.families {
        let (own_kind, labels, meaning) =
            documented.get(name).unwrap_or_else(|| panic!("{name} is undocumented"));
        assert_eq!((own_kind, meaning), (kind, help), "{name}");
        // Labels that are empty are left out: `overflow`, or a vhost that an owner does not have.
        let series = metrics.samples.keys().filter(|(series, _)| metrics.family(series) == name);
        for (series, own) in series {
            let own: BTreeSet<_> = own.keys().filter(|label| *label != "le").cloned().collect();
            let missing: Vec<_> = labels
                .difference(&own)
                .filter(|label| !["overflow", "vhost"].contains(&label.as_str()))
                .collect();
            assert!(own.is_subset(labels) && missing.is_empty(), "{series}: {own:?} and not {labels:?}");
        }
    }
    let missing: Vec<_> = documented.keys().filter(|name| !metrics.families.contains_key(*name)).collect();
    assert!(missing.is_empty(), "no {missing:?}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    for owner in ["https", "rtmps"] {
        let end = metrics.value("remuxd_certificate_not_after_seconds", &[("owner", owner)]).unwrap();
        assert!(end > now && end < now + 1e11, "{owner}: {end}");
    }
}

#[test]
fn sessions_are_counted_by_vhost_and_format() {
    let host = Host::start(&Config::live().play("wait", "\"0s\""));
    let key = host.key("film");
    let mut publisher = Publisher::open(host.rtmp, &key);
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(5));
    let viewers = [Capture::http(&host, &key), Capture::websocket(&host, &key), Capture::rtmp(&host, &key)];
    viewers.iter().for_each(|viewer| viewer.wait_access_units(5, SOON));
    let flv = [VHOST, ("format", "flv")];
    let rtmp = [VHOST, ("format", "rtmp")];
    let metrics = Metrics::of(&host);
    let value = |name, labels: &[(&str, &str)]| metrics.value(name, labels);
    assert_eq!(value("remuxd_publishers", &[VHOST]), Some(1.0));
    assert_eq!([value("remuxd_viewers", &flv), value("remuxd_viewers", &rtmp)], [Some(2.0), Some(1.0)]);
    assert_eq!(
        [value("remuxd_joins_total", &flv), value("remuxd_joins_total", &rtmp)],
        [Some(2.0), Some(1.0)]
    );
    assert_eq!(value("remuxd_first_byte_seconds_count", &flv), Some(2.0));
    assert!(value("remuxd_first_byte_seconds_sum", &flv).unwrap() < 60.0);
    let of_flv = (viewers[0].bytes() + viewers[1].bytes()) as f64;
    wait_until(SOON, "what viewers have got is counted", || {
        Metrics::of(&host).value("remuxd_sent_bytes_total", &flv) == Some(of_flv)
    });
    assert!(value("remuxd_received_bytes_total", &[VHOST]).unwrap() > 2500.0);
    assert_eq!(Request::get("/nothing").send(host.http).unwrap().status, 404);
    assert_eq!(Request::get("/live/other.flv").send(host.http).unwrap().status, 404);
    let metrics = Metrics::of(&host);
    let value = |name, labels: &[(&str, &str)]| metrics.value(name, labels);
    assert_eq!(value("remuxd_http_responses_total", &[("status", "404")]), Some(2.0));
    assert_eq!(value("remuxd_http_responses_total", &[("status", "101")]), Some(1.0));
    for reason in ["not_mounted", "not_live"] {
        assert_eq!(value("remuxd_refusals_total", &[("reason", reason)]), Some(1.0), "{reason}");
    }
}

/// Returns the counters that are less than before, or are gone.
fn fallen(before: &Metrics, after: &Metrics) -> Vec<String> {
    let counters = before.samples.iter().filter(|((name, _), _)| {
        let (kind, _) = &before.families[before.family(name)];
        kind != "gauge"
    });
    let fallen = counters.filter(|(series, value)| after.samples.get(*series).is_none_or(|now| now < *value));
    fallen
        .map(|(series, value)| format!("{series:?}: {value}, then {:?}", after.samples.get(series)))
        .collect()
}

#[test]
fn no_counter_falls_at_a_reload_or_at_the_end_of_a_stream() {
    let modules = ModuleDir::with(&MODULES);
    let host = Host::start(&config(&modules, "").tables("[metrics]\nper_stream = true"));
    let key = host.key("film");
    let publisher = Publisher::open(host.rtmp, &key).repeat(Clip::H264Aac);
    let viewers = [Capture::http(&host, &key), Capture::rtmp(&host, &key)];
    viewers.iter().for_each(|viewer| viewer.wait_access_units(10, SOON));
    let live = Metrics::of(&host);
    assert!(live.sum("remuxd_sent_bytes_total") > 0.0 && live.sum("remuxd_stream_sent_bytes_total") > 0.0);
    let info = |metrics: &Metrics| {
        let own = metrics.samples.keys().filter(|(name, labels)| {
            name == "remuxd_module_info" && labels["module"] == "flv" && labels["state"] == "current"
        });
        own.map(|(_, labels)| labels["generation"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(info(&live).len(), 1);
    modules.put_build("flv", 1);
    host.reload();
    let reloaded = Metrics::of(&host);
    assert_eq!(fallen(&live, &reloaded), Vec::<String>::new());
    assert_ne!(info(&live), info(&reloaded), "the generation is in the info alone");
    let of_module = |metrics: &Metrics| {
        let own = metrics
            .samples
            .keys()
            .filter(|(name, _)| name.starts_with("remuxd_module_") && name != "remuxd_module_info");
        own.cloned().collect::<BTreeSet<_>>()
    };
    assert_eq!(of_module(&live), of_module(&reloaded), "no new series");
    publisher.stop();
    for viewer in viewers {
        let _ = viewer.finish(SOON);
    }
    wait_until(SOON, "no session is left", || host.sessions().is_empty());
    let ended = Metrics::of(&host);
    assert_eq!(fallen(&reloaded, &ended), Vec::<String>::new());
    assert_eq!(ended.sum("remuxd_viewers"), 0.0);
    let ends = ended.value("remuxd_sessions_ended_total", &[("action", "play"), ("outcome", "stream_ended")]);
    assert_eq!(ends, Some(2.0));
}

/// Name, publishers and viewers of each stream that has metrics.
fn streams(metrics: &Metrics) -> Vec<(String, f64, f64)> {
    let publishers = metrics.samples.iter().filter(|((name, _), _)| name == "remuxd_stream_publishers");
    publishers
        .map(|((_, labels), publishers)| {
            let viewers = metrics.samples.iter().filter(|((name, own), _)| {
                name == "remuxd_stream_viewers"
                    && labels.iter().all(|(label, value)| own.get(label) == Some(value))
            });
            let name = labels.get("stream").cloned().unwrap_or_else(|| "overflow".to_owned());
            (name, *publishers, viewers.map(|(_, value)| value).sum())
        })
        .collect()
}

#[test]
fn a_stream_has_metrics_of_its_own_if_they_are_asked_for() {
    let host = Host::start(&Config::live());
    let _publisher = Publisher::open(host.rtmp, &host.key("film"));
    assert_eq!(streams(&Metrics::of(&host)), []);

    let host = Host::start(&Config::live().tables("[metrics]\nper_stream = true"));
    let name = "a \"quote\" \\ {x=\"1\"}";
    let publisher = Publisher::open(host.rtmp, &host.key(name)).repeat(Clip::H264Aac);
    let viewer = Capture::rtmp(&host, &host.key(name));
    viewer.wait_access_units(10, SOON);
    let metrics = Metrics::of(&host);
    assert_eq!(streams(&metrics), [(name.to_owned(), 1.0, 1.0)]);
    let labels = [VHOST, ("app", "live"), ("stream", name)];
    let gauge = |metrics: &Metrics, name| metrics.value(name, &labels).unwrap();
    assert!(gauge(&metrics, "remuxd_stream_bytes_per_second") > 1000.0);
    assert!(gauge(&metrics, "remuxd_stream_received_bytes_total") > 1000.0);
    assert!(gauge(&metrics, "remuxd_stream_idle_seconds") < 10.0);
    publisher.stop();
    let _ = viewer.finish(SOON);
    wait_until(SOON, "it is away", || streams(&Metrics::of(&host)) == [(name.to_owned(), 0.0, 0.0)]);
    let idle = gauge(&Metrics::of(&host), "remuxd_stream_idle_seconds");
    wait_until(SOON, "it is idle", || gauge(&Metrics::of(&host), "remuxd_stream_idle_seconds") > idle);
    // A reload takes them away, and asks for them again.
    host.write_config(&host.config().replace("per_stream = true", "per_stream = false"));
    host.reload();
    assert_eq!(streams(&Metrics::of(&host)), []);
}

#[test]
fn streams_above_the_limit_of_series_are_counted_together() {
    let host = Host::start(&Config::live().tables("[metrics]\nper_stream = true\nmax_series = 100"));
    let mut connections: Vec<_> = (0..30)
        .map(|number| {
            let mut connection = Connection::open(host.rtmp).unwrap();
            connection.connect("live").unwrap();
            let stream = connection.create_stream().unwrap();
            assert_eq!(
                connection.publish(stream, &format!("s{number:02}")).unwrap(),
                "NetStream.Publish.Start"
            );
            connection
        })
        .collect();
    let metrics = Metrics::of(&host);
    let shown = streams(&metrics);
    let of_streams = metrics.samples.keys().filter(|(name, _)| name.starts_with("remuxd_stream_")).count();
    assert_eq!(shown.iter().map(|(_, publishers, _)| publishers).sum::<f64>(), 30.0, "{shown:?}");
    assert!(of_streams <= 100 + 8 && shown.len() == 21, "{of_streams} series of {}", shown.len());
    assert_eq!(metrics.value("remuxd_stream_publishers", &[("overflow", "true")]), Some(10.0));
    connections.clear();
    let away = wait_for(SOON, "all are away", || {
        let shown = streams(&Metrics::of(&host));
        shown.iter().all(|(_, publishers, _)| *publishers == 0.0).then_some(shown)
    });
    assert!(away.len() >= 20, "{away:?}");
}

//! The page of metrics, the alert rules and the dashboard, as Debian's Prometheus reads them.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use remuxd_tests::capture::Capture;
use remuxd_tests::clip::Clip;
use remuxd_tests::host::{Config, Host};
use remuxd_tests::metrics::Metrics;
use remuxd_tests::prometheus::Prometheus;
use remuxd_tests::publisher::Publisher;
use remuxd_tests::tool::root;
use remuxd_tests::wait::{SOON, wait_until};
use serde_json::Value;

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// A host with metrics of each stream, and one that has a viewer over HTTP and RTMP each.
fn start() -> (Host, Publisher, [Capture; 2]) {
    let host = Host::start(&Config::live().tables("[metrics]\nper_stream = true"));
    let key = host.key("film");
    let mut publisher = Publisher::open(host.rtmp, &key);
    publisher.send(&remuxd_tests::flv::read_file(&Clip::H264Aac.path()));
    let viewers = [Capture::http(&host, &key), Capture::rtmp(&host, &key)];
    viewers.iter().for_each(|viewer| viewer.wait_access_units(1, SOON));
    (host, publisher, viewers)
}

#[test]
fn promtool_finds_no_fault_in_the_page() {
    let (host, _publisher, _viewers) = start();
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(host.api_page("/metrics").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && printed.is_empty(), "{printed}");
}

#[test]
fn the_alert_rules_pass_their_tests() {
    let mut command = Command::new("promtool");
    let output =
        command.args(["test", "rules"]).arg(Path::new(root()).join("tests/alerts.yml")).output().unwrap();
    let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{printed}");
    // Each rule has a test.
    let tests = read("tests/alerts.yml");
    let rules = read("conf/alerts.yml");
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {name}")), "{name} has no test");
    }
}

/// The expressions of the dashboard, for all hosts.
fn expressions() -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| match value {
                Value::String(expression) if name == "expr" => {
                    found.push(expression.replace("$instance", ".*"))
                }
                other => collect(other, found),
            }),
            Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(&serde_json::from_str(&read("conf/grafana-dashboard.json")).unwrap(), &mut found);
    found
}

/// The metrics that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = text.split(|character| !is_part(character));
    words
        .filter(|word| word.starts_with("remuxd_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_silent_publisher_raises_an_alert_and_the_dashboard_is_answered() {
    let (host, publisher, _viewers) = start();
    // The rule waits for 20 s that nobody needs to wait here.
    let rules = read("conf/alerts.yml");
    let sooner = rules.replacen("for: 20s", "for: 1s", 1);
    assert_ne!(rules, sooner);
    let prometheus = Prometheus::start(&host, &sooner);
    wait_until(SOON, "the host is up", || {
        let targets = prometheus.api("/api/v1/targets");
        targets["activeTargets"][0]["health"] == "up"
    });
    wait_until(SOON, "two scrapes are there", || {
        let scrapes = prometheus.query("count_over_time(up[1m])");
        scrapes.first().is_some_and(|scrapes| scrapes["value"][1] != "1")
    });
    let metrics = Metrics::of(&host);
    let expressions = expressions();
    assert!(expressions.len() > 30, "{}", expressions.len());
    let mut answered = 0;
    for expression in &expressions {
        for name in named(expression) {
            assert!(metrics.families.contains_key(metrics.family(&name)), "there is no {name}: {expression}");
        }
        answered += usize::from(!prometheus.query(expression).is_empty());
    }
    // Others need hooks, faults or reloads.
    assert!(answered >= 15, "{answered} of {} expressions have a value", expressions.len());
    for name in named(&rules) {
        assert!(metrics.families.contains_key(&name), "there is no {name} in the alert rules");
    }
    wait_until(SOON * 2, "the publisher is silent", || {
        let alerts = prometheus.api("/api/v1/alerts");
        let alerts = alerts["alerts"].as_array().cloned().unwrap_or_default();
        alerts.iter().any(|alert| {
            let labels = &alert["labels"];
            alert["state"] == "firing"
                && labels["alertname"] == "PublisherSilent"
                && labels["stream"] == "film"
        })
    });
    drop(publisher);
}

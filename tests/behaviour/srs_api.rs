//! `/api/v1` with the shapes of SRS, as its clients read it.

use std::net::SocketAddr;

use remuxd_tests::capture::Capture;
use remuxd_tests::clip::Clip;
use remuxd_tests::host::{API, Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::Publisher;
use remuxd_tests::wait::{SOON, poll_for, wait_until};
use serde_json::{Value, json};

use crate::api::{OPERATOR, READER, basic, send, start_with, status};

/// Returns a page, which must be JSON with SRS's envelope.
fn page(request: Request, api: SocketAddr) -> Value {
    let response = send(&request, api);
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    let page: Value = serde_json::from_str(&response.text().unwrap()).unwrap();
    assert!(page["code"].is_u64(), "{page}");
    page
}

fn read(path: &str, api: SocketAddr) -> Value {
    page(basic(Request::get(path), READER), api)
}

#[test]
fn the_version_is_for_users_on_the_api_and_for_all_where_streams_are() {
    let (host, api) = start_with("");
    let versions = Request::get("/api/v1/versions");
    assert_eq!(status(versions.clone(), api), 401);
    assert_eq!(status(basic(versions.clone(), "reader:123456"), api), 401);
    let page = page(basic(versions.clone(), READER), api);
    for key in ["server", "service", "pid"] {
        assert!(page[key].as_str().is_some_and(|text| !text.is_empty()), "{key} of {page}");
    }
    let data = &page["data"];
    let parts = ["major", "minor", "revision"].map(|key| data[key].as_u64().unwrap().to_string());
    assert_eq!(data["version"], parts.join("."));
    // A health check of SRS's proxies and scripts.
    let health = versions.send(host.http).unwrap();
    assert_eq!(health.status, 200);
    let health: Value = serde_json::from_str(&health.text().unwrap()).unwrap();
    assert_eq!(health, json!({"code": 0, "data": data}));
}

#[test]
fn streams_and_clients_have_srs_shapes() {
    let (host, api) = start_with("");
    let key = host.key("film");
    let publisher = Publisher::open(host.rtmp, &key).repeat(Clip::H264Aac);
    let (flv, rtmp) = (Capture::http(&host, &key), Capture::rtmp(&host, &key));
    [&flv, &rtmp].iter().for_each(|viewer| viewer.wait_access_units(10, SOON));
    let film = || read("/api/v1/streams/", api)["streams"][0].clone();
    let film =
        poll_for(SOON, || Some(film()).filter(|film| film["audio"]["profile"] == "LC")).unwrap_or_else(film);

    let vhosts = read("/api/v1/vhosts/", api);
    let vhost = &vhosts["vhosts"][0];
    assert_eq!((&vhost["name"], &vhost["enabled"]), (&json!("__defaultVhost__"), &json!(true)));
    assert_eq!(
        (&vhost["clients"], &vhost["streams"], &vhost["hls"]),
        (&json!(3), &json!(1), &json!({"enabled": false}))
    );
    assert_eq!(film["vhost"], vhost["id"]);
    let id = |value: &Value| value.as_str().unwrap().to_owned();
    assert!(id(&vhost["id"]).starts_with("vid-") && id(&film["id"]).starts_with("vid-"), "{vhosts} {film}");
    assert_eq!(read(&format!("/api/v1/vhosts/{}", id(&vhost["id"])), api)["vhost"]["name"], vhost["name"]);

    assert_eq!((&film["name"], &film["app"], &film["clients"]), (&json!("film"), &json!("live"), &json!(3)));
    assert_eq!(film["url"], "/live/film");
    assert!(film["tcUrl"].as_str().unwrap().starts_with("rtmp://127.0.0.1"), "{film}");
    let video = &film["video"];
    assert_eq!(
        (&video["codec"], &video["width"], &video["height"]),
        (&json!("H264"), &json!(320), &json!(180))
    );
    assert!(video["level"].as_str().unwrap().parse::<f64>().is_ok(), "{video}");
    assert_eq!(film["audio"], json!({"codec": "AAC", "sample_rate": 44_100, "channel": 2, "profile": "LC"}));
    for number in ["live_ms", "frames", "send_bytes", "recv_bytes"] {
        assert!(film[number].as_u64().unwrap() > 0, "{number} of {film}");
    }
    assert!(film["kbps"]["send_30s"].as_u64().unwrap() > 0 && film["kbps"]["recv_30s"].is_u64(), "{film}");
    let one = read(&format!("/api/v1/streams/{}", id(&film["id"])), api);
    assert_eq!((&one["stream"]["id"], &one["code"]), (&film["id"], &json!(0)));

    let clients = read("/api/v1/clients/", api);
    let clients = clients["clients"].as_array().unwrap();
    let mut kinds: Vec<_> = clients.iter().map(|client| id(&client["type"])).collect();
    kinds.sort();
    assert_eq!(kinds, ["flv-play", "fmle-publish", "rtmp-play"]);
    for client in clients {
        assert_eq!(
            (&client["ip"], &client["stream"], &client["vhost"]),
            (&json!("127.0.0.1"), &film["id"], &vhost["id"])
        );
        assert_eq!((&client["name"], &client["url"]), (&json!("film"), &json!("/live/film")));
        assert_eq!(client["publish"], client["type"] == "fmle-publish");
        let (sent, received) =
            (client["send_bytes"].as_u64().unwrap(), client["recv_bytes"].as_u64().unwrap());
        assert_eq!(
            (sent > 0, received > 0),
            (client["publish"] == false, client["publish"] == true),
            "{client}"
        );
        let one = read(&format!("/api/v1/clients/{}", id(&client["id"])), api);
        assert_eq!(one["client"]["type"], client["type"]);
    }
    assert_eq!(film["publish"], json!({"active": true, "cid": clients[0]["id"]}));

    // What is missing has a code, and the status 200.
    for (path, code) in
        [("vhosts/x", 2014), ("streams/vid-0", 2048), ("clients/x", 2049), ("clients/00", 2049)]
    {
        assert_eq!(read(&format!("/api/v1/{path}"), api), json!({"code": code}), "{path}");
    }
    // What past viewers were sent counts on.
    let sent = film["send_bytes"].as_u64().unwrap();
    let viewer = clients.iter().find(|client| client["type"] == "flv-play").unwrap();
    let kick = || Request::new("DELETE", &format!("/api/v1/clients/{}", id(&viewer["id"])));
    assert_eq!(status(basic(kick(), READER), api), 403);
    assert_eq!(flv.end(), None);
    assert_eq!(page(basic(kick(), OPERATOR), api)["code"], 0);
    let _ = flv.finish(SOON);
    wait_until(SOON, "two clients are left", || read("/api/v1/streams", api)["streams"][0]["clients"] == 2);
    assert!(read("/api/v1/streams", api)["streams"][0]["send_bytes"].as_u64().unwrap() >= sent);
    assert_eq!(page(basic(kick(), OPERATOR), api), json!({"code": 2049}));
    publisher.stop();
    wait_until(SOON, "no stream is left", || read("/api/v1/streams", api)["streams"] == json!([]));
}

#[test]
fn lists_are_paged_as_in_srs() {
    let (host, api) = start_with("");
    let names: Vec<_> = (0..12).map(|number| host.key(&format!("s{number:02}"))).collect();
    let _publishers: Vec<_> = names.iter().map(|name| Publisher::open(host.rtmp, name)).collect();
    let listed = |kind: &str, query: &str| {
        let page = read(&format!("/api/v1/{kind}/{query}"), api);
        let names = page[kind].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    wait_until(SOON, "all are published", || listed("streams", "?count=100").len() == 12);
    let all: Vec<_> = names.iter().map(|name| name.rsplit('/').next().unwrap().to_owned()).collect();
    for (query, expected) in [
        ("", &all[..10]),
        ("?count=3", &all[..3]),
        ("?start=10", &all[10..]),
        ("?start=3&count=2", &all[3..5]),
        ("?start=99", &[]),
        ("?start=-1&count=x", &all[..10]),
    ] {
        assert_eq!(listed("streams", query), expected, "{query}");
    }
    assert_eq!((listed("clients", "").len(), listed("clients", "?start=10").len()), (10, 2));
}

#[test]
fn addresses_are_for_users() {
    let host = Host::start(&Config::live());
    let (api, key) = (host.api.unwrap(), host.key("film"));
    let _publisher = Publisher::open(host.rtmp, &key);
    let clients = page(Request::get("/api/v1/clients"), api);
    let client = &clients["clients"][0];
    assert_eq!(
        (&client["ip"], &client["pageUrl"], &client["name"]),
        (&json!(""), &json!(""), &json!("film"))
    );
    let kick = format!("/api/v1/clients/{}", client["id"].as_str().unwrap());
    assert_eq!(status(Request::new("DELETE", &kick), api), 403);
    let own = &page(Request::get("/api/v1/summaries"), api)["data"]["self"];
    assert_eq!((&own["argv"], &own["cwd"]), (&json!(""), &json!("")));
}

#[test]
fn the_machine_is_described() {
    let (_host, api) = start_with("");
    let data = |path: &str| read(&format!("/api/v1/{path}"), api)["data"].clone();
    let summary = data("summaries");
    let numbers = [
        "cpu_percent",
        "disk_read_KBps",
        "disk_write_KBps",
        "disk_busy_percent",
        "mem_ram_kbyte",
        "mem_ram_percent",
        "mem_swap_kbyte",
        "mem_swap_percent",
        "cpus",
        "cpus_online",
        "uptime",
        "ilde_time",
        "load_1m",
        "load_5m",
        "load_15m",
        "net_sample_time",
        "net_recv_bytes",
        "net_send_bytes",
        "net_recvi_bytes",
        "net_sendi_bytes",
        "srs_sample_time",
        "srs_recv_bytes",
        "srs_send_bytes",
        "conn_sys",
        "conn_sys_et",
        "conn_sys_tw",
        "conn_sys_udp",
        "conn_srs",
    ];
    for number in numbers {
        assert!(summary["system"][number].is_number(), "{number} of {summary}");
    }
    for number in ["pid", "ppid", "mem_kbyte", "mem_percent", "cpu_percent", "srs_uptime"] {
        assert!(summary["self"][number].is_number(), "{number} of {summary}");
    }
    let resident = summary["self"]["mem_kbyte"].as_u64().unwrap();
    let memory = summary["system"]["mem_ram_kbyte"].as_u64().unwrap();
    assert!(resident > 1 << 10 && resident < memory, "{summary}");
    assert_eq!(
        (summary["ok"].as_bool(), summary["self"]["argv"].as_str().unwrap().is_empty()),
        (Some(true), false)
    );
    let own = data("self_proc_stats");
    assert_eq!((&own["pid"], &own["ppid"]), (&summary["self"]["pid"], &summary["self"]["ppid"]));
    assert!(data("rusages")["ru_maxrss"].as_u64().unwrap() > 1 << 10);
    assert!(data("system_proc_stats")["idle"].as_u64().unwrap() > 0);
    assert_eq!(data("meminfos")["MemTotal"].as_u64().unwrap(), memory);
    assert_eq!(
        (data("features")["features"]["hls"].as_bool(), data("authors")["license"].is_string()),
        (Some(false), true)
    );
    assert_eq!(data("requests?token=5ecret")["uri"], "/api/v1/requests");
    let urls = read("/api/v1/", api)["urls"].clone();
    assert!(urls["summaries"].is_string() && urls["clients"].is_string(), "{urls}");
}

#[test]
fn reload_by_get_stays_off() {
    let (host, api) = start_with("");
    assert_eq!(read("/api/v1/raw?rpc=raw", api)["http_api"]["raw_api"]["enabled"], false);
    for rpc in ["", "?rpc=reload", "?rpc=reload-fetch", "?rpc=query&scope=global"] {
        assert_eq!(
            page(basic(Request::get(&format!("/api/v1/raw{rpc}")), OPERATOR), api),
            json!({"code": 1061})
        );
    }
    assert_eq!(status(basic(Request::get("/api/v1/reload"), OPERATOR), api), 404, "no reload yet");
    drop(host);
}

#[test]
fn jsonp_is_off_by_default_and_changes_nothing() {
    let called = |table: &str, path: &str, headers: &[(&str, &str)]| {
        let host = Host::start(&Config::live().tables(&format!("{API}{table}")));
        let request =
            headers.iter().fold(Request::get(path), |request, (name, value)| request.header(name, value));
        let response = request.send(host.api.unwrap()).unwrap();
        let kind = response.header("content-type").unwrap().to_owned();
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
        (response.status, kind, response.text().unwrap())
    };
    let (status, kind, body) = called("", "/api/v1/versions?callback=f", &[]);
    assert_eq!((status, &*kind), (200, "application/json"));
    assert!(body.starts_with('{'), "{body}");
    let (status, kind, body) = called("jsonp = true", "/api/v1/versions?callback=a.b._0", &[]);
    assert_eq!((status, &*kind), (200, "text/javascript; charset=utf-8"));
    let json = body.strip_prefix("/**/a.b._0(").and_then(|rest| rest.strip_suffix(");"));
    assert_eq!(serde_json::from_str::<Value>(json.unwrap()).unwrap()["code"], 0, "{body}");
    for (path, headers, expected) in [
        ("/api/v1/versions?callback=alert(1)", &[][..], 400),
        ("/api/v1/clients/00?callback=f&method=DELETE", &[], 405),
        ("/api/v1/versions?callback=f", &[("Sec-Fetch-Site", "cross-site")], 403),
        ("/api/v1/versions?callback=f", &[("Host", "evil.example")], 421),
    ] {
        assert_eq!(called("jsonp = true", path, headers).0, expected, "{path}");
    }
    // Pages of our own are JSON alone.
    let (_, kind, _) = called("jsonp = true", "/api/v2/streams?callback=f", &[]);
    assert_eq!(kind, "application/json");
}

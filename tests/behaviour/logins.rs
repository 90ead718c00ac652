//! Logging in to the API, as its pages do in browsers, and what other pages can do with it.

use std::net::SocketAddr;

use remuxd_tests::host::Host;
use remuxd_tests::http::{Request, Response};
use remuxd_tests::publisher::Publisher;
use serde_json::{Value, json};

use crate::api::{OPERATOR, READER, TOKEN, basic, send, start_with, status};

fn start() -> (Host, SocketAddr) {
    start_with("jsonp = true")
}

/// Sends credentials in the body.
fn log_in(api: SocketAddr, body: &Value, headers: &[(&str, &str)]) -> Response {
    let body = body.to_string();
    let request = Request::new("POST", "/api/v2/session").header("Content-Type", "application/json");
    let request = request.body(&body);
    send(&headers.iter().fold(request, |request, (name, value)| request.header(name, value)), api)
}

/// Returns the cookie of a response as a request sends it.
fn cookie_of(response: &Response) -> String {
    assert_eq!(response.status, 200);
    let cookie = response.header("set-cookie").unwrap();
    for attribute in ["; Path=/", "; HttpOnly", "; SameSite=Strict", "; Max-Age=43200"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    cookie.split(';').next().unwrap().to_owned()
}

fn operator() -> Value {
    let (name, password) = OPERATOR.split_once(':').unwrap();
    json!({"name": name, "password": password})
}

#[test]
fn a_cookie_stands_for_credentials_until_logging_out() {
    let (_host, api) = start();
    let reader = Request::new("POST", "/api/v2/session");
    let reader = cookie_of(&send(&basic(reader, READER), api));
    let operator = cookie_of(&log_in(api, &operator(), &[]));
    let by_token = cookie_of(&log_in(api, &json!({"token": TOKEN}), &[]));
    let whoami = |cookie: &str| {
        let response = send(&Request::get("/api/v2/session").header("Cookie", cookie), api);
        (response.status, response.text().unwrap())
    };
    let role = |cookie: &str| {
        let (status, text) = whoami(cookie);
        let page: Value = serde_json::from_str(&text).unwrap();
        assert!(status == 200 && page["seconds"].as_u64().unwrap() > 43_000, "{page}");
        (page["user"].as_str().unwrap().to_owned(), page["role"].as_str().unwrap().to_owned())
    };
    let pair = |name: &str, role: &str| (name.to_owned(), role.to_owned());
    assert_eq!(role(&reader), pair("reader", "read"));
    assert_eq!(role(&operator), pair("ops", "operate"));
    assert_eq!(role(&format!("a=b; {by_token}; c=d")), pair("ops", "operate"));
    assert_eq!(whoami("remuxd=guess").0, 401);
    let own = format!("http://{api}");
    let log_out = |cookie: &str| {
        let request =
            Request::new("DELETE", "/api/v2/session").header("Cookie", cookie).header("Origin", &own);
        let response = send(&request, api);
        assert!(response.header("set-cookie").is_none_or(|cookie| cookie.contains("Max-Age=0")));
        response.status
    };
    assert_eq!((log_out(&operator), log_out(&operator)), (200, 401));
    assert_eq!((whoami(&operator).0, whoami(&reader).0), (401, 200));
}

#[test]
fn bad_logins_are_refused() {
    let (host, api) = start();
    let refused = |body: Value, headers: &[(&str, &str)]| {
        let response = log_in(api, &body, headers);
        assert_eq!(response.header("set-cookie"), None);
        response.status
    };
    assert_eq!(refused(json!({"name": "ops"}), &[]), 401);
    assert_eq!(refused(json!({"token": "guess"}), &[]), 401);
    assert_eq!(refused(json!({"user": "ops"}), &[]), 400);
    assert_eq!(refused(json!({"name": "x".repeat(5000)}), &[]), 413);
    assert_eq!(refused(operator(), &[("Origin", "https://evil.example")]), 403);
    assert_eq!(refused(operator(), &[("Host", "evil.example")]), 421);
    // A form of another site can send this without asking.
    let form = Request::new("POST", "/api/v2/session").header("Content-Type", "text/plain");
    let body = operator().to_string();
    let form = form.body(&body);
    assert_eq!(status(form, api), 400);
    assert_eq!(status(Request::new("POST", "/api/v2/session"), api), 401);
    let (name, password) = OPERATOR.split_once(':').unwrap();
    let in_url = format!("/api/v2/session?name={name}&password={password}&token={TOKEN}");
    assert_eq!(status(Request::new("POST", &in_url), api), 401);
    // Two guesses are counted already.
    for _ in 0..8 {
        assert_eq!(refused(json!({"token": "guess"}), &[]), 401);
    }
    assert_eq!(refused(operator(), &[]), 429);
    assert_eq!(status(basic(Request::get("/metrics"), OPERATOR), api), 429, "the same count");
    host.wait_log(&["API request refused", "path=\"/api/v2/session\""]);
}

#[test]
fn pages_of_others_do_nothing_with_a_login() {
    let (host, api) = start();
    let key = host.key("film");
    let _publisher = Publisher::open(host.rtmp, &key);
    let cookie = cookie_of(&log_in(api, &operator(), &[]));
    let with = |method: &str, path: &str, headers: &[(&str, &str)]| {
        let request = Request::new(method, path).header("Cookie", &cookie);
        status(headers.iter().fold(request, |request, (name, value)| request.header(name, value)), api)
    };
    let ban = "/api/v2/bans?kind=stream&value=live/other&seconds=60";
    let (own, neighbour) = (format!("http://{api}"), format!("http://{}", host.http));
    for origin in [None, Some("https://evil.example"), Some("null"), Some(neighbour.as_str())] {
        let headers: Vec<_> = origin.map(|origin| ("Origin", origin)).into_iter().collect();
        for (method, path) in [
            ("POST", ban),
            ("POST", "/api/v1/reload"),
            ("DELETE", "/api/v2/sessions/00"),
            ("DELETE", "/api/v1/clients/00"),
            ("DELETE", "/api/v2/session"),
        ] {
            assert_eq!(with(method, path, &headers), 403, "{method} {path} {origin:?}");
        }
    }
    assert_eq!(with("POST", ban, &[("Origin", &own)]), 200);
    // Names of the Web that lead here.
    assert_eq!(with("GET", "/api/v2/sessions", &[("Host", "evil.example")]), 421);
    assert_eq!(with("POST", ban, &[("Host", "evil.example"), ("Origin", "http://evil.example")]), 421);
    // Scripts of other pages get the cookie, too, where they are of the same site.
    assert_eq!(with("GET", "/api/v1/clients?callback=f", &[("Sec-Fetch-Site", "same-site")]), 403);
    assert_eq!(with("GET", "/api/v1/clients", &[]), 200);
    // Methods cannot be overridden.
    for override_ in ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"] {
        assert_eq!(with("GET", ban, &[(override_, "DELETE"), ("Origin", &own)]), 200);
        let clients =
            with("GET", "/api/v1/clients/00?_method=DELETE&method=DELETE", &[(override_, "DELETE")]);
        assert_eq!(clients, 200);
    }
}

#[test]
fn credentials_in_urls_do_not_count() {
    let (_host, api) = start();
    let (name, password) = OPERATOR.split_once(':').unwrap();
    for query in [
        format!("token={TOKEN}"),
        format!("access_token={TOKEN}"),
        format!("auth={TOKEN}&authorization=Bearer%20{TOKEN}"),
        format!("name={name}&user={name}&username={name}&password={password}"),
    ] {
        for path in ["/metrics", "/api/v1/versions", "/api/v2/sessions", "/api/v2/events"] {
            assert_eq!(status(Request::get(&format!("{path}?{query}")), api), 401, "{path}?{query}");
        }
    }
    let path = format!("http://{OPERATOR}@{api}/metrics");
    assert_eq!(status(Request::get(&path), api), 401, "the user of an absolute URL");
}

#[test]
fn nobody_logs_in_where_there_are_no_users() {
    let host = Host::start(&remuxd_tests::host::Config::live());
    let api = host.api.unwrap();
    assert_eq!(log_in(api, &operator(), &[]).status, 404);
    let page = send(&Request::get("/api/v2/session"), api).text().unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&page).unwrap(),
        json!({"user": null, "role": "none", "seconds": null})
    );
}

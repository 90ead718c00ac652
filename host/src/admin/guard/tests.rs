use super::*;
use crate::conf::Config;

const USERS: &str = "hosts = [\"api.example\"]\n\
    [[http_api.user]]\nname = \"viewer\"\npassword = \"a password of a reader\"\n\
    [[http_api.user]]\nname = \"ops\"\npassword = \"a password of an operator\"\nrole = \"operate\"\n\
    token = \"a token of an operator\"\n";

fn guard(keys: &str) -> Guard {
    Guard::new(&Config::parse(&format!("[http_api]\n{keys}"), "text").unwrap().http_api)
}

fn admit(guard: &Guard, request: &Request<()>, address: IpAddr, now: Instant) -> Result<Caller, Denial> {
    guard.admit(request, address, now).map(|admitted| admitted.caller)
}

fn request(method: &str, headers: &[(&str, &str)]) -> Request<()> {
    let request = Request::builder().method(method).uri("/metrics");
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
}

fn basic(text: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(text))
}

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn users_are_known_by_their_credentials() {
    let guard = guard(USERS);
    let rows = [
        (basic("viewer:a password of a reader"), Ok(Caller::Reader)),
        (basic("ops:a password of an operator"), Ok(Caller::Operator)),
        ("Bearer a token of an operator".to_owned(), Ok(Caller::Operator)),
        ("bearer  a token of an operator ".to_owned(), Ok(Caller::Operator)),
        (basic("ops:a password of a reader"), Err(Denial::Credentials)),
        (basic("ops"), Err(Denial::Credentials)),
        (basic(":"), Err(Denial::Credentials)),
        ("Basic ???".to_owned(), Err(Denial::Credentials)),
        ("Bearer a password of an operator".to_owned(), Err(Denial::Credentials)),
        ("Digest x".to_owned(), Err(Denial::Credentials)),
        ("Bearer".to_owned(), Err(Denial::Credentials)),
    ];
    for (index, (credentials, expected)) in rows.into_iter().enumerate() {
        let request = request("GET", &[("host", "127.0.0.1"), ("authorization", &credentials)]);
        let peer = Ipv4Addr::from(index as u32).into();
        assert_eq!(admit(&guard, &request, peer, Instant::now()), expected, "{credentials}");
    }
    let without = request("GET", &[("host", "127.0.0.1")]);
    assert_eq!(admit(&guard, &without, PEER, Instant::now()), Err(Denial::Credentials));
    assert_eq!(admit(&super::tests::guard(""), &without, PEER, Instant::now()), Ok(Caller::Anybody));
}

#[test]
fn other_names_are_refused() {
    let guard = guard("hosts = [\"api.example\"]");
    for (host, known) in [
        ("127.0.0.1:1985", true),
        ("192.0.2.1", true),
        ("[::1]:1985", true),
        ("[::1]", true),
        ("localhost:1985", true),
        ("API.example", true),
        ("api.example:80", true),
        ("evil.example:1985", false),
        ("localhost.evil.example", false),
        ("127.0.0.1.evil.example", false),
        ("", false),
    ] {
        let admitted = admit(&guard, &request("GET", &[("host", host)]), PEER, Instant::now());
        assert_eq!(admitted.is_ok(), known, "{host}: {admitted:?}");
    }
    for headers in [&[][..], &[("host", "127.0.0.1"), ("host", "localhost")]] {
        assert_eq!(admit(&guard, &request("GET", headers), PEER, Instant::now()), Err(Denial::Host));
    }
}

#[test]
fn pages_of_other_sites_change_nothing() {
    let guard = guard(USERS);
    let token = ("authorization", "Bearer a token of an operator");
    for (method, origin, admitted) in [
        ("POST", "http://127.0.0.1:1985", true),
        ("DELETE", "https://127.0.0.1:1985", true),
        ("POST", "http://127.0.0.1", false),
        ("POST", "https://evil.example", false),
        ("DELETE", "null", false),
        ("GET", "https://evil.example", true),
    ] {
        let headers = [("host", "127.0.0.1:1985"), ("origin", origin), token];
        let result = admit(&guard, &request(method, &headers), PEER, Instant::now());
        assert_eq!(result, if admitted { Ok(Caller::Operator) } else { Err(Denial::Origin) }, "{origin}");
    }
}

#[test]
fn an_address_that_guesses_is_refused_for_a_minute() {
    let guard = guard(USERS);
    let (start, other) = (Instant::now(), IpAddr::from([192, 0, 2, 1]));
    let good = request("GET", &[("host", "127.0.0.1"), ("authorization", "Bearer a token of an operator")]);
    let wrong = request("GET", &[("host", "127.0.0.1"), ("authorization", "Bearer guess")]);
    for _ in 0..MAX_FAILURES {
        assert_eq!(admit(&guard, &wrong, PEER, start), Err(Denial::Credentials));
    }
    let half = start + WINDOW / 2;
    assert_eq!(admit(&guard, &good, PEER, half), Err(Denial::Failures { retry_after: WINDOW / 2 }));
    assert_eq!(admit(&guard, &good, other, half), Ok(Caller::Operator));
    assert_eq!(admit(&guard, &good, PEER, start + WINDOW + Duration::from_millis(1)), Ok(Caller::Operator));
    // Many addresses take no more memory, and count together.
    for number in 0..MAX_ADDRESSES as u32 + MAX_FAILURES {
        let _ = admit(&guard, &wrong, Ipv4Addr::from(0x0a00_0000 + number).into(), half);
    }
    assert!(guard.failures.lock().0.len() <= MAX_ADDRESSES + 1);
    assert!(admit(&guard, &good, [10, 255, 0, 1].into(), half).is_err());
    assert_eq!(admit(&guard, &good, other, half + WINDOW), Ok(Caller::Operator));
}

#[test]
fn a_login_stands_for_credentials() {
    let guard = guard(USERS);
    let (now, host) = (Instant::now(), ("host", "127.0.0.1:1985"));
    let body = |name: &str, password: &str, token: Option<&str>| Credentials {
        name: name.to_owned(),
        password: password.to_owned(),
        token: token.map(str::to_owned),
    };
    let log_in = |headers: &[(&str, &str)], body: Option<Credentials>| {
        guard.log_in(request("POST", headers).headers(), body.as_ref(), PEER, now)
    };
    let basic = basic("ops:a password of an operator");
    let good = [
        log_in(&[host], Some(body("viewer", "a password of a reader", None))),
        log_in(&[host], Some(body("", "", Some("a token of an operator")))),
        log_in(&[host, ("authorization", &basic)], None),
        log_in(&[host, ("origin", "http://127.0.0.1:1985"), ("authorization", &basic)], None),
    ];
    let cookies = good.map(Result::unwrap);
    for (headers, body, denial) in [
        (&[host][..], None, Denial::Credentials),
        (&[host], Some(body("viewer", "a password of an operator", None)), Denial::Credentials),
        (&[host], Some(body("", "", Some("guess"))), Denial::Credentials),
        (&[("host", "evil.example"), ("authorization", &basic)], None, Denial::Host),
        (&[host, ("origin", "https://evil.example"), ("authorization", &basic)], None, Denial::Origin),
    ] {
        assert_eq!(log_in(headers, body), Err(denial));
    }
    let with = |method: &str, cookie: &str, more: &[(&str, &str)]| {
        let value = format!("a=b; remuxd={cookie}; c");
        admit(&guard, &request(method, &[&[host, ("cookie", &value)], more].concat()), PEER, now)
    };
    assert_eq!(with("GET", &cookies[0], &[]), Ok(Caller::Reader));
    assert_eq!(with("GET", &cookies[1], &[]), Ok(Caller::Operator));
    assert_eq!(with("GET", "guess", &[]), Err(Denial::Credentials));
    // Credentials count before a cookie.
    assert_eq!(with("GET", &cookies[0], &[("authorization", &basic)]), Ok(Caller::Operator));
    // What changes something must come from a page of the API, and say so.
    let own = ("origin", "http://127.0.0.1:1985");
    assert_eq!(with("DELETE", &cookies[1], &[own]), Ok(Caller::Operator));
    for origin in [&[][..], &[("origin", "http://127.0.0.1:8080")], &[("origin", "null")], &[own, own]] {
        assert_eq!(with("DELETE", &cookies[1], origin), Err(Denial::Origin), "{origin:?}");
    }
    let value = format!("__Host-remuxd={}", cookies[1]);
    let secure = request("GET", &[host, ("cookie", &value)]);
    assert_eq!(admit(&guard, &secure, PEER, now), Ok(Caller::Operator));
    assert!(guard.log_out(secure.headers()) && !guard.log_out(secure.headers()));
    assert_eq!(with("GET", &cookies[1], &[]), Err(Denial::Credentials));
}

#[test]
fn logging_in_is_no_way_around_the_limit_of_guesses() {
    let guard = guard(USERS);
    let (now, request) = (Instant::now(), request("POST", &[("host", "127.0.0.1")]));
    let log_in = |password: &str| {
        let body = Credentials { name: "ops".to_owned(), password: password.to_owned(), token: None };
        guard.log_in(request.headers(), Some(&body), PEER, now)
    };
    for _ in 0..MAX_FAILURES {
        assert_eq!(log_in("guess"), Err(Denial::Credentials));
    }
    assert_eq!(log_in("a password of an operator"), Err(Denial::Failures { retry_after: WINDOW }));
}

//! Key sets for tokens (JWKS): fetched, kept, refused.

use std::time::{Duration, Instant};

use remuxd_tests::asking::{ALL, Ask};
use remuxd_tests::host::{Config, Host, remuxd};
use remuxd_tests::key_server::KeyServer;
use remuxd_tests::scratch::Scratch;
use remuxd_tests::token::Signer;
use remuxd_tests::wait::{SOON, wait_until};

const SECRET: &str = "token-5ecret-5ecret-5ecret-5ecret";

/// Starts a host whose tokens have the keys of a server, and one of the config, `own`.
fn start(server: &KeyServer) -> Host {
    let own = Signer::hs256(SECRET).toml("own");
    Host::start(&Config::live().play("wait", "\"0s\"").tables(&format!(
        "[vhost.\"__defaultVhost__\".jwt]\nenabled = true\njwks_url = \"{}?key=hush\"\n\
         [[vhost.\"__defaultVhost__\".jwt.key]]\n{own}",
        server.url()
    )))
}

fn token(signer: &Signer, id: &str) -> String {
    let claims = "{\"exp\":9999999999,\"action\":[\"publish\",\"play\"],\"sub\":\"alice\"}";
    format!("token={}", signer.sign(id, claims))
}

#[track_caller]
fn check(host: &Host, ask: Ask, query: &str, admitted: bool) {
    let [yes, no] = match ask {
        Ask::RtmpPublish => ["NetStream.Publish.Start", "NetStream.Publish.Denied"],
        Ask::RtmpPlay => ["NetStream.Play.StreamNotFound", "NetStream.Play.Failed"],
        _ => ["404", "401"],
    };
    let key = host.key(&format!("{ask:?}"));
    assert_eq!(ask.status(host, &key, query, ""), if admitted { yes } else { no }, "{ask:?} {query}");
}

/// Over which tokens are checked here: without TLS.
fn asks() -> impl Iterator<Item = Ask> {
    ALL.into_iter()
        .filter(|ask| !matches!(ask, Ask::RtmpsPublish | Ask::RtmpsPlay | Ask::Https | Ask::SecureWebSocket))
}

#[test]
fn tokens_may_be_signed_with_the_keys_of_a_set() {
    let (server, rsa, ec, stranger) = (KeyServer::start(), Signer::rs256(), Signer::es256(), Signer::es256());
    server.set_keys(&[rsa.jwk("r"), ec.jwk("e")]);
    let host = start(&server);
    let own = Signer::hs256(SECRET);
    for ask in asks() {
        check(&host, ask, &token(&stranger, "e"), false);
        check(&host, ask, &token(&rsa, "e"), false);
        check(&host, ask, &token(&own, "r"), false);
        check(&host, ask, "", false);
        let good = match ask {
            Ask::RtmpPublish | Ask::Http => token(&rsa, "r"),
            Ask::Head => token(&own, "own"),
            _ => token(&ec, "e"),
        };
        check(&host, ask, &good, true);
    }
    assert_eq!(server.requests(), 1, "the set is fetched once");
    assert!(!host.log().contains("hush"), "the query of the URL is not shown:\n{}", host.log());
}

#[test]
fn unknown_keys_cause_no_flood_of_fetches_and_a_reload_keeps_the_set() {
    let (server, old, new) = (KeyServer::start(), Signer::es256(), Signer::es256());
    server.set_keys(&[old.jwk("old")]);
    let host = start(&server);
    check(&host, Ask::Http, &token(&old, "old"), true);
    // Within a minute no other fetch follows, however many tokens name unknown keys.
    server.set_answer("500 Internal Server Error", "", "");
    for _ in 0..5 {
        check(&host, Ask::Http, &token(&new, "new"), false);
    }
    check(&host, Ask::Http, &token(&old, "old"), true);
    assert_eq!(server.requests(), 1);
    host.write_config(&host.config().replace("wait = \"0s\"", "wait = \"10ms\""));
    assert!(host.reload().contains("reloaded"));
    check(&host, Ask::RtmpPlay, &token(&old, "old"), true);
    assert_eq!(server.requests(), 1, "a reload keeps the set");
}

#[test]
fn a_set_that_is_no_good_verifies_nothing() {
    let ec = Signer::es256();
    let other = KeyServer::start();
    other.set_keys(&[ec.jwk("e")]);
    let location = format!("Location: {}\r\n", other.url());
    let symmetric =
        format!("{{\"keys\":[{},{{\"kty\":\"oct\",\"kid\":\"o\",\"k\":\"AAAA\"}}]}}", ec.jwk("e"));
    let long = format!("{{\"keys\":[{}],\"x\":\"{}\"}}", ec.jwk("e"), "x".repeat(65 << 10));
    for (status, headers, body, reason) in [
        ("302 Found", location.as_str(), "", "the answer has status 302"),
        ("404 Not Found", "", "", "the answer has status 404"),
        ("200 OK", "", "<html>", "the answer is no key set"),
        ("200 OK", "", "{\"keys\":[]}", "it has no key for RS256 or ES256"),
        ("200 OK", "", &symmetric, "it has a symmetric key, which everybody can read"),
        ("200 OK", "", &long, "the answer has more than 65536 bytes"),
    ] {
        let server = KeyServer::start();
        server.set_answer(status, headers, body);
        let host = start(&server);
        check(&host, Ask::Http, &token(&ec, "e"), false);
        host.wait_log(&["key set not fetched", &server.url(), reason]);
        check(&host, Ask::Http, &token(&Signer::hs256(SECRET), "own"), true);
    }
    assert_eq!(other.requests(), 0, "no redirect is followed");
}

#[test]
fn a_server_that_does_not_answer_delays_only_its_own_tokens() {
    let (server, ec) = (KeyServer::start(), Signer::es256());
    let host = start(&server);
    let (of_set, of_config) = (token(&ec, "e"), token(&Signer::hs256(SECRET), "own"));
    let began = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            check(&host, Ask::Http, &of_set, false);
            began.elapsed()
        });
        wait_until(SOON, "the set is asked for", || server.requests() == 1);
        check(&host, Ask::Http, &of_config, true);
        assert!(!waiting.is_finished(), "another token does not wait");
        let waited = waiting.join().unwrap();
        assert!(waited >= Duration::from_secs(2) && waited < Duration::from_secs(20), "{waited:?}");
    });
    host.wait_log(&["key set not fetched", "no answer within 3s"]);
    // Once the server answers, tokens are accepted.
    server.set_keys(&[ec.jwk("e")]);
    wait_until(SOON, "the set is fetched", || Ask::Http.status(&host, "live/x", &of_set, "") == "404");
}

#[test]
fn urls_over_which_keys_could_be_forged_are_errors() {
    let scratch = Scratch::new();
    let file = scratch.join("remuxd.toml");
    for (url, error) in [
        ("http://keys.example/set?key=hush", "not https"),
        ("http://localhost:8000/", "not https"),
        ("ftp://keys.example/", "not a URL with the scheme http or https"),
        ("https://keys.example/", ""),
        ("http://127.0.0.1:8000/keys", ""),
    ] {
        let toml = format!(
            "[vhost.a.jwt]\nenabled = true\njwks_url = \"{url}\"\n[[vhost.a.http_remux]]\nenabled = true\n"
        );
        std::fs::write(&file, toml).unwrap();
        let output = remuxd(&["check", "--config", file.to_str().unwrap()]);
        let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.success(), error.is_empty(), "{url}: {printed}");
        assert!(printed.contains(error) && !printed.contains("hush"), "{url}: {printed}");
    }
}

//! Credentials: each kind, over every protocol, as it should be and not.

use std::net::TcpStream;
use std::time::SystemTime;

use remuxd_tests::asking::{ALL, Ask};
use remuxd_tests::capture::{Capture, End};
use remuxd_tests::host::{Config, Host, remuxd};
use remuxd_tests::http::Request;
use remuxd_tests::publisher::{Numbered, Publisher};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::secrets;
use remuxd_tests::tls::{Certificate, Files};
use remuxd_tests::token::{Signer, hmac_sha256_base64url, md5};
use remuxd_tests::wait::{SOON, wait_until};

const SIGNING_SECRET: &str = "sign-5ecret-5ecret-5ecret-5ecret-";
const TOKEN_SECRET: &str = "token-5ecret-5ecret-5ecret-5ecret";
const LINK_SECRET: &str = "link-5ecret";
const PUBLISH_NAME: &str = "name-5ecret-0123456789abcdef0123";

/// Starts a host with TLS. `[.X]` in the tables is of both its vhosts, the default one and b.example. No viewer waits for a stream.
fn start(tables: &str) -> (Host, Files) {
    start_with(tables, "")
}

/// As [`start`], with more tables.
fn start_with(tables: &str, more: &str) -> (Host, Files) {
    let files = Files::of(&Certificate::of(&["127.0.0.1"]));
    let own = tables.replace("[.", "[vhost.\"__defaultVhost__\".");
    let other = tables.replace("[.", "[vhost.\"b.example\".");
    let other = format!(
        "{other}\n[[vhost.\"b.example\".http_remux]]\nenabled = true\n[vhost.\"b.example\".play]\nwait = \"0s\"\n"
    );
    let config = Config::live().play("wait", "\"0s\"").tables(&files.listeners());
    let config = config.tables(&own).tables(&other).tables(more);
    (Host::start(&config), files)
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// Asserts whether a client that asks with `query` is admitted.
#[track_caller]
fn check(host: &Host, ask: Ask, key: &str, query: &str, admitted: bool) {
    let [yes, no] = match ask {
        Ask::RtmpPublish | Ask::RtmpsPublish => ["NetStream.Publish.Start", "NetStream.Publish.Denied"],
        Ask::RtmpPlay | Ask::RtmpsPlay => ["NetStream.Play.StreamNotFound", "NetStream.Play.Failed"],
        _ => ["404", "401"],
    };
    assert_eq!(ask.status(host, key, query, ""), if admitted { yes } else { no }, "{ask:?} {key}?{query}");
}

/// Runs `remuxd sign` and returns the query of the URL that it prints.
fn sign(host: &Host, action: &str, url: &str, arguments: &[&str]) -> String {
    let output = host.command(&[&["sign", action, url], arguments].concat());
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let query = printed.trim().split_once("sign=").unwrap().1.to_owned();
    format!("sign={}", secrets::remember(query))
}

/// Returns the query with which a client asks in the other vhost.
fn elsewhere(query: &str) -> String {
    format!("vhost=b.example&{query}")
}

fn action(ask: Ask) -> &'static str {
    if ask.publishes() { "publish" } else { "play" }
}

#[test]
fn signed_urls_are_for_what_they_were_signed_for() {
    let (host, _files) = start(&format!(
        "[.signed_url]\nenabled = true\n[[.signed_url.key]]\nid = \"a\"\nsecret = \"{SIGNING_SECRET}\"\n"
    ));
    for ask in ALL {
        let key = host.key(&format!("{ask:?}"));
        let (url, other) = (host.rtmp_url(&key), host.rtmp_url(&host.key("other")));
        let (own, wrong) = (action(ask), if ask.publishes() { "play" } else { "publish" });
        let signed = |action, url: &str, arguments: &[&str]| sign(&host, action, url, arguments);
        let good = signed(own, &url, &[]);
        check(&host, ask, &key, &good, true);
        if !ask.publishes() {
            // A viewer may use it again until it expires.
            check(&host, ask, &key, &good, true);
        }
        let refused = [
            String::new(),
            signed(own, &url, &["--expires", "0"]),
            signed(own, &url, &["--address", "192.0.2.1"]),
            signed(wrong, &url, &[]),
            signed(own, &other, &[]),
            signed(own, &format!("{url}?vhost=b.example"), &[]),
            elsewhere(&good),
            format!("{}x", good),
            good.replace("sign=1.", "sign=2."),
            "sign=".to_owned(),
            "sign=1.a.9999999999.AAAA".to_owned(),
        ];
        for query in refused {
            check(&host, ask, &key, &query, false);
        }
        let mine = host.key(&format!("{ask:?}-mine"));
        check(&host, ask, &mine, &signed(own, &host.rtmp_url(&mine), &["--address", "127.0.0.1"]), true);
        let there = signed(own, &format!("{}?vhost=b.example", host.rtmp_url(&mine)), &[]);
        check(&host, ask, &mine, &elsewhere(&there), true);
    }
    host.wait_log(&["access refused", "action=publish", "protocol=rtmp", "signature: it expired"]);
}

#[test]
fn a_signed_url_of_a_page_is_that_of_its_stream() {
    let (host, _files) = start(&format!(
        "[.signed_url]\nenabled = true\npublish = false\n[[.signed_url.key]]\nid = \"a\"\nsecret = \"{SIGNING_SECRET}\"\n"
    ));
    let query = sign(&host, "play", &host.http_url("live/film"), &[]);
    for ask in ALL {
        let key = if ask.publishes() { "live/other" } else { "live/film" };
        let query = if ask.publishes() { "" } else { &query };
        if ask != Ask::RtmpsPublish {
            check(&host, ask, key, query, true);
        }
    }
}

#[test]
fn tokens_are_for_what_they_claim() {
    let signers = [Signer::hs256(TOKEN_SECRET), Signer::rs256(), Signer::es256()];
    let stranger = Signer::es256();
    let keys = signers.iter().enumerate();
    let keys: String =
        keys.map(|(index, key)| format!("[[.jwt.key]]\n{}", key.toml(&format!("k{index}")))).collect();
    let (host, _files) = start(&format!("[.jwt]\nenabled = true\n{keys}"));
    for ask in ALL {
        let (own, wrong) = (action(ask), if ask.publishes() { "play" } else { "publish" });
        let exp = now() + 600;
        let good = format!(
            "{{\"exp\":{exp},\"action\":\"{own}\",\"vhost\":\"__defaultVhost__\",\"app\":\"live\",\"stream\":\"{ask:?}*\"}}"
        );
        for (index, signer) in signers.iter().enumerate() {
            let token = signer.sign(&format!("k{index}"), &good);
            // Each publisher of its own stream: nothing waits until the one before has left.
            let key = host.key(&format!("{ask:?}{index}"));
            check(&host, ask, &key, &format!("token={token}"), true);
            if !ask.publishes() {
                check(&host, ask, &key, &format!("token={token}"), true);
            }
            check(&host, ask, &key, &elsewhere(&format!("token={token}")), false);
        }
        let key = host.key(&format!("{ask:?}"));
        let claims = [
            format!("{{\"exp\":{},\"action\":\"{own}\"}}", now() - 1),
            format!("{{\"exp\":{exp},\"action\":\"{wrong}\"}}"),
            format!("{{\"exp\":{exp},\"action\":\"{own}\",\"vhost\":\"b.example\"}}"),
            format!("{{\"exp\":{exp},\"action\":\"{own}\",\"stream\":\"other\"}}"),
            format!("{{\"exp\":{exp}}}"),
            format!("{{\"action\":\"{own}\"}}"),
            "not JSON".to_owned(),
        ];
        let mut refused: Vec<_> = claims.iter().map(|claims| signers[0].sign("k0", claims)).collect();
        refused.push(stranger.sign("k2", &good));
        refused.push(signers[0].sign("k1", &good));
        refused.push(signers[0].sign("k9", &good));
        refused.push("a.b.c".to_owned());
        refused.push(String::new());
        for token in refused {
            check(&host, ask, &key, &format!("token={token}"), false);
        }
        check(&host, ask, &key, "", false);
    }
    let token = signers[0].sign("k0", &format!("{{\"exp\":{},\"action\":\"play\"}}", now() + 600));
    let request = Request::get("/live/x.flv").header("Authorization", &format!("Bearer {token}"));
    assert_eq!(request.send(host.http).unwrap().status, 404, "a header is as good as the query");
    let response = Request::get("/live/x.flv").send(host.http).unwrap();
    assert_eq!((response.status, response.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(response.text().unwrap(), "access denied\n");
}

#[test]
fn links_of_nginx_are_for_viewers() {
    let (host, _files) = start(&format!(
        "[.secure_link]\nenabled = true\nsecret = \"{LINK_SECRET}\"\nexpression = \"[expires][path][address] [secret]\"\n"
    ));
    let link = |path: &str, address: &str, expires: u64| {
        let hash = md5(&format!("{expires}{path}{address} {LINK_SECRET}"));
        format!("md5={hash}&expires={expires}")
    };
    let later = now() + 600;
    for ask in ALL {
        let key = host.key(&format!("{ask:?}"));
        if ask.publishes() {
            // It is for viewers alone: publishing stays open.
            check(&host, ask, &key, "", true);
            continue;
        }
        let is_rtmp = matches!(ask, Ask::RtmpPlay | Ask::RtmpsPlay);
        let path = if is_rtmp { format!("/{key}") } else { host.path(&key) };
        let good = link(&path, "127.0.0.1", later);
        check(&host, ask, &key, &good, true);
        check(&host, ask, &key, &good, true);
        // The scheme knows no vhosts.
        check(&host, ask, &key, &elsewhere(&good), true);
        for refused in [
            link(&path, "127.0.0.1", now() - 1),
            link(&path, "192.0.2.1", later),
            link("/live/other.flv", "127.0.0.1", later),
            link(&path, "127.0.0.1", later).replace("&expires=", "&expires=1"),
            "md5=x&expires=9999999999".to_owned(),
            String::new(),
        ] {
            check(&host, ask, &key, &refused, false);
        }
    }
}

/// Returns a secret name to publish `stream` under, and the lines for the config.
fn new_publish_key(stream: &str) -> (String, String) {
    let printed = remuxd(&["sign", "new-publish-key", stream]);
    let lines = String::from_utf8(printed.stdout).unwrap();
    let name = lines.lines().next().unwrap().strip_prefix("# publish as ").unwrap().to_owned();
    (secrets::remember(name), lines)
}

#[test]
fn a_viewers_name_does_not_allow_to_publish() {
    let (name, lines) = new_publish_key("film");
    let (name_elsewhere, lines_elsewhere) = new_publish_key("film");
    let lines = lines + &lines_elsewhere.replace("__defaultVhost__", "b.example");
    let (host, _files) = start_with("[.publish_key]\nenabled = true\n", &lines);
    let key = host.key("film");
    for ask in [Ask::RtmpPublish, Ask::RtmpsPublish] {
        check(&host, ask, &key, "", false);
        check(&host, ask, &host.key(PUBLISH_NAME), "", false);
        check(&host, ask, &host.key(&name), "vhost=b.example", false);
        check(&host, ask, &host.key(&name_elsewhere), "", false);
    }
    let mut publisher = Publisher::open(host.rtmp, &host.key(&name));
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(3));
    let viewer = Capture::http(&host, &key);
    viewer.wait_until(SOON, "frame 2", |tags| Numbered::numbers(tags).last() == Some(&2));
    for ask in ALL.into_iter().filter(|ask| !ask.publishes()) {
        check(&host, ask, &host.key(&name), "", false);
    }
    for name in [&name, PUBLISH_NAME] {
        let unknown = Request::get(&format!("/live/{name}.none")).send(host.http).unwrap();
        assert_eq!(unknown.status, 404);
    }
    host.wait_nth_log("path=\"/live/#", 2);
    host.wait_log(&["publishing", "stream=live/film"]);
    host.wait_log(&["access refused", "stream=live/#", "no publish_key has this name"]);
    // Neither page shows the secret name: the kit looks.
    for page in ["/metrics", "/api/v1/modules"] {
        assert!(!host.api_page(page).is_empty());
    }
}

#[test]
fn a_session_ends_when_its_credentials_expire() {
    let (host, _files) = start(&format!(
        "[.jwt]\nenabled = true\nenforce_expiry = true\n[[.jwt.key]]\n{}",
        Signer::hs256(TOKEN_SECRET).toml("k")
    ));
    let key = host.key("film");
    let token = |key: &str, action: &str, seconds: u64| {
        let claims = format!("{{\"exp\":{},\"action\":\"{action}\"}}", now() + seconds);
        format!("{key}?token={}", Signer::hs256(TOKEN_SECRET).sign("k", &claims))
    };
    let mut publisher = Publisher::open(host.rtmp, &token(&key, "publish", 600));
    let mut media = Numbered::new(500);
    publisher.send(&media.headers());
    publisher.send(&media.frames(2));
    let mut expiring = Publisher::open(host.rtmp, &token(&host.key("other"), "publish", 15));
    expiring.send(&media.headers());
    let short = token(&key, "play", 15);
    let query = short.split_once('?').unwrap().1;
    let (http, url) = (host.http, format!("{}?{query}", host.ws_url(&key)));
    let viewers = [
        Capture::request(&host, Request::get(&format!("{}?{query}", host.path(&key)))),
        Capture::websocket_over(move || TcpStream::connect(http), url),
        Capture::rtmp(&host, &short),
    ];
    for viewer in viewers {
        viewer.wait_started(SOON);
        wait_until(SOON, "the session ends", || viewer.end().is_some());
        assert_eq!(viewer.finish(SOON).end, End::Clean);
    }
    let status = expiring.connection().read_until(|message| message.status()).expect("the host says why");
    assert_eq!(status, "NetStream.Publish.Denied");
    host.wait_nth_log("its credentials have expired", 4);
    // The publisher's own token is valid for longer.
    publisher.send(&media.frames(1));
}

#[test]
fn secrets_come_from_files_and_the_environment() {
    let scratch = Scratch::new();
    let file = scratch.join("secret");
    std::fs::write(&file, format!("{SIGNING_SECRET}\n")).unwrap();
    let (host, _files) = start(&format!(
        "[.signed_url]\nenabled = true\n[[.signed_url.key]]\nid = \"a\"\nsecret = {{ file = {file:?} }}\n"
    ));
    let query = sign(&host, "play", &host.http_url("live/x"), &[]);
    check(&host, Ask::Http, "live/x", &query, true);
    // Another secret in the file takes effect with a reload.
    std::fs::write(&file, format!("{SIGNING_SECRET}2")).unwrap();
    host.reload();
    check(&host, Ask::Http, "live/x", &query, false);
}

#[test]
fn errors_in_credentials_are_shown_without_secrets() {
    let scratch = Scratch::new();
    let not_a_key = scratch.join("key.pem");
    std::fs::write(&not_a_key, "x").unwrap();
    let wrong = format!(
        "[vhost.a.signed_url]\nenabled = true\n\
         [[vhost.a.signed_url.key]]\nid = \"a b\"\nsecret = \"hush-1\"\n\
         [[vhost.a.signed_url.key]]\nid = \"b\"\nsecret = {{ file = \"/no/such/file\" }}\n\
         [[vhost.a.signed_url.key]]\nid = \"c\"\nsecret = {{ env = \"NO_SUCH_VARIABLE\" }}\n\
         [[vhost.a.signed_url.key]]\nid = \"d\"\nsecrets = \"hush-2\"\nsecret = [\"hush-3\"]\n\
         [[vhost.a.jwt.key]]\nid = \"a\"\nalgorithm = \"HS512\"\nsecret = '{TOKEN_SECRET}hush-4'\n\
         [[vhost.a.jwt.key]]\nid = \"b\"\nalgorithm = \"RS256\"\npublic_key = {not_a_key:?}\n\
         [[vhost.a.jwt.key]]\nid = \"c\"\nalgorithm = \"ES256\"\nsecret = \"{TOKEN_SECRET}hush-5\"\n\
         [[vhost.a.publish_key.key]]\nstream = \"x\"\nsha256 = \"12\"\n\
         [vhost.b.signed_url]\nenabled = true\nsecret = \"hush-6\"\n\
         [vhost.b.secure_link]\nenabled = true\nexpression = \"[path]\"\nsecret = \"hush-7\n"
    );
    for (toml, expected) in [
        (
            wrong.replace("hush-7\n", "hush-7\"\n"),
            vec![
                "an id has letters, digits, - and _ only",
                "6 bytes are too short for a secret, 32 are needed",
                "/no/such/file",
                "NO_SUCH_VARIABLE",
                "unknown key `secrets`",
                "wrong type for `secret`",
                "must be `HS256`, `RS256` or `ES256`",
                "no public key in",
                "`public_key` is missing",
                "not a SHA-256",
                "`signed_url` without a key refuses everybody",
                "it lacks [expires]",
            ],
        ),
        (wrong, vec!["not TOML"]),
    ] {
        let file = scratch.join("remuxd.toml");
        std::fs::write(&file, &toml).unwrap();
        let output = remuxd(&["check", "--config", file.to_str().unwrap()]);
        let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.status.success(), "{printed}");
        for part in expected {
            assert!(printed.contains(part), "`{part}` is not in:\n{printed}");
        }
        assert!(!printed.contains("hush"), "a secret is shown:\n{printed}");
    }
}

#[test]
fn a_credential_of_a_node_that_has_expired_stands_for_nothing() {
    let secret = "a secret that two nodes have in common";
    let with = |more: &str| {
        let tables = format!("[cluster]\nsecret = \"{secret}\"\n{more}");
        Host::start(&Config::live().play("wait", "\"0s\"").tables(&tables))
    };
    let open = with("");
    let closed = with(&format!(
        "[vhost.\"__defaultVhost__\".signed_url]\nenabled = true\n[[vhost.\"__defaultVhost__\".signed_url.key]]\nid = \"a\"\nsecret = \
         \"{SIGNING_SECRET}\"\n"
    ));
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let status = |host: &Host, secret: &str, expiry: u64| {
        let (path, expiry) = ("/live/x.flv", expiry.to_string());
        let mut message = Vec::new();
        for field in ["1", "play", path, &expiry] {
            message.extend((field.len() as u32).to_be_bytes());
            message.extend(field.as_bytes());
        }
        let mac = hmac_sha256_base64url(secret, &message);
        Request::get(&format!("{path}?remuxd_node=1.{expiry}.{mac}")).send(host.http).unwrap().status
    };
    // 404: the client may play, and there is no stream.
    assert_eq!([status(&open, secret, now + 100), status(&closed, secret, now + 100)], [404, 404]);
    assert_eq!(status(&open, secret, now - 3600), 404);
    assert!([401, 403].contains(&status(&closed, secret, now - 3600)));
    assert!([401, 403].contains(&status(&open, "another secret of more than 32 bytes", now + 100)));
}

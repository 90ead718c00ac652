//! HTTP request paths: Host, path and query of any bytes give a mount or a refusal, and the stream has the names of the
//! path; a redirect leads to the host of its rule, in characters that are valid in a header.
#![no_main]

use libfuzzer_sys::fuzz_target;
use remuxd::testing::conf::Config;
use remuxd::testing::router::{Redirection, Router};

const CONFIG: &str = r#"
[[vhost."__defaultVhost__".http_remux]]
enabled = true
[[vhost."a.example".http_remux]]
enabled = true
mount = "/tv/[app]/[stream].ts"
[[vhost."a.example".http_remux]]
enabled = true
mount = "[vhost]/[app]/[stream].flv"
[[vhost."__defaultVhost__".redirect]]
enabled = true
path = "/go/[app]/[stream].flv"
to = "http://edge.example/[vhost]/[app]/[stream]?from=[stream]&[query]"
"#;

thread_local! {
    static ROUTER: Router = {
        let config = Config::parse(CONFIG, "fuzz.toml").expect("a config without errors");
        Router::new(config.vhosts, &config.limits.sessions)
    };
}

fuzz_target!(|data: &str| {
    let mut parts = data.splitn(3, '\n');
    let mut part = || parts.next().unwrap_or("");
    let (host, path, query) = (part(), part(), part());
    let Ok(resolved) = ROUTER.with(|router| router.resolve(host, path, query, None)) else { return };
    if let Some(Redirection::To { status, url }) = resolved.redirect {
        assert_eq!(status, 302);
        assert!(url.starts_with("http://edge.example/__defaultVhost__/"), "{url}");
        assert!(url.bytes().all(|byte| byte.is_ascii_graphic()), "{url}");
        assert_eq!(url.split('?').next().map(|path| path.split('/').count()), Some(6), "{url}");
    }
    for route in resolved.routes {
        for name in [&route.key.app, &route.key.stream] {
            assert!(!name.is_empty() && !name.contains(['/', '\\', '\0']), "{name:?}");
            assert!(&**name != "." && &**name != "..", "{name:?}");
        }
    }
});

//! Variants: options that viewers set in the query of the URL.

use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::{Request, Response};
use remuxd_tests::module_dir::ModuleDir;
use remuxd_tests::modules::test_module;
use remuxd_tests::publisher::{Numbered, Pace, Publisher};

/// Number of variants that may be watched beside the default one.
const LIMIT: u64 = 16;

/// A live stream with a format that has a text variant. Its mounts stay without viewers.
struct Scene {
    host: Host,
    key: String,
    publisher: Pace,
    _modules: ModuleDir,
}

impl Scene {
    fn new() -> Scene {
        let modules = ModuleDir::with(&[]);
        modules.put("hostile", &std::fs::read(test_module("hostile")).unwrap());
        let config = Config::live()
            .play("idle_timeout", "\"10m\"")
            .mount("mount = \"/[app]/[stream].hostile\"")
            .mount("mount = \"/quiet/[app]/[stream].hostile\"\n[vhost.\"__defaultVhost__\".http_remux.options]\ntitle = \"quiet\"")
            .tables(&modules.table(&["hostile"], ""));
        let host = Host::start(&config);
        let key = host.key("one");
        let publisher = Publisher::open(host.rtmp, &key).pace(Numbered::new(500));
        Scene { host, key, publisher, _modules: modules }
    }

    /// Sends a request with this query.
    fn get(&self, query: &str) -> Response {
        Request::get(&format!("/{}.hostile{query}", self.key)).send(self.host.http).unwrap()
    }

    /// Watches the variant with this title, until the result is dropped.
    fn watch(&self, title: &str) -> Response {
        let response = self.get(&format!("?title={title}"));
        assert_eq!(response.status, 200, "{title}");
        response
    }

    fn mounts(&self) -> u64 {
        self.host.count("mounts", None)
    }
}

#[test]
fn variants_that_nobody_watches_make_room_and_the_default_is_never_refused() {
    let scene = Scene::new();
    let titles: Vec<String> = (0..LIMIT).map(|number| format!("z{number}")).collect();
    let mut viewers: Vec<Response> = titles.iter().map(|title| scene.watch(title)).collect();
    // All are in use.
    for title in ["other", "another"] {
        let refused = scene.get(&format!("?title={title}"));
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
        assert!(refused.text().unwrap().contains("16 other variants"));
    }
    let line = scene.host.wait_log(&["variant refused"]);
    assert!(line.contains("WARN") && line.contains(&scene.key) && line.contains(".hostile"), "{line}");
    assert!(!line.contains("other\"") && !line.contains("title"), "no query in the log: {line}");
    assert_eq!(scene.host.log().matches("variant refused").count(), 1, "one line for both");
    // The default of each mount is not one of them, even if its values are written out; nor is a variant that is live.
    let quiet = Request::get(&format!("/quiet/{}.hostile", scene.key)).send(scene.host.http).unwrap();
    assert_eq!(quiet.status, 200);
    let others = [scene.get(""), scene.get("?title="), scene.get("?title=z3"), quiet];
    assert!(others.iter().all(|response| response.status == 200));
    assert_eq!(scene.mounts(), LIMIT + 2);
    scene.host.wait_viewers(viewers.len() + others.len());
    drop(others);
    scene.host.wait_viewers(viewers.len());
    // Of two that nobody watches, the one that has been so for longer makes room.
    let (first, second) = (viewers.remove(9), viewers.remove(4));
    drop(first);
    scene.host.wait_viewers(viewers.len() + 1);
    drop(second);
    scene.host.wait_viewers(viewers.len());
    viewers.push(scene.watch("new"));
    // 16, two defaults and the new one.
    scene.host.wait_nth_log("mount started", 19);
    viewers.push(scene.watch("z4"));
    assert_eq!(scene.host.log().matches("mount started").count(), 19, "the other one was live");
    assert_eq!(scene.get("?title=z9").status, 503, "all are in use again");
    assert_eq!(scene.mounts(), LIMIT + 2);
    scene.publisher.stop();
}

/// Of texts the name alone: they are what a viewer wrote.
#[test]
fn a_session_has_its_variant() {
    let scene = Scene::new();
    drop(scene.get("?at=0007&title=private&in=tag&other=1"));
    let line = scene.host.wait_log(&["session ended", "in=tag&at=7&title"]);
    assert!(!line.contains("private") && !line.contains("other"), "{line}");
    scene.publisher.stop();
}

#[test]
fn text_that_is_long_or_has_control_characters_is_refused() {
    let scene = Scene::new();
    for (title, fits) in
        [("x".repeat(256), true), ("x".repeat(257), false), ("a%0ab".into(), false), ("a%00".into(), false)]
    {
        let response = scene.get(&format!("?title={title}"));
        assert_eq!(response.status, if fits { 200 } else { 400 }, "{title}");
        if !fits {
            let reason = response.text().unwrap();
            let expected = "expected text of at most 256 bytes without control characters";
            assert!(reason.starts_with("option \"title\" is ") && reason.contains(expected), "{reason}");
        }
    }
    scene.publisher.stop();
}

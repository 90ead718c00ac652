//! Settings of the host that a reload changes, each by what it does afterwards, while a viewer watches.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;

use remuxd_tests::host::{Config, Host};
use remuxd_tests::http::Request;
use remuxd_tests::scratch::Scratch;
use remuxd_tests::wait::{SOON, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::Value;

use crate::reload::scene::Scene;
use crate::reload_listeners::Watched;

impl Watched {
    /// Reloads with another config, whose report must have each of `lines`.
    pub fn reload_showing(&self, config: &Config, lines: &[&str]) {
        self.host.write_config(&config.toml());
        let planned = self.host.command(&["reload", "--dry-run"]);
        let planned = String::from_utf8(planned.stdout).unwrap();
        let printed = self.host.reload();
        for line in lines {
            assert!(planned.lines().any(|one| one.starts_with(line)), "no {line:?} in the plan\n{planned}");
            assert!(printed.lines().any(|one| one.starts_with(line)), "no {line:?} in\n{printed}");
        }
    }
}

#[test]
fn the_log_gets_another_level_and_format() {
    let config = Config::live();
    let scene = Watched::new(&config);
    // A client that leaves in the middle of a request: a line of the level debug.
    let leave = || TcpStream::connect(scene.host.http).unwrap().write_all(b"GET /live").unwrap();
    leave();
    scene.reload_showing(
        &config.clone().tables("[log]\nlevel = \"remuxd=debug,info\""),
        &["log.level: info -> remuxd=debug,info; at once"],
    );
    leave();
    let closed = scene.host.wait_log(&["DEBUG", "http connection closed"]);
    assert!(!scene.host.log().split(&closed).next().unwrap().contains("DEBUG"), "{}", scene.host.log());
    scene.reload_showing(
        &config.clone().tables("[log]\nlevel = \"info\"\nformat = \"json\""),
        &["log.format: text -> json; at once", "log.level: remuxd=debug,info -> info; at once"],
    );
    let line = scene.host.wait_log(&["\"reloaded\""]);
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["fields"]["message"], "reloaded");
    // A level that is none refuses the reload, and changes nothing.
    scene.host.write_config(&config.tables("[log]\nlevel = \"remuxd::[{=info\"\nformat = \"text\"").toml());
    let output = scene.host.command(&["reload"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(printed.contains("bad value for `level`"), "{printed}");
    scene.host.wait_log(&["\"reload refused; nothing has changed\""]);
    scene.finish();
}

#[test]
fn an_access_log_is_opened_moved_and_closed() {
    let scratch = Scratch::new();
    let [first, second] = ["first.log", "second.log"].map(|name| scratch.join(name));
    let config = Config::live();
    let with = |file: &Path| config.clone().tables(&format!("[log.access]\nfile = {file:?}"));
    let scene = Watched::new(&config);
    let lines = |file: &Path| std::fs::read_to_string(file).unwrap_or_default().lines().count();
    scene.reload_showing(&with(&first).play("wait", "0"), &["log.access.file: \"\" -> "]);
    let gone = || {
        let response = Request::get("/live/nobody.flv").send(scene.host.http).unwrap();
        assert_eq!(response.status, 404);
    };
    gone();
    wait_until(SOON, "a line", || lines(&first) == 1);
    scene.reload_showing(&with(&second).play("wait", "0"), &["log.access.file: "]);
    gone();
    wait_until(SOON, "a line in the other file", || lines(&second) == 1);
    scene.reload_showing(&config.clone().play("wait", "0"), &["log.access.file: "]);
    gone();
    assert_eq!((lines(&first), lines(&second)), (1, 1));
    // A file that cannot be opened refuses the reload.
    scene.host.write_config(&with(&scratch.join("no/where.log")).play("wait", "9").toml());
    let output = scene.host.command(&["reload"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        printed.contains("cannot open ") && printed.contains("refused; nothing has changed"),
        "{printed}"
    );
    gone();
    scene.finish();
}

#[test]
fn a_proxy_is_trusted_by_requests_that_come_later() {
    let config = Config::live();
    let scene = Watched::new(&config);
    let watch = || {
        let request = Request::get(&scene.host.path(&scene.key)).header("X-Forwarded-For", "192.0.2.7");
        let response = request.send(scene.host.http).unwrap();
        assert_eq!(response.status, 200);
        response
    };
    let addresses = || scene.host.sessions().into_iter().map(|row| row[4].clone()).collect::<Vec<_>>();
    let before = watch();
    assert!(!addresses().contains(&"192.0.2.7".to_owned()));
    scene.reload_showing(
        &config.clone().tables("[proxy]\ntrusted = [\"127.0.0.1\"]"),
        &["proxy.trusted: [] -> [127.0.0.1/32]; for new clients, not for 2 viewers and 1 publisher"],
    );
    let _after = watch();
    assert_eq!(addresses().iter().filter(|address| *address == "192.0.2.7").count(), 1, "{:?}", addresses());
    // Sessions that were counted for their address leave its count although it is trusted now.
    scene.reload_showing(
        &config.limits("max_viewers_per_address", "3"),
        &["limits.max_viewers_per_address: 0 -> 3; "],
    );
    drop(before);
    scene.host.wait_viewers(2);
    let _again = watch();
    scene.finish();
}

#[test]
fn pages_of_other_sites_and_files_follow_the_config() {
    let scratch = Scratch::new();
    std::fs::write(scratch.join("page.html"), "a page").unwrap();
    let config = Config::live();
    let scene = Watched::new(&config);
    let get = || {
        let request = Request::get("/page.html").header("Origin", "https://a.example");
        let response = request.send(scene.host.http).unwrap();
        (response.status, response.header("access-control-allow-origin").map(str::to_owned))
    };
    assert_eq!(get(), (404, Some("*".to_owned())));
    let served = config.clone().http("dir", &format!("{:?}", scratch.path()));
    scene.reload_showing(
        &served.clone().http("crossdomain", "false"),
        &["http_server.crossdomain: true -> false; at once", "http_server.dir: \"\" -> /"],
    );
    assert_eq!(get(), (200, None));
    scene.reload_showing(
        &served.http("origins", "[\"https://a.example\"]"),
        &["http_server.origins: [] -> [https://a.example]; at once"],
    );
    assert_eq!(get(), (200, Some("https://a.example".to_owned())));
    scene.reload_showing(&config, &["http_server.dir: "]);
    assert_eq!(get(), (404, Some("*".to_owned())));
    scene.finish();
}

#[test]
fn the_path_of_the_control_socket_needs_a_restart_and_the_report_says_why() {
    let config = Config::live();
    let host = Host::start(&config);
    let scratch = Scratch::new();
    let socket = format!("[admin]\nsocket = {:?}", scratch.join("control.sock"));
    host.write_config(&config.clone().tables(&socket).limits("max_viewers", "9").toml());
    // The command would look for the host at the new path.
    host.signal(Signal::HUP);
    let report = || {
        let page = Request::get("/api/v1/reload").send(host.api.unwrap()).unwrap();
        (page.status == 200).then(|| serde_json::from_str::<Value>(&page.text().unwrap()).unwrap())
    };
    let report = wait_for(SOON, "the report", report);
    assert_eq!(report["outcome"], "applied", "{report}");
    let change = |key: &str| {
        let changes = report["changes"].as_array().unwrap().iter();
        changes.clone().find(|change| change["key"] == key).unwrap_or_else(|| panic!("{report}"))
    };
    assert_eq!(change("limits.max_viewers")["effect"], "new-clients");
    // Those who reach the API without credentials see no values.
    assert!(change("limits.max_viewers").get("new").is_none(), "{report}");
    assert_eq!(change("admin.socket")["effect"], "next-start");
    assert_eq!(change("admin.socket")["reason"], "the commands find the running host by this path");
    host.wait_log(&["WARN", "admin.socket: ", "takes effect at the next start"]);
}

/// Number of the host's threads with this name.
fn threads(host: &Host, name: &str) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", host.pid())).unwrap().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|one| one.trim_end() == name).count()
}

#[test]
fn the_pool_of_workers_grows_and_shrinks() {
    let modules = |keys: &str| Config::live().tables(&format!("[modules]\n{keys}"));
    let scene = Watched::new(&modules("workers = 1"));
    let workers = |count: usize| {
        wait_until(SOON, "the workers", || threads(&scene.host, "remuxd-worker") == count);
    };
    workers(1);
    scene.reload_showing(
        &modules("workers = 4\ncall_timeout = 5"),
        &["modules.workers: 1 -> 4; at once", "modules.call_timeout: 1s -> 5s; at once"],
    );
    workers(4);
    scene.reload_showing(&modules("workers = 2"), &["modules.workers: 4 -> 2; at once"]);
    workers(2);
    scene.finish();
}

/// Number of the host's watches of directories.
fn watches(host: &Host) -> usize {
    let files = std::fs::read_dir(format!("/proc/{}/fd", host.pid())).unwrap().flatten();
    let links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    links.filter(|link| link.ends_with("anon_inode:inotify")).count()
}

#[test]
fn the_watch_of_modules_begins_and_ends() {
    let mut scene = Scene::new("");
    let toml = scene.host.config();
    let watching = toml.replacen("[modules]\n", "[modules]\nwatch = true\n", 1);
    assert_ne!(watching, toml);
    scene.host.write_config(&watching);
    assert!(scene.host.reload().contains("modules.watch: false -> true; at once"));
    wait_until(SOON, "the directory is watched", || watches(&scene.host) == 1);
    scene.modules.put_build("flv", 1);
    let new = scene.wait_current(1);
    scene.advance();
    scene.wait_handover(new);
    scene.host.write_config(&toml);
    assert!(scene.host.reload().contains("modules.watch: true -> false; at once"));
    wait_until(SOON, "nothing is watched", || watches(&scene.host) == 0);
    scene.finish();
}

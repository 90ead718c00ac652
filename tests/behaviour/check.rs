//! `remuxd check`.

use remuxd_tests::host::{Config, Host, remuxd};
use remuxd_tests::scratch::Scratch;

/// Runs remuxd on a file. Returns whether it succeeds, and its output.
fn run(arguments: &[&str], toml: &str) -> (bool, String) {
    let scratch = Scratch::new();
    let file = scratch.join("under-test.toml");
    std::fs::write(&file, toml).unwrap();
    let file = file.to_str().unwrap();
    let output = remuxd(&[arguments, &["--config", file]].concat());
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(printed).unwrap())
}

/// A configuration with an error in each table, at the marked word.
const WRONG: &str = r#"
[rtmp]
listen = ["127.0.0.1:«99999»"]
[http_server]
enabled = true
listen = "127.0.0.1:0"
«crosdomain» = true
[modules]
load = ["flv", "«no-such-module»"]
[vhost."__defaultVhost__".play]
gop_cache = «"yes"»
[[vhost."__defaultVhost__".http_remux]]
enabled = true
[[vhost."__defaultVhost__".http_remux]]
enabled = true
mount = «"[vhost]/[app]/[stream].flv"»
"#;

#[test]
fn all_errors_are_reported_at_once_with_their_location() {
    let toml: String = WRONG.chars().filter(|char| !"«»".contains(*char)).collect();
    let (well, printed) = run(&["check"], &toml);
    assert!(!well, "{printed}");
    for (index, line) in WRONG.lines().enumerate().filter(|(_, line)| line.contains('«')) {
        let location = format!("under-test.toml:{}:", index + 1);
        assert!(printed.contains(&location), "{location} is not in:\n{printed}");
        let shown: String = line.chars().filter(|char| !"«»".contains(*char)).collect();
        assert!(printed.contains(&shown), "{shown} is not in:\n{printed}");
    }
    assert!(printed.contains("crossdomain"), "the closest known key is named:\n{printed}");
}

#[test]
fn nothing_listens_with_a_wrong_file() {
    let toml: String = WRONG.chars().filter(|char| !"«»".contains(*char)).collect();
    let (well, printed) = run(&[], &toml);
    assert!(!well && !printed.contains("listening "), "{printed}");
}

#[test]
fn a_good_file_passes() {
    let (well, printed) = run(&["check"], &Config::live().toml());
    assert!(well, "{printed}");
}

#[test]
fn options_are_checked_against_the_modules_schema() {
    let rows = [("hevk = \"legacy\"", "hevc"), ("hevc = \"sideways\"", "legacy")];
    for (option, hint) in rows {
        let toml = Config::live()
            .mount(&format!("[vhost.\"__defaultVhost__\".http_remux.options]\n{option}"))
            .toml();
        let line = toml.lines().position(|text| text == option).unwrap() + 1;
        let (well, printed) = run(&["check"], &toml);
        assert!(!well, "{printed}");
        assert!(printed.contains(&format!("under-test.toml:{line}:")) && printed.contains(hint), "{printed}");
    }
}

#[test]
fn ignored_keys_are_warnings() {
    let toml = Config::live()
        .mount("fast_cache = 30")
        .mount("mount = \"/[app]/[stream].aac\"\nfast_cache = 30")
        .toml();
    let line = toml.lines().position(|text| text == "fast_cache = 30").unwrap() + 1;
    let (well, printed) = run(&["check"], &toml);
    assert!(well, "{printed}");
    assert!(printed.contains("warning: fast_cache is ignored: flv carries video"), "{printed}");
    assert!(printed.contains(&format!("under-test.toml:{line}:14")), "{printed}");
    // One for each module that answers .flv, none for .aac.
    assert!(printed.contains("warning: 2 warnings in") && printed.contains("no errors"), "{printed}");
    let host = Host::start_toml(&toml);
    let location = format!("remuxd.toml:{line}:14: fast_cache is ignored: flv carries video");
    host.wait_log(&["WARN", &location]);
}

#[test]
fn a_missing_file_is_named() {
    let output = remuxd(&["check", "--config", "no-such-file.toml"]);
    let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(!output.status.success() && printed.contains("no-such-file.toml"), "{printed}");
}

#[test]
fn a_config_without_a_vhost_is_warned_about() {
    let scratch = Scratch::new();
    let file = scratch.join("empty.toml");
    let rows = [
        ("", true),
        ("[vhost.\"a.example\"]\nenabled = false", true),
        ("[vhost.\"a.example\"]", false),
        ("not TOML", false),
    ];
    for (toml, warned) in rows {
        std::fs::write(&file, toml).unwrap();
        let output = remuxd(&["--config", file.to_str().unwrap(), "check"]);
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(printed.contains("no vhost is enabled"), warned, "{toml:?}: {printed}");
    }
}

#[test]
fn a_missing_module_ends_the_start_unless_it_is_optional() {
    let toml = |optional: &str| {
        Config::live()
            .tables(&format!("[modules]\nload = [\"flv\", \"absent\"]\noptional = [{optional}]"))
            .toml()
    };
    let (well, printed) = run(&[], &toml(""));
    assert!(!well && !printed.contains("listening "), "{printed}");
    for part in ["module absent", "\"absent\"", "if it may be missing, name it in modules.optional too"] {
        assert!(printed.contains(part), "`{part}` is not in:\n{printed}");
    }
    let (well, printed) = run(&["check"], &toml("\"absent\""));
    assert!(well && printed.contains("optional, and not there"), "{printed}");
    let host = Host::start_toml(&toml("\"absent\""));
    host.wait_log(&["WARN", "module absent"]);
    assert!(host.reload().contains("nothing has changed"));
}

#[test]
fn a_directory_of_modules_that_cannot_be_read_is_named() {
    let scratch = Scratch::new();
    let file = scratch.join("remuxd.toml");
    std::fs::write(&file, "[modules]\ndir = \"nowhere\"\nload = [\"flv\"]\n").unwrap();
    let output = remuxd(&["--config", file.to_str().unwrap(), "check"]);
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(printed.contains("nowhere: the directory of modules cannot be read: No such file"), "{printed}");
}

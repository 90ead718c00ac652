//! The conformance kit passes correct modules and finds the flaws of others.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use remuxd_tests::host::executable;
use remuxd_tests::modules::flawed;

use crate::built::ModuleDir;
use crate::built::bytes;

/// Runs `remuxd module test` with more arguments. Returns whether all checks passed, and the table.
pub fn kit(file: &Path, arguments: &[&str]) -> (bool, String) {
    let Output { status, stdout, .. } =
        Command::new(executable()).args(["module", "test"]).arg(file).args(arguments).output().unwrap();
    (status.success(), String::from_utf8(stdout).unwrap())
}

/// Returns the result of one check on `flawed` with a flaw.
fn check(file: &Path, name: &str, flaw: &str) -> String {
    // Runs one check as the kit does: the whole table would run all of them on each flaw.
    let staged = remuxd::testing::module::Staged::lent(file);
    let options = [("flaw".to_owned(), flaw.to_owned())];
    format!("{:?}", remuxd::testing::author::run_check(&executable(), &staged, name, &options).unwrap())
}

/// Returns the modules that were built with the host.
fn own_modules() -> Vec<PathBuf> {
    let dir = executable().parent().unwrap().to_owned();
    let files = dir.read_dir().unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|file| file.extension().is_some_and(|extension| extension == "so"))
        .filter(|file| file.file_name().unwrap().to_string_lossy().starts_with("libremuxd_"))
        .collect()
}

#[test]
fn our_own_modules_conform() {
    let modules = own_modules();
    assert!(modules.len() >= 2, "{modules:?}");
    for module in modules {
        let (passed, table) = kit(&module, &[]);
        assert!(passed, "{}:\n{table}", module.display());
        assert!(table.contains(" joins decoded"), "nothing was decoded:\n{table}");
    }
}

#[test]
fn each_flaw_is_found_by_the_check_for_it() {
    let dir = ModuleDir::new();
    dir.put("libremuxd_flawed.so", &bytes("flawed"));
    let file = dir.file("libremuxd_flawed.so");
    let rows = [
        (
            "panics",
            "sound streams",
            "messages without content: at tag 5 (script, 0 ms): panicked: an empty payload",
        ),
        ("aborts", "sound streams", "SIGABRT ended the process"),
        (
            "fails at unknown codecs",
            "sound streams",
            "H.264 and AAC: at tag 4 (audio, 0 ms): the format cannot carry",
        ),
        (
            "joins nowhere",
            "sound streams",
            "H.264 and AAC: no JOIN block in all of a stream that it can carry",
        ),
        ("has two roles", "sound streams", "(video, 0 ms): a block is CONFIG and JOIN at once"),
        ("writes its header last", "sound streams", "the first PREAMBLE comes after a JOIN"),
        (
            "counts at 90 kHz",
            "sound streams",
            "a block's dts is 3600 ms, that of the tags so far is 0 to 40 ms",
        ),
        ("floods", "sound streams", "bytes of output in one call"),
        ("forgets joiners", "joins decode alone", "H.264 and AAC, joined at 0 ms: ffprobe: "),
        ("drops at a handover", "handover to itself", "H.264 and AAC: after a handover ffprobe: [h264] "),
        ("leaves too much", "handover to itself", "in state(): a state of 100000 bytes, 65536 at most"),
        (
            "reads any state",
            "state of another build",
            "that is not its own: in remuxer(): panicked: what is that",
        ),
        (
            "is not the same twice",
            "same output each time",
            "H.264 and AAC: played again a second later, block 0 differs (0 ms)",
        ),
        ("shares state", "one stream, one remuxer", "beside another remuxer, block 2 differs (40 ms)"),
        ("needs its finish", "freed at any time", "after 0 tags: in drop: panicked: dropped before finish"),
        (
            "shows the time of day",
            "same output each time",
            "H.264 and AAC: played again a second later, block 0 differs (0 ms)",
        ),
        ("goes back in time", "sound streams", "H.264 alone: a block's dts goes back from 280 to 279 ms"),
        (
            "skips half a GOP",
            "start in the middle",
            ": 39 h264 frames decode, 42 h264 frames of an older remuxer from there on",
        ),
        (
            "joins after keyframes",
            "joins decode alone",
            "joined at 40 ms: 54 h264 frames decode, 59 h264 frames of the whole stream from there on",
        ),
        (
            "panics at the minimum",
            "options",
            "level = \\\"-9\\\": giant nonsense: at tag 0 (video, 0 ms): panicked",
        ),
        ("joins nowhere at the maximum", "options", "level = \\\"9\\\": no JOIN block in all of a stream"),
        ("leaves a thread", "threads", "H.264 and AAC, after its tags: the module started 1 thread ("),
        ("leaves threads", "memory", "leaks 2 MiB a remuxer: "),
        ("leaks", "memory", " bytes a tag"),
        ("keeps each remuxer", "memory", "leaks 39 KiB a remuxer: "),
        ("takes long", "time of a call", "s at tag 2 of giant pictures, 1s at most"),
    ];
    for (flaw, name, line) in rows {
        let result = check(&file, name, flaw);
        let fails = result.starts_with("Fail(") || result.starts_with("Stop(");
        assert!(fails && result.contains(line), "{flaw}: {result}");
    }
}

#[test]
fn the_kit_stops_at_the_first_64_mib_of_a_leak() {
    let dir = ModuleDir::new();
    dir.put("libremuxd_flawed.so", &bytes("flawed"));
    let (passed, table) = kit(&dir.file("libremuxd_flawed.so"), &["--option", "flaw=leaks much"]);
    let lines: Vec<_> = table.lines().collect();
    assert!(!passed && lines.len() == 15, "{table}");
    let leak = lines[1].strip_prefix("FAIL  memory                   leaks 1 MiB a tag: ");
    let leak = leak.unwrap_or_else(|| panic!("{table}"));
    assert!(["64", "65", "66", "67"].iter().any(|size| leak.starts_with(size)), "{leak}");
    assert!(lines[2..].iter().all(|line| line.starts_with("skip  ")), "{table}");
}

#[test]
fn a_module_that_takes_a_gibibyte_is_refused() {
    let dir = ModuleDir::new();
    dir.put("libremuxd_flawed.so", &flawed("takes 1200 MiB"));
    let (passed, table) = kit(&dir.file("libremuxd_flawed.so"), &[]);
    assert!(!passed);
    let line = "FAIL  loading, self-test       playing the self-test to it ends the process: SIGABRT\n";
    assert_eq!(table, line);
}

#[test]
fn options_that_the_module_lacks_are_reported_once_and_nothing_is_tested() {
    let dir = ModuleDir::new();
    let module = dir.file("libremuxd_good.so");
    let rows = [
        ("fall=x", r#"no option "fall"; did you mean "fail"?"#),
        ("fail=x", r#"option "fail" is "x", expected never or "#),
        ("fail", "expected KEY=VALUE"),
    ];
    for (option, line) in rows {
        let mut test = Command::new(executable());
        let Output { status, stdout, stderr } =
            test.args(["module", "test"]).arg(&module).args(["--option", option]).output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!((status.code(), stderr.matches(line).count()), (Some(2), 1), "{option}: {stderr}");
        assert!(!String::from_utf8(stdout).unwrap().contains("FAIL"), "{option}");
    }
}

#[test]
fn the_table_and_the_exit_status_report_the_failed_check() {
    let dir = ModuleDir::new();
    dir.put("libremuxd_flawed.so", &bytes("flawed"));
    let file = dir.file("libremuxd_flawed.so");
    let (passed, table) = kit(&file, &["--option", "flaw=needs its finish"]);
    assert!(!passed);
    let failed: Vec<_> = table.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert_eq!(failed.len(), 1, "{table}");
    assert!(failed[0].starts_with("FAIL  freed at any time"), "{table}");
    let (passed, table) = kit(&file, &["--json"]);
    let rows: serde_json::Value = serde_json::from_str(&table).unwrap();
    assert!(passed, "without a flaw: {table}");
    let rows = rows.as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["check"]), (15, &"loading, self-test".into()));

    dir.put("libremuxd_mute.so", &bytes("mute"));
    let (passed, table) = kit(&dir.file("libremuxd_mute.so"), &[]);
    assert!(!passed);
    let line = "FAIL  loading, self-test       it cannot describe its format: panicked: told to\n";
    assert_eq!(table, line);
}

//! Commands whose output nobody reads to its end, as with `| head -1`, end without an error message.

use std::io::{self, BufRead, BufReader, PipeWriter};
use std::process::{Command, Stdio};

use remuxd_tests::host::{Config, Host, executable};
use remuxd_tests::modules::test_module;
use remuxd_tests::scratch::Scratch;

/// A pipe that nobody reads.
fn broken() -> PipeWriter {
    io::pipe().unwrap().1
}

/// Runs a command whose output nobody reads. Returns its exit status and its standard error.
fn end(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(executable());
    let output = command.args(arguments).stdout(broken()).stderr(Stdio::piped()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn commands_end_quietly() {
    let host = Host::start(&Config::live());
    let config = host.config_file();
    let config = config.to_str().unwrap();
    let module = test_module("flawed");
    let module = module.to_str().unwrap();
    let quietly = (Some(0), String::new());
    for arguments in [
        &["--config", config, "status"][..],
        &["--config", config, "reload", "--dry-run"],
        &["--config", config, "check"],
        &["module", "inspect", module],
        &["module", "test", module],
        &["module", "test", module, "--json"],
    ] {
        assert_eq!(end(arguments), quietly, "{arguments:?}");
    }
}

#[test]
fn an_error_that_nobody_reads_sets_the_exit_status() {
    let mut command = Command::new(executable());
    let status = command.args(["check", "--config", "/nowhere"]).stdout(broken()).stderr(broken()).status();
    assert_eq!(status.unwrap().code(), Some(1));
}

#[test]
fn the_host_runs_on_without_readers_of_its_log() {
    let scratch = Scratch::new();
    let file = scratch.join("remuxd.toml");
    std::fs::write(&file, Config::live().toml()).unwrap();
    let mut command = Command::new(executable());
    command.arg("--config").arg(&file);
    let mut host = command.stdout(Stdio::piped()).stderr(broken()).spawn().unwrap();
    let lines = BufReader::new(host.stdout.take().unwrap()).lines();
    let ready = lines.map_while(Result::ok).any(|line| line == "ready");
    host.kill().unwrap();
    host.wait().unwrap();
    assert!(ready);
}

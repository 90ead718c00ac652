//! The API against its own description, by a tool that knows nothing else of it.

use std::process::Command;

use remuxd_tests::scratch::Scratch;
use remuxd_tests::tool::{run, schemathesis};

use crate::api::{TOKEN, start_with};

#[test]
fn every_page_is_what_the_description_says() {
    let (host, api) = start_with("");
    let scratch = Scratch::new();
    let mut command = Command::new(schemathesis());
    command
        .args([
            "run",
            &format!("http://{api}/api/v2/openapi.json"),
            "--header",
            &format!("Authorization: Bearer {TOKEN}"),
        ])
        // Its response has no end.
        .args(["--exclude-path", "/api/v2/events"])
        // It guesses credentials until the host refuses all from this address, and sends values that no schema can describe.
        .args(["--exclude-checks", "ignored_auth,positive_data_acceptance"])
        .args(["--phases", "coverage,fuzzing", "--max-examples", "15", "--generation-deterministic"])
        .args(["--no-color", "--no-shrink", "--continue-on-failure", "--warnings", "off"])
        .current_dir(scratch.path());
    let output = run(&mut command).unwrap_or_else(|error| panic!("{error}"));
    let printed = String::from_utf8_lossy(&output.stdout);
    let tested = printed.split("Tested: ").nth(1).and_then(|rest| rest.split_whitespace().next());
    assert!(tested.is_some_and(|count| count.parse::<u32>().unwrap() > 35), "{printed}");
    assert!(host.command(&["status"]).status.success());
}

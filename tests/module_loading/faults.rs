//! Faults of a loaded module end one remuxer only.

use remuxd::testing::module::{ModuleFault, Setup, Transport};

use std::process::Command;

use remuxd_tests::tool::run;

use crate::built::{LOADER, ModuleDir, bytes};
use crate::host::{assert_works, remux, tag};

#[test]
fn every_fault_is_reported_in_one_line_and_ends_its_remuxer_only() {
    let (registry, lines) = ModuleDir::new().load(&["good"]);
    assert!(lines.is_empty(), "{lines:?}");
    let module = registry.find("good", Transport::HTTP).unwrap();
    let mut bystander = module.remuxer(&Setup::default()).unwrap();
    // 1 MiB, the default of `max_output`, and 16 times the 10 bytes of the tag.
    let flood = "more than 1048736 bytes of output in one call";
    let rows = [
        ("never", None),
        ("constructor", Some("panicked: told to, in constructor")),
        ("tag", Some("panicked: told to, in tag")),
        ("payload", Some("panicked: no message")),
        ("finish", Some("panicked: told to, in finish")),
        ("drop", None),
        ("error", Some("told to")),
        ("unsupported", Some("the format cannot carry codec avc1")),
        ("flood", Some(flood)),
        ("flood_on", Some(flood)),
    ];
    for (fail, line) in rows {
        let fault = remux(&module, fail).err();
        let unsupported = matches!(fault, Some(ModuleFault::Unsupported { .. }));
        assert_eq!(unsupported, fail == "unsupported", "{fail}");
        assert_eq!(fault.map(|fault| fault.to_string()).as_deref(), line, "{fail}");
        assert_works(&module);
        bystander.tag(&tag(), &mut Vec::new()).unwrap();
    }
}

#[test]
fn a_process_that_dies_leaves_nothing_behind() {
    const ROUNDS: usize = 16;
    let dir = ModuleDir::new();
    dir.put("libremuxd_hostile.so", &bytes("hostile"));
    dir.put_c("libremuxd_crashes.so", "crashes.c", &["-shared", "-fPIC"]);
    let mut host = Command::new(LOADER);
    host.arg("dies").arg(dir.path()).arg(ROUNDS.to_string());
    let output = run(&mut host).unwrap_or_else(|error| panic!("{error}"));
    let printed = String::from_utf8(output.stdout).unwrap();
    let files = printed.split(['[', ']']).nth(1).unwrap().split(", ").collect::<Vec<_>>();
    assert_eq!(files, [files[0]; ROUNDS], "open files after each round");
    assert!(printed.ends_with("] processes 1\nprocesses 0\n"), "{printed}");
}

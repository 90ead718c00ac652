//! A file that is not a module of this host is refused with one line that has the reason.

use std::fs;

use remuxd::testing::module::Transport;
use remuxd_tests::modules::{flawed, with_abort, with_another_layout};

use crate::built::{ModuleDir, bytes};
use crate::host::assert_good_works;

/// `e_machine` of x86_64 and aarch64.
const MACHINES: [(u8, &str); 2] = [(62, "x86_64"), (183, "aarch64")];

/// Loads a module `bad` and then `good`, and returns the message about the first.
fn refusal(dir: &ModuleDir) -> String {
    let (registry, lines) = dir.load(&["bad", "good"]);
    assert_good_works(&registry);
    assert_eq!(registry.modules().len(), 1);
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert!(!line.contains('\n') && line.len() < 300, "{line}");
    line.clone()
}

/// Returns the message for a file with these bytes.
fn refusal_of(library: &[u8]) -> String {
    let dir = ModuleDir::new();
    dir.put("libremuxd_bad.so", library);
    refusal(&dir)
}

/// Returns the message for a library in C.
fn refusal_of_c(source: &str, flags: &[&str]) -> String {
    let dir = ModuleDir::new();
    dir.put_c("libremuxd_bad.so", source, flags);
    refusal(&dir)
}

fn bad(reason: &str) -> String {
    format!("module bad: DIR/libremuxd_bad.so: {reason}")
}

const SHARED: &[&str] = &["-shared", "-fPIC"];

#[test]
fn refuses_files_of_other_kinds() {
    assert_eq!(refusal_of(b"#!/bin/sh\n"), bad("not a shared library (no ELF header)"));
    assert_eq!(refusal_of(b""), bad("not a shared library (no ELF header)"));
    assert_eq!(refusal_of_c("plain.c", &["-c"]), bad("an object file, not a shared library"));
}

#[test]
fn refuses_libraries_of_other_machines() {
    let good = bytes("good");
    let mut other = good.clone();
    let own = MACHINES.iter().position(|&(machine, _)| machine == good[18]).unwrap();
    let ((_, own), (machine, name)) = (MACHINES[own], MACHINES[1 - own]);
    other[18] = machine;
    assert_eq!(refusal_of(&other), bad(&format!("made for {name}, this host is {own}")));
    let mut narrow = good;
    narrow[4] = 1;
    assert_eq!(refusal_of(&narrow), bad("a 32-bit library, this host is 64-bit"));
}

#[test]
fn refuses_libraries_that_are_not_modules() {
    let line = "not a remuxd module (no valid remuxd_module_preflight)";
    assert_eq!(refusal_of_c("plain.c", SHARED), bad(line));
    let line = "it exports no format: neither remuxd_module_format, as modules in C do, nor what export_format! writes in Rust";
    assert_eq!(refusal_of_c("bare.c", SHARED), bad(line));
    let line = "its description is wrong: remuxd_module_format is \"NULL\"";
    assert_eq!(refusal_of_c("null.c", SHARED), bad(line));
    let line = "cannot be mapped: undefined symbol: nowhere_to_be_found";
    assert_eq!(refusal_of_c("unresolved.c", SHARED), bad(line));
}

#[test]
fn refuses_a_module_whose_types_have_another_layout() {
    let line =
        "its interface differs from the host's: RawTag.reserved: host has 32 bytes, module has 40 bytes";
    assert_eq!(refusal_of(&with_another_layout()), bad(line));
}

#[test]
fn refuses_modules_of_another_abi_major() {
    assert_eq!(refusal_of_c("major.c", SHARED), bad("made for ABI 2, this host has 1"));
}

#[test]
fn refuses_modules_whose_panics_abort() {
    let abort = with_abort("good");
    assert_eq!(refusal_of(&abort), bad("built with panic = \"abort\"; build it with panic = \"unwind\""));
}

#[test]
fn refuses_modules_that_fail_the_self_test() {
    let none = "in finish(): no JOIN block in all of a stream that it can carry: nobody could watch";
    let rows = [
        ("has two roles", "at tag 2 (video, 0 ms): a block is CONFIG and JOIN at once"),
        ("joins nowhere", none),
        ("leaves too much", "in state(): a state of 100000 bytes, 65536 at most"),
    ];
    for (flaw, line) in rows {
        assert_eq!(refusal_of(&flawed(flaw)), bad(&format!("it fails the self-test: {line}")));
    }
}

#[test]
fn refuses_a_module_that_ends_the_process() {
    assert_eq!(refusal_of_c("crashes.c", SHARED), bad("loading it ends the process: SIGSEGV"));
    assert_eq!(refusal_of_c("crashes_late.c", SHARED), bad("loading it ends the process: SIGABRT"));
    assert_eq!(refusal_of_c("exits.c", SHARED), bad("loading it ends the process: exit status 0"));
}

#[test]
fn refuses_a_module_that_hangs() {
    assert_eq!(refusal_of_c("hangs.c", SHARED), bad("loading it takes longer than 1.5s"));
}

#[test]
fn refuses_a_module_that_cannot_describe_itself() {
    let mute = bytes("mute");
    assert_eq!(refusal_of(&mute), bad("it cannot describe its format: panicked: told to"));
}

#[test]
fn refuses_a_module_of_another_name() {
    let twin = bytes("twin");
    assert_eq!(refusal_of(&twin), bad("the module in it is named \"twin\""));
}

#[test]
fn refuses_a_second_module_for_the_same_extension_and_transport() {
    let dir = ModuleDir::new();
    dir.put("libremuxd_twin.so", &bytes("twin"));
    let (registry, lines) = dir.load(&["good", "twin"]);
    assert_eq!(
        lines,
        ["module twin: DIR/libremuxd_twin.so: it answers .good over HTTP, as module good does"]
    );
    assert_good_works(&registry);
    assert!(registry.find("twin", Transport::HTTP).is_none(), "half a module");
    assert!(registry.find("good", Transport::WEBSOCKET).is_none());
}

#[test]
fn finds_a_module_by_either_name_of_its_file() {
    let dir = ModuleDir::new();
    assert_eq!(
        refusal(&dir),
        bad("not found, nor libbad.so beside it, nor the module in another lib*.so there")
    );
    fs::rename(dir.file("libremuxd_good.so"), dir.file("libgood.so")).unwrap();
    let (registry, lines) = dir.load(&["good", "web-good"]);
    assert_eq!(
        lines,
        [
            "module web-good: DIR/libremuxd_web_good.so: not found, nor libweb_good.so beside it, nor the module in \
          another lib*.so there"
        ]
    );
    assert_good_works(&registry);
}

#[test]
fn finds_a_module_in_a_file_of_another_name() {
    let dir = ModuleDir::new();
    // The file that comes first by its name is not a module, or broken, or another module.
    dir.put_c("liba_plain.so", "plain.c", SHARED);
    dir.put_c("liba_crashes.so", "crashes.c", SHARED);
    dir.put("liba_text.so", b"remuxd_module_preflight");
    dir.put("liba_twin.so", &bytes("twin"));
    fs::rename(dir.file("libremuxd_good.so"), dir.file("libzeta-1.2.so")).unwrap();
    let (registry, lines) = dir.load(&["good"]);
    assert!(lines.is_empty(), "{lines:?}");
    assert_good_works(&registry);
    fs::rename(dir.file("libzeta-1.2.so"), dir.file("zeta.so")).unwrap();
    let (_, lines) = dir.load(&["good"]);
    assert_eq!(lines.len(), 1, "{lines:?}");
}

#[test]
fn a_name_cannot_leave_the_directory() {
    let dir = ModuleDir::new();
    let (registry, lines) = dir.load(&["../good", "good"]);
    assert_eq!(lines, ["module ../good: DIR: \"../good\" is not a name of a module (a-z, 0-9 and -)"]);
    assert_good_works(&registry);
}

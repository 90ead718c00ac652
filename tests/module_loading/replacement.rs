//! The operator may change a module's file while the module runs.

use std::fs;

use remuxd::testing::module::Transport;

use crate::built::{ModuleDir, bytes};
use crate::host::{assert_good_works, assert_works};

#[test]
fn a_loaded_module_outlives_its_file() {
    let dir = ModuleDir::new();
    let (registry, _) = dir.load(&["good"]);
    // In place, as cargo and cp do it: a mapping of this file would crash the process.
    dir.put("libremuxd_good.so", b"");
    assert_good_works(&registry);
    let (after, lines) = dir.load(&["good"]);
    assert_eq!(lines, ["module good: DIR/libremuxd_good.so: not a shared library (no ELF header)"]);
    assert!(after.modules().is_empty());
    fs::remove_file(dir.file("libremuxd_good.so")).unwrap();
    assert_good_works(&registry);
}

#[test]
fn generations_of_a_file_are_distinguished() {
    let dir = ModuleDir::new();
    let (first, _) = dir.load(&["good"]);
    dir.put("libremuxd_good.so", &bytes("twin"));
    fs::rename(dir.file("libremuxd_good.so"), dir.file("libremuxd_twin.so")).unwrap();
    let (second, lines) = dir.load(&["twin"]);
    assert!(lines.is_empty(), "{lines:?}");
    assert_eq!(second.find("good", Transport::HTTP).unwrap().name(), "twin");
    assert_good_works(&first);
}

#[test]
fn a_module_outlives_the_registry() {
    let (registry, _) = ModuleDir::new().load(&["good"]);
    let module = registry.find("good", Transport::HTTP).unwrap();
    drop(registry);
    assert_works(&module);
}

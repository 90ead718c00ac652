//! Compatibility of the interface: this host runs modules of older and newer minor versions, of other compilers and of
//! other profiles.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use remuxd::testing::module::{HOST_ABI, Setup, Transport};
use remuxd_tests::modules::MODULES;
use remuxd_tests::tool::{root, run, target_dir};

use crate::built::{ModuleDir, bytes_with_a_newer_minor};
use crate::host::{assert_good_works, tag};

/// Loads a build of `good`, streams through it, and returns the ABI version that it was built for.
fn stream_through(library: &[u8]) -> (u16, u16) {
    let dir = ModuleDir::new();
    dir.put("libremuxd_good.so", library);
    let (registry, lines) = dir.load(&["good"]);
    assert!(lines.is_empty(), "{lines:?}");
    assert_good_works(&registry);
    let module = registry.find("good", Transport::HTTP).unwrap();
    // From one remuxer to its successor, also for builds without states.
    let mut setup = Setup::default();
    for _ in 0..2 {
        let mut remuxer = module.remuxer(&setup).unwrap();
        let mut blocks = Vec::new();
        remuxer.tag(&tag(), &mut blocks).unwrap();
        remuxer.finish(&mut blocks).unwrap();
        setup.state = remuxer.state().unwrap();
        assert_eq!(blocks.len(), 1);
    }
    module.abi()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn modules_of_every_minor_version_stream() {
    let dir = root().join("tests/module_loading/abi");
    let (major, newest) = HOST_ABI;
    for minor in 0..=newest {
        let library = fs::read(dir.join(format!("good-{major}.{minor}.so")));
        let library = library.expect("each version of the interface leaves a compiled module there");
        assert_eq!(stream_through(&library), (major, minor));
    }
}

#[test]
fn a_module_of_a_newer_minor_version_streams() {
    let (major, minor) = stream_through(&bytes_with_a_newer_minor());
    assert!((major, minor) > HOST_ABI, "{major}.{minor}");
}

/// Builds the module `good` with another compiler or profile.
fn build(name: &str, profile: &str, rustc: Option<&PathBuf>) -> Vec<u8> {
    let target = target_dir().join(format!("modules-{name}"));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--locked", "--package", "remuxd-good", "--profile", profile]);
    cargo.arg("--target-dir").arg(&target).current_dir(root().join(MODULES));
    if let Some(rustc) = rustc {
        cargo.env("RUSTC", rustc).env_remove("RUSTUP_TOOLCHAIN");
    }
    run(&mut cargo).unwrap_or_else(|error| panic!("{error}"));
    let dir = if profile == "dev" { "debug" } else { profile };
    fs::read(target.join(dir).join("libremuxd_good.so")).expect("cargo built it")
}

/// Builds `good` with a compiler of `tests/run`, and streams through it.
fn stream_through_build_of(compiler: &str) {
    let rustc = target_dir().join("compilers").join(compiler);
    if rustc.exists() {
        assert_eq!(stream_through(&build(compiler, "dev", Some(&rustc))), HOST_ABI);
    } else {
        eprintln!("skipped: no {}; tests/run installs it", rustc.display());
    }
}

#[test]
fn a_module_of_the_oldest_supported_compiler_streams() {
    stream_through_build_of("rustc-1.71");
}

#[test]
fn a_module_of_debians_newest_compiler_streams() {
    stream_through_build_of("rustc-web");
}

#[test]
fn a_module_with_fat_lto_streams() {
    assert_eq!(stream_through(&build("fat", "fat", None)), HOST_ABI);
}

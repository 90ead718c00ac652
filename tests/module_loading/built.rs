//! The modules of `tests/modules`, built now, and a module directory to load them from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use remuxd::conf::Config;
use remuxd::media::{Millis, Tag, TagKind};
use remuxd::plugin::{Module, OutBlock, Registry, Setup, Transport};
use remuxd_tests::scratch::Scratch;
use remuxd_tests::tool::{root, run, target_dir};

/// The directory of the Rust modules, built with a profile of their workspace: `dev` or `abort`.
fn built(profile: &str) -> PathBuf {
    let target = target_dir().join("modules");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked", "--profile", profile, "--target-dir"]).arg(&target);
    build.current_dir(root().join("tests/modules"));
    run(&mut build).unwrap_or_else(|error| panic!("{error}"));
    target.join(if profile == "dev" { "debug" } else { profile })
}

fn library(dir: &Path, name: &str) -> Vec<u8> {
    fs::read(dir.join(format!("libremuxd_{name}.so"))).expect("cargo built it")
}

/// The library of the Rust module `name`, whose panics unwind.
pub fn bytes(name: &str) -> Vec<u8> {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    library(DIR.get_or_init(|| built("dev")), name)
}

/// The library of the Rust module `name`, whose panics end the process.
pub fn bytes_with_abort(name: &str) -> Vec<u8> {
    library(&built("abort"), name)
}

/// A module directory. The module `good` is in it.
pub struct ModuleDir(Scratch);

impl ModuleDir {
    pub fn new() -> ModuleDir {
        let dir = ModuleDir(Scratch::new());
        dir.put("libremuxd_good.so", &bytes("good"));
        dir
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.file(name), bytes).expect("the scratch directory can be written");
    }

    /// Compiles `tests/modules/c/SOURCE` to `name`.
    pub fn put_c(&self, name: &str, source: &str, flags: &[&str]) {
        let mut cc = Command::new("cc");
        cc.args(flags).arg("-o").arg(self.file(name)).arg(root().join("tests/modules/c").join(source));
        run(&mut cc).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Loads modules as the host does when it starts. The lines are its messages, with `DIR` for this directory.
    pub fn load(&self, names: &[&str]) -> (Registry, Vec<String>) {
        let dir = self.0.path().to_str().expect("a path of ASCII");
        let config = format!("[modules]\ndir = {dir:?}\nload = {names:?}\n");
        let config = Config::parse(&config, "test.toml").expect("a config without mistakes");
        let probe = Path::new(env!("CARGO_BIN_EXE_probe"));
        let (registry, failures) = Registry::load(&config.modules, Path::new("/nowhere"), probe);
        let lines = failures.iter().map(|failure| failure.to_string().replace(dir, "DIR")).collect();
        (registry, lines)
    }
}

/// A tag of video that `good` passes on.
pub fn tag() -> Tag {
    Tag::new(TagKind::VIDEO, Millis(40), b"\x17\x01\0\0\0\0\0\0\x01\x65".to_vec().into())
}

/// Makes sure that a module takes a tag and gives its payload back.
pub fn assert_works(module: &Module) {
    let mut remuxer = module.remuxer(&Setup::default()).expect("a remuxer");
    let mut blocks: Vec<OutBlock> = Vec::new();
    remuxer.tag(&tag(), &mut blocks).expect("a tag is taken");
    assert_eq!(blocks.len(), 1);
    assert_eq!(blocks[0].parts.concat(), &tag().payload[..]);
}

/// Makes sure that `good` was loaded, whatever was not.
pub fn assert_good_works(registry: &Registry) {
    let good = registry.find("good", Transport::HTTP).expect("the good module was loaded too");
    assert_eq!(good.name(), "good");
    assert_works(&good);
}

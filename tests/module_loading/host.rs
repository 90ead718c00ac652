//! The host's calls of modules.

use std::path::Path;

use remuxd::testing::conf::Config;
use remuxd::testing::media::{Millis, Tag, TagKind};
use remuxd::testing::module::{
    Module, ModuleFault, Options, OutBlock, Registry, Setup, StreamFacts, Transport,
};

/// Loads modules of a directory as the host does at start, with the program `probe` for the child processes. Returns the
/// lines of its messages, with `DIR` for the directory.
pub fn load(dir: &Path, names: &[&str], probe: &str) -> (Registry, Vec<String>) {
    let dir = dir.to_str().expect("a path of ASCII");
    let config = format!("[modules]\ndir = {dir:?}\nload = {names:?}\n");
    let config = Config::parse(&config, "test.toml").expect("a valid config");
    let (registry, failures) = Registry::load(&config.modules, Path::new("/nowhere"), Path::new(probe));
    let lines = failures.iter().map(|failure| failure.to_string().replace(dir, "DIR")).collect();
    (registry, lines)
}

/// Returns a tag of video that `good` passes on.
pub fn tag() -> Tag {
    Tag::new(TagKind::VIDEO, Millis(40), b"\x17\x01\0\0\0\0\0\0\x01\x65".to_vec().into())
}

/// Runs a remuxer of `good` with an option `fail` through tag, finish and drop.
pub fn remux(module: &Module, fail: &str) -> Result<Vec<OutBlock>, ModuleFault> {
    let options = Options::new(vec![("fail".into(), fail.into())]);
    let mut remuxer = module.remuxer(&Setup::new(options, StreamFacts::default()))?;
    let mut blocks = Vec::new();
    remuxer.tag(&tag(), &mut blocks)?;
    remuxer.finish(&mut blocks)?;
    Ok(blocks)
}

/// Asserts that `good` was loaded, passes a tag on, and has its panics caught.
pub fn assert_good_works(registry: &Registry) {
    let good = registry.find("good", Transport::HTTP).expect("the good module was loaded too");
    assert_eq!(good.name(), "good");
    assert_works(&good);
    let fault = remux(&good, "tag").err();
    assert_eq!(fault, Some(ModuleFault::Panicked { message: "told to, in tag".into() }));
}

/// Asserts that `good` passes a tag on.
pub fn assert_works(module: &Module) {
    let blocks = remux(module, "never").expect("no fault");
    assert_eq!(blocks.len(), 1);
    assert_eq!(blocks[0].parts.concat(), &tag().payload[..]);
}

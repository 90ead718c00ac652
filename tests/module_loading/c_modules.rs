//! Modules in C are loaded, called, refused and tested as modules in Rust are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use remuxd::testing::conf::Config;
use remuxd::testing::media::{Millis, Tag, TagKind, Tracks};
use remuxd::testing::module::{
    BlockFlags, HOST_ABI, Module, ModuleFault, Options, Registry, Setup, StreamFacts, Transport,
};
use remuxd_tests::tool::{root, run};

use crate::built::{LOADER, ModuleDir};
use crate::conformance::kit;

/// Compiler flags: header and modules must compile without a warning.
const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-Werror", "-pedantic"];

/// Compiles C99, unless the flags name another standard.
fn compile(compiler: &str, source: &Path, flags: &[&str], to: PathBuf) -> PathBuf {
    let mut cc = Command::new(compiler);
    let age = if flags.iter().any(|flag| flag.starts_with("-std=")) { None } else { Some("-std=c99") };
    cc.args(STRICT)
        .args(["-shared", "-fPIC"])
        .args(age)
        .args(flags)
        .arg("-I")
        .arg(root().join("plugin-api/include"))
        .arg("-o")
        .arg(&to)
        .arg(source);
    run(&mut cc).unwrap_or_else(|error| panic!("{error}"));
    to
}

fn put(dir: &ModuleDir, flags: &[&str]) {
    let source = root().join("tests/modules/c/stateful.c");
    compile("cc", &source, flags, dir.file("libstateful.so"));
}

/// Compiles the module of `stateful.c` with an initialiser that does `change` to the process.
fn put_changing(dir: &ModuleDir, change: &str) {
    let source = root().join("tests/modules/c/changes.c");
    // POSIX is beyond C99.
    let flags = ["-std=gnu11", &format!("-DCHANGE={change}"), "-Wl,--no-as-needed", "-lm"];
    compile("cc", &source, &flags, dir.file("libstateful.so"));
}

fn stateful(dir: &ModuleDir) -> Arc<Module> {
    put(dir, &[]);
    let (registry, lines) = dir.load(&["stateful"]);
    assert!(lines.is_empty(), "{lines:?}");
    registry.find("stateful", Transport::HTTP).unwrap()
}

fn setup(fail: &str, state: &[u8]) -> Setup {
    let options = Options::new(vec![("fail".into(), fail.into())]);
    let mut setup = Setup::new(options, StreamFacts::default());
    setup.state = state.to_vec();
    setup
}

fn tag(body: &[u8]) -> Tag {
    Tag::new(TagKind::VIDEO, Millis(40), body.to_vec().into())
}

const KEYFRAME: &[u8] = b"\x17\x01\0\0\0\0\0\0\x01\x65";

#[test]
fn the_example_in_c_conforms_with_both_compilers() {
    let dir = ModuleDir::new();
    let source = root().join("plugin-api/examples/c/adts.c");
    for compiler in ["gcc", "clang"] {
        let library = compile(compiler, &source, &["-O2", "-fvisibility=hidden"], dir.file("libadts.so"));
        let (passed, table) = kit(&library, &[]);
        assert!(passed && table.contains("joins decoded"), "{compiler}:\n{table}");
    }
}

#[test]
fn the_header_compiles_under_each_c_standard() {
    for compiler in ["gcc", "clang"] {
        for age in ["c99", "c11", "c17"] {
            let mut c = Command::new(compiler);
            c.arg(format!("-std={age}")).args(STRICT).args(["-fsyntax-only", "-x", "c"]);
            run(c.arg(root().join("plugin-api/include/remuxd_plugin.h")))
                .unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

#[test]
fn a_module_may_be_cpp() {
    let (dir, source) = (ModuleDir::new(), root().join("tests/modules/c/cpp.cpp"));
    for compiler in ["g++", "clang++"] {
        for age in ["-std=c++11", "-std=c++20"] {
            compile(compiler, &source, &[age, "-fvisibility=hidden"], dir.file("libcpp.so"));
            let (registry, lines) = dir.load(&["cpp"]);
            assert!(lines.is_empty(), "{compiler} {age}: {lines:?}");
            assert_eq!(registry.find("cpp", Transport::HTTP).unwrap().abi(), HOST_ABI);
        }
    }
}

#[test]
fn a_module_in_c_exchanges_data_as_the_header_documents() {
    let module = stateful(&ModuleDir::new());
    assert!(module.rustc().starts_with("gcc "), "{}", module.rustc());
    assert_eq!(module.abi(), HOST_ABI);
    let mut remuxer = module.remuxer(&setup("never", &[])).unwrap();
    let (mut tag, mut blocks) = (tag(KEYFRAME), Vec::new());
    tag.tracks = Tracks::known(false, true);
    remuxer.tag(&tag, &mut blocks).unwrap();
    remuxer.finish(&mut blocks).unwrap();
    let state = remuxer.state().unwrap();
    remuxer.free().unwrap();
    assert_eq!(state, [1]);
    let [preamble, media, end] = &blocks[..] else { panic!("{blocks:?}") };
    assert_eq!((preamble.flags, preamble.parts.concat()), (BlockFlags::PREAMBLE, b"HEAD".to_vec()));
    assert_eq!((media.flags, media.dts), (BlockFlags::JOIN, Millis(40)));
    assert_eq!(media.parts[..], [&[1][..], KEYFRAME, &KEYFRAME[5..], &[tag.tracks.0]]);
    // Blocks inside the payload share it, whole or in part.
    assert_eq!(media.parts[1].as_ptr_range(), tag.payload.as_ptr_range());
    assert_eq!(media.parts[2].as_ptr_range(), tag.payload[5..].as_ptr_range());
    assert_eq!((end.flags, end.parts.concat()), (BlockFlags::NONE, b"END".to_vec()));

    let mut successor = module.remuxer(&setup("never", &state)).unwrap();
    successor.tag(&tag, &mut blocks).unwrap();
    assert_eq!(blocks[4].parts[0][..], [2]);
}

#[test]
fn errors_of_a_module_in_c_are_faults_with_its_message() {
    let module = stateful(&ModuleDir::new());
    let refused = |fail| module.remuxer(&setup(fail, &[])).map(drop).unwrap_err().to_string();
    assert_eq!(refused("new"), "told to, in new");
    assert_eq!(refused("silently"), "remuxer() answered NULL without a message");
    let mut remuxer = module.remuxer(&setup("never", &[])).unwrap();
    let fault = remuxer.tag(&tag(b"\x17\x01\0\0\0thirteen"), &mut Vec::new()).unwrap_err();
    assert_eq!(fault.to_string(), "bad luck");
    assert_eq!(remuxer.finish(&mut Vec::new()).unwrap_err().to_string(), "called after a fault");
    let mut remuxer = module.remuxer(&setup("never", &[])).unwrap();
    let fault = remuxer.tag(&tag(b"\x17\x01\0\0\0fourteen!"), &mut Vec::new()).unwrap_err();
    assert_eq!(fault, ModuleFault::Unsupported { message: "too long".into() });
}

#[test]
fn an_incomplete_table_is_refused() {
    let dir = ModuleDir::new();
    let rows = [
        ("-DNAME=NULL", "its description is wrong: remuxd_module_format.name is \"NULL\""),
        ("-DFREE=NULL", "its description is wrong: remuxd_module_format.free is \"NULL\""),
        ("-DSIZE=64", "its description is wrong: remuxd_module_format.struct_size is \"64\""),
        ("-DNAME=\"No\"", "its description is wrong: name is \"No\""),
    ];
    for (flag, line) in rows {
        put(&dir, &[flag]);
        let (_, lines) = dir.load(&["stateful"]);
        assert_eq!(lines, [format!("module stateful: DIR/libstateful.so: {line}")], "{flag}");
    }
}

#[test]
fn a_module_that_changes_the_process_is_refused() {
    let dir = ModuleDir::new();
    let rows = [
        ("(void)0", ""),
        ("signal(SIGINT, ignore)", "handler of SIGINT"),
        ("signal(SIGSEGV, SIG_DFL)", "handler of SIGSEGV"),
        ("signal(SIGRTMIN, SIG_IGN)", "handler of signal 34"),
        ("block(SIGTERM)", "signal mask"),
        ("umask(0123)", "umask"),
        ("chdir(\"/\")", "working directory"),
        ("setenv(\"REMUXD_CHANGED\", \"1\", 1)", "variable REMUXD_CHANGED"),
        ("setenv(\"\\033[31m\", \"1\", 1)", "variable [31m"),
        ("limit(RLIMIT_NOFILE, 100)", "limit of open files"),
        ("setpriority(PRIO_PROCESS, 0, 19)", "niceness"),
        ("setlocale(LC_ALL, \"C.UTF-8\")", "locale"),
        ("alarm(100)", "timer of alarm()"),
        ("fesetround(FE_UPWARD)", "mode of floating-point numbers"),
        ("prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)", "no_new_privs"),
        ("dup2(open(\"/dev/null\", O_RDWR), 2)", "standard error"),
        ("leave_process(0)", "child processes"),
        ("leave_process(1)", "child processes"),
        ("umask(0123); alarm(100); signal(SIGINT, ignore)", "handler of SIGINT, timer of alarm(), umask"),
    ];
    for (change, changes) in rows {
        put_changing(&dir, change);
        let (registry, lines) = dir.load(&["stateful"]);
        let line = "module stateful: DIR/libstateful.so: it changes the process that it is loaded into";
        let with = "with isolation = \"process\" it has its own";
        let expected = [format!("{line} ({changes}); {with}")];
        assert_eq!(lines, if changes.is_empty() { &[][..] } else { &expected }, "{change}");
        assert_eq!(registry.modules().is_empty(), !changes.is_empty(), "{change}");
    }
}

#[test]
fn a_module_in_its_own_process_may_change_it() {
    let dir = ModuleDir::new();
    put_changing(&dir, "signal(SIGINT, ignore); setenv(\"REMUXD_CHANGED\", \"1\", 1)");
    let config = format!(
        "[modules]\ndir = {:?}\nload = [\"stateful\"]\n[module.stateful]\nisolation = \"process\"\n",
        dir.path()
    );
    let config = Config::parse(&config, "test.toml").unwrap();
    let (registry, failures) = Registry::load(&config.modules, dir.path(), Path::new(LOADER));
    assert!(failures.is_empty(), "{failures:?}");
    assert!(registry.find("stateful", Transport::HTTP).is_some());
}

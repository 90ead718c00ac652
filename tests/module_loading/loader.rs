//! Loads modules in a child process, without the rest of the host.
//!
//! `loader __probe FILE` is the child process that probes a module, as in the host's program. `loader after DIR WHOLE`
//! loads a damaged `good` from DIR, prints the result, and continues with the one in WHOLE. `loader dies DIR ROUNDS` has
//! the module `hostile` end its process in every way, and prints what it leaves behind.

#![expect(clippy::unwrap_used, reason = "a test in a process of its own")]

mod host;

use std::env;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use remuxd::testing::conf::Config;
use remuxd::testing::module::{
    Allowance, LoadError, Module, ModuleFault, Options, Registry, Setup, StreamFacts, Transport,
};
use remuxd_tests::wait::wait_until;
use rustix::process::{Pid, Signal, kill_process};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [_, "__probe", file] => remuxd::testing::module::probe_main(Path::new(file)),
        [own, "after", damaged, whole] => {
            let (_damaged, lines) = host::load(Path::new(damaged), &["good"], own);
            for line in lines {
                println!("{line}");
            }
            host::assert_good_works(&host::load(Path::new(whole), &["good"], own).0);
            ExitCode::SUCCESS
        }
        [_, "__module", file, max_output, max_memory] => {
            let (max_output, max_memory) = (max_output.parse().unwrap(), max_memory.parse().unwrap());
            remuxd::testing::module::module_main(Path::new(file), Allowance { max_output, max_memory })
        }
        [own, "dies", dir, rounds] => {
            let rounds: u32 = rounds.parse().unwrap();
            let registry = isolated(own, dir, "hostile").0;
            let module = registry.find("hostile", Transport::HTTP).unwrap();
            let mut left = Vec::new();
            for _ in 0..rounds {
                for (word, call) in DEATHS {
                    let death = live(&module, word, call);
                    assert!(death.is_err(), "{word} in {call}");
                }
                // Between two calls.
                live(&module, "nothing", "tag").unwrap();
                kill_process(children()[0], Signal::KILL).unwrap();
                wait_until_reaped();
                assert!(matches!(isolated(own, dir, "crashes").1[..], [LoadError::ProbeCrashed { .. }]));
                left.push(fs::read_dir("/proc/self/fd").unwrap().count());
            }
            live(&module, "nothing", "tag").unwrap();
            println!("files {left:?} processes {}", children().len());
            drop((module, registry));
            println!("processes {}", children().len());
            ExitCode::SUCCESS
        }
        _ => ExitCode::FAILURE,
    }
}

/// Acts that end the process, and the call in which they happen.
const DEATHS: [(&str, &str); 12] = [
    ("segfault", "tag"),
    ("abort", "finish"),
    ("exit", "remuxer"),
    ("kill", "drop"),
    ("overflow", "state"),
    ("memory", "tag"),
    ("hang", "finish"),
    ("close", "tag"),
    ("garbage", "state"),
    ("giant", "remuxer"),
    ("babble", "tag"),
    ("exit", "drop"),
];

/// Loads a module that runs in a process of its own.
fn isolated(own: &str, dir: &str, name: &str) -> (Registry, Vec<LoadError>) {
    let config = format!(
        "[modules]\ndir = {dir:?}\nload = [{name:?}]\ncall_timeout = \"200ms\"\n\
         [module.{name:?}]\nisolation = \"process\"\nmax_memory = \"64MiB\"\n"
    );
    let config = Config::parse(&config, "test.toml").unwrap();
    let (registry, failures) = Registry::load(&config.modules, Path::new(dir), Path::new(own));
    (registry, failures.into_iter().map(|failure| failure.error).collect())
}

/// Runs a remuxer that does `word` in the call `call`, from its creation to its end.
fn live(module: &Module, word: &str, call: &str) -> Result<(), ModuleFault> {
    let options = [("do", word), ("in", call), ("at", "1")].map(|(name, value)| (name.into(), value.into()));
    let setup = Setup::new(Options::new(options.into()), StreamFacts::default());
    let (mut remuxer, mut out) = (module.remuxer(&setup)?, Vec::new());
    // The second tag finds a fault that came too late for the first.
    remuxer.tag(&host::tag(), &mut out)?;
    remuxer.tag(&host::tag(), &mut out)?;
    remuxer.finish(&mut out)?;
    remuxer.state()?;
    remuxer.free()
}

/// Waits until this process has no children, without waiting for any itself.
fn wait_until_reaped() {
    wait_until(Duration::from_secs(10), "dead children are reaped", || children().is_empty());
}

/// Returns this process's children, including those that were not reaped.
fn children() -> Vec<Pid> {
    let own = std::process::id().to_string();
    let stats = fs::read_dir("/proc").unwrap().flatten();
    let stats = stats.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let child = |stat: String| {
        let (start, rest) = stat.rsplit_once(") ")?;
        (rest.split(' ').nth(1)? == own).then(|| Pid::from_raw(start.split(' ').next()?.parse().ok()?))?
    };
    stats.filter_map(child).collect()
}

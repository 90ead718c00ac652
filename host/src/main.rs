//! The command line.

mod checkout;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use remuxd::author::{Api, Inspected, TestError, default_dir, new_module, test_module};
use remuxd::conf::Log;
use remuxd::output::{complain, print, unless_unread};
use remuxd::{admin, author, host, load, module};
use tracing_subscriber::EnvFilter;

/// Gives pages back after a spike of viewers; serves the host only, each module has its own allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Where the config is looked for.
const DEFAULT_CONFIGS: [&str; 2] = ["conf/remuxd.toml", "/etc/remuxd/remuxd.toml"];

/// A plugin host for live streaming: RTMP in, any format out.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The config file [default: conf/remuxd.toml, then /etc/remuxd/remuxd.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (the default)
    Run,
    /// Check the config and the modules it names; report all mistakes
    Check,
    /// Make the running server load new builds of modules, and the config's vhosts and mounts
    Reload {
        /// Say what would happen, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Show the modules of the running server
    Status,
    /// Run the server with a built-in live stream in every format, and a page that plays them
    Demo,
    /// For authors of modules: look at one, test one, write one
    #[command(subcommand)]
    Module(ModuleCommand),
    /// Load one module and exit: what the host does in a child before it loads a module itself
    #[command(name = "__probe", hide = true)]
    Probe {
        /// The staged module file
        file: PathBuf,
    },
    /// Run one check of the conformance kit and exit
    #[command(name = "__check", hide = true)]
    KitCheck {
        /// The staged module file
        file: PathBuf,
        /// The check's name
        check: String,
        /// Options of a mount
        #[arg(value_parser = read_pair)]
        options: Vec<(String, String)>,
    },
    /// Load one module and serve the host: the process of a module with `isolation = "process"`
    #[command(name = "__module", hide = true)]
    ModuleProcess {
        /// The staged module file
        file: PathBuf,
        /// As modules.max_output, in bytes
        max_output: usize,
        /// As module.NAME.max_memory, in bytes
        max_memory: usize,
    },
}

#[derive(Debug, Subcommand)]
enum ModuleCommand {
    /// Tell what a module file declares, or the reason why the host would refuse it
    Inspect {
        /// The library
        file: PathBuf,
    },
    /// Write the crate of a new module, which builds, passes its tests and conforms
    New {
        /// The module's name: a-z, 0-9 and -
        name: String,
        /// Where to [default: remuxd-NAME]
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Where remuxd's plugin-api is: a directory, or the URL of a git repository [default: the checkout that this
        /// program was built in]
        #[arg(long, value_name = "PATH_OR_GIT")]
        api: Option<String>,
    },
    /// Run the conformance kit on a module file: exit status 1 when a check fails
    Test {
        /// The library
        file: PathBuf,
        /// An option of the mount; may be given several times
        #[arg(long = "option", value_name = "KEY=VALUE", value_parser = read_pair)]
        options: Vec<(String, String)>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

fn read_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.into(), value.into()))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Probe { file }) => return module::probe_main(&file),
        Some(Command::KitCheck { file, check, options }) => {
            return author::check_main(&file, &check, &options);
        }
        Some(Command::ModuleProcess { file, max_output, max_memory }) => {
            return module::module_main(&file, module::Allowance { max_output, max_memory });
        }
        Some(Command::Check) => check(cli.config),
        Some(Command::Reload { dry_run }) => match reload(cli.config, dry_run) {
            Ok(true) => Ok(()),
            // The report says why.
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        Some(Command::Status) => find_config(cli.config).and_then(|file| admin::status_command(&file)),
        Some(Command::Demo) => demo(cli.config),
        Some(Command::Module(command)) => module(command),
        Some(Command::Run) | None => run(cli.config),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A report of config mistakes is a page of its own; other errors are a line.
            complain(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(config: Option<PathBuf>) -> anyhow::Result<()> {
    checkout::build_modules()?;
    let loaded = load::load(&find_config(config)?)?;
    start_log(&loaded.config().log)?;
    in_runtime(host::run(loaded, false))
}

fn demo(config: Option<PathBuf>) -> anyhow::Result<()> {
    checkout::build_modules()?;
    let loaded = match config {
        Some(file) => load::load(&file)?,
        None => load::load_text(remuxd::demo::CONFIG, "the demo's own config")?,
    };
    start_log(&loaded.config().log)?;
    in_runtime(host::run(loaded, true))
}

fn check(config: Option<PathBuf>) -> anyhow::Result<()> {
    checkout::build_modules()?;
    let file = find_config(config)?;
    let warnings = load::check(&file)?;
    if !warnings.is_empty() {
        complain(warnings);
    }
    Ok(print(format_args!("{}: no mistakes\n", file.display()))?)
}

fn reload(config: Option<PathBuf>, dry_run: bool) -> anyhow::Result<bool> {
    admin::reload_command(&find_config(config)?, dry_run)
}

fn module(command: ModuleCommand) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("the path of this program is not known")?;
    match command {
        ModuleCommand::Inspect { file } => match Inspected::new(&file, &program) {
            Ok(inspected) => print(inspected)?,
            Err(error) => bail!("{}: it would be refused: {error}", file.display()),
        },
        ModuleCommand::New { name, dir, api } => {
            let dir = dir.unwrap_or_else(|| default_dir(&name));
            let api = api.map(|api| Api::parse(&api)).or_else(|| Api::of_program(&program));
            new_module(&name, &dir, api)?;
            print(format_args!("{}: module {name}; see its README.md\n", dir.display()))?;
        }
        ModuleCommand::Test { file, options, json } => {
            match test_module(&file, &options, &program, json, &mut io::stdout().lock()) {
                Ok(true) => {}
                Ok(false) => bail!("{}: it does not conform", file.display()),
                Err(TestError::Options(error)) => {
                    clap::Error::raw(ErrorKind::ValueValidation, format!("{}: {error}\n", file.display()))
                        .exit()
                }
                Err(TestError::Write(error)) => unless_unread(Err(error))?,
            }
        }
    }
    Ok(())
}

fn find_config(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    match given {
        Some(file) => Ok(file),
        None => match DEFAULT_CONFIGS.iter().map(PathBuf::from).find(|file| file.exists()) {
            Some(file) => Ok(file),
            None => bail!("no config: neither {} nor {} exists", DEFAULT_CONFIGS[0], DEFAULT_CONFIGS[1]),
        },
    }
}

fn in_runtime(future: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("the async runtime cannot be started")?.block_on(future)
}

fn start_log(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.level).with_context(|| format!("log.level {:?}", log.level))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // To say that the log cannot be written it would have to be written.
        .log_internal_errors(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr);
    if log.json {
        subscriber.json().init()
    } else {
        subscriber.init()
    }
    Ok(())
}

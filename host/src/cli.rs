//! The command line.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::admin::StatusView;
use crate::author::{Api, Inspected, TestError, default_dir, new_module, test_module};
use crate::host::{self, Start};
use crate::output::{print, print_error, unless_closed};
use crate::policy::Action;
use crate::sign::UrlRequest;
use crate::{admin, author, candidate, log, module, sign};
use anyhow::{Context, bail};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use jiff::SignedDuration;
use tracing::{Level, error};

/// How long the end of the program waits for what still runs: a reload, or remuxers that are freed. A module that hangs then must not
/// keep the process.
const RUNTIME_TIMEOUT: Duration = Duration::from_secs(10);

/// The config files that are tried, in this order.
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
    /// Check the config and its modules, and report all errors
    Check,
    /// Make the running server apply its config file and load new builds of modules
    Reload {
        /// Report what would happen, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Show the streams, modules and memory of the running server, or its cluster
    Status {
        /// Show this stream alone, APP/STREAM, and its sessions
        stream: Option<String>,
        /// Show the nodes of the cluster, the streams of the directory and its state
        #[arg(long, conflicts_with = "stream")]
        cluster: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Print again every second
        #[arg(long)]
        watch: bool,
    },
    /// Show the publishers, players and viewers of the running server
    Sessions,
    /// End a session of the running server
    Kick {
        /// The session's id, as `remuxd sessions` and the log show it
        id: String,
    },
    /// Refuse an address, a subject or a stream for a time, and end its sessions
    Ban {
        #[command(flatten)]
        target: Banned,
        /// How long: seconds, or with units, 90m, 12h
        #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = read_lifetime)]
        time: Duration,
    },
    /// Lift a ban
    Unban(Banned),
    /// Show the bans of the running server
    Bans,
    /// Make signed URLs, secrets and publish keys
    #[command(subcommand)]
    Sign(SignCommand),
    /// Run the server with a built-in live stream in every format, and a page that plays them
    Demo,
    /// Tools for module authors: inspect, test, create
    #[command(subcommand)]
    Module(ModuleCommand),
    /// Load one module and exit: the trial that runs in a child process before the host loads the module
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
        /// Options of the mount
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

#[derive(Debug, Args)]
struct Banned {
    /// The target: an address or CIDR block; the subject of tokens, or the id of the key of signed URLs; a stream by its name
    /// in the log, such as live/film
    #[arg(value_parser = ["address", "subject", "stream"])]
    kind: String,
    /// Its value
    value: String,
}

#[derive(Debug, Subcommand)]
enum SignCommand {
    /// Print a URL with a signature that allows to publish to it
    Publish(SignUrl),
    /// Print a URL with a signature that allows to play it
    Play(SignUrl),
    /// Print a new secret for signed URLs or HS256
    NewSecret,
    /// Print a new secret name to publish a stream under, and its lines of the config
    NewPublishKey {
        /// The public name of the stream
        stream: String,
    },
}

#[derive(Debug, Args)]
struct SignUrl {
    /// The URL: rtmp, rtmps, and to play also http, https, ws, wss
    url: String,
    /// How long the URL is valid: seconds, or with units, 90m, 12h
    #[arg(long, default_value = "1h", value_parser = read_lifetime)]
    expires: Duration,
    /// The only address that may use it
    #[arg(long)]
    address: Option<IpAddr>,
    /// The id of the key [default: the first of the vhost]
    #[arg(long)]
    key: Option<String>,
}

#[derive(Debug, Subcommand)]
enum ModuleCommand {
    /// Show what a module file declares, or why the host would refuse it
    Inspect {
        /// The library
        file: PathBuf,
    },
    /// Create the crate of a new module that builds and passes its tests and the conformance kit
    New {
        /// The module's name: a-z, 0-9 and -
        name: String,
        /// The directory to create [default: remuxd-NAME]
        #[arg(long)]
        dir: Option<PathBuf>,
        /// The plugin-api crate: a directory or the URL of a git repository [default: the checkout that this program was
        /// built in]
        #[arg(long, value_name = "PATH_OR_GIT")]
        api: Option<String>,
    },
    /// Run the conformance kit on a module file; exit with status 1 if a check fails
    Test {
        /// The library
        file: PathBuf,
        /// An option of the mount; can be repeated
        #[arg(long = "option", value_name = "KEY=VALUE", value_parser = read_pair)]
        options: Vec<(String, String)>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

fn read_lifetime(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let lifetime = text.parse::<SignedDuration>().ok().and_then(|lifetime| Duration::try_from(lifetime).ok());
    lifetime.ok_or_else(|| "expected seconds, or a duration with units: 90m, 12h".to_owned())
}

fn read_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.into(), value.into()))
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
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
        Some(Command::Status { stream, cluster, json, watch }) => find_config(cli.config)
            .and_then(|file| admin::status_command(&file, &StatusView { stream, cluster, json, watch })),
        Some(Command::Sessions) => find_config(cli.config).and_then(|file| admin::sessions_command(&file)),
        Some(Command::Kick { id }) => {
            find_config(cli.config).and_then(|file| admin::kick_command(&file, &id))
        }
        Some(Command::Ban { target: Banned { kind, value }, time }) => {
            find_config(cli.config).and_then(|file| admin::ban_command(&file, &kind, &value, time))
        }
        Some(Command::Unban(Banned { kind, value })) => {
            find_config(cli.config).and_then(|file| admin::unban_command(&file, &kind, &value))
        }
        Some(Command::Bans) => find_config(cli.config).and_then(|file| admin::bans_command(&file)),
        Some(Command::Sign(command)) => sign_command(cli.config, command),
        Some(Command::Demo) => match demo(cli.config) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Some(Command::Module(command)) => module(command),
        Some(Command::Run) | None => match run(cli.config) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Config errors are several lines; other errors are one.
            print_error(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(config: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    crate::checkout::build_modules()?;
    run_host(Start::of_file(find_config(config)?)?, false)
}

fn demo(config: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    crate::checkout::build_modules()?;
    let start = match config {
        Some(file) => Start::of_file(file)?,
        None => Start::of_text(crate::demo::CONFIG, "the demo's own config")?,
    };
    run_host(start, true)
}

/// Runs a host. Where the lines of its log are JSON, an error that ends it is one too, and is not returned.
fn run_host(start: Start, show_demo: bool) -> anyhow::Result<ExitCode> {
    let json = start.config().log.json;
    let _log = log::start(&start.config().log)?;
    match in_runtime(host::run(start, show_demo)) {
        Err(error) if json && tracing::enabled!(Level::ERROR) => {
            error!("{error:#}");
            Ok(ExitCode::FAILURE)
        }
        result => result.map(|()| ExitCode::SUCCESS),
    }
}

fn check(config: Option<PathBuf>) -> anyhow::Result<()> {
    crate::checkout::build_modules()?;
    let file = find_config(config)?;
    let warnings = candidate::check(&file)?;
    if !warnings.is_empty() {
        print_error(warnings);
    }
    Ok(print(format_args!("{}: no errors\n", file.display()))?)
}

fn reload(config: Option<PathBuf>, dry_run: bool) -> anyhow::Result<bool> {
    admin::reload_command(&find_config(config)?, dry_run)
}

fn sign_command(config: Option<PathBuf>, command: SignCommand) -> anyhow::Result<()> {
    let sign = |action, SignUrl { url, expires, address, key }: SignUrl| {
        let request = UrlRequest { action, url: &url, lifetime: expires, address, key: key.as_deref() };
        sign::signed_url(&find_config(config)?, &request)
    };
    let printed = match command {
        SignCommand::Publish(url) => sign(Action::Publish, url)?,
        SignCommand::Play(url) => sign(Action::Play, url)?,
        SignCommand::NewSecret => sign::new_secret()?,
        SignCommand::NewPublishKey { stream } => sign::new_publish_key(&stream)?,
    };
    Ok(print(format_args!("{printed}\n"))?)
}

fn module(command: ModuleCommand) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    match command {
        ModuleCommand::Inspect { file } => match Inspected::new(&file, &program) {
            Ok(inspected) => print(inspected)?,
            Err(error) => bail!("{}: would be refused: {error}", file.display()),
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
                Ok(false) => bail!("{}: does not conform", file.display()),
                Err(TestError::Options(error)) => {
                    clap::Error::raw(ErrorKind::ValueValidation, format!("{}: {error}\n", file.display()))
                        .exit()
                }
                Err(TestError::Write(error)) => unless_closed(Err(error))?,
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
    let runtime = runtime.context("cannot start the async runtime")?;
    let result = runtime.block_on(future);
    runtime.shutdown_timeout(RUNTIME_TIMEOUT);
    result
}

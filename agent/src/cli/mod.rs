//! The command line: one file a command, what they share, and how they end.

mod agent;
mod check;
mod config;
mod data_dir;
#[cfg(feature = "hub")]
mod demo;
mod doctor;
mod enroll;
#[cfg(feature = "hub")]
mod hub;
pub mod inspect;
mod logging;
mod passwd;
mod pull;
mod push;
mod reach;
mod reload;
mod status;
mod tail;
#[cfg(feature = "top")]
mod top;

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sedge_config::{Files, quantity};

use crate::notify::Manager;
use crate::shutdown::{self, Shutdown};
use crate::vitals::Vitals;
pub(crate) use logging::last_lines;
pub(crate) use status::{count, span};

/// Edge telemetry with custody: nothing acknowledged is lost, and every loss is a number.
#[derive(Debug, Parser)]
#[command(name = "sedge", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Collect events on this gateway, keep them on disk, hand them to the hub
    Agent(agent::Arguments),
    /// Take custody of the gateways' events and serve them to consumers
    #[cfg(feature = "hub")]
    Hub(hub::Arguments),
    /// Get this gateway's certificate from a hub, with a token
    Enroll(enroll::Arguments),
    /// Set the password of a device that connects to `mqtt-listen`
    Passwd(passwd::Arguments),
    /// Read a stream from the hub
    Pull(pull::Arguments),
    /// Put lines from standard input into a stream of the agent on this machine
    Push(push::Arguments),
    /// Tell everything that is wrong with a configuration file
    Check(check::Arguments),
    /// Go the way of an event from device to hub, and say how to mend what is in its way
    Doctor(doctor::Arguments),
    /// Show what a configuration file comes to
    #[command(subcommand)]
    Config(config::Command),
    /// Show what the agent on this machine is doing
    Status(status::Arguments),
    /// Show what the agent on this machine is doing, each second anew
    #[cfg(feature = "top")]
    Top(top::Arguments),
    /// Show what comes into a stream of the agent on this machine
    Tail(tail::Arguments),
    /// Have the agent on this machine read its file again
    Reload(reload::Arguments),
    /// Look into the directory of an agent, a hub, or one log, and verify it
    Inspect(inspect::Arguments),
    /// Show the whole way of an event, with outages, in one process and a temporary directory
    #[cfg(feature = "hub")]
    Demo(demo::Arguments),
}

/// All of the command line, to make its manual and completions of.
#[must_use]
pub fn definition() -> clap::Command {
    Arguments::command()
}

/// How a command ends when it does not end well.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    what: String,
}

/// The exit codes of sysexits.h that are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// The command line cannot be understood.
    Usage = 64,
    /// Somebody else is not there, or has what is wanted.
    Unavailable = 69,
    /// A mistake of this program.
    Software = 70,
    /// A disk or a pipe failed.
    Io = 74,
    /// The configuration is wrong.
    Config = 78,
}

/// Runs the command in `arguments` (the first is the program's name) to its end.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments.command,
        Err(refusal) => {
            let code = if refusal.use_stderr() {
                Code::Usage.into()
            } else {
                ExitCode::SUCCESS
            };
            // Nobody is left to tell that the terminal is gone.
            drop(refusal.print());
            return code;
        }
    };
    let outcome = match command {
        Command::Agent(arguments) => agent::run(&arguments),
        #[cfg(feature = "hub")]
        Command::Hub(arguments) => hub::run(&arguments),
        Command::Enroll(arguments) => enroll::run(&arguments),
        Command::Passwd(arguments) => passwd::run(&arguments),
        Command::Pull(arguments) => pull::run(&arguments),
        Command::Push(arguments) => push::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Config(command) => config::run(&command),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        #[cfg(feature = "top")]
        Command::Top(arguments) => top::run(&arguments),
        Command::Tail(arguments) => tail::run(&arguments),
        Command::Reload(arguments) => reload::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        #[cfg(feature = "hub")]
        Command::Demo(arguments) => demo::run(&arguments),
    };
    logging::flush();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            drop(writeln!(io::stderr(), "sedge: {failure}"));
            failure.code.into()
        }
    }
}

impl Failure {
    pub(crate) fn new(code: Code, what: impl fmt::Display) -> Self {
        Self {
            code,
            what: what.to_string(),
        }
    }

    /// A configuration that cannot be used.
    pub(crate) fn config(what: impl fmt::Display) -> Self {
        Self::new(Code::Config, what)
    }

    /// A peer or a place that cannot be had.
    pub(crate) fn unavailable(what: impl fmt::Display) -> Self {
        Self::new(Code::Unavailable, what)
    }

    /// A disk or a pipe that failed.
    pub(crate) fn io(what: impl fmt::Display) -> Self {
        Self::new(Code::Io, what)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// Shows `text`, all of it at once.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    shown(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// What it means that standard output was `written`. Who reads it may have seen enough and be gone: that is no failure.
fn shown(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::io(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// A runtime for one command.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    built.map_err(|error| Failure::io(format!("no runtime: {error}")))
}

/// Runs `service` until it ends, or until SIGTERM or SIGINT ask it to.
fn serve<F>(service: impl FnOnce(Shutdown) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    end_on_panic();
    allow_descriptors();
    leave_no_core();
    let runtime = runtime()?;
    let (trigger, shutdown) = shutdown::pair();
    let outcome = runtime.block_on(async {
        let signals = signals()?;
        tokio::spawn(async move {
            signals.await;
            trigger.stop();
            // Held for ever: a dropped trigger would be a second wish.
            std::future::pending::<()>().await;
        });
        service(shutdown).await
    });
    // A task that hangs in a blocking read must not hold up the exit.
    runtime.shutdown_background();
    outcome
}

/// As [`serve`], and tells the service manager, if one has started this program, how it goes.
fn serve_managed<F>(service: impl FnOnce(Vitals, Shutdown) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    serve(|shutdown| async move {
        let vitals = Vitals::default();
        let manager = Manager::of_environment();
        let told =
            manager.map(|manager| tokio::spawn(manager.hears(vitals.clone(), shutdown.clone())));
        let outcome = service(vitals, shutdown.clone()).await;
        if let Some(told) = told.filter(|_| shutdown.is_requested()) {
            // The last word may still be on its way when there was little to stop.
            drop(tokio::time::timeout(LAST_WORD, told).await);
        }
        outcome
    })
}

/// Completes at the first SIGTERM or SIGINT.
fn signals() -> Result<impl Future<Output = ()>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let hear =
        |kind| signal(kind).map_err(|error| Failure::io(format!("no signal handler: {error}")));
    let (mut term, mut int) = (
        hear(SignalKind::terminate())?,
        hear(SignalKind::interrupt())?,
    );
    Ok(async move {
        let name = tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping");
    })
}

/// As many open files as this user may have: a hub needs some for each gateway. A shell or a service manager allows 1,024 at first, for the sake of
/// programs that wait with select(2).
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        tracing::warn!(%error, "the number of open files stays as it is");
    }
}

/// A dump of the memory would hold keys and passwords, and stand where anybody may find it.
fn leave_no_core() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "a crash may leave a dump of the memory");
    }
}

/// A panic in any task or thread ends the process: half an agent that looks alive is worse than none.
fn end_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        logging::flush();
        std::process::exit(i32::from(Code::Software as u8));
    }));
}

/// The name of this gateway when the file gives none: made from /etc/machine-id, which itself should not be told around.
fn gateway_id() -> Option<String> {
    let machine = std::fs::read_to_string("/etc/machine-id").ok()?;
    let machine = machine.trim();
    let digest = |salt: &str| sedge_core::crc::crc32c(format!("sedge {salt} {machine}").as_bytes());
    (!machine.is_empty())
        .then(|| format!("gw-{:08x}{:04x}", digest("gateway"), digest("more") >> 16))
}

/// `text` in lines of 80 columns, set in by `first` and then by `rest`. A word that is longer stays whole.
fn folded(text: &str, first: &str, rest: &str) -> impl Iterator<Item = String> + use<> {
    let mut lines = vec![first.to_owned()];
    let mut is_empty = true;
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is one");
        let width = last.chars().count() + usize::from(!is_empty) + word.chars().count();
        if width > COLUMNS && !is_empty {
            lines.push(format!("{rest}{word}"));
            continue;
        }
        if !is_empty {
            last.push(' ');
        }
        last.push_str(word);
        is_empty = false;
    }
    lines.into_iter()
}

/// As wide as a terminal is at least.
const COLUMNS: usize = 80;

/// A duration on the command line.
fn duration_of(text: &str) -> Result<Duration, String> {
    quantity::parse_duration(text)
        .ok_or_else(|| "accepted: a duration such as 30s or 5m".to_owned())
}

/// The file of an agent with its drop-ins, checked.
fn load_agent(path: &Path) -> Result<sedge_config::checked::Agent, Failure> {
    agent_of(&Files::read(path).map_err(Failure::config)?)
}

/// An agent's files, checked.
fn agent_of(files: &Files) -> Result<sedge_config::checked::Agent, Failure> {
    sedge_config::agent::of(files, gateway_id().as_deref()).map_err(Failure::config)
}

/// For the service manager to hear that the end was wished.
const LAST_WORD: Duration = Duration::from_millis(500);

//! `sedge enroll`: this gateway gets its certificate from a hub, with a token that the hub's operator has given.

use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Gid, Uid};
use sedge_config::checked;
use sedge_uplink::trust::enrol::{self, EnrolError};
use sedge_uplink::trust::token::Token;
use tracing::Level;

use super::{Code, Failure, load_agent, logging, runtime};
use crate::gateway;

/// Which gateway, and where its token is.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// File of the agent
    #[arg(long, value_name = "FILE", default_value = super::agent::USUAL_FILE)]
    config: PathBuf,
    /// Which uplink, if there are several
    #[arg(long, value_name = "NAME")]
    uplink: Option<String>,
    /// File whose first line is the token; otherwise it is read from standard input. It is no argument, since everybody on this
    /// machine can read those
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// By what the hub is known, if its token does not say so
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    logging::start(Level::WARN);
    let agent = load_agent(&arguments.config)?;
    let uplink = which(&agent, arguments.uplink.as_deref())?;
    let files = gateway::trust_files(uplink);
    if files.certificate != files.key {
        return Err(Failure::config(format!(
            "uplink {} has a `certificate` of its own; enrolling is for those that have none",
            uplink.name
        )));
    }
    let token = match &arguments.token_file {
        Some(path) => token_in(path)?,
        None => asked()?,
    };
    let runtime = runtime()?;
    become_owner(&agent.gateway.data_dir)?;
    let url = format!("sedge://{}", uplink.hub);
    let enrolling = enrol::enrol(
        &url,
        &agent.gateway.id,
        &token,
        arguments.ca.as_deref(),
        &files,
    );
    runtime
        .block_on(enrolling)
        .map_err(|error| failure(&error))?;
    let mut out = io::stdout();
    drop(writeln!(
        out,
        "gateway {} is enrolled at {}\n{}\nAn agent that runs uses it at its next attempt to connect.",
        agent.gateway.id,
        uplink.hub,
        files.certificate.display()
    ));
    Ok(())
}

fn which<'a>(
    agent: &'a checked::Agent,
    name: Option<&str>,
) -> Result<&'a checked::Uplink, Failure> {
    let names = || {
        let names: Vec<&str> = agent.uplinks.iter().map(|u| u.name.as_str()).collect();
        names.join(", ")
    };
    match (name, agent.uplinks.as_slice()) {
        (_, []) => Err(Failure::config(
            "the file has no [[uplink]], so there is no hub to enroll at",
        )),
        (None, [only]) => Ok(only),
        (None, _) => Err(Failure::new(
            Code::Usage,
            format!(
                "which uplink? Name it with --uplink (there are: {})",
                names()
            ),
        )),
        (Some(name), uplinks) => uplinks.iter().find(|u| &*u.name == name).ok_or_else(|| {
            Failure::new(
                Code::Usage,
                format!("there is no uplink {name} (there are: {})", names()),
            )
        }),
    }
}

/// The token in the first line of `path`.
pub(super) fn token_in(path: &Path) -> Result<Token, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::config(format!("{}: {error}", path.display())))?;
    parsed(text.lines().next().unwrap_or_default())
        .map_err(|error| Failure::config(format!("{}: {error}", path.display())))
}

fn asked() -> Result<Token, Failure> {
    let input = io::stdin();
    if input.is_terminal() {
        drop(write!(
            io::stderr(),
            "Token (from `sedge hub enroll` at the hub): "
        ));
    }
    let mut line = String::new();
    input
        .lock()
        .read_line(&mut line)
        .map_err(|error| Failure::io(format!("standard input: {error}")))?;
    parsed(&line).map_err(Failure::config)
}

fn parsed(text: &str) -> Result<Token, String> {
    Token::parse(text).map_err(|error| error.to_string())
}

fn failure(error: &EnrolError) -> Failure {
    let code = match error {
        EnrolError::Address(_) | EnrolError::NoAnchor => Code::Config,
        EnrolError::Io { .. } => Code::Io,
        _ => Code::Unavailable,
    };
    Failure::new(code, error)
}

/// Root goes on as the one whom `data_dir` belongs to: what is written there is then the service's, and names there that lead elsewhere lead no further than
/// the service could go itself. Only this thread changes.
pub(super) fn become_owner(data_dir: &Path) -> Result<(), Failure> {
    use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};
    let Ok(owner) = fs::metadata(data_dir) else {
        return Ok(());
    };
    if !rustix::process::geteuid().is_root() || owner.uid() == 0 {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    set_thread_groups(&[group])
        .and_then(|()| set_thread_gid(group))
        .and_then(|()| set_thread_uid(user))
        .map_err(|error| {
            let owner = data_dir.display();
            Failure::io(format!("cannot go on as the owner of {owner}: {error}"))
        })
}

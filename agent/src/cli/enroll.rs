//! `sedge enroll`: this gateway gets its certificate from a hub, with a token that the hub's operator has given.

use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sedge_config::checked;
use sedge_uplink::trust::enrol::{self, EnrolError};
use sedge_uplink::trust::token::Token;

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
    logging::start("warn");
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
    let url = format!("sedge://{}", uplink.hub);
    let enrolling = enrol::enrol(
        &url,
        &agent.gateway.id,
        &token,
        arguments.ca.as_deref(),
        &files,
    );
    runtime()?
        .block_on(enrolling)
        .map_err(|error| failure(&error))?;
    hand_over(
        &agent.gateway.data_dir.join("trust"),
        &agent.gateway.data_dir,
    );
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

/// What root has written below `dir` belongs to whom `data_dir` belongs, so that the service can read it.
pub(super) fn hand_over(dir: &Path, data_dir: &Path) {
    let Ok(owner) = fs::metadata(data_dir) else {
        return;
    };
    let (user, group) = (Some(owner.uid()), Some(owner.gid()));
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        // Without root's rights it is ours already.
        drop(std::os::unix::fs::lchown(&path, user, group));
        let below = fs::read_dir(&path).into_iter().flatten().flatten();
        left.extend(below.map(|entry| entry.path()));
    }
}

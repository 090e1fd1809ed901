//! How a command finds the agent on this machine: its control socket, named or taken from the agent's file.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::agent::USUAL_FILE;
use super::{Failure, load_agent};

/// Which agent.
#[derive(Debug, clap::Args)]
pub(super) struct Reach {
    /// File of the agent
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    config: Option<PathBuf>,
    /// Control socket of the agent
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl Reach {
    /// The control socket: the one named, that of the file named, that of the usual file, the usual one.
    pub(super) fn socket(&self) -> Result<PathBuf, Failure> {
        let usual = Path::new(USUAL_FILE);
        let file = self
            .config
            .as_deref()
            .or_else(|| usual.exists().then_some(usual));
        match (&self.socket, file) {
            (Some(socket), _) => Ok(socket.clone()),
            (None, Some(file)) => match load_agent(file) {
                Ok(agent) => Ok(agent.gateway.control),
                // An agent that runs does so by what its file was.
                Err(failure) => Err(Failure {
                    what: format!(
                        "{failure}\nAn agent that runs is reached without its file by --socket PATH, such as {USUAL_SOCKET}"
                    ),
                    ..failure
                }),
            },
            (None, None) => Ok(PathBuf::from(USUAL_SOCKET)),
        }
    }
}

/// What the agent at `socket` answers to `request`, to its end.
pub(super) fn ask(socket: &Path, request: &str, patience: Duration) -> io::Result<String> {
    let mut agent = UnixStream::connect(socket)?;
    agent.set_read_timeout(Some(patience))?;
    agent.write_all(request.as_bytes())?;
    let mut answer = String::new();
    agent.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Nobody answers at `socket`.
pub(super) fn nobody_at(socket: &Path, error: &io::Error) -> Failure {
    Failure::unavailable(format!(
        "no agent answers at {} ({error}); name its file with --config, or start it with `sedge agent --config FILE`",
        socket.display()
    ))
}

const USUAL_SOCKET: &str = "/var/lib/sedge/control.sock";

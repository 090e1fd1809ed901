//! `sedge config`: what a file comes to.

use std::io::{self, Write as _};
use std::path::PathBuf;

use super::{Failure, load_agent};

/// What is to be done with a file.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show the configuration that holds: every key, the defaults as comments, what comes from the environment as it was written
    Show {
        /// File of an agent or of a hub
        #[arg(default_value = super::agent::USUAL_FILE)]
        file: PathBuf,
    },
}

pub(super) fn run(command: &Command) -> Result<(), Failure> {
    let Command::Show { file } = command;
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let shown = if sedge_config::hub::is_meant_by(&text) {
        sedge_config::hub::load(file).map_err(Failure::config)?;
        sedge_config::shown::hub(&text)
    } else {
        load_agent(file)?;
        sedge_config::shown::agent(&text)
    };
    write!(io::stdout(), "{shown}")
        .map_err(|error| Failure::io(format!("standard output: {error}")))
}

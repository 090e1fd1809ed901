//! `sedge config`: what a file comes to.

use std::path::PathBuf;

use sedge_config::Files;

use super::{Failure, agent_of, print};

/// What is to be done with a file.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show the configuration that holds: every key, the defaults as comments, what comes from the environment as it was written, and which drop-in says what
    Show {
        /// File of an agent or of a hub
        #[arg(default_value = super::agent::USUAL_FILE)]
        file: PathBuf,
    },
}

pub(super) fn run(command: &Command) -> Result<(), Failure> {
    let Command::Show { file } = command;
    let files = Files::read(file).map_err(Failure::config)?;
    let shown = if files.are_of_a_hub() {
        sedge_config::hub::of(&files).map_err(Failure::config)?;
        sedge_config::shown::hub(&files)
    } else {
        agent_of(&files)?;
        sedge_config::shown::agent(&files)
    };
    print(&shown)
}

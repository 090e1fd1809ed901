//! `sedge hub`: runs the hub of a file until it is told to stop.

use std::path::PathBuf;

use sedge_store::DataDirError;
use sedge_uplink::hub::HubError;

use super::{Code, Failure, logging, serve};
use crate::hub::{self, HubEnded};

/// Which hub.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// File of the hub; see docs/guide/configuration.md
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = sedge_config::hub::load(&arguments.config).map_err(Failure::config)?;
    logging::start("info");
    serve(|shutdown| async move { hub::run(config, shutdown).await.map_err(Failure::from) })
}

impl From<HubEnded> for Failure {
    fn from(error: HubEnded) -> Self {
        let code = match &error {
            HubEnded::Listen { .. }
            | HubEnded::Hub(HubError::DataDir(DataDirError::Held { .. })) => Code::Unavailable,
            HubEnded::Hub(HubError::NotLoopback { .. }) => Code::Config,
            HubEnded::Hub(HubError::Interrupted) => Code::Software,
            HubEnded::Hub(_) => Code::Io,
        };
        Self::new(code, error)
    }
}

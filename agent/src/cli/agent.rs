//! `sedge agent`: runs the gateway of a file until it is told to stop.

use std::path::PathBuf;

use sedge_store::DataDirError;

use super::{Code, Failure, load_agent, logging, serve};
use crate::gateway::{self, DiskError, GatewayError};

/// Which gateway.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// File of the agent; see docs/guide/configuration.md
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let agent = load_agent(&arguments.config)?;
    logging::start("info");
    serve(|shutdown| async move { gateway::run(agent, shutdown).await.map_err(Failure::from) })
}

impl From<GatewayError> for Failure {
    fn from(error: GatewayError) -> Self {
        let code = match &error {
            GatewayError::Disk(DiskError::DataDir(DataDirError::Held { .. }))
            | GatewayError::Listen { .. } => Code::Unavailable,
            GatewayError::Disk(_) | GatewayError::Store(_) => Code::Io,
            GatewayError::Panicked => Code::Software,
        };
        Self::new(code, error)
    }
}

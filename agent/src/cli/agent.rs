//! `sedge agent`: runs the gateway of a file until it is told to stop.

use std::path::PathBuf;
use std::sync::Arc;

use sedge_store::DataDirError;
use tracing::Level;

use super::{Code, Failure, load_agent, logging, serve_managed};
use crate::gateway::{self, DiskError, GatewayError, WhenTooLarge};

/// Which gateway.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// File of the agent; see docs/guide/configuration.md
    #[arg(long, value_name = "FILE", default_value = USUAL_FILE)]
    config: PathBuf,

    /// Make logs that are larger than their configured capacity smaller at this start: their oldest events are lost unless every
    /// uplink has them
    #[arg(long)]
    allow_eviction: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let agent = load_agent(&arguments.config)?;
    logging::start(Level::INFO);
    let when_too_large = match arguments.allow_eviction {
        true => WhenTooLarge::Evict,
        false => WhenTooLarge::Keep,
    };
    let path = arguments.config.clone();
    let load: gateway::Load = Arc::new(move || load_agent(&path).map_err(|e| e.to_string()));
    serve_managed(|vitals, shutdown| async move {
        let ended = gateway::run_seen(agent, load, when_too_large, vitals, shutdown).await;
        ended.map_err(Failure::from)
    })
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

/// Where an agent's file usually is.
pub(super) const USUAL_FILE: &str = "/etc/sedge/agent.toml";

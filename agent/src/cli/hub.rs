//! `sedge hub`: runs the hub of a file until it is told to stop, or says who may come to it.

mod access;

use std::path::PathBuf;

use sedge_store::DataDirError;
use sedge_uplink::hub::HubError;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;

use super::{Code, Failure, logging, serve_managed};
use crate::hub::{self, HubEnded};

/// Which hub.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// File of the hub; see docs/guide/configuration.md
    #[arg(long, value_name = "FILE", global = true, default_value = access::USUAL_FILE)]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<access::Command>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = access::config(&arguments.config)?;
    if let Some(command) = &arguments.command {
        return access::run(&config, command);
    }
    logging::start(Level::INFO);
    serve_managed(|vitals, shutdown| async move {
        tokio::spawn(hang_ups());
        let ended = hub::run_seen(config, vitals, shutdown).await;
        ended.map_err(Failure::from)
    })
}

/// SIGHUP would end the hub, and there is nothing that it should do.
async fn hang_ups() {
    let Ok(mut hang_ups) = signal(SignalKind::hangup()) else {
        return;
    };
    while hang_ups.recv().await.is_some() {
        tracing::info!(
            "certificates and register are read by themselves when they change; the rest of the file takes a restart"
        );
    }
}

impl From<HubEnded> for Failure {
    fn from(error: HubEnded) -> Self {
        let code = match &error {
            HubEnded::Listen { .. }
            | HubEnded::Hub(HubError::DataDir(DataDirError::Held { .. })) => Code::Unavailable,
            HubEnded::Open(_)
            | HubEnded::Hub(HubError::NotLoopback { .. } | HubError::Trust(_)) => Code::Config,
            HubEnded::Hub(HubError::Interrupted) => Code::Software,
            HubEnded::Hub(_) => Code::Io,
        };
        Self::new(code, error)
    }
}

//! `sedge demo`: the whole way of an event, with outages, in one process and a temporary directory.

use std::time::Duration;

use tracing::Level;

use super::{Code, Failure, duration_of, logging, serve};
use crate::demo::{self, DemoError, WithNode};

/// How long.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// How long the devices send
    #[arg(long = "for", value_name = "DURATION", default_value = "20s", value_parser = duration_of)]
    duration: Duration,

    /// Leave out the node on a pseudo serial line, where there are no pseudo terminals
    #[arg(long)]
    without_serial: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    logging::start(Level::ERROR);
    let duration = arguments.duration.clamp(DURATION_MIN, DURATION_MAX);
    let node = match arguments.without_serial {
        true => WithNode::No,
        false => WithNode::Yes,
    };
    serve(|shutdown| async move {
        match demo::play(duration, node, shutdown).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::new(Code::Software, "the account does not balance")),
            Err(error @ DemoError::Setup(_)) => Err(Failure::unavailable(error)),
            Err(error) => Err(Failure::new(Code::Software, error)),
        }
    })
}

const DURATION_MIN: Duration = Duration::from_secs(5);
const DURATION_MAX: Duration = Duration::from_secs(3600);

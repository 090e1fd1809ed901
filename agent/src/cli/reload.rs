//! `sedge reload`: has the agent on this machine read its file again, and says what became of it.

use std::io::{self, Write as _};
use std::time::Duration;

use super::reach::{self, Reach};
use super::{Failure, duration_of};
use crate::control;

/// Which agent, and how long what worked may take to work again.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    reach: Reach,
    /// Sources and uplinks that worked must work again within this time; otherwise the configuration before holds again
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration_of)]
    confirm: Duration,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let socket = arguments.reach.socket()?;
    let request = format!("{}{}\n", control::RELOAD, arguments.confirm.as_secs());
    let answer = reach::ask(&socket, &request, arguments.confirm + PATIENCE)
        .map_err(|error| reach::nobody_at(&socket, &error))?;
    match answer.trim_end() {
        control::RELOADED => {
            drop(writeln!(io::stdout(), "the new configuration holds"));
            Ok(())
        }
        answer => {
            let why = answer.strip_prefix(control::UNCHANGED);
            let why = why.and_then(|why| serde_json::from_str::<String>(why).ok());
            let why = why.unwrap_or_else(|| format!("the agent answers {answer:?}"));
            Err(Failure::config(why))
        }
    }
}

/// Beyond the time that it may take, for the change itself.
const PATIENCE: Duration = Duration::from_secs(30);

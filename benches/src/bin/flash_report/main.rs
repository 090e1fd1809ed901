//! `sedge-flash-report`: what the log costs a microcontroller, measured on simulated flash beside the queue of `sequential-storage`.
//!
//! Prints one row of the report a line, as JSON; `cargo xtask firmware-report` puts them into the table of docs/firmware.md.

mod appends;
mod boots;
mod drains;
mod line;
mod node;
mod nor;
mod rival;
mod rival_scripts;
mod row;
mod scripts;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use row::Row;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// How many random scripts.
    #[arg(long, default_value_t = 1_000_000)]
    scripts: u64,
    /// The seed of the first; a failed one prints its own.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One part of it.
    #[arg(long)]
    only: Option<Part>,
}

/// A part of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What cuts leave.
    Scripts,
    /// What an append costs.
    Appends,
    /// What a start reads.
    Boots,
    /// What handing over costs.
    Drains,
    /// What the serial link carries.
    Line,
}

impl Part {
    fn rows(self, arguments: &Arguments) -> Vec<Row> {
        match self {
            Self::Scripts => vec![scripts::row(arguments.scripts, arguments.seed)],
            Self::Appends => appends::rows(),
            Self::Boots => boots::rows(),
            Self::Drains => drains::rows(),
            Self::Line => vec![line::row()],
        }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    for part in Part::value_variants() {
        if arguments.only.is_none_or(|only| only == *part) {
            part.rows(&arguments).iter().try_for_each(Row::print)?;
        }
    }
    Ok(())
}

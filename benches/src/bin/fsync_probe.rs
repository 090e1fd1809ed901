//! `fsync-probe`: what one small durable overwrite costs on this disk, without anything around it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use sedge_benches::figures::{Figures, quantile};

/// Overwrite blocks of an existing file in place, one fdatasync after each.
#[derive(Parser)]
#[command(name = "fsync-probe", version)]
struct Arguments {
    /// A directory on the disk in question.
    dir: PathBuf,
    /// Bytes of one write.
    #[arg(long, default_value_t = 4096)]
    bytes: u64,
    /// Writes.
    #[arg(long, default_value_t = 5_000)]
    count: u32,
    /// Milliseconds of rest between two, as a gateway has at a low rate; a disk that slept is slower.
    #[arg(long, default_value_t = 0.0)]
    rest_ms: f64,
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(
        arguments.count > 0 && arguments.bytes > 0,
        "nothing to write"
    );
    let file = tempfile::tempfile_in(&arguments.dir)
        .with_context(|| arguments.dir.display().to_string())?;
    probe(&file, &arguments)?.print(arguments.json)?;
    Ok(())
}

fn probe(file: &File, arguments: &Arguments) -> Result<Figures> {
    let block: Vec<u8> = (0..arguments.bytes).map(|at| at as u8).collect();
    for place in 0..PLACES {
        file.write_all_at(&block, place * arguments.bytes)?;
    }
    file.sync_all()?;
    let rest = Duration::try_from_secs_f64(arguments.rest_ms / 1_000.0)?;
    let mut took = Vec::new();
    for number in 0..u64::from(arguments.count) {
        std::thread::sleep(rest);
        let begun = Instant::now();
        file.write_all_at(&block, number % PLACES * arguments.bytes)?;
        file.sync_data()?;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    let micros = |quantity: Duration| quantity.as_secs_f64() * 1e6;
    let mut figures = Figures::default();
    figures.add("fdatasync_p50_us", micros(quantile(&took, 0.5)), "us");
    figures.add("fdatasync_p99_us", micros(quantile(&took, 0.99)), "us");
    figures.add("fdatasync_max_us", micros(quantile(&took, 1.0)), "us");
    Ok(figures)
}

/// Blocks that are written in turn.
const PLACES: u64 = 1024;

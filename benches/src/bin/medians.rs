//! `sedge-medians`: the medians that criterion has left in a directory, as a Markdown table.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use sedge_benches::observe::{load_average, machine};
use sedge_benches::table::{line, shown};
use serde_json::Value;

/// Print the medians of the newest run of each bench under DIR.
#[derive(Parser)]
#[command(name = "sedge-medians", version)]
struct Arguments {
    /// Criterion's own directory.
    dir: PathBuf,
}

/// One bench.
struct Bench {
    name: String,
    median_ns: f64,
    throughput: Option<Throughput>,
    ended: SystemTime,
}

/// What one iteration goes through.
enum Throughput {
    Bytes(f64),
    Events(f64),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut benches = Vec::new();
    for group in folders(&arguments.dir)? {
        for function in folders(&group)? {
            benches.extend(Bench::read(&function.join("new"))?);
        }
    }
    ensure!(
        !benches.is_empty(),
        "{}: no bench has run",
        arguments.dir.display()
    );
    benches.sort_by_key(|bench| bench.ended);
    let head = ["part", "median", "a second"].map(str::to_owned);
    let mut text = format!(
        "{}; load average at the end {}.\n\n{}|---|---|---|\n",
        machine()?,
        load_average()?,
        line(&head)
    );
    benches.iter().for_each(|bench| text.push_str(&bench.row()));
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

impl Bench {
    /// `None` if no bench has left anything in `dir`.
    fn read(dir: &Path) -> Result<Option<Self>> {
        let estimates = dir.join("estimates.json");
        if !estimates.exists() {
            return Ok(None);
        }
        let ended = estimates.metadata()?.modified()?;
        let about = parsed(&dir.join("benchmark.json"))?;
        let named = |key: &str| about[key].as_str().with_context(|| format!("no {key}"));
        let amount = |unit: &str| about["throughput"][unit].as_f64();
        Ok(Some(Self {
            name: format!("{}: {}", named("group_id")?, named("function_id")?),
            median_ns: parsed(&estimates)?["median"]["point_estimate"]
                .as_f64()
                .context("no median")?,
            throughput: amount("Bytes")
                .map(Throughput::Bytes)
                .or_else(|| amount("Elements").map(Throughput::Events)),
            ended,
        }))
    }

    fn row(&self) -> String {
        let seconds = self.median_ns / 1e9;
        let rate = match self.throughput {
            None => shown(None),
            Some(Throughput::Bytes(bytes)) => {
                format!("{} MiB", shown(Some(bytes / MIB / seconds)))
            }
            Some(Throughput::Events(events)) => {
                format!("{} events", shown(Some(events / seconds)))
            }
        };
        line(&[self.name.clone(), duration(self.median_ns), rate])
    }
}

fn duration(nanos: f64) -> String {
    let (value, unit) = if nanos < 1e3 {
        (nanos, "ns")
    } else if nanos < 1e6 {
        (nanos / 1e3, "µs")
    } else {
        (nanos / 1e6, "ms")
    };
    format!("{} {unit}", shown(Some(value)))
}

fn folders(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    Ok(folders)
}

fn parsed(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

const MIB: f64 = 1024.0 * 1024.0;

#[cfg(test)]
mod tests {
    use super::Bench;

    /// The files are those of a real run, shortened.
    #[test]
    fn a_row_tells_the_median_and_what_that_is_a_second() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Bench::read(dir.path()).unwrap().is_none());
        let write = |name, text| std::fs::write(dir.path().join(name), text).unwrap();
        write(
            "benchmark.json",
            r#"{"group_id":"pull","function_id":"200 events","throughput":{"Elements":200}}"#,
        );
        write(
            "estimates.json",
            r#"{"mean":{"point_estimate":1.0},"median":{"point_estimate":100000.0}}"#,
        );
        let bench = Bench::read(dir.path()).unwrap().unwrap();
        assert_eq!(
            bench.row(),
            "| pull: 200 events | 100 µs | 2,000,000 events |\n"
        );
    }
}

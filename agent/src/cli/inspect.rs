//! `sedge inspect`: what stands in a directory, whether it can be read, and how to get out what can.
//!
//! Nothing is written into the directory, and an agent or a hub may be using it. `flash_image` does the same for the flash of a microcontroller.

mod flash_image;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sedge_store::{LogReport, Report};
use serde::Serialize;

use super::{Code, Failure, print};

/// What to look at.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Directory of an agent, of a hub, or of one log
    #[arg(required_unless_present = "flash_image")]
    dir: Option<PathBuf>,
    /// As JSON: one object with every log, segment and gap
    #[arg(long)]
    json: bool,
    /// Copy every valid frame to new logs in this directory, also from files that were set aside
    #[arg(long, value_name = "TO")]
    salvage: Option<PathBuf>,
    #[command(flatten)]
    flash: flash_image::Flash,
}

/// One log and where it stands.
#[derive(Debug, Serialize)]
struct Seen {
    /// What the identity files on the way say: names, numbers.
    identity: BTreeMap<String, serde_json::Value>,
    #[serde(flatten)]
    report: Report,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Some(dir) = &arguments.dir else {
        return flash_image::run(&arguments.flash, arguments.json);
    };
    // To clap nothing requires what it knows to be ruled out: `DIR --records` would pass.
    if arguments.flash.flash_image.is_some() {
        let both = "DIR and --flash-image cannot be used together";
        return Err(Failure::new(Code::Usage, both));
    }
    if let Some(to) = &arguments.salvage {
        return salvage(&logs_in(dir)?, dir, to);
    }
    let (text, outcome) = looked(dir, arguments.json)?;
    print(&text)?;
    outcome
}

/// What `sedge inspect` prints about `dir`.
///
/// # Errors
/// What it says instead.
pub fn printed(dir: &Path, as_json: bool) -> Result<String, String> {
    let looked = looked(dir, as_json).map_err(|failure| failure.to_string())?;
    Ok(looked.0)
}

fn logs_in(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut logs = Vec::new();
    find(dir, DEPTH_MAX, &mut logs)
        .map_err(|error| Failure::io(format!("{}: {error}", dir.display())))?;
    if logs.is_empty() {
        return Err(Failure::new(
            Code::Usage,
            format!("{}: there is no log in this directory", dir.display()),
        ));
    }
    Ok(logs)
}

/// What is to be printed, and how the command ends then.
fn looked(dir: &Path, as_json: bool) -> Result<(String, Result<(), Failure>), Failure> {
    let logs = logs_in(dir)?;
    let looked = |log: &PathBuf| {
        let report = sedge_store::inspect(log)
            .map_err(|error| Failure::io(format!("{}: {error}", log.display())))?;
        Ok(Seen {
            identity: identity(log, dir),
            report,
        })
    };
    let seen: Vec<Seen> = logs.iter().map(looked).collect::<Result<_, Failure>>()?;
    let text = match as_json {
        true => {
            serde_json::to_string(&serde_json::json!({ "logs": seen })).map_err(Failure::io)? + "\n"
        }
        false => seen.iter().map(|seen| shown(seen, dir)).collect(),
    };
    let outcome = match seen.iter().filter(|seen| is_damaged(&seen.report)).count() {
        0 => Ok(()),
        damaged => Err(Failure::io(format!(
            "{damaged} of {} logs are damaged",
            seen.len()
        ))),
    };
    Ok((text, outcome))
}

/// Directories with segment files, `dir` itself or below it.
fn find(dir: &Path, depth: usize, logs: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    entries.sort();
    let is_segment = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("seg-") && name.ends_with(".log")
    };
    if entries.iter().any(is_segment) {
        logs.push(dir.to_owned());
    }
    // What is not finished yet, or removed and not quite gone, has a name that begins with a dot.
    let counts = |entry: &&PathBuf| {
        let name = entry.file_name().unwrap_or_default().to_string_lossy();
        entry.is_dir() && name != "set-aside" && !name.starts_with('.')
    };
    for entry in entries.iter().filter(|entry| depth > 0 && counts(entry)) {
        find(entry, depth - 1, logs)?;
    }
    Ok(())
}

/// What the identity files from `root` down to `log` say.
fn identity(log: &Path, root: &Path) -> BTreeMap<String, serde_json::Value> {
    let mut all = BTreeMap::new();
    let mut dirs: Vec<&Path> = log
        .ancestors()
        .take_while(|dir| dir.starts_with(root))
        .collect();
    dirs.reverse();
    for dir in dirs {
        let said: io::Result<BTreeMap<String, serde_json::Value>> = sedge_store::read_identity(dir);
        all.extend(said.unwrap_or_default());
    }
    all
}

fn shown(seen: &Seen, root: &Path) -> String {
    let report = &seen.report;
    let place = report
        .dir
        .strip_prefix(root)
        .unwrap_or(&report.dir)
        .display()
        .to_string();
    let who: Vec<String> = ["gateway", "stream", "name", "partition", "chain", "epoch"]
        .iter()
        .filter_map(|key| {
            seen.identity
                .get(*key)
                .map(|value| format!("{key} {}", value.to_string().trim_matches('"')))
        })
        .collect();
    let mut text = format!(
        "{}  {}\n",
        if place.is_empty() { "." } else { &place },
        who.join(", ")
    );
    match &report.log {
        Some(log) => text.push_str(&shown_log(log)),
        None => text.push_str("  no segment has a valid beginning\n"),
    }
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    report
        .segments
        .iter()
        .for_each(|segment| *states.entry(segment.state).or_default() += 1);
    let states: Vec<String> = states
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    text.push_str(&format!("  segments: {}\n", states.join(", ")));
    for file in &report.set_aside {
        text.push_str(&format!("  set aside: {}\n", file.display()));
    }
    text
}

fn shown_log(log: &LogReport) -> String {
    let end = match (log.ended, log.closed) {
        (true, _) => "ended: nothing follows",
        (false, true) => "cleanly closed",
        (false, false) => "in use, or not cleanly closed",
    };
    let ledger = &log.ledger;
    let sum = if log.balances {
        "the sum is right"
    } else {
        "the sum is NOT right"
    };
    let mut text = format!(
        "  {} {}, {end}\n  offsets {}..{}: {} events held, {} missing; {sum}\n  \
         handed over {}, evicted {}, expired {}, corrupt {}, burned {}, refused {}\n",
        log.role,
        log.log_id,
        log.oldest,
        log.next,
        log.held,
        log.missing,
        ledger.handed_over,
        ledger.evicted,
        ledger.expired,
        ledger.corrupt,
        ledger.skipped,
        ledger.refused
    );
    for gap in log.gaps.iter().take(GAPS_SHOWN_MAX) {
        text.push_str(&format!(
            "  gap {}..{}: {}, {} lost\n",
            gap.from, gap.to, gap.cause, gap.lost
        ));
    }
    if let Some(more) = log
        .gaps
        .len()
        .checked_sub(GAPS_SHOWN_MAX)
        .filter(|more| *more > 0)
    {
        text.push_str(&format!("  and {more} more gaps (--json shows all)\n"));
    }
    text
}

fn is_damaged(report: &Report) -> bool {
    let segments = report
        .segments
        .iter()
        .any(|segment| segment.state == "damaged");
    segments
        || report
            .log
            .as_ref()
            .is_some_and(|log| !log.balances || log.missing > 0)
}

fn salvage(logs: &[PathBuf], root: &Path, to: &Path) -> Result<(), Failure> {
    for log in logs {
        let place = log.strip_prefix(root).unwrap_or(log);
        let salvaged = sedge_store::salvage(log, &to.join(place))
            .map_err(|error| Failure::io(format!("{}: {error}", log.display())))?;
        for one in salvaged {
            let (dir, entries, missing) = (one.dir.display(), one.entries, one.missing);
            print(&format!(
                "{dir}: {entries} events, offsets {}..{}, {missing} missing\n",
                one.from, one.to
            ))?;
        }
    }
    Ok(())
}

/// As deep as a gateway's logs stand in its directory, and one more.
const DEPTH_MAX: usize = 5;
const GAPS_SHOWN_MAX: usize = 20;

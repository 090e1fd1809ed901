//! `cargo xtask mutants [--part NAME] [--sample N] [--seed S] [--fresh yes] [--only ID,ID] [--within SECONDS] [--jobs J]`: does a test notice when the code is changed in a small way?
//!
//! All mutants of a part of the code are compiled at once, into a copy of the project below the target folder; which one a process has is the environment
//! variable `SEDGE_MUTANT`. So each costs the tests that are run until one fails, and no build. What does not compile is left out.
//! Each test is run once without a mutant, to see what it takes and which mutants it comes across; a mutant meets only those, the quickest first. With `--within`, tests that take longer are left out; what survives the others is tried again by a run without it.
//! `--fresh yes` chooses among those that were never tried; `--only` tries some again by their numbers.

mod cases;
mod copy;
mod rewrite;
mod trial;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use copy::Copy;
use trial::Trial;

/// A part of the code, and the tests that know it.
struct Part {
    name: &'static str,
    folders: &'static [&'static str],
    /// Package and test binary; a package alone is the tests in its sources.
    tests: &'static [(&'static str, &'static str)],
}

const PARTS: [Part; 3] = [
    Part {
        name: "core",
        folders: &["core-nostd/src"],
        tests: &[
            ("sedge-core", "append"),
            ("sedge-core", "reader"),
            ("sedge-core", "recycle"),
            ("sedge-core", "golden"),
            ("sedge-core", "sedge_core"),
            ("sedge-core", "rings"),
            ("sedge-core", "recovery"),
            ("sedge-core", "custody_rules"),
            ("sedge-core", "custody_times"),
            ("sedge-core", "twins"),
            ("sedge-core", "lost_head"),
            ("sedge-core", "custody"),
            ("sedge-tests", "drops"),
            ("sedge-tests", "scripts"),
            ("sedge-tests", "lives"),
            ("sedge-tests", "custody_model"),
            ("sedge-tests", "damage"),
            ("sedge-tests", "fuzz"),
            ("sedge-tests", "errors"),
            ("sedge-tests", "bursts"),
            ("sedge-store", "sedge_store"),
            ("sedge-store", "partition"),
            ("sedge-store", "mirror"),
            ("sedge-store", "mend"),
            ("sedge-store", "damage"),
            ("sedge-store", "retention"),
            ("sedge-tests", "cuts"),
        ],
    },
    Part {
        name: "store",
        folders: &["store/src"],
        tests: &[
            ("sedge-store", "sedge_store"),
            ("sedge-store", "partition"),
            ("sedge-store", "mirror"),
            ("sedge-store", "mend"),
            ("sedge-store", "damage"),
            ("sedge-store", "retention"),
            ("sedge-store", "capacity"),
            ("sedge-store", "clocks"),
            ("sedge-store", "owner"),
            ("sedge-store", "race"),
            ("sedge-store", "flash_life"),
            ("sedge-uplink", "unread"),
            ("sedge-uplink", "custody"),
            ("sedge-uplink", "chains"),
            ("sedge-uplink", "own"),
            ("sedge-tests", "failing_disks"),
            ("sedge-tests", "fuzz"),
            ("sedge-tests", "simulator"),
        ],
    },
    Part {
        name: "session",
        folders: &["uplink/src/forward", "uplink/src/hub", "uplink/src/client"],
        tests: &[
            ("sedge-uplink", "sedge_uplink"),
            ("sedge-uplink", "custody"),
            ("sedge-uplink", "own"),
            ("sedge-uplink", "unread"),
            ("sedge-uplink", "chains"),
            ("sedge-uplink", "consumers"),
            ("sedge-uplink", "peers"),
            ("sedge-uplink", "retention"),
            ("sedge-uplink", "live_first"),
            ("sedge-uplink", "permissions"),
            ("sedge-uplink", "trust"),
            ("sedge-uplink", "http"),
            ("sedge-uplink", "http_groups"),
            ("sedge-uplink", "kafka"),
            ("sedge-uplink", "overview"),
            ("sedge-uplink", "crowd"),
            ("sedge-uplink", "signs"),
            ("sedge-tests", "simulator"),
        ],
    },
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mutants: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let wish = Wish::read(std::env::args().skip(1))?;
    let mut copy = Copy::make(&wish.root, wish.part)?;
    let tests = copy.build()?;
    Trial::new(&copy, tests, &wish)?.try_all()
}

/// What is asked for.
struct Wish {
    root: PathBuf,
    part: &'static Part,
    /// So many of them, chosen by a seed; without it, all.
    sample: Option<usize>,
    seed: u64,
    /// Only those of which nothing is known.
    is_fresh: bool,
    /// Those with these numbers, whatever is known of them; all, if there are none.
    only: Vec<u32>,
    /// Tests that take longer are left out.
    within: Option<Duration>,
    jobs: usize,
}

impl Wish {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let root = std::env::var_os("SEDGE_ROOT")
            .map_or_else(std::env::current_dir, |root| Ok(root.into()))?;
        let mut wish = Self {
            root,
            part: &PARTS[0],
            sample: None,
            seed: 1,
            is_fresh: false,
            only: Vec::new(),
            within: None,
            jobs: std::thread::available_parallelism()?.get(),
        };
        while let Some(argument) = arguments.next() {
            let value = arguments
                .next()
                .with_context(|| format!("{argument} takes a value"))?;
            match argument.as_str() {
                "--part" => {
                    let part = PARTS.iter().find(|part| part.name == value);
                    wish.part = part
                        .with_context(|| format!("no part {value}; there are core, store and session"))?;
                }
                "--sample" => wish.sample = Some(value.parse()?),
                "--fresh" => wish.is_fresh = value == "yes",
                "--only" => {
                    wish.only = value.split(',').map(str::parse).collect::<Result<_, _>>()?;
                }
                "--seed" => wish.seed = value.parse()?,
                "--within" => wish.within = Some(Duration::from_secs(value.parse()?)),
                "--jobs" => wish.jobs = value.parse()?,
                _ => bail!(
                    "usage: cargo xtask mutants [--part core|store|session] [--sample N] [--seed S] [--fresh yes] [--only ID,ID] [--within SECONDS] [--jobs J]"
                ),
            }
        }
        Ok(wish)
    }
}

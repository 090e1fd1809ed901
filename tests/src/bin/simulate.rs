//! `simulate --seed S [--seeds N] [--jobs J] [--story] [--twice] [--brief] [--exchanges] [--outage-weeks W | --outage-hours H]`: runs the whole system from seeds, and tells the story of one that went wrong.
//! With `RUST_LOG` set, what agents and hub log goes to standard error; its times are those of the system from the seed's beginning (one job only).
//! With `--outage-weeks`, nobody reaches the hub for so many weeks, or up to twice as long, in each of them. With `--outage-hours`, no outage is longer than that.
//! Run twice, a seed must do the same.
#![allow(clippy::print_stdout, reason = "it is a command")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use sedge_tests::simulator::{Options, Outcome, Sum, run, virtual_time};

fn main() -> ExitCode {
    let Some(wishes) = Wishes::of(std::env::args().skip(1)) else {
        eprintln!(
            "usage: simulate --seed S [--seeds N] [--jobs J] [--story] [--twice] [--brief] [--exchanges] [--outage-weeks W | --outage-hours H]"
        );
        return ExitCode::from(64);
    };
    show_logs();
    let began = Instant::now();
    let sum = wishes.run();
    println!("{sum}; took {} s", began.elapsed().as_secs());
    match sum.failed() {
        [] => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Logs of the programs, if they are wished for.
fn show_logs() {
    let Ok(asked) = std::env::var("RUST_LOG") else {
        return;
    };
    let filter: Targets = asked.parse().expect("RUST_LOG names levels");
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_timer(VirtualTime);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .init();
}

/// The time of a simulated system.
struct VirtualTime;

impl tracing_subscriber::fmt::time::FormatTime for VirtualTime {
    fn format_time(&self, w: &mut Writer<'_>) -> std::fmt::Result {
        write!(w, "{}", virtual_time())
    }
}

/// What to do.
#[derive(Clone, Copy)]
struct Wishes {
    seed: u64,
    seeds: u64,
    jobs: u64,
    story: bool,
    twice: bool,
    brief: bool,
    exchanges: bool,
    outage_weeks: Option<u64>,
    outage_hours: Option<u64>,
}

impl Wishes {
    fn options(self, seed: u64) -> Options {
        let options = match self.exchanges {
            true => Options::with_exchanges(seed),
            false => Options::of(seed),
        };
        match (self.outage_weeks, self.outage_hours) {
            (Some(weeks), _) => options.with_outage_of_weeks(weeks),
            (None, Some(hours)) => options.with_outages_of_at_most(hours),
            (None, None) => options,
        }
    }

    fn of(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut wishes = Self {
            seed: 1,
            seeds: 1,
            jobs: 1,
            story: false,
            twice: false,
            brief: false,
            exchanges: false,
            outage_weeks: None,
            outage_hours: None,
        };
        while let Some(argument) = arguments.next() {
            let mut number = || arguments.next()?.parse().ok();
            match argument.as_str() {
                "--story" => wishes.story = true,
                "--brief" => wishes.brief = true,
                "--exchanges" => wishes.exchanges = true,
                "--twice" => wishes.twice = true,
                "--outage-weeks" => wishes.outage_weeks = Some(number()?),
                "--outage-hours" => wishes.outage_hours = Some(number()?),
                "--seed" => wishes.seed = number()?,
                "--seeds" => wishes.seeds = number()?,
                "--jobs" => wishes.jobs = number()?,
                _ => return None,
            }
        }
        (wishes.outage_weeks.is_none() || wishes.outage_hours.is_none()).then_some(wishes)
    }

    /// Each thread has a world of its own. What they tell comes in the order of the seeds.
    fn run(self) -> Sum {
        let (next, end) = (AtomicU64::new(self.seed), self.seed + self.seeds);
        let (sender, told) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                let (next, sender) = (&next, sender.clone());
                scope.spawn(move || {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end || sender.send((seed, self.try_seed(seed))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            let (mut sum, mut early, mut due) = (Sum::default(), BTreeMap::new(), self.seed);
            for (seed, ran) in told {
                early.insert(seed, ran);
                while let Some((outcome, line)) = early.remove(&due) {
                    sum.add(due, &outcome);
                    if !self.brief || outcome.wrong.is_some() {
                        println!("{line}");
                    }
                    self.tell(due, &outcome, sum.failed().len());
                    due += 1;
                }
            }
            sum
        })
    }

    fn try_seed(self, seed: u64) -> (Outcome, String) {
        let began = Instant::now();
        let mut outcome = run(self.options(seed));
        if self.twice && run(self.options(seed)).hash != outcome.hash {
            let wrong = "run again, it did something else".to_owned();
            outcome.wrong.get_or_insert(wrong);
        }
        let verdict = outcome.wrong.as_deref().unwrap_or("good");
        let line = format!(
            "seed {seed}: {verdict} ({:016x}, {} steps, {:.1} virtual h, {} acknowledged, {} lost, {} kinds of trouble, {:.2} s)",
            outcome.hash,
            outcome.steps,
            outcome.elapsed.as_secs_f64() / 3600.0,
            outcome.totals.acked,
            outcome.totals.lost,
            outcome.kinds.len(),
            began.elapsed().as_secs_f64(),
        );
        (outcome, line)
    }

    /// The arguments that say what kind of system it is.
    fn kind(self) -> String {
        let exchanges = if self.exchanges { " --exchanges" } else { "" };
        let outage = match (self.outage_weeks, self.outage_hours) {
            (Some(weeks), _) => format!(" --outage-weeks {weeks}"),
            (None, Some(hours)) => format!(" --outage-hours {hours}"),
            (None, None) => String::new(),
        };
        format!("{exchanges}{outage}")
    }

    fn tell(self, seed: u64, outcome: &Outcome, failed: usize) {
        let is_wrong = outcome.wrong.is_some();
        if self.story || (is_wrong && failed <= STORIES_MAX) {
            println!("{}", outcome.story);
        }
        if is_wrong {
            println!(
                "seed {seed} again: cargo run -p sedge-tests --release --bin simulate -- --seed {seed} --story{}",
                self.kind()
            );
        }
    }
}

/// More are not read.
const STORIES_MAX: usize = 1;

//! `simulate --seed S [--seeds N] [--story] [--twice]`: runs the whole system from seeds, and tells the story of one that went wrong.
//! Run twice, a seed must do the same.
#![allow(clippy::print_stdout, reason = "it is a command")]

use std::process::ExitCode;
use std::time::Instant;

use sedge_tests::simulator::{Options, run};

fn main() -> ExitCode {
    let (mut seed, mut seeds, mut story, mut twice) = (1, 1, false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|n| n.parse().ok());
        let number = match argument.as_str() {
            "--story" => {
                story = true;
                continue;
            }
            "--twice" => {
                twice = true;
                continue;
            }
            "--seed" => number().map(|n| seed = n),
            "--seeds" => number().map(|n| seeds = n),
            _ => None,
        };
        if number.is_none() {
            eprintln!("usage: simulate --seed S [--seeds N] [--story] [--twice]");
            return ExitCode::from(64);
        }
    }
    let mut failed = 0;
    for seed in seed..seed + seeds {
        let began = Instant::now();
        let mut outcome = run(Options::of(seed));
        if twice && run(Options::of(seed)).hash != outcome.hash {
            let wrong = "run again, it did something else".to_owned();
            outcome.wrong.get_or_insert(wrong);
        }
        let verdict = outcome.wrong.as_deref().unwrap_or("good");
        println!(
            "seed {seed}: {verdict} ({:016x}, {} steps, {:.1} virtual h, {} acknowledged, {} lost, {} kinds of trouble, {:.2} s)",
            outcome.hash,
            outcome.steps,
            outcome.elapsed.as_secs_f64() / 3600.0,
            outcome.totals.acked,
            outcome.totals.lost,
            outcome.kinds.len(),
            began.elapsed().as_secs_f64(),
        );
        failed += u64::from(outcome.wrong.is_some());
        if story || (outcome.wrong.is_some() && failed <= STORIES_MAX) {
            println!("{}", outcome.story);
        }
    }
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// More are not read.
const STORIES_MAX: u64 = 1;

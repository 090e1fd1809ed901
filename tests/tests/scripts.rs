//! Short scripts in large numbers, other ones each day: each is cut until it is through.
//!
//! `SEDGE_CUTS` says how many cuts to make on each medium, `SEDGE_SEED` where to begin; without it the day decides. A failure prints its seed, which
//! `SEDGE_CUTS=1` plays again.

use std::time::Instant;

use sedge_tests::rig::{alone, seed_of_the_day, tell};
use sedge_tests::short::{Enough, Places, play_all};
use sedge_tests::sim::Sim;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().expect("a number"))
}

fn outlives<S: Sim>(medium: &str, places: impl Fn() -> Places<S> + Sync) {
    let _alone = alone();
    let first = seed_of_the_day();
    let enough = number("SEDGE_CUTS").unwrap_or(CUTS);
    tell(&format!("{medium}: SEDGE_SEED={first} SEDGE_CUTS={enough}"));
    let begun = Instant::now();
    let tallies = play_all(places, first, Enough::Cuts(enough));
    let scripts: u64 = tallies.iter().map(|tally| tally.scripts).sum();
    let cuts: u64 = tallies.iter().map(|tally| tally.cuts).sum();
    tell(&format!(
        "{medium}: {cuts} cuts in {scripts} scripts, of them {} cuts where cells may flicker, seeds {first} to {}, {} s",
        tallies[1].cuts,
        first + scripts - 1,
        begun.elapsed().as_secs(),
    ));
    let wrong: Vec<_> = tallies.iter().flat_map(|tally| &tally.wrong).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(cuts >= enough);
}

#[test]
fn any_short_life_on_flash_outlives_its_cuts() {
    outlives("flash", Places::flash);
}

#[test]
fn any_short_life_in_files_outlives_its_cuts_and_kills() {
    outlives("files", Places::files);
}

/// Where nothing else is said: as many as nobody waits for.
const CUTS: u64 = 20_000;

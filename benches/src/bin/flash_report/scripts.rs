//! Random scripts: short lives of a log on flash, each ended by a cut anywhere and in any way, and what the oracle says to it.

use std::time::Instant;

use sedge_tests::flash::FlashTear;
use sedge_tests::script;
use sedge_tests::short::{Enough, Places, UNITS, blank_flash, play_all};
use sedge_tests::sweep::Sweep;
use sedge_tests::world::Setting;

use crate::rival_scripts;
use crate::row::{Row, thousands};

/// The row about what is lost.
pub(crate) fn row(count: u64, first_seed: u64) -> Row {
    let (single, double) = sweeps();
    let begun = Instant::now();
    let [steady, flickering] = play_all(Places::flash, first_seed, Enough::Scripts(count));
    let seconds = begun.elapsed().as_secs();
    Row {
        what: "acknowledged record lost, phantom or stuck; write units 1 to 32, every way to tear, cells that read as errors"
            .into(),
        must: "0".into(),
        seen: format!(
            "{} in {} scripts with {} cuts, every single cut ({}) and double cut ({}) of a scenario; {} in {} scripts of logs that do not trust their last frame, on cells that flicker (seeds {first_seed} to {}; {seconds} s)",
            steady.wrong.len(),
            thousands(steady.scripts),
            thousands(steady.cuts),
            thousands(single),
            thousands(double),
            flickering.wrong.len(),
            thousands(flickering.scripts),
            first_seed + steady.scripts + flickering.scripts - 1,
        ),
        anchor: rival_scripts::told(count.min(RIVAL_SCRIPTS), first_seed),
        met: steady.wrong.is_empty() && flickering.wrong.is_empty(),
    }
}

/// Every cut of one scenario for each write unit, and every further cut behind it.
fn sweeps() -> (u64, u64) {
    let (mut single, mut double) = (0, 0);
    for unit in UNITS {
        let sweep = Sweep {
            setting: Setting::flash(unit),
            sim: blank_flash(Setting::flash(unit), 2, 1),
            script: script::filling(u64::from(unit), 36, 4),
            seed: 1,
            tears: FlashTear::STEADY.to_vec(),
            tries: 1,
            epilogue: 4,
        };
        single += sweep.single();
        double += sweep.nested(4);
    }
    (single, double)
}

/// The queue is not ours to test: as many as its figures need.
const RIVAL_SCRIPTS: u64 = 400_000;

//! Futures are dropped wherever they wait, and the log goes on: nothing acknowledged is missing, no offset is given twice, no unit is programmed twice.

use sedge_tests::drops::{Then, Way};
use sedge_tests::flash::FlashTear;
use sedge_tests::script;
use sedge_tests::world::Setting;

/// Open, commit, maintain, save, close and read of a script that rolls, evicts and moves the cursor; each is dropped once at each place where it waits,
/// and the flash has then done nothing of it, a part, or all.
fn drops_everywhere<const UNIT: usize>(then: Then) {
    let script = script::mixed(UNIT as u64, 70, 4);
    for waits in 0.. {
        // Three of the tears at each place, all of them at each three places.
        for tear in (0..3).map(|at| FlashTear::STEADY[(waits as usize * 3 + at) % 9]) {
            let way = Way {
                setting: Setting::flash(UNIT as u32),
                script: &script,
                epilogue: 8,
                waits,
                tear,
                then,
            };
            if !way.play::<UNIT>() {
                assert!(waits > 500, "only {waits} drops");
                return;
            }
        }
    }
}

#[test]
fn log_goes_on_behind_a_dropped_future() {
    drops_everywhere::<1>(Then::GoOn);
    drops_everywhere::<4>(Then::GoOn);
    drops_everywhere::<32>(Then::GoOn);
}

#[test]
fn log_is_opened_again_behind_a_dropped_future() {
    drops_everywhere::<1>(Then::Reopen);
    drops_everywhere::<4>(Then::Reopen);
    drops_everywhere::<32>(Then::Reopen);
}

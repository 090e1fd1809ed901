//! The whole system from seeds, in virtual time: what was acknowledged comes once and in order, or is counted as lost; and without faults all of it arrives.
//! `SEDGE_SEED` and `SEDGE_SEEDS` choose others; `cargo run -p sedge-tests --release --bin simulate -- --seed S` tells the story of one.

use sedge_tests::simulator::{Options, run};

fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().expect("a number"))
}

/// Each seed has its own gateways, faults and timing.
#[test]
fn nothing_acknowledged_is_lost_uncounted_or_doubled_whatever_goes_wrong() {
    let first = number("SEDGE_SEED", 100);
    let (mut acked, mut kinds) = (0, std::collections::BTreeSet::new());
    let (mut of_devices, mut of_clients) = (0, 0);
    for seed in first..first + number("SEDGE_SEEDS", SEEDS) {
        let outcome = run(Options::of(seed));
        if let Some(wrong) = outcome.wrong {
            panic!("seed {seed}: {wrong}\n{}", outcome.story);
        }
        acked += outcome.totals.acked;
        of_devices += outcome.totals.of_devices;
        of_clients += outcome.totals.of_clients;
        kinds.extend(outcome.kinds);
    }
    assert!(
        acked > 10_000 && kinds.len() >= 5,
        "{acked} events, trouble: {kinds:?}"
    );
    assert!(
        std::env::var("SEDGE_SEED").is_ok() || (of_devices > 0 && of_clients > 0),
        "{of_devices} events by devices, {of_clients} by MQTT clients"
    );
}

/// What a seed does follows from the seed alone.
#[test]
fn a_seed_does_the_same_twice() {
    for seed in [7, 8] {
        let (once, again) = (run(Options::of(seed)), run(Options::of(seed)));
        assert_eq!(
            (once.hash, once.steps),
            (again.hash, again.steps),
            "seed {seed}"
        );
        assert_eq!(once.story, again.story, "seed {seed}");
    }
}

/// The oracle is one: a gateway whose disk confirms what it does not keep loses what it acknowledged, and is found out.
#[test]
fn a_disk_that_lies_is_found_out() {
    let found_out = |seed: &u64| {
        let options = Options {
            lying_disks: true,
            ..Options::of(*seed)
        };
        run(options).wrong.is_some()
    };
    assert!((1..10).any(|seed| found_out(&seed)));
}

/// In every CI run.
const SEEDS: u64 = 4;

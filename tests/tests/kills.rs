//! `kill -9` of the real agent and hub while devices publish: what was acknowledged is at the hub, once.

use std::time::Duration;

use sedge_tests::random::Random;
use sedge_tests::rig::device::{Device, Habit, Told};
use sedge_tests::rig::ledger::settle;
use sedge_tests::rig::site::{Setup, Site};
use sedge_tests::rig::{alone, chance, tell, times};

/// Four devices publish, two of them the same payload every time. Two hundred times (`SEDGE_KILLS`) one end is killed, or both at once, a third of the
/// times within 50 ms of its start, so also while it recovers. In the end everything that a device was told is on disk is at the hub, in order, and nothing
/// is there more often than it was published: a redelivery with DUP made no copy, equal payloads were no reason to drop one.
#[test]
fn two_hundred_kills_lose_nothing_and_copy_nothing() {
    let _alone = alone();
    let mut chance = chance("two_hundred_kills_lose_nothing_and_copy_nothing");
    let site = Site::new(Setup {
        inflight_max: WINDOW_MAX,
        ..Setup::default()
    });
    let (mut agent, mut hub) = (site.start_agent(), site.start_hub());
    site.wait_for_agent();
    let devices = four_devices(&site);
    for device in &devices {
        device.wait_for_a_run(WINDOW_MAX, SETTLE_WITHIN);
    }

    let kills = times("SEDGE_KILLS", KILLS);
    for _ in 0..kills {
        std::thread::sleep(a_life(&mut chance));
        match chance.below(6) {
            0 => {
                agent.kill();
                hub.kill();
                (agent, hub) = (site.start_agent(), site.start_hub());
            }
            1 | 2 => {
                hub.kill();
                hub = site.start_hub();
            }
            _ => {
                agent.kill();
                agent = site.start_agent();
            }
        }
    }

    let told: Vec<Told> = devices
        .into_iter()
        .map(|device| device.finish(SETTLE_WITHIN))
        .collect();
    let sent = told.iter().map(|told| told.fresh.len() as u64).sum();
    let pulled = site.pull_all(sent, SETTLE_WITHIN);
    pulled.assert_dense();
    let balance = settle(&told, &pulled);
    assert_eq!(
        balance.acked, sent,
        "every publish was acknowledged in the end"
    );
    assert_eq!(
        told.iter().map(|told| told.sessions_lost).sum::<u64>(),
        0,
        "no session was forgotten"
    );
    assert_eq!(pulled.lost(), 0, "nothing was evicted");
    tell(&format!(
        "{kills} kills: {balance:?}, {} redeliveries",
        told.iter().map(|told| told.redelivered).sum::<u64>()
    ));
    agent.terminate(STOP_WITHIN);
    hub.terminate(STOP_WITHIN);
}

/// Killed over and over with nothing to do, the agent takes no space: not one event of before is evicted.
#[test]
fn kills_without_input_evict_nothing() {
    let _alone = alone();
    let site = Site::new(Setup {
        capacity: "4MiB".into(),
        ..Setup::default()
    });
    let mut agent = site.start_agent();
    let told = Device::start(Habit {
        count: 2_000,
        ..Habit::new(site.devices, "only")
    })
    .finish_count(SETTLE_WITHIN);
    for _ in 0..IDLE_KILLS {
        site.wait_for_agent();
        agent.kill();
        agent = site.start_agent();
    }
    let _hub = site.start_hub();
    let pulled = site.pull_all(2_000, SETTLE_WITHIN);
    pulled.assert_dense();
    assert_eq!(settle(&[told], &pulled).pulled, 2_000);
    assert_eq!(pulled.lost(), 0);
    agent.terminate(STOP_WITHIN);
}

fn four_devices(site: &Site) -> Vec<Device> {
    let device = |name: &str, constant| {
        let habit = Habit::new(site.devices, name);
        Device::start(Habit {
            constant,
            in_flight: 10,
            rest: Duration::from_millis(10),
            ..habit
        })
    };
    vec![
        device("unique-1", false),
        device("unique-2", false),
        device("same-1", true),
        device("same-2", true),
    ]
}

/// How long a program lives before it is killed.
fn a_life(chance: &mut Random) -> Duration {
    let longest = if chance.one_in(3) { 50 } else { 500 };
    Duration::from_millis(chance.below(longest))
}

const KILLS: u64 = 200;
const IDLE_KILLS: u32 = 100;
const WINDOW_MAX: u16 = 16;
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(2);

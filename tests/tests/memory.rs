//! The real agent and hub within the memory that the documentation names, with a backlog in many partitions; and with so little that the kernel kills them.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use sedge_tests::rig::device::{Device, Habit, Told};
use sedge_tests::rig::ledger::settle;
use sedge_tests::rig::memory::MemoryLimit;
use sedge_tests::rig::site::{Setup, Site};
use sedge_tests::rig::{alone, chance, skip, tell};

/// 48,000 events wait in sixteen partitions. Agent and hub, each within the limit that the documentation gives for it, drain them while more come. The
/// kernel kills neither.
#[test]
fn a_backlog_in_many_partitions_drains_within_the_memory_that_is_promised() {
    let name = "a_backlog_in_many_partitions_drains_within_the_memory_that_is_promised";
    let _alone = alone();
    let limits =
        MemoryLimit::of(AGENT_KIB).and_then(|agent| Ok((agent, MemoryLimit::of(HUB_KIB)?)));
    let (agents, hubs) = match limits {
        Ok(limits) => limits,
        Err(missing) => return skip(name, &missing),
    };
    let site = Site::new(Setup {
        partitions: PARTITIONS,
        capacity: "8MiB".into(),
        ..Setup::default()
    });
    let agent = site.start_as_agent(&mut agents.around(&site.agent_command()));
    site.wait_for_agent();
    let mut told = fill(&site, "backlog");
    // The backlog is read from the disk, not from what is left in memory.
    agent.kill();
    let agent = site.start_as_agent(&mut agents.around(&site.agent_command()));
    site.wait_for_agent();
    let began = Instant::now();
    let hub = site.start_as_hub(&mut hubs.around(&site.hub_command()));
    told.extend(fill(&site, "more"));
    let accepted = told.iter().map(Told::acked_count).sum();
    let pulled = site.pull_all(accepted, SETTLE_WITHIN);
    pulled.assert_dense();
    assert_eq!(pulled.lost(), 0, "{:?}", pulled.gaps);
    settle(&told, &pulled);
    assert_eq!((agents.killed(), hubs.killed()), (0, 0));
    tell(&format!(
        "{accepted} events in {PARTITIONS} partitions, {:.1?}: the agent had at most {} KiB, the hub {} KiB",
        began.elapsed(),
        agent.most_memory(),
        hub.most_memory()
    ));
    agent.terminate(STOP_WITHIN);
    hub.terminate(STOP_WITHIN);
}

/// With any absurd amount of memory the kernel kills agent or hub, at the start or under load, sooner or later or not at all. What was acknowledged is there
/// when they have enough again.
#[test]
fn who_is_killed_for_want_of_memory_has_what_it_acknowledged() {
    let name = "who_is_killed_for_want_of_memory_has_what_it_acknowledged";
    let _alone = alone();
    let mut chance = chance(name);
    if let Err(missing) = MemoryLimit::of(AGENT_KIB) {
        return skip(name, &missing);
    }
    let site = Site::new(Setup {
        inflight_max: WINDOW_MAX,
        ..Setup::default()
    });
    let (mut agent, mut hub) = (site.start_agent(), site.start_hub());
    site.wait_for_agent();
    let habit = Habit::new(site.devices, "only");
    let device = Device::start(Habit {
        in_flight: 8,
        payload_bytes: 1_000,
        ..habit
    });
    device.wait_for_a_run(WINDOW_MAX, SETTLE_WITHIN);
    let (mut killed, mut under_load) = (0, 0);
    for life in 0..LIVES {
        let limit = MemoryLimit::of(LEAST_KIB + chance.below(MOST_KIB - LEAST_KIB));
        let limit = limit.expect("it could be made a moment ago");
        let before = device.acked();
        let mut poor = if life % 2 == 0 {
            agent.kill_now();
            site.start_as_agent(&mut limit.around(&site.agent_command()))
        } else {
            hub.kill_now();
            site.start_as_hub(&mut limit.around(&site.hub_command()))
        };
        let deadline = Instant::now() + LIFE_MAX;
        while poor.exit_status().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Some(status) = poor.exit_status() {
            let printed = poor.printed();
            assert_eq!(status.signal(), Some(SIGKILL), "{status}: {printed}");
            killed += limit.killed();
            under_load += u64::from(device.acked() > before);
        }
        drop(poor);
        if life % 2 == 0 {
            agent = site.start_agent();
            site.wait_for_agent();
        } else {
            hub = site.start_hub();
            site.wait_for_hub();
        }
    }
    assert!(killed > 0, "no amount was too little");

    let told = device.finish(SETTLE_WITHIN);
    let sent = told.fresh.len() as u64;
    let pulled = site.pull_all(sent, SETTLE_WITHIN);
    pulled.assert_dense();
    assert_eq!(pulled.lost(), 0, "{:?}", pulled.gaps);
    let balance = settle(&[told], &pulled);
    tell(&format!(
        "{LIVES} lives, {killed} killed for want of memory, {under_load} of them while events came: {balance:?}"
    ));
    agent.terminate(STOP_WITHIN);
    hub.terminate(STOP_WITHIN);
}

fn fill(site: &Site, name: &str) -> Vec<Told> {
    let device = |number: u64| {
        let habit = Habit::new(site.devices, &format!("{name}-{number}"));
        Device::start(Habit {
            count: EVENTS_A_DEVICE,
            in_flight: 100,
            rest: Duration::ZERO,
            payload_bytes: 500,
            ..habit
        })
    };
    let devices: Vec<Device> = (0..DEVICES).map(device).collect();
    devices
        .into_iter()
        .map(|device| device.finish_count(SETTLE_WITHIN))
        .collect()
}

const PARTITIONS: u16 = 16;
const DEVICES: u64 = 24;
const EVENTS_A_DEVICE: u64 = 2_000;
/// What docs/guide/operations.md says.
const AGENT_KIB: u64 = 40 << 10;
const HUB_KIB: u64 = 64 << 10;
const LIVES: u64 = 16;
const LEAST_KIB: u64 = 512;
const MOST_KIB: u64 = 8 << 10;
const LIFE_MAX: Duration = Duration::from_millis(1_500);
const WINDOW_MAX: u16 = 16;
const SETTLE_WITHIN: Duration = Duration::from_secs(90);
const STOP_WITHIN: Duration = Duration::from_secs(10);
const SIGKILL: i32 = 9;

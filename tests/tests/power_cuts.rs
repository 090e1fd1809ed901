//! Power cuts of a real ext4 under the real agent: the image of the disk is copied while not one instruction of the agent runs, and
//! everything that a device had been told is on disk is in the copy.

use std::time::{Duration, Instant};

use sedge_tests::rig::device::{Device, Habit, Told};
use sedge_tests::rig::ledger::settle;
use sedge_tests::rig::scratch::Ext4;
use sedge_tests::rig::site::{Setup, Site};
use sedge_tests::rig::write_log::LoggedExt4;
use sedge_tests::rig::{alone, chance, skip, tell, times};

/// The agent is frozen (SIGSTOP) at a random moment under load and the device's image is copied: what its file system had only in memory is not in
/// it. An agent started on the copy, with a new hub, brings every event that had its PUBACK, and no copy.
#[test]
fn every_acknowledged_event_is_there_after_power_cuts() {
    let _alone = alone();
    let mut chance = chance("every_acknowledged_event_is_there_after_power_cuts");
    let disk = match Ext4::create(DISK_MIB) {
        Ok(disk) => disk,
        Err(missing) => {
            return skip(
                "every_acknowledged_event_is_there_after_power_cuts",
                &missing,
            );
        }
    };
    let site = Site::new(Setup {
        agent_data: Some(disk.path().join("agent")),
        ..Setup::default()
    });
    let agent = site.start_agent();
    site.wait_for_agent();
    let devices = [
        start_device(&site, "burst", 100, 5),
        start_device(&site, "drip", 1, 2),
    ];

    let mut acked = 0;
    let cuts = times("SEDGE_POWER_CUTS", COPIES);
    for _ in 0..cuts {
        std::thread::sleep(Duration::from_millis(10 + chance.below(200)));
        agent.freeze();
        let cut = disk
            .as_after_power_cut()
            .expect("the disk of a power cut can be mounted");
        // PUBACKs still on their way were sent before the freeze, so they count as told.
        std::thread::sleep(Duration::from_millis(50));
        let told: Vec<Told> = devices.iter().map(Device::told).collect();
        acked = bring_up(&cut, &told);
        agent.thaw();
    }

    tell(&format!(
        "{cuts} power cuts, {acked} events acknowledged before the last"
    ));
    let _told = devices.map(|device| device.finish(SETTLE_WITHIN));
    agent.terminate(STOP_WITHIN);
}

/// Every write and flush of the device is logged while devices publish. Afterwards the power is cut at random places of that log: what was flushed is
/// kept, of the writes after it any sectors. An event whose PUBACK a device had before the log reached that place is there.
#[test]
fn every_acknowledged_event_is_there_whatever_the_device_had_not_flushed() {
    let _alone = alone();
    let test = "every_acknowledged_event_is_there_whatever_the_device_had_not_flushed";
    let mut chance = chance(test);
    let disk = match LoggedExt4::create(DISK_MIB) {
        Ok(disk) => disk,
        Err(missing) => return skip(test, &missing),
    };
    let site = Site::new(Setup {
        agent_data: Some(disk.path().join("agent")),
        capacity: "8MiB".into(),
        ..Setup::default()
    });
    let agent = site.start_agent();
    site.wait_for_agent();
    let devices = [
        start_device(&site, "burst", 50, 5),
        start_device(&site, "drip", 1, 2),
    ];
    let begun = Instant::now();
    let mut timeline = Vec::new();
    while begun.elapsed() < LOGGED_FOR {
        // What is told is older than the place: the log may only be ahead.
        let acked = devices.each_ref().map(Device::acked);
        timeline.push((disk.entries(), acked));
        std::thread::sleep(Duration::from_millis(5));
    }
    let told = devices.map(|device| device.finish(SETTLE_WITHIN));
    agent.terminate(STOP_WITHIN);

    let (begin, end) = (timeline[0].0, timeline[timeline.len() - 1].0);
    let cuts = times("SEDGE_POWER_CUTS", REPLAYS);
    for _ in 0..cuts {
        let place = begin + chance.below(end - begin);
        let known = timeline.partition_point(|(entries, _)| *entries <= place) - 1;
        let mut told = told.clone();
        for (told, acked) in told.iter_mut().zip(timeline[known].1) {
            // PUBACKs come in order, so their count tells which.
            told.acked
                .iter_mut()
                .skip(acked as usize)
                .for_each(|acked| *acked = false);
        }
        let cut = disk
            .after_power_cut(place, &mut chance)
            .expect("the disk of a power cut can be mounted");
        bring_up(&cut, &told);
    }
    tell(&format!(
        "{cuts} power cuts between {begin} and {end} writes and flushes"
    ));
}

/// Starts an agent on what the cut left, and a hub that has nothing. Returns how many events had been acknowledged.
fn bring_up(cut: &Ext4, told: &[Told]) -> u64 {
    let site = Site::new(Setup {
        agent_data: Some(cut.path().join("agent")),
        ..Setup::default()
    });
    let (agent, hub) = (site.start_agent(), site.start_hub());
    let acked = told.iter().map(Told::acked_count).sum();
    let pulled = site.pull_all(acked, SETTLE_WITHIN);
    pulled.assert_dense();
    assert_eq!(pulled.lost(), 0);
    let balance = settle(told, &pulled);
    assert_eq!(balance.acked, acked);
    hub.kill();
    agent.kill();
    acked
}

fn start_device(site: &Site, name: &str, in_flight: usize, rest_ms: u64) -> Device {
    let habit = Habit::new(site.devices, name);
    Device::start(Habit {
        in_flight,
        rest: Duration::from_millis(rest_ms),
        ..habit
    })
}

/// Together a hundred; `SEDGE_POWER_CUTS` says another number for either.
const COPIES: u64 = 25;
const REPLAYS: u64 = 75;
const LOGGED_FOR: Duration = Duration::from_secs(4);
const DISK_MIB: u64 = 160;
const SETTLE_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(2);

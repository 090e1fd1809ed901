//! How the programs behave towards those who run them: stopping, being started twice, a disk that is full.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use sedge_tests::rig::device::{Device, Habit, Told};
use sedge_tests::rig::ledger::settle;
use sedge_tests::rig::scratch::Ext4;
use sedge_tests::rig::site::{Setup, Site, start_agent_with};
use sedge_tests::rig::{alone, skip};

/// SIGTERM under load: the agent commits, acknowledges, and is gone with exit code 0 within two seconds; so is the hub. What had been acknowledged is there
/// after the next start, and what had not is sent again.
#[test]
fn sigterm_ends_agent_and_hub_within_two_seconds() {
    let _alone = alone();
    let site = Site::new(Setup::default());
    let (agent, hub) = (site.start_agent(), site.start_hub());
    site.wait_for_agent();
    let device = Device::start(Habit {
        in_flight: 100,
        ..Habit::new(site.devices, "busy")
    });
    sedge_tests::rig::eventually(SETTLE_WITHIN, "the device is at work", || {
        (device.acked() > 1_000).then_some(())
    });

    assert_eq!(agent.terminate(STOP_WITHIN).code(), Some(0));
    assert_eq!(hub.terminate(STOP_WITHIN).code(), Some(0));

    let (agent, hub) = (site.start_agent(), site.start_hub());
    let told = device.finish(SETTLE_WITHIN);
    let pulled = site.pull_all(told.fresh.len() as u64, SETTLE_WITHIN);
    pulled.assert_dense();
    settle(&[told], &pulled);
    agent.terminate(STOP_WITHIN);
    hub.terminate(STOP_WITHIN);
}

/// A second agent on the same directory refuses, says who has it, and does not disturb the first.
#[test]
fn a_second_agent_on_one_directory_is_told_who_has_it() {
    let _alone = alone();
    let site = Site::new(Setup::default());
    let agent = site.start_agent();
    site.wait_for_agent();

    let mut second = start_agent_with(&site.agent_toml(), &site.file("second.log"));
    let status = second.wait(SETTLE_WITHIN);
    assert!(!status.success(), "it should have refused");
    assert!(
        second.printed().contains(&agent.pid().to_string()),
        "no pid of the first in: {}",
        second.printed()
    );

    let told = Device::start(Habit {
        count: 100,
        ..Habit::new(site.devices, "calm")
    })
    .finish_count(SETTLE_WITHIN);
    assert_eq!(told.acked_count(), 100);
    agent.terminate(STOP_WITHIN);
}

/// The agent's disk is smaller than its capacity, and then somebody else fills what is left of it. It starts, goes on acknowledging, and evicts within what it has:
/// accepted = pulled + lost.
#[test]
fn a_full_disk_under_the_agent_costs_only_what_is_told() {
    let _alone = alone();
    let disk = match Ext4::create(SMALL_DISK_MIB) {
        Ok(disk) => disk,
        Err(missing) => {
            return skip(
                "a_full_disk_under_the_agent_costs_only_what_is_told",
                &missing,
            );
        }
    };
    let agent_data = Some(disk.path().join("agent"));
    let site = Site::new(Setup {
        capacity: "256MiB".into(),
        agent_data,
        ..Setup::default()
    });
    let agent = site.start_agent();
    site.wait_for_agent();
    fill(&disk.path());

    let told = publish_kibibytes(&site, 60 * 1024);
    let hub = site.start_hub();
    let pulled = site.pull_all(told.acked_count(), SETTLE_WITHIN);
    pulled.assert_dense();
    assert_eq!(
        pulled.events.len() as u64 + pulled.lost(),
        told.acked_count(),
        "accepted = pulled + lost"
    );
    agent.terminate(STOP_WITHIN);
    hub.terminate(STOP_WITHIN);
}

/// The hub's disk is full before the backlog has arrived. It goes on serving and taking: what it cannot hold is told by gaps or still waits at the
/// gateway, and nothing is counted twice.
#[test]
fn a_full_disk_under_the_hub_loses_nothing_silently() {
    let _alone = alone();
    let disk = match Ext4::create(SMALL_DISK_MIB) {
        Ok(disk) => disk,
        Err(missing) => return skip("a_full_disk_under_the_hub_loses_nothing_silently", &missing),
    };
    let hub_data = Some(disk.path().join("hub"));
    let site = Site::new(Setup {
        capacity: "256MiB".into(),
        hub_data,
        ..Setup::default()
    });
    let (agent, hub) = (site.start_agent(), site.start_hub());
    site.wait_for_agent();

    let told = publish_kibibytes(&site, 60 * 1024);
    let pulled = site.pull().expect("a full hub still serves");
    pulled.assert_dense();
    assert!(!pulled.events.is_empty());
    assert!(pulled.events.len() as u64 + pulled.lost() <= told.acked_count());
    agent.terminate(STOP_WITHIN);
    hub.terminate(STOP_WITHIN);
}

fn publish_kibibytes(site: &Site, count: u64) -> Told {
    let habit = Habit {
        in_flight: 200,
        rest: Duration::ZERO,
        ..Habit::new(site.devices, "big")
    };
    Device::start(Habit {
        count,
        payload_bytes: 1024,
        ..habit
    })
    .finish_count(SETTLE_WITHIN)
}

/// Takes every free byte of the disk at `folder`.
fn fill(folder: &Path) {
    let mut file = File::create(folder.join("somebody-elses")).expect("a file");
    for bytes in [1 << 20, 4096, 1] {
        let piece = vec![0x55; bytes];
        while file.write_all(&piece).is_ok() {}
    }
}

const SMALL_DISK_MIB: u64 = 48;
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(2);

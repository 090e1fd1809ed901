//! How the programs behave towards those who run them: stopping, being started twice, a disk that is full.

use std::time::Duration;

use sedge_tests::rig::daemon::Daemon;
use sedge_tests::rig::device::{Device, Habit, Told};
use sedge_tests::rig::ledger::settle;
use sedge_tests::rig::scratch::{Ballast, Ext4};
use sedge_tests::rig::site::{Setup, Site, start_agent_with};
use sedge_tests::rig::{alone, eventually, skip};

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
    eventually(SETTLE_WITHIN, "the device is at work", || {
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
    let _ballast = Ballast::leaving(0, &disk.path());

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

/// The disk is full before the agent's first start, but for a few MiB: its log needs three segments of 4 MiB. It is up, says everywhere that it takes nothing
/// and why, and stops when it is told to. When somebody makes room it takes events without being started again, and nothing that it acknowledged is missing.
#[test]
fn an_agent_without_room_for_its_log_is_up_and_takes_events_when_there_is_some() {
    let story = "an_agent_without_room_for_its_log_is_up_and_takes_events_when_there_is_some";
    let _alone = alone();
    let disk = match Ext4::create(SMALL_DISK_MIB) {
        Ok(disk) => disk,
        Err(missing) => return skip(story, &missing),
    };
    let ballast = Ballast::leaving(6 << 10, &disk.path());
    let site = Site::new(Setup {
        capacity: "256MiB".into(),
        agent_data: Some(disk.path().join("agent")),
        ..Setup::default()
    });

    let device = Device::start(Habit {
        count: 5_000,
        ..Habit::new(site.devices, "patient")
    });
    for life in 1..=2 {
        let agent = site.start_agent();
        site.wait_for_agent();
        eventually(SETTLE_WITHIN, "the device is connected", || {
            (site.status()["sources"][0]["clients"] == 1).then_some(())
        });
        let refused = &site.status()["streams"][0]["partitions"][0]["refused"];
        let refused = refused.as_str().expect("why nothing is taken").to_owned();
        assert!(refused.starts_with("the disk has room for "), "{refused}");
        let said = "stream telemetry: the disk has room for ";
        assert!(site.page("/healthz").starts_with(&format!("ok\n{said}")));
        let metric = "sedge_stream_intake_refused{stream=\"telemetry\",partition=\"0\"} 1";
        assert!(site.page("/metrics").lines().any(|line| line == metric));
        eventually(SETTLE_WITHIN, "it is in the log", || {
            (agent.printed().matches(said).count() == life).then_some(())
        });
        let turned_away = site.push("1\n");
        let told = String::from_utf8_lossy(&turned_away.stderr).into_owned();
        assert_eq!(turned_away.status.code(), Some(69), "{told}");
        assert!(told.contains(said), "{told}");
        assert_eq!(agent.terminate(STOP_WITHIN).code(), Some(0));
    }

    let (agent, hub) = (site.start_agent(), site.start_hub());
    site.wait_for_agent();
    assert_eq!(device.acked(), 0, "nothing can have been on disk");
    ballast.remove();
    let told = device.finish_count(SETTLE_WITHIN);
    assert_eq!(told.acked_count(), 5_000);
    let partition = &site.status()["streams"][0]["partitions"][0];
    assert!(partition["refused"].is_null(), "{partition}");
    assert_eq!(site.page("/healthz"), "ok\n");
    let pulled = site.pull_all(5_000, SETTLE_WITHIN);
    pulled.assert_dense();
    settle(&[told], &pulled);
    agent.terminate(STOP_WITHIN);
    hub.terminate(STOP_WITHIN);
}

/// Not even a directory can be made. The agent waits and says so; it stops when it is told to, and begins when there is room.
#[test]
fn an_agent_on_a_disk_without_a_byte_waits_until_there_is_one() {
    let _alone = alone();
    let disk = match Ext4::create(SMALL_DISK_MIB) {
        Ok(disk) => disk,
        Err(missing) => {
            return skip(
                "an_agent_on_a_disk_without_a_byte_waits_until_there_is_one",
                &missing,
            );
        }
    };
    let ballast = Ballast::leaving(0, &disk.path());
    let site = Site::new(Setup {
        capacity: "16MiB".into(),
        agent_data: Some(disk.path().join("agent")),
        ..Setup::default()
    });
    let waits = |agent: &Daemon, times: usize| {
        eventually(SETTLE_WITHIN, "it says that it waits", || {
            let said = agent.printed();
            (said.matches("no room for the directory").count() == times).then_some(())
        });
    };
    let agent = site.start_agent();
    waits(&agent, 1);
    assert_eq!(agent.terminate(STOP_WITHIN).code(), Some(0));

    let agent = site.start_agent();
    waits(&agent, 2);
    ballast.remove();
    site.wait_for_agent();
    let pushed = site.push("1\n");
    assert_eq!(pushed.status.code(), Some(0));
    assert_eq!(agent.terminate(STOP_WITHIN).code(), Some(0));
}

/// Three lives end with a kill while the hub is away, and each burns offsets when the next begins. What the operator sees is how many events
/// wait, and none once the hub has them.
#[test]
fn a_backlog_of_killed_lives_is_shown_in_events_and_drains_to_none() {
    let _alone = alone();
    let site = Site::new(Setup::default());
    let mut told = Vec::new();
    for life in 0..3 {
        let agent = site.start_agent();
        site.wait_for_agent();
        let device = Device::start(Habit {
            count: 500,
            ..Habit::new(site.devices, &format!("life-{life}"))
        });
        told.push(device.finish_count(SETTLE_WITHIN));
        agent.kill();
    }
    let agent = site.start_agent();
    site.wait_for_agent();
    let lags = || {
        let status = site.status();
        let partition = &status["streams"][0]["partitions"][0];
        let uplink = &status["uplinks"][0];
        (partition["lag"].as_u64(), uplink["lag"].as_u64())
    };
    assert_eq!(lags(), (Some(1_500), Some(1_500)));
    assert_eq!(site.status()["streams"][0]["partitions"][0]["held"], 1_500);
    let metric = "sedge_uplink_lag_events{uplink=\"hq\"} 1500";
    assert!(site.page("/metrics").lines().any(|line| line == metric));
    let hub = site.start_hub();
    eventually(SETTLE_WITHIN, "the hub has everything", || {
        (lags() == (Some(0), Some(0))).then_some(())
    });
    settle(&told, &site.pull_all(1_500, SETTLE_WITHIN));
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

const SMALL_DISK_MIB: u64 = 48;
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(2);

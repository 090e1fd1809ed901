//! The hub is away for long: with room for everything nothing is missing, without room the ledger says exactly what is.

use std::time::{Duration, Instant};

use sedge_tests::rig::device::{Device, Habit, Told};
use sedge_tests::rig::ledger::settle;
use sedge_tests::rig::pull::Pulled;
use sedge_tests::rig::site::{Setup, Site};
use sedge_tests::rig::{alone, eventually, tell};

/// 200,000 events are accepted while the hub is down, and fit. When it comes up, all of them are there, and no gap is.
#[test]
fn an_outage_that_fits_is_carried_over_complete() {
    let _alone = alone();
    let (told, pulled) = outage("64MiB");
    assert_eq!(settle(&told, &pulled).pulled, EVENTS);
    assert_eq!(pulled.lost(), 0);
    assert_eq!(pulled.gaps.len(), 0);
}

/// The same with room for a tenth. What is missing is the oldest, and the gaps count it exactly.
#[test]
fn an_outage_that_does_not_fit_is_told_to_the_event() {
    let _alone = alone();
    let (told, pulled) = outage("4MiB");
    let accepted: u64 = told.iter().map(Told::acked_count).sum();
    assert_eq!(accepted, EVENTS);
    assert_eq!(
        pulled.events.len() as u64 + pulled.lost(),
        accepted,
        "accepted = pulled + lost"
    );
    assert!(
        pulled.lost() > EVENTS / 4,
        "4 MiB cannot have held three quarters"
    );
    assert!(
        pulled.gaps.iter().all(|gap| gap.cause == "evicted"),
        "{:?}",
        pulled.gaps
    );
    for device in &told {
        let newest = pulled
            .events
            .iter()
            .rev()
            .find(|event| event.topic == device.topic);
        let newest = newest.and_then(|event| event.value["n"].as_u64());
        assert_eq!(
            newest,
            Some(device.fresh.len() as u64 - 1),
            "the newest of {} is kept",
            device.topic
        );
    }
}

/// An agent killed with 1 GiB of backlog takes and acknowledges events again within a second of its start.
#[test]
fn a_gibibyte_of_backlog_does_not_delay_a_restart() {
    let _alone = alone();
    let site = Site::new(Setup {
        capacity: "1200MiB".into(),
        ..Setup::default()
    });
    let agent = site.start_agent();
    site.wait_for_agent();
    let each = GIB / BIG_EVENTS;
    let fill = |name: &str| {
        let habit = Habit {
            in_flight: 64,
            rest: Duration::ZERO,
            payload_bytes: each as usize,
            ..Habit::new(site.devices, name)
        };
        Device::start(Habit {
            count: BIG_EVENTS / 2,
            ..habit
        })
    };
    let fillers = [fill("big-1"), fill("big-2")];
    let _filled = fillers.map(|device| device.finish_count(Duration::from_secs(180)));
    agent.kill();

    let begun = Instant::now();
    let agent = site.start_agent();
    let device = Device::start(Habit {
        count: 1,
        ..Habit::new(site.devices, "first")
    });
    let took = eventually(Duration::from_secs(30), "a PUBACK", || {
        (device.acked() == 1).then(|| begun.elapsed())
    });
    tell(&format!(
        "from the start of the agent to its first PUBACK with 1 GiB of backlog: {took:?}"
    ));
    assert!(
        took < Duration::from_secs(1),
        "{took:?} from the start to the first PUBACK"
    );
    agent.terminate(STOP_WITHIN);
}

/// Devices send all their events with the hub down; then it is started and everything is pulled.
fn outage(capacity: &str) -> (Vec<Told>, Pulled) {
    let site = Site::new(Setup {
        capacity: capacity.into(),
        ..Setup::default()
    });
    let agent = site.start_agent();
    site.wait_for_agent();
    let device = |number: u64| {
        let habit = Habit {
            in_flight: 250,
            rest: Duration::ZERO,
            ..Habit::new(site.devices, &format!("dev-{number}"))
        };
        Device::start(Habit {
            count: EVENTS / DEVICES,
            payload_bytes: 80,
            ..habit
        })
    };
    let devices: Vec<Device> = (0..DEVICES).map(device).collect();
    let told = devices
        .into_iter()
        .map(|device| device.finish_count(Duration::from_secs(120)))
        .collect();

    let hub = site.start_hub();
    let pulled = site.pull_all(EVENTS, Duration::from_secs(60));
    pulled.assert_dense();
    agent.terminate(STOP_WITHIN);
    hub.terminate(STOP_WITHIN);
    (told, pulled)
}

const EVENTS: u64 = 200_000;
const DEVICES: u64 = 4;
const GIB: u64 = 1 << 30;
const BIG_EVENTS: u64 = 1 << 16;
const STOP_WITHIN: Duration = Duration::from_secs(10);

//! Agent and hub under a service manager: they say that they are ready when they are, and the watchdog hears of them as long as they turn.

use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use sedge_tests::rig::calls::{can_inject, kill_slowed, slowed};
use sedge_tests::rig::device::{Device, Habit};
use sedge_tests::rig::manager::Manager;
use sedge_tests::rig::site::{Setup, Site};
use sedge_tests::rig::{alone, skip};

/// Listening is slow here: whoever says that it is ready before that is found out.
#[test]
fn whoever_is_ready_lets_everybody_in() {
    let name = "whoever_is_ready_lets_everybody_in";
    let _alone = alone();
    if let Err(missing) = can_inject() {
        return skip(name, &missing);
    }
    let site = Site::new(Setup::default());
    let manager = manager(&site.file("agent.notify"));
    let command = slowed(&site.agent_command(), "listen", 1, MOMENT);
    let agent = site.start_as_agent(&mut manager.manages(command));
    manager.waits_for("READY=1", SETTLE_WITHIN);
    for door in [site.devices, site.agent_http] {
        TcpStream::connect(door).expect("an open door");
    }
    assert_eq!(site.status()["sources"][0]["up"], true);
    agent.terminate(SETTLE_WITHIN);
    manager.waits_for("STOPPING=1", SETTLE_WITHIN);

    let manager = self::manager(&site.file("hub.notify"));
    let command = slowed(&site.hub_command(), "listen", 1, MOMENT);
    let hub = site.start_as_hub(&mut manager.manages(command));
    manager.waits_for("READY=1", SETTLE_WITHIN);
    for door in [site.hub, site.hub_http] {
        TcpStream::connect(door).expect("an open door");
    }
    hub.terminate(SETTLE_WITHIN);
    manager.waits_for("STOPPING=1", SETTLE_WITHIN);
}

/// There is no hub, which is no fault of the agent's: a restart would not bring it back.
#[test]
fn an_agent_without_its_hub_is_well() {
    let _alone = alone();
    let site = Site::new(Setup::default());
    let manager = manager(&site.file("notify"));
    let _agent = site.start_as_agent(&mut manager.manages(site.agent_command()));
    manager.waits_for("READY=1", SETTLE_WITHIN);
    let (longest, said) = manager.watches(4 * PERIOD);
    assert!(longest < PERIOD, "nothing for {longest:?}");
    let down = said.iter().any(|word| word.contains("DOWN"));
    assert!(down, "its status: {said:?}");
}

/// A sync of the agent's disk does not return. Nothing says so but that nothing is acknowledged any more, and the watchdog hears no more.
#[test]
fn an_agent_whose_disk_hangs_is_given_up() {
    let name = "an_agent_whose_disk_hangs_is_given_up";
    let _alone = alone();
    if let Err(missing) = can_inject() {
        return skip(name, &missing);
    }
    let site = Site::new(Setup::default());
    let manager = manager(&site.file("notify"));
    let command = slowed(&site.agent_command(), "fdatasync", SYNCS, FOR_EVER);
    let agent = site.start_as_agent(&mut manager.manages(command));
    manager.waits_for("READY=1", SETTLE_WITHIN);
    manager.waits_for("WATCHDOG=1", SETTLE_WITHIN);
    let _device = Device::start(Habit::new(site.devices, "only"));
    let said = manager.waits_for_silence(SETTLE_WITHIN);
    let named = said
        .iter()
        .any(|word| word.contains("the writer of telemetry/0 hangs"));
    assert!(named, "{said:?}");
    kill_slowed(agent);
}

/// A sync of the hub's disk does not return: the hub is given up, its gateway is not.
#[test]
fn a_hub_whose_disk_hangs_is_given_up_and_its_gateway_is_not() {
    let name = "a_hub_whose_disk_hangs_is_given_up_and_its_gateway_is_not";
    let _alone = alone();
    if let Err(missing) = can_inject() {
        return skip(name, &missing);
    }
    let site = Site::new(Setup::default());
    let (hubs, agents) = (
        manager(&site.file("hub.notify")),
        manager(&site.file("agent.notify")),
    );
    let command = slowed(&site.hub_command(), "fdatasync", SYNCS, FOR_EVER);
    let hub = site.start_as_hub(&mut hubs.manages(command));
    hubs.waits_for("READY=1", SETTLE_WITHIN);
    let _agent = site.start_as_agent(&mut agents.manages(site.agent_command()));
    agents.waits_for("READY=1", SETTLE_WITHIN);
    let _device = Device::start(Habit::new(site.devices, "only"));
    let said = hubs.waits_for_silence(SETTLE_WITHIN);
    let named = said.iter().any(|word| word.contains("a commit hangs"));
    assert!(named, "{said:?}");
    let (longest, _) = agents.watches(2 * PERIOD);
    assert!(longest < PERIOD, "nothing for {longest:?}");
    kill_slowed(hub);
}

fn manager(path: &Path) -> Manager {
    Manager::new(path, PERIOD)
}

/// Of the watchdog.
const PERIOD: Duration = Duration::from_secs(4);
const MOMENT: Duration = Duration::from_millis(300);
/// Longer than anybody here waits.
const FOR_EVER: Duration = Duration::from_secs(90);
/// As many syncs of a thread return: a start needs some.
const SYNCS: u32 = 40;
const SETTLE_WITHIN: Duration = Duration::from_secs(60);

//! A device on a serial line, and the real agent and hub: whoever is killed, each measurement arrives once and in order.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sedge::demo::device::{Cable, Device, Flash, Start};
use sedge_tests::rig::site::{Setup, Site};
use sedge_tests::rig::{alone, chance, eventually, tell};

/// A device measures without pause. Forty times the agent is killed, or the hub, or the device loses power, or its adapter is pulled out
/// and comes back under another name of the system. In the end the gateway has custody of every measurement, and the hub shows each
/// of them once, in the order in which they were made.
#[test]
fn measurements_arrive_once_and_in_order_whoever_is_killed() {
    let _alone = alone();
    let mut chance = chance("measurements_arrive_once_and_in_order_whoever_is_killed");
    let folder = tempfile::tempdir().expect("a directory");
    let port = folder.path().join("usb-boiler-if00");
    let site = site(&port);
    let (mut agent, mut hub) = (site.start_agent(), site.start_hub());
    let mut node = Node::new(port);
    for _ in 0..TROUBLES {
        node.measure(50);
        std::thread::sleep(Duration::from_millis(chance.below(300)));
        match chance.below(4) {
            0 => {
                agent.kill();
                agent = site.start_agent();
            }
            1 => {
                hub.kill();
                hub = site.start_hub();
            }
            2 => node.power_fails(),
            _ => node.adapter_is_pulled_out(),
        }
    }
    node.measure(50);
    node.wait_until_released();
    let pulled = site.pull_all(node.made, SETTLE_WITHIN);
    pulled.assert_dense();
    let seen: Vec<u64> = pulled
        .events
        .iter()
        .map(|event| event.value.as_u64().expect("a number"))
        .collect();
    assert_eq!(seen, (0..node.made).collect::<Vec<_>>());
    tell(&format!(
        "{TROUBLES} troubles: {} measurements, each once and in order",
        node.made
    ));
    agent.terminate(STOP_WITHIN);
    hub.terminate(STOP_WITHIN);
}

/// Stopped with a device in the middle of handing over, the agent says goodbye and is gone in time; the next one goes on.
#[test]
fn an_agent_stops_in_time_in_the_middle_of_a_hand_over() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a directory");
    let port = folder.path().join("usb-boiler-if00");
    let site = site(&port);
    let (agent, hub) = (site.start_agent(), site.start_hub());
    let mut node = Node::new(port);
    node.measure(3000);
    eventually(SETTLE_WITHIN, "the hand-over has begun", || {
        (node.device().custody().released > 0).then_some(())
    });
    assert!(agent.terminate(STOP_WITHIN).success());
    let agent = site.start_agent();
    node.wait_until_released();
    assert_eq!(
        site.pull_all(node.made, SETTLE_WITHIN).events.len() as u64,
        node.made
    );
    agent.terminate(STOP_WITHIN);
    hub.terminate(STOP_WITHIN);
}

fn site(port: &Path) -> Site {
    Site::new(Setup {
        more_tables: format!(
            "[[source]]\ntype = \"serial\"\nname = \"boiler\"\ndevice = \"{}\"\nprotocol = \"link\"\nstream = \"telemetry\"\n",
            port.display()
        ),
        ..Setup::default()
    })
}

/// A sensor node: a device, its chip, its cable, and the numbers that it has measured.
struct Node {
    flash: Flash,
    cable: Cable,
    device: Option<Device>,
    port: PathBuf,
    boots: u32,
    made: u64,
}

impl Node {
    fn new(port: PathBuf) -> Self {
        let cable = Cable::plug().expect("a terminal");
        let mut node = Self {
            flash: Flash::erased(),
            cable,
            device: None,
            port,
            boots: 0,
            made: 0,
        };
        node.enumerate();
        node.power_fails();
        node
    }

    fn device(&self) -> &Device {
        self.device.as_ref().expect("it has power")
    }

    fn measure(&mut self, count: u64) {
        for _ in 0..count {
            self.device().record(self.made.to_string().as_bytes());
            self.made += 1;
        }
    }

    fn power_fails(&mut self) {
        self.device = None;
        self.boots += 1;
        let start = Start {
            identity: "boiler-1".to_owned(),
            boot: self.boots,
            noise: None,
            clockless: false,
        };
        self.device = Some(Device::power_on(&self.flash, Some(&self.cable), &start));
    }

    fn adapter_is_pulled_out(&mut self) {
        self.device().unplug();
        self.cable = Cable::plug().expect("a terminal");
        self.enumerate();
        self.device().plug(&self.cable);
    }

    /// As udev does under `/dev/serial/by-id`.
    fn enumerate(&self) {
        std::fs::remove_file(&self.port).ok();
        std::os::unix::fs::symlink(self.cable.path(), &self.port).expect("a link");
    }

    fn wait_until_released(&self) {
        eventually(
            SETTLE_WITHIN,
            "the gateway has custody of everything",
            || {
                let custody = self.device().custody();
                (custody.released == custody.next).then_some(())
            },
        );
    }
}

const TROUBLES: u32 = 40;
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(2);

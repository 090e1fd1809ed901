//! The network between the real agent and the real hub goes wrong in every way that packets know: events go on, and when all is well again everything arrives,
//! once.

use std::time::{Duration, Instant};

use sedge_tests::random::Random;
use sedge_tests::rig::daemon::Daemon;
use sedge_tests::rig::device::{Device, Habit};
use sedge_tests::rig::ledger::settle;
use sedge_tests::rig::site::{Setup, Site};
use sedge_tests::rig::wire::{Way, Wire};
use sedge_tests::rig::{Missing, alone, chance, eventually, skip, tell, times};

/// Silence for longer than a session lives, in both directions or one, beside each other; and beside them one wire with all the shorter troubles
/// (`SEDGE_TROUBLES` for more rounds).
#[test]
fn whatever_becomes_of_the_packets_every_event_arrives_once() {
    let name = "whatever_becomes_of_the_packets_every_event_arrives_once";
    let _alone = alone();
    let mut chance = chance(name);
    let rounds = times("SEDGE_TROUBLES", 1);
    let mut stands = Vec::new();
    for troubles in SITES {
        match Stand::new() {
            Ok(stand) => stands.push((stand, troubles)),
            Err(missing) => return skip(name, &missing),
        }
    }
    std::thread::scope(|scope| {
        for (stand, troubles) in stands {
            let mut chance = Random::new(chance.bits());
            scope.spawn(move || {
                let mut troubles = troubles.to_vec();
                for _ in 0..rounds {
                    chance.shuffle(&mut troubles);
                    for trouble in &troubles {
                        stand.suffer(*trouble, &mut chance);
                    }
                }
                stand.settle(rounds);
            });
        }
    });
}

#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// Nothing comes through for longer than a session may be silent.
    Silence(Way),
    /// Three packets of ten are lost.
    Loss,
    /// A modem's 64 kbit/s.
    Trickle,
    /// Connections are reset, again and again.
    Resets,
    /// The plug is pulled and put back.
    Unplugged,
    /// Short silences.
    Blinks,
}

/// A gateway, a device that publishes all the time, and a hub at the end of a wire.
struct Stand {
    device: Device,
    agent: Daemon,
    hub: Daemon,
    site: Site,
    /// Goes last: the hub stands in it.
    wire: Wire,
}

impl Stand {
    fn new() -> Result<Self, Missing> {
        let wire = Wire::create()?;
        let (site, hub) = Site::beyond(&wire, Setup::default())?;
        let agent = site.start_agent();
        site.wait_for_agent();
        let habit = Habit::new(site.devices, "only");
        let device = Device::start(Habit {
            in_flight: 10,
            rest: Duration::from_millis(20),
            ..habit
        });
        Ok(Self {
            device,
            agent,
            hub,
            site,
            wire,
        })
    }

    fn suffer(&self, trouble: Trouble, chance: &mut Random) {
        eventually(AGAIN_WITHIN, "a session without backlog", || {
            self.is_connected().then_some(())
        });
        let (began, before) = (Instant::now(), self.device.acked());
        self.make(trouble, chance);
        let acked = self.device.acked() - before;
        assert!(acked > 0, "{trouble:?}: the agent goes on");
        let suffered = began.elapsed();

        self.wire.heal();
        let healed = Instant::now();
        let behind = self.device.acked();
        eventually(AGAIN_WITHIN, "what waited has arrived", || {
            (self.is_connected() && self.stored() >= behind).then_some(())
        });
        tell(&format!(
            "{trouble:?} for {suffered:.1?}: {acked} events meanwhile, there {:.1?} after",
            healed.elapsed()
        ));
    }

    fn make(&self, trouble: Trouble, chance: &mut Random) {
        let mut blink = |most| std::thread::sleep(Duration::from_millis(chance.below(most)));
        match trouble {
            Trouble::Silence(way) => {
                self.wire.swallow(way);
                let noticed = "the agent notices the silence";
                eventually(NOTICED_WITHIN, noticed, || {
                    (!self.is_connected()).then_some(())
                });
            }
            Trouble::Loss => {
                self.wire.lose(30);
                std::thread::sleep(A_WHILE);
            }
            Trouble::Trickle => {
                self.wire.throttle(64);
                std::thread::sleep(A_WHILE);
            }
            Trouble::Resets => {
                for _ in 0..BLINKS {
                    self.wire.reset();
                    blink(300);
                    self.wire.heal();
                    blink(300);
                }
            }
            Trouble::Unplugged => {
                self.wire.unplug();
                std::thread::sleep(A_WHILE);
            }
            Trouble::Blinks => {
                for _ in 0..BLINKS {
                    self.wire.swallow(Way::Both);
                    blink(600);
                    self.wire.heal();
                    blink(300);
                }
            }
        }
    }

    fn is_connected(&self) -> bool {
        self.site.status()["uplinks"][0]["up"] == true
    }

    /// Events that the uplink has handed over.
    fn stored(&self) -> u64 {
        let status = self.site.status();
        let waiting = status["uplinks"][0]["lag"].as_u64().expect("a lag");
        let taken = status["sources"][0]["settled"].as_u64().expect("a count");
        taken.saturating_sub(waiting)
    }

    fn settle(self, rounds: u64) {
        let told = self.device.finish(AGAIN_WITHIN);
        let sent = told.fresh.len() as u64;
        let pulled = self.site.pull_all(sent, AGAIN_WITHIN);
        pulled.assert_dense();
        let balance = settle(&[told], &pulled);
        assert_eq!(balance.acked, sent, "every publish was acknowledged");
        assert_eq!(pulled.lost(), 0, "nothing was evicted");
        tell(&format!("{rounds} rounds: {balance:?}"));
        self.agent.terminate(STOP_WITHIN);
        self.hub.terminate(STOP_WITHIN);
    }
}

const SITES: [&[Trouble]; 4] = [
    &[Trouble::Silence(Way::Both)],
    &[Trouble::Silence(Way::There)],
    &[Trouble::Silence(Way::Back)],
    &[
        Trouble::Loss,
        Trouble::Trickle,
        Trouble::Resets,
        Trouble::Unplugged,
        Trouble::Blinks,
    ],
];
const A_WHILE: Duration = Duration::from_secs(4);
const BLINKS: u32 = 8;
/// A session ends after 30 s of silence (custody.md, rule 7); where only one direction is silent, Pings of a third of that keep the other side for longer.
const NOTICED_WITHIN: Duration = Duration::from_secs(80);
const AGAIN_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(10);

//! The real agent or hub is stopped (SIGSTOP) at random moments, for a moment or for longer than a session lives, goes on or is killed where it
//! stands: the other side notices, nothing is lost, nothing is there twice.

use std::time::Duration;

use sedge_tests::random::Random;
use sedge_tests::rig::daemon::Daemon;
use sedge_tests::rig::device::{Device, Habit};
use sedge_tests::rig::ledger::settle;
use sedge_tests::rig::site::{Setup, Site};
use sedge_tests::rig::{alone, chance, eventually, tell, times};

/// Four sites at the same time, since most of it is waiting: at two the hub is stopped, at two the agent, and at one of each it is killed in the end.
/// First come short stops, of which nobody need notice anything, then one that outlasts the session (`SEDGE_STOPS` for more of these).
#[test]
fn whoever_is_stopped_and_goes_on_or_is_killed_nothing_is_lost_and_nothing_copied() {
    let _alone = alone();
    let mut chance =
        chance("whoever_is_stopped_and_goes_on_or_is_killed_nothing_is_lost_and_nothing_copied");
    let rounds = times("SEDGE_STOPS", 1);
    std::thread::scope(|scope| {
        for side in [Side::Agent, Side::Hub] {
            for end in [End::GoesOn, End::Killed] {
                let mut chance = Random::new(chance.bits());
                scope.spawn(move || {
                    let mut stand = Stand::new(side);
                    for _ in 0..rounds {
                        stand.stop_shortly(&mut chance);
                        stand.outlast_the_session(end, &mut chance);
                    }
                    stand.settle(end);
                });
            }
        }
    });
}

/// Which of the two is stopped.
#[derive(Clone, Copy, Debug)]
enum Side {
    Agent,
    Hub,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug)]
enum End {
    GoesOn,
    Killed,
}

/// A gateway with a device that publishes all the time, and a hub.
struct Stand {
    device: Device,
    agent: Daemon,
    hub: Daemon,
    side: Side,
    stops: u64,
    /// Goes last: what the programs printed is in it.
    site: Site,
}

impl Stand {
    fn new(side: Side) -> Self {
        let site = Site::new(Setup {
            inflight_max: WINDOW_MAX,
            ..Setup::default()
        });
        let (agent, hub) = (site.start_agent(), site.start_hub());
        site.wait_for_agent();
        let habit = Habit::new(site.devices, "only");
        let device = Device::start(Habit {
            in_flight: 8,
            rest: Duration::from_millis(10),
            ..habit
        });
        device.wait_for_a_run(WINDOW_MAX, SETTLE_WITHIN);
        Self {
            device,
            agent,
            hub,
            side,
            stops: 0,
            site,
        }
    }

    fn stop_shortly(&mut self, chance: &mut Random) {
        for _ in 0..SHORT_STOPS {
            std::thread::sleep(Duration::from_millis(chance.below(300)));
            self.stopped().freeze();
            std::thread::sleep(Duration::from_millis(chance.below(300)));
            let end = if chance.one_in(4) {
                End::Killed
            } else {
                End::GoesOn
            };
            self.end(end);
        }
    }

    fn outlast_the_session(&mut self, end: End, chance: &mut Random) {
        eventually(SETTLE_WITHIN, "a session", || {
            self.is_connected().then_some(())
        });
        std::thread::sleep(Duration::from_millis(chance.below(300)));
        let before = self.device.acked();
        self.stopped().freeze();
        eventually(NOTICED_WITHIN, "the other side notices", || {
            (!self.is_connected()).then_some(())
        });
        if matches!(self.side, Side::Hub) {
            assert!(self.device.acked() > before, "the agent goes on");
        }
        self.end(end);
        eventually(AGAIN_WITHIN, "they are together again", || {
            self.is_connected().then_some(())
        });
    }

    /// Whether the side that is not stopped believes in a session.
    fn is_connected(&self) -> bool {
        match self.side {
            Side::Agent => {
                let metrics = self.site.hub_page("/metrics");
                let gateways = metrics
                    .lines()
                    .find_map(|line| line.strip_prefix("sedge_hub_gateways "));
                gateways.expect("the hub counts its gateways") != "0"
            }
            Side::Hub => self.site.status()["uplinks"][0]["up"] == true,
        }
    }

    fn stopped(&self) -> &Daemon {
        match self.side {
            Side::Agent => &self.agent,
            Side::Hub => &self.hub,
        }
    }

    fn end(&mut self, end: End) {
        self.stops += 1;
        match (end, self.side) {
            (End::GoesOn, _) => self.stopped().thaw(),
            (End::Killed, Side::Agent) => {
                self.agent.kill_now();
                self.agent = self.site.start_agent();
                self.site.wait_for_agent();
            }
            (End::Killed, Side::Hub) => {
                self.hub.kill_now();
                self.hub = self.site.start_hub();
                self.site.wait_for_hub();
            }
        }
    }

    fn settle(self, end: End) {
        let told = self.device.finish(SETTLE_WITHIN);
        let sent = told.fresh.len() as u64;
        let pulled = self.site.pull_all(sent, SETTLE_WITHIN);
        pulled.assert_dense();
        let balance = settle(&[told], &pulled);
        assert_eq!(balance.acked, sent, "every publish was acknowledged");
        assert_eq!(pulled.lost(), 0, "nothing was evicted");
        tell(&format!(
            "{:?} stopped {} times, at last {end:?}: {balance:?}",
            self.side, self.stops
        ));
        self.agent.terminate(STOP_WITHIN);
        self.hub.terminate(STOP_WITHIN);
    }
}

const SHORT_STOPS: u32 = 20;
const WINDOW_MAX: u16 = 16;
/// A session ends after 30 s of silence (custody.md, rule 7).
const NOTICED_WITHIN: Duration = Duration::from_secs(60);
const AGAIN_WITHIN: Duration = Duration::from_secs(30);
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(10);

//! The wall clocks of the real agent and hub are wrong and jump while they run: no event is lost by it, retention takes no more than what looks older by the
//! hub's clock, and what was taken before the time was known is shown with the right one.

use std::time::Duration;

use sedge_tests::rig::clock::WallClock;
use sedge_tests::rig::daemon::Daemon;
use sedge_tests::rig::device::{Device, Habit, Told};
use sedge_tests::rig::ledger::settle;
use sedge_tests::rig::pull::Pulled;
use sedge_tests::rig::site::{Setup, Site};
use sedge_tests::rig::wire::Wire;
use sedge_tests::rig::{Missing, alone, chance, eventually, skip, tell};

/// Agent and hub begin in 1970, as a machine without a battery does. Their clocks, one by one or together, jump to the right time, a year back, ten years
/// forward, and by chance; some of the times one of the programs is killed and finds another time when it begins again.
#[test]
fn clocks_that_jump_cost_no_event() {
    let name = "clocks_that_jump_cost_no_event";
    let _alone = alone();
    let mut chance = chance(name);
    let mut stand = match Stand::new("36600d") {
        Ok(stand) => stand,
        Err(missing) => return skip(name, &missing),
    };
    stand.agent_clock.set_to(DAY);
    stand.hub_clock.set_to(DAY);
    stand.start();
    let device = stand.device("only", u64::MAX);
    let mut jumps: Vec<(bool, bool, Option<i64>)> = vec![
        (true, false, None),
        (false, true, None),
        (true, true, Some(-YEAR)),
        (true, true, Some(10 * YEAR)),
    ];
    for _ in 0..RANDOM_JUMPS {
        let seconds = chance.below(2 * YEAR as u64) as i64 - YEAR;
        jumps.push((chance.one_in(2), chance.one_in(2), Some(seconds)));
    }
    for (agents, hubs, seconds) in jumps {
        for (moved, clock) in [
            (agents, &mut stand.agent_clock),
            (hubs, &mut stand.hub_clock),
        ] {
            match seconds {
                Some(seconds) if moved => clock.jump(seconds),
                None if moved => clock.move_to(0),
                _ => {}
            }
        }
        stand.events_come_through(&device);
        match chance.below(4) {
            0 => stand.kill_agent(),
            1 => stand.kill_hub(),
            _ => {}
        }
        stand.events_come_through(&device);
    }

    let told = device.finish(SETTLE_WITHIN);
    let pulled = stand.site.pull_all(told.fresh.len() as u64, SETTLE_WITHIN);
    pulled.assert_dense();
    assert_eq!(pulled.lost(), 0, "{:?}", pulled.gaps);
    tell(&format!("clocks jumped: {:?}", settle(&[told], &pulled)));
    stand.stop();
}

/// A gateway without a battery starts in 1970, and its hub cannot be reached. What it takes has no time until the hub has told it what time it is; then it has
/// the time when it came.
#[test]
fn what_a_gateway_took_in_1970_is_shown_with_the_time_when_it_came() {
    let name = "what_a_gateway_took_in_1970_is_shown_with_the_time_when_it_came";
    let _alone = alone();
    let (wire, mut clock, mut site) = match behind_a_wire() {
        Ok(stand) => stand,
        Err(missing) => return skip(name, &missing),
    };
    let seen_at = wire.lead_to(site.hub).expect("the wire leads there");
    site.see_hub_at(seen_at);
    let start_hub = || {
        let hub = site.start_as_hub(&mut wire.inside(&site.hub_command()));
        site.wait_for_hub();
        hub
    };
    let hub = start_hub();
    site.enroll();
    hub.kill();
    clock.set_to(DAY);
    let agent = site.start_as_agent(&mut clock.for_program(&site.agent_command()));
    site.wait_for_agent();
    let before = now_s();
    assert!(site.push("1\n2\n3\n").status.success());
    let after = now_s();
    assert_eq!(site.status()["time"], serde_json::Value::Null);
    assert!(
        !site
            .page("/metrics")
            .contains("clock_trusted{by=\"hub\"} 1")
    );

    let hub = start_hub();
    eventually(SETTLE_WITHIN, "the hub tells the time", || {
        (site.status()["time"] == "hub").then_some(())
    });
    assert!(site.push("4\n").status.success());
    let pulled = site.pull_all(4, SETTLE_WITHIN);
    let times: Vec<i64> = pulled
        .events
        .iter()
        .map(|event| seconds(event.ingested.as_deref().expect("a time")))
        .collect();
    let within = before - HUB_SAYS_SECONDS..=after + HUB_SAYS_SECONDS;
    assert!(
        times[..3].iter().all(|time| within.contains(time)),
        "{times:?} {within:?}"
    );
    assert!(times.is_sorted());
    let marks: Vec<Option<&str>> = pulled
        .events
        .iter()
        .map(|event| event.clock.as_deref())
        .collect();
    assert_eq!(
        marks,
        [
            Some("corrected"),
            Some("corrected"),
            Some("corrected"),
            None
        ]
    );
    assert!(
        site.page("/metrics")
            .contains("clock_trusted{by=\"hub\"} 1")
    );
    for daemon in [agent, hub] {
        daemon.terminate(STOP_WITHIN);
    }
}

fn behind_a_wire() -> Result<(Wire, WallClock, Site), Missing> {
    let wire = Wire::create()?;
    let site = Site::new(Setup::default());
    let clock = WallClock::new(site.file("agent-clock"))?;
    Ok((wire, clock, site))
}

fn now_s() -> i64 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
    now.expect("a time of day").as_secs().cast_signed()
}

/// RFC 3339 in UTC.
fn seconds(text: &str) -> i64 {
    let time: jiff::Timestamp = text.parse().expect("RFC 3339");
    time.as_second()
}

/// What is kept is thirty days' by the hub's clock. A jump of twenty-nine days takes nothing, nor does a year back. Ten years forward makes everything look
/// old: whole segments go, each event of them is counted, and the newest segment stays. Nor does that change when the clock is right again.
#[test]
fn retention_takes_what_looks_older_by_the_hubs_clock_and_counts_it() {
    let name = "retention_takes_what_looks_older_by_the_hubs_clock_and_counts_it";
    let _alone = alone();
    let mut stand = match Stand::new("30d") {
        Ok(stand) => stand,
        Err(missing) => return skip(name, &missing),
    };
    stand.start();
    let mut told = Vec::new();
    for (round, jump) in [0, 29 * DAY, -YEAR].into_iter().enumerate() {
        stand.hub_clock.jump(jump);
        let device = stand.device(&format!("round-{round}"), EVENTS_A_ROUND);
        told.push(device.finish_count(SETTLE_WITHIN));
        // Retention is looked after when a hub starts, and every minute from then on.
        stand.kill_hub();
        let pulled = stand.pull(&told);
        assert_eq!(
            pulled.lost(),
            0,
            "after a jump of {jump} s: {:?}",
            pulled.gaps
        );
    }

    stand.hub_clock.jump(10 * YEAR);
    stand.kill_hub();
    let pulled = eventually(SETTLE_WITHIN, "what looks old goes", || {
        let pulled = stand.pull(&told);
        (pulled.lost() > EVENTS_A_ROUND).then_some(pulled)
    });
    let expired = pulled.gaps.iter().all(|gap| gap.cause == "expired");
    assert!(expired, "{:?}", pulled.gaps);
    let newest = pulled.events.last().map(|event| event.value["n"].as_u64());
    assert_eq!(newest, Some(Some(EVENTS_A_ROUND - 1)), "the newest stay");

    stand.hub_clock.move_to(0);
    let device = stand.device("afterwards", EVENTS_A_ROUND);
    told.push(device.finish_count(SETTLE_WITHIN));
    stand.kill_hub();
    let again = stand.pull(&told);
    let afterwards = again
        .events
        .iter()
        .filter(|event| event.topic == told[3].topic);
    assert_eq!(afterwards.count() as u64, EVENTS_A_ROUND);
    tell(&format!(
        "of {} events {} expired when the clock went ten years forward",
        3 * EVENTS_A_ROUND,
        pulled.lost()
    ));
    stand.stop();
}

/// An agent and a hub with clocks of their own.
struct Stand {
    agent: Option<Daemon>,
    hub: Option<Daemon>,
    agent_clock: WallClock,
    hub_clock: WallClock,
    /// Goes last: what the programs printed is in it.
    site: Site,
}

impl Stand {
    fn new(retention: &str) -> Result<Self, Missing> {
        let site = Site::new(Setup {
            inflight_max: WINDOW_MAX,
            retention: retention.into(),
            // Segments of a mebibyte.
            mirror_capacity: "64MiB".into(),
            ..Setup::default()
        });
        Ok(Self {
            agent: None,
            hub: None,
            agent_clock: WallClock::new(site.file("agent-clock"))?,
            hub_clock: WallClock::new(site.file("hub-clock"))?,
            site,
        })
    }

    fn start(&mut self) {
        let command = self.agent_clock.for_program(&self.site.agent_command());
        self.agent = Some(self.site.start_as_agent(&mut { command }));
        self.site.wait_for_agent();
        self.start_hub();
    }

    fn start_hub(&mut self) {
        let command = self.hub_clock.for_program(&self.site.hub_command());
        self.hub = Some(self.site.start_as_hub(&mut { command }));
        self.site.wait_for_hub();
    }

    fn kill_agent(&mut self) {
        self.agent.take().expect("it runs").kill();
        let command = self.agent_clock.for_program(&self.site.agent_command());
        self.agent = Some(self.site.start_as_agent(&mut { command }));
        self.site.wait_for_agent();
    }

    fn kill_hub(&mut self) {
        self.hub.take().expect("it runs").kill();
        self.start_hub();
    }

    fn device(&self, name: &str, count: u64) -> Device {
        let habit = Habit::new(self.site.devices, name);
        Device::start(Habit {
            count,
            in_flight: 10,
            payload_bytes: 1_000,
            ..habit
        })
    }

    /// Some hundred more events are acknowledged, and the hub has all of them.
    fn events_come_through(&self, device: &Device) {
        let enough = device.acked() + 200;
        eventually(SETTLE_WITHIN, "events are acknowledged", || {
            (device.acked() > enough).then_some(())
        });
        eventually(SETTLE_WITHIN, "the hub has what there was", || {
            let status = self.site.status();
            let waiting = status["uplinks"][0]["lag"].as_u64()?;
            let up = status["uplinks"][0]["up"] == true;
            (up && waiting < 200).then_some(())
        });
    }

    /// What consumers are shown of all that devices were told, when it is all accounted for.
    fn pull(&self, told: &[Told]) -> Pulled {
        let accepted = told.iter().map(Told::acked_count).sum();
        let pulled = self.site.pull_all(accepted, SETTLE_WITHIN);
        pulled.assert_dense();
        let count = pulled.events.len() as u64 + pulled.lost();
        assert_eq!(count, accepted, "accepted = pulled + lost");
        pulled
    }

    fn stop(self) {
        for daemon in [self.agent, self.hub].into_iter().flatten() {
            assert!(!daemon.printed().contains("panicked"));
            daemon.terminate(STOP_WITHIN);
        }
    }
}

/// A hub tells its time in whole seconds, and it takes its way.
const HUB_SAYS_SECONDS: i64 = 2;
const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;
const RANDOM_JUMPS: u32 = 8;
/// Three segments of a mirror.
const EVENTS_A_ROUND: u64 = 3_000;
const WINDOW_MAX: u16 = 16;
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(10);

//! Every call with which the real agent and hub touch their disk fails once, or from some time on: nothing that was acknowledged is lost, nothing is
//! there twice, nobody panics, and the next start needs no help.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sedge_tests::random::Random;
use sedge_tests::rig::calls::{Failure, can_inject, counted, traced};
use sedge_tests::rig::daemon::Daemon;
use sedge_tests::rig::device::{Device, Habit};
use sedge_tests::rig::ledger::settle;
use sedge_tests::rig::site::{Setup, Site};
use sedge_tests::rig::{alone, chance, eventually, skip, tell};

/// As many lives as `SEDGE_CASES` says (all calls of a life in every way: `all`), each with one call that fails, between lives in which none does.
#[test]
fn calls_of_the_agent_that_fail_lose_nothing_and_copy_nothing() {
    let name = "calls_of_the_agent_that_fail_lose_nothing_and_copy_nothing";
    let _alone = alone();
    if let Err(missing) = can_inject() {
        return skip(name, &missing);
    }
    let mut chance = chance(name);
    let mut stand = Stand::new(Side::Agent);
    let failures = stand.failures(&mut chance);
    for failure in &failures {
        stand.suffer(*failure);
    }
    stand.settle(failures.len());
}

/// The same at the hub, whose gateway waits meanwhile.
#[test]
fn calls_of_the_hub_that_fail_lose_nothing_and_copy_nothing() {
    let name = "calls_of_the_hub_that_fail_lose_nothing_and_copy_nothing";
    let _alone = alone();
    if let Err(missing) = can_inject() {
        return skip(name, &missing);
    }
    let mut chance = chance(name);
    let mut stand = Stand::new(Side::Hub);
    let failures = stand.failures(&mut chance);
    for failure in &failures {
        stand.suffer(*failure);
    }
    stand.settle(failures.len());
}

/// Which of the two programs has calls that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Agent,
    Hub,
}

/// A gateway with a device that publishes all the time, and a hub.
struct Stand {
    site: Site,
    side: Side,
    device: Device,
    agent: Option<Daemon>,
    hub: Option<Daemon>,
}

impl Stand {
    fn new(side: Side) -> Self {
        let site = Site::new(Setup {
            capacity: "8MiB".into(),
            inflight_max: WINDOW_MAX,
            ..Setup::default()
        });
        let (agent, hub) = (site.start_agent(), site.start_hub());
        site.wait_for_agent();
        let habit = Habit::new(site.devices, "only");
        let device = Device::start(Habit {
            in_flight: 8,
            rest: Duration::from_millis(2),
            payload_bytes: 500,
            ..habit
        });
        // Redeliveries are recognised once a device has counted its packet ids up for longer than its window (decision 0003).
        let run = u64::from(WINDOW_MAX) * 4;
        eventually(SETTLE_WITHIN, "the device has a run", || {
            (device.acked() > run).then_some(())
        });
        Self {
            site,
            side,
            device,
            agent: Some(agent),
            hub: Some(hub),
        }
    }

    /// What is to fail: calls of a life that was watched, in an order by chance.
    fn failures(&mut self, chance: &mut Random) -> Vec<Failure> {
        let log = self.site.file("calls.txt");
        self.stop();
        let watched = self.start_traced(None, &log);
        self.progress(&watched, EVENTS_A_LIFE);
        watched.terminate(STOP_WITHIN);
        self.start();
        let counts = counted(&log);
        tell(&format!("{:?}, calls of a life: {counts:?}", self.side));
        let all = every_failure(&counts);
        let wanted = std::env::var("SEDGE_CASES").unwrap_or_default();
        if wanted == "all" {
            return all;
        }
        let wanted = wanted.parse().unwrap_or(CASES);
        (0..wanted)
            .map(|_| {
                // Each name as often as the others: most calls are of two kinds.
                let (call, error) = chance.pick(&WAYS);
                let of_it: Vec<_> = all
                    .iter()
                    .filter(|failure| (failure.call, failure.error) == (call, error))
                    .collect();
                let at = chance.index(of_it.len().max(1));
                of_it.get(at).copied().copied().unwrap_or(all[0])
            })
            .collect()
    }

    /// A life with `failure`: until it ends, has come further than where it failed, or hangs.
    fn suffer(&mut self, failure: Failure) {
        tell(&format!("{:?}: {failure}", self.side));
        let log = self.site.file("suffered.txt");
        self.stop();
        let mut program = self.start_traced(Some(failure), &log);
        self.progress(&program, EVENTS_A_LIFE);
        if let Some(status) = program.exit_status() {
            let in_order = status.signal().is_none() && status.code() != Some(PANICKED);
            assert!(in_order, "{failure} at the {:?}: {status}", self.side);
        } else {
            program.kill();
        }
        self.start();
    }

    /// Waits until the device has `events` more acknowledged, the program has ended, or neither in a while.
    fn progress(&self, program: &Daemon, events: u64) {
        let enough = self.device.acked() + events;
        let deadline = Instant::now() + LIFE_MAX;
        let gone = format!("/proc/{}/exe", program.pid());
        while self.device.acked() < enough
            && Instant::now() < deadline
            && Path::new(&gone).read_link().is_ok()
        {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn settle(self, cases: usize) {
        let told = self.device.finish(SETTLE_WITHIN);
        let sent = told.fresh.len() as u64;
        let pulled = self.site.pull_all(sent, SETTLE_WITHIN);
        pulled.assert_dense();
        let balance = settle(&[told], &pulled);
        assert_eq!(pulled.lost(), 0, "{:?}", pulled.gaps);
        let printed = [&self.agent, &self.hub].map(|it| it.as_ref().map(Daemon::printed));
        for printed in printed.into_iter().flatten() {
            assert!(!printed.contains("panicked"), "{printed}");
        }
        tell(&format!("{cases} calls failed: {balance:?}"));
    }

    fn start_traced(&self, failure: Option<Failure>, log: &Path) -> Daemon {
        let names: Vec<&str> = match failure {
            Some(failure) => vec![failure.call],
            None => WAYS.iter().map(|(call, _)| *call).collect(),
        };
        let traced = |command: &Command| traced(command, &names, failure, log);
        match self.side {
            Side::Agent => self
                .site
                .start_as_agent(&mut traced(&self.site.agent_command())),
            Side::Hub => self
                .site
                .start_as_hub(&mut traced(&self.site.hub_command())),
        }
    }

    fn stop(&mut self) {
        let running = match self.side {
            Side::Agent => self.agent.take(),
            Side::Hub => self.hub.take(),
        };
        running.expect("it runs").kill();
    }

    fn start(&mut self) {
        match self.side {
            Side::Agent => {
                self.agent = Some(self.site.start_agent());
                self.site.wait_for_agent();
            }
            Side::Hub => {
                self.hub = Some(self.site.start_hub());
                self.site.wait_for_hub();
            }
        }
    }
}

/// Each call of a life in each of its ways, once and for ever.
fn every_failure(counts: &BTreeMap<String, u32>) -> Vec<Failure> {
    let mut all = Vec::new();
    for (call, error) in WAYS {
        for when in 1..=counts.get(call).copied().unwrap_or(0) {
            for for_ever in [false, true] {
                all.push(Failure {
                    call,
                    error,
                    when,
                    for_ever,
                });
            }
        }
    }
    all
}

/// What touches the disk, and how it may fail.
const WAYS: [(&str, &str); 17] = [
    ("openat", "EIO"),
    ("openat", "ENOSPC"),
    ("pread64", "EIO"),
    ("pwrite64", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("fdatasync", "EIO"),
    ("fdatasync", "ENOSPC"),
    ("fsync", "EIO"),
    ("fsync", "ENOSPC"),
    ("fallocate", "EIO"),
    ("fallocate", "ENOSPC"),
    ("rename", "EIO"),
    ("rename", "ENOSPC"),
    ("unlink", "EIO"),
    ("mkdir", "ENOSPC"),
    ("getdents64", "EIO"),
    ("flock", "EIO"),
];
const CASES: usize = 24;
const EVENTS_A_LIFE: u64 = 300;
const LIFE_MAX: Duration = Duration::from_millis(1_500);
const WINDOW_MAX: u16 = 16;
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// With this a Rust program ends that panicked.
const PANICKED: i32 = 101;

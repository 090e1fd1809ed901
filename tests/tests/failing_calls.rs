//! Every call with which the real agent and hub touch their disk fails once, or from some time on: nothing that was acknowledged is lost, nothing is
//! there twice, nobody panics, and the next start needs no help.

use std::collections::BTreeMap;
use std::net::TcpStream;
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
use sedge_tests::rig::{alone, chance, skip, tell};

/// As many lives as `SEDGE_CASES` says (all calls of a life in every way: `all`), each with one call that fails, between lives in which none does.
#[test]
fn calls_of_the_agent_that_fail_lose_nothing_and_copy_nothing() {
    suffer_and_settle(
        "calls_of_the_agent_that_fail_lose_nothing_and_copy_nothing",
        Side::Agent,
    );
}

/// The same at the hub, whose gateway waits meanwhile.
#[test]
fn calls_of_the_hub_that_fail_lose_nothing_and_copy_nothing() {
    suffer_and_settle(
        "calls_of_the_hub_that_fail_lose_nothing_and_copy_nothing",
        Side::Hub,
    );
}

fn suffer_and_settle(name: &str, side: Side) {
    let _alone = alone();
    if let Err(missing) = can_inject() {
        return skip(name, &missing);
    }
    let mut chance = chance(name);
    let mut stand = Stand::new(side);
    let failures = stand.failures(&mut chance);
    for failure in &failures {
        stand.suffer(*failure);
    }
    stand.settle(failures.len());
}

/// The first start of all, which makes every directory and file, fails at any call; the next one finds its way.
#[test]
fn a_first_start_that_failed_needs_no_help() {
    let name = "a_first_start_that_failed_needs_no_help";
    let _alone = alone();
    if let Err(missing) = can_inject() {
        return skip(name, &missing);
    }
    let mut chance = chance(name);
    for side in [Side::Agent, Side::Hub] {
        let counts = first_start(side, None).expect("nothing failed");
        tell(&format!("{side:?}, calls of a first start: {counts:?}"));
        for failure in some_failures(&counts, FIRST_STARTS, &mut chance) {
            first_start(side, Some(failure));
        }
    }
}

/// Starts `side` in an empty directory, with a call that fails, and then again without. Says how often each call was made, if it came so far.
fn first_start(side: Side, failure: Option<Failure>) -> Option<BTreeMap<String, u32>> {
    let site = Site::new(Setup::default());
    let log = site.file("calls.txt");
    let (command, door) = match side {
        Side::Agent => (site.agent_command(), site.devices),
        Side::Hub => (site.hub_command(), site.hub),
    };
    if let Some(failure) = failure {
        tell(&format!("first start, {side:?}: {failure}"));
    }
    let names: Vec<&str> = WAYS.iter().map(|(call, _)| *call).collect();
    let traced = &mut traced(&command, &names, failure, &log);
    let mut program = match side {
        Side::Agent => site.start_as_agent(traced),
        Side::Hub => site.start_as_hub(traced),
    };
    let deadline = Instant::now() + LIFE_MAX;
    let listens = loop {
        if TcpStream::connect(door).is_ok() {
            break true;
        }
        if program.exit_status().is_some() || Instant::now() > deadline {
            break false;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    match program.exit_status() {
        Some(status) => {
            let in_order = status.signal().is_none() && status.code() != Some(PANICKED);
            assert!(in_order, "{failure:?} at the {side:?}: {status}");
        }
        None if failure.is_none() => {
            program.terminate(STOP_WITHIN);
        }
        // It may also end at this very moment.
        None => drop(program),
    }
    match side {
        Side::Agent => {
            let agent = site.start_agent();
            site.wait_for_agent();
            agent.kill();
        }
        Side::Hub => {
            let hub = site.start_hub();
            site.wait_for_hub();
            hub.kill();
        }
    }
    listens.then(|| counted(&log))
}

/// Which of the two programs has calls that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Agent,
    Hub,
}

/// A gateway with a device that publishes all the time, and a hub.
struct Stand {
    device: Device,
    agent: Option<Daemon>,
    hub: Option<Daemon>,
    side: Side,
    /// Goes last: what the programs printed is in it.
    site: Site,
}

impl Stand {
    fn new(side: Side) -> Self {
        let site = Site::new(Setup {
            capacity: "24MiB".into(),
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
        device.wait_for_a_run(WINDOW_MAX, SETTLE_WITHIN);
        Self {
            device,
            agent: Some(agent),
            hub: Some(hub),
            side,
            site,
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
        some_failures(&counts, CASES, chance)
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
        }
        // It may also end at this very moment.
        drop(program);
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
        tell(&format!("gaps: {:?}", pulled.gaps));
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

/// `count` of them by chance, or as many as `SEDGE_CASES` says; `all` are all. Each name comes as often as the others: most calls are of two kinds.
fn some_failures(
    counts: &BTreeMap<String, u32>,
    count: usize,
    chance: &mut Random,
) -> Vec<Failure> {
    let only = std::env::var("SEDGE_CALL").ok();
    let mut counts = counts.clone();
    counts.retain(|call, _| only.as_ref().is_none_or(|only| only == call));
    let counts = &counts;
    let wanted = std::env::var("SEDGE_CASES").unwrap_or_default();
    if wanted == "all" {
        return every_failure(counts);
    }
    let ways: Vec<_> = WAYS
        .into_iter()
        .filter_map(|(call, error)| Some((call, error, *counts.get(call)?)))
        .collect();
    let one = |_| {
        let (call, error, made) = chance.pick(&ways);
        Failure {
            call,
            error,
            when: 1 + chance.below(made.into()) as u32,
            for_ever: chance.one_in(2),
        }
    };
    (0..wanted.parse().unwrap_or(count)).map(one).collect()
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
const FIRST_STARTS: usize = 12;
const EVENTS_A_LIFE: u64 = 300;
const LIFE_MAX: Duration = Duration::from_millis(1_500);
const WINDOW_MAX: u16 = 16;
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// With this a Rust program ends that panicked.
const PANICKED: i32 = 101;

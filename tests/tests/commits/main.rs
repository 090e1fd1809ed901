//! Groups whose hub is killed at any moment: no commit that was answered is taken back, and nothing is skipped, at whichever door they read.

mod kafka;
mod native;
mod promise;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use kafka::Consumer;
use promise::Promise;
use sedge_tests::random::Random;
use sedge_tests::rig::daemon::Daemon;
use sedge_tests::rig::device::{Device, Habit};
use sedge_tests::rig::site::{Setup, Site};
use sedge_tests::rig::{alone, chance, eventually, tell, times};

/// Devices publish; one consumer over Kafka's protocol that has no seat in its group, two that share the partitions of theirs, and one of `sedge pull`'s kind read
/// and commit all the time. The hub is killed (`SEDGE_COMMIT_KILLS` times), a third of the times within 50 ms of its start. On the way its directory is put back to
/// an older copy, the gateway begins a new log, and the catalog is deleted. In the end each group has read everything.
#[test]
fn kills_of_the_hub_take_no_commit_back_and_skip_nothing() {
    let _alone = alone();
    let mut chance = chance("kills_of_the_hub_take_no_commit_back_and_skip_nothing");
    let mut trial = Trial::begin();
    let kills = times("SEDGE_COMMIT_KILLS", KILLS).max(5);
    let mut copy = None;
    for kill in 0..kills {
        std::thread::sleep(a_life(&mut chance));
        trial.nobody_has_failed();
        trial.hub.kill_now();
        if kill == kills / 5 {
            copy = Some(trial.is_copied());
        } else if kill == kills * 2 / 5 {
            let commits = copy.take().expect("it was copied");
            trial.is_put_back(commits);
        } else if kill == kills * 4 / 5 {
            trial.loses_its_catalog();
        }
        trial.hub = trial.site.start_hub();
        if kill == kills * 3 / 5 {
            trial.begins_a_new_log();
        }
    }
    trial.ends(kills);
}

struct Trial {
    site: Arc<Site>,
    hub: Daemon,
    agent: Daemon,
    groups: [Arc<Promise>; 3],
    consumers: Vec<JoinHandle<()>>,
    over: Arc<AtomicBool>,
    devices: Vec<Device>,
    sent: u64,
}

impl Trial {
    fn begin() -> Self {
        let site = Site::new(Setup {
            partitions: PARTITIONS as u16,
            inflight_max: WINDOW,
            ..Setup::default()
        });
        let (hub, agent) = (site.start_hub(), site.start_agent());
        site.wait_for_hub();
        site.wait_for_agent();
        let devices = devices(&site, 1);
        for device in &devices {
            device.wait_for_a_run(WINDOW, PATIENCE);
        }
        let mut trial = Self {
            site: site.into(),
            hub,
            agent,
            groups: ["alone", "shared", "own"].map(|group| Promise::of(group).into()),
            consumers: Vec::new(),
            over: Arc::default(),
            devices,
            sent: 0,
        };
        // A partition has its number when its first event has come.
        let site = Arc::clone(&trial.site);
        let pulled = site.pull_until("both partitions", PATIENCE, |pulled| {
            let of = |number| pulled.events.iter().any(|e| e.partition.1 == number);
            (0..u64::from(PARTITIONS)).all(of)
        });
        assert_eq!(pulled.lost(), 0);
        trial.consumers_start();
        trial
    }

    fn consumers_start(&mut self) {
        let [alone, shared, own] = self.groups.clone();
        let (kafka, hub) = (self.site.kafka, self.site.hub);
        let mut start = |work: Box<dyn Fn(&AtomicBool) + Send>| {
            let over = Arc::clone(&self.over);
            (self.consumers).push(std::thread::spawn(move || work(&over)));
        };
        let consumer = move |group, promise: &Promise, over: &AtomicBool, joins: bool| {
            let consumer = Consumer {
                hub: kafka,
                group,
                promise,
                partitions: PARTITIONS,
                over,
            };
            match joins {
                true => consumer.joins(),
                false => consumer.goes_alone(),
            }
        };
        start(Box::new(move |over| consumer("alone", &alone, over, false)));
        for _ in 0..2 {
            let shared = Arc::clone(&shared);
            start(Box::new(move |over| {
                consumer("shared", &shared, over, true);
            }));
        }
        start(Box::new(move |over| native::reads(hub, "own", &own, over)));
    }

    fn nobody_has_failed(&mut self) {
        if let Some(at) = self.consumers.iter().position(JoinHandle::is_finished) {
            let ended = self.consumers.remove(at).join();
            panic!("a consumer ended: {ended:?}");
        }
    }

    /// Its directory as it stands is put aside, with what groups have committed.
    fn is_copied(&self) -> Vec<promise::Commits> {
        copy_all(&self.site.hub_data(), &self.site.file("hub-copy"));
        self.groups.iter().map(|group| group.commits()).collect()
    }

    fn is_put_back(&self, commits: Vec<promise::Commits>) {
        let data = self.site.hub_data();
        std::fs::remove_dir_all(&data).expect("a directory of ours");
        std::fs::rename(self.site.file("hub-copy"), &data).expect("a directory of ours");
        for (group, commits) in self.groups.iter().zip(commits) {
            group.goes_back(commits);
        }
    }

    /// Groups begin anew: what they had come to stands nowhere else.
    fn loses_its_catalog(&self) {
        let files = std::fs::read_dir(self.site.hub_data()).expect("a directory of ours");
        let files = files.map(|file| file.expect("a file").path());
        let of_catalog = |path: &Path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            name.starts_with("catalog")
        };
        let found: Vec<_> = files.filter(|path| of_catalog(path)).collect();
        assert!(!found.is_empty());
        for path in found {
            std::fs::remove_file(path).expect("a file of ours");
        }
        for group in &self.groups {
            group.goes_back(promise::Commits::default());
        }
    }

    /// The gateway's disk is another one, once the hub has everything of the old.
    fn begins_a_new_log(&mut self) {
        self.settle();
        self.agent.stop(PATIENCE);
        std::fs::remove_dir_all(self.site.agent_data()).expect("a directory of ours");
        self.agent = self.site.start_agent();
        self.site.wait_for_agent();
        self.devices = devices(&self.site, 2);
    }

    /// The devices end, and the hub gets what they have sent.
    fn settle(&mut self) {
        for device in self.devices.drain(..) {
            let told = device.finish(PATIENCE);
            assert_eq!(told.sessions_lost, 0);
            self.sent += told.fresh.len() as u64;
        }
        let pulled = self.site.pull_all(self.sent, PATIENCE);
        assert_eq!((pulled.events.len() as u64, pulled.lost()), (self.sent, 0));
    }

    fn ends(mut self, kills: u64) {
        self.settle();
        let sent = self.sent;
        let groups = self.groups.clone();
        eventually(PATIENCE, "every group has read everything", || {
            self.nobody_has_failed();
            groups
                .iter()
                .all(|group| group.count() == sent)
                .then_some(())
        });
        self.over.store(true, Ordering::Release);
        for consumer in self.consumers.drain(..) {
            consumer.join().expect("it ends well");
        }
        let pulled = self.site.pull().expect("the hub answers");
        let mut there: Vec<(u64, u64)> = pulled
            .events
            .iter()
            .map(|event| (event.offset, event.value["n"].as_u64().expect("a number")))
            .collect();
        there.sort_unstable();
        for group in &self.groups {
            let (read, answers) = group.all_read();
            let read = read
                .iter()
                .map(|(offset, value)| (*offset, number_in(value)));
            let mut read: Vec<_> = read.collect();
            read.sort_unstable();
            assert_eq!(read, there);
            assert!(answers > 0);
            tell(&format!("{kills} kills: {sent} events, {answers} commits"));
        }
        self.hub.stop(PATIENCE);
        self.agent.stop(PATIENCE);
    }
}

fn number_in(value: &Bytes) -> u64 {
    let value: serde_json::Value = serde_json::from_slice(value).expect("JSON");
    value["n"].as_u64().expect("a number")
}

/// Eight of them, so that each partition gets something.
fn devices(site: &Site, time: u32) -> Vec<Device> {
    let device = |number| {
        let name = format!("device-{time}-{number}");
        Device::start(Habit {
            in_flight: 4,
            rest: Duration::from_millis(40),
            ..Habit::new(site.devices, &name)
        })
    };
    (0..8).map(device).collect()
}

/// How long a hub lives before it is killed: some are to live long enough for a group to meet.
fn a_life(chance: &mut Random) -> Duration {
    let longest = match chance.below(6) {
        0 => 2_500,
        1 | 2 => 50,
        _ => 500,
    };
    Duration::from_millis(chance.below(longest))
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a new directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("a file");
        let at = to.join(entry.file_name());
        match entry.file_type().expect("a kind").is_dir() {
            true => copy_all(&entry.path(), &at),
            false => drop(std::fs::copy(entry.path(), at).expect("a copy")),
        }
    }
}

const PARTITIONS: u32 = 2;
const WINDOW: u16 = 16;
const KILLS: u64 = 40;
const PATIENCE: Duration = Duration::from_secs(60);

//! Clients of Kafka's that people have read a real hub: list, from the beginning, by time, what comes, in groups of one and of three whose member is killed, from where a
//! group ended, with TLS and a password. Each counts every numbered record.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sedge_tests::rig::daemon::{Daemon, sedge};
use sedge_tests::rig::kafka::{Client, From, Login, Running, Shown, Work, counts};
use sedge_tests::rig::site::{Setup, Site};
use sedge_tests::rig::{Missing, alone, eventually, skip, tell};

#[test]
fn kcat_reads_a_hub() {
    reads_a_hub(Client::Kcat);
}

#[test]
fn confluent_kafka_reads_a_hub() {
    reads_a_hub(Client::ConfluentKafka);
}

#[test]
fn kafka_python_reads_a_hub() {
    reads_a_hub(Client::KafkaPython);
}

#[test]
fn aiokafka_reads_a_hub() {
    reads_a_hub(Client::AioKafka);
}

#[test]
fn kafkajs_reads_a_hub() {
    reads_a_hub(Client::KafkaJs);
}

#[test]
fn java_reads_a_hub() {
    reads_a_hub(Client::Java);
}

#[test]
fn franz_go_reads_a_hub() {
    reads_a_hub(Client::FranzGo);
}

fn reads_a_hub(client: Client) {
    let _alone = alone();
    for story in [alone_stories, guarded_story] {
        if let Err(missing) = story(client) {
            return skip(&format!("{} reads a hub", client.name()), &missing);
        }
    }
}

/// A gateway and a hub, and numbered events in four partitions.
struct Place {
    site: Site,
    client: Client,
    login: Option<Login>,
    next: std::cell::Cell<u64>,
    started: std::cell::Cell<u32>,
    _daemons: [Daemon; 2],
}

impl Place {
    fn new(client: Client, guarded: bool) -> Self {
        let mut site = Site::new(Setup {
            partitions: 4,
            ..Setup::default()
        });
        if guarded {
            site.see_hub_at(site.hub);
        }
        let hub = site.start_hub();
        site.wait_for_hub();
        if guarded {
            site.enroll();
        }
        let agent = site.start_agent();
        site.wait_for_agent();
        let login = guarded.then(|| Login {
            ca: site.hub_data().join("trust/ca.pem"),
            user: "reader".into(),
            password: std::fs::read_to_string(site.file("token"))
                .expect("a token")
                .trim()
                .into(),
        });
        Self {
            site,
            client,
            login,
            next: 0.into(),
            started: 0.into(),
            _daemons: [hub, agent],
        }
    }

    /// `count` events more, at the hub.
    fn push(&self, count: u64) {
        let first = self.next.replace(self.next.get() + count);
        let lines: String = (first..first + count)
            .map(|number| format!("{{\"n\":{number}}}\n"))
            .collect();
        let mut command = Command::new(sedge());
        command
            .arg("push")
            .arg("--config")
            .arg(self.site.agent_toml());
        command.args(["--key", "{/n}", "telemetry"]);
        let pushing = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut pushing = pushing.expect("the binary starts");
        let mut input = pushing.stdin.take().expect("it is piped");
        input.write_all(lines.as_bytes()).expect("it takes them");
        drop(input);
        assert!(pushing.wait().expect("it ends").success());
    }

    fn drained(&self) {
        eventually(PATIENCE, "the hub has everything", || {
            let page = self.site.page("/metrics");
            let lag = page
                .lines()
                .find(|line| line.starts_with("sedge_uplink_lag_events"))?;
            lag.ends_with(" 0").then_some(())
        });
    }

    fn start(&self, work: &Work) -> Result<Running, Missing> {
        self.start_as(work, self.login.as_ref())
    }

    fn start_as(&self, work: &Work, login: Option<&Login>) -> Result<Running, Missing> {
        let number = self.started.replace(self.started.get() + 1);
        let log = self.site.file(&format!("client-{number}.log"));
        self.client.start(self.site.kafka, work, login, &log)
    }

    fn read(&self, from: From, count: u64) -> Result<Vec<Shown>, Missing> {
        let mut running = self.start(&Work::Read(from, count))?;
        let well = running.wait(PATIENCE);
        assert!(well, "{}", running.log());
        Ok(running.records())
    }
}

fn alone_stories(client: Client) -> Result<(), Missing> {
    let place = Place::new(client, false);
    place.push(HALF);
    place.drained();
    let between = unix_ms() + 1;
    eventually(PATIENCE, "a millisecond", || {
        (unix_ms() > between).then_some(())
    });
    place.push(HALF);
    place.drained();

    let mut listing = place.start(&Work::List)?;
    assert!(listing.wait(PATIENCE), "{}", listing.log());
    let listed = listing.shown();
    let has =
        listed.contains("telemetry 4") || listed.contains("topic \"telemetry\" with 4 partitions");
    assert!(has, "{listed}");

    assert_all_once(&place.read(From::Start, 2 * HALF)?, 0..2 * HALF);
    assert_all_once(&place.read(From::Time(between), HALF)?, HALF..2 * HALF);
    what_comes(&place)?;
    a_group_goes_on(&place)?;
    a_member_is_killed(&place)?;
    tell(&format!("{}: everything was read", client.name()));
    Ok(())
}

/// From its end on it gets what comes, in order and each once.
fn what_comes(place: &Place) -> Result<(), Missing> {
    let known = place.next.get();
    let mut running = place.start(&Work::Read(From::End, 100))?;
    eventually(PATIENCE, "what comes is read", || {
        let over = running.has_ended();
        if !over {
            place.push(10);
        }
        over.then_some(())
    });
    assert!(running.wait(PATIENCE), "{}", running.log());
    let records = running.records();
    assert_eq!(records.len(), 100);
    assert!(
        records.iter().all(|record| record.number >= known),
        "{records:?}"
    );
    assert_dense(&records);
    Ok(())
}

/// Who comes behind a member that ended reads the rest, and nothing again.
fn a_group_goes_on(place: &Place) -> Result<(), Missing> {
    let all = place.next.get();
    let work = Work::Group("goes-on".into());
    let mut first = place.start(&work)?;
    let what = "a third was read";
    eventually(PATIENCE, what, || {
        (first.records().len() as u64 > all / 3).then_some(())
    });
    first.stop(PATIENCE);
    let mut records = first.records();
    let mut second = place.start(&work)?;
    let rest = all - counts(&records).len() as u64;
    eventually(PATIENCE, "the rest was read", || {
        (counts(&second.records()).len() as u64 >= rest).then_some(())
    });
    second.stop(PATIENCE);
    records.extend(second.records());
    assert_all_once(&records, 0..all);
    Ok(())
}

/// Of three members one is killed. The others get its partitions; what it had shown and not committed comes again, and nothing else does.
fn a_member_is_killed(place: &Place) -> Result<(), Missing> {
    let work = Work::Group("three".into());
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(place.start(&work)?);
    }
    eventually(PATIENCE, "each of three members reads", || {
        place.push(20);
        let all = members.iter().all(|member| !member.records().is_empty());
        all.then_some(())
    });
    let mut killed = members.remove(0);
    killed.kill();
    place.push(500);
    let all = place.next.get();
    let shown =
        |members: &[Running]| -> Vec<Shown> { members.iter().flat_map(Running::records).collect() };
    eventually(
        PATIENCE,
        "what the killed one would have read is read",
        || {
            let mut records = shown(&members);
            records.extend(killed.records());
            (counts(&records).len() as u64 == all).then_some(())
        },
    );
    for member in &mut members {
        member.stop(PATIENCE);
    }
    let (others, its) = (counts(&shown(&members)), counts(&killed.records()));
    for (number, count) in &others {
        let again = its.contains_key(number) || *count == 1;
        assert!(
            again || place.client == Client::Kcat,
            "{number} was shown {count} times"
        );
    }
    Ok(())
}

/// TLS and a password: with the right one everything is read, with another one nothing.
fn guarded_story(client: Client) -> Result<(), Missing> {
    let place = Place::new(client, true);
    place.push(HALF);
    place.drained();
    assert_all_once(&place.read(From::Start, HALF)?, 0..HALF);
    let wrong = Login {
        user: "somebody-else".into(),
        ..place.login.clone().expect("a login")
    };
    let mut refused = place.start_as(&Work::List, Some(&wrong))?;
    let well = refused.wait(PATIENCE);
    assert!(
        !well || !refused.shown().contains("telemetry"),
        "it was let in"
    );
    Ok(())
}

fn assert_all_once(records: &[Shown], numbers: std::ops::Range<u64>) {
    let counts = counts(records);
    let twice: Vec<_> = counts
        .iter()
        .filter(|(_, count)| **count != 1)
        .take(5)
        .collect();
    assert!(twice.is_empty(), "shown more than once: {twice:?}");
    let missing: Vec<_> = numbers
        .filter(|n| !counts.contains_key(n))
        .take(5)
        .collect();
    assert!(missing.is_empty(), "never shown: {missing:?}");
    assert_dense(records);
}

/// In each partition one offset follows the other.
fn assert_dense(records: &[Shown]) {
    let mut last = std::collections::BTreeMap::new();
    for record in records {
        if let Some(before) = last.insert(record.partition, record.offset) {
            assert_eq!(record.offset, before + 1, "partition {}", record.partition);
        }
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("it is later than 1970").as_millis() as u64
}

const HALF: u64 = 5_000;
const PATIENCE: Duration = Duration::from_secs(60);

//! What becomes of a log's space when the configuration changes, with the real binary.

#[expect(dead_code, reason = "each file of stories uses its part of the rig")]
mod rig;

use std::fs;
use std::path::Path;

use rig::{Place, Service, eventually, sedge};

/// An outage fills the log; then its capacity is made smaller. Without the flag it stays as it is, and says so; with it the oldest events
/// go, to the event, and the consumer meets one gap where they were.
#[test]
fn a_smaller_capacity_keeps_all_without_the_flag_and_evicts_to_the_event_with_it() {
    let place = Place::new();
    let pushed = 10_000;
    let agent = place.start_agent();
    let line = "x".repeat(400);
    let lines: String = (0..pushed).map(|n| format!("{n} {line}\n")).collect();
    assert_eq!(place.push("telemetry", &lines).code, Some(0));
    assert_eq!(agent.stop().0, Some(0));
    place.write("agent.toml", &with_capacity(&place, "4MiB"));

    let agent = place.start_agent_with(&[], "kept.log");
    let partition = partition(&place);
    let before = bytes_in(&log_dir(&place));
    assert!(before > 5 << 20, "{before}");
    assert_eq!(partition["capacity_bytes"], before);
    assert_eq!(agent.stop().0, Some(0));
    // It is full: at its leisure it makes room for its next segment, as any log does.
    let recycled = evicted_in(&place);
    let said = place.read("kept.log");
    let told: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("--allow-eviction"))
        .collect();
    assert_eq!(told.len(), 1, "{said}");
    for part in [
        "stream=telemetry",
        &format!("holds_bytes={before}"),
        "capacity_bytes=4194304",
    ] {
        assert!(told[0].contains(part), "{part} is not in {}", told[0]);
    }

    let agent = place.start_agent_with(&["--allow-eviction"], "shrunk.log");
    let partition = self::partition(&place);
    let after = bytes_in(&log_dir(&place));
    assert!(after <= 4 << 20, "{after}");
    assert_eq!(partition["capacity_bytes"], after);
    let evicted = partition["losses"]["evicted"].as_u64().expect("a count");
    assert!(evicted > 3_000, "{evicted}");
    let said = place.read("shrunk.log");
    let by_shrinking = format!("evicted={} handed_over=0", evicted - recycled);
    assert!(said.contains(&by_shrinking), "{recycled} before, {said}");

    let hub = place.start_hub();
    place.drained();
    let pulled = place.pull(&["--format", "json"]).out;
    let items: Vec<serde_json::Value> = pulled
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect();
    let gaps: Vec<_> = items.iter().filter(|item| !item["gap"].is_null()).collect();
    assert_eq!(gaps.len(), 1);
    let gap = &gaps[0]["gap"];
    assert_eq!(
        (&gap["cause"], &gap["lost"]),
        (&"evicted".into(), &evicted.into())
    );
    assert_eq!(items.len() as u64 - 1 + evicted, pushed);
    for service in [agent, hub] {
        assert_eq!(service.stop().0, Some(0));
    }
    // What was done once is not done again.
    let agent = place.start_agent_with(&["--allow-eviction"], "again.log");
    assert_eq!(self::partition(&place)["losses"]["evicted"], evicted);
    drop(agent);
    assert!(!place.read("again.log").contains("made smaller"));
}

/// The number of partitions changes during an outage: the old log is drained when the hub comes, and its space returns while the agent runs.
/// The chain goes on in its order, in this life and the next.
#[test]
fn an_ended_log_is_removed_when_the_hub_has_it_and_its_chain_goes_on() {
    let place = Place::new();
    let agent = place.start_agent();
    assert_eq!(place.push("telemetry", "0\n1\n2\n").code, Some(0));
    assert_eq!(agent.stop().0, Some(0));
    let one = place.agent_file();
    let two = one.replace(
        "[[stream]]\nname = \"telemetry\"\n",
        "[[stream]]\nname = \"telemetry\"\npartitions = 2\n",
    );
    place.write("agent.toml", &two);
    let agent = place.start_agent();
    let first = log_dir(&place);
    assert!(first.join("seg-00000.log").exists());
    let hub = place.start_hub();
    eventually("the log is removed", || !first.exists());
    let left = || {
        fs::read_dir(first.parent().expect("a partition"))
            .expect("a directory")
            .count()
    };
    // An identity with its copy, and the log behind it.
    eventually("its files are removed", || left() == 3);
    assert_eq!(agent.stop().0, Some(0));
    drop(hub);

    place.write("agent.toml", &one);
    let _agent = place.start_agent();
    assert_eq!(place.push("telemetry", "3\n4\n").code, Some(0));
    let _hub = place.start_hub();
    place.drained();
    assert_eq!(place.pull(&["--format", "raw"]).out, "0\n1\n2\n3\n4\n");
    // Nothing had come into the logs of the second arrangement: that of the partition that is left goes on, the other one goes.
    let second = place.path("agent/streams/0000/0001");
    eventually("the other log of the second arrangement is removed", || {
        !second.join("0000").exists()
    });
    let identity = fs::read_to_string(first.with_file_name("0001").join("identity.toml"));
    assert!(identity.expect("the second log").contains("chain = 1"));
    assert!(!first.with_file_name("0002").exists());
}

/// The stream is taken out of the configuration; it drains, and then nothing of it takes space.
#[test]
fn a_removed_stream_is_drained_and_takes_no_space() {
    let place = Place::new();
    let agent = place.start_agent();
    assert_eq!(place.push("telemetry", "0\n1\n2\n").code, Some(0));
    assert_eq!(agent.stop().0, Some(0));
    let other = place
        .agent_file()
        .replace("stream = \"telemetry\"", "stream = \"other\"");
    place.write(
        "agent.toml",
        &other.replace("name = \"telemetry\"", "name = \"other\""),
    );
    let agent = place.start_agent();
    let log = log_dir(&place);
    assert!(log.exists());
    let _hub = place.start_hub();
    eventually("the log is removed", || !log.exists());
    assert!(!place.status().out.contains("telemetry"));
    assert_eq!(place.pull(&["--format", "raw"]).out, "0\n1\n2\n");
    assert_eq!(agent.stop().0, Some(0));
}

fn with_capacity(place: &Place, capacity: &str) -> String {
    let file = place.agent_file();
    file.replace("capacity = \"8MiB\"", &format!("capacity = \"{capacity}\""))
}

/// The first log of the stream's first partition.
fn log_dir(place: &Place) -> std::path::PathBuf {
    let streams = place.path("agent/streams");
    let is_it = |dir: &std::path::PathBuf| {
        let identity = fs::read_to_string(dir.join("identity.toml"));
        identity.is_ok_and(|identity| identity.contains("\"telemetry\""))
    };
    let mut dirs = fs::read_dir(streams)
        .expect("streams")
        .map(|dir| dir.expect("a stream").path());
    dirs.find(is_it).expect("the stream").join("0000/0000")
}

fn partition(place: &Place) -> serde_json::Value {
    let status: serde_json::Value =
        serde_json::from_str(&place.status().out).expect("status is JSON");
    let streams = status["streams"].as_array().expect("streams");
    let stream = streams.iter().find(|stream| stream["name"] == "telemetry");
    stream.expect("the stream")["partitions"][0].clone()
}

/// What the log that takes the events of the stopped agent has evicted in all its lives.
fn evicted_in(place: &Place) -> u64 {
    let log = log_dir(place);
    let ran = sedge(&["inspect", "--json", &log.display().to_string()]);
    let report: serde_json::Value = serde_json::from_str(&ran.out).expect("a report is JSON");
    report["logs"][0]["log"]["ledger"]["evicted"]
        .as_u64()
        .unwrap_or_else(|| panic!("no count in {report}"))
}

/// What the segment files take.
fn bytes_in(log: &Path) -> u64 {
    let files = fs::read_dir(log)
        .expect("a log")
        .map(|file| file.expect("a file"));
    let segments = files.filter(|file| file.file_name().to_string_lossy().starts_with("seg-"));
    segments
        .map(|file| file.metadata().expect("a file").len())
        .sum()
}

impl Place {
    /// Starts the agent with these arguments more; its log lines go to `log`.
    fn start_agent_with(&self, arguments: &[&str], log: &str) -> Service {
        let config = self.text("agent.toml");
        let arguments = [&["agent", "--config", &config], arguments].concat();
        let service = Service::start_with_log(&arguments, &self.path(log));
        eventually("the agent answers", || self.status().code == Some(0));
        service
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file")
    }
}

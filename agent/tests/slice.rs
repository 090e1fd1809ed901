//! From a line on standard input, or a publish, through agent and hub to a consumer, with the real binary.

#[expect(dead_code, reason = "each file of stories uses its part of the rig")]
mod rig;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use rig::{Place, Service, eventually, get, sedge, sedge_with};

fn numbers(range: std::ops::Range<u64>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

#[test]
fn what_was_pushed_is_pulled_in_order_and_both_stop_within_two_seconds() {
    let place = Place::new();
    let (hub, agent) = (place.start_hub(), place.start_agent());
    let ran = place.push("telemetry", &numbers(0..1000));
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(0), "1000 lines are on disk\n"),
        "{}",
        ran.err
    );
    place.drained();
    let ran = place.pull(&["--format", "raw"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert_eq!(ran.out, numbers(0..1000));
    for service in [agent, hub] {
        let (code, took) = service.stop();
        assert_eq!(code, Some(0));
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    let ran = sedge(&["inspect", &place.text("agent")]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(
        ran.out.contains("name telemetry")
            && ran
                .out
                .contains("1000 events held, 0 missing; the sum is right"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("cleanly closed"), "{}", ran.out);
}

#[test]
fn what_was_pushed_without_a_hub_is_there_when_it_comes() {
    let place = Place::new();
    let agent = place.start_agent();
    assert_eq!(place.push("telemetry", &numbers(0..10)).code, Some(0));
    drop(agent);
    let (_agent, _hub) = (place.start_agent(), place.start_hub());
    place.drained();
    assert_eq!(place.pull(&["--format", "raw"]).out, numbers(0..10));
}

/// Three of these lines are more than a commit of a small log holds.
#[test]
fn lines_that_are_too_much_for_one_commit_are_taken_in_several() {
    let place = Place::new();
    let _agent = place.start_agent();
    let ran = place.push(
        "telemetry",
        &format!("{}\n", "x".repeat(100_000)).repeat(10),
    );
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(0), "10 lines are on disk\n"),
        "{}",
        ran.err
    );
}

#[test]
fn an_event_is_one_json_object_a_line_as_the_contract_says() {
    let place = Place::new();
    let (_hub, _agent) = (place.start_hub(), place.start_agent());
    assert_eq!(place.push("telemetry", "{\"t\":1}\nplain\n").code, Some(0));
    place.drained();
    let ran = place.pull(&[]);
    let lines: Vec<serde_json::Value> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["value"], serde_json::json!({ "t": 1 }));
    assert_eq!(lines[1]["value"], "plain");
    let fields = (
        &lines[1]["stream"],
        &lines[1]["gateway"],
        &lines[1]["partition"],
        &lines[1]["offset"],
    );
    assert_eq!(
        fields,
        (&"telemetry".into(), &"gw-1".into(), &0.into(), &1.into())
    );
}

#[test]
fn a_group_goes_on_where_it_ended_and_has_one_member() {
    let place = Place::new();
    let (_hub, _agent) = (place.start_hub(), place.start_agent());
    assert_eq!(place.push("telemetry", &numbers(0..10)).code, Some(0));
    place.drained();
    let group = ["--group", "g", "--format", "raw"];
    assert_eq!(
        place.pull(&[&group[..], &["--limit", "4"]].concat()).out,
        numbers(0..4)
    );
    assert_eq!(place.pull(&group).out, numbers(4..10));
    assert_eq!(place.pull(&group).out, "");
    let hub = place.hub_url();
    let member = Service::start(&[
        "pull",
        "telemetry",
        "--hub",
        &hub,
        "--group",
        "g",
        "--wait",
        "20s",
        "--follow",
    ]);
    let mut refused = None;
    eventually("the group is held", || {
        let ran = place.pull(&group);
        refused = (ran.code == Some(69)).then_some(ran.err);
        refused.is_some()
    });
    let refused = refused.expect("it was seen");
    assert!(
        refused.contains("the group is held by sedge-pull-"),
        "{refused}"
    );
    assert_eq!(member.stop().0, Some(0));
    assert_eq!(place.pull(&group).code, Some(0));
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_pull_well() {
    let place = Place::new();
    let (_hub, _agent) = (place.start_hub(), place.start_agent());
    assert_eq!(place.push("telemetry", &numbers(0..50_000)).code, Some(0));
    place.drained();
    let mut pull = Command::new(env!("CARGO_BIN_EXE_sedge"))
        .args(["pull", "telemetry", "--hub", &place.hub_url()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut head = BufReader::new(pull.stdout.take().expect("it is piped"));
    head.read_line(&mut String::new()).expect("a line");
    drop(head);
    let output = pull.wait_with_output().expect("it ends");
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}

#[test]
fn a_restored_disk_goes_on_in_a_new_log_and_overwrites_nothing() {
    let place = Place::new();
    let hub = place.start_hub();
    let agent = place.start_agent();
    assert_eq!(place.push("telemetry", &numbers(0..10)).code, Some(0));
    place.drained();
    assert_eq!(agent.stop().0, Some(0));
    let copy = Command::new("cp")
        .args(["-a", &place.text("agent"), &place.text("old")])
        .status();
    assert!(copy.expect("cp runs").success());
    let agent = place.start_agent();
    assert_eq!(place.push("telemetry", &numbers(10..20)).code, Some(0));
    place.drained();
    assert_eq!(agent.stop().0, Some(0));
    std::fs::remove_dir_all(place.path("agent")).expect("the newer directory goes");
    std::fs::rename(place.path("old"), place.path("agent")).expect("the older one comes back");
    let agent = place.start_agent();
    eventually("a new log is open", || {
        place.path("agent/streams/0000/0000/0001").exists()
    });
    eventually("what comes now is on disk", || {
        place.push("telemetry", "new\n").code == Some(0)
    });
    place.drained();
    let pulled = place.pull(&["--format", "raw"]).out;
    assert!(
        pulled.starts_with(&numbers(0..20)) && pulled.ends_with("new\n"),
        "{pulled}"
    );
    let ran = place.pull(&[]);
    assert!(
        ran.out.contains("\"epoch\":1") && ran.out.contains("\"cause\":\"new-log\""),
        "{}",
        ran.out
    );
    assert_eq!(agent.stop().0, Some(0));
    assert_eq!(hub.stop().0, Some(0));
}

/// An older copy of the directory comes back while the hub is away, and takes three events. The hub holds another history at their offsets: the
/// operator sees where they are and how many.
#[test]
fn a_log_that_diverged_is_shown_with_the_events_that_only_it_has() {
    let place = Place::new();
    let (hub, agent) = (place.start_hub(), place.start_agent());
    assert_eq!(place.push("telemetry", &numbers(0..10)).code, Some(0));
    place.drained();
    assert_eq!(agent.stop().0, Some(0));
    let copy = Command::new("cp")
        .args(["-a", &place.text("agent"), &place.text("old")])
        .status();
    assert!(copy.expect("cp runs").success());
    let agent = place.start_agent();
    assert_eq!(place.push("telemetry", &numbers(10..20)).code, Some(0));
    place.drained();
    assert_eq!((agent.stop().0, hub.stop().0), (Some(0), Some(0)));
    std::fs::remove_dir_all(place.path("agent")).expect("the newer directory goes");
    std::fs::rename(place.path("old"), place.path("agent")).expect("the older one comes back");

    let agent = place.start_agent();
    assert_eq!(place.push("telemetry", "a\nb\nc\n").code, Some(0));
    let _hub = place.start_hub();
    let mut diverged = serde_json::Value::Null;
    eventually("the hub holds another history", || {
        let ran = place.status();
        let status: serde_json::Value = serde_json::from_str(&ran.out).unwrap_or_default();
        diverged = status["streams"][0]["partitions"][0]["diverged"][0].clone();
        !diverged.is_null()
    });
    let path = diverged["path"].as_str().expect("a path").to_owned();
    assert!(path.ends_with("streams/0000/0000/0000"), "{path}");
    assert_eq!(diverged["events"], 3);
    let screen = sedge(&["status", "--config", &place.text("agent.toml")]).out;
    let line = "  diverged, 3 events not at the hub: streams/0000/0000/0000";
    assert!(screen.lines().any(|shown| shown == line), "{screen}");
    let metrics = get(place.http_address, "/metrics");
    for line in [
        "sedge_stream_diverged_logs{stream=\"telemetry\",partition=\"0\"} 1",
        "sedge_stream_diverged_events{stream=\"telemetry\",partition=\"0\"} 3",
    ] {
        assert!(metrics.lines().any(|has| has == line), "{metrics}");
    }
    assert_eq!(agent.stop().0, Some(0));
    let salvaged = sedge(&["inspect", &path, "--salvage", &place.text("salvaged")]);
    assert_eq!(salvaged.code, Some(0), "{}{}", salvaged.out, salvaged.err);
}

#[test]
fn more_partitions_end_the_logs_and_lose_nothing() {
    let place = Place::new();
    let agent = place.start_agent();
    assert_eq!(place.push("telemetry", &numbers(0..10)).code, Some(0));
    assert_eq!(agent.stop().0, Some(0));
    let text = place
        .agent_file()
        .replace("capacity = \"8MiB\"", "capacity = \"8MiB\"\npartitions = 3");
    place.write("agent.toml", &text);
    let (_hub, _agent) = (place.start_hub(), place.start_agent());
    assert_eq!(place.push("telemetry", &numbers(10..20)).code, Some(0));
    place.drained();
    let mut pulled: Vec<u64> = place
        .pull(&["--format", "raw"])
        .out
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect();
    pulled.sort_unstable();
    assert_eq!(pulled, (0..20).collect::<Vec<_>>());
}

#[test]
fn a_stream_that_nobody_has_is_told_by_its_name() {
    let place = Place::new();
    let (_hub, _agent) = (place.start_hub(), place.start_agent());
    let ran = place.push("telemtry", "1\n");
    assert_eq!(ran.code, Some(64));
    assert!(
        ran.err.contains("there is no stream \"telemtry\""),
        "{}",
        ran.err
    );
    place.drained();
    let ran = sedge(&["pull", "telemtry", "--hub", &place.hub_url()]);
    assert_eq!(ran.code, Some(69));
    assert!(
        ran.err
            .contains("the hub has no stream \"telemtry\" (it has: dead-letter, telemetry)"),
        "{}",
        ran.err
    );
}

#[test]
fn an_offset_beyond_the_end_is_told() {
    let place = Place::new();
    let (_hub, _agent) = (place.start_hub(), place.start_agent());
    place.push("telemetry", "1\n2\n3\n");
    place.drained();
    let ran = place.pull(&["--from", "4"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""));
    let said = "sedge: nothing from offset 4 on: telemetry ends before 3\n";
    assert_eq!(ran.err, said);
    for from in ["3", "latest"] {
        let ran = place.pull(&["--from", from]);
        assert_eq!(
            (ran.code, ran.out.as_str(), ran.err.as_str()),
            (Some(0), "", "")
        );
    }
}

#[test]
fn a_line_that_is_too_long_is_a_dead_letter_and_holds_nothing_up() {
    let place = Place::new();
    let (_hub, _agent) = (place.start_hub(), place.start_agent());
    let ran = place.push("telemetry", &format!("1\n{}\n2\n", "x".repeat(300 << 10)));
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(0), "3 lines are on disk, 1 of them as dead letters\n")
    );
    place.drained();
    assert_eq!(place.pull(&["--format", "raw"]).out, "1\n2\n");
    let ran = sedge(&["pull", "dead-letter", "--hub", &place.hub_url()]);
    assert!(
        ran.out.contains("\"reason\":\"oversize\"") && ran.out.contains("\"length\":\"307200\""),
        "{}",
        ran.out
    );
}

/// What is written beside each of them is more than the line itself.
#[test]
fn many_short_lines_without_a_key_are_dead_letters_all_of_them() {
    let place = Place::new();
    let _agent = place.start_agent();
    let ran = sedge_with(
        &[
            "push",
            "telemetry",
            "--key",
            "{/id}",
            "--config",
            &place.text("agent.toml"),
        ],
        &"no object\n".repeat(5_000),
    );
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (
            Some(0),
            "5000 lines are on disk, 5000 of them as dead letters\n"
        ),
        "{}",
        ran.err
    );
}

/// A log of the smallest capacity takes a little less than `record_max` allows: what it cannot take is a dead letter, and what follows is taken.
#[test]
fn an_event_that_its_log_is_too_small_for_is_a_dead_letter() {
    let place = Place::new();
    let file = place.agent_file().replace("\"8MiB\"", "\"4MiB\"");
    place.write("agent.toml", &file);
    let _agent = place.start_agent();
    let lines = [262_144, 261_700, 261_300, 5].map(|bytes| "x".repeat(bytes) + "\n");
    let ran = place.push("telemetry", &lines.concat());
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(0), "4 lines are on disk, 2 of them as dead letters\n"),
        "{}",
        ran.err
    );
}

#[test]
fn two_agents_on_one_directory_the_second_names_the_first() {
    let place = Place::new();
    let _agent = place.start_agent();
    let ran = sedge(&["agent", "--config", &place.text("agent.toml")]);
    assert_eq!(ran.code, Some(69));
    assert!(
        ran.err.contains("is held by another process (pid "),
        "{}",
        ran.err
    );
}

#[test]
fn status_and_metrics_say_what_an_operator_must_know() {
    let place = Place::new();
    let _agent = place.start_agent();
    assert_eq!(place.push("telemetry", &numbers(0..5)).code, Some(0));
    let status: serde_json::Value =
        serde_json::from_str(&place.status().out).expect("status is JSON");
    assert_eq!(status["uplinks"][0]["up"], false);
    assert_eq!(status["streams"][0]["partitions"][0]["lag"], 5);
    assert!(status["streams"][0]["partitions"][0]["oldest_unacked_s"].is_f64());
    assert_eq!(status["sources"][0]["up"], true);
    let screen = sedge(&["status", "--config", &place.text("agent.toml")]).out;
    assert!(
        screen.lines().all(|line| line.chars().count() <= 80),
        "{screen}"
    );
    assert!(
        screen.contains("telemetry") && screen.contains("DOWN"),
        "{screen}"
    );
    assert_eq!(get(place.http_address, "/healthz"), "ok\n");
    let metrics = get(place.http_address, "/metrics");
    for line in [
        "sedge_stream_lag_events{stream=\"telemetry\",partition=\"0\"} 5",
        "sedge_events_dropped_total{stream=\"telemetry\",partition=\"0\",reason=\"evicted\"} 0",
        "sedge_uplink_up{uplink=\"hq\"} 0",
    ] {
        assert!(
            metrics.lines().any(|has| has == line),
            "{line} is not in\n{metrics}"
        );
    }
}

#[test]
fn the_control_socket_belongs_to_its_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let _agent = place.start_agent();
    let socket = std::fs::metadata(place.path("agent/control.sock")).expect("it is there");
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_demo_balances() {
    let ran = sedge(&["demo", "--for", "5s"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("It balances"), "{}", ran.out);
    assert!(
        ran.out.lines().all(|line| line.chars().count() <= 90),
        "{}",
        ran.out
    );
}

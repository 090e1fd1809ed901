//! What `sedge doctor` finds in the way of an event, and how to mend it.

#[expect(dead_code, reason = "each file of stories uses its part of the rig")]
mod rig;

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rig::{Place, Ran, eventually, get, sedge};

fn doctor(place: &Place) -> Ran {
    sedge(&["doctor", "--config", &place.text("agent.toml")])
}

#[test]
fn a_gateway_that_works_has_nothing_to_mend() {
    let place = Place::new();
    let (_hub, _agent) = (place.start_hub(), place.start_agent());
    place.drained();
    let ran = doctor(&place);
    for line in [
        "ok    agent: runs",
        "is listened on",
        "answers, without TLS",
    ] {
        assert!(ran.out.contains(line), "{line} is not in\n{}", ran.out);
    }
    // The directory of a test may be in memory, which is told; nothing else is bad.
    let bad = ran.out.lines().filter(|line| line.starts_with("BAD"));
    let bad: Vec<&str> = bad.filter(|line| !line.contains("is in memory")).collect();
    assert_eq!(bad, Vec::<&str>::new());
    assert_eq!(ran.code == Some(0), !ran.out.contains("BAD"));
}

#[test]
fn each_thing_in_the_way_is_told_with_how_to_mend_it() {
    let place = Place::new();
    let broker = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let users = place
        .write("users", "pump:in-the-open\n")
        .display()
        .to_string();
    let _taken = TcpListener::bind(place.mqtt_address).unwrap();
    let text = place.agent_file().replace(
        "stream = \"telemetry\"\n",
        &format!("stream = \"telemetry\"\npassword_file = \"{users}\"\n"),
    );
    let text = format!(
        "{text}[[source]]\ntype = \"mqtt\"\nname = \"plant\"\nurl = \"mqtt://{broker}\"\ntopics = [\"#\"]\nstream = \"telemetry\"\n\
         [[source]]\ntype = \"serial\"\nname = \"boiler\"\ndevice = \"/dev/ttyNOT0\"\nprotocol = \"link\"\nstream = \"telemetry\"\n"
    );
    place.write("agent.toml", &text);
    let ran = doctor(&place);
    assert_eq!(ran.code, Some(69));
    assert!(ran.err.contains("things are to be mended"), "{}", ran.err);
    // As it was before it was folded to 80 columns.
    let whole = ran.out.replace("\n        ", " ");
    let whole = whole.replace("\n      → ", " → ").replace("\n      ", " ");
    let told = |what: &str, fix: &str| {
        let mut lines = whole.lines();
        let line = lines.find(|line| line.starts_with("BAD") && line.contains(what));
        let line = line.unwrap_or_else(|| panic!("{what} is not told in\n{whole}"));
        let (_, how) = line.split_once(" → ").expect("how to mend it");
        assert!(how.contains(fix), "{line}");
    };
    told("is in use by another program", "ss -ltnp");
    told("the password is not hashed", "sedge passwd");
    told(
        &format!("source plant: nobody listens at {broker}"),
        "start it there",
    );
    told("source boiler: /dev/ttyNOT0 is not there", "");
    told("uplink hq: nobody listens", "start it there");
    assert!(ran.out.contains("look  agent: none runs"), "{}", ran.out);
}

/// As `sedge doctor` by somebody without root's rights, whom no mode keeps out of anything.
fn doctor_of_nobody(file: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sedge"));
    command.args(["doctor", "--config", file]);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.output().expect("it runs").into()
}

#[test]
fn a_data_dir_that_cannot_be_made_or_written_is_told_for_agent_and_hub() {
    let place = Place::new();
    let mode = |path: &str, mode| {
        let set = fs::set_permissions(path, Permissions::from_mode(mode));
        set.expect("it is ours");
    };
    mode(&place.text(""), 0o755);
    let closed = place.text("closed");
    fs::create_dir(&closed).unwrap();
    mode(&closed, 0o555);
    let file = place.write("a-file", "").display().to_string();
    for (dir, said) in [
        (
            format!("{closed}/data"),
            format!("{closed}/data cannot be made"),
        ),
        (file.clone(), format!("\"{file}\" is no directory")),
        (
            format!("{file}/data"),
            format!("\"{file}/data\" cannot be made: {file} is no directory"),
        ),
    ] {
        let agent = place.agent_file().replace(&place.text("agent"), &dir);
        let hub = format!("[hub]\ndata_dir = \"{dir}\"\n");
        for (name, text) in [("agent.toml", agent), ("hub.toml", hub)] {
            let path = place.write(name, &text).display().to_string();
            let ran = doctor_of_nobody(&path);
            assert_eq!(ran.code, Some(69), "{name}: {}{}", ran.out, ran.err);
            let whole = ran.out.replace("\n      ", " ");
            let bad = format!("BAD   disk: {said}");
            assert!(whole.contains(&bad), "{name}: {bad} is not in\n{whole}");
        }
    }
    mode(&closed, 0o755);
}

/// The mirror is full and its hub keeps what it has: nothing is wrong with the connection, and still nothing goes out.
#[test]
fn a_hub_that_takes_no_more_is_told_with_how_to_mend_it() {
    let place = Place::new();
    let hub = fs::read_to_string(place.path("hub.toml")).unwrap();
    let stream = "[[hub.stream]]\nname = \"*\"\ncapacity = \"5MiB\"\nwhen_full = \"stop-acks\"\n";
    place.write("hub.toml", &format!("{hub}{stream}"));
    let (_hub, _agent) = (place.start_hub(), place.start_agent());
    let lines = format!("{}\n", "x".repeat(600)).repeat(12_000);
    let pushed = place.push("telemetry", &lines);
    assert_eq!(pushed.code, Some(0), "{}", pushed.err);
    let mut status = serde_json::Value::Null;
    eventually("the hub has refused it", || {
        status = serde_json::from_str(&place.status().out).expect("status is JSON");
        status["uplinks"][0]["refused"][0].is_object()
    });
    let told = serde_json::json!({ "stream": "telemetry", "partition": 0, "why": "disk full" });
    assert_eq!(status["uplinks"][0]["refused"], serde_json::json!([told]));
    assert_eq!(status["uplinks"][0]["up"], true);
    let metrics = get(place.http_address, "/metrics");
    let refused = "sedge_uplink_refused_logs{uplink=\"hq\"} 1\n";
    assert!(metrics.contains(refused), "{metrics}");
    let said = "telemetry/0: the hub does not take it now: disk full";
    let screen = sedge(&["status", "--config", &place.text("agent.toml")]);
    assert!(
        screen.out.contains(&format!("\n  {said}\n")),
        "{}",
        screen.out
    );
    let ran = doctor(&place);
    assert_eq!(ran.code, Some(69), "{}", ran.out);
    let bad = format!("BAD   uplink hq: {said}\n      → at the hub: ");
    assert!(ran.out.contains(&bad), "{bad} is not in\n{}", ran.out);
    assert!(!ran.out.contains("everything is up"), "{}", ran.out);
}

const NOBODY: u32 = 65_534;

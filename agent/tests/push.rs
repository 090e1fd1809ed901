//! `sedge push`: what it says and what becomes of its lines when it does not come to the end of its input.

#[expect(dead_code, reason = "each file of stories uses its part of the rig")]
mod rig;

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use rig::{Place, Service, eventually};
use rustix::process::{Pid, Signal, kill_process};

/// A push into `telemetry` whose input is not at its end.
struct Pushing(Child);

impl Pushing {
    fn begin(place: &Place) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sedge"));
        command
            .args(["push", "telemetry", "--config", &place.text("agent.toml")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self(command.spawn().expect("the binary starts"))
    }

    fn says(&mut self, text: &str) {
        let input = self.0.stdin.as_mut().expect("it is piped");
        input.write_all(text.as_bytes()).expect("it reads");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("it runs");
    }

    /// Its exit code, what it wrote, and to where errors go.
    fn ended(mut self) -> (Option<i32>, String, String) {
        // Waiting would close it, and the input were at its end.
        let _input = self.0.stdin.take();
        let code = self.0.wait().expect("it ends").code();
        let (mut out, mut err) = (String::new(), String::new());
        let stdout = self.0.stdout.as_mut().expect("it is piped");
        stdout.read_to_string(&mut out).expect("text");
        let stderr = self.0.stderr.as_mut().expect("it is piped");
        stderr.read_to_string(&mut err).expect("text");
        (code, out, err)
    }
}

impl Drop for Pushing {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn stored(place: &Place) -> u64 {
    let status: serde_json::Value =
        serde_json::from_str(&place.status().out).expect("status is JSON");
    let streams = status["streams"].as_array().expect("streams");
    let telemetry = streams.iter().find(|stream| stream["name"] == "telemetry");
    let partitions = telemetry.expect("it is there")["partitions"].as_array();
    let next = |partition: &serde_json::Value| partition["next"].as_u64().expect("a number");
    partitions.expect("partitions").iter().map(next).sum()
}

#[test]
fn who_is_stopped_says_what_is_on_disk_and_breaks_no_line_off() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::new();
        let (_hub, _agent) = (place.start_hub(), place.start_agent());
        let mut push = Pushing::begin(&place);
        push.says("1\n2\n3");
        eventually("two lines are stored", || stored(&place) == 2);
        push.signal(signal);
        let said = (
            Some(74),
            "2 lines are on disk\n".to_owned(),
            "sedge: stopped before the end of the input\n".to_owned(),
        );
        assert_eq!(push.ended(), said);
        place.drained();
        assert_eq!(place.pull(&["--format", "raw"]).out, "1\n2\n");
    }
}

#[test]
fn who_is_stopped_twice_does_not_wait_for_an_agent_that_hangs() {
    let place = Place::new();
    let agent = place.start_agent();
    let mut push = Pushing::begin(&place);
    push.says("1\n");
    eventually("a line is stored", || stored(&place) == 1);
    agent.signal(Signal::STOP);
    let hung = Hung(&agent);
    let stat = format!("/proc/{}/stat", agent.pid());
    eventually("the agent stands still", || {
        std::fs::read_to_string(&stat).unwrap().contains(") T ")
    });
    push.signal(Signal::TERM);
    // The second is one only if the first has been heard.
    eventually("it ends", || {
        push.signal(Signal::TERM);
        push.0.try_wait().expect("it is ours").is_some()
    });
    let (code, out, err) = push.ended();
    assert_eq!((code, out.as_str()), (Some(74), ""));
    assert!(
        err.starts_with("sedge: stopped; 1 lines are on disk"),
        "{err}"
    );
    drop(hung);
}

/// The log is full and keeps what it has: who pushes waits for room, and not any more once it is told to stop. Who comes then is told at once.
#[test]
fn a_full_log_takes_nothing_and_who_waits_for_it_can_be_stopped() {
    let place = Place::new();
    let keeps = "capacity = \"5MiB\"\nwhen_full = \"refuse\"";
    let file = place.agent_file().replace("capacity = \"8MiB\"", keeps);
    assert!(file.contains(keeps), "{file}");
    place.write("agent.toml", &file);
    let _agent = place.start_agent();
    let mut push = Pushing::begin(&place);
    let line = format!("{}\n", "x".repeat(10_000));
    let all = std::thread::spawn({
        let mut input = push.0.stdin.take().expect("it is piped");
        // Until nobody takes it any more.
        move || while input.write_all(line.as_bytes()).is_ok() {}
    });
    eventually("it is full", || {
        let status: serde_json::Value =
            serde_json::from_str(&place.status().out).expect("status is JSON");
        let streams = status["streams"].as_array().expect("streams");
        let mut partitions = streams.iter().flat_map(|stream| {
            let partitions = stream["partitions"].as_array();
            partitions.expect("partitions").iter()
        });
        partitions.any(|partition| partition["full"] == true)
    });
    push.signal(Signal::TERM);
    let (code, out, err) = push.ended();
    assert_eq!((code, out.as_str()), (Some(74), ""));
    let count = err.strip_prefix("sedge: stopped; ");
    let count =
        count.and_then(|rest| rest.strip_suffix(" lines are on disk, the rest may not be\n"));
    let count: u64 = count.and_then(|count| count.parse().ok()).expect(&err);
    assert!((100..520).contains(&count), "{count} of 10 KB in 5 MiB");
    all.join().expect("it has ended");

    let late = place.push("telemetry", "1\n");
    assert_eq!(late.code, Some(69), "{late:?}");
    let told = "stream telemetry: full, and nothing may be evicted";
    assert!(late.err.contains(told), "{late:?}");
}

/// Goes on when this is dropped, so that it can end.
struct Hung<'a>(&'a Service);

impl Drop for Hung<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::CONT);
    }
}

#[test]
fn who_is_stopped_in_the_middle_of_a_long_line_leaves_nothing_of_it() {
    let place = Place::new();
    let (_hub, _agent) = (place.start_hub(), place.start_agent());
    let mut push = Pushing::begin(&place);
    push.says("1\n");
    push.says(&"x".repeat(200 << 10));
    eventually("a line is stored", || stored(&place) == 1);
    push.signal(Signal::TERM);
    let (code, out, _) = push.ended();
    assert_eq!((code, out.as_str()), (Some(74), "1 lines are on disk\n"));
    place.drained();
    assert_eq!(place.pull(&["--format", "raw"]).out, "1\n");
}

#[test]
fn an_agent_that_ends_before_the_input_does_is_no_success() {
    let place = Place::new();
    let agent = place.start_agent();
    let mut push = Pushing::begin(&place);
    push.says("1\n2\n");
    eventually("two lines are stored", || stored(&place) == 2);
    assert_eq!(agent.stop().0, Some(0));
    let said = (
        Some(74),
        "2 lines are on disk\n".to_owned(),
        "sedge: the agent ended before the input did\n".to_owned(),
    );
    assert_eq!(push.ended(), said);
}

#[test]
fn what_is_no_socket_is_not_removed_for_one() {
    let place = Place::new();
    let other = place.write("control", "somebody's");
    let gateway = format!("id = \"gw-1\"\ncontrol = \"{}\"", other.display());
    let file = place.agent_file().replacen("id = \"gw-1\"", &gateway, 1);
    let config = place.write("agent.toml", &file);
    let ran = rig::sedge(&["agent", "--config", &config.display().to_string()]);
    assert_ne!(ran.code, Some(0));
    assert!(ran.err.contains("no socket stands there"), "{}", ran.err);
    assert_eq!(std::fs::read_to_string(other).unwrap(), "somebody's");
}

#[test]
fn the_end_of_a_line_is_that_of_any_system() {
    let place = Place::new();
    let (_hub, _agent) = (place.start_hub(), place.start_agent());
    let ran = place.push("telemetry", "1\r\n2\n\r3\r\n4");
    assert_eq!(ran.out, "4 lines are on disk\n", "{}", ran.err);
    place.drained();
    assert_eq!(place.pull(&["--format", "raw"]).out, "1\n2\n\r3\n4\n");
}

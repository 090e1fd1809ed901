//! `sedge tail` with the real binary.

#[expect(dead_code, reason = "each file of stories uses its part of the rig")]
mod rig;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use rig::{Place, sedge};

fn numbers(range: std::ops::Range<u64>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

fn tail(place: &Place, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sedge"));
    command
        .args(["tail", "telemetry", "--config", &place.text("agent.toml")])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A line of what `tail` shows, and the process that shows more.
fn first_line(mut command: Command) -> (String, BufReader<std::process::ChildStdout>, Child) {
    let mut child = command.spawn().expect("the binary starts");
    let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    (line, out, child)
}

#[test]
fn an_event_looks_as_it_will_for_a_consumer_and_nobody_else_needs_to_be_there() {
    let place = Place::new();
    let agent = place.start_agent();
    assert_eq!(place.push("telemetry", "{\"t\":1}\nplain\n").code, Some(0));
    let arguments = ["--limit", "2", "--format", "json"];
    let shown = tail(&place, &arguments).output().expect("it runs");
    assert_eq!(shown.status.code(), Some(0));
    let _hub = place.start_hub();
    place.drained();
    let shown = String::from_utf8(shown.stdout).expect("text");
    assert_eq!(shown, place.pull(&[]).out);
    drop(agent);
}

#[test]
fn what_comes_later_is_shown_when_it_comes() {
    let place = Place::new();
    let _agent = place.start_agent();
    assert_eq!(place.push("telemetry", &numbers(0..5)).code, Some(0));
    let (first, out, mut child) = first_line(tail(&place, &["--last", "1", "--limit", "3"]));
    assert!(first.ends_with("gw-1/0 4 push 4\n"), "{first}");
    assert_eq!(place.push("telemetry", &numbers(5..9)).code, Some(0));
    let rest: Vec<String> = out.lines().map(|line| line.expect("text")).collect();
    assert_eq!(rest.len(), 2);
    assert!(rest[1].ends_with("gw-1/0 6 push 6"), "{rest:?}");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

/// It is started and not read from again, while more comes than pipe, socket and patience hold.
#[test]
fn a_reader_that_does_not_read_holds_up_nothing_and_is_told_what_it_missed() {
    let place = Place::new();
    let _agent = place.start_agent();
    assert_eq!(place.push("telemetry", "first\n").code, Some(0));
    let (_, out, mut child) = first_line(tail(&place, &["--last", "1"]));
    let pushed = place.push("telemetry", &numbers(0..60_000));
    assert_eq!(pushed.out, "60000 lines are on disk\n");
    let mut missed = 0;
    for line in out.lines() {
        let line = line.expect("text");
        if let Some(rest) = line.strip_prefix("… ") {
            let count = rest.strip_suffix(" not shown").expect("a count");
            missed += count.parse::<u64>().expect("a number");
        }
        if line.ends_with(" 59999") {
            break;
        }
    }
    assert!(missed > 0 && missed < 60_000, "{missed}");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

#[test]
fn it_ends_well_when_it_is_told_to_and_says_so_when_the_agent_has_ended() {
    let place = Place::new();
    let agent = place.start_agent();
    assert_eq!(place.push("telemetry", "one\n").code, Some(0));
    let (_, _out, mut told) = first_line(tail(&place, &[]));
    let pid = rustix::process::Pid::from_child(&told);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    assert_eq!(told.wait().expect("it ends").code(), Some(0));
    let (_, _out, child) = first_line(tail(&place, &[]));
    assert_eq!(agent.stop().0, Some(0));
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("the agent ended"));
}

#[test]
fn a_stream_that_there_is_not_is_a_mistake_of_the_command_line() {
    let place = Place::new();
    let _agent = place.start_agent();
    let ran = sedge(&["tail", "nothing", "--config", &place.text("agent.toml")]);
    assert_eq!(ran.code, Some(64));
    assert!(
        ran.err.contains("there is no stream \"nothing\""),
        "{}",
        ran.err
    );
}

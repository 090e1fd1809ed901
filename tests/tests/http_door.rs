//! The hub's HTTP door as programs of others meet it: what is described is what is answered, and what was answered is there after a kill.

use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use sedge_tests::rig::daemon::Daemon;
use sedge_tests::rig::peers;
use sedge_tests::rig::site::{STREAM, Setup, Site, ask_at};
use sedge_tests::rig::{Missing, alone, eventually, skip};
use serde_json::{Value, json};

/// A hub with numbered events in two partitions.
fn filled(count: u64) -> (Site, Daemon) {
    let site = Site::new(Setup {
        partitions: 2,
        ..Setup::default()
    });
    let (hub, agent) = (site.start_hub(), site.start_agent());
    site.wait_for_agent();
    site.wait_for_hub();
    let lines: String = (0..count).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    assert!(site.push(&lines).status.success());
    eventually(WITHIN, "the hub has everything", || {
        (held(&site) == count).then_some(())
    });
    agent.terminate(WITHIN);
    (site, hub)
}

/// Events that the hub has.
fn held(site: &Site) -> u64 {
    let page = site.hub_page(&format!("/v1/streams/{STREAM}"));
    let listed: Value = serde_json::from_str(&page).expect("JSON");
    let partitions = listed["partitions"].as_array().into_iter().flatten();
    partitions.filter_map(|p| p["end"].as_u64()).sum()
}

/// schemathesis asks what the description allows and what it forbids, a request after another, and looks whether each answer is described.
#[test]
fn schemathesis_hears_nothing_that_is_not_described() {
    let story = "schemathesis_hears_nothing_that_is_not_described";
    let _alone = alone();
    let program = peers::installed().join("schemathesis/bin/schemathesis");
    if !program.exists() {
        let missing = "schemathesis, which `cargo xtask peers --python` installs";
        return skip(story, &Missing::Program(missing));
    }
    let (site, _hub) = filled(2_000);
    let mut command = Command::new(program);
    command
        .arg("--config-file")
        .arg(peers::scripts().join("schemathesis/schemathesis.toml"));
    let description = format!("http://{}/v1/openapi.json", site.hub_http);
    command.args(["run", &description, "--checks", "all", "--no-color"]);
    // More than one worker has met a fault of Python 3.11.
    command.args(["--max-time", "20", "--workers", "1", "--seed", "1"]);
    // It writes down what it has learnt.
    command.current_dir(site.file(""));
    let run = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}");
    let tested = said.lines().find(|line| line.contains(" generated, "));
    let count = tested.and_then(|line| line.trim().split(' ').next()?.parse().ok());
    assert!(count > Some(100_u32), "it has hardly asked: {said}");
}

/// The hub is killed as soon as it has answered, again and again.
#[test]
fn what_was_put_down_for_a_group_is_there_after_a_kill() {
    let _alone = alone();
    let (site, mut hub) = filled(100);
    let path = "/v1/consumers/billing/offsets";
    for offset in 0..10_u64 {
        let asked = json!({ STREAM: { "0": offset } }).to_string();
        let (status, moved) = ask_at(site.hub_http, "PUT", path, &asked).expect("an answer");
        hub.kill();
        assert_eq!(status, 200, "{moved}");
        hub = site.start_hub();
        eventually(WITHIN, "the hub's HTTP door", || {
            TcpStream::connect(site.hub_http).ok()
        });
        let shown: Value = serde_json::from_str(&site.hub_page(path)).expect("JSON");
        let place = &shown["streams"][0]["partitions"][0]["offset"];
        assert_eq!(*place, offset, "{shown}");
    }
}

const WITHIN: Duration = Duration::from_secs(30);

//! A configuration that is changed while the agent runs: it holds, or everything is as before, and no event is lost either way.

#[expect(dead_code, reason = "each file of stories uses its part of the rig")]
mod rig;

use std::net::TcpListener;
use std::path::PathBuf;

use rig::{Place, Ran, Service, eventually, page, sedge};
use rustix::process::Signal;

struct Story {
    place: Place,
    log: PathBuf,
    agent: Service,
    _hub: Service,
    pushed: u64,
}

impl Story {
    fn begin() -> Self {
        let place = Place::new();
        let hub = place.start_hub();
        let log = place.path("agent.log");
        let file = place.text("agent.toml");
        let agent = Service::start_with_log(&["agent", "--config", &file], &log);
        eventually("the agent answers", || place.status().code == Some(0));
        let mut story = Self {
            place,
            log,
            agent,
            _hub: hub,
            pushed: 0,
        };
        story.push(10);
        story.place.drained();
        story
    }

    fn push(&mut self, count: u64) {
        self.write(|text| text);
        let lines: String = (self.pushed..self.pushed + count)
            .map(|n| format!("{n}\n"))
            .collect();
        let ran = self.place.push("telemetry", &lines);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        self.pushed += count;
    }

    /// The file of the agent, changed.
    fn write(&self, change: impl FnOnce(String) -> String) {
        self.place
            .write("agent.toml", &change(self.place.agent_file()));
    }

    fn reload(&self, confirm: &str) -> Ran {
        let socket = self.place.path("agent").join("control.sock");
        let socket = socket.display().to_string();
        sedge(&["reload", "--confirm", confirm, "--socket", &socket])
    }

    fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.place.status().out).expect("status is JSON")
    }

    /// Everything that was pushed is at the hub, once and in order.
    fn ends_whole(mut self) {
        self.write(|text| text);
        self.push(10);
        self.place.drained();
        let all: String = (0..self.pushed).map(|n| format!("{n}\n")).collect();
        assert_eq!(self.place.pull(&["--format", "raw"]).out, all);
    }
}

#[test]
fn a_source_that_is_added_needs_no_restart() {
    let mut story = Story::begin();
    let more = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    story.write(|text| {
        format!(
            "{text}[[source]]\ntype = \"mqtt-listen\"\nname = \"second\"\nlisten = \"{more}\"\nstream = \"telemetry\"\n"
        )
    });
    let ran = story.reload("20s");
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(0), "the new configuration holds\n"),
        "{}",
        ran.err
    );
    let status = story.status();
    assert_eq!(status["sources"][1]["name"], "second");
    assert_eq!(status["uplinks"][0]["up"], true);
    assert!(std::net::TcpStream::connect(more).is_ok());
    story.push(10);
    story.ends_whole();
}

#[test]
fn an_uplink_that_does_not_come_back_takes_the_change_back() {
    let mut story = Story::begin();
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let hub = story.place.hub_url();
    story.write(|text| text.replace(&hub, &format!("sedge://{nobody}")));
    let ran = story.reload("2s");
    assert_eq!(ran.code, Some(78));
    assert!(
        ran.err
            .contains("uplink hq did not come back within 2s; everything is as before"),
        "{}",
        ran.err
    );
    story.push(10);
    story.place.drained();
    story.ends_whole();
}

#[test]
fn a_file_that_cannot_be_meant_changes_nothing_and_the_log_says_what_is_wrong() {
    let mut story = Story::begin();
    story.write(|text| text.replace("[[stream]]", "[[strem]]"));
    let ran = story.reload("5s");
    assert_eq!(ran.code, Some(78));
    assert!(ran.err.contains("did you mean \"stream\"?"), "{}", ran.err);
    story.agent.signal(Signal::HUP);
    eventually("the log says it", || {
        let log = std::fs::read_to_string(&story.log).unwrap();
        log.matches("the configuration is wrong; everything is as before")
            .count()
            == 2
    });
    story.push(10);
    let id = |text: String| text.replace("id = \"gw-1\"", "id = \"gw-2\"");
    story.write(id);
    let ran = story.reload("5s");
    assert!(
        ran.err
            .contains("gateway.id takes a restart; everything is as before"),
        "{}",
        ran.err
    );
    let full = |text: String| text.replace("http = \"", "http = \"127.0.0.1:1\" #");
    story.write(full);
    let ran = story.reload("5s");
    // Whoever may not have this port is told so; root may.
    assert!(
        ran.code == Some(0) || ran.err.contains("it does not start"),
        "{}",
        ran.err
    );
    story.ends_whole();
}

#[test]
fn a_hangup_reads_the_file_again() {
    let mut story = Story::begin();
    story.write(|text| format!("{text}[[stream]]\nname = \"alarms\"\ncapacity = \"4MiB\"\n"));
    story.agent.signal(Signal::HUP);
    eventually("the stream is there", || {
        // Between two lives nobody answers.
        let Ok(status) = serde_json::from_str::<serde_json::Value>(&story.place.status().out)
        else {
            return false;
        };
        let streams = status["streams"].as_array().unwrap();
        streams.iter().any(|s| s["name"] == "alarms")
    });
    eventually("it holds", || {
        let log = std::fs::read_to_string(&story.log).unwrap();
        log.contains("the new configuration holds")
    });
    story.push(10);
    story.ends_whole();
}

/// The logs that end with it are followed by others; whoever reads goes on with the offset that it has.
#[test]
fn streams_are_shown_over_http_when_that_is_wanted_and_go_on_behind_a_log_that_ended() {
    let story = Story::begin();
    let http = story.place.http_address;
    let (status, _) = page(http, "/v1/streams");
    assert_eq!(status, 404, "it is not wanted");
    let shown = |text: String| text.replace("[gateway]\n", "[gateway]\nhttp_streams = \"on\"\n");
    story.write(shown);
    assert_eq!(story.reload("20s").code, Some(0));
    let values = |text: &str| -> Vec<(u64, u64)> {
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let records = lines.filter(|line: &serde_json::Value| !line["offset"].is_null());
        let number = |value: &serde_json::Value| value.as_u64().unwrap();
        records
            .map(|line| (number(&line["offset"]), number(&line["value"])))
            .collect()
    };
    let path = "/v1/streams/telemetry/0/records";
    let (status, text) = page(http, path);
    let first = values(&text);
    assert_eq!(status, 200, "{text}");
    let pulled = story.place.pull(&["--format", "json"]).out;
    assert_eq!(
        first,
        values(&pulled),
        "as at the hub, which has the same log"
    );
    let next = first.last().unwrap().0 + 1;
    let two = |text: String| text.replace("\"8MiB\"\n", "\"8MiB\"\npartitions = 2\n");
    story.write(|text| two(shown(text)));
    assert_eq!(story.reload("20s").code, Some(0));
    let lines: String = (10..40).map(|n| format!("{n}\n")).collect();
    assert_eq!(story.place.push("telemetry", &lines).code, Some(0));
    let mut all = Vec::new();
    for partition in 0..2 {
        let from = if partition == 0 { next } else { 0 };
        let path = format!("/v1/streams/telemetry/{partition}/records?from={from}");
        let (_, text) = page(http, &path);
        let here = values(&text);
        assert!(here.iter().all(|(offset, _)| *offset >= from), "{text}");
        all.extend(here.into_iter().map(|(_, value)| value));
    }
    all.sort_unstable();
    assert_eq!(all, Vec::from_iter(10..40));
}

//! `sedge doctor`: goes the whole way of an event, from the port of a device to the hub, and says of everything that is in its way how to mend it.
//!
//! It only looks: nothing is written, no event is taken, and a broker sees a client of another name.

mod machine;
mod network;
mod places;

use std::fmt;
use std::path::PathBuf;

use sedge_config::{Files, checked};
use tracing::Level;

use super::{Code, Failure, agent_of, folded, logging, print, runtime};

/// Which gateway.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// File of the agent; of a hub, only its directory is looked at
    #[arg(long, value_name = "FILE", default_value = super::agent::USUAL_FILE)]
    config: PathBuf,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    grade: Grade,
    /// What it is about, such as `uplink hq`.
    about: String,
    what: String,
    /// What to do.
    fix: Option<String>,
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    Good,
    /// It may surprise.
    Doubtful,
    /// Events do not get through here.
    Bad,
}

impl Finding {
    fn good(about: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            grade: Grade::Good,
            about: about.into(),
            what: what.into(),
            fix: None,
        }
    }

    fn doubtful(about: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            grade: Grade::Doubtful,
            fix: Some(fix.into()),
            ..Self::good(about, what)
        }
    }

    fn bad(about: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            grade: Grade::Bad,
            ..Self::doubtful(about, what, fix)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.grade {
            Grade::Good => "ok  ",
            Grade::Doubtful => "look",
            Grade::Bad => "BAD ",
        };
        let what = format!("{}: {}", self.about, self.what);
        let mut lines: Vec<String> = folded(&what, &format!("{mark}  "), "      ").collect();
        if let Some(fix) = &self.fix {
            lines.extend(folded(fix, "      → ", "        "));
        }
        f.write_str(&lines.join("\n"))
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    logging::start(Level::ERROR);
    let files = Files::read(&arguments.config).map_err(Failure::config)?;
    let findings = match files.are_of_a_hub() {
        true => {
            let hub = sedge_config::hub::of(&files).map_err(Failure::config)?;
            places::directory(&hub.data_dir, "hub.data_dir")
        }
        false => runtime()?.block_on(examine(&agent_of(&files)?)),
    };
    let shown = findings.iter().map(|finding| format!("{finding}\n"));
    print(&shown.collect::<String>())?;
    let bad = findings.iter().filter(|f| f.grade == Grade::Bad).count();
    match bad {
        0 => Ok(()),
        1 => Err(Failure::new(Code::Unavailable, "one thing is to be mended")),
        n => Err(Failure::new(
            Code::Unavailable,
            format!("{n} things are to be mended"),
        )),
    }
}

/// All of it, in the order in which an event meets it.
async fn examine(agent: &checked::Agent) -> Vec<Finding> {
    let mut findings = machine::running(agent);
    findings.extend(machine::clock(agent));
    for source in &agent.sources {
        match source {
            checked::Source::Serial(serial) => findings.extend(places::serial(serial)),
            checked::Source::MqttListen(listen) => {
                findings.extend(places::listener(agent, listen));
            }
            checked::Source::Mqtt(mqtt) => findings.extend(network::broker(mqtt).await),
        }
    }
    findings.extend(places::disk(agent));
    for uplink in &agent.uplinks {
        findings.extend(network::uplink(agent, uplink).await);
    }
    if agent.uplinks.is_empty() {
        findings.push(Finding::doubtful(
            "uplinks",
            "there is none: nothing leaves this machine",
            "add an [[uplink]] to the file",
        ));
    }
    findings
}

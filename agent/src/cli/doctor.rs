//! `sedge doctor`: goes the whole way of an event, from the port of a device to the hub, and says of everything that is in its way how to mend it.
//!
//! It only looks: nothing is written, no event is taken, and a broker sees a client of another name.

mod machine;
mod network;
mod places;

use std::fmt;
use std::io::{self, Write as _};
use std::path::PathBuf;

use sedge_config::checked;

use super::{Code, Failure, folded, load_agent, logging, runtime};

/// Which gateway.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// File of the agent
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
    logging::start("error");
    let agent = load_agent(&arguments.config)?;
    let findings = runtime()?.block_on(examine(&agent));
    let mut out = io::stdout();
    for finding in &findings {
        writeln!(out, "{finding}")
            .map_err(|error| Failure::io(format!("standard output: {error}")))?;
    }
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
    let mut findings = vec![machine::running(agent)];
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

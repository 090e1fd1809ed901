//! What an operator must know of an agent, at one moment: the answer to `sedge status --json`, and what metrics are made of.
//!
//! The field names are a contract (docs/guide/operations.md). Gathering is done by [`crate::gateway`], showing by the commands.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cli::{count, span};
use crate::outlook::{Outlook, Wear};

/// An agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The gateway's name.
    pub gateway: String,
    /// Of the program.
    pub version: String,
    /// Of the process.
    pub pid: u32,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Directory of the logs.
    pub data_dir: String,
    /// What is wrong with the clock of the system, as far as certificates are concerned; none if nothing is known to be.
    pub clock: Option<String>,
    /// Who vouches for the time that events are stamped with: `ntp`, `hub` or the machine `itself`; none if nobody does.
    #[serde(default)]
    pub time: Option<String>,
    /// What is left of an hour's worth of `write_budget`, as a share of it; below 0 if more is written. None without a budget.
    #[serde(default)]
    pub write_budget_left: Option<f64>,
    /// In the order of the file.
    pub sources: Vec<Source>,
    /// In the order of the file; those that only drain come last.
    pub streams: Vec<Stream>,
    /// In the order of the file.
    pub uplinks: Vec<Uplink>,
    /// What it writes to its disk.
    #[serde(default)]
    pub wear: Wear,
}

/// A source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Where its events go.
    pub stream: String,
    /// Whether events can come in.
    pub up: bool,
    /// What it is doing, in words.
    pub state: String,
    /// Connected devices.
    pub clients: u64,
    /// Events a second, over the last ten.
    pub rate: f64,
    /// Events taken over the wire.
    pub accepted: u64,
    /// Their payload bytes.
    pub accepted_bytes: u64,
    /// Events on disk and acknowledged.
    pub settled: u64,
    /// Redeliveries recognised and not stored again.
    pub duplicates: u64,
    /// Events not taken, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Connections ended or refused, by reason.
    pub incidents: BTreeMap<String, u64>,
}

/// A stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Not in the file any more: it takes nothing, and is kept until the uplinks have it.
    pub draining: bool,
    /// In their order.
    pub partitions: Vec<Partition>,
}

/// A partition: the newest log of its chain, and what older ones still hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Partition {
    /// Its number.
    pub partition: u16,
    /// Id of its newest log, 32 hex digits.
    pub log: String,
    /// First offset that is held.
    pub oldest: u64,
    /// One past the last offset that is durable.
    pub next: u64,
    /// Events that are held; burned offsets are none.
    pub held: u64,
    /// Part of its segments that hold something.
    pub fill: f64,
    /// Disk space, fixed.
    pub capacity_bytes: u64,
    /// Events a second, over the last ten.
    pub rate: f64,
    /// Full, and nothing may be evicted: sources are held back.
    pub full: bool,
    /// Why nothing is taken: the disk has no room for the log. Tried again by itself.
    pub refused: Option<String>,
    /// Events that not every uplink has; none without an uplink.
    pub lag: Option<u64>,
    /// Age of the oldest of them in seconds.
    pub oldest_unacked_s: Option<f64>,
    /// When what not every uplink has must give way to what comes, or keeps it out; without an uplink, when the oldest must. None
    /// before enough was measured.
    pub full_in_s: Option<Outlook>,
    /// Where every offset that is no longer held has gone.
    pub losses: Losses,
    /// Commits in this life, each with one sync.
    pub commits: u64,
    /// Time spent in them, in seconds.
    pub commit_s: f64,
    /// The longest, in seconds.
    pub commit_max_s: f64,
    /// Frame bytes written in this life.
    pub bytes: u64,
    /// Bytes written to the device in this life, in whole pages.
    #[serde(default)]
    pub written_bytes: u64,
    /// Syncs in this life.
    #[serde(default)]
    pub syncs: u64,
    /// How long a commit waits for company now.
    #[serde(default)]
    pub linger_s: f64,
    /// Earlier logs of its chain that a hub holds otherwise.
    pub diverged: Vec<Diverged>,
}

/// A log that was ended because a hub holds another history under its id: it stays where it is, and is offered to nobody.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Diverged {
    /// Its id, 32 hex digits.
    pub log: String,
    /// Its directory.
    pub path: String,
    /// Events in it that some uplink has never acknowledged: at most so many are only there.
    pub events: u64,
}

/// Where the offsets of a log have gone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// Released after every uplink had them: no loss.
    pub handed_over: u64,
    /// Given up to make room.
    pub evicted: u64,
    /// Given up for their age.
    pub expired: u64,
    /// Unreadable.
    pub corrupt: u64,
    /// Burned by a restart, never accepted: no loss.
    pub burned: u64,
    /// Not taken because the log was full: they never had an offset.
    pub refused: u64,
    /// When something was first lost; µs since 1970.
    pub first: Option<i64>,
    /// When something was last lost.
    pub last: Option<i64>,
}

/// An uplink.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Uplink {
    /// Its name.
    pub name: String,
    /// Host and port of the hub.
    pub hub: String,
    /// Whether events can go out.
    pub up: bool,
    /// What it is doing, in words.
    pub state: String,
    /// Events that it has not handed over.
    pub lag: u64,
    /// Age of the oldest of them in seconds.
    pub oldest_unacked_s: Option<f64>,
    /// Events handed over a second, over the last ten.
    pub rate: f64,
    /// When it has handed over all that waits for it. None without a backlog, while it is down, and before enough was measured.
    pub empty_in_s: Option<Outlook>,
    /// Events lost before they were handed over, which the next gap will tell.
    pub lost: u64,
    /// Logs that the hub does not take for the time being; each is offered again by itself.
    #[serde(default)]
    pub refused: Vec<Refused>,
    /// When the gateway's certificate for it ends, in seconds since 1970; none without one.
    pub certificate_ends: Option<u64>,
}

/// A log that a hub does not take for the time being.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// Its stream.
    pub stream: String,
    /// Its partition.
    pub partition: u16,
    /// What the hub says, such as `disk full`.
    pub why: String,
}

impl Status {
    /// How it goes, in one line: each uplink, what it has before it, and what is down.
    #[must_use]
    pub fn line(&self) -> String {
        let uplinks = self.uplinks.iter().map(Uplink::words);
        let held = || {
            let partitions = self.streams.iter().flat_map(|stream| &stream.partitions);
            let held = partitions.map(|partition| partition.held).sum();
            format!("no uplink, {} events held", count(held))
        };
        let alone = self.uplinks.is_empty().then(held);
        let down = self.sources.iter().filter(|source| !source.up);
        let down = down.map(|source| format!("source {} DOWN ({})", source.name, source.state));
        let words: Vec<String> = uplinks.chain(alone).chain(down).collect();
        words.join("; ")
    }
}

impl Uplink {
    fn words(&self) -> String {
        let state = match self.up {
            true => "up".to_owned(),
            false => format!("DOWN ({})", self.state),
        };
        let since = self.oldest_unacked_s.filter(|_| self.lag > 0);
        let since = since.map_or(String::new(), |age| {
            format!(", the oldest {} old", span(age))
        });
        let lag = count(self.lag);
        let refused: Vec<String> = self.refused.iter().map(Refused::to_string).collect();
        let refused = match refused.is_empty() {
            true => String::new(),
            false => format!(" ({})", refused.join("; ")),
        };
        format!(
            "uplink {} {state}, {lag} events waiting{since}{refused}",
            self.name
        )
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            stream,
            partition,
            why,
        } = self;
        write!(
            f,
            "{stream}/{partition}: the hub does not take it now: {why}"
        )
    }
}

impl Losses {
    /// Events that were accepted once and are gone.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.evicted + self.expired + self.corrupt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_what_waits_and_what_is_down() {
        let mut status = Status {
            streams: vec![Stream {
                partitions: vec![Partition {
                    held: 12_345,
                    ..Partition::default()
                }],
                ..Stream::default()
            }],
            ..Status::default()
        };
        assert_eq!(status.line(), "no uplink, 12.3k events held");
        status.uplinks.push(Uplink {
            name: "hq".into(),
            state: "cannot connect".into(),
            lag: 12,
            oldest_unacked_s: Some(185.0),
            ..Uplink::default()
        });
        status.sources.push(Source {
            name: "plc".into(),
            state: "no such device".into(),
            ..Source::default()
        });
        assert_eq!(
            status.line(),
            "uplink hq DOWN (cannot connect), 12 events waiting, the oldest 3m 5s old; source plc DOWN (no such device)"
        );
    }
}

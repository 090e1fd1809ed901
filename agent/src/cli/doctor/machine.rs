//! The machine: whether an agent runs, and what its clock is worth.

use std::io;
use std::path::Path;
use std::time::Duration;

use sedge_config::checked;
use sedge_core::custody::message::Code;
use sedge_uplink::trust::clock::ClockState;
use sedge_uplink::trust::unix_s;

use super::Finding;
use crate::cli::{reach, span};
use crate::status::{Status, Uplink};
use crate::{control, gateway};

/// Whether an agent runs, and what it says itself.
pub(super) fn running(agent: &checked::Agent) -> Vec<Finding> {
    let finding = match status(&agent.gateway.control) {
        Ok(status) => {
            let mut findings = vec![what_is_up(&status)];
            findings.extend(status.uplinks.iter().flat_map(refused));
            return findings;
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Finding::doubtful(
            "agent",
            "whether one runs cannot be seen by this user",
            "run this as its user: sudo -u sedge sedge doctor",
        ),
        Err(_) => Finding::doubtful(
            "agent",
            "none runs",
            "sudo systemctl enable --now sedge-agent (or `sedge agent`)",
        ),
    };
    vec![finding]
}

fn what_is_up(status: &Status) -> Finding {
    let down = status.sources.iter().filter(|s| !s.up).map(|s| &s.name);
    let down = down.chain(status.uplinks.iter().filter(|u| !u.up).map(|u| &u.name));
    let down: Vec<&str> = down.map(String::as_str).collect();
    let up = span(status.uptime_s as f64);
    let is_refused = status.uplinks.iter().any(|u| !u.refused.is_empty());
    match down.is_empty() {
        true if is_refused => Finding::good("agent", format!("runs, since {up}")),
        true => Finding::good("agent", format!("runs, since {up}; everything is up")),
        false => Finding::doubtful(
            "agent",
            format!("runs, since {up}; down: {}", down.join(", ")),
            "see below, and `sedge status`",
        ),
    }
}

/// What the hub of an uplink does not take, though it can be reached.
fn refused(uplink: &Uplink) -> impl Iterator<Item = Finding> {
    let about = format!("uplink {}", uplink.name);
    uplink.refused.iter().map(move |log| {
        let fix = match log.why == Code::DISK_FULL.to_string() {
            true => {
                "at the hub: `capacity` of the stream's mirrors or `disk_max` is used up, or the disk is full; give it more room, or let the oldest go with when_full = \"evict-oldest\""
            }
            false => "the hub's log says why",
        };
        Finding::bad(&*about, log.to_string(), fix)
    })
}

fn status(socket: &Path) -> io::Result<Status> {
    let answer = reach::ask(socket, control::STATUS, PATIENCE)?;
    serde_json::from_str(&answer).map_err(io::Error::other)
}

/// What the clock is worth.
pub(super) fn clock(agent: &checked::Agent) -> Vec<Finding> {
    let known = gateway::trust_clock(&agent.gateway.data_dir);
    let wrong = |what: String| {
        Finding::bad(
            "clock",
            what,
            "sudo timedatectl set-ntp true; where there is no network, set it: sudo date -s …",
        )
    };
    match known.judge(unix_s()).1 {
        ClockState::Behind(apart) => {
            let apart = span(apart.as_secs_f64());
            return vec![wrong(format!("it is {apart} behind a time that has been"))];
        }
        ClockState::Ahead(apart) => {
            let apart = span(apart.as_secs_f64());
            return vec![wrong(format!("it is {apart} ahead of the last good time"))];
        }
        ClockState::Plausible => {}
    }
    let is_synchronised = SYNCHRONISED.iter().any(|path| Path::new(path).exists());
    vec![match is_synchronised {
        true => Finding::good("clock", "synchronised"),
        false => Finding::doubtful(
            "clock",
            "plausible, but nothing shows that it is synchronised",
            "sudo timedatectl set-ntp true (or install chrony)",
        ),
    }]
}

/// What services leave that have set the clock.
const SYNCHRONISED: [&str; 3] = [
    "/run/systemd/timesync/synchronized",
    "/run/chrony/chronyd.pid",
    "/var/lib/ntp/ntp.drift",
];
const PATIENCE: Duration = Duration::from_secs(5);

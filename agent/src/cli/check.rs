//! `sedge check`: everything that is wrong with a file, or what it will cost if nothing is.

use std::path::{Path, PathBuf};

use sedge_config::quantity::show_size;
use sedge_config::{Files, Problems, checked};
use sedge_store::disk;

use super::{Failure, agent_of, data_dir, print};

/// Which file.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// File of an agent or of a hub
    file: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let file = &arguments.file;
    let files = Files::read(file).map_err(Failure::config)?;
    let mut report = String::new();
    for drop_in in files.paths().skip(1) {
        line(&mut report, format!("and {}", drop_in.display()));
    }
    report += &match files.are_of_a_hub() {
        true => {
            let hub = sedge_config::hub::of(&files).map_err(Failure::config)?;
            can_be(file, "hub.data_dir", &hub.data_dir)?;
            of_hub(&hub)
        }
        false => {
            let agent = agent_of(&files)?;
            can_be(file, "gateway.data_dir", &agent.gateway.data_dir)?;
            of_agent(&agent)
        }
    };
    print(&format!("{}: nothing is wrong\n{report}", file.display()))
}

/// What no user and no service can use is wrong in the file; what depends on who starts it is for `sedge doctor`.
fn can_be(file: &Path, key: &str, dir: &Path) -> Result<(), Failure> {
    match data_dir::is_none(dir) {
        None => Ok(()),
        Some(what) => Err(Failure::config(Problems::whole(
            file,
            format!("{key}: {what}"),
        ))),
    }
}

fn of_agent(agent: &checked::Agent) -> String {
    let mut report = format!(
        "  gateway {}, data in {}\n",
        agent.gateway.id,
        agent.gateway.data_dir.display()
    );
    for source in &agent.sources {
        line(
            &mut report,
            format!(
                "source {} ({}) to stream {}",
                source.name(),
                source.kind(),
                source.stream()
            ),
        );
    }
    for stream in &agent.streams {
        let (partitions, capacity) = (stream.partitions, show_size(stream.capacity_bytes));
        let uplinks: Vec<&str> = agent
            .uplinks
            .iter()
            .filter(|uplink| uplink.carries(&stream.name))
            .map(|uplink| uplink.name.as_str())
            .collect();
        let to = if uplinks.is_empty() {
            "no uplink".to_owned()
        } else {
            uplinks.join(", ")
        };
        let kept = stream.retention.map(|retention| {
            let retention = sedge_config::quantity::show_duration(retention);
            format!(", {retention} at most")
        });
        let kept = kept.unwrap_or_default();
        line(
            &mut report,
            format!(
                "stream {}: {partitions} × {capacity}{kept}, to {to}",
                stream.name
            ),
        );
    }
    let disk = agent.capacity_bytes();
    let partitions: u64 = agent
        .streams
        .iter()
        .map(|stream| u64::from(stream.partitions))
        .sum();
    line(
        &mut report,
        format!(
            "disk, reserved at the start: {}{}",
            show_size(disk),
            room(&agent.gateway.data_dir, disk)
        ),
    );
    line(
        &mut report,
        format!("{partitions} logs: each busy one costs a sync and up to 4KiB for a commit"),
    );
    notes(&mut report, agent);
    report
}

/// What is allowed and may still surprise.
fn notes(report: &mut String, agent: &checked::Agent) {
    if agent.gateway.http_streams && cfg!(not(feature = "hub")) {
        line(
            report,
            "note: this program was built without the hub, and shows no streams at `http`"
                .to_owned(),
        );
    }
    if agent.sources.is_empty() {
        line(
            report,
            "note: no [[source]]; only `sedge push` brings events".to_owned(),
        );
    }
    for stream in agent
        .streams
        .iter()
        .filter(|stream| &*stream.name != checked::DEAD_LETTER)
    {
        if !agent
            .uplinks
            .iter()
            .any(|uplink| uplink.carries(&stream.name))
        {
            let then = match stream.when_full {
                checked::WhenFull::EvictOldest => "its oldest events go when it is full",
                checked::WhenFull::Refuse => "it takes nothing more when it is full",
            };
            line(
                report,
                format!("note: no uplink carries {}; {then}", stream.name),
            );
        }
    }
}

fn of_hub(hub: &checked::Hub) -> String {
    let mut report = format!(
        "  hub on {}, data in {}\n",
        hub.listen,
        hub.data_dir.display()
    );
    for stream in &hub.streams {
        let retention = sedge_config::quantity::show_duration(stream.retention);
        line(
            &mut report,
            format!(
                "stream {}: up to {} a mirror, {retention}",
                stream.name,
                show_size(stream.capacity_bytes)
            ),
        );
    }
    let disk = hub.disk_bytes_max;
    line(
        &mut report,
        format!(
            "disk, at most: {}{}",
            show_size(disk),
            room(&hub.data_dir, disk)
        ),
    );
    #[cfg(feature = "hub")]
    doors(&mut report, hub);
    report
}

/// Which ports others can reach. Whether there are certificates is known only where they can be looked for.
#[cfg(feature = "hub")]
fn doors(report: &mut String, hub: &checked::Hub) {
    let is_hidden = hub
        .trust_dir()
        .read_dir()
        .is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied);
    let is_known = crate::hub::trust(hub).is_some() || is_hidden;
    for port in crate::hub::reachable(hub) {
        line(
            report,
            match is_known {
                true => format!("{port}, with TLS"),
                false => format!(
                    "note: {port}; the hub does not start there before `sedge hub init` has made a certificate (or [hub] names one)"
                ),
            },
        );
    }
}

fn line(report: &mut String, text: String) {
    report.push_str("  ");
    report.push_str(&text);
    report.push('\n');
}

/// How that compares to what the file system has; nothing if it cannot be told.
fn room(data_dir: &Path, wanted: u64) -> String {
    let mut there = data_dir.ancestors();
    let Some(free) = there.find_map(|path| disk::free(path).ok()) else {
        return String::new();
    };
    let free_mib = show_size(free >> 20 << 20);
    match free < wanted {
        true => format!(" (only {free_mib} are free: it will start with the segments that fit)"),
        false => format!(" ({free_mib} are free)"),
    }
}

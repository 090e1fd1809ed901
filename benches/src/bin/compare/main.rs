//! `sedge-compare`: mosquitto, the floor model and sedge, one after the other in one run on one machine, and the table of medians.
//!
//! Run by `cargo xtask bench`, which builds everything first and puts the table into docs/performance.md.

mod behind_a_broker;

use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use sedge_benches::figures::Figures;
use sedge_benches::load::{Load, Until};
use sedge_benches::observe::{Device, Process, load_average, machine};
use sedge_benches::peers::{Peer, Running};
use sedge_benches::table::Table;
use sedge_tests::rig::daemon::sedge;
use sedge_tests::rig::free_address;
use serde_json::Value;

/// Measure sedge beside its yardsticks and print a Markdown table.
#[derive(Parser)]
#[command(name = "sedge-compare", version)]
struct Arguments {
    /// Rounds; each goes through every peer, the table shows medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Events of a run as fast as the window allows.
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// Seconds of a run at a fixed rate.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut table = Table::beside(&YARDSTICKS);
    let mut behind = Table::beside(&[behind_a_broker::YARDSTICK]);
    for round in 1..=arguments.rounds {
        for peer in [Peer::Mosquitto, Peer::Floor, Peer::Sedge] {
            writeln!(std::io::stderr(), "round {round}: {}", peer.name())?;
            one_peer(peer, &arguments, &mut table)?;
        }
        writeln!(std::io::stderr(), "round {round}: outage and catch-up")?;
        outage(&arguments, &mut table)?;
        writeln!(std::io::stderr(), "round {round}: behind a broker")?;
        behind_a_broker::measure(arguments.count / 4, &mut behind)?;
    }
    let text = format!(
        "{}, ext4 on a loop device of its own for each run; load average at the end {}.\nMedians of {} rounds.\n\n{}\nBehind a broker:\n\n{}",
        machine()?,
        load_average()?,
        arguments.rounds,
        table.markdown(),
        behind.markdown(),
    );
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// Everything that is measured of one listener without a hub.
fn one_peer(peer: Peer, arguments: &Arguments, table: &mut Table) -> Result<()> {
    let running = Running::start(peer)?;
    let process = Process(running.pid());
    if peer == Peer::Sedge {
        table.add(
            "RSS idle",
            "MiB",
            "≤ 8",
            peer.name(),
            process.resident_bytes()?.0 as f64 / MIB,
        );
    }
    let flat_out = |in_flight, count| load(running.address, in_flight, None, Until::Count(count));
    // Past the first lap of the files, which is not what a gateway does for years.
    if peer != Peer::Mosquitto {
        flat_out(1_000, SECOND_LAP_EVENTS).run()?;
    }
    for (in_flight, names) in [(100, &AT_100), (1_000, &AT_1000)] {
        let worked = process.cpu_seconds()?;
        let (figures, device_bytes) = measured(&running, &flat_out(in_flight, arguments.count))?;
        let cpu = (process.cpu_seconds()? - worked) / arguments.count as f64 * 1e6;
        let goals = if in_flight == 100 {
            GOALS_100
        } else {
            GOALS_1000
        };
        table.add(
            names[0],
            "events/s",
            goals[0],
            peer.name(),
            figures.value("events_per_second"),
        );
        table.add(
            names[1],
            "µs",
            "",
            peer.name(),
            figures.value("puback_p50_us"),
        );
        table.add(
            names[2],
            "µs",
            "",
            peer.name(),
            figures.value("puback_p99_us"),
        );
        table.add(names[3], "s", goals[1], peer.name(), cpu);
        table.add(
            names[4],
            "",
            goals[2],
            peer.name(),
            device_bytes.unwrap_or(f64::NAN),
        );
    }
    let until = Until::For(Duration::try_from_secs_f64(arguments.seconds)?);
    let (figures, device_bytes) = measured(
        &running,
        &load(running.address, 1_000, Some(1_000.0), until),
    )?;
    table.add(
        "1,000/s: p50 to PUBACK",
        "µs",
        "",
        peer.name(),
        figures.value("puback_p50_us"),
    );
    let goal = "≤ 5,000 + 2 × raw p99 + 1,000";
    table.add(
        "1,000/s: p99 to PUBACK",
        "µs",
        goal,
        peer.name(),
        figures.value("puback_p99_us"),
    );
    let device_bytes = device_bytes.unwrap_or(f64::NAN);
    table.add(
        "1,000/s: device bytes a payload byte",
        "",
        "≤ 9",
        peer.name(),
        device_bytes,
    );
    if peer == Peer::Sedge {
        let (_, highest) = process.resident_bytes()?;
        table.add(
            "RSS highest",
            "MiB",
            "≤ 16",
            peer.name(),
            highest as f64 / MIB,
        );
        table.add(
            "raw fdatasync p99 of 4 KiB in place",
            "µs",
            "",
            peer.name(),
            raw_sync_p99(&running)?,
        );
    }
    Ok(())
}

/// A million events pile up at the agent with the hub away; then the hub comes, and takes them.
fn outage(arguments: &Arguments, table: &mut Table) -> Result<()> {
    let rows: [(&'static str, &'static str, u16, u64); 2] = [
        (
            "catch-up, frames of many events",
            "≥ 670,000",
            1_000,
            arguments.count,
        ),
        ("catch-up, one event a frame", "", 1, arguments.count / 20),
    ];
    for (name, goal, in_flight, count) in rows {
        let hub_address = free_address();
        let agent = Running::start_agent_with_hub(hub_address)?;
        load(agent.address, in_flight, None, Until::Count(count)).run()?;
        if in_flight > 1 {
            let (resident, _) = Process(agent.pid()).resident_bytes()?;
            table.add(
                "RSS with a million queued",
                "MiB",
                "≤ 16",
                Peer::Sedge.name(),
                resident as f64 / MIB,
            );
        }
        let took = catch_up(hub_address, count)?;
        table.add(
            name,
            "events/s",
            goal,
            Peer::Sedge.name(),
            count as f64 / took.as_secs_f64(),
        );
    }
    Ok(())
}

/// From the first event that a consumer can see at the hub to the last: the pause before the agent's next attempt is not part of it.
fn catch_up(hub_address: SocketAddr, count: u64) -> Result<Duration> {
    let hub = Running::start_hub(hub_address)?;
    let mut begun = None;
    loop {
        let now = Instant::now();
        let seen = seen_at_hub(&hub, count)?;
        if seen > 0 && begun.is_none() {
            begun = Some(now);
        }
        if let (Some(begun), true) = (begun, seen >= count) {
            return Ok(now - begun);
        }
        ensure!(
            begun.is_none_or(|begun| begun.elapsed() < CATCH_UP_WITHIN),
            "{seen} of {count} after a minute"
        );
    }
}

/// 1 if the first event is there, `count` if the last is.
fn seen_at_hub(hub: &Running, count: u64) -> Result<u64> {
    let url = format!("sedge://{}", hub.address);
    let at = |offset: u64| -> Result<bool> {
        let mut pull = Command::new(sedge());
        pull.args([
            "pull",
            "telemetry",
            "--format",
            "json",
            "--limit",
            "1",
            "--hub",
            &url,
        ]);
        let output = pull.args(["--from", &offset.to_string()]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text
            .lines()
            .next()
            .and_then(|line| serde_json::from_str::<Value>(line).ok());
        Ok(line.is_some_and(|line| line["offset"].as_u64().is_some_and(|found| found >= offset)))
    };
    if at(count - 1)? {
        return Ok(count);
    }
    Ok(u64::from(at(0)?))
}

fn load(to: SocketAddr, in_flight: u16, rate: Option<f64>, until: Until) -> Load {
    let topic = "sensors/bench/load".to_owned();
    Load {
        to,
        connections: 1,
        in_flight,
        rate,
        until,
        payload_bytes: PAYLOAD_BYTES,
        topic,
    }
}

/// Figures, and device bytes for each payload byte if the device is this peer's alone.
fn measured(running: &Running, load: &Load) -> Result<(Figures, Option<f64>)> {
    let device = running
        .has_own_disk()
        .then(|| Device::under(&running.path()))
        .transpose()?;
    let before = device.as_ref().map(Device::written_bytes).transpose()?;
    let outcome = load.run()?;
    let after = device.as_ref().map(Device::written_bytes).transpose()?;
    let payload = outcome.acked as f64 * PAYLOAD_BYTES as f64;
    let device_bytes = before
        .zip(after)
        .map(|(before, after)| (after - before) as f64 / payload);
    Ok((Figures::of(&outcome), device_bytes))
}

fn raw_sync_p99(running: &Running) -> Result<f64> {
    let this = std::env::current_exe()?;
    let probe = this
        .parent()
        .context("a program is in a folder")?
        .join("fsync-probe");
    // As a gateway at a low rate has it: a disk and a processor that have rested.
    let arguments = ["--json", "--count", "1000", "--rest-ms", "5"];
    let output = Command::new(probe)
        .arg(running.path())
        .args(arguments)
        .output()?;
    ensure!(
        output.status.success(),
        "fsync-probe: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let figures: Value = serde_json::from_slice(&output.stdout)?;
    figures["fdatasync_p99_us"].as_f64().context("no p99")
}

const YARDSTICKS: [&str; 2] = [Peer::Mosquitto.name(), Peer::Floor.name()];
const PAYLOAD_BYTES: usize = 128;
const MIB: f64 = 1024.0 * 1024.0;
/// More than the shipped capacity of 256 MiB holds.
const SECOND_LAP_EVENTS: u64 = 2_300_000;
const CATCH_UP_WITHIN: Duration = Duration::from_secs(60);
const AT_100: [&str; 5] = [
    "100 in flight",
    "100 in flight: p50 to PUBACK",
    "100 in flight: p99 to PUBACK",
    "100 in flight: CPU a million",
    "100 in flight: device bytes a payload byte",
];
const AT_1000: [&str; 5] = [
    "1,000 in flight",
    "1,000 in flight: p50 to PUBACK",
    "1,000 in flight: p99 to PUBACK",
    "1,000 in flight: CPU a million",
    "1,000 in flight: device bytes a payload byte",
];
const GOALS_100: [&str; 3] = ["≥ 2 × mosquitto, ≥ 0.35 × floor", "", ""];
const GOALS_1000: [&str; 3] = ["≥ 0.35 × floor", "≤ 2", "≤ 1.35"];

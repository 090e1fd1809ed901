//! `sedge-load`: publishes at QoS 1 and tells how fast, how late, and at what cost to the other end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use sedge_benches::figures::Figures;
use sedge_benches::load::{Load, Until};
use sedge_benches::observe::{Device, Process};

/// Publish QoS 1 events to an MQTT listener on this machine and measure it.
#[derive(Parser)]
#[command(name = "sedge-load", version)]
struct Arguments {
    /// The listener.
    #[arg(long, default_value = "127.0.0.1:1883")]
    to: SocketAddr,
    /// Connections, each with its own window.
    #[arg(long, default_value_t = 1)]
    connections: u32,
    /// Publishes without PUBACK on each connection, at most.
    #[arg(long, default_value_t = 100)]
    in_flight: u16,
    /// Events a second over all connections; without it as many as the window allows.
    #[arg(long)]
    rate: Option<f64>,
    /// Stop after so many events.
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    /// Stop after so many seconds instead.
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Bytes of a payload: JSON with a number in it.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// The topic.
    #[arg(long, default_value = "sensors/bench/load")]
    topic: String,
    /// Also tell the CPU time and memory of this process: the listener's.
    #[arg(long)]
    pid: Option<u32>,
    /// Also tell what was written to the block device under this path: the listener's data directory.
    #[arg(long, value_name = "PATH")]
    device_under: Option<PathBuf>,
    /// Events that are sent before anything is measured, to be past the first lap of the files.
    #[arg(long, default_value_t = 0)]
    warm_up: u64,
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(
        arguments.to.ip().is_loopback(),
        "only listeners on this machine are driven"
    );
    ensure!(arguments.connections > 0, "at least one connection");
    let until = match arguments.seconds {
        Some(seconds) => Until::For(Duration::try_from_secs_f64(seconds)?),
        None => Until::Count(arguments.count),
    };
    let load = Load {
        to: arguments.to,
        connections: arguments.connections,
        in_flight: arguments.in_flight,
        rate: arguments.rate,
        until,
        payload_bytes: arguments.payload,
        topic: arguments.topic.clone(),
    };
    if arguments.warm_up > 0 {
        Load {
            rate: None,
            in_flight: 1_000,
            until: Until::Count(arguments.warm_up),
            ..load.clone()
        }
        .run()?;
    }
    measure(&load, &arguments)?.print(arguments.json)?;
    Ok(())
}

fn measure(load: &Load, arguments: &Arguments) -> Result<Figures> {
    let process = arguments.pid.map(Process);
    let device = arguments
        .device_under
        .as_deref()
        .map(Device::under)
        .transpose()?;
    let written = device.as_ref().map(Device::written_bytes).transpose()?;
    let worked = process.map(Process::cpu_seconds).transpose()?;

    let outcome = load.run()?;

    let mut figures = Figures::of(&outcome);
    if let (Some(process), Some(worked)) = (process, worked) {
        let per_million = (process.cpu_seconds()? - worked) / outcome.acked as f64 * 1e6;
        let (resident, highest) = process.resident_bytes()?;
        figures.add("cpu_s_per_million", per_million, "s");
        figures.add("rss_mib", resident as f64 / MIB, "MiB");
        figures.add("rss_highest_mib", highest as f64 / MIB, "MiB");
    }
    if let (Some(device), Some(written)) = (device, written) {
        let payload = outcome.acked as f64 * load.payload_bytes as f64;
        figures.add(
            "device_bytes_per_byte",
            (device.written_bytes()? - written) as f64 / payload,
            "",
        );
    }
    Ok(figures)
}

const MIB: f64 = 1024.0 * 1024.0;

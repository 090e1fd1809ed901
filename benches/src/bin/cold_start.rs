//! How long an agent with a large backlog takes to its first PUBACK, and what it reads for that: after a stop and after a kill, with the files in the page
//! cache and, as root, without.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use sedge_benches::folder::Folder;
use sedge_benches::load::{Load, Until};
use sedge_benches::observe::{Process, machine};
use sedge_tests::rig::daemon::{Daemon, sedge};
use sedge_tests::rig::{eventually, free_address};

/// What to try.
#[derive(Debug, Parser)]
struct Arguments {
    /// GiB of backlog
    #[arg(long, default_value_t = 10)]
    gib: u64,
    /// Starts of each kind
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// How the life before ended, and what is left of its files in memory.
const KINDS: [(&str, End, Cache); 4] = [
    ("after a stop", End::Stop, Cache::Warm),
    ("after a kill", End::Kill, Cache::Warm),
    (
        "after a stop, nothing in the page cache",
        End::Stop,
        Cache::Dropped,
    ),
    (
        "after a kill, nothing in the page cache",
        End::Kill,
        Cache::Dropped,
    ),
];

#[derive(Clone, Copy, Debug)]
enum End {
    Stop,
    Kill,
}

#[derive(Clone, Copy, Debug)]
enum Cache {
    Warm,
    Dropped,
}

/// One start.
#[derive(Clone, Copy, Debug)]
struct Start {
    took: Duration,
    /// By read calls, and from the disk.
    read_bytes: u64,
    fetched_bytes: u64,
    resident_bytes: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut out = std::io::stdout();
    let folder = Folder::shared()?;
    let address = free_address();
    write_config(&folder.path(), address, arguments.gib)?;
    let mut agent = start(&folder.path());
    listens(address);
    let count = (arguments.gib << 30) / EVENT_BYTES;
    load(address, Until::Count(count), IN_FLIGHT)?;
    writeln!(
        out,
        "{}\n{count} events of {PAYLOAD_BYTES} bytes, {} GiB of files, no hub.\n",
        machine()?,
        disk_bytes(&folder.path().join("data"))? >> 30
    )?;
    writeln!(
        out,
        "| start | to the first PUBACK, ms | bytes read | of them from the disk | RSS then, MiB |\n|---|---|---|---|---|"
    )?;
    for (name, end, cache) in KINDS {
        let mut starts = Vec::new();
        for _ in 0..arguments.rounds {
            match end {
                End::Stop => drop(agent.stop(WITHIN)),
                End::Kill => agent.kill_now(),
            }
            match cache {
                Cache::Warm => {}
                Cache::Dropped => drop_caches()?,
            }
            let begun = Instant::now();
            agent = start(&folder.path());
            starts.push(first_puback(&agent, address, begun)?);
        }
        starts.sort_by_key(|start| start.took);
        let median = starts[starts.len() / 2];
        writeln!(
            out,
            "| {name} | {:.0} (at most {:.0}) | {} | {} | {:.1} |",
            median.took.as_secs_f64() * 1e3,
            starts[starts.len() - 1].took.as_secs_f64() * 1e3,
            median.read_bytes,
            median.fetched_bytes,
            median.resident_bytes as f64 / f64::from(1 << 20)
        )?;
    }
    agent.stop(WITHIN);
    Ok(())
}

fn start(path: &Path) -> Daemon {
    let mut command = Command::new(sedge());
    command
        .arg("agent")
        .arg("--config")
        .arg(path.join("agent.toml"));
    Daemon::start("agent", &mut command, &path.join("log"))
}

fn first_puback(agent: &Daemon, address: SocketAddr, begun: Instant) -> Result<Start> {
    listens(address);
    load(address, Until::Count(1), 1)?;
    let took = begun.elapsed();
    let io = std::fs::read_to_string(format!("/proc/{}/io", agent.pid()))?;
    let count = |name: &str| -> Result<u64> {
        let line = io.lines().find_map(|line| line.strip_prefix(name));
        Ok(line.context("no such field")?.trim().parse()?)
    };
    Ok(Start {
        took,
        read_bytes: count("rchar:")?,
        fetched_bytes: count("read_bytes:")?,
        resident_bytes: Process(agent.pid()).resident_bytes()?.0,
    })
}

/// Looks each millisecond, or so.
fn listens(address: SocketAddr) {
    eventually(WITHIN, "the agent listens", || {
        TcpStream::connect(address).ok()
    });
}

fn load(to: SocketAddr, until: Until, in_flight: u16) -> Result<()> {
    let load = Load {
        to,
        connections: 1,
        in_flight,
        rate: None,
        until,
        payload_bytes: PAYLOAD_BYTES,
        topic: "sensors/bench/load".to_owned(),
    };
    load.run()?;
    Ok(())
}

fn write_config(path: &Path, address: SocketAddr, gib: u64) -> Result<()> {
    let (data, nobody) = (path.join("data"), free_address());
    let text = format!(
        "[gateway]\nid = \"bench\"\ndata_dir = \"{}\"\nhttp = \"off\"\n\
         [[source]]\ntype = \"mqtt-listen\"\nname = \"direct\"\nlisten = \"{address}\"\nstream = \"telemetry\"\n\
         [[stream]]\nname = \"telemetry\"\ncapacity = \"{}GiB\"\nwhen_full = \"refuse\"\n\
         [[uplink]]\nname = \"hq\"\nurl = \"sedge://{nobody}\"\n",
        data.display(),
        gib + 1
    );
    Ok(std::fs::write(path.join("agent.toml"), text)?)
}

fn disk_bytes(path: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        bytes += match entry.file_type()?.is_dir() {
            true => disk_bytes(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(bytes)
}

fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the page cache takes root")
}

const PAYLOAD_BYTES: usize = 1024;
/// What one takes of the log, with its topic and its time.
const EVENT_BYTES: u64 = 1060;
const IN_FLIGHT: u16 = 1_000;
const WITHIN: Duration = Duration::from_secs(60);

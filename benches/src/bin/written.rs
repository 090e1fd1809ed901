//! `sedge-written`: how many bytes reach the device for each byte of payload, at a trickle, at a stream and at a flood, of sedge and of what else
//! keeps events on a disk. Only bytes are measured: they do not depend on what else the machine does.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use sedge_benches::folder::Folder;
use sedge_benches::load::{Load, Until};
use sedge_benches::observe::{Device, machine};
use sedge_benches::peers::Running;
use sedge_tests::rig::free_address;

/// Measure device bytes for each byte of payload and print a Markdown table.
#[derive(Parser)]
#[command(name = "sedge-written", version)]
struct Arguments {
    /// Rounds; the table shows medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// A nats-server, if it is to be measured too.
    #[arg(long, value_name = "PROGRAM")]
    nats: Option<PathBuf>,
    /// Only those whose name has this in it.
    #[arg(long, default_value = "")]
    only: String,
}

/// Who keeps events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeper {
    Sedge,
    /// With a write budget that is used up: commits wait a second.
    SedgeSaving,
    /// For a subscriber that is away; saved when it stops, as by default.
    Mosquitto,
    /// … and every second.
    MosquittoEverySecond,
    /// Synced every two minutes, as by default.
    Nats,
    /// … and before each acknowledgement.
    NatsSynced,
    /// WAL, `synchronous = FULL`, an event a transaction.
    SqliteEach,
    /// … and what comes in 10 ms.
    SqliteTenMs,
}

/// Events a second, and seconds.
type Rate = (u32, u32);

const RATES: [Rate; 3] = [(10, 30), (1_000, 10), (50_000, 5)];

const KEEPERS: [Keeper; 8] = [
    Keeper::Sedge,
    Keeper::SedgeSaving,
    Keeper::Mosquitto,
    Keeper::MosquittoEverySecond,
    Keeper::Nats,
    Keeper::NatsSynced,
    Keeper::SqliteEach,
    Keeper::SqliteTenMs,
];

impl Keeper {
    const fn name(self) -> &'static str {
        match self {
            Self::Sedge => "sedge",
            Self::SedgeSaving => "sedge, `write_budget` used up, `at_risk_max` 1 s",
            Self::Mosquitto => "mosquitto, persistence, saved every 30 min (default)",
            Self::MosquittoEverySecond => "mosquitto, persistence, `autosave_interval 1`",
            Self::Nats => "NATS JetStream over MQTT, `sync_interval` 2 min (default)",
            Self::NatsSynced => "NATS JetStream over MQTT, `sync_interval: always`",
            Self::SqliteEach => "SQLite WAL, `synchronous=FULL`, an event a transaction",
            Self::SqliteTenMs => "SQLite WAL, `synchronous=FULL`, 10 ms a transaction",
        }
    }

    /// What of it survives a power cut once it is acknowledged.
    const fn survives(self) -> &'static str {
        match self {
            Self::Sedge | Self::SedgeSaving | Self::NatsSynced => "all",
            Self::SqliteEach | Self::SqliteTenMs => "all",
            Self::Mosquitto => "what is older than 30 min",
            Self::MosquittoEverySecond => "what the kernel has written",
            Self::Nats => "what is older than 2 min",
        }
    }

    fn measure(self, rate: Rate, nats: Option<&Path>) -> Result<Option<f64>> {
        let nats = |sync: &str| {
            let Some(program) = nats else {
                return Ok(None);
            };
            served(rate, "nats-server", |path, at| {
                nats_server(program, path, at, sync)
            })
            .map(Some)
        };
        match self {
            Self::Sedge => {
                served_by(rate, Running::start_agent_within(None)?, SECOND_LAP).map(Some)
            }
            Self::SedgeSaving => {
                served_by(rate, Running::start_agent_within(Some("1MiB"))?, SECOND_LAP).map(Some)
            }
            Self::Mosquitto => {
                served(rate, "mosquitto", |path, at| mosquitto(path, at, 1_800)).map(Some)
            }
            Self::MosquittoEverySecond => {
                served(rate, "mosquitto", |path, at| mosquitto(path, at, 1)).map(Some)
            }
            Self::Nats => nats(""),
            Self::NatsSynced => nats("sync_interval: always"),
            Self::SqliteEach => sqlite(rate, 1).map(Some),
            Self::SqliteTenMs => sqlite(rate, (rate.0 / 100).max(1)).map(Some),
        }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut text = format!(
        "{}, ext4 on a loop device of its own for each figure, medians of {}.\n\n| what | 10/s | 1,000/s | 50,000/s | survives a power cut |\n|---|---|---|---|---|\n",
        machine()?,
        arguments.rounds
    );
    let meant = |keeper: &Keeper| keeper.name().contains(&arguments.only);
    for keeper in KEEPERS.into_iter().filter(meant) {
        let mut cells = Vec::new();
        for rate in RATES {
            let mut figures = Vec::new();
            for _ in 0..arguments.rounds {
                match keeper.measure(rate, arguments.nats.as_deref()) {
                    Ok(figure) => figures.extend(figure),
                    // Who cannot keep up closes the connection.
                    Err(error) => writeln!(std::io::stderr(), "{}: {error}", keeper.name())?,
                }
            }
            figures.sort_by(f64::total_cmp);
            let median = figures.get(figures.len() / 2);
            writeln!(
                std::io::stderr(),
                "{}, {}/s: {figures:.2?}",
                keeper.name(),
                rate.0
            )?;
            cells.push(median.map_or("–".to_owned(), |median| format!("{median:.2}")));
        }
        let (name, survives) = (keeper.name(), keeper.survives());
        text += &format!("| {name} | {} | {survives} |\n", cells.join(" | "));
    }
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// Of a program that listens for MQTT.
fn served(
    rate: Rate,
    name: &str,
    command: impl FnOnce(&Path, SocketAddr) -> Result<Command>,
) -> Result<f64> {
    let running = Running::start_program(name, command)?;
    stay_away(running.address)?;
    served_by(rate, running, 0)
}

/// After `warm_up` events, until it has stopped and all of it is at the device.
fn served_by(rate: Rate, running: Running, warm_up: u64) -> Result<f64> {
    ensure!(
        running.has_own_disk(),
        "the device must be its own: this needs root"
    );
    let (address, folder) = (running.address, running.path());
    if warm_up > 0 {
        load(address, None, Until::Count(warm_up)).run()?;
    }
    let device = Device::under(&folder)?;
    let before = device.written_bytes()?;
    let until = Until::For(Duration::from_secs(rate.1.into()));
    let outcome = load(address, Some(rate.0.into()), until).run()?;
    let folder = running.stop(STOP_WITHIN);
    let bytes = device.written_bytes()? - before;
    drop(folder);
    Ok(bytes as f64 / (outcome.acked as f64 * PAYLOAD_BYTES as f64))
}

fn load(to: SocketAddr, rate: Option<f64>, until: Until) -> Load {
    Load {
        to,
        connections: 1,
        in_flight: 1_000,
        rate,
        until,
        payload_bytes: PAYLOAD_BYTES,
        topic: "sensors/bench/load".to_owned(),
    }
}

/// Somebody subscribes, and goes: what is published is kept for him.
fn stay_away(broker: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(broker)?;
    stream.write_all(b"\x10\x10\x00\x04MQTT\x04\x00\x00\x3c\x00\x04away")?;
    stream.read_exact(&mut [0; 4])?;
    stream.write_all(b"\x82\x0e\x00\x01\x00\x09sensors/#\x01")?;
    stream.read_exact(&mut [0; 5])?;
    Ok(stream.write_all(b"\xe0\x00")?)
}

fn mosquitto(path: &Path, address: SocketAddr, autosave_s: u32) -> Result<Command> {
    let config = path.join("mosquitto.conf");
    let (port, kept) = (address.port(), path.join("kept"));
    fs::create_dir(&kept)?;
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\nautosave_interval {autosave_s}\nmax_inflight_messages 0\nmax_queued_messages 0\nuser root\n",
        kept.display()
    );
    fs::write(&config, text)?;
    let mut command = Command::new("mosquitto");
    command.arg("-c").arg(config);
    Ok(command)
}

fn nats_server(program: &Path, path: &Path, address: SocketAddr, sync: &str) -> Result<Command> {
    let config = path.join("nats.conf");
    let text = format!(
        "server_name: bench\nlisten: {}\njetstream {{ store_dir: {:?}\n{sync}\n}}\nmqtt {{ listen: {address} }}\n",
        free_address(),
        path.join("kept")
    );
    fs::write(&config, text)?;
    let mut command = Command::new(program);
    command.arg("-c").arg(config);
    Ok(command)
}

/// As a table with a key, filled by the `sqlite3` of the machine, `together` events a transaction. Bytes do not depend on the pace.
fn sqlite(rate: Rate, together: u32) -> Result<f64> {
    let folder = Folder::own_disk(DISK_MIB)?;
    ensure!(
        matches!(folder, Folder::OwnDisk(_)),
        "the device must be its own: this needs root"
    );
    let device = Device::under(&folder.path())?;
    let file = folder.path().join("events.db");
    let count = (rate.0 * rate.1).min(SQLITE_EVENTS_MAX);
    run_sqlite(
        &file,
        "create table events (id integer primary key, topic text, value blob);\n",
    )?;
    let mut text = "pragma synchronous = full;\n".to_owned();
    let value = "ab".repeat(PAYLOAD_BYTES);
    let mut left = count;
    while left > 0 {
        let now = together.min(left);
        text += "begin;\n";
        for _ in 0..now {
            text += &format!(
                "insert into events (topic, value) values ('sensors/bench/load', x'{value}');\n"
            );
        }
        text += "commit;\n";
        left -= now;
    }
    let before = device.written_bytes()?;
    run_sqlite(&file, &text)?;
    let bytes = device.written_bytes()? - before;
    Ok(bytes as f64 / (f64::from(count) * PAYLOAD_BYTES as f64))
}

fn run_sqlite(file: &Path, statements: &str) -> Result<()> {
    let mut command = Command::new("sqlite3");
    let quiet = command
        .arg(file)
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut child = quiet.spawn().context("sqlite3 is not there")?;
    let mut input = child.stdin.take().context("it is piped")?;
    input.write_all(b"pragma journal_mode = wal;\n")?;
    input.write_all(statements.as_bytes())?;
    drop(input);
    ensure!(child.wait()?.success(), "sqlite3 failed");
    Ok(())
}

const PAYLOAD_BYTES: usize = 128;
/// More than the shipped capacity of 256 MiB holds: a gateway is past its first lap for years.
const SECOND_LAP: u64 = 2_300_000;
/// A transaction an event takes a sync or two; more of them say the same.
const SQLITE_EVENTS_MAX: u32 = 20_000;
const DISK_MIB: u64 = 1024;
const STOP_WITHIN: Duration = Duration::from_secs(60);

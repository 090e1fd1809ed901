//! The listeners that are compared, each started on a fresh disk: mosquitto, the floor model, and sedge as it is shipped.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use sedge_tests::rig::daemon::{Daemon, sedge};
use sedge_tests::rig::{eventually, free_address};

use crate::folder::Folder;

/// Who listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// mosquitto, persistence off, nobody subscribed: it keeps nothing.
    Mosquitto,
    /// The least that acknowledges after fdatasync.
    Floor,
    /// `sedge agent` with the shipped defaults.
    Sedge,
}

impl Peer {
    /// As tables call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mosquitto => "mosquitto",
            Self::Floor => "floor",
            Self::Sedge => "sedge",
        }
    }
}

/// A peer at work.
#[derive(Debug)]
pub struct Running {
    // Ended before its files go.
    daemon: Daemon,
    /// Where it listens.
    pub address: SocketAddr,
    folder: Folder,
}

impl Running {
    /// Starts `peer` with its data on an ext4 of its own, if this machine gives one, else in a temporary directory.
    ///
    /// # Errors
    /// If a configuration cannot be written, or a program is not there.
    pub fn start(peer: Peer) -> Result<Self> {
        let folder = Folder::own_disk(DISK_MIB)?;
        let path = folder.path();
        let address = free_address();
        let command = match peer {
            Peer::Mosquitto => mosquitto(&path, address, UNLIMITED)?,
            Peer::Floor => floor(&path, address)?,
            Peer::Sedge => agent(&path, address, "", "off", "")?,
        };
        Self::run(peer.name(), command, address, folder)
    }

    /// Starts `sedge agent` with an uplink to `hub`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_agent_with_hub(hub: SocketAddr) -> Result<Self> {
        let folder = Folder::shared()?;
        let address = free_address();
        let uplink = format!(
            "\n[[uplink]]\nname = \"hq\"\nurl = \"sedge://{hub}\"\nretry_max = \"100ms\"\n"
        );
        let command = agent(&folder.path(), address, "", "off", &uplink)?;
        Self::run("agent", command, address, folder)
    }

    /// Starts a mosquitto that subscribers stand behind. It hands out as much at a time as sedge asks for by default,
    /// and drops nothing, however far they fall behind.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_broker() -> Result<Self> {
        let folder = Folder::shared()?;
        let address = free_address();
        let command = mosquitto(&folder.path(), address, SUBSCRIBER_WINDOW)?;
        Self::run("mosquitto", command, address, folder)
    }

    /// Starts `sedge agent` as a client of the broker at `broker`, with a listener of its own for events that are to be there before,
    /// and its metrics at `http`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_agent_behind(broker: SocketAddr, http: SocketAddr) -> Result<Self> {
        let folder = Folder::own_disk(DISK_MIB)?;
        let address = free_address();
        let source = format!(
            "\n[[source]]\ntype = \"mqtt\"\nname = \"{BEHIND}\"\nurl = \"mqtt://{broker}\"\ntopics = [\"sensors/#\"]\nstream = \"telemetry\"\n"
        );
        let command = agent(&folder.path(), address, "", &http.to_string(), &source)?;
        Self::run(Peer::Sedge.name(), command, address, folder)
    }

    /// Starts `sedge agent` with this `write_budget`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_agent_within(budget: Option<&str>) -> Result<Self> {
        let budget = budget.map(|budget| format!("write_budget = \"{budget}\"\n"));
        let budget = budget.unwrap_or_default();
        Self::start_program(Peer::Sedge.name(), |path, address| {
            agent(path, address, &budget, "off", "")
        })
    }

    /// Starts what `command` makes of a directory on a disk of its own and an address.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_program(
        name: &str,
        command: impl FnOnce(&Path, SocketAddr) -> Result<Command>,
    ) -> Result<Self> {
        let folder = Folder::own_disk(DISK_MIB)?;
        let address = free_address();
        let command = command(&folder.path(), address)?;
        Self::run(name, command, address, folder)
    }

    /// Has it stop; its files are the caller's then.
    #[must_use]
    pub fn stop(self, within: Duration) -> Folder {
        self.daemon.terminate(within);
        self.folder
    }

    /// Starts `sedge hub` on `address`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_hub(address: SocketAddr) -> Result<Self> {
        let folder = Folder::shared()?;
        let data = folder.path();
        let config = data.join("hub.toml");
        let text = format!(
            "[hub]\ndata_dir = \"{}\"\nlisten = \"{address}\"\nhttp = \"off\"\n",
            data.join("data").display()
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(sedge());
        command.arg("hub").arg("--config").arg(config);
        Self::run("hub", command, address, folder)
    }

    fn run(name: &str, mut command: Command, address: SocketAddr, folder: Folder) -> Result<Self> {
        let daemon = Daemon::start(name, &mut command, &folder.path().join("log"));
        eventually(START_WITHIN, "the peer listens", || {
            TcpStream::connect(address).ok()
        });
        Ok(Self {
            daemon,
            address,
            folder,
        })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Where its data is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path()
    }

    /// True if its block device is its own, so that what is written there was written by it.
    #[must_use]
    pub fn has_own_disk(&self) -> bool {
        matches!(self.folder, Folder::OwnDisk(_))
    }
}

fn mosquitto(path: &Path, address: SocketAddr, window: u16) -> Result<Command> {
    let config = path.join("mosquitto.conf");
    let text = format!(
        "listener {} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_inflight_messages {window}\nmax_queued_messages 0\n",
        address.port()
    );
    std::fs::write(&config, text)?;
    let mut command = Command::new("mosquitto");
    command.arg("-c").arg(config);
    Ok(command)
}

fn floor(path: &Path, address: SocketAddr) -> Result<Command> {
    let this = std::env::current_exe()?;
    let floor = this
        .parent()
        .context("a program is in a folder")?
        .join("sedge-floor");
    if !floor.exists() {
        return Err(anyhow!("{} is not built", floor.display()));
    }
    let mut command = Command::new(floor);
    command
        .arg("--listen")
        .arg(address.to_string())
        .arg("--data-dir")
        .arg(path);
    Ok(command)
}

/// Only what has no default, the ports, which a test may not take from anyone, `gateway` in that table, and `more`.
fn agent(
    path: &Path,
    address: SocketAddr,
    gateway: &str,
    http: &str,
    more: &str,
) -> Result<Command> {
    let data = path.join("data").display().to_string();
    let text = format!(
        "[gateway]\nid = \"bench\"\ndata_dir = \"{data}\"\nhttp = \"{http}\"\n{gateway}\n\
         [[source]]\ntype = \"mqtt-listen\"\nname = \"direct\"\nlisten = \"{address}\"\nstream = \"telemetry\"\n{more}"
    );
    let config = path.join("agent.toml");
    std::fs::write(&config, text)?;
    let mut command = Command::new(sedge());
    command.arg("agent").arg("--config").arg(config);
    Ok(command)
}

/// The source of an agent that stands behind a broker.
pub const BEHIND: &str = "plant";
/// Messages that the broker has unacknowledged with a subscriber, at most: the default of the source's `inflight_max`.
pub const SUBSCRIBER_WINDOW: u16 = 100;
const UNLIMITED: u16 = 0;
const START_WITHIN: Duration = Duration::from_secs(30);
/// Room for the shipped capacity of 256 MiB, the dead letters, and the file system's own; and for what others keep.
const DISK_MIB: u64 = 1024;

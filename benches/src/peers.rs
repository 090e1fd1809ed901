//! The listeners that are compared, each started on a fresh disk: mosquitto, the floor model, and sedge as it is shipped.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use sedge_tests::rig::daemon::{Daemon, sedge};
use sedge_tests::rig::scratch::Ext4;
use sedge_tests::rig::{eventually, free_address};
use tempfile::TempDir;

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
    pub fn name(self) -> &'static str {
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

#[derive(Debug)]
enum Folder {
    Disk(Ext4),
    Plain(TempDir),
}

impl Running {
    /// Starts `peer` with its data on an ext4 of its own, if this machine gives one, else in a temporary directory.
    ///
    /// # Errors
    /// If a configuration cannot be written, or a program is not there.
    pub fn start(peer: Peer) -> Result<Self> {
        let folder = match Ext4::create(DISK_MIB) {
            Ok(disk) => Folder::Disk(disk),
            Err(_) => Folder::Plain(TempDir::new()?),
        };
        let path = folder.path();
        let address = free_address();
        let command = match peer {
            Peer::Mosquitto => mosquitto(&path, address)?,
            Peer::Floor => floor(&path, address)?,
            Peer::Sedge => agent(&path, address, None)?,
        };
        Self::run(peer.name(), command, address, folder)
    }

    /// Starts `sedge agent` with an uplink to `hub`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_agent_with_hub(hub: SocketAddr) -> Result<Self> {
        let folder = Folder::Plain(TempDir::new()?);
        let address = free_address();
        let command = agent(&folder.path(), address, Some(hub))?;
        Self::run("agent", command, address, folder)
    }

    /// Starts `sedge hub` on `address`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_hub(address: SocketAddr) -> Result<Self> {
        let folder = Folder::Plain(TempDir::new()?);
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
        matches!(self.folder, Folder::Disk(_))
    }
}

impl Folder {
    fn path(&self) -> PathBuf {
        match self {
            Self::Disk(disk) => disk.path(),
            Self::Plain(folder) => folder.path().to_path_buf(),
        }
    }
}

fn mosquitto(path: &Path, address: SocketAddr) -> Result<Command> {
    let config = path.join("mosquitto.conf");
    let text = format!(
        "listener {} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_inflight_messages 0\nmax_queued_messages 0\n",
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

/// Only what has no default, and the ports, which a test may not take from anyone.
fn agent(path: &Path, address: SocketAddr, hub: Option<SocketAddr>) -> Result<Command> {
    let data = path.join("data").display().to_string();
    let mut text = format!(
        "[gateway]\nid = \"bench\"\ndata_dir = \"{data}\"\nhttp = \"off\"\n\n\
         [[source]]\ntype = \"mqtt-listen\"\nname = \"direct\"\nlisten = \"{address}\"\nstream = \"telemetry\"\n"
    );
    if let Some(hub) = hub {
        text.push_str(&format!(
            "\n[[uplink]]\nname = \"hq\"\nurl = \"sedge://{hub}\"\nretry_max = \"100ms\"\n"
        ));
    }
    let config = path.join("agent.toml");
    std::fs::write(&config, text)?;
    let mut command = Command::new(sedge());
    command.arg("agent").arg("--config").arg(config);
    Ok(command)
}

const START_WITHIN: Duration = Duration::from_secs(30);
/// Room for the shipped capacity of 256 MiB, the dead letters, and the file system's own.
const DISK_MIB: u64 = 512;

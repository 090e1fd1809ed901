//! A real mosquitto.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::daemon::Daemon;
use super::{Missing, eventually, free_address};

/// A mosquitto with persistence, which keeps what it holds over a clean restart.
#[derive(Debug)]
pub struct Broker {
    folder: TempDir,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Broker {
    /// Writes its configuration.
    ///
    /// # Errors
    /// If mosquitto is not installed.
    ///
    /// # Panics
    /// If the disk does not take the configuration.
    pub fn new() -> Result<Self, Missing> {
        let found = Command::new("mosquitto")
            .arg("-h")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        found.map_err(|_| Missing::Program("mosquitto"))?;
        let broker = Self {
            folder: TempDir::new().expect("a temporary directory"),
            address: free_address(),
        };
        let data = broker.folder.path().join("data");
        std::fs::create_dir(&data).expect("a directory");
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages {IN_FLIGHT_MAX}\n\
             persistence true\npersistence_location {data}/\nuser root\nset_tcp_nodelay true\n",
            port = broker.address.port(),
            data = data.display(),
        );
        std::fs::write(broker.config(), config).expect("a configuration file");
        Ok(broker)
    }

    /// Starts it.
    #[must_use]
    pub fn start(&self) -> Daemon {
        let log = self.folder.path().join("mosquitto.log");
        let broker = Daemon::start(
            "mosquitto",
            Command::new("mosquitto").arg("-c").arg(self.config()),
            &log,
        );
        eventually(Duration::from_secs(10), "mosquitto listens", || {
            TcpStream::connect(self.address).ok()
        });
        broker
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("mosquitto.conf")
    }
}

/// Most deliveries that mosquitto has in flight to the agent: the agent's `inflight_max`, as the guide asks of a 3.1.1 broker.
pub const IN_FLIGHT_MAX: u16 = 100;

//! A real mosquitto, and a tap between it and the agent that counts what the broker delivered.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::daemon::Daemon;
use super::packets::{self, Packet};
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
            "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\n\
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

/// Stands between the agent and the broker and counts deliveries by topic and number.
#[derive(Debug)]
pub struct Tap {
    /// Where the agent connects instead.
    pub address: SocketAddr,
    counts: Arc<Mutex<HashMap<(String, u64), Deliveries>>>,
}

/// How often the broker sent one message towards the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// As new.
    pub fresh: u32,
    /// With DUP set.
    pub dup: u32,
}

impl Tap {
    /// Listens; each connection is carried on to `broker`.
    ///
    /// # Panics
    /// If no port is free.
    #[must_use]
    pub fn before(broker: SocketAddr) -> Self {
        let address = free_address();
        let listener = TcpListener::bind(address).expect("a free port");
        let counts = Arc::new(Mutex::new(HashMap::new()));
        let theirs = Arc::clone(&counts);
        // Ends with the test's process; a tap holds nothing that must be put back.
        std::thread::spawn(move || {
            for agent in listener.incoming().flatten() {
                let counts = Arc::clone(&theirs);
                std::thread::spawn(move || carry(agent, broker, &counts));
            }
        });
        Self { address, counts }
    }

    /// What went through so far.
    ///
    /// # Panics
    /// If a tap's thread has panicked.
    #[must_use]
    pub fn deliveries(&self) -> HashMap<(String, u64), Deliveries> {
        self.counts
            .lock()
            .expect("no panic under this lock")
            .clone()
    }
}

fn carry(agent: TcpStream, broker: SocketAddr, counts: &Mutex<HashMap<(String, u64), Deliveries>>) {
    let Ok(broker) = TcpStream::connect(broker) else {
        return;
    };
    let (Ok(mut from_agent), Ok(mut to_broker)) = (agent.try_clone(), broker.try_clone()) else {
        return;
    };
    let up = std::thread::spawn(move || {
        std::io::copy(&mut from_agent, &mut to_broker).ok();
        to_broker.shutdown(Shutdown::Both).ok();
    });
    count_and_carry(broker, &agent, counts);
    agent.shutdown(Shutdown::Both).ok();
    up.join().ok();
}

/// Carries whole packets, so that what is counted is what was passed on.
fn count_and_carry(
    mut broker: TcpStream,
    mut agent: &TcpStream,
    counts: &Mutex<HashMap<(String, u64), Deliveries>>,
) {
    let (mut held, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    while let Ok(read @ 1..) = broker.read(&mut buffer) {
        held.extend_from_slice(&buffer[..read]);
        let mut used = 0;
        while let Some((packet, len)) = packets::first(&held[used..]) {
            if let Packet::Publish {
                topic,
                dup,
                payload,
                ..
            } = packet
            {
                let number = serde_json::from_slice(payload)
                    .ok()
                    .and_then(|value: Value| value["n"].as_u64());
                let mut counts = counts.lock().expect("no panic under this lock");
                let deliveries = counts
                    .entry((topic.to_owned(), number.unwrap_or(u64::MAX)))
                    .or_default();
                if dup {
                    deliveries.dup += 1
                } else {
                    deliveries.fresh += 1
                }
            }
            used += len;
        }
        if agent.write_all(&held[..used]).is_err() {
            return;
        }
        held.drain(..used);
    }
}

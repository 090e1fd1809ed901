//! A hub with all its doors and a gateway that sends to it, as real programs, and consumers over HTTP and over Kafka's protocol that do no more than they must.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sedge_tests::rig::daemon::{Daemon, sedge};
use sedge_tests::rig::{eventually, free_address};

use crate::login::{Line, Login};

/// Where a hub listens, and its gateway.
#[derive(Clone, Copy, Debug)]
pub struct Doors {
    /// Gateways and consumers of sedge's own.
    pub own: SocketAddr,
    /// HTTP.
    pub http: SocketAddr,
    /// Kafka's consumers.
    pub kafka: SocketAddr,
    /// The gateway's `mqtt-listen`.
    pub devices: SocketAddr,
}

impl Doors {
    /// Addresses that nobody has.
    #[must_use]
    pub fn free() -> Self {
        Self {
            own: free_address(),
            http: free_address(),
            kafka: free_address(),
            devices: free_address(),
        }
    }

    /// `hub.toml` and `agent.toml` in `path`; the gateway finds its hub at `hub`.
    ///
    /// # Errors
    /// If the disk does not take them.
    pub fn write_configs(&self, path: &Path, hub: SocketAddr) -> Result<()> {
        let (
            data,
            Self {
                own,
                http,
                kafka,
                devices,
            },
        ) = (path.display(), self);
        let of_hub = format!(
            "[hub]\ndata_dir = \"{data}/hub\"\nlisten = \"{own}\"\nhttp = \"{http}\"\nkafka = \"{kafka}\"\n"
        );
        let of_agent = format!(
            "[gateway]\nid = \"bench\"\ndata_dir = \"{data}/agent\"\nhttp = \"off\"\n\
             [[source]]\ntype = \"mqtt-listen\"\nname = \"direct\"\nlisten = \"{devices}\"\nstream = \"{STREAM}\"\n\
             [[stream]]\nname = \"{STREAM}\"\ncapacity = \"64MiB\"\n\
             [[uplink]]\nname = \"hq\"\nurl = \"sedge://{hub}\"\n"
        );
        std::fs::write(path.join("hub.toml"), of_hub)?;
        Ok(std::fs::write(path.join("agent.toml"), of_agent)?)
    }
}

/// Starts `sedge hub` or `sedge agent` with its configuration in `path`.
#[must_use]
pub fn start(path: &Path, what: &str) -> Daemon {
    let mut command = Command::new(sedge());
    let config = path.join(format!("{what}.toml"));
    command.arg(what).arg("--config").arg(config);
    Daemon::start(what, &mut command, &path.join(format!("{what}.log")))
}

/// Waits until somebody listens.
///
/// # Panics
/// If nobody does in time.
pub fn listens(address: SocketAddr) {
    eventually(WITHIN, "it listens", || TcpStream::connect(address).ok());
}

/// A consumer over HTTP, on one connection.
pub struct Http {
    line: BufReader<Line>,
    authorization: String,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

impl Http {
    /// Over this connection, in the clear or as somebody.
    ///
    /// # Errors
    /// If it is over.
    pub fn on(connection: TcpStream, login: Option<&Login>) -> Result<Self> {
        connection.set_nodelay(true)?;
        let authorization =
            login.map(|login| format!("Authorization: Bearer {}\r\n", login.token()));
        Ok(Self {
            line: BufReader::new(Login::over(login, connection)?),
            authorization: authorization.unwrap_or_default(),
        })
    }

    /// Asks for `path`; `more` are further lines of the head.
    ///
    /// # Errors
    /// If the connection is over.
    pub fn ask(&mut self, path: &str, more: &str) -> Result<()> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\n{}{more}\r\n",
            self.authorization
        );
        let line = self.line.get_mut();
        line.write_all(request.as_bytes())?;
        Ok(line.flush()?)
    }

    /// The answer to what was asked: its head and its body.
    ///
    /// # Errors
    /// If the connection ends, or it is no answer of success.
    pub fn answer(&mut self) -> Result<(String, Vec<u8>)> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            ensure!(self.line.read_line(&mut head)? > 0, "it ended: {head}");
        }
        ensure!(head.starts_with("HTTP/1.1 20"), "{head}");
        let length = field(&head, "content-length").unwrap_or("0");
        let mut body = vec![0; length.parse()?];
        self.line.read_exact(&mut body)?;
        Ok((head, body))
    }

    /// What comes, as it comes.
    #[must_use]
    pub fn into_inner(self) -> BufReader<Line> {
        self.line
    }
}

/// A field of a head.
#[must_use]
pub fn field<'head>(head: &'head str, name: &str) -> Option<&'head str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find_map(|(of, value)| of.eq_ignore_ascii_case(name).then_some(value))
}

/// A consumer over Kafka's protocol, of partition 0.
pub struct Kafka(Line);

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kafka").finish_non_exhaustive()
    }
}

impl Kafka {
    /// Over this connection, in the clear or as somebody.
    ///
    /// # Errors
    /// If it is over, or the hub does not know him.
    pub fn on(connection: TcpStream, login: Option<&Login>) -> Result<Self> {
        connection.set_nodelay(true)?;
        let mut consumer = Self(Login::over(login, connection)?);
        if let Some(login) = login {
            consumer.show(login)?;
        }
        Ok(consumer)
    }

    /// SASL PLAIN.
    fn show(&mut self, login: &Login) -> Result<()> {
        let mechanism = [&5_i16.to_be_bytes()[..], b"PLAIN"].concat();
        let password = [b"\0reader\0", login.token().as_bytes()].concat();
        let password = [&(password.len() as u32).to_be_bytes()[..], &password].concat();
        // SaslHandshake 1, SaslAuthenticate 0.
        for (api, version, body) in [(17_i16, 1_i16, mechanism), (36, 0, password)] {
            let mut request = [api.to_be_bytes(), version.to_be_bytes()].concat();
            request.extend(7_i32.to_be_bytes());
            request.extend((-1_i16).to_be_bytes());
            request.extend(body);
            let answer = self.converse(&request)?;
            ensure!(answer.get(4..6) == Some(&[0, 0]), "{api}: {answer:?}");
        }
        Ok(())
    }

    fn converse(&mut self, request: &[u8]) -> Result<Vec<u8>> {
        let length = (request.len() as u32).to_be_bytes();
        self.0.write_all(&[&length, request].concat())?;
        self.0.flush()?;
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut answer)?;
        Ok(answer)
    }

    /// Batches from `offset` on, up to some `bytes`; within `wait` if there are none yet. Fetch, version 4.
    ///
    /// # Errors
    /// If the connection ends, or the answer is none to this.
    pub fn fetch(&mut self, offset: i64, wait: Duration, bytes: i32) -> Result<Vec<u8>> {
        let mut request = Vec::new();
        request.extend(1_i16.to_be_bytes());
        request.extend(4_i16.to_be_bytes());
        request.extend(7_i32.to_be_bytes());
        request.extend((-1_i16).to_be_bytes());
        for number in [-1, wait.as_millis() as i32, 1, bytes] {
            request.extend(number.to_be_bytes());
        }
        request.push(0);
        request.extend(1_i32.to_be_bytes());
        request.extend((STREAM.len() as i16).to_be_bytes());
        request.extend(STREAM.as_bytes());
        for number in [1_i32, 0] {
            request.extend(number.to_be_bytes());
        }
        request.extend(offset.to_be_bytes());
        request.extend(bytes.to_be_bytes());
        let answer = self.converse(&request)?;
        // Correlation, throttling, one topic and its name, one partition: number, error, two ends, no aborted transactions; how many bytes follow.
        let head = 4 + 4 + 4 + 2 + STREAM.len() + 4 + 4 + 2 + 8 + 8 + 4 + 4;
        let records = answer.get(head..);
        Ok(records.context("no answer to Fetch")?.to_vec())
    }
}

/// One past the last offset of `batches`.
#[must_use]
pub fn next_offset(batches: &[u8]) -> Option<i64> {
    let (mut rest, mut next) = (batches, None);
    while let Some(head) = rest.get(..27) {
        let base = i64::from_be_bytes(head[..8].try_into().ok()?);
        let length = u32::from_be_bytes(head[8..12].try_into().ok()?);
        let delta = i32::from_be_bytes(head[23..].try_into().ok()?);
        next = Some(base + i64::from(delta) + 1);
        rest = rest.get(12 + length as usize..)?;
    }
    next
}

/// The stream that everything goes to.
pub const STREAM: &str = "telemetry";
/// What a program may take to start or end.
pub const WITHIN: Duration = Duration::from_secs(20);

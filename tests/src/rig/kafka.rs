//! Clients of Kafka's that people have, as programs: those in `tests/peers`, and kcat.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Missing;
use super::daemon::Daemon;
use super::peers::{installed, scripts};

/// A client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// kcat of Debian, an older librdkafka.
    Kcat,
    /// confluent-kafka for Python, the newest librdkafka.
    ConfluentKafka,
    /// kafka-python.
    KafkaPython,
    /// aiokafka.
    AioKafka,
    /// KafkaJS.
    KafkaJs,
    /// Kafka's own, in Java.
    Java,
    /// franz-go.
    FranzGo,
}

/// What a client is to do.
#[derive(Clone, Debug)]
pub enum Work {
    /// List the topics.
    List,
    /// Read this many records from somewhere on.
    Read(From, u64),
    /// Be a member of this group until it is stopped.
    Group(String),
}

/// Where reading begins.
#[derive(Clone, Copy, Debug)]
pub enum From {
    /// The beginning.
    Start,
    /// The end.
    End,
    /// This time, in ms since 1970.
    Time(u64),
}

/// Whom a client trusts and who it is.
#[derive(Clone, Debug)]
pub struct Login {
    /// File of the authority's certificate.
    pub ca: PathBuf,
    /// Name of the consumer.
    pub user: String,
    /// Its token.
    pub password: String,
}

/// A record as a client showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shown {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// The number that it carries.
    pub number: u64,
}

/// A client that runs.
#[derive(Debug)]
pub struct Running {
    daemon: Daemon,
    shown: PathBuf,
}

impl Client {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Kcat,
        Self::ConfluentKafka,
        Self::KafkaPython,
        Self::AioKafka,
        Self::KafkaJs,
        Self::Java,
        Self::FranzGo,
    ];

    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kcat => "kcat",
            Self::ConfluentKafka => "confluent-kafka",
            Self::KafkaPython => "kafka-python",
            Self::AioKafka => "aiokafka",
            Self::KafkaJs => "kafkajs",
            Self::Java => "java",
            Self::FranzGo => "franz-go",
        }
    }

    /// The program with what comes before its own arguments.
    ///
    /// # Errors
    /// It is not installed.
    fn program(self) -> Result<Command, Missing> {
        let (installed, scripts) = (installed(), scripts());
        let of = |program: PathBuf| match program.exists() {
            true => Ok(Command::new(program)),
            false => Err(Missing::Machine(format!(
                "{} is not installed; `cargo xtask peers` installs it",
                self.name()
            ))),
        };
        match self {
            Self::Kcat => {
                let found = Command::new("kcat").arg("-V").output();
                found.map_err(|_| Missing::Program("kcat"))?;
                Ok(Command::new("kcat"))
            }
            Self::ConfluentKafka | Self::KafkaPython | Self::AioKafka => {
                let python = installed.join("python/bin/python");
                if !python.exists() {
                    return Err(Missing::Program("python with the clients of tests/peers"));
                }
                let mut command = of(python)?;
                command
                    .arg(scripts.join("python/consume.py"))
                    .arg(self.name());
                Ok(command)
            }
            Self::KafkaJs => {
                let modules = installed.join("node/node_modules");
                of(modules.clone())?;
                let mut command = Command::new("node");
                command.arg(scripts.join("node/consume.js"));
                command.env("PEER_MODULES", modules);
                Ok(command)
            }
            Self::Java => {
                let jars = installed.join("java/lib");
                of(jars.clone())?;
                let mut command = Command::new("java");
                let own = installed.join("java");
                command.args(["-Xmx256m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]);
                command.arg("-cp");
                command.arg(format!("{}/*:{}", jars.display(), own.display()));
                command.arg("Consume");
                Ok(command)
            }
            Self::FranzGo => of(installed.join("go/consume")),
        }
    }

    fn command(
        self,
        hub: SocketAddr,
        work: &Work,
        login: Option<&Login>,
    ) -> Result<Command, Missing> {
        let mut command = self.program()?;
        if self == Self::Kcat {
            kcat(&mut command, hub, work, login);
            return Ok(command);
        }
        command.env("PEER_HUB", hub.to_string());
        if let Some(login) = login {
            command
                .env("PEER_CA", &login.ca)
                .env("PEER_USER", &login.user)
                .env("PEER_PASSWORD", &login.password);
        }
        match work {
            Work::List => command.arg("list"),
            Work::Group(group) => command.args(["group", group]),
            Work::Read(from, count) => {
                let from = match from {
                    From::Start => "start".to_owned(),
                    From::End => "end".to_owned(),
                    From::Time(ms) => ms.to_string(),
                };
                command.args(["read", &from, &count.to_string()])
            }
        };
        Ok(command)
    }

    /// Has it do `work`.
    ///
    /// # Errors
    /// It is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(
        self,
        hub: SocketAddr,
        work: &Work,
        login: Option<&Login>,
        log: &Path,
    ) -> Result<Running, Missing> {
        let mut command = self.command(hub, work, login)?;
        let shown = log.with_extension("shown");
        let daemon = Daemon::start_apart(self.name(), &mut command, log, &shown);
        Ok(Running { daemon, shown })
    }
}

fn kcat(command: &mut Command, hub: SocketAddr, work: &Work, login: Option<&Login>) {
    // By its name with TLS: this librdkafka does not compare an address with those in a certificate.
    let host = match login {
        Some(_) => "localhost".to_owned(),
        None => hub.ip().to_string(),
    };
    command.args(["-b", &format!("{host}:{}", hub.port()), "-q", "-u"]);
    if let Some(login) = login {
        for (key, value) in [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "PLAIN"),
            ("ssl.ca.location", &login.ca.display().to_string()),
            ("sasl.username", &login.user),
            ("sasl.password", &login.password),
        ] {
            command.arg("-X").arg(format!("{key}={value}"));
        }
    }
    let form = ["-f", "%p %o %s\n"];
    match work {
        Work::List => command.arg("-L"),
        Work::Read(from, count) => {
            let from = match from {
                From::Start => "beginning".to_owned(),
                From::End => "end".to_owned(),
                From::Time(ms) => format!("s@{ms}"),
            };
            let count = count.to_string();
            command.args(["-C", "-t", TOPIC, "-o", &from, "-c", &count]);
            command.args(form)
        }
        Work::Group(group) => {
            for setting in [
                "auto.offset.reset=earliest",
                "session.timeout.ms=6000",
                "heartbeat.interval.ms=1000",
                "auto.commit.interval.ms=200",
            ] {
                command.args(["-X", setting]);
            }
            command.args(["-G", group, TOPIC]).args(form)
        }
    };
}

impl Running {
    /// What it has shown so far.
    #[must_use]
    pub fn shown(&self) -> String {
        std::fs::read_to_string(&self.shown).unwrap_or_default()
    }

    /// The records among it.
    #[must_use]
    pub fn records(&self) -> Vec<Shown> {
        self.shown().lines().filter_map(record).collect()
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&mut self) -> bool {
        self.daemon.exit_status().is_some()
    }

    /// Waits until it ends by itself, and says whether that was well.
    ///
    /// # Panics
    /// If it does not end within `within`.
    pub fn wait(&mut self, within: Duration) -> bool {
        self.daemon.wait(within).success()
    }

    /// Asks it to end, as systemd would, and waits.
    ///
    /// # Panics
    /// If it does not end within `within`.
    pub fn stop(&mut self, within: Duration) {
        self.daemon.stop(within);
    }

    /// Ends it at once.
    ///
    /// # Panics
    /// If it had ended by itself.
    pub fn kill(&mut self) {
        self.daemon.kill_now();
    }

    /// What it said on standard error.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.printed()
    }
}

fn record(line: &str) -> Option<Shown> {
    let mut words = line.splitn(3, ' ');
    let partition = words.next()?.parse().ok()?;
    let offset = words.next()?.parse().ok()?;
    let digits = words.next()?.chars().filter(char::is_ascii_digit);
    let number = digits.collect::<String>().parse().ok()?;
    Some(Shown {
        partition,
        offset,
        number,
    })
}

/// How often each number was shown.
#[must_use]
pub fn counts(records: &[Shown]) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    for record in records {
        *counts.entry(record.number).or_default() += 1;
    }
    counts
}

/// The topic that clients read.
pub const TOPIC: &str = "telemetry";

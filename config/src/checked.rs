//! Configuration that cannot be wrong: what the agent and the hub are given.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::{DayWindow, Endpoint, Name, Pattern, Template};

/// An agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// The gateway itself.
    pub gateway: Gateway,
    /// In the order of the file.
    pub sources: Vec<Source>,
    /// In the order of the file; `dead-letter` is always among them, last if it was not written.
    pub streams: Vec<Stream>,
    /// At most [`UPLINKS_MAX`].
    pub uplinks: Vec<Uplink>,
}

impl Agent {
    /// Disk space of all partitions of all streams, in bytes.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        let of = |stream: &Stream| stream.capacity_bytes * u64::from(stream.partitions);
        self.streams.iter().map(of).sum()
    }
}

/// `[gateway]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// The gateway's name at the hub.
    pub id: Name,
    /// Directory of the logs.
    pub data_dir: PathBuf,
    /// Where metrics are served, on loopback; none is off.
    pub http: Option<SocketAddr>,
    /// Whether the streams are read there too.
    pub http_streams: bool,
    /// The Unix socket of `status` and `push`.
    pub control: PathBuf,
    /// Largest event in bytes.
    pub record_bytes_max: u32,
    /// What the card or drive under `data_dir` endures in bytes written, by its maker's word.
    pub disk_tbw_bytes: Option<u64>,
    /// Budget of all sources for events that are not yet on disk, in bytes; at least four of the largest events.
    pub memory_bytes: u64,
    /// Bytes that all logs should write in a day; none is as many as they like.
    pub write_budget_bytes: Option<u64>,
    /// Whether the clock is believed before anybody vouches for it.
    pub clock: Clock,
}

/// Whether the machine's clock is believed before anybody vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// If the machine has one that runs without power.
    Auto,
    /// Yes.
    Believe,
    /// No.
    Prove,
}

/// `[[source]]`.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A client of a broker.
    Mqtt(Mqtt),
    /// Devices connect here.
    MqttListen(MqttListen),
    /// A serial port.
    Serial(Serial),
}

impl Source {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        match self {
            Self::Mqtt(source) => &source.name,
            Self::MqttListen(source) => &source.name,
            Self::Serial(source) => &source.name,
        }
    }

    /// The stream that its events go to; it is declared.
    #[must_use]
    pub fn stream(&self) -> &Name {
        match self {
            Self::Mqtt(source) => &source.stream,
            Self::MqttListen(source) => &source.stream,
            Self::Serial(source) => &source.stream,
        }
    }

    /// Its type as it is written.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Mqtt(_) => "mqtt",
            Self::MqttListen(_) => "mqtt-listen",
            Self::Serial(_) => "serial",
        }
    }
}

/// `[[source]] type = "mqtt"`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mqtt {
    /// Its name.
    pub name: Name,
    /// Its stream.
    pub stream: Name,
    /// The broker.
    pub broker: Endpoint,
    /// With what TLS is spoken, if it is.
    pub tls: Option<BrokerTls>,
    /// Topic filters; at least one.
    pub topics: Vec<String>,
    /// How the key of an event is made.
    pub key: Template,
    /// Quality of service of the subscriptions: 0 or 1.
    pub qos: u8,
    /// MQTT version.
    pub version: MqttVersion,
    /// Client id; never empty.
    pub client_id: String,
    /// User name.
    pub username: Option<String>,
    /// File whose first line is the password; only with a user name.
    pub password_file: Option<PathBuf>,
    /// Keep-alive interval, at least 5 s.
    pub keep_alive: Duration,
    /// Limit for connecting and for each write.
    pub connect_timeout: Duration,
    /// How long the broker keeps the session (version 5).
    pub session_expiry: Duration,
    /// Messages received and not yet acknowledged.
    pub inflight_max: u16,
    /// Longest pause between two attempts to connect.
    pub retry_max: Duration,
}

/// TLS with a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerTls {
    /// What the broker's certificate is signed by.
    pub ca: PathBuf,
    /// The gateway's own certificate.
    pub certificate: Option<Certificate>,
}

/// MQTT version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MqttVersion {
    /// 3.1.1.
    V311,
    /// 5.
    V5,
}

/// `[[source]] type = "mqtt-listen"`.
#[derive(Debug, Clone, PartialEq)]
pub struct MqttListen {
    /// Its name.
    pub name: Name,
    /// Its stream.
    pub stream: Name,
    /// Where to listen; port 0 lets the system choose. On loopback, unless it is protected or need not be.
    pub listen: SocketAddr,
    /// How the key of an event is made.
    pub key: Template,
    /// Connections at one time.
    pub clients_max: u32,
    /// Sessions remembered, connected or not.
    pub sessions_max: u32,
    /// How long the session of an absent client is remembered.
    pub session_expiry: Duration,
    /// Unacknowledged publishes of one client.
    pub inflight_max: u16,
    /// Silence after which a client without keep-alive of its own is dropped.
    pub keep_alive_max: Duration,
    /// With it TLS is spoken.
    pub certificate: Option<Certificate>,
    /// What the devices' certificates are signed by.
    pub client_ca: Option<PathBuf>,
    /// Users and their passwords.
    pub password_file: Option<PathBuf>,
}

/// `[[source]] type = "serial"`.
#[derive(Debug, Clone, PartialEq)]
pub struct Serial {
    /// Its name.
    pub name: Name,
    /// Its stream.
    pub stream: Name,
    /// The port.
    pub device: PathBuf,
    /// What is spoken on it.
    pub protocol: SerialProtocol,
    /// How the key of an event is made.
    pub key: Template,
    /// Rate, one of those that Linux names.
    pub baud: u32,
    /// 7 or 8.
    pub data_bits: u8,
    /// Parity.
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: u8,
    /// Flow control.
    pub flow: Flow,
    /// What happens to DTR at the opening.
    pub dtr: Dtr,
}

/// What is spoken on a serial port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SerialProtocol {
    /// The custody protocol.
    Link,
    /// One event a text line.
    Lines(Lines),
}

/// How a line becomes an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    /// Longest line in bytes, without its end.
    pub line_bytes_max: u32,
    /// JSON pointer to the value; none is the whole line.
    pub value: Option<String>,
    /// JSON pointer to the event time; none is no event time.
    pub time: Option<String>,
    /// Unit of a numeric event time.
    pub time_unit: TimeUnit,
}

/// Unit of a numeric event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds since 1970, with a fraction or without.
    Seconds,
    /// Milliseconds since 1970.
    Milliseconds,
    /// Microseconds since 1970.
    Microseconds,
}

/// Parity of a serial port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of the file")]
pub enum Parity {
    None,
    Even,
    Odd,
}

/// Flow control of a serial port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of the file")]
pub enum Flow {
    None,
    Hardware,
    Software,
}

/// What happens to DTR when a port is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of the file")]
pub enum Dtr {
    Keep,
    On,
    Off,
}

/// `[[stream]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Its name.
    pub name: Name,
    /// Number of logs, at least 1.
    pub partitions: u16,
    /// Disk space of each partition in bytes; at least 16 of the largest events.
    pub capacity_bytes: u64,
    /// What gives way when it is used up.
    pub when_full: WhenFull,
    /// How old events may become; none is as old as they like.
    pub retention: Option<Duration>,
    /// How long a commit waits for company.
    pub linger: Duration,
    /// … and at most, when the budget for writing is used up.
    pub at_risk_max: Duration,
    /// Which streams an uplink sends first.
    pub priority: Priority,
}

/// Which streams an uplink sends first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of the file")]
pub enum Priority {
    Urgent,
    High,
    Normal,
    Low,
}

/// What gives way when a partition is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest events.
    EvictOldest,
    /// The newest: sources are held back.
    Refuse,
}

/// `[[uplink]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// Its name.
    pub name: Name,
    /// The hub.
    pub hub: Endpoint,
    /// What it carries; each pattern matches a stream.
    pub streams: Vec<Pattern>,
    /// Longest pause between two attempts to connect.
    pub retry_max: Duration,
    /// New events pass those that the hub lacks when it comes back, if they are older than this.
    pub live_first_after: Option<Duration>,
    /// Bits a second that are sent.
    pub rate_bits_max: Option<u64>,
    /// Bytes that the link may carry in a day, both directions together.
    pub day_bytes_max: Option<u64>,
    /// The same in a month.
    pub month_bytes_max: Option<u64>,
    /// Whether events are compressed where that pays.
    pub compresses: bool,
    /// When streams that are not urgent are sent; none is always.
    pub windows: Vec<DayWindow>,
    /// By what hub and gateway know each other.
    pub trust: GatewayTrust,
}

/// PEM files of an uplink; they need not be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayTrust {
    /// What the hub's certificate is signed by.
    pub ca: PathBuf,
    /// The gateway's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// PEM files of one who is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate, and those that it is signed by.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Uplink {
    /// Whether this uplink carries `stream`.
    #[must_use]
    pub fn carries(&self, stream: &str) -> bool {
        self.streams.iter().any(|pattern| pattern.matches(stream))
    }
}

/// A hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// Directory of the mirrors and the catalog.
    pub data_dir: PathBuf,
    /// Where gateways and consumers connect; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The hub's certificate; none is the one that it has made itself, if it has.
    pub certificate: Option<Certificate>,
    /// What the certificates of gateways and consumers are signed by.
    pub client_ca: Option<PathBuf>,
    /// Where metrics are served and streams are read over HTTP; none is off. On loopback, unless the hub has a certificate.
    pub http: Option<SocketAddr>,
    /// How Kafka's consumers are served; none is not at all.
    pub kafka: Option<Kafka>,
    /// Disk space of all mirrors together, in bytes.
    pub disk_bytes_max: u64,
    /// How often the catalog is copied.
    pub catalog_copy: Duration,
    /// The first that matches counts; the last matches every name.
    pub streams: Vec<HubStream>,
}

/// A port for Kafka's consumers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kafka {
    /// Where they connect; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where they are told to connect; none is where they are.
    pub advertised: Option<Endpoint>,
    /// They get a record for each gap.
    pub shows_gaps: bool,
}

impl Hub {
    /// Where the register stands, and the hub's own authority.
    #[must_use]
    pub fn trust_dir(&self) -> PathBuf {
        self.data_dir.join("trust")
    }

    /// How `stream` is kept.
    #[must_use]
    pub fn stream(&self, stream: &str) -> &HubStream {
        self.streams
            .iter()
            .find(|entry| entry.name.matches(stream))
            .expect("the last entry matches every name")
    }
}

/// `[[hub.stream]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubStream {
    /// Which streams.
    pub name: Pattern,
    /// Largest size of each mirror in bytes.
    pub capacity_bytes: u64,
    /// Events older than this may go.
    pub retention: Duration,
    /// What happens when a mirror or the disk is full.
    pub when_full: HubWhenFull,
}

/// What a hub does when a mirror is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubWhenFull {
    /// The oldest events go.
    EvictOldest,
    /// Nothing more is acknowledged: the gateways keep what they have.
    StopAcks,
}

/// The stream of what could not be taken.
pub const DEAD_LETTER: &str = "dead-letter";

/// As many cursors as a log's ledger holds.
pub const UPLINKS_MAX: usize = 4;

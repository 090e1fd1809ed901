//! The list of all keys: name, kind, default, meaning. The checks and the reference page are made from it.
//!
//! What one value may be is decided in [`crate::kind`]; what several keys must agree on in [`crate::agent`] and [`crate::hub`].

use std::time::Duration;

use crate::kind::Kind;

/// A table of the file.
#[derive(Debug)]
pub struct Table {
    /// As it is written, such as `[[source]]`.
    pub header: &'static str,
    /// For a `[[source]]`, the `type` that these keys belong to.
    pub kind: Option<&'static str>,
    /// One or two sentences for the reference.
    pub about: &'static str,
    /// The keys, in the order of the reference.
    pub keys: &'static [Key],
}

/// A key of a table.
#[derive(Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What it accepts.
    pub kind: Kind,
    /// What holds when it is not written.
    pub default: Fallback,
    /// A sentence for the reference.
    pub about: &'static str,
}

/// What holds when a key is not written.
#[derive(Debug)]
pub enum Fallback {
    /// It must be written.
    Required,
    /// This value, as it would be written.
    Value(&'static str),
    /// No value of its own; the text says what happens.
    Otherwise(&'static str),
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const HUNDRED_MS: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(366 * 86_400);

const fn key(name: &'static str, kind: Kind, default: Fallback, about: &'static str) -> Key {
    Key {
        name,
        kind,
        default,
        about,
    }
}

use Fallback::{Otherwise, Required, Value as Is};

/// `[gateway]`.
pub static GATEWAY: Table = Table {
    header: "[gateway]",
    kind: None,
    about: "The gateway itself. The table may be left out.",
    keys: &[
        key(
            "id",
            Kind::Name,
            Otherwise("made from /etc/machine-id"),
            "The gateway's name at the hub. Two live gateways must not share one.",
        ),
        key(
            "data_dir",
            Kind::Path,
            Is("\"/var/lib/sedge\""),
            "Directory of the logs; only one agent may use it at a time.",
        ),
        key(
            "http",
            Kind::ListenOrOff,
            Is("\"127.0.0.1:7481\""),
            "Where `/metrics`, `/healthz` and `/readyz` are served.",
        ),
        key(
            "http_streams",
            Kind::OneOf(&["off", "on"]),
            Is("\"off\""),
            "Whether the streams are read at `http` too, by whoever is on this machine: [as at a hub](http.md#at-a-gateway), but without groups.",
        ),
        key(
            "control",
            Kind::Path,
            Otherwise("`control.sock` in `data_dir`"),
            "Unix socket of `sedge status` and `sedge push`, readable by the owner only.",
        ),
        key(
            "record_max",
            Kind::Size(KIB, RECORD_BYTES_MAX),
            Is("\"256KiB\""),
            "Largest event; none can be larger than what goes to a hub in one message. A larger one leaves its reason and first 4 KiB in the stream `dead-letter`.",
        ),
        key(
            "memory",
            Kind::Size(MIB, 4 * GIB),
            Is("\"8MiB\""),
            "Budget of all sources together for events that are not yet on disk.",
        ),
        key(
            "disk_tbw",
            Kind::Size(GIB, 1024 * 1024 * TIB),
            Otherwise("no estimate"),
            "What the card or drive under `data_dir` endures by its maker's word (\"TBW\", terabytes written, such as `\"30TB\"`): `sedge status` then estimates how long a new one lasts.",
        ),
        key(
            "write_budget",
            Kind::Size(MIB, 64 * TIB),
            Otherwise("no budget"),
            "What all logs together should write to the disk in a day, so that a card lasts. As it is used up, commits wait longer for company, up to `at_risk_max`; nothing is refused or lost for it.",
        ),
        key(
            "clock",
            Kind::OneOf(&["auto", "believe", "prove"]),
            Is("\"auto\""),
            "Whether the machine's clock is taken for right when it starts. `prove`: only after NTP or a hub behind TLS has vouched for it. `auto`: as `prove` on a board without a real-time clock.",
        ),
    ],
};

/// What every `[[source]]` has.
pub static SOURCE: Table = Table {
    header: "[[source]]",
    kind: None,
    about: "Where events come from. Which other keys there are depends on `type`.",
    keys: &[
        key(
            "type",
            Kind::OneOf(&["mqtt", "mqtt-listen", "serial"]),
            Required,
            "What kind of source this is.",
        ),
        key(
            "name",
            Kind::Name,
            Required,
            "Its name in logs, metrics and `sedge status`; unique among the sources.",
        ),
        key(
            "stream",
            Kind::Name,
            Required,
            "The stream that its events go to.",
        ),
    ],
};

/// `[[source]] type = "mqtt"`.
pub static MQTT: Table = Table {
    header: "[[source]]",
    kind: Some("mqtt"),
    about: "A client of an existing broker. A message is acknowledged to the broker after it is on disk.",
    keys: &[
        key(
            "url",
            Kind::Broker,
            Required,
            "The broker; `mqtts` speaks TLS (1.3, or 1.2 if the broker knows no better).",
        ),
        key(
            "ca",
            Kind::Path,
            Otherwise("`/etc/ssl/certs/ca-certificates.crt`"),
            "PEM file of what the broker's certificate is signed by (`mqtts`).",
        ),
        key(
            "certificate",
            Kind::Path,
            Otherwise("none is shown"),
            "PEM file of a certificate to show the broker (`mqtts`).",
        ),
        key(
            "key_file",
            Kind::Path,
            Otherwise("none is shown"),
            "PEM file of its private key (`mqtts`).",
        ),
        key("topics", Kind::Topics, Required, "What to subscribe to."),
        key(
            "key",
            Kind::Template,
            Is("\"{topic}\""),
            "Key of an event; events of one key stay in order in one partition.",
        ),
        key(
            "qos",
            Kind::Integer(0, 1),
            Is("1"),
            "Quality of service of the subscriptions. With 0 an event can be lost before the agent has it.",
        ),
        key(
            "version",
            Kind::OneOf(&["3.1.1", "5"]),
            Is("\"3.1.1\""),
            "MQTT version to speak.",
        ),
        key(
            "client_id",
            Kind::Text,
            Otherwise("`sedge-GATEWAY-NAME`"),
            "Client id; the broker keeps the session under it.",
        ),
        key(
            "username",
            Kind::Text,
            Otherwise("no credentials"),
            "User name for the broker.",
        ),
        key(
            "password_file",
            Kind::Path,
            Otherwise("no password"),
            "File whose first line is the password.",
        ),
        key(
            "keep_alive",
            Kind::Duration(SECOND.saturating_mul(5), HOUR),
            Is("\"20s\""),
            "How soon a dead connection is noticed (at twice this).",
        ),
        key(
            "connect_timeout",
            Kind::Duration(SECOND, HOUR),
            Is("\"30s\""),
            "Limit for connecting, and for each write to a slow broker.",
        ),
        key(
            "session_expiry",
            Kind::Duration(SECOND.saturating_mul(60), YEAR),
            Is("\"7d\""),
            "How long the broker keeps the session while the agent is away (version 5).",
        ),
        key(
            "inflight_max",
            Kind::Integer(1, 65_535),
            Is("100"),
            "Messages that the broker may send before they are on disk (version 5 only announces it).",
        ),
        key(
            "retry_max",
            Kind::Duration(SECOND, HOUR),
            Is("\"30s\""),
            "Longest pause between two attempts to connect.",
        ),
    ],
};

/// `[[source]] type = "mqtt-listen"`.
pub static MQTT_LISTEN: Table = Table {
    header: "[[source]]",
    kind: Some("mqtt-listen"),
    about: "Devices connect straight to the agent (MQTT 3.1.1 and 5, QoS 0 and 1); PUBACK means \"on disk\".",
    keys: &[
        key(
            "listen",
            Kind::Listen,
            Is("\"127.0.0.1:1883\""),
            "Where to listen. An address that the network can reach needs TLS and credentials, or `unprotected = \"anywhere\"`.",
        ),
        key(
            "certificate",
            Kind::Path,
            Otherwise("no TLS"),
            "PEM file of the listener's certificate and those that it is signed by; devices then speak TLS 1.3. A file that changes is read again.",
        ),
        key(
            "key_file",
            Kind::Path,
            Otherwise("no TLS"),
            "PEM file of its private key.",
        ),
        key(
            "client_ca",
            Kind::Path,
            Otherwise("no certificates are asked for"),
            "PEM file of what the devices' certificates are signed by. Without a `password_file` each device needs one; with it, either will do.",
        ),
        key(
            "password_file",
            Kind::Path,
            Otherwise("no passwords are asked for"),
            "File of user names and hashed passwords, one a line, as `sedge passwd` and `mosquitto_passwd` write them. A file that changes is read again.",
        ),
        key(
            "unprotected",
            Kind::OneOf(&["loopback", "anywhere"]),
            Is("\"loopback\""),
            "From where devices may come without TLS, or without showing who they are.",
        ),
        key(
            "key",
            Kind::Template,
            Is("\"{device}\""),
            "Key of an event; `{device}` is the client id.",
        ),
        key(
            "clients_max",
            Kind::Integer(1, 100_000),
            Is("1000"),
            "Connections at one time; one more is refused with \"server unavailable\".",
        ),
        key(
            "sessions_max",
            Kind::Integer(1, 2048),
            Is("2000"),
            "Sessions that are remembered, connected or not.",
        ),
        key(
            "session_expiry",
            Kind::Duration(SECOND.saturating_mul(60), YEAR),
            Is("\"7d\""),
            "How long the session of an absent client is remembered.",
        ),
        key(
            "inflight_max",
            Kind::Integer(1, 65_535),
            Is("1024"),
            "Unacknowledged publishes of one client (announced to version 5).",
        ),
        key(
            "keep_alive_max",
            Kind::Duration(SECOND, HOUR.saturating_mul(18)),
            Is("\"10m\""),
            "Silence after which a client without keep-alive of its own is dropped.",
        ),
    ],
};

/// `[[source]] type = "serial"`.
pub static SERIAL: Table = Table {
    header: "[[source]]",
    kind: Some("serial"),
    about: "A device on a serial port, with the custody protocol or printing lines.",
    keys: &[
        key(
            "device",
            Kind::Path,
            Required,
            "The port; a name under /dev/serial/by-id survives re-plugging.",
        ),
        key(
            "protocol",
            Kind::OneOf(&["link", "lines"]),
            Required,
            "`link` for firmware with the sedge core, `lines` for one event a text line.",
        ),
        key(
            "key",
            Kind::Template,
            Is("\"{device}\""),
            "Key of an event; `{device}` is the identity on a link, the source's name for lines.",
        ),
        key("baud", Kind::Baud, Is("115200"), "Rate."),
        key("data_bits", Kind::Integer(7, 8), Is("8"), "Data bits."),
        key(
            "parity",
            Kind::OneOf(&["none", "even", "odd"]),
            Is("\"none\""),
            "Parity.",
        ),
        key("stop_bits", Kind::Integer(1, 2), Is("1"), "Stop bits."),
        key(
            "flow",
            Kind::OneOf(&["none", "hardware", "software"]),
            Is("\"none\""),
            "Flow control.",
        ),
        key(
            "dtr",
            Kind::OneOf(&["keep", "on", "off"]),
            Is("\"keep\""),
            "What happens to DTR when the port is opened; some boards reset on a change.",
        ),
        key(
            "line_max",
            Kind::Size(16, MIB),
            Is("\"4KiB\""),
            "Longest line (`lines`); a longer one goes to `dead-letter`.",
        ),
        key(
            "value",
            Kind::Pointer,
            Otherwise("the whole line"),
            "Where the value stands in a JSON line (`lines`).",
        ),
        key(
            "time",
            Kind::Pointer,
            Otherwise("no event time"),
            "Where the event time stands in a JSON line: RFC 3339 text or a number (`lines`).",
        ),
        key(
            "time_unit",
            Kind::OneOf(&["s", "ms", "us"]),
            Is("\"s\""),
            "Unit of a numeric event time (`lines`).",
        ),
    ],
};

/// `[[stream]]`.
pub static STREAM: Table = Table {
    header: "[[stream]]",
    kind: None,
    about: "A named series of events on disk. If no stream is declared at all, those that the sources name exist with these defaults. The stream `dead-letter` always exists; declared, it can be given another capacity than 8MiB.",
    keys: &[
        key(
            "name",
            Kind::Name,
            Required,
            "Its name, here and at the hub.",
        ),
        key(
            "partitions",
            Kind::Integer(1, 64),
            Is("1"),
            "Independent logs; each costs a sync and a tail page of its own.",
        ),
        key(
            "capacity",
            Kind::Size(4 * MIB, 64 * TIB),
            Is("\"256MiB\""),
            "Disk space of each partition, fixed.",
        ),
        key(
            "when_full",
            Kind::OneOf(&["evict-oldest", "refuse"]),
            Is("\"evict-oldest\""),
            "What gives way when the space is used up: the oldest events, or the newest (sources are held back).",
        ),
        key(
            "retention",
            Kind::Duration(MINUTE, YEAR.saturating_mul(100)),
            Otherwise("events are kept as long as there is space"),
            "Events older than this go, whether or not an uplink has had them, and are counted as `expired`. By the time of day once NTP or a hub vouches for it, before that by how long the machine was on.",
        ),
        key(
            "linger",
            Kind::Duration(Duration::ZERO, SECOND),
            Is("\"5ms\""),
            "How long a commit waits for company.",
        ),
        key(
            "priority",
            Kind::OneOf(&["urgent", "high", "normal", "low"]),
            Is("\"normal\""),
            "Which streams an uplink sends first; `urgent` also goes when `windows`, `day_max` or `month_max` hold back the others.",
        ),
        key(
            "at_risk_max",
            Kind::Duration(Duration::ZERO, MINUTE),
            Is("\"1s\""),
            "How long it waits at most when `write_budget` is used up: so long an event may be on its way to the disk, and is not acknowledged.",
        ),
    ],
};

/// `[[uplink]]`.
pub static UPLINK: Table = Table {
    header: "[[uplink]]",
    kind: None,
    about: "Where events are handed over to. An event is released when every uplink that carries its stream has it. At most 4.",
    keys: &[
        key(
            "name",
            Kind::Name,
            Required,
            "Its name; the position in the log is kept under it.",
        ),
        key("url", Kind::Url("sedge", 7443), Required, "The hub."),
        key("streams", Kind::Patterns, Is("[\"*\"]"), "What it carries."),
        key(
            "ca",
            Kind::Path,
            Otherwise("`trust/NAME/ca.pem` in `data_dir`, once `sedge enroll` has made it"),
            "PEM file of what the hub's certificate is signed by. Without it only a hub on this machine is spoken to, without TLS.",
        ),
        key(
            "certificate",
            Kind::Path,
            Otherwise("`trust/NAME/gateway.pem` in `data_dir`"),
            "PEM file of the gateway's certificate, whose DNS name (or URI `sedge:gateway:ID`) is the gateway's id. One from `sedge enroll` renews itself.",
        ),
        key(
            "key_file",
            Kind::Path,
            Otherwise("`trust/NAME/gateway.pem` in `data_dir`"),
            "PEM file of its private key.",
        ),
        key(
            "retry_max",
            Kind::Duration(HUNDRED_MS, HOUR),
            Is("\"30s\""),
            "Longest pause between two attempts to connect.",
        ),
        key(
            "live_first_after",
            Kind::Duration(SECOND, YEAR),
            Otherwise("everything is sent in the order in which it came"),
            "When a hub that comes back lacks events older than this, new ones pass them: the log is closed, the next one of its chain takes events and is sent beside it with 70 % of the link. Order holds in each of the two, and a partition may take up to twice its `capacity` until the first is handed over.",
        ),
        key(
            "rate_max",
            Kind::Rate(8_000, 100_000_000_000),
            Otherwise("as fast as the link is"),
            "Bits a second that are sent.",
        ),
        key(
            "day_max",
            Kind::Size(64 * KIB, 64 * TIB),
            Otherwise("no bound"),
            "What the link may carry in a day by the local calendar, both directions together. Headers of TLS, TCP and IP are not counted. When it is used up, only `urgent` streams are sent.",
        ),
        key(
            "month_max",
            Kind::Size(64 * KIB, 64 * TIB),
            Otherwise("no bound"),
            "The same in a month.",
        ),
        key(
            "compression",
            Kind::OneOf(&["auto", "off"]),
            Is("\"auto\""),
            "Whether events are compressed (LZ4) on the way: `auto` where the link carries less than 2 MB/s or is bounded by `rate_max`, `day_max` or `month_max`, as long as it saves a tenth.",
        ),
        key(
            "windows",
            Kind::Windows,
            Otherwise("always"),
            "When streams that are not `urgent` are sent, by the local clock: [\"22:00-06:00\"]. A gateway that does not know the time sends.",
        ),
    ],
};

/// `[hub]`.
pub static HUB: Table = Table {
    header: "[hub]",
    kind: None,
    about: "The hub itself. The table may be left out.",
    keys: &[
        key(
            "data_dir",
            Kind::Path,
            Is("\"/var/lib/sedge-hub\""),
            "Directory of the mirrors and the catalog; only one hub may use it at a time.",
        ),
        key(
            "listen",
            Kind::Listen,
            Is("\"127.0.0.1:7443\""),
            "Where gateways and consumers connect. An address that the network can reach needs a certificate: `sedge hub init` makes one.",
        ),
        key(
            "certificate",
            Kind::Path,
            Otherwise("`trust/hub.pem` in `data_dir`, once `sedge hub init` has made it"),
            "PEM file of the hub's certificate and those that it is signed by. With a certificate the hub speaks TLS 1.3 and nothing else; at `http` its own machine may do without. A file that changes is read again.",
        ),
        key(
            "key_file",
            Kind::Path,
            Otherwise("`trust/hub-key.pem` in `data_dir`"),
            "PEM file of its private key.",
        ),
        key(
            "client_ca",
            Kind::Path,
            Otherwise("the hub's own authority; with a `certificate` of yours, none"),
            "PEM file of what the certificates of gateways and consumers are signed by. Without it only tokens let anybody in.",
        ),
        key(
            "http",
            Kind::ListenAnywhereOrOff,
            Is("\"127.0.0.1:7480\""),
            "Where `/metrics`, `/healthz` and `/readyz` are served, and [streams are read over HTTP](http.md). On loopback, unless the hub has a certificate: other machines then come by TLS.",
        ),
        key(
            "kafka",
            Kind::ListenAnywhereOrOff,
            Is("\"off\""),
            "Where [Kafka's consumers](kafka.md) connect. On loopback, unless the hub has a certificate.",
        ),
        key(
            "kafka_advertised",
            Kind::Url("kafka", 9092),
            Otherwise("where a client has connected already"),
            "Where Kafka's clients are told to connect, if that is another name or port than they began with.",
        ),
        key(
            "kafka_gaps",
            Kind::OneOf(&["skip", "record"]),
            Is("\"skip\""),
            "What Kafka's consumers get of a gap: nothing, or a record without a value that says so in a header `sedge-gap`.",
        ),
        key(
            "disk_max",
            Kind::Size(16 * MIB, 1024 * TIB),
            Is("\"100GiB\""),
            "Disk space of all mirrors together.",
        ),
        key(
            "catalog_copy",
            Kind::Duration(SECOND.saturating_mul(10), DAY.saturating_mul(30)),
            Is("\"1h\""),
            "How often the catalog (names, groups, offsets) is copied beside itself.",
        ),
    ],
};

/// `[[hub.stream]]`.
pub static HUB_STREAM: Table = Table {
    header: "[[hub.stream]]",
    kind: None,
    about: "How streams are kept; the first entry whose name matches counts. An entry for `*` with the defaults is there if none is written.",
    keys: &[
        key("name", Kind::Pattern, Required, "Which streams."),
        key(
            "capacity",
            Kind::Size(MIRROR_BYTES_MIN, 64 * TIB),
            Is("\"1GiB\""),
            "Largest size of each mirror, allocated segment by segment. From `\"16MiB\"` on a mirror takes any event that a gateway may send, below that events of up to a seventeenth of this: one that is larger stays at its gateway, and its log waits there, until this is raised.",
        ),
        key(
            "retention",
            Kind::Duration(SECOND, YEAR.saturating_mul(100)),
            Is("\"30d\""),
            "Events older than this may go.",
        ),
        key(
            "when_full",
            Kind::OneOf(&["evict-oldest", "stop-acks"]),
            Is("\"evict-oldest\""),
            "What happens when a mirror or `disk_max` is full: the oldest go, or the gateways keep what they have.",
        ),
    ],
};

/// Tables of the file of an agent, in the order of the reference.
pub static AGENT_FILE: &[&Table] = &[
    &GATEWAY,
    &SOURCE,
    &MQTT,
    &MQTT_LISTEN,
    &SERIAL,
    &STREAM,
    &UPLINK,
];

/// Tables of the file of a hub.
pub static HUB_FILE: &[&Table] = &[&HUB, &HUB_STREAM];

/// Largest `record_max`: what stands around an event included, it goes to a hub, and from there to a consumer, in one message.
pub const RECORD_BYTES_MAX: u64 = 959 * KIB;

/// Smallest capacity of a mirror: with the next smaller one it would not take all events that the default of `record_max` lets in.
pub const MIRROR_BYTES_MIN: u64 = 5 * MIB;

/// Capacity of `dead-letter` when it is not declared.
pub const DEAD_LETTER_BYTES: u64 = 8 * MIB;

#[cfg(test)]
mod tests {
    use toml::de::DeValue;

    use super::*;

    #[test]
    fn every_default_is_a_value_that_its_key_accepts() {
        for key in AGENT_FILE
            .iter()
            .chain(HUB_FILE)
            .flat_map(|table| table.keys)
        {
            if let Fallback::Value(written) = key.default {
                let value = DeValue::parse(written).expect(written);
                assert!(
                    key.kind.check(value.get_ref()).is_ok(),
                    "{} = {written}",
                    key.name
                );
            }
        }
    }
}

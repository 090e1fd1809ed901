//! The file of an agent: from text to [`checked::Agent`], and what its keys must agree on.

use std::collections::BTreeMap;
use std::path::Path;

use crate::checked::{self, DEAD_LETTER, UPLINKS_MAX};
use crate::drop_in::{Files, Place};
use crate::file::{self, Reader, Section};
use crate::hub::{certificate, check_certificate};
use crate::problem::did_you_mean;
use crate::quantity::show_size;
use crate::schema::DEAD_LETTER_BYTES;
use crate::{Name, Pattern, Problems, Template, template::Part};

/// Reads and checks the file at `path` and its drop-ins. `gateway_id` is what the machine would be called if they do not say.
///
/// # Errors
/// All problems of them, or the one that they cannot be read.
pub fn load(path: &Path, gateway_id: Option<&str>) -> Result<checked::Agent, Problems> {
    of(&Files::read(path)?, gateway_id)
}

/// Checks `text`; `path` is only shown.
///
/// # Errors
/// All problems of the text.
pub fn parse(
    text: &str,
    path: &Path,
    gateway_id: Option<&str>,
) -> Result<checked::Agent, Problems> {
    of(&Files::one(path, text), gateway_id)
}

/// Checks what has been read.
///
/// # Errors
/// All problems of it.
pub fn of(files: &Files, gateway_id: Option<&str>) -> Result<checked::Agent, Problems> {
    let mut reader = Reader::new(files);
    let file = file::Agent::read(&mut reader);
    let streams = streams(&file, &mut reader);
    let gateway = gateway(&file.gateway, gateway_id, &mut reader);
    check_names("source", &file.sources, &mut reader);
    check_names("uplink", &file.uplinks, &mut reader);
    check_places(&file, &mut reader);
    check_sizes(&file, &mut reader);
    check_uplinks(&file, &streams, &mut reader);
    for source in &file.sources {
        check_source(source, &streams, &mut reader);
    }
    Problems::of(files, reader.problems)?;
    let gateway = gateway.expect("a gateway without problems is whole");
    let sources = file
        .sources
        .iter()
        .map(|section| source(section, &gateway.id))
        .collect::<Option<_>>();
    let uplink = |section: &Section| uplink(section, &gateway.data_dir);
    let uplinks = file.uplinks.iter().map(uplink).collect::<Option<_>>();
    Ok(checked::Agent {
        sources: sources.expect("sources without problems are whole"),
        uplinks: uplinks.expect("uplinks without problems are whole"),
        streams,
        gateway,
    })
}

fn gateway(
    section: &Section,
    id_default: Option<&str>,
    reader: &mut Reader<'_>,
) -> Option<checked::Gateway> {
    let id = match section.field("id").place {
        Some(_) => section.name("id"),
        None => {
            let id = id_default.and_then(Name::new);
            if id.is_none() {
                let what = "missing, and /etc/machine-id gives none (accepted: a name: 1 to 64 of a-z 0-9 . _ -)";
                reader.problem(section.place, section.path_of("id"), what);
            }
            id
        }
    };
    let data_dir = section.path("data_dir");
    let control = section
        .path("control")
        .or_else(|| Some(data_dir.as_ref()?.join("control.sock")));
    let http = section.address("http");
    let http_streams = section.text("http_streams").map(|wanted| wanted == "on");
    if http == Some(None) && http_streams == Some(true) {
        let key = "http_streams";
        let what = "\"on\", and `http` is off: there is no port to read them at";
        reader.problem(section.place_of(key), section.path_of(key), what);
    }
    Some(checked::Gateway {
        id: id?,
        data_dir: data_dir?,
        http: http?,
        http_streams: http_streams?,
        control: control?,
        record_bytes_max: section.number32("record_max")?,
        memory_bytes: section.number("memory")?,
        disk_tbw_bytes: section.number("disk_tbw"),
        write_budget_bytes: section.number("write_budget"),
        clock: match section.text("clock")?.as_str() {
            "believe" => checked::Clock::Believe,
            "prove" => checked::Clock::Prove,
            _ => checked::Clock::Auto,
        },
    })
}

/// The declared streams, those that sources name if none is declared, and `dead-letter`.
fn streams(file: &file::Agent, reader: &mut Reader<'_>) -> Vec<checked::Stream> {
    check_names("stream", &file.streams, reader);
    // One whose other keys have problems is still declared.
    let declared = |section: &Section| {
        stream(section).or_else(|| section.name("name").map(|name| default_stream(name, None)))
    };
    let mut streams: Vec<checked::Stream> = file.streams.iter().filter_map(declared).collect();
    let undeclared = |name: &Name, streams: &[checked::Stream]| {
        streams.iter().all(|stream| stream.name != *name)
    };
    if file.streams.iter().all(|section| {
        section
            .name("name")
            .is_some_and(|name| &*name == DEAD_LETTER)
    }) {
        for name in file
            .sources
            .iter()
            .filter_map(|source| source.name("stream"))
        {
            if undeclared(&name, &streams) {
                streams.push(default_stream(name, None));
            }
        }
    }
    let dead_letter = Name::new(DEAD_LETTER).expect("a name");
    if undeclared(&dead_letter, &streams) {
        streams.push(default_stream(dead_letter, Some(DEAD_LETTER_BYTES)));
    }
    streams
}

fn default_stream(name: Name, capacity: Option<u64>) -> checked::Stream {
    let files = Files::one(Path::new(""), "[[stream]]\nname = \"x\"");
    let mut reader = Reader::new(&files);
    let file = file::Agent::read(&mut reader);
    let mut made = file
        .streams
        .first()
        .and_then(stream)
        .expect("the defaults make a stream");
    made.name = name;
    made.capacity_bytes = capacity.unwrap_or(made.capacity_bytes);
    made
}

fn stream(section: &Section) -> Option<checked::Stream> {
    Some(checked::Stream {
        name: section.name("name")?,
        partitions: section.number16("partitions")?,
        capacity_bytes: section.number("capacity")?,
        when_full: match section.text("when_full")?.as_str() {
            "refuse" => checked::WhenFull::Refuse,
            _ => checked::WhenFull::EvictOldest,
        },
        retention: section.duration("retention"),
        linger: section.duration("linger")?,
        priority: match section.text("priority")?.as_str() {
            "urgent" => checked::Priority::Urgent,
            "high" => checked::Priority::High,
            "low" => checked::Priority::Low,
            _ => checked::Priority::Normal,
        },
        at_risk_max: section.duration("at_risk_max")?,
    })
}

fn uplink(section: &Section, data_dir: &Path) -> Option<checked::Uplink> {
    let name = section.name("name")?;
    let enrolled = data_dir.join("trust").join(&*name);
    let file = |key: &str, usual: &str| section.path(key).unwrap_or_else(|| enrolled.join(usual));
    Some(checked::Uplink {
        trust: checked::GatewayTrust {
            ca: file("ca", "ca.pem"),
            certificate: file("certificate", "gateway.pem"),
            key: file("key_file", "gateway.pem"),
        },
        name,
        hub: section.endpoint("url")?,
        streams: section.patterns("streams")?,
        retry_max: section.duration("retry_max")?,
        live_first_after: section.duration("live_first_after"),
        rate_bits_max: section.number("rate_max"),
        day_bytes_max: section.number("day_max"),
        month_bytes_max: section.number("month_max"),
        compresses: section.text("compression")? == "auto",
        windows: section.windows("windows").unwrap_or_default(),
    })
}

fn source(section: &Section, gateway: &Name) -> Option<checked::Source> {
    match section.text("type")?.as_str() {
        "mqtt" => mqtt(section, gateway).map(checked::Source::Mqtt),
        "mqtt-listen" => mqtt_listen(section).map(checked::Source::MqttListen),
        _ => serial(section).map(checked::Source::Serial),
    }
}

fn mqtt(section: &Section, gateway: &Name) -> Option<checked::Mqtt> {
    let name = section.name("name")?;
    Some(checked::Mqtt {
        stream: section.name("stream")?,
        broker: section.broker("url")?.0,
        tls: match section.broker("url")?.1 {
            true => Some(checked::BrokerTls {
                ca: section.path("ca").unwrap_or_else(|| SYSTEM_CA.into()),
                certificate: certificate(section),
            }),
            false => None,
        },
        topics: section.topics("topics")?,
        key: section.template("key")?,
        qos: u8::from(section.number("qos")? == 1),
        version: match section.text("version")?.as_str() {
            "5" => checked::MqttVersion::V5,
            _ => checked::MqttVersion::V311,
        },
        client_id: section
            .text("client_id")
            .unwrap_or_else(|| format!("sedge-{gateway}-{name}")),
        username: section.text("username"),
        password_file: section.path("password_file"),
        keep_alive: section.duration("keep_alive")?,
        connect_timeout: section.duration("connect_timeout")?,
        session_expiry: section.duration("session_expiry")?,
        inflight_max: section.number16("inflight_max")?,
        retry_max: section.duration("retry_max")?,
        name,
    })
}

fn mqtt_listen(section: &Section) -> Option<checked::MqttListen> {
    Some(checked::MqttListen {
        name: section.name("name")?,
        stream: section.name("stream")?,
        listen: section.address("listen")??,
        key: section.template("key")?,
        clients_max: section.number32("clients_max")?,
        sessions_max: section.number32("sessions_max")?,
        session_expiry: section.duration("session_expiry")?,
        inflight_max: section.number16("inflight_max")?,
        keep_alive_max: section.duration("keep_alive_max")?,
        certificate: certificate(section),
        client_ca: section.path("client_ca"),
        password_file: section.path("password_file"),
    })
}

fn serial(section: &Section) -> Option<checked::Serial> {
    Some(checked::Serial {
        name: section.name("name")?,
        stream: section.name("stream")?,
        device: section.path("device")?,
        protocol: match section.text("protocol")?.as_str() {
            "lines" => checked::SerialProtocol::Lines(lines(section)?),
            _ => checked::SerialProtocol::Link,
        },
        key: section.template("key")?,
        baud: section.number32("baud")?,
        data_bits: if section.number("data_bits")? == 7 {
            7
        } else {
            8
        },
        parity: match section.text("parity")?.as_str() {
            "even" => checked::Parity::Even,
            "odd" => checked::Parity::Odd,
            _ => checked::Parity::None,
        },
        stop_bits: if section.number("stop_bits")? == 2 {
            2
        } else {
            1
        },
        flow: match section.text("flow")?.as_str() {
            "hardware" => checked::Flow::Hardware,
            "software" => checked::Flow::Software,
            _ => checked::Flow::None,
        },
        dtr: match section.text("dtr")?.as_str() {
            "on" => checked::Dtr::On,
            "off" => checked::Dtr::Off,
            _ => checked::Dtr::Keep,
        },
    })
}

fn lines(section: &Section) -> Option<checked::Lines> {
    Some(checked::Lines {
        line_bytes_max: section.number32("line_max")?,
        value: section.text("value"),
        time: section.text("time"),
        time_unit: match section.text("time_unit")?.as_str() {
            "ms" => checked::TimeUnit::Milliseconds,
            "us" => checked::TimeUnit::Microseconds,
            _ => checked::TimeUnit::Seconds,
        },
    })
}

/// No two tables of one sort have one name.
fn check_names(what: &str, sections: &[Section], reader: &mut Reader<'_>) {
    let mut seen: BTreeMap<Name, Option<Place>> = BTreeMap::new();
    for section in sections {
        let Some(name) = section.name("name") else {
            continue;
        };
        let place = section.place_of("name");
        match seen.get(&name) {
            Some(first) => {
                let what = format!(
                    "a second {what} with this name (the other in {})",
                    reader.shown(*first)
                );
                reader.problem(place, section.path_of("name"), what);
            }
            None => {
                seen.insert(name, place);
            }
        }
    }
}

/// No two listen on one port or open one device.
fn check_places(file: &file::Agent, reader: &mut Reader<'_>) {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let places = std::iter::once((&file.gateway, "http")).chain(
        file.sources
            .iter()
            .flat_map(|source| [(source, "listen"), (source, "device")]),
    );
    for (section, key) in places.filter(|(section, key)| section.has(key)) {
        let place = match key {
            "device" => section.path(key).map(|device| device.display().to_string()),
            _ => section
                .address(key)
                .flatten()
                .filter(|a| a.port() != 0)
                .map(|address| address.to_string()),
        };
        let Some(place) = place else { continue };
        let path = section.path_of(key);
        match seen.get(&place) {
            Some(other) => reader.problem(
                section.place_of(key),
                path,
                format!("\"{place}\" is already used by {other}"),
            ),
            None => {
                seen.insert(place, path);
            }
        }
    }
}

/// Budgets hold a few of the largest events.
fn check_sizes(file: &file::Agent, reader: &mut Reader<'_>) {
    let Some(record_max) = file.gateway.number("record_max") else {
        return;
    };
    let budgets = std::iter::once((&file.gateway, "memory", MEMORY_RECORDS_MIN)).chain(
        file.streams
            .iter()
            .map(|stream| (stream, "capacity", CAPACITY_RECORDS_MIN)),
    );
    for (section, key, records_min) in budgets {
        let min = record_max.saturating_mul(records_min);
        if let Some(bytes) = section.number(key).filter(|bytes| *bytes < min) {
            let what = format!(
                "\"{}\" is too small for gateway.record_max = \"{}\" (accepted: \"{}\" or more)",
                show_size(bytes),
                show_size(record_max),
                show_size(min)
            );
            reader.problem(section.place_of(key), section.path_of(key), what);
        }
    }
}

fn check_uplinks(file: &file::Agent, streams: &[checked::Stream], reader: &mut Reader<'_>) {
    if let Some(fifth) = file.uplinks.get(UPLINKS_MAX) {
        reader.problem(
            fifth.place,
            &fifth.path,
            format!("one uplink too many (accepted: up to {UPLINKS_MAX})"),
        );
    }
    for section in &file.uplinks {
        check_certificate(section, reader);
        for pattern in section.patterns("streams").unwrap_or_default() {
            if !streams.iter().any(|stream| pattern.matches(&stream.name)) {
                let what = format!(
                    "\"{pattern}\" matches no stream ({}){}",
                    declared(streams),
                    near(&pattern, streams)
                );
                reader.problem(
                    section.place_of("streams"),
                    section.path_of("streams"),
                    what,
                );
            }
        }
    }
}

fn near(pattern: &Pattern, streams: &[checked::Stream]) -> String {
    did_you_mean(
        pattern.as_str(),
        streams.iter().map(|stream| stream.name.as_str()),
    )
}

fn declared(streams: &[checked::Stream]) -> String {
    let names: Vec<&str> = streams.iter().map(|stream| stream.name.as_str()).collect();
    format!("declared: {}", names.join(", "))
}

/// What is for TLS needs TLS.
fn check_broker_tls(section: &Section, reader: &mut Reader<'_>) {
    let is_plain = section.broker("url").is_some_and(|(_, tls)| !tls);
    for key in ["ca", "certificate", "key_file"] {
        if is_plain && section.field(key).place.is_some() {
            let what = "has a meaning only with TLS: write the url as mqtts://";
            reader.problem(section.place_of(key), section.path_of(key), what);
        }
    }
}

/// What the network can reach is protected, or is said to need no protection.
fn check_protection(section: &Section, reader: &mut Reader<'_>) {
    let Some(Some(listen)) = section.address("listen") else {
        return;
    };
    if section.field("client_ca").place.is_some() && section.field("certificate").place.is_none() {
        let what = "devices show certificates in TLS only; add `certificate` and `key_file`";
        reader.problem(
            section.place_of("client_ca"),
            section.path_of("client_ca"),
            what,
        );
    }
    let is_open = section.text("unprotected").as_deref() == Some("anywhere");
    if listen.ip().is_loopback() || is_open {
        return;
    }
    let written = |key: &str| section.field(key).place.is_some();
    let missing = match (
        written("certificate"),
        written("client_ca") || written("password_file"),
    ) {
        (true, true) => return,
        (false, true) => "TLS (add `certificate` and `key_file`)",
        (true, false) => "a way to know who connects (add `client_ca` or `password_file`)",
        (false, false) => {
            "TLS and a way to know who connects (add `certificate` and `key_file`, and `client_ca` or `password_file`)"
        }
    };
    let what = format!(
        "\"{listen}\" can be reached from the network, and lacks {missing}; if it should be so, write unprotected = \"anywhere\""
    );
    reader.problem(section.place_of("listen"), section.path_of("listen"), what);
}

/// What one source's keys must agree on, and that its stream is declared.
fn check_source(section: &Section, streams: &[checked::Stream], reader: &mut Reader<'_>) {
    if let Some(name) = section.name("stream")
        && streams.iter().all(|stream| stream.name != name)
    {
        let hint = match did_you_mean(&name, streams.iter().map(|stream| stream.name.as_str())) {
            hint if hint.is_empty() => {
                format!("; add [[stream]] name = \"{name}\", or use one of these")
            }
            hint => hint,
        };
        let what = format!("\"{name}\" is not declared ({}){hint}", declared(streams));
        reader.problem(section.place_of("stream"), section.path_of("stream"), what);
    }
    if section.has("key")
        && let (Some(kind), Some(key)) = (section.text("type"), section.template("key"))
        && let Some(what) = unfillable(&kind, &key)
    {
        reader.problem(section.place_of("key"), section.path_of("key"), what);
    }
    if section.has("topics") {
        check_certificate(section, reader);
        check_broker_tls(section, reader);
    }
    if section.has("unprotected") {
        check_certificate(section, reader);
        check_protection(section, reader);
    }
    if section.has("username")
        && section.has("password_file")
        && section.path("password_file").is_some()
        && section.text("username").is_none()
    {
        let what = "a password needs a user name; add `username`";
        reader.problem(
            section.place_of("password_file"),
            section.path_of("password_file"),
            what,
        );
    }
    if section.has("protocol") && section.text("protocol").as_deref() == Some("link") {
        for key in ["line_max", "value", "time", "time_unit"] {
            if section.field(key).place.is_some() {
                let what = "has a meaning only with protocol = \"lines\"";
                reader.problem(section.place_of(key), section.path_of(key), what);
            }
        }
    }
}

/// The place in a key template that events of this source cannot fill.
fn unfillable(kind: &str, key: &Template) -> Option<String> {
    let fills = |part: &&Part| match part {
        Part::Text(_) | Part::Pointer(_) => true,
        Part::Topic | Part::TopicLevel(_) => kind != "serial",
        Part::Device => kind != "mqtt",
    };
    let bad = key.parts().iter().find(|part| !fills(part))?;
    let (place, accepted) = match bad {
        Part::Device => (
            "{device}",
            "{topic}, {topic[N]}, {/json/pointer}: a broker does not tell who published",
        ),
        _ => (
            "{topic}",
            "{device}, {/json/pointer}: a serial port has no topics",
        ),
    };
    Some(format!(
        "{place} cannot be filled by a source of type \"{kind}\" (accepted: {accepted})"
    ))
}

/// A budget that holds fewer would stop at the first burst of large events.
const MEMORY_RECORDS_MIN: u64 = 4;

/// A log has at least 3 segments of at least 4 of the largest frames each, and needs a spare one.
const CAPACITY_RECORDS_MIN: u64 = 16;

const _: () = assert!(DEAD_LETTER_BYTES >= CAPACITY_RECORDS_MIN * 256 * 1024);

/// What Debian and most others keep the authorities of the web in.
const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

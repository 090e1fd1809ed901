//! The file of a hub: from text to [`checked::Hub`].

use std::path::Path;

use crate::Problems;
use crate::checked;
use crate::drop_in::Files;
use crate::file::{self, Reader, Section};

/// Reads and checks the file at `path` and its drop-ins.
///
/// # Errors
/// All problems of them, or the one that they cannot be read.
pub fn load(path: &Path) -> Result<checked::Hub, Problems> {
    of(&Files::read(path)?)
}

/// Checks `text`; `path` is only shown.
///
/// # Errors
/// All problems of the text.
pub fn parse(text: &str, path: &Path) -> Result<checked::Hub, Problems> {
    of(&Files::one(path, text))
}

/// Checks what has been read.
///
/// # Errors
/// All problems of it.
pub fn of(files: &Files) -> Result<checked::Hub, Problems> {
    let mut reader = Reader::new(files);
    let mut file = file::Hub::read(&mut reader);
    check(&file, &mut reader);
    Problems::of(files, reader.problems)?;
    if file
        .streams
        .iter()
        .filter_map(stream)
        .all(|entry| !matches_all(&entry))
    {
        file.streams.push(default_stream());
    }
    Ok(hub(&file).expect("a file without problems is whole"))
}

fn hub(file: &file::Hub) -> Option<checked::Hub> {
    Some(checked::Hub {
        data_dir: file.hub.path("data_dir")?,
        listen: file.hub.address("listen")??,
        certificate: certificate(&file.hub),
        client_ca: file.hub.path("client_ca"),
        http: file.hub.address("http")?,
        kafka: kafka(&file.hub)?,
        disk_bytes_max: file.hub.number("disk_max")?,
        catalog_copy: file.hub.duration("catalog_copy")?,
        streams: file.streams.iter().map(stream).collect::<Option<_>>()?,
    })
}

fn kafka(section: &Section) -> Option<Option<checked::Kafka>> {
    let (listen, gaps) = (section.address("kafka")?, section.text("kafka_gaps")?);
    Some(listen.map(|listen| checked::Kafka {
        listen,
        advertised: section.endpoint("kafka_advertised"),
        shows_gaps: gaps == "record",
    }))
}

/// The certificate that a table names, if it names one.
pub(crate) fn certificate(section: &Section) -> Option<checked::Certificate> {
    Some(checked::Certificate {
        certificate: section.path("certificate")?,
        key: section.path("key_file")?,
    })
}

/// A certificate needs its key, and a key its certificate.
pub(crate) fn check_certificate(section: &Section, reader: &mut Reader<'_>) {
    for (one, other) in [("certificate", "key_file"), ("key_file", "certificate")] {
        if section.field(one).place.is_some() && section.field(other).place.is_none() {
            let what = format!("needs `{other}` beside it");
            reader.problem(section.place_of(one), section.path_of(one), what);
        }
    }
}

fn stream(section: &Section) -> Option<checked::HubStream> {
    Some(checked::HubStream {
        name: section.patterns("name")?.pop()?,
        capacity_bytes: section.number("capacity")?,
        retention: section.duration("retention")?,
        when_full: match section.text("when_full")?.as_str() {
            "stop-acks" => checked::HubWhenFull::StopAcks,
            _ => checked::HubWhenFull::EvictOldest,
        },
    })
}

fn default_stream() -> Section {
    let files = Files::one(Path::new(""), "[[hub.stream]]\nname = \"*\"");
    let mut reader = Reader::new(&files);
    file::Hub::read(&mut reader)
        .streams
        .pop()
        .expect("the defaults make an entry")
}

fn check(file: &file::Hub, reader: &mut Reader<'_>) {
    check_certificate(&file.hub, reader);
    let mut taken: Vec<(&str, std::net::SocketAddr)> = Vec::new();
    for key in ["listen", "http", "kafka"] {
        let Some(Some(address)) = file.hub.address(key) else {
            continue;
        };
        let same = taken
            .iter()
            .find(|(_, of)| *of == address && address.port() != 0);
        if let Some((other, _)) = same {
            let what = format!("\"{address}\" is already used by hub.{other}");
            reader.problem(file.hub.place_of(key), file.hub.path_of(key), what);
        }
        taken.push((key, address));
    }
    let mut all_taken = None;
    for section in &file.streams {
        if let Some(there) = all_taken {
            let what = format!(
                "is never reached: the entry in {} matches every name; put it last",
                reader.shown(there)
            );
            reader.problem(section.place, &section.path, what);
        } else if stream(section).is_some_and(|entry| matches_all(&entry)) {
            all_taken = Some(section.place);
        }
    }
}

fn matches_all(entry: &checked::HubStream) -> bool {
    entry.name.as_str().bytes().all(|byte| byte == b'*')
}

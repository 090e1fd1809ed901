//! The file of a hub: from text to [`checked::Hub`].

use std::path::Path;

use crate::checked;
use crate::file::{self, Reader, Section};
use crate::{Problem, Problems};

/// Reads and checks the file at `path`.
///
/// # Errors
/// All problems of the file, or the one that it cannot be read.
pub fn load(path: &Path) -> Result<checked::Hub, Problems> {
    parse(&read(path)?, path)
}

/// Checks `text`; `path` is only shown.
///
/// # Errors
/// All problems of the text.
pub fn parse(text: &str, path: &Path) -> Result<checked::Hub, Problems> {
    let mut reader = Reader::new(text);
    let mut file = file::Hub::read(&mut reader);
    check(&file, &mut reader);
    let problems = in_order(reader.problems);
    if !problems.is_empty() {
        return Err(Problems {
            file: path.to_owned(),
            list: problems,
        });
    }
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

/// Whether `text` is meant for a hub: it has a `[hub]` table, or a table of it.
#[must_use]
pub fn is_meant_by(text: &str) -> bool {
    text.lines()
        .any(|line| line.trim_start().trim_start_matches('[').starts_with("hub"))
}

pub(crate) fn read(path: &Path) -> Result<String, Problems> {
    let bytes = std::fs::read(path)
        .map_err(|error| Problems::whole(path, format!("cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|_| Problems::whole(path, "is not UTF-8 text".to_owned()))
}

pub(crate) fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    problems
}

fn hub(file: &file::Hub) -> Option<checked::Hub> {
    Some(checked::Hub {
        data_dir: file.hub.path("data_dir")?,
        listen: file.hub.address("listen")??,
        certificate: certificate(&file.hub),
        client_ca: file.hub.path("client_ca"),
        http: file.hub.address("http")?,
        disk_bytes_max: file.hub.number("disk_max")?,
        catalog_copy: file.hub.duration("catalog_copy")?,
        streams: file.streams.iter().map(stream).collect::<Option<_>>()?,
    })
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
        if section.field(one).line.is_some() && section.field(other).line.is_none() {
            let what = format!("needs `{other}` beside it");
            reader.problem(section.line_of(one), section.path_of(one), what);
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
    let mut reader = Reader::new("[[hub.stream]]\nname = \"*\"");
    file::Hub::read(&mut reader)
        .streams
        .pop()
        .expect("the defaults make an entry")
}

fn check(file: &file::Hub, reader: &mut Reader<'_>) {
    check_certificate(&file.hub, reader);
    if let (Some(listen), Some(Some(http))) = (file.hub.address("listen"), file.hub.address("http"))
        && listen == Some(http)
        && http.port() != 0
    {
        let what = format!("\"{http}\" is already used by hub.listen");
        reader.problem(file.hub.line_of("http"), file.hub.path_of("http"), what);
    }
    let mut all_taken = None;
    for section in &file.streams {
        if let Some(line) = all_taken {
            let what = format!(
                "is never reached: the entry in line {line} matches every name; put it last"
            );
            reader.problem(section.line, &section.path, what);
        } else if stream(section).is_some_and(|entry| matches_all(&entry)) {
            all_taken = section.line;
        }
    }
}

fn matches_all(entry: &checked::HubStream) -> bool {
    entry.name.as_str().bytes().all(|byte| byte == b'*')
}

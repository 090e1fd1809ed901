//! The configuration that holds, as it would be written: every key with its value, those that were not written as comments.
//!
//! There is no key that holds a secret, only files that do; what came from the environment is shown as it was written.

use std::path::Path;

use crate::drop_in::Files;
use crate::file::{self, Reader, Section};
use crate::kind::{Kind, Value};
use crate::quantity::{show_duration, show_rate, show_size};
use crate::schema::{self, Fallback, Key, Table};

/// An agent's file, whole; what a drop-in says has its path behind it. Whether it is right has been looked at before.
#[must_use]
pub fn agent(files: &Files) -> String {
    let file = file::Agent::read(&mut Reader::new(files));
    let mut shown = String::new();
    section(&mut shown, files, &file.gateway, &[&schema::GATEWAY]);
    for source in &file.sources {
        let kind = source.text("type").unwrap_or_default();
        let is_its = |table: &&&Table| table.kind == Some(&*kind);
        let mut tables: Vec<&Table> = vec![&schema::SOURCE];
        tables.extend(schema::AGENT_FILE.iter().find(is_its).copied());
        section(&mut shown, files, source, &tables);
    }
    for stream in &file.streams {
        section(&mut shown, files, stream, &[&schema::STREAM]);
    }
    for uplink in &file.uplinks {
        section(&mut shown, files, uplink, &[&schema::UPLINK]);
    }
    shown
}

/// A hub's file, whole.
#[must_use]
pub fn hub(files: &Files) -> String {
    let file = file::Hub::read(&mut Reader::new(files));
    let mut shown = String::new();
    section(&mut shown, files, &file.hub, &[&schema::HUB]);
    for stream in &file.streams {
        section(&mut shown, files, stream, &[&schema::HUB_STREAM]);
    }
    shown
}

fn section(shown: &mut String, files: &Files, section: &Section, tables: &[&Table]) {
    if !shown.is_empty() {
        shown.push('\n');
    }
    shown.push_str(tables[0].header);
    shown.push('\n');
    for key in tables.iter().flat_map(|table| table.keys) {
        line(shown, files, section, key);
    }
}

fn line(shown: &mut String, files: &Files, section: &Section, key: &Key) {
    let field = section.field(key.name);
    let written = match (&field.written, &field.value) {
        (Some(written), _) => written.clone(),
        (None, Some(value)) => of(&key.kind, value),
        (None, None) => {
            if let Fallback::Otherwise(what) = key.default {
                shown.push_str(&format!("# {}: {what}\n", key.name));
            }
            return;
        }
    };
    let mark = match field.place {
        Some(_) => "",
        None => "# ",
    };
    shown.push_str(&format!("{mark}{} = {written}", key.name));
    if let Some(place) = field.place.filter(|place| place.file > 0) {
        let from = files.paths().nth(place.file).unwrap_or(Path::new(""));
        shown.push_str(&format!("  # {}", from.display()));
    }
    shown.push('\n');
}

/// `value` as a key of this kind takes it.
fn of(kind: &Kind, value: &Value) -> String {
    let list = |items: Vec<String>| format!("[{}]", items.join(", "));
    match (kind, value) {
        (Kind::Size(..), Value::Number(bytes)) => quoted(&show_size(*bytes)),
        (Kind::Rate(..), Value::Number(bits)) => quoted(&show_rate(*bits)),
        (_, Value::Windows(windows)) => {
            list(windows.iter().map(|one| quoted(&one.to_string())).collect())
        }
        (_, Value::Number(number)) => number.to_string(),
        (_, Value::Name(name)) => quoted(name),
        (_, Value::Text(text)) => quoted(text),
        (_, Value::Path(path)) => quoted(&path.display().to_string()),
        (_, Value::Duration(duration)) => quoted(&show_duration(*duration)),
        (Kind::Url(scheme, _), Value::Endpoint(endpoint)) => {
            quoted(&format!("{scheme}://{endpoint}"))
        }
        (_, Value::Endpoint(endpoint)) => quoted(&endpoint.to_string()),
        (_, Value::Broker((endpoint, tls))) => {
            let scheme = if *tls { "mqtts" } else { "mqtt" };
            quoted(&format!("{scheme}://{endpoint}"))
        }
        (_, Value::Address(None)) => quoted("off"),
        (_, Value::Address(Some(address))) => quoted(&address.to_string()),
        (_, Value::Topics(topics)) => list(topics.iter().map(|topic| quoted(topic)).collect()),
        (Kind::Pattern, Value::Patterns(patterns)) => {
            let one = patterns.first().map(|one| quoted(one.as_str()));
            one.unwrap_or_default()
        }
        (_, Value::Patterns(patterns)) => {
            list(patterns.iter().map(|one| quoted(one.as_str())).collect())
        }
        (_, Value::Template(template)) => quoted(&template.to_string()),
    }
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_means_the_same_as_what_was_written() {
        let sample = include_str!("../samples/agent.toml");
        let parse = |text: &str| crate::agent::parse(text, Path::new("agent.toml"), Some("gw-x"));
        let shown = agent(&Files::one(Path::new("agent.toml"), sample));
        assert_eq!(parse(&shown).expect(&shown), parse(sample).unwrap());
        assert!(shown.contains("capacity = \"256MiB\""), "{shown}");
        assert!(shown.contains("# retry_max = \"30s\""), "{shown}");
        assert!(shown.contains("# ca: "), "{shown}");
        let sample = include_str!("../samples/hub.toml");
        let parse = |text: &str| crate::hub::parse(text, Path::new("hub.toml"));
        let shown = hub(&Files::one(Path::new("hub.toml"), sample));
        assert_eq!(parse(&shown).expect(&shown), parse(sample).unwrap());
    }
}

//! What stands in the file and its drop-ins: tables of values, each of the kind that its key accepts, with the places they
//! stand in.
//!
//! Reading goes on after a problem, so that all of them can be told at once; a field with a problem has no value.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use crate::drop_in::{Files, Place};
use crate::kind::{Value, show};
use crate::problem::{Problem, did_you_mean};
use crate::schema::{self, Fallback, Key};
use crate::{DayWindow, Endpoint, Name, Pattern, Template};

/// The file of an agent.
#[derive(Debug)]
pub struct Agent {
    /// `[gateway]`.
    pub gateway: Section,
    /// `[[source]]`.
    pub sources: Vec<Section>,
    /// `[[stream]]`.
    pub streams: Vec<Section>,
    /// `[[uplink]]`.
    pub uplinks: Vec<Section>,
}

/// The file of a hub.
#[derive(Debug)]
pub struct Hub {
    /// `[hub]`.
    pub hub: Section,
    /// `[[hub.stream]]`.
    pub streams: Vec<Section>,
}

/// One table: every key that the schema has for it, given or by default.
#[derive(Debug)]
pub struct Section {
    /// How messages name it: `gateway`, `source.boiler`, `source[2]`.
    pub path: String,
    /// Where its header stands.
    pub place: Option<Place>,
    fields: BTreeMap<&'static str, Field>,
}

/// One key of a table.
#[derive(Debug)]
pub struct Field {
    /// None when it is missing, or was written and not accepted.
    pub value: Option<Value>,
    /// Where it was written; none when it was not.
    pub place: Option<Place>,
    /// As it was written, if a part of it comes from the environment.
    pub written: Option<String>,
}

/// Reads a file with its drop-ins and keeps what is wrong with them.
pub(crate) struct Reader<'t> {
    files: &'t Files,
    environment: fn(&str) -> Option<String>,
    pub(crate) problems: Vec<Problem>,
}

impl Agent {
    /// Reads the file of an agent; what is wrong is pushed to the reader's problems.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        let root = reader.root();
        reader.refuse_unknown("", &root, &["gateway", "source", "stream", "uplink"]);
        Self {
            gateway: reader.table(&root, "gateway", &schema::GATEWAY),
            sources: reader.tables(&root, "", "source", Reader::source),
            streams: reader.tables(&root, "", "stream", |reader, path, place, table| {
                reader.section(path, place, table, &[&schema::STREAM])
            }),
            uplinks: reader.tables(&root, "", "uplink", |reader, path, place, table| {
                reader.section(path, place, table, &[&schema::UPLINK])
            }),
        }
    }
}

impl Hub {
    /// Reads the file of a hub; what is wrong is pushed to the reader's problems.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        let mut root = reader.root();
        reader.refuse_unknown("", &root, &["hub"]);
        let mut streams = Vec::new();
        if let Some((_, hub)) = root.iter_mut().find(|(key, _)| key.get_ref() == "hub")
            && let DeValue::Table(hub) = hub.get_mut()
        {
            streams = reader.tables(hub, "hub.", "stream", |reader, path, place, table| {
                reader.section(path, place, table, &[&schema::HUB_STREAM])
            });
            hub.remove("stream");
        }
        Self {
            hub: reader.table(&root, "hub", &schema::HUB),
            streams,
        }
    }
}

impl<'t> Reader<'t> {
    pub(crate) fn new(files: &'t Files) -> Self {
        Self {
            files,
            environment: |name| std::env::var(name).ok(),
            problems: Vec::new(),
        }
    }

    pub(crate) fn problem(
        &mut self,
        place: Option<Place>,
        path: impl Into<String>,
        what: impl Into<String>,
    ) {
        self.problems.push(Problem {
            place,
            path: path.into(),
            what: what.into(),
        });
    }

    fn root(&mut self) -> DeTable<'t> {
        let Self {
            files, problems, ..
        } = self;
        files.merged(|place, what| {
            problems.push(Problem {
                place: Some(place),
                path: String::new(),
                what,
            });
        })
    }

    fn place(&self, at: usize) -> Place {
        self.files.place(at)
    }

    /// How a message about another place names this one.
    pub(crate) fn shown(&self, place: Option<Place>) -> String {
        match place {
            None => "a place that was not written".to_owned(),
            Some(Place { file: 0, line }) => format!("line {line}"),
            Some(Place { file, line }) => {
                let path = self.files.paths().nth(file).unwrap_or(Path::new(""));
                format!("{} line {line}", path.display())
            }
        }
    }

    fn refuse_unknown(&mut self, path: &str, table: &DeTable<'t>, known: &[&str]) {
        for (key, _) in table {
            if !known.contains(&key.get_ref().as_ref()) {
                let hint = match did_you_mean(key.get_ref(), known.iter().copied()) {
                    hint if hint.is_empty() => format!(" (accepted: {})", known.join(", ")),
                    hint => hint,
                };
                let place = self.place(key.span().start);
                self.problem(
                    Some(place),
                    format!("{path}{}", key.get_ref()),
                    format!("unknown key{hint}"),
                );
            }
        }
    }

    /// A table that is written once as `[name]`, or not at all.
    fn table(&mut self, root: &DeTable<'t>, name: &str, schema: &'static schema::Table) -> Section {
        let nothing = DeTable::new();
        let Some((key, value)) = root.iter().find(|(key, _)| key.get_ref() == name) else {
            return self.section(name.to_owned(), None, &nothing, &[schema]);
        };
        let place = self.place(key.span().start);
        let DeValue::Table(table) = value.get_ref() else {
            self.problem(
                Some(place),
                name,
                format!("this is one table; write [{name}]"),
            );
            return self.section(name.to_owned(), None, &nothing, &[schema]);
        };
        self.section(name.to_owned(), Some(place), table, &[schema])
    }

    /// Tables that are written as `[[name]]`, any number of times.
    fn tables(
        &mut self,
        root: &DeTable<'t>,
        prefix: &str,
        name: &str,
        mut section: impl FnMut(&mut Self, String, Option<Place>, &DeTable<'t>) -> Section,
    ) -> Vec<Section> {
        let Some((key, value)) = root.iter().find(|(key, _)| key.get_ref() == name) else {
            return Vec::new();
        };
        let mut sections = Vec::new();
        let items = value.get_ref().as_array();
        for (at, item) in items.into_iter().flat_map(|items| items.iter()).enumerate() {
            if let DeValue::Table(table) = item.get_ref() {
                let own_name = table.get("name").and_then(|own| own.get_ref().as_str());
                let path = match own_name.and_then(Name::new) {
                    Some(own_name) => format!("{prefix}{name}.{own_name}"),
                    None => format!("{prefix}{name}[{}]", at + 1),
                };
                let place = self.place(item.span().start);
                sections.push(section(self, path, Some(place), table));
            }
        }
        if items.is_none_or(|items| sections.len() < items.len()) {
            let place = self.place(key.span().start);
            let path = format!("{prefix}{name}");
            self.problem(
                Some(place),
                &path,
                format!("there can be several; write [[{path}]] for each"),
            );
        }
        sections
    }

    /// A `[[source]]`: which keys it has depends on its type.
    fn source(&mut self, path: String, place: Option<Place>, table: &DeTable<'t>) -> Section {
        let kinds = [&schema::MQTT, &schema::MQTT_LISTEN, &schema::SERIAL];
        let written = table
            .get("type")
            .and_then(|written| written.get_ref().as_str());
        match kinds
            .iter()
            .find(|kind| kind.kind == written && written.is_some())
        {
            Some(kind) => self.section(path, place, table, &[&schema::SOURCE, kind]),
            None => {
                // Without a type nothing can be said of the other keys: only the common ones are read.
                let common: DeTable<'t> = table
                    .iter()
                    .filter(|(key, _)| {
                        schema::SOURCE
                            .keys
                            .iter()
                            .any(|known| known.name == key.get_ref())
                    })
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                self.section(path, place, &common, &[&schema::SOURCE])
            }
        }
    }

    fn section(
        &mut self,
        path: String,
        place: Option<Place>,
        table: &DeTable<'t>,
        schema: &[&'static schema::Table],
    ) -> Section {
        let keys = || schema.iter().flat_map(|part| part.keys);
        for (key, _) in table {
            if !keys().any(|known| known.name == key.get_ref()) {
                let place = self.place(key.span().start);
                let what = unknown_key(key.get_ref(), schema);
                self.problem(Some(place), format!("{path}.{}", key.get_ref()), what);
            }
        }
        let fields = keys()
            .map(|key| (key.name, self.field(&path, place, table, key)))
            .collect();
        Section {
            path,
            place,
            fields,
        }
    }

    fn field(
        &mut self,
        path: &str,
        header: Option<Place>,
        table: &DeTable<'t>,
        key: &Key,
    ) -> Field {
        let path = format!("{path}.{}", key.name);
        let Some(written) = table.get(key.name) else {
            let value = match key.default {
                Fallback::Value(default) => Some(default_value(key, default)),
                Fallback::Otherwise(_) => None,
                Fallback::Required => {
                    self.problem(
                        header,
                        path,
                        format!("missing (accepted: {})", key.kind.accepts()),
                    );
                    None
                }
            };
            return Field {
                value,
                place: None,
                written: None,
            };
        };
        let place = Some(self.place(written.span().start));
        let filled = match written.get_ref() {
            DeValue::String(text) => filled(text, self.environment),
            _ => Ok(None),
        };
        let checked = match &filled {
            Ok(None) => key.kind.check(written.get_ref()),
            // What the environment holds may be a secret, or somebody else's.
            Ok(Some(text)) => key
                .kind
                .check(&DeValue::String(Cow::Borrowed(text)))
                .map_err(|_| {
                    let (shown, accepts) = (show(written.get_ref()), key.kind.accepts());
                    format!("what {shown} stands for is not accepted here (accepted: {accepts})")
                }),
            Err(what) => Err(what.clone()),
        };
        let value = checked.map_err(|what| self.problem(place, path, what)).ok();
        let written = matches!(filled, Ok(Some(_))).then(|| show(written.get_ref()));
        Field {
            value,
            place,
            written,
        }
    }
}

/// Getters of one kind each; the schema says which kind a key has, so another kind here is a mistake of this crate.
macro_rules! getter {
    ($(#[$doc:meta] $name:ident: $variant:ident -> $type:ty;)*) => {
        impl Section {
            $(
                #[$doc]
                pub(crate) fn $name(&self, key: &str) -> Option<$type> {
                    match &self.field(key).value {
                        Some(Value::$variant(value)) => Some(value.clone()),
                        None => None,
                        Some(other) => panic!("{key} is {other:?} in the schema"),
                    }
                }
            )*
        }
    };
}

getter! {
    /// A name.
    name: Name -> Name;
    /// Text.
    text: Text -> String;
    /// A path.
    path: Path -> PathBuf;
    /// A size in bytes or a whole number.
    number: Number -> u64;
    /// A duration.
    duration: Duration -> Duration;
    /// Where a URL points.
    endpoint: Endpoint -> Endpoint;
    /// Where the URL of a broker points, and whether TLS is spoken there.
    broker: Broker -> (Endpoint, bool);
    /// An address, or off.
    address: Address -> Option<SocketAddr>;
    /// Topic filters.
    topics: Topics -> Vec<String>;
    /// Parts of the day.
    windows: Windows -> Vec<DayWindow>;
    /// Patterns.
    patterns: Patterns -> Vec<Pattern>;
    /// A key template.
    template: Template -> Template;
}

impl Section {
    /// The field of `key`.
    ///
    /// # Panics
    /// When the schema has no such key for this table.
    #[must_use]
    pub fn field(&self, key: &str) -> &Field {
        self.fields
            .get(key)
            .unwrap_or_else(|| panic!("{key} is not in the schema of {}", self.path))
    }

    /// Whether the schema has `key` for this table.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    /// Where `key` was written, else where the table begins.
    pub(crate) fn place_of(&self, key: &str) -> Option<Place> {
        self.field(key).place.or(self.place)
    }

    /// How messages name `key`.
    pub(crate) fn path_of(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// A whole number that the schema keeps within 32 bits.
    pub(crate) fn number32(&self, key: &str) -> Option<u32> {
        self.number(key)
            .map(|number| u32::try_from(number).expect("the schema keeps it within 32 bits"))
    }

    /// A whole number that the schema keeps within 16 bits.
    pub(crate) fn number16(&self, key: &str) -> Option<u16> {
        self.number(key)
            .map(|number| u16::try_from(number).expect("the schema keeps it within 16 bits"))
    }
}

/// `text` with `${SEDGE_…}` replaced by what the environment holds; none if there is nothing to replace.
///
/// Only here, in values that have been read: what comes in can be no key and no table.
fn filled(text: &str, environment: fn(&str) -> Option<String>) -> Result<Option<String>, String> {
    if !text.contains("${") {
        return Ok(None);
    }
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, behind)) = rest.split_once("${") {
        let (name, behind) = behind
            .split_once('}')
            .ok_or_else(|| format!("\"{text}\": `${{` without `}}`"))?;
        let fits = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        if !name.starts_with(VARIABLE) || !name.bytes().all(fits) {
            return Err(format!(
                "\"{text}\": only variables whose names begin with {VARIABLE} come from the environment (A-Z 0-9 _)"
            ));
        }
        let value = environment(name)
            .ok_or_else(|| format!("\"{text}\": {name} is not set in the environment"))?;
        out.push_str(before);
        out.push_str(&value);
        rest = behind;
    }
    out.push_str(rest);
    Ok(Some(out))
}

/// Begins the names of the variables that a file may ask for.
const VARIABLE: &str = "SEDGE_";

fn default_value(key: &Key, default: &'static str) -> Value {
    let parsed = DeValue::parse(default).expect("a default is a TOML value");
    key.kind
        .check(parsed.get_ref())
        .expect("a default is accepted by its key")
}

fn unknown_key(written: &str, schema: &[&'static schema::Table]) -> String {
    let known = schema.iter().flat_map(|part| part.keys).map(|key| key.name);
    let elsewhere = || {
        let all = schema::AGENT_FILE
            .iter()
            .filter(|table| table.kind.is_some());
        all.filter(|table| table.keys.iter().any(|key| key.name == written))
            .find_map(|table| table.kind)
    };
    match did_you_mean(written, known.clone()) {
        hint if !hint.is_empty() => format!("unknown key{hint}"),
        _ => match elsewhere().filter(|_| schema[0].header == "[[source]]") {
            Some(kind) => format!("unknown key; it belongs to a source of type \"{kind}\""),
            None => format!(
                "unknown key (accepted: {})",
                known.collect::<Vec<_>>().join(", ")
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Section, Vec<Problem>) {
        let files = Files::one("agent.toml".as_ref(), text);
        let mut reader = Reader::new(&files);
        reader.environment = |name| match name {
            "SEDGE_SITE" => Some("north".into()),
            "SEDGE_BAD" => Some("Not A Name".into()),
            "SEDGE_QUOTE" => Some("x\"\nhttp = \"off".into()),
            _ => None,
        };
        let file = Agent::read(&mut reader);
        (file.gateway, reader.problems)
    }

    #[test]
    fn a_value_may_come_from_the_environment_and_nothing_else_may() {
        let (gateway, problems) = read("[gateway]\nid = \"gw-${SEDGE_SITE}-1\"\n");
        assert_eq!(problems, []);
        assert_eq!(&*gateway.name("id").unwrap(), "gw-north-1");
        assert_eq!(
            gateway.field("id").written.as_deref(),
            Some("\"gw-${SEDGE_SITE}-1\"")
        );
        let (gateway, problems) = read("[gateway]\ndata_dir = \"/d/${SEDGE_QUOTE}\"\n");
        assert_eq!(problems, []);
        assert!(gateway.field("http").place.is_none(), "it is still a value");
        for (id, what) in [
            ("${SEDGE_NONE}", "SEDGE_NONE is not set"),
            ("${HOME}", "only variables whose names begin with SEDGE_"),
            ("${SEDGE_SITE", "without `}`"),
            (
                "${SEDGE_BAD}",
                "what \"${SEDGE_BAD}\" stands for is not accepted here",
            ),
        ] {
            let (_, problems) = read(&format!("[gateway]\nid = \"{id}\"\n"));
            assert_eq!(problems.len(), 1);
            assert!(problems[0].what.contains(what), "{}", problems[0].what);
            assert!(!problems[0].what.contains("Not A Name"));
        }
    }
}

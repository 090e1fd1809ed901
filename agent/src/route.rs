//! Where a record goes: what a key template makes of one message, and the partitioner.
//!
//! How templates are written is the business of `sedge_config`. The partitioner is Kafka's default one, so that a stream that moves between the two keeps its keys together.
//! Knows nothing of streams, connections or logs.

use std::fmt;

use sedge_config::Template;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// How a record's key is made: a checked template, ready for use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTemplate {
    parts: Vec<Part>,
}

/// What a template may speak about: one message as a source saw it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The MQTT topic; empty where the source has none.
    pub topic: &'a str,
    /// The client identifier or the device's name.
    pub device: &'a str,
    /// The payload, as it came.
    pub payload: &'a [u8],
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Topic,
    Level(usize),
    Device,
    Pointer { text: String, path: Vec<String> },
}

/// Why a message has no key under this template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The topic has fewer levels.
    #[error("the topic has no level {0}")]
    NoLevel(usize),
    /// A pointer was asked for and the payload is not JSON.
    #[error("the payload is not JSON, and the key needs {0}")]
    NotJson(String),
    /// The payload has nothing there.
    #[error("the payload has nothing at {0}")]
    Nothing(String),
    /// There is an object, an array or null there.
    #[error("the value at {0} is neither text, number nor boolean")]
    NotScalar(String),
    /// All fields together made nothing.
    #[error("the key is empty")]
    Empty,
}

impl KeyTemplate {
    /// Writes the key of `subject` into `key`, which is cleared first.
    ///
    /// # Errors
    /// When the message lacks what the template asks for. Such a message goes to the dead letters, never to a wrong partition.
    pub fn render(&self, subject: &Subject<'_>, key: &mut Vec<u8>) -> Result<(), KeyError> {
        key.clear();
        for part in &self.parts {
            match part {
                Part::Literal(text) => key.extend_from_slice(text.as_bytes()),
                Part::Topic => key.extend_from_slice(subject.topic.as_bytes()),
                Part::Level(level) => {
                    let text = subject
                        .topic
                        .split('/')
                        .nth(*level)
                        .ok_or(KeyError::NoLevel(*level))?;
                    key.extend_from_slice(text.as_bytes());
                }
                Part::Device => key.extend_from_slice(subject.device.as_bytes()),
                Part::Pointer { text, path } => {
                    key.extend_from_slice(scalar_at(subject.payload, text, path)?.as_bytes());
                }
            }
        }
        if key.is_empty() {
            Err(KeyError::Empty)
        } else {
            Ok(())
        }
    }
}

impl From<&Template> for KeyTemplate {
    fn from(template: &Template) -> Self {
        Self {
            parts: template.parts().iter().map(Part::from).collect(),
        }
    }
}

impl From<&sedge_config::Part> for Part {
    fn from(part: &sedge_config::Part) -> Self {
        match part {
            sedge_config::Part::Text(text) => Self::Literal(text.clone()),
            sedge_config::Part::Topic => Self::Topic,
            sedge_config::Part::TopicLevel(level) => Self::Level(*level),
            sedge_config::Part::Device => Self::Device,
            sedge_config::Part::Pointer(text) => Self::Pointer {
                text: text.clone(),
                path: text
                    .split('/')
                    .skip(1)
                    .map(|step| step.replace("~1", "/").replace("~0", "~"))
                    .collect(),
            },
        }
    }
}

/// The partition of `key` among `count`: Kafka's default partitioner.
#[must_use]
pub fn partition_of(key: &[u8], count: usize) -> usize {
    (murmur2(key) & 0x7FFF_FFFF) as usize % count.max(1)
}

/// Murmur2 as in Kafka's `org.apache.kafka.common.utils.Utils.murmur2`.
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5BD1_E995;
    const R: u32 = 24;
    let mut hash = 0x9747_B28C ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k = (k ^ (k >> R)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    for (place, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * place);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

fn scalar_at(payload: &[u8], text: &str, path: &[String]) -> Result<String, KeyError> {
    let mut json = serde_json::Deserializer::from_slice(payload);
    let found = At { path }
        .deserialize(&mut json)
        .and_then(|found| json.end().map(|()| found));
    match found {
        Ok(Found::Scalar(value)) => Ok(value),
        Ok(Found::Other) => Err(KeyError::NotScalar(text.to_owned())),
        Ok(Found::Nothing) => Err(KeyError::Nothing(text.to_owned())),
        Err(_) => Err(KeyError::NotJson(text.to_owned())),
    }
}

/// Walks down a JSON text along `path` without building the rest of it in memory.
#[derive(Clone, Copy)]
struct At<'p> {
    path: &'p [String],
}

enum Found {
    Scalar(String),
    Other,
    Nothing,
}

impl At<'_> {
    fn leaf<E>(self, value: impl ToString) -> Result<Found, E> {
        Ok(if self.path.is_empty() {
            Found::Scalar(value.to_string())
        } else {
            Found::Nothing
        })
    }
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Found;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Found, E> {
        self.leaf(value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Found, E> {
        self.leaf(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Found, E> {
        self.leaf(value)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Found, E> {
        self.leaf(value)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Found, E> {
        self.leaf(value)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Found, E> {
        Ok(if self.path.is_empty() {
            Found::Other
        } else {
            Found::Nothing
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let mut found = if self.path.is_empty() {
            Found::Other
        } else {
            Found::Nothing
        };
        while let Some(name) = map.next_key::<String>()? {
            match self.path.split_first() {
                Some((step, rest)) if *step == name => {
                    found = map.next_value_seed(At { path: rest })?
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Found, A::Error> {
        let mut found = if self.path.is_empty() {
            Found::Other
        } else {
            Found::Nothing
        };
        let wanted = self
            .path
            .split_first()
            .and_then(|(step, rest)| Some((step.parse::<usize>().ok()?, rest)));
        for place in 0.. {
            let next = match wanted {
                Some((index, rest)) if index == place => seq
                    .next_element_seed(At { path: rest })?
                    .map(|at| found = at),
                _ => seq.next_element::<IgnoredAny>()?.map(|_| ()),
            };
            if next.is_none() {
                break;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(template: &str, topic: &str, payload: &str) -> Result<String, KeyError> {
        let mut key = Vec::new();
        let subject = Subject {
            topic,
            device: "dev-9",
            payload: payload.as_bytes(),
        };
        KeyTemplate::from(&Template::parse(template).expect("a template"))
            .render(&subject, &mut key)?;
        Ok(String::from_utf8(key).expect("text"))
    }

    #[test]
    fn fields_are_taken_from_topic_device_and_payload() {
        let topic = "sensors/boiler-1/temp";
        assert_eq!(key("{topic}", topic, ""), Ok(topic.into()));
        assert_eq!(key("{topic[1]}", topic, ""), Ok("boiler-1".into()));
        assert_eq!(
            key("{device}:{topic[2]}", topic, ""),
            Ok("dev-9:temp".into())
        );
        assert_eq!(key("{{{topic[0]}}}", topic, ""), Ok("{sensors}".into()));
        let payload = r#"{"a":[1,{"id":"x"}],"sensor":{"id":17,"on":true,"a/b":2.5},"null":null}"#;
        assert_eq!(
            key("{/sensor/id}-{/a/1/id}", topic, payload),
            Ok("17-x".into())
        );
        assert_eq!(
            key("{/sensor/on}{/sensor/a~1b}", topic, payload),
            Ok("true2.5".into())
        );
    }

    #[test]
    fn message_without_the_asked_field_has_no_key() {
        assert_eq!(key("{topic[3]}", "a/b", ""), Err(KeyError::NoLevel(3)));
        assert_eq!(
            key("{/a}", "t", "21.5 C"),
            Err(KeyError::NotJson("/a".into()))
        );
        assert_eq!(
            key("{/a}", "t", r#"{"a":1} tail"#),
            Err(KeyError::NotJson("/a".into()))
        );
        assert_eq!(
            key("{/a/b}", "t", r#"{"a":1}"#),
            Err(KeyError::Nothing("/a/b".into()))
        );
        assert_eq!(
            key("{/a}", "t", r#"{"a":{}}"#),
            Err(KeyError::NotScalar("/a".into()))
        );
        assert_eq!(
            key("{/a}", "t", r#"{"a":null}"#),
            Err(KeyError::NotScalar("/a".into()))
        );
        assert_eq!(key("{topic}", "", ""), Err(KeyError::Empty));
    }

    /// The vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_agrees_with_kafka() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn key_always_lands_in_the_same_partition() {
        assert_eq!(partition_of(b"foobar", 1), 0);
        assert_eq!(
            partition_of(b"foobar", 7),
            (-790_332_482_i32 as u32 & 0x7FFF_FFFF) as usize % 7
        );
    }
}

//! What is asked in a body: for each stream where a group is to stand, in all its partitions or in each that is named.
//!
//! ```text
//! {"telemetry": {"0": 1301, "1": "earliest"}, "alarms": "2026-11-20T08:00:00Z", "meters": {"cursor": "…"}}
//! ```

use std::fmt;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::StatusCode;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Refusal;
use super::query::{From, PLACES};

/// A place, as it is said for one partition or many.
pub(super) type Word = From;

/// What is asked for a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The same of all its partitions.
    All(Word),
    /// Of those with these numbers.
    Each(Vec<(u32, Word)>),
    /// What a reader was told.
    Cursor(String),
}

/// All of `body`, if it is not more than `bytes_max` and comes within `patience`.
pub(super) async fn whole(
    body: Body,
    bytes_max: usize,
    patience: Duration,
) -> Result<Bytes, Refusal> {
    let read = tokio::time::timeout(patience, to_bytes(body, bytes_max));
    let read = read.await.map_err(|_| {
        let what = format!("the body did not come within {} s", patience.as_secs());
        Refusal::new(StatusCode::REQUEST_TIMEOUT, what)
    })?;
    read.map_err(|why| {
        let source = std::error::Error::source(&why);
        match source.is_some_and(|why| why.to_string().contains("length limit")) {
            true => {
                let what = format!("the body has more than {bytes_max} bytes");
                Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, what)
            }
            false => Refusal::bad(format!("the body did not come: {why}")),
        }
    })
}

/// What is asked for each stream, which is named once.
pub(super) fn read(text: &[u8]) -> Result<Vec<(String, Asked)>, Refusal> {
    let node: Node = serde_json::from_slice(text)
        .map_err(|why| Refusal::bad(format!("the body is no JSON: {why}")))?;
    let mut streams = match node {
        Node::Map(streams) if !streams.is_empty() => streams,
        _ => {
            let what = r#"the body names no stream (accepted: {"STREAM": {"0": 1301, "1": "earliest"}}, {"STREAM": "latest"}, {"STREAM": {"cursor": "…"}})"#;
            return Err(Refusal::bad(what));
        }
    };
    streams.sort_by(|(one, _), (other, _)| one.cmp(other));
    if let Some(twice) = streams.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Refusal::bad(format!("{}: given twice", twice[0].0)));
    }
    let each = streams.into_iter().map(|(stream, node)| {
        let asked = asked(&stream, node)?;
        Ok((stream, asked))
    });
    each.collect()
}

fn asked(stream: &str, node: Node) -> Result<Asked, Refusal> {
    let Node::Map(keys) = node else {
        return word(stream, &node).map(Asked::All);
    };
    if let [(key, Node::Text(word))] = keys.as_slice()
        && key == "cursor"
    {
        return Ok(Asked::Cursor(word.clone()));
    }
    let mut each: Vec<(u32, Word)> = Vec::with_capacity(keys.len());
    for (key, node) in &keys {
        let here = format!("{stream}.{key}");
        let number = key.parse::<u32>().ok();
        let number = number.filter(|number| number.to_string() == *key);
        let number = number.ok_or_else(|| {
            let what = "is no number of a partition (accepted: numbers, or a cursor alone)";
            Refusal::bad(format!("{here}: {what}"))
        })?;
        each.push((number, word(&here, node)?));
    }
    each.sort_by_key(|(number, _)| *number);
    if let Some(twice) = each.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Refusal::bad(format!(
            "{stream}.{}: given twice",
            twice[0].0
        )));
    }
    match each.is_empty() {
        true => Err(Refusal::bad(format!("{stream}: names no partition"))),
        false => Ok(Asked::Each(each)),
    }
}

fn word(at: &str, node: &Node) -> Result<Word, Refusal> {
    let found = match node {
        Node::Number(offset) => From::read(&offset.to_string()),
        Node::Text(word) => From::read(word),
        Node::Map(_) | Node::Other => None,
    };
    found.ok_or_else(|| Refusal::bad(format!("{at}: not accepted here (accepted: {PLACES})")))
}

/// JSON as far as it is of use here. Unlike a map, it shows what was said twice.
#[derive(Debug)]
enum Node {
    Map(Vec<(String, Self)>),
    Text(String),
    Number(u64),
    Other,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Node, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = from.next_entry()? {
            pairs.push(pair);
        }
        Ok(Node::Map(pairs))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Node, A::Error> {
        while from.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Node::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Number(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
        // JSON knows no integers: 4.0 and 4e0 are 4.
        let is_whole = number.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&number);
        Ok(match is_whole {
            true => Node::Number(number as u64),
            false => Node::Other,
        })
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Other)
    }
}

/// Up to here a number with a point is what was written: 2^53.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Start;

    #[test]
    fn each_way_to_say_where_a_group_is_to_stand_is_understood() {
        let text =
            br#"{"telemetry": {"1": "earliest", "0": 1301}, "alarms": "2026-11-20T08:00:00Z",
            "meters": {"cursor": "abc"}, "notes": "latest", "more": "-5", "rest": 4.0}"#;
        let at = |start| From::Start(start);
        let each = [
            ("alarms", Asked::All(at(Start::Time(1_795_161_600_000_000)))),
            ("meters", Asked::Cursor("abc".into())),
            ("more", Asked::All(From::Last(5))),
            ("notes", Asked::All(at(Start::Latest))),
            ("rest", Asked::All(at(Start::Offset(4)))),
            (
                "telemetry",
                Asked::Each(vec![(0, at(Start::Offset(1301))), (1, at(Start::Earliest))]),
            ),
        ];
        let each = each.map(|(stream, asked)| (stream.to_owned(), asked));
        assert_eq!(read(text).unwrap(), each);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, told) in [
            ("", "no JSON: EOF"),
            (r#"{"a": {"0": 1}"#, "no JSON: EOF"),
            ("[]", "names no stream"),
            ("{}", "names no stream"),
            (r#"{"a": {}}"#, "a: names no partition"),
            (
                r#"{"a": {"0": 1.5}}"#,
                "a.0: not accepted here (accepted: an offset",
            ),
            (r#"{"a": {"0": -1}}"#, "a.0: not accepted"),
            (r#"{"a": {"0": 1e300}}"#, "a.0: not accepted"),
            (r#"{"a": {"0": {"cursor": "x"}}}"#, "a.0: not accepted"),
            (r#"{"a": {"0": null}}"#, "a.0: not accepted"),
            (r#"{"a": ["0"]}"#, "a: not accepted"),
            (r#"{"a": "soon"}"#, "a: not accepted"),
            (r#"{"a": {"x": 1}}"#, "a.x: is no number of a partition"),
            (
                r#"{"a": {"cursor": "x", "0": 1}}"#,
                "a.cursor: is no number",
            ),
            (r#"{"a": {"cursor": 1}}"#, "a.cursor: is no number"),
            (r#"{"a": {"0": 1, "0": 2}}"#, "a.0: given twice"),
            (r#"{"a": {"00": 1}}"#, "a.00: is no number"),
            (r#"{"a": "latest", "a": "latest"}"#, "a: given twice"),
        ] {
            let refusal = read(text.as_bytes()).expect_err(text);
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
            assert!(refusal.what.contains(told), "{text}: {}", refusal.what);
        }
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_or_never_ends_is_given_up() {
        let whole = |body| whole(body, 5, Duration::from_millis(20));
        assert_eq!(whole(Body::from("12345")).await.unwrap(), "12345");
        let refusal = whole(Body::from("123456")).await.unwrap_err();
        assert_eq!(refusal.status, StatusCode::PAYLOAD_TOO_LARGE);
        let silent = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let refusal = whole(Body::from_stream(silent)).await.unwrap_err();
        assert_eq!(refusal.status, StatusCode::REQUEST_TIMEOUT);
        let broken = futures_util::stream::once(std::future::ready(Err::<Bytes, _>("gone")));
        let refusal = whole(Body::from_stream(broken)).await.unwrap_err();
        assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
    }
}

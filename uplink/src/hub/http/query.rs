//! What is asked behind the `?`: each key once, and nothing that is not known.

use std::time::Duration;

use axum::extract::Query as Pairs;
use axum::http::Uri;
use sedge_core::Micros;

use super::Refusal;
use crate::client::Start;

/// The keys and their values.
pub(super) struct Query(Vec<(String, String)>);

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// As `sedge pull` has it.
    Start(Start),
    /// So many offsets before the end of each partition.
    Last(u64),
}

impl From {
    /// What `written` means, if it means anything.
    pub(super) fn read(written: &str) -> Option<Self> {
        match written {
            "earliest" => Some(Self::Start(Start::Earliest)),
            "latest" => Some(Self::Start(Start::Latest)),
            written => match written.strip_prefix('-') {
                Some(count) => count.parse().ok().map(Self::Last),
                None => match written.parse() {
                    Ok(offset) => Some(Self::Start(Start::Offset(offset))),
                    Err(_) => micros(written).map(|time| Self::Start(Start::Time(time))),
                },
            },
        }
    }
}

/// How much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Records are passed over.
    pub(super) only_gaps: bool,
    /// Items.
    pub(super) items: usize,
    /// Bytes of the answer, but for its last line.
    pub(super) bytes: usize,
    /// How long to wait for the first of them.
    pub(super) wait: Duration,
}

impl Query {
    pub(super) fn parse(uri: &Uri, known: &[&str]) -> Result<Self, Refusal> {
        let pairs = Pairs::<Vec<(String, String)>>::try_from_uri(uri);
        let Pairs(pairs) = pairs.map_err(|error| Refusal::bad(error.body_text()))?;
        for (at, (key, _)) in pairs.iter().enumerate() {
            if !known.contains(&key.as_str()) {
                let known = known.join(", ");
                return Err(Refusal::bad(format!(
                    "unknown key {key:?} (accepted: {known})"
                )));
            }
            if pairs[..at].iter().any(|(other, _)| other == key) {
                return Err(Refusal::bad(format!("{key}: given twice")));
            }
        }
        Ok(Self(pairs))
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn from(&self) -> Result<From, Refusal> {
        let Some(written) = self.get("from") else {
            return Ok(From::Start(Start::Earliest));
        };
        From::read(written).ok_or_else(|| {
            Refusal::bad(format!(
                "from: {written:?} is not accepted here (accepted: {PLACES}, @consumer:NAME)"
            ))
        })
    }

    /// The group at whose places to begin.
    pub(super) fn group(&self) -> Option<&str> {
        self.get("from")?.strip_prefix("@consumer:")
    }

    pub(super) fn limits(&self) -> Result<Limits, Refusal> {
        Ok(Limits {
            only_gaps: self.only_gaps()?,
            items: self.number("max", 1, ITEMS_MAX, ITEMS)?,
            bytes: self.number("bytes", 1, BYTES_MAX, BYTES)?,
            wait: self.wait()?,
        })
    }

    /// The time that `key` has.
    pub(super) fn time(&self, key: &str) -> Result<Micros, Refusal> {
        let written = self.get(key);
        let time = written.and_then(micros).map(Micros::new);
        time.ok_or_else(|| {
            Refusal::bad(format!(
                "{key}: missing, or not accepted (accepted: a time such as 2026-11-20T08:00:00Z)"
            ))
        })
    }

    /// Whether only gaps are wanted.
    pub(super) fn only_gaps(&self) -> Result<bool, Refusal> {
        match self.get("only") {
            None => Ok(false),
            Some("gaps") => Ok(true),
            Some(other) => Err(Refusal::bad(format!(
                "only: {other:?} is not accepted here (accepted: gaps)"
            ))),
        }
    }

    pub(super) fn number(
        &self,
        key: &str,
        min: usize,
        max: usize,
        usual: usize,
    ) -> Result<usize, Refusal> {
        let Some(written) = self.get(key) else {
            return Ok(usual);
        };
        let number = written.parse().ok().filter(|n| (min..=max).contains(n));
        number.ok_or_else(|| {
            Refusal::bad(format!(
                "{key}: {written:?} is not accepted here (accepted: {min} to {max})"
            ))
        })
    }

    fn wait(&self) -> Result<Duration, Refusal> {
        let Some(written) = self.get("wait") else {
            return Ok(Duration::ZERO);
        };
        let whole = |digits: &str| digits.parse::<u32>().ok().map(u64::from);
        let wait = match (written.strip_suffix("ms"), written.strip_suffix('s')) {
            (Some(digits), _) => whole(digits).map(Duration::from_millis),
            (None, Some(digits)) => whole(digits).map(Duration::from_secs),
            (None, None) => None,
        };
        wait.filter(|wait| *wait <= WAIT_MAX).ok_or_else(|| {
            let max = WAIT_MAX.as_secs();
            Refusal::bad(format!(
                "wait: {written:?} is not accepted here (accepted: a duration up to {max}s, such as 20s or 500ms)"
            ))
        })
    }
}

/// µs since 1970 of a time as RFC 3339 writes it. A `+` that was not escaped has become a space.
fn micros(written: &str) -> Option<i64> {
    let written = written.replace(' ', "+");
    let time = written.parse::<jiff::Timestamp>().ok()?;
    Some(time.as_microsecond())
}

/// The words for a place.
pub(super) const PLACES: &str =
    "an offset, earliest, latest, -N for the last N offsets, a time such as 2026-11-20T08:00:00Z";
const ITEMS: usize = 1_000;
const ITEMS_MAX: usize = 100_000;
const BYTES: usize = 1 << 20;
const BYTES_MAX: usize = 2 << 20;
const WAIT_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Result<Query, Refusal> {
        let uri = format!("/x?{text}").parse().expect("a URI");
        Query::parse(&uri, &["from", "max", "bytes", "wait", "time"])
    }

    #[test]
    fn each_way_to_say_where_to_begin_is_understood() {
        let from = |text: &str| query(&format!("from={text}")).unwrap().from().ok();
        assert_eq!(from("12"), Some(From::Start(Start::Offset(12))));
        assert_eq!(from("earliest"), Some(From::Start(Start::Earliest)));
        assert_eq!(from("latest"), Some(From::Start(Start::Latest)));
        assert_eq!(from("-100"), Some(From::Last(100)));
        let eight = Some(From::Start(Start::Time(1_795_161_600_000_000)));
        assert_eq!(from("2026-11-20T08:00:00Z"), eight);
        assert_eq!(from("2026-11-20T09:00:00%2B01:00"), eight);
        assert_eq!(from("2026-11-20T09:00:00+01:00"), eight);
        for wrong in ["", "-", "1.5", "soon", "99999999999999999999", "2026-11-20"] {
            assert_eq!(from(wrong), None, "{wrong}");
        }
        let group = |text: &str| query(text).unwrap().group().map(str::to_owned);
        assert_eq!(group("from=@consumer:a%2Fb").as_deref(), Some("a/b"));
        assert_eq!(group("from=consumer:b"), None);
        assert_eq!(
            query("").unwrap().from().ok(),
            Some(From::Start(Start::Earliest))
        );
    }

    #[test]
    fn limits_have_bounds_and_a_usual_size() {
        let limits = |text: &str| query(text).unwrap().limits().ok();
        let usual = limits("").unwrap();
        assert_eq!(
            (usual.items, usual.bytes, usual.wait),
            (1_000, 1 << 20, Duration::ZERO)
        );
        assert_eq!(limits("wait=20s").unwrap().wait, Duration::from_secs(20));
        assert_eq!(
            limits("wait=500ms").unwrap().wait,
            Duration::from_millis(500)
        );
        assert_eq!(limits("max=1").unwrap().items, 1);
        for wrong in [
            "max=0",
            "max=100001",
            "bytes=0",
            "bytes=2097153",
            "wait=61s",
            "wait=20",
            "wait=-1s",
        ] {
            assert!(limits(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_key_that_is_not_known_or_comes_twice_is_refused_by_its_name() {
        let refusal = |text: &str| query(text).err().expect("it is refused").what;
        assert!(refusal("form=3").contains("unknown key \"form\" (accepted: from, max"));
        assert!(refusal("max=1&max=2").contains("max: given twice"));
    }
}

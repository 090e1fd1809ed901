//! Entries: what a data frame holds. One tag byte, then the fields that it announces (docs/spec/log.md, section 5).
//!
//! ```text
//! tag | [time] | [key] | [headers] | value                       record
//! tag | [time] | [key] | cause | from | to | lost | when         notice
//! ```
//! This file knows nothing of frames: what a time is relative to is the frame's affair.

use crate::gap::Cause;
use crate::ids::{Micros, Offset};
use crate::octets::{Reader, Writer};
use crate::varint::{encoded_len, zigzag};

/// One thing that takes one offset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Entry<'a> {
    /// An event, as its source gave it.
    Record(Record<'a>),
    /// The news that events were lost before they reached this log.
    Notice(Notice<'a>),
}

/// An event.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Record<'a> {
    /// When it happened. In an explicit frame, microseconds after the frame's time; in a compact frame, milliseconds after the record before it.
    pub time: Option<i64>,
    /// What it is about; decides the partition.
    pub key: Option<&'a [u8]>,
    /// Names and values beside the value.
    pub headers: Headers<'a>,
    /// The event itself.
    pub value: &'a [u8],
}

/// Loss before this log, as the device counted it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Notice<'a> {
    /// When it was told, relative as in [`Record`].
    pub time: Option<i64>,
    /// The device.
    pub key: Option<&'a [u8]>,
    /// Why.
    pub cause: Cause,
    /// First lost offset in the device's log.
    pub from: Offset,
    /// One past the last.
    pub to: Offset,
    /// How many records.
    pub lost: u64,
    /// When.
    pub when: Micros,
}

impl<'a> Entry<'a> {
    /// How many bytes the entry takes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Record(record) => record.encoded_len(),
            Self::Notice(notice) => notice.encoded_len(),
        }
    }

    /// Writes the entry to the front of `into` and says how many bytes it took; `None` if it does not fit.
    #[must_use]
    pub fn encode(&self, into: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(into);
        match self {
            Self::Record(record) => record.put(&mut writer)?,
            Self::Notice(notice) => notice.put(&mut writer)?,
        }
        Some(writer.len())
    }

    /// Reads an entry from the front of `bytes` and says how many bytes it took; `None` if it is malformed.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let mut reader = Reader::new(bytes);
        let tag = reader.byte()?;
        let time = if tag & HAS_TIME != 0 {
            Some(reader.signed()?)
        } else {
            None
        };
        let key = if tag & HAS_KEY != 0 {
            Some(reader.bytes()?)
        } else {
            None
        };
        let entry = match tag & !(HAS_TIME | HAS_KEY) {
            KIND_NOTICE => Self::Notice(Notice::take(&mut reader, time, key)?),
            KIND_RECORD => Self::Record(Record {
                time,
                key,
                headers: Headers::NONE,
                value: reader.bytes()?,
            }),
            HAS_HEADERS => {
                let headers = Headers::take(&mut reader)?;
                Self::Record(Record {
                    time,
                    key,
                    headers,
                    value: reader.bytes()?,
                })
            }
            _ => return None,
        };
        Some((entry, bytes.len() - reader.rest().len()))
    }

    /// When it happened, relative as in [`Record`].
    #[must_use]
    pub const fn time(&self) -> Option<i64> {
        match self {
            Self::Record(record) => record.time,
            Self::Notice(notice) => notice.time,
        }
    }

    /// What it is about.
    #[must_use]
    pub const fn key(&self) -> Option<&'a [u8]> {
        match self {
            Self::Record(record) => record.key,
            Self::Notice(notice) => notice.key,
        }
    }
}

impl Record<'_> {
    fn encoded_len(&self) -> usize {
        1 + time_and_key_len(self.time, self.key)
            + self.headers.encoded_len()
            + sized_len(self.value)
    }

    fn put(&self, writer: &mut Writer<'_>) -> Option<()> {
        let has_headers = if self.headers.is_empty() {
            0
        } else {
            HAS_HEADERS
        };
        put_tag_time_key(writer, KIND_RECORD | has_headers, self.time, self.key)?;
        self.headers.put(writer)?;
        writer.bytes(self.value)
    }
}

impl<'a> Notice<'a> {
    fn encoded_len(&self) -> usize {
        1 + time_and_key_len(self.time, self.key)
            + 1
            + encoded_len(self.from.get())
            + encoded_len(self.to.get())
            + encoded_len(self.lost)
            + encoded_len(zigzag(self.when.get()))
    }

    fn put(&self, writer: &mut Writer<'_>) -> Option<()> {
        put_tag_time_key(writer, KIND_NOTICE, self.time, self.key)?;
        writer.byte(self.cause.code())?;
        writer.varint(self.from.get())?;
        writer.varint(self.to.get())?;
        writer.varint(self.lost)?;
        writer.signed(self.when.get())
    }

    fn take(reader: &mut Reader<'a>, time: Option<i64>, key: Option<&'a [u8]>) -> Option<Self> {
        Some(Self {
            time,
            key,
            cause: Cause::from_code(reader.byte()?)?,
            from: Offset::new(reader.varint()?),
            to: Offset::new(reader.varint()?),
            lost: reader.varint()?,
            when: Micros::new(reader.signed()?),
        })
    }
}

/// The headers of a record: names with values, in order.
#[derive(Clone, Copy)]
pub struct Headers<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    Pairs(&'a [(&'a str, &'a [u8])]),
    Encoded { count: usize, bytes: &'a [u8] },
}

impl<'a> Headers<'a> {
    /// No headers.
    pub const NONE: Self = Self(Source::Pairs(&[]));

    /// Headers to be encoded.
    #[must_use]
    pub const fn new(pairs: &'a [(&'a str, &'a [u8])]) -> Self {
        Self(Source::Pairs(pairs))
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.0 {
            Source::Pairs(pairs) => pairs.len(),
            Source::Encoded { count, .. } => count,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The names with their values.
    #[must_use]
    pub const fn iter(&self) -> HeadersIter<'a> {
        HeadersIter { rest: self.0 }
    }

    /// The value of the first header with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&'a [u8]> {
        self.iter()
            .find(|&(candidate, _)| candidate == name)
            .map(|(_, value)| value)
    }

    fn encoded_len(&self) -> usize {
        if self.is_empty() {
            return 0;
        }
        let each =
            |(name, value): (&str, &[u8])| sized_len(wire_name(name).as_bytes()) + sized_len(value);
        encoded_len(self.len() as u64) + self.iter().map(each).sum::<usize>()
    }

    fn put(&self, writer: &mut Writer<'_>) -> Option<()> {
        if self.is_empty() {
            return Some(());
        }
        writer.varint(self.len() as u64)?;
        for (name, value) in self.iter() {
            writer.bytes(wire_name(name).as_bytes())?;
            writer.bytes(value)?;
        }
        Some(())
    }

    /// All doubt ends here: a name that is not UTF-8 or a length too far makes the entry malformed.
    fn take(reader: &mut Reader<'a>) -> Option<Self> {
        let count = usize::try_from(reader.varint()?).ok()?;
        let before = reader.rest();
        // Each header takes at least two bytes.
        if count > before.len() / 2 {
            return None;
        }
        for _ in 0..count {
            reader.text()?;
            reader.bytes()?;
        }
        let bytes = before.get(..before.len() - reader.rest().len())?;
        Some(Self(Source::Encoded { count, bytes }))
    }
}

impl<'a> IntoIterator for Headers<'a> {
    type Item = (&'a str, &'a [u8]);
    type IntoIter = HeadersIter<'a>;

    fn into_iter(self) -> HeadersIter<'a> {
        self.iter()
    }
}

impl Default for Headers<'_> {
    fn default() -> Self {
        Self::NONE
    }
}

/// Equal if they hold the same names and values, wherever they come from.
impl PartialEq for Headers<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl core::fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Iterates over the headers of a record.
#[derive(Clone)]
pub struct HeadersIter<'a> {
    rest: Source<'a>,
}

impl<'a> Iterator for HeadersIter<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.rest {
            Source::Pairs(pairs) => {
                let (first, rest) = pairs.split_first()?;
                *pairs = rest;
                Some(*first)
            }
            Source::Encoded { bytes, .. } => {
                let mut reader = Reader::new(bytes);
                let name = reader.text()?;
                let value = reader.bytes()?;
                *bytes = reader.rest();
                Some((if name.is_empty() { COMMONEST } else { name }, value))
            }
        }
    }
}

fn put_tag_time_key(
    writer: &mut Writer<'_>,
    tag: u8,
    time: Option<i64>,
    key: Option<&[u8]>,
) -> Option<()> {
    let has_time = if time.is_some() { HAS_TIME } else { 0 };
    let has_key = if key.is_some() { HAS_KEY } else { 0 };
    writer.byte(tag | has_time | has_key)?;
    if let Some(time) = time {
        writer.signed(time)?;
    }
    if let Some(key) = key {
        writer.bytes(key)?;
    }
    Some(())
}

fn time_and_key_len(time: Option<i64>, key: Option<&[u8]>) -> usize {
    time.map_or(0, |time| encoded_len(zigzag(time))) + key.map_or(0, sized_len)
}

fn sized_len(bytes: &[u8]) -> usize {
    encoded_len(bytes.len() as u64) + bytes.len()
}

fn wire_name(name: &str) -> &str {
    if name == COMMONEST { "" } else { name }
}

const KIND_RECORD: u8 = 0;
const KIND_NOTICE: u8 = 1;
const HAS_TIME: u8 = 1 << 2;
const HAS_KEY: u8 = 1 << 3;
const HAS_HEADERS: u8 = 1 << 4;

/// The name that is written as an empty one.
const COMMONEST: &str = "topic";

/// The shortest entry is a record with an empty value.
pub(crate) const ENTRY_BYTES_MIN: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Serialize;
    use std::string::String;
    use std::vec::Vec;

    fn encoded(entry: &Entry<'_>) -> Vec<u8> {
        let mut buffer = std::vec![0; entry.encoded_len()];
        assert_eq!(entry.encode(&mut buffer), Some(buffer.len()));
        buffer
    }

    #[test]
    fn golden_record() {
        let headers = [("topic", &b"t/1"[..]), ("unit", b"C")];
        let record = Record {
            time: Some(-3),
            key: Some(b"boiler"),
            headers: Headers::new(&headers),
            value: b"21.5",
        };
        let golden = b"\x1C\x05\x06boiler\x02\x00\x03t/1\x04unit\x01C\x0421.5";
        assert_eq!(encoded(&Entry::Record(record)), golden);
        let (back, len) = Entry::decode(golden).unwrap();
        assert_eq!((back, len), (Entry::Record(record), golden.len()));
        let Entry::Record(back) = back else {
            panic!("a record was written")
        };
        assert_eq!(back.headers.find("topic"), Some(&b"t/1"[..]));
    }

    #[test]
    fn golden_notice() {
        let notice = Notice {
            time: None,
            key: Some(b"d"),
            cause: Cause::Device,
            from: Offset::new(3),
            to: Offset::new(300),
            lost: 5,
            when: Micros::new(-1),
        };
        let golden = b"\x09\x01d\x06\x03\xAC\x02\x05\x01";
        assert_eq!(encoded(&Entry::Notice(notice)), golden);
        assert_eq!(
            Entry::decode(golden),
            Some((Entry::Notice(notice), golden.len()))
        );
    }

    #[derive(Serialize)]
    struct PostcardRecord<'a>(u8, i64, &'a [u8], &'a [(&'a str, &'a [u8])], &'a [u8]);

    proptest! {
        #[test]
        fn record_is_what_postcard_writes(time: i64, key: Vec<u8>, names: [String; 2], value: Vec<u8>) {
            let pairs = [(names[0].as_str(), &key[..]), (names[1].as_str(), &value[..])];
            prop_assume!(pairs.iter().all(|(name, _)| *name != "topic" && !name.is_empty()));
            let record = Record { time: Some(time), key: Some(&key), headers: Headers::new(&pairs), value: &value };
            let theirs = PostcardRecord(0x1C, time, &key, &pairs, &value);
            let mut buffer = [0; 4096];
            let theirs = postcard::to_slice(&theirs, &mut buffer).unwrap();
            let ours = encoded(&Entry::Record(record));
            prop_assert_eq!(&ours, &*theirs);
            prop_assert_eq!(Entry::decode(&ours), Some((Entry::Record(record), ours.len())));
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes: Vec<u8>) {
            if let Some((entry, len)) = Entry::decode(&bytes) {
                prop_assert!(len <= bytes.len());
                let again = encoded(&entry);
                prop_assert_eq!(Entry::decode(&again), Some((entry, again.len())));
            }
        }
    }
}

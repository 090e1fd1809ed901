//! When a record was made on a device without a clock: which start of the device it was, and how long after it. The value of one header
//! (docs/spec/log.md, section 5).
//!
//! ```text
//! varint boot | varint ms
//! ```
//! Knows nothing of the time of day: whoever has heard the device's clock makes that of it.

use crate::octets::{Reader, Writer};
use crate::varint;

/// The name of the header. Short: it stands on flash in each record.
pub const HEADER: &str = "up";

/// A moment as a device counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Uptime {
    /// Which start of the device: the `boot` of the clock that it tells in Hello.
    pub boot: u64,
    /// Milliseconds after that start.
    pub ms: u64,
}

impl Uptime {
    /// Most bytes that one takes.
    pub const ENCODED_LEN_MAX: usize = 2 * varint::LEN_MAX;

    /// Writes the header's value to the front of `into` and returns it; `None` if it does not fit.
    #[must_use]
    pub fn encode<'b>(&self, into: &'b mut [u8]) -> Option<&'b [u8]> {
        let mut writer = Writer::new(into);
        writer.varint(self.boot)?;
        writer.varint(self.ms)?;
        let len = writer.len();
        into.get(..len)
    }

    /// Reads the header's value; `None` if it is malformed, which includes bytes behind it.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let uptime = Self {
            boot: reader.varint()?,
            ms: reader.varint()?,
        };
        reader.rest().is_empty().then_some(uptime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Entry, Headers, Record};
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn golden_uptime() {
        let uptime = Uptime {
            boot: 7,
            ms: 90_061_001,
        };
        let mut buffer = [0; Uptime::ENCODED_LEN_MAX];
        let golden = b"\x07\xC9\xF1\xF8\x2A";
        assert_eq!(uptime.encode(&mut buffer), Some(&golden[..]));
        assert_eq!(Uptime::decode(golden), Some(uptime));
    }

    /// What the documents say that a record pays for it.
    #[test]
    fn an_uptime_of_a_day_in_an_early_start_takes_ten_bytes_of_a_record() {
        let uptime = Uptime {
            boot: 100,
            ms: 24 * 3_600_000,
        };
        let mut buffer = [0; Uptime::ENCODED_LEN_MAX];
        let headers = [(HEADER, uptime.encode(&mut buffer).unwrap())];
        let bare = Record {
            value: b"21.5",
            ..Record::default()
        };
        let dated = Record {
            headers: Headers::new(&headers),
            ..bare
        };
        let len = |record| Entry::Record(record).encoded_len();
        assert_eq!(len(dated) - len(bare), 10);
    }

    proptest! {
        #[test]
        fn an_uptime_is_read_as_it_was_written(boot: u64, ms: u64) {
            let uptime = Uptime { boot, ms };
            let mut buffer = [0; Uptime::ENCODED_LEN_MAX];
            let encoded = uptime.encode(&mut buffer).expect("the longest fits");
            prop_assert_eq!(Uptime::decode(encoded), Some(uptime));
            let mut short = [0; Uptime::ENCODED_LEN_MAX];
            prop_assert_eq!(uptime.encode(&mut short[..encoded.len() - 1]), None);
            prop_assert_eq!(Uptime::decode(&encoded[..encoded.len() - 1]), None);
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            if let Some(uptime) = Uptime::decode(&bytes) {
                let mut buffer = [0; Uptime::ENCODED_LEN_MAX];
                let again: Vec<u8> = uptime.encode(&mut buffer).expect("it fits").to_vec();
                prop_assert_eq!(Uptime::decode(&again), Some(uptime));
                prop_assert!(again.len() <= bytes.len());
            }
        }
    }
}

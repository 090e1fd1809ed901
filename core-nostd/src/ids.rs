//! The numbers that must not be swapped: offsets, log ids, points in time.

use core::fmt;
use core::ops::Add;

use serde::{Deserialize, Serialize};

/// A place in one log. Offsets begin at 0, only grow, and are never used twice.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Offset(u64);

impl Offset {
    /// The first offset of every log.
    pub const ZERO: Self = Self(0);

    /// The offset with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of this offset.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The offset `span` further on, if there is one.
    #[must_use]
    pub const fn checked_add(self, span: u64) -> Option<Self> {
        match self.0.checked_add(span) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// How many offsets lie from `earlier` up to this one; 0 if `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Saturates: a log that reached the last offset stays there, and refuses to take more.
impl Add<u64> for Offset {
    type Output = Self;

    fn add(self, span: u64) -> Self {
        Self(self.0.saturating_add(span))
    }
}

impl From<u64> for Offset {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What makes a log this log: 16 random bytes, drawn when it is formatted.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LogId([u8; 16]);

impl LogId {
    /// The log id with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes, as they stand in an open header.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}

/// Reads what `Display` writes.
impl core::str::FromStr for LogId {
    type Err = BadLogId;

    fn from_str(text: &str) -> Result<Self, BadLogId> {
        let mut bytes = [0; 16];
        let digits = text.as_bytes();
        if digits.len() != 2 * bytes.len() {
            return Err(BadLogId);
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let nibble = |at: usize| {
                pair.get(at)
                    .and_then(|&digit| char::from(digit).to_digit(16))
            };
            let (Some(high), Some(low)) = (nibble(0), nibble(1)) else {
                return Err(BadLogId);
            };
            *byte = u8::try_from(high << 4 | low).map_err(|_| BadLogId)?;
        }
        Ok(Self(bytes))
    }
}

/// A text that is not 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLogId;

impl fmt::Display for BadLogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a log id is 32 hexadecimal digits")
    }
}

impl core::error::Error for BadLogId {}

/// A point in time: microseconds since 1970-01-01 UTC. Where nobody knows the time of day, it may be an uptime instead
/// (docs/spec/log.md, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Micros(i64);

impl Micros {
    /// Nobody knows when: there was no clock.
    pub const UNKNOWN: Self = Self(i64::MIN);

    /// This many microseconds after 1970 began (before it, if negative).
    #[must_use]
    pub const fn new(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970 began; `i64::MIN` if unknown.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// This many microseconds after the start of the machine that has this number. Numbers repeat after [`Self::STARTS`], and an uptime of
    /// four years and more stays at four years: nobody waits that long for a clock.
    #[must_use]
    pub const fn of_uptime(start: u16, micros: u64) -> Self {
        let most = (1 << UPTIME_BITS) - 1;
        let micros = if micros < most { micros } else { most };
        let start = (start % Self::STARTS) as i64;
        Self(UPTIMES + (start << UPTIME_BITS) + micros as i64)
    }

    /// The start's number and the microseconds behind it, if it is an uptime.
    #[must_use]
    pub const fn uptime(self) -> Option<(u16, u64)> {
        let since = match self.0.checked_sub(UPTIMES) {
            Some(since) if since >= 0 && since >> UPTIME_BITS < Self::STARTS as i64 => since,
            _ => return None,
        };
        let micros = since & ((1 << UPTIME_BITS) - 1);
        Some(((since >> UPTIME_BITS) as u16, micros as u64))
    }

    /// Whether the time of day is known.
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.0 != i64::MIN && self.uptime().is_none()
    }

    /// Whether this is surely no later than `other`: uptimes of different starts, and one beside a time of day, say nothing of each other.
    #[must_use]
    pub const fn is_surely_by(self, other: Self) -> bool {
        match (self.uptime(), other.uptime()) {
            (None, None) => self.is_known() && self.0 <= other.0,
            (Some((start, _)), Some((others, _))) => start == others && self.0 <= other.0,
            _ => false,
        }
    }

    /// How many starts of a machine have numbers of their own.
    pub const STARTS: u16 = 1 << 14;
}

/// The first of the values that are uptimes: far from every time of day, and yet no further than a difference of two of them can say.
const UPTIMES: i64 = -(1 << 62);
const UPTIME_BITS: u32 = 47;

impl Default for Micros {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn log_id_reads_what_it_writes() {
        let id = LogId::new([0xA5; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("a5".parse::<LogId>(), Err(BadLogId));
        assert_eq!("zz".repeat(16).parse::<LogId>(), Err(BadLogId));
    }

    /// An event has a time of its own, counted from that of its frame: the difference must be one that can be written.
    #[test]
    fn an_uptime_is_no_time_of_day_and_differs_from_one_by_a_number() {
        let late = Micros::of_uptime(Micros::STARTS - 1, u64::MAX);
        for (start, micros) in [(0, 0), (7, 90_061_001_000), (Micros::STARTS - 1, 5)] {
            let uptime = Micros::of_uptime(start, micros);
            assert_eq!(uptime.uptime(), Some((start, micros)));
            assert!(!uptime.is_known() && uptime <= late);
            assert!(
                1_795_168_800_000_001_i64
                    .checked_sub(uptime.get())
                    .is_some()
            );
        }
        assert_eq!(
            Micros::of_uptime(Micros::STARTS + 3, 1),
            Micros::of_uptime(3, 1)
        );
        for time in [
            i64::MIN,
            i64::MIN + 1,
            -1,
            0,
            1_795_168_800_000_001,
            i64::MAX,
        ] {
            assert_eq!(Micros::new(time).uptime(), None, "{time}");
        }
        assert!(Micros::of_uptime(3, 1).is_surely_by(Micros::of_uptime(3, 2)));
        assert!(!Micros::of_uptime(3, 1).is_surely_by(Micros::of_uptime(4, 2)));
        assert!(!Micros::of_uptime(3, 1).is_surely_by(Micros::new(0)));
        assert!(!Micros::UNKNOWN.is_surely_by(Micros::new(0)));
    }

    #[test]
    fn last_offset_has_no_successor() {
        assert_eq!(Offset::new(u64::MAX).checked_add(1), None);
        assert_eq!(Offset::new(u64::MAX) + 1, Offset::new(u64::MAX));
        assert_eq!(Offset::new(3).since(Offset::new(5)), 0);
    }
}

//! Where a store asks for the time: the caller brings the clock, tests bring a still one.
//!
//! A clock that does not know the time of day gives uptimes ([`Micros::of_uptime`]); when it is learned, [`Beginning`] says once, in an
//! annotation, what they are (docs/spec/log.md, section 4).

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sedge_core::octets::Reader;
use sedge_core::{Micros, varint};

use serde::{Deserialize, Serialize};

use crate::batch::put_varint;
use crate::world;

/// Gives the time of day.
pub type Clock = Arc<dyn Fn() -> Micros + Send + Sync>;

/// A clock, and what is known of time beside what it says. Asked by writers, so it may not wait long.
pub trait Timekeeping: Send + Sync {
    /// The time of day; an uptime while nobody knows it.
    fn now(&self) -> Micros;
    /// When the start began whose uptimes the clock gave before it knew the time of day; none if it gave none, or does not know yet.
    fn beginning(&self) -> Option<Beginning>;
    /// The same of all starts that are known.
    fn beginnings(&self) -> Vec<Beginning> {
        self.beginning().into_iter().collect()
    }
    /// How old something is that the clock gave `time` for, at least; none if nobody can tell.
    fn age(&self, time: Micros) -> Option<Duration>;
    /// Who vouches for the time of day, in a word; none if nobody does, or nobody knows.
    fn voucher(&self) -> Option<&'static str> {
        None
    }
    /// How old it seems: also by a time of day that nobody has vouched for. None if nobody can tell.
    fn apparent_age(&self, time: Micros) -> Option<Duration> {
        let now = self.now();
        if !time.is_known() || !now.is_known() {
            return self.age(time);
        }
        let micros = now.get().saturating_sub(time.get());
        Some(Duration::from_micros(micros.max(0).unsigned_abs()))
    }
}

/// A clock that says all that is known.
impl Timekeeping for Clock {
    fn now(&self) -> Micros {
        self()
    }

    fn beginning(&self) -> Option<Beginning> {
        None
    }

    fn age(&self, _: Micros) -> Option<Duration> {
        None
    }
}

/// When a start of the machine began: what its uptimes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beginning {
    /// The start, as [`Micros::uptime`] has it.
    pub start: u16,
    /// Microseconds from 1970 to its beginning.
    pub unix_us: i64,
}

impl Beginning {
    /// What `time` is, if it is an uptime of this start.
    #[must_use]
    pub fn time_of(&self, time: Micros) -> Option<Micros> {
        let (_, up_us) = time.uptime().filter(|(start, _)| *start == self.start)?;
        Some(Micros::new(self.unix_us.saturating_add_unsigned(up_us)))
    }

    /// The beginnings that an annotation tells.
    pub fn told_in(annotation: &[u8]) -> impl Iterator<Item = Self> + '_ {
        let mut rest = Reader::new(annotation);
        let items = std::iter::from_fn(move || Some((rest.varint()?, rest.bytes()?)));
        items.filter_map(|(count, item)| Self::decode(item).filter(|_| count == 0))
    }

    /// Appends it as an item of an annotation, of a unit of no entries.
    pub(crate) fn put(&self, annotation: &mut Vec<u8>) {
        let mut item = vec![BEGINNING];
        put_varint(&mut item, self.start.into());
        put_varint(&mut item, varint::zigzag(self.unix_us));
        put_varint(annotation, 0);
        put_varint(annotation, item.len() as u64);
        annotation.extend_from_slice(&item);
    }

    fn decode(item: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(item.strip_prefix(&[BEGINNING])?);
        let start = u16::try_from(reader.varint()?).ok()?;
        let unix_us = varint::unzigzag(reader.varint()?);
        Some(Self { start, unix_us })
    }
}

/// The one kind of item that belongs to no entries.
const BEGINNING: u8 = 1;
/// What such an item adds to an annotation, at most.
pub(crate) const BEGINNING_BYTES_MAX: usize = 2 + 1 + 3 + varint::LEN_MAX;

/// The machine's clock.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        if let Some(world) = world::current() {
            return world.now();
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let micros = since.ok().and_then(|d| i64::try_from(d.as_micros()).ok());
        micros.map_or(Micros::UNKNOWN, Micros::new)
    })
}

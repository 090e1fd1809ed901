//! From interrupt handlers into a log: a queue of samples of exactly one size, and the count of those that found no place in it.
//!
//! ```text
//!   interrupt ──try_push──► | 7 | 8 | 11 | 12 |   ──gather──► | 7 | 8 | lost 9..11 | 11 | ──frame──► commit ──committed──►
//!              Inlet           numbered, 9 and 10 found it full        Outlet
//! ```
//! Each sample that is offered has a number, whether it is taken or not: where the numbers have a hole, as many were lost, at that place in the order. The
//! hole becomes a notice in the log (cause `device`), durable with what follows it. Nothing here waits, allocates, or masks interrupts: one side
//! stores, the other loads. This file knows the log only by where the next frame begins.
//!
//! ```
//! use sedge_core::driver::Ram;
//! use sedge_core::intake::{Intake, Outlet};
//! use sedge_core::log::{Fresh, Log, Options, WhenFull};
//! use sedge_core::segment::{Dimensions, Geometry, Medium, Role};
//! use sedge_core::{LogId, Micros};
//!
//! # let geometry = Geometry::new(Dimensions {
//! #     medium: Medium::Nor, role: Role::Origin, write_unit: 4, segment_bytes: 4096, segment_count: 4,
//! #     frame_bytes_max: 256, commit_offsets_max: 16,
//! # }).unwrap();
//! # let now = Micros::new(1_763_633_000_000_000);
//! # let fresh = Fresh { log_id: LogId::new(*b"16 random bytes!"), now, boot: 1 };
//! # let options = Options::new(geometry, WhenFull::EvictOldest);
//! # let (mut log, _) = Log::open(Ram::new([0xFF; 4 * 4096], 4096), options, fresh, [0; 768]).unwrap();
//! // Firmware keeps it in a `StaticCell`, and moves the inlet to its interrupt handler (RTIC: a local resource of the task).
//! let mut intake = Intake::<4, 8>::new();
//! let (mut inlet, outlet) = intake.split();
//! let mut outlet = Outlet::<4, 4>::new(outlet); // up to 4 entries a frame
//!
//! // In the handler: bounded, and never waiting.
//! for reading in 0..9_u32 {
//!     // What finds no place is counted; there is nothing else to be done about it here.
//!     let _taken = inlet.try_push(&reading.to_le_bytes(), now).is_ok();
//! }
//!
//! // In the idle loop: one frame a commit. What was not committed is still gathered, and comes again.
//! let (mut entries, mut buffer) = ([0; 200], [0; 256]);
//! while outlet.gather() > 0 {
//!     let frame = outlet.frame(log.continuation(), Some(b"adc-0"), &mut entries, &mut buffer).unwrap();
//!     log.commit(&buffer[..frame.len], frame.span, &[], now).unwrap();
//!     let lost = outlet.committed();
//!     log.count_refused(lost); // the device's own sum, beside the notice
//! }
//! assert_eq!((log.next().get(), log.ledger().refused), (8, 2)); // seven readings, and the notice that two were lost
//! ```

use core::sync::atomic::{AtomicU32, Ordering};

use heapless::spsc::{Consumer, Producer, Queue};

use crate::entry::{Entry, Notice, Record};
use crate::frame::{self, Form, Label};
use crate::gap::Cause;
use crate::ids::{Micros, Offset};
use crate::log::Continuation;
use crate::octets;

/// One sample: up to `BYTES` bytes, and when they were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample<const BYTES: usize> {
    number: u32,
    at: Micros,
    len: u16,
    bytes: [u8; BYTES],
}

/// The queue, for [`Intake::split`]: `SLOTS` samples of up to `BYTES` bytes, less one (a slot stays empty to tell full from empty).
#[derive(Debug)]
pub struct Intake<const BYTES: usize, const SLOTS: usize> {
    queue: Queue<Sample<BYTES>, SLOTS>,
    /// How many samples were offered, modulo 2³²; written by the inlet only.
    offered: AtomicU32,
}

/// Why a sample was not taken. It is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Refused {
    /// The queue is full.
    Full,
    /// It has more bytes than a slot.
    TooLarge,
}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Full => "the intake is full",
            Self::TooLarge => "the sample is larger than a slot of the intake",
        })
    }
}

impl core::error::Error for Refused {}

impl<const BYTES: usize, const SLOTS: usize> Intake<BYTES, SLOTS> {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            queue: Queue::new(),
            offered: AtomicU32::new(0),
        }
    }

    /// The two ends: one for the interrupt handler, one for an [`Outlet`].
    pub fn split(&mut self) -> (Inlet<'_, BYTES>, Samples<'_, BYTES>) {
        let next = self.offered.load(Ordering::Relaxed);
        let (producer, consumer) = self.queue.split();
        let offered = &self.offered;
        (
            Inlet { producer, offered },
            Samples {
                consumer,
                offered,
                next,
            },
        )
    }
}

impl<const BYTES: usize, const SLOTS: usize> Default for Intake<BYTES, SLOTS> {
    fn default() -> Self {
        Self::new()
    }
}

/// The end for the interrupt handler.
pub struct Inlet<'q, const BYTES: usize> {
    producer: Producer<'q, Sample<BYTES>>,
    offered: &'q AtomicU32,
}

impl<const BYTES: usize> Inlet<'_, BYTES> {
    /// Offers one sample. Takes the same short time whether there is a place or not.
    ///
    /// # Errors
    /// See [`Refused`]. The sample is lost, and its place in the order becomes a notice.
    pub fn try_push(&mut self, value: &[u8], at: Micros) -> Result<(), Refused> {
        let number = self.offered.load(Ordering::Relaxed);
        let outcome = match Sample::new(number, value, at) {
            Some(sample) => self.producer.enqueue(sample).map_err(|_| Refused::Full),
            None => Err(Refused::TooLarge),
        };
        // Behind the sample: whoever sees the count sees the sample too.
        self.offered
            .store(number.wrapping_add(1), Ordering::Release);
        outcome
    }
}

impl<const BYTES: usize> Sample<BYTES> {
    fn new(number: u32, value: &[u8], at: Micros) -> Option<Self> {
        let mut bytes = [0; BYTES];
        octets::copy(value, &mut bytes)?;
        Some(Self {
            number,
            at,
            len: u16::try_from(value.len()).ok()?,
            bytes,
        })
    }

    fn value(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// The other end of the queue.
pub struct Samples<'q, const BYTES: usize> {
    consumer: Consumer<'q, Sample<BYTES>>,
    offered: &'q AtomicU32,
    /// The number of the sample that comes next, if none is lost.
    next: u32,
}

#[derive(Clone, Copy, Debug)]
enum Item<const BYTES: usize> {
    Sample(Sample<BYTES>),
    /// So many were lost here.
    Lost(u32),
}

impl<const BYTES: usize> Samples<'_, BYTES> {
    fn pull(&mut self) -> Option<Item<BYTES>> {
        // Before the queue: a number below it has been queued by then, or never will be.
        let offered = self.offered.load(Ordering::Acquire);
        let queued = self.consumer.peek().map(|sample| sample.number);
        // A sample may be taken before it is counted: the count is then behind.
        let lost = queued.unwrap_or(offered).wrapping_sub(self.next) as i32;
        if lost > 0 {
            self.next = self.next.wrapping_add(lost.unsigned_abs());
            return Some(Item::Lost(lost.unsigned_abs()));
        }
        queued?;
        let sample = self.consumer.dequeue()?;
        self.next = sample.number.wrapping_add(1);
        Some(Item::Sample(sample))
    }
}

/// Makes frames of what comes out of an [`Intake`]: up to `ENTRIES` entries each. What is gathered stays until it is said to be committed.
pub struct Outlet<'q, const BYTES: usize, const ENTRIES: usize> {
    samples: Samples<'q, BYTES>,
    gathered: heapless::Vec<Item<BYTES>, ENTRIES>,
    /// How many samples were committed or lost before what is gathered: a notice counts from here.
    passed: u64,
}

/// A frame that stands in the buffer, for the log's `commit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    /// How many bytes it takes.
    pub len: usize,
    /// How many offsets.
    pub span: u64,
}

impl<'q, const BYTES: usize, const ENTRIES: usize> Outlet<'q, BYTES, ENTRIES> {
    /// Takes out of `samples`.
    #[must_use]
    pub const fn new(samples: Samples<'q, BYTES>) -> Self {
        Self {
            samples,
            gathered: heapless::Vec::new(),
            passed: 0,
        }
    }

    /// Takes what is there, as much as one frame holds, and says how many entries are gathered now.
    pub fn gather(&mut self) -> usize {
        while !self.gathered.is_full() {
            let Some(item) = self.samples.pull() else {
                break;
            };
            // There is a place for it.
            self.gathered.push(item).ok();
        }
        self.gathered.len()
    }

    /// Writes one frame of all that is gathered, in the compact form, as it continues the log now. `None` if nothing is, or it does not fit: `entries` holds
    /// their bytes on the way into `buffer`, and a frame of the log must have room for `ENTRIES` entries.
    pub fn frame(
        &self,
        log: Continuation,
        key: Option<&[u8]>,
        entries: &mut [u8],
        buffer: &mut [u8],
    ) -> Option<Filled> {
        let count = u16::try_from(self.gathered.len()).ok()?;
        if count == 0 {
            return None;
        }
        let len = self.encode(log.last_time, key, entries)?;
        let label = Label {
            form: Form::Compact,
            first: log.next,
            time: log.last_time,
            first_of_commit: true,
        };
        let entries = entries.get(..len)?;
        let len = frame::emit_data(buffer, &log.log_id, label, count, &[], entries)?;
        Some(Filled {
            len,
            span: u64::from(count),
        })
    }

    /// What was gathered is committed. Says how many samples of it were lost before: each is told by a notice in the frame.
    pub fn committed(&mut self) -> u64 {
        let (mut passed, mut lost) = (0_u64, 0_u64);
        for item in &self.gathered {
            match item {
                Item::Sample(_) => passed += 1,
                Item::Lost(count) => lost += u64::from(*count),
            }
        }
        self.gathered.clear();
        self.passed = self.passed.saturating_add(passed).saturating_add(lost);
        lost
    }

    fn encode(&self, last_time: Micros, key: Option<&[u8]>, into: &mut [u8]) -> Option<usize> {
        let (mut len, mut number, mut before) = (0, self.passed, last_time);
        for item in &self.gathered {
            let entry = match item {
                Item::Sample(sample) => {
                    number = number.saturating_add(1);
                    let time = millis_between(before, sample.at);
                    before = behind(before, time);
                    Entry::Record(Record {
                        time,
                        key,
                        value: sample.value(),
                        ..Record::default()
                    })
                }
                Item::Lost(count) => {
                    let from = Offset::new(number);
                    number = number.saturating_add(u64::from(*count));
                    Entry::Notice(Notice {
                        time: None,
                        key,
                        cause: Cause::Device,
                        from,
                        to: Offset::new(number),
                        lost: u64::from(*count),
                        when: before,
                    })
                }
            };
            len += entry.encode(into.get_mut(len..)?)?;
        }
        Some(len)
    }
}

/// Compact frames count in milliseconds from the record before.
fn millis_between(before: Micros, at: Micros) -> Option<i64> {
    let both = before.is_known() && at.is_known();
    both.then(|| at.get().saturating_sub(before.get()) / 1000)
}

fn behind(before: Micros, millis: Option<i64>) -> Micros {
    millis.map_or(before, |millis| {
        Micros::new(before.get().saturating_add(millis.saturating_mul(1000)))
    })
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::frame::Frame;
    use crate::ids::LogId;

    /// Samples as their first byte, losses as minus their count.
    fn pulled<const BYTES: usize>(samples: &mut Samples<'_, BYTES>) -> Vec<i64> {
        core::iter::from_fn(|| samples.pull())
            .map(|item| match item {
                Item::Sample(sample) => i64::from(sample.value()[0]),
                Item::Lost(count) => -i64::from(count),
            })
            .collect()
    }

    #[test]
    fn sample_without_a_place_is_counted_where_it_would_stand() {
        let mut intake = Intake::<1, 4>::new();
        let (mut inlet, mut samples) = intake.split();
        let mut push = |value: u8| inlet.try_push(&[value], Micros::UNKNOWN);
        assert_eq!([push(1), push(2), push(3)], [Ok(()); 3]);
        assert_eq!([push(4), push(5)], [Err(Refused::Full); 2]);
        assert_eq!(samples.pull().map(|_| push(6)), Some(Ok(())));
        assert_eq!(pulled(&mut samples), [2, 3, -2, 6]);
        assert_eq!(push(7), Ok(()));
        assert_eq!(pulled(&mut samples), [7]);
    }

    #[test]
    fn loss_is_told_though_no_sample_follows_it() {
        let mut intake = Intake::<1, 2>::new();
        let (mut inlet, mut samples) = intake.split();
        assert_eq!(inlet.try_push(&[1], Micros::UNKNOWN), Ok(()));
        assert_eq!(
            inlet.try_push(&[2, 2], Micros::UNKNOWN),
            Err(Refused::TooLarge)
        );
        assert_eq!(inlet.try_push(&[3], Micros::UNKNOWN), Err(Refused::Full));
        assert_eq!(pulled(&mut samples), [1, -2]);
        assert_eq!(pulled(&mut samples), []);
    }

    #[test]
    fn numbers_go_on_when_they_wrap() {
        let mut intake = Intake::<1, 2>::new();
        intake.offered = AtomicU32::new(u32::MAX);
        let (mut inlet, mut samples) = intake.split();
        let mut push = |value: u8| inlet.try_push(&[value], Micros::UNKNOWN).is_ok();
        assert_eq!([push(1), push(2), push(3)], [true, false, false]);
        assert_eq!(pulled(&mut samples), [1, -2]);
        let (mut inlet, mut samples) = intake.split();
        assert_eq!(inlet.try_push(&[4], Micros::UNKNOWN), Ok(()));
        assert_eq!(pulled(&mut samples), [4], "split again, nothing is lost");
    }

    /// Two frames of three entries: what is committed is counted, and the numbers of what was lost go on behind it.
    #[test]
    fn what_is_gathered_stays_until_it_is_committed() {
        let mut intake = Intake::<1, 4>::new();
        let (mut inlet, samples) = intake.split();
        let mut outlet = Outlet::<1, 3>::new(samples);
        let log = Continuation {
            log_id: LogId::new([7; 16]),
            next: Offset::new(40),
            last_time: Micros::new(7_000_000),
        };
        let mut notices = Vec::new();
        let mut told = |outlet: &Outlet<'_, 1, 3>| {
            let (mut entries, mut buffer) = ([0; 100], [0; 160]);
            let filled = outlet.frame(log, Some(b"adc"), &mut entries, &mut buffer)?;
            let frame = Frame::parse(&buffer[..filled.len], &log.log_id, Some(log.next));
            let (frame, len) = frame.expect("it is a frame");
            assert_eq!((len, frame.span()), (filled.len, filled.span));
            for (_, entry) in frame.entries() {
                match entry {
                    Entry::Notice(notice) => notices.push((notice.from, notice.to, notice.lost)),
                    entry => assert!(matches!(entry, Entry::Record(_))),
                }
            }
            Some(filled.span)
        };
        assert_eq!((outlet.gather(), told(&outlet)), (0, None));
        let mut push = |value: u8| inlet.try_push(&[value], Micros::UNKNOWN).is_ok();
        // The last two find no place.
        (1..=5).for_each(|value| assert_eq!(push(value), value <= 3));
        assert_eq!((outlet.gather(), outlet.gather()), (3, 3));
        assert_eq!(told(&outlet), Some(3));
        assert!(
            outlet
                .frame(log, None, &mut [0; 100], &mut [0; 10])
                .is_none()
        );
        assert_eq!(outlet.committed(), 0);
        assert!(push(6));
        // One is taken, and four are lost.
        assert_eq!((outlet.gather(), told(&outlet)), (2, Some(2)));
        (7..=10).for_each(|value| assert_eq!(push(value), value <= 9));
        assert_eq!((outlet.gather(), told(&outlet)), (3, Some(3)));
        assert_eq!(outlet.committed(), 2);
        assert_eq!((outlet.gather(), told(&outlet)), (3, Some(3)));
        assert_eq!(outlet.committed(), 1);
        assert_eq!((outlet.gather(), told(&outlet)), (0, None));
        let at = |number| Offset::new(number);
        assert_eq!(notices[0], (at(3), at(5), 2));
        assert_eq!(notices.last(), Some(&(at(9), at(10), 1)));
    }

    #[test]
    fn a_time_counts_from_the_record_before_if_both_are_known() {
        let [early, late] = [7_000_000, 9_500_000].map(Micros::new);
        assert_eq!(millis_between(early, late), Some(2_500));
        assert_eq!(millis_between(late, early), Some(-2_500));
        assert_eq!(behind(early, Some(2_500)), late);
        assert_eq!(millis_between(Micros::UNKNOWN, late), None);
        assert_eq!(millis_between(early, Micros::UNKNOWN), None);
    }

    /// A handler that interrupts between any two steps of the reader: threads stand for it. All that was offered comes out or is counted, in order.
    #[test]
    fn every_offer_beside_a_reader_is_taken_or_counted() {
        const OFFERS: u32 = 200_000;
        let mut intake = Intake::<4, 8>::new();
        let (mut inlet, mut samples) = intake.split();
        std::thread::scope(|scope| {
            let producer = scope.spawn(move || {
                (0..OFFERS)
                    .filter(|number| {
                        inlet
                            .try_push(&number.to_le_bytes(), Micros::UNKNOWN)
                            .is_ok()
                    })
                    .count()
            });
            let (mut next, mut taken) = (0_u32, 0);
            while next < OFFERS {
                match samples.pull() {
                    Some(Item::Sample(sample)) => {
                        assert_eq!(sample.value(), next.to_le_bytes());
                        (next, taken) = (next + 1, taken + 1);
                    }
                    Some(Item::Lost(count)) => next += count,
                    None => std::thread::yield_now(),
                }
            }
            assert_eq!(producer.join().expect("no panic"), taken);
        });
    }
}

//! A log in memory: for tests, and for memory that keeps its content over a warm reset.
//!
//! RAM that the startup code leaves alone holds anything after power came up, and what was there before after a watchdog, a panic or a software reset. The
//! log tells the two apart by itself: what does not pass its checks is no log, and one is created; else it goes on behind the last whole frame, and a write
//! that the reset cut short is a torn tail, as on flash. So the driver asks for no flag and no magic word beside it.
//!
//! ```
//! use core::mem::MaybeUninit;
//!
//! use sedge_core::driver::Ram;
//! use sedge_core::log::{Fresh, Log, Options, WhenFull};
//! use sedge_core::segment::{Dimensions, Geometry, Medium, Role};
//! use sedge_core::{LogId, Micros};
//!
//! const SEGMENT_BYTES: usize = 4096;
//! const LOG_BYTES: usize = 4 * SEGMENT_BYTES;
//!
//! // With cortex-m-rt `.uninit` is neither zeroed nor loaded. Other startup code has other names for it.
//! #[unsafe(link_section = ".uninit")]
//! static mut LOG_RAM: MaybeUninit<[u8; LOG_BYTES]> = MaybeUninit::uninit();
//!
//! // SAFETY: taken once, before interrupts are on; any bytes are valid bytes.
//! let bytes: &'static mut [u8] = unsafe { (*(&raw mut LOG_RAM)).assume_init_mut() };
//! let geometry = Geometry::new(Dimensions {
//!     medium: Medium::Nor, // the format of flash: a reset leaves torn tails here too
//!     role: Role::Origin,
//!     write_unit: 4,
//!     segment_bytes: SEGMENT_BYTES as u32,
//!     segment_count: 4,
//!     frame_bytes_max: 256,
//!     commit_offsets_max: 16,
//! })
//! .unwrap();
//! let fresh = Fresh { log_id: LogId::new(*b"16 random bytes!"), now: Micros::UNKNOWN, boot: 1 };
//! let options = Options::new(geometry, WhenFull::EvictOldest);
//! let ram = Ram::new(bytes, SEGMENT_BYTES as u32);
//! let (log, found) = Log::open(ram, options, fresh, [0; 768]).unwrap();
//! assert!(found.formatted); // the first time; after a warm reset the log is still there
//! # drop(log);
//! ```
//!
//! What the firmware sees to: that the bytes are really in RAM when the reset comes (a write-back cache is cleaned, or does not cover the region); that RAM
//! with ECC is written once after power came up, before it is read; and that an update which changes the geometry or moves the region fills it with
//! `0xFF`, because a log of other dimensions is refused and not wiped.

use crate::media::{Media, Misfit};
use crate::octets;
use crate::segment::Geometry;

/// Segments that lie one behind the other in a buffer.
#[derive(Clone, Debug)]
pub struct Ram<B> {
    bytes: B,
    segment_bytes: u32,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Ram<B> {
    /// A medium over `bytes`, as they are. Fill them with `0xFF` for one that was never used.
    pub const fn new(bytes: B, segment_bytes: u32) -> Self {
        Self {
            bytes,
            segment_bytes,
        }
    }

    /// The buffer.
    pub fn into_inner(self) -> B {
        self.bytes
    }

    fn range(&mut self, segment: u32, position: u32, len: usize) -> Result<&mut [u8], OutOfBounds> {
        let segment_bytes = self.segment_bytes as usize;
        let start = (segment as usize)
            .checked_mul(segment_bytes)
            .ok_or(OutOfBounds)?;
        let end = start.checked_add(segment_bytes).ok_or(OutOfBounds)?;
        let segment = self.bytes.as_mut().get_mut(start..end).ok_or(OutOfBounds)?;
        segment
            .get_mut(position as usize..)
            .and_then(|rest| rest.get_mut(..len))
            .ok_or(OutOfBounds)
    }
}

/// Beyond the end of a segment or of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct OutOfBounds;

impl core::fmt::Display for OutOfBounds {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("outside of the buffer")
    }
}

impl core::error::Error for OutOfBounds {}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Media for Ram<B> {
    type Error = OutOfBounds;

    fn read(&mut self, segment: u32, position: u32, into: &mut [u8]) -> Result<(), OutOfBounds> {
        let from = self.range(segment, position, into.len())?;
        octets::copy(from, into).ok_or(OutOfBounds)
    }

    fn program(&mut self, segment: u32, position: u32, bytes: &[u8]) -> Result<(), OutOfBounds> {
        octets::copy(bytes, self.range(segment, position, bytes.len())?).ok_or(OutOfBounds)
    }

    fn erase(&mut self, segment: u32) -> Result<(), OutOfBounds> {
        let segment_bytes = self.segment_bytes as usize;
        self.range(segment, 0, segment_bytes)?.fill(0xFF);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), OutOfBounds> {
        Ok(())
    }

    fn misfit(&self, geometry: &Geometry) -> Option<Misfit> {
        Misfit::of_segments(geometry, self.segment_bytes, 0, self.bytes.as_ref().len())
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::entry::{Entry, Record};
    use crate::frame::{self, Form, Label};
    use crate::ids::{LogId, Micros};
    use crate::log::{CommitError, Fresh, Log, Options, Recovered, WhenFull};
    use crate::read::{Read, Reader};
    use crate::segment::{Dimensions, Medium, Role};

    const SEGMENT_BYTES: u32 = 3072;
    const SEGMENTS: u32 = 3;
    const LOG_BYTES: usize = (SEGMENT_BYTES * SEGMENTS) as usize;

    /// Memory whose processor is reset after so many more bytes were stored.
    struct Resetting {
        ram: Ram<Vec<u8>>,
        left: usize,
    }

    impl Media for Resetting {
        type Error = OutOfBounds;

        fn read(&mut self, segment: u32, at: u32, into: &mut [u8]) -> Result<(), OutOfBounds> {
            self.ram.read(segment, at, into)
        }

        fn program(&mut self, segment: u32, at: u32, bytes: &[u8]) -> Result<(), OutOfBounds> {
            let stored = bytes.len().min(self.left);
            self.left -= stored;
            self.ram.program(segment, at, &bytes[..stored])?;
            (stored == bytes.len()).then_some(()).ok_or(OutOfBounds)
        }

        fn erase(&mut self, segment: u32) -> Result<(), OutOfBounds> {
            let stored = self.left.min(SEGMENT_BYTES as usize);
            self.left -= stored;
            self.ram.range(segment, 0, stored)?.fill(0xFF);
            (stored == SEGMENT_BYTES as usize)
                .then_some(())
                .ok_or(OutOfBounds)
        }

        fn sync(&mut self) -> Result<(), OutOfBounds> {
            Ok(())
        }
    }

    type ResettingLog = Log<Resetting, Vec<u8>>;

    fn boot(bytes: Vec<u8>, left: usize) -> Result<(ResettingLog, Recovered), Resetting> {
        let geometry = Geometry::new(Dimensions {
            medium: Medium::Nor,
            role: Role::Origin,
            write_unit: 4,
            segment_bytes: SEGMENT_BYTES,
            segment_count: SEGMENTS,
            frame_bytes_max: 256,
            commit_offsets_max: 4,
        })
        .unwrap();
        let fresh = Fresh {
            log_id: LogId::new([7; 16]),
            now: Micros::UNKNOWN,
            boot: 1,
        };
        let mut media = Resetting {
            ram: Ram::new(bytes, SEGMENT_BYTES),
            left,
        };
        let options = Options::new(geometry, WhenFull::EvictOldest);
        let scratch = std::vec![0; geometry.scratch_bytes()];
        // Seen first through a borrow, since a reset in the middle of an open leaves the bytes.
        if Log::open(&mut media, options, fresh, scratch.clone()).is_err() {
            return Err(media);
        }
        Log::open(media, options, fresh, scratch).map_err(|_| panic!("it was opened a moment ago"))
    }

    fn commit(log: &mut ResettingLog, value: &[u8]) -> Result<(), CommitError<OutOfBounds>> {
        let mut entries = [0; 64];
        let record = Record {
            value,
            ..Record::default()
        };
        let len = Entry::Record(record).encode(&mut entries).unwrap();
        let label = Label {
            form: Form::Compact,
            first: log.next(),
            time: Micros::UNKNOWN,
            first_of_commit: true,
        };
        let mut buffer = [0; 128];
        let id = log.log_id();
        let len = frame::emit_data(&mut buffer, &id, label, 1, &[], &entries[..len]).unwrap();
        log.commit(&buffer[..len], 1, &[], Micros::UNKNOWN)?;
        Ok(())
    }

    fn values(log: &mut ResettingLog) -> Vec<Vec<u8>> {
        let mut reader = Reader::new(log.log_id(), *log.geometry(), log.oldest());
        let mut values = Vec::new();
        loop {
            match log.read(&mut reader) {
                Read::Frame { frame, .. } => {
                    values.extend(frame.entries().filter_map(|(_, entry)| match entry {
                        Entry::Record(record) => Some(record.value.to_vec()),
                        Entry::Notice(_) => None,
                    }))
                }
                Read::CaughtUp => return values,
                Read::Gap(gap) => panic!("nothing was lost, but {gap:?}"),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Anything, the same for the same seed.
    fn noise(seed: u64) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let step = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        core::iter::repeat_with(step).take(LOG_BYTES).collect()
    }

    #[test]
    fn whatever_power_left_in_memory_a_log_is_created() {
        for seed in 0..200 {
            let Ok((mut log, _)) = boot(noise(seed), usize::MAX) else {
                panic!("noise {seed} is no log");
            };
            for number in 0..60_u8 {
                while commit(&mut log, &[number; 40]) == Err(CommitError::NeedsMaintain) {
                    log.maintain(Micros::UNKNOWN).unwrap();
                }
            }
            assert_eq!(values(&mut log).last(), Some(&std::vec![59; 40]));
        }
    }

    #[test]
    fn warm_reset_keeps_everything() {
        let Ok((mut log, _)) = boot(noise(1), usize::MAX) else {
            panic!("noise is no log");
        };
        commit(&mut log, b"before").unwrap();
        let bytes = log.into_media().ram.into_inner();
        let Ok((mut log, found)) = boot(bytes, usize::MAX) else {
            panic!("the log is there");
        };
        assert!(!found.formatted && found.clean);
        assert_eq!(values(&mut log), [b"before"]);
    }

    /// The reset comes at each byte of a life that fills the ring and goes around in it, the first life in noise included.
    #[test]
    fn reset_in_the_middle_of_a_write_is_a_torn_tail() {
        for left in (0..14_000).step_by(7) {
            let (bytes, acked) = match boot(noise(3), left) {
                Err(media) => (media.ram.into_inner(), Vec::new()),
                Ok((mut log, _)) => {
                    let mut acked = Vec::new();
                    for number in 0..100_u8 {
                        match commit(&mut log, &[number; 40]) {
                            Ok(()) => acked.push(std::vec![number; 40]),
                            Err(CommitError::NeedsMaintain) => {
                                if log.maintain(Micros::UNKNOWN).is_err() {
                                    break;
                                }
                            }
                            Err(_) => break,
                        }
                    }
                    (log.into_media().ram.into_inner(), acked)
                }
            };
            let Ok((mut log, _)) = boot(bytes, usize::MAX) else {
                panic!("what a reset after {left} bytes leaves can be opened");
            };
            let evicted = usize::try_from(log.ledger().evicted).unwrap();
            let kept = values(&mut log);
            let still = acked.get(evicted..).unwrap_or_default();
            // A frame that was whole when the reset came is there, though nobody was told.
            assert!(
                kept == still || kept.split_last().is_some_and(|(_, kept)| kept == still),
                "after {left} bytes: {} acknowledged, {evicted} evicted, {} kept",
                acked.len(),
                kept.len()
            );
            commit(&mut log, b"afterwards")
                .or_else(|_| {
                    log.maintain(Micros::UNKNOWN).unwrap();
                    commit(&mut log, b"afterwards")
                })
                .unwrap();
            assert_eq!(
                values(&mut log).last().map(Vec::as_slice),
                Some(&b"afterwards"[..])
            );
        }
    }
}

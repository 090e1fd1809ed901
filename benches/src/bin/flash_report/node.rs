//! A sensor's log as firmware has it: records with a key, a value and a tick, one frame a commit, room made in idle time.

use sedge_core::driver::{Nor, NorError};
use sedge_core::entry::{Entry, Headers, Record};
use sedge_core::frame::{self, Form, Label};
use sedge_core::log::{CommitError, Committed, Fresh, Log, Options, Recovered, Tail, WhenFull};
use sedge_core::segment::{Dimensions, Geometry, Medium, Role};
use sedge_core::{LogId, Micros};
use sedge_tests::sim::Fault;

use crate::nor::Chip;

/// Bytes of the largest frame of all comparisons.
pub(crate) const FRAME_BYTES_MAX: u32 = 512;

/// A log on a chip, and its time of day.
#[derive(Debug)]
pub(crate) struct Node<const UNIT: usize, const PAGE: usize> {
    pub(crate) log: Log<Nor<Chip<UNIT, PAGE>>, Vec<u8>>,
    pub(crate) recovered: Recovered,
    chip: Chip<UNIT, PAGE>,
    now_ms: i64,
}

/// What a record says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: &'a [u8],
}

/// Why an append failed.
pub(crate) type Failed = CommitError<NorError<Fault>>;

impl<const UNIT: usize, const PAGE: usize> Node<UNIT, PAGE> {
    /// Power on.
    pub(crate) fn boot(chip: Chip<UNIT, PAGE>) -> Self {
        let geometry = geometry(&chip, UNIT as u32, PAGE as u32);
        let options = Options {
            tail: Tail::Behind,
            ..Options::new(geometry, WhenFull::EvictOldest)
        };
        let fresh = Fresh {
            log_id: LogId::new(*b"a node for counts"[..16].first_chunk().expect("16 bytes")),
            now: Micros::new(START_MS * 1000),
            boot: 1,
        };
        let media = Nor::new(chip.clone(), 0, PAGE as u32).expect("pages are whole");
        let scratch = vec![0; geometry.scratch_bytes()];
        let (log, recovered) =
            Log::open(media, options, fresh, scratch).expect("a log opens, whatever stands there");
        Self {
            log,
            recovered,
            chip,
            now_ms: START_MS,
        }
    }

    pub(crate) const fn chip(&self) -> &Chip<UNIT, PAGE> {
        &self.chip
    }

    fn now(&self) -> Micros {
        Micros::new(self.now_ms * 1000)
    }

    /// One frame of these readings, in one commit.
    pub(crate) fn append(&mut self, readings: &[Reading<'_>]) -> Result<Committed, Failed> {
        let mut entries = [0; FRAME_BYTES_MAX as usize];
        let mut len = 0;
        let mut before_ms = self.log.last_time().get() / 1000;
        for reading in readings {
            self.now_ms += TICK_MS;
            let record = Record {
                time: Some(self.now_ms - before_ms),
                key: reading.key,
                headers: Headers::NONE,
                value: reading.value,
            };
            before_ms = self.now_ms;
            len += Entry::Record(record)
                .encode(&mut entries[len..])
                .expect("readings are small");
        }
        let label = Label {
            form: Form::Compact,
            first: self.log.next(),
            time: self.now(),
            first_of_commit: true,
        };
        let count = u16::try_from(readings.len()).expect("readings are few");
        let mut bytes = [0; FRAME_BYTES_MAX as usize];
        let len = frame::emit_data(
            &mut bytes,
            &self.log.log_id(),
            label,
            count,
            &[],
            &entries[..len],
        )
        .expect("readings fit a frame");
        let now = self.now();
        self.log.commit(&bytes[..len], u64::from(count), &[], now)
    }

    /// Idle time.
    pub(crate) fn rest(&mut self) {
        if self.log.needs_maintain() {
            let now = self.now();
            self.log.maintain(now).expect("a healthy chip");
        }
    }

    /// Appends, with room made in between, until the head has moved by `segments`.
    pub(crate) fn fill(&mut self, segments: u64, readings: &[Reading<'_>]) {
        let mut moved = 0;
        let mut head = self.log.head().0;
        while moved < segments {
            self.rest();
            self.append(readings).expect("a healthy chip");
            if self.log.head().0 != head {
                head = self.log.head().0;
                moved += 1;
            }
        }
    }
}

fn geometry<const UNIT: usize, const PAGE: usize>(
    chip: &Chip<UNIT, PAGE>,
    write_unit: u32,
    segment_bytes: u32,
) -> Geometry {
    Geometry::new(Dimensions {
        medium: Medium::Nor,
        role: Role::Origin,
        write_unit,
        segment_bytes,
        segment_count: chip.cells().sim().shape().segments,
        frame_bytes_max: FRAME_BYTES_MAX,
        commit_offsets_max: 16,
    })
    .expect("a legal geometry")
}

const START_MS: i64 = 1_790_000_000_000;
/// From one reading to the next.
const TICK_MS: i64 = 1000;

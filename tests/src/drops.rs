//! A log whose futures are dropped: one at a time, at any place where it waits, and the script goes on as if nothing had been.
//!
//! ```text
//! script:  open · commit · commit · maintain · …
//!                          │ dropped
//!                          ├── Then::GoOn:   the same log, the same step again
//!                          └── Then::Reopen: another log on the same flash, the same step again
//! ```
//! The oracle judges each view behind the drop, and at the end a log that was opened again.

use sedge_core::driver::AsyncNor;
use sedge_core::frame::Form;
use sedge_core::ids::{LogId, Micros, Offset};
use sedge_core::log::{AsyncLog, CommitError, Fresh, Maintained, Options, Recovered};
use sedge_core::read::Read;
use sedge_core::waiting::Reader;

use crate::flash::{FlashShape, FlashTear, SimFlash};
use crate::oracle::{Damage, Oracle, Planned, Seen, Why};
use crate::script::Step;
use crate::sim::Shared;
use crate::waiting::{ERASE_BYTES, Patience, WaitingFlash};
use crate::world::{Setting, sums};
use crate::{commit, payload, reader};

/// What comes behind the drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The same log is used on.
    GoOn,
    /// The log is forgotten, and opened again.
    Reopen,
}

/// One way through a script.
#[derive(Clone, Copy, Debug)]
pub struct Way<'s> {
    /// The log.
    pub setting: Setting,
    /// What is done.
    pub script: &'s [Step],
    /// How many steps follow behind the drop.
    pub epilogue: usize,
    /// How often is waited before the drop.
    pub waits: u64,
    /// What the flash makes of an operation that is given up before its effect.
    pub tear: FlashTear,
    /// What comes then.
    pub then: Then,
}

type WaitingLog<const UNIT: usize> = AsyncLog<AsyncNor<WaitingFlash<UNIT>>, Vec<u8>>;

struct Life<'s, const UNIT: usize> {
    way: Way<'s>,
    sim: Shared<SimFlash>,
    oracle: Oracle,
    patience: Patience,
    values: u64,
    boots: u64,
}

/// The future of a step was dropped.
struct Dropped;

impl Way<'_> {
    /// Plays it on a flash with the write unit `UNIT`; says whether a future was dropped, or the script was over before.
    ///
    /// # Panics
    /// If the log loses what it acknowledged, gives an offset twice, programs a unit twice, or does not go on.
    pub fn play<const UNIT: usize>(self) -> bool {
        let dimensions = self.setting.geometry.dimensions();
        let shape = FlashShape {
            segments: dimensions.segment_count,
            segment_bytes: dimensions.segment_bytes,
            blocks: dimensions.segment_bytes / ERASE_BYTES,
            write_unit: UNIT as u32,
        };
        let mut life = Life::<UNIT> {
            way: self,
            sim: Shared::new(SimFlash::new(shape, 1)),
            oracle: Oracle::new(),
            patience: Patience::of(self.waits),
            values: 0,
            boots: 0,
        };
        life.play();
        life.patience.is_over()
    }
}

impl<const UNIT: usize> Life<'_, UNIT> {
    fn play(&mut self) {
        let mut log = self.open();
        let mut left = self.way.epilogue;
        for step in self.way.script {
            while let Err(Dropped) = self.step(&mut log, step) {
                if self.way.then == Then::Reopen {
                    if matches!(step, Step::Maintain | Step::Commit(_)) {
                        self.oracle.interrupted();
                    }
                    log = self.open();
                }
            }
            if matches!(step, Step::Close | Step::Restart) {
                log = self.open();
            }
            if self.patience.is_over() {
                self.judge(&log, None);
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        let log = self.open();
        self.judge(&log, None);
    }

    fn open(&mut self) -> WaitingLog<UNIT> {
        self.boots += 1;
        loop {
            let setting = self.way.setting;
            let flash = WaitingFlash::new(self.sim.clone(), self.way.tear, self.way.waits);
            let nor = AsyncNor::new(flash, 0, setting.geometry.segment_bytes()).expect("fits");
            let fresh = Fresh {
                log_id: LogId::new([0x5E; 16]),
                now: self.now(),
                boot: self.boots,
            };
            let options = Options::new(setting.geometry, setting.when_full);
            let scratch = vec![0; setting.geometry.scratch_bytes()];
            let opening = AsyncLog::open(nor, options, fresh, scratch);
            match self.patience.poll(opening) {
                Some(Ok((log, recovered))) => {
                    self.judge(&log, Some(&recovered));
                    return log;
                }
                Some(Err(error)) => panic!("{error:?}, {:?}", self.told()),
                None => {}
            }
        }
    }

    fn step(&mut self, log: &mut WaitingLog<UNIT>, step: &Step) -> Result<(), Dropped> {
        match step {
            Step::Commit(counts) => self.commit(log, counts[0]),
            Step::Maintain => {
                self.maintain(log)?;
                self.read(log)
            }
            Step::Release { behind } => {
                let next = self.oracle.acked_next().saturating_sub(*behind);
                let next = next.max(log.oldest().get());
                log.set_cursor(UPLINK, Offset::new(next)).expect("a place");
                self.oracle.released(next);
                self.save(log)
            }
            Step::Forget => {
                log.drop_cursor(UPLINK);
                self.oracle.released(0);
                self.save(log)
            }
            Step::Close => {
                let outcome = self.patience.poll(log.close(self.now())).ok_or(Dropped)?;
                assert_eq!(outcome, Ok(()), "{:?}", self.told());
                Ok(())
            }
            Step::Restart => Ok(()),
        }
    }

    fn commit(&mut self, log: &mut WaitingLog<UNIT>, count: usize) -> Result<(), Dropped> {
        loop {
            let first = log.next().get();
            let from = self.values;
            self.values += count as u64;
            let values = (from..self.values)
                .map(|number| payload::value(1, number, commit::VALUE_BYTES_MAX))
                .collect();
            let planned = [Planned::Records(values)];
            let (bytes, span) =
                commit::encode(Form::Compact, &log.log_id(), first, self.now(), &planned);
            self.oracle.trying(first, &planned);
            let commit = log.commit(&bytes, span, b"checkpoint", self.now());
            match self.patience.poll(commit).ok_or(Dropped)? {
                Ok(committed) => {
                    self.oracle.acked();
                    assert_eq!(committed.first.get(), first);
                    return Ok(());
                }
                Err(CommitError::NeedsMaintain) => {
                    self.oracle.refused();
                    self.maintain(log)?;
                }
                Err(error) => panic!("commit at {first}: {error:?}, {:?}", self.told()),
            }
        }
    }

    fn maintain(&mut self, log: &mut WaitingLog<UNIT>) -> Result<(), Dropped> {
        let outcome = self
            .patience
            .poll(log.maintain(self.now()))
            .ok_or(Dropped)?;
        assert_eq!(outcome, Ok(Maintained::Ready), "{:?}", self.told());
        self.oracle.recycled(log.oldest().get());
        Ok(())
    }

    fn save(&mut self, log: &mut WaitingLog<UNIT>) -> Result<(), Dropped> {
        match self
            .patience
            .poll(log.save_ledger(self.now()))
            .ok_or(Dropped)?
        {
            Ok(()) | Err(CommitError::NeedsMaintain) => Ok(()),
            Err(error) => panic!("{error:?}, {:?}", self.told()),
        }
    }

    /// A reader whose future is dropped is asked again, and has missed nothing.
    fn read(&mut self, log: &mut WaitingLog<UNIT>) -> Result<(), Dropped> {
        let expected = reader::read(&self.sim, log.geometry(), &log.log_id(), log.view());
        let mut reader = Reader::new(log.log_id(), *log.geometry(), log.oldest());
        let mut seen = Vec::new();
        loop {
            match self.patience.poll(log.read(&mut reader)) {
                Some(Read::Frame { frame, .. }) => reader::show(&frame, &mut seen),
                Some(Read::Gap(gap)) => seen.push(reader::seen_gap(&gap)),
                Some(Read::CaughtUp) => break,
                Some(other) => panic!("{other:?}, {:?}", self.told()),
                None => {}
            }
        }
        assert_eq!(seen, expected, "{:?}", self.told());
        Ok(())
    }

    fn judge(&mut self, log: &WaitingLog<UNIT>, recovered: Option<&Recovered>) {
        let seen = reader::read(&self.sim, log.geometry(), &log.log_id(), log.view());
        let sums = sums(log.ledger(), log.next());
        if let Some(recovered) = recovered {
            if recovered.recounted {
                self.oracle.recounted(sums.handed_over, sums.evicted);
            } else {
                let cursor = log.ledger().cursor(UPLINK);
                self.oracle
                    .released(cursor.map_or(0, |cursor| cursor.next.get()));
            }
        }
        if let Err(wrong) = self.oracle.judge(&sums, &seen, Damage::None) {
            panic!("{wrong}; {recovered:?}, {:?}", self.told());
        }
        let rotten = |seen: &Seen| {
            matches!(
                seen,
                Seen::Gap {
                    why: Why::Corrupt,
                    ..
                }
            )
        };
        assert!(
            recovered.is_some() || !seen.iter().any(rotten),
            "{:?}",
            self.told()
        );
    }

    fn now(&self) -> Micros {
        let passed = self.boots * 1_000_000 + self.values;
        Micros::new(1_790_000_000_000_000 + i64::try_from(passed).unwrap_or(0))
    }

    /// The way, without its script.
    fn told(&self) -> (u64, FlashTear, Then, usize) {
        (self.way.waits, self.way.tear, self.way.then, UNIT)
    }
}

const UPLINK: u32 = 7;

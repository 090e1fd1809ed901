//! A log on a simulated medium, the script that is played to it, and the oracle that watches.
//!
//! A world lives through boots: each opens the log, has it judged, and goes on in the script until the script ends,
//! asks for a restart, or power is cut. A cut world can be cloned before it is revived, once for each way to tear.

use std::rc::Rc;

use sedge_core::frame::Form;
use sedge_core::ids::{LogId, Micros, Offset};
use sedge_core::ledger::Ledger;
use sedge_core::log::{CommitError, Fresh, Log, Maintained, Options, Recovered, Tail, WhenFull};
use sedge_core::segment::{Dimensions, Geometry, Medium, Role};

use crate::commit;
use crate::oracle::{Damage, Oracle, Planned, Reuse, Seen, Sums};
use crate::payload;
use crate::script::Step;
use crate::sim::{Counts, Shared, Sim};
use crate::{reader, reference};

/// One log, its medium, its script and its judge.
#[derive(Debug)]
pub struct World<S> {
    setting: Setting,
    sim: Shared<S>,
    oracle: Oracle,
    script: Rc<[Step]>,
    /// The next step of the script.
    at: usize,
    seed: u64,
    /// How many values were made.
    values: u64,
    boots: u64,
    damage: Damage,
    /// Every place where the uplink's cursor may stand after the next open.
    cursors: Vec<Option<u64>>,
    /// Where it stood before the last open: a ledger that this open dropped as torn may turn up again until something is written over it.
    earlier_cursors: Vec<Option<u64>>,
    /// Whether the last frame is a clean stop, if that is certain.
    closed: Option<bool>,
    /// The cursor was saved by a clean stop, and has not moved since.
    saved: bool,
    /// Segments that a failure left in doubt.
    suspects: Vec<u32>,
    /// How many errors of the medium may still end a life.
    patience: u32,
    /// On flash: how often a step is tried before the log is opened again.
    attempts_max: u32,
    /// A run stops where a failure ends a life.
    stops_at_failure: bool,
    /// Whether what is found is read by the reference reader too.
    is_read_twice: bool,
}

/// What kind of log, and on what.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its dimensions.
    pub geometry: Geometry,
    /// What it does when it is full.
    pub when_full: WhenFull,
    /// Flash: whether it trusts its last frame.
    pub tail: Tail,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The script was played to its end.
    Done,
    /// Power was cut, or the process was killed.
    Cut,
    /// The medium reported an error that ends a life, and the run was to stop there.
    Failed,
}

/// What is wrong, in words.
pub type Wrong = String;

enum Went {
    On,
    /// Nothing may be recycled before the uplink has it.
    Full,
    Restart,
    /// The medium reported an error, as the scenario has it.
    Failed,
    Cut,
}

type OpenLog<'s, S> = Log<Shared<S>, &'s mut [u8]>;

const UPLINK: u32 = 7;

impl<S: Sim> World<S> {
    /// A world before its first boot.
    pub fn new(setting: Setting, sim: S, script: &[Step], seed: u64) -> Self {
        let mut oracle = Oracle::new();
        if setting.geometry.role() == Role::Mirror {
            oracle.allow(Reuse::Same);
        }
        Self {
            setting,
            sim: Shared::new(sim),
            oracle,
            script: script.into(),
            at: 0,
            seed,
            values: 0,
            boots: 0,
            damage: Damage::None,
            cursors: vec![None],
            earlier_cursors: Vec::new(),
            closed: Some(false),
            saved: false,
            suspects: Vec::new(),
            patience: 0,
            attempts_max: u32::MAX,
            stops_at_failure: false,
            is_read_twice: true,
        }
    }

    /// The same world, to go another way.
    #[must_use]
    pub fn branch(&self) -> Self {
        Self {
            sim: Shared::new(self.sim.sim().clone()),
            oracle: self.oracle.clone(),
            script: Rc::clone(&self.script),
            cursors: self.cursors.clone(),
            earlier_cursors: self.earlier_cursors.clone(),
            suspects: self.suspects.clone(),
            ..*self
        }
    }

    /// Goes on with another script.
    pub fn play(&mut self, script: &[Step]) {
        self.script = script.into();
        self.at = 0;
    }

    /// Cuts power, or kills, after `ops` more operations.
    pub fn cut_after(&mut self, ops: u64) {
        self.sim.sim_mut().arm(ops);
    }

    /// Starts again after a cut.
    pub fn revive(&mut self, tear: S::Tear, seed: u64) {
        self.sim.sim_mut().revive(tear, seed);
        if S::flickers(tear) {
            self.damage = Damage::Flicker;
        }
    }

    /// Leaves no more than `steps` of the script, the one that was interrupted included.
    pub fn stop_after(&mut self, steps: usize) {
        let end = self.script.len().min(self.at + steps);
        self.script = self.script[..end].into();
    }

    /// From here on the oracle forgives what this damage may do.
    pub fn damaged(&mut self, damage: Damage) {
        self.damage = damage;
    }

    /// From here on offsets may be given twice: the medium loses what it says is durable.
    pub fn lies(&mut self) {
        self.oracle.allow(Reuse::Any);
        self.damaged(Damage::Rot);
    }

    /// So many errors of the medium are part of the scenario. On files one ends a life, and the next open is told which segment is in doubt;
    /// on flash the step is tried again. An open that fails is tried again too.
    pub fn expect_errors(&mut self, errors: u32) {
        self.patience = errors;
    }

    /// On flash: a step that fails so often in a row ends the life.
    pub fn give_up_after(&mut self, attempts: u32) {
        self.attempts_max = attempts;
    }

    /// Whether a run stops where a failure ends a life, instead of opening the log again.
    pub fn stop_at_failure(&mut self, stops: bool) {
        self.stops_at_failure = stops;
    }

    /// From here on only the log's own walk reads what is found: half the time for each open.
    pub fn read_once(&mut self) {
        self.is_read_twice = false;
    }

    /// The medium, to break it.
    pub fn sim(&self) -> &Shared<S> {
        &self.sim
    }

    /// The judge.
    #[must_use]
    pub fn oracle(&self) -> &Oracle {
        &self.oracle
    }

    /// What the medium was asked so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.sim.sim().counts().clone()
    }

    /// Boots until the script has ended or power is cut.
    ///
    /// # Errors
    /// What the oracle, or the log itself, has to say against it.
    pub fn run(&mut self) -> Result<Ended, Wrong> {
        loop {
            match self.boot()? {
                Went::On | Went::Full => return Ok(Ended::Done),
                Went::Failed if self.stops_at_failure => return Ok(Ended::Failed),
                Went::Restart | Went::Failed => {}
                Went::Cut => return Ok(Ended::Cut),
            }
        }
    }

    /// Opens twice more, and holds that an open without input changes nothing that the open before it did not.
    ///
    /// # Errors
    /// If it does.
    pub fn settle(&mut self) -> Result<(), Wrong> {
        self.play(&[]);
        self.run()?;
        let (image, ops) = (self.sim.sim().image(), self.counts().ops);
        self.run()?;
        if self.damage == Damage::None && self.sim.sim().image() != image {
            return Err("a second open changed bytes".into());
        }
        if self.setting.geometry.medium() == Medium::Nor && self.counts().ops != ops {
            return Err(format!(
                "a second open took {} operations",
                self.counts().ops - ops
            ));
        }
        Ok(())
    }

    fn boot(&mut self) -> Result<Went, Wrong> {
        self.boots += 1;
        let mut scratch = vec![0; self.setting.geometry.scratch_bytes()];
        let options = Options {
            suspect: self.suspect(),
            tail: self.setting.tail,
            ..Options::new(self.setting.geometry, self.setting.when_full)
        };
        let fresh = Fresh {
            log_id: self.log_id(),
            now: self.now(),
            boot: self.boots,
        };
        self.sim.sim_mut().begin_open();
        let opened = Log::open(self.sim.clone(), options, fresh, scratch.as_mut_slice());
        let is_all_read = self.sim.sim_mut().end_open();
        let (mut log, recovered) = match opened {
            Ok(opened) if is_all_read => opened,
            Err(_) if self.is_down() => return Ok(Went::Cut),
            Ok(_) => return self.failed("the log could not be read".into()),
            Err(error) => {
                self.in_doubt(None);
                return self.failed(format!("the log does not open: {error:?}"));
            }
        };
        self.suspects.clear();
        self.judge_open(&log, &recovered)?;
        let mut attempts = 0;
        while let Some(step) = self.script.get(self.at).cloned() {
            match self.step(&mut log, &step)? {
                Went::On | Went::Full => {
                    self.at += 1;
                    attempts = 0;
                }
                Went::Restart => {
                    self.at += 1;
                    return Ok(Went::Restart);
                }
                Went::Failed if self.setting.geometry.medium() == Medium::File => {
                    self.in_doubt(Some(log.head().0));
                    return Ok(Went::Failed);
                }
                Went::Failed => {
                    attempts += 1;
                    if attempts >= self.attempts_max {
                        return Ok(Went::Failed);
                    }
                }
                Went::Cut => return Ok(Went::Cut),
            }
            self.oracle.recycled(log.oldest().get());
        }
        Ok(Went::On)
    }

    /// On files: the head, if it is one of the segments that a failure left in doubt.
    fn suspect(&mut self) -> Option<u32> {
        if self.suspects.is_empty() {
            return None;
        }
        if self.sim.sim().unsynced().is_none() {
            return self.suspects.first().copied();
        }
        let geometry = self.setting.geometry;
        let head = self.looking(|sim| reference::head(sim, &geometry));
        head.map(|(head, _)| head)
            .filter(|head| self.suspects.contains(head))
    }

    /// The medium failed. What was not synced is in doubt; where nobody knows what that is, the head is.
    fn in_doubt(&mut self, head: Option<u32>) {
        let unsynced = self.sim.sim().unsynced();
        self.suspects
            .extend(unsynced.unwrap_or_else(|| head.into_iter().collect()));
    }

    /// The test looks at the medium.
    fn looking<T>(&self, look: impl FnOnce(&mut S) -> T) -> T {
        let mut sim = self.sim.sim_mut();
        sim.is_looked_at(true);
        let seen = look(&mut sim);
        sim.is_looked_at(false);
        seen
    }

    fn step(&mut self, log: &mut OpenLog<'_, S>, step: &Step) -> Result<Went, Wrong> {
        let programs = self.programs();
        let closed = self.closed.take();
        self.saved = false;
        let went = match step {
            Step::Commit(counts) => self.commit(log, counts),
            Step::Maintain => self.maintain(log),
            Step::Release { behind } => self.release(log, *behind),
            Step::Forget => {
                log.drop_cursor(UPLINK);
                self.cursors.push(None);
                self.oracle.released(0);
                Ok(Went::On)
            }
            Step::Close => self.close(log),
            Step::Restart => Ok(Went::Restart),
        }?;
        if !matches!(went, Went::Cut | Went::Failed) {
            let untouched = self.programs() == programs;
            // A stop with offsets still to be burned, or without room for the last word, is not known to be clean.
            self.closed = match (step, self.setting.geometry.medium()) {
                (_, Medium::Nor) => None,
                (Step::Close, Medium::File) if !untouched => {
                    self.saved = true;
                    Some(true)
                }
                // A stamp on another segment leaves the last word where it was.
                _ => closed.filter(|&closed| untouched || !closed),
            };
        }
        Ok(went)
    }

    fn commit(&mut self, log: &mut OpenLog<'_, S>, counts: &[usize]) -> Result<Went, Wrong> {
        let mut maintained = false;
        loop {
            let first = log.next().get();
            let frames = self.plan(first, counts);
            let (bytes, span) =
                commit::encode(self.form(), &log.log_id(), first, self.now(), &frames);
            self.oracle.trying(first, &frames);
            match log.commit(&bytes, span, b"checkpoint", self.now()) {
                Ok(committed) => {
                    self.oracle.acked();
                    if self.damage != Damage::Flicker {
                        self.earlier_cursors.clear();
                    }
                    if (committed.first.get(), committed.next.get()) != (first, first + span) {
                        return Err(format!(
                            "committed {committed:?} and not {first}..{}",
                            first + span
                        ));
                    }
                    return Ok(Went::On);
                }
                Err(_) if self.is_down() => return Ok(Went::Cut),
                Err(CommitError::NeedsMaintain) if !maintained => {
                    self.oracle.refused();
                    maintained = true;
                    match self.maintain(log)? {
                        Went::On => {}
                        Went::Full => return Ok(Went::On),
                        went => return Ok(went),
                    }
                }
                Err(error) => return self.failed(format!("commit at {first}: {error:?}")),
            }
        }
    }

    fn plan(&mut self, first: u64, counts: &[usize]) -> Vec<Planned> {
        let frames = if self.setting.geometry.medium() == Medium::Nor {
            1
        } else {
            counts.len()
        };
        if self.setting.geometry.role() == Role::Mirror {
            let mut offset = first;
            return (0..frames)
                .map(|_| {
                    let planned = commit::of_origin(self.seed, offset);
                    offset += planned.span();
                    planned
                })
                .collect();
        }
        counts[..frames]
            .iter()
            .map(|&count| {
                let from = self.values;
                self.values += count as u64;
                let values = from..self.values;
                Planned::Records(
                    values
                        .map(|number| payload::value(self.seed, number, commit::VALUE_BYTES_MAX))
                        .collect(),
                )
            })
            .collect()
    }

    fn maintain(&mut self, log: &mut OpenLog<'_, S>) -> Result<Went, Wrong> {
        let geometry = self.setting.geometry;
        let first = log.oldest().get();
        let bases = match self.attempts_max {
            u32::MAX => Vec::new(),
            _ => self.looking(|sim| reference::bases(sim, &geometry)),
        };
        let second = bases.iter().find(|base| **base > first);
        match log.maintain(self.now()) {
            // With headers that cannot be read the log lets go of more, and says so.
            Ok(_)
                if self.damage == Damage::None
                    && second.is_some_and(|second| log.oldest().get() > *second) =>
            {
                Err(format!(
                    "more than the oldest segment was let go of: all from {first} up to {}, of {bases:?}",
                    log.oldest()
                ))
            }
            Ok(Maintained::Full) if self.setting.when_full == WhenFull::EvictOldest => {
                Err("full, though it may evict".into())
            }
            Ok(maintained) => {
                self.oracle.recycled(log.oldest().get());
                Ok(if maintained == Maintained::Full {
                    Went::Full
                } else {
                    Went::On
                })
            }
            Err(_) if self.is_down() => {
                self.oracle.interrupted();
                Ok(Went::Cut)
            }
            Err(error) => {
                self.oracle.interrupted();
                self.failed(format!("maintain: {error:?}"))
            }
        }
    }

    fn release(&mut self, log: &mut OpenLog<'_, S>, behind: u64) -> Result<Went, Wrong> {
        let next = self
            .oracle
            .acked_next()
            .saturating_sub(behind)
            .max(log.oldest().get());
        log.set_cursor(UPLINK, Offset::new(next))
            .map_err(|error| error.to_string())?;
        self.cursors.push(Some(next));
        self.oracle.released(next);
        Ok(Went::On)
    }

    fn close(&mut self, log: &mut OpenLog<'_, S>) -> Result<Went, Wrong> {
        match log.close(self.now()) {
            Ok(_) => Ok(Went::Restart),
            Err(_) if self.is_down() => Ok(Went::Cut),
            Err(error) => self.failed(format!("close: {error:?}")),
        }
    }

    fn failed(&mut self, wrong: Wrong) -> Result<Went, Wrong> {
        self.patience = self.patience.checked_sub(1).ok_or(wrong)?;
        Ok(Went::Failed)
    }

    fn judge_open(&mut self, log: &OpenLog<'_, S>, recovered: &Recovered) -> Result<(), Wrong> {
        let seen = self.read(log);
        let sums = sums(log.ledger(), log.next());
        if recovered.recounted {
            self.oracle.recounted(sums.handed_over, sums.evicted);
        } else {
            // What was recycled was counted with the cursor that stands in the same ledger.
            let cursor = log.ledger().cursor(UPLINK);
            self.oracle
                .released(cursor.map_or(0, |cursor| cursor.next.get()));
        }
        self.oracle
            .judge(&sums, &seen, self.damage)
            .map_err(|wrong| format!("{wrong}; {recovered:?}"))?;
        self.judge_burn(log, recovered)?;
        self.judge_cursor(log.ledger())?;
        self.judge_reference(log, recovered, &seen)
    }

    /// Offsets are burned where a torn commit may have taken them, and nowhere else.
    fn judge_burn(&mut self, log: &OpenLog<'_, S>, recovered: &Recovered) -> Result<(), Wrong> {
        let burned = log.next().since(log.view().durable);
        if self.damage == Damage::None && !self.may_burn(burned, recovered) {
            return Err(format!("{burned} offsets are burned; {recovered:?}"));
        }
        if self.setting.geometry.medium() == Medium::File
            && self.setting.geometry.role() == Role::Origin
        {
            self.closed = Some(self.closed.unwrap_or(burned == 0));
        }
        Ok(())
    }

    fn may_burn(&self, burned: u64, recovered: &Recovered) -> bool {
        let geometry = &self.setting.geometry;
        let most = u64::from(geometry.commit_offsets_max());
        let segment_bytes = u64::from(geometry.segment_bytes());
        let points = segment_bytes / u64::from(geometry.grid_stride().get()) + 1;
        // What is torn has no more offsets than bytes; behind a torn RESUME frame there may be more of both.
        let on_flash = most..=most.max(geometry.frame_bytes_max().into()) + (most + 64) * points;
        // Whoever does not trust the last frame burns what anything before it in the segment may have taken, torn RESUME frames at each grid point too.
        let distrusting = most..=segment_bytes + 4 * most * points;
        let nothing = self.closed == Some(true) || recovered.formatted;
        match (geometry.medium(), geometry.role()) {
            (_, Role::Mirror) => burned == 0,
            _ if nothing => burned == 0,
            // What an unfinished copy of the head holds behind its end may be a clean stop that failed.
            (Medium::File, Role::Origin) if self.closed == Some(false) && !self.is_troubled() => {
                burned == most
            }
            (Medium::File, Role::Origin) => burned == 0 || burned == most,
            (Medium::Nor, Role::Origin) if self.setting.tail == Tail::Fresh => {
                burned == 0 || distrusting.contains(&burned)
            }
            (Medium::Nor, Role::Origin) => burned == 0 || on_flash.contains(&burned),
        }
    }

    fn judge_cursor(&mut self, ledger: &Ledger) -> Result<(), Wrong> {
        let found = ledger.cursor(UPLINK).map(|cursor| cursor.next.get());
        let known = self.cursors.contains(&found) || self.earlier_cursors.contains(&found);
        if !known && self.damage != Damage::Rot {
            return Err(format!(
                "the cursor stands at {found:?}, where it never stood: {:?}",
                self.cursors
            ));
        }
        if self.saved && self.cursors.last() != Some(&found) && self.damage == Damage::None {
            return Err(format!(
                "the cursor stands at {found:?} after a clean stop at {:?}",
                self.cursors.last()
            ));
        }
        self.earlier_cursors.append(&mut self.cursors);
        self.cursors.push(found);
        self.oracle.released(found.unwrap_or(0));
        Ok(())
    }

    /// The log's own walk and the reader that was written from the specification see the same.
    fn judge_reference(
        &self,
        log: &OpenLog<'_, S>,
        recovered: &Recovered,
        seen: &[Seen],
    ) -> Result<(), Wrong> {
        // What was counted again is not on the medium before the next open header.
        if self.damage != Damage::None || recovered.recounted || !self.is_read_twice {
            return Ok(());
        }
        let (geometry, tail) = (self.setting.geometry, self.setting.tail);
        let mut reading = self.looking(|sim| reference::read(sim, &geometry, tail));
        // A copy of the head that was not finished may have held more than the one that was.
        if self.is_troubled() && reading.seen.len() > seen.len() {
            reading.seen.truncate(seen.len());
            reading.ledger = log.ledger().clone();
        }
        if reading.seen != seen {
            return Err(format!(
                "the reference reader sees {:?}, the log's walk {seen:?}",
                reading.seen
            ));
        }
        if reading.ledger != *log.ledger() {
            return Err(format!(
                "the reference reader finds {:?}, the log {:?}",
                reading.ledger,
                log.ledger()
            ));
        }
        Ok(())
    }

    fn read(&self, log: &OpenLog<'_, S>) -> Vec<Seen> {
        self.sim.sim_mut().is_looked_at(true);
        let seen = reader::read(&self.sim, &self.setting.geometry, &log.log_id(), log.view());
        self.sim.sim_mut().is_looked_at(false);
        seen
    }

    /// Whether the medium fails as a scenario has it, on files.
    fn is_troubled(&self) -> bool {
        self.attempts_max != u32::MAX && self.setting.geometry.medium() == Medium::File
    }

    fn programs(&self) -> u64 {
        self.sim.sim().counts().programs
    }

    fn is_down(&self) -> bool {
        self.sim.sim().is_down()
    }

    fn form(&self) -> Form {
        match self.setting.geometry.medium() {
            Medium::Nor => Form::Compact,
            Medium::File => Form::Explicit,
        }
    }

    fn log_id(&self) -> LogId {
        let mut bytes = [0x5E; 16];
        bytes[..8].copy_from_slice(&self.seed.to_le_bytes());
        LogId::new(bytes)
    }

    fn now(&self) -> Micros {
        Micros::new(
            1_790_000_000_000_000
                + i64::try_from(self.boots * 1_000_000 + self.values).unwrap_or(0),
        )
    }
}

pub(crate) fn sums(ledger: &Ledger, next: Offset) -> Sums {
    Sums {
        oldest: ledger.oldest.get(),
        next: next.get(),
        handed_over: ledger.handed_over,
        evicted: ledger.evicted,
        expired: ledger.expired,
        corrupt: ledger.corrupt,
        skipped: ledger.skipped,
    }
}

impl Setting {
    /// The smallest origin on flash with this write unit.
    #[must_use]
    pub fn flash(write_unit: u32) -> Self {
        Self::new(Dimensions {
            medium: Medium::Nor,
            role: Role::Origin,
            write_unit,
            segment_bytes: 3072,
            segment_count: 3,
            frame_bytes_max: 256,
            commit_offsets_max: 8,
        })
    }

    /// The smallest log on files.
    #[must_use]
    pub fn files(role: Role) -> Self {
        Self::new(Dimensions {
            medium: Medium::File,
            role,
            write_unit: 1,
            segment_bytes: 3072,
            segment_count: 3,
            frame_bytes_max: 256,
            commit_offsets_max: 24,
        })
    }

    fn new(dimensions: Dimensions) -> Self {
        let geometry = Geometry::new(dimensions).expect("a legal geometry");
        Self {
            geometry,
            when_full: WhenFull::EvictOldest,
            tail: Tail::Behind,
        }
    }

    /// With so many segments.
    #[must_use]
    pub fn segments(self, segment_count: u32) -> Self {
        let dimensions = Dimensions {
            segment_count,
            ..*self.geometry.dimensions()
        };
        Self {
            geometry: Geometry::new(dimensions).expect("a legal geometry"),
            ..self
        }
    }

    /// Does not trust its last frame.
    #[must_use]
    pub const fn distrusting(self) -> Self {
        Self {
            tail: Tail::Fresh,
            ..self
        }
    }

    /// Refuses when full.
    #[must_use]
    pub const fn refusing(self) -> Self {
        Self {
            when_full: WhenFull::Refuse,
            ..self
        }
    }
}

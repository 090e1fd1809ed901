//! What a log must show: told of every commit and its outcome, it judges what is found after each open.
//!
//! ```text
//! tried ──commit answered──► acked ──recycled──► counted (handed over or evicted)
//!   │ cut                      ▲
//!   ├── shown by the next open ┘
//!   └── not shown ──► lost: its offset may only be in a gap, or be given to another record while nobody has seen it
//! ```
//!
//! Knows nothing of bytes on a medium.

use std::collections::BTreeMap;

/// One thing that a reader shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A record.
    Record {
        /// Its place.
        offset: u64,
        /// Its value.
        value: Vec<u8>,
    },
    /// A range that holds nothing.
    Gap {
        /// First offset.
        from: u64,
        /// One past the last.
        to: u64,
        /// Records that were lost in it.
        lost: u64,
        /// Why.
        why: Why,
    },
}

/// Why there is a gap, as far as the oracle can tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Offsets that were never given to an acknowledged record.
    Burned,
    /// Damage on the medium.
    Corrupt,
    /// Anything else, as it came from the origin.
    Other,
}

/// The counts of the log, as it states them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// First offset that is held.
    pub oldest: u64,
    /// The next offset.
    pub next: u64,
    /// Recycled below the release point.
    pub handed_over: u64,
    /// Recycled above it.
    pub evicted: u64,
    /// Recycled by age.
    pub expired: u64,
    /// Recycled without ever having been readable.
    pub corrupt: u64,
    /// Offsets of gap frames.
    pub skipped: u64,
}

/// How much damage the scenario did, and so what may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Power cuts only: nothing may be missing.
    None,
    /// Reads failed for a moment, though nothing was damaged: nothing may be missing. What was recycled meanwhile may be counted as corrupt.
    Unread,
    /// Torn cells that read differently each time: offsets of torn commits may change their mind, nothing else.
    Flicker,
    /// Stored bytes were changed: acked records may be in corrupt gaps, but nothing wrong may be shown.
    Rot,
}

/// Whether offsets that were acknowledged may be given again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reuse {
    /// Never.
    #[default]
    Never,
    /// A mirror is filled again, with the same records.
    Same,
    /// The medium lost what it had said to be durable.
    Any,
}

/// The judge of one log.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    slots: BTreeMap<u64, Slot>,
    attempt: Option<Attempt>,
    oldest: u64,
    acked_next: u64,
    handed_over: u64,
    evicted: u64,
    release: u64,
    shown: usize,
    reuse: Reuse,
    /// Power failed while a segment was recycled.
    interrupted: bool,
    /// What the log says after it has counted a segment again.
    recount: Option<(u64, u64)>,
    /// The ranges whose recycling was forgotten by a cut.
    forgiven: Vec<(u64, u64)>,
}

/// What one frame of a commit holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Planned {
    /// Records with these values.
    Records(Vec<Vec<u8>>),
    /// A gap of so many offsets, as it came from the origin.
    Gap(u64),
}

impl Planned {
    /// How many offsets it takes.
    #[must_use]
    pub const fn span(&self) -> u64 {
        match self {
            Self::Records(values) => values.len() as u64,
            Self::Gap(span) => *span,
        }
    }
}

#[derive(Clone, Debug)]
struct Slot {
    /// None inside of a gap.
    value: Option<Vec<u8>>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Acked,
    Tried,
    /// Not shown by the open after its commit was cut.
    Lost,
    /// Never acknowledged, shown once, in cells that may change their mind.
    Doubtful,
}

impl Damage {
    /// Every stored byte is as it was written.
    const fn is_harmless(self) -> bool {
        matches!(self, Self::None | Self::Unread)
    }
}

impl Slot {
    fn is_acked_record(&self) -> bool {
        self.value.is_some() && self.state == State::Acked
    }

    /// What a reader shows after an open has been made durable before; only cells that flicker may change their mind.
    fn show(&mut self, damage: Damage) {
        if self.state != State::Acked {
            self.state = if damage == Damage::Flicker {
                State::Doubtful
            } else {
                State::Acked
            };
        }
    }
}

impl State {
    const fn is_shown(self) -> bool {
        matches!(self, Self::Acked | Self::Doubtful)
    }
}

#[derive(Clone, Debug)]
struct Attempt {
    first: u64,
    /// One past each frame, in order.
    frame_ends: Vec<u64>,
}

impl Oracle {
    /// Knows of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether offsets that were acknowledged may be given again.
    pub fn allow(&mut self, reuse: Reuse) {
        self.reuse = reuse;
    }

    fn forget_from(&mut self, first: u64) {
        if self.reuse != Reuse::Same {
            self.slots.split_off(&first);
        }
    }

    /// One past the last offset that must be there.
    #[must_use]
    pub const fn acked_next(&self) -> u64 {
        self.acked_next
    }

    /// Acked records that must still be readable.
    #[must_use]
    pub fn held(&self) -> usize {
        self.slots
            .range(self.oldest..)
            .filter(|(_, slot)| slot.state == State::Acked)
            .count()
    }

    /// How many acknowledged records the last open has shown.
    #[must_use]
    pub const fn shown_of_acked(&self) -> usize {
        self.shown
    }

    /// A commit is handed to the log: `frames` from `first` on.
    pub fn trying(&mut self, first: u64, frames: &[Planned]) {
        if self.reuse != Reuse::Never && first < self.acked_next {
            self.forget_from(first);
            self.acked_next = first;
        }
        assert!(
            first >= self.acked_next,
            "offset {first} was given twice, acked up to {}",
            self.acked_next
        );
        let mut offset = first;
        let mut frame_ends = Vec::new();
        for frame in frames {
            let values: Vec<Option<Vec<u8>>> = match frame {
                Planned::Records(values) => values.iter().cloned().map(Some).collect(),
                Planned::Gap(span) => vec![None; *span as usize],
            };
            for value in values {
                self.slots.insert(
                    offset,
                    Slot {
                        value,
                        state: State::Tried,
                    },
                );
                offset += 1;
            }
            frame_ends.push(offset);
        }
        self.attempt = Some(Attempt { first, frame_ends });
    }

    /// The commit was answered: it must never be missing again.
    pub fn acked(&mut self) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        let end = attempt.frame_ends.last().copied().unwrap_or(attempt.first);
        for (_, slot) in self.slots.range_mut(attempt.first..end) {
            slot.state = State::Acked;
        }
        self.acked_next = end;
    }

    /// The commit was refused, and nothing was written.
    pub fn refused(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.slots.split_off(&attempt.first);
        }
    }

    /// Offsets below `next` were handed over.
    pub fn released(&mut self, next: u64) {
        self.release = next;
    }

    /// A segment was counted again from sums alone: what is not surely handed over counts as evicted.
    pub fn recounted(&mut self, handed_over: u64, evicted: u64) {
        self.recount = Some((handed_over, evicted));
    }

    /// Power failed while a segment was recycled.
    pub fn interrupted(&mut self) {
        self.interrupted = true;
    }

    /// The log says that `oldest` is the first one that it holds.
    pub fn recycled(&mut self, oldest: u64) {
        assert!(
            oldest >= self.oldest,
            "oldest went back from {} to {oldest}",
            self.oldest
        );
        for (&offset, slot) in self.slots.range(self.oldest..oldest) {
            if slot.value.is_some() && slot.state == State::Acked {
                *(if offset < self.release {
                    &mut self.handed_over
                } else {
                    &mut self.evicted
                }) += 1;
            }
        }
        self.oldest = oldest;
    }

    /// Judges what a reader shows from oldest to next after an open, and takes what it shows as acknowledged.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn judge(&mut self, sums: &Sums, seen: &[Seen], damage: Damage) -> Result<(), String> {
        if sums.next < self.acked_next && damage != Damage::Rot {
            return Err(format!(
                "next is {} but everything below {} was acknowledged",
                sums.next, self.acked_next
            ));
        }
        if damage != Damage::Rot {
            if sums.oldest < self.oldest || self.interrupted {
                self.forgive_lost_ledger(sums, seen)?;
            }
            self.recycled(sums.oldest);
        }
        self.interrupted = false;
        if let Some((handed_over, evicted)) = self.recount.take()
            && handed_over + evicted == self.handed_over + self.evicted
            && handed_over <= self.handed_over
        {
            (self.handed_over, self.evicted) = (handed_over, evicted);
        }
        let end = self.judge_seen(sums, seen, damage)?;
        if damage == Damage::Rot {
            // Rot at the very tail cannot be told from a torn commit.
            self.forget_from(end);
        }
        self.judge_attempt(end, damage)?;
        self.judge_sums(sums, end, damage)?;
        self.acked_next = self.acked_next.max(end);
        Ok(())
    }

    /// A head without room for a ledger lets the next open header carry it. If power fails before that, what was just recycled reads as corrupt
    /// instead of evicted: wrongly named, but neither silent nor counted twice.
    fn forgive_lost_ledger(&mut self, sums: &Sums, seen: &[Seen]) -> Result<(), String> {
        match seen.first() {
            Some(&Seen::Gap {
                from,
                to,
                why: Why::Corrupt,
                ..
            }) if from == sums.oldest && (to == self.oldest || self.interrupted) => {
                self.forgiven.push((from, to));
                self.oldest = sums.oldest;
                Ok(())
            }
            _ if sums.oldest >= self.oldest => Ok(()),
            _ => Err(format!(
                "oldest is {} after it was {}",
                sums.oldest, self.oldest
            )),
        }
    }

    fn judge_seen(&mut self, sums: &Sums, seen: &[Seen], damage: Damage) -> Result<u64, String> {
        let mut expected = sums.oldest;
        self.shown = 0;
        for item in seen {
            match item {
                Seen::Record { offset, value } => {
                    if *offset != expected {
                        return Err(format!("record at {offset} where {expected} was next"));
                    }
                    self.judge_record(*offset, value, damage)?;
                    expected = offset + 1;
                }
                Seen::Gap {
                    from,
                    to,
                    lost,
                    why,
                } => {
                    if *from != expected || to <= from {
                        return Err(format!("gap {from}..{to} where {expected} was next"));
                    }
                    self.judge_gap(*from, *to, *lost, *why, damage)?;
                    expected = *to;
                }
            }
        }
        if expected > sums.next {
            return Err(format!("shown up to {expected}, but next is {}", sums.next));
        }
        // Cells that flicker may take back a burned range that nobody has written behind.
        let takes_back_burned = damage == Damage::Flicker
            && !self
                .slots
                .range(expected..)
                .any(|(_, slot)| slot.is_acked_record());
        if expected < self.acked_next && damage != Damage::Rot && !takes_back_burned {
            return Err(format!(
                "shown up to {expected}, but acknowledged up to {}",
                self.acked_next
            ));
        }
        Ok(expected)
    }

    fn judge_record(&mut self, offset: u64, value: &[u8], damage: Damage) -> Result<(), String> {
        let Some(slot) = self.slots.get_mut(&offset) else {
            return Err(format!("record at {offset}, which was never given to any"));
        };
        if slot.value.as_deref() != Some(value) {
            return Err(format!(
                "record at {offset} has another value than was given ({:?})",
                slot.state
            ));
        }
        // As long as nobody was shown anything at or behind its offset, it may still turn up.
        if slot.state == State::Lost && offset < self.acked_next && damage.is_harmless() {
            return Err(format!(
                "record at {offset} is back, but the offsets up to {} were shown without it",
                self.acked_next
            ));
        }
        self.shown += usize::from(slot.state == State::Acked);
        slot.show(damage);
        Ok(())
    }

    fn judge_gap(
        &mut self,
        from: u64,
        to: u64,
        lost: u64,
        why: Why,
        damage: Damage,
    ) -> Result<(), String> {
        let here = || format!("gap {from}..{to} ({why:?}, {lost} lost)");
        let slots = || self.slots.range(from..to).map(|(_, slot)| slot);
        if self.forgiven.contains(&(from, to)) && why == Why::Corrupt {
            return Ok(());
        }
        let missing = slots().filter(|slot| slot.is_acked_record()).count() as u64;
        let planned = slots().filter(|slot| slot.value.is_none()).count() as u64;
        if missing > 0 && damage != Damage::Rot {
            return Err(format!(
                "{missing} acknowledged records are in the {}",
                here()
            ));
        }
        if missing > 0 && why != Why::Corrupt {
            return Err(format!("{missing} rotten records are in the {}", here()));
        }
        if why == Why::Corrupt && damage.is_harmless() {
            return Err(format!("nothing was damaged, but there is a {}", here()));
        }
        if why == Why::Other && planned != to - from {
            return Err(format!("nobody gave the {}", here()));
        }
        if why == Why::Burned && lost > 0 {
            return Err(format!("nothing can be lost in the {}", here()));
        }
        if why != Why::Corrupt {
            self.slots
                .range_mut(from..to)
                .filter(|(_, slot)| slot.value.is_none())
                .for_each(|(_, slot)| slot.show(damage));
        }
        Ok(())
    }

    /// An unacknowledged commit appears as whole frames from its first on, or not.
    fn judge_attempt(&mut self, end: u64, damage: Damage) -> Result<(), String> {
        let Some(attempt) = self.attempt.take() else {
            return Ok(());
        };
        let last = attempt.frame_ends.last().copied().unwrap_or(attempt.first);
        let shown = self
            .slots
            .range(attempt.first..last)
            .take_while(|(_, slot)| slot.state.is_shown())
            .count() as u64;
        let shown_next = attempt.first + shown;
        let whole = shown == 0 || attempt.frame_ends.contains(&shown_next);
        let behind = self
            .slots
            .range(shown_next..last)
            .filter(|(_, slot)| slot.state.is_shown())
            .count();
        if damage.is_harmless() && (!whole || behind > 0) {
            return Err(format!(
                "of the torn commit {attempt:?} records up to {shown_next} and {behind} behind are shown (end {end})"
            ));
        }
        for (_, slot) in self.slots.range_mut(attempt.first..) {
            if slot.state == State::Tried {
                slot.state = State::Lost;
            }
        }
        Ok(())
    }

    fn judge_sums(&self, sums: &Sums, end: u64, damage: Damage) -> Result<(), String> {
        let held = self
            .slots
            .range(sums.oldest..end)
            .filter(|(_, slot)| slot.is_acked_record())
            .count() as u64;
        let total =
            held + sums.handed_over + sums.evicted + sums.expired + sums.corrupt + sums.skipped;
        if damage == Damage::None && total != end {
            return Err(format!(
                "the sum is {total} and not {end}: held {held}, {sums:?}"
            ));
        }
        if damage == Damage::None
            && self.forgiven.is_empty()
            && (sums.handed_over, sums.evicted, sums.corrupt) != (self.handed_over, self.evicted, 0)
        {
            return Err(format!(
                "{} were handed over and {} evicted, but the ledger says {sums:?}",
                self.handed_over, self.evicted
            ));
        }
        Ok(())
    }
}

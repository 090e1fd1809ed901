//! What time it is, decided from what is seen and heard. Knows no clock: every time comes from the caller.
//!
//! ```text
//! nobody vouches ──NTP──► by NTP            the time of day = zero + uptime, where `zero` is when the machine started
//!       │  └─────hub────► by the hub ──NTP──► by NTP
//!       └──plausible, on a machine that keeps the time without power──► believed ──NTP──► by NTP
//! ```
//! A clock that is set while it is known what time it is moves `zero` only if somebody vouches for it; until then the uptime counts on.
//! Why it is so: docs/decisions/0025-a-gateway-without-a-clock.md.

use std::time::Duration;

use sedge_core::Micros;
use serde::{Deserialize, Serialize};

/// Who says what time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum By {
    /// The clock of the machine, which nobody has confirmed.
    Itself,
    /// A hub whose certificate was good.
    Hub,
    /// The kernel's clock is kept by NTP.
    Ntp,
}

impl By {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Itself => "itself",
            Self::Hub => "hub",
            Self::Ntp => "ntp",
        }
    }

    /// Somebody else says so too.
    pub(crate) const fn is_confirmed(self) -> bool {
        !matches!(self, Self::Itself)
    }
}

/// When the machine started, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// Microseconds from 1970 to the start.
    pub(crate) zero_us: i64,
    pub(crate) by: By,
}

/// What the machine shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Since its start.
    pub(crate) up_us: i64,
    /// By its clock, since 1970.
    pub(crate) system_us: i64,
    /// When NTP has last set the clock right in this start: any number that changes with it.
    pub(crate) ntp: Option<u64>,
    /// The clock is neither behind a time that has been nor far ahead of it.
    pub(crate) plausible: bool,
}

/// What has become of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is known now, and was not.
    Learned(Known),
    /// It is another than was thought, by so many microseconds.
    Moved(Known, i64),
    /// Another vouches for the same time.
    Confirmed(Known),
    /// The clock was set, and nobody vouches for it: it is off by so many microseconds.
    Jumped(i64),
}

/// What is known of the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keeper {
    /// Plausible is enough.
    believes: bool,
    known: Option<Known>,
    ntp: Option<u64>,
    /// By how much the machine's clock is ahead of what is known.
    off_us: i64,
    /// The last time that was given.
    latest_us: i64,
}

impl Keeper {
    /// What an earlier life in the same start knew, and what it had seen of NTP.
    pub(crate) fn new(believes: bool, known: Option<Known>, ntp: Option<u64>) -> Self {
        Self {
            believes,
            known: known.filter(|known| known.by.is_confirmed()),
            ntp,
            off_us: 0,
            latest_us: i64::MIN,
        }
    }

    /// Looks at the machine's clock.
    pub(crate) fn look(&mut self, look: Look) -> Option<Change> {
        let zero_us = look.system_us.saturating_sub(look.up_us);
        if look.ntp.is_some() && look.ntp != self.ntp {
            self.ntp = look.ntp;
            return self.learn(Known {
                zero_us,
                by: By::Ntp,
            });
        }
        let Some(known) = &mut self.known else {
            let by = By::Itself;
            let believed = self.believes && look.plausible;
            return believed
                .then(|| self.learn(Known { zero_us, by }))
                .flatten();
        };
        let (off_us, before_us) = (zero_us.saturating_sub(known.zero_us), self.off_us);
        if off_us.unsigned_abs() <= SLIGHT_US {
            // What NTP does from day to day, and a leap second.
            known.zero_us = zero_us;
            self.off_us = 0;
            return None;
        }
        self.off_us = off_us;
        (off_us.abs_diff(before_us) > SLIGHT_US).then_some(Change::Jumped(off_us))
    }

    /// A hub that can be trusted says that it is `theirs_us`. It knows better than nobody, and no better than NTP or a clock that runs without power.
    pub(crate) fn heard(&mut self, look: Look, theirs_us: i64) -> Option<Change> {
        let theirs = theirs_us.saturating_sub(look.up_us);
        let ours = look.system_us.saturating_sub(look.up_us);
        let by = By::Hub;
        let agrees = |zero_us: i64| zero_us.abs_diff(theirs) <= AGREE_US;
        match self.known {
            // A clock that was set, by somebody who was right.
            Some(known) if agrees(ours) && !agrees(known.zero_us) => {
                self.learn(Known { zero_us: ours, by })
            }
            Some(known) if agrees(known.zero_us) && !known.by.is_confirmed() => {
                self.learn(Known { by, ..known })
            }
            Some(_) => None,
            // The hub's clock comes in seconds; ours is finer, where it is right.
            None if agrees(ours) => self.learn(Known { zero_us: ours, by }),
            None => self.learn(Known {
                zero_us: theirs,
                by,
            }),
        }
    }

    fn learn(&mut self, known: Known) -> Option<Change> {
        let before = self.known.replace(known);
        self.off_us = 0;
        let Some(before) = before else {
            return Some(Change::Learned(known));
        };
        let by_us = known.zero_us.saturating_sub(before.zero_us);
        if by_us.unsigned_abs() > SLIGHT_US {
            return Some(Change::Moved(known, by_us));
        }
        (before.by != known.by).then_some(Change::Confirmed(known))
    }

    /// The time of day when the machine has been up for `up_us`. It does not go back by what nobody would notice.
    pub(crate) fn time(&mut self, up_us: i64) -> Option<Micros> {
        let time_us = self.known?.zero_us.saturating_add(up_us);
        let back_us = self.latest_us.saturating_sub(time_us);
        if !(0..=SLIGHT_US.cast_signed()).contains(&back_us) {
            self.latest_us = time_us;
        }
        Some(Micros::new(self.latest_us))
    }

    pub(crate) const fn known(&self) -> Option<Known> {
        self.known
    }

    pub(crate) const fn ntp(&self) -> Option<u64> {
        self.ntp
    }

    /// By how much the machine's clock is wrong, and whether it is ahead, if it was set and nobody vouches for that.
    pub(crate) fn off(&self) -> Option<(Duration, bool)> {
        let off = Duration::from_micros(self.off_us.unsigned_abs());
        (self.off_us != 0).then_some((off, self.off_us > 0))
    }
}

/// A step of the clock up to this is followed as it comes: NTP makes such, and so does a leap second.
const SLIGHT_US: u64 = 1_500_000;
/// A hub's clock comes in whole seconds, and takes its time on the way.
const AGREE_US: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;
    const YEAR: i64 = 365 * 86_400 * S;
    /// When the machine started.
    const ZERO: i64 = 1_795_168_800 * S;

    fn look(up_s: i64, off_us: i64) -> Look {
        Look {
            up_us: up_s * S,
            system_us: ZERO + up_s * S + off_us,
            ntp: None,
            plausible: true,
        }
    }

    fn believing() -> Keeper {
        let mut keeper = Keeper::new(true, None, None);
        keeper.look(look(1, 0));
        keeper
    }

    fn at(keeper: &mut Keeper, up_s: i64) -> Option<i64> {
        keeper.time(up_s * S).map(|time| time.get() - ZERO)
    }

    /// A board without a battery starts with the time at which it was last seen alive: plausible, and wrong.
    #[test]
    fn a_clock_that_nobody_vouches_for_gives_no_time_and_ntp_gives_it_back_to_the_start() {
        let mut keeper = Keeper::new(false, None, None);
        assert_eq!(keeper.look(look(5, -40 * 86_400 * S)), None);
        assert_eq!(keeper.time(5 * S), None);
        let synchronised = Look {
            ntp: Some(1),
            ..look(30, 0)
        };
        let known = Known {
            zero_us: ZERO,
            by: By::Ntp,
        };
        assert_eq!(keeper.look(synchronised), Some(Change::Learned(known)));
        assert_eq!(at(&mut keeper, 31), Some(31 * S));
    }

    #[test]
    fn a_clock_behind_a_time_that_has_been_is_not_believed() {
        let mut keeper = Keeper::new(true, None, None);
        let in_1970 = Look {
            system_us: 7 * S,
            plausible: false,
            ..look(7, 0)
        };
        assert_eq!(keeper.look(in_1970), None);
        assert_eq!(keeper.time(8 * S), None);
    }

    #[test]
    fn a_clock_that_jumps_by_years_does_not_move_the_time() {
        let mut keeper = believing();
        let mut before = at(&mut keeper, 2).unwrap();
        for (up_s, off_us) in [(3, 2 * YEAR), (4, 2 * YEAR), (5, -30 * YEAR), (6, 0)] {
            let change = keeper.look(look(up_s, off_us));
            let jumps = up_s != 4 && off_us != 0;
            assert_eq!(change, jumps.then_some(Change::Jumped(off_us)), "{up_s}");
            let now = at(&mut keeper, up_s).unwrap();
            assert_eq!(now - before, S);
            before = now;
        }
        assert_eq!(keeper.off(), None, "it was set back");
    }

    #[test]
    fn a_clock_that_jumps_is_followed_when_ntp_or_the_hub_vouches_for_it() {
        let off = 3 * YEAR;
        let mut by_ntp = believing();
        by_ntp.look(look(3, off));
        let synchronised = Look {
            ntp: Some(9),
            ..look(4, off)
        };
        assert!(matches!(by_ntp.look(synchronised), Some(Change::Moved(_, moved)) if moved == off));
        let mut by_hub = believing();
        by_hub.look(look(3, off));
        let heard = by_hub.heard(look(4, off), ZERO + 4 * S + off - S / 2);
        assert!(matches!(heard, Some(Change::Moved(_, moved)) if moved == off));
        assert_eq!(at(&mut by_hub, 5), Some(5 * S + off));
    }

    /// Its sign that it has synchronised stays where it is when somebody sets the clock by hand.
    #[test]
    fn ntp_vouches_only_for_what_it_has_set_since() {
        let mut keeper = Keeper::new(false, None, None);
        let synchronised = |up_s, off_us| Look {
            ntp: Some(9),
            ..look(up_s, off_us)
        };
        keeper.look(synchronised(3, 0));
        assert_eq!(
            keeper.look(synchronised(4, YEAR)),
            Some(Change::Jumped(YEAR))
        );
        let mut next_life = Keeper::new(false, keeper.known(), keeper.ntp());
        assert_eq!(
            next_life.look(synchronised(5, YEAR)),
            Some(Change::Jumped(YEAR))
        );
        assert_eq!(at(&mut next_life, 6), Some(6 * S));
    }

    #[test]
    fn a_hub_tells_the_time_where_nobody_does_and_overrules_nobody_who_knows() {
        let mut keeper = Keeper::new(false, None, None);
        let wrong = look(3, -YEAR);
        assert!(matches!(
            keeper.heard(wrong, ZERO + 3 * S),
            Some(Change::Learned(_))
        ));
        assert_eq!(at(&mut keeper, 4), Some(4 * S));
        let mut sure = believing();
        assert_eq!(sure.heard(look(3, 0), ZERO + YEAR), None);
        assert_eq!(at(&mut sure, 4), Some(4 * S));
        assert!(matches!(
            sure.heard(look(5, 0), ZERO + 5 * S),
            Some(Change::Confirmed(Known { by: By::Hub, .. }))
        ));
    }

    #[test]
    fn a_leap_second_lets_the_time_wait_and_not_go_back() {
        let mut keeper = believing();
        let before = at(&mut keeper, 10);
        keeper.look(look(10, -S));
        assert_eq!(at(&mut keeper, 10), before);
        assert_eq!(at(&mut keeper, 12), Some(11 * S));
    }
}

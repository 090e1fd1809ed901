//! The starts of this machine that are remembered: how long each lasted, and what time it was when it began. With them an age can be told
//! without trusting a clock, and an uptime becomes a time of day.

use std::time::Duration;

use sedge_core::Micros;
use serde::{Deserialize, Serialize};

use super::keeper::{By, Known};

/// The starts in their order; the last one is the present one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Starts {
    #[serde(default, rename = "start")]
    rows: Vec<Start>,
}

/// A start, or as much of it as one idea of the time lasted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Start {
    /// Counted from the first start.
    number: u32,
    /// The kernel's name for it.
    boot: String,
    /// How long the machine was on before it began.
    on_before_us: u64,
    /// How long it was seen to last.
    lasted_us: u64,
    /// What NTP had set last.
    #[serde(skip_serializing_if = "Option::is_none")]
    ntp: Option<u64>,
    /// When it began, as the times that were given in it say.
    #[serde(skip_serializing_if = "Option::is_none")]
    zero_us: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<By>,
    /// When it really began, as was learned later.
    #[serde(skip_serializing_if = "Option::is_none")]
    really_us: Option<i64>,
    /// Times were given as uptimes, before it was known when it began.
    #[serde(default)]
    had_no_time: bool,
}

impl Starts {
    /// The machine's present start is called `boot`. If it is the first of all it gets the number `first`.
    pub(crate) fn begin(&mut self, boot: &str, first: u32) {
        if self.rows.last().is_some_and(|last| last.boot == boot) {
            return;
        }
        let last = self.rows.last();
        let start = Start {
            number: last.map_or(first, |last| last.number.wrapping_add(1)),
            boot: boot.to_owned(),
            on_before_us: last.map_or(0, |last| last.on_before_us + last.lasted_us),
            lasted_us: 0,
            ntp: None,
            zero_us: None,
            by: None,
            really_us: None,
            had_no_time: false,
        };
        self.push(start);
    }

    fn push(&mut self, start: Start) {
        if self.rows.len() == STARTS_MAX {
            self.rows.remove(0);
        }
        self.rows.push(start);
    }

    /// The present one's number.
    pub(crate) fn number(&self) -> u16 {
        self.rows.last().map_or(0, Start::told)
    }

    /// What was known in it, and seen of NTP.
    pub(crate) fn known(&self) -> (Option<Known>, Option<u64>) {
        let last = self.rows.last();
        let known = last.and_then(|last| {
            Some(Known {
                zero_us: last.zero_us?,
                by: last.by?,
            })
        });
        (known, last.and_then(|last| last.ntp))
    }

    /// It is still going on.
    pub(crate) fn lasts(&mut self, up_us: i64) {
        if let Some(last) = self.rows.last_mut() {
            last.lasted_us = last.lasted_us.max(u64::try_from(up_us).unwrap_or(0));
        }
    }

    /// An uptime was given for a time. Says whether that is news.
    pub(crate) fn has_no_time(&mut self) -> bool {
        let last = self.rows.last_mut();
        last.is_some_and(|last| !std::mem::replace(&mut last.had_no_time, true))
    }

    /// It is known when it began, or something else is: then the times that were given so far keep their row.
    pub(crate) fn learn(&mut self, known: Known, ntp: Option<u64>, moved: bool) {
        let Some(last) = self.rows.last_mut() else {
            return;
        };
        if moved {
            last.really_us = Some(known.zero_us);
            let next = Start {
                number: last.number.wrapping_add(1),
                really_us: None,
                had_no_time: false,
                ..last.clone()
            };
            self.push(next);
        }
        if let Some(last) = self.rows.last_mut() {
            (last.zero_us, last.by, last.ntp) = (Some(known.zero_us), Some(known.by), ntp);
        }
    }

    /// The uptime at which the present start's uptimes, if any were given for times, become times of day: its number, and when it began.
    pub(crate) fn correction(&self) -> Option<(u16, i64)> {
        let last = self.rows.last()?;
        let first = self.rows.iter().find(|start| start.boot == last.boot)?;
        let zero_us = last.zero_us?;
        first.had_no_time.then_some((first.told(), zero_us))
    }

    /// When the starts began in which uptimes were given for times, as far as is known today.
    pub(crate) fn beginnings(&self) -> impl Iterator<Item = (u16, i64)> + '_ {
        let without_time = self.rows.iter().rev().filter(|start| start.had_no_time);
        without_time.filter_map(|start| Some((start.told(), start.began_us()?)))
    }

    /// How old a time is that was given by this machine when it has been up for `up_us`: by the time of day, if that is confirmed, else by how long
    /// the machine was on since. None if nobody can tell.
    pub(crate) fn age(&self, time: Micros, up_us: i64, now: Option<Known>) -> Option<Duration> {
        let confirmed = now.filter(|known| known.by.is_confirmed());
        let wall = confirmed.and_then(|known| {
            let then_us = self.time_of_day(time)?;
            Some(
                known
                    .zero_us
                    .saturating_add(up_us)
                    .saturating_sub(then_us)
                    .max(0),
            )
        });
        if let Some(age_us) = wall {
            return Some(Duration::from_micros(age_us.unsigned_abs()));
        }
        let last = self.rows.last()?;
        let on_us = last.on_before_us + u64::try_from(up_us).unwrap_or(0);
        let (start, then_us) = self.place(time)?;
        Some(Duration::from_micros(
            on_us.saturating_sub(start.on_before_us + then_us),
        ))
    }

    /// The time of day of what this machine has stamped with `time`, as far as is known today.
    fn time_of_day(&self, time: Micros) -> Option<i64> {
        let placed = self.place(time);
        let really = placed
            .and_then(|(start, up_us)| Some(start.began_us()?.saturating_add_unsigned(up_us)));
        really.or_else(|| time.is_known().then(|| time.get()))
    }

    /// The start in which `time` was given, and the uptime there.
    fn place(&self, time: Micros) -> Option<(&Start, u64)> {
        let mut latest_first = self.rows.iter().rev();
        if let Some((number, up_us)) = time.uptime() {
            let start = latest_first.find(|start| start.told() == number)?;
            return Some((start, up_us));
        }
        if !time.is_known() {
            return None;
        }
        // Where the clock was set back, two starts may have given the same time: the earlier one is no younger.
        self.rows.iter().find_map(|start| {
            let up_us = u64::try_from(time.get().checked_sub(start.zero_us?)?).ok()?;
            let is_last = Some(start) == self.rows.last();
            (is_last || up_us <= start.lasted_us + SEEN_EVERY_US).then_some((start, up_us))
        })
    }
}

impl Start {
    /// Its number as uptimes tell it.
    fn told(&self) -> u16 {
        let number = self.number % u32::from(Micros::STARTS);
        u16::try_from(number).unwrap_or_default()
    }

    /// When it began, as far as is known today.
    fn began_us(&self) -> Option<i64> {
        self.really_us.or(self.zero_us)
    }
}

/// Starts that are remembered: a log that is older than so many knows no age by the time the machine was on.
const STARTS_MAX: usize = 256;
/// A start may have lasted this much longer than it was seen to.
pub(crate) const SEEN_EVERY_US: u64 = 3_600_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;
    const HOUR: i64 = 3_600 * S;
    const DAY: i64 = 24 * HOUR;
    const ZERO: i64 = 1_795_168_800 * S;

    fn known(zero_us: i64, by: By) -> Known {
        Known { zero_us, by }
    }

    fn begun(boot: &str) -> Starts {
        let mut starts = Starts::default();
        starts.begin(boot, 0);
        starts
    }

    fn hours(age: Option<Duration>) -> Option<u64> {
        age.map(|age| age.as_secs() / 3_600)
    }

    #[test]
    fn what_was_stamped_without_a_time_has_one_when_the_start_is_known() {
        let mut starts = begun("a");
        let early = Micros::of_uptime(starts.number(), 60_000_000);
        assert!(starts.has_no_time() && !starts.has_no_time());
        assert_eq!(starts.correction(), None);
        assert_eq!(hours(starts.age(early, 2 * HOUR, None)), Some(1));
        let now = known(ZERO, By::Ntp);
        starts.learn(now, Some(4), false);
        assert_eq!(starts.correction(), Some((0, ZERO)));
        assert_eq!(hours(starts.age(early, 2 * HOUR, Some(now))), Some(1));
        let told = |starts: &Starts| starts.beginnings().collect::<Vec<_>>();
        assert_eq!(told(&starts), [(0, ZERO)]);
        starts.begin("b", 0);
        assert_eq!(told(&starts), [(0, ZERO)], "it gave none without a time");
        assert!(starts.has_no_time());
        assert_eq!(told(&starts), [(0, ZERO)], "nobody knows yet");
        assert_eq!(starts.correction(), None, "that was another start");
        let later = known(ZERO + 30 * DAY, By::Ntp);
        assert_eq!(
            hours(starts.age(early, HOUR, Some(later))),
            Some(30 * 24),
            "to the minute before"
        );
    }

    /// The machine's clock says that years have passed, and nobody confirms it: what was stamped an hour ago is an hour old.
    #[test]
    fn a_clock_that_is_not_confirmed_ages_nothing_by_more_than_the_machine_was_on() {
        let mut starts = begun("a");
        starts.learn(known(ZERO, By::Itself), None, false);
        let stamped = Micros::new(ZERO + HOUR);
        starts.lasts(5 * HOUR);
        starts.begin("b", 0);
        let jumped = known(ZERO + 900 * DAY, By::Itself);
        starts.learn(jumped, None, false);
        assert_eq!(hours(starts.age(stamped, 2 * HOUR, Some(jumped))), Some(6));
    }

    /// It was believed to be April; then NTP says May. What was stamped by the first idea of the time is judged by the second.
    #[test]
    fn a_time_that_turns_out_wrong_ages_nothing_when_it_is_set_right() {
        let mut starts = begun("a");
        starts.learn(known(ZERO, By::Itself), None, false);
        let stamped = Micros::new(ZERO + HOUR);
        starts.lasts(2 * HOUR);
        let right = known(ZERO + 40 * DAY, By::Ntp);
        starts.learn(right, Some(1), true);
        assert_eq!(hours(starts.age(stamped, 3 * HOUR, Some(right))), Some(2));
        let since = Micros::new(right.zero_us + 2 * HOUR);
        assert_eq!(hours(starts.age(since, 3 * HOUR, Some(right))), Some(1));
        assert_ne!(
            starts.number(),
            0,
            "uptimes would be of another idea of the time"
        );
    }

    #[test]
    fn what_nobody_can_place_has_no_age() {
        let starts = begun("a");
        for time in [Micros::UNKNOWN, Micros::new(ZERO), Micros::of_uptime(9, 5)] {
            assert_eq!(starts.age(time, HOUR, None), None, "{time:?}");
        }
        let now = Some(known(ZERO + DAY, By::Hub));
        assert_eq!(hours(starts.age(Micros::new(ZERO), HOUR, now)), Some(25));
    }

    #[test]
    fn the_oldest_starts_are_forgotten_and_none_is_begun_twice() {
        let mut starts = Starts::default();
        for n in 0..STARTS_MAX + 10 {
            starts.begin(&n.to_string(), 0);
            starts.begin(&n.to_string(), 0);
            starts.lasts(HOUR);
        }
        assert_eq!(starts.rows.len(), STARTS_MAX);
        assert_eq!(usize::from(starts.number()), STARTS_MAX + 9);
        let first = starts.age(Micros::of_uptime(0, 5), 0, None);
        assert_eq!(first, None);
        let held = starts.age(Micros::of_uptime(10, 0), HOUR, None);
        assert_eq!(hours(held), Some(STARTS_MAX as u64));
    }
}

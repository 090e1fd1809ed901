//! How much is sent at once, how fast, and when: what the link can take, and what its owner lets it cost.
//!
//! Frames are handed to the connection in pieces of about a quarter of a second, so that a live record never waits long behind a backlog. Time is an
//! argument; the place where what was spent is kept is the only thing outside.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use jiff::civil::Date;
use sedge_core::Micros;
use sedge_store::{read_toml, write_toml};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// What an uplink may cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes a second.
    pub rate_bytes: Option<u64>,
    /// Bytes a day, by the local calendar, in both directions.
    pub day_bytes: Option<u64>,
    /// The same a month.
    pub month_bytes: Option<u64>,
    /// When records may be sent; none is always.
    pub windows: Vec<Window>,
    /// Messages are made smaller where the link is slow, or what it carries is counted.
    pub packs: bool,
    /// Where it is kept what was spent; without it, a new process begins at 0.
    pub kept: Option<PathBuf>,
}

/// A part of each day: from one minute of it up to another, over midnight if that is the smaller one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first minute, 0 to 1439.
    pub from: u16,
    /// One past the last.
    pub to: u16,
}

impl Window {
    const fn holds(self, minute: u16) -> bool {
        if self.from <= self.to {
            self.from <= minute && minute < self.to
        } else {
            self.from <= minute || minute < self.to
        }
    }
}

/// Why records wait, though the hub is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Window { opens: u16 },
    Day,
    Month,
}

/// The pace of one forwarder, over all its connections.
#[derive(Debug)]
pub(super) struct Pace {
    limits: Limits,
    spent: Spent,
    /// Bytes that may go at once; below 0, what was sent too early.
    level: f64,
    filled: Instant,
    meter: Meter,
    /// When the hub was told last how the gateway is.
    pub(super) reported: Option<Instant>,
}

/// What was spent, by the calendar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Spent {
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<Date>,
    day_bytes: u64,
    month_bytes: u64,
    #[serde(skip)]
    unkept: u64,
}

/// What the connection takes while there is always more for it.
#[derive(Debug, Default)]
struct Meter {
    bytes_per_second: Option<f64>,
    busy: Duration,
    bytes: u64,
    was_busy: bool,
    seen: Option<Instant>,
    /// The first pieces, as long as nothing is measured.
    first: usize,
}

/// The local calendar and clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Local {
    date: Date,
    minute: u16,
}

impl Local {
    /// At this time; none if it is not known.
    fn at(now: Micros) -> Option<Self> {
        let known = now.is_known() && now.get() > 0;
        let time = jiff::Timestamp::from_microsecond(now.get()).ok();
        let time = time.filter(|_| known)?;
        let local = time.to_zoned(jiff::tz::TimeZone::system()).datetime();
        let minute = local.hour() as u16 * 60 + local.minute() as u16;
        Some(Self {
            date: local.date(),
            minute,
        })
    }
}

impl Pace {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        // What cannot be read is taken for nothing: records are worth more than bytes.
        let kept = limits.kept.as_deref().filter(|path| path.exists());
        let spent = kept.and_then(|path| match read_toml(path) {
            Ok(spent) => Some(spent),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what the uplink has spent is not known any more: counted from 0");
                None
            }
        });
        Self {
            limits,
            spent: spent.unwrap_or_default(),
            level: 0.0,
            filled: now,
            meter: Meter::default(),
            reported: None,
        }
    }

    /// The calendar at this time, if something depends on it.
    pub(super) fn local(&self, now: Micros) -> Option<Local> {
        let asks = self.is_counted() || !self.limits.windows.is_empty();
        asks.then(|| Local::at(now)).flatten()
    }

    /// So many bytes have moved, `out` of them away from here; `waiting` says whether more would leave at once. Costs only what was agreed to be counted.
    pub(super) fn moved(
        &mut self,
        out: u64,
        both: u64,
        waiting: bool,
        now: Instant,
        local: Option<Local>,
    ) {
        self.meter.turn(out, waiting, now);
        self.fill(now);
        if self.limits.rate_bytes.is_some() {
            self.level -= out as f64;
        }
        if self.is_counted() && both > 0 {
            self.spent.spend(both, local.map(|l| l.date));
            let share = self.limits.day_bytes.into_iter();
            let share = share.chain(self.limits.month_bytes.map(|month| month / 30));
            if share.min().is_some_and(|day| self.spent.unkept > day / 100) {
                self.keep();
            }
        }
    }

    /// Writes down what was spent.
    pub(super) fn keep(&mut self) {
        let Some(path) = self
            .limits
            .kept
            .as_deref()
            .filter(|_| self.spent.unkept > 0)
        else {
            return;
        };
        self.spent.unkept = 0;
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) = made.and_then(|()| write_toml(path, &self.spent)) {
            tracing::warn!(path = %path.display(), %error, "what the uplink has spent cannot be kept");
        }
    }

    /// Why nothing but what is urgent may go now.
    pub(super) fn held(&mut self, local: Option<Local>) -> Option<Held> {
        // Without a time no day ends, and no window opens: then what is windowed goes.
        if let Some(local) = local {
            self.spent.turn_to(local.date);
            let windows = &self.limits.windows;
            if !windows.is_empty() && !windows.iter().any(|w| w.holds(local.minute)) {
                let until = |w: &Window| (w.from + DAY_MINUTES - local.minute) % DAY_MINUTES;
                let next = windows.iter().min_by_key(|w| until(w))?;
                return Some(Held::Window { opens: next.from });
            }
        }
        let over = |spent: u64, most: Option<u64>| most.is_some_and(|most| spent >= most);
        if over(self.spent.day_bytes, self.limits.day_bytes) {
            return Some(Held::Day);
        }
        over(self.spent.month_bytes, self.limits.month_bytes).then_some(Held::Month)
    }

    /// How long to wait until the rate lets the next piece go.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Duration> {
        let rate = self.limits.rate_bytes? as f64;
        self.fill(now);
        (self.level < 0.0).then(|| Duration::from_secs_f64(-self.level / rate))
    }

    /// Bytes of frames in one message, and about as many may wait to leave.
    pub(super) fn piece_bytes(&self) -> usize {
        let measured = match self.meter.bytes_per_second {
            Some(rate) => rate * PIECE.as_secs_f64(),
            None => self.meter.first.max(PIECE_FIRST) as f64,
        };
        let allowed = self
            .limits
            .rate_bytes
            .map_or(f64::MAX, |rate| (rate as f64) * PIECE.as_secs_f64());
        (measured.min(allowed) as usize).clamp(PIECE_MIN, PIECE_MAX)
    }

    /// Whether it pays to make messages smaller: the link is slower than that, or what it carries is counted.
    pub(super) fn packs(&self) -> bool {
        let is_slow = self.meter.bytes_per_second.is_some_and(|rate| rate < SLOW);
        self.limits.packs && (is_slow || self.is_counted() || self.limits.rate_bytes.is_some())
    }

    /// A piece was handed over.
    pub(super) fn began(&mut self) {
        self.meter.first = (self.meter.first * 2).clamp(PIECE_FIRST, PIECE_MAX);
    }

    /// Another connection: what is known of the one before may be wrong.
    pub(super) fn reconnected(&mut self) {
        self.meter = Meter::default();
    }

    /// Whether each byte counts.
    pub(super) fn is_counted(&self) -> bool {
        self.limits.day_bytes.is_some() || self.limits.month_bytes.is_some()
    }

    fn fill(&mut self, now: Instant) {
        let Some(rate) = self.limits.rate_bytes else {
            return;
        };
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        let most = rate as f64 * PIECE.as_secs_f64();
        self.level = (self.level + elapsed * rate as f64).min(most);
        self.filled = now;
    }
}

impl Spent {
    fn spend(&mut self, bytes: u64, date: Option<Date>) {
        if let Some(date) = date {
            self.turn_to(date);
        }
        self.day_bytes = self.day_bytes.saturating_add(bytes);
        self.month_bytes = self.month_bytes.saturating_add(bytes);
        self.unkept = self.unkept.saturating_add(bytes);
    }

    /// A clock that is put back opens no budget a second time. One that was far ahead is followed back, so that no day lasts until it comes.
    fn turn_to(&mut self, date: Date) {
        let Some(before) = self.date else {
            self.date = Some(date);
            return;
        };
        let far = date.saturating_add(jiff::Span::new().days(DAYS_BACK));
        if far < before {
            self.date = Some(date);
        }
        if date > before {
            self.date = Some(date);
            self.day_bytes = 0;
            if date.first_of_month() > before.first_of_month() {
                self.month_bytes = 0;
            }
        }
    }
}

impl Meter {
    fn turn(&mut self, out: u64, waiting: bool, now: Instant) {
        if let Some(seen) = self.seen.filter(|_| self.was_busy) {
            self.busy += now.saturating_duration_since(seen);
            self.bytes += out;
        }
        (self.seen, self.was_busy) = (Some(now), waiting);
        if self.busy < MEASURED {
            return;
        }
        let rate = self.bytes as f64 / self.busy.as_secs_f64();
        let before = self.bytes_per_second.unwrap_or(rate);
        self.bytes_per_second = Some((before + rate) / 2.0);
        (self.busy, self.bytes) = (Duration::ZERO, 0);
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Window { opens } => {
                let (hour, minute) = (opens / 60, opens % 60);
                write!(f, "outside its windows until {hour:02}:{minute:02}")
            }
            Self::Day => f.write_str("what a day may cost is spent"),
            Self::Month => f.write_str("what a month may cost is spent"),
        }
    }
}

const DAY_MINUTES: u16 = 24 * 60;
/// A clock that is put back by no more than this is waited for.
const DAYS_BACK: i64 = 2;
/// What one message takes of the link.
const PIECE: Duration = Duration::from_millis(250);
/// The first one of a connection.
const PIECE_FIRST: usize = 8 * 1024;
const PIECE_MIN: usize = 2 * 1024;
const PIECE_MAX: usize = 256 * 1024;
/// Bytes a second. A link that carries more takes them faster than a small processor packs them.
const SLOW: f64 = 2_000_000.0;
/// A connection that was busy for so long is measured.
const MEASURED: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn local(date: Date, hour: u16) -> Option<Local> {
        Some(Local {
            date,
            minute: hour * 60,
        })
    }

    fn pace(limits: Limits) -> (Pace, Instant) {
        let now = Instant::now();
        (Pace::new(limits, now), now)
    }

    /// What was spent on a day and in a month is a sum, whichever way the clock goes in between.
    #[test]
    fn what_is_spent_is_counted_by_the_day_and_by_the_month() {
        let mut spent = Spent::default();
        let mut sums = |bytes, date| {
            spent.spend(bytes, date);
            (spent.day_bytes, spent.month_bytes, spent.unkept)
        };
        let day = |day| Some(date(2026, 11, day));
        assert_eq!(sums(10, None), (10, 10, 10));
        assert_eq!(sums(5, day(20)), (15, 15, 15));
        assert_eq!(sums(5, day(20)), (20, 20, 20));
        assert_eq!(sums(7, day(21)), (7, 27, 27));
        assert_eq!(sums(1, day(21)), (8, 28, 28));
        assert_eq!(sums(1, day(20)), (9, 29, 29), "the clock was put back");
        assert_eq!(sums(1, day(21)), (10, 30, 30));
        assert_eq!(sums(1, Some(date(2026, 12, 1))), (1, 1, 31));
        assert_eq!(sums(1, Some(date(2026, 12, 1))), (2, 2, 32));
    }

    #[test]
    fn a_rate_holds_over_a_minute_and_never_bursts_more_than_a_piece() {
        let rate = 32_000;
        let (mut pace, begin) = pace(Limits {
            rate_bytes: Some(rate),
            ..Limits::default()
        });
        let (mut now, mut sent) = (begin, 0);
        while now < begin + Duration::from_secs(60) {
            match pace.wait(now) {
                Some(wait) => now += wait + Duration::from_micros(1),
                None => {
                    let piece = pace.piece_bytes() as u64;
                    assert!(piece <= rate / 4);
                    pace.began();
                    pace.moved(piece, piece, false, now, None);
                    sent += piece;
                }
            }
        }
        let most = rate * 60 + rate / 2;
        assert!(
            (rate * 60..=most).contains(&sent),
            "{sent} bytes in a minute"
        );
    }

    #[test]
    fn a_slow_link_gets_pieces_of_a_quarter_of_a_second() {
        let (mut pace, begin) = pace(Limits::default());
        assert_eq!(pace.piece_bytes(), PIECE_FIRST);
        for turn in 0..40_u32 {
            pace.moved(
                1_000,
                1_000,
                true,
                begin + turn * Duration::from_millis(50),
                None,
            );
        }
        assert_eq!(pace.piece_bytes(), 5_000);
        pace.reconnected();
        assert_eq!(pace.piece_bytes(), PIECE_FIRST);
    }

    #[test]
    fn a_link_that_is_never_busy_soon_gets_the_largest_pieces() {
        let (mut pace, begin) = pace(Limits::default());
        for turn in 0..6 {
            pace.began();
            pace.moved(
                100_000,
                100_000,
                false,
                begin + turn * Duration::from_millis(1),
                None,
            );
        }
        assert_eq!(pace.piece_bytes(), PIECE_MAX);
    }

    #[test]
    fn a_day_that_is_spent_ends_at_midnight_and_a_month_with_the_month() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits {
            day_bytes: Some(1_000),
            month_bytes: Some(2_500),
            kept: Some(dir.path().join("budget/hq.toml")),
            ..Limits::default()
        };
        let (mut pace, now) = pace(limits.clone());
        let day = |day| local(date(2026, 11, day), 12);
        pace.moved(600, 1_000, false, now, day(26));
        assert_eq!(pace.held(day(26)), Some(Held::Day));
        assert_eq!(pace.held(day(27)), None);
        pace.moved(999, 999, false, now, day(27));
        assert_eq!(pace.held(day(26)), None, "the clock is put back");
        pace.moved(1, 1, false, now, day(26));
        assert_eq!(pace.held(day(26)), Some(Held::Day));
        pace.moved(500, 500, false, now, day(28));
        assert_eq!(pace.held(day(28)), Some(Held::Month));
        pace.keep();
        drop(pace);
        let mut pace = Pace::new(limits, now);
        assert_eq!(pace.held(day(28)), Some(Held::Month), "another process");
        assert_eq!(pace.held(local(date(2026, 12, 1), 0)), None);
    }

    #[test]
    fn a_clock_that_was_weeks_ahead_does_not_close_a_budget_for_weeks() {
        let (mut pace, now) = pace(Limits {
            day_bytes: Some(1_000),
            ..Limits::default()
        });
        let day = |day| local(date(2026, 11, day), 12);
        pace.moved(600, 600, false, now, day(28));
        pace.moved(600, 600, false, now, day(2));
        assert_eq!(pace.held(day(2)), Some(Held::Day), "it is no other day");
        assert_eq!(pace.held(day(3)), None);
    }

    #[test]
    fn windows_go_over_midnight_and_say_when_they_open() {
        let window = |from: u16, to: u16| Window {
            from: from * 60,
            to: to * 60,
        };
        let (mut pace, _) = pace(Limits {
            windows: vec![window(22, 6), window(12, 13)],
            ..Limits::default()
        });
        let mut held = |hour| pace.held(local(date(2026, 11, 26), hour));
        assert!([0, 5, 12, 22, 23].iter().all(|hour| held(*hour).is_none()));
        assert_eq!(held(6), Some(Held::Window { opens: 12 * 60 }));
        assert_eq!(
            held(13).unwrap().to_string(),
            "outside its windows until 22:00"
        );
        assert_eq!(pace.held(None), None, "nobody knows what time it is");
    }

    /// It is written down when a hundredth of a day's share has moved since, by the smaller of what a day and a thirtieth of a month may cost.
    #[test]
    fn what_was_spent_is_kept_each_time_a_hundredth_of_a_day_has_moved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("budget/hq.toml");
        let day = local(date(2026, 11, 26), 12);
        let kept = || read_toml(&path).map_or(0, |spent: Spent| spent.day_bytes);
        for (day_bytes, month_bytes, hundredth) in [
            (Some(10_000), None, 100),
            (Some(10_000), Some(150_000), 50),
            (Some(10_000), Some(900_000), 100),
            (None, Some(600_000), 200),
        ] {
            let (mut pace, now) = pace(Limits {
                day_bytes,
                month_bytes,
                kept: Some(path.clone()),
                ..Limits::default()
            });
            pace.moved(0, 0, false, now, day);
            let already = kept();
            pace.moved(hundredth, hundredth, false, now, day);
            assert_eq!(kept(), already, "a hundredth and no more");
            pace.moved(0, 1, false, now, day);
            assert_eq!(kept(), already + hundredth + 1);
            pace.moved(0, 1, false, now, day);
            assert_eq!(kept(), already + hundredth + 1);
            pace.keep();
            assert_eq!(kept(), already + hundredth + 2);
        }
        let (mut unlimited, now) = pace(Limits {
            kept: Some(path.clone()),
            ..Limits::default()
        });
        let before = kept();
        unlimited.moved(1 << 30, 1 << 30, false, now, day);
        unlimited.keep();
        assert_eq!(kept(), before, "nothing is counted");
    }

    /// A quarter of a second of a rate may go at once, whatever has waited before; what went too early is waited for.
    #[test]
    fn a_rate_lets_a_piece_go_at_once_and_no_more() {
        let (mut pace, begin) = pace(Limits {
            rate_bytes: Some(40_000),
            ..Limits::default()
        });
        let at = |ms| begin + Duration::from_millis(ms);
        assert_eq!(pace.wait(begin), None);
        pace.moved(4_000, 4_000, false, begin, None);
        assert_eq!(pace.wait(begin), Some(Duration::from_millis(100)));
        assert_eq!(pace.wait(at(60)), Some(Duration::from_millis(40)));
        assert_eq!(pace.wait(at(100)), None);
        // An hour later it is a quarter of a second's worth, and no more.
        pace.moved(10_000, 10_000, false, at(3_600_000), None);
        assert_eq!(pace.wait(at(3_600_000)), None);
        pace.moved(400, 400, false, at(3_600_000), None);
        assert_eq!(pace.wait(at(3_600_000)), Some(Duration::from_millis(10)));
        for bytes in [PIECE_FIRST, 10_000, 10_000] {
            pace.began();
            assert_eq!(pace.piece_bytes(), bytes);
        }
    }

    #[test]
    fn messages_are_made_smaller_where_that_pays_and_only_if_asked() {
        let packs = |packs, limits: Limits, bytes_per_second: Option<u64>| {
            let (mut pace, begin) = pace(Limits { packs, ..limits });
            let bytes = bytes_per_second.unwrap_or(0) / 10;
            let is_busy = bytes_per_second.is_some();
            for turn in 0..3 {
                let now = begin + turn * Duration::from_millis(100);
                pace.moved(bytes, bytes, is_busy, now, None);
            }
            pace.packs()
        };
        let rate = Limits {
            rate_bytes: Some(1 << 30),
            ..Limits::default()
        };
        let month = Limits {
            month_bytes: Some(1 << 40),
            ..Limits::default()
        };
        for (limits, measured, pays) in [
            (Limits::default(), None, false),
            (Limits::default(), Some(1_999_990), true),
            (Limits::default(), Some(2_000_000), false),
            (rate, None, true),
            (month, None, true),
        ] {
            assert_eq!(packs(true, limits.clone(), measured), pays, "{limits:?}");
            assert!(!packs(false, limits, measured));
        }
    }

    #[test]
    fn the_calendar_is_asked_only_where_something_depends_on_it() {
        let noon = Micros::new(1_795_600_000_000_000);
        let day = Limits {
            day_bytes: Some(1),
            ..Limits::default()
        };
        let window = Limits {
            windows: vec![Window { from: 0, to: 60 }],
            ..Limits::default()
        };
        for (limits, asks) in [
            (Limits::default(), false),
            (day.clone(), true),
            (window, true),
        ] {
            assert_eq!(pace(limits).0.local(noon).is_some(), asks);
        }
        let (pace, _) = pace(day);
        for unknown in [Micros::UNKNOWN, Micros::new(0), Micros::of_uptime(3, 9)] {
            assert_eq!(pace.local(unknown), None);
        }
        assert!(pace.local(Micros::new(1)).is_some());
        let minute = |after: i64| {
            let time = Micros::new(noon.get() + after * 60_000_000);
            pace.local(time).unwrap().minute
        };
        for minutes in 0..(2 * i64::from(DAY_MINUTES)) {
            let expected = (i64::from(minute(0)) + minutes) % i64::from(DAY_MINUTES);
            assert_eq!(i64::from(minute(minutes)), expected, "{minutes}");
        }
    }

    #[test]
    fn a_clock_is_followed_back_if_it_was_more_than_two_days_ahead() {
        for (back_to, spent) in [(27, 8), (26, 8), (25, 8)] {
            let mut spent_so_far = Spent::default();
            let day = |day| Some(date(2026, 11, day));
            spent_so_far.spend(7, day(28));
            spent_so_far.spend(1, day(back_to));
            assert_eq!(spent_so_far.day_bytes, spent);
            let is_followed = spent_so_far.date == day(back_to);
            assert_eq!(is_followed, back_to == 25, "{back_to}");
        }
    }

    #[test]
    fn a_connection_is_measured_when_it_was_busy_for_a_tenth_of_a_second() {
        let (mut pace, begin) = pace(Limits::default());
        for (ms, piece) in [(0, PIECE_FIRST), (99, PIECE_FIRST), (100, 12_500)] {
            pace.moved(2_500, 2_500, true, begin + Duration::from_millis(ms), None);
            assert_eq!(pace.piece_bytes(), piece, "{ms}");
        }
        // What moves while nothing waits says nothing of the link.
        pace.moved(0, 0, false, begin + Duration::from_millis(150), None);
        pace.moved(
            1 << 30,
            1 << 30,
            false,
            begin + Duration::from_millis(900),
            None,
        );
        assert_eq!(pace.piece_bytes(), 12_500);
    }
}

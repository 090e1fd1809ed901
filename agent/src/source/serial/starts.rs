//! What time it was on a device that has no clock: its Hellos tie its uptime to this machine's, and records say which start of the device
//! they are of and how long after it.
//!
//! ```text
//! device's uptime   0 ────── record ────────── Hello ──────── record ──►
//! this machine's                                 │ heard               │ now ═ time of day
//! ```
//! The time of day comes in only when a record is stamped. So a clock that is set after the Hello was heard (a machine without one of
//! its own, before the network has told it the time) is right for every record from then on. Why it is so: docs/decisions/0013-time-without-a-clock.md.

use sedge_core::Micros;
use sedge_core::custody::Now;
use sedge_core::custody::message::Clock;
use sedge_core::uptime::Uptime;

/// The starts of one device that were heard of, in their order; the last one is the present one.
#[derive(Debug, Default)]
pub(super) struct Starts(Vec<Start>);

/// What is said of a record's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) time: Option<Micros>,
    pub(super) quality: Quality,
}

/// How good a time is that was not read from a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quality {
    /// Counted from the device's uptime.
    Uptime,
    /// It happened before this: nothing was heard in that start of the device.
    Before,
    /// Nobody knows.
    Unknown,
}

/// One start of the device, as its latest Hello tells.
#[derive(Clone, Copy, Debug)]
struct Start {
    boot: u64,
    /// The device's uptime in the Hello.
    device_us: i64,
    /// This machine's when it was heard.
    heard_us: i64,
    latest: Option<Given>,
}

/// The time that the latest record of a start was given.
#[derive(Clone, Copy, Debug)]
struct Given {
    ms: u64,
    time_us: i64,
}

/// This machine's time of day, as far as it is known.
#[derive(Clone, Copy, Debug)]
struct Wall {
    uptime_us: i64,
    unix_us: i64,
}

impl Starts {
    /// A Hello was heard.
    pub(super) fn hello(&mut self, clock: &Clock, now: Now) {
        let (device_us, heard_us) = (signed(clock.uptime_us), signed(now.uptime_us));
        let mut start = Start {
            boot: clock.boot,
            device_us,
            heard_us,
            latest: None,
        };
        if let Some(last) = self.0.last().copied() {
            if went_back(&last, &start) {
                self.0.clear();
            } else if last.boot == start.boot {
                start.latest = last.latest;
                self.0.pop();
            }
        }
        if self.0.len() == STARTS_MAX {
            self.0.remove(0);
        }
        self.0.push(start);
    }

    /// The time of a record that carries `header`.
    pub(super) fn stamp(&mut self, header: &[u8], now: Now) -> Stamp {
        self.place(header, now).unwrap_or(Stamp::UNKNOWN)
    }

    fn place(&mut self, header: &[u8], now: Now) -> Option<Stamp> {
        let uptime = Uptime::decode(header)?;
        let wall = Wall::of(now)?;
        let later = self.0.iter().find(|start| start.boot > uptime.boot);
        let over = later.map(|start| start.began(wall));
        let Some(start) = self.0.iter_mut().find(|start| start.boot == uptime.boot) else {
            return Some(Stamp {
                time: Some(Micros::new(over?)),
                quality: Quality::Before,
            });
        };
        let time = start.time(uptime.ms, wall, over.unwrap_or(wall.unix_us))?;
        Some(Stamp {
            time: Some(Micros::new(time)),
            quality: Quality::Uptime,
        })
    }
}

impl Start {
    /// The time of day when it was.
    const fn began(&self, wall: Wall) -> i64 {
        self.heard(wall).saturating_sub(self.device_us)
    }

    /// The time of day when its Hello was heard.
    const fn heard(&self, wall: Wall) -> i64 {
        wall.unix_us
            .saturating_sub(wall.uptime_us.saturating_sub(self.heard_us))
    }

    /// The time of a record `ms` after the start, which cannot have been made after `latest_us`. `None` if the device says that it was.
    fn time(&mut self, ms: u64, wall: Wall, latest_us: i64) -> Option<i64> {
        let counted = self.began(wall).saturating_add(micros(ms));
        let fast = latest_us.saturating_sub(self.heard(wall)).max(0) / FAST_PART;
        if counted > latest_us.saturating_add(fast).saturating_add(AHEAD_US) {
            return None;
        }
        // A later Hello may have come through faster, or the device's clock be fast: the order of the records is not doubted for that.
        let before = self.latest.filter(|given| given.ms <= ms);
        let ordered = before.map_or(counted, |given| counted.max(given.time_us));
        let time_us = ordered.min(latest_us);
        if self.latest.is_none_or(|given| given.ms <= ms) {
            self.latest = Some(Given { ms, time_us });
        }
        Some(time_us)
    }
}

impl Wall {
    fn of(now: Now) -> Option<Self> {
        Some(Self {
            uptime_us: signed(now.uptime_us),
            unix_us: now.unix_us.filter(|_| now.trusted)?,
        })
    }
}

impl Stamp {
    const UNKNOWN: Self = Self {
        time: None,
        quality: Quality::Unknown,
    };
}

impl Quality {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Uptime => "uptime",
            Self::Before => "before",
            Self::Unknown => "unknown",
        }
    }
}

/// The device counts its starts anew, or not at all: what was known of them says nothing any more.
const fn went_back(last: &Start, next: &Start) -> bool {
    next.boot < last.boot || (next.boot == last.boot && next.device_us < last.device_us)
}

fn signed(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}

fn micros(ms: u64) -> i64 {
    signed(ms.saturating_mul(1000))
}

/// Starts of a device that are remembered: one that restarts more often between two looks at its records has other worries.
const STARTS_MAX: usize = 8;
/// A Hello that waits on its way is behind by so much at most: the device repeats it every ten seconds.
const AHEAD_US: i64 = 60_000_000;
/// A device's clock may be fast by one in so many. RC oscillators are within two or three in a hundred.
const FAST_PART: i64 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeSet, VecDeque};

    /// A machine whose clock reads `EPOCH_US` when its uptime is 0.
    fn at(us: i64) -> Now {
        Now {
            uptime_us: us.cast_unsigned(),
            unix_us: Some(EPOCH_US + us),
            trusted: true,
        }
    }

    fn clock(boot: u64, uptime_us: i64) -> Clock {
        Clock {
            boot,
            uptime_us: uptime_us.cast_unsigned(),
            ..Clock::default()
        }
    }

    fn header(boot: u64, ms: u64) -> Vec<u8> {
        let mut buffer = [0; Uptime::ENCODED_LEN_MAX];
        let value = Uptime { boot, ms }.encode(&mut buffer);
        value.expect("the longest fits").to_vec()
    }

    fn stamp(time_us: i64, quality: Quality) -> Stamp {
        Stamp {
            time: Some(Micros::new(EPOCH_US + time_us)),
            quality,
        }
    }

    #[test]
    fn a_record_of_this_start_has_the_time_that_its_uptime_tells() {
        let mut starts = Starts::default();
        starts.hello(&clock(3, 5 * S), at(100 * S));
        let earlier = starts.stamp(&header(3, 2_000), at(101 * S));
        assert_eq!(earlier, stamp(97 * S, Quality::Uptime));
        let later = starts.stamp(&header(3, 12_000), at(108 * S));
        assert_eq!(later, stamp(107 * S, Quality::Uptime));
    }

    #[test]
    fn an_earlier_start_that_was_heard_is_counted_and_one_that_was_not_is_before() {
        let mut starts = Starts::default();
        starts.hello(&clock(3, 5 * S), at(100 * S));
        starts.hello(&clock(5, S), at(200 * S));
        let heard = starts.stamp(&header(3, 25_000), at(201 * S));
        assert_eq!(heard, stamp(120 * S, Quality::Uptime));
        let unheard = starts.stamp(&header(4, 25_000), at(201 * S));
        assert_eq!(unheard, stamp(199 * S, Quality::Before));
        let first = starts.stamp(&header(2, 25_000), at(201 * S));
        assert_eq!(first, stamp(95 * S, Quality::Before));
    }

    /// Nothing was heard, the header is no uptime, its start has not been yet, or it lies in the future.
    #[test]
    fn what_cannot_be_known_is_said_to_be_unknown() {
        let mut starts = Starts::default();
        assert_eq!(starts.stamp(&header(1, 5), at(S)), Stamp::UNKNOWN);
        starts.hello(&clock(3, 5 * S), at(100 * S));
        for odd in [&b""[..], b"\x03", b"\x03\xFF", b"\x03\x05\x00"] {
            assert_eq!(starts.stamp(odd, at(101 * S)), Stamp::UNKNOWN);
        }
        for (boot, ms) in [(4, 5), (3, 3_600_000), (3, u64::MAX), (u64::MAX, 0)] {
            let odd = header(boot, ms);
            assert_eq!(starts.stamp(&odd, at(101 * S)), Stamp::UNKNOWN);
        }
    }

    /// A gateway without a clock of its own hears the device first and the time of day later.
    #[test]
    fn a_hello_counts_as_soon_as_this_machine_knows_the_time() {
        let mut starts = Starts::default();
        let unset = Now {
            unix_us: Some(77),
            trusted: false,
            ..at(100 * S)
        };
        starts.hello(&clock(3, 5 * S), unset);
        assert_eq!(starts.stamp(&header(3, 2_000), unset), Stamp::UNKNOWN);
        let set = starts.stamp(&header(3, 2_000), at(900 * S));
        assert_eq!(set, stamp(97 * S, Quality::Uptime));
    }

    /// A wrong time that was given is not what later ones are measured by.
    #[test]
    fn a_clock_that_is_set_back_leaves_no_record_in_the_future() {
        let mut starts = Starts::default();
        let ahead = Now {
            unix_us: Some(EPOCH_US + 1_000_000 * S),
            ..at(100 * S)
        };
        starts.hello(&clock(3, 5 * S), ahead);
        let wrong = starts.stamp(&header(3, 5_000), ahead);
        assert_eq!(wrong, stamp(1_000_000 * S, Quality::Uptime));
        let right = starts.stamp(&header(3, 6_000), at(102 * S));
        assert!(right.time <= Some(Micros::new(EPOCH_US + 102 * S)));
    }

    #[test]
    fn a_counter_that_went_back_makes_what_was_known_void() {
        let mut starts = Starts::default();
        starts.hello(&clock(5, S), at(100 * S));
        starts.hello(&clock(6, S), at(200 * S));
        starts.hello(&clock(2, S), at(300 * S));
        assert_eq!(starts.stamp(&header(5, 500), at(301 * S)), Stamp::UNKNOWN);
        let before = starts.stamp(&header(1, 500), at(301 * S));
        assert_eq!(before, stamp(299 * S, Quality::Before));
    }

    #[test]
    fn no_more_than_the_last_starts_are_remembered() {
        let mut starts = Starts::default();
        for boot in 1..100 {
            starts.hello(&clock(boot, 0), at(boot.cast_signed() * S));
        }
        assert_eq!(starts.0.len(), STARTS_MAX);
        let oldest = starts.stamp(&header(92, 500), at(100 * S));
        assert_eq!(oldest, stamp(92 * S + 500_000, Quality::Uptime));
        let forgotten = starts.stamp(&header(91, 500), at(100 * S));
        assert_eq!(forgotten, stamp(92 * S, Quality::Before));
    }

    /// What happens to a device, after some time.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Record,
        Restart,
        Unplugged,
        /// A session begins, and its Hello is so long on its way.
        Hello(i64),
    }

    fn event() -> impl Strategy<Value = (i64, Event)> {
        let event = prop_oneof![
            6 => Just(Event::Record),
            1 => Just(Event::Restart),
            1 => Just(Event::Unplugged),
            2 => (0..DELAY_MAX_US).prop_map(Event::Hello),
        ];
        (prop_oneof![1..DELAY_MAX_US / 4, 1..600 * S], event)
    }

    /// A device and what is true of it, and what the gateway has made of its records.
    #[derive(Default)]
    struct World {
        starts: Starts,
        now_us: i64,
        boot: u64,
        began_us: i64,
        /// How long the Hello of the session was on its way.
        session: Option<i64>,
        heard: BTreeSet<u64>,
        /// Not handed over: start, uptime, true time.
        waiting: VecDeque<(u64, u64, i64)>,
        latest: (u64, i64),
    }

    impl World {
        fn happens(&mut self, event: Event) {
            let uptime_us = self.now_us - self.began_us;
            match event {
                Event::Record => {
                    let ms = uptime_us.cast_unsigned() / 1000;
                    self.waiting.push_back((self.boot, ms, self.now_us));
                }
                Event::Restart => {
                    (self.boot, self.began_us) = (self.boot + 1, self.now_us);
                    self.session = None;
                }
                Event::Unplugged => self.session = None,
                Event::Hello(way_us) => {
                    self.now_us += way_us;
                    self.session = Some(way_us);
                    self.heard.insert(self.boot);
                    self.starts
                        .hello(&clock(self.boot, uptime_us), at(self.now_us));
                }
            }
        }

        /// The oldest record, if somebody listens: what is behind it may have to wait for the next session.
        fn hand_over(&mut self) -> Result<(), TestCaseError> {
            let Some(way_us) = self.session else {
                return Ok(());
            };
            if let Some((boot, ms, true_us)) = self.waiting.pop_front() {
                let stamp = self.starts.stamp(&header(boot, ms), at(self.now_us));
                let time_us = stamp.time.expect("a start was heard").get() - EPOCH_US;
                prop_assert!(time_us >= true_us - 1000, "milliseconds are rounded down");
                prop_assert!(time_us <= self.now_us, "it has happened");
                if boot < self.boot {
                    prop_assert!(time_us <= self.began_us + way_us);
                } else {
                    prop_assert_eq!(stamp.quality, Quality::Uptime);
                    prop_assert!(self.latest.0 != boot || time_us >= self.latest.1);
                }
                if stamp.quality == Quality::Uptime {
                    prop_assert!(self.heard.contains(&boot));
                    prop_assert!(time_us <= true_us + DELAY_MAX_US);
                }
                self.latest = (boot, time_us);
            }
            Ok(())
        }
    }

    proptest! {
        /// A device keeps records, restarts and meets the gateway as chance will have it. Its clock is exact, so nothing but the way of the
        /// Hellos may be wrong in what the gateway makes of it.
        #[test]
        fn times_are_true_but_for_the_way_of_a_hello(events in prop::collection::vec(event(), 1..200)) {
            let mut world = World::default();
            for (after_us, event) in events {
                world.now_us += after_us;
                world.happens(event);
                world.hand_over()?;
            }
        }

        #[test]
        fn no_numbers_make_it_panic(
            hellos in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), any::<i64>()), 0..20),
            boot: u64,
            ms: u64,
        ) {
            let mut starts = Starts::default();
            for (started, device_us, uptime_us, unix_us) in hellos {
                let now = Now { uptime_us, unix_us: Some(unix_us), trusted: true };
                let told = Clock { boot: started, uptime_us: device_us, ..Clock::default() };
                starts.hello(&told, now);
                for boot in [boot, started, started.wrapping_sub(1)] {
                    let stamp = starts.stamp(&header(boot, ms), now);
                    prop_assert_eq!(stamp.time.is_none(), stamp.quality == Quality::Unknown);
                    prop_assert!(starts.0.len() <= STARTS_MAX);
                }
            }
        }
    }

    const S: i64 = 1_000_000;
    const EPOCH_US: i64 = 1_795_168_800_000_000;
    const DELAY_MAX_US: i64 = 900_000;
}

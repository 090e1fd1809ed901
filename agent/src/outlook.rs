//! What the rates of the last minutes come to: when a log is full, when a backlog is gone, how long a card lasts.
//!
//! Arithmetic on what others measured, and honest about it: no figure before enough was measured, and none that is not so
//! ([decision 0024](../../docs/decisions/0024-seeing.md)).

use serde::{Deserialize, Serialize};

/// When something comes to be, if all goes on as it was measured. In JSON: seconds, or `"not-at-this-rate"`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outlook {
    /// In so many seconds.
    In(f64),
    /// Not as long as it goes on like this.
    Never(Never),
}

/// The word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Never {
    /// Not as long as it goes on like this.
    #[serde(rename = "not-at-this-rate")]
    NotAtThisRate,
}

/// What comes into a log in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Flow {
    pub(crate) events: f64,
    pub(crate) bytes: f64,
}

/// What an agent writes to its disk, and what that costs the card.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Wear {
    /// Bytes that went to the storage since the start, all files together, by the kernel's account; none where it keeps none.
    pub written_bytes: Option<u64>,
    /// Bytes a day, by the rate of up to 24 hours; none before enough was measured.
    pub bytes_per_day: Option<f64>,
    /// What the card endures by its maker's word, as it is configured.
    pub tbw_bytes: Option<u64>,
    /// Days that a new card lasts at that rate.
    pub lasts_days: Option<f64>,
}

impl Outlook {
    const NEVER: Self = Self::Never(Never::NotAtThisRate);

    /// The seconds, if it comes to be.
    #[must_use]
    pub fn seconds(self) -> Option<f64> {
        match self {
            Self::In(seconds) => Some(seconds),
            Self::Never(_) => None,
        }
    }
}

/// When a log with `room_bytes` left is full, if `came` goes on coming and `drained` events a second are released.
pub(crate) fn full(room_bytes: u64, came: Flow, drained: f64) -> Outlook {
    let growth = came.events - drained;
    // What two counts of one flow differ by is no growth.
    if came.events <= 0.0 || growth <= came.events * SAME {
        return Outlook::NEVER;
    }
    let bytes_per_event = came.bytes / came.events;
    Outlook::In(room_bytes as f64 / (growth * bytes_per_event).max(1e-9))
}

/// When a backlog of `lag` events is gone, if `drained` of them go in a second while `came` others come. None where there is no
/// backlog to speak of: what is under way between two machines is none.
pub(crate) fn empty(lag: u64, came: f64, drained: f64) -> Option<Outlook> {
    let lag = lag as f64;
    if lag < drained * UNDER_WAY_S || lag == 0.0 {
        return None;
    }
    let growth = drained - came;
    Some(match growth > came * SAME {
        true => Outlook::In(lag / growth),
        false => Outlook::NEVER,
    })
}

impl Wear {
    /// `per_second` is the measured rate.
    pub(crate) fn of(
        written_bytes: Option<u64>,
        per_second: Option<f64>,
        tbw_bytes: Option<u64>,
    ) -> Self {
        let bytes_per_day = per_second.map(|rate| rate * DAY_S);
        let writes = bytes_per_day.filter(|bytes| *bytes > 0.0);
        Self {
            written_bytes,
            bytes_per_day,
            tbw_bytes,
            lasts_days: tbw_bytes
                .zip(writes)
                .map(|(tbw, writes)| tbw as f64 / writes),
        }
    }
}

/// Bytes that this process has caused to be sent to storage, by the kernel's account.
pub(crate) fn written_bytes() -> Option<u64> {
    written_in(&std::fs::read_to_string("/proc/self/io").ok()?)
}

fn written_in(account: &str) -> Option<u64> {
    let value = |line: &str| line.strip_prefix("write_bytes: ")?.trim().parse().ok();
    account.lines().find_map(value)
}

/// Rates that differ by less than this part are the same.
const SAME: f64 = 0.01;
/// An acknowledgement may be this far behind without there being a backlog.
const UNDER_WAY_S: f64 = 5.0;
const DAY_S: f64 = 86_400.0;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const CAME: Flow = Flow {
        events: 100.0,
        bytes: 10_000.0,
    };

    #[test]
    fn a_log_that_nothing_leaves_is_full_when_its_room_is_used_up() {
        assert_eq!(full(20_000, CAME, 0.0), Outlook::In(2.0));
        assert_eq!(full(0, CAME, 0.0), Outlook::In(0.0));
    }

    #[test]
    fn an_uplink_that_takes_a_part_puts_it_off_and_one_that_takes_all_puts_it_off_for_good() {
        assert_eq!(full(20_000, CAME, 50.0), Outlook::In(4.0));
        for drained in [99.5, 100.0, 1000.0] {
            assert_eq!(full(20_000, CAME, drained), Outlook::NEVER);
        }
        assert_eq!(full(MIB, Flow::default(), 0.0), Outlook::NEVER);
    }

    #[test]
    fn a_backlog_is_gone_when_more_has_left_than_came_and_not_otherwise() {
        assert_eq!(empty(90_000, 100.0, 1000.0), Some(Outlook::In(100.0)));
        assert_eq!(empty(90_000, 1000.0, 1000.0), Some(Outlook::NEVER));
        assert_eq!(empty(90_000, 10.0, 0.0), Some(Outlook::NEVER));
        assert_eq!(empty(400, 100.0, 100.0), None, "that is under way");
        assert_eq!(empty(0, 0.0, 0.0), None);
    }

    #[test]
    fn a_card_lasts_as_long_as_its_makers_word_and_the_measured_rate_say() {
        let day = Wear::of(Some(7), Some(1e9 / 86_400.0), Some(365_000_000_000));
        assert!((day.lasts_days.unwrap() - 365.0).abs() < 1e-6, "{day:?}");
        assert_eq!(Wear::of(Some(7), Some(5.0), None).lasts_days, None);
        assert_eq!(Wear::of(Some(7), None, Some(1)).lasts_days, None);
        assert_eq!(Wear::of(Some(7), Some(0.0), Some(1)).lasts_days, None);
    }

    #[test]
    fn an_outlook_is_seconds_or_a_word_in_json() {
        for (outlook, json) in [
            (Some(Outlook::In(12.5)), "12.5"),
            (Some(Outlook::NEVER), "\"not-at-this-rate\""),
            (None, "null"),
        ] {
            assert_eq!(serde_json::to_string(&outlook).unwrap(), json);
            assert_eq!(
                serde_json::from_str::<Option<Outlook>>(json).unwrap(),
                outlook
            );
        }
    }

    #[test]
    fn the_kernels_account_is_read() {
        let account = "wchar: 12\nwrite_bytes: 4096\ncancelled_write_bytes: 0\n";
        assert_eq!(written_in(account), Some(4096));
        assert_eq!(written_in(""), None);
    }
}

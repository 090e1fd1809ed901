//! Whose turn it is among the logs of one uplink: the more urgent first, and among equals each by its share of the link.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng 1996): a log's next piece starts where the last one of it ended or where the piece in service started,
//! whichever is later; the one that starts first goes first.

use super::Priority;

/// Who has had how much.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The start of the piece that was taken last.
    now: u64,
    /// Where the last piece of each log ended.
    ends: Vec<u64>,
}

impl Turns {
    /// The smallest goes first.
    pub(super) fn rank(&self, log: usize, priority: Priority) -> (Priority, u64) {
        (priority, self.start(log))
    }

    /// A piece of `log` was taken. The backlog of a log that is closed has the smaller share beside the log that follows it.
    pub(super) fn took(&mut self, log: usize, bytes: usize, is_backlog: bool) {
        let share = if is_backlog { BACKLOG } else { LIVE };
        self.now = self.start(log);
        if self.ends.len() <= log {
            self.ends.resize(log + 1, 0);
        }
        self.ends[log] = self.now + bytes as u64 * (BACKLOG + LIVE) / share;
    }

    fn start(&self, log: usize) -> u64 {
        self.ends.get(log).copied().unwrap_or(0).max(self.now)
    }
}

/// Shares of the link, in percent.
const BACKLOG: u64 = 30;
const LIVE: u64 = 70;

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes pieces of 1,000 bytes as the ranks say, among logs that always have some; how many each got.
    fn taken(logs: &[(Priority, bool)], pieces: usize) -> Vec<usize> {
        let (mut turns, mut got) = (Turns::default(), vec![0; logs.len()]);
        for _ in 0..pieces {
            let of = |log: &usize| turns.rank(*log, logs[*log].0);
            let next = (0..logs.len()).min_by_key(of).unwrap();
            turns.took(next, 1_000, logs[next].1);
            got[next] += 1;
        }
        got
    }

    #[test]
    fn live_records_have_seventy_percent_beside_a_backlog() {
        let normal = Priority::Normal;
        assert_eq!(taken(&[(normal, true), (normal, false)], 1_000), [300, 700]);
        assert_eq!(taken(&[(normal, true)], 10), [10]);
        assert_eq!(taken(&[(normal, false); 4], 1_000), [250; 4]);
    }

    #[test]
    fn the_more_urgent_goes_first() {
        let logs = [(Priority::Low, false), (Priority::Urgent, true)];
        assert_eq!(taken(&logs, 10), [0, 10]);
    }

    /// Who was silent for long is served at once, and does not catch up on what it never asked for.
    #[test]
    fn who_was_silent_goes_next_and_no_longer() {
        let mut turns = Turns::default();
        for _ in 0..100 {
            turns.took(0, 1_000, false);
        }
        let first =
            |turns: &Turns| turns.rank(1, Priority::Normal) < turns.rank(0, Priority::Normal);
        assert!(first(&turns));
        turns.took(1, 1_000, false);
        turns.took(0, 1_000, false);
        turns.took(1, 1_000, false);
        assert!(!first(&turns));
    }
}

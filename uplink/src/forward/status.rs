//! How a forwarder is doing: what it tells its operator.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sedge_core::frame::Header;
use sedge_core::{LogId, Micros, Offset};
use tokio::time::Instant;

use super::pace::Held;
use super::{ForwardOptions, Log};

/// A snapshot of a forwarder.
#[derive(Clone, Debug, Default)]
pub struct ForwardStatus {
    /// The hub.
    pub url: String,
    /// A session is running.
    pub connected: bool,
    /// Sessions so far.
    pub sessions: u64,
    /// Why the last session, or the last attempt at one, ended.
    pub last_error: Option<String>,
    /// Another connection with the same identity took over from this one so many times.
    pub replaced: u64,
    /// Bytes sent since the start.
    pub sent_bytes: u64,
    /// Offsets acknowledged since the start.
    pub acked_offsets: u64,
    /// Acknowledged offsets a second, over the time since the last snapshot.
    pub acked_per_second: f64,
    /// Why only what is urgent goes now.
    pub held: Option<String>,
    /// Each log.
    pub logs: Vec<LogStatus>,
}

/// A snapshot of one log's way to the hub.
#[derive(Clone, Debug)]
pub struct LogStatus {
    /// The stream.
    pub stream: String,
    /// The partition.
    pub partition: u16,
    /// The log.
    pub log: LogId,
    /// One past the last durable offset.
    pub next: Offset,
    /// One past the last offset in the hub's custody.
    pub acked: Offset,
    /// When the oldest unacknowledged frame was made, µs since 1970.
    pub oldest_unacked: Option<i64>,
    /// The hub holds another history of this log.
    pub diverged: bool,
    /// Why the hub does not take it.
    pub refused: Option<String>,
}

impl ForwardStatus {
    /// Offsets that the hub does not have, over all logs.
    pub fn lag(&self) -> u64 {
        self.logs.iter().map(|l| l.next.since(l.acked)).sum()
    }

    /// When the oldest unacknowledged frame of all logs was made, µs since 1970.
    pub fn oldest_unacked(&self) -> Option<i64> {
        self.logs.iter().filter_map(|l| l.oldest_unacked).min()
    }
}

/// What the forwarder writes down for its status.
#[derive(Debug)]
pub(super) struct Board {
    uplink: u32,
    said: ForwardStatus,
    marks: Vec<Mark>,
    asked: (Instant, u64),
}

#[derive(Debug)]
struct Mark {
    log: Log,
    diverged: bool,
    refused: Option<String>,
    /// The time of the frame at an offset, read once.
    oldest: Option<(Offset, Option<i64>)>,
}

impl Board {
    pub(super) fn new(options: &ForwardOptions) -> Self {
        let said = ForwardStatus {
            url: options.url.clone(),
            ..ForwardStatus::default()
        };
        Self {
            uplink: options.uplink,
            said,
            marks: Vec::new(),
            asked: (Instant::now(), 0),
        }
    }

    pub(super) fn connected(&mut self) {
        self.said.connected = true;
        self.said.sessions += 1;
        self.said.last_error = None;
    }

    /// Whether this is news.
    pub(super) fn disconnected(&mut self, why: String) -> bool {
        let news = self.said.connected || self.said.last_error.as_ref() != Some(&why);
        self.said.connected = false;
        self.said.held = None;
        self.said.last_error = Some(why);
        news
    }

    pub(super) fn held(&mut self, why: Option<Held>) {
        self.said.held = why.map(|why| why.to_string());
    }

    pub(super) fn why_held(&self) -> Option<String> {
        self.said.held.clone()
    }

    pub(super) fn replaced(&mut self) {
        self.said.replaced += 1;
    }

    pub(super) fn sent(&mut self, bytes: u64) {
        self.said.sent_bytes += bytes;
    }

    pub(super) fn acked(&mut self, offsets: u64) {
        self.said.acked_offsets += offsets;
    }

    pub(super) fn logs(&mut self, logs: &[Log]) {
        let mark = |log: &Log| Mark {
            log: log.clone(),
            diverged: false,
            refused: None,
            oldest: None,
        };
        let there = logs.iter().filter(|log| log.handle.log().is_some());
        self.marks = there.map(mark).collect();
    }

    pub(super) fn diverged(&mut self, log: LogId) {
        self.mark(log).into_iter().for_each(|m| m.diverged = true);
    }

    pub(super) fn refused(&mut self, log: LogId, why: Option<String>) {
        self.mark(log)
            .into_iter()
            .for_each(|m| m.refused = why.clone());
    }

    pub(super) fn sessions(&self) -> (u64, bool) {
        (self.said.sessions, self.said.connected)
    }

    pub(super) fn status(&mut self) -> ForwardStatus {
        let uplink = self.uplink;
        let (since, before) =
            std::mem::replace(&mut self.asked, (Instant::now(), self.said.acked_offsets));
        let seconds = since.elapsed().as_secs_f64().max(1e-3);
        ForwardStatus {
            acked_per_second: (self.said.acked_offsets - before) as f64 / seconds,
            logs: self
                .marks
                .iter_mut()
                .filter_map(|m| m.status(uplink))
                .collect(),
            ..self.said.clone()
        }
    }

    fn mark(&mut self, log: LogId) -> Option<&mut Mark> {
        self.marks.iter_mut().find(|m| m.log.handle.log_id() == log)
    }
}

impl Mark {
    fn status(&mut self, uplink: u32) -> Option<LogStatus> {
        let handle = self.log.handle.log()?;
        let ledger = handle.ledger();
        let next = *handle.durable().borrow();
        let acked = ledger
            .cursor(uplink)
            .map_or(ledger.oldest, |c| c.next)
            .min(next);
        let known = self.oldest.filter(|(at, _)| *at == acked);
        let oldest =
            (acked < next).then(|| known.unwrap_or_else(|| (acked, known_at(&self.log, acked))));
        self.oldest = oldest;
        Some(LogStatus {
            stream: self.log.stream.clone(),
            partition: self.log.partition,
            log: self.log.handle.log_id(),
            next,
            acked,
            oldest_unacked: oldest.and_then(|(_, made)| made),
            diverged: self.diverged,
            refused: self.refused.clone(),
        })
    }
}

/// When the frame at `offset` was made.
pub(super) fn made_at(log: &Log, offset: Offset) -> Option<Micros> {
    let chunk = log.handle.log()?.read(offset, 1).ok()?;
    Some(Header::parse(&chunk.frames, None).ok()?.time)
}

/// The same, µs since 1970; none if the time was not known.
pub(super) fn known_at(log: &Log, offset: Offset) -> Option<i64> {
    let made = made_at(log, offset).filter(|made| made.is_known());
    made.map(Micros::get)
}

/// A panic while it was held leaves numbers that are no worse than a moment old.
pub(super) fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Limits, Time};
    use super::*;

    #[test]
    fn an_uplink_lags_by_all_its_logs_and_is_as_old_as_the_oldest() {
        let log = |next, acked, oldest_unacked| LogStatus {
            stream: "telemetry".into(),
            partition: 0,
            log: LogId::new([7; 16]),
            next: Offset::new(next),
            acked: Offset::new(acked),
            oldest_unacked,
            diverged: false,
            refused: None,
        };
        let mut status = ForwardStatus::default();
        assert_eq!((status.lag(), status.oldest_unacked()), (0, None));
        status.logs = vec![log(9, 9, None), log(7, 2, Some(30)), log(4, 3, Some(20))];
        assert_eq!((status.lag(), status.oldest_unacked()), (6, Some(20)));
    }

    #[test]
    fn what_a_forwarder_does_is_written_down_and_the_same_trouble_is_news_once() {
        let mut board = Board::new(&ForwardOptions {
            url: "sedge://hub.example:7443".into(),
            identity: "gw-7".into(),
            uplink: 1,
            retry_max: Duration::from_secs(30),
            trust: None,
            limits: Limits::default(),
            time: Time::default(),
            live_first_after: None,
        });
        assert!(board.disconnected("no route".into()));
        assert!(!board.disconnected("no route".into()));
        assert!(board.disconnected("refused".into()));
        board.connected();
        assert_eq!(board.sessions(), (1, true));
        let said = board.status();
        assert!(said.connected && said.last_error.is_none() && said.held.is_none());
        board.held(Some(Held::Day));
        assert_eq!(board.why_held(), Some(Held::Day.to_string()));
        assert!(board.disconnected("refused".into()), "it was connected");
        assert_eq!(board.why_held(), None, "nothing waits for that");
        assert_eq!(board.sessions(), (1, false));
        board.connected();
        (0..2).for_each(|_| board.replaced());
        (0..3).for_each(|_| board.sent(10));
        (0..4).for_each(|_| board.acked(5));
        let said = board.status();
        assert_eq!((said.sessions, said.replaced), (2, 2));
        assert_eq!((said.sent_bytes, said.acked_offsets), (30, 20));
        assert!(said.acked_per_second > 0.0);
        assert_eq!(board.status().acked_per_second, 0.0, "nothing since");
    }

    #[tokio::test(start_paused = true)]
    async fn acknowledged_offsets_a_second_are_those_since_it_was_asked_last() {
        let mut board = Board::new(&super::super::tests::options());
        for (offsets, millis, rate) in [
            (30, 10_000, 3.0),
            (0, 1_000, 0.0),
            (5, 500, 10.0),
            (1, 0, 1_000.0),
        ] {
            board.acked(offsets);
            tokio::time::advance(Duration::from_millis(millis)).await;
            assert_eq!(board.status().acked_per_second, rate);
        }
    }
}

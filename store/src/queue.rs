//! Where producers and a partition's writer meet: one group fills while the one before it is being synced.
//!
//! A stage call copies encoded units under a short lock. When a commit may start is decided in [`State::due`], the rule of
//! DESIGN section 4; the writer's thread does the rest, see `writer.rs`.

use std::sync::Arc;
#[cfg(not(feature = "shuttle"))]
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::watch;
use sedge_core::{Micros, Offset};
#[cfg(feature = "shuttle")]
use shuttle::sync::{Condvar, Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::batch::Batch;
use crate::clock::{Beginning, Clock, Timekeeping};
use crate::group::{Group, Limits};
use crate::pace::Pace;
use crate::world;

/// The place of a stage call among all that this partition took in this life. Settled tickets only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

impl Ticket {
    /// What was durable before this life.
    pub const RECOVERED: Self = Self(0);
}

/// One connection's way into a partition.
#[derive(Debug)]
pub struct Producer {
    queue: Arc<Queue>,
    /// The group into which this producer staged last.
    group: u64,
    window_bound: bool,
    /// The group that was full, when this producer met one.
    full: u64,
}

impl Producer {
    pub(crate) fn new(queue: Arc<Queue>) -> Self {
        Self {
            queue,
            group: 0,
            window_bound: false,
            full: 0,
        }
    }

    /// Puts `batch` into the group that will be committed next. It is durable when the settled ticket has reached
    /// the one returned. All of it is taken or nothing.
    ///
    /// # Errors
    /// [`StageError::Full`] is backpressure: wait for [`Producer::staged_room`] and stage again.
    pub fn stage(&mut self, batch: &Batch) -> Result<Ticket, StageError> {
        let mut guard = self.queue.lock();
        let state = &mut *guard;
        if state.closed {
            return Err(StageError::Closed);
        }
        let ticket = Ticket(state.ticket.0 + 1);
        let now = (self.queue.clock)();
        let taken = match &state.limits {
            Some(limits) => state.filling.take(limits, batch, now, ticket),
            None => Err(StageError::Full),
        };
        if let Err(e) = taken {
            self.full = state.number;
            return Err(e);
        }
        state.tell_beginning(self.queue.time.as_deref());
        state.ticket = ticket;
        let is_first = state.first_staged.is_none();
        state.first_staged.get_or_insert_with(Instant::now);
        if self.group != state.number {
            self.group = state.number;
            state.unbound += usize::from(!self.window_bound);
        }
        self.queue.wake_writer(guard, is_first);
        Ok(ticket)
    }

    /// Resolves when the group that was full has gone to the disk, or the partition is closed.
    pub fn staged_room(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut number = self.queue.room.subscribe();
        let full = self.full;
        async move {
            // An error says that the partition is gone; the next stage call will say so.
            drop(number.wait_for(|n| *n > full).await);
        }
    }

    /// Tells that this connection can send nothing more before its events are settled (its window is full), so that
    /// lingering for it is vain.
    pub fn set_window_bound(&mut self, window_bound: bool) {
        if self.window_bound == window_bound {
            return;
        }
        self.window_bound = window_bound;
        let mut state = self.queue.lock();
        if self.group != state.number {
            return;
        }
        if window_bound {
            state.unbound -= 1;
            self.queue.wake_writer(state, false);
        } else {
            state.unbound += 1;
        }
    }
}

impl Drop for Producer {
    /// Who has gone does not hold up a commit.
    fn drop(&mut self) {
        self.set_window_bound(true);
    }
}

/// Why a batch was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    /// As much is staged as may be; there is room after the next commit. Or the disk has no room for the log yet.
    #[error("as much is staged as may be")]
    Full,
    /// A unit is larger than a frame may be.
    #[error("{bytes} bytes in one unit, {bytes_max} are allowed")]
    TooLarge {
        /// What the unit would take.
        bytes: usize,
        /// What it may take.
        bytes_max: usize,
    },
    /// The partition is closed, or its disk failed.
    #[error("the partition takes nothing more")]
    Closed,
}

/// What producers and writer share.
pub(crate) struct Queue {
    pace: Pace,
    clock: Clock,
    time: Option<Arc<dyn Timekeeping>>,
    state: Mutex<State>,
    bell: Bell,
    room: watch::Sender<u64>,
    /// Why nothing is taken, while the log waits for room on the disk.
    refused: watch::Sender<Option<Arc<str>>>,
}

struct State {
    /// None before the log is open.
    limits: Option<Limits>,
    filling: Group,
    /// Counts groups, from 1.
    number: u64,
    /// Producers with events in `filling` that could still send more.
    unbound: usize,
    first_staged: Option<Instant>,
    ticket: Ticket,
    /// What the log was told last of the uptimes in it, in this life.
    told: Option<Beginning>,
    errands: Vec<Errand>,
    closed: bool,
    writer_waits: bool,
    /// Any errand may free it.
    writer_is_stuck: bool,
}

/// What others ask of the writer, done before the next commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// An uplink has everything below `next`.
    SetCursor { uplink: u32, next: Offset },
    /// An uplink has everything below `next`, of which `records` are held no more.
    PassCursor {
        uplink: u32,
        from: Offset,
        next: Offset,
        records: u64,
    },
    /// An uplink is gone.
    DropCursor { uplink: u32 },
    /// Nothing will be appended after this.
    End,
    /// Stop, cleanly.
    Close,
    /// Stop as a kill would.
    Abandon,
}

impl Errand {
    /// The writer is to be woken for it; others wait for the next commit or tick.
    fn is_pressing(&self) -> bool {
        !matches!(self, Self::SetCursor { .. } | Self::PassCursor { .. })
    }

    fn is_last(&self) -> bool {
        matches!(self, Self::End | Self::Close | Self::Abandon)
    }

    fn replaces(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::SetCursor { uplink, .. }, Self::SetCursor { uplink: other, .. }) => {
                uplink == other
            }
            _ => false,
        }
    }
}

/// Why the writer woke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A group is due; its last ticket.
    Commit(Ticket),
    /// There are errands, or the time that was asked for has come.
    Idle,
    /// Nothing before this, unless the bell rings. Only in a simulation; a thread waits instead.
    Later(Instant),
}

/// What a writer that has no log yet is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// The time has come.
    Try,
    /// It is told to stop.
    Stop,
    /// As [`Work::Later`].
    Later(Instant),
}

/// What wakes a writer: its thread sleeps on it; in a simulation it is a task, which is told to come again.
enum Bell {
    Thread(Condvar),
    Task(Notify),
}

impl Bell {
    fn new() -> Self {
        match world::is_simulated() {
            false => Self::Thread(Condvar::new()),
            true => Self::Task(Notify::new()),
        }
    }

    fn ring(&self) {
        match self {
            Self::Thread(condvar) => condvar.notify_one(),
            Self::Task(notify) => notify.notify_one(),
        }
    }
}

impl Queue {
    /// Takes nothing before [`Queue::begin`].
    pub(crate) fn new(pace: impl Into<Pace>, clock: Clock) -> Self {
        let state = State {
            limits: None,
            filling: Group::default(),
            number: 1,
            unbound: 0,
            first_staged: None,
            ticket: Ticket::RECOVERED,
            told: None,
            errands: Vec::new(),
            closed: false,
            writer_waits: false,
            writer_is_stuck: false,
        };
        Self {
            pace: pace.into(),
            clock,
            time: None,
            state: Mutex::new(state),
            bell: Bell::new(),
            room: watch::Sender::new(1),
            refused: watch::Sender::new(None),
        }
    }

    /// The same, with somebody who knows more of time than the clock says.
    pub(crate) fn with_time(self, time: Option<Arc<dyn Timekeeping>>) -> Self {
        Self { time, ..self }
    }

    /// The log is open, and goes on at `next`.
    pub(crate) fn begin(&self, limits: Limits, next: Offset) {
        let mut state = self.lock();
        state.limits = Some(limits);
        state.filling = Group::new(next);
        state.number += 1;
        if !state.closed {
            self.room.send_replace(state.number);
        }
        self.refused.send_replace(None);
    }

    /// Says why nothing is taken yet.
    pub(crate) fn refuse(&self, why: &str) {
        self.refused.send_if_modified(|refused| {
            let news = refused.as_deref() != Some(why);
            if news {
                *refused = Some(why.into());
            }
            news
        });
    }

    pub(crate) fn refused(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.refused.subscribe()
    }

    /// Waits for `until`, or until the writer is told to stop. Errands stay until it begins.
    pub(crate) fn wait_to_begin(&self, until: Instant) -> Begin {
        let mut state = self.attended();
        while !state.closed {
            if until <= Instant::now() {
                return Begin::Try;
            }
            state = match self.wait(state, until) {
                Some(state) => state,
                None => return Begin::Later(until),
            };
        }
        Begin::Stop
    }

    /// Waits until a group is due (it is swapped into `group`, whose memory fills next) or `until` has come.
    /// Errands that came meanwhile go to `errands`.
    pub(crate) fn next_work(
        &self,
        group: &mut Group,
        until: Instant,
        errands: &mut Vec<Errand>,
    ) -> Work {
        let mut state = self.attended();
        loop {
            errands.append(&mut state.errands);
            let now = Instant::now();
            let due = state.due(self.linger());
            if due.is_some_and(|due| due <= now) {
                return Work::Commit(self.swap(&mut state, group));
            }
            if until <= now || errands.iter().any(Errand::is_pressing) {
                return Work::Idle;
            }
            let wake = due.map_or(until, |d| d.min(until));
            state = match self.wait(state, wake) {
                Some(state) => state,
                None => return Work::Later(wake),
            };
        }
    }

    /// As [`Queue::next_work`] while the group at hand waits for room in the log.
    pub(crate) fn wait_for_errand(&self, until: Instant, errands: &mut Vec<Errand>) -> Work {
        let mut state = self.attended();
        state.writer_is_stuck = true;
        while state.errands.is_empty() && Instant::now() < until {
            state = match self.wait(state, until) {
                Some(state) => state,
                None => return Work::Later(until),
            };
        }
        state.writer_is_stuck = false;
        errands.append(&mut state.errands);
        Work::Idle
    }

    /// When the bell has rung. In a simulation only.
    pub(crate) async fn rung(&self) {
        match &self.bell {
            Bell::Task(notify) => notify.notified().await,
            Bell::Thread(_) => std::future::pending().await,
        }
    }

    /// The state, for the writer, who does not wait any more.
    fn attended(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        (state.writer_waits, state.writer_is_stuck) = (false, false);
        state
    }

    /// Waits until the bell rings, at most until `wake`. `None`: the writer is to come again then.
    fn wait<'s>(
        &'s self,
        mut state: MutexGuard<'s, State>,
        wake: Instant,
    ) -> Option<MutexGuard<'s, State>> {
        state.writer_waits = true;
        let Bell::Thread(condvar) = &self.bell else {
            return None;
        };
        let patience = wake.saturating_duration_since(Instant::now());
        let waited = condvar.wait_timeout(state, patience);
        let mut state = waited.expect("no holder panics").0;
        state.writer_waits = false;
        Some(state)
    }

    fn swap(&self, state: &mut State, group: &mut Group) -> Ticket {
        let State {
            limits, filling, ..
        } = &mut *state;
        if let Some(limits) = limits {
            filling.seal(limits);
        }
        group.clear(state.filling.next());
        std::mem::swap(&mut state.filling, group);
        state.filling.tell_for(group);
        state.number += 1;
        state.unbound = 0;
        state.first_staged = None;
        self.room.send_replace(state.number);
        state.ticket
    }

    pub(crate) fn errand(&self, errand: Errand) {
        let mut state = self.lock();
        state.errands.retain(|e| !errand.replaces(e));
        state.errands.push(errand);
        if errand.is_last() {
            state.closed = true;
            self.room.send_replace(u64::MAX);
        }
        if state.writer_waits && (errand.is_pressing() || state.writer_is_stuck) {
            self.bell.ring();
        }
    }

    /// Nothing is taken any more, and who waits for room is told.
    pub(crate) fn poison(&self) {
        self.lock().closed = true;
        self.room.send_replace(u64::MAX);
    }

    /// How long a commit waits for company now.
    pub(crate) fn linger(&self) -> Duration {
        self.pace.wait()
    }

    pub(crate) fn staged_bytes(&self) -> usize {
        self.lock().filling.bytes()
    }

    pub(crate) fn now(&self) -> Micros {
        (self.clock)()
    }

    /// Wakes the writer if it has to look at its clock (`is_first`) or to start a commit.
    fn wake_writer(&self, state: MutexGuard<'_, State>, is_first: bool) {
        let wake = state.writer_waits && (is_first || state.is_due_at_once());
        drop(state);
        if wake {
            self.bell.ring();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl State {
    /// What was staged tells, once, what the uptimes are that stand in the log for times.
    fn tell_beginning(&mut self, time: Option<&dyn Timekeeping>) {
        let known = time.and_then(Timekeeping::beginning);
        if let Some(beginning) = known.filter(|_| known != self.told) {
            self.filling.tell_beginning(beginning);
            self.told = known;
        }
    }

    /// When the commit of what is staged may start, given that the one before it has ended.
    fn due(&self, linger: Duration) -> Option<Instant> {
        let since = self.staged_since()?;
        Some(if self.is_due_at_once() {
            since
        } else {
            since + linger
        })
    }

    fn is_due_at_once(&self) -> bool {
        self.closed || self.unbound == 0 || self.filling.bytes() >= COMMIT_BYTES_WANTED
    }

    fn staged_since(&self) -> Option<Instant> {
        self.first_staged
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

/// A page: with less, waiting a little saves device writes; with more, it does not.
const COMMIT_BYTES_WANTED: usize = 4096;

#[cfg(all(test, feature = "shuttle"))]
mod schedules;

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Waker};
    use std::time::Duration;

    use sedge_core::{LogId, Offset};

    use super::*;
    use crate::system_clock;

    fn queue(linger: Duration) -> Arc<Queue> {
        let limits = Limits {
            log_id: LogId::default(),
            frame_bytes_max: 66_000,
            commit_bytes_max: 10_000,
            commit_offsets_max: 1000,
        };
        let queue = Queue::new(linger, system_clock());
        queue.begin(limits, Offset::ZERO);
        Arc::new(queue)
    }

    fn batch(bytes: usize) -> Batch {
        let mut batch = Batch::new();
        batch.push(|unit| unit.record(None, None, &[], &vec![0; bytes]), b"");
        batch
    }

    /// What the writer gets to do when it looks once.
    fn work(queue: &Queue) -> Work {
        queue.next_work(
            &mut Group::new(Offset::ZERO),
            Instant::now(),
            &mut Vec::new(),
        )
    }

    #[test]
    fn a_commit_waits_for_company() {
        let queue = queue(LONG);
        Producer::new(queue.clone()).set_window_bound(false);
        let mut producer = Producer::new(queue.clone());
        producer.stage(&batch(10)).unwrap();
        assert_eq!(work(&queue), Work::Idle);
    }

    #[test]
    fn a_commit_starts_when_a_page_is_staged() {
        let queue = queue(LONG);
        let mut producer = Producer::new(queue.clone());
        let ticket = producer.stage(&batch(4096)).unwrap();
        assert_eq!(work(&queue), Work::Commit(ticket));
    }

    #[test]
    fn a_commit_starts_when_the_first_event_has_waited_long_enough() {
        let queue = queue(Duration::ZERO);
        let mut producer = Producer::new(queue.clone());
        let ticket = producer.stage(&batch(10)).unwrap();
        assert_eq!(work(&queue), Work::Commit(ticket));
    }

    #[test]
    fn a_commit_starts_when_nobody_can_send_more() {
        let queue = queue(LONG);
        let (mut one, mut two) = (Producer::new(queue.clone()), Producer::new(queue.clone()));
        one.set_window_bound(true);
        one.stage(&batch(10)).unwrap();
        let ticket = two.stage(&batch(10)).unwrap();
        assert_eq!(work(&queue), Work::Idle, "two could go on");
        two.set_window_bound(true);
        assert_eq!(work(&queue), Work::Commit(ticket));
    }

    #[test]
    fn a_commit_does_not_wait_for_who_has_gone() {
        let queue = queue(LONG);
        let mut producer = Producer::new(queue.clone());
        let ticket = producer.stage(&batch(10)).unwrap();
        drop(producer);
        assert_eq!(work(&queue), Work::Commit(ticket));
    }

    #[test]
    fn a_full_group_takes_nothing_and_room_comes_with_the_next() {
        let queue = queue(LONG);
        let mut producer = Producer::new(queue.clone());
        producer.stage(&batch(9000)).unwrap();
        assert_eq!(producer.stage(&batch(2000)), Err(StageError::Full));
        assert!(matches!(work(&queue), Work::Commit(_)));
        producer.stage(&batch(2000)).unwrap();
    }

    /// A producer that met a log without room is woken when the log begins, and not asked to come again before.
    #[test]
    fn who_met_a_log_that_is_not_open_is_woken_when_it_begins() {
        let queue = Arc::new(Queue::new(LONG, system_clock()));
        queue.refuse("the disk has no room");
        let mut producer = Producer::new(queue.clone());
        assert_eq!(producer.stage(&batch(10)), Err(StageError::Full));
        let mut room = pin!(producer.staged_room());
        let mut context = Context::from_waker(Waker::noop());
        assert!(room.as_mut().poll(&mut context).is_pending());
        assert!(queue.refused().borrow().is_some());
        let limits = Limits {
            log_id: LogId::default(),
            frame_bytes_max: 66_000,
            commit_bytes_max: 10_000,
            commit_offsets_max: 1000,
        };
        queue.begin(limits, Offset::new(7));
        assert!(room.poll(&mut context).is_ready());
        producer.stage(&batch(10)).unwrap();
        assert!(queue.refused().borrow().is_none());
    }

    #[test]
    fn a_writer_that_waits_to_begin_is_told_to_stop() {
        let queue = Queue::new(LONG, system_clock());
        queue.errand(Errand::SetCursor {
            uplink: 1,
            next: Offset::ZERO,
        });
        assert_eq!(queue.wait_to_begin(Instant::now()), Begin::Try);
        queue.errand(Errand::Close);
        assert_eq!(queue.wait_to_begin(Instant::now() + LONG), Begin::Stop);
    }

    const LONG: Duration = Duration::from_secs(3600);
}

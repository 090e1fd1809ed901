//! The custody handshake, every way it can go: two partitions, three records, losses, repetitions, power cuts, an eviction, a disk that is replaced.
//!
//! The states are those of core's own `Sender` and `Receiver`. Neither is copied: a state is the way to it, walked again for each step, and two ways lead to the
//! same state when everything that is left of them is equal. Messages on the wire keep their order, as bytes on a serial line do.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};

use sedge_core::custody::message::{self, Offer, Verdict};
use sedge_core::custody::{
    Below, Framing, Now, Received, Receiver, ReceiverSettings, ReceiverSlot, Run, Sender,
    SenderEvent, SenderSettings, SenderSlot, Sent,
};
use sedge_core::frame::{Form, Frame};
use sedge_core::{Cause, Gap, LogId, Micros, Offset};
use sedge_tests::commit;
use sedge_tests::oracle::Planned;
use stateright::{Checker, Model, Property};

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// A record is written to this partition's log.
    Append(usize),
    /// The oldest record that is held has to go.
    Evict(usize),
    /// The disk of this partition is another one: its log is gone, a new one begins.
    NewLog(usize),
    /// The first message on the wire arrives, is lost, or arrives and comes once more.
    Up(Fate),
    Down(Fate),
    /// The receiver's disk has what was staged.
    Commit,
    SenderCut,
    ReceiverCut,
    /// Nothing happens until a timer does.
    Wait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fate {
    Arrives,
    Lost,
    Twice,
}

/// A state, and the way to it.
#[derive(Clone, Debug)]
struct State {
    way: Vec<Step>,
    /// All that is left of the way.
    print: String,
    broken: Option<String>,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl Eq for State {}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.print.hash(hasher);
    }
}

impl State {
    fn after(way: Vec<Step>, hasty: bool) -> Self {
        let world = World::after(&way, hasty);
        Self {
            print: world.print(),
            broken: world.broken,
            way,
        }
    }
}

/// How much of each may happen.
#[derive(Clone, Copy, Debug)]
struct Conversation {
    records: usize,
    evictions: usize,
    new_logs: usize,
    cuts: usize,
    faults: usize,
    waits: usize,
    /// The receiver says that it has what its disk does not have yet.
    hasty: bool,
}

impl Model for Conversation {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::after(Vec::new(), self.hasty)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        let so_far = |is: fn(&Step) -> bool| state.way.iter().filter(|step| is(step)).count();
        let world = World::after(&state.way, self.hasty);
        for part in 0..PARTITIONS {
            let log = &world.logs[part];
            if so_far(|step| matches!(step, Step::Append(_))) < self.records {
                actions.push(Step::Append(part));
            }
            if so_far(|step| matches!(step, Step::Evict(_))) < self.evictions
                && log.oldest < log.next()
            {
                actions.push(Step::Evict(part));
            }
            if so_far(|step| matches!(step, Step::NewLog(_))) < self.new_logs && log.next() > 0 {
                actions.push(Step::NewLog(part));
            }
        }
        let faults = so_far(|step| {
            use Fate::{Lost, Twice};
            matches!(step, Step::Up(Lost | Twice) | Step::Down(Lost | Twice))
        });
        for (wire, step) in [
            (&world.up, Step::Up as fn(Fate) -> Step),
            (&world.down, Step::Down),
        ] {
            if !wire.is_empty() {
                actions.push(step(Fate::Arrives));
                if faults < self.faults {
                    actions.extend([step(Fate::Lost), step(Fate::Twice)]);
                }
            }
        }
        if !world.staged.is_empty() {
            actions.push(Step::Commit);
        }
        if so_far(|step| matches!(step, Step::SenderCut | Step::ReceiverCut)) < self.cuts {
            actions.extend([Step::SenderCut, Step::ReceiverCut]);
        }
        let rests = world.up.is_empty() && world.down.is_empty() && world.staged.is_empty();
        if rests && so_far(|step| matches!(step, Step::Wait)) < self.waits {
            actions.push(Step::Wait);
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut way = state.way.clone();
        way.push(step);
        Some(State::after(way, self.hasty))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NOTHING_LOST, |_, state: &State| state.broken.is_none()),
            Property::always(
                "all of it can still arrive",
                |model: &Self, state: &State| World::after(&state.way, model.hasty).drains(),
            ),
        ]
    }
}

/// A log of the sender: a record is its number, and frames are made when they are wanted.
#[derive(Clone, Debug)]
struct ModelLog {
    id: LogId,
    records: Vec<u8>,
    oldest: u64,
    /// What the sender was told to be in the receiver's custody.
    released: u64,
}

impl ModelLog {
    fn new(number: u8) -> Self {
        Self {
            id: LogId::new([number; 16]),
            records: Vec::new(),
            oldest: 0,
            released: 0,
        }
    }

    fn next(&self) -> u64 {
        self.records.len() as u64
    }

    fn frame(&self, offset: u64) -> Vec<u8> {
        let value = vec![self.records[offset as usize]];
        let planned = [Planned::Records(vec![value])];
        commit::encode(Form::Explicit, &self.id, offset, Micros::new(1), &planned).0
    }

    fn crc_below(&self, next: u64) -> Option<u32> {
        let offset = next
            .checked_sub(1)
            .filter(|at| (self.oldest..self.next()).contains(at))?;
        crc_of(&self.frame(offset), &self.id)
    }
}

fn crc_of(frame: &[u8], id: &LogId) -> Option<u32> {
    let (frame, _) = Frame::parse(frame, id, None).ok()?;
    Some(frame.header.crc)
}

type Queue = VecDeque<(u8, Vec<u8>)>;

/// What a mirror holds at each offset: a record, or the news that it was evicted.
type Mirror = Vec<Option<u8>>;

struct World {
    sender: Sender<[SenderSlot; PARTITIONS], &'static str>,
    receiver: Receiver<[ReceiverSlot; PARTITIONS]>,
    now_us: u64,
    starts: u64,
    logs: Vec<ModelLog>,
    /// Logs of disks that are gone.
    gone: Vec<ModelLog>,
    mirrors: BTreeMap<LogId, Mirror>,
    /// Which log the receiver was offered in each slot.
    offered: [LogId; PARTITIONS],
    /// Taken and not yet durable: of which slot and log.
    staged: Vec<(u16, LogId, Mirror)>,
    up: Queue,
    down: Queue,
    broken: Option<String>,
    hasty: bool,
}

impl World {
    fn after(way: &[Step], hasty: bool) -> Self {
        let now = Now::default();
        let logs: Vec<_> = (0..PARTITIONS as u8)
            .map(|n| ModelLog::new(n + 1))
            .collect();
        let mut world = Self {
            sender: sender(1, now),
            receiver: receiver(1, now),
            now_us: 0,
            starts: 1,
            logs,
            gone: Vec::new(),
            mirrors: BTreeMap::new(),
            offered: [LogId::default(); PARTITIONS],
            staged: Vec::new(),
            up: Queue::new(),
            down: Queue::new(),
            broken: None,
            hasty,
        };
        world.settle();
        way.iter().for_each(|&step| world.take(step));
        world
    }

    /// Everything that a later step may depend on.
    fn print(&self) -> String {
        let Self {
            sender,
            receiver,
            now_us,
            starts,
            logs,
            gone,
            mirrors,
            offered,
            staged,
            up,
            down,
            broken,
            hasty: _,
        } = self;
        format!(
            "{sender:?} {receiver:?} {now_us} {starts} {logs:?} {gone:?} {mirrors:?} {offered:?} {staged:?} {up:?} {down:?} {broken:?}"
        )
    }

    fn now(&self) -> Now {
        Now {
            uptime_us: self.now_us,
            unix_us: None,
            trusted: false,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Append(part) => {
                let log = &mut self.logs[part];
                log.records.push(16 * part as u8 + log.records.len() as u8);
                let next = Offset::new(log.next());
                self.sender.grew(part as u16, next);
            }
            Step::Evict(part) => self.logs[part].oldest += 1,
            Step::NewLog(part) => {
                let new = ModelLog::new(100 + self.gone.len() as u8);
                self.gone.push(std::mem::replace(&mut self.logs[part], new));
                self.sender_starts();
            }
            Step::Up(fate) => {
                let message = take(&mut self.up, fate);
                message
                    .iter()
                    .for_each(|(kind, body)| self.receiver_hears(*kind, body));
            }
            Step::Down(fate) => {
                let message = take(&mut self.down, fate);
                let now = self.now();
                message
                    .iter()
                    .for_each(|(kind, body)| self.sender.handle_message(now, *kind, body));
            }
            Step::Commit => self.commit(),
            Step::SenderCut => self.sender_starts(),
            Step::ReceiverCut => {
                self.starts += 1;
                self.staged.clear();
                self.receiver = receiver(self.starts, self.now());
            }
            Step::Wait => {
                let timers = [self.sender.next_timeout(), self.receiver.next_timeout()];
                let next = timers.into_iter().flatten().min();
                self.now_us = next.unwrap_or(self.now_us).max(self.now_us);
                self.sender.handle_timeout(self.now());
                self.receiver.handle_timeout(self.now());
            }
        }
        self.settle();
    }

    fn sender_starts(&mut self) {
        self.starts += 1;
        self.sender = sender(self.starts, self.now());
    }

    fn receiver_hears(&mut self, kind: u8, body: &[u8]) {
        match self.receiver.handle_message(self.now(), kind, body) {
            Received::Nothing => {}
            Received::Hello(hello) => {
                // Answers are about what is durable, so what was taken before is made so first.
                self.commit();
                for offer in hello.logs.iter() {
                    let mirror = self.mirrors.entry(offer.log).or_default();
                    let next = Offset::new(mirror.len() as u64);
                    let origin = self
                        .logs
                        .iter()
                        .chain(&self.gone)
                        .find(|log| log.id == offer.log);
                    // The frame that the mirror holds there; a gap has no fingerprint.
                    let crc_below = origin.filter(|_| mirror.last().is_some_and(Option::is_some));
                    let crc_below =
                        crc_below.and_then(|log| crc_of(&log.frame(next.get() - 1), &log.id));
                    self.offered[usize::from(offer.slot)] = offer.log;
                    self.receiver
                        .answer(&offer, Verdict::Resume { next, crc_below });
                }
                self.receiver.welcome();
            }
            Received::Offer(offer) => panic!("all logs are in Hello: {offer:?}"),
            Received::Store(store) => {
                let (slot, id) = (store.slot, self.offered[usize::from(store.slot)]);
                let (first, mut rest, mut entries) = (store.first.get(), store.frames, Vec::new());
                while let Ok((frame, len)) = Frame::parse(rest, &id, None) {
                    let value = |(_, entry)| match entry {
                        sedge_core::entry::Entry::Record(record) => Some(record.value[0]),
                        sedge_core::entry::Entry::Notice(_) => None,
                    };
                    entries.extend(frame.entries().map(value));
                    rest = &rest[len..];
                }
                self.stage(slot, id, first, entries);
            }
            Received::Gap(gap) => {
                let (slot, id) = (gap.slot, self.offered[usize::from(gap.slot)]);
                let gap = gap.gap;
                if gap.lost != gap.to.since(gap.from) || gap.cause != Cause::Evicted {
                    self.broken = Some(format!("{gap:?} is not what was evicted"));
                }
                self.stage(slot, id, gap.from.get(), vec![None; gap.lost as usize]);
            }
        }
    }

    fn stage(&mut self, slot: u16, id: LogId, first: u64, entries: Mirror) {
        let durable = self.mirrors.get(&id).map_or(0, Vec::len);
        let staged = self.staged.iter().filter(|staged| staged.1 == id);
        let next = durable + staged.map(|staged| staged.2.len()).sum::<usize>();
        if first != next as u64 {
            self.broken = Some(format!("{first} is to be stored behind {next}"));
        }
        if self.hasty {
            self.receiver
                .stored(slot, Offset::new((next + entries.len()) as u64));
        }
        self.staged.push((slot, id, entries));
    }

    fn commit(&mut self) {
        for (slot, id, entries) in std::mem::take(&mut self.staged) {
            keep(&mut self.mirrors, id, entries);
            let next = Offset::new(self.mirrors[&id].len() as u64);
            self.receiver.stored(slot, next);
        }
    }

    /// Both ends do what they can do at once.
    fn settle(&mut self) {
        let mut body = [0; BODY_BYTES];
        loop {
            self.sender_events();
            let (now, logs) = (self.now(), &self.logs);
            let offers = |slot: u16| logs.get(usize::from(slot)).map(|log| offer(slot, log));
            if let Some(said) = self.sender.poll_transmit(now, offers, &mut body) {
                self.up.push_back((said.kind, body[..said.len].to_vec()));
            } else if !self.sender_sends() {
                break;
            }
        }
        while self.receiver.poll_event().is_some() {}
        while let Some(said) = self.receiver.poll_transmit(self.now(), &mut body) {
            self.down.push_back((said.kind, body[..said.len].to_vec()));
        }
        self.judge();
    }

    fn sender_events(&mut self) {
        while let Some(event) = self.sender.poll_event() {
            match event {
                SenderEvent::Check { slot, next } => {
                    let ours = self.logs[usize::from(slot)].crc_below(next.get());
                    self.sender
                        .checked(slot, ours.map_or(Below::Unknown, Below::Frame));
                }
                SenderEvent::Released { slot, next } => {
                    let log = &mut self.logs[usize::from(slot)];
                    log.released = log.released.max(next.get());
                }
                SenderEvent::Welcomed { .. } => {}
                other => self.broken = Some(format!("{other:?}")),
            }
        }
    }

    fn sender_sends(&mut self) -> bool {
        let Some(want) = self.sender.want() else {
            return false;
        };
        let log = &self.logs[usize::from(want.slot)];
        let from = want.from.get();
        if from < log.oldest {
            let gap = Gap {
                from: want.from,
                to: Offset::new(log.oldest),
                lost: log.oldest - from,
                cause: Cause::Evicted,
                when: Micros::UNKNOWN,
                when_last: Micros::UNKNOWN,
            };
            self.sender.gap(&want, gap);
            return true;
        }
        let frame = log.frame(from);
        let run = Run {
            first: want.from,
            next: want.from + 1,
            base_time: Micros::new(1),
            next_base_time: Micros::new(1),
            len: frame.len(),
        };
        if let Sent::Data { head, head_len } = self.sender.data(self.now(), &want, run) {
            let body = [&head[..head_len], &frame].concat();
            self.up.push_back((message::kind::DATA, body));
        }
        true
    }

    /// What must hold in each state.
    fn judge(&mut self) {
        for log in self.logs.iter().chain(&self.gone) {
            let mirror = self.mirrors.get(&log.id).map_or(&[][..], Vec::as_slice);
            if log.released > mirror.len() as u64 {
                self.broken = Some(format!("{log:?} was released, held is {mirror:?}"));
            }
            for (offset, held) in mirror.iter().enumerate() {
                let is_evicted = (offset as u64) < log.oldest;
                match held {
                    Some(value) if log.records.get(offset) == Some(value) => {}
                    None if is_evicted => {}
                    _ => self.broken = Some(format!("{held:?} at {offset} of {log:?}")),
                }
            }
        }
    }

    fn is_drained(&self) -> bool {
        let all = |log: &ModelLog| {
            log.released == log.next()
                && self.mirrors.get(&log.id).map_or(0, Vec::len) as u64 == log.next()
        };
        self.broken.is_none() && self.logs.iter().all(all)
    }

    /// Whether everything arrives when nothing happens any more but what must.
    fn drains(mut self) -> bool {
        for _ in 0..STEPS_TO_DRAIN {
            if self.is_drained() {
                return true;
            }
            let step = if !self.up.is_empty() {
                Step::Up(Fate::Arrives)
            } else if !self.down.is_empty() {
                Step::Down(Fate::Arrives)
            } else if !self.staged.is_empty() {
                Step::Commit
            } else {
                Step::Wait
            };
            self.take(step);
        }
        false
    }
}

fn keep(mirrors: &mut BTreeMap<LogId, Mirror>, id: LogId, entries: Mirror) {
    mirrors.entry(id).or_default().extend(entries);
}

/// The message that arrives, if one does.
fn take(wire: &mut Queue, fate: Fate) -> Option<(u8, Vec<u8>)> {
    match fate {
        Fate::Twice => wire.front().cloned(),
        Fate::Arrives => wire.pop_front(),
        Fate::Lost => {
            wire.pop_front();
            None
        }
    }
}

fn offer(slot: u16, log: &ModelLog) -> Offer<'static> {
    Offer {
        slot,
        log: log.id,
        stream: "s",
        partition: slot,
        oldest: Offset::new(log.oldest),
        next: Offset::new(log.next()),
        tail_crc: log.crc_below(log.next()),
        closed: false,
        chain: 0,
    }
}

fn sender(start: u64, now: Now) -> Sender<[SenderSlot; PARTITIONS], &'static str> {
    let settings = SenderSettings {
        identity: "device",
        boot: start,
        generation: 1000 * start,
        framing: Framing::Link,
        body_bytes_max: BODY_BYTES,
        idle_timeout_us: 30_000_000,
    };
    let mut sender = Sender::new(settings, [SenderSlot::default(); PARTITIONS], now);
    for slot in 0..PARTITIONS as u16 {
        sender.offer(slot);
    }
    sender
}

fn receiver(start: u64, now: Now) -> Receiver<[ReceiverSlot; PARTITIONS]> {
    let settings = ReceiverSettings {
        boot: start,
        framing: Framing::Link,
        body_bytes_max: BODY_BYTES,
        credit: 4096,
        idle_timeout_us: 30_000_000,
        features: 0,
    };
    Receiver::new(settings, [ReceiverSlot::default(); PARTITIONS], now)
}

/// Goes through the states, the nearest first, and finds none that is wrong.
fn holds(bounds: Conversation) {
    if let Some((property, state)) = explored(bounds).pop_first() {
        panic!("not \"{property}\": {:?}: {:?}", state.way, state.broken);
    }
}

/// The properties that do not hold, each with a state in which it does not.
fn explored(bounds: Conversation) -> BTreeMap<&'static str, State> {
    let states_max = std::env::var("SEDGE_STATES");
    let states_max = states_max.ok().and_then(|number| number.parse().ok());
    let checker = bounds
        .checker()
        .target_state_count(states_max.unwrap_or(STATES))
        .threads(2)
        .spawn_bfs()
        .join();
    eprintln!(
        "{bounds:?}: {} different states",
        checker.unique_state_count()
    );
    let wrong = checker.discoveries().into_iter();
    wrong
        .map(|(property, path)| (property, path.last_state().clone()))
        .collect()
}

#[test]
fn losses_and_repetitions_cost_nothing() {
    holds(Conversation {
        records: 3,
        evictions: 1,
        new_logs: 0,
        cuts: 0,
        faults: 2,
        waits: 3,
        hasty: false,
    });
}

#[test]
fn two_power_cuts_and_a_replaced_disk_cost_what_was_not_acknowledged_at_most() {
    holds(Conversation {
        records: 3,
        evictions: 1,
        new_logs: 1,
        cuts: 2,
        faults: 0,
        waits: 3,
        hasty: false,
    });
}

/// What is explored is about something: an acknowledgement before its commit is found out by the first power cut that meets it.
#[test]
fn a_receiver_that_speaks_before_its_disk_is_found_out() {
    let found = explored(Conversation {
        records: 1,
        evictions: 0,
        new_logs: 0,
        cuts: 1,
        faults: 0,
        waits: 1,
        hasty: true,
    });
    let broken = found
        .get(NOTHING_LOST)
        .and_then(|state| state.broken.clone());
    assert!(broken.is_some_and(|broken| broken.contains("released")));
}

/// One way through everything, so that what the others say is known to be about something.
#[test]
fn a_conversation_with_a_cut_and_an_eviction_arrives_to_the_end() {
    let way = [
        Step::Append(0),
        Step::Append(0),
        Step::Evict(0),
        Step::Append(1),
        Step::ReceiverCut,
    ];
    let world = World::after(&way, false);
    assert!(!world.is_drained());
    assert!(world.drains());
}

const PARTITIONS: usize = 2;
const NOTHING_LOST: &str = "nothing is lost, twice or silent";
const BODY_BYTES: usize = 600;

/// Messages, commits and waits until all has arrived: Hello is repeated after ten seconds at the latest, and Data after each timeout.
const STEPS_TO_DRAIN: usize = 120;

/// In a build that is not optimised, some seconds for each bound.
const STATES: usize = 60_000;

//! Random histories of a group: clients that do what clients do, some that do not, and what holds after each step.

mod client;
mod ledger;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;

use super::*;
use client::{Client, Doing};
use ledger::{Ledger, Request};

/// What may happen. Numbers choose among the clients that there are.
#[derive(Clone, Debug)]
enum Step {
    /// Nobody says anything for so long.
    Pass(Duration),
    /// All do what they would do next, twice a second.
    Live(Duration),
    /// A client does what it would do next.
    Turn(usize),
    /// All do.
    Turns,
    Start(usize),
    /// It forgets everything, and its connection ends.
    Crash(usize),
    Leave(usize),
    /// The connection on which it waits ends; it goes on with what it knows.
    Break(usize),
    /// It subscribes to something else.
    Topics(usize),
    /// It joins again without having been asked to.
    Rejoin(usize),
    Commit(usize),
    Wild(Wild),
}

/// What no client should do, or does once and is never heard of again.
#[derive(Clone, Debug)]
enum Wild {
    /// Some join who bring much, and say nothing any more.
    Ghosts {
        count: usize,
        session: Duration,
        asks_for_id: bool,
        bytes: usize,
    },
    /// Somebody joins with an id that was given to somebody, lately or long ago.
    Thief(usize),
    /// Somebody joins with a client's instance.
    Twin(usize),
    /// All other requests, with an id that was given to somebody, and a generation that is not this one.
    Stray { id: usize, generation: i32 },
    /// The same with an id that nobody ever had.
    Stranger,
}

/// A group, its clients, and what is known about them.
struct World {
    group: Group,
    now: Duration,
    numbers: u64,
    clients: Vec<Client>,
    ledger: Ledger,
}

impl World {
    fn new(clients: Vec<Client>) -> Self {
        Self {
            group: Group::new(limits()),
            now: seconds(50),
            numbers: 0,
            clients,
            ledger: Ledger::new(limits().generation),
        }
    }

    fn take(&mut self, step: &Step) {
        let count = self.clients.len();
        match step {
            Step::Pass(time) => self.pass(*time),
            Step::Live(time) => self.live(self.now + *time),
            Step::Turn(n) => self.turn(n % count),
            Step::Turns => (0..count).for_each(|n| self.turn(n)),
            Step::Start(n) => self.clients[n % count].start(),
            Step::Crash(n) => self.crash(n % count),
            Step::Leave(n) => self.leave(n % count),
            Step::Break(n) => self.break_connection(n % count),
            Step::Topics(n) => {
                self.clients[n % count].topics += 1;
                self.clients[n % count].join_again();
            }
            Step::Rejoin(n) => self.clients[n % count].join_again(),
            Step::Commit(n) => self.commit(n % count),
            Step::Wild(wild) => self.go_wild(wild),
        }
        self.do_what_is_due();
        self.check();
    }

    fn turn(&mut self, n: usize) {
        let client = &self.clients[n];
        match client.doing.clone() {
            Doing::Joins => {
                let asked = client.join();
                let ticket = self.join(Some(n), asked);
                self.clients[n].doing = Doing::AwaitsGeneration(ticket);
            }
            Doing::Syncs(joined) => {
                let asked = client.sync(&joined);
                let ticket = self.sync(Some(n), asked);
                self.clients[n].doing = Doing::AwaitsAssignment(ticket);
            }
            Doing::Reads | Doing::AwaitsAssignment(_) => self.heartbeat(n),
            Doing::AwaitsGeneration(_) | Doing::Nothing => {}
        }
        self.collect();
    }

    fn join(&mut self, client: Option<usize>, asked: Join) -> Ticket {
        let ticket = self.ticket();
        let fresh_id = format!("{}-{}", asked.client, self.numbers);
        let request = Request {
            client,
            id: asked.member.clone(),
            instance: asked.instance.clone(),
            generation: None,
        };
        self.ledger.asked(ticket, request);
        self.group.join(self.now, ticket, asked, fresh_id);
        ticket
    }

    fn sync(&mut self, client: Option<usize>, asked: Sync) -> Ticket {
        let ticket = self.ticket();
        let request = Request {
            client,
            id: asked.member.clone(),
            instance: asked.instance.clone(),
            generation: Some(asked.generation),
        };
        self.ledger.asked(ticket, request);
        self.ledger.proposed(ticket, &asked.assignments);
        self.group.sync(self.now, ticket, asked);
        ticket
    }

    fn heartbeat(&mut self, n: usize) {
        let caller = self.clients[n].caller();
        let beat = self.group.heartbeat(self.now, &caller);
        let preparing = self.group.state() == State::PreparingRebalance;
        match beat {
            Ok(()) => assert!(self.belongs(&caller) && !preparing),
            Err(Code::RebalanceInProgress) => assert!(self.belongs(&caller) && preparing),
            Err(_) => assert!(!self.belongs(&caller)),
        }
        if self.belongs(&caller) {
            self.ledger.signs.insert(caller.member, self.now);
        }
        self.clients[n].heard(beat);
    }

    fn commit(&mut self, n: usize) {
        let client = &self.clients[n];
        if matches!(client.doing, Doing::Nothing) || client.generation < 0 {
            return;
        }
        let caller = client.caller();
        let committed = self.group.may_commit(self.now, &caller);
        let completing = self.group.state() == State::CompletingRebalance;
        match committed {
            Ok(()) => {
                assert!(self.belongs(&caller) && !completing);
                self.ledger.signs.insert(caller.member, self.now);
            }
            Err(Code::RebalanceInProgress) => assert!(self.belongs(&caller) && completing),
            Err(_) => assert!(!self.belongs(&caller)),
        }
    }

    fn crash(&mut self, n: usize) {
        self.break_connection(n);
        self.clients[n].stop();
    }

    fn leave(&mut self, n: usize) {
        self.break_connection(n);
        let leaving = Leaving {
            member: self.clients[n].id.clone(),
            instance: self.clients[n].instance.clone(),
        };
        if !leaving.member.is_empty() && self.group.leave(self.now, &leaving).is_ok() {
            let gone = |m: &&Member| m.id == leaving.member;
            assert!(!self.group.members.iter().any(|m| gone(&m)));
        }
        self.clients[n].stop();
        self.collect();
    }

    fn break_connection(&mut self, n: usize) {
        let (Doing::AwaitsGeneration(ticket) | Doing::AwaitsAssignment(ticket)) =
            self.clients[n].doing
        else {
            return;
        };
        let waiting = self.group.members.iter();
        for member in waiting.filter(|m| m.ticket == Some(ticket)) {
            self.ledger.signs.insert(member.id.clone(), self.now);
        }
        self.group.forsake(ticket);
        self.ledger.forsaken(ticket);
        self.clients[n].doing = Doing::Joins;
    }

    fn go_wild(&mut self, wild: &Wild) {
        match *wild {
            Wild::Ghosts {
                count,
                session,
                asks_for_id,
                bytes,
            } => {
                let asked = Join {
                    session,
                    asks_for_id,
                    protocols: vec![("range".into(), vec![0; bytes].into())],
                    ..consumer("ghost")
                };
                for _ in 0..count {
                    self.join(None, asked.clone());
                }
            }
            Wild::Thief(n) => {
                let member = self.ledger.id(n);
                let asked = Join {
                    member,
                    ..supporting(consumer("thief"), &["range"])
                };
                self.join(None, asked);
            }
            Wild::Twin(n) => {
                let n = n % self.clients.len();
                let asked = Join {
                    member: String::new(),
                    ..self.clients[n].join()
                };
                self.join(None, asked);
            }
            Wild::Stray { id, generation } => {
                let id = self.ledger.id(id);
                self.stray(id, self.group.generation() + generation);
            }
            Wild::Stranger => {
                self.stray("stranger".into(), self.group.generation());
                let asked = Join {
                    member: "stranger".into(),
                    ..consumer("stranger")
                };
                self.join(None, asked);
                let leaving = Leaving {
                    member: "stranger".into(),
                    instance: None,
                };
                assert!(self.group.leave(self.now, &leaving).is_err());
            }
        }
        self.collect();
    }

    fn stray(&mut self, member: String, generation: i32) {
        let caller = Caller {
            member: member.clone(),
            instance: None,
            generation,
        };
        assert!(self.group.heartbeat(self.now, &caller).is_err());
        assert!(self.group.may_commit(self.now, &caller).is_err());
        let asked = Sync {
            member: member.clone(),
            instance: None,
            generation,
            protocol_type: None,
            protocol: None,
            assignments: vec![(member, part("everything"))],
        };
        let ticket = self.sync(None, asked);
        self.collect();
        assert!(!self.ledger.waits(ticket), "it is refused at once");
    }

    fn live(&mut self, end: Duration) {
        while self.now < end {
            self.take(&Step::Turns);
            self.pass(ms(500));
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.group.due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.do_what_is_due();
        }
        self.now = end;
    }

    /// What a timer does that is never late.
    fn do_what_is_due(&mut self) {
        self.collect();
        let mut turns = 0;
        while self.group.due().is_some_and(|due| due <= self.now) {
            self.group.tick(self.now);
            self.collect();
            turns += 1;
            assert!(turns < 10, "what is due is never done: {:?}", self.group);
        }
    }

    fn collect(&mut self) {
        let answers = self.group.answers();
        self.ledger.assignments_accepted(&answers);
        for (ticket, answer) in answers {
            let client = self.ledger.answered(self.now, ticket, &answer);
            if let Some(n) = client {
                self.clients[n].answered(ticket, answer);
            }
        }
    }

    /// What holds at any time.
    fn check(&mut self) {
        self.ledger.grows(self.group.generation());
        let waiting = self.group.members.iter().filter_map(|m| m.ticket);
        self.ledger.only_these_wait(waiting.collect());
        for member in &self.group.members {
            if member.ticket.is_some() {
                self.ledger.signs.insert(member.id.clone(), self.now);
            }
            let seen = self.ledger.signs[&member.id];
            assert!(seen + member.session > self.now, "{member:?} is silent");
        }
        let limits = limits();
        let members = self.group.members.len();
        assert!(members + self.group.pending.len() <= limits.members_max);
        assert!(self.group.bytes() <= limits.bytes_max);
        let stable = self.group.state() == State::Stable;
        let state = [self.group.state() == State::Empty, members == 0];
        assert!(state == [true; 2] || state == [false; 2]);
        let leads = |m: &Member| m.id == self.group.leader;
        assert_eq!(
            self.group.members.iter().filter(|m| leads(m)).count(),
            members.min(1)
        );
        if stable {
            self.ledger
                .holds(self.group.generation(), &self.group.members);
        }
    }

    /// Whether this is a member of this generation, by what the group tells of itself.
    fn belongs(&self, caller: &Caller) -> bool {
        let members = self.group.describe().members;
        let known = members.iter().any(|m| m.member == caller.member);
        known && caller.generation == self.group.generation()
    }

    /// Everybody is there and does what it should, for half a second.
    fn behave(&mut self) {
        for n in 0..self.clients.len() {
            self.clients[n].start();
        }
        for _ in 0..2 {
            self.take(&Step::Turns);
        }
        self.take(&Step::Pass(ms(500)));
    }

    fn all_read(&self) -> bool {
        let reads = |c: &Client| matches!(c.doing, Doing::Reads) && self.belongs(&c.caller());
        self.group.state() == State::Stable
            && self.group.members.len() == self.clients.len()
            && self.clients.iter().all(reads)
    }

    fn ticket(&mut self) -> Ticket {
        self.numbers += 1;
        Ticket(self.numbers)
    }
}

fn limits() -> Options {
    Options {
        members_max: 8,
        bytes_max: 2_000,
        generation: 1_000,
        ..Options::default()
    }
}

fn clients() -> impl Strategy<Value = Vec<Client>> {
    let client = (
        any::<bool>(),
        any::<bool>(),
        2_u64..10,
        3_u64..20,
        0_usize..3,
    );
    vec(client, 1..=5).prop_map(|drawn| {
        let clients = drawn.into_iter().enumerate();
        clients.map(|(n, drawn)| Client::new(n, drawn)).collect()
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_u64..800).prop_map(|time| Step::Pass(ms(time))),
        1 => (1_u64..12).prop_map(|time| Step::Pass(seconds(time))),
        3 => (1_u64..20).prop_map(|time| Step::Live(seconds(time))),
        8 => any::<usize>().prop_map(Step::Turn),
        12 => Just(Step::Turns),
        3 => any::<usize>().prop_map(Step::Start),
        1 => any::<usize>().prop_map(Step::Crash),
        1 => any::<usize>().prop_map(Step::Leave),
        1 => any::<usize>().prop_map(Step::Break),
        1 => any::<usize>().prop_map(Step::Topics),
        1 => any::<usize>().prop_map(Step::Rejoin),
        1 => any::<usize>().prop_map(Step::Commit),
        2 => wild().prop_map(Step::Wild),
    ]
}

fn wild() -> impl Strategy<Value = Wild> {
    let ghosts = (1_usize..8, 1_u64..10, any::<bool>(), 0_usize..400);
    let ghosts = ghosts.prop_map(|(count, session, asks_for_id, bytes)| Wild::Ghosts {
        count,
        session: seconds(session),
        asks_for_id,
        bytes,
    });
    let generation = prop_oneof![-3..=-1, 1..=3];
    let stray = (any::<usize>(), generation);
    prop_oneof![
        ghosts,
        any::<usize>().prop_map(Wild::Thief),
        any::<usize>().prop_map(Wild::Twin),
        stray.prop_map(|(id, generation)| Wild::Stray { id, generation }),
        Just(Wild::Stranger),
    ]
}

proptest! {
    #![proptest_config(Config { cases: 200, failure_persistence: None, ..Config::default() })]

    /// Whatever happened before: when all do what they should, all read within bounded time, and then nothing changes any more.
    #[test]
    fn group_keeps_its_promises_and_comes_to_rest(clients in clients(), steps in vec(step(), 1..100)) {
        let mut world = World::new(clients);
        world.behave();
        for step in &steps {
            world.take(step);
        }
        let patience = world.now + LONGEST;
        while !world.all_read() {
            assert!(world.now < patience, "{:?}\n{:?}", world.group, world.clients);
            world.behave();
        }
        let generation = world.group.generation();
        for _ in 0..80 {
            world.behave();
            assert!(world.all_read(), "{:?}\n{:?}", world.group, world.clients);
        }
        assert_eq!(world.group.generation(), generation);
    }
}

/// The longest session may have to end, then a rebalance that waits for it, then the same once more for whom that made the leader.
const LONGEST: Duration = Duration::from_secs(60);

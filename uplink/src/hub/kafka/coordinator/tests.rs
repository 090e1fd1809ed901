//! Stories of a group. Time is what a story says; nothing here waits.

mod joining;
mod limits;
mod model;
mod silence;
mod standing;
mod syncing;

use std::collections::HashMap;

use super::*;

/// A group, what time it is, and what was answered.
struct Scene {
    group: Group,
    now: Duration,
    numbers: u64,
    answered: HashMap<Ticket, Answer>,
}

impl Scene {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        Self {
            group: Group::new(options),
            now: seconds(100),
            numbers: 0,
            answered: HashMap::new(),
        }
    }

    /// A group in which these have joined and have their parts.
    fn stable(comers: impl IntoIterator<Item = Join>) -> (Self, Vec<Joined>) {
        let mut scene = Self::new();
        let tickets = comers.into_iter().map(|asked| scene.join(asked));
        let tickets: Vec<Ticket> = tickets.collect();
        scene.pass(Options::default().delay * 2);
        let joined: Vec<Joined> = tickets.into_iter().map(|t| scene.joined(t)).collect();
        scene.sync_all(&joined);
        assert_eq!(scene.group.state(), State::Stable);
        (scene, joined)
    }

    fn join(&mut self, asked: Join) -> Ticket {
        let ticket = self.ticket();
        let fresh_id = format!("{}-{}", asked.client, self.numbers);
        self.group.join(self.now, ticket, asked, fresh_id);
        self.collect();
        ticket
    }

    fn sync(&mut self, asked: Sync) -> Ticket {
        let ticket = self.ticket();
        self.group.sync(self.now, ticket, asked);
        self.collect();
        ticket
    }

    /// Everybody sends SyncGroup, the leader last; each gets a part that names it.
    fn sync_all(&mut self, joined: &[Joined]) {
        let (leader, others): (Vec<&Joined>, Vec<&Joined>) =
            joined.iter().partition(|j| j.leader == j.member);
        let tickets = others.into_iter().map(|j| self.sync(empty_sync(j)));
        let waiting: Vec<Ticket> = tickets.collect();
        let led = self.sync(leading_sync(leader[0]));
        for ticket in waiting.into_iter().chain([led]) {
            self.assigned(ticket);
        }
    }

    fn heartbeat(&mut self, joined: &Joined) -> Result<(), Code> {
        let beat = self.group.heartbeat(self.now, &caller(joined));
        self.collect();
        beat
    }

    fn commit(&mut self, joined: &Joined) -> Result<(), Code> {
        self.group.may_commit(self.now, &caller(joined))
    }

    fn leave(&mut self, member: &str, instance: Option<&str>) -> Result<(), Code> {
        let leaving = Leaving {
            member: member.into(),
            instance: instance.map(Into::into),
        };
        let left = self.group.leave(self.now, &leaving);
        self.collect();
        left
    }

    /// Time goes by, and what is due is done when it is.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.group.due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.group.tick(self.now);
            self.collect();
            assert!(self.group.due() > Some(self.now) || self.group.due().is_none());
        }
        self.now = end;
    }

    /// Time goes by, and these members show that they live.
    fn pass_with(&mut self, time: Duration, alive: &[&Joined]) {
        let end = self.now + time;
        while self.now < end {
            self.pass((end - self.now).min(seconds(1)));
            for joined in alive {
                assert_ne!(self.heartbeat(joined), Err(Code::UnknownMember));
            }
        }
    }

    fn joined(&mut self, ticket: Ticket) -> Joined {
        match self.answered.remove(&ticket) {
            Some(Answer::Joined(joined)) => joined,
            other => panic!("{ticket:?}: {other:?}"),
        }
    }

    fn assigned(&mut self, ticket: Ticket) -> Bytes {
        match self.answered.remove(&ticket) {
            Some(Answer::Synced { assignment }) => assignment,
            other => panic!("{ticket:?}: {other:?}"),
        }
    }

    fn refused(&mut self, ticket: Ticket) -> (Code, String) {
        match self.answered.remove(&ticket) {
            Some(Answer::Refused(code, member)) => (code, member),
            other => panic!("{ticket:?}: {other:?}"),
        }
    }

    fn waits(&self, ticket: Ticket) -> bool {
        !self.answered.contains_key(&ticket)
    }

    fn members(&self) -> Vec<String> {
        let members = self.group.describe().members;
        members.into_iter().map(|m| m.member).collect()
    }

    fn ticket(&mut self) -> Ticket {
        self.numbers += 1;
        Ticket(self.numbers)
    }

    fn collect(&mut self) {
        for (ticket, answer) in self.group.answers() {
            let before = self.answered.insert(ticket, answer);
            assert_eq!(before, None, "{ticket:?} is answered twice");
        }
    }
}

/// A dynamic member that comes for the first time, with an old client that is not told its id before.
fn consumer(client: &str) -> Join {
    Join {
        member: String::new(),
        instance: None,
        client: client.into(),
        host: "/127.0.0.1".into(),
        session: seconds(10),
        rebalance: seconds(60),
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), subscription(&["boilers"], b""))],
        asks_for_id: false,
    }
}

/// A static member that has just been started.
fn fixed(instance: &str) -> Join {
    Join {
        instance: Some(instance.into()),
        asks_for_id: true,
        ..consumer(instance)
    }
}

/// The same member again.
fn again(asked: &Join, joined: &Joined) -> Join {
    Join {
        member: joined.member.clone(),
        ..asked.clone()
    }
}

/// The same, with other topics.
fn other_topics(asked: Join) -> Join {
    Join {
        protocols: vec![("range".into(), subscription(&["boilers", "pumps"], b""))],
        ..asked
    }
}

fn supporting(asked: Join, protocols: &[&str]) -> Join {
    let metadata = subscription(&["boilers"], b"");
    let protocols = protocols.iter().map(|p| ((*p).into(), metadata.clone()));
    Join {
        protocols: protocols.collect(),
        ..asked
    }
}

fn subscription(topics: &[&str], rest: &[u8]) -> Bytes {
    let mut bytes = vec![0, 1];
    bytes.extend(u32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        bytes.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend(rest);
    bytes.into()
}

fn empty_sync(joined: &Joined) -> Sync {
    Sync {
        member: joined.member.clone(),
        instance: None,
        generation: joined.generation,
        protocol_type: None,
        protocol: Some(joined.protocol.clone()),
        assignments: Vec::new(),
    }
}

fn leading_sync(joined: &Joined) -> Sync {
    let part = |id: &String| (id.clone(), part(id));
    Sync {
        assignments: joined.members.iter().map(|(id, _, _)| part(id)).collect(),
        ..empty_sync(joined)
    }
}

fn part(id: &str) -> Bytes {
    format!("part of {id}").into()
}

fn caller(joined: &Joined) -> Caller {
    Caller {
        member: joined.member.clone(),
        instance: None,
        generation: joined.generation,
    }
}

fn ids(joined: &Joined) -> Vec<&str> {
    joined
        .members
        .iter()
        .map(|(id, _, _)| id.as_str())
        .collect()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

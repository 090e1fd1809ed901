//! A consumer as real ones are: what it knows, what it does next, and what it makes of an answer.

use super::*;

/// One consumer.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) name: String,
    pub(super) instance: Option<String>,
    asks_for_id: bool,
    session: Duration,
    rebalance: Duration,
    protocols: &'static [&'static str],
    /// What it is subscribed to.
    pub(super) topics: usize,
    /// As it was told last; empty when it was told none, or that it is unknown.
    pub(super) id: String,
    pub(super) generation: i32,
    pub(super) doing: Doing,
}

#[derive(Clone, Debug)]
pub(super) enum Doing {
    /// It does not run.
    Nothing,
    Joins,
    AwaitsGeneration(Ticket),
    Syncs(Joined),
    AwaitsAssignment(Ticket),
    Reads,
}

impl Client {
    pub(super) fn new(n: usize, drawn: (bool, bool, u64, u64, usize)) -> Self {
        let (fixed, asks_for_id, session, rebalance, protocols) = drawn;
        Self {
            name: format!("client {n}"),
            instance: fixed.then(|| format!("instance {n}")),
            asks_for_id,
            session: seconds(session),
            rebalance: seconds(rebalance),
            protocols: [
                &["range"][..],
                &["sticky", "range"],
                &["robin", "range", "sticky"],
            ][protocols],
            topics: 0,
            id: String::new(),
            generation: -1,
            doing: Doing::Nothing,
        }
    }

    pub(super) fn start(&mut self) {
        if matches!(self.doing, Doing::Nothing) {
            self.doing = Doing::Joins;
        }
    }

    pub(super) fn stop(&mut self) {
        self.doing = Doing::Nothing;
        self.forget();
    }

    pub(super) fn join_again(&mut self) {
        if matches!(self.doing, Doing::Reads | Doing::Syncs(_)) {
            self.doing = Doing::Joins;
        }
    }

    pub(super) fn join(&self) -> Join {
        let metadata = subscription(&[&self.topics.to_string()], b"");
        let protocols = self.protocols.iter();
        let protocols = protocols.map(|name| ((*name).to_owned(), metadata.clone()));
        Join {
            member: self.id.clone(),
            instance: self.instance.clone(),
            session: self.session,
            rebalance: self.rebalance,
            protocols: protocols.collect(),
            asks_for_id: self.asks_for_id,
            ..consumer(&self.name)
        }
    }

    /// The leader gives each partition to one member, and forgets one of the members now and then.
    pub(super) fn sync(&self, joined: &Joined) -> Sync {
        let mut assignments = Vec::new();
        if joined.leader == joined.member {
            let readers = joined.members.len();
            let forgotten = usize::try_from(joined.generation).unwrap() % (3 * readers);
            for (n, (id, _, _)) in joined.members.iter().enumerate() {
                let mine = (0..PARTITIONS).filter(|p| usize::from(*p) % readers == n);
                if n != forgotten || readers == 1 {
                    assignments.push((id.clone(), mine.collect()));
                }
            }
            assignments.push(("stranger".to_owned(), part("stranger")));
        }
        Sync {
            instance: self.instance.clone(),
            assignments,
            ..empty_sync(joined)
        }
    }

    pub(super) fn caller(&self) -> Caller {
        Caller {
            member: self.id.clone(),
            instance: self.instance.clone(),
            generation: self.generation,
        }
    }

    pub(super) fn answered(&mut self, ticket: Ticket, answer: Answer) {
        let (Doing::AwaitsGeneration(awaited) | Doing::AwaitsAssignment(awaited)) = self.doing
        else {
            panic!("{self:?} awaits nothing: {answer:?}");
        };
        assert_eq!(awaited, ticket);
        match answer {
            Answer::Joined(joined) => {
                assert!(matches!(self.doing, Doing::AwaitsGeneration(_)));
                assert!(self.id.is_empty() || self.id == joined.member);
                self.id.clone_from(&joined.member);
                self.generation = joined.generation;
                self.doing = Doing::Syncs(joined);
            }
            Answer::Synced { .. } => {
                assert!(matches!(self.doing, Doing::AwaitsAssignment(_)));
                self.doing = Doing::Reads;
            }
            Answer::Refused(Code::MemberIdRequired, id) => {
                assert!(self.id.is_empty() && self.asks_for_id && self.instance.is_none());
                self.id = id;
                self.doing = Doing::Joins;
            }
            Answer::Refused(code, _) => self.sent_back(code),
        }
    }

    pub(super) fn heard(&mut self, beat: Result<(), Code>) {
        match (beat, &self.doing) {
            // It will be answered.
            (Ok(()), _) | (Err(_), Doing::AwaitsAssignment(_)) => {}
            (Err(code), _) => self.sent_back(code),
        }
    }

    fn sent_back(&mut self, code: Code) {
        match code {
            Code::RebalanceInProgress | Code::IllegalGeneration => self.doing = Doing::Joins,
            Code::UnknownMember => {
                self.forget();
                self.doing = Doing::Joins;
            }
            Code::FencedInstance => {
                assert!(self.instance.is_some());
                self.stop();
            }
            Code::GroupFull | Code::InconsistentProtocol => self.stop(),
            other => panic!("{self:?}: {other:?}"),
        }
    }

    fn forget(&mut self) {
        self.id.clear();
        self.generation = -1;
    }
}

const PARTITIONS: u8 = 12;

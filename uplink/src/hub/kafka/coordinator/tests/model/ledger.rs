//! What was asked, answered and given, kept apart from the group to hold it to account.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::*;

/// Everything that was said.
#[derive(Debug)]
pub(super) struct Ledger {
    waiting: BTreeMap<Ticket, Request>,
    /// What a leader says, until it is known whether it is heard.
    proposed: HashMap<Ticket, Vec<(String, Bytes)>>,
    generations: HashMap<i32, Generation>,
    last: i32,
    /// All ids that members were given.
    ids: Vec<String>,
    /// When each of them was heard last.
    pub(super) signs: HashMap<String, Duration>,
}

/// A request that awaits its answer.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// Nobody hears the answer when there is none.
    pub(super) client: Option<usize>,
    pub(super) id: String,
    pub(super) instance: Option<String>,
    /// Of SyncGroup.
    pub(super) generation: Option<i32>,
}

/// What a generation's members were told. A static member is known by its instance: its id changes while its place is the same.
#[derive(Debug, Default)]
struct Generation {
    protocol: Option<String>,
    leader: Option<String>,
    /// Whose places there are, by id.
    places: BTreeMap<String, String>,
    /// What the leader gave to each place.
    given: Option<BTreeMap<String, Bytes>>,
    received: BTreeMap<String, Bytes>,
}

impl Ledger {
    pub(super) fn new(generation: i32) -> Self {
        Self {
            waiting: BTreeMap::new(),
            proposed: HashMap::new(),
            generations: HashMap::new(),
            last: generation,
            ids: Vec::new(),
            signs: HashMap::new(),
        }
    }

    pub(super) fn asked(&mut self, ticket: Ticket, request: Request) {
        self.waiting.insert(ticket, request);
    }

    pub(super) fn proposed(&mut self, ticket: Ticket, said: &[(String, Bytes)]) {
        self.proposed.insert(ticket, said.to_vec());
    }

    pub(super) fn forsaken(&mut self, ticket: Ticket) {
        assert!(self.waiting.remove(&ticket).is_some());
    }

    pub(super) fn waits(&self, ticket: Ticket) -> bool {
        self.waiting.contains_key(&ticket)
    }

    /// Any id that was ever given.
    pub(super) fn id(&self, n: usize) -> String {
        let id = self.ids.get(n % self.ids.len().max(1));
        id.cloned().unwrap_or_else(|| "nobody".into())
    }

    /// The first assignment of a generation's leader that is answered well is the one that counts.
    pub(super) fn assignments_accepted(&mut self, answers: &[(Ticket, Answer)]) {
        for (ticket, answer) in answers {
            let (Answer::Synced { .. }, Some(request)) = (answer, self.waiting.get(ticket)) else {
                continue;
            };
            let said = &self.proposed[ticket];
            let Some(number) = request.generation.filter(|_| !said.is_empty()) else {
                continue;
            };
            let generation = self.generations.entry(number).or_default();
            let places = &generation.places;
            let place = |id: &String| places.get(id).unwrap_or(id).clone();
            let said = said.iter().map(|(id, part)| (place(id), part.clone()));
            generation.given.get_or_insert(said.collect());
        }
    }

    /// An answer is the only one to its request, and true. Tells whose it is.
    pub(super) fn answered(
        &mut self,
        now: Duration,
        ticket: Ticket,
        answer: &Answer,
    ) -> Option<usize> {
        let request = self.waiting.remove(&ticket);
        let request = request.expect("asked, and neither answered nor forsaken before");
        match answer {
            Answer::Joined(joined) => {
                assert!(request.generation.is_none());
                assert!(request.id.is_empty() || request.id == joined.member);
                self.signs.insert(joined.member.clone(), now);
                self.ids.push(joined.member.clone());
                self.joined(&request, joined);
            }
            Answer::Synced { assignment } => {
                self.signs.insert(request.id.clone(), now);
                self.synced(&request, assignment);
            }
            Answer::Refused(code, id) => {
                if *code == Code::MemberIdRequired {
                    self.ids.push(id.clone());
                }
                self.signs.insert(request.id, now);
            }
        }
        request.client
    }

    fn joined(&mut self, request: &Request, joined: &Joined) {
        let place = place(&joined.member, request.instance.as_deref());
        let generation = self.generations.entry(joined.generation).or_default();
        let protocol = generation.protocol.get_or_insert(joined.protocol.clone());
        assert_eq!(*protocol, joined.protocol);
        if joined.leader == joined.member {
            let leader = generation.leader.get_or_insert(joined.member.clone());
            assert_eq!(*leader, joined.member, "two lead one generation");
            let told = joined.members.iter();
            let told =
                told.map(|(id, instance, _)| (id.clone(), self::place(id, instance.as_deref())));
            let told: BTreeMap<String, String> = told.collect();
            assert_eq!(told.len(), joined.members.len());
            assert!(told.contains_key(&joined.member));
            if !generation.places.is_empty() {
                assert_eq!(generation.places, told, "the leader was told two things");
            }
            generation.places = told;
        } else {
            assert!(joined.members.is_empty());
        }
        let known: BTreeSet<&String> = generation.places.values().collect();
        // By a stolen id a static member may be told its answer as if it were none.
        let known = known.is_empty() || known.contains(&place) || request.client.is_none();
        assert!(
            known,
            "{place} is in a generation that its leader does not know"
        );
    }

    fn synced(&mut self, request: &Request, assignment: &Bytes) {
        let number = request.generation.expect("of a SyncGroup");
        let place = place(&request.id, request.instance.as_deref());
        let generation = self.generations.get_mut(&number);
        let generation = generation.expect("somebody joined it");
        let given = generation.given.as_ref().expect("its leader has spoken");
        let mine = given.get(&place).cloned().unwrap_or_default();
        assert_eq!(*assignment, mine, "{place} in {number}");
        let before = generation.received.insert(place, mine.clone());
        assert!(before.is_none_or(|before| before == mine));
        disjoint(generation.received.values());
    }

    /// Each member of a stable group holds what the leader gave to its place.
    pub(super) fn holds(&self, number: i32, members: &[Member]) {
        let given = self.generations[&number].given.as_ref();
        let given = given.expect("its leader has spoken");
        for member in members {
            let mine = given.get(&place(&member.id, member.instance.as_deref()));
            assert_eq!(member.assignment, mine.cloned().unwrap_or_default());
        }
        disjoint(members.iter().map(|m| &m.assignment));
    }

    pub(super) fn grows(&mut self, generation: i32) {
        assert!(generation >= self.last, "{generation} after {}", self.last);
        self.last = generation;
        assert!(self.generations.keys().all(|known| *known <= generation));
    }

    /// Nothing was asked that is neither answered, nor forsaken, nor waited for.
    pub(super) fn only_these_wait(&self, held: BTreeSet<Ticket>) {
        let waiting: BTreeSet<Ticket> = self.waiting.keys().copied().collect();
        assert_eq!(waiting, held);
    }
}

fn place(id: &str, instance: Option<&str>) -> String {
    instance.unwrap_or(id).to_owned()
}

fn disjoint<'a>(assignments: impl Iterator<Item = &'a Bytes>) {
    let mut seen = BTreeSet::new();
    let partitions = assignments.flat_map(|assignment| assignment.iter());
    for partition in partitions {
        assert!(
            seen.insert(partition),
            "partition {partition} is read twice"
        );
    }
}

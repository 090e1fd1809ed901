//! The groups that have members over Kafka's protocol: the rules of `coordinator.rs`, with a clock, and with somebody who waits for each answer.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::coordinator::{
    Answer, Caller, Code, Described, Group, Join, Leaving, Options, Sync, Ticket,
};
use crate::hub::Shared;

/// All of them. They are known only as long as the hub runs: members of one that was there before are told that they are not known, and join again.
#[derive(Debug)]
pub(crate) struct Members {
    state: Mutex<State>,
    /// Something is due earlier than it was.
    bell: Notify,
}

#[derive(Debug, Default)]
struct State {
    began: Option<Instant>,
    groups: BTreeMap<String, Group>,
    waiting: HashMap<Ticket, oneshot::Sender<Answer>>,
    next_ticket: u64,
    next_member: u64,
    /// The latest generation of a group that is not here any more.
    generation_last: i32,
}

impl Members {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            bell: Notify::new(),
        }
    }

    /// Whether `group` has members.
    pub(crate) fn are_in(&self, group: &str) -> bool {
        let state = self.lock();
        state
            .groups
            .get(group)
            .is_some_and(|group| !group.is_empty())
    }

    /// The names of those that have members, each with the type of its protocol.
    pub(super) fn names(&self) -> Vec<(String, String)> {
        let state = self.lock();
        let named = state.groups.iter().filter(|(_, group)| !group.is_empty());
        named
            .map(|(name, group)| (name.clone(), group.describe().protocol_type))
            .collect()
    }

    pub(super) fn describe(&self, group: &str) -> Option<Described> {
        let state = self.lock();
        let group = state.groups.get(group).filter(|group| !group.is_empty());
        group.map(Group::describe)
    }

    pub(super) async fn join(&self, group: &str, join: Join) -> Answer {
        let asked = |state: &mut State, now, ticket| {
            if !state.groups.contains_key(group) && state.groups.len() >= GROUPS_MAX {
                return Err(Code::GroupFull);
            }
            let bytes: usize = state.groups.values().map(Group::bytes).sum();
            let more: usize = join
                .protocols
                .iter()
                .map(|(name, of)| name.len() + of.len())
                .sum();
            if bytes + more > BYTES_MAX {
                return Err(Code::GroupFull);
            }
            let fresh = state.fresh_member(&join.client);
            let generation = first_generation().max(state.generation_last);
            let group = state.groups.entry(group.to_owned()).or_insert_with(|| {
                Group::new(Options {
                    generation,
                    ..Options::default()
                })
            });
            group.join(now, ticket, join, fresh);
            Ok(())
        };
        self.ask(group, asked).await
    }

    pub(super) async fn sync(&self, group: &str, sync: Sync) -> Answer {
        let asked = |state: &mut State, now, ticket| {
            let group = state.groups.get_mut(group).ok_or(Code::UnknownMember)?;
            group.sync(now, ticket, sync);
            Ok(())
        };
        self.ask(group, asked).await
    }

    pub(super) fn heartbeat(&self, group: &str, caller: &Caller) -> Result<(), Code> {
        self.tell(group, |group, now| group.heartbeat(now, caller))
    }

    pub(super) fn leave(&self, group: &str, leaving: &Leaving) -> Result<(), Code> {
        self.tell(group, |group, now| group.leave(now, leaving))
    }

    /// Whether `caller` may say where the group has come to. Who is no member may if there is none.
    pub(super) fn may_commit(&self, group: &str, caller: &Caller) -> Result<(), Code> {
        match self.tell(group, |group, now| group.may_commit(now, caller)) {
            Err(Code::UnknownMember) if caller.generation < 0 && !self.are_in(group) => Ok(()),
            told => told,
        }
    }

    async fn ask(
        &self,
        name: &str,
        asked: impl FnOnce(&mut State, Duration, Ticket) -> Result<(), Code>,
    ) -> Answer {
        let (answer, answered) = oneshot::channel();
        let ticket = {
            let mut state = self.lock();
            let (now, ticket) = (state.now(), Ticket(state.next_ticket));
            state.next_ticket += 1;
            state.waiting.insert(ticket, answer);
            if let Err(code) = asked(&mut state, now, ticket) {
                state.waiting.remove(&ticket);
                return Answer::Refused(code, String::new());
            }
            state.deliver(name);
            ticket
        };
        self.bell.notify_one();
        let waits = Waits {
            members: self,
            name,
            ticket,
        };
        let answer = answered.await;
        drop(waits);
        answer.unwrap_or(Answer::Refused(Code::UnknownMember, String::new()))
    }

    fn tell<T>(
        &self,
        name: &str,
        say: impl FnOnce(&mut Group, Duration) -> Result<T, Code>,
    ) -> Result<T, Code> {
        let mut state = self.lock();
        let now = state.now();
        let group = state.groups.get_mut(name).ok_or(Code::UnknownMember)?;
        let before = group.due();
        let told = say(group, now);
        let after = group.due();
        state.deliver(name);
        // What is due later than it was may wait for its old time; a group that has nothing due any more may be over.
        let is_earlier = after.is_none_or(|after| before.is_none_or(|before| after < before));
        if is_earlier {
            self.bell.notify_one();
        }
        told
    }

    /// Does what is due. When it is to be called again, and which groups have no members any more.
    fn tick(&self) -> (Option<Instant>, Vec<String>) {
        let mut state = self.lock();
        let now = state.now();
        let names: Vec<String> = state.groups.keys().cloned().collect();
        let mut empty = Vec::new();
        for name in names {
            if let Some(group) = state.groups.get_mut(&name) {
                group.tick(now);
            }
            state.deliver(&name);
            // One that waits for somebody to come back with the id it was given has something due.
            let is_over = |group: &Group| group.is_empty() && group.due().is_none();
            if let Some(group) = state.groups.get(&name).filter(|group| is_over(group)) {
                state.generation_last = state.generation_last.max(group.generation());
                state.groups.remove(&name);
                empty.push(name);
            }
        }
        let began = state.began.unwrap_or_else(Instant::now);
        let due = state.groups.values().filter_map(Group::due).min();
        (due.map(|due| began + due.max(now + MOMENT)), empty)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn now(&mut self) -> Duration {
        self.began.get_or_insert_with(Instant::now).elapsed()
    }

    fn deliver(&mut self, name: &str) {
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        for (ticket, answer) in group.answers() {
            if let Some(waiting) = self.waiting.remove(&ticket) {
                // Who has gone meanwhile hears nothing.
                waiting.send(answer).unwrap_or_default();
            }
        }
    }

    /// As Kafka's: what the client calls itself, and something that nobody else has.
    fn fresh_member(&mut self, client: &str) -> String {
        self.next_member += 1;
        let mut random = [0; 8];
        // Without chance it is still one that no other member of this hub's life has.
        sedge_store::world::entropy(&mut random).unwrap_or_default();
        let random = u64::from_be_bytes(random);
        let client: String = client.chars().take(64).collect();
        format!("{client}-{random:016x}-{}", self.next_member)
    }
}

/// Somebody waits for an answer. Dropped, it waits no more.
struct Waits<'a> {
    members: &'a Members,
    name: &'a str,
    ticket: Ticket,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut state = self.members.lock();
        if state.waiting.remove(&self.ticket).is_some()
            && let Some(group) = state.groups.get_mut(self.name)
        {
            group.forsake(self.ticket);
            self.members.bell.notify_one();
        }
    }
}

/// Does what is due in all groups, as long as the hub runs.
pub(super) async fn keep_time(shared: &Arc<Shared>) {
    let members = shared.groups.members();
    loop {
        let rung = members.bell.notified();
        let (due, empty) = members.tick();
        for group in empty {
            shared.groups.members_left(&group).await;
        }
        tokio::select! {
            biased;
            () = rung => {}
            () = until(due) => {}
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Generations go up in each life of a hub, and one begins where no life before can have come: a second has fewer rebalances than one.
fn first_generation() -> i32 {
    let seconds = crate::trust::unix_s().saturating_sub(GENERATIONS_SINCE);
    i32::try_from(seconds).unwrap_or(1).max(1)
}

/// 2026-01-01 in seconds since 1970.
const GENERATIONS_SINCE: u64 = 1_767_225_600;
/// What is due at once is looked for that much later.
const MOMENT: Duration = Duration::from_millis(1);
/// Groups that have members.
const GROUPS_MAX: usize = 1_000;
/// What members of all groups say of themselves and are told, in bytes.
const BYTES_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::task::JoinHandle;
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::hub::groups::{Applicant, GroupError, GroupName, LEASE};
    use crate::hub::{Hub, HubOptions};

    /// A hub in which time is kept for members.
    struct Given {
        hub: Hub,
        keeper: JoinHandle<()>,
        _dir: tempfile::TempDir,
    }

    impl Given {
        async fn open() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let hub = Hub::open(HubOptions::new(dir.path())).await.unwrap();
            let shared = Arc::clone(&hub.shared);
            let keeper = tokio::spawn(async move { keep_time(&shared).await });
            Self {
                hub,
                keeper,
                _dir: dir,
            }
        }

        fn members(&self) -> &Members {
            self.hub.shared.groups.members()
        }
    }

    impl Drop for Given {
        fn drop(&mut self) {
            self.keeper.abort();
        }
    }

    /// A member by sedge's own protocol was silent for longer than its lease lasts, and one over Kafka's came: the two do not go on side by side.
    #[tokio::test(start_paused = true)]
    async fn who_comes_back_behind_them_is_fenced() {
        let given = Given::open().await;
        let groups = &given.hub.shared.groups;
        let name = GroupName {
            group: "billing".into(),
            stream: "telemetry".into(),
        };
        let applicant = Applicant {
            member: "m1".into(),
            connection: 1,
            generation: None,
        };
        let now = Instant::now();
        let (generation, _) = groups.join(&name, &applicant, now).await.unwrap();
        let commit = || groups.commit(&name, &applicant, generation, Vec::new());
        commit().await.unwrap();
        tokio::time::advance(LEASE).await;
        let joined = given.members().join("billing", asks("a")).await;
        assert!(matches!(joined, Answer::Joined(_)), "{joined:?}");
        let late = commit().await;
        assert!(matches!(late, Err(GroupError::Fenced)), "{late:?}");
    }

    fn asks(client: &str) -> Join {
        Join {
            member: String::new(),
            instance: None,
            client: client.into(),
            host: "127.0.0.1".into(),
            session: Duration::from_secs(30),
            rebalance: Duration::from_secs(30),
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), Bytes::new())],
            asks_for_id: false,
        }
    }

    /// The others have a time to join again without it, and it begins when it leaves: nobody sleeps until what was due before.
    #[tokio::test(start_paused = true)]
    async fn those_who_do_not_join_again_when_one_has_left_are_given_up_in_time() {
        let given = Given::open().await;
        let members = given.members();
        let rebalance = Duration::from_secs(5);
        let join = |client| {
            let asked = Join {
                rebalance,
                ..asks(client)
            };
            members.join("billing", asked)
        };
        let joined = tokio::join!(join("a"), join("b"));
        let (Answer::Joined(one), Answer::Joined(other)) = joined else {
            panic!("{joined:?}")
        };
        for of in [&one, &other] {
            let asked = Sync {
                member: of.member.clone(),
                instance: None,
                generation: of.generation,
                protocol_type: None,
                protocol: None,
                assignments: Vec::new(),
            };
            let synced = members.sync("billing", asked).await;
            assert!(matches!(synced, Answer::Synced { .. }), "{synced:?}");
        }
        // Nothing else is due for a while.
        sleep(2 * rebalance).await;
        let leaving = Leaving {
            member: other.member,
            instance: None,
        };
        assert_eq!(members.leave("billing", &leaving), Ok(()));
        sleep(rebalance - 10 * MOMENT).await;
        assert!(members.are_in("billing"));
        sleep(20 * MOMENT).await;
        assert!(!members.are_in("billing"));
    }

    /// Its connection ends before the answer: it is as if it had never come.
    #[tokio::test(start_paused = true)]
    async fn who_waits_no_more_is_no_member() {
        let given = Given::open().await;
        let members = given.members();
        let gone = timeout(MOMENT, members.join("billing", asks("gone"))).await;
        assert!(gone.is_err(), "{gone:?}");
        let Answer::Joined(joined) = members.join("billing", asks("here")).await else {
            panic!("it is welcome")
        };
        assert_eq!(joined.leader, joined.member);
        assert_eq!(joined.members.len(), 1);
    }

    /// Nothing is due in a group that nobody is in any more: it is looked at all the same, and its places are free.
    #[tokio::test(start_paused = true)]
    async fn a_group_is_over_as_soon_as_its_last_member_has_left() {
        let given = Given::open().await;
        let members = given.members();
        let Answer::Joined(joined) = members.join("billing", asks("a")).await else {
            panic!("it is alone and welcome")
        };
        // It has half a minute to send its SyncGroup: there is nothing to be looked at before that.
        let (due, _) = members.tick();
        let rests = due.expect("it is given up then") - Instant::now();
        assert!(rests > Duration::from_secs(29), "{rests:?}");
        assert_eq!(members.names(), [("billing".into(), "consumer".into())]);
        assert!(members.describe("billing").is_some());
        let leaving = Leaving {
            member: joined.member,
            instance: None,
        };
        assert_eq!(members.leave("billing", &leaving), Ok(()));
        sleep(10 * MOMENT).await;
        assert_eq!(members.names(), []);
        assert!(members.lock().groups.is_empty());
        assert_eq!(members.lock().generation_last, joined.generation + 1);
    }
}

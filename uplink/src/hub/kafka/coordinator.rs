//! One group of Kafka's classic consumer protocol: who is in it, in which generation, and what each of their requests is answered.
//!
//! ```text
//!          somebody joins                 all have joined,                the leader's
//!                                         or time is up                   SyncGroup
//!   Empty ───────────────► Preparing ─────────────────► Completing ──────────────► Stable
//!     ▲                     │    ▲                           │                       │
//!     └─── nobody is left ──┘    └── somebody comes, goes, or asks for it ◄──────────┘
//! ```
//!
//! The rules are those of Apache Kafka's `GroupCoordinator` (2.1 to 3.x); where they leave a request without an answer or let memory grow, this
//! one does not, and says so at the place. Assigning partitions is the leader's work: metadata and assignments are bytes here.
//!
//! Knows nothing of connections, encodings, offsets, clocks and chance. Nothing survives a restart: members are told `UnknownMember` and join again.
//!
//! After each call, [`Group::answers`] and [`Group::due`] are to be asked. The conversations are in `join.rs` and `sync.rs`, what leads from one
//! generation to the next is in `rebalance.rs`.

mod join;
mod member;
mod rebalance;
mod subscription;
mod sync;

use std::fmt;
use std::mem;
use std::time::Duration;

use bytes::Bytes;

use member::{Member, Pending};
use rebalance::Phase;

/// One group.
#[derive(Debug)]
pub(super) struct Group {
    options: Options,
    /// The latest time that a caller told.
    now: Duration,
    phase: Phase,
    /// When members that have joined this generation and sent no SyncGroup are given up.
    sync_until: Option<Duration>,
    generation: i32,
    protocol_type: String,
    /// What was chosen for this generation.
    protocol: String,
    /// The member that assigns; empty when there is none.
    leader: String,
    /// In the order in which they came.
    members: Vec<Member>,
    pending: Vec<Pending>,
    answers: Vec<(Ticket, Answer)>,
}

/// Limits of a group, and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// The shortest session that is accepted.
    pub(super) session_min: Duration,
    /// The longest session that is accepted.
    pub(super) session_max: Duration,
    /// Members, and those that were given an id and have not joined yet.
    pub(super) members_max: usize,
    /// Octets held. What members bring may take half of them, assignments the other half.
    pub(super) bytes_max: usize,
    /// How long the first members of an empty group are held, so that those started together meet in one generation. As long as others arrive
    /// it is added again, up to the first member's rebalance timeout. Zero holds nobody.
    pub(super) delay: Duration,
    /// The generation before the first one. A group that is new in memory may be old to its members: a number that grows from one start to
    /// the next keeps them from taking its generations for those they know. Not negative.
    pub(super) generation: i32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            session_min: Duration::from_secs(1),
            session_max: Duration::from_secs(30 * 60),
            members_max: 500,
            bytes_max: 8 << 20,
            delay: Duration::from_millis(300),
            generation: 0,
        }
    }
}

/// A request that is still to be answered; no two have the same number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub(super) struct Ticket(pub(super) u64);

/// JoinGroup.
#[derive(Clone, Debug)]
pub(super) struct Join {
    /// Empty when it has none yet.
    pub(super) member: String,
    /// `group.instance.id` of a static member.
    pub(super) instance: Option<String>,
    /// `client.id`.
    pub(super) client: String,
    /// Where it comes from.
    pub(super) host: String,
    /// How long it may be silent.
    pub(super) session: Duration,
    /// How long it may take to join again when the group rebalances.
    pub(super) rebalance: Duration,
    /// `consumer` for consumers.
    pub(super) protocol_type: String,
    /// Names with metadata, the preferred one first.
    pub(super) protocols: Vec<(String, Bytes)>,
    /// Since version 4: whoever comes without an id is told one, and comes again with it.
    pub(super) asks_for_id: bool,
}

/// SyncGroup.
#[derive(Clone, Debug)]
pub(super) struct Sync {
    pub(super) member: String,
    pub(super) instance: Option<String>,
    pub(super) generation: i32,
    /// Checked when it is said.
    pub(super) protocol_type: Option<String>,
    /// Checked when it is said.
    pub(super) protocol: Option<String>,
    /// From the leader: what each member gets.
    pub(super) assignments: Vec<(String, Bytes)>,
}

/// Who sends Heartbeat or OffsetCommit.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) member: String,
    pub(super) instance: Option<String>,
    pub(super) generation: i32,
}

/// One member of a LeaveGroup.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    /// Empty when an operator removes a static member by its instance.
    pub(super) member: String,
    pub(super) instance: Option<String>,
}

/// What a ticket is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Joined(Joined),
    Synced {
        assignment: Bytes,
    },
    /// Why not, and the member id to tell, which may be empty.
    Refused(Code, String),
}

/// A member of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Joined {
    pub(super) generation: i32,
    pub(super) protocol: String,
    pub(super) leader: String,
    pub(super) member: String,
    /// Ids, instances and metadata of all members, for the leader only.
    pub(super) members: Vec<(String, Option<String>, Bytes)>,
}

/// Kafka's error codes; `as i16` is what goes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub(super) enum Code {
    /// The leader's assignments are larger than the group may hold.
    UnknownServerError = -1,
    IllegalGeneration = 22,
    InconsistentProtocol = 23,
    UnknownMember = 25,
    InvalidSessionTimeout = 26,
    RebalanceInProgress = 27,
    MemberIdRequired = 79,
    GroupFull = 81,
    FencedInstance = 82,
}

/// Where a group stands; printed as Kafka names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

/// A group as DescribeGroups tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) state: State,
    pub(super) protocol_type: String,
    /// Empty unless the group is stable.
    pub(super) protocol: String,
    pub(super) members: Vec<DescribedMember>,
}

/// A member as DescribeGroups tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DescribedMember {
    pub(super) member: String,
    pub(super) instance: Option<String>,
    pub(super) client: String,
    pub(super) host: String,
    /// For the chosen protocol; empty unless the group is stable.
    pub(super) metadata: Bytes,
    /// Empty unless the group is stable.
    pub(super) assignment: Bytes,
}

impl Group {
    /// A group without members.
    pub(super) fn new(options: Options) -> Self {
        Self {
            now: Duration::ZERO,
            phase: Phase::Empty,
            sync_until: None,
            generation: options.generation,
            protocol_type: String::new(),
            protocol: String::new(),
            leader: String::new(),
            members: Vec::new(),
            pending: Vec::new(),
            answers: Vec::new(),
            options,
        }
    }

    /// JoinGroup. `fresh_id` is the new member's if it needs one; no member ever had it.
    pub(super) fn join(&mut self, now: Duration, ticket: Ticket, asked: Join, fresh_id: String) {
        self.advance(now);
        let member = asked.member.clone();
        if let Err(code) = self.admit(ticket, asked, fresh_id) {
            self.refuse(ticket, code, member);
        }
        self.settle();
    }

    /// SyncGroup.
    pub(super) fn sync(&mut self, now: Duration, ticket: Ticket, asked: Sync) {
        self.advance(now);
        if let Err(code) = self.receive(ticket, asked) {
            self.refuse(ticket, code, String::new());
        }
        self.settle();
    }

    /// Heartbeat.
    ///
    /// # Errors
    /// `RebalanceInProgress` only while the group waits for its members to join. Between JoinGroup and SyncGroup all is well, as in Kafka since
    /// 2.7: the Java client's heartbeats begin with the answer to JoinGroup, so that a leader may take longer to assign than its session lasts, and
    /// whoever did what older brokers said there would join again and end the generation it is in. librdkafka sends none before it has its assignment.
    pub(super) fn heartbeat(&mut self, now: Duration, caller: &Caller) -> Result<(), Code> {
        self.advance(now);
        let at = self.current(caller)?;
        self.members[at].seen = self.now;
        match self.state() {
            State::PreparingRebalance => Err(Code::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// LeaveGroup, for one member.
    ///
    /// # Errors
    /// When there is no such member.
    pub(super) fn leave(&mut self, now: Duration, leaving: &Leaving) -> Result<(), Code> {
        self.advance(now);
        let left = self.let_go(leaving);
        self.settle();
        left
    }

    /// Whether this caller may commit: a member of this generation; or, by generation −1, anybody when there are no members.
    ///
    /// # Errors
    /// `RebalanceInProgress` between JoinGroup and SyncGroup: who commits there knows the new generation and not yet what it may read. While
    /// members are awaited, those of the generation that ends may still say how far they came.
    pub(super) fn may_commit(&mut self, now: Duration, caller: &Caller) -> Result<(), Code> {
        self.advance(now);
        if caller.generation < 0 && self.state() == State::Empty {
            return Ok(());
        }
        let at = self.current(caller)?;
        if self.state() == State::CompletingRebalance {
            return Err(Code::RebalanceInProgress);
        }
        self.members[at].seen = self.now;
        Ok(())
    }

    /// The connection that waited with this ticket is gone: the ticket is not answered any more.
    ///
    /// The member has its session to come back and ask again, and until then has not joined. A dynamic member that does not know its
    /// id yet cannot come back: it is removed with the next call that tells the time, which [`Group::due`] asks for at once.
    pub(super) fn forsake(&mut self, ticket: Ticket) {
        self.answers.retain(|(answered, _)| *answered != ticket);
        let waiting = |m: &&mut Member| m.ticket == Some(ticket);
        if let Some(member) = self.members.iter_mut().find(waiting) {
            member.ticket = None;
            member.adrift = true;
        }
    }

    /// Does what is due: sessions that are over, rebalances that have taken long enough.
    pub(super) fn tick(&mut self, now: Duration) {
        self.advance(now);
        self.expire();
        self.end_of_phase();
        self.settle();
    }

    /// What is to be answered now; each ticket once.
    pub(super) fn answers(&mut self) -> Vec<(Ticket, Answer)> {
        mem::take(&mut self.answers)
    }

    /// When [`Group::tick`] is to be called next; at once when that time has passed.
    pub(super) fn due(&self) -> Option<Duration> {
        let adrift = self.members.iter().any(|m| m.adrift).then_some(self.now);
        let members = self.members.iter().filter_map(Member::over_at);
        let pending = self.pending.iter().map(|p| p.until);
        let of_phase = self.phase.ends_at().into_iter();
        let all = members.chain(pending).chain(of_phase);
        all.chain(self.sync_until).chain(adrift).min()
    }

    /// Whether it can be dropped. A group that takes its place has to begin with a generation that is not below this one's.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty()
    }

    /// The generation that began last.
    pub(super) fn generation(&self) -> i32 {
        self.generation
    }

    /// Where it stands.
    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Empty => State::Empty,
            Phase::Delayed { .. } | Phase::Preparing { .. } => State::PreparingRebalance,
            Phase::Completing => State::CompletingRebalance,
            Phase::Stable => State::Stable,
        }
    }

    /// What DescribeGroups tells.
    pub(super) fn describe(&self) -> Described {
        let state = self.state();
        let stable = state == State::Stable;
        let of_stable = |bytes: Bytes| if stable { bytes } else { Bytes::new() };
        let members = self.members.iter().map(|m| DescribedMember {
            member: m.id.clone(),
            instance: m.instance.clone(),
            client: m.client.clone(),
            host: m.host.clone(),
            metadata: of_stable(m.metadata(&self.protocol)),
            assignment: of_stable(m.assignment.clone()),
        });
        let protocol = Some(&self.protocol).filter(|_| stable);
        Described {
            state,
            protocol_type: self.protocol_type.clone(),
            protocol: protocol.cloned().unwrap_or_default(),
            members: members.collect(),
        }
    }

    /// Octets held: names and metadata that members brought, and assignments.
    pub(super) fn bytes(&self) -> usize {
        let assigned: usize = self.members.iter().map(|m| m.assignment.len()).sum();
        self.brought() + assigned
    }

    /// Octets that members brought.
    fn brought(&self) -> usize {
        let members: usize = self.members.iter().map(Member::brought).sum();
        let pending: usize = self.pending.iter().map(|p| p.id.len()).sum();
        self.protocol_type.len() + members + pending
    }

    /// Takes the time. It never goes back: callers may have read their clock in another order than they came in.
    fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
        let mut lost = Vec::new();
        for member in self.members.iter_mut().filter(|m| m.adrift) {
            member.adrift = false;
            member.seen = self.now;
            if !member.told && member.instance.is_none() {
                lost.push(member.id.clone());
            }
        }
        if !lost.is_empty() {
            self.remove_all(&lost);
            self.settle();
        }
    }

    /// The place of a caller that belongs to this generation.
    fn current(&self, caller: &Caller) -> Result<usize, Code> {
        let at = self.known(&caller.member, caller.instance.as_deref())?;
        if caller.generation == self.generation {
            Ok(at)
        } else {
            Err(Code::IllegalGeneration)
        }
    }

    /// The place of a member; of two that use one instance, the one that came last.
    fn known(&self, id: &str, instance: Option<&str>) -> Result<usize, Code> {
        if let Some(instance) = instance {
            let at = self.place_of(instance).ok_or(Code::UnknownMember)?;
            if self.members[at].id != id {
                return Err(Code::FencedInstance);
            }
            return Ok(at);
        }
        let at = self.members.iter().position(|m| m.id == id);
        at.ok_or(Code::UnknownMember)
    }

    fn place_of(&self, instance: &str) -> Option<usize> {
        let it = |m: &Member| m.instance.as_deref() == Some(instance);
        self.members.iter().position(it)
    }

    fn let_go(&mut self, leaving: &Leaving) -> Result<(), Code> {
        let Leaving { member, instance } = leaving;
        if let Some(at) = self.pending.iter().position(|p| p.id == *member) {
            self.pending.swap_remove(at);
            return Ok(());
        }
        let at = match instance.as_deref() {
            Some(instance) if member.is_empty() => {
                self.place_of(instance).ok_or(Code::UnknownMember)?
            }
            instance => self.known(member, instance)?,
        };
        self.remove(at);
        Ok(())
    }

    fn refuse(&mut self, ticket: Ticket, code: Code, member: String) {
        self.answers.push((ticket, Answer::Refused(code, member)));
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        })
    }
}

#[cfg(test)]
mod tests;

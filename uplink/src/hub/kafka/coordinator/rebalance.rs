//! From one generation to the next: who is waited for, for how long, who leads, and what is due.

use std::time::Duration;

use bytes::Bytes;

use super::member::Member;
use super::{Answer, Code, Group, State};

/// Where a group stands, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody is in.
    Empty,
    /// The first members wait for others that may come.
    Delayed {
        /// When it is looked whether others came.
        look: Duration,
        /// When it ends, whoever may come.
        end: Duration,
        /// Somebody came since it was looked.
        grown: bool,
    },
    /// Members of the last generation are awaited.
    Preparing { until: Duration },
    /// The leader's assignments are awaited.
    Completing,
    /// Each member has its assignment, or can have it.
    Stable,
}

impl Phase {
    pub(super) fn ends_at(&self) -> Option<Duration> {
        match *self {
            Self::Delayed { look, .. } => Some(look),
            Self::Preparing { until } => Some(until),
            Self::Empty | Self::Completing | Self::Stable => None,
        }
    }
}

impl Group {
    /// Begins to gather the members of the next generation, unless that is under way.
    pub(super) fn prepare(&mut self) {
        let longest = self.rebalance_timeout();
        let delay = self.options.delay;
        self.phase = match self.phase {
            Phase::Delayed { .. } | Phase::Preparing { .. } => return,
            Phase::Empty if !delay.is_zero() => Phase::Delayed {
                look: self.now.saturating_add(delay),
                end: self.now.saturating_add(longest.max(delay)),
                grown: false,
            },
            Phase::Empty | Phase::Completing | Phase::Stable => Phase::Preparing {
                until: self.now.saturating_add(longest),
            },
        };
        self.sync_until = None;
        self.send_back();
    }

    /// Whoever waits for an assignment of a generation that will not have one is to join the next.
    fn send_back(&mut self) {
        for member in &mut self.members {
            if let Some(ticket) = member.ticket.take() {
                member.seen = self.now;
                let refused = Answer::Refused(Code::RebalanceInProgress, String::new());
                self.answers.push((ticket, refused));
            }
        }
    }

    /// Goes on as soon as nobody has to be waited for any more.
    pub(super) fn settle(&mut self) {
        if self.members.is_empty() {
            self.clear();
        } else if matches!(self.phase, Phase::Preparing { .. })
            && self.pending.is_empty()
            && self.all_wait()
        {
            self.complete();
        }
    }

    /// Removes whose time is over.
    pub(super) fn expire(&mut self) {
        let now = self.now;
        self.pending.retain(|p| p.until > now);
        let over = |at: Duration| at <= now;
        let silent = self
            .members
            .iter()
            .filter(|m| m.over_at().is_some_and(over));
        let silent: Vec<String> = silent.map(|m| m.id.clone()).collect();
        self.remove_all(&silent);
    }

    /// Does what the phase's end asks for, when it is there.
    pub(super) fn end_of_phase(&mut self) {
        if self.sync_until.is_some_and(|until| until <= self.now) {
            self.sync_until = None;
            let missing = self.members.iter().filter(|m| !m.synced);
            let missing: Vec<String> = missing.map(|m| m.id.clone()).collect();
            self.remove_all(&missing);
        }
        match self.phase {
            Phase::Delayed { look, end, grown } if look <= self.now => {
                if grown && look < end {
                    let look = look.saturating_add(self.options.delay).min(end);
                    let grown = false;
                    self.phase = Phase::Delayed { look, end, grown };
                } else {
                    self.end_of_delay(end);
                }
            }
            Phase::Preparing { until } if until <= self.now => self.complete(),
            _ => {}
        }
    }

    /// Ids that were given away are not waited for. Members whose connection broke are: they may be back in a moment.
    fn end_of_delay(&mut self, until: Duration) {
        self.phase = Phase::Preparing { until };
        if until <= self.now || self.all_wait() {
            self.complete();
        }
    }

    /// Begins the next generation with whoever has joined. Static members stay in it even if they have not: that is what they are for.
    fn complete(&mut self) {
        self.members
            .retain(|m| m.ticket.is_some() || m.instance.is_some());
        if self.members.is_empty() {
            return self.clear();
        }
        self.let_a_member_lead();
        if !self.elect() {
            // All are static and absent: they come back, or their sessions end.
            let until = self.now.saturating_add(self.rebalance_timeout());
            self.phase = Phase::Preparing { until };
            return;
        }
        self.generation = after(self.generation);
        self.protocol = self.choose();
        self.phase = Phase::Completing;
        self.sync_until = Some(self.now.saturating_add(self.rebalance_timeout()));
        self.tell_generation();
    }

    fn tell_generation(&mut self) {
        for at in 0..self.members.len() {
            let joined = self.joined(at);
            let member = &mut self.members[at];
            member.assignment = Bytes::new();
            member.synced = member.ticket.is_none();
            if let Some(ticket) = member.ticket.take() {
                (member.seen, member.told) = (self.now, true);
                self.answers.push((ticket, Answer::Joined(joined)));
            }
        }
    }

    /// Whether there is a leader that waits to be told so: the one before, or who has been in the group for longest.
    fn elect(&mut self) -> bool {
        let waiting = |m: &&Member| m.ticket.is_some();
        let mut waiting = self.members.iter().filter(waiting);
        let first = waiting.clone().next();
        let leader = waiting.find(|m| m.id == self.leader).or(first);
        let Some(leader) = leader.map(|m| m.id.clone()) else {
            return false;
        };
        self.leader = leader;
        true
    }

    /// The protocol that most members prefer of those that all support; between equals, the one that comes first in the first member's list.
    pub(super) fn choose(&self) -> String {
        let Some(first) = self.members.first() else {
            return String::new();
        };
        let by_all = |name: &str| self.members.iter().all(|m| m.supports(name));
        let named = first.protocols.iter().map(|(name, _)| name.as_str());
        let shared: Vec<&str> = named.filter(|name| by_all(name)).collect();
        let mut votes = vec![0_usize; shared.len()];
        for member in &self.members {
            let mut names = member.protocols.iter().map(|(name, _)| name.as_str());
            let vote = names.find_map(|name| shared.iter().position(|known| *known == name));
            votes[vote.expect("nobody is let in who supports none of what all support")] += 1;
        }
        // Of several that are largest, `max_by_key` takes the last.
        let chosen = (0..shared.len()).rev().max_by_key(|at| votes[*at]);
        chosen.map(|at| shared[at].to_owned()).unwrap_or_default()
    }

    pub(super) fn remove_all(&mut self, ids: &[String]) {
        for id in ids {
            if let Some(at) = self.members.iter().position(|m| m.id == *id) {
                self.remove(at);
            }
        }
    }

    /// Takes a member out, and gathers the others without it.
    pub(super) fn remove(&mut self, at: usize) {
        let member = self.members.remove(at);
        if let Some(ticket) = member.ticket {
            self.refuse(ticket, Code::UnknownMember, String::new());
        }
        self.let_a_member_lead();
        self.prepare();
    }

    fn let_a_member_lead(&mut self) {
        if !self.members.iter().any(|m| m.id == self.leader) {
            let first = self.members.first().map(|m| m.id.clone());
            self.leader = first.unwrap_or_default();
        }
    }

    /// Nobody is left. A generation ends with that too.
    fn clear(&mut self) {
        if self.state() == State::Empty {
            return;
        }
        self.phase = Phase::Empty;
        self.sync_until = None;
        self.generation = after(self.generation);
        self.protocol.clear();
        self.leader.clear();
    }

    fn all_wait(&self) -> bool {
        self.members.iter().all(|m| m.ticket.is_some())
    }

    /// How long members may take to join or to sync: as long as the most patient of them said.
    fn rebalance_timeout(&self) -> Duration {
        let longest = self.members.iter().map(|m| m.rebalance).max();
        longest.unwrap_or_default().max(REBALANCE_MIN)
    }
}

/// Generations only grow, within two thousand million of them.
fn after(generation: i32) -> i32 {
    generation.checked_add(1).unwrap_or(1)
}

/// Whatever clients say: a shorter time would make `tick` due again and again at once.
const REBALANCE_MIN: Duration = Duration::from_secs(1);

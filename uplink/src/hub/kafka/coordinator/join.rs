//! JoinGroup: who comes in, who comes back, and who takes another's place.

use std::mem;

use super::member::{Member, Pending, weight};
use super::rebalance::Phase;
use super::subscription::same_subscription;
use super::{Answer, Code, Group, Join, Joined, Ticket};

impl Group {
    /// Lets somebody in; answers at once where nothing has to be waited for.
    pub(super) fn admit(
        &mut self,
        ticket: Ticket,
        asked: Join,
        fresh_id: String,
    ) -> Result<(), Code> {
        if asked.session < self.options.session_min || asked.session > self.options.session_max {
            return Err(Code::InvalidSessionTimeout);
        }
        let place = self.place_for(&asked)?;
        self.agree(&asked, place)?;
        self.make_room(&asked, place, &fresh_id)?;
        match place {
            Some(at) if asked.member.is_empty() => self.replace(at, ticket, asked, fresh_id),
            Some(at) => self.rejoin(at, ticket, asked),
            None if asked.member.is_empty() && asked.asks_for_id && asked.instance.is_none() => {
                self.give_id(ticket, &asked, fresh_id);
            }
            None => self.add(ticket, asked, fresh_id),
        }
        Ok(())
    }

    /// The place of the member that this is, or that it replaces; none for a new one.
    fn place_for(&self, asked: &Join) -> Result<Option<usize>, Code> {
        let instance = asked.instance.as_deref();
        if asked.member.is_empty() {
            return Ok(instance.and_then(|instance| self.place_of(instance)));
        }
        // Ids are given in advance to dynamic members only.
        if instance.is_none() && self.is_pending(&asked.member) {
            return Ok(None);
        }
        self.known(&asked.member, instance).map(Some)
    }

    /// Whether there is a protocol that this one and all others support. Whoever is the only member may change everything; Kafka compares
    /// it with its own past and refuses that.
    fn agree(&self, asked: &Join, place: Option<usize>) -> Result<(), Code> {
        if asked.protocol_type.is_empty() || asked.protocols.len() > PROTOCOLS_MAX {
            return Err(Code::InconsistentProtocol);
        }
        let members = self.members.iter().enumerate();
        let others = members.filter(|(at, _)| Some(*at) != place);
        let others: Vec<&Member> = others.map(|(_, m)| m).collect();
        let one_type = others.is_empty() || self.protocol_type == asked.protocol_type;
        let mut names = asked.protocols.iter().map(|(name, _)| name);
        if one_type && names.any(|name| others.iter().all(|m| m.supports(name))) {
            Ok(())
        } else {
            Err(Code::InconsistentProtocol)
        }
    }

    fn make_room(&self, asked: &Join, place: Option<usize>, fresh_id: &str) -> Result<(), Code> {
        let counted = place.is_some() || self.is_pending(&asked.member);
        if !counted && self.members.len() + self.pending.len() >= self.options.members_max {
            return Err(Code::GroupFull);
        }
        let instance = asked.instance.as_ref().map_or(0, String::len);
        let named = fresh_id.len().max(asked.member.len()) + instance;
        let brings = named + asked.client.len() + asked.host.len() + weight(&asked.protocols);
        let before = place.map_or(0, |at| self.members[at].brought());
        let typed = asked.protocol_type.len();
        if self.brought() - before + brings + typed > self.options.bytes_max / 2 {
            return Err(Code::GroupFull);
        }
        Ok(())
    }

    /// Tells whoever has no id the one to come again with, so that one that asks again and again on new connections does not become many members.
    fn give_id(&mut self, ticket: Ticket, asked: &Join, fresh_id: String) {
        self.pending.push(Pending {
            id: fresh_id.clone(),
            until: self.now.saturating_add(asked.session),
        });
        self.refuse(ticket, Code::MemberIdRequired, fresh_id);
    }

    fn add(&mut self, ticket: Ticket, asked: Join, fresh_id: String) {
        let told = !asked.member.is_empty();
        let id = if told { asked.member.clone() } else { fresh_id };
        self.pending.retain(|p| p.id != id);
        if self.members.is_empty() {
            self.protocol_type.clone_from(&asked.protocol_type);
            self.leader.clone_from(&id);
        }
        if let Phase::Delayed { grown, .. } = &mut self.phase {
            *grown = true;
        }
        self.members.push(Member::new(id, told, self.now, asked));
        self.hold(self.members.len() - 1, ticket);
    }

    /// A member that is known comes back.
    fn rejoin(&mut self, at: usize, ticket: Ticket, asked: Join) {
        let unchanged = self.members[at].protocols == asked.protocols;
        let leads = self.members[at].id == self.leader;
        let answered = match self.phase {
            // It did not get the answer to its first one.
            Phase::Completing => unchanged,
            // A leader comes back when topics have changed that its metadata does not tell.
            Phase::Stable => unchanged && !leads,
            _ => false,
        };
        self.take(at, asked);
        if answered {
            self.members[at].seen = self.now;
            let joined = self.joined(at);
            self.answers.push((ticket, Answer::Joined(joined)));
        } else {
            self.hold(at, ticket);
        }
    }

    /// A static member that was started again takes the place of the one before, with its assignment if the group is stable.
    fn replace(&mut self, at: usize, ticket: Ticket, asked: Join, fresh_id: String) {
        let led_by = self.leader.clone();
        let before = mem::replace(&mut self.members[at].id, fresh_id);
        if let Some(older) = self.members[at].ticket.take() {
            self.refuse(older, Code::FencedInstance, before.clone());
        }
        if before == self.leader {
            self.leader.clone_from(&self.members[at].id);
        }
        let subscribed = self.members[at].metadata(&self.protocol);
        let member = &mut self.members[at];
        (member.told, member.synced, member.seen) = (false, true, self.now);
        self.take(at, asked);
        let subscribes = self.members[at].metadata(&self.protocol);
        let same = same_subscription(&self.protocol_type, &subscribed, &subscribes);
        if matches!(self.phase, Phase::Stable) && same && self.choose() == self.protocol {
            self.members[at].told = true;
            let joined = Joined {
                // Up to version 8 a leader cannot be told that its work is done. By the id it had before it does not know itself as the leader, and
                // makes no assignment that nobody would be given.
                leader: led_by,
                members: Vec::new(),
                ..self.joined(at)
            };
            self.answers.push((ticket, Answer::Joined(joined)));
        } else {
            // While the group completes, the leader has been told the id that is gone.
            self.hold(at, ticket);
        }
    }

    /// Lets a member wait for the next generation.
    fn hold(&mut self, at: usize, ticket: Ticket) {
        self.prepare();
        let member = &mut self.members[at];
        member.seen = self.now;
        // Kafka forgets the older one of two requests; nobody who still waits for it would ever be answered.
        if let Some(older) = member.ticket.replace(ticket) {
            let id = member.id.clone();
            self.refuse(older, Code::RebalanceInProgress, id);
        }
    }

    fn take(&mut self, at: usize, asked: Join) {
        if self.members.len() == 1 {
            self.protocol_type.clone_from(&asked.protocol_type);
        }
        self.members[at].update(asked);
    }

    /// What a member of this generation is told.
    pub(super) fn joined(&self, at: usize) -> Joined {
        let member = &self.members[at];
        let told = |m: &Member| {
            let metadata = m.metadata(&self.protocol);
            (m.id.clone(), m.instance.clone(), metadata)
        };
        let all = || self.members.iter().map(told).collect();
        let leads = member.id == self.leader;
        Joined {
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            member: member.id.clone(),
            members: leads.then(all).unwrap_or_default(),
        }
    }

    fn is_pending(&self, id: &str) -> bool {
        self.pending.iter().any(|p| p.id == id)
    }
}

/// More protocols than any client has; they are compared with those of each member.
const PROTOCOLS_MAX: usize = 32;

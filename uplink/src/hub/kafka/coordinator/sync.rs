//! SyncGroup: the leader says what each member gets.

use bytes::Bytes;

use super::member::{Member, owned};
use super::rebalance::Phase;
use super::{Answer, Caller, Code, Group, Sync, Ticket};

impl Group {
    /// Answers a member with its assignment, as soon as there is one.
    pub(super) fn receive(&mut self, ticket: Ticket, asked: Sync) -> Result<(), Code> {
        let at = self.current(&Caller {
            member: asked.member,
            instance: asked.instance,
            generation: asked.generation,
        })?;
        let differs = |said: Option<String>, known: &str| said.is_some_and(|said| said != known);
        if differs(asked.protocol_type, &self.protocol_type)
            || differs(asked.protocol, &self.protocol)
        {
            return Err(Code::InconsistentProtocol);
        }
        match self.phase {
            Phase::Completing if self.members[at].id == self.leader => {
                self.assign(at, ticket, &asked.assignments)
            }
            Phase::Completing => {
                self.await_leader(at, ticket);
                Ok(())
            }
            Phase::Stable => {
                let member = &mut self.members[at];
                (member.synced, member.seen) = (true, self.now);
                let assignment = member.assignment.clone();
                self.answers.push((ticket, Answer::Synced { assignment }));
                Ok(())
            }
            Phase::Empty | Phase::Delayed { .. } | Phase::Preparing { .. } => {
                Err(Code::RebalanceInProgress)
            }
        }
    }

    fn await_leader(&mut self, at: usize, ticket: Ticket) {
        let member = &mut self.members[at];
        (member.synced, member.seen) = (true, self.now);
        if let Some(older) = member.ticket.replace(ticket) {
            self.refuse(older, Code::RebalanceInProgress, String::new());
        }
    }

    /// Gives each member its part, or an empty one. What is said of others is not kept.
    fn assign(&mut self, at: usize, ticket: Ticket, said: &[(String, Bytes)]) -> Result<(), Code> {
        let parts: Vec<Bytes> = self.members.iter().map(|m| part_of(m, said)).collect();
        let assigned: usize = parts.iter().map(Bytes::len).sum();
        if assigned > self.options.bytes_max / 2 {
            self.prepare();
            return Err(Code::UnknownServerError);
        }
        self.await_leader(at, ticket);
        self.phase = Phase::Stable;
        for (member, part) in self.members.iter_mut().zip(parts) {
            member.assignment = owned(&part);
            if let Some(ticket) = member.ticket.take() {
                member.seen = self.now;
                let assignment = member.assignment.clone();
                self.answers.push((ticket, Answer::Synced { assignment }));
            }
        }
        Ok(())
    }
}

fn part_of(member: &Member, said: &[(String, Bytes)]) -> Bytes {
    let mut said = said.iter().rev();
    let part = said.find(|(id, _)| *id == member.id);
    part.map(|(_, part)| part.clone()).unwrap_or_default()
}

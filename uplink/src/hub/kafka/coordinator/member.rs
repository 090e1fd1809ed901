//! A member of a group: what it brought, what it was given, and since when it is silent.

use std::time::Duration;

use bytes::Bytes;

use super::{Join, Ticket};

/// Somebody who has joined, or waits to.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) instance: Option<String>,
    pub(super) client: String,
    pub(super) host: String,
    pub(super) session: Duration,
    pub(super) rebalance: Duration,
    /// Names with metadata, the preferred one first.
    pub(super) protocols: Vec<(String, Bytes)>,
    /// Of this generation; empty until the leader has spoken.
    pub(super) assignment: Bytes,
    /// What it waits for: JoinGroup's answer while the group prepares, SyncGroup's while it completes; nothing at other times.
    pub(super) ticket: Option<Ticket>,
    /// Its last sign of life; waiting is one that lasts.
    pub(super) seen: Duration,
    /// It has just ceased to wait without an answer, and nobody has told the time since.
    pub(super) adrift: bool,
    /// It was told its id.
    pub(super) told: bool,
    /// It sent SyncGroup in this generation, or is not expected to.
    pub(super) synced: bool,
}

/// An id that was given away by `MemberIdRequired`; whoever has it is expected to join with it.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: String,
    pub(super) until: Duration,
}

impl Member {
    pub(super) fn new(id: String, told: bool, now: Duration, asked: Join) -> Self {
        let mut member = Self {
            id,
            instance: asked.instance.clone(),
            client: String::new(),
            host: String::new(),
            session: Duration::ZERO,
            rebalance: Duration::ZERO,
            protocols: Vec::new(),
            assignment: Bytes::new(),
            ticket: None,
            seen: now,
            adrift: false,
            told,
            synced: true,
        };
        member.update(asked);
        member
    }

    /// Takes what it says of itself.
    pub(super) fn update(&mut self, asked: Join) {
        self.client = asked.client;
        self.host = asked.host;
        self.session = asked.session;
        self.rebalance = asked.rebalance;
        self.protocols = asked.protocols;
        for (_, metadata) in &mut self.protocols {
            *metadata = owned(metadata);
        }
    }

    /// When its session is over, if it does not wait for an answer.
    pub(super) fn over_at(&self) -> Option<Duration> {
        let silent = self.ticket.is_none() && !self.adrift;
        silent.then(|| self.seen.saturating_add(self.session))
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        let mut protocols = self.protocols.iter();
        let it = protocols.find(|(name, _)| name == protocol);
        it.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// Octets that it brought.
    pub(super) fn brought(&self) -> usize {
        let instance = self.instance.as_ref().map_or(0, String::len);
        let named = self.id.len() + instance + self.client.len() + self.host.len();
        named + weight(&self.protocols)
    }
}

/// The same octets in memory of their own: those of a request would keep all of it.
pub(super) fn owned(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// Octets of names and what goes with them.
pub(super) fn weight(named: &[(String, Bytes)]) -> usize {
    named.iter().map(|(name, it)| name.len() + it.len()).sum()
}

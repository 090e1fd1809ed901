//! From a broker's PUBLISH to a record to a PUBACK, in the order of arrival.
//!
//! A PUBACK is a statement of custody: it leaves when the commit that holds the record, or the record that the delivery repeats, is on disk.
//! Whether a delivery repeats a record is decided by the same tables as for `mqtt-listen` (`owner.rs`).
//! This file knows nothing of the network.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sedge_config::checked;
use sedge_core::planted::Fault;
use sedge_store::StageError;

use super::broker::{Acks, Delivery};
use super::escape::Oversize;
use crate::dead_letter::{DeadLetter, Reason, Remains};
use crate::ingest::{Ingest, Intake, Receipt, Reserved};
use crate::owner::{Claims, ITEM_BYTES_MAX, Item, SessionId, content_hash};
use crate::route::Subject;
use crate::telemetry;

/// What came from the broker and is not yet acknowledged.
pub(super) struct Deliveries {
    source: String,
    client: String,
    broker: String,
    intake: Intake,
    /// Most publishes that the broker may have in flight to us.
    window: u16,
    telemetry: Arc<telemetry::Source>,
    session: Option<Session>,
    /// Taken, not yet staged.
    taken: Group,
    /// Staged, oldest first.
    waiting: VecDeque<Group>,
    /// Staged, from a connection that has ended.
    orphaned: VecDeque<Group>,
    /// Handed to the connection and not yet known to be written, oldest first.
    handed: VecDeque<Owed>,
}

/// Our session at the broker, as the log remembers it.
struct Session {
    id: SessionId,
    resumed: bool,
    /// For each lane: the index that the session's next publish will have in its table.
    index_next: Vec<u64>,
    /// For each lane: below this index PUBACKs may have left.
    acked: Vec<u64>,
}

/// A PUBACK that is owed.
#[derive(Clone, Copy)]
struct Owed {
    packet_id: u16,
    /// Lane, and one past the index of what it stands for in its table.
    row: Option<(u16, u64)>,
}

/// Deliveries that are staged together and acknowledged together.
#[derive(Default)]
struct Group {
    owed: Vec<Owed>,
    receipts: Vec<Receipt>,
    events: u64,
    reserved: Reserved,
}

impl Deliveries {
    pub(super) fn new(
        config: &checked::Mqtt,
        ingest: &Ingest,
        telemetry: Arc<telemetry::Source>,
    ) -> Self {
        Self {
            source: config.name.as_str().to_owned(),
            client: format!("{}/{}", config.name, config.client_id),
            broker: format!("{}:{}", config.broker.host, config.broker.port),
            intake: ingest.intake(config.stream.as_str(), &config.key),
            window: config.inflight_max,
            telemetry,
            session: None,
            taken: Group::default(),
            waiting: VecDeque::new(),
            orphaned: VecDeque::new(),
            handed: VecDeque::new(),
        }
    }

    /// The connection has ended. What it brought and is not acknowledged now never will be, because its packet id meant something there only:
    /// the broker sends it again. Until it is on disk its memory is held.
    pub(super) fn disconnected(&mut self, acks: &Acks) {
        let perhaps_one_more = 1;
        self.written(acks.written() + perhaps_one_more);
        self.handed.clear();
        if let Some(session) = &self.session {
            for (lane, acked) in self.intake.lanes().zip(&session.acked) {
                let claims = self.intake.claims(lane);
                claims.unacknowledged(session.id.number, *acked);
            }
        }
        if Fault::StalePuback.is_planted() {
            return;
        }
        self.orphaned.append(&mut self.waiting);
        let intake = &self.intake;
        self.orphaned
            .retain(|group| !intake.are_settled(&group.receipts));
    }

    /// A connection stands. What an earlier one brought is settled first: until then a redelivery could not be recognised.
    pub(super) async fn connected(&mut self, session_present: bool) -> Result<(), StageError> {
        self.all_settled().await;
        self.orphaned.clear();
        let known = self.intake.claims(HOME_LANE).session(&self.client);
        let (id, resumed) = match known {
            Some(id) if session_present => (id, true),
            _ => (self.begin_session().await?, false),
        };
        let of_each_lane = |look: fn(&Claims, u32) -> u64| {
            let lanes = self.intake.lanes();
            lanes
                .map(|lane| look(self.intake.claims(lane), id.number))
                .collect()
        };
        self.session = Some(Session {
            id,
            resumed,
            index_next: of_each_lane(Claims::publishes),
            acked: of_each_lane(Claims::acknowledged),
        });
        Ok(())
    }

    /// Whether what was taken is to be staged before this one is.
    pub(super) fn is_too_much_with(&self, delivery: &Delivery) -> bool {
        let bytes = delivery.topic.len() + delivery.payload.len();
        self.intake.is_too_much_with(bytes)
    }

    /// Puts a delivery into the next commit, unless it repeats what is on disk.
    pub(super) fn take(&mut self, delivery: Delivery) {
        let Delivery {
            topic,
            payload,
            dup,
            packet_id,
            reserved,
            ..
        } = delivery;
        self.taken.reserved.add(reserved);
        let topic = String::from_utf8_lossy(&topic);
        let subject = Subject {
            topic: &topic,
            device: &self.source,
            payload: &payload,
        };
        let row = match self.intake.lane_of(&subject) {
            Ok(_) if self.intake.is_oversize(payload.len() + topic.len()) => {
                self.dead(&Reason::Oversize, &topic, &Remains::of(&payload));
                None
            }
            Ok(lane) => self
                .repeated(lane, dup, packet_id, topic.as_bytes(), &payload)
                .or_else(|| self.store(lane, packet_id, &topic, &payload)),
            Err(error) => {
                self.dead(&error.into(), &topic, &Remains::of(&payload));
                None
            }
        };
        let owed = packet_id.map(|packet_id| Owed { packet_id, row });
        self.taken.owed.extend(owed);
    }

    /// Keeps what is left of a message that was streamed away.
    pub(super) fn bury(&mut self, oversize: &Oversize) {
        self.dead(
            &Reason::Oversize,
            &String::from_utf8_lossy(&oversize.topic),
            &oversize.remains,
        );
    }

    /// Hands what was taken to the partitions. Waits for room where there is none.
    pub(super) async fn stage(&mut self) -> Result<(), StageError> {
        self.intake.stage_all(&mut self.taken.receipts).await?;
        if !self.taken.receipts.is_empty() || !self.taken.owed.is_empty() {
            self.waiting.push_back(std::mem::take(&mut self.taken));
        }
        Ok(())
    }

    /// Resolves when the oldest group has come nearer to being acknowledged; never, if nothing waits.
    pub(super) fn next_settled(&self) -> impl Future<Output = ()> + Send + 'static {
        let oldest = self.waiting.front();
        self.intake
            .next_settled(oldest.map(|group| &*group.receipts))
    }

    /// Acknowledges the oldest group, if it is settled, and those behind it that are.
    pub(super) fn acknowledge(&mut self, acks: &Acks) {
        self.written(acks.written());
        while self
            .waiting
            .front()
            .is_some_and(|group| self.intake.are_settled(&group.receipts))
        {
            let Some(group) = self.waiting.pop_front() else {
                return;
            };
            self.acknowledging(&group);
            for owed in &group.owed {
                acks.acknowledge(owed.packet_id);
            }
            self.handed.extend(&group.owed);
            self.telemetry.settled(group.events);
        }
    }

    /// Acknowledges what settles within `timeout`.
    pub(super) async fn drain(&mut self, acks: &Acks, timeout: Duration) {
        let all = async {
            while !self.waiting.is_empty() {
                self.next_settled().await;
                self.acknowledge(acks);
            }
        };
        if tokio::time::timeout(timeout, all).await.is_err() {
            tracing::info!(
                source = self.source,
                "stopped before all was on disk; the broker will send the rest again"
            );
        }
    }

    /// Waits until everything that was staged is on disk.
    pub(super) async fn all_settled(&self) {
        let groups = self.orphaned.iter().chain(&self.waiting);
        for receipt in groups.flat_map(|group| &group.receipts) {
            self.intake.wait(*receipt).await;
        }
    }

    /// A session that the broker has just made, noted before the first of its publishes.
    async fn begin_session(&mut self) -> Result<SessionId, StageError> {
        let id = self.intake.claims(HOME_LANE).draw_session(&self.client);
        let note = Item::Session {
            number: id.number,
            client: &self.client,
            generation: id.generation,
            ended: false,
        };
        let mut bytes = vec![0; self.client.len() + NOTE_BYTES_BESIDE];
        let note = note.encode(&mut bytes);
        let dead_letters = 1;
        for lane in self.intake.lanes().rev().skip(dead_letters) {
            self.intake.note(lane, note);
        }
        let mut receipts = Vec::new();
        self.intake.stage_all(&mut receipts).await?;
        for receipt in receipts {
            self.intake.wait(receipt).await;
        }
        Ok(id)
    }

    /// The row of the record on disk of which the delivery is provably another one.
    fn repeated(
        &mut self,
        lane: u16,
        dup: bool,
        packet_id: Option<u16>,
        topic: &[u8],
        payload: &[u8],
    ) -> Option<(u16, u64)> {
        let (Some(packet), Some(session), true) = (packet_id, &self.session, dup) else {
            return None;
        };
        if !session.resumed {
            return None;
        }
        let claims = self.intake.claims(lane);
        let hash = content_hash(topic, payload);
        let index = claims.redelivered(session.id.number, packet, hash, self.window)?;
        self.telemetry.duplicates(1);
        Some((lane, index + 1))
    }

    /// Puts the delivery into the next commit. Returns the row that it will have.
    fn store(
        &mut self,
        lane: u16,
        packet_id: Option<u16>,
        topic: &str,
        payload: &[u8],
    ) -> Option<(u16, u64)> {
        let mut bytes = [0; ITEM_BYTES_MAX];
        let mut item = &[][..];
        let mut row = None;
        if let (Some(packet), Some(session)) = (packet_id, &mut self.session) {
            let item_of = Item::Publish {
                session: session.id.number,
                packet,
            };
            item = item_of.encode(&mut bytes);
            if let Some(next) = session.index_next.get_mut(usize::from(lane)) {
                *next += 1;
                row = Some((lane, *next));
            }
        }
        self.intake
            .record(lane, None, &[("topic", topic.as_bytes())], payload, item);
        self.taken.events += 1;
        self.telemetry.accepted(1, payload.len() as u64);
        row
    }

    fn dead(&mut self, reason: &Reason, topic: &str, payload: &Remains) {
        let letter = DeadLetter {
            reason,
            source: &self.source,
            device: &self.broker,
            topic,
            payload,
        };
        self.intake.dead_letter(&letter);
        self.telemetry.dropped(reason.label(), 1);
    }

    /// From here on it is not known whether the broker holds these as acknowledged.
    fn acknowledging(&self, group: &Group) {
        let Some(session) = &self.session else { return };
        for (lane, next) in group.owed.iter().filter_map(|owed| owed.row) {
            let claims = self.intake.claims(lane);
            claims.acknowledging(session.id.number, next);
        }
    }

    /// The next `count` of the PUBACKs that were handed to the connection have been written to it.
    fn written(&mut self, count: usize) {
        let count = count.min(self.handed.len());
        let written = self.handed.drain(..count);
        let Some(session) = &mut self.session else {
            return;
        };
        for (lane, next) in written.filter_map(|owed| owed.row) {
            if let Some(acked) = session.acked.get_mut(usize::from(lane)) {
                *acked = (*acked).max(next);
            }
        }
    }
}

/// The lane whose log remembers the source's session.
const HOME_LANE: u16 = 0;

/// What a session note takes beside the client's name.
const NOTE_BYTES_BESIDE: usize = 32;

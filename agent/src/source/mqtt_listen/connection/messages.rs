//! A connection's messages: from bytes to batches, from commits to PUBACKs.

use std::time::Instant;

use sedge_store::StageError;

use super::Connection;
use crate::dead_letter::{DeadLetter, Reason, Remains};
use crate::owner::{self, Item};
use crate::route::Subject;
use crate::source::mqtt_listen::name_client;
use crate::source::mqtt_listen::session::{Action, Ending};
use crate::source::mqtt_listen::wire::{self, Publish, Step};

/// A publish that is too large, on its way to the dead letters without being kept.
pub(super) struct Skim {
    packet: u16,
    topic: String,
    remains: Remains,
    left: usize,
}

impl Connection {
    /// Goes through the packets in `bytes`, stages what they brought and holds what remains.
    pub(super) fn understand(&mut self, now: Instant, bytes: &[u8]) -> Option<Ending> {
        let unanswered = self.session.unanswered();
        let mut at = 0;
        let mut ending = None;
        self.needed = 0;
        while at < bytes.len() && ending.is_none() {
            at += self.skim(&bytes[at..]);
            if self.skim.is_some() || !self.session.listens() || !self.may_read() {
                break;
            }
            match wire::step(
                &bytes[at..],
                self.session.version(),
                self.listener.limits.packet_bytes_max as usize,
            ) {
                Ok(Step::Incomplete(needed)) => {
                    self.needed = needed;
                    break;
                }
                Ok(Step::Packet(packet, length)) => {
                    at += length;
                    ending = self.handle_packet(now, packet, length);
                }
                Ok(Step::Oversize { publish, head, end }) => {
                    at += head;
                    self.skim = Some(Skim::new(&publish, end - head));
                    ending = self.handle_packet(now, wire::Packet::Publish(publish), head);
                }
                Err(fault) => ending = Some(self.session.handle_fault(fault, &mut self.out)),
            }
            if self.batched >= BATCH_BYTES_WANTED {
                ending = ending.or_else(|| self.stage());
            }
        }
        self.held
            .extend_from_slice(bytes.get(at..).unwrap_or_default());
        if self.session.unanswered() > unanswered {
            self.session.heard(now);
        }
        ending.or_else(|| self.stage())
    }

    fn handle_packet(
        &mut self,
        now: Instant,
        packet: wire::Packet<'_>,
        length: usize,
    ) -> Option<Ending> {
        let action = self
            .session
            .handle_packet(now, packet, name_client, &mut self.out);
        match action {
            Action::Open(opening) => self.opening = Some(opening),
            Action::Take { publish, again } if self.skim.is_none() => {
                self.take(&publish, length, again);
            }
            Action::None | Action::Take { .. } => {}
            Action::End(ending) => return Some(ending),
        }
        None
    }

    /// Lets the payload of a publish that is too large pass by. Returns the bytes that were its.
    fn skim(&mut self, bytes: &[u8]) -> usize {
        let Some(skim) = &mut self.skim else { return 0 };
        let piece = &bytes[..bytes.len().min(skim.left)];
        skim.remains.add(piece);
        skim.left -= piece.len();
        if skim.left == 0
            && let Some(skim) = self.skim.take()
        {
            self.bury(skim.packet, &skim.topic, &skim.remains, &Reason::Oversize);
        }
        piece.len()
    }

    /// Takes a message that came in `length` bytes.
    fn take(&mut self, publish: &Publish<'_>, length: usize, again: bool) {
        let subject = Subject {
            topic: publish.topic,
            device: self.session.client(),
            payload: publish.payload,
        };
        let lane = match self.intake.lane_of(&subject) {
            Ok(_)
                if self
                    .intake
                    .is_oversize(publish.topic.len() + publish.payload.len()) =>
            {
                return self.bury_whole(publish, &Reason::Oversize);
            }
            Ok(lane) => lane,
            Err(e) => return self.bury_whole(publish, &Reason::BadKey(e)),
        };
        if again && let Some(index) = self.redelivered(lane, publish) {
            self.listener.telemetry.duplicates(1);
            return self.session.recognised(publish.packet, lane, index + 1);
        }
        let mut item = [0; owner::ITEM_BYTES_MAX];
        let (item, index_next) = self.item(lane, publish, &mut item);
        let headers = [("topic", publish.topic.as_bytes())];
        self.batched += self
            .intake
            .record(lane, None, &headers, publish.payload, item);
        self.accepted.0 += 1;
        self.accepted.1 += publish.payload.len() as u64;
        self.unsettled += length;
        self.session
            .taken(publish.packet, lane, length as u32, index_next, 0);
    }

    fn redelivered(&self, lane: u16, publish: &Publish<'_>) -> Option<u64> {
        let (id, _) = self.durable.as_ref()?;
        let hash = owner::content_hash(publish.topic.as_bytes(), publish.payload);
        self.intake.claims(lane).redelivered(
            id.number,
            publish.packet,
            hash,
            self.listener.limits.inflight_max,
        )
    }

    /// What stands beside the record of a publish, and one past its index in the session's table.
    fn item<'b>(
        &mut self,
        lane: u16,
        publish: &Publish<'_>,
        into: &'b mut [u8],
    ) -> (&'b [u8], u64) {
        let Some((id, counts)) = self.durable.as_mut().filter(|_| publish.packet != 0) else {
            return (&[], 0);
        };
        let count = &mut counts[usize::from(lane)];
        *count += 1;
        let (session, packet) = (id.number, publish.packet);
        let item = Item::Publish { session, packet };
        (item.encode(into), *count)
    }

    fn bury_whole(&mut self, publish: &Publish<'_>, reason: &Reason) {
        self.bury(
            publish.packet,
            publish.topic,
            &Remains::of(publish.payload),
            reason,
        );
    }

    /// A message that cannot be taken becomes a dead letter, and is answered when that is on disk.
    fn bury(&mut self, packet: u16, topic: &str, payload: &Remains, reason: &Reason) {
        let (source, device) = (&*self.listener.name, self.session.client());
        let letter = DeadLetter {
            reason,
            source,
            device,
            topic,
            payload,
        };
        let (lane, bytes) = self.intake.dead_letter(&letter);
        self.batched += bytes;
        self.listener.telemetry.dropped(reason.label(), 1);
        self.note_buried(packet);
        // Its payload is gone already, but for what the batch holds.
        self.session.taken(packet, lane, 0, 0, NOT_ACCEPTED);
    }

    /// The session's table knows that this packet id was used, though not for what.
    fn note_buried(&mut self, packet: u16) {
        let Some((id, counts)) = self.durable.as_mut().filter(|_| packet != 0) else {
            return;
        };
        let session = id.number;
        let mut item = [0; owner::ITEM_BYTES_MAX];
        counts[HOME] += 1;
        self.intake.note(
            HOME as u16,
            Item::Publish { session, packet }.encode(&mut item),
        );
    }

    pub(super) fn stage(&mut self) -> Option<Ending> {
        self.intake.set_window_bound(self.session.is_window_bound());
        let stuck = self.stuck.take();
        for lane in self.intake.lanes() {
            match self.intake.stage(lane) {
                Ok(None) => {}
                Ok(Some(ticket)) => self.session.staged(lane, ticket),
                Err(StageError::Full) => {
                    let since = stuck.map_or_else(super::super::now, |(_, since)| since);
                    self.stuck = Some((lane, since));
                }
                Err(_) => return Some(self.session.over(Ending::LogClosed, &mut self.out)),
            }
        }
        self.batched = 0;
        let (events, bytes) = std::mem::take(&mut self.accepted);
        self.listener.telemetry.accepted(events, bytes);
        None
    }

    pub(super) fn settle(&mut self, now: Instant) -> Option<Ending> {
        let had_room = self.session.has_room();
        let (intake, durable) = (&self.intake, &self.durable);
        let (count, freed) = self.session.settle(
            now,
            |lane| intake.settled(lane),
            |lane, next| {
                if let Some((id, _)) = durable {
                    intake.claims(lane).acknowledging(id.number, next);
                }
            },
            &mut self.out,
        );
        self.listener.telemetry.settled(count);
        self.unsettled -= freed;
        self.reserved.keep(self.unsettled + self.held.len());
        if had_room {
            return None;
        }
        self.heard = now;
        self.go_on(now)
    }

    /// Turns to packets that had to wait.
    pub(super) fn go_on(&mut self, now: Instant) -> Option<Ending> {
        let held = std::mem::take(&mut self.held);
        self.understand(now, &held)
    }
}

impl Skim {
    fn new(publish: &Publish<'_>, left: usize) -> Self {
        Self {
            packet: publish.packet,
            topic: publish.topic.to_owned(),
            remains: Remains::default(),
            left,
        }
    }
}

/// The PUBACK reason code of version 5 for a dead letter: "implementation specific error", so it does not come again.
const NOT_ACCEPTED: u8 = 0x83;

/// With this much in batches they are staged before more is read out of the buffer: less than a commit takes.
const BATCH_BYTES_WANTED: usize = 128 * 1024;

/// The lane whose log remembers the session.
const HOME: usize = 0;

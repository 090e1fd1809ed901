//! What a partition's log remembers for its sources beside the records: device cursors, MQTT sessions and their tables of
//! unsettled publishes. The bytes are described in docs/spec/owner.md, the rule behind the tables in docs/decisions.
//!
//! `LogOwner` lives in the partition's writer and is told of everything that goes into the log, in log order; `Claims` is the
//! sources' view of the same state. Knows nothing of connections, packets or files.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sedge_core::Offset;
use sedge_core::entry::Entry;
use sedge_core::planted::Fault;
use sedge_store::{Owner, Ticket};
use serde::{Deserialize, Serialize};

/// What a source writes beside its records, in the same atomic unit, or as a note between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item<'a> {
    /// The unit's records came from a device's log; the device goes on at `next`. What is known of the frame before that stands behind it: [`Stood`].
    DeviceCursor {
        /// The device's log id.
        log: [u8; 16],
        /// The device's next offset.
        next: u64,
    },
    /// The unit's records were published in a session; the first had this packet id, each further one the id that follows.
    /// As a note: a publish with this packet id was taken elsewhere, as a dead letter.
    Publish {
        /// Number of the session.
        session: u32,
        /// Packet id of the first record.
        packet: u16,
    },
    /// A session begins, or has ended.
    Session {
        /// Its number: never used for another session of this log.
        number: u32,
        /// `source/client identifier`.
        client: &'a str,
        /// Counts this client's sessions.
        generation: u32,
        /// Whether it has ended.
        ended: bool,
    },
    /// A note in a log that goes on where another one ended: what that one knew of a session. Empty behind the last of them.
    TakenOver {
        /// The session with its table.
        session: &'a [u8],
    },
}

impl Item<'_> {
    /// The item's bytes, at the front of `into`. Items beside records need no more than [`ITEM_BYTES_MAX`].
    ///
    /// # Panics
    /// If `into` is too short.
    pub fn encode<'b>(&self, into: &'b mut [u8]) -> &'b [u8] {
        postcard::to_slice(self, into).expect("room for the item")
    }
}

/// A session that outlives its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId {
    /// Its number in this log.
    pub number: u32,
    /// Counts the client's sessions.
    pub generation: u32,
}

/// Where a device's log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stood {
    /// The device's log id.
    pub log: [u8; 16],
    /// The device's next offset.
    pub next: u64,
    /// The CRC of the device's frame that ends there, as far as it is known.
    pub crc_below: Option<u32>,
}

impl Stood {
    /// As an item, at the front of `into`.
    ///
    /// # Panics
    /// If `into` is shorter than [`ITEM_BYTES_MAX`].
    pub fn encode<'b>(&self, into: &'b mut [u8]) -> &'b [u8] {
        let Self { log, next, .. } = *self;
        let len = Item::DeviceCursor { log, next }.encode(into).len();
        let crc = self.crc_below.map(u32::to_le_bytes);
        let crc = crc.as_ref().map_or(&[][..], |crc| crc);
        into[len..len + crc.len()].copy_from_slice(crc);
        &into[..len + crc.len()]
    }
}

/// The sources' view of what a partition's log remembers.
#[derive(Clone, Debug, Default)]
pub struct Claims(Arc<Mutex<State>>);

/// The writer's end of [`Claims`].
#[derive(Debug)]
pub struct LogOwner(Claims);

impl Claims {
    /// An empty state, and the owner to open its partition with.
    #[must_use]
    pub fn new() -> (Self, LogOwner) {
        let claims = Self::default();
        (claims.clone(), LogOwner(claims))
    }

    /// To be called when the log is one of several in its stream. It sees only some of a session's publishes, and can prove
    /// nothing from their packet ids.
    pub fn shared(&self) {
        self.state().shared = true;
    }

    /// To be called when the partition has been opened: whether the publishes found in the log were acknowledged is not known.
    pub fn opened(&self) {
        for session in self.state().sessions.values_mut() {
            session.acked = session.applied;
        }
    }

    /// Where the device log `log` stands.
    #[must_use]
    pub fn device(&self, log: &[u8; 16]) -> Option<Stood> {
        let state = self.state();
        let device = state.devices.get(log)?;
        Some(device.stands(log))
    }

    /// To be called when this log takes the events that `older` took before: a device goes on where it stood there. What this
    /// log knows of a device itself is newer, and stays longer.
    pub fn inherit(&self, older: &Self) {
        self.inherit_devices(&older.devices());
    }

    /// As [`Claims::inherit`], from what [`Claims::devices`] said.
    pub fn inherit_devices(&self, devices: &[Stood]) {
        let mut state = self.state();
        for stood in devices {
            let known = state.devices.get(&stood.log);
            let used = known.map_or(0, |known| known.used);
            if known.is_none_or(|known| known.next < stood.next) {
                state.device_stands(stood, used);
            }
        }
    }

    /// Notes for the log that follows this one and takes over its sessions with their tables, as items: the longest unused first, and one that says that these
    /// were all.
    #[must_use]
    pub fn for_the_next(&self) -> Vec<Vec<u8>> {
        let state = self.state();
        let mut sessions: Vec<_> = state.sessions.iter().collect();
        sessions.sort_unstable_by_key(|(_, session)| session.used);
        let note = |session: &[u8]| {
            let item = Item::TakenOver { session };
            postcard::to_allocvec(&item).expect("postcard writes every item")
        };
        let kept = sessions.into_iter().map(|(number, session)| {
            let kept = KeptSession::of(*number, session);
            note(&postcard::to_allocvec(&kept).expect("postcard writes every session"))
        });
        kept.chain([note(&[])]).collect()
    }

    /// Whether all that the log before knew of sessions is in this one.
    #[must_use]
    pub fn has_taken_over(&self) -> bool {
        self.state().took_over
    }

    /// Where each device stands, the longest unused first.
    #[must_use]
    pub fn devices(&self) -> Vec<Stood> {
        let state = self.state();
        let mut devices: Vec<_> = state.devices.iter().collect();
        devices.sort_unstable_by_key(|(_, device)| device.used);
        let stood = |(log, device): (&[u8; 16], &Device)| device.stands(log);
        devices.into_iter().map(stood).collect()
    }

    /// The durable session of `client`, if there is one.
    #[must_use]
    pub fn session(&self, client: &str) -> Option<SessionId> {
        let state = self.state();
        let found = state
            .sessions
            .iter()
            .find(|(_, session)| session.client == client);
        found.map(|(number, session)| SessionId {
            number: *number,
            generation: session.generation,
        })
    }

    /// The clients of all durable sessions.
    #[must_use]
    pub fn session_names(&self) -> Vec<String> {
        self.state()
            .sessions
            .values()
            .map(|session| session.client.clone())
            .collect()
    }

    /// A session for `client` that no log knows yet. It begins when its note is durable.
    #[must_use]
    pub fn draw_session(&self, client: &str) -> SessionId {
        let generation = self
            .session(client)
            .map_or(1, |old| old.generation.wrapping_add(1));
        let mut state = self.state();
        let number = state.number_next;
        state.number_next = number.wrapping_add(1);
        SessionId { number, generation }
    }

    /// How many publishes of `session` this log has taken since it was opened: the index of its next one.
    #[must_use]
    pub fn publishes(&self, session: u32) -> u64 {
        self.state()
            .sessions
            .get(&session)
            .map_or(0, |session| session.applied)
    }

    /// The index of the stored publish of which a DUP = 1 publish in a resumed session is provably another delivery.
    /// `window` is the most publishes that the client may have unacknowledged. `None` means: store it.
    #[must_use]
    pub fn redelivered(&self, session: u32, packet: u16, hash: u64, window: u16) -> Option<u64> {
        let state = self.state();
        let window = (!state.shared).then_some(window);
        state
            .sessions
            .get(&session)?
            .redelivered(packet, hash, window)
    }

    /// To be called *before* PUBACKs leave: of the publishes of `session` below index `next` it is no longer known whether
    /// the client holds them as acknowledged.
    pub fn acknowledging(&self, session: u32, next: u64) {
        if let Some(session) = self.state().sessions.get_mut(&session) {
            session.acked = session.acked.max(next.min(session.applied));
        }
    }

    /// Below this index it is not known whether the client of `session` holds a publish as acknowledged.
    #[must_use]
    pub fn acknowledged(&self, session: u32) -> u64 {
        let state = self.state();
        let session = state.sessions.get(&session);
        session.map_or(0, |session| session.acked)
    }

    /// To be called when a connection has ended and it is certain that of what was said with [`Claims::acknowledging`] the PUBACKs of the
    /// publishes from index `from` on never left.
    pub fn unacknowledged(&self, session: u32, from: u64) {
        if let Some(session) = self.state().sessions.get_mut(&session) {
            session.acked = session.acked.min(from);
        }
    }

    /// Device logs and sessions that are remembered.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.devices.len(), state.sessions.len())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No invariant spans a panic: each change under this lock is complete by itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owner for LogOwner {
    fn restore(&mut self, checkpoint: &[u8]) {
        let mut state = self.0.state();
        *state = State {
            shared: state.shared,
            ..State::restore(checkpoint)
        };
    }

    fn apply(&mut self, item: &[u8], entries: &[u8], _first: Offset, _ticket: Ticket) {
        match postcard::take_from_bytes(item) {
            Ok((Item::DeviceCursor { log, next }, crc)) => {
                let crc_below = crc.first_chunk().map(|crc| u32::from_le_bytes(*crc));
                self.0.state().device_moved(&Stood {
                    log,
                    next,
                    crc_below,
                });
            }
            Ok((Item::Publish { session, packet }, _)) => self.published(session, packet, entries),
            Ok((note @ (Item::Session { .. } | Item::TakenOver { .. }), _)) => {
                self.0.state().noted(&note);
            }
            Err(_) => {
                tracing::warn!("an item beside records is not one that this version knows; skipped")
            }
        }
    }

    fn note(&mut self, item: &[u8]) {
        match postcard::from_bytes(item) {
            Ok(Item::Publish { session, packet }) => {
                self.0.state().published(session, packet, ELSEWHERE);
            }
            Ok(Item::TakenOver { session }) => self.0.state().taken_over(session),
            Ok(item) => self.0.state().noted(&item),
            Err(_) => {
                tracing::warn!("a note in the log is not one that this version knows; skipped")
            }
        }
    }

    fn checkpoint(&mut self, into: &mut Vec<u8>, bytes_max: usize) {
        let mut state = self.0.state();
        state.checkpoint(into);
        while into.len() > bytes_max && state.forget_some(into.len() - bytes_max) {
            into.clear();
            state.checkpoint(into);
        }
    }
}

impl LogOwner {
    fn published(&self, session: u32, mut packet: u16, mut entries: &[u8]) {
        let mut state = self.0.state();
        while let Some((entry, rest)) = next_entry(entries) {
            if let Entry::Record(record) = entry {
                let topic = record.headers.find("topic").unwrap_or_default();
                state.published(session, packet, content_hash(topic, record.value));
                packet = packet_after(packet);
            }
            entries = rest;
        }
    }
}

fn next_entry(entries: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (entry, length) = Entry::decode(entries)?;
    Some((entry, entries.get(length..)?))
}

#[derive(Debug, Default)]
struct State {
    devices: BTreeMap<[u8; 16], Device>,
    sessions: BTreeMap<u32, Session>,
    number_next: u32,
    /// Grows with each use of anything; the smallest is what has not been used for longest.
    clock: u64,
    /// Rows in all tables together.
    rows: usize,
    /// There are other logs in the stream.
    shared: bool,
    /// What the log before knew of sessions is in here.
    took_over: bool,
}

#[derive(Debug)]
struct Device {
    next: u64,
    crc_below: Option<u32>,
    used: u64,
}

impl Device {
    const fn stands(&self, log: &[u8; 16]) -> Stood {
        Stood {
            log: *log,
            next: self.next,
            crc_below: self.crc_below,
        }
    }
}

#[derive(Debug, Default)]
struct Session {
    client: String,
    generation: u32,
    /// The last publishes, oldest first; the newest has index `applied - 1`.
    table: VecDeque<Row>,
    applied: u64,
    /// Publishes below this index may have been acknowledged to the client.
    acked: u64,
    /// Packet id of the newest publish, and how many in a row, up to it, each had the id after the one before.
    last: u16,
    run: u32,
    used: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    packet: u16,
    hash: u64,
}

impl Session {
    fn published(&mut self, row: Row) {
        let follows = row.packet == packet_after(self.last);
        self.run = if follows {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.last = row.packet;
        self.applied += 1;
        self.table.push_back(row);
    }

    fn redelivered(&self, packet: u16, hash: u64, window: Option<u16>) -> Option<u64> {
        if Fault::StoreRedelivery.is_planted() {
            return None;
        }
        let place = self.table.iter().rposition(|row| row.packet == packet)?;
        let index = self.applied - (self.table.len() - place) as u64;
        if Fault::EveryDupIsKnown.is_planted() {
            return Some(index);
        }
        let proven = index >= self.acked
            || window.is_some_and(|window| self.cannot_be_reused(packet, window));
        (self.table.get(place)?.hash == hash && proven).then_some(index)
    }

    /// The client could use `packet` for another publish only after a whole lap of its counter, which is at least `run` long.
    /// All of that lap we do not hold would be in flight: more than the window lets it. And with a whole window after it, it cannot
    /// be unacknowledged: the client's counter has gone back.
    fn cannot_be_reused(&self, packet: u16, window: u16) -> bool {
        let since = (u32::from(self.last) + PACKET_IDS - u32::from(packet)) % PACKET_IDS;
        let window = u32::from(window);
        since < window && self.run > since + window
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn device_moved(&mut self, stood: &Stood) {
        let used = self.tick();
        self.device_stands(stood, used);
    }

    fn device_stands(&mut self, stood: &Stood, used: u64) {
        let device = Device {
            next: stood.next,
            crc_below: stood.crc_below,
            used,
        };
        self.devices.insert(stood.log, device);
        if self.devices.len() > DEVICES_MAX {
            self.forget_a_device();
        }
    }

    fn published(&mut self, number: u32, packet: u16, hash: u64) {
        let used = self.tick();
        self.number_next = self.number_next.max(number.wrapping_add(1));
        let session = self.sessions.entry(number).or_default();
        session.used = used;
        session.published(Row { packet, hash });
        if session.table.len() > ROWS_PER_SESSION_MAX {
            session.table.pop_front();
        } else {
            self.rows += 1;
        }
        self.bound();
    }

    fn noted(&mut self, note: &Item<'_>) {
        let Item::Session {
            number,
            client,
            generation,
            ended,
        } = *note
        else {
            return;
        };
        let replaced = |(known, session): (&u32, &Session)| {
            (session.client == client && *known != number).then_some(*known)
        };
        for other in self
            .sessions
            .iter()
            .filter_map(replaced)
            .collect::<Vec<_>>()
        {
            self.forget(other);
        }
        self.number_next = self.number_next.max(number.wrapping_add(1));
        if ended {
            self.forget(number);
            return;
        }
        let used = self.tick();
        let session = self.sessions.entry(number).or_default();
        client.clone_into(&mut session.client);
        session.generation = generation;
        session.used = used;
        self.bound();
    }

    fn taken_over(&mut self, session: &[u8]) {
        if session.is_empty() {
            self.took_over = true;
            return;
        }
        let Ok(kept) = postcard::from_bytes::<KeptSession>(session) else {
            tracing::warn!("a session of the log before is unreadable; its client starts anew");
            return;
        };
        self.number_next = self.number_next.max(kept.number.wrapping_add(1));
        // Told twice if the agent was stopped in between.
        self.forget(kept.number);
        self.keep(kept);
        self.bound();
    }

    fn keep(&mut self, kept: KeptSession) {
        let used = self.tick();
        self.rows += kept.table.len();
        self.sessions.insert(kept.number, kept.into_session(used));
    }

    /// Forgets what was not used for longest: first whole tables, and sessions when there are too many of them.
    fn bound(&mut self) {
        while self.rows > ROWS_MAX {
            self.forget_a_table();
        }
        while self.sessions.len() > SESSIONS_MAX {
            self.forget_a_session();
        }
    }

    /// Forgets what was not used for longest, `bytes` of a checkpoint or more: first whole tables, then sessions, then where devices stand. `false` if there is
    /// nothing left.
    fn forget_some(&mut self, bytes: usize) -> bool {
        let before = (self.rows, self.sessions.len(), self.devices.len());
        let mut left = bytes;
        while left > 0 && self.rows > 0 {
            left = left.saturating_sub(ROW_BYTES * self.forget_a_table());
        }
        while left > 0 && !self.sessions.is_empty() {
            left = left.saturating_sub(self.forget_a_session());
        }
        while left > 0 && !self.devices.is_empty() {
            self.forget_a_device();
            left = left.saturating_sub(DEVICE_BYTES);
        }
        before != (self.rows, self.sessions.len(), self.devices.len())
    }

    /// Says how many rows there were.
    fn forget_a_table(&mut self) -> usize {
        let tables = self.sessions.values_mut();
        let tables = tables.filter(|session| !session.table.is_empty());
        let Some(session) = tables.min_by_key(|session| session.used) else {
            return 0;
        };
        let rows = session.table.len();
        session.table.clear();
        self.rows -= rows;
        rows
    }

    /// Says how many bytes its name had.
    fn forget_a_session(&mut self) -> usize {
        let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used);
        let Some((&number, session)) = oldest else {
            return 0;
        };
        let bytes = session.client.len();
        self.forget(number);
        bytes
    }

    fn forget_a_device(&mut self) {
        let oldest = self.devices.iter().min_by_key(|(_, device)| device.used);
        let oldest = oldest.map(|(log, _)| *log);
        oldest.map(|log| self.devices.remove(&log));
    }

    fn forget(&mut self, number: u32) {
        if let Some(session) = self.sessions.remove(&number) {
            self.rows -= session.table.len();
        }
    }

    fn checkpoint(&self, into: &mut Vec<u8>) {
        if self.number_next == 0 && self.devices.is_empty() && !self.took_over {
            return; // as if nothing was said
        }
        let mut devices: Vec<_> = self.devices.iter().collect();
        devices.sort_by_key(|(_, device)| device.used);
        let mut sessions: Vec<_> = self.sessions.iter().collect();
        sessions.sort_by_key(|(_, session)| session.used);
        let kept = Checkpoint {
            version: match self.took_over {
                true => CHECKPOINT_TOOK_OVER,
                false => CHECKPOINT_VERSION,
            },
            number_next: self.number_next,
            devices: devices
                .iter()
                .map(|(log, device)| (**log, device.next))
                .collect(),
            sessions: sessions
                .into_iter()
                .map(|(number, session)| KeptSession::of(*number, session))
                .collect(),
        };
        let taken = std::mem::take(into);
        *into = extended(taken, &kept);
        let crcs: Vec<_> = devices.iter().map(|(_, device)| device.crc_below).collect();
        if crcs.iter().any(Option::is_some) {
            *into = extended(std::mem::take(into), &crcs);
        }
    }

    fn restore(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::default();
        }
        let Ok((kept, crcs)) = postcard::take_from_bytes::<Checkpoint>(bytes) else {
            tracing::warn!(
                "device cursors and MQTT sessions are unreadable; redeliveries will be stored again"
            );
            return Self::default();
        };
        let mut state = Self {
            number_next: kept.number_next,
            took_over: kept.version == CHECKPOINT_TOOK_OVER,
            ..Self::default()
        };
        // Versions before this one knew none.
        let mut crcs = postcard::from_bytes::<Vec<Option<u32>>>(crcs).unwrap_or_default();
        crcs.resize(kept.devices.len(), None);
        for ((log, next), crc_below) in kept.devices.into_iter().zip(crcs) {
            state.device_moved(&Stood {
                log,
                next,
                crc_below,
            });
        }
        for kept in kept.sessions {
            state.keep(kept);
        }
        state.bound();
        state
    }
}

fn extended(bytes: Vec<u8>, by: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(by, bytes).expect("a checkpoint has no part that postcard refuses")
}

/// Behind it stand the CRCs of the frames below the devices' cursors, in the same order, if any is known.
#[derive(Serialize, Deserialize)]
struct Checkpoint {
    version: u8,
    number_next: u32,
    devices: Vec<([u8; 16], u64)>,
    sessions: Vec<KeptSession>,
}

#[derive(Serialize, Deserialize)]
struct KeptSession {
    number: u32,
    client: String,
    generation: u32,
    last: u16,
    run: u32,
    table: Vec<Row>,
}

impl KeptSession {
    fn of(number: u32, session: &Session) -> Self {
        Self {
            number,
            client: session.client.clone(),
            generation: session.generation,
            last: session.last,
            run: session.run,
            table: session.table.iter().copied().collect(),
        }
    }

    fn into_session(self, used: u64) -> Session {
        let applied = self.table.len() as u64;
        Session {
            client: self.client,
            generation: self.generation,
            table: self.table.into(),
            applied,
            acked: applied,
            last: self.last,
            run: self.run,
            used,
        }
    }
}

/// The packet id after `packet`; 0 is not one.
#[must_use]
pub fn packet_after(packet: u16) -> u16 {
    packet.checked_add(1).unwrap_or(1)
}

/// What tells one publish from another with the same packet id: 64 bits over topic and payload. A client can fool only itself.
#[must_use]
pub fn content_hash(topic: &[u8], payload: &[u8]) -> u64 {
    let hash = absorb(topic.len() as u64 ^ 0x2D35_8DCC_AA6C_78A5, topic);
    absorb(hash ^ payload.len() as u64, payload)
}

fn absorb(mut hash: u64, bytes: &[u8]) -> u64 {
    let fold = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * 0x9E37_79B9_7F4A_7C15_u128;
        (product as u64 ^ (product >> 64) as u64).rotate_left(29) ^ 0x8BB8_4B93_962E_ACC9
    };
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word: [u8; 8] = word.try_into().expect("eight bytes");
        hash = fold(hash, u64::from_le_bytes(word));
    }
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    fold(hash, u64::from_le_bytes(last))
}

/// The longest item that stands beside records: a device cursor.
pub const ITEM_BYTES_MAX: usize = 32;

/// The longest client name in a session note takes this many bytes more.
pub const SESSION_NOTE_BYTES_MAX: usize = 512;

/// The hash of a publish whose content is not in this log. It equals no other but by a chance of one in 2⁶⁴.
const ELSEWHERE: u64 = 0;

const CHECKPOINT_VERSION: u8 = 1;
/// The same, of a log that has taken over the sessions of the one before.
const CHECKPOINT_TOOK_OVER: u8 = 2;

/// Packet ids are 1 to 65,535.
const PACKET_IDS: u32 = 65_535;

/// Publishes of one session that are remembered: no more than a client is allowed to have in flight can come again.
pub const ROWS_PER_SESSION_MAX: usize = 1024;

/// Publishes remembered in all sessions of a partition together. A row takes up to 13 bytes of each segment's open header.
const ROWS_MAX: usize = 8 * ROWS_PER_SESSION_MAX;

/// Sessions remembered in a partition; beyond, the one that was not used for longest is forgotten and its client starts anew.
const SESSIONS_MAX: usize = 2048;

/// Device logs remembered in a partition.
const DEVICES_MAX: usize = 2048;

/// Bytes of a checkpoint that a row and a device take, if not fewer: numbers are written as short as they are.
const ROW_BYTES: usize = 10;
const DEVICE_BYTES: usize = 18;

#[cfg(test)]
mod tests;

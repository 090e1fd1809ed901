//! What is remembered, and what is taken for a redelivery.

use super::*;
use proptest::prelude::*;
use sedge_core::entry::{Headers, Record};

const WINDOW: u16 = 20;

/// A log's owner, told of things as a log would.
struct Told {
    claims: Claims,
    owner: LogOwner,
}

impl Told {
    fn new() -> Self {
        let (claims, owner) = Claims::new();
        Self { claims, owner }
    }

    /// What a restart leaves: the checkpoint, or nothing.
    fn restarted(mut self) -> Self {
        let mut checkpoint = Vec::new();
        self.owner.checkpoint(&mut checkpoint, usize::MAX);
        let mut after = Self::new();
        after.owner.restore(&checkpoint);
        after.claims.opened();
        after
    }

    fn session(&mut self, client: &str) -> u32 {
        let id = self.claims.draw_session(client);
        let (number, generation) = (id.number, id.generation);
        self.note(Item::Session {
            number,
            client,
            generation,
            ended: false,
        });
        number
    }

    fn note(&mut self, item: Item<'_>) {
        let mut bytes = [0; SESSION_NOTE_BYTES_MAX];
        self.owner.note(item.encode(&mut bytes));
    }

    fn published(&mut self, session: u32, packet: u16, value: &str) {
        let mut item = [0; ITEM_BYTES_MAX];
        let item = Item::Publish { session, packet }.encode(&mut item);
        self.owner
            .apply(item, &entry(value), Offset::new(0), Ticket(1));
    }

    /// Whether this publish, now with DUP = 1 in the resumed session, is known.
    fn knows(&self, session: u32, packet: u16, value: &str) -> bool {
        let hash = content_hash(b"t", value.as_bytes());
        self.claims
            .redelivered(session, packet, hash, WINDOW)
            .is_some()
    }
}

fn entry(value: &str) -> Vec<u8> {
    let headers = [("topic", &b"t"[..])];
    let record = Record {
        headers: Headers::new(&headers),
        value: value.as_bytes(),
        ..Record::default()
    };
    let mut bytes = vec![0; 256];
    let length = Entry::Record(record).encode(&mut bytes).expect("room");
    bytes.truncate(length);
    bytes
}

#[test]
fn publish_without_a_puback_is_recognised_whatever_its_packet_id() {
    let mut log = Told::new();
    let session = log.session("dev");
    log.published(session, 9, "a");
    log.published(session, 4, "a");
    assert!(log.knows(session, 9, "a") && log.knows(session, 4, "a"));
    assert!(!log.knows(session, 9, "b"), "other content");
    assert!(!log.knows(session, 5, "a"), "other packet id");
    assert!(!log.knows(session + 1, 9, "a"), "other session");
}

/// The client has the PUBACK, uses the packet id again with the same content, and that publish never arrives.
/// What comes with DUP = 1 then is news.
#[test]
fn constant_payload_under_a_reused_packet_id_is_stored_after_its_puback() {
    let mut log = Told::new();
    let session = log.session("dev");
    log.published(session, 1, "open");
    log.claims.acknowledging(session, 1);
    assert!(!log.knows(session, 1, "open"));
}

/// The connection broke while PUBACKs were waiting to be written: those publishes are what they were before.
#[test]
fn publish_whose_puback_never_left_is_recognised_again() {
    let mut log = Told::new();
    let session = log.session("dev");
    log.published(session, 1, "open");
    log.published(session, 2, "open");
    log.claims.acknowledging(session, 2);
    assert!(!log.knows(session, 1, "open") && !log.knows(session, 2, "open"));
    log.claims.unacknowledged(session, 1);
    assert!(!log.knows(session, 1, "open") && log.knows(session, 2, "open"));
    let log = log.restarted();
    log.claims
        .unacknowledged(session, log.claims.acknowledged(session));
    assert!(!log.knows(session, 2, "open"), "after a kill nobody knows");
}

/// A kill may have come after the PUBACK had left, so it counts as sent.
#[test]
fn after_a_restart_a_lone_packet_id_proves_nothing() {
    let mut log = Told::new();
    let session = log.session("dev");
    log.published(session, 1, "open");
    let log = log.restarted();
    assert_eq!(log.claims.session("dev").map(|id| id.number), Some(session));
    assert!(!log.knows(session, 1, "open"));
}

/// A client that counts its packet ids up would need a whole lap to use one again, more than fits its window.
#[test]
fn client_that_counts_up_is_recognised_after_a_restart() {
    let mut log = Told::new();
    let session = log.session("dev");
    for packet in 1..=40 {
        log.published(session, packet, "open");
    }
    let mut log = log.restarted();
    assert!(log.knows(session, 40, "open"), "the newest");
    assert!(log.knows(session, 21, "open"), "a window before it");
    assert!(
        !log.knows(session, 20, "open"),
        "its lap may have fitted the window"
    );
    log.published(session, 7, "open");
    log.claims.acknowledging(session, u64::MAX);
    assert!(!log.knows(session, 7, "open"), "it counts up no longer");
}

/// A broker that was killed goes on from what it had saved last: it takes packet ids for other events that it had given before. Events that
/// it sent so and that were lost on the way come with DUP = 1, with a payload that is always the same.
#[test]
fn client_whose_count_has_gone_back_is_not_believed() {
    let mut log = Told::new();
    let session = log.session("dev");
    for packet in 1..=100 {
        log.published(session, packet, "open");
    }
    log.claims.acknowledging(session, u64::MAX);
    assert!(
        log.knows(session, 81, "open"),
        "it may have a window of unacknowledged publishes"
    );
    assert!(
        !log.knows(session, 80, "open"),
        "it had been told of this one"
    );
}

#[test]
fn lap_of_packet_ids_goes_from_65535_to_1() {
    let mut log = Told::new();
    let session = log.session("dev");
    for step in 0..45_u32 {
        log.published(session, ((65_500 + step) % 65_535 + 1) as u16, "open");
    }
    let log = log.restarted();
    assert!(log.knows(session, 65_535, "open") && log.knows(session, 2, "open"));
}

#[test]
fn run_of_records_in_one_unit_counts_its_packet_ids_up() {
    let mut log = Told::new();
    let session = log.session("dev");
    let mut item = [0; ITEM_BYTES_MAX];
    let item = Item::Publish {
        session,
        packet: 65_535,
    }
    .encode(&mut item);
    log.owner.apply(
        item,
        &[entry("a"), entry("b")].concat(),
        Offset::new(0),
        Ticket(1),
    );
    assert!(log.knows(session, 65_535, "a") && log.knows(session, 1, "b"));
}

#[test]
fn clean_session_ends_the_table_and_numbers_are_not_used_again() {
    let mut log = Told::new();
    let session = log.session("dev");
    log.published(session, 1, "a");
    let note = Item::Session {
        number: session,
        client: "dev",
        generation: 1,
        ended: true,
    };
    log.note(note);
    assert!(!log.knows(session, 1, "a"));
    assert_eq!(log.claims.session("dev"), None);
    let mut log = log.restarted();
    assert_ne!(log.session("dev"), session);
}

#[test]
fn cursor_of_a_device_survives_a_restart() {
    let mut log = Told::new();
    let mut item = [0; ITEM_BYTES_MAX];
    let stood = |device, next, crc_below| Stood {
        log: [device; 16],
        next,
        crc_below,
    };
    let longest = stood(0xA5, u64::MAX, Some(u32::MAX));
    let known = [stood(1, 7, Some(5)), stood(2, 8, None), longest];
    for stood in [stood(0xA5, 7, None)].iter().chain(&known) {
        let item = stood.encode(&mut item);
        log.owner
            .apply(item, &entry("a"), Offset::new(0), Ticket(1));
    }
    for _ in 0..2 {
        log = log.restarted();
        assert_eq!(log.claims.devices(), known);
        assert_eq!(log.claims.device(&longest.log), Some(longest));
        assert_eq!(log.claims.device(&[0; 16]), None);
    }
}

/// Logs of versions that did not keep the CRC of the frame below a cursor.
#[test]
fn cursor_of_a_device_stands_alone_in_logs_of_earlier_versions() {
    let mut log = Told::new();
    let (device, next) = ([1; 16], 7);
    let item = postcard::to_allocvec(&Item::DeviceCursor { log: device, next }).unwrap();
    log.owner
        .apply(&item, &entry("a"), Offset::new(0), Ticket(1));
    let stood = Stood {
        log: device,
        next,
        crc_below: None,
    };
    assert_eq!(log.claims.devices(), [stood]);
    let mut checkpoint = Vec::new();
    log.owner.checkpoint(&mut checkpoint, usize::MAX);
    let earlier = postcard::to_allocvec(&(1_u8, 0_u32, vec![(device, next)], Vec::<u8>::new()));
    assert_eq!(checkpoint, earlier.unwrap());
    assert_eq!(log.restarted().claims.devices(), [stood]);
}

/// The partition count was changed: the device's records now go into a log that knows nothing of it yet.
#[test]
fn device_goes_on_in_a_new_log_where_it_stood_in_the_old_one() {
    let (mut old, mut new) = (Told::new(), Told::new());
    let mut bytes = [0; ITEM_BYTES_MAX];
    let mut cursor = |told: &mut Told, device: u8, next: u64| {
        let log = [device; 16];
        let item = Item::DeviceCursor { log, next }.encode(&mut bytes);
        told.owner
            .apply(item, &entry("a"), Offset::new(0), Ticket(1));
    };
    cursor(&mut old, 1, 70);
    cursor(&mut old, 2, 80);
    cursor(&mut new, 2, 81);
    new.claims.inherit(&old.claims);
    assert_eq!(new.claims.device(&[1; 16]).map(|it| it.next), Some(70));
    assert_eq!(new.claims.device(&[2; 16]).map(|it| it.next), Some(81));
    cursor(&mut new, 3, 5);
    new.claims.inherit(&old.claims);
    let order: Vec<u8> = new.claims.devices().iter().map(|it| it.log[0]).collect();
    assert_eq!(
        order,
        [1, 2, 3],
        "its own stay longer than what it was told"
    );
    cursor(&mut new, 1, 71);
    assert_eq!(new.claims.device(&[1; 16]).map(|it| it.next), Some(71));
}

#[test]
fn memory_for_tables_is_bounded_and_the_longest_unused_goes_first() {
    let mut log = Told::new();
    let sessions: Vec<_> = (0..20)
        .map(|client| log.session(&format!("dev-{client}")))
        .collect();
    for session in &sessions {
        for packet in 1..=2000 {
            log.published(*session, packet, "a");
        }
    }
    assert!(!log.knows(sessions[0], 2000, "a"));
    assert!(log.knows(sessions[19], 2000, "a") && !log.knows(sessions[19], 900, "a"));
    let mut checkpoint = Vec::new();
    log.owner.checkpoint(&mut checkpoint, usize::MAX);
    assert!(checkpoint.len() < 14 * ROWS_MAX, "{}", checkpoint.len());
}

/// A log whose frames are small has small open headers. What does not go into one is forgotten in this life, too, or the next one would know less.
#[test]
fn a_checkpoint_is_no_longer_than_an_open_header_carries() {
    let mut log = Told::new();
    let mut item = [0; ITEM_BYTES_MAX];
    for device in 0..100 {
        let stood = Stood {
            log: [device; 16],
            next: 1 << 40,
            crc_below: Some(u32::MAX),
        };
        log.owner
            .apply(stood.encode(&mut item), &[], Offset::ZERO, Ticket(1));
    }
    let sessions: Vec<_> = (10..40)
        .map(|client| log.session(&format!("a-client-with-a-long-name-{client}")))
        .collect();
    for session in &sessions {
        (1..=100).for_each(|packet| log.published(*session, packet, "a"));
    }
    let mut before = (log.claims.counts(), 30 * 100);
    for bytes_max in [40_000, 20_000, 10_000, 4_000, 2_000, 100, 4] {
        let mut checkpoint = Vec::new();
        log.owner.checkpoint(&mut checkpoint, bytes_max);
        assert!(checkpoint.len() <= bytes_max, "{bytes_max}");
        let after = Told::new();
        let mut owner = after.owner;
        owner.restore(&checkpoint);
        let rows = log.claims.state().rows;
        assert_eq!(after.claims.counts(), log.claims.counts());
        assert_eq!(after.claims.devices(), log.claims.devices());
        let (counts, rows_before) = std::mem::replace(&mut before, (log.claims.counts(), rows));
        assert!(
            rows <= rows_before && (rows == 0 || counts == before.0),
            "tables go first"
        );
        assert!(before.0.0 == 100 || before.0.1 == 0, "devices go last");
        if (1..30).contains(&before.0.1) {
            let names = log.claims.session_names();
            assert!(names.contains(&"a-client-with-a-long-name-39".into()));
        }
    }
    assert_eq!(before, ((0, 0), 0));
}

#[test]
fn unreadable_checkpoint_is_an_empty_one() {
    let mut log = Told::new();
    log.owner.restore(b"\xFF\xFF\xFF");
    log.note(Item::Session {
        number: 3,
        client: "dev",
        generation: 1,
        ended: false,
    });
    assert_eq!(log.claims.counts(), (0, 1));
}

/// A client, a wire and a server in one, with a payload that is always the same. Every publish has a number that only the
/// model knows: what is taken for a redelivery must be on disk under that number.
struct Model {
    log: Told,
    counts_up: bool,
    window: usize,
    session: u32,
    /// Published and not acknowledged, as the client knows it: packet id and number.
    unacked: VecDeque<(u16, u32)>,
    last_packet: u16,
    numbers: u32,
    to_server: VecDeque<(u16, u32, bool)>,
    to_client: VecDeque<u16>,
    staged: Vec<(u16, u32)>,
    /// Taken and not answered: packet id and one past the index in the table.
    pending: VecDeque<(u16, u64)>,
    /// PUBACKs that wait to be written, and how far those that were go in the table.
    handed: VecDeque<(u16, u64)>,
    acked: u64,
    index_next: u64,
    committed: u64,
    stored: Vec<u32>,
    recognised: usize,
}

impl Model {
    fn new(counts_up: bool, window: usize) -> Self {
        let mut log = Told::new();
        let session = log.session("dev");
        Self {
            log,
            counts_up,
            window,
            session,
            unacked: VecDeque::new(),
            last_packet: 0,
            numbers: 0,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            staged: Vec::new(),
            pending: VecDeque::new(),
            handed: VecDeque::new(),
            acked: 0,
            index_next: 0,
            committed: 0,
            stored: Vec::new(),
            recognised: 0,
        }
    }

    fn step(&mut self, step: u8) {
        match step {
            0..=29 => self.publish(),
            30..=59 => self.receive(),
            60..=79 => self.commit(),
            80..=89 => self.acknowledge(),
            90..=99 => self.write(),
            100..=119 => self.learn(),
            120..=123 => self.reconnect(),
            _ => self.kill(),
        }
    }

    fn publish(&mut self) {
        if self.unacked.len() == self.window {
            return;
        }
        let mut packet = if self.counts_up {
            self.last_packet % LAP + 1
        } else {
            1
        };
        while self.unacked.iter().any(|(used, _)| *used == packet) {
            packet = packet % LAP + 1;
        }
        self.last_packet = packet;
        self.numbers += 1;
        self.unacked.push_back((packet, self.numbers));
        self.to_server.push_back((packet, self.numbers, false));
    }

    fn receive(&mut self) {
        let Some((packet, number, dup)) = self.to_server.pop_front() else {
            return;
        };
        let hash = content_hash(b"t", b"same");
        let known = dup
            .then(|| {
                self.log
                    .claims
                    .redelivered(self.session, packet, hash, WINDOW)
            })
            .flatten();
        match known {
            Some(index) => {
                assert!(self.stored.contains(&number), "event {number} is nowhere");
                self.recognised += 1;
                self.pending.push_back((packet, index + 1));
            }
            None => {
                self.index_next += 1;
                self.staged.push((packet, number));
                self.pending.push_back((packet, self.index_next));
            }
        }
    }

    fn commit(&mut self) {
        for (packet, number) in std::mem::take(&mut self.staged) {
            let session = self.session;
            let mut bytes = [0; ITEM_BYTES_MAX];
            let item = Item::Publish { session, packet };
            let item = item.encode(&mut bytes);
            self.log
                .owner
                .apply(item, &entry("same"), Offset::new(0), Ticket(1));
            self.stored.push(number);
        }
        self.committed = self.index_next;
    }

    fn acknowledge(&mut self) {
        while let Some((packet, index_next)) = self.pending.front().copied() {
            if index_next > self.committed {
                break;
            }
            self.pending.pop_front();
            self.log.claims.acknowledging(self.session, index_next);
            self.handed.push_back((packet, index_next));
        }
    }

    fn write(&mut self) {
        for (packet, index_next) in self.handed.drain(..self.handed.len().min(2)) {
            self.acked = self.acked.max(index_next);
            self.to_client.push_back(packet);
        }
    }

    fn learn(&mut self) {
        if let Some(packet) = self.to_client.pop_front() {
            self.unacked.retain(|(known, _)| *known != packet);
        }
    }

    /// The wire loses what is on it; the client sends again what it holds as unacknowledged.
    fn reconnect(&mut self) {
        self.to_client.clear();
        self.to_server.clear();
        self.pending.clear();
        self.handed.clear();
        self.log.claims.unacknowledged(self.session, self.acked);
        self.commit();
        self.index_next = self.log.claims.publishes(self.session);
        self.committed = self.index_next;
        self.to_server.extend(
            self.unacked
                .iter()
                .map(|(packet, number)| (*packet, *number, true)),
        );
    }

    fn kill(&mut self) {
        self.staged.clear();
        self.log = std::mem::replace(&mut self.log, Told::new()).restarted();
        self.acked = self.log.claims.acknowledged(self.session);
        self.reconnect();
    }
}

/// Packet ids of the model's clients go from 1 to here: more than two windows, few enough to come round often.
const LAP: u16 = 60;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_is_taken_for_a_redelivery_that_is_not_on_disk(
        counts_up: bool,
        window in 1..=usize::from(WINDOW),
        steps in proptest::collection::vec(0_u8..126, 0..1500),
    ) {
        let mut model = Model::new(counts_up, window);
        for step in steps {
            model.step(step);
        }
    }
}

/// The rule is of use: a client that counts up is hardly ever stored twice, whatever breaks.
#[test]
fn redeliveries_of_a_client_that_counts_up_are_recognised_after_kills() {
    let mut model = Model::new(true, 5);
    for _ in 0..50 {
        (0..3).for_each(|_| model.publish());
        (0..3).for_each(|_| model.receive());
        model.commit();
        model.acknowledge();
        (0..3).for_each(|_| model.write());
        (0..3).for_each(|_| model.learn());
    }
    (0..5).for_each(|_| model.publish());
    (0..5).for_each(|_| model.receive());
    model.commit();
    model.kill();
    (0..5).for_each(|_| model.receive());
    assert_eq!((model.recognised, model.stored.len()), (5, 155));
}

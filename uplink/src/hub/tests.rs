//! Stories of a hub whose peers say each word themselves, in simulated time: what is answered, what is waited for, how long.

mod gateways;

use sedge_core::custody::message::{Clock, Intro, Message as Said, Offer, Verdict, emit_hello};
use sedge_core::frame::{Form, Label, emit_data};
use sedge_core::{LogId, Micros, Offset};
use sedge_store::Name;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::*;
use crate::net::Socket;
use crate::net::tests::soon;
use crate::wire::{Fetched, Message, Place, Want, code};

/// A hub that runs, and what it works on.
struct House {
    shared: Arc<Shared>,
    door: mpsc::UnboundedSender<(Box<dyn Socket>, SocketAddr)>,
    stop: oneshot::Sender<()>,
    run: JoinHandle<Result<(), HubError>>,
    _dir: tempfile::TempDir,
}

impl House {
    async fn open() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut HubOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = HubOptions::new(dir.path());
        options.streams[0].capacity = 16 << 20;
        change(&mut options);
        let hub = Hub::open(options).await.unwrap();
        let shared = Arc::clone(&hub.shared);
        let (door, arriving) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let listener = Listener::Simulated(([127, 0, 0, 1], 7443).into(), arriving);
        let run = tokio::spawn(hub.run(listener, async move { drop(stopped.await) }));
        Self {
            shared,
            door,
            stop,
            run,
            _dir: dir,
        }
    }

    /// Somebody who has said nothing yet.
    fn connect(&self) -> Peer {
        let (ours, theirs) = tokio::io::duplex(4 << 20);
        let peer = ([127, 0, 0, 1], 4_000).into();
        self.door.send((Box::new(theirs), peer)).unwrap();
        let ours: Box<dyn Socket> = Box::new(ours);
        let limit = wire::MESSAGE_BYTES_MAX;
        Peer(Stream::new(Connection::Simulated(ours), limit).unwrap())
    }

    async fn consumer(&self) -> Peer {
        let mut peer = self.connect();
        peer.says(&open(wire::PROTOCOL, wire::PROTOCOL)).await;
        peer.hears::<wire::Opened>().await;
        peer
    }

    /// Gives the hub frames of `bytes` each, in the partition with this number.
    fn holds(&self, number: u16, frames: std::ops::Range<u64>, bytes: usize) {
        let offer = registry::Offer {
            log: LogId::new([number as u8 + 1; 16]),
            stream: "telemetry".into(),
            partition: number,
            next: Offset::new(1 << 20),
            closed: false,
            oldest: Offset::ZERO,
            tail_crc: None,
        };
        let (registry, gateway) = (&self.shared.registry, Name::new("gw-7").unwrap());
        let admitted = registry.admit(&self.shared.catalog, &gateway, &offer, &[]);
        let member = admitted.unwrap().member;
        for first in frames {
            member
                .mirror
                .append(&frame(offer.log, first, bytes))
                .unwrap();
        }
        registry.progressed();
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        soon(self.run).await.unwrap().unwrap();
    }
}

/// A frame of one record and of so many bytes.
fn frame(log: LogId, first: u64, bytes: usize) -> Vec<u8> {
    let label = Label {
        form: Form::Explicit,
        first: Offset::new(first),
        time: Micros::new(1_000 * (first as i64 + 1)),
        first_of_commit: true,
    };
    let emit = |entries: usize| {
        let (mut frame, entries) = (vec![0; bytes + 128], vec![0; entries]);
        let len = emit_data(&mut frame, &log, label, 1, &[], &entries).unwrap();
        frame.truncate(len);
        frame
    };
    let (mut entries, mut made) = (2, emit(2));
    while made.len() < bytes {
        entries += bytes - made.len();
        made = emit(entries);
        if made.len() > bytes {
            made = emit(entries - (made.len() - bytes));
            break;
        }
    }
    made
}

/// The other end of a connection.
struct Peer(Stream);

impl Peer {
    async fn says<M: Message>(&mut self, message: &M) {
        self.0.push(message);
        self.0.flush().await.unwrap();
    }

    async fn hears<M: Message + DeserializeOwned>(&mut self) -> M {
        let heard = self.heard().await;
        assert_eq!(heard.kind, M::KIND, "{heard:?}");
        wire::parse(&heard.body).unwrap()
    }

    async fn heard(&mut self) -> Incoming {
        soon(self.0.receive()).await.unwrap()
    }

    /// Whether nothing is said for so long.
    async fn hears_nothing(&mut self, time: Duration) -> bool {
        timeout(time, self.0.receive()).await.is_err()
    }

    /// The code of the Bye that comes next, and when it comes.
    async fn ended(&mut self) -> (u16, Duration) {
        let began = Instant::now();
        let code = self.hears::<wire::Bye>().await.code;
        (code, began.elapsed())
    }

    /// Goes, and leaves so many others behind.
    async fn leaves(&mut self, house: &House, others: u64) {
        assert_eq!(house.shared.status().consumers, others + 1);
        let going = wire::Bye {
            code: bye::SHUTTING_DOWN,
            reason: String::new(),
        };
        self.says(&going).await;
        assert!(soon(self.0.receive()).await.is_err());
        assert_eq!(house.shared.status().consumers, others);
    }

    async fn fails(&mut self) -> (u32, u16) {
        let failed: wire::Failed = self.hears().await;
        assert!(failed.reason.len() <= 256);
        (failed.request, failed.code)
    }

    async fn fetched(&mut self) -> (u32, Fetched) {
        let heard = self.heard().await;
        assert_eq!(heard.kind, kind::FETCHED, "{heard:?}");
        wire::parse_fetched(heard.body).unwrap()
    }

    /// Number of the partition and how many frames, for each part of what can be had of three partitions at most.
    async fn fetches(&mut self, bytes_max: usize) -> Vec<(u32, u64)> {
        let fetch = wire::Fetch {
            bytes_max: bytes_max as u32,
            wants: (0..3).map(want).collect(),
            ..fetch(1)
        };
        self.says(&fetch).await;
        let parts = self.fetched().await.1.parts;
        parts
            .iter()
            .map(|(head, _)| (head.number, head.next))
            .collect()
    }
}

fn open(protocol_min: u8, protocol_max: u8) -> wire::Open {
    wire::Open {
        protocol_min,
        protocol_max,
        features: 0,
        name: "test".into(),
        credential: Vec::new(),
    }
}

fn want(number: u32) -> Want {
    Want {
        number,
        from: 0,
        epoch: None,
    }
}

fn fetch(request: u32) -> wire::Fetch {
    wire::Fetch {
        request,
        stream: "telemetry".into(),
        wait_ms: 0,
        bytes_max: wire::MESSAGE_BYTES_MAX as u32,
        known: 0,
        wants: Vec::new(),
    }
}

/// Of the partitions with these numbers, whole each.
fn mark(numbers: std::ops::Range<u32>) -> u32 {
    wire::mark(numbers.map(|number| (number, 0)))
}

const SECOND: Duration = Duration::from_secs(1);

/// An answer has room for some bytes: partitions come in turn, each as far as there is room, and what is left is no use if it is less than 16 KiB.
#[tokio::test(start_paused = true)]
async fn an_answer_takes_of_many_partitions_what_it_has_room_for() {
    let (house, kib) = (House::open().await, 1 << 10);
    house.holds(0, 0..10, 3 * kib);
    house.holds(1, 0..10, 3 * kib);
    house.holds(2, 0..2, 30 * kib);
    let mut peer = house.consumer().await;
    for (room, parts) in [
        (1, &[(0, 1)][..]),
        (9 * kib, &[(0, 3)]),
        (9 * kib - 1, &[(0, 2)]),
        (46 * kib - 1, &[(0, 10)]),
        (46 * kib, &[(0, 10), (1, 5)]),
        (76 * kib, &[(0, 10), (1, 10)]),
        (90 * kib - 1, &[(0, 10), (1, 10)]),
        (90 * kib, &[(0, 10), (1, 10), (2, 1)]),
        (1 << 30, &[(0, 10), (1, 10), (2, 2)]),
    ] {
        assert_eq!(peer.fetches(room).await, parts, "{room} bytes");
    }
    // None takes more than half a mebibyte while others have something too.
    house.holds(0, 10..250, 3 * kib);
    let half = 512 / 3;
    let all = [(0, half), (1, 10), (2, 2)];
    assert_eq!(peer.fetches(1 << 30).await, all);
    assert_eq!(house.shared.status().served_bytes, {
        let frames = 1 + 3 + 2 + 10 + 15 + 20 + 20 + 20 + 20 + half + 10;
        let large = 1 + 2 + 2;
        (frames * 3 + large * 30) * 1024
    });
    house.stop().await;
}

/// Somebody who asks for what is not there waits as long as it says, up to a minute; what comes meanwhile is given at once, and so is the word of another run.
#[tokio::test(start_paused = true)]
async fn who_asks_for_what_is_not_there_waits_for_it_or_for_as_long_as_it_says() {
    let house = House::open().await;
    house.holds(0, 0..3, 200);
    let mut peer = house.consumer().await;
    let behind = |wait_ms| wire::Fetch {
        wait_ms,
        known: mark(0..1),
        wants: vec![Want { from: 3, ..want(0) }],
        ..fetch(7)
    };
    for (wait_ms, seconds) in [(0, 0), (5_000, 5), (60_000, 60), (600_000, 60)] {
        let began = Instant::now();
        peer.says(&behind(wait_ms)).await;
        let (request, fetched) = peer.fetched().await;
        assert_eq!((request, fetched.runs), (7, mark(0..1)));
        assert!(fetched.parts.is_empty());
        assert_eq!(began.elapsed().as_secs(), seconds);
    }
    peer.says(&behind(60_000)).await;
    assert!(peer.hears_nothing(SECOND).await);
    house.holds(0, 3..4, 200);
    let began = Instant::now();
    let (_, fetched) = peer.fetched().await;
    assert_eq!((fetched.parts[0].0.from, fetched.parts[0].0.next), (3, 4));
    let later = wire::Fetch {
        wants: vec![Want { from: 4, ..want(0) }],
        ..behind(60_000)
    };
    peer.says(&later).await;
    assert!(peer.hears_nothing(SECOND).await);
    house.holds(1, 0..1, 200);
    let (_, fetched) = peer.fetched().await;
    assert!(fetched.parts.is_empty() && fetched.runs == mark(0..2));
    assert!(began.elapsed() < 2 * SECOND);
    house.stop().await;
}

/// A search waits for those that are under way, and what else is asked does not.
#[tokio::test(start_paused = true)]
async fn few_search_at_once_and_nothing_else_waits_for_them() {
    let house = House::open().await;
    house.holds(0, 0..3, 200);
    let library = Arc::clone(house.shared.registry.library());
    let mut turns = Vec::new();
    while let Ok(turn) = timeout(SECOND, library.turn_to_search()).await {
        turns.push(turn);
    }
    assert_eq!(turns.len(), 4);
    let mut peer = house.consumer().await;
    peer.says(&wire::Find {
        request: 3,
        stream: "telemetry".into(),
        time: 0,
        numbers: vec![],
    })
    .await;
    assert!(peer.hears_nothing(SECOND).await);
    let wants = vec![want(0)];
    peer.says(&wire::Fetch { wants, ..fetch(1) }).await;
    assert_eq!(peer.fetched().await.1.parts.len(), 1);
    turns.pop();
    let found: wire::Found = peer.hears().await;
    assert_eq!(found.places.len(), 1);
    house.stop().await;
}

/// Each refusal, by its code; what stands just inside of a bound is met.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_met_is_refused_by_its_reason() {
    let house = House::open().await;
    house.holds(0, 0..3, 200);
    house.holds(1, 0..5, 200);
    let mut peer = house.consumer().await;
    // Two partitions of one log each, and for each two runs that a hub that was put back may have forgotten.
    let wants = |count| wire::Fetch {
        wants: vec![want(0); count],
        ..fetch(1)
    };
    peer.says(&wants(6)).await;
    assert_eq!(peer.fetched().await.1.parts.len(), 6);
    peer.says(&wants(7)).await;
    assert_eq!(peer.fails().await, (1, code::MALFORMED));
    let unknown = wire::Fetch {
        wants: vec![want(2)],
        ..fetch(2)
    };
    peer.says(&unknown).await;
    assert_eq!(peer.fails().await, (2, code::UNKNOWN));

    let find = |time, numbers: &[u32]| wire::Find {
        request: 3,
        stream: "telemetry".into(),
        time,
        numbers: numbers.to_vec(),
    };
    let place = |number, next| Place {
        number,
        first: 0,
        next,
    };
    for (asked, found) in [
        (find(0, &[]), vec![place(0, 0), place(1, 0)]),
        (find(2_001, &[1]), vec![place(1, 2)]),
        (find(9_999, &[1, 0]), vec![place(0, 3), place(1, 5)]),
    ] {
        peer.says(&asked).await;
        assert_eq!(peer.hears::<wire::Found>().await.places, found);
    }
    peer.says(&find(0, &[0, 1, 1])).await;
    assert_eq!(peer.fails().await, (3, code::MALFORMED));
    peer.says(&find(0, &[2])).await;
    assert_eq!(peer.fails().await, (3, code::UNKNOWN));

    let join = |group: &str, stream: &str| wire::Join {
        request: 4,
        group: group.into(),
        stream: stream.into(),
        member: "m".repeat(100),
        generation: None,
        wait_ms: 0,
    };
    let (longest, longer) = ("g".repeat(64), "g".repeat(65));
    for (asked, is_met) in [
        (join(&longest, "telemetry"), true),
        (join("g", &longest), true),
        (join(&longer, "telemetry"), false),
        (join("g", &longer), false),
        (join("", "telemetry"), false),
        (join("g", ""), false),
    ] {
        peer.says(&asked).await;
        match is_met {
            true => assert_eq!(peer.hears::<wire::Joined>().await.lease_ms, 15_000),
            false => assert_eq!(peer.fails().await, (4, code::MALFORMED), "{asked:?}"),
        }
    }
    // Another connection is told who has it, by as much of its name as names may have.
    let mut other = house.consumer().await;
    other.says(&join(&longest, "telemetry")).await;
    let held: wire::Failed = other.hears().await;
    assert_eq!((held.code, held.reason), (code::HELD, "m".repeat(64)));
    // Somebody else's connection ends, and it is still held.
    let mut passing = house.consumer().await;
    passing.leaves(&house, 2).await;
    other.says(&join(&longest, "telemetry")).await;
    assert_eq!(other.fails().await, (4, code::HELD));

    let commit = |generation, number| wire::Commit {
        request: 5,
        group: longest.clone(),
        stream: "telemetry".into(),
        generation,
        places: vec![place(number, 2)],
    };
    peer.says(&commit(1, 2)).await;
    assert_eq!(peer.fails().await, (5, code::UNKNOWN));
    peer.says(&commit(0, 1)).await;
    assert_eq!(peer.fails().await, (5, code::FENCED));
    peer.says(&commit(1, 1)).await;
    assert_eq!(peer.hears::<wire::Done>().await.request, 5);
    let groups = house.shared.status().groups;
    let of = groups
        .iter()
        .map(|g| (g.group.as_str(), g.lag, g.overtaken));
    assert_eq!(of.collect::<Vec<_>>(), [(longest.as_str(), 3, 0)]);
    // The lease goes with the connection.
    drop(peer);
    let wait = wire::Join {
        wait_ms: 10_000,
        ..join(&longest, "telemetry")
    };
    let began = Instant::now();
    other.says(&wait).await;
    assert_eq!(other.hears::<wire::Joined>().await.generation, 2);
    assert!(began.elapsed() < 10 * SECOND);
    house.stop().await;
}

#[tokio::test(start_paused = true)]
async fn sixteen_requests_of_a_connection_are_open_and_not_one_more() {
    let house = House::open().await;
    house.holds(0, 0..1, 200);
    let mut peer = house.consumer().await;
    for request in 0..18 {
        let fetch = wire::Fetch {
            wait_ms: 30_000,
            known: mark(0..1),
            ..fetch(request)
        };
        peer.says(&fetch).await;
    }
    assert_eq!(peer.fails().await, (16, code::BUSY));
    assert_eq!(peer.fails().await, (17, code::BUSY));
    let mut answered = Vec::new();
    for _ in 0..16 {
        answered.push(peer.fetched().await.0);
    }
    answered.sort_unstable();
    assert_eq!(answered, (0..16).collect::<Vec<_>>());
    peer.says(&fetch(18)).await;
    assert_eq!(peer.fetched().await.0, 18);
    house.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_consumer_of_another_version_is_told_so() {
    let house = House::open().await;
    for (min, max, is_met) in [
        (1, 1, true),
        (0, 1, true),
        (1, 9, true),
        (2, 9, false),
        (0, 0, false),
    ] {
        let mut peer = house.connect();
        peer.says(&open(min, max)).await;
        match is_met {
            true => assert_eq!(peer.hears::<wire::Opened>().await.chosen, 1),
            false => assert_eq!(peer.ended().await.0, bye::VERSION),
        }
    }
    house.stop().await;
}

/// A consumer that is silent for a minute and a half is taken for gone, but not while it waits for an answer; a ping is enough, and is answered.
#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_silent_is_taken_for_gone_unless_it_waits() {
    let house = House::open().await;
    house.holds(0, 0..1, 200);
    let mut peer = house.consumer().await;
    assert_eq!(house.shared.status().consumers, 1);
    assert!(peer.hears_nothing(89 * SECOND).await);
    for reply in [false, true] {
        peer.says(&wire::Ping { token: 3, reply }).await;
    }
    let pong = wire::Ping {
        token: 3,
        reply: true,
    };
    assert_eq!(peer.hears::<wire::Ping>().await, pong);
    for _ in 0..3 {
        let fetch = wire::Fetch {
            wait_ms: 60_000,
            known: mark(0..1),
            ..fetch(1)
        };
        peer.says(&fetch).await;
        peer.fetched().await;
    }
    let (code, after) = peer.ended().await;
    assert_eq!((code, after.as_secs()), (bye::BUSY, 30));
    house.consumer().await.leaves(&house, 0).await;
    house.stop().await;
}

/// Who has come and says nothing has five seconds, who has begun a message has half a minute for the rest of it.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_begun_and_not_ended_ends_the_connection() {
    let house = House::open().await;
    let began = Instant::now();
    let mut silent = house.connect();
    assert!(soon(silent.0.receive()).await.is_err());
    assert_eq!(began.elapsed().as_secs(), 5);
    assert_eq!(house.shared.status().broken, 1);

    let mut consumer = house.consumer().await;
    let mut gateway = house.gateway(&[]).await;
    let begun = [9, 0, 0, 0, kind::PING];
    for peer in [&mut consumer, &mut gateway] {
        peer.0.outgoing.extend_from_slice(&begun);
        peer.0.flush().await.unwrap();
    }
    let says = async {
        let began = Instant::now();
        // It goes on saying something, a byte at a time.
        for _ in 0..8 {
            tokio::time::sleep(5 * SECOND).await;
            consumer.0.outgoing.extend_from_slice(&[0]);
            if consumer.0.flush().await.is_err() {
                break;
            }
        }
        consumer.0.outgoing.clear();
        (consumer.ended().await.0, began.elapsed() >= 30 * SECOND)
    };
    let (said, (code, after)) = tokio::join!(says, gateway.ended_at_last());
    assert_eq!(said, (bye::BUSY, true));
    assert_eq!((code, after.as_secs()), (bye::BUSY, 30));
    house.stop().await;
}

impl House {
    /// A gateway that has said which logs it has, and been told where to go on.
    async fn gateway(&self, offers: &[Offer<'_>]) -> Peer {
        let mut peer = self.connect();
        peer.greets(offers).await;
        assert_eq!(peer.heard().await.kind, WELCOME);
        peer
    }
}

impl Peer {
    async fn greets(&mut self, offers: &[Offer<'_>]) {
        self.greets_as("gw-7", offers).await;
    }

    async fn greets_as(&mut self, identity: &str, offers: &[Offer<'_>]) {
        let intro = Intro {
            protocol_min: 1,
            protocol_max: 1,
            features: 0,
            identity,
            generation: 1,
            clock: Clock::default(),
            credential: &[],
        };
        let mut body = [0; 4096];
        let (len, _) = emit_hello(&intro, offers.iter().copied(), &mut body).unwrap();
        wire::emit_raw(&mut self.0.outgoing, kind::HELLO, &[&body[..len]]);
        self.0.flush().await.unwrap();
    }

    async fn tells(&mut self, said: &Said<'_>) {
        self.put(said);
        self.0.flush().await.unwrap();
    }

    fn put(&mut self, said: &Said<'_>) {
        let mut body = vec![0; 128 << 10];
        let len = said.emit(&mut body).unwrap();
        wire::emit_raw(&mut self.0.outgoing, said.kind(), &[&body[..len]]);
    }

    /// As [`Peer::ended`], where the hub may ask meanwhile whether somebody is there.
    async fn ended_at_last(&mut self) -> (u16, Duration) {
        let began = Instant::now();
        loop {
            let heard = self.heard().await;
            if heard.kind == kind::BYE {
                let bye: wire::Bye = wire::parse(&heard.body).unwrap();
                return (bye.code, began.elapsed());
            }
        }
    }

    /// Where the hub wants a log that was offered beside the greeting to go on.
    async fn resumes(&mut self) -> Option<u64> {
        loop {
            let heard = self.heard().await;
            match Said::parse(heard.kind, &heard.body) {
                Ok(Said::Answer(answer)) => match answer.verdict {
                    Verdict::Resume { next, .. } => return Some(next.get()),
                    _ => return None,
                },
                _ => assert_ne!(heard.kind, kind::BYE),
            }
        }
    }
}

fn offer(slot: u16, log: u8, chain: u16) -> Offer<'static> {
    Offer {
        slot,
        log: LogId::new([log; 16]),
        stream: "telemetry",
        partition: 0,
        oldest: Offset::ZERO,
        next: Offset::new(10),
        tail_crc: None,
        closed: false,
        chain,
    }
}

/// In one session: the log was taken with the greeting, and what is offered later joins behind it; so does the same log again, and one of another chain.
#[tokio::test(start_paused = true)]
async fn a_log_that_is_offered_in_the_middle_of_a_session_joins_behind_what_was_taken() {
    let house = House::open().await;
    let mut peer = house.gateway(&[offer(0, 0xA, 0)]).await;
    let (again, behind) = (offer(0, 0xA, 0), offer(1, 0xB, 1));
    let elsewhere = Offer {
        partition: 1,
        ..offer(2, 0xC, 0)
    };
    for offered in [behind, elsewhere, again] {
        peer.tells(&Said::Offer(offered)).await;
        assert_eq!(peer.resumes().await, Some(0), "{offered:?}");
    }
    let chains = house.shared.registry.partitions(Some("telemetry"));
    let logs = chains.iter().map(|p| p.members().len());
    // The first log had ended when the second joined behind it, so it comes back in a further mirror.
    assert_eq!(logs.collect::<Vec<_>>(), [3, 1]);
    house.stop().await;
}

/// It stands in both runs of a partition whose first log is still being filled, and retention has overtaken it in another.
#[tokio::test(start_paused = true)]
async fn a_group_lags_in_each_run_by_what_it_has_not_read_there() {
    let house = House::open().await;
    let (catalog, registry) = (&house.shared.catalog, &house.shared.registry);
    let gateway = Name::new("gw-7").unwrap();
    let log = |log, closed| registry::Offer {
        log: LogId::new([log; 16]),
        stream: "telemetry".into(),
        partition: 0,
        next: Offset::new(10),
        closed,
        oldest: Offset::ZERO,
        tail_crc: None,
    };
    for (offer, frames) in [(log(0xA, true), 4), (log(0xB, false), 3)] {
        let admitted = registry.admit(catalog, &gateway, &offer, &[]).unwrap();
        for first in 0..frames {
            let frame = frame(offer.log, first, 200);
            admitted.member.mirror.append(&frame).unwrap();
        }
    }
    house.holds(1, 0..10, 1_000 << 10);
    let tomorrow = Micros::new(sedge_store::system_clock()().get() + 86_400_000_000);
    let held = registry.partition("telemetry", 1).unwrap();
    held.members()[0].mirror.expire(tomorrow).unwrap();
    let earliest = held.earliest();
    assert!((1..10).contains(&earliest));
    let (generation, _) = catalog.join("billing", "telemetry").unwrap().unwrap();
    let at = |number, first, next| Place {
        number,
        first,
        next,
    };
    for (places, lag, overtaken) in [
        ([at(0, 0, 2), at(0, 10, 12)], 2 + 1, 0),
        ([at(0, 0, 4), at(0, 10, 10)], 3, 0),
        ([at(0, 0, 3), at(1, 0, earliest)], 1 + 3 + 10 - earliest, 0),
        ([at(0, 0, 4), at(1, 0, earliest - 1)], 3 + 11 - earliest, 1),
        ([at(2, 0, 0), at(1, 0, 10)], 3, 0),
    ] {
        let committed = catalog.commit("billing", "telemetry", generation, &places);
        assert!(committed.unwrap());
        let group = &house.shared.status().groups[0];
        assert_eq!((group.lag, group.overtaken), (lag, overtaken), "{places:?}");
    }
    let partitions = house.shared.status().partitions;
    let told = partitions
        .iter()
        .map(|p| (p.number, p.logs, p.earliest, p.end, p.lost));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [(0, 2, 0, 4, 0), (1, 1, earliest, 10, earliest)]
    );
    house.stop().await;
}

const WELCOME: u8 = 0x02;

/// Descriptors have run out, most likely: it does not try again and again at once.
#[tokio::test(start_paused = true)]
async fn a_hub_that_cannot_accept_rests_before_it_tries_again() {
    let began = Instant::now();
    not_accepted(&std::io::Error::other("too many open files")).await;
    assert!(began.elapsed() >= Duration::from_millis(100));
}

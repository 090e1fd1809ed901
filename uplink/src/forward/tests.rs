//! Stories of a forwarder at a hub whose every word the story says itself, in simulated time.

mod live_first;

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use sedge_core::custody::message::{
    Ack, Answer, Bye, Clock as Told, Message, Offer, Ping, Terms, Verdict, emit_welcome, feature,
    kind,
};
use sedge_core::{Cause, Gap, Micros, Offset};
use sedge_store::{Batch, Clock, NoOwner, Partition, PartitionOptions};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::net::tests::{Exchange, soon};
use crate::stream::Stream;
use crate::wire;

/// A forwarder that runs.
struct Gateway {
    handle: ForwardHandle,
    logs: watch::Sender<Vec<Log>>,
    events: mpsc::UnboundedReceiver<ForwardEvent>,
    stop: oneshot::Sender<()>,
    run: JoinHandle<()>,
}

impl Gateway {
    fn start(logs: Vec<Log>) -> Self {
        Self::start_as(options(), logs)
    }

    fn start_as(options: ForwardOptions, logs: Vec<Log>) -> Self {
        let (logs, seen) = watch::channel(logs);
        let (tell, events) = mpsc::unbounded_channel();
        let forwarder = Forwarder::new(options, seen, tell).unwrap();
        let handle = forwarder.handle();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = tokio::spawn(forwarder.run(async move { drop(stopped.await) }));
        Self {
            handle,
            logs,
            events,
            stop,
            run,
        }
    }

    fn is_in_time(&self) -> bool {
        self.handle.pulse().late() < SECOND
    }
}

pub(super) fn options() -> ForwardOptions {
    ForwardOptions {
        url: "sedge://hub.example:7443".into(),
        identity: "gw-7".into(),
        uplink: UPLINK,
        retry_max: 30 * SECOND,
        trust: None,
        limits: Limits::default(),
        time: Time::default(),
        live_first_after: None,
    }
}

/// A log with so many records, each in a frame of its own.
pub(super) async fn log_in(dir: &Path, count: usize) -> Log {
    log_made(dir, count, Duration::ZERO).await
}

/// As [`log_in`], with records that are so old.
async fn log_made(dir: &Path, count: usize, age: Duration) -> Log {
    let age = age.as_micros() as i64;
    let clock: Clock = Arc::new(move || Micros::new(system_clock()().get() - age));
    let options = PartitionOptions {
        capacity_bytes: 4 << 20,
        linger: Duration::ZERO,
        ..PartitionOptions::default()
    };
    let opened = Partition::open(dir, options, Box::new(NoOwner), clock);
    let log = Log {
        stream: "telemetry".into(),
        partition: 0,
        chain: 0,
        closed: false,
        may_be_passed: true,
        priority: Priority::Normal,
        handle: opened.unwrap().0.into(),
    };
    grow(&log, count).await;
    log
}

async fn grow(log: &Log, count: usize) {
    stage(log, count, b"a value").await;
}

async fn stage(log: &Log, count: usize, value: &[u8]) {
    stage_each(log, count, 1, value).await;
}

/// So many frames, of so many records `each`. The time stands still until they are durable.
pub(super) async fn stage_each(log: &Log, count: usize, each: usize, value: &[u8]) {
    let value = value.to_vec();
    let partition = log.handle.log().unwrap();
    let (mut producer, mut settled) = (partition.producer(), partition.settled());
    let runtime = tokio::runtime::Handle::current();
    let staging = sedge_store::world::blocking(move || {
        for _ in 0..count {
            let mut batch = Batch::new();
            for _ in 0..each {
                batch.push(|unit| unit.record(None, None, &[], &value), &[]);
            }
            // The writer's thread goes by the time of day: nothing is staged at the time of the story.
            let ticket = std::thread::scope(|scope| {
                let staged = scope.spawn(|| producer.stage(&batch).unwrap());
                staged.join().unwrap()
            });
            let is_durable = settled.wait_for(|settled| *settled >= ticket);
            runtime.block_on(is_durable).unwrap();
        }
    });
    staging.await.unwrap();
}

/// What a log says of itself in an offer.
#[derive(Debug, PartialEq)]
struct Offered {
    slot: u16,
    log: LogId,
    stream: String,
    partition: u16,
    chain: u16,
    oldest: u64,
    next: u64,
    tail_crc: Option<u32>,
    closed: bool,
}

impl Offered {
    fn of(offer: &Offer<'_>) -> Self {
        Self {
            slot: offer.slot,
            log: offer.log,
            stream: offer.stream.into(),
            partition: offer.partition,
            chain: offer.chain,
            oldest: offer.oldest.get(),
            next: offer.next.get(),
            tail_crc: offer.tail_crc,
            closed: offer.closed,
        }
    }
}

/// What a gateway said.
#[derive(Debug, PartialEq)]
enum Heard {
    Hello(u64, Vec<Offered>),
    Offer(Offered),
    /// Slot and first offset.
    Data(u16, u64),
    Gap(u16, Gap),
    Close(u16, u64),
    Report(wire::Report),
    Bye(Code),
}

/// The hub's end of a connection.
struct Desk(Stream);

impl Desk {
    async fn meet(exchange: &mut Exchange) -> (Self, u64, Vec<Offered>) {
        let mut desk = Self(exchange.connection().await);
        match desk.hears().await {
            Heard::Hello(generation, offers) => (desk, generation, offers),
            other => panic!("{other:?}"),
        }
    }

    /// What is said next; whoever asks whether the hub is there hears that it is.
    async fn hears(&mut self) -> Heard {
        loop {
            let heard = soon(self.0.receive()).await.unwrap();
            match Message::parse(heard.kind, &heard.body).unwrap() {
                Message::Hello(hello) => {
                    let offers = hello.logs.iter().map(|offer| Offered::of(&offer));
                    return Heard::Hello(hello.intro.generation, offers.collect());
                }
                Message::Offer(offer) => return Heard::Offer(Offered::of(&offer)),
                Message::Data(data) => return Heard::Data(data.slot, data.first.get()),
                Message::Gap(gap) => return Heard::Gap(gap.slot, gap.gap),
                Message::Close(close) => return Heard::Close(close.slot, close.end.get()),
                Message::Bye(bye) => return Heard::Bye(bye.code),
                Message::Ping(ping) if !ping.reply => {
                    let reply = Ping {
                        reply: true,
                        ..ping
                    };
                    self.says(&Message::Ping(reply)).await;
                }
                Message::Ping(_) => {}
                Message::Unknown(wire::kind::REPORT) => {
                    return Heard::Report(wire::parse_report(&heard.body).unwrap());
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Whether nothing more is said for so long than that somebody is there.
    async fn hears_nothing(&mut self, time: Duration) -> bool {
        timeout(time, self.hears()).await.is_err()
    }

    async fn says(&mut self, message: &Message<'_>) {
        let mut body = [0; 4096];
        let len = message.emit(&mut body).unwrap();
        wire::emit_raw(&mut self.0.outgoing, message.kind(), &[&body[..len]]);
        self.0.flush().await.unwrap();
    }

    /// Takes the logs from these offsets on, in the order of their slots.
    async fn welcomes(&mut self, generation: u64, verdicts: &[Verdict<'_>]) {
        self.welcomes_with(0, generation, verdicts).await;
    }

    async fn welcomes_with(&mut self, features: u32, generation: u64, verdicts: &[Verdict<'_>]) {
        let terms = Terms {
            chosen: 1,
            features,
            generation,
            clock: Told::default(),
            credit: CREDIT,
        };
        let answers = verdicts.iter().zip(0..);
        let answers = answers.map(|(verdict, slot)| Answer {
            slot,
            verdict: *verdict,
        });
        let mut body = [0; 4096];
        let (len, _) = emit_welcome(&terms, answers, &mut body).unwrap();
        wire::emit_raw(&mut self.0.outgoing, kind::WELCOME, &[&body[..len]]);
        self.0.flush().await.unwrap();
    }

    async fn acks(&mut self, slot: u16, next: u64, ended: bool) {
        let (next, credit) = (Offset::new(next), CREDIT);
        self.says(&Message::Ack(Ack {
            slot,
            next,
            credit,
            ended,
        }))
        .await;
    }

    async fn ends(mut self, code: Code) {
        let reason = "a reason";
        self.says(&Message::Bye(Bye { code, reason })).await;
    }
}

fn from(next: u64) -> Verdict<'static> {
    Verdict::Resume {
        next: Offset::new(next),
        crc_below: None,
    }
}

fn crc_below(log: &Log, next: u64) -> Option<u32> {
    log.handle.crc_below(Offset::new(next)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn logs_are_offered_in_the_order_of_their_chains_and_go_on_where_the_hub_stands() {
    let (mut exchange, dir) = (Exchange::open(), tempfile::tempdir().unwrap());
    let mut logs = Vec::new();
    for (at, (stream, partition, chain, closed)) in [
        ("b", 0, 0, false),
        ("a", 1, 1, false),
        ("a", 1, 0, true),
        ("a", 0, 0, false),
    ]
    .into_iter()
    .enumerate()
    {
        let log = log_in(&dir.path().join(at.to_string()), at + 2).await;
        logs.push(Log {
            stream: stream.into(),
            partition,
            chain,
            closed,
            ..log
        });
    }
    let gateway = Gateway::start(logs.clone());
    let (mut desk, generation, offers) = Desk::meet(&mut exchange).await;
    let told = [3, 2, 1, 0].into_iter().zip(0..).map(|(at, slot)| {
        let (log, next) = (&logs[at], at as u64 + 2);
        Offered {
            slot,
            log: log.handle.log_id(),
            stream: log.stream.clone(),
            partition: log.partition,
            chain: log.chain,
            oldest: 0,
            next,
            tail_crc: crc_below(log, next),
            closed: log.closed,
        }
    });
    assert_eq!(offers, told.collect::<Vec<_>>());
    desk.welcomes(generation, &[from(1), from(4), from(2), from(1)])
        .await;
    let mut said = Vec::new();
    for _ in 0..4 {
        said.push(match desk.hears().await {
            Heard::Data(slot, first) => (slot, first),
            Heard::Close(slot, end) => (slot, end),
            other => panic!("{other:?}"),
        });
    }
    said.sort_unstable();
    assert_eq!(said, [(0, 1), (1, 4), (2, 2), (3, 1)]);
    assert!(desk.hears_nothing(SECOND).await);
    assert_eq!(gateway.handle.sessions(), (1, true));
    gateway.stop.send(()).unwrap();
    assert_eq!(desk.hears().await, Heard::Bye(Code::SHUTTING_DOWN));
    soon(gateway.run).await.unwrap();
    tokio::time::advance(3_600 * SECOND).await;
    let late = gateway.handle.pulse().late();
    assert_eq!(late, Duration::ZERO, "one that was stopped owes no sign");
}

/// It grows while it is sent, is acknowledged bit by bit, and is closed.
#[tokio::test(start_paused = true)]
async fn a_log_is_sent_as_it_grows_and_told_to_be_drained_when_all_of_a_closed_one_arrived() {
    let (mut exchange, dir) = (Exchange::open(), tempfile::tempdir().unwrap());
    let log = log_in(&dir.path().join("log"), 3).await;
    let mut gateway = Gateway::start(vec![log.clone()]);
    let (mut desk, generation, _) = Desk::meet(&mut exchange).await;
    desk.welcomes(generation, &[from(0)]).await;
    assert_eq!(desk.hears().await, Heard::Data(0, 0));
    desk.acks(0, 2, false).await;
    desk.acks(0, 3, false).await;
    grow(&log, 1).await;
    let began = Instant::now();
    assert_eq!(desk.hears().await, Heard::Data(0, 3));
    assert!(
        began.elapsed() < SECOND / 100,
        "it does not look now and then"
    );
    let status = gateway.handle.status();
    assert_eq!((status.acked_offsets, status.sessions), (3, 1));
    assert!(status.sent_bytes > 100);
    desk.acks(0, 4, false).await;

    let closed = Log {
        closed: true,
        ..log.clone()
    };
    gateway.logs.send_replace(vec![closed.clone()]);
    let Heard::Hello(again, offers) = desk.hears().await else {
        panic!("a change of the list begins the session anew")
    };
    assert_eq!(
        (offers.len(), offers[0].closed, offers[0].next),
        (1, true, 4)
    );
    desk.welcomes(again, &[from(4)]).await;
    assert_eq!(desk.hears().await, Heard::Close(0, 4));
    assert!(
        gateway.events.try_recv().is_err(),
        "it may not be there yet"
    );
    desk.acks(0, 4, true).await;
    let drained = ForwardEvent::Drained {
        log: log.handle.log_id(),
        uplink: UPLINK,
    };
    assert_eq!(soon(gateway.events.recv()).await, Some(drained));
    // The same list again is no change, and one without the log ends what is offered of it.
    gateway.logs.send_replace(vec![closed]);
    assert!(desk.hears_nothing(SECOND).await);
    gateway.logs.send_replace(Vec::new());
    assert!(matches!(desk.hears().await, Heard::Hello(_, offers) if offers.is_empty()));
    assert_eq!(gateway.handle.status().logs.len(), 0);
    assert!(gateway.is_in_time());
}

/// A mirror that is full is met again where it stood, before it is refused again: until something is acknowledged its operator is told that it is not taken.
#[tokio::test(start_paused = true)]
async fn a_log_is_told_as_refused_until_the_hub_has_taken_something_of_it() {
    let (mut exchange, dir) = (Exchange::open(), tempfile::tempdir().unwrap());
    let log = log_in(&dir.path().join("log"), 2).await;
    let gateway = Gateway::start(vec![log]);
    let refused = || gateway.handle.status().logs[0].refused.clone();
    let (mut desk, generation, _) = Desk::meet(&mut exchange).await;
    desk.welcomes(generation, &[from(0)]).await;
    assert_eq!(desk.hears().await, Heard::Data(0, 0));
    assert_eq!(refused(), None);
    let (code, reason) = (Code::DISK_FULL, "no room");
    let verdict = Verdict::Refused { code, reason };
    let answer = |verdict| Message::Answer(Answer { slot: 0, verdict });
    desk.says(&answer(verdict)).await;
    assert!(matches!(desk.hears().await, Heard::Offer(_)));
    assert_eq!(refused().as_deref(), Some("disk full"));
    desk.says(&answer(from(0))).await;
    assert_eq!(desk.hears().await, Heard::Data(0, 0));
    assert_eq!(refused().as_deref(), Some("disk full"));
    desk.acks(0, 2, false).await;
    assert!(desk.hears_nothing(SECOND).await);
    assert_eq!(refused(), None);
}

/// The hub has no room for it now. It is offered again a quarter of a minute later, as it is then.
#[tokio::test(start_paused = true)]
async fn a_log_that_is_refused_is_offered_again_after_a_while() {
    let (mut exchange, dir) = (Exchange::open(), tempfile::tempdir().unwrap());
    let log = log_in(&dir.path().join("log"), 2).await;
    let gateway = Gateway::start(vec![log.clone()]);
    let (mut desk, generation, _) = Desk::meet(&mut exchange).await;
    let refused = Verdict::Refused {
        code: Code::DISK_FULL,
        reason: "no room",
    };
    desk.welcomes(generation, &[refused]).await;
    assert!(desk.hears_nothing(14 * SECOND).await);
    assert!(gateway.handle.status().logs[0].refused.is_some());
    grow(&log, 1).await;
    for verdict in [refused, from(0)] {
        let began = Instant::now();
        let Heard::Offer(offer) = desk.hears().await else {
            panic!("it is offered again")
        };
        assert_eq!((offer.slot, offer.next), (0, 3));
        let waited = began.elapsed().as_secs();
        assert!(
            waited == if verdict == refused { 1 } else { 15 },
            "{waited}"
        );
        assert!(gateway.is_in_time());
        desk.says(&Message::Answer(Answer { slot: 0, verdict }))
            .await;
    }
    assert_eq!(desk.hears().await, Heard::Data(0, 0));
    assert_eq!(gateway.handle.status().logs[0].refused, None);
    desk.acks(0, 3, false).await;
    assert!(desk.hears_nothing(20 * SECOND).await, "and not again");
}

#[tokio::test(start_paused = true)]
async fn a_hub_with_another_history_is_sent_nothing_and_the_owner_is_told() {
    let (mut exchange, dir) = (Exchange::open(), tempfile::tempdir().unwrap());
    let log = log_in(&dir.path().join("log"), 3).await;
    let mut gateway = Gateway::start(vec![log.clone()]);
    let (mut desk, generation, _) = Desk::meet(&mut exchange).await;
    let stands = |crc_below| Verdict::Resume {
        next: Offset::new(2),
        crc_below,
    };
    let ours = crc_below(&log, 2);
    desk.welcomes(generation, &[stands(ours.map(|crc| crc ^ 1))])
        .await;
    let diverged = ForwardEvent::Diverged {
        log: log.handle.log_id(),
    };
    assert_eq!(soon(gateway.events.recv()).await, Some(diverged));
    assert!(desk.hears_nothing(SECOND).await);
    assert!(gateway.handle.status().logs[0].diverged);
    desk.ends(Code::SHUTTING_DOWN).await;
    let (mut desk, next, _) = Desk::meet(&mut exchange).await;
    assert_eq!(next, generation + 1);
    desk.welcomes(next, &[stands(ours)]).await;
    assert_eq!(desk.hears().await, Heard::Data(0, 2));
    assert!(!gateway.handle.status().logs[0].diverged);
}

/// The hub was put back, and the gateway has removed what it had before: it says how much there was. Or the hub has another history of it, and what it does not
/// have counts elsewhere.
#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_removed_log_is_told_as_a_gap() {
    left_of_a_log(false, (5, Cause::Corrupt)).await;
    left_of_a_log(true, (0, Cause::NewLog)).await;
}

async fn left_of_a_log(told: bool, counts: (u64, Cause)) {
    let mut exchange = Exchange::open();
    let (id, end) = (LogId::new([3; 16]), Offset::new(7));
    let dir = tempfile::tempdir().unwrap();
    let removed = Log {
        closed: true,
        handle: Handle::Removed { log: id, end, told },
        ..log_in(&dir.path().join("log"), 0).await
    };
    let gateway = Gateway::start(vec![removed]);
    let (mut desk, generation, offers) = Desk::meet(&mut exchange).await;
    assert_eq!((offers[0].oldest, offers[0].next), (7, 7));
    assert_eq!((offers[0].log, offers[0].tail_crc), (id, None));
    desk.welcomes(generation, &[from(2)]).await;
    let Heard::Gap(0, gap) = desk.hears().await else {
        panic!("it tells what is gone")
    };
    assert_eq!((gap.from.get(), gap.to), (2, end));
    assert_eq!((gap.lost, gap.cause), counts);
    assert_eq!(gateway.handle.status().logs.len(), 0, "there is none");
}

/// One of the frames has rotted on the disk: the hub is told that it is gone, and gets what stands behind it.
#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_is_told_as_a_gap_and_holds_up_none_behind_it() {
    let (mut exchange, dir) = (Exchange::open(), tempfile::tempdir().unwrap());
    let log = log_in(&dir.path().join("log"), 5).await;
    let file = dir.path().join("log/seg-00000.log");
    let mut bytes = std::fs::read(&file).unwrap();
    let values = bytes.windows(7).enumerate();
    let at = values.filter(|(_, value)| value == b"a value").nth(2);
    let (at, _) = at.unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let _gateway = Gateway::start(vec![log]);
    let (mut desk, generation, _) = Desk::meet(&mut exchange).await;
    desk.welcomes(generation, &[from(0)]).await;
    assert_eq!(desk.hears().await, Heard::Data(0, 0));
    let told = timeout(SECOND, desk.hears()).await;
    let Ok(Heard::Gap(0, gap)) = told else {
        panic!("it tells what is gone: {told:?}")
    };
    let told = (gap.from.get(), gap.to.get(), gap.lost, gap.cause);
    assert_eq!(told, (2, 3, 1, Cause::Corrupt));
    assert_eq!(desk.hears().await, Heard::Data(0, 3));
}

/// What is more urgent goes first, whichever was listed first.
#[tokio::test(start_paused = true)]
async fn the_more_urgent_log_is_sent_first() {
    let (mut exchange, dir) = (Exchange::open(), tempfile::tempdir().unwrap());
    let mut logs = Vec::new();
    for (partition, priority) in [Priority::Low, Priority::Normal, Priority::Urgent]
        .into_iter()
        .enumerate()
    {
        let log = log_in(&dir.path().join(partition.to_string()), 2).await;
        logs.push(Log {
            partition: partition as u16,
            priority,
            ..log
        });
    }
    let _gateway = Gateway::start(logs);
    let (mut desk, generation, _) = Desk::meet(&mut exchange).await;
    desk.welcomes(generation, &[from(0), from(0), from(0)])
        .await;
    for slot in [2, 1, 0] {
        assert_eq!(desk.hears().await, Heard::Data(slot, 0));
    }
}

/// How long a gateway stays away, by what ended the session and how often it happened.
#[tokio::test(start_paused = true)]
async fn a_gateway_comes_again_the_later_the_worse_it_went() {
    let mut exchange = Exchange::open();
    let gateway = Gateway::start(Vec::new());
    let mut waits = async |lives: Duration, code: Option<Code>| {
        let (mut desk, generation, _) = Desk::meet(&mut exchange).await;
        desk.welcomes(generation, &[]).await;
        assert!(desk.hears_nothing(lives).await);
        let ended = Instant::now();
        match code {
            Some(code) => desk.ends(code).await,
            None => drop(desk),
        }
        exchange.answers(true);
        let next = exchange.connection().await;
        let waited = ended.elapsed().as_millis();
        assert!(gateway.is_in_time());
        let said = gateway.handle.status().last_error.unwrap();
        let told = code.map_or("the peer closed the connection".into(), |code| {
            format!("{code}: a reason")
        });
        assert_eq!(said, told);
        // One that is not spoken to is another attempt that went badly.
        drop(next);
        waited
    };
    let within = |most: u128, waited| {
        assert!(
            (most / 2..=most + 1).contains(&waited),
            "{waited} of {most} ms"
        );
    };
    let moment = Duration::from_millis(10);
    // Two attempts at a time: each doubles the wait.
    within(250, waits(moment, None).await);
    within(1_000, waits(moment, None).await);
    within(4_000, waits(5 * SECOND, None).await);
    within(250, waits(5 * SECOND + moment, None).await);
    within(1_000, waits(moment, Some(Code::BUSY)).await);
    for code in [Code::VERSION, Code::IDENTITY, Code::NOT_ALLOWED] {
        assert_eq!(waits(6 * SECOND, Some(code)).await / 1_000, 30);
    }
    within(10_000, waits(moment, Some(Code::REPLACED)).await);
    within(20_000, waits(moment, Some(Code::REPLACED)).await);
    within(40_000, waits(300 * SECOND, Some(Code::REPLACED)).await);
    within(10_000, waits(301 * SECOND, Some(Code::REPLACED)).await);
    let status = gateway.handle.status();
    assert_eq!(status.replaced, 4);
}

/// A hub that takes the connection and says nothing, before it has welcomed the gateway or after; also when nobody is left who changes the list of logs.
#[tokio::test(start_paused = true)]
async fn a_hub_that_is_silent_is_left_after_half_a_minute() {
    let mut exchange = Exchange::open();
    let mut gateway = Gateway::start(Vec::new());
    for (is_welcome, has_owner) in [(false, true), (true, true), (true, false)] {
        let (mut desk, generation, _) = Desk::meet(&mut exchange).await;
        if !has_owner {
            gateway.logs = watch::channel(Vec::new()).0;
        }
        if is_welcome {
            desk.welcomes(generation, &[]).await;
        }
        let began = Instant::now();
        while soon(desk.0.receive()).await.is_ok() {}
        assert_eq!(began.elapsed().as_secs(), 30, "welcome: {is_welcome}");
        assert!(gateway.is_in_time());
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_nobody_changes_any_more_is_sent_all_the_same() {
    let (mut exchange, dir) = (Exchange::open(), tempfile::tempdir().unwrap());
    let mut gateway = Gateway::start(vec![log_in(&dir.path().join("log"), 1).await]);
    gateway.logs = watch::channel(Vec::new()).0;
    let (mut desk, generation, offers) = Desk::meet(&mut exchange).await;
    assert_eq!(offers.len(), 1);
    desk.welcomes(generation, &[from(0)]).await;
    assert_eq!(desk.hears().await, Heard::Data(0, 0));
}

/// As it is acknowledged, the oldest that is not is another one, and at last there is none.
#[tokio::test]
async fn a_status_tells_how_old_what_the_hub_lacks_is() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_in(&dir.path().join("log"), 3).await;
    let made = |offset| status::made_at(&log, Offset::new(offset)).unwrap().get();
    let partition = log.handle.log().unwrap();
    let unacked = |log: &LogStatus| (log.acked.get(), log.next.get(), log.oldest_unacked);
    let mut board = Board::new(&options());
    board.logs(std::slice::from_ref(&log));
    for (acked, oldest) in [
        (0, Some(made(0))),
        (2, Some(made(2))),
        (3, None),
        (1, Some(made(1))),
    ] {
        partition.set_cursor(UPLINK, Offset::new(acked));
        let is_set = || {
            let ledger = partition.ledger();
            ledger.cursor(UPLINK).is_some_and(|c| c.next.get() == acked)
        };
        while !is_set() {
            tokio::task::yield_now().await;
        }
        for _ in 0..2 {
            let status = board.status();
            assert_eq!(unacked(&status.logs[0]), (acked, 3, oldest));
            assert_eq!((status.lag(), status.oldest_unacked()), (3 - acked, oldest));
        }
    }
}

/// A hub that reads them gets the first report at once and others each half minute, or quarter of an hour where bytes count; one that does not gets none.
#[tokio::test(start_paused = true)]
async fn a_hub_that_reads_reports_is_told_how_the_gateway_is() {
    for (features, is_counted, every) in [
        (feature::REPORT, false, Some(30)),
        (feature::REPORT, true, Some(900)),
        (feature::PACKED, false, None),
    ] {
        let (mut exchange, dir) = (Exchange::open(), tempfile::tempdir().unwrap());
        let log = log_in(&dir.path().join("log"), 3).await;
        let mut options = options();
        options.limits.day_bytes = is_counted.then_some(1 << 20);
        let _gateway = Gateway::start_as(options, vec![log.clone()]);
        let (mut desk, generation, _) = Desk::meet(&mut exchange).await;
        desk.welcomes_with(features, generation, &[from(1)]).await;
        let mut heard = Vec::new();
        let began = Instant::now();
        while began.elapsed() < 2_000 * SECOND {
            let next = timeout(2_000 * SECOND, desk.hears()).await;
            match next {
                Ok(Heard::Report(report)) => heard.push((began.elapsed().as_secs(), report)),
                Ok(Heard::Data(..)) => desk.acks(0, 3, false).await,
                Ok(other) => panic!("{other:?}"),
                Err(_) => break,
            }
        }
        heard.retain(|(at, _)| *at < 2_000);
        let Some(every) = every else {
            assert_eq!(heard, []);
            continue;
        };
        for ((at, _), due) in heard.iter().zip((0..).map(|n| n * every)) {
            assert!((due..=due + 1).contains(at), "{at} s, due at {due}");
        }
        assert_eq!(heard.len() as u64, 1 + 1_999 / every);
        let first = &heard[0].1;
        let made = |offset| status::made_at(&log, Offset::new(offset)).unwrap().get();
        let of_log = &first.logs[0];
        assert_eq!((of_log.slot, of_log.acked, of_log.next), (0, 1, 3));
        assert_eq!(first.oldest_unacked_us, Some(made(1)));
        assert_eq!((first.lag, first.lost, &first.held), (2, 0, &None));
        assert!(first.waiting_bytes > 0 && first.waiting_bytes < first.capacity_bytes);
        let last = &heard.last().unwrap().1;
        assert_eq!(
            (last.lag, last.oldest_unacked_us, last.waiting_bytes),
            (0, None, 0)
        );
        assert!(last.uptime_s > 1_700);
    }
}

/// A link that breaks again and again does not cost a report each time, where bytes count.
#[tokio::test(start_paused = true)]
async fn where_bytes_count_a_session_soon_after_another_begins_without_a_report() {
    for is_counted in [false, true] {
        let mut exchange = Exchange::open();
        let mut options = options();
        options.limits.day_bytes = is_counted.then_some(1 << 20);
        let _gateway = Gateway::start_as(options, vec![]);
        for is_first in [true, false] {
            let (mut desk, generation, _) = Desk::meet(&mut exchange).await;
            desk.welcomes_with(feature::REPORT, generation, &[]).await;
            match is_first || !is_counted {
                true => assert!(matches!(desk.hears().await, Heard::Report(_))),
                false => assert!(desk.hears_nothing(25 * SECOND).await),
            }
            desk.ends(Code::SHUTTING_DOWN).await;
        }
    }
}

/// Its day is spent before the session has begun: what is urgent goes, and the rest when it is another day, which is seen within ten seconds.
#[tokio::test(start_paused = true)]
async fn when_a_day_is_spent_what_is_urgent_goes_and_the_rest_the_next_day() {
    let (mut exchange, dir) = (Exchange::open(), tempfile::tempdir().unwrap());
    let urgent = Log {
        partition: 1,
        priority: Priority::Urgent,
        ..log_in(&dir.path().join("1"), 2).await
    };
    let logs = vec![log_in(&dir.path().join("0"), 2).await, urgent.clone()];
    let days = Arc::new(AtomicI64::new(20_000));
    let told = Arc::clone(&days);
    let clock: Clock = Arc::new(move || Micros::new(told.load(Relaxed) * 86_400_000_000));
    let mut options = options();
    options.time = Time(Arc::new(clock));
    options.limits.day_bytes = Some(1);
    let gateway = Gateway::start_as(options, logs);
    let (mut desk, generation, _) = Desk::meet(&mut exchange).await;
    desk.welcomes(generation, &[from(0), from(0)]).await;
    assert_eq!(desk.hears().await, Heard::Data(1, 0));
    desk.acks(1, 2, false).await;
    assert!(desk.hears_nothing(20 * SECOND).await);
    let held = gateway.handle.status().held;
    assert_eq!(held.as_deref(), Some("what a day may cost is spent"));
    assert!(gateway.is_in_time());
    days.fetch_add(1, Relaxed);
    let began = Instant::now();
    assert_eq!(desk.hears().await, Heard::Data(0, 0));
    assert!(began.elapsed() <= 10 * SECOND);
}

/// Forty records of a kilobyte at ten kilobytes a second.
#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_to_while_a_backlog_is_sent() {
    let (mut exchange, dir) = (Exchange::open(), tempfile::tempdir().unwrap());
    let log = log_in(&dir.path().join("log"), 0).await;
    stage(&log, 40, &[b'v'; 1_000]).await;
    let mut options = options();
    options.limits.rate_bytes = Some(10_000);
    let gateway = Gateway::start_as(options, vec![log]);
    let (mut desk, generation, _) = Desk::meet(&mut exchange).await;
    let began = Instant::now();
    desk.welcomes(generation, &[from(0)]).await;
    let mut pieces = Vec::new();
    while pieces.last() != Some(&38) {
        let Heard::Data(0, first) = desk.hears().await else {
            panic!("records")
        };
        pieces.push(first);
        assert!(gateway.is_in_time());
    }
    let each_two: Vec<u64> = (0..20).map(|piece| 2 * piece).collect();
    assert_eq!(pieces, each_two, "a quarter of a second holds two");
    let seconds = began.elapsed().as_secs_f64();
    assert!((3.5..4.5).contains(&seconds), "{seconds} s");
    let sent = gateway.handle.status().sent_bytes as f64;
    assert!((seconds - sent / 10_000.0).abs() < 0.5, "{sent} bytes");
}

/// A hub from which no answer comes at all, not even that there is none.
#[tokio::test(start_paused = true)]
async fn an_attempt_to_connect_ends_after_ten_seconds_and_is_no_reason_to_worry() {
    let mut exchange = Exchange::open();
    exchange.swallows();
    let gateway = Gateway::start(Vec::new());
    for second in 0..60 {
        let is_in_time = gateway.is_in_time();
        assert!(is_in_time, "{second}");
        tokio::time::sleep(SECOND).await;
        let told = gateway.handle.status().last_error;
        assert_eq!(told.is_some(), second >= 10, "{second}: {told:?}");
    }
    assert!(exchange.attempts() > 3);
    exchange.answers(true);
    let (_desk, _, _) = Desk::meet(&mut exchange).await;
    assert_eq!(gateway.handle.sessions(), (0, false), "not welcome yet");
}

/// What a budget counts is what has moved on the wire, in both directions.
#[tokio::test(start_paused = true)]
async fn what_has_moved_is_counted_to_the_byte() {
    let (mut exchange, dir) = (Exchange::open(), tempfile::tempdir().unwrap());
    let log = log_in(&dir.path().join("log"), 9).await;
    let kept = dir.path().join("budget.toml");
    let mut options = options();
    options.limits = Limits {
        day_bytes: Some(1 << 30),
        kept: Some(kept.clone()),
        ..Limits::default()
    };
    let gateway = Gateway::start_as(options, vec![log]);
    let (mut desk, generation, _) = Desk::meet(&mut exchange).await;
    desk.welcomes(generation, &[from(3)]).await;
    assert_eq!(desk.hears().await, Heard::Data(0, 3));
    desk.acks(0, 9, false).await;
    assert!(desk.hears_nothing(25 * SECOND).await);
    let (received, sent) = desk.0.traffic();
    let status = gateway.handle.status();
    assert_eq!((status.sent_bytes, status.acked_offsets), (received, 6));
    drop(desk);
    let (_desk, _, _) = Desk::meet(&mut exchange).await;
    let kept = std::fs::read_to_string(kept).unwrap();
    let both = format!("day_bytes = {}", received + sent);
    assert!(kept.contains(&both), "{both}: {kept}");
}

const SECOND: Duration = Duration::from_secs(1);
const UPLINK: u32 = 9;
const CREDIT: u32 = 1 << 20;

//! Peers that break the rules, and two that say they are the same: nobody else is disturbed.

mod rig;

use std::net::SocketAddr;
use std::time::Duration;

use rig::{
    LIMIT, RunningForwarder, RunningHub, log, numbers, origin, pull_all, stage, stage_sized, until,
};
use sedge_core::custody::message::{
    Bye, Clock, Close, Code, Data, Intro, Message, Offer, Verdict, emit_hello, feature, kind,
};
use sedge_core::frame::{Form, Label, emit_data};
use sedge_core::{LogId, Micros, Offset};
use sedge_uplink::hub::{self, Hub, HubError, HubOptions, KafkaOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Sends `bytes` and gives back what the hub says until it closes.
async fn answer_to(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an end as good as any.
    drop(
        timeout(LIMIT, tcp.read_to_end(&mut answer))
            .await
            .expect("the hub closes the connection"),
    );
    answer
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32 + 1).to_le_bytes().to_vec();
    bytes.push(kind);
    bytes.extend_from_slice(body);
    bytes
}

/// The type and code of the last message.
fn bye(answer: &[u8]) -> Option<(u8, u8)> {
    Some((*answer.get(4)?, *answer.get(5)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_the_rules_ends_its_own_connection_with_a_reason() {
    let (dir, log_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let partition = origin(log_dir.path());
    let hub = RunningHub::start(dir.path()).await;
    let gateway = RunningForwarder::start(&hub.url(), "gw-7", vec![log(&partition)]);
    let length = |n: u32| [&n.to_le_bytes()[..], &[1]].concat();
    for (what, bytes, code) in [
        ("a gigabyte", length(1 << 30), 2),
        ("more than a greeting may have", length(65 * 1024 + 1), 2),
        ("no type", vec![0; 4], 1),
        ("neither Hello nor Open", message(0x24, &[1, 2, 3]), 1),
        ("a Hello of noise", message(0x01, &[0xFF; 100]), 1),
        ("an Open of noise", message(0x20, &[0xFF; 100]), 1),
        (
            "a version that does not exist",
            message(0x20, &[9, 9, 0, 0, 0]),
            3,
        ),
        ("web", b"GET / HTTP/1.1\r\n\r\n".to_vec(), 2),
    ] {
        assert_eq!(
            bye(&answer_to(hub.address, &bytes).await),
            Some((9, code)),
            "{what}"
        );
    }
    let open = message(0x20, &[1, 1, 0, 0, 0]);
    let fetch_of_noise = [&open[..], &message(0x24, &[0xFF; 40])].concat();
    let answer = answer_to(hub.address, &fetch_of_noise).await;
    assert_eq!(answer[4], 0x21, "Opened");
    assert_eq!(bye(&answer[4 + answer[0] as usize..]), Some((9, 1)));
    stage(&partition, 0..50, 5).await;
    gateway.drained().await;
    assert_eq!(
        gateway.handle.status().sessions,
        1,
        "the gateway was not disturbed"
    );
    assert_eq!(pull_all(&hub.url()).await, numbers(0..50));
}

/// What a gateway says that offers one log of ten offsets, and another behind its greeting.
fn gateway_says(messages: &[Message<'_>]) -> Vec<u8> {
    greeted(0, offer_at(0), messages)
}

fn greeted(features: u32, offer: Offer<'_>, messages: &[Message<'_>]) -> Vec<u8> {
    let intro = Intro {
        protocol_min: 1,
        protocol_max: 1,
        features,
        identity: "gw-raw",
        generation: 1,
        clock: Clock::default(),
        credential: &[],
    };
    let mut body = [0; 1024];
    let (len, _) = emit_hello(&intro, [offer].into_iter(), &mut body).unwrap();
    let mut said = message(kind::HELLO, &body[..len]);
    for next in messages {
        let len = next.emit(&mut body).unwrap();
        said.extend(message(next.kind(), &body[..len]));
    }
    said
}

fn offer_at(slot: u16) -> Offer<'static> {
    Offer {
        slot,
        log: LogId::new([7 + (slot % 100) as u8; 16]),
        stream: "telemetry",
        partition: slot % 1000,
        oldest: Offset::ZERO,
        next: Offset::new(10),
        tail_crc: None,
        closed: false,
        chain: 0,
    }
}

fn frame_at(first: u64) -> Vec<u8> {
    frame_of(first, &[0; 2])
}

/// With one entry.
fn frame_of(first: u64, entry: &[u8]) -> Vec<u8> {
    let label = Label {
        form: Form::Explicit,
        first: Offset::new(first),
        time: Micros::new(1),
        first_of_commit: true,
    };
    let mut bytes = vec![0; 64 + entry.len()];
    let len = emit_data(&mut bytes, &offer_at(0).log, label, 1, &[], entry).unwrap();
    bytes.truncate(len);
    bytes
}

/// The messages in what a hub said.
fn heard(mut answer: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut messages = Vec::new();
    while let Some((len, rest)) = answer.split_first_chunk::<4>()
        && let Some((now, later)) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)
    {
        messages.push((now[0], now[1..].to_vec()));
        answer = later;
    }
    messages
}

/// What is said of a log that is none, or no part of one, ends the conversation: more logs than a hub has places for, and frames behind the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_offers_too_much_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let hub = RunningHub::start(dir.path()).await;
    let end_of = |answer: Vec<u8>| heard(&answer).pop().map(|(kind, body)| (kind, body[0]));
    let places = 4096;
    let leave = Message::Bye(Bye {
        code: Code::SHUTTING_DOWN,
        reason: "",
    });
    let more = [Message::Offer(offer_at(places - 1)), leave];
    let answer = heard(&answer_to(hub.address, &gateway_says(&more)).await);
    assert!(
        answer.iter().any(|(kind, _)| *kind == kind::ANSWER),
        "{answer:?}"
    );
    let more = [Message::Offer(offer_at(places)), leave];
    let answer = answer_to(hub.address, &gateway_says(&more)).await;
    assert_eq!(end_of(answer), Some((kind::BYE, Code::TOO_LARGE.0 as u8)));

    let data = |first: u64, frames| {
        Message::Data(Data {
            slot: 0,
            first: Offset::new(first),
            base_time: Some(Micros::UNKNOWN),
            frames,
        })
    };
    let end = Offset::new(1);
    let (first, beyond) = (frame_at(0), frame_at(1));
    let closed = [data(0, &first), Message::Close(Close { slot: 0, end })];
    let mut tcp = TcpStream::connect(hub.address).await.unwrap();
    tcp.write_all(&gateway_says(&closed)).await.unwrap();
    let is_ended = |answer: &[u8]| {
        let told = heard(answer);
        told.iter()
            .any(|(kind, body)| match Message::parse(*kind, body) {
                Ok(Message::Ack(ack)) => ack.ended,
                _ => false,
            })
    };
    let mut answer = Vec::new();
    while !is_ended(&answer) {
        let read = timeout(LIMIT, tcp.read_buf(&mut answer)).await;
        assert_ne!(read.expect("an answer").unwrap(), 0, "{answer:?}");
    }
    // Its end is known, and here it goes on.
    let (next, mut body) = (data(1, &beyond), [0; 1024]);
    let len = next.emit(&mut body).unwrap();
    let beyond = message(next.kind(), &body[..len]);
    tcp.write_all(&beyond).await.unwrap();
    let read = timeout(LIMIT, tcp.read_to_end(&mut answer)).await;
    read.expect("the hub closes the connection").ok();
    assert_eq!(end_of(answer), Some((kind::BYE, Code::MALFORMED.0 as u8)));
}

/// A hub that gives credit for a single byte takes one message at a time of who keeps the rules. Who sends on without waiting is sent away before what it sent
/// takes any amount of memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_ignores_its_credit_is_sent_away_and_one_that_keeps_it_is_not() {
    let (dir, log_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = HubOptions {
        credit_bytes: 1,
        ..HubOptions::new(dir.path())
    };
    let hub = RunningHub::start_with(options, "127.0.0.1:0".parse().unwrap()).await;
    let partition = origin(log_dir.path());
    stage_sized(&partition, 0..6_000, 500, 500).await;
    let gateway = RunningForwarder::start(&hub.url(), "gw-7", vec![log(&partition)]);
    gateway.drained().await;
    assert_eq!(gateway.handle.status().sessions, 1);

    let tcp = TcpStream::connect(hub.address).await.unwrap();
    let (mut from_hub, mut to_hub) = tcp.into_split();
    let writing = tokio::spawn(async move {
        let offer = Offer {
            next: Offset::new(FLOOD),
            ..offer_at(0)
        };
        to_hub.write_all(&greeted(0, offer, &[])).await?;
        let mut body = vec![0; 1 << 20];
        for first in 0..FLOOD {
            let frames = frame_of(first, &vec![0; 900 << 10]);
            let data = Message::Data(Data {
                slot: 0,
                first: Offset::new(first),
                base_time: Some(Micros::UNKNOWN),
                frames: &frames,
            });
            let len = data.emit(&mut body).unwrap();
            to_hub
                .write_all(&message(data.kind(), &body[..len]))
                .await?;
        }
        to_hub.shutdown().await
    });
    let mut answer = Vec::new();
    // A reset is an end as good as any.
    let end = timeout(LIMIT, from_hub.read_to_end(&mut answer)).await;
    end.expect("the hub closes the connection").ok();
    writing.await.unwrap().ok();
    let last = heard(&answer).pop().map(|(kind, body)| (kind, body[0]));
    assert_eq!(last, Some((kind::BYE, Code::MALFORMED.0 as u8)));
    let mut pulled = pull_all(&hub.url()).await;
    pulled.retain(|word| word.parse::<u64>().is_ok());
    assert!(pulled == numbers(0..6_000), "what the other sent is there");
}

/// A greeting without room for all logs says so: of what it does not name nobody can say that it is gone, and its place is not filled with a gap.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_a_greeting_had_no_room_for_is_not_taken_for_gone() {
    let dir = tempfile::tempdir().unwrap();
    let hub = RunningHub::start(dir.path()).await;
    let leave = Message::Bye(Bye {
        code: Code::SHUTTING_DOWN,
        reason: "",
    });
    let old = Offer {
        closed: true,
        ..offer_at(0)
    };
    let new = Offer {
        partition: 0,
        chain: 1,
        ..offer_at(1)
    };
    answer_to(hub.address, &greeted(0, old, &[leave])).await;
    let behind = [Message::Offer(old), leave];
    let said = greeted(feature::MORE_FOLLOW, new, &behind);
    let answer = heard(&answer_to(hub.address, &said).await);
    let goes_on = answer
        .iter()
        .find_map(|(kind, body)| match Message::parse(*kind, body) {
            Ok(Message::Answer(answer)) => Some(answer.verdict),
            _ => None,
        });
    let Some(Verdict::Resume { next, .. }) = goes_on else {
        panic!("{answer:?}")
    };
    assert_eq!(next, Offset::ZERO, "all ten are still to come");
}

/// A second gateway takes the first one's name: the newer connection wins each time, and what both have arrives.
#[tokio::test(flavor = "multi_thread")]
async fn the_newer_of_two_connections_of_one_identity_wins() {
    let (dir, log_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hub = RunningHub::start(dir.path()).await;
    let partition = origin(log_dir.path());
    let first = RunningForwarder::start(&hub.url(), "gw-7", vec![log(&partition)]);
    stage(&partition, 0..10, 5).await;
    first.drained().await;
    let second = RunningForwarder::start(&hub.url(), "gw-7", vec![log(&partition)]);
    until("the first is told", || async {
        (first.handle.status().replaced == 1).then_some(())
    })
    .await;
    stage(&partition, 10..20, 5).await;
    second.drained().await;
    assert_eq!(hub.handle.status().replaced, 1);
    first.kill().await;
    assert_eq!(pull_all(&hub.url()).await, numbers(0..20));
}

/// Two processes call themselves gw-7 and take the seat from each other. The third time the hub says so, the one that was thrown out knows
/// who has its name and does not come back at once, and what both bring still arrives.
#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_of_one_name_are_found_out_and_told() {
    let (dir, log_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hub = RunningHub::start(dir.path()).await;
    let partition = origin(log_dir.path());
    let start = || RunningForwarder::start(&hub.url(), "gw-7", vec![log(&partition)]);
    let in_use = || hub.handle.status().identities[0].in_use;
    let mut holder = start();
    stage(&partition, 0..10, 5).await;
    holder.drained().await;
    for time in 1..=3 {
        let newer = start();
        let told = until("the older is told", || async {
            let status = holder.handle.status();
            (status.replaced == 1)
                .then_some(status.last_error)
                .flatten()
        })
        .await;
        newer.drained().await;
        let who = match time {
            3 => "replaced: identity in use by 127.0.0.1:",
            _ => "replaced: a newer connection of this gateway, from 127.0.0.1:",
        };
        assert!(told.starts_with(who), "{told}");
        assert_eq!(in_use(), time == 3);
        let older = std::mem::replace(&mut holder, newer);
        assert_eq!(older.handle.status().sessions, 1, "it does not fight");
        older.kill().await;
    }
    stage(&partition, 10..20, 5).await;
    holder.drained().await;
    assert_eq!(pull_all(&hub.url()).await, numbers(0..20));
}

/// One gateway loses its network again and again, while the hub takes the old connection for alive: nobody else has its name.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_comes_back_often_is_not_taken_for_two() {
    let (dir, log_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hub = RunningHub::start(dir.path()).await;
    let partition = origin(log_dir.path());
    let network = Network::to(hub.address).await;
    let gateway = RunningForwarder::start(&network.url(), "gw-7", vec![log(&partition)]);
    for cuts in 0..4_u64 {
        stage(&partition, cuts * 10..(cuts + 1) * 10, 5).await;
        gateway.drained().await;
        network.cut();
    }
    until("it is back", || async {
        (hub.handle.status().replaced == 4).then_some(())
    })
    .await;
    assert!(!hub.handle.status().identities[0].in_use);
    gateway.kill().await;
}

/// A wire that can be cut at the gateway's end only: the hub's end stays open and silent.
struct Network {
    address: SocketAddr,
    cut: sedge_store::watch::Sender<()>,
}

impl Network {
    async fn to(hub: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = sedge_store::watch::Sender::new(());
        let cuts = cut.clone();
        tokio::spawn(async move {
            let mut silent = Vec::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let mut far = TcpStream::connect(hub).await.unwrap();
                let mut cut = cuts.subscribe();
                let wire = tokio::spawn(async move {
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.changed() => {}
                    }
                    far
                });
                silent.push(wire);
            }
        });
        Self { address, cut }
    }

    fn url(&self) -> String {
        format!("sedge://{}", self.address)
    }

    fn cut(&self) {
        self.cut.send_replace(());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_too_many_is_refused_and_room_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let options = HubOptions {
        connections_max: 2,
        ..HubOptions::new(dir.path())
    };
    let hub = RunningHub::start_with(options, "127.0.0.1:0".parse().unwrap()).await;
    let url = hub.url();
    let connect = || sedge_uplink::client::Client::connect(&url, "test");
    let served = [connect().await.unwrap(), connect().await.unwrap()];
    // One that has said nothing yet takes no room.
    let _silent = TcpStream::connect(hub.address).await.unwrap();
    let open = message(0x20, &[1, 1, 0, 0, 0]);
    assert_eq!(bye(&answer_to(hub.address, &open).await), Some((9, 6)));
    drop(served);
    until("there is room", || async {
        sedge_uplink::client::Client::connect(&hub.url(), "test")
            .await
            .ok()
    })
    .await;
}

#[tokio::test]
async fn a_hub_that_could_be_reached_from_elsewhere_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::open(HubOptions::new(dir.path())).await.unwrap();
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let gate = hub.handle().http_gate(&listener);
    assert!(matches!(gate, Err(HubError::NotLoopback { .. })));
    let door = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let door = hub.handle().kafka(door, KafkaOptions::default());
    assert!(matches!(door, Err(HubError::NotLoopback { .. })));
    let refused = timeout(
        Duration::from_secs(5),
        hub.run(listener, std::future::pending()),
    )
    .await
    .unwrap();
    assert!(
        matches!(refused, Err(HubError::NotLoopback { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_second_hub_on_one_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = Hub::open(HubOptions::new(dir.path())).await.unwrap();
    let second = Hub::open(HubOptions::new(dir.path())).await;
    assert!(matches!(second, Err(HubError::DataDir(_))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = HubOptions::new(dir.path());
    let third = hub::run(listener, options, std::future::pending()).await;
    assert!(matches!(third, Err(HubError::DataDir(_))));
    drop(first);
}

/// Messages of almost the largest size, one after the other.
const FLOOD: u64 = 100;

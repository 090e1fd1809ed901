//! Stories over real sockets and real logs.

use std::time::Duration;

use bytes::BytesMut;
use proptest::prelude::*;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;
use sedge_config::checked::MqttListen;
use sedge_config::{Name, Template};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::serve;
use crate::source::yard::{RECORD_BYTES_MAX, Yard, eventually};

/// A listener and the yard that it works for.
pub(super) struct Story {
    pub(super) yard: Yard,
    pub(super) address: std::net::SocketAddr,
    server: JoinHandle<()>,
}

impl Story {
    async fn begin() -> Self {
        Self::on(Yard::new(), config()).await
    }

    pub(super) async fn on(yard: Yard, config: MqttListen) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("an address");
        let serving = serve(
            socket,
            config,
            yard.ingest.clone(),
            yard.telemetry.clone(),
            yard.shutdown(),
        );
        Self {
            yard,
            address,
            server: tokio::spawn(serving),
        }
    }

    pub(super) async fn end(mut self) -> Yard {
        self.yard.stop();
        self.server.await.expect("no panic");
        self.yard
    }

    async fn socket(&self) -> Raw {
        Raw(TcpStream::connect(self.address).await.expect("a listener"))
    }

    /// A client of 3.1.1 with a lasting session, and whether its session was there.
    async fn client(&self, name: &str) -> (Raw, bool) {
        let mut client = self.socket().await;
        let mut connect = v4::Connect::new(name);
        connect.clean_session = false;
        let mut bytes = BytesMut::new();
        connect.write(&mut bytes).expect("a CONNECT");
        client.send(&bytes).await;
        let connack = client.receive(4).await;
        assert_eq!((connack[0], connack[3]), (0x20, 0));
        (client, connack[2] == 1)
    }
}

/// A client that says exactly what it is told to.
struct Raw(TcpStream);

impl Raw {
    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("an open connection");
    }

    async fn publish(&mut self, dup: bool, packet: u16, payload: &[u8]) {
        let mut publish = v4::Publish::new("sensors/a", rumqttc::QoS::AtLeastOnce, payload);
        (publish.pkid, publish.dup) = (packet, dup);
        let mut bytes = BytesMut::new();
        publish.write(&mut bytes).expect("a PUBLISH");
        self.send(&bytes).await;
    }

    async fn receive(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let read =
            tokio::time::timeout(Duration::from_secs(10), self.0.read_exact(&mut bytes)).await;
        read.expect("an answer in time").expect("an answer");
        bytes
    }

    async fn pubacks(&mut self, packets: impl IntoIterator<Item = u16>) {
        for packet in packets {
            let [high, low] = packet.to_be_bytes();
            assert_eq!(self.receive(4).await, [0x40, 2, high, low]);
        }
    }

    /// What comes until the listener closes the connection.
    async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read =
            tokio::time::timeout(Duration::from_secs(10), self.0.read_to_end(&mut bytes)).await;
        // A reset closes it as well.
        drop(read.expect("the end in time"));
        bytes
    }
}

pub(super) fn config() -> MqttListen {
    MqttListen {
        name: Name::new("direct").expect("a name"),
        stream: Name::new("telemetry").expect("a name"),
        listen: "127.0.0.1:0".parse().expect("an address"),
        key: Template::parse("{device}").expect("a template"),
        clients_max: 100,
        sessions_max: 100,
        session_expiry: Duration::from_secs(3600),
        inflight_max: 100,
        keep_alive_max: Duration::from_secs(600),
        certificate: None,
        client_ca: None,
        password_file: None,
    }
}

#[tokio::test]
async fn puback_means_that_the_record_is_in_the_log() {
    let story = Story::begin().await;
    let (mut client, _) = story.client("dev").await;
    for packet in 1..=50 {
        client
            .publish(false, packet, format!("v{packet}").as_bytes())
            .await;
    }
    client.pubacks(1..=50).await;
    let records = story.yard.records();
    assert_eq!(records.len(), 50);
    assert_eq!(
        (&*records[49].key, &*records[49].value),
        ("dev", &b"v50"[..])
    );
    assert_eq!(records[0].headers["topic"], "sensors/a");
    drop(client);
    story.end().await;
}

#[tokio::test]
async fn message_in_pieces_is_one_message() {
    let story = Story::begin().await;
    let (mut client, _) = story.client("dev").await;
    let payload = vec![b'x'; RECORD_BYTES_MAX as usize - 100];
    let mut publish = v4::Publish::new("t", rumqttc::QoS::AtLeastOnce, payload.clone());
    publish.pkid = 1;
    let mut bytes = BytesMut::new();
    publish.write(&mut bytes).expect("a PUBLISH");
    for piece in bytes.chunks(1000) {
        client.send(piece).await;
        tokio::task::yield_now().await;
    }
    client.pubacks([1]).await;
    assert_eq!(story.yard.records()[0].value, payload);
    story.end().await;
}

/// The connection breaks before the client has read its PUBACKs; it connects again and sends everything again with DUP.
#[tokio::test]
async fn redelivery_before_the_puback_is_not_stored_twice() {
    let story = Story::begin().await;
    let (mut client, resumed) = story.client("dev").await;
    assert!(!resumed);
    // A half sent packet at the end makes sure that nothing was acknowledged when the connection breaks.
    client.publish(false, 1, b"same").await;
    client.publish(false, 2, b"same").await;
    drop(client);
    eventually("the records are durable", || {
        story.yard.records().len() == 2
    })
    .await;
    let (mut client, resumed) = story.client("dev").await;
    assert!(resumed);
    client.publish(true, 1, b"same").await;
    client.publish(true, 2, b"same").await;
    client.publish(false, 3, b"new").await;
    client.pubacks([1, 2, 3]).await;
    let stored = story.yard.values();
    let known = story.yard.counts().duplicates as usize;
    assert_eq!(
        stored.len() + known,
        5,
        "each is stored or recognised: {stored:?}"
    );
    story.end().await;
}

#[tokio::test]
async fn dup_without_a_stored_first_is_stored() {
    let story = Story::begin().await;
    let (mut client, _) = story.client("dev").await;
    client.publish(false, 1, b"a").await;
    client.pubacks([1]).await;
    drop(client);
    let (mut client, resumed) = story.client("dev").await;
    assert!(resumed);
    client.publish(true, 1, b"a").await;
    client.publish(true, 2, b"b").await;
    client.pubacks([1, 2]).await;
    assert_eq!(
        story.yard.values(),
        ["a", "a", "b"],
        "the first was acknowledged: its packet id may be another publish"
    );
    story.end().await;
}

#[tokio::test]
async fn session_survives_the_agent_and_ends_with_a_clean_one() {
    let story = Story::begin().await;
    let (mut client, _) = story.client("dev").await;
    for packet in 1..=250 {
        client.publish(false, packet, b"same").await;
        client.pubacks([packet]).await;
    }
    drop(client);
    let story = Story::on(story.end().await.restarted(), config()).await;
    let (mut client, resumed) = story.client("dev").await;
    assert!(resumed);
    client.publish(true, 250, b"same").await;
    client.pubacks([250]).await;
    assert_eq!(
        story.yard.records().len(),
        250,
        "this client counts its packet ids up, so it is the same publish"
    );
    drop(client);
    let mut clean = story.socket().await;
    clean
        .send(b"\x10\x0F\x00\x04MQTT\x04\x02\x00\x3C\x00\x03dev")
        .await;
    assert_eq!(clean.receive(4).await, b"\x20\x02\x00\x00");
    drop(clean);
    let (_, resumed) = story.client("dev").await;
    assert!(!resumed);
    story.end().await;
}

#[tokio::test]
async fn second_connection_of_a_client_closes_the_first() {
    let story = Story::begin().await;
    let (mut first, _) = story.client("dev").await;
    let (mut second, resumed) = story.client("dev").await;
    assert!(resumed);
    assert_eq!(first.rest().await, b"");
    second.publish(false, 1, b"a").await;
    second.pubacks([1]).await;
    assert_eq!(story.yard.counts().incidents["taken-over"], 1);
    story.end().await;
}

#[tokio::test]
async fn too_many_clients_are_refused_and_the_others_go_on() {
    let story = Story::on(
        Yard::new(),
        MqttListen {
            clients_max: 1,
            ..config()
        },
    )
    .await;
    let (mut first, _) = story.client("a").await;
    let mut second = story.socket().await;
    second
        .send(b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x3C\x00\x01b")
        .await;
    assert_eq!(second.rest().await, b"\x20\x02\x00\x03");
    first.publish(false, 1, b"a").await;
    first.pubacks([1]).await;
    story.end().await;
}

/// Ten megabytes where 16 KiB are allowed: they pass by, the connection goes on, and what they began with is kept.
#[tokio::test]
async fn oversize_publish_becomes_a_dead_letter_and_is_answered_in_order() {
    let story = Story::on(Yard::with_memory(256 * 1024), config()).await;
    let (mut client, _) = story.client("dev").await;
    client.publish(false, 1, b"before").await;
    let payload: Vec<u8> = (0..10_000_000_u32).map(|at| at as u8).collect();
    client.publish(false, 2, &payload).await;
    client.publish(false, 3, b"after").await;
    client.pubacks([1, 2, 3]).await;
    assert_eq!(story.yard.values(), ["before", "after"]);
    let letters = story.yard.dead_letters();
    assert_eq!(letters.len(), 1);
    let headers = &letters[0].headers;
    assert_eq!(
        (&*headers["reason"], &*headers["length"], &*headers["topic"]),
        ("oversize", "10000000", "sensors/a")
    );
    assert_eq!(
        headers["crc32c"],
        format!("{:08x}", sedge_core::crc::crc32c(&payload))
    );
    assert_eq!(letters[0].value, payload[..4096]);
    story.end().await;
}

#[tokio::test]
async fn message_without_its_key_becomes_a_dead_letter() {
    let key = Template::parse("{/id}").expect("a template");
    let story = Story::on(Yard::new(), MqttListen { key, ..config() }).await;
    let (mut client, _) = story.client("dev").await;
    client.publish(false, 1, b"{\"id\":7}").await;
    client.publish(false, 2, b"no json").await;
    client.pubacks([1, 2]).await;
    assert_eq!(story.yard.records()[0].key, "7");
    assert_eq!(story.yard.dead_letters()[0].headers["reason"], "bad-key");
    assert_eq!(story.yard.counts().dropped["bad-key"], 1);
    story.end().await;
}

#[tokio::test]
async fn stop_acknowledges_what_was_taken_and_says_good_bye() {
    let story = Story::begin().await;
    let mut client = story.socket().await;
    let mut bytes = BytesMut::new();
    let connect = v5::Connect {
        keep_alive: 10,
        client_id: "dev".into(),
        clean_start: true,
        properties: None,
    };
    connect.write(&None, &None, &mut bytes).expect("a CONNECT");
    client.send(&bytes).await;
    let head = client.receive(2).await;
    client.receive(head[1].into()).await;
    client.send(b"\x32\x07\x00\x01t\x00\x05\x00x").await;
    eventually("it is taken", || story.yard.counts().accepted == 1).await;
    let yard = story.end().await;
    let rest = client.rest().await;
    assert_eq!(rest, b"\x40\x02\x00\x05\xE0\x01\x8B");
    assert_eq!(yard.values(), ["x"]);
}

#[tokio::test]
async fn malformed_bytes_end_only_their_connection() {
    let story = Story::begin().await;
    let (mut good, _) = story.client("good").await;
    for (bytes, label) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "protocol"),
        (b"\x10\xFF\xFF\xFF\xFF\x7F", "malformed"),
        (b"\x10\x04\x00\x04MQ", "malformed"),
        (b"\x10\xFF\xFF\xFF\x7F\x00\x04MQTT", "too-large"),
    ] {
        let mut bad = story.socket().await;
        bad.send(bytes).await;
        assert_eq!(bad.rest().await, b"");
        eventually(label, || story.yard.counts().incidents.contains_key(label)).await;
    }
    good.publish(false, 1, b"a").await;
    good.pubacks([1]).await;
    story.end().await;
}

/// Clients that send half packets and no more hold what there is at most, and what is left of it serves the others.
#[tokio::test]
async fn half_packets_never_hold_more_than_the_budget() {
    let story = Story::on(Yard::with_memory(300_000), config()).await;
    let (mut good, _) = story.client("good").await;
    let mut halves = Vec::new();
    for client in 0..20 {
        halves.push(story.client(&format!("half-{client}")).await.0);
    }
    let mut bytes = vec![0x32, 0x80 | 16, 0x80 | 100, 0, 0, 1, b't', 0, 1];
    bytes.resize(12_000, b'x');
    for half in &mut halves {
        half.send(&bytes).await;
        good.publish(false, 1, b"a").await;
        good.pubacks([1]).await;
        assert!(story.yard.ingest.budget().used() <= 300_000);
    }
    eventually("all halves are held", || {
        story.yard.ingest.budget().used() >= 200_000
    })
    .await;
    drop(halves);
    eventually("memory is given back", || {
        story.yard.ingest.budget().used() == 0
    })
    .await;
    story.end().await;
}

/// Real clients of both versions, as programs use them.
#[tokio::test]
async fn rumqttc_clients_publish_at_quality_1() {
    let story = Story::begin().await;
    let port = story.address.port();
    let (client, mut events) =
        rumqttc::AsyncClient::new(rumqttc::MqttOptions::new("v4", "127.0.0.1", port), 100);
    let (client5, mut events5) =
        rumqttc::v5::AsyncClient::new(rumqttc::v5::MqttOptions::new("v5", "127.0.0.1", port), 100);
    let drive = tokio::spawn(async move { while events.poll().await.is_ok() {} });
    let drive5 = tokio::spawn(async move { while events5.poll().await.is_ok() {} });
    for number in 0..300 {
        let value = format!("{number}");
        client
            .publish("a/4", rumqttc::QoS::AtLeastOnce, false, value.clone())
            .await
            .expect("queued");
        client5
            .publish(
                "a/5",
                rumqttc::v5::mqttbytes::QoS::AtLeastOnce,
                false,
                value,
            )
            .await
            .expect("queued");
    }
    eventually("all are settled", || story.yard.counts().settled == 600).await;
    let records = story.yard.records();
    for (device, topic) in [("v4", "a/4"), ("v5", "a/5")] {
        let values: Vec<_> = records.iter().filter(|seen| seen.key == device).collect();
        assert!(
            values
                .iter()
                .enumerate()
                .all(|(at, seen)| seen.value == at.to_string().as_bytes()),
            "in order"
        );
        assert!(values.iter().all(|seen| seen.headers["topic"] == topic));
    }
    drive.abort();
    drive5.abort();
    story.end().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is sent to the port, before a CONNECT or behind it: nothing panics, memory stays in bounds, others are served.
    #[test]
    fn arbitrary_bytes_harm_nobody(pieces in proptest::collection::vec(any::<Vec<u8>>(), 1..6), version in 0_usize..3) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let story = Story::on(Yard::with_memory(200_000), config()).await;
            let mut wild = story.socket().await;
            let hello = [&b""[..], b"\x10\x0F\x00\x04MQTT\x04\x02\x00\x3C\x00\x03dev", b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3C\x00\x00\x03dev"];
            wild.send(hello[version]).await;
            for piece in &pieces {
                // It may have been thrown out already.
                drop(wild.0.write_all(piece).await);
                assert!(story.yard.ingest.budget().used() <= 200_000);
            }
            let (mut good, _) = story.client("good").await;
            good.publish(false, 1, b"a").await;
            good.pubacks([1]).await;
            drop((wild, good));
            story.end().await;
        });
    }
}

//! What the source does with a broker's moods, on real logs.

use std::sync::Arc;
use std::time::Duration;

use sedge_config::checked;
use tokio::task::JoinHandle;

use super::fake_broker::FakeBroker;
use crate::source::yard::{RECORD_BYTES_MAX, Yard, eventually};

fn config(broker: &FakeBroker) -> checked::Mqtt {
    let text = format!(
        "[gateway]\nid = \"gw\"\ndata_dir = \"/tmp/none\"\n\
         [[source]]\ntype = \"mqtt\"\nname = \"plant\"\nurl = \"mqtt://127.0.0.1:{}\"\ntopics = [\"sensors/#\"]\nstream = \"telemetry\"\nkey = \"{{topic[1]}}\"\n\
         [[stream]]\nname = \"telemetry\"\n",
        broker.port()
    );
    let checked =
        sedge_config::agent::parse(&text, "agent.toml".as_ref(), None).expect("a configuration");
    match checked.sources.into_iter().next() {
        Some(checked::Source::Mqtt(config)) => config,
        other => panic!("an mqtt source, not {other:?}"),
    }
}

fn start(broker: &FakeBroker, yard: &Yard) -> JoinHandle<()> {
    tokio::spawn(super::run(
        config(broker),
        yard.ingest.clone(),
        Arc::clone(&yard.telemetry),
        yard.shutdown(),
    ))
}

/// The PUBACK of a delivery says that its record can be read back from the log.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_delivery_is_on_disk_with_key_and_topic() {
    let broker = FakeBroker::start().await;
    let mut yard = Yard::new();
    let source = start(&broker, &yard);
    let mut conversation = broker.accept_subscribed().await;
    conversation.publish(1, false, b"{\"t\":1}").await;
    assert_eq!(conversation.acknowledged().await, 1);
    let records = yard.records();
    assert_eq!(records.len(), 1);
    assert_eq!(
        (records[0].key.as_str(), &records[0].value[..]),
        ("boiler", &b"{\"t\":1}"[..])
    );
    assert_eq!(records[0].headers["topic"], "sensors/boiler/temp");
    yard.stop();
    source.await.expect("stopped");
}

/// The connection breaks after the commit and before the PUBACK was read: the broker sends again with DUP = 1 in the kept session, and there is one record.
#[tokio::test(flavor = "multi_thread")]
async fn redelivery_in_a_kept_session_is_acknowledged_and_not_stored_again() {
    let broker = FakeBroker::start().await;
    let mut yard = Yard::new();
    let source = start(&broker, &yard);
    let mut conversation = broker.accept_subscribed().await;
    for packet in 1..=200 {
        conversation.publish(packet, false, b"same").await;
        assert_eq!(conversation.acknowledged().await, packet);
    }
    drop(conversation);
    let mut conversation = broker.accept(true).await;
    conversation.publish(200, true, b"same").await;
    assert_eq!(conversation.acknowledged().await, 200);
    conversation.publish(201, false, b"same").await;
    assert_eq!(conversation.acknowledged().await, 201);
    assert_eq!(yard.values().len(), 201);
    assert_eq!(yard.counts().duplicates, 1);
    yard.stop();
    source.await.expect("stopped");
}

/// The connection breaks before the commit. The next one must not carry the PUBACK: there the packet id may stand for another message, and what
/// comes again is known because none ever left.
#[tokio::test(flavor = "multi_thread")]
async fn commit_after_the_end_of_its_connection_is_not_acknowledged_on_the_next() {
    let broker = FakeBroker::start().await;
    let mut yard = Yard::lingering(Duration::from_millis(500));
    let source = start(&broker, &yard);
    let mut conversation = broker.accept_subscribed().await;
    conversation.publish(7, false, b"same").await;
    eventually("it was taken", || yard.counts().accepted == 1).await;
    drop(conversation);
    let mut conversation = broker.accept(true).await;
    conversation.publish(7, true, b"same").await;
    assert_eq!(conversation.acknowledged().await, 7);
    conversation.publish(8, false, b"same").await;
    assert_eq!(conversation.acknowledged().await, 8);
    assert_eq!(yard.values(), ["same", "same"]);
    assert_eq!(yard.counts().duplicates, 1);
    yard.stop();
    source.await.expect("stopped");
}

/// The broker stops between a PUBACK and its reading it, early in the session: it could as well have read it and taken the packet id for the
/// next event. What may be news is stored.
#[tokio::test(flavor = "multi_thread")]
async fn redelivery_that_may_be_another_event_is_stored() {
    let broker = FakeBroker::start().await;
    let mut yard = Yard::new();
    let source = start(&broker, &yard);
    let mut conversation = broker.accept_subscribed().await;
    conversation.publish(1, false, b"same").await;
    assert_eq!(conversation.acknowledged().await, 1);
    drop(conversation);
    let mut conversation = broker.accept(true).await;
    conversation.publish(1, true, b"same").await;
    assert_eq!(conversation.acknowledged().await, 1);
    assert_eq!(yard.values(), ["same", "same"]);
    yard.stop();
    source.await.expect("stopped");
}

/// The broker was killed and goes on from what it had saved: it gives packet ids to new events that it had given before. The connection breaks
/// before they arrive, and they come with DUP = 1.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_broker_that_went_back_in_time_are_stored() {
    let broker = FakeBroker::start().await;
    let mut yard = Yard::new();
    let source = start(&broker, &yard);
    let mut conversation = broker.accept_subscribed().await;
    for packet in 1..=300 {
        conversation.publish(packet, false, b"same").await;
        assert_eq!(conversation.acknowledged().await, packet);
    }
    drop(conversation);
    drop(broker.accept(true).await);
    let mut conversation = broker.accept(true).await;
    for packet in 151..=153 {
        conversation.publish(packet, true, b"same").await;
        assert_eq!(conversation.acknowledged().await, packet);
    }
    assert_eq!(yard.values().len(), 303);
    assert_eq!(yard.counts().duplicates, 0);
    yard.stop();
    source.await.expect("stopped");
}

/// The broker lost its session: it sends with DUP = 0, nothing proves a repetition, and the same content is stored again.
#[tokio::test(flavor = "multi_thread")]
async fn content_alone_never_makes_a_duplicate() {
    let broker = FakeBroker::start().await;
    let mut yard = Yard::new();
    let source = start(&broker, &yard);
    let mut conversation = broker.accept_subscribed().await;
    conversation.publish(1, false, b"same").await;
    assert_eq!(conversation.acknowledged().await, 1);
    drop(conversation);
    let mut conversation = broker.accept_subscribed().await;
    conversation.publish(1, true, b"same").await;
    assert_eq!(conversation.acknowledged().await, 1);
    assert_eq!(yard.values(), ["same", "same"]);
    yard.stop();
    source.await.expect("stopped");
}

/// A message above `record_max` that still fits a packet is kept in part and answered at once; one that fits no packet is streamed away. Neither blocks what is behind it.
#[tokio::test(flavor = "multi_thread")]
async fn oversize_messages_become_dead_letters_and_block_nothing() {
    let broker = FakeBroker::start().await;
    let mut yard = Yard::new();
    let source = start(&broker, &yard);
    let mut conversation = broker.accept_subscribed().await;
    conversation
        .publish(1, false, &vec![b'x'; RECORD_BYTES_MAX as usize + 1])
        .await;
    assert_eq!(conversation.acknowledged().await, 1);
    conversation.publish(2, false, &vec![b'y'; 200_000]).await;
    drop(conversation);

    let mut escape = broker.accept(true).await;
    escape.publish(2, true, &vec![b'y'; 200_000]).await;
    assert_eq!(escape.acknowledged().await, 2);
    escape.hear().await;
    drop(escape);

    let mut conversation = broker.accept(true).await;
    conversation.publish(3, false, b"small").await;
    assert_eq!(conversation.acknowledged().await, 3);
    assert_eq!(yard.values(), ["small"]);
    let dead = yard.dead_letters();
    assert_eq!(dead.len(), 2);
    assert_eq!(
        (
            dead[1].headers["reason"].as_str(),
            dead[1].headers["length"].as_str()
        ),
        ("oversize", "200000")
    );
    assert_eq!(dead[1].value, [b'y'; 4096]);
    yard.stop();
    source.await.expect("stopped");
}

/// What `key = "{topic[1]}"` cannot make a key of is kept with the reason.
#[tokio::test(flavor = "multi_thread")]
async fn delivery_without_a_key_is_a_dead_letter() {
    let broker = FakeBroker::start().await;
    let mut yard = Yard::new();
    let source = start(&broker, &yard);
    let mut conversation = broker.accept_subscribed().await;
    conversation.publish_on("sensors", 1, b"1").await;
    assert_eq!(conversation.acknowledged().await, 1);
    assert_eq!(yard.dead_letters()[0].headers["reason"], "bad-key");
    yard.stop();
    source.await.expect("stopped");
}

/// No broker is a state, not an error: the source waits and takes the broker when it comes.
#[tokio::test(flavor = "multi_thread")]
async fn broker_that_comes_late_is_waited_for() {
    let broker = FakeBroker::start().await;
    let mut config = config(&broker);
    config.retry_max = Duration::from_millis(300);
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    config.broker.port = reserved.local_addr().expect("bound").port();
    drop(reserved);
    let yard = Yard::new();
    let (ingest, telemetry, shutdown) = (
        yard.ingest.clone(),
        Arc::clone(&yard.telemetry),
        yard.shutdown(),
    );
    let port = config.broker.port;
    tokio::spawn(super::run(config, ingest, telemetry, shutdown));
    eventually("an attempt was refused", || {
        yard.counts().incidents.contains_key("lost")
    })
    .await;
    let late = FakeBroker::on(port).await;
    let mut conversation = late.accept_subscribed().await;
    conversation.publish(1, false, b"at last").await;
    assert_eq!(conversation.acknowledged().await, 1);
}

//! One connection to a broker, MQTT 3.1.1 or 5, as a list of what arrived and a way to acknowledge it.
//!
//! rumqttc stands behind this door and nothing of it shows. Each connection gets an event loop and a request channel of its own, so an acknowledgement
//! can never reach a later connection, where its packet id may belong to another message, and no state of a failed connection (a collision, a pending
//! queue) lives on. The polling task does nothing but poll; whoever acknowledges does it from another task and never waits.
//! This file knows nothing of streams, partitions or commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{Transport, v5};
use sedge_uplink::trust::connect::Caller;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::way::Tunnel;
use crate::ingest::{Budget, Reserved};
use crate::telemetry;

/// Where the broker is and how to speak to it. Everything has been checked.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Host name or address.
    pub(super) host: String,
    /// TCP port.
    pub(super) port: u16,
    /// With what TLS is spoken, if it is.
    pub(super) tls: Option<Caller>,
    /// MQTT 5 instead of 3.1.1.
    pub version_5: bool,
    /// The same for the life of the gateway: the broker's session hangs on it.
    pub(super) client_id: String,
    /// User name and password.
    pub(super) credentials: Option<(String, String)>,
    /// Topic filters.
    pub(super) topics: Vec<String>,
    /// Quality of service of the subscriptions, 0 or 1.
    pub(super) qos: u8,
    /// Keep-alive.
    pub(super) keep_alive: Duration,
    /// Largest packet that is read into memory, in bytes.
    pub(super) packet_bytes_max: u32,
    /// Most publishes that a version 5 broker may have unacknowledged with us.
    pub(super) receive_maximum: u16,
    /// How long a version 5 broker keeps the session of an absent client.
    pub(super) session_expiry: Duration,
    /// For DNS, TCP, CONNECT and CONNACK together, and for each flush: rumqttc's 5 seconds never end well on a slow link.
    pub(super) connect_timeout: Duration,
}

/// What a connection tells.
#[derive(Debug)]
pub(super) enum Arrived {
    /// CONNACK. `resumed` is the broker's session-present flag.
    Connected {
        /// The broker kept our session.
        resumed: bool,
    },
    /// The subscriptions stand: SUBACK accepted every filter, or the broker's session has them.
    Subscribed,
    /// A PUBLISH.
    Delivery(Delivery),
}

/// One PUBLISH.
#[derive(Debug)]
pub(super) struct Delivery {
    /// Topic name as sent; not always UTF-8 when a broker is careless.
    pub(super) topic: Bytes,
    /// Payload.
    pub(super) payload: Bytes,
    /// The broker sends it again.
    pub(super) dup: bool,
    /// What to acknowledge; none for QoS 0.
    pub(super) packet_id: Option<u16>,
    /// What it holds of the memory budget.
    pub(super) reserved: Reserved,
}

/// Why a connection ended.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Lost {
    /// Network trouble, or the broker went away.
    #[error("{0}")]
    Gone(String),
    /// The broker said no to CONNECT.
    #[error("the broker refused the connection: {0}")]
    Refused(String),
    /// The broker said no to a subscription.
    #[error("the broker refused the subscription to {filter}: {reason}")]
    SubscriptionRefused {
        /// The filter.
        filter: String,
        /// The broker's code in words.
        reason: String,
    },
    /// A packet above [`Target::packet_bytes_max`]: it will come again on each connection until it is streamed away.
    #[error("a packet of {bytes} bytes is above the limit")]
    TooLarge {
        /// Remaining length of the packet.
        bytes: usize,
    },
}

/// One connection: what arrives, and the acknowledgements that belong to it.
pub(super) struct Connection {
    /// In the order of arrival; ends when the connection does.
    pub(super) arrivals: mpsc::Receiver<Arrived>,
    /// Acknowledges deliveries of this connection.
    pub(super) acks: Acks,
    /// What TLS goes through.
    tunnel: Option<Tunnel>,
    task: JoinHandle<Lost>,
}

/// Acknowledges deliveries of one connection. What is said after its end goes nowhere.
#[derive(Clone)]
pub(super) struct Acks {
    client: Client,
    /// PUBACKs that have been written since somebody asked.
    written: Arc<AtomicUsize>,
}

#[derive(Clone)]
enum Client {
    V4(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

impl Connection {
    /// Starts to connect. `subscribe` asks for the subscriptions even when the broker kept the session (the filters may have changed).
    ///
    /// # Errors
    /// When there is no place for the socket that TLS goes through.
    pub(super) fn start(
        target: &Target,
        subscribe: bool,
        budget: Budget,
        telemetry: Arc<telemetry::Source>,
    ) -> std::io::Result<Self> {
        let tunnel = match &target.tls {
            Some(_) => Some(Tunnel::open(target)?),
            None => None,
        };
        let entrance = tunnel.as_ref().map(Tunnel::entrance);
        let (sender, arrivals) = mpsc::channel(ARRIVALS_MAX);
        let written = Arc::new(AtomicUsize::new(0));
        let intake = Intake {
            sender,
            budget,
            telemetry,
            written: Arc::clone(&written),
        };
        if target.version_5 {
            let (client, event_loop) =
                v5::AsyncClient::new(options_v5(target, entrance), REQUESTS_MAX);
            let task = tokio::spawn(poll_v5(
                event_loop,
                client.clone(),
                Filters::of(target),
                subscribe,
                intake,
            ));
            Ok(Self {
                arrivals,
                tunnel,
                acks: Acks {
                    client: Client::V5(client),
                    written,
                },
                task,
            })
        } else {
            let (client, mut event_loop) =
                rumqttc::AsyncClient::new(options_v4(target, entrance), REQUESTS_MAX);
            let mut network = event_loop.network_options();
            network.set_connection_timeout(target.connect_timeout.as_secs().max(1));
            network.set_tcp_nodelay(true);
            event_loop.set_network_options(network);
            let task = tokio::spawn(poll_v4(
                event_loop,
                client.clone(),
                Filters::of(target),
                subscribe,
                intake,
            ));
            Ok(Self {
                arrivals,
                tunnel,
                acks: Acks {
                    client: Client::V4(client),
                    written,
                },
                task,
            })
        }
    }

    /// The reason of the end, once `arrivals` has ended.
    pub(super) async fn lost(&mut self) -> Lost {
        let reason = self.tunnel.as_ref().and_then(Tunnel::why);
        match (&mut self.task).await {
            // The event loop only knows that the tunnel has ended.
            Ok(Lost::Gone(gone)) => Lost::Gone(reason.unwrap_or(gone)),
            Ok(lost) => lost,
            Err(error) => Lost::Gone(format!("connection task: {error}")),
        }
    }

    /// Sends what is still to be acknowledged and DISCONNECT, and waits a little for it to leave.
    pub(super) async fn disconnect(mut self) {
        self.acks.disconnect();
        let grace = tokio::time::timeout(DISCONNECT_GRACE, async {
            while self.arrivals.recv().await.is_some() {}
            self.lost().await
        });
        if grace.await.is_err() {
            tracing::debug!("the broker did not take DISCONNECT in time");
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Acks {
    /// How many acknowledgements have been written since this was asked last, in the order in which they were asked for. The next one may be
    /// on its way.
    pub(super) fn written(&self) -> usize {
        self.written.swap(0, Relaxed)
    }

    /// PUBACK for `packet_id`. Never waits: the request channel holds more than there are packet ids.
    pub(super) fn acknowledge(&self, packet_id: u16) {
        let sent = match &self.client {
            Client::V4(client) => {
                let mut publish = rumqttc::Publish::new("", rumqttc::QoS::AtLeastOnce, Vec::new());
                publish.pkid = packet_id;
                client.try_ack(&publish).is_ok()
            }
            Client::V5(client) => {
                let mut publish = v5::mqttbytes::v5::Publish::new(
                    "",
                    v5::mqttbytes::QoS::AtLeastOnce,
                    Vec::new(),
                    None,
                );
                publish.pkid = packet_id;
                client.try_ack(&publish).is_ok()
            }
        };
        if !sent {
            tracing::trace!(packet_id, "acknowledgement after the end of its connection");
        }
    }

    fn disconnect(&self) {
        let asked = match &self.client {
            Client::V4(client) => client.try_disconnect().is_ok(),
            Client::V5(client) => client.try_disconnect().is_ok(),
        };
        if !asked {
            tracing::trace!("already disconnected");
        }
    }
}

/// The polling task's end of the hand-over.
struct Intake {
    sender: mpsc::Sender<Arrived>,
    budget: Budget,
    telemetry: Arc<telemetry::Source>,
    written: Arc<AtomicUsize>,
}

impl Intake {
    /// Hands over a PUBLISH. Over the budget a QoS 0 message is dropped (the broker keeps no copy and does not wait), a QoS 1 message
    /// stops the reading until earlier ones are settled. False when nobody listens any more.
    async fn delivery(
        &self,
        topic: Bytes,
        payload: Bytes,
        dup: bool,
        packet_id: Option<u16>,
    ) -> bool {
        let bytes = topic.len() + payload.len() + DELIVERY_OVERHEAD;
        let reserved = match packet_id {
            Some(_) => self.budget.reserve(bytes, bytes).await,
            None => match self.budget.try_reserve(bytes) {
                Some(reserved) => reserved,
                None => {
                    self.telemetry.dropped("qos0-overload", 1);
                    return true;
                }
            },
        };
        let delivery = Delivery {
            topic,
            payload,
            dup,
            packet_id,
            reserved,
        };
        self.sender.send(Arrived::Delivery(delivery)).await.is_ok()
    }

    /// rumqttc takes one request at a time, and tells of each when it has been written.
    fn acknowledgement_written(&self) {
        self.written.fetch_add(1, Relaxed);
    }

    async fn say(&self, arrived: Arrived) -> bool {
        self.sender.send(arrived).await.is_ok()
    }
}

/// What is asked of the broker.
struct Filters {
    topics: Vec<String>,
    qos: u8,
}

impl Filters {
    fn of(target: &Target) -> Self {
        Self {
            topics: target.topics.clone(),
            qos: target.qos,
        }
    }
}

async fn poll_v4(
    mut event_loop: rumqttc::EventLoop,
    client: rumqttc::AsyncClient,
    filters: Filters,
    subscribe: bool,
    intake: Intake,
) -> Lost {
    use rumqttc::{Event, Outgoing, Packet, QoS, SubscribeFilter, SubscribeReasonCode};
    loop {
        let packet = match event_loop.poll().await {
            Ok(Event::Incoming(packet)) => packet,
            Ok(Event::Outgoing(Outgoing::PubAck(_))) => {
                intake.acknowledgement_written();
                continue;
            }
            Ok(Event::Outgoing(_)) => continue,
            Err(error) => return lost_v4(error),
        };
        let listened = match packet {
            Packet::ConnAck(connack) => {
                let asked = subscribe || !connack.session_present;
                if asked {
                    let qos = if filters.qos == 0 {
                        QoS::AtMostOnce
                    } else {
                        QoS::AtLeastOnce
                    };
                    let filters = filters
                        .topics
                        .iter()
                        .map(|topic| SubscribeFilter::new(topic.clone(), qos));
                    if let Err(error) = client.try_subscribe_many(filters) {
                        return Lost::Gone(format!("subscribe: {error}"));
                    }
                }
                let connected = intake
                    .say(Arrived::Connected {
                        resumed: connack.session_present,
                    })
                    .await;
                connected && (asked || intake.say(Arrived::Subscribed).await)
            }
            Packet::SubAck(suback) => {
                let refused = suback
                    .return_codes
                    .iter()
                    .position(|code| *code == SubscribeReasonCode::Failure);
                if let Some(index) = refused {
                    return subscription_refused(&filters.topics, index, "code 0x80".to_owned());
                }
                intake.say(Arrived::Subscribed).await
            }
            Packet::Publish(publish) => {
                let packet_id = (publish.qos != QoS::AtMostOnce).then_some(publish.pkid);
                intake
                    .delivery(
                        Bytes::from(publish.topic),
                        publish.payload,
                        publish.dup,
                        packet_id,
                    )
                    .await
            }
            _ => true,
        };
        if !listened {
            return Lost::Gone("no longer wanted".to_owned());
        }
    }
}

async fn poll_v5(
    mut event_loop: v5::EventLoop,
    client: v5::AsyncClient,
    filters: Filters,
    subscribe: bool,
    intake: Intake,
) -> Lost {
    use rumqttc::Outgoing;
    use v5::mqttbytes::QoS;
    use v5::mqttbytes::v5::{Filter, Packet, SubscribeReasonCode};
    loop {
        let packet = match event_loop.poll().await {
            Ok(v5::Event::Incoming(packet)) => packet,
            Ok(v5::Event::Outgoing(Outgoing::PubAck(_))) => {
                intake.acknowledgement_written();
                continue;
            }
            Ok(v5::Event::Outgoing(_)) => continue,
            Err(error) => return lost_v5(error),
        };
        let listened = match packet {
            Packet::ConnAck(connack) => {
                let asked = subscribe || !connack.session_present;
                if asked {
                    let qos = if filters.qos == 0 {
                        QoS::AtMostOnce
                    } else {
                        QoS::AtLeastOnce
                    };
                    let filters = filters
                        .topics
                        .iter()
                        .map(|topic| Filter::new(topic.clone(), qos));
                    if let Err(error) = client.try_subscribe_many(filters) {
                        return Lost::Gone(format!("subscribe: {error}"));
                    }
                }
                let connected = intake
                    .say(Arrived::Connected {
                        resumed: connack.session_present,
                    })
                    .await;
                connected && (asked || intake.say(Arrived::Subscribed).await)
            }
            Packet::SubAck(suback) => {
                let refused = suback
                    .return_codes
                    .iter()
                    .enumerate()
                    .find(|(_, code)| !matches!(code, SubscribeReasonCode::Success(_)));
                if let Some((index, code)) = refused {
                    return subscription_refused(&filters.topics, index, format!("{code:?}"));
                }
                intake.say(Arrived::Subscribed).await
            }
            Packet::Publish(publish) => {
                let packet_id = (publish.qos != QoS::AtMostOnce).then_some(publish.pkid);
                intake
                    .delivery(publish.topic, publish.payload, publish.dup, packet_id)
                    .await
            }
            _ => true,
        };
        if !listened {
            return Lost::Gone("no longer wanted".to_owned());
        }
    }
}

/// `entrance` is the socket that leads to the broker instead of its own address.
fn options_v4(target: &Target, entrance: Option<String>) -> rumqttc::MqttOptions {
    let is_tunnel = entrance.is_some();
    let host = entrance.unwrap_or_else(|| target.host.clone());
    let mut options = rumqttc::MqttOptions::new(target.client_id.clone(), host, target.port);
    if is_tunnel {
        options.set_transport(Transport::Unix);
    }
    options
        .set_keep_alive(target.keep_alive)
        .set_clean_session(false)
        .set_manual_acks(true)
        .set_max_packet_size(target.packet_bytes_max as usize, OUTGOING_BYTES_MAX);
    if let Some((user, password)) = &target.credentials {
        options.set_credentials(user.clone(), password.clone());
    }
    options
}

fn options_v5(target: &Target, entrance: Option<String>) -> v5::MqttOptions {
    let is_tunnel = entrance.is_some();
    let host = entrance.unwrap_or_else(|| target.host.clone());
    let session_expiry_s = u32::try_from(target.session_expiry.as_secs()).unwrap_or(u32::MAX);
    let mut options = v5::MqttOptions::new(target.client_id.clone(), host, target.port);
    if is_tunnel {
        options.set_transport(Transport::Unix);
    }
    options
        .set_keep_alive(target.keep_alive)
        .set_clean_start(false)
        // Without an expiry interval a version 5 session ends with its connection.
        .set_session_expiry_interval(Some(session_expiry_s))
        .set_manual_acks(true)
        .set_receive_maximum(Some(target.receive_maximum))
        .set_max_packet_size(Some(target.packet_bytes_max))
        .set_connection_timeout(target.connect_timeout.as_secs().max(1));
    if let Some((user, password)) = &target.credentials {
        options.set_credentials(user.clone(), password.clone());
    }
    options
}

fn lost_v4(error: rumqttc::ConnectionError) -> Lost {
    use rumqttc::mqttbytes::Error::PayloadSizeLimitExceeded;
    use rumqttc::{ConnectionError, StateError};
    match error {
        ConnectionError::ConnectionRefused(code) => Lost::Refused(format!("{code:?}")),
        ConnectionError::MqttState(StateError::Deserialization(PayloadSizeLimitExceeded(
            bytes,
        ))) => Lost::TooLarge { bytes },
        other => Lost::Gone(other.to_string()),
    }
}

fn lost_v5(error: v5::ConnectionError) -> Lost {
    use v5::mqttbytes::Error::PayloadSizeLimitExceeded;
    use v5::{ConnectionError, StateError};
    match error {
        ConnectionError::ConnectionRefused(code)
        | ConnectionError::MqttState(StateError::ConnFail { reason: code }) => {
            Lost::Refused(format!("{code:?}"))
        }
        ConnectionError::MqttState(StateError::IncomingPacketTooLarge {
            pkt_size: bytes, ..
        }) => Lost::TooLarge { bytes },
        ConnectionError::MqttState(StateError::Deserialization(PayloadSizeLimitExceeded {
            pkt_size: bytes,
            ..
        })) => Lost::TooLarge { bytes },
        other => Lost::Gone(other.to_string()),
    }
}

fn subscription_refused(topics: &[String], index: usize, reason: String) -> Lost {
    let filter = topics
        .get(index)
        .cloned()
        .unwrap_or_else(|| format!("filter {index}"));
    Lost::SubscriptionRefused { filter, reason }
}

const DISCONNECT_GRACE: Duration = Duration::from_millis(500);
/// More than there are packet ids, so that acknowledging never waits for the polling task.
const REQUESTS_MAX: usize = 1 << 17;
/// Deliveries between the polling task and the intake; the memory budget bounds their bytes.
const ARRIVALS_MAX: usize = 1024;
/// We send CONNECT, SUBSCRIBE and acknowledgements only.
const OUTGOING_BYTES_MAX: usize = 1 << 20;
/// What a waiting delivery costs beside its bytes.
const DELIVERY_OVERHEAD: usize = 128;

#[cfg(test)]
mod tests {
    use sedge_uplink::trust::accept::{Acceptor, ServerFiles};

    use super::super::fake_broker::FakeBroker;
    use super::*;
    use crate::source::papers::Papers;
    use rumqttc::mqttbytes::v4::{Packet, SubscribeReasonCode};

    fn start(target: &Target, subscribe: bool) -> Connection {
        Connection::start(
            target,
            subscribe,
            Budget::new(12_000),
            telemetry::Telemetry::new().source("plant", "mqtt", "telemetry"),
        )
        .expect("a way to the broker")
    }

    /// A door with TLS before `broker`, and how it is reached.
    async fn behind_tls(broker: &FakeBroker, papers: &Papers, name: &str) -> Target {
        let door = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = door.local_addr().unwrap().port();
        let own = papers.certificate(name);
        let acceptor = Acceptor::new(ServerFiles {
            certificate: own.certificate,
            key: own.key,
            client_ca: None,
            client_required: false,
        });
        let (acceptor, behind) = (acceptor.unwrap(), broker.port());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = door.accept().await {
                if let Ok((mut there, _)) = acceptor.accept(tcp).await {
                    let mut here = tokio::net::TcpStream::connect(("127.0.0.1", behind))
                        .await
                        .unwrap();
                    drop(tokio::io::copy_bidirectional(&mut there, &mut here).await);
                }
            }
        });
        Target {
            host: "localhost".into(),
            port,
            tls: Some(papers.caller(None)),
            ..broker.target()
        }
    }

    #[tokio::test]
    async fn a_broker_behind_tls_is_spoken_to_like_any_other() {
        let (broker, papers) = (FakeBroker::start().await, Papers::new());
        let target = behind_tls(&broker, &papers, "localhost").await;
        let mut connection = start(&target, false);
        let mut conversation = broker.accept_subscribed().await;
        for packet in 1..=100 {
            conversation.publish(packet, false, b"one").await;
        }
        for packet in 1..=100 {
            assert_eq!(delivery(&mut connection).await.packet_id, Some(packet));
            connection.acks.acknowledge(packet);
        }
        for packet in 1..=100 {
            assert_eq!(conversation.acknowledged().await, packet);
        }
        drop(conversation);
        while connection.arrivals.recv().await.is_some() {}
        assert!(matches!(connection.lost().await, Lost::Gone(_)));
    }

    #[tokio::test]
    async fn a_broker_that_is_not_who_was_called_hears_nothing_and_the_reason_is_told() {
        let (broker, papers) = (FakeBroker::start().await, Papers::new());
        let other = behind_tls(&broker, &papers, "elsewhere").await;
        let plain = Target {
            port: broker.port(),
            ..other.clone()
        };
        for (target, expected) in [
            (
                other,
                "the peer's certificate is for another name than the one that was called",
            ),
            (plain, "the peer does not speak TLS"),
        ] {
            let mut connection = start(&target, false);
            let ended = async { while connection.arrivals.recv().await.is_some() {} };
            tokio::select! {
                () = ended => {}
                () = broker.say_nonsense() => {}
            }
            let Lost::Gone(why) = connection.lost().await else {
                panic!("it is gone")
            };
            assert!(why.contains(expected), "{why}");
        }
    }

    async fn delivery(connection: &mut Connection) -> Delivery {
        loop {
            match connection.arrivals.recv().await.expect("connected") {
                Arrived::Delivery(delivery) => return delivery,
                Arrived::Connected { .. } | Arrived::Subscribed => {}
            }
        }
    }

    /// The session persists, the filters are asked for with QoS 1, and nothing is acknowledged before somebody says so.
    #[tokio::test]
    async fn delivery_is_acknowledged_only_when_asked() {
        let broker = FakeBroker::start().await;
        let mut connection = start(&broker.target(), false);
        let mut conversation = broker.accept_subscribed().await;
        assert!(!conversation.clean_session);
        conversation.publish(7, false, b"one").await;
        conversation.publish(8, false, b"two").await;
        assert_eq!(delivery(&mut connection).await.payload, "one");
        let second = delivery(&mut connection).await;
        assert_eq!(
            (second.packet_id, &second.topic[..]),
            (Some(8), &b"sensors/boiler/temp"[..])
        );
        connection.acks.acknowledge(7);
        assert_eq!(conversation.acknowledged().await, 7);
    }

    /// After a reconnect packet id 7 may be another message: the old connection's acknowledgement must not reach it.
    #[tokio::test]
    async fn late_acknowledgement_does_not_reach_the_next_connection() {
        let broker = FakeBroker::start().await;
        let mut first = start(&broker.target(), false);
        let mut conversation = broker.accept_subscribed().await;
        conversation.publish(7, false, b"old").await;
        let old = delivery(&mut first).await;
        drop(conversation);
        while first.arrivals.recv().await.is_some() {}
        assert!(matches!(first.lost().await, Lost::Gone(_)));

        let mut second = start(&broker.target(), false);
        let mut conversation = broker.accept(true).await;
        conversation.publish(7, false, b"new").await;
        assert_eq!(delivery(&mut second).await.payload, "new");
        first.acks.acknowledge(old.packet_id.expect("QoS 1"));
        second.acks.acknowledge(99);
        assert_eq!(conversation.acknowledged().await, 99);
    }

    /// What waits to be written when the connection ends never leaves, and that can be known.
    #[tokio::test]
    async fn only_what_was_written_counts_as_written() {
        let broker = FakeBroker::start().await;
        let mut connection = start(&broker.target(), false);
        let mut conversation = broker.accept_subscribed().await;
        conversation.publish(7, false, b"one").await;
        conversation.publish(8, false, b"two").await;
        delivery(&mut connection).await;
        delivery(&mut connection).await;
        connection.acks.acknowledge(7);
        assert_eq!(conversation.acknowledged().await, 7);
        drop(conversation);
        while connection.arrivals.recv().await.is_some() {}
        connection.lost().await;
        connection.acks.acknowledge(8);
        assert_eq!(connection.acks.written(), 1);
    }

    #[tokio::test]
    async fn refused_subscription_names_the_filter() {
        let broker = FakeBroker::start().await;
        let mut connection = start(&broker.target(), true);
        let mut conversation = broker.accept(true).await;
        let Packet::Subscribe(subscribe) = conversation.hear().await else {
            panic!("asked to subscribe anew")
        };
        conversation
            .grant(subscribe.pkid, SubscribeReasonCode::Failure)
            .await;
        while connection.arrivals.recv().await.is_some() {}
        assert_eq!(
            connection.lost().await.to_string(),
            "the broker refused the subscription to sensors/#: code 0x80"
        );
    }

    #[tokio::test]
    async fn oversize_packet_is_told_apart_from_a_broken_connection() {
        let broker = FakeBroker::start().await;
        let mut connection = start(&broker.target(), false);
        let mut conversation = broker.accept_subscribed().await;
        conversation.publish(1, false, &[b'x'; 20_000]).await;
        while connection.arrivals.recv().await.is_some() {}
        assert!(matches!(connection.lost().await, Lost::TooLarge { bytes } if bytes > 20_000));
    }

    /// A second delivery has no room until the first is dropped, whoever holds it.
    #[tokio::test]
    async fn memory_budget_stops_the_reading() {
        let broker = FakeBroker::start().await;
        let mut connection = start(&broker.target(), false);
        let mut conversation = broker.accept_subscribed().await;
        conversation.publish(1, false, &[b'a'; 10_000]).await;
        conversation.publish(2, false, &[b'b'; 10_000]).await;
        let first = delivery(&mut connection).await;
        assert!(connection.arrivals.is_empty());
        drop(first);
        assert_eq!(delivery(&mut connection).await.packet_id, Some(2));
    }
}

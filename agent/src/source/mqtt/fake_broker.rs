//! A broker on loopback that says what a test tells it to, one packet at a time, and shows what the client said.

use bytes::BytesMut;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    ConnAck, ConnectReturnCode, Packet, Publish, SubAck, SubscribeReasonCode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::broker::Target;

pub(super) struct FakeBroker {
    listener: TcpListener,
    port: u16,
}

/// One client's connection, after CONNECT.
pub(super) struct Conversation {
    stream: TcpStream,
    read: BytesMut,
    pub(super) clean_session: bool,
}

impl FakeBroker {
    pub(super) async fn start() -> Self {
        Self::on(0).await
    }

    pub(super) async fn on(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port))
            .await
            .expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        Self { listener, port }
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn target(&self) -> Target {
        Target {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            tls: None,
            version_5: false,
            client_id: "sedge-gw-plant".to_owned(),
            credentials: None,
            topics: vec!["sensors/#".to_owned()],
            qos: 1,
            keep_alive: std::time::Duration::from_secs(30),
            packet_bytes_max: 16 * 1024,
            receive_maximum: 100,
            session_expiry: std::time::Duration::from_secs(3600),
            connect_timeout: std::time::Duration::from_secs(10),
        }
    }

    /// Answers whoever comes with what is no MQTT and no TLS, for ever.
    pub(super) async fn say_nonsense(&self) {
        loop {
            let (mut stream, _) = self.listener.accept().await.expect("accept");
            // Who has gone already need not hear it.
            drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
        }
    }

    /// Waits for a client and answers its CONNECT.
    pub(super) async fn accept(&self, session_present: bool) -> Conversation {
        let (stream, _) = self.listener.accept().await.expect("accept");
        let mut conversation = Conversation {
            stream,
            read: BytesMut::new(),
            clean_session: true,
        };
        let Packet::Connect(connect) = conversation.hear().await else {
            panic!("the first packet is CONNECT")
        };
        conversation.clean_session = connect.clean_session;
        conversation
            .say(&Packet::ConnAck(ConnAck {
                session_present,
                code: ConnectReturnCode::Success,
            }))
            .await;
        conversation
    }

    /// As [`accept`](Self::accept), and grants the subscription that has to follow.
    pub(super) async fn accept_subscribed(&self) -> Conversation {
        let mut conversation = self.accept(false).await;
        let Packet::Subscribe(subscribe) = conversation.hear().await else {
            panic!("SUBSCRIBE follows a fresh session")
        };
        conversation
            .grant(
                subscribe.pkid,
                SubscribeReasonCode::Success(QoS::AtLeastOnce),
            )
            .await;
        conversation
    }
}

impl Conversation {
    pub(super) async fn grant(&mut self, packet_id: u16, code: SubscribeReasonCode) {
        self.say(&Packet::SubAck(SubAck {
            pkid: packet_id,
            return_codes: vec![code],
        }))
        .await;
    }

    pub(super) async fn publish(&mut self, packet_id: u16, dup: bool, payload: &[u8]) {
        let mut publish = Publish::new("sensors/boiler/temp", QoS::AtLeastOnce, payload);
        publish.pkid = packet_id;
        publish.dup = dup;
        self.say(&Packet::Publish(publish)).await;
    }

    pub(super) async fn publish_on(&mut self, topic: &str, packet_id: u16, payload: &[u8]) {
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload);
        publish.pkid = packet_id;
        self.say(&Packet::Publish(publish)).await;
    }

    pub(super) async fn say(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet
            .write(&mut bytes, usize::MAX)
            .expect("a packet that can be written");
        self.stream
            .write_all(&bytes)
            .await
            .expect("the client listens");
    }

    /// The client's next packet that is not a ping.
    pub(super) async fn hear(&mut self) -> Packet {
        loop {
            match Packet::read(&mut self.read, usize::MAX) {
                Ok(Packet::PingReq) => self.say(&Packet::PingResp).await,
                Ok(packet) => return packet,
                Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => {
                    let read = self
                        .stream
                        .read_buf(&mut self.read)
                        .await
                        .expect("the client talks");
                    assert!(read > 0, "the client left without a word");
                }
                Err(error) => panic!("the client sent nonsense: {error}"),
            }
        }
    }

    /// The packet id of the client's next packet, which is PUBACK.
    pub(super) async fn acknowledged(&mut self) -> u16 {
        match self.hear().await {
            Packet::PubAck(puback) => puback.pkid,
            other => panic!("PUBACK is due, not {other:?}"),
        }
    }
}

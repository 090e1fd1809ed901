//! The hub's door for Kafka's consumers, and a client whose every message is made and read by another implementation of the protocol.
#![allow(dead_code, missing_docs, reason = "each story uses a part of it")]

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, GroupId, RequestHeader, RequestKind, ResponseHeader, ResponseKind, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_protocol::records::{Record, RecordBatchDecoder};
use sedge_uplink::hub::{HubHandle, KafkaOptions};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::rig::LIMIT;

pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Door {
    pub(crate) async fn of(hub: &HubHandle) -> Self {
        Self::with(hub, KafkaOptions::default()).await
    }

    pub(crate) async fn with(hub: &HubHandle, options: KafkaOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let door = hub.kafka(listener, options).unwrap();
        let task = tokio::spawn(door.serve());
        Self { address, task }
    }

    pub(crate) async fn talk(&self) -> Talk<TcpStream> {
        Talk::on(TcpStream::connect(self.address).await.unwrap())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection.
pub(crate) struct Talk<S> {
    pub(crate) socket: S,
    correlation: i32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    pub(crate) fn on(socket: S) -> Self {
        Self {
            socket,
            correlation: 0,
        }
    }

    pub(crate) async fn send(&mut self, key: ApiKey, version: i16, request: &RequestKind) {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(text("a-test")));
        let mut body = BytesMut::new();
        header
            .encode(&mut body, key.request_header_version(version))
            .unwrap();
        request.encode(&mut body, version).unwrap();
        self.send_raw(&body).await;
    }

    pub(crate) async fn send_raw(&mut self, body: &[u8]) {
        let mut framed = (body.len() as i32).to_be_bytes().to_vec();
        framed.extend_from_slice(body);
        self.socket.write_all(&framed).await.unwrap();
    }

    /// The next answer, which is all of it; none when the connection is over.
    pub(crate) async fn receive(&mut self, key: ApiKey, version: i16) -> Option<ResponseKind> {
        let mut bytes = self.receive_raw().await?;
        let header =
            ResponseHeader::decode(&mut bytes, key.response_header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.correlation, "{key:?} {version}");
        let response = ResponseKind::decode(key, &mut bytes, version).unwrap();
        assert!(
            bytes.is_empty(),
            "{key:?} {version}: {bytes:?} is left of {response:?}"
        );
        Some(response)
    }

    pub(crate) async fn receive_raw(&mut self) -> Option<Bytes> {
        let read = async {
            let len = self.socket.read_i32().await.ok()?;
            let mut bytes = vec![0; usize::try_from(len).unwrap()];
            self.socket.read_exact(&mut bytes).await.ok()?;
            Some(bytes.into())
        };
        timeout(LIMIT, read).await.expect("an answer in time")
    }

    pub(crate) async fn ask(
        &mut self,
        key: ApiKey,
        version: i16,
        request: RequestKind,
    ) -> ResponseKind {
        self.send(key, version, &request).await;
        let answer = self.receive(key, version).await;
        answer.unwrap_or_else(|| panic!("{key:?} {version}: the connection ended"))
    }
}

pub(crate) fn text(of: &str) -> StrBytes {
    StrBytes::from_string(of.to_owned())
}

pub(crate) fn topic(of: &str) -> TopicName {
    TopicName(text(of))
}

pub(crate) fn group(of: &str) -> GroupId {
    GroupId(text(of))
}

/// What stands in batches.
pub(crate) fn records(batches: &Bytes) -> Vec<Record> {
    let mut rest = batches.clone();
    let sets = RecordBatchDecoder::decode_all(&mut rest).unwrap();
    sets.into_iter().flat_map(|set| set.records).collect()
}

pub(crate) fn values(records: &[Record]) -> Vec<String> {
    let value = |record: &Record| String::from_utf8_lossy(record.value.as_ref().unwrap()).into();
    records.iter().map(value).collect()
}

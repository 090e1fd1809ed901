//! Who may do what with a group over Kafka's protocol, where consumers may not read every stream.

mod door;
mod rig;
mod trusted;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use door::{Door, Talk, group, text, topic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::*;
use rig::{RunningForwarder, origin, stage};
use sedge_uplink::client::Access;
use sedge_uplink::trust::clock::LastGood;
use sedge_uplink::trust::connect::{Anchor, Caller};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use trusted::TrustedHub;

const GROUP_AUTHORIZATION_FAILED: i16 = 30;
const NOT_COORDINATED: i16 = 25;

/// A question, and the answer to it.
macro_rules! ask {
    ($talk:expr, $kind:ident, $version:expr, $request:expr) => {{
        let request = RequestKind::$kind($request);
        match $talk.ask(ApiKey::$kind, $version, request).await {
            ResponseKind::$kind(answer) => answer,
            other => panic!("{other:?}"),
        }
    }};
}

/// `telemetry` is for the consumer `dash`, `alarms` for the consumer `guard`; each has a group there, and both are members of nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_for_those_who_may_read_all_streams_that_it_has_read() {
    let hub = TrustedHub::start().await;
    let door = Door::of(&hub.hub.handle).await;
    let trust = hub.gateway("gw-7", &["*"]).await;
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let origins: Vec<_> = dirs.iter().map(|dir| origin(dir.path())).collect();
    let mut logs: Vec<_> = origins.iter().map(rig::log).collect();
    logs[1].stream = "alarms".into();
    let gateway = RunningForwarder::start_with(&hub.url(), "gw-7", logs, Some(trust));
    for origin in &origins {
        stage(origin, 0..10, 5).await;
    }
    gateway.drained().await;

    let mut dash = talk(&hub, &door, "dash", &["telemetry"]).await;
    let mut guard = talk(&hub, &door, "guard", &["alarms"]).await;
    let mut all = talk(&hub, &door, "all", &["*"]).await;
    for (talk, of, streams) in [
        (&mut dash, "of-dash", vec!["telemetry"]),
        (&mut guard, "of-guard", vec!["alarms"]),
        (&mut all, "of-both", vec!["telemetry", "alarms"]),
    ] {
        commit(talk, of, &streams).await;
    }

    assert_eq!(listed(&mut dash).await, set(&["of-dash"]));
    assert_eq!(listed(&mut guard).await, set(&["of-guard"]));
    let everything = set(&["of-dash", "of-guard", "of-both"]);
    assert_eq!(listed(&mut all).await, everything);

    for of in ["of-guard", "of-both"] {
        let code = GROUP_AUTHORIZATION_FAILED;
        assert_eq!(described(&mut dash, of).await, (code, String::new()));
        assert_eq!(joined(&mut dash, of).await, code);
        assert_eq!(left(&mut dash, of).await, code);
        assert_eq!(deleted(&mut dash, of).await, code);
    }
    assert_eq!(listed(&mut all).await, everything, "all are still there");

    let empty = (0, "Empty".to_owned());
    assert_eq!(described(&mut dash, "of-dash").await, empty);
    assert_eq!(left(&mut dash, "of-dash").await, NOT_COORDINATED);
    assert_eq!(joined(&mut dash, "of-dash").await, 0);
    assert_eq!(joined(&mut dash, "new").await, 0, "nobody's yet");
    assert_eq!(joined(&mut all, "of-both").await, 0);
    // Members do not make it visible either.
    assert_eq!(listed(&mut guard).await, set(&["of-guard", "new"]));
    assert_eq!(deleted(&mut guard, "of-guard").await, 0);
    assert_eq!(deleted(&mut dash, "of-guard").await, 69, "there is none");
    gateway.kill().await;
}

/// A hub has one place. Who shakes hands and does not say who it is does not take it.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_known_takes_nobodys_place() {
    let hub = TrustedHub::start_with(|options| options.connections_max = 1).await;
    let door = Door::of(&hub.hub.handle).await;
    let mut strangers = Vec::new();
    for _ in 0..3 {
        let mut stranger = meet(&hub, &door).await;
        ask!(stranger, ApiVersions, 3, ApiVersionsRequest::default());
        strangers.push(stranger);
    }
    let mut dash = talk(&hub, &door, "dash", &["*"]).await;
    assert_eq!(listed(&mut dash).await, set(&[]));
    // The place is taken now.
    let mut other = talk(&hub, &door, "other", &["*"]).await;
    let asked = RequestKind::ListGroups(ListGroupsRequest::default());
    other.send(ApiKey::ListGroups, 2, &asked).await;
    assert!(other.receive(ApiKey::ListGroups, 2).await.is_none());
    assert_eq!(listed(&mut dash).await, set(&[]));
}

async fn meet(hub: &TrustedHub, door: &Door) -> Talk<impl AsyncRead + AsyncWrite + Unpin + use<>> {
    let caller = Caller {
        anchor: Anchor::File(hub.trust().join("ca.pem")),
        certificate: None,
        clock: Arc::new(LastGood::in_memory()),
        tls12: false,
    };
    let tcp = TcpStream::connect(door.address).await.unwrap();
    Talk::on(caller.connect(tcp, "localhost").await.unwrap())
}

async fn talk(
    hub: &TrustedHub,
    door: &Door,
    name: &str,
    streams: &[&str],
) -> Talk<impl AsyncRead + AsyncWrite + Unpin + use<>> {
    let Access { token, .. } = hub.consumer(name, streams, None);
    let mut talk = meet(hub, door).await;
    let plain = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
    let plain = RequestKind::SaslHandshake(plain);
    talk.ask(ApiKey::SaslHandshake, 1, plain).await;
    let shown = format!("\0{name}\0{}", token.unwrap().reveal()).into();
    let shown = SaslAuthenticateRequest::default().with_auth_bytes(shown);
    let shown = RequestKind::SaslAuthenticate(shown);
    let answer = talk.ask(ApiKey::SaslAuthenticate, 1, shown).await;
    assert!(
        matches!(&answer, ResponseKind::SaslAuthenticate(answer) if answer.error_code == 0),
        "{answer:?}"
    );
    talk
}

async fn commit<S: AsyncRead + AsyncWrite + Unpin>(talk: &mut Talk<S>, of: &str, streams: &[&str]) {
    let topics = streams.iter().map(|stream| {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(5);
        OffsetCommitRequestTopic::default()
            .with_name(topic(stream))
            .with_partitions(vec![partition])
    });
    let asked = OffsetCommitRequest::default()
        .with_group_id(group(of))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(topics.collect());
    let answer = ask!(talk, OffsetCommit, 7, asked);
    let mut codes = answer.topics.iter().flat_map(|topic| &topic.partitions);
    assert!(codes.all(|of| of.error_code == 0), "{answer:?}");
}

async fn listed<S: AsyncRead + AsyncWrite + Unpin>(talk: &mut Talk<S>) -> BTreeSet<String> {
    let answer = ask!(talk, ListGroups, 2, ListGroupsRequest::default());
    let names = answer.groups.iter().map(|of| of.group_id.0.to_string());
    names.collect()
}

async fn described<S: AsyncRead + AsyncWrite + Unpin>(
    talk: &mut Talk<S>,
    of: &str,
) -> (i16, String) {
    let asked = DescribeGroupsRequest::default().with_groups(vec![group(of)]);
    let answer = ask!(talk, DescribeGroups, 2, asked);
    let of = &answer.groups[0];
    (of.error_code, of.group_state.to_string())
}

async fn joined<S: AsyncRead + AsyncWrite + Unpin>(talk: &mut Talk<S>, of: &str) -> i16 {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"subscription"));
    let asked = JoinGroupRequest::default()
        .with_group_id(group(of))
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    ask!(talk, JoinGroup, 2, asked).error_code
}

/// Another member is to leave it, known by its instance.
async fn left<S: AsyncRead + AsyncWrite + Unpin>(talk: &mut Talk<S>, of: &str) -> i16 {
    let member = MemberIdentity::default().with_group_instance_id(Some(text("seat-1")));
    let asked = LeaveGroupRequest::default()
        .with_group_id(group(of))
        .with_members(vec![member]);
    let answer = ask!(talk, LeaveGroup, 3, asked);
    answer.members[0].error_code
}

async fn deleted<S: AsyncRead + AsyncWrite + Unpin>(talk: &mut Talk<S>, of: &str) -> i16 {
    let asked = DeleteGroupsRequest::default().with_groups_names(vec![group(of)]);
    let answer = ask!(talk, DeleteGroups, 1, asked);
    answer.results[0].error_code
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

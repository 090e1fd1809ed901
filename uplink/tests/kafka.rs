//! Streams read over Kafka's protocol: each message of it in each version that is told of, what is fetched, and what is refused.

mod door;
mod rig;
mod trusted;

use std::time::Duration;

use bytes::Bytes;
use door::{Door, Talk, group, records, text, topic, values};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use rig::{LIMIT, RunningForwarder, RunningHub, numbers, origin, stage, stage_sized, until};
use sedge_uplink::forward::Log;
use sedge_uplink::hub::KafkaOptions;
use sedge_uplink::trust::clock::LastGood;
use sedge_uplink::trust::connect::{Anchor, Caller};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use trusted::TrustedHub;

/// A hub with a gateway's stream of numbered records.
struct Standing {
    hub: RunningHub,
    door: Door,
    _forwarder: RunningForwarder,
    origin: sedge_store::Partition,
    _dirs: [tempfile::TempDir; 2],
}

impl Standing {
    async fn with(numbers: std::ops::Range<u64>, options: KafkaOptions) -> Self {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let hub = RunningHub::start(dirs[0].path()).await;
        let door = Door::with(&hub.handle, options).await;
        let origin = origin(dirs[1].path());
        stage(&origin, numbers, 7).await;
        let forwarder = RunningForwarder::start(&hub.url(), "gw-7", vec![rig::log(&origin)]);
        forwarder.drained().await;
        Self {
            hub,
            door,
            _forwarder: forwarder,
            origin,
            _dirs: dirs,
        }
    }

    async fn of(numbers: std::ops::Range<u64>) -> Self {
        Self::with(numbers, KafkaOptions::default()).await
    }
}

fn fetch(offset: i64, wait_ms: i32, bytes_max: i32) -> RequestKind {
    let partition = FetchPartition::default()
        .with_partition(0)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(bytes_max);
    let of = FetchTopic::default()
        .with_topic(topic("telemetry"))
        .with_partitions(vec![partition]);
    RequestKind::Fetch(
        FetchRequest::default()
            .with_max_wait_ms(wait_ms)
            .with_min_bytes(1)
            .with_max_bytes(bytes_max)
            .with_topics(vec![of]),
    )
}

async fn fetched(
    talk: &mut Talk<TcpStream>,
    version: i16,
    offset: i64,
    wait_ms: i32,
) -> PartitionData {
    let request = fetch(offset, wait_ms, 1 << 20);
    let ResponseKind::Fetch(mut answer) = talk.ask(ApiKey::Fetch, version, request).await else {
        panic!("another answer");
    };
    answer.responses.remove(0).partitions.remove(0)
}

/// Where something begins: error, offset and time.
async fn listed(talk: &mut Talk<TcpStream>, version: i16, time: i64) -> (i16, i64, i64) {
    let partition = ListOffsetsPartition::default().with_timestamp(time);
    let of = ListOffsetsTopic::default()
        .with_name(topic("telemetry"))
        .with_partitions(vec![partition]);
    let request = RequestKind::ListOffsets(ListOffsetsRequest::default().with_topics(vec![of]));
    let ResponseKind::ListOffsets(answer) = talk.ask(ApiKey::ListOffsets, version, request).await
    else {
        panic!("another answer");
    };
    let of = &answer.topics[0].partitions[0];
    (of.error_code, of.offset, of.timestamp)
}

/// The versions of each request that a hub says it speaks.
async fn spoken(talk: &mut Talk<TcpStream>) -> Vec<(ApiKey, std::ops::RangeInclusive<i16>)> {
    let request = RequestKind::ApiVersions(ApiVersionsRequest::default());
    let ResponseKind::ApiVersions(answer) = talk.ask(ApiKey::ApiVersions, 0, request).await else {
        panic!("another answer");
    };
    let range = |api: &api_versions_response::ApiVersion| {
        let key = ApiKey::try_from(api.api_key).unwrap();
        (key, api.min_version..=api.max_version)
    };
    answer.api_keys.iter().map(range).collect()
}

/// A request with something in each of its fields that `version` has.
fn request(key: ApiKey, version: i16) -> RequestKind {
    let instance = |from: i16| (version >= from).then(|| text("seat-1"));
    match key {
        ApiKey::Produce => {
            let partition = PartitionProduceData::default().with_records(Some(Bytes::new()));
            let of = TopicProduceData::default()
                .with_name(topic("telemetry"))
                .with_partition_data(vec![partition]);
            let produce = ProduceRequest::default()
                .with_acks(1)
                .with_topic_data(vec![of]);
            RequestKind::Produce(produce)
        }
        ApiKey::Fetch => fetch(3, 0, 1 << 20),
        ApiKey::ListOffsets => {
            let partition = ListOffsetsPartition::default().with_timestamp(-2);
            let of = ListOffsetsTopic::default()
                .with_name(topic("telemetry"))
                .with_partitions(vec![partition]);
            RequestKind::ListOffsets(ListOffsetsRequest::default().with_topics(vec![of]))
        }
        ApiKey::Metadata => {
            let names = ["telemetry", "other"];
            let of = |name| MetadataRequestTopic::default().with_name(Some(topic(name)));
            let topics = names.map(of).to_vec();
            RequestKind::Metadata(MetadataRequest::default().with_topics(Some(topics)))
        }
        ApiKey::OffsetCommit => {
            let partition = OffsetCommitRequestPartition::default()
                .with_committed_offset(5)
                .with_committed_leader_epoch(if version >= 6 { 0 } else { -1 })
                .with_committed_metadata(Some(text("a note")));
            let of = OffsetCommitRequestTopic::default()
                .with_name(topic("telemetry"))
                .with_partitions(vec![partition]);
            RequestKind::OffsetCommit(
                OffsetCommitRequest::default()
                    .with_group_id(group("billing"))
                    .with_generation_id_or_member_epoch(-1)
                    .with_retention_time_ms(-1)
                    .with_topics(vec![of]),
            )
        }
        ApiKey::OffsetFetch => {
            let of = OffsetFetchRequestTopic::default()
                .with_name(topic("telemetry"))
                .with_partition_indexes(vec![0]);
            RequestKind::OffsetFetch(
                OffsetFetchRequest::default()
                    .with_group_id(group("billing"))
                    .with_topics(Some(vec![of])),
            )
        }
        ApiKey::FindCoordinator => RequestKind::FindCoordinator(
            FindCoordinatorRequest::default().with_key(text("billing")),
        ),
        ApiKey::JoinGroup => {
            let protocol = JoinGroupRequestProtocol::default()
                .with_name(text("range"))
                .with_metadata(Bytes::from_static(b"subscription"));
            RequestKind::JoinGroup(
                JoinGroupRequest::default()
                    .with_group_id(group(&format!("joined-{version}")))
                    .with_session_timeout_ms(30_000)
                    .with_rebalance_timeout_ms(if version >= 1 { 60_000 } else { -1 })
                    .with_group_instance_id(instance(5))
                    .with_protocol_type(text("consumer"))
                    .with_protocols(vec![protocol]),
            )
        }
        ApiKey::SyncGroup => {
            let assignment = SyncGroupRequestAssignment::default()
                .with_member_id(text("nobody"))
                .with_assignment(Bytes::from_static(b"all"));
            RequestKind::SyncGroup(
                SyncGroupRequest::default()
                    .with_group_id(group("billing"))
                    .with_member_id(text("nobody"))
                    .with_group_instance_id(instance(3))
                    .with_assignments(vec![assignment]),
            )
        }
        ApiKey::Heartbeat => RequestKind::Heartbeat(
            HeartbeatRequest::default()
                .with_group_id(group("billing"))
                .with_member_id(text("nobody"))
                .with_group_instance_id(instance(3)),
        ),
        ApiKey::LeaveGroup => {
            let leave = LeaveGroupRequest::default().with_group_id(group("billing"));
            let member = MemberIdentity::default()
                .with_member_id(text("nobody"))
                .with_group_instance_id(Some(text("seat-1")));
            RequestKind::LeaveGroup(match version {
                3.. => leave.with_members(vec![member]),
                _ => leave.with_member_id(text("nobody")),
            })
        }
        ApiKey::DescribeGroups => RequestKind::DescribeGroups(
            DescribeGroupsRequest::default().with_groups(vec![group("billing"), group("nobody")]),
        ),
        ApiKey::ListGroups => RequestKind::ListGroups(ListGroupsRequest::default()),
        ApiKey::SaslHandshake => RequestKind::SaslHandshake(
            SaslHandshakeRequest::default().with_mechanism(text("PLAIN")),
        ),
        ApiKey::ApiVersions => RequestKind::ApiVersions(
            ApiVersionsRequest::default()
                .with_client_software_name(text("a-test"))
                .with_client_software_version(text("1.2")),
        ),
        ApiKey::InitProducerId => RequestKind::InitProducerId(InitProducerIdRequest::default()),
        ApiKey::OffsetForLeaderEpoch => {
            let partition = OffsetForLeaderPartition::default().with_current_leader_epoch(0);
            let of = OffsetForLeaderTopic::default()
                .with_topic(topic("telemetry"))
                .with_partitions(vec![partition]);
            RequestKind::OffsetForLeaderEpoch(
                OffsetForLeaderEpochRequest::default().with_topics(vec![of]),
            )
        }
        ApiKey::DescribeConfigs => {
            let of = DescribeConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text("telemetry"))
                .with_configuration_keys(Some(vec![text("cleanup.policy")]));
            RequestKind::DescribeConfigs(DescribeConfigsRequest::default().with_resources(vec![of]))
        }
        ApiKey::SaslAuthenticate => RequestKind::SaslAuthenticate(
            SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(b"\0any\0one")),
        ),
        ApiKey::DeleteGroups => RequestKind::DeleteGroups(
            DeleteGroupsRequest::default().with_groups_names(vec![group("nobody")]),
        ),
        ApiKey::OffsetDelete => {
            let partition = OffsetDeleteRequestPartition::default().with_partition_index(7);
            let of = OffsetDeleteRequestTopic::default()
                .with_name(topic("telemetry"))
                .with_partitions(vec![partition]);
            RequestKind::OffsetDelete(
                OffsetDeleteRequest::default()
                    .with_group_id(group("billing"))
                    .with_topics(vec![of]),
            )
        }
        key => panic!("{key:?} is spoken and not asked here"),
    }
}

/// Both ways: what another implementation writes is understood, and what is answered is what it reads, to the last byte.
#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_answered_in_each_version_that_is_told_of() {
    let standing = Standing::of(0..20).await;
    let mut talk = standing.door.talk().await;
    let mut asked = 0;
    for (key, versions) in spoken(&mut talk).await {
        let theirs = key.valid_versions();
        for version in versions {
            // The next message has no head then.
            if (key, version) == (ApiKey::SaslHandshake, 0) {
                continue;
            }
            // It has left out the oldest ones.
            if version < theirs.min || version > theirs.max {
                continue;
            }
            let answer = talk.ask(key, version, request(key, version)).await;
            understood(key, version, &answer);
            asked += 1;
        }
    }
    assert!(asked > 60, "{asked}");
}

/// What an answer has to say, whatever its version.
fn understood(key: ApiKey, version: i16, answer: &ResponseKind) {
    let what = format!("{key:?} {version}: {answer:?}");
    match answer {
        ResponseKind::Produce(answer) => {
            let of = &answer.responses[0].partition_responses[0];
            assert_eq!(of.error_code, 44, "{what}");
            let told = of.error_message.as_ref();
            assert_eq!(
                told.is_some_and(|why| why.contains("read-only")),
                version >= 8,
                "{what}"
            );
        }
        ResponseKind::Fetch(answer) => {
            let of = &answer.responses[0].partitions[0];
            assert_eq!((of.error_code, of.high_watermark), (0, 20), "{what}");
            let found = records(of.records.as_ref().unwrap());
            assert_eq!(values(&found), numbers(3..20), "{what}");
        }
        ResponseKind::ListOffsets(answer) => {
            let of = &answer.topics[0].partitions[0];
            assert_eq!((of.error_code, of.offset), (0, 0), "{what}");
        }
        ResponseKind::Metadata(answer) => {
            assert_eq!(answer.brokers.len(), 1, "{what}");
            assert_eq!(&*answer.brokers[0].host, "127.0.0.1", "{what}");
            let codes: Vec<_> = answer.topics.iter().map(|t| t.error_code).collect();
            assert_eq!(codes, [0, 3], "{what}");
            assert_eq!(answer.topics[0].partitions.len(), 1, "{what}");
        }
        ResponseKind::OffsetCommit(answer) => {
            assert_eq!(answer.topics[0].partitions[0].error_code, 0, "{what}");
        }
        ResponseKind::OffsetFetch(answer) => {
            let of = &answer.topics[0].partitions[0];
            assert_eq!((of.error_code, of.committed_offset), (0, 5), "{what}");
            let epoch = if version >= 5 { 0 } else { -1 };
            assert_eq!(of.committed_leader_epoch, epoch, "{what}");
            assert_eq!(of.metadata.as_deref(), Some("a note"), "{what}");
        }
        ResponseKind::FindCoordinator(answer) => {
            assert_eq!(
                (answer.error_code, &*answer.host),
                (0, "127.0.0.1"),
                "{what}"
            );
        }
        ResponseKind::JoinGroup(answer) => match version {
            // It is told an id first, and comes again with it.
            4.. if answer.error_code == 79 => assert!(!answer.member_id.is_empty(), "{what}"),
            _ => {
                assert_eq!(answer.error_code, 0, "{what}");
                assert_eq!(answer.leader, answer.member_id, "{what}");
                assert_eq!(&answer.members[0].metadata[..], b"subscription", "{what}");
            }
        },
        ResponseKind::SyncGroup(answer) => assert_eq!(answer.error_code, 25, "{what}"),
        ResponseKind::Heartbeat(answer) => assert_eq!(answer.error_code, 25, "{what}"),
        ResponseKind::LeaveGroup(answer) => {
            let of = answer
                .members
                .first()
                .map_or(answer.error_code, |m| m.error_code);
            assert_eq!(of, 25, "{what}");
        }
        ResponseKind::DescribeGroups(answer) => {
            let states: Vec<&str> = answer.groups.iter().map(|g| &*g.group_state).collect();
            assert_eq!(states, ["Empty", "Dead"], "{what}");
        }
        ResponseKind::ListGroups(answer) => {
            let billing = answer.groups.iter().find(|g| &**g.group_id == "billing");
            assert_eq!(&*billing.expect(&what).protocol_type, "consumer", "{what}");
        }
        ResponseKind::SaslHandshake(answer) => {
            assert_eq!(
                (answer.error_code, &*answer.mechanisms[0]),
                (0, "PLAIN"),
                "{what}"
            );
        }
        ResponseKind::ApiVersions(answer) => {
            assert_eq!(
                (answer.error_code, answer.api_keys.len()),
                (0, 21),
                "{what}"
            );
        }
        ResponseKind::InitProducerId(answer) => assert_eq!(answer.error_code, 0, "{what}"),
        ResponseKind::OffsetForLeaderEpoch(answer) => {
            let of = &answer.topics[0].partitions[0];
            assert_eq!(
                (of.error_code, of.leader_epoch, of.end_offset),
                (0, 0, 20),
                "{what}"
            );
        }
        ResponseKind::DescribeConfigs(answer) => {
            let of = &answer.results[0];
            assert_eq!((of.error_code, of.configs.len()), (0, 1), "{what}");
            assert_eq!(of.configs[0].value.as_deref(), Some("delete"), "{what}");
        }
        ResponseKind::SaslAuthenticate(answer) => assert_eq!(answer.error_code, 0, "{what}"),
        ResponseKind::DeleteGroups(answer) => {
            assert_eq!(answer.results[0].error_code, 69, "{what}");
        }
        ResponseKind::OffsetDelete(answer) => {
            assert_eq!(answer.topics[0].partitions[0].error_code, 3, "{what}");
        }
        _ => panic!("{what}"),
    }
}

/// Who names none is told of all that there are, and of all places of its group.
#[tokio::test(flavor = "multi_thread")]
async fn all_streams_are_told_each_once_with_all_of_its_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let hub = RunningHub::start(&dir.path().join("hub")).await;
    let door = Door::of(&hub.handle).await;
    let mut logs = Vec::new();
    for stream in ["alarms", "telemetry"] {
        for partition in [0, 1] {
            let origin = origin(&dir.path().join(format!("{stream}-{partition}")));
            stage(&origin, 0..3, 3).await;
            logs.push(Log {
                stream: stream.into(),
                partition,
                ..rig::log(&origin)
            });
        }
    }
    let forwarder = RunningForwarder::start(&hub.url(), "gw-7", logs);
    forwarder.drained().await;
    let mut talk = door.talk().await;
    let asked = RequestKind::Metadata(MetadataRequest::default().with_topics(None));
    let ResponseKind::Metadata(answer) = talk.ask(ApiKey::Metadata, 8, asked).await else {
        panic!("another answer");
    };
    let told = answer.topics.iter().map(|of| {
        let name = of.name.as_ref().unwrap().to_string();
        (name, of.error_code, of.partitions.len())
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told, [("alarms".into(), 0, 2), ("telemetry".into(), 0, 2)]);

    let places = |stream: &str, places: &[(i32, i64)]| {
        let place = |(partition, offset): &(i32, i64)| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
        };
        OffsetCommitRequestTopic::default()
            .with_name(topic(stream))
            .with_partitions(places.iter().map(place).collect())
    };
    let asked = OffsetCommitRequest::default()
        .with_group_id(group("billing"))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![
            places("telemetry", &[(0, 1), (1, 2)]),
            places("alarms", &[(0, 3)]),
        ]);
    let asked = RequestKind::OffsetCommit(asked);
    talk.ask(ApiKey::OffsetCommit, 6, asked).await;
    let asked = OffsetFetchRequest::default()
        .with_group_id(group("billing"))
        .with_topics(None);
    let asked = RequestKind::OffsetFetch(asked);
    let ResponseKind::OffsetFetch(answer) = talk.ask(ApiKey::OffsetFetch, 5, asked).await else {
        panic!("another answer");
    };
    let told = answer.topics.iter().map(|of| {
        let places = of.partitions.iter();
        let places = places.map(|at| (at.partition_index, at.committed_offset));
        (of.name.to_string(), places.collect::<Vec<_>>())
    });
    let told: Vec<_> = told.collect();
    let expected = [
        ("alarms".into(), vec![(0, 3)]),
        ("telemetry".into(), vec![(0, 1), (1, 2)]),
    ];
    assert_eq!(told, expected);
}

/// At a hub with certificates hands are shaken first, and then a password is asked for, which is a token.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_comes_by_tls_and_shows_its_token() {
    let hub = TrustedHub::start().await;
    let door = Door::of(&hub.hub.handle).await;
    let token = hub.consumer("dash", &["*"], None).token.unwrap().reveal();
    let caller = Caller {
        anchor: Anchor::File(hub.trust().join("ca.pem")),
        certificate: None,
        clock: std::sync::Arc::new(LastGood::in_memory()),
        tls12: false,
    };
    for (password, code) in [(token.as_str(), 0), ("a guess", 58)] {
        let tcp = TcpStream::connect(door.address).await.unwrap();
        let mut talk = Talk::on(caller.connect(tcp, "localhost").await.unwrap());
        let plain = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
        let plain = RequestKind::SaslHandshake(plain);
        talk.ask(ApiKey::SaslHandshake, 1, plain).await;
        let shown = format!("\0dash\0{password}").into();
        let shown = SaslAuthenticateRequest::default().with_auth_bytes(shown);
        let shown = RequestKind::SaslAuthenticate(shown);
        let ResponseKind::SaslAuthenticate(answer) =
            talk.ask(ApiKey::SaslAuthenticate, 1, shown).await
        else {
            panic!("another answer");
        };
        assert_eq!(answer.error_code, code, "{password}");
        if code == 0 {
            let all = RequestKind::Metadata(MetadataRequest::default().with_topics(None));
            let ResponseKind::Metadata(answer) = talk.ask(ApiKey::Metadata, 8, all).await else {
                panic!("another answer");
            };
            assert_eq!(&*answer.brokers[0].host, "localhost", "as it was called");
        }
    }
}

/// Each fetch is whole: who offers to begin a session is given what it asks for and no session, and none is known to those who go on with one.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_fetches_may_be_begun_and_there_is_none_to_go_on_with() {
    let standing = Standing::of(0..20).await;
    let mut talk = standing.door.talk().await;
    for (session, epoch, code) in [(0, -1, 0), (0, 0, 0), (0, 1, 70), (7, 0, 70), (7, -1, 70)] {
        let RequestKind::Fetch(asked) = fetch(3, 0, 1 << 20) else {
            panic!("another request");
        };
        let asked = asked.with_session_id(session).with_session_epoch(epoch);
        let asked = RequestKind::Fetch(asked);
        let ResponseKind::Fetch(answer) = talk.ask(ApiKey::Fetch, 11, asked).await else {
            panic!("another answer");
        };
        let what = format!("{session} {epoch}");
        assert_eq!((answer.error_code, answer.session_id), (code, 0), "{what}");
        assert_eq!(answer.responses.is_empty(), code != 0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_read_to_its_end_and_on_as_it_grows() {
    let standing = Standing::of(0..5_000).await;
    let mut talk = standing.door.talk().await;
    let (mut next, mut found) = (0, Vec::new());
    while next < 5_000 {
        let of = fetched(&mut talk, 11, next, 0).await;
        let some = records(of.records.as_ref().unwrap());
        assert!(!some.is_empty() && of.error_code == 0);
        let offsets = some.iter().map(|record| record.offset);
        assert!(offsets.eq(next..next + some.len() as i64));
        next += some.len() as i64;
        found.extend(values(&some));
    }
    assert_eq!(found, numbers(0..5_000));
    let nothing = fetched(&mut talk, 11, next, 0).await;
    assert_eq!(nothing.records.unwrap().len(), 0);
    assert_eq!(nothing.high_watermark, 5_000);
    // It waits for what comes, and no longer.
    let began = Instant::now();
    talk.send(ApiKey::Fetch, 11, &fetch(next, 30_000, 1 << 20))
        .await;
    stage(&standing.origin, 5_000..5_001, 1).await;
    let Some(ResponseKind::Fetch(answer)) = talk.receive(ApiKey::Fetch, 11).await else {
        panic!("another answer");
    };
    let of = &answer.responses[0].partitions[0];
    assert_eq!(values(&records(of.records.as_ref().unwrap())), ["5000"]);
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_found_by_time_and_at_both_ends() {
    let before = unix_ms();
    let standing = Standing::of(0..10).await;
    let mut talk = standing.door.talk().await;
    for version in 1..=5 {
        assert_eq!(listed(&mut talk, version, -1).await, (0, 10, -1));
        assert_eq!(listed(&mut talk, version, -2).await, (0, 0, -1));
        assert_eq!(listed(&mut talk, version, before - 1_000).await.1, 0);
        assert_eq!(
            listed(&mut talk, version, unix_ms() + 60_000).await,
            (0, -1, -1)
        );
        assert_eq!(listed(&mut talk, version, -7).await.0, 42);
    }
    let of = fetched(&mut talk, 11, 0, 0).await;
    let found = records(&of.records.unwrap());
    let now = unix_ms();
    assert!(
        found
            .iter()
            .all(|r| (before - 1..=now).contains(&r.timestamp)),
        "{found:?}"
    );
}

fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_millis() as i64
}

/// Who asks for what is gone gets what is there, and is not sent to another end of the stream.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_is_passed_over_or_shown_as_a_record() {
    for shows_gaps in [false, true] {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let hub = RunningHub::start(dirs[0].path()).await;
        let options = KafkaOptions {
            shows_gaps,
            ..KafkaOptions::default()
        };
        let door = Door::with(&hub.handle, options).await;
        let origin = rig::origin_of(dirs[1].path(), 4 << 20);
        // More than it holds, before the hub is there.
        stage_sized(&origin, 0..10_000, 50, 1_000).await;
        let forwarder = RunningForwarder::start(&hub.url(), "gw-7", vec![rig::log(&origin)]);
        forwarder.drained().await;
        let mut talk = door.talk().await;
        let first = fetched(&mut talk, 11, 0, 0).await;
        let found = records(first.records.as_ref().unwrap());
        let real = found.iter().position(|r| r.value.is_some()).unwrap();
        let begins = found[real].offset;
        assert!(begins > 0, "something is gone");
        assert_eq!(values(&found[real..=real]), [begins.to_string()]);
        let (next, gaps) = (found.last().unwrap().offset + 1, &found[..real]);
        match shows_gaps {
            false => assert_eq!(gaps.len(), 0),
            true => {
                let told = gaps[0].headers.get(&text("sedge-gap")).unwrap().clone();
                let told: serde_json::Value = serde_json::from_slice(&told.unwrap()).unwrap();
                assert_eq!(gaps[0].offset, 0);
                assert_eq!(told["lost"], begins, "{told}");
            }
        }
        let second = fetched(&mut talk, 11, next, 0).await;
        assert_eq!(records(&second.records.unwrap())[0].offset, next);
    }
}

/// Its offset is one past what is there: it comes when it comes. A reset would skip or repeat.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_ahead_of_a_hub_waits() {
    let standing = Standing::of(0..10).await;
    let mut talk = standing.door.talk().await;
    let of = fetched(&mut talk, 11, 1_000, 1).await;
    assert_eq!((of.error_code, of.records.unwrap().len()), (0, 0));
    let of = fetched(&mut talk, 11, -5, 1).await;
    assert_eq!(of.error_code, 1);
}

/// Counts and lengths that are not true, requests too large, unknown and too early: the connection ends, and nobody else's.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_end_their_own_connection_only() {
    let standing = Standing::of(0..10).await;
    let mut other = standing.door.talk().await;
    let head = |key: i16, version: i16| {
        let mut head = [key.to_be_bytes(), version.to_be_bytes()].concat();
        head.extend_from_slice(&[0, 0, 0, 1, 0xFF, 0xFF]);
        head
    };
    let mut bad: Vec<Vec<u8>> = vec![vec![], vec![0; 3], head(3, 99), head(77, 0)];
    for count in [0x3FFF_FFFF_i32, i32::MAX, -2, 1] {
        for (key, version) in [
            (3, 4),
            (1, 11),
            (2, 5),
            (8, 7),
            (9, 5),
            (11, 5),
            (14, 3),
            (15, 4),
        ] {
            let mut request = head(key, version);
            if key == 8 {
                request.extend_from_slice(&[0, 1, b'g', 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]);
            }
            request.extend_from_slice(&count.to_be_bytes());
            bad.push(request);
        }
    }
    for request in bad {
        let mut talk = standing.door.talk().await;
        talk.send_raw(&request).await;
        assert!(talk.receive_raw().await.is_none(), "{request:?}");
    }
    for len in [-1_i32, i32::MAX, (1 << 20) + 1] {
        let mut socket = TcpStream::connect(standing.door.address).await.unwrap();
        socket.write_all(&len.to_be_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let read = timeout(LIMIT, socket.read_to_end(&mut rest)).await;
        drop(read.expect("it ends"));
        assert_eq!(rest, [] as [u8; 0]);
    }
    let of = fetched(&mut other, 11, 0, 0).await;
    assert_eq!(values(&records(&of.records.unwrap())), numbers(0..10));
}

/// As older clients do: the password is a message by itself, and so is the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_may_come_with_nothing_around_it() {
    let standing = Standing::of(0..1).await;
    let mut talk = standing.door.talk().await;
    let handshake = request(ApiKey::SaslHandshake, 0);
    talk.ask(ApiKey::SaslHandshake, 0, handshake).await;
    talk.send_raw(b"\0anybody\0anything").await;
    assert_eq!(talk.receive_raw().await.unwrap().len(), 0);
    assert_eq!(spoken(&mut talk).await.len(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_version_of_the_first_question_is_answered_with_all_that_is_spoken() {
    let standing = Standing::of(0..1).await;
    let mut talk = standing.door.talk().await;
    let mut request = vec![0, 18, 0, 99, 0, 0, 0, 7, 0xFF, 0xFF];
    request.extend_from_slice(b"whatever stands here in a time to come");
    talk.send_raw(&request).await;
    let answer = talk.receive_raw().await.unwrap();
    assert_eq!(answer[..10], [0, 0, 0, 7, 0, 35, 0, 0, 0, 21]);
    assert_eq!(spoken(&mut talk).await.len(), 21);
}

/// A producer that does not listen notices the end of its connection.
#[tokio::test(flavor = "multi_thread")]
async fn who_writes_without_listening_is_shown_the_door() {
    let standing = Standing::of(0..1).await;
    let mut talk = standing.door.talk().await;
    let RequestKind::Produce(produce) = request(ApiKey::Produce, 7) else {
        panic!("another request");
    };
    let produce = RequestKind::Produce(produce.with_acks(0));
    talk.send(ApiKey::Produce, 7, &produce).await;
    assert!(talk.receive_raw().await.is_none());
}

/// What a client has been promised of a log that another history has followed is not read as if it were the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_joins_is_a_later_leader_epoch() {
    let standing = Standing::of(0..10).await;
    let mut talk = standing.door.talk().await;
    let fresh_dir = tempfile::tempdir().unwrap();
    let fresh = origin(fresh_dir.path());
    stage(&fresh, 10..15, 5).await;
    standing
        ._forwarder
        .logs
        .send_replace(vec![rig::log(&fresh)]);
    until("both logs are there", || {
        let hub = standing.hub.handle.clone();
        async move {
            let status = tokio::task::spawn_blocking(move || hub.status())
                .await
                .unwrap();
            (status.partitions.first()?.end == 15).then_some(())
        }
    })
    .await;
    let RequestKind::Fetch(mut request) = fetch(0, 0, 1 << 20) else {
        panic!("another request");
    };
    request.topics[0].partitions[0].current_leader_epoch = 0;
    let fenced = talk
        .ask(ApiKey::Fetch, 11, RequestKind::Fetch(request))
        .await;
    let ResponseKind::Fetch(fenced) = fenced else {
        panic!("another answer");
    };
    assert_eq!(fenced.responses[0].partitions[0].error_code, 74);
    let mut ends = Vec::new();
    for epoch in [0, 1, 2] {
        let partition = OffsetForLeaderPartition::default()
            .with_current_leader_epoch(1)
            .with_leader_epoch(epoch);
        let of = OffsetForLeaderTopic::default()
            .with_topic(topic("telemetry"))
            .with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![of]);
        let request = RequestKind::OffsetForLeaderEpoch(request);
        let answer = talk.ask(ApiKey::OffsetForLeaderEpoch, 3, request).await;
        let ResponseKind::OffsetForLeaderEpoch(answer) = answer else {
            panic!("another answer");
        };
        let of = &answer.topics[0].partitions[0];
        ends.push((of.error_code, of.leader_epoch, of.end_offset));
    }
    assert_eq!(ends, [(0, 0, 10), (0, 1, 15), (0, -1, -1)]);
    let of = fetched(&mut talk, 11, 0, 0).await;
    let found = records(&of.records.unwrap());
    assert!(
        found
            .iter()
            .all(|record| record.partition_leader_epoch == 0)
    );
    let of = fetched(&mut talk, 11, 10, 0).await;
    let found = records(&of.records.unwrap());
    assert_eq!(values(&found), numbers(10..15));
    assert!(
        found
            .iter()
            .all(|record| record.partition_leader_epoch == 1)
    );
}

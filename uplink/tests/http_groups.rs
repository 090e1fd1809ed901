//! Groups over HTTP: where they have come to is seen, moved and forgotten, and it is the same place at every door.

mod door;
mod pages;
mod rig;
mod trusted;

use std::sync::Arc;

use door::{Door, group, text, topic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::*;
use pages::{Answer, Pages, filled, values};
use rig::{
    LIMIT, RunningForwarder, RunningHub, numbers, options, origin, stage, stage_sized, until,
};
use sedge_uplink::client::{PullOptions, Reader};
use sedge_uplink::forward::{Limits, Log};
use serde_json::{Value, json};
use tokio::time::timeout;

const OFFSETS: &str = "/v1/consumers/billing/offsets";
const RECORDS: &str = "/v1/streams/telemetry/0/records";

async fn put(pages: &Pages, path: &str, body: &Value) -> Answer {
    pages.ask("PUT", path, &[], &body.to_string()).await
}

/// The group's place in partition 0 of the first stream, and its lag.
fn place(answer: &Answer) -> (u64, u64) {
    assert_eq!(answer.status, 200, "{answer:?}");
    let of = &answer.json()["streams"][0]["partitions"][0];
    (of["offset"].as_u64().unwrap(), of["lag"].as_u64().unwrap())
}

fn told(answer: &Answer) -> String {
    answer.json()["error"].as_str().unwrap().to_owned()
}

fn member(url: &str, name: &str) -> PullOptions {
    PullOptions {
        group: Some(("billing".into(), name.into())),
        ..options(url)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_put_down_read_on_from_and_forgotten() {
    let (_dir, _hub, _gateway, pages) = filled(100).await;
    assert_eq!(pages.get(OFFSETS).await.status, 404);
    let none = pages.get("/v1/consumers").await.json();
    assert_eq!(none, json!({ "consumers": [] }));
    let from = format!("{RECORDS}?from=@consumer:billing&max=5");
    let unknown = pages.get(&from).await;
    assert_eq!(unknown.values(), numbers(0..5), "from the beginning");
    let moved = put(&pages, OFFSETS, &json!({"telemetry": {"0": 30}})).await;
    assert_eq!(place(&moved), (30, 70));
    let shown = pages.get(OFFSETS).await;
    assert_eq!(shown.json(), moved.json());
    assert_eq!(shown.header("etag"), moved.header("etag"));
    assert_eq!(shown.json()["streams"][0]["held_by"], Value::Null);
    let listed = pages.get("/v1/consumers").await.json();
    let billing = json!({"consumer": "billing", "streams": ["telemetry"]});
    assert_eq!(listed["consumers"], json!([billing]));
    assert_eq!(pages.get(&from).await.values(), numbers(30..35));
    let merged = "/v1/streams/telemetry/records?from=@consumer:billing&max=5";
    let merged = pages.get(merged).await;
    assert_eq!(merged.values(), numbers(30..35));
    let cursor = json!({"telemetry": {"cursor": merged.header("sedge-cursor")}});
    assert_eq!(place(&put(&pages, OFFSETS, &cursor).await), (35, 65));
    // What a group is shown with can be put down for another one.
    let shown = pages.get(OFFSETS).await.json();
    let cursor = json!({"telemetry": {"cursor": shown["streams"][0]["cursor"]}});
    let other = "/v1/consumers/a%2Fcopy%20of%20it/offsets";
    assert_eq!(place(&put(&pages, other, &cursor).await), (35, 65));
    let copy = json!({"consumer": "a/copy of it", "streams": ["telemetry"]});
    let listed = pages.get("/v1/consumers").await.json();
    assert_eq!(listed["consumers"], json!([copy, billing]));
    let third = pages.get(&format!("{RECORDS}?from=90&max=1")).await.lines();
    let time = third[0]["ingested"].as_str().unwrap();
    let by_time = format!("/v1/streams/telemetry/0/offset?time={time}");
    let by_time = pages.get(&by_time).await.json()["runs"][0]["offset"]
        .as_u64()
        .unwrap();
    for (word, at) in [
        (json!({"0": "latest"}), 100),
        (json!({"0": "-7"}), 93),
        (json!(time), by_time),
        (json!("earliest"), 0),
        (json!({"0": "12"}), 12),
        // As after a hub was put back: it catches up.
        (json!({"0": 500}), 500),
    ] {
        let moved = put(&pages, OFFSETS, &json!({"telemetry": word})).await;
        let lag = 100_u64.saturating_sub(at);
        assert_eq!(place(&moved), (at, lag), "{word}");
    }
    assert_eq!(pages.get(&from).await.status, 416);
    let forget = async |path: &str| pages.ask("DELETE", path, &[], "").await;
    assert_eq!(forget(&format!("{OFFSETS}/telemetry/1")).await.status, 404);
    assert_eq!(forget(&format!("{OFFSETS}/alarms")).await.status, 404);
    let gone = forget(&format!("{OFFSETS}/telemetry/0")).await;
    assert_eq!((gone.status, gone.text()), (204, ""));
    assert_eq!(pages.get(OFFSETS).await.status, 404);
    for path in [OFFSETS.to_owned(), format!("{OFFSETS}/telemetry")] {
        put(&pages, OFFSETS, &json!({"telemetry": {"0": 30}})).await;
        assert_eq!(forget(&path).await.status, 204);
        assert_eq!(forget(&path).await.status, 404);
    }
    assert_eq!(pages.get(other).await.status, 200, "another group stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_put_down_is_refused_with_its_place_and_nothing_is_changed() {
    let (_dir, _hub, _gateway, pages) = filled(10).await;
    let first = put(&pages, OFFSETS, &json!({"telemetry": {"0": 3}})).await;
    for (body, status, what) in [
        (
            r#"{"telemetry": {"0": 5, "7": 1}}"#,
            404,
            "telemetry.7: no such partition",
        ),
        (
            r#"{"telemetry": {"0": 5}, "x": "latest"}"#,
            404,
            "x: no gateway has sent",
        ),
        (
            r#"{"telemetry": {"0": "soon"}}"#,
            400,
            "telemetry.0: not accepted",
        ),
        (
            r#"{"telemetry": {"cursor": "zzz"}}"#,
            400,
            "telemetry: cursor: ",
        ),
        (r#"{"telemetry": {"0": 5}"#, 400, "no JSON"),
        ("[]", 400, "names no stream"),
    ] {
        let refused = pages.ask("PUT", OFFSETS, &[], body).await;
        assert_eq!(refused.status, status, "{body}: {refused:?}");
        assert!(told(&refused).contains(what), "{body}: {}", told(&refused));
    }
    let long = "9".repeat(600_000);
    let refused = pages.ask("PUT", OFFSETS, &[], &long).await;
    assert_eq!(refused.status, 413);
    assert!(told(&refused).contains("more than 524288 bytes"));
    let name = format!("/v1/consumers/{}/offsets", "n".repeat(65));
    let named = put(&pages, &name, &json!({"telemetry": "latest"})).await;
    assert_eq!(named.status, 400);
    assert!(told(&named).contains("accepted: 1 to 64 bytes"));
    assert_eq!(pages.get(&name).await.status, 400);
    let strange = pages.get("/v1/consumers/%ff/offsets").await;
    assert_eq!(
        (strange.status, strange.header("content-type")),
        (400, "application/json")
    );
    let tag = first.header("etag");
    for wrong in [("If-Match", "x"), ("If-None-Match", tag)] {
        let body = r#"{"telemetry":"latest"}"#;
        let refused = pages.ask("PUT", OFFSETS, &[wrong], body).await;
        assert_eq!(refused.status, 400, "{wrong:?}");
    }
    assert_eq!(pages.get(OFFSETS).await.header("etag"), tag);
}

/// Each of them looks where the group stands and moves it by one, if nobody else has meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn no_move_of_a_group_is_lost() {
    let (_dir, _hub, _gateway, pages) = filled(10).await;
    let absent = [("If-None-Match", "*")];
    let body = json!({"telemetry": {"0": 0}}).to_string();
    let tagged = [("If-Match", "\"0123\"")];
    assert_eq!(pages.ask("PUT", OFFSETS, &tagged, &body).await.status, 412);
    assert_eq!(pages.ask("PUT", OFFSETS, &absent, &body).await.status, 200);
    assert_eq!(pages.ask("PUT", OFFSETS, &absent, &body).await.status, 412);
    let pages = Arc::new(pages);
    let move_once = async |pages: Arc<Pages>| {
        let mut answer = pages.get(OFFSETS).await;
        loop {
            let tag = answer.header("etag").to_owned();
            let next = json!({"telemetry": {"0": place(&answer).0 + 1}}).to_string();
            let moved = pages
                .ask("PUT", OFFSETS, &[("If-Match", &tag)], &next)
                .await;
            match moved.status {
                200 => return,
                412 => answer = pages.get(OFFSETS).await,
                _ => panic!("{moved:?}"),
            }
        }
    };
    let movers: Vec<_> = (0..24).map(|_| move_once(Arc::clone(&pages))).collect();
    futures_util::future::join_all(movers).await;
    let now = pages.get(OFFSETS).await;
    assert_eq!(place(&now).0, 24);
    let stale = [("If-Match", "\"0123\", W/\"4567\"")];
    assert_eq!(pages.ask("DELETE", OFFSETS, &stale, "").await.status, 412);
    let tag = format!("\"0123\", {}", now.header("etag"));
    let fresh = [("If-Match", tag.as_str())];
    assert_eq!(pages.ask("DELETE", OFFSETS, &fresh, "").await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_down_is_there_after_a_kill() {
    let (dir, hub, _gateway, pages) = filled(10).await;
    let moved = put(&pages, OFFSETS, &json!({"telemetry": {"0": 7}})).await;
    assert_eq!(place(&moved), (7, 3));
    drop(pages);
    hub.kill().await;
    let hub = RunningHub::start(&dir.path().join("hub")).await;
    let pages = Pages::of(&hub.handle).await;
    let shown = pages.get(OFFSETS).await;
    assert_eq!(place(&shown), (7, 3));
    assert_eq!(shown.header("etag"), moved.header("etag"));
}

/// All that the group has not read yet, flushed.
async fn rest_of(url: &str, name: &str) -> Vec<String> {
    let mut reader = Reader::new(member(url, name));
    let mut said = Vec::new();
    while let Some(item) = timeout(LIMIT, reader.next())
        .await
        .expect("an end")
        .unwrap()
    {
        said.push(rig::word(&item));
    }
    reader.flushed().await.unwrap();
    reader.leave().await.unwrap();
    said
}

async fn kafka_offset(door: &Door) -> i64 {
    use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
    let of = OffsetFetchRequestTopic::default()
        .with_name(topic("telemetry"))
        .with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default()
        .with_group_id(group("billing"))
        .with_topics(Some(vec![of]));
    let mut talk = door.talk().await;
    let request = RequestKind::OffsetFetch(request);
    let answer = talk.ask(ApiKey::OffsetFetch, 5, request).await;
    let ResponseKind::OffsetFetch(answer) = answer else {
        panic!("another answer");
    };
    answer.topics[0].partitions[0].committed_offset
}

async fn kafka_commit(door: &Door, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition::default()
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text("a note")));
    let of = OffsetCommitRequestTopic::default()
        .with_name(topic("telemetry"))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group("billing"))
        .with_generation_id_or_member_epoch(-1)
        .with_retention_time_ms(-1)
        .with_topics(vec![of]);
    let mut talk = door.talk().await;
    let request = RequestKind::OffsetCommit(request);
    let answer = talk.ask(ApiKey::OffsetCommit, 2, request).await;
    let ResponseKind::OffsetCommit(answer) = answer else {
        panic!("another answer");
    };
    answer.topics[0].partitions[0].error_code
}

/// `sedge pull --group`, Kafka's clients and HTTP move one and the same group, and none while another is at it.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_stands_at_one_place_at_all_doors() {
    let (_dir, hub, _gateway, pages) = filled(50).await;
    let door = Door::of(&hub.handle).await;
    put(&pages, OFFSETS, &json!({"telemetry": {"0": 10}})).await;
    assert_eq!(kafka_offset(&door).await, 10);
    let mut reader = Reader::new(member(&hub.url(), "night-shift"));
    for number in 10..20 {
        let item = timeout(LIMIT, reader.next())
            .await
            .expect("an item")
            .unwrap();
        assert_eq!(rig::word(&item.unwrap()), number.to_string());
    }
    // It is at it: nobody else moves the group.
    let body = json!({"telemetry": {"0": 0}});
    let held = put(&pages, OFFSETS, &body).await;
    assert_eq!(held.status, 409);
    assert!(
        told(&held).contains("billing is held by night-shift"),
        "{}",
        told(&held)
    );
    let gone = pages.ask("DELETE", OFFSETS, &[], "").await;
    assert_eq!(gone.status, 409);
    assert_ne!(kafka_commit(&door, 40).await, 0);
    let shown = pages.get(OFFSETS).await.json();
    assert_eq!(shown["streams"][0]["held_by"], "night-shift");
    reader.flushed().await.unwrap();
    reader.leave().await.unwrap();
    assert_eq!(place(&pages.get(OFFSETS).await), (20, 30));
    assert_eq!(kafka_commit(&door, 25).await, 0);
    assert_eq!(place(&pages.get(OFFSETS).await), (25, 25));
    assert_eq!(rest_of(&hub.url(), "day-shift").await, numbers(25..50));
    assert_eq!(place(&pages.get(OFFSETS).await), (50, 0));
    // A member over Kafka's protocol holds it as well.
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
    let join = JoinGroupRequest::default()
        .with_group_id(group("billing"))
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let mut talk = door.talk().await;
    let joined = async |talk: &mut door::Talk<_>| {
        let request = RequestKind::JoinGroup(join.clone());
        match talk.ask(ApiKey::JoinGroup, 2, request).await {
            ResponseKind::JoinGroup(answer) => answer.error_code,
            _ => panic!("another answer"),
        }
    };
    assert_eq!(joined(&mut talk).await, 0);
    let held = put(&pages, OFFSETS, &body).await;
    assert_eq!(held.status, 409);
    assert!(told(&held).contains("members over Kafka's protocol"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_seen_and_moved_only_in_streams_that_one_may_read() {
    let trusted = trusted::TrustedHub::start().await;
    let pages = Pages::of(&trusted.hub.handle).await;
    let access = trusted.gateway("gw-1", &["*"]).await;
    let [telemetry, meters] = ["t", "m"].map(|name| origin(&trusted.dir.path().join(name)));
    stage(&telemetry, 0..10, 10).await;
    stage(&meters, 0..10, 10).await;
    let logs = vec![
        rig::log(&telemetry),
        Log {
            stream: "meters".into(),
            ..rig::log(&meters)
        },
    ];
    let gateway = RunningForwarder::start_with(&trusted.url(), "gw-1", logs, Some(access));
    gateway.drained().await;
    let bearer = |name: &str, streams: &[&str]| {
        let access = trusted.consumer(name, streams, None);
        format!("Bearer {}", access.token.expect("a token").reveal())
    };
    let (all, one) = (bearer("all", &["*"]), bearer("one", &["meters"]));
    let ask = async |who: &str, method: &str, path: &str, body: &Value| {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        pages
            .ask(method, path, &[("Authorization", who)], &body)
            .await
    };
    let both = json!({"telemetry": "latest", "meters": {"0": 4}});
    assert_eq!(ask(&one, "PUT", OFFSETS, &both).await.status, 403);
    assert_eq!(ask("Bearer x", "PUT", OFFSETS, &both).await.status, 401);
    let moved = ask(&all, "PUT", OFFSETS, &both).await;
    assert_eq!(moved.json()["streams"].as_array().unwrap().len(), 2);
    let seen = ask(&one, "GET", OFFSETS, &Value::Null).await;
    assert_eq!(seen.json()["streams"].as_array().unwrap().len(), 1);
    assert_eq!(seen.json()["streams"][0]["stream"], "meters");
    assert_ne!(seen.header("etag"), moved.header("etag"));
    let listed = ask(&all, "GET", "/v1/consumers", &Value::Null).await.json();
    let whole = json!({"consumer": "billing", "streams": ["meters", "telemetry"]});
    assert_eq!(listed["consumers"], json!([whole]));
    let listed = ask(&one, "GET", "/v1/consumers", &Value::Null).await.json();
    assert_eq!(listed["consumers"][0]["streams"], json!(["meters"]));
    // What it does not see does not concern its tag.
    put_as(&pages, &all, &json!({"telemetry": {"0": 1}})).await;
    let tag = seen.header("etag");
    let headers = [("Authorization", one.as_str()), ("If-Match", tag)];
    let body = json!({"meters": {"0": 5}}).to_string();
    assert_eq!(pages.ask("PUT", OFFSETS, &headers, &body).await.status, 200);
    let stream = format!("{OFFSETS}/telemetry");
    assert_eq!(ask(&one, "DELETE", &stream, &Value::Null).await.status, 403);
    assert_eq!(ask(&one, "DELETE", OFFSETS, &Value::Null).await.status, 204);
    let left = ask(&all, "GET", OFFSETS, &Value::Null).await.json();
    assert_eq!(left["streams"][0]["stream"], "telemetry");
    assert_eq!(left["streams"].as_array().unwrap().len(), 1);
    let none = ask(&one, "GET", OFFSETS, &Value::Null).await;
    assert_eq!(none.status, 404);
    // Who sees all of it forgets all of it.
    put_as(&pages, &all, &both).await;
    assert_eq!(ask(&all, "DELETE", OFFSETS, &Value::Null).await.status, 204);
    let none = ask(&all, "GET", OFFSETS, &Value::Null).await;
    assert_eq!(none.status, 404);
}

async fn put_as(pages: &Pages, who: &str, body: &Value) {
    let headers = [("Authorization", who)];
    let moved = pages.ask("PUT", OFFSETS, &headers, &body.to_string()).await;
    assert_eq!(moved.status, 200, "{moved:?}");
}

/// While live records pass a backlog a group has a place in each, whoever puts them down.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_has_a_place_in_the_backlog_and_in_what_has_passed_it() {
    const BACKLOG: u64 = 600;
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "new"].map(|name| origin(&dir.path().join(name)));
    stage_sized(&old, 0..BACKLOG, 5, 300).await;
    stage(&new, BACKLOG..BACKLOG + 10, 1).await;
    old.end();
    let hub = RunningHub::start(&dir.path().join("hub")).await;
    let log = |partition, chain| Log {
        chain,
        closed: chain == 0,
        may_be_passed: false,
        ..rig::log(partition)
    };
    let slowly = Limits {
        rate_bytes: Some(20_000),
        ..Limits::default()
    };
    let logs = vec![log(&old, 0), log(&new, 1)];
    let gateway = RunningForwarder::start_limited(&hub.url(), logs, slowly, None);
    let pages = Pages::of(&hub.handle).await;
    let partition = until("live records beside a backlog", || async {
        let shown = pages.get("/v1/streams/telemetry").await;
        let of = shown.json()["partitions"][0].clone();
        (of["ahead"][0]["end"] == BACKLOG + 10 && of["end"].as_u64() > Some(0)).then_some(of)
    })
    .await;
    let end = partition["end"].as_u64().unwrap();
    assert!(end < BACKLOG, "there is a backlog");
    let of = async |word: Value| {
        let moved = put(&pages, OFFSETS, &json!({"telemetry": word})).await;
        assert_eq!(moved.status, 200, "{moved:?}");
        moved.json()["streams"][0]["partitions"][0].clone()
    };
    // All of the live records are to be read, and what there is of the backlog.
    let early = of(json!("earliest")).await;
    assert_eq!(early["offset"], 0);
    assert_eq!(
        (&early["ahead"][0]["offset"], &early["ahead"][0]["lag"]),
        (&json!(BACKLOG), &json!(10))
    );
    assert!(early["lag"].as_u64().unwrap() >= end + 10);
    // What it has not read ahead of the backlog is behind it, for whoever asks.
    let last = of(json!({"0": BACKLOG - 1})).await;
    assert_eq!(last["lag"], 10);
    assert_eq!(hub.handle.status().groups[0].lag, 10);
    let read = pages.get("/v1/streams/telemetry/records?from=-5").await;
    assert_eq!(read.values(), numbers(BACKLOG + 5..BACKLOG + 10));
    // Nothing of the backlog is of their time.
    let live = format!("{RECORDS}?max=1&from={}", BACKLOG + 1);
    let live = pages.get(&live).await.lines()[0]["ingested"].clone();
    let by_time = format!("{RECORDS}?max=1&from={}", live.as_str().unwrap());
    let by_time = pages.get(&by_time).await.values();
    assert!(by_time[0].parse::<u64>().unwrap() >= BACKLOG, "{by_time:?}");
    let start = of(json!({"0": 3})).await;
    assert_eq!(
        (&start["offset"], &start["ahead"][0]["offset"]),
        (&json!(3), &json!(BACKLOG))
    );
    let mut answer = pages
        .get("/v1/streams/telemetry/records?from=@consumer:billing&max=4")
        .await;
    let mut got = answer.lines();
    while values(&got)
        .iter()
        .filter(|v| v.parse::<u64>().unwrap() >= BACKLOG)
        .count()
        < 10
    {
        let cursor = answer.header("sedge-cursor").to_owned();
        let path = format!("/v1/streams/telemetry/records?wait=10s&max=4&cursor={cursor}");
        answer = pages.get(&path).await;
        got.extend(answer.lines());
    }
    let cursor = answer.header("sedge-cursor").to_owned();
    let stood = of(json!({"cursor": cursor})).await;
    let behind = values(&got)
        .iter()
        .filter(|v| v.parse::<u64>().unwrap() < BACKLOG)
        .count() as u64;
    assert!(behind + 3 < BACKLOG, "all of the backlog came first");
    assert_eq!(stood["offset"], 3 + behind);
    assert_eq!(
        (&stood["ahead"][0]["offset"], &stood["ahead"][0]["lag"]),
        (&json!(BACKLOG + 10), &json!(0))
    );
    // Who is put back to an offset reads all behind it again; who is put at a cursor does not.
    let back = of(json!({"0": 3})).await;
    assert_eq!(back["ahead"][0]["offset"], BACKLOG);
    of(json!({"cursor": cursor})).await;
    // A reader of the one partition goes on in the backlog, as Kafka's do.
    let one = pages
        .get(&format!("{RECORDS}?from=@consumer:billing&max=1&wait=20s"))
        .await;
    assert_eq!(one.values(), numbers(3 + behind..4 + behind));
    let door = Door::of(&hub.handle).await;
    assert_eq!(kafka_offset(&door).await as u64, 3 + behind);
    gateway.drained().await;
    let rest = rest_of(&hub.url(), "late").await;
    assert_eq!(rig::records(&rest), numbers(3 + behind..BACKLOG));
    // The runs have met.
    let met = pages.get(OFFSETS).await;
    assert_eq!(place(&met), (BACKLOG + 10, 0));
    assert_eq!(
        met.json()["streams"][0]["partitions"][0]["ahead"],
        json!([])
    );
}

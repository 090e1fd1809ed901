//! What a hub shows over HTTP of itself, its gateways, streams and groups; how much of a stream is of which time; and gaps alone.

mod pages;
mod rig;
mod trusted;

use pages::{Pages, filled};
use rig::{RunningForwarder, RunningHub, origin, origin_of, stage, stage_too_much, until};
use sedge_uplink::forward::Log;
use serde_json::{Value, json};
use trusted::TrustedHub;

async fn status(pages: &Pages) -> Value {
    let answer = pages.get("/v1/status").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_streams_and_groups_are_shown_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let hub = RunningHub::start(&dir.path().join("hub")).await;
    let pages = Pages::of(&hub.handle).await;
    let nothing = status(&pages).await;
    assert_eq!(
        (&nothing["gateways"], &nothing["consumers"]),
        (&json!([]), &json!(0))
    );
    let partition = origin(&dir.path().join("gw"));
    stage(&partition, 0..100, 10).await;
    let gateway = RunningForwarder::start(&hub.url(), "gw-1", vec![rig::log(&partition)]);
    gateway.drained().await;
    let put = pages
        .ask(
            "PUT",
            "/v1/consumers/billing/offsets",
            &[],
            "{\"telemetry\": {\"0\": 60}}",
        )
        .await;
    assert_eq!(put.status, 200, "{put:?}");
    let seen = until("it has reported", || async {
        let seen = status(&pages).await;
        (!seen["gateways"][0]["report"].is_null()).then_some(seen)
    })
    .await;
    let of = &seen["gateways"][0];
    assert_eq!(
        (&of["gateway"], &of["connected"]),
        (&json!("gw-1"), &json!(true))
    );
    assert_eq!(
        (&of["lag"], &of["oldest_unacknowledged"]),
        (&json!(0), &Value::Null)
    );
    let clock = &of["report"]["clock"];
    assert!(clock["ahead_s"].as_f64().unwrap().abs() < 60.0, "{clock}");
    assert_eq!(
        clock["trusted"], false,
        "nobody vouches for the time in this story"
    );
    assert_eq!(
        (&of["report"]["lost"], &of["report"]["held"]),
        (&json!(0), &Value::Null)
    );
    let own = &of["partitions"][0];
    assert_eq!(
        (&own["stream"], &own["number"], &own["end"], &own["lag"]),
        (&json!("telemetry"), &json!(0), &json!(100), &json!(0))
    );
    assert_eq!(own["fill"]["bytes"], 0);
    assert!(own["fill"]["max"].as_u64().unwrap() > 1 << 20);
    let stream = &seen["streams"][0];
    assert_eq!(
        (&stream["stream"], &stream["end_sum"]),
        (&json!("telemetry"), &json!(100))
    );
    let newest = pages
        .get("/v1/streams/telemetry/0/records?from=-1")
        .await
        .lines();
    assert_eq!(stream["newest"], newest[0]["ingested"]);
    let group = &seen["groups"][0];
    assert_eq!(
        (&group["group"], &group["lag"]),
        (&json!("billing"), &json!(40))
    );
    let lag_s = group["lag_s"].as_f64().unwrap();
    assert!((0.0..600.0).contains(&lag_s), "{lag_s}");
    // It goes: it is shown all the same, with the time at which it was here last.
    gateway.kill().await;
    let gone = until("it has gone", || async {
        let seen = status(&pages).await;
        (seen["gateways"][0]["connected"] == false).then_some(seen)
    })
    .await;
    assert!(gone["gateways"][0]["heard"].is_string(), "{gone}");
    // Another start of the hub knows it by what it sent.
    drop(pages);
    hub.stop().await.unwrap();
    let hub = RunningHub::start(&dir.path().join("hub")).await;
    let seen = status(&Pages::of(&hub.handle).await).await;
    let of = &seen["gateways"][0];
    assert_eq!(
        (&of["gateway"], &of["connected"]),
        (&json!("gw-1"), &json!(false))
    );
    assert_eq!(
        (&of["heard"], &of["report"], &of["lag"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_counted_by_its_times() {
    let (_dir, _hub, _gateway, pages) = filled(100).await;
    let records = "/v1/streams/telemetry/0/records";
    let first = pages.get(&format!("{records}?max=1")).await.lines();
    let from: jiff::Timestamp = first[0]["ingested"].as_str().unwrap().parse().unwrap();
    let second = std::time::Duration::from_secs(1);
    let counts = async |from: jiff::Timestamp, to: jiff::Timestamp, steps: u32| {
        let path = format!("/v1/streams/telemetry/counts?from={from}&to={to}&steps={steps}");
        let answer = pages.get(&path).await;
        let steps = answer.json()["steps"].clone();
        let steps = steps.as_array().unwrap();
        let begins = |step: &Value| step["time"].as_str().unwrap().parse::<jiff::Timestamp>();
        assert_eq!(begins(&steps[0]).unwrap(), from);
        let events = steps.iter().map(|step| step["events"].as_u64().unwrap());
        events.collect::<Vec<_>>()
    };
    let before = from - 3_600 * second;
    let after = from + 3_600 * second;
    // What is of a step begins with it: the first record is of the second half.
    assert_eq!(counts(before, after, 2).await, [0, 100]);
    assert_eq!(counts(before, after, 1).await, [100]);
    assert_eq!(counts(before, from, 10).await, [0; 10]);
    let fine = counts(from, after, 240).await;
    assert_eq!((fine.len(), fine.iter().sum::<u64>()), (240, 100));
    for (query, what) in [
        ("from=2026-01-01T00:00:00Z", "to: missing"),
        (
            "from=2026-01-01T00:00:00Z&to=2026-01-01T00:00:00Z",
            "not later than",
        ),
        (
            "from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&steps=241",
            "accepted: 1 to 240",
        ),
        (
            "from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&step=1",
            "unknown key",
        ),
    ] {
        let answer = pages
            .get(&format!("/v1/streams/telemetry/counts?{query}"))
            .await;
        let expected = if what == "not later than" { 416 } else { 400 };
        assert_eq!(answer.status, expected, "{query}");
        assert!(answer.text().contains(what), "{query}: {}", answer.text());
    }
    assert_eq!(pages.get("/v1/streams/nothing/counts").await.status, 404);
}

/// A log has lost its first segments before the hub had them; that gap is told, the records are passed over, and who goes on with the cursor hears of it once.
#[tokio::test(flavor = "multi_thread")]
async fn gaps_alone_are_told_in_stretches() {
    let dir = tempfile::tempdir().unwrap();
    let partition = origin_of(&dir.path().join("gw"), 4 << 20);
    stage_too_much(&partition, 0..40_000, 50, 250).await;
    let lost = partition.oldest().get();
    let hub = RunningHub::start(&dir.path().join("hub")).await;
    let gateway = RunningForwarder::start(&hub.url(), "gw-1", vec![rig::log(&partition)]);
    gateway.drained().await;
    let pages = Pages::of(&hub.handle).await;
    for at in [
        "/v1/streams/telemetry/records",
        "/v1/streams/telemetry/0/records",
    ] {
        let (mut gaps, mut place) = (Vec::new(), "from=earliest".to_owned());
        let mut is_at_end = false;
        for _ in 0..100 {
            let answer = pages.get(&format!("{at}?only=gaps&{place}")).await;
            if answer.status == 200 {
                gaps.extend(answer.lines());
            } else {
                assert_eq!((answer.status, answer.text()), (204, ""));
            }
            place = match at.contains("/0/") {
                true => format!("from={}", answer.header("sedge-next-offset")),
                false => format!("cursor={}", answer.header("sedge-cursor")),
            };
            is_at_end = answer.header("sedge-end-reached") == "true";
            if is_at_end {
                break;
            }
        }
        assert!(is_at_end, "{at}");
        let [gap] = &gaps[..] else { panic!("{gaps:?}") };
        let of = &gap["gap"];
        assert_eq!((&of["from"], &of["to"]), (&json!(0), &of["lost"]));
        assert_eq!(of["to"].as_u64(), Some(lost));
        // All was looked at: the next record is the next thing there.
        stage(&partition, 40_000..40_001, 1).await;
        gateway.drained().await;
        let rest = pages.get(&format!("{at}?{place}")).await;
        assert_eq!(rest.lines().len(), 1, "{at}: {rest:?}");
    }
    let events = [("Accept", "text/event-stream")];
    let refused = pages
        .get_with("/v1/streams/telemetry/records?only=gaps", &events)
        .await;
    assert_eq!(refused.status, 400);
    let wrong = pages
        .get("/v1/streams/telemetry/records?only=records")
        .await;
    assert!(wrong.text().contains("accepted: gaps"), "{}", wrong.text());
}

/// Two logs have each lost their beginning; who has room for one gap is told one, and the other when it comes again.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_gaps_are_told_at_once_than_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut logs = Vec::new();
    for partition in [0, 1] {
        let log = origin_of(&dir.path().join(partition.to_string()), 4 << 20);
        stage_too_much(&log, 0..20_000, 500, 250).await;
        logs.push(Log {
            partition,
            ..rig::log(&log)
        });
    }
    let hub = RunningHub::start(&dir.path().join("hub")).await;
    let gateway = RunningForwarder::start(&hub.url(), "gw-1", logs);
    gateway.drained().await;
    let pages = Pages::of(&hub.handle).await;
    let at = "/v1/streams/telemetry/records?only=gaps";
    for (limit, at_once) in [("max=1", 1), ("bytes=1", 1), ("max=2", 2)] {
        let (mut told, mut place) = (Vec::new(), "from=earliest".to_owned());
        let mut is_at_end = false;
        for _ in 0..100 {
            let answer = pages.get(&format!("{at}&{limit}&{place}")).await;
            told.push(answer.text().lines().count());
            place = format!("cursor={}", answer.header("sedge-cursor"));
            is_at_end = answer.header("sedge-end-reached") == "true";
            if is_at_end {
                break;
            }
        }
        assert!(is_at_end, "{limit}");
        assert_eq!(told.iter().sum::<usize>(), 2, "{limit}");
        assert_eq!(told.iter().max(), Some(&at_once), "{limit}: {told:?}");
    }
}

/// Who may read one stream sees the gateways, streams and groups of that one.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_is_of_the_streams_that_one_may_read() {
    let trusted = TrustedHub::start().await;
    let pages = Pages::of(&trusted.hub.handle).await;
    let mut running = Vec::new();
    for (name, stream) in [("gw-1", "telemetry"), ("gw-2", "meters")] {
        let partition = origin(&trusted.dir.path().join(name));
        stage(&partition, 0..10, 10).await;
        let log = Log {
            stream: stream.into(),
            ..rig::log(&partition)
        };
        let trust = Some(trusted.gateway(name, &["*"]).await);
        let gateway = RunningForwarder::start_with(&trusted.url(), name, vec![log], trust);
        gateway.drained().await;
        running.push(gateway);
    }
    let trust = Some(trusted.gateway("gw-3", &["*"]).await);
    running.push(RunningForwarder::start_with(
        &trusted.url(),
        "gw-3",
        vec![],
        trust,
    ));
    // One has a stream of each.
    let mut logs = Vec::new();
    for (partition, stream) in [(7, "telemetry"), (8, "meters")] {
        let log = origin(&trusted.dir.path().join(stream));
        stage(&log, 0..10, 10).await;
        logs.push(Log {
            stream: stream.into(),
            partition,
            ..rig::log(&log)
        });
    }
    let trust = Some(trusted.gateway("gw-4", &["*"]).await);
    let both = RunningForwarder::start_with(&trusted.url(), "gw-4", logs, trust);
    both.drained().await;
    running.push(both);
    until("all are there", || async {
        let fleet = trusted.hub.handle.status().fleet;
        let have_told = fleet.iter().filter(|of| of.report.is_some());
        (have_told.count() == 4).then_some(())
    })
    .await;
    assert_eq!(pages.get("/v1/status").await.status, 401);
    for (streams, gateways, shown) in [
        (&["meters"][..], &["gw-2", "gw-4"][..], &["meters"][..]),
        (
            &["*"],
            &["gw-1", "gw-2", "gw-3", "gw-4"],
            &["meters", "telemetry"],
        ),
        (&["alarms"], &[], &[]),
    ] {
        let access = trusted.consumer("dashboard", streams, None);
        let token = format!("Bearer {}", access.token.expect("a token").reveal());
        let seen = pages
            .get_with("/v1/status", &[("Authorization", &token)])
            .await
            .json();
        let names = |of: &str, key: &str| {
            let all = seen[of].as_array().unwrap().iter();
            all.map(|one| one[key].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(names("gateways", "gateway"), gateways, "{streams:?}");
        assert_eq!(names("streams", "stream"), shown, "{streams:?}");
        let listed = pages
            .get_with("/v1/streams", &[("Authorization", &token)])
            .await
            .json();
        let listed = listed["streams"].as_array().unwrap().iter();
        let listed: Vec<_> = listed.map(|of| of["stream"].as_str().unwrap()).collect();
        assert_eq!(listed, shown, "{streams:?}");
        // Of what is not for this reader nothing is in a sum either.
        let Some(last) = seen["gateways"].as_array().unwrap().last() else {
            continue;
        };
        let seen_of = last["partitions"].as_array().unwrap();
        let room = |of: &Value| of["fill"]["max"].as_u64().unwrap();
        let rooms: u64 = seen_of.iter().map(room).sum();
        assert_eq!(last["report"]["disk"]["max"], rooms, "{streams:?}");
        let is_whole = seen_of.len() == 2;
        assert_eq!(is_whole, streams == ["*"]);
        assert_eq!(last["report"]["lost"].is_null(), !is_whole);
    }
}

//! Streams read over HTTP, as anybody would with curl: where to begin, how much, where to go on, and what is refused.

mod pages;
mod rig;
mod trusted;

use std::io::Read as _;
use std::time::Duration;

use pages::{Answer, Pages, filled, values};
use rig::{LIMIT, RunningForwarder, RunningHub, numbers, origin, stage, stage_sized, until};
use sedge_uplink::forward::Log;
use sedge_uplink::hub::Origin;
use sedge_uplink::trust::register::Kind;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::time::timeout;
use trusted::TrustedHub;

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_is_listed_and_read_from_where_one_likes() {
    let (_dir, _hub, _gateway, pages) = filled(100).await;
    let listed = pages.get("/v1/streams").await.json();
    let partition = &listed["streams"][0]["partitions"][0];
    assert_eq!(listed["streams"][0]["stream"], "telemetry");
    assert_eq!(
        (&partition["gateway"], &partition["end"]),
        (&"gw-1".into(), &100.into())
    );
    assert_eq!(
        pages.get("/v1/streams/telemetry").await.json()["partitions"][0],
        *partition
    );
    let records = "/v1/streams/telemetry/0/records";
    let all = pages.get(records).await;
    assert_eq!((all.status, all.values()), (200, numbers(0..100)));
    assert_eq!(all.header("content-type"), "application/x-ndjson");
    assert_eq!(all.header("sedge-next-offset"), "100");
    assert_eq!(all.header("sedge-start-offset"), "0");
    assert_eq!(all.header("sedge-end-offset"), "100");
    for (asked, got) in [
        ("from=97", 97..100),
        ("from=-5", 95..100),
        ("from=-500", 0..100),
        ("from=30&max=3", 30..33),
        ("from=earliest&max=1", 0..1),
    ] {
        let answer = pages.get(&format!("{records}?{asked}")).await;
        assert_eq!(answer.values(), numbers(got.clone()), "{asked}");
        assert_eq!(answer.header("sedge-next-offset"), got.end.to_string());
    }
    let few = pages.get(&format!("{records}?bytes=1")).await;
    assert_eq!(few.values(), numbers(0..1), "one line, however long it is");
    let none = pages.get(&format!("{records}?from=latest")).await;
    assert_eq!((none.status, none.text()), (204, ""));
    assert_eq!(none.header("sedge-next-offset"), "100");
}

/// A hub with certificates has a gate before its pages. There, what concerns the whole hub is for this machine, and for a consumer that may read every stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_gate_shows_all_of_a_hub_to_those_who_may_see_all() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let plain = RunningHub::start(dir.path()).await;
    assert!(plain.handle.http_gate(&listener).unwrap().is_none());
    let trusted = TrustedHub::start().await;
    let gate = trusted.hub.handle.http_gate(&listener).unwrap();
    let gate = gate.expect("it has certificates");
    let asks = |origin: Option<Origin>, streams: &[&str]| {
        let mut request = axum::http::Request::new(());
        if !streams.is_empty() {
            let token = trusted.consumer("dash", streams, None).token.unwrap();
            let token = format!("Bearer {}", token.reveal()).parse().unwrap();
            request.headers_mut().insert("authorization", token);
        }
        if let Some(origin) = origin {
            request.extensions_mut().insert(origin);
        }
        let (parts, ()) = request.into_parts();
        let refused = gate.may_see_all(&parts).err();
        refused.map(|answer| answer.status().as_u16())
    };
    assert_eq!(asks(Some(Origin::here()), &[]), None);
    assert_eq!(asks(None, &[]), Some(401));
    assert_eq!(asks(None, &["telemetry"]), Some(403));
    assert_eq!(asks(None, &["*"]), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_leads_to_the_first_record_of_it() {
    let (_dir, _hub, _gateway, pages) = filled(20).await;
    let records = "/v1/streams/telemetry/0/records";
    let taken = pages.get(records).await.lines();
    let third = taken[10]["ingested"].as_str().expect("a time");
    let by_time = pages.get(&format!("{records}?from={third}")).await;
    let first = by_time.lines()[0]["offset"].as_u64().unwrap();
    assert!(first <= 10, "{third} is of offset 10, not of {first}");
    let found = pages
        .get(&format!("/v1/streams/telemetry/0/offset?time={third}"))
        .await;
    assert_eq!(found.json()["runs"][0]["offset"], first);
    let later = pages
        .get(&format!("{records}?from=2100-01-01T00:00:00Z"))
        .await;
    assert_eq!(
        (later.status, later.header("sedge-next-offset")),
        (204, "20")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_hears_as_soon_as_something_comes() {
    let dir = tempfile::tempdir().unwrap();
    let partition = origin(&dir.path().join("gw"));
    stage(&partition, 0..1, 1).await;
    let hub = RunningHub::start(&dir.path().join("hub")).await;
    let gateway = RunningForwarder::start(&hub.url(), "gw-1", vec![rig::log(&partition)]);
    gateway.drained().await;
    let pages = Pages::of(&hub.handle).await;
    let records = "/v1/streams/telemetry/0/records";
    let waited = pages.get(&format!("{records}?from=1&wait=50ms")).await;
    assert_eq!(waited.status, 204);
    let path = format!("{records}?from=1&wait=60s");
    let (answer, ()) = tokio::join!(pages.get(&path), async {
        until("somebody waits", || async {
            (hub.handle.status().consumers > 0).then_some(())
        })
        .await;
        stage(&partition, 1..2, 1).await;
    });
    assert_eq!((answer.status, answer.values()), (200, numbers(1..2)));
    drop(gateway);
}

/// Two gateways, and a third that comes later: with the cursor of the answer before nothing comes twice and nothing is left out.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_stream_is_read_with_a_cursor() {
    let dir = tempfile::tempdir().unwrap();
    let hub = RunningHub::start(&dir.path().join("hub")).await;
    let pages = Pages::of(&hub.handle).await;
    let mut gateways = Vec::new();
    for (name, numbers) in [("gw-1", 0..50), ("gw-2", 50..100), ("gw-3", 100..150)] {
        let partition = origin(&dir.path().join(name));
        stage(&partition, numbers, 5).await;
        gateways.push((name, partition));
    }
    let start = |(name, partition): &(&str, _)| {
        let log = Log {
            ..rig::log(partition)
        };
        RunningForwarder::start(&hub.url(), name, vec![log])
    };
    let (first, second) = (start(&gateways[0]), start(&gateways[1]));
    first.drained().await;
    second.drained().await;
    let records = "/v1/streams/telemetry/records";
    let mut got = Vec::new();
    let mut answer = pages.get(&format!("{records}?max=7")).await;
    let third = start(&gateways[2]);
    third.drained().await;
    while answer.status == 200 {
        assert!(answer.lines().len() <= 7);
        got.extend(answer.lines());
        let cursor = answer.header("sedge-cursor").to_owned();
        answer = pages.get(&format!("{records}?max=7&cursor={cursor}")).await;
    }
    assert_eq!(answer.status, 204);
    let mut all = values(&got);
    all.sort_by_key(|value| value.parse::<u64>().unwrap());
    assert_eq!(all, numbers(0..150));
    // Each gateway's in its order.
    for gateway in ["gw-1", "gw-2", "gw-3"] {
        let of = got.iter().filter(|line| line["gateway"] == gateway);
        let offsets: Vec<_> = of.map(|line| line["offset"].as_u64().unwrap()).collect();
        assert_eq!(offsets, Vec::from_iter(0..50), "{gateway}");
    }
    let latest = pages.get(&format!("{records}?from=latest")).await;
    assert_eq!(latest.status, 204);
    let last = pages.get(&format!("{records}?from=-1")).await;
    assert_eq!(last.lines().len(), 3, "one of each partition");
}

/// What live records passed is read beside them, and with the cursor each comes once.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_still_on_its_way_comes_beside_what_has_passed_it() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (
        origin(&dir.path().join("old")),
        origin(&dir.path().join("new")),
    );
    stage_sized(&old, 0..600, 5, 300).await;
    stage(&new, 600..610, 1).await;
    old.end();
    let hub = RunningHub::start(&dir.path().join("hub")).await;
    let logs = vec![
        Log {
            closed: true,
            may_be_passed: false,
            ..rig::log(&old)
        },
        Log {
            chain: 1,
            may_be_passed: false,
            ..rig::log(&new)
        },
    ];
    let slowly = sedge_uplink::forward::Limits {
        rate_bytes: Some(64_000),
        ..Default::default()
    };
    let gateway = RunningForwarder::start_limited(&hub.url(), logs, slowly, None);
    let pages = Pages::of(&hub.handle).await;
    let records = "/v1/streams/telemetry/records";
    until("a stream", || async {
        (pages.get(records).await.status != 404).then_some(())
    })
    .await;
    let mut got: Vec<Value> = Vec::new();
    let mut cursor = None::<String>;
    let mut was_ahead = false;
    while values(&got).len() < 610 {
        let asked = cursor
            .map(|cursor| format!("&cursor={cursor}"))
            .unwrap_or_default();
        let answer = pages.get(&format!("{records}?wait=20s{asked}")).await;
        assert!([200, 204].contains(&answer.status), "{answer:?}");
        got.extend(answer.lines());
        let in_new = got
            .iter()
            .filter(|line| line["epoch"] == 1 && !line["value"].is_null());
        if !was_ahead && in_new.count() == 10 && values(&got).len() < 600 {
            was_ahead = true;
            let one = "/v1/streams/telemetry/0/records";
            let last = pages.get(&format!("{one}?from=-3")).await;
            assert_eq!(last.values(), numbers(607..610));
            let latest = pages.get(&format!("{one}?from=latest")).await;
            let (end, next) = ("sedge-end-offset", "sedge-next-offset");
            assert_eq!(latest.header(end), latest.header(next));
        }
        cursor = Some(answer.header("sedge-cursor").to_owned());
    }
    assert!(was_ahead, "the live records came behind all of the backlog");
    // A line at a time: none comes twice, not even where one log ends and the next begins.
    gateway.drained().await;
    let one_by_one = "/v1/streams/telemetry/0/records?max=1";
    let (mut lines, mut at) = (Vec::new(), "595".to_owned());
    loop {
        let answer = pages.get(&format!("{one_by_one}&from={at}")).await;
        if answer.status == 204 {
            break;
        }
        assert!(lines.len() < 20, "it does not get on: {answer:?}");
        lines.extend(answer.lines());
        at = answer.header("sedge-next-offset").to_owned();
    }
    assert_eq!(values(&lines), numbers(595..610));
    let seams = lines
        .iter()
        .filter(|line| line["gap"]["cause"] == "new-log");
    assert_eq!(seams.count(), 1);
    let mut all = values(&got);
    all.sort_by_key(|value| value.parse::<u64>().unwrap());
    assert_eq!(all, numbers(0..610));
}

/// The offset in the event that comes next.
async fn first_offset(lines: &mut Lines<BufReader<TcpStream>>) -> u64 {
    loop {
        let line = timeout(LIMIT, lines.next_line()).await.expect("an event");
        if let Some(data) = line.unwrap().expect("it goes on").strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data).unwrap();
            return data["offset"].as_u64().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_on_and_a_reader_that_comes_again_misses_none() {
    let (_dir, hub, _gateway, pages) = filled(10).await;
    let accept = ("Accept", "text/event-stream");
    let path = "/v1/streams/telemetry/0/records?from=7";
    let mut lines = BufReader::new(pages.connect(path, &[accept]).await).lines();
    let mut next = async |begin: &str| loop {
        let line = timeout(LIMIT, lines.next_line())
            .await
            .expect("an event")
            .unwrap();
        let line = line.expect("it goes on");
        if let Some(rest) = line.strip_prefix(begin) {
            return rest.to_owned();
        }
    };
    assert_eq!(next("id: ").await, "8", "where to go on");
    let data: Value = serde_json::from_str(&next("data: ").await).unwrap();
    assert_eq!((&data["offset"], &data["value"]), (&7.into(), &7.into()));
    assert_eq!(next("id: ").await, "9");
    drop(lines);
    let again = [accept, ("Last-Event-ID", "9")];
    let mut lines = BufReader::new(pages.connect(path, &again).await).lines();
    assert_eq!(first_offset(&mut lines).await, 9);
    // The same of a whole stream: it comes to the address it came to first.
    let whole = "/v1/streams/telemetry/records";
    let cursor = pages.get(&format!("{whole}?max=9")).await;
    let again = [accept, ("Last-Event-ID", cursor.header("sedge-cursor"))];
    let first = format!("{whole}?from=latest");
    let mut merged = BufReader::new(pages.connect(&first, &again).await).lines();
    assert_eq!(first_offset(&mut merged).await, 9);
    // Where there is nothing, that is not said again and again.
    let comment = async {
        while let Some(line) = merged.next_line().await.unwrap() {
            if line.starts_with(':') {
                return;
            }
        }
    };
    assert!(timeout(LIMIT / 100, comment).await.is_err());
    // The hub's end is told, and ends the connection.
    hub.stop().await.unwrap();
    let mut rest = String::new();
    while let Some(line) = timeout(LIMIT, lines.next_line())
        .await
        .expect("an end")
        .unwrap()
    {
        rest += &line;
    }
    assert!(
        rest.contains("event: error") && rest.contains("being stopped"),
        "{rest}"
    );
}

/// Another gateway comes while somebody reads the whole stream: that one is read too.
#[tokio::test(flavor = "multi_thread")]
async fn who_reads_a_whole_stream_meets_the_gateways_that_come_later() {
    let (dir, hub, _gateway, pages) = filled(3).await;
    let accept = ("Accept", "text/event-stream");
    let path = "/v1/streams/telemetry/records?from=-1";
    let mut lines = BufReader::new(pages.connect(path, &[accept]).await).lines();
    assert_eq!(first_offset(&mut lines).await, 2);
    let later = origin(&dir.path().join("later"));
    stage(&later, 0..1, 1).await;
    let _gateway = RunningForwarder::start(&hub.url(), "gw-2", vec![rig::log(&later)]);
    assert_eq!(first_offset(&mut lines).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly_is_refused_with_what_would_be_accepted() {
    let (_dir, _hub, _gateway, pages) = filled(10).await;
    let records = "/v1/streams/telemetry/0/records";
    for (path, status, what) in [
        (
            format!("{records}?from=11"),
            416,
            "11 is beyond the end, 10",
        ),
        (format!("{records}?form=1"), 400, "unknown key \"form\""),
        (format!("{records}?from=soon"), 400, "accepted: an offset"),
        (format!("{records}?wait=1h"), 400, "accepted: a duration"),
        (
            "/v1/streams/telemetry/7/records".into(),
            404,
            "no such partition",
        ),
        (
            "/v1/streams/telemetry/x/records".into(),
            404,
            "no such partition",
        ),
        ("/v1/streams/nothing".into(), 404, "no gateway has sent"),
        (
            "/v1/streams/telemetry/records?cursor=zzz".into(),
            400,
            "cursor",
        ),
        (
            "/v1/streams/telemetry/records?cursor=zzz&from=1".into(),
            400,
            "leave `from` out",
        ),
        (
            "/v1/streams/telemetry/0/offset".into(),
            400,
            "time: missing",
        ),
    ] {
        let answer = pages.get(&path).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        let told = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(told.contains(what), "{path}: {told}");
    }
    for id in ["x", "\u{84}"] {
        let strange = pages.get_with(records, &[("Last-Event-ID", id)]).await;
        assert_eq!(strange.status, 400, "{id:?}: it would begin anew");
    }
    let elsewhere = pages
        .get_with("/v1/streams", &[("Host", "evil.example:7480")])
        .await;
    assert_eq!(elsewhere.status, 403, "a name of another site");
    for here in ["127.0.0.1:7480", "[::1]:7480", "localhost", "[::1]"] {
        assert_eq!(
            pages
                .get_with("/v1/streams", &[("Host", here)])
                .await
                .status,
            200,
            "{here}"
        );
    }
}

/// A hub that knows its consumers shows each what it may read, and nothing to anybody else; what is taken back ends at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_says_what_may_be_read() {
    let trusted = TrustedHub::start().await;
    let pages = Pages::of(&trusted.hub.handle).await;
    let gateway = trusted.gateway("gw-1", &["*"]).await;
    let partition = origin(&trusted.dir.path().join("gw"));
    stage(&partition, 0..10, 10).await;
    let running = RunningForwarder::start_with(
        &trusted.url(),
        "gw-1",
        vec![rig::log(&partition)],
        Some(gateway),
    );
    running.drained().await;
    let bearer = |name: &str, streams: &[&str]| {
        let access = trusted.consumer(name, streams, None);
        format!("Bearer {}", access.token.expect("a token").reveal())
    };
    let (mine, other) = (
        bearer("dashboard", &["telemetry"]),
        bearer("billing", &["meters"]),
    );
    let records = "/v1/streams/telemetry/0/records";
    let as_one =
        async |who: &str, path: &str| pages.get_with(path, &[("Authorization", who)]).await;
    assert_eq!(as_one(&mine, records).await.values(), numbers(0..10));
    assert_eq!(as_one(&other, records).await.status, 403);
    assert_eq!(
        as_one(&other, "/v1/streams").await.json()["streams"],
        serde_json::json!([])
    );
    let none = pages.get(records).await;
    assert_eq!(
        (none.status, none.header("www-authenticate")),
        (401, "Bearer")
    );
    for wrong in ["Bearer x", "Basic eDp4", "Bearer sedge1.AAAA"] {
        assert_eq!(as_one(wrong, records).await.status, 401, "{wrong}");
    }
    // Where tokens are asked for, names need not lead here.
    let named = [("Authorization", &*mine), ("Host", "hub.example")];
    assert_eq!(pages.get_with("/v1/streams", &named).await.status, 200);
    let events = [("Authorization", &*mine), ("Accept", "text/event-stream")];
    let mut open = pages
        .connect(&format!("{records}?from=latest"), &events)
        .await;
    let mut begun = [0; 12];
    timeout(LIMIT, open.read_exact(&mut begun))
        .await
        .expect("a head")
        .unwrap();
    trusted.revoke(Kind::Consumer, "dashboard");
    let mut rest = String::new();
    timeout(Duration::from_secs(10), open.read_to_string(&mut rest))
        .await
        .expect("it ends")
        .unwrap();
    assert!(rest.contains("event: error"), "{rest}");
    assert_eq!(as_one(&mine, records).await.status, 401);
}

/// What is described has these methods and no others, so nothing can be asked that is not described.
#[tokio::test(flavor = "multi_thread")]
async fn each_path_has_the_methods_that_its_description_says() {
    let (_dir, _hub, _gateway, pages) = filled(1).await;
    let described = pages.get("/v1/openapi.json").await;
    assert_eq!(described.header("content-type"), "application/json");
    let described = described.json();
    assert_eq!(described["openapi"], "3.1.0");
    let paths = described["paths"].as_object().unwrap();
    assert!(!paths.is_empty());
    for (path, methods) in paths {
        let asked = path
            .replace("{stream}", "telemetry")
            .replace("{number}", "0")
            .replace("{consumer}", "billing");
        let refused = pages.ask("PATCH", &asked, &[], "").await;
        assert_eq!(refused.status, 405, "{path}");
        let mut there: Vec<_> = refused.header("allow").split(',').collect();
        there.retain(|method| *method != "HEAD");
        there.sort_unstable();
        let methods = methods.as_object().unwrap().keys();
        let methods = methods.filter(|key| *key != "parameters");
        let methods: Vec<_> = methods.map(|key| key.to_ascii_uppercase()).collect();
        assert_eq!(there, methods, "{path}");
    }
}

fn unpacked(answer: &Answer) -> Vec<u8> {
    let mut body = Vec::new();
    flate2::read::GzDecoder::new(&answer.body[..])
        .read_to_end(&mut body)
        .expect("gzip");
    body
}

/// Who takes gzip gets the same lines in fewer bytes, with the same head.
#[tokio::test(flavor = "multi_thread")]
async fn who_takes_gzip_gets_the_same_in_fewer_bytes() {
    let (_dir, _hub, _gateway, pages) = filled(500).await;
    let records = "/v1/streams/telemetry/0/records";
    let gzip = [("Accept-Encoding", "br, gzip")];
    for path in [records, "/v1/streams/telemetry/records"] {
        let plain = pages.get(path).await;
        assert_eq!(plain.maybe("content-encoding"), None);
        let packed = pages.get_with(path, &gzip).await;
        assert_eq!(packed.header("content-encoding"), "gzip");
        assert_eq!(unpacked(&packed), plain.body);
        assert!(packed.body.len() < plain.body.len() / 5);
        for answer in [&plain, &packed] {
            assert_eq!(answer.header("vary"), "accept, accept-encoding");
            assert_eq!(
                answer.header("content-length"),
                answer.body.len().to_string()
            );
        }
        let head = pages.ask("HEAD", path, &gzip, "").await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        for name in ["content-encoding", "content-length", "vary"] {
            assert_eq!(head.header(name), packed.header(name), "{name}");
        }
    }
    let only = [("Accept-Encoding", "gzip, identity;q=0")];
    let short = pages.get_with("/v1/streams", &gzip).await;
    assert_eq!(short.maybe("content-encoding"), None, "it is not worth it");
    assert_eq!(short.header("vary"), "accept-encoding");
    let packed = pages.get_with("/v1/streams", &only).await;
    assert_eq!(unpacked(&packed), short.body);
    let none = pages
        .get_with(&format!("{records}?from=latest"), &only)
        .await;
    assert_eq!((none.status, none.maybe("content-encoding")), (204, None));
    let neither = [("Accept-Encoding", "br, identity;q=0")];
    let refused = pages.get_with(records, &neither).await;
    assert_eq!(refused.status, 406);
    // Events are for now, so they come as they are.
    let events = [("Accept", "text/event-stream"), gzip[0]];
    let mut open = pages.connect(&format!("{records}?from=499"), &events).await;
    let mut begun = String::new();
    while !begun.contains("\"offset\":499") {
        let mut bytes = [0; 512];
        let len = timeout(LIMIT, open.read(&mut bytes))
            .await
            .expect("an event")
            .unwrap();
        begun += std::str::from_utf8(&bytes[..len]).expect("text");
    }
    assert!(!begun.to_ascii_lowercase().contains("content-encoding"));
    let events = [("Accept", "text/event-stream"), only[0]];
    assert_eq!(pages.get_with(records, &events).await.status, 406);
}

//! A gateway's own streams, read over HTTP as a hub's are: the logs of a chain as one run, and what was in those that are removed.

mod pages;
mod rig;

use std::path::Path;
use std::sync::Arc;

use pages::{Answer, Pages};
use rig::{LIMIT, numbers, origin, stage};
use sedge_store::{Clock, Name, Partition, system_clock};
use sedge_uplink::hub::{OwnLog, OwnPartition, OwnStreams};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What a gateway shows, and its pages.
struct Given {
    streams: OwnStreams,
    pages: Pages,
    follows: JoinHandle<()>,
}

impl Given {
    /// Partition 3 of `telemetry`, with these logs: what is added to the offsets of each, and whether it has ended.
    async fn of(logs: &[(&Partition, u64, bool)]) -> Self {
        Self::behind(0, logs).await
    }

    /// The same, where logs that ended at `removed_to` are removed.
    async fn behind(removed_to: u64, logs: &[(&Partition, u64, bool)]) -> Self {
        let own = |(epoch, (log, shift, is_ended)): (u32, &(&Partition, u64, bool))| OwnLog {
            log: (*log).clone(),
            epoch,
            shift: *shift,
            is_ended: *is_ended,
            time: Arc::new(system_clock()) as Arc<Clock> as _,
        };
        let partition = OwnPartition {
            gateway: Name::new("gw-1").unwrap(),
            stream: Name::new("telemetry").unwrap(),
            partition: 3,
            logs: (0..).zip(logs).map(own).collect(),
            removed_to,
        };
        let streams = OwnStreams::new(vec![partition]);
        let pages = Pages::at(streams.http()).await;
        let following = streams.clone();
        Self {
            follows: tokio::spawn(async move { following.follow().await }),
            streams,
            pages,
        }
    }

    async fn get(&self, asked: &str) -> Answer {
        self.pages
            .get(&format!("/v1/streams/telemetry/{asked}"))
            .await
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        self.follows.abort();
    }
}

async fn log_of(dir: &Path, held: std::ops::Range<u64>) -> Partition {
    let log = origin(dir);
    stage(&log, held, 10).await;
    log
}

fn gap(answer: &Answer) -> Option<(u64, u64, u64, String)> {
    let lines = answer.lines();
    let gap = &lines.iter().find(|line| !line["gap"].is_null())?["gap"];
    let number = |key: &str| gap[key].as_u64().unwrap();
    let cause = gap["cause"].as_str().unwrap().to_owned();
    Some((number("from"), number("to"), number("lost"), cause))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_logs_of_a_chain_are_read_as_one_run_with_the_paths_of_a_hub() {
    let dir = tempfile::tempdir().unwrap();
    let first = log_of(&dir.path().join("a"), 0..30).await;
    let second = log_of(&dir.path().join("b"), 30..50).await;
    let given = Given::of(&[(&first, 0, true), (&second, 30, false)]).await;
    let listed = given.pages.get("/v1/streams").await.json();
    let partition = &listed["streams"][0]["partitions"][0];
    assert_eq!(listed["streams"][0]["stream"], "telemetry");
    let shown =
        ["gateway", "number", "partition", "earliest", "end", "epoch"].map(|k| &partition[k]);
    let shown = serde_json::to_value(shown).unwrap();
    assert_eq!(shown, serde_json::json!(["gw-1", 3, 3, 0, 50, 1]));
    let all = given.get("3/records").await;
    assert_eq!((all.status, all.values()), (200, numbers(0..50)));
    assert_eq!(gap(&all), Some((30, 30, 0, "new-log".into())));
    assert_eq!(all.header("sedge-end-offset"), "50");
    for (asked, got) in [
        ("from=-5", 45..50),
        ("from=25&max=8", 25..33),
        ("from=30", 30..50),
    ] {
        let answer = given.get(&format!("3/records?{asked}")).await;
        assert_eq!(answer.values(), numbers(got), "{asked}");
    }
    let merged = given.get("records?max=40").await;
    assert_eq!(merged.values(), numbers(0..40));
    let on = format!("records?cursor={}", merged.header("sedge-cursor"));
    assert_eq!(given.get(&on).await.values(), numbers(40..50));
    let taken = all.lines().pop().unwrap()["ingested"]
        .as_str()
        .unwrap()
        .to_owned();
    let found = given.get(&format!("3/offset?time={taken}")).await.json();
    assert!((30..50).contains(&found["runs"][0]["offset"].as_u64().unwrap()));
    let counts = given
        .get("counts?from=2026-01-01T00:00:00Z&to=2100-01-01T00:00:00Z&steps=1")
        .await;
    assert_eq!(counts.json()["steps"][0]["events"], 50);
}

/// Logs that every hub had are removed, with what was in them; the offsets of the others stay.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_in_logs_that_are_removed_is_a_gap_and_offsets_stay() {
    let dir = tempfile::tempdir().unwrap();
    let first = log_of(&dir.path().join("a"), 100..130).await;
    let second = log_of(&dir.path().join("b"), 130..150).await;
    let third = log_of(&dir.path().join("c"), 150..160).await;
    let chain = [
        (&first, 100, true),
        (&second, 130, true),
        (&third, 150, false),
    ];
    let given = Given::of(&chain).await;
    let all = given.get("3/records").await;
    assert_eq!(gap(&all), Some((0, 100, 100, "evicted".into())));
    assert_eq!(all.values(), numbers(100..160));
    given.streams.let_go("telemetry", 3, second.log_id());
    let behind = given.get("3/records?from=120").await;
    assert_eq!(gap(&behind), Some((130, 150, 20, "evicted".into())));
    assert_eq!(
        behind.values(),
        [numbers(120..130), numbers(150..160)].concat()
    );
    given.streams.let_go("telemetry", 3, first.log_id());
    let behind = given.get("records").await;
    assert_eq!(gap(&behind), Some((0, 150, 150, "evicted".into())));
    assert_eq!(behind.values(), numbers(150..160));
    let listed = given.get("").await;
    assert_eq!(listed.status, 404);
    let listed = given.pages.get("/v1/streams/telemetry").await.json();
    assert_eq!(listed["partitions"][0]["earliest"], 150);
}

/// The stream is not in the configuration any more, and its last log goes; or one that diverged stays, and what stood behind it has gone.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_does_not_go_back_when_the_last_log_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(&dir.path().join("a"), 100..130).await;
    let given = Given::behind(100, &[(&log, 100, true)]).await;
    let at_end = given.get("3/records?from=-30").await;
    assert_eq!(at_end.header("sedge-next-offset"), "130");
    let events = ("Accept", "text/event-stream");
    let path = "/v1/streams/telemetry/3/records?from=120";
    let mut lines = BufReader::new(given.pages.connect(path, &[events]).await).lines();
    let mut next = async || loop {
        let line = timeout(LIMIT, lines.next_line()).await.expect("an event");
        let line = line.unwrap().expect("it goes on");
        if let Some(data) = line.strip_prefix("data: ") {
            return serde_json::from_str::<Value>(data).unwrap();
        }
    };
    for value in 120..130 {
        assert_eq!(next().await["value"], value);
    }
    given.streams.let_go("telemetry", 3, log.log_id());
    let latest = given.get("3/records?from=latest").await;
    assert_eq!(
        (latest.status, latest.header("sedge-next-offset")),
        (204, "130")
    );
    assert_eq!(given.get("3/records?from=130").await.status, 204);
    assert_eq!(given.get("3/records?from=131").await.status, 416);
    let late = given.get("3/records?from=120").await;
    assert_eq!(gap(&late), Some((120, 130, 10, "evicted".into())));
    assert_eq!(late.header("sedge-next-offset"), "130");
    let stays = Given::behind(150, &[(&log, 100, true)]).await;
    let listed = stays.pages.get("/v1/streams/telemetry").await.json();
    assert_eq!(listed["partitions"][0]["end"], 150);
    let behind = stays.get("3/records?from=110").await;
    assert_eq!(behind.values(), numbers(110..130));
    assert_eq!(gap(&behind), Some((130, 150, 20, "evicted".into())));
}

/// Whoever waits is woken by what comes, and told when the gateway begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_or_follows_is_given_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(&dir.path().join("a"), 0..3).await;
    let given = Given::of(&[(&log, 0, false)]).await;
    let (waited, ()) = tokio::join!(given.get("3/records?from=3&wait=30s"), stage(&log, 3..4, 1));
    assert_eq!(waited.values(), numbers(3..4));
    let events = ("Accept", "text/event-stream");
    let path = "/v1/streams/telemetry/3/records?from=3";
    let mut lines = BufReader::new(given.pages.connect(path, &[events]).await).lines();
    let mut next = async |begin: &str| loop {
        let line = timeout(LIMIT, lines.next_line())
            .await
            .expect("an event")
            .unwrap();
        if let Some(rest) = line.expect("it goes on").strip_prefix(begin) {
            return serde_json::from_str::<Value>(rest).unwrap();
        }
    };
    assert_eq!(next("data: ").await["value"], 3);
    stage(&log, 4..5, 1).await;
    assert_eq!(next("data: ").await["value"], 4);
    given.streams.stop();
    let farewell = next("data: ").await["error"].as_str().unwrap().to_owned();
    assert!(farewell.contains("gateway is being stopped"), "{farewell}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_hub_has_is_not_there_and_pages_of_other_sites_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(&dir.path().join("a"), 0..3).await;
    let given = Given::of(&[(&log, 0, false)]).await;
    for path in [
        "/v1/status",
        "/v1/consumers",
        "/v1/consumers/a/offsets",
        "/",
    ] {
        assert_eq!(given.pages.get(path).await.status, 404, "{path}");
    }
    let group = given.get("records?from=@consumer:billing").await;
    assert_eq!(group.status, 404);
    assert!(group.text().contains("its hub does"), "{}", group.text());
    let described = given.pages.get("/v1/openapi.json").await.json();
    let mut paths = described["paths"].as_object().unwrap().keys();
    assert!(paths.all(|path| !path.contains("consumers") && path != "/v1/status"));
    let unknown = given.pages.get("/v1/streams/alarms").await;
    assert!(
        unknown.text().contains("this gateway has no stream"),
        "{}",
        unknown.text()
    );
    let foreign = [("Host", "evil.example")];
    let foreign = given.pages.get_with("/v1/streams", &foreign).await;
    assert_eq!(foreign.status, 403);
}

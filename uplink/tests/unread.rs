//! The hub's disk does not give a place of a stream for a moment: whoever wants it waits, and nothing of it is lost.

mod pages;
mod rig;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use pages::Pages;
use rig::{RunningForwarder, RunningHub, origin_of, pull_all, records, stage_sized};
use sedge_uplink::forward::Log;

/// The file of the first segment of the mirror that holds partition `number`.
fn first_segment(hub: &Path, number: u32) -> PathBuf {
    let mirrors = hub.join("mirrors");
    let mut found: Vec<_> = std::fs::read_dir(&mirrors)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let identity = std::fs::read_to_string(path.join("identity.toml"));
            identity.is_ok_and(|text| text.contains(&format!("number = {number}\n")))
        })
        .collect();
    let mirror = found.pop().expect("it has a mirror");
    assert!(found.is_empty(), "{found:?}");
    let log = mirror.join("log");
    let mut segments: Vec<_> = std::fs::read_dir(&log)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "log"))
        .collect();
    segments.sort();
    segments.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_what_the_disk_does_not_give_waits_and_the_others_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("hub");
    let hub = RunningHub::start(&folder).await;
    let mut logs = Vec::new();
    for partition in [0, 1] {
        let log = origin_of(&dir.path().join(partition.to_string()), 16 << 20);
        // More than one segment each: nobody has looked at the first since it was written.
        stage_sized(&log, 0..12_000, 500, 250).await;
        logs.push(Log {
            partition,
            ..rig::log(&log)
        });
    }
    let gateway = RunningForwarder::start(&hub.url(), "gw-1", logs);
    gateway.drained().await;
    let (segment, kept) = (first_segment(&folder, 0), dir.path().join("kept"));
    std::fs::rename(&segment, &kept).unwrap();
    // The first page of this cannot be read.
    symlink("/proc/self/mem", &segment).unwrap();

    let pages = Pages::of(&hub.handle).await;
    let of = |number: u32| format!("/v1/streams/telemetry/{number}/records?from=earliest&max=5");
    let unread = pages.get(&of(0)).await;
    assert_eq!(unread.status, 503, "{unread:?}");
    assert!(unread.text().contains("cannot be read"), "{unread:?}");
    assert_eq!(pages.get(&of(1)).await.lines().len(), 5);
    // All of a stream: what is there is given, and not that there is nothing more.
    let (mut place, mut given) = ("from=earliest".to_owned(), 0);
    let last = loop {
        let at = format!("/v1/streams/telemetry/records?max=5000&{place}");
        let answer = pages.get(&at).await;
        if answer.status != 200 {
            break answer;
        }
        given += answer.lines().len();
        place = format!("cursor={}", answer.header("sedge-cursor"));
    };
    assert_eq!((last.status, given), (503, 12_000));
    let gaps = pages
        .get("/v1/streams/telemetry/0/records?only=gaps&from=earliest")
        .await;
    assert_eq!(gaps.status, 503, "{gaps:?}");

    // Who pulls waits for it.
    let url = hub.url();
    let pulling = tokio::spawn(async move { pull_all(&url).await });
    let again = pages.get(&of(0)).await;
    assert_eq!(again.status, 503, "{again:?}");
    assert!(!pulling.is_finished());
    std::fs::rename(&kept, &segment).unwrap();
    let pulled = pulling.await.unwrap();
    assert_eq!((pulled.len(), records(&pulled).len()), (24_000, 24_000));
    assert_eq!(pages.get(&of(0)).await.lines().len(), 5);
}

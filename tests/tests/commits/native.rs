//! A group of sedge's own, as `sedge pull --group` has it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sedge_tests::rig::kafka::TOPIC;
use sedge_uplink::client::{Access, Item, PullOptions, Reader, Start};

use crate::promise::Promise;

/// Reads and commits; every few commits somebody else goes on in its place.
pub(crate) fn reads(hub: SocketAddr, group: &'static str, promise: &Promise, over: &AtomicBool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let mut turn = 0;
    while !over.load(Ordering::Acquire) {
        turn += 1;
        let member = format!("member-{turn}");
        let options = PullOptions {
            url: format!("sedge://{hub}"),
            stream: TOPIC.into(),
            start: Start::Earliest,
            follow: false,
            group: Some((group.into(), member)),
            group_wait: Duration::from_secs(5),
            access: Access::default(),
        };
        runtime.block_on(one_member(options, promise));
    }
}

/// One that ends where the stream ended, or when the hub does.
async fn one_member(options: PullOptions, promise: &Promise) {
    let mut reader = Reader::new(options);
    // Partition, where it was before, where it is.
    let mut places: Vec<(u32, u64)> = Vec::new();
    let floors: Vec<_> = (0..crate::PARTITIONS).map(|n| promise.floor(n)).collect();
    for _ in 0..COMMITS {
        for _ in 0..ITEMS {
            let Ok(Some(item)) = reader.next().await else {
                break;
            };
            let number = item.origin().number;
            if !places.iter().any(|(known, _)| *known == number) {
                promise.found(number, floors[number as usize], item.first());
                places.push((number, item.first()));
            }
            for (known, place) in &mut places {
                if *known == number {
                    assert_eq!(*place, item.first(), "what follows is next");
                    *place = item.next();
                }
            }
            if let Item::Record(record) = item {
                promise.read(number, record.offset, record.value);
            }
        }
        let sent = places.iter();
        let sent: Vec<_> = sent.map(|(n, at)| promise.sends(*n, *at)).collect();
        if reader.flushed().await.is_err() {
            return;
        }
        sent.into_iter().for_each(|sent| promise.answered(sent));
    }
    reader.leave().await.ok();
}

const ITEMS: u32 = 20;
const COMMITS: u32 = 5;

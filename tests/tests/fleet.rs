//! A thousand gateways have data for a hub that is down, and then it comes up.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use sedge_tests::rig::daemon::Daemon;
use sedge_tests::rig::scratch::Tmpfs;
use sedge_tests::rig::site::{STREAM, Setup, Site};
use sedge_tests::rig::{alone, tell, times};
use sedge_tests::simulator::with_fleet;
use sedge_uplink::client::{Access, Item, PullOptions, Reader, Start};

/// All of them (`SEDGE_GATEWAYS` for another number) knock within the same second: at a hub that has never heard of them, and at one that was killed with all of them connected. What they have
/// is there once and in order, nobody waits for long, and the hub needs little memory for each.
#[test]
fn a_thousand_gateways_that_reconnect_at_once_are_all_served() {
    let _alone = alone();
    allow_descriptors();
    let gateways = times("SEDGE_GATEWAYS", GATEWAYS) as usize;
    // A log that joins costs a dozen syncs, whoever waits beside it. What a disk takes for them is not told here.
    let memory = Tmpfs::create(HUB_DISK_KIB).ok();
    let site = Site::new(Setup {
        mirror_capacity: "5MiB".into(),
        hub_data: memory.as_ref().map(|memory| memory.path().join("hub")),
        ..Setup::default()
    });
    with_fleet(gateways, site.hub, async |mut fleet| {
        fleet.take_in(EVENTS, EVENT_BYTES).await;
        fleet.knocked().await;
        let hub = start_hub(&site);
        let as_strangers = fleet.drained(WITHIN).await;
        let for_strangers = hub.most_memory();

        hub.kill();
        fleet.take_in(EVENTS, EVENT_BYTES).await;
        fleet.knocked().await;
        let hub = start_hub(&site);
        let as_guests = fleet.drained(WITHIN).await;
        let for_guests = hub.most_memory();

        tell(&format!(
            "{gateways} strangers: {as_strangers:?}, {for_strangers} KiB; guests: {as_guests:?}, {for_guests} KiB"
        ));
        let slowest = as_strangers.last.max(as_guests.last);
        assert!(
            memory.is_none() || slowest < GIVES_UP_AFTER,
            "somebody waits for too long"
        );
        assert!(for_strangers.max(for_guests) < HUB_KIB);
        let seen = everything(&format!("sedge://{}", site.hub)).await;
        assert_eq!(seen.len(), gateways);
        for (gateway, numbers) in seen {
            let all: Vec<u64> = (0..2 * EVENTS).collect();
            assert_eq!(numbers, all, "of {gateway}");
        }
        hub.terminate(STOP_WITHIN);
    });
}

/// It begins with as few descriptors as a service manager allows at first.
fn start_hub(site: &Site) -> Daemon {
    let hub = site.hub_command();
    let mut within = Command::new("sh");
    within.args(["-c", "ulimit -S -n 1024 && exec \"$0\" \"$@\""]);
    within.arg(hub.get_program()).args(hub.get_args());
    site.start_as_hub(&mut within)
}

/// The numbers of each gateway's events, as they come.
async fn everything(url: &str) -> BTreeMap<String, Vec<u64>> {
    let mut reader = Reader::new(PullOptions {
        url: url.into(),
        stream: STREAM.into(),
        start: Start::Earliest,
        follow: false,
        group: None,
        group_wait: Duration::ZERO,
        access: Access::default(),
    });
    let mut seen: BTreeMap<_, Vec<_>> = BTreeMap::new();
    while let Some(item) = reader.next().await.expect("a hub that answers") {
        let Item::Record(record) = item else {
            panic!("nothing is missing: {item:?}")
        };
        let value = std::str::from_utf8(&record.value).expect("a number");
        let number = value.trim_end().parse().expect("a number");
        let gateway = record.origin.gateway.to_string();
        seen.entry(gateway).or_default().push(number);
    }
    seen
}

/// A connection for each gateway.
fn allow_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("nobody needs leave for as many as are allowed");
}

const GATEWAYS: u64 = 1_000;
const HUB_DISK_KIB: u64 = 4 << 20;
const EVENTS: u64 = 20;
const EVENT_BYTES: usize = 1_000;
const WITHIN: Duration = Duration::from_secs(60);
/// A gateway that hears nothing for so long hangs up, and begins again.
const GIVES_UP_AFTER: Duration = Duration::from_secs(30);
const HUB_KIB: u64 = 256 << 10;
const STOP_WITHIN: Duration = Duration::from_secs(10);

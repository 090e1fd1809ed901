//! From a gateway's log to a reader, through outages and deaths of either end.

mod rig;

use rig::{RunningForwarder, RunningHub, log, numbers, origin, pull_all, stage};

/// A hub that is not there costs nothing but time: what was staged meanwhile arrives once, in order.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_staged_during_an_outage_arrives_once_and_in_order() {
    let (dir, log_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let partition = origin(log_dir.path());
    let hub = RunningHub::start(dir.path()).await;
    let (address, url) = (hub.address, hub.url());
    let gateway = RunningForwarder::start(&url, "gw-7", vec![log(&partition)]);
    stage(&partition, 0..100, 7).await;
    gateway.drained().await;
    hub.kill().await;
    stage(&partition, 100..2_000, 10).await;
    let hub = RunningHub::start_with(sedge_uplink::hub::HubOptions::new(dir.path()), address).await;
    gateway.drained().await;
    assert_eq!(pull_all(&url).await, numbers(0..2_000));
    hub.stop().await.unwrap();
}

//! What a watcher sees of a forwarder and a hub: those that wait for the other side are in time, those that do not turn are late.

use std::pin::pin;
use std::time::Duration;

use sedge_store::watch;
use sedge_uplink::forward::{ForwardOptions, Forwarder, Limits, Time};
use sedge_uplink::hub::{Hub, HubOptions};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{advance, timeout};

const MINUTE: Duration = Duration::from_secs(60);
const IN_TIME: Duration = Duration::from_secs(1);

/// Nobody listens at the hub's address: for an hour the forwarder tries again and again, and is never late. Then its task gets no turn for a few
/// minutes, and it is; with the next turn all is well.
#[tokio::test(start_paused = true)]
async fn a_forwarder_without_a_hub_is_in_time_and_one_without_a_turn_is_late() {
    let options = ForwardOptions {
        url: format!("sedge://{}", nobody().await),
        identity: "gw-1".into(),
        uplink: 1,
        retry_max: Duration::from_secs(30),
        trust: None,
        limits: Limits::default(),
        time: Time::default(),
        live_first_after: None,
    };
    let ((_logs, seen), (tell, _events)) = (watch::channel(Vec::new()), mpsc::unbounded_channel());
    let forwarder = Forwarder::new(options, seen, tell).unwrap();
    let pulse = forwarder.handle().pulse();
    let mut run = pin!(forwarder.run(std::future::pending()));
    for _ in 0..3_600 {
        assert!(timeout(IN_TIME, &mut run).await.is_err());
        assert!(pulse.late() < IN_TIME, "{:?}", pulse.late());
    }
    advance(5 * MINUTE).await;
    assert!(pulse.late() > 3 * MINUTE, "{:?}", pulse.late());
    assert!(timeout(IN_TIME, &mut run).await.is_err());
    assert!(pulse.late() < IN_TIME, "{:?}", pulse.late());
}

/// The same at the loop with which a hub accepts connections: that nobody comes is no fault of its.
#[tokio::test(start_paused = true)]
async fn a_hub_to_which_nobody_comes_is_in_time_and_one_without_a_turn_is_late() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::open(HubOptions::new(dir.path())).await.unwrap();
    let handle = hub.handle();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut run = Box::pin(hub.run(listener, std::future::pending::<()>()));
    for _ in 0..600 {
        assert!(timeout(IN_TIME, &mut run).await.is_err());
        assert!(handle.accepting().late() < IN_TIME);
    }
    advance(5 * MINUTE).await;
    assert!(handle.accepting().late() > 3 * MINUTE);
    assert!(timeout(IN_TIME, &mut run).await.is_err());
    assert!(handle.accepting().late() < IN_TIME);
    assert_eq!(handle.committing().late(), Duration::ZERO);
}

/// An address at which nobody listens any more.
async fn nobody() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

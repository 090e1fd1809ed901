//! Thousands who connect and say nothing, or say it one byte at a time: who means it is served as before.

mod rig;
mod trusted;

use std::time::Duration;

use rig::{RunningForwarder, log, numbers, options, origin, pull, stage};
use sedge_uplink::client::PullOptions;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use trusted::TrustedHub;

/// How many descriptors this process may have; the stories need some more than the usual 1,024.
fn raise_descriptors(wanted: u64) -> bool {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= wanted);
    if enough(now.current) {
        return true;
    }
    let more = Rlimit {
        current: Some(wanted),
        maximum: now.maximum,
    };
    enough(now.maximum) && setrlimit(Resource::Nofile, more).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_idle_connections_and_a_slow_loris_leave_the_others_unharmed() {
    if !raise_descriptors(6_000) {
        eprintln!("SKIPPED: this process may not have 6,000 descriptors");
        return;
    }
    let hub = TrustedHub::start().await;
    let trust = hub.gateway("gw-7", &["*"]).await;
    let access = hub.consumer("dash", &["*"], None);
    let address = hub.hub.address;
    let crowd = tokio::spawn(async move {
        let mut idle = Vec::new();
        let mut came = 0_u64;
        loop {
            // Those that were thrown out come again.
            idle.retain(|(tcp, _): &(TcpStream, bool)| !is_over(tcp));
            while idle.len() < 2_000 {
                let Ok(tcp) = TcpStream::connect(address).await else {
                    break;
                };
                came += 1;
                idle.push((tcp, came.is_multiple_of(4)));
            }
            for (tcp, slow) in &mut idle {
                if *slow {
                    // A ClientHello that never ends.
                    drop(tcp.try_write(&[0x16]));
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let partition = origin(dir.path());
    let logs = vec![log(&partition)];
    let gateway = RunningForwarder::start_with(&hub.url(), "gw-7", logs, Some(trust.clone()));
    let began = Instant::now();
    let mut from = 0;
    while began.elapsed() < Duration::from_secs(8) {
        stage(&partition, from..from + 500, 50).await;
        from += 500;
        gateway.drained().await;
    }
    assert_eq!(
        gateway.handle.status().sessions,
        1,
        "it was never interrupted"
    );
    // One that comes new, in the midst of them, gets in too.
    let came = Instant::now();
    let pulled = pull(PullOptions {
        access,
        ..options(&hub.url())
    })
    .await;
    assert_eq!(pulled, numbers(0..from));
    assert!(
        came.elapsed() < Duration::from_secs(10),
        "{:?}",
        came.elapsed()
    );
    assert!(!crowd.is_finished());
    crowd.abort();
    let status = hub.hub.handle.status();
    assert!(
        status.refused > 1_000,
        "they were pushed out: {}",
        status.refused
    );
    eprintln!(
        "{from} events while {} connections were pushed out; a reader was served within {:?}",
        status.refused,
        came.elapsed()
    );
    gateway.kill().await;
}

fn is_over(tcp: &TcpStream) -> bool {
    let mut byte = [0; 1];
    !matches!(tcp.try_read(&mut byte), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
}

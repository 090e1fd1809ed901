//! A gateway that was cut off for long comes back over a thin link: what happens now reaches a consumer at once, beside the backlog.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use sedge_tests::rig::device::{Device, Habit};
use sedge_tests::rig::ledger::settle;
use sedge_tests::rig::site::{Setup, Site};
use sedge_tests::rig::wire::Wire;
use sedge_tests::rig::{alone, eventually, skip, tell, times};
use serde_json::Value;

/// A backlog that the thin link would carry for minutes (`SEDGE_BACKLOG` events).
#[test]
fn what_happens_now_passes_a_backlog_on_a_thin_link() {
    let name = "what_happens_now_passes_a_backlog_on_a_thin_link";
    let _alone = alone();
    let setup = Setup {
        capacity: "512MiB".into(),
        more_of_uplink: "live_first_after = \"2s\"".into(),
        ..Setup::default()
    };
    let begun = Wire::create().and_then(|wire| {
        let (site, hub) = Site::beyond(&wire, setup)?;
        Ok((wire, site, hub))
    });
    // The wire goes last, as the first of the three: the hub stands in it.
    let (wire, site, hub) = match begun {
        Ok(begun) => begun,
        Err(missing) => return skip(name, &missing),
    };
    let backlog = times("SEDGE_BACKLOG", 30_000);
    let agent = site.start_agent();
    site.wait_for_agent();
    eventually(SOON, "a session", || is_up(&site).then_some(()));
    wire.reset();
    eventually(SOON, "the session is over", || {
        (!is_up(&site)).then_some(())
    });
    wire.unplug();

    let cut_off = Instant::now();
    let past = Device::start(Habit {
        count: backlog,
        in_flight: 500,
        rest: Duration::ZERO,
        ..Habit::new(site.devices, "past")
    });
    let past = past.finish_count(FILLED_WITHIN);
    let now = Device::start(Habit {
        in_flight: 1,
        rest: Duration::from_millis(100),
        ..Habit::new(site.devices, "now")
    });
    eventually(SOON, "the backlog is old", || {
        (cut_off.elapsed() > OLD && now.acked() > 0).then_some(())
    });
    let mut follower = Follower::start(&wire, &site);
    wire.plug_in_throttled(KILOBITS);
    eventually(SOON, "a session", || is_up(&site).then_some(()));
    let (back, published) = (Instant::now(), now.acked());
    let (came, epoch) = follower.until(back + PASSED_WITHIN, |line| {
        let topic = line["headers"]["topic"].as_str().unwrap_or_default();
        topic == "sensors/now/temp" && line["value"]["n"].as_u64() >= Some(published)
    });
    let lag = lag(&site);
    tell(&format!(
        "{backlog} events of backlog at {KILOBITS} kbit/s: what happened after the reconnect came {:.2?} after it; {lag} events are still to come",
        came.duration_since(back)
    ));
    assert_eq!(epoch, 1);
    assert!(lag > backlog / 2, "the backlog was there already");

    wire.heal();
    let now = now.finish(DRAINED_WITHIN);
    let sent = (past.fresh.len() + now.fresh.len()) as u64;
    let pulled = site.pull_all(sent, DRAINED_WITHIN);
    pulled.assert_dense();
    let balance = settle(&[past, now], &pulled);
    assert_eq!((balance.acked, pulled.lost()), (sent, 0));
    tell(&format!("{balance:?}"));
    drop(follower);
    agent.terminate(SOON);
    hub.terminate(SOON);
}

fn is_up(site: &Site) -> bool {
    site.status()["uplinks"][0]["up"] == true
}

fn lag(site: &Site) -> u64 {
    site.status()["uplinks"][0]["lag"].as_u64().expect("a lag")
}

/// Somebody who follows the stream.
struct Follower {
    pull: Child,
    lines: Receiver<(Instant, Value)>,
}

impl Follower {
    fn start(wire: &Wire, site: &Site) -> Self {
        let mut command = wire.inside(&site.follow_command());
        let pull = command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut pull = pull.spawn().expect("a command");
        let out = BufReader::new(pull.stdout.take().expect("it is piped"));
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).expect("a line of JSON");
                if tell.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        Self { pull, lines }
    }

    /// When a line came that is `wanted`, and in which log of the chain it stands.
    fn until(&mut self, deadline: Instant, wanted: impl Fn(&Value) -> bool) -> (Instant, u64) {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (at, line) = self.lines.recv_timeout(left).expect("it comes in time");
            if wanted(&line) {
                return (at, line["epoch"].as_u64().expect("an epoch"));
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.pull.kill());
        drop(self.pull.wait());
    }
}

const KILOBITS: u32 = 256;
/// Above `live_first_after`.
const OLD: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(30);
const FILLED_WITHIN: Duration = Duration::from_secs(300);
/// In quiet it is below two seconds; the backlog alone takes longer than this.
const PASSED_WITHIN: Duration = Duration::from_secs(30);
const DRAINED_WITHIN: Duration = Duration::from_secs(300);

//! Events that come through a broker: to a bare subscriber, which only acknowledges, and to sedge's `mqtt` source, which stores first.
//!
//! A run is over when the last event has been taken at the far end, and counts only if each of them has come once.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sedge_benches::load::{Load, Until};
use sedge_benches::observe::{Metrics, Process};
use sedge_benches::peers::{BEHIND, Running};
use sedge_benches::subscriber::Subscriber;
use sedge_benches::table::{SEDGE, Table};
use sedge_tests::rig::free_address;

use super::{SECOND_LAP_EVENTS, load};

/// What sedge is compared with here.
pub(super) const YARDSTICK: &str = "bare subscriber";

/// `count` events through a broker with each window, to one subscriber after the other.
pub(super) fn measure(count: u64, table: &mut Table) -> Result<()> {
    let broker = Running::start_broker()?;
    let mut subscriber = Subscriber::open(broker.address, "sensors/#")?;
    for (in_flight, name, _) in WINDOWS {
        let took = timed(&published(broker.address, in_flight, count), || {
            subscriber.take(count)
        })?;
        let rate = count as f64 / took.as_secs_f64();
        table.add(name, "events/s", "", YARDSTICK, rate);
    }
    drop((subscriber, broker));
    sedge(count, table)
}

fn sedge(count: u64, table: &mut Table) -> Result<()> {
    let broker = Running::start_broker()?;
    let http = free_address();
    let agent = Running::start_agent_behind(broker.address, http)?;
    let process = Process(agent.pid());
    // Past the first lap of the files, by the agent's own door, which is faster.
    published(agent.address, 1_000, SECOND_LAP_EVENTS).run()?;
    let source = Source(Metrics(http));
    source.subscribed(broker.address)?;
    for (in_flight, name, cpu_name) in WINDOWS {
        let (before, worked) = (source.taken()?, process.cpu_seconds()?);
        let took = timed(&published(broker.address, in_flight, count), || {
            source.settle(before.settled + count)
        })?;
        let worked = process.cpu_seconds()? - worked;
        let expected = Taken {
            settled: before.settled + count,
            next: before.next + count,
        };
        let taken = source.taken()?;
        ensure!(taken == expected, "expected {expected:?}, found {taken:?}");
        let rate = count as f64 / took.as_secs_f64();
        table.add(name, "events/s", "", SEDGE, rate);
        table.add(cpu_name, "s", "", SEDGE, worked / count as f64 * 1e6);
    }
    Ok(())
}

/// From the first publish until `arrive` says that all of it is there.
fn timed(load: &Load, arrive: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| load.run());
        let arrived = arrive().map(|()| begun.elapsed());
        publisher.join().expect("the publisher does not panic")?;
        arrived
    })
}

fn published(to: SocketAddr, in_flight: u16, count: u64) -> Load {
    load(to, in_flight, None, Until::Count(count))
}

/// The agent's `mqtt` source, seen from outside.
struct Source(Metrics);

/// What it has taken so far.
#[derive(Debug, PartialEq, Eq)]
struct Taken {
    settled: u64,
    /// One past the last durable offset of the stream.
    next: u64,
}

impl Source {
    /// Waits until what is published arrives: before its SUBACK a subscriber gets nothing.
    fn subscribed(&self, broker: SocketAddr) -> Result<()> {
        for _ in 0..PROBES_MAX {
            published(broker, 1, 1).run()?;
            let sent = Instant::now();
            while sent.elapsed() < PROBE_WITHIN {
                if self.settled()? > 0 {
                    return Ok(());
                }
                std::thread::sleep(POLL);
            }
        }
        anyhow::bail!("the agent does not subscribe")
    }

    /// Waits until `count` events are on disk and acknowledged.
    fn settle(&self, count: u64) -> Result<()> {
        let (mut seen, mut since) = (0, Instant::now());
        while seen < count {
            std::thread::sleep(POLL);
            let settled = self.settled()?;
            if settled > seen {
                (seen, since) = (settled, Instant::now());
            }
            ensure!(
                since.elapsed() < SILENCE,
                "{seen} of {count} are settled, and no more come"
            );
        }
        Ok(())
    }

    fn settled(&self) -> Result<u64> {
        let sample = format!("sedge_source_settled_total{{source=\"{BEHIND}\"");
        self.0.sum(&sample)
    }

    fn taken(&self) -> Result<Taken> {
        Ok(Taken {
            settled: self.settled()?,
            next: self
                .0
                .sum("sedge_stream_next_offset{stream=\"telemetry\"")?,
        })
    }
}

/// In flight at the publisher, and the names of rate and CPU time.
const WINDOWS: [(u16, &str, &str); 2] = [
    (
        100,
        "100 in flight at the publisher",
        "100 in flight: CPU a million",
    ),
    (
        1_000,
        "1,000 in flight at the publisher",
        "1,000 in flight: CPU a million",
    ),
];
/// Asking costs the agent a little; a run takes seconds.
const POLL: Duration = Duration::from_millis(20);
const PROBE_WITHIN: Duration = Duration::from_secs(1);
const PROBES_MAX: u32 = 30;
const SILENCE: Duration = Duration::from_secs(30);

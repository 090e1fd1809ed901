//! Gathers the status of a running gateway. Reads what others count; changes nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use sedge_config::checked;
use sedge_core::{Micros, Offset};
use sedge_store::{Partition, system_clock};
use sedge_uplink::forward::{ForwardHandle, ForwardStatus};

use super::disk::{Chain, Disk};
use crate::status::{self, Losses, Rates, Status};
use crate::telemetry::{self, Telemetry};

/// Looks at a gateway.
pub(super) struct Looker {
    agent: Arc<checked::Agent>,
    telemetry: Telemetry,
    chains: Vec<Seen>,
    forwarders: Vec<ForwardHandle>,
    rates: Rates,
}

/// What there is to look at of one chain.
struct Seen {
    stream: String,
    partition: u16,
    capacity_bytes: u64,
    draining: bool,
    logs: Vec<Partition>,
}

impl Looker {
    pub(super) fn new(
        agent: &Arc<checked::Agent>,
        disk: &Disk,
        telemetry: Telemetry,
        forwarders: Vec<ForwardHandle>,
    ) -> Arc<Mutex<Self>> {
        let chains = disk.chains.iter().map(Seen::of).collect();
        Arc::new(Mutex::new(Self {
            agent: Arc::clone(agent),
            telemetry,
            chains,
            forwarders,
            rates: Rates::default(),
        }))
    }

    /// Remembers the counts of this moment, to make rates of.
    pub(super) fn sample(&mut self) {
        let mut counts = BTreeMap::new();
        for source in self.telemetry.sources() {
            counts.insert(
                format!("source/{}", source.name()),
                source.counts().accepted,
            );
        }
        for chain in &self.chains {
            counts.insert(
                chain.id(),
                chain.logs.iter().map(|log| log.next().get()).sum(),
            );
        }
        for (uplink, forwarder) in self.agent.uplinks.iter().zip(&self.forwarders) {
            counts.insert(
                format!("uplink/{}", uplink.name),
                forwarder.status().acked_offsets,
            );
        }
        self.rates.sample(Instant::now(), counts);
    }

    /// The status at this moment. Blocks for the disk.
    pub(super) fn look(&self) -> Status {
        let forwarded: Vec<ForwardStatus> =
            self.forwarders.iter().map(ForwardHandle::status).collect();
        let uplinks = self
            .agent
            .uplinks
            .iter()
            .zip(&forwarded)
            .map(|(uplink, seen)| self.uplink(uplink, seen));
        Status {
            gateway: self.agent.gateway.id.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.telemetry.started().elapsed().as_secs(),
            data_dir: self.agent.gateway.data_dir.display().to_string(),
            sources: self
                .telemetry
                .sources()
                .iter()
                .map(|source| self.source(source))
                .collect(),
            streams: self.streams(&forwarded),
            uplinks: uplinks.collect(),
        }
    }

    fn source(&self, source: &telemetry::Source) -> status::Source {
        let (counts, state) = (source.counts(), source.state());
        let named = |map: BTreeMap<&'static str, u64>| {
            map.into_iter()
                .map(|(name, n)| (name.to_owned(), n))
                .collect()
        };
        status::Source {
            name: source.name().to_owned(),
            kind: source.kind().to_owned(),
            stream: source.stream().to_owned(),
            up: state.up,
            state: state.what,
            clients: counts.clients,
            rate: self.rates.rate(&format!("source/{}", source.name())),
            accepted: counts.accepted,
            accepted_bytes: counts.accepted_bytes,
            settled: counts.settled,
            duplicates: counts.duplicates,
            dropped: named(counts.dropped),
            incidents: named(counts.incidents),
        }
    }

    fn streams(&self, forwarded: &[ForwardStatus]) -> Vec<status::Stream> {
        let mut streams: Vec<status::Stream> = Vec::new();
        for chain in &self.chains {
            let partition = self.partition(chain, forwarded);
            match streams
                .iter_mut()
                .find(|stream| stream.name == chain.stream)
            {
                Some(stream) => stream.partitions.push(partition),
                None => streams.push(status::Stream {
                    name: chain.stream.clone(),
                    draining: chain.draining,
                    partitions: vec![partition],
                }),
            }
        }
        streams
    }

    fn partition(&self, chain: &Seen, forwarded: &[ForwardStatus]) -> status::Partition {
        let head = chain.logs.last().expect("a chain has a log");
        let (stats, ledger) = (head.stats(), head.ledger());
        let ours = || {
            let logs = forwarded.iter().flat_map(|seen| &seen.logs);
            logs.filter(|log| log.stream == chain.stream && log.partition == chain.partition)
        };
        // Per uplink the lag of the whole chain; the slowest of them holds the events back.
        let lags = forwarded.iter().filter_map(|seen| {
            let of_chain = || {
                let logs = seen.logs.iter();
                logs.filter(|log| log.stream == chain.stream && log.partition == chain.partition)
            };
            of_chain().next()?;
            Some(
                of_chain()
                    .map(|log| behind(log.next, log.acked))
                    .sum::<u64>(),
            )
        });
        status::Partition {
            partition: chain.partition,
            log: head.log_id().to_string(),
            oldest: head.oldest().get(),
            next: head.next().get(),
            fill: stats.segments_held as f64 / stats.segments.max(1) as f64,
            capacity_bytes: chain.capacity_bytes,
            rate: self.rates.rate(&chain.id()),
            full: stats.full,
            lag: lags.max(),
            oldest_unacked_s: age(ours().filter_map(|log| log.oldest_unacked).min()),
            losses: losses(&ledger),
            commits: stats.commits,
            commit_s: stats.commit_us as f64 / 1e6,
            commit_max_s: stats.commit_us_max as f64 / 1e6,
            bytes: stats.bytes,
        }
    }

    fn uplink(&self, uplink: &checked::Uplink, seen: &ForwardStatus) -> status::Uplink {
        let number = super::uplink_number(&uplink.name);
        let logs = self
            .chains
            .iter()
            .filter(|chain| uplink.carries(&chain.stream))
            .flat_map(|chain| &chain.logs);
        let lost = logs
            .filter_map(|log| log.ledger().cursor(number))
            .map(|cursor| cursor.lost)
            .sum();
        status::Uplink {
            name: uplink.name.to_string(),
            hub: uplink.hub.to_string(),
            up: seen.connected,
            state: match &seen.last_error {
                _ if seen.connected => format!("connected to {}", uplink.hub),
                Some(error) => error.clone(),
                None => format!("connecting to {}", uplink.hub),
            },
            lag: seen
                .logs
                .iter()
                .map(|log| behind(log.next, log.acked))
                .sum(),
            oldest_unacked_s: age(seen.oldest_unacked()),
            rate: self.rates.rate(&format!("uplink/{}", uplink.name)),
            lost,
        }
    }
}

impl Seen {
    fn of(chain: &Chain) -> Self {
        Self {
            stream: chain.stream.clone(),
            partition: chain.partition,
            capacity_bytes: chain.capacity_bytes,
            draining: chain.draining,
            logs: chain.logs.iter().map(|log| log.partition.clone()).collect(),
        }
    }

    fn id(&self) -> String {
        format!("stream/{}/{}", self.stream, self.partition)
    }
}

fn losses(ledger: &sedge_core::ledger::Ledger) -> Losses {
    let known = |time: Micros| {
        time.is_known()
            .then(|| time.get())
            .filter(|time| *time != 0)
    };
    Losses {
        handed_over: ledger.handed_over,
        evicted: ledger.evicted,
        expired: ledger.expired,
        corrupt: ledger.corrupt,
        burned: ledger.skipped,
        refused: ledger.refused,
        first: known(ledger.loss_first),
        last: known(ledger.loss_last),
    }
}

fn behind(next: Offset, acked: Offset) -> u64 {
    next.get().saturating_sub(acked.get())
}

fn age(made: Option<i64>) -> Option<f64> {
    let now = system_clock()();
    made.filter(|_| now.is_known())
        .map(|made| (now.get().saturating_sub(made)).max(0) as f64 / 1e6)
}

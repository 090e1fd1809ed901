//! How the hub and its gateways are doing, as far as it is of streams that the reader may read; and how much of a stream is of which time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::http::{StatusCode, Uri};
use axum::response::Response;
use sedge_core::Micros;
use sedge_store::world;
use serde_json::{Value, json};

use super::query::Query;
use super::{At, Refusal, Visitor};
use crate::hub::fleet::sum;
use crate::hub::groups::GroupName;
use crate::hub::partition::Partition;
use crate::hub::reading::NotRead;
use crate::hub::status::{GatewayStatus, GroupStatus, HubStatus, PartitionStatus};
use crate::hub::{GatewayReport, PartitionReport, Shared};
use crate::json::time_of;

pub(super) async fn status(visitor: Visitor, uri: Uri) -> Result<Response, Refusal> {
    Query::parse(&uri, &[])?;
    let looking = Arc::clone(visitor.site.hub()?);
    let look = move || (looking.status(), newest_of(&looking));
    let (status, newest) = visitor.looked(look).await?;
    let shown = visitor.overview(&status, &newest).await?;
    visitor.page(&shown).await
}

/// How many offsets of a stream are of each part of a time.
pub(super) async fn counts(
    visitor: Visitor,
    At(stream): At<String>,
    uri: Uri,
) -> Result<Response, Refusal> {
    visitor.partitions_of(&stream)?;
    let query = Query::parse(&uri, &["from", "to", "steps"])?;
    let (from, to) = (query.time("from")?.get(), query.time("to")?.get());
    let steps = query.number("steps", 1, STEPS_MAX, STEPS)?;
    if from >= to {
        let what = "to: is not later than `from`";
        return Err(Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, what));
    }
    let partitions = visitor.reading.partitions(Some(&stream));
    let begins = (0..=steps).map(|step| at_step(from, to, step, steps));
    let begins: Vec<i64> = begins.collect();
    let times: Vec<Micros> = begins.iter().copied().map(Micros::new).collect();
    // Nobody hears of it once this is dropped: then it is given up.
    let asked = Arc::new(());
    let asks = Arc::downgrade(&asked);
    let is_asked = move || asks.strong_count() > 0;
    let counting = move || counted(&partitions, &times, &is_asked);
    let counted = visitor.looked(counting).await?;
    drop(asked);
    let counted = counted.map_err(NotRead::from)?;
    let step =
        |(begins, events): (i64, u64)| json!({ "time": time_of(Some(begins)), "events": events });
    let steps: Vec<Value> = begins.into_iter().zip(counted).map(step).collect();
    let shown = json!({ "stream": stream, "to": time_of(Some(to)), "steps": steps });
    visitor.page(&shown).await
}

impl Visitor {
    /// Does `look`, which goes through much of the disk, when others are not at it.
    async fn looked<T: Send + 'static>(
        &self,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let looks = Arc::clone(&self.site.looks);
        let turn = looks.acquire_owned().await.map_err(|_| interrupted())?;
        // Whoever asked may go; the turn is over when the work is.
        let looking = world::blocking(move || {
            let _turn = turn;
            look()
        });
        looking.await.map_err(|_| interrupted())
    }

    async fn overview(
        &self,
        status: &HubStatus,
        newest: &BTreeMap<String, i64>,
    ) -> Result<Value, Refusal> {
        let hub = self.site.hub()?;
        let may_read = |stream: &str| self.reading.may_read(stream).is_ok();
        let may_read_all = self.reading.may_read_all();
        let partitions = status.partitions.iter();
        let partitions: Vec<_> = partitions.filter(|p| may_read(&p.stream)).collect();
        let mut of_gateways: HashMap<&str, Vec<&PartitionStatus>> = HashMap::new();
        for partition in &status.partitions {
            let of = of_gateways.entry(&partition.gateway).or_default();
            of.push(partition);
        }
        let of_gateway = |gateway: &GatewayStatus| {
            let all = of_gateways.get(gateway.gateway.as_str());
            let all = all.map_or(&[][..], Vec::as_slice);
            let readable = all.iter().filter(|p| may_read(&p.stream)).copied();
            let own: Vec<_> = readable.collect();
            // One that has sent nothing is only for who may read everything.
            let is_seen = !own.is_empty() || (all.is_empty() && may_read_all);
            is_seen.then(|| shown_gateway(gateway, &own, own.len() == all.len()))
        };
        let gateways: Vec<Value> = status.fleet.iter().filter_map(of_gateway).collect();
        let streams: Vec<Value> = partitions
            .chunk_by(|one, next| one.stream == next.stream)
            .map(|of| shown_stream(of, newest))
            .collect();
        let mut shown_groups = Vec::new();
        for group in status.groups.iter().filter(|g| may_read(&g.stream)) {
            let name = GroupName {
                group: group.group.clone(),
                stream: group.stream.clone(),
            };
            let held_by = hub.groups.active_in(&name).await;
            shown_groups.push(shown_group(group, held_by.as_deref()));
        }
        Ok(json!({
            "time": time_of(Some(crate::forward::unix_us())),
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": hub.started.elapsed().as_secs(),
            "disk": { "bytes": status.disk_bytes, "max": status.disk_max },
            // Who asks this is one of them.
            "consumers": status.consumers.saturating_sub(1),
            "trouble": status.catalog_error.iter().filter(|_| may_read_all).collect::<Vec<_>>(),
            "gateways": gateways,
            "streams": streams,
            "groups": shown_groups,
        }))
    }
}

/// `partitions` are those that the reader may read, and `are_all` that the gateway has.
fn shown_gateway(gateway: &GatewayStatus, partitions: &[&PartitionStatus], are_all: bool) -> Value {
    let report = gateway.report.as_ref().map(|report| match are_all {
        true => report.clone(),
        false => part_of(report, partitions),
    });
    let report = report.as_ref();
    let partitions: Vec<Value> = partitions
        .iter()
        .map(|p| shown_partition(p, report))
        .collect();
    json!({
        "gateway": gateway.gateway,
        "connected": gateway.connected,
        "identity_in_use": gateway.in_use,
        "heard": time_of(gateway.heard_us),
        "lag": report.map(|report| report.lag),
        "oldest_unacknowledged": time_of(report.and_then(|report| report.oldest_unacked_us)),
        "report": report.map(|report| shown_report(report, are_all)),
        "partitions": partitions,
    })
}

/// What a gateway told of one of its partitions.
fn told_of<'r>(
    report: &'r GatewayReport,
    partition: &PartitionStatus,
) -> Option<&'r PartitionReport> {
    let mut told = report.partitions.iter();
    told.find(|of| of.stream == partition.stream && of.partition == partition.partition)
}

/// What a gateway told, as far as it is of `partitions`.
fn part_of(report: &GatewayReport, partitions: &[&PartitionStatus]) -> GatewayReport {
    let of_each = partitions.iter().filter_map(|p| told_of(report, p));
    let told: Vec<PartitionReport> = of_each.cloned().collect();
    let sum_of = |of: fn(&PartitionReport) -> u64| sum(told.iter().map(of));
    GatewayReport {
        lag: sum_of(|of| of.lag),
        oldest_unacked_us: told.iter().filter_map(|of| of.oldest_unacked_us).min(),
        waiting_bytes: sum_of(|of| of.waiting_bytes),
        capacity_bytes: sum_of(|of| of.capacity_bytes),
        held: None,
        partitions: told,
        ..report.clone()
    }
}

fn shown_report(report: &GatewayReport, is_whole: bool) -> Value {
    json!({
        "at": time_of(Some(report.at_us)),
        "version": report.version,
        "uptime_s": report.uptime_s,
        "clock": {
            "time": time_of(report.unix_us),
            "trusted": report.voucher.as_deref().is_some_and(|by| by != "itself"),
            "by": report.voucher,
            "ahead_s": report.clock_ahead_s(),
        },
        "disk": { "bytes": report.waiting_bytes, "max": report.capacity_bytes },
        "held": report.held,
        "lost": is_whole.then_some(report.lost),
    })
}

fn shown_partition(partition: &PartitionStatus, report: Option<&GatewayReport>) -> Value {
    let told = report.and_then(|report| told_of(report, partition));
    let fill = told.map(|of| json!({ "bytes": of.waiting_bytes, "max": of.capacity_bytes }));
    json!({
        "stream": partition.stream,
        "number": partition.number,
        "partition": partition.partition,
        "earliest": partition.earliest,
        "end": partition.end,
        "lag": told.map(|of| of.lag),
        "oldest_unacknowledged": time_of(told.and_then(|of| of.oldest_unacked_us)),
        "fill": fill,
    })
}

fn shown_stream(partitions: &[&PartitionStatus], newest: &BTreeMap<String, i64>) -> Value {
    let stream = &partitions[0].stream;
    let sum_of = |of: fn(&PartitionStatus) -> u64| sum(partitions.iter().map(|p| of(p)));
    json!({
        "stream": stream,
        "partitions": partitions.len(),
        "earliest_sum": sum_of(|p| p.earliest),
        "end_sum": sum_of(|p| p.end),
        "newest": time_of(newest.get(stream).copied()),
        "lost": sum_of(|p| p.lost),
    })
}

fn shown_group(group: &GroupStatus, held_by: Option<&str>) -> Value {
    json!({
        "group": group.group,
        "stream": group.stream,
        "lag": group.lag,
        "lag_s": group.lag_s,
        "overtaken": group.overtaken,
        "held_by": held_by,
    })
}

/// When the newest record of each stream was taken, of so many of its partitions. Blocks for the disk.
fn newest_of(shared: &Shared) -> BTreeMap<String, i64> {
    let partitions = shared.registry.partitions(None);
    let each = partitions.chunk_by(|one, next| one.stream == next.stream);
    let last = |partition: &Arc<Partition>| Some((Arc::clone(partition), partition.last_offset()?));
    let looked_at: Vec<_> = each
        .flat_map(|of| of.iter().take(AGES_MAX).filter_map(last))
        .collect();
    let mut newest = BTreeMap::new();
    let ages = shared.ages_of_streams.of(&looked_at);
    for ((partition, _), age) in looked_at.iter().zip(ages) {
        let Some(age) = age else { continue };
        let of = newest.entry(partition.stream.to_string()).or_insert(age);
        *of = age.max(*of);
    }
    newest
}

/// How many offsets stand between each of `times` and the next, as long as it `is_asked`. Blocks for the disk.
fn counted(
    partitions: &[Arc<Partition>],
    times: &[Micros],
    is_asked: &dyn Fn() -> bool,
) -> Result<Vec<u64>, sedge_store::ReadError> {
    let mut before: Vec<u64> = vec![0; times.len()];
    for partition in partitions {
        let own = partition.offsets_before(times, is_asked)?;
        for (sum, own) in before.iter_mut().zip(own) {
            *sum = sum.saturating_add(own);
        }
    }
    Ok(before
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]))
        .collect())
}

fn at_step(from: i64, to: i64, step: usize, steps: usize) -> i64 {
    let span = i128::from(to) - i128::from(from);
    let at = i128::from(from) + span * step as i128 / steps as i128;
    i64::try_from(at).unwrap_or(to)
}

fn interrupted() -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "interrupted")
}

const STEPS: usize = 60;
const STEPS_MAX: usize = 240;
/// Partitions of a stream of whose newest record the time is looked at.
const AGES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_of_a_partition_is_found_by_its_stream_and_its_number_there() {
        let told = |stream: &str, partition, lag| PartitionReport {
            stream: stream.into(),
            partition,
            lag,
            oldest_unacked_us: None,
            waiting_bytes: 0,
            capacity_bytes: 0,
        };
        let report = GatewayReport {
            at_us: 0,
            version: String::new(),
            uptime_s: 0,
            unix_us: None,
            voucher: None,
            lag: 6,
            oldest_unacked_us: None,
            waiting_bytes: 0,
            capacity_bytes: 0,
            lost: 0,
            held: None,
            partitions: vec![
                told("telemetry", 0, 1),
                told("telemetry", 1, 2),
                told("alarms", 0, 3),
            ],
        };
        let lag = |stream: &str, partition| {
            let partition = PartitionStatus {
                stream: stream.into(),
                gateway: "gw-7".into(),
                partition,
                number: 5,
                logs: 1,
                earliest: 0,
                end: 9,
                lost: 0,
            };
            told_of(&report, &partition).map(|of| of.lag)
        };
        assert_eq!(lag("alarms", 0), Some(3));
        assert_eq!(lag("telemetry", 1), Some(2));
        assert_eq!(lag("alarms", 1), None);
    }
}

//! How the hub and its gateways are doing, as far as it is of streams that the reader may read; and how much of a stream is of which time.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::{StatusCode, Uri};
use axum::response::Response;
use sedge_core::Micros;
use sedge_store::world;
use serde_json::{Value, json};

use super::query::Query;
use super::{At, Refusal, Visitor};
use crate::hub::groups::GroupName;
use crate::hub::partition::Partition;
use crate::hub::status::{GatewayStatus, GroupStatus, HubStatus, PartitionStatus};
use crate::hub::{GatewayReport, PartitionReport};
use crate::json::time_of;

pub(super) async fn status(visitor: Visitor, uri: Uri) -> Result<Response, Refusal> {
    Query::parse(&uri, &[])?;
    let partitions = visitor.reading.partitions(None);
    let looking = Arc::clone(&visitor.shared);
    let looked = world::blocking(move || {
        let newest = newest_of(&partitions);
        (looking.status(), newest)
    });
    let (status, newest) = looked.await.map_err(|_| interrupted())?;
    let shown = visitor.overview(&status, &newest).await;
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
    let times = (0..=steps).map(|step| at_step(from, to, step, steps));
    let times: Vec<Micros> = times.map(Micros::new).collect();
    let begins: Vec<i64> = times.iter().map(|time| time.get()).collect();
    let counting = world::blocking(move || counted(&partitions, &times));
    let counted = counting.await.map_err(|_| interrupted())?;
    let counted = counted
        .map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let step =
        |(begins, events): (i64, u64)| json!({ "time": time_of(Some(begins)), "events": events });
    let steps: Vec<Value> = begins.into_iter().zip(counted).map(step).collect();
    let shown = json!({ "stream": stream, "to": time_of(Some(to)), "steps": steps });
    visitor.page(&shown).await
}

impl Visitor {
    async fn overview(&self, status: &HubStatus, newest: &BTreeMap<String, i64>) -> Value {
        let may_read = |stream: &str| self.reading.may_read(stream).is_ok();
        let may_read_all = self.reading.may_read_all();
        let partitions = status.partitions.iter();
        let partitions: Vec<_> = partitions.filter(|p| may_read(&p.stream)).collect();
        let of_gateway = |gateway: &GatewayStatus| {
            let all = status
                .partitions
                .iter()
                .filter(|p| p.gateway == gateway.gateway);
            let has_none = all.clone().next().is_none();
            let own: Vec<_> = all.filter(|p| may_read(&p.stream)).collect();
            // One that has sent nothing is only for who may read everything.
            ((has_none && may_read_all) || !own.is_empty()).then(|| shown_gateway(gateway, &own))
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
            let held_by = self.shared.groups.active_in(&name).await;
            shown_groups.push(shown_group(group, held_by.as_deref()));
        }
        json!({
            "time": time_of(Some(crate::forward::unix_us())),
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": self.shared.started.elapsed().as_secs(),
            "disk": { "bytes": status.disk_bytes, "max": status.disk_max },
            // Who asks this is one of them.
            "consumers": status.consumers.saturating_sub(1),
            "trouble": status.catalog_error.iter().collect::<Vec<_>>(),
            "gateways": gateways,
            "streams": streams,
            "groups": shown_groups,
        })
    }
}

fn shown_gateway(gateway: &GatewayStatus, partitions: &[&PartitionStatus]) -> Value {
    let report = gateway.report.as_ref();
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
        "report": report.map(shown_report),
        "partitions": partitions,
    })
}

fn shown_report(report: &GatewayReport) -> Value {
    let ahead_s = report
        .unix_us
        .map(|theirs| theirs.saturating_sub(report.at_us) as f64 / 1e6);
    json!({
        "at": time_of(Some(report.at_us)),
        "version": report.version,
        "uptime_s": report.uptime_s,
        "clock": {
            "time": time_of(report.unix_us),
            "trusted": report.voucher.as_deref().is_some_and(|by| by != "itself"),
            "by": report.voucher,
            "ahead_s": ahead_s,
        },
        "disk": { "bytes": report.waiting_bytes, "max": report.capacity_bytes },
        "held": report.held,
        "lost": report.lost,
    })
}

fn shown_partition(partition: &PartitionStatus, report: Option<&GatewayReport>) -> Value {
    let is_it = |of: &&PartitionReport| {
        of.stream == partition.stream && of.partition == partition.partition
    };
    let told = report.and_then(|report| report.partitions.iter().find(is_it));
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
    let sum = |of: fn(&PartitionStatus) -> u64| partitions.iter().map(|p| of(p)).sum::<u64>();
    json!({
        "stream": stream,
        "partitions": partitions.len(),
        "earliest_sum": sum(|p| p.earliest),
        "end_sum": sum(|p| p.end),
        "newest": time_of(newest.get(stream).copied()),
        "lost": sum(|p| p.lost),
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
fn newest_of(partitions: &[Arc<Partition>]) -> BTreeMap<String, i64> {
    let mut newest = BTreeMap::new();
    for of in partitions.chunk_by(|one, next| one.stream == next.stream) {
        let times = of.iter().take(AGES_MAX).filter_map(|partition| {
            let last = partition.last_offset()?;
            partition.taken_at(last).ok().flatten()
        });
        if let Some(time) = times.max() {
            newest.insert(of[0].stream.to_string(), time);
        }
    }
    newest
}

/// How many offsets stand between each of `times` and the next. Blocks for the disk.
fn counted(
    partitions: &[Arc<Partition>],
    times: &[Micros],
) -> Result<Vec<u64>, sedge_store::ReadError> {
    let mut before = vec![0; times.len()];
    for partition in partitions {
        let own = partition.offsets_before(times)?;
        before
            .iter_mut()
            .zip(own)
            .for_each(|(sum, own)| *sum += own);
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
/// Partitions of a stream of whose newest record the time is read; each costs some ten microseconds.
const AGES_MAX: usize = 1_024;

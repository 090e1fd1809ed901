//! The uplinks of a gateway: which logs each is to send, and the tasks that send them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sedge_config::checked;
use sedge_store::Partition;
use sedge_store::watch;
use sedge_uplink::forward::{
    ForwardEvent, ForwardHandle, ForwardOptions, Forwarder, GatewayTrust, Limits, Log, Priority,
    Time, Window,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::disk::{Disk, Removed};
use super::trust;
use crate::shutdown::Shutdown;
use crate::timekeeper::Timekeeper;

/// The uplinks that carry `stream`, by the numbers of their cursors.
pub(super) fn carriers<'a>(agent: &'a checked::Agent, stream: &str) -> BTreeMap<u32, &'a str> {
    let carrying = agent.uplinks.iter().filter(|uplink| uplink.carries(stream));
    carrying
        .map(|uplink| (uplink_number(&uplink.name), uplink.name.as_str()))
        .collect()
}

/// The uplinks that carry a stream. On trial those count too that carried it `before`.
pub(super) fn all_carriers(
    agent: &checked::Agent,
    before: Option<&checked::Agent>,
    stream: &str,
) -> BTreeSet<u32> {
    let agents = before.into_iter().chain([agent]);
    agents
        .flat_map(|agent| carriers(agent, stream).into_keys())
        .collect()
}

/// Under this number the logs keep an uplink's place: made from its name, so that the order in the file does not matter.
pub(super) fn uplink_number(name: &str) -> u32 {
    sedge_core::crc::crc32c(name.as_bytes())
}

/// The logs that an uplink is offered; they change while it runs.
pub(super) type Listed = Arc<watch::Sender<Vec<Log>>>;

pub(super) fn start_forwarders(
    agent: &checked::Agent,
    disk: &Disk,
    time: &Arc<Timekeeper>,
    events: &mpsc::UnboundedSender<ForwardEvent>,
    shutdown: &Shutdown,
    tasks: &mut JoinSet<()>,
) -> (Vec<ForwardHandle>, Vec<Listed>) {
    let (mut handles, mut lists) = (Vec::new(), Vec::new());
    for uplink in &agent.uplinks {
        let carried = disk.chains.iter().filter(|c| uplink.carries(&c.stream));
        let logs = carried.flat_map(|chain| {
            let priority = priority(agent, &chain.stream);
            let logs = chain.logs.iter();
            let offered = logs.filter_map(|log| Some((log, log.handle()?)));
            offered.map(move |(log, handle)| Log {
                stream: chain.stream.clone(),
                partition: chain.partition,
                chain: log.place,
                closed: log.is_ended(),
                may_be_passed: chain.may_be_passed(),
                priority,
                handle,
            })
        });
        let number = uplink_number(&uplink.name);
        let removed = disk
            .removed
            .iter()
            .filter(|removed| uplink.carries(&removed.stream) && removed.uplinks.contains(&number));
        let logs = logs.chain(removed.map(|removed| Log {
            stream: removed.stream.clone(),
            partition: removed.partition,
            chain: removed.place,
            closed: true,
            may_be_passed: false,
            priority: priority(agent, &removed.stream),
            handle: removed.handle(),
        }));
        let options = ForwardOptions {
            url: format!("sedge://{}", uplink.hub),
            identity: agent.gateway.id.to_string(),
            uplink: number,
            retry_max: uplink.retry_max,
            trust: Some(GatewayTrust {
                files: trust::files(uplink),
                clock: Arc::clone(time.last_good()),
            }),
            limits: limits(uplink, &agent.gateway),
            time: Time(Arc::clone(time) as Arc<dyn sedge_store::Timekeeping>),
            live_first_after: uplink.live_first_after,
        };
        // A log that the disk has no room for is none yet: offered, its id would be in the hub's chain for ever.
        let is_made = |log: &Log| log.handle.log().is_none_or(Partition::is_made);
        let (made, to_be): (Vec<Log>, Vec<Log>) = logs.partition(is_made);
        let (listed, logs) = watch::channel(made);
        let listed = Arc::new(listed);
        for log in to_be {
            tasks.spawn(list_when_made(log, Arc::clone(&listed), shutdown.clone()));
        }
        let forwarder = Forwarder::new(options, logs, events.clone())
            .expect("a checked endpoint is an address");
        handles.push(forwarder.handle());
        lists.push(listed);
        tasks.spawn(trust::keep_certificate(
            uplink.clone(),
            agent.gateway.id.to_string(),
            Arc::clone(time.last_good()),
            shutdown.clone(),
        ));
        let mut shutdown = shutdown.clone();
        tasks.spawn(async move {
            forwarder
                .run(async move { shutdown.requested().await })
                .await;
        });
    }
    (handles, lists)
}

async fn list_when_made(log: Log, listed: Listed, mut shutdown: Shutdown) {
    let Some(mut refused) = log.handle.log().map(Partition::intake_refused) else {
        return;
    };
    let made = async { refused.wait_for(Option::is_none).await.is_ok() };
    tokio::select! {
        biased;
        made = made => if made {
            listed.send_modify(|logs| logs.push(log));
        },
        () = shutdown.requested() => {}
    }
}

/// The uplinks are offered what is left of a log, and no longer the log.
pub(super) fn let_go(lists: &[Listed], gone: &Removed) {
    for list in lists {
        list.send_if_modified(|logs| {
            let is_it = |known: &&mut Log| known.handle.log_id() == gone.log;
            let known = logs.iter_mut().find(is_it);
            known.map(|known| known.handle = gone.handle()).is_some()
        });
    }
}

/// Says of each log that the uplinks are offered whether it `may` be passed. Who listens is told only if something did change.
pub(super) fn let_pass(lists: &[Listed], may: impl Fn(&Log) -> bool) {
    for list in lists {
        list.send_if_modified(|logs| {
            let mut is_changed = false;
            for log in logs {
                let may = may(log);
                is_changed |= std::mem::replace(&mut log.may_be_passed, may) != may;
            }
            is_changed
        });
    }
}

fn limits(uplink: &checked::Uplink, gateway: &checked::Gateway) -> Limits {
    let window = |window: &sedge_config::DayWindow| Window {
        from: window.from,
        to: window.to,
    };
    let kept = gateway.data_dir.join("spent");
    Limits {
        rate_bytes: uplink.rate_bits_max.map(|bits| bits / 8),
        day_bytes: uplink.day_bytes_max,
        month_bytes: uplink.month_bytes_max,
        windows: uplink.windows.iter().map(window).collect(),
        packs: uplink.compresses,
        kept: Some(kept.join(format!("{}.toml", uplink.name))),
    }
}

/// What a stream that is not in the configuration any more holds goes as most does.
fn priority(agent: &checked::Agent, stream: &str) -> Priority {
    let configured = agent.streams.iter().find(|known| &*known.name == stream);
    match configured.map(|stream| stream.priority) {
        Some(checked::Priority::Urgent) => Priority::Urgent,
        Some(checked::Priority::High) => Priority::High,
        Some(checked::Priority::Low) => Priority::Low,
        Some(checked::Priority::Normal) | None => Priority::Normal,
    }
}

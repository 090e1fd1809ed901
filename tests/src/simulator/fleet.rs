//! Many gateways in one thread: forwarders over logs on simulated disks. What they connect to is real, a hub in a process of its own, and so is the time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sedge_store::watch;
use sedge_store::{Batch, NoOwner, Partition, PartitionOptions, Producer, system_clock, world};
use sedge_uplink::forward::{
    ForwardEvent, ForwardHandle, ForwardOptions, Forwarder, Limits, Log, Priority, Time,
};
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::files::Disk;
use super::machines::{Clock, Machines};
use super::site::STREAM;
use super::story::Story;
use crate::random::seed_for;

/// The gateways.
#[derive(Debug)]
pub struct Fleet {
    gateways: Vec<Gateway>,
}

#[derive(Debug)]
struct Gateway {
    log: Partition,
    producer: Producer,
    staged: u64,
    forwarder: ForwardHandle,
    /// A forwarder without them has nobody to listen to, and nobody to tell.
    _logs: watch::Sender<Vec<Log>>,
    _events: mpsc::UnboundedReceiver<ForwardEvent>,
}

/// When the hub had everything: of the first gateway, of half of them, of the last.
#[derive(Clone, Copy, Debug)]
pub struct Drained {
    /// Of the first.
    pub first: Duration,
    /// Of half of them.
    pub half: Duration,
    /// Of the last.
    pub last: Duration,
}

/// Does `work` with `size` gateways that connect to `hub`, whenever it is there.
pub fn with_fleet<T>(size: usize, hub: SocketAddr, work: impl AsyncFnOnce(Fleet) -> T) -> T {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let story = Story::new();
    let disks: BTreeMap<_, _> = (0..size)
        .map(|at| (name(at), disk(at, story.clone())))
        .collect();
    let machines = Machines::new(disks, Arc::new(Clock::new()), SEED);
    // It outlives the tasks, which end with the runtime.
    let _world = world::enter(Rc::new(machines));
    let outcome = runtime.block_on(async {
        let gateways = (0..size).map(|at| Gateway::start(at, hub)).collect();
        work(Fleet { gateways }).await
    });
    drop(runtime);
    outcome
}

impl Fleet {
    /// Each gateway takes in so many events, numbered from where it stopped, and has them on its disk.
    pub async fn take_in(&mut self, events: u64, bytes: usize) {
        for gateway in &mut self.gateways {
            gateway.take_in(events, bytes).await;
        }
    }

    /// Until each of them has tried to reach a hub that is not there.
    pub async fn knocked(&self) {
        while !self.gateways.iter().all(Gateway::is_cut_off) {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    /// Until the hub has everything of everybody.
    ///
    /// # Panics
    /// If that takes longer than `within`.
    pub async fn drained(&self, within: Duration) -> Drained {
        let began = Instant::now();
        let mut open: Vec<&Gateway> = self.gateways.iter().collect();
        let mut took = Vec::new();
        while !open.is_empty() {
            let waiting = format!("{} of {} wait still", open.len(), self.gateways.len());
            assert!(began.elapsed() < within, "not within {within:?}: {waiting}");
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            open.retain(|gateway| !gateway.is_drained());
            took.resize(self.gateways.len() - open.len(), began.elapsed());
        }
        Drained {
            first: took[0],
            half: took[took.len() / 2],
            last: took[took.len() - 1],
        }
    }
}

impl Gateway {
    fn start(at: usize, hub: SocketAddr) -> Self {
        let options = PartitionOptions {
            capacity_bytes: LOG_BYTES,
            linger: Duration::ZERO,
            ..PartitionOptions::default()
        };
        let folder = Path::new(super::ROOT).join(name(at)).join("log");
        let opened = Partition::open(folder, options, Box::new(NoOwner), system_clock());
        let (log, _) = opened.expect("a disk with room");
        let sent = Log {
            stream: STREAM.into(),
            partition: 0,
            chain: 0,
            closed: false,
            may_be_passed: false,
            priority: Priority::Normal,
            handle: log.clone().into(),
        };
        let (logs, seen) = watch::channel(vec![sent]);
        let (tell, events) = mpsc::unbounded_channel();
        let options = ForwardOptions {
            url: format!("sedge://{hub}"),
            identity: name(at),
            uplink: 1,
            retry_max: RETRY_MAX,
            trust: None,
            limits: Limits::default(),
            time: Time::default(),
            live_first_after: None,
        };
        let forwarder = Forwarder::new(options, seen, tell).expect("an address");
        let handle = forwarder.handle();
        tokio::spawn(forwarder.run(std::future::pending()));
        Self {
            producer: log.producer(),
            log,
            staged: 0,
            forwarder: handle,
            _logs: logs,
            _events: events,
        }
    }

    async fn take_in(&mut self, events: u64, bytes: usize) {
        let mut batch = Batch::new();
        for number in self.staged..self.staged + events {
            let value = format!("{number:<bytes$}");
            batch.push(|unit| unit.record(None, None, &[], value.as_bytes()), &[]);
        }
        let staged = self.producer.stage(&batch);
        let ticket = staged.expect("a log that is as good as empty takes it");
        self.staged += events;
        let mut settled = self.log.settled();
        let settled = settled.wait_for(|settled| *settled >= ticket).await;
        settled.expect("the writer lives");
    }

    fn is_cut_off(&self) -> bool {
        let status = self.forwarder.status();
        !status.connected && status.last_error.is_some()
    }

    fn is_drained(&self) -> bool {
        let status = self.forwarder.status();
        status.connected && status.logs.len() == 1 && status.lag() == 0
    }
}

fn disk(at: usize, story: Story) -> Disk {
    Disk::new(at as u64, seed_for(SEED, at as u64), DISK_BYTES, story)
}

fn name(at: usize) -> String {
    format!("gw-{at}")
}

const SEED: u64 = 1;
const LOG_BYTES: u64 = 4 << 20;
const DISK_BYTES: u64 = 16 << 20;
/// They come at once: nobody has waited for longer.
const RETRY_MAX: Duration = Duration::from_secs(1);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

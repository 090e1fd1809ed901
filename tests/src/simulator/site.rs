//! The machines that run: gateways, the hub, those who send and those who read. Each can go down at any moment and comes up again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sedge::gateway::{self, WhenTooLarge};
use sedge::ingest::{Ingest, Intake, Receipt};
use sedge::route::Subject;
use sedge::shutdown;
use sedge_config::Template;
use sedge_core::crc;
use sedge_core::log::WhenFull;
use sedge_uplink::client::{PullOptions, Reader, Start};
use sedge_uplink::hub::{Hub, HubOptions, StreamOptions};
use sedge_uplink::net::Listener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::files::{Disk, Down};
use super::ledger::Ledger;
use super::machines::Clock;
use super::network::Network;
use super::options::Options;
use super::story::Story;
use crate::random::{Random, seed_for};

/// What all machines of a run share.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// What the run is like.
    pub(super) options: Options,
    /// What happens.
    pub(super) story: Story,
    /// Who says whether it is right.
    pub(super) ledger: Ledger,
    /// What lies between the machines.
    pub(super) network: Network,
    /// The time of day.
    pub(super) clock: Arc<Clock>,
    /// How many times slower than usual producers are.
    pub(super) slowness: Arc<AtomicU32>,
    /// The consumer is at work.
    pub(super) reads: watch::Sender<bool>,
    /// Producers are to come to their end.
    pub(super) finish: Arc<AtomicBool>,
}

/// How to bring a machine down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    /// How it goes down.
    pub(super) down: Down,
    /// How long it stays there.
    pub(super) pause: Duration,
}

/// A machine that runs, and what can be done to it.
#[derive(Debug)]
pub(super) struct Machine {
    /// Its name.
    pub(super) name: String,
    /// Its disk.
    pub(super) disk: Disk,
    /// The most that its files may take.
    pub(super) bytes_max: u64,
    /// To whom an order goes.
    pub(super) orders: mpsc::UnboundedSender<Order>,
}

impl Machine {
    /// The disk is bounded by the configuration.
    pub(super) fn check_bound(&self, ledger: &Ledger) {
        let used = self.disk.used();
        if used > self.bytes_max {
            ledger.fail(format!(
                "{} takes {used} bytes on its disk, {} are allowed",
                self.name, self.bytes_max
            ));
        }
    }
}

/// What runs on a machine in one life, and ends with it.
type Life = JoinHandle<Result<(), String>>;

impl Site {
    /// Lets `machine` live its lives: `begin` starts one, `ended` hears that it is over.
    async fn lives(
        self,
        name: String,
        disk: Disk,
        mut orders: mpsc::UnboundedReceiver<Order>,
        begin: impl Fn(&Self, oneshot::Receiver<()>) -> Life,
        ended: impl Fn(&Self, bool),
    ) {
        let mut random = Random::new(seed_for(
            self.options.seed,
            100 + crc::crc32c(name.as_bytes()) as u64,
        ));
        let breath = |random: &mut Random| Duration::from_millis(300 + random.below(5000));
        loop {
            let (stop, stopped) = oneshot::channel();
            let mut life = begin(&self, stopped);
            let order = tokio::select! {
                biased;
                Some(order) = orders.recv() => order,
                () = disk.went_down.notified() => Order {
                    down: random.pick(&[Down::Kill, Down::PowerCut]),
                    pause: breath(&mut random),
                },
                outcome = &mut life => {
                    match outcome {
                        Ok(outcome) => self.story.tell(&format!("{name} ends by itself: {outcome:?}")),
                        Err(e) => self.ledger.fail(format!("{name}: {e}")),
                    }
                    Order { down: Down::Kill, pause: breath(&mut random) }
                }
            };
            self.story.tell(&format!(
                "{name} goes down: {:?}, for {:?}",
                order.down, order.pause
            ));
            if order.down == Down::Stop && !life.is_finished() {
                drop(stop);
                self.stops(&name, &mut life).await;
            }
            disk.go_down();
            ended(&self, order.down == Down::PowerCut);
            if !life.is_finished() {
                life.abort();
                drop(life.await);
            }
            tokio::time::sleep(order.pause.max(DOWN_AT_LEAST)).await;
            disk.come_up(order.down);
            // What a machine was to meet in the life before, it met.
            while orders.try_recv().is_ok() {}
            self.story.tell(&format!("{name} comes up"));
        }
    }

    /// Waits for a life that was told to end.
    async fn stops(&self, name: &str, life: &mut Life) {
        match tokio::time::timeout(STOP_PATIENCE, life).await {
            Ok(Ok(outcome)) => self.story.tell(&format!("{name} stops: {outcome:?}")),
            Ok(Err(e)) => self.ledger.fail(format!("{name}: {e}")),
            Err(_) => self.ledger.fail(format!("{name} does not stop")),
        }
    }

    /// A gateway that runs, and its producers.
    pub(super) fn gateway(&self, number: usize) -> (Machine, Vec<JoinHandle<()>>) {
        let name = format!("gw-{number}");
        let disk = Disk::new(
            number as u64 + 1,
            seed_for(self.options.seed, 200 + number as u64),
            GATEWAY_BYTES,
            self.story.clone(),
        );
        if self.options.lying_disks {
            disk.lie();
        }
        let logs = u64::from(self.options.partitions) * (self.options.capacity_mib << 20);
        let bytes_max = logs + DEAD_LETTER_BYTES + SLACK_BYTES;
        let (orders, received) = mpsc::unbounded_channel();
        let (mut ways_in, mut producers) = (Vec::new(), Vec::new());
        for at in 0..self.options.producers {
            let (way_in, seen) = watch::channel(None);
            ways_in.push(way_in);
            let name = name.clone();
            producers.push(tokio::spawn(self.clone().producer(
                name,
                number * 10 + at,
                seen,
            )));
        }
        let ways_in = Arc::new(ways_in);
        let (given, taken) = (Arc::clone(&ways_in), ways_in);
        let sizes = Mutex::new(Random::new(seed_for(
            self.options.seed,
            400 + number as u64,
        )));
        let id = name.clone();
        let begin = move |site: &Self, stopped: oneshot::Receiver<()>| {
            let mut sizes = sizes.lock().expect("no holder panics");
            let text = agent_file(&site.options, &id, &mut sizes);
            let agent = sedge_config::agent::parse(&text, Path::new("agent.toml"), None);
            let agent = agent.unwrap_or_else(|e| panic!("{e}"));
            let when_too_large = sizes.pick(&[WhenTooLarge::Keep, WhenTooLarge::Evict]);
            let given = Arc::clone(&given);
            let way_in: Arc<dyn Fn(&Ingest) + Send + Sync> = Arc::new(move |ingest: &Ingest| {
                for way_in in given.iter() {
                    way_in.send_replace(Some(ingest.clone()));
                }
            });
            tokio::spawn(async move {
                let (trigger, shutdown) = shutdown::pair();
                let run = gateway::run_without_doors(agent, when_too_large, way_in, shutdown);
                let stop = async {
                    stopped.await.ok();
                    drop(trigger);
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    biased;
                    ended = run => ended.map_err(|e| e.to_string()),
                    () = stop => Ok(()),
                }
            })
        };
        let host = name.clone();
        let ended = move |site: &Self, silently: bool| {
            for way_in in taken.iter() {
                way_in.send_replace(None);
            }
            site.network.is_gone(&host, silently);
        };
        tokio::spawn(
            self.clone()
                .lives(name.clone(), disk.clone(), received, begin, ended),
        );
        (
            Machine {
                name,
                disk,
                bytes_max,
                orders,
            },
            producers,
        )
    }

    /// The hub, which runs.
    pub(super) fn hub(&self) -> Machine {
        let name = "hub".to_owned();
        let disk = Disk::new(
            0,
            seed_for(self.options.seed, 300),
            HUB_BYTES,
            self.story.clone(),
        );
        let (orders, received) = mpsc::unbounded_channel();
        let partitions = self.options.gateways as u64 * u64::from(self.options.partitions);
        let bytes_max = partitions * (self.options.hub_capacity_mib << 20) + SLACK_BYTES;
        let begin = move |site: &Self, stopped: oneshot::Receiver<()>| {
            let options = hub_options(site);
            let (network, story) = (site.network.clone(), site.story.clone());
            tokio::spawn(async move {
                let hub = Hub::open(options).await.map_err(|e| e.to_string())?;
                let address = ([127, 0, 0, 1], 7443).into();
                let listener = Listener::Simulated(address, network.listen());
                story.tell("the hub listens");
                let run = hub.run(listener, async move { drop(stopped.await) });
                run.await.map_err(|e| e.to_string())
            })
        };
        let ended = |site: &Self, silently: bool| site.network.hub_is_gone(silently);
        tokio::spawn(
            self.clone()
                .lives(name.clone(), disk.clone(), received, begin, ended),
        );
        Machine {
            name,
            disk,
            bytes_max,
            orders,
        }
    }

    /// Sends what it has, burst by burst, by whatever way in there is.
    async fn producer(
        self,
        gateway: String,
        number: usize,
        mut way_in: watch::Receiver<Option<Ingest>>,
    ) {
        let mut random = Random::new(seed_for(self.options.seed, 1000 + number as u64));
        let device = format!("device-{number}");
        let mut left = self.options.events;
        let mut identity = None;
        let mut last = false;
        loop {
            let Some(ingest) = way_in.borrow_and_update().clone() else {
                if way_in.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let key = Template::parse("{device}").expect("a template");
            let mut sender = Sender {
                intake: ingest.intake("telemetry", &key),
                device: &device,
            };
            drop(ingest);
            let lane = sender.lane();
            let identity = *identity.get_or_insert_with(|| self.ledger.producer(&gateway, lane));
            while !last {
                let is_end = self.finish.load(Ordering::Relaxed);
                if left > 0 || is_end {
                    let count = if is_end {
                        1
                    } else {
                        left.min(1 + random.below(20))
                    };
                    left = left.saturating_sub(count);
                    let bytes = |random: &mut Random| 12 + random.index(self.options.value_bytes);
                    let events: Vec<_> = (0..count)
                        .map(|_| self.ledger.event(identity, bytes(&mut random)))
                        .collect();
                    let numbers: Vec<u64> = events.iter().map(|(number, _)| *number).collect();
                    let sent = tokio::select! {
                        biased;
                        _ = way_in.changed() => false,
                        sent = sender.send(lane, &events) => sent,
                    };
                    if sent {
                        self.ledger.acknowledged(identity, &numbers);
                        last = is_end;
                    } else if !way_in.has_changed().unwrap_or(true) {
                        // The log takes nothing more: its gateway ends soon.
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
                if way_in.has_changed().unwrap_or(true) || way_in.borrow().is_none() {
                    break;
                }
                if last {
                    return;
                }
                let slow = self.slowness.load(Ordering::Relaxed).max(1);
                let pause = random.below(self.options.pause.as_micros() as u64 * 2);
                let pause = Duration::from_micros(pause) * slow;
                tokio::select! {
                    biased;
                    _ = way_in.changed() => break,
                    () = tokio::time::sleep(pause.min(Duration::from_secs(600))) => {}
                }
            }
            if last {
                return;
            }
        }
    }

    /// Follows the stream, and checks what comes.
    pub(super) async fn consumer(self) {
        let mut reader = Reader::new(pull(true));
        let mut reads = self.reads.subscribe();
        loop {
            if reads.wait_for(|reads| *reads).await.is_err() {
                return;
            }
            let next = tokio::select! {
                biased;
                _ = reads.changed() => continue,
                next = reader.next() => next,
            };
            match next {
                Ok(Some(item)) => self.ledger.given(&item),
                Ok(None) => {
                    return self
                        .ledger
                        .fail("a reader that follows came to an end".into());
                }
                Err(e) => return self.ledger.fail(format!("the reader: {e}")),
            }
        }
    }

    /// Reads everything again, from the beginning.
    ///
    /// # Errors
    /// What the reader said.
    pub(super) async fn late_consumer(self) -> Result<(), String> {
        let mut reader = Reader::new(pull(false));
        while let Some(item) = reader.next().await.map_err(|e| e.to_string())? {
            self.ledger.given_later(&item);
        }
        Ok(())
    }
}

/// A way in that is used.
struct Sender<'a> {
    intake: Intake,
    device: &'a str,
}

impl Sender<'_> {
    fn lane(&mut self) -> u16 {
        let subject = Subject {
            topic: "",
            device: self.device,
            payload: b"",
        };
        self.intake.lane_of(&subject).expect("a device has a name")
    }

    /// Whether all of it is on the disk.
    async fn send(&mut self, lane: u16, events: &[(u64, Vec<u8>)]) -> bool {
        self.lane();
        for (_, value) in events {
            self.intake.record(lane, None, &[], value, &[]);
        }
        let mut receipts: Vec<Receipt> = Vec::new();
        if self.intake.stage_all(&mut receipts).await.is_err() {
            return false;
        }
        for receipt in receipts {
            self.intake.wait(receipt).await;
        }
        true
    }
}

fn pull(follow: bool) -> PullOptions {
    PullOptions {
        url: "sedge://reader:7443".into(),
        stream: "telemetry".into(),
        start: Start::Earliest,
        follow,
        group: None,
        group_wait: Duration::ZERO,
    }
}

/// Its capacity is another one in some lives.
fn agent_file(options: &Options, name: &str, sizes: &mut Random) -> String {
    let Options {
        partitions,
        capacity_mib,
        linger,
        retry_max,
        ..
    } = options;
    let smaller = options.resizes && sizes.one_in(2);
    let capacity_mib = if smaller { 4 } else { *capacity_mib };
    let (linger, retry_max) = (linger.as_millis(), retry_max.as_millis());
    let when_full = if options.refuses {
        "refuse"
    } else {
        "evict-oldest"
    };
    let root = super::ROOT;
    format!(
        "[gateway]\nid = \"{name}\"\ndata_dir = \"{root}/{name}\"\nrecord_max = \"16KiB\"\n\
         [[stream]]\nname = \"telemetry\"\npartitions = {partitions}\ncapacity = \"{capacity_mib}MiB\"\n\
         when_full = \"{when_full}\"\nlinger = \"{linger}ms\"\n\
         [[uplink]]\nname = \"hq\"\nurl = \"sedge://{name}:7443\"\nretry_max = \"{retry_max}ms\"\n"
    )
}

fn hub_options(site: &Site) -> HubOptions {
    let clock = Arc::clone(&site.clock);
    let clock: sedge_store::Clock = Arc::new(move || clock.now());
    HubOptions {
        streams: vec![StreamOptions {
            capacity: site.options.hub_capacity_mib << 20,
            retention: site.options.retention,
            when_full: WhenFull::EvictOldest,
            ..StreamOptions::default()
        }],
        clock: clock.into(),
        ..HubOptions::new(PathBuf::from(super::ROOT).join("hub"))
    }
}

/// What a life has under way ends in this time.
const DOWN_AT_LEAST: Duration = Duration::from_millis(300);
/// Gateways promise two seconds, and their disks may be slow.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// The stream that is always there.
const DEAD_LETTER_BYTES: u64 = 8 << 20;
/// Identity files, and a segment that is being made.
const SLACK_BYTES: u64 = 2 << 20;
const GATEWAY_BYTES: u64 = 64 << 20;
const HUB_BYTES: u64 = 2 << 30;

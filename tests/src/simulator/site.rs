//! The machines that run: gateways, the hub, those who send and those who read. Each can go down at any moment and comes up again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sedge::gateway::{self, WhenTooLarge};
use sedge::ingest::Ingest;
use sedge::route;
use sedge::shutdown;
use sedge_core::crc;
use sedge_core::log::WhenFull;
use sedge_store::watch;
use sedge_uplink::client::{Access, PullOptions, Reader, Start};
use sedge_uplink::hub::{Hub, HubOptions, StreamOptions};
use sedge_uplink::net::Listener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::client::{self, Client, INFLIGHT_MAX};
use super::device::{Device, Handle};
use super::files::{Disk, Down};
use super::home::Home;
use super::ledger::Ledger;
use super::line::Lines;
use super::machines::Clock;
use super::network::{Network, READER, SECOND_READER};
use super::options::Options;
use super::producer::Producer;
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
    /// What lies between devices and gateways.
    pub(super) lines: Lines,
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
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// How it goes down.
    pub(super) down: Down,
    /// How long it stays there.
    pub(super) pause: Duration,
    /// What is done to its disk meanwhile.
    pub(super) disk: ToDisk,
}

/// What is done to a machine's disk while it is down.
#[derive(Clone, Debug)]
pub(super) enum ToDisk {
    /// Nothing.
    Nothing,
    /// A copy is taken of it.
    Copy,
    /// It becomes what it was when the copy was taken.
    PutBack,
    /// An empty one takes its place.
    Exchange,
    /// This machine, which did not run yet, begins with a copy of it.
    Twin(Box<Machine>),
}

/// What was known when a copy of a disk was taken.
#[derive(Debug)]
struct Copied {
    /// How far the machine's producers were.
    heads: Vec<(u32, u64)>,
    /// How many events of it the hub may not have had yet.
    unsent: Vec<(Home, u64)>,
    /// How many logs of each partition the hub had been offered.
    logs: BTreeMap<Home, usize>,
}

/// A machine that runs, and what can be done to it.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// Its name.
    pub(super) name: String,
    /// Its disk.
    pub(super) disk: Disk,
    /// The most that its files may take.
    bytes_max: u64,
    /// The same, for each log that it has, where logs may come to it.
    log_bytes_max: u64,
    /// How far below its directory those of its logs are.
    depth: usize,
    /// To whom an order goes.
    pub(super) orders: mpsc::UnboundedSender<Order>,
    /// The devices at its serial ports.
    pub(super) devices: Vec<Handle>,
    /// The names of its MQTT clients.
    pub(super) clients: Vec<String>,
}

impl Machine {
    /// The disk is bounded by the configuration.
    pub(super) fn check_bound(&self, ledger: &Ledger) {
        let dir = Path::new(super::ROOT).join(&self.name);
        let logs = self.disk.directories(&dir, self.depth) as u64;
        let (used, allowed) = (self.disk.used(), self.bytes_max);
        // The file with a place that takes no writes is set aside.
        let aside = self.disk.worn() as u64 * SEGMENT_BYTES_MAX;
        if used > allowed.max(logs * self.log_bytes_max + SLACK_BYTES) + aside {
            ledger.fail(format!(
                "{} takes {used} bytes on its disk for {logs} logs, {allowed} are allowed",
                self.name
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
        if name.starts_with(TWIN) {
            if orders.recv().await.is_none() {
                return;
            }
            disk.come_up(Down::Kill);
            self.ledger
                .is_named_alike(TWINNED, self.options.has_one_log_at_a_time());
            self.story.tell(&format!("{name} begins"));
        }
        let mut random = Random::new(seed_for(
            self.options.seed,
            100 + crc::crc32c(name.as_bytes()) as u64,
        ));
        let breath = |random: &mut Random| Duration::from_millis(300 + random.below(5000));
        let mut copy = None;
        loop {
            let (stop, stopped) = oneshot::channel();
            let mut life = begin(&self, stopped);
            let order = tokio::select! {
                biased;
                Some(order) = orders.recv() => order,
                () = disk.went_down.notified() => Order {
                    down: random.pick(&[Down::Kill, Down::PowerCut]),
                    pause: breath(&mut random),
                    disk: ToDisk::Nothing,
                },
                outcome = &mut life => {
                    match outcome {
                        Ok(outcome) => self.story.tell(&format!("{name} ends by itself: {outcome:?}")),
                        Err(e) => self.ledger.fail(format!("{name}: {e}")),
                    }
                    Order { down: Down::Kill, pause: breath(&mut random), disk: ToDisk::Nothing }
                }
            };
            self.story.tell(&format!(
                "{name} goes down: {:?}, for {:?}",
                order.down, order.pause
            ));
            self.story.count(order.down.name());
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
            self.handle_disk(&name, &disk, &order.disk, &mut copy);
            // What a machine was to meet in the life before, it met.
            while orders.try_recv().is_ok() {}
            self.story.tell(&format!("{name} comes up"));
        }
    }

    /// Does to a machine's disk what was ordered. `copy` is the one that was taken of it last.
    fn handle_disk(&self, name: &str, disk: &Disk, order: &ToDisk, copy: &mut Option<Copied>) {
        copy.take_if(|copy| match name == HUB {
            true => self.has_outlived(copy),
            false => self.is_followed(name, copy),
        });
        let kind = match (order, &copy) {
            (ToDisk::Nothing, _) => return,
            (ToDisk::Copy | ToDisk::PutBack, None)
                if name == HUB && !self.ledger.all_are_known() =>
            {
                return;
            }
            // The first time there is nothing to put back, or nothing that gateways can make good.
            (ToDisk::Copy, _) | (ToDisk::PutBack, None) => {
                disk.take_copy();
                *copy = Some(Copied {
                    heads: self.ledger.heads(name),
                    unsent: self.ledger.unsent(name),
                    logs: match name == HUB {
                        true => self.ledger.logs_known(),
                        false => self.ledger.logs_offered(),
                    },
                });
                return self
                    .story
                    .tell(&format!("a copy of the disk of {name} is taken"));
            }
            (
                ToDisk::PutBack,
                Some(Copied {
                    heads,
                    unsent,
                    logs,
                }),
            ) => {
                disk.put_back();
                if name == HUB {
                    self.ledger.hub_is_put_back(logs);
                    "the hub is put back"
                } else {
                    self.ledger.forgets(name, heads, true);
                    self.ledger.may_count_again(unsent);
                    "a disk is put back"
                }
            }
            (ToDisk::Exchange, _) => {
                disk.exchange();
                self.ledger.forgets(name, &[], false);
                // What is older than this would bring back what came before it.
                *copy = None;
                "a disk is exchanged"
            }
            (ToDisk::Twin(twin), _) => {
                disk.take_copy();
                let root = Path::new(super::ROOT);
                // It may run already, with an empty disk.
                twin.disk.go_down();
                twin.disk
                    .become_copy_of(disk, &root.join(name), &root.join(&twin.name));
                self.ledger.forgets(&twin.name, &[], true);
                self.ledger.is_cloned(name);
                let begins = Order {
                    down: Down::Kill,
                    pause: Duration::ZERO,
                    disk: ToDisk::Nothing,
                };
                twin.orders.send(begins).ok();
                "a twin"
            }
        };
        self.story.count(kind);
        self.story.tell(&format!("{name}: {kind}"));
    }

    /// Whether gateways may have removed more logs since `copy` than they remember (decision 0028): of those, nobody could tell a hub that is put back to it.
    fn has_outlived(&self, copy: &Copied) -> bool {
        let mut offered = self.ledger.logs_offered().into_iter();
        offered.any(|(home, logs)| logs > copy.logs.get(&home).unwrap_or(&0) + NEW_LOGS_MAX)
    }

    /// Whether another log follows one that has events in `copy` which the hub may lack, and not because the two differ: as behind an exchange, they would come behind
    /// what is younger (decision 0018).
    fn is_followed(&self, name: &str, copy: &Copied) -> bool {
        let has_unsent = |home: &Home| {
            copy.unsent
                .iter()
                .any(|(of, count)| of == home && *count > 0)
        };
        let mut offered = self.ledger.logs_offered().into_iter();
        !self.options.has_one_log_at_a_time()
            && offered.any(|(home, logs)| {
                let before = copy.logs.get(&home).unwrap_or(&0);
                home.gateway == name && logs > *before && has_unsent(&home)
            })
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
        self.gateway_named(number, &name, &name)
    }

    /// A second machine with the name and disk of the first gateway. It runs from its first order on.
    pub(super) fn twin(&self) -> (Machine, Vec<JoinHandle<()>>) {
        self.gateway_named(TWIN_NUMBER, TWIN, TWINNED)
    }

    fn gateway_named(&self, number: usize, name: &str, id: &str) -> (Machine, Vec<JoinHandle<()>>) {
        let options = &self.options;
        let disk = Disk::new(
            number as u64 + 1,
            seed_for(options.seed, 200 + number as u64),
            GATEWAY_BYTES,
            self.story.clone(),
        );
        if options.lying_disks {
            disk.lie();
        }
        let logs = u64::from(options.partitions) * (options.capacity_mib << 20);
        let (orders, received) = mpsc::unbounded_channel();
        let machine = Machine {
            name: name.to_owned(),
            disk: disk.clone(),
            bytes_max: logs + DEAD_LETTER_BYTES + SLACK_BYTES,
            log_bytes_max: match options.logs_come_and_go() {
                true => (options.capacity_mib << 20).max(DEAD_LETTER_BYTES),
                false => 0,
            },
            depth: 4,
            orders,
            devices: self.devices(number, name),
            clients: self.clients(number, name),
        };
        let (mut ways_in, mut producers) = (Vec::new(), Vec::new());
        for at in 0..options.producers {
            let (way_in, seen) = watch::channel(None);
            ways_in.push(way_in);
            let producer = Producer::new(self, name, id, number * 10 + at);
            producers.push(tokio::spawn(producer.run(seen)));
        }
        let ways_in = Arc::new(ways_in);
        let (given, taken) = (Arc::clone(&ways_in), ways_in);
        let lots = Mutex::new(Lots::new(options.seed, number));
        let host = name.to_owned();
        let begin = {
            let (host, id) = (host.clone(), id.to_owned());
            move |site: &Self, stopped: oneshot::Receiver<()>| {
                let mut lots = lots.lock().expect("no holder panics");
                let text = agent_file(&site.options, &host, (&id, number), &mut lots);
                let when_too_large = lots.sizes.pick(&[WhenTooLarge::Keep, WhenTooLarge::Evict]);
                tokio::spawn(gateway_life(
                    text,
                    when_too_large,
                    Arc::clone(&given),
                    stopped,
                ))
            }
        };
        let ended = move |site: &Self, silently: bool| {
            for way_in in taken.iter() {
                way_in.send_replace(None);
            }
            site.network.is_gone(&host, silently);
        };
        let lives = self
            .clone()
            .lives(name.to_owned(), disk, received, begin, ended);
        tokio::spawn(lives);
        (machine, producers)
    }

    /// The devices of a gateway, which run.
    fn devices(&self, number: usize, machine: &str) -> Vec<Handle> {
        let devices = (0..self.options.devices).map(|at| {
            let number = number * 10 + at;
            let seed = seed_for(self.options.seed, 4000 + number as u64);
            let line = self.lines.lay(&port(machine, at), seed, self.story.clone());
            let (device, handle) = Device::new(self, machine, number, line);
            tokio::spawn(device.run());
            handle
        });
        devices.collect()
    }

    /// The MQTT clients of a gateway, which run.
    fn clients(&self, number: usize, machine: &str) -> Vec<String> {
        let door = mqtt_port(number);
        self.network.cut_door(machine, door);
        let clients = (0..self.options.clients).map(|at| {
            let number = number * 10 + at;
            tokio::spawn(Client::new(self, machine, number, door).run());
            client::name(number)
        });
        clients.collect()
    }

    /// Where the events of a device with this name land.
    #[must_use]
    pub(super) fn home_of(&self, gateway: &str, device: &str) -> Home {
        let partitions = usize::from(self.options.partitions);
        let lane = route::partition_of(device.as_bytes(), partitions);
        Home::new(STREAM, gateway, lane as u16)
    }

    /// The hub, which runs.
    pub(super) fn hub(&self) -> Machine {
        let name = HUB.to_owned();
        let disk = Disk::new(
            0,
            seed_for(self.options.seed, 300),
            HUB_BYTES,
            self.story.clone(),
        );
        let (orders, received) = mpsc::unbounded_channel();
        let partitions = self.options.gateways as u64 * u64::from(self.options.partitions);
        let dead_letters = self.options.gateways as u64 * DEAD_LETTER_BYTES;
        let logs = partitions * (self.options.hub_capacity_mib << 20);
        let bytes_max = logs + dead_letters + SLACK_BYTES;
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
            log_bytes_max: match self.options.logs_come_and_go() {
                true => self.options.hub_capacity_mib << 20,
                false => 0,
            },
            depth: 2,
            orders,
            devices: Vec::new(),
            clients: Vec::new(),
        }
    }

    /// Follows `stream`, and checks what comes.
    pub(super) async fn consumer(self, stream: &'static str) {
        let mut reader = Reader::new(pull(stream, true));
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
        for stream in self.options.streams() {
            let mut reader = Reader::new(pull(stream, false));
            while let Some(item) = reader.next().await.map_err(|e| e.to_string())? {
                self.ledger.given_later(&item);
            }
        }
        Ok(())
    }
}

/// What a gateway draws at the beginning of a life.
struct Lots {
    sizes: Random,
    days: Random,
}

impl Lots {
    fn new(seed: u64, number: usize) -> Self {
        Self {
            sizes: Random::new(seed_for(seed, 400 + number as u64)),
            days: Random::new(seed_for(seed, 500 + number as u64)),
        }
    }
}

/// One life of a gateway, with `text` as its configuration.
async fn gateway_life(
    text: String,
    when_too_large: WhenTooLarge,
    given: Arc<Vec<watch::Sender<Option<Ingest>>>>,
    stopped: oneshot::Receiver<()>,
) -> Result<(), String> {
    let agent = sedge_config::agent::parse(&text, Path::new("agent.toml"), None);
    let agent = agent.unwrap_or_else(|e| panic!("{e}"));
    let way_in: Arc<dyn Fn(&Ingest) + Send + Sync> = Arc::new(move |ingest: &Ingest| {
        for way_in in given.iter() {
            way_in.send_replace(Some(ingest.clone()));
        }
    });
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
}

fn pull(stream: &str, follow: bool) -> PullOptions {
    let host = if stream == STREAM {
        READER
    } else {
        SECOND_READER
    };
    PullOptions {
        url: format!("sedge://{host}:7443"),
        stream: stream.into(),
        start: Start::Earliest,
        follow,
        group: None,
        group_wait: Duration::ZERO,
        access: Access::default(),
    }
}

/// Its capacity is another one in some lives.
fn agent_file(
    options: &Options,
    name: &str,
    (id, number): (&str, usize),
    lots: &mut Lots,
) -> String {
    let Options {
        mut partitions,
        capacity_mib,
        linger,
        retry_max,
        ..
    } = *options;
    let smaller = options.resizes && lots.sizes.one_in(2);
    let capacity_mib = if smaller { 4 } else { capacity_mib };
    if options.repartitions && lots.days.one_in(2) {
        partitions = 3 - partitions;
    }
    let (linger, retry_max) = (linger.as_millis(), retry_max.as_millis());
    let when_full = if options.refuses {
        "refuse"
    } else {
        "evict-oldest"
    };
    let root = super::ROOT;
    let passes = options.live_first_after.map_or_else(String::new, |after| {
        format!("live_first_after = \"{}ms\"\n", after.as_millis())
    });
    let second = match options.second_stream && lots.days.one_in(2) {
        true => format!("[[stream]]\nname = \"{SECOND_STREAM}\"\ncapacity = \"4MiB\"\n"),
        false => String::new(),
    };
    let ports: String = (0..options.devices)
        .map(|at| {
            let port = port(name, at);
            format!("[[source]]\ntype = \"serial\"\nname = \"line-{at}\"\ndevice = {port:?}\nprotocol = \"link\"\nstream = \"{STREAM}\"\n")
        })
        .collect();
    let door = mqtt_port(number);
    let listener = match options.clients {
        0 => String::new(),
        _ => format!(
            "[[source]]\ntype = \"mqtt-listen\"\nname = \"clients\"\nlisten = \"127.0.0.1:{door}\"\nstream = \"{STREAM}\"\ninflight_max = {INFLIGHT_MAX}\n"
        ),
    };
    format!(
        "[gateway]\nid = \"{id}\"\ndata_dir = \"{root}/{name}\"\nrecord_max = \"16KiB\"\n\
         [[stream]]\nname = \"{STREAM}\"\npartitions = {partitions}\ncapacity = \"{capacity_mib}MiB\"\n\
         when_full = \"{when_full}\"\nlinger = \"{linger}ms\"\n\
         {second}{ports}{listener}[[uplink]]\nname = \"hq\"\nurl = \"sedge://{name}:7443\"\nretry_max = \"{retry_max}ms\"\n{passes}"
    )
}

/// The port of a gateway for MQTT clients.
const fn mqtt_port(number: usize) -> u16 {
    1883 + number as u16
}

/// A serial port of a machine.
fn port(machine: &str, at: usize) -> PathBuf {
    PathBuf::from(super::ROOT)
        .join(machine)
        .join(format!("tty-{at}"))
}

fn hub_options(site: &Site) -> HubOptions {
    let clock = Arc::clone(&site.clock);
    let clock: sedge_store::Clock = Arc::new(move || clock.now());
    let usual = HubOptions::new(PathBuf::from(super::ROOT).join("hub"));
    // Some thousand looks in the longest outage: they are all alike.
    let looks_apart = site.options.outage.unwrap_or_default() / 5_000;
    HubOptions {
        streams: vec![StreamOptions {
            capacity: site.options.hub_capacity_mib << 20,
            retention: site.options.retention,
            when_full: WhenFull::EvictOldest,
            ..StreamOptions::default()
        }],
        clock: clock.into(),
        retention_every: usual.retention_every.max(looks_apart),
        ..usual
    }
}

/// The machine that the others connect to.
pub(super) const HUB: &str = "hub";
/// So many logs may be new to a hub that is put back: a gateway remembers sixteen that it has removed, and two of those may be known to the hub as they were.
const NEW_LOGS_MAX: usize = 14;
/// The machine that has another one's name, and begins as its copy or with an empty disk.
pub(super) const TWIN: &str = "twin-0";
const TWINNED: &str = "gw-0";
const TWIN_NUMBER: usize = 9;
/// The stream that is always there, and one that comes and goes.
pub(super) const STREAM: &str = "telemetry";
pub(super) const SECOND_STREAM: &str = "second";
/// What a life has under way ends in this time.
const DOWN_AT_LEAST: Duration = Duration::from_millis(300);
/// Gateways promise two seconds, and their disks may be slow.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// The stream that is always there.
const DEAD_LETTER_BYTES: u64 = 8 << 20;
/// Identity files, and a segment that is being made.
const SLACK_BYTES: u64 = 2 << 20;
/// Of a log of 256 MiB.
const SEGMENT_BYTES_MAX: u64 = 4 << 20;
const GATEWAY_BYTES: u64 = 1 << 30;
const HUB_BYTES: u64 = 2 << 30;

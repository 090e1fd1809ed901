//! `sedge demo`: a small world to try sedge in, and the story that is played in it.
//!
//! ```text
//! 3 MQTT devices ─► mqtt-listen ┐
//!                               ├─ agent ═ wire (can be cut) ═ hub ─► consumer
//! 1 node on a pty ─► serial link┘
//! ```
//! Agent and hub are the real ones, each with a runtime of its own, so that it can be killed: dropped at some point, nothing closed.
//! What is counted is counted outside of them: by the devices that make numbered events, and by the consumer.

pub mod device;
mod ledger;
mod part;
pub mod publisher;
mod show;
pub mod tally;
pub mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sedge_config::checked;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::control;
use crate::shutdown::{self, Shutdown, Trigger};
use crate::status::Status;
use device::{Cable, Device, Flash, Start};
use ledger::Ledger;
use part::Part;
use publisher::{IN_FLIGHT_MAX, Publisher, Told};
use show::Show;
use tally::Tally;
use wire::Wire;

/// Why the story could not be told to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A part of the world cannot be made.
    #[error("the demo cannot be set up: {0}")]
    Setup(#[from] io::Error),
    /// The agent or the hub ended by itself.
    #[error("the {who} ended: {why}")]
    Ended {
        /// Which.
        who: &'static str,
        /// What it said.
        why: String,
    },
}

/// Plays the story in about `duration` and says whether everything that was acknowledged arrived.
///
/// # Errors
/// When it cannot be set up, or a part ends by itself.
pub async fn play(
    duration: Duration,
    node: WithNode,
    shutdown: Shutdown,
) -> Result<bool, DemoError> {
    let mut show = Show::new();
    let mut world = World::make(node).await?;
    world.greet(&mut show);
    let (stop_devices, devices_shutdown) = shutdown::pair();
    world.start_devices(&devices_shutdown);
    let scenes = scenes(duration);
    for (at, scene) in scenes {
        world.watch_until(at, &mut show, &shutdown).await?;
        if shutdown.is_requested() {
            break;
        }
        world.enter(scene, &mut show);
    }
    world.finish(stop_devices, &mut show).await
}

/// Whether there is a node on a pseudo serial line, which not every machine has to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithNode {
    /// There is.
    Yes,
    /// There are only MQTT devices.
    No,
}

/// What happens to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    Cut,
    KillAgent,
    Mend,
    KillHub,
    End,
}

/// The scenes and when each begins.
fn scenes(duration: Duration) -> [(Duration, Scene); 5] {
    let parts = [
        (20, Scene::Cut),
        (35, Scene::KillAgent),
        (50, Scene::Mend),
        (70, Scene::KillHub),
        (90, Scene::End),
    ];
    parts.map(|(percent, scene)| (duration * percent / 100, scene))
}

/// Everything there is.
struct World {
    began: Instant,
    dir: tempfile::TempDir,
    agent_config: checked::Agent,
    agent: Part,
    hub: Part,
    wire: Wire,
    publishers: Vec<(&'static str, Arc<Mutex<Told>>)>,
    node: Option<Node>,
    tally: Arc<Mutex<Tally>>,
    tasks: JoinSet<()>,
    cut: bool,
}

/// The node on the pty: power, and its port.
struct Node {
    device: Arc<Device>,
    cable: Cable,
}

impl Node {
    fn plug() -> io::Result<Self> {
        let cable = Cable::plug()?;
        let start = Start {
            identity: NODE.to_owned(),
            boot: 1,
            noise: None,
            clockless: false,
        };
        let device = Arc::new(Device::power_on(&Flash::erased(), Some(&cable), &start));
        Ok(Self { device, cable })
    }
}

impl World {
    async fn make(node: WithNode) -> Result<Self, DemoError> {
        let dir = tempfile::Builder::new().prefix("sedge-demo-").tempdir()?;
        let (listen, hub_listen) = (free_address()?, free_address()?);
        let wire = Wire::to(hub_listen).await?;
        let node = match node {
            WithNode::Yes => Some(Node::plug()?),
            WithNode::No => None,
        };
        let device = node.as_ref().map(|node| node.cable.path());
        let agent_text = agent_file(dir.path(), listen, wire.address(), device);
        let hub_text = hub_file(dir.path(), hub_listen);
        let (agent_path, hub_path) = (dir.path().join("agent.toml"), dir.path().join("hub.toml"));
        std::fs::write(&agent_path, &agent_text)?;
        std::fs::write(&hub_path, &hub_text)?;
        let agent_config =
            sedge_config::agent::load(&agent_path, None).map_err(io::Error::other)?;
        let hub_config = sedge_config::hub::load(&hub_path).map_err(io::Error::other)?;
        let tally: Arc<Mutex<Tally>> = Arc::default();
        let mut tasks = JoinSet::new();
        let (url, counted) = (format!("sedge://{hub_listen}"), Arc::clone(&tally));
        tasks.spawn(async move {
            if let Err(error) = tally::consume(url, STREAM, counted).await {
                tracing::error!(%error, "the consumer ended");
            }
        });
        Ok(Self {
            began: Instant::now(),
            dir,
            agent: Part::agent(agent_config.clone())?,
            hub: Part::hub(hub_config)?,
            agent_config,
            wire,
            publishers: Vec::new(),
            node,
            tally,
            tasks,
            cut: false,
        })
    }

    fn start_devices(&mut self, shutdown: &Shutdown) {
        let Some(listen) = self
            .agent_config
            .sources
            .iter()
            .find_map(|source| match source {
                checked::Source::MqttListen(source) => Some(source.listen),
                _ => None,
            })
        else {
            return;
        };
        for (name, pause_ms) in PUBLISHERS {
            let publisher = Publisher::new(name, listen, Duration::from_millis(pause_ms));
            self.publishers.push((name, publisher.told()));
            self.tasks.spawn(publisher.run(shutdown.clone()));
        }
        let Some(node) = &self.node else {
            return;
        };
        let (node, mut shutdown) = (Arc::clone(&node.device), shutdown.clone());
        self.tasks.spawn(async move {
            let mut tick = tokio::time::interval(NODE_PAUSE);
            for number in 0.. {
                tokio::select! {
                    _ = tick.tick() => drop(node.record(&payload(NODE, number))),
                    () = shutdown.requested() => return,
                }
            }
        });
    }

    fn enter(&mut self, scene: Scene, show: &mut Show) {
        let at = self.began.elapsed();
        match scene {
            Scene::Cut => {
                self.wire.cut();
                self.cut = true;
                show.event(
                    at,
                    "the wire to the hub is cut: events stay on the gateway's disk",
                );
            }
            Scene::KillAgent => {
                self.agent.kill();
                show.event(
                    at,
                    "the agent is killed and started again: devices reconnect and resend",
                );
            }
            Scene::Mend => {
                self.wire.mend();
                self.cut = false;
                show.event(at, "the wire is whole again: the backlog drains");
            }
            Scene::KillHub => {
                self.hub.kill();
                show.event(
                    at,
                    "the hub is killed and started again: it says where to go on",
                );
            }
            Scene::End => show.event(at, "the devices stop: what is on the way arrives"),
        }
    }

    /// Shows what is going on until `at`.
    async fn watch_until(
        &mut self,
        at: Duration,
        show: &mut Show,
        shutdown: &Shutdown,
    ) -> Result<(), DemoError> {
        while self.began.elapsed() < at && !shutdown.is_requested() {
            sleep(LOOK_EVERY.min(at.saturating_sub(self.began.elapsed()))).await;
            self.look(show).await?;
        }
        Ok(())
    }

    async fn look(&mut self, show: &mut Show) -> Result<(), DemoError> {
        let status = status(&self.agent_config.gateway.control).await;
        let lag = status
            .as_ref()
            .map(|status| status.uplinks.iter().map(|uplink| uplink.lag).sum::<u64>());
        let oldest = status.and_then(|status| {
            status
                .uplinks
                .first()
                .and_then(|uplink| uplink.oldest_unacked_s)
        });
        let ledger = self.ledger();
        show.live(&show::Moment {
            at: self.began.elapsed(),
            sent: ledger.sent(),
            acked: ledger.acked(),
            pulled: ledger.pulled(),
            lag,
            oldest,
            cut: self.cut,
        });
        self.agent.revive().await?;
        self.hub.revive().await
    }

    /// Stops the devices, waits for what is on its way, and settles.
    async fn finish(mut self, stop_devices: Trigger, show: &mut Show) -> Result<bool, DemoError> {
        stop_devices.stop();
        self.wire.mend();
        self.cut = false;
        let until = Instant::now() + DRAIN_PATIENCE;
        while Instant::now() < until && !self.ledger().is_drained() {
            sleep(LOOK_EVERY).await;
            self.look(show).await?;
        }
        let ledger = self.ledger();
        self.agent.stop().await?;
        self.hub.stop().await?;
        show.end();
        show.say(&ledger.to_string());
        let balanced = ledger.is_balanced();
        show.say(&Self::farewell(balanced));
        Ok(balanced)
    }

    fn ledger(&self) -> Ledger {
        let told = self.publishers.iter().map(|(name, told)| {
            (
                *name,
                told.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            )
        });
        let tally = self
            .tally
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let node = self.node.as_ref();
        let node = node.map(|node| (NODE, node.device.custody()));
        Ledger::new(told.collect(), node, tally)
    }

    fn greet(&self, show: &mut Show) {
        let dir = self.dir.path().display();
        let node = match &self.node {
            Some(_) => " and a node on a serial line",
            None => "",
        };
        show.say(&format!(
            "Three MQTT devices{node} send numbered events to an agent;\n\
             the agent keeps them on disk until the hub has them; a consumer pulls from the hub.\n\
             Everything is in {dir}, and goes when the demo ends.\n"
        ));
    }

    fn farewell(balanced: bool) -> String {
        let verdict = match balanced {
            true => "It balances: every acknowledged event was pulled, and none of them twice.",
            false => "It does NOT balance: see the rows above.",
        };
        format!(
            "{verdict}\n\n\
             What you saw: a PUBACK means \"on the gateway's disk\". The cut wire and the kills cost\n\
             time, not events; what devices sent twice was recognised by its session and DUP flag.\n\n\
             Try next:\n  \
               sedge check config/samples/agent.toml      what a configuration means, or what is wrong\n  \
               docs/guide/quickstart.md                   your own device, agent and hub in ten minutes\n  \
               sedge demo --for 60s                       the same with a longer outage\n"
        )
    }
}

/// A numbered event of `device`.
#[must_use]
pub fn payload(device: &str, number: u64) -> Vec<u8> {
    let temperature = 20.0 + (number % 50) as f64 / 10.0;
    format!("{{\"device\":\"{device}\",\"n\":{number},\"temp\":{temperature:.1}}}").into_bytes()
}

async fn status(socket: &Path) -> Option<Status> {
    let ask = async {
        let mut agent = UnixStream::connect(socket).await?;
        agent.write_all(control::STATUS.as_bytes()).await?;
        let mut answer = Vec::new();
        agent.read_to_end(&mut answer).await?;
        Ok::<_, io::Error>(serde_json::from_slice(&answer)?)
    };
    timeout(STATUS_PATIENCE, ask).await.ok()?.ok()
}

fn agent_file(dir: &Path, listen: SocketAddr, hub: SocketAddr, device: Option<&Path>) -> String {
    let data = dir.join("agent");
    let data = data.display();
    let node = device.map_or(String::new(), |device| {
        let device = device.display();
        format!(
            "[[source]]\ntype = \"serial\"\nname = \"node\"\ndevice = \"{device}\"\nprotocol = \"link\"\nstream = \"{STREAM}\"\n\n"
        )
    });
    format!(
        "[gateway]\nid = \"demo-gateway\"\ndata_dir = \"{data}\"\nhttp = \"off\"\n\n\
         [[source]]\ntype = \"mqtt-listen\"\nname = \"devices\"\nlisten = \"{listen}\"\nstream = \"{STREAM}\"\n\
         inflight_max = {IN_FLIGHT_MAX}\n\n\
         {node}[[stream]]\nname = \"{STREAM}\"\ncapacity = \"64MiB\"\n\n\
         [[uplink]]\nname = \"hub\"\nurl = \"sedge://{hub}\"\nretry_max = \"1s\"\n"
    )
}

fn hub_file(dir: &Path, listen: SocketAddr) -> String {
    let data: PathBuf = dir.join("hub");
    format!(
        "[hub]\ndata_dir = \"{}\"\nlisten = \"{listen}\"\nhttp = \"off\"\n",
        data.display()
    )
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

const STREAM: &str = "telemetry";
const NODE: &str = "boiler-1";
const NODE_PAUSE: Duration = Duration::from_millis(50);

/// The MQTT devices and the pauses between their events in milliseconds.
const PUBLISHERS: [(&str, u64); 3] = [("press-1", 10), ("press-2", 10), ("press-3", 20)];

const LOOK_EVERY: Duration = Duration::from_millis(200);
const STATUS_PATIENCE: Duration = Duration::from_millis(500);
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);

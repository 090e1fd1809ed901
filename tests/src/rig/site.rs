//! One gateway and one hub with their configuration files, directories and ports.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::daemon::{Daemon, sedge};
use super::pull::Pulled;
use super::wire::Wire;
use super::{Missing, eventually, free_address};

/// A gateway and a hub that know each other. Nothing runs until it is started.
#[derive(Debug)]
pub struct Site {
    folder: TempDir,
    setup: Setup,
    hub_seen_at: Option<SocketAddr>,
    /// Where devices connect (`mqtt-listen`).
    pub devices: SocketAddr,
    /// Where gateways and consumers connect to the hub.
    pub hub: SocketAddr,
    /// The agent's `/metrics`.
    pub agent_http: SocketAddr,
    /// The hub's.
    pub hub_http: SocketAddr,
    /// Where Kafka's consumers connect to the hub.
    pub kafka: SocketAddr,
}

/// What a test may want different.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Capacity of the agent's partition.
    pub capacity: String,
    /// Capacity of a mirror at the hub.
    pub mirror_capacity: String,
    /// How long the hub keeps events.
    pub retention: String,
    /// Partitions of the stream.
    pub partitions: u16,
    /// Unacknowledged publishes of one device.
    pub inflight_max: u16,
    /// Further `[[source]]` and `[[stream]]` tables of the agent.
    pub more_tables: String,
    /// Further keys of the agent's uplink.
    pub more_of_uplink: String,
    /// Where the agent's data directory goes instead of a temporary one.
    pub agent_data: Option<PathBuf>,
    /// Where the hub's goes.
    pub hub_data: Option<PathBuf>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            capacity: "64MiB".into(),
            mirror_capacity: "1GiB".into(),
            retention: "30d".into(),
            partitions: 1,
            inflight_max: 1024,
            more_tables: String::new(),
            more_of_uplink: String::new(),
            agent_data: None,
            hub_data: None,
        }
    }
}

impl Site {
    /// Writes both configuration files.
    ///
    /// # Panics
    /// If the disk does not take them.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let site = Self {
            folder: TempDir::new().expect("a temporary directory"),
            setup,
            hub_seen_at: None,
            devices: free_address(),
            hub: free_address(),
            agent_http: free_address(),
            hub_http: free_address(),
            kafka: free_address(),
        };
        std::fs::write(site.agent_toml(), site.agent_config()).expect("a configuration file");
        std::fs::write(site.hub_toml(), site.hub_config()).expect("a configuration file");
        site
    }

    /// A site whose hub stands at the far end of `wire` and runs; the gateway has its certificate.
    ///
    /// # Errors
    /// What this machine lacks for it.
    pub fn beyond(wire: &Wire, setup: Setup) -> Result<(Self, Daemon), Missing> {
        let mut site = Self::new(setup);
        let seen_at = wire.lead_to(site.hub)?;
        site.see_hub_at(seen_at);
        let hub = site.start_as_hub(&mut wire.inside(&site.hub_command()));
        site.wait_for_hub();
        site.enroll();
        Ok((site, hub))
    }

    /// Gateway and consumers find the hub at another address than where it listens, on another machine as far as they can see: so the hub gets a
    /// certificate, and consumers a token. The gateway enrols once the hub runs: [`Self::enroll`].
    ///
    /// # Panics
    /// If the disk does not take the configuration.
    pub fn see_hub_at(&mut self, address: SocketAddr) {
        self.hub_seen_at = Some(address);
        std::fs::write(self.agent_toml(), self.agent_config()).expect("a configuration file");
        let names = [address.ip().to_string(), self.hub.ip().to_string()];
        let name = ["--name", "localhost"];
        let named = ["init", "--name", &names[0], "--name", &names[1]];
        let _names = self.said_by_hub(&[&named[..], &name[..]].concat(), "");
        let shown = self.said_by_hub(&["tokens", "add", "reader"], "sedge1.");
        std::fs::write(self.file("token"), shown).expect("a token");
    }

    /// The gateway gets its certificate from the hub that runs.
    ///
    /// # Panics
    /// If it does not.
    pub fn enroll(&self) {
        let token = self.said_by_hub(&["enroll", "gw-test"], "sedge1.");
        let file = self.file("invitation");
        std::fs::write(&file, token).expect("a token");
        let mut command = Command::new(sedge());
        command.arg("enroll").arg("--config").arg(self.agent_toml());
        let output = command.arg("--token-file").arg(file).output();
        let output = output.expect("the binary starts");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// The hub's HTTP door is at all addresses of its machine.
    ///
    /// # Panics
    /// If the disk does not take the configuration.
    pub fn open_http(&mut self) {
        self.hub_http.set_ip(Ipv4Addr::UNSPECIFIED.into());
        std::fs::write(self.hub_toml(), self.hub_config()).expect("a configuration file");
    }

    /// The line of what `sedge hub` shows that begins so.
    ///
    /// # Panics
    /// If it fails, or shows no such line.
    #[must_use]
    pub fn said_by_hub(&self, arguments: &[&str], beginning: &str) -> String {
        let output = self.hub_command().args(arguments).output();
        let output = output.expect("the binary starts");
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{err}");
        let mut lines = out.lines();
        let line = lines.find(|line| line.starts_with(beginning));
        line.expect("it is shown").to_owned()
    }

    fn hub_seen_at(&self) -> SocketAddr {
        self.hub_seen_at.unwrap_or(self.hub)
    }

    /// Starts the agent.
    #[must_use]
    pub fn start_agent(&self) -> Daemon {
        self.start_as_agent(&mut self.agent_command())
    }

    /// What starts the agent.
    #[must_use]
    pub fn agent_command(&self) -> Command {
        let mut command = Command::new(sedge());
        command.arg("agent").arg("--config").arg(self.agent_toml());
        command
    }

    /// Starts the agent in a way of the test's own.
    #[must_use]
    pub fn start_as_agent(&self, command: &mut Command) -> Daemon {
        Daemon::start("agent", command, &self.file("agent.log"))
    }

    /// Starts the hub.
    #[must_use]
    pub fn start_hub(&self) -> Daemon {
        self.start_as_hub(&mut self.hub_command())
    }

    /// What starts the hub.
    #[must_use]
    pub fn hub_command(&self) -> Command {
        let mut command = Command::new(sedge());
        command.arg("hub").arg("--config").arg(self.hub_toml());
        command
    }

    /// Starts the hub in a way of the test's own.
    #[must_use]
    pub fn start_as_hub(&self, command: &mut Command) -> Daemon {
        Daemon::start("hub", command, &self.file("hub.log"))
    }

    /// Waits until the agent lets devices connect.
    pub fn wait_for_agent(&self) {
        wait_for("the agent listens", self.devices);
    }

    /// Waits until the hub lets consumers connect.
    pub fn wait_for_hub(&self) {
        wait_for("the hub listens", self.hub_seen_at());
    }

    /// `sedge pull`, ready for further arguments.
    #[must_use]
    pub fn pull_command(&self) -> Command {
        let mut command = Command::new(sedge());
        command.args([
            "pull", STREAM, "--from", "earliest", "--format", "json", "--hub",
        ]);
        command.arg(format!("sedge://{}", self.hub_seen_at()));
        if self.hub_seen_at.is_some() {
            command.arg("--token-file").arg(self.file("token"));
        }
        command
    }

    /// `sedge pull --follow` by somebody who sits beside the hub, ready for further arguments.
    #[must_use]
    pub fn follow_command(&self) -> Command {
        let mut command = Command::new(sedge());
        command.args(["pull", STREAM, "--follow", "--format", "json", "--hub"]);
        command.arg(format!("sedge://{}", self.hub));
        if self.hub_seen_at.is_some() {
            command.arg("--token-file").arg(self.file("token"));
        }
        command
    }

    /// Everything that the hub holds of the stream.
    ///
    /// # Errors
    /// What pull said.
    pub fn pull(&self) -> Result<Pulled, String> {
        Pulled::by(&mut self.pull_command())
    }

    /// Pulls again and again until events and losses together are at least `accepted`. Where an event may be there twice a count proves
    /// nothing of the others: see [`Self::pull_until`].
    ///
    /// # Panics
    /// If that is not so after `within`; what is not there then has been lost, or is stuck.
    #[must_use]
    pub fn pull_all(&self, accepted: u64, within: Duration) -> Pulled {
        let what = format!("{accepted} accepted");
        self.pull_until(&what, within, |pulled| {
            pulled.events.len() as u64 + pulled.lost() >= accepted
        })
    }

    /// Pulls again and again until what was pulled satisfies `enough`.
    ///
    /// # Panics
    /// With `what` if that is not so after `within`.
    #[must_use]
    pub fn pull_until(
        &self,
        what: &str,
        within: Duration,
        enough: impl Fn(&Pulled) -> bool,
    ) -> Pulled {
        let deadline = Instant::now() + within;
        loop {
            // A pull takes its time, and shows what was there when it began.
            let is_last = Instant::now() >= deadline;
            let latest = match self.pull() {
                Ok(pulled) if enough(&pulled) => return pulled,
                Ok(pulled) => format!("{} events, {} lost", pulled.events.len(), pulled.lost()),
                Err(error) => error,
            };
            assert!(!is_last, "{what}: after {within:?} the hub shows {latest}");
            std::thread::sleep(PULL_AGAIN_AFTER);
        }
    }

    /// What `sedge status --json` says of the running agent.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn status(&self) -> serde_json::Value {
        let mut status = Command::new(sedge());
        let status = status
            .args(["status", "--json", "--config"])
            .arg(self.agent_toml());
        let output = status.output().expect("a command");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
            let said = String::from_utf8_lossy(&output.stderr);
            panic!("no status: {said}")
        })
    }

    /// Runs `sedge push` with `lines` to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn push(&self, lines: &str) -> Output {
        let mut push = Command::new(sedge());
        let push = push
            .args(["push", STREAM, "--config"])
            .arg(self.agent_toml());
        let piped = push
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = piped.spawn().expect("a command");
        let mut stdin = child.stdin.take().expect("it is piped");
        // A push that is turned away may be gone before it reads.
        drop(stdin.write_all(lines.as_bytes()));
        drop(stdin);
        child.wait_with_output().expect("our own child")
    }

    /// The body of a page of the agent's HTTP door.
    ///
    /// # Panics
    /// If nobody answers there.
    #[must_use]
    pub fn page(&self, path: &str) -> String {
        page_at(self.agent_http, path).expect("the agent's HTTP door")
    }

    /// The body of a page of the hub's.
    ///
    /// # Panics
    /// If nobody answers there.
    #[must_use]
    pub fn hub_page(&self, path: &str) -> String {
        self.hub_page_if_any(path).expect("the hub's HTTP door")
    }

    /// The same, if somebody answers.
    #[must_use]
    pub fn hub_page_if_any(&self, path: &str) -> Option<String> {
        page_at(self.hub_http, path).ok()
    }

    /// The agent's data directory.
    #[must_use]
    pub fn agent_data(&self) -> PathBuf {
        self.setup
            .agent_data
            .clone()
            .unwrap_or_else(|| self.file("agent"))
    }

    /// The hub's data directory.
    #[must_use]
    pub fn hub_data(&self) -> PathBuf {
        self.setup
            .hub_data
            .clone()
            .unwrap_or_else(|| self.file("hub"))
    }

    /// The agent's configuration file.
    #[must_use]
    pub fn agent_toml(&self) -> PathBuf {
        self.file("agent.toml")
    }

    /// The hub's.
    #[must_use]
    pub fn hub_toml(&self) -> PathBuf {
        self.file("hub.toml")
    }

    /// A file of this site.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn agent_config(&self) -> String {
        format!(
            r#"
[gateway]
id = "gw-test"
data_dir = "{data}"
http = "{http}"

[[source]]
type = "mqtt-listen"
name = "direct"
listen = "{devices}"
stream = "{STREAM}"
key = "{{topic[1]}}"
inflight_max = {inflight_max}

{more}

[[stream]]
name = "{STREAM}"
partitions = {partitions}
capacity = "{capacity}"

[[uplink]]
name = "hq"
url = "sedge://{hub}"
retry_max = "200ms"
{more_of_uplink}
"#,
            data = self.agent_data().display(),
            more_of_uplink = self.setup.more_of_uplink,
            http = self.agent_http,
            devices = self.devices,
            inflight_max = self.setup.inflight_max,
            more = self.setup.more_tables,
            partitions = self.setup.partitions,
            capacity = self.setup.capacity,
            hub = self.hub_seen_at(),
        )
    }

    fn hub_config(&self) -> String {
        format!(
            r#"
[hub]
data_dir = "{data}"
listen = "{hub}"
http = "{http}"
kafka = "{kafka}"

[[hub.stream]]
name = "*"
capacity = "{capacity}"
retention = "{retention}"
"#,
            data = self.hub_data().display(),
            hub = self.hub,
            http = self.hub_http,
            kafka = self.kafka,
            capacity = self.setup.mirror_capacity,
            retention = self.setup.retention,
        )
    }
}

/// Starts a second agent with the configuration at `config`.
#[must_use]
pub fn start_agent_with(config: &Path, log: &Path) -> Daemon {
    Daemon::start(
        "second agent",
        Command::new(sedge())
            .arg("agent")
            .arg("--config")
            .arg(config),
        log,
    )
}

/// The body of a page at `door`.
///
/// # Errors
/// If nobody answers there.
pub fn page_at(door: SocketAddr, path: &str) -> std::io::Result<String> {
    Ok(ask_at(door, "GET", path, "")?.1)
}

/// The status and the body of an answer at `door`.
///
/// # Errors
/// If nobody answers there.
pub fn ask_at(
    door: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let mut door = TcpStream::connect(door)?;
    let length = body.len();
    let request = format!("{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
    door.write_all(request.as_bytes())?;
    let mut answer = String::new();
    door.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    Ok((
        status.unwrap_or_default(),
        body.unwrap_or_default().to_owned(),
    ))
}

fn wait_for(what: &str, address: SocketAddr) {
    eventually(START_WITHIN, what, || TcpStream::connect(address).ok());
}

/// The stream that everything goes to.
pub const STREAM: &str = "telemetry";
const PULL_AGAIN_AFTER: Duration = Duration::from_millis(200);
const START_WITHIN: Duration = Duration::from_secs(20);

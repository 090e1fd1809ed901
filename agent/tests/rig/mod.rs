//! A place for one story: a temporary directory, files for an agent and a hub on free ports, and the real binary.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A running agent or hub; killed if the story ends before it.
pub(crate) struct Service(Child);

pub(crate) struct Place {
    pub(crate) dir: TempDir,
    pub(crate) hub_address: SocketAddr,
    pub(crate) mqtt_address: SocketAddr,
    pub(crate) http_address: SocketAddr,
    pub(crate) hub_http_address: SocketAddr,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
            hub_address: free_address(),
            mqtt_address: free_address(),
            http_address: free_address(),
            hub_http_address: free_address(),
        };
        place.write("agent.toml", &place.agent_file());
        let (hub, dir) = (place.hub_address, place.path("hub"));
        let http = place.hub_http_address;
        let text = format!(
            "[hub]\ndata_dir = \"{}\"\nlisten = \"{hub}\"\nhttp = \"{http}\"\n",
            dir.display()
        );
        place.write("hub.toml", &text);
        place
    }

    pub(crate) fn agent_file(&self) -> String {
        let (dir, hub, mqtt, http) = (
            self.path("agent"),
            self.hub_address,
            self.mqtt_address,
            self.http_address,
        );
        format!(
            "[gateway]\nid = \"gw-1\"\ndata_dir = \"{}\"\nhttp = \"{http}\"\n\
             [[source]]\ntype = \"mqtt-listen\"\nname = \"direct\"\nlisten = \"{mqtt}\"\nstream = \"telemetry\"\n\
             [[stream]]\nname = \"telemetry\"\ncapacity = \"8MiB\"\n\
             [[uplink]]\nname = \"hq\"\nurl = \"sedge://{hub}\"\nretry_max = \"200ms\"\n",
            dir.display()
        )
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a file in a temporary directory");
        path
    }

    pub(crate) fn start_agent(&self) -> Service {
        let service = Service::start(&["agent", "--config", &self.text("agent.toml")]);
        eventually("the agent answers", || self.status().code == Some(0));
        service
    }

    pub(crate) fn start_hub(&self) -> Service {
        let service = Service::start(&["hub", "--config", &self.text("hub.toml")]);
        eventually("the hub listens", || {
            TcpStream::connect(self.hub_address).is_ok()
        });
        service
    }

    pub(crate) fn status(&self) -> Ran {
        sedge(&["status", "--json", "--config", &self.text("agent.toml")])
    }

    pub(crate) fn push(&self, stream: &str, lines: &str) -> Ran {
        sedge_with(
            &["push", stream, "--config", &self.text("agent.toml")],
            lines,
        )
    }

    /// `sedge pull telemetry` with these arguments more.
    pub(crate) fn pull(&self, arguments: &[&str]) -> Ran {
        let hub = self.hub_url();
        sedge(&[&["pull", "telemetry", "--hub", &hub], arguments].concat())
    }

    pub(crate) fn hub_url(&self) -> String {
        format!("sedge://{}", self.hub_address)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Waits until the hub has everything that the agent has.
    pub(crate) fn drained(&self) {
        eventually("the hub has everything", || {
            let status: serde_json::Value =
                serde_json::from_str(&self.status().out).expect("status is JSON");
            status["uplinks"][0]["up"] == true && status["uplinks"][0]["lag"] == 0
        });
    }
}

impl Service {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sedge"));
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().expect("the binary starts"))
    }

    /// As [`Service::start`], with its log lines in a file.
    pub(crate) fn start_with_log(arguments: &[&str], log: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sedge"));
        let log = std::fs::File::create(log).expect("a file in a temporary directory");
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        Self(command.spawn().expect("the binary starts"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("it runs");
    }

    /// SIGTERM; the exit code and how long it took.
    pub(crate) fn stop(mut self) -> (Option<i32>, Duration) {
        self.signal(Signal::TERM);
        let began = Instant::now();
        let code = self.0.wait().expect("it ends").code();
        (code, began.elapsed())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Runs the binary to its end.
pub(crate) fn sedge(arguments: &[&str]) -> Ran {
    sedge_with(arguments, "")
}

/// Runs the binary to its end with this on its standard input.
pub(crate) fn sedge_with(arguments: &[&str], input: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sedge"));
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    // A command that does not read may be gone before.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    child.wait_with_output().expect("it ends").into()
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The body of a page.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    page(address, path).1
}

/// The status code and the body of a page.
pub(crate) fn page(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream
        .write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
        .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (code.expect("a status"), body.to_owned())
}

/// Asks again until it is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn sample(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../config/samples")
        .join(name)
        .display()
        .to_string()
}

/// Below the range from which the kernel takes ports for whoever connects or asks for any, and away from that of the whole-system tests: it stays free until
/// somebody of this story listens there.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = (std::process::id() % 50) as u16 * PORTS_OF_ONE;
    for _ in 0..PORTS {
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % PORTS;
        let port = 10_000 + (begin + number) % PORTS;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port")
}

const PORTS: u16 = 10_000;
const PORTS_OF_ONE: u16 = 200;
const PATIENCE: Duration = Duration::from_secs(30);

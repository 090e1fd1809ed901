//! A wire between the gateway and a hub that stands in a network namespace of its own, and what happens to wires: packets lost, a trickle, silence, resets, a pulled plug.
//!
//! ```text
//! the test, devices, agent ── veth ── namespace: nftables, then the hub on its loopback
//! ```
//! Only what crosses the wire suffers, and nothing of the machine but one interface is touched; both go with this value.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::scratch::run;
use super::{Missing, tell};

/// A namespace at the end of a wire.
#[derive(Debug)]
pub struct Wire {
    name: String,
    here: Ipv4Addr,
    there: Ipv4Addr,
}

/// Which packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Those to the hub.
    There,
    /// Those from the hub.
    Back,
    /// All.
    Both,
}

impl Wire {
    /// Makes one.
    ///
    /// # Errors
    /// What this machine lacks for it.
    pub fn create() -> Result<Self, Missing> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // 198.18.0.0/15 is set aside for trying networks (RFC 2544): four addresses for each wire.
        let base = u32::from(Ipv4Addr::new(198, 18, 0, 0))
            + (std::process::id() % 1_024) * 128
            + (number % 32) * 4;
        let wire = Self {
            name: format!("sedge{}-{number}", std::process::id()),
            here: Ipv4Addr::from(base + 1),
            there: Ipv4Addr::from(base + 2),
        };
        wire.lay()?;
        Ok(wire)
    }

    fn lay(&self) -> Result<(), Missing> {
        let (name, here, there) = (&self.name, self.here, self.there);
        ip(&format!("netns add {name}"))?;
        let (near, far) = (self.near(), FAR);
        ip(&format!(
            "link add {near} type veth peer name {far} netns {name}"
        ))?;
        ip(&format!("addr add {here}/30 dev {near}"))?;
        ip(&format!("link set {near} up"))?;
        ip(&format!("-n {name} addr add {there}/30 dev {far}"))?;
        ip(&format!("-n {name} link set {far} up"))?;
        ip(&format!("-n {name} link set lo up"))?;
        self.nft(TABLE)
    }

    /// Lets the hub at `hub`, which listens on its loopback, be found at the end of the wire. Returns where.
    ///
    /// # Errors
    /// What this machine lacks for it.
    pub fn lead_to(&self, hub: SocketAddr) -> Result<SocketAddr, Missing> {
        let sysctl = format!("/proc/sys/net/ipv4/conf/{FAR}/route_localnet");
        let mut allow = Command::new("sh");
        allow.args(["-c", &format!("echo 1 > {sysctl}")]);
        run("ip", &mut self.inside(&allow))?;
        let (there, port) = (self.there, hub.port());
        self.nft(&format!(
            "add rule ip wire door ip daddr {there} tcp dport {port} dnat to {hub}"
        ))?;
        Ok(SocketAddrV4::new(there, port).into())
    }

    /// The address at the far end.
    #[must_use]
    pub const fn far(&self) -> Ipv4Addr {
        self.there
    }

    /// `command`, to run at the far end.
    #[must_use]
    pub fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.name]);
        inside.arg(command.get_program()).args(command.get_args());
        inside
    }

    /// Of a hundred packets so many are lost.
    pub fn lose(&self, percent: u32) {
        self.filter(
            Way::Both,
            &format!("numgen random mod 100 < {percent} drop"),
        );
    }

    /// None comes through, and nobody is told.
    pub fn swallow(&self, way: Way) {
        self.filter(way, "drop");
    }

    /// Every connection that says something is reset.
    pub fn reset(&self) {
        self.filter(Way::Both, "meta l4proto tcp reject with tcp reset");
    }

    /// No more than so many bits come through in a second, either way.
    pub fn throttle(&self, kilobits: u32) {
        let bucket = format!("root tbf rate {kilobits}kbit burst 4kb latency 400ms");
        self.tc(&format!("qdisc add dev {} {bucket}", self.near()), false);
        self.tc(&format!("qdisc add dev {FAR} {bucket}"), true);
    }

    /// The plug is pulled.
    pub fn unplug(&self) {
        ip(&format!("-n {} link set {FAR} down", self.name)).expect("the link was up");
    }

    /// The plug is put back into a thin wire.
    pub fn plug_in_throttled(&self, kilobits: u32) {
        self.throttle(kilobits);
        self.nft("flush chain ip wire there; flush chain ip wire back")
            .expect("chains of our own");
        ip(&format!("-n {} link set {FAR} up", self.name)).expect("a link of our own");
    }

    /// All is well again.
    pub fn heal(&self) {
        self.nft("flush chain ip wire there; flush chain ip wire back")
            .expect("chains of our own");
        ip(&format!("-n {} link set {FAR} up", self.name)).expect("a link of our own");
        // There is none if nothing was throttled.
        self.tc(&format!("qdisc del dev {} root", self.near()), false);
        self.tc(&format!("qdisc del dev {FAR} root"), true);
    }

    fn filter(&self, way: Way, rule: &str) {
        if way != Way::Back {
            self.nft(&format!("add rule ip wire there iifname {FAR} {rule}"))
                .expect("a rule that was tried");
        }
        if way != Way::There {
            self.nft(&format!("add rule ip wire back oifname {FAR} {rule}"))
                .expect("a rule that was tried");
        }
    }

    fn nft(&self, rules: &str) -> Result<(), Missing> {
        let found = Command::new("nft").arg("--version").output();
        found.map_err(|_| Missing::Program("nft"))?;
        let mut nft = Command::new("nft");
        nft.args(["-f", "-"]);
        let mut nft = self
            .inside(&nft)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|_| Missing::Program("ip"))?;
        let mut stdin = nft.stdin.take().expect("it is piped");
        writeln!(stdin, "{rules}").expect("nft reads to the end");
        drop(stdin);
        let output = nft.wait_with_output().expect("our own child");
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Missing::Machine(format!("nft: {said}")))
    }

    /// What it says is of interest only where a bucket is laid, and there the test would see that nothing is throttled.
    fn tc(&self, arguments: &str, inside: bool) {
        let mut tc = Command::new("tc");
        tc.args(arguments.split(' '));
        let mut tc = if inside { self.inside(&tc) } else { tc };
        let done = tc.stderr(Stdio::null()).status();
        let needed = arguments.contains(" add ");
        assert!(
            !needed || done.is_ok_and(|status| status.success()),
            "tc {arguments}"
        );
    }

    fn near(&self) -> String {
        // An interface's name has at most 15 bytes.
        format!("n{}", &self.name["sedge".len()..])
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // The interface goes at once; with its namespace it would go when the last packet in there has gone.
        for leave in [
            format!("link del {}", self.near()),
            format!("netns del {}", self.name),
        ] {
            if let Err(missing) = ip(&leave) {
                tell(&format!("left behind, {missing:?}"));
            }
        }
    }
}

fn ip(arguments: &str) -> Result<(), Missing> {
    run("ip", Command::new("ip").args(arguments.split(' ')))
}

/// The wire's end in the namespace.
const FAR: &str = "wire";
/// What comes to the wire's address is led to the loopback; `there` and `back` are empty as long as all is well.
const TABLE: &str = "table ip wire {
    chain door { type nat hook prerouting priority dstnat; }
    chain there { type filter hook input priority filter; }
    chain back { type filter hook output priority filter; }
}";

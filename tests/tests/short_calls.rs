//! Reads and writes of files come back short or interrupted all the time, as POSIX allows: the real agent and hub go on from there, and nobody notices.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sedge_tests::random::Random;
use sedge_tests::rig::daemon::Daemon;
use sedge_tests::rig::device::{Device, Habit};
use sedge_tests::rig::ledger::settle;
use sedge_tests::rig::site::{Setup, Site};
use sedge_tests::rig::{Missing, alone, chance, eventually, skip, tell, times};

/// A quarter of all reads and writes of regular files is cut short, one in sixteen is interrupted, at agent and hub, from their first start on. Each is
/// killed again and again (`SEDGE_KILLS`), so recovery reads in pieces as well. Nothing is lost, nothing is there twice, nobody ends by itself.
#[test]
fn calls_that_come_back_short_or_interrupted_cost_nothing() {
    let name = "calls_that_come_back_short_or_interrupted_cost_nothing";
    let _alone = alone();
    let mut chance = chance(name);
    let site = Site::new(Setup {
        capacity: "4MiB".into(),
        mirror_capacity: "64MiB".into(),
        inflight_max: WINDOW_MAX,
        ..Setup::default()
    });
    let shim = match Shim::build(&site) {
        Ok(shim) => shim,
        Err(missing) => return skip(name, &missing),
    };
    let mut agent = start_agent(&site, &shim, &mut chance);
    let mut hub = start_hub(&site, &shim, &mut chance);
    let habit = Habit::new(site.devices, "only");
    let device = Device::start(Habit {
        in_flight: 8,
        payload_bytes: 400,
        ..habit
    });
    let progress = |agent: &mut Daemon, hub: &mut Daemon| {
        let (enough, began) = (device.acked() + EVENTS_A_LIFE, Instant::now());
        eventually(SETTLE_WITHIN, "events are acknowledged", || {
            for daemon in [&mut *agent, &mut *hub] {
                let ended = daemon.exit_status();
                assert!(ended.is_none(), "{ended:?}: {}", daemon.printed());
            }
            (device.acked() >= enough && began.elapsed() > LIFE_MIN).then_some(())
        });
    };
    let kills = times("SEDGE_KILLS", KILLS);
    for _ in 0..kills {
        progress(&mut agent, &mut hub);
        if chance.one_in(2) {
            agent.kill();
            agent = start_agent(&site, &shim, &mut chance);
        } else {
            hub.kill();
            hub = start_hub(&site, &shim, &mut chance);
        }
    }
    progress(&mut agent, &mut hub);

    let told = device.finish(SETTLE_WITHIN);
    let sent = told.fresh.len() as u64;
    let pulled = site.pull_all(sent, SETTLE_WITHIN);
    pulled.assert_dense();
    assert_eq!(pulled.lost(), 0, "{:?}", pulled.gaps);
    let balance = settle(&[told], &pulled);
    let (short, interrupted) = shim.counts();
    assert!(short > 1_000 && interrupted > 100, "{short}, {interrupted}");
    tell(&format!(
        "{short} calls came back short, {interrupted} interrupted, {kills} kills: {balance:?}"
    ));
    for daemon in [agent, hub] {
        assert_eq!(daemon.terminate(STOP_WITHIN).code(), Some(0));
    }
}

fn start_agent(site: &Site, shim: &Shim, chance: &mut Random) -> Daemon {
    let mut command = shim.under(&site.agent_command(), chance.bits());
    let agent = site.start_as_agent(&mut command);
    site.wait_for_agent();
    agent
}

fn start_hub(site: &Site, shim: &Shim, chance: &mut Random) -> Daemon {
    let mut command = shim.under(&site.hub_command(), chance.bits());
    let hub = site.start_as_hub(&mut command);
    site.wait_for_hub();
    hub
}

/// `tests/shims/short_writes.c`, built.
struct Shim {
    library: PathBuf,
    count: PathBuf,
}

impl Shim {
    fn build(site: &Site) -> Result<Self, Missing> {
        let library = site.file("short_writes.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("shims/short_writes.c");
        let built = Command::new("cc")
            .args(["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"])
            .args(["-o".as_ref(), library.as_os_str(), source.as_os_str()])
            .arg("-ldl")
            .output()
            .map_err(|_| Missing::Program("cc"))?;
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "{said}");
        Ok(Self {
            library,
            count: site.file("short-calls"),
        })
    }

    fn under(&self, command: &Command, seed: u64) -> Command {
        let mut under = Command::new(command.get_program());
        under
            .args(command.get_args())
            .env("LD_PRELOAD", &self.library)
            .env("SHORT_WRITES_SEED", seed.to_string())
            .env("SHORT_WRITES_COUNT", &self.count);
        under
    }

    /// Calls cut short, and calls interrupted.
    #[expect(
        clippy::host_endian_bytes,
        reason = "the shim counts in the memory of this machine"
    )]
    fn counts(&self) -> (u64, u64) {
        let bytes = std::fs::read(&self.count).expect("the shim counts");
        let number = |at: usize| {
            let number: [u8; 8] = bytes[at..at + 8].try_into().expect("eight bytes");
            u64::from_ne_bytes(number)
        };
        (number(0), number(8))
    }
}

const KILLS: u64 = 20;
const EVENTS_A_LIFE: u64 = 300;
const LIFE_MIN: Duration = Duration::from_millis(50);
const WINDOW_MAX: u16 = 16;
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(10);

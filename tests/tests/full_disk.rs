//! A disk with any amount of free space, from none to enough, under the real agent and under the real hub: it works, or says what does not fit and where;
//! what was acknowledged is there, and when there is room again nobody has to help.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sedge_tests::random::Random;
use sedge_tests::rig::daemon::Daemon;
use sedge_tests::rig::device::{Device, Habit};
use sedge_tests::rig::ledger::settle;
use sedge_tests::rig::scratch::{Ballast, Ext4, Tmpfs};
use sedge_tests::rig::site::{Setup, Site};
use sedge_tests::rig::{Missing, alone, chance, skip, tell};

/// First start, events over several segments, another start, then room again: at the agent.
#[test]
fn an_agent_with_any_amount_of_room_keeps_what_it_acknowledged() {
    sweep(
        "an_agent_with_any_amount_of_room_keeps_what_it_acknowledged",
        Side::Agent,
    );
}

/// The same at the hub, with its catalog.
#[test]
fn a_hub_with_any_amount_of_room_keeps_what_it_acknowledged() {
    sweep(
        "a_hub_with_any_amount_of_room_keeps_what_it_acknowledged",
        Side::Hub,
    );
}

/// Amounts by chance, or all of them (`SEDGE_CASES=all`), on a tmpfs and on an ext4 at the same time.
fn sweep(name: &str, side: Side) {
    let _alone = alone();
    let mut chance = chance(name);
    for make in [Disk::tmpfs, Disk::ext4] {
        if let Err(missing) = make() {
            return skip(name, &missing);
        }
    }
    let wanted = std::env::var("SEDGE_CASES").unwrap_or_default();
    std::thread::scope(|scope| {
        for make in [Disk::tmpfs, Disk::ext4] {
            let mut steps: Vec<u64> = (0..=ENOUGH_KIB / STEP_KIB).collect();
            if wanted != "all" {
                chance.shuffle(&mut steps);
                steps.truncate(wanted.parse().unwrap_or(CASES));
            }
            for steps in steps.chunks(steps.len().div_ceil(AT_ONCE)) {
                let (steps, mut chance) = (steps.to_vec(), Random::new(chance.bits()));
                scope.spawn(move || try_each(side, make, &steps, &mut chance));
            }
        }
    });
}

fn try_each(side: Side, make: fn() -> Result<Disk, Missing>, steps: &[u64], chance: &mut Random) {
    let began = Instant::now();
    let mut ends = [0; 3];
    let mut kind = "";
    for step in steps {
        let disk = make().expect("it could be made a moment ago");
        kind = disk.kind();
        ends[case(side, &disk, step * STEP_KIB, chance) as usize] += 1;
    }
    let [refused, partly, worked] = ends;
    tell(&format!(
        "{side:?} on {kind}: {} amounts in {:.0?}; with {refused} it took nothing, with {partly} a part, with {worked} everything",
        steps.len(),
        began.elapsed()
    ));
}

/// One amount of free space. Says how far it went while there was no more.
fn case(side: Side, disk: &Disk, free_kib: u64, chance: &mut Random) -> Went {
    let what = format!("{side:?} on {} with {free_kib} KiB", disk.kind());
    let ballast = Ballast::leaving(free_kib, &disk.path());
    let stays = chance.one_in(2);
    let site = Site::new(side.setup(disk.path().join("data")));
    let mut stand = Stand::new(&site, side);
    let device = stand.device();

    stand.live(&what, &device);
    stand.begin_again(&what, chance);
    stand.live(&what, &device);
    let before = stand.carried(&device);
    ballast.remove();
    if !stays || stand.has_ended() {
        stand.begin_again(&what, chance);
    }

    let told = device.finish_count(AGAIN_WITHIN);
    let pulled = site.pull_all(EVENTS, AGAIN_WITHIN);
    pulled.assert_dense();
    let count = pulled.events.len() as u64 + pulled.lost();
    assert_eq!(count, EVENTS, "{what}: accepted = pulled + lost");
    if pulled.lost() == 0 {
        settle(&[told], &pulled);
    } else {
        let evicted = pulled.gaps.iter().all(|gap| gap.cause == "evicted");
        assert!(evicted, "{what}: {:?}", pulled.gaps);
    }
    stand.end(&what);
    match before {
        0 => Went::Nowhere,
        EVENTS => Went::AllTheWay,
        _ => Went::Apart,
    }
}

/// How far a gateway and a hub came with what room there was.
#[derive(Clone, Copy)]
enum Went {
    Nowhere,
    Apart,
    AllTheWay,
}

/// Which of the two has the small disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Agent,
    Hub,
}

impl Side {
    fn setup(self, data: PathBuf) -> Setup {
        let setup = Setup {
            mirror_capacity: "5MiB".into(),
            more_tables: "[[stream]]\nname = \"dead-letter\"\ncapacity = \"4MiB\"".into(),
            ..Setup::default()
        };
        match self {
            Self::Agent => Setup {
                capacity: "4MiB".into(),
                agent_data: Some(data),
                ..setup
            },
            Self::Hub => Setup {
                hub_data: Some(data),
                ..setup
            },
        }
    }
}

/// Both programs; the one on the small disk may have ended.
struct Stand<'a> {
    site: &'a Site,
    side: Side,
    tried: Daemon,
    other: Daemon,
    /// Bytes that its earlier lives have printed.
    told_before: usize,
}

impl<'a> Stand<'a> {
    fn new(site: &'a Site, side: Side) -> Self {
        let (tried, other) = match side {
            Side::Agent => (site.start_agent(), site.start_hub()),
            Side::Hub => (site.start_hub(), site.start_agent()),
        };
        Self {
            site,
            side,
            tried,
            other,
            told_before: 0,
        }
    }

    fn device(&self) -> Device {
        let habit = Habit::new(self.site.devices, "only");
        Device::start(Habit {
            count: EVENTS,
            payload_bytes: 1_000,
            in_flight: 50,
            rest: Duration::ZERO,
            ..habit
        })
    }

    /// Until the events have come through, nothing moves any more, or the program has ended: then in order, and with a reason.
    fn live(&mut self, what: &str, device: &Device) {
        let (mut latest, mut moved) = (self.carried(device), Instant::now());
        while latest < EVENTS && !self.has_ended() {
            let patience = if self.says_why() { STILL } else { SLOW };
            if moved.elapsed() > patience {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
            let now = self.carried(device);
            if now > latest {
                (latest, moved) = (now, Instant::now());
            }
        }
        let printed = self.tried.printed();
        assert!(!printed.contains("panicked"), "{what}: {printed}");
        if let Some(status) = self.tried.exit_status() {
            assert_eq!(status.signal(), None, "{what}: {printed}");
            assert_eq!(status.code(), Some(A_DISK_FAILED), "{what}: {printed}");
        }
        let why = latest == EVENTS || self.says_why();
        assert!(
            why,
            "{what}: it does not say what does not fit where: {printed}"
        );
    }

    /// What does not fit, and where, in this life.
    fn says_why(&self) -> bool {
        let data = self.data().display().to_string();
        let printed = self.tried.printed();
        printed[self.told_before..].lines().any(|line| {
            let why = line.contains("No space left") || line.contains("room for");
            why && line.contains(&data)
        })
    }

    /// Ends it, if it has not ended, in one of two ways, and starts it.
    fn begin_again(&mut self, what: &str, chance: &mut Random) {
        if !self.has_ended() {
            if chance.one_in(2) {
                self.tried.kill_now();
            } else {
                let status = self.tried.stop(STOP_WITHIN);
                // One that was started a moment ago is not yet there to be told.
                let in_order = status.code() == Some(0) || status.signal() == Some(SIGTERM);
                assert!(in_order, "{what}: {status} {}", self.tried.printed());
            }
        }
        self.told_before = self.tried.printed().len();
        self.tried = match self.side {
            Side::Agent => self.site.start_agent(),
            Side::Hub => self.site.start_hub(),
        };
    }

    fn has_ended(&mut self) -> bool {
        self.tried.exit_status().is_some()
    }

    /// Events that have come through the side that is tried.
    fn carried(&self, device: &Device) -> u64 {
        match self.side {
            Side::Agent => device.acked(),
            Side::Hub => self.stored().min(EVENTS),
        }
    }

    /// Where the hub's log ends; 0 as long as it does not say.
    fn stored(&self) -> u64 {
        let metrics = self.site.hub_page_if_any("/metrics").unwrap_or_default();
        let end = metrics
            .lines()
            .find_map(|line| line.strip_prefix(HUB_END)?.parse().ok());
        end.unwrap_or(0)
    }

    fn data(&self) -> PathBuf {
        match self.side {
            Side::Agent => self.site.agent_data(),
            Side::Hub => self.site.hub_data(),
        }
    }

    fn end(mut self, what: &str) {
        for daemon in [&mut self.tried, &mut self.other] {
            let status = daemon.stop(STOP_WITHIN);
            assert_eq!(status.code(), Some(0), "{what}: {}", daemon.printed());
        }
    }
}

/// A disk of its own for each case.
enum Disk {
    Tmpfs(Tmpfs),
    Ext4(Ext4),
}

impl Disk {
    fn tmpfs() -> Result<Self, Missing> {
        Tmpfs::create(DISK_KIB).map(Self::Tmpfs)
    }

    fn ext4() -> Result<Self, Missing> {
        Ext4::create(DISK_KIB >> 10).map(Self::Ext4)
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::Tmpfs(disk) => disk.path(),
            Self::Ext4(disk) => disk.path(),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Tmpfs(_) => "tmpfs",
            Self::Ext4(_) => "ext4",
        }
    }
}

const HUB_END: &str =
    "sedge_hub_end_offset{stream=\"telemetry\",gateway=\"gw-test\",partition=\"0\"} ";
const STEP_KIB: u64 = 4;
/// Everything that either program wants: two logs of 4 MiB, and what lies beside them.
const ENOUGH_KIB: u64 = 10 << 10;
const DISK_KIB: u64 = 24 << 10;
const CASES: usize = 9;
/// Threads for each kind of disk: most of a case is waiting.
const AT_ONCE: usize = 3;
/// Of a kilobyte each: two segments, and no need to evict.
const EVENTS: u64 = 2_000;
/// Nothing more will come of a program that has said what is missing …
const STILL: Duration = Duration::from_millis(500);
/// … and of one that has not only when the machine has had time for everything.
const SLOW: Duration = Duration::from_secs(15);
const AGAIN_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(10);
const SIGTERM: i32 = 15;
/// How a program ends that a disk failed.
const A_DISK_FAILED: i32 = 74;

//! The firmware on an emulated microcontroller, and the real agent and hub: what the device's log has taken arrives once and in order.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sedge_tests::random::Random;
use sedge_tests::rig::board::{Bench, C_EXAMPLE, CORTEX_M3, CORTEX_M4F, Model};
use sedge_tests::rig::daemon;
use sedge_tests::rig::pull::Pulled;
use sedge_tests::rig::site::{Setup, Site};
use sedge_tests::rig::{alone, chance, eventually, skip, tell};
use serde_json::Value;

/// A Cortex-M3 measures fifty times a second. It is reset at random moments, also while it starts, stands still, and the agent is killed; bytes are damaged and lost on the wire.
#[test]
fn measurements_of_a_board_that_is_reset_arrive_once_and_in_order() {
    let mut chance = chance("measurements_of_a_board_that_is_reset_arrive_once_and_in_order");
    chain(CORTEX_M3, &mut chance, reset_or_stop);
}

/// The same with the firmware in C, by the functions of `sedge_core.h`.
#[test]
fn measurements_of_a_board_in_c_arrive_once_and_in_order() {
    let mut chance = chance("measurements_of_a_board_in_c_arrive_once_and_in_order");
    chain(C_EXAMPLE, &mut chance, reset_or_stop);
}

/// The same with a Cortex-M4F whose power fails: what is on its chip is what the last instruction left there.
#[test]
fn measurements_of_a_board_whose_power_fails_arrive_once_and_in_order() {
    let mut chance = chance("measurements_of_a_board_whose_power_fails_arrive_once_and_in_order");
    chain(CORTEX_M4F, &mut chance, |bench, _| {
        bench.power_fails();
        bench.power_on();
    });
}

/// Somebody puts an old copy of the chip in. Whether the gateway has more of this log than the device, or the device has written more since: it begins a new
/// one, and all that it measures from then on arrives.
#[test]
fn a_board_with_an_old_copy_of_its_chip_begins_a_new_log() {
    old_copy(
        "a_board_with_an_old_copy_of_its_chip_begins_a_new_log",
        false,
    );
}

/// The gateway is not there meanwhile, and knows from its own log what the last frame was.
#[test]
fn a_board_that_wrote_on_from_an_old_copy_of_its_chip_begins_a_new_log() {
    let name = "a_board_that_wrote_on_from_an_old_copy_of_its_chip_begins_a_new_log";
    old_copy(name, true);
}

/// Before it meets the gateway again, the board may have written so much upon the copy that it has more than the gateway.
fn old_copy(name: &str, wrote_on: bool) {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a directory");
    let port = folder.path().join("usb-board-if00");
    let mut bench = match Bench::new(CORTEX_M4F, port.clone(), chance(name)) {
        Ok(bench) => bench,
        Err(missing) => return skip(name, &missing),
    };
    let site = site(&port);
    let (mut agent, hub) = (site.start_agent(), site.start_hub());
    bench.power_on();
    await_kept(&bench, 10);
    bench.copy_chip();
    let before = await_kept(&bench, 50);
    let arrived = |measurement: &Measurement| {
        let pulled = site.pull().ok()?;
        seen(&pulled).contains(measurement).then_some(pulled)
    };
    let last = before.last().expect("there is one");
    eventually(SETTLE_WITHIN, "the first life arrives", || arrived(last));
    if wrote_on {
        agent.terminate(STOP_WITHIN);
        let had_at_most = kept(&bench).len();
        bench.put_back();
        await_kept(&bench, 2 * had_at_most);
        agent = site.start_agent();
    } else {
        bench.put_back();
    }
    let line = eventually(SETTLE_WITHIN, "a new log begins", || {
        let said = bench.said();
        said.iter()
            .position(|line| line.contains("a new one begins"))
    });
    let count = kept(&bench).len();
    let after = await_kept(&bench, count + 20);
    let last = after.last().expect("there is one");
    let pulled = eventually(SETTLE_WITHIN, "the new log arrives", || arrived(last));
    let seen = seen(&pulled);
    for measurement in kept_in(&bench.said()[line..]) {
        let times = seen.iter().filter(|seen| **seen == measurement).count();
        assert!(
            times == 1 || measurement > *last,
            "{measurement:?} is there {times} times"
        );
    }
    agent.terminate(STOP_WITHIN);
    hub.terminate(STOP_WITHIN);
}

/// A board whose power failed, again and again, is never connected to a gateway. Somebody reads its chip out: every record that the device said was kept is in the file.
#[test]
fn chip_of_a_board_that_no_gateway_heard_is_read_out() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a directory");
    let noise = chance("chip_of_a_board_that_no_gateway_heard_is_read_out");
    let port = folder.path().join("usb-board-if00");
    let mut bench = match Bench::new(CORTEX_M4F, port, noise) {
        Ok(bench) => bench,
        Err(missing) => return skip("reading out a chip", &missing),
    };
    for start in 1..=4 {
        bench.power_on();
        await_kept(&bench, 20 * start);
        bench.power_fails();
    }
    let kept = kept(&bench);
    let inspect = |arguments: &[&str]| {
        let mut command = Command::new(daemon::sedge());
        command.args(["inspect", "--flash-image"]);
        command.arg(bench.chip_file()).args(arguments);
        let ran = command.output().expect("it runs");
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        String::from_utf8_lossy(&ran.stdout).into_owned()
    };
    let report: Value = serde_json::from_str(&inspect(&["--json"])).expect("JSON");
    assert_eq!(report["geometry"]["segment_bytes"], 16 << 10);
    assert_eq!(report["log"]["balances"], true);
    let lines: Vec<Value> = inspect(&["--records"])
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let number = |value: &Value| value.as_u64().expect("a number");
    let read_out: Vec<Measurement> = lines
        .iter()
        .filter(|line| line["gap"].is_null())
        .map(|line| (number(&line["value"]["boot"]), number(&line["value"]["n"])))
        .collect();
    for measurement in &kept {
        let times = read_out.iter().filter(|read| *read == measurement).count();
        assert_eq!(times, 1, "{measurement:?}");
    }
    // Of each start one more may have been kept, and not been told any more.
    assert!(read_out.len() <= kept.len() + 4);
    assert!(
        lines
            .iter()
            .all(|line| line["gap"].is_null() || line["gap"]["lost"] == 0)
    );
}

fn reset_or_stop(bench: &mut Bench, chance: &mut Random) {
    if chance.below(2) == 0 {
        bench.reset();
    } else {
        bench.stands_still(Duration::from_millis(chance.below(200)));
    }
}

fn chain(model: Model, chance: &mut Random, trouble: fn(&mut Bench, &mut Random)) {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a directory");
    let port = folder.path().join("usb-board-if00");
    let noise = Random::new(chance.bits());
    let mut bench = match Bench::new(model, port.clone(), noise) {
        Ok(bench) => bench,
        Err(missing) => return skip("the firmware's chain", &missing),
    };
    let site = site(&port);
    let (mut agent, hub) = (site.start_agent(), site.start_hub());
    bench.power_on();
    await_kept(&bench, 1);
    for _ in 0..TROUBLES {
        std::thread::sleep(Duration::from_millis(chance.below(500)));
        if chance.below(3) == 0 {
            agent.kill();
            agent = site.start_agent();
        } else {
            trouble(&mut bench, chance);
        }
    }
    let kept = await_kept(&bench, kept(&bench).len() + 1);
    let last = kept.last().expect("there is one");
    let pulled = eventually(SETTLE_WITHIN, "the hub shows the last of them", || {
        let pulled = site.pull().ok()?;
        seen(&pulled).contains(last).then_some(pulled)
    });
    settle(&kept, &pulled);
    let starts = bench
        .said()
        .iter()
        .filter(|line| line.starts_with("start "))
        .count();
    tell(&format!(
        "{}: {TROUBLES} troubles, {starts} starts: {} measurements, each once and in order",
        model.package,
        kept.len()
    ));
    agent.terminate(STOP_WITHIN);
    hub.terminate(STOP_WITHIN);
}

/// A measurement: of which start of the device, and which of that start's.
type Measurement = (u64, u64);

/// What the device said that its log had taken.
fn kept(bench: &Bench) -> Vec<Measurement> {
    kept_in(&bench.said())
}

fn kept_in(said: &[String]) -> Vec<Measurement> {
    let read = |line: &String| {
        let mut words = line.strip_prefix("kept ")?.split(' ');
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    said.iter().filter_map(read).collect()
}

fn await_kept(bench: &Bench, count: usize) -> Vec<Measurement> {
    eventually(SETTLE_WITHIN, "the device measures", || {
        let kept = kept(bench);
        (kept.len() >= count).then_some(kept)
    })
}

fn seen(pulled: &Pulled) -> Vec<Measurement> {
    let number = |value: &Value| value.as_u64().expect("a number");
    let events = pulled.events.iter();
    events
        .map(|event| (number(&event.value["boot"]), number(&event.value["n"])))
        .collect()
}

/// Everything that was kept is there, each measurement once and in order, and nothing was lost. Beyond that only what was in doubt may be there: the last
/// measurement of a start, which the device did not live to tell, and what came after the last that was looked at.
fn settle(kept: &[Measurement], pulled: &Pulled) {
    pulled.assert_dense();
    assert_eq!(pulled.lost(), 0, "{:?}", pulled.gaps);
    let seen = seen(pulled);
    for pair in seen.windows(2) {
        assert!(pair[0] < pair[1], "{:?} came after {:?}", pair[1], pair[0]);
    }
    for measurement in kept {
        assert!(
            seen.binary_search(measurement).is_ok(),
            "{measurement:?} was kept and is not there"
        );
    }
    let last = kept.last().expect("there is one");
    for (boot, n) in seen.iter().filter(|measurement| *measurement <= last) {
        let told = kept.binary_search(&(*boot, *n)).is_ok();
        let was_last = !kept.contains(&(*boot, n + 1));
        assert!(told || was_last, "nobody measured {n} in start {boot}");
    }
}

fn site(port: &Path) -> Site {
    Site::new(Setup {
        more_tables: format!(
            "[[source]]\ntype = \"serial\"\nname = \"board\"\ndevice = \"{}\"\nprotocol = \"link\"\nstream = \"telemetry\"\n",
            port.display()
        ),
        ..Setup::default()
    })
}

const TROUBLES: u32 = 25;
const SETTLE_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(2);

//! Stories over pseudo-terminals, with real logs on both sides of the cable.

use std::path::{Path, PathBuf};

use sedge_config::checked::{Dtr, Flow, Lines, Parity, Serial, SerialProtocol, TimeUnit};
use sedge_config::{Name, Template};
use sedge_core::entry::{Entry, Headers, Record};
use sedge_core::frame::{self, Form, Label};
use sedge_core::{LogId, Micros, Offset};
use tokio::task::JoinHandle;

use super::lines::{Event, Line, Splitter};
use super::run;
use super::unit::{DeviceFrame, Logbook};
use crate::demo::device::{Cable, Device, Flash, Start};
use crate::source::yard::{Yard, eventually};

/// A serial source at work in a yard, on a port whose name is a link, as under `/dev/serial/by-id`.
struct Story {
    yard: Yard,
    dir: tempfile::TempDir,
    protocol: SerialProtocol,
    server: JoinHandle<()>,
}

impl Story {
    fn begin(protocol: SerialProtocol) -> Self {
        Self::go_on(
            Yard::new(),
            tempfile::tempdir().expect("a directory"),
            protocol,
        )
    }

    fn go_on(yard: Yard, dir: tempfile::TempDir, protocol: SerialProtocol) -> Self {
        let config = config(by_id(&dir), protocol.clone());
        let source = run(
            config,
            yard.ingest.clone(),
            yard.telemetry.clone(),
            yard.shutdown(),
        );
        Self {
            yard,
            dir,
            protocol,
            server: tokio::spawn(source),
        }
    }

    /// The system finds the adapter under a new terminal.
    fn enumerate(&self, cable: &Cable) {
        let name = by_id(&self.dir);
        drop(std::fs::remove_file(&name));
        std::os::unix::fs::symlink(cable.path(), name).expect("a link");
    }

    /// The agent is killed, and starts again.
    async fn killed(self) -> Self {
        self.server.abort();
        drop(self.server.await);
        Self::go_on(self.yard.restarted(), self.dir, self.protocol)
    }

    async fn stopped(mut self) -> Yard {
        self.yard.stop();
        self.server.await.expect("no panic");
        self.yard
    }
}

fn by_id(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("usb-boiler-if00")
}

fn config(device: PathBuf, protocol: SerialProtocol) -> Serial {
    Serial {
        name: Name::new("boiler").expect("a name"),
        stream: Name::new("telemetry").expect("a name"),
        device,
        protocol,
        key: Template::parse("{device}").expect("a template"),
        baud: 115_200,
        data_bits: 8,
        parity: Parity::None,
        stop_bits: 1,
        flow: Flow::None,
        dtr: Dtr::Keep,
    }
}

fn start(boot: u32) -> Start {
    Start {
        identity: "boiler-1".to_owned(),
        boot,
        noise: None,
    }
}

fn measure(device: &Device, numbers: std::ops::Range<u32>) {
    for number in numbers {
        device.record(format!("{number}").as_bytes());
    }
}

fn numbers(yard: &Yard) -> Vec<u32> {
    yard.values()
        .iter()
        .map(|value| value.parse().expect("a number"))
        .collect()
}

async fn released(device: &Device) {
    eventually("the gateway has custody of everything", || {
        let custody = device.custody();
        custody.released == custody.next
    })
    .await;
}

#[tokio::test]
async fn what_a_device_lets_go_is_in_the_log_under_its_name() {
    let story = Story::begin(SerialProtocol::Link);
    let cable = Cable::plug().expect("a terminal");
    story.enumerate(&cable);
    let device = Device::power_on(&Flash::erased(), Some(&cable), &start(1));
    measure(&device, 0..200);
    released(&device).await;
    assert_eq!(numbers(&story.yard), (0..200).collect::<Vec<_>>());
    assert!(
        story
            .yard
            .records()
            .iter()
            .all(|seen| seen.key == "boiler-1")
    );
    story.yard.each("telemetry", |entry| {
        let since_ingest_us = entry.time().expect("the device has a clock");
        assert!(
            (-60_000_000..=0).contains(&since_ingest_us),
            "{since_ingest_us}"
        );
    });
    let counts = story.stopped().await.counts();
    assert_eq!((counts.accepted, counts.settled), (200, 200));
}

/// The agent is killed while the device sends, three times. What it had staged and not committed comes again; what it had
/// committed does not.
#[tokio::test]
async fn records_arrive_once_and_in_order_across_kills_of_the_agent() {
    let mut story = Story::begin(SerialProtocol::Link);
    let cable = Cable::plug().expect("a terminal");
    story.enumerate(&cable);
    let device = Device::power_on(&Flash::erased(), Some(&cable), &start(1));
    for round in 0..3 {
        measure(&device, round * 200..(round + 1) * 200);
        let some = u64::from(round) * 200 + 1;
        eventually("something is taken", || device.custody().released >= some).await;
        story = story.killed().await;
    }
    released(&device).await;
    assert_eq!(numbers(&story.yard), (0..600).collect::<Vec<_>>());
}

#[tokio::test]
async fn records_arrive_once_and_in_order_across_power_failures_of_the_device() {
    let story = Story::begin(SerialProtocol::Link);
    let cable = Cable::plug().expect("a terminal");
    story.enumerate(&cable);
    let flash = Flash::erased();
    for boot in 0..4 {
        let device = Device::power_on(&flash, Some(&cable), &start(boot + 1));
        measure(&device, boot * 100..(boot + 1) * 100);
    }
    let device = Device::power_on(&flash, Some(&cable), &start(5));
    released(&device).await;
    assert_eq!(numbers(&story.yard), (0..400).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_noisy_line_costs_time_and_no_record() {
    let story = Story::begin(SerialProtocol::Link);
    let cable = Cable::plug().expect("a terminal");
    story.enumerate(&cable);
    let noisy = Start {
        noise: Some(3000),
        ..start(1)
    };
    let device = Device::power_on(&Flash::erased(), Some(&cable), &noisy);
    measure(&device, 0..1000);
    released(&device).await;
    assert_eq!(numbers(&story.yard), (0..1000).collect::<Vec<_>>());
    assert!(
        story
            .yard
            .counts()
            .incidents
            .contains_key("damaged-message")
    );
}

/// The adapter is pulled out and comes back as another terminal under the same name, while the device goes on measuring.
#[tokio::test]
async fn an_unplugged_adapter_is_found_again() {
    let story = Story::begin(SerialProtocol::Link);
    let mut cable = Cable::plug().expect("a terminal");
    story.enumerate(&cable);
    let device = Device::power_on(&Flash::erased(), Some(&cable), &start(1));
    for round in 0..3 {
        measure(&device, round * 100..(round + 1) * 100);
        let some = u64::from(round) * 100 + 1;
        eventually("something is taken", || device.custody().released >= some).await;
        device.unplug();
        drop(cable);
        let unplugged = u64::from(round) + 1;
        eventually("the agent notices", || {
            story.yard.counts().incidents.get("unplugged") == Some(&unplugged)
        })
        .await;
        cable = Cable::plug().expect("a terminal");
        story.enumerate(&cable);
        device.plug(&cable);
    }
    measure(&device, 300..310);
    released(&device).await;
    assert_eq!(numbers(&story.yard), (0..310).collect::<Vec<_>>());
}

/// The device was alone for so long that its flash went round. What it lost it says, once, and the sum is right.
#[tokio::test]
async fn what_the_device_lost_is_a_notice_in_its_place() {
    let story = Story::begin(SerialProtocol::Link);
    let flash = Flash::erased();
    let device = Device::power_on(&flash, None, &start(1));
    measure(&device, 0..20_000);
    let lost = device.custody().oldest;
    assert!(lost > 0, "the flash went round");
    let cable = Cable::plug().expect("a terminal");
    story.enumerate(&cable);
    device.plug(&cable);
    released(&device).await;
    assert_eq!(story.yard.lost(), lost);
    assert_eq!(u64::from(numbers(&story.yard)[0]), lost);
    assert_eq!(numbers(&story.yard).len() as u64 + lost, 20_000);
}

fn lines() -> Lines {
    Lines {
        line_bytes_max: 64,
        value: None,
        time: None,
        time_unit: TimeUnit::Seconds,
    }
}

/// Bytes that come at once after the opening may be half a line; a good line follows the first line end.
#[tokio::test]
async fn printed_lines_become_records_and_bad_ones_hold_up_nothing() {
    let story = Story::begin(SerialProtocol::Lines(lines()));
    let cable = Cable::plug().expect("a terminal");
    cable.print(b"1.5 C\r\n21.5 C\r\n\r\n").expect("room");
    cable.print(&[b'x'; 100]).expect("room");
    cable.print(b"\n\xFF\xFE\n22.0 C\n").expect("room");
    story.enumerate(&cable);
    eventually("both lines", || story.yard.values().len() == 2).await;
    assert_eq!(story.yard.values(), ["21.5 C", "22.0 C"]);
    eventually("both letters", || story.yard.dead_letters().len() == 2).await;
    let letters = story.yard.dead_letters();
    assert_eq!(
        (
            &*letters[0].headers["reason"],
            &*letters[0].headers["length"]
        ),
        ("oversize", "100")
    );
    assert_eq!(letters[1].headers["detail"], "not UTF-8");
    assert_eq!(story.stopped().await.counts().dropped["oversize"], 1);
}

#[test]
fn lines_are_found_in_any_cut_of_the_bytes() {
    let text = b"alf\nfirst\r\n\nsecond\nan overlong line that goes on and on\nlast\n";
    for cut in 1..text.len() {
        let mut splitter = Splitter::new(20, true);
        let mut seen = Vec::new();
        for piece in text.chunks(cut) {
            let mut bytes = piece;
            while let Some(line) = splitter.advance(&mut bytes) {
                seen.push(match line {
                    Line::Whole(line) => String::from_utf8_lossy(line).into_owned(),
                    Line::Overlong(remains) => format!("{remains:?}"),
                    Line::Partial => "partial".to_owned(),
                });
            }
        }
        let overlong = "Remains { length: 36, .. }";
        assert_eq!(
            seen,
            ["partial", "first", "", "second", overlong, "last"],
            "pieces of {cut}"
        );
    }
}

#[test]
fn value_and_time_are_taken_from_where_the_configuration_says() {
    let config = Lines {
        value: Some("/reading".to_owned()),
        time: Some("/at".to_owned()),
        ..lines()
    };
    let event = |line: &'static str| Event::of(line.as_bytes(), &config);
    let good = event(r#"{"at":1763892000.25,"reading":{"c":21.5}}"#).expect("an event");
    assert_eq!(
        (&*good.value, good.time.map(|t| t.get())),
        (&br#"{"c":21.5}"#[..], Some(1_763_892_000_250_000))
    );
    let text = event(r#"{"at":"2025-11-23T10:00:00Z","reading":1}"#).expect("an event");
    assert_eq!(text.time.map(|t| t.get()), Some(1_763_892_000_000_000));
    let timeless = event(r#"{"at":"noon","reading":1}"#).expect("kept all the same");
    assert_eq!((timeless.time, timeless.time_is_bad), (None, true));
    assert_eq!(
        event(r#"{"at":1}"#),
        Err("nothing where the value should be")
    );
    assert_eq!(event("21.5 C"), Err("not JSON"));
}

/// Two agents on one port would each see half of the bytes.
#[tokio::test]
async fn a_port_is_open_for_one_agent_only() {
    let first = Story::begin(SerialProtocol::Link);
    let cable = Cable::plug().expect("a terminal");
    first.enumerate(&cable);
    eventually("the first has it", || first.yard.telemetry.state().up).await;
    let second = Story::begin(SerialProtocol::Link);
    second.enumerate(&cable);
    let busy = "another program has it open";
    eventually("the second is told", || {
        second.yard.telemetry.state().what.ends_with(busy)
    })
    .await;
    drop(first.stopped().await);
    eventually("the second has it", || second.yard.telemetry.state().up).await;
}

/// A device's records may be larger than this gateway takes. They hold up nothing: their heads go to the dead letters, a notice takes
/// their place, and the cursor passes them.
#[tokio::test]
async fn a_frame_that_is_too_large_becomes_dead_letters_and_a_notice() {
    let yard = Yard::new();
    let log = LogId::new([7; 16]);
    let bytes = frame_of(&log, &[&[b'x'; 20_000], b"small"]);
    let mut rest = &bytes[..];
    let frame = DeviceFrame::take(&mut rest, &log, Offset::ZERO, Micros::UNKNOWN).expect("a frame");
    let mut book = Logbook::default();
    book.meet("boiler-1");
    let mut intake = yard.ingest.intake(
        "telemetry",
        &Template::parse("{device}").expect("a template"),
    );
    let taken = book.put(&mut intake, 0, &log, &frame, &yard.telemetry);
    assert_eq!(taken, (0, 0));
    let mut receipts = Vec::new();
    intake.stage_all(&mut receipts).await.expect("room");
    for receipt in receipts {
        intake.wait(receipt).await;
    }
    assert_eq!(
        (yard.records().len(), yard.lost(), yard.dead_letters().len()),
        (0, 2, 2)
    );
    assert_eq!(intake.claims(0).device_next(log.as_bytes()), Some(2));
}

fn frame_of(log: &LogId, values: &[&[u8]]) -> Vec<u8> {
    let (mut entries, mut len) = (vec![0; 30_000], 0);
    for value in values {
        let record = Record {
            time: None,
            key: None,
            headers: Headers::NONE,
            value,
        };
        len += Entry::Record(record)
            .encode(&mut entries[len..])
            .expect("room");
    }
    let label = Label {
        form: Form::Compact,
        first: Offset::ZERO,
        time: Micros::UNKNOWN,
        first_of_commit: true,
    };
    let mut bytes = vec![0; 30_100];
    let count = u16::try_from(values.len()).expect("few");
    let len = frame::emit_data(&mut bytes, log, label, count, &[], &entries[..len]);
    bytes.truncate(len.expect("room"));
    bytes
}

/// A name that stands for nothing is no reason to fail: the port may come.
#[tokio::test]
async fn a_port_that_is_not_there_is_waited_for() {
    let story = Story::begin(SerialProtocol::Link);
    eventually("it says so", || {
        story
            .yard
            .telemetry
            .state()
            .what
            .ends_with("no such device")
    })
    .await;
    assert!(!Path::new(&by_id(&story.dir)).exists());
    assert!(!story.stopped().await.telemetry.state().up);
}

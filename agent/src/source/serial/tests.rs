//! Stories over pseudo-terminals, with real logs on both sides of the cable.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sedge_config::checked::{Dtr, Flow, Lines, Parity, Serial, SerialProtocol, TimeUnit};
use sedge_config::{Name, Template};
use sedge_core::custody::Now;
use sedge_core::custody::message::Clock;
use sedge_core::entry::{Entry, Headers, Record};
use sedge_core::frame::{self, Form, Label};
use sedge_core::uptime::{self, Uptime};
use sedge_core::{LogId, Micros, Offset};
use tokio::task::JoinHandle;

use super::lines::{Event, Line, Splitter};
use super::port::hurry;
use super::run;
use super::starts::Quality;
use super::unit::{DeviceFrame, Logbook, QUALITY};
use crate::demo::device::{Cable, Device, Flash, Start};
use crate::ingest::Intake;
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
        clockless: false,
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

/// Two boards were given the same chip, or an old copy of one was put back, and the device has written more since than the gateway has of that log. Only what
/// the gateway knows of the last frame tells the two pasts apart; without it the first records of the other one would count as arrived.
#[tokio::test]
async fn a_device_that_wrote_on_from_a_copy_of_its_chip_begins_a_new_log() {
    let mut story = Story::begin(SerialProtocol::Link);
    let cable = Cable::plug().expect("a terminal");
    story.enumerate(&cable);
    let flash = Flash::erased();
    let device = Device::power_on(&flash, Some(&cable), &start(1));
    measure(&device, 0..20);
    released(&device).await;
    let copies = [flash.copied(), flash.copied()];
    measure(&device, 20..40);
    released(&device).await;
    drop(device);
    for (boot, copy) in (2..).zip(&copies) {
        let device = Device::power_on(copy, None, &start(boot));
        measure(&device, 100..100 + 20 * boot);
        assert!(device.custody().next > 40);
        device.plug(&cable);
        eventually("a new log begins", || device.custody().next == 0).await;
        measure(&device, 200 * boot..200 * boot + 20);
        released(&device).await;
        story = story.killed().await; // what it knows of the frame is in its log
    }
    let arrived: Vec<_> = (0..40).chain(400..420).chain(600..620).collect();
    assert_eq!(numbers(&story.yard), arrived);
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

/// It was away for a night, and comes back.
#[test]
fn an_adapter_that_comes_back_is_looked_for_within_half_a_second() {
    let mut pause = super::PAUSE_MIN;
    let mut pauses = Vec::new();
    for _ in 0..1_000 {
        pause = super::next_pause(pause, Duration::ZERO, true);
        pauses.push(pause);
    }
    assert!(
        pauses
            .iter()
            .all(|pause| *pause <= Duration::from_millis(500))
    );
    let busy = super::next_pause(Duration::from_secs(2), Duration::ZERO, false);
    assert_eq!(
        busy,
        Duration::from_secs(2),
        "what is there and does not open is left in peace"
    );
    assert_eq!(
        super::next_pause(pause, Duration::from_secs(60), false),
        super::PAUSE_MIN
    );
}

/// The name is a link, and what it leads to is another terminal after each replug.
#[test]
fn an_adapter_that_holds_bytes_back_is_told_to_hurry_by_the_name_that_it_has_now() {
    let dir = tempfile::tempdir().expect("a directory");
    let ttys = dir.path().join("class");
    for (name, ms) in [("ttyUSB0", "16\n"), ("ttyUSB1", "1\n"), ("ttyACM0", "")] {
        std::fs::write(dir.path().join(name), "").expect("a file");
        let device = ttys.join(name).join("device");
        std::fs::create_dir_all(&device).expect("a directory");
        if !ms.is_empty() {
            std::fs::write(device.join("latency_timer"), ms).expect("a file");
        }
    }
    let timer =
        |name: &str| std::fs::read_to_string(ttys.join(name).join("device/latency_timer")).ok();
    for name in ["ttyUSB0", "ttyUSB1", "ttyACM0"] {
        drop(std::fs::remove_file(by_id(&dir)));
        std::os::unix::fs::symlink(dir.path().join(name), by_id(&dir)).expect("a link");
        hurry(&by_id(&dir), &ttys);
    }
    assert_eq!(timer("ttyUSB0").as_deref(), Some("1"));
    assert_eq!(
        timer("ttyUSB1").as_deref(),
        Some("1\n"),
        "it was not written again"
    );
    assert_eq!(timer("ttyACM0"), None, "nor made");
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

/// A read may end between the two bytes of a line's end, and a carriage return may stand anywhere else.
#[test]
fn longest_line_is_taken_and_a_long_one_counted_wherever_a_read_ends() {
    let text = b"a line of twenty.....\r\r\nexactly twenty bytes\r\none more than twenty..\r\n";
    for cut in 1..text.len() {
        let mut splitter = Splitter::new(20, false);
        let mut seen = Vec::new();
        for mut bytes in text.chunks(cut) {
            while let Some(line) = splitter.advance(&mut bytes) {
                seen.push(match line {
                    Line::Whole(line) => String::from_utf8_lossy(line).into_owned(),
                    other => format!("{other:?}"),
                });
            }
        }
        let overlong = "Overlong(Remains { length: 22, .. })";
        let wanted = [overlong, "exactly twenty bytes", overlong];
        assert_eq!(seen, wanted, "pieces of {cut}");
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
    let bytes = frame_of(&log, &[bare(&[b'x'; 20_000]), bare(b"small")]);
    let mut rest = &bytes[..];
    let frame = DeviceFrame::take(&mut rest, &log, Offset::ZERO, Micros::UNKNOWN).expect("a frame");
    let mut book = Logbook::default();
    book.meet("boiler-1", &Clock::default(), Now::default());
    let mut intake = yard.ingest.intake(
        "telemetry",
        &Template::parse("{device}").expect("a template"),
    );
    let lane = (&mut intake, 0);
    let taken = book.put(lane, &log, &frame, Now::default(), &yard.telemetry);
    assert_eq!(taken, (0, 0));
    settled(&mut intake).await;
    assert_eq!(
        (yard.records().len(), yard.lost(), yard.dead_letters().len()),
        (0, 2, 2)
    );
    assert_eq!(
        intake.claims(0).device(log.as_bytes()).map(|it| it.next),
        Some(2)
    );
}

async fn settled(intake: &mut Intake) {
    let mut receipts = Vec::new();
    intake.stage_all(&mut receipts).await.expect("room");
    for receipt in receipts {
        intake.wait(receipt).await;
    }
}

fn bare(value: &[u8]) -> Record<'_> {
    Record {
        value,
        ..Record::default()
    }
}

fn frame_of(log: &LogId, records: &[Record<'_>]) -> Vec<u8> {
    let (mut entries, mut len) = (vec![0; 30_000], 0);
    for record in records {
        len += Entry::Record(*record)
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
    let count = u16::try_from(records.len()).expect("few");
    let len = frame::emit_data(&mut bytes, log, label, count, &[], &entries[..len]);
    bytes.truncate(len.expect("room"));
    bytes
}

/// What the gateway says of a device's time is beside what the device said, and never instead of it. A header that is no uptime holds up
/// nothing.
#[tokio::test]
async fn uptimes_become_times_and_the_headers_of_the_device_stay_as_they_are() {
    let yard = Yard::new();
    let log = LogId::new([7; 16]);
    let (good, earlier, bad) = (&b"\x03\xD0\x0F"[..], &b"\x02\xD0\x0F"[..], &b"\x03\xFF"[..]);
    let up = |value| [("unit", &b"C"[..]), (uptime::HEADER, value)];
    let claims = [(QUALITY, &b"perfect"[..]), (uptime::HEADER, good)];
    let headers = [up(good), up(earlier), up(bad), claims];
    let mut records: Vec<_> = headers
        .iter()
        .map(|pairs| Record {
            headers: Headers::new(pairs),
            ..bare(b"21.5")
        })
        .collect();
    records.push(bare(b"no header, no word"));
    let bytes = frame_of(&log, &records);
    let frame = DeviceFrame::take(&mut &bytes[..], &log, Offset::ZERO, Micros::UNKNOWN);
    let mut intake = yard.ingest.intake(
        "telemetry",
        &Template::parse("{device}").expect("a template"),
    );
    let mut book = Logbook::default();
    let hello = Clock {
        boot: 3,
        uptime_us: 5_000_000,
        ..Clock::default()
    };
    book.meet("boiler-1", &hello, now());
    let frame = frame.expect("a frame");
    let taken = book.put((&mut intake, 0), &log, &frame, now(), &yard.telemetry);
    assert_eq!(taken, (5, 4 * 4 + 18));
    settled(&mut intake).await;

    let (exact, bound) = (Some(NOW_US - 3_000_000), Some(NOW_US - 5_000_000));
    let times: Vec<_> = yard.records().iter().map(|seen| seen.time).collect();
    assert_eq!(times, [exact, bound, None, exact, None]);
    let mut seen = Vec::new();
    yard.each("telemetry", |entry| {
        let Entry::Record(record) = entry else { return };
        let owned = record
            .headers
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_vec()));
        seen.push(owned.collect::<Vec<_>>());
    });
    let said = |value: &[u8], quality: &str| {
        let unit = ("unit".to_owned(), b"C".to_vec());
        let up = ("up".to_owned(), value.to_vec());
        let ours = ("sedge-time".to_owned(), quality.as_bytes().to_vec());
        vec![unit, up, ours]
    };
    let replaced = said(good, "uptime")[1..].to_vec();
    let stories = [
        said(good, "uptime"),
        said(earlier, "before"),
        said(bad, "unknown"),
        replaced,
        Vec::new(),
    ];
    assert_eq!(seen, stories);
}

/// A record whose time the device knew is passed as it is, with whatever headers it carries.
#[tokio::test]
async fn a_time_that_the_device_knew_is_not_touched() {
    let yard = Yard::new();
    let log = LogId::new([7; 16]);
    let headers = [(uptime::HEADER, &b"\x03\xD0\x0F"[..])];
    let record = Record {
        time: Some(250),
        headers: Headers::new(&headers),
        ..bare(b"21.5")
    };
    let bytes = frame_of(&log, &[record]);
    let base = Micros::new(NOW_US - 1_000_000);
    let frame = DeviceFrame::take(&mut &bytes[..], &log, Offset::ZERO, base).expect("a frame");
    let mut intake = yard.ingest.intake(
        "telemetry",
        &Template::parse("{device}").expect("a template"),
    );
    let mut book = Logbook::default();
    book.meet("boiler-1", &Clock::default(), now());
    book.put((&mut intake, 0), &log, &frame, now(), &yard.telemetry);
    settled(&mut intake).await;
    let seen = &yard.records()[0];
    assert_eq!(seen.time, Some(NOW_US - 750_000));
    assert_eq!(seen.headers.keys().collect::<Vec<_>>(), ["up"]);
}

/// Another device on the same port has another past.
#[test]
fn a_device_is_not_dated_by_another_ones_starts() {
    let mut book = Logbook::default();
    let clock = |boot| Clock {
        boot,
        ..Clock::default()
    };
    let mut qualities = Vec::new();
    for (identity, boot) in [("boiler-1", 1), ("boiler-1", 2), ("boiler-2", 3)] {
        book.meet(identity, &clock(boot), now());
        qualities.push(book.starts.stamp(b"\x01\x05", now()).quality);
    }
    let (counted, bound) = (Quality::Uptime, Quality::Before);
    assert_eq!(qualities, [counted, counted, bound]);
}

/// A device without a clock measures alone, in three starts that nobody hears of, then meets the gateway in a fourth.
#[tokio::test]
async fn records_of_a_device_without_a_clock_get_times_and_words_for_how_good_they_are() {
    let story = Story::begin(SerialProtocol::Link);
    let flash = Flash::erased();
    let clockless = |boot| Start {
        clockless: true,
        ..start(boot)
    };
    for boot in 0..3 {
        let device = Device::power_on(&flash, None, &clockless(boot + 1));
        measure(&device, boot * 50..(boot + 1) * 50);
    }
    let cable = Cable::plug().expect("a terminal");
    let restarted_us = unix_us();
    let device = Device::power_on(&flash, None, &clockless(4));
    measure(&device, 150..200);
    let measured_us = unix_us();
    story.enumerate(&cable);
    device.plug(&cable);
    released(&device).await;
    measure(&device, 200..250);
    released(&device).await;

    assert_eq!(numbers(&story.yard), (0..250).collect::<Vec<_>>());
    let records = story.yard.records();
    let quality = |range: std::ops::Range<usize>, word: &str| {
        let mut some = records[range].iter();
        some.all(|seen| seen.headers[QUALITY] == word)
    };
    assert!(quality(0..150, "before") && quality(150..250, "uptime"));
    let times: Vec<_> = records.iter().map(|seen| seen.time.expect("one")).collect();
    assert!(times[150..].is_sorted());
    // Rounded to milliseconds, and later by what the Hello took; what is of earlier starts was before the present one.
    let no_earlier = |range: std::ops::Range<usize>, us: i64| {
        let mut some = times[range].iter();
        some.all(|time| *time >= us - 1000)
    };
    assert!(no_earlier(0..200, restarted_us) && no_earlier(200..250, measured_us));
    assert!(times.iter().all(|time| *time <= unix_us()));
    let mut boots = Vec::new();
    story.yard.each("telemetry", |entry| {
        let Entry::Record(record) = entry else { return };
        let header = record.headers.find(uptime::HEADER).expect("as it was");
        boots.push(Uptime::decode(header).expect("an uptime").boot);
    });
    let expected: Vec<_> = (0..250).map(|number| (number / 50 + 1).min(4)).collect();
    assert_eq!(boots, expected);
}

/// The agent is killed and forgets every start. What the device had measured before the next Hello is dated by that.
#[tokio::test]
async fn a_restarted_agent_learns_the_start_again_from_the_next_hello() {
    let story = Story::begin(SerialProtocol::Link);
    let cable = Cable::plug().expect("a terminal");
    story.enumerate(&cable);
    let clockless = Start {
        clockless: true,
        ..start(1)
    };
    let device = Device::power_on(&Flash::erased(), Some(&cable), &clockless);
    measure(&device, 0..50);
    released(&device).await;
    let story = story.killed().await;
    measure(&device, 50..100);
    released(&device).await;
    assert_eq!(numbers(&story.yard), (0..100).collect::<Vec<_>>());
    let records = story.yard.records();
    assert!(records.iter().all(|seen| seen.headers[QUALITY] == "uptime"));
    assert!(records.iter().all(|seen| seen.time.is_some()));
}

fn now() -> Now {
    Now {
        uptime_us: 60_000_000,
        unix_us: Some(NOW_US),
        trusted: true,
    }
}

fn unix_us() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    i64::try_from(since.as_micros()).expect("not that late")
}

const NOW_US: i64 = 1_795_168_800_000_000;

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

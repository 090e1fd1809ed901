//! `sedge inspect --flash-image`: what a probe read out of a device's flash, whole, torn, damaged and mistaken for something else.

#[expect(dead_code, reason = "each file of stories uses its part of the rig")]
mod rig;

use std::path::PathBuf;

use rig::{Place, Ran, sedge};
use sedge_core::driver::Ram;
use sedge_core::entry::{Entry, Headers, Record};
use sedge_core::frame::{self, Form, Label};
use sedge_core::log::{Fresh, Log, Options, WhenFull};
use sedge_core::segment::{Dimensions, Geometry, Medium, Role};
use sedge_core::{LogId, Micros, Offset};
use serde_json::Value;

/// Two blocks of boot counters stand before the log, as on the boards in `firmware/`.
const START: usize = 0x400;
const SEGMENT_BYTES: usize = 4096;
const SEGMENTS: usize = 4;
const UPLINK: u32 = 0;
const NOW: Micros = Micros::new(1_795_168_800_000_000);

type ChipLog = Log<Ram<Vec<u8>>, Vec<u8>>;

/// A device that measures.
struct Device(ChipLog);

impl Device {
    fn new() -> Self {
        Self::started(vec![0xFF; SEGMENTS * SEGMENT_BYTES])
    }

    fn started(flash: Vec<u8>) -> Self {
        let geometry = Geometry::new(Dimensions {
            medium: Medium::Nor,
            role: Role::Origin,
            write_unit: 4,
            segment_bytes: SEGMENT_BYTES as u32,
            segment_count: SEGMENTS as u32,
            frame_bytes_max: 256,
            commit_offsets_max: 16,
        });
        let geometry = geometry.expect("dimensions of a log");
        let fresh = Fresh {
            log_id: LogId::new([0xA5; 16]),
            now: NOW,
            boot: 1,
        };
        let ram = Ram::new(flash, SEGMENT_BYTES as u32);
        let options = Options::new(geometry, WhenFull::EvictOldest);
        let scratch = vec![0; geometry.scratch_bytes()];
        Self(Log::open(ram, options, fresh, scratch).expect("it opens").0)
    }

    /// Takes `count` measurements, each a second behind the one before.
    fn measure(mut self, count: u64) -> Self {
        for _ in 0..count {
            let log = &mut self.0;
            if log.needs_maintain() {
                log.maintain(NOW).expect("a segment is erased ahead");
            }
            let value = format!("{{\"n\":{}}}", log.next());
            let record = Record {
                time: Some(1000),
                key: Some(b"boiler-1"),
                headers: Headers::NONE,
                value: value.as_bytes(),
            };
            let (mut entry, mut frame) = ([0; 64], [0; 256]);
            let len = Entry::Record(record).encode(&mut entry).expect("it fits");
            let label = Label {
                form: Form::Compact,
                first: log.next(),
                time: NOW,
                first_of_commit: true,
            };
            let len = frame::emit_data(&mut frame, &log.log_id(), label, 1, &[], &entry[..len]);
            let frame = &frame[..len.expect("it fits")];
            log.commit(frame, 1, &[], NOW).expect("it is kept");
        }
        self
    }

    fn released(mut self, next: u64) -> Self {
        let set = self.0.set_cursor(UPLINK, Offset::new(next));
        set.expect("there is one uplink");
        self.0.save_ledger(NOW).expect("the cursor is saved");
        self
    }

    /// All bytes of its chip, boot counters first.
    fn read_out(self) -> Vec<u8> {
        let mut image = vec![0xFF; START];
        image[..8].copy_from_slice(&[1, 0, 0, 0, 0xFE, 0xFF, 0xFF, 0xFF]);
        image.extend(self.0.into_media().into_inner());
        image
    }
}

fn file(place: &Place, image: &[u8]) -> PathBuf {
    let path = place.path("chip.bin");
    std::fs::write(&path, image).expect("a file in a temporary directory");
    path
}

/// Inspects `image`, and sees that the file stays what it is.
fn inspect(image: &[u8], arguments: &[&str]) -> Ran {
    let place = Place::new();
    let path = file(&place, image);
    let text = path.display().to_string();
    let ran = sedge(&[&["inspect", "--flash-image", &text], arguments].concat());
    assert_eq!(std::fs::read(&path).expect("it is there"), image);
    ran
}

fn report(image: &[u8], arguments: &[&str]) -> (Option<i32>, Value) {
    let ran = inspect(image, &[&["--json"], arguments].concat());
    let value = serde_json::from_str(&ran.out);
    (
        ran.code,
        value.unwrap_or_else(|error| panic!("{error} in {:?}, {}", ran.out, ran.err)),
    )
}

fn lines(image: &[u8]) -> Vec<Value> {
    let ran = inspect(image, &["--records"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let lines = ran.out.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("lines of JSON")
}

fn segment(number: usize) -> usize {
    START + number * SEGMENT_BYTES
}

#[test]
fn dump_of_a_chip_tells_where_its_log_is_and_what_it_holds() {
    let image = Device::new().measure(150).released(100).read_out();
    let (code, report) = report(&image, &[]);
    assert_eq!(code, Some(0));
    assert_eq!(
        (&report["start"], &report["start_from"]),
        (&START.into(), &"stamps".into())
    );
    assert_eq!(report["geometry"]["segment_bytes"], SEGMENT_BYTES);
    let log = &report["log"];
    assert_eq!((&log["held"], &log["next"]), (&150.into(), &150.into()));
    assert_eq!(
        (&log["missing"], &log["balances"]),
        (&0.into(), &true.into())
    );
    assert_eq!(log["log_id"], "a5".repeat(16));
    assert_eq!(log["ledger"]["cursors"][0]["next"], 100);
    let states: Vec<&Value> = (0..4).map(|n| &report["segments"][n]["state"]).collect();
    assert_eq!(states, ["held", "held", "spare", "blank"]);
    assert_eq!(report["segments"][1]["seq"], 2);
    assert_eq!(report["segments"][0]["erase_count"], 1);
    let open = &report["open"];
    assert_eq!((&open["clean"], &open["next"]), (&true.into(), &150.into()));
    assert_eq!(
        (&open["formatted"], &open["writes"]),
        (&false.into(), &false.into())
    );

    let text = inspect(&image, &[]).out;
    for part in [
        "log at 0x400 (found by its stamps): 4 segments of 4096 bytes, write unit 4",
        "offsets 0..150: 150 events held, 0 missing; the sum is right",
        "uplink 0 has everything below 100; 0 lost to it",
        "a device would go on at offset 150\n",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

/// The first lap is gone: what was evicted is a gap before the first record.
#[test]
fn records_are_lines_like_those_of_pull() {
    let lines = lines(&Device::new().measure(1000).read_out());
    let gap = &lines[0]["gap"];
    assert_eq!(
        (&gap["from"], &gap["cause"]),
        (&0.into(), &"evicted".into())
    );
    let first = gap["to"].as_u64().expect("an offset");
    assert_eq!(gap["lost"], first);
    assert_eq!(lines.len() as u64, 1 + 1000 - first);
    for (line, offset) in lines[1..].iter().zip(first..) {
        assert_eq!(
            (&line["offset"], &line["value"]["n"]),
            (&offset.into(), &offset.into())
        );
    }
    let last = lines.last().expect("there are some");
    assert_eq!(last["key"], "boiler-1");
    assert_eq!(
        (&last["stream"], &last["ingested"]),
        (&"".into(), &Value::Null)
    );
    // A thousand seconds behind the first, across all segments that are gone.
    assert_eq!(last["time"], "2026-11-20T10:16:40.000000Z");
}

/// Power failed in the middle of a program: the last frame is not whole. No record was acknowledged there, so nothing is missing.
#[test]
fn torn_write_at_the_end_is_told_and_is_no_damage() {
    let device = Device::new().measure(5);
    let (head, end) = device.0.head();
    let mut image = device.measure(1).read_out();
    let at = segment(head as usize) + end as usize;
    image[at + 4] = 0xFF;
    let (code, report) = report(&image, &[]);
    assert_eq!(code, Some(0));
    assert_eq!(
        (&report["log"]["held"], &report["open"]["burned"]),
        (&5.into(), &28.into()),
        "as many as bytes are not blank"
    );
    assert_eq!(
        (&report["open"]["clean"], &report["open"]["next"]),
        (&false.into(), &33.into())
    );
}

#[test]
fn rotten_record_in_the_middle_is_damage_with_its_place() {
    let device = Device::new().measure(5);
    let (head, end) = device.0.head();
    let mut image = device.measure(5).read_out();
    image[segment(head as usize) + end as usize + 12] ^= 1;
    let (code, report) = report(&image, &[]);
    assert_eq!(code, Some(74));
    assert_eq!(report["log"]["gaps"][0]["from"], 5);
    assert_eq!(
        (&report["log"]["held"], &report["log"]["missing"]),
        (&9.into(), &1.into())
    );
    assert_eq!(lines(&image)[5]["gap"]["cause"], "corrupt");
}

/// The head's open header is rotten: the device finds its frames and makes a gap of them.
#[test]
fn head_whose_beginning_is_damaged_is_a_gap_as_on_the_device() {
    let device = Device::new().measure(150);
    assert_eq!(device.0.head().0, 1);
    let mut image = device.read_out();
    image[segment(1) + 40] ^= 1;
    let (code, report) = report(&image, &[]);
    assert_eq!(code, Some(74));
    let lost = &report["open"]["lost_head"];
    assert_eq!(lost["segment"], 1);
    let held = report["log"]["held"].as_u64().expect("a number");
    assert_eq!(lost["lost"].as_u64(), Some(150 - held));
    assert_eq!(report["open"]["writes"], true);
    let text = inspect(&image, &[]).out;
    assert!(
        text.contains("the beginning of segment 1 is damaged"),
        "{text}"
    );
}

/// Segment 0 is being erased: no stamp tells where it begins.
#[test]
fn log_without_its_first_stamp_is_found_by_the_sequences() {
    let mut image = Device::new().measure(300).read_out();
    // As much stands before the log as a segment takes.
    image.splice(0..0, vec![0; SEGMENT_BYTES]);
    let first = SEGMENT_BYTES + segment(0);
    image[first..first + 64].fill(0);
    let (_, report) = report(&image, &[]);
    assert_eq!(report["start"], first);
    assert_eq!(report["start_from"], "sequences");
    assert_eq!(report["segments"][0]["state"], "unready");
    assert_eq!(report["segments"][1]["seq"], 2);
}

#[test]
fn log_without_any_stamp_is_read_when_its_segments_are_told() {
    let mut image = Device::new().measure(150).read_out();
    for number in 0..SEGMENTS {
        image[segment(number)] ^= 1;
    }
    let ran = inspect(&image, &[]);
    assert_eq!(ran.code, Some(64));
    assert!(ran.err.contains("--segment-bytes"), "{}", ran.err);
    let (code, report) = report(&image, &["--segment-bytes", "4096"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        (&report["start"], &report["log"]["held"]),
        (&START.into(), &150.into())
    );
    assert_eq!(report["geometry"]["stamped"], false);
    let ran = inspect(&image, &["--segment-bytes", "100", "--start", "0x400"]);
    assert_eq!(ran.code, Some(64));
    assert!(
        ran.err.contains("no log has these dimensions"),
        "{}",
        ran.err
    );
}

/// A chip that holds nothing yet is no mistake of whoever reads it out, but there is no log to show.
#[test]
fn each_file_that_is_no_whole_log_is_told_for_what_it_is() {
    let good = Device::new().measure(150).read_out();
    let newer = {
        let mut image = good.clone();
        for number in 0..SEGMENTS {
            let stamp = &mut image[segment(number)..][..32];
            stamp[4] = 9;
            let crc = sedge_core::crc::crc32c(&stamp[..28]);
            stamp[28..].copy_from_slice(&crc.to_le_bytes());
        }
        image
    };
    let two = {
        let mut image = good.clone();
        image.extend([0xFF; 100]);
        image.extend(&good);
        image
    };
    let with_damaged_stamp = {
        let mut image = vec![0; 20_000];
        image[0x1234..][..4].copy_from_slice(b"sdg1");
        image
    };
    let cases: [(&[u8], &[&str], &[&str]); 10] = [
        (&[], &[], &["the image is empty"]),
        (&good[..9000], &[], &["9000 bytes", "9216"]),
        (
            &[0xFF; 20_000],
            &[],
            &["between 0x0 and 0x4e20", "erased flash"],
        ),
        (
            &with_damaged_stamp,
            &[],
            &["\"sdg1\"", "at 0x1234 stands one that is damaged"],
        ),
        (
            &newer,
            &[],
            &["segment at 0x400 has format version 9", "newer"],
        ),
        (
            &good[..segment(2) + 512],
            &[],
            &[
                "ends at 0x2600",
                "512 bytes into segment 2 of 4",
                "0x400 to 0x4400",
            ],
        ),
        (&two, &[], &["2 logs", "0x400", "--start"]),
        (
            &good,
            &["--start", "0x404"],
            &["0x404", "stamps stand at 0x400, 0x1400"],
        ),
        (
            &good,
            &["--start", "0x100000"],
            &["begin at 0x100000", "ends at 0x4400"],
        ),
        (&good, &["--start", "here"], &["0x400"]),
    ];
    for (image, arguments, parts) in cases {
        let ran = inspect(image, arguments);
        assert_eq!((ran.code, ran.out.as_str()), (Some(64), ""), "{}", ran.err);
        for part in parts {
            assert!(ran.err.contains(part), "{part} is not in\n{}", ran.err);
        }
    }
    let (code, report) = report(&two, &["--start", "0x400"]);
    assert_eq!((code, &report["log"]["held"]), (Some(0), &150.into()));
    let ran = sedge(&["inspect", "--flash-image", "/nowhere/chip.bin"]);
    assert_eq!(ran.code, Some(74));
    assert!(
        ran.err.contains("/nowhere/chip.bin: No such file"),
        "{}",
        ran.err
    );
}

/// One segment was written by a later version: the device refuses the log and wipes nothing, and the records of the others are no longer its to show.
#[test]
fn log_that_a_newer_device_wrote_in_is_refused_and_not_called_damaged() {
    let mut image = Device::new().measure(150).read_out();
    let stamp = &mut image[segment(2)..][..32];
    stamp[4] = 2;
    let crc = sedge_core::crc::crc32c(&stamp[..28]);
    stamp[28..].copy_from_slice(&crc.to_le_bytes());
    let (code, report) = report(&image, &[]);
    assert_eq!(code, Some(74));
    let refused = report["open"]["refused"].as_str().expect("a reason");
    assert!(
        refused.contains("segment 2 has format version 2"),
        "{refused}"
    );
    assert_eq!(report["segments"][2]["state"], "refused");
    assert_eq!(report["log"]["held"], 150);
    assert_eq!(inspect(&image, &["--records"]).code, Some(74));
}

#[test]
fn segment_of_a_log_on_files_is_sent_to_its_own_command() {
    let place = Place::new();
    let agent = place.start_agent();
    drop(agent);
    let mut dirs = vec![place.path("agent")];
    let mut found = None;
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            match path.file_name().is_some_and(|name| name == "seg-00000.log") {
                true => found = Some(path),
                false if path.is_dir() => dirs.push(path),
                false => {}
            }
        }
    }
    let path = found.expect("a segment").display().to_string();
    let ran = sedge(&["inspect", "--flash-image", &path]);
    assert_eq!(ran.code, Some(64));
    assert!(ran.err.contains("a log on files"), "{}", ran.err);
}

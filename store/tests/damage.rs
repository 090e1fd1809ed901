//! Stories about directories that were damaged, copied in the middle of things, or filled: it starts, and says what is missing.

mod fixture;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fixture::{Given, copy_dir, file_of, fill, held_segments, payloads, read_all};
use sedge_core::{Cause, Offset};
use sedge_store::{NoOwner, OpenError, Partition, StageError, inspect, salvage};

#[test]
fn settled_records_survive_a_copy_of_the_files_at_any_time() {
    let given = Given::default();
    let partition = given.open();
    let mut producer = partition.producer();
    let mut copies = Vec::new();
    for round in 0..20 {
        for n in 0..50 {
            fixture::stage(&partition, &mut producer, format!("{round}-{n}").as_bytes());
        }
        // What is settled now must be in the copy; what is staged may be, as a whole or torn.
        let settled = partition.next();
        let copy = Given {
            options: given.options.clone(),
            ..Given::default()
        };
        copy_dir(&given.dir.path().join("log"), &copy.dir.path().join("log"));
        copies.push((settled, copy));
    }
    fixture::settle(&partition, &mut producer);
    let all = read_all(&partition, Offset::ZERO);
    let all = payloads(&all);
    for (settled, copy) in copies {
        let partition = copy.open();
        let shown = read_all(&partition, Offset::ZERO);
        let values = payloads(&shown);
        assert!(
            values.len() as u64 >= settled.get(),
            "{} of {settled} settled",
            values.len()
        );
        assert_eq!(values, all[..values.len()]);
        fixture::put(&partition, &["and goes on"]);
    }
}

#[test]
fn a_missing_segment_is_a_gap_and_the_rest_is_read() {
    let given = Given::default();
    let held = fill(&given);
    let log = given.dir.path().join("log");
    let middle = &held_segments(&log)[1];
    let lost = middle.entries;
    fs::remove_file(file_of(&log, middle)).unwrap();
    let partition = given.open();
    let shown = read_all(&partition, partition.oldest());
    let [gap] = fixture::gaps(&shown)[..] else {
        panic!("one gap")
    };
    assert_eq!(gap.lost, lost);
    assert_eq!(payloads(&shown).len() as u64 + lost, held);
}

/// A segment of another log lies in the directory, with other dimensions, beside somebody's notes.
#[test]
fn what_does_not_belong_is_set_aside_and_can_be_salvaged() {
    let given = Given::default();
    let held = fill(&given);
    let log = given.dir.path().join("log");
    let mut other = Given::default();
    other.options.capacity_bytes = 2 << 20;
    fixture::put(&other.open(), &["of another log"]);
    fs::copy(
        other.dir.path().join("log/seg-00000.log"),
        log.join("seg-00007.log"),
    )
    .unwrap();
    fs::write(log.join("notes.txt"), "mine").unwrap();
    let (partition, opened) = open(&given).unwrap();
    assert_eq!(opened.set_aside.len(), 2, "{opened:?}");
    let shown = read_all(&partition, partition.oldest());
    assert_eq!(payloads(&shown).len() as u64, held);
    let to = given.dir.path().join("salvaged");
    let mut salvaged = salvage(&log, &to).unwrap();
    salvaged.sort_by_key(|log| log.entries);
    let [strange, own] = &salvaged[..] else {
        panic!("two logs: {salvaged:?}")
    };
    assert_eq!(strange.entries, 1);
    // What was evicted and not overwritten yet comes on top.
    assert!(own.entries >= held, "{own:?}");
    assert_eq!(own.to, partition.next().get());
    assert_eq!(inspect(&own.dir).unwrap().log.unwrap().held, own.entries);
}

/// The oldest two segments are gone, behind what was evicted: who reads from the beginning is told of each loss by its own cause.
#[test]
fn what_was_evicted_and_what_is_corrupt_behind_it_are_two_gaps() {
    let given = Given::default();
    fill(&given);
    let log = given.dir.path().join("log");
    let gone = &held_segments(&log)[..2];
    let lost: u64 = gone.iter().map(|segment| segment.entries).sum();
    for segment in gone {
        fs::remove_file(file_of(&log, segment)).unwrap();
    }
    let partition = given.open();
    let shown = read_all(&partition, Offset::ZERO);
    let [evicted, corrupt] = fixture::gaps(&shown)[..] else {
        panic!("two: {:?}", fixture::gaps(&shown))
    };
    let oldest = partition.ledger().oldest;
    assert_eq!((evicted.from, evicted.to), (Offset::ZERO, oldest));
    assert_eq!(
        (evicted.cause, evicted.lost),
        (Cause::Evicted, oldest.get())
    );
    assert_eq!((corrupt.from, corrupt.to), (oldest, oldest + lost));
    assert_eq!((corrupt.cause, corrupt.lost), (Cause::Corrupt, lost));
}

/// The head's file is cut shorter, in a log that was closed well. What stood behind the cut is a gap, its offsets are not given again, and its file is whole
/// once it is used again.
#[test]
fn what_stood_in_the_end_that_a_head_has_lost_is_a_gap() {
    for opened_before in [0, 1] {
        let given = Given::default();
        let partition = given.open();
        let values: Vec<String> = (0..300).map(|n| format!("{n:0400}")).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        for some in values.chunks(10) {
            fixture::put(&partition, some);
        }
        let end = partition.next();
        partition.close();
        drop(partition);
        let log = given.dir.path().join("log");
        let file = fs::OpenOptions::new()
            .write(true)
            .open(log.join("seg-00000.log"))
            .unwrap();
        let whole = file.metadata().unwrap().len();
        file.set_len(20_001).unwrap();
        for _ in 0..opened_before {
            given.open().close();
        }
        let partition = given.open();
        fixture::put(&partition, &["goes on"]);
        let shown = read_all(&partition, Offset::ZERO);
        let shown_values = payloads(&shown);
        let (last, before) = shown_values.split_last().unwrap();
        assert_eq!(*last, "goes on");
        assert!((30..50).contains(&before.len()), "{}", before.len());
        assert_eq!(before, &values[..before.len()]);
        let gaps = fixture::gaps(&shown);
        let corrupt: Vec<_> = gaps.iter().filter(|g| g.cause == Cause::Corrupt).collect();
        let [gap] = corrupt[..] else {
            panic!("one: {gaps:?}")
        };
        assert_eq!(gap.from.get(), before.len() as u64);
        assert!(gap.to >= end, "{gap:?}, and {end} was the end");
        drop(partition);
        fill(&given);
        assert_eq!(file.metadata().unwrap().len(), whole);
        let report = inspect(&log).unwrap().log.unwrap();
        assert!(report.balances, "{report:?}");
    }
}

/// Somebody copies a segment to another number of the same log, and the log goes on: at its end, or when the file is long sealed.
#[test]
fn a_copied_segment_takes_nobodys_place() {
    let given = Given::default();
    fixture::put(&given.open(), &["one"]);
    let log = given.dir.path().join("log");
    fs::copy(log.join("seg-00000.log"), log.join("seg-00002.log")).unwrap();
    let mut expected = vec!["one".to_owned()];
    for value in ["two", "three"] {
        let partition = given.open();
        assert_eq!(payloads(&read_all(&partition, Offset::ZERO)), expected);
        fixture::put(&partition, &[value]);
        expected.push(value.to_owned());
        assert_eq!(payloads(&read_all(&partition, Offset::ZERO)), expected);
        drop(partition);
        let log = inspect(&log).unwrap().log.unwrap();
        assert_eq!((log.held, log.balances), (expected.len() as u64, true));
    }
}

/// The beginnings of two segments rot: of one that is in use, and of one that never was.
#[test]
fn a_damaged_segment_is_kept_if_anything_was_in_it_and_takes_no_room_beyond_the_capacity() {
    let given = Given::default();
    fixture::put(&given.open(), &["one"]);
    let log = given.dir.path().join("log");
    let files = || {
        let mut files: Vec<_> = fs::read_dir(&log)
            .unwrap()
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_some())
            .collect();
        files.sort();
        files
    };
    let before = files();
    for file in [&before[0], before.last().unwrap()] {
        let mut bytes = fs::read(file).unwrap();
        bytes[..200]
            .iter_mut()
            .step_by(40)
            .for_each(|byte| *byte ^= 1);
        fs::write(file, bytes).unwrap();
    }
    let (partition, opened) = open(&given).unwrap();
    let [(aside, _)] = &opened.set_aside[..] else {
        panic!("one: {opened:?}")
    };
    let kept = fs::metadata(aside).unwrap().len();
    assert_eq!(kept, u64::from(opened.segment_bytes));
    let taken: u64 = files().iter().map(|f| fs::metadata(f).unwrap().len()).sum();
    assert_eq!(files().len() + 1, before.len(), "one in the place of two");
    assert!(taken + kept <= given.options.capacity_bytes);
    drop(partition);
    fs::remove_file(aside).unwrap();
    drop(open(&given).unwrap());
    assert_eq!(files().len(), before.len(), "there is room again");
}

#[test]
fn a_report_balances_after_evictions_and_kills() {
    let given = Given::default();
    fill(&given);
    fixture::put(&given.open(), &["after a kill"]);
    let partition = given.open();
    partition.set_cursor(3, partition.oldest());
    fixture::put(&partition, &["and another"]);
    partition.close();
    let log = inspect(&given.dir.path().join("log")).unwrap().log.unwrap();
    assert!(log.balances && log.closed && !log.ended, "{log:?}");
    assert!(log.ledger.evicted > 0 && log.ledger.skipped > 0);
    assert_eq!(log.next, partition.next().get());
    assert_eq!(log.oldest, partition.oldest().get());
    assert!(
        serde_json::to_string(&log)
            .unwrap()
            .contains("\"balances\":true")
    );
}

/// The only segment of a young log has lost its stamp: nothing is known of the dimensions, and the report says that it is damaged.
#[test]
fn a_log_whose_only_stamp_is_damaged_is_reported_as_damaged() {
    let given = Given::default();
    fixture::put(&given.open(), &["one"]);
    let log = given.dir.path().join("log");
    for segment in inspect(&log).unwrap().segments {
        let file = log.join(format!("seg-{:05}.log", segment.segment));
        let mut bytes = fs::read(&file).unwrap();
        bytes[8] ^= 1;
        fs::write(&file, &bytes).unwrap();
    }
    let report = inspect(&log).unwrap();
    assert!(report.log.is_none());
    assert!(
        report
            .segments
            .iter()
            .any(|s| s.state == "damaged" && s.seq.is_some())
    );
}

#[test]
fn a_later_format_is_refused_and_not_touched() {
    let given = Given::default();
    drop(given.open());
    let file = given.dir.path().join("log/seg-00000.log");
    let mut bytes = fs::read(&file).unwrap();
    bytes[4] = 9;
    let crc = sedge_core::crc::crc32c(&bytes[..28]).to_le_bytes();
    bytes[28..32].copy_from_slice(&crc);
    fs::write(&file, &bytes).unwrap();
    assert!(matches!(
        open(&given),
        Err(OpenError::Newer { version: 9, .. })
    ));
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

/// There is no room for three segments, and no log yet. It opens all the same, takes nothing, keeps no room from others, and makes the log
/// when the disk has become larger.
#[test]
fn a_log_without_room_to_begin_begins_when_there_is_some() {
    let Some(disk) = SmallDisk::mount("2m") else {
        return;
    };
    let mut given = Given {
        dir: tempfile::tempdir_in(&disk.path).unwrap(),
        ..Given::default()
    };
    given.options.capacity_bytes = 64 << 20;
    let (partition, opened) = open(&given).unwrap();
    let why = opened.intake_refused.expect("there is no room");
    assert!(
        why.starts_with("the disk has room for 2 of the 3 segments"),
        "{why}"
    );
    assert_eq!(refused(&partition).as_deref(), Some(&*why));
    assert!(!partition.is_made());
    assert!(segments(&given).is_empty(), "{:?}", segments(&given));
    let mut producer = partition.producer();
    for _ in 0..100 {
        let refused = fixture::try_stage(&mut producer, b"one");
        assert_eq!(refused, Err(StageError::Full));
    }
    partition.set_cursor(1, Offset::ZERO);
    assert!(read_all(&partition, Offset::ZERO).is_empty());
    partition.close();

    let partition = given.open();
    partition.set_cursor(1, Offset::ZERO);
    disk.grow_to("16m");
    eventually(|| refused(&partition).is_none());
    assert!(partition.is_made());
    fixture::put(&partition, &["one", "two"]);
    let all = read_all(&partition, Offset::ZERO);
    assert_eq!(payloads(&all), ["one", "two"]);
    partition.close();
    let again = given.open();
    assert_eq!(again.log_id(), partition.log_id());
    assert_eq!(again.cursor(1).unwrap().next, Offset::ZERO);
    assert_eq!(again.ledger().skipped, 0, "nothing was written before");
}

/// One of three segments is left and the disk is full. What is there is read, and released; when somebody makes room, the log goes on
/// where it was.
#[test]
fn a_disk_that_is_too_full_refuses_intake_and_readers_go_on() {
    let Some(disk) = SmallDisk::mount("1m") else {
        return;
    };
    let mut given = Given {
        dir: tempfile::tempdir_in(&disk.path).unwrap(),
        ..Given::default()
    };
    let log = given.dir.path().join("log");
    given.options.capacity_bytes = 512 << 10;
    fixture::put(&given.open(), &["one", "two"]);
    fs::write(disk.path.join("ballast"), vec![1; 400 << 10]).unwrap();
    for segment in [1, 2, 3] {
        fs::remove_file(log.join(format!("seg-{segment:05}.log"))).unwrap();
    }
    fill_up(&disk.path.join("more ballast"));
    let (partition, opened) = open(&given).unwrap();
    let why = opened.intake_refused.expect("there is no room");
    assert!(
        why.starts_with("the disk has room for 1 of the 3 segments"),
        "{why}"
    );
    assert!(partition.is_made());
    let all = read_all(&partition, Offset::ZERO);
    assert_eq!(payloads(&all), ["one", "two"]);
    let mut producer = partition.producer();
    let refused_now = fixture::try_stage(&mut producer, b"three");
    assert_eq!(refused_now, Err(StageError::Full));
    assert_eq!(partition.events_from(Offset::new(1)).unwrap(), 1);
    partition.set_cursor(1, partition.next());

    fs::remove_file(disk.path.join("ballast")).unwrap();
    fs::remove_file(disk.path.join("more ballast")).unwrap();
    eventually(|| refused(&partition).is_none());
    fixture::put(&partition, &["three"]);
    let all = read_all(&partition, Offset::ZERO);
    assert_eq!(payloads(&all), ["one", "two", "three"]);
    assert_eq!(partition.events_from(Offset::new(2)).unwrap(), 1);
    partition.close();
    let report = inspect(&log).unwrap().log.unwrap();
    assert!(report.balances && report.closed, "{report:?}");
    assert_eq!(report.ledger.cursors[0].next, Offset::new(2));
}

fn refused(partition: &Partition) -> Option<String> {
    let refused = partition.intake_refused();
    refused.borrow().as_deref().map(str::to_owned)
}

fn segments(given: &Given) -> Vec<PathBuf> {
    let entries = fs::read_dir(given.dir.path().join("log")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn eventually(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The capacity does not fit on the disk: the log begins with the segments that do, and says so.
#[test]
fn a_capacity_that_does_not_fit_is_started_with_what_does() {
    let Some(disk) = SmallDisk::mount("900k") else {
        return;
    };
    let given = Given {
        dir: tempfile::tempdir_in(&disk.path).unwrap(),
        ..Given::default()
    };
    let (partition, opened) = open(&given).unwrap();
    assert_eq!((opened.segments, opened.segments_wanted), (3, 4));
    let mut producer = partition.producer();
    for n in 0..2000 {
        fixture::stage(&partition, &mut producer, format!("{n:01000}").as_bytes());
    }
    fixture::settle(&partition, &mut producer);
    assert!(!partition.stats().failed);
}

/// A file system in memory, for as long as this lives. Only root can have one.
struct SmallDisk {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_path_buf();
        let size = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(&path)
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            eprintln!(
                "SKIPPED: no tmpfs can be mounted here, so the story of the full disk was not told"
            );
            return None;
        }
        Some(Self { path, _dir: dir })
    }

    fn grow_to(&self, size: &str) {
        let options = format!("remount,size={size}");
        let grown = Command::new("mount")
            .args(["-o", &options])
            .arg(&self.path)
            .status();
        assert!(grown.is_ok_and(|status| status.success()));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.path).status());
    }
}

fn fill_up(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
}

fn open(given: &Given) -> Result<(Partition, sedge_store::Opened), OpenError> {
    let dir = given.dir.path().join("log");
    Partition::open(
        dir,
        given.options.clone(),
        Box::new(NoOwner),
        fixture::ticking(),
    )
}

/// Cursors move, so ledgers ride along with commits; the log is full, so recycling writes ledgers of its own. Whichever
/// stands last must be right.
#[test]
fn the_sum_is_right_after_a_kill_while_cursors_move_and_the_log_evicts() {
    let given = Given::default();
    let log = given.dir.path().join("log");
    let until = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < until {
        let partition = given.open();
        let life = Instant::now();
        let mut producer = partition.producer();
        while life.elapsed() < Duration::from_millis(1200) && Instant::now() < until {
            fixture::stage(&partition, &mut producer, &[b'x'; 3000]);
            partition.set_cursor(1, Offset::new(partition.next().get() / 2));
        }
        drop((producer, partition));
        let report = inspect(&log).unwrap().log.unwrap();
        assert!(report.balances, "{report:?}");
        assert_eq!((report.ledger.corrupt, report.missing), (0, 0));
        assert!(report.ledger.evicted + report.ledger.handed_over > 0);
    }
}

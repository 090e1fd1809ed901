//! Any directory, and any image of a flash, to `sedge inspect`: it writes nothing, ends in steps that the size of what is there bounds, and says numbers that
//! agree with each other.
//!
//! ```text
//! input   ( name 1 | length 2 | bytes ) for each file of the directory
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sedge::cli::inspect::printed;
use sedge_store::{FlashHints, FlashImage, FlashItem, LogReport};

/// Files in a directory.
pub fn inspect_directory(input: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let bytes = fill(folder.path(), input);
    let before = content(folder.path());
    let begun = Asked::now();
    let text = printed(folder.path(), false);
    if let (Some(begun), Some(ended)) = (begun, Asked::now()) {
        let reads_max = 2 * (READS_A_FILE * before.len() as u64 + bytes / 64 + READS_BESIDE);
        assert_eq!(ended.written - begun.written, 0, "inspect writes");
        assert!(
            ended.reads - begun.reads <= reads_max,
            "{} reads, and at most {reads_max} are due",
            ended.reads - begun.reads
        );
    }
    let json = printed(folder.path(), true);
    assert_eq!(text.is_ok(), json.is_ok());
    assert!(before == content(folder.path()), "inspect writes");
    match (text, json) {
        (Ok(text), Ok(json)) => {
            assert!(!text.is_empty());
            let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
            for log in json["logs"].as_array().expect("logs") {
                agrees(&log["log"]);
            }
        }
        // Nothing in a file keeps from looking at the others.
        (Err(why), _) | (_, Err(why)) => assert!(why.contains("there is no log"), "{why}"),
    }
}

/// Offsets are in order, and the sum is said to be right exactly when it is.
fn agrees(log: &serde_json::Value) {
    if log.is_null() {
        return;
    }
    let number = |value: &serde_json::Value| u128::from(value.as_u64().expect("a number"));
    let ledger = &log["ledger"];
    let gone = ["handed_over", "evicted", "expired", "corrupt", "skipped"];
    let gone: u128 = gone.iter().map(|cause| number(&ledger[cause])).sum();
    let sum = number(&log["held"]) + number(&log["missing"]) + gone;
    assert_eq!(log["balances"] == true, sum == number(&log["next"]));
    let mut last = 0;
    for gap in log["gaps"].as_array().expect("gaps") {
        let (from, to) = (number(&gap["from"]), number(&gap["to"]));
        assert!(from <= to, "{gap}");
        assert!(last <= from, "gaps overlap: {gap}");
        last = from;
    }
}

/// What a process asked of the kernel so far, in this thread.
struct Asked {
    reads: u64,
    written: u64,
}

impl Asked {
    /// `None` where the kernel does not count.
    fn now() -> Option<Self> {
        let text = fs::read_to_string("/proc/thread-self/io").ok()?;
        let number = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse().ok()
        };
        Some(Self {
            reads: number("syscr:")?,
            written: number("wchar:")?,
        })
    }
}

/// Makes the files; how many bytes they have.
fn fill(folder: &Path, input: &[u8]) -> u64 {
    let (mut rest, mut sum) = (input, 0);
    let mut files = 0;
    while let Some((&[name, low, high], behind)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes([low, high]));
        let (bytes, behind) = behind.split_at(len.min(behind.len()));
        let path = folder.join(NAMES[usize::from(name) % NAMES.len()]);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, bytes).expect("a file");
        (rest, sum, files) = (behind, sum + bytes.len() as u64, files + 1);
        if files == FILES_MAX {
            break;
        }
    }
    sum
}

fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(content(&path));
        } else {
            let bytes = fs::read(&path).expect("a file");
            all.insert(path, bytes);
        }
    }
    all
}

/// A file as a probe reads it from a device.
pub fn inspect_flash(input: &[u8]) {
    let Some((&[segment_bytes, write_unit], image)) = input.split_first_chunk() else {
        return;
    };
    let hints = FlashHints {
        start: None,
        segment_bytes: (segment_bytes > 0).then(|| 1024 * u32::from(segment_bytes)),
        write_unit: u32::from(write_unit),
        frame_bytes_max: 256,
    };
    let found = match FlashImage::find(image, &hints) {
        Ok(found) => found,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let report = found.report();
    assert!(report.start < image.len() && report.bytes == image.len());
    let mut records = 0_u64;
    let mut last = None;
    let read = found.read(|item| {
        if let FlashItem::Record { offset, .. } = item {
            assert!(last < Some(offset), "{offset} comes twice");
            (last, records) = (Some(offset), records + 1);
        }
    });
    assert_eq!(read.is_err(), report.open.refused.is_some());
    if let Some(log) = report.log.as_ref().filter(|_| read.is_ok()) {
        is_what_was_read(log, records);
    }
}

fn is_what_was_read(log: &LogReport, records: u64) {
    assert!(
        records <= log.held,
        "{records} records are shown, and {} held",
        log.held
    );
    assert!(log.oldest <= log.next);
}

/// What is in a directory that somebody points at: a log, parts of one, what is beside it, and what is none of ours.
pub const NAMES: [&str; 16] = [
    "seg-00000.log",
    "seg-00001.log",
    "seg-00002.log",
    "seg-00003.log",
    "identity.toml",
    "sync-failed",
    "set-aside/seg-00000.log",
    ".seg-00004.log",
    "streams/0/seg-00000.log",
    "streams/0/identity.toml",
    "seg-99999.log",
    "notes.txt",
    "identity-copy.toml",
    "unsent",
    "streams/0/identity-copy.toml",
    "set-aside/identity.toml",
];
const FILES_MAX: usize = 16;

/// Looking at a file's beginning, its header, and walking it twice.
const READS_A_FILE: u64 = 64;
const READS_BESIDE: u64 = 64;

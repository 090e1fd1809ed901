//! Stories of a log whose capacity changes: it grows at the wrap, and shrinks only when that is allowed, to the record and whatever
//! the moment of a kill.

mod fixture;

use std::fs;
use std::path::Path;

use fixture::{Given, gaps, payloads, read_all};
use sedge_core::log::WhenFull;
use sedge_core::{Cause, Offset};
use sedge_store::{NoOwner, Opened, Owner, Partition, Shrunk, Ticket, inspect};

/// Segments are the files of the capacity; more of them come behind the last.
#[test]
fn a_larger_capacity_holds_more_and_loses_nothing() {
    let mut given = Given::default();
    let held = fill(&given, 1500);
    given.options.capacity_bytes = 4 << 20;
    let held_by_more = fill(&given, 4500);
    assert!(held_by_more > 3 * held, "{held} and then {held_by_more}");
    let partition = given.open();
    let shown = read_all(&partition, partition.oldest());
    assert_eq!(payloads(&shown).len() as u64, held_by_more);
    assert!(gaps(&shown).is_empty());
    assert_eq!(partition.ledger().corrupt, 0);
}

/// The capacity is made smaller while the log is full: nothing may be lost by that, so the segments stay.
#[test]
fn a_smaller_capacity_does_not_evict() {
    let mut given = Given::default();
    fixture::put(&given.open(), &["x".repeat(1000).as_str(); 400]);
    given.options.capacity_bytes = 512 << 10;
    let partition = given.open();
    assert_eq!(payloads(&read_all(&partition, Offset::ZERO)).len(), 400);
    fixture::put(&partition, &["and goes on"]);
}

/// The capacity is made smaller, and that may cost records. The oldest go, as many as do not fit; each is counted, and a reader meets
/// one gap where they were.
#[test]
fn a_log_that_may_evict_shrinks_to_its_capacity_and_counts_what_goes() {
    let mut given = Given::large();
    fill(&given, 3000);
    let (next, evicted) = ends(&given);
    let (partition, opened) = shrunk(&given);
    given.options.capacity_bytes /= 2;
    let Shrunk {
        segments,
        evicted: gone,
        handed_over,
    } = opened.shrunk.unwrap();
    assert_eq!((segments, handed_over), (8, 0));
    assert!(gone > 300 && !opened.keeps_more(), "{opened:?}");
    assert_eq!(files(&given.log()).len(), 4);
    let ledger = partition.ledger();
    assert_eq!((ledger.evicted, ledger.corrupt), (evicted + gone, 0));
    assert_eq!(partition.next(), next);

    let shown = read_all(&partition, Offset::ZERO);
    let [gap] = gaps(&shown)[..] else {
        panic!("one gap, at the beginning")
    };
    assert_eq!((gap.cause, gap.lost), (Cause::Evicted, ledger.evicted));
    assert_eq!(payloads(&shown).len() as u64 + gap.lost, 3000);
    drop(partition);

    // It goes on as a log of that size.
    let held = fill(&given, 3000);
    let partition = given.open();
    assert_eq!(
        payloads(&read_all(&partition, partition.oldest())).len() as u64,
        held
    );
    assert_eq!(partition.ledger().corrupt, 0);
    assert_eq!(files(&given.log()).len(), 4);
}

/// The kill comes while the ledger is written, or when some of the files are gone, whichever the disk has kept. The log opens without
/// the permission to evict and with it, holds the records that stay, and gives no offset twice.
#[test]
fn a_kill_at_any_moment_of_the_shrink_leaves_a_log() {
    let given = Given::large();
    fill(&given, 3000);
    let before = tempfile::tempdir().unwrap();
    copy_dir(&given.log(), before.path());
    let (partition, _) = shrunk(&given);
    let (oldest, next) = (partition.oldest(), partition.next());
    let kept = payloads(&read_all(&partition, oldest)).len();
    drop(partition);
    let after = tempfile::tempdir().unwrap();
    copy_dir(&given.log(), after.path());

    let left = files(after.path());
    let gone: Vec<String> = files(before.path())
        .into_iter()
        .filter(|name| !left.contains(name))
        .collect();
    for moment in moments(before.path(), after.path(), gone.len()) {
        for allowed in [false, true] {
            fs::remove_dir_all(given.log()).unwrap();
            copy_dir(before.path(), &given.log());
            moment.make(&given.log(), after.path(), &gone);
            let (partition, opened) = if allowed {
                shrunk(&given)
            } else {
                open(&given, Box::new(NoOwner))
            };
            assert!(partition.next() >= next, "{moment:?}");
            assert_eq!(
                opened.keeps_more(),
                !allowed && moment.gone != all(gone.len())
            );
            fixture::put(&partition, &["goes on"]);
            let shown = read_all(&partition, oldest);
            assert_eq!(payloads(&shown).len(), kept + 1, "{moment:?}");
            assert_eq!(partition.ledger().corrupt, 0, "{moment:?}");
            drop(partition);
            let log = inspect(&given.log()).unwrap().log.unwrap();
            assert!(log.balances && log.missing == 0, "{moment:?}: {log:?}");
        }
    }
}

/// One uplink has a part of what goes; another is not in the configuration any more, and has nothing to say.
#[test]
fn what_every_uplink_has_of_the_segments_that_go_is_handed_over() {
    let mut given = Given::large();
    given.options.when_full = WhenFull::Refuse;
    fill_up_to(&given, 1500);
    let partition = given.open();
    partition.set_cursor(1, Offset::new(100));
    partition.set_cursor(2, Offset::ZERO);
    partition.close();
    drop(partition);
    let (partition, opened) = shrunk(&given);
    let shrunk = opened.shrunk.unwrap();
    assert_eq!(
        (shrunk.handed_over, shrunk.evicted),
        (100, partition.oldest().get() - 100)
    );
    assert_eq!(partition.cursor(2), None);
    assert_eq!(partition.cursor(1).unwrap().lost, shrunk.evicted);
    assert_eq!(
        payloads(&read_all(&partition, partition.oldest())).len() as u64,
        1500 - partition.oldest().get()
    );
}

/// The head takes nothing more, since the size of records was changed with the capacity. What the owner had said goes over into the next.
#[test]
fn a_log_whose_head_has_no_room_shrinks_and_remembers_its_owner() {
    let mut given = Given::of_eight(4 << 20);
    fill(&given, 9000);
    given.options.record_bytes_max = 128 << 10;
    let said = b"a device goes on at 7".to_vec();
    let (partition, opened) = open_shrunk(&given, Box::new(Says(said.clone())));
    assert!(
        opened.shrunk.is_some() && !opened.keeps_more(),
        "{opened:?}"
    );
    partition.close();
    drop(partition);
    let head = inspect(&given.log()).unwrap();
    assert!(head.log.unwrap().balances);
    let files = files(&given.log());
    let stands = |name: &String| {
        let bytes = fs::read(given.log().join(name)).unwrap();
        bytes.windows(said.len()).any(|window| window == said)
    };
    assert_eq!(files.iter().filter(|name| stands(name)).count(), 1);
}

/// After it was made smaller it is made larger again: new files fill the places of those that went.
#[test]
fn a_log_that_shrank_grows_again() {
    let mut given = Given::large();
    fill(&given, 2500);
    let (partition, _) = shrunk(&given);
    let (oldest, next) = (partition.oldest(), partition.next());
    drop(partition);
    given.options.capacity_bytes = 4 << 20;
    let partition = given.open();
    assert_eq!((partition.oldest(), partition.next()), (oldest, next));
    drop(partition);
    let held = fill(&given, 6000);
    assert!(held > 3000, "{held}");
    let log = inspect(&given.log()).unwrap().log.unwrap();
    assert!(log.balances && log.ledger.corrupt == 0, "{log:?}");
    assert_eq!(files(&given.log()).len(), 16);
}

impl Given {
    /// A log of eight segments, of which four will do.
    fn large() -> Self {
        Self::of_eight(1 << 20)
    }

    /// The same, of which four are this many bytes.
    fn of_eight(half_bytes: u64) -> Self {
        let mut given = Self::default();
        given.options.capacity_bytes = half_bytes;
        given.open().close();
        given.options.capacity_bytes *= 2;
        given
    }

    fn log(&self) -> std::path::PathBuf {
        self.dir.path().join("log")
    }
}

/// A moment at which the kill comes.
#[derive(Debug)]
struct Moment {
    /// So many bytes of what was written to the head are on the disk.
    written: usize,
    /// Which of the files that go are gone, a bit for each.
    gone: u32,
}

impl Moment {
    /// Makes the directory what a kill at this moment leaves.
    fn make(&self, log: &Path, after: &Path, gone: &[String]) {
        for name in files(after) {
            let (mut bytes, new) = (
                fs::read(log.join(&name)).unwrap(),
                fs::read(after.join(&name)).unwrap(),
            );
            if let Some(first) = bytes.iter().zip(&new).position(|(a, b)| a != b) {
                let end = (first + self.written).min(bytes.len());
                bytes[first..end].copy_from_slice(&new[first..end]);
                fs::write(log.join(&name), bytes).unwrap();
            }
        }
        for (at, name) in gone.iter().enumerate() {
            if self.gone & (1 << at) != 0 {
                fs::remove_file(log.join(name)).unwrap();
            }
        }
    }
}

/// Every length of what was written while all files are there, then every subset of the files.
fn moments(before: &Path, after: &Path, count: usize) -> Vec<Moment> {
    let changed = files(after).into_iter().map(|name| {
        let (old, new) = (
            fs::read(before.join(&name)).unwrap(),
            fs::read(after.join(&name)).unwrap(),
        );
        let differs = |(a, b): (&u8, &u8)| a != b;
        let first = old.iter().zip(&new).position(differs);
        let last = old.iter().zip(&new).rposition(differs);
        first.map_or(0, |first| last.unwrap_or(first) + 1 - first)
    });
    let changed: usize = changed.max().unwrap();
    assert!(
        (60..1000).contains(&changed),
        "a mark, a ledger and a clean stop: {changed} bytes"
    );
    let torn = (0..changed)
        .step_by(7)
        .map(|written| Moment { written, gone: 0 });
    let unlinked = (0..=all(count)).map(|gone| Moment {
        written: changed,
        gone,
    });
    torn.chain(unlinked).collect()
}

fn all(count: usize) -> u32 {
    (1 << count) - 1
}

/// An owner that has only this to say.
struct Says(Vec<u8>);

impl Owner for Says {
    fn restore(&mut self, _: &[u8]) {}
    fn apply(&mut self, _: &[u8], _: &[u8], _: Offset, _: Ticket) {}
    fn note(&mut self, _: &[u8]) {}
    fn checkpoint(&mut self, into: &mut Vec<u8>, _: usize) {
        into.extend_from_slice(&self.0);
    }
}

/// Opens it with half the capacity, to shrink for the uplink 1.
fn shrunk(given: &Given) -> (Partition, Opened) {
    open_shrunk(given, Box::new(NoOwner))
}

fn open_shrunk(given: &Given, owner: Box<dyn Owner>) -> (Partition, Opened) {
    let mut options = given.options.clone();
    options.shrink_for = Some(vec![1]);
    open_as(given, options, owner)
}

fn open(given: &Given, owner: Box<dyn Owner>) -> (Partition, Opened) {
    open_as(given, given.options.clone(), owner)
}

fn open_as(
    given: &Given,
    options: sedge_store::PartitionOptions,
    owner: Box<dyn Owner>,
) -> (Partition, Opened) {
    let smaller = sedge_store::PartitionOptions {
        capacity_bytes: options.capacity_bytes / 2,
        ..options
    };
    Partition::open(given.log(), smaller, owner, fixture::ticking()).unwrap()
}

/// The offset behind all records, and how many are evicted.
fn ends(given: &Given) -> (Offset, u64) {
    let partition = given.open();
    (partition.next(), partition.ledger().evicted)
}

/// Puts so many records of a kilobyte in one life; returns how many are held at its end.
fn fill(given: &Given, count: u64) -> u64 {
    fill_up_to(given, count);
    let partition = given.open();
    partition.next().since(partition.oldest())
}

fn fill_up_to(given: &Given, count: u64) {
    let partition = given.open();
    let mut producer = partition.producer();
    for n in 0..count {
        fixture::stage(&partition, &mut producer, format!("{n:01000}").as_bytes());
    }
    fixture::settle(&partition, &mut producer);
    partition.close();
}

/// The segment files of a log.
fn files(log: &Path) -> Vec<String> {
    let names = fs::read_dir(log)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.retain(|name| name.starts_with("seg-"));
    names.sort();
    names
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in files(from) {
        fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

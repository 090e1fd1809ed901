//! Stories of the directory: what is left of a log when its time is over, and what must not go.

use std::fs;

use sedge_core::entry::{Entry, Notice};
use sedge_core::frame::Frame;
use sedge_core::{Cause, Micros, Offset};
use sedge_store::Batch;
use sedge_uplink::forward::Handle;

use super::super::diverged::{self, Untold};
use super::*;
use crate::owner::{ITEM_BYTES_MAX, Item, Stood};

/// Between its end and the next life the disk may fill with something else, and the next log is where sessions go on.
#[test]
fn a_log_is_passed_when_the_next_one_has_its_room() {
    let given = Given::new();
    let log = given.put(&given.of(1), b"one");
    let mut disk = given.open(&given.of(1));
    assert!(disk.pass(log).unwrap());
    assert_eq!(given.logs(0), ["0000", "0001"]);
    let next = given.dir.path().join("streams/0000/0000/0001");
    assert_eq!(bytes_in(&next).unwrap(), 4 << 20);
    assert!(!disk.pass(log).unwrap(), "once");
    drop(disk);
    let disk = given.open(&given.of(1));
    let [older, head] = &disk.chains[0].logs[..] else {
        panic!("there are two")
    };
    assert!(older.is_passed() && older.is_ended() && older.partition.log_id() == log);
    assert!(!head.is_ended() && !head.opened.created && head.opened.intake_refused.is_none());
    assert_eq!((older.place, head.place), (0, 1));
}

/// A byte of it, or its place on the disk. In front of sound segments that is no reason to begin a new log.
#[test]
fn rot_in_an_identity_file_costs_no_event() {
    let given = Given::new();
    let log = given.put(&given.of(1), b"one");
    for at in ["0000", "0000/0000", "0000/0000/0000"] {
        let file = given
            .dir
            .path()
            .join("streams")
            .join(at)
            .join("identity.toml");
        let sound = fs::read(&file).unwrap();
        let mut rotten = sound.clone();
        rotten[0] ^= 1;
        fs::write(&file, rotten).unwrap();
        assert_eq!(given_head(&given.open(&given.of(1))), log, "{at}");
        assert_eq!(fs::read(&file).unwrap(), sound, "{at}");
    }
    assert_eq!(given.logs(0), ["0000"]);
    let aside = fs::read_dir(given.dir.path().join("set-aside")).unwrap();
    assert_eq!(aside.count(), 3, "the rotten files and nothing else");
}

/// Two hubs have to have everything before it goes.
#[test]
fn an_ended_log_goes_when_the_last_uplink_has_it() {
    let given = Given::new();
    let log = given.put(&given.of(1), b"one");
    let mut disk = given.open(&given.of(2));
    assert_eq!(given.logs(0), ["0000", "0001"]);
    for _ in 0..2 {
        assert!(
            disk.drained(log, 1, both).is_none(),
            "one of two, told twice"
        );
    }
    let drained = disk.drained(log, 2, both).unwrap();
    assert!(disk.chains.iter().all(|chain| chain.logs.len() == 1));
    let reading = drained.log.partition.clone();
    reading.read(Offset::ZERO, 1).unwrap();
    let gone = drained.remove().unwrap();
    assert_eq!(given.logs(0), ["0001"]);
    gone.finish().unwrap();
    assert!(
        reading.read(Offset::ZERO, 1).is_err(),
        "nobody holds its files open"
    );
    let left = fs::read_dir(given.dir.path().join("streams/0000/0000")).unwrap();
    assert_eq!(left.count(), 3, "an identity, its copy and a log");
}

/// It was put back to an older copy while the other hub still lacked something: the log is there to be sent to it again.
#[test]
fn an_ended_log_stays_for_a_hub_that_has_asked_for_it_again() {
    let given = Given::new();
    let log = given.put(&given.of(1), b"one");
    let mut disk = given.open(&given.of(2));
    let found = |disk: &Disk| {
        let logs = disk.chains.iter().flat_map(|chain| &chain.logs);
        let mut parts = logs.map(|log| log.partition.clone());
        parts.find(|part| part.log_id() == log).unwrap()
    };
    let of_log = found(&disk);
    let end = of_log.next();
    of_log.set_cursor(1, end);
    assert!(disk.drained(log, 1, both).is_none());
    of_log.set_cursor(1, Offset::ZERO);
    of_log.set_cursor(2, end);
    assert!(
        disk.drained(log, 2, both).is_none(),
        "the first has nothing"
    );
    of_log.set_cursor(1, end);
    assert!(disk.drained(log, 1, both).is_some());
}

/// A hub that is put back to an older copy may have to hear of it again.
#[test]
fn where_a_removed_log_ended_is_remembered() {
    let given = Given::new();
    let log = given.put(&given.of(1), b"one");
    let mut disk = given.open(&given.of(2));
    assert_eq!(disk.removed, []);
    disk.drained(log, 1, both);
    let drained = disk.drained(log, 2, both).unwrap();
    let (left, end) = (drained.left(), drained.log.partition.next());
    drained.remove().unwrap().finish().unwrap();
    drop(disk);
    let disk = given.open(&given.of(2));
    assert_eq!(disk.removed, [left]);
    let Removed {
        stream,
        partition,
        place,
        uplinks,
        ..
    } = &disk.removed[0];
    assert_eq!((stream.as_str(), *partition, *place), ("telemetry", 0, 0));
    assert_eq!((disk.removed[0].end, uplinks), (end, &both("telemetry")));
    assert!(end > Offset::ZERO);
}

/// Whoever reads a chain as one run comes again with an offset of it, also when the log that it stood in is gone: ended by another number of partitions, passed by
/// live records, or of a stream that was not in the configuration for a while.
#[test]
fn what_is_added_to_offsets_stays_with_a_log_and_goes_on_behind_those_that_are_removed() {
    let given = Given::new();
    let shifts = |disk: &Disk| -> Vec<u64> {
        let chain = disk.chains.iter().find(|chain| chain.stream == "telemetry");
        chain.unwrap().logs.iter().map(|log| log.shift).collect()
    };
    let remove = |disk: &mut Disk, log| {
        let drained = disk.drained(log, 1, |_| BTreeSet::from([1])).unwrap();
        let next = drained.log.partition.next().get();
        drained.remove().unwrap().finish().unwrap();
        next
    };
    let first = given.put(&given.of(1), b"one");
    let mut disk = given.open(&given.of(2));
    let [before, behind] = shifts(&disk)[..] else {
        panic!("there are two")
    };
    let end = remove(&mut disk, first);
    assert!(before == 0 && end > 0 && behind == end);
    drop(disk);
    // The next log is made before it is known where this one ends.
    let second = given.put(&given.of(2), b"two");
    let mut disk = given.open(&given.of(2));
    assert_eq!(shifts(&disk), [end]);
    let open = disk.chains[0].head();
    let in_doubt = u64::from(sedge_store::COMMIT_OFFSETS_MAX);
    let next = open.partition.next().get();
    assert_eq!(
        open.shift_behind(),
        end + next + in_doubt,
        "its end is not written"
    );
    assert!(disk.pass(second).unwrap());
    let mut batch = Batch::new();
    batch.push(|unit| unit.record(None, None, &[], b"a last one"), b"");
    let last = &disk.chains[0].head().partition;
    last.producer().stage(&batch).unwrap();
    disk.close();
    drop(disk);
    let disk = given.open(&given.of(2));
    let there = shifts(&disk);
    let end_of_second = end + disk.chains[0].logs[0].partition.next().get();
    assert_eq!(there, [end, end_of_second]);
    drop(disk);
    let mut disk = given.open(&given.without());
    assert_eq!(shifts(&disk), there);
    let third = disk
        .chains
        .iter()
        .find(|chain| chain.stream == "telemetry" && chain.partition == 0);
    let third = third.unwrap().head().partition.log_id();
    remove(&mut disk, second);
    let end_of_third = end_of_second + remove(&mut disk, third);
    drop(disk);
    for _ in 0..2 {
        assert_eq!(shifts(&given.open(&given.of(1))), [end_of_third]);
    }
    // Where a log stands could not be written down, and one behind it was removed meanwhile.
    let disk = given.open(&given.of(1));
    let mut identity = disk.chains[0].logs[0].identity.clone();
    let forgotten = LogIdentity {
        shift: None,
        ..identity.identity.clone()
    };
    identity.rewrite(forgotten).unwrap();
    let mut partition = lock(&disk.chains[0].identity).clone();
    let before = partition.identity.clone();
    let later = PartitionIdentity {
        next_place: 9,
        next_shift: Some(end_of_third + 1_000),
        ..before.clone()
    };
    partition.rewrite(later).unwrap();
    drop(disk);
    assert_eq!(
        shifts(&given.open(&given.of(1))),
        [0],
        "what is behind it does not count"
    );
    partition.rewrite(before).unwrap();
    let forgotten = LogIdentity {
        shift: None,
        ..identity.identity.clone()
    };
    identity.rewrite(forgotten).unwrap();
    // One that a hub holds otherwise stays, whatever goes behind it.
    let mut disk = given.open(&given.of(1));
    let fourth = given_head(&disk);
    disk.renew(fourth).unwrap();
    drop(disk);
    let fifth = given.put(&given.of(1), b"five");
    let mut disk = given.open(&given.of(2));
    let there = shifts(&disk);
    assert_eq!(there[0], end_of_third);
    remove(&mut disk, fifth);
    drop(disk);
    assert_eq!(shifts(&given.open(&given.of(2))), [there[0], there[2]]);
}

fn given_head(disk: &Disk) -> LogId {
    disk.chains[0].head().partition.log_id()
}

/// Its end was written down, and then the power failed.
#[test]
fn a_log_whose_removal_was_cut_short_is_still_a_log() {
    let given = Given::new();
    let log = given.put(&given.of(1), b"one");
    let mut disk = given.open(&given.of(2));
    disk.drained(log, 1, both);
    let drained = disk.drained(log, 2, both).unwrap();
    let left = drained.left();
    drained.log.partition.close();
    let mut identity = lock(&drained.identity).clone();
    let kept = identity.identity.without(&drained.log, &left);
    identity.rewrite(kept).unwrap();
    drop((disk, drained));
    let disk = given.open(&given.of(2));
    assert_eq!(disk.removed, []);
    assert!(
        disk.chains
            .iter()
            .any(|chain| chain.logs[0].partition.log_id() == log)
    );
}

/// The log of a later partition cannot be opened, start after start: what had been made for the earlier ones is not made again each time.
#[test]
fn a_change_of_partitions_that_is_broken_off_makes_no_more_logs_each_time() {
    let given = Given::new();
    given.put(&given.of(2), b"one");
    let segment = given
        .dir
        .path()
        .join("streams/0000/0001/0000/seg-00000.log");
    let aside = given.dir.path().join("aside");
    fs::rename(&segment, &aside).unwrap();
    fs::create_dir(&segment).unwrap();
    for _ in 0..3 {
        assert!(given.try_open(&given.of(3)).is_err());
        assert_eq!(given.logs(0), ["0000", "0001"]);
    }
    fs::remove_dir(&segment).unwrap();
    fs::rename(&aside, &segment).unwrap();
    let disk = given.open(&given.of(3));
    assert_eq!(given.logs(0), ["0000", "0001"]);
    let logs = disk.chains[0].logs.iter();
    assert_eq!(
        logs.map(OpenLog::is_ended).collect::<Vec<_>>(),
        [true, false]
    );
}

/// A life with another number of partitions ended the log, and was killed before it wrote down that it had. The configuration is as it was again: events go into
/// the log behind it.
#[test]
fn a_log_whose_end_was_not_written_down_is_followed_by_another_one() {
    let given = Given::new();
    let log = given.put(&given.of(1), b"one");
    let disk = given.open(&given.of(1));
    disk.chains[0].head().partition.end();
    drop(disk);
    for value in [b"two", b"six"] {
        assert_ne!(given.put(&given.of(1), value), log);
        assert_eq!(given.logs(0), ["0000", "0001"]);
    }
    let mut disk = given.open(&given.of(1));
    let ended = &disk.chains[0].logs[0];
    assert!(ended.is_ended() && ended.partition.log_id() == log);
    assert!(disk.drained(log, 1, |_| BTreeSet::from([1])).is_some());
}

#[test]
fn a_log_without_an_uplink_stays() {
    let given = Given::new();
    let log = given.put(&given.of(1), b"one");
    let mut disk = given.open(&given.of(2));
    assert!(disk.drained(log, 1, |_| BTreeSet::new()).is_none());
}

/// Whoever says it: the log that takes events stays.
#[test]
fn a_log_that_takes_events_stays() {
    let given = Given::new();
    let log = given.put(&given.of(1), b"one");
    let mut disk = given.open(&given.of(1));
    assert!(disk.drained(log, 1, |_| BTreeSet::from([1])).is_none());
}

/// A hub holds another history of it: what only stands here can still be salvaged.
#[test]
fn a_log_that_diverged_stays() {
    let given = Given::new();
    let log = given.put(&given.of(1), b"one");
    let mut disk = given.open(&given.of(1));
    disk.renew(log).unwrap();
    drop(disk);
    let mut disk = given.open(&given.of(1));
    assert!(disk.drained(log, 1, |_| BTreeSet::from([1])).is_none());
    assert_eq!(given.logs(0), ["0000", "0001"]);
}

/// A hub holds another history of it: what the hub had not acknowledged counts as lost in the log behind it, once. That one turns out to be another one, too.
#[tokio::test]
async fn what_only_a_log_that_diverged_has_is_counted_once() {
    let given = Given::new();
    let agent = given.of(1);
    for value in [b"one", b"two", b"six"] {
        given.put(&agent, value);
    }
    let mut disk = given.open(&agent);
    let first = &disk.chains[0].head().partition;
    first.set_cursor(1, Offset::new(1));
    disk.renew(disk.chains[0].head().partition.log_id())
        .unwrap();
    disk.close();
    drop(disk);
    // Killed before it was written down that it is told; started again; and with that written down.
    let told = [
        given.tell(&agent).await,
        given.tell(&agent).await,
        given.tell(&agent).await,
    ];
    assert_eq!(told, [1, 0, 0]);
    let disk = given.open(&agent);
    let heir = disk.chains[0].head().partition.clone();
    assert_eq!(losses(&heir), [(2, Cause::NewLog)]);
    drop(disk);
    given.put(&agent, b"ten");
    let mut disk = given.open(&agent);
    disk.renew(heir.log_id()).unwrap();
    drop(disk);
    assert_eq!(given.tell(&agent).await, 1);
    let disk = given.open(&agent);
    let last = &disk.chains[0].head().partition;
    assert_eq!(losses(last), [(3, Cause::NewLog)]);
}

/// A hub holds another history of a log whose partition takes no events any more. What only that has counts as lost in a log behind it, which ends with that, and
/// once; a log in which there is nothing to count is followed by none.
#[tokio::test]
async fn what_only_a_log_that_diverged_has_is_counted_where_nothing_follows_it() {
    for had in [1, 3] {
        let given = Given::new();
        let agent = given.of(1);
        let [_, _, log] = [b"one", b"two", b"six"].map(|value| given.put(&agent, value));
        let disk = given.open(&agent);
        let first = &telemetry(&disk).head().partition;
        first.set_cursor(1, Offset::new(had));
        disk.close();
        drop(disk);
        let other = given.without_and_carried();
        let mut disk = given.open(&other);
        disk.renew(log).unwrap();
        disk.close();
        drop(disk);
        // Killed before it told anything: the log that was made for that is there, and empty.
        drop(given.open(&other));
        let lost = 3 - had;
        assert_eq!(given.tell(&other).await, 1);
        let mut disk = given.open(&other);
        assert!(disk.untold().is_empty());
        let logs = &telemetry(&disk).logs;
        assert!(logs.iter().all(OpenLog::is_ended));
        let told = logs[1..].iter().map(|log| losses(&log.partition));
        let told: Vec<_> = told.collect();
        match lost {
            0 => assert_eq!(told, [[]; 0]),
            _ => assert_eq!(told, [[(lost, Cause::NewLog)]]),
        }
        drop(disk);
        assert_eq!(given.tell(&other).await, 0);
        let mut disk = given.open(&other);
        let chain = telemetry(&disk);
        assert_eq!(chain.logs.len(), 1 + usize::from(lost > 0));
        if lost == 0 {
            continue;
        }
        // Told at the hub, it goes; what it said stays known.
        let teller = chain.head().partition.log_id();
        let drained = disk.drained(teller, 1, |_| BTreeSet::from([1])).unwrap();
        drained.remove().unwrap().finish().unwrap();
        drop(disk);
        assert_eq!(given.tell(&other).await, 0);
        assert_eq!(telemetry(&given.open(&other)).logs.len(), 1);
    }
}

/// Devices say what they like: the sum of what two of them say they have lost is as large as it can be, and ends nobody.
#[tokio::test]
async fn sums_of_what_devices_say_they_have_lost_do_not_run_over() {
    let given = Given::new();
    let agent = given.of(1);
    let log = given.put(&agent, b"one");
    let disk = given.open(&agent);
    let mut producer = disk.chains[0].head().partition.producer();
    let said = Notice {
        time: None,
        key: None,
        cause: Cause::Device,
        from: Offset::ZERO,
        to: Offset::new(u64::MAX),
        lost: u64::MAX,
        when: Micros::UNKNOWN,
    };
    for _ in 0..2 {
        let mut batch = Batch::new();
        batch.push(|unit| unit.notice(None, &said), b"");
        producer.stage(&batch).unwrap();
    }
    disk.close();
    drop((producer, disk));
    let mut disk = given.open(&agent);
    disk.renew(log).unwrap();
    drop(disk);
    assert_eq!(given.tell(&agent).await, 1);
    let disk = given.open(&agent);
    let told = losses(&disk.chains[0].head().partition);
    assert_eq!(told, [(u64::MAX, Cause::NewLog)]);
}

/// A log that was set aside is of a stream that no uplink carries, or cannot be asked now: no start makes another log for that.
#[tokio::test]
async fn what_cannot_be_told_makes_no_more_logs_each_time() {
    let given = Given::new();
    let log = given.put(&given.of(1), b"one");
    let other = given.without_and_carried();
    let mut disk = given.open(&other);
    disk.renew(log).unwrap();
    drop(disk);
    let nowhere = given.without();
    let nobody = || telemetry(&given.open(&nowhere)).logs.len();
    assert_eq!([nobody(), nobody()], [1, 1]);
    let places = || {
        let mut disk = given.open(&other);
        assert_eq!(disk.untold().len(), 1);
        disk.have_told(&[]);
        telemetry(&disk).logs.len()
    };
    assert_eq!([places(), places(), places()], [2, 2, 2]);
    assert_eq!(given.tell(&other).await, 1);
    assert!(telemetry(&given.open(&other)).head().is_ended());
}

/// A device's records went into logs that are all removed. It goes on where it stood, and no place in the chain is given twice.
#[test]
fn devices_and_places_survive_the_logs_that_are_removed() {
    let given = Given::new();
    for (life, partitions) in [1, 2, 1, 2].into_iter().enumerate() {
        let log = given.put_from_device(&given.of(partitions), 70 + life as u64);
        let mut disk = given.open(&given.of(3 - partitions));
        let chain = disk
            .chains
            .iter()
            .find(|chain| chain.partition == 0)
            .unwrap();
        assert_eq!(usize::from(chain.head().place), life + 1);
        let drained = disk.drained(log, 1, |_| BTreeSet::from([1])).unwrap();
        drained.remove().unwrap().finish().unwrap();
        drop(disk);
        let disk = given.open(&given.of(3 - partitions));
        drop(disk.lanes());
        let head = disk
            .chains
            .iter()
            .find(|chain| chain.partition == 0)
            .unwrap()
            .head();
        assert_eq!(
            head.claims.device(&DEVICE).map(|it| it.next),
            Some(70 + life as u64)
        );
        assert_eq!(given.logs(0).len(), 1);
    }
}

/// Fewer partitions, or another stream for its port, and with them another log for what a device sends. It goes on where it stood, be the log of before still
/// there or not: else it would give again what it still holds.
#[test]
fn a_device_goes_on_in_another_partition_and_in_another_stream() {
    let given = Given::new();
    let stood = |agent: &checked::Agent, stream: &str| {
        let lanes = given.open(agent).lanes();
        let device = lanes[stream][0].claims().device(&DEVICE);
        device.map(|it| (it.next, it.crc_below))
    };
    let item = Stood {
        log: DEVICE,
        next: 70,
        crc_below: Some(5),
    };
    let log = given.put_in(1, &given.of(2), item.encode(&mut [0; ITEM_BYTES_MAX]));
    let known = Some((70, Some(5)));
    assert_eq!(stood(&given.of(1), "telemetry"), known);
    assert_eq!(stood(&given.of(1), "dead-letter"), known);
    let mut disk = given.open(&given.of(1));
    let drained = disk.drained(log, 1, |_| BTreeSet::from([1])).unwrap();
    drained.remove().unwrap().finish().unwrap();
    drop(disk);
    assert!(given.logs(1).is_empty());
    assert_eq!(stood(&given.of(1), "telemetry"), known);
    assert_eq!(stood(&given.without(), "other"), known);
}

/// The stream is taken out of the configuration, drained, and comes back.
#[test]
fn a_removed_stream_leaves_no_log_and_comes_back_in_its_chain() {
    let given = Given::new();
    let log = given.put_from_device(&given.of(1), 70);
    let mut disk = given.open(&given.without());
    assert!(!disk.lanes().contains_key("telemetry"));
    let drained = disk.drained(log, 1, |_| BTreeSet::from([1])).unwrap();
    drained.remove().unwrap().finish().unwrap();
    assert!(disk.chains.iter().all(|chain| chain.stream != "telemetry"));
    drop(disk);
    assert!(given.logs(0).is_empty());
    drop(given.open(&given.without()));
    let disk = given.open(&given.of(1));
    let lanes = disk.lanes();
    assert_eq!(lanes["telemetry"].len(), 1);
    let head = disk.chains[0].head();
    assert_eq!(
        (head.place, head.claims.device(&DEVICE).map(|it| it.next)),
        (1, Some(70))
    );
}

/// It had ended, and a hub was told where before it turned out that the hub has another history of it: what follows stands behind that place for good, so the hub
/// is not left waiting. One that was still open is superseded where it is.
#[test]
fn what_had_ended_is_offered_on_as_its_end_when_a_hub_has_it_otherwise() {
    for is_ended in [false, true] {
        let given = Given::new();
        let log = given.put(&given.of(1), b"one");
        let agent = match is_ended {
            true => given.without(),
            false => given.of(1),
        };
        let offered = || {
            let disk = given.open(&agent);
            let logs = disk.chains.iter().flat_map(|chain| &chain.logs);
            let of_it = logs.filter(|open| open.partition.log_id() == log);
            let handles: Vec<_> = of_it.filter_map(OpenLog::handle).collect();
            disk.close();
            handles
        };
        assert!(matches!(offered()[..], [Handle::Log(_)]));
        given.open(&agent).renew(log).unwrap();
        let left = offered();
        let Some(Handle::Removed { log: id, end, told }) = left.first() else {
            assert!(left.is_empty() && !is_ended);
            continue;
        };
        assert_eq!((*id, *told, is_ended), (log, true, true));
        assert!(*end >= Offset::new(1));
    }
}

/// Nobody knows what it was, so nobody may delete it.
#[test]
fn what_was_set_aside_in_a_drained_log_is_kept() {
    let given = Given::new();
    let log = given.put(&given.of(1), b"one");
    fs::write(
        given.dir.path().join("streams/0000/0000/0000/notes.txt"),
        "mine",
    )
    .unwrap();
    let mut disk = given.open(&given.of(2));
    let drained = disk.drained(log, 1, |_| BTreeSet::from([1])).unwrap();
    drained.remove().unwrap().finish().unwrap();
    let aside = fs::read_dir(given.dir.path().join("set-aside")).unwrap();
    let kept: Vec<_> = aside
        .map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert_eq!(kept, [b"mine"]);
}

/// A log that is full and may not evict is to end, and the size of records was changed as well: nothing is evicted for it.
#[test]
fn a_full_log_of_a_removed_stream_keeps_all_it_holds() {
    let given = Given::new();
    let refusing = given.of_with(1, "when_full = \"refuse\"", "");
    let disk = given.open(&refusing);
    let partition = disk.chains[0].head().partition.clone();
    partition.set_cursor(1, Offset::ZERO);
    let mut producer = partition.producer();
    let mut batch = Batch::new();
    batch.push(|unit| unit.record(None, None, &[], &[b'x'; 10_000]), b"");
    while !partition.stats().full {
        if producer.stage(&batch).is_err() {
            std::thread::yield_now();
        }
    }
    let next = partition.next();
    drop((producer, partition, disk));
    for _ in 0..2 {
        let disk = given.open(&given.with_record_max("64KiB", given.without_text()));
        let log = &disk
            .chains
            .iter()
            .find(|chain| chain.stream == "telemetry")
            .unwrap()
            .logs[0];
        assert!(log.partition.oldest() == Offset::ZERO && log.partition.next() >= next);
        assert_eq!(log.partition.ledger().evicted, 0);
        assert!(log.is_ended() && !log.partition.stats().failed);
    }
}

/// A directory, and configurations of a gateway in it.
struct Given {
    dir: tempfile::TempDir,
}

impl Given {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    /// With so many partitions.
    fn of(&self, partitions: u16) -> checked::Agent {
        self.of_with(partitions, "", "")
    }

    fn of_with(&self, partitions: u16, stream: &str, gateway: &str) -> checked::Agent {
        let streams = format!(
            "[[stream]]\nname = \"telemetry\"\npartitions = {partitions}\ncapacity = \"4MiB\"\n{stream}\n{}",
            self.without_text()
        );
        self.parse(gateway, &streams)
    }

    /// Without the stream, and with an uplink that carries whatever there is.
    fn without_and_carried(&self) -> checked::Agent {
        let uplink = "[[uplink]]\nname = \"hq\"\nurl = \"sedge://127.0.0.1:7443\"\n";
        self.parse("", &format!("{}{uplink}", self.without_text()))
    }

    /// Without the stream.
    fn without(&self) -> checked::Agent {
        self.parse("", &self.without_text())
    }

    fn without_text(&self) -> String {
        "[[stream]]\nname = \"other\"\ncapacity = \"4MiB\"\n".into()
    }

    fn with_record_max(&self, record_max: &str, streams: String) -> checked::Agent {
        self.parse(&format!("record_max = \"{record_max}\"\n"), &streams)
    }

    fn parse(&self, gateway: &str, streams: &str) -> checked::Agent {
        let text = format!(
            "[gateway]\nid = \"gw-1\"\ndata_dir = \"{}\"\n{gateway}{streams}",
            self.dir.path().display()
        );
        sedge_config::agent::parse(&text, "agent.toml".as_ref(), None).expect("a configuration")
    }

    fn open(&self, agent: &checked::Agent) -> Disk {
        self.try_open(agent).unwrap()
    }

    fn try_open(&self, agent: &checked::Agent) -> Result<Disk, DiskError> {
        let on_fatal: OnFatal = Arc::new(|what| panic!("{what}"));
        let outfit = Outfit {
            when_too_large: WhenTooLarge::Keep,
            time: None,
            write_budget: None,
            on_fatal,
        };
        Disk::open(agent, &outfit)
    }

    /// Begins a life that tells of logs that diverged. Says of how many.
    async fn tell(&self, agent: &checked::Agent) -> usize {
        let mut disk = self.open(agent);
        let untold = disk.untold().into_iter().map(|(_, log, heir)| Untold {
            log,
            heir,
            uplinks: BTreeSet::from([1]),
        });
        let untold: Vec<_> = untold.collect();
        let count = untold.len();
        match diverged::tell_all(untold, Arc::new(system_clock())).await {
            Ok(told) => disk.have_told(&told),
            Err(_) => panic!("it takes no second"),
        }
        disk.close();
        count
    }

    /// Puts a record into the log of partition 0 that takes events, and says which log that was.
    fn put(&self, agent: &checked::Agent, value: &[u8]) -> LogId {
        self.put_with(agent, value, b"")
    }

    fn put_from_device(&self, agent: &checked::Agent, next: u64) -> LogId {
        let mut bytes = [0; ITEM_BYTES_MAX];
        let item = Item::DeviceCursor { log: DEVICE, next };
        self.put_with(agent, b"from a device", item.encode(&mut bytes))
    }

    fn put_with(&self, agent: &checked::Agent, value: &[u8], item: &[u8]) -> LogId {
        self.put_into(0, agent, value, item)
    }

    fn put_in(&self, partition: u16, agent: &checked::Agent, item: &[u8]) -> LogId {
        self.put_into(partition, agent, b"from a device", item)
    }

    fn put_into(&self, partition: u16, agent: &checked::Agent, value: &[u8], item: &[u8]) -> LogId {
        let disk = self.open(agent);
        let chain = disk
            .chains
            .iter()
            .find(|chain| chain.partition == partition && chain.stream == "telemetry");
        let partition = chain.unwrap().head().partition.clone();
        let mut batch = Batch::new();
        batch.push(|unit| unit.record(None, None, &[], value), item);
        partition.producer().stage(&batch).unwrap();
        disk.close();
        partition.log_id()
    }

    /// The log directories of a partition of the stream.
    fn logs(&self, partition: u16) -> Vec<String> {
        let dir = self.dir.path().join(format!("streams/0000/{partition:04}"));
        let names = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.retain(|name| name.parse::<u32>().is_ok());
        names.sort();
        names
    }
}

/// Its only partition.
fn telemetry(disk: &Disk) -> &Chain {
    let mut chains = disk.chains.iter();
    let is_it = |chain: &&Chain| chain.stream == "telemetry";
    chains.find(is_it).expect("it has logs")
}

/// What the notices in `log` tell.
fn losses(log: &Partition) -> Vec<(u64, Cause)> {
    let frames = log.read(Offset::ZERO, 1 << 20).unwrap().frames;
    let (mut at, mut losses) = (0, Vec::new());
    while let Ok((frame, len)) = Frame::parse(&frames[at..], &log.log_id(), None) {
        losses.extend(frame.entries().filter_map(|(_, entry)| match entry {
            Entry::Notice(notice) => Some((notice.lost, notice.cause)),
            Entry::Record(_) => None,
        }));
        at += len;
    }
    losses
}

fn both(stream: &str) -> BTreeSet<u32> {
    assert_eq!(stream, "telemetry");
    BTreeSet::from([1, 2])
}

const DEVICE: [u8; 16] = [0xD; 16];

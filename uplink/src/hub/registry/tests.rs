//! Which logs are in which partition, and what a gateway is told.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sedge_core::entry::{Entry, Headers, Record};
use sedge_core::frame::{Form, Frame, Label, emit_data};

use super::super::options::StreamOptions;
use super::*;

/// The disk fails once, where the end of the first log is to be written down; the log behind it comes in the same breath.
#[test]
fn a_log_joins_only_behind_one_that_was_taken() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(&HubOptions::new(dir.path())).unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let gateway = Name::new("gw-7").unwrap();
    let admit = |offer: &Offer, untaken: &[Named]| {
        let admitted = registry.admit(&catalog, &gateway, offer, untaken);
        admitted.map(|admitted| admitted.member.link())
    };
    let open = offer(0xA, 0, false);
    assert_eq!(registry.disk_bytes(), 0);
    admit(&open, &[named(&open)]).unwrap();
    assert!(
        registry.disk_bytes() > 1_000_000,
        "a mirror has its segment"
    );
    let closed = Offer {
        next: Offset::new(50),
        closed: true,
        ..open.clone()
    };
    let behind = Offer {
        log: LogId::new([0xB; 16]),
        ..open.clone()
    };
    let named = [named(&closed), named(&behind)];
    // A directory where the new identity file would be made.
    let in_the_way = dir.path().join("mirrors/0000/.new-identity.toml");
    std::fs::create_dir(&in_the_way).unwrap();
    assert_eq!(admit(&closed, &named), Err(Refusal::INTERNAL));
    std::fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(admit(&behind, &named), Err(Refusal::INTERNAL));
    assert_eq!(admit(&closed, &named).map(|l| l.end), Ok(Some(50)));
    assert_eq!(admit(&behind, &named[1..]).map(|l| l.shift), Ok(50));
}

/// The same where the first log is new as well: no directory can be made for it, and a moment later one can.
#[test]
fn a_log_joins_only_behind_those_that_were_named_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(&HubOptions::new(dir.path())).unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let gateway = Name::new("gw-7").unwrap();
    let offer = |log, closed, partition| Offer {
        log: LogId::new([log; 16]),
        stream: "telemetry".into(),
        partition,
        oldest: Offset::ZERO,
        next: Offset::new(50),
        tail_crc: None,
        closed,
    };
    let offers = [
        offer(0xA, true, 0),
        offer(0xB, false, 0),
        offer(0xC, false, 1),
    ];
    let admit = |at: usize, untaken: &[Named]| {
        let admitted = registry.admit(&catalog, &gateway, &offers[at], untaken);
        admitted.map(|admitted| admitted.member.link().shift)
    };
    let all = offers.each_ref().map(named);
    let in_the_way = dir.path().join("mirrors/.new-0000");
    std::fs::write(&in_the_way, "").unwrap();
    assert_eq!(admit(0, &all), Err(Refusal::INTERNAL));
    std::fs::remove_file(&in_the_way).unwrap();
    assert_eq!(admit(1, &all), Err(Refusal::INTERNAL));
    assert_eq!(admit(2, &all), Ok(0), "that is another chain");
    assert_eq!(admit(0, &all[..2]), Ok(0));
    assert_eq!(admit(1, &all[1..2]), Ok(50));
}

/// What stands where a mirror was is another log. The disk that its files take counts once, however often it is tried, and whatever else is looked for.
#[test]
fn a_mirror_that_cannot_be_opened_takes_no_more_than_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let gateway = Name::new("gw-7").unwrap();
    let other = Offer {
        stream: "other".into(),
        ..offer(0xB, 0, false)
    };
    let one = offer(0xA, 0, false);
    let open = || Registry::open(&HubOptions::new(dir.path())).unwrap();
    let registry = open();
    registry.admit(&catalog, &gateway, &one, &[]).unwrap();
    registry.admit(&catalog, &gateway, &other, &[]).unwrap();
    let both = registry.disk_bytes();
    drop(registry);
    let log_of = |number: u8| dir.path().join(format!("mirrors/000{number}/log"));
    std::fs::remove_dir_all(log_of(0)).unwrap();
    copy_files(&log_of(1), &log_of(0));
    let registry = open();
    for _ in 0..5 {
        assert_eq!(registry.disk_bytes(), both);
        let admitted = registry.admit(&catalog, &gateway, &one, &[]);
        assert_eq!(admitted.map(drop), Err(Refusal::INTERNAL));
        registry.admit(&catalog, &gateway, &other, &[]).unwrap();
    }
}

fn copy_files(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

fn named(offer: &Offer) -> Named {
    Named {
        log: offer.log,
        stream: offer.stream.clone(),
        partition: offer.partition,
    }
}

/// A gateway's disk is put back to a time before its log had ended, and the hub has not had all of it: what there was then and is not there now is
/// lost and counted, the rest comes behind it.
#[test]
fn a_log_that_had_ended_and_is_open_again_goes_on_behind_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(&HubOptions::new(dir.path())).unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let gateway = Name::new("gw-7").unwrap();
    let admit = |next: u64, closed| {
        let offer = offer(0xA, next, closed);
        let admitted = registry.admit(&catalog, &gateway, &offer, &[]).unwrap();
        (admitted.member.link(), admitted.partition)
    };
    let (link, _) = admit(50, true);
    assert_eq!((link.epoch, link.end), (0, Some(50)));
    let (link, partition) = admit(20, false);
    assert_eq!(
        (link.epoch, link.shift, link.start, link.end),
        (1, 50, 0, None)
    );
    let given_up = partition.members()[0].link();
    assert_eq!(given_up.next, 50);
    let (link, _) = admit(25, false);
    assert_eq!(link.epoch, 1, "it goes on there");
}

/// Two gateways of one name, or one whose disk was put back: the log was said to be longer, and another one has joined behind that.
#[test]
fn a_log_that_ends_before_its_announced_end_leaves_no_hole() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(&HubOptions::new(dir.path())).unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let gateway = Name::new("gw-7").unwrap();
    let admit = |offer: &Offer| registry.admit(&catalog, &gateway, offer, &[]).unwrap();
    let (longer, behind) = (offer(0xA, 50, true), offer(0xB, 0, false));
    let (first, _) = (admit(&longer), admit(&behind));
    let (frame, crc) = frame_of(&longer.log, 30);
    first.member.mirror.append(&frame).unwrap();
    let end = Offset::new(30);
    registry.complete(&first.member, end).unwrap();
    let runs = chain::runs(&first.partition.links());
    assert_eq!((runs.len(), runs[0].end), (1, 50), "{runs:?}");
    let gap = first.member.mirror.read(end, 1_000).unwrap().frames;
    let gap = Frame::parse(&gap, &longer.log, None)
        .unwrap()
        .0
        .gap()
        .unwrap();
    assert_eq!((gap.to.get(), gap.lost, gap.cause), (50, 20, Cause::NewLog));
    // The Ack did not arrive, and the log is offered again.
    let again = |oldest: Offset, tail_crc| {
        let offer = Offer {
            oldest,
            next: end,
            tail_crc,
            ..longer.clone()
        };
        admit(&offer).verdict
    };
    let resume = |next, crc_below| Verdict::Resume { next, crc_below };
    assert_eq!(again(Offset::ZERO, Some(crc)), resume(end, Some(crc)));
    let other = again(Offset::ZERO, Some(crc ^ 1));
    assert_eq!(other, resume(Offset::new(50), None), "another history");
    assert_eq!(again(end, None), resume(end, None), "what is left of it");
}

/// A chain of three logs with 5, 3 and 4 events. The mirror of the second cannot be opened: what it has is there tomorrow, and who reads waits for it. Once nobody can
/// say any more what it is, it is lost.
#[test]
fn a_mirror_that_waits_to_be_opened_is_no_gap() {
    let dir = tempfile::tempdir().unwrap();
    let start = || Registry::open(&HubOptions::new(dir.path())).unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let gateway = Name::new("gw-7").unwrap();
    let offers = [
        offer(0xA, 5, true),
        offer(0xB, 3, true),
        offer(0xC, 4, false),
    ];
    let registry = start();
    for (offer, count) in offers.iter().zip([5, 3, 4]) {
        let admitted = registry.admit(&catalog, &gateway, offer, &[]).unwrap();
        let mirror = &admitted.member.mirror;
        mirror.append(&frame_of(&offer.log, count).0).unwrap();
    }
    drop(registry);
    // Epoch of what is read, and where its gap ends, if it is one.
    let read = |registry: &Registry, from| {
        let want = wire::Want {
            number: 0,
            from,
            epoch: None,
        };
        let partition = registry.partition("telemetry", 0).unwrap();
        let head = partition.read(&want, 1 << 20).unwrap()?.head;
        let gap = head.gaps.iter().find(|gap| gap.to > gap.from);
        Some((head.epoch, gap.map(|gap| gap.to)))
    };
    let epochs = |registry: &Registry| {
        let partition = registry.partition("telemetry", 0).unwrap();
        let links = partition.links();
        links.iter().map(|link| link.epoch).collect::<Vec<_>>()
    };
    let log = dir.path().join("mirrors/0001/log");
    let elsewhere = dir.path().join("elsewhere");
    std::fs::rename(&log, &elsewhere).unwrap();
    std::fs::write(&log, "").unwrap();
    let registry = start();
    assert_eq!(epochs(&registry), [0], "none behind it is open");
    assert_eq!(read(&registry, 4), Some((0, None)));
    assert_eq!([5, 7, 8, 12].map(|from| read(&registry, from)), [None; 4]);
    let refused = registry.admit(&catalog, &gateway, &offers[2], &[]);
    assert_eq!(refused.err(), Some(Refusal::INTERNAL));
    std::fs::remove_file(&log).unwrap();
    std::fs::rename(&elsewhere, &log).unwrap();
    registry.admit(&catalog, &gateway, &offers[2], &[]).unwrap();
    assert_eq!(epochs(&registry), [0, 1, 2]);
    assert_eq!(read(&registry, 5), Some((1, None)));
    drop(registry);
    let spoil = |name: &str| {
        let file = dir.path().join("mirrors/0001").join(name);
        std::fs::write(file, "number = ").unwrap();
    };
    spoil("identity.toml");
    let registry = start();
    assert_eq!(epochs(&registry), [0, 1, 2], "its copy says what it is");
    drop(registry);
    spoil("identity.toml");
    spoil("identity-copy.toml");
    let registry = start();
    assert_eq!(epochs(&registry), [0, 2]);
    assert_eq!(
        [5, 7].map(|from| read(&registry, from)),
        [Some((2, Some(8))); 2]
    );
    assert_eq!(read(&registry, 8), Some((2, None)));
    assert_eq!(read(&registry, 12), None);
}

/// A frame of `count` records from the first offset on, and its fingerprint.
fn frame_of(log: &LogId, count: u16) -> (Vec<u8>, u32) {
    let label = Label {
        form: Form::Explicit,
        first: Offset::ZERO,
        time: Micros::new(1),
        first_of_commit: true,
    };
    let (mut entries, mut bytes) = ([0; 16], [0; 1_024]);
    let entry = Entry::Record(Record {
        time: None,
        key: None,
        headers: Headers::default(),
        value: b"v",
    });
    let len = entry.encode(&mut entries).unwrap();
    let entries = entries[..len].repeat(count.into());
    let len = emit_data(&mut bytes, log, label, count, &[], &entries).unwrap();
    let crc = Frame::parse(&bytes[..len], log, None).unwrap().0.header.crc;
    (bytes[..len].to_vec(), crc)
}

/// It was superseded by another one and has grown meanwhile: what it has goes on in a further mirror. The gateway is asked to show that it is the
/// same history, by the frame that stands before: at first that is the last one of a mirror before, later one of its own. Once it comes back and nothing of it is
/// taken.
#[test]
fn a_log_that_comes_back_is_known_by_the_frame_before() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(&HubOptions::new(dir.path())).unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let gateway = Name::new("gw-7").unwrap();
    let admit = |log: u8, next: u64| {
        let offer = offer(log, next, false);
        registry.admit(&catalog, &gateway, &offer, &[]).unwrap()
    };
    let append = |admitted: &Admitted, offsets: std::ops::Range<u64>| {
        for first in offsets {
            let label = Label {
                form: Form::Explicit,
                first: Offset::new(first),
                time: Micros::new(1),
                first_of_commit: true,
            };
            let (mut frame, log) = ([0; 64], admitted.member.log_id());
            let len = emit_data(&mut frame, &log, label, 1, &[], &[0; 2]).unwrap();
            admitted.member.mirror.append(&frame[..len]).unwrap();
        }
    };
    let resumes = |admitted: &Admitted, holder: &Admitted, at: u64| {
        let (next, mirror) = (Offset::new(at), &holder.member.mirror);
        let crc_below = mirror.crc_below(next).unwrap();
        assert!(crc_below.is_some() || at == 0);
        assert_eq!(admitted.verdict, Verdict::Resume { next, crc_below });
    };
    let first = admit(0xA, 50);
    resumes(&first, &first, 0);
    append(&first, 0..12);
    resumes(&admit(0xA, 50), &first, 12);
    append(&admit(0xB, 0), 0..3);
    assert_eq!(first.member.link().end, Some(12));
    let in_vain = admit(0xA, 50);
    resumes(&in_vain, &first, 12);
    append(&admit(0xC, 0), 0..1);
    let further = admit(0xA, 50);
    let link = |admitted: &Admitted| {
        let link = admitted.member.link();
        (link.epoch, link.shift, link.start, link.next)
    };
    let links = [link(&in_vain), link(&further)];
    assert_eq!(links, [(2, 3, 12, 12), (4, 4, 12, 12)]);
    resumes(&further, &first, 12);
    append(&further, 12..14);
    resumes(&admit(0xA, 50), &further, 14);
    let partition = &further.partition;
    assert_eq!((partition.describe().end, partition.earliest()), (18, 0));
    let from = |from| {
        let want = wire::Want {
            number: 0,
            from,
            epoch: None,
        };
        let head = partition.read(&want, 1 << 20).unwrap().unwrap().head;
        (head.epoch, head.next, head.gaps.len())
    };
    assert_eq!(
        [0, 12, 14, 15, 16, 17].map(from),
        [
            (0, 12, 0),
            (1, 15, 1),
            (1, 15, 0),
            (3, 16, 1),
            (4, 18, 1),
            (4, 18, 0)
        ]
    );
}

/// What the catalog remembers of partitions whose mirrors are gone: they have their numbers for ever, and nobody else gets them.
#[test]
fn a_partition_that_was_known_has_its_number_again() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(&HubOptions::new(dir.path())).unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let known = |number, gateway: &str, partition| KnownPartition {
        stream: "telemetry".into(),
        number,
        gateway: gateway.into(),
        partition,
    };
    let before = [
        known(2, "gw-7", 0),
        known(4, "gw-7", 1),
        known(5, "gw-8", 0),
    ];
    catalog.note(&before).unwrap();
    registry.reconcile(&catalog).unwrap();
    let number = |gateway: &str, stream: &str, partition| {
        let offer = Offer {
            log: LogId::new([partition as u8 + 1; 16]),
            stream: stream.into(),
            partition,
            next: Offset::ZERO,
            closed: false,
            oldest: Offset::ZERO,
            tail_crc: None,
        };
        let gateway = Name::new(gateway).unwrap();
        let admitted = registry.admit(&catalog, &gateway, &offer, &[]);
        admitted.unwrap().partition.number
    };
    let numbers = [
        number("gw-7", "telemetry", 1),
        number("gw-7", "telemetry", 2),
        number("gw-8", "telemetry", 0),
        number("gw-8", "telemetry", 1),
        number("gw-7", "telemetry", 0),
        number("gw-7", "alarms", 0),
        number("gw-7", "alarms", 1),
        number("gw-7", "telemetry", 2),
    ];
    assert_eq!(numbers, [4, 6, 5, 7, 2, 0, 1, 6]);
    assert_eq!(catalog.partitions().unwrap().len(), 7);
    let of = |stream| registry.partitions(stream).len();
    assert_eq!((of(None), of(Some("alarms")), of(Some("none"))), (7, 2, 0));
}

/// Two streams, one of which keeps its records for an hour; four of the frames fill a segment.
#[test]
fn what_is_older_than_its_streams_retention_goes() {
    let (dir, hour) = (tempfile::tempdir().unwrap(), 3_600_000_000_i64);
    let now = Arc::new(AtomicI64::new(1_000 * hour));
    let clock: sedge_store::Clock = {
        let now = Arc::clone(&now);
        Arc::new(move || Micros::new(now.load(Ordering::Relaxed)))
    };
    let stream = |name: &str, retention| StreamOptions {
        name: name.into(),
        capacity: 64 << 20,
        retention,
        ..StreamOptions::default()
    };
    let options = HubOptions {
        streams: vec![
            stream("kept", None),
            stream("*", Some(Duration::from_secs(3_600))),
        ],
        clock: clock.into(),
        ..HubOptions::new(dir.path())
    };
    let registry = Registry::open(&options).unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let partitions = ["kept", "telemetry"].map(|stream| {
        let offer = Offer {
            log: LogId::new([7; 16]),
            stream: stream.into(),
            partition: 0,
            next: Offset::ZERO,
            closed: false,
            oldest: Offset::ZERO,
            tail_crc: None,
        };
        let gateway = Name::new("gw-7").unwrap();
        let admitted = registry.admit(&catalog, &gateway, &offer, &[]).unwrap();
        for first in 0..10 {
            let label = Label {
                form: Form::Explicit,
                first: Offset::new(first),
                time: Micros::new(1),
                first_of_commit: true,
            };
            let mut frame = vec![0; 1_010 << 10];
            let entries = vec![0; 1_000 << 10];
            let len = emit_data(&mut frame, &offer.log, label, 1, &[], &entries).unwrap();
            admitted.member.mirror.append(&frame[..len]).unwrap();
        }
        admitted.partition
    });
    let earliest = || partitions.each_ref().map(|p| p.earliest());
    now.fetch_add(hour - 1, Ordering::Relaxed);
    registry.expire().unwrap();
    assert_eq!(earliest(), [0, 0]);
    now.fetch_add(2, Ordering::Relaxed);
    registry.expire().unwrap();
    let [kept, gone] = earliest();
    assert_eq!((kept, gone), (0, 8));
}

/// What a mirror takes at first is what there has to be room for, to the byte.
#[test]
fn a_log_joins_as_long_as_there_is_room_for_its_beginning() {
    for (room, verdict) in [
        (LOG_BYTES_MIN, None),
        (LOG_BYTES_MIN - 1, Some(Refusal::DISK_FULL)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let options = HubOptions {
            disk_max: room,
            ..HubOptions::new(dir.path())
        };
        let registry = Registry::open(&options).unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let offer = Offer {
            log: LogId::new([0xA; 16]),
            stream: "telemetry".into(),
            partition: 0,
            oldest: Offset::ZERO,
            next: Offset::ZERO,
            tail_crc: None,
            closed: false,
        };
        let gateway = Name::new("gw-7").unwrap();
        let admitted = registry.admit(&catalog, &gateway, &offer, &[]);
        assert_eq!(admitted.err(), verdict, "{room}");
    }
}

fn offer(log: u8, next: u64, closed: bool) -> Offer {
    Offer {
        log: LogId::new([log; 16]),
        stream: "telemetry".into(),
        partition: 0,
        oldest: Offset::ZERO,
        next: Offset::new(next),
        tail_crc: None,
        closed,
    }
}

//! Stories about a mirror: the same bytes at the same offsets, nothing twice, nothing burned.

mod fixture;

use fixture::{Given, payloads, read_all};
use sedge_core::{Cause, Gap, LogId, Micros, Offset};
use sedge_store::{AppendError, Budget, Mirror, MirrorOptions, OpenError, Partition};

#[test]
fn a_mirror_shows_what_the_origin_shows_byte_for_byte() {
    let given = Given::default();
    let origin = given.open();
    for value in ["one", "two", "three"] {
        fixture::put(&origin, &[value]);
    }
    let mirror = open(&given, origin.log_id());
    copy(&origin, &mirror);
    assert_eq!(mirror.next(), origin.next());
    assert_eq!(
        mirror.read(Offset::ZERO, 1 << 20).unwrap(),
        origin.read(Offset::ZERO, 1 << 20).unwrap()
    );
    assert_eq!(
        mirror.crc_below(mirror.next()).unwrap(),
        origin.crc_below(origin.next()).unwrap()
    );
}

/// A gateway was killed, and all that it sent since is that offsets are burned. A copy of its disk that wrote records there has another history, and is found out;
/// what was lost there says nothing of the kind, for it may be there again.
#[test]
fn where_burned_offsets_end_there_is_something_to_compare() {
    for (cause, says) in [
        (Cause::Burned, true),
        (Cause::Evicted, false),
        (Cause::Corrupt, false),
    ] {
        let given = Given::default();
        let origin = given.open();
        fixture::put(&origin, &["one"]);
        let mirror = open(&given, origin.log_id());
        copy(&origin, &mirror);
        let gap = Gap {
            from: Offset::new(1),
            to: Offset::new(9),
            lost: 0,
            cause,
            when: Micros::new(1),
            when_last: Micros::new(1),
        };
        mirror.append_gap(&gap).unwrap();
        assert_eq!(mirror.next(), Offset::new(9));
        let crc = mirror.crc_below(Offset::new(9)).unwrap();
        assert_eq!(crc.is_some(), says, "{cause:?}");
    }
}

#[test]
fn a_mirror_goes_on_after_a_kill_without_burning() {
    let given = Given::default();
    let origin = given.open();
    fixture::put(&origin, &["one"]);
    copy(&origin, &open(&given, origin.log_id()));
    fixture::put(&origin, &["two"]);
    let mirror = open(&given, origin.log_id());
    assert_eq!(mirror.next(), Offset::new(1));
    copy(&origin, &mirror);
    assert_eq!(mirror.next(), Offset::new(2));
    assert_eq!(mirror.ledger().skipped, 0);
}

#[test]
fn frames_out_of_place_are_refused_and_nothing_is_taken() {
    let given = Given::default();
    let origin = given.open();
    fixture::put(&origin, &["one"]);
    fixture::put(&origin, &["two"]);
    let mirror = open(&given, origin.log_id());
    let second = origin.read(Offset::new(1), 1).unwrap();
    let refused = mirror.append(&second.frames);
    assert!(
        matches!(
            refused,
            Err(AppendError::OutOfPlace {
                expected: Offset::ZERO,
                ..
            })
        ),
        "{refused:?}"
    );
    let mut damaged = origin.read(Offset::ZERO, 1).unwrap().frames.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(
        mirror.append(&damaged),
        Err(AppendError::Corrupt { .. })
    ));
    assert_eq!(mirror.next(), Offset::ZERO);
}

/// What stands before a frame that the mirror's segments are too small for is taken, and with the capacity that is named for it a mirror takes all.
#[test]
fn a_frame_that_is_too_large_is_refused_and_what_stands_before_it_is_taken() {
    let mut given = Given::default();
    given.options.record_bytes_max = 512 << 10;
    given.options.capacity_bytes = 16 << 20;
    let origin = given.open();
    fixture::put(&origin, &["one"]);
    fixture::put(&origin, &["x".repeat(400 << 10).as_str()]);
    let both = origin.read(Offset::ZERO, 1 << 20).unwrap().frames;
    let mirror = open(&given, origin.log_id());
    let refused = mirror.append(&both);
    let Err(AppendError::TooLarge { bytes, bytes_max }) = refused else {
        panic!("{refused:?}");
    };
    assert!(bytes > 400 << 10 && bytes_max < bytes);
    assert_eq!(mirror.next(), Offset::new(1));
    let of_capacity = |name: &str, capacity_bytes| {
        let options = MirrorOptions {
            capacity_bytes,
            ..MirrorOptions::default()
        };
        let dir = given.dir.path().join(name);
        Mirror::open(dir, origin.log_id(), options, fixture::ticking())
            .unwrap()
            .0
    };
    let named = MirrorOptions::capacity_for(bytes);
    let just = of_capacity("just", named);
    assert_eq!(just.append(&both).unwrap(), origin.next());
    let less = of_capacity("less", named - 1);
    assert!(matches!(
        less.append(&both),
        Err(AppendError::TooLarge { .. })
    ));
}

#[test]
fn a_gap_that_was_told_stays_in_its_place() {
    let given = Given::default();
    let origin = given.open();
    let mirror = open(&given, origin.log_id());
    let gap = Gap {
        from: Offset::ZERO,
        to: Offset::new(40),
        lost: 33,
        cause: Cause::Evicted,
        when: Micros::new(5),
        when_last: Micros::new(6),
    };
    assert_eq!(mirror.append_gap(&gap).unwrap(), gap.to);
    drop(mirror);
    let mirror = open(&given, origin.log_id());
    let shown = shown(&mirror);
    assert_eq!(fixture::gaps(&shown), [gap]);
    assert_eq!(mirror.next(), gap.to);
}

#[test]
fn an_ended_mirror_takes_nothing_more() {
    let given = Given::default();
    let origin = given.open();
    fixture::put(&origin, &["one"]);
    let mirror = open(&given, origin.log_id());
    copy(&origin, &mirror);
    mirror.end().unwrap();
    mirror.end().unwrap();
    drop(mirror);
    let mirror = open(&given, origin.log_id());
    assert!(mirror.is_ended());
    assert!(matches!(mirror.append(&[]), Err(AppendError::Ended)));
    assert_eq!(payloads(&shown(&mirror)), ["one"]);
}

#[test]
fn another_log_in_the_directory_is_not_overwritten() {
    let given = Given::default();
    let mirror = open(&given, LogId::new([1; 16]));
    drop(mirror);
    let other = Mirror::open(
        given.dir.path().join("mirror"),
        LogId::new([2; 16]),
        options(),
        fixture::ticking(),
    );
    assert!(
        matches!(other, Err(OpenError::OtherLog { .. })),
        "{other:?}"
    );
    open(&given, LogId::new([1; 16]));
}

/// What is looked for is another log than the one that is there, again and again: each attempt gives back what it counted. Who holds the files without
/// opening them counts them once.
#[test]
fn a_mirror_that_does_not_open_takes_nothing_from_the_others() {
    let given = Given::default();
    let budget = Budget::new(64 << 20);
    let open_as = |log: u8| {
        let options = MirrorOptions {
            budget: budget.clone(),
            ..options()
        };
        let dir = given.dir.path().join("mirror");
        Mirror::open(dir, LogId::new([log; 16]), options, fixture::ticking())
    };
    let mirror = open_as(1).unwrap();
    let there = budget.taken();
    assert!(there > 0);
    drop(mirror);
    for _ in 0..2 {
        assert!(matches!(open_as(2), Err(OpenError::OtherLog { .. })));
        assert_eq!(budget.taken(), 0);
    }
    let held = budget.hold(&given.dir.path().join("mirror"));
    assert_eq!(budget.taken(), there);
    drop(held);
    let mirror = open_as(1).unwrap();
    assert_eq!(budget.taken(), there);
    drop(mirror);
}

#[test]
fn a_full_mirror_evicts_and_the_sum_stays_right() {
    let mut given = Given::default();
    given.options.capacity_bytes = 8 << 20;
    let origin = given.open();
    let mirror = open(&given, origin.log_id());
    let mut producer = origin.producer();
    let value = "x".repeat(1000);
    for _ in 0..3000 {
        fixture::stage(&origin, &mut producer, value.as_bytes());
    }
    fixture::settle(&origin, &mut producer);
    copy(&origin, &mirror);
    let ledger = mirror.ledger();
    assert!(ledger.evicted > 0 && ledger.corrupt == 0, "{ledger:?}");
    let shown = shown(&mirror);
    let lost: u64 = fixture::gaps(&shown).iter().map(|gap| gap.lost).sum();
    assert_eq!(payloads(&shown).len() as u64 + lost, 3000);
    assert_eq!(read_all(&origin, Offset::ZERO).len(), 3000);
}

/// A gateway told of 30 lost records, and the mirror lets go of that gap before anybody has read it: they are told with what the mirror lets go of itself, to who
/// begins and to who has read up to there, also after a kill.
#[test]
fn what_an_evicted_gap_told_is_not_forgotten() {
    let mut given = Given::default();
    given.options.capacity_bytes = 8 << 20;
    let origin = given.open();
    for _ in 0..20 {
        fixture::put(&origin, &["early"]);
    }
    let mirror = open(&given, origin.log_id());
    copy(&origin, &mirror);
    for _ in 0..30 {
        fixture::put(&origin, &["evicted by the gateway"]);
    }
    let told = Gap {
        from: Offset::new(20),
        to: Offset::new(50),
        lost: 30,
        cause: Cause::Evicted,
        when: Micros::new(5),
        when_last: Micros::new(6),
    };
    mirror.append_gap(&told).unwrap();
    let mut producer = origin.producer();
    for _ in 0..3000 {
        fixture::stage(&origin, &mut producer, "x".repeat(1000).as_bytes());
    }
    fixture::settle(&origin, &mut producer);
    copy(&origin, &mirror);
    assert!(mirror.oldest() > told.to);
    let sum_from = |mirror: &Mirror, from| {
        let shown = shown_from(mirror, Offset::new(from));
        let lost: u64 = fixture::gaps(&shown).iter().map(|gap| gap.lost).sum();
        payloads(&shown).len() as u64 + lost
    };
    assert_eq!((sum_from(&mirror, 0), sum_from(&mirror, 20)), (3050, 3030));
    drop(mirror);
    let mirror = open(&given, origin.log_id());
    assert_eq!((sum_from(&mirror, 0), sum_from(&mirror, 20)), (3050, 3030));
}

/// Retention by age: the clock of this mirror moves on by a millisecond with each look.
#[test]
fn what_is_older_than_the_retention_goes_and_is_told_as_expired() {
    let mut given = Given::default();
    given.options.capacity_bytes = 8 << 20;
    let origin = given.open();
    let mirror = open(&given, origin.log_id());
    fixture::put(&origin, &["x".repeat(1000).as_str(); 1200]);
    copy(&origin, &mirror);
    assert!(!mirror.expire(Micros::new(0)).unwrap());
    assert!(mirror.expire(Micros::new(i64::MAX)).unwrap());
    let shown = shown(&mirror);
    let [gap] = fixture::gaps(&shown)[..] else {
        panic!("one gap")
    };
    assert_eq!(gap.cause, Cause::Expired);
    assert_eq!(gap.lost, mirror.ledger().expired);
    assert_eq!(payloads(&shown).len() as u64 + gap.lost, 1200);
}

/// The origin closed its log long ago. Its records go like others, and their files with them; the end stays what it was.
#[test]
fn an_ended_mirror_gives_its_space_back_when_its_records_are_old() {
    let mut given = Given::default();
    given.options.capacity_bytes = 8 << 20;
    let origin = given.open();
    let mirror = open(&given, origin.log_id());
    fixture::put(&origin, &["x".repeat(1000).as_str(); 1200]);
    copy(&origin, &mirror);
    mirror.end().unwrap();
    assert!(!mirror.expire(Micros::new(0)).unwrap());
    let (before, reader) = (mirror.disk_bytes(), mirror.read(Offset::ZERO, 1).unwrap());
    assert!(reader.gap.is_none() && mirror.expire(Micros::new(i64::MAX)).unwrap());
    assert!(mirror.disk_bytes() < before, "{before}");
    let (gone, next) = (mirror.ledger().expired, mirror.next());
    let account = |mirror: &Mirror| {
        let shown = shown(mirror);
        let [gap] = fixture::gaps(&shown)[..] else {
            panic!("one gap")
        };
        assert_eq!((gap.cause, gap.lost), (Cause::Expired, gone));
        assert_eq!(payloads(&shown).len() as u64 + gone, 1200);
        assert!(mirror.is_ended() && mirror.next() == next);
    };
    account(&mirror);
    drop(mirror);
    let mirror = open(&given, origin.log_id());
    account(&mirror);
    assert!(
        !mirror.expire(Micros::new(i64::MAX)).unwrap(),
        "the head stays"
    );
}

fn options() -> MirrorOptions {
    MirrorOptions {
        capacity_bytes: 2 << 20,
        ..MirrorOptions::default()
    }
}

fn open(given: &Given, log_id: LogId) -> Mirror {
    Mirror::open(
        given.dir.path().join("mirror"),
        log_id,
        options(),
        fixture::ticking(),
    )
    .unwrap()
    .0
}

/// Sends what the mirror has not got, as an uplink would.
fn copy(origin: &Partition, mirror: &Mirror) {
    while mirror.next() < origin.next() {
        let chunk = origin.read(mirror.next(), 64 << 10).unwrap();
        assert_eq!(mirror.append(&chunk.frames).unwrap(), chunk.next);
    }
}

fn shown(mirror: &Mirror) -> Vec<fixture::Shown> {
    shown_from(mirror, Offset::ZERO)
}

fn shown_from(mirror: &Mirror, from: Offset) -> Vec<fixture::Shown> {
    fixture::read_with(&mirror.log_id(), from, |at| {
        let chunk = mirror.read(at, 64 << 10).unwrap();
        (chunk.gap, chunk.frames, chunk.next)
    })
}

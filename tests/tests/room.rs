//! Disk space is not lost to small commits or to many starts.

use sedge_core::driver::Ram;
use sedge_core::entry::{Entry, Headers, Record};
use sedge_core::frame::{EXPLICIT_HEADER_LEN, Form, Label, emit_data};
use sedge_core::log::{CommitError, Fresh, Log, Options, WhenFull};
use sedge_core::segment::{Dimensions, Geometry, Medium, Role};
use sedge_core::{LogId, Micros, Offset};

/// A million events of 128 bytes, each with a commit of its own, fit into one and a half times the bytes of their entries: none is evicted.
#[test]
fn a_million_commits_of_one_event_fit_in_one_and_a_half_times_their_size() {
    let entry_bytes = event().encoded_len() as u64;
    let room = EVENTS * entry_bytes * 3 / 2;
    let mut log = open(blank(room, SEGMENT_BYTES), SEGMENT_BYTES);
    for _ in 0..EVENTS {
        append(&mut log);
    }
    assert_eq!(log.next(), Offset::new(EVENTS));
    assert_eq!((log.ledger().evicted, log.oldest()), (0, Offset::new(0)));
}

/// Ten thousand times the process is killed before it has written anything. Nothing is evicted for it, no offset is burned, the same records are held.
#[test]
fn ten_thousand_kills_without_input_evict_nothing() {
    let mut log = open(
        blank(8 * u64::from(SMALL_SEGMENT_BYTES), SMALL_SEGMENT_BYTES),
        SMALL_SEGMENT_BYTES,
    );
    // Three quarters full, so that segments taken by starts would soon cost records.
    while log.head().0 < 6 {
        append(&mut log);
    }
    let (held, ledger) = (log.oldest(), log.ledger().clone());
    let end = log.view().durable;
    for _ in 0..10_000 {
        log = open(log.into_media(), SMALL_SEGMENT_BYTES);
    }
    assert_eq!((log.oldest(), log.view().durable), (held, end));
    assert_eq!(*log.ledger(), ledger);

    append(&mut log);
    let burned = log.next().get() - 1 - end.get();
    assert!(
        burned <= u64::from(COMMIT_OFFSETS_MAX),
        "{burned} offsets burned for 10,000 kills"
    );
    assert_eq!(log.ledger().evicted, 0);
}

type Memory = Ram<Vec<u8>>;

fn blank(bytes: u64, segment_bytes: u32) -> Memory {
    let segments = bytes / u64::from(segment_bytes);
    Ram::new(
        vec![0xFF; (segments * u64::from(segment_bytes)) as usize],
        segment_bytes,
    )
}

fn open(media: Memory, segment_bytes: u32) -> Log<Memory, Vec<u8>> {
    let bytes = media.into_inner();
    let geometry = Geometry::new(Dimensions {
        medium: Medium::File,
        role: Role::Origin,
        write_unit: 1,
        segment_bytes,
        segment_count: bytes.len() as u32 / segment_bytes,
        frame_bytes_max: 4 * 1024,
        commit_offsets_max: COMMIT_OFFSETS_MAX,
    });
    let geometry = geometry.expect("the dimensions are fine");
    let fresh = Fresh {
        log_id: LogId::new([7; 16]),
        now: Micros::new(1),
        boot: 1,
    };
    let scratch = vec![0; geometry.scratch_bytes()];
    let options = Options::new(geometry, WhenFull::EvictOldest);
    Log::open(Ram::new(bytes, segment_bytes), options, fresh, scratch)
        .expect("it opens")
        .0
}

fn append(log: &mut Log<Memory, Vec<u8>>) {
    let mut entry = [0; 256];
    let len = event().encode(&mut entry).expect("an event fits");
    let label = Label {
        form: Form::Explicit,
        first: log.next(),
        time: Micros::new(2),
        first_of_commit: true,
    };
    let mut frame = [0; 256 + EXPLICIT_HEADER_LEN];
    let log_id = log.log_id();
    let len = emit_data(&mut frame, &log_id, label, 1, &[], &entry[..len]).expect("a frame fits");
    loop {
        match log.commit(&frame[..len], 1, &[], Micros::new(2)) {
            Ok(_) => return,
            Err(CommitError::NeedsMaintain) => {
                log.maintain(Micros::new(2)).expect("memory does not fail");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn event() -> Entry<'static> {
    Entry::Record(Record {
        time: None,
        key: Some(b"boiler-1"),
        headers: Headers::new(&[("topic", b"sensors/boiler-1/temp")]),
        value: &[b'7'; 128],
    })
}

const EVENTS: u64 = 1_000_000;
const SEGMENT_BYTES: u32 = 1 << 20;
/// Each start reads one segment; small ones are read ten thousand times sooner.
const SMALL_SEGMENT_BYTES: u32 = 32 << 10;
const COMMIT_OFFSETS_MAX: u32 = 65_535;

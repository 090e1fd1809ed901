//! The numbers of the worked example in docs/guide/firmware.md are those that the log comes to.

use sedge_core::driver::Ram;
use sedge_core::entry::{Entry, Record};
use sedge_core::frame::{self, Form, Label};
use sedge_core::log::{Fresh, Log, Options, WhenFull};
use sedge_core::segment::{Dimensions, Geometry, Medium, Role};
use sedge_core::{LogId, Micros, Offset};

const GUIDE: &str = include_str!("../../docs/guide/firmware.md");
const NOW: Micros = Micros::new(1_700_000_000_000_000);

/// How many records of 24 bytes, one a second, fill a segment of 4 KiB when so many go into one frame; and how long that frame is.
fn records_in_a_segment(batch: u16) -> (u64, usize) {
    let geometry = Geometry::new(Dimensions {
        medium: Medium::Nor,
        role: Role::Origin,
        write_unit: 4,
        segment_bytes: 4096,
        segment_count: 4,
        frame_bytes_max: 256,
        commit_offsets_max: 8,
    });
    let options = Options::new(geometry.expect("dimensions"), WhenFull::EvictOldest);
    let fresh = Fresh {
        log_id: LogId::new([7; 16]),
        now: NOW,
        boot: 1,
    };
    let ram = Ram::new(vec![0xFF; 4 * 4096], 4096);
    let (mut log, _) = Log::open(ram, options, fresh, [0; 768]).expect("it opens");
    let mut frame_bytes = 0;
    let mut bases = Vec::new();
    while bases.len() < 3 {
        if log.needs_maintain() {
            log.maintain(NOW).expect("room is made");
        }
        let next = log.next();
        let cursor = Offset::new(next.get().saturating_sub(1000));
        log.set_cursor(1, cursor).expect("there is one uplink");
        let (mut entries, mut frame, mut len) = ([0; 256], [0; 256], 0);
        for _ in 0..batch {
            let record = Record {
                time: Some(1000),
                value: &[7; 24],
                ..Record::default()
            };
            len += Entry::Record(record)
                .encode(&mut entries[len..])
                .expect("it fits");
        }
        let label = Label {
            form: Form::Compact,
            first: next,
            time: NOW,
            first_of_commit: true,
        };
        let id = log.log_id();
        let len = frame::emit_data(&mut frame, &id, label, batch, &[], &entries[..len]);
        let len = len.expect("it fits");
        frame_bytes = len.next_multiple_of(4);
        log.commit(&frame[..len], batch.into(), &[], NOW)
            .expect("it is kept");
        if bases.last() != Some(&log.head_base()) {
            bases.push(log.head_base());
        }
    }
    (bases[2].since(bases[1]), frame_bytes)
}

#[test]
fn worked_example_of_the_firmware_guide_is_true() {
    let day = 86_400_u64;
    for batch in [1_u16, 8] {
        let (records, frame_bytes) = records_in_a_segment(batch);
        // One segment is being filled, one is the spare.
        let segments = day.div_ceil(records) + 2;
        let row = format!(
            "| {batch} | {frame_bytes} | {records} | {segments} | {} | {} |",
            segments * 4,
            day.div_ceil(records)
        );
        assert!(GUIDE.contains(&row), "the guide should say: {row}");
    }
}

//! What an append costs: operations, reads, erases and bytes.

use crate::node::{Node, Reading};
use sedge_core::ledger::Ledger;
use sedge_core::log::RingLog;

use crate::nor::{Chip, Done};
use crate::rival::{self, Queue};
use crate::row::{Row, ratio};

/// The rows about appending.
pub(crate) fn rows() -> Vec<Row> {
    let single = Appends::of_log::<4, 4096>(64, 1);
    let batch = Appends::of_log::<4, 4096>(64, 8);
    let queue = Appends::of_queue::<4, 4096>(64, 1);
    let coarse = Appends::of_log::<32, 8192>(64, 1);
    let coarse_batch = Appends::of_log::<32, 8192>(64, 8);
    let coarse_queue = Appends::of_queue::<32, 8192>(64, 1);
    let queue_batch = Appends::of_queue::<4, 4096>(64, 8);
    let coarse_queue_batch = Appends::of_queue::<32, 8192>(64, 8);
    vec![
        programs(&single, &batch, &queue, &queue_batch),
        reads(),
        memory(),
        Row {
            what: "appends that contain an erase, with maintain()".into(),
            must: "0".into(),
            seen: format!(
                "{} of {}",
                single.erasing + batch.erasing,
                single.appends + batch.appends
            ),
            anchor: format!("{:.1} %", 100.0 * ratio(queue.erasing, queue.appends)),
            met: single.erasing + batch.erasing + coarse.erasing == 0,
        },
        bytes(
            "4-byte units",
            (1.7, 1.4),
            [&single, &batch, &queue, &queue_batch],
        ),
        bytes(
            "32-byte units",
            (2.7, 1.55),
            [&coarse, &coarse_batch, &coarse_queue, &coarse_queue_batch],
        ),
    ]
}

/// What many appends came to.
struct Appends {
    appends: u64,
    records: u64,
    /// In the appends themselves.
    done: Done,
    reads_max: u64,
    erasing: u64,
    /// Appends with one program and no more.
    plain: u64,
    /// In between: room that is made in idle time.
    idle: Done,
}

impl Appends {
    /// Batches of `batch` records into a ring that has wrapped, over two laps.
    fn of_log<const UNIT: usize, const PAGE: usize>(pages: u32, batch: usize) -> Self {
        let mut node = Node::boot(Chip::<UNIT, PAGE>::blank(pages, 1));
        let readings = vec![READING; batch];
        node.fill(u64::from(pages) + 2, &readings);
        let mut sum = Self::nothing();
        let begun = node.chip().done();
        while node.chip().done().since(begun).erases < u64::from(pages) * 2 {
            let before = node.chip().done();
            node.rest();
            sum.idle += node.chip().done().since(before);
            let before = node.chip().done();
            node.append(&readings).expect("a healthy chip");
            sum.add(node.chip().done().since(before), batch);
        }
        sum
    }

    /// The same records in the queue's items: key, value and a tick of two bytes, `batch` of them in an item.
    fn of_queue<const UNIT: usize, const PAGE: usize>(pages: u32, batch: usize) -> Self {
        let mut queue = Queue::boot(Chip::<UNIT, PAGE>::blank(pages, 1));
        let item = vec![7; (PAYLOAD_BYTES as usize + 2) * batch];
        queue.fill(u64::from(pages) + 2, &item);
        let mut sum = Self::nothing();
        let begun = queue.chip().done();
        while queue.chip().done().since(begun).erases < u64::from(pages) * 2 {
            let before = queue.chip().done();
            queue.push(&item, true).expect("a healthy chip");
            sum.add(queue.chip().done().since(before), batch);
        }
        sum
    }

    fn nothing() -> Self {
        Self {
            appends: 0,
            records: 0,
            done: Done::default(),
            reads_max: 0,
            erasing: 0,
            plain: 0,
            idle: Done::default(),
        }
    }

    fn add(&mut self, done: Done, records: usize) {
        self.appends += 1;
        self.records += records as u64;
        self.done += done;
        self.reads_max = self.reads_max.max(done.reads);
        self.erasing += u64::from(done.erases > 0);
        self.plain += u64::from(done.programs == 1);
    }

    fn programs_a_record(&self) -> f64 {
        ratio(self.done.programs, self.records)
    }

    /// Everything that was programmed, idle time included, for each byte of key and value.
    fn bytes_a_byte(&self) -> f64 {
        let programmed = self.done.programmed_bytes + self.idle.programmed_bytes;
        ratio(programmed, self.records * PAYLOAD_BYTES)
    }
}

fn programs(single: &Appends, batch: &Appends, queue: &Appends, queue_batch: &Appends) -> Row {
    // An append that opens a segment programs its header too.
    let opening = [single, batch].map(|appends| appends.appends - appends.plain);
    let programs = [single, batch].map(|appends| appends.done.programs - appends.appends);
    Row {
        what: "program operations an append / a record in a batch of 8".into(),
        must: "1.0 / 0.125".into(),
        seen: format!(
            "1 / 0.125; one more in each append that opens a segment ({:.1} % / {:.1} %), and {:.2} an append in idle time",
            100.0 * ratio(opening[0], single.appends),
            100.0 * ratio(opening[1], batch.appends),
            ratio(single.idle.programs, single.appends)
        ),
        anchor: format!(
            "{:.2} / {:.3} (8 records in one item)",
            queue.programs_a_record(),
            queue_batch.programs_a_record()
        ),
        met: programs == opening,
    }
}

fn reads() -> Row {
    let log = [
        Appends::of_log::<4, 4096>(16, 1),
        Appends::of_log::<4, 4096>(256, 1),
        Appends::of_log::<4, 4096>(1024, 1),
    ];
    let queue = [
        Appends::of_queue::<4, 4096>(16, 1),
        Appends::of_queue::<4, 4096>(256, 1),
        Appends::of_queue::<4, 4096>(1024, 1),
    ];
    let most = log.iter().map(|appends| appends.reads_max).max();
    let means: Vec<String> = queue
        .iter()
        .map(|appends| format!("{:.0}", ratio(appends.done.reads, appends.appends)))
        .collect();
    Row {
        what: "reads an append, at 16, 256 and 1,024 segments".into(),
        must: "0".into(),
        seen: format!("at most {}", most.unwrap_or(0)),
        anchor: format!("on average {}, or a cache of 9 B a page", means.join(", ")),
        met: most == Some(0),
    }
}

/// The same on 32 bits: nothing in it is a pointer, and a log's only length stands before fields of 8 bytes.
fn memory() -> Row {
    let log = size_of::<RingLog>();
    Row {
        what: "log state in RAM, at any capacity; buffers and driver aside".into(),
        must: "≤ 96 B".into(),
        seen: format!("{log} B, of which {} B are the ledger", size_of::<Ledger>()),
        anchor: format!("{} B, or a cache of 9 B a page", rival::STATE_BYTES),
        met: log <= 96,
    }
}

fn bytes(units: &str, must: (f64, f64), seen: [&Appends; 4]) -> Row {
    let [single, batch, queue, queue_batch] = seen.map(Appends::bytes_a_byte);
    Row {
        what: format!(
            "programmed bytes a payload byte (24 B value, 4 B key, tick), {units}: single / batch of 8"
        ),
        must: format!("≤ {} / ≤ {}", must.0, must.1),
        seen: format!("{single:.2} / {batch:.2}"),
        anchor: format!("{queue:.2} / {queue_batch:.2} (8 records in one item)"),
        met: single <= must.0 && batch <= must.1,
    }
}

const READING: Reading<'static> = Reading {
    key: Some(b"t-07"),
    value: b"temperature 21.5 C, fine",
};
const PAYLOAD_BYTES: u64 = 24 + 4;

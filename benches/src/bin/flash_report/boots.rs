//! What a cold boot reads, and what a power cut wastes.

use sedge_tests::flash::FlashTear;
use sedge_tests::random::Random;
use sedge_tests::sim::Sim;

use crate::node::{FRAME_BYTES_MAX, Node, Reading};
use crate::nor::Chip;
use crate::rival::Queue;
use crate::row::{Row, thousands};

/// The rows about starting.
pub(crate) fn rows() -> Vec<Row> {
    vec![boot(), waste()]
}

fn boot() -> Row {
    let small = Boots::of_log(SEGMENTS);
    let large = Boots::of_log(2 * SEGMENTS);
    let queue = Boots::of_queue(SEGMENTS);
    let more = large.most.saturating_sub(small.most);
    Row {
        what: "cold boot, 1,024 × 4 KiB full of 64 B records, the head anywhere".into(),
        must: "≤ 100 reads; ×2 capacity adds ≤ 2".into(),
        seen: format!(
            "at most {} reads ({} opens, {:.0} on average); ×2 capacity adds {more}",
            thousands(small.most),
            thousands(small.count),
            small.mean()
        ),
        anchor: format!(
            "at most {}, {:.0} on average, with the first push",
            thousands(queue.most),
            queue.mean()
        ),
        met: small.most <= 100 && more <= 2,
    }
}

/// Reads of many boots.
#[derive(Default)]
struct Boots {
    count: u64,
    most: u64,
    sum: u64,
}

impl Boots {
    /// The head in each segment of two laps, the first with room for more than there is: just opened, in the middle and full, with and without a spare.
    fn of_log(segments: u32) -> Self {
        let mut boots = Self::default();
        let mut node = Node::boot(Chip::<4, 4096>::blank(segments, 1));
        for _ in 0..2 * segments {
            let head = node.log.head().0;
            let mut stops = [600, 2200, 3900].into_iter().peekable();
            while node.log.head().0 == head {
                if stops.peek().is_some_and(|&stop| stop <= node.log.head().1) {
                    stops.next();
                    boots.open(node.chip());
                }
                if node.append(&[RECORD]).is_err() {
                    boots.open(node.chip()); // full, and no spare
                    node.rest();
                }
            }
            boots.open(node.chip()); // just opened, and no spare yet
        }
        boots
    }

    fn open(&mut self, chip: &Chip<4, 4096>) {
        let chip = chip.copied();
        let before = chip.done();
        let node = Node::boot(chip);
        self.add(node.chip().done().since(before).reads);
    }

    /// The head in every eighth page of the second lap; without a cache, so that nothing has to be read before the first use.
    fn of_queue(pages: u32) -> Self {
        let mut boots = Self::default();
        let mut queue = Queue::boot(Chip::<4, 4096>::blank(pages, 1));
        queue.fill(u64::from(pages) + 8, &[7; 64]);
        for _ in 0..pages / 8 {
            queue.fill(8, &[7; 64]);
            let mut again = Queue::boot(queue.chip().copied());
            let before = again.chip().done();
            again.push(&[7; 64], true).expect("a healthy chip");
            boots.add(again.chip().done().since(before).reads);
        }
        boots
    }

    fn add(&mut self, reads: u64) {
        self.count += 1;
        self.sum += reads;
        self.most = self.most.max(reads);
    }

    fn mean(&self) -> f64 {
        crate::row::ratio(self.sum, self.count)
    }
}

/// What is never programmed, or only with the frame that says so, because a cut left it in doubt.
fn waste() -> Row {
    let mut most = 0;
    let mut random = Random::new(1);
    let mut cuts = 0;
    let mut node = Node::boot(Chip::<4, 4096>::blank(8, 1));
    while cuts < WASTE_CUTS {
        node.rest();
        for &tear in &FlashTear::STEADY {
            let cut = Node::boot(node.chip().copied());
            most = most.max(wasted_by(cut, tear, random.bits()));
            cuts += 1;
        }
        let value = [7; 200];
        let len = random.index(value.len());
        let reading = Reading {
            key: None,
            value: &value[..len],
        };
        node.append(&[reading]).expect("a healthy chip");
    }
    Row {
        what: "waste a power cut, the largest frame being 512 B".into(),
        must: "≤ 2 × largest frame".into(),
        seen: format!(
            "at most {most} B, the RESUME frame behind it included ({} cuts)",
            thousands(cuts)
        ),
        anchor: queue_waste(),
        met: most <= 2 * FRAME_BYTES_MAX,
    }
}

/// Cuts an append, and says how many bytes lie between where it began and the next one.
fn wasted_by(mut node: Node<4, 4096>, tear: FlashTear, seed: u64) -> u32 {
    node.rest();
    let reading = Reading {
        key: None,
        value: &[1; 100],
    };
    let (head, position) = node.log.head();
    let end_without_a_cut = end_of_head(node.chip(), reading);
    node.chip().cells().sim_mut().arm(0);
    node.append(&[reading]).expect_err("the cut");
    node.chip().cells().sim_mut().revive(tear, seed);
    let mut node = Node::boot(node.chip().clone());
    let was_taken = node.log.view().durable.get() > 0 && node.recovered.burned == 0;
    node.rest();
    let (head_behind, resumed) = (node.log.head().0, node.log.head().1);
    if was_taken || head_behind != head {
        return 0;
    }
    let committed = node.append(&[reading]).expect("a healthy chip");
    if committed.segment == head {
        return committed.position.max(resumed) - position;
    }
    // The rest of the segment: as much as would have been used without the cut.
    end_without_a_cut.saturating_sub(position)
}

/// Where the last frame in the head ends, if it is filled with these.
fn end_of_head(chip: &Chip<4, 4096>, reading: Reading<'_>) -> u32 {
    let mut node = Node::boot(chip.copied());
    let head = node.log.head().0;
    loop {
        let end = node.log.head().1;
        node.rest();
        node.append(&[reading]).expect("a healthy chip");
        if node.log.head().0 != head {
            return end;
        }
    }
}

/// Where the queue goes on after a torn push that left a part of its item.
fn queue_waste() -> String {
    let mut most = 0;
    for items in 0..WASTE_ITEMS {
        let mut queue = Queue::boot(Chip::<4, 4096>::blank(4, 1));
        for _ in 0..items {
            queue.push(&[7; 100], false).expect("a healthy chip");
        }
        for seed in 0..8 {
            for ops in 0..3 {
                let mut cut = Queue::boot(queue.chip().copied());
                cut.chip().cells().sim_mut().arm(ops);
                if cut.push(&[0x55; 100], false).is_ok() {
                    continue;
                }
                cut.chip().cells().sim_mut().revive(FlashTear::Bits, seed);
                let mut cut = Queue::boot(cut.chip().clone());
                if cut.push(&[0xAA; 100], false).is_err() {
                    continue;
                }
                let image = cut.chip().cells().sim().image();
                let begun = |byte: u8| image.windows(90).position(|w| w.iter().all(|&b| b == byte));
                let end = image.windows(90).rposition(|w| w.iter().all(|&b| b == 7));
                if let (Some(end), Some(next)) = (end, begun(0xAA)) {
                    most = most.max(next.saturating_sub(end + 90));
                }
            }
        }
    }
    format!("at most {most} B behind a torn item of 108 B")
}

const SEGMENTS: u32 = 1024;
const RECORD: Reading<'static> = Reading {
    key: None,
    value: &[7; 64],
};
const WASTE_CUTS: u64 = 20_000;
/// As many as a page holds.
const WASTE_ITEMS: usize = 35;

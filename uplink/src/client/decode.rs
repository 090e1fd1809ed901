//! Frames as they came from the hub, turned into items. The only place where a consumer looks into frames.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use sedge_core::entry::{self, Entry};
use sedge_core::frame::Frame;
use sedge_core::{Cause, LogId, Micros};

use super::item::{Clock, Gap, Item, Origin, Record};
use crate::wire::PartHead;

/// What takes the records and gaps of a part, in their order.
pub(crate) trait Sink {
    fn record(&mut self, seen: &Seen, record: &entry::Record<'_>);
    fn gap(&mut self, missing: &Missing);
}

/// Where and when a record was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) offset: u64,
    /// When it happened, if it brought a time, and when a gateway took it: µs since 1970, if that is known.
    pub(crate) time: Option<i64>,
    pub(crate) ingested: Option<i64>,
    /// For what was taken without a clock.
    pub(crate) clock: Option<Clock>,
}

/// What is not there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Missing {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) lost: u64,
    pub(crate) cause: Cause,
    /// µs since 1970, if that is known.
    pub(crate) when: Option<i64>,
}

/// Appends the items of one part at and above the shifted offset `from`. What the part covers and does not show is a Gap.
pub(crate) fn part(
    head: &PartHead,
    frames: &Bytes,
    origin: &Arc<Origin>,
    from: u64,
    items: &mut Vec<Item>,
) {
    let mut sink = Items {
        epoch: head.epoch,
        frames,
        origin,
        items,
    };
    walk(head, frames, from, &mut sink);
}

/// Gives `sink` what stands in one part at and above the shifted offset `from`.
pub(crate) fn walk(head: &PartHead, frames: &[u8], from: u64, sink: &mut impl Sink) {
    let mut walk = Walk {
        head,
        expected: from,
        sink,
    };
    for gap in &head.gaps {
        let cause = Cause::from_code(gap.cause).unwrap_or(Cause::Corrupt);
        walk.missing_until(gap.from);
        walk.gap(gap.from, gap.to, gap.lost, cause, Micros::new(gap.when));
    }
    let log = LogId::new(head.log_id);
    let mut at = 0;
    while let Ok((frame, len)) = Frame::parse(frames.get(at..).unwrap_or_default(), &log, None) {
        walk.frame(&frame);
        at += len;
    }
    walk.missing_until(head.next);
}

/// Makes items.
struct Items<'a> {
    epoch: u32,
    frames: &'a Bytes,
    origin: &'a Arc<Origin>,
    items: &'a mut Vec<Item>,
}

impl Sink for Items<'_> {
    fn record(&mut self, seen: &Seen, record: &entry::Record<'_>) {
        let header = |(name, value): (&str, &[u8])| {
            let name = if name == "topic" {
                Cow::Borrowed("topic")
            } else {
                Cow::Owned(name.into())
            };
            (name, self.frames.slice_ref(value))
        };
        self.items.push(Item::Record(Record {
            origin: Arc::clone(self.origin),
            offset: seen.offset,
            epoch: self.epoch,
            time: seen.time,
            ingested: seen.ingested,
            clock: seen.clock,
            key: record.key.map(|key| self.frames.slice_ref(key)),
            value: self.frames.slice_ref(record.value),
            headers: record.headers.iter().map(header).collect(),
        }));
    }

    fn gap(&mut self, missing: &Missing) {
        self.items.push(Item::Gap(Gap {
            origin: Arc::clone(self.origin),
            epoch: self.epoch,
            from: missing.from,
            to: missing.to,
            lost: missing.lost,
            cause: missing.cause.name(),
            when: missing.when,
        }));
    }
}

/// Position in a part: everything below `expected` has been told.
struct Walk<'a, S> {
    head: &'a PartHead,
    expected: u64,
    sink: &'a mut S,
}

impl<S: Sink> Walk<'_, S> {
    fn frame(&mut self, frame: &Frame<'_>) {
        let shift = self.head.shift;
        self.missing_until(shift.saturating_add(frame.header.first.get()));
        if let Some(gap) = frame.gap() {
            let (from, to) = (
                shift.saturating_add(gap.from.get()),
                shift.saturating_add(gap.to.get()),
            );
            return self.gap(from, to, gap.lost, gap.cause, gap.when);
        }
        let made = frame.header.time;
        let ingested = self.time_of_day(made);
        for (offset, entry) in frame.entries() {
            // Behind the last offset of all there is none to go on from.
            let Some(next) = shift
                .checked_add(offset.get())
                .and_then(|at| at.checked_add(1))
            else {
                break;
            };
            let offset = next - 1;
            if offset < self.expected {
                continue;
            }
            match entry {
                Entry::Record(record) => {
                    let time = record.time.map(|after| made.get().saturating_add(after));
                    let seen = Seen {
                        offset,
                        time: time.and_then(|time| self.time_of_day(Micros::new(time))),
                        ingested,
                        clock: made.uptime().map(|_| match ingested {
                            Some(_) => Clock::Corrected,
                            None => Clock::Unknown,
                        }),
                    };
                    self.sink.record(&seen, &record);
                }
                Entry::Notice(notice) => {
                    // Of a log that the gateway has set aside, or of a device's own.
                    let cause = match (notice.cause, notice.key) {
                        (Cause::NewLog, None) => Cause::NewLog,
                        _ => Cause::Device,
                    };
                    self.gap(offset, next, notice.lost, cause, notice.when);
                }
            }
            self.expected = next;
        }
        // Only a faulty writer seals entries that do not parse; their offsets are told all the same.
        self.missing_until(shift.saturating_add(frame.end().get()));
    }

    /// µs since 1970, also for an uptime if it was learned later when the start was that it is of.
    fn time_of_day(&self, time: Micros) -> Option<i64> {
        let Some((start, up_us)) = time.uptime() else {
            return time.is_known().then(|| time.get());
        };
        let mut beginnings = self.head.beginnings.iter();
        let (_, began_us) = beginnings.find(|(number, _)| *number == start)?;
        Some(began_us.saturating_add_unsigned(up_us))
    }

    /// A gap that begins below `expected` was told in part: the rest of its range is told, and no more than that may be lost in it.
    fn gap(&mut self, from: u64, to: u64, lost: u64, cause: Cause, when: Micros) {
        let told = from < self.expected;
        let from = from.max(self.expected);
        if to < from || (told && to == from) {
            return;
        }
        self.sink.gap(&Missing {
            from,
            to,
            lost: if told { lost.min(to - from) } else { lost },
            cause,
            when: self.time_of_day(when),
        });
        self.expected = to;
    }

    fn missing_until(&mut self, next: u64) {
        if self.expected < next {
            let lost = next - self.expected;
            self.gap(self.expected, next, lost, Cause::Corrupt, Micros::UNKNOWN);
        }
    }
}

#[cfg(test)]
mod tests {
    use sedge_core::frame::{Form, Label, emit_data, emit_gap};
    use sedge_core::{Gap as CoreGap, Offset};

    use super::*;
    use crate::wire;

    const LOG: LogId = LogId::new([9; 16]);

    fn label(first: u64) -> Label {
        Label {
            form: Form::Explicit,
            first: Offset::new(first),
            time: Micros::new(1_000),
            first_of_commit: false,
        }
    }

    fn data(into: &mut Vec<u8>, first: u64, values: &[&str]) {
        let mut entries = [0; 256];
        let mut len = 0;
        for value in values {
            let record = entry::Record {
                time: Some(5),
                value: value.as_bytes(),
                ..Default::default()
            };
            len += Entry::Record(record).encode(&mut entries[len..]).unwrap();
        }
        let mut frame = [0; 512];
        let n = emit_data(
            &mut frame,
            &LOG,
            label(first),
            values.len() as u16,
            &[],
            &entries[..len],
        )
        .unwrap();
        into.extend_from_slice(&frame[..n]);
    }

    fn head(from: u64, next: u64) -> PartHead {
        PartHead {
            number: 0,
            log_id: *LOG.as_bytes(),
            epoch: 1,
            shift: 100,
            from,
            next,
            earliest: 0,
            end: next,
            gaps: vec![],
            frames_len: 0,
            beginnings: vec![],
        }
    }

    fn told(head: &PartHead, frames: Vec<u8>, from: u64) -> Vec<String> {
        let origin = Origin {
            stream: "s".into(),
            gateway: "g".into(),
            partition: 0,
            number: 0,
        };
        let mut items = Vec::new();
        part(head, &frames.into(), &Arc::new(origin), from, &mut items);
        let line = |item: &Item| match item {
            Item::Record(r) => format!("{} {}", r.offset, String::from_utf8_lossy(&r.value)),
            Item::Gap(g) => format!("{}..{} {} {}", g.from, g.to, g.lost, g.cause),
        };
        items.iter().map(line).collect()
    }

    #[test]
    fn offsets_are_shifted_and_what_was_asked_for_begins_inside_a_frame() {
        let mut frames = Vec::new();
        data(&mut frames, 5, &["a", "b", "c"]);
        assert_eq!(told(&head(106, 108), frames, 106), ["106 b", "107 c"]);
    }

    fn times(head: &PartHead, frames: &[u8]) -> Vec<(Option<i64>, Option<i64>, Option<Clock>)> {
        let origin = Origin {
            stream: "s".into(),
            gateway: "g".into(),
            partition: 0,
            number: 0,
        };
        let mut items = Vec::new();
        let frames = Bytes::copy_from_slice(frames);
        part(head, &frames, &Arc::new(origin), head.from, &mut items);
        let records = items.iter().filter_map(|item| match item {
            Item::Record(r) => Some((r.time, r.ingested, r.clock)),
            Item::Gap(_) => None,
        });
        records.collect()
    }

    /// A gateway that did not know the time stamps with its uptime. An event that brought a time of its own keeps it.
    #[test]
    fn what_was_taken_without_a_clock_has_a_time_as_soon_as_one_is_known() {
        let made = Micros::of_uptime(9, 60_000_000);
        let own = 1_795_168_800_000_000;
        let mut entries = [0; 64];
        let mut len = 0;
        for time in [Some(own - made.get()), None] {
            let record = entry::Record {
                time,
                value: b"x",
                ..Default::default()
            };
            len += Entry::Record(record).encode(&mut entries[len..]).unwrap();
        }
        let mut frame = [0; 128];
        let label = Label {
            time: made,
            ..label(0)
        };
        let n = emit_data(&mut frame, &LOG, label, 2, &[], &entries[..len]).unwrap();
        let unknown = head(100, 102);
        let mark = Some(Clock::Unknown);
        assert_eq!(
            times(&unknown, &frame[..n]),
            [(Some(own), None, mark), (None, None, mark)]
        );
        let known = PartHead {
            beginnings: vec![(8, 5), (9, own)],
            ..unknown
        };
        let (at, mark) = (Some(own + 60_000_000), Some(Clock::Corrected));
        assert_eq!(
            times(&known, &frame[..n]),
            [(Some(own), at, mark), (None, at, mark)]
        );
    }

    fn burned(into: &mut Vec<u8>, from: u64, to: u64) {
        let gap = CoreGap {
            from: Offset::new(from),
            to: Offset::new(to),
            lost: 0,
            cause: Cause::Burned,
            when: Micros::UNKNOWN,
            when_last: Micros::UNKNOWN,
        };
        let mut frame = [0; 64];
        let n = emit_gap(&mut frame, &LOG, label(from), &gap).unwrap();
        into.extend_from_slice(&frame[..n]);
    }

    #[test]
    fn seam_loss_and_burned_offsets_stand_in_their_places() {
        let mut frames = Vec::new();
        data(&mut frames, 3, &["a"]);
        burned(&mut frames, 4, 9);
        data(&mut frames, 9, &["b"]);
        let shifted = |from, to, lost, cause: Cause| wire::Gap {
            from,
            to,
            lost,
            cause: cause.code(),
            when: 0,
            when_last: 0,
        };
        let mut head = head(100, 110);
        head.gaps = vec![
            shifted(100, 100, 0, Cause::NewLog),
            shifted(100, 103, 2, Cause::Evicted),
        ];
        assert_eq!(
            told(&head, frames, 100),
            [
                "100..100 0 new-log",
                "100..103 2 evicted",
                "103 a",
                "104..109 0 burned",
                "109 b"
            ]
        );
    }

    /// One of a device names the device.
    #[test]
    fn a_notice_of_the_gateway_itself_tells_of_a_log_that_it_set_aside() {
        let mut frames = Vec::new();
        for (first, key) in [(0, None), (1, Some(&b"pump"[..]))] {
            let mut entries = [0; 64];
            let notice = Entry::Notice(entry::Notice {
                time: None,
                key,
                cause: Cause::NewLog,
                from: Offset::ZERO,
                to: Offset::new(9),
                lost: 7,
                when: Micros::UNKNOWN,
            });
            let len = notice.encode(&mut entries).unwrap();
            let mut frame = [0; 128];
            let n = emit_data(&mut frame, &LOG, label(first), 1, &[], &entries[..len]).unwrap();
            frames.extend_from_slice(&frame[..n]);
        }
        assert_eq!(
            told(&head(100, 102), frames, 100),
            ["100..101 7 new-log", "101..102 7 device"]
        );
    }

    /// A hub that counts to the end of all offsets is wrong, and no reason to fall over.
    #[test]
    fn a_part_at_the_end_of_all_offsets_is_shown_as_far_as_there_are_any() {
        let mut frames = Vec::new();
        data(&mut frames, 0, &["a", "b", "c"]);
        burned(&mut frames, 3, 9);
        let mut head = head(u64::MAX - 1, u64::MAX);
        head.shift = u64::MAX - 1;
        let (begin, end) = (u64::MAX - 1, u64::MAX);
        let shown = [format!("{begin} a"), format!("{end}..{end} 0 burned")];
        assert_eq!(told(&head, frames, begin), shown);
    }

    #[test]
    fn what_stands_before_the_gap_that_a_hub_tells_is_no_silence() {
        let mut head = head(100, 104);
        head.gaps = vec![wire::Gap {
            from: 102,
            to: 104,
            lost: 2,
            cause: Cause::Evicted.code(),
            when: 0,
            when_last: 0,
        }];
        assert_eq!(
            told(&head, Vec::new(), 100),
            ["100..102 2 corrupt", "102..104 2 evicted"]
        );
    }

    #[test]
    fn what_is_missing_between_frames_is_a_gap_and_a_gap_in_the_log_is_told_as_it_is() {
        let mut frames = Vec::new();
        data(&mut frames, 2, &["c"]);
        data(&mut frames, 5, &["f"]);
        let gap = CoreGap {
            from: Offset::new(6),
            to: Offset::new(9),
            lost: 2,
            cause: Cause::Evicted,
            when: Micros::UNKNOWN,
            when_last: Micros::UNKNOWN,
        };
        let mut frame = [0; 128];
        let len = emit_gap(&mut frame, &LOG, label(6), &gap).unwrap();
        frames.extend_from_slice(&frame[..len]);
        let shown = [
            "100..102 2 corrupt",
            "102 c",
            "103..105 2 corrupt",
            "105 f",
            "106..109 2 evicted",
        ];
        assert_eq!(told(&head(100, 109), frames, 100), shown);
    }

    /// The hub evicted up to 110, and the reader stands inside of that: it is told the rest, and no more than that can be lost in it.
    #[test]
    fn a_gap_that_was_told_in_part_goes_on_where_the_reader_is() {
        let told_from = |expected, lost| {
            let mut head = head(expected, 110);
            let (from, to, cause) = (100, 110, Cause::Evicted.code());
            let (when, when_last) = (0, 0);
            head.gaps = vec![wire::Gap {
                from,
                to,
                lost,
                cause,
                when,
                when_last,
            }];
            told(&head, Vec::new(), expected)
        };
        assert_eq!(told_from(100, 7), ["100..110 7 evicted"]);
        assert_eq!(told_from(104, 10), ["104..110 6 evicted"]);
        assert_eq!(told_from(104, 5), ["104..110 5 evicted"]);
        assert_eq!(told_from(110, 10), [""; 0]);
        assert_eq!(told_from(111, 10), [""; 0]);
    }

    #[test]
    fn what_a_part_covers_and_does_not_show_is_a_gap() {
        let mut frames = Vec::new();
        data(&mut frames, 0, &["a"]);
        data(&mut frames, 2, &["c", "d"]);
        let cut = frames.len() - 1;
        frames[cut] ^= 1;
        assert_eq!(
            told(&head(100, 104), frames, 100),
            ["100 a", "101..104 3 corrupt"]
        );
    }

    /// Three entries are promised, and what is there is none: their offsets are missing.
    #[test]
    fn entries_that_do_not_parse_are_a_gap() {
        let mut frame = [0; 64];
        let n = emit_data(&mut frame, &LOG, label(2), 3, &[], &[0xFF; 9]).unwrap();
        let told = told(&head(102, 105), frame[..n].to_vec(), 102);
        assert_eq!(told, ["102..105 3 corrupt"]);
        let mut frames = frame[..n].to_vec();
        data(&mut frames, 5, &["f"]);
        let told = self::told(&head(102, 106), frames, 102);
        assert_eq!(told, ["102..105 3 corrupt", "105 f"]);
    }
}

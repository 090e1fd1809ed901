//! The log as the sending end of a conversation needs it: what it offers, and what it hands over next.

use super::{Desk, Operations, Reader, RingLog, twin};
use crate::custody::message::Offer;
use crate::custody::{Below, Run, Stretch, Want};
use crate::frame::Kind;
use crate::ids::{Micros, Offset};
use crate::octets;
use crate::read::Read;

#[twin]
impl RingLog {
    /// This log, alone in its chain, in a stream that the receiver names. Where frames may read badly that read well and were handed over before, it reaches
    /// as far as those may have: what is missing will be burned before anything comes behind it.
    #[must_use]
    pub fn offer(&self, slot: u16) -> Offer<'static> {
        let next = if self.distrusts() {
            self.next()
        } else {
            self.view().durable
        };
        Offer {
            slot,
            log: self.log_id,
            stream: "",
            partition: 0,
            oldest: self.oldest(),
            next,
            tail_crc: None,
            closed: false,
            chain: 0,
        }
    }

    /// What of the log ends at `next`.
    pub(crate) async fn below<O: Operations>(
        &self,
        desk: &mut Desk<'_, O>,
        reader: &mut Reader,
        next: Offset,
    ) -> Below {
        let Some(last) = next.get().checked_sub(1) else {
            return Below::Unknown;
        };
        reader.seek(Offset::new(last));
        let read = reader.read_alone(desk.media, desk.scratch, self.view());
        match read.await {
            Read::Frame { frame, .. } if frame.header.kind != Kind::Data => Below::Unknown,
            Read::Frame { frame, .. } if frame.end() > next => Below::Inside,
            Read::Frame { frame, .. } => Below::Frame(frame.header.crc),
            _ => Below::Unknown,
        }
    }

    /// What stands in the log where `want` begins: whole frames, gathered in `frames`, or the gap that is there instead, which before the
    /// oldest offset is the loss of `uplink` alone. Times run on through the frames: one that counts from another time begins the next run. `None` if there is nothing, or `frames` does not hold a single frame.
    pub(crate) async fn stretch<O: Operations>(
        &self,
        desk: &mut Desk<'_, O>,
        reader: &mut Reader,
        uplink: u32,
        want: &Want,
        frames: &mut [u8],
    ) -> Option<Stretch> {
        if let Some(gap) = self.ledger.gap_before_oldest(want.from, Some(uplink)) {
            return Some(Stretch::Gap(gap));
        }
        if reader.next() != want.from {
            reader.seek(want.from);
        }
        let room = want.bytes_max.min(frames.len());
        let mut run = Run {
            first: want.from,
            next: want.from,
            base_time: Micros::UNKNOWN,
            next_base_time: Micros::UNKNOWN,
            len: 0,
        };
        loop {
            let read = reader.read_alone(desk.media, desk.scratch, self.view());
            match read.await {
                Read::Frame {
                    frame,
                    bytes,
                    base_time,
                } if run.len == 0
                    || (base_time == run.next_base_time
                        && run.len.saturating_add(bytes.len()) <= room) =>
                {
                    if run.len == 0 {
                        (run.first, run.base_time) = (frame.header.first, base_time);
                    }
                    octets::copy(bytes, frames.get_mut(run.len..)?)?;
                    (run.next, run.len) = (frame.end(), run.len.saturating_add(bytes.len()));
                    run.next_base_time = reader.time();
                }
                Read::Gap(gap) if run.len == 0 => return Some(Stretch::Gap(gap)),
                _ => {
                    reader.seek(run.next);
                    return (run.len > 0).then_some(Stretch::Frames(run));
                }
            }
        }
    }
}

//! What the owner of a log needs after an open: its state before the head, and everything the head holds.

use super::desk::Held;
use super::{Desk, Operations, RingLog, twin};
use crate::segment::{OpenHeader, STAMP_LEN};
use crate::walk::{Found, Step, Walk};

#[twin]
impl RingLog {
    /// Reads the head's open header into the buffer, for [`RingLog::checkpoint`].
    pub(crate) async fn load_checkpoint<O: Operations>(&self, desk: &mut Desk<'_, O>) {
        let segment = self.head.segment;
        desk.fill(segment, STAMP_LEN as u32, self.header_len())
            .await;
    }

    /// The owner's state as the head's open header carries it: what [`RingLog::replay`] builds upon.
    pub(crate) fn checkpoint<'s>(&self, scratch: &'s [u8]) -> &'s [u8] {
        let header = scratch.get(..self.header_len()).and_then(OpenHeader::parse);
        header.map_or(&[], |(header, _)| header.checkpoint)
    }

    /// Shows each frame of the head, control frames too, from the first to the last that is durable.
    pub async fn replay<O: Operations>(
        &self,
        desk: &mut Desk<'_, O>,
        mut each: impl FnMut(&Found<'_>),
    ) {
        let head = &self.head;
        let mut walk = Walk::new(self.log_id, self.geometry, head.data_start, head.base, None);
        let mut held = Held::default();
        loop {
            match walk.step(desk.window(held)) {
                Step::Read { position, .. } => {
                    held = desk
                        .load(head.segment, position, self.geometry.segment_bytes())
                        .await;
                }
                Step::Frame(found) if found.end_position <= head.position => each(&found),
                // What lies behind the end was dropped.
                Step::Frame(_) | Step::End(_) => return,
            }
        }
    }

    fn header_len(&self) -> usize {
        self.head.data_start.saturating_sub(STAMP_LEN as u32) as usize
    }
}

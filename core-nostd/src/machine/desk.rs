//! Where the log machine works: a medium, and a buffer.

use super::{Operations, twin};
use crate::walk::Window;

/// Where the log works: a medium, and a buffer of [`Geometry::scratch_bytes`] that holds nothing from one call to the next.
///
/// [`Geometry::scratch_bytes`]: crate::segment::Geometry::scratch_bytes
#[derive(Debug)]
pub struct Desk<'d, O> {
    /// The medium.
    pub media: &'d mut O,
    /// The buffer.
    pub scratch: &'d mut [u8],
}

/// What the scratch holds: bytes of one segment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    position: u32,
    len: usize,
    /// Where the last place of them ends that cannot be read; 0 if there is none.
    pub(crate) unread_to: u32,
}

impl Held {
    pub(crate) fn window(self, scratch: &[u8]) -> Window<'_> {
        Window {
            position: self.position,
            bytes: scratch.get(..self.len).unwrap_or_default(),
        }
    }
}

#[twin]
impl<O: Operations> Desk<'_, O> {
    /// Reads `len` bytes (no more than the scratch holds) to the front of the scratch. What cannot be read becomes zeros: neither blank nor a frame.
    pub(crate) async fn fill(&mut self, segment: u32, position: u32, len: usize) -> &[u8] {
        let held = self.take(segment, position, len).await;
        self.scratch.get(..held.len).unwrap_or_default()
    }

    async fn take(&mut self, segment: u32, position: u32, len: usize) -> Held {
        let len = len.min(self.scratch.len());
        let into = self.scratch.get_mut(..len).unwrap_or_default();
        let unread_to = match self.media.read(segment, position, into).await {
            Ok(()) => 0,
            Err(_) => self.take_in_pieces(segment, position, len).await,
        };
        Held {
            position,
            len,
            unread_to,
        }
    }

    /// One bad place must not hide its neighbours: reads piece by piece, as finely as the medium can tell them apart. Where the last bad one ends.
    async fn take_in_pieces(&mut self, segment: u32, position: u32, len: usize) -> u32 {
        let mut unread_to = 0;
        let grain = self.media.grain().max(1);
        let mut rest = self.scratch.get_mut(..len).unwrap_or_default();
        let mut at = position;
        while !rest.is_empty() {
            let up_to_border = (grain - at % grain) as usize;
            let Some((piece, behind)) = rest.split_at_mut_checked(up_to_border.min(rest.len()))
            else {
                return unread_to;
            };
            let end = at.saturating_add(u32::try_from(piece.len()).unwrap_or(u32::MAX));
            if self.media.read(segment, at, piece).await.is_err() {
                piece.fill(0);
                unread_to = end;
            }
            (at, rest) = (end, behind);
        }
        unread_to
    }

    /// Reads as much as the scratch holds, or as the segment has, from `position` on.
    pub(crate) async fn load(&mut self, segment: u32, position: u32, segment_bytes: u32) -> Held {
        let len = segment_bytes.saturating_sub(position) as usize;
        self.take(segment, position, len).await
    }

    /// What a walk sees of the scratch.
    pub(crate) fn window(&self, held: Held) -> Window<'_> {
        held.window(self.scratch)
    }

    /// Whether `segment` reads as erased from `from` up to `to`.
    pub(crate) async fn is_blank(&mut self, segment: u32, from: u32, to: u32) -> bool {
        let mut at = from;
        while at < to {
            let bytes = self.fill(segment, at, (to - at) as usize).await;
            if bytes.is_empty() || bytes.iter().any(|&byte| byte != 0xFF) {
                return false;
            }
            at = at.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        }
        true
    }
}

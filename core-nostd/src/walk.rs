//! Walking the frames of one segment: one code for recovery and for every reader. Pure: bytes come in as windows, what was found goes out.
//!
//! A walk expects the next offset. Where no valid frame with that offset stands, it hunts for a later one (docs/spec/log.md, section 7):
//! on flash only where the bad frame claims its successor to be and at grid points, on files byte by byte. What to make of
//! bytes that end nowhere (torn, rotten, blank) is for the caller to judge. This file knows no medium and reads no clock.

use crate::entry::ENTRY_BYTES_MIN;
use crate::frame::{COMPACT_GAP_LEN_MAX, Form, Frame, Header, Kind, claimed_first, claimed_span};
use crate::ids::{LogId, Offset};
use crate::segment::{Geometry, Medium};

/// A walk over the frames of one segment.
#[derive(Clone, Debug)]
pub struct Walk {
    log: LogId,
    geometry: Geometry,
    limit: Option<Offset>,
    expected: Offset,
    /// Where the frame before stands.
    before_position: u32,
    /// Where the frame with the expected offset ought to stand.
    position: u32,
    hunt: Hunt,
}

/// Where the walk looks at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hunt {
    /// At its position.
    None,
    /// Flash: where the bad frame claims the next one to be, with the offset that it claims.
    Claimed { position: u32, first: Offset },
    /// Flash: at a grid point.
    Grid { point: u32 },
    /// Flash: at a grid point behind blank bytes, where a RESUME frame stands if the frame before was torn once and reads well by now.
    Trace {
        point: u32,
        /// Something else stands at a grid point before.
        touched: bool,
    },
    /// Files: here and further on.
    Search { at: u32 },
    /// Nowhere: there is nothing more.
    Over(Why),
}

/// Bytes of the segment that begin at `position`.
#[derive(Clone, Copy, Debug)]
pub struct Window<'w> {
    /// Where in the segment the bytes begin.
    pub position: u32,
    /// The bytes.
    pub bytes: &'w [u8],
}

/// What a walk says next.
#[derive(Clone, Copy, Debug)]
pub enum Step<'w> {
    /// Come back with a window that begins at `position` and holds `len` bytes or more; the segment has that many.
    Read {
        /// Where the window must begin.
        position: u32,
        /// How many bytes it needs at least.
        len: u32,
    },
    /// The next valid frame.
    Frame(Found<'w>),
    /// No more frames.
    End(End),
}

/// What stands at one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Here {
    /// The frame that is expected.
    Frame,
    /// Anything else.
    Nothing,
    /// Come back with a window that begins at `position`.
    Read { position: u32 },
}

/// A valid frame and where it was found.
#[derive(Clone, Copy, Debug)]
pub struct Found<'w> {
    /// The frame.
    pub frame: Frame<'w>,
    /// Its bytes, to be handed on verbatim.
    pub bytes: &'w [u8],
    /// Where in the segment it stands.
    pub position: u32,
    /// Where the frame behind it stands.
    pub end_position: u32,
    /// The offset that was expected; the frame begins there or later. What lies between has no valid frame.
    pub expected: Offset,
    /// Where the bad place is that lies before the frame, if there is one.
    pub bad: Option<u32>,
}

/// Where and why a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The first position behind the last frame.
    pub position: u32,
    /// The offset behind the last frame.
    pub expected: Offset,
    /// Why.
    pub why: Why,
}

/// Why a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The limit was reached: nothing is missing.
    Limit,
    /// Erased bytes, at least as many as the largest frame takes (or up to the end of the segment).
    Blank,
    /// No room for a header up to the end of the segment.
    Full,
    /// Bytes that are no frame, and none behind them that fits.
    Bad,
}

impl Walk {
    /// A walk from `position`, where the frame with the offset `expected` ought to stand, up to the offset `limit` if there is one (the base of the next segment, the durable watermark).
    #[must_use]
    pub const fn new(
        log: LogId,
        geometry: Geometry,
        position: u32,
        expected: Offset,
        limit: Option<Offset>,
    ) -> Self {
        Self {
            log,
            geometry,
            limit,
            expected,
            before_position: position,
            position,
            hunt: Hunt::None,
        }
    }

    /// Where the next frame ought to stand.
    #[must_use]
    pub const fn position(&self) -> u32 {
        self.position
    }

    /// The offset that is expected next.
    #[must_use]
    pub const fn expected(&self) -> Offset {
        self.expected
    }

    /// The same walk from another place on.
    pub(crate) const fn restarted(&self, position: u32, expected: Offset) -> Self {
        Self {
            before_position: self.before_position,
            ..Self::new(self.log, self.geometry, position, expected, self.limit)
        }
    }

    /// The same walk from the beginning of the segment on.
    pub(crate) const fn begun_at(&self, position: u32, expected: Offset) -> Self {
        Self::new(self.log, self.geometry, position, expected, self.limit)
    }

    /// Moves the limit, for a reader that follows the durable watermark.
    pub const fn set_limit(&mut self, limit: Option<Offset>) {
        self.limit = limit;
    }

    /// Looks on in `window`. Each call ends the walk, finds a frame, or asks for another window.
    pub fn step<'w>(&mut self, window: Window<'w>) -> Step<'w> {
        if self.limit.is_some_and(|limit| self.expected >= limit) {
            return self.end(Why::Limit);
        }
        // Each round ends the call or moves the hunt forward in the segment.
        loop {
            let look = match self.hunt {
                Hunt::None => self.look_here(window),
                Hunt::Claimed { position, first } => self.look_at_claim(window, position, first),
                Hunt::Grid { point } => self.look_at_grid(window, point),
                Hunt::Trace { point, touched } => self.look_for_trace(window, point, touched),
                Hunt::Search { at } => self.search(window, at),
                Hunt::Over(why) => return self.end(why),
            };
            match look {
                Look::Found(found) => return self.take(found),
                Look::Next(hunt) => self.hunt = hunt,
                Look::Read { position, len } => {
                    if let Hunt::Search { at } = &mut self.hunt {
                        *at = position;
                    }
                    return Step::Read { position, len };
                }
            }
        }
    }

    /// Whether the expected frame stands right at the walk's position; goes nowhere.
    pub(crate) fn here(&self, window: Window<'_>) -> Here {
        match self.frame_at(window, self.position, None) {
            Look::Found(_) => Here::Frame,
            Look::Next(_) => Here::Nothing,
            Look::Read { position, .. } => Here::Read { position },
        }
    }

    fn take<'w>(&mut self, found: Found<'w>) -> Step<'w> {
        self.before_position = found.position;
        self.expected = found.frame.end();
        self.position = found.end_position;
        self.hunt = Hunt::None;
        Step::Frame(found)
    }

    const fn end<'w>(&self, why: Why) -> Step<'w> {
        Step::End(End {
            position: self.position,
            expected: self.expected,
            why,
        })
    }

    fn look_here<'w>(&self, window: Window<'w>) -> Look<'w> {
        let position = self.position;
        if self.room_at(position) < self.form().header_len() {
            return Look::Next(Hunt::Over(Why::Full));
        }
        match self.frame_at(window, position, None) {
            Look::Next(_) if self.form() == Form::Explicit => {
                Look::Next(Hunt::Search { at: position })
            }
            Look::Next(_) => self.look_for_successor(window),
            look => look,
        }
    }

    /// Flash: the bytes at the position are no frame. Are they blank, or do they claim to know where the next one is?
    fn look_for_successor<'w>(&self, window: Window<'w>) -> Look<'w> {
        let position = self.position;
        let len = self
            .room_at(position)
            .min(self.geometry.frame_bytes_max() as usize);
        let Some(bytes) = window.at(position, len) else {
            return Look::read(position, len);
        };
        let grid = self.next_grid(position.saturating_add(1));
        if bytes.iter().all(|&byte| byte == 0xFF) {
            return Look::Next(match grid {
                // Where more offsets are known to follow, they stand behind a torn place that left no trace.
                Hunt::Grid { point } if self.limit.is_none() => Hunt::Trace {
                    point,
                    touched: false,
                },
                Hunt::Over(_) if self.limit.is_none() => Hunt::Over(Why::Blank),
                grid => grid,
            });
        }
        Look::Next(self.claim(bytes).unwrap_or(grid))
    }

    fn claim(&self, bytes: &[u8]) -> Option<Hunt> {
        let header = Header::parse(bytes, Some(self.expected)).ok()?;
        let len = header.frame_len();
        if header.form != Form::Compact || len > self.geometry.frame_bytes_max() as usize {
            return None;
        }
        let span = match header.kind {
            Kind::Data => u64::from(header.count),
            Kind::Gap => claimed_span(bytes.get(header.form.header_len()..len)?, header.form)?,
            Kind::Control => 0,
        };
        let position = self
            .geometry
            .round_up(self.position.checked_add(u32::try_from(len).ok()?)?);
        Some(Hunt::Claimed {
            position,
            first: self.expected.checked_add(span)?,
        })
    }

    fn look_at_claim<'w>(&self, window: Window<'w>, position: u32, first: Offset) -> Look<'w> {
        match self.frame_at(window, position, Some(first)) {
            Look::Next(_) => Look::Next(self.next_grid(self.position.saturating_add(1))),
            look => look,
        }
    }

    /// A RESUME frame says where it begins: where the torn frame did, or behind that one and RESUME frames that were torn too, where they read well
    /// when it was written. It reaches beyond whatever of them may read well later.
    fn look_at_grid<'w>(&self, window: Window<'w>, point: u32) -> Look<'w> {
        let next = Look::Next(self.next_grid(point.saturating_add(1)));
        let len = self.room_at(point).min(COMPACT_GAP_LEN_MAX);
        let Some(bytes) = window.at(point, len) else {
            return Look::read(point, len);
        };
        let Some(first) = claimed_first(bytes) else {
            return next;
        };
        match self.frame_at(window, point, Some(first)) {
            Look::Found(found) if found.frame.end() < self.expected => next,
            Look::Next(_) => next,
            look => look,
        }
    }

    /// A head that ends in blank bytes ends here, unless they are what was left free behind a torn frame.
    fn look_for_trace<'w>(&self, window: Window<'w>, point: u32, touched: bool) -> Look<'w> {
        let len = self
            .room_at(point)
            .min(self.geometry.frame_bytes_max() as usize);
        let Some(bytes) = window.at(point, len) else {
            return Look::read(point, len);
        };
        let is_blank = bytes
            .get(..len)
            .is_some_and(|bytes| bytes.iter().all(|&byte| byte == 0xFF));
        let torn_to = self
            .before_position
            .saturating_add(self.geometry.frame_bytes_max());
        let touched = touched || !is_blank;
        let over = Hunt::Over(if touched { Why::Bad } else { Why::Blank });
        // Behind bytes that nobody can explain, a RESUME frame stands where they end, which may be anywhere.
        if is_blank && !touched && point >= torn_to {
            return Look::Next(over);
        }
        match self.look_at_grid(window, point) {
            Look::Next(Hunt::Grid { point }) => Look::Next(Hunt::Trace { point, touched }),
            Look::Next(_) => Look::Next(over),
            look => look,
        }
    }

    fn next_grid(&self, from: u32) -> Hunt {
        self.geometry
            .grid_at_or_after(from)
            .map_or(Hunt::Over(Why::Bad), |point| Hunt::Grid { point })
    }

    /// Files: the next place, `at` or behind it, where a frame with a fitting offset stands.
    fn search<'w>(&self, window: Window<'w>, at: u32) -> Look<'w> {
        let mut at = at;
        while self.room_at(at) >= self.form().header_len() {
            let Some(bytes) = window.at(at, 1) else {
                return Look::read(at, self.form().header_len());
            };
            let Some(ahead) = Header::find_explicit(bytes) else {
                at = at.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                continue;
            };
            at = at.saturating_add(u32::try_from(ahead).unwrap_or(u32::MAX));
            match self.frame_at(window, at, Some(self.expected)) {
                Look::Next(_) => at = at.saturating_add(1),
                look => return look,
            }
        }
        Look::Next(Hunt::Over(Why::Bad))
    }

    /// The valid frame at `position`. In a hunt, it may begin at `hunted` or (explicit) later; else it must begin where it is expected.
    fn frame_at<'w>(&self, window: Window<'w>, position: u32, hunted: Option<Offset>) -> Look<'w> {
        const NOTHING: Look<'static> = Look::Next(Hunt::None);
        let first = hunted.unwrap_or(self.expected);
        let most = self
            .room_at(position)
            .min(self.geometry.frame_bytes_max() as usize);
        let header_len = self.form().header_len();
        if most < header_len {
            return NOTHING;
        }
        let Some(bytes) = window.at(position, header_len) else {
            return Look::read(position, header_len);
        };
        let Ok(header) = Header::parse(bytes, Some(first)) else {
            return NOTHING;
        };
        let len = header.frame_len();
        if len > most || !self.fits(&header, hunted.is_some()) {
            return NOTHING;
        }
        let Some(bytes) = bytes.get(..len) else {
            return Look::read(position, len);
        };
        match Frame::parse(bytes, &self.log, Some(first)) {
            Ok((frame, _)) if self.limit.is_none_or(|limit| frame.end() <= limit) => {
                Look::Found(Found {
                    frame,
                    bytes,
                    position,
                    end_position: self
                        .geometry
                        .round_up(position.saturating_add(u32::try_from(len).unwrap_or(u32::MAX))),
                    expected: self.expected,
                    bad: hunted.map(|_| self.position),
                })
            }
            _ => NOTHING,
        }
    }

    /// Whether a frame with this header may stand here, before its check is worth the work.
    fn fits(&self, header: &Header, hunting: bool) -> bool {
        let at_place = match header.form {
            Form::Compact => true,
            Form::Explicit => {
                header.first == self.expected || (hunting && header.first > self.expected)
            }
        };
        header.form == self.form()
            && at_place
            && self.limit.is_none_or(|limit| header.first <= limit)
            && usize::from(header.count) <= header.payload_len as usize / ENTRY_BYTES_MIN
    }

    const fn room_at(&self, position: u32) -> usize {
        self.geometry.segment_bytes().saturating_sub(position) as usize
    }

    const fn form(&self) -> Form {
        match self.geometry.medium() {
            Medium::Nor => Form::Compact,
            Medium::File => Form::Explicit,
        }
    }
}

impl<'w> Window<'w> {
    /// No bytes yet: the walk will ask for what it needs.
    pub const EMPTY: Self = Self {
        position: 0,
        bytes: &[],
    };

    /// The `len` bytes from `position` on, as far as the window holds them.
    pub(crate) fn slice(&self, position: u32, len: usize) -> &'w [u8] {
        self.at(position, len)
            .and_then(|bytes| bytes.get(..len))
            .unwrap_or_default()
    }

    /// The bytes from `position` on, if the window holds at least `len` of them.
    fn at(&self, position: u32, len: usize) -> Option<&'w [u8]> {
        let ahead = usize::try_from(position.checked_sub(self.position)?).ok()?;
        self.bytes.get(ahead..).filter(|bytes| bytes.len() >= len)
    }
}

impl Found<'_> {
    /// The offsets before the frame for which there is no valid frame: first, and one past the last.
    #[must_use]
    pub fn missing(&self) -> Option<(Offset, Offset)> {
        let first = self.frame.header.first;
        (self.expected < first).then_some((self.expected, first))
    }
}

/// What one look came to.
enum Look<'w> {
    Found(Found<'w>),
    /// Nothing here; look there.
    Next(Hunt),
    Read {
        position: u32,
        len: u32,
    },
}

impl Look<'_> {
    /// No segment is longer than a `u32` says.
    fn read(position: u32, len: usize) -> Self {
        Self::Read {
            position,
            len: u32::try_from(len).unwrap_or(u32::MAX),
        }
    }
}

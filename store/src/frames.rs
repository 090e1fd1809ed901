//! The frames of segment files that no log has open, or none needs to.

use std::io;
use std::path::Path;

use sedge_core::Offset;
use sedge_core::frame::{Control, Kind};
use sedge_core::ledger::Ledger;
use sedge_core::segment::Geometry;
use sedge_core::walk::{End, Found, Step, Walk};

use crate::disk::File;
use crate::media::file_name;
use crate::read::Span;
use crate::survey::HeaderSeen;

/// The ledger that counts: that of the head's beginning, changed by what stands behind it.
pub(crate) fn ledger_of(
    dir: &Path,
    segment: u32,
    head: &HeaderSeen,
    geometry: Geometry,
) -> io::Result<Ledger> {
    let mut ledger = head.ledger.clone();
    walk(dir, segment, head, geometry, None, |found| {
        let frame = &found.frame;
        match frame.control() {
            Some(Control::Ledger(bytes)) => {
                ledger = Ledger::parse(bytes).unwrap_or_else(|| ledger.clone())
            }
            _ if frame.header.kind == Kind::Gap => ledger.skipped += frame.span(),
            _ => {}
        }
    })?;
    Ok(ledger)
}

/// Walks the frames of one segment.
pub(crate) fn walk(
    dir: &Path,
    segment: u32,
    header: &HeaderSeen,
    geometry: Geometry,
    limit: Option<Offset>,
    mut each: impl FnMut(&Found<'_>),
) -> io::Result<End> {
    let file = File::open(dir.join(file_name(segment)))?;
    let mut walk = Walk::new(
        header.log_id,
        geometry,
        header.data_start,
        header.base,
        limit,
    );
    let mut window = Span::default();
    loop {
        match walk.step(window.as_window()) {
            Step::Frame(found) => each(&found),
            Step::End(end) => return Ok(end),
            Step::Read { position, len } => {
                let left = geometry.segment_bytes().saturating_sub(position).max(len) as usize;
                window.fill(&file, position, left.min(WINDOW_BYTES.max(len as usize)))?;
            }
        }
    }
}

const WINDOW_BYTES: usize = 1 << 20;

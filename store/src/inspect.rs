//! Looks at a log without opening it: what each segment says, whether its frames pass, where gaps are, whether the sum is right.
//! Writes nothing. Works on a log that is in use, as a picture that may be a moment old.

use std::io;
use std::path::{Path, PathBuf};

use sedge_core::frame::{Control, Kind};
use sedge_core::ledger::{Cursor, Ledger};
use sedge_core::segment::{Geometry, Role};
use sedge_core::walk::{End, Found};
use sedge_core::{Cause, Gap, LogId, Micros, Offset};
use serde::Serialize;

use crate::data_dir::SET_ASIDE;
use crate::disk;
use crate::frames::{ledger_of, walk};
use crate::media;
use crate::survey::{self, HeaderSeen, StampSeen, Surveyed};

/// What [`inspect`] saw.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The directory.
    pub dir: PathBuf,
    /// The newest log in it; none if no segment has a valid beginning.
    pub log: Option<LogReport>,
    /// All segment files, by number.
    pub segments: Vec<SegmentReport>,
    /// What earlier opens set aside.
    pub set_aside: Vec<PathBuf>,
    /// Segments that a failed sync left in doubt.
    pub sync_failed: Vec<u32>,
}

/// The newest log in a directory.
#[derive(Clone, Debug, Serialize)]
pub struct LogReport {
    /// Its id, in hexadecimal digits.
    pub log_id: String,
    /// `origin` or `mirror`.
    pub role: &'static str,
    /// The first offset that is held.
    pub oldest: u64,
    /// The offset behind the last valid frame.
    pub next: u64,
    /// The last frame says that the writer stopped cleanly.
    pub closed: bool,
    /// The last frame says that nothing will follow.
    pub ended: bool,
    /// Entries in valid frames.
    pub held: u64,
    /// Offsets held without a valid frame.
    pub missing: u64,
    /// Where all others went: the sum over everything is `next`.
    pub ledger: LedgerReport,
    /// `next = held + missing + handed over + evicted + expired + corrupt + skipped`.
    pub balances: bool,
    /// Gaps, in order.
    pub gaps: Vec<GapReport>,
}

/// The ledger, as plain numbers.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the fields are those of the ledger")]
pub struct LedgerReport {
    pub handed_over: u64,
    pub evicted: u64,
    pub expired: u64,
    pub corrupt: u64,
    pub skipped: u64,
    pub refused: u64,
    pub loss_first: Option<i64>,
    pub loss_last: Option<i64>,
    pub cursors: Vec<Cursor>,
}

/// A gap, as plain numbers.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the fields are those of a gap")]
pub struct GapReport {
    pub from: u64,
    pub to: u64,
    pub lost: u64,
    pub cause: &'static str,
    pub when: Option<i64>,
}

/// One segment file.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentReport {
    /// Its number.
    pub segment: u32,
    /// Bytes of the file.
    pub bytes: u64,
    /// `blank` (never used), `spare` (ready), `held`, `other-log`, `recycled` (its content is accounted for) or `damaged`.
    pub state: &'static str,
    /// How often it was made ready.
    pub erase_count: Option<u32>,
    /// Its place in the order of segments.
    pub seq: Option<u64>,
    /// The first offset.
    pub base: Option<u64>,
    /// The offset behind the last valid frame.
    pub next: Option<u64>,
    /// When it was opened, in microseconds since 1970.
    pub opened: Option<i64>,
    /// Valid frames.
    pub frames: u64,
    /// Entries in them.
    pub entries: u64,
    /// Bytes up to the end of the last one.
    pub used: u32,
}

/// Looks at the log in `dir`.
///
/// # Errors
/// When the directory or a file cannot be read at all.
pub fn inspect(dir: &Path) -> io::Result<Report> {
    let surveyed = survey::survey(dir)?;
    // A header whose stamp is damaged says nothing of the dimensions by which its frames are found.
    let stamped = surveyed.iter().filter(|s| s.geometry().is_some());
    let newest = survey::newest_of(stamped).and_then(|s| s.header.clone());
    let mut segments: Vec<SegmentReport> = surveyed.iter().map(SegmentReport::of).collect();
    let log = match &newest {
        Some(newest) => Some(look_at_log(dir, newest, &surveyed, &mut segments)?),
        None => None,
    };
    Ok(Report {
        dir: dir.into(),
        log,
        segments,
        set_aside: files_in(&dir.join(SET_ASIDE))?,
        sync_failed: media::sync_failed_names(dir)?,
    })
}

fn look_at_log(
    dir: &Path,
    newest: &HeaderSeen,
    surveyed: &[Surveyed],
    segments: &mut [SegmentReport],
) -> io::Result<LogReport> {
    let mut chain: Vec<(usize, &HeaderSeen, Geometry)> = Vec::new();
    for (at, surveyed) in surveyed.iter().enumerate() {
        match (&surveyed.header, surveyed.geometry()) {
            (Some(header), Some(geometry)) if header.log_id == newest.log_id => {
                chain.push((at, header, geometry))
            }
            (Some(_), _) => segments[at].state = "other-log",
            _ => {}
        }
    }
    chain.sort_by_key(|(at, _, _)| surveyed[*at].order());
    let (head, _, geometry) = *chain.last().expect("the newest is one of them");
    let mut sum = Sum::new(ledger_of(dir, surveyed[head].segment, newest, geometry)?);
    let ends = chain
        .iter()
        .skip(1)
        .map(|(_, header, _)| Some(header.base))
        .chain([None]);
    for (&(at, header, geometry), end) in chain.iter().zip(ends.collect::<Vec<_>>()) {
        let report = &mut segments[at];
        if end.is_some_and(|end| end <= sum.ledger.oldest || end <= header.base) {
            report.state = "recycled";
            continue;
        }
        report.state = "held";
        sum.begin(header.base);
        let end = walk(dir, surveyed[at].segment, header, geometry, end, |found| {
            report.take(found);
            sum.take(found);
        })?;
        sum.finish(end, report);
    }
    Ok(sum.into_report(newest.log_id, geometry.role()))
}

/// Adds up a log, segment by segment.
pub(crate) struct Sum {
    pub(crate) ledger: Ledger,
    expected: Offset,
    held: u64,
    missing: u64,
    gaps: Vec<Gap>,
    closed: bool,
    ended: bool,
}

impl Sum {
    pub(crate) fn new(ledger: Ledger) -> Self {
        let expected = ledger.oldest;
        let gaps = ledger
            .gap_before_oldest(Offset::ZERO, None)
            .into_iter()
            .collect();
        Self {
            ledger,
            expected,
            held: 0,
            missing: 0,
            gaps,
            closed: false,
            ended: false,
        }
    }

    pub(crate) fn begin(&mut self, base: Offset) {
        self.miss(base);
    }

    pub(crate) fn take(&mut self, found: &Found<'_>) {
        let frame = &found.frame;
        self.miss(frame.header.first);
        (self.closed, self.ended) = (false, false);
        match (frame.header.kind, frame.control()) {
            (Kind::Data, _) => {
                self.held += frame.end().since(frame.header.first.max(self.expected))
            }
            (Kind::Gap, _) => self.gaps.extend(frame.gap()),
            (_, Some(Control::Close)) => self.closed = true,
            (_, Some(Control::End)) => self.ended = true,
            _ => {}
        }
        self.expected = self.expected.max(frame.end());
    }

    pub(crate) fn finish(&mut self, end: End, report: &mut SegmentReport) {
        report.next = Some(end.expected.get());
    }

    /// Nothing valid was found up to `to`.
    fn miss(&mut self, to: Offset) {
        let span = to.since(self.expected);
        if span == 0 {
            return;
        }
        self.missing += span;
        let (from, when) = (self.expected, Micros::UNKNOWN);
        self.gaps.push(Gap {
            from,
            to,
            lost: span,
            cause: Cause::Corrupt,
            when,
            when_last: when,
        });
        self.expected = to;
    }

    pub(crate) fn into_report(self, log_id: LogId, role: Role) -> LogReport {
        let next = self.expected.get();
        let ledger = &self.ledger;
        let accounted = self.held + self.missing + ledger.gone() + ledger.skipped;
        LogReport {
            log_id: log_id.to_string(),
            role: if role == Role::Mirror {
                "mirror"
            } else {
                "origin"
            },
            oldest: ledger.oldest.get(),
            next,
            closed: self.closed,
            ended: self.ended,
            held: self.held,
            missing: self.missing,
            ledger: LedgerReport::of(ledger),
            balances: accounted == next,
            gaps: self.gaps.iter().map(GapReport::of).collect(),
        }
    }
}

impl LedgerReport {
    fn of(ledger: &Ledger) -> Self {
        Self {
            handed_over: ledger.handed_over,
            evicted: ledger.evicted,
            expired: ledger.expired,
            corrupt: ledger.corrupt,
            skipped: ledger.skipped,
            refused: ledger.refused,
            loss_first: known(ledger.loss_first),
            loss_last: known(ledger.loss_last),
            cursors: ledger.cursors.to_vec(),
        }
    }
}

impl GapReport {
    fn of(gap: &Gap) -> Self {
        Self {
            from: gap.from.get(),
            to: gap.to.get(),
            lost: gap.lost,
            cause: gap.cause.name(),
            when: known(gap.when),
        }
    }
}

impl SegmentReport {
    fn of(surveyed: &Surveyed) -> Self {
        let (state, erase_count) = match surveyed.stamp {
            StampSeen::Blank => ("blank", None),
            StampSeen::Bad(_) => ("damaged", None),
            StampSeen::Good(stamp) => ("spare", Some(stamp.erase_count)),
        };
        let header = surveyed.header.as_ref();
        Self {
            segment: surveyed.segment,
            bytes: surveyed.bytes,
            state,
            erase_count,
            seq: header.map(|h| h.seq),
            base: header.map(|h| h.base.get()),
            next: None,
            opened: header.and_then(|h| known(h.base_time)),
            frames: 0,
            entries: 0,
            used: 0,
        }
    }

    pub(crate) fn take(&mut self, found: &Found<'_>) {
        self.frames += 1;
        self.entries += u64::from(found.frame.header.count);
        self.used = found.end_position;
    }
}

fn files_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match disk::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries,
    }
}

pub(crate) fn known(time: Micros) -> Option<i64> {
    time.is_known().then(|| time.get())
}

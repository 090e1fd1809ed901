//! Any bytes as the content of a medium: a log opens on them, is read, takes a record and opens again, or says why not, in steps that its geometry bounds.
//!
//! ```text
//! input   shape 1 | options 1 | the image, from segment 0 on; what is not there is erased
//! ```

use std::collections::BTreeMap;

use sedge_core::entry::{Entry, Record};
use sedge_core::frame::{self, Form, Frame, Label};
use sedge_core::log::{
    CommitError, Fresh, Log, MaintainError, Maintained, OpenError, Options, Tail, WhenFull,
};
use sedge_core::media::Media;
use sedge_core::read::{Read, Reader};
use sedge_core::segment::{Dimensions, Geometry, Medium, Role};
use sedge_core::{LogId, Micros, Offset};

/// Any bytes on flash.
pub fn open_flash_image(input: &[u8]) {
    open_image(Medium::Nor, input);
}

/// Any bytes in files.
pub fn open_file_image(input: &[u8]) {
    open_image(Medium::File, input);
}

/// The dimensions that the first byte of an input chooses: small rings, and one that is large enough to be bisected.
#[must_use]
pub fn geometry(medium: Medium, shape: u8) -> Geometry {
    let (write_unit, segment_bytes, segment_count, frame_bytes_max, commit_offsets_max) =
        SHAPES[usize::from(shape) % SHAPES.len()];
    let is_mirror = medium == Medium::File && shape & 0x80 != 0;
    let dimensions = Dimensions {
        medium,
        role: if is_mirror {
            Role::Mirror
        } else {
            Role::Origin
        },
        write_unit: if medium == Medium::Nor { write_unit } else { 1 },
        segment_bytes,
        segment_count,
        frame_bytes_max,
        commit_offsets_max,
    };
    Geometry::new(dimensions).expect("a shape of ours")
}

/// Write unit, segment bytes and count, largest frame, most offsets of a commit.
const SHAPES: [(u32, u32, u32, u32, u32); 6] = [
    (4, 3072, 3, 256, 16),
    (1, 3072, 4, 256, 255),
    (8, 4096, 4, 300, 16),
    (32, 4096, 3, 256, 1),
    (2, 3072, 9, 256, 16),
    (16, 6144, 3, 1024, 255),
];

/// What an input says.
fn setting(medium: Medium, input: &[u8]) -> Option<(Options, &[u8])> {
    let (&[shape, options], image) = input.split_first_chunk()?;
    let geometry = geometry(medium, shape);
    let when_full = match options & 1 {
        0 => WhenFull::EvictOldest,
        _ => WhenFull::Refuse,
    };
    let tail = match options & 2 {
        0 => Tail::Behind,
        _ => Tail::Fresh,
    };
    let suspect = (options & 4 != 0).then_some(u32::from(options >> 4));
    let options = Options {
        suspect: suspect.filter(|_| medium == Medium::File),
        tail,
        ..Options::new(geometry, when_full)
    };
    Some((options, image))
}

fn open_image(medium: Medium, input: &[u8]) {
    let Some((options, image)) = setting(medium, input) else {
        return;
    };
    let bounds = Bounds::of(&options.geometry);
    let mut watched = Watched::holding(&options.geometry, image);
    let Some(first) = first_life(options, &mut watched, &bounds) else {
        return;
    };
    // What was in doubt was copied by the first open.
    let again = Options {
        suspect: None,
        ..options
    };
    let Some(mut log) = open(again, &mut watched, &bounds) else {
        panic!("what was opened and written cannot be opened again");
    };
    let after = read(&mut log, &bounds);
    let oldest = log.oldest().get();
    let missing = first
        .records
        .range(oldest..)
        .chain(first.appended.iter().map(|(offset, value)| (offset, value)));
    let missing = missing.filter(|(offset, value)| after.get(offset) != Some(value));
    let missing: Vec<u64> = missing.map(|(offset, _)| *offset).collect();
    if missing.is_empty() || (medium == Medium::File && first.stands_beside_its_future(image)) {
        return;
    }
    panic!("{missing:?} were shown or appended, and are gone after the next open, or others");
}

/// What a first life leaves.
struct First {
    log_id: LogId,
    next: Offset,
    /// What it showed.
    records: Records,
    /// What it appended.
    appended: Option<(u64, Vec<u8>)>,
}

impl First {
    /// Whether frames of this log stand in the image that are later than all that the log knows: somebody has put old files beside new ones, or the head's file
    /// has lost its beginning before the next one was made ready. Files are not wiped before they are used again (docs/reliability.md, open findings).
    fn stands_beside_its_future(&self, image: &[u8]) -> bool {
        (0..image.len()).any(|at| {
            let frame = Frame::parse(&image[at..], &self.log_id, None);
            frame.is_ok_and(|(frame, _)| frame.header.first > self.next)
        })
    }
}

/// Opens, reads everything, appends a record.
fn first_life(options: Options, watched: &mut Watched, bounds: &Bounds) -> Option<First> {
    let mut log = open(options, watched, bounds)?;
    let (log_id, next) = (log.log_id(), log.next());
    let records = read(&mut log, bounds);
    let begun = log.media().counts;
    let appended = append(&mut log, options.when_full);
    (log.media().counts - begun).within(&bounds.append, "append");
    Some(First {
        log_id,
        next,
        records,
        appended: appended.map(|offset| (offset, APPENDED.to_vec())),
    })
}

/// Values by their offsets.
type Records = BTreeMap<u64, Vec<u8>>;

type WatchedLog<'w> = Log<&'w mut Watched, Vec<u8>>;

/// The log; `None` where an open is refused with a reason that such an image may have.
fn open<'w>(options: Options, watched: &'w mut Watched, bounds: &Bounds) -> Option<WatchedLog<'w>> {
    let begun = watched.counts;
    let fresh = Fresh {
        log_id: LogId::new([7; 16]),
        now: NOW,
        boot: 1,
    };
    let scratch = vec![0; options.geometry.scratch_bytes()];
    match Log::open(watched, options, fresh, scratch) {
        Ok((log, _)) => {
            (log.media().counts - begun).within(&bounds.open, "open");
            Some(log)
        }
        Err(OpenError::Refused(_)) => None,
        Err(OpenError::NoSpare | OpenError::Unreadable)
            if options.geometry.medium() == Medium::File =>
        {
            None
        }
        Err(error) => panic!("the log does not open: {error:?}"),
    }
}

/// Every record, by its offset.
fn read(log: &mut WatchedLog<'_>, bounds: &Bounds) -> Records {
    let (view, geometry) = (log.view(), *log.geometry());
    let mut reader = Reader::new(log.log_id(), geometry, Offset::ZERO);
    let mut scratch = vec![0; geometry.scratch_bytes()];
    let mut records = BTreeMap::new();
    let media = log.media_mut();
    let begun = media.counts;
    for _ in 0..bounds.items {
        match reader.read(media, &mut scratch, view) {
            Read::Frame { frame, .. } => {
                for (offset, entry) in frame.entries() {
                    if let Entry::Record(record) = entry {
                        let twice = records.insert(offset.get(), record.value.to_vec());
                        assert!(twice.is_none(), "{offset} is shown twice");
                    }
                }
            }
            Read::Gap(_) | Read::Evicted { .. } => {}
            Read::CaughtUp => {
                (media.counts - begun).within(&bounds.read, "reading all");
                return records;
            }
            Read::Overtaken => panic!("nobody else writes"),
        }
    }
    panic!("the reader comes to no end; it stands at {}", reader.next());
}

/// Appends a record, and makes room for it first if that is needed. Where it stands; `None` if the log takes nothing and says why.
fn append(log: &mut WatchedLog<'_>, when_full: WhenFull) -> Option<u64> {
    for _ in 0..ROUNDS_MAX {
        match commit(log) {
            Ok(first) => return Some(first),
            Err(CommitError::NeedsMaintain) => match log.maintain(NOW) {
                Ok(Maintained::Ready) => {}
                Ok(Maintained::Full) if when_full == WhenFull::Refuse => return None,
                Err(MaintainError::Ledger(error)) if takes_nothing(&error) => return None,
                other => panic!("no room can be made: {other:?}"),
            },
            Err(error) if takes_nothing(&error) => return None,
            Err(error) => panic!("the log takes nothing: {error:?}"),
        }
    }
    panic!("there is no room after {ROUNDS_MAX} calls of maintain");
}

/// The log has ended, or counted to the end of all offsets.
const fn takes_nothing<E>(error: &CommitError<E>) -> bool {
    matches!(error, CommitError::Ended | CommitError::Exhausted)
}

fn commit(log: &mut WatchedLog<'_>) -> Result<u64, CommitError<Refused>> {
    let form = match log.geometry().medium() {
        Medium::Nor => Form::Compact,
        Medium::File => Form::Explicit,
    };
    let label = Label {
        form,
        first: log.next(),
        time: NOW,
        first_of_commit: true,
    };
    let record = Record {
        value: APPENDED,
        ..Record::default()
    };
    let (mut entry, mut frame) = ([0; 32], [0; 64]);
    let len = Entry::Record(record)
        .encode(&mut entry)
        .expect("it is small");
    let len = frame::emit_data(&mut frame, &log.log_id(), label, 1, &[], &entry[..len]);
    // Behind the last offset there is none for it.
    let Some(frame) = len.and_then(|len| frame.get(..len)) else {
        return Err(CommitError::Exhausted);
    };
    let committed = log.commit(frame, 1, &[], NOW)?;
    Ok(committed.first.get())
}

/// A medium of bytes that counts what it is asked, and refuses what a strict flash would.
struct Watched {
    bytes: Vec<u8>,
    geometry: Geometry,
    counts: Counts,
}

/// What a medium was asked.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    reads: u64,
    read_bytes: u64,
    programs: u64,
    erases: u64,
}

/// What the flash refuses: outside of a segment, half a unit, or a unit that is not erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refused;

impl Watched {
    /// A medium whose first bytes are `image`.
    fn holding(geometry: &Geometry, image: &[u8]) -> Self {
        let len = geometry.segment_bytes() as usize * geometry.segment_count() as usize;
        let mut bytes = image[..image.len().min(len)].to_vec();
        bytes.resize(len, 0xFF);
        Self {
            bytes,
            geometry: *geometry,
            counts: Counts::default(),
        }
    }

    fn range(&mut self, segment: u32, position: u32, len: usize) -> Result<&mut [u8], Refused> {
        let segment_bytes = self.geometry.segment_bytes() as usize;
        let segment = self.bytes.chunks_mut(segment_bytes).nth(segment as usize);
        let rest = segment.ok_or(Refused)?.get_mut(position as usize..);
        rest.and_then(|rest| rest.get_mut(..len)).ok_or(Refused)
    }
}

impl Media for Watched {
    type Error = Refused;

    fn read(&mut self, segment: u32, position: u32, into: &mut [u8]) -> Result<(), Refused> {
        self.counts.reads += 1;
        self.counts.read_bytes += into.len() as u64;
        into.copy_from_slice(self.range(segment, position, into.len())?);
        Ok(())
    }

    fn program(&mut self, segment: u32, position: u32, bytes: &[u8]) -> Result<(), Refused> {
        self.counts.programs += 1;
        let (medium, unit) = (self.geometry.medium(), self.geometry.write_unit());
        let cells = self.range(segment, position, bytes.len())?;
        if medium == Medium::Nor {
            let whole = |number: usize| number.is_multiple_of(unit as usize);
            assert!(
                whole(position as usize) && whole(bytes.len()),
                "{} bytes at {position} are no whole units",
                bytes.len()
            );
            assert!(
                cells.iter().all(|&cell| cell == 0xFF),
                "a unit is programmed that is not erased: segment {segment}, {position}"
            );
        }
        cells.copy_from_slice(bytes);
        Ok(())
    }

    fn erase(&mut self, segment: u32) -> Result<(), Refused> {
        self.counts.erases += 1;
        let (medium, len) = (self.geometry.medium(), self.geometry.segment_bytes());
        let cells = self.range(segment, 0, len as usize)?;
        if medium == Medium::Nor {
            cells.fill(0xFF);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Refused> {
        Ok(())
    }

    fn grain(&self) -> u32 {
        self.geometry.write_unit()
    }
}

impl core::ops::Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            reads: self.reads - before.reads,
            read_bytes: self.read_bytes - before.read_bytes,
            programs: self.programs - before.programs,
            erases: self.erases - before.erases,
        }
    }
}

impl Counts {
    fn within(&self, most: &Self, what: &str) {
        let fits = self.reads <= most.reads
            && self.read_bytes <= most.read_bytes
            && self.programs <= most.programs
            && self.erases <= most.erases;
        assert!(fits, "{what} took {self:?}, and at most {most:?} are due");
    }
}

/// The most that is due, from nothing but the geometry (docs/spec/log.md, section 7).
///
/// A *look* at a segment reads its front, its open header, and as much behind it as the scratch holds. A *walk* loads the scratch at most once for each
/// 512 bytes it passes (the scratch holds so much more than a frame), and at a bad place once for the claimed successor and once for each grid point.
#[derive(Debug)]
struct Bounds {
    /// Items that a reader meets: frames have 8 bytes or more, and before each may be a gap.
    items: u64,
    open: Counts,
    read: Counts,
    append: Counts,
}

impl Bounds {
    fn of(geometry: &Geometry) -> Self {
        let segments = u64::from(geometry.segment_count());
        let segment_bytes = u64::from(geometry.segment_bytes());
        let scratch = geometry.scratch_bytes() as u64;
        let grid_points = segment_bytes / u64::from(geometry.grid_stride().get()) + 1;
        let look = 3;
        let walk = segment_bytes / 512 + 4 * grid_points + 2;
        let copy = segment_bytes.div_ceil(scratch);
        let reads = |looks: u64, walks: u64| {
            let reads = look * looks + walk * walks;
            Counts {
                reads,
                read_bytes: reads * scratch,
                programs: 0,
                erases: 0,
            }
        };
        Self {
            items: segments * (segment_bytes / 4 + 2),
            // Every segment may have to be walked to find out whether it was the head.
            open: Counts {
                programs: copy + 4,
                erases: 1,
                ..reads(8 * segments + 8, segments + 4)
            },
            // Each segment is looked for among all; behind each walk that ends early the next is looked for again.
            read: reads(4 * segments * segments + 8 * segments, 2 * segments),
            append: Counts {
                programs: 6 * ROUNDS_MAX,
                erases: ROUNDS_MAX,
                ..reads(16 * segments * ROUNDS_MAX, 4 * ROUNDS_MAX)
            },
        }
    }
}

const NOW: Micros = Micros::new(1_700_000_000_000_000);
const APPENDED: &[u8] = b"it always starts";

/// A head that is full, and a spare that turns out to be none: more than two rounds are never needed.
const ROUNDS_MAX: u64 = 3;

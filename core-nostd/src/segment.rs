//! What stands before the frames of a segment: the stamp and the open header (docs/spec/log.md, sections 1 to 3).
//!
//! ```text
//! stamp 32 B | open header: fields 64 B, ledger, checkpoint, crc 4 | frames …
//! ```

use core::num::NonZeroU32;

use crate::crc::{self, Digest};
use crate::ids::{LogId, Micros, Offset};
use crate::octets::{Reader, Writer};

/// The dimensions of a log, checked: every constructed value can be worked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry(Dimensions);

/// The dimensions of a log, to be checked by [`Geometry::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Dimensions {
    /// What the log stands on.
    pub medium: Medium,
    /// Whether records are born here.
    pub role: Role,
    /// Bytes of the unit of programming: 1, 2, 4, 8, 16 or 32; 1 on files.
    pub write_unit: u32,
    /// Bytes of each segment.
    pub segment_bytes: u32,
    /// How many segments, at least 3.
    pub segment_count: u32,
    /// Bytes of the largest frame, header included.
    pub frame_bytes_max: u32,
    /// The most offsets that one commit may take, at least 1; on NOR flash at most as many as a segment has bytes.
    pub commit_offsets_max: u32,
}

/// What a log stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Medium {
    /// NOR flash: erase to ones, program each unit once. Compact frames.
    Nor,
    /// Files: overwrite at will, sync to make durable. Explicit frames.
    File,
}

/// Whose records a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Role {
    /// Records are born here.
    Origin,
    /// A copy of an origin's log, filled by the custody protocol.
    Mirror,
}

impl Geometry {
    /// Checks the dimensions.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub const fn new(dimensions: Dimensions) -> Result<Self, BadGeometry> {
        let Dimensions {
            medium,
            role,
            write_unit,
            segment_bytes,
            segment_count,
            frame_bytes_max,
            commit_offsets_max,
        } = dimensions;
        let is_of_firmware = matches!(medium, Medium::Nor) && matches!(role, Role::Origin);
        if !cfg!(feature = "files") && !is_of_firmware {
            return Err(BadGeometry::Files);
        }
        let unit_fits = match medium {
            Medium::Nor => write_unit.is_power_of_two() && write_unit <= WRITE_UNIT_MAX,
            Medium::File => write_unit == 1,
        };
        if !unit_fits {
            return Err(BadGeometry::WriteUnit { medium, write_unit });
        }
        if segment_count < SEGMENT_COUNT_MIN {
            return Err(BadGeometry::SegmentCount { segment_count });
        }
        let compact_max = u16::MAX as u32 + crate::frame::COMPACT_HEADER_LEN as u32;
        if frame_bytes_max < FRAME_BYTES_MIN
            || (matches!(medium, Medium::Nor) && frame_bytes_max > compact_max)
        {
            return Err(BadGeometry::FrameBytes {
                medium,
                frame_bytes_max,
            });
        }
        let segment_min = (frame_bytes_max as u64 + SCRATCH_EXTRA as u64) * 4;
        if (segment_bytes as u64) < segment_min {
            return Err(BadGeometry::SegmentBytes {
                segment_bytes,
                least: segment_min,
            });
        }
        if !segment_bytes.is_multiple_of(write_unit) {
            return Err(BadGeometry::SegmentUnits {
                segment_bytes,
                write_unit,
            });
        }
        // On flash each takes a byte or more of one segment, and a hunt for a torn place tries them one by one.
        let most = match medium {
            Medium::Nor => segment_bytes,
            Medium::File => u32::MAX,
        };
        if commit_offsets_max == 0 || commit_offsets_max > most {
            return Err(BadGeometry::CommitOffsets {
                commit_offsets_max,
                most,
            });
        }
        Ok(Self(dimensions))
    }

    /// The dimensions as they were given.
    #[must_use]
    pub const fn dimensions(&self) -> &Dimensions {
        &self.0
    }

    /// What the log stands on.
    #[must_use]
    pub const fn medium(&self) -> Medium {
        // The compiler knows the answer, and leaves out what is done on files.
        if cfg!(feature = "files") {
            self.0.medium
        } else {
            Medium::Nor
        }
    }

    /// Whose records the log holds.
    #[must_use]
    pub const fn role(&self) -> Role {
        if cfg!(feature = "files") {
            self.0.role
        } else {
            Role::Origin
        }
    }

    /// Bytes of the unit of programming.
    #[must_use]
    pub const fn write_unit(&self) -> u32 {
        self.0.write_unit
    }

    /// Bytes of each segment.
    #[must_use]
    pub const fn segment_bytes(&self) -> u32 {
        self.0.segment_bytes
    }

    /// How many segments.
    #[must_use]
    pub const fn segment_count(&self) -> u32 {
        self.0.segment_count
    }

    /// Bytes of the largest frame.
    #[must_use]
    pub const fn frame_bytes_max(&self) -> u32 {
        self.0.frame_bytes_max
    }

    /// The most offsets that one commit may take.
    #[must_use]
    pub const fn commit_offsets_max(&self) -> u32 {
        self.0.commit_offsets_max
    }

    /// Bytes of the buffer that whoever works on the log must bring.
    #[must_use]
    pub const fn scratch_bytes(&self) -> usize {
        self.0.frame_bytes_max as usize + SCRATCH_EXTRA as usize
    }

    /// Bytes of the largest checkpoint that an open header can carry.
    #[must_use]
    pub const fn checkpoint_bytes_max(&self) -> usize {
        self.scratch_bytes()
            - OPEN_HEADER_FIXED_LEN
            - crate::ledger::ENCODED_LEN_MAX
            - WRITE_UNIT_MAX as usize
    }

    /// `position` rounded up to the write unit; saturates.
    #[must_use]
    pub const fn round_up(&self, position: u32) -> u32 {
        let past = self.0.write_unit - 1;
        match position.checked_add(past) {
            Some(sum) => sum & !past,
            None => !past,
        }
    }

    /// Where frames begin behind an open header of `open_len` bytes.
    #[must_use]
    pub const fn data_start(&self, open_len: u32) -> u32 {
        self.round_up(STAMP_LEN as u32 + open_len)
    }

    /// Distance of the grid on which writing resumes behind a torn place: half of the largest frame, so that a cut costs less than two of them.
    #[must_use]
    pub const fn grid_stride(&self) -> NonZeroU32 {
        match NonZeroU32::new(self.round_up(self.0.frame_bytes_max / 2)) {
            Some(stride) => stride,
            // A largest frame of no bytes is no geometry.
            None => NonZeroU32::MIN,
        }
    }

    /// The first grid point at or behind `position`; `None` if it lies outside the segment.
    #[must_use]
    pub fn grid_at_or_after(&self, position: u32) -> Option<u32> {
        let stride = self.grid_stride();
        let passed = position / stride + u32::from(position % stride != 0);
        let point = passed.checked_mul(stride.get())?;
        (point < self.0.segment_bytes).then_some(point)
    }
}

/// Which rule the dimensions of a log break, and with which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum BadGeometry {
    /// On NOR flash a power of two up to 32, on files 1.
    WriteUnit {
        /// Where the log is to stand.
        medium: Medium,
        /// What was given.
        write_unit: u32,
    },
    /// At least 3.
    SegmentCount {
        /// What was given.
        segment_count: u32,
    },
    /// At least 256; on NOR flash at most 65,543.
    FrameBytes {
        /// Where the log is to stand.
        medium: Medium,
        /// What was given.
        frame_bytes_max: u32,
    },
    /// At least four times (frame_bytes_max + 512).
    SegmentBytes {
        /// What was given.
        segment_bytes: u32,
        /// What such frames need.
        least: u64,
    },
    /// A multiple of the write unit.
    SegmentUnits {
        /// What was given.
        segment_bytes: u32,
        /// The write unit.
        write_unit: u32,
    },
    /// At least 1; on NOR flash no more than a segment has bytes.
    CommitOffsets {
        /// What was given.
        commit_offsets_max: u32,
        /// What such segments can hold.
        most: u32,
    },
    /// Files and mirrors need the feature `files`.
    Files,
}

impl core::fmt::Display for BadGeometry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::WriteUnit { medium, write_unit } => {
                let range = match medium {
                    Medium::Nor => "on flash it is 1, 2, 4, 8, 16 or 32",
                    Medium::File => "on files it is 1",
                };
                write!(f, "a write unit of {write_unit} bytes: {range}")
            }
            Self::SegmentCount { segment_count } => {
                write!(f, "{segment_count} segments: a log has 3 or more")
            }
            Self::FrameBytes {
                medium,
                frame_bytes_max,
            } => {
                let range = match medium {
                    Medium::Nor => "on flash 256 to 65,543",
                    Medium::File => "on files 256 or more",
                };
                write!(f, "frames of up to {frame_bytes_max} bytes: {range}")
            }
            Self::SegmentBytes {
                segment_bytes,
                least,
            } => {
                write!(
                    f,
                    "segments of {segment_bytes} bytes: with such frames {least} or more, 4 × (frame_bytes_max + 512)"
                )
            }
            Self::SegmentUnits {
                segment_bytes,
                write_unit,
            } => {
                write!(
                    f,
                    "segments of {segment_bytes} bytes: a multiple of the write unit, {write_unit}"
                )
            }
            Self::CommitOffsets {
                commit_offsets_max,
                most,
            } => write!(
                f,
                "commits of up to {commit_offsets_max} offsets: 1 to {most}"
            ),
            Self::Files => {
                f.write_str("this build has no logs on files and no mirrors (feature `files`)")
            }
        }
    }
}

impl core::error::Error for BadGeometry {}

/// "This segment is erased and ready": 32 bytes at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The geometry that the segment is written with.
    pub geometry: Geometry,
    /// How often the segment was erased; saturates.
    pub erase_count: u32,
}

impl Stamp {
    /// Reads a stamp.
    ///
    /// # Errors
    /// Why there is none that this version can work with.
    pub fn parse(bytes: &[u8; STAMP_LEN]) -> Result<Self, BadStamp> {
        let mut reader = Reader::new(bytes);
        Self::take(&mut reader, bytes).unwrap_or(Err(BadStamp::Corrupt))
    }

    fn take(reader: &mut Reader<'_>, all: &[u8; STAMP_LEN]) -> Option<Result<Self, BadStamp>> {
        if reader.array::<4>()? != *STAMP_MAGIC || !crc_fits(all) {
            return None;
        }
        let version = reader.byte()?;
        if version > FORMAT_VERSION {
            return Some(Err(BadStamp::Newer(version)));
        }
        let medium = match reader.byte()? {
            0 => Medium::Nor,
            1 => Medium::File,
            _ => return None,
        };
        let role = match reader.byte()? {
            0 => Role::Origin,
            1 => Role::Mirror,
            _ => return None,
        };
        let dimensions = Dimensions {
            medium,
            role,
            write_unit: 1_u32.checked_shl(u32::from(reader.byte()?))?,
            segment_bytes: reader.u32()?,
            segment_count: reader.u32()?,
            frame_bytes_max: reader.u32()?,
            commit_offsets_max: reader.u32()?,
        };
        let geometry = Geometry::new(dimensions).ok()?;
        Some(Ok(Self {
            geometry,
            erase_count: reader.u32()?,
        }))
    }

    /// The 32 bytes.
    #[must_use]
    pub fn emit(&self) -> [u8; STAMP_LEN] {
        let mut bytes = [0; STAMP_LEN];
        // The fields take exactly 28 bytes: nothing can fail to fit.
        let written = self.put(&mut bytes);
        debug_assert!(written.is_some(), "a stamp fits its 32 bytes");
        bytes
    }

    fn put(&self, bytes: &mut [u8; STAMP_LEN]) -> Option<()> {
        let dimensions = self.geometry.dimensions();
        let medium = match dimensions.medium {
            Medium::Nor => 0,
            Medium::File => 1,
        };
        let role = match dimensions.role {
            Role::Origin => 0,
            Role::Mirror => 1,
        };
        let mut writer = Writer::new(bytes);
        writer.put(STAMP_MAGIC)?;
        writer.put(&[FORMAT_VERSION, medium, role])?;
        writer.byte(u8::try_from(dimensions.write_unit.trailing_zeros()).ok()?)?;
        writer.put(&dimensions.segment_bytes.to_le_bytes())?;
        writer.put(&dimensions.segment_count.to_le_bytes())?;
        writer.put(&dimensions.frame_bytes_max.to_le_bytes())?;
        writer.put(&dimensions.commit_offsets_max.to_le_bytes())?;
        writer.put(&self.erase_count.to_le_bytes())?;
        let crc = crc::crc32c(writer.written());
        writer.put(&crc.to_le_bytes())
    }
}

/// Why a segment has no stamp to work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum BadStamp {
    /// Written by a later version, with this number: not ours to wipe. Magic, version and crc keep their places in all versions.
    Newer(u8),
    /// Anything else: blank, torn or foreign.
    Corrupt,
}

/// "This segment continues the log": how it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenHeader<'a> {
    /// Equal to the stamp's, else the header is a leftover.
    pub erase_count: u32,
    /// Grows by one with each segment that is opened, never reused.
    pub seq: u64,
    /// The log that is continued.
    pub log_id: LogId,
    /// The first frame's first offset.
    pub base: Offset,
    /// When the segment was opened.
    pub base_time: Micros,
    /// The boot of the writer.
    pub boot: u64,
    /// The ledger, as [`crate::ledger::Ledger::parse`] reads it.
    pub ledger: &'a [u8],
    /// The owner's state, opaque here.
    pub checkpoint: &'a [u8],
}

/// The fields of an open header that have a fixed place, not yet checked against its crc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenClaim {
    /// Equal to the stamp's, else the header is a leftover.
    pub erase_count: u32,
    /// Segment sequence.
    pub seq: u64,
    /// The log that is continued.
    pub log_id: LogId,
    /// The first frame's first offset.
    pub base: Offset,
    /// When the segment was opened.
    pub base_time: Micros,
    /// The boot of the writer.
    pub boot: u64,
    /// Bytes of the ledger.
    pub ledger_len: u32,
    /// Bytes of the checkpoint.
    pub checkpoint_len: u32,
}

impl OpenClaim {
    /// Reads the first 64 bytes of an open header: a claim, to be believed once the whole passed its check.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.array::<4>()? != *OPEN_MAGIC {
            return None;
        }
        Some(Self {
            erase_count: reader.u32()?,
            seq: reader.u64()?,
            log_id: LogId::new(reader.array()?),
            base: Offset::new(reader.u64()?),
            base_time: Micros::new(reader.i64()?),
            boot: reader.u64()?,
            ledger_len: reader.u32()?,
            checkpoint_len: reader.u32()?,
        })
    }

    /// How many bytes the whole open header claims to take.
    #[must_use]
    pub const fn encoded_len(&self) -> u64 {
        OPEN_HEADER_FIXED_LEN as u64 + self.ledger_len as u64 + self.checkpoint_len as u64
    }
}

impl<'a> OpenHeader<'a> {
    /// Reads the open header at the front of `bytes`, checks it, and says how many bytes it takes; `None` if there is none or it is cut off.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let claim = OpenClaim::parse(bytes)?;
        let len = usize::try_from(claim.encoded_len()).ok()?;
        let bytes = bytes.get(..len)?;
        if !crc_fits(bytes) {
            return None;
        }
        let mut reader = Reader::new(bytes.get(OPEN_FIELDS_LEN..)?);
        let ledger = reader.take(usize::try_from(claim.ledger_len).ok()?)?;
        let checkpoint = reader.take(usize::try_from(claim.checkpoint_len).ok()?)?;
        let OpenClaim {
            erase_count,
            seq,
            log_id,
            base,
            base_time,
            boot,
            ..
        } = claim;
        Some((
            Self {
                erase_count,
                seq,
                log_id,
                base,
                base_time,
                boot,
                ledger,
                checkpoint,
            },
            len,
        ))
    }

    /// Gives the valid open header that fills `bytes` another place in the sequence.
    pub(crate) fn renumber(bytes: &mut [u8], erase_count: u32, seq: u64) -> Option<()> {
        let (fields, crc) = bytes.split_last_chunk_mut::<4>()?;
        let mut writer = Writer::new(fields.get_mut(OPEN_MAGIC.len()..)?);
        writer.put(&erase_count.to_le_bytes())?;
        writer.put(&seq.to_le_bytes())?;
        *crc = crc::crc32c(fields).to_le_bytes();
        Some(())
    }

    /// Writes the open header to the front of `into` and says how many bytes it took; `None` if it does not fit.
    #[must_use]
    pub fn emit(&self, into: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(into);
        writer.put(OPEN_MAGIC)?;
        writer.put(&self.erase_count.to_le_bytes())?;
        writer.put(&self.seq.to_le_bytes())?;
        writer.put(self.log_id.as_bytes())?;
        writer.put(&self.base.get().to_le_bytes())?;
        writer.put(&self.base_time.get().to_le_bytes())?;
        writer.put(&self.boot.to_le_bytes())?;
        writer.put(&u32::try_from(self.ledger.len()).ok()?.to_le_bytes())?;
        writer.put(&u32::try_from(self.checkpoint.len()).ok()?.to_le_bytes())?;
        writer.put(self.ledger)?;
        writer.put(self.checkpoint)?;
        let crc = crc::crc32c(writer.written());
        writer.put(&crc.to_le_bytes())?;
        Some(writer.len())
    }
}

/// Whether the last four bytes are the CRC of those before.
fn crc_fits(bytes: &[u8]) -> bool {
    let Some((before, crc)) = bytes.split_last_chunk::<4>() else {
        return false;
    };
    let mut digest = Digest::new();
    digest.update(before);
    digest.finish() == u32::from_le_bytes(*crc)
}

/// The version of the format that this crate writes.
pub const FORMAT_VERSION: u8 = 1;
/// Bytes of a stamp.
pub const STAMP_LEN: usize = 32;
/// Bytes of an open header's fields with a fixed place.
pub const OPEN_FIELDS_LEN: usize = 64;
/// Bytes of an open header beside ledger and checkpoint.
pub const OPEN_HEADER_FIXED_LEN: usize = OPEN_FIELDS_LEN + 4;

const STAMP_MAGIC: &[u8; 4] = b"sdg1";
const OPEN_MAGIC: &[u8; 4] = b"open";
const WRITE_UNIT_MAX: u32 = 32;
const SEGMENT_COUNT_MIN: u32 = 3;
/// A control frame with a full ledger must fit into the smallest frame.
const FRAME_BYTES_MIN: u32 = 256;
/// What the scratch buffer has beyond the largest frame: stamp, open header fields and ledger of a log with no checkpoint.
const SCRATCH_EXTRA: u32 = 512;

const _: () = assert!(
    crate::frame::EXPLICIT_HEADER_LEN + 1 + crate::ledger::ENCODED_LEN_MAX
        <= FRAME_BYTES_MIN as usize
);
const _: () = assert!(
    STAMP_LEN + OPEN_HEADER_FIXED_LEN + crate::ledger::ENCODED_LEN_MAX + WRITE_UNIT_MAX as usize
        <= SCRATCH_EXTRA as usize
);
const _: () = assert!((STAMP_LEN as u32).is_multiple_of(WRITE_UNIT_MAX));

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const PLAIN: Dimensions = Dimensions {
        medium: Medium::Nor,
        role: Role::Origin,
        write_unit: 4,
        segment_bytes: 4096,
        segment_count: 16,
        frame_bytes_max: 256,
        commit_offsets_max: 255,
    };

    #[test]
    fn golden_stamp() {
        let stamp = Stamp {
            geometry: Geometry::new(PLAIN).unwrap(),
            erase_count: 7,
        };
        let bytes = stamp.emit();
        let golden = b"sdg1\x01\x00\x00\x02\x00\x10\0\0\x10\0\0\0\x00\x01\0\0\xFF\0\0\0\x07\0\0\0";
        assert_eq!(bytes[..28], *golden);
        assert_eq!(bytes[28..], crc::crc32c(golden).to_le_bytes());
        assert_eq!(Stamp::parse(&bytes), Ok(stamp));
    }

    #[test]
    fn stamp_of_a_later_version_is_told_from_a_damaged_one() {
        let mut bytes = Stamp {
            geometry: Geometry::new(PLAIN).unwrap(),
            erase_count: 0,
        }
        .emit();
        bytes[4] = 9;
        assert_eq!(Stamp::parse(&bytes), Err(BadStamp::Corrupt));
        let crc = crc::crc32c(&bytes[..28]).to_le_bytes();
        bytes[28..].copy_from_slice(&crc);
        assert_eq!(Stamp::parse(&bytes), Err(BadStamp::Newer(9)));
        assert_eq!(Stamp::parse(&[0xFF; 32]), Err(BadStamp::Corrupt));
    }

    #[test]
    fn each_broken_rule_is_told_with_its_number_and_its_range() {
        let broken = |change: fn(&mut Dimensions)| {
            let mut dimensions = PLAIN;
            change(&mut dimensions);
            Geometry::new(dimensions).unwrap_err().to_string()
        };
        let unit = "a write unit of 64 bytes: on flash it is 1, 2, 4, 8, 16 or 32";
        assert_eq!(broken(|d| d.write_unit = 64), unit);
        for wrong in [broken(|d| d.write_unit = 0), broken(|d| d.write_unit = 3)] {
            assert!(wrong.contains("on flash it is"), "{wrong}");
        }
        assert_eq!(
            broken(|d| (d.medium, d.write_unit) = (Medium::File, 4)),
            "a write unit of 4 bytes: on files it is 1"
        );
        assert_eq!(
            broken(|d| d.segment_count = 2),
            "2 segments: a log has 3 or more"
        );
        assert_eq!(
            broken(|d| d.frame_bytes_max = 255),
            "frames of up to 255 bytes: on flash 256 to 65,543"
        );
        assert_eq!(
            broken(|d| d.frame_bytes_max = 65_544),
            "frames of up to 65544 bytes: on flash 256 to 65,543"
        );
        assert_eq!(
            broken(|d| d.segment_bytes = 3068),
            "segments of 3068 bytes: with such frames 3072 or more, 4 × (frame_bytes_max + 512)"
        );
        assert_eq!(
            broken(|d| d.segment_bytes = 4098),
            "segments of 4098 bytes: a multiple of the write unit, 4"
        );
        assert_eq!(
            broken(|d| d.commit_offsets_max = 0),
            "commits of up to 0 offsets: 1 to 4096"
        );
        assert_eq!(
            broken(|d| d.commit_offsets_max = 4097),
            "commits of up to 4097 offsets: 1 to 4096"
        );
        let on_files = Dimensions {
            medium: Medium::File,
            write_unit: 1,
            commit_offsets_max: 65_536,
            ..PLAIN
        };
        assert!(Geometry::new(on_files).is_ok());
    }

    #[test]
    fn grid_stops_at_the_segment() {
        let geometry = Geometry::new(Dimensions {
            frame_bytes_max: 257,
            ..PLAIN
        })
        .unwrap();
        assert_eq!(geometry.grid_stride().get(), 128);
        assert_eq!(geometry.grid_at_or_after(0), Some(0));
        assert_eq!(geometry.grid_at_or_after(129), Some(256));
        assert_eq!(geometry.grid_at_or_after(3969), None);
        assert_eq!(geometry.grid_at_or_after(u32::MAX), None);
    }

    fn open_header() -> OpenHeader<'static> {
        OpenHeader {
            erase_count: 7,
            seq: 3,
            log_id: LogId::new([0x11; 16]),
            base: Offset::new(1000),
            base_time: Micros::new(5),
            boot: 9,
            ledger: b"led",
            checkpoint: b"check",
        }
    }

    #[test]
    fn golden_open_header() {
        let mut buffer = [0; 128];
        let len = open_header().emit(&mut buffer).unwrap();
        assert_eq!(len, 76);
        assert_eq!(buffer[..16], *b"open\x07\0\0\0\x03\0\0\0\0\0\0\0");
        assert_eq!(buffer[32..72], *b"\xE8\x03\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x03\0\0\0\x05\0\0\0ledcheck");
        assert_eq!(OpenHeader::parse(&buffer), Some((open_header(), 76)));
        assert_eq!(OpenHeader::parse(&buffer[..75]), None);
    }

    proptest! {
        #[test]
        fn flipped_bit_voids_the_open_header(bit in 0_usize..8 * 76) {
            let mut buffer = [0; 76];
            open_header().emit(&mut buffer).unwrap();
            buffer[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(OpenHeader::parse(&buffer), None);
        }

        #[test]
        fn any_bytes_parse_without_panic(bytes: Vec<u8>, stamp: [u8; 32]) {
            prop_assert!(OpenHeader::parse(&bytes).is_none_or(|(_, len)| len <= bytes.len()));
            prop_assert!(Stamp::parse(&stamp).is_err());
        }
    }
}

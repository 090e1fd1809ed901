//! The sedge log on files: partitions, group commit, readers, salvage.

mod batch;
mod breaks;
mod budget;
mod clock;
mod data_dir;
pub mod disk;
mod doubt;
mod durable_file;
mod flash_image;
mod frames;
mod group;
mod identity;
mod index;
mod inspect;
mod media;
mod mend;
mod mirror;
mod name;
mod open;
mod owner;
mod pace;
mod partition;
mod patience;
mod pulse;
mod queue;
mod read;
mod ring;
mod salvage;
mod stats;
mod survey;
mod unsent;
pub mod watch;
mod work;
pub mod world;
mod writer;

pub use batch::{Batch, Unit};
pub use budget::{Budget, Held};
pub use clock::{Beginning, Clock, Timekeeping, system_clock};
pub use data_dir::{DataDir, DataDirError, Gone, Numbered, Section};
pub use doubt::READ_AGAIN_AFTER;
pub use durable_file::{read_toml, write_toml};
pub use flash_image::{
    FlashHints, FlashImage, FlashImageError, FlashItem, FlashReport, GeometryReport,
    LostHeadReport, OpenReport,
};
pub use identity::{is_unreadable, read as read_identity};
pub use inspect::{GapReport, LedgerReport, LogReport, Report, SegmentReport, inspect};
pub use media::FileMedia;
pub use mirror::{AppendError, Mirror, MirrorOptions};
pub use name::{BadName, Name};
pub use owner::{NoOwner, Owner};
pub use pace::WriteBudget;
pub use partition::{Partition, PartitionOptions};
pub use patience::Patience;
pub use pulse::{Piece, Pulse, Underway};
pub use queue::{Producer, StageError, Ticket};
pub use read::{Chunk, ReadError};
pub use ring::{COMMIT_OFFSETS_MAX, OpenError, Opened, Shrunk};
pub use salvage::{SalvageError, Salvaged, salvage};
pub use stats::Stats;

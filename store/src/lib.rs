//! The sedge log on files: partitions, group commit, readers, salvage.

mod data_dir;
mod durable_file;
mod name;

pub use data_dir::{DataDir, DataDirError, Numbered, Section};
pub use durable_file::{read_toml, write_toml};
pub use name::{BadName, Name};

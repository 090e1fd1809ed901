//! The sedge log on files: partitions, group commit, readers, salvage.
